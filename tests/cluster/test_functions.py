"""The gateway for functions as it runs: faas-cli's requests one after the other, and what it says of an image that does
not exist. The requests are images/openfaas/internal/api/testdata/faas-cli.json, which the gateway's own tests go
through as well.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.functions import Gateway

from .checkout import ROOT

pytestmark = pytest.mark.cluster

TABLE = ROOT / "images" / "openfaas" / "internal" / "api" / "testdata" / "faas-cli.json"
FUNCTIONS = "openfaas-fn"
OPTIONS = {
    "namespace": "openfaas",
    "language": "python",
    "gateway": "gateway",
    "port": 8080,
    "credentials": "basic-auth",
}


@pytest.fixture(scope="module")
def gateway(cluster: Cluster) -> Gateway:
    return Gateway(cluster, OPTIONS)


@pytest.fixture
def function(gateway: Gateway) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    for body in ({"functionName": name}, {"functionName": f"{name}-b"}):
        gateway.call("DELETE", "/system/functions", body)
    gateway.call("DELETE", "/system/secrets", {"name": name, "namespace": FUNCTIONS})


def mismatch(value: Any, shape: Any, where: str = "the answer") -> str:
    """What is not of the shape; empty where all is."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where} is {value!r}, expected an object"
        # Go leaves a number out that is 0.
        wanted = {name: inner for name, inner in shape.items() if inner != "number" or name in value}
        return next(filter(None, (mismatch(value.get(n), inner, f"{where}.{n}") for n, inner in wanted.items())), "")
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is {value!r}, expected a list"
        return next(filter(None, (mismatch(item, shape[0], f"{where}[]") for item in value)), "")
    kinds: dict[str, Any] = {"text": str, "number": (int, float), "truth": bool}
    fits = isinstance(value, kinds[shape]) and (shape == "truth" or not isinstance(value, bool)) and value != ""
    return "" if fits else f"{where} is {value!r}, expected {shape}"


def take(gateway: Gateway, step: dict[str, Any]) -> str:
    """One request; what is wrong with its answer, or nothing."""
    headers = {"User-Agent": "faas-cli/0.17.4 (openfaas; linux; amd64)", "Content-Type": "application/json"}
    answer = gateway.ask(step["method"], step["path"], step.get("body"), headers, login=step.get("login", True))
    text = answer.body.decode("utf-8", "replace")
    if answer.status != step["status"]:
        return f"{answer.status}, expected {step['status']}: {text[:300]}"
    for name, begin in step.get("headers", {}).items():
        found = answer.headers.get(name.lower(), "")
        if not found or not found.startswith(begin):
            return f"{name} is {found!r}, expected {begin!r}"
    line = text.removesuffix("\n")
    if step.get("error") and (not line or "\n" in line or "{" in line):
        return f"an error of one line of text was expected, found {text!r}"
    if step.get("holds") and f'"{step["holds"]}"' not in text:
        return f"{step['holds']} is not in it: {text[:300]}"
    if step.get("never") and step["never"] in text:
        return f"it tells {step['never']}"
    if "shape" in step:
        return mismatch(json.loads(text), step["shape"])
    if "lines" in step:
        return next(filter(None, (mismatch(json.loads(one), step["lines"]) for one in text.splitlines())), "")
    return ""


def test_faas_cli_gets_what_it_reads(gateway: Gateway, function: str) -> None:
    runtime = json.loads(gateway.expect(200, "GET", "/system/function/python-runtime").body)
    text = TABLE.read_text(encoding="utf-8")
    given = {"namespace": FUNCTIONS, "runtime": "python-runtime", "name": function, "secret": function}
    for name, value in {**given, "image": runtime["image"]}.items():
        text = text.replace(f"{{{name}}}", value)
    problems = []
    for step in json.loads(text)["steps"]:
        end = time.monotonic() + step.get("within", 0)
        while (problem := take(gateway, step)) and time.monotonic() < end:
            time.sleep(1)
        if problem:
            problems.append(f"{step['command']}: {step['method']} {step['path']}: {problem}")
    assert not problems


@pytest.mark.parametrize("callback", ["http://169.254.169.254/", "http://controller.controller.svc:8080/", "file:///x"])
def test_a_result_is_sent_nowhere_that_the_inventory_does_not_allow(gateway: Gateway, callback: str) -> None:
    headers = {"X-Callback-Url": callback, "X-User-ID": gateway.user}
    answer = gateway.ask("POST", "/async-function/python-runtime/execute", {}, headers, login=False)
    assert (answer.status, b"X-Callback-Url is refused" in answer.body) == (400, True), answer.body


def test_an_image_that_does_not_exist_is_the_reason_within_30_seconds(
    cluster: Cluster, gateway: Gateway, function: str
) -> None:
    image = "localhost:5001/no-such-image:1"
    gateway.expect(202, "POST", "/system/functions", {"service": function, "image": image, "namespace": FUNCTIONS})

    def told(answer: Any) -> bool:
        annotations = json.loads(answer.body).get("annotations") or {} if answer.status == 200 else {}
        return any("no-such-image" in str(value) for value in annotations.values())

    gateway.until("GET", f"/system/function/{function}", 30, "the reason, which names the image", told)
    pods = cluster.list("v1", "Pod", FUNCTIONS, f"faas_function={function}")
    names = {pod["metadata"]["name"] for pod in pods}
    events = cluster.list("v1", "Event", FUNCTIONS, None)
    said = [event["message"] for event in events if event["involvedObject"]["name"] in names]
    assert any("no-such-image" in message for message in said), said
