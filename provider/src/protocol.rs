//! Terraform's plugin protocol 6: hands requests to the service and writes answers.
//!
//! Whatever goes wrong is a diagnostic in the answer. A gRPC error would reach people as a broken plugin.

use std::collections::HashMap;

use tonic::{Request, Response, Status};

use crate::diagnostic::Diagnostic;
use crate::proto::tfplugin6 as tf;
use crate::proto::tfplugin6::provider_server::Provider;
use crate::schema::schema;
use crate::service::{Service, provider_attributes};

/// The diagnostics of an answer, from a result.
fn diagnostics<T>(result: &Result<T, Diagnostic>) -> Vec<tf::Diagnostic> {
    result.as_ref().err().cloned().map(Into::into).into_iter().collect()
}

/// The same where success has some too.
fn all(found: Result<Vec<Diagnostic>, Diagnostic>) -> Vec<tf::Diagnostic> {
    found.unwrap_or_else(|error| vec![error]).into_iter().map(Into::into).collect()
}

fn capabilities() -> Option<tf::ServerCapabilities> {
    Some(tf::ServerCapabilities {
        plan_destroy: false,
        get_provider_schema_optional: true,
        move_resource_state: true,
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
        let data = |type_name: &String| tf::get_metadata::DataSourceMetadata { type_name: type_name.clone() };
        answer(tf::get_metadata::Response {
            server_capabilities: capabilities(),
            diagnostics: Vec::new(),
            data_sources: self.data.keys().map(data).collect(),
            resources: self.resources.keys().map(name).collect(),
        })
    }

    async fn get_provider_schema(
        &self,
        _: Request<tf::get_provider_schema::Request>,
    ) -> Result<Response<tf::get_provider_schema::Response>, Status> {
        let resources = self.resources.iter().map(|(name, resource)| (name.clone(), resource.schema()));
        let data = self.data.iter().map(|(name, source)| (name.clone(), source.schema()));
        answer(tf::get_provider_schema::Response {
            provider: Some(schema(&provider_attributes(), "What the vendor folders describe.", false)),
            resource_schemas: resources.collect(),
            data_source_schemas: data.collect(),
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
        let found = self.validate(request.get_ref());
        answer(tf::validate_resource_config::Response { diagnostics: all(found) })
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<tf::validate_data_resource_config::Request>,
    ) -> Result<Response<tf::validate_data_resource_config::Response>, Status> {
        let found = self.validate_data(request.get_ref());
        answer(tf::validate_data_resource_config::Response { diagnostics: all(found) })
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

    async fn move_resource_state(
        &self,
        request: Request<tf::move_resource_state::Request>,
    ) -> Result<Response<tf::move_resource_state::Response>, Status> {
        let request = request.into_inner();
        let moved = self.moved(&request);
        let diagnostics = diagnostics(&moved);
        answer(tf::move_resource_state::Response {
            target_state: moved.ok(),
            diagnostics,
            target_private: request.source_private,
        })
    }

    async fn read_data_source(
        &self,
        request: Request<tf::read_data_source::Request>,
    ) -> Result<Response<tf::read_data_source::Response>, Status> {
        let read = self.read_data(request.get_ref()).await;
        let diagnostics = diagnostics(&read);
        answer(tf::read_data_source::Response { state: read.ok(), diagnostics })
    }

    async fn get_functions(
        &self,
        _: Request<tf::get_functions::Request>,
    ) -> Result<Response<tf::get_functions::Response>, Status> {
        answer(tf::get_functions::Response { functions: HashMap::new(), diagnostics: Vec::new() })
    }

    async fn stop_provider(
        &self,
        _: Request<tf::stop_provider::Request>,
    ) -> Result<Response<tf::stop_provider::Response>, Status> {
        self.stop();
        answer(tf::stop_provider::Response::default())
    }
}
