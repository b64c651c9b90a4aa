//! A running child process.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStdout, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

use crate::guard::Number;
use crate::{ChildSpec, Error, Lines, Result, spawn};

/// How a child ended in [`Child::stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Its exit status.
    pub status: ExitStatus,
    /// It did not end within the limit and was killed.
    pub killed: bool,
}

/// A child process. Dropping it sends the death signal and does not wait.
#[derive(Debug)]
pub struct Child {
    process: Arc<Process>,
    exit: watch::Receiver<Option<ExitStatus>>,
    stdout: Option<ChildStdout>,
    program: PathBuf,
    stop_signal: Signal,
    death_signal: Signal,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    /// Its process group's number at the guard, when it has a group of its own.
    group: Option<Number>,
    /// Set before the process is reaped; after that its number may belong to a stranger.
    gone: Mutex<bool>,
}

impl Child {
    pub(crate) fn spawn(spec: &ChildSpec) -> Result<Self> {
        let failed = |source| Error::Spawn { program: spec.program.clone(), source };
        let group = spec.process_group.then(Number::next);
        let mut child = spawn::spawn(spec, group).map_err(failed)?;
        let stdout = child.stdout.take();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::Error::other("the child has no process id")))?;
        let process = Arc::new(Process { pid, group, gone: Mutex::new(false) });
        let (sender, exit) = watch::channel(None);
        let reaped = Arc::clone(&process);
        // A thread and not the runtime's SIGCHLD handler: a child then outlives the runtime it was started in, and is
        // reaped without one.
        let waiter =
            std::thread::Builder::new().name(format!("wait {}", pid.as_raw_nonzero())).stack_size(64 * 1024);
        let wait = move || {
            // Nobody may be left to tell.
            let _ = sender.send(Some(reaped.reap(child)));
        };
        if let Err(source) = waiter.spawn(wait) {
            process.signal(Signal::KILL);
            return Err(failed(source));
        }
        let (stop_signal, death_signal) = (spec.stop_signal, spec.death_signal);
        Ok(Self { process, exit, stdout, program: spec.program.clone(), stop_signal, death_signal })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The program that was started.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The exit status, if the child has ended.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for the end. Any number of callers may.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        status.unwrap_or_else(unknown)
    }

    /// Sends a signal, to the whole group if the child has its own. After its end this does nothing.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks the child to end, and kills it when it has not within `limit`.
    pub async fn stop(&self, limit: Duration) -> Stopped {
        self.signal(self.stop_signal);
        if let Ok(status) = tokio::time::timeout(limit, self.wait()).await {
            return Stopped { status, killed: false };
        }
        Stopped { status: self.kill().await, killed: true }
    }

    /// Kills the child and waits until it is gone.
    pub async fn kill(&self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// The lines of standard output, once, of a child started with [`ChildSpec::piped`]. Call it inside a tokio runtime.
    pub fn lines(&mut self) -> Result<Lines> {
        let stdout = self.stdout.take();
        let stdout = stdout.ok_or_else(|| io::Error::other("standard output is not piped, or already taken"));
        stdout.and_then(Lines::new).map_err(Error::io("read the output of", &self.program))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.signal(self.death_signal);
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        let gone = self.gone();
        if *gone {
            return;
        }
        // It may have ended meanwhile without being reaped; the signal is then lost, as it should be.
        let _ = if self.group.is_some() {
            rustix::process::kill_process_group(self.pid, signal)
        } else {
            rustix::process::kill_process(self.pid, signal)
        };
    }

    /// Waits for the end, ends what is left of the group, and only then reaps: an unreaped leader keeps the number taken.
    fn reap(&self, mut child: std::process::Child) -> ExitStatus {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(self.pid), options) {}
        let mut gone = self.gone();
        if let Some(number) = self.group {
            // An error says that nobody else is left in the group.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            number.forget();
        }
        *gone = true;
        child.wait().unwrap_or_else(|_| unknown())
    }

    fn gone(&self) -> MutexGuard<'_, bool> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status of a child that something else in this process has waited for: exit code 255.
fn unknown() -> ExitStatus {
    ExitStatus::from_raw(0xff00)
}
