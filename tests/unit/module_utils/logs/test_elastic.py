"""The lines of a request out of Elasticsearch: what is asked of it, and how its answer is told."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.elasticsearch.requests import Answer
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs import elastic, logs

REQUEST = "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f"
TRACE = "5e3d9a5271c44c1b9f0e6a1b2c3d4e5f"
HITS = [
    {
        "@timestamp": "2026-11-30T01:02:03.345Z",
        "kubernetes": {"namespace": "controller", "pod": "c-1", "container": "controller"},
        "json": {"message": "request", "status": 200, "request_id": REQUEST, "cause": {"kind": "none"}, "user": None},
    },
    {
        "@timestamp": "2026-11-30T01:02:03.310Z",
        "kubernetes": {"namespace": "ingress", "pod": "e-1", "container": "envoy"},
        "message": "no JSON",
    },
]


@pytest.fixture
def asked(monkeypatch):
    """What Elasticsearch was asked; it answers with the last entry."""
    questions = []
    answers = [Answer(200, {"hits": {"hits": [{"_source": source} for source in HITS]}})]

    def ask(server, requests):
        questions.extend((server.user_secret, request.method, request.path, request.body) for request in requests)
        return [answers[-1]]

    monkeypatch.setattr(elastic.Elasticsearch, "ask", ask)
    return questions, answers


def run():
    params = {"request": TRACE, "namespace": "monitoring", "backend": "elastic", "enabled": True, "retention_days": 90}
    return logs.run(params, False, False, None, lambda _auth: None)


def test_the_lines_are_told_in_order_and_asked_for_as_the_reader(asked):
    result = run()
    assert [line["pod"] for line in result["lines"]] == ["e-1", "c-1"]
    assert result["table"][1:] == [
        "01:02:03.310  envoy e-1       no JSON",
        "01:02:03.345  controller c-1  request status=200 cause.kind=none",
    ]
    ((secret, method, path, body),) = asked[0]
    assert (secret, method, path) == ("elasticsearch-logs-reader", "POST", "/logs-platform-*/_search")
    (filtered,) = body["query"]["bool"]["filter"]
    assert filtered["bool"]["should"] == [{"term": {"request_id": REQUEST}}, {"term": {"trace_id": TRACE}}]


def test_lines_are_counted_by_namespace(asked):
    asked[1].append(Answer(200, {"aggregations": {"namespaces": {"buckets": [{"key": "ingress", "doc_count": 7}]}}}))
    assert elastic.Elastic().counts(None, "monitoring", 10) == {"ingress": 7}
    assert asked[0][0][3]["query"] == {"range": {"@timestamp": {"gte": "now-10m"}}}


def test_a_refusal_is_said_in_elasticsearchs_words(asked):
    asked[1].append(Answer(403, {"error": {"reason": "action [indices:data/read/search] is unauthorized"}}))
    with pytest.raises(PlatformError, match=r"403: action .* is unauthorized"):
        run()
