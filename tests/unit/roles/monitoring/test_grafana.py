"""What the role asks for where Grafana is wanted, with the real Ansible and without a cluster."""

from __future__ import annotations

import pytest

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

ARGUMENTS = ("-e", f"platform_images_file={ROOT}/tests/images.json", "-e", "monitoring_enabled=true")
IMAGE = '{"platform_images": {"grafana": {"repository": "registry.example/grafana", "tag": "12"}}}'


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


def site(collections, folder, *arguments):
    done = run(collections, "site", "--tags", "monitoring,data_services", *ARGUMENTS, *arguments, folder=folder)
    assert done.rc == 0, done.output
    return done


def release(done):
    (found,) = [one for asked in done.asked("chart") for one in asked["releases"] if one["name"] == "grafana"]
    return found


def test_grafana_comes_after_the_database_that_it_shows(collections, tmp_path):
    done = site(collections, tmp_path, "-e", "monitoring_grafana_enabled=true", "-e", IMAGE)
    made = [secret for asked in done.asked("secret") for secret in asked["secrets"]]
    names = [secret["name"] for secret in made]
    assert {"admin-password", "secret-key"} == set(made[names.index("grafana")]["random"])
    shown = made[names.index("postgresql-dashboards")]
    assert shown["namespaces"] == ["data-services", "monitoring"]
    assert names.index("postgresql-dashboards") < names.index("grafana")
    values = release(done)["values"]
    assert values["image"] == "registry.example/grafana:12"
    assert values["postgresql"]["address"] == "pgbouncer.data-services.svc.cluster.local:6432"
    (policy,) = [
        obj
        for asked in done.asked("policy")
        for obj in asked["objects"]
        if obj["kind"] == "NetworkPolicy" and obj["metadata"]["name"] == "grafana"
    ]
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {9090, 6432} and not policy["spec"].get("ingress")


def test_it_is_off_here_and_leaves_nothing(collections, tmp_path):
    done = site(collections, tmp_path)
    assert release(done)["state"] == "absent"
    names = {secret["name"] for asked in done.asked("secret") for secret in asked["secrets"]}
    assert not names & {"grafana", "postgresql-dashboards"}


def test_verify_looks_at_it_where_it_is(collections, tmp_path):
    def asked(wanted):
        given = ("-e", f"monitoring_grafana_enabled={wanted}", "-e", IMAGE)
        done = run(collections, "verify", *ARGUMENTS, *given, folder=tmp_path)
        assert done.rc == 0, done.output
        (arguments,) = done.asked("verify")
        return arguments

    assert asked("true")["grafana"] == {"namespace": "monitoring", "sources": ["prometheus", "postgresql"]}
    assert "grafana" not in asked("false")
