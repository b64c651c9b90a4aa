//! Terraform's plugin protocol 6: reads requests, asks `plan` and `apply`, writes answers.
//!
//! Whatever goes wrong is a diagnostic in the answer. A gRPC error would reach people as a broken plugin.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tonic::{Request, Response, Status};
use wanwright_vendors::{AttributeType, Catalogue, ClientOptions, ResourceClient, VendorHttp};

use crate::apply::{self, Applied};
use crate::diagnostic::{Diagnostic, attribute_path};
use crate::plan::plan;
use crate::proto::tfplugin6 as tf;
use crate::proto::tfplugin6::provider_server::Provider;
use crate::resource::{self, ResourceType};

/// Provider attribute with the base URL of every call.
const BASE_URL: &str = "base_url";

/// How the vendor is called unless the configuration says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) gateway_url: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
}

/// The provider behind one socket.
#[derive(Debug)]
pub(crate) struct Service {
    resources: BTreeMap<String, ResourceType>,
    calls: Calls,
    /// What the run in progress has configured.
    http: RwLock<Option<VendorHttp>>,
}

impl Service {
    pub(crate) fn new(catalogue: &Catalogue, calls: Calls) -> Self {
        Self { resources: resource::resource_types(catalogue), calls, http: RwLock::new(None) }
    }

    fn resource(&self, type_name: &str) -> Result<&ResourceType, Diagnostic> {
        self.resources.get(type_name).ok_or_else(|| {
            let detail = "No vendor folder has it. Check WANWRIGHT_VENDORS and the vendor's api/ folder.";
            Diagnostic::unexpected(format!("there is no resource type {type_name}"), detail)
        })
    }

    fn client(&self, resource: &ResourceType) -> Result<ResourceClient, Diagnostic> {
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner).clone();
        let http = http.ok_or_else(|| Diagnostic::unexpected("the provider is not configured", ""))?;
        Ok(ResourceClient::new(http, resource.api.clone()))
    }

    /// The configuration's base URL, else the one given at start.
    fn configure(&self, config: Option<&tf::DynamicValue>) -> Result<(), Diagnostic> {
        let config = resource::decode(config, [(BASE_URL, AttributeType::String)].into_iter())?;
        let configured = config.as_ref().and_then(|config| config.get(BASE_URL));
        if configured.is_some_and(|value| value.is_unknown()) {
            let detail = "It has to be known before anything is planned: use a variable or leave it out.";
            return Err(Diagnostic::unexpected("base_url is not known yet", detail).at(BASE_URL));
        }
        let configured = configured.and_then(|value| value.as_str()).map(str::to_owned);
        let Some(base_url) = configured.or_else(|| self.calls.gateway_url.clone()) else {
            let detail =
                "Set base_url in the provider block, or start the provider with WANWRIGHT_GATEWAY_URL.";
            return Err(Diagnostic::unexpected("no base URL", detail).at(BASE_URL));
        };
        let options = ClientOptions {
            base_url,
            connect_timeout: self.calls.connect_timeout,
            call_timeout: self.calls.call_timeout,
            headers: Vec::new(),
        };
        let http =
            VendorHttp::new(&options).map_err(|error| Diagnostic::unexpected(error, "").at(BASE_URL))?;
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = Some(http);
        Ok(())
    }

    async fn read(&self, request: &tf::read_resource::Request) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let Some(state) = resource.decode(request.current_state.as_ref())? else {
            return Ok(resource::nothing());
        };
        let Some(id) = state.id() else {
            return Ok(state.encode());
        };
        let client = self.client(resource)?.within(&state.sent(&resource.api));
        let found = client.read(id).await;
        let found = found.map_err(|error| Diagnostic::of(&error, resource, "reading"))?;
        let state = found.map(|object| resource.state_of(&object, Some(&state)));
        Ok(resource::encode_state(state.as_ref()))
    }

    fn plan(
        &self,
        request: tf::plan_resource_change::Request,
    ) -> Result<tf::plan_resource_change::Response, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let prior = resource.decode(request.prior_state.as_ref())?;
        let proposed = resource.decode(request.proposed_new_state.as_ref())?;
        let config = resource.decode(request.config.as_ref())?;
        let mut response = tf::plan_resource_change::Response {
            planned_state: Some(resource::nothing()),
            planned_private: request.prior_private,
            ..Default::default()
        };
        // Proposing nothing is how a deletion is planned.
        if let (Some(_), Some(config)) = (proposed, config) {
            let plan = plan(resource, prior.as_ref(), &config);
            response.planned_state = Some(plan.planned.encode());
            response.requires_replace =
                plan.requires_replace.iter().map(|name| attribute_path(name)).collect();
        }
        Ok(response)
    }

    async fn apply(
        &self,
        request: &tf::apply_resource_change::Request,
    ) -> Result<(tf::DynamicValue, Vec<Diagnostic>), Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let prior = resource.decode(request.prior_state.as_ref())?;
        let planned = resource.decode(request.planned_state.as_ref())?;
        let known = prior.as_ref().or(planned.as_ref()).map(|state| state.sent(&resource.api));
        let client = self.client(resource)?.within(&known.unwrap_or_default());
        let Applied { state, diagnostics } = match (&prior, &planned) {
            (None, Some(planned)) => apply::create(&client, resource, planned).await,
            (Some(prior), Some(planned)) => apply::update(&client, resource, prior, planned).await,
            (Some(prior), None) => apply::delete(&client, resource, prior).await,
            (None, None) => Applied { state: None, diagnostics: Vec::new() },
        };
        Ok((resource::encode_state(state.as_ref()), diagnostics))
    }

    async fn import(
        &self,
        request: &tf::import_resource_state::Request,
    ) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let found = self.client(resource)?.read(&request.id).await;
        let found = found.map_err(|error| Diagnostic::of(&error, resource, "importing"))?;
        let object = found.ok_or_else(|| Diagnostic {
            summary: format!("VendorRefused: the vendor has no {} `{}`", resource.api.kind, request.id),
            detail: format!("Import {} by the vendor's id.", resource.type_name),
            attribute: None,
        })?;
        Ok(resource.state_of(&object, None).encode())
    }

    fn upgrade(&self, request: &tf::upgrade_resource_state::Request) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let raw = request.raw_state.as_ref().filter(|raw| !raw.json.is_empty());
        let raw =
            raw.ok_or_else(|| Diagnostic::unexpected("the stored state is from before Terraform 0.12", ""))?;
        Ok(resource.decode_stored(&raw.json)?.encode())
    }
}

