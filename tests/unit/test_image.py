"""Image tags follow content, and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils import image
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from hypothesis import given
from hypothesis import strategies as st

SOURCES = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=16)), max_size=5)


@given(SOURCES, SOURCES)
def test_two_contents_have_one_tag_only_if_they_are_equal(one: list[Any], other: list[Any]) -> None:
    assert (image.content_tag(one) == image.content_tag(other)) == (one == other)


@given(st.text(max_size=6), st.binary(max_size=6), st.binary(min_size=1, max_size=6))
def test_bytes_that_move_between_two_files_change_the_tag(name: str, head: bytes, tail: bytes) -> None:
    assert image.content_tag([(name, head + tail), ("b", b"")]) != image.content_tag([(name, head), ("b", tail)])


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments for one image whose base and compiler are fixed, and a registry that is a dict."""
    folder = tmp_path / "images" / "edge"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "README.md").write_text("what it is\n")
    monkeypatch.setattr(image, "_output", lambda argv, folder=None: b"fixed")
    registry: dict[str, str] = {}
    monkeypatch.setattr(image, "registry_digest", lambda repository, tag: registry.get(tag))
    return {
        "registry": registry,
        "folder": folder,
        "params": {
            "images": [{"name": "edge", "context": "images/edge", "base": "trixie", "artifacts": []}],
            "root": str(tmp_path),
            "repository": "localhost:5001/lambda/",
            "base_images": {"trixie": "debian:trixie-slim"},
            "cache_dir": str(tmp_path / "cache"),
            "output": str(tmp_path / "images.json"),
        },
    }


def _run(table: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    return image.run(table["params"], check_mode=check_mode, diff=True, progress=lambda line: None)


def test_check_mode_says_what_would_be_built_and_writes_nothing(table: dict[str, Any]) -> None:
    result = _run(table, check_mode=True)
    assert result["changed"] and result["built"] == ["edge"]
    assert not Path(table["params"]["output"]).exists()


def test_an_image_that_the_registry_has_is_not_built_and_the_table_is_written_once(table: dict[str, Any]) -> None:
    tag = _run(table, check_mode=True)["images"]["edge"]["tag"]
    table["registry"][tag] = "sha256:1"
    first = _run(table)
    assert first["changed"] and first["built"] == []
    written = json.loads(Path(table["params"]["output"]).read_text())
    assert written == {"edge": {"repository": "localhost:5001/lambda/edge", "tag": tag, "digest": "sha256:1"}}
    assert not _run(table)["changed"]


def test_the_tag_follows_the_sources_and_the_base_but_not_the_readme(table: dict[str, Any]) -> None:
    def tag() -> str:
        return _run(table, check_mode=True)["images"]["edge"]["tag"]

    before = tag()
    (table["folder"] / "README.md").write_text("something else\n")
    assert tag() == before
    (table["folder"] / "script").write_text("#!/bin/sh\n")
    with_script = tag()
    assert with_script != before
    (table["folder"] / "script").chmod(0o755)
    assert tag() != with_script


def test_a_missing_dockerfile_and_an_unknown_base_are_named(table: dict[str, Any]) -> None:
    table["params"]["images"][0]["base"] = "sid"
    with pytest.raises(PlatformError, match=r"unknown base\. Found: sid\. Expected: one of trixie"):
        _run(table)
    (table["folder"] / "Dockerfile").unlink()
    with pytest.raises(PlatformError, match="edge has no Dockerfile"):
        _run(table)


def test_a_name_that_is_used_twice_is_refused(table: dict[str, Any]) -> None:
    table["params"]["images"] *= 2
    with pytest.raises(PlatformError, match="edge is in the table more than once"):
        _run(table)


def test_a_go_program_changes_the_tag_by_its_package_its_module_and_its_compiler(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag(package: str = "example.org/service") -> str:
        artifact = {"cargo": None, "pypi": None, "folder": None, "path": None, "as": "service", "go": package}
        table["params"]["images"][0]["artifacts"] = [artifact]
        return _run(table, check_mode=True)["images"]["edge"]["tag"]

    first = tag()
    assert tag("example.org/other") != first
    (table["folder"] / "go.sum").write_text("example.org/service v1.0.0 h1:x=\n")
    pinned = tag()
    assert pinned != first
    monkeypatch.setattr(image, "_output", lambda argv, folder=None: b"go1.99")
    assert tag() != pinned


def test_a_go_program_is_built_from_the_module_beside_the_dockerfile(table: dict[str, Any]) -> None:
    (table["folder"] / "go.mod").write_text("module example.org/edge\n\ngo 1.21\n")
    (table["folder"] / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    params = table["params"]
    built = image._go_program("example.org/edge", image._Image(params["images"][0], params), Path(params["cache_dir"]))
    assert subprocess.run([built], capture_output=True, check=True).stderr == b"hello\n"
    (table["folder"] / "main.go").write_text("package main\n\nfunc main() { nothing() }\n")
    with pytest.raises(PlatformError, match=r"(?s)go could not build example\.org/edge.*undefined: nothing"):
        image._go_program("example.org/edge", image._Image(params["images"][0], params), Path(params["cache_dir"]))
