"""Whether PostgreSQL's roles and backups are right, out of what Patroni and pgBackRest say."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import postgresql as verify_postgresql
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.postgresql import (
    backup_state,
    in_one_zone,
    led_to,
    postgresql_roles,
    postgresql_volumes,
    restarts_to_come,
    roles_problem,
)

from ..stand_in import stands_in_for

OPTIONS = {"server_count": 3, "synchronous": True}
NOW = 1_800_000_000


def members():
    return [
        {"name": "postgresql-0", "role": "leader", "state": "running"},
        {"name": "postgresql-1", "role": "sync_standby", "state": "streaming"},
        {"name": "postgresql-2", "role": "replica", "state": "streaming"},
    ]


def test_right_roles():
    assert roles_problem(members(), ["postgresql-0"], OPTIONS) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"role": "replica"}, "0 primaries"),
        ({"state": "stopped"}, "postgresql-0 is stopped"),
        ({"state": "starting"}, "postgresql-0 is starting"),
    ],
)
def test_a_wrong_primary(change, told):
    found = members()
    found[0].update(change)
    assert told in roles_problem(found, ["postgresql-0"], OPTIONS)


def test_two_primaries():
    found = members()
    found[1]["role"] = "leader"
    assert roles_problem(found, ["postgresql-0"], OPTIONS).startswith("2 primaries")


def test_a_standby_that_does_not_stream():
    found = members()
    found[2]["state"] = "running"
    assert roles_problem(found, ["postgresql-0"], OPTIONS) == "postgresql-2 is running"


def test_a_member_that_is_missing():
    assert roles_problem(members()[:2], ["postgresql-0"], OPTIONS).startswith("2 members")


@pytest.mark.parametrize(
    ("led_to", "told"),
    [([], "leads to nothing"), (["postgresql-1"], "leads to postgresql-1, and postgresql-0 is the primary")],
)
def test_a_service_that_leads_elsewhere(led_to, told):
    assert told in roles_problem(members(), led_to, OPTIONS)


def test_a_service_leads_to_what_its_slices_have_ready():
    pods = [{"metadata": {"name": f"postgresql-{n}"}, "status": {"podIP": f"10.0.0.{n}"}} for n in range(2)]
    ready = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}}
    ending = {"addresses": ["10.0.0.0"], "conditions": {"ready": False}}
    unknown = {"addresses": ["10.0.0.9"]}
    assert led_to([{"endpoints": [ending, ready]}, {"endpoints": [unknown]}], pods) == ["postgresql-1", "10.0.0.9"]
    assert led_to([{"endpoints": None}, {}], pods) == []


def placed(*zones, taints=()):
    """Members in these zones, each on a node of its own; and the nodes, those in ``taints`` with one."""
    nodes = [
        {
            "metadata": {"name": f"node-{n}", "labels": {"topology.kubernetes.io/zone": zone} if zone else {}},
            "spec": {"taints": [{"key": "x"}]} if n in taints else {},
        }
        for n, zone in enumerate(zones)
    ]
    pods = [
        {"metadata": {"name": f"postgresql-{n}"}, "spec": {"nodeName": f"node-{n}"}, "status": {"podIP": f"10.0.0.{n}"}}
        for n in range(3)
    ]
    return pods, nodes


@pytest.mark.parametrize(
    ("zones", "taints", "told"),
    [
        (("a", "b", "c"), (), ""),
        (("a", "a", "b"), (), "postgresql-0 and postgresql-1 in a"),
        (("a", "a", "a", "b"), (), "postgresql-0 and postgresql-1 in a"),
        # There is no other zone, or none that takes pods.
        (("a", "a", "a"), (), ""),
        (("a", "a", "a", "b"), (3,), ""),
        ((None, None, None), (), ""),
    ],
)
def test_a_primary_and_its_synchronous_standby_in_one_zone(zones, taints, told):
    pods, nodes = placed(*zones, taints=taints)
    assert in_one_zone(["postgresql-0", "postgresql-1"], pods, nodes) == told
    # Another one that has every commit is elsewhere; and alone, nobody is together.
    if len(set(zones[:3])) > 1:
        assert in_one_zone(["postgresql-0", "postgresql-1", "postgresql-2"], pods, nodes) == ""
    assert in_one_zone(["postgresql-0"], pods, nodes) == ""


def test_one_zone_for_both_is_a_failure(monkeypatch):
    pods, nodes = placed("a", "a", "b")

    @stands_in_for(Cluster)
    class FakeCluster:
        def get(self, _ref):
            return None

        def list(self, _api_version, kind, _namespace=None, _label_selector=None):
            slices = [{"endpoints": [{"addresses": ["10.0.0.0"]}]}]
            return {"Pod": pods, "Node": nodes, "EndpointSlice": slices}[kind]

    monkeypatch.setattr(verify_postgresql, "_members", lambda cluster, options: members())
    options = {**OPTIONS, "namespace": "n", "servers": "postgresql", "service": "postgresql-primary"}
    with pytest.raises(PlatformError) as raised:
        postgresql_roles(FakeCluster(), options)
    assert raised.value.reason == "zones"
    assert "postgresql-0 and postgresql-1 in a" in raised.value.found
    nodes[1]["metadata"]["labels"]["topology.kubernetes.io/zone"] = "c"
    assert "postgresql-1 has every commit" in str(postgresql_roles(FakeCluster(), options))


def test_restarts_that_are_to_come_are_said():
    found = members()
    assert restarts_to_come(found) == ""
    found[0]["pending_restart"] = True
    found[1] |= {"pending_restart": True, "pending_restart_reason": {"max_connections": {}, "huge_pages": {}}}
    assert restarts_to_come(found) == (
        "; to be restarted: postgresql-0 (changed settings), postgresql-1 (huge_pages, max_connections)"
    )


def test_a_restore_that_was_cut_short_is_told_with_what_it_began():
    @stands_in_for(Cluster)
    class FakeCluster:
        def get(self, ref):
            if (ref["kind"], ref["name"]) == ("ConfigMap", "postgresql-restore"):
                metadata = {"creationTimestamp": "2026-11-28T10:00:00Z"}
                return {"metadata": metadata, "data": {"restore.yml": "restore --set=20261128-090000F"}}
            return None

    with pytest.raises(PlatformError, match="cut short") as raised:
        postgresql_roles(FakeCluster(), {**OPTIONS, "namespace": "data-services"})
    assert "--set=20261128-090000F" in str(raised.value)
    assert "restore.yml again with the same restore_time" in str(raised.value)


def test_no_synchronous_standby():
    found = members()
    found[1]["role"] = "replica"
    assert roles_problem(found, ["postgresql-0"], OPTIONS) == "no standby is synchronous"
    assert roles_problem(found, ["postgresql-0"], {**OPTIONS, "synchronous": False}) == ""


def stanza(**changes):
    backup = {
        "label": "20270115-080000F",
        "error": False,
        "timestamp": {"stop": NOW - 7200},
        "archive": {"stop": "000000010000000000000099"},
        "database": {"id": 1},
        **changes,
    }
    database = {"database": {"id": 1}}
    archive = [
        {"min": None, "max": None, **database},
        {"min": "000000010000000000000001", "max": "0000000100000000000000AA", **database},
    ]
    databases = [{"id": 1, "version": "15"}]
    return [{"status": {"code": 0, "message": "ok"}, "db": databases, "backup": [backup], "archive": archive}]


def unreadable(message):
    """What info says of a repository that it cannot read: it ends well, and the stanza's own message is a word."""
    return [
        {
            "status": {"code": 99, "message": "other"},
            "repo": [{"key": 1, "status": {"code": 99, "message": message}}],
            "backup": [],
            "archive": [],
        }
    ]


