"""PostgreSQL 15 becomes 17 by playbooks/upgrade-postgresql.yml while a client writes: what is refused, cut off, gone
back from, and done.

The role as it is, small and in a namespace of the test's own, with an image that has both versions (images/postgresql),
which is built once, in some minutes. Without the role's network policies: their flows name the namespace data-services.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.postgresql import (
    postgresql_backup,
    postgresql_roles,
)

from .checkout import IMAGES, image, playbook, run, start_playbook
from .postgresql_release import SMALL_ROLE, Release

pytestmark = pytest.mark.cluster

UPGRADE = "playbooks/upgrade-postgresql.yml"
WITHOUT_POLICIES = ("--skip-tags", "data_services_policy")
OLD, NEW = "15", "17"
ROWS = "SELECT count(*) || ' ' || md5(string_agg(n || said, ',' ORDER BY n)) FROM app.kept"
# Each connection begins anew, as that of a client whose pool had an error does.
WRITE = """number=0
while [ ! -e /dev/shm/stop ]; do
  number=$((number + 1))
  if timeout 3 psql 'host=pgbouncer port=6432 dbname=lambda sslmode=require' -X -q \\
    -c "INSERT INTO app.written VALUES ($number)" 2>/dev/null
  then echo "$number $(date +%s.%N)"; fi
  sleep 0.05
