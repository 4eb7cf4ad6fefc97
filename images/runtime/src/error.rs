//! The errors of the contract: `{"error": {"code", "message"}}` with the status that belongs to the code.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lambda_common::error;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The script's fault.
    #[error("{0}")]
    RuntimeError(String),
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Unavailable(String),
    /// The caller itself holds all that it may.
    #[error("{0}")]
    RateLimited(String),
    #[error("{0}")]
    NotFound(String),
    /// Ours. What went wrong is in the log; the caller could do nothing with it.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    pub fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::PayloadTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
            Self::RuntimeError(_) => (StatusCode::UNPROCESSABLE_ENTITY, "RUNTIME_ERROR"),
            Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "TIMEOUT"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        }
    }
}

/// For what did not run because too much else did: that is over in a moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl ApiError {
    /// `logs` is the end of what the script printed, where the caller has asked for it.
    pub fn with_logs(self, logs: Option<&str>) -> Response {
        let (status, code) = self.code();
        let retry = matches!(self, Self::Unavailable(_) | Self::RateLimited(_));
        let retry_after = retry.then_some(RETRY_AFTER);
        error::answer(status, code, &self.to_string(), logs, retry_after)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.with_logs(None)
    }
}
