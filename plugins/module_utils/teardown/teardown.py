# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``teardown``: remove what ``site.yml`` has made, in its reverse order, and nothing else.

What goes is what the plan names: releases, batches, Secrets. Volumes go by their names alone. A run that was cut off is
finished by the next: each step looks at what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import aligned
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.foreign import is_systems, objects_in
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed import components as installed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import (
    COMPONENT_LABEL,
    Claims,
    Component,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import FIELD_MANAGER
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.objects import in_files
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.policy import Batch
from ansible_collections.lambda_microservice.platform.plugins.module_utils.teardown import claims as volumes

RESULT_HOLDS_NONE_OF = installed.RESULT_HOLDS_NONE_OF
secrets_of = installed.secrets_of

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "components": installed.COMPONENTS,
    "only": installed.ONLY,
    "confirm": {"type": "str", "default": ""},
    "volumes": {"type": "list", "elements": "str", "default": []},
    "definitions": {"type": "bool", "default": False},
    "helm_binary": {"type": "str", "default": "helm"},
}

GONE_SECONDS = 60
"""How long the end of claims and namespaces is waited for. What takes longer is told as left, and ends by itself."""


class Entry(NamedTuple):
    """A row of the report. ``what`` is removed, kept or left."""

    what: str
    component: str
    object: str
    why: str = ""


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[[dict[str, Any]], Cluster] = Cluster,
) -> dict[str, Any]:
    """Remove the chosen components. In check mode, tell what would go, and what would stay and why."""
    everything = installed.read(params["components"])
    chosen = installed.chosen(everything, params["only"])
    installed.whole(chosen)
    cluster = connect(params)
    name = cluster.name()
    if not check_mode and params["confirm"] != name:
        raise PlatformError(
            "nobody has said that this cluster is meant, and nothing was changed",
            where=cluster.described(),
            found="teardown_confirm is %r" % params["confirm"] if params["confirm"] else "no teardown_confirm",
            expected=name,
            fix="answer the prompt with this name, or give -e teardown_confirm=%s" % name,
            reason="argument",
        )
    work = _Teardown(cluster, everything, chosen, params, check_mode, progress)
    work.run()
    rows = [[entry.what, entry.component or "-", entry.object, entry.why] for entry in work.entries]
    table = aligned(["what", "component", "object", "why"], rows, left=4) if rows else []
    for line in table or ["teardown: nothing of it is there"]:
        progress(line)
    return {
        "changed": any(entry.what == "removed" for entry in work.entries),
        "cluster": name,
        "components": [one["name"] for one in chosen],
        "removed": [entry.object for entry in work.entries if entry.what == "removed"],
        "kept": [entry._asdict() for entry in work.entries if entry.what == "kept"],
        "left": [entry._asdict() for entry in work.entries if entry.what == "left"],
        "table": table,
    }


