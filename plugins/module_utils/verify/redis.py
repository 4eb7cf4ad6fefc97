# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is master of Redis, as Redis and its Sentinels say themselves, asked with the credentials of a client.

Answers are those of ROLE (https://redis.io/docs/latest/commands/role/) and of Sentinel's own commands
(https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    Doubtful,
    Found,
    Passed,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import is_ready

REDIS_SPEC: Object = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "credentials": {"type": "str", "default": "redis-controller"},
        "servers": {"type": "str", "default": "redis"},
        "server_count": {"type": "int", "default": 3},
        "port": {"type": "int", "default": 6379},
        "sentinels": {"type": "str", "default": "redis-sentinel"},
        "sentinel_count": {"type": "int", "default": 3},
        "sentinel_port": {"type": "int", "default": 26379},
        "quorum": {"type": "int", "default": 2},
    },
}
"""What a module is told of Redis: the argument spec of an option ``redis``."""

TLS = ("--tls", "--cacert", "/certificate/ca.crt")
"""How redis-cli calls it from a pod of its own."""
_AWAY = ("s_down", "o_down", "disconnected")
"""Flags of an instance that a Sentinel cannot reach."""


@dataclass(frozen=True)
class Server:
    """What a Redis server says of itself: its master's address (empty for a master) and the link's state, or the
    addresses of the replicas that are connected to it.
    """

    pod: str
    role: str
    master: str = ""
    link: str = ""
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True)
class Witness:
    """What a Sentinel says: the master's address, and by address the flags of the replicas and other Sentinels."""

    pod: str
    master: str
    replicas: dict[str, str] = field(default_factory=dict)
    sentinels: dict[str, str] = field(default_factory=dict)


def redis_roles(cluster: Cluster, options: Object) -> Found:
    """One master, replicas that follow it, and Sentinels that agree on it and can decide on another."""
    namespace = options["namespace"]
    user, password = credentials(cluster, namespace, options["credentials"])
    pods = {}
    for app in (options["servers"], options["sentinels"]):
        found = cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={app}")
        pods[app] = [pod["metadata"]["name"] for pod in found if is_ready(pod)]

    def ask(pod: str, port: int, commands: list[str]) -> list[Any]:
        # AUTH comes by stdin: a password in the command would be in the process list of the pod's node.
        lines = [f"AUTH {user} {password}", *commands, "quit"]
        ran = run_in_pod(
            cluster, namespace, pod, ["redis-cli", *TLS, "-2", "--json", "-p", str(port)], stdin="\n".join(lines) + "\n"
        )
        return answers_of(ran.stdout, pod, len(commands), password)

    def server(pod: str) -> Server:
        return server_of(pod, ask(pod, options["port"], ["ROLE"])[0])

    def witness(pod: str) -> Witness:
        port = options["sentinel_port"]
        role = ask(pod, port, ["ROLE"])[0]
        names = role[1] if isinstance(role, list) and len(role) > 1 else []
        if len(names) != 1:
            raise _problem(f"Pod {namespace}/{pod}", f"the Sentinel watches {len(names)} masters", "it watches one")
        commands = [f"SENTINEL {what} {names[0]}" for what in ("GET-MASTER-ADDR-BY-NAME", "REPLICAS", "SENTINELS")]
        return witness_of(pod, *ask(pod, port, commands))

    looks = [(server, pod) for pod in pods[options["servers"]]] + [(witness, pod) for pod in pods[options["sentinels"]]]
    seen = concurrently(lambda look: look[0](look[1]), looks)
    for answer in seen:
        if isinstance(answer, PlatformError):
            raise answer
    servers = [answer for answer in seen if isinstance(answer, Server)]
    witnesses = [answer for answer in seen if isinstance(answer, Witness)]
    owners = owners_of(cluster.list("v1", "Service", namespace), cluster.list("v1", "Pod", namespace))
    problem = problem_of(servers, witnesses, owners, options)
    if problem:
        raise _problem(f"Redis in namespace {namespace}", problem, expectation(options))
    master = next(server for server in servers if server.role == "master")
    return Passed(
        f"{master.pod} is master with {len(master.replicas)} replicas; {len(witnesses)} Sentinels agree, "
        f"any {options['quorum']} of them can name another"
    )


# The password comes from the pod's own file, as for its probes: in a command it would be in the node's process list.
_STATISTICS = (
    "read -r REDISCLI_AUTH < /users/pod; export REDISCLI_AUTH; "
    f'exec redis-cli {" ".join(TLS)} -p "$0" --user pod info stats'
)


def redis_evictions(cluster: Cluster, options: Object) -> Found:
    """Redis has given up no key for want of memory since it started. Sessions are such keys."""
    namespace = options["namespace"]
    found = cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={options['servers']}")
    pods = [pod["metadata"]["name"] for pod in found if is_ready(pod)]
    command = ["sh", "-c", _STATISTICS, str(options["port"])]
    answers = concurrently(lambda pod: run_in_pod(cluster, namespace, pod, command).stdout, pods)
    counts: dict[str, int] = {}
    for pod, answer in zip(pods, answers, strict=True):
        count = None if isinstance(answer, PlatformError) else evicted_of(answer)
        if count is None:
            return Doubtful(
                f"{pod} does not say",
                f"Whether Redis has evicted sessions is unknown: Pod {namespace}/{pod} gave no evicted_keys.",
            )
        counts[pod] = count
    evicted = {pod: count for pod, count in counts.items() if count}
    if evicted:
        listed = ", ".join(f"{pod} {count}" for pod, count in evicted.items())
        return Doubtful(
            f"{sum(evicted.values())} keys evicted ({listed})",
            f"Redis has evicted keys for want of memory since it started ({listed}): their sessions are gone before "
            "their time. Raise data_services_redis_maxmemory and data_services_redis_memory, or let sessions expire "
            "sooner (controller_session_expiry_seconds).",
        )
    return Passed(f"none on {len(counts)} servers since they started")


