"""The chart prometheus-adapter: who may ask it, what it may read, and how the API server knows it."""

from __future__ import annotations

import base64

import pytest
import yaml

from .conftest import ROOT, Objects, Render, RenderError

CHART = ROOT / "roles/monitoring/files/charts/prometheus-adapter"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def test_the_api_server_checks_its_certificate(objects: Objects, render: Render) -> None:
    service = objects.one("APIService", "v1beta1.custom.metrics.k8s.io")["spec"]
    assert "insecureSkipTLSVerify" not in service
    assert base64.b64decode(service["caBundle"]) == b"-----BEGIN CERTIFICATE-----"
    with pytest.raises(RenderError, match="caBundle is empty"):
        render(CHART, {"tls": {"caBundle": ""}})


def test_it_reads_the_pods_of_one_namespace_and_nothing_else(objects: Objects, render: Render) -> None:
    roles = [one for one in objects if one["kind"] in ("Role", "ClusterRole")]
    granted = {one["metadata"]["name"]: (one["metadata"].get("namespace"), one["rules"]) for one in roles}
    assert granted == {
        "prometheus-adapter": ("openfaas-fn", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]),
        "prometheus-adapter:metrics": (
            "openfaas-fn",
            [{"apiGroups": ["custom.metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}],
        ),
    }
    asks = objects.one("RoleBinding", "prometheus-adapter:metrics")["subjects"]
    assert [(one["namespace"], one["name"]) for one in asks] == [("kube-system", "horizontal-pod-autoscaler")]


def test_another_rule_restarts_it(render: Render, objects: Objects) -> None:
    rules = [{"seriesQuery": "a", "metricsQuery": "b"}]
    other = render(CHART, {"rules": rules})
    configuration = other.one("ConfigMap", "prometheus-adapter-configuration")["data"]["config.yaml"]
    assert yaml.safe_load(configuration) == {"rules": rules}

    def annotations(found: Objects) -> object:
        return found.one("Deployment", "prometheus-adapter")["spec"]["template"]["metadata"]["annotations"]

    assert annotations(other) != annotations(objects)
