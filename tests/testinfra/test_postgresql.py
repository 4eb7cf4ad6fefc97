"""PostgreSQL as it runs: who is what, who is let in, and whether what is written can be restored."""

from __future__ import annotations

import base64
import json
import subprocess
import time

import pytest

from .pods import app_host, containers, host_of, kubectl, objects

pytestmark = pytest.mark.cluster

NAMESPACE = "data-services"


def hosts():
    """The PostgreSQL containers by their pods' names."""
    return {
        pod: host_of(NAMESPACE, pod, container)
        for namespace, app, pod, container in containers()
        if (namespace, app, container) == (NAMESPACE, "postgresql", "postgresql")
    }


def members(host) -> dict[str, dict]:
    told = json.loads(host.check_output("python3 /scripts/member cluster"))
    return {member["name"]: member for member in told["members"]}


def primary():
    found = hosts()
    (leader,) = [m["name"] for m in members(next(iter(found.values()))).values() if m["role"] == "leader"]
    return found[leader]


def inside(host, query: str) -> str:
    """As the superuser, whom nobody but the pod itself can be."""
    return host.check_output("psql -h /var/run/postgresql -U postgres -X -q -t -A -c %s", query)


def credential(name: str, key: str) -> str:
    (secret,) = [
        s for s in objects("secrets") if (s["metadata"]["namespace"], s["metadata"]["name"]) == (NAMESPACE, name)
    ]
    return base64.b64decode(secret["data"][key]).decode()


def password_of(name: str) -> str:
    return credential(name, "password")


def connect(user: str, password: str, query: str, *, host="pgbouncer", port=6432, tls="verify-full", database="lambda"):
    """psql as a client, from the one kind of pod that the policies let through to PgBouncer (itself) and to PostgreSQL.
    The password is in no process list: it comes by stdin.
    """
    place = f"host={host} port={port} dbname={database} user={user} sslmode={tls} connect_timeout=5"
    if host == "pgbouncer":
        place += " hostaddr=127.0.0.1"  # the name is still what the certificate has to be for
    place += " sslrootcert=/certificate/ca.crt"
    script = f"PGPASSWORD='{password}' psql '{place}' -X -q -t -A -v ON_ERROR_STOP=1 -c \"{query}\""
    pod = next(pod for namespace, app, pod, _ in containers() if (namespace, app) == (NAMESPACE, "pgbouncer"))
    return kubectl_stdin(pod, "pgbouncer", script)


