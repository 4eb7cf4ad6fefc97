"""What the role monitoring applies, with the real Ansible and without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

TAGS = ("--tags", "foundation,monitoring", "-e", f"platform_images_file={ROOT}/tests/images.json")


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


@pytest.fixture(scope="module")
def applied(collections, tmp_path_factory):
    """The role's batch, as its module is asked for it."""
    given = ("-e", "monitoring_enabled=true", "-e", '{"openfaas_own_prometheus": true}')
    done = run(collections, "site", *TAGS, *given, folder=tmp_path_factory.mktemp("run"))
    assert done.rc == 0, done.output
    (batch,) = [asked for asked in done.asked("policy") if asked["name"] == "monitoring"]
    return batch


def of(batch, kind):
    return {obj["metadata"]["name"]: obj for obj in batch["objects"] if obj["kind"] == kind}


def test_definitions_come_from_a_file(applied):
    kinds = {obj["spec"]["names"]["kind"] for path in applied["files"] for obj in json.loads(Path(path).read_text())}
    assert {"Prometheus", "Alertmanager", "PodMonitor", "ScrapeConfig", "PrometheusRule"} <= kinds


def test_every_component_has_a_monitor(applied):
    jobs = set(of(applied, "PodMonitor")) | {obj["spec"]["jobName"] for obj in of(applied, "ScrapeConfig").values()}
    assert jobs == {
        "envoy", "ratelimit", "controller", "nodejs-runtime", "python-runtime", "rust-runtime", "redis",
        "redis-sentinel", "redis-haproxy", "postgresql", "patroni", "pgbouncer", "pgbackrest", "coredns", "kubelet",
        "cadvisor", "apiserver", "kube-scheduler",
        "node-exporter", "kube-state-metrics", "prometheus", "alertmanager", "prometheus-operator",
        "victorialogs", "vlagent", "gateway", "queue-worker",
    }  # fmt: skip


def test_the_store_of_the_logs_is_asked_whichever_it_is(collections, tmp_path):
    wanted = {"logging_backend": "elastic", "logging_accept_elastic_license": True, "platform_upstream_images": True}
    done = run(collections, "site", *TAGS, "-e", json.dumps(wanted), folder=tmp_path)
    assert done.rc == 0, done.output
    (batch,) = [asked for asked in done.asked("policy") if asked["name"] == "monitoring"]
    monitors = of(batch, "PodMonitor")
    assert not {"victorialogs", "vlagent"} & monitors.keys()
    assert monitors["elasticsearch"]["spec"]["podMetricsEndpoints"][0]["portNumber"] == 9114
    assert (9114, "elasticsearch-exporter") in {
        (port["port"], (peer.get("podSelector") or {}).get("matchLabels", {}).get("app.kubernetes.io/name"))
        for rule in of(batch, "NetworkPolicy")["prometheus"]["spec"]["egress"]
        for peer in rule["to"]
        for port in rule["ports"]
    }


