//! Single roles, as `up` starts them: a role says `ready` on standard output once it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wanwright_commands::service::{self, Options};
use wanwright_executors::gateway::Gateway;
use wanwright_executors::terraform::{Config, TerraformEngine, USUAL_LIMIT};
use wanwright_executors::{dispatcher, scheduler};
use wanwright_nats::{Nats, NatsError, accounts};
use wanwright_projections::{Projections, Readiness};
use wanwright_supervisor::DirLock;
use wanwright_vendors::{Refreshed, Vendors, Watching};

use crate::audit;
use crate::cli::{Role, ServeArgs, SimulatorArgs};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;
use crate::topology::{compared, say_profiles};

/// How often a role asks whether the partition count is still the one it works with.
const RECOUNT: Duration = Duration::from_secs(5);

/// Longest that another executor is at a dead one's folder.
const TAKE_OVER: Duration = Duration::from_secs(15);

/// Ends at SIGTERM and SIGINT.
pub fn stop_token() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

fn ready() {
    output::line("ready");
}

/// Runs a role until it is told to stop.
pub async fn run(args: ServeArgs) -> Result<Exit> {
    let options = service_options(&args)?;
    let stop = stop_token()?;
    let login = Login::Role(match args.role {
        Role::Commands => accounts::Role::Commands,
        Role::Dispatcher => accounts::Role::Dispatcher,
        Role::Executors => accounts::Role::Executors,
        Role::Projections => accounts::Role::Projections,
    });
    let nats = args.connection.nats(login, &format!("wanwright-{:?}", args.role).to_lowercase()).await?;
    let replicas = check_topology(&nats).await?;
    let said = tokio::spawn(say_profiles(nats.clone(), replicas));
    let counted = tokio::spawn(until_counted_otherwise(nats.clone(), stop.clone()));
    match args.role {
        Role::Commands => {
            let (vendors, _watching) = watched(&args)?;
            let master_key = Some(std::path::absolute(args.master_key.path(&args.connection.home))?);
            let evidence = Some(audit::evidence(&args.connection.home, args.audit_dir.as_deref())?);
            service::run(nats, vendors, Options { master_key, evidence, ..options }, stop, ready).await?;
        }
        Role::Dispatcher => {
            let evidence = audit::evidence(&args.connection.home, args.audit_dir.as_deref())?;
            let (vendors, _watching) = watched(&args)?;
            dispatcher::run(nats, vendors, Some(evidence), stop, ready).await?;
        }
        Role::Executors => executors(&args, nats, stop).await?,
        Role::Projections => {
            let pool = args.connection.postgres(24).await?;
            let mut config = wanwright_projections::Config::new(pool, nats);
            config.audit = Some(audit::signer(&args.connection.home, args.audit_dir.as_deref())?);
            let projections = Projections::new(config);
            let mut readiness = projections.readiness();
            let running = tokio::spawn(projections.run(stop.clone()));
            tokio::select! {
                () = stop.cancelled() => {}
                _ = readiness.wait_for(Readiness::is_ready) => ready(),
            }
            running.await?;
        }
    }
    said.abort();
    counted.await??;
    Ok(Exit::Done)
}

/// Stops a role that works with a partition count which is no longer the server's: the next start asks for it.
async fn until_counted_otherwise(nats: Nats, stop: CancellationToken) -> Result<(), NatsError> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RECOUNT) => {}
        }
        // Whatever else goes wrong is no news about the count.
        if let Err(error @ (NatsError::Repartitioning { .. } | NatsError::OtherPartitions { .. })) =
            nats.check_partitions().await
        {
            stop.cancel();
            return Err(error);
        }
    }
}

/// What `serve commands` was told, and the usual where it was told nothing.
fn service_options(args: &ServeArgs) -> Result<Options> {
    if args.role != Role::Commands && (args.window.is_some() || args.cache.is_some()) {
        return Err(Usage("--window and --cache are for `serve commands`".to_owned()).into());
    }
    if args.role != Role::Executors && (args.work.is_some() || args.terraforms.is_some()) {
        return Err(Usage("--work and --terraforms are for `serve executors`".to_owned()).into());
    }
    let usual = Options::default();
    Ok(Options {
        window: args.window.map_or(usual.window, |hours| Duration::from_secs(hours * 60 * 60)),
        cache_bytes: args.cache.map_or(usual.cache_bytes, |mebibytes| mebibytes << 20),
        ..usual
    })
}

/// The vendors, and what takes over their folders when they change.
fn watched(args: &ServeArgs) -> Result<(Vendors, Watching)> {
    let dir = &args.vendors.vendors;
    let vendors = Vendors::open(dir).with_context(|| format!("reading the vendors in {}", dir.display()))?;
    let watching = vendors.watch(|found| match found {
        Refreshed::Same => {}
        Refreshed::Swapped(changed) => {
            tracing::info!(vendors = changed.join(", "), "changed vendor folders are in force");
        }
        Refreshed::Refused(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "changed vendor folders are not in force; the earlier ones still are"
            );
        }
    });
    Ok((vendors, watching))
}

