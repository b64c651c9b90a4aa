//! What the plugin host asks for besides the provider itself.

use tonic::{Request, Response, Status};

use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};
use crate::proto::plugin::Empty;
use crate::proto::plugin::grpc_controller_server::GrpcController;

/// Answers the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host;

#[tonic::async_trait]
impl GrpcController for Host {
    /// Does nothing: this provider outlives the run that says so, and ends when its owner says so.
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl Health for Host {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }
}
