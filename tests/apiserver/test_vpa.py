"""What the role vpa applies, on a real API server: definitions, rights, webhook and objects, twice, and away again."""

from __future__ import annotations

import json
import uuid

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

ON = {
    "vpa_enabled": True,
    "vpa_mode": {"redis-haproxy": "InPlaceOrRecreate"},
    "vpa_bounds": {"redis-haproxy": {"min": {"cpu": "10m", "memory": "16Mi"}, "max": {"cpu": "40m", "memory": "32Mi"}}},
    # No endpoints of the API are found where there are no nodes.
    "platform_api_server_addresses": ["10.0.0.1/32"],
}
API = "autoscaling.k8s.io/v1"
DEFINITION = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
NAMES = [f"{plural}.autoscaling.k8s.io" for plural in ("verticalpodautoscalers", "verticalpodautoscalercheckpoints")]


@pytest.fixture(scope="module")
def batches(tmp_path_factory, cluster):
    """The arguments of the role's module: the definitions, and the rest."""
    collections = collection_without_cluster(tmp_path_factory.mktemp("collections"))
    given = ("--tags", "vpa", "-e", f"platform_images_file={ROOT}/tests/images.json", "-e", json.dumps(ON))
    done = run(collections, "site", *given, folder=tmp_path_factory.mktemp("run"))
    assert done.rc == 0, done.output
    definitions, rest = done.asked("policy")
    # No authority has signed anything here, and an API server looks at what it is given.
    rest["objects"] = [obj for obj in rest["objects"] if obj["kind"] != "MutatingWebhookConfiguration"] + [
        _without_bundle(obj) for obj in rest["objects"] if obj["kind"] == "MutatingWebhookConfiguration"
    ]
    for name in {obj["metadata"]["namespace"] for obj in rest["objects"] if "namespace" in obj["metadata"]}:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "test")
    return definitions, rest


def _without_bundle(configuration):
    for webhook in configuration["webhooks"]:
        del webhook["clientConfig"]["caBundle"]
    return configuration


def removed(apply, batches):
    """As the role does it where it is off."""
    definitions, rest = batches
    apply(rest, state="absent", objects=[])
    return apply(definitions, state="absent", files=[], definitions_unless_used=["VerticalPodAutoscaler"])


def there(cluster):
    return [name for name in NAMES if cluster.get({**DEFINITION, "metadata": {"name": name}}) is not None]


def test_it_is_accepted_changes_nothing_again_and_goes(apply, batches, cluster):
    for batch in batches:
        assert apply(batch)["changed"]
    for batch in batches:
        second = apply(batch)
        assert not second["changed"], [entry for entry in second["objects"] if entry["action"] != "unchanged"]
    watched = cluster.list(API, "VerticalPodAutoscaler", "data-services")
    modes = {obj["metadata"]["name"]: obj["spec"]["updatePolicy"]["updateMode"] for obj in watched}
    assert modes["redis-haproxy"] == "InPlaceOrRecreate" and modes["redis"] == "Off"
    (haproxy,) = [obj for obj in watched if obj["metadata"]["name"] == "redis-haproxy"]
    haproxy["metadata"] = {key: haproxy["metadata"][key] for key in ("name", "namespace")}
    haproxy["spec"]["updatePolicy"] = {"updateMode": "Sometimes"}
    with pytest.raises(PlatformError, match="updateMode"):
        cluster.apply({"apiVersion": API, "kind": "VerticalPodAutoscaler", **haproxy}, "test", dry_run=True)

    # What the recommender has noted down.
    checkpoint = {"apiVersion": API, "kind": "VerticalPodAutoscalerCheckpoint", "spec": {"vpaObjectName": "redis"}}
    checkpoint["metadata"] = {"name": "redis-redis", "namespace": "data-services"}
    cluster.apply(checkpoint, "test")
    removed(apply, batches)
    assert there(cluster) == []
    assert cluster.get({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                        "metadata": {"name": "lambda-platform-vpa-changes"}}) is None  # fmt: skip


def test_what_somebody_else_watches_keeps_the_definitions(apply, batches, cluster):
    for batch in batches:
        apply(batch)
    namespace = f"foreign-{uuid.uuid4().hex[:8]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, "test")
    foreign = {"apiVersion": API, "kind": "VerticalPodAutoscaler", "metadata": {"name": "web", "namespace": namespace}}
    foreign["spec"] = {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
    cluster.apply(foreign, "test")
    gone = removed(apply, batches)
    assert there(cluster) == NAMES
    assert any(f"VerticalPodAutoscaler {namespace}/web" in note for note in gone["notes"])
    assert [obj["metadata"]["name"] for obj in cluster.list(API, "VerticalPodAutoscaler")] == ["web"]
    for name in NAMES:
        cluster.delete({**DEFINITION, "metadata": {"name": name}})
