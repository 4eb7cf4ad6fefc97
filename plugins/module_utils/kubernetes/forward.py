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
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

try:
    import kubernetes.client
    from kubernetes.stream import portforward
except ImportError:  # Cluster says what is missing
    pass


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
    where = f"Pod {namespace}/{pod}, port {port}, {path}"
    # One for each call: portforward() changes the client that it is given.
    client = kubernetes.client.ApiClient(cluster.configuration)
    try:
        forward = portforward(
            kubernetes.client.CoreV1Api(client).connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
        )
        try:
            connection = http.client.HTTPConnection(pod)
            connection.sock = forward.socket(port)
            connection.sock.settimeout(timeout_seconds)
            given = f"?{urlencode(query)}" if query else ""
            connection.request("GET", path + given, headers={"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            with contextlib.suppress(OSError):
                forward.close()
    except kubernetes.client.ApiException as failure:
        raise _refused(failure, where) from failure
    except (OSError, http.client.HTTPException) as failure:
        raise PlatformError(
            "a pod does not answer",
            where=where,
            found=f"no answer within {timeout_seconds:g} s" if isinstance(failure, socket.timeout) else str(failure),
            expected="an answer over HTTP, through the API server",
            fix="see whether the pod is ready (kubectl get pods), and its log",
            reason="unreachable",
        ) from failure
    if answer.status != 200:
        raise PlatformError(
            "a pod answers otherwise than it should",
            where=where,
            found=f"{answer.status} {answer.reason}: {body[:300].decode('utf-8', 'replace').strip()}",
            expected="200",
            fix="see the pod's log",
            reason="answer",
            status=answer.status,
        )
    return body


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