def evicted_of(information: str) -> int | None:
    """``evicted_keys`` of an answer to INFO (https://redis.io/docs/latest/commands/info/)."""
    match = re.search(r"^evicted_keys:(\d+)\s*$", information, re.MULTILINE)
    return int(match[1]) if match else None


def credentials(cluster: Cluster, namespace: str, name: str) -> tuple[str, str]:
    """Username and password of a client's Secret."""
    secret = cluster.get({"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": namespace})
    data = (secret or {}).get("data") or {}
    if not data.get("username") or not data.get("password"):
        raise PlatformError(
            "the credentials of Redis are missing",
            where=f"Secret {namespace}/{name}",
            found="no such Secret" if secret is None else f"the keys {', '.join(sorted(data)) or 'none'}",
            expected="the keys username and password",
            fix="run site.yml --tags data_services",
            reason="missing",
        )
    return base64.b64decode(data["username"]).decode(), base64.b64decode(data["password"]).decode()


def answers_of(stdout: str, pod: str, count: int, password: str) -> list[Any]:
    """The last ``count`` answers of redis-cli --json, one a line; the first is AUTH's."""
    answers = []
    for line in stdout.splitlines():
        if not line.strip():
            continue
        try:
            answers.append(json.loads(line))
        except ValueError:
            answers.append(line)
    refused = [answer for answer in answers if isinstance(answer, str) and answer not in ("OK", "PONG")]
    if len(answers) != count + 1 or refused:
        said = "; ".join(refused)[:200].replace(password, "(hidden)") or f"{len(answers)} answers"
        raise _problem(f"Pod {pod}", said, f"OK to AUTH and {count} answers")
    return answers[1:]


def server_of(pod: str, role: Any) -> Server:
    """Out of the answer to ROLE."""
    if role[0] == "master":
        return Server(pod, "master", replicas=tuple(str(replica[0]) for replica in role[2]))
    return Server(pod, "replica", master=str(role[1]), link=str(role[3]))


def witness_of(pod: str, master: Any, replicas: Any, sentinels: Any) -> Witness:
    """Out of the answers of Sentinel."""
    return Witness(
        pod,
        str(master[0]),
        *({entry["ip"]: entry["flags"] for entry in map(_fields, listed)} for listed in (replicas, sentinels)),
    )


def _fields(entry: Any) -> dict[str, str]:
    """A map is a flat list of keys and values in RESP2 and an object in RESP3."""
    return dict(entry) if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))


def owners_of(services: list[Object], pods: list[Object]) -> dict[str, str]:
    """Address -> name of the pod: its own address, or that of a Service of this pod alone."""
    owners = {(pod.get("status") or {}).get("podIP", ""): pod["metadata"]["name"] for pod in pods}
    for service in services:
        selector = service["spec"].get("selector") or {}
        behind = [
            pod["metadata"]["name"]
            for pod in pods
            if selector and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        ]
        if len(behind) == 1:
            owners[service["spec"].get("clusterIP", "")] = behind[0]
    return owners


def expectation(options: Object) -> str:
    """In words."""
    return (
        f"one master, {options['server_count'] - 1} replicas linked to it, and {options['sentinel_count']} Sentinels "
        "that agree on it and see each other"
    )


def problem_of(servers: list[Server], witnesses: list[Witness], owners: dict[str, str], options: Object) -> str:
    """What is wrong, or nothing."""

    def name(address: str) -> str:
        return owners.get(address, address)

    if len(servers) != options["server_count"]:
        return f"{len(servers)} servers are ready"
    masters = [server for server in servers if server.role == "master"]
    if len(masters) != 1:
        return f"{len(masters)} masters ({', '.join(server.pod for server in masters) or 'none'})"
    master = masters[0]
    for server in servers:
        if server is not master and (name(server.master) != master.pod or server.link != "connected"):
            return f"{server.pod} follows {name(server.master)} (link {server.link}), the master is {master.pod}"
    others = sorted(server.pod for server in servers if server is not master)
    linked = sorted(map(name, master.replicas))
    if linked != others:
        return f"{master.pod} has the replicas {', '.join(linked) or 'none'}"
    if len(witnesses) != options["sentinel_count"]:
        return f"{len(witnesses)} Sentinels are ready"
    for witness in witnesses:
        if name(witness.master) != master.pod:
            return f"{witness.pod} calls {name(witness.master)} the master, which is {master.pod}"
        for kind, seen, count in (
            ("replicas", witness.replicas, options["server_count"] - 1),
            ("other Sentinels", witness.sentinels, options["sentinel_count"] - 1),
        ):
            away = [name(address) for address, flags in seen.items() if set(flags.split(",")) & set(_AWAY)]
            if away:
                return f"{witness.pod} cannot reach {', '.join(sorted(away))}"
            if len(seen) != count:
                return f"{witness.pod} knows {len(seen)} {kind}"
    return ""


def _problem(where: str, found: str, expected: str) -> PlatformError:
    return PlatformError(
        "Redis is not as it should be",
        where=where,
        found=found,
        expected=expected,
        fix="after a failover, wait a minute and verify again; else see the log of the pod redis-sentinel-0",
        reason="redis",
    )
