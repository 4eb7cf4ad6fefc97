"""Rendering of the roles' charts by the real helm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHARTS = sorted(path.parent for path in ROOT.glob("roles/*/files/charts/*/Chart.yaml") if path.parent.name != "library")
VALUES = Path(__file__).resolve().parent / "values"

Manifest = dict[str, Any]


class RenderError(Exception):
    """Helm refused; the text is its error output."""


class Objects(list[Manifest]):
    """The rendered objects of a chart."""

    def of(self, kind: str) -> list[Manifest]:
        return [obj for obj in self if obj["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        found = [obj for obj in self.of(kind) if obj["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
        return found[0]

    def workloads(self) -> list[Manifest]:
        return [obj for obj in self if obj["kind"] in ("Deployment", "StatefulSet", "DaemonSet")]


Render = Callable[..., Objects]


@pytest.fixture(scope="session")
def helm() -> str:
    """The helm program: of the PATH, or the one that playbooks/cluster.yml builds."""
    program = shutil.which("helm") or shutil.which("helm", path=str(ROOT / ".local" / "bin"))
    if program is None:
        pytest.fail("helm is neither in the PATH nor in .local/bin")
    return program


@pytest.fixture(scope="session")
def render(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """``render(chart_dir, values, kube_version="1.37.0")``: what helm makes of a chart, over the values that its tests
    share (values/NAME.yaml)."""

    def rendered(chart: Path, values: Manifest | None = None, kube_version: str = "1.37.0") -> Objects:
        given = tmp_path_factory.mktemp("values") / "values.yaml"
        given.write_text(yaml.safe_dump(values or {}), encoding="utf-8")
        shared = VALUES / f"{chart.name}.yaml"
        files = [str(path) for path in (shared, given) if path.exists()]
        command = [helm, "template", chart.name, str(chart), "--namespace", "test", "--kube-version", kube_version]
        done = subprocess.run(
            [*command, *(word for path in files for word in ("--values", path))],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RenderError(done.stderr)
        return Objects(obj for obj in yaml.safe_load_all(done.stdout) if obj)

    return rendered
