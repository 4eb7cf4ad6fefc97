"""Which processes a kill ends, tried on processes of this machine, and what the pod that does it may."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill import kill
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.kill import (
    Killer,
    container_ids,
    killing_pod,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran


def status(name, identity, state="running"):
    return {"name": name, "containerID": f"containerd://{identity}", "state": {state: {}}}


POD = {
    "metadata": {"name": "redis-0", "namespace": "data"},
    "status": {
        "containerStatuses": [status("redis", "aa11"), status("old", "bb22", "terminated"), status("side", "cc33")]
    },
}


def test_only_containers_that_run_are_killed_and_where_one_is_named_only_that():
    assert container_ids(POD) == ["aa11", "cc33"]
    assert container_ids(POD, "side") == ["cc33"]
    assert container_ids({"metadata": {}}) == []


def test_the_pod_that_kills_may_do_nothing_else():
    spec = killing_pod("load:1", "worker-a")["spec"]
    assert (spec["nodeName"], spec["hostPID"], spec["automountServiceAccountToken"]) == ("worker-a", True, False)
    assert spec["activeDeadlineSeconds"] > 0, "a run that is killed leaves nothing for ever"
    (container,) = spec["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["KILL"]}
    assert "privileged" not in container["securityContext"]
    assert not {"hostNetwork", "volumes"} & spec.keys()


class World:
    """A cluster that runs what it is given at once."""

    def __init__(self):
        self.pods, self.applied = {}, []

    def get(self, ref):
        return self.pods.get(ref["name"])

    def delete(self, ref):
        self.pods.pop(ref["name"], None)

    def apply_many(self, objects, field_manager):
        for obj in objects:
            self.applied.append(obj["spec"]["nodeName"])
            ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            self.pods[obj["metadata"]["name"]] = {**obj, "status": ready}


def test_it_moves_with_its_victim_and_goes_in_the_end():
    world = World()
    killer = Killer(world, "load:1", "test")
    killer.remove()
    for node in ("worker-a", "worker-a", "worker-b"):
        killer.start(node)
    assert world.applied == ["worker-a", "worker-b"]
    killer.remove()
    assert world.pods == {}


def test_without_an_image_it_says_so():
    with pytest.raises(PlatformError, match="run playbooks/drill.yml"):
        Killer(World(), "", "test").start("worker-a")


def test_what_was_not_killed_is_told(monkeypatch):
    asked = []

    def ran(cluster, namespace, name, command):
        asked.append(command)
        return Ran(0, "\n", "")

    monkeypatch.setattr(kill, "run_in_pod", ran)
    with pytest.raises(PlatformError, match="no process in its containers"):
        Killer(World(), "load:1", "test").kill(POD)
    assert asked[0][-4:] == ["-e", "aa11", "-e", "cc33"]
    with pytest.raises(PlatformError, match="no container that runs"):
        Killer(World(), "load:1", "test").kill({**POD, "status": {}})


def test_processes_are_found_by_their_cgroup_and_end_at_once(tmp_path):
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    try:
        for number, sleeper in enumerate(sleepers):
            folder = tmp_path / str(sleeper.pid)
            folder.mkdir()
            (folder / "cgroup").write_text(
                f"0::/../kubepods-pod1.slice/cri-containerd-{'aa11' if number else 'dd44'}.scope\n"
            )
        # The folder stands for /proc, and is as deep.
        script = kill._KILL.replace("/proc/", f"{tmp_path}/").replace("-f 3", f"-f {str(tmp_path).count('/') + 2}")
        done = subprocess.run(["sh", "-c", script, "sh", "-e", "aa11"], capture_output=True, text=True, check=True)
        assert sorted(map(int, done.stdout.split())) == sorted(sleeper.pid for sleeper in sleepers[1:])
        assert [sleeper.wait(5) for sleeper in sleepers[1:]] == [-9, -9]
        assert sleepers[0].poll() is None
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
