# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``chart``: bring Helm releases to what their charts render to, and nothing more.

The order of work for one release: render it, read Helm's record and the live objects, compare, and only then act. What
differs decides how: a changed manifest is Helm's business (a new revision); objects that somebody changed or deleted
behind Helm's back are applied again as they were rendered, without a new revision and without running hooks, so that
the history keeps the revisions that a rollback can go to.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils import chart_volumes, helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils import helm_manifest as manifest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.cluster import (
    Cluster,
    auth_argument_spec,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import Chart, Helm, is_alive, this_run
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm_release import Release, Revision
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout import unready

Object = dict[str, Any]
Progress = Callable[[str], None]

FIELD_MANAGER = "helm"
"""Helm's own name. Under a second name, fields that a later chart drops would stay: server-side apply removes a field
only when its last manager lets it go, and Helm 4 applies as ``helm``."""

RELEASES_AT_ONCE = 4
SCALABLE = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")

ARGUMENT_SPEC: dict[str, Any] = {
    "releases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "chart": {"type": "str"},
            "repository": {"type": "str"},
            "version": {"type": "str"},
            "values": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "timeout_seconds": {"type": "int", "default": 300},
            "create_namespace": {"type": "bool", "default": False},
            "crds": {"type": "str", "choices": ["apply", "create", "skip"], "default": "apply"},
            "after": {"type": "list", "elements": "str", "default": []},
            "plain_http": {"type": "bool", "default": False},
            "ignore": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "kind": {"type": "str", "required": True},
                    "name": {"type": "str", "default": "*"},
                    "path": {"type": "str", "required": True},
                },
            },
        },
        "required_if": [("state", "present", ("chart",))],
    },
    "helm_binary": {"type": "str", "default": "helm"},
    "pending_grace_seconds": {"type": "int", "default": 60},
    **auth_argument_spec(),
}


def run(params: Object, check_mode: bool = False, diff: bool = False, progress: Progress | None = None) -> Object:
    """Bring all releases to their states. The result has one entry for each, in the order of ``params``."""
    specs = params["releases"]
    waves = _waves(specs)
    cluster = Cluster(params)
    with Helm(params["helm_binary"], cluster) as helm:
        context = _Context(
            cluster=cluster,
            helm=helm,
            check_mode=check_mode,
            diff=diff,
            progress=progress or (lambda line: None),
            pending_grace_seconds=params["pending_grace_seconds"],
            histories=_histories(cluster, specs),
        )
        outcomes: dict[int, Object | PlatformError] = {}
        for wave in waves:
            results = concurrently(lambda index: _bring(specs[index], context), wave, RELEASES_AT_ONCE)
            outcomes.update(zip(wave, results, strict=True))
            if any(isinstance(result, PlatformError) for result in results):
                break
    return _result(specs, outcomes)


def _result(specs: list[Object], outcomes: dict[int, Object | PlatformError]) -> Object:
    done = [outcomes[index] for index in sorted(outcomes) if not isinstance(outcomes[index], PlatformError)]
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, PlatformError)]
    entries = [entry for outcome in done for entry in outcome.pop("diff")]
    result: Object = {"changed": any(outcome["changed"] for outcome in done), "releases": done}
    if entries:
        result["diff"] = entries
    if errors:
        left = [spec["name"] for index, spec in enumerate(specs) if index not in outcomes]
        error = PlatformError.of_many("%d of %d releases failed" % (len(errors), len(specs)), errors)
        result.update(failed=True, not_started=left, **error.result())
    return result


