"""A Redis of the test's own: the chart in a namespace that is made for it, small, with the role's users;
and a client on this machine that writes through redis-master at a steady rate and remembers every answer.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field

import redis
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran, run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates

from .checkout import ROOT, helm_upgrade, image

ROLE = ROOT / "roles" / "data_services"
TLS = "--tls --cacert /certificate/ca.crt"
DRILL = "~drill:* +@connection -@dangerous +get +set +unlink +wait"

SMALL = {
    "redis": {
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "configuration": {"maxmemory": "128mb"},
        "persistence": {"data": {"size": "1Gi"}},
    },
    "sentinel": {"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}},
    "haproxy": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
}


def merged(base: dict, over: dict) -> dict:
    """``over`` laid upon ``base``, as Helm lays values."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


class Release:
    """The chart redis in a namespace of its own."""

    def __init__(self, cluster: Cluster, kubeconfig: str, namespace: str) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.passwords: dict[str, str] = {}

    # --- making it ----------------------------------------------------------------------------------------------------

    def make(self, values: dict | None = None, ready: bool = True) -> None:
        """Users, certificates, release, and the way in for the client of this machine."""
        self._users()
        self._certificates()
        images = {part: {"image": image("haproxy" if part == "haproxy" else "redis")} for part in SMALL}
        self.upgrade(merged(merged(SMALL, images), values or {}))
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "from-outside", "namespace": self.namespace},
                "spec": {
                    "type": "NodePort",
                    "selector": {"app.kubernetes.io/name": "redis-haproxy"},
                    "ports": [{"name": "redis", "port": 6379, "targetPort": "redis"}],
                },
            },
            "test",
        )
        if ready:
            self.wait_until_whole()

    def upgrade(self, values: dict) -> None:
        """helm upgrade --install with these values alone."""
        self.values = values
        helm_upgrade("redis", self.namespace, self.kubeconfig, values)

    def _users(self) -> None:
        """The Secret redis-users as roles/data_services makes it, and a user for the tests' writes."""
        role = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
        users = (
            role["__data_services_redis_own_users"] | role["__data_services_redis_admin"] | {"drill": {"redis": DRILL}}
        )
        self.passwords = {name: secrets.token_urlsafe(24) for name in users}
        data = dict(self.passwords)
        for side, file in (("redis", "users.acl"), ("sentinel", "sentinel-users.acl")):
            lines = ["user default off"]
            for name, rules in users.items():
                if side in rules:
                    digest = hashlib.sha256(self.passwords[name].encode()).hexdigest()
                    lines.append(f"user {name} on #{digest} {rules[side]}")
            data[file] = "\n".join(lines) + "\n"
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "redis-users", "namespace": self.namespace},
                "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
            },
            "test",
        )

    def _certificates(self) -> None:
        """The Secrets redis-tls and redis-ca, as the role makes them."""
        authority = certificates.issue(certificates.Wanted("Redis's authority", is_ca=True), None)
        pair = certificates.issue(certificates.Wanted("redis", dns_names=("redis-master",)), authority)
        self.authority = authority.certificate.decode()
        made = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.certificate}
        for name, keys in (("redis-tls", list(made)), ("redis-ca", ["ca.crt"])):
            self.cluster.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, "namespace": self.namespace},
                    "data": {key: base64.b64encode(made[key]).decode() for key in keys},
                },
                "test",
            )

    # --- looking at it ------------------------------------------------------------------------------------------------

    def pod(self, name: str) -> dict | None:
        """The pod, None where there is none."""
        return self.cluster.get({"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": self.namespace})

    def run(self, pod: str, command: str, timeout_seconds: float = 20, stdin: str | None = None) -> Ran:
        """A shell command in a pod."""
        return run_in_pod(
            self.cluster, self.namespace, pod, ["sh", "-c", command], stdin=stdin, timeout_seconds=timeout_seconds
        )

    def admin(self, pod: str, command: str) -> str:
        """A command to the Redis of a pod, by a user who may do all. The password is in no process list."""
        script = f"read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec timeout 10 redis-cli {TLS} --user admin {command}"
        ran = self.run(pod, script, 30, self.passwords["admin"] + "\n")
        return ran.stdout.replace("\r", "").strip()

    def roles(self) -> dict[str, str]:
        """What each Redis pod says of itself, as the pods' own scripts ask it; "" where it does not answer."""
        names = [f"redis-{n}" for n in range(self.values["redis"].get("replicas", 3))]
        found = concurrently(lambda name: self.run(name, ". /scripts/topology; role 127.0.0.1"), names)
        return {name: getattr(ran, "stdout", "").strip() for name, ran in zip(names, found, strict=True)}

    def replication(self, pod: str) -> dict[str, str]:
        """``INFO replication`` of a pod."""
        text = self.run(pod, ". /scripts/topology; ask 127.0.0.1 6379 info replication").stdout.replace("\r", "")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def master(self) -> str:
        """The pod that is master; an error where there is not exactly one."""
        roles = self.roles()
        masters = [name for name, role in roles.items() if role == "master"]
        assert len(masters) == 1, roles
        return masters[0]

    def whole(self) -> bool:
        """One master with all its replicas in step, every Sentinel of one mind, every pod ready."""
        roles = self.roles()
        masters = [name for name, role in roles.items() if role == "master"]
        if len(masters) != 1:
            return False
        seen = self.replication(masters[0])
        online = [v for k, v in seen.items() if k.startswith("slave") and "state=online" in v]
        if len(online) != len(roles) - 1:
            return False
        pods = self.cluster.list("v1", "Pod", self.namespace, "app.kubernetes.io/instance=redis")
        pods = [pod for pod in pods if (pod["status"].get("phase")) not in ("Succeeded", "Failed")]
        conditions = [
            {c["type"]: c["status"] for c in pod["status"].get("conditions") or []}.get("Ready") == "True"
            for pod in pods
        ]
        if not all(conditions) or len(conditions) < len(roles) + 1:
            return False
        count = self.values["sentinel"].get("replicas", 3)
        quorum = self.values["sentinel"].get("quorum", 2)
        for n in range(count):
            said = self.run(
                f"redis-sentinel-{n}",
                '. /scripts/topology; ask 127.0.0.1 26379 sentinel master "$MASTER_NAME"; address ' + masters[0],
            ).stdout.split("\n")
            known = dict(zip(said[0:-2:2], said[1:-2:2], strict=False))
            if known.get("ip") != said[-2] or known.get("flags") != "master":
                return False
            if int(known["num-other-sentinels"]) != count - 1 or count - 1 < quorum - 1:
                return False
        return True

    def wait_until_whole(self, seconds: float = 240) -> float:
        """How long it took."""
        began = time.monotonic()
        last = ""
        while time.monotonic() - began < seconds:
            try:
                if self.whole():
                    return time.monotonic() - began
            except (AssertionError, ValueError, IndexError, KeyError, TypeError) as failure:
                last = repr(failure)
            except Exception as failure:  # a pod or node that is away
                last = str(failure)
            time.sleep(1)
        raise AssertionError(f"Redis is not whole after {seconds:g} s: {self.roles()} {last}")

    # --- writing to it ------------------------------------------------------------------------------------------------

    def outside(self) -> tuple[str, int]:
        """An address that leads to redis-master from this machine: a port of the control-plane node."""
        service = self.cluster.get(
            {"apiVersion": "v1", "kind": "Service", "name": "from-outside", "namespace": self.namespace}
        )
        nodes = self.cluster.list("v1", "Node", label_selector="node-role.kubernetes.io/control-plane")
        address = next(a["address"] for a in nodes[0]["status"]["addresses"] if a["type"] == "InternalIP")
        return address, service["spec"]["ports"][0]["nodePort"]

    def client(self, user: str = "drill", timeout_seconds: float = 10) -> redis.Redis:
        """A client through HAProxy that tries everything once."""
        host, port = self.outside()
        return redis.Redis(
            host=host,
            port=port,
            username=user,
            password=self.passwords[user],
            socket_connect_timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            retry=None,
            ssl=True,
            ssl_ca_data=self.authority,
            # By a node's address.
            ssl_check_hostname=False,
            decode_responses=True,
        )


