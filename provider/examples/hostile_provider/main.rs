//! A provider that tries to get out, for tests of what holds it.
//!
//! A real Terraform has it make a resource `other_attempt`, or read a data source of that name: `name` is the attempt,
//! `place` what it may know of its surroundings as JSON, and what came of it while reading, planning and applying is in the
//! attributes. Whoever speaks the protocol himself asks for a change of a resource whose type is the attempt's name, with
//! the place in the private data, and gets a warning. Either way the answer is `escaped`, or `blocked` and why.

mod attempts;
mod values;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use rmpv::Value;
use tonic::{Request, Response, Status};
use wanwright_provider::plugin::serve_provider;
use wanwright_provider::proto::tfplugin6 as tf;
use wanwright_provider::proto::tfplugin6::diagnostic::Severity;
use wanwright_provider::proto::tfplugin6::provider_server::Provider;

use attempts::{Place, Ways, attempt};
use values::{Fields, block, packed, text, unpacked};

/// The one type of resource and of data source.
const ATTEMPT: &str = "other_attempt";

#[derive(Default)]
struct Hostile {
    ways: Mutex<Ways>,
}

impl Hostile {
    fn tried(&self, name: &str, place: &[u8]) -> String {
        let place = Place(serde_json::from_slice(place).unwrap_or_default());
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = match attempt(name, &place, &ways) {
            Ok(()) => "escaped".to_owned(),
            Err(error) => format!("blocked: {error}"),
        };
        // Secrets on its output are another attempt: nobody may keep what it says there.
        let _ = writeln!(std::io::stdout(), "canary {said}");
        let _ = writeln!(std::io::stderr(), "canary {said}");
        said
    }

    fn warned(&self, name: &str, place: &[u8]) -> Vec<tf::Diagnostic> {
        let summary = self.tried(name, place);
        let severity = Severity::Warning.into();
        vec![tf::Diagnostic { severity, summary, detail: String::new(), attribute: None }]
    }

    /// What came of what the fields name.
    fn tried_by(&self, fields: &Fields) -> Value {
        self.tried(&text(fields, "name"), text(fields, "place").as_bytes()).into()
    }
}

macro_rules! calls {
    (unimplemented $($name:ident)*; empty $($empty:ident)*; $($given:item)*) => {
        #[tonic::async_trait]
        impl Provider for Hostile {
            $(async fn $name(
                &self,
                _: Request<tf::$name::Request>,
            ) -> Result<Response<tf::$name::Response>, Status> {
                Err(Status::unimplemented("it does nothing else"))
            })*
            $(async fn $empty(
                &self,
                _: Request<tf::$empty::Request>,
            ) -> Result<Response<tf::$empty::Response>, Status> {
                Ok(Response::new(Default::default()))
            })*
            $($given)*
        }
    };
}

calls!(
    unimplemented get_metadata move_resource_state get_resource_identity_schemas upgrade_resource_identity
        import_resource_state get_functions;
    empty validate_provider_config validate_resource_config validate_data_resource_config stop_provider;

    async fn get_provider_schema(
        &self,
        _: Request<tf::get_provider_schema::Request>,
    ) -> Result<Response<tf::get_provider_schema::Response>, Status> {
        let resource = block(&["name", "place"], &[], &["id", "planned", "applied"]);
        let data = block(&["name", "place"], &[], &["read"]);
        Ok(Response::new(tf::get_provider_schema::Response {
            provider: Some(block(&[], &["base_url"], &[])),
            resource_schemas: HashMap::from([(ATTEMPT.to_owned(), resource)]),
            data_source_schemas: HashMap::from([(ATTEMPT.to_owned(), data)]),
            ..Default::default()
        }))
    }

    async fn configure_provider(
        &self,
        request: Request<tf::configure_provider::Request>,
    ) -> Result<Response<tf::configure_provider::Response>, Status> {
        let fields = unpacked(request.into_inner().config.as_ref()).unwrap_or_default();
        let now = text(&fields, "base_url");
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if ways.now != now {
            let before = std::mem::replace(&mut ways.now, now);
            ways.before = Some(before).filter(|before| !before.is_empty());
        }
        Ok(Response::new(Default::default()))
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<tf::upgrade_resource_state::Request>,
    ) -> Result<Response<tf::upgrade_resource_state::Response>, Status> {
        let json = request.into_inner().raw_state.unwrap_or_default().json;
        let upgraded_state = Some(tf::DynamicValue { json, ..Default::default() });
        Ok(Response::new(tf::upgrade_resource_state::Response { upgraded_state, ..Default::default() }))
    }

    async fn read_resource(
        &self,
        request: Request<tf::read_resource::Request>,
    ) -> Result<Response<tf::read_resource::Response>, Status> {
        let new_state = request.into_inner().current_state;
        Ok(Response::new(tf::read_resource::Response { new_state, ..Default::default() }))
    }

    async fn read_data_source(
        &self,
        request: Request<tf::read_data_source::Request>,
    ) -> Result<Response<tf::read_data_source::Response>, Status> {
        let mut fields = unpacked(request.into_inner().config.as_ref()).unwrap_or_default();
        let read = self.tried_by(&fields);
        fields.insert("read".to_owned(), read);
        let state = Some(packed(Some(&fields)));
        Ok(Response::new(tf::read_data_source::Response { state, ..Default::default() }))
    }

    async fn plan_resource_change(
        &self,
        request: Request<tf::plan_resource_change::Request>,
    ) -> Result<Response<tf::plan_resource_change::Response>, Status> {
        let request = request.into_inner();
        if request.type_name != ATTEMPT {
            let diagnostics = self.warned(&request.type_name, &request.prior_private);
            return Ok(Response::new(tf::plan_resource_change::Response { diagnostics, ..Default::default() }));
        }
        let mut planned = unpacked(request.proposed_new_state.as_ref());
        if let Some(fields) = planned.as_mut().filter(|fields| text(fields, "id").is_empty()) {
            // Terraform plans once more while it applies, and wants to hear the same: so without why.
            let said = self.tried_by(fields);
            let said = said.as_str().unwrap_or_default().split(':').next().unwrap_or_default();
            fields.insert("planned".to_owned(), said.into());
            for name in ["id", "applied"] {
                // Not known before it is applied.
                fields.insert(name.to_owned(), Value::Ext(0, vec![0]));
            }
        }
        let planned_state = Some(packed(planned.as_ref()));
        Ok(Response::new(tf::plan_resource_change::Response { planned_state, ..Default::default() }))
    }

    async fn apply_resource_change(
        &self,
        request: Request<tf::apply_resource_change::Request>,
    ) -> Result<Response<tf::apply_resource_change::Response>, Status> {
        let request = request.into_inner();
        if request.type_name != ATTEMPT {
            let diagnostics = self.warned(&request.type_name, &request.planned_private);
            return Ok(Response::new(tf::apply_resource_change::Response { diagnostics, ..Default::default() }));
        }
        let mut new = unpacked(request.planned_state.as_ref());
        if let Some(fields) = &mut new {
            let said = self.tried_by(fields);
            fields.insert("applied".to_owned(), said);
            fields.insert("id".to_owned(), text(fields, "name").into());
        }
        let new_state = Some(packed(new.as_ref()));
        Ok(Response::new(tf::apply_resource_change::Response { new_state, ..Default::default() }))
    }
);

#[tokio::main]
async fn main() {
    if let Err(error) = serve_provider(Hostile::default()).await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
