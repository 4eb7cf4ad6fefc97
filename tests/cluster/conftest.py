"""Tests that need a Kubernetes cluster: pytest -m cluster tests/cluster. They fail without one and clean up afterwards.

KUBECONFIG names the cluster, or the local one is used. PLATFORM_TEST_IMAGE is an image with a shell that the
nodes can pull; without it, one of the images that were built for the local cluster is used.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[2]

# As in tests/unit: Ansible's own loader, so that imports behave as they do in a play.
init_plugin_loader([str(ROOT / "collections")])


@pytest.fixture(scope="session")
def kubeconfig():
    """The path of a kubeconfig whose user may do everything."""
    path = os.environ.get("KUBECONFIG") or str(ROOT / ".local" / "kubeconfig")
    assert Path(path).exists(), f"{path} does not exist: set KUBECONFIG, or make the local cluster first"
    return path


@pytest.fixture(scope="session")
def cluster(kubeconfig):
    """The module's own access to the cluster, to prepare and to look."""
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

    return Cluster({"kubeconfig": kubeconfig})


@pytest.fixture(scope="session")
def image():
    """An image with a shell."""
    given = os.environ.get("PLATFORM_TEST_IMAGE")
    if given:
        return given
    table = ROOT / ".local" / "images.json"
    assert table.exists(), f"{table} does not exist: set PLATFORM_TEST_IMAGE, or build the images first"
    images = json.loads(table.read_text())
    chosen = images.get("debian") or images["haproxy"]
    return "{repository}:{tag}".format(**chosen)


def _namespace(cluster, module):
    name = f"test-{module.__name__.rpartition('_')[2]}-{uuid.uuid4().hex[:8]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "test")
    yield name
    cluster.delete({"apiVersion": "v1", "kind": "Namespace", "name": name})


@pytest.fixture
def namespace(cluster, request):
    """A namespace of the test's own."""
    yield from _namespace(cluster, request.module)


@pytest.fixture(scope="module")
def own_namespace(cluster, request):
    """A namespace that the tests of a module share."""
    yield from _namespace(cluster, request.module)
