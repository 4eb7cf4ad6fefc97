# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``rollback``: one release goes back to a revision that Helm still has.

What would be lost is found before the first write. Helm makes a new revision of the old one's manifest, so the history
goes on and the way forward again is a rollback or ``site.yml``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import aligned
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import volumes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.installation import SCALABLE
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.rendering import recorded
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import (
    changed_paths,
    diff_entry,
    plain,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import (
    Key,
    autoscaled,
    label_of,
    without_replicas,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import HISTORY_MAX, Helm
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Release, Revision
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed import components as installed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import Component
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.redaction import Redaction
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollback.loss import losses

RESULT_HOLDS_NONE_OF = installed.RESULT_HOLDS_NONE_OF
secrets_of = installed.secrets_of

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "components": installed.COMPONENTS,
    "component": {"type": "str", "required": True},
    "release": {"type": "str", "default": ""},
    "revision": {"type": "int", "default": 0},
    "helm_binary": {"type": "str", "default": "helm"},
}


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[[dict[str, Any]], Cluster] = Cluster,
) -> dict[str, Any]:
    """Bring the release back; in check mode, tell what would become of it. The result says what to wait for."""
    everything = installed.read(params["components"])
    (component,) = _component(everything, params["component"])
    spec = _release(component, params["release"])
    cluster = connect(params)
    label = "release %s/%s" % (spec["namespace"], spec["name"])
    history = helm_release.histories(cluster, spec["namespace"], [spec["name"]])[spec["name"]]
    told = _told(cluster, history)
    chosen = _revision(history, params["revision"], label, told)
    if history[0].status not in helm_release.SETTLED:
        raise PlatformError(
            "another helm works on this release",
            where=label,
            found=f"revision {history[0].number} is {history[0].status}",
            expected="a release that nobody works on",
            fix="wait until it has ended, or run site.yml, which goes on from what a killed run has left",
            reason="busy",
        )
    now, then = _read(cluster, history[0], label), _read(cluster, chosen, label)
    before = recorded(now, spec["namespace"])
    after = recorded(then, spec["namespace"])
    scaled = autoscaled(after.objects.values(), spec["namespace"])
    if cluster.knows("autoscaling/v2", "HorizontalPodAutoscaler"):
        live = cluster.list("autoscaling/v2", "HorizontalPodAutoscaler", spec["namespace"])
        scaled |= autoscaled(live, spec["namespace"])
    changes = _changes(before.objects, after.objects, scaled)
    is_there = not changes and now.status == helm_release.DEPLOYED
    errors = [] if is_there else losses(now, then, before.objects, after.objects)
    if errors:
        raise PlatformError.of_many(
            f"{label} would lose data at revision {chosen.number}, and nothing was changed", errors
        )
    grown = volumes.changes(cluster, after.objects, spec["name"])
    if grown:
        raise PlatformError(
            "the older revision has other volumes",
            where=label,
            found="; ".join(grown.described()),
            expected="the volumes that there are",
            fix="change the inventory and run site.yml, which lets volumes grow",
            reason="volume",
        )
    counts = _counts(cluster, after.objects, scaled, spec["namespace"])
    stays = hooks_that_stay(before.hooks, after.hooks)
    lines = _lines(label, now, then, changes, stays, told, is_there)
    for line in lines:
        progress(line)
    result: dict[str, Any] = {
        "changed": not is_there,
        "release": label,
        "from_revision": history[0].number,
        "to_revision": chosen.number,
        "revisions": told,
        "changes": list(changes.values()),
        "hooks_that_stay": stays,
        "table": lines,
        "workloads": [one for each in component["rollouts"] for one in each["workloads"]],
        "timeout_seconds": max(
            [each["timeout_seconds"] for each in component["rollouts"]] or [spec["timeout_seconds"]]
        ),
    }
    if diff or check_mode:
        # The difference is what this is asked for.
        result["diff"] = _diff(label, before.objects, after.objects, changes)
    if is_there or check_mode:
        return result
    with Helm(params["helm_binary"], cluster) as helm:
        helm.version()
        helm.rollback(spec["name"], spec["namespace"], chosen.number, spec["timeout_seconds"])
    for key, count in counts.items():
        ref = {"apiVersion": after.objects[key]["apiVersion"], "kind": key[1], "namespace": key[2], "name": key[3]}
        cluster.patch(ref, {"spec": {"replicas": count}}, "helm")
    newest = helm_release.histories(cluster, spec["namespace"], [spec["name"]])[spec["name"]]
    return {**result, "revision": newest[0].number}


def _component(everything: list[Component], name: str) -> list[Component]:
    known = [one["name"] for one in everything if one["releases"]]
    if name not in known:
        raise PlatformError(
            "component names nothing that has a release",
            found=name or "nothing",
            expected=", ".join(known),
            fix="correct component",
            reason="argument",
        )
    return [one for one in everything if one["name"] == name]


def _release(component: Component, name: str) -> Object:
    names = [spec["name"] for spec in component["releases"]]
    if name in names:
        return component["releases"][names.index(name)]
    if not name and len(names) == 1:
        return component["releases"][0]
    raise PlatformError(
        "the component has several releases" if not name else "the component has no such release",
        where=component["name"],
        found=name or "no rollback_release",
        expected="one of %s" % ", ".join(names),
        fix="name it in rollback_release",
        reason="argument",
    )