def _waves(specs: list[Object]) -> list[list[int]]:
    """Indexes of the releases in groups: each group's members wait for earlier groups only (``after``)."""
    identities = Counter((spec["namespace"], spec["name"]) for spec in specs)
    twice = ["%s/%s" % identity for identity, count in identities.items() if count > 1]
    names = {spec["name"] for spec in specs}
    unknown = sorted({name for spec in specs for name in spec["after"] if name not in names})
    if twice or unknown:
        raise PlatformError(
            "the list of releases is not consistent",
            where="releases",
            found="named twice: %s" % ", ".join(twice) if twice else "after names no release: %s" % ", ".join(unknown),
            expected="each release once, and in after only names of the list",
            fix="correct releases",
            reason="arguments",
        )
    waves: list[list[int]] = []
    done: set[str] = set()
    left = list(range(len(specs)))
    while left:
        wave = [index for index in left if set(specs[index]["after"]) <= done]
        if not wave:
            raise PlatformError(
                "releases wait for each other",
                where="releases",
                found=", ".join("%s after %s" % (specs[i]["name"], ", ".join(specs[i]["after"])) for i in left),
                expected="an order without a circle",
                fix="remove one of the after entries",
                reason="arguments",
            )
        left = [index for index in left if index not in wave]
        # A name may be used in two namespaces: it is done when both are.
        waiting = {specs[index]["name"] for index in left}
        done |= {specs[index]["name"] for index in wave} - waiting
        waves.append(wave)
    return waves


def _histories(cluster: Cluster, specs: list[Object]) -> dict[tuple[str, str], list[Revision]]:
    namespaces = sorted({spec["namespace"] for spec in specs})

    def of_namespace(namespace: str) -> dict[str, list[Revision]]:
        names = [spec["name"] for spec in specs if spec["namespace"] == namespace]
        return helm_release.histories(cluster, namespace, names)

    found: dict[tuple[str, str], list[Revision]] = {}
    for namespace, histories in zip(namespaces, concurrently(of_namespace, namespaces), strict=True):
        if isinstance(histories, PlatformError):
            raise histories
        found.update({(namespace, name): history for name, history in histories.items()})
    return found


@dataclass
class _Context:
    cluster: Cluster
    helm: Helm
    check_mode: bool
    diff: bool
    progress: Progress
    pending_grace_seconds: int
    histories: dict[tuple[str, str], list[Revision]]


def _bring(spec: Object, context: _Context) -> Object:
    work = _Work(spec, context)
    return work.absent() if spec["state"] == "absent" else work.present()


@dataclass
class _Rendered:
    """A rendered chart, split by what happens to its parts."""

    objects: dict[manifest.Key, Object]
    hooks: dict[manifest.Key, Object]
    crds: dict[manifest.Key, Object]
    texts: Counter[str]


@dataclass
class _Drift:
    """What of the rendered objects is not so in the cluster."""

    missing: dict[manifest.Key, Object] = field(default_factory=dict)
    changed: dict[manifest.Key, tuple[Object, Object, Object]] = field(default_factory=dict)
    """key: (what to apply, the live object, what it would become)"""
    paths: dict[manifest.Key, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed)

    def keep_only(self, keys: set[manifest.Key]) -> None:
        """Forget the other objects."""
        for part in (self.missing, self.changed, self.paths):
            for key in [key for key in part if key not in keys]:
                del part[key]


