# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``drill``: bring failures about, one after the other, under load, and measure."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill import measure as measuring
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.failure import KINDS
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.load import EdgeLoad, Load, StoreLoad
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.rollout import Rollout
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.redis import (
    REDIS_SPEC,
    redis_roles,
)

_WORKLOAD: Object = {
    "type": "list",
    "elements": "dict",
    "options": {
        "kind": {"type": "str", "choices": ["Deployment", "StatefulSet", "DaemonSet"], "default": "Deployment"},
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
    },
}

ARGUMENT_SPEC: Object = {
    **auth_argument_spec(),
    "drills": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "tags": {"type": "list", "elements": "str", "default": []},
            "load": {"type": "str", "required": True},
            "failure": {
                "type": "dict",
                "required": True,
                "options": {
                    "kind": {"type": "str", "required": True, "choices": sorted(KINDS)},
                    "target": {"type": "str"},
                    "zone": {"type": "bool", "default": False},
                    "command": {"type": "list", "elements": "str"},
                    "container": {"type": "str"},
                    "workloads": _WORKLOAD,
                },
                "required_if": [
                    ["kind", "restart", ["workloads"]],
                    ["kind", "run_here", ["command"]],
                    ["kind", "run_in_pod", ["command"]],
                    *(["kind", kind, ["target"]] for kind in sorted(KINDS) if kind not in ("restart", "run_here")),
                ],
            },
            "must_hold": {
                "type": "dict",
                "required": True,
                "options": {
                    "resumes_within_seconds": {"type": "float"},
                    "recovers_within_seconds": {"type": "float"},
                    "lost_at_most": {"type": "int"},
                    "failed_at_most": {"type": "str"},
                    "unclear_at_most": {"type": "int"},
                    "second_runs_at_most": {"type": "int"},
                },
            },
        },
    },
    "loads": {"type": "dict", "required": True},
    "targets": {"type": "dict", "required": True},
    "workloads": {**_WORKLOAD, "required": True},
    "redis": REDIS_SPEC,
    "edge": {
        "type": "dict",
        "required": True,
        "options": {"url": {"type": "str", "required": True}, "ca_file": {"type": "path"}},
    },
    "made": {"type": "list", "elements": "dict", "default": []},
    "generator": {"type": "path", "required": True},
    "generator_image": {"type": "str"},
    "steady_seconds": {"type": "int", "default": 5},
    "failure_at_most_seconds": {"type": "int", "default": 120},
    "settle_at_most_seconds": {"type": "int", "default": 300},
    "output": {"type": "path", "required": True},
}

LOAD_SPEC: dict[str, Object] = {
    "edge": {"scripts": None, "shares": {}, "rate": 50, "users": 100, "timeout_seconds": 10},
    "store": {
        "namespace": None,
        "url": None,
        "app": None,
        "port": None,
        "credentials": "",
        "authority": "",
        "rate": 200,
        "timeout_seconds": 3,
    },
}
"""The keys of a load of each kind, with their defaults; None is for those that must be given."""

TARGET_SPEC: Object = {"namespace": None, "selector": None, "command": [], "prints": "", "container": ""}

