"""What is sent again, and what never: only that of which it is known that nothing ran."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lambda_microservice_client import (
    Client,
    Conflict,
    ConnectionBroken,
    ConnectionFailed,
    InternalError,
    LambdaError,
    RateLimited,
    Retries,
    Unavailable,
    UnexpectedAnswer,
)
from lambda_microservice_client.transport import checked_url, retry_after_seconds

from tests.unit.clients.edge import Edge, Reply, refusal, running
from tests.unit.clients.test_client import ANSWERS

DONE = Reply(200, ANSWERS["callFunction"])
UNAVAILABLE = refusal(503, "UNAVAILABLE", retry_after="3")


class Clock:
    """Time goes on by waiting alone."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client_of(url: str, clock: Clock, **retries: float) -> Client:
    return Client(url, timeout_seconds=2, retries=Retries(**retries), sleep=clock.sleep)  # type: ignore[arg-type]


def test_what_was_unavailable_is_sent_again_after_retry_after_with_the_same_key(edge: Edge, clock: Clock) -> None:
    edge.replies = [UNAVAILABLE, UNAVAILABLE, DONE]
    with client_of(edge.url, clock) as client:
        assert client.call("python-sum", {}).version == 3
    assert clock.waited == [3, 3]
    assert len({request.headers["idempotency-key"] for request in edge.requests}) == 1
    assert len({request.body for request in edge.requests}) == 1


def test_each_call_has_a_key_of_its_own_unless_one_is_given(edge: Edge, clock: Clock) -> None:
    edge.replies = [DONE, DONE, DONE]
    with client_of(edge.url, clock) as client:
        client.call("python-sum", {})
        client.call("python-sum", {})
        client.call("python-sum", {}, idempotency_key="order-17")
    keys = [request.headers["idempotency-key"] for request in edge.requests]
    assert len(set(keys)) == 3 and keys[2] == "order-17"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(500, "INTERNAL_ERROR"), InternalError),
        (refusal(429, "RATE_LIMITED", retry_after="1"), RateLimited),
        (refusal(409, "CONFLICT", retry_after="1"), Conflict),
        (refusal(503, "UNAVAILABLE"), Unavailable),  # of no promise when to come back
        (
            Reply(503, raw=b"<html>busy</html>", headers={"retry-after": "1", "content-type": "text/html"}),
            UnexpectedAnswer,
        ),
        (Reply(502, raw=b""), UnexpectedAnswer),
        (Reply(200, raw=b"{"), UnexpectedAnswer),
        (Reply(broken=True), ConnectionBroken),
        (Reply(wait_seconds=3, body=ANSWERS["callFunction"]), ConnectionBroken),
    ],
)
def test_what_may_have_run_is_sent_once(edge: Edge, clock: Clock, reply: Reply, kind: type[LambdaError]) -> None:
    edge.replies = [reply, DONE]
    with client_of(edge.url, clock) as client, pytest.raises(kind):
        client.call("python-sum", {})
    assert len(edge.requests) == 1 and clock.waited == []


def test_it_gives_up_after_so_many_times_and_tells_the_last_reason(edge: Edge, clock: Clock) -> None:
    edge.replies = [UNAVAILABLE] * 9
    with client_of(edge.url, clock, times=2) as client, pytest.raises(Unavailable):
        client.call("python-sum", {})
    assert len(edge.requests) == 3


def test_it_does_not_begin_to_wait_for_what_is_too_late(edge: Edge, clock: Clock) -> None:
    edge.replies = [refusal(503, "UNAVAILABLE", retry_after="31")]
    with client_of(edge.url, clock, seconds=30) as client, pytest.raises(Unavailable):
        client.call("python-sum", {})
    assert clock.waited == [] and len(edge.requests) == 1


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_refused_connection_is_tried_again(clock: Clock) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with client_of(url, clock, times=3) as client, pytest.raises(ConnectionFailed) as raised:
        client.call("python-sum", {})
    assert f"nobody listens at {url} (connection refused)" in str(raised.value)
    assert len(clock.waited) == 3 and clock.waited[0] < clock.waited[2] < 1.01


def test_a_name_that_leads_nowhere_is_tried_once(clock: Clock) -> None:
    with client_of("https://nowhere.invalid", clock) as client, pytest.raises(ConnectionFailed) as raised:
        client.call("python-sum", {})
    assert "no connection to https://nowhere.invalid" in str(raised.value)
    assert clock.waited == []


def test_a_private_authority_is_trusted_by_its_file_alone(clock: Clock, certificate: Path) -> None:
    with running(certificate) as edge:
        with client_of(edge.url, clock) as client, pytest.raises(ConnectionFailed) as raised:
            client.call("python-sum", {})
        assert f"the certificate of {edge.url} is not trusted" in str(raised.value)
        assert "--ca" in str(raised.value) and clock.waited == []
        edge.replies = [DONE]
        with Client(edge.url, ca_file=certificate, api_key="k") as client:
            assert client.call("python-sum", {}).version == 3
        assert edge.requests[-1].headers["x-api-key"] == "k"


def test_tls_towards_a_port_that_has_none_is_told(edge: Edge, clock: Clock) -> None:
    with client_of(edge.url.replace("http:", "https:"), clock) as client, pytest.raises(LambdaError) as raised:
        client.call("python-sum", {})
    assert "does not speak TLS" in str(raised.value) and clock.waited == []


def test_another_server_s_redirect_is_told_and_not_followed(edge: Edge, clock: Clock) -> None:
    edge.replies = [Reply(301, raw=b"", headers={"location": "https://elsewhere.test/"})]
    with client_of(edge.url, clock) as client, pytest.raises(UnexpectedAnswer, match="it leads to https://elsewhere"):
        client.call("python-sum", {})
    assert len(edge.requests) == 1


@given(st.text())
def test_any_retry_after_is_a_time_to_wait_or_none(value: str) -> None:
    seconds = retry_after_seconds(value, now=0.0)
    assert seconds is None or seconds >= 0


def test_a_date_of_retry_after_is_read() -> None:
    assert retry_after_seconds("Thu, 01 Jan 1970 00:01:00 GMT", now=50.0) == 10


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("lambda.example.com", "is no address of an edge"),
        ("ftp://lambda.example.com", "is no address of an edge"),
        ("https://", "is no address of an edge"),
        ("https://lambda.example.com?a=1", "is no address of an edge"),
        ("https://lambda.example.com:99999", "is no address"),
        ("https://[::1", "is no address"),
        ("https://\x00", "is no address"),
        ("https://me:hunter2@lambda.example.com", "a user or a password in it"),
        ("http://lambda.example.com", "is not encrypted"),
    ],
)
def test_an_address_that_cannot_be_is_told(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        checked_url(url, secret=True)
    assert "hunter2" not in str(raised.value)


def test_a_key_goes_to_this_machine_in_plain_text_too() -> None:
    assert checked_url("http://127.0.0.1:8080/", secret=True) == "http://127.0.0.1:8080"


@pytest.mark.parametrize("key", ["two\nlines", "über", " spaced "])
def test_a_key_that_no_header_can_have_is_told_without_it(key: str) -> None:
    with pytest.raises(ValueError, match="X-API-Key") as raised:
        Client("https://localhost", api_key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://127.0.0.1:1", "http://[::1"])
def test_a_proxy_that_cannot_be_is_told(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match="the proxy that the environment names"):
        Client("https://lambda.example.com")


def test_this_machine_is_asked_without_a_proxy(edge: Edge, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    edge.replies = [DONE]
    with client_of(edge.url, clock) as client:
        assert client.call("python-sum", {}).version == 3
