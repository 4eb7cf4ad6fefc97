//! The HTTP side of the contract.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use http_body_util::BodyExt;
use lambda_common::body::discard;
use lambda_common::masked::masked;
use lambda_common::shutdown::{Lifecycle, Phase, Signals};
use lambda_common::trace_context::TraceContext;
use lambda_common::{connections, json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::time::timeout_at;
use tracing::Instrument;

use crate::config::{Config, LEAST_MEMORY};
use crate::deadline::Deadline;
use crate::error::ApiError;
use crate::places::Place;
use crate::process::Process;
use crate::runtime::{Job, Runtime};

/// How long a client may take to send a body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// A larger one is read only once it has a place: thousands of these fit into memory, of the largest a few.
const SMALL_BODY: u64 = 64 * 1024;
/// How long what is refused is read on.
const DISCARD_LIMIT: Duration = Duration::from_millis(500);
const TIMEOUT_HEADER: &str = "x-timeout-seconds";
/// How much memory the script may have, where that is less than the runtime's limit.
const MEMORY_HEADER: &str = "x-memory-limit-bytes";
/// Whose execution it is, in whatever words: a process is used again for the same words and the same script.
const CALLER_HEADER: &str = "x-caller";
/// Whose share of the places it takes.
const ACCOUNT_HEADER: &str = "x-account";
/// The function that runs, for the log alone.
const FUNCTION_HEADER: &str = "x-function";
/// `tail`, where the answer shall have the end of what the script printed.
const LOG_TYPE_HEADER: &str = "x-log-type";
const MAX_REQUEST_ID: usize = 256;

#[derive(Clone)]
struct Service {
    runtime: Arc<Runtime>,
    lifecycle: Lifecycle,
}

/// Serves until SIGTERM or SIGINT, then lets the requests in flight finish.
pub async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    // Processes of the same UID cannot look into this one any more (PR_SET_DUMPABLE(2const)), and orphans come to it.
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut signals = Signals::listen()?;

    let bind = |port| {
        let host = config.host.clone();
        async move {
            let listener = TcpListener::bind((host.as_str(), port)).await;
            listener.map_err(|error| format!("cannot listen on {host}:{port}: {error}"))
        }
    };
    let (api, metrics) = (bind(config.port).await?, bind(config.metrics_port).await?);
    tracing::info!(api = %api.local_addr()?, metrics = %metrics.local_addr()?, "listening");

    let runtime = Arc::new(Runtime::new(config)?);
    let lifecycle = Lifecycle::new();
    let service = Service {
        runtime: runtime.clone(),
        lifecycle: lifecycle.clone(),
    };
    tokio::spawn(runtime.clone().warm_up());

    let mut http = connections::http1();
    http.max_buf_size(64 * 1024);
    let closing = lifecycle.clone();
    let api = tokio::spawn(connections::serve(
        api,
        http.clone(),
        api_routes(service.clone()),
        async move { closing.reached(Phase::Closing).await },
        runtime.config.shutdown,
    ));
    tokio::spawn(connections::serve(
        metrics,
        http,
        metrics_routes(service),
        pending(),
        Duration::ZERO,
    ));

    signals.next().await;
    tracing::info!("stopping: requests in flight finish");
    lifecycle.enter(Phase::Draining);
    // Requests still arrive until every client has heard that this endpoint is gone.
    tokio::time::sleep(runtime.config.drain).await;
    lifecycle.enter(Phase::Closing);
    if !api.await.unwrap_or(false) {
        tracing::warn!("requests were still in flight at the end of the time for stopping");
    }
    runtime.shut_down();
    tracing::info!("stopped");
    Ok(())
}

fn api_routes(service: Service) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/execute", post(execute))
        .fallback(async || {
            ApiError::NotFound("no such path; there are GET /health and POST /execute".into())
        })
        .method_not_allowed_fallback(async || {
            let mut response =
                ApiError::InvalidRequest("this path takes another method".into()).into_response();
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        })
        .layer(middleware::from_fn_with_state(
            service.clone(),
            close_when_draining,
        ))
        .with_state(service)
}

fn metrics_routes(service: Service) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(service)
}

/// A connection that is kept while this process stops would carry one more request into its end.
async fn close_when_draining(
    State(service): State<Service>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let mut response = next.run(request).await;
    if service.lifecycle.is_draining() {
        response.headers_mut().insert(
            header::CONNECTION,
            header::HeaderValue::from_static("close"),
        );
    }
    response
}

async fn metrics(State(service): State<Service>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        service.runtime.metrics.text(),
    )
}

/// 200 while scripts can be run. While the process stops it says so with 503, so that nobody begins with it.
async fn health(State(service): State<Service>) -> Response {
    let runtime = &service.runtime;
    let (status, state) = match runtime.health() {
        _ if service.lifecycle.is_draining() => {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping".to_owned())
        }
        Ok(()) => (StatusCode::OK, "ok".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let body = json!({
        "status": state,
        "language": runtime.language.name.as_str(),
        "version": runtime.language.version,
        "isolation": runtime.kernel,
        "concurrency": runtime.config.max_concurrency,
    });
    (status, Json(body)).into_response()
}

#[derive(Deserialize)]
struct ExecuteRequest {
    request_id: String,
    params: Option<Box<RawValue>>,
    context: Option<Box<RawValue>>,
    script_content: String,
}

#[derive(Serialize)]
struct ExecuteResponse {
    result: Box<RawValue>,
    execution_time_ms: f64,
    memory_usage_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<String>,
}

async fn execute(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let trace = TraceContext::continued(&headers);
    // What is logged of a request has these. The id of a session without a user is all that it takes to execute it.
    let span = tracing::info_span!(
        "execution",
        trace_id = trace.trace_id(),
        span_id = trace.span_id(),
        request_id = trace.request_id(),
        session_id = tracing::field::Empty,
        function = text(&headers, FUNCTION_HEADER),
        caller = text(&headers, ACCOUNT_HEADER),
    );
    execute_traced(&service.runtime, headers, body)
        .instrument(span)
        .await
}

async fn execute_traced(
    runtime: &Runtime,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let time = Deadline::new(time_limit(&headers, &runtime.config)?);
    let memory_bytes = memory_limit(&headers, &runtime.config)?;
    let logs_wanted = logs_wanted(&headers)?;
    let (body, _place) = read_body(runtime, &headers, body, time).await?;
    let request = parse(&body, runtime.config.max_script_bytes)?;
    drop(body);
    tracing::Span::current().record("session_id", masked(&request.request_id));

    let empty = "{}";
    let job = Job {
        caller: text(&headers, CALLER_HEADER).filter(|caller| !caller.is_empty()),
        account: text(&headers, ACCOUNT_HEADER).unwrap_or_default(),
        memory_bytes,
        script: &request.script_content,
        params: request.params.as_deref().map_or(empty, RawValue::get),
        context: request.context.as_deref().map_or(empty, RawValue::get),
    };
    let executed = runtime.execute(&job, time).await;
    let error = executed.as_ref().err().map(|failed| failed.error.code().1);
    tracing::info!(
        duration_ms = time.begun.elapsed().as_millis() as u64,
        outcome = error.unwrap_or("OK"),
        "executed"
    );
    let success = match executed {
        Ok(success) => success,
        Err(failed) => {
            let logs = logs_wanted.then_some(failed.printed);
            return Ok(failed.error.with_logs(logs.as_deref()));
        }
    };
    let result = String::from_utf8(success.result)
        .ok()
        .and_then(|text| RawValue::from_string(text).ok());
    let response = ExecuteResponse {
        result: result
            .ok_or_else(|| ApiError::Internal("the result was not JSON after all".into()))?,
        execution_time_ms: success.elapsed.as_micros() as f64 / 1000.0,
        memory_usage_bytes: success.memory_bytes,
        logs: logs_wanted.then_some(success.printed),
    };
    Ok(Json(response).into_response())
}

/// The time that a request may take: the default, or what its header says, up to the maximum.
fn time_limit(headers: &HeaderMap, config: &Config) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(config.limits.wall_default);
    };
    let most = config.limits.wall_max.as_secs_f64();
    let seconds = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok());
    match seconds {
        Some(seconds) if seconds > 0.0 && seconds <= most => Ok(Duration::from_secs_f64(seconds)),
        _ => {
            let found = String::from_utf8_lossy(value.as_bytes());
            Err(ApiError::InvalidRequest(format!(
                "the header X-Timeout-Seconds is {found:?}; expected: a number greater than 0, at most {most}"
            )))
        }
    }
}

/// The memory that a script may have: the limit, or what its header says, from the least that the limit could be.
fn memory_limit(headers: &HeaderMap, config: &Config) -> Result<u64, ApiError> {
    let most = config.limits.memory_bytes;
    let Some(value) = headers.get(MEMORY_HEADER) else {
        return Ok(most);
    };
    let bytes = value.to_str().ok().and_then(|text| text.parse().ok());
    bytes
        .filter(|bytes| (LEAST_MEMORY..=most).contains(bytes))
        .ok_or_else(|| {
            let found = String::from_utf8_lossy(value.as_bytes());
            ApiError::InvalidRequest(format!(
                "the header X-Memory-Limit-Bytes is {found:?}; expected: a number of bytes from {LEAST_MEMORY} to {most}"
            ))
        })
}

fn logs_wanted(headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers.get(LOG_TYPE_HEADER).map(|value| value.as_bytes()) {
        None => Ok(false),
        Some(b"tail") => Ok(true),
        Some(found) => Err(ApiError::InvalidRequest(format!(
            "the header X-Log-Type is {:?}; expected: tail",
            String::from_utf8_lossy(found)
        ))),
    }
}

