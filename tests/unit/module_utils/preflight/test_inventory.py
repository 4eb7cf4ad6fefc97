"""What an inventory says by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import Workload
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import inventory
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    PASS,
    WARN,
    Finding,
    table,
)

BUCKET = {"data_services_postgresql_backup_s3": {"bucket": "mine"}}
DATABASE = {"data_services_postgresql_enabled": True, "data_services_postgresql_backup": True}
PUBLIC = {"ingress_service_type": "LoadBalancer", "ingress_authentication": "none"}

PRO = {"openfaas_enabled": True, "openfaas_edition": "pro"}


@pytest.mark.parametrize(
    ("check", "values", "result"),
    [
        (inventory.backups, DATABASE, FAIL),
        (inventory.backups, {**DATABASE, **BUCKET}, PASS),
        (inventory.backups, {**DATABASE, "platform_disposable": True}, PASS),
        (inventory.backups, {**DATABASE, **BUCKET, "data_services_postgresql_backup": False}, FAIL),
        (inventory.backups, {**DATABASE, "data_services_postgresql_snapshot_class": "ebs"}, PASS),
        (inventory.backups, {**DATABASE, "data_services_accept_backup_in_cluster": True}, PASS),
        (inventory.backups, {**DATABASE, "data_services_accept_backup_in_cluster": False}, FAIL),
        (inventory.backups, {}, PASS),
        (inventory.authentication, PUBLIC, FAIL),
        (inventory.authentication, {**PUBLIC, "ingress_accept_anonymous": True}, PASS),
        (inventory.authentication, {**PUBLIC, "ingress_load_balancer_internal": True}, PASS),
        (inventory.authentication, {**PUBLIC, "ingress_authentication": "jwt"}, PASS),
        (inventory.authentication, {"ingress_service_type": "NodePort"}, PASS),
        (inventory.licences, {"logging_enabled": True, "logging_backend": "elastic"}, FAIL),
        (inventory.licences, {"logging_enabled": False, "logging_backend": "elastic"}, PASS),
        (inventory.licences, {"logging_enabled": True, "logging_accept_elastic_license": True}, PASS),
        (inventory.licences, PRO, FAIL),
        (inventory.licences, {"openfaas_enabled": False, "openfaas_edition": "pro"}, PASS),
        (inventory.licences, {**PRO, "openfaas_accept_license": "community"}, FAIL),
        (inventory.licences, {**PRO, "openfaas_accept_license": "pro"}, PASS),
    ],
)
def test_what_is_left_open_stops_unless_it_is_accepted(check: Any, values: dict[str, Any], result: str) -> None:
    (found,) = check(values)
    assert found.result == result
    assert result == PASS or (found.needed and found.to_do)


def test_whose_backups_leave_the_cluster_is_said() -> None:
    (found,) = inventory.backups({**DATABASE, **BUCKET, "data_services_redis_backup": True})
    assert found.found == "PostgreSQL's and Redis' leave the cluster, to the bucket mine"
    (found,) = inventory.backups({**BUCKET, "data_services_redis_backup": True})
    assert found.found == "Redis' leave the cluster, to the bucket mine"
    snapshots = {**DATABASE, "data_services_postgresql_snapshot_class": "ebs"}
    (found,) = inventory.backups({**snapshots, "data_services_redis_backup": True})
    assert found.found.endswith("; Redis' copies stay in the cluster")


def container(image: str) -> dict[str, Any]:
    return {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "one", "image": image}]}}}}


def test_images_without_a_digest_are_named() -> None:
    pinned, loose = container("example.com/one@sha256:" + "0" * 64), container("example.com/two:1.2")
    assert [one.result for one in inventory.images([pinned], {})] == [PASS]
    (found,) = inventory.images([pinned, loose], {})
    assert found.result == WARN and "example.com/two:1.2" in found.found and "example.com/one" not in found.found
    assert [one.result for one in inventory.images([loose], {"platform_disposable": True})] == [PASS]


@pytest.mark.parametrize(
    ("budget", "result"),
    [
        ({"maxUnavailable": 1}, PASS),
        ({"minAvailable": 2}, PASS),
        ({"minAvailable": "50%"}, PASS),
        ({"maxUnavailable": 0}, FAIL),
        ({"maxUnavailable": "0%"}, FAIL),
        ({"minAvailable": 3}, FAIL),
        ({"minAvailable": "100%"}, FAIL),
    ],
)
def test_a_budget_lets_a_pod_go(budget: dict[str, Any], result: str) -> None:
    labels = {"app.kubernetes.io/name": "web"}
    workload = Workload("part", "one", "Deployment", "web", 3, 9, 1, 1, ("web",), labels={**labels, "more": "x"})
    obj = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "one"},
        "spec": {"selector": {"matchLabels": labels}, **budget},
    }
    (found,) = inventory.budgets([obj], [workload])
    assert found.result == result
    # Of another namespace's pods it says nothing.
    obj["metadata"]["namespace"] = "two"
    assert [one.result for one in inventory.budgets([obj], [workload])] == [PASS]


def test_two_on_one_port_are_named() -> None:
    def service(name: str, port: int, protocol: str = "TCP") -> dict[str, Any]:
        return {
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"nodePort": port, "protocol": protocol}]},
        }

    def daemon(name: str, port: int) -> dict[str, Any]:
        spec = {"hostNetwork": True, "containers": [{"ports": [{"containerPort": port}]}]}
        return {"kind": "DaemonSet", "metadata": {"name": name}, "spec": {"template": {"spec": spec}}}

    right = [service("a", 30443), service("b", 30443, "UDP"), daemon("c", 9100), daemon("d", 9101)]
    assert [one.result for one in inventory.ports(right)] == [PASS]
    (found,) = inventory.ports([*right, service("e", 30443), daemon("f", 9100)])
    assert found.result == FAIL
    assert "30443/TCP: Service a, Service e" in found.found and "9100/TCP: DaemonSet c, DaemonSet f" in found.found


def test_the_table_says_what_to_do_and_keeps_its_width() -> None:
    findings = [
        Finding("nodes", FAIL, "word " * 80, "room " * 40, "add nodes"),
        Finding("dns", PASS, "CoreDNS", "x", "y"),
    ]
    lines = table(findings, 100)
    assert max(map(len, lines)) <= 100
    assert any("needed: room" in line for line in lines) and any("to do:  add nodes" in line for line in lines)
    # What is well asks for nothing.
    assert lines[-1].split() == ["dns", "pass", "CoreDNS"]


def test_a_zone_without_a_pool_of_nodes_is_named() -> None:
    pools = [{"zones": ["a", "b"]}, {"zones": ["c"]}]
    assert list(inventory.zones({"platform_zones": ["a", "c"]}, pools)) == []
    assert list(inventory.zones({"platform_zones": ["a"]}, [])) == list(inventory.zones({}, pools)) == []
    (found,) = inventory.zones({"platform_zones": ["a", "d", "e"]}, pools)
    assert (found.check, found.result) == ("zones", FAIL) and "names d, e" in found.found
    assert "a, b, c" in found.needed


@pytest.mark.parametrize("name", ["production-eks", "production-gke"])
def test_our_own_inventories_have_pools_in_their_zones(name: str) -> None:
    folder = Path(__file__).resolve().parents[4] / "inventories" / name
    values = yaml.safe_load((folder / "group_vars/all/platform.yml").read_text(encoding="utf-8"))
    assert len(values["platform_zones"]) == 3
    assert list(inventory.zones(values, values["platform_node_pools"])) == []
