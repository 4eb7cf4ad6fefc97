"""What the role asks for: with logs, without them, and for the lines of a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.variables.rendering import Run, collection_without_cluster, run

TABLE = "platform_images_file=" + str(Path(__file__).resolve().parents[3] / "images.json")
REQUEST = "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f"


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


def site(collections: Path, folder: Path, *arguments: str) -> Run:
    done = run(collections, "site", "--tags", "logging", "-e", TABLE, *arguments, folder=folder)
    assert done.rc == 0, done.output
    return done


def test_the_store_and_its_agents_with_their_ways_and_rights(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "-e", "logging_enabled=true", "-e", "logging_storage=10Gi")
    assert [done.release(name)["state"] for name in ("victorialogs", "vlagent")] == ["present", "present"]
    assert done.release("victorialogs")["values"]["persistence"]["data"]["size"] == "10Gi"
    agent = done.release("vlagent")
    assert agent["namespace"] == "node-agents"
    assert agent["values"]["store"] == "http://victorialogs.monitoring.svc.cluster.local:9428/insert/native"
    # And Elastic's, which another run may have made, has none.
    elastic, batch = done.asked("policy")
    assert (elastic["name"], elastic["state"]) == ("logging-elastic", "absent")
    named = {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in batch["objects"]}
    assert named == {
        ("NetworkPolicy", "monitoring", "victorialogs"),
        ("NetworkPolicy", "node-agents", "vlagent"),
        ("ClusterRole", None, "lambda-microservice-vlagent"),
        ("ClusterRoleBinding", None, "lambda-microservice-vlagent"),
    }
    (waited,) = done.asked("rollout")
    assert {(one["kind"], one["name"]) for one in waited["workloads"]} == {
        ("StatefulSet", "victorialogs"),
        ("DaemonSet", "vlagent"),
    }


def test_turned_off_all_that_it_made_goes(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "-e", "logging_enabled=false")
    assert {release["state"] for asked in done.asked("chart") for release in asked["releases"]} == {"absent"}
    assert [asked["state"] for asked in done.asked("policy")] == ["absent", "absent"]
    assert not done.asked("rollout")


def test_the_playbook_asks_for_the_request_that_it_is_given(collections: Path, tmp_path: Path) -> None:
    done = run(collections, "logs", "-e", f"request={REQUEST}", "-e", TABLE, folder=tmp_path)
    assert done.rc == 0, done.output
    (asked,) = done.asked("logs")
    expected = {"request": REQUEST, "namespace": "monitoring", "enabled": True, "retention_days": 7}
    assert {name: asked[name] for name in expected} == expected


def test_elastic_is_refused_where_its_images_cannot_be_had(collections: Path, tmp_path: Path) -> None:
    wanted = ("-e", "logging_backend=elastic", "-e", "logging_accept_elastic_license=true")
    done = run(collections, "site", "--tags", "logging", "-e", TABLE, *wanted, folder=tmp_path)
    assert done.rc != 0
    said = " ".join(done.output.split())
    assert (
        "cannot have the images of eck-operator, elasticsearch, kibana, logstash, filebeat, elasticsearch-exporter"
        in said
    )
    assert "To do: take logging_backend victorialogs" in said
    assert not done.calls
