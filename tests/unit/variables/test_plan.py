"""The plan is what site.yml does, and its figures hold together with those that stand elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import (
    asked,
    compared,
    wrong_pools,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import GIB, Workload
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import INSTALLED, components, plan
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions import quotas
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.workloads import workloads

from .conftest import IMAGES
from .evaluation import OWN, ROLES, evaluated
from .rendering import ROOT, Run, run

DESIGN = ROOT / "roles/platform/files/capacity/design.yml"
# An operator's bundle with as little in it as the filter takes.
BUNDLE = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "prometheus-operator", "labels": {}},
    "spec": {
        "template": {
            "metadata": {"labels": {}},
            "spec": {"containers": [{"name": "prometheus-operator", "resources": {"requests": {}, "limits": {}}}]},
        }
    },
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What both playbooks need here."""
    path = tmp_path_factory.mktemp("bundle") / "bundle.yaml"
    path.write_text(json.dumps(BUNDLE))
    # Upstream's charts and definitions, where they can be had here.
    mesh = yaml.safe_load((ROOT / "inventories/local/group_vars/all/mesh.yml").read_text(encoding="utf-8"))
    mesh = {key: value for key, value in mesh.items() if "chart" in key or "definitions" in key}
    return ["-e", f"monitoring_operator_source={path}", "-e", "monitoring_operator_sha256=''", "-e", json.dumps(mesh)]


