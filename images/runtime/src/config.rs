//! Settings, all from environment variables. README.md lists them.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lambda_common::configuration::{self, ConfigError, Environment};

use crate::limits::{Limits, ProcessCount};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The language whose scripts this runtime takes: one a process, chosen by its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanguageName {
    Nodejs,
    Python,
    Rust,
}

impl LanguageName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nodejs => "nodejs",
            Self::Python => "python",
            Self::Rust => "rust",
        }
    }

    /// Resident bytes of a process that waits for its script, shared libraries included, measured on amd64 and rounded up:
    /// Node.js 18 takes 47.5 MiB, Python 3.13 takes 16.2 MiB. Rust programs start when their script is known.
    fn idle_bytes(self) -> u64 {
        match self {
            Self::Nodejs => 48 * MIB,
            Self::Python => 16 * MIB,
            Self::Rust => 0,
        }
    }
}

/// Of one execution: below it no language starts.
pub const LEAST_MEMORY: u64 = 64 * MIB;

/// How Rust scripts become programs.
#[derive(Clone, Debug)]
pub struct Compile {
    pub timeout: Duration,
    pub memory_bytes: u64,
    pub slots: usize,
    pub cache_bytes: u64,
    pub program_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub host: String,
    pub port: u16,
    pub metrics_port: u16,
    pub language: LanguageName,
    /// The language's worker: a script for the interpreter, or for Rust the folder of compiled libraries.
    pub worker: PathBuf,
    /// The interpreter or compiler; found on PATH where it is a bare name.
    pub interpreter: PathBuf,
    /// Folder under which every process gets its own; must be writable and is emptied at start.
    pub scratch_root: PathBuf,
    pub limits: Limits,
    /// More than the controller lets a script, a context and params have together: what it takes can be executed.
    pub max_body_bytes: usize,
    pub max_script_bytes: usize,
    pub max_concurrency: usize,
    pub max_queue: usize,
    /// Of the places and of the queue, for one caller.
    pub caller_share: f64,
    pub queue_wait: Duration,
    pub warm_processes: usize,
    /// How long a process waits for the next execution of its caller's script; None where each is used once.
    pub reuse: Option<Duration>,
    /// Interpreters that start at a time, where they are not forked.
    pub start_concurrency: usize,
    /// Time between SIGTERM and the end of accepting: what the endpoints' removal takes to reach every client.
    pub drain: Duration,
    /// Longest wait for requests in flight after that.
    pub shutdown: Duration,
    pub require_landlock: bool,
    pub compile: Compile,
    pub threads: usize,
}

impl Config {
    pub fn from_environment() -> Result<Self, Vec<ConfigError>> {
        Self::read(&configuration::variable)
    }

    fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let mut environment = Environment::new(lookup);
        let config = Self::from_variables(&mut environment);
        environment.finish(config)
    }

    fn from_variables(variables: &mut Environment) -> Option<Self> {
        let known = [
            LanguageName::Nodejs,
            LanguageName::Python,
            LanguageName::Rust,
        ];
        let given = variables.choice(
            "RUNTIME_LANGUAGE",
            None,
            &known.map(|name| (name.as_str(), name)),
        );
        // Where it is wrong, the start ends, and this is for the other variables' defaults alone.
        let language = given.unwrap_or(LanguageName::Python);
        let interpreter = variables.value("INTERPRETER").unwrap_or_else(|| {
            match language {
                LanguageName::Nodejs => "node",
                LanguageName::Python => "python3",
                LanguageName::Rust => "rustc",
            }
            .into()
        });
        let worker = variables.required("WORKER", "the path of the language's worker");

        let wall_max = variables.seconds("MAX_TIMEOUT_SECONDS", 30, 1..=3600);
        let most_seconds = match variables.is_wrong("MAX_TIMEOUT_SECONDS") {
            true => 3600,
            false => wall_max.as_secs(),
        };
        let limits = Limits {
            wall_default: variables.seconds(
                "TIMEOUT_SECONDS",
                wall_max.as_secs().min(30),
                1..=most_seconds,
            ),
            wall_max,
            cpu_seconds: variables
                .seconds("CPU_LIMIT_SECONDS", wall_max.as_secs(), 1..=3600)
                .as_secs(),
            memory_bytes: variables.bytes("MEMORY_LIMIT_BYTES", 256 * MIB, LEAST_MEMORY..=1 << 40),
            output_bytes: variables.bytes("OUTPUT_LIMIT_BYTES", 5 * MIB, 1024..=1 << 30),
            logged_bytes: variables.bytes("OUTPUT_LOG_BYTES", 16 * KIB, 0..=1 << 30),
            scratch_bytes: variables.bytes("SCRATCH_LIMIT_BYTES", 64 * MIB, MIB..=1 << 40),
            scratch_entries: variables.number(
                "SCRATCH_LIMIT_ENTRIES",
                1000,
                1..=1_000_000,
                "a number of files and folders",
            ),
            open_files: variables.number(
                "OPEN_FILES_LIMIT",
                128,
                32..=65536,
                "a number of open files",
            ),
            threads: variables.number("THREADS_LIMIT", 64, 16..=4096, "a number of threads"),
        };
        let compile = Compile {
            timeout: variables.seconds("COMPILE_TIMEOUT_SECONDS", 20, 1..=600),
            memory_bytes: variables.bytes(
                "COMPILE_MEMORY_LIMIT_BYTES",
                640 * MIB,
                256 * MIB..=1 << 40,
            ),
            slots: variables.number("COMPILE_CONCURRENCY", 1, 1..=64, "a number of compilers")
                as usize,
            cache_bytes: variables.bytes("COMPILE_CACHE_BYTES", 128 * MIB, MIB..=1 << 40),
            program_bytes: variables.bytes("COMPILE_PROGRAM_BYTES", 16 * MIB, MIB..=1 << 32),
        };

        let memory = variables.bytes(
            "POD_MEMORY_BYTES",
            lambda_common::container::memory_bytes(),
            64 * MIB..=1 << 50,
        );
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let fitting = fitting_executions(language, memory, limits.memory_bytes, &compile)
            .min(8 * cpus as u64);
        let executions = "a number of executions";
        let max_concurrency = variables.number("MAX_CONCURRENCY", fitting, 1..=4096, executions);
        let warm = match language {
            LanguageName::Rust => 0,
            _ => default_warm(max_concurrency),
        };
        let processes = "a number of processes";
        let port = "a TCP port (0: any)";
        let caller_share = variables.parsed("CALLER_SHARE", Share(0.5), SHARE).0;
        let reuse_idle = variables.seconds("REUSE_IDLE_SECONDS", 60, 1..=3600);
        let reuse = variables.choice("REUSE", Some(true), &[("caller", true), ("none", false)]);
        Some(Self {
            host: variables.value("HOST").unwrap_or_else(|| "0.0.0.0".into()),
            port: variables.number("PORT", 8080, 0..=65535, port) as u16,
            metrics_port: variables.number("METRICS_PORT", 9090, 0..=65535, port) as u16,
            interpreter: interpreter.into(),
            scratch_root: variables
                .value("SCRATCH_DIR")
                .unwrap_or_else(|| "/tmp/lambda".into())
                .into(),
            limits,
            max_body_bytes: variables.bytes("MAX_BODY_BYTES", 9 * MIB, 1024..=1 << 30) as usize,
            max_script_bytes: variables.bytes("MAX_SCRIPT_SIZE", MIB, 1..=1 << 30) as usize,
            max_concurrency: max_concurrency as usize,
            max_queue: variables.number(
                "MAX_QUEUE",
                (2 * max_concurrency).max(256),
                0..=65536,
                "a number of requests",
            ) as usize,
            caller_share,
            queue_wait: variables.seconds("QUEUE_SECONDS", 1, 0..=600),
            warm_processes: variables.number("WARM_PROCESSES", warm, 0..=1024, processes) as usize,
            reuse: reuse.unwrap_or(true).then_some(reuse_idle),
            // Two at least, so that one that hangs does not hold up all.
            start_concurrency: variables.number(
                "START_CONCURRENCY",
                cpus.max(2) as u64,
                1..=1024,
                processes,
            ) as usize,
            drain: variables.seconds("DRAIN_SECONDS", 5, 0..=600),
            shutdown: variables.seconds("SHUTDOWN_SECONDS", wall_max.as_secs() + 5, 1..=3600),
            require_landlock: variables.flag("REQUIRE_LANDLOCK", false),
            compile,
            threads: cpus.clamp(2, 8),
            language: given?,
            worker: worker?.into(),
        })
    }
}

