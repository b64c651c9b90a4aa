//! The process that ends process groups when this process is gone.
//!
//! The parent-death signal reaches a child and not the child's own children: a killed supervisor would leave, say,
//! Terraform's providers at work. So one small shell outside all groups knows every group alive, and kills them when its
//! standard input ends, which is when this process has ended, however it did.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// `+ 7 1234` adds group 1234 under number 7, `- 7` takes it out. Interrupts are ignored, so that a Ctrl-C in the terminal
/// leaves the guard until its parent has really ended.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
groups=' '
while read -r op number group; do
  case $op in
    +) groups="$groups$number:$group " ;;
    -) case $groups in *" $number:"*)
         rest="${groups#*" $number:"}"
         groups="${groups%%" $number:"*} ${rest#* }" ;;
       esac ;;
  esac
done
for group in $groups; do kill -s KILL -- "-${group#*:}"; done
"#;

#[derive(Debug)]
pub(crate) struct Guard {
    inbox: ChildStdin,
    shell: Mutex<Child>,
}

static GUARD: Mutex<Option<&'static Guard>> = Mutex::new(None);

impl Guard {
    /// The guard of this process. One that somebody has killed is replaced; groups older than that lose their guard.
    pub(crate) fn running() -> io::Result<&'static Self> {
        let mut current = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = current.filter(|guard| guard.is_alive()) {
            return Ok(guard);
        }
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let inbox = shell.stdin.take().ok_or_else(|| io::Error::other("the guard has no standard input"))?;
        // Never freed: children between fork and exec use its pipe by number.
        let guard: &'static Self = Box::leak(Box::new(Self { inbox, shell: Mutex::new(shell) }));
        *current = Some(guard);
        Ok(guard)
    }

    /// Where groups are announced.
    pub(crate) fn inbox(&'static self) -> BorrowedFd<'static> {
        self.inbox.as_fd()
    }

    fn is_alive(&self) -> bool {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(shell.try_wait(), Ok(None))
    }
}

/// The name of a group before its process exists: the guard can be told to forget a group whose number nobody learned,
/// because its program could not be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(u64);

impl Number {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds the calling process's own group. Runs between fork and exec: no allocation. A line this short is written whole.
    ///
    /// The child says it itself, so that no moment exists in which a group runs unknown to the guard.
    pub(crate) fn announce(self, inbox: BorrowedFd<'_>) -> io::Result<()> {
        let mut line = [0_u8; 48];
        let length = line.len();
        let mut rest = &mut line[..];
        writeln!(rest, "+ {} {}", self.0, rustix::process::getpid().as_raw_nonzero())?;
        let unused = rest.len();
        rustix::io::write(inbox, &line[..length - unused])?;
        Ok(())
    }

    /// Takes the group out. Call it while the group's leader is not reaped: until then its process id is not given again.
    pub(crate) fn forget(self) {
        let guard = *GUARD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guard {
            // If the guard is gone there is nothing to take the group out of.
            let _ = (&guard.inbox).write_all(format!("- {}\n", self.0).as_bytes());
        }
    }
}
