"""One request and its answer. Sent again only where it is known that nothing ran."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from lambda_microservice_client.errors import (
    BY_CODE,
    ApiError,
    ConnectionBroken,
    ConnectionFailed,
    Unavailable,
    UnexpectedAnswer,
    UnknownError,
)

CONNECT_SECONDS = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Retries:
    """How often, and how long in all, a request that never ran is sent again."""

    times: int = 4
    seconds: float = 30.0
    told: Callable[[str, float], None] | None = field(default=None, compare=False)
    """Called before each wait, with the reason and the seconds."""


@dataclass(frozen=True)
class Answer:
    data: Any
    headers: Mapping[str, str]


class Transport:
    """Connections to one edge, with the caller's proof in each request.

    Raises ValueError for an address, an authority or a proof that cannot be."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: str | Path | None = None,
        api_key: str = "",
        token: str = "",
        user: str = "",
        timeout_seconds: float = 45.0,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = checked_url(url, secret=bool(api_key or token))
        self.timeout_seconds = timeout_seconds
        self.retries = retries or Retries()
        self._sleep = sleep
        self._clock = clock
        headers = {"Accept": "application/json", "User-Agent": "lambda-microservice-client"}
        for name, value in {
            "X-API-Key": api_key,
            "Authorization": f"Bearer {token}" if token else "",
            "X-User-ID": user,
        }.items():
            if value:
                headers[name] = _header(name, value)
        # A proxy's own loopback is not this machine's.
        proxied = urlsplit(self.url).hostname not in LOOPBACK
        trust = _trust(ca_file)
        try:
            self._http = httpx.Client(headers=headers, verify=trust, follow_redirects=False, trust_env=proxied)
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise ValueError(f"the proxy that the environment names (HTTPS_PROXY, ALL_PROXY): {error}") from None

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """The answer of a success; an error of `lambda_microservice_client.errors` for all else."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        wait = timeout_seconds or self.timeout_seconds
        request = self._http.build_request(
            method,
            f"{self.url}{path}",
            params=given or None,
            headers=headers,
            json=body,
            timeout=httpx.Timeout(wait, connect=CONNECT_SECONDS),
        )
        ends = self._clock() + self.retries.seconds
        waits = _waits(self.retries.times)
        while True:
            try:
                return self._once(request, wait)
            except (ConnectionFailed, Unavailable) as error:
                pause = next(waits, None)
                if pause is None or not _never_ran(error):
                    raise
                if isinstance(error, Unavailable):
                    pause = max(pause, error.retry_after_seconds or 0.0)
                if self._clock() + pause > ends:
                    raise
                if self.retries.told:
                    self.retries.told(str(error), pause)
                self._sleep(pause)

    def _once(self, request: httpx.Request, wait: float) -> Answer:
        try:
            response = self._http.send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise ConnectionFailed(_why_not_connected(error, self.url)) from error
        except httpx.TimeoutException as error:
            raise ConnectionBroken(f"{self.url} did not answer within {wait:g} s") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionBroken(f"the connection to {self.url} broke before the answer came ({reason})") from error
        return _answer(response)


def checked_url(url: str, *, secret: bool) -> str:
    """The address of an edge, without a slash at its end."""
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise ValueError(f"{url!r} is no address: {error}; expected https://HOST[:PORT]") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address with a user or a password in it is not taken; expected https://HOST[:PORT]")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or port == 0:
        raise ValueError(f"{url!r} is no address of an edge; expected https://HOST[:PORT]")
    if parts.scheme == "http" and secret and parts.hostname not in LOOPBACK:
        raise ValueError(f"{url} is not encrypted, so no key or token is sent there; expected https://")
    return url.rstrip("/")


def _header(name: str, value: str) -> str:
    # The value is not shown: it may be a key.
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(f"the value for {name} has characters that a header cannot have; expected printable ASCII")
    return value


def _trust(ca_file: str | Path | None) -> ssl.SSLContext:
    # The machine's own authorities, or those of the file alone: a private authority takes the place of the web's.
    if ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except FileNotFoundError:
        raise ValueError(f"the authority's certificate {ca_file} is not there") from None
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{ca_file} is no certificate in PEM: {error}") from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _never_ran(error: ConnectionFailed | Unavailable) -> bool:
    """A name that leads nowhere or a wrong certificate would fail the same way again."""
    if isinstance(error, Unavailable):
        return error.status == 503 and error.retry_after_seconds is not None
    return any(isinstance(cause, ConnectionRefusedError | httpx.ConnectTimeout) for cause in _causes(error))


def _why_not_connected(error: httpx.HTTPError, url: str) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {url} is not trusted ({cause.verify_message}); give the file of its authority"
                " (--ca), or check the name"
            )
        if isinstance(cause, ssl.SSLError):
            return f"{url} does not speak TLS as expected ({cause.reason or cause}); check scheme and port"
        if isinstance(cause, ConnectionRefusedError):
            return f"nobody listens at {url} (connection refused); check the address, or wait until the platform is up"
    if isinstance(error, httpx.ConnectTimeout):
        return f"{url} did not take the connection within {CONNECT_SECONDS:g} s; check the address and the network"
    return f"no connection to {url} ({error}); check the address and the network"


def _waits(times: int) -> Iterator[float]:
    # With a random part, or all callers that were refused together would come back together.
    for number in range(times):
        yield min(0.25 * 2**number, 4.0) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _answer(response: httpx.Response) -> Answer:
    if response.is_success:
        try:
            return Answer(response.json(), response.headers)
        except ValueError as error:
            raise UnexpectedAnswer(_strange(response)) from error
    raise _error(response)


def _error(response: httpx.Response) -> ApiError | UnexpectedAnswer:
    try:
        body = response.json()
        code, message = body["error"]["code"], body["error"]["message"]
        logs = body.get("logs")
    except (ValueError, LookupError, TypeError):
        return UnexpectedAnswer(_strange(response))
    if not isinstance(code, str) or not isinstance(message, str) or not isinstance(logs, str | None):
        return UnexpectedAnswer(_strange(response))
    return BY_CODE.get(code, UnknownError)(
        code,
        message,
        response.status_code,
        retry_after_seconds(response.headers.get("retry-after"), time.time()),
        response.headers.get("x-request-id", ""),
        logs,
    )


def _strange(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "no content type")
    where = f"; it leads to {response.headers['location']}" if "location" in response.headers else ""
    return (
        f"{response.request.url.copy_with(query=None)} answered {response.status_code} with {kind}, which is not the"
        f" platform's API{where}; check the address"
    )
