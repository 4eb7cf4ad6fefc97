//! System calls, by seccomp (seccomp(2)): the calls that an interpreter needs are allowed, every other one fails with
//! EPERM. A list of what is allowed also holds for calls that newer kernels add.
//!
//! Left out on purpose, because it reaches beyond the process: sockets of every family, fork and new namespaces, ptrace and
//! its like, signals, limits and priorities of other processes, System V and POSIX IPC, keyrings, io_uring, bpf, mounts,
//! chmod and chown by path. memfd_create and shared mappings are left out because such memory counts in neither
//! RLIMIT_DATA nor a file system's size, and fallocate because it takes gigabytes in a millisecond, before anybody can look.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use serde::Serialize;

use super::Profile;

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("the system call filter cannot be built: {0}")]
    Build(#[from] BackendError),
    #[error("the system call filter cannot be installed: {0}")]
    Install(#[from] seccompiler::Error),
    #[error("this processor has no system call filter here; expected x86_64 or aarch64")]
    Processor,
}

/// Whether the kernel takes filters: PR_GET_SECCOMP(2const) fails with EINVAL where it was built without.
pub fn available() -> bool {
    // SAFETY: it takes no argument and changes nothing. Under a filter (a pod's default profile) it gives 2.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) >= 0 }
}

/// Filters the calls of this process from here on, whatever it becomes. `no_new_privs` must be set before. A script's
/// process may become the program whose path is at the address `program`, and no other.
pub fn restrict(profile: Profile, program: u64) -> Result<(), FilterError> {
    for program in programs(profile, std::process::id(), program)? {
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

/// A filter for a process whose id is not known yet.
#[derive(Debug, Serialize)]
pub struct Template {
    /// Array of `struct sock_filter` (seccomp(2)), as hexadecimal digits.
    pub program: String,
    /// Where in it the process's id belongs, in bytes: 32 bits, in this machine's order.
    pub process_ids: Vec<usize>,
}

/// What `restrict` installs, in that order, for a process that installs it itself.
pub fn templates(profile: Profile) -> Result<Vec<Template>, FilterError> {
    // The id's places are where the programs for two ids differ.
    let (one, other) = (programs(profile, 1, 0)?, programs(profile, 2, 0)?);
    let template = |(one, other): (&BpfProgram, &BpfProgram)| Template {
        program: one.iter().flat_map(bytes).map(hexadecimal).collect(),
        process_ids: (0..one.len())
            .filter(|at| one[*at].k != other[*at].k)
            .map(|at| at * INSTRUCTION_BYTES + ID_OFFSET)
            .collect(),
    };
    Ok(one.iter().zip(&other).map(template).collect())
}

/// Of `struct sock_filter`: code (16 bits), two jumps (8 each), and k (32), which is what an argument is compared with.
const INSTRUCTION_BYTES: usize = 8;
const ID_OFFSET: usize = 4;

fn bytes(instruction: &seccompiler::sock_filter) -> [u8; INSTRUCTION_BYTES] {
    let mut bytes = [0; INSTRUCTION_BYTES];
    bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
    bytes[2] = instruction.jt;
    bytes[3] = instruction.jf;
    bytes[ID_OFFSET..].copy_from_slice(&instruction.k.to_ne_bytes());
    bytes
}

fn hexadecimal(byte: u8) -> String {
    format!("{byte:02x}")
}

fn programs(profile: Profile, own: u32, program: u64) -> Result<[BpfProgram; 2], FilterError> {
    let architecture =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|_| FilterError::Processor)?;
    // The kernel obeys the strictest of all filters. clone3's flags are behind a pointer, which a filter cannot read:
    // "no such call" makes the C library use clone instead, where "not permitted" would make it give up.
    let unknown = SeccompFilter::new(
        [(libc::SYS_clone3, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        architecture,
    )?;
    let allowed = SeccompFilter::new(
        allowed(profile, own, program)?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        architecture,
    )?;
    Ok([unknown.try_into()?, allowed.try_into()?])
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn allowed(profile: Profile, own: u32, program: u64) -> Result<Rules, BackendError> {
    let mut rules: Rules = ALWAYS
        .iter()
        .chain(PROCESSOR)
        .map(|call| (*call, vec![]))
        .collect();
    let own = u64::from(own);

    // Signals to itself, as abort() sends them. kill(0) and kill(-1) would mean others.
    rules.insert(libc::SYS_kill, vec![is(0, own)?]);
    rules.insert(libc::SYS_tgkill, vec![is(0, own)?]);
    // Own limits only, and to look at them: the supervisor sets that of processor time anew for each execution.
    rules.insert(
        libc::SYS_prlimit64,
        vec![without_new_limit(0)?, without_new_limit(own)?],
    );
    rules.insert(libc::SYS_sched_getaffinity, vec![]);
    // F_SETOWN and F_SETSIG would make the kernel send a signal of choice to another process (fcntl(2)).
    rules.insert(libc::SYS_fcntl, any_of(1, &FCNTL)?);
    rules.insert(libc::SYS_ioctl, any_of(1, &IOCTL)?);
    rules.insert(libc::SYS_prctl, any_of(0, &PRCTL)?);
    // Of an open file only: by path it would reach what Landlock does not guard.
    rules.insert(libc::SYS_utimensat, vec![is_pointer(1, 0)?]);
    match profile {
        Profile::Script | Profile::Forked => {
            // Threads, not processes. In their sum no namespace flag can pass: the kernel refuses CLONE_THREAD with one.
            rules.insert(
                libc::SYS_clone,
                vec![has(
                    0,
                    libc::CLONE_THREAD as u64,
                    libc::CLONE_THREAD as u64,
                )?],
            );
            rules.insert(
                libc::SYS_mmap,
                vec![SeccompRule::new(vec![SeccompCondition::new(
                    3,
                    SeccompCmpArgLen::Qword,
                    SeccompCmpOp::MaskedEq(!MMAP),
                    libc::MAP_PRIVATE as u64,
                )?])?],
            );
        }
        Profile::Compiler => {
            rules.insert(libc::SYS_clone, vec![has(0, NAMESPACES, 0)?]);
            rules.insert(libc::SYS_mmap, vec![]);
            rules.insert(libc::SYS_execve, vec![]);
            // Rust's standard library waits on one for a child's execve. A pair has no name, so it reaches nobody.
            rules.insert(libc::SYS_socketpair, vec![is(0, libc::AF_UNIX as u64)?]);
            rules.extend(COMPILER.iter().map(|call| (*call, vec![])));
        }
    }
    if profile == Profile::Script {
        // The way into its own program. Where the path was in memory, and that alone is compared, is nobody's knowledge
        // when that program runs (sandbox.rs).
        rules.insert(libc::SYS_execve, vec![is_pointer(0, program)?]);
    }
    Ok(rules)
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    // The kernel takes these arguments as 32-bit integers; the upper half must not make a difference.
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?])
}

fn is(argument: u8, value: u64) -> Result<SeccompRule, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

/// prlimit(2) of this process, its second argument without new limits.
fn without_new_limit(process: u64) -> Result<SeccompRule, BackendError> {
    let equals =
        |argument, length, value| SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value);
    SeccompRule::new(vec![
        equals(0, SeccompCmpArgLen::Dword, process)?,
        equals(2, SeccompCmpArgLen::Qword, 0)?,
    ])
}

/// Of an argument that is a pointer: with 32 bits compared, the address 0x1_0000_0000 would pass for 0.
fn is_pointer(argument: u8, value: u64) -> Result<SeccompRule, BackendError> {
    let equals = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![equals])
}

fn has(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(mask), value)
}

