//! Executions, asked of a language's runtime. A script never runs twice: an attempt is repeated only when it is
//! certain that its request had not left this process, or a pod says that it took nothing on.

mod pods;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use lambda_common::trace_context::TraceContext;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::account::Account;
use crate::bodies::{self, Bodies, Room, Unread};
use crate::config::{Config, RuntimeUrl};
use crate::error::{ApiError, ErrorCode};
use crate::language::{Language, PerLanguage};
use crate::metrics::{LanguageLabels, Metrics};
use pods::{Connection, Place, Pods};

/// How often a runtime's pods are looked for: a name server of Kubernetes keeps what it knows for about as long.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);
/// How many pods are asked that may all be busy. With that many taken at random, a free one is found if there are some.
const ASKED_WHEN_BUSY: usize = 3;
/// When no pod can be reached: before they are tried again; doubles each time. Mostly they are being replaced, and the
/// name leads elsewhere a moment later.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Before the deadline, where an answer waits for room.
const ANSWER_WITHOUT_ROOM: Duration = Duration::from_millis(200);
/// By which a runtime learns how long the script may run, where that is not its default.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-timeout-seconds");
/// By which it learns how much memory the script may have, where that is less than its own limit.
const MEMORY_HEADER: HeaderName = HeaderName::from_static("x-memory-limit-bytes");
/// By which it learns whose execution it is: it may run a script again in a process that ran it before, for the same caller.
const CALLER_HEADER: HeaderName = HeaderName::from_static("x-caller");
/// By which it learns whose share of its places the execution takes.
const ACCOUNT_HEADER: HeaderName = HeaderName::from_static("x-account");

/// By which it learns what its log calls the script.
const FUNCTION_HEADER: HeaderName = HeaderName::from_static("x-function");
/// By which it learns that its answer shall have the end of what the script printed.
const LOG_TYPE_HEADER: HeaderName = HeaderName::from_static("x-log-type");
/// What that takes at the most: 4 KiB of which each byte is written as six.
const LOGS_BYTES: usize = 6 * 4096 + 64;

/// Whose an execution is.
pub struct Owner {
    /// Who may share a process.
    pub caller: HeaderValue,
    /// Whose share of the places it takes, and of the memory of large bodies.
    pub account: Account,
}

/// How a script is to be executed.
pub struct Order<'a> {
    pub language: Language,
    pub owner: Owner,
    /// For the runtime's log.
    pub function: &'a str,
    /// Whether the answer shall have the end of what the script printed.
    pub logs_wanted: bool,
    /// At most, where there is such a limit.
    pub time_limit: Option<Duration>,
    /// In bytes, where it is less than the runtime's.
    pub memory_limit: Option<u64>,
    pub deadline: Instant,
    pub trace: &'a TraceContext,
    /// What the caller's body took, which is given back before a large answer takes its own: were both held, callers'
    /// answers would wait for each other.
    pub room: Option<Room>,
}

pub struct RuntimeClient {
    runtimes: Arc<PerLanguage<Runtime>>,
    bodies: Arc<Bodies>,
    metrics: Arc<Metrics>,
    max_retries: u32,
    max_result_size: usize,
    timeout: Duration,
    /// Ends them with this value.
    _tasks: JoinSet<()>,
}

struct Runtime {
    pods: Pods,
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
            pods: Pods::new(url.host, url.port),
        }
    }
}

/// An execution on its way.
struct RuntimeRequest<'a> {
    language: Language,
    body: Bytes,
    headers: HeaderMap,
    /// Whose share of the memory a large answer takes.
    account: &'a str,
    room: Mutex<Option<Room>>,
    max_answer_size: usize,
    deadline: Instant,
    /// The same for the same caller's same script.
    affinity: u64,
    /// Whether a runtime may have read of it.
    left: &'a AtomicBool,
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
    pub logs: Option<String>,
    /// Where the answer is a large one.
    #[serde(skip)]
    pub room: Option<Room>,
}

#[derive(Deserialize)]
struct RuntimeErrorBody {
    error: RuntimeErrorDetail,
    logs: Option<String>,
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
    Script {
        message: String,
        logs: Option<String>,
    },
    /// The runtime did not accept what the caller sent.
    Rejected { code: ErrorCode, message: String },
    /// The script ran for too long and was ended.
    Timeout {
        message: String,
        logs: Option<String>,
    },
    /// The request left and no answer came: it is not known whether the script ran.
    Lost(String),
    /// The script ran, and there was no memory for its large answer.
    NoRoom,
    /// The runtime answered something that it should not.
    Broken(String),
}

