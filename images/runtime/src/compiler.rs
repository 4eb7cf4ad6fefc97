//! Makes a program of a Rust script. The compiler is confined as scripts are: the text that it reads is a caller's, and
//! `include_str!` reads files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Config;
use crate::execution::{Failure, FailureKind, Log};
use crate::language::Language;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::watch::{self, Breach};

/// Follows the script in its file, so that the line numbers of messages are those of the script. The constant gives a
/// message that names the type when `handle` has another one.
const EPILOGUE: &str = "
#[allow(unused_imports)] use ::lambda_worker::prelude::*;
const _: fn(::serde_json::Value, ::serde_json::Value) -> Result<::serde_json::Value, String> = handle;
fn main() { ::lambda_worker::run(handle) }
";
/// rustc's exit status when it panics.
const CRASHED: i32 = 101;
const MESSAGE_BYTES: usize = 4096;

pub struct Compiler {
    supervisor: PathBuf,
    config: Arc<Config>,
    language: Arc<Language>,
    metrics: Arc<Metrics>,
    slots: Semaphore,
}

impl Compiler {
    pub fn new(
        supervisor: PathBuf,
        config: Arc<Config>,
        language: Arc<Language>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let slots = Semaphore::new(config.compile.slots);
        Self {
            supervisor,
            config,
            language,
            metrics,
            slots,
        }
    }

    /// Writes the program for `script` to `program`. Waits for a place among the compilers under way.
    pub async fn compile(&self, script: &str, program: &Path) -> Result<(), Failure> {
        let _slot = self.slots.acquire().await.expect("never closed");
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
        let deadline = Instant::now() + limit.timeout;
        let mut log = Log::default();
        let limits = crate::limits::Limits {
            memory_bytes: limit.memory_bytes,
            // The program, and the object files that it is linked from.
            scratch_bytes: 4 * limit.program_bytes,
            ..self.config.limits.clone()
        };
        let (pid, folder) = (process.pid(), process.folder());
        let mut peak = 0;
        tokio::select! {
            // The log ends when the compiler and all that it has started are gone.
            () = log.read(&mut process.pipes.log, self.config.limits.output_bytes) => {}
            breach = watch::watch(pid, &folder, &limits, &mut peak) => {
                let what = match breach {
                    Breach::Memory => format!("memory to compile than {} MiB", limit.memory_bytes >> 20),
                    Breach::Disk => format!("space to compile than {} MiB", limits.scratch_bytes >> 20),
                    Breach::Threads => format!("threads to compile than {}", limits.threads),
                };
                return Err(Failure::new(FailureKind::Compile, format!("the script takes more {what}")));
            }
            () = sleep_until(deadline) => {
                return Err(Failure::new(
                    FailureKind::Compile,
                    format!("the script took longer to compile than {} s", limit.timeout.as_secs()),
                ));
            }
        }
        let status = timeout(Duration::from_secs(1), process.exit()).await;
        match status {
            Ok(Ok(status)) if status.success() => {
                // The folder is wiped when the process is dropped, so the program moves out before.
                std::fs::rename(&built, program).map_err(internal)
            }
            Ok(Ok(status)) if status.code() == Some(i32::from(crate::sandbox::FAILED)) => {
                Err(Failure::new(FailureKind::Internal, log.text()))
            }
            Ok(Ok(status)) if status.code() == Some(CRASHED) => {
                tracing::error!(log = log.text(), "the compiler crashed");
                Err(Failure::new(
                    FailureKind::Compile,
                    "the compiler crashed on this script",
                ))
            }
            Ok(Ok(_)) => Err(Failure::new(FailureKind::Compile, message(&log.text()))),
            _ => Err(Failure::new(
                FailureKind::Compile,
                "the compiler wrote more than it may",
            )),
        }
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
