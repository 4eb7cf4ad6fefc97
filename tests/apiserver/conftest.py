"""Tests on a real API server, without nodes: pytest tests/apiserver. It is started once, for all of pytest's workers.

What a kubelet would tell of pods is written by the tests. What needs containers that run is in tests/cluster.
"""

from __future__ import annotations

import copy
import json
import os
import uuid
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader

from tests.free_ports import free_port

from .control_plane import BINARIES, ControlPlane, Program

ROOT = Path(__file__).resolve().parents[2]

# As in tests/unit: Ansible's own loader, so that imports behave as they do in a play.
init_plugin_loader([str(ROOT / "collections")])

_STARTED = pytest.StashKey[ControlPlane]()


def _kubeconfig(config: pytest.Config) -> str:
    if _STARTED not in config.stash:
        config.stash[_STARTED] = ControlPlane()
        # However the tests end, Ctrl-C among it.
        config.add_cleanup(config.stash[_STARTED].stop)
    return str(config.stash[_STARTED].kubeconfig)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell a worker of pytest-xdist where the one API server is."""
    node.workerinput["kubeconfig"] = _kubeconfig(node.config)


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> str:
    """The path of a kubeconfig whose user may do everything."""
    return getattr(request.config, "workerinput", {}).get("kubeconfig") or _kubeconfig(request.config)


@pytest.fixture(scope="session", autouse=True)
def environment():
    """The programs of the checkout, and no other cluster than the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(BINARIES), prepend=os.pathsep)
        for name in [name for name in os.environ if name.startswith("K8S_AUTH_") or name == "KUBECONFIG"]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def cluster(kubeconfig):
    """The module's own access to the cluster, to prepare and to look."""
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

    return Cluster({"kubeconfig": kubeconfig})


@pytest.fixture
def make_namespace(cluster, request):
    """Make a namespace of the test's own. It goes with the API server."""

    def make(**labels: str) -> str:
        name = f"{request.module.__name__.rpartition('_')[2]}-{uuid.uuid4().hex[:8]}"
        metadata = {"name": name, "labels": labels}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, "test")
        return name

    return make


@pytest.fixture
def namespace(make_namespace):
    """A namespace of the test's own."""
    return make_namespace()


@pytest.fixture
def apply(kubeconfig):
    """Run the logic of the module policy with the arguments that a task gives it."""
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy

    defaults = {"prune": True, "unserved": "fail", "existing": "adopt", "state": "present", "files": [], "objects": []}

    def run(asked, check_mode=False, diff=False, **changes):
        return policy.run({**defaults, **asked, "kubeconfig": kubeconfig, **changes}, check_mode, diff)

    return run


@pytest.fixture
def batch(apply, namespace):
    """Run the logic of the module policy for a batch in the test's namespace."""

    def run(objects, check_mode=False, diff=False, **changes):
        asked = {"name": "batch", "namespace": namespace, "objects": copy.deepcopy(objects)}
        return apply(asked, check_mode, diff, **changes)

    return run


@pytest.fixture(scope="session")
def tell_status(cluster):
    """Write an object's status as its controller, or a kubelet, would."""
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import MERGE_PATCH

    def tell(ref, status):
        path = cluster.path(ref) + "/status"
        return cluster.request("PATCH", path, body={"status": status}, content_type=MERGE_PATCH, about=ref)

    return tell


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """``HOST:PORT`` of a container registry (Debian's docker-registry)."""
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    configuration = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(configuration))
    server = Program(folder / "log", "docker-registry", "serve", folder / "config.yml")
    try:
        server.wait_for(f"http://127.0.0.1:{port}/v2/")
        yield f"localhost:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def oras():
    """The program that copies images."""
    from .bundled import build_oras

    return build_oras()


@pytest.fixture
def push(oras, registry, tmp_path):
    """Push an image of this name and content; its reference by tag."""
    from .bundled import push_image

    return lambda name, content: push_image(oras, registry, tmp_path / "pushed" / name, name, content)


@pytest.fixture
def bundled(push, oras, tmp_path):
    """Arguments of the module ``bundle`` for an inventory whose one chart runs two of a table's three images."""
    from .bundled import small_inventory

    return small_inventory(tmp_path, push, oras)
