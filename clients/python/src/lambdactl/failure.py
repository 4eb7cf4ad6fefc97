"""One line for a person, and the exit code that a script reads."""

from __future__ import annotations

from lambda_microservice_client import errors

OK = 0
SCRIPT_FAILED = 1
WRONG_USE = 2
REFUSED = 3
NOT_FOUND = 4
UNAVAILABLE = 5
UNKNOWN_OUTCOME = 6
OWN_FAULT = 70
INTERRUPTED = 130
PIPE_CLOSED = 141

TABLE = {
    OK: "done",
    SCRIPT_FAILED: "the script failed, or took too long",
    WRONG_USE: "wrong use: an argument, a file, or what the platform says of the request",
    REFUSED: "refused: no key or token, a wrong one, or it is another user's",
    NOT_FOUND: "there is no such function, version, alias or context",
    UNAVAILABLE: "not available, or too many requests; nothing ran, the same can be asked again",
    UNKNOWN_OUTCOME: "no answer that says what became of it: the script may have run",
    OWN_FAULT: "a fault of lambdactl itself",
    INTERRUPTED: "interrupted (Ctrl-C)",
    PIPE_CLOSED: "who read the output went away",
}
"""Of `lambdactl --help` and docs/lambdactl.md; a test compares."""


class Failure(Exception):
    """What, with where, found, expected and what to do in the message; `code` of those above."""

    def __init__(self, message: str, code: int = WRONG_USE) -> None:
        super().__init__(message)
        self.code = code


_CODES: list[tuple[type[errors.LambdaError], int]] = [
    (errors.ScriptFailed, SCRIPT_FAILED),
    (errors.TimedOut, SCRIPT_FAILED),
    (errors.InvalidRequest, WRONG_USE),
    (errors.PayloadTooLarge, WRONG_USE),
    (errors.Unauthenticated, REFUSED),
    (errors.Forbidden, REFUSED),
    (errors.NotFound, NOT_FOUND),
    (errors.Unavailable, UNAVAILABLE),
    (errors.RateLimited, UNAVAILABLE),
    (errors.ConnectionFailed, UNAVAILABLE),
]


def of_call(error: errors.LambdaError) -> Failure:
    """A failed call, as one line with what to do where the error itself does not say it."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), UNKNOWN_OUTCOME)
    return Failure(_line(error), code)


def _line(error: errors.LambdaError) -> str:
    if not isinstance(error, errors.ApiError):
        return str(error)
    said = f"{_WORDS.get(type(error), 'the platform answered')}: {error.message}"
    if error.retry_after_seconds is not None:
        said += f" (again in {error.retry_after_seconds:g} s)"
    advice = _ADVICE.get(type(error), "")
    request = f" [{error.code}, request {error.request_id}]" if error.request_id else f" [{error.code}]"
    return said + (f"; {advice}" if advice else "") + request


_WORDS: dict[type[errors.ApiError], str] = {
    errors.ScriptFailed: "the script failed",
    errors.TimedOut: "out of time",
    errors.InvalidRequest: "the platform does not take this",
    errors.PayloadTooLarge: "too large",
    errors.Unauthenticated: "the platform does not know who asks",
    errors.Forbidden: "not allowed",
    errors.NotFound: "not found",
    errors.RateLimited: "too many requests, nothing ran",
    errors.Unavailable: "not available, nothing ran",
    errors.Conflict: "in conflict",
    errors.InternalError: "the platform failed, and the script may have run",
}
_ADVICE: dict[type[errors.ApiError], str] = {
    errors.Unauthenticated: "log in: lambdactl login URL --auth api-key (or token)",
}
