//! What the end-to-end tests stand on.
//!
//! [`Home`] is a folder for one installation, [`Running`] a wanwright that lives in it. [`Customer`] sends commands as a
//! plain NATS client would, [`Vendor`] is the back door of the simulated vendor, which judges, and [`Processes`] knows
//! who is alive. Nothing here sleeps to let something happen: [`level`] waits for a level with a limit.

mod customer;
mod home;
mod janitor;
pub mod level;
mod processes;
mod program;
mod random;
mod rows;
mod running;
mod timing;
mod vendor;

pub use customer::{Answer, Customer, mint, mint_at};
pub use home::Home;
pub use processes::{Process, Processes};
pub use program::{Program, Said};
pub use random::Random;
pub use rows::Rows;
pub use running::{Endpoints, Running};
pub use timing::Timing;
pub use vendor::Vendor;
pub use wanwright_supervisor::Signal;
