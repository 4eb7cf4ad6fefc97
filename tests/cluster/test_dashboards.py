"""Every panel has data on the running platform, once it has been used; and the page is drawn of it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import urllib.error
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import read
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.queries import all_series, window
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import Prometheus

from .conftest import ROOT
from .edge_load import call

pytestmark = pytest.mark.cluster

SCRIPTS = {
    "nodejs": ["result = params.n * 2", "throw new Error('no')"],
    "python": ["result = params['n'] * 2", "raise ValueError('no')"],
    "rust": [
        "fn handle(params: Value, _: Value) -> Result<Value, String> { Ok(params) }",
        'fn handle(_: Value, _: Value) -> Result<Value, String> { Err("no".into()) }',
    ],
}
MAY_BE_EMPTY = {
    "Cluster capacity: Volumes used": "local volumes are folders, of whose use the kubelet says nothing",
    "Error rate: Errors of Redis and PostgreSQL": "its series begin with the first error",
}
"""Panels that a healthy local platform may have no data for, and why."""


@pytest.fixture(scope="module")
def used(cluster) -> None:
    """Some traffic, a part of which fails, over more than the window of a rate; and its scrapes."""
    ends = time.monotonic() + 75
    while time.monotonic() < ends:
        for language, scripts in SCRIPTS.items():
            for script in scripts:
                execute(language, script)
        time.sleep(2)
    time.sleep(20)


def execute(language: str, script: str) -> None:
    user = {"X-User-ID": "dashboards"}
    # Of this run alone, so that Rust compiles it.
    mark = f"{'#' if language == 'python' else '//'} {os.getpid()}\n"
    made = {"script_content": mark + script, "context": {}}
    begun = call("/api/v1/initialize", made, **user, **{"Language-Title": f"{language}-dashboards"})
    with contextlib.suppress(urllib.error.HTTPError):  # those that fail are counted, too
        call(f"/api/v1/execute/{begun['request_id']}", {"params": {"n": 2}}, **user)


def test_every_panel_has_data(cluster, used: None) -> None:
    panels = [panel for board in read(str(ROOT / "roles/monitoring/files/dashboards")) for panel in board.panels]
    panels = [panel for panel in panels if not panel.elsewhere]
    started = time.monotonic()
    series = all_series(Prometheus(cluster, "monitoring"), panels, window(15, 15, time.time()))
    print(f"\n{len(panels)} panels in {time.monotonic() - started:.1f} s")
    empty = {panel.name for panel, found in zip(panels, series, strict=True) if not found}
    assert empty <= set(MAY_BE_EMPTY)
    assert set(MAY_BE_EMPTY) <= {panel.name for panel in panels}


def test_the_playbook_draws_them(kubeconfig: str, tmp_path: Path, used: None) -> None:
    page = tmp_path / "dashboards.html"
    argv = [
        "ansible-playbook",
        "playbooks/dashboards.yml",
        "-e",
        f"dashboards_output={page}",
        "-e",
        "dashboards_minutes=15",
    ]
    done = subprocess.run(
        [*argv, "-e", f"platform_kubeconfig={kubeconfig}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())  # Ansible breaks its lines anywhere
    assert f"{page}: " in said and "of 8 dashboards" in said
    told = re.search(r"without data: (.*?)'? PLAY RECAP", said)
    assert set(told[1].split("; ") if told else ()) <= set(MAY_BE_EMPTY)
    assert "panels have data" in page.read_text(encoding="utf-8")
