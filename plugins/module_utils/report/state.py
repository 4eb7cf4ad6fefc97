# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of objects, each part from what the cluster holds: no request is made here."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.placement import Node
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import GIB
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.images import digest_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate

ZONE = "topology.kubernetes.io/zone"


def workloads(
    objects: Iterable[Object], pods: Iterable[Object], nodes: Iterable[Object]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Each workload with its ready pods by zone, and the zones."""
    zone_of = {node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(ZONE, "") for node in nodes}
    everything = list(pods)
    rows = []
    for obj in objects:
        spec, metadata = obj.get("spec") or {}, obj["metadata"]
        labels = (spec.get("selector") or {}).get("matchLabels") or {}
        status = obj.get("status") or {}
        wanted = status.get("desiredNumberScheduled", 0) if obj["kind"] == "DaemonSet" else spec.get("replicas", 1)
        by_zone: dict[str, int] = {}
        ready = 0
        for pod in everything:
            about = pod["metadata"]
            if about.get("namespace") != metadata["namespace"] or not is_ready(pod) or about.get("deletionTimestamp"):
                continue
            if labels and labels.items() <= (about.get("labels") or {}).items():
                ready += 1
                zone = zone_of.get((pod.get("spec") or {}).get("nodeName") or "", "")
                by_zone[zone] = by_zone.get(zone, 0) + 1
        row = {"namespace": metadata["namespace"], "name": metadata["name"], "kind": obj["kind"]}
        rows.append({**row, "wanted": wanted, "ready": ready, "by_zone": by_zone})
    zones = sorted({zone for row in rows for zone in row["by_zone"]} | {zone for zone in zone_of.values() if zone})
    return sorted(rows, key=lambda row: (row["namespace"], row["name"])), zones


def images(pods: Iterable[Object]) -> list[dict[str, Any]]:
    """The images that run, with the digest that their runtimes have pulled, and in how many pods."""
    counts: dict[tuple[str, str], int] = {}
    for pod in pods:
        # The status has a name of the runtime's choice, which may be the image's identity.
        names = {one["name"]: str(one.get("image") or "") for one in (pod.get("spec") or {}).get("containers") or []}
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            name = str(parse(names.get(status["name"], ""))._replace(digest=""))
            digest = digest_of(str(status.get("imageID") or "")).removeprefix("sha256:")[:12]
            counts[name, digest] = counts.get((name, digest), 0) + 1
    return [{"image": name, "digest": digest, "pods": number} for (name, digest), number in sorted(counts.items())]


def endpoints(services: Iterable[Object], ingresses: Iterable[Object], edge: str) -> list[dict[str, str]]:
    """Where the platform is reached from outside."""
    found = [{"endpoint": "the edge", "kind": "URL", "address": edge}] if edge else []
    for obj in [*services, *ingresses]:
        metadata, spec = obj["metadata"], obj.get("spec") or {}
        balancer = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        addresses = [str(one.get("hostname") or one.get("ip")) for one in balancer]
        if obj["kind"] == "Service" and spec.get("type") not in ("LoadBalancer", "NodePort"):
            continue
        addresses += [f"node port {port['nodePort']}" for port in spec.get("ports") or [] if port.get("nodePort")]
        kind = spec.get("type") or obj["kind"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        found.append({"endpoint": name, "kind": kind, "address": ", ".join(addresses) or "none yet"})
    return found


def certificates(secrets: Iterable[Object], now: datetime) -> list[dict[str, Any]]:
    """Certificates in Secrets, the one that ends first at the top; no key is read."""
    found = []
    for secret in secrets:
        encoded = (secret.get("data") or {}).get("tls.crt")
        if not encoded:
            continue
        name = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
        try:
            subject, ends = certificate.described(base64.b64decode(encoded))
        except ValueError:
            # Somebody's own, which is another check's to judge.
            continue
        days = int((ends - now).total_seconds() // 86400)
        found.append({"secret": name, "subject": subject, "ends": ends.strftime("%Y-%m-%d"), "days_left": days})
    return sorted(found, key=lambda one: (one["days_left"], one["secret"]))


def backups(cron_jobs: Iterable[Object], snapshots: Iterable[Object], now: datetime) -> list[dict[str, Any]]:
    """When each backup last succeeded: CronJobs that make them, and the newest snapshot of a volume of each source."""
    found = []
    for job in cron_jobs:
        metadata = job["metadata"]
        if not metadata["name"].endswith(("-backup", "-snapshot")):
            continue
        name = f"{metadata['namespace']}/{metadata['name']}"
        last = (job.get("status") or {}).get("lastSuccessfulTime")
        found.append({"what": name, "kind": "CronJob", "last": last or "", "age_hours": _hours(last, now)})
    newest: dict[str, str] = {}
    for snapshot in snapshots:
        source = ((snapshot.get("spec") or {}).get("source") or {}).get("persistentVolumeClaimName") or ""
        status = snapshot.get("status") or {}
        if status.get("readyToUse"):
            name = f"{snapshot['metadata']['namespace']}/{source}"
            newest[name] = max(newest.get(name, ""), str(status.get("creationTime") or ""))
    for name, last in sorted(newest.items()):
        found.append({"what": name, "kind": "VolumeSnapshot", "last": last, "age_hours": _hours(last, now)})
    return found


def _hours(time: str | None, now: datetime) -> float | None:
    if not time:
        return None
    return (now - datetime.fromisoformat(time.replace("Z", "+00:00"))).total_seconds() / 3600


def drills(path: str, rehearsed: str) -> dict[str, Any]:
    """What the last run of playbooks/drill.yml on this machine has written, and when a restore was rehearsed."""
    said = f"A restore of PostgreSQL was last rehearsed at {rehearsed}." if rehearsed else "No restore was rehearsed."
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8")) if path else None
        made = datetime.fromtimestamp(told["made_at"], UTC).strftime("%Y-%m-%d %H:%M UTC") if told else ""
        rows = [_drill(row) for row in told["drills"]] if told else []
    except (OSError, ValueError, LookupError, TypeError):
        made, rows = "", []
    if not rows:
        return {"said": f"No results of drills are on this machine. {said}", "rows": []}
    return {"said": f"Made at {made}. {said}", "rows": rows}


def _drill(row: dict[str, Any]) -> dict[str, str]:
    told = []
    if row.get("sent") is not None:
        told.append(f"{row['failed']} of {row['sent']} failed, resumed in {row['longest_gap_seconds']:.1f} s")
    if row.get("lost") is not None:
        told.append(f"{row['lost']} lost")
    told += [str(one).partition("\n")[0] for one in row.get("missed") or []]
    return {"drill": str(row["drill"]), "verdict": str(row.get("verdict") or "unknown"), "said": "; ".join(told)}


def nodes(whole: Iterable[Node], left: Iterable[Node]) -> list[dict[str, Any]]:
    """Each node that takes pods, with what it has and what no pod asks for."""
    free = {node.name: node for node in left}
    return [
        {
            "name": node.name,
            "zone": node.zone,
            "cpu": node.cpu / 1000,
            "free_cpu": free[node.name].cpu / 1000,
            "memory_gib": node.memory / GIB,
            "free_memory_gib": free[node.name].memory / GIB,
        }
        for node in sorted(whole, key=lambda one: (one.zone, one.name))
    ]


TOO_LITTLE, TOO_MUCH, RIGHT, UNKNOWN = "too little", "too much", "about right", "unknown"
_LITTLE, _MUCH = Decimal("1.1"), Decimal("1.5")
"""What is recommended may be a tenth above what is asked for, as the updater's own threshold is; and what is asked for
half as much again as what is recommended, which has a margin of 15 % already."""
_ORDER = (TOO_LITTLE, TOO_MUCH, RIGHT, UNKNOWN)


def recommendations(
    autoscalers: Iterable[Object],
    objects: Iterable[Object],
    pods: Iterable[Object] = (),
    metrics: Iterable[Object] = (),
) -> list[dict[str, str]]:
    """What VerticalPodAutoscalers recommend for each container, beside what it asks for and what it uses now: of
    several pods, what the most is. Those that ask too little come first, then those that ask too much.
    """
    owners, everything = list(objects), list(pods)
    used = {(one["metadata"]["namespace"], one["metadata"]["name"]): one.get("containers") or [] for one in metrics}
    found = []
    for obj in autoscalers:
        spec, namespace, name = obj.get("spec") or {}, obj["metadata"]["namespace"], obj["metadata"]["name"]
        owner = _owner(owners, namespace, spec.get("targetRef") or {})
        mine = [pod for pod in everything if owner is not None and _belongs(pod, owner)]
        recommended = ((obj.get("status") or {}).get("recommendation") or {}).get("containerRecommendations") or []
        for one in recommended:
            container = str(one.get("containerName"))
            row = {"workload": f"{namespace}/{name}", "container": container}
            verdicts = []
            for resource in ("cpu", "memory"):
                asked = _most(_asked(pod, container, resource) for pod in mine)
                if asked is None and owner is not None:
                    asked = _asked(owner["spec"]["template"], container, resource)
                uses = (used.get((namespace, pod["metadata"]["name"]), ()) for pod in mine)
                target = quantity((one.get("target") or {}).get(resource))
                row[resource] = _shown(asked, resource)
                row[f"used_{resource}"] = _shown(_most(_used(each, container, resource) for each in uses), resource)
                row[f"recommended_{resource}"] = _shown(target, resource)
                verdicts.append(_verdict(asked, target))
                row[f"verdict_{resource}"] = verdicts[-1]
            row["mode"] = str((spec.get("updatePolicy") or {}).get("updateMode") or "Recreate")
            found.append((min(_ORDER.index(each) for each in verdicts), row["workload"], row))
    return [row for _order, _workload, row in sorted(found, key=lambda each: each[:2])]


def _owner(objects: Iterable[Object], namespace: str, target: Object) -> Object | None:
    """The workload that an autoscaler's target is, or that an operator has made of it."""
    wanted = (target.get("kind"), target.get("name"))
    for obj in objects:
        metadata = obj["metadata"]
        makers = [(one.get("kind"), one.get("name")) for one in metadata.get("ownerReferences") or []]
        if metadata["namespace"] == namespace and wanted in [(obj["kind"], metadata["name"]), *makers]:
            return obj
    return None


def _belongs(pod: Object, owner: Object) -> bool:
    labels = ((owner.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    about = pod["metadata"]
    return (
        bool(labels)
        and about["namespace"] == owner["metadata"]["namespace"]
        and labels.items() <= (about.get("labels") or {}).items()
    )


def _asked(pod: Object, container: str, resource: str) -> Decimal | None:
    for one in (pod.get("spec") or {}).get("containers") or []:
        if one["name"] == container:
            return quantity(((one.get("resources") or {}).get("requests") or {}).get(resource))
    return None


def _used(containers: Iterable[Object], container: str, resource: str) -> Decimal | None:
    return next(
        (quantity((one.get("usage") or {}).get(resource)) for one in containers if one["name"] == container), None
    )


def _most(numbers: Iterable[Decimal | None]) -> Decimal | None:
    return max((one for one in numbers if one is not None), default=None)


def _verdict(asked: Decimal | None, target: Decimal | None) -> str:
    if asked is None or target is None:
        return UNKNOWN
    if target > asked * _LITTLE:
        return TOO_LITTLE
    return TOO_MUCH if asked > target * _MUCH else RIGHT


def _shown(number: Decimal | None, resource: str) -> str:
    """As a person would write the quantity; used and recommended ones come in nanoseconds and bytes."""
    if number is None:
        return "-"
    if resource == "cpu":
        return f"{number.normalize():f}" if number >= 1 and number % 1 == 0 else f"{math.ceil(number * 1000)}m"
    mebibytes = number / 1024**2
    return f"{mebibytes / 1024:.1f}Gi".replace(".0Gi", "Gi") if mebibytes >= 1024 else f"{math.ceil(mebibytes)}Mi"


def alerts(told: Iterable[dict[str, Any]], always: str) -> list[dict[str, str]]:
    """The alerts that fire, the gravest first, without the one that fires always."""
    found = [
        {
            "name": str(one["labels"].get("alertname")),
            "severity": str(one["labels"].get("severity") or "-"),
            "since": str(one.get("activeAt") or "")[:16].replace("T", " "),
            "said": str((one.get("annotations") or {}).get("description") or ""),
        }
        for one in told
        if one.get("state") == "firing" and one["labels"].get("alertname") != always
    ]
    return sorted(found, key=lambda one: (one["severity"], one["name"]))
