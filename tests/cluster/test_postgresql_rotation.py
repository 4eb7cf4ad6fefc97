"""playbooks/rotate.yml on a running platform that may be broken: no login and no commit of a client fails.

A pod in the controller's namespace does what a client does, through PgBouncer: it holds connections and commits on them
all the time, and logs in anew with what is mounted at that moment. INVENTORY is the inventory, if not the local one.
"""

from __future__ import annotations

import json
import textwrap
import time
import uuid

import pytest

from .checkout import image, playbook

pytestmark = pytest.mark.cluster

HELD = 4
# The kubelet mounts a changed Secret within a minute and a half.
MOUNTED_SECONDS = 180

CLIENT = """
import collections, json, os, pathlib, threading, time
import psycopg2

commits, logins, failures = collections.Counter(), collections.Counter(), []

def connect():
    # Both files of one version: the kubelet exchanges the folder that ..data leads to.
    folder = pathlib.Path(os.path.realpath("/run/credentials/postgresql/..data"))
    user = (folder / "username").read_text()
    connection = psycopg2.connect(
        host="pgbouncer.data-services.svc.cluster.local", port=6432, dbname="lambda", user=user,
        password=(folder / "password").read_text(), sslmode="verify-full", connect_timeout=10,
        sslrootcert="/run/credentials/postgresql-ca/ca.crt",
    )
    return user, connection

def commit(connection):
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")

def failed(what, error):
    failures.append(f"{time.time():.1f} {what}: {error}"[:300])

def hold():
    user, connection = connect()
    while True:
        try:
            commit(connection)
            commits[user] += 1
        except psycopg2.Error as error:
            failed(f"a held connection of {user}", error)
            time.sleep(1)
            user, connection = connect()
        time.sleep(0.02)

def login():
    while True:
        try:
            user, connection = connect()
            commit(connection)
            connection.close()
            logins[user] += 1
        except (OSError, psycopg2.Error) as error:
            failed("a login", error)
        time.sleep(0.1)

for work in [login] + [hold] * HELD:
    threading.Thread(target=work, daemon=True).start()
while True:
    time.sleep(1)
    print(json.dumps({"commits": commits, "logins": logins, "failures": failures}), flush=True)
"""


def rotate(clients: str) -> tuple[int, str]:
    return playbook("playbooks/rotate.yml", rotate_tags="passwords", rotate_clients=clients)


@pytest.fixture
def client(cluster):
    """The last line that the client has said, as often as it is called."""
    name = f"test-rotation-{uuid.uuid4().hex[:8]}"
    unprivileged = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = ("postgresql", "postgresql-controller"), ("postgresql-ca", "postgresql-ca")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        # The flow to PgBouncer is the controller's.
        "metadata": {"name": name, "namespace": "controller", "labels": {"app.kubernetes.io/name": "controller"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 999,
                "runAsGroup": 999,
                "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "client",
                    "image": image("postgresql"),
                    "command": ["python3", "-c", f"HELD = {HELD}\n" + textwrap.dedent(CLIENT)],
                    "securityContext": unprivileged,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                    # Never ready: the Service of the controller must not lead here.
                    "readinessProbe": {"exec": {"command": ["false"]}},
                    "volumeMounts": [
                        {"name": volume, "mountPath": f"/run/credentials/{volume}"} for volume, _ in mounts
                    ],
                }
            ],
            "volumes": [{"name": volume, "secret": {"secretName": secret}} for volume, secret in mounts],
        },
    }
    cluster.apply(pod, "test")

    def said() -> dict:
        lines = cluster.logs("controller", name, tail_lines=1).splitlines()
        return json.loads(lines[-1]) if lines else {"commits": {}, "logins": {}, "failures": []}

    try:
        until = time.monotonic() + 120
        while ((cluster.get(pod) or {}).get("status") or {}).get("phase") != "Running" or not said()["logins"]:
            assert time.monotonic() < until
            time.sleep(1)
        yield said
    finally:
        cluster.delete(pod)


def test_a_rotation_refuses_no_login_and_no_commit(client) -> None:
    [before] = client()["logins"]
    code, told = rotate("controller")
    if "is still taken" in told:
        pytest.skip("an earlier run's old password is still valid: data_services_postgresql_old_password_seconds")
    assert code == 0, told[-3000:]
    after = {"controller": "controller_2", "controller_2": "controller"}[before]
    until = time.monotonic() + MOUNTED_SECONDS
    while after not in client()["logins"]:
        assert time.monotonic() < until, client()
        time.sleep(2)
    # The connections of before go on beside logins with the new password.
    time.sleep(30)
    end = client()
    print(end)
    assert end["failures"] == []
    assert end["logins"][after] > 50 and end["commits"][before] > 1000 and after not in end["commits"]

    code, told = rotate("controller")
    assert code != 0 and f"is still taken: {before} until" in told, told[-3000:]
    time.sleep(10)
    assert client()["failures"] == []


def test_who_is_no_client_is_named() -> None:
    code, told = rotate("nobody")
    assert code != 0 and "rotate_clients is nobody; the clients are controller, ratelimit, migrator" in told
