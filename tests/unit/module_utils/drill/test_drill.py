"""The course of a drill: what is started, broken and mended, in which order, and when it goes wrong half-way."""

from __future__ import annotations

import json
import os
import signal

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill import drill as drilling
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.drill import (
    Drills,
    check_names,
    load_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.failure import Failure
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.load import Load
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.measure import Request, Tick
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.interruption import (
    Interrupted,
    interruptible,
)

BOUNDS = {
    "resumes_within_seconds": 5.0,
    "recovers_within_seconds": None,
    "lost_at_most": 0,
    "failed_at_most": None,
    "unclear_at_most": None,
    "second_runs_at_most": None,
}


class Stage:
    """Where a drill is played: simulated time, a load that is served except while something is broken, and a record of
    what was done.
    """

    def __init__(self, monkeypatch, outage=2.0, keeps=True, fails_at=""):
        self.now = 1000.0
        self.outage = outage
        self.keeps = keeps
        self.fails_at = fails_at
        self.done = []
        self.broken_at = None
        self.began = None
        self.lines = []
        monkeypatch.setattr(drilling.time, "time", lambda: self.now)
        monkeypatch.setattr(drilling.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(drilling.time, "sleep", self.sleep)
        monkeypatch.setitem(drilling.KINDS, "kill_pod", lambda *arguments: StagedFailure(self, *arguments))
        monkeypatch.setattr(drilling, "StoreLoad", lambda spec, cluster, image: StagedLoad(self, spec))
        monkeypatch.setattr(drilling, "Rollout", lambda *arguments: StagedRollout(self))

    def sleep(self, seconds):
        self.now += seconds

    def step(self, name):
        self.done.append(name)
        if name == self.fails_at:
            raise PlatformError(f"{name} went wrong")

    def served(self, at):
        return self.broken_at is None or not self.broken_at <= at < self.broken_at + self.outage

    def moments(self):
        """One request a second is enough here."""
        return [self.began + second for second in range(int(self.now - self.began))]


class StagedFailure(Failure):
    def __init__(self, stage, *arguments):
        super().__init__(*arguments)
        self.stage = stage

    def aim(self):
        self.nodes = ["node-a"]
        self.stage.step("aim")

    def strike(self):
        self.victims = ["redis-0 on node-a"]
        self.stage.broken_at = self.stage.now
        self.stage.step("strike")

    def heal(self):
        self.stage.step("heal")


class StagedLoad(Load):
    def __init__(self, stage, spec):
        super().__init__(spec)
        self.stage = stage

    def start(self, avoid_nodes):
        assert avoid_nodes == ["node-a"]
        self.stage.began = self.stage.now
        self.stage.step("start")

    def ticks(self):
        found, good, bad = [], 0, 0
        for at in self.stage.moments():
            good, bad = (good + 1, bad) if self.stage.served(at) else (good, bad + 1)
            found.append(Tick(at, good, bad))
        return found

    def stop(self):
        self.stage.step("stop")
        return [
            Request(number, at, at, "" if self.stage.served(at) else "refused")
            for number, at in enumerate(self.stage.moments())
        ]

    def stored(self, count):
        return set(range(count if self.stage.keeps else count - 1))

    def remove(self):
        self.stage.step("remove")


class StagedRollout:
    def __init__(self, stage):
        self.stage = stage

    def run(self):
        self.stage.step("settle")


def play(stage, tmp_path, drills=1, made=(), **changed):
    failure = {"kind": "kill_pod", "target": "redis", "workloads": None}
    params = {
        "drills": [
            {"name": f"drill {number}", "load": "redis", "failure": failure, "must_hold": {**BOUNDS, **changed}}
            for number in range(drills)
        ],
        "loads": {"redis": {"kind": "store", "rate": 1}},
        "targets": {"redis": {}},
        "workloads": [],
        "redis": None,
        "made": list(made),
        "generator": "/nowhere",
        "generator_image": "load",
        "steady_seconds": 5,
        "failure_at_most_seconds": 60,
        "settle_at_most_seconds": 60,
        "output": str(tmp_path / "drill.json"),
    }
    return Drills(None, params, stage.lines.append).run()


def rows(tmp_path):
    return json.loads((tmp_path / "drill.json").read_text())["drills"]


def test_a_drill_that_holds(monkeypatch, tmp_path):
    stage = Stage(monkeypatch)
    result = play(stage, tmp_path)
    assert not result.get("failed")
    assert stage.done == ["settle", "aim", "start", "strike", "heal", "settle", "stop", "heal", "remove"]
    (row,) = result["drills"]
    assert (row["verdict"], row["failed"], row["lost"], row["victims"]) == ("held", 2, 0, ["redis-0 on node-a"])
    assert rows(tmp_path) == [row]
    assert stage.lines[-1].startswith("drill 0")


def test_a_bound_that_is_missed_fails_at_the_end_of_all(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, outage=9.0)
    result = play(stage, tmp_path, drills=2)
    assert result["failed"]
    assert [row["verdict"] for row in rows(tmp_path)] == ["MISSED", "MISSED"]
    assert result["failed_drills"] == ["drill 0", "drill 1"]
    assert "nothing was acknowledged for" in result["msg"]


@pytest.mark.parametrize("verdict", ["held", "MISSED"])
def test_what_a_playbook_has_made_counts_with_the_others(monkeypatch, tmp_path, verdict):
    made = {"drill": "restored", "load": "9 rows", "bounds": "the same", "longest_gap_seconds": 4.2, "verdict": verdict}
    stage = Stage(monkeypatch)
    result = play(stage, tmp_path, made=[{**made, "missed": [] if verdict == "held" else ["other rows"]}])
    assert [row["drill"] for row in rows(tmp_path)] == ["restored", "drill 0"]
    assert result.get("failed", False) == (verdict != "held")
    assert ("1 of 2 drills did not hold:\n- restored: MISSED: other rows" in result["msg"]) == (verdict != "held")
    assert any(line.startswith("restored ") and "4.2 s" in line for line in stage.lines)


def test_a_lost_write_is_told(monkeypatch, tmp_path):
    result = play(Stage(monkeypatch, keeps=False), tmp_path)
    assert "1 acknowledged writes are lost, at most 0 may be" in result["msg"]


def test_what_never_recovers_is_mended_and_told(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, outage=1e6)
    result = play(stage, tmp_path)
    assert "was not served again within 60 s" in result["msg"]
    assert stage.done.index("heal") < stage.done.index("stop")


@pytest.mark.parametrize(
    ("fails_at", "undone"),
    [
        ("aim", ["heal", "remove"]),
        ("start", ["heal", "remove"]),
        ("strike", ["heal", "remove"]),
        ("stop", ["heal", "heal", "remove"]),
    ],
)
def test_an_error_leaves_nothing_broken(monkeypatch, tmp_path, fails_at, undone):
    stage = Stage(monkeypatch, fails_at=fails_at)
    result = play(stage, tmp_path, drills=2)
    assert result["failed_drills"] == ["drill 0", "drill 1"]
    assert [row["verdict"] for row in rows(tmp_path)] == ["ERROR", "ERROR"]
    first = stage.done[1 : stage.done.index("aim", 2)]
    assert [step for step in first if step in ("heal", "remove")] == undone
    assert first[-1] == "settle"


def test_a_platform_that_does_not_come_back_ends_the_drills(monkeypatch, tmp_path):
    stage = Stage(monkeypatch)

    def settle():
        stage.step("settle")
        if stage.broken_at:
            raise PlatformError("redis-0 is away")

    monkeypatch.setattr(StagedRollout, "run", lambda self: settle())
    result = play(stage, tmp_path, drills=3)
    assert len(rows(tmp_path)) == 1
    assert result["failed"]
    assert "redis-0 is away" in result["msg"]


def test_a_platform_that_is_not_healthy_is_not_broken_further(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, fails_at="settle")
    with pytest.raises(PlatformError, match="not healthy before the first drill"):
        play(stage, tmp_path)
    assert stage.done == ["settle"]


def test_an_unsteady_load_is_an_error_and_nothing_is_broken(monkeypatch, tmp_path):
    stage = Stage(monkeypatch, outage=1e6)
    stage.broken_at = 0.0
    result = play(stage, tmp_path)
    assert "not served steadily" in result["msg"]
    assert "strike" not in stage.done


# --- being interrupted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_mends_before_it_ends(monkeypatch, tmp_path, number):
    stage = Stage(monkeypatch)
    before = signal.getsignal(number)
    strike = StagedFailure.strike

    def interrupted_strike(self):
        strike(self)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(StagedFailure, "strike", interrupted_strike)
    with pytest.raises(Interrupted), interruptible():
        play(stage, tmp_path)
    assert stage.done[-2:] == ["heal", "remove"]
    assert signal.getsignal(number) is before


# --- arguments -------------------------------------------------------------------------------------------------------


def test_a_load_gets_its_defaults():
    assert load_of("edge", {"scripts": {"python": "result = 1"}})["rate"] == 50
    store = {"namespace": "data", "url": "redis://redis:6379", "app": "redis", "port": 6379, "credentials": "drill"}
    assert load_of("redis", store)["rate"] == 200


@pytest.mark.parametrize("given", [{"url": "redis://redis"}, {"scripts": {}, "speed": 5}, "fast", None])
def test_a_load_with_other_keys_is_refused(given):
    with pytest.raises(PlatformError, match=r"loads\.wrong is wrong"):
        load_of("wrong", given)


@pytest.mark.parametrize(
    ("load", "target", "limit", "said"),
    [
        ("other", "pod", None, "among loads"),
        ("edge", "other", None, "among targets"),
        ("edge", "pod", "some", "a number, or in_flight"),
    ],
)
def test_names_and_bounds_are_checked_first(load, target, limit, said):
    drill = {"name": "d", "load": load, "failure": {"target": target}, "must_hold": {"failed_at_most": limit}}
    with pytest.raises(PlatformError, match=said):
        check_names({"drills": [drill], "loads": {"edge": {}}, "targets": {"pod": {}}})
