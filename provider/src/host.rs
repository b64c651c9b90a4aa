//! What the plugin host asks for besides the provider itself.

use std::sync::Arc;

use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};
use crate::proto::plugin::Empty;
use crate::proto::plugin::grpc_controller_server::GrpcController;

/// Answers the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// Told when the host wants the process to end. Without it the provider outlives the run that says so, and ends when
    /// its owner says so.
    pub(crate) end: Option<Arc<Notify>>,
}

#[tonic::async_trait]
impl GrpcController for Host {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        if let Some(end) = &self.end {
            end.notify_one();
        }
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl Health for Host {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }
}
