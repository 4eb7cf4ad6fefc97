# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions of each kind through the gateway: a language runtime and a registered one by the edge, a container by the
gateway's own API, and a call that is queued.

The API is OpenFaaS' (https://docs.openfaas.com/reference/rest-api/), asked through the API server, as the edge does not
lead to it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import uuid
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import Answer, ask_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Found, Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

FUNCTIONS_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "language": {"type": "str", "required": True},
        "registered": {"type": "bool", "default": True},
        "gateway": {"type": "str", "default": "gateway"},
        "port": {"type": "int", "default": 8080},
        "credentials": {"type": "str", "default": "basic-auth"},
    },
}

TOTALS = {
    "nodejs": "return {total: params.numbers.reduce((sum, number) => sum + number, 0)};",
    "python": 'result = {"total": sum(params["numbers"])}',
    "rust": "fn handle(params: Value, _: Value) -> Result<Value, String> { "
    'let numbers = params["numbers"].as_array().ok_or("no numbers")?; '
    'Ok(serde_json::json!({"total": numbers.iter().filter_map(|n| n.as_i64()).sum::<i64>()})) }',
}
"""Scripts that add numbers up, by language."""

# What the runtime of a language needs as a container of 192Mi: one script at a time, which this check never sends.
_SMALL = {
    "MAX_CONCURRENCY": "1",
    "MEMORY_LIMIT_BYTES": "64Mi",
    "SCRATCH_LIMIT_BYTES": "1Mi",
    "REQUIRE_LANDLOCK": "false",
    "DRAIN_SECONDS": "0",
}


class Gateway:
    """A pod of the gateway, and who may use its API."""

    def __init__(self, cluster: Cluster, options: Object) -> None:
        self.cluster, self.options = cluster, options
        namespace, app = options["namespace"], options["gateway"]
        pods = cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={app}")
        ready = [str(pod["metadata"]["name"]) for pod in pods if is_ready(pod)]
        if not ready:
            raise PlatformError(
                "the gateway is not ready",
                where=f"namespace {namespace}, app {app}",
                found=f"{len(pods)} pods, none of them ready" if pods else "no pod",
                expected="a pod that is ready",
                fix="site.yml --tags openfaas says why it does not come",
                reason="unreachable",
            )
        self.pod = ready[0]
        self.user = "verify-" + secrets.token_hex(4)

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """One request to the pod, as a user of this run's own."""
        headers = {"X-User-ID": self.user, "Content-Type": "application/json"}
        return self.ask(method, path, body, headers, login=path.startswith("/system/"))

    def ask(self, method: str, path: str, body: Any, headers: dict[str, str], *, login: bool) -> Answer:
        """One request with these headers; with ``login``, and the API's password."""
        if login:
            headers = {**headers, "Authorization": self._proof()}
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        namespace, port = self.options["namespace"], self.options["port"]
        return ask_pod(self.cluster, namespace, self.pod, port, method, path, body=data, headers=headers)

    def expect(self, status: int, method: str, path: str, body: Any = None) -> Answer:
        """The answer, which must have this status."""
        answer = self.call(method, path, body)
        if answer.status != status:
            raise self.problem(f"{method} {path}", answer, str(status))
        return answer

    def until(self, method: str, path: str, seconds: float, expected: str, done: Callable[[Answer], Any]) -> Answer:
        """The first answer that is done; a problem where none comes in time."""
        answer = wait_until(lambda: self.call(method, path), seconds, pause_seconds=1, done=done)
        if not done(answer):
            raise self.problem(f"{method} {path}", answer, f"{expected} within {seconds:g} s")
        return answer

    def problem(self, where: str, answer: Answer, expected: str) -> PlatformError:
        """What came instead."""
        said = answer.body[:1000].decode("utf-8", "replace").strip()
        return PlatformError(
            "the gateway for functions answers otherwise than it should",
            where=f"Pod {self.options['namespace']}/{self.pod}, {where}",
            found=f"{answer.status} {said}".rstrip(),
            expected=expected,
            fix=f"see its log: kubectl -n {self.options['namespace']} logs {self.pod}",
            reason="answer",
        )

    def _proof(self) -> str:
        name, namespace = self.options["credentials"], self.options["namespace"]
        found = self.cluster.get({"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": namespace})
        data = (found or {}).get("data") or {}
        parts = [str(data.get(f"basic-auth-{part}") or "") for part in ("user", "password")]
        if not all(parts):
            raise PlatformError(
                "the password of the gateway's API is missing",
                where=f"Secret {namespace}/{name}",
                found="no such Secret" if found is None else f"the keys {', '.join(sorted(data)) or 'none'}",
                expected="the keys basic-auth-user and basic-auth-password",
                fix="run site.yml --tags openfaas",
                reason="missing",
            )
        user, password = (base64.b64decode(part).decode() for part in parts)
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _numbers() -> tuple[list[int], int]:
    numbers = [secrets.randbelow(10**6) for _number in range(3)]
    return numbers, sum(numbers)


def _execution(language: str, numbers: list[int]) -> Object:
    """A request to a language runtime."""
    given = {"params": {"numbers": numbers}, "context": {}, "script_content": TOTALS[language]}
    return {"request_id": str(uuid.uuid4()), **given}


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _total(answer: Any) -> Any:
    """Of a runtime's answer."""
    result = answer.get("result") if isinstance(answer, dict) else None
    return result.get("total") if isinstance(result, dict) else None


