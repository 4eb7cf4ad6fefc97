"""What the module chart says of a hook whose pod runs. Its other tests need no node: tests/apiserver/test_chart.py."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

from ..apiserver.small_chart import SmallChart

pytestmark = pytest.mark.cluster


@pytest.fixture
def bring(tmp_path, kubeconfig, namespace):
    """Run the module on a small chart and give the release's entry."""
    return SmallChart(tmp_path, kubeconfig, namespace)


def test_a_failing_hook_is_named_and_a_rerun_finishes(bring, cluster, namespace, image) -> None:
    with pytest.raises(PlatformError, match=r"(?s)job before failed.*exit code 3.*\| the reason") as caught:
        bring({"hook": "echo the reason >&2; exit 3", "image": image})
    assert caught.value.reason == "hook"
    assert bring({"hook": "exit 0", "image": image})["changed"]
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w", "namespace": namespace}
    assert cluster.get(deployment) and bring({"hook": "exit 0", "image": image})["action"] == "unchanged"
