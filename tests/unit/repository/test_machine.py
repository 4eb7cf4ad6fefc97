"""What would stop make demo on a machine is told at once. Programs stand for those of another machine."""
# ruff: noqa: E501 - a machine is a row

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
READ = ["tools/machine", "tools/python", "tools/go.mod", "images/Cargo.toml", "galaxy.yml"]

FIT = {
    "docker": "test $1 = version && echo 28.0.1",
    "go": "test $2 = GOVERSION && echo go1.30.0 || echo auto",
    "rustc": "echo rustc 1.99.0",
    "cargo": "",
    "cc": "echo /usr/lib/libc.a",
    "perl": "echo 7",
    "uname": "case $1 in -s) echo Linux;; -m) echo x86_64;; -r) echo 6.18.0;; esac",
    "df": "echo Avail Mounted on; echo 99999 /some where",
    "dockerd": "",
    "git": "exit 1",
}
"""A machine that fits, but for its Python, which is that of the tests."""

REAL = "the machine's own"
ALWAYS = [
    "apt-get", "awk", "bash", "cat", "curl", "cut", "date", "dirname", "flock", "grep", "head", "id",
    "python3", "realpath", "sed", "sort", "ss", "stat", "tail", "tar", "timeout", "tr",
]  # fmt: skip

