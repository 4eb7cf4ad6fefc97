"""A wrong configuration that reaches a running Envoy is refused and counted, and no request notices; the next is taken.

EDGE_URL and EDGE_CA_FILE name the edge, or it is the local one's. The platform must be disposable: for a while its
ConfigMap is wrong.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from .edge_load import KEPT, RATE, Load, assert_no_failure

pytestmark = pytest.mark.cluster

CONFIGURATION = "envoy-configuration"
LISTENERS, CLUSTERS, ROUTES = "listener_manager.lds", "cluster_manager.cds", "http.edge.rds.edge"
"""What counts the updates of each file."""
COUNTERS = ("update_success", "update_rejected")
ASK = """exec 3<>/dev/tcp/127.0.0.1/9901
printf 'GET %s HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n' "$1" >&3
cat <&3"""
"""The image has bash, and no client for the admin interface on its loopback address."""


class Envoys:
    """The running Envoys, their files and what they say of them."""

    def __init__(self, kubeconfig: str) -> None:
        self.command = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", "ingress"]

    def kubectl(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [*self.command, *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pods(self) -> list[str]:
        found = json.loads(self.kubectl("get", "pods", "-l", "app.kubernetes.io/name=envoy", "-o", "json"))["items"]
        return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])

    def counters(self, prefix: str) -> list[dict[str, int]]:
        """``update_success`` and the like, of each Envoy."""
        found = []
        for pod in self.pods():
            text = self.kubectl("exec", pod, "--", "bash", "-c", ASK, "-", f"/stats?filter=^{prefix}.update_")
            lines = [line.strip().removeprefix(f"{prefix}.").partition(": ") for line in text.splitlines()]
            found.append({name: int(value) for name, _, value in lines if name in COUNTERS})
        assert found and all(found), f"no counters of {prefix}"
        return found

    def configuration(self) -> dict[str, str]:
        found = json.loads(self.kubectl("get", "configmap", CONFIGURATION, "-o", "json"))
        return dict(found["data"])

    def write(self, files: dict[str, str]) -> None:
        """Replace these files, and have the kubelet bring them now: a change of the pod itself synchronises it."""
        self.kubectl("patch", "configmap", CONFIGURATION, "--patch-file=/dev/stdin", given=json.dumps({"data": files}))
        self.kubectl("annotate", "pod", *self.pods(), f"test/projected={time.time_ns()}", "--overwrite")


@pytest.fixture
def envoys(kubeconfig: str) -> Iterator[Envoys]:
    """The right files again at the end, whatever happens."""
    found = Envoys(kubeconfig)
    before = found.configuration()
    yield found
    if found.configuration() != before:
        found.write(before)


def each(envoys: Envoys, prefix: str, counter: str, earlier: list[dict[str, int]]) -> None:
    """Wait until each Envoy has counted one more than ``earlier``."""
    ends = time.monotonic() + 60
    while True:
        now = envoys.counters(prefix)
        if all(new[counter] > old[counter] for new, old in zip(now, earlier, strict=True)):
            return
        assert time.monotonic() < ends, f"{prefix}.{counter} was {earlier} and is {now}: the files have not been seen"
        time.sleep(1)


def resources(text: str) -> dict:
    return yaml.safe_load(text)


UNKNOWN = {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "no.such.Extension"}


def listener_of_an_unknown_filter(text: str) -> str:
    wrong = resources(text)
    wrong["resources"][0]["filter_chains"][0]["filters"][0] = {"name": "edge.unknown", "typed_config": UNKNOWN}
    return yaml.safe_dump(wrong)


def cluster_of_an_unknown_kind(text: str) -> str:
    wrong = resources(text)
    wrong["resources"][0]["cluster_type"] = {"name": "edge.unknown", "typed_config": UNKNOWN}
    return yaml.safe_dump(wrong)


def route_of_a_wrong_expression(text: str) -> str:
    wrong = resources(text)
    wrong["resources"][0]["virtual_hosts"][0]["routes"][0]["match"] = {"safe_regex": {"regex": "("}}
    return yaml.safe_dump(wrong)


@pytest.mark.parametrize(
    ("file", "prefix", "spoil"),
    [
        ("listeners.yaml", LISTENERS, listener_of_an_unknown_filter),
        ("clusters.yaml", CLUSTERS, cluster_of_an_unknown_kind),
        ("routes.yaml", ROUTES, route_of_a_wrong_expression),
    ],
    ids=["listener of an unknown filter", "cluster of an unknown kind", "route of a wrong expression"],
)
def test_a_wrong_file_is_refused_and_no_request_notices(
    file: str, prefix: str, spoil: Callable[[str], str], envoys: Envoys, tmp_path: Path
) -> None:
    right = envoys.configuration()
    earlier = envoys.counters(prefix)
    load = Load(tmp_path, KEPT)
    with load.running():
        envoys.write({file: spoil(right[file])})
        each(envoys, prefix, "update_rejected", earlier)
        # What was there before is in force a while later too.
        time.sleep(5)
        refused = envoys.counters(prefix)
        assert [now["update_success"] for now in refused] == [now["update_success"] for now in earlier]

        # Envoy skips what it has already: a version of its own says that this one was read.
        accepted = {**resources(right[file]), "version_info": f"again-{time.time_ns()}"}
        envoys.write({file: yaml.safe_dump(accepted, sort_keys=False)})
        each(envoys, prefix, "update_success", refused)
        envoys.write({file: right[file]})
    assert_no_failure(load, f"{file}, {spoil.__name__}", RATE * 10)