@dataclass
class Write:
    """One write: what it wrote, when (monotonic seconds), and the answer."""

    key: str
    sent: float
    ended: float = 0.0
    acknowledged: bool = False
    error: str = ""


@dataclass
class Writer:
    """Writes ``rate`` keys a second until it is stopped, each acknowledged by ``confirm`` replicas, each tried once.

    As many threads as writes can be under way while one hangs for its whole timeout keep the rate.
    """

    release: Release
    rate: int = 200
    confirm: int = 1
    threads: int = 64
    writes: list[Write] = field(default_factory=list)

    def __enter__(self) -> Writer:
        self.run_id = secrets.token_hex(4)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._number = 0
        self.began = time.monotonic()
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.join(10)

    def _work(self) -> None:
        client = self.release.client(timeout_seconds=1)
        while not self._stop.is_set():
            with self._lock:
                number = self._number
                self._number += 1
            due = self.began + number / self.rate
            now = time.monotonic()
            if due > now:
                time.sleep(due - now)
            elif now - due > 0.5:
                # Everybody was busy: the rate is kept from here on and not made up for.
                with self._lock:
                    self._number = max(self._number, int((now - self.began) * self.rate))
            write = Write(f"drill:{self.run_id}:{number}", time.monotonic())
            try:
                with client.pipeline(transaction=False) as pipe:
                    pipe.set(write.key, number, ex=3600)
                    if self.confirm:
                        pipe.wait(self.confirm, 500)
                    answers = pipe.execute()
                write.acknowledged = bool(answers[0]) and (not self.confirm or answers[1] >= self.confirm)
                if not write.acknowledged:
                    write.error = f"reached {answers[-1]} replicas"
            except (redis.RedisError, OSError) as failure:
                # Without the command that the client adds, which differs each time.
                write.error = f"{type(failure).__name__}: {str(failure).rpartition('caused error: ')[2]}"
            write.ended = time.monotonic()
            self.writes.append(write)

    def longest_gap(self, since: float = 0.0) -> float:
        """The longest time without an acknowledged write, in seconds."""
        times = sorted(write.ended for write in self.writes if write.acknowledged and write.ended >= since)
        assert len(times) > 1, [write.error for write in self.writes[-5:]]
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))

    def lost(self) -> list[Write]:
        """The acknowledged writes that the master does not hold now."""
        acknowledged = [write for write in self.writes if write.acknowledged]
        with self.release.client().pipeline(transaction=False) as pipe:
            for write in acknowledged:
                pipe.get(write.key)
            found = pipe.execute()
        return [write for write, value in zip(acknowledged, found, strict=True) if value is None]

    def errors(self) -> dict[str, int]:
        """How many writes failed with which error."""
        counted: dict[str, int] = {}
        for write in self.writes:
            if write.error:
                counted[write.error] = counted.get(write.error, 0) + 1
        return counted
