//! One confined process with its pipes and its folder. Dropping it ends it: everything that it started is killed, it is
//! reaped, and its folder is wiped, whether its caller got an answer, gave up or went away.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tracing::{Instrument, Span};

use crate::places::{Kept, Place};
use crate::random;
use crate::sandbox::{self, Spec};
use crate::scratch::Scratch;
use crate::watch;

/// After so many executions a process makes room for a new one: what libraries leak is bounded by it.
pub const MOST_USES: u32 = 1000;

pub struct Process {
    child: Option<Child>,
    pid: Pid,
    /// What its log begins with where it could not be confined; None for one that was forked.
    unconfined: Option<String>,
    pub pipes: Pipes,
    scratch: Option<Scratch>,
    /// Executions that it has had.
    pub uses: u32,
    /// What it had before its first one; None where it is to have only one.
    pub fresh: Option<Fresh>,
    /// Of the memory that the kernel lets it have, in bytes.
    withheld: u64,
    /// The place among the executions under way, free again when nothing of the process is left.
    slot: Option<Place<Process>>,
}

/// What a process has that has run no script yet.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    pub memory: u64,
    pub threads: u64,
    pub open_files: usize,
}

pub struct Pipes {
    pub job: pipe::Sender,
    pub frames: pipe::Receiver,
    pub log: pipe::Receiver,
}

/// The process's ends of its pipes.
pub struct Ends {
    pub job: OwnedFd,
    pub frames: OwnedFd,
    pub log: OwnedFd,
}

impl Pipes {
    pub fn new() -> io::Result<(Self, Ends)> {
        let (job, job_end) = pipe::pipe()?;
        let (frames_end, frames) = pipe::pipe()?;
        let (log_end, log) = pipe::pipe()?;
        let ends = Ends {
            job: job_end.into_blocking_fd()?,
            frames: frames_end.into_blocking_fd()?,
            log: log_end.into_blocking_fd()?,
        };
        Ok((Self { job, frames, log }, ends))
    }
}

impl Process {
    /// `supervisor` is the executable that the `sandbox` verb belongs to.
    pub fn start(supervisor: &Path, spec: &Spec, scratch: Scratch) -> io::Result<Self> {
        let (pipes, ends) = Pipes::new()?;
        let token = random::name();
        let child = Command::new(supervisor)
            .arg("sandbox")
            .arg(&token)
            .arg(serde_json::to_string(spec)?)
            .env_clear()
            .stdin(ends.job)
            .stdout(ends.frames)
            .stderr(ends.log)
            .spawn()?;
        let pid = i32::try_from(child.id()).expect("process ids are below 2^22");
        let mut process = Self::adopt(Pid::from_raw(pid), pipes, scratch)?;
        process.unconfined = Some(sandbox::failure_prefix(&token));
        Ok(process)
    }

    /// Takes charge of a child of this process that nothing has waited for.
    pub fn adopt(pid: Pid, pipes: Pipes, scratch: Scratch) -> io::Result<Self> {
        let child = Child::new(pid).inspect_err(|_| {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        })?;
        Ok(Self {
            child: Some(child),
            pid,
            unconfined: None,
            pipes,
            scratch: Some(scratch),
            uses: 0,
            fresh: None,
            withheld: 0,
            slot: None,
        })
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub fn folder(&self) -> PathBuf {
        self.scratch
            .as_ref()
            .expect("present until dropped")
            .path()
            .to_owned()
    }

    pub fn scratch(&self) -> &Scratch {
        self.scratch.as_ref().expect("present until dropped")
    }

    /// Stops it: until `go_on` nothing of it runs.
    pub fn stand_still(&self) -> bool {
        kill(self.pid, Signal::SIGSTOP).is_ok()
    }

    /// Allows it so much processor time from now on, of which the kernel reminds it (setrlimit(2), RLIMIT_CPU).
    pub fn allow_processor_time(&self, seconds: u64) -> io::Result<()> {
        let pid = self.pid();
        let used = watch::cpu_time(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        self.limit(libc::RLIMIT_CPU, |_| used.as_secs() + 1 + seconds)
    }

    /// Lets it have so much less private memory than it began with, from now on (setrlimit(2), RLIMIT_DATA).
    pub fn withhold_memory(&mut self, bytes: u64) -> io::Result<()> {
        if bytes != self.withheld {
            self.limit(libc::RLIMIT_DATA, |most| most.saturating_sub(bytes))?;
            self.withheld = bytes;
        }
        Ok(())
    }

    /// Sets a soft limit, of the hard one.
    fn limit(
        &self,
        resource: libc::__rlimit_resource_t,
        soft: impl FnOnce(u64) -> u64,
    ) -> io::Result<()> {
        let pid = self.pid();
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: both pointers lead to one structure of this function, or nowhere.
        let answer = unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit) };
        if answer == -1 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = soft(limit.rlim_max);
        // SAFETY: as above.
        match unsafe { libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Its place, for whom it goes to next.
    pub fn leave(&mut self) -> Option<Place<Process>> {
        self.slot.take()
    }

    pub fn occupy(&mut self, slot: Place<Process>) {
        self.slot = Some(slot);
    }

    /// Why the process was not confined, where its log says so: then nothing of a caller's has run in it.
    pub fn refusal<'a>(&self, log: &'a str) -> Option<&'a str> {
        log.strip_prefix(self.unconfined.as_deref()?)
    }

