"""A steady load through the edge, while something happens to the platform, and what became of each request.

EDGE_URL and EDGE_CA_FILE name the edge, or it is the local one's.
"""

from __future__ import annotations

import base64
import collections
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
URL = os.environ.get("EDGE_URL", "https://localhost:8443")
AUTHORITY = os.environ.get("EDGE_CA_FILE", str(ROOT / ".local" / "ca.crt"))
RATE = 50
USERS = 200
"""The edge counts by user: each is far below the limit of one."""

# How the load generator uses connections; a client of HTTP/2 has one for everything.
KEPT, NEW, HTTP2 = ["-http2=false"], ["-http2=false", "-keepalive=false"], ["-http2=true"]


def call(path: str, body: object, **headers: str) -> dict[str, Any]:
    """The JSON of the edge's answer to a POST; urllib's HTTPError where it refuses."""
    trust = ssl.create_default_context(cafile=AUTHORITY)
    content = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), content)  # noqa: S310 - the edge's address is https
    with urllib.request.urlopen(request, timeout=60, context=trust) as answer:  # noqa: S310
        return json.load(answer)


def programs() -> Path:
    """The folder of the load generator, built from tools/load where it is not yet."""
    folder = ROOT / ".local" / "load"
    if not (folder / "vegeta").exists():
        subprocess.run([ROOT / "tools" / "go-programs", "load", folder], check=True, timeout=900)
    return folder


class Load:
    """New sessions, ``rate`` a second, and what became of each.

    The controller answers them with Redis alone: a runtime that is busy and says so is not what these tests look for.
    """

    def __init__(self, folder: Path, connections: list[str], rate: int = RATE) -> None:
        self.results = folder / f"results-{secrets.token_hex(4)}"
        self.targets = folder / f"targets-{secrets.token_hex(4)}"
        self.rate = rate
        self.connections = connections

    @contextmanager
    def running(self, before_seconds: float = 3, after_seconds: float = 5) -> Iterator[None]:
        """The load, from a while before the body to a while after it."""
        target = {
            "method": "POST",
            "url": f"{URL}/api/v1/initialize",
            "body": base64.b64encode(b'{"script_content": "return params.n"}').decode(),
        }
        users = [f"load-{secrets.token_hex(3)}-{user}" for user in range(USERS)]
        fixed = {"Content-Type": ["application/json"], "Language-Title": ["nodejs-load"]}
        headers = [{**fixed, "X-User-ID": [user]} for user in users]
        self.targets.write_text("\n".join(json.dumps({**target, "header": header}) for header in headers))
        attack = [programs() / "vegeta", "attack", "-format=json", f"-targets={self.targets}", f"-rate={self.rate}"]
        attack += ["-duration=0", "-timeout=40s", "-max-workers=500", f"-root-certs={AUTHORITY}", *self.connections]
        with subprocess.Popen([*attack, f"-output={self.results}"]) as load:
            try:
                time.sleep(before_seconds)
                yield
                time.sleep(after_seconds)
            finally:
                load.send_signal(signal.SIGINT)  # it sends no more, and waits for the answers
                load.wait(60)

    def answers(self) -> list[dict[str, Any]]:
        """Each request with ``timestamp``, ``code`` (0: no answer), ``error`` and ``body``."""
        encode = [programs() / "vegeta", "encode", "-to=json", self.results]
        lines = subprocess.run(encode, capture_output=True, check=True, timeout=60).stdout.splitlines()
        return sorted((json.loads(line) for line in lines), key=lambda answer: str(answer["timestamp"]))

    def failures(self) -> str:
        """What failed, when and how; nothing where every request was answered with 200."""
        lines = []
        for answer in self.answers():
            if answer["code"] != 200:
                body = base64.b64decode(answer["body"] or "").decode(errors="replace")
                lines.append(f"{answer['timestamp']} {answer['code']} {answer['error']} {body[:200]}".rstrip())
        return "\n".join(lines)


def assert_no_failure(load: Load, name: str, at_least: int) -> None:
    """Every request has been answered with 200, and there were enough of them to mean something."""
    answers = load.answers()
    codes = collections.Counter(answer["code"] for answer in answers)
    slowest = max((answer["latency"] for answer in answers), default=0) / 1e9
    print(f"{name}: {len(answers)} requests, {dict(codes)}, {slowest:.1f} s at most")
    assert not load.failures(), f"{name}: of {len(answers)} requests failed\n{load.failures()}"
    assert len(answers) >= at_least, f"{name}: only {len(answers)} requests were sent"


Kubectl = Callable[..., str]


def restart(kubectl: Kubectl, app: str) -> None:
    """Replace every pod of a Deployment, and wait until the last old one is gone."""
    old = json.loads(kubectl("get", "pods", "-l", f"app.kubernetes.io/name={app}", "-o", "json"))["items"]
    kubectl("rollout", "restart", f"deployment/{app}")
    kubectl("rollout", "status", f"deployment/{app}", "--timeout=240s")
    # A finished Job of the same app has ended already.
    gone = [f"pod/{pod['metadata']['name']}" for pod in old if pod["status"]["phase"] == "Running"]
    kubectl("wait", "--for=delete", *gone, "--timeout=120s")
