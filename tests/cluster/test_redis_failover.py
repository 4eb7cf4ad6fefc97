"""Redis while it is drained, updated, restarted and cut off, under 200 writes a second: what is acknowledged stays, and
how long nothing is written.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .redis_release import Release, Writer

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def release(cluster, kubeconfig, own_namespace):
    made = Release(cluster, kubeconfig, own_namespace)
    made.make({"backup": {"enabled": False}})
    return made


@pytest.fixture
def master(release: Release) -> str:
    release.wait_until_whole()
    return release.master()


def test_a_drained_master_hands_over_first(release: Release, master: str) -> None:
    pod = release.pod(master)
    with Writer(release) as writer:
        time.sleep(3)
        evicted = time.monotonic()
        release.cluster.request(
            "POST",
            release.cluster.path(pod) + "/eviction",
            body={
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": master, "namespace": release.namespace},
            },
            about=pod,
        )
        time.sleep(15)
    release.wait_until_whole()
    assert release.master() != master
    assert writer.lost() == []
    print(f"\ndrained: nothing written for {writer.longest_gap(evicted - 1):.1f} s, failed: {writer.errors()}")
    assert writer.longest_gap(evicted - 1) < 5


def test_a_rolling_update_hands_over_first(release: Release, master: str) -> None:
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "redis", "namespace": release.namespace}
    restarted = {"kubectl.kubernetes.io/restartedAt": datetime.datetime.now(datetime.UTC).isoformat()}
    with Writer(release) as writer:
        time.sleep(3)
        began = time.monotonic()
        release.cluster.patch(ref, {"spec": {"template": {"metadata": {"annotations": restarted}}}}, "test")
        while time.monotonic() - began < 240:
            time.sleep(2)
            status = release.cluster.get(ref)["status"]
            if status.get("updatedReplicas") == 3 and status["currentRevision"] == status["updateRevision"]:
                break
        time.sleep(3)
    release.wait_until_whole()
    assert writer.lost() == []
    print(f"\nupdated: nothing written for {writer.longest_gap(began - 1):.1f} s, failed: {writer.errors()}")
    assert writer.longest_gap(began - 1) < 5


def test_a_master_that_is_back_soon_does_not_compete_with_the_new_one(release: Release, master: str) -> None:
    """Its process ends, without preStop, and its container starts again long before the Sentinels take it for dead."""
    with Writer(release) as writer:
        time.sleep(3)
        ended = time.monotonic()
        release.run(master, "kill 1")
        time.sleep(20)
    release.wait_until_whole()
    assert release.master() != master
    assert "can take over: waiting for the Sentinels" in release.cluster.logs(
        release.namespace, master, "redis", tail_lines=200
    )
    assert writer.lost() == []
    print(f"\nprocess ended: nothing written for {writer.longest_gap(ended - 1):.1f} s, failed: {writer.errors()}")
    assert writer.longest_gap(ended - 1) < 10


INSIDE = """\
read -r REDISCLI_AUTH
export REDISCLI_AUTH
i=0
while [ "$i" -lt {count} ]; do
  echo "SET {key}:$i $i EX 3600"
  {wait}
  i=$((i + 1))
  sleep 0.004
done | redis-cli --tls --cacert /certificate/ca.crt --user drill
"""
"""A client on the side of the master that is cut off: exec reaches a pod over its node, not over the pod's network."""


class CutOff:
    """The pod's network, taken away on its node: no packet goes to other pods or comes from them."""

    def __init__(self, pod: dict) -> None:
        self.node, self.address = pod["spec"]["nodeName"], pod["status"]["podIP"]

    def _rules(self, change: list[str]) -> None:
        for direction in ("--source", "--destination"):
            rule = [*change, direction, self.address, "--jump", "DROP"]
            subprocess.run(["docker", "exec", self.node, "iptables", "--wait", *rule], check=True)

    def __enter__(self) -> None:
        self._rules(["--insert", "FORWARD", "1"])

    def __exit__(self, *_: object) -> None:
        self._rules(["--delete", "FORWARD"])


def test_a_master_that_is_cut_off_stops_writing_and_loses_nothing_confirmed(
    release: Release, master: str, record_property
) -> None:
    pod = release.pod(master)
    node = pod["spec"]["nodeName"]
    if shutil.which("docker") is None or subprocess.run(["docker", "inspect", node], capture_output=True).returncode:
        pytest.skip("the nodes are not containers of this machine")

    def write_inside(key: str, count: int, confirmed: bool) -> list[str]:
        script = INSIDE.format(count=count, key=key, wait='echo "WAIT 1 500"' if confirmed else "")
        # redis-cli ends an error with an empty line.
        said = release.run(master, script, 120, stdin=release.passwords["drill"] + "\n").stdout
        return [line for line in said.split("\n") if line]

    run = f"drill:{time.time_ns()}"
    with Writer(release) as writer, ThreadPoolExecutor(2) as pool:
        plain = pool.submit(write_inside, f"{run}:plain", 4000, False)
        confirmed = pool.submit(write_inside, f"{run}:confirmed", 700, True)
        time.sleep(3)
        cut = time.monotonic()
        with CutOff(pod):
            # The cut-off master still takes itself for one; the others have a new one.
            while list(release.roles().values()).count("master") != 2:
                assert time.monotonic() - cut < 60, "no new master"
                time.sleep(0.5)
            time.sleep(5)
        plain_answers, confirmed_answers = plain.result(), confirmed.result()
    release.wait_until_whole()
    assert release.roles()[master] == "slave", "the former master follows the new one"

    # Refused, once no replica was heard of for min-replicas-max-lag.
    refused = [answer for answer in plain_answers if answer.startswith("NOREPLICAS")]
    assert refused

    client = release.client()

    def lost(key: str, numbers: list[int]) -> list[int]:
        return [number for number in numbers if client.get(f"{run}:{key}:{number}") is None]

    pairs = list(zip(confirmed_answers[::2], confirmed_answers[1::2], strict=False))
    kept = [number for number, (said, replicas) in enumerate(pairs) if said == "OK" and replicas in ("1", "2")]
    assert kept
    assert lost("confirmed", kept) == []
    # And what was written through HAProxy meanwhile, on the side of the majority.
    assert writer.lost() == []

    acknowledged = [number for number, said in enumerate(plain_answers) if said == "OK"]
    gone = lost("plain", acknowledged)
    # They end where the refusals begin: the window is the lag and not the whole cut.
    assert gone == acknowledged[len(acknowledged) - len(gone) :]
    record_property("acknowledged without WAIT and lost", f"{len(gone)} of {len(acknowledged)}")
    record_property("longest time without a write, through HAProxy", f"{writer.longest_gap(cut - 1):.1f} s")
    print(
        f"\nlost of those acknowledged without WAIT: {len(gone)} of {len(acknowledged)}, then {len(refused)} refused; "
        f"with WAIT: 0 of {len(kept)}; through HAProxy nothing for {writer.longest_gap(cut - 1):.1f} s"
    )
