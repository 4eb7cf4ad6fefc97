"""Logs: what is found, what is never in them, and that none is lost. The platform with logging_enabled: true.

STORE_AWAY_SECONDS is how long the store is away in its test: 600, or less to try it.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs import logs
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.victorialogs import query

from .checkout import run
from .edge_load import AUTHORITY, URL

pytestmark = pytest.mark.cluster

STORE, AGENTS = "monitoring", "node-agents"
AWAY_SECONDS = int(os.environ.get("STORE_AWAY_SECONDS", "600"))
LATE_SECONDS = 60
"""An agent looks at a quiet pod every 10 s, and a busy machine takes its time."""

Rows = list[dict[str, Any]]
Ask = Callable[[str], Rows]
Write = Callable[..., str]


@pytest.fixture
def ask(cluster: Cluster) -> Ask:
    return lambda wanted: query(cluster, STORE, wanted)


def eventually(look: Callable[[], Any], seconds: float = LATE_SECONDS) -> Any:
    """What ``look`` gives once it is true, or at the end of the time."""
    ends = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < ends:
        time.sleep(1)
    return found


def call(path: str, body: object, **headers: str) -> tuple[int, Any, str]:
    """Status, body and request id of an answer of the edge."""
    trust = ssl.create_default_context(cafile=AUTHORITY)
    given = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), given)  # noqa: S310 - the edge's address is https
    try:
        with urllib.request.urlopen(request, timeout=60, context=trust) as answer:  # noqa: S310
            return answer.status, json.load(answer), answer.headers["x-request-id"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers["x-request-id"]


def executed(script: str, params: object = None, query_string: str = "", **headers: str) -> tuple[int, str]:
    """Status and request id of the execution of a Python script."""
    user = {"X-User-ID": f"logs-{secrets.token_hex(4)}", **headers}
    made = {"script_content": script, "context": {"kept": params}}
    status, session, _ = call("/api/v1/initialize", made, **user, **{"Language-Title": "python-logs"})
    assert status == 200, session
    path = f"/api/v1/execute/{session['request_id']}{query_string}"
    status, _, request = call(path, {"params": params}, **user)
    return status, request


@pytest.mark.parametrize("trace", ["", "4bf92f3577b34da6a3ce929d0e0e4736"])
def test_the_lines_of_a_request_are_found_over_all_components(kubeconfig: str, ask: Ask, trace: str) -> None:
    trace = trace and secrets.token_hex(16)
    given = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"} if trace else {}
    status, request = executed("result = params", 7, **given)
    assert status == 200
    wanted = {"ingress", "controller", "openfaas-fn"}
    rows = eventually(lambda: (found := ask(f'request_id:="{request}"')) and len(found) >= len(wanted) and found)
    by_namespace = {row["kubernetes.pod_namespace"]: row for row in rows}
    assert by_namespace.keys() == wanted
    edge, controller, runtime = (by_namespace[name] for name in ("ingress", "controller", "openfaas-fn"))
    # Each component's JSON is fields, and every line says whose it is.
    assert (edge["status"], edge["route"], edge["method"]) == ("200", "execute", "POST")
    assert (controller["status"], controller["outcome"], controller["_msg"]) == ("200", "ok", "request")
    assert (runtime["outcome"], runtime["_msg"]) == ("OK", "executed")
    assert all(row["kubernetes.pod_node_name"] and row["kubernetes.container_name"] for row in rows)
    assert controller["trace_id"] == runtime["trace_id"] == (trace or request.replace("-", ""))
    assert edge.get("trace_id", "") == trace
    for given_id in (request, trace or request.replace("-", "")):
        told = logs.run(
            {"kubeconfig": kubeconfig, "request": given_id, "namespace": STORE, "backend": "victorialogs"}
            | {"enabled": True, "retention_days": 7},
            check_mode=False,
            diff=False,
        )
        times = [line["time"] for line in told["lines"]]
        assert times == sorted(times)
        assert told["lines"][0]["namespace"] == "ingress"
        assert {line["namespace"] for line in told["lines"]} == wanted
    print("\n".join(told["table"]))


def test_patronis_lines_are_fields_too(ask: Ask) -> None:
    rows = ask('_time:1h {kubernetes.container_name="postgresql"} level:=INFO | limit 5')
    assert rows, "no line of Patroni with a level in the last hour"
    assert all(row["_msg"] and not row["_msg"].startswith("{") for row in rows)


def test_what_is_secret_is_in_no_line(ask: Ask) -> None:
    planted = {
        name: f"planted{name}{secrets.token_hex(8)}"
        for name in ("bearer", "key", "script", "params", "query", "cookie")
    }
    headers = {
        "Authorization": f"Bearer {planted['bearer']}",
        "X-API-Key": planted["key"],
        "Cookie": f"session={planted['cookie']}",
        "User-Agent": (seen := f"seen{secrets.token_hex(8)}"),
    }
    last = ""
    for script in (
        f"result = '{planted['script']}'",
        f"raise ValueError('{planted['script']}')",
        f"print('{planted['script']}')\nprint(params)\nresult = undefined",
        f"this is no Python '{planted['script']}",
    ):
        _, last = executed(script, planted["params"], f"?token={planted['query']}", **headers)
    assert eventually(lambda: len(ask(f'request_id:="{last}"')) >= 2)
    time.sleep(15)  # whoever else could have written it has been looked at by now
    assert ask(f'*:"{seen}" | limit 1'), "what is in the logs is found by its word"
    for name, word in planted.items():
        assert not ask(f'*:"{word}" | limit 1'), f"the {name} is in the logs"


@pytest.fixture
def write(cluster: Cluster, namespace: str, image: str) -> Iterator[Write]:
    """Starts a pod that writes numbered lines, ``rate`` a second; its marker is in each of them."""

    def begin(lines: int, rate: int, node: str = "") -> str:
        marker = f"lines{secrets.token_hex(6)}"
        # mawk's own buffer is emptied each time; what is left of the second is slept through.
        program = (
            "BEGIN { for (n = 1; n <= lines; n++) {"
            ' printf "{\\"marker\\":\\"%s\\",\\"n\\":%d,\\"text\\":\\"%s\\"}\\n", marker, n, filler;'
            ' if (n % rate == 0) { fflush(); system("sleep " pause) } } }'
        )
        pause = "1" if rate < 5000 else "0.8"
        variables = {"lines": str(lines), "rate": str(rate), "marker": marker, "filler": "x" * 100, "pause": pause}
        words = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            **({"nodeName": node} if node else {}),
            "containers": [
                {
                    "name": "writer",
                    "image": image,
                    "command": ["sh", "-c", 'awk "$@"; sleep 3600', "awk", *words, program],
                    "resources": {"limits": {"memory": "64Mi"}},
                }
            ],
        }
        metadata = {"name": marker, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "test")
        started = eventually(lambda: (pod_of(cluster, namespace, marker).get("status") or {}).get("phase") == "Running")
        assert started, f"{marker} does not run"
        return marker

    yield begin


def pod_of(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    return cluster.get({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name}) or {}


def counted(ask: Ask, marker: str) -> tuple[int, int]:
    """How many lines of the writer the store has, and how many different ones."""
    (row,) = ask(f"marker:={marker} | stats count() lines, count_uniq(n) numbers")
    return int(row["lines"]), int(row["numbers"])


def agent_on(node: str) -> str:
    chosen = ["-l", "app.kubernetes.io/name=vlagent", "--field-selector", f"spec.nodeName={node}"]
    return run("kubectl", "-n", AGENTS, "get", "pods", *chosen, "-o", "name").stdout.strip()


def used_by_buffer(node: str) -> int:
    """Bytes of the agent's folder on the node."""
    return int(run("docker", "exec", node, "du", "-sb", "/var/lib/vlagent").stdout.split()[0])


