"""The exporters' charts and those beside PgBouncer and pgBackRest: how they get their passwords, and what they see."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import ROOT, Manifest, Objects, Render, RenderError

EXPORTERS = ROOT / "roles/data_services/files/charts/exporters"
POSTGRESQL = ROOT / "roles/data_services/files/charts/postgresql"
STATE = ROOT / "roles/monitoring/files/charts/state"
NODE = ROOT / "roles/monitoring/files/charts/node-exporter"


def pod(objects: Objects, kind: str, name: str) -> Manifest:
    return objects.one(kind, name)["spec"]["template"]["spec"]


def container(of: Manifest, name: str) -> Manifest:
    [found] = [each for each in of["containers"] if each["name"] == name]
    return found


def ports(of: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in of["ports"]}


def test_each_answers_where_the_notes_say(render: Render) -> None:
    exporters, postgresql = render(EXPORTERS), render(POSTGRESQL)
    found = {
        name: ports(container(pod(exporters, "Deployment", name), name))
        for name in ("redis-exporter", "postgresql-exporter")
    }
    found["pgbouncer"] = ports(container(pod(postgresql, "Deployment", "pgbouncer"), "exporter"))
    found["postgresql-repository"] = ports(
        container(pod(postgresql, "StatefulSet", "postgresql-repository"), "exporter")
    )
    found["kube-state-metrics"] = ports(
        container(pod(render(STATE), "Deployment", "kube-state-metrics"), "kube-state-metrics")
    )
    found["node-exporter"] = ports(container(pod(render(NODE), "DaemonSet", "node-exporter"), "node-exporter"))
    assert found == {
        "redis-exporter": {"metrics": 9121},
        "postgresql-exporter": {"metrics": 9187},
        "pgbouncer": {"metrics": 9127},
        "postgresql-repository": {"metrics": 9854},
        "kube-state-metrics": {"metrics": 8080},
        "node-exporter": {"metrics": 9100},
    }
    notes = (ROOT / "docs/notes/metrics-endpoints.md").read_text(encoding="utf-8")
    for app, [(name, number)] in ((app, list(each.items())) for app, each in found.items()):
        assert f"`{app}` | `{name}` {number} " in notes, app


def test_passwords_are_files_of_secrets(render: Render) -> None:
    redis = pod(render(EXPORTERS), "Deployment", "redis-exporter")
    assert {each["name"]: each["secret"]["secretName"] for each in redis["volumes"]} == {
        "passwords": "redis-exporter",
        "certificate": "redis-ca",
    }
    assert "--tls-ca-cert-file=/certificate/ca.crt" in container(redis, "redis-exporter")["args"]
    assert "--redis.password-file=/passwords/passwords.json" in container(redis, "redis-exporter")["args"]
    # Or it would ask Redis for its configuration, with the passwords in it.
    assert "--config-command=-" in container(redis, "redis-exporter")["args"]
    postgresql = pod(render(EXPORTERS), "Deployment", "postgresql-exporter")
    assert {each["name"]: each["secret"]["secretName"] for each in postgresql["volumes"]} == {
        "configuration": "postgresql-exporter",
        "certificate": "postgresql-ca",
    }


def test_pgbouncers_is_one_that_may_look_alone(render: Render) -> None:
    objects = render(POSTGRESQL)
    env = {entry["name"]: entry for entry in container(pod(objects, "Deployment", "pgbouncer"), "exporter")["env"]}
    assert env["PGBOUNCER_EXPORTER_CONNECTION_STRING"]["valueFrom"]["secretKeyRef"] == {
        "name": "pgbouncer-exporter",
        "key": "url",
    }
    settings = objects.one("ConfigMap", "pgbouncer-configuration")["data"]["pgbouncer.ini"].splitlines()
    assert "stats_users = stats" in settings
    assert not [line for line in settings if line.startswith("admin_users")]
    assert "client_tls_sslmode = require" in settings


def test_none_is_beside_them_where_none_is_wanted(render: Render) -> None:
    with_them, without = render(POSTGRESQL), render(POSTGRESQL, {"metrics": {"enabled": False, "pgbouncerImage": ""}})
    for kind, name in (("Deployment", "pgbouncer"), ("StatefulSet", "postgresql-repository")):
        assert len(pod(without, kind, name)["containers"]) == 1
        assert len(pod(with_them, kind, name)["containers"]) == 2
    assert "stats_users" not in without.one("ConfigMap", "pgbouncer-configuration")["data"]["pgbouncer.ini"]
    # The servers go on.
    assert with_them.one("StatefulSet", "postgresql") == without.one("StatefulSet", "postgresql")


def test_an_image_that_is_missing_is_named(render: Render) -> None:
    with pytest.raises(RenderError, match="metrics.pgbouncerImage is empty"):
        render(POSTGRESQL, {"metrics": {"pgbouncerImage": ""}})
    with pytest.raises(RenderError, match="exporterImage is empty"):
        render(STATE, {"exporterImage": ""})


def test_the_exporter_of_state_may_list_and_nothing_with_secrets(render: Render) -> None:
    objects = render(STATE)
    [role], [binding] = objects.of("ClusterRole"), objects.of("ClusterRoleBinding")
    listed = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "watch"}
    assert not listed & {"secrets", "*"}
    # Of ConfigMaps those alone that say when certificates end.
    assert [rule["resourceNames"] for rule in role["rules"] if "configmaps" in rule["resources"]] == [["certificates"]]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "kube-state-metrics", "namespace": "test"}]
    # Upstream's is told to list what it may list, as it tries everything else again and again.
    [asked] = [
        arg
        for arg in container(pod(objects, "Deployment", "kube-state-metrics"), "kube-state-metrics")["args"]
        if "--resources=" in arg
    ]
    assert asked == "--resources=" + ",".join(sorted(listed - {"configmaps"}))


def test_with_upstreams_program_ours_adds_what_that_has_not(render: Render) -> None:
    upstream = pod(render(STATE), "Deployment", "kube-state-metrics")
    assert container(upstream, "exporter")["args"] == ["8082", "platform_"]
    assert "command" not in container(upstream, "kube-state-metrics")
    ours = pod(
        render(STATE, {"program": "kube-state-exporter", "exporterImage": ""}), "Deployment", "kube-state-metrics"
    )
    [alone] = ours["containers"]
    assert (alone["command"][0], alone["args"]) == ("python3", ["8080"])


def test_every_node_is_read_and_none_is_written(render: Render) -> None:
    agent = pod(render(NODE), "DaemonSet", "node-exporter")
    assert agent["tolerations"] == [{"operator": "Exists"}]
    assert {volume["hostPath"]["path"] for volume in agent["volumes"]} == {"/", "/proc", "/sys"}
    assert all(mount["readOnly"] for mount in container(agent, "node-exporter")["volumeMounts"])
    args = container(agent, "node-exporter")["args"]
    assert "--collector.disable-defaults" in args and "--collector.filesystem" in args
    # They would be of the pod's network, and look like the node's.
    assert not {"--collector.netdev", "--collector.netstat", "--collector.sockstat"} & set(args)


def test_pgbouncers_exporter_waits_for_it_and_ends_with_its_pod(render: Render, tmp_path: Path) -> None:
    shell = container(pod(render(POSTGRESQL), "Deployment", "pgbouncer"), "exporter")["command"]
    # The program's place: it fails once, as before PgBouncer listens, and then goes on.
    program, log = tmp_path / "pgbouncer_exporter", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$(wc -l < {log})" -gt 1 ] || exit 1\nexec sleep 60\n')
    program.chmod(0o755)
    command = [*shell[:2], shell[2].replace("/bin/pgbouncer_exporter", str(program))]
    with subprocess.Popen(command, env=os.environ, start_new_session=True) as running:
        ends = time.monotonic() + 30
        while not log.exists() or len(log.read_text().splitlines()) < 2:
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert running.poll() is None
        running.terminate()
        assert running.wait(10) == 0
    assert log.read_text().splitlines() == ["--web.listen-address=:9127 --log.level=warn"] * 2
