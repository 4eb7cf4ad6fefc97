//! `lambda-runtime sandbox TOKEN SPEC`: a process that the supervisor starts, which confines itself by SPEC and then becomes
//! the program named there. It is a step of its own because confining is a matter of a dozen calls that allocate and can
//! fail: after fork(2) in a process with threads, only async-signal-safe functions may be called (signal-safety(7)).
//!
//! Where it fails it says so with TOKEN, which the program never learns: what a script prints cannot be taken for it.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use crate::isolation::{Profile, filesystem, syscalls};
use crate::limits::ProcessLimits;
use crate::random;

/// Exit status of a sandbox that could not be set up; env(1) uses it for its own failures too.
pub const FAILED: u8 = 125;

/// Priority of scripts and compilers (setpriority(2)): a tenth of the supervisor's weight. The scheduler's autogroup, by
/// session, does nothing in a pod's cgroup.
pub const NICE: i32 = 10;
/// That of an execution that takes long: a seventh of what others have, so that a caller who keeps the processor busy is hardly
/// felt by those who need little of it.
const LONG_NICE: i32 = 19;

/// Descriptors of a worker: where its job comes from, where its frames go. Its output is its log.
const JOB: i32 = 3;
const FRAMES: i32 = 4;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub confinement: Confinement,
}

/// What a process is left with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confinement {
    pub profile: Profile,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    pub directory: PathBuf,
    pub paths: filesystem::Paths,
    pub limits: ProcessLimits,
    pub require_landlock: bool,
}

/// Lets a process, which leads a group of its own, and all its threads give way to others (setpriority(2)).
pub fn give_way(pid: i32) {
    // SAFETY: it takes three integers. Where the process is gone there is nothing to do.
    unsafe { libc::setpriority(libc::PRIO_PGRP, pid.unsigned_abs(), LONG_NICE) };
}

/// What the log of a process begins with that could not be confined.
pub fn failure_prefix(token: &str) -> String {
    format!("sandbox {token}: ")
}

/// Becomes the program, or says on standard error why not.
pub fn enter(token: Option<OsString>, spec: Option<OsString>) -> ExitCode {
    let text = |argument: Option<OsString>| {
        argument
            .and_then(|text| text.into_string().ok())
            .unwrap_or_default()
    };
    let failure = match serde_json::from_str::<Spec>(&text(spec)) {
        Ok(spec) => become_program(&spec),
        Err(error) => format!("the specification is wrong: {error}"),
    };
    eprintln!("{}{failure}", failure_prefix(&text(token)));
    ExitCode::from(FAILED)
}

/// Returns why not.
fn become_program(spec: &Spec) -> String {
    let texts = |texts: Vec<&OsStr>| -> Result<Vec<CString>, String> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|error| error.to_string());
        texts.into_iter().map(text).collect()
    };
    let variables: Vec<String> = spec
        .confinement
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let arguments = std::iter::once(spec.program.as_os_str())
        .chain(spec.arguments.iter().map(OsStr::new))
        .collect();
    let prepared = texts(arguments).and_then(|arguments| {
        let environment = texts(variables.iter().map(OsStr::new).collect())?;
        let program = out_of_sight(&spec.program).map_err(|error| error.to_string())?;
        confine(&spec.confinement, program as u64)?;
        Ok((program, arguments, environment))
    });
    let (program, arguments, environment) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return failure,
    };
    // SAFETY: the pointers lead to strings that end in 0 and outlive the call, and the lists end in a null pointer.
    unsafe {
        libc::execve(
            program,
            pointers(&arguments).as_ptr(),
            pointers(&environment).as_ptr(),
        )
    };
    format!(
        "cannot start {}: {}",
        spec.program.display(),
        io::Error::last_os_error()
    )
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    let null = std::iter::once(std::ptr::null());
    texts.iter().map(|text| text.as_ptr()).chain(null).collect()
}