/// A body, and where it is large its place among those in memory.
type Received = (Vec<u8>, Option<Place<Process>>);

async fn read_body(
    runtime: &Runtime,
    headers: &HeaderMap,
    mut body: Body,
    time: Deadline,
) -> Result<Received, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let account = text(headers, ACCOUNT_HEADER).unwrap_or_default();
    let received = receive(runtime, account, announced.unwrap_or(0), &mut body, time).await;
    if let Err(Unwanted::Refused(_)) = &received {
        discard(&mut body, runtime.config.max_body_bytes, DISCARD_LIMIT).await;
    }
    received.map_err(|(Unwanted::Refused(error) | Unwanted::Broken(error))| error)
}

/// Why a body is not read to its end.
enum Unwanted {
    /// More may come.
    Refused(ApiError),
    /// It came too slowly, or broke off.
    Broken(ApiError),
}

async fn receive(
    runtime: &Runtime,
    account: &str,
    announced: u64,
    body: &mut Body,
    time: Deadline,
) -> Result<Received, Unwanted> {
    let broken = |what| Unwanted::Broken(ApiError::InvalidRequest(what));
    let most = runtime.config.max_body_bytes;
    let mut late = time.within(BODY_LIMIT);
    let (mut bytes, mut place) = (Vec::new(), None);
    loop {
        let size = announced.max(bytes.len() as u64);
        if size > most as u64 {
            let message = format!("the body is larger than its limit of {most} bytes");
            return Err(Unwanted::Refused(ApiError::PayloadTooLarge(message)));
        }
        if size > SMALL_BODY && place.is_none() {
            let taken = runtime.body_place(account, time).await;
            place = Some(taken.map_err(Unwanted::Refused)?);
            late = time.within(BODY_LIMIT);
            bytes.reserve_exact((size as usize).saturating_sub(bytes.len()));
        }
        match timeout_at(late, body.frame()).await {
            Ok(None) => return Ok((bytes, place)),
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Ok(Some(Err(error))) => {
                return Err(broken(format!("the body cannot be read: {error}")));
            }
            Err(_) => {
                let seconds = time.begun.elapsed().as_secs_f64();
                return Err(broken(format!(
                    "the body did not come within {seconds:.1} s"
                )));
            }
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn parse(body: &[u8], max_script_bytes: usize) -> Result<ExecuteRequest, ApiError> {
    let invalid = |what: String| ApiError::InvalidRequest(what);
    // One level more than params and context may have.
    json::check(body, json::DEEPEST + 1)
        .map_err(|error| invalid(format!("the body is not JSON: {error}")))?;
    let request: ExecuteRequest = serde_json::from_slice(body).map_err(|error| {
        invalid(format!(
            "the body is not {{request_id, params, context, script_content}}: {error}"
        ))
    })?;
    if request.request_id.is_empty() || request.request_id.len() > MAX_REQUEST_ID {
        return Err(invalid(format!(
            "request_id must have 1 to {MAX_REQUEST_ID} bytes"
        )));
    }
    if request.script_content.trim().is_empty() {
        return Err(invalid("script_content is empty".into()));
    }
    if request.script_content.len() > max_script_bytes {
        return Err(ApiError::PayloadTooLarge(format!(
            "script_content is larger than its limit of {max_script_bytes} bytes"
        )));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_as_the_contract_says() {
        let body =
            br#"{"request_id":"r","params":{"a":1},"script_content":"return 1","later":true}"#;
        let request = parse(body, 100).unwrap();
        assert_eq!(request.params.unwrap().get(), r#"{"a":1}"#);
        assert!(request.context.is_none());
    }

    #[test]
    fn a_wrong_request_is_refused_with_its_reason() {
        let code = |body: &[u8]| parse(body, 10).map(|_| ()).unwrap_err();
        assert!(matches!(code(b"{"), ApiError::InvalidRequest(_)));
        assert!(matches!(code(b"[]"), ApiError::InvalidRequest(_)));
        assert!(
            matches!(code(br#"{"request_id":"r"}"#), ApiError::InvalidRequest(message) if message.contains("script_content"))
        );
        assert!(matches!(
            code(br#"{"request_id":"","script_content":"x"}"#),
            ApiError::InvalidRequest(_)
        ));
        assert!(matches!(
            code(br#"{"request_id":"r","script_content":" "}"#),
            ApiError::InvalidRequest(_)
        ));
        assert!(matches!(
            code(br#"{"request_id":"r","script_content":"01234567890"}"#),
            ApiError::PayloadTooLarge(_)
        ));
        let deep = format!(
            r#"{{"request_id":"r","script_content":"x","params":{}1{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        assert!(matches!(code(deep.as_bytes()), ApiError::InvalidRequest(_)));
        assert!(matches!(
            code(b"{\"request_id\":\"\xff\"}"),
            ApiError::InvalidRequest(_)
        ));
    }
}
