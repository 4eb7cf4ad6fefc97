"""Bills of materials and signatures of the local cluster's own images, with the real syft and cosign."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from .checkout import ROOT

pytestmark = pytest.mark.cluster

COSIGN = ROOT / ".local" / "cosign" / "cosign"
PASSWORD = {"COSIGN_PASSWORD": "of this test alone"}


def play(kubeconfig: str, folder: Path) -> str:
    secret = folder / "secret.json"
    secret.write_text(json.dumps({"images_cosign_password": PASSWORD["COSIGN_PASSWORD"]}))
    given = {"images_bills": str(folder / "bills"), "images_cosign_key": str(folder / "cosign.key")}
    command = ["ansible-playbook", "playbooks/images.yml", "-e", json.dumps(given), "-e", f"@{secret}", "-vv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stdout[-3000:]
    assert PASSWORD["COSIGN_PASSWORD"] not in done.stdout + done.stderr
    return done.stdout


def test_each_image_has_a_bill_and_a_signature_that_only_its_key_verifies(kubeconfig: str, tmp_path: Path) -> None:
    subprocess.run([ROOT / "tools/go-programs", "cosign", COSIGN.parent], check=True, timeout=3600)
    for name in ("cosign", "other"):
        make = [COSIGN, "generate-key-pair", "--output-key-prefix", name]
        subprocess.run(make, cwd=tmp_path, env={**os.environ, **PASSWORD}, check=True, timeout=60)
    play(kubeconfig, tmp_path)
    assert "changed=0" in play(kubeconfig, tmp_path)

    images = json.loads((ROOT / ".local" / "images.json").read_text())
    bills = [json.loads(path.read_text()) for path in (tmp_path / "bills").iterdir()]
    assert len(bills) == len({image["repository"] for image in images.values()})
    assert any(package["name"] == "redis-server" for bill in bills for package in bill["packages"])

    redis = "{repository}@{digest}".format(**images["redis"])
    verify = [COSIGN, "verify", "--insecure-ignore-tlog=true", "--allow-http-registry", "--key"]
    verified = subprocess.run([*verify, tmp_path / "cosign.pub", redis], capture_output=True, check=False, timeout=60)
    assert verified.returncode == 0, verified.stderr
    foreign = subprocess.run([*verify, tmp_path / "other.pub", redis], capture_output=True, check=False, timeout=60)
    assert foreign.returncode != 0
