"""The chart postgresql: where backups go, what of it is in plain sight, and sessions that fit."""

from __future__ import annotations

import configparser

import pytest
import yaml

from .conftest import ROOT, Objects, Render, RenderError

CHART = ROOT / "roles/data_services/files/charts/postgresql"
BUCKET = {"bucket": "backups", "endpoint": "s3.example.com", "region": "eu-1", "secret": "backup-key"}


def rendered(render: Render, **repository: object) -> Objects:
    return render(CHART, {"repository": repository})


def configuration(objects: Objects) -> dict[str, str]:
    text = objects.one("ConfigMap", "postgresql-repository")["data"]["pgbackrest.conf"]
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def pods(objects: Objects) -> list[dict]:
    """Of the repository and of a backup."""
    job = objects.one("CronJob", "postgresql-backup")["spec"]["jobTemplate"]["spec"]
    return [objects.one("StatefulSet", "postgresql-repository")["spec"]["template"]["spec"], job["template"]["spec"]]


def test_a_new_cluster_begins_with_what_the_restore_leaves_for_it(render: Render) -> None:
    play = yaml.safe_load((ROOT / "playbooks/tasks/restore-in-place.yml").read_text(encoding="utf-8"))
    # What is kept is seen to before all else.
    kept, play = play[:3], play[3:]
    assert kept[-1]["kubernetes.core.k8s"]["definition"]["spec"] == {"persistentVolumeReclaimPolicy": "Retain"}
    left = play[0]["kubernetes.core.k8s"]["definition"]
    volumes = rendered(render).one("StatefulSet", "postgresql")["spec"]["template"]["spec"]["volumes"]
    [sources] = [volume["projected"]["sources"] for volume in volumes if volume["name"] == "configuration"]
    # Patroni reads *.yml in the order of their names, and all of this ConfigMap.
    assert {"configMap": {"name": left["metadata"]["name"], "optional": True}} in sources
    assert [*left["data"]] == ["restore.yml"]
    # Before anything is deleted, and away only when all is up.
    others = {"name", "vars", "loop", "loop_control", "when", "register"}
    assert [next(iter(task.keys() - others)) for task in play] == [
        "kubernetes.core.k8s",
        "kubernetes.core.k8s_scale",
        "kubernetes.core.k8s",
        "ansible.builtin.import_role",
        "kubernetes.core.k8s",
        "kubernetes.core.k8s_info",
        "ansible.builtin.debug",
    ]


def test_the_repository_is_a_volume_unless_there_is_a_bucket(render: Render) -> None:
    objects = rendered(render)
    settings = configuration(objects)
    assert settings["repo1-path"] == "/backup" and not [name for name in settings if "s3" in name]
    [claim] = objects.one("StatefulSet", "postgresql-repository")["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "backup"
    # The volume can be mounted on one node.
    assert "podAffinity" in pods(objects)[1]["affinity"]


def members(render: Render, **repository: object) -> tuple[configparser.ConfigParser, str]:
    """pgBackRest's configuration beside PostgreSQL, and the command that archives."""
    data = rendered(render, **repository).one("ConfigMap", "postgresql-configuration")["data"]
    parsed = configparser.ConfigParser()
    parsed.read_string(data["pgbackrest.conf"])
    return parsed, yaml.safe_load(data["patroni.yml"])["postgresql"]["parameters"]["archive_command"]


def test_wal_is_archived_one_after_the_other_unless_more_processes_are_asked_for(render: Render) -> None:
    parsed, command = members(render)
    assert "global:archive-push" not in parsed and "left-behind %f ||" in command
    parsed, command = members(render, archiveProcesses=2, processes=4)
    assert dict(parsed["global:archive-push"]) == {
        "archive-async": "y",
        "process-max": "2",
        # Where it outlives the container.
        "spool-path": "/var/lib/postgresql/data/spool",
    }
    assert parsed["global:restore"]["process-max"] == "4"
    # They ask nobody whether a segment may be archived.
    assert "left-behind %f others ||" in command
    assert configuration(rendered(render, processes=4))["process-max"] == "4"


def test_with_a_bucket_nothing_of_the_repository_is_on_a_volume(render: Render) -> None:
    objects = rendered(render, s3={**BUCKET, "uriStyle": "path", "port": 9000, "verifyTls": False})
    settings = configuration(objects)
    assert {name: settings[name] for name in settings if name.startswith("repo1-")} == {
        "repo1-type": "s3",
        "repo1-path": "/postgresql",
        "repo1-s3-bucket": "backups",
        "repo1-s3-endpoint": "s3.example.com",
        "repo1-s3-region": "eu-1",
        "repo1-s3-uri-style": "path",
        "repo1-s3-key-type": "shared",
        "repo1-storage-port": "9000",
        "repo1-storage-verify-tls": "n",
        "repo1-retention-full-type": "time",
        "repo1-retention-full": "30",
        "repo1-bundle": "y",
    }
    assert "volumeClaimTemplates" not in objects.one("StatefulSet", "postgresql-repository")["spec"]
    for pod in pods(objects):
        assert not [volume for volume in pod["volumes"] if volume["name"] == "backup"]
        for container in pod["containers"]:
            assert not [mount for mount in container["volumeMounts"] if mount["name"] == "backup"]
    assert "podAffinity" not in pods(objects)[1].get("affinity", {})


def test_keys_and_passphrase_come_from_secrets_alone(render: Render) -> None:
    objects = rendered(render, s3=BUCKET, cipherSecret="passphrase-of-ours")
    assert configuration(objects)["repo1-cipher-type"] == "aes-256-cbc"
    for pod in pods(objects):
        given = {entry["name"]: entry.get("valueFrom") for entry in pod["containers"][0]["env"]}
        assert {name: source["secretKeyRef"] for name, source in given.items() if source} == {
            "PGBACKREST_REPO1_S3_KEY": {"name": "backup-key", "key": "key"},
            "PGBACKREST_REPO1_S3_KEY_SECRET": {"name": "backup-key", "key": "key-secret"},
            "PGBACKREST_REPO1_CIPHER_PASS": {"name": "passphrase-of-ours", "key": "passphrase"},
        }


@pytest.mark.parametrize("key_type", ["web-id", "auto"])
def test_an_identity_needs_no_secret(render: Render, key_type: str) -> None:
    annotations = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/backup"}
    s3 = {**BUCKET, "secret": "", "keyType": key_type}
    objects = rendered(render, s3=s3, serviceAccount={"annotations": annotations})
    assert objects.one("ServiceAccount", "postgresql-repository")["metadata"]["annotations"] == annotations
    for pod in pods(objects):
        assert pod["serviceAccountName"] == "postgresql-repository"
        assert not [entry for entry in pod["containers"][0]["env"] if "S3" in entry["name"]]


def test_an_authority_of_the_users_own_is_beside_the_configuration(render: Render) -> None:
    authority = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    objects = rendered(render, s3={**BUCKET, "ca": authority})
    assert configuration(objects)["repo1-storage-ca-file"] == "/configuration/s3-ca.crt"
    assert objects.one("ConfigMap", "postgresql-repository")["data"]["s3-ca.crt"].strip() == authority.strip()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"region": ""}, "region"),
        ({"secret": ""}, "secret"),
        ({"endpoint": "https://s3.example.com"}, "endpoint"),
        ({"keyType": "static"}, "keyType"),
        ({"path": "postgresql"}, "path"),
    ],
)
def test_a_bucket_that_lacks_something_is_named(render: Render, wrong: dict, named: str) -> None:
    with pytest.raises(RenderError, match=named):
        rendered(render, s3={**BUCKET, **wrong})