const SHARE: &str = "a number greater than 0, at most 1";

struct Share(f64);

impl FromStr for Share {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let share: f64 = text.trim().parse().map_err(|_| ())?;
        (share > 0.0 && share <= 1.0)
            .then_some(Share(share))
            .ok_or(())
    }
}

/// Threads of a process that waits for its script, rounded up: Node.js has 7, Python and the fork server have one.
const IDLE_THREADS: u64 = 8;
/// Of the supervisor itself: its main thread, and those for blocking work.
pub const BLOCKING_THREADS: usize = 8;

impl Config {
    /// Processes and threads, which the kernel counts alike, that all together can have within their limits.
    fn most_processes(&self) -> u64 {
        let supervisor = 1 + self.threads + BLOCKING_THREADS;
        let compilers = match self.language {
            LanguageName::Rust => self.compile.slots,
            _ => 0,
        };
        supervisor as u64
            + (self.max_concurrency + compilers) as u64 * self.limits.threads
            + (self.warm_processes + 1) as u64 * IDLE_THREADS
    }

    /// Refuses a container in which executions could take each other's processes.
    pub fn check_processes(&self, possible: Option<ProcessCount>) -> Result<(), String> {
        let needed = self.most_processes();
        match possible {
            Some(ProcessCount { most, source }) if most < needed => Err(format!(
                "too few processes and threads are possible: found {most} ({source}), needed {needed} for MAX_CONCURRENCY {} \
                 times THREADS_LIMIT {}, and what waits and compiles beside them. To do: raise the container's limit of \
                 processes (podPidsLimit of the kubelet, pids_limit of the container runtime), or lower MAX_CONCURRENCY or THREADS_LIMIT",
                self.max_concurrency, self.limits.threads
            )),
            _ => Ok(()),
        }
    }
}

/// Executions that fit into the container together, each at its memory limit, beside the supervisor, the processes that
/// wait and the compiler: more would make the kernel's OOM killer choose among callers.
fn fitting_executions(language: LanguageName, memory: u64, each: u64, compile: &Compile) -> u64 {
    let supervisor = 64 * MIB;
    let compiler = match language {
        LanguageName::Rust => compile.memory_bytes * compile.slots as u64,
        _ => 0,
    };
    let mut fitting = memory.saturating_sub(supervisor + compiler) / each;
    while fitting > 1
        && fitting * each + default_warm(fitting) * language.idle_bytes() + supervisor + compiler
            > memory
    {
        fitting -= 1;
    }
    fitting.max(1)
}

