//! `Idempotency-Key`: the first request with a key runs, and every further one of the same caller gets its answer, for a
//! day. What is kept says what is known: that it runs, how it ended, or nothing, where the controller that ran it is gone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Api, refused, store_unavailable};
use crate::account::{Account, sha256};
use crate::error::{ApiError, ErrorCode, ErrorReport};
use crate::metrics::IdempotentLabels;
use crate::redis_master::RedisUnavailable;
use crate::store::{How, Kept};

const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// A larger answer is not kept, only that there was one.
const LARGEST_KEPT: usize = 256 << 10;
/// By which controllers' clocks may differ.
const CLOCKS: Duration = Duration::from_secs(10);
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A request with a key.
pub struct Key {
    pub account: Account,
    /// Of the caller and its key.
    pub name: String,
    /// Of all that the caller asks for.
    pub fingerprint: String,
}

impl Key {
    pub fn new(account: Account, caller: &HeaderValue, key: &str, asked: &[&[u8]]) -> Self {
        let digest = sha256([caller.as_bytes(), key.as_bytes()]);
        Key {
            account,
            name: format!("lambda:answer:{digest}"),
            fingerprint: sha256(asked.iter().copied()),
        }
    }
}

/// What is kept under a key: a line, and the answer's body.
#[derive(Debug, PartialEq, Eq)]
enum State<'a> {
    /// It runs until this moment (milliseconds of Unix time) at the latest.
    Running { until: i64 },
    Answered {
        status: StatusCode,
        /// `-` where it is no error.
        code: &'a str,
        body: &'a [u8],
    },
    /// Answered, with more than is kept.
    TooLarge { status: StatusCode },
}

/// The fingerprint and the state.
fn read(kept: &[u8]) -> Option<(&str, State<'_>)> {
    let end = kept.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&kept[..end]).ok()?;
    let words: Vec<_> = line.split(' ').collect();
    let status = |text: &str| text.parse().ok();
    match words[..] {
        [fingerprint, "running", until, _token] => {
            let until = until.parse().ok()?;
            Some((fingerprint, State::Running { until }))
        }
        [fingerprint, "answered", code, text] => {
            let body = &kept[end + 1..];
            let status = status(text)?;
            Some((fingerprint, State::Answered { status, code, body }))
        }
        [fingerprint, "too-large", text] => {
            let status = status(text)?;
            Some((fingerprint, State::TooLarge { status }))
        }
        _ => None,
    }
}

/// Runs `work` unless the key has an answer. It goes on when the caller goes away, so that the answer is there when the
/// caller asks again. `longest` is the most that it takes.
pub async fn once<W>(
    api: &Arc<Api>,
    key: Key,
    longest: Duration,
    work: W,
) -> Result<Response, ApiError>
where
    W: Future<Output = Response> + Send + 'static,
{
    let count = |outcome| {
        let labels = IdempotentLabels { outcome };
        api.metrics.idempotent_requests.get_or_create(&labels).inc();
    };
    let until = Timestamp::now().as_millisecond() + (longest + CLOCKS).as_millis() as i64;
    let token = Uuid::new_v4().simple();
    let claim = format!("{} running {until} {token}\n", key.fingerprint).into_bytes();
    let claimed = api
        .store
        .keep(How::Claim, &key.account, KEPT_FOR, &[(&key.name, &claim)])
        .await
        .map_err(store_unavailable)?;
    match claimed {
        Kept::Kept => {}
        Kept::Refused(refusal) => return Err(refused(api, refusal)),
        Kept::There(there) => {
            let (answer, outcome) = repeated(&key, &there);
            count(outcome);
            return answer;
        }
    }
    count("first");
    let task = {
        let api = api.clone();
        async move {
            let response = work.await;
            end(&api, &key, &claim, response).await
        }
    };
    let task = api.unfinished.spawn(task);
    task.await.map_err(|_| {
        ApiError::internal(
            "the controller failed; the script may have run and is not run again",
            "an execution panicked",
        )
    })
}