fn any_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| is(argument, *value)).collect()
}

const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Flags of a private mapping. MAP_GROWSDOWN is not among them: such memory counts as a stack and not in RLIMIT_DATA. Nor
/// are MAP_HUGETLB, which takes what the node has set aside, and MAP_LOCKED.
const MMAP: u64 = (libc::MAP_FIXED
    | libc::MAP_FIXED_NOREPLACE
    | libc::MAP_ANONYMOUS
    | libc::MAP_NORESERVE
    | libc::MAP_POPULATE
    | libc::MAP_STACK
    | libc::MAP_DENYWRITE
    | libc::MAP_EXECUTABLE) as u64;

const FCNTL: [u64; 14] = [
    libc::F_DUPFD as u64,
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_GETLK as u64,
    libc::F_SETLK as u64,
    libc::F_SETLKW as u64,
    libc::F_OFD_GETLK as u64,
    libc::F_OFD_SETLK as u64,
    libc::F_OFD_SETLKW as u64,
    libc::F_GETPIPE_SZ as u64,
    libc::F_GET_SEALS as u64,
];

/// TIOCGWINSZ and TCGETS: is this a terminal?
const IOCTL: [u64; 6] = [
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TIOCGWINSZ,
];

/// PR_SET_DUMPABLE is not among them: the supervisor reads what its processes hold from /proc.
const PRCTL: [u64; 6] = [
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_SET_VMA as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_CAPBSET_READ as u64,
];