def _told(cluster: Cluster, history: list[Revision]) -> list[dict[str, Any]]:
    """The revisions, newest first, as a person chooses among them."""
    found = []
    for revision in history:
        record = helm_release.read(cluster, revision)
        if record is not None:
            deployed = str((record.record.get("info") or {}).get("last_deployed") or "")[:19]
            found.append(
                {
                    "revision": revision.number,
                    "status": record.status,
                    "chart": f"{record.chart_name}-{record.chart_version}",
                    "deployed": deployed,
                    "description": record.description[:80],
                }
            )
    return found


def _table(told: list[dict[str, Any]]) -> list[str]:
    rows = [[str(one[key]) for key in ("revision", "deployed", "status", "chart", "description")] for one in told]
    return aligned(["revision", "deployed", "status", "chart", "description"], rows, left=5)


def _revision(history: list[Revision], number: int, label: str, told: list[dict[str, Any]]) -> Revision:
    for revision in history:
        if revision.number == number:
            return revision
    raise PlatformError(
        "there is no such revision" if number else "no revision was named",
        where=label,
        found=str(number) if number else "revision is 0",
        expected="\n" + "\n".join(_table(told)) + "\n" if told else "an installed release; there is none",
        fix=f"name one of them in revision; Helm keeps {HISTORY_MAX}" if told else "run site.yml",
        reason="argument",
    )


def _read(cluster: Cluster, revision: Revision, label: str) -> Release:
    found = helm_release.read(cluster, revision)
    if found is None:
        raise PlatformError(
            "a revision has gone meanwhile",
            where=label,
            found=f"no record of revision {revision.number}",
            expected="that nobody else works on the release",
            fix="run again",
            reason="conflict",
        )
    return found


def _changes(before: dict[Key, Object], after: dict[Key, Object], scaled: set[tuple[str, str, str]]) -> dict[Key, str]:
    found = {}
    for key in sorted({*before, *after}):
        if key not in before:
            found[key] = "%s comes back" % label_of(key)
        elif key not in after:
            found[key] = "%s goes" % label_of(key)
        else:
            one, other = before[key], after[key]
            if key[1:] in scaled:
                one, other = without_replicas(one), without_replicas(other)
            paths = changed_paths(one, other)
            if paths:
                more = f" and {len(paths) - 6} more" if len(paths) > 6 else ""
                found[key] = "%s: %s%s" % (label_of(key), ", ".join(paths[:6]), more)
    return found


def _counts(
    cluster: Cluster, after: dict[Key, Object], scaled: set[tuple[str, str, str]], namespace: str
) -> dict[Key, int]:
    """The live counts of what an autoscaler scales and the older manifest would set."""
    counted = [
        key
        for key, obj in after.items()
        if key[1] in SCALABLE and key[1:] in scaled and "replicas" in (obj.get("spec") or {})
    ]
    refs = [
        {"apiVersion": after[key]["apiVersion"], "kind": key[1], "namespace": key[2] or namespace, "name": key[3]}
        for key in counted
    ]
    lives = cluster.get_many(refs)
    return {
        key: live["spec"]["replicas"]
        for key, live in zip(counted, lives, strict=True)
        if live is not None and "replicas" in (live.get("spec") or {})
    }


def hooks_that_stay(before: dict[Key, Object], after: dict[Key, Object]) -> list[str]:
    """What hooks of the newer revision have done and no hook undoes: what a Job wrote to a database stays there."""
    undone = {key for key, obj in after.items() if {"pre-rollback", "post-rollback"} & _events(obj)}
    found = []
    for key, obj in sorted(before.items()):
        events = _events(obj) - {"test", "pre-delete", "post-delete"}
        if key[1] not in ("Job", "Pod") or not events or key in undone:
            continue
        same = "the same in both" if key in after and plain(after[key]) == plain(obj) else "another one"
        found.append(f"{label_of(key)} ({', '.join(sorted(events))}; {same})")
    return found


def _events(obj: Object) -> set[str]:
    text = str(((obj.get("metadata") or {}).get("annotations") or {}).get("helm.sh/hook") or "")
    return {part.strip() for part in text.split(",") if part.strip()}


def _lines(
    label: str,
    now: Release,
    then: Release,
    changes: dict[Key, str],
    stays: list[str],
    told: list[dict[str, Any]],
    is_there: bool,
) -> list[str]:
    if is_there:
        return [f"{label}: revision {now.revision.number} is as revision {then.revision.number} was; nothing to do"]
    lines = [f"{label}: from revision {now.revision.number} to what revision {then.revision.number} was", *_table(told)]
    lines += [f"  {line}" for line in changes.values()]
    if stays:
        lines.append("what these have done does not go back: " + "; ".join(stays))
    lines.append("the inventory still has the newer one: the next site.yml goes forward again, unless it is changed")
    return lines


def _diff(
    label: str, before: dict[Key, Object], after: dict[Key, Object], changes: dict[Key, str]
) -> list[dict[str, str]]:
    redact = Redaction()
    return [diff_entry(f"{label}: {label_of(key)}", before.get(key), after.get(key), redact) for key in changes]