_TICK_SECONDS = 1.0
_STEADY_AT_MOST_SECONDS = 90.0


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Make all drills; in check mode only say which. The result has ``failed`` where a bound was missed."""
    params = {
        **params,
        "loads": {name: load_of(name, given) for name, given in params["loads"].items()},
        "targets": {name: filled(f"targets.{name}", given, TARGET_SPEC) for name, given in params["targets"].items()},
    }
    check_names(params)
    if check_mode:
        names = [drill["name"] for drill in params["drills"]]
        return {"changed": bool(names), "msg": f"would make the drills: {'; '.join(names) or 'none'}", "drills": []}
    return Drills((connect or Cluster)(params), params, progress).run()


# --- arguments -------------------------------------------------------------------------------------------------------


def load_of(name: str, given: Any) -> Object:
    """A load with its defaults: one with scripts calls the edge, any other writes to a store."""
    kind = "edge" if isinstance(given, dict) and "scripts" in given else "store"
    return {"kind": kind, **filled(f"loads.{name}", given, LOAD_SPEC[kind])}


def filled(where: str, given: Any, spec: Object) -> Object:
    """The dictionary with its defaults. An unknown or missing key is an error."""
    keys = given.keys() if isinstance(given, dict) else {type(given).__name__}
    wrong = sorted(keys - spec.keys()) or sorted(key for key in spec.keys() - keys if spec[key] is None)
    if wrong:
        raise PlatformError(
            f"{where} is wrong",
            where=", ".join(wrong),
            found="the keys " + ", ".join(sorted(keys)),
            expected="the keys " + ", ".join(key if value is None else f"[{key}]" for key, value in spec.items()),
            fix="correct the table of drills",
            reason="argument",
        )
    return {**spec, **given}


def check_names(params: Object) -> None:
    """Every load and target that a drill names is there, and its bounds can be compared."""
    for drill in params["drills"]:
        limit = drill["must_hold"].get("failed_at_most")
        if limit is not None and limit != measuring.IN_FLIGHT and not limit.isdigit():
            raise PlatformError(
                "a bound of a drill is wrong",
                where=f"the drill {drill['name']}, failed_at_most",
                found=limit,
                expected=f"a number, or {measuring.IN_FLIGHT}",
                fix="correct the table of drills",
                reason="argument",
            )
        wanted = {"loads": drill["load"], "targets": drill["failure"].get("target")}
        for table, name in wanted.items():
            if name and name not in params[table]:
                raise PlatformError(
                    f"a drill names what is not among {table}",
                    where=f"the drill {drill['name']}",
                    found=name,
                    expected=", ".join(sorted(params[table])),
                    fix="correct the table of drills",
                    reason="argument",
                )


# --- the drills ------------------------------------------------------------------------------------------------------


class Drills:
    """All drills of one call, one after the other."""

    def __init__(self, cluster: Cluster, params: Object, progress: Callable[[str], None] | None) -> None:
        self.cluster = cluster
        self.params = params
        self.progress = progress or (lambda line: None)
        self.made: list[Object] = list(params["made"])
        self.rows: list[Object] = list(self.made)

    def run(self) -> Object:
        """The task's result. An error of a drill ends only that drill, unless the platform is not healthy after it."""
        drills = self.params["drills"]
        self.settle("before the first drill")
        for number, drill in enumerate(drills, 1):
            self.progress(f"drill {number} of {len(drills)}: {drill['name']}")
            row: Object = {
                "drill": drill["name"],
                "load": f"{drill['load']} {self.params['loads'][drill['load']]['rate']}/s",
                "bounds": measuring.bounds_text(drill["must_hold"]),
                "must_hold": {name: value for name, value in drill["must_hold"].items() if value is not None},
            }
            self.rows.append(row)
            try:
                row.update(self.one(drill))
            except PlatformError as error:
                row.update(verdict=measuring.BROKEN, missed=[str(error)])
                if not self._healthy_again(drill, row):
                    break
            finally:
                self.write()
            self.progress(f"drill {number} of {len(drills)}: {drill['name']}: {said(row)}")
        return self.result()

    def _healthy_again(self, drill: Object, row: Object) -> bool:
        """Whether the platform came back after a drill that ended with an error; the row says so where it did not."""
        try:
            self.settle(f"after {drill['name']}")
        except PlatformError as error:
            if str(error) not in row["missed"]:
                row["missed"].append(str(error))
            return False
        return True

    def one(self, drill: Object) -> Object:
        """One drill's row: start the load, break, measure, mend."""
        spec = {**drill["failure"], "image": self.params["generator_image"]}
        failure = KINDS[spec["kind"]](self.cluster, spec, self.params["targets"], self.progress)
        load = self.load(self.params["loads"][drill["load"]])
        with contextlib.ExitStack() as mend:
            mend.callback(load.remove)
            mend.callback(failure.heal)
            failure.aim()
            load.start(failure.nodes)
            self.watch(load, _STEADY_AT_MOST_SECONDS, required=True)
            began = time.time()
            failure.strike()
            ended = time.time()
            self.progress(f"{drill['failure']['kind']}: {', '.join(failure.victims)}")
            recovered = self.watch(load, self.params["failure_at_most_seconds"], required=False)
            healed = time.time()
            failure.heal()
            self.settle(f"after {drill['name']}")
            self.watch(load, _STEADY_AT_MOST_SECONDS, required=False)
            stopped = time.time()
            requests = load.stop()
            stored = load.stored(len(requests))
        measured = measuring.measure(requests, (began, ended), healed, stopped, stored)
        missed = measuring.missed(measured, drill["must_hold"])
        if not recovered:
            missed.append(f"the load was not served again within {self.params['failure_at_most_seconds']} s")
        return {
            **vars(measured),
            "victims": failure.victims,
            "failure_seconds": round(ended - began, 2),
            "missed": missed,
            "verdict": measuring.MISSED if missed else measuring.HELD,
        }

    def load(self, spec: Object) -> Load:
        """The load of a drill, not started yet."""
        if spec["kind"] == "edge":
            return EdgeLoad(spec, self.params["generator"], self.params["edge"])
        return StoreLoad(spec, self.cluster, self.params["generator_image"] or "")

    def watch(self, load: Load, at_most_seconds: float, required: bool) -> bool:
        """Wait until the load is served without a failure for a while; whether it came to that."""
        began = said_at = time.time()
        wanted = self.params["steady_seconds"]
        while True:
            ticks = load.ticks()
            # What happened before this call does not make a load steady.
            if measuring.steady_for([tick for tick in ticks if tick.at >= began], load.rate) >= wanted - 0.5:
                return True
            now = time.time()
            last = ticks[-1] if ticks else measuring.Tick(0.0, 0, 0)
            if now - began > at_most_seconds:
                if not required:
                    return False
                raise PlatformError(
                    "the load is not served steadily, so that a failure would show nothing",
                    where=f"{load.rate} requests a second",
                    found=f"{last.acknowledged} acknowledged, {last.failed} failed in {now - began:.0f} s; "
                    f"last error: {last.last_error or 'none'}",
                    expected=f"{wanted} s in which nothing fails and nine tenths of the rate are acknowledged",
                    fix="see the error; a busy machine may be too slow for this rate",
                    reason="unsteady",
                )
            if now - said_at >= 5:
                said_at = now
                self.progress(
                    f"load: {last.acknowledged} acknowledged, {last.failed} failed"
                    + (f" ({last.last_error[:120]})" if last.last_error else "")
                )
            time.sleep(_TICK_SECONDS)

    def settle(self, when: str) -> None:
        """Wait until all workloads are as they should be, Redis's roles among them."""
        wait = {"timeout_seconds": self.params["settle_at_most_seconds"], "max_restarts": 10, "log_lines": 20}
        deadline = time.monotonic() + wait["timeout_seconds"]
        try:
            Rollout(self.cluster, {"workloads": self.params["workloads"], **wait}, self.progress).run()
            wrong = wait_until(
                self._redis_problem, deadline - time.monotonic(), _TICK_SECONDS, done=lambda found: found is None
            )
            if wrong:
                raise wrong
        except PlatformError as error:
            raise PlatformError(
                f"the platform is not healthy {when}",
                found=str(error),
                expected="all workloads rolled out",
                fix=error.fix or "mend it, and run the drill again",
                reason="unhealthy",
            ) from error

    def _redis_problem(self) -> PlatformError | None:
        try:
            if self.params.get("redis"):
                redis_roles(self.cluster, self.params["redis"])
        except PlatformError as error:
            return error
        return None

    # --- what is left of it ------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Keep the rows, also those of a run that is cut off later."""
        path = self.params["output"]
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump({"made_at": int(time.time()), "drills": self.rows}, file, indent=2)
            file.write("\n")
        os.replace(path + ".new", path)

    def result(self) -> Object:
        """Show the table; the task's result."""
        lines = measuring.table(self.rows)
        for line in lines:
            self.progress(line)
        wrong = [row for row in self.rows if row.get("verdict") != measuring.HELD]
        if not wrong and len(self.rows) == len(self.made) + len(self.params["drills"]):
            return {"changed": True, "msg": f"{len(self.rows)} drills held", "drills": self.rows, "table": lines}
        told = "\n".join(f"- {row['drill']}: {said(row)}" for row in wrong)
        return {
            "failed": True,
            "changed": True,
            "msg": f"{len(wrong)} of {len(self.made) + len(self.params['drills'])} drills did not hold:\n{told}\n",
            "failed_drills": [row["drill"] for row in wrong],
        }


def said(row: Object) -> str:
    """A row's outcome in words."""
    text = str(row.get("verdict", measuring.BROKEN))
    if row.get("sent") is not None:
        text += f", {row['failed']} of {row['sent']} failed, resumed in {row['longest_gap_seconds']:.1f} s"
    if row.get("lost") is not None:
        text += f", {row['lost']} lost"
    if row.get("missed"):
        text += ": " + "; ".join(row["missed"])
    errors = row.get("errors") if row.get("missed") else None
    return text + (f" (errors: {'; '.join(errors)})" if errors else "")
