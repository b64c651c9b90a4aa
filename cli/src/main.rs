//! `wanwright`: the one binary. Every part is a mode of it, called by name.

mod accounts;
mod audit;
mod bench;
mod cli;
mod dead;
mod demo;
mod doctor;
mod drift;
mod endpoints;
mod erase;
mod exit;
mod explain;
mod get;
mod history;
mod log;
mod output;
mod pause;
mod plan;
mod repair;
mod repartition;
mod replay;
mod reveal;
mod rollout;
mod schema;
mod send;
mod serve;
mod stack;
mod state;
mod topology;
mod vendor;
mod watch;

use clap::Parser;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use cli::{Cli, Mode, Role};
use exit::Exit;

/// A command is many small allocations that cross threads, which is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    trace_to_stderr(&cli.log);
    let built = threads(&cli.mode).enable_all().build();
    let done = built.map_err(Into::into).and_then(|runtime| runtime.block_on(run(cli.mode)));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            exit::of_error(&error)
        }
    }
}

/// An executor waits for others nearly all the time, a dozen times for each change: on one thread no answer has to wake
/// another one. Where a core is too little for it, there are more executors.
fn threads(mode: &Mode) -> tokio::runtime::Builder {
    match mode {
        Mode::Serve(args) if args.role == Role::Executors => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    }
}

async fn run(mode: Mode) -> anyhow::Result<Exit> {
    match mode {
        Mode::Demo(args) => demo::run(args).await,
        Mode::Up(args) => demo::up(args).await,
        Mode::Serve(args) => serve::run(args).await,
        Mode::Simulator(args) => serve::simulator(args).await,
        Mode::Provider(args) => wanwright_provider::run(args).await.map(|()| Exit::Done).map_err(Into::into),
        Mode::Send(args) => send::run(args).await,
        Mode::Get(args) => get::run(args).await,
        Mode::Reveal(args) => reveal::run(args).await,
        Mode::Erase(args) => erase::run(args).await,
        Mode::Keys(args) => erase::keys(args).await,
        Mode::State(args) => state::run(args).await,
        Mode::Dead(args) => dead::run(args).await,
        Mode::Pause(args) => pause::pause(args).await,
        Mode::Resume(args) => pause::resume(args).await,
        Mode::Rollout(args) => rollout::run(args).await,
        Mode::Watch(args) => watch::run(args).await,
        Mode::Log(args) => log::run(args).await,
        Mode::Plan(args) => plan::run(args).await,
        Mode::Drift(args) => drift::run(args).await,
        Mode::Replay(args) => replay::run(args).await,
        Mode::Rebuild(args) => get::rebuild(args).await,
        Mode::Url(args) => endpoints::url(&args),
        Mode::Audit(args) => audit::run(args).await,
        Mode::Bench(args) => bench::run(args).await,
        Mode::Schema(args) => schema::run(args),
        Mode::Nats(args) => topology::run(args).await,
        Mode::Doctor(args) => doctor::run(args).await,
        Mode::Explain(args) => explain::run(&args),
        Mode::Vendor(args) => vendor::run(args).await,
    }
}

/// Where the NATS client traces every message whole: what customers say, and what they type where no secret belongs. That is
/// never logged, whatever was asked for.
const TELLS_ALL: &str = "async_nats::connection";

fn trace_to_stderr(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
    let discreet = filter_fn(|about| about.target() != TELLS_ALL || *about.level() != tracing::Level::TRACE);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_filter(filter.and(discreet.with_max_level_hint(LevelFilter::TRACE)));
    tracing_subscriber::registry().with(lines).init();
}
