"""The edge from inside its pods, and the examples as a reader pastes them."""

from __future__ import annotations

import json
import subprocess

import pytest

from .pods import ROOT, app_host, containers, seen_in

pytestmark = pytest.mark.cluster


def listeners(app: str) -> dict[int, set[str]]:
    """Port -> addresses (hexadecimal, as in /proc/net/tcp) that the app's containers listen on."""
    found: dict[int, set[str]] = {}
    for namespace, name, pod, container in containers():
        if name == app:
            for entry in seen_in(namespace, pod, container)["listens"]:
                address, port = entry.rsplit(":", 1)
                found.setdefault(int(port, 16), set()).add(address)
    return found


def test_envoys_administration_listens_on_the_loopback_address_alone():
    open_ports = listeners("envoy")
    assert set(open_ports) == {8443, 8080, 9090, 9901}
    assert open_ports[9901] == {"0100007F"}


@pytest.mark.parametrize("app", ["nodejs-runtime", "python-runtime", "rust-runtime"])
def test_a_service_listens_on_its_two_ports_alone(app):
    assert set(listeners(app)) == {8080, 9090}


def test_envoy_finds_every_replica_of_the_controller():
    addresses = app_host("ingress", "envoy").check_output(
        "getent ahostsv4 controller-headless.controller.svc.cluster.local"
    )
    replicas = {pod for _namespace, app, pod, _container in containers() if app == "controller"}
    assert len({line.split()[0] for line in addresses.splitlines()}) == len(replicas) >= 2


@pytest.mark.parametrize(
    ("example", "result"),
    [("nodejs", "Hello, Node.js!"), ("python", 169), ("rust", 6)],
    ids=["nodejs", "python", "rust"],
)
def test_an_example_works_as_it_is_pasted(example, result, edge):
    url, authority = edge
    text = (ROOT / "docs" / "examples" / f"{example}.sh").read_text()
    assert "https://localhost:8443" in text
    text = text.replace("https://localhost:8443", url).replace(".local/ca.crt", str(authority))
    ran = subprocess.run(["bash", "-eu", "-c", text], capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["result"] == result