class _Work:
    """What is done for one release."""

    def __init__(self, spec: Object, context: _Context) -> None:
        self.spec = spec
        self.context = context
        self.cluster = context.cluster
        self.helm = context.helm
        self.name: str = spec["name"]
        self.namespace: str = spec["namespace"]
        self.label = "release %s/%s" % (self.namespace, self.name)
        self.redact = manifest.Redaction()
        self.ignored = [manifest.Ignored(**entry) for entry in spec["ignore"]]
        self.diffs: list[dict[str, str]] = []
        self._autoscalers: dict[str, set[tuple[str, str, str]]] = {}

    # --- absent ------------------------------------------------------------------------------------------------------

    def absent(self) -> Object:
        """Uninstall the release if there is anything of it."""
        history = self.context.histories[self.namespace, self.name]
        if not history:
            return self._outcome("unchanged", None, [])
        release = helm_release.read(self.cluster, history[0])
        if self.context.diff and release is not None:
            for key, obj in self._stored_objects(release).items():
                self._add_diff(key, obj, None)
        why = ["revision %d is %s" % (history[0].number, history[0].status)]
        if not self.context.check_mode:
            if release is not None and release.status not in helm_release.SETTLED:
                self._heal(release)
            self.helm.uninstall(self.name, self.namespace, self.spec["timeout_seconds"])
        return self._outcome("uninstalled", None, why)

    # --- present -----------------------------------------------------------------------------------------------------

    def present(self) -> Object:
        """Install, upgrade or repair the release, or find that there is nothing to do."""
        spec = self.spec
        chart = self.helm.local_chart(spec["chart"], spec["repository"], spec["version"], spec["plain_http"])
        history = self.context.histories[self.namespace, self.name]
        rendered, release = self._rendered_and_recorded(chart, history)
        why, stuck = self._reasons(chart, rendered, release)
        crds = self._crds_to_apply(rendered)
        volumes = chart_volumes.changes(self.cluster, rendered.objects, self.name)
        drift = self._drift(rendered) if release is not None else _Drift()
        if why and release is not None:
            # What the chart itself changes differs from the live object too, and is no drift.
            drift.keep_only(self._unchanged_in_chart(rendered, release))
        if not why and not drift and not crds and not volumes:
            return self._outcome("unchanged", history[0].number, [], chart)

        action = "installed" if release is None or stuck == "gone" else "upgraded" if why else "repaired"
        why = why or [*self._described(drift)]
        why += volumes.described()
        why += [
            "%s %s" % (manifest.label_of(key), "is missing" if new else "differs") for key, (dummy, new) in crds.items()
        ]
        if self.context.diff:
            self._show(rendered, release if stuck != "gone" else None, drift, crds)
        if self.context.check_mode:
            number = history[0].number + (action != "repaired") if history else 1
            return self._outcome(action, number, why, chart, drift)

        self._apply_crds([obj for obj, dummy in crds.values()])
        if action == "repaired":
            chart_volumes.make(self.cluster, volumes, FIELD_MANAGER)
            self._repair(drift)
            return self._outcome(action, history[0].number, why, chart, drift)
        if release is not None and release.status not in helm_release.SETTLED:
            self._heal(release)
        if stuck == "uninstalling":
            self.helm.uninstall(self.name, self.namespace, spec["timeout_seconds"])
        chart_volumes.make(self.cluster, volumes, FIELD_MANAGER)
        run_name = this_run()
        try:
            self.helm.upgrade(
                chart,
                self.name,
                self.namespace,
                spec["values"],
                spec["timeout_seconds"],
                {helm_release.RUN_LABEL: run_name} if run_name else {},
                spec["create_namespace"],
                self._replicas_to_keep(rendered, release),
            )
        except PlatformError as error:
            self._tell_of_hooks(error, rendered)
            raise
        self.cluster.forget_resources()
        # Helm 3 does not look at the live state of custom resources: what it left is applied here.
        self._repair(self._drift(rendered))
        latest = helm_release.histories(self.cluster, self.namespace, [self.name])[self.name]
        return self._outcome(action, latest[0].number if latest else None, why, chart, drift)

    def _tell_of_hooks(self, error: PlatformError, rendered: _Rendered) -> None:
        """Add to a hook's failure what its Job's pod and log say; Helm tells no more than the Job's name."""
        if error.reason not in ("hook", "timeout"):
            return
        refs = [self._ref(key, obj) for key, obj in rendered.hooks.items() if key[1] == "Job"]
        # A failed request costs details here, not the message.
        with contextlib.suppress(PlatformError):
            jobs = [ref for ref, live in zip(refs, self.cluster.get_many(refs), strict=True) if live is not None]
            told = unready(self.cluster, jobs)
            if told:
                error.found += "\n%s\n" % told

    def _rendered_and_recorded(self, chart: Chart, history: list[Revision]) -> tuple[_Rendered, Release | None]:
        # The first revision was rendered as an install, later ones as upgrades; a chart may tell them apart.
        is_upgrade = bool(history) and history[0].number > 1

        def render() -> _Rendered:
            text = self.helm.template(chart, self.name, self.namespace, self.spec["values"], is_upgrade)
            return self._split(text)

        def record() -> Release | None:
            return helm_release.read(self.cluster, history[0]) if history else None

        rendered, release = concurrently(lambda function: function(), [render, record])
        for result in (rendered, release):
            if isinstance(result, PlatformError):
                raise result
        return rendered, release

    def _split(self, text: str) -> _Rendered:
        rendered = _Rendered({}, {}, {}, Counter())
        for document in manifest.documents(text):
            if document.is_crd_file:
                rendered.crds.update({self._key(obj): obj for obj in document.objects})
                continue
            rendered.texts[_comparable(document.text)] += 1
            for obj in document.objects:
                (rendered.hooks if manifest.is_hook(obj) else rendered.objects)[self._key(obj)] = obj
        return rendered

    def _key(self, obj: Object) -> manifest.Key:
        return manifest.key_of(obj, self.namespace)

    def _stored_objects(self, release: Release) -> dict[manifest.Key, Object]:
        return {
            self._key(obj): obj
            for text in [release.manifest, *release.hooks]
            for document in manifest.documents(text)
            for obj in document.objects
        }

    # --- what Helm's record says -------------------------------------------------------------------------------------

    def _reasons(self, chart: Chart, rendered: _Rendered, release: Release | None) -> tuple[list[str], str]:
        """Why a new revision is needed (empty if it is not), and ``gone`` or ``uninstalling`` for those states."""
        if release is None:
            return ["it is not installed"], ""
        number = release.revision.number
        if release.status in ("uninstalled", "uninstalling"):
            stuck = "gone" if release.status == "uninstalled" else "uninstalling"
            return ["revision %d is %s" % (number, release.status)], stuck
        if release.status != helm_release.DEPLOYED:
            return ["revision %d is %s: %s" % (number, release.status, release.description[:300])], ""
        why = []
        if (release.chart_name, release.chart_version) != (chart.name, chart.version):
            why.append(
                "chart %s %s instead of %s %s" % (chart.name, chart.version, release.chart_name, release.chart_version)
            )
        values = manifest.changed_paths(release.values, self.spec["values"])
        if values:
            why.append("values: %s" % ", ".join(values[:10]) + (" and more" if len(values) > 10 else ""))
        why.extend(self._manifest_changes(chart, rendered, release))
        return why, ""

    def _manifest_changes(self, chart: Chart, rendered: _Rendered, release: Release) -> list[str]:
        texts = Counter(
            _comparable(document.text)
            for text in [release.manifest, *release.hooks]
            for document in manifest.documents(text)
        )
        if texts == rendered.texts:
            return []
        before, after = self._stored_objects(release), {**rendered.objects, **rendered.hooks}
        changes: dict[manifest.Key, str] = {}
        for key in sorted({*before, *after}):
            label = manifest.label_of(key)
            if key not in before:
                changes[key] = "%s is new" % label
            elif key not in after:
                changes[key] = "%s is gone from the chart" % label
            else:
                one, other = before[key], after[key]
                if key[1] in SCALABLE and self._is_autoscaled(rendered, key):
                    one, other = manifest.without_replicas(one), manifest.without_replicas(other)
                paths = manifest.changed_paths(one, other)
                if paths:
                    changes[key] = "%s: %s" % (label, ", ".join(paths[:5]))
        if changes:
            self._keep_chance(changes, before, rendered, chart, release)
        return list(changes.values())

    def _keep_chance(
        self,
        changes: dict[manifest.Key, str],
        before: dict[manifest.Key, Object],
        rendered: _Rendered,
        chart: Chart,
        release: Release,
    ) -> None:
        """Take out of changes what the chart renders anew each time (random passwords, the time): only what two
        renderings of the same input agree on can be a change. The installed object stands in for the rendered one.
        """
        again = self._split(
            self.helm.template(
                chart, self.name, self.namespace, self.spec["values"], is_upgrade=release.revision.number > 1
            )
        )
        for now, then in ((rendered.objects, again.objects), (rendered.hooks, again.hooks)):
            for key in [key for key in now if key in changes and key in before and key in then]:
                chance = set(manifest.changed_paths(now[key], then[key]))
                if chance and set(manifest.changed_paths(before[key], now[key])) <= chance:
                    self.context.progress(
                        "%s: the chart renders %s of %s anew each time; the installed value is kept"
                        % (self.label, ", ".join(sorted(chance)[:3]), manifest.label_of(key))
                    )
                    now[key] = before[key]
                    del changes[key]

    def _unchanged_in_chart(self, rendered: _Rendered, release: Release) -> set[manifest.Key]:
        stored = self._stored_objects(release)
        return {key for key, obj in rendered.objects.items() if manifest.plain(stored.get(key)) == manifest.plain(obj)}

    # --- what the cluster says ---------------------------------------------------------------------------------------

    def _ref(self, key: manifest.Key, obj: Object) -> Object:
        return {"apiVersion": obj.get("apiVersion", ""), "kind": key[1], "namespace": key[2], "name": key[3]}

    def _drift(self, rendered: _Rendered) -> _Drift:
        drift = _Drift()
        wanted = {key: self._owned(obj) for key, obj in rendered.objects.items()}
        live = dict(
            zip(
                wanted,
                self.cluster.get_many([self._ref(key, obj) for key, obj in wanted.items()]),
                strict=True,
            )
        )
        doubtful = []
        for key, obj in wanted.items():
            found = live[key]
            if found is None:
                # A finished Job with a time to live is meant to go.
                if not (key[1] == "Job" and "ttlSecondsAfterFinished" in (obj.get("spec") or {})):
                    drift.missing[key] = obj
                continue
            compared = obj
            for ignored in self.ignored:
                compared = ignored.drop_from(compared)
            paths = manifest.missing_from(compared, found)
            if ("spec", "replicas") in paths and self._is_autoscaled(rendered, key):
                paths.remove(("spec", "replicas"))
            paths = [path for path in paths if not (path[-1] == "caBundle" and _at(obj, path) in ("", None))]
            if paths:
                doubtful.append((key, self._to_apply(obj, found, rendered, key), found, paths))
        for (key, obj, found, paths), result in zip(
            doubtful, concurrently(lambda entry: self._would_become(entry[1]), doubtful), strict=True
        ):
            if isinstance(result, PlatformError):
                # A refused repair (an immutable field) is drift too, and the error comes when it is tried.
                drift.changed[key] = (obj, found, obj)
                drift.paths[key] = [".".join(path) for path in paths]
                continue
            before, after = manifest.without_bookkeeping(found), manifest.without_bookkeeping(result)
            changed = manifest.changed_paths(before, after)
            if changed:
                drift.changed[key] = (obj, found, result)
                drift.paths[key] = changed
        return drift

    def _would_become(self, obj: Object) -> Object:
        if self.cluster.namespaced(obj["apiVersion"], obj["kind"]):
            obj = self._with_namespace(obj)
        return self.cluster.apply(obj, FIELD_MANAGER, dry_run=True)

    def _owned(self, obj: Object) -> Object:
        """The object as Helm stores it: with the marks of its release, which the template does not show."""
        stored = manifest.as_stored(obj)
        metadata = stored["metadata"] = dict(stored.get("metadata") or {})
        metadata["labels"] = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            "meta.helm.sh/release-name": self.name,
            "meta.helm.sh/release-namespace": self.namespace,
        }
        return stored

    def _to_apply(self, obj: Object, live: Object, rendered: _Rendered, key: manifest.Key) -> Object:
        """The object with the live value wherever somebody else owns the field. Left out, it would be removed."""
        for ignored in self.ignored:
            obj = ignored.keep_live(obj, live)
        if "replicas" in (obj.get("spec") or {}) and self._is_autoscaled(rendered, key):
            obj = {**obj, "spec": {**obj["spec"], "replicas": (live.get("spec") or {}).get("replicas")}}
        return obj

    def _autoscaled(self, rendered: _Rendered, namespace: str) -> set[tuple[str, str, str]]:
        """The workloads of a namespace that an HPA of the chart or of the cluster scales."""
        if namespace not in self._autoscalers:
            found = manifest.autoscaled(rendered.objects.values(), self.namespace)
            if self.cluster.knows("autoscaling/v2", "HorizontalPodAutoscaler"):
                live = self.cluster.list("autoscaling/v2", "HorizontalPodAutoscaler", namespace)
                found |= manifest.autoscaled(live, namespace)
            self._autoscalers[namespace] = found
        return self._autoscalers[namespace]

    def _is_autoscaled(self, rendered: _Rendered, key: manifest.Key) -> bool:
        return key[1:] in self._autoscaled(rendered, key[2])

    def _replicas_to_keep(self, rendered: _Rendered, release: Release | None) -> dict[str, int]:
        """The live replica counts of autoscaled workloads whose count Helm would set or remove."""
        if release is None:
            return {}
        stored = self._stored_objects(release)
        counted = [
            key
            for key, obj in rendered.objects.items()
            if key[1] in SCALABLE
            and ("replicas" in (obj.get("spec") or {}) or "replicas" in (stored.get(key, {}).get("spec") or {}))
            and self._is_autoscaled(rendered, key)
        ]
        live = self.cluster.get_many([self._ref(key, rendered.objects[key]) for key in counted])
        return {
            "/".join(key[1:]): obj["spec"]["replicas"]
            for key, obj in zip(counted, live, strict=True)
            if obj is not None and "replicas" in obj.get("spec", {})
        }

    def _repair(self, drift: _Drift) -> None:
        objects = [*drift.missing.values(), *(obj for obj, dummy, result in drift.changed.values())]
        # Namespaces, classes and roles before what stands in or on them.
        first = [obj for obj in objects if not self.cluster.namespaced(obj["apiVersion"], obj["kind"])]
        rest = [obj for obj in objects if obj not in first]
        for part in (first, rest):
            defaulted = [self._with_namespace(obj) if part is rest else obj for obj in part]
            self.cluster.apply_many(defaulted, FIELD_MANAGER)

    def _with_namespace(self, obj: Object) -> Object:
        metadata = obj["metadata"]
        return {**obj, "metadata": {**metadata, "namespace": metadata.get("namespace") or self.namespace}}

    # --- CRDs of the chart's crds folder -----------------------------------------------------------------------------

    def _crds_to_apply(self, rendered: _Rendered) -> dict[manifest.Key, tuple[Object, bool]]:
        """{key: (definition, whether it is new)}"""
        if self.spec["crds"] == "skip" or not rendered.crds:
            return {}
        wanted = {key: manifest.as_stored(obj) for key, obj in rendered.crds.items()}
        live = self.cluster.get_many([{**self._ref(key, obj), "namespace": ""} for key, obj in wanted.items()])
        found: dict[manifest.Key, tuple[Object, bool]] = {}
        for (key, obj), current in zip(wanted.items(), live, strict=True):
            if current is None:
                found[key] = (obj, True)
            elif self.spec["crds"] == "apply" and manifest.missing_from(obj, current):
                result = self._would_become(obj)
                if manifest.changed_paths(manifest.without_bookkeeping(current), manifest.without_bookkeeping(result)):
                    found[key] = (obj, False)
        return found

    def _apply_crds(self, definitions: list[Object]) -> None:
        if not definitions:
            return
        self.cluster.apply_many(definitions, FIELD_MANAGER)
        deadline = time.monotonic() + 30
        for definition in definitions:
            while not _is_established(self.cluster.get(definition)):
                if time.monotonic() > deadline:
                    raise PlatformError(
                        "a CustomResourceDefinition is not established",
                        where=definition["metadata"]["name"],
                        found="no condition Established after 30 s",
                        expected="a definition that the API server accepts and serves",
                        fix="look at its status for a conflict of names, then run again",
                        reason="timeout",
                    )
                time.sleep(0.1)
        self.cluster.forget_resources()

    # --- releases that a killed helm left ----------------------------------------------------------------------------

    def _heal(self, release: Release) -> None:
        """Make a pending revision one that Helm goes on from, once it is sure that nobody works on it."""
        started = time.monotonic()
        said = False
        revision = release.revision
        while True:
            alive = is_alive(revision.run) if revision.run else None
            age = (datetime.now(UTC) - revision.created).total_seconds() if revision.created else 1e9
            waited = time.monotonic() - started
            if alive is False or (alive is None and age >= self.context.pending_grace_seconds):
                break
            limit = self.spec["timeout_seconds"] if alive else self.context.pending_grace_seconds
            if waited > limit:
                raise PlatformError(
                    "another helm works on this release",
                    where=self.label,
                    found="revision %d is %s since %d s and its process still runs"
                    % (revision.number, release.status, age),
                    expected="one helm at a time",
                    fix="wait until it has ended, or end it, then run again",
                    reason="busy",
                )
            if not said:
                self.context.progress(
                    "%s: revision %d is %s since %d s and another helm may be at work; waiting up to %d s"
                    % (self.label, revision.number, release.status, age, limit)
                )
                said = True
            time.sleep(1)
        current = helm_release.read(self.cluster, revision)
        if current is None or current.status in helm_release.SETTLED:
            return
        self.context.progress(
            "%s: revision %d was left %s by a process that has ended; going on from it"
            % (self.label, revision.number, current.status)
        )
        helm_release.mark_failed(
            self.cluster, current, "left %s by a process that ended" % current.status, FIELD_MANAGER
        )

    # --- the result --------------------------------------------------------------------------------------------------

    def _described(self, drift: _Drift) -> list[str]:
        missing = ["%s is missing" % manifest.label_of(key) for key in drift.missing]
        changed = [
            "%s was changed: %s" % (manifest.label_of(key), ", ".join(drift.paths[key][:5])) for key in drift.changed
        ]
        return missing + changed

    def _show(
        self,
        rendered: _Rendered,
        release: Release | None,
        drift: _Drift,
        crds: dict[manifest.Key, tuple[Object, bool]],
    ) -> None:
        for key, (obj, new) in crds.items():
            current = None if new else self.cluster.get({**self._ref(key, obj), "namespace": ""})
            before = manifest.without_bookkeeping(current) if current else None
            self._add_diff(key, before, obj)
        before, after = (self._stored_objects(release) if release else {}), {**rendered.objects, **rendered.hooks}
        for key in sorted({*before, *after}):
            one, other = before.get(key), after.get(key)
            if manifest.plain(one) != manifest.plain(other):
                self._add_diff(key, one, other)
        for key, obj in drift.missing.items():
            if key in before:
                self._add_diff(key, None, obj)
        for key, (dummy, live, result) in drift.changed.items():
            self._add_diff(key, manifest.without_bookkeeping(live), manifest.without_bookkeeping(result), "live ")

    def _add_diff(self, key: manifest.Key, before: Object | None, after: Object | None, prefix: str = "") -> None:
        label = "%s: %s%s" % (self.label, prefix, manifest.label_of(key))
        self.diffs.append(manifest.diff_entry(label, before, after, self.redact))

    def _outcome(
        self,
        action: str,
        revision: int | None,
        why: list[str],
        chart: Chart | None = None,
        drift: _Drift | None = None,
    ) -> Object:
        drift = drift or _Drift()
        return {
            "name": self.name,
            "namespace": self.namespace,
            "action": action,
            "changed": action != "unchanged",
            "revision": revision,
            "chart": "%s-%s" % (chart.name, chart.version) if chart else None,
            "why": why,
            "missing": [manifest.label_of(key) for key in drift.missing],
            "drifted": {manifest.label_of(key): drift.paths[key] for key in drift.changed},
            "diff": self.diffs,
        }


def _comparable(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if not line.startswith("#") and line.strip())


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list):
            found = [item for index, item in enumerate(value) if part in (str(index), (item or {}).get("name"))]
            value = found[0] if found else None
        else:
            return None
    return value


def _is_established(definition: Object | None) -> bool:
    conditions = ((definition or {}).get("status") or {}).get("conditions") or []
    return any(entry.get("type") == "Established" and entry.get("status") == "True" for entry in conditions)
