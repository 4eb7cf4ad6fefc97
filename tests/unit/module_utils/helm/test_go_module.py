"""Charts and definitions in a pinned Go module."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import go_module
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import Helm, Source

from .test_program import SPEC

REFERENCE = "go:example.org/operator@v1.2.3/charts/one"


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of go that has one module, and writes down what it was asked and where."""
    module = tmp_path / "module"
    (module / "charts/one").mkdir(parents=True)
    (module / "charts/one/Chart.yaml").write_text("{name: one, version: 1.0.0}")
    program = tmp_path / "bin" / "go"
    program.parent.mkdir()
    program.write_text(
        "#!%s\nimport json, os, sys\n"
        "open(%r, 'w').write(json.dumps([sys.argv[1:], os.environ.get('GOFLAGS')]))\n"
        "if not sys.argv[-1].endswith('@v1.2.3'):\n"
        "    print(json.dumps({'Error': 'unknown revision'}))\n"
        "    sys.exit(1)\n"
        "print(json.dumps({'Dir': %r}))\n" % (sys.executable, str(tmp_path / "asked"), str(module))
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    return tmp_path


def test_a_folder_is_that_of_the_version_whatever_module_one_stands_in(go: Path) -> None:
    assert go_module.path_of(REFERENCE) == str(go / "module/charts/one")
    asked = (go / "asked").read_text()
    assert '"example.org/operator@v1.2.3"' in asked and '"-C"' in asked and '"-mod=mod"' in asked


def test_a_chart_can_be_one(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helm = go / "bin" / "helm"
    helm.write_text("#!/bin/sh\n")
    helm.chmod(0o755)
    source = Source.of({**SPEC, "chart": REFERENCE})
    assert source.is_elsewhere
    with Helm(str(helm), None) as program:
        chart = program.local_chart(source)
    assert (chart.name, chart.path) == ("one", str(go / "module/charts/one"))


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("go:example.org/operator@v9.9.9/charts/one", "unknown revision"),
        ("go:example.org/operator@v1.2.3/charts/two", "no charts/two in the module"),
        ("go:example.org/operator@v1.2.3", "no path in the module"),
    ],
)
def test_what_is_not_there_is_told(go: Path, reference: str, told: str) -> None:
    with pytest.raises(PlatformError, match=told) as caught:
        go_module.path_of(reference)
    assert caught.value.where == reference and caught.value.fix


def test_without_go_it_is_said_what_needs_it(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PlatformError, match="needs the program go"):
        go_module.path_of(REFERENCE)
