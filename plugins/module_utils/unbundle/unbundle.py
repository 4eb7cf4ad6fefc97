# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``unbundle``: a bundle's images into a registry, and the variables that lead to all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import archive
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle.registry import Oras
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

ARGUMENT_SPEC: dict[str, Any] = {
    "archive": {"type": "path", "required": True},
    "folder": {"type": "path", "required": True},
    "registry": {"type": "str", "required": True},
    "oras_binary": {"type": "path"},
}

AT_ONCE = 3
VARIABLES = "variables.yml"
IMAGES = "images.json"


def run(params: dict[str, Any], check_mode: bool, diff: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Unpack the archive, push what the registry lacks, and write the variables. Returns ``pushed``, ``variables`` (the
    file) and ``collections`` (archives to install).
    """
    source, folder = Path(params["archive"]), Path(params["folder"])
    registry = params["registry"].rstrip("/")
    if "://" in registry or not registry:
        raise PlatformError(
            "the registry is not one",
            where="registry",
            found=repr(params["registry"]),
            expected="a host and path such as registry.example.com/lambda, without a scheme",
            fix="correct unbundle_registry",
            reason="argument",
        )
    index = archive.index_of(source)
    unpacked = folder / "bundle"
    is_new = not _is_unpacked(index, unpacked)
    if is_new and not check_mode:
        progress("unpacking %s into %s" % (source.name, folder))
        archive.unpack(source, unpacked)
    table = {
        name: {**image, "repository": "%s/%s" % (registry, parse(image["repository"]).explicit().path)}
        for name, image in index["images"].items()
    }
    with Programs() as programs:
        oras = Oras(_oras(params, unpacked, check_mode), programs)
        pushed = _push(table, unpacked / "images", oras, programs, check_mode, progress)
    texts = _texts(index, table, folder, unpacked)
    changed = bool(pushed) or is_new
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            changed = True
            if not check_mode:
                path.write_text(text, encoding="utf-8")
    return {
        "changed": changed,
        "pushed": pushed,
        "variables": str(folder / VARIABLES),
        "collections": ["%s/collections/%s.tar.gz" % (unpacked, name) for name in index["collections"]],
    }


def _is_unpacked(index: dict[str, Any], unpacked: Path) -> bool:
    """Whether all of this bundle is there, whole: a run may have been cut off."""
    try:
        if json.loads((unpacked / archive.INDEX).read_text(encoding="utf-8")) != index:
            return False
        archive.check(unpacked)
    except (OSError, ValueError, PlatformError):
        return False
    return True


def _oras(params: dict[str, Any], unpacked: Path, check_mode: bool) -> str:
    if params["oras_binary"]:
        return str(params["oras_binary"])
    if check_mode and not (unpacked / "bin" / "oras").is_file():
        raise PlatformError(
            "the registry cannot be asked in check mode: the bundle, which has oras in it, is not unpacked",
            where=str(unpacked),
            expected="bin/oras there, or unbundle_oras",
            fix="run it without --check, or name an oras of this machine",
            reason="program",
        )
    return str(unpacked / "bin" / "oras")


def _push(
    table: dict[str, dict[str, str]],
    layout: Path,
    oras: Oras,
    programs: Programs,
    check_mode: bool,
    progress: Callable[[str], None],
) -> list[str]:
    """Push what the registry lacks; the names."""

    def target(name: str) -> str:
        image = table[name]
        # Without a tag it is found by its digest, and by this name in lists.
        return "%s:%s" % (image["repository"], image["tag"] or "bundled")

    def lacking(name: str) -> bool:
        return oras.digest(target(name)) != table[name]["digest"]

    def push(name: str) -> str:
        oras.out_of_layout(layout, name, target(name))
        arrived = oras.digest(target(name))
        if arrived != table[name]["digest"]:
            raise PlatformError(
                "the registry has made another image of what it was given",
                where=target(name),
                found=arrived or "none",
                expected=table[name]["digest"],
                fix="use a registry that keeps manifests as they are (OCI distribution specification)",
                reason="registry",
            )
        return name

    with ThreadPoolExecutor(AT_ONCE) as pool, programs as dummy:  # noqa: F841
        missing = [name for name, lacks in zip(table, pool.map(lacking, table), strict=True) if lacks]
        if not check_mode:
            for number, name in enumerate(pool.map(push, missing), 1):
                progress("image %d of %d: %s is in the registry" % (number, len(missing), name))
    return missing


def _texts(index: dict[str, Any], table: dict[str, Any], folder: Path, unpacked: Path) -> dict[str, str]:
    """The files for ansible-playbook: the images' table, and the variables that name it and what else was fetched."""
    variables: dict[str, Any] = {
        "platform_images_file": str((folder / IMAGES).absolute()),
        # The table is complete: what the inventory changes in it, or puts before it, is in it.
        "platform_images": {},
        "platform_image_registry": "",
        **{name: str((unpacked / "files" / entry["name"]).absolute()) for name, entry in index["files"].items()},
    }
    for name, chart in index["charts"].items():
        variables[chart["variables"]["chart"]] = str((unpacked / "charts" / ("%s.tgz" % name)).absolute())
        if chart["variables"].get("repository"):
            variables[chart["variables"]["repository"]] = ""
    lines = ["# Written by playbooks/unbundle.yml: ansible-playbook -i INVENTORY site.yml -e @THIS"]
    # JSON is YAML.
    lines += ["%s: %s" % (name, json.dumps(value)) for name, value in variables.items()]
    return {IMAGES: json.dumps(table, indent=2, sort_keys=True) + "\n", VARIABLES: "\n".join(lines) + "\n"}
