"""Every place of every runtime holds what a script may hold at most, at once: no container is ended, no pod evicted."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.runtime_memory import memory

from .edge_load import call

pytestmark = pytest.mark.cluster

HELD_SECONDS = 6
FILES = 60
"""MiB of the 64 that a script may write."""
SCRIPTS = {
    "python": """
import time
kept = bytearray(b'x') * (params['memory'] << 20)
with open('file', 'wb') as file:
    for _ in range(params['files']):
        file.write(b'x' * (1 << 20))
began = time.time()
time.sleep(params['seconds'])
result = [began, time.time(), len(kept) >> 20]
""",
    "nodejs": """
const {appendFileSync} = require('fs');
const kept = Buffer.alloc(params.memory << 20, 'x'), piece = Buffer.alloc(1 << 20, 'x');
for (let n = 0; n < params.files; n++) appendFileSync('file', piece);
const began = Date.now() / 1000;
await new Promise(done => setTimeout(done, params.seconds * 1000));
return [began, Date.now() / 1000, kept.length >> 20];
""",
    "rust": """
use std::io::Write;
fn handle(params: Value, _: Value) -> Result<Value, String> {
    let number = |name: &str| params[name].as_u64().unwrap() as usize;
    let kept = vec![b'x'; number("memory") << 20];
    let mut file = std::fs::File::create("file").map_err(|error| error.to_string())?;
    for _ in 0..number("files") { file.write_all(&kept[..1 << 20]).map_err(|error| error.to_string())?; }
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let began = now();
    std::thread::sleep(std::time::Duration::from_secs(number("seconds") as u64));
    Ok(json!([began, now(), std::hint::black_box(kept).len() >> 20]))
}
""",
}
MEMORY = {"python": 220, "nodejs": 170, "rust": 240}
"""MiB of the 256 that a script's process may have, beside what its interpreter has."""


def pods() -> dict[str, dict]:
    """The runtimes' pods: their language, whether they run, and how often their container was started again."""
    command = ["kubectl", "-n", "openfaas-fn", "get", "pods", "-o", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)["items"]
    return {
        pod["metadata"]["name"]: {
            "language": pod["metadata"]["labels"]["app.kubernetes.io/name"].removesuffix("-runtime"),
            "phase": pod["status"]["phase"],
            "restarts": [status["restartCount"] for status in pod["status"].get("containerStatuses", [])],
            "places": places(pod),
        }
        for pod in listed
    }


def places(pod: dict) -> int:
    (container,) = pod["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    limits = container["resources"]["limits"]
    language = pod["metadata"]["labels"]["app.kubernetes.io/name"].removesuffix("-runtime")
    return memory(language, limits["memory"], limits["cpu"], environment).places


def most_at_once(spans: list[tuple[float, float]]) -> int:
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)


def test_full_of_the_largest_scripts(kubeconfig, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    before = pods()
    assert all(pod["phase"] == "Running" for pod in before.values())
    full = {
        language: sum(pod["places"] for pod in before.values() if pod["language"] == language) for language in SCRIPTS
    }

    def execute(language: str, number: int) -> list | str:
        user = {"X-User-ID": f"memory-{time.time_ns()}-{number}"}
        script, title = {"script_content": SCRIPTS[language]}, {"Language-Title": f"{language}-memory"}
        session = call("/api/v1/initialize", script, **user, **title)
        params = {"memory": MEMORY[language], "files": FILES, "seconds": HELD_SECONDS}
        try:
            return call(f"/api/v1/execute/{session['request_id']}", {"params": params}, **user)["result"]
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"

    # Twice as many as there are places: where all are full, the others are told so.
    wanted = [(language, number) for language in SCRIPTS for number in range(2 * full[language])]
    with ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(lambda one: (one[0], execute(*one)), wanted))
    refused = [answer for _, answer in answers if isinstance(answer, str)]
    # Busy is an answer; that the memory did not suffice, or that a process was ended, is none.
    assert all(answer.startswith("503") for answer in refused), refused
    held = [(language, answer) for language, answer in answers if not isinstance(answer, str)]
    assert {(language, kept) for language, (_, _, kept) in held} == set(MEMORY.items())
    for language, count in full.items():
        assert most_at_once([(begin, end) for one, (begin, end, _) in held if one == language]) == count
    assert pods() == before
