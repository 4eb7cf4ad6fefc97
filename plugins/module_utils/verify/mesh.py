# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the mesh does what it is there for: every pod has a proxy that knows what it has to, each proves who it is,
and who cannot, or is not meant to, gets no answer.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently, wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Found, Passed

_TARGET: dict[str, Any] = {
    "namespace": {"type": "str", "required": True},
    "app": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 8080},
    "path": {"type": "str", "default": "/health"},
}
MESH_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "workloads": {"type": "list", "elements": "str", "required": True},
        "caller": {
            "type": "dict",
            "required": True,
            "options": {
                "namespace": {"type": "str", "required": True},
                "app": {"type": "str", "required": True},
                "container": {"type": "str", "required": True},
            },
        },
        "called": {"type": "dict", "required": True, "options": _TARGET},
        "uncalled": {"type": "dict", "required": True, "options": _TARGET},
    },
}

PROXY = "istio-proxy"
TRUST_DOMAIN = "cluster.local"
_SENT = ("cluster", "listener", "route", "endpoint")

# $0: the host, $1: its address, $2: the port, $3: the path. Prints the answer's head; nothing where there is none.
_ASK = r"""
exec 3<>"/dev/tcp/$1/$2" || exit
printf 'GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$3" "$0" >&3
while IFS= read -r -t 5 line <&3; do
  line=${line%$'\r'}
  [[ $line ]] || break
  printf '%s\n' "$line"
done
"""


