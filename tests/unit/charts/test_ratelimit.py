"""The chart ratelimit: how it reaches Redis, who reaches it, and what restarts it."""

from __future__ import annotations

import pytest

from .conftest import ROOT, Manifest, Objects, Render, RenderError

CHART = ROOT / "roles/ingress/files/charts/ratelimit"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def container(objects: Objects) -> Manifest:
    return objects.one("Deployment", "ratelimit")["spec"]["template"]["spec"]["containers"][0]


def test_the_password_is_the_secrets_and_is_read_before_it_is_used(objects: Objects) -> None:
    names = [entry["name"] for entry in container(objects)["env"]]
    assert names.index("REDIS_PASSWORD") < names.index("REDIS_AUTH")
    env = {entry["name"]: entry for entry in container(objects)["env"]}
    assert env["REDIS_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "redis-ratelimit", "key": "password"}
    assert env["REDIS_AUTH"]["value"] == "$(REDIS_USERNAME):$(REDIS_PASSWORD)"
    assert env["CACHE_KEY_PREFIX"]["value"] == "lambda:ratelimit:"


def test_only_what_others_use_listens_on_the_pods_address(objects: Objects) -> None:
    env = {entry["name"]: entry.get("value") for entry in container(objects)["env"]}
    assert (env["HOST"], env["DEBUG_HOST"]) == ("127.0.0.1", "127.0.0.1")
    assert {port["containerPort"] for port in container(objects)["ports"]} == {8081, 9090}


def test_every_envoy_knows_every_pod(objects: Objects) -> None:
    service = objects.one("Service", "ratelimit")["spec"]
    assert service["clusterIP"] == "None"
    # It checks each itself, a new one before it is ready too.
    assert service["publishNotReadyAddresses"] is True


def test_a_new_table_restarts_it(render: Render, objects: Objects) -> None:
    other = render(CHART, {"configuration": "domain: other\n"})
    assert other.one("ConfigMap", "ratelimit-configuration")["data"] == {"edge.yaml": "domain: other\n"}

    def checksums(found: Objects) -> Manifest:
        return found.one("Deployment", "ratelimit")["spec"]["template"]["metadata"]["annotations"]

    assert checksums(other) != checksums(objects)


def test_without_a_table_nothing_is_rendered(render: Render) -> None:
    with pytest.raises(RenderError, match="configuration is empty"):
        render(CHART, {"configuration": ""})
