//! From a request to its answer: a place in the queue, a process, the script.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::compile_cache::CompileCache;
use crate::compiler::Compiler;
use crate::config::{Config, LanguageName};
use crate::deadline::Deadline;
use crate::error::ApiError;
use crate::execution::{self, Failure, FailureKind, State, Success};
use crate::frame;
use crate::isolation::Kernel;
use crate::language::Language;
use crate::limits::ProcessCount;
use crate::metrics::Metrics;
use crate::places::{self, Keeping, Place, Places, Refused, Turn};
use crate::pool::Pool;
use crate::process::{Fresh, Process};
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
    places: Arc<Places<Process>>,
    /// For bodies that are large: no more of them are in memory than there are places, and callers share these, too.
    bodies: Arc<Places<Process>>,
    /// Whether a script of our own ran through all of this.
    checked: Mutex<Result<(), String>>,
}

/// What a script gets. `params` and `context` are JSON.
pub struct Job<'a> {
    /// Whose processes it may have: of nobody's, one is used once.
    pub caller: Option<&'a str>,
    /// Whose share of the places it takes; empty is nobody's.
    pub account: &'a str,
    /// At most the limit of all.
    pub memory_bytes: u64,
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
        config.check_processes(ProcessCount::ask())?;
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
            &kernel,
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
            places: Places::new(
                config.max_concurrency,
                config.max_queue,
                config.caller_share,
                Keeping {
                    idle: config.reuse.unwrap_or_default(),
                    protected: language.worth_keeping(),
                },
                {
                    let metrics = metrics.clone();
                    move |count| metrics.kept_processes(count)
                },
            ),
            bodies: Places::new(
                config.max_concurrency,
                config.max_queue,
                config.caller_share,
                Keeping::NOTHING,
                |_| {},
            ),
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
        let places = self.places.clone();
        tokio::spawn(async move { places.look_after().await });
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
                        caller: None,
                        account: "",
                        memory_bytes: self.config.limits.memory_bytes,
                        script,
                        params: "[1]",
                        context: "{}",
                    },
                    Deadline::new(self.config.limits.wall_max),
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
        self.places.clear();
        if let Engine::Interpreter(pool) = &self.engine {
            pool.empty();
        }
    }

    /// Runs a script, and counts how that went. Dropping the future ends the script.
    pub async fn execute(&self, job: &Job<'_>, time: Deadline) -> Result<Success, Failed> {
        let unfinished = Unfinished(Some(&self.metrics));
        let result = self.run(job, time).await;
        unfinished.finish();
        self.metrics.answered(time.begun.elapsed());
        match &result {
            Ok(success) => self
                .metrics
                .succeeded(success.elapsed, success.memory_bytes),
            Err(Refusal::Busy(_) | Refusal::Share(_)) => self.metrics.rejected(),
            Err(Refusal::Failed(failure)) => self.metrics.failed(failure.kind),
        }
        result.map_err(Into::into)
    }

    async fn run(&self, job: &Job<'_>, time: Deadline) -> Result<Success, Refusal> {
        let key = (self.config.reuse.is_some() && job.caller.is_some())
            .then(|| places::key(job.caller.unwrap_or_default(), job.script));
        // The compiler has places of its own: whoever waits for it keeps no compiled script from running.
        let begun = Instant::now();
        let program = match &self.engine {
            Engine::Compiler(cache) if !key.is_some_and(|key| self.places.keeps(&key)) => {
                let late = time.within(time.allowed);
                Some(cache.program(job.account, job.script, late).await?)
            }
            _ => None,
        };
        // The wait for a place is not the script's; a compilation is.
        let left = time.allowed.saturating_sub(begun.elapsed());
        let (place, process) = self.place(job.account, key, time).await?;
        let execution = |deadline| Execution {
            key,
            deadline,
            allowed: time.allowed,
        };
        let deadline = time.within(left);
        if let Some(mut process) = process {
            self.metrics.process_started("kept");
            process.occupy(place);
            return self
                .run_in(process, State::Started, job, None, execution(deadline))
                .await;
        }
        match &self.engine {
            Engine::Interpreter(pool) => {
                let process = timeout_at(time.latest(), pool.take()).await;
                let mut process = process.map_err(|_| {
                    let message =
                        "no process was ready for the script in time; try again in a moment";
                    Failure::new(FailureKind::Starved, message)
                })??;
                process.occupy(place);
                if key.is_some() {
                    execution::look(&mut process, self.language.more_threads());
                }
                // Nor is the wait for a process the script's.
                let execution = execution(time.within(left));
                self.run_in(process, State::Started, job, Some(job.script), execution)
                    .await
            }
            Engine::Compiler(cache) => {
                // The process that was kept a moment ago may have gone to another.
                let program = match program {
                    Some(program) => program,
                    None => cache.program(job.account, job.script, deadline).await?,
                };
                let internal =
                    |error: std::io::Error| Failure::new(FailureKind::Internal, error.to_string());
                let scratch = Scratch::create(&self.config.scratch_root.join("executions"))
                    .map_err(internal)?;
                let spec = self
                    .language
                    .program(&self.config, &program.path, scratch.path());
                let mut process =
                    Process::start(&self.supervisor, &spec, scratch).map_err(internal)?;
                self.metrics.process_started("cold");
                process.occupy(place);
                // One thread, its standard streams and its two pipes.
                process.fresh = Some(Fresh {
                    memory: 0,
                    threads: 1,
                    open_files: 5,
                });
                // It is compiled already.
                self.run_in(process, State::Begins, job, None, execution(deadline))
                    .await
            }
        }
    }

    /// Executes in a process, which is kept afterwards if it may be and can be.
    async fn run_in(
        &self,
        mut process: Process,
        state: State,
        job: &Job<'_>,
        script: Option<&str>,
        execution: Execution,
    ) -> Result<Success, Refusal> {
        let _running = self.metrics.running();
        let Execution {
            key,
            deadline,
            allowed,
        } = execution;
        let bytes = frame::job(job.params, job.context, script);
        let mut limits = self.config.limits.clone();
        let withheld = limits.memory_bytes.saturating_sub(job.memory_bytes);
        limits.memory_bytes -= withheld;
        // What the kernel does not refuse, as of a process that is just ending, the watch sees.
        let _ = process.withhold_memory(withheld);
        let limits = &limits;
        let success = execution::run(&mut process, state, bytes, limits, deadline, allowed).await?;
        if let Some(key) = key
            && execution::again(&mut process, limits).await
            && let Some(place) = process.leave()
        {
            place.keep(key, process);
        }
        Ok(success)
    }

    /// A place among the large bodies in memory; waits a little for one. It counts as a request that was refused where there
    /// is none.
    pub async fn body_place(
        &self,
        account: &str,
        time: Deadline,
    ) -> Result<Place<Process>, ApiError> {
        let unfinished = Unfinished(Some(&self.metrics));
        let place = self.turn(&self.bodies, account, None, time).await;
        unfinished.finish();
        let (place, _) = place.map_err(|refused| {
            self.metrics.rejected();
            match refused {
                Refused::Share => ApiError::RateLimited(format!(
                    "this caller has its share of {} large requests at once, and waits for more already; try again in a moment",
                    self.bodies.share()
                )),
                Refused::Full => ApiError::Unavailable(format!(
                    "too many large requests at once ({}); try again in a moment",
                    self.config.max_concurrency
                )),
            }
        })?;
        Ok(place)
    }

    async fn turn(
        &self,
        places: &Arc<Places<Process>>,
        account: &str,
        key: Option<places::Key>,
        time: Deadline,
    ) -> Result<(Place<Process>, Option<Process>), Refused> {
        match places.take(account, key)? {
            Turn::Now(place) => Ok(place),
            Turn::Later(queued) => {
                let _queued = self.metrics.queued();
                queued.wait(time.left(self.config.queue_wait)).await
            }
        }
    }

    /// A place among the executions under way; waits a little for one.
    async fn place(
        &self,
        account: &str,
        key: Option<places::Key>,
        time: Deadline,
    ) -> Result<(Place<Process>, Option<Process>), Refusal> {
        let begun = Instant::now();
        let place = self.turn(&self.places, account, key, time).await;
        self.metrics.waited(begun.elapsed());
        place.map_err(|refused| match refused {
            Refused::Share => Refusal::Share(format!(
                "this caller has its share of {} scripts that run at once, and waits for more already; try again in a moment",
                self.places.share()
            )),
            Refused::Full => Refusal::Busy(format!(
                "all places are taken ({} scripts run at once); try again in a moment",
                self.config.max_concurrency
            )),
        })
    }
}

