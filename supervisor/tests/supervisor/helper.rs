//! A process of our own that can be killed: this test program once more, in a role.

use std::io::Write;
use std::path::PathBuf;

use wanwright_supervisor::{
    Child, ChildSpec, Lines, Nats, NatsOptions, Postgres, PostgresOptions, Signal, User,
};

use crate::support::{LIMIT, cache, is_alive, set_mode, until};

const ROLE: &str = "WANWRIGHT_TEST_ROLE";
const DIR: &str = "WANWRIGHT_TEST_DIR";

/// Does nothing in an ordinary run of the tests.
#[tokio::test]
async fn helper() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap_or_default());
    match role.as_str() {
        "sleeper" => stay(&[ChildSpec::new("/bin/sleep").arg("1000").spawn().unwrap().id()]).await,
        "sleeper of nobody" => {
            let nobody = User::named("nobody").unwrap();
            let child = ChildSpec::new("/bin/sleep").arg("1000").user(nobody).spawn().unwrap();
            stay(&[child.id()]).await;
        }
        "family" => family().await,
        "family whose guard was killed" => {
            ChildSpec::new("/bin/true").process_group().spawn().unwrap().wait().await;
            let guard = shells_of(std::process::id());
            assert_eq!(guard.len(), 1);
            let pid = rustix::process::Pid::from_raw(guard[0].cast_signed()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            until("the guard is gone", || !is_alive(guard[0])).await;
            family().await;
        }
        "nats" => {
            let nats = Nats::start(&NatsOptions::new(dir, cache())).await.unwrap();
            stay(&[nats.child().id()]).await;
        }
        "postgres" => {
            let postgres =
                Postgres::start(&PostgresOptions::new(&dir, dir.with_extension("cache"))).await.unwrap();
            stay(&[postgres.child().id()]).await;
        }
        other => panic!("no such role: {other}"),
    }
}

async fn family() {
    let shell = ChildSpec::new("/bin/sh").args(["-c", "/bin/sleep 1000 & echo $!; wait"]);
    let mut child = shell.process_group().piped().spawn().unwrap();
    let grandchild = child.lines().unwrap().next().await.unwrap().unwrap();
    stay(&[child.id(), grandchild.parse().unwrap()]).await;
}

fn shells_of(parent: u32) -> Vec<u32> {
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_shell = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("(sh) ")
            && stat.rsplit(") ").next().is_some_and(|rest| rest[2..].starts_with(&format!("{parent} ")))
    };
    numbers.filter(is_shell).collect()
}

/// Says which processes it has, and waits to be killed.
async fn stay(pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "\nhas {}", pids.join(" ")).and_then(|()| stdout.flush()).unwrap();
    drop(stdout);
    std::future::pending::<()>().await;
}

/// The helper, and the processes it has started.
pub struct Helper {
    pub child: Child,
    pub pids: Vec<u32>,
    _lines: Lines,
}

impl Helper {
    pub async fn start(role: &str, dir: PathBuf, user: Option<User>) -> Self {
        let log = dir.with_extension("helper-log");
        let mut program = std::env::current_exe().unwrap();
        if user.is_some() {
            // Another user may not be able to enter the build folder.
            let copy = dir.with_extension("helper");
            std::fs::copy(program, &copy).unwrap();
            set_mode(&copy, 0o755);
            program = copy;
        }
        let spec = ChildSpec::new(program).args(["--exact", "helper::helper", "--nocapture"]);
        let spec = spec
            .envs(std::env::vars_os())
            .env(ROLE, role)
            .env(DIR, dir)
            .user(user)
            .cwd("/")
            .log(&log)
            .piped();
        let mut child = spec.spawn().unwrap();
        let mut lines = child.lines().unwrap();
        let first = async {
            while let Some(line) = lines.next().await.unwrap() {
                if let Some(pids) = line.strip_prefix("has ") {
                    return pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
                }
            }
            panic!("the helper ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
        };
        let pids = tokio::time::timeout(LIMIT, first).await.expect("the helper says which processes it has");
        Self { child, pids, _lines: lines }
    }
}
