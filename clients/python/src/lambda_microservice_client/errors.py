"""What a call may raise. Each says whether a script may have run (`may_have_run`)."""

from __future__ import annotations


class LambdaError(Exception):
    """Any failure of a call."""

    may_have_run = False


class ConnectionFailed(LambdaError):
    """No connection could be made: nothing was sent."""


class ConnectionBroken(LambdaError):
    """The connection broke, or no answer came in time, after the request was sent."""

    may_have_run = True


class UnexpectedAnswer(LambdaError):
    """The answer is none of the API's: something else answers at this address, or a newer platform."""

    may_have_run = True


class ApiError(LambdaError):
    """`{"error": {"code", "message"}}` of the platform. `request_id` is the edge's, which logs are found by; `logs` is
    the end of what the script printed, where it was asked for."""

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        retry_after_seconds: float | None = None,
        request_id: str = "",
        logs: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        self.logs = logs


class InvalidRequest(ApiError):
    pass


class Unauthenticated(ApiError):
    """The edge asks for an API key or a token, and none or a wrong one was sent."""


class Forbidden(ApiError):
    pass


class NotFound(ApiError):
    pass


class PayloadTooLarge(ApiError):
    pass


class ScriptFailed(ApiError):
    """The script failed; the message is its own."""

    may_have_run = True


class TimedOut(ApiError):
    """The script did not end in time and was stopped."""

    may_have_run = True


class RateLimited(ApiError):
    """Nothing ran."""


class Conflict(ApiError):
    """The first request with this Idempotency-Key still runs, or its answer is not kept."""

    may_have_run = True


class Unavailable(ApiError):
    """Nothing ran, and the same request may be sent again."""


class InternalError(ApiError):
    may_have_run = True


BY_CODE: dict[str, type[ApiError]] = {
    "INVALID_REQUEST": InvalidRequest,
    "UNAUTHENTICATED": Unauthenticated,
    "FORBIDDEN": Forbidden,
    "NOT_FOUND": NotFound,
    "PAYLOAD_TOO_LARGE": PayloadTooLarge,
    "RUNTIME_ERROR": ScriptFailed,
    "TIMEOUT": TimedOut,
    "RATE_LIMITED": RateLimited,
    "CONFLICT": Conflict,
    "UNAVAILABLE": Unavailable,
    "INTERNAL_ERROR": InternalError,
}
"""The controller's codes, and UNAUTHENTICATED, which the edge alone says."""


class UnknownError(ApiError):
    """A code that this client does not know."""

    may_have_run = True
