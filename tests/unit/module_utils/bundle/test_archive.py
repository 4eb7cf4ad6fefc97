"""A bundle arrives as it was packed, or is refused."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import archive
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True)


def made(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    (folder / archive.INDEX).write_text(json.dumps({"format": archive.FORMAT}))
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@given(contents=st.dictionaries(NAMES, st.binary(max_size=64), max_size=5))
def test_what_is_packed_is_what_is_unpacked(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    # A name that is a folder of another one cannot be both.
    contents = {name: told for name, told in contents.items() if not any(o.startswith(name + "/") for o in contents)}
    here = tmp_path_factory.mktemp("bundle")
    archive.pack(made(here / "source", contents), here / "bundle.tar")
    archive.unpack(here / "bundle.tar", here / "target")
    arrived = {name: path.read_bytes() for name, path in archive.files_of(here / "target")}
    for name in (archive.INDEX, archive.SUMS):
        arrived.pop(name)
    assert arrived == contents


def test_the_same_content_gives_the_same_archive_and_sha256sum_reads_its_sums(tmp_path: Path) -> None:
    for name in ("one", "two"):
        archive.pack(made(tmp_path / name, {"images/blob": b"layer", "bin/oras": b"#!"}), tmp_path / f"{name}.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    archive.unpack(tmp_path / "one.tar", tmp_path / "there")
    subprocess.run(["sha256sum", "--check", "--quiet", archive.SUMS], cwd=tmp_path / "there", check=True)


def test_the_index_is_read_without_the_rest(tmp_path: Path) -> None:
    archive.pack(made(tmp_path / "source", {"images/blob": b"x" * 100_000}), tmp_path / "bundle.tar")
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "bundle.tar").read_bytes()[:8192])
    assert archive.index_of(cut) == {"format": archive.FORMAT}
    with pytest.raises(PlatformError, match="cannot be read as a bundle"):
        archive.unpack(cut, tmp_path / "target")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "images/blob").write_bytes(b"other"), "images/blob is another"),
        (lambda folder: (folder / "images/blob").unlink(), "images/blob is missing"),
        (lambda folder: (folder / "images/more").write_bytes(b""), "images/more is not among the sums"),
        (lambda folder: (folder / archive.SUMS).unlink(), "no SHA256SUMS"),
    ],
)
def test_what_is_not_as_it_was_is_named(tmp_path: Path, damage: object, told: str) -> None:
    archive.pack(made(tmp_path / "source", {"images/blob": b"layer"}), tmp_path / "bundle.tar")
    archive.unpack(tmp_path / "bundle.tar", tmp_path / "there")
    archive.check(tmp_path / "there")
    damage(tmp_path / "there")  # type: ignore[operator]
    with pytest.raises(PlatformError, match=told):
        archive.check(tmp_path / "there")


def _tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as packed:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([], "its first file is missing"),
        ([("other", b"{}")], "its first file is other"),
        ([(archive.INDEX, b"not JSON")], "cannot be read as a bundle"),
        ([(archive.INDEX, b'{"format": 99}')], "form 99"),
        ([(archive.INDEX, b"[]")], "form None"),
    ],
)
def test_another_file_is_no_bundle(tmp_path: Path, members: list[tuple[str, bytes]], told: str) -> None:
    with pytest.raises(PlatformError, match=told):
        archive.index_of(_tar(tmp_path / "it.tar", *members))


def test_no_file_leaves_the_folder(tmp_path: Path) -> None:
    index = (archive.INDEX, json.dumps({"format": archive.FORMAT}).encode())
    with pytest.raises(PlatformError, match="cannot be read as a bundle"):
        archive.unpack(_tar(tmp_path / "it.tar", index, ("../outside", b"")), tmp_path / "target")
    assert not (tmp_path / "outside").exists()


def test_a_file_that_is_missing_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="No such file"):
        archive.index_of(tmp_path / "none.tar")
