"""What the role mesh applies, on a real API server: definitions, flows, upstream's charts; twice, and away again."""

from __future__ import annotations

import json
import uuid

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

ON = {
    "mesh_enabled": True,
    # No endpoints of the API are found where there are no nodes.
    "platform_api_server_addresses": ["10.0.0.1/32"],
}
API = "security.istio.io/v1"
DEFINITION = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
NAME = "peerauthentications.security.istio.io"


def asked_of(collections, folder, **given):
    """The arguments of the role's modules."""
    options = ("--tags", "mesh", "-e", f"platform_images_file={ROOT}/tests/images.json", "-e", json.dumps(given))
    done = run(collections, "site", *options, folder=folder)
    assert done.rc == 0, done.output
    return done


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


@pytest.fixture(scope="module")
def on(tmp_path_factory, collections, cluster):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}, "test")
    return asked_of(collections, tmp_path_factory.mktemp("on"), **ON)


@pytest.fixture
def apply_all(kubeconfig, apply):
    """Everything that a run has asked of the modules, in its order; the results of each."""

    def everything(done):
        made = []
        for call in done.calls:
            arguments = {**call["args"], "kubeconfig": kubeconfig}
            if call["module"] == "policy":
                made.append(apply(call["args"]))
            elif call["module"] == "chart":
                made.append(run_module(chart, arguments))
            elif call["module"] == "secret":
                made.append(run_module(secret, arguments))
        return made

    return everything


def run_module(module, arguments):
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

    checked = ArgumentSpecValidator(module.ARGUMENT_SPEC).validate(arguments)
    assert not checked.error_messages
    return module.run(checked.validated_parameters, check_mode=False, diff=False, progress=lambda line: None)


def peer_authentication(namespace, mode="STRICT"):
    metadata = {"name": "default", "namespace": namespace}
    return {"apiVersion": API, "kind": "PeerAuthentication", "metadata": metadata, "spec": {"mtls": {"mode": mode}}}


def test_off_where_there_was_never_one_nothing_is_to_do(apply_all, collections, tmp_path):
    """Not even its namespace is there."""
    assert not any(one["changed"] for one in apply_all(asked_of(collections, tmp_path, mesh_enabled=False)))


def test_it_is_accepted_changes_nothing_again_and_goes(apply_all, on, collections, cluster, tmp_path, make_namespace):
    # All but the one that is there while a mesh is left.
    assert [one["changed"] for one in apply_all(on)].count(False) == 1
    second = apply_all(on)
    assert not any(one["changed"] for one in second), [one for one in second if one["changed"]]
    # Without istiod, which would judge it, no object is taken.
    namespace = make_namespace()
    with pytest.raises(PlatformError, match=r"validation\.istio\.io"):
        cluster.apply(peer_authentication(namespace), "test")
    found = cluster.get({"apiVersion": "v1", "kind": "Secret", "name": "cacerts", "namespace": "istio-system"})
    assert found["type"] == "kubernetes.io/tls" and set(found["data"]) == {"tls.crt", "tls.key", "ca.crt"}

    off = asked_of(collections, tmp_path, mesh_enabled=False)
    apply_all(off)
    assert cluster.get({**DEFINITION, "name": NAME}) is None
    for kind, name, where in (
        ("Secret", "cacerts", "istio-system"),
        ("Service", "istiod", "istio-system"),
        ("ConfigMap", "istio-cni-config", "kube-system"),
    ):
        assert cluster.get({"apiVersion": "v1", "kind": kind, "name": name, "namespace": where}) is None, name
    assert not any(one["changed"] for one in apply_all(off))


def test_what_somebody_else_has_keeps_the_definitions(apply_all, on, collections, cluster, tmp_path):
    apply_all(on)
    webhook = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    cluster.delete({**webhook, "metadata": {"name": "istiod-default-validator"}})
    namespace = f"foreign-{uuid.uuid4().hex[:8]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, "test")
    with pytest.raises(PlatformError, match="mode"):
        cluster.apply(peer_authentication(namespace, "SOMETIMES"), "test")
    cluster.apply(peer_authentication(namespace), "test")
    apply_all(asked_of(collections, tmp_path, mesh_enabled=False))
    assert cluster.get({**DEFINITION, "name": NAME}) is not None
    assert [obj["metadata"]["namespace"] for obj in cluster.list(API, "PeerAuthentication")] == [namespace]
    for definition in cluster.list("apiextensions.k8s.io/v1", "CustomResourceDefinition"):
        if definition["metadata"]["name"].endswith(".istio.io"):
            cluster.delete({**DEFINITION, "metadata": {"name": definition["metadata"]["name"]}})
