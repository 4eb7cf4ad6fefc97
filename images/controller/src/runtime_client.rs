//! Executions, asked of a language's runtime. A script never runs twice: an attempt is repeated only when it is
//! certain that its request had not left this process.

mod pool;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use lambda_common::trace_context::TraceContext;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout_at};
use uuid::Uuid;

use crate::config::{Config, RuntimeUrl};
use crate::error::{ApiError, ErrorCode};
use crate::language::{Language, PerLanguage};
use crate::metrics::{LanguageLabels, Metrics};
use pool::{Connection, Pool};

/// Before the second attempt; doubles with each further one. A refused connection mostly means a pod that is being
/// replaced, and its Service leads elsewhere a moment later.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// By which a runtime learns how long the script may run, where that is not its default.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-timeout-seconds");
/// By which it learns whose execution it is: it may run a script again in a process that ran it before, for the same caller.
const CALLER_HEADER: HeaderName = HeaderName::from_static("x-caller");
/// By which it learns whose share of its places the execution takes.
const ACCOUNT_HEADER: HeaderName = HeaderName::from_static("x-account");

/// Whose an execution is.
pub struct Owner {
    /// Who may share a process.
    pub caller: HeaderValue,
    /// Whose share of the places it takes.
    pub account: HeaderValue,
}

pub struct RuntimeClient {
    runtimes: Arc<PerLanguage<Runtime>>,
    metrics: Arc<Metrics>,
    max_retries: u32,
    max_result_size: usize,
    timeout: Duration,
    /// Ends the sweeping task with this value.
    _sweeper: JoinSet<()>,
}

struct Runtime {
    pool: Pool,
    authority: HeaderValue,
    execute: Uri,
    health: Uri,
}

impl Runtime {
    fn new(url: RuntimeUrl) -> Self {
        let path = |path: &str| {
            let path = format!("{}{path}", url.prefix);
            Uri::try_from(path).expect("the prefix is the path of a URL that was parsed")
        };
        Runtime {
            authority: HeaderValue::try_from(url.authority())
                .expect("the authority of a URL that was parsed"),
            execute: path("/execute"),
            health: path("/health"),
            pool: Pool::new(url.host, url.port),
        }
    }
}

/// The body of the runtimes' `POST /execute`.
#[derive(Serialize)]
pub struct Execution<'a> {
    pub request_id: Uuid,
    pub params: &'a RawValue,
    pub context: &'a RawValue,
    pub script_content: &'a RawValue,
}

/// A runtime's answer. `result` stays in its JSON text on its way to the caller.
#[derive(Debug, Deserialize)]
pub struct ExecutionResult {
    pub result: Box<RawValue>,
    pub execution_time_ms: serde_json::Number,
    pub memory_usage_bytes: u64,
}

#[derive(Deserialize)]
struct RuntimeErrorBody {
    error: RuntimeErrorDetail,
}

#[derive(Deserialize)]
struct RuntimeErrorDetail {
    message: String,
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The request never left: nothing ran.
    Unreachable(String),
    /// The runtime took nothing on: nothing ran.
    Busy {
        message: String,
        retry_after: Duration,
    },
    /// The caller itself holds all places that it may: nothing ran.
    Share {
        message: String,
        retry_after: Duration,
    },
    /// The script's fault.
    Script(String),
    /// The runtime did not accept what the caller sent.
    Rejected { code: ErrorCode, message: String },
    /// The script ran for too long and was ended.
    Timeout(String),
    /// The request left and no answer came: it is not known whether the script ran.
    Lost(String),
    /// The runtime answered something that it should not.
    Broken(String),
}

impl Failure {
    const fn outcome(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::Busy { .. } => "busy",
            Failure::Share { .. } => "share",
            Failure::Script(_) => "script_error",
            Failure::Rejected { .. } => "rejected",
            Failure::Timeout(_) => "timeout",
            Failure::Lost(_) => "lost",
            Failure::Broken(_) => "broken",
        }
    }

    /// What the caller is told. UNAVAILABLE always means that nothing ran.
    pub fn into_api_error(self, language: Language) -> ApiError {
        match self {
            Failure::Unreachable(cause) => ApiError::unavailable(
                format!("the {language} runtime cannot be reached; the script did not run"),
                Duration::from_secs(2),
            )
            .because(cause),
            Failure::Busy {
                message,
                retry_after,
            } => ApiError::unavailable(message, retry_after),
            Failure::Share {
                message,
                retry_after,
            } => ApiError::rate_limited(message, retry_after),
            Failure::Script(message) => ApiError::new(ErrorCode::RuntimeError, message),
            Failure::Rejected { code, message } => ApiError::new(code, message),
            Failure::Timeout(message) => ApiError::new(ErrorCode::Timeout, message),
            Failure::Lost(cause) => ApiError::internal(
                format!(
                    "the {language} runtime was lost before it answered; the script may have run and is not run again"
                ),
                cause,
            ),
            Failure::Broken(cause) => ApiError::internal(
                format!("the {language} runtime gave an answer that cannot be used"),
                cause,
            ),
        }
    }
}

