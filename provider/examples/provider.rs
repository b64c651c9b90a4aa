//! The provider alone: `provider --socket /run/user/1000/wanwright/p.sock --vendors vendors --gateway-url http://…`.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    provider: wanwright_provider::ProviderArgs,
}

#[tokio::main]
async fn main() -> Result<(), wanwright_provider::ServeError> {
    wanwright_provider::run(Cli::parse().provider).await
}
