//! The answer that is not a success: `{"error": {"code", "message"}}`, with `logs` where they are wanted.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: &'static str,
    message: &'a str,
}

/// `logs` is the end of what a script printed. `retry_after` is for what did not run, and may be sent again.
pub fn answer(
    status: StatusCode,
    code: &'static str,
    message: &str,
    logs: Option<&str>,
    retry_after: Option<Duration>,
) -> Response {
    let error = ErrorDetail { code, message };
    let body = serde_json::to_vec(&ErrorBody { error, logs }).expect("strings are always JSON");
    let json = HeaderValue::from_static("application/json");
    let mut response = (status, [(header::CONTENT_TYPE, json)], body).into_response();
    if let Some(wait) = retry_after {
        // Whole seconds, at least one: zero would be read as "at once" by every caller together.
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_json_and_says_in_whole_seconds_when_to_come_again() {
        for (wait, header) in [(None, None), (Some(0), Some("1")), (Some(1500), Some("2"))] {
            let wait = wait.map(Duration::from_millis);
            let response = answer(StatusCode::IM_A_TEAPOT, "CODE", "say \"when\"", None, wait);
            assert_eq!(response.status(), 418);
            assert_eq!(response.headers()["content-type"], "application/json");
            let told = response.headers().get("retry-after");
            assert_eq!(told.map(|value| value.to_str().unwrap()), header);
            let body = axum::body::to_bytes(response.into_body(), 100)
                .await
                .unwrap();
            assert_eq!(
                body,
                r#"{"error":{"code":"CODE","message":"say \"when\""}}"#
            );
        }
    }
}
