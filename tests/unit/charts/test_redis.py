"""The chart redis: what its objects say, and what its scripts decide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Manifest, Objects, Render, RenderError

CHART = ROOT / "roles/data_services/files/charts/redis"
SCRIPTS = CHART / "files" / "scripts"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def configuration_of(objects: Objects) -> list[str]:
    text = objects.one("ConfigMap", "redis-configuration")["data"]["redis.conf"]
    return [line for line in text.splitlines() if not line.startswith("#")]


def haproxy_of(objects: Objects) -> str:
    return objects.one("ConfigMap", "redis-haproxy")["data"]["haproxy.cfg"]


def test_the_designs_numbers(objects: Objects) -> None:
    redis = objects.one("StatefulSet", "redis")
    assert redis["spec"]["replicas"] == 3
    assert redis["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"
    resources = redis["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["memory"]) == ("2", "8Gi")
    assert {"maxmemory 6gb", "maxmemory-policy allkeys-lru", "appendonly yes"} <= set(configuration_of(objects))
    assert objects.one("StatefulSet", "redis-sentinel")["spec"]["replicas"] == 3
    assert objects.one("Deployment", "redis-haproxy")["spec"]["replicas"] == 2


def test_settings_of_redis_conf_are_the_users(render: Render) -> None:
    lines = configuration_of(
        render(
            CHART,
            {
                "redis": {
                    "configuration": {"repl-backlog-size": 1073741824, "save": ["900 1", "60 1000"], "maxclients": 5}
                }
            },
        )
    )
    # Not 1.073741824e+09, as Go prints large numbers.
    assert {"repl-backlog-size 1073741824", "save 900 1", "save 60 1000", "maxclients 5"} <= set(lines)
    assert 'save ""' not in lines


def test_every_pod_has_an_address_that_stays(render: Render) -> None:
    objects = render(CHART, {"redis": {"replicas": 4}, "sentinel": {"replicas": 5}})
    for name, count in (("redis", 4), ("redis-sentinel", 5)):
        for ordinal in range(count):
            spec = objects.one("Service", f"{name}-{ordinal}")["spec"]
            assert spec["selector"]["statefulset.kubernetes.io/pod-name"] == f"{name}-{ordinal}"
            # A pod must be reached before it is ready: a replica that starts is found by its master's Sentinels.
            assert spec["publishNotReadyAddresses"] is True
            assert "clusterIP" not in spec
    env = {
        entry["name"]: entry.get("value")
        for entry in objects.one("StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (env["REDIS_COUNT"], env["SENTINEL_COUNT"]) == ("4", "5")


def test_haproxy_follows_the_majority_of_the_sentinels(render: Render) -> None:
    text = haproxy_of(render(CHART, {"redis": {"replicas": 2}, "sentinel": {"replicas": 5}}))
    assert re.findall(
        r"int\((\d)\) if { nbsrv\(sentinels-naming-redis-(\d)\) ge 3 } { srv_is_up\(redis/redis-(\d)\) }", text
    ) == [
        ("0", "0", "0"),
        ("1", "1", "1"),
    ]
    assert len(re.findall(r"server redis-sentinel-\d", text)) == 2 * 5


def test_only_the_changed_part_restarts(render: Render, objects: Objects) -> None:
    changed = render(CHART, {"haproxy": {"maxConnections": 7}})

    def annotations(rendered: Objects) -> Manifest:
        return {
            workload["metadata"]["name"]: workload["spec"]["template"]["metadata"]["annotations"]
            for workload in rendered.workloads()
        }

    before, after = annotations(objects), annotations(changed)
    assert {name for name in before if before[name] != after[name]} == {"redis-haproxy"}


def test_no_password_is_in_an_argument_or_a_value(objects: Objects) -> None:
    for workload in objects.workloads():
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert not re.search("pass|auth", " ".join(container["command"]), re.IGNORECASE)
            for entry in container["env"]:
                assert "PASSWORD" not in entry["name"] or "secretKeyRef" in entry["valueFrom"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"redis": {"replicas": "3"}}, "/redis/replicas"),
        ({"redis": {"configuration": {"masterauth": "x"}}}, "masterauth"),
        ({"sentinel": {"quorom": 2}}, "quorom"),
        ({"haproxy": {"idleTimeout": 60}}, "/haproxy/idleTimeout"),
    ],
)
def test_a_wrong_value_is_refused_by_name(render: Render, values: Manifest, named: str) -> None:
    with pytest.raises(RenderError, match=named):
        render(CHART, values)


# --- the scripts, with a redis-cli that answers from a table ----------------------------------------------------------

REDIS = {f"redis-{n}": f"10.0.0.{n}" for n in range(3)}
SENTINELS = {f"redis-sentinel-{n}": f"10.0.1.{n}" for n in range(3)}

REDIS_CLI = """\
#!/bin/sh
# Whoever asks without TLS gets no answer.
[ "$1 $2 ${3##*/}" = "--tls --cacert ca.crt" ] || { echo "without TLS: $*" >> "$ANSWERS/log"; exit 1; }
shift 3
case "$*" in *--rdb*)
  echo "$2 --rdb" >> "$ANSWERS/log"
  [ "${RDB:-}" != refused ] || { echo "AUTH failed: WRONGPASS"; exit 1; }
  echo 'REDIS0012' | tr -d '\\n' > "$6"
  exit
