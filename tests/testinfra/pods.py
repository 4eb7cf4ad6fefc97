"""The containers of a running platform, and what one look into each shows. KUBECONFIG names the cluster."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

import pytest
import testinfra

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("ingress", "openfaas", "openfaas-fn", "controller", "monitoring", "data-services")

WITHOUT_SHELL = {"controller", "controller-migrations", "controller-maintenance", "gateway", "queue-worker", "nats"}
"""Apps whose image holds nothing but their program: nothing can be run in them, by nobody."""

LOOK = r"""
echo "uid $(id -u)"
sed -n 's/^\(CapEff\|CapBnd\|NoNewPrivs\|Seccomp\):[[:space:]]*/\1 /p' /proc/1/status
if echo probe 2>/dev/null >/probe; then echo "root writable"; else echo "root read-only"; fi
[ -e /var/run/secrets/kubernetes.io/serviceaccount/token ] && echo "token mounted" || echo "token none"
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print "listens", $2 }'
"""
"""One exec tells all that the tests of a container ask: a thing, a space and its value a line."""


def kubectl(*arguments: str) -> str:
    """Its output; a failure is an error of the test."""
    ran = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@cache
def objects(kind: str) -> list[dict]:
    """All of the kind in the platform's namespaces."""
    found = json.loads(kubectl("get", kind, "--all-namespaces", "-o", "json"))["items"]
    return [obj for obj in found if obj["metadata"]["namespace"] in NAMESPACES]


@cache
def containers() -> list[tuple[str, str, str, str]]:
    """(namespace, app, pod, container) of every container of a ready pod."""
    return [
        (
            pod["metadata"]["namespace"],
            pod["metadata"]["labels"]["app.kubernetes.io/name"],
            pod["metadata"]["name"],
            name,
        )
        for pod in objects("pods")
        if not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        for name in (container["name"] for container in pod["spec"]["containers"])
    ]


def host_of(namespace: str, pod: str, container: str) -> testinfra.host.Host:
    """testinfra's view of a container."""
    return testinfra.get_host(f"kubectl://{pod}?namespace={namespace}&container={container}")


def app_host(namespace: str, app: str) -> testinfra.host.Host:
    """testinfra's view of the first container of an app."""
    for found_namespace, found_app, pod, container in containers():
        if (found_namespace, found_app) == (namespace, app):
            return host_of(namespace, pod, container)
    pytest.fail(f"no ready pod of {namespace}/{app}")


@cache
def seen_in(namespace: str, pod: str, container: str) -> dict[str, list[str]]:
    """What LOOK printed, by its first word."""
    ran = host_of(namespace, pod, container).run(LOOK)
    assert ran.rc == 0, ran.stderr
    seen: dict[str, list[str]] = {}
    for line in ran.stdout.splitlines():
        thing, _, value = line.partition(" ")
        seen.setdefault(thing, []).append(value)
    return seen
