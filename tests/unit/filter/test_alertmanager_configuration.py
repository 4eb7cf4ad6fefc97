"""Alertmanager's configuration, as amtool judges and routes it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.filter.alertmanager_configuration import (
    alertmanager_configuration,
)

ROOT = Path(__file__).resolve().parents[3]
RECEIVERS = [
    {"name": "on-call", "type": "webhook", "severities": ["P1"], "secret": {"name": "hook", "key": "url"}},
    {
        "name": "team", "type": "slack", "severities": ["P1", "P2"], "channel": "#a",
        "secret": {"name": "slack", "key": "url"},
    },
    {
        "name": "mail", "type": "email", "to": "a@example.com", "from": "b@example.com", "smarthost": "mail:587",
        "username": "u", "secret": {"name": "mail", "key": "password"},
    },
]  # fmt: skip


@pytest.fixture(scope="session")
def amtool():
    """Alertmanager's own tool, of the pinned version (built by tests/run)."""
    program = ROOT / ".local/amtool/amtool"
    if not program.exists():
        if shutil.which("go") is None:
            pytest.skip("Go is missing, which builds amtool")
        subprocess.run([ROOT / "tools/go-programs", "amtool", program.parent], check=True)
    return program


@pytest.fixture
def written(tmp_path):
    def write(receivers):
        path = tmp_path / "alertmanager.yml"
        path.write_text(json.dumps(alertmanager_configuration(receivers)["configuration"]))
        return path

    return write


@pytest.mark.parametrize("receivers", [[], RECEIVERS], ids=["nobody", "three"])
def test_amtool_accepts_it(amtool, written, receivers):
    ran = subprocess.run([amtool, "check-config", written(receivers)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr + ran.stdout


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("severity=P1", "on-call,team,mail"),
        ("severity=P2", "team,mail"),
        ("severity=P3", "mail"),
        ("alertname=Watchdog", "nobody"),
    ],
)
def test_who_is_told(amtool, written, labels, told):
    argv = [amtool, "config", "routes", "test", f"--config.file={written(RECEIVERS)}", labels]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == told


def test_a_wrong_receiver_is_refused(amtool, written):
    wrong = [{**RECEIVERS[2], "smarthost": "mail"}]
    ran = subprocess.run([amtool, "check-config", written(wrong)], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "mail" in ran.stderr + ran.stdout


def test_secrets_are_files_and_ports_are_those_of_the_receivers():
    made = alertmanager_configuration(RECEIVERS)
    assert made["secrets"] == ["hook", "mail", "slack"]
    assert made["ports"] == [443, 587]
    assert alertmanager_configuration([])["ports"] == []
    hook = next(r for r in made["configuration"]["receivers"] if r["name"] == "on-call")["webhook_configs"][0]
    assert hook["url_file"] == "/etc/alertmanager/secrets/hook/url"


def test_a_p1_keeps_its_component_s_others_quiet():
    (rule,) = alertmanager_configuration([])["configuration"]["inhibit_rules"]
    assert rule["equal"] == ["component"]
    assert 'component =~ ".+"' in rule["source_matchers"], "alerts without a component would all be of the same one"
