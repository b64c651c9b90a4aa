//! What each request of the protocol comes to: asks `plan`, `apply`, `validate`, `import` and `data`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use wanwright_vendors::{
    Attribute, AttributeType, Catalogue, ClientOptions, Presence, ResourceClient, VendorHttp,
};

use crate::apply::{self, Applied, Others};
use crate::data::{DataSource, data_sources};
use crate::diagnostic::{Diagnostic, attribute_path};
use crate::import;
use crate::plan::plan;
use crate::proto::tfplugin6 as tf;
use crate::resource::{self, ResourceType};
use crate::serve::{Creates, Doubt};
use crate::timeouts::Limit;
use crate::validate;
use crate::wire::{self, Attributes};

/// Provider attribute with the base URL of every call.
const BASE_URL: &str = "base_url";

/// How the vendor is called unless the configuration says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) gateway_url: Option<String>,
    /// What takes calls there; a configuration may not say otherwise then.
    pub(crate) through: Option<VendorHttp>,
    /// What earlier runs may have created that is in no state.
    pub(crate) doubt: Doubt,
    /// Who is told of creates that nothing finds again.
    pub(crate) creates: Option<Arc<dyn Creates>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
}

/// The provider behind one socket.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) resources: BTreeMap<String, ResourceType>,
    pub(crate) data: BTreeMap<String, DataSource>,
    calls: Calls,
    /// What the run in progress has configured.
    http: RwLock<Option<VendorHttp>>,
    /// Whether that run was told to stop.
    stopped: watch::Sender<bool>,
}

/// The attributes of the provider block.
pub(crate) fn provider_attributes() -> Attributes {
    let base_url = Attribute {
        description: "Where the vendor is called; without it, what the provider was started with (WANWRIGHT_GATEWAY_URL)."
            .to_owned(),
        ..Attribute::new(AttributeType::String, Presence::Optional { default: None })
    };
    Attributes::from([(BASE_URL.to_owned(), base_url)])
}

impl Service {
    pub(crate) fn new(catalogue: &Catalogue, calls: Calls) -> Self {
        let resources = resource::resource_types(catalogue);
        let data = data_sources(&resources);
        Self { resources, data, calls, http: RwLock::new(None), stopped: watch::Sender::new(false) }
    }

    pub(crate) fn resource(&self, type_name: &str) -> Result<&ResourceType, Diagnostic> {
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
    pub(crate) fn configure(&self, config: Option<&tf::DynamicValue>) -> Result<(), Diagnostic> {
        let config = wire::decode(config, &provider_attributes())?;
        let configured = config.as_ref().and_then(|config| config.get(BASE_URL));
        if configured.is_some_and(|value| value.is_unknown()) {
            let detail = "It has to be known before anything is planned: use a variable or leave it out.";
            return Err(Diagnostic::unexpected("base_url is not known yet", detail).at(BASE_URL));
        }
        let configured = configured.and_then(|value| value.as_str()).map(str::to_owned);
        if self.calls.through.is_some() && configured.is_some() && configured != self.calls.gateway_url {
            let detail = "Whoever started the provider has said where it calls: leave base_url out.";
            return Err(Diagnostic::invalid("base_url leads elsewhere", detail).at(BASE_URL));
        }
        let Some(base_url) = configured.or_else(|| self.calls.gateway_url.clone()) else {
            let detail =
                "Set base_url in the provider block, or start the provider with WANWRIGHT_GATEWAY_URL.";
            return Err(Diagnostic::unexpected("no base URL", detail).at(BASE_URL));
        };
        let connected = || {
            let options = ClientOptions {
                base_url,
                connect_timeout: self.calls.connect_timeout,
                call_timeout: self.calls.call_timeout,
                headers: Vec::new(),
            };
            VendorHttp::new(&options).map_err(|error| Diagnostic::unexpected(error, "").at(BASE_URL))
        };
        let http = self.calls.through.clone().map_or_else(connected, Ok)?;
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = Some(http);
        // The one who was told to stop was the run before.
        self.stopped.send_replace(false);
        Ok(())
    }

    /// Nobody waits any more. Calls in progress are bounded in time and are let finish: cutting one off would leave its
    /// effect unknown.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    fn limit(&self, state: Option<&resource::State>, operation: &str) -> Limit {
        Limit::of(state, operation, self.stopped.subscribe())
    }