NO_BUCKET = """[ProtocolError] HTTP request failed with 404 (Not Found):
*** Path/Query ***:
GET /backups/?delimiter=%2F&list-type=2&prefix=postgresql%2Fbackup%2F
*** Request Headers ***:
authorization: <redacted>
*** Response Content ***:
<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist.</Message>"""

ARCHIVED = {"failed": False, "wal": None, "archived": "0000000100000000000000AA"}


def test_a_good_backup():
    problem, summary = backup_state(stanza(), ARCHIVED, 26, NOW)
    assert problem == ""
    assert "20270115-080000F of 2.0 hours ago" in summary


@pytest.mark.parametrize(
    ("stanzas", "archiver", "told"),
    [
        ([], ARCHIVED, "no stanza"),
        ([{"status": {"code": 2, "message": "no valid backups"}, "backup": []}], ARCHIVED, "no valid backups"),
        (
            unreadable(NO_BUCKET),
            ARCHIVED,
            "[ProtocolError] HTTP request failed with 404 (Not Found): <Error><Code>NoSuchBucket</Code>",
        ),
        (unreadable("[CryptoError] unable to verify"), ARCHIVED, "[CryptoError] unable to verify"),
        (stanza(error=True), ARCHIVED, "has errors"),
        (stanza(timestamp={"stop": NOW - 30 * 3600}), ARCHIVED, "30 hours old"),
        (stanza(archive={"stop": "000000000000000000000099"}), ARCHIVED, "the primary has changed since"),
        (stanza(), {"failed": True, "wal": "0A", "archived": None}, "WAL 0A could not be archived"),
    ],
)
def test_a_backup_that_is_no_help(stanzas, archiver, told):
    assert told in backup_state(stanzas, archiver, 26, NOW)[0]


def test_the_backups_of_the_version_before_are_no_backup_of_this_one():
    (found,) = stanza(archive={"stop": "000000090000000000000099"})
    found["db"].append({"id": 2, "version": "17"})
    assert backup_state([found], ARCHIVED, 26, NOW)[0] == "there is no backup since PostgreSQL became 17"
    newer = {**found["backup"][0], "database": {"id": 2}, "archive": {"stop": "000000010000000000000099"}}
    found["backup"].append(newer)
    # Its timelines begin with 1 again.
    assert backup_state([found], ARCHIVED, 26, NOW)[0] == ""


class Pods:
    """A cluster with these pods of PostgreSQL, all ready."""

    def __init__(self, *names):
        self.names = names

    def list(self, *_):
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        return [{"metadata": {"name": name}, "status": ready} for name in self.names]


@pytest.mark.parametrize("full", ["", "postgresql-1", "postgresql-repository-0"])
@pytest.mark.parametrize("free", [1000, 21 << 30])
def test_a_volume_that_is_nearly_full(monkeypatch, full, free):
    def run_in_pod(cluster, namespace, pod, command, *, container):
        assert (container == "repository") == (pod == "postgresql-repository-0")
        return Ran(0, f"Use% Avail\n {90 if pod == full else 89}% {free}\n", "")

    monkeypatch.setattr(verify_postgresql, "run_in_pod", run_in_pod)
    options = {"namespace": "n", "servers": "postgresql", "repository": "postgresql-repository", "server_count": 2}
    # Much of a large disk is free, whatever its percentage.
    if not full or free > 1000:
        assert "postgresql-0 89 % full" in postgresql_volumes(Pods("postgresql-0", "postgresql-1"), options).detail
        return
    with pytest.raises(PlatformError, match=f"that of {full} is 90 % full"):
        postgresql_volumes(Pods("postgresql-0", "postgresql-1"), options)
