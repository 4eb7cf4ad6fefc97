//! From a request to its answer: a place in the queue, a process, the script.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::compile_cache::CompileCache;
use crate::compiler::Compiler;
use crate::config::{Config, LanguageName};
use crate::error::ApiError;
use crate::execution::{self, Failure, FailureKind, Success};
use crate::frame;
use crate::isolation::Kernel;
use crate::language::Language;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::process::Process;
use crate::scratch::{self, Scratch};

/// How a script becomes a process.
enum Engine {
    /// Interpreters that wait.
    Interpreter(Arc<Pool>),
    /// Programs that are compiled once.
    Compiler(CompileCache),
}

pub struct Runtime {
    pub config: Arc<Config>,
    pub language: Arc<Language>,
    pub kernel: Kernel,
    pub metrics: Arc<Metrics>,
    supervisor: PathBuf,
    engine: Engine,
    slots: Arc<Semaphore>,
    queued: AtomicUsize,
    /// Whether a script of our own ran through all of this.
    checked: Mutex<Result<(), String>>,
}

/// What a script gets. `params` and `context` are JSON.
pub struct Job<'a> {
    pub script: &'a str,
    pub params: &'a str,
    pub context: &'a str,
}

impl Runtime {
    pub fn new(config: Config) -> Result<Self, String> {
        let kernel = Kernel::ask();
        if !kernel.seccomp {
            return Err(
                "this kernel has no seccomp filters; scripts would have the network".into(),
            );
        }
        if config.require_landlock && kernel.landlock_abi == 0 {
            return Err("REQUIRE_LANDLOCK is set and this kernel has no Landlock".into());
        }
        for missing in &kernel.missing {
            tracing::warn!(missing, "the kernel does not enforce all of the isolation");
        }
        let supervisor =
            std::env::current_exe().map_err(|error| format!("own executable: {error}"))?;
        let programs = config.scratch_root.join("programs");
        for folder in [&programs, &config.scratch_root.join("executions")] {
            std::fs::create_dir_all(&config.scratch_root)
                .and_then(|()| scratch::prepare(folder))
                .map_err(|error| {
                    format!(
                        "SCRATCH_DIR {} cannot be used: {error}",
                        config.scratch_root.display()
                    )
                })?;
        }
        let config = Arc::new(config);
        let mut language = Language::probe(&config)?;
        // Only where scripts cannot write to it: it is every later script's beginning.
        if language.name == LanguageName::Nodejs && kernel.landlock_abi > 0 {
            let file = config.scratch_root.join("worker.snapshot");
            if let Err(error) = language.make_snapshot(&config, &file) {
                tracing::warn!(error, "Node.js makes no snapshot; processes start slower");
            }
        }
        let language = Arc::new(language);
        let metrics = Arc::new(Metrics::new(
            language.name,
            &language.version,
            config.max_concurrency,
        ));
        let engine = match language.name {
            LanguageName::Rust => {
                let compiler = Compiler::new(
                    supervisor.clone(),
                    config.clone(),
                    language.clone(),
                    metrics.clone(),
                );
                Engine::Compiler(CompileCache::new(
                    compiler,
                    programs,
                    config.compile.cache_bytes,
                    metrics.clone(),
                ))
            }
            _ => {
                let pool = Pool::new(
                    supervisor.clone(),
                    config.clone(),
                    language.clone(),
                    metrics.clone(),
                );
                Engine::Interpreter(Arc::new(pool))
            }
        };
        Ok(Self {
            slots: Arc::new(Semaphore::new(config.max_concurrency)),
            queued: AtomicUsize::new(0),
            checked: Mutex::new(Err("starting".into())),
            config,
            language,
            kernel,
            metrics,
            supervisor,
            engine,
        })
    }

