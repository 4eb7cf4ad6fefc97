# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says by itself, before any cluster is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import Workload
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    WARN,
    Finding,
    passed,
)

Values = dict[str, Any]


def variables(problems: list[dict[str, Any]]) -> Iterator[Finding]:
    """What the module ``variables`` has to say: wrong types, unknown names, contradictions."""
    for problem in problems:
        found = ": ".join(part for part in (problem.get("what", ""), problem.get("found", "")) if part)
        yield Finding("variables", FAIL, found, problem.get("expected", ""), problem.get("fix", ""))
    if not problems:
        yield passed("variables", "types, names and combinations are right")


def licences(values: Values) -> Iterator[Finding]:
    """What may not run unless somebody has accepted its licence by name."""
    elastic = values.get("logging_enabled") and values.get("logging_backend") == "elastic"
    edition = values.get("openfaas_edition", "compatible") if values.get("openfaas_enabled") else "compatible"
    openfaas = edition != "compatible"
    if openfaas and values.get("openfaas_accept_license") != edition:
        yield Finding(
            "licences",
            FAIL,
            f"openfaas_edition is {edition}, and its licence is not accepted",
            f"openfaas_accept_license: {edition}",
            "read the vendor's licence and accept it by name, or take openfaas_edition compatible",
        )
    if elastic and not values.get("logging_accept_elastic_license"):
        yield Finding(
            "licences",
            FAIL,
            "logging_backend is elastic, and its licence is not accepted",
            "logging_accept_elastic_license: true",
            "read the Elastic License 2.0 and accept it by name, or take logging_backend victorialogs",
        )
    elif not openfaas or values.get("openfaas_accept_license") == edition:
        accepted = [
            *(["the Elastic License 2.0"] if elastic else []),
            *([f"that of OpenFaaS {edition}"] if openfaas else []),
        ]
        yield passed("licences", f"accepted: {', '.join(accepted)}" if accepted else "nothing asks for one")


def authentication(values: Values) -> Iterator[Finding]:
    """Who may call an edge that the internet reaches."""
    kind = values.get("ingress_authentication", "none")
    public = values.get("ingress_service_type") == "LoadBalancer" or values.get("ingress_load_balancer") == "alb"
    internal = values.get("ingress_load_balancer_internal")
    if kind != "none":
        yield passed("authentication", f"callers prove who they are: {kind}")
    elif not public or internal:
        yield passed("authentication", "none, and no load balancer of the internet leads to the edge")
    elif values.get("ingress_accept_anonymous"):
        yield passed("authentication", "none, as ingress_accept_anonymous accepts")
    else:
        yield Finding(
            "authentication",
            FAIL,
            "anybody on the internet may call the edge",
            "ingress_authentication jwt or api_key",
            "set it, or accept it with ingress_accept_anonymous",
        )


def backups(values: Values) -> Iterator[Finding]:
    """Whether a copy of the data outlives the cluster."""
    database, redis = values.get("data_services_postgresql_enabled"), values.get("data_services_redis_backup")
    bucket = (values.get("data_services_postgresql_backup_s3") or {}).get("bucket")
    if database and not values.get("data_services_postgresql_backup"):
        yield _open(values, "data_services_postgresql_backup is false: there are no backups")
    elif bucket and (database or redis):
        whose = " and ".join(["PostgreSQL's"] * bool(database) + ["Redis'"] * bool(redis))
        yield passed("backups", f"{whose} leave the cluster, to the bucket {bucket}")
    elif not database:
        yield passed("backups", "there is no database")
    elif values.get("data_services_postgresql_snapshot_class"):
        yield passed(
            "backups",
            "PostgreSQL's volume is copied by snapshots of the storage beside the cluster's own backups"
            + ("; Redis' copies stay in the cluster" if redis else ""),
        )
    else:
        yield _open(values, "PostgreSQL's backups are on a volume of the same cluster, and are lost with it")


def _open(values: Values, found: str) -> Finding:
    if values.get("platform_disposable"):
        return passed("backups", f"{found}; the platform is disposable")
    if values.get("data_services_accept_backup_in_cluster"):
        return passed("backups", f"{found}, as data_services_accept_backup_in_cluster accepts")
    return Finding(
        "backups",
        FAIL,
        found,
        "backups that outlive the cluster",
        "name a bucket in data_services_postgresql_backup_s3 or a class in data_services_postgresql_snapshot_class, "
        "or accept it: data_services_accept_backup_in_cluster: true",
    )


