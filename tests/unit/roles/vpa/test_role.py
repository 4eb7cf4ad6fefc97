"""What the role vpa asks for, with the real Ansible and without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.variables.rendering import ROOT, Run, collection_without_cluster, run

ON = {
    "vpa_enabled": True,
    "vpa_mode": {"redis-haproxy": "InPlaceOrRecreate"},
    "vpa_bounds": {"redis-haproxy": {"min": {"cpu": "10m", "memory": "16Mi"}, "max": {"cpu": "40m", "memory": "32Mi"}}},
}


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


def site(collections: Path, folder: Path, tags: str, given: dict[str, Any]) -> Run:
    table = f"platform_images_file={ROOT}/tests/images.json"
    return run(collections, "site", "--tags", tags, "-e", table, "-e", json.dumps(given), folder=folder)


@pytest.fixture(scope="module")
def acting(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    done = site(collections, tmp_path_factory.mktemp("run"), "monitoring,vpa", {**ON, "monitoring_validate": False})
    assert done.rc == 0, done.output
    return done


def batch(done: Run, name: str) -> dict[str, Any]:
    (found,) = [asked for asked in done.asked("policy") if asked["name"] == name]
    return found


def of(done: Run, kind: str) -> dict[tuple[str | None, str], dict[str, Any]]:
    objects = batch(done, "vpa")["objects"]
    return {(obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj for obj in objects if obj["kind"] == kind}


def test_its_definitions_come_from_a_file_and_are_left_to_who_brought_them(acting: Run) -> None:
    asked = batch(acting, "vpa-definitions")
    kinds = {obj["spec"]["names"]["kind"] for path in asked["files"] for obj in json.loads(Path(path).read_text())}
    assert kinds == {"VerticalPodAutoscaler", "VerticalPodAutoscalerCheckpoint"}
    assert asked["existing"] == "leave"


def test_each_workload_is_watched_and_the_named_one_may_be_changed(acting: Run) -> None:
    modes = {
        name: obj["spec"]["updatePolicy"]["updateMode"]
        for (_namespace, name), obj in of(acting, "VerticalPodAutoscaler").items()
    }
    assert {name for name, mode in modes.items() if mode != "Off"} == {"redis-haproxy"} and len(modes) > 20


def test_the_api_server_asks_where_something_may_be_changed_and_goes_on_without_an_answer(acting: Run) -> None:
    (configuration,) = of(acting, "MutatingWebhookConfiguration").values()
    asked = {}
    for webhook in configuration["webhooks"]:
        assert webhook["failurePolicy"] == "Ignore" and webhook["sideEffects"] == "None"
        (expression,) = webhook["namespaceSelector"]["matchExpressions"]
        ((resource,),) = [rule["resources"] for rule in webhook["rules"]]
        asked[resource] = set(expression["values"])
        service = webhook["clientConfig"]["service"]
        release = acting.release("vpa")
        assert (service["namespace"], service["name"]) == (release["namespace"], "vpa-admission-controller")
    assert asked["pods"] == {"data-services"}
    assert asked["verticalpodautoscalers"] == {place for place, _name in of(acting, "VerticalPodAutoscaler")}
    (names,) = [
        one["certificate"]["dns_names"]
        for args in acting.asked("secret")
        for one in args["secrets"]
        if one["name"] == "vpa-admission-controller-tls"
    ]
    assert names == [f"{service['name']}.{service['namespace']}.svc"]
    assert (
        acting.release("certificates")["values"]["certificates"].items()
        >= {"vpa-admission-controller-tls": "vpa-admission-controller-tls-authority"}.items()
    )


def test_it_may_write_where_it_must_and_nowhere_else(acting: Run) -> None:
    roles = of(acting, "ClusterRole")
    everywhere = {binding["roleRef"]["name"] for binding in of(acting, "ClusterRoleBinding").values()}
    verbs = {
        verb
        for (_none, name), role in roles.items()
        if name in everywhere
        for rule in role["rules"]
        for verb in rule["verbs"]
    }
    assert verbs == {"get", "list", "watch"}
    changes = {
        (place, binding["subjects"][0]["name"])
        for (place, _name), binding in of(acting, "RoleBinding").items()
        if binding["roleRef"]["name"] == "lambda-platform-vpa-changes"
    }
    assert changes == {("data-services", "vpa-updater")}
    named = [rule for role in [*roles.values(), *of(acting, "Role").values()] for rule in role["rules"]]
    assert not any(
        {"secrets", "configmaps", "mutatingwebhookconfigurations"} & set(rule["resources"]) for rule in named
    )
    assert not any("*" in rule["verbs"] for rule in named)
    bound = {
        binding["roleRef"]["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for binding in of(acting, kind).values()
    }
    assert {name for _none, name in roles} <= bound


def test_its_ways_are_the_api_s_and_prometheus(acting: Run) -> None:
    policies = of(acting, "NetworkPolicy")
    assert {name for _place, name in policies} == {"vpa-recommender", "vpa-updater", "vpa-admission-controller"}
    taken = policies["monitoring", "vpa-admission-controller"]["spec"]["ingress"]
    assert {port["port"] for rule in taken for port in rule["ports"]} == {8000, 8944}
    for policy in policies.values():
        ways = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert ways == {443, 6443}
    monitors = {
        obj["metadata"]["name"]: obj["spec"]["podMetricsEndpoints"][0]["portNumber"]
        for obj in batch(acting, "monitoring")["objects"]
        if obj["kind"] == "PodMonitor" and obj["metadata"]["name"].startswith("vpa-")
    }
    assert monitors == {"vpa-recommender": 8942, "vpa-updater": 8943, "vpa-admission-controller": 8944}


def test_who_renews_its_certificate_reaches_the_api(acting: Run) -> None:
    """And who renews the adapter's: the namespace denies what no policy opens."""
    (policy,) = [
        obj
        for obj in batch(acting, "monitoring")["objects"]
        if obj["kind"] == "NetworkPolicy" and obj["metadata"]["name"] == "certificates"
    ]
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {443, 6443}


