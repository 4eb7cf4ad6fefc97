//! Settings, all from environment variables. README.md lists them.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::Limits;

const MIB: u64 = 1024 * 1024;

/// A variable that has a value which is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("{name} is {found:?}. Expected: {expected}.")]
pub struct ConfigError {
    name: &'static str,
    found: String,
    expected: String,
}

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
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(variable: &dyn Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let number = |name, default: u64, least: u64, most: u64| {
            number(variable, name, default, least, most)
        };
        let language = match variable("RUNTIME_LANGUAGE").as_deref() {
            Some("nodejs") => LanguageName::Nodejs,
            Some("python") => LanguageName::Python,
            Some("rust") => LanguageName::Rust,
            found => {
                return Err(wrong(
                    "RUNTIME_LANGUAGE",
                    found.unwrap_or(""),
                    "nodejs, python or rust",
                ));
            }
        };
        let interpreter = variable("INTERPRETER").unwrap_or_else(|| {
            match language {
                LanguageName::Nodejs => "node",
                LanguageName::Python => "python3",
                LanguageName::Rust => "rustc",
            }
            .into()
        });
        let worker = variable("WORKER")
            .ok_or_else(|| wrong("WORKER", "", "the path of the language's worker"))?;

        let wall_max = number("MAX_TIMEOUT_SECONDS", 30, 1, 3600)?;
        let limits = Limits {
            wall_default: Duration::from_secs(number(
                "TIMEOUT_SECONDS",
                wall_max.min(30),
                1,
                wall_max,
            )?),
            wall_max: Duration::from_secs(wall_max),
            cpu_seconds: number("CPU_LIMIT_SECONDS", wall_max, 1, 3600)?,
            memory_bytes: number("MEMORY_LIMIT_BYTES", 256 * MIB, 64 * MIB, 1 << 40)?,
            output_bytes: number("OUTPUT_LIMIT_BYTES", 5 * MIB, 1024, 1 << 30)?,
            scratch_bytes: number("SCRATCH_LIMIT_BYTES", 64 * MIB, MIB, 1 << 40)?,
            scratch_entries: number("SCRATCH_LIMIT_ENTRIES", 1000, 1, 1_000_000)?,
            open_files: number("OPEN_FILES_LIMIT", 128, 32, 65536)?,
            threads: number("THREADS_LIMIT", 64, 16, 4096)?,
        };
        let compile = Compile {
            timeout: Duration::from_secs(number("COMPILE_TIMEOUT_SECONDS", 20, 1, 600)?),
            memory_bytes: number("COMPILE_MEMORY_LIMIT_BYTES", 640 * MIB, 256 * MIB, 1 << 40)?,
            slots: number("COMPILE_CONCURRENCY", 1, 1, 64)? as usize,
            cache_bytes: number("COMPILE_CACHE_BYTES", 128 * MIB, MIB, 1 << 40)?,
            program_bytes: number("COMPILE_PROGRAM_BYTES", 16 * MIB, MIB, 1 << 32)?,
        };

        let memory = number(
            "POD_MEMORY_BYTES",
            crate::limits::container_memory_bytes(),
            64 * MIB,
            u64::MAX,
        )?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let fitting = fitting_executions(language, memory, limits.memory_bytes, &compile)
            .min(8 * cpus as u64);
        let max_concurrency = number("MAX_CONCURRENCY", fitting, 1, 4096)? as usize;
        let warm = match language {
            LanguageName::Rust => 0,
            _ => default_warm(max_concurrency as u64),
        };
        Ok(Self {
            host: variable("HOST").unwrap_or_else(|| "0.0.0.0".into()),
            port: number("PORT", 8080, 0, 65535)? as u16,
            metrics_port: number("METRICS_PORT", 9090, 0, 65535)? as u16,
            language,
            worker: worker.into(),
            interpreter: interpreter.into(),
            scratch_root: variable("SCRATCH_DIR")
                .unwrap_or_else(|| "/tmp/lambda".into())
                .into(),
            limits,
            max_body_bytes: number("MAX_BODY_BYTES", 9 * MIB, 1024, 1 << 30)? as usize,
            max_script_bytes: number("MAX_SCRIPT_SIZE", MIB, 1, 1 << 30)? as usize,
            max_concurrency,
            max_queue: number("MAX_QUEUE", (2 * max_concurrency as u64).max(64), 0, 65536)?
                as usize,
            caller_share: match variable("CALLER_SHARE").map(|text| (text.parse::<f64>(), text)) {
                None => 0.5,
                Some((Ok(share), _)) if share > 0.0 && share <= 1.0 => share,
                Some((_, found)) => {
                    return Err(wrong(
                        "CALLER_SHARE",
                        &found,
                        "a number greater than 0, at most 1",
                    ));
                }
            },
            queue_wait: Duration::from_secs(number("QUEUE_SECONDS", 1, 0, 600)?),
            warm_processes: number("WARM_PROCESSES", warm, 0, 1024)? as usize,
            reuse: match variable("REUSE").as_deref() {
                None | Some("caller") => Some(Duration::from_secs(number(
                    "REUSE_IDLE_SECONDS",
                    60,
                    1,
                    3600,
                )?)),
                Some("none") => None,
                Some(found) => return Err(wrong("REUSE", found, "caller or none")),
            },
            // Two at least, so that one that hangs does not hold up all.
            start_concurrency: number("START_CONCURRENCY", cpus.max(2) as u64, 1, 1024)? as usize,
            drain: Duration::from_secs(number("DRAIN_SECONDS", 5, 0, 600)?),
            shutdown: Duration::from_secs(number("SHUTDOWN_SECONDS", wall_max + 5, 1, 3600)?),
            require_landlock: flag(variable, "REQUIRE_LANDLOCK", false)?,
            compile,
            threads: cpus.clamp(2, 8),
        })
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

fn number(
    variable: &dyn Fn(&'static str) -> Option<String>,
    name: &'static str,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, ConfigError> {
    let Some(found) = variable(name) else {
        return Ok(default.clamp(least, most));
    };
    let bytes = name.ends_with("_BYTES");
    let value = if bytes {
        quantity(&found)
    } else {
        found.trim().parse().ok()
    };
    let range = format!("a whole number from {least} to {most}");
    match value {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        _ if bytes => Err(wrong(name, &found, &format!("{range}, or as in 64Mi"))),
        _ => Err(wrong(name, &found, &range)),
    }
}

/// A number of bytes, which may end in Ki, Mi or Gi as Kubernetes' quantities do.
fn quantity(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1u64 << 30)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn flag(
    variable: &dyn Fn(&'static str) -> Option<String>,
    name: &'static str,
    default: bool,
) -> Result<bool, ConfigError> {
    match variable(name).as_deref() {
        None => Ok(default),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(found) => Err(wrong(name, found, "true or false")),
    }
}

fn wrong(name: &'static str, found: &str, expected: &str) -> ConfigError {
    ConfigError {
        name,
        found: found.into(),
        expected: expected.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
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
        for (text, bytes) in [
            ("67108864", 64 * MIB),
            ("128Mi", 128 * MIB),
            ("1Gi", 1 << 30),
        ] {
            let config = config(&[("MEMORY_LIMIT_BYTES", text)]).unwrap();
            assert_eq!(config.limits.memory_bytes, bytes);
        }
        assert!(config(&[("OUTPUT_LIMIT_BYTES", "18446744073709551615Gi")]).is_err());
        assert!(config(&[("PORT", "8Ki")]).is_err());
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
    fn a_wrong_value_is_named_with_what_is_expected() {
        let error = config(&[("PORT", "eighty")]).unwrap_err().to_string();
        assert_eq!(
            error,
            r#"PORT is "eighty". Expected: a whole number from 0 to 65535."#
        );
        let error = config(&[("TIMEOUT_SECONDS", "31")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("from 1 to 30"), "{error}");
        let error = config(&[("OUTPUT_LIMIT_BYTES", "5MB")]).unwrap_err();
        assert!(error.to_string().contains("or as in 64Mi"), "{error}");
        assert!(config(&[("RUNTIME_LANGUAGE", "cobol")]).is_err());
        assert!(config(&[("REQUIRE_LANDLOCK", "maybe")]).is_err());
    }
}
