"""Helm goes the same way to the cluster as the Python client, with credentials that renew themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import kubeconfig as kubeconfig_module
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.kubeconfig import (
    environment_for,
    kubeconfig_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

SERVER = "https://api.example.com:6443"
CREDENTIAL = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A kubeconfig whose user is an exec plugin, with paths beside it."""
    plugin = tmp_path / "login"
    plugin.write_text("#!%s\nprint('%s')\n" % (sys.executable, json.dumps(CREDENTIAL)))
    plugin.chmod(0o700)
    (tmp_path / "ca.crt").write_text("")
    stanza = {"apiVersion": CREDENTIAL["apiVersion"], "command": "./login", "args": None, "interactiveMode": "Never"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": SERVER, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": {"exec": {**stanza, "command": str(plugin)}}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    return tmp_path / "config"


def user_of(config: dict) -> dict:
    return config["users"][0]["user"]


def cluster_of(config: dict) -> dict:
    return config["clusters"][0]["cluster"]


def test_a_kubeconfig_that_says_it_all_is_read_by_helm_itself(path: Path) -> None:
    environment, own = environment_for(Cluster({"kubeconfig": str(path), "context": "c"}))
    assert own is None and environment["KUBECONFIG"] == str(path) and environment["HELM_KUBECONTEXT"] == "c"


@pytest.mark.parametrize(
    "options",
    [{"impersonate_user": "x"}, {"validate_certs": False}, {"impersonate_user": "x", "impersonate_groups": ["a", "b"]}],
)
def test_an_exec_plugin_stays_one_beside_single_options(path: Path, options: dict) -> None:
    _environment, own = environment_for(Cluster({"kubeconfig": str(path), **options}))
    assert user_of(own)["exec"]["command"] == str(path.parent / "login") and "token" not in user_of(own)
    assert user_of(own).get("as") == options.get("impersonate_user")
    assert user_of(own).get("as-groups") == options.get("impersonate_groups")
    trusted = {name: value for name, value in cluster_of(own).items() if name != "server"}
    if options.get("validate_certs") is False:
        assert trusted == {"insecure-skip-tls-verify": True}
    else:
        assert trusted == {"certificate-authority": str(path.parent / "ca.crt")}


def test_a_token_that_is_given_takes_the_place_of_the_users_credentials(path: Path) -> None:
    own = kubeconfig_of(Cluster({"kubeconfig": str(path), "api_key": "given"}))
    assert user_of(own) == {"token": "given"} and cluster_of(own)["server"] == SERVER


def test_host_and_token_need_no_kubeconfig() -> None:
    own = kubeconfig_of(Cluster({"host": SERVER, "api_key": "given", "validate_certs": False}))
    assert cluster_of(own) == {"server": SERVER, "insecure-skip-tls-verify": True}
    assert user_of(own) == {"token": "given"}


def test_a_pods_token_is_read_from_its_file_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config

    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(incluster_config.load_incluster_config, "__defaults__", (None, True))
    monkeypatch.setattr(kubeconfig_module, "POD_TOKEN", str(tmp_path / "token"))
    _environment, own = environment_for(Cluster({}))
    assert user_of(own) == {"tokenFile": str(tmp_path / "token")}
    assert cluster_of(own)["server"] == "https://10.0.0.1:443"


PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("no_proxy", "host", "through"),
    [
        ("", SERVER, True),
        ("other.example.com", SERVER, True),
        ("example.com", SERVER, False),
        (".example.com", SERVER, False),
        ("10.0.0.0/8", "https://10.1.2.3:6443", False),
        ("*", SERVER, False),
        ("", "https://127.0.0.1:6443", False),
        ("", "https://localhost:6443", False),
        ("", "https://[::1]:6443", False),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_helm_uses_a_proxy_where_the_client_does(monkeypatch, variable, no_proxy, host, through) -> None:
    monkeypatch.setenv(variable, PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    cluster = Cluster({"host": host, "api_key": "x"})
    assert bool(cluster.proxy) is through
    environment, own = environment_for(cluster)
    assert cluster_of(own).get("proxy-url") == (PROXY if through else None)
    name = host.split("//")[1].rsplit(":", 1)[0].strip("[]")
    assert (name in environment["NO_PROXY"].split(",")) is not through


def test_a_proxy_of_the_kubeconfig_is_left_out_where_no_proxy_says_so(path: Path, monkeypatch) -> None:
    content = yaml.safe_load(path.read_text())
    cluster_of(content)["proxy-url"] = PROXY
    path.write_text(yaml.safe_dump(content))
    _environment, own = environment_for(Cluster({"kubeconfig": str(path)}))
    assert cluster_of(own)["proxy-url"] == PROXY
    monkeypatch.setenv("NO_PROXY", "api.example.com")
    _environment, own = environment_for(Cluster({"kubeconfig": str(path)}))
    assert "proxy-url" not in cluster_of(own) and "exec" in user_of(own)


def test_a_proxys_login_reaches_helm() -> None:
    options = {"proxy": PROXY, "proxy_headers": {"proxy_basic_auth": "me:p@ss"}}
    own = kubeconfig_of(Cluster({"host": SERVER, "api_key": "x", **options}))
    assert cluster_of(own)["proxy-url"] == "http://me:p%40ss@proxy.example.com:3128"


def test_of_several_files_the_first_to_name_a_thing_wins(path: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    other = {"server": "https://wrong", "insecure-skip-tls-verify": True}
    second.write_text(yaml.safe_dump({"clusters": [{"name": "k", "cluster": other}], "users": [], "contexts": []}))
    own = kubeconfig_of(Cluster({"kubeconfig": f"{path}:{second}", "impersonate_user": "x"}))
    assert cluster_of(own) == {"server": SERVER, "certificate-authority": str(tmp_path / "ca.crt")}


def test_what_could_lead_helm_elsewhere_is_left_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_NAMESPACE", "HELM_DRIVER", "HELM_DEBUG"):
        monkeypatch.setenv(name, "elsewhere")
    environment, _own = environment_for(Cluster({"kubeconfig": str(path)}))
    assert "elsewhere" not in environment.values() and environment["HELM_DRIVER"] == "secret"
