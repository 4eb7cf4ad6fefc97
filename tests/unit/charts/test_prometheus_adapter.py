"""The chart prometheus-adapter."""

from __future__ import annotations

import pytest
import yaml

from .conftest import ROOT, Objects, Render

CHART = ROOT / "roles/monitoring/files/charts/prometheus-adapter"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def test_another_rule_restarts_it(render: Render, objects: Objects) -> None:
    rules = [{"seriesQuery": "a", "metricsQuery": "b"}]
    other = render(CHART, {"rules": rules})
    configuration = other.one("ConfigMap", "prometheus-adapter-configuration")["data"]["config.yaml"]
    assert yaml.safe_load(configuration) == {"rules": rules}

    def annotations(found: Objects) -> object:
        return found.one("Deployment", "prometheus-adapter")["spec"]["template"]["metadata"]["annotations"]

    assert annotations(other) != annotations(objects)
