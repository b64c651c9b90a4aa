//! The generated protocol code.
#![expect(clippy::allow_attributes, reason = "what tonic and prost write")]
/// Terraform's plugin protocol 6.
pub mod tfplugin6 {
    tonic::include_proto!("tfplugin6");
}

/// The plugin host's own protocol.
pub mod plugin {
    tonic::include_proto!("plugin");
}

/// gRPC health checks.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
