//! Processes that have loaded their language and wait for a script, so that a request does not wait for them. Who has
//! taken one does not give it back here (places.rs).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::config::{Config, LanguageName};
use crate::execution::{self, Failure, FailureKind};
use crate::fork_server::ForkServer;
use crate::language::Language;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::scratch::Scratch;

/// Longest start of an interpreter: 60 ms idle here, so this is a machine that is stuck.
const START_LIMIT: Duration = Duration::from_secs(10);

pub struct Pool {
    supervisor: PathBuf,
    config: Arc<Config>,
    language: Arc<Language>,
    metrics: Arc<Metrics>,
    /// For Python; Node.js has threads from its start on, so it cannot be forked.
    fork_server: Option<ForkServer>,
    ready: Mutex<VecDeque<Process>>,
    taken: Notify,
    /// Places among those that are started, not forked. More at once than processors would all be done as late as the last.
    starts: Semaphore,
    /// How the last start went; what the health check says.
    last: Mutex<Result<(), String>>,
}

impl Pool {
    pub fn new(
        supervisor: PathBuf,
        config: Arc<Config>,
        language: Arc<Language>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let fork_server = (language.name == LanguageName::Python)
            .then(|| ForkServer::new(config.clone(), language.clone()));
        Self {
            supervisor,
            starts: Semaphore::new(config.start_concurrency),
            config,
            language,
            metrics,
            fork_server,
            ready: Mutex::default(),
            taken: Notify::new(),
            last: Mutex::new(Err("no process has started yet".into())),
        }
    }

    /// Whether processes start.
    pub fn health(&self) -> Result<(), String> {
        self.last.lock().expect("not poisoned").clone()
    }

    /// A process that waits for its script: a warm one, else a new one.
    pub async fn take(&self) -> Result<Process, Failure> {
        loop {
            let process = self.ready.lock().expect("not poisoned").pop_front();
            self.count();
            self.taken.notify_one();
            let Some(mut process) = process else {
                self.metrics.process_started("cold");
                return self.start().await;
            };
            // One that has died while it waited is left: the kernel may have been short of memory.
            if process.is_alive() {
                self.metrics.process_started("warm");
                return Ok(process);
            }
        }
    }

    /// Keeps the pool full, for ever.
    pub async fn fill(&self) {
        loop {
            while self.count() < self.config.warm_processes {
                match self.start().await {
                    Ok(process) => self.ready.lock().expect("not poisoned").push_back(process),
                    Err(failure) => {
                        tracing::error!(error = failure.message, "no process can be started");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            self.taken.notified().await;
        }
    }

    /// Ends the processes that wait.
    pub fn empty(&self) {
        self.ready.lock().expect("not poisoned").clear();
        self.count();
    }

    fn count(&self) -> usize {
        let count = self.ready.lock().expect("not poisoned").len();
        self.metrics.warm_processes(count);
        count
    }

    async fn start(&self) -> Result<Process, Failure> {
        let started = self.try_start().await;
        *self.last.lock().expect("not poisoned") = started
            .as_ref()
            .map(|_| ())
            .map_err(|failure| failure.message.clone());
        started
    }

    async fn try_start(&self) -> Result<Process, Failure> {
        let internal = |error: std::io::Error| {
            Failure::new(
                FailureKind::Internal,
                format!("a process cannot be started: {error}"),
            )
        };
        // Forks are cheap, and come one after the other anyway.
        let _turn = match self.fork_server {
            None => Some(self.starts.acquire().await.expect("never closed")),
            Some(_) => None,
        };
        let scratch =
            Scratch::create(&self.config.scratch_root.join("executions")).map_err(internal)?;
        let process = match &self.fork_server {
            Some(fork_server) => {
                let confinement = self.language.fork(&self.config, scratch.path());
                fork_server.fork(confinement, scratch).await
            }
            None => {
                let spec = self.language.worker(&self.config, scratch.path());
                Process::start(&self.supervisor, &spec, scratch)
            }
        };
        let mut process = process.map_err(internal)?;
        execution::started(&mut process, START_LIMIT).await?;
        Ok(process)
    }
}
