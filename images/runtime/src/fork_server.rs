//! Processes of Python that are forked from one that has loaded all, instead of started: a fork takes a millisecond, a
//! start forty. That one, images/runtime-python/fork_server.py, runs no caller's code; what it forks confines itself by what
//! is decided here, becomes this process's own child, and is from then on like any other.
//!
//! Messages go over a pair of sockets that keeps their bounds. First the filters of system calls; then for each process an
//! order, JSON with its pipes and Landlock rules attached (unix(7), SCM_RIGHTS). Answers are process ids, 32 bits, 0 for a
//! fork that failed; the first is the fork server's own, when it has loaded all.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::Config;
use crate::isolation::{Profile, filesystem, syscalls};
use crate::language::Language;
use crate::process::{Pipes, Process};
use crate::sandbox::{Confinement, NICE};
use crate::scratch::Scratch;

/// Longest start, and longest fork: a machine that is stuck takes longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Processes of one fork server share its layout of addresses and the seed of Python's hashes. So another one follows after
/// this many: its start costs no more than half a percent of their time.
const FORKS: u32 = 1000;

/// One after the other: the fork server does one thing at a time.
pub struct ForkServer {
    orders: mpsc::Sender<Order>,
}

struct Order {
    confinement: Confinement,
    scratch: Scratch,
    answer: oneshot::Sender<io::Result<Process>>,
}

impl ForkServer {
    pub fn new(config: Arc<Config>, language: Arc<Language>) -> Self {
        let (orders, received) = mpsc::channel(config.max_concurrency + 1);
        tokio::spawn(serve(received, config, language));
        Self { orders }
    }

    /// A process that has confined itself, or gives that up and says so in its log. Dropping the future ends the process.
    pub async fn fork(&self, confinement: Confinement, scratch: Scratch) -> io::Result<Process> {
        let (answer, answered) = oneshot::channel();
        let order = Order {
            confinement,
            scratch,
            answer,
        };
        let ended = |_| io::Error::other("the fork server's task has ended");
        self.orders.send(order).await.map_err(|_| ended(()))?;
        answered.await.map_err(|_| ended(()))?
    }
}

async fn serve(mut orders: mpsc::Receiver<Order>, config: Arc<Config>, language: Arc<Language>) {
    let mut current: Option<Server> = None;
    let mut successor: Option<JoinHandle<io::Result<Server>>> = None;
    while let Some(order) = orders.recv().await {
        if let Some(started) = successor.take_if(|starting| starting.is_finished()) {
            match started.await {
                Ok(Ok(server)) => current = Some(server),
                Ok(Err(error)) => tracing::warn!(%error, "the fork server could not be replaced"),
                Err(_) => {}
            }
        }
        let mut forked = fork(&mut current, &config, &language, &order.confinement).await;
        if let (Err(error), Some(_)) = (&forked, current.take_if(|server| server.failed)) {
            // Killed, for memory perhaps. The script has not been sent, so it can have another process.
            tracing::warn!(%error, "the fork server is started again");
            forked = fork(&mut current, &config, &language, &order.confinement).await;
            current.take_if(|server| server.failed);
        }
        if successor.is_none() && current.as_ref().is_some_and(|server| server.forks >= FORKS) {
            let (config, language) = (config.clone(), language.clone());
            successor = Some(tokio::spawn(async move {
                Server::start(&config, &language).await
            }));
        }
        let process = forked.and_then(|(pid, pipes)| Process::adopt(pid, pipes, order.scratch));
        // Where nobody waits for the process any more, it is dropped here, and so ended.
        let _ = order.answer.send(process);
    }
}

async fn fork(
    current: &mut Option<Server>,
    config: &Config,
    language: &Language,
    confinement: &Confinement,
) -> io::Result<(Pid, Pipes)> {
    let server = match current {
        Some(server) => server,
        None => current.insert(Server::start(config, language).await?),
    };
    let forked = server.fork(confinement).await;
    server.failed = forked.is_err();
    forked
}

struct Server {
    control: AsyncFd<OwnedFd>,
    forks: u32,
    failed: bool,
    /// Ends with this, and is reaped.
    _process: tokio::process::Child,
}

impl Server {
    async fn start(config: &Config, language: &Language) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let process = language
            .fork_server(config)
            .stdin(theirs)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let server = Self {
            // SAFETY: an OwnedFd is one descriptor, open for as long as it lives.
            control: unsafe { AsyncFd::register(ours)? },
            forks: 0,
            failed: false,
            _process: process,
        };
        let filters = syscalls::templates(Profile::Forked).map_err(io::Error::other)?;
        let rules = json!({
            "filters": filters,
            "own_process": filesystem::OWN_PROCESS,
            "read_bits": filesystem::read_bits(),
        });
        server.send(&rules.to_string(), &[]).await?;
        server.answer().await?;
        Ok(server)
    }

    async fn fork(&mut self, confinement: &Confinement) -> io::Result<(Pid, Pipes)> {
        self.forks += 1;
        let (pipes, ends) = Pipes::new()?;
        let landlock = filesystem::descriptor(&confinement.paths).map_err(io::Error::other)?;
        let limits = confinement.limits.all();
        let order = json!({
            "directory": confinement.directory,
            "environment": confinement.environment,
            "limits": limits.map(|(resource, soft, hard)| (resource as u32, soft, hard)),
            "landlock": landlock.is_some(),
            "nice": NICE,
        });
        let descriptors: Vec<RawFd> = [&ends.job, &ends.frames, &ends.log]
            .into_iter()
            .chain(&landlock)
            .map(AsRawFd::as_raw_fd)
            .collect();
        self.send(&order.to_string(), &descriptors).await?;
        // The process has its own now; this one must not keep them open.
        drop((ends, landlock));
        match self.answer().await? {
            0 => Err(io::Error::other(
                "the fork failed; the fork server's log says why",
            )),
            pid => Ok((Pid::from_raw(pid), pipes)),
        }
    }

    async fn send(&self, message: &str, descriptors: &[RawFd]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = &rights[..usize::from(!descriptors.is_empty())];
        let sent = self.control.async_io(Interest::WRITABLE, |control| {
            let message = [IoSlice::new(message.as_bytes())];
            let flags = MsgFlags::MSG_NOSIGNAL;
            Ok(sendmsg::<()>(
                control.as_raw_fd(),
                &message,
                rights,
                flags,
                None,
            )?)
        });
        timeout(LIMIT, sent).await??;
        Ok(())
    }

    async fn answer(&self) -> io::Result<i32> {
        let mut answer = [0; 4];
        let received = self.control.async_io(Interest::READABLE, |control| {
            Ok(recv(control.as_raw_fd(), &mut answer, MsgFlags::empty())?)
        });
        match timeout(LIMIT, received).await?? {
            4 => Ok(i32::from_le_bytes(answer)),
            _ => Err(io::Error::other(
                "the fork server has ended; its log says why",
            )),
        }
    }
}