def runtime_called(edge: Edge, options: Object) -> Found:
    """A language runtime, called through the edge and the gateway."""
    language = options["language"]
    path, (numbers, total) = f"/function/{language}-runtime/execute", _numbers()
    answer = edge.patient_call("POST", path, _execution(language, numbers))
    if answer.status != 200 or _total(answer.json()) != total:
        raise PlatformError(
            "a language runtime cannot be called as a function",
            where=f"POST {edge.url}{path}",
            found=answer.spoken(),
            expected=f"200 with the total {total}",
            fix=f"see the gateway's log (kubectl -n {options['namespace']} logs deploy/{options['gateway']}) and the "
            "edge's routes",
            reason="answer",
        )
    return Passed(f"{language}-runtime through edge and gateway")


def registered_called(cluster: Cluster, edge: Edge, options: Object) -> Found:
    """A function that is registered at the controller, called through the gateway, and removed."""
    language = options["language"]
    name, (numbers, total) = f"{language}-verify-{secrets.token_hex(4)}", _numbers()
    path = f"/api/v1/functions/{name}"
    made = edge.patient_call("PUT", path, {"script_content": TOTALS[language]})
    if made.status != 201:
        raise PlatformError(
            "a function cannot be registered",
            where=f"PUT {edge.url}{path}",
            found=made.spoken(),
            expected="201",
            fix="see the controller's log, and whether its database answers",
            reason="answer",
        )
    try:
        gateway = Gateway(cluster, options)
        answer = gateway.expect(200, "POST", f"/function/{name}", {"numbers": numbers})
        if _parsed(answer.body) != {"total": total}:
            raise gateway.problem(f"POST /function/{name}", answer, f"the total {total}")
        listed = _parsed(gateway.expect(200, "GET", "/system/functions").body)
        if name not in [function.get("name") for function in listed]:
            raise PlatformError(
                "a registered function is not listed",
                where=f"Pod {options['namespace']}/{gateway.pod}, GET /system/functions",
                found=f"{len(listed)} functions",
                expected=f"{name} among them",
                fix="see the gateway's log",
                reason="answer",
            )
    finally:
        removed = edge.patient_call("DELETE", path, None)
    if removed.status != 200:
        raise PlatformError(
            "a function cannot be removed",
            where=f"DELETE {edge.url}{path}",
            found=removed.spoken(),
            expected="200",
            fix="see the controller's log",
            reason="answer",
        )
    return Passed(f"{name} registered, called, listed and removed")


def container_called(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """A container deployed as a function, called, scaled and removed. It is the runtime's image, which every node can
    get."""
    gateway = Gateway(cluster, options)
    runtime = _parsed(gateway.expect(200, "GET", f"/system/function/{options['language']}-runtime").body)
    name = f"verify-{secrets.token_hex(4)}"
    deployment = {"service": name, "image": runtime["image"], "envVars": _SMALL, "limits": {"memory": "192Mi"}}
    described = f"/system/function/{name}"

    def has(replicas: int) -> Callable[[Answer], bool]:
        return lambda answer: answer.status == 200 and _parsed(answer.body).get("availableReplicas", 0) == replicas

    gateway.expect(202, "POST", "/system/functions", {**deployment, "requests": {"memory": "96Mi", "cpu": "5m"}})
    try:
        gateway.until("GET", described, wait_seconds, "an available replica", has(1))
        # Its first pod may be ready before the gateway's node is let through to it.
        gateway.until("GET", f"/function/{name}/health", 15, "200", lambda answer: answer.status == 200)
        gateway.expect(202, "POST", f"/system/scale-function/{name}", {"serviceName": name, "replicas": 2})
        gateway.until("GET", described, wait_seconds, "two available replicas", has(2))
    finally:
        removed = gateway.call("DELETE", "/system/functions", {"functionName": name})
    if removed.status != 202:
        raise gateway.problem("DELETE /system/functions", removed, "202")
    gateway.until("GET", described, wait_seconds, "404, as it is removed", lambda answer: answer.status == 404)
    return Passed(f"{name} deployed, called, scaled to 2 and removed")


def queued_call(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """A call that is stored, made by a worker, and whose result is kept."""
    gateway, language = Gateway(cluster, options), options["language"]
    numbers, total = _numbers()
    path = f"/async-function/{language}-runtime/execute"
    # NATS may just have lost a server, and says so with 503; nothing is stored then.
    request = _execution(language, numbers)
    accepted = wait_until(lambda: gateway.call("POST", path, request), 20, 1, done=lambda answer: answer.status != 503)
    call = accepted.headers.get("x-call-id", "")
    if accepted.status != 202 or not call:
        raise gateway.problem(f"POST {path}", accepted, "202 with X-Call-Id")

    def ended(answer: Answer) -> bool:
        state = _parsed(answer.body) if answer.status == 200 else None
        return isinstance(state, dict) and state.get("state") in ("done", "dead")

    told = gateway.until("GET", f"/async-function/{call}", wait_seconds, "the call's end", ended)
    state = _parsed(told.body)
    body = b""
    with contextlib.suppress(ValueError):
        body = base64.b64decode(state.get("body") or "")
    if state["state"] != "done" or state.get("status") != 200 or _total(_parsed(body)) != total:
        raise gateway.problem(f"GET /async-function/{call}", told, f"done, with status 200 and the total {total}")
    return Passed(f"a call of {language}-runtime queued, made and its result kept")
