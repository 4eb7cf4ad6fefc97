# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in a bundle, and the one file that it travels as.

::

    bundle.json     what is in it (:data:`INDEX`)
    SHA256SUMS      of every other file, as sha256sum -c reads it
    images/         all images as one OCI image layout; a layer that several share is there once
    sboms/          NAME.spdx.json, what each image is made of
    charts/         archives of charts that a repository or a registry served
    files/          manifests that were downloaded
    collections/    archives for ansible-galaxy collection install
    bin/oras        which copies the images into a registry
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

FORMAT = 1
INDEX = "bundle.json"
SUMS = "SHA256SUMS"


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path inside, file) of all that lies in the folder, sorted."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    yield from sorted(found.items())


def digest_of(file: Path) -> str:
    """SHA-256 as hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def pack(folder: Path, output: Path) -> None:
    """Make the archive: the sums first, then everything, with nothing in it that depends on when or by whom."""
    lines = [f"{digest_of(path)}  {name}\n" for name, path in files_of(folder) if name != SUMS]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    arriving = output.with_name(output.name + ".new")
    try:
        # Layers are compressed already.
        with tarfile.open(arriving, "w", format=tarfile.PAX_FORMAT) as archive:
            first = [INDEX, SUMS]
            others = [name for name, _path in files_of(folder) if name not in first]
            for name in first + others:
                archive.add(folder / name, arcname=name, recursive=False, filter=_anonymous)
        os.replace(arriving, output)
    finally:
        arriving.unlink(missing_ok=True)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def index_of(archive: Path) -> dict[str, Any]:
    """The index of an archive, which stands at its beginning."""
    try:
        with tarfile.open(archive, "r|") as opened:
            first = opened.next()
            content = opened.extractfile(first) if first is not None and first.name == INDEX else None
            if content is None:
                raise _not_a_bundle(archive, "its first file is %s" % (first.name if first else "missing"))
            index = json.load(content)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _not_a_bundle(archive, str(error)) from error
    except OSError as error:
        raise _not_a_bundle(archive, error.strerror or str(error)) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        found = index.get("format") if isinstance(index, dict) else None
        raise PlatformError(
            "the bundle has another form",
            where=str(archive),
            found="form %s" % found,
            expected="form %d" % FORMAT,
            fix="unpack it with the release of this collection that wrote it, or write it anew",
            reason="argument",
        )
    return index


def unpack(archive: Path, folder: Path) -> None:
    """Unpack it into the folder and hold every file to its sum; files that are there as they should be stay."""
    index_of(archive)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r|") as opened:
            # The filter refuses what would be written outside of the folder, links that lead out, and devices.
            opened.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _not_a_bundle(archive, str(error)) from error
    check(folder)


def check(folder: Path) -> None:
    """Hold every file of an unpacked bundle to its sum."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise _damaged(folder, "no %s" % SUMS) from error
    sums = {name: told for told, _blank, name in (line.partition("  ") for line in lines)}
    wrong = []
    for name, told in sums.items():
        try:
            if digest_of(folder / name) != told:
                wrong.append("%s is another" % name)
        except OSError:
            wrong.append("%s is missing" % name)
    # What a registry is given has to be named.
    wrong += ["%s is not among the sums" % name for name, _path in files_of(folder) if name not in sums | {SUMS: ""}]
    if wrong:
        raise _damaged(folder, ", ".join(wrong[:5]) + (" and %d more" % (len(wrong) - 5) if len(wrong) > 5 else ""))


def _damaged(folder: Path, found: str) -> PlatformError:
    return PlatformError(
        "the bundle was damaged on its way",
        where=str(folder),
        found=found,
        expected="every file with the sum that %s names, and no other" % SUMS,
        fix="remove the folder, copy the archive again, and compare its own sum at both ends",
        reason="answer",
    )


def _not_a_bundle(archive: Path, found: str) -> PlatformError:
    return PlatformError(
        "the archive cannot be read as a bundle",
        where=str(archive),
        found=found,
        expected="what playbooks/bundle.yml wrote, whole",
        fix="name that file, or copy it again",
        reason="argument",
    )