    /// What such a log begins with.
    pub fn refusal_prefix(&self) -> Option<&str> {
        self.unconfined.as_deref()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub async fn exit(&mut self) -> io::Result<ExitStatus> {
        self.child
            .as_mut()
            .expect("present until dropped")
            .wait()
            .await
    }
}

impl Kept for Process {
    fn wake(&mut self) -> bool {
        self.is_alive() && kill(self.pid, Signal::SIGCONT).is_ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = self.pid;
        // Both: the group exists only after the process has made its session, the first thing that it does.
        let _ = killpg(pid, Signal::SIGKILL);
        if child.status.is_none() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let (scratch, slot) = (self.scratch.take(), self.slot.take());
        let Ok(tokio) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // Of the execution that ends with it, where one does.
        let span = Span::current();
        let wiped = span.clone();
        let end = async move {
            let _ = child.wait().await;
            reap_group(pid).await;
            let wipe = tokio::task::spawn_blocking(move || wiped.in_scope(|| drop(scratch)));
            if let Err(error) = wipe.await {
                tracing::error!(%error, "wiping a private folder failed");
            }
            drop(slot);
        };
        tokio.spawn(end.instrument(span));
    }
}

/// A child process, whoever forked it: tokio's own type is only for those that it has started itself.
struct Child {
    pid: Pid,
    /// Readable when the process has ended (pidfd_open(2)).
    ended: AsyncFd<OwnedFd>,
    /// Once it was waited for; from then on the id may be another process's.
    status: Option<ExitStatus>,
}

impl Child {
    fn new(pid: Pid) -> io::Result<Self> {
        // SAFETY: takes two integers, gives a descriptor that nobody else owns; close-on-exec by itself.
        let ended = unsafe {
            match libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) {
                -1 => return Err(io::Error::last_os_error()),
                descriptor => OwnedFd::from_raw_fd(descriptor as i32),
            }
        };
        Ok(Self {
            pid,
            // SAFETY: an OwnedFd is one descriptor, open for as long as it lives.
            ended: unsafe { AsyncFd::register_with_interest(ended, Interest::READABLE)? },
            status: None,
        })
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = reap(self.pid)?;
        }
        Ok(self.status)
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            let mut ready = self.ended.readable().await?;
            if let Some(status) = reap(self.pid)? {
                self.status = Some(status);
                return Ok(status);
            }
            ready.clear_ready();
        }
    }
}

/// The status of a child that has ended; None while it runs.
fn reap(pid: Pid) -> io::Result<Option<ExitStatus>> {
    let mut status = 0;
    // SAFETY: writes one integer.
    match unsafe { libc::waitpid(pid.as_raw(), &mut status, libc::WNOHANG) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(ExitStatus::from_raw(status))),
    }
}

/// Reaps what the process left behind in its group: the supervisor is the subreaper, so orphans become its children. They
/// cannot leave the group, as the filter refuses setsid and setpgid.
async fn reap_group(group: Pid) {
    loop {
        match waitpid(Pid::from_raw(-group.as_raw()), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