def kubectl_stdin(pod: str, container: str, script: str) -> tuple[int, str]:
    ran = subprocess.run(
        ["kubectl", "-n", NAMESPACE, "exec", "-i", pod, "-c", container, "--", "sh"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout.strip() + ran.stderr.strip()


def test_one_primary_and_standbys_that_stream_one_of_them_synchronously():
    for host in hosts().values():
        roles = sorted(member["role"] for member in members(host).values())
        assert roles == ["leader", "replica", "sync_standby"]
        states = sorted(member["state"] for member in members(host).values())
        assert states == ["running", "streaming", "streaming"]
        assert len({member["timeline"] for member in members(host).values()}) == 1


def test_the_services_lead_to_the_primary_and_to_the_standbys():
    secret = password_of("postgresql-drill")
    for service, recovering in (("postgresql-primary", "f"), ("postgresql-replicas", "t")):
        ran = connect("drill", secret, "SELECT pg_is_in_recovery()", host=service, port=5432)
        assert ran == (0, recovering), service


def test_pgbouncer_leads_to_the_primary_by_tls_and_keeps_prepared_statements():
    secret = password_of("postgresql-drill")
    query = "SELECT pg_is_in_recovery(), ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert connect("drill", secret, query) == (0, "f|t|TLSv1.3")


@pytest.mark.parametrize(
    ("user", "place", "told"),
    [
        ("drill", {"tls": "disable"}, "SSL required"),
        ("drill", {"tls": "disable", "host": "postgresql-primary", "port": 5432}, "no encryption"),
        ("drill", {"database": "postgres"}, "authentication failed"),
        ("postgres", {}, "no such user"),
        ("postgres", {"host": "postgresql-primary", "port": 5432}, "no pg_hba.conf entry"),
        ("standby", {"host": "postgresql-primary", "port": 5432}, "no pg_hba.conf entry"),
    ],
)
def test_who_is_not_let_in(user, place, told):
    code, said = connect(user, password_of("postgresql-drill"), "SELECT 1", **place)
    assert code != 0
    assert told in said


@pytest.mark.parametrize("place", [{}, {"host": "postgresql-primary", "port": 5432}])
def test_a_wrong_password_is_refused(place):
    code, said = connect("drill", "wrong", "SELECT 1", **place)
    assert code != 0
    assert "authentication failed" in said


def test_clients_have_the_least_rights():
    secret, user = password_of("postgresql-controller"), credential("postgresql-controller", "username")
    for query, told in {
        "CREATE TABLE meta.mine (i int)": "permission denied",
        "CREATE SCHEMA mine": "permission denied",
        "CREATE TABLE public.mine (i int)": "permission denied",
        "SELECT * FROM pg_authid": "permission denied",
        "SELECT * FROM pgbouncer.verifier('drill')": "permission denied",
        "SELECT pg_read_file('/certificate/tls.key')": "permission denied",
        "COPY (SELECT 1) TO PROGRAM 'true'": "permission denied",
    }.items():
        code, said = connect(user, secret, query)
        assert code != 0, query
        assert told in said, query


def test_pgbouncer_can_see_clients_alone():
    query = "SELECT count(*) FROM pgbouncer.verifier('%s')"
    seen = {name: inside_lambda(query % name) for name in ("drill", "postgres", "standby", "rewind", "pgbouncer")}
    assert seen == {"drill": "1", "postgres": "0", "standby": "0", "rewind": "0", "pgbouncer": "0"}


def inside_lambda(query: str) -> str:
    return primary().check_output("psql -h /var/run/postgresql -U postgres -d lambda -X -q -t -A -c %s", query)


def test_patroni_takes_orders_from_members_only():
    host = next(iter(hosts().values()))
    order = (
        "import ssl, urllib.request as u; c = ssl.create_default_context(cafile='/certificate/ca.crt');"
        " u.urlopen(u.Request('https://localhost:8008/config', b'{}', method='PATCH'), context=c)"
    )
    ran = host.run("python3 -c %s", order)
    assert ran.rc != 0
    assert "403" in ran.stderr or "401" in ran.stderr, ran.stderr


def test_settings_are_those_of_the_chart():
    told = kubectl("-n", NAMESPACE, "get", "configmap", "postgresql-settings", "-o", "jsonpath={.data.settings\\.json}")
    wanted = json.loads(told)
    host = primary()
    for name, value in wanted["postgresql"]["parameters"].items():
        assert inside(host, f"SHOW {name}") == str(value), name


def archived(wal: str) -> dict:
    """Wait until the segment is in the archive; what pgBackRest says of its stanza then."""
    repository = app_host(NAMESPACE, "postgresql-repository")
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        (stanza,) = json.loads(repository.check_output("pgbackrest info --output=json"))
        if stanza["archive"][-1]["max"] >= wal:
            return stanza
        time.sleep(2)
    pytest.fail(f"{wal} is not in the archive after 60 s: {stanza['archive']}")


def test_what_is_written_reaches_the_archive():
    host = primary()
    # Without a record since the last switch there would be no other, and the name that of the next segment.
    inside(host, "SELECT pg_logical_emit_message(true, 'test', 'x')")
    stanza = archived(inside(host, "SELECT pg_walfile_name(pg_switch_wal())"))
    assert stanza["status"]["code"] == 0
    assert stanza["backup"], "no backup"
