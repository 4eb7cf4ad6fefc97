//! One log line and the metrics for every request, also for one whose caller went away or whose handler panicked.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use jiff::Timestamp;
use lambda_common::trace_context::TraceContext;
use uuid::Uuid;

use super::{Api, Operation};
use crate::database::records;
use crate::error::{ApiError, ErrorReport};
use crate::language::Language;
use crate::metrics::{ErrorLabels, RequestLabels, RouteLabels};

/// What a handler learns about its request, for the log.
pub struct Facts {
    pub start: Instant,
    request_id: Mutex<Option<Uuid>>,
    user: OnceLock<String>,
    language: OnceLock<Language>,
    /// How long a runtime was asked, where one was.
    runtime: OnceLock<Duration>,
}

impl Facts {
    /// Of a session that is a user's, or of one that may be nobody's: whoever has the whole id of that may execute it.
    pub fn set_request_id(&self, request_id: Uuid, owner: Option<&str>) {
        let shown = match owner {
            Some(_) => request_id,
            None => masked(request_id),
        };
        *self
            .request_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(shown);
    }

    fn request_id(&self) -> Option<Uuid> {
        *self
            .request_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_user(&self, user: &str) {
        let _ = self.user.set(user.to_owned());
    }

    pub fn set_language(&self, language: Language) {
        let _ = self.language.set(language);
    }

    pub fn set_runtime(&self, asked: Duration) {
        let _ = self.runtime.set(asked);
    }
}

pub async fn observe(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let facts = Arc::new(Facts {
        start: Instant::now(),
        request_id: Mutex::new(None),
        user: OnceLock::new(),
        language: OnceLock::new(),
        runtime: OnceLock::new(),
    });
    let trace = TraceContext::continued(request.headers());
    let matched = request.extensions().get::<MatchedPath>();
    let mut observation = Observation {
        operation: matched.and_then(|path| Operation::of(path.as_str(), request.method())),
        method: method_label(request.method()),
        facts: facts.clone(),
        trace: trace.clone(),
        answer: None,
        api,
    };
    observation.api.metrics.requests_in_flight.inc();
    request.extensions_mut().insert(facts);
    request.extensions_mut().insert(trace);
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = outcome.unwrap_or_else(|_| {
        // The panic's own message and place are in the log already, from the panic hook.
        ApiError::internal("the controller failed", "a handler panicked").into_response()
    });
    if observation.api.lifecycle.is_draining() {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    observation.answer = Some((
        response.status(),
        response.extensions_mut().remove::<ErrorReport>(),
    ));
    response
}

/// Written when it is dropped; without an answer if the caller went away before there was one.
struct Observation {
    api: Arc<Api>,
    operation: Option<Operation>,
    method: &'static str,
    facts: Arc<Facts>,
    trace: TraceContext,
    answer: Option<(StatusCode, Option<ErrorReport>)>,
}

impl Drop for Observation {
    fn drop(&mut self) {
        let metrics = &self.api.metrics;
        let duration = self.facts.start.elapsed();
        let route = self.operation.map_or("none", Operation::label);
        let status = match &self.answer {
            Some((status, _)) => status_class(*status),
            None => "cancelled",
        };
        metrics.requests_in_flight.dec();
        metrics
            .requests
            .get_or_create(&RequestLabels {
                route,
                method: self.method,
                status,
            })
            .inc();
        metrics
            .request_seconds
            .get_or_create(&RouteLabels { route })
            .observe(duration.as_secs_f64());
        if let (Some(_), Some(asked)) = (&self.answer, self.facts.runtime.get()) {
            metrics
                .overhead_seconds
                .observe(duration.saturating_sub(*asked).as_secs_f64());
        }
        let report = self.answer.as_ref().and_then(|(_, report)| report.as_ref());
        if let Some(report) = report {
            metrics
                .errors
                .get_or_create(&ErrorLabels { code: report.code })
                .inc();
        }
        let outcome = match (&self.answer, report) {
            (None, _) => "cancelled",
            (Some(_), Some(report)) => report.code.name(),
            (Some(_), None) => "ok",
        };
        let line = LogLine {
            route,
            method: self.method,
            status: self.answer.as_ref().map(|(status, _)| status.as_u16()),
            outcome,
            cause: report.and_then(|report| report.cause.as_deref()),
            duration_ms: (duration.as_secs_f64() * 1e6).round() / 1e3,
        };
        self.log(&line);
        self.leave_records(&line, report);
    }
}

struct LogLine<'a> {
    route: &'static str,
    method: &'static str,
    status: Option<u16>,
    outcome: &'static str,
    cause: Option<&'a str>,
    duration_ms: f64,
}

impl Observation {
    /// The same, for the database. Probes come every few seconds and say the same.
    fn leave_records(&self, line: &LogLine<'_>, report: Option<&ErrorReport>) {
        let records = &self.api.records;
        if !records.are_kept() || self.operation.is_some_and(Operation::is_probe) {
            return;
        }
        let at = Timestamp::now();
        let facts = &self.facts;
        let (request_id, language) = (facts.request_id(), facts.language.get().copied());
        records.leave(records::Row::Request(records::RequestLog {
            at,
            id: Uuid::new_v4(),
            request_id,
            trace_id: self.trace.trace_id().to_owned(),
            span_id: self.trace.span_id().to_owned(),
            route: line.route,
            method: line.method,
            status: line.status,
            outcome: line.outcome,
            duration_ms: line.duration_ms,
            user_id: facts.user.get().cloned(),
            language,
        }));
        if let (Some(report), Some(status)) = (report, line.status) {
            records.leave(records::Row::Error(records::ErrorLog {
                at,
                id: Uuid::new_v4(),
                request_id,
                trace_id: self.trace.trace_id().to_owned(),
                span_id: self.trace.span_id().to_owned(),
                route: line.route,
                status,
                code: report.code.name(),
                cause: report.cause.clone(),
                user_id: facts.user.get().cloned(),
                language,
            }));
        }
    }

    fn log(&self, line: &LogLine<'_>) {
        // tracing's level is fixed at each call, so the same line stands here three times.
        macro_rules! write_line {
            ($level:ident) => {
                tracing::$level!(
                    target: "lambda_controller::request",
                    route = line.route,
                    method = line.method,
                    status = line.status,
                    outcome = line.outcome,
                    cause = line.cause,
                    duration_ms = line.duration_ms,
                    request_id = self.trace.request_id(),
                    session_id = self.facts.request_id().map(tracing::field::display),
                    user = self.facts.user.get().map(String::as_str),
                    language = self.facts.language.get().map(|language| language.name()),
                    trace_id = self.trace.trace_id(),
                    span_id = self.trace.span_id(),
                    "request"
                )
            };
        }
        let failed = line.status.is_some_and(|status| status >= 500);
        match self.operation {
            // Probes come every few seconds and say the same.
            Some(operation) if operation.is_probe() => write_line!(debug),
            _ if failed => write_line!(warn),
            _ => write_line!(info),
        }
    }
}

pub fn masked(id: Uuid) -> Uuid {
    let masked = lambda_common::masked::masked(&id.to_string());
    Uuid::try_parse(&masked).expect("half of a UUID and zeros are one")
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

/// A method can be any word, and a label must not.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