def memory_of(node: str) -> int:
    """Of the agent's process, resident, in bytes."""
    look = "cat /proc/$(pgrep -x vlagent)/status"
    text = run("docker", "exec", node, "sh", "-c", look).stdout
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) << 10


@pytest.fixture
def kubectl(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG for the programs that the tests call."""
    monkeypatch.setenv("KUBECONFIG", kubeconfig)


def test_nothing_is_lost_while_the_store_is_away(
    ask: Ask, write: Write, cluster: Cluster, namespace: str, kubectl: None
) -> None:
    rate = 500
    wanted = rate * (AWAY_SECONDS + 20)
    marker = write(wanted, rate)
    node = pod_of(cluster, namespace, marker)["spec"]["nodeName"]
    assert eventually(lambda: counted(ask, marker)[0] > 0), "its first lines do not come"
    before = used_by_buffer(node)
    run("kubectl", "-n", STORE, "scale", "statefulset/victorialogs", "--replicas=0")
    try:
        time.sleep(AWAY_SECONDS)
        held = used_by_buffer(node)
    finally:
        run("kubectl", "-n", STORE, "scale", "statefulset/victorialogs", "--replicas=1")
        run("kubectl", "-n", STORE, "rollout", "status", "statefulset/victorialogs", "--timeout=120s")
    began = time.monotonic()
    whole = eventually(lambda: counted(ask, marker) == (wanted, wanted), 30 + LATE_SECONDS)
    print(
        f"store away for {AWAY_SECONDS} s, {rate} lines a second beside the others': the buffer grew by "
        f"{held - before} bytes, all {wanted} lines were there {time.monotonic() - began:.0f} s after it was back"
    )
    assert whole, counted(ask, marker)


def test_nothing_is_lost_when_an_agent_is_replaced(
    ask: Ask, write: Write, cluster: Cluster, namespace: str, kubectl: None
) -> None:
    marker = write(12_000, 400)
    node = pod_of(cluster, namespace, marker)["spec"]["nodeName"]
    assert eventually(lambda: counted(ask, marker)[0] > 0), "its first lines do not come"
    run("kubectl", "-n", AGENTS, "delete", agent_on(node))
    whole = eventually(lambda: counted(ask, marker) == (12_000, 12_000), 30 + LATE_SECONDS)
    assert whole, counted(ask, marker)


def test_an_agent_that_is_killed_reads_again_what_it_may_not_have_sent(
    ask: Ask, write: Write, cluster: Cluster, namespace: str, kubectl: None
) -> None:
    marker = write(12_000, 400)
    node = pod_of(cluster, namespace, marker)["spec"]["nodeName"]
    assert eventually(lambda: counted(ask, marker)[0] > 0), "its first lines do not come"
    run("docker", "exec", node, "sh", "-c", "kill -9 $(pgrep -x vlagent)")
    eventually(lambda: counted(ask, marker)[1] == 12_000, 30 + LATE_SECONDS)
    lines, numbers = counted(ask, marker)
    print(f"an agent killed: {lines - numbers} of 12000 lines are there twice")
    assert numbers == 12_000


def test_a_flood_of_one_pod_neither_stops_others_nor_fills_the_disk(
    ask: Ask, write: Write, cluster: Cluster, namespace: str, kubectl: None
) -> None:
    quiet = write(300, 10)
    node = pod_of(cluster, namespace, quiet)["spec"]["nodeName"]
    before = used_by_buffer(node)
    began = time.monotonic()
    flood = write(400_000, 20_000, node)
    buffer, memory, arrived = [], [], []
    while time.monotonic() - began < 40:
        buffer.append(used_by_buffer(node))
        memory.append(memory_of(node))
        arrived.append(counted(ask, quiet)[1])
        time.sleep(1)
    others = eventually(lambda: counted(ask, quiet) == (300, 300))
    came = eventually(lambda: (found := counted(ask, flood)) == (400_000, 400_000) and found, 120) or counted(
        ask, flood
    )
    took = time.monotonic() - began
    (span,) = ask(f"marker:={flood} | stats min(_time) as begins, max(_time) as ends")
    longest = max((sum(1 for _ in group) for group in same(arrived)), default=0)
    print(
        f"a flood of 400000 lines, {span['begins']} to {span['ends']}: {came[0]} lines, {came[1]} different ones "
        f"{took:.0f} s after its begin; the buffer grew by {max(buffer) - before} bytes, the agent to "
        f"{max(memory) >> 20} MiB; the other pod's lines stood still for {longest} looks at the longest"
    )
    assert others, counted(ask, quiet)
    assert max(buffer) - before < 1 << 30, "the buffer's bound is 1Gi here"
    assert max(memory) < 128 << 20, "the agent's limit"
    assert longest < 20, "the other pod's lines did not come while the flood lasted"
    # What the kubelet rotates away before the agent has read it is lost; on an idle machine that is nothing.
    assert came[1] >= 0.9 * 400_000


def same(values: list[int]) -> Iterator[list[int]]:
    """Runs of the same number, while it is not the whole."""
    group: list[int] = []
    for value in values:
        if value == 300:
            break
        if group and group[-1] != value:
            yield group
            group = []
        group.append(value)
    if group:
        yield group
