"""What is asked of Prometheus, and what is said where it does not answer."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus import prometheus
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import Prometheus


def asked(monkeypatch: pytest.MonkeyPatch, answer: bytes | PlatformError) -> Any:
    def get_from_pod(_cluster: Any, *where: Any) -> bytes:
        assert where == ("monitoring", "prometheus-platform-0", 9090, "/api/v1/query", {"query": "up"})
        if isinstance(answer, PlatformError):
            raise answer
        return answer

    monkeypatch.setattr(prometheus, "get_from_pod", get_from_pod)
    return Prometheus(None, "monitoring").ask("query", {"query": "up"})  # type: ignore[arg-type]


def test_the_data_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, b'{"status": "success", "data": {"result": []}}') == {"result": []}


@pytest.mark.parametrize("text", [b"", b"Service Unavailable", b'{"status": "success"}', b"[]"])
def test_what_is_no_answer_is_shown(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    with pytest.raises(PlatformError, match="Prometheus does not answer") as raised:
        asked(monkeypatch, text)
    assert raised.value.found == (text.decode() or "nothing")
    assert raised.value.reason == "answer"


@pytest.mark.parametrize("reason", ["answer", "forbidden", "unreachable"])
def test_why_it_cannot_be_asked_is_kept(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    with pytest.raises(PlatformError, match="Prometheus does not answer") as raised:
        asked(monkeypatch, PlatformError("a pod does not answer", found="so it is", reason=reason))
    assert (raised.value.found, raised.value.reason) == ("so it is", reason)
