"""The house has rooms, and one goes through them one way: subject -> helm -> kubernetes -> errors."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
PREFIX = "ansible_collections.lambda_microservice.platform.plugins."

# A room may use those of the rows above it, and none of its own row.
ROWS = [
    {"errors", "interruption"},
    {"concurrency", "programs"},
    {"kubernetes"},
    {"helm", "rollout", "policy", "secret", "image", "elasticsearch", "prometheus", "settled"},
    {"chart", "logs", "dashboards", "attest"},
    {"capacity", "installed"},
    {"verify"},
    {"drift", "drill", "preflight", "bundle"},
    {"rollback", "teardown", "unbundle"},
    {"report", "rehearse"},
]
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}
FILES = sorted(path for path in FOLDER.rglob("*.py") if path.name != "__init__.py" and path.stem != "module")


def imported(path: Path) -> set[Path]:
    """The files of ours that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
            base = FOLDER.parent.joinpath(*(node.module or "").removeprefix(PREFIX).split("."))
            found |= {base / f"{alias.name}.py" if base.is_dir() else base.with_suffix(".py") for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(FOLDER).parts[0].removesuffix(".py")


def test_every_room_has_a_row():
    assert {room_of(path) for path in FILES} <= set(ROW_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_uses_only_rooms_above_its_own(path: Path):
    for other in imported(path):
        assert other.is_relative_to(FOLDER), f"{path} imports {other}, which is not in module_utils"
        if room_of(other) != room_of(path):
            assert ROW_OF[room_of(other)] < ROW_OF[room_of(path)], f"{path} imports {other}"


def test_no_circle_within_a_room():
    graph = {path: {other for other in imported(path) if other.is_relative_to(FOLDER)} for path in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle
