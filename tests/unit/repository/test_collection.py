"""The archive that users install: what is in it, and that a playbook runs from where it was installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent
USED = {
    "COPYING", "FILES.json", "LICENSE", "MANIFEST.json", "README.ja.md", "README.md", "SECURITY.md",
    "ansible-navigator.yml", "awx", "changelogs", "collections", "docs", "execution-environment.yml", "images",
    "inventories", "meta", "playbooks", "plugins", "requirements.txt", "roles", "tests", "tools",
}  # fmt: skip
"""What a user reads, copies, runs, or builds images and a local cluster from. tests: what ansible-test is told."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git has: a checkout at work has more."""
    folder = tmp_path_factory.mktemp("source")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    there = [name for name in names if name and os.path.lexists(ROOT / name)]
    packed = subprocess.run(["tar", "-c", *there], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=packed, check=True)
    out = tmp_path_factory.mktemp("archive")
    subprocess.run(
        [PROGRAMS / "ansible-galaxy", "collection", "build", "--output-path", out], cwd=folder, check=True, timeout=120
    )
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that was empty before."""
    path = tmp_path_factory.mktemp("collections")
    command = [PROGRAMS / "ansible-galaxy", "collection", "install", archive, "-p", path, "--no-deps", "--offline"]
    # Elsewhere than in the checkout, whose ansible.cfg says that it is installed already.
    elsewhere = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(path)}
    subprocess.run(command, cwd=path, env=elsewhere, check=True, timeout=120)
    return path


def test_only_what_users_need_is_in_the_archive(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = [member.name for member in tar if not member.isdir()]
    assert {name.split("/")[0] for name in names} - {"CHANGELOG.md"} == USED
    beside = [name for name in names if name.startswith("tests/")]
    assert all(re.fullmatch(r"tests/(config\.yml|sanity/ignore-[0-9.]+\.txt)", name) for name in beside)
    unwanted = re.compile(r"(^|/)(test_[^/]*\.py|[^/]*_test\.go|__pycache__|\.local|fragments)(/|$)")
    assert [name for name in names if unwanted.search(name)] == []
    # Sources of images and tools among it, so that both can be built: a few MB would be something that was built.
    assert archive.stat().st_size < 3 << 20


def test_its_description_is_whole(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        info = json.load(tar.extractfile("MANIFEST.json"))["collection_info"]
    for field in ("namespace", "name", "version", "authors", "description", "license", "readme", "repository", "tags"):
        assert info[field], field
    assert archive.name == f"{info['namespace']}-{info['name']}-{info['version']}.tar.gz"
    # Of the tags that Automation Hub wants one of.
    assert {"infrastructure", "cloud"} & set(info["tags"])


def test_every_link_of_it_leads_to_something(installed: Path) -> None:
    links = [path for path in installed.rglob("*") if path.is_symlink()]
    assert links  # the charts' library
    assert [link for link in links if not link.exists()] == []


def test_the_readme_s_command_runs_from_there(installed: Path, tmp_path: Path) -> None:
    # It installs nothing else, and the folder has nothing but what the command names.
    (line,) = re.findall(
        r"^ansible-playbook (lambda_microservice\.platform\.capacity .*?)\s*(?:#.*)?$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    collection = installed / "ansible_collections/lambda_microservice/platform"
    subprocess.run(["cp", "-r", collection / "inventories", tmp_path / "inventories"], check=True)
    words = [word.replace("inventories/mine", "inventories/staging") for word in shlex.split(line)]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "PATH": f"{ROOT / '.local/bin'}:{PROGRAMS}:{os.environ['PATH']}",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SHOW_CUSTOM_STATS": "1",
    }
    images = json.dumps({"platform_images_file": "", "platform_image_registry": "registry.example.com"})
    done = subprocess.run(
        [PROGRAMS / "ansible-playbook", *words, "-e", images],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "capacity.json").read_text())
    # What a workflow gets is what the page has.
    (stats,) = re.findall(r"RUN: (\{.*\})", done.stdout)
    assert json.loads(stats)["lambda_capacity"] == {key: report[key] for key in ("total", "needed")}
    assert (tmp_path / "capacity.html").exists()
    assert not (collection / ".local").exists()


def test_the_ranges_are_those_that_are_tested() -> None:
    requires = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    sanity = (ROOT / "tests/sanity/run").read_text(encoding="utf-8")
    versions = re.search(r"versions=\((2[0-9. ]+)\)$", sanity, re.MULTILINE)[1].split()
    low, high = re.fullmatch(r">=(2\.\d+)\.0,<(2\.\d+)\.0", requires).groups()
    assert versions[0] == low
    assert high == f"2.{int(versions[-1].split('.')[1]) + 1}"
    lowest = _pins("tests/lowest/requirements.txt")
    highest = _pins("requirements-lock.txt")
    for line in (ROOT / "meta/requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, from_, to = re.fullmatch(r"([a-z-]+)>=([\d.]+),<([\d.]+)", line).groups()
        assert _number(lowest[name])[: len(_number(from_))] == _number(from_)
        # The newest that the tests run with is of the last version that is allowed.
        assert _number(highest[name]) < _number(to)
        assert _number(highest[name])[0] + 1 >= _number(to)[0]


def _pins(file: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z-]+)==([\d.]+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