impl Failure {
    const fn outcome(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::Busy { .. } => "busy",
            Failure::Share { .. } => "share",
            Failure::Script { .. } => "script_error",
            Failure::Rejected { .. } => "rejected",
            Failure::Timeout { .. } => "timeout",
            Failure::Lost(_) => "lost",
            Failure::NoRoom => "no_room",
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
            Failure::Script { message, logs } => {
                ApiError::new(ErrorCode::RuntimeError, message).with_logs(logs)
            }
            Failure::Rejected { code, message } => ApiError::new(code, message),
            Failure::Timeout { message, logs } => {
                ApiError::new(ErrorCode::Timeout, message).with_logs(logs)
            }
            Failure::Lost(cause) => ApiError::internal(
                format!(
                    "the {language} runtime was lost before it answered; the script may have run and is not run again"
                ),
                cause,
            ),
            Failure::NoRoom => ApiError::internal(
                "the script ran, and the controller had no memory for its large answer in time; it is not run again",
                "no room for a large answer (MAX_BODIES_IN_MEMORY)",
            ),
            Failure::Broken(cause) => ApiError::internal(
                format!("the {language} runtime gave an answer that cannot be used"),
                cause,
            ),
        }
    }
}

impl RuntimeClient {
    pub fn new(config: &Config, bodies: Arc<Bodies>, metrics: Arc<Metrics>) -> Self {
        let runtimes = Arc::new(config.runtimes.clone().map(|_, url| Runtime::new(url)));
        let mut tasks = JoinSet::new();
        for language in Language::ALL {
            let runtimes = runtimes.clone();
            tasks.spawn(async move {
                let pods = &runtimes.get(language).pods;
                loop {
                    if let Err(error) = pods.look_up().await {
                        tracing::debug!(%error, %language, "the runtime's name has no answer");
                    }
                    pods.close_stale();
                    sleep(LOOK_UP_EVERY).await;
                }
            });
        }
        RuntimeClient {
            runtimes,
            bodies,
            metrics,
            max_retries: config.runtime_max_retries,
            max_result_size: config.max_result_size,
            timeout: config.runtime_timeout,
            _tasks: tasks,
        }
    }

