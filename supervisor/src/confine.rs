//! Taking away from a child what it has no business with.
//!
//! Terraform, its providers and modules are code of strangers. A confined child reads and writes only what is named to
//! it, connects only to the ports that are named, leaves its process group never, and has no rights of root even where it
//! runs as root. Its own children are confined with it.
//!
//! The kernel's Landlock does files and TCP, a seccomp filter does what Landlock has no word for. Both last for ever. An
//! older kernel knows less of the first: [`missing_confinement`] says what, and [`unconfined`] what is left even so.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// The newest Landlock that is made use of: what it can do is asked for, and left out where the kernel has less.
const WANTED: ABI = ABI::V9;

/// What Landlock keeps inside the child's own domain. Not signals: it takes asking whether a process lives for one, and
/// Terraform asks that every second of the process that serves a provider, and gives up where it gets no answer. The
/// filter of calls tells the two apart.
const SCOPE: Scope = Scope::AbstractUnixSocket;

/// What a confined child may touch; nothing else.
#[derive(Debug, Clone)]
pub struct Confinement {
    read: Vec<PathBuf>,
    run: Vec<PathBuf>,
    write: Vec<PathBuf>,
    talk: Vec<PathBuf>,
    listen: Vec<PathBuf>,
    connect: Vec<u16>,
    file_bytes: u64,
    open_files: u64,
    alone: bool,
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            read: Vec::new(),
            run: Vec::new(),
            write: Vec::new(),
            talk: Vec::new(),
            listen: Vec::new(),
            connect: Vec::new(),
            file_bytes: 1 << 30,
            open_files: 1024,
            alone: false,
        }
    }
}

impl Confinement {
    /// A file, or a folder with all that is in it, that the child may read. What is not there is left out.
    #[must_use]
    pub fn read(mut self, path: impl AsRef<Path>) -> Self {
        self.read.push(path.as_ref().to_owned());
        self
    }

    /// A program, or a folder of programs, that the child may read and execute.
    #[must_use]
    pub fn run(mut self, path: impl AsRef<Path>) -> Self {
        self.run.push(path.as_ref().to_owned());
        self
    }

    /// A file, or a folder with all that is in it, that the child may read and change. It executes nothing in there.
    #[must_use]
    pub fn write(mut self, path: impl AsRef<Path>) -> Self {
        self.write.push(path.as_ref().to_owned());
        self
    }

    /// A socket with a path, or a folder of them, that the child may connect to. Kernels before 7.1 let it connect to any
    /// that its user may.
    #[must_use]
    pub fn talk(mut self, path: impl AsRef<Path>) -> Self {
        self.talk.push(path.as_ref().to_owned());
        self
    }

    /// A folder in which the child may make and remove sockets with a path, and nothing else.
    #[must_use]
    pub fn listen(mut self, path: impl AsRef<Path>) -> Self {
        self.listen.push(path.as_ref().to_owned());
        self
    }

    /// The child is one process with its threads: it starts no other.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// A TCP port that the child may connect to, whatever the address.
    #[must_use]
    pub fn connect(mut self, port: u16) -> Self {
        self.connect.push(port);
        self
    }

    /// The largest file it may write, in bytes: 1 GiB unless told otherwise.
    #[must_use]
    pub fn file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }
}

/// What this kernel cannot take away from a child, a sentence each; empty when it can take away all.
pub fn missing_confinement() -> Vec<&'static str> {
    let has = |abi: ABI| {
        let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let asked = match abi {
            ABI::V1 => strict.handle_access(AccessFs::from_all(ABI::V1)),
            ABI::V4 => strict.handle_access(AccessNet::from_all(ABI::V4)),
            _ => strict.scope(SCOPE),
        };
        asked.and_then(Ruleset::create).is_ok()
    };
    let wanted = [
        (ABI::V1, "files: the kernel has no Landlock (5.13, and `lsm=landlock` at boot)"),
        (ABI::V4, "TCP ports: the kernel's Landlock knows no network (6.7)"),
        (ABI::V6, "abstract sockets: the kernel's Landlock knows no scopes (6.12)"),
    ];
    wanted.into_iter().filter(|(abi, _)| !has(*abi)).map(|(_, what)| what).collect()
}

/// What confined children keep on this kernel although nothing of it is missing here: no kernel can take it away that most
/// machines have. A sentence each, for who runs the machine.
pub fn unconfined() -> Vec<&'static str> {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let asked = strict.handle_access(AccessFs::ResolveUnix).and_then(Ruleset::create);
    let sockets = "sockets with a path: Terraform and its providers reach those that this user may use (as of a container \
                   engine or an agent), because Landlock refuses them from kernel 7.1 on; run executors as a user of \
                   their own";
    if asked.is_ok() { Vec::new() } else { vec![sockets] }
}