def zones(values: Values, pools: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """Whether the pools of nodes are in the zones that pods have to be in."""
    there = {zone for pool in pools for zone in pool.get("zones") or []}
    missing = [zone for zone in values.get("platform_zones") or [] if zone not in there]
    if there and missing:
        yield Finding(
            "zones",
            FAIL,
            f"platform_zones names {', '.join(missing)}, where no pool of platform_node_pools has nodes",
            f"one of {', '.join(sorted(there))}",
            "correct platform_zones, or platform_node_pools",
        )


def images(workload_objects: Iterable[Object], values: Values) -> Iterator[Finding]:
    """Whether what runs is named by its content."""
    everything = sorted(set(_images(workload_objects)))
    loose = [image for image in everything if "@sha256:" not in image]
    if not loose:
        yield passed("images", f"{len(everything)} images, each by its digest")
    elif values.get("platform_disposable"):
        yield passed("images", f"{len(everything)} images, {len(loose)} by a tag; the platform is disposable")
    else:
        yield Finding(
            "images",
            WARN,
            f"{len(loose)} of {len(everything)} images are named by a tag alone, behind which another image may come: "
            + ", ".join(loose),
            "digests",
            "name them in platform_images (repository, tag and digest)",
        )


def _images(objects: Iterable[Any]) -> Iterator[str]:
    for obj in objects:
        if isinstance(obj, dict):
            image = obj.get("image")
            if isinstance(image, str) and image and "/" in image:
                yield image
            yield from _images(obj.values())
        elif isinstance(obj, list):
            yield from _images(obj)


def budgets(objects: Iterable[Object], workloads: Iterable[Workload]) -> Iterator[Finding]:
    """PodDisruptionBudgets under which no pod may ever go."""
    known = list(workloads)
    count = 0
    wrong = []
    for obj in objects:
        if obj.get("kind") != "PodDisruptionBudget":
            continue
        count += 1
        spec = obj["spec"]
        labels = (spec.get("selector") or {}).get("matchLabels") or {}
        namespace = obj["metadata"].get("namespace")
        for one in known:
            if labels and labels.items() <= one.labels.items() and namespace in (None, one.namespace):
                least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
                if str(most) in ("0", "0%") or str(least) == "100%":
                    wrong.append(f"{obj['metadata']['name']} lets no pod of {one} go")
                elif isinstance(least, int) and least >= one.least:
                    wrong.append(f"{obj['metadata']['name']} keeps {least} of {one}, which has {one.least}")
    if wrong:
        yield Finding(
            "budgets",
            FAIL,
            "; ".join(wrong),
            "budgets that let one pod go",
            "correct the budget in the role's values, or raise the replicas: no node could ever be drained",
        )
    else:
        yield passed("budgets", f"{count} PodDisruptionBudgets, each lets a pod go")


def ports(objects: Iterable[Object]) -> Iterator[Finding]:
    """Ports of the nodes that two ask for."""
    taken: dict[tuple[str, int, str], list[str]] = {}
    for obj in objects:
        kind, metadata = obj.get("kind"), obj.get("metadata") or {}
        if kind == "Service":
            for port in obj["spec"].get("ports") or []:
                if port.get("nodePort"):
                    key = ("node port", int(port["nodePort"]), port.get("protocol", "TCP"))
                    taken.setdefault(key, []).append(f"Service {metadata.get('name')}")
        elif kind == "DaemonSet":
            pod = obj["spec"]["template"]["spec"]
            for container in pod.get("containers") or []:
                for port in container.get("ports") or []:
                    number = port.get("hostPort") or (port.get("containerPort") if pod.get("hostNetwork") else None)
                    if number:
                        key = ("port of the node", int(number), port.get("protocol", "TCP"))
                        taken.setdefault(key, []).append(f"DaemonSet {metadata.get('name')}")
    twice = {key: names for key, names in taken.items() if len(names) > 1}
    if twice:
        yield Finding(
            "ports",
            FAIL,
            "; ".join(
                f"{kind} {number}/{protocol}: {', '.join(names)}" for (kind, number, protocol), names in twice.items()
            ),
            "each port once",
            "give one of them another port",
        )
    else:
        yield passed("ports", f"{len(taken)} ports of the nodes, each asked for once")


def unknown(notes: list[str]) -> Iterator[Finding]:
    """What the plan could not be made for."""
    for note in notes:
        yield Finding(
            "charts",
            WARN,
            note,
            "charts, manifests and images that this machine can read before anything is changed",
            "mirror it, or name a folder or an archive on this machine",
        )