    /// Executes once. Dropping the future closes the connection, by which the runtime sees that nobody waits.
    pub async fn execute(
        &self,
        order: Order<'_>,
        execution: &Execution<'_>,
    ) -> Result<ExecutionResult, Failure> {
        let Order {
            language,
            owner,
            function,
            logs_wanted,
            time_limit,
            memory_limit,
            deadline,
            trace,
            room,
        } = order;
        let mut call = CallRecord::begin(&self.metrics, language);
        let limit = time_limit.unwrap_or(self.timeout);
        let affinity = {
            let mut hasher = DefaultHasher::new();
            (&owner.caller, execution.script_content.get()).hash(&mut hasher);
            hasher.finish()
        };
        let body =
            Bytes::from(serde_json::to_vec(execution).expect("JSON texts in a struct are JSON"));
        let mut headers = HeaderMap::new();
        headers.insert(CALLER_HEADER, owner.caller);
        headers.insert(ACCOUNT_HEADER, owner.account.header());
        if let Ok(function) = HeaderValue::try_from(function) {
            headers.insert(FUNCTION_HEADER, function);
        }
        if logs_wanted {
            headers.insert(LOG_TYPE_HEADER, HeaderValue::from_static("tail"));
        }
        if let Some(limit) = time_limit {
            let seconds = HeaderValue::try_from(limit.as_secs_f64().to_string());
            headers.insert(TIMEOUT_HEADER, seconds.expect("digits and a dot"));
        }
        if let Some(bytes) = memory_limit {
            headers.insert(MEMORY_HEADER, HeaderValue::from(bytes));
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        trace.inject(&mut headers);
        // The last moment at which a script can begin that shall have all of its time.
        let latest_start = deadline.checked_sub(limit).unwrap_or(deadline);
        let left = AtomicBool::new(false);
        let request = RuntimeRequest {
            language,
            body,
            headers,
            account: owner.account.name(),
            room: Mutex::new(room),
            max_answer_size: self.max_result_size + if logs_wanted { LOGS_BYTES } else { 0 },
            deadline,
            affinity,
            left: &left,
        };
        let outcome = timeout_at(deadline, self.find_place(&request, latest_start)).await;
        let result = outcome.unwrap_or_else(|_| {
            let limit = limit.as_secs_f64();
            Err(if left.load(Ordering::Relaxed) {
                Failure::Timeout {
                    message: format!("the script did not end within {limit} s"),
                    logs: None,
                }
            } else {
                Failure::Unreachable("no pod could be reached in time".to_owned())
            })
        });
        call.outcome = match &result {
            Ok(_) => "ok",
            Err(failure) => failure.outcome(),
        };
        result
    }

    /// Asks another pod while those asked take nothing on, and all again when none can be reached.
    async fn find_place(
        &self,
        request: &RuntimeRequest<'_>,
        latest_start: Instant,
    ) -> Result<ExecutionResult, Failure> {
        let runtime = self.runtimes.get(request.language);
        let mut tried = Vec::new();
        let (mut busy, mut retries) = (None, 0);
        let mut unreachable = "the name has no address".to_owned();
        if !runtime.pods.are_known()
            && let Err(error) = runtime.pods.look_up().await
        {
            unreachable = error.to_string();
        }
        loop {
            let Some(place) = runtime.pods.choose(request.affinity, &tried) else {
                if let Some(busy) = busy {
                    return Err(busy);
                }
                if retries == self.max_retries {
                    return Err(Failure::Unreachable(unreachable));
                }
                sleep(FIRST_PAUSE * 2u32.pow(retries)).await;
                retries += 1;
                self.metrics
                    .runtime_retries
                    .get_or_create(&LanguageLabels {
                        language: request.language,
                    })
                    .inc();
                tried.clear();
                if let Err(error) = runtime.pods.look_up().await {
                    unreachable = error.to_string();
                }
                continue;
            };
            tried.push(place.address());
            match self.ask(request, &place).await {
                Err(Failure::Unreachable(cause)) => unreachable = cause,
                Err(failure @ (Failure::Busy { .. } | Failure::Share { .. })) => {
                    request.left.store(false, Ordering::Relaxed);
                    if tried.len() >= ASKED_WHEN_BUSY || Instant::now() > latest_start {
                        return Err(failure);
                    }
                    busy = Some(failure);
                }
                result => return result,
            }
        }
    }

    /// Asks one pod, on the first of its connections that takes the request.
    async fn ask(
        &self,
        request: &RuntimeRequest<'_>,
        place: &Place,
    ) -> Result<ExecutionResult, Failure> {
        let (connection, response) = self.send(request, place).await?;
        let (head, mut body) = response.into_parts();
        let declared = hyper::body::Body::size_hint(&body).exact();
        // A moment earlier than all ends: so that the caller hears of the room, and not that the script took too long.
        let patience = request.deadline - ANSWER_WITHOUT_ROOM;
        let room = async |bytes| {
            let body_room = request
                .room
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            drop(body_room);
            timeout_at(patience, self.bodies.wait(request.account, bytes)).await
        };
        let limit = request.max_answer_size;
        let declared = declared.and_then(|bytes| usize::try_from(bytes).ok());
        let (body, room) = match bodies::read(&mut body, declared, limit, room).await {
            Ok(read) => read,
            Err(Unread::TooLarge) => {
                return Err(Failure::Script {
                    message: format!("the result is larger than {} bytes", self.max_result_size),
                    logs: None,
                });
            }
            Err(Unread::Refused(_)) => return Err(Failure::NoRoom),
            Err(Unread::Broken(error)) => {
                return Err(Failure::Lost(format!("while the answer was read: {error}")));
            }
        };
        place.give_back(connection);
        let answer = read_answer(head.status, &head.headers, &body)?;
        Ok(ExecutionResult { room, ..answer })
    }

    async fn send(
        &self,
        asked: &RuntimeRequest<'_>,
        place: &Place,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        let runtime = self.runtimes.get(asked.language);
        loop {
            let mut connection = place.connection().await.map_err(|error| {
                self.metrics.runtime_connection(asked.language, "failed");
                Failure::Unreachable(error.to_string())
            })?;
            let reused = connection.reused;
            let event = if reused { "reused" } else { "opened" };
            self.metrics.runtime_connection(asked.language, event);
            let mut request = Request::new(Full::new(asked.body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = runtime.execute.clone();
            *request.headers_mut() = asked.headers.clone();
            request
                .headers_mut()
                .insert(header::HOST, runtime.authority.clone());
            asked.left.store(true, Ordering::Relaxed);
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((connection, response)),
                // The request comes back only if none of it was written.
                Err(mut error) => match error.take_message() {
                    Some(_) => {
                        asked.left.store(false, Ordering::Relaxed);
                        // A kept connection that was closed meanwhile says nothing about the pod, and there are only
                        // so many of them.
                        if !reused {
                            return Err(Failure::Unreachable(error.into_error().to_string()));
                        }
                    }
                    None => return Err(Failure::Lost(error.into_error().to_string())),
                },
            }
        }
    }

    /// Whether the runtime answers `GET /health`.
    pub async fn check(&self, language: Language, deadline: Instant) -> Result<(), String> {
        let runtime = self.runtimes.get(language);
        let check = async {
            if !runtime.pods.are_known() {
                let looked_up = runtime.pods.look_up().await;
                looked_up.map_err(|error| error.to_string())?;
            }
            let place = runtime.pods.choose(rand::random(), &[]);
            let place = place.ok_or("the name has no address")?;
            let connection = place.connection().await;
            let mut connection = connection.map_err(|error| error.to_string())?;
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
            place.give_back(connection);
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
    let (message, logs) = match serde_json::from_slice::<RuntimeErrorBody>(body) {
        Ok(body) => (body.error.message, body.logs),
        Err(_) => {
            return Err(Failure::Broken(format!(
                "{status} with a body that is not an error"
            )));
        }
    };
    Err(match status {
        StatusCode::UNPROCESSABLE_ENTITY => Failure::Script { message, logs },
        StatusCode::GATEWAY_TIMEOUT => Failure::Timeout { message, logs },
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
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

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

    /// A pod at an address of its own on a port that all share. It answers with `status`, or closes the connection on
    /// the request where that is 0.
    async fn pod(number: u8, port: u16, status: u16) -> (SocketAddr, Arc<AtomicUsize>) {
        let address = SocketAddr::from(([127, 0, 0, number], port));
        let listener = TcpListener::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                counted.fetch_add(1, Ordering::SeqCst);
                let body = match status {
                    0 => continue,
                    200 => r#"{"result": 1, "execution_time_ms": 1, "memory_usage_bytes": 1}"#,
                    _ => r#"{"error": {"code": "ANY", "message": "busy"}}"#,
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all((head + body).as_bytes()).await.unwrap();
            }
        });
        (address, asked)
    }

    /// What becomes of an execution where the pods answer like this, how many pods were asked, and the retries.
    async fn executed(answers: &[u16]) -> (Result<ExecutionResult, Failure>, usize, u64) {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (mut addresses, mut counts) = (Vec::new(), Vec::new());
        for (number, status) in (2..).zip(answers) {
            match status {
                // Nobody listens there.
                1 => addresses.push(SocketAddr::from(([127, 0, 0, number], port))),
                _ => {
                    let (address, asked) = pod(number, port, *status).await;
                    addresses.push(address);
                    counts.push(asked);
                }
            }
        }
        let config = crate::config::read(|name| match name {
            "REDIS_URL" => Some("redis://127.0.0.1:1".to_owned()),
            _ if name.ends_with("_RUNTIME_URL") => Some("http://runtime.invalid".to_owned()),
            _ => None,
        });
        let metrics = Arc::new(Metrics::new());
        let bodies = Arc::new(Bodies::new(1 << 20));
        let client = RuntimeClient::new(&config.unwrap(), bodies, metrics.clone());
        client.runtimes.get(Language::Rust).pods.set(&addresses);
        let json = RawValue::from_string("{}".to_owned()).unwrap();
        let execution = Execution {
            request_id: Uuid::new_v4(),
            params: &json,
            context: &json,
            script_content: &json,
        };
        let owner = Owner {
            caller: HeaderValue::from_static("user x"),
            account: Account::of(&HeaderMap::new(), Some("x")),
        };
        let order = Order {
            language: Language::Rust,
            owner,
            function: "rust-x",
            logs_wanted: false,
            time_limit: None,
            memory_limit: None,
            deadline: Instant::now() + Duration::from_secs(32),
            trace: &TraceContext::continued(&HeaderMap::new()),
            room: None,
        };
        let result = client.execute(order, &execution).await;
        let asked = counts.iter().map(|count| count.load(Ordering::SeqCst));
        let language = Language::Rust;
        let retries = metrics
            .runtime_retries
            .get_or_create(&LanguageLabels { language })
            .get();
        (result, asked.sum(), retries)
    }

    #[tokio::test]
    async fn another_pod_is_asked_where_one_takes_nothing_on() {
        for busy in [503, 429, 1] {
            // Whichever is chosen first.
            for _ in 0..4 {
                let (result, asked, retries) = executed(&[busy, 200, busy]).await;
                assert!(result.is_ok(), "{busy}: {result:?}");
                assert!(asked <= 3 && retries == 0, "{busy}: {asked}, {retries}");
            }
        }
    }

    #[tokio::test]
    async fn a_few_busy_pods_are_enough() {
        let (result, asked, retries) = executed(&[503; 6]).await;
        assert!(matches!(result, Err(Failure::Busy { .. })), "{result:?}");
        assert_eq!((asked, retries), (ASKED_WHEN_BUSY, 0));
    }

    #[tokio::test]
    async fn no_other_pod_is_asked_once_a_script_may_have_run() {
        for lost in [0, 422, 500, 504] {
            let (result, asked, _) = executed(&[lost; 3]).await;
            assert!(result.is_err());
            assert_eq!(asked, 1, "{lost}");
        }
    }
}
