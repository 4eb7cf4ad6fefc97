"""What runc-bounded takes out of a container's configuration, and that it adds nothing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).resolve().parents[4] / "roles" / "cluster" / "files" / "runc-bounded"


def _load() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("runc_bounded", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


runc = _load()
CAPABILITIES = st.sets(st.sampled_from(["CAP_" + name for name in runc.NAMES]))


@given(wanted=CAPABILITIES, allowed=CAPABILITIES, score=st.integers(-1000, 1000))
def test_what_is_left_is_what_was_asked_for_and_allowed(wanted: set[str], allowed: set[str], score: int) -> None:
    process = {"capabilities": {"bounding": sorted(wanted), "ambient": None}, "oomScoreAdj": score, "args": ["sh"]}
    runc.restrict(process, allowed)
    assert set(process["capabilities"]["bounding"]) == wanted & allowed
    assert process["capabilities"]["ambient"] == []
    assert process["oomScoreAdj"] == (score if score >= 0 or "CAP_SYS_RESOURCE" in allowed else 0)
    assert process["args"] == ["sh"]


def test_there_are_as_many_names_as_the_kernel_has_capabilities() -> None:
    assert (len(runc.NAMES), runc.NAMES[24]) == (41, "SYS_RESOURCE")


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["--root", "/r", "create", "--bundle", "{}", "id"], True),
        (["run", "--bundle={}", "id"], True),
        (["state", "id"], False),
    ],
)
def test_only_what_starts_a_process_is_rewritten(
    arguments: list[str], changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"]}}}))
    monkeypatch.setattr(runc, "bounding_set", lambda: {"CAP_CHOWN"})
    called: list[list[str]] = []
    monkeypatch.setattr(runc.os, "execvp", lambda program, argv: called.append(argv))
    argv = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    monkeypatch.setattr(runc.sys, "argv", ["runc-bounded", *argv])
    runc.main()
    assert called == [["runc", *argv]]
    left = json.loads(config.read_text())["process"]["capabilities"]["bounding"]
    assert left == (["CAP_CHOWN"] if changed else ["CAP_CHOWN", "CAP_SYS_RESOURCE"])
