"""The chart envoy: the design's numbers, what restarts pods and what does not, and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import ROOT, Manifest, Objects, Render, RenderError

CHART = ROOT / "roles/ingress/files/charts/envoy"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def pod_template(objects: Objects) -> Manifest:
    return objects.one("Deployment", "envoy")["spec"]["template"]


def test_the_designs_numbers(objects: Objects) -> None:
    assert objects.one("Deployment", "envoy")["spec"]["replicas"] == 3
    container = pod_template(objects)["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
    assert container["command"][container["command"].index("--concurrency") + 1] == "2"


def test_the_edge_is_443_and_80_and_metrics_are_not_at_it(objects: Objects) -> None:
    edge = objects.one("Service", "envoy")["spec"]
    assert edge["type"] == "LoadBalancer"
    assert {port["port"]: port["targetPort"] for port in edge["ports"]} == {443: "https", 80: "http"}
    metrics = objects.one("Service", "envoy-metrics")["spec"]
    assert metrics["type"] == "ClusterIP"
    assert [port["port"] for port in metrics["ports"]] == [9090]


def test_node_ports_where_they_are_asked_for(render: Render) -> None:
    ports = {"https": {"nodePort": 30443}, "http": {"nodePort": 30080}}
    service = render(CHART, {"service": {"type": "NodePort", "ports": ports}}).one("Service", "envoy")["spec"]
    assert {port["port"]: port["nodePort"] for port in service["ports"]} == {443: 30443, 80: 30080}
    assert all("nodePort" not in port for port in render(CHART).one("Service", "envoy")["spec"]["ports"])


def checksum(objects: Objects) -> dict[str, Any]:
    return pod_template(objects)["metadata"]["annotations"]


def test_the_bootstrap_restarts_pods_and_a_new_table_does_not(render: Render, objects: Objects) -> None:
    routes = render(CHART, {"configuration": {"routes.yaml": "resources: [9]\n"}})
    assert routes.one("ConfigMap", "envoy-configuration")["data"]["routes.yaml"] == "resources: [9]\n"
    assert pod_template(routes) == pod_template(objects)
    bootstrap = render(CHART, {"configuration": {"envoy.yaml": "node: {id: other}\n"}})
    assert checksum(bootstrap) != checksum(objects)


def test_what_envoy_starts_with_is_not_in_the_folder_that_it_watches(objects: Objects) -> None:
    assert set(objects.one("ConfigMap", "envoy-bootstrap")["data"]) == {
        "admin",
        "drain",
        "envoy.yaml",
        "started",
    }
    assert set(objects.one("ConfigMap", "envoy-configuration")["data"]) == {"routes.yaml", "clusters.yaml"}
    # A mount by subPath would never see a change.
    mounts = pod_template(objects)["spec"]["containers"][0]["volumeMounts"]
    assert not any("subPath" in mount for mount in mounts)
    assert {mount["mountPath"] for mount in mounts} == {
        "/etc/envoy/bootstrap",
        "/etc/envoy/configuration",
        "/etc/envoy/certificate",
    }


def test_an_ending_pod_has_time_for_its_requests(objects: Objects) -> None:
    spec = pod_template(objects)["spec"]
    given = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    assert given.pop("LEAVE_FIRST") == "true"
    env = {name: int(value) for name, value in given.items()}
    assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["bash", "/etc/envoy/bootstrap/drain"]
    assert env["REQUEST_SECONDS"] > 35
    assert spec["terminationGracePeriodSeconds"] > env["PROPAGATION_SECONDS"] + env["REQUEST_SECONDS"]


def test_an_envoy_that_drains_is_not_ready_but_alive(objects: Objects) -> None:
    container = pod_template(objects)["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}
    assert container["livenessProbe"]["tcpSocket"] == {"port": "metrics"}


def test_the_certificate_is_the_named_secret(render: Render) -> None:
    volumes = pod_template(render(CHART, {"certificateSecret": "mine"}))["spec"]["volumes"]
    assert {"name": "certificate", "secret": {"secretName": "mine", "defaultMode": 0o440}} in volumes


def test_keys_of_clients_are_a_volume_of_their_own_without_those_for_people(render: Render, objects: Objects) -> None:
    volumes = pod_template(render(CHART, {"apiKeySecret": "keys"}))["spec"]["volumes"]
    (keys,) = [volume["secret"] for volume in volumes if volume["name"] == "api-keys"]
    assert keys["items"] == [{"key": "api-keys.yaml", "path": "api-keys.yaml"}]
    assert "api-keys" not in [volume["name"] for volume in pod_template(objects)["spec"]["volumes"]]


def test_http_3_has_its_udp_port_beside_the_one_of_tcp(render: Render) -> None:
    values = {"http3": True, "service": {"ports": {"https-udp": {"port": 443, "protocol": "UDP", "nodePort": None}}}}
    ports = {port["name"]: port for port in render(CHART, values).one("Service", "envoy")["spec"]["ports"]}
    assert ports["https-udp"] == {"name": "https-udp", "port": 443, "targetPort": "https-udp", "protocol": "UDP"}


def test_without_a_configuration_nothing_is_rendered(render: Render) -> None:
    with pytest.raises(RenderError, match=r"configuration has no envoy\.yaml"):
        render(CHART, {"configuration": {"envoy.yaml": ""}})
