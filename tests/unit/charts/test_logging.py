"""The charts of the logs' store and of its agents: what bounds them, what they may read, and what outlives a pod."""

from __future__ import annotations

import pytest

from .conftest import ROOT, Manifest, Objects, Render, RenderError

STORE = ROOT / "roles/logging/files/charts/victorialogs"
AGENT = ROOT / "roles/logging/files/charts/vlagent"


def pod_of(objects: Objects, kind: str, name: str) -> Manifest:
    return objects.one(kind, name)["spec"]["template"]["spec"]


def arguments(objects: Objects, kind: str, name: str) -> dict[str, str]:
    (container,) = pod_of(objects, kind, name)["containers"]
    return {name: value for name, _, value in (word.partition("=") for word in container["args"])}


@pytest.fixture(scope="module")
def agent(render: Render) -> Objects:
    return render(AGENT)


@pytest.mark.parametrize(
    ("size", "percent", "limit"),
    [("50Gi", 80, "40GiB"), ("2Gi", 80, "1.6GiB"), ("500G", 75, "375GB"), ("1.5Ti", 50, "0.75TiB")],
)
def test_the_store_is_bounded_by_days_and_by_its_volume(render: Render, size: str, percent: int, limit: str) -> None:
    values = {"persistence": {"data": {"size": size}}, "diskPercent": percent, "retentionDays": 7}
    given = arguments(render(STORE, values), "StatefulSet", "victorialogs")
    assert (given["-retentionPeriod"], given["-retention.maxDiskSpaceUsageBytes"]) == ("7d", limit)


def test_the_store_takes_no_value_that_keeps_nothing(render: Render) -> None:
    with pytest.raises(RenderError, match="retentionDays"):
        render(STORE, {"retentionDays": 0})


def test_an_agent_reads_the_nodes_logs_and_writes_its_own_place_alone(agent: Objects) -> None:
    pod = pod_of(agent, "DaemonSet", "vlagent")
    (container,) = pod["containers"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert paths == {"logs": "/var/log", "place": "/var/lib/vlagent"}
    assert {name for name in paths if not mounts[name].get("readOnly")} == {"place"}
    assert mounts["logs"]["mountPath"] == "/var/log", "the links in it are absolute"


def test_an_agent_is_root_without_any_of_roots_privileges(agent: Objects) -> None:
    context = pod_of(agent, "DaemonSet", "vlagent")["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (0, False)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not context.get("fsGroup"), "a host's folder must not change its group"


def test_an_agents_place_and_buffer_are_on_the_node_and_bounded(agent: Objects, render: Render) -> None:
    given = arguments(agent, "DaemonSet", "vlagent")
    assert (given["-tmpDataPath"], given["-remoteWrite.maxDiskUsagePerURL"]) == ("/var/lib/vlagent", "2GiB")
    other = arguments(render(AGENT, {"buffer": "1500M"}), "DaemonSet", "vlagent")
    assert other["-remoteWrite.maxDiskUsagePerURL"] == "1500MB"


def test_agents_run_on_every_node(agent: Objects) -> None:
    # The shortest of all tolerations counts: none may have a time.
    assert pod_of(agent, "DaemonSet", "vlagent")["tolerations"] == [{"operator": "Exists"}]


def test_an_agents_token_is_its_own_and_short_lived(agent: Objects) -> None:
    (token,) = [volume for volume in pod_of(agent, "DaemonSet", "vlagent")["volumes"] if volume["name"] == "token"]
    sources = {name for source in token["projected"]["sources"] for name in source}
    assert sources == {"serviceAccountToken", "configMap", "downwardAPI"}


def test_without_a_store_nothing_is_rendered(render: Render) -> None:
    with pytest.raises(RenderError, match="store is empty"):
        render(AGENT, {"store": ""})
