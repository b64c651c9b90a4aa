//! `wanwright bench`: campaigns that measure and judge, longer than tests may be.

mod ask;
mod backdoor;
mod births;
mod commands;
mod customers;
mod damage;
mod figures;
mod fleet;
mod judge;
mod load;
mod races;
mod role;
mod soak;
mod terraform;
mod usage;
mod victims;
mod weather;

use anyhow::Result;

use crate::cli::{BenchArgs, BenchWhat};
use crate::exit::Exit;

/// Runs a campaign.
pub async fn run(args: BenchArgs) -> Result<Exit> {
    match args.what {
        BenchWhat::Commands(commands) => commands::run(commands).await,
        BenchWhat::Customers(customers) => customers::run(customers).await,
        BenchWhat::Damage(damage) => damage::run(damage).await,
        BenchWhat::Fleet(fleet) => fleet::run(fleet).await,
        BenchWhat::Races(races) => races::run(races).await,
        BenchWhat::Soak(soak) => soak::run(soak).await,
        BenchWhat::Terraform(terraform) => terraform::run(terraform).await,
    }
}
