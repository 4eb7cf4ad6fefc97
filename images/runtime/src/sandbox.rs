//! `lambda-runtime sandbox SPEC`: a process that the supervisor starts, which confines itself by SPEC and then becomes the
//! program named there. It is a step of its own because confining is a matter of a dozen calls that allocate and can fail:
//! after fork(2) in a process with threads, only async-signal-safe functions may be called (signal-safety(7)).

use std::ffi::OsString;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use crate::isolation::{Profile, filesystem, syscalls};
use crate::limits::ProcessLimits;

/// Exit status of a sandbox that could not be set up; env(1) uses it for its own failures too.
pub const FAILED: u8 = 125;

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

/// Becomes the program, or says on standard error why not.
pub fn enter(spec: Option<OsString>) -> ExitCode {
    let text = spec
        .and_then(|text| text.into_string().ok())
        .unwrap_or_default();
    let failure = match serde_json::from_str::<Spec>(&text) {
        Ok(spec) => match confine(&spec.confinement) {
            Ok(()) => format!(
                "cannot start {}: {}",
                spec.program.display(),
                program(&spec).exec()
            ),
            Err(failure) => failure,
        },
        Err(error) => format!("the specification is wrong: {error}"),
    };
    eprintln!("sandbox: {failure}");
    ExitCode::from(FAILED)
}

fn program(spec: &Spec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.arguments)
        .env_clear()
        .envs(spec.confinement.environment.iter().cloned());
    command
}

/// images/runtime-python/fork_server.py has the same steps for processes that need no exec.
fn confine(spec: &Confinement) -> Result<(), String> {
    let step = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    // A session and a process group of its own: one kill ends it all, and the scheduler's autogroup (sched(7)) shares the
    // processor by session.
    setsid().map_err(|error| step("setsid", &error))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| step("PR_SET_PDEATHSIG", &error))?;
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
    syscalls::restrict(spec.profile).map_err(|error| error.to_string())?;
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
