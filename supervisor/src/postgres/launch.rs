//! Starting the server on a cluster that is complete.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::init::postgres_program;
use super::{PostgresOptions, keep_port, last_port, log};
use crate::free_port;
use crate::log::Log;
use crate::{Child, ChildSpec, Error, Result, User};

/// How long a predecessor that was killed may take to be gone: its own processes have to notice and end.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(15);
const MOST_PORTS: u32 = 10;

/// Starts the server and waits until it answers. Tries other ports, and waits for a dying predecessor.
pub(super) async fn launch(
    bin: &Path,
    dir: &Path,
    options: &PostgresOptions,
    user: Option<&User>,
) -> Result<(Child, u16)> {
    let begun = Instant::now();
    let last = last_port(dir)?;
    let mut port = last.map_or_else(free_port, Ok)?;
    let mut ports = 1;
    loop {
        let log = Log::from_here(&log(dir));
        let child = spec(bin, dir, options, user, port).log(&log.path).spawn()?;
        let Some(status) = ended_before_ready(&child, dir, port, begun + options.start_limit).await else {
            if child.try_wait().is_none() && is_ready(child.id(), dir, port).await {
                if last != Some(port) {
                    keep_port(dir, port)?;
                }
                return Ok((child, port));
            }
            child.kill().await;
            let what = format!("starting {}/postgres", bin.display());
            return Err(Error::TooSlow { what, limit: options.start_limit, tail: log.tail(), log: log.path });
        };
        match why(&log.recent()) {
            Some(Obstacle::PortTaken) if ports < MOST_PORTS => {
                ports += 1;
                port = free_port()?;
            }
            Some(Obstacle::Predecessor) if begun.elapsed() < PREDECESSOR_LIMIT => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            _ => {
                let what = format!("starting {}/postgres", bin.display());
                return Err(Error::Ended { what, status, tail: log.tail(), log: log.path });
            }
        }
    }
}

fn spec(bin: &Path, dir: &Path, options: &PostgresOptions, user: Option<&User>, port: u16) -> ChildSpec {
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        // No socket files: nothing to leave behind, and no length limit on the data folder's path.
        ("unix_socket_directories", ""),
        ("fsync", "on"),
        ("shared_buffers", "128MB"),
        ("max_connections", "100"),
        ("cluster_name", "wanwright"),
    ];
    let ours =
        ours.into_iter().chain(options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let spec = postgres_program(&bin.join("postgres"), dir, user)
        .arg("-D")
        .arg(dir.join("data"))
        .arg("-p")
        .arg(port.to_string());
    ours.fold(spec, |spec, (name, value)| spec.arg("-c").arg(format!("{name}={value}")))
}

/// Waits until the server is ready (`None`), has ended (its status), or `end` has come (`None` again).
async fn ended_before_ready(child: &Child, dir: &Path, port: u16, end: Instant) -> Option<ExitStatus> {
    while Instant::now() < end && !is_ready(child.id(), dir, port).await {
        if let Ok(status) = tokio::time::timeout(Duration::from_millis(20), child.wait()).await {
            return Some(status);
        }
    }
    None
}

/// The postmaster writes "ready" into line 8 of its pid file; and something has to speak Postgres at the port.
async fn is_ready(pid: u32, dir: &Path, port: u16) -> bool {
    let text = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready") && answers(port).await
}

/// Sends an `SSLRequest`, which every Postgres answers with one letter before anyone logs in.
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await?;
        stream.read_u8().await
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(b'N' | b'S')))
}

#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    PortTaken,
    Predecessor,
}

/// Reads the reason of a failed start from the log. `LC_ALL=C` keeps the messages in English.
fn why(log: &str) -> Option<Obstacle> {
    if log.contains("Address already in use") {
        Some(Obstacle::PortTaken)
    } else if log.contains("lock file \"postmaster.pid\" already exists")
        || log.contains("shared memory block")
    {
        Some(Obstacle::Predecessor)
    } else {
        None
    }
}
