"""What Prometheus' API says, as the checks judge it."""

from __future__ import annotations

import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus import prometheus
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import monitoring
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed

OPTIONS = {"namespace": "monitoring", "pod": "prometheus-platform-0", "receivers": 0}
MANAGERS = {"activeAlertmanagers": [{"url": "http://10.0.0.1:9093/api/v2/alerts"}]}


def target(job, health="up", error="", pod="a-0"):
    return {
        "labels": {"job": job, "pod": pod},
        "scrapePool": f"podMonitor/monitoring/{job}/0",
        "health": health,
        "lastError": error,
    }


def alert(name, state="firing", **labels):
    return {"labels": {"alertname": name, **labels}, "state": state, "annotations": {"summary": f"{name} is so"}}


@pytest.fixture
def says(monkeypatch):
    """Answers by path; each may be a list of those that come one after the other, or a text that is no JSON."""

    def prepare(**answers):
        given = {name: list(answer) if isinstance(answer, list) else [answer] for name, answer in answers.items()}

        def get_from_pod(_cluster, namespace, pod, port, path, query=None):
            assert (namespace, pod, port) == ("monitoring", "prometheus-platform-0", 9090)
            name = path.removeprefix("/api/v1/")
            answer = given[name].pop(0) if len(given[name]) > 1 else given[name][0]
            if isinstance(answer, str):
                return answer.encode()
            return json.dumps({"status": "success", "data": answer}).encode()

        monkeypatch.setattr(prometheus, "get_from_pod", get_from_pod)

    return prepare


def pools(*jobs):
    return {"scrapePools": [f"podMonitor/monitoring/{job}/0" for job in jobs]}


def test_targets_that_are_up(says):
    says(targets={"activeTargets": [target("redis"), target("envoy")]}, scrape_pools=pools("redis", "envoy"))
    found = monitoring.monitoring_targets(None, OPTIONS, 0)
    assert found == Passed("2 targets of 2 jobs are up")


def test_a_target_that_is_down_is_named_with_its_error(says):
    down = target("redis", "down", "connection refused", "redis-1")
    says(targets={"activeTargets": [target("envoy"), down]}, scrape_pools=pools())
    with pytest.raises(PlatformError, match="redis redis-1: connection refused"):
        monitoring.monitoring_targets(None, OPTIONS, 0)


def test_what_has_not_been_asked_yet_is_waited_for(says, monkeypatch):
    new = {"activeTargets": [target("envoy", "unknown")]}
    says(targets=["starting", new, {"activeTargets": [target("envoy")]}], scrape_pools=pools("envoy"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert isinstance(monitoring.monitoring_targets(None, OPTIONS, 30), Passed)


def test_no_target_at_all_is_no_success(says):
    says(targets={"activeTargets": []}, scrape_pools=pools())
    with pytest.raises(PlatformError, match="no targets at all"):
        monitoring.monitoring_targets(None, OPTIONS, 0)


def test_a_monitor_that_finds_nothing_is_a_warning(says):
    says(targets={"activeTargets": [target("envoy")]}, scrape_pools=pools("envoy", "pgbackrest"))
    found = monitoring.monitoring_targets(None, OPTIONS, 0)
    assert isinstance(found, Doubtful)
    assert "pgbackrest" in found.warning


def test_an_answer_that_is_none_is_an_error(says):
    says(targets="sh: can't connect", scrape_pools=pools())
    with pytest.raises(PlatformError, match="Prometheus does not answer"):
        monitoring.monitoring_targets(None, OPTIONS, 0)


def rules(*given):
    return {
        "groups": [
            {"rules": [dict(zip(("name", "type", "health", "lastError"), rule, strict=False)) for rule in given]}
        ]
    }


def test_a_rule_that_errs_is_named(says):
    says(rules=rules(("A", "alerting", "ok"), ("b:c", "recording", "err", "many-to-many matching")))
    with pytest.raises(PlatformError, match="b:c: many-to-many matching"):
        monitoring.monitoring_rules(None, OPTIONS, 0)


def test_rules_that_are_evaluated(says):
    says(rules=rules(("A", "alerting", "ok"), ("b:c", "recording", "ok")))
    assert monitoring.monitoring_rules(None, OPTIONS, 0) == Passed("1 alerts and 1 recordings are evaluated")
    says(rules=rules())
    with pytest.raises(PlatformError, match="no rules"):
        monitoring.monitoring_rules(None, OPTIONS, 0)


def test_only_the_watchdog_fires(says):
    says(alerts={"alerts": [alert("Watchdog"), alert("B", "pending")]}, alertmanagers=MANAGERS)
    assert isinstance(monitoring.monitoring_alerts(None, OPTIONS, 0), Passed)


@pytest.mark.parametrize(
    ("alerts", "managers", "said"),
    [
        ([], MANAGERS, "Watchdog does not fire"),
        ([alert("Watchdog")], {"activeAlertmanagers": []}, "knows no Alertmanager"),
        (
            [alert("Watchdog"), alert("RedisDown", severity="P1", pod="redis-0")],
            MANAGERS,
            'RedisDown.*"redis-0".*is so',
        ),
    ],
)
def test_what_should_not_be_is_said(says, alerts, managers, said):
    says(alerts={"alerts": alerts}, alertmanagers=managers)
    with pytest.raises(PlatformError, match=said):
        monitoring.monitoring_alerts(None, OPTIONS, 0)


def test_what_is_for_working_hours_is_a_warning(says):
    fires = [alert("Watchdog"), alert("RedisFailedOver", severity="P3")]
    says(alerts={"alerts": fires}, alertmanagers=MANAGERS)
    found = monitoring.monitoring_alerts(None, OPTIONS, 0)
    assert isinstance(found, Doubtful)
    assert "RedisFailedOver" in found.warning


def test_nobody_is_told():
    found = monitoring.monitoring_receivers(None, OPTIONS)
    assert isinstance(found, Doubtful)
    assert "Nobody is told" in found.warning
    assert isinstance(monitoring.monitoring_receivers(None, {**OPTIONS, "receivers": 2}), Passed)
