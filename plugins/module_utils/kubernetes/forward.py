# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a pod over HTTP through the API server, as ``kubectl port-forward`` does: no port is opened, and no NetworkPolicy
needs to allow it, as the connection begins in the pod itself.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

try:
    import kubernetes.client
    from kubernetes.stream import portforward
except ImportError:  # Cluster says what is missing
    pass


class Answer(NamedTuple):
    """An HTTP answer of a pod; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextlib.contextmanager
def forwarded(
    cluster: Cluster, namespace: str, pod: str, port: int, timeout_seconds: float = 30
) -> Iterator[socket.socket]:
    """A connection to a pod's port. What fails on it is a PlatformError."""
    where = f"Pod {namespace}/{pod}, port {port}"
    # One for each call: portforward() changes the client that it is given.
    client = kubernetes.client.ApiClient(cluster.configuration)
    try:
        forward = portforward(
            kubernetes.client.CoreV1Api(client).connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
        )
        try:
            connection = forward.socket(port)
            connection.settimeout(timeout_seconds)
            yield connection
        finally:
            with contextlib.suppress(OSError):
                forward.close()
    except kubernetes.client.ApiException as failure:
        raise _refused(failure, where) from failure
    except OSError as failure:
        raise PlatformError(
            "a pod does not answer",
            where=where,
            found=f"no answer within {timeout_seconds:g} s" if isinstance(failure, TimeoutError) else str(failure),
            expected="an answer, through the API server",
            fix="see whether the pod is ready (kubectl get pods), and its log",
            reason="unreachable",
        ) from failure


def ask_pod(
    cluster: Cluster,
    namespace: str,
    pod: str,
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30,
) -> Answer:
    """The pod's answer, whatever its status is. None at all is a PlatformError."""
    where = f"Pod {namespace}/{pod}, port {port}, {path}"
    try:
        with forwarded(cluster, namespace, pod, port, timeout_seconds) as forward:
            connection = http.client.HTTPConnection(pod)
            connection.sock = forward
            connection.request(method, path, body=body, headers={"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
    except http.client.HTTPException as failure:
        raise PlatformError(
            "a pod does not answer",
            where=where,
            found=str(failure),
            expected="an answer over HTTP, through the API server",
            fix="see whether the pod is ready (kubectl get pods), and its log",
            reason="unreachable",
        ) from failure


def get_from_pod(
    cluster: Cluster,
    namespace: str,
    pod: str,
    port: int,
    path: str,
    query: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30,
) -> bytes:
    """The body of the pod's answer to GET path. Any other than 200 is a PlatformError with this ``status``."""
    asked = f"{path}?{urlencode(query)}" if query else path
    answer = ask_pod(cluster, namespace, pod, port, "GET", asked, headers=headers, timeout_seconds=timeout_seconds)
    if answer.status != 200:
        said = answer.body[:300].decode("utf-8", "replace").strip()
        raise PlatformError(
            "a pod answers otherwise than it should",
            where=f"Pod {namespace}/{pod}, port {port}, {path}",
            found=f"{answer.status} {http.client.responses.get(answer.status, '')}: {said}",
            expected="200",
            fix="see the pod's log",
            reason="answer",
            status=answer.status,
        )
    return answer.body


def _refused(failure: kubernetes.client.ApiException, where: str) -> PlatformError:
    said = str(failure.reason or failure).strip()
    if failure.status == 403 or "403" in said[:80]:
        return PlatformError(
            "no right to reach a pod through the API server",
            where=where,
            found="403 Forbidden",
            expected="a role that allows the verbs get and create on pods/portforward",
            fix="bind such a role to the user, or use credentials that have it",
            reason="forbidden",
        )
    return PlatformError(
        "a pod cannot be reached through the API server",
        where=where,
        found=said.splitlines()[0] if said else "a closed connection",
        expected="a running pod, whose node the API server reaches",
        fix="see whether the pod and its node are ready, and call again",
        reason="unreachable",
    )