/// Streams that are missing or differ stop the start. Answers how many replicas there are.
async fn check_topology(nats: &Nats) -> Result<usize> {
    let (replicas, plan) = compared(nats).await?;
    if !plan.create.is_empty() {
        anyhow::bail!(
            "streams are missing: {}; create them with `wanwright nats apply`",
            plan.create.join(", ")
        );
    }
    if !plan.differences.is_empty() {
        return Err(NatsError::Topology(plan.differences.join("\n")).into());
    }
    tracing::info!(replicas, partitions = nats.partitions, "the streams are as they should be");
    Ok(replicas)
}

async fn executors(args: &ServeArgs, nats: Nats, stop: CancellationToken) -> Result<()> {
    let (vendors, _watching) = watched(args)?;
    let urls = vendor_urls(&args.vendor_urls)?;
    // A process number alone is the same in every container.
    let executor = format!("{}-{}-{:04x}", hostname(), std::process::id(), fastrand::u16(..));
    // Devices need no Postgres, so an executor starts without.
    let pool = args.connection.postgres_when_needed(8)?;
    let found = wanwright_supervisor::find_terraform().await?;
    let work = args.work.clone().unwrap_or_else(|| args.connection.home.home.join("executor"));
    // Another executor may just be taking over what an earlier process left here.
    let _folder = DirLock::wait(&work, TAKE_OVER)
        .await
        .context("each executor process needs a folder of its own: name another one with --work")?;
    let config = Config {
        pool,
        nats: nats.clone(),
        keys: args.state_key.keys(&args.connection.home),
        work: std::path::absolute(work)?,
        vendors: vendors.clone(),
        mirror: args.providers.clone().unwrap_or_else(|| args.connection.home.home.join("providers")),
        program: found.path,
        version: found.version,
        at_once: args.terraforms.unwrap_or_else(scheduler::usual_terraforms),
        limit: args.terraform_limit.map_or(USUAL_LIMIT, Duration::from_secs),
    };
    let terraform = Arc::new(TerraformEngine::start(config).await?);
    let gateway = Gateway::start(nats.clone(), vendors.clone(), &urls, stop.clone()).await?;
    let config = scheduler::Config {
        nats,
        vendors,
        gateway: gateway.clone(),
        terraform: Arc::clone(&terraform),
        executor,
        patience: scheduler::Patience::default(),
    };
    tokio::select! {
        ended = scheduler::run(config, stop, ready) => Ok(ended?),
        () = gateway.failed() => anyhow::bail!("a part of the gateway ended that has to go on"),
        () = terraform.failed() => anyhow::bail!("a part of the state backend ended that has to go on"),
    }
}

fn vendor_urls(given: &[String]) -> Result<HashMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, url)) if url.starts_with("http") => Ok((name.to_owned(), url.to_owned())),
        _ => Err(Usage(format!("--vendor-url {text}: it must be NAME=URL")).into()),
    };
    given.iter().filter(|text| !text.is_empty()).map(pair).collect()
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "executor".to_owned() } else { name }
}

/// Runs the simulated vendor until it is told to stop.
pub async fn simulator(args: SimulatorArgs) -> Result<Exit> {
    let stop = stop_token()?;
    let config =
        wanwright_simulator::Config::new(args.listen, args.data, args.vendor, args.token, args.admin_token);
    let running = wanwright_simulator::Simulator::start(config).await?;
    output::line(format!("ready {}", running.url()));
    stop.cancelled().await;
    running.stop().await?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Mode};

    /// What `serve` makes of these words; none when they cannot be read.
    fn options(words: &str) -> Option<Result<Options>> {
        let words = ["wanwright", "serve"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).ok()?.mode {
            Mode::Serve(args) => Some(service_options(&args)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_service_is_told_its_window_and_its_cache() {
        let read = |words| options(words).expect("known words").expect("options");
        assert_eq!(read("commands"), Options::default());
        assert_eq!(read("commands --window 24 --cache 512"), Options::default());
        let (window, cache_bytes) = (Duration::from_secs(3600), 1 << 20);
        let small = Options { window, cache_bytes, ..Options::default() };
        assert_eq!(read("commands --window 1 --cache 1"), small);
        assert_eq!(read("dispatcher"), Options::default());
        for words in ["--window 0", "--window 25", "--window x", "--cache 0", "--cache 1048577", "--cache -1"]
        {
            assert!(options(&format!("commands {words}")).is_none(), "{words}");
        }
        for words in ["dispatcher --window 2", "projections --cache 2", "commands --work here"] {
            assert!(options(words).expect("known words").is_err(), "{words}");
        }
    }
}
