# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``bundle``: everything that an inventory needs from elsewhere, in one file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import archive
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle.registry import Oras
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import COMPONENTS
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.charts import helm_program, render
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import Helm, Source
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.yaml import YAMLError, from_yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.bill import write_bill
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

ARGUMENT_SPEC: dict[str, Any] = {
    "components": COMPONENTS,
    "images": {"type": "dict", "required": True},
    "files": {"type": "dict", "default": {}},
    "charts": {"type": "dict", "default": {}},
    "collections": {"type": "list", "elements": "path", "default": []},
    "inventory": {"type": "str", "default": ""},
    "helm_binary": {"type": "str", "default": "helm"},
    "kubernetes_version": {"type": "str", "default": ""},
    "oras_binary": {"type": "path", "required": True},
    "syft_binary": {"type": "path"},
    "output": {"type": "path", "required": True},
}

AT_ONCE = 4
STEP_SECONDS = 600


def run(params: dict[str, Any], check_mode: bool, diff: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Write the bundle, unless ``output`` is the same already. Returns ``bundle`` (its index) and ``changed``."""
    output = Path(params["output"])
    wanted, releases = _wanted(params)
    with Programs() as programs:
        oras = Oras(params["oras_binary"], programs)
        images = _resolved(wanted, oras, programs)
        index: dict[str, Any] = {
            "format": archive.FORMAT,
            "inventory": params["inventory"],
            "images": images,
            "charts": _charts(releases, params["charts"]),
            "files": {name: _file(name, path) for name, path in sorted(params["files"].items())},
            "collections": dict(sorted(_collection(Path(path)) for path in params["collections"])),
            "sboms": bool(params["syft_binary"]),
        }
        before = _before(output)
        result = {"changed": before != index, "bundle": index, "output": str(output)}
        if diff and result["changed"]:
            result["diff"] = [{"before": _text(before), "after": _text(index), "before_header": "the bundle"}]
        if result["changed"] and not check_mode:
            output.parent.mkdir(parents=True, exist_ok=True)
            # Beside the archive, where there has to be room for it anyway.
            with tempfile.TemporaryDirectory(prefix=".bundle-", dir=output.parent) as folder:
                _write(index, Path(folder), params, oras, programs, progress)
                progress("packing %s" % output.name)
                archive.pack(Path(folder), output)
            progress("%s: %d MB" % (output, output.stat().st_size >> 20))
    return result


# --- what is needed ---------------------------------------------------------------------------------------------------


def _wanted(params: dict[str, Any]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(name to reference of every image that something of the inventory runs, all releases)."""
    releases = [release for component in params["components"] for release in component["releases"]]
    unknown = [
        PlatformError(
            "what a task makes is not known, and so not which images it runs",
            where="%s, «%s»" % (component["name"], entry["task"]),
            found=entry["why"],
            expected="variables from which it can be told",
            fix="correct the variables",
            reason="render",
        )
        for component in params["components"]
        for entry in component["unknown"]
    ]
    helm = helm_program(params["helm_binary"])
    rendered = concurrently(lambda release: render(helm, release, params["kubernetes_version"], []), releases, AT_ONCE)
    failures = unknown + [result for result in rendered if isinstance(result, PlatformError)]
    if failures:
        # A bundle without what is not known would fail where nothing can be fetched any more.
        raise PlatformError.of_many("it is not known what the inventory needs", failures)
    objects = [component["objects"] for component in params["components"]]
    return used(params["images"], [objects, rendered]), releases


def used(table: dict[str, str], objects: Any) -> dict[str, str]:
    """The images of the table that occur in the objects (in a text too: operators get them as arguments), and those
    that containers name beside it.
    """
    texts = list(_texts(objects))
    found = {
        name: reference
        for name, reference in table.items()
        if any(text == reference or _names(text, reference) for text in texts)
    }
    known = set(table.values())
    for reference in sorted({text for text in _images(objects) if text not in known}):
        parts = parse(reference).explicit().path.split("/")
        found[parts[-1] if parts[-1] not in found else "-".join(parts)] = reference
    return dict(sorted(found.items()))


def _names(text: str, reference: str) -> bool:
    return reference in text and re.search(r"(?<![\w./:-])%s(?![\w./:@-])" % re.escape(reference), text) is not None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _images(value: Any) -> Iterator[str]:
    """What containers run, wherever a pod's template is in an object."""
    if isinstance(value, dict):
        for name in ("containers", "initContainers"):
            for container in value.get(name) or []:
                if isinstance(container, dict) and isinstance(container.get("image"), str):
                    yield container["image"]
        for item in value.values():
            yield from _images(item)
    elif isinstance(value, list):
        for item in value:
            yield from _images(item)


def _resolved(wanted: dict[str, str], oras: Oras, programs: Programs) -> dict[str, dict[str, str]]:
    """Repository, tag and digest of each image, the digest from its registry."""

    def one(item: tuple[str, str]) -> dict[str, str] | PlatformError:
        name, reference = item
        wanted = parse(reference)
        try:
            digest = oras.digest(reference)
        except PlatformError as error:
            return error
        if digest is None or (wanted.digest and digest != wanted.digest):
            return PlatformError(
                "a registry lacks an image",
                where="%s: %s" % (name, reference),
                found=digest or "nothing under this reference",
                expected="the image that the inventory names",
                fix="build it (playbooks/images.yml) or correct platform_images",
                reason="registry",
            )
        return {"repository": wanted.repository, "tag": wanted.tag, "digest": digest}

    with ThreadPoolExecutor(8) as pool, programs as dummy:  # noqa: F841
        answers = list(pool.map(one, wanted.items()))
    failures = [answer for answer in answers if isinstance(answer, PlatformError)]
    if failures:
        raise PlatformError.of_many("not every image can be had", failures)
    return {name: answer for name, answer in zip(wanted, answers, strict=True) if isinstance(answer, dict)}


def _charts(releases: list[dict[str, Any]], variables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The charts that are not on this machine, by release, each with the variables that lead to it."""
    sources = {release["name"]: Source.of(release) for release in releases}
    found = {name: source for name, source in sources.items() if source.is_elsewhere}
    nameless = sorted(found.keys() - variables.keys())
    if nameless:
        raise PlatformError(
            "nobody could install a chart of the bundle: no variable is known that names it",
            where="charts",
            found="releases %s" % ", ".join(nameless),
            expected="for each the variables of its chart and its repository, such as logging_eck_chart",
            fix="complete charts in playbooks/bundle.yml",
            reason="argument",
        )
    return {
        name: {
            "variables": variables[name],
            # Without a login, which nobody who has the bundle needs.
            "chart": source.reference,
            "repository": source.repository or "",
            "version": source.version or "",
        }
        for name, source in sorted(found.items())
    }


def _file(variable: str, path: str) -> dict[str, str]:
    try:
        digest = archive.digest_of(Path(path))
    except OSError as error:
        raise PlatformError(
            "a file for the bundle cannot be read", where=path, found=error.strerror or str(error), reason="argument"
        ) from error
    return {"name": "%s%s" % (variable, Path(path).suffix), "sha256": digest}


def _collection(folder: Path) -> tuple[str, str]:
    """(name-version, digest of its content) of a collection's folder."""
    about = folder / "MANIFEST.json"
    try:
        if about.is_file():
            told = json.loads(about.read_text(encoding="utf-8"))["collection_info"]
            return _archive_name(told), archive.digest_of(folder / "FILES.json")
        told = from_yaml((folder / "galaxy.yml").read_text(encoding="utf-8"))
        content = hashlib.sha256()
        for name, path in _sources(folder):
            content.update(f"{name}\0{archive.digest_of(path)}\0".encode())
        return _archive_name(told), content.hexdigest()
    except (OSError, ValueError, KeyError, TypeError, YAMLError) as error:
        raise PlatformError(
            "a folder is no collection",
            where=str(folder),
            found=str(error),
            expected="MANIFEST.json, as installed, or galaxy.yml",
            fix="name the folder of a collection",
            reason="argument",
        ) from error


def _archive_name(told: dict[str, Any]) -> str:
    return "%s-%s-%s" % (told["namespace"], told["name"], told["version"])


def _sources(folder: Path) -> Iterator[tuple[str, Path]]:
    for name in ("playbooks", "roles", "plugins", "inventories", "meta", "images", "tools"):
        for path in sorted((folder / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and "target" not in path.parts:
                yield str(path.relative_to(folder)), path


def _before(output: Path) -> dict[str, Any] | None:
    with contextlib.suppress(PlatformError):
        return archive.index_of(output)
    return None


def _text(index: dict[str, Any] | None) -> str:
    return json.dumps(index, indent=2, sort_keys=True) + "\n" if index else ""


# --- writing it -------------------------------------------------------------------------------------------------------


def _write(
    index: dict[str, Any],
    folder: Path,
    params: dict[str, Any],
    oras: Oras,
    programs: Programs,
    progress: Callable[[str], None],
) -> None:
    (folder / archive.INDEX).write_text(_text(index), encoding="utf-8")
    for variable, entry in index["files"].items():
        _copied(Path(params["files"][variable]), folder / "files" / entry["name"])
    _copied(Path(params["oras_binary"]), folder / "bin" / "oras")
    for path in params["collections"]:
        _pack_collection(Path(path), folder / "collections", programs)
    for component in params["components"]:
        for release in component["releases"]:
            if release["name"] in index["charts"]:
                _pull(release, folder / "charts", params["helm_binary"])
    layout, boms = folder / "images", folder / "sboms"
    boms.mkdir()
    names = list(index["images"])
    for number, name in enumerate(names, 1):
        # One after the other: images share layers, which are fetched once.
        oras.into_layout(pinned(index["images"][name]), layout, name)
        progress("image %d of %d: %s" % (number, len(names), name))
    # oras leaves files of its own work there.
    shutil.rmtree(layout / "ingest", ignore_errors=True)
    if params["syft_binary"]:
        with ThreadPoolExecutor(2) as pool, programs as dummy:  # noqa: F841
            done = pool.map(lambda name: _sbom(name, index["images"][name], params, boms, programs), names)
            for number, name in enumerate(done, 1):
                progress("bill of materials %d of %d: %s" % (number, len(names), name))


def pinned(image: dict[str, str]) -> str:
    """The reference of an image by its digest alone."""
    return "%s@%s" % (image["repository"], image["digest"])


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _sbom(name: str, image: dict[str, str], params: dict[str, Any], folder: Path, programs: Programs) -> str:
    target = folder / ("%s.spdx.json" % name)
    write_bill(programs, params["syft_binary"], pinned(image), target, "bundle_sboms: false")
    return name


def _pack_collection(source: Path, target: Path, programs: Programs) -> None:
    target.mkdir(parents=True, exist_ok=True)
    name, _digest = _collection(source)
    if (source / "MANIFEST.json").is_file():
        _pack_installed(source, target / ("%s.tar.gz" % name))
        return
    argv = ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(target), str(source)]
    answer = programs.run(argv, timeout_seconds=STEP_SECONDS)
    if answer.returncode != 0:
        raise PlatformError(
            "the collection's archive cannot be built",
            where=str(source),
            found=" ".join(answer.stderr.split())[-600:],
            fix="try it by hand: %s" % " ".join(argv),
            reason="build",
        )


def _pack_installed(source: Path, target: Path) -> None:
    """An installed collection is its archive unpacked, but packagers leave tests and the like out: its lists are of
    what is there.
    """
    listed = json.loads((source / "FILES.json").read_text(encoding="utf-8"))
    listed["files"] = [entry for entry in listed["files"] if (source / entry["name"]).exists()]
    files = json.dumps(listed, indent=1).encode()
    manifest = json.loads((source / "MANIFEST.json").read_text(encoding="utf-8"))
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(files).hexdigest()
    with tarfile.open(target, "w:gz") as packed:
        for name, content in (("MANIFEST.json", json.dumps(manifest, indent=1).encode()), ("FILES.json", files)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
        for one in listed["files"]:
            if one["name"] != ".":
                packed.add(source / one["name"], arcname=one["name"], recursive=False)


def _pull(release: dict[str, Any], folder: Path, helm_binary: str) -> None:
    """As charts/RELEASE.tgz."""
    with Helm(helm_binary, None) as helm:
        chart = Path(helm.local_chart(Source.of(release)).path)
        if not chart.is_dir():
            _copied(chart, folder / ("%s.tgz" % release["name"]))
            return
        with tempfile.TemporaryDirectory(dir=folder) as packed:
            helm.run("package", str(chart), "--destination", packed)
            (archive_of,) = Path(packed).iterdir()
            archive_of.replace(folder / ("%s.tgz" % release["name"]))