/// The diagnostics of an answer, from a result.
fn diagnostics<T>(result: &Result<T, Diagnostic>) -> Vec<tf::Diagnostic> {
    result.as_ref().err().cloned().map(Into::into).into_iter().collect()
}

fn capabilities() -> Option<tf::ServerCapabilities> {
    Some(tf::ServerCapabilities {
        plan_destroy: false,
        get_provider_schema_optional: true,
        move_resource_state: false,
    })
}

fn answer<T>(response: T) -> Result<Response<T>, Status> {
    Ok(Response::new(response))
}

#[tonic::async_trait]
impl Provider for Service {
    async fn get_metadata(
        &self,
        _: Request<tf::get_metadata::Request>,
    ) -> Result<Response<tf::get_metadata::Response>, Status> {
        let name = |type_name: &String| tf::get_metadata::ResourceMetadata { type_name: type_name.clone() };
        answer(tf::get_metadata::Response {
            server_capabilities: capabilities(),
            diagnostics: Vec::new(),
            resources: self.resources.keys().map(name).collect(),
        })
    }

    async fn get_provider_schema(
        &self,
        _: Request<tf::get_provider_schema::Request>,
    ) -> Result<Response<tf::get_provider_schema::Response>, Status> {
        let base_url = tf::schema::Attribute {
            optional: true,
            ..resource::describe(
                BASE_URL,
                AttributeType::String,
                "Where the vendor is called; without it, what the provider was started with (WANWRIGHT_GATEWAY_URL).",
            )
        };
        let schemas = self.resources.iter().map(|(name, resource)| (name.clone(), resource.schema()));
        answer(tf::get_provider_schema::Response {
            provider: Some(resource::schema_of(vec![base_url], "What the vendor folders describe.")),
            resource_schemas: schemas.collect(),
            server_capabilities: capabilities(),
            ..Default::default()
        })
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Request<tf::get_resource_identity_schemas::Request>,
    ) -> Result<Response<tf::get_resource_identity_schemas::Response>, Status> {
        answer(tf::get_resource_identity_schemas::Response::default())
    }

    async fn validate_provider_config(
        &self,
        _: Request<tf::validate_provider_config::Request>,
    ) -> Result<Response<tf::validate_provider_config::Response>, Status> {
        answer(tf::validate_provider_config::Response::default())
    }

    async fn validate_resource_config(
        &self,
        request: Request<tf::validate_resource_config::Request>,
    ) -> Result<Response<tf::validate_resource_config::Response>, Status> {
        let request = request.into_inner();
        // Terraform itself checks what is required and of which type; the vendor checks the rest.
        let read =
            self.resource(&request.type_name).and_then(|resource| resource.decode(request.config.as_ref()));
        answer(tf::validate_resource_config::Response { diagnostics: diagnostics(&read) })
    }

