# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is PostgreSQL's primary, as Patroni says, and whether there is a backup to restore.

Answers are those of Patroni's GET /cluster (https://patroni.readthedocs.io/en/latest/rest_api.html), of pgBackRest's
info (https://pgbackrest.org/command.html#command-info) and of the view pg_stat_archiver.
"""

from __future__ import annotations

import json
import re
import time

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Found, Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import (
    ZONE_LABEL,
    is_ready,
)

# Both: a tenth of a large disk, which several volumes may share, is a lot of room.
_FULL_PERCENT = 90
_FULL_FREE_BYTES = 20 << 30
_LONGEST_MESSAGE = 300

_ARCHIVER = """SELECT json_build_object('failed', coalesce(last_failed_time > last_archived_time, failed_count > 0),
  'wal', last_failed_wal, 'archived', last_archived_wal) FROM pg_stat_archiver"""


def postgresql_roles(cluster: Cluster, options: Object) -> Found:
    """One primary, to which the Service leads, and standbys that stream from it."""
    namespace = options["namespace"]
    _no_restore_left(cluster, namespace)
    members = _members(cluster, options)
    slices = cluster.list(
        "discovery.k8s.io/v1", "EndpointSlice", namespace, f"kubernetes.io/service-name={options['service']}"
    )
    pods = cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={options['servers']}")
    problem = roles_problem(members, led_to(slices, pods), options)
    if problem:
        raise PlatformError(
            "PostgreSQL is not as it should be",
            where=f"namespace {namespace}",
            found=problem,
            expected=f"one primary, which the Service {options['service']} leads to, and "
            f"{options['server_count'] - 1} standbys that stream from it"
            + (", one of them synchronous" if options["synchronous"] else ""),
            fix=f"wait while a standby is made anew, or look at kubectl -n {namespace} logs {options['servers']}-0",
            reason="roles",
        )
    standbys = [member["name"] for member in members if member["role"] == "sync_standby"]
    together = in_one_zone([_leader(members), *standbys], pods, cluster.list("v1", "Node"))
    if together:
        raise PlatformError(
            "the loss of one zone could lose what was acknowledged",
            where=f"namespace {namespace}",
            found=f"the primary and its synchronous standby are in one zone: {together}",
            expected="each in a zone of its own, as the cluster has others",
            fix="name as many zones in platform_zones as PostgreSQL has members; a member whose volume is in the wrong "
            "zone is made anew where its claim and then its pod are deleted, one at a time",
            reason="zones",
        )
    return Passed(
        f"{_leader(members)} is primary with {len(members) - 1} standbys"
        + (f"; {' and '.join(standbys)} has every commit" if standbys else "")
        + restarts_to_come(members)
    )


def in_one_zone(names: list[str], pods: list[Object], nodes: list[Object]) -> str:
    """The members and their zone, where all of these (a primary and its synchronous standbys) are in one and nodes that
    take pods are in others too; else an empty text."""
    labels = {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in nodes}
    # A control plane's node, and one that is lost or being emptied, has a taint.
    free = [node["metadata"]["name"] for node in nodes if not (node.get("spec") or {}).get("taints")]
    zones = {labels[name].get(ZONE_LABEL) for name in free} - {None}
    node_of = {pod["metadata"]["name"]: (pod.get("spec") or {}).get("nodeName", "") for pod in pods}
    found = {labels.get(node_of.get(name, ""), {}).get(ZONE_LABEL) for name in names}
    if len(names) < 2 or len(zones) < 2 or len(found) > 1 or None in found:
        return ""
    return f"{' and '.join(names)} in {found.pop()}"


def led_to(slices: list[Object], pods: list[Object]) -> list[str]:
    """The pods that a Service leads to, by its EndpointSlices; an address where it is none of these pods'."""
    owners = {(pod.get("status") or {}).get("podIP", ""): pod["metadata"]["name"] for pod in pods}
    return [
        owners.get(address, address)
        for part in slices
        for endpoint in part.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint["addresses"]
    ]


def postgresql_backup(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """A backup that is not too old, without errors, and an archive that gets what is written.

    The repository makes the first backup, and one after each change of the primary, by itself: that is waited for.
    """
    namespace = options["namespace"]
    where = f"namespace {namespace}"

    def state() -> tuple[str, str]:
        leader = _leader(_members(cluster, options))
        archiver = json.loads(_run(cluster, options, leader, "postgresql", _psql(_ARCHIVER)))
        told = json.loads(
            _run(cluster, options, f"{options['repository']}-0", "repository", ["pgbackrest", "info", "--output=json"])
        )
        return backup_state(told, archiver, options["backup_hours"], time.time())

    problem, summary = wait_until(state, wait_seconds, 2, done=lambda found: not found[0])
    if problem:
        raise PlatformError(
            "PostgreSQL could not be restored to now",
            where=where,
            found=problem,
            expected=f"a backup within {options['backup_hours']} hours and since the last change of the primary, "
            "and every WAL segment in the archive",
            fix=f"look at kubectl -n {namespace} logs {options['repository']}-0 and at the Jobs of the CronJob "
            "postgresql-backup; playbooks/backup.yml makes a backup now",
            reason="backup",
        )
    return Passed(summary)


def postgresql_volumes(cluster: Cluster, options: Object) -> Found:
    """Room on every volume: a full one stops PostgreSQL, and a full repository its archive and then PostgreSQL."""
    namespace = options["namespace"]
    places = [("postgresql", name, "/var/lib/postgresql/data") for name in _pods(cluster, options)]
    if options["repository"]:
        places.append(("repository", f"{options['repository']}-0", "/backup"))
    used = {}
    for container, pod, path in places:
        # A repository in a bucket has no volume.
        command = f"test ! -d {path} || df --block-size=1 --output=pcent,avail {path}"
        told = _run(cluster, options, pod, container, ["sh", "-c", command]).split()
        if not told:
            continue
        used[pod] = (int(told[-2].rstrip("%")), int(told[-1]))
    full = [
        f"that of {pod} is {percent} % full"
        for pod, (percent, free) in used.items()
        if percent >= _FULL_PERCENT and free < _FULL_FREE_BYTES
    ]
    if full:
        raise PlatformError(
            "a volume of PostgreSQL has hardly any room left",
            where=f"namespace {namespace}",
            found=", ".join(full),
            expected=f"less than {_FULL_PERCENT} %, or {_FULL_FREE_BYTES >> 30} GiB free; a full one stops all writes",
            fix="enlarge it (data_services_postgresql_storage, data_services_postgresql_backup_storage) or remove "
            "data. WAL that cannot be archived fills it too, and the check postgresql: backup says whether that is so",
            reason="full",
        )
    return Passed(", ".join(f"{pod} {percent} % full" for pod, (percent, free) in used.items()))


def roles_problem(members: list[Object], led_to: list[str], options: Object) -> str:
    """What is wrong, in words; empty where nothing is."""
    leaders = [member["name"] for member in members if member["role"] == "leader"]
    if len(leaders) != 1:
        return (
            f"{len(leaders)} primaries among {', '.join(sorted(member['name'] for member in members)) or 'no members'}"
        )
    if len(members) != options["server_count"]:
        return f"{len(members)} members: {', '.join(sorted(member['name'] for member in members))}"
    away = [
        f"{member['name']} is {member['state']}"
        for member in members
        if member["state"] != ("running" if member["role"] == "leader" else "streaming")
    ]
    if away:
        return "; ".join(away)
    if led_to != leaders:
        return f"the Service leads to {', '.join(led_to) or 'nothing'}, and {leaders[0]} is the primary"
    if options["synchronous"] and len(members) > 1 and not any(member["role"] == "sync_standby" for member in members):
        return "no standby is synchronous"
    return ""


def restarts_to_come(members: list[Object]) -> str:
    """The stewards restart them by themselves, one after the other: it is said, and nothing is wrong."""
    told = [
        f"{member['name']} ({', '.join(sorted(member.get('pending_restart_reason') or ())) or 'changed settings'})"
        for member in members
        if member.get("pending_restart")
    ]
    return f"; to be restarted: {', '.join(told)}" if told else ""


def backup_state(stanzas: list[Object], archiver: Object, hours: float, now: float) -> tuple[str, str]:
    """What is wrong (empty where nothing is), and a summary."""
    if not stanzas or stanzas[0]["status"]["code"] != 0:
        return (_of_stanza(stanzas[0]) if stanzas else "the repository knows no stanza"), ""
    # An upgrade leaves the backups and the archive of the version before, each cluster with a number of its own.
    now_there = max(database["id"] for database in stanzas[0]["db"])
    backups, archives = (
        [one for one in stanzas[0][kind] if one["database"]["id"] == now_there] for kind in ("backup", "archive")
    )
    if not backups:
        return f"there is no backup since PostgreSQL became {stanzas[0]['db'][-1]['version']}", ""
    newest = backups[-1]
    archived = max((archive["max"] for archive in archives if archive["max"]), default="")
    age = (now - newest["timestamp"]["stop"]) / 3600
    if newest.get("error"):
        return f"backup {newest['label']} has errors (pages with wrong checksums)", ""
    if age > hours:
        return f"the newest backup, {newest['label']}, is {age:.0f} hours old", ""
    # The first eight digits are the timeline, which changes with the primary.
    if archived[:8] > newest["archive"]["stop"][:8]:
        return f"the primary has changed since the newest backup, {newest['label']}", ""
    if archiver["failed"]:
        return f"WAL {archiver['wal']} could not be archived; the last that was is {archiver['archived'] or 'none'}", ""
    return "", (
        f"{len(stanzas[0]['backup'])} backups, the newest {newest['label']} of {age:.1f} hours ago; "
        f"WAL is archived up to {archiver['archived']}"
    )


def _of_stanza(stanza: Object) -> str:
    """Why it has no backup, in pgBackRest's words; the stanza's own word is "other" where it cannot be read."""
    told = "; ".join(repo["status"]["message"] for repo in stanza.get("repo", []) if repo["status"]["code"] != 0)
    # An object store's answer: of request, headers and body only its beginning and the error that it names.
    return re.sub(r"(?s)\n\*\*\* .*?<Error>", " <Error>", told)[:_LONGEST_MESSAGE] or str(stanza["status"]["message"])


def _no_restore_left(cluster: Cluster, namespace: str) -> None:
    left = cluster.get({"apiVersion": "v1", "kind": "ConfigMap", "name": "postgresql-restore", "namespace": namespace})
    if left is None:
        return
    raise PlatformError(
        "a restore of PostgreSQL was cut short, or still runs",
        where=f"ConfigMap {namespace}/postgresql-restore, of {left['metadata']['creationTimestamp']}",
        found=left["data"]["restore.yml"],
        expected="no such ConfigMap: playbooks/restore.yml deletes it at its end",
        fix="run playbooks/restore.yml again with the same restore_time; where the data are right already, delete it",
        reason="restore",
    )


def _pods(cluster: Cluster, options: Object) -> list[str]:
    """The names of the ready ones. None of them is an error."""
    namespace = options["namespace"]
    pods = cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={options['servers']}")
    ready = sorted(pod["metadata"]["name"] for pod in pods if is_ready(pod))
    if not ready:
        raise PlatformError(
            "no PostgreSQL is ready",
            where=f"namespace {namespace}",
            found=f"{len(pods)} pods, none of them ready",
            expected=f"{options['server_count']} ready pods",
            fix="run site.yml --tags data_services, which says what holds them up",
            reason="missing",
        )
    return ready


def _members(cluster: Cluster, options: Object) -> list[Object]:
    first = _pods(cluster, options)[0]
    asked = ["python3", "/scripts/member", "cluster"]
    return json.loads(_run(cluster, options, first, "postgresql", asked))["members"]


def _leader(members: list[Object]) -> str:
    leaders = [member["name"] for member in members if member["role"] == "leader"]
    return leaders[0] if leaders else str(members[0]["name"])


def _psql(query: str) -> list[str]:
    return ["psql", "-h", "/var/run/postgresql", "-U", "postgres", "-X", "-q", "-t", "-A", "-c", query]


def _run(cluster: Cluster, options: Object, pod: str, container: str, command: list[str]) -> str:
    ran = run_in_pod(cluster, options["namespace"], pod, command, container=container)
    if ran.code:
        raise PlatformError(
            "PostgreSQL's pod does not answer",
            where=f"Pod {options['namespace']}/{pod}, container {container}",
            found=(ran.stderr or ran.stdout).strip()[-300:] or f"exit code {ran.code} of {command[0]}",
            expected="an answer",
            fix="look at the container's log",
            reason="exec",
        )
    return ran.stdout
