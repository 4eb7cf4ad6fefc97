"""An earlier platform becomes this checkout's under load: no request fails, and what was there before is there after.

Part of `make upgrade-test`, which deploys the earlier one; not of `make cluster-test`, whose platform is this one.
EXTRA_VARS are site.yml's.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

from .checkout import ROOT
from .edge_load import AUTHORITY, KEPT, URL, Load, assert_no_failure

pytestmark = pytest.mark.cluster

RATE = 20
"""Requests a second: everything is replaced meanwhile, on two processors."""


def test_nothing_fails_and_nothing_is_lost(tmp_path: Path) -> None:
    edge = Edge(URL, ca_file=AUTHORITY)
    before = edge.initialize("python", "result = context['kept'] + params['n']", {"kept": 40})["request_id"]
    name = f"python-upgraded-{secrets.token_hex(3)}"
    assert edge.call("PUT", f"/api/v1/functions/{name}", {"script_content": "result = params['n'] * 2"}).status < 300

    load = Load(tmp_path, KEPT, rate=RATE)
    began = time.monotonic()
    with load.running():
        command = ["ansible-playbook", "--inventory=inventories/local", f"--extra-vars={os.environ['EXTRA_VARS']}"]
        done = subprocess.run([*command, "site.yml"], cwd=ROOT, check=False, timeout=1800)
    assert done.returncode == 0
    print(f"site.yml took {time.monotonic() - began:.0f} s")

    assert edge.execute(before, {"n": 2}).json()["result"] == 42
    assert edge.call("POST", f"/function/{name}", {"n": 21}).json() == 42
    assert_no_failure(load, "upgrade", RATE * 30)
