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

/// What a child took, and those of its own children that it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// The most memory that one of them had resident, in KiB. It counts from the fork, so it is never less than what this
    /// process had resident then; [`Child::peak_kib`] is about the program alone.
    pub max_resident_kib: u64,
}

/// The end of a child.
#[derive(Debug, Clone, Copy)]
struct Ended {
    status: ExitStatus,
    usage: Usage,
}

/// A child process. Dropping it sends the death signal and does not wait.
#[derive(Debug)]
pub struct Child {
    process: Arc<Process>,
    exit: watch::Receiver<Option<Ended>>,
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
        self.exit.borrow().map(|ended| ended.status)
    }

    /// What it took, once it has ended.
    pub fn usage(&self) -> Option<Usage> {
        self.exit.borrow().map(|ended| ended.usage)
    }

    /// Whether the child has ended, asked of the kernel: its status may be known a moment later.
    pub fn has_ended(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let gone = self.process.gone();
        let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        *gone || !matches!(waitid(WaitId::Pid(self.process.pid), only_look), Ok(None))
    }

    /// The most memory that the program had resident until now, in KiB; nothing once it has ended.
    pub fn peak_kib(&self) -> Option<u64> {
        let gone = self.process.gone();
        if *gone {
            return None;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// Waits for the end. Any number of callers may.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
        ended.map_or_else(unknown, |ended| ended.status)
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
    fn reap(&self, mut child: std::process::Child) -> Ended {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(self.pid), options) {}
        let mut gone = self.gone();
        if let Some(number) = self.group {
            // An error says that nobody else is left in the group.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            number.forget();
        }
        *gone = true;
        wait4(self.pid).unwrap_or_else(|_| Ended {
            status: child.wait().unwrap_or_else(|_| unknown()),
            usage: Usage::default(),
        })
    }

    fn gone(&self) -> MutexGuard<'_, bool> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reaps a child, with what it took.
#[expect(unsafe_code, reason = "wait4 alone says what a single child took, and no crate at hand wraps it")]
fn wait4(pid: Pid) -> io::Result<Ended> {
    let mut status = 0;
    let mut taken = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to values of ours that live across the call; `rusage` is plain integers, for which
        // zeroes are a value, so it is initialised whether or not the call writes it.
        let (reaped, taken) = unsafe {
            let reaped = libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, taken.as_mut_ptr());
            (reaped, taken.assume_init())
        };
        if reaped == pid.as_raw_nonzero().get() {
            let cpu = time(taken.ru_utime) + time(taken.ru_stime);
            let max_resident_kib = u64::try_from(taken.ru_maxrss).unwrap_or_default();
            return Ok(Ended {
                status: ExitStatus::from_raw(status),
                usage: Usage { cpu, max_resident_kib },
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn time(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
}

/// The status of a child that something else in this process has waited for: exit code 255.
fn unknown() -> ExitStatus {
    ExitStatus::from_raw(0xff00)
}
