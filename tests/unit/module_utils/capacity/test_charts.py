"""What releases render to, and that a rendering is made once for the same content."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.charts import rendered
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

TEMPLATE = """
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}}
stringData: {password: {{ .Values.password }}}
---
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}}
spec:
  containers: [{name: one, image: {{ .Values.image | default "one" }}, env: [{name: A, value: {{ .Values.password }}}]}]
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 0.1.0\n")
    (folder / "templates/all.yaml").write_text(TEMPLATE)
    return folder


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The real one, and a file with its arguments, a line for each time that it ran."""
    real = shutil.which("helm") or shutil.which("helm", path=str(Path(__file__).parents[4] / ".local/bin"))
    assert real, "helm is neither in the PATH nor in .local/bin"
    script, ran = tmp_path / "helm", tmp_path / "ran"
    script.write_text(f'#!/bin/sh\necho "$*" >> {ran}\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(script), ran


def release(chart: Path, **values: Any) -> dict[str, Any]:
    return {"name": "one", "namespace": "space", "chart": str(chart), "values": {"password": "hunter2", **values}}


def test_the_same_content_is_rendered_once_and_holds_no_secret(
    chart: Path, helm: tuple[str, Path], tmp_path: Path
) -> None:
    program, ran = helm

    def images(**values: Any) -> str:
        (objects,) = rendered([release(chart, **values)], program, "1.34.0")
        assert not isinstance(objects, PlatformError)
        assert [obj["kind"] for obj in objects] == ["Secret", "Pod"]
        return str(objects[1]["spec"]["containers"][0]["image"])

    assert (images(), images()) == ("one", "one") and len(ran.read_text().splitlines()) == 1
    assert images(image="two") == "two" and len(ran.read_text().splitlines()) == 2
    text = (chart / "templates/all.yaml").read_text()
    (chart / "templates/all.yaml").write_text(text.replace('default "one"', 'default "three"'))
    assert images() == "three" and len(ran.read_text().splitlines()) == 3
    kept = list((tmp_path / "cache").rglob("*.json"))
    assert len(kept) == 3
    for file in kept:
        assert "hunter2" not in file.read_text()
        assert file.stat().st_mode & 0o077 == 0


def test_a_chart_that_does_not_render_is_named_and_the_others_are_not_lost(chart: Path, helm: tuple[str, Path]) -> None:
    program, _ran = helm
    broken = {**release(chart), "name": "two", "chart": os.fspath(chart / "nowhere")}
    found = rendered([broken, release(chart)], program, "1.34.0")
    assert isinstance(found[0], PlatformError) and "two cannot be rendered" in found[0].what
    assert isinstance(found[1], list) and len(found[1]) == 2


def test_what_a_schema_does_not_take_is_named_and_not_that_a_rule_is_broken(
    chart: Path, helm: tuple[str, Path]
) -> None:
    def size(pattern: str) -> dict[str, Any]:
        return {"properties": {"size": {"type": "string", "pattern": pattern}}}

    schema = {"allOf": [{**size("Gi$"), "propertyNames": {"enum": ["size", "image", "password"]}}, size("^[0-9]")]}
    (chart / "values.schema.json").write_text(json.dumps(schema))
    (found,) = rendered([release(chart, size="gb", colour="red")], helm[0], "1.34.0")
    assert isinstance(found, PlatformError)
    assert "'gb' does not match pattern 'Gi$'" in found.found and "'gb' does not match pattern '^[0-9]'" in found.found
    assert "invalid propertyName 'colour'" in found.found and "failed" not in found.found
    assert "hunter2" not in str(found)


class Repository(http.server.SimpleHTTPRequestHandler):
    """Answers whoever has the login."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:hunter2").decode():
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("way", ["options", "address", "wrong"])
def test_a_chart_of_a_repository_is_read_and_its_login_is_no_argument(
    tmp_path: Path, chart: Path, helm: tuple[str, Path], way: str
) -> None:
    program, ran = helm
    served = tmp_path / "served"
    subprocess.run([program, "package", str(chart), "-d", str(served)], check=True, capture_output=True)
    subprocess.run([program, "repo", "index", str(served)], check=True, capture_output=True)
    handler = functools.partial(Repository, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = "127.0.0.1:%d" % server.server_port
        login = {
            "options": {"repository_username": "me", "repository_password": "hunter2", "repository": f"http://{where}"},
            "address": {"repository": f"http://me:hunter2@{where}"},
            "wrong": {"repository": f"http://me:hunter3@{where}"},
        }[way]
        (found,) = rendered([{**release(Path("chart"), password="x"), **login}], program, "1.34.0")
        server.shutdown()
    assert "hunter" not in ran.read_text()
    if way == "wrong":
        assert isinstance(found, PlatformError) and "401" in found.found and "hunter" not in str(found)
    else:
        assert isinstance(found, list) and len(found) == 2


def test_a_missing_helm_is_told(chart: Path) -> None:
    with pytest.raises(PlatformError, match="platform_helm_binary"):
        rendered([release(chart)], "/nowhere/helm", "1.34.0")
