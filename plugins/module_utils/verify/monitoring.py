# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Prometheus sees everything and says that all is well, as its own API tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import POD, Prometheus
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    Doubtful,
    Found,
    Passed,
)

_Seen = TypeVar("_Seen")

MONITORING_SPEC: Object = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "pod": {"type": "str", "default": POD},
        "receivers": {"type": "int", "default": 0},
    },
}

WATCHDOG = "Watchdog"
"""The alert that fires always: without it, no other would come either."""


def monitoring_targets(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """Every target that Prometheus found answers."""

    def state() -> tuple[list[Object], list[str]]:
        told = _ask(cluster, options, "targets", {"state": "active"})["activeTargets"]
        pools = _ask(cluster, options, "scrape_pools")["scrapePools"]
        return told, pools

    targets, pools = _patiently(state, wait_seconds, 3, done=lambda found: found[0] and not _not_up(found[0]))
    wrong = _not_up(targets)
    if wrong or not targets:
        raise PlatformError(
            "Prometheus cannot see everything",
            where=f"Pod {options['namespace']}/{options['pod']}",
            found="; ".join(wrong) or "no targets at all",
            expected="that each of its targets answers",
            fix="of a connection that is refused or times out, look at the pod and at the flow to it "
            "(roles/platform/vars/main.yml); of 401 or 403, at the rights of the ServiceAccount prometheus",
            reason="monitoring",
        )
    empty = sorted(set(pools) - {target["scrapePool"] for target in targets})
    jobs = {target["labels"]["job"] for target in targets}
    if empty:
        names = ", ".join(_monitor(pool) for pool in empty)
        return Doubtful(
            f"{len(targets)} targets of {len(jobs)} jobs are up; none of {names}",
            f"Monitors that find nothing: {names}. What they look for is not deployed, or its labels or ports changed.",
        )
    return Passed(f"{len(targets)} targets of {len(jobs)} jobs are up")


def monitoring_rules(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """Each rule has been evaluated, and without an error."""

    def state() -> list[Object]:
        groups = _ask(cluster, options, "rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    rules = _patiently(
        state, wait_seconds, 3, done=lambda found: found and all(rule["health"] == "ok" for rule in found)
    )
    wrong = [f"{rule['name']}: {rule.get('lastError') or rule['health']}" for rule in rules if rule["health"] != "ok"]
    if wrong or not rules:
        raise PlatformError(
            "rules are not evaluated",
            where=f"Pod {options['namespace']}/{options['pod']}",
            found="; ".join(wrong[:10]) or "no rules",
            expected="each rule with the health ok",
            fix="correct them in roles/monitoring/files/rules (promtool check rules says more)",
            reason="monitoring",
        )
    alerts = sum(rule["type"] == "alerting" for rule in rules)
    return Passed(f"{alerts} alerts and {len(rules) - alerts} recordings are evaluated")


def monitoring_alerts(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """The watchdog fires and reaches an Alertmanager, and nothing else fires but what is for working hours (P3): a
    failover that went well is told for a quarter of an hour."""

    def state() -> tuple[str, list[Object]]:
        alerts = _ask(cluster, options, "alerts")["alerts"]
        managers = _ask(cluster, options, "alertmanagers")["activeAlertmanagers"]
        firing = [alert for alert in alerts if alert["state"] == "firing"]
        names = {alert["labels"]["alertname"] for alert in firing}
        missing = "" if WATCHDOG in names else f"{WATCHDOG} does not fire"
        if not managers:
            missing = "Prometheus knows no Alertmanager"
        return missing, [alert for alert in firing if alert["labels"]["alertname"] != WATCHDOG]

    def urgent(firing: list[Object]) -> list[str]:
        return [_told(alert) for alert in firing if alert["labels"].get("severity") != "P3"]

    missing, firing = _patiently(state, wait_seconds, 5, done=lambda found: not found[0] and not urgent(found[1]))
    where = f"Pod {options['namespace']}/{options['pod']}"
    if missing:
        raise PlatformError(
            "no alert would come",
            where=where,
            found=missing,
            expected=f"{WATCHDOG}, which fires always, and an Alertmanager that gets it",
            fix=f"look at kubectl -n {options['namespace']} get prometheus,alertmanager,prometheusrule and at the logs "
            "of prometheus-operator",
            reason="monitoring",
        )
    if urgent(firing):
        raise PlatformError(
            f"{len(firing)} alerts fire",
            where=where,
            found="; ".join(_told(alert) for alert in firing),
            expected=f"none but {WATCHDOG}, and at most some of severity P3",
            fix="follow the alert's page in docs/runbooks",
            reason="alert",
        )
    if firing:
        names = ", ".join(sorted({alert["labels"]["alertname"] for alert in firing}))
        return Doubtful(
            f"{WATCHDOG} fires, and of severity P3 {names}",
            f"Alerts for working hours fire: {'; '.join(map(_told, firing))}. Their pages are in docs/runbooks.",
        )
    return Passed(f"{WATCHDOG} fires, and nothing else does")


def monitoring_receivers(cluster: Cluster, options: Object) -> Found:
    """Somebody is told."""
    if not options["receivers"]:
        return Doubtful(
            "no receivers",
            "Nobody is told of alerts: monitoring_receivers is empty. They are seen in Alertmanager alone "
            f"(kubectl -n {options['namespace']} port-forward svc/alertmanager 9093).",
        )
    return Passed(f"{options['receivers']} receivers")


def _patiently(
    look: Callable[[], _Seen], wait_seconds: float, pause_seconds: float, done: Callable[[_Seen], Any]
) -> _Seen:
    """What is seen when it is done or the time is over. A Prometheus that starts again does not answer at first."""

    def attempt() -> _Seen | PlatformError:
        try:
            return look()
        except PlatformError as error:
            return error

    found = wait_until(
        attempt, wait_seconds, pause_seconds, done=lambda seen: not isinstance(seen, PlatformError) and done(seen)
    )
    if isinstance(found, PlatformError):
        raise found
    return found


def _not_up(targets: list[Object]) -> list[str]:
    return [
        f"{target['labels']['job']} {target['labels'].get('pod') or target['labels'].get('instance', '')}: "
        f"{target['lastError'] or 'not asked yet'}"
        for target in targets
        if target["health"] != "up"
    ]


def _monitor(pool: str) -> str:
    """``podMonitor/monitoring/redis/0`` is the operator's name for what our table calls redis."""
    parts = pool.split("/")
    return parts[2] if len(parts) > 2 else pool


def _told(alert: Object) -> str:
    labels = alert["labels"]
    shown = {name: value for name, value in labels.items() if name not in ("alertname", "prometheus")}
    summary = alert.get("annotations", {}).get("summary", "")
    return f"{labels['alertname']} {json.dumps(shown, sort_keys=True)}" + (f" ({summary})" if summary else "")


def _ask(cluster: Cluster, options: Object, path: str, query: Object | None = None) -> Any:
    """A Prometheus that has not started yet is asked again by who asks."""
    return Prometheus(cluster, options["namespace"], options["pod"]).ask(path, query)


CHECKS: dict[str, Callable[[Cluster, Object, float], Found]] = {
    "monitoring: targets": monitoring_targets,
    "monitoring: rules": monitoring_rules,
    "monitoring: alerts": monitoring_alerts,
}