def mesh_proxies(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """Each pod of the workloads has a proxy that has taken what istiod told it, and all are of one version."""
    pods = _pods(cluster, options)
    without = sorted(_name(pod) for pod in pods if PROXY not in _containers(pod))
    if without:
        raise PlatformError(
            "pods of the mesh have no proxy",
            where=", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else ""),
            found="no container istio-proxy",
            expected="one in each pod, which istiod puts there when the pod is made",
            fix="run site.yml; pods that are older than the mesh get a proxy when they are replaced "
            "(kubectl rollout restart), and istiod has to be up then",
            reason="missing",
        )
    wanted = {f"{pod['metadata']['name']}.{pod['metadata']['namespace']}" for pod in pods}

    def synced() -> dict[str, Object]:
        return {one["proxy"]: one for one in _told_by_istiod(cluster, options["namespace"])}

    # A proxy that is new, or was just told something, takes a moment.
    known = wait_until(
        synced, wait_seconds, done=lambda found: not (wanted - set(found)) and not any(map(_stale, found.values()))
    )
    unknown = sorted(wanted - set(known))
    stale = sorted(name for name in wanted & set(known) if _stale(known[name]))
    if unknown or stale:
        raise PlatformError(
            "proxies do not have what istiod tells them",
            where=", ".join((unknown + stale)[:5]),
            found=f"{len(unknown)} are not connected to istiod, {len(stale)} have not taken its last word",
            expected="all connected, with the last word taken",
            fix=f"see the proxy's log (kubectl logs POD -c {PROXY}) and istiod's (kubectl -n {options['namespace']} "
            "logs deploy/istiod); a configuration that Envoy refuses is named in both",
            reason="mesh",
        )
    versions = {str(known[name].get("istio_version") or known[name].get("proxy_version") or "") for name in wanted}
    detail = f"{len(wanted)} pods have one, all in step, version {', '.join(sorted(versions))}"
    if len(versions) > 1:
        return Doubtful(
            detail,
            f"Proxies have {len(versions)} versions ({', '.join(sorted(versions))}): pods that are older than the last "
            "update of the mesh keep theirs until they are replaced (kubectl rollout restart).",
        )
    return Passed(detail)


def mesh_identities(cluster: Cluster, options: Object) -> Found:
    """A proxy of each workload proves that it is that workload's, by a certificate of its service account."""
    of_workload = {}
    for pod in _pods(cluster, options):
        labels = pod["metadata"].get("labels") or {}
        if is_ready(pod):
            of_workload[f"{pod['metadata']['namespace']}/{labels.get('app.kubernetes.io/name')}"] = pod

    def shown(workload: str) -> set[str]:
        pod = of_workload[workload]
        told = _admin(cluster, pod, "certs")
        chains = [one for each in told.get("certificates") or [] for one in each.get("cert_chain") or []]
        return {name["uri"] for one in chains for name in one.get("subject_alt_names") or [] if "uri" in name}

    names = sorted(of_workload)
    for workload, found in zip(names, concurrently(shown, names), strict=True):
        if isinstance(found, PlatformError):
            raise found
        namespace, app = workload.split("/")
        expected = f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{app}"
        if expected not in found:
            raise PlatformError(
                "a proxy has another identity than its workload's",
                where=f"Pod {_name(of_workload[workload])}",
                found=", ".join(sorted(found)) or "no certificate",
                expected=expected,
                fix=f"see that the pod's serviceAccountName is {app} and that istiod signs (the log of its proxy)",
                reason="mesh",
            )
    return Passed(f"{len(names)} workloads show the certificate of their service account")


def mesh_mutual_tls(cluster: Cluster, options: Object) -> Found:
    """From one pod, to one address: through its proxy there is an answer, and past it, in plain text, there is none.

    The same pod, so that no NetworkPolicy is what tells the two apart.
    """
    caller, called = options["caller"], options["called"]
    pod = _ready(cluster, caller["namespace"], caller["app"])
    address = _ready(cluster, called["namespace"], called["app"])["status"]["podIP"]
    way = f"{caller['namespace']}/{caller['app']} to {called['namespace']}/{called['app']}:{called['port']}"
    meshed = _ask(cluster, pod, caller["container"], called, address)
    if not meshed.startswith("HTTP/1.1 200"):
        raise PlatformError(
            "a call through the mesh gets no answer",
            where=way,
            found=_first(meshed),
            expected="HTTP/1.1 200 OK",
            fix="see the access that the mesh grants (kubectl get authorizationpolicies -A) and both proxies' logs",
            reason="mesh",
        )
    # The proxy's own connections do not go through the proxy.
    plain = _ask(cluster, pod, PROXY, called, address)
    if plain:
        raise PlatformError(
            "who proves nothing gets an answer in plain text",
            where=way,
            found=_first(plain),
            expected="no answer without a certificate of the mesh",
            fix=f"see that {called['namespace']} has the PeerAuthentication default, STRICT (site.yml, to its end)",
            reason="mesh",
        )
    return Passed(f"{way}: answered with a certificate, refused in plain text")


def mesh_refused(cluster: Cluster, options: Object) -> Found:
    """What the table of flows does not name gets no answer of whom it asks."""
    caller, uncalled = options["caller"], options["uncalled"]
    pod = _ready(cluster, caller["namespace"], caller["app"])
    address = _ready(cluster, uncalled["namespace"], uncalled["app"])["status"]["podIP"]
    way = f"{caller['namespace']}/{caller['app']} to {uncalled['namespace']}/{uncalled['app']}:{uncalled['port']}"
    answer = _ask(cluster, pod, caller["container"], uncalled, address)
    if answer.startswith("HTTP/1.1 200"):
        raise PlatformError(
            "the mesh lets through what no flow names",
            where=way,
            found=_first(answer),
            expected="a refusal",
            fix="compare platform_flows with the Sidecars and AuthorizationPolicies of both namespaces",
            reason="mesh",
        )
    return Passed(f"{way}: {_first(answer)}")


def _pods(cluster: Cluster, options: Object) -> list[Object]:
    """Those of the workloads that are not ending and have not ended."""
    names = {tuple(one.split("/")) for one in options["workloads"]}
    return [
        pod
        for namespace in sorted({namespace for namespace, _app in names})
        for pod in cluster.list("v1", "Pod", namespace)
        if (namespace, (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name")) in names
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


def _containers(pod: Object) -> set[str]:
    spec = pod["spec"]
    return {one["name"] for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]}


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _ready(cluster: Cluster, namespace: str, app: str) -> Object:
    for pod in cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={app}"):
        if is_ready(pod):
            return pod
    raise PlatformError(
        "no pod to look from",
        where=f"namespace {namespace}, app.kubernetes.io/name={app}",
        found="no pod that is ready",
        expected="a pod that is ready",
        fix=f"see why: kubectl -n {namespace} describe pods -l app.kubernetes.io/name={app}",
        reason="missing",
    )


def _ask(cluster: Cluster, pod: Object, container: str, target: Object, address: str) -> str:
    """The head of the answer to a GET from a container; empty where the connection ends without one."""
    words = [target["host"], address, str(target["port"]), target["path"]]
    where = pod["metadata"]
    ran = run_in_pod(
        cluster,
        where["namespace"],
        where["name"],
        ["bash", "-c", _ASK, *words],
        container=container,
        timeout_seconds=15,
    )
    return ran.stdout.strip()


def _first(head: str) -> str:
    return head.partition("\n")[0] or "no answer"


def _json(cluster: Cluster, pod: Object, container: str, command: list[str]) -> Any:
    where = pod["metadata"]
    ran = run_in_pod(cluster, where["namespace"], where["name"], command, container=container)
    # These programs log to the same place, before they answer.
    answer = re.search(r"^[\[{].*", ran.stdout, re.MULTILINE | re.DOTALL)
    try:
        return json.loads(answer[0] if answer else ran.stdout)
    except ValueError as problem:
        raise PlatformError(
            "a program of the mesh does not tell its state",
            where=f"Pod {_name(pod)}, container {container}: {' '.join(command)}",
            found=(ran.stderr or ran.stdout).strip()[-300:] or f"exit code {ran.code}",
            expected="JSON",
            fix="see the container's log",
            reason="mesh",
        ) from problem


def _admin(cluster: Cluster, pod: Object, page: str) -> Any:
    return _json(cluster, pod, PROXY, ["pilot-agent", "request", "GET", page])


def _told_by_istiod(cluster: Cluster, namespace: str) -> list[Object]:
    """What each istiod knows of the proxies that are connected to it."""
    found: list[Object] = []
    for pod in cluster.list("v1", "Pod", namespace, "app=istiod"):
        if is_ready(pod):
            told = _json(cluster, pod, "discovery", ["pilot-discovery", "request", "GET", "/debug/syncz"])
            found += told or []
    if not found:
        raise PlatformError(
            "no istiod tells of any proxy",
            where=f"namespace {namespace}, app=istiod",
            found="no pod that is ready, or nobody connected to it",
            expected="the proxies of the platform",
            fix=f"see why: kubectl -n {namespace} describe pods -l app=istiod",
            reason="missing",
        )
    return found


def _stale(told: Object) -> bool:
    """Whether something was sent that was not taken yet."""
    return any(told.get(f"{part}_sent", "") != told.get(f"{part}_acked", "") for part in _SENT)
