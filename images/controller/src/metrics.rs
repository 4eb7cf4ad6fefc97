//! Prometheus metrics. Every label has a fixed set of values, so the number of series is bounded: README.md lists
//! them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::error::ErrorCode;
use crate::language::Language;

/// From one millisecond, which an answer without a runtime takes, to the longest timeout of the request's path.
const SECONDS_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 35.0,
];

pub struct Metrics {
    registry: Registry,
    pub requests: Family<RequestLabels, Counter>,
    pub request_seconds: Family<RouteLabels, Histogram>,
    pub overhead_seconds: Histogram,
    pub requests_in_flight: Gauge,
    pub errors: Family<ErrorLabels, Counter>,
    pub requests_shed: Family<ShedLabels, Counter>,
    pub sessions_created: Family<LanguageLabels, Counter>,
    pub kept_refused: Family<RefusalLabels, Counter>,
    pub idempotent_requests: Family<IdempotentLabels, Counter>,
    pub runtime_calls: Family<RuntimeCallLabels, Counter>,
    pub runtime_call_seconds: Family<LanguageLabels, Histogram>,
    pub runtime_connections: Family<ConnectionLabels, Counter>,
    pub runtime_retries: Family<LanguageLabels, Counter>,
    pub redis_errors: Family<RedisErrorLabels, Counter>,
    pub redis_seconds: Family<RedisCommandLabels, Histogram>,
    pub redis_connected: Family<RedisCommandLabels, Gauge>,
    pub functions_registered: Family<LanguageLabels, Counter>,
    pub database_errors: Family<DatabaseErrorLabels, Counter>,
    pub database_seconds: Family<DatabaseWorkLabels, Histogram>,
    pub database_up: Gauge,
    pub records_written: Family<TableLabels, Counter>,
    pub records_dropped: Family<DroppedLabels, Counter>,
    pub draining: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub route: &'static str,
    pub method: &'static str,
    /// `2xx`, `4xx`, `5xx`, or `cancelled` where the caller went away before the answer.
    pub status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    pub route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    pub code: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShedLabels {
    /// `requests` or `executions`: the limit that was reached.
    pub limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LanguageLabels {
    pub language: Language,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuntimeCallLabels {
    pub language: Language,
    /// `ok`, `script_error`, `rejected`, `timeout`, `unreachable`, `busy`, `lost`, `broken` or `cancelled`.
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// `keys` or `bytes` of the caller, `anonymous` of all without a user, or `full`.
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IdempotentLabels {
    /// `first`, `repeated`, `running`, `lost` or `other_request`.
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    pub language: Language,
    /// `opened`, `reused` or `failed`.
    pub event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RedisErrorLabels {
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RedisCommandLabels {
    /// `read` or `write`.
    pub lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DatabaseErrorLabels {
    /// `busy`, `connection`, `auth`, `schema`, `timeout` or `other`.
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DatabaseWorkLabels {
    /// `read`, `write` or `records`.
    pub work: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabels {
    /// `request_logs`, `error_logs` or `sessions`.
    pub table: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DroppedLabels {
    pub table: &'static str,
    /// `queue_full`, `refused` by the database, or `shutdown`.
    pub reason: &'static str,
}

impl EncodeLabelValue for Language {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

impl EncodeLabelValue for ErrorCode {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

impl Metrics {
    pub fn new() -> Self {
        let histogram = || Histogram::new(SECONDS_BUCKETS);
        let mut metrics = Metrics {
            registry: Registry::with_prefix("lambda_controller"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(histogram),
            overhead_seconds: histogram(),
            requests_in_flight: Gauge::default(),
            errors: Family::default(),
            requests_shed: Family::default(),
            sessions_created: Family::default(),
            kept_refused: Family::default(),
            idempotent_requests: Family::default(),
            runtime_calls: Family::default(),
            runtime_call_seconds: Family::new_with_constructor(histogram),
            runtime_connections: Family::default(),
            runtime_retries: Family::default(),
            redis_errors: Family::default(),
            redis_seconds: Family::new_with_constructor(histogram),
            redis_connected: Family::default(),
            functions_registered: Family::default(),
            database_errors: Family::default(),
            database_seconds: Family::new_with_constructor(histogram),
            database_up: Gauge::default(),
            records_written: Family::default(),
            records_dropped: Family::default(),
            draining: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From the request's head to the answer's",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register_with_unit(
            "overhead",
            "An execution's request without the time in which a runtime was asked",
            Unit::Seconds,
            self.overhead_seconds.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being worked on",
            self.requests_in_flight.clone(),
        );
        registry.register(
            "errors",
            "Answers that are an error, by its code",
            self.errors.clone(),
        );
        registry.register(
            "requests_shed",
            "Requests refused because a limit on concurrency was reached",
            self.requests_shed.clone(),
        );
        registry.register(
            "sessions_created",
            "Sessions confirmed",
            self.sessions_created.clone(),
        );
        registry.register(
            "kept_refused",
            "Sessions and answers that Redis did not take, as their caller keeps what it may or Redis is full",
            self.kept_refused.clone(),
        );
        registry.register(
            "idempotent_requests",
            "Executions with an Idempotency-Key",
            self.idempotent_requests.clone(),
        );
        registry.register(
            "runtime_calls",
            "Executions asked of a runtime",
            self.runtime_calls.clone(),
        );
        registry.register_with_unit(
            "runtime_call_duration",
            "From the call of a runtime to its whole answer",
            Unit::Seconds,
            self.runtime_call_seconds.clone(),
        );
        registry.register(
            "runtime_connections",
            "Connections to runtimes",
            self.runtime_connections.clone(),
        );
        registry.register(
            "runtime_retries",
            "Attempts repeated because the request had not been sent",
            self.runtime_retries.clone(),
        );
        registry.register(
            "redis_errors",
            "Failed attempts at Redis",
            self.redis_errors.clone(),
        );
        registry.register_with_unit(
            "redis_duration",
            "From a request's need of Redis to its answer, waits and retries included",
            Unit::Seconds,
            self.redis_seconds.clone(),
        );
        registry.register(
            "redis_connected",
            "Whether the connection to the master is up",
            self.redis_connected.clone(),
        );
        registry.register(
            "functions_registered",
            "Functions registered or replaced",
            self.functions_registered.clone(),
        );
        registry.register(
            "database_errors",
            "Failed attempts at PostgreSQL",
            self.database_errors.clone(),
        );
        registry.register_with_unit(
            "database_duration",
            "From the need of PostgreSQL to its answer, waits and retries included",
            Unit::Seconds,
            self.database_seconds.clone(),
        );
        registry.register(
            "database_up",
            "Whether PostgreSQL answered last",
            self.database_up.clone(),
        );
        registry.register(
            "records_written",
            "Rows of the logs and of the list of sessions that PostgreSQL has",
            self.records_written.clone(),
        );
        registry.register(
            "records_dropped",
            "Rows that were given up",
            self.records_dropped.clone(),
        );
        registry.register(
            "draining",
            "Whether this replica is shutting down",
            self.draining.clone(),
        );
        registry.register(
            "build",
            "The version that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        registry.register_with_unit(
            "start_time",
            "When this process began, since the epoch",
            Unit::Seconds,
            start,
        );
        // A series that exists from the start shows its first increment; one that begins at 1 does not.
        for language in Language::ALL {
            drop(
                self.sessions_created
                    .get_or_create(&LanguageLabels { language }),
            );
            drop(self.runtime_calls.get_or_create(&RuntimeCallLabels {
                language,
                outcome: "ok",
            }));
        }
    }

    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }

    pub fn runtime_call(&self, language: Language, outcome: &'static str, duration: Duration) {
        self.runtime_calls
            .get_or_create(&RuntimeCallLabels { language, outcome })
            .inc();
        self.runtime_call_seconds
            .get_or_create(&LanguageLabels { language })
            .observe(duration.as_secs_f64());
    }

    pub fn runtime_connection(&self, language: Language, event: &'static str) {
        self.runtime_connections
            .get_or_create(&ConnectionLabels { language, event })
            .inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}