esac
while [ $# -gt 0 ]; do
  case $1 in
    -t | --user) shift 2 ;;
    -h) host=$2; shift 2 ;;
    -p) shift 2 ;;
    *) break ;;
  esac
done
answer() {
  echo "$host $*" >> "$ANSWERS/log"
  cat "$ANSWERS/$host $*" 2>/dev/null
}
[ $# -eq 0 ] || { answer "$@"; exit; }
while read -r line; do answer "$line"; done
"""

REDIS_CHECK_RDB = """\
#!/bin/sh
[ "${RDB:-}" != broken ] || { echo "RDB CRC error"; exit 1; }
echo '[info] 3 keys read'
"""

PATHS = {"run/redis": "run", "tmp": "run"}
"""Folders of the pods that have another name in the test's folder."""

Run = Callable[..., "Outcome"]


class Outcome:
    """What a script did: its output, the configuration that it started with, and what it asked."""

    def __init__(self, done: subprocess.CompletedProcess[str], folder: Path) -> None:
        self.done = done
        log = folder / "answers" / "log"
        self.asked = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        self.folder = folder
        self.redis_conf = _lines(folder / "run" / "redis.conf")
        self.sentinel_conf = _lines(folder / "data" / "sentinel.conf")

    def backups(self, end: str) -> list[str]:
        """The copies (or their checksums) by name."""
        return sorted(path.name for path in (self.folder / "backup").glob(f"redis-*{end}"))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def named(master: str, epoch: int) -> str:
    return f"name\nmymaster\nip\n{master}\nport\n6379\nconfig-epoch\n{epoch}\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(script, pod, answers, files)``: the script in a folder of its own instead of a pod."""
    for folder in ("answers", "backup", "bin", "data", "run", "scripts", "users", "certificate"):
        (tmp_path / folder).mkdir()
    for user in ("backup", "pod", "replication", "restore", "sentinel"):
        (tmp_path / "users" / user).write_text(f"password-of-{user}", encoding="utf-8")
    programs = {"redis-cli": REDIS_CLI, "redis-server": "#!/bin/sh\n", "redis-check-rdb": REDIS_CHECK_RDB}
    for name, text in {**programs, "sleep": "#!/bin/sh\nexec /bin/sleep 0.01\n"}.items():
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    for script in SCRIPTS.iterdir():
        text = script.read_text(encoding="utf-8")
        # In one pass, as the new paths may hold the old ones.
        text = re.sub(
            r"(?<![\w/])/(scripts|users|certificate|data|run/redis|backup|tmp)\b",
            lambda found: f"{tmp_path}/{PATHS.get(found[1], found[1])}",
            text,
        )
        (tmp_path / "scripts" / script.name).write_text(text, encoding="utf-8")

    def running(
        script: str,
        pod: str,
        answers: dict[str, str],
        files: dict[str, str] | None = None,
        timeout: float = 20,
        argument: str | list[str] = "",
        env: dict[str, str] | None = None,
        backups: dict[str, str] | None = None,
        days_old: float = 30,
    ) -> Outcome:
        for name, text in (backups or {}).items():
            path = tmp_path / "backup" / name
            path.write_text(text, encoding="utf-8")
            os.utime(path, (time.time() - days_old * 86400,) * 2)
        for question, answer in answers.items():
            (tmp_path / "answers" / question).write_text(answer, encoding="utf-8")
        for name, text in (files or {}).items():
            (tmp_path / "data" / name).write_text(text, encoding="utf-8")
        given = env or {}
        env = {
            f"{name.upper().replace('-', '_')}_SERVICE_HOST": address
            for name, address in {**REDIS, **SENTINELS}.items()
        }
        env |= {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "ANSWERS": f"{tmp_path}/answers", "POD_NAME": pod}
        env |= {"REDIS_COUNT": "3", "SENTINEL_COUNT": "3", "MASTER_NAME": "mymaster", "QUORUM": "2"}
        env |= {"DOWN_AFTER_MILLISECONDS": "5000", "FAILOVER_TIMEOUT_MILLISECONDS": "15000", "PARALLEL_SYNCS": "1"}
        env |= {"RETENTION_DAYS": "7", "RESTORE_COPY": "latest", "RESTORE_SECONDS": "2", "POD_IP": "10.0.2.1"}
        env |= {"REDIS_USER": "backup"} if script == "backup" else {}
        env |= given
        done = subprocess.run(
            ["/bin/sh", f"{tmp_path}/scripts/{script}", *([argument] if isinstance(argument, str) else argument)],
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done, tmp_path)

    return running


MASTER_SAYS = "role:master\r\nconnected_slaves:2\r\n"


def sentinels_say(*answers: str | None) -> dict[str, str]:
    return {f"10.0.1.{n} sentinel master mymaster": answer for n, answer in enumerate(answers) if answer is not None}


def test_the_named_master_starts_as_master(run: Run) -> None:
    outcome = run("start-redis", "redis-0", sentinels_say(named("10.0.0.0", 0), named("10.0.0.0", 0), None))
    assert outcome.done.returncode == 0, outcome.done.stderr
    assert not [line for line in outcome.redis_conf if line.startswith("replicaof")]
    assert {"replica-announce-ip 10.0.0.0", "masterauth password-of-replication"} <= set(outcome.redis_conf)


def test_a_former_master_comes_back_as_replica(run: Run) -> None:
    # One Sentinel has missed the failover: the later epoch counts.
    answers = sentinels_say(named("10.0.0.0", 3), named("10.0.0.2", 4), None)
    outcome = run("start-redis", "redis-0", answers, {"appendonlydir": ""})
    assert "replicaof 10.0.0.2 6379" in outcome.redis_conf


def test_redis_waits_for_a_quorum(run: Run) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run("start-redis", "redis-0", sentinels_say(named("10.0.0.0", 0), None, None), timeout=2)


def test_one_sentinel_is_enough_when_the_master_agrees(run: Run) -> None:
    answers = {**sentinels_say(None, named("10.0.0.1", 2), None), "10.0.0.1 role": "master\n0\n"}
    assert "replicaof 10.0.0.1 6379" in run("start-redis", "redis-0", answers).redis_conf


def test_a_master_without_its_data_does_not_wipe_the_replicas(run: Run) -> None:
    answers = sentinels_say(*[named("10.0.0.0", 1)] * 3)
    answers["10.0.0.2 info keyspace"] = "# Keyspace\ndb0:keys=5,expires=0\n"
    with pytest.raises(subprocess.TimeoutExpired):
        run("start-redis", "redis-0", answers, timeout=2)


def replica_of(master: str, link: str, down_since: int | None) -> str:
    """What a replica says of its master; ``down_since`` in seconds, -1 when it never had one."""
    lines = ["role:slave", f"master_host:{master}", f"master_link_status:{link}"]
    if down_since is not None:
        lines.append(f"master_link_down_since_seconds:{down_since}")
    return "".join(f"{line}\r\n" for line in lines)


@pytest.mark.parametrize(
    ("replica", "waits"),
    [
        (replica_of("10.0.0.0", "down", 3), True),
        (replica_of("10.0.0.0", "up", None), True),
        # All were restarted together: none has what this pod has.
        (replica_of("10.0.0.0", "down", -1), False),
        (replica_of("10.0.0.1", "up", None), False),
        # Another is being promoted: this one has left, or is that one.
        (replica_of("127.0.0.1", "down", 3), True),
        (MASTER_SAYS, True),
    ],
)
def test_a_master_that_comes_back_lets_its_replica_take_over(run: Run, replica: str, waits: bool) -> None:
    answers = sentinels_say(*[named("10.0.0.0", 1)] * 3)
    answers["10.0.0.2 info replication"] = replica
    outcome = run("start-redis", "redis-0", answers, {"appendonlydir": ""}, timeout=90)
    said = "10.0.0.2 can take over: waiting for the Sentinels to name it"
    # Without end, it would be no master for as long as the Sentinels cannot agree.
    assert outcome.done.stdout.count(said) == (60 if waits else 0)
    assert "starting with 10.0.0.0 as master" in outcome.done.stdout


def test_data_of_a_later_redis_are_refused_with_what_to_do(tmp_path: Path, run: Run) -> None:
    """With Redis's own programs: only they know which format they read."""
    for name in ("redis-check-rdb", "redis-server"):
        program = shutil.which(name)
        assert program, f"install Debian's package redis-server: {name}"
        (tmp_path / "bin" / name).unlink()
        (tmp_path / "bin" / name).symlink_to(program)
    answers = sentinels_say(*[named("10.0.0.0", 0)] * 3)
    outcome = run("start-redis", "redis-0", answers, {"dump.rdb": "REDIS0999 and more"})
    assert outcome.done.returncode == 1 and not outcome.redis_conf
    assert "The data are of a later Redis" in outcome.done.stdout and "RDB format 0999, which v=" in outcome.done.stdout
    # A format that it reads is no reason, nor is a file that is damaged: of that the server says more.
    for known in ("REDIS0009", "REDIS", ""):
        (tmp_path / "bin" / "redis-server").unlink()
        (tmp_path / "bin" / "redis-server").write_text("#!/bin/sh\n")
        (tmp_path / "bin" / "redis-server").chmod(0o755)
        assert run("start-redis", "redis-0", answers, {"dump.rdb": known}).done.returncode == 0


def test_the_first_master_of_all_starts_empty(run: Run) -> None:
    answers = sentinels_say(*[named("10.0.0.0", 0)] * 3)
    answers["10.0.0.2 info keyspace"] = "# Keyspace\n"
    assert run("start-redis", "redis-0", answers).redis_conf


def test_a_pod_without_its_service_says_so(run: Run) -> None:
    outcome = run("start-redis", "redis-7", {})
    assert outcome.done.returncode != 0
    assert "no Service for the pod redis-7" in outcome.done.stderr


def test_the_first_sentinel_makes_the_first_pod_master(run: Run) -> None:
    outcome = run("start-sentinel", "redis-sentinel-1", {})
    assert outcome.done.returncode == 0, outcome.done.stderr
    assert "sentinel monitor mymaster 10.0.0.0 6379 2" in outcome.sentinel_conf
    assert "sentinel announce-ip 10.0.1.1" in outcome.sentinel_conf
    # Sentinel reads from top to bottom: the master before what is said about it.
    monitor = outcome.sentinel_conf.index("sentinel monitor mymaster 10.0.0.0 6379 2")
    assert all("mymaster" not in line for line in outcome.sentinel_conf[:monitor])


def test_a_sentinel_with_a_lost_volume_asks_the_others(run: Run) -> None:
    answers = sentinels_say(named("10.0.0.2", 7), None, named("10.0.0.1", 6))
    answers["10.0.0.0 role"] = "master\n"
    conf = run("start-sentinel", "redis-sentinel-1", answers).sentinel_conf
    assert "sentinel monitor mymaster 10.0.0.2 6379 2" in conf
    assert {"sentinel current-epoch 7", "sentinel leader-epoch mymaster 7"} <= set(conf)


def test_without_any_sentinel_the_running_master_stays(run: Run) -> None:
    answers = {"10.0.0.0 role": "slave\n10.0.0.1\n", "10.0.0.1 role": "master\n0\n"}
    assert (
        "sentinel monitor mymaster 10.0.0.1 6379 2" in run("start-sentinel", "redis-sentinel-0", answers).sentinel_conf
    )


def test_pods_that_are_gone_for_good_have_no_vote(run: Run) -> None:
    """Of five Sentinels three are left: a vote that nobody casts would count for the majority."""
    replicas = "".join(f"sentinel known-replica mymaster 10.0.0.{n} 6379\n" for n in (0, 1, 3))
    sentinels = "".join(f"sentinel known-sentinel mymaster 10.0.1.{n} 26379 {n}{'a' * 39}\n" for n in (1, 2, 3, 14))
    known = f"sentinel monitor mymaster 10.0.0.2 6379 2\n{replicas}{sentinels}"
    conf = run("start-sentinel", "redis-sentinel-0", {}, {"sentinel.conf": known}).sentinel_conf
    kept = [line.split()[3] for line in conf if "known-" in line]
    assert kept == ["10.0.0.0", "10.0.0.1", "10.0.1.1", "10.0.1.2"]


# --- what a mounted Secret says anew ----------------------------------------------------------------------------------

READY = {"127.0.0.1 info persistence replication": "loading:0\r\nrole:master\r\n"}
LOAD = "127.0.0.1 acl load"
CERTIFY = "127.0.0.1 config set tls-ca-cert-file {0}/ca.crt tls-cert-file {0}/tls.crt tls-key-file {0}/tls.key"


def mounted(folder: Path, name: str, age: float) -> None:
    """A Secret's volume as the kubelet leaves it: changed ``age`` seconds ago."""
    data = folder / name / "..data"
    data.mkdir(exist_ok=True)
    os.utime(data, (time.time() - age,) * 2)


@pytest.mark.parametrize(
    ("users", "certificate", "asked"),
    [(900, 900, []), (100, 900, [LOAD]), (900, 100, [CERTIFY]), (100, 100, [LOAD, CERTIFY])],
)
def test_a_server_reads_what_was_changed_and_once(
    run: Run, tmp_path: Path, users: float, certificate: float, asked: list[str]
) -> None:
    wanted = [question.format(tmp_path / "certificate") for question in asked]
    for file in ("read-users", "read-certificate"):
        (tmp_path / "run" / file).touch()
        os.utime(tmp_path / "run" / file, (time.time() - 500,) * 2)
    mounted(tmp_path, "users", users)
    mounted(tmp_path, "certificate", certificate)
    answers = {**READY, LOAD: "OK\n"}
    # The name of a file can have no slash.
    (tmp_path / "bin" / "redis-cli").write_text(
        REDIS_CLI.replace(
            'cat "$ANSWERS/$host $*" 2>/dev/null', 'case $* in config*) echo OK ;; *) cat "$ANSWERS/$host $*" ;; esac'
        )
    )
    outcome = run("probe", "redis-0", answers, argument="ready")
    assert (outcome.done.returncode, outcome.asked[1:]) == (0, wanted)
    assert run("probe", "redis-0", {}, argument="ready").asked[1:].count(LOAD) == len([q for q in wanted if q == LOAD])


def test_a_server_that_refuses_is_asked_again_and_stays_ready(run: Run, tmp_path: Path) -> None:
    for file in ("read-users", "read-certificate"):
        (tmp_path / "run" / file).touch()
        os.utime(tmp_path / "run" / file, (time.time() - 500,) * 2)
    mounted(tmp_path, "users", 10)
    mounted(tmp_path, "certificate", 900)
    outcome = run("probe", "redis-0", {**READY, LOAD: "ERR /users/users.acl:3: Unknown command\n"}, argument="ready")
    assert outcome.done.returncode == 0
    assert run("probe", "redis-0", {}, argument="ready").asked.count(LOAD) == 2


@pytest.mark.parametrize(
    ("quorum", "turn", "restarts"),
    [
        ("OK 3 usable Sentinels.", True, True),
        ("OK 2 usable Sentinels.", True, False),
        ("OK 3 usable Sentinels.", False, False),
    ],
)
def test_sentinels_start_anew_with_a_new_certificate_one_after_the_other(
    run: Run, tmp_path: Path, quorum: str, turn: bool, restarts: bool
) -> None:
    for file in ("read-users", "read-certificate"):
        (tmp_path / "data" / file).touch()
        os.utime(tmp_path / "data" / file, (time.time() - 500,) * 2)
    mounted(tmp_path, "users", 900)
    mounted(tmp_path, "certificate", 100)
    (tmp_path / "bin" / "date").write_text(f"#!/bin/sh\necho {3000 if turn else 3030}\n")
    (tmp_path / "bin" / "date").chmod(0o755)
    (tmp_path / "data" / "ticks").write_text("0 999999\n")
    answers = {"127.0.0.1 ping": "PONG\n", "127.0.0.1 sentinel ckquorum mymaster": quorum}
    outcome = run("probe", "redis-sentinel-1", answers, argument="sentinel")
    assert outcome.done.returncode == 0
    assert ("127.0.0.1 shutdown" in outcome.asked) is restarts


def test_what_a_server_has_read_is_noted_before_it_reads(run: Run, tmp_path: Path) -> None:
    run("start-redis", "redis-0", sentinels_say(*[named("10.0.0.0", 0)] * 3))
    run("start-sentinel", "redis-sentinel-0", {})
    for file in ("run/read-users", "run/read-certificate", "data/read-users", "data/read-certificate"):
        assert 1 < time.time() - (tmp_path / file).stat().st_mtime < 60


def test_nobody_speaks_without_tls(render: Render, objects: Objects) -> None:
    assert {"port 0", "tls-port 6379", "tls-replication yes", "tls-protocols TLSv1.3"} <= set(configuration_of(objects))
    text = haproxy_of(objects)
    assert "check-ssl verify required ca-file /certificate/ca.crt" in text
    for workload in objects.workloads():
        secrets = [
            volume["secret"]["secretName"]
            for volume in workload["spec"]["template"]["spec"]["volumes"]
            if volume["name"] == "certificate"
        ]
        # HAProxy passes TLS on and checks with it: it has no key.
        assert secrets == ["redis-ca" if workload["metadata"]["name"] == "redis-haproxy" else "redis-tls"]
    labels = [
        objects.one("StatefulSet", name)["spec"]["template"]["metadata"]["labels"]
        for name in ("redis", "redis-sentinel")
    ]
    assert [label["transport"] for label in labels] == ["tls", "tls"]


KNOWN = """\
port 26379
sentinel myid 0123456789abcdef0123456789abcdef01234567
sentinel monitor mymaster 10.9.0.2 6379 2
sentinel auth-pass mymaster old
sentinel config-epoch mymaster 5
sentinel leader-epoch mymaster 5
sentinel current-epoch 5
sentinel known-replica mymaster 10.9.0.0 6379
sentinel known-sentinel mymaster 10.9.1.1 26379 89abcdef0123456789abcdef0123456789abcdef
"""


def test_a_sentinel_keeps_what_it_knows_and_takes_new_settings(run: Run) -> None:
    known = KNOWN.replace("10.9.", "10.0.")
    conf = run("start-sentinel", "redis-sentinel-0", {}, {"sentinel.conf": known}).sentinel_conf
    assert "sentinel monitor mymaster 10.0.0.2 6379 2" in conf
    assert "sentinel myid 0123456789abcdef0123456789abcdef01234567" in conf
    assert [line for line in conf if "auth-pass" in line] == ["sentinel auth-pass mymaster password-of-sentinel"]
    assert conf.count("sentinel current-epoch 5") == 1


def test_what_a_sentinel_knows_survives_new_addresses(run: Run) -> None:
    pods = "".join(f"redis-{n} 10.9.0.{n}\nredis-sentinel-{n} 10.9.1.{n}\n" for n in range(3))
    conf = run("start-sentinel", "redis-sentinel-0", {}, {"sentinel.conf": KNOWN, "pods": pods}).sentinel_conf
    assert "sentinel monitor mymaster 10.0.0.2 6379 2" in conf
    assert "sentinel known-replica mymaster 10.0.0.0 6379" in conf
    assert "sentinel known-sentinel mymaster 10.0.1.1 26379 89abcdef0123456789abcdef0123456789abcdef" in conf
    assert not [line for line in conf if "10.9." in line]


def test_a_replica_stops_without_handing_over(run: Run) -> None:
    outcome = run("hand-over", "redis-0", {"127.0.0.1 info replication": "role:slave\r\n"})
    assert outcome.asked == ["127.0.0.1 info replication"]


def in_replication(*has: int) -> dict[str, str]:
    """redis-0 is master and has written 90 bytes; what each of its replicas has. Its Service leads nowhere any more:
    so it is when the pod is deleted by force.
    """
    answers = {
        f"10.0.0.{n} info replication": f"role:slave\r\nslave_repl_offset:{offset}\r\n"
        for n, offset in enumerate(has, 1)
    }
    # What the master knows of them is a second old.
    known = "".join(f"slave{n}:ip=10.0.0.{n + 1},port=6379,state=online,offset=80,lag=0\r\n" for n in range(len(has)))
    return {**answers, "127.0.0.1 info replication": f"role:master\r\n{known}master_repl_offset:90\r\n"}


def test_a_master_hands_over_before_it_stops(run: Run) -> None:
    answers = {
        **in_replication(90, 90),
        "10.0.1.0 sentinel failover mymaster": "NOGOODSLAVE No suitable replica to promote\n",
        "10.0.1.1 sentinel failover mymaster": "OK\n",
        **sentinels_say(*[named("10.0.0.1", 2)] * 3),
    }
    outcome = run("hand-over", "redis-0", answers)
    assert outcome.done.returncode == 0
    paused = outcome.asked.index("127.0.0.1 client pause 20000 write")
    assert paused < outcome.asked.index("10.0.1.1 sentinel failover mymaster")
    assert outcome.asked[-1] == "127.0.0.1 client kill type normal"
    # It was accepted once, and must not be asked for again: that would be a second failover.
    assert "10.0.1.2 sentinel failover mymaster" not in outcome.asked


@pytest.mark.parametrize(
    ("has", "caught_up"),
    [((90, 90), True), ((90, 104), True), ((90,), True), ((90, 89), False), ((89, 90), False), ((), False)],
)
def test_hand_over_waits_for_every_replica(run: Run, has: tuple[int, ...], caught_up: bool) -> None:
    asked = run("hand-over", "redis-0", in_replication(*has)).asked
    assert (asked.count("127.0.0.1 client pause 20000 write") == 1) is caught_up
    # It goes on in the end: the pod stops in any case.
    assert "10.0.1.0 sentinel failover mymaster" in asked


@pytest.mark.parametrize("answer", ["PONG", "LOADING Redis is loading the dataset in memory", None])
def test_loading_is_alive_but_not_ready(run: Run, answer: str | None) -> None:
    answers = {"127.0.0.1 ping": answer} if answer else {}
    if answer:
        loading = int(answer != "PONG")
        answers["127.0.0.1 info persistence replication"] = f"loading:{loading}\r\nasync_loading:0\r\nrole:master\r\n"
    assert (run("probe", "redis-0", answers, argument="alive").done.returncode == 0) is (answer is not None)
    assert (run("probe", "redis-0", answers, argument="ready").done.returncode == 0) is (answer == "PONG")


@pytest.mark.parametrize("link", ["up", "down"])
def test_a_replica_is_ready_with_its_master(run: Run, link: str) -> None:
    answer = f"loading:0\r\nrole:slave\r\nmaster_link_status:{link}\r\n"
    outcome = run("probe", "redis-0", {"127.0.0.1 info persistence replication": answer}, argument="ready")
    assert (outcome.done.returncode == 0) is (link == "up")
    assert len(outcome.asked) == 1, "each question is a process, in every pod, for ever"


@pytest.mark.parametrize(
    ("answer", "started"), [("OK 3 usable Sentinels.", True), ("NOQUORUM 1 usable Sentinels.", False), (None, False)]
)
def test_a_sentinel_has_started_when_it_could_take_part_in_a_failover(
    run: Run, answer: str | None, started: bool
) -> None:
    answers = {"127.0.0.1 sentinel ckquorum mymaster": answer} if answer else {}
    assert (run("probe", "redis-sentinel-0", answers, argument="quorum").done.returncode == 0) is started


CHOSEN = "slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.0 6379"
"""redis-2 becomes master in the place of redis-0."""


def test_the_others_leave_the_old_master_before_the_new_one_is_promoted_and_then_follow_it(run: Run) -> None:
    outcome = run(
        "follow-promoted", "redis-sentinel-0", {"10.0.0.2 role": "master\n"}, argument=["+selected-slave", CHOSEN]
    )
    assert outcome.done.returncode == 0
    assert outcome.asked == ["10.0.0.1 slaveof 127.0.0.1 1", "10.0.0.2 role", "10.0.0.1 slaveof 10.0.0.2 6379"]


def test_a_promotion_that_does_not_come_is_not_waited_for_without_end(run: Run) -> None:
    outcome = run("follow-promoted", "redis-sentinel-0", {}, argument=["+selected-slave", CHOSEN])
    assert outcome.asked[-1] == "10.0.0.1 slaveof 10.0.0.2 6379"


@pytest.mark.parametrize("event", ["+sdown", "+switch-master", "+promoted-slave"])
def test_other_events_of_the_sentinels_change_nothing(run: Run, event: str) -> None:
    assert run("follow-promoted", "redis-sentinel-0", {}, argument=[event, CHOSEN]).asked == []


def test_sentinel_may_run_the_script_and_knows_it(run: Run, objects: Objects) -> None:
    conf = run("start-sentinel", "redis-sentinel-0", {}).sentinel_conf
    [line] = [line for line in conf if "notification-script" in line]
    # Sentinel reads from top to bottom: the master before what is said about it.
    assert conf.index("sentinel monitor mymaster 10.0.0.0 6379 2") < conf.index(line)
    volumes = objects.one("StatefulSet", "redis-sentinel")["spec"]["template"]["spec"]["volumes"]
    [mode] = [volume["configMap"]["defaultMode"] for volume in volumes if volume["name"] == "scripts"]
    assert mode & 0o111 == 0o111


# --- copies -----------------------------------------------------------------------------------------------------------

IN_STEP = "role:slave\r\nmaster_link_status:up\r\n"
LAGGING = "role:slave\r\nmaster_link_status:down\r\n"


def replication_of(*answers: str | None) -> dict[str, str]:
    return {f"10.0.0.{n} info replication": answer for n, answer in enumerate(answers) if answer is not None}


def test_a_copy_comes_from_a_replica_and_has_its_checksum(run: Run) -> None:
    outcome = run("backup", "redis-backup-1", replication_of(MASTER_SAYS, LAGGING, IN_STEP))
    assert outcome.done.returncode == 0, outcome.done.stdout
    assert [line for line in outcome.asked if "--rdb" in line][0].startswith("10.0.0.2 ")
    [copy] = outcome.backups(".rdb")
    assert outcome.backups(".sha256") == [f"{copy}.sha256"]
    assert re.fullmatch(r"redis-\d{8}T\d{6}Z\.rdb", copy)
    assert f"{copy}: 3 keys, 9 bytes, from 10.0.0.2" in outcome.done.stdout


def test_the_master_alone_is_copied_where_it_has_no_replicas(run: Run) -> None:
    assert run("backup", "b", replication_of(MASTER_SAYS), env={"REDIS_COUNT": "1"}).done.returncode == 0


@pytest.mark.parametrize(
    ("answers", "env", "said"),
    [
        (replication_of(MASTER_SAYS, LAGGING, None), {}, "no replica answers that is in step with its master"),
        (
            replication_of("NOAUTH Authentication required.\n"),
            {},
            "refuses the password of backup that redis-users holds",
        ),
        (replication_of(MASTER_SAYS, IN_STEP, None), {"RDB": "refused"}, "10.0.0.1: AUTH failed"),
        (replication_of(MASTER_SAYS, IN_STEP, None), {"RDB": "broken"}, "redis-check-rdb refuses what 10.0.0.1 sent"),
    ],
)
def test_a_copy_that_fails_says_why_and_leaves_the_others(
    run: Run, answers: dict[str, str], env: dict[str, str], said: str
) -> None:
    old = {"redis-20200101T000000Z.rdb": "old", "redis-20200101T000000Z.rdb.sha256": "x", ".new.rdb": "half"}
    outcome = run("backup", "redis-backup-1", answers, env=env, backups=old)
    assert outcome.done.returncode == 1
    assert said in outcome.done.stdout
    assert outcome.backups(".rdb") == ["redis-20200101T000000Z.rdb"], "old copies go once there is a new one"
    assert not (outcome.folder / "backup" / ".new.rdb").exists()


def test_a_copy_waits_until_its_pod_is_let_through(run: Run) -> None:
    asked = run("backup", "b", {}).asked
    assert asked.count("10.0.0.1 info replication") > 5


def test_old_copies_go_after_the_retention(run: Run) -> None:
    copies = {f"redis-2020010{day}T000000Z.rdb{end}": "x" for day in (1, 2) for end in ("", ".sha256")}
    outcome = run("backup", "b", replication_of(MASTER_SAYS, IN_STEP), backups=copies, days_old=8)
    assert len(outcome.backups(".rdb")) == len(outcome.backups(".sha256")) == 1
    assert outcome.done.stdout.count("older than 7 days, removed") == 2
    kept = run("backup", "b", replication_of(MASTER_SAYS, IN_STEP), backups=copies, days_old=6)
    assert len(kept.backups(".rdb")) >= 3


def test_a_restore_refuses_what_is_not_there(run: Run) -> None:
    outcome = run("restore", "r", {}, env={"RESTORE_COPY": "redis-1.rdb"}, backups={"redis-2.rdb": "x"})
    assert outcome.done.returncode == 1
    assert "nothing was changed: there is no copy redis-1.rdb; there are: redis-2.rdb" in outcome.done.stdout


def test_a_restore_without_any_copy_says_so(run: Run) -> None:
    outcome = run("restore", "r", {})
    assert "nothing was changed: there is no copy on the volume" in outcome.done.stdout


def test_a_restore_refuses_a_copy_that_changed(run: Run) -> None:
    copy = {"redis-1.rdb": "x", "redis-1.rdb.sha256": f"{'0' * 64}  redis-1.rdb\n"}
    outcome = run("restore", "r", {}, env={"RESTORE_COPY": "latest"}, backups=copy)
    assert "nothing was changed: redis-1.rdb is not what was written: its checksum differs" in outcome.done.stdout
    assert outcome.asked == []


def test_copies_are_a_job_with_the_least_rights(objects: Objects) -> None:
    spec = objects.one("CronJob", "redis-backup")["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("17 2 * * *", "Forbid")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    secret = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "users")
    assert [item["key"] for item in secret["items"]] == ["backup"]
    claim = objects.one("PersistentVolumeClaim", "redis-backup")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    restore = objects.one("CronJob", "redis-restore")["spec"]
    assert restore["suspend"] is True
    container = restore["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "8Gi"
    assert [m["readOnly"] for m in container["volumeMounts"] if m["name"] == "backup"] == [True]


def test_without_copies_there_is_nothing_of_them(render: Render) -> None:
    objects = render(CHART, {"backup": {"enabled": False}})
    assert not objects.of("CronJob") and not objects.of("PersistentVolumeClaim")


def test_a_master_without_replicas_is_refused_with_the_numbers(render: Render) -> None:
    with pytest.raises(RenderError, match=r"min-replicas-to-write is 1, but of redis.replicas \(1\) one is the master"):
        render(CHART, {"redis": {"replicas": 1}})
    assert render(CHART, {"redis": {"replicas": 1, "configuration": {"min-replicas-to-write": 0}}})


def test_scripts_are_clean_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = [str(path) for path in SCRIPTS.iterdir()]
    done = subprocess.run(
        [shellcheck, "--shell=sh", "--external-sources", f"--source-path={SCRIPTS}", *scripts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_hard_spread_over_zones_counts_pods_of_every_revision(render: Render) -> None:
    """A pod goes back to where its volume is: of a, b, c, b, c the new c, b, c alone are uneven."""
    hard = {"spread": {"zoneWhenUnsatisfiable": "DoNotSchedule", "minDomains": 3}}
    objects = render(CHART, {"redis": hard, "sentinel": {**hard, "replicas": 5}})
    for name in ("redis", "redis-sentinel"):
        constraints = objects.one("StatefulSet", name)["spec"]["template"]["spec"]["topologySpreadConstraints"]
        [zone] = [entry for entry in constraints if entry["topologyKey"] == "topology.kubernetes.io/zone"]
        [host] = [entry for entry in constraints if entry["topologyKey"] == "kubernetes.io/hostname"]
        assert (zone["whenUnsatisfiable"], zone["minDomains"]) == ("DoNotSchedule", 3)
        assert "matchLabelKeys" not in zone
        assert host["matchLabelKeys"] == ["controller-revision-hash"]
