//! The description of a child process.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::{Child, Confinement, Result, User};

/// A program to start, and how it ends.
///
/// The environment is empty except for what is given here, standard input is empty, and output goes nowhere unless a log
/// is named. When this process ends for any reason, the child receives its death signal.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) user: Option<User>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) stdin: Option<PathBuf>,
    pub(crate) death_signal: Signal,
    pub(crate) stop_signal: Signal,
    pub(crate) process_group: bool,
    pub(crate) piped: bool,
    pub(crate) confinement: Option<Confinement>,
}

impl ChildSpec {
    /// A program by its path. A bare name is looked up in the `PATH` given with [`env`](Self::env), so prefer a full path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            log: None,
            stdin: None,
            death_signal: Signal::KILL,
            stop_signal: Signal::TERM,
            process_group: false,
            piped: false,
            confinement: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the otherwise empty environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets variables; `std::env::vars_os()` hands on this process's own environment.
    #[must_use]
    pub fn envs(mut self, vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.env.extend(
            vars.into_iter().map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())),
        );
        self
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl AsRef<Path>) -> Self {
        self.cwd = Some(cwd.as_ref().to_owned());
        self
    }

    /// Runs as another user, without supplementary groups. Only root can.
    #[must_use]
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Appends standard error, and standard output unless [`piped`](Self::piped), to a file (mode 0600).
    #[must_use]
    pub fn log(mut self, log: impl AsRef<Path>) -> Self {
        self.log = Some(log.as_ref().to_owned());
        self
    }

    /// Reads standard input from a file.
    #[must_use]
    pub fn stdin(mut self, file: impl AsRef<Path>) -> Self {
        self.stdin = Some(file.as_ref().to_owned());
        self
    }

    /// The signal the child receives when this process is gone or the [`Child`] is dropped: SIGKILL unless told otherwise.
    #[must_use]
    pub fn death_signal(mut self, signal: Signal) -> Self {
        self.death_signal = signal;
        self
    }

    /// The signal that asks the child to end, in [`Child::stop`]: SIGTERM unless told otherwise.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Gives the child a process group of its own. All signals then go to the group, and nothing of the group outlives the
    /// child itself or this process.
    #[must_use]
    pub fn process_group(mut self) -> Self {
        self.process_group = true;
        self
    }

    /// Hands standard output to [`Child::lines`] and not to the log. Read it: a child blocks on a full pipe.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Takes away everything from the program that this does not name.
    #[must_use]
    pub fn confined(mut self, confinement: Confinement) -> Self {
        self.confinement = Some(confinement);
        self
    }

    /// Starts the program. Needs no async runtime.
    pub fn spawn(&self) -> Result<Child> {
        Child::spawn(self)
    }
}