impl RuntimeClient {
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let runtimes = Arc::new(config.runtimes.clone().map(|_, url| Runtime::new(url)));
        let mut sweeper = JoinSet::new();
        let swept = runtimes.clone();
        sweeper.spawn(async move {
            let mut tick = interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                for language in Language::ALL {
                    swept.get(language).pool.close_stale();
                }
            }
        });
        RuntimeClient {
            runtimes,
            metrics,
            max_retries: config.runtime_max_retries,
            max_result_size: config.max_result_size,
            timeout: config.runtime_timeout,
            _sweeper: sweeper,
        }
    }

    /// Executes once, for `time_limit` at most where there is one. Dropping the future closes the connection, by which
    /// the runtime sees that nobody waits.
    pub async fn execute(
        &self,
        language: Language,
        execution: &Execution<'_>,
        owner: Owner,
        time_limit: Option<Duration>,
        trace: &TraceContext,
        deadline: Instant,
    ) -> Result<ExecutionResult, Failure> {
        let mut call = CallRecord::begin(&self.metrics, language);
        let body =
            Bytes::from(serde_json::to_vec(execution).expect("JSON texts in a struct are JSON"));
        let mut headers = HeaderMap::new();
        headers.insert(CALLER_HEADER, owner.caller);
        headers.insert(ACCOUNT_HEADER, owner.account);
        if let Some(limit) = time_limit {
            let seconds = HeaderValue::try_from(limit.as_secs_f64().to_string());
            headers.insert(TIMEOUT_HEADER, seconds.expect("digits and a dot"));
        }
        trace.inject(&mut headers);
        let outcome = timeout_at(deadline, self.call(language, body, headers)).await;
        let result = outcome.unwrap_or_else(|_| {
            let limit = time_limit.unwrap_or(self.timeout).as_secs_f64();
            Err(Failure::Timeout(format!(
                "the script did not end within {limit} s"
            )))
        });
        call.outcome = match &result {
            Ok(_) => "ok",
            Err(failure) => failure.outcome(),
        };
        result
    }

    async fn call(
        &self,
        language: Language,
        body: Bytes,
        mut headers: HeaderMap,
    ) -> Result<ExecutionResult, Failure> {
        let runtime = self.runtimes.get(language);
        headers.insert(header::HOST, runtime.authority.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let (connection, response) = self.send(language, &headers, body).await?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, self.max_result_size).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let limit = self.max_result_size;
                return Err(Failure::Script(format!(
                    "the result is larger than {limit} bytes"
                )));
            }
            Err(error) => return Err(Failure::Lost(format!("while the answer was read: {error}"))),
        };
        runtime.pool.give_back(connection);
        read_answer(head.status, &head.headers, &body)
    }

    /// Sends the request on the first connection that takes it.
    async fn send(
        &self,
        language: Language,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        let runtime = self.runtimes.get(language);
        let mut retries = 0;
        loop {
            let cause = match runtime.pool.take().await {
                Ok(mut connection) => {
                    let reused = connection.reused;
                    self.metrics
                        .runtime_connection(language, if reused { "reused" } else { "opened" });
                    let mut request = Request::new(Full::new(body.clone()));
                    *request.method_mut() = Method::POST;
                    *request.uri_mut() = runtime.execute.clone();
                    *request.headers_mut() = headers.clone();
                    match connection.sender.try_send_request(request).await {
                        Ok(response) => return Ok((connection, response)),
                        // The request comes back only if none of it was written.
                        Err(mut error) => match error.take_message() {
                            // A kept connection that was closed meanwhile says nothing about the runtime, and there
                            // are only so many of them: on to the next without counting a retry.
                            Some(_) if reused => continue,
                            Some(_) => error.into_error().to_string(),
                            None => return Err(Failure::Lost(error.into_error().to_string())),
                        },
                    }
                }
                Err(error) => {
                    self.metrics.runtime_connection(language, "failed");
                    error.to_string()
                }
            };
            if retries == self.max_retries {
                return Err(Failure::Unreachable(cause));
            }
            sleep(FIRST_PAUSE * 2u32.pow(retries)).await;
            retries += 1;
            self.metrics
                .runtime_retries
                .get_or_create(&LanguageLabels { language })
                .inc();
        }
    }

    /// Whether the runtime answers `GET /health`.
    pub async fn check(&self, language: Language, deadline: Instant) -> Result<(), String> {
        let runtime = self.runtimes.get(language);
        let check = async {
            let mut connection = runtime
                .pool
                .take()
                .await
                .map_err(|error| error.to_string())?;
            let mut request = Request::new(Full::default());
            *request.uri_mut() = runtime.health.clone();
            request
                .headers_mut()
                .insert(header::HOST, runtime.authority.clone());
            let response = connection
                .sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.max_result_size)
                .collect()
                .await;
            body.map_err(|error| error.to_string())?;
            runtime.pool.give_back(connection);
            if status.is_success() {
                Ok(())
            } else {
                Err(format!("it answered {status}"))
            }
        };
        timeout_at(deadline, check)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

