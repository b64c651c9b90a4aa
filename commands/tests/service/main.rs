//! The command service on a real nats-server: what happens at its doors when something is wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broken_keys;
mod damage;
mod discovery;
mod doors;
mod dry_runs;
mod dry_verbs;
mod erasing;
mod handover;
mod inventory;
mod large;
mod leaders;
mod losses;
mod neighbours;
mod personal;
mod plans;
mod proxy;
mod racing;
mod repartition;
mod repeats;
mod reverts;
mod serials;
mod sharing;
mod side_doors;
mod snapshots;
mod sweeper;
mod turns;
mod unreadable;
mod vendors;
mod world;
mod would_order;