    pub(crate) fn validate(
        &self,
        request: &tf::validate_resource_config::Request,
    ) -> Result<Vec<Diagnostic>, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let config = resource.decode(request.config.as_ref())?;
        let capabilities = request.client_capabilities.as_ref();
        let write_only = capabilities.is_some_and(|client| client.write_only_attributes_allowed);
        Ok(config.map(|config| validate::validate(resource, &config, write_only)).unwrap_or_default())
    }

    pub(crate) fn data_source(&self, type_name: &str) -> Result<&DataSource, Diagnostic> {
        self.data.get(type_name).ok_or_else(|| {
            let detail = "No vendor folder has it. Check WANWRIGHT_VENDORS and the vendor's api/ folder.";
            Diagnostic::unexpected(format!("there is no data source {type_name}"), detail)
        })
    }

    pub(crate) fn validate_data(
        &self,
        request: &tf::validate_data_resource_config::Request,
    ) -> Result<Vec<Diagnostic>, Diagnostic> {
        let source = self.data_source(&request.type_name)?;
        let config = wire::decode(request.config.as_ref(), &source.attributes)?;
        Ok(config.map(|config| source.validate(&config)).unwrap_or_default())
    }

    pub(crate) async fn read_data(
        &self,
        request: &tf::read_data_source::Request,
    ) -> Result<tf::DynamicValue, Diagnostic> {
        let source = self.data_source(&request.type_name)?;
        let config = wire::decode(request.config.as_ref(), &source.attributes)?.unwrap_or_default();
        let client = self.client(&source.resource)?;
        Ok(wire::encode(&source.read(client, &config).await?))
    }

    pub(crate) async fn read(
        &self,
        request: &tf::read_resource::Request,
    ) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let Some(state) = resource.decode(request.current_state.as_ref())? else {
            return Ok(wire::nothing());
        };
        let Some(id) = state.id() else {
            return Ok(state.encode());
        };
        let limit = self.limit(Some(&state), "read");
        let client = self.client(resource)?.within(&resource.sent(&state, None));
        let found = limit.repeat(|| client.read(id), |error| error).await;
        let found = found.map_err(|error| Diagnostic::of(&error, resource, "reading"))?;
        let state = found.map(|object| resource.state_of(&object, Some(&state)));
        Ok(resource::encode_state(state.as_ref()))
    }

    pub(crate) fn plan(
        &self,
        request: tf::plan_resource_change::Request,
    ) -> Result<tf::plan_resource_change::Response, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let prior = resource.decode(request.prior_state.as_ref())?;
        let proposed = resource.decode(request.proposed_new_state.as_ref())?;
        let config = resource.decode(request.config.as_ref())?;
        let mut response = tf::plan_resource_change::Response {
            planned_state: Some(wire::nothing()),
            planned_private: request.prior_private,
            ..Default::default()
        };
        // Proposing nothing is how a deletion is planned.
        if let (Some(_), Some(config)) = (proposed, config) {
            let plan = plan(resource, prior.as_ref(), &config);
            response.planned_state = Some(plan.planned.encode());
            response.requires_replace = plan.requires_replace.iter().map(attribute_path).collect();
        }
        Ok(response)
    }

    pub(crate) async fn apply(
        &self,
        request: &tf::apply_resource_change::Request,
    ) -> Result<(tf::DynamicValue, Vec<Diagnostic>), Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let prior = resource.decode(request.prior_state.as_ref())?;
        let planned = resource.decode(request.planned_state.as_ref())?;
        let config = resource.decode(request.config.as_ref())?;
        let config = config.as_ref();
        let known = prior.as_ref().or(planned.as_ref()).map(|state| resource.sent(state, None));
        let operation = match (&prior, &planned) {
            (None, _) => "create",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        };
        let limit = self.limit(planned.as_ref().or(prior.as_ref()), operation);
        let client = self.client(resource)?.within(&known.unwrap_or_default()).waiting(limit.patience());
        let Applied { state, diagnostics } = match (&prior, &planned) {
            (None, Some(planned)) => {
                let Calls { doubt, creates, .. } = &self.calls;
                let others = Others { doubt, creates: creates.as_deref() };
                apply::create(&client, resource, (planned, config), &limit, others).await
            }
            (Some(prior), Some(planned)) => {
                apply::update(&client, resource, (prior, planned), config, &limit).await
            }
            (Some(prior), None) => apply::delete(&client, resource, prior, &limit).await,
            (None, None) => Applied { state: None, diagnostics: Vec::new() },
        };
        Ok((resource::encode_state(state.as_ref()), diagnostics))
    }

    pub(crate) async fn import(
        &self,
        request: &tf::import_resource_state::Request,
    ) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let object = import::import(self.client(resource)?, resource, &request.id).await?;
        Ok(resource.state_of(&object, None).encode())
    }

    pub(crate) fn upgrade(
        &self,
        request: &tf::upgrade_resource_state::Request,
    ) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.type_name)?;
        let raw = request.raw_state.as_ref().filter(|raw| !raw.json.is_empty());
        let raw =
            raw.ok_or_else(|| Diagnostic::unexpected("the stored state is from before Terraform 0.12", ""))?;
        Ok(resource.decode_stored(&raw.json)?.encode())
    }

    /// Takes over the state of a kind that has this name now.
    pub(crate) fn moved(
        &self,
        request: &tf::move_resource_state::Request,
    ) -> Result<tf::DynamicValue, Diagnostic> {
        let resource = self.resource(&request.target_type_name)?;
        let ours = request.source_provider_address.ends_with("/wanwright/wanwright");
        if !ours || !resource.formerly.contains(&request.source_type_name) {
            let summary = format!("{} cannot become {}", request.source_type_name, request.target_type_name);
            let detail = "Only a kind that its vendor's folder names under `formerly` was ever the same.";
            return Err(Diagnostic::invalid(summary, detail));
        }
        let raw = request.source_state.as_ref().map(|raw| raw.json.as_slice()).unwrap_or_default();
        Ok(resource.decode_stored(raw)?.encode())
    }
}
