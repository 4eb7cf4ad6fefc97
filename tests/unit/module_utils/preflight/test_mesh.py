"""What would stand in the way of a mesh is found, each by its name; and nothing is said of a cluster that runs ours."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import FAIL, PASS, Finding
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.mesh import mesh
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.state import _LISTS, State

from ..stand_in import stands_in_for
from .test_cluster import Object, obj

VALUES = {
    "mesh_enabled": True,
    "mesh_namespace": "istio-system",
    "ingress_namespace": "ingress",
    "controller_namespace": "controller",
    "runtimes_namespace": "openfaas-fn",
    "openfaas_namespace": "openfaas",
    "openfaas_function_namespaces": ["openfaas-fn", "shop"],
    "foundation_namespaces": [{"name": "controller"}],
}


def injector(name: str, namespace: str, revision: str = "default") -> Object:
    service = {"service": {"name": "istiod", "namespace": namespace}}
    made = obj(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        name,
        webhooks=[{"name": "object.sidecar-injector.istio.io", "clientConfig": service}],
    )
    made["metadata"]["labels"] = {"istio.io/rev": revision}
    return made


def istiod(namespace: str, name: str = "istiod") -> Object:
    made = obj("apps/v1", "Deployment", name, namespace)
    made["metadata"]["labels"] = {"app": "istiod", "istio.io/rev": name.removeprefix("istiod-")}
    return made


def namespace(name: str, **said: dict[str, str]) -> Object:
    made = obj("v1", "Namespace", name)
    made["metadata"].update(said)
    return made


def pod_of(container: str, **context: int) -> Object:
    return {"containers": [{"name": container, "securityContext": context}]}


def judged(
    webhooks: list[Object] | None = None,
    rendered: list[tuple[str, Object]] | None = None,
    values: dict[str, Any] | None = None,
    **lists: list[Object],
) -> list[Finding]:
    @stands_in_for(Cluster)
    class Stand:
        def list(self, api_version: str, kind: str, namespace: str | None = None) -> list[Object]:
            assert kind == "MutatingWebhookConfiguration"
            return webhooks or []

    state = State({**dict.fromkeys(_LISTS, []), **lists}, {}, None)
    return list(mesh(state, {**VALUES, **(values or {})}, rendered or [], Stand()))


def test_a_cluster_without_any_and_one_with_ours_are_fit() -> None:
    running = {
        "webhooks": [injector("istio-sidecar-injector", "istio-system")],
        "deployments": [istiod("istio-system")],
        "pods": [obj("v1", "Pod", "controller-0", "controller", spec=pod_of("istio-proxy", runAsUser=1337))],
    }
    for found in (judged(), judged(**running)):
        assert [one.result for one in found] == [PASS]
    assert judged(values={"mesh_enabled": False}, deployments=[istiod("elsewhere")]) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"namespaces": [namespace("controller", labels={"istio-injection": "enabled"})]}, "controller has istio-inj"),
        ({"namespaces": [namespace("shop", labels={"istio.io/rev": "1-30"})]}, "shop has istio.io/rev: 1-30"),
        ({"namespaces": [namespace("ingress", annotations={"linkerd.io/inject": "enabled"})]}, "linkerd.io/inject"),
        ({"values": {"foundation_namespaces": [{"name": "controller", "labels": {"istio.io/rev": "x"}}]}}, "rev: x"),
        ({"webhooks": [injector("istio-sidecar-injector-1-30", "istio-system", "1-30")]}, "the revision 1-30"),
        ({"webhooks": [injector("istio-sidecar-injector-mesh", "mesh")]}, "of mesh into pods"),
        ({"deployments": [istiod("istio-system"), istiod("istio-system", "istiod-1-30")]}, "istio-system/istiod-1-30"),
        ({"pods": [obj("v1", "Pod", "f-0", "shop", spec=pod_of("f", runAsUser=1337))]}, "Pod shop/f-0: user or group"),
    ],
)
def test_what_stands_in_its_way_is_named(given: dict[str, Any], told: str) -> None:
    (found,) = judged(**given)
    assert found.result == FAIL and told in found.found and found.to_do


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_who_would_be_installed_with_the_proxies_user_is_named(kind: str) -> None:
    template = {"template": {"spec": {"securityContext": {"runAsGroup": 1337}, "containers": [{"name": "a"}]}}}
    spec = {"jobTemplate": {"spec": template}} if kind == "CronJob" else template
    workload = obj("apps/v1", kind, "controller", spec=spec)
    (found,) = judged(rendered=[("controller", workload)])
    assert f"{kind} controller/controller" in found.found
    # Outside of the mesh everybody is who he is.
    (found,) = judged(rendered=[("data-services", workload)])
    assert found.result == PASS
