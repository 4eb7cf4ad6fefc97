# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``settled``: servers that run have what their Secrets hold.

A certificate is asked of the server itself, in a TLS handshake through the API server: what a file in the pod says may
not have been read.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently, wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import forwarded
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready

SERVERS_SPEC: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "secret": {"type": "str", "required": True, "no_log": False},
        "namespace": {"type": "str", "required": True},
        "app": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "protocol": {"type": "str", "choices": ["tls", "postgresql"], "default": "tls"},
    },
}

ARGUMENT_SPEC: dict[str, Any] = {
    "certificates": SERVERS_SPEC,
    "commands": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "namespace": {"type": "str", "required": True},
            "app": {"type": "str", "required": True},
            "container": {"type": "str"},
            "command": {"type": "list", "elements": "str", "required": True},
        },
    },
    "timeout_seconds": {"type": "int", "default": 240},
    **auth_argument_spec(),
}

_PAUSE_SECONDS = 3.0
_HANDSHAKE_SECONDS = 10.0
# https://www.postgresql.org/docs/17/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def run(
    params: Object,
    check_mode: bool = False,
    diff: bool = False,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Wait until all have it; see the module's RETURN."""
    if check_mode:
        return {"changed": False, "waited_for": []}
    cluster = (connect or Cluster)(params)
    told: list[str] = []

    def look() -> list[str]:
        lacking = unsettled(cluster, params["certificates"], params["commands"])
        if progress and lacking and lacking != told:
            progress("not yet: " + ", ".join(lacking))
        told[:] = lacking
        return lacking

    lacking = wait_until(look, params["timeout_seconds"], _PAUSE_SECONDS, done=lambda found: not found)
    if lacking:
        raise PlatformError(
            "servers do not have what their Secrets hold",
            where=", ".join(lacking),
            found=f"the former still, after {params['timeout_seconds']} s",
            expected="that a changed Secret is mounted within two minutes, and read by the server",
            fix="see the logs of these pods, and run the playbook again: it goes on from where it was",
            reason="timeout",
        )
    return {"changed": False, "waited_for": [*map(_name, params["certificates"]), *map(_name, params["commands"])]}


def _name(entry: Object) -> str:
    return f"{entry['namespace']}/{entry['app']}"


def unsettled(cluster: Cluster, servers: list[Object], commands: list[Object]) -> list[str]:
    """The pods that do not have it, each with why."""

    def served(server: Object, pod: str) -> str:
        there = certificate_of(cluster, server["namespace"], pod, server["port"], server["protocol"])
        return "" if there == held(cluster, server) else f"port {server['port']} serves another certificate"

    def ran(entry: Object, pod: str) -> str:
        done = run_in_pod(cluster, entry["namespace"], pod, entry["command"], container=entry.get("container"))
        return "" if done.code == 0 else f"{' '.join(entry['command'][:3])} says not yet"

    looks = [(served, entry, pod) for entry in servers for pod in _pods(cluster, entry)]
    looks += [(ran, entry, pod) for entry in commands for pod in _pods(cluster, entry)]
    found = concurrently(lambda look: look[0](look[1], look[2]), looks)
    lacking = []
    for (_look, entry, pod), outcome in zip(looks, found, strict=True):
        why = outcome.what if isinstance(outcome, PlatformError) else outcome
        if why:
            lacking.append(f"Pod {entry['namespace']}/{pod} ({why})")
    return lacking


def _pods(cluster: Cluster, entry: Object) -> list[str]:
    found = cluster.list("v1", "Pod", entry["namespace"], f"app.kubernetes.io/name={entry['app']}")
    return sorted(pod["metadata"]["name"] for pod in found if is_ready(pod))


def held(cluster: Cluster, server: Object) -> bytes:
    """The certificate that the Secret holds, DER."""
    where = {"apiVersion": "v1", "kind": "Secret", "name": server["secret"], "namespace": server["namespace"]}
    data = (cluster.get(where) or {}).get("data") or {}
    try:
        return ssl.PEM_cert_to_DER_cert(_first(base64.b64decode(data.get("tls.crt") or "").decode()))
    except ValueError as error:
        raise PlatformError(
            "a certificate is missing",
            where=f"Secret {server['namespace']}/{server['secret']}",
            found="no certificate in the key tls.crt",
            expected="one in PEM",
            fix="run site.yml",
            reason="certificate",
        ) from error


def _first(chain: str) -> str:
    end = "-----END CERTIFICATE-----"
    return chain[: chain.index(end) + len(end)].strip()


def certificate_of(cluster: Cluster, namespace: str, pod: str, port: int, protocol: str) -> bytes:
    """The certificate that a pod serves, DER. It is not judged."""
    with forwarded(cluster, namespace, pod, port, _HANDSHAKE_SECONDS) as connection:
        return handshake(connection, protocol)


def handshake(connection: socket.socket, protocol: str) -> bytes:
    """The certificate at the other end, DER."""
    if protocol == "postgresql":
        connection.sendall(_SSL_REQUEST)
        if connection.recv(1) != b"S":
            raise ssl.SSLError("the server has no TLS")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # By memory: a forwarded connection is no socket that ssl would take.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
            read = connection.recv(16384)
            if not read:
                raise ssl.SSLError("the connection was closed in the handshake") from None
            incoming.write(read)
    # One that wants a certificate of ours says so after this.
    with contextlib.suppress(OSError):
        connection.sendall(outgoing.read())
    return tls.getpeercert(binary_form=True) or b""
