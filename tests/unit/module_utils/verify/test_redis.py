"""Whether a topology of Redis is right, out of what its parts say."""

from __future__ import annotations

import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import redis
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.redis import (
    answers_of,
    evicted_of,
    owners_of,
    problem_of,
    server_of,
    witness_of,
)

from ..stand_in import stands_in_for

OPTIONS = {"server_count": 3, "sentinel_count": 3, "quorum": 2}
OWNERS = {f"10.0.0.{n}": f"redis-{n}" for n in range(3)} | {f"10.0.1.{n}": f"redis-sentinel-{n}" for n in range(3)}


def role(master, number):
    """The answer of redis-NUMBER to ROLE while redis-MASTER is master."""
    if number == master:
        return ["master", 100, [[f"10.0.0.{n}", "6379", "100"] for n in range(3) if n != master]]
    return ["slave", f"10.0.0.{master}", 6379, "connected", 100]


def listed(kind, numbers, flags):
    return [["name", "x", "ip", f"10.0.{kind}.{n}", "flags", flags] for n in numbers]


def topology(master=1):
    servers = [server_of(f"redis-{n}", role(master, n)) for n in range(3)]
    witnesses = [
        witness_of(
            f"redis-sentinel-{n}",
            [f"10.0.0.{master}", "6379"],
            listed(0, [m for m in range(3) if m != master], "slave"),
            listed(1, [m for m in range(3) if m != n], "sentinel"),
        )
        for n in range(3)
    ]
    return servers, witnesses


@pytest.mark.parametrize("master", range(3))
def test_a_right_topology(master):
    assert problem_of(*topology(master), OWNERS, OPTIONS) == ""


def broken(change):
    servers, witnesses = topology()
    change(servers, witnesses)
    return problem_of(servers, witnesses, OWNERS, OPTIONS)


def put(index, where, value):
    return lambda servers, witnesses: (servers, witnesses)[where].__setitem__(index, value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda servers, _witnesses: servers.pop(), "2 servers are ready"),
        (put(0, 0, server_of("redis-0", ["master", 1, []])), "2 masters (redis-0, redis-1)"),
        (put(1, 0, server_of("redis-1", ["slave", "10.0.0.0", 6379, "connected", 1])), "0 masters (none)"),
        (put(0, 0, server_of("redis-0", ["slave", "10.0.0.2", 6379, "connected", 1])), "redis-0 follows redis-2"),
        (put(0, 0, server_of("redis-0", ["slave", "10.0.0.1", 6379, "connect", 1])), "link connect"),
        (put(1, 0, server_of("redis-1", ["master", 1, [["10.0.0.0", "6379", "1"]]])), "has the replicas redis-0"),
        (lambda _servers, witnesses: witnesses.pop(), "2 Sentinels are ready"),
        (
            put(0, 1, witness_of("redis-sentinel-0", ["10.0.0.2", "6379"], [], [])),
            "redis-sentinel-0 calls redis-2 the master, which is redis-1",
        ),
        (
            put(
                2,
                1,
                witness_of(
                    "redis-sentinel-2",
                    ["10.0.0.1", "6379"],
                    listed(0, [0, 2], "slave"),
                    listed(1, [0, 1], "s_down,sentinel,disconnected"),
                ),
            ),
            "cannot reach redis-sentinel-0, redis-sentinel-1",
        ),
        (
            put(
                2,
                1,
                witness_of(
                    "redis-sentinel-2", ["10.0.0.1", "6379"], listed(0, [0], "slave"), listed(1, [0, 1], "sentinel")
                ),
            ),
            "redis-sentinel-2 knows 1 replicas",
        ),
    ],
)
def test_a_wrong_topology_is_named(change, problem):
    assert problem in broken(change)


def test_maps_of_resp3_are_read_as_well():
    entry = {"name": "x", "ip": "10.0.0.2", "flags": "slave"}
    assert witness_of("s", ["10.0.0.1", 6379], [entry], []).replicas == {"10.0.0.2": "slave"}


def test_answers_are_those_after_auth():
    said = '"OK"\n["master",1,[]]\n\n'
    assert answers_of(said, "redis-0", 1, "secret") == [["master", 1, []]]


@pytest.mark.parametrize(
    "said",
    [
        '"WRONGPASS invalid username-password pair or user is disabled: top-secret"\n["master",1,[]]\n',
        '"OK"\nNOPERM User controller has no permissions to run role\n',
        '"OK"\n',
        "",
    ],
)
def test_a_refusal_is_an_error_that_does_not_tell_the_password(said):
    with pytest.raises(PlatformError) as caught:
        answers_of(said, "redis-0", 1, "top-secret")
    assert "top-secret" not in json.dumps(caught.value.result())


def test_an_address_belongs_to_the_pod_or_to_a_service_of_that_pod_alone():
    pods = [
        {"metadata": {"name": f"redis-{n}", "labels": {"app": "redis", "pod": f"redis-{n}"}},
         "status": {"podIP": f"10.1.0.{n}"}}
        for n in range(2)
    ]  # fmt: skip
    services = [
        {"spec": {"clusterIP": "10.2.0.0", "selector": {"app": "redis", "pod": "redis-0"}}},
        {"spec": {"clusterIP": "10.2.0.9", "selector": {"app": "redis"}}},
        {"spec": {"clusterIP": "10.2.0.8"}},
    ]
    assert owners_of(services, pods) == {"10.1.0.0": "redis-0", "10.1.0.1": "redis-1", "10.2.0.0": "redis-0"}


@stands_in_for(Cluster)
class Servers:
    """Two ready servers of Redis."""

    def list(self, api_version, kind, namespace=None, label_selector=None, field_selector=None):
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        return [{"metadata": {"name": f"redis-{number}"}, "status": ready} for number in range(2)]


@pytest.mark.parametrize(
    ("second", "kind", "said"),
    [
        ("# Stats\r\nevicted_keys:0\r\n", Passed, "none on 2 servers"),
        ("# Stats\r\nexpired_keys:9\r\nevicted_keys:12\r\n", Doubtful, "12 keys evicted (redis-1 12)"),
        ("NOAUTH Authentication required.\n", Doubtful, "redis-1 does not say"),
        (PlatformError("no right to run a command in a pod"), Doubtful, "redis-1 does not say"),
    ],
)
def test_evicted_sessions_are_a_warning(monkeypatch, second, kind, said):
    def run_in_pod(_cluster, namespace, pod, command):
        assert (namespace, command[-1]) == ("data", "6379")
        if pod == "redis-0":
            return Ran(0, "# Stats\r\nevicted_keys:0\r\n", "")
        if isinstance(second, PlatformError):
            raise second
        return Ran(0, second, "")

    monkeypatch.setattr(redis, "run_in_pod", run_in_pod)
    found = redis.redis_evictions(Servers(), {"namespace": "data", "servers": "redis", "port": 6379})
    assert isinstance(found, kind)
    assert said in found.detail


def test_another_counter_is_not_taken_for_it():
    assert evicted_of("evicted_keys_total:3\nx_evicted_keys:3\n") is None