fn default_warm(concurrency: u64) -> u64 {
    concurrency.clamp(1, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&'static str, &str)]) -> Result<Config, Vec<ConfigError>> {
        let mut all = vec![
            ("RUNTIME_LANGUAGE", "python"),
            ("WORKER", "/w.py"),
            ("POD_MEMORY_BYTES", "2147483648"),
        ];
        all.extend_from_slice(pairs);
        Config::read(&|name| {
            all.iter()
                .rev()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn defaults_are_the_contract() {
        let config = config(&[]).unwrap();
        assert_eq!((config.port, config.metrics_port), (8080, 9090));
        assert_eq!(config.limits.wall_default, Duration::from_secs(30));
        assert_eq!(config.limits.output_bytes, 5 * MIB);
        assert_eq!(config.max_script_bytes, 1_048_576);
    }

    #[test]
    fn bytes_may_be_quantities() {
        let config = config(&[("MEMORY_LIMIT_BYTES", "128Mi"), ("MAX_SCRIPT_SIZE", "2M")]).unwrap();
        assert_eq!(config.limits.memory_bytes, 128 * MIB);
        assert_eq!(config.max_script_bytes, 2_000_000);
    }

    #[test]
    fn executions_at_their_limit_fit_into_the_container() {
        for language in [
            LanguageName::Nodejs,
            LanguageName::Python,
            LanguageName::Rust,
        ] {
            for gib in [1, 2, 4, 16] {
                let compile = config(&[]).unwrap().compile;
                let fitting = fitting_executions(language, gib << 30, 256 * MIB, &compile);
                let used =
                    fitting * 256 * MIB + default_warm(fitting) * language.idle_bytes() + 64 * MIB;
                assert!(
                    used <= gib << 30,
                    "{language:?} in {gib} GiB: {fitting} executions take {used} bytes"
                );
            }
        }
        let small = config(&[("POD_MEMORY_BYTES", "134217728")]).unwrap();
        assert_eq!(small.max_concurrency, 1, "one execution is always allowed");
    }

    #[test]
    fn all_executions_with_all_their_threads_are_possible_or_the_start_is_refused() {
        let settings = [
            ("MAX_CONCURRENCY", "4"),
            ("THREADS_LIMIT", "32"),
            ("WARM_PROCESSES", "2"),
            ("COMPILE_CONCURRENCY", "3"),
        ];
        let python = config(&settings).unwrap();
        let rust = config(&[&settings[..], &[("RUNTIME_LANGUAGE", "rust")]].concat()).unwrap();
        let supervisor = 1 + 8 + python.threads as u64;
        assert_eq!(python.most_processes(), supervisor + 4 * 32 + 3 * 8);
        assert_eq!(rust.most_processes(), supervisor + 7 * 32 + 3 * 8);
        let possible = |more: i64| {
            let most = python.most_processes().saturating_add_signed(more);
            let source = "pids.max".into();
            python.check_processes(Some(ProcessCount { most, source }))
        };
        assert_eq!(possible(0), Ok(()));
        assert_eq!(python.check_processes(None), Ok(()));
        let error = possible(-1).unwrap_err();
        let needed = python.most_processes();
        let told = format!(
            "found {} (pids.max), needed {needed} for MAX_CONCURRENCY 4 times THREADS_LIMIT 32",
            needed - 1
        );
        assert!(error.contains(&told), "{error}");
    }

    fn errors_of(pairs: &[(&'static str, &str)]) -> Vec<String> {
        let errors = config(pairs).expect_err("these settings are wrong");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_expected() {
        for (name, value, expected) in [
            ("PORT", "eighty", "a TCP port (0: any) from 0 to 65535"),
            (
                "TIMEOUT_SECONDS",
                "31",
                "a whole number of seconds from 1 to 30",
            ),
            ("RUNTIME_LANGUAGE", "cobol", "nodejs, python or rust"),
            ("REQUIRE_LANDLOCK", "maybe", "true, false, 1 or 0"),
            ("REUSE", "all", "caller or none"),
            ("CALLER_SHARE", "0", SHARE),
            ("CALLER_SHARE", "nan", SHARE),
        ] {
            assert_eq!(
                errors_of(&[(name, value)]),
                [format!("{name}: found {value:?}, expected {expected}")]
            );
        }
    }

    #[test]
    fn all_wrong_values_are_named_at_once_and_no_right_one() {
        let errors = errors_of(&[
            ("RUNTIME_LANGUAGE", ""),
            ("WORKER", ""),
            ("MAX_TIMEOUT_SECONDS", "x"),
            // Right or wrong by the former.
            ("TIMEOUT_SECONDS", "60"),
            ("OUTPUT_LIMIT_BYTES", "5MB"),
        ]);
        let names: Vec<_> = errors
            .iter()
            .map(|error| error.split(':').next().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "RUNTIME_LANGUAGE",
                "WORKER",
                "MAX_TIMEOUT_SECONDS",
                "OUTPUT_LIMIT_BYTES"
            ]
        );
    }
}
