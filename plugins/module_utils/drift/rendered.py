# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan would change of releases, batches and Secrets, told by the modules that would change it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.chart import Looked, look
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.difference import (
    CHANGED,
    EXTRA,
    MISSING,
    REFUSED,
    Difference,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import Component
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.objects import in_files
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.policy import Batch
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

_ABOUT_OBJECT = re.compile(
    r"^(?P<object>[A-Z]\w+ \S+?)(?:: (?P<fields>.+)| is (?P<how>new|gone from the chart|missing))$"
)
_BATCH = {"created": MISSING, "updated": CHANGED, "adopted": CHANGED, "deleted": EXTRA, "released": EXTRA}


def of_releases(
    cluster: Cluster, helm_binary: str, components: list[Component]
) -> tuple[list[Difference], list[Looked]]:
    """The differences, and what the charts make, in the order of the components' releases."""
    owned = [(one["name"], spec) for one in components for spec in [*one["releases"], *one["absent"]]]
    if not owned:
        return [], []
    looked = look(cluster, helm_binary, [spec for _name, spec in owned])
    found: list[Difference] = []
    for (name, spec), one in zip(owned, looked, strict=True):
        found += _of_release(name, "release %s/%s" % (spec["namespace"], spec["name"]), one.outcome)
    return found, looked


def _of_release(component: str, label: str, outcome: Object | PlatformError) -> Iterator[Difference]:
    if isinstance(outcome, PlatformError):
        yield _refused(component, label, outcome)
        return
    action = outcome["action"]
    if action == "uninstalled":
        yield Difference(component, EXTRA, label)
        return
    if action == "installed":
        yield Difference(component, MISSING, label)
        return
    for name in outcome["missing"]:
        yield Difference(component, MISSING, name)
    for name, fields in outcome["drifted"].items():
        yield Difference(component, CHANGED, name, list(fields))
    told = {*outcome["missing"], *outcome["drifted"]}
    further = []
    for why in outcome["why"]:
        about = _ABOUT_OBJECT.match(why)
        if about is None or "was changed" in why:
            further += [] if any(name in why for name in told) else [why]
        elif about["object"] not in told:
            fields = (about["fields"] or "").split(", ") if about["fields"] else []
            kind = {"new": MISSING, "missing": MISSING, "gone from the chart": EXTRA}.get(about["how"] or "", CHANGED)
            yield Difference(component, kind, about["object"], fields)
    if further:
        yield Difference(component, CHANGED, label, note="; ".join(further))


def of_batches(cluster: Cluster, components: list[Component]) -> list[Difference]:
    """What an apply of each batch would do."""
    owned = [(one["name"], batch) for one in components for batch in one["batches"]]
    results = concurrently(partial(_of_batch, cluster), owned, limit=4)
    found: list[Difference] = []
    for (name, batch), result in zip(owned, results, strict=True):
        if isinstance(result, PlatformError):
            found.append(_refused(name, "batch %s/%s" % (batch["namespace"], batch["name"]), result))
        else:
            found += result
    return found


def _of_batch(cluster: Cluster, owned: tuple[str, dict[str, Any]]) -> list[Difference]:
    component, given = owned
    batch = Batch(cluster, given["name"], given["namespace"], check_mode=True)
    if given["state"] == "absent":
        batch.remove(given["objects"])
    else:
        batch.apply(
            [*given["objects"], *in_files(given["files"])],
            given["prune"],
            skip_unserved=given["unserved"] == "skip",
            leave_existing=given["existing"] == "leave",
        )
    return [
        Difference(
            component,
            _BATCH[entry["action"]],
            spoken(entry),
            list(entry["fields"]),
            "it is not the platform's" if entry["action"] == "adopted" else "",
        )
        for entry in batch.result()["objects"]
        if entry["action"] in _BATCH
    ]


def of_secrets(cluster: Cluster, components: list[Component]) -> list[Difference]:
    """Secrets of the module ``secret``: what is missing or has another value than the inventory or the other copies
    say, and values that somebody else has written since. Keys are named, never values.
    """
    with_secrets = [one for one in components if one["secrets"]]
    results = concurrently(partial(_of_secrets, cluster), with_secrets, limit=4)
    found: list[Difference] = []
    for one, result in zip(with_secrets, results, strict=True):
        if isinstance(result, PlatformError):
            found.append(_refused(one["name"], "its Secrets", result))
        else:
            found += result
    return found


def _of_secrets(cluster: Cluster, component: Component) -> list[Difference]:
    params = {"secrets": component["secrets"]}
    outcomes = secret.run(params, check_mode=True, connect=lambda params: cluster)["secrets"]
    refs = [{"apiVersion": "v1", "kind": "Secret", **entry} for entry in outcomes]
    found = []
    for ref, entry, live in zip(refs, outcomes, cluster.get_many(refs), strict=True):
        name = spoken(ref)
        if entry["action"] in ("created", "deleted"):
            found.append(Difference(component["name"], MISSING if entry["action"] == "created" else EXTRA, name))
            continue
        fields = [f"data.{key} ({how})" for key, how in entry["key_actions"].items() if how != "unchanged"]
        for key, (writer, when) in sorted(rewritten(live or {}, entry["key_actions"]).items()):
            fields.append(f"data.{key} (written by {writer} at {when})")
        if fields or entry["action"] == "updated":
            found.append(Difference(component["name"], CHANGED, name, fields or ["metadata.labels"]))
    return found


def rewritten(live: Object, keys: Any) -> dict[str, tuple[str, str]]:
    """{key: (who, when)} of the values that somebody else wrote after the module had made the Secret.

    It is the API server that keeps who wrote a field last (managedFields), so no hash of a value has to be kept
    anywhere. What was there before the module came is a value that it was given, and no change.
    """
    entries = [
        entry for entry in (live.get("metadata") or {}).get("managedFields") or [] if not entry.get("subresource")
    ]

    def written(entry: Object) -> set[str]:
        data = (entry.get("fieldsV1") or {}).get("f:data") or {}
        return {name.removeprefix("f:") for name in data if name.startswith("f:")}

    ours = [entry for entry in entries if entry.get("manager") == secret.FIELD_MANAGER]
    if not ours:
        return {}
    since = max(str(entry.get("time") or "") for entry in ours)
    mine = set().union(*map(written, ours))
    return {
        key: (str(entry.get("manager")), str(entry.get("time")))
        for entry in entries
        if entry not in ours and str(entry.get("time") or "") > since
        for key in (written(entry) & set(keys)) - mine
    }


def _refused(component: str, label: str, error: PlatformError) -> Difference:
    return Difference(component, REFUSED, label, note=": ".join(part for part in (error.what, error.found) if part))