/// A confinement made ready, so that nothing has to be allocated between fork and exec.
pub(crate) struct Confined {
    ruleset: Option<RulesetCreated>,
    filters: [BpfProgram; 2],
    limits: [(Resource, u64); 3],
}

impl Confined {
    pub(crate) fn prepare(asked: &Confinement) -> io::Result<Self> {
        Ok(Self {
            ruleset: Some(ruleset(asked).map_err(io::Error::other)?),
            filters: filters(asked.alone, !asked.listen.is_empty()).map_err(io::Error::other)?,
            limits: [
                (Resource::Core, 0),
                (Resource::Fsize, asked.file_bytes),
                (Resource::Nofile, asked.open_files),
            ],
        })
    }

    /// Confines this process. Called between fork and exec: it makes system calls only.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let failed = || io::Error::from(io::ErrorKind::PermissionDenied);
        for (resource, limit) in self.limits {
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        let ruleset = self.ruleset.take().ok_or_else(failed)?;
        // It also forbids new privileges, so that no program gives back what is dropped next.
        ruleset.restrict_self().map_err(|_| failed())?;
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        for filter in &self.filters {
            seccompiler::apply_filter(filter).map_err(|_| failed())?;
        }
        Ok(())
    }
}

fn ruleset(asked: &Confinement) -> Result<RulesetCreated, landlock::RulesetError> {
    let all = AccessFs::from_all(WANTED);
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(SCOPE)?
        .create()?;
    let named = [
        (&asked.read, reading),
        (&asked.run, reading | AccessFs::Execute),
        (&asked.write, all & !AccessFs::Execute & !AccessFs::IoctlDev),
        (&asked.talk, AccessFs::ResolveUnix.into()),
        (&asked.listen, AccessFs::MakeSock | AccessFs::RemoveFile),
    ];
    for (paths, access) in named {
        for path in paths {
            let Ok(opened) = PathFd::new(path) else { continue };
            // A file has no rights of a folder.
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
            ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    for port in &asked.connect {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset)
}

/// Requests that name who gets a file's signals.
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;

/// Calls that no confined child makes.
const REFUSED: [i64; 75] = [
    // Leaving the process group, which is what ends it.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    // Other namespaces and roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Files that have no path, and so no rule.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    // Ways around a filter of calls.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // The kernel and the machine.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Rights and limits of its own.
    libc::SYS_capset,
    libc::SYS_setrlimit,
    // Rights and owners of files by their path, of which Landlock knows nothing.
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
    SYS_FILE_SETATTR,
    // Memory and queues that belong to nobody, and stay.
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // Who gets how much of the machine.
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_migrate_pages,
];

/// Calls that are newer than their names in `libc`.
const SYS_SETXATTRAT: i64 = 463;
const SYS_REMOVEXATTRAT: i64 = 466;
const SYS_FILE_SETATTR: i64 = 469;

/// The same calls under older numbers, which not every machine has.
#[cfg(target_arch = "x86_64")]
const REFUSED_OLDER: [i64; 5] =
    [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_iopl, libc::SYS_ioperm];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLDER: [i64; 0] = [];

/// Calls that make another process and no thread, besides `clone`.
#[cfg(target_arch = "x86_64")]
const NEW_PROCESSES: [i64; 2] = [libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const NEW_PROCESSES: [i64; 0] = [];

/// The filters: one answers that a call is not permitted, the other that the kernel has none.
fn filters(alone: bool, listens: bool) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let calls = REFUSED.into_iter().chain(REFUSED_OLDER);
    let calls = calls.chain(NEW_PROCESSES.into_iter().filter(|_| alone));
    // Landlock sees a port that is listened on when it is bound only; one that never was gets a free one.
    let calls = calls.chain((!listens).then_some(libc::SYS_listen));
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (call, Vec::new())).collect();
    refused.insert(libc::SYS_socket, sockets()?);
    refused.extend(signals()?);
    refused.extend(sending()?);
    let new_user = value(libc::CLONE_NEWUSER);
    let mut clones = vec![SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(new_user), new_user)?])?];
    if alone {
        let thread = value(libc::CLONE_THREAD);
        clones.push(SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(thread), 0)?])?);
    }
    refused.insert(libc::SYS_clone, clones);
    // Limits are read, never set: the third argument is where the new ones are.
    let given = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    refused.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![given])?]);
    // Its flags are behind a pointer. Without it everybody takes the older call.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let program = |rules, errno: i32| {
        let answer = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
        SeccompFilter::new(rules, SeccompAction::Allow, answer, std::env::consts::ARCH.try_into()?)?
            .try_into()
    };
    let [refused, unknown]: [BpfProgram; 2] =
        [program(refused, libc::EPERM)?, program(unknown, libc::ENOSYS)?];
    Ok([native().into_iter().chain(refused).collect(), unknown])
}