class _Teardown:
    def __init__(
        self,
        cluster: Cluster,
        everything: list[Component],
        chosen: list[Component],
        params: dict[str, Any],
        check_mode: bool,
        progress: Callable[[str], None],
    ) -> None:
        self.cluster = cluster
        self.everything = everything
        self.chosen = chosen
        self.params = params
        self.check_mode = check_mode
        self.progress = progress
        self.claims = Claims(everything)
        self.entries: list[Entry] = []
        lives = {name: self._get_namespace(name) for name in installed.namespaces(chosen)}
        self.namespaces = {name for name, live in lives.items() if live}
        # Seen now: a batch that lets go of a namespace takes its mark out of the record of who wrote it.
        self.made = {name for name, live in lives.items() if live and made_by_us(live)}
        self.volumes = volumes.of_components(cluster, self.claims, chosen, self.namespaces)
        self.stays = {name for name in self.volumes if name not in params["volumes"]}

    def run(self) -> None:
        """Everything that can be said against it is said before the first object goes."""
        specs = [spec for one in self.chosen for spec in [*one["releases"], *one["absent"]]]
        running = {
            spec["namespace"]
            for spec in specs
            if helm_release.histories(self.cluster, spec["namespace"], [spec["name"]])[spec["name"]]
        }
        for name in volumes.known(self.params["volumes"], self.volumes, running):
            self._note("left", "", f"PersistentVolumeClaim {name}", "it is not there")
        errors = [error for spec in specs for error in volumes.taken_along(self.cluster, spec, self.params["volumes"])]
        if errors:
            raise PlatformError.of_many(f"{len(errors)} volumes would be lost, and nothing was changed", errors)
        definitions = self._definitions()
        self._mark_volumes()
        for one in reversed(self.chosen):
            self.progress(f"teardown: {one['name']}")
            self._releases(one)
            for batch in reversed(one["batches"]):
                self._batch(one, batch)
            self._claims(one)
            self._secrets(one)
        self._remove_definitions(definitions)
        if len(self.chosen) == len(self.everything) or "foundation" in self.params["only"]:
            self._namespaces()

    # --- releases and batches ----------------------------------------------------------------------------------------

    def _releases(self, one: Component) -> None:
        specs = [*one["releases"], *one["absent"]]
        if not specs:
            return
        waiting = {spec["name"]: [other["name"] for other in specs if spec["name"] in other["after"]] for spec in specs}
        absent = [{**spec, "state": "absent", "after": waiting[spec["name"]]} for spec in specs]
        params = {"releases": absent, "helm_binary": self.params["helm_binary"], "pending_grace_seconds": 60}
        result = chart.run(
            params, check_mode=self.check_mode, progress=self.progress, connect=lambda dummy: self.cluster
        )
        for entry in result["releases"]:
            if entry["changed"]:
                self._note("removed", one["name"], "release %s/%s" % (entry["namespace"], entry["name"]))
        if result.get("failed"):
            raise PlatformError(
                f"{one['name']} could not be removed",
                found=str(result["msg"]),
                expected="releases that go",
                fix="mend what is named, then run again: it goes on from here",
                reason=str(result.get("reason") or "helm"),
            )

    def _batch(self, one: Component, given: dict[str, Any]) -> None:
        used = self._used_classes(given)
        if used:
            for name in used:
                self._note("kept", one["name"], f"StorageClass {name}", "volumes are of it")
            return
        batch = Batch(self.cluster, given["name"], given["namespace"], self.check_mode, self.progress)
        batch.remove(given["objects"])
        result = batch.result()
        for entry in result["objects"]:
            if entry["action"] == "deleted":
                self._note("removed", one["name"], spoken(entry))
            elif entry["action"] in ("kept", "deleting"):
                self._note("left", one["name"], spoken(entry), "it is still being deleted, or what is needs it")
        if result.get("failed"):
            raise PlatformError(
                str(result["what"]),
                where=str(result.get("where") or ""),
                found=str(result.get("found") or ""),
                expected="no object of the batch",
                fix=str(result.get("fix") or ""),
                reason="terminating",
            )

    def _used_classes(self, batch: dict[str, Any]) -> list[str]:
        """StorageClasses of the batch that volumes are of: without theirs, volumes could not grow any more."""
        names = {obj["metadata"]["name"] for obj in batch["objects"] if obj["kind"] == "StorageClass"}
        if not names:
            return []
        used = {
            (volume.get("spec") or {}).get("storageClassName")
            for volume in self.cluster.list("v1", "PersistentVolume")
            if _claim_of(volume) not in self.params["volumes"]
        }
        return sorted(names & used)

    # --- volumes and Secrets -----------------------------------------------------------------------------------------

    def _mark_volumes(self) -> None:
        """Note on each claim whose it is: once its workload is gone, a later run could not tell."""
        for component, claim in self.volumes.values():
            if not self.check_mode and (claim["metadata"].get("labels") or {}).get(COMPONENT_LABEL) != component:
                self.cluster.patch(claim, {"metadata": {"labels": {COMPONENT_LABEL: component}}}, FIELD_MANAGER)

    def _claims(self, one: Component) -> None:
        gone = []
        for name, (component, claim) in sorted(self.volumes.items()):
            if component != one["name"]:
                continue
            size = ((claim.get("status") or {}).get("capacity") or {}).get("storage", "not bound")
            if name in self.stays:
                self._note("kept", one["name"], spoken(claim), f"{size}, nobody has named it in teardown_volumes")
                continue
            # The one that was seen. A release may have taken it along.
            if not self.check_mode:
                try:
                    self.cluster.delete(claim, uid=claim["metadata"]["uid"])
                except PlatformError as error:
                    if error.reason != "conflict":
                        raise
            gone.append(claim)
            self._note("removed", one["name"], spoken(claim), size)
        if gone and not self.check_mode:
            self._await_gone(gone)

    def _secrets(self, one: Component) -> None:
        """What opens a volume stays with it: passwords and keys that are made anew would open nothing. The first
        namespace of a Secret owns its values, the others have copies. Which volume a Secret is for, nobody has noted:
        each claim that stays in its namespace counts, whosever it is.
        """
        for entry in one["secrets"]:
            claims = self.cluster.list("v1", "PersistentVolumeClaim", entry["namespaces"][0])
            names = sorted(volumes.name_of(claim) for claim in claims if not claim["metadata"].get("deletionTimestamp"))
            kept = [name for name in names if name not in self.params["volumes"]]
            refs = [
                {"apiVersion": "v1", "kind": "Secret", "name": entry["name"], "namespace": namespace}
                for namespace in entry["namespaces"]
            ]
            for number, (ref, live) in enumerate(zip(refs, self.cluster.get_many(refs), strict=True)):
                if live is None:
                    continue
                if kept and number == 0:
                    self._note("kept", one["name"], spoken(ref), f"the volumes that stay may need it: {kept[0]}")
                    continue
                if not self.check_mode:
                    self.cluster.delete(ref, uid=live["metadata"]["uid"])
                self._note("removed", one["name"], spoken(ref))

    # --- definitions and namespaces ----------------------------------------------------------------------------------

    def _definitions(self) -> list[tuple[str, Object]]:
        """(component, live definition) of the kinds that the components have brought."""
        wanted = [
            (one["name"], obj)
            for one in self.chosen
            for batch in one["batches"]
            for obj in [*batch["objects"], *in_files(batch["files"])]
            if obj.get("kind") == "CustomResourceDefinition"
        ]
        lives = self.cluster.get_many([obj for _name, obj in wanted])
        return [(name, live) for (name, _obj), live in zip(wanted, lives, strict=True) if live is not None]

    def _remove_definitions(self, definitions: list[tuple[str, Object]]) -> None:
        self.cluster.forget_resources()
        for component, live in definitions:
            name = f"CustomResourceDefinition {live['metadata']['name']}"
            if not self.params["definitions"]:
                self._note("kept", component, name, "teardown_definitions is false")
            elif not made_by_us(live):
                self._note("left", component, name, "it was there before the platform")
            elif self._objects_of(live):
                self._note("left", component, name, f"there are objects of it: {', '.join(self._objects_of(live)[:3])}")
            else:
                if not self.check_mode:
                    self.cluster.delete(live, uid=live["metadata"]["uid"])
                self._note("removed", component, name)

    def _objects_of(self, definition: Object) -> list[str]:
        """Objects of the kind that stay: those of the batches that go do not count where nothing is changed yet."""
        spec = definition["spec"]
        version = next(one["name"] for one in spec["versions"] if one.get("served", True))
        kind = spec["names"]["kind"]
        names = {one["name"] for one in self.chosen}
        return [
            spoken(obj)
            for obj in self.cluster.list(f"{spec['group']}/{version}", kind)
            if not self.check_mode or self.claims.component_of(kind, obj["metadata"]) not in names
        ]

    def _namespaces(self) -> None:
        """A namespace goes once nothing is in it that somebody may miss."""
        left = self._left()
        going = []
        # Those that the batches make; where a batch has only its record, the namespace is somebody else's.
        made = {
            obj["metadata"]["name"]
            for one in self.chosen
            for batch in one["batches"]
            for obj in batch["objects"]
            if obj["kind"] == "Namespace"
        }
        for name in sorted(made):
            live = self._get_namespace(name)
            if live is None:
                continue
            if live["metadata"].get("deletionTimestamp"):
                self._note("left", "foundation", f"Namespace {name}", "it is still being deleted")
                continue
            inside = left.get(name) or []
            for obj, why in inside:
                if why:
                    self._note("left", self.claims.component_of(obj["kind"], obj["metadata"]), spoken(obj), why)
            if inside:
                more = f" and {len(inside) - 2} more" if len(inside) > 2 else ""
                said = ", ".join(f"{obj['kind']} {obj['metadata']['name']}" for obj, _why in inside[:2]) + more
                self._note("left", "foundation", f"Namespace {name}", f"in it: {said}")
            elif name not in self.made:
                self._note("left", "foundation", f"Namespace {name}", "it was there before the platform")
            else:
                if not self.check_mode:
                    self.cluster.delete(live, uid=live["metadata"]["uid"])
                going.append(live)
                self._note("removed", "foundation", f"Namespace {name}")
        if going and not self.check_mode:
            still = self._await_gone(going)
            for live in still:
                self._note("left", "foundation", spoken(live), "it is still being deleted")

    def _left(self) -> dict[str, list[tuple[Object, str]]]:
        """By namespace, what is in it that does not go, and why (empty where a row has told it)."""
        told = {entry.object for entry in self.entries if entry.what == "kept"}
        going = {entry.object for entry in self.entries if entry.what == "removed"}
        names = {one["name"] for one in self.chosen}
        found: dict[str, list[tuple[Object, str]]] = {}
        for obj in objects_in(self.cluster, self.namespaces):
            if is_systems(obj) and "faas_function" not in (obj["metadata"].get("labels") or {}):
                continue
            if obj["metadata"].get("ownerReferences") or obj["metadata"].get("deletionTimestamp"):
                continue
            component = self.claims.component_of(obj["kind"], obj["metadata"])
            if spoken(obj) in told:
                why = ""
            elif spoken(obj) in going or (
                self.check_mode and component in names and obj["kind"] != "PersistentVolumeClaim"
            ):
                continue
            else:
                why = "nothing that this inventory turns on claims it" if not component else f"it is of {component}"
            found.setdefault(obj["metadata"]["namespace"], []).append((obj, why))
        return found

    # --- common ------------------------------------------------------------------------------------------------------

    def _get_namespace(self, name: str) -> Object | None:
        return self.cluster.get({"apiVersion": "v1", "kind": "Namespace", "name": name})

    def _await_gone(self, objects: list[Object]) -> list[Object]:
        def still() -> list[Object]:
            lives = self.cluster.get_many(objects)
            return [obj for obj, live in zip(objects, lives, strict=True) if live is not None]

        return wait_until(still, GONE_SECONDS, 0.5, done=lambda found: not found)

    def _note(self, what: str, component: str, name: str, why: str = "") -> None:
        self.entries.append(Entry(what, component, name, why))


def made_by_us(obj: Object) -> bool:
    """Whether the module ``policy`` has made the object, and not only taken it into a batch: who made it wrote it first
    (managedFields, the API server's own record).
    """
    entries = [entry for entry in obj["metadata"].get("managedFields") or [] if not entry.get("subresource")]
    others = [entry for entry in entries if entry.get("manager") != FIELD_MANAGER]
    created = str(obj["metadata"].get("creationTimestamp") or "")
    return len(others) < len(entries) and all(str(entry.get("time") or "") > created for entry in others)


def _claim_of(volume: Object) -> str:
    ref = (volume.get("spec") or {}).get("claimRef") or {}
    return "%s/%s" % (ref.get("namespace"), ref.get("name"))
