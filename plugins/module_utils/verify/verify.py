# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``verify``: the list of the platform's checks, and the report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.settled.settled import SERVERS_SPEC
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.certificates import (
    certificates_served,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    DOUBTFUL,
    FAILED,
    PASSED,
    Check,
    Outcome,
    make_all,
    table,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import LEVELS, Platform
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import SCRIPTS, Edge
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.functions import (
    FUNCTIONS_SPEC,
    container_called,
    queued_call,
    registered_called,
    runtime_called,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.grafana import (
    GRAFANA_SPEC,
    grafana_sources,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.logging import (
    LOGGING_SPEC,
    logs_arrive,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.mesh import (
    MESH_SPEC,
    mesh_identities,
    mesh_mutual_tls,
    mesh_proxies,
    mesh_refused,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.monitoring import (
    CHECKS as MONITORING_CHECKS,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.monitoring import (
    MONITORING_SPEC,
    monitoring_receivers,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.postgresql import (
    postgresql_backup,
    postgresql_roles,
    postgresql_volumes,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.redis import (
    REDIS_SPEC,
    redis_evictions,
    redis_roles,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.runtimes import (
    RUNTIMES_SPEC,
    runtimes_isolation,
    runtimes_process_ids,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.vpa import (
    VPA_SPEC,
    vpa_recommendations,
    vpa_webhook,
)

_SERVICE: dict[str, Any] = {
    "namespace": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
}

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "edge": {
        "type": "dict",
        "required": True,
        "options": {
            "url": {"type": "str", "required": True},
            "plain_url": {"type": "str"},
            "ca_file": {"type": "path"},
            "api_key": {"type": "str", "no_log": True},
            "token": {"type": "str", "no_log": True},
            "certificate_days": {"type": "int", "default": 14},
            "internal_paths": {
                "type": "list",
                "elements": "str",
                "default": ["/metrics", "/ready", "/stats", "/config_dump", "/server_info", "/clusters"],
            },
            "namespace": {"type": "str", "default": "ingress"},
            "service": {"type": "str", "default": "envoy"},
        },
        "mutually_exclusive": [["api_key", "token"]],
    },
    "languages": {
        "type": "list",
        "elements": "str",
        "choices": sorted(SCRIPTS),
        "default": ["nodejs", "python", "rust"],
    },
    "namespaces": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "pod_security": {"type": "str", "choices": list(LEVELS), "default": "restricted"},
            "labels": {"type": "dict"},
        },
    },
    "workloads": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "kind": {"type": "str", "choices": ["Deployment", "StatefulSet", "DaemonSet"], "default": "Deployment"},
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "autoscaled": {"type": "bool", "default": False},
        },
    },
    "controller": {
        "type": "dict",
        "required": True,
        "options": {"namespace": {"type": "str", "required": True}, "app": {"type": "str", "required": True}},
    },
    "runtimes": RUNTIMES_SPEC,
    "redis": REDIS_SPEC,
    "certificates": SERVERS_SPEC,
    "postgresql": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "servers": {"type": "str", "default": "postgresql"},
            "server_count": {"type": "int", "default": 3},
            "service": {"type": "str", "default": "postgresql-primary"},
            "synchronous": {"type": "bool", "default": True},
            "repository": {"type": "str", "default": "postgresql-repository"},
            "backup_hours": {"type": "int", "default": 26},
        },
    },
    "monitoring": MONITORING_SPEC,
    "grafana": GRAFANA_SPEC,
    "logging": LOGGING_SPEC,
    "functions": FUNCTIONS_SPEC,
    "vpa": VPA_SPEC,
    "mesh": MESH_SPEC,
    "network_probe": {
        "type": "dict",
        "options": {
            "source": {
                "type": "dict",
                "required": True,
                "options": {
                    "namespace": {"type": "str", "required": True},
                    "app": {"type": "str", "required": True},
                },
            },
            "allowed": {"type": "dict", "required": True, "options": _SERVICE},
            "forbidden": {"type": "dict", "required": True, "options": _SERVICE},
            "enforcement": {"type": "str", "choices": ["required", "warn"], "default": "warn"},
        },
    },
    "session_calls": {"type": "int", "default": 12},
    "wait_seconds": {"type": "int", "default": 90},
}

_EDGE = "edge: certificate"
_CALLERS = "edge: who calls"
_CLUSTER = "cluster: API server"


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Make all checks. In check mode those are left out that deploy functions."""
    if check_mode:
        params = {**params, "functions": None}
    return report(make_all(checks_of(params, (connect or Cluster)(params)), progress=progress), progress)


def checks_of(params: Object, cluster: Cluster) -> list[Check]:
    """The checks that the validated arguments ask for."""
    given = params["edge"]
    edge = Edge(
        given["url"],
        given.get("plain_url") or "",
        given.get("ca_file") or "",
        api_key=given.get("api_key") or "",
        token=given.get("token") or "",
        certificate_days=given["certificate_days"],
    )
    platform = Platform(cluster, params["namespaces"], params["workloads"], params["wait_seconds"])
    controller = params["controller"]
    service = {"namespace": given["namespace"], "name": given["service"]}

    at_the_edge: list[tuple[str, Callable[[], Any]]] = [
        ("edge: TLS versions", edge.tls_versions),
        *([("edge: redirect to HTTPS", edge.redirects)] if edge.plain else []),
        (_CALLERS, edge.callers),
    ]
    of_a_caller: list[tuple[str, Callable[[], Any]]] = [
        ("edge: unknown path", edge.unknown_path),
        ("edge: unknown language", edge.unknown_language),
        ("edge: nothing internal", partial(edge.internals, given["internal_paths"])),
        *((f"function: {language}", partial(edge.language, language)) for language in params["languages"]),
        # Python starts fastest of the three, and which one it is does not matter.
        *(
            ("function: any replica", partial(edge.sessions, language, params["session_calls"], seen_by))
            for language in (sorted(params["languages"], key="python".__ne__)[:1])
            for seen_by in [partial(platform.answered, controller["namespace"], controller["app"])]
        ),
        *_of_functions(cluster, edge, params),
    ]
    in_the_cluster: list[tuple[str, Callable[[], Any]]] = [
        ("cluster: clocks", platform.clocks),
        ("workloads: rolled out", platform.rollouts),
        ("workloads: zones", platform.zones),
        ("workloads: disruption budgets", platform.disruption_budgets),
        ("workloads: autoscalers", platform.autoscalers),
        *_of("runtimes", platform.cluster, params, isolation=runtimes_isolation, processes=runtimes_process_ids),
        *_of("redis", platform.cluster, params, roles=redis_roles, evictions=redis_evictions),
        *_of_postgresql(platform.cluster, params.get("postgresql"), params["wait_seconds"]),
        *_of_monitoring(platform.cluster, params.get("monitoring"), params["wait_seconds"]),
        *_of("grafana", platform.cluster, params, sources=grafana_sources),
        *_of("logging", platform.cluster, params, lines=partial(logs_arrive, wait_seconds=params["wait_seconds"])),
        *_of(
            "vpa",
            platform.cluster,
            params,
            recommendations=partial(vpa_recommendations, wait_seconds=params["wait_seconds"]),
            webhook=vpa_webhook,
        ),
        *_of(
            "mesh",
            platform.cluster,
            params,
            proxies=partial(mesh_proxies, wait_seconds=params["wait_seconds"]),
            identities=mesh_identities,
            **{"mutual TLS": mesh_mutual_tls, "not in the table": mesh_refused},
        ),
        *_of_certificates(platform.cluster, params["certificates"], given["certificate_days"], params["wait_seconds"]),
        ("admission: Pod Security", platform.pod_security),
        ("admission: read-only root", platform.read_only_root),
        ("network: exposed Services", partial(platform.exposed, service)),
        ("network: default deny", platform.default_deny),
    ]
    probe = params.get("network_probe")
    if probe:
        required = probe["enforcement"] == "required"
        look = partial(platform.enforcement, probe["source"], probe["allowed"], probe["forbidden"], required)
        in_the_cluster.append(("network: policies enforced", look))
    return [
        Check(_CLUSTER, platform.answers),
        Check(_EDGE, partial(edge.answers, min(15.0, params["wait_seconds"]))),
        *(Check(name, look, needs=_EDGE) for name, look in at_the_edge),
        *(Check(name, look, needs=_CALLERS) for name, look in of_a_caller),
        *(Check(name, look, needs=_CLUSTER) for name, look in in_the_cluster),
    ]


def _of(
    part: str, cluster: Cluster, params: Object, **checks: Callable[[Cluster, Object], Any]
) -> list[tuple[str, Callable[[], Any]]]:
    """The checks of a part that the arguments describe; none where they leave it out."""
    options = params.get(part)
    return [(f"{part}: {what}", partial(check, cluster, options)) for what, check in checks.items()] if options else []


def _of_certificates(
    cluster: Cluster, servers: list[Object], days: int, wait_seconds: float
) -> list[tuple[str, Callable[[], Any]]]:
    look = partial(certificates_served, cluster, servers, days, wait_seconds)
    return [("certificates: served", look)] if servers else []


def _of_postgresql(
    cluster: Cluster, options: Object | None, wait_seconds: float
) -> list[tuple[str, Callable[[], Any]]]:
    if not options:
        return []
    roles = ("postgresql: roles", partial(postgresql_roles, cluster, options))
    backup = ("postgresql: backup", partial(postgresql_backup, cluster, options, wait_seconds))
    volumes = ("postgresql: volumes", partial(postgresql_volumes, cluster, options))
    return [roles, volumes, backup] if options["repository"] else [roles, volumes]


def _of_functions(cluster: Cluster, edge: Edge, params: Object) -> list[tuple[str, Callable[[], Any]]]:
    options, wait = params.get("functions"), params["wait_seconds"]
    if not options:
        return []
    registered = ("functions: registered", partial(registered_called, cluster, edge, options))
    return [
        ("functions: runtime", partial(runtime_called, edge, options)),
        *([registered] if options["registered"] else []),
        ("functions: container", partial(container_called, cluster, options, wait)),
        ("functions: asynchronous", partial(queued_call, cluster, options, wait)),
    ]


def _of_monitoring(
    cluster: Cluster, options: Object | None, wait_seconds: float
) -> list[tuple[str, Callable[[], Any]]]:
    if not options:
        return []
    waiting = [(name, partial(check, cluster, options, wait_seconds)) for name, check in MONITORING_CHECKS.items()]
    return [*waiting, ("monitoring: receivers", partial(monitoring_receivers, cluster, options))]


def report(outcomes: list[Outcome], progress: Callable[[str], None] | None = None) -> Object:
    """Show the table; the task's result, with ``failed`` and the failures in words where there are some."""
    lines = table(outcomes)
    if progress:
        for line in lines:
            progress(line)
    failures = [outcome for outcome in outcomes if outcome.result == FAILED]
    warnings = [outcome.warning for outcome in outcomes if outcome.result == DOUBTFUL]
    passed = sum(outcome.result == PASSED for outcome in outcomes)
    if failures:
        listed = "\n".join(_told(outcome) for outcome in failures)
        return {
            "failed": True,
            "changed": False,
            "msg": f"{len(failures)} of {len(outcomes)} checks failed:\n{listed}\n",
            "failed_checks": [outcome.name for outcome in failures],
            "warnings": warnings,
        }
    return {
        "changed": False,
        "msg": f"{passed} of {len(outcomes)} checks passed, {len(warnings)} with a warning",
        "checks": [outcome.summary() for outcome in outcomes],
        "table": lines,
        "warnings": warnings,
    }


def _told(outcome: Outcome) -> str:
    """A failure on several lines, so that it can be read."""
    parts = outcome.error.parts() if outcome.error else {}
    labels = {"where": "where", "found": "found", "expected": "expected", "fix": "to do"}
    lines = [f"- {outcome.name}: {parts.pop('what', outcome.detail)}"]
    return "\n".join([*lines, *(f"    {labels[name]}: {text}" for name, text in parts.items())])