/// Answers to the calls of the machine's other kinds of program that the kernel has none: on x86-64 they are numbered from
/// here on, and mean the same.
#[cfg(target_arch = "x86_64")]
fn native() -> Vec<sock_filter> {
    const OTHERS: u32 = 0x4000_0000;
    const ANSWER_NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![step(0x20, 0, 0, 0), step(0x35, 0, 1, OTHERS), step(0x06, 0, 0, ANSWER_NO_SUCH_CALL)]
}
#[cfg(not(target_arch = "x86_64"))]
fn native() -> Vec<sock_filter> {
    Vec::new()
}

/// Ways of sending that are refused: one that connects without asking whether it may, and local datagrams, which name
/// somebody's socket each.
fn sending() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let connects = value(libc::MSG_FASTOPEN);
    let rule = |flags| SeccompRule::new(vec![condition(flags, SeccompCmpOp::MaskedEq(connects), connects)?]);
    let datagrams = condition(1, SeccompCmpOp::MaskedEq(0xf), value(libc::SOCK_DGRAM))?;
    Ok(BTreeMap::from([
        (libc::SYS_sendto, vec![rule(3)?]),
        (libc::SYS_sendmsg, vec![rule(2)?]),
        (libc::SYS_sendmmsg, vec![rule(3)?]),
        (libc::SYS_socketpair, vec![SeccompRule::new(vec![datagrams])?]),
    ]))
}

/// Signals that are refused: all to anybody, but for asking whether a process is there (which is signal 0), and for the one
/// with which Go stops its own threads and which everybody else ignores. Having the kernel send one counts as well.
fn signals() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    const SET_SIGNAL: i32 = 10;
    const SET_OWNER_BY_KIND: i32 = 15;
    let sent = |argument| condition(argument, SeccompCmpOp::Ne, 0);
    let to_a_thread = SeccompRule::new(vec![sent(2)?, condition(2, SeccompCmpOp::Ne, value(libc::SIGURG))?])?;
    let one_of = |commands: &[u64]| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let rule = |command: &u64| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, *command)?]);
        commands.iter().map(rule).collect()
    };
    Ok(BTreeMap::from([
        (libc::SYS_kill, vec![SeccompRule::new(vec![sent(1)?])?]),
        (libc::SYS_tkill, vec![SeccompRule::new(vec![sent(1)?])?]),
        (libc::SYS_tgkill, vec![to_a_thread]),
        (libc::SYS_rt_sigqueueinfo, vec![SeccompRule::new(vec![sent(1)?])?]),
        (libc::SYS_rt_tgsigqueueinfo, vec![SeccompRule::new(vec![sent(2)?])?]),
        (libc::SYS_pidfd_send_signal, vec![SeccompRule::new(vec![sent(1)?])?]),
        (libc::SYS_fcntl, one_of(&[libc::F_SETOWN, SET_SIGNAL, SET_OWNER_BY_KIND].map(value))?),
        (libc::SYS_ioctl, one_of(&[FIOSETOWN, SIOCSPGRP])?),
    ]))
}

/// Sockets that are refused: everything but TCP and streams inside this machine. Landlock knows the ports of TCP only.
fn sockets() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    /// The bits of a socket's type that are not flags.
    const KIND: u64 = 0xf;
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let mut rules = vec![SeccompRule::new(
        families
            .iter()
            .map(|family| condition(0, SeccompCmpOp::Ne, value(*family)))
            .collect::<Result<_, _>>()?,
    )?];
    for kind in 0..=KIND {
        if kind != value(libc::SOCK_STREAM) {
            rules.push(SeccompRule::new(vec![condition(1, SeccompCmpOp::MaskedEq(KIND), kind)?])?);
        }
    }
    // A stream of another protocol than TCP, which the rules about ports may not know.
    let other = [0, value(libc::IPPROTO_TCP)].map(|protocol| condition(2, SeccompCmpOp::Ne, protocol));
    let other = other.into_iter().collect::<Result<_, _>>()?;
    rules.push(SeccompRule::new(other)?);
    Ok(rules)
}

/// What an `int` is compared with; its upper half is not looked at.
fn condition(
    argument: u8,
    compared: SeccompCmpOp,
    with: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compared, with)
}

fn value(constant: i32) -> u64 {
    u64::try_from(constant).unwrap_or_default()
}
