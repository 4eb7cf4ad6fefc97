use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lambda_common::error;

/// What a caller can tell apart. RATE_LIMITED is given by the edge too, where a caller sends too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    InvalidRequest,
    Forbidden,
    NotFound,
    PayloadTooLarge,
    RuntimeError,
    Timeout,
    RateLimited,
    Conflict,
    Unavailable,
    Internal,
}

impl ErrorCode {
    const ALL: [ErrorCode; 10] = [
        ErrorCode::InvalidRequest,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::PayloadTooLarge,
        ErrorCode::RuntimeError,
        ErrorCode::Timeout,
        ErrorCode::RateLimited,
        ErrorCode::Conflict,
        ErrorCode::Unavailable,
        ErrorCode::Internal,
    ];

    pub fn from_name(name: &str) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Whether it promises that no script ran.
    pub const fn nothing_ran(self) -> bool {
        !matches!(
            self,
            ErrorCode::RuntimeError | ErrorCode::Timeout | ErrorCode::Internal
        )
    }

    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "INVALID_REQUEST",
            ErrorCode::Forbidden => "FORBIDDEN",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            ErrorCode::RuntimeError => "RUNTIME_ERROR",
            ErrorCode::Timeout => "TIMEOUT",
            ErrorCode::RateLimited => "RATE_LIMITED",
            ErrorCode::Conflict => "CONFLICT",
            ErrorCode::Unavailable => "UNAVAILABLE",
            ErrorCode::Internal => "INTERNAL_ERROR",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            ErrorCode::InvalidRequest => StatusCode::BAD_REQUEST,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::RuntimeError => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Conflict => StatusCode::CONFLICT,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that is not a success. `message` goes to the caller and may quote what they sent, so it is never
/// logged; `cause` goes to the log and never holds anything of a caller's.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
    pub cause: Option<String>,
    status: StatusCode,
    retry_after: Option<Duration>,
    /// The end of what the script printed, where the caller wants it.
    logs: Option<String>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ApiError {
            code,
            message: message.into(),
            cause: None,
            status: code.status(),
            retry_after: None,
            logs: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::InvalidRequest, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::NotFound, message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::PayloadTooLarge, message)
    }

    /// Nothing ran: the same request may be sent again after `retry_after`.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        ApiError {
            retry_after: Some(retry_after),
            ..ApiError::new(ErrorCode::Unavailable, message)
        }
    }

    /// Nothing ran, as the caller itself holds all that it may.
    pub fn rate_limited(message: impl Into<String>, retry_after: Duration) -> Self {
        ApiError {
            retry_after: Some(retry_after),
            ..ApiError::new(ErrorCode::RateLimited, message)
        }
    }

    /// Another request with the same key is in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::Conflict, message)
    }

    pub fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    pub fn internal(message: impl Into<String>, cause: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::Internal, message).because(cause)
    }

    pub fn method_not_allowed() -> Self {
        ApiError {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..ApiError::invalid("this path does not take that method; see the Allow header")
        }
    }

    pub fn with_logs(mut self, logs: Option<String>) -> Self {
        self.logs = logs;
        self
    }

    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// Put into the response's extensions, for the log and the metrics.
#[derive(Clone, Debug)]
pub struct ErrorReport {
    pub code: ErrorCode,
    pub cause: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = error::answer(
            self.status,
            self.code.name(),
            &self.message,
            self.logs.as_deref(),
            self.retry_after,
        );
        response.extensions_mut().insert(ErrorReport {
            code: self.code,
            cause: self.cause,
        });
        response
    }
}
