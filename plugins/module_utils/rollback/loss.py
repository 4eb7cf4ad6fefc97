# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback would lose: data that the older programs cannot read, and volumes that the older revision has not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.volumes import check_data
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import Key, label_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

_VERSION = re.compile(r"(?<![\w.])v?(\d+)(?:\.\d+)*(?![\w.])")
_WITH_VOLUMES = ("StatefulSet", "PersistentVolumeClaim")


def losses(now: Release, then: Release, before: dict[Key, Object], after: dict[Key, Object]) -> list[PlatformError]:
    """Why going from ``now`` (its objects ``before``) to ``then`` (``after``) must not be."""
    return [*_versions(now, then, before, after), *_volumes(before, after)]


def _versions(
    now: Release, then: Release, before: dict[Key, Object], after: dict[Key, Object]
) -> Iterator[PlatformError]:
    """A major version downwards, of what keeps data in volumes: neither PostgreSQL nor Redis reads what a newer one has
    written (https://www.postgresql.org/docs/current/upgrading.html, https://redis.io/docs/latest/operate/oss_and_stack/
    install/upgrade/).
    """
    keeps_data = any(key[1] in _WITH_VOLUMES and volumes_of(obj) for key, obj in before.items())
    one, other = major(now.app_version), major(then.app_version)
    if keeps_data and one is not None and other is not None and other < one:
        yield _loss(
            "an older major version would meet data of a newer one",
            "release %s/%s" % (now.revision.namespace, now.revision.name),
            f"version {now.app_version} runs, revision {then.revision.number} has {then.app_version}",
            "the same major version, or a newer one",
            "restore a backup that the older version has written",
        )
        return
    for key, obj in before.items():
        if key not in after or not volumes_of(obj):
            continue
        try:
            check_data(label_of(key), after[key], obj)
        except PlatformError as error:
            yield error
            continue
        newer, older = _images(obj), _images(after[key])
        for name in newer.keys() & older.keys():
            mine, its = major(parse(newer[name]).tag), major(parse(older[name]).tag)
            if mine is not None and its is not None and its < mine:
                yield _loss(
                    "an older major version would meet data of a newer one",
                    f"{label_of(key)}, container {name}",
                    f"{newer[name]} runs, the older revision has {older[name]}",
                    "the same major version, or a newer one",
                    "restore a backup that the older version has written",
                )


def _volumes(before: dict[Key, Object], after: dict[Key, Object]) -> Iterator[PlatformError]:
    for key, obj in before.items():
        gone = sorted(volumes_of(obj) - (volumes_of(after[key]) if key in after else set()))
        if gone:
            yield _loss(
                "the older revision does not have a volume that holds data",
                label_of(key),
                f"without {', '.join(gone)}" + ("" if key in after else f", and without the {key[1]} itself"),
                "every volume that there is",
                "change the inventory and run site.yml, which says what becomes of the volume",
            )


def volumes_of(obj: Object) -> set[str]:
    """The claims that a StatefulSet makes, by their templates' names; or the claim itself."""
    if obj.get("kind") == "PersistentVolumeClaim":
        return {str(obj["metadata"]["name"])}
    templates = (obj.get("spec") or {}).get("volumeClaimTemplates") or [] if obj.get("kind") == "StatefulSet" else []
    return {str(one["metadata"]["name"]) for one in templates}


def major(version: str) -> int | None:
    """The first number of a version (``17``, ``v8.0-bookworm``); None where a text is none, such as a hash."""
    head = re.split(r"[-_+]", version, maxsplit=1)[0]
    found = _VERSION.fullmatch(head)
    # A date or a build's number is no version by which anybody could compare.
    return int(found[1]) if found and len(found[1]) <= 3 else None


def _images(obj: Object) -> dict[str, str]:
    pod = (((obj.get("spec") or {}).get("template") or {}).get("spec")) or {}
    return {one["name"]: str(one.get("image") or "") for one in pod.get("containers") or []}


def _loss(what: str, where: str, found: str, expected: str, fix: str) -> PlatformError:
    return PlatformError(what, where=where, found=found, expected=expected, fix=fix, reason="volume")
