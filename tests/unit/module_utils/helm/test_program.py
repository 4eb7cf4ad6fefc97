"""What helm is given: arguments that fit, no secret among them, and a post-renderer that changes no type."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import plain
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import documents, key_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import (
    ARGUMENT_BYTES,
    Helm,
    Source,
    identity_of,
    in_arguments,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from hypothesis import given
from hypothesis import strategies as st

SPEC = {
    "chart": "w",
    "repository": None,
    "version": None,
    "plain_http": False,
    "repository_username": None,
    "repository_password": None,
}


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program in the place of helm that writes down how it was called, and says what HELM_SAYS holds."""
    program = tmp_path / "helm"
    calls = tmp_path / "calls"
    program.write_text(
        "#!%s\nimport json, os, sys\n"
        "opened = {name: open(os.environ[name]).read() for name in ('HELM_REPOSITORY_CONFIG', 'HELM_REGISTRY_CONFIG')"
        " if os.path.exists(os.environ.get(name, ''))}\n"
        "open(%r, 'a').write(json.dumps([sys.argv[1:], opened]) + '\\n')\n"
        "print(os.environ.get('HELM_SAYS', 'v3.22.0'))\n"
        "if ' '.join(sys.argv[1:]).startswith(os.environ.get('HELM_FAILS', '-')):\n"
        "    sys.exit('Error: failed')\n" % (sys.executable, str(calls))
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    helm = Helm(str(program), Cluster({"host": "https://127.0.0.1:1", "api_key": "token-of-the-task"}))
    helm.calls = lambda: [json.loads(line) for line in calls.read_text().splitlines()]
    return helm


@pytest.mark.parametrize(
    ("said", "version"),
    [("v3.13.0-rc.1", (3, 13)), ("v3.22", (3, 22)), ("v4.3.0+g1234567", (4, 3)), ("3.14.4", (3, 14))],
)
def test_a_helm_that_has_what_is_used_is_taken(helm, monkeypatch, said: str, version: tuple[int, int]) -> None:
    monkeypatch.setenv("HELM_SAYS", said)
    with helm:
        assert helm.version() == version


@pytest.mark.parametrize("said", ["v2.17.0", "v3.12.3", "v5.0.0", "", "hello"])
def test_any_other_is_refused_with_what_it_said(helm, monkeypatch, said: str) -> None:
    monkeypatch.setenv("HELM_SAYS", said)
    with helm, pytest.raises(PlatformError, match=r"Helm 3 \(3\.13 or later\) or Helm 4") as caught:
        helm.version()
    assert said in caught.value.found and caught.value.reason == "program"


@given(st.lists(st.text("abc/.1", min_size=1, max_size=200), max_size=3000))
def test_many_kinds_fit_into_arguments(items: list[str]) -> None:
    parts = in_arguments(items)
    assert ",".join(parts) == ",".join(items)
    assert all(len(part.encode()) <= ARGUMENT_BYTES for part in parts)


def test_arguments_that_are_too_long_are_explained(helm) -> None:
    with helm, pytest.raises(PlatformError, match="too long") as caught:
        helm.run("template", "x" * 200_000)
    assert "200000" in caught.value.found and "install helm" not in caught.value.fix


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"repository": "https://me:p%40ss@h/x"}, ("w", "https://h/x", "me", "p@ss")),
        (
            {"repository": "https://h/x", "repository_username": "me", "repository_password": "p@ss"},
            ("w", "https://h/x", "me", "p@ss"),
        ),
        ({"chart": "oci://me:p%40ss@h/x"}, ("oci://h/x", None, "me", "p@ss")),
        ({"repository": "https://h/x@y"}, ("w", "https://h/x@y", None, None)),
    ],
)
def test_a_login_is_cut_from_the_address(spec: dict, expected: tuple) -> None:
    source = Source.of({**SPEC, **spec})
    assert (source.reference, source.repository, source.username, source.password) == expected
    assert "p@ss" not in str(source) and "p%40ss" not in str(source)


@pytest.mark.parametrize(
    "spec",
    [
        {"repository": "https://me:hunter2@127.0.0.1:1/x"},
        {"repository": "https://127.0.0.1:1/x", "repository_username": "me", "repository_password": "hunter2"},
        {"chart": "oci://me:hunter2@127.0.0.1:1/x"},
        {"chart": "oci://127.0.0.1:1/x", "repository_username": "me", "repository_password": "hunter2"},
    ],
)
def test_a_login_goes_through_a_private_file_and_no_argument(helm, spec: dict) -> None:
    with helm, pytest.raises((PlatformError, IndexError)):  # nothing is downloaded
        helm.local_chart(Source.of({**SPEC, **spec}))
    arguments = json.dumps([call[0] for call in helm.calls()])
    files = json.dumps([call[1] for call in helm.calls()])
    assert "hunter2" not in arguments
    assert "hunter2" in files or "bWU6aHVudGVyMg==" in files


