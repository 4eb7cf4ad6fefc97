# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of objects, each part from what the cluster holds: no request is made here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.placement import Node
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import GIB
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.images import digest_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
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


def recommendations(autoscalers: Iterable[Object], objects: Iterable[Object]) -> list[dict[str, str]]:
    """What VerticalPodAutoscalers recommend for each container, beside what it asks for."""
    asked: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for obj in objects:
        pod = (((obj.get("spec") or {}).get("template") or {}).get("spec")) or {}
        for one in pod.get("containers") or []:
            key = (obj["metadata"]["namespace"], obj["kind"], obj["metadata"]["name"], one["name"])
            asked[key] = (one.get("resources") or {}).get("requests") or {}
    found = []
    for obj in autoscalers:
        target, namespace = (obj.get("spec") or {}).get("targetRef") or {}, obj["metadata"]["namespace"]
        recommended = ((obj.get("status") or {}).get("recommendation") or {}).get("containerRecommendations") or []
        for one in recommended:
            container = str(one.get("containerName"))
            mine = asked.get((namespace, str(target.get("kind")), str(target.get("name")), container), {})
            row = {"workload": f"{namespace}/{target.get('name')}", "container": container}
            for resource in ("cpu", "memory"):
                row[resource] = str(mine.get(resource, "-"))
                row[f"recommended_{resource}"] = str((one.get("target") or {}).get(resource, "-"))
            found.append(row)
    return found


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
