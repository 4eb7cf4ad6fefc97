"""What a run that was cut off leaves behind, the next one does not take for whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
Programs = Callable[[dict[str, str]], dict[str, str]]


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Programs that stand for others, before those of the machine; gives the environment."""

    def made(texts: dict[str, str]) -> dict[str, str]:
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    return made


DOCKER = """
case $1 in
image) test -e tagged ;;
import) cat >/dev/null; echo sha256:0123; [ "${@: -1}" = - ] || echo "sha256:0123 ${@: -1}" >>tagged ;;
tag) echo "$2 $3" >>tagged ;;
*) exit 1 ;;
esac
"""
"""It makes an image of whatever arrives, as the real one does."""


@pytest.mark.parametrize("how", ["fails", "is killed", "is killed with the script"])
def test_half_a_base_image_has_no_name(how: str, programs: Programs, tmp_path: Path) -> None:
    endings = {"fails": "exit 25", "is killed": "kill -9 $$", "is killed with the script": "kill -9 $PPID $$"}
    script = [ROOT / "images/base-image", "trixie", "debian:here", "bootstrap"]
    broken = programs({"docker": DOCKER, "mmdebstrap": f"echo half of an archive; {endings[how]}"})
    # In a session of its own: what the script was started by is not in the way of kill.
    done = subprocess.run(script, cwd=tmp_path, env=broken, capture_output=True, check=False, start_new_session=True)
    if how != "is killed with the script":
        assert done.returncode != 0
    assert not (tmp_path / "tagged").exists()
    # The next run makes it, and the one after that has nothing to do.
    whole = programs({"docker": DOCKER, "mmdebstrap": "echo an archive"})
    for said in ("made debian:here\n", ""):
        done = subprocess.run(script, cwd=tmp_path, env=whole, capture_output=True, text=True, check=True)
        assert done.stdout.endswith(said) and bool(done.stdout) == bool(said)
    assert (tmp_path / "tagged").read_text() == "sha256:0123 debian:here\n"


PYTHON = """
if [ "$2" = venv ] || [ "$3" = venv ]; then
    mkdir -p made/bin && cp "$0" made/bin/python && echo "venv" >>calls
elif [ "$1" = -c ]; then
    echo "3.13 $0"
elif [ "$2" = pip ]; then
    echo pip >>calls
    printf '#!/bin/bash\\necho uv >>calls; sleep 0.5\\n' >made/bin/uv && chmod +x made/bin/uv
fi
"""


def _environment(tmp_path: Path) -> list[str]:
    (tmp_path / "requirements.txt").write_text("one\n")
    for name in ("python-env", "python"):
        shutil.copy2(ROOT / "tools" / name, tmp_path / name)
    return [str(tmp_path / "python-env"), "made", "requirements.txt"]


def test_half_a_python_environment_is_made_anew(programs: Programs, tmp_path: Path) -> None:
    script = _environment(tmp_path)
    stand_ins = programs({"python3": PYTHON}) | {"PYENV_ROOT": "/nowhere"}
    for name in ("python3.14", "python3.13", "python3.12", "python3.11"):
        stand_ins = programs({name: "exit 1"}) | {"PYENV_ROOT": "/nowhere"}

    # Killed while it installs.
    started = subprocess.Popen(script, cwd=tmp_path, env=stand_ins, start_new_session=True)
    end = time.monotonic() + 120
    while "uv" not in ((tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "made/.complete").exists()

    # Two at once: one makes it, the other waits and has nothing to do.
    (tmp_path / "calls").unlink()
    both = [subprocess.Popen(script, cwd=tmp_path, env=stand_ins) for _ in range(2)]
    assert [one.wait(300) for one in both] == [0, 0]
    assert (tmp_path / "calls").read_text().split() == ["venv", "pip", "uv"]
    stamp = (tmp_path / "made/.complete").read_text()

    # Other requirements: the mark is the first that goes, so that a removal that is cut off leaves none.
    (tmp_path / "requirements.txt").write_text("two\n")
    killed = programs({"rm": 'case "$*" in -rf*) kill -9 $PPID ;; *) exec /bin/rm "$@" ;; esac'})
    subprocess.run(script, cwd=tmp_path, env=killed | {"PYENV_ROOT": "/nowhere"}, check=False, capture_output=True)
    assert (tmp_path / "made/bin").exists() and not (tmp_path / "made/.complete").exists()
    (tmp_path / "requirements.txt").write_text("one\n")
    (tmp_path / "programs/rm").unlink()
    subprocess.run(script, cwd=tmp_path, env=stand_ins, check=True, capture_output=True)
    assert (tmp_path / "made/.complete").read_text() == stamp
    assert (tmp_path / "calls").read_text().split() == ["venv", "pip", "uv"] * 2
