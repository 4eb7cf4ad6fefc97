# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CustomResourceDefinitions of a chart's crds folder, which Helm itself installs once and never updates."""

from __future__ import annotations

from functools import partial

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import (
    changed_paths,
    missing_from,
    without_bookkeeping,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import Key, as_stored
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import condition_of

ESTABLISHED_SECONDS = 30


def wanted(
    cluster: Cluster, definitions: dict[Key, Object], update: bool, field_manager: str
) -> dict[Key, tuple[Object, Object | None]]:
    """{key: (definition, the live one)} of those that are missing or, with update, differ."""
    stored = {key: as_stored(obj) for key, obj in definitions.items()}
    live = cluster.get_many(
        [{"apiVersion": obj.get("apiVersion", ""), "kind": key[1], "name": key[3]} for key, obj in stored.items()]
    )
    found: dict[Key, tuple[Object, Object | None]] = {}
    for (key, obj), current in zip(stored.items(), live, strict=True):
        if current is None:
            found[key] = (obj, None)
        elif update and missing_from(obj, current):
            result = cluster.apply(obj, field_manager, dry_run=True)
            if changed_paths(without_bookkeeping(current), without_bookkeeping(result)):
                found[key] = (obj, current)
    return found


def make(cluster: Cluster, definitions: list[Object], field_manager: str) -> None:
    """Apply them and wait until the API server serves their kinds."""
    if not definitions:
        return
    cluster.apply_many(definitions, field_manager)
    for definition in definitions:
        if not wait_until(partial(_is_established, cluster, definition), ESTABLISHED_SECONDS, 0.1):
            raise PlatformError(
                "a CustomResourceDefinition is not established",
                where=definition["metadata"]["name"],
                found="no condition Established after %d s" % ESTABLISHED_SECONDS,
                expected="a definition that the API server accepts and serves",
                fix="look at its status for a conflict of names, then run again",
                reason="timeout",
            )
    cluster.forget_resources()


def _is_established(cluster: Cluster, definition: Object) -> bool:
    live = cluster.get(definition)
    found = condition_of(live, "Established") if live else None
    return found is not None and found.get("status") == "True"
