"""What a caller's code can do where it runs: compute, and nothing else. On a cluster that enforces no NetworkPolicies,
too.
"""

from __future__ import annotations

import json
import ssl
import urllib.request

import pytest

from .pods import kubectl

pytestmark = pytest.mark.cluster

PYTHON = r"""
import os, socket

def attempt(deed):
    try:
        return deed()
    except BaseException as failure:
        return "refused: " + type(failure).__name__

def connect(host, port):
    socket.create_connection((host, port), 3).close()
    return "reached"

def read(path):
    with open(path, "rb") as file:
        return "read" if file.read(1) else "empty"

def write(path):
    with open(path, "w") as file:
        file.write("x")
    return "written"

def spawn():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "spawned"

result = {
    "redis": attempt(lambda: connect(params["redis"], 6379)),
    "api": attempt(lambda: connect(params["api"], 443)),
    "own runtime": attempt(lambda: connect("127.0.0.1", 8080)),
    "supervisor's memory": attempt(lambda: read("/proc/1/mem")),
    "supervisor's environment": attempt(lambda: read("/proc/1/environ")),
    "token": attempt(lambda: read("/var/run/secrets/kubernetes.io/serviceaccount/token")),
    "root": attempt(lambda: write("/probe")),
    "binaries": attempt(lambda: write("/usr/local/bin/probe")),
    "a process": attempt(spawn),
    "kill": attempt(lambda: os.kill(1, 9) or "killed"),
}
"""

NODEJS = r"""
const attempt = async deed => {
  try { return await deed() } catch (failure) { return 'refused: ' + (failure.code || failure) }
};
const {readFileSync, writeFileSync} = require('fs');
const connect = (host, port) => new Promise((resolve, reject) => {
  const socket = require('net').connect({host, port, timeout: 3000}, () => { socket.destroy(); resolve('reached') });
  socket.on('error', reject); socket.on('timeout', () => { socket.destroy(); reject(new Error('timeout')) });
});
return {
  redis: await attempt(() => connect(params.redis, 6379)),
  api: await attempt(() => connect(params.api, 443)),
  'own runtime': await attempt(() => connect('127.0.0.1', 8080)),
  "supervisor's environment": await attempt(() => readFileSync('/proc/1/environ').length ? 'read' : 'empty'),
  root: await attempt(() => { writeFileSync('/probe', 'x'); return 'written' }),
  'a process': await attempt(() => {
    const child = require('child_process').spawnSync('/bin/true');
    if (child.error) throw child.error;
    return 'spawned';
  }),
  kill: await attempt(() => { process.kill(1, 9); return 'killed' }),
};
"""


def address(service: str, namespace: str) -> str:
    return json.loads(kubectl("-n", namespace, "get", "service", service, "-o", "json"))["spec"]["clusterIP"]


@pytest.mark.parametrize(("language", "script"), [("python", PYTHON), ("nodejs", NODEJS)], ids=["python", "nodejs"])
def test_a_script_reaches_nothing(language, script, edge):
    url, authority = edge
    trust = ssl.create_default_context(cafile=str(authority))

    def call(path, body, **headers):
        request = urllib.request.Request(  # noqa: S310 - the edge's address is https
            url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=40, context=trust) as answer:  # noqa: S310
            return json.load(answer)

    session = call("/api/v1/initialize", {"script_content": script}, **{"Language-Title": f"{language}-probe"})
    params = {"redis": address("redis-master", "data-services"), "api": address("kubernetes", "default")}
    attempts = call(f"/api/v1/execute/{session['request_id']}", {"params": params})["result"]
    assert len(attempts) >= 7
    assert {name: said for name, said in attempts.items() if not said.startswith("refused")} == {}