def test_prometheus_may_go_where_its_monitors_send_it(applied):
    """A monitor without a flow would be a target that times out."""
    (policy,) = [obj for name, obj in of(applied, "NetworkPolicy").items() if name == "prometheus"]
    allowed = set()
    for rule in policy["spec"]["egress"]:
        for peer in rule["to"]:
            labels = (peer.get("podSelector") or {}).get("matchLabels", {})
            where = (peer.get("namespaceSelector") or {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
            allowed |= {(where, labels.get("app.kubernetes.io/name", "*"), port["port"]) for port in rule["ports"]}
    for name, monitor in of(applied, "PodMonitor").items():
        endpoint = monitor["spec"]["podMetricsEndpoints"][0]
        through = [rule["replacement"] for rule in endpoint["relabelings"] if rule.get("targetLabel") == "__address__"]
        if through:
            app, namespace = through[0].split(".")[:2]
            port = int(through[0].rpartition(":")[2])
        else:
            (namespace,) = monitor["spec"]["namespaceSelector"]["matchNames"]
            app = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
            port = endpoint["portNumber"]
        assert (namespace, app, port) in allowed, name


def test_prometheus_reads_who_is_there_in_each_namespace_of_its_monitors(applied):
    monitored = {
        name for obj in of(applied, "PodMonitor").values() for name in obj["spec"]["namespaceSelector"]["matchNames"]
    }
    may = {obj["metadata"]["namespace"] for obj in applied["objects"] if obj["kind"] == "Role"}
    assert monitored | {"kube-system", "default"} == may
    rules = [rule for obj in applied["objects"] if obj["kind"] == "Role" for rule in obj["rules"]]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not any("secrets" in rule["resources"] for rule in rules)


def test_each_rule_file_is_applied_and_the_watchdog_is_there(applied):
    files = {path.stem for path in (ROOT / "roles/monitoring/files/rules").glob("*.yaml")}
    made = of(applied, "PrometheusRule")
    assert {name.replace("_", "-") for name in files} == set(made)
    alerts = [rule.get("alert") for obj in made.values() for group in obj["spec"]["groups"] for rule in group["rules"]]
    assert "Watchdog" in alerts


def test_every_container_has_bounded_memory(applied):
    for kind in ("Prometheus", "Alertmanager"):
        made = of(applied, kind)
        assert made and all(obj["spec"]["resources"]["limits"]["memory"] for obj in made.values()), kind


def test_the_functions_own_prometheus_reads_their_series_alone(applied):
    (wanted,) = of(applied, "Prometheus")["openfaas"]["spec"]["podMonitorSelector"]["matchExpressions"]
    monitors = of(applied, "PodMonitor")
    chosen = {name for name, obj in monitors.items() if obj["metadata"]["labels"][wanted["key"]] in wanted["values"]}
    assert wanted["operator"] == "In" and chosen == {"gateway", "queue-worker"}
    # The platform's reads them as well, and neither Service leads to the other's pods.
    assert of(applied, "Prometheus")["platform"]["spec"]["podMonitorSelector"] == {}
    selectors = [of(applied, "Service")[name]["spec"]["selector"] for name in ("prometheus", "prometheus-openfaas")]
    assert [selector["app.kubernetes.io/instance"] for selector in selectors] == ["platform", "openfaas"]


def test_without_it_there_is_the_platform_s_alone(collections, tmp_path):
    # As the local inventory has it.
    done = run(collections, "site", "--tags", "monitoring_policy", *TAGS[2:], folder=tmp_path)
    assert done.rc == 0, done.output
    (batch,) = [asked for asked in done.asked("policy") if asked["name"] == "monitoring"]
    assert set(of(batch, "Prometheus")) == {"platform"}


def test_turned_off_it_is_removed_and_opens_no_way(collections, tmp_path):
    done = run(collections, "site", *TAGS, "-e", "monitoring_enabled=false", folder=tmp_path)
    assert done.rc == 0, done.output
    (batch,) = [asked for asked in done.asked("policy") if asked["name"] == "monitoring"]
    assert (batch["state"], batch["objects"], batch["files"]) == ("absent", [], [])
    assert not done.asked("rollout")


def test_receivers_reach_alertmanager_s_configuration_by_reference(collections, tmp_path):
    receivers = [{"name": "hook", "type": "webhook", "severities": ["P1"], "secret": {"name": "hook", "key": "url"}}]
    given = json.dumps({"monitoring_receivers": receivers, "monitoring_validate": False, "monitoring_enabled": True})
    done = run(collections, "site", *TAGS, "-e", given, folder=tmp_path)
    assert done.rc == 0, done.output
    (batch,) = [asked for asked in done.asked("policy") if asked["name"] == "monitoring"]
    assert of(batch, "Alertmanager")["platform"]["spec"]["secrets"] == ["hook"]
    configuration = json.loads(of(batch, "Secret")["alertmanager-configuration"]["stringData"]["alertmanager.yaml"])
    assert "/etc/alertmanager/secrets/hook/url" in json.dumps(configuration)
    egress = of(batch, "NetworkPolicy")["alertmanager"]["spec"]["egress"]
    assert any("ipBlock" in peer for rule in egress for peer in rule["to"])
