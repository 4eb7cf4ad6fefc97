//! What Prometheus scrapes. Every label has a fixed set of values; nothing that a caller sends becomes one.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::config::LanguageName;
use crate::execution::FailureKind;
use crate::isolation::Kernel;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Start {
    from: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Part {
    part: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Cache {
    result: CacheResult,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the label's values")]
enum Outcome {
    success,
    failure,
    rejected,
    cancelled,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Execution {
    outcome: Outcome,
}

/// How the compile cache met a request.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum CacheResult {
    Hit,
    /// Another request was compiling the same script.
    Joined,
    Miss,
}

impl EncodeLabelValue for CacheResult {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> Result<(), std::fmt::Error> {
        match self {
            Self::Hit => "hit",
            Self::Joined => "joined",
            Self::Miss => "miss",
        }
        .encode(encoder)
    }
}

pub struct Metrics {
    registry: Registry,
    executions: Family<Execution, Counter>,
    failures: Family<Kind, Counter>,
    script_seconds: Histogram,
    request_seconds: Histogram,
    queue_seconds: Histogram,
    memory_bytes: Histogram,
    running: Gauge,
    queued: Gauge,
    warm: Gauge,
    kept: Gauge,
    starts: Family<Start, Counter>,
    cache_requests: Family<Cache, Counter>,
    cache_bytes: Gauge,
    compile_seconds: Histogram,
}

/// From a bare script of under a millisecond to the longest that is allowed.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

impl Metrics {
    pub fn new(language: LanguageName, version: &str, concurrency: usize, kernel: &Kernel) -> Self {
        let labels = [("language".into(), language.as_str().into())];
        let mut registry = Registry::with_prefix_and_labels("lambda_runtime", labels.into_iter());
        let seconds = || Histogram::new(SECONDS);
        let metrics = Self {
            executions: Family::default(),
            failures: Family::default(),
            script_seconds: seconds(),
            request_seconds: seconds(),
            queue_seconds: seconds(),
            memory_bytes: Histogram::new((23..=31).map(|power| f64::from(2u32.pow(power)))),
            running: Gauge::default(),
            queued: Gauge::default(),
            warm: Gauge::default(),
            kept: Gauge::default(),
            starts: Family::default(),
            cache_requests: Family::default(),
            cache_bytes: Gauge::default(),
            compile_seconds: seconds(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register(
            "executions",
            "Requests to execute, by outcome",
            m.executions.clone(),
        );
        registry.register(
            "failures",
            "Executions without a result, by kind",
            m.failures.clone(),
        );
        let seconds = |registry: &mut Registry, name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds(
            &mut registry,
            "script_duration",
            "Time of the script alone",
            &m.script_seconds,
        );
        seconds(
            &mut registry,
            "execution_duration",
            "Time from request to answer",
            &m.request_seconds,
        );
        seconds(
            &mut registry,
            "queue_wait",
            "Time that a request waited for its place",
            &m.queue_seconds,
        );
        registry.register_with_unit(
            "script_memory",
            "Peak resident memory of a script's process",
            Unit::Bytes,
            m.memory_bytes.clone(),
        );
        registry.register("running", "Executions under way", m.running.clone());
        registry.register("queued", "Requests that wait for a place", m.queued.clone());
        registry.register(
            "warm_processes",
            "Processes that wait for a script",
            m.warm.clone(),
        );
        registry.register(
            "kept_processes",
            "Processes that wait for the next execution of their caller's script",
            m.kept.clone(),
        );
        registry.register(
            "process_starts",
            "Processes handed to an execution, by where they came from",
            m.starts.clone(),
        );
        let limit: Gauge = Gauge::default();
        limit.set(concurrency as i64);
        registry.register(
            "concurrency_limit",
            "Executions that may be under way",
            limit,
        );
        let isolation = Family::<Part, Gauge>::default();
        for (part, in_force) in kernel.parts() {
            isolation
                .get_or_create(&Part { part })
                .set(i64::from(in_force));
        }
        registry.register(
            "isolation",
            "Whether a part of the isolation is in force",
            isolation,
        );
        let landlock: Gauge = Gauge::default();
        landlock.set(i64::from(kernel.landlock_abi));
        registry.register("landlock_abi", "The kernel's Landlock ABI", landlock);
        let info = Family::<Vec<(String, String)>, Gauge>::default();
        info.get_or_create(&vec![("version".into(), version.into())])
            .set(1);
        registry.register(
            "build_language_info",
            "The language's version, always 1",
            info,
        );
        if language == LanguageName::Rust {
            registry.register(
                "compile_cache_requests",
                "Look-ups of compiled scripts",
                m.cache_requests.clone(),
            );
            registry.register_with_unit(
                "compile_cache",
                "Size of the compiled scripts that are kept",
                Unit::Bytes,
                m.cache_bytes.clone(),
            );
            seconds(
                &mut registry,
                "compile_duration",
                "Time of a compilation",
                &m.compile_seconds,
            );
            for result in [CacheResult::Hit, CacheResult::Joined, CacheResult::Miss] {
                drop(m.cache_requests.get_or_create(&Cache { result }));
            }
        }
        // Series that are zero are there: a rate over one that appears with its first event misses that event.
        for outcome in [
            Outcome::success,
            Outcome::failure,
            Outcome::rejected,
            Outcome::cancelled,
        ] {
            drop(m.executions.get_or_create(&Execution { outcome }));
        }
        for from in ["kept", "warm", "cold"] {
            drop(m.starts.get_or_create(&Start { from }));
        }
        for kind in FailureKind::ALL {
            drop(m.failures.get_or_create(&Kind {
                kind: kind.as_str(),
            }));
        }
        Self {
            registry,
            ..metrics
        }
    }

    /// In OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all");
        text
    }

    pub fn succeeded(&self, script: Duration, memory_bytes: u64) {
        self.executed(Outcome::success);
        self.script_seconds.observe(script.as_secs_f64());
        self.memory_bytes.observe(memory_bytes as f64);
    }

    pub fn failed(&self, kind: FailureKind) {
        self.executed(Outcome::failure);
        self.failures
            .get_or_create(&Kind {
                kind: kind.as_str(),
            })
            .inc();
    }

    pub fn rejected(&self) {
        self.executed(Outcome::rejected);
    }

    pub fn cancelled(&self) {
        self.executed(Outcome::cancelled);
    }

    pub fn answered(&self, whole: Duration) {
        self.request_seconds.observe(whole.as_secs_f64());
    }

    pub fn waited(&self, wait: Duration) {
        self.queue_seconds.observe(wait.as_secs_f64());
    }

    pub fn running(&self) -> Counted {
        Counted::new(self.running.clone())
    }

    pub fn queued(&self) -> Counted {
        Counted::new(self.queued.clone())
    }

    pub fn warm_processes(&self, count: usize) {
        self.warm.set(count as i64);
    }

    pub fn kept_processes(&self, count: usize) {
        self.kept.set(count as i64);
    }

    /// `from` is kept, warm or cold.
    pub fn process_started(&self, from: &'static str) {
        self.starts.get_or_create(&Start { from }).inc();
    }

    pub fn cache_request(&self, result: CacheResult) {
        self.cache_requests.get_or_create(&Cache { result }).inc();
    }

    pub fn cache_bytes(&self, bytes: u64) {
        self.cache_bytes.set(bytes as i64);
    }

    pub fn compiled(&self, duration: Duration) {
        self.compile_seconds.observe(duration.as_secs_f64());
    }

    fn executed(&self, outcome: Outcome) {
        self.executions.get_or_create(&Execution { outcome }).inc();
    }
}

/// Counts in a gauge for as long as it lives, also where a request is dropped half-way.
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(name, type)`
    fn registered(language: LanguageName) -> Vec<(String, String)> {
        let text = Metrics::new(language, "1", 1, &Kernel::ask()).text();
        let types = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types
            .map(|(name, kind)| (name.into(), kind.into()))
            .collect()
    }

    #[test]
    fn every_metric_is_described() {
        let readme = include_str!("../README.md");
        let mut all = registered(LanguageName::Rust);
        all.extend(registered(LanguageName::Python));
        for (name, kind) in all {
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}` | {kind} |")));
            assert!(row.is_some(), "README.md has no row for the {kind} {name}");
        }
    }

    #[test]
    fn series_are_there_before_their_first_event() {
        let text = Metrics::new(LanguageName::Rust, "1", 1, &Kernel::ask()).text();
        for series in [
            r#"lambda_runtime_executions_total{language="rust",outcome="rejected"} 0"#,
            r#"lambda_runtime_failures_total{language="rust",kind="timeout"} 0"#,
            r#"lambda_runtime_process_starts_total{language="rust",from="cold"} 0"#,
            r#"lambda_runtime_compile_cache_requests_total{language="rust",result="hit"} 0"#,
        ] {
            assert!(text.contains(series), "{series}\n{text}");
        }
    }
}
