# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rendered objects ask of a cluster: their pods, at the least and at the most, and their volumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
MIB = 1024**2
GIB = 1024**3

RELOADER = {"requests": {"cpu": "10m", "memory": "50Mi"}}
"""The container that prometheus-operator puts beside Prometheus and Alertmanager, by its flags' defaults
(cmd/operator/main.go of v0.85.0: config-reloader-cpu-request, config-reloader-memory-request)."""


PROXY = "sidecar.istio.io/"
"""What the mesh puts beside a pod's containers is no part of the rendered object: its label and annotations say it
(roles/platform/files/charts/library/templates/_pod.tpl)."""


@dataclass(frozen=True)
class Volume:
    """A claim that one replica has for itself, or that stands alone."""

    name: str
    size: int
    storage_class: str
    modes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """Pods that are alike. CPU in thousandths of one, memory and sizes in bytes; each of them is one pod's.

    ``least`` and ``most`` are numbers of pods: an autoscaler's bounds, or twice the same. ``per_node`` is a DaemonSet,
    which has one on each node that takes it; ``passing`` a Job, whose pod is there now and then.
    """

    component: str
    namespace: str
    kind: str
    name: str
    least: int
    most: int
    cpu: int
    memory: int
    containers: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    per_node: bool = False
    passing: bool = False
    surge: int = 0
    priority: str = ""
    apart: tuple[tuple[str, int], ...] = ()
    """Keys of node labels over which its pods have to be spread, each with the most by which two values may differ."""
    domains: int = 0
    """So many zones there have to be for more than one of them in each (minDomains)."""
    spread: tuple[str, ...] = ()
    """Those over which they should be spread."""
    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[tuple[str, str, str, str], ...] = ()
    affinity: Any = field(default=None, hash=False)
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    limits: dict[str, int] = field(default_factory=dict, hash=False)

    @property
    def storage(self) -> int:
        """Of one pod's volumes."""
        return sum(volume.size for volume in self.volumes)

    def __str__(self) -> str:
        return "%s %s/%s" % (self.kind, self.namespace, self.name)


def number(value: Any, where: str) -> Decimal:
    """A quantity of a rendered object."""
    found = quantity(value)
    if found is None or found < 0:
        raise PlatformError(
            "a request is no quantity",
            where=where,
            found=repr(value),
            expected="a number of 0 or more with a unit, such as 16Gi or 500m",
            fix="correct it in the inventory",
            reason="argument",
        )
    return found


def defaults_of(objects: Iterable[Object]) -> dict[str, dict[str, dict[str, str]]]:
    """What LimitRanges give a container that asks for nothing: {namespace: {requests, limits}}."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for obj in objects:
        if obj.get("kind") != "LimitRange":
            continue
        for limit in (obj.get("spec") or {}).get("limits") or []:
            if limit.get("type") == "Container":
                found[obj["metadata"].get("namespace", "")] = {
                    "requests": limit.get("defaultRequest") or limit.get("default") or {},
                    "limits": limit.get("default") or {},
                }
    return found


def workloads_of(
    component: str, objects: Iterable[Object], namespace: str = "", defaults: dict[str, Any] | None = None
) -> list[Workload]:
    """The workloads among the objects of a component, with its autoscalers' bounds."""
    everything = list(objects)
    scaled = {}
    for obj in everything:
        if obj.get("kind") == "HorizontalPodAutoscaler":
            target = obj["spec"]["scaleTargetRef"]
            where = obj["metadata"].get("namespace") or namespace
            bounds = int(obj["spec"].get("minReplicas") or 1), int(obj["spec"]["maxReplicas"])
            scaled[(where, target["kind"], target["name"])] = bounds
    found = []
    for obj in everything:
        read = _READERS.get((str(obj.get("apiVersion", "")).partition("/")[0], obj.get("kind", "")))
        if read is None:
            continue
        where = obj["metadata"].get("namespace") or namespace
        for shape in read(obj):
            found.append(_workload(component, where, obj, shape, scaled, (defaults or {}).get(where) or {}))
    return found