@pytest.mark.parametrize("fails", ["pull", "repo update"], ids=["Helm 3", "Helm 4"])
def test_why_a_repository_refuses_is_told_whichever_helm_says_so(helm, monkeypatch, fails: str) -> None:
    said = '..Unable to get an update from the "repository" chart repository (http://h):\n\tfailed to fetch: 401\nDone.'
    monkeypatch.setenv("HELM_SAYS", said)
    monkeypatch.setenv("HELM_FAILS", fails)
    login = {"repository": "http://h", "repository_username": "me", "repository_password": "wrong"}
    with helm, pytest.raises(PlatformError, match="failed to fetch: 401") as caught:
        helm.local_chart(Source.of({**SPEC, **login}))
    assert caught.value.reason == "chart"


def test_a_chart_that_is_an_address_is_told_without_its_login(helm) -> None:
    with helm, pytest.raises(PlatformError) as caught:
        helm.local_chart(Source.of({**SPEC, "chart": "https://me:hunter2@h/x.tgz"}))
    assert "hunter2" not in str(caught.value) and caught.value.reason == "chart"


def test_the_private_folder_is_for_this_user_alone_and_goes(helm) -> None:
    with helm:
        folder = Path(helm._environment["KUBECONFIG"]).parent
        assert "token-of-the-task" in (folder / "kubeconfig").read_text()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "kubeconfig").stat().st_mode) == 0o600
    assert not folder.parent.exists() or not list(folder.parent.glob("*/kubeconfig"))


# --- the post-renderer ------------------------------------------------------------------------------------------------


def post_rendered(helm: Helm, manifest: str, replaced: dict[str, str]) -> str:
    arguments, _environment = helm._post_renderer(replaced, "n")
    argv = [arguments[1], arguments[3]]
    return subprocess.run(argv, input=manifest, capture_output=True, text=True, check=True, env={"PATH": "/bin"}).stdout


def objects_of(manifest: str) -> dict:
    return {key_of(obj, "n"): obj for document in documents(manifest) for obj in document.objects}


@pytest.fixture(scope="module")
def anyhelm():
    helm = Helm("true", Cluster({"host": "https://127.0.0.1:1", "api_key": "x"}))
    helm._version = (3, 22)
    with helm:
        yield helm


MANIFEST = """---
# Source: w/templates/a.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, labels: {sha: "12e4567"}}
spec: {replicas: 1, a: "1e3", b: "y", c: "0o17", d: "08", e: 9007199254740993, f: 1e3}
---
# Source: w/templates/b.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: other}
data: {sha: "12e4567", text: "a\\n---\\nb", umlaut: "ä"}
---
# only a comment
--- # another
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {p: "1e3"}}
  - {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {}}
"""


def test_what_is_not_replaced_passes_as_it_is_and_the_rest_keeps_its_types(anyhelm) -> None:
    before = objects_of(MANIFEST)
    deployment = before["apps", "Deployment", "n", "d"]
    new = {**deployment, "spec": {**deployment["spec"], "replicas": 3}}
    after = post_rendered(anyhelm, MANIFEST, {identity_of(new, "n"): json.dumps(new)})
    expected = {**before, ("apps", "Deployment", "n", "d"): new}
    assert plain(objects_of(after)) == plain(expected)
    assert '"12e4567"' in after and "# Source: w/templates/a.yaml" in after


def test_objects_of_a_list_are_replaced_together(anyhelm) -> None:
    before = objects_of(MANIFEST)
    secret, service = before["", "Secret", "n", "s"], before["", "Service", "n", "s"]
    new = {**secret, "stringData": {"p": "other"}}
    after = post_rendered(anyhelm, MANIFEST, {identity_of(obj, "n"): json.dumps(obj) for obj in (new, service)})
    assert plain(objects_of(after)) == plain({**before, ("", "Secret", "n", "s"): new})


def test_helm_4_finds_the_template_of_a_replaced_object_again(anyhelm) -> None:
    mark = "postrenderer.helm.sh/postrender-filename"
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {%s: w/templates/s.yaml}}\n" % mark
    new = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"a": 1}}
    [obj] = objects_of(post_rendered(anyhelm, manifest, {identity_of(new, "n"): json.dumps(new)})).values()
    assert obj["metadata"]["annotations"] == {mark: "w/templates/s.yaml"} and obj["spec"] == {"a": 1}
