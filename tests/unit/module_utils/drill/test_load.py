"""What a load is started as."""

from __future__ import annotations

import base64
import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.with_tags import with_tags
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.load import (
    edge_target,
    in_turn,
    store_objects,
)

STORE = {
    "namespace": "data",
    "url": "postgresql://pgbouncer:6432/lambda",
    "app": "pgbouncer",
    "port": 6432,
    "credentials": "postgresql-drill",
    "authority": "postgresql-ca",
    "rate": 200,
    "timeout_seconds": 3,
}


def test_an_execution_in_vegetas_form():
    target = edge_target("https://localhost:8443", "some-id", "drill-7", "python")
    assert target["url"] == "https://localhost:8443/api/v1/execute/some-id"
    assert target["header"]["X-User-ID"] == ["drill-7"]
    assert json.loads(base64.b64decode(target["body"])) == {"params": {}}


def test_languages_take_turns_by_their_shares():
    turn = in_turn({"scripts": {"rust": "", "python": "", "nodejs": ""}, "shares": {"rust": 4, "python": 2}})
    assert turn == ["rust", "python", "rust", "rust", "nodejs", "python", "rust"]
    assert in_turn({"scripts": {"python": "", "nodejs": ""}, "shares": {}}) == ["nodejs", "python"]
    turn = in_turn({"scripts": {"rust": ""}, "shares": {"session": 3}})
    assert sorted(turn) == ["rust", "session", "session", "session"]


def test_a_session_is_asked_for_without_executing_it():
    target = edge_target("https://localhost:8443", "some-id", "drill-7", "session")
    assert (target["method"], target["url"]) == ("GET", "https://localhost:8443/api/v1/sessions/some-id")


def test_the_pod_keeps_away_from_what_fails_and_is_restricted():
    *_policies, pod = store_objects(STORE, "load:1", "run-1", ["worker-b", "worker-a"])
    spec = pod["spec"]
    affinity = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = affinity["nodeSelectorTerms"][0]["matchExpressions"]
    assert (expression["operator"], expression["values"]) == ("NotIn", ["worker-a", "worker-b"])
    (container,) = spec["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    # No password is in the pod: it is mounted, and of the authority's Secret the certificate alone.
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["credentials"]["secret"]["secretName"] == "postgresql-drill"
    assert [item["key"] for item in volumes["authority"]["secret"]["items"]] == ["ca.crt"]


def test_the_policies_open_one_way_and_no_other():
    outward, inward, pod = store_objects(STORE, "load:1", "run-1", [])
    assert "affinity" not in pod["spec"]
    assert outward["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "drill-load"}
    assert outward["spec"]["ingress"] == []
    (rule,) = outward["spec"]["egress"]
    assert rule["to"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "pgbouncer"}}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": 6432}]
    assert inward["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "pgbouncer"}
    assert inward["metadata"]["name"] != "pgbouncer"  # that one is the role's


TABLE = [
    {"name": "a", "tags": ["redis", "short"]},
    {"name": "b", "tags": ["edge", "nodes"]},
    {"name": "c", "tags": ["redis", "nodes"]},
]


@pytest.mark.parametrize(
    ("run", "skip", "names"),
    [
        (["all"], [], "abc"),
        (["redis"], [], "ac"),
        (["redis"], ["nodes"], "a"),
        (["all"], ["nodes"], "a"),
        (["short", "edge"], [], "ab"),
    ],
)
def test_tags_choose_rows(run, skip, names):
    assert "".join(row["name"] for row in with_tags(TABLE, run, skip)) == names


def test_an_unknown_tag_names_those_that_there_are():
    with pytest.raises(AnsibleFilterError, match="edge, nodes, redis, short"):
        with_tags(TABLE, ["mongodb"])
