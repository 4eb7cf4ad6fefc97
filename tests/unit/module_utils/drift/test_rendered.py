"""What the modules would do, as differences."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.difference import (
    Difference,
    ordered,
    table,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.rendered import (
    _of_release,
    rewritten,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret.secret import FIELD_MANAGER
from hypothesis import given
from hypothesis import strategies as st

UNCHANGED: dict[str, Any] = {"action": "unchanged", "missing": [], "drifted": {}, "why": []}


def told(**outcome: Any) -> list[tuple[str, str, list[str]]]:
    return [(one.kind, one.object, one.fields) for one in _of_release("c", "release n/r", {**UNCHANGED, **outcome})]


def test_what_a_release_would_do() -> None:
    assert told() == []
    assert told(action="installed", why=["it is not installed"]) == [("missing", "release n/r", [])]
    assert told(action="uninstalled", why=["revision 3 is deployed"]) == [("extra", "release n/r", [])]
    drifted = {"Deployment n/d": ["spec.replicas"]}
    repaired = ["Service n/s is missing", "Deployment n/d was changed: spec.replicas"]
    assert told(action="repaired", missing=["Service n/s"], drifted=drifted, why=repaired) == [
        ("missing", "Service n/s", []),
        ("changed", "Deployment n/d", ["spec.replicas"]),
    ]
    why = ["values: replicas", "Deployment n/d: spec.replicas, spec.paused", "Service n/s is new",
           "Secret n/t is gone from the chart"]  # fmt: skip
    assert told(action="upgraded", why=why) == [
        ("changed", "Deployment n/d", ["spec.replicas", "spec.paused"]),
        ("missing", "Service n/s", []),
        ("extra", "Secret n/t", []),
        ("changed", "release n/r", []),
    ]


def test_a_release_that_cannot_be_compared_is_told() -> None:
    (one,) = _of_release("c", "release n/r", PlatformError("no chart", found="nothing"))
    assert (one.kind, one.note) == ("refused", "no chart: nothing")


def entry(manager: str, time: str, *keys: str, **more: Any) -> dict[str, Any]:
    fields = {"f:data": {".": {}, **{f"f:{key}": {} for key in keys}}} if keys else {"f:metadata": {}}
    return {"manager": manager, "time": time, "fieldsV1": fields, **more}


def live(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


def test_a_value_that_somebody_wrote_later_is_told_with_its_writer() -> None:
    ours = entry(FIELD_MANAGER, "2026-11-30T10:00:00Z", "user")
    later = entry("kubectl-edit", "2026-11-30T11:00:00Z", "password", "of-theirs")
    assert rewritten(live(ours, later), ["password", "user"]) == {"password": ("kubectl-edit", later["time"])}
    # Given before, and so taken as it is.
    before = entry("kubectl-create", "2026-11-30T09:00:00Z", "password")
    assert rewritten(live(ours, before), ["password"]) == {}
    # Nothing of ours: somebody restored it, and the next run makes it ours.
    assert rewritten(live(later), ["password"]) == {} == rewritten({}, ["password"])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["0", "1", "2"]), st.sampled_from("xyz"))))
def test_only_what_was_asked_for_and_only_later_writers(writes: list[tuple[str, str, str]]) -> None:
    found = rewritten(live(entry(FIELD_MANAGER, "1", "x"), *(entry(*write) for write in writes)), ["x", "y"])
    assert set(found) <= {"y"}
    assert all(time == "2" for _manager, time in found.values())
    assert ("y" in found) == any(key == "y" and time == "2" for _manager, time, key in writes)


def test_the_table_has_one_row_for_each_and_is_aligned() -> None:
    many = [f"spec.f{number}" for number in range(9)]
    rows = [
        Difference("b", "changed", "Deployment n/d", many),
        Difference("", "foreign", "Pod n/p"),
        Difference("a", "missing", "Service n/s"),
        Difference("b", "changed", "Deployment n/d", ["again"]),
    ]
    found = ordered(rows)
    assert [one.kind for one in found] == ["missing", "changed", "foreign"]
    lines = table(found)
    assert len({line.index("n/") - len(line.split("n/")[0].split()[-1]) for line in lines[2:]}) == 1
    assert "and 5 more" in lines[3] and table([]) == []
