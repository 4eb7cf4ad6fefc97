# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``drift``: what of the running platform is not as the inventory would render it.

There is one comparison in the house: it is the modules that would bring the platform to the inventory's state that say,
in check mode, what they would do. Here their answers are put together, and beside them stands what no module looks at:
objects of others, and what the containers really run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import kept
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.chart import Looked
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently, side_by_side
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift import foreign, images, rendered
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.difference import (
    Difference,
    ordered,
    table,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import Key
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed import components as installed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import Component
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

RESULT_HOLDS_NONE_OF = installed.RESULT_HOLDS_NONE_OF
secrets_of = installed.secrets_of

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "components": installed.COMPONENTS,
    "only": installed.ONLY,
    "helm_binary": {"type": "str", "default": "helm"},
    "fail": {"type": "bool", "default": True},
    "output": {"type": "path"},
}


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[[dict[str, Any]], Cluster] = Cluster,
) -> dict[str, Any]:
    """All differences. Any fails the task, unless it is only to tell."""
    everything = installed.read(params["components"])
    chosen = installed.chosen(everything, params["only"])
    found = look(connect(params), params["helm_binary"], everything, chosen)
    lines = table(found)
    counts: dict[str, int] = {}
    for one in found:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    said = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    names = ", ".join(one["name"] for one in chosen)
    summary = f"drift: {said}" if found else f"drift: none in {names}"
    for line in [*lines, summary]:
        progress(line)
    report = {
        "drift": bool(found),
        "components": [one["name"] for one in chosen],
        "counts": counts,
        "differences": [one.as_dict() for one in found],
    }
    result: dict[str, Any] = {"changed": False, **report, "table": lines}
    if params["output"]:
        kept(params["output"], json.dumps(report, indent=2) + "\n", check_mode)
    if found and params["fail"]:
        error = PlatformError(
            f"the platform is not as the inventory would have it: {said}",
            where=", ".join(sorted({one.component or "foreign" for one in found})),
            found="; ".join(f"{one.object} {one.kind}" for one in found[:5])
            + (f" and {len(found) - 5} more" if len(found) > 5 else ""),
            expected="what site.yml would make of the inventory",
            fix="site.yml brings it back; change the inventory to keep a change; remove what is foreign, or move it",
            reason="drift",
        )
        return {"failed": True, **result, **error.result()}
    return result


def look(cluster: Cluster, helm_binary: str, everything: list[Component], chosen: list[Component]) -> list[Difference]:
    """All differences of the chosen components. What is foreign is only known where all are looked at."""
    is_whole = len(chosen) == len(everything)
    namespaces = installed.namespaces(chosen)
    # One answer for all, which each part would ask for.
    cluster.api_versions()
    with side_by_side(5) as begin:
        releases = begin(rendered.of_releases, cluster, helm_binary, chosen)
        batches = begin(rendered.of_batches, cluster, chosen)
        secrets = begin(rendered.of_secrets, cluster, chosen)
        pods = begin(_pods, cluster, namespaces)
        objects = begin(foreign.objects_in, cluster, namespaces) if is_whole else None
        found, looked = releases.result()
        found += batches.result() + secrets.result()
    for one in chosen:
        for each in one["unknown"]:
            note = f"what the task «{each.get('task')}» makes is not known: {each.get('why')}"
            found.append(Difference(one["name"], "refused", one["name"], note=note))
    made = _made(chosen, looked)
    templates = images.Templates()
    for component, namespace, obj in made:
        templates.add(component, namespace, obj)
    found += images.differences(pods.result(), templates)
    if objects is not None:
        keys = _keys(chosen, looked)
        named = foreign.referenced_by((namespace, obj) for _component, namespace, obj in made)
        found += foreign.foreign(objects.result(), installed.Claims(everything), keys, named)
    return ordered(found)


def _made(components: list[Component], looked: list[Looked]) -> list[tuple[str, str, Object]]:
    """(component, namespace, object) of all that charts and batches make."""
    results = iter(looked)
    found: list[tuple[str, str, Object]] = []
    for one in components:
        for spec in [*one["releases"], *one["absent"]]:
            made = next(results).rendered.everything()
            found += [(one["name"], spec["namespace"], obj) for obj in made.values()]
        for batch in one["batches"]:
            found += [(one["name"], batch["namespace"], obj) for obj in batch["objects"]]
    return found


def _keys(components: list[Component], looked: list[Looked]) -> dict[tuple[str, str], set[Key]]:
    """What each release's chart makes; a release whose chart could not be rendered is left out."""
    specs = [spec for one in components for spec in [*one["releases"], *one["absent"]]]
    return {
        (spec["namespace"], spec["name"]): set(one.rendered.everything())
        for spec, one in zip(specs, looked, strict=True)
        if one.rendered.everything()
    }


def _pods(cluster: Cluster, namespaces: set[str]) -> list[Object]:
    results = concurrently(lambda name: cluster.list("v1", "Pod", name), sorted(namespaces))
    return [pod for result in results if not isinstance(result, PlatformError) for pod in result]