def test_while_it_watches_alone_no_pod_is_its_business(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "vpa", {"vpa_enabled": True})
    assert done.rc == 0, done.output
    (configuration,) = of(done, "MutatingWebhookConfiguration").values()
    assert [webhook["rules"][0]["resources"] for webhook in configuration["webhooks"]] == [["verticalpodautoscalers"]]
    roles = {binding["roleRef"]["name"] for binding in of(done, "RoleBinding").values()}
    assert "lambda-platform-vpa-changes" not in roles


def test_turned_off_all_of_it_goes_and_its_definitions_after_their_objects(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "vpa", {"vpa_enabled": False})
    assert done.rc == 0, done.output
    asked = [(call["module"], call["args"].get("name")) for call in done.calls if call["module"] in ("policy", "chart")]
    assert asked == [("policy", "vpa"), ("policy", "vpa-definitions"), ("chart", None)]
    assert {each["state"] for each in done.asked("policy")} == {"absent"}
    assert batch(done, "vpa-definitions")["definitions_unless_used"] == ["VerticalPodAutoscaler"]
    assert [release["state"] for args in done.asked("chart") for release in args["releases"]] == ["absent"]
    assert not done.asked("secret") and not done.asked("rollout")


def test_a_wrong_mode_stops_it_before_anything_is_asked(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "vpa", {**ON, "vpa_mode": {"controller": "Recreate"}})
    assert done.rc != 0 and not done.calls
    assert "two autoscalers would move controller against each other" in done.output


def test_its_certificate_is_rotated_with_the_others(collections: Path, tmp_path: Path) -> None:
    table = f"platform_images_file={ROOT}/tests/images.json"
    given = ("--tags", "certificates", "-e", table, "-e", json.dumps({"vpa_enabled": True}))
    done = run(collections, "rotate", *given, folder=tmp_path)
    assert done.rc == 0, done.output
    turned = [
        one["name"]
        for args in done.asked("secret")
        for one in args["secrets"]
        if "rotate" in json.dumps(one) and one["name"].startswith("vpa-")
    ]
    assert turned == ["vpa-admission-controller-tls"]
    served = [one for args in done.asked("settled") for one in args["certificates"]]
    assert ("vpa-admission-controller", 8000) in [(one["app"], one["port"]) for one in served]
