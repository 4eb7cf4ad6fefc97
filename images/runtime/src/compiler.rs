//! Makes a program of a Rust script. The compiler is confined as scripts are: the text that it reads is a caller's, and
//! `include_str!` reads files.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Config;
use crate::execution::{Failure, FailureKind};
use crate::language::Language;
use crate::metrics::Metrics;
use crate::output::Output;
use crate::places::{Keeping, Places, Refused, Turn};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::watch::{self, Breach, CpuTimes};

/// Follows the script in its file, so that the line numbers of messages are those of the script. The constant gives a
/// message that names the type when `handle` has another one.
const EPILOGUE: &str = "
#[allow(unused_imports)] use ::lambda_worker::prelude::*;
const _: fn(::serde_json::Value, ::serde_json::Value) -> Result<::serde_json::Value, String> = handle;
fn main() { ::lambda_worker::run(handle) }
";
/// rustc's exit status when it has found errors. Any other is none that it gives on purpose.
const VERDICT: i32 = 1;
const MESSAGE_BYTES: usize = 4096;

pub struct Compiler {
    supervisor: PathBuf,
    config: Arc<Config>,
    language: Arc<Language>,
    metrics: Arc<Metrics>,
    places: Arc<Places<Process>>,
}

impl Compiler {
    pub fn new(
        supervisor: PathBuf,
        config: Arc<Config>,
        language: Arc<Language>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = Places::new(
            config.compile.slots,
            config.max_queue,
            config.caller_share,
            Keeping::NOTHING,
            |_| {},
        );
        Self {
            supervisor,
            config,
            language,
            metrics,
            places,
        }
    }

    /// Writes the program for `script` to `program`. Waits for a place among the compilers under way, for which callers
    /// take turns, for as long as its own request does; `compiles` tells when it has one.
    pub async fn compile(
        &self,
        account: &str,
        script: &str,
        program: &Path,
        compiles: &AtomicBool,
    ) -> Result<(), Failure> {
        compiles.store(false, Ordering::Relaxed);
        let place = match self.places.take(account, None) {
            Ok(Turn::Now(place)) => Ok(place),
            Ok(Turn::Later(queued)) => queued.wait(Duration::MAX).await,
            Err(refused) => Err(refused),
        };
        let _place = place.map_err(|refused| match refused {
            Refused::Share => Failure::new(
                FailureKind::Share,
                "as many scripts of this caller as may be wait to be compiled; try again in a moment",
            ),
            Refused::Full => Failure::new(
                FailureKind::Starved,
                "too many scripts wait to be compiled; try again in a moment",
            ),
        })?;
        compiles.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let result = self.compile_now(script, program).await;
        self.metrics.compiled(begun.elapsed());
        result
    }

