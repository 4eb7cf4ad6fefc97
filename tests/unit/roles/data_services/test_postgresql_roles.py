"""roles.sql of the role data_services on a PostgreSQL behind a PgBouncer: a client's two logins take turns."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

from tests.free_ports import free_port

ROOT = Path(__file__).resolve().parents[4]
TEMPLATE = ROOT / "roles/data_services/templates/roles.sql.j2"
CLIENTS = {"app": {"schemas": ["app"]}, "other": {}}
OLD_PASSWORD_SECONDS = 4


def _as_postgres(*command: str) -> list[str]:
    """PostgreSQL and PgBouncer do not run as root."""
    switch = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return [*switch, *command] if os.geteuid() == 0 else list(command)


class Server:
    """PostgreSQL and PgBouncer, as the chart has them, but without TLS."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        assert programs, "no PostgreSQL: install Debian's packages postgresql and pgbouncer"
        self.folder, self.port, self.pooler = folder, free_port(), free_port()
        self.processes: list[subprocess.Popen] = []
        data = folder / "data"
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        initdb = [str(programs[-1] / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(_as_postgres(*initdb), check=True, capture_output=True, cwd="/")
        (data / "pg_hba.conf").write_text(
            "local all postgres trust\nhost lambda pgbouncer,metrics,+client all scram-sha-256\n", encoding="utf-8"
        )
        settings = ["-p", str(self.port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-F"]
        self._start(str(programs[-1] / "postgres"), "-D", str(data), *settings)
        self._until(lambda: self.inside("SELECT 1") == "1")
        self.inside("CREATE ROLE rewind")

    def start_pgbouncer(self, password: str) -> None:
        (self.folder / "userlist.txt").write_text(f'"pgbouncer" "{password}"\n', encoding="utf-8")
        lines = [
            "[databases]",
            f"lambda = host=127.0.0.1 port={self.port} dbname=lambda",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.pooler}",
            "unix_socket_dir =",
            "auth_type = scram-sha-256",
            f"auth_file = {self.folder}/userlist.txt",
            "auth_user = pgbouncer",
            "auth_query = SELECT username, verifier FROM pgbouncer.verifier($1)",
            "pool_mode = transaction",
            "server_login_retry = 1",
        ]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._start("/usr/sbin/pgbouncer", str(self.folder / "pgbouncer.ini"))
        self._until(lambda: self.login("app", "wrong")[1] != "" and "refused" not in self.login("app", "wrong")[1])

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{Path(command[0]).name}.log").open("w", encoding="utf-8")
        self.processes.append(subprocess.Popen(_as_postgres(*command), stdout=log, stderr=log, cwd="/"))

    @staticmethod
    def _until(condition) -> None:
        ends = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.2)

    def _psql(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        command = ["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/", **options)

    def inside(self, query: str, database: str = "postgres") -> str:
        place = ["-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-d", database]
        return self._psql(*place, "-c", query).stdout.strip()

    def apply(self, sql: str) -> None:
        place = ["-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-d", "postgres"]
        ran = self._psql(*place, "-f", "-", input=sql)
        assert ran.returncode == 0, ran.stderr

    def place(self, user: str) -> str:
        return f"host=127.0.0.1 port={self.pooler} dbname=lambda user={user} connect_timeout=5"

    def login(self, user: str, password: str, query: str = "SELECT 'in'") -> tuple[int, str]:
        environment = {**os.environ, "PGPASSWORD": password}
        ran = self._psql(self.place(user), "-c", query, env=environment)
        return ran.returncode, ran.stdout.strip() + ran.stderr.strip()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(30)


class Session:
    """A client that stays connected."""

    def __init__(self, server: Server, user: str, password: str) -> None:
        self.process = subprocess.Popen(
            ["psql", "-X", "-q", "-t", "-A", server.place(user)],
            env={**os.environ, "PGPASSWORD": password},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )

    def ask(self, query: str) -> str:
        self.process.stdin.write(query + ";\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture
def server() -> Iterator[Server]:
    # A socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="roles-", dir="/tmp") as folder:
        started = Server(Path(folder))
        try:
            yield started
        finally:
            started.stop()


def roles(logins: dict[str, tuple[str, str]], clients=CLIENTS, metrics: bool = False) -> str:
    """roles.sql, with the username and password of each client as the module secret fills them in."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 # it makes SQL
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        __data_services_postgresql_clients=clients,
        __data_services_postgresql_logins=[login for name in clients for login in (name, name + "_2")],
        __data_services_postgresql_limits=dict.fromkeys(clients, 5),
        __platform={
            "data_services_postgresql_pgbouncer_replicas": 1,
            "data_services_postgresql_old_password_seconds": OLD_PASSWORD_SECONDS,
            "data_services_metrics_enabled": metrics,
        },
    )
    values = {
        f"postgresql-{name}": {
            "username": secret._Value(username.encode(), ""),
            "password": secret._Value(password.encode(), ""),
        }
        for name, (username, password) in {
            "pgbouncer": ("pgbouncer", "pooler"),
            "exporter": ("metrics", "figures"),
            **logins,
        }.items()
    }
    return secret._rendered(text, values).decode()


FIRST = {"app": ("app", "first"), "other": ("other", "theirs")}
SECOND = {**FIRST, "app": ("app_2", "second")}
THIRD = {**FIRST, "app": ("app", "third")}


def test_a_rotation_refuses_no_login_and_no_session(server: Server) -> None:
    server.apply(roles(FIRST))
    server.start_pgbouncer("pooler")
    assert server.login("app", "first") == (0, "in")
    assert server.login("app_2", "second")[0] != 0
    held = Session(server, "app", "first")
    assert held.ask("CREATE TABLE app.one (i int); SELECT current_user") == "app"

    server.apply(roles(SECOND))
    # Again, as the steward does: the end of the old password does not move.
    until = server.inside("SELECT rolvaliduntil FROM pg_roles WHERE rolname = 'app'")
    server.apply(roles(SECOND))
    assert server.inside("SELECT rolvaliduntil FROM pg_roles WHERE rolname = 'app'") == until
    # PgBouncer opens a new session for a client that is there, with what this client logged in with.
    server.inside("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'app'")
    time.sleep(1)  # until PgBouncer has seen it too, on a busy machine
    assert held.ask("SELECT session_user") == "app"
    assert server.login("app", "first") == (0, "in")
    whose = "CREATE TABLE app.two (i int); SELECT tableowner, session_user, current_user FROM pg_tables"
    assert server.login("app_2", "second", whose + " WHERE tablename = 'two'") == (0, "app|app_2|app")
    assert server.login("app_2", "first")[0] != 0 and server.login("app", "second")[0] != 0

    time.sleep(OLD_PASSWORD_SECONDS)
    assert server.login("app", "first")[0] != 0
    assert server.login("app_2", "second") == (0, "in")
    held.end()

    server.apply(roles(THIRD))
    assert server.login("app_2", "second") == (0, "in") and server.login("app", "third") == (0, "in")
    assert server.login("other", "theirs") == (0, "in")


def test_a_client_that_is_taken_out_cannot_log_in_with_either_login(server: Server) -> None:
    server.apply(roles(SECOND))
    server.start_pgbouncer("pooler")
    assert server.login("app_2", "second") == (0, "in") and server.login("other", "theirs") == (0, "in")
    server.apply(roles({"other": FIRST["other"]}, clients={"other": {}}))
    assert server.login("app_2", "second")[0] != 0 and server.login("other", "theirs") == (0, "in")
    assert server.inside("SELECT count(*) FROM pg_roles WHERE rolname IN ('app', 'app_2') AND rolcanlogin") == "0"


def test_the_exporter_sees_figures_and_no_table(server: Server) -> None:
    server.apply(roles(FIRST, metrics=True))
    server.start_pgbouncer("pooler")
    server.inside("CREATE TABLE app.one (i int)", "lambda")

    def asked(query: str) -> tuple[int, str]:
        place = f"host=127.0.0.1 port={server.port} dbname=lambda user=metrics connect_timeout=5"
        ran = server._psql(place, "-c", query, env={**os.environ, "PGPASSWORD": "figures"})
        return ran.returncode, ran.stdout.strip() + ran.stderr.strip()

    # Of everybody's sessions, and of files: what pg_monitor is for.
    assert asked("SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'") == (0, "0")
    assert asked("SELECT count(*) > 0 FROM pg_ls_waldir()") == (0, "t")
    for query in ("SELECT * FROM app.one", "CREATE TABLE app.mine (i int)", "SELECT * FROM pgbouncer.verifier('app')"):
        assert "permission denied" in asked(query)[1], query
    # Not through PgBouncer, which lets in clients alone.
    assert server.login("metrics", "figures")[0] != 0

    server.apply(roles(FIRST))
    assert "not permitted to log in" in asked("SELECT 1")[1]
    server.apply(roles(FIRST, metrics=True))
    assert asked("SELECT 1") == (0, "1")


def test_dashboards_get_counts_and_no_rows(server: Server) -> None:
    logins = {**FIRST, "dashboards": ("dashboards", "counts")}
    server.apply(roles(logins, clients={**CLIENTS, "dashboards": {}}))
    server.start_pgbouncer("pooler")
    # The controller's, which comes later.
    server.inside(
        "CREATE SCHEMA meta; CREATE TABLE meta.request_logs (at timestamptz, route text, language text, user_id text);"
        "CREATE TABLE meta.error_logs (at timestamptz, code text, user_id text);"
        "INSERT INTO meta.request_logs SELECT now(), 'execute', language, 'somebody'"
        " FROM unnest(ARRAY['python', 'python', 'rust', NULL]) language;"
        "INSERT INTO meta.error_logs VALUES (now(), 'NOT_FOUND', 'somebody')",
        database="lambda",
    )
    asked = "SELECT metric, value FROM dashboards.{}(now() - interval '1 hour', now() + interval '1 hour', 86400.0)"
    assert server.login("dashboards", "counts", asked.format("executions")) == (0, "python|2\nrust|1")
    assert server.login("dashboards", "counts", asked.format("errors")) == (0, "NOT_FOUND|1")
    for refused in ("SELECT * FROM meta.request_logs", "CREATE TABLE dashboards.mine (i int)", "SELECT * FROM app.one"):
        code, said = server.login("dashboards", "counts", refused)
        assert code != 0 and "permission denied" in said, refused
    code, said = server.login("app", "first", asked.format("executions"))
    assert code != 0 and "permission denied" in said
