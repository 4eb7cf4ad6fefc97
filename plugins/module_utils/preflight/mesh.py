# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there is room for a mesh: no other that puts proxies into our pods, and nobody with the proxies' user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    Finding,
    passed,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.state import State

PROXY_UID = 1337
"""What a process of this user or group sends, the plugin's rules leave as it is: it would go around its proxy."""

_CHOOSES = (
    "istio-injection",
    "istio.io/rev",
    "istio.io/dataplane-mode",
    "linkerd.io/inject",
    "kuma.io/sidecar-injection",
)
"""What a namespace says to a mesh: Istio's and others'. Ours chooses pod by pod."""

_INJECTOR = "sidecar-injector.istio.io"
_OF_PROXIES = frozenset({"istio-proxy", "istio-validation", "istio-init"})
_ROLES = ("ingress", "controller", "runtimes", "openfaas")


def mesh(
    state: State, values: dict[str, Any], rendered: Iterable[tuple[str, Object]], cluster: Cluster
) -> Iterator[Finding]:
    """Where there is to be one. What is read of the cluster and of what would be installed is told together."""
    if not values.get("mesh_enabled"):
        return
    own = str(values.get("mesh_namespace"))
    meshed = {str(values.get(f"{role}_namespace")) for role in _ROLES}
    meshed |= {str(name) for name in values.get("openfaas_function_namespaces") or []}
    problems = [
        *_chosen(state, values, meshed),
        *_injectors(cluster, own),
        *_control_planes(state, own),
        *_users(state, rendered, meshed),
    ]
    yield from problems
    if not problems:
        yield passed("mesh", f"no other mesh, and no program has the proxies' user {PROXY_UID}")


def _chosen(state: State, values: dict[str, Any], meshed: set[str]) -> Iterator[Finding]:
    planned = {str(one["name"]): one.get("labels") or {} for one in values.get("foundation_namespaces") or []}
    live = {obj["metadata"]["name"]: obj["metadata"] for obj in state["namespaces"]}
    for name in sorted(meshed):
        metadata = live.get(name) or {}
        said = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {}), **planned.get(name, {})}
        for key in _CHOOSES:
            if key in said:
                yield Finding(
                    "mesh",
                    FAIL,
                    f"the namespace {name} has {key}: {said[key]}, by which a mesh or a revision takes all its pods",
                    "none of these labels: each pod's own label says that it gets a proxy",
                    f"take {key} out of foundation_namespaces, or kubectl label (annotate) namespace {name} {key}-; or "
                    "leave the other mesh where it is, with mesh_enabled false",
                )


def _injectors(cluster: Cluster, own: str) -> Iterator[Finding]:
    for obj in cluster.list("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"):
        metadata = obj["metadata"]
        revision = (metadata.get("labels") or {}).get("istio.io/rev", "default")
        for webhook in obj.get("webhooks") or []:
            service = (webhook.get("clientConfig") or {}).get("service") or {}
            theirs = str(service.get("namespace") or (webhook.get("clientConfig") or {}).get("url"))
            if str(webhook.get("name", "")).endswith(_INJECTOR) and (revision != "default" or theirs != own):
                yield Finding(
                    "mesh",
                    FAIL,
                    f"MutatingWebhookConfiguration {metadata['name']} puts proxies of the revision {revision} of "
                    f"{theirs} into pods",
                    f"one Istio, of the default revision, in {own}",
                    "remove the other (istioctl uninstall --revision, or its Helm release), or name its namespace in "
                    "mesh_namespace if it is the one that this role shall take over; or leave it, with mesh_enabled "
                    "false",
                )
                break


def _control_planes(state: State, own: str) -> Iterator[Finding]:
    for obj in state["deployments"]:
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        where = (metadata.get("namespace"), metadata["name"])
        if labels.get("app") == "istiod" and where != (own, "istiod"):
            yield Finding(
                "mesh",
                FAIL,
                f"there is a control plane {where[0]}/{where[1]}, revision {labels.get('istio.io/rev', 'default')}",
                f"{own}/istiod alone",
                "remove it, or leave it, with mesh_enabled false",
            )


def _users(state: State, rendered: Iterable[tuple[str, Object]], meshed: set[str]) -> Iterator[Finding]:
    found = {
        f"{obj['kind']} {namespace}/{obj['metadata']['name']}"
        for namespace, obj in rendered
        if namespace in meshed and _is_proxys(_pod(obj))
    }
    found |= {
        f"Pod {obj['metadata']['namespace']}/{obj['metadata']['name']}"
        for obj in state["pods"]
        if obj["metadata"].get("namespace") in meshed and _is_proxys(obj.get("spec") or {})
    }
    if found:
        yield Finding(
            "mesh",
            FAIL,
            f"{', '.join(sorted(found))}: user or group {PROXY_UID}, whose traffic goes around the proxy",
            f"another one: {PROXY_UID} is the proxies'",
            "give another runAsUser and runAsGroup",
        )


def _pod(obj: Object) -> Object:
    """The spec of the pods that an object makes; nothing of one that makes none."""
    spec = obj.get("spec") or {}
    spec = ((spec.get("jobTemplate") or {}).get("spec") or {}) if obj.get("kind") == "CronJob" else spec
    template = spec.get("template")
    return (template.get("spec") or {}) if isinstance(template, dict) else {}


def _is_proxys(pod: Object) -> bool:
    containers = [*(pod.get("containers") or []), *(pod.get("initContainers") or [])]
    contexts = [pod, *(one for one in containers if one.get("name") not in _OF_PROXIES)]
    return any(
        PROXY_UID
        in ((one.get("securityContext") or {}).get("runAsUser"), (one.get("securityContext") or {}).get("runAsGroup"))
        for one in contexts
    )
