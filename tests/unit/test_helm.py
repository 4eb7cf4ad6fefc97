"""What helm says becomes one error that names the place and the thing to do; its record is read and written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils import chart, helm, helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from hypothesis import given
from hypothesis import strategies as st

# Messages as Helm 3.22, Helm 4.3 and Kubernetes 1.37 print them.
CASES = [
    (
        'Error: template: w/templates/all.yaml:32:13: executing "w/templates/all.yaml" at <.Values.nope.foo>: nil '
        "pointer evaluating interface {}.foo\n\nUse --debug flag to render out invalid YAML",
        "render",
        ["w/templates/all.yaml line 32", "nope.foo"],
    ),
    (
        'Error: w/templates/all.yaml:32:13\n  executing "w/templates/all.yaml" at <.Values.nope.foo>:\n    nil pointer',
        "render",
        ["w/templates/all.yaml line 32", "nope.foo"],
    ),
    (
        "Error: execution error at (w/templates/all.yaml:35:3): set the value mandatory",
        "render",
        ["w/templates/all.yaml line 35", "set the value mandatory"],
    ),
    (
        "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nw:\n"
        "- at '/nested/port': got string, want integer\n",
        "values",
        ["nested.port: got string, want integer", "chart w"],
    ),
    (
        'Error: UPGRADE FAILED: cannot patch "w" with kind Deployment: deployments.apps "w" is forbidden: '
        "exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2",
        "quota",
        ["ResourceQuota q is full", "Deployment w", "cpu=2"],
    ),
    (
        'Error: INSTALLATION FAILED: deployments.apps is forbidden: User "u" cannot create resource "deployments" in '
        'API group "apps" in the namespace "n"',
        "forbidden",
        ["create deployments.apps in namespace n", 'user "u"'],
    ),
    (
        "Error: INSTALLATION FAILED: deployments.apps \"w\" is forbidden: ValidatingAdmissionPolicy 'ro' with "
        "binding 'b' denied request: no read-only root",
        "admission",
        ["policy ro refused", "no read-only root"],
    ),
    ('Error: create: failed to create: namespaces "n" not found', "not_found", ["n"]),
    ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", "busy", ["another helm"]),
]


@pytest.mark.parametrize(("said", "reason", "named"), CASES)
def test_a_failure_is_one_clear_error(said: str, reason: str, named: list[str]) -> None:
    error = helm.HelmFailure("upgrade", said).explained("w", "n", "/charts/w")
    assert error.reason == reason, str(error)
    for text in ["release w in namespace n", *named]:
        assert text in str(error)
    assert error.fix


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=40), max_size=5))
def test_a_record_survives_being_written(record: dict) -> None:
    revision = helm_release.Revision("w", "n", 1, "deployed")
    assert helm_release.decode(helm_release.encode(record), revision) == record


@pytest.mark.parametrize(
    "data", ["", "!!", "bm90aGluZw==", helm_release.encode([1])], ids=["empty", "no base64", "no gzip", "no record"]
)
def test_a_broken_record_names_its_secret(data: str) -> None:
    with pytest.raises(PlatformError, match=r"Secret n/sh\.helm\.release\.v1\.w\.v3"):
        helm_release.decode(data, helm_release.Revision("w", "n", 3, "deployed"))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
def test_a_process_is_known_to_be_alive_or_dead() -> None:
    script = "import sys; print('ready', flush=True); sys.stdin.read()"
    machine = helm.this_run().split(".")[0]
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    run = "%s.%d.%s" % (machine, child.pid, helm._started(child.pid))
    assert helm.is_alive(run) is True
    assert helm.is_alive("%s.%d.%s" % (machine, child.pid, "1")) is False  # the process id was used again
    child.communicate()
    assert helm.is_alive(run) is False
    assert helm.is_alive("000000000000.%d.1" % os.getpid()) is None  # another machine
    assert helm.is_alive("nonsense") is None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
def test_an_orphaned_helm_of_a_dead_run_counts_as_alive() -> None:
    run = "%s.999999999.1" % helm.this_run().split(".")[0]
    script = "import sys; print('ready', flush=True); sys.stdin.read()"
    environment = {**os.environ, helm.RUN_VARIABLE: run}
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    child.stdout.readline()
    assert helm.is_alive(run) is True
    child.communicate()
    assert helm.is_alive(run) is False


def _specs(*entries: tuple[str, list[str]]) -> list[dict]:
    return [{"name": name, "namespace": "n", "after": after} for name, after in entries]


def test_releases_wait_only_for_what_they_name() -> None:
    assert chart._waves(_specs(("a", ["b"]), ("b", []), ("c", []))) == [[1, 2], [0]]


@pytest.mark.parametrize(
    ("specs", "named"),
    [
        (_specs(("a", ["b"]), ("b", ["a"])), "wait for each other"),
        (_specs(("a", ["x"])), "x"),
        (_specs(("a", []), ("a", [])), "n/a"),
    ],
)
def test_an_inconsistent_list_is_refused(specs: list[dict], named: str) -> None:
    with pytest.raises(PlatformError, match=named):
        chart._waves(specs)
