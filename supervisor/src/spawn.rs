//! The one thread that forks, and the code that runs between fork and exec.
//!
//! The kernel sends the parent-death signal when the *thread* that forked ends, not its process. A child started from a
//! worker thread of a runtime would die when that worker is retired. So every child is forked by one thread that never ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};

use rustix::process::{Pid, Signal};

use crate::confine::Confined;
use crate::guard::{Guard, Number};
use crate::spec::ChildSpec;

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the thread that never ends.
fn on_the_spawn_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    static THREAD: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let jobs = THREAD.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Job>();
        // A failure to start the thread shows as a closed channel below. The sender is static, so `recv` never ends.
        let _ = std::thread::Builder::new().name("spawn".into()).spawn(move || {
            while let Ok(job) = receiver.recv() {
                job();
            }
        });
        sender
    });
    let gone = || io::Error::other("the thread that starts processes could not be started");
    let (sender, receiver) = mpsc::sync_channel(1);
    let job = Box::new(move || {
        // The receiver waits right below.
        let _ = sender.send(job());
    });
    jobs.send(job).map_err(|_| gone())?;
    receiver.recv().map_err(|_| gone())
}

/// Forks and executes what `spec` describes. `group` is there when the child has a process group of its own.
pub(crate) fn spawn(spec: &ChildSpec, group: Option<Number>) -> io::Result<std::process::Child> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(match &spec.stdin {
        Some(file) => Stdio::from(File::open(file)?),
        None => Stdio::null(),
    });
    let log = spec
        .log
        .as_ref()
        .map(|log| OpenOptions::new().append(true).create(true).mode(0o600).open(log))
        .transpose()?;
    let to_log = |log: &Option<File>| {
        Ok::<_, io::Error>(
            log.as_ref().map(File::try_clone).transpose()?.map_or_else(Stdio::null, Stdio::from),
        )
    };
    command.stdout(if spec.piped { Stdio::piped() } else { to_log(&log)? });
    command.stderr(to_log(&log)?);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    if let Some(user) = &spec.user {
        command.gid(user.gid).uid(user.uid);
    }
    if group.is_some() {
        command.process_group(0);
    }
    let signal = spec.death_signal;
    let confined = spec.confinement.as_ref().map(Confined::prepare).transpose()?;
    on_the_spawn_thread(move || {
        let group =
            group.map(|number| Ok::<_, io::Error>((number, Guard::running()?.inbox()))).transpose()?;
        tie_to_parent(&mut command, signal, group, confined);
        let child = command.spawn();
        if let (Err(_), Some((number, _))) = (&child, group) {
            number.forget();
        }
        child
    })?
}

/// Makes the child receive `signal` when this thread, which never ends, is gone; that is, when this process is gone.
///
/// Then takes away from it what it is not to have. std changes user and groups before it runs this. The order matters: a
/// change of credentials clears the signal, and what is confined can hardly do anything.
#[expect(
    unsafe_code,
    reason = "the parent-death signal has to be set between fork and exec, which only pre_exec offers"
)]
fn tie_to_parent(
    command: &mut Command,
    signal: Signal,
    group: Option<(Number, BorrowedFd<'static>)>,
    mut confined: Option<Confined>,
) {
    let parent = Pid::from_raw(i32::try_from(std::process::id()).unwrap_or(0));
    // SAFETY: the closure runs after fork in a process of many threads, so it may only do what is async-signal-safe. It
    // makes plain system calls (prctl, getppid, getpid, write, sigaction; setrlimit, capset, landlock_restrict_self, seccomp and
    // close where the child is confined) on values it owns, and neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(signal))?;
            // The parent may have died before the signal was asked for; then it never comes.
            if rustix::process::getppid() != parent {
                return Err(io::Error::from(rustix::io::Errno::SRCH));
            }
            if let Some((number, guard)) = group {
                number.announce(guard)?;
            }
            // Who starts us in the background of a script has us ignore interrupts, and a shell or Terraform would as well.
            for signal in [libc::SIGINT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            if let Some(confined) = &mut confined {
                confined.enter()?;
            }
            Ok(())
        });
    }
}
