# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a container, as ``kubectl exec`` does."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import sleep
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

try:
    import kubernetes.client
    import websocket
    from kubernetes.stream import stream
    from kubernetes.stream.ws_client import ERROR_CHANNEL, STDIN_CHANNEL
except ImportError:  # Cluster says what is missing
    pass


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    stdout: str
    stderr: str


def run_in_pod(
    cluster: Cluster,
    namespace: str,
    pod: str,
    command: list[str],
    *,
    container: str | None = None,
    stdin: str | None = None,
    timeout_seconds: float = 20,
) -> Ran:
    """Run command (no shell of this machine is involved); secrets belong into stdin, never into command.

    stdin is only closed where client and server speak version 5 of the protocol (Kubernetes 1.30 and later): a command
    that reads it must end by what it reads.
    """
    where = f"Pod {namespace}/{pod}" + (f", container {container}" if container else "")
    # One for each call: stream() changes the client that it is given.
    client = kubernetes.client.ApiClient(cluster.configuration)
    options = {"container": container} if container else {}
    try:
        session = stream(
            kubernetes.client.CoreV1Api(client).connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=command,
            stdin=stdin is not None,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
            **options,
        )
    except (kubernetes.client.ApiException, websocket.WebSocketException, OSError) as failure:
        raise _refused(failure, where) from failure
    try:
        if stdin is not None:
            session.write_stdin(stdin)
            if hasattr(session, "close_channel"):
                session.close_channel(STDIN_CHANNEL)
        ends = time.monotonic() + timeout_seconds
        while session.is_open() and time.monotonic() < ends:
            sleep(0)
            session.update(timeout=max(0.0, min(1.0, ends - time.monotonic())))
        if session.is_open():
            raise PlatformError(
                "a command in a pod did not end",
                where=where,
                found=f"{command[0]} was still running after {timeout_seconds:g} s",
                expected="an end within that time",
                fix="check the pod's node and the load of the machine",
                reason="timeout",
            )
        code = _code(session.read_channel(ERROR_CHANNEL))
        return Ran(code, session.read_stdout(timeout=0), session.read_stderr(timeout=0))
    except (websocket.WebSocketException, OSError) as failure:
        raise _refused(failure, where) from failure
    finally:
        # A connection that is gone already cannot be closed, which is no news.
        with contextlib.suppress(websocket.WebSocketException, OSError):
            session.close()


def _code(status: str) -> int:
    """The exit code, out of the Status object that ends the session; 255 where it names none."""
    try:
        answer = json.loads(status)
    except ValueError:
        return 255
    if answer.get("status") == "Success":
        return 0
    for cause in (answer.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return 255


def _refused(failure: Exception, where: str) -> PlatformError:
    status = getattr(failure, "status", None) or getattr(failure, "status_code", None)
    said = str(getattr(failure, "reason", "") or failure).strip()
    if status == 403 or "403" in said[:80]:
        return PlatformError(
            "no right to run a command in a pod",
            where=where,
            found="403 Forbidden",
            expected="a role that allows the verb create on pods/exec",
            fix="bind such a role to the user, or verify with credentials that have it",
            reason="forbidden",
        )
    return PlatformError(
        "no command can be run in a pod",
        where=where,
        found=said[:300],
        expected="an exec session (a WebSocket through the API server)",
        fix="check that the pod runs, and that a proxy between here and the API server lets WebSockets pass",
        reason="exec",
    )