fn read_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<ExecutionResult, Failure> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body).map_err(|error| {
            // Not the error itself: it can quote the result.
            Failure::Broken(format!(
                "200 with a body that is not an execution's result (line {})",
                error.line()
            ))
        });
    }
    let message = match serde_json::from_slice::<RuntimeErrorBody>(body) {
        Ok(body) => body.error.message,
        Err(_) => {
            return Err(Failure::Broken(format!(
                "{status} with a body that is not an error"
            )));
        }
    };
    Err(match status {
        StatusCode::UNPROCESSABLE_ENTITY => Failure::Script(message),
        StatusCode::GATEWAY_TIMEOUT => Failure::Timeout(message),
        StatusCode::BAD_REQUEST => Failure::Rejected {
            code: ErrorCode::InvalidRequest,
            message,
        },
        StatusCode::PAYLOAD_TOO_LARGE => Failure::Rejected {
            code: ErrorCode::PayloadTooLarge,
            message,
        },
        StatusCode::TOO_MANY_REQUESTS => Failure::Share {
            message,
            retry_after: retry_after(headers),
        },
        StatusCode::SERVICE_UNAVAILABLE => Failure::Busy {
            message,
            retry_after: retry_after(headers),
        },
        other => Failure::Broken(format!("status {other}")),
    })
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1).min(60))
}

/// Counts a call also when it is dropped because the caller went away.
struct CallRecord<'a> {
    metrics: &'a Metrics,
    language: Language,
    start: Instant,
    outcome: &'static str,
}

impl<'a> CallRecord<'a> {
    fn begin(metrics: &'a Metrics, language: Language) -> Self {
        CallRecord {
            metrics,
            language,
            start: Instant::now(),
            outcome: "cancelled",
        }
    }
}

impl Drop for CallRecord<'_> {
    fn drop(&mut self) {
        self.metrics
            .runtime_call(self.language, self.outcome, self.start.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        read_answer(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
        )
        .unwrap_err()
    }

    #[test]
    fn answers_of_a_runtime_become_answers_of_the_api() {
        let error = |status| {
            let body = r#"{"error": {"code": "ANY", "message": "why"}}"#;
            failure(status, &[], body).into_api_error(Language::Python)
        };
        for (status, code) in [
            (422, ErrorCode::RuntimeError),
            (504, ErrorCode::Timeout),
            (400, ErrorCode::InvalidRequest),
            (413, ErrorCode::PayloadTooLarge),
            (503, ErrorCode::Unavailable),
        ] {
            assert_eq!(
                (error(status).code, error(status).message.as_str()),
                (code, "why"),
                "{status}"
            );
        }
        for status in [500, 302, 404, 418, 201] {
            assert_eq!(error(status).code, ErrorCode::Internal, "{status}");
        }
    }

    #[test]
    fn what_is_no_answer_of_a_runtime_is_an_internal_error_without_its_content() {
        for (status, body) in [
            (200, "hunter2"),
            (200, r#"{"result": "hunter2"}"#),
            (422, "hunter2"),
            (503, "<html>hunter2"),
        ] {
            let error = failure(status, &[], body).into_api_error(Language::Rust);
            assert_eq!(error.code, ErrorCode::Internal);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn the_wait_that_a_runtime_asks_for_is_passed_on_within_reason() {
        let body = r#"{"error": {"code": "UNAVAILABLE", "message": "full"}}"#;
        for (header, seconds) in [("7", 7), ("86400", 60), ("soon", 1)] {
            match failure(503, &[("retry-after", header)], body) {
                Failure::Busy { retry_after, .. } => assert_eq!(retry_after.as_secs(), seconds),
                other => panic!("{other:?}"),
            }
        }
    }
}