    async fn compile_now(&self, script: &str, program: &Path) -> Result<(), Failure> {
        let internal = |error: std::io::Error| {
            Failure::new(
                FailureKind::Internal,
                format!("the compiler cannot be started: {error}"),
            )
        };
        let scratch =
            Scratch::create(&self.config.scratch_root.join("executions")).map_err(internal)?;
        std::fs::write(
            scratch.path().join("script.rs"),
            format!("{script}{EPILOGUE}"),
        )
        .map_err(internal)?;
        let built = scratch.path().join("program");
        let spec = self
            .language
            .compiler(&self.config, self.arguments(), scratch.path());
        let mut process = Process::start(&self.supervisor, &spec, scratch).map_err(internal)?;

        let limit = &self.config.compile;
        // Its processor time is limited to a third of that: a script that takes too long is told from a machine that is busy.
        let deadline = Instant::now() + 3 * limit.timeout;
        let mut log = Output::default();
        let limits = crate::limits::Limits {
            memory_bytes: limit.memory_bytes,
            // The program, and the object files that it is linked from.
            scratch_bytes: 4 * limit.program_bytes,
            ..self.config.limits.clone()
        };
        let (pid, folder) = (process.pid(), process.folder());
        // It gives way to nobody: it has few turns as it is, and whole queues wait for what it makes.
        let cpu = CpuTimes {
            most: limit.timeout + Duration::from_secs(2),
            long: None,
        };
        let mut peak = 0;
        tokio::select! {
            // The log ends when the compiler and all that it has started are gone.
            () = log.read(&mut process.pipes.log, self.config.limits.output_bytes) => {}
            breach = watch::watch(pid, &folder, &limits, cpu, &mut peak) => {
                let what = match breach {
                    Breach::CpuTime => return Err(too_much_work(limit.timeout)),
                    Breach::Memory => format!("memory to compile than {} MiB", limit.memory_bytes >> 20),
                    Breach::Disk => format!("space to compile than {} MiB", limits.scratch_bytes >> 20),
                    Breach::Threads => format!("threads to compile than {}", limits.threads),
                };
                return Err(Failure::new(FailureKind::CompileLimit, format!("the script takes more {what}")));
            }
            () = sleep_until(deadline) => {
                // Its processor time has a limit of its own: this is a machine that has too much to do.
                return Err(Failure::new(
                    FailureKind::Starved,
                    format!("the compiler had too little of the processor for {} s; try again in a moment", 3 * limit.timeout.as_secs()),
                ));
            }
        }
        let exit = timeout(Duration::from_secs(1), process.exit()).await;
        let log = log.text();
        if let Some(refusal) = process.refusal(&log) {
            return Err(Failure::new(FailureKind::Internal, refusal));
        }
        let Ok(Ok(status)) = exit else {
            return Err(Failure::new(
                FailureKind::CompileLimit,
                "the compiler wrote more than it may",
            ));
        };
        if status.success() {
            // The folder is wiped when the process is dropped, so the program moves out before.
            return std::fs::rename(&built, program).map_err(internal);
        }
        Err(self.failure(status, &log))
    }

    fn failure(&self, status: ExitStatus, log: &str) -> Failure {
        // The linker is a process of its own, and rustc tells its end as an error of the script's.
        let linker_killed = log
            .lines()
            .any(|line| line.contains("linking with") && line.contains("signal: "));
        if status.code() == Some(VERDICT) && !linker_killed {
            return Failure::new(FailureKind::Compile, message(log));
        }
        if status.signal() == Some(libc::SIGXCPU) {
            return too_much_work(self.config.compile.timeout);
        }
        if linker_killed || status.signal() == Some(libc::SIGKILL) {
            return Failure::new(
                FailureKind::Starved,
                "the compiler was ended by the machine; try again in a moment",
            );
        }
        tracing::error!(log, "the compiler crashed");
        Failure::new(
            FailureKind::CompileLimit,
            "the compiler crashed on this script",
        )
    }

    fn arguments(&self) -> Vec<String> {
        let libraries = &self.config.worker;
        let library = |name: &str| {
            format!(
                "--extern={name}={}",
                libraries.join(format!("lib{name}.rlib")).display()
            )
        };
        let mut arguments: Vec<String> = [
            "--edition=2021",
            "--crate-name=script",
            "--crate-type=bin",
            "--error-format=short",
            "--color=never",
            "-Awarnings",
            "-Copt-level=1",
            "-Cdebuginfo=0",
            "-Cstrip=symbols",
            // The standard library as it lies there, instead of a copy in every program: half the time of a link.
            "-Cprefer-dynamic",
            "-Crpath",
            "-o",
            "program",
        ]
        .map(String::from)
        .into();
        arguments.push(library("serde_json"));
        arguments.push(library("lambda_worker"));
        arguments.push(format!("-Ldependency={}", libraries.display()));
        arguments.push("script.rs".into());
        arguments
    }
}

fn too_much_work(most: Duration) -> Failure {
    let seconds = most.as_secs();
    Failure::new(
        FailureKind::CompileLimit,
        format!("the script takes more than {seconds} s of processor time to compile"),
    )
}

/// The compiler's messages, shortened at a line's end.
fn message(log: &str) -> String {
    let mut text = String::from("the script does not compile:");
    for line in log.lines() {
        if text.len() + line.len() > MESSAGE_BYTES {
            text.push_str("\n...");
            break;
        }
        text.push('\n');
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_are_shortened_at_a_line() {
        let message = super::message(&"script.rs:1:1: error: x\n".repeat(1000));
        assert!(message.len() <= super::MESSAGE_BYTES + 4);
        assert!(message.ends_with("error: x\n..."));
    }
}