/// Keeps the answer, or gives the key back where nothing ran.
async fn end(api: &Api, key: &Key, claim: &[u8], response: Response) -> Response {
    let (head, body) = response.into_parts();
    // All that is answered here lies in memory.
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return ApiError::internal("the answer cannot be read", error.to_string())
                .into_response();
        }
    };
    let report = head.extensions.get::<ErrorReport>();
    let code = report.map_or("-", |report| report.code.name());
    let status = head.status.as_u16();
    let kept = if report.is_some_and(|report| report.code.nothing_ran()) {
        api.store.remove(&key.account, &key.name, claim).await
    } else {
        keep_answer(api, key, code, status, &body).await
    };
    if let Err(RedisUnavailable(cause)) = kept {
        // The answer itself is none the worse: whoever asks again is told that nothing is known.
        tracing::warn!(cause, "an answer with an Idempotency-Key is not kept");
    }
    Response::from_parts(head, Body::from(body))
}

/// Where it is too large, or more than its caller may keep, only that there was one.
async fn keep_answer(
    api: &Api,
    key: &Key,
    code: &str,
    status: u16,
    body: &[u8],
) -> Result<(), RedisUnavailable> {
    let keep = async |how, text: &[u8]| {
        let values = [(&*key.name, text)];
        api.store.keep(how, &key.account, KEPT_FOR, &values).await
    };
    if body.len() <= LARGEST_KEPT {
        let line = format!("{} answered {code} {status}\n", key.fingerprint);
        let text = [line.as_bytes(), body].concat();
        if keep(How::Keep, &text).await? == Kept::Kept {
            return Ok(());
        }
    }
    let line = format!("{} too-large {status}\n", key.fingerprint);
    keep(How::Force, line.as_bytes()).await.map(drop)
}

fn repeated(key: &Key, there: &[u8]) -> (Result<Response, ApiError>, &'static str) {
    let Some((fingerprint, state)) = read(there) else {
        let error = ApiError::internal(
            "the answer under this Idempotency-Key cannot be read",
            "what is kept is no answer",
        );
        return (Err(error), "lost");
    };
    if fingerprint != key.fingerprint {
        let error = ApiError::invalid(
            "this Idempotency-Key was sent with another request (session, body or X-Timeout-Seconds); nothing ran",
        );
        return (Err(error), "other_request");
    }
    match state {
        State::Running { until } if Timestamp::now().as_millisecond() <= until => {
            let error = ApiError::conflict(
                "the first request with this Idempotency-Key still runs; ask again for its answer",
            );
            (Err(error.after(Duration::from_secs(1))), "running")
        }
        State::Running { .. } => {
            let error = ApiError::internal(
                "the answer of the first request with this Idempotency-Key was lost; the script may have run and is \
                 not run again",
                "the controller that ran it is gone",
            );
            (Err(error), "lost")
        }
        State::TooLarge { status } => {
            let error = ApiError::conflict(format!(
                "the first request with this Idempotency-Key was answered with {}; its answer was too large to be kept",
                status.as_u16()
            ));
            (Err(error), "repeated")
        }
        State::Answered { status, code, body } => {
            let mut response = Response::new(Body::from(body.to_vec()));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            if let Some(code) = ErrorCode::from_name(code) {
                let report = ErrorReport { code, cause: None };
                response.extensions_mut().insert(report);
            }
            (Ok(response), "repeated")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        assert_eq!(
            read(b"f running 12 token\n"),
            Some(("f", State::Running { until: 12 }))
        );
        let answered = State::Answered {
            status: StatusCode::OK,
            code: "-",
            body: b"{\n}",
        };
        assert_eq!(read(b"f answered - 200\n{\n}"), Some(("f", answered)));
        let status = StatusCode::OK;
        assert_eq!(
            read(b"f too-large 200\n"),
            Some(("f", State::TooLarge { status }))
        );
    }

    proptest! {
        #[test]
        fn anything_else_is_no_answer(kept: Vec<u8>) {
            read(&kept);
        }
    }
}
