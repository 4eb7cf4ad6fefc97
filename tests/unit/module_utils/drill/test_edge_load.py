"""A load at the edge from its start to its records, with a program in the place of the generator."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill import load as drill_load
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.load import EdgeLoad
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Answer

GENERATOR = """#!/bin/sh
while [ "$1" != -output ]; do shift; done
printf '1700000000000000000,200,5000000,0,0,,,run,0,GET,https://x,\\n' > "$2"
echo '{"at": 1.5, "acknowledged": 1, "failed": 0}'
trap 'exit 0' INT
while :; do sleep 0.05; done
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    generator = tmp_path / "load"
    generator.write_text(GENERATOR)
    generator.chmod(0o755)
    sessions = iter(range(1000))
    monkeypatch.setattr(
        drill_load.Edge,
        "call",
        lambda edge, method, path, body, headers: Answer(200, {}, json.dumps({"request_id": next(sessions)}).encode()),
    )
    spec = {"scripts": {"python": "result = 1"}, "shares": {}, "rate": 50, "users": 3, "timeout_seconds": 1}
    made = EdgeLoad(spec, str(generator), {"url": "https://localhost:1"})
    yield made
    made.remove()


def ticks_of(load):
    for _try in range(200):
        if ticks := load.ticks():
            return ticks
        time.sleep(0.02)
    raise AssertionError("no line of progress")


def test_from_the_start_to_the_records(load):
    load.start([])
    assert ticks_of(load)[0].acknowledged == 1
    targets = [json.loads(line) for line in (Path(load.folder) / "targets").read_text().splitlines()]
    assert len({target["header"]["X-User-ID"][0] for target in targets}) == 3
    assert len({target["url"] for target in targets}) == 3
    (request,) = load.stop()
    assert request.acknowledged
    folder = load.folder
    load.remove()
    assert not Path(folder).exists()


def test_a_load_that_is_taken_away_has_no_process_left(load):
    load.start([])
    ticks_of(load)
    process = load.process
    load.remove()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_generator_that_ends_is_told_with_its_last_words(load):
    Path(load.generator).write_text("#!/bin/sh\necho 'load: no such host' >&2\nexit 1\n")
    load.start([])
    with pytest.raises(PlatformError, match="no such host"):
        ticks_of(load)


def test_a_generator_that_is_not_built_is_said(load):
    load.generator = "/nowhere/load"
    with pytest.raises(PlatformError, match="cannot be started"):
        load.start([])


def test_an_edge_that_gives_no_session_is_said(load, monkeypatch):
    monkeypatch.setattr(drill_load.Edge, "call", lambda *arguments: Answer(429, {}, b"slow down"))
    with pytest.raises(PlatformError, match="429 slow down"):
        load.start([])
