"""Every place of every runtime holds what a script may hold at most, at once: no container is ended, no pod evicted."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from .edge_load import AUTHORITY, URL

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
time.sleep(params['seconds'])
result = len(kept) >> 20
""",
    "nodejs": """
const {appendFileSync} = require('fs');
const kept = Buffer.alloc(params.memory << 20, 'x'), piece = Buffer.alloc(1 << 20, 'x');
for (let n = 0; n < params.files; n++) appendFileSync('file', piece);
await new Promise(done => setTimeout(done, params.seconds * 1000));
return kept.length >> 20;
""",
    "rust": """
use std::io::Write;
fn handle(params: Value, _: Value) -> Result<Value, String> {
    let number = |name: &str| params[name].as_u64().unwrap() as usize;
    let kept = vec![b'x'; number("memory") << 20];
    let mut file = std::fs::File::create("file").map_err(|error| error.to_string())?;
    for _ in 0..number("files") { file.write_all(&kept[..1 << 20]).map_err(|error| error.to_string())?; }
    std::thread::sleep(std::time::Duration::from_secs(number("seconds") as u64));
    Ok((std::hint::black_box(kept).len() >> 20).into())
}
""",
}
MEMORY = {"python": 220, "nodejs": 170, "rust": 240}
"""MiB of the 256 that a script's process may have, beside what its interpreter has."""


def call(path: str, body: object, **headers: str) -> dict:
    trust = ssl.create_default_context(cafile=AUTHORITY)
    content = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), content)  # noqa: S310 - the edge's address is https
    with urllib.request.urlopen(request, timeout=60, context=trust) as answer:  # noqa: S310
        return json.load(answer)


def pods() -> dict[str, dict]:
    listed = subprocess.run(
        ["kubectl", "-n", "openfaas-fn", "get", "pods", "-o", "json"], capture_output=True, check=True, timeout=60
    )
    return {
        pod["metadata"]["name"]: {
            "language": pod["metadata"]["labels"]["app.kubernetes.io/name"].removesuffix("-runtime"),
            "restarts": [status["restartCount"] for status in pod["status"].get("containerStatuses", [])],
            "phase": pod["status"]["phase"],
        }
        for pod in json.loads(listed.stdout)["items"]
    }


def test_full_of_the_largest_scripts(kubeconfig, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    before = pods()
    assert all(pod["phase"] == "Running" for pod in before.values())

    def execute(language: str, number: int) -> str:
        user = {"X-User-ID": f"memory-{time.time_ns()}-{number}"}
        session = call(
            "/api/v1/initialize",
            {"script_content": SCRIPTS[language]},
            **user,
            **{"Language-Title": f"{language}-memory"},
        )
        params = {"memory": MEMORY[language], "files": FILES, "seconds": HELD_SECONDS}
        try:
            return call(f"/api/v1/execute/{session['request_id']}", {"params": params}, **user)["result"]
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"

    # As many of each language as its pods have places by the README's sum, and as many again, which wait.
    wanted = [
        (language, number)
        for language in SCRIPTS
        for number in range(
            8 * sum(pod["language"] == language for pod in before.values()) // (1 if language != "rust" else 2)
        )
    ]
    with ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(lambda one: (one[0], execute(*one)), wanted))
    held = [answer for answer in answers if answer[1] == MEMORY[answer[0]]]
    others = [answer for answer in answers if answer not in held]
    # Busy is an answer; that the memory did not suffice, or that a process was ended, is none.
    assert all(str(answer).startswith("503") for _, answer in others), others
    for language in SCRIPTS:
        assert sum(one == language for one, _ in held) >= 4, answers
    assert pods() == before
