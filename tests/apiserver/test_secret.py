"""The module secret on a real API server: values made once, the same in every namespace, and never seen."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret


@pytest.fixture
def second_namespace(cluster, namespace):
    """Another namespace, for copies."""
    name = namespace + "-copy"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "test")
    yield name
    cluster.delete({"apiVersion": "v1", "kind": "Namespace", "name": name})


@pytest.fixture
def keep(kubeconfig):
    """Run the module's logic; its result is checked to hold no value that is in the cluster."""

    def run(*entries, check=False, **auth):
        arguments = {"secrets": list(entries), **(auth or {"kubeconfig": kubeconfig})}
        validated = ArgumentSpecValidator(secret.ARGUMENT_SPEC).validate(arguments)
        assert not validated.error_messages
        return secret.run(validated.validated_parameters, check_mode=check, diff=True)

    return run


@pytest.fixture
def values(cluster):
    """The decoded values of a Secret; None if there is none."""

    def read(namespace, name):
        found = cluster.get({"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": namespace})
        return found and {key: base64.b64decode(text) for key, text in found["data"].items()}

    return read


def test_a_value_is_made_once_for_all_namespaces_and_never_shown(keep, values, namespace, second_namespace) -> None:
    entry = {
        "name": "db",
        "namespaces": [namespace, second_namespace],
        "data": {"username": "controller"},
        "random": {"password": {"length": 40}},
        "render": {"line": "controller:{sha256:db/password}"},
    }
    assert keep(entry, check=True)["changed"] and values(namespace, "db") is None
    made = keep(entry)
    first = values(namespace, "db")
    assert made["changed"] and len(first["password"]) == 40
    assert values(second_namespace, "db") == first
    assert first["password"].decode() not in json.dumps(made)
    again = keep(entry)
    assert not again["changed"] and values(namespace, "db") == first


def test_a_deleted_key_is_rotated_everywhere_and_a_lost_copy_comes_back(
    keep, values, cluster, namespace, second_namespace
) -> None:
    entry = {"name": "db", "namespaces": [namespace, second_namespace], "random": {"password": {}}}
    keep(entry)
    first = values(namespace, "db")
    cluster.delete({"apiVersion": "v1", "kind": "Secret", "name": "db", "namespace": namespace})
    assert keep(entry)["changed"] and values(namespace, "db") == first
    for name in (namespace, second_namespace):
        cluster.delete({"apiVersion": "v1", "kind": "Secret", "name": "db", "namespace": name})
    keep(entry)
    rotated = values(namespace, "db")
    assert rotated != first and values(second_namespace, "db") == rotated


def test_openssl_accepts_a_certificate_and_its_renewal(keep, values, namespace, tmp_path) -> None:
    authority = {"name": "ca", "namespaces": [namespace], "certificate": {"common_name": "ca", "is_ca": True}}
    leaf = {"common_name": "db", "dns_names": ["db"], "ca": {"secret": "ca"}}
    entry = {"name": "tls", "namespaces": [namespace], "certificate": leaf}
    keep(authority, entry)
    before = values(namespace, "tls")
    assert not keep(authority, entry)["changed"]
    renewed = keep(authority, {**entry, "certificate": {**leaf, "dns_names": ["db", "db.svc"]}})
    assert renewed["secrets"][1]["key_actions"]["tls.crt"].startswith("renewed")
    for number, pair in enumerate((before, values(namespace, "tls"))):
        (tmp_path / f"{number}.crt").write_bytes(pair["tls.crt"])
        (tmp_path / "ca.crt").write_bytes(pair["ca.crt"])
        verify = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), str(tmp_path / f"{number}.crt")]
        assert subprocess.run(verify, capture_output=True, check=False).returncode == 0


def test_a_namespace_that_is_missing_is_named_before_anything_is_written(keep, values, cluster, namespace) -> None:
    missing = namespace + "-later"
    entry = {"name": "db", "namespaces": [namespace, missing], "random": {"password": {}}}
    assert keep(entry, check=True)["notes"] == [
        f"Secret {missing}/db: could not be checked, its namespace does not exist yet"
    ]
    with pytest.raises(PlatformError, match=missing) as caught:
        keep(entry)
    assert caught.value.reason == "missing"
    assert values(namespace, "db") is None
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": missing}}, "test")
    try:
        assert keep(entry)["changed"]
        assert values(missing, "db") == values(namespace, "db")
    finally:
        cluster.delete({"apiVersion": "v1", "kind": "Namespace", "name": missing})


@pytest.mark.parametrize("check", [True, False])
def test_what_the_cluster_refuses_is_refused_in_check_mode_and_before_the_first_write(
    keep, values, namespace, check
) -> None:
    good = {"name": "good", "namespaces": [namespace], "random": {"password": {}}}
    keep({**good, "name": "old"})
    before = values(namespace, "old")
    wrong = {**good, "name": "Not_A_Name"}
    large = {"name": "large", "namespaces": [namespace], "data": {"much": "x" * 1100000}}
    with pytest.raises(PlatformError, match="2 of 4 Secrets cannot be written, so none was") as caught:
        keep(good, wrong, large, {**good, "name": "old", "random": {"password": {}, "second": {}}}, check=check)
    assert "Not_A_Name" in str(caught.value)
    assert "x" * 100 not in str(caught.value)
    assert values(namespace, "good") is None
    assert values(namespace, "old") == before


def test_a_change_of_labels_alone_is_made_and_shown(keep, cluster, namespace) -> None:
    entry = {"name": "db", "namespaces": [namespace], "random": {"password": {}}}
    keep({**entry, "labels": {"team": "blue"}})
    (shown,) = keep({**entry, "labels": {"team": "red"}})["diff"]
    assert set(shown["before"].splitlines()) ^ set(shown["after"].splitlines()) == {
        "label team: blue",
        "label team: red",
    }
    live = cluster.get({"apiVersion": "v1", "kind": "Secret", "name": "db", "namespace": namespace})
    assert live["metadata"]["labels"]["team"] == "red"


def test_an_unreachable_cluster_is_one_clear_error(keep, namespace) -> None:
    entry = {"name": "db", "namespaces": [namespace], "random": {"password": {}}}
    with pytest.raises(PlatformError, match="127.0.0.1:1") as caught:
        keep(entry, host="https://127.0.0.1:1", api_key="x")
    assert caught.value.reason == "unreachable"
