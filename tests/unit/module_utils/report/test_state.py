"""What the report says of objects."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.report import page, state
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 30, 20, tzinfo=UTC)


def obj(kind: str, name: str, spec: Any = None, status: Any = None, **metadata: Any) -> dict[str, Any]:
    about = {"name": name, "namespace": "one", **metadata}
    return {"kind": kind, "metadata": about, "spec": spec or {}, "status": status or {}}


def pod(node: str, ready: bool, **metadata: Any) -> dict[str, Any]:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return obj("Pod", "p", {"nodeName": node}, status, labels={"app": "web"}, **metadata)


@given(st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3", "gone"]), st.booleans())))
def test_ready_pods_are_counted_where_they_are(placed: list[tuple[str, bool]]) -> None:
    nodes = [obj("Node", f"n{number}", labels={state.ZONE: f"z{number}"}) for number in (1, 2, 3)]
    web = obj("Deployment", "web", {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}})
    pods = [pod(*each) for each in placed] + [pod("n1", True, namespace="two")]
    (row,), zones = state.workloads([web], pods, nodes)
    assert row["ready"] == sum(ready for _node, ready in placed) == sum(row["by_zone"].values())
    assert row["wanted"] == 3 and set(zones) >= {"z1", "z2", "z3"}
    assert row["by_zone"].get("z2", 0) == sum(node == "n2" and ready for node, ready in placed)


def test_certificates_are_told_by_their_end_and_what_is_none_is_left_out() -> None:
    def secret(name: str, days: int) -> dict[str, Any]:
        wanted = certificate.Wanted(common_name=f"{name}.example", dns_names=(), ip_addresses=(), valid_days=days)
        made = certificate.issue(wanted, None, now=NOW)
        return {**obj("Secret", name), "data": {"tls.crt": base64.b64encode(made.certificate).decode()}}

    broken = {**obj("Secret", "broken"), "data": {"tls.crt": base64.b64encode(b"x").decode()}}
    found = state.certificates([secret("long", 300), secret("short", 5), broken, obj("Secret", "other")], NOW)
    assert [one["secret"] for one in found] == ["one/short", "one/long"]
    assert found[0]["subject"] == "short.example" and 3 <= found[0]["days_left"] <= 5


def test_backups_have_their_age() -> None:
    last = (NOW - timedelta(hours=3)).isoformat().replace("+00:00", "Z")
    jobs = [
        obj("CronJob", "postgresql-backup", status={"lastSuccessfulTime": last}),
        obj("CronJob", "redis-backup"),
        obj("CronJob", "controller-maintenance", status={"lastSuccessfulTime": last}),
    ]
    source = {"source": {"persistentVolumeClaimName": "data-0"}}
    snapshots = [
        obj("VolumeSnapshot", "new", source, {"readyToUse": True, "creationTime": last}),
        obj("VolumeSnapshot", "old", source, {"readyToUse": True, "creationTime": "2026-01-01T00:00:00Z"}),
        obj("VolumeSnapshot", "failed", source, {"readyToUse": False, "creationTime": "2027-01-01T00:00:00Z"}),
    ]
    found = {one["what"]: one["age_hours"] for one in state.backups(jobs, snapshots, NOW)}
    assert found == {"one/postgresql-backup": 3.0, "one/redis-backup": None, "one/data-0": 3.0}


def test_drills_are_those_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    assert "No results" in state.drills(str(file), "")["said"] and not state.drills("", "")["rows"]
    file.write_text("[]")
    assert "No results" in state.drills(str(file), "")["said"]
    row = {"drill": "redis", "verdict": "held", "sent": 10, "failed": 1, "longest_gap_seconds": 2.25, "lost": 0}
    file.write_text(json.dumps({"made_at": 0, "drills": [row, {"drill": "b", "missed": ["why\nmore"]}]}))
    found = state.drills(str(file), "2026-11-30T10:00:00Z")
    assert "1970-01-01" in found["said"] and "2026-11-30T10" in found["said"]
    assert found["rows"][0]["said"] == "1 of 10 failed, resumed in 2.2 s; 0 lost" and found["rows"][1]["said"] == "why"


def test_images_have_their_names_and_not_their_runtimes() -> None:
    digest = "sha256:" + "a" * 64
    one = obj("Pod", "p", {"containers": [{"name": "c", "image": f"registry/web:1@{digest}"}]})
    one["status"] = {"containerStatuses": [{"name": "c", "image": "sha256:ff", "imageID": f"registry/web@{digest}"}]}
    assert state.images([one, one]) == [{"image": "registry/web:1", "digest": "a" * 12, "pods": 2}]


def test_only_what_is_reached_from_outside_is_an_endpoint() -> None:
    balanced = {"loadBalancer": {"ingress": [{"hostname": "nlb.example"}]}}
    services = [
        obj("Service", "inside", {"type": "ClusterIP"}),
        obj("Service", "envoy", {"type": "LoadBalancer", "ports": [{"nodePort": 30443}]}, balanced),
        obj("Service", "waiting", {"type": "LoadBalancer"}),
    ]
    found = state.endpoints(services, [obj("Ingress", "alb", {}, balanced)], "https://x")
    assert [one["address"] for one in found] == ["https://x", "nlb.example, node port 30443", "none yet", "nlb.example"]


def test_the_alert_that_fires_always_is_none() -> None:
    def alert(name: str, state: str = "firing") -> dict[str, Any]:
        return {"labels": {"alertname": name, "severity": "P2"}, "state": state, "activeAt": "2026-11-30T10:00:00.1Z"}

    found = state.alerts([alert("Watchdog"), alert("BackupOld"), alert("Soon", "pending")], "Watchdog")
    assert [one["name"] for one in found] == ["BackupOld"] and found[0]["since"] == "2026-11-30 10:00"


def test_recommendations_stand_beside_what_is_asked_for() -> None:
    container = {"name": "c", "resources": {"requests": {"cpu": "1"}}}
    web = obj("Deployment", "web", {"template": {"spec": {"containers": [container]}}})
    told = {"recommendation": {"containerRecommendations": [{"containerName": "c", "target": {"cpu": "80m"}}]}}
    vpa = obj("VerticalPodAutoscaler", "web", {"targetRef": {"kind": "Deployment", "name": "web"}}, told)
    (row,) = state.recommendations([vpa], [web])
    assert (row["cpu"], row["recommended_cpu"], row["memory"]) == ("1", "80m", "-")


def watched(target: dict[str, str], cpu: str, memory: str) -> dict[str, Any]:
    told = {"containerName": "c", "target": {"cpu": cpu, "memory": memory}}
    status = {"recommendation": {"containerRecommendations": [told]}}
    spec = {"targetRef": target, "updatePolicy": {"updateMode": "Off"}}
    return obj("VerticalPodAutoscaler", target["name"], spec, status)


def asking(name: str, cpu: str, memory: str) -> dict[str, Any]:
    found = obj("Pod", name, {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
    found["metadata"]["labels"] = {"app": name.partition("-")[0]}
    return found


def usage(name: str, cpu: str, memory: str) -> dict[str, Any]:
    return {**obj("PodMetrics", name), "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": memory}}]}


def workload(kind: str, name: str) -> dict[str, Any]:
    return obj(kind, name, {"selector": {"matchLabels": {"app": name}}, "template": {"spec": {"containers": []}}})


def test_who_asks_too_little_stands_before_who_asks_too_much() -> None:
    """What runs counts, which a VerticalPodAutoscaler may have changed; of several pods, the most."""
    prometheus = workload("StatefulSet", "made")
    prometheus["metadata"]["ownerReferences"] = [{"kind": "Prometheus", "name": "platform"}]
    running = [workload("Deployment", name) for name in ("right", "much", "little")] + [prometheus]
    autoscalers = [
        watched({"kind": "Deployment", "name": "right"}, "100m", "104857600"),
        watched({"kind": "Deployment", "name": "much"}, "66m", "100Mi"),
        watched({"kind": "Deployment", "name": "little"}, "111m", "262144k"),
        watched({"kind": "Prometheus", "name": "platform"}, "2", "3Gi"),
    ]
    pods = [asking("right-1", "100m", "100Mi"), asking("much-1", "100m", "128Mi"), asking("little-1", "100m", "256Mi")]
    pods += [asking("little-2", "90m", "128Mi"), asking("made-0", "4", "3Gi")]
    used = [usage("little-1", "5000001n", "1Mi"), usage("little-2", "30m", "2Mi")]
    rows = state.recommendations(autoscalers, running, pods, used)
    assert [row["workload"].rpartition("/")[2] for row in rows] == ["little", "much", "platform", "right"]
    little, much, platform, right = rows
    assert (little["cpu"], little["used_cpu"], little["recommended_cpu"]) == ("100m", "30m", "111m")
    assert (little["verdict_cpu"], little["verdict_memory"]) == ("too little", "about right")
    assert (much["verdict_cpu"], much["verdict_memory"], much["used_cpu"]) == ("too much", "about right", "-")
    assert (platform["cpu"], platform["recommended_cpu"], platform["memory"]) == ("4", "2", "3Gi")
    assert {right["verdict_cpu"], right["verdict_memory"]} == {"about right"} and right["mode"] == "Off"


def test_of_what_nobody_can_read_it_says_so() -> None:
    (row,) = state.recommendations([watched({"kind": "Deployment", "name": "gone"}, "1", "1Gi")], [])
    assert (row["cpu"], row["verdict_cpu"], row["recommended_memory"]) == ("-", "unknown", "1Gi")


def test_a_row_has_a_value_for_each_head_of_the_table() -> None:
    (row,) = state.recommendations([watched({"kind": "Deployment", "name": "gone"}, "1", "1Gi")], [])
    assert len(row) == len(page.RECOMMENDATIONS)