/// Puts the path at an address of 2^46 that nobody can know, for the filter lets it alone be executed: so a script, which has
/// this process when the address is gone, can execute nothing. Guessing would take it years of its processor time.
fn out_of_sight(program: &Path) -> io::Result<*const c_char> {
    const PAGE: usize = 4096;
    let path = CString::new(program.as_os_str().as_bytes())?;
    let path = path.as_bytes_with_nul();
    let room = PAGE.checked_sub(path.len());
    let room = room.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    // Kernels of 39 bits refuse what does not fit, and then there are fewer addresses to guess from.
    for bits in [46, 46, 46, 46, 38, 38, 38, 38] {
        let random = usize::from_le_bytes(random::bytes());
        let place = random % (1 << bits) / PAGE * PAGE;
        // SAFETY: with MAP_FIXED_NOREPLACE only memory that nothing uses is taken; it is never given back.
        let page = unsafe {
            libc::mmap(
                place as *mut libc::c_void,
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            continue;
        }
        let offset = usize::from_le_bytes(random::bytes()) % (room + 1);
        // SAFETY: the page is as long as the offset and the path together at least, and nobody else's.
        return Ok(unsafe {
            let at = page.cast::<u8>().add(offset);
            at.copy_from_nonoverlapping(path.as_ptr(), path.len());
            at.cast()
        });
    }
    Err(io::Error::last_os_error())
}

/// images/runtime-python/fork_server.py has the same steps for processes that need no exec.
fn confine(spec: &Confinement, program: u64) -> Result<(), String> {
    let step = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    // A session and a process group of its own: one kill ends it all.
    setsid().map_err(|error| step("setsid", &error))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| step("PR_SET_PDEATHSIG", &error))?;
    // What scripts take is left over by the supervisor, which answers for everybody.
    // SAFETY: it takes three integers.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == -1 {
        return Err(step("setpriority", &io::Error::last_os_error()));
    }
    // Where memory runs out all the same, the kernel is to take the script and not the supervisor (proc_pid_oom_score_adj(5)).
    std::fs::write("/proc/self/oom_score_adj", "1000")
        .map_err(|error| step("oom_score_adj", &error))?;
    arrange_descriptors(spec.profile).map_err(|error| step("descriptors", &error))?;
    std::env::set_current_dir(&spec.directory)
        .map_err(|error| step("the private folder", &error))?;
    spec.limits
        .apply()
        .map_err(|error| step("setrlimit", &error))?;
    prctl::set_no_new_privs().map_err(|error| step("PR_SET_NO_NEW_PRIVS", &error))?;
    let landlock = filesystem::restrict(&spec.paths).map_err(|error| step("Landlock", &error))?;
    if spec.require_landlock && !landlock {
        return Err(
            "Landlock is required (REQUIRE_LANDLOCK) and this kernel does not enforce it".into(),
        );
    }
    syscalls::restrict(spec.profile, program).map_err(|error| error.to_string())?;
    verify(landlock)
}

/// Standard input is the job, standard output takes the frames: both move out of the way of what scripts read and print,
/// which goes to standard error, the log. Nothing else is inherited.
fn arrange_descriptors(profile: Profile) -> io::Result<()> {
    // SAFETY: dup2 on plain numbers; nothing in this process owns descriptors yet.
    let duplicate = |from, to| match unsafe { libc::dup2(from, to) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // The lowest that is free, 3; released here, since all from there on are replaced or closed below.
    let null = std::fs::File::open("/dev/null")?.into_raw_fd();
    let mut first_unused = JOB;
    if profile == Profile::Script {
        duplicate(0, 10)?;
        duplicate(1, FRAMES)?;
        duplicate(null, 0)?;
        duplicate(10, JOB)?;
        first_unused = FRAMES + 1;
    } else {
        duplicate(null, 0)?;
    }
    duplicate(2, 1)?;
    // SAFETY: closes descriptors that nothing here uses any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first_unused, u32::MAX, 0) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tries what must fail. A filter that is installed and does not hold is worse than none that says so.
fn verify(landlock: bool) -> Result<(), String> {
    // SAFETY: plain calls; a descriptor that they gave would be an error, which ends the process.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
    if socket != -1 || io::Error::last_os_error().raw_os_error() != Some(libc::EPERM) {
        return Err("the system call filter is installed and socket() is not refused".into());
    }
    if landlock && std::fs::read_dir("/").is_ok() {
        return Err("Landlock is in force and the root folder can be read".into());
    }
    Ok(())
}
