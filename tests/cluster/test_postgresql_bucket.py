"""PostgreSQL's backups in an encrypted bucket: made by themselves, unreadable, restored to a time; what fails is said.

The role as it is, small and in a namespace of the test's own, against an S3 server that keeps objects as files
(versitygw, bucket/go.mod). Without the role's network policies: their flows name the namespace data-services.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.postgresql import (
    postgresql_backup,
    postgresql_roles,
)

from .checkout import image, playbook, run, start_playbook
from .postgresql_release import SMALL_ROLE, Release

pytestmark = pytest.mark.cluster

PORT = 7070
OBJECTS = "/objects/backups"
PG_WAL = "/var/lib/postgresql/data/pgdata/pg_wal"
DOCKERFILE = """
ARG BASE
FROM ${BASE}
COPY versitygw /usr/local/bin/
"""
# A restore runs the whole role.
SMALL = {
    **SMALL_ROLE,
    "data_services_drill_client": False,
    "data_services_postgresql_replicas": 3,
    "data_services_redis_backup": True,
    "data_services_redis_backup_storage": "1Gi",
}
WITHOUT_POLICIES = ("--skip-tags", "data_services_policy")
WHOLE = [("leader", "running"), ("replica", "streaming"), ("sync_standby", "streaming")]
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
ROWS = "SELECT count(*) || ' ' || md5(string_agg(n || said, ',' ORDER BY n)) FROM kept"


class Platform(Release):
    """The role in a namespace, with the repository in the bucket `backups` of https://bucket."""

    def __init__(self, cluster: Cluster, kubeconfig: str, namespace: str) -> None:
        super().__init__(kubeconfig, namespace)
        self.cluster = cluster
        self.key = {"key": f"key-{secrets.token_hex(8)}", "key-secret": secrets.token_hex(20)}
        self.variables: dict[str, Any] = {"data_services_namespace": namespace, **SMALL}

    def apply(self, kind: str, name: str, **fields: Any) -> None:
        about = {"name": name, "namespace": self.namespace, "labels": {"app": name}}
        self.cluster.apply({"apiVersion": "v1", "kind": kind, "metadata": about, **fields}, "test")

    def serve(self, folder: Path) -> str:
        """The S3 server; returns the authority of its certificate, which is the certificate itself."""
        certificate = {"tls.crt": folder / "tls.crt", "tls.key": folder / "tls.key"}
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", folder / "tls.key")
        name = ("-subj", "/CN=bucket", "-addext", "subjectAltName=DNS:bucket")
        run("openssl", "req", "-x509", "-days", "1", *new_key, *name, "-out", folder / "tls.crt")
        self.apply("Secret", "server-tls", stringData={key: path.read_text() for key, path in certificate.items()})
        self.apply("Secret", "server-key", stringData=self.key)
        self.apply("Service", "bucket", spec={"selector": {"app": "bucket"}, "ports": [{"port": PORT}]})
        given = {"ROOT_ACCESS_KEY_ID": "key", "ROOT_SECRET_ACCESS_KEY": "key-secret"}
        server = {
            "name": "bucket",
            "image": server_image(folder / "image"),
            "command": ["sh", "-c", f"mkdir -p {OBJECTS} && exec versitygw posix /objects"],
            "env": [
                {"name": "VGW_PORT", "value": f":{PORT}"},
                {"name": "VGW_CERT", "value": "/certificate/tls.crt"},
                {"name": "VGW_KEY", "value": "/certificate/tls.key"},
                *(
                    {"name": name, "valueFrom": {"secretKeyRef": {"name": "server-key", "key": key}}}
                    for name, key in given.items()
                ),
            ],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 2},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [
                {"name": "objects", "mountPath": "/objects"},
                {"name": "certificate", "mountPath": "/certificate"},
            ],
        }
        volumes = [{"name": "objects", "emptyDir": {}}, {"name": "certificate", "secret": {"secretName": "server-tls"}}]
        self.apply("Pod", "bucket", spec={"containers": [server], "volumes": volumes})
        self.kubectl("wait", "pod/bucket", "--for=condition=Ready", "--timeout=120s")
        return certificate["tls.crt"].read_text()

    def play(self, path: str, *options: str, **more: Any) -> tuple[int, str]:
        return playbook(path, *options, *WITHOUT_POLICIES, **self.variables, **more)

    def volumes(self) -> str:
        """The claims of PostgreSQL's members."""
        return self.kubectl("get", "pvc", "-l", "app.kubernetes.io/name=postgresql", "-o", "name").stdout

    def write(self, query: str) -> str:
        done = self.query(query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def flush(self) -> None:
        """What is committed is in the archive, or this fails."""
        self.inside(self.primary(), "python3", "/scripts/member", "flush")

    def settled(self, another_than: str) -> str:
        """The primary, once it is another one and both standbys follow."""
        ends = time.monotonic() + 90
        while True:
            first = self.primary()
            said = self.inside(first, "python3", "/scripts/member", "cluster", check=False).stdout if first else "{}"
            members = json.loads(said or "{}").get("members", [])
            states = sorted((member["role"], member["state"]) for member in members)
            if first != another_than and states == WHOLE:
                return first
            assert time.monotonic() < ends, (another_than, first, states)
            time.sleep(1)

    def left(self) -> list[str]:
        """Of each timeline that has ended, the segment in which it was left."""
        history = self.inside(self.settled(""), "sh", "-c", f"cat $(ls {PG_WAL}/*.history | tail -1) || true").stdout
        segments = []
        for timeline, position in (line.split()[:2] for line in history.splitlines() if line):
            high, low = (int(part, 16) for part in position.split("/"))
            segments.append(f"{int(timeline):08X}{high:08X}{low >> 24:08X}")
        return segments

    def in_repository(self, *command: str, check: bool = True) -> str:
        done = self.kubectl("exec", "postgresql-repository-0", "--", *command, check=check)
        return done.stdout if check else done.stdout + done.stderr

    def in_bucket(self, command: str) -> str:
        return self.kubectl("exec", "bucket", "--", "sh", "-c", command).stdout

    def log(self) -> str:
        return self.kubectl("logs", "postgresql-repository-0").stdout

    def logs(self, text: str) -> None:
        """The repository's log has it, or gets it soon."""
        ends = time.monotonic() + 60
        while text not in self.log():
            assert time.monotonic() < ends, self.log()
            time.sleep(2)

    def verify(self, wait_seconds: float = 0) -> str:
        """What the check `postgresql: backup` of playbooks/verify.yml says."""
        names = {"servers": "postgresql", "repository": "postgresql-repository", "namespace": self.namespace}
        return postgresql_backup(self.cluster, {**names, "server_count": 3, "backup_hours": 1}, wait_seconds).detail


def server_image(folder: Path) -> str:
    """The S3 server in an image with a shell, pushed to where the nodes pull from."""
    module, program = Path(__file__).with_name("bucket"), "github.com/versity/versitygw/cmd/versitygw"
    folder.mkdir()
    build = ("go", "build", "-C", module, "-trimpath", "-ldflags=-s -w", "-o", f"{folder}/", program)
    run("env", "CGO_ENABLED=0", *build, seconds=1800)
    base = image("haproxy")
    reference = f"{base}-versitygw"
    docker = ("docker", "build", "--file", "-", "--build-arg", f"BASE={base}", "--tag", reference)
    run(*docker, folder, given=DOCKERFILE, seconds=600)
    run("docker", "push", "--quiet", reference)
    return reference


@pytest.fixture(scope="module")
def platform(cluster, kubeconfig: str, own_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    made = Platform(cluster, kubeconfig, own_namespace)
    authority = made.serve(tmp_path_factory.mktemp("server"))
    made.apply("Secret", "backup-key", stringData=made.key)
    made.variables["data_services_postgresql_backup_encrypted"] = True
    made.variables["data_services_postgresql_backup_s3"] = {
        "bucket": "backups",
        "endpoint": "bucket",
        "port": PORT,
        "region": "us-east-1",
        "uri_style": "path",
        "secret": "backup-key",
        "ca": authority,
    }
    code, said = made.play("site.yml", "--tags", "data_services")
    assert code == 0, said
    return made


def test_the_first_backup_and_the_archive_are_in_the_bucket_by_themselves(platform: Platform) -> None:
    assert "1 backups" in platform.verify(wait_seconds=120)
    platform.flush()
    (stanza,) = json.loads(platform.in_repository("pgbackrest", "info", "--output=json"))
    assert stanza["cipher"] == "aes-256-cbc"
    assert "repository" not in platform.kubectl("get", "persistentvolumeclaims", "-o", "name").stdout
    segment = platform.write("SELECT last_archived_wal FROM pg_stat_archiver")
    found = platform.in_bucket(f"find {OBJECTS} -type f")
    assert f"/{segment}-" in found
    assert f"/backup/lambda/{stanza['backup'][0]['label']}/" in found
    # And a scheduled one, whose pod has no volume either.
    platform.kubectl("create", "job", "now", "--from=cronjob/postgresql-backup")
    platform.kubectl("wait", "job/now", "--for=condition=Complete", "--timeout=180s")
    assert "2 backups" in platform.verify()


def test_the_bucket_has_nothing_that_can_be_read(platform: Platform) -> None:
    """pgBackRest encrypts as `openssl enc` does: each object begins with this word and eight bytes of salt."""
    of_each = 'case "$(head -c 8 "$name")" in Salted__) echo encrypted;; *) echo "$name";; esac'
    told = platform.in_bucket(f"find {OBJECTS} -type f | while read -r name; do {of_each}; done").splitlines()
    assert len(told) > 5
    assert set(told) == {"encrypted"}


def test_neither_key_nor_passphrase_is_where_others_see_it(platform: Platform) -> None:
    held = json.loads(platform.kubectl("get", "secret", "postgresql-backup", "-o", "json").stdout)["data"]["passphrase"]
    secret_ones = [platform.key["key-secret"], platform.key["key"], base64.b64decode(held).decode()]
    # A full backup by the CronJob's command, with all processes that it starts.
    command = "pgbackrest --stanza=lambda --type=full --log-level-console=warn backup & while kill -0 $!; do cat"
    listed = platform.in_repository("sh", "-c", f"{command} /proc/[0-9]*/cmdline; sleep 0.1; done 2>/dev/null")
    assert "backup:local" in listed
    seen = {
        "processes": listed,
        "objects": platform.kubectl("get", "configmaps,pods,statefulsets,cronjobs", "-o", "yaml").stdout,
        "log": platform.log(),
    }
    for place, text in seen.items():
        for secret in secret_ones:
            assert secret not in text, place
            assert base64.b64encode(secret.encode()).decode() not in text, place


def test_copies_of_redis_are_in_the_bucket_and_come_back_to_a_cluster_that_has_none(platform: Platform) -> None:
    platform.kubectl("create", "job", "redis-now", "--from=cronjob/redis-backup")
    platform.kubectl("wait", "job/redis-now", "--for=condition=Complete", "--timeout=180s")
    assert "is in the bucket, and was read back" in platform.kubectl("logs", "job/redis-now", "-c", "bucket").stdout
    (whole,) = platform.in_bucket(f"find {OBJECTS} -name 'redis-*.rdb.sha256'").split()
    name = Path(whole).name.removesuffix(".sha256")
    # The volume is lost.
    platform.kubectl("delete", "job/redis-now", "pvc/redis-backup", "--timeout=60s")
    code, said = platform.play("site.yml", "--tags", "data_services")
    assert code == 0, said
    code, said = platform.play("playbooks/restore-redis.yml", restore_confirm="yes")
    assert code == 0, said
    logs = platform.kubectl("logs", "-l", "app.kubernetes.io/name=redis-restore", "-c", "bucket").stdout
    assert f"{name} was fetched from the bucket" in logs


def test_a_restore_in_place_has_the_rows_of_that_time(platform: Platform) -> None:
    platform.write("CREATE TABLE kept AS SELECT n, md5(n::text) AS said FROM generate_series(1, 5000) n")
    wanted = platform.write(ROWS)
    time.sleep(1.1)
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S+00")
    time.sleep(1.1)
    platform.write("UPDATE kept SET said = 'later'")
    assert platform.write(ROWS) != wanted

    code, said = platform.play("playbooks/restore.yml", restore_time=moment, restore_confirm="yes")
    assert code == 0, said
    assert platform.write(ROWS) == wanted
    assert platform.write(STREAMING) == "2"
    # It goes on archiving, and backs up its new timeline.
    platform.flush()
    platform.verify(wait_seconds=120)
    # What was there before is kept, until somebody lets it go.
    selector = ("-l", f"lambda-microservice.platform/before-restore={platform.namespace}")
    names = platform.kubectl("get", "pv", *selector, "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    phases = platform.kubectl("get", "pv", *selector, "-o", "jsonpath={.items[*].status.phase}").stdout.split()
    assert phases == ["Released"] * 3 and all(name in said for name in names)
    platform.kubectl("patch", "pv", *names, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')
    platform.kubectl("wait", "pv", *names, "--for=delete", "--timeout=120s")


def test_a_restore_that_is_killed_is_finished_by_the_next_play(platform: Platform) -> None:
    """Killed when the volumes are gone: what comes up is what was restored, whoever brings it up."""
    wanted = platform.write(ROWS)
    options = ("playbooks/restore.yml", *WITHOUT_POLICIES)
    given = {"restore_confirm": "yes", "restore_keep_volumes": "false"}
    with start_playbook(*options, **platform.variables, **given) as process:
        ends = time.monotonic() + 300
        while platform.volumes():
            assert process.poll() is None and time.monotonic() < ends
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, said = platform.play("site.yml", "--tags", "data_services")
    assert code == 0, said
    assert platform.write(ROWS) == wanted
    with pytest.raises(PlatformError, match="cut short"):
        postgresql_roles(platform.cluster, {"namespace": platform.namespace})
    code, said = platform.play("playbooks/restore.yml", **given)
    assert code == 0, said
    assert platform.write(ROWS) == wanted
    assert platform.kubectl("get", "configmap", "postgresql-restore", check=False).returncode != 0
    platform.verify(wait_seconds=120)


def test_the_unfinished_last_segment_of_a_timeline_is_not_archived(platform: Platform) -> None:
    """Members that followed the timeline have it, each with other remains behind its end: one could archive it, and the
    next that is primary would be refused, again and again.
    """
    earlier = len(platform.left())
    for _turn in range(4):
        first = platform.settled("")
        switchover = ("switchover", "--leader", first, "--force")
        platform.inside(first, "patronictl", "-c", "/configuration/patroni.yml", *switchover)
        platform.settled(first)
        for _segment in range(3):
            platform.write("CREATE TABLE filler AS SELECT generate_series(1, 1000) n; DROP TABLE filler")
            platform.write("SELECT pg_switch_wal()")
            # Hands old ones to the archiver that have not been there.
            platform.write("CHECKPOINT")
        platform.flush()
    left = platform.left()[earlier:]
    assert len(left) >= 4
    archived = platform.in_bucket(f"find {OBJECTS} -type f")
    for segment in left:
        assert f"/{segment}.partial-" in archived
        assert f"/{segment}-" not in archived
    platform.verify(wait_seconds=120)


def test_a_certificate_of_another_authority_is_refused(platform: Platform) -> None:
    other = ("pgbackrest", "--repo1-storage-ca-file=/certificate/ca.crt", "--io-timeout=2", "repo-ls")
    assert "unable to verify certificate presented by 'bucket:7070" in platform.in_repository(*other, check=False)


def test_a_bucket_that_is_not_there_is_named_and_mended(platform: Platform) -> None:
    platform.in_bucket(f"mv {OBJECTS} /objects/elsewhere")
    try:
        with pytest.raises(PlatformError, match="NoSuchBucket"):
            platform.verify()
        code, said = platform.play("playbooks/restore.yml", restore_confirm="yes")
        assert code != 0
        assert "Nothing was touched: the backup repository cannot be read" in said
        assert "NoSuchBucket" in said
        platform.logs("NoSuchBucket")
    finally:
        platform.in_bucket(f"mv /objects/elsewhere {OBJECTS}")
    platform.flush()
    platform.verify(wait_seconds=60)


def test_a_wrong_key_is_named(platform: Platform) -> None:
    wrong = secrets.token_hex(20)
    platform.apply("Secret", "backup-key", stringData={**platform.key, "key-secret": wrong})
    platform.kubectl("delete", "pod", "postgresql-repository-0")
    platform.kubectl("rollout", "status", "statefulset/postgresql-repository", "--timeout=120s")
    with pytest.raises(PlatformError, match="SignatureDoesNotMatch"):
        platform.verify()
    platform.logs("SignatureDoesNotMatch")
    assert wrong not in platform.log()