/// What an execution has beside its job.
struct Execution {
    key: Option<places::Key>,
    deadline: Instant,
    allowed: Duration,
}

/// An answer without a result, and the end of what the script printed, where it ran.
#[derive(Debug)]
pub struct Failed {
    pub error: ApiError,
    pub printed: String,
}

/// Why a request has no result.
enum Refusal {
    Busy(String),
    /// By the caller's own share.
    Share(String),
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
            Self::Busy(message) | Self::Share(message) | Self::Failed(Failure { message, .. }) => {
                formatter.write_str(message)
            }
        }
    }
}

impl From<Refusal> for Failed {
    fn from(mut refusal: Refusal) -> Self {
        let printed = match &mut refusal {
            Refusal::Failed(failure) => std::mem::take(&mut failure.printed),
            Refusal::Busy(_) | Refusal::Share(_) => String::new(),
        };
        let error = refusal.into();
        Self { error, printed }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy(message) => Self::Unavailable(message),
            Refusal::Share(message)
            | Refusal::Failed(Failure {
                kind: FailureKind::Share,
                message,
                ..
            }) => Self::RateLimited(message),
            Refusal::Failed(Failure {
                kind: FailureKind::Internal,
                message,
                ..
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
                ..
            }) => Self::Timeout(message),
            Refusal::Failed(Failure {
                kind: FailureKind::Starved,
                message,
                ..
            }) => Self::Unavailable(message),
            Refusal::Failed(Failure { message, .. }) => Self::RuntimeError(message),
        }
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
