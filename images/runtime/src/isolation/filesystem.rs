//! Files, by Landlock (landlock(7)): a process sees what its interpreter needs and its own folder, nothing else.
//!
//! Landlock leaves stat(2), chdir(2) and readlink(2) alone: names and sizes can be probed, so names that matter are
//! random. What else it leaves alone (chmod, chown, utime, setxattr by path) the seccomp filter refuses.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

/// The newest ABI whose rights are known here; the kernel's own may be older, then what it has is used.
const KNOWN: ABI = ABI::V6;

/// Paths by what may be done beneath them. Those that do not exist are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Paths {
    /// Read, and run as a program: the interpreter with its libraries.
    pub execute: Vec<PathBuf>,
    pub read: Vec<PathBuf>,
    /// Anything that a program does with its own folder, except devices and sockets.
    pub own: Vec<PathBuf>,
    /// Write to a file that exists: /dev/null.
    pub write: Vec<PathBuf>,
    /// Read what /proc says of the process itself, as far as `OWN_PROCESS` names it.
    pub own_process: bool,
}

/// What interpreters look up of themselves: where their stack is, and how much memory they take. The rest of /proc/self
/// tells of the node: net of its pods, mountinfo and cgroup of what they are.
pub const OWN_PROCESS: [&str; 4] = ["maps", "stat", "statm", "status"];

/// The kernel's Landlock ABI, 0 where it has none (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION).
pub fn abi() -> u32 {
    // SAFETY: with this flag, no attribute is read.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            1u32,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Restricts this thread, and so what it becomes by execve(2). Gives whether the kernel enforces it.
pub fn restrict(paths: &Paths) -> Result<bool, RulesetError> {
    let mut ruleset = ruleset(paths)?;
    if paths.own_process {
        let own = OWN_PROCESS.map(|name| PathBuf::from("/proc/self").join(name));
        ruleset = allow(ruleset, &own, read())?;
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// The rules for another process, which takes them on by landlock_restrict_self(2). None where the kernel has no Landlock.
/// That process's own folder in /proc is not among them: only there has it the name /proc/self.
pub fn descriptor(paths: &Paths) -> Result<Option<OwnedFd>, RulesetError> {
    Ok(ruleset(paths)?.into())
}

/// The right to read a file, by the kernel's numbers, for rules that another process adds.
pub fn read_bits() -> u64 {
    BitFlags::from(AccessFs::ReadFile).bits()
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::from_read(KNOWN) & !AccessFs::Execute
}

fn ruleset(paths: &Paths) -> Result<RulesetCreated, RulesetError> {
    let read = read();
    let own = AccessFs::from_all(KNOWN)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock)
        & !(AccessFs::MakeSock | AccessFs::MakeFifo | AccessFs::IoctlDev);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        // No port is ever allowed; seccomp refuses the socket itself before.
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let ruleset = allow(ruleset, &paths.execute, read | AccessFs::Execute)?;
    let ruleset = allow(ruleset, &paths.read, read)?;
    let ruleset = allow(ruleset, &paths.own, own)?;
    allow(
        ruleset,
        &paths.write,
        AccessFs::WriteFile | AccessFs::ReadFile,
    )
}

fn allow(
    mut ruleset: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        let Ok(descriptor) = PathFd::new(path) else {
            continue;
        };
        let access = if path.is_dir() {
            access
        } else {
            access & AccessFs::from_file(KNOWN)
        };
        ruleset = ruleset.add_rule(PathBeneath::new(descriptor, access))?;
    }
    Ok(ruleset)
}
