"""What holds in every container of the platform, whichever it is."""

from __future__ import annotations

import base64

import pytest

from .pods import WITHOUT_SHELL, containers, host_of, objects, seen_in

pytestmark = pytest.mark.cluster

SPEAK_TO_THE_API = {
    ("data-services", "postgresql"),  # Patroni keeps the lock of the primary in it
    ("monitoring", "kube-state-metrics"),
    ("monitoring", "adapter"),
    ("monitoring", "prometheus-operator"),
    ("monitoring", "prometheus"),
}
"""By namespace and container. The containers beside them have no token."""


def pytest_generate_tests(metafunc):
    """One test for each container that runs now and has a shell to look with."""
    if "place" in metafunc.fixturenames:
        places = [(namespace, pod, name) for namespace, app, pod, name in containers() if app not in WITHOUT_SHELL]
        metafunc.parametrize("place", places, ids=["/".join(place) for place in places])


def test_all_parts_of_the_platform_are_looked_at():
    apps = {app for _namespace, app, _pod, _container in containers()}
    assert apps >= {
        "envoy",
        "ratelimit",
        "controller",
        "nodejs-runtime",
        "python-runtime",
        "rust-runtime",
        "redis",
        "redis-sentinel",
        "redis-haproxy",
        "postgresql",
        "pgbouncer",
        "postgresql-repository",
        "gateway",
        "queue-worker",
        "nats",
    }


def test_nothing_can_be_run_where_there_is_no_shell():
    # The controller's Jobs have its image, and have ended or not begun.
    places = {(namespace, pod, name): app for namespace, app, pod, name in containers() if app in WITHOUT_SHELL}
    assert {"controller", "gateway", "queue-worker", "nats"} <= set(places.values())
    for place in places:
        ran = host_of(*place).run("true")
        assert ran.rc != 0
        assert "no such file" in ran.stderr


def test_every_container_asks_for_no_rights():
    for pod in objects("pods"):
        spec = pod["spec"]
        # Upstream's, of one container that speaks to the API.
        operator = pod["metadata"]["labels"].get("app.kubernetes.io/name") == "prometheus-operator"
        assert spec.get("automountServiceAccountToken") is operator, pod["metadata"]["name"]
        for container in spec["containers"] + spec.get("initContainers", []):
            context = {**spec.get("securityContext", {}), **container["securityContext"]}
            name = f"{pod['metadata']['name']}/{container['name']}"
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["runAsNonRoot"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_runs_as_a_user_without_rights(place):
    seen = seen_in(*place)
    assert seen["uid"] != ["0"]
    assert seen["CapEff"] == ["0000000000000000"]
    assert seen["CapBnd"] == ["0000000000000000"]
    assert seen["NoNewPrivs"] == ["1"]
    assert seen["Seccomp"] == ["2"], "no seccomp filter"


def test_cannot_write_to_its_root_file_system(place):
    assert seen_in(*place)["root"] == ["read-only"]


def test_has_no_token_of_the_cluster(place):
    assert seen_in(*place)["token"] == ["mounted" if (place[0], place[2]) in SPEAK_TO_THE_API else "none"]


def test_no_secret_is_in_a_process_list(place):
    lists = host_of(*place).run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert lists.strip(), "no process list"
    for secret in objects("secrets"):
        for key, value in (secret.get("data") or {}).items():
            text = base64.b64decode(value).decode("utf-8", "replace")
            if len(text) >= 16:
                assert text not in lists, f"{secret['metadata']['name']}.{key} is in a process list"
