"""Which segments the archive gets: scripts/left-behind, as PostgreSQL runs it in its data folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = ROOT / "roles/data_services/files/charts/postgresql/files/scripts/left-behind"
SEGMENT_BYTES = 16 << 20
# Timeline 10 was left in the middle of segment 2B, timeline 11 where segment 2C had been filled.
HISTORY = """1\t0/C211AA0\tbefore 2026-11-28 14:17:57.198033+00


10\t0/2B0000A0\tno recovery target specified

11\t0/2D000000\tno recovery target specified
"""


def is_left_behind(folder: Path, name: str) -> bool:
    done = subprocess.run(["sh", SCRIPT, name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode in (0, 1)
    return done.returncode == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "pg_wal").mkdir()
    # An earlier one, which does not know of the end of timeline 11.
    (tmp_path / "pg_wal/0000000B.history").write_text(HISTORY.split("11\t", maxsplit=1)[0])
    (tmp_path / "pg_wal/0000000C.history").write_text(HISTORY)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "left_behind"),
    [
        ("0000000A000000000000002A", False),
        ("0000000A000000000000002B", True),
        ("0000000A000000000000002C", True),
        ("0000000A0000000100000000", True),
        ("0000000B000000000000002C", False),
        ("0000000B000000000000002D", True),
        ("00000001000000000000000B", False),
        ("00000001000000000000000C", True),
        # The present timeline, and one of which the history says nothing.
        ("0000000C000000000000002D", False),
        ("00000002000000000000002D", False),
        # What is no segment.
        ("0000000A000000000000002B.partial", False),
        ("0000000A000000000000002B.00000028.backup", False),
        ("0000000B.history", False),
    ],
)
def test_a_segment_in_which_its_timeline_was_left(data: Path, name: str, left_behind: bool) -> None:
    assert is_left_behind(data, name) is left_behind


def test_what_waits_beside_it_and_was_left_behind_is_noted_as_archived(data: Path) -> None:
    """pgBackRest's own processes take each *.ready without asking."""
    status = data / "pg_wal/archive_status"
    status.mkdir()
    kept = {
        "0000000A000000000000002A",
        "0000000C000000000000002D",
        "0000000C.history",
        "0000000A000000000000002B.partial",
        "0000000B000000000000002D",
    }
    for name in {*kept, "0000000A000000000000002B", "0000000A000000000000002C"}:
        (status / f"{name}.ready").touch()
    command = ["sh", SCRIPT, "0000000B000000000000002D", "others"]
    assert subprocess.run(command, cwd=data, check=False).returncode == 0
    # What PostgreSQL itself asks about it notes itself.
    assert {path.stem for path in status.glob("*.ready")} == kept
    assert {path.stem for path in status.glob("*.done")} == {"0000000A000000000000002B", "0000000A000000000000002C"}


def test_a_cluster_on_its_first_timeline_archives_all(tmp_path: Path) -> None:
    (tmp_path / "pg_wal").mkdir()
    assert not is_left_behind(tmp_path, "000000010000000000000001")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 0xFFFFFFFE), st.integers(0, (1 << 56) - 1), st.integers(-2, 2))
def test_every_place(tmp_path: Path, timeline: int, position: int, distance: int) -> None:
    number = max(0, position // SEGMENT_BYTES + distance)
    (tmp_path / "pg_wal").mkdir(exist_ok=True)
    history = f"{timeline}\t{position >> 32:X}/{position & 0xFFFFFFFF:X}\tno recovery target specified\n"
    (tmp_path / "pg_wal/FFFFFFFF.history").write_text(history)
    name = f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}"
    assert is_left_behind(tmp_path, name) is (number * SEGMENT_BYTES >= position // SEGMENT_BYTES * SEGMENT_BYTES)
