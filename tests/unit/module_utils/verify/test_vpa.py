"""The checks of vertical autoscaling: what is recommended, and who refuses what it should."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import vpa
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed

from ..stand_in import stands_in_for

OPTIONS = {
    "namespace": "monitoring",
    "autoscalers": [{"namespace": "one", "name": "a"}, {"namespace": "two", "name": "b"}],
}
RECOMMENDED = {"recommendation": {"containerRecommendations": [{"containerName": "c", "target": {"cpu": "5m"}}]}}
UNSUPPORTED = {"conditions": [{"type": "ConfigUnsupported", "status": "True", "message": "it has a parent"}]}


@stands_in_for(Cluster)
class FakeCluster:
    def __init__(self, statuses: dict[tuple[str, str], Any], refusal: PlatformError | None = None) -> None:
        self.statuses, self.refusal, self.offered = statuses, refusal, []

    def list(self, api_version, kind, namespace=None):
        assert (api_version, kind) == ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler")
        return [
            {"metadata": {"namespace": where, "name": name}, "status": status}
            for (where, name), status in self.statuses.items()
            if where == namespace
        ]

    def create(self, obj, field_manager, dry_run=False):
        assert dry_run
        self.offered.append(obj)
        if self.refusal:
            raise self.refusal
        return obj


def look(statuses: dict[tuple[str, str], Any]) -> Any:
    return vpa.vpa_recommendations(FakeCluster(statuses), OPTIONS, wait_seconds=0)


def test_all_have_a_recommendation() -> None:
    found = look({("one", "a"): RECOMMENDED, ("two", "b"): RECOMMENDED, ("two", "foreign"): {}})
    assert found == Passed("2 workloads have one")


def test_who_has_none_is_told_with_the_reason() -> None:
    found = look({("one", "a"): RECOMMENDED, ("two", "b"): UNSUPPORTED})
    assert isinstance(found, Doubtful) and "two/b (it has a parent)" in found.warning
    found = look({("one", "a"): RECOMMENDED})
    assert isinstance(found, Doubtful) and "two/b (not there)" in found.warning


def test_nothing_at_all_is_a_failure() -> None:
    with pytest.raises(PlatformError, match="nothing is recommended") as failure:
        look({("one", "a"): {}, ("two", "b"): {}})
    assert "metrics.k8s.io" in failure.value.fix


def test_a_recommender_that_is_new_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster({("one", "a"): {}})
    waited = []

    def wait_until(looks, seconds, pause_seconds, done):
        waited.append(seconds)
        if len(waited) == 2:
            cluster.statuses = {("one", "a"): RECOMMENDED}
        return looks()

    monkeypatch.setattr(vpa, "wait_until", wait_until)
    found = vpa.vpa_recommendations(cluster, OPTIONS, wait_seconds=9)
    assert waited == [9, vpa.RECOMMENDATION_SECONDS] and isinstance(found, Doubtful)


def refused(what: str) -> PlatformError:
    return PlatformError("the object is refused", found=what, reason="admission")


def test_the_webhook_answers() -> None:
    cluster = FakeCluster({}, refused("spec.updatePolicy.minReplicas: Invalid value: 0"))
    assert isinstance(vpa.vpa_webhook(cluster, OPTIONS), Passed)
    (offered,) = cluster.offered
    assert offered["metadata"]["namespace"] == "one"


def test_a_webhook_that_does_not_answer_lets_everything_pass() -> None:
    with pytest.raises(PlatformError, match="gets no answer"):
        vpa.vpa_webhook(FakeCluster({}), OPTIONS)


def test_another_refusal_proves_nothing() -> None:
    with pytest.raises(PlatformError, match="the object is refused"):
        vpa.vpa_webhook(FakeCluster({}, refused("you may not")), OPTIONS)