def test_the_backup_whose_turn_it_is_and_a_bound_for_wal_that_waits(render: Render) -> None:
    objects = rendered(render, fullDays=3, archiveQueueMax=42949672960, env={"TZ": "UTC"})
    repository, job = pods(objects)
    (container,) = job["containers"]
    assert container["command"] == ["python3", "-u", "/scripts/repository", "backup"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (given["FULL_DAYS"], given["TZ"]) == ("3", "UTC")
    assert "FULL_DAYS" not in {entry["name"] for entry in repository["containers"][0]["env"]}
    text = objects.one("ConfigMap", "postgresql-configuration")["data"]["pgbackrest.conf"]
    # Of the members', who archive.
    assert "archive-push-queue-max=42949672960" in text.splitlines()
    assert "queue" not in "".join(configuration(objects))
    assert "queue" not in rendered(render).one("ConfigMap", "postgresql-configuration")["data"]["pgbackrest.conf"]


def test_a_repository_that_never_gets_ready_does_not_hold_up_what_mends_it(render: Render) -> None:
    assert rendered(render).one("StatefulSet", "postgresql-repository")["spec"]["podManagementPolicy"] == "Parallel"


def test_there_are_snapshots_only_where_a_class_is_named(render: Render) -> None:
    assert not [obj for obj in rendered(render) if obj["metadata"]["name"] == "postgresql-snapshot"]
    objects = render(CHART, {"snapshot": {"class": "csi", "retentionDays": 5}})
    job = objects.one("CronJob", "postgresql-snapshot")["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert {entry["name"]: entry.get("value") for entry in container["env"]} == {
        "POD_NAMESPACE": None,
        "SNAPSHOT_CLASS": "csi",
        "READY_SECONDS": "900",
        "RETENTION_DAYS": "5",
    }
    assert pod["serviceAccountName"] == "postgresql-snapshot" and pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsUser"] == 999
    assert objects.one("Role", "postgresql-snapshot")["rules"] == [
        {"apiGroups": [""], "resources": ["endpoints"], "resourceNames": ["postgresql-primary"], "verbs": ["get"]},
        {
            "apiGroups": ["snapshot.storage.k8s.io"],
            "resources": ["volumesnapshots"],
            "verbs": ["create", "get", "list", "delete"],
        },
    ]


def test_a_class_that_comes_restarts_no_postgresql(render: Render) -> None:
    def template(**values: object) -> dict:
        return render(CHART, values).one("StatefulSet", "postgresql")["spec"]["template"]

    assert template() == template(snapshot={"class": "csi"})


def test_the_role_that_asks_for_verifiers_has_fewer_sessions_than_postgresql_allows_it(render: Render) -> None:
    """Two for each PgBouncer and two more, for one more PgBouncer in an update (templates/roles.sql.j2): one login too
    many is refused, and PgBouncer lets nobody in for a second then."""
    rendered = render(CHART, {"pgbouncer": {"pools": {"controller": 15}}})
    text = rendered.one("ConfigMap", "pgbouncer-configuration")["data"]["pgbouncer.ini"]
    settings = configparser.ConfigParser(delimiters=("=",))
    settings.read_string(text)
    assert dict(settings["users"]) == {"pgbouncer": "pool_size=2", "controller": "pool_size=15"}
