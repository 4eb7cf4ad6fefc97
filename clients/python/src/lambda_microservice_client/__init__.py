"""A client of the lambda platform's API (images/controller/openapi.yaml).

with Client("https://lambda.example.com", api_key=key) as client:
    print(client.call("python-sum", {"numbers": [3, 4, 12]}).result)
"""

from __future__ import annotations

from lambda_microservice_client.client import ABSENT, Absent, Client
from lambda_microservice_client.errors import (
    ApiError,
    Conflict,
    ConnectionBroken,
    ConnectionFailed,
    Forbidden,
    InternalError,
    InvalidRequest,
    LambdaError,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    ScriptFailed,
    TimedOut,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from lambda_microservice_client.transport import Retries

__version__ = "0.2.0"

__all__ = [
    "ABSENT",
    "Absent",
    "ApiError",
    "Client",
    "Conflict",
    "ConnectionBroken",
    "ConnectionFailed",
    "Forbidden",
    "InternalError",
    "InvalidRequest",
    "LambdaError",
    "NotFound",
    "PayloadTooLarge",
    "RateLimited",
    "Retries",
    "ScriptFailed",
    "TimedOut",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
]
