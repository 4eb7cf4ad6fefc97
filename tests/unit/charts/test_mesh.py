"""With a mesh: which pods of the charts get a proxy, what it is told; without one nothing of it is rendered."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import parse_flows
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.mesh import proxies
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import read_roles
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import evaluate

from .conftest import CHARTS, Objects, Render
from .test_flows_reach_services import CHART_NAMESPACES

MESH = ("controller", "ingress", "openfaas", "openfaas-fn")
LABEL = "sidecar.istio.io/inject"
PROXY = {"cpu": "100m", "memory": "128Mi", "cpuLimit": "2", "memoryLimit": "512Mi"}


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    """The tables of the role platform with the roles' defaults and a mesh."""
    roles = read_roles()
    tables = {name: value for role in roles for name, value in role.own.items()}

    def templated(variables: dict[str, Any], value: Any) -> Any:
        return Templar(loader=DataLoader(), variables=variables).template(value)

    defaults = {name: value for role in roles for name, value in role.defaults.items()}
    given = {**defaults, **tables, "ansible_playbook_python": "/usr/bin/python3", "mesh_enabled": True}
    values, _ = evaluate(roles, given, templated)
    known = {**tables, "__platform": values}
    wanted = ("platform_flows", "__platform_mesh", "platform_mesh_policies", "__platform_mesh_namespaces")
    return {name: templated(known, tables[name]) for name in wanted}


@pytest.fixture(scope="module")
def meshed(render: Render, own: dict[str, Any]) -> dict[str, Objects]:
    """The charts of the mesh's namespaces, rendered with it; the tests' namespace stands for each chart's own."""
    rows = own["__platform_mesh"]["workloads"]
    rendered = {}
    for chart in (one for one in CHARTS if CHART_NAMESPACES.get(one.name) in MESH):
        here = CHART_NAMESPACES[chart.name] + "/"
        workloads = {f"test/{key.removeprefix(here)}": row for key, row in rows.items() if key.startswith(here)}
        if chart.name == "runtime":
            workloads["test/runtime"] = workloads["test/nodejs-runtime"]
        rendered[chart.name] = render(chart, {"library": {"mesh": {"proxy": PROXY, "workloads": workloads}}})
    return rendered


def test_the_platforms_own_table_has_no_port_of_one_with_and_one_without_an_identity(own: dict[str, Any]) -> None:
    assert proxies(parse_flows(own["platform_flows"]), own["__platform_mesh_namespaces"])[1] == []


def test_who_goes_on_running_in_the_mesh_has_a_proxy_and_no_job_has(meshed: dict[str, Objects]) -> None:
    with_proxy, without = set(), set()
    for objects in meshed.values():
        for obj in objects:
            template = obj["spec"].get("jobTemplate", obj).get("spec", {}).get("template") if "spec" in obj else None
            if template:
                has = template["metadata"]["labels"].get(LABEL) == "true"
                (with_proxy if has else without).add(obj["metadata"]["name"])
    assert with_proxy == {"controller", "envoy", "gateway", "nats", "queue-worker", "ratelimit", "runtime"}
    assert without == {"controller-maintenance", "controller-migrations"}


def test_a_proxy_has_all_four_of_its_resources_and_no_token_of_the_api(meshed: dict[str, Objects]) -> None:
    for objects in meshed.values():
        for workload in objects.workloads():
            annotations = workload["spec"]["template"]["metadata"]["annotations"]
            found = {name: annotations[f"sidecar.istio.io/proxy{name}"] for name in ("CPU", "Memory")}
            limits = {name: annotations[f"sidecar.istio.io/proxy{name}Limit"] for name in ("CPU", "Memory")}
            assert found == {"CPU": "100m", "Memory": "128Mi"} and limits == {"CPU": "2", "Memory": "512Mi"}
            assert workload["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_what_an_autoscaler_of_nodes_may_throw_away_has_the_proxys_folders(meshed: dict[str, Objects]) -> None:
    for objects in meshed.values():
        for workload in objects.workloads():
            annotations = workload["spec"]["template"]["metadata"]["annotations"]
            kept = annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict") == "false"
            scratch = annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes", "").split(",")
            assert kept or {"workload-socket", "credential-socket", "workload-certs", "istio-data"} <= set(scratch)


def test_who_has_no_identity_comes_past_the_proxy(meshed: dict[str, Objects]) -> None:
    past = "traffic.sidecar.istio.io/exclude{}boundPorts".format
    annotations = {
        workload["metadata"]["name"]: workload["spec"]["template"]["metadata"]["annotations"]
        for objects in meshed.values()
        for workload in objects.workloads()
    }
    # All that the edge listens on: its callers have TLS of the edge's own.
    assert annotations["envoy"][past("In")] == "8080,8443,9090"
    assert {annotations[name][past("In")] for name in annotations if name not in ("envoy", "nats")} == {"9090"}
    assert past("In") not in annotations["nats"]
    # Redis and PostgreSQL, with TLS of their own; the Kubernetes API.
    assert {"6379", "6432", "26379"} <= set(annotations["controller"][past("Out")].split(","))
    assert {"443", "6443"} <= set(annotations["gateway"][past("Out")].split(","))
    assert all("8080" not in one[past("Out")].split(",") for one in annotations.values())


def test_every_service_says_what_is_spoken_and_is_called_with_an_identity(
    meshed: dict[str, Objects], own: dict[str, Any]
) -> None:
    rules = {
        obj["spec"]["host"] for obj in own["platform_mesh_policies"]["identities"] if obj["kind"] == "DestinationRule"
    }
    called = set()
    for chart, objects in meshed.items():
        namespace = CHART_NAMESPACES[chart]
        for service in objects.of("Service"):
            for port in service["spec"]["ports"]:
                assert port.get("appProtocol"), f"{service['metadata']['name']}: {port['name']}"
            name = service["metadata"]["name"].replace("runtime", "nodejs-runtime")
            app = service["spec"]["selector"]["app.kubernetes.io/name"]
            # Whom only the world and Prometheus call.
            if app != "envoy" and {port["name"] for port in service["spec"]["ports"]} != {"metrics"}:
                called.add(f"{name}.{namespace}.svc.cluster.local")
    others = {f"{name}-runtime.openfaas-fn.svc.cluster.local" for name in ("python", "rust")}
    assert called | others == rules


def test_an_autoscaler_of_pods_looks_at_the_program_alone(meshed: dict[str, Objects], render: Render) -> None:
    looked = 0
    for objects in meshed.values():
        containers = {
            one["metadata"]["name"]: {container["name"] for container in one["spec"]["template"]["spec"]["containers"]}
            for one in objects.workloads()
        }
        for autoscaler in objects.of("HorizontalPodAutoscaler"):
            for metric in autoscaler["spec"]["metrics"]:
                assert metric["type"] != "Resource"
                if metric["type"] == "ContainerResource":
                    looked += 1
                    assert metric["containerResource"]["container"] in containers[autoscaler["metadata"]["name"]]
    assert looked >= 3
    (chart,) = [one for one in CHARTS if one.name == "controller"]
    values = {"library": {"mesh": {"proxy": PROXY, "workloads": {"test/controller": {"inbound": [], "outbound": []}}}}}
    (older,) = render(chart, values, kube_version="1.29.0").of("HorizontalPodAutoscaler")
    assert {metric["type"] for metric in older["spec"]["metrics"]} == {"Resource"}


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_without_a_mesh_nothing_of_it_is_rendered(render: Render, chart: Any) -> None:
    objects = render(chart)
    assert "istio.io" not in str(objects) and "ContainerResource" not in str(objects)