    /// Fills the pool and runs a script of our own until one succeeds.
    pub async fn warm_up(self: Arc<Self>) {
        if let Engine::Interpreter(pool) = &self.engine {
            let pool = pool.clone();
            tokio::spawn(async move { pool.fill().await });
        }
        let script = match self.language.name {
            LanguageName::Nodejs => "return params",
            LanguageName::Python => "result = params",
            LanguageName::Rust => {
                "fn handle(params: Value, _context: Value) -> Result<Value, String> { Ok(params) }"
            }
        };
        loop {
            let checked = self
                .run(
                    &Job {
                        script,
                        params: "[1]",
                        context: "{}",
                    },
                    self.config.limits.wall_max,
                )
                .await;
            let checked = match checked {
                Ok(success) if success.result == b"[1]" => Ok(()),
                Ok(_) => Err("the check's script gave a wrong result".into()),
                Err(error) => Err(error.to_string()),
            };
            *self.checked.lock().expect("not poisoned") = checked.clone();
            match checked {
                Ok(()) => return tracing::info!(language = self.language.name.as_str(), "ready"),
                Err(error) => tracing::error!(error, "the check's script failed"),
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// Whether scripts can be run, or why not.
    pub fn health(&self) -> Result<(), String> {
        self.checked.lock().expect("not poisoned").clone()?;
        match &self.engine {
            Engine::Interpreter(pool) => pool.health(),
            Engine::Compiler(_) => Ok(()),
        }
    }

    /// Ends what waits for scripts that will not come.
    pub fn shut_down(&self) {
        if let Engine::Interpreter(pool) = &self.engine {
            pool.empty();
        }
    }

    /// Runs a script, and counts how that went. Dropping the future ends the script.
    pub async fn execute(&self, job: &Job<'_>, allowed: Duration) -> Result<Success, ApiError> {
        let begun = Instant::now();
        let unfinished = Unfinished(Some(&self.metrics));
        let result = self.run(job, allowed).await;
        unfinished.finish();
        self.metrics.answered(begun.elapsed());
        match &result {
            Ok(success) => self
                .metrics
                .succeeded(success.elapsed, success.memory_bytes),
            Err(Refusal::Busy(_)) => self.metrics.rejected(),
            Err(Refusal::Failed(failure)) => self.metrics.failed(failure.kind),
        }
        result.map_err(Into::into)
    }

    async fn run(&self, job: &Job<'_>, allowed: Duration) -> Result<Success, Refusal> {
        let too_late = || {
            let message = format!(
                "the script was not done within its time limit of {} s",
                allowed.as_secs_f64()
            );
            Failure::new(FailureKind::Timeout, message)
        };
        match &self.engine {
            Engine::Interpreter(pool) => {
                let slot = self.slot().await?;
                let deadline = Instant::now() + allowed;
                let _running = self.metrics.running();
                let mut process = timeout_at(deadline, pool.take())
                    .await
                    .map_err(|_| too_late())??;
                process.occupy(slot);
                let bytes = frame::job(job.params, job.context, job.script);
                Ok(execution::run(process, bytes, &self.config.limits, deadline, allowed).await?)
            }
            Engine::Compiler(cache) => {
                // The compiler has places of its own: whoever waits for it keeps no compiled script from running.
                let deadline = Instant::now() + allowed;
                let program = timeout_at(deadline, cache.program(job.script))
                    .await
                    .map_err(|_| too_late())??;
                let slot = self.slot().await?;
                let _running = self.metrics.running();
                let internal =
                    |error: std::io::Error| Failure::new(FailureKind::Internal, error.to_string());
                let scratch = Scratch::create(&self.config.scratch_root.join("executions"))
                    .map_err(internal)?;
                let spec = self
                    .language
                    .program(&self.config, &program.path, scratch.path());
                let mut process =
                    Process::start(&self.supervisor, &spec, scratch).map_err(internal)?;
                process.occupy(slot);
                execution::started(&mut process, Duration::from_secs(10)).await?;
                // It is compiled already.
                let bytes = frame::job(job.params, job.context, "");
                Ok(execution::run(process, bytes, &self.config.limits, deadline, allowed).await?)
            }
        }
    }

    /// A place among the executions under way; waits a little for one.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let begun = Instant::now();
        let busy = |what: String| Refusal::Busy(format!("{what}; try again in a moment"));
        let slot = match self.slots.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                let _place =
                    QueuePlace::take(&self.queued, self.config.max_queue).ok_or_else(|| {
                        busy(format!("{} requests wait already", self.config.max_queue))
                    })?;
                let _queued = self.metrics.queued();
                match timeout(self.config.queue_wait, self.slots.clone().acquire_owned()).await {
                    Ok(slot) => slot.expect("never closed"),
                    Err(_) => {
                        return Err(busy(format!(
                            "{} scripts are running",
                            self.config.max_concurrency
                        )));
                    }
                }
            }
        };
        self.metrics.waited(begun.elapsed());
        Ok(slot)
    }
}

/// Why a request has no result.
enum Refusal {
    Busy(String),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Busy(message) | Self::Failed(Failure { message, .. }) => {
                formatter.write_str(message)
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy(message) => Self::Unavailable(message),
            Refusal::Failed(Failure {
                kind: FailureKind::Internal,
                message,
            }) => {
                tracing::error!(
                    error = message,
                    "an execution failed for a reason that is ours"
                );
                Self::Internal("the runtime could not run the script".into())
            }
            Refusal::Failed(Failure {
                kind: FailureKind::Timeout | FailureKind::CpuTime,
                message,
            }) => Self::Timeout(message),
            Refusal::Failed(Failure { message, .. }) => Self::RuntimeError(message),
        }
    }
}

struct QueuePlace<'a>(&'a AtomicUsize);

impl<'a> QueuePlace<'a> {
    fn take(queued: &'a AtomicUsize, most: usize) -> Option<Self> {
        let next = |count| (count < most).then_some(count + 1);
        queued
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok()
            .map(|_| Self(queued))
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts a request whose caller went away: then its future is dropped, and nothing after `await` runs.
struct Unfinished<'a>(Option<&'a Metrics>);

impl Unfinished<'_> {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0 {
            metrics.cancelled();
        }
    }
}