@dataclass
class _Shape:
    """What a kind's reader finds out of an object."""

    name: str
    template: Object
    replicas: int = 1
    claims: list[Object] = field(default_factory=list)
    per_node: bool = False
    passing: bool = False
    surge: object = 0


def _workload(
    component: str,
    namespace: str,
    obj: Object,
    shape: _Shape,
    scaled: dict[tuple[str, str, str], tuple[int, int]],
    defaults: dict[str, Any],
) -> Workload:
    pod = _with_proxy(shape.template)
    least, most = scaled.get((namespace, obj["kind"], shape.name), (shape.replicas, shape.replicas))
    where = "%s %s/%s" % (obj["kind"], namespace, shape.name)
    requests = {name: pod_requests(pod, name, defaults.get("requests") or {}, where) for name in ("cpu", "memory")}
    limits = {name: _limit(pod, name, defaults.get("limits") or {}, where) for name in ("cpu", "memory")}
    labels = (shape.template.get("metadata") or {}).get("labels") or {}
    constraints = pod.get("topologySpreadConstraints") or []
    apart = {
        rule["topologyKey"]: int(rule.get("maxSkew") or 1)
        for rule in constraints
        if rule.get("whenUnsatisfiable") == "DoNotSchedule"
    }
    domains = max((int(rule.get("minDomains") or 0) for rule in constraints), default=0)
    affinity = pod.get("affinity") or {}
    for term in (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        # One pod for each value, however many others have: no more than one apart, and no second.
        apart[term["topologyKey"]] = 0
    spread = tuple(rule["topologyKey"] for rule in constraints if rule["topologyKey"] not in apart)
    return Workload(
        component=component,
        namespace=namespace,
        kind=obj["kind"],
        name=shape.name,
        least=least,
        most=most,
        cpu=math.ceil(requests["cpu"] * 1000),
        memory=math.ceil(requests["memory"]),
        # The program is the first.
        containers=tuple(one.get("name", "") for one in pod.get("containers") or [])
        + tuple(one["name"] for one in (pod.get("initContainers") or []) if _stays(one)),
        volumes=tuple(_volume(claim, where) for claim in shape.claims),
        per_node=shape.per_node,
        passing=shape.passing,
        surge=_surge(shape.surge, most),
        priority=str(pod.get("priorityClassName") or ""),
        apart=tuple(sorted(apart.items())),
        domains=domains,
        spread=spread,
        selector=tuple(sorted((pod.get("nodeSelector") or {}).items())),
        tolerations=tuple(
            (
                str(one.get("key") or ""),
                str(one.get("operator") or "Equal"),
                str(one.get("value") or ""),
                str(one.get("effect") or ""),
            )
            for one in pod.get("tolerations") or []
        ),
        affinity=(affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution"),
        labels=labels,
        limits={name: int(value) for name, value in limits.items() if value is not None},
    )


def _with_proxy(template: Object) -> Object:
    """The pod's spec, with the container that the mesh will put there."""
    pod, metadata = template.get("spec") or {}, template.get("metadata") or {}
    if (metadata.get("labels") or {}).get(PROXY + "inject") != "true":
        return pod
    said = metadata.get("annotations") or {}
    resources = {
        kind: {name: said[key] for name, key in names.items() if key in said}
        for kind, names in {
            "requests": {"cpu": PROXY + "proxyCPU", "memory": PROXY + "proxyMemory"},
            "limits": {"cpu": PROXY + "proxyCPULimit", "memory": PROXY + "proxyMemoryLimit"},
        }.items()
    }
    # Where it is no init container (Kubernetes before 1.33), the sum is the same.
    proxy = {"name": "istio-proxy", "restartPolicy": "Always", "resources": resources}
    return {**pod, "initContainers": [proxy, *(pod.get("initContainers") or [])]}


def _surge(given: object, replicas: int) -> int:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#max-surge: a share is rounded up."""
    text = str(given)
    return math.ceil(Decimal(text.rstrip("%")) * replicas / 100) if text.endswith("%") else int(text)


def pod_requests(pod: Object, resource: str, defaults: dict[str, str], where: str) -> Decimal:
    """What the scheduler counts for a pod (KEP-753): containers and sidecars together, or an init container with the
    sidecars that began before it, whichever is more; and what its RuntimeClass adds.
    """
    together = sum((_request(one, resource, defaults, where) for one in pod.get("containers") or []), Decimal(0))
    before, starting = Decimal(0), Decimal(0)
    for one in pod.get("initContainers") or []:
        asked = _request(one, resource, defaults, where)
        if _stays(one):
            before += asked
            starting = max(starting, before)
        else:
            starting = max(starting, before + asked)
    overhead = (pod.get("overhead") or {}).get(resource, 0)
    return max(together + before, starting) + number(overhead, where)


def _stays(init_container: Object) -> bool:
    return init_container.get("restartPolicy") == "Always"


def _request(container: Object, resource: str, defaults: dict[str, str], where: str) -> Decimal:
    resources = container.get("resources") or {}
    asked = (resources.get("requests") or {}).get(resource)
    if asked is None:
        asked = (resources.get("limits") or {}).get(resource)
    if asked is None:
        asked = defaults.get(resource, 0)
    return number(asked, "%s, container %s" % (where, container.get("name")))


def _limit(pod: Object, resource: str, defaults: dict[str, str], where: str) -> Decimal | None:
    total = Decimal(0)
    for one in [*(pod.get("containers") or []), *(c for c in pod.get("initContainers") or [] if _stays(c))]:
        limit = ((one.get("resources") or {}).get("limits") or {}).get(resource, defaults.get(resource))
        if limit is None:
            return None
        total += number(limit, where) * (1000 if resource == "cpu" else 1)
    return total


def _volume(claim: Object, where: str) -> Volume:
    spec = claim.get("spec") or {}
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")
    return Volume(
        str((claim.get("metadata") or {}).get("name") or "data"),
        math.ceil(number(size, where)),
        str(spec.get("storageClassName") or ""),
        tuple(spec.get("accessModes") or ()),
    )


# --- kinds --------------------------------------------------------------------------------------------------------


def _deployment(obj: Object) -> Iterator[_Shape]:
    spec = obj["spec"]
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("type") != "Recreate"
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%") if rolling else 0
    yield _Shape(obj["metadata"]["name"], spec["template"], _count(spec), surge=surge)


def _stateful_set(obj: Object) -> Iterator[_Shape]:
    spec = obj["spec"]
    yield _Shape(obj["metadata"]["name"], spec["template"], _count(spec), list(spec.get("volumeClaimTemplates") or []))


def _daemon_set(obj: Object) -> Iterator[_Shape]:
    yield _Shape(obj["metadata"]["name"], obj["spec"]["template"], per_node=True)


def _job(obj: Object) -> Iterator[_Shape]:
    yield _Shape(
        obj["metadata"]["name"], obj["spec"]["template"], int(obj["spec"].get("parallelism") or 1), passing=True
    )


def _cron_job(obj: Object) -> Iterator[_Shape]:
    yield _Shape(obj["metadata"]["name"], obj["spec"]["jobTemplate"]["spec"]["template"], passing=True)


def _claim(obj: Object) -> Iterator[_Shape]:
    yield _Shape(obj["metadata"]["name"], {}, 1, [obj])


def _prometheus(obj: Object) -> Iterator[_Shape]:
    yield _of_operator(obj, "prometheus")


def _alertmanager(obj: Object) -> Iterator[_Shape]:
    yield _of_operator(obj, "alertmanager")


def _of_operator(obj: Object, program: str) -> _Shape:
    """https://prometheus-operator.dev/docs/api-reference/api/: PROGRAM-NAME, with a reloader beside the program."""
    spec = obj["spec"]
    own = {"name": program, "resources": spec.get("resources") or {}}
    pod = {
        "containers": [own, {"name": "config-reloader", "resources": RELOADER}, *(spec.get("containers") or [])],
        **{
            name: spec[name]
            for name in ("priorityClassName", "topologySpreadConstraints", "affinity", "nodeSelector", "tolerations")
            if name in spec
        },
    }
    claim = ((spec.get("storage") or {}).get("volumeClaimTemplate")) or None
    template = {"metadata": {"labels": {"app.kubernetes.io/name": program}}, "spec": pod}
    name = "%s-%s" % (program, obj["metadata"]["name"])
    return _Shape(name, template, _count(spec), [claim] if claim else [])


def _elasticsearch(obj: Object) -> Iterator[_Shape]:
    """https://www.elastic.co/docs/deploy-manage/deploy/cloud-on-k8s: NAME-es-NODESET."""
    for nodes in obj["spec"].get("nodeSets") or []:
        template = _filled(nodes.get("podTemplate"), "elasticsearch", nodes.get("resources"))
        if "zoneAwareness" in nodes:
            rule = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
            template["spec"].setdefault("topologySpreadConstraints", [rule])
        name = "%s-es-%s" % (obj["metadata"]["name"], nodes["name"])
        yield _Shape(name, template, int(nodes.get("count", 1)), list(nodes.get("volumeClaimTemplates") or []))


def _kibana(obj: Object) -> Iterator[_Shape]:
    spec = obj["spec"]
    template = _filled(spec.get("podTemplate"), "kibana", spec.get("resources"))
    yield _Shape("%s-kb" % obj["metadata"]["name"], template, int(spec.get("count", 1)), surge="25%")


def _logstash(obj: Object) -> Iterator[_Shape]:
    spec = obj["spec"]
    template = _filled(spec.get("podTemplate"), "logstash", spec.get("resources"))
    claims = list(spec.get("volumeClaimTemplates") or [])
    yield _Shape("%s-ls" % obj["metadata"]["name"], template, int(spec.get("count", 1)), claims)


def _beat(obj: Object) -> Iterator[_Shape]:
    spec = obj["spec"]
    given = spec.get("daemonSet") or spec.get("deployment") or {}
    template = _filled(given.get("podTemplate"), str(spec.get("type")), spec.get("resources"))
    name = "%s-beat-%s" % (obj["metadata"]["name"], spec.get("type"))
    yield _Shape(name, template, int(given.get("replicas", 1)), per_node="daemonSet" in spec)


def _filled(template: Object | None, program: str, resources: Object | None) -> Object:
    """A template of Elastic's operator: the resources stand beside it, and its container may be left out."""
    spec = {**((template or {}).get("spec") or {})}
    containers = [{**one} for one in spec.get("containers") or []] or [{"name": program}]
    for container in containers:
        if container.get("name") == program and not container.get("resources"):
            container["resources"] = resources or {}
    return {"metadata": (template or {}).get("metadata") or {}, "spec": {**spec, "containers": containers}}


def _count(spec: Object) -> int:
    return 1 if spec.get("replicas") is None else int(spec["replicas"])


_READERS: dict[tuple[str, str], Callable[[Object], Iterator[_Shape]]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("v1", "PersistentVolumeClaim"): _claim,
    ("monitoring.coreos.com", "Prometheus"): _prometheus,
    ("monitoring.coreos.com", "Alertmanager"): _alertmanager,
    ("elasticsearch.k8s.elastic.co", "Elasticsearch"): _elasticsearch,
    ("kibana.k8s.elastic.co", "Kibana"): _kibana,
    ("logstash.k8s.elastic.co", "Logstash"): _logstash,
    ("beat.k8s.elastic.co", "Beat"): _beat,
}
"""By API group (an object of the core group has none: its version) and kind. A further operator's kind is one line."""