@pytest.fixture(scope="module")
def capacity_of(collections: Path, tmp_path_factory: pytest.TempPathFactory, given: list[str]):
    """What playbooks/capacity.yml writes of an inventory. Images that nobody has built yet are counted too."""

    @cache
    def of(inventory: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("capacity")
        outputs = ["-e", f"capacity_output={folder}/page.html", "-e", f"capacity_json_output={folder}/capacity.json"]
        done = run(collections, "capacity", *outputs, *given, folder=folder, inventory=inventory)
        assert done.rc == 0, done.output
        assert (folder / "page.html").read_text().startswith("<!doctype html>")
        assert "nodes needed" in done.output
        return json.loads((folder / "capacity.json").read_text())

    return of


@pytest.fixture(scope="module")
def production(capacity_of) -> dict[str, Any]:
    return capacity_of("production-eks")


def test_the_components_are_those_of_the_site() -> None:
    assert {"foundation", "data_services", "runtimes", "controller", "ingress"} <= set(components())
    assert all((ROOT / "roles" / name).is_dir() for name in components())


def test_it_counts_what_the_roles_ask_their_modules_for(
    ansible: Callable[..., Run], production: dict[str, Any], given: list[str]
) -> None:
    assert [note for note in production["notes"] if "not counted" in note] == []
    options = [f"platform_images_file={IMAGES}", "monitoring_validate=false", "ingress_validate=false"]
    site = ansible("site", *given, *(word for option in options for word in ("-e", option)), inventory="production-eks")
    assert site.rc == 0, site.output
    releases = [
        release for args in site.asked("chart") for release in args["releases"] if release.get("state") != "absent"
    ]
    objects = [obj for args in site.asked("policy") for obj in args.get("objects") or []]
    everything = {"name": "all", "releases": releases, "objects": objects, "unknown": []}
    workloads, notes = asked([everything], "helm", "1.34.0")
    assert notes == []
    assert {_figures_of(one) for one in production["workloads"]} == {
        (one.namespace, one.name, one.least, one.most, one.cpu / 1000, round(one.memory / GIB, 3)) for one in workloads
    }
    assert len(workloads) == len(production["workloads"]) > 15
    # Nothing else on a new node keeps its agents away: they have no other place.
    priorities = {obj["metadata"]["name"]: obj["value"] for obj in objects if obj["kind"] == "PriorityClass"}
    agents = {
        one.name: priorities.get(one.priority)
        for one in workloads
        # Istio's plugin has the nodes' own.
        if one.kind == "DaemonSet" and one.priority != "system-node-critical"
    }
    assert agents and set(agents.values()) == {max(priorities.values())}, agents


def test_the_classes_that_the_foundation_makes_are_planned() -> None:
    """preflight counts them as there."""
    values, wrong = evaluated(
        foundation_storage_classes=[{"name": "gp3"}],
        foundation_snapshot_classes=[{"name": "ebs", "driver": "ebs.csi.aws.com"}],
    )
    assert not wrong

    def templar(variables: dict[str, Any]) -> Templar:
        return Templar(loader=DataLoader(), variables=variables)

    made = plan(
        ROLES,
        {"platform_image": {}},
        values,
        lambda seen, value: templar(seen).template(value),
        lambda seen, condition: bool(templar(seen).evaluate_conditional(condition)),
        ("policy",),
    )
    (foundation,) = [one for one in made if one["name"] == "foundation"]
    kinds = {obj["kind"]: obj["metadata"]["name"] for obj in foundation["objects"] if "Class" in obj["kind"]}
    assert kinds.items() >= {"StorageClass": "gp3", "VolumeSnapshotClass": "ebs"}.items(), foundation["unknown"]


def test_the_whole_plan_sees_what_tasks_would_register() -> None:
    """Of a running cluster, certificates end one day, and batches, releases that go and what is waited for are told."""
    values, wrong = evaluated(openfaas_enabled=False)
    assert not wrong
    played = []

    def registered(module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        played.append((module, arguments))
        return {"certificates_expire": {"postgresql-tls": "one day"}} if module == "secret" else {}

    def templar(variables: dict[str, Any]) -> Templar:
        return Templar(loader=DataLoader(), variables=variables)

    def planned(registered: Any) -> dict[str, dict[str, Any]]:
        made = plan(
            ROLES,
            {"platform_image": {name: f"example.com/{name}:1" for name in OWN["__platform_images"]}},
            values,
            lambda seen, value: templar(seen).template(value),
            lambda seen, condition: bool(templar(seen).evaluate_conditional(condition)),
            INSTALLED,
            registered,
        )
        return {one["name"]: one for one in made}

    found = planned(registered)

    def expiry(components: dict[str, dict[str, Any]]) -> str:
        releases = {release["name"]: release for release in components["data_services"]["releases"]}
        return releases["certificates"]["values"]["ends"].get("postgresql-tls", "")

    assert expiry(found) == "one day" and expiry(planned(None)) == ""
    assert {"secret"} <= {module for module, _arguments in played} and all(arguments for _name, arguments in played)
    openfaas = found["openfaas"]
    assert not openfaas["releases"] and {release["name"] for release in openfaas["absent"]} >= {"nats"}
    assert [(batch["name"], batch["state"]) for batch in openfaas["batches"]] == [("openfaas", "absent")]
    (batch,) = found["controller"]["batches"]
    assert batch["namespace"] == "controller" and batch["objects"]
    (rollout,) = found["controller"]["rollouts"]
    assert {"kind": "Deployment", "name": "controller"}.items() <= rollout["workloads"][0].items()


def _figures_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("namespace", "name", "least", "most", "cpu", "memory_gib"))


def test_production_at_the_designs_numbers(production: dict[str, Any]) -> None:
    design = production["design"]
    # The sums of its rows, which its own totals are not.
    assert design["sum"] == {"cpu": 62, "memory_gb": 188, "disk_gb": 720}
    rows = {row["workload"]: row for row in design["rows"]}
    assert sum(row["asked"] is not None for row in rows.values()) >= 9
    for row in rows.values():
        if row["asked"] is not None:
            mine = row["asked"]
            assert mine["replicas"] == row["replicas"], row
            # Sidecars come on top of what the design counts, the proxy of the mesh (100m, 128Mi) among them.
            assert row["cpu"] <= mine["cpu"] <= row["cpu"] + 0.15, row
            assert row["memory_gb"] <= mine["memory_gib"] <= row["memory_gb"] + 0.2, row
    assert "StatefulSet data-services/redis-sentinel" in design["beside"]
    (pool,) = production["needed"]
    assert pool["type"] == "m5.2xlarge"
    assert pool["least"]["nodes"] <= pool["least"]["nodes_node_lost"] <= pool["least"]["nodes_zone_lost"]
    assert pool["most"]["month"]["total"] > pool["least"]["month"]["total"] > 0


@pytest.mark.parametrize(("inventory", "nodes"), [("production-eks", [13, 30]), ("production-gke", [13, 30])])
def test_production_has_nodes_for_a_lost_zone_and_an_update(capacity_of, inventory: str, nodes: list[int]) -> None:
    report = capacity_of(inventory)
    pools = report["pools"]
    assert [one["nodes"] for one in pools] == nodes
    # A rehearsal found pods without a place on 9. What is said to be enough goes through what a rehearsal does.
    (needed,) = report["needed"]
    assert 9 < needed["least"]["nodes_node_lost"] <= needed["least"]["nodes_zone_lost"] <= nodes[0]
    assert needed["most"]["nodes_node_lost"] <= needed["most"]["nodes_zone_lost"] <= nodes[1]
    for one in pools:
        assert one["fits"] and not one["zone_lost"]["pending"] and not one["node_lost"]["pending"], one["at"]
        assert not one["updates_without_room"], one["at"]


def test_the_quotas_count_the_same(production: dict[str, Any]) -> None:
    """What contradictions/quotas.py takes from variables is what the charts render."""
    values, wrong = evaluated(data_services_storage_class="gp3", mesh_enabled=True)
    assert not wrong
    rendered = {(one["namespace"], one["name"]): one for one in production["workloads"]}
    checked = 0
    for mine in quotas.workloads(Values({**OWN, **values})):
        found = rendered.get((mine.namespace, mine.name))
        if found is None:
            continue  # An operator names its own, and puts a container beside each.
        checked += 1
        assert (mine.replicas, mine.added) == (found["most"], found["surge"]), mine.name
        assert float(mine.storage / GIB) == found["disk_gib"] - (300 if mine.name == "postgresql-repository" else 0)
        # Exporters are beside, which the quotas' check leaves out.
        assert 0 <= found["cpu"] - float(mine.cpu) <= 0.02, mine.name
        assert -0.001 <= found["memory_gib"] - float(mine.memory / GIB) <= 0.04, mine.name
    assert checked >= 11


@pytest.mark.parametrize("inventory", ["production-eks", "local"])
def test_the_table_of_workloads_is_what_is_rendered(capacity_of, inventory: str) -> None:
    """What VerticalPodAutoscalers watch, and what they may not change, is known before anything is rendered."""
    report = capacity_of(inventory)
    rendered = {
        (one["kind"], one["namespace"], one["name"], one["containers"][0], one["least"] != one["most"])
        for one in report["workloads"]
        if one["kind"] not in ("Job", "CronJob", "PersistentVolumeClaim") and one["namespace"] != "kube-system"
    }
    values, wrong = evaluated(**_of_inventory(inventory))
    assert not wrong
    table = [(*one[:4], bool(one.scaled_by)) for one in workloads(values)]
    assert set(table) == rendered
    names = [name for _kind, _namespace, name, *_rest in table]
    assert len(names) == len(set(names)) > 20


def _of_inventory(name: str) -> dict[str, Any]:
    """Its variables, as far as they say which workloads there are."""
    found: dict[str, Any] = {}
    for path in (ROOT / "inventories" / name / "group_vars" / "all").glob("*.yml"):
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found.update({key: value for key, value in given.items() if isinstance(value, (bool, int))})
    return found


def test_what_stands_beside_the_design_is_told() -> None:
    design = [{"name": "Redis", "workload": "redis", "replicas": 3, "cpu": 2, "memory_gb": 8, "disk_gb": 20}]
    more = Workload("data", "one", "Deployment", "haproxy", 2, 2, 250, GIB, ("haproxy",))
    found = compared(design, [more])
    assert found["rows"][0]["asked"] is None and found["beside"] == ["Deployment one/haproxy"]
    assert found["beside_sum"]["cpu"] == 0.5 and found["sum"]["memory_gb"] == 24


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ({"type": "m5.huge"}, "nobody knows what a node of the type has"),
        ({"zones": []}, "a pool of nodes has no zone"),
        ({"min_count": 9}, "numbers of nodes contradict each other"),
        ({"min_count": -1}, "numbers of nodes contradict each other"),
        ({"min_count": 1, "max_count": 2}, "a zone has no node"),
    ],
)
def test_pools_that_cannot_be_are_named(pool: dict[str, Any], told: str) -> None:
    whole = {"name": "general", "type": "m5.2xlarge", "zones": ["a", "b", "c"], "min_count": 3, "max_count": 6}
    types = {"m5.2xlarge": {}}
    assert wrong_pools([whole], types) == []
    (error,) = wrong_pools([{**whole, **pool}], types)
    assert told in error.what and error.where == "platform_node_pools, general"
    assert len(wrong_pools([whole, whole], types)) == 2