    async fn validate_data_resource_config(
        &self,
        _: Request<tf::validate_data_resource_config::Request>,
    ) -> Result<Response<tf::validate_data_resource_config::Response>, Status> {
        answer(tf::validate_data_resource_config::Response { diagnostics: vec![no_data_sources()] })
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<tf::upgrade_resource_state::Request>,
    ) -> Result<Response<tf::upgrade_resource_state::Response>, Status> {
        let upgraded = self.upgrade(request.get_ref());
        let diagnostics = diagnostics(&upgraded);
        answer(tf::upgrade_resource_state::Response { upgraded_state: upgraded.ok(), diagnostics })
    }

    async fn upgrade_resource_identity(
        &self,
        _: Request<tf::upgrade_resource_identity::Request>,
    ) -> Result<Response<tf::upgrade_resource_identity::Response>, Status> {
        let diagnostic = Diagnostic::unexpected("resources of this provider have no identity", "");
        answer(tf::upgrade_resource_identity::Response {
            upgraded_identity: None,
            diagnostics: vec![diagnostic.into()],
        })
    }

    async fn configure_provider(
        &self,
        request: Request<tf::configure_provider::Request>,
    ) -> Result<Response<tf::configure_provider::Response>, Status> {
        let configured = self.configure(request.get_ref().config.as_ref());
        answer(tf::configure_provider::Response { diagnostics: diagnostics(&configured) })
    }

    async fn read_resource(
        &self,
        request: Request<tf::read_resource::Request>,
    ) -> Result<Response<tf::read_resource::Response>, Status> {
        let request = request.into_inner();
        let read = self.read(&request).await;
        answer(tf::read_resource::Response {
            diagnostics: diagnostics(&read),
            new_state: read.ok().or(request.current_state),
            private: request.private,
            new_identity: request.current_identity,
        })
    }

    async fn plan_resource_change(
        &self,
        request: Request<tf::plan_resource_change::Request>,
    ) -> Result<Response<tf::plan_resource_change::Response>, Status> {
        let planned = self.plan(request.into_inner());
        let diagnostics = diagnostics(&planned);
        answer(
            planned
                .unwrap_or_else(|_| tf::plan_resource_change::Response { diagnostics, ..Default::default() }),
        )
    }

    async fn apply_resource_change(
        &self,
        request: Request<tf::apply_resource_change::Request>,
    ) -> Result<Response<tf::apply_resource_change::Response>, Status> {
        let request = request.into_inner();
        let (state, diagnostics) = match self.apply(&request).await {
            Ok((state, diagnostics)) => (Some(state), diagnostics),
            // Nothing was called, so nothing has changed.
            Err(diagnostic) => (request.prior_state, vec![diagnostic]),
        };
        answer(tf::apply_resource_change::Response {
            new_state: state,
            private: request.planned_private,
            diagnostics: diagnostics.into_iter().map(Into::into).collect(),
            new_identity: None,
        })
    }

    async fn import_resource_state(
        &self,
        request: Request<tf::import_resource_state::Request>,
    ) -> Result<Response<tf::import_resource_state::Response>, Status> {
        let request = request.into_inner();
        let imported = self.import(&request).await;
        let diagnostics = diagnostics(&imported);
        let resource = |state| tf::import_resource_state::ImportedResource {
            type_name: request.type_name.clone(),
            state: Some(state),
            ..Default::default()
        };
        answer(tf::import_resource_state::Response {
            imported_resources: imported.ok().map(resource).into_iter().collect(),
            diagnostics,
        })
    }

    async fn read_data_source(
        &self,
        _: Request<tf::read_data_source::Request>,
    ) -> Result<Response<tf::read_data_source::Response>, Status> {
        answer(tf::read_data_source::Response { state: None, diagnostics: vec![no_data_sources()] })
    }

    async fn get_functions(
        &self,
        _: Request<tf::get_functions::Request>,
    ) -> Result<Response<tf::get_functions::Response>, Status> {
        answer(tf::get_functions::Response { functions: HashMap::new(), diagnostics: Vec::new() })
    }

    /// Calls in progress are bounded in time and are let finish: cutting one off would leave its effect unknown.
    async fn stop_provider(
        &self,
        _: Request<tf::stop_provider::Request>,
    ) -> Result<Response<tf::stop_provider::Response>, Status> {
        answer(tf::stop_provider::Response::default())
    }
}

fn no_data_sources() -> tf::Diagnostic {
    Diagnostic::unexpected("this provider has no data sources", "").into()
}