/// What interpreters, the C library and threads call, and scripts in their own folder. Every entry acts on this process or
/// on a file that Landlock has let it open.
const ALWAYS: &[c_long] = &[
    // Files
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_ftruncate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fchmod,
    libc::SYS_flock,
    libc::SYS_umask,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    // Memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    // Threads and the process's own life
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Who am I
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getrusage,
    libc::SYS_getpriority,
    libc::SYS_capget,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // Time and waiting
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_getrandom,
];

/// The older forms of the calls above, which only this processor still has.
#[cfg(target_arch = "x86_64")]
const PROCESSOR: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const PROCESSOR: &[c_long] = &[];

/// What the compiler and the linker call besides.
#[cfg(target_arch = "x86_64")]
const COMPILER: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_fallocate,
    libc::SYS_recvfrom,
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    libc::SYS_sched_setaffinity,
];
#[cfg(not(target_arch = "x86_64"))]
const COMPILER: &[c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_recvfrom,
    libc::SYS_fchmodat,
    libc::SYS_sched_setaffinity,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_beyond_the_process_is_not_allowed() {
        let script = allowed(Profile::Script, 1, 0).unwrap();
        for (name, call) in [
            ("socket", libc::SYS_socket),
            ("socketpair", libc::SYS_socketpair),
            ("connect", libc::SYS_connect),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("ptrace", libc::SYS_ptrace),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("pidfd_open", libc::SYS_pidfd_open),
            ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
            ("tkill", libc::SYS_tkill),
            ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo),
            ("unshare", libc::SYS_unshare),
            ("setns", libc::SYS_setns),
            ("mount", libc::SYS_mount),
            ("setpriority", libc::SYS_setpriority),
            ("setpgid", libc::SYS_setpgid),
            ("setsid", libc::SYS_setsid),
            ("fchmodat", libc::SYS_fchmodat),
            ("truncate", libc::SYS_truncate),
            ("memfd_create", libc::SYS_memfd_create),
            ("fallocate", libc::SYS_fallocate),
            ("execveat", libc::SYS_execveat),
            ("shmget", libc::SYS_shmget),
            ("keyctl", libc::SYS_keyctl),
            ("bpf", libc::SYS_bpf),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ] {
            assert!(!script.contains_key(&call), "{name}");
        }
    }

    #[test]
    fn a_forked_process_starts_no_program() {
        let mut script = allowed(Profile::Script, 1, 0).unwrap();
        assert!(script.remove(&libc::SYS_execve).is_some());
        let forked = allowed(Profile::Forked, 1, 0).unwrap();
        assert!(forked.keys().eq(script.keys()));
    }

    #[test]
    fn the_filters_fit_into_the_kernel() {
        // BPF_MAXINSNS, bpf_common.h
        for profile in [Profile::Script, Profile::Forked, Profile::Compiler] {
            for program in programs(profile, 1, 1 << 40).unwrap() {
                assert!(program.len() < 4096);
            }
        }
    }

    #[test]
    fn a_template_becomes_the_filter_of_a_process() {
        for own in [3u32, 0x0102_0304] {
            let programs = programs(Profile::Forked, own, 0).unwrap();
            for (template, program) in templates(Profile::Forked).unwrap().iter().zip(programs) {
                let expected: Vec<u8> = program.iter().flat_map(bytes).collect();
                let mut made: Vec<u8> = (0..template.program.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&template.program[at..at + 2], 16).unwrap())
                    .collect();
                for at in &template.process_ids {
                    made[*at..*at + 4].copy_from_slice(&own.to_ne_bytes());
                }
                assert_eq!(made, expected);
            }
        }
        // kill, tgkill, prlimit
        assert_eq!(templates(Profile::Forked).unwrap()[1].process_ids.len(), 3);
    }
}