done"""
CLIENT = {"connections": 4, "pool": 2, "schemas": ["app"]}


def both_versions() -> str:
    """The tag of an image with both, pushed to where the nodes pull from."""
    repository, tag = image("postgresql").rsplit(":", 1)
    reference = f"{repository}:{tag}-with-{OLD}"
    arguments = {"BASE": "lambda-microservice/debian:trixie-slim", "OLD_MAJOR": OLD, "OLD_SUITE": "bookworm"}
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    run("docker", "build", *given, "--tag", reference, "images/postgresql", seconds=900)
    run("docker", "push", "--quiet", reference)
    return reference


class Platform(Release):
    """The role in a namespace, with three members of PostgreSQL."""

    def __init__(self, cluster: Cluster, kubeconfig: str, namespace: str) -> None:
        super().__init__(kubeconfig, namespace)
        self.cluster = cluster
        reference = both_versions()
        self.variables: dict[str, Any] = {
            **SMALL_ROLE,
            "platform_kubeconfig": kubeconfig,
            "platform_images_file": str(IMAGES),
            "data_services_namespace": namespace,
            "data_services_drill_client": False,
            "data_services_metrics_enabled": False,
            "data_services_postgresql_replicas": 3,
            "data_services_postgresql_version": OLD,
            "data_services_postgresql_clients": {"app": CLIENT},
            "platform_images": {"postgresql": dict(zip(("repository", "tag"), reference.rsplit(":", 1), strict=True))},
        }

    def play(self, path: str, *options: str, **more: Any) -> tuple[int, str]:
        return playbook(path, *options, *WITHOUT_POLICIES, **{**self.variables, **more})

    def upgrade(self, *options: str, **more: Any) -> tuple[int, str]:
        given = {"data_services_postgresql_version": NEW, "upgrade_postgresql_confirm": True, **more}
        return self.play(UPGRADE, *options, **given)

    def write(self, query: str, pod: str = "") -> str:
        psql = ("psql", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "lambda", "-X", "-q", "-t", "-A")
        return self.inside(pod or self.primary(), *psql, "-v", "ON_ERROR_STOP=1", "-c", query).stdout.strip()

    def pods(self) -> str:
        labels = ("-l", "app.kubernetes.io/name=postgresql", "-o", "jsonpath={.items[*].metadata.uid}")
        return self.kubectl("get", "pods", *labels).stdout

    def backups(self) -> list[str]:
        """The versions of the backups, in their order."""
        told = self.kubectl("exec", "postgresql-repository-0", "--", "pgbackrest", "info", "--output=json").stdout
        (stanza,) = json.loads(told)
        versions = {one["id"]: one["version"] for one in stanza["db"]}
        return [versions[one["database"]["id"]] for one in stanza["backup"]]

    def whole(self) -> None:
        names = {"servers": "postgresql", "service": "postgresql-primary", "repository": "postgresql-repository"}
        options = {**names, "namespace": self.namespace, "server_count": 3, "synchronous": True, "backup_hours": 1}
        postgresql_roles(self.cluster, options)
        postgresql_backup(self.cluster, options, 120)


class Client:
    """Commits one row after the other through PgBouncer, from a pod, and notes when each was acknowledged."""

    def __init__(self, platform: Platform) -> None:
        secret = json.loads(platform.kubectl("get", "secret", "postgresql-app", "-o", "json").stdout)["data"]
        user, password = (base64.b64decode(secret[key]).decode() for key in ("username", "password"))
        self.platform, self.times = platform, {}
        given = ("env", f"PGUSER={user}", f"PGPASSWORD={password}", "PGCONNECT_TIMEOUT=2", "sh", "-c", WRITE)
        self.command = ["kubectl", "--kubeconfig", platform.kubeconfig, "--namespace", platform.namespace, "exec"]
        self.command += ["deploy/pgbouncer", "-c", "pgbouncer", "--", *given]

    def __enter__(self) -> Client:
        platform = self.platform
        platform.write("CREATE TABLE app.written (n int); ALTER TABLE app.written OWNER TO app")
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            number, moment = line.split()
            self.times[int(number)] = float(moment)

    def __exit__(self, *_: object) -> None:
        time.sleep(3)
        self.platform.kubectl("exec", "deploy/pgbouncer", "-c", "pgbouncer", "--", "touch", "/dev/shm/stop")
        self.process.wait(30)
        self.thread.join()

    def longest_gap(self) -> float:
        moments = sorted(self.times.values())
        return max(later - earlier for earlier, later in zip(moments, moments[1:], strict=False))

    def lost(self) -> set[int]:
        return self.times.keys() - {int(number) for number in self.platform.write("SELECT n FROM app.written").split()}


@pytest.fixture(scope="module")
def platform(cluster: Cluster, kubeconfig: str, own_namespace: str) -> Platform:
    made = Platform(cluster, kubeconfig, own_namespace)
    code, said = made.play("site.yml", "--tags", "data_services")
    assert code == 0, said
    made.whole()
    # Not where the upgrade takes place: it moves there by itself.
    if made.primary() == "postgresql-0":
        made.kubectl("delete", "pod", "postgresql-0")
        made.kubectl("rollout", "status", "statefulset/postgresql", "--timeout=120s")
        made.whole()
    made.write(
        "CREATE TABLE app.kept AS SELECT n, md5(n::text) AS said FROM generate_series(1, 200000) n;"
        " CREATE INDEX ON app.kept (said); CREATE EXTENSION pg_trgm; SELECT lo_from_bytea(0, 'large');"
        " ALTER TABLE app.kept OWNER TO app"
    )
    return made


def test_the_data_are_of_the_old_version(platform: Platform) -> None:
    assert platform.write("SHOW server_version_num").startswith(OLD)
    assert set(platform.backups()) == {OLD}
    assert platform.primary() != "postgresql-0"


def test_the_new_version_is_refused_by_site_and_touches_nothing(platform: Platform) -> None:
    before = platform.pods()
    code, said = platform.play("site.yml", "--tags", "data_services", data_services_postgresql_version=NEW)
    assert code != 0
    assert "data of 15; version 17 asked for" in said and UPGRADE in said
    assert platform.pods() == before


def test_what_stands_against_it_is_all_said_and_touches_nothing(platform: Platform) -> None:
    before = platform.pods()
    platform.write("CREATE TABLE app.functions (which regproc); CREATE EXTENSION adminpack")
    try:
        code, said = platform.upgrade()
    finally:
        platform.write("DROP TABLE app.functions; DROP EXTENSION adminpack")
    assert code != 0
    assert "Nothing was touched: PostgreSQL cannot be upgraded from 15 to 17" in said
    assert "stored otherwise in another version: app.functions.which regproc" in said
    # 17 has it no more.
    assert "the image lacks extensions of PostgreSQL 17: adminpack" in said
    assert platform.pods() == before


@pytest.mark.parametrize(("version", "told"), [(OLD, "of PostgreSQL 15 already"), ("14", "an earlier one")])
def test_no_other_version_and_an_earlier_one_are_refused(platform: Platform, version: str, told: str) -> None:
    before = platform.pods()
    code, said = platform.upgrade(data_services_postgresql_version=version)
    assert code != 0 and told in said
    assert platform.pods() == before


def test_a_look_alone_touches_nothing(platform: Platform) -> None:
    before = platform.pods()
    code, said = platform.upgrade("--check")
    assert code == 0, said
    assert "PostgreSQL can be upgraded from 15 to 17" in said
    assert platform.pods() == before


def killed_while(platform: Platform, prefix: str) -> None:
    """The playbook, killed as soon as there is a Job whose name begins so."""
    given = {**platform.variables, "data_services_postgresql_version": NEW, "upgrade_postgresql_confirm": True}
    with start_playbook(UPGRADE, *WITHOUT_POLICIES, **given) as process:
        ends = time.monotonic() + 400
        while prefix not in platform.kubectl("get", "jobs", "-o", "name").stdout:
            assert process.poll() is None and time.monotonic() < ends, process.communicate()[0]
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_one_that_was_cut_off_goes_back(platform: Platform) -> None:
    wanted = platform.write(ROWS)
    killed_while(platform, "postgresql-upgrade-forward")
    code, said = platform.upgrade(upgrade_postgresql_back=True)
    assert code == 0, said
    platform.kubectl("rollout", "status", "statefulset/postgresql", "--timeout=120s")
    assert platform.write("SHOW server_version_num").startswith(OLD)
    assert platform.write(ROWS) == wanted
    platform.whole()
    # And has nothing more to go back from.
    code, said = platform.upgrade(upgrade_postgresql_back=True)
    assert code != 0 and "no upgrade was begun" in said


def test_no_acknowledged_row_is_lost_and_clients_wait_for_a_minute(platform: Platform) -> None:
    """Cut off once more, in the middle of it, and run again."""
    wanted = platform.write(ROWS)
    platform.moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S+00")  # type: ignore[attr-defined]
    time.sleep(1.1)
    with Client(platform) as client:
        code, said = platform.upgrade()
    assert code == 0, said
    print(f"{len(client.times)} rows, the longest time without one {client.longest_gap():.1f} s")
    assert platform.write("SHOW server_version_num").startswith(NEW)
    assert platform.write(ROWS) == wanted
    assert len(client.times) > 100 and not client.lost()
    assert (
        platform.write("SELECT convert_from(lo_get(loid), 'UTF8') FROM (SELECT oid loid FROM pg_largeobject_metadata)")
        == "large"
    )
    assert platform.write("SELECT count(*) FROM app.kept WHERE said = md5('77')") == "1"
    assert platform.write("SHOW data_checksums") == "on"
    platform.whole()
    assert platform.backups()[-1] == NEW and OLD in platform.backups()
    for pod in ("postgresql-1", "postgresql-2"):
        assert platform.write("SHOW server_version_num", pod).startswith(NEW)
    for kind in ("configmap/postgresql-upgrade", "configmap/postgresql-upgrade-script"):
        assert platform.kubectl("get", kind, check=False).returncode != 0


def test_what_an_upgrade_does_not_take_along_is_made(platform: Platform) -> None:
    ends = time.monotonic() + 120
    while "statistics are made" not in platform.kubectl("logs", "postgresql-0", "-c", "steward").stdout:
        assert time.monotonic() < ends
        time.sleep(2)
    assert platform.write("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'kept'") == "t"
    assert platform.write("SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'") == "1.6"


def test_a_second_run_of_site_changes_nothing_and_there_is_no_way_back(platform: Platform) -> None:
    code, said = platform.play("site.yml", "--tags", "data_services", data_services_postgresql_version=NEW)
    assert code == 0 and "changed=0" in said, said
    code, said = platform.upgrade(upgrade_postgresql_back=True)
    assert code != 0 and "no upgrade was begun" in said
    before = platform.pods()
    code, said = platform.play("site.yml", "--tags", "data_services")
    assert code != 0 and "data of 17; version 15 asked for" in said
    assert platform.pods() == before


def test_a_backup_of_the_old_version_is_restored_beside(platform: Platform) -> None:
    wanted = platform.write(ROWS)
    moment = platform.moment  # type: ignore[attr-defined]
    given = {"data_services_postgresql_version": NEW, "restore_time": moment}
    code, said = platform.play("playbooks/restore.yml", restore_confirm=True, **given)
    assert code != 0 and "is of another major version. Found: PostgreSQL 15" in said
    code, said = platform.play("playbooks/restore.yml", restore_beside=True, **given)
    assert code == 0, said
    psql = ("psql", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "lambda", "-X", "-q", "-t", "-A", "-c")
    copy = ("exec", "postgresql-restored-0", "--", *psql)
    assert platform.kubectl(*copy, "SHOW server_version_num").stdout.startswith(OLD)
    assert platform.kubectl(*copy, ROWS).stdout.strip() == wanted
