//! One confined process with its pipes and its folder. Dropping it ends it: everything that it started is killed, it is
//! reaped, and its folder is wiped, whether its caller got an answer, gave up or went away.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::OwnedSemaphorePermit;

use crate::sandbox::Spec;
use crate::scratch::Scratch;

pub struct Process {
    child: Option<Child>,
    pid: Pid,
    pub pipes: Pipes,
    scratch: Option<Scratch>,
    /// The place among the executions under way, free again when nothing of the process is left.
    slot: Option<OwnedSemaphorePermit>,
}

pub struct Pipes {
    pub job: ChildStdin,
    pub frames: ChildStdout,
    pub log: ChildStderr,
}

impl Process {
    /// `supervisor` is the executable that the `sandbox` verb belongs to.
    pub fn start(supervisor: &Path, spec: &Spec, scratch: Scratch) -> io::Result<Self> {
        let mut child = Command::new(supervisor)
            .arg("sandbox")
            .arg(serde_json::to_string(spec)?)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .expect("a child that was not waited for");
        let pipes = Pipes {
            job: child.stdin.take().expect("piped"),
            frames: child.stdout.take().expect("piped"),
            log: child.stderr.take().expect("piped"),
        };
        Ok(Self {
            child: Some(child),
            pid: Pid::from_raw(pid),
            pipes,
            scratch: Some(scratch),
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

    pub fn occupy(&mut self, slot: OwnedSemaphorePermit) {
        self.slot = Some(slot);
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

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = self.pid;
        // Both: the group exists only after the process has made its session, the first thing that it does.
        let _ = killpg(pid, Signal::SIGKILL);
        if child.id().is_some() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let (scratch, slot) = (self.scratch.take(), self.slot.take());
        let Ok(tokio) = tokio::runtime::Handle::try_current() else {
            return;
        };
        tokio.spawn(async move {
            let _ = child.wait().await;
            reap_group(pid).await;
            if let Some(scratch) = scratch {
                match tokio::task::spawn_blocking(|| scratch.wipe()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "a private folder could not be wiped")
                    }
                    Err(error) => tracing::error!(%error, "wiping a private folder failed"),
                }
            }
            drop(slot);
        });
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
