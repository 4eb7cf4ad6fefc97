# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done for one release: render it, read Helm's record and the live objects, compare, and only then act."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import definitions
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import volumes as chart_volumes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.drift import Drift, Owner, ref
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.rendering import (
    Comparison,
    Rendered,
    compare,
    reasons,
    recorded,
    split,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.takeover import take_over
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import (
    Ignored,
    diff_entry,
    plain,
    without_bookkeeping,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import (
    Key,
    autoscaled,
    label_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.process import this_run
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import Chart, Helm, Source
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Release, Revision
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.redaction import Redaction
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import without_values
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.rollout import unready

FIELD_MANAGER = "helm"
"""Helm's own name. Under a second name, fields that a later chart drops would stay: server-side apply removes a field
only when its last manager lets it go, and Helm 4 applies as ``helm``."""

SCALABLE = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")


@dataclass
class Context:
    """What all the releases of a task share."""

    cluster: Cluster
    helm: Helm
    check_mode: bool
    diff: bool
    progress: Callable[[str], None]
    pending_grace_seconds: int
    histories: dict[tuple[str, str], list[Revision]]


class Installation:
    """One release, and what its chart wants of it."""

    def __init__(self, spec: Object, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.cluster = context.cluster
        self.helm = context.helm
        self.name: str = spec["name"]
        self.namespace: str = spec["namespace"]
        self.label = "release %s/%s" % (self.namespace, self.name)
        self.history = context.histories[self.namespace, self.name]
        self.redact = Redaction()
        self.owner = Owner(
            self.cluster, self.name, self.namespace, FIELD_MANAGER, [Ignored(**entry) for entry in spec["ignore"]]
        )
        self.diffs: list[dict[str, str]] = []
        self.rendered = Rendered(self.namespace)
        """What the chart makes, installed values in place of those by chance; empty until it is known."""
        self._autoscalers: dict[str, set[tuple[str, str, str]]] = {}

    # --- absent ------------------------------------------------------------------------------------------------------

    def absent(self) -> Object:
        """Uninstall the release if there is anything of it."""
        self._settle()
        if not self.history:
            return self._outcome("unchanged", None, [])
        newest = self.history[0]
        if self.context.diff:
            release = helm_release.read(self.cluster, newest)
            for key, obj in recorded(release, self.namespace).everything().items() if release else ():
                self._add_diff(key, obj, None)
        why = ["revision %d is %s" % (newest.number, newest.status)]
        if not self.context.check_mode:
            self._uninstall()
        return self._outcome("uninstalled", None, why)

    def _uninstall(self) -> None:
        # So that another run, or the next one, knows whether this one still works on it.
        with contextlib.suppress(PlatformError):
            helm_release.sign(self.cluster, self.history[0], this_run(), FIELD_MANAGER)
        self.helm.uninstall(self.name, self.namespace, self.spec["timeout_seconds"])

    def _settle(self) -> None:
        """Wait for, or take over from, a helm that has the release in hand. In check mode nothing is waited for."""
        if self.context.check_mode or not self.history or self.history[0].status in helm_release.SETTLED:
            return
        take_over(
            self.cluster,
            self.history[0],
            self.label,
            self.spec["timeout_seconds"],
            self.context.pending_grace_seconds,
            FIELD_MANAGER,
            self.context.progress,
        )
        self.history = helm_release.histories(self.cluster, self.namespace, [self.name])[self.name]

    # --- present -----------------------------------------------------------------------------------------------------

    def present(self) -> Object:
        """Install, upgrade or repair the release, or find that there is nothing to do."""
        self._settle()
        history = self.history
        chart = self.helm.local_chart(Source.of(self.spec))
        rendered, release = self._rendered_and_recorded(chart)
        comparison = self._compared(chart, rendered, release)
        self.rendered = rendered
        why, stuck = self._reasons(chart, release, comparison)
        crds = self._crds(rendered)
        volumes = chart_volumes.changes(self.cluster, rendered.objects, self.name)
        drift = self._drift(rendered) if release is not None else Drift()
        if why and release is not None:
            # What the chart itself changes differs from the live object too, and is no drift.
            stored = recorded(release, self.namespace).everything()
            drift.keep_only({key for key, obj in rendered.objects.items() if plain(stored.get(key)) == plain(obj)})
        if not why and not drift and not crds and not volumes:
            return self._outcome("unchanged", history[0].number, [], chart)

        action = "installed" if release is None or stuck == "gone" else "upgraded" if why else "repaired"
        why = why or drift.described()
        why += volumes.described()
        why += [
            "%s %s" % (label_of(key), "is missing" if live is None else "differs")
            for key, (dummy, live) in crds.items()
        ]
        if self.context.diff:
            self._show(rendered, release if stuck != "gone" else None, drift, crds)
        if self.context.check_mode:
            number = history[0].number + (action != "repaired") if history else 1
            return self._outcome(action, number, why, chart, drift)

        definitions.make(self.cluster, [obj for obj, dummy in crds.values()], FIELD_MANAGER)
        if action == "repaired":
            chart_volumes.make(self.cluster, volumes, FIELD_MANAGER)
            self.owner.repair(drift)
            return self._outcome(action, history[0].number, why, chart, drift)
        if stuck == helm_release.UNINSTALLING:
            self._uninstall()
        chart_volumes.make(self.cluster, volumes, FIELD_MANAGER)
        self._upgrade(chart, rendered, release, comparison)
        latest = helm_release.histories(self.cluster, self.namespace, [self.name])[self.name]
        made = helm_release.read(self.cluster, latest[0]) if latest else None
        self.cluster.forget_resources()
        if made is not None:
            # Helm 3 does not look at the live state of custom resources: what it left is applied here. As recorded,
            # since Helm has rendered once more.
            self.owner.repair(self._drift(recorded(made, self.namespace)))
        return self._outcome(action, latest[0].number if latest else None, why, chart, drift)

    def _upgrade(self, chart: Chart, rendered: Rendered, release: Release | None, comparison: Comparison) -> None:
        run_name = this_run()
        replaced = {key: obj for key, obj in comparison.kept.items() if key in rendered.objects}
        for key, count in self._replicas_to_keep(rendered, release).items():
            obj = replaced.get(key, rendered.objects[key])
            replaced[key] = {**obj, "spec": {**obj["spec"], "replicas": count}}
        try:
            self.helm.upgrade(
                chart,
                self.name,
                self.namespace,
                self.spec["values"],
                self.spec["timeout_seconds"],
                {helm_release.RUN_LABEL: run_name} if run_name else {},
                self.spec["create_namespace"],
                rendered.replaced(replaced),
            )
        except PlatformError as error:
            self._tell_of_hooks(error, rendered)
            for secret in rendered.everything().values():
                error.found = without_values(error.found, secret)
            raise

    def _tell_of_hooks(self, error: PlatformError, rendered: Rendered) -> None:
        """Add to a hook's failure what its Job's pod and log say; Helm tells no more than the Job's name."""
        if error.reason not in ("hook", "timeout"):
            return
        refs = [ref(key, obj) for key, obj in rendered.hooks.items() if key[1] == "Job"]
        # A failed request costs details here, not the message.
        with contextlib.suppress(PlatformError):
            jobs = [job for job, live in zip(refs, self.cluster.get_many(refs), strict=True) if live is not None]
            told = unready(self.cluster, jobs)
            if told:
                error.found += "\n%s\n" % told

    # --- the chart and Helm's record ---------------------------------------------------------------------------------

    def _render(self, chart: Chart) -> Rendered:
        # The first revision was rendered as an install, later ones as upgrades; a chart may tell them apart.
        is_upgrade = bool(self.history) and self.history[0].number > 1
        text = self.helm.template(chart, self.name, self.namespace, self.spec["values"], is_upgrade)
        return split([text], self.namespace)

    def _rendered_and_recorded(self, chart: Chart) -> tuple[Rendered, Release | None]:
        def record() -> Release | None:
            return helm_release.read(self.cluster, self.history[0]) if self.history else None

        results = concurrently(lambda function: function(), [lambda: self._render(chart), record])
        for result in results:
            if isinstance(result, PlatformError):
                raise result
        return cast("tuple[Rendered, Release | None]", tuple(results))

    def _compared(self, chart: Chart, rendered: Rendered, release: Release | None) -> Comparison:
        if release is None or release.status in ("uninstalled", helm_release.UNINSTALLING):
            return Comparison()
        found = compare(
            rendered,
            release,
            lambda: self._render(chart),
            lambda key: key[1] in SCALABLE and self._is_autoscaled(rendered, key),
        )
        for key in found.kept:
            self.context.progress(
                "%s: the chart renders %s of %s anew each time; the installed value is kept"
                % (self.label, ", ".join(sorted(found.by_chance[key])[:3]), label_of(key))
            )
        return found

    def _reasons(self, chart: Chart, release: Release | None, comparison: Comparison) -> tuple[list[str], str]:
        """Why a new revision is needed (empty if it is not), and ``gone`` or ``uninstalling`` for those states."""
        if release is None:
            return ["it is not installed"], ""
        number, status = release.revision.number, release.status
        if status == "uninstalled":
            return ["revision %d is %s" % (number, status)], "gone"
        if status == helm_release.UNINSTALLING:
            return ["revision %d is %s" % (number, status)], status
        if status != helm_release.DEPLOYED:
            return ["revision %d is %s: %s" % (number, status, release.description[:300])], ""
        return reasons(chart, self.spec["values"], release, comparison), ""

    def _crds(self, rendered: Rendered) -> dict[Key, tuple[Object, Object | None]]:
        if self.spec["crds"] == "skip" or not rendered.crds:
            return {}
        return definitions.wanted(self.cluster, rendered.crds, self.spec["crds"] == "apply", FIELD_MANAGER)

    # --- what the cluster says ---------------------------------------------------------------------------------------

    def _drift(self, rendered: Rendered) -> Drift:
        return self.owner.drift(rendered.objects, lambda key: self._is_autoscaled(rendered, key))

    def _is_autoscaled(self, rendered: Rendered, key: Key) -> bool:
        """Whether an HPA of the chart or of the cluster scales it."""
        namespace = key[2]
        if namespace not in self._autoscalers:
            found = autoscaled(rendered.objects.values(), self.namespace)
            if self.cluster.knows("autoscaling/v2", "HorizontalPodAutoscaler"):
                live = self.cluster.list("autoscaling/v2", "HorizontalPodAutoscaler", namespace)
                found |= autoscaled(live, namespace)
            self._autoscalers[namespace] = found
        return key[1:] in self._autoscalers[namespace]

    def _replicas_to_keep(self, rendered: Rendered, release: Release | None) -> dict[Key, int]:
        """The live replica counts of autoscaled workloads whose count Helm would set or remove.

        Leaving the field out would not do: where the last revision named it, Helm removes it from the live object,
        and the API server's default for a removed count is 1.
        """
        if release is None:
            return {}
        stored = recorded(release, self.namespace).everything()
        counted = [
            key
            for key, obj in rendered.objects.items()
            if key[1] in SCALABLE
            and ("replicas" in (obj.get("spec") or {}) or "replicas" in (stored.get(key, {}).get("spec") or {}))
            and self._is_autoscaled(rendered, key)
        ]
        live = self.cluster.get_many([ref(key, rendered.objects[key]) for key in counted])
        return {
            key: obj["spec"]["replicas"]
            for key, obj in zip(counted, live, strict=True)
            if obj is not None and "replicas" in obj.get("spec", {})
        }

    # --- the result --------------------------------------------------------------------------------------------------

    def _show(
        self,
        rendered: Rendered,
        release: Release | None,
        drift: Drift,
        crds: dict[Key, tuple[Object, Object | None]],
    ) -> None:
        for key, (obj, current) in crds.items():
            self._add_diff(key, without_bookkeeping(current) if current else None, obj)
        before = recorded(release, self.namespace).everything() if release else {}
        after = rendered.everything()
        for key in sorted({*before, *after}):
            one, other = before.get(key), after.get(key)
            if plain(one) != plain(other):
                self._add_diff(key, one, other)
        for key, obj in drift.missing.items():
            if key in before:
                self._add_diff(key, None, obj)
        for key, (dummy, live, result) in drift.changed.items():
            self._add_diff(key, without_bookkeeping(live), without_bookkeeping(result), "live ")

    def _add_diff(self, key: Key, before: Object | None, after: Object | None, prefix: str = "") -> None:
        label = "%s: %s%s" % (self.label, prefix, label_of(key))
        self.diffs.append(diff_entry(label, before, after, self.redact))

    def _outcome(
        self,
        action: str,
        revision: int | None,
        why: list[str],
        chart: Chart | None = None,
        drift: Drift | None = None,
    ) -> Object:
        drift = drift or Drift()
        return {
            "name": self.name,
            "namespace": self.namespace,
            "action": action,
            "changed": action != "unchanged",
            "revision": revision,
            "chart": "%s-%s" % (chart.name, chart.version) if chart else None,
            "why": why,
            "missing": [label_of(key) for key in drift.missing],
            "drifted": {label_of(key): drift.paths[key] for key in drift.changed},
            "diff": self.diffs,
        }
