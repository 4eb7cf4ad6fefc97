"""The rules, and the programs that judge them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RULES = sorted((ROOT / "roles" / "monitoring" / "files" / "rules").glob("*.yaml"))


def rules_of(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


# Watchdog fires always: it has no severity, and no case in which it is quiet.
ALERTS = [(path, rule) for path in RULES for rule in rules_of(path) if "alert" in rule and rule["alert"] != "Watchdog"]


def programs(module: str) -> Path:
    """The folder with the Go programs of tools/MODULE, built at the first time."""
    folder = ROOT / ".local" / module
    subprocess.run([ROOT / "tools" / "go-programs", module, folder], check=True, timeout=3600)
    return folder


@pytest.fixture(scope="session")
def promtool() -> Path:
    return programs("prometheus") / "promtool"


@pytest.fixture(scope="session")
def slo() -> Path:
    return programs("slo") / "slo"