Finds = Callable[..., str]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in READ:
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    root = tmp_path / "root"
    files = {
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n",
        "proc/sys/fs/inotify/max_user_instances": "1024\n",
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text('{"proxies": {"default": {}}}')
    return tmp_path / "checkout"


@pytest.fixture
def finds(checkout: Path, tmp_path: Path) -> Finds:
    """``finds(*options, programs=..., without=..., **environment)`` runs the script and gives what it says."""

    def run(*options: str, programs: dict[str, str] | None = None, without: tuple[str, ...] = (), before: tuple[str, ...] = (), **environment: str) -> str:  # fmt: skip
        folder = tmp_path / "programs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        stand_ins = {**FIT, **(programs or {})}
        for name, text in stand_ins.items():
            if text is not REAL:
                (folder / name).write_text(f"#!/bin/sh\n{text}\n")
                (folder / name).chmod(0o755)
        # All that the machine has and no more, so that one can be taken away.
        for name in {*ALWAYS, *(name for name, text in stand_ins.items() if text is REAL)} - {
            name for name, text in stand_ins.items() if text is not REAL
        }:
            found = shutil.which(name)
            assert found, name
            (folder / name).symlink_to(found)
        for name in without:
            (folder / name).unlink()
        began = time.monotonic()
        done = subprocess.run(
            [*before, "/bin/bash", checkout / "tools/machine", *options],
            env={"PATH": str(folder), "HOME": str(tmp_path), "MACHINE_ROOT": str(tmp_path / "root"), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        # As it is promised, where the machine has nothing else to do.
        assert time.monotonic() - began < 5 * max(1.0, os.getloadavg()[0])
        assert done.stdout == ""
        assert done.returncode == (1 if "make demo cannot run on this machine yet:" in done.stderr else 0), done.stderr
        assert not (checkout / ".local").exists()
        return done.stderr

    return run


def _free_ports() -> list[str]:
    """Ports of this moment, as options, so that a cluster on this machine is not in the way."""
    options = []
    for name in ("cluster_edge_https_port", "cluster_edge_http_port", "cluster_registry_port"):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            options += ["-e", f"{name}={one.getsockname()[1]}"]
    return options


def test_a_machine_that_fits_is_told_nothing(finds: Finds) -> None:
    assert finds(*_free_ports()) == ""


NOT_ROOT = {"id": 'test "$1" = -u && echo 1000 || echo me'}

CASES = {
    "another architecture": ({"uname": 'case $1 in -s) echo Linux;; -m) echo riscv64;; *) echo 6.18;; esac'}, (), {}, "Linux on riscv64"),
    "an old kernel": ({"perl": "echo -1"}, (), {}, "The kernel: 6.18.0 without Landlock"),
    "no Go": ({}, ("go",), {}, "Go: none on PATH"),
    "an old Go": ({"go": "test $2 = GOVERSION && echo go1.20.1 || echo auto"}, (), {}, "Go: 1.20.1; needed: 1."),
    "a Go that fetches no newer one": ({"go": "test $2 = GOVERSION && echo go1.25.0 || echo local"}, (), {}, "Go: 1.25.0; needed: 1."),
    "no Rust": ({}, ("rustc",), {}, "Rust: none on PATH"),
    "an old Rust": ({"rustc": "echo rustc 1.80.1"}, (), {}, "Rust: 1.80.1; needed: 1.94"),
    "no C library": ({"cc": "echo libc.a"}, (), {}, "A C compiler: none"),
    "no C compiler": ({}, ("cc",), {}, "A C compiler: none"),
    "no Python": ({"python3": "exit 1"}, (), {"PYENV_ROOT": "/nowhere"}, "Python: none that fits; needed: 3.11 to 3.14."),
    "no root and no Docker": ({**NOT_ROOT, "docker": "exit 1"}, (), {}, "Docker: none that answers"),
    "a Docker without rights": ({**NOT_ROOT, "docker": "echo permission denied while trying to connect >&2; exit 1"}, (), {}, "sudo usermod -aG docker me"),
    "an old Docker": ({"docker": "test $1 = version && echo 19.03.8"}, (), {}, "Docker: 19.03.8; needed: 20.10"),
    "a Docker without root": ({"docker": 'case "$1 $3" in version*) echo 28.0;; *Sec*) echo "[name=rootless]";; esac'}, (), {}, "Docker: an engine without root"),
    "no Docker and no packages": ({}, ("docker", "dockerd", "apt-get"), {}, "neither Debian nor Ubuntu"),
    "a wrong clock": ({"date": 'test "$1" = +%s && echo 86400 || echo 1970-01-02'}, (), {}, "The clock: 1970-01-02"),
    "a proxy": ({}, (), {"https_proxy": "http://proxy:3128"}, "The proxy: NO_PROXY is «»"),
    "a Docker that hangs": ({"docker": "exec sleep 600", "timeout": "exit 124", "df": "echo Avail; echo 1 /"}, (), {}, "Docker: an engine that does not answer in 20 s"),
    "no curl": ({}, ("curl",), {}, "curl: none on PATH"),
    "a bundle that is none": ({}, (), {"BUNDLE": "/dev/null"}, "The bundle: /dev/null"),
}  # fmt: skip


@pytest.mark.parametrize(("programs", "without", "environment", "said"), CASES.values(), ids=CASES.keys())
def test_what_is_in_the_way_is_told(
    programs: dict[str, str], without: tuple[str, ...], environment: dict[str, str], said: str, finds: Finds
) -> None:
    told = finds(*_free_ports(), programs=programs, without=without, **environment)
    assert said in told
    # This and nothing else.
    assert told.count("\n- ") == 1


def test_all_of_it_is_told_at_once(finds: Finds, tmp_path: Path) -> None:
    (tmp_path / "root/proc/meminfo").write_text("MemAvailable: 2000000 kB\n")
    (tmp_path / "root/sys/fs/cgroup/cgroup.controllers").write_text("cpu pids\n")
    told = finds(*_free_ports(), programs={"perl": "echo -1"}, without=("go", "curl"))
    for name in ("Memory: 1953 MiB free", "Control groups: without memory", "The kernel:", "Go:", "curl:"):
        assert f"- {name}" in told
    assert told.count("\n- ") == 5


def test_memory_is_what_a_container_may_have(finds: Finds, tmp_path: Path) -> None:
    (tmp_path / "root/sys/fs/cgroup/memory.max").write_text(f"{2 << 30}\n")
    assert "Memory: 2048 MiB free" in finds(*_free_ports())
    (tmp_path / "root/sys/fs/cgroup/memory.max").write_text("max\n")
    assert finds(*_free_ports()) == ""


def test_only_root_can_raise_the_number_of_inotify_instances(finds: Finds, tmp_path: Path) -> None:
    (tmp_path / "root/proc/sys/fs/inotify/max_user_instances").write_text("128\n")
    assert "fs.inotify.max_user_instances: 128" in finds(*_free_ports(), programs=NOT_ROOT)
    # The cluster's role raises it.
    assert finds(*_free_ports(), programs={"id": "echo 0"}) == ""


def test_control_groups_of_version_1_do(finds: Finds, tmp_path: Path) -> None:
    (tmp_path / "root/sys/fs/cgroup/cgroup.controllers").unlink()
    rows = "#subsys_name hierarchy num_cgroups enabled\ncpu 1 9 1\nmemory 2 9 {}\npids 3 9 1\n"
    (tmp_path / "root/proc/cgroups").write_text(rows.format(1))
    assert finds(*_free_ports()) == ""
    (tmp_path / "root/proc/cgroups").write_text(rows.format(0))
    assert "Control groups: without memory" in finds(*_free_ports())


def test_less_isolation_can_be_accepted(finds: Finds) -> None:
    options = [*_free_ports(), "-e", "runtimes_require_landlock=false"]
    assert finds(*options, programs={"perl": "echo -1"}) == ""


@pytest.mark.parametrize("form", ["option", "file", "JSON"])
def test_a_port_that_is_taken(form: str, finds: Finds, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = [*_free_ports(), "-e", f"cluster_registry_port={port}"]
        if form == "JSON":
            options = ["-e", json.dumps({"cluster_name": "other", "cluster_registry_port": port}), *_free_ports()[:4]]
        if form == "file":
            (tmp_path / "mine.yml").write_text(f"---\ncluster_name: other\ncluster_registry_port: {port}  # ours\n")
            options = [*_free_ports(), "-e", f"@{tmp_path}/mine.yml"]
        told = finds(*options)
        assert f"Port {port}: taken" in told
        assert "EXTRA='-e cluster_registry_port=NUMBER'" in told
        name = "lambda" if form == "option" else "other"
        # Its own registry may have it.
        assert (
            finds(*options, programs={"docker": f"case $1 in version) echo 28.0;; ps) echo {name}-registry;; esac"})
            == ""
        )
        assert "taken by container somebody" in finds(
            *options, programs={"docker": "case $1 in version) echo 28.0;; ps) echo somebody;; esac"}
        )
    assert finds(*options) == ""


def test_another_checkout_s_cluster_of_this_name(finds: Finds, tmp_path: Path) -> None:
    (tmp_path / "there/.local/certs.d").mkdir(parents=True)
    docker = f"case $1 in version) echo 28.0;; inspect) echo {tmp_path}/there/.local/certs.d;; esac"
    assert f"another checkout's ({tmp_path}/there)" in finds(*_free_ports(), programs={"docker": docker})


def test_a_small_file_system(finds: Finds, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = (
        "/usr/bin/unshare",
        "-rm",
        "/bin/sh",
        "-c",
        f'/bin/mount -t tmpfs -o size=64m x {small} && exec "$@"',
        "sh",
    )
    if subprocess.run([*mounted, "/bin/true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    told = finds(*_free_ports(), programs={"df": REAL}, before=mounted, XDG_CACHE_HOME=f"{small}/not/there/yet")
    assert f"Disk space on {small}: 64 MiB free; needed: 12288 MiB." in told


def test_a_proxy_that_builds_may_not_need_is_noted(finds: Finds) -> None:
    told = finds(
        *_free_ports(), HTTP_PROXY="http://proxy:3128", no_proxy="localhost, 127.0.0.1", DOCKER_CONFIG="/nowhere"
    )
    assert told.startswith("note: The proxy: Docker's builds") and "cannot run" not in told


def test_a_bundle_needs_no_rust(finds: Finds, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with tarfile.open(tmp_path / "bundle.tar", "w") as archive:
        archive.add(tmp_path / "bundle.json", arcname="bundle.json")
    assert finds(*_free_ports(), without=("rustc", "cargo"), BUNDLE=str(tmp_path / "bundle.tar")) == ""
