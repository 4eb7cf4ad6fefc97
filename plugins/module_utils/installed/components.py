# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole plan of site.yml, as the modules of day two take it: who makes which releases, batches and Secrets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    PART_OF_LABEL,
    RECORD_PREFIX,
    ApplySet,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout import rollout
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

Component = dict[str, Any]

_LIST: dict[str, Any] = {"type": "list", "elements": "dict", "default": []}
# Among the values of releases and Secrets is what nobody may see.
COMPONENTS: dict[str, Any] = {
    **_LIST,
    "no_log": True,
    "options": {
        "name": {"type": "str", "required": True},
        "releases": _LIST,
        "absent": _LIST,
        "batches": _LIST,
        "rollouts": _LIST,
        "secrets": {**_LIST, "no_log": False},
        "objects": _LIST,
        "files": {"type": "list", "elements": "str", "default": []},
        "unknown": _LIST,
    },
}
ONLY: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
RESULT_HOLDS_NONE_OF = ("components",)
"""For the modules that take them: names of objects are words of values too."""


def secrets_of(params: dict[str, Any]) -> Iterable[str]:
    """What is secret among the releases' arguments; see module_utils/module.py."""
    for component in params.get("components") or []:
        for release in component.get("releases") or []:
            yield str(release.get("repository_password") or "")
        yield from chart.secrets_of(component)


def read(components: list[Component]) -> list[Component]:
    """The components with the arguments of their modules as the modules take them, defaults filled in. One batch for
    all tasks of one name: the last says what holds for it, and each adds its objects.
    """
    return [
        {
            **one,
            "releases": _validated(chart.ARGUMENT_SPEC, {"releases": one["releases"]})["releases"],
            "absent": _validated(chart.ARGUMENT_SPEC, {"releases": one["absent"]})["releases"],
            "batches": _batches(one["batches"]),
            "rollouts": [_validated(rollout.ARGUMENT_SPEC, each) for each in one["rollouts"]],
            "secrets": _validated(secret.ARGUMENT_SPEC, {"secrets": one["secrets"]})["secrets"],
        }
        for one in components
    ]


def chosen(components: list[Component], only: list[str]) -> list[Component]:
    """Those that are named, in the plan's order; all where none is."""
    known = [one["name"] for one in components]
    strange = sorted(set(only) - set(known))
    if strange:
        raise PlatformError(
            "components names what is no component",
            found=", ".join(strange),
            expected=", ".join(known),
            fix="correct components",
            reason="argument",
        )
    return [one for one in components if not only or one["name"] in only]


def whole(components: list[Component]) -> None:
    """Raise where a part of the plan is not known: what nobody can name must not be passed over in silence."""
    errors = [
        PlatformError(
            f"what the task «{each.get('task')}» makes is not known",
            where=one["name"],
            found=str(each.get("why")),
            expected="a value that can be worked out",
            fix="correct the inventory",
            reason="argument",
        )
        for one in components
        for each in one["unknown"]
    ]
    if errors:
        raise PlatformError.of_many(f"{len(errors)} parts of the plan are not known, and nothing was changed", errors)


def namespaces(components: list[Component]) -> set[str]:
    """Where these components have anything, and the namespaces that their batches make; never those of the system."""
    found: set[str] = set()
    for one in components:
        found |= {release["namespace"] for release in [*one["releases"], *one["absent"]]}
        found |= {name for entry in one["secrets"] for name in entry["namespaces"]}
        for batch in one["batches"]:
            found.add(batch["namespace"])
            for obj in batch["objects"]:
                found.add(obj["metadata"].get("namespace") or "")
                found |= {obj["metadata"]["name"]} if obj["kind"] == "Namespace" else set()
    return found - SYSTEM_NAMESPACES


SYSTEM_NAMESPACES = frozenset({"", "default", "kube-system", "kube-public", "kube-node-lease"})
"""Not the platform's, though a batch's record or a flow of its may be there."""


COMPONENT_LABEL = "lambda-microservice.platform/component"
"""Whose a volume is, noted on its claim before the workload goes that made it."""

_OF_WORKLOADS = ("PersistentVolumeClaim", "VolumeSnapshot")
"""What a release's workloads make of their templates: it carries their labels and no mark of the release."""


class Claims:
    """Whose an object is, by the marks that it carries: of a release, a batch or a Secret of the plan."""

    def __init__(self, components: list[Component]) -> None:
        self._releases: dict[tuple[str, str], str] = {}
        self._batches: dict[str, str] = {}
        self._secrets: dict[tuple[str, str], str] = {}
        self._records: dict[tuple[str, str], str] = {}
        self._names = {one["name"] for one in components}
        for one in components:
            name = one["name"]
            for release in [*one["releases"], *one["absent"]]:
                self._releases[release["namespace"], release["name"]] = name
            for batch in one["batches"]:
                applyset = ApplySet(RECORD_PREFIX + batch["name"], batch["namespace"])
                self._batches[applyset.id] = name
                self._records[batch["namespace"], applyset.name] = name
            for entry in one["secrets"]:
                self._secrets.update({(place, entry["name"]): name for place in entry["namespaces"]})

    def component_of(self, kind: str, metadata: dict[str, Any]) -> str:
        """The component that has made it; empty where none of the plan has."""
        labels = metadata.get("labels") or {}
        place = (metadata.get("namespace") or "", metadata["name"])
        release = release_of(metadata)
        if kind == "Secret" and labels.get("owner") == "helm":
            release = (place[0], labels.get("name", ""))
        found = self._releases.get(release, "") or self._batches.get(labels.get(PART_OF_LABEL, ""), "")
        if not found and kind == "Secret":
            found = self._secrets.get(place, "")
        if not found and kind == "ConfigMap":
            found = self._records.get(place, "")
        if not found and kind in _OF_WORKLOADS and COMPONENT_LABEL in labels:
            found = labels[COMPONENT_LABEL] if labels[COMPONENT_LABEL] in self._names else ""
        if not found and kind in _OF_WORKLOADS and "app.kubernetes.io/instance" in labels:
            found = self._releases.get((place[0], labels["app.kubernetes.io/instance"]), "")
        return found


def release_of(metadata: dict[str, Any]) -> tuple[str, str]:
    """(namespace, name) of the release whose marks an object carries; empty texts without."""
    annotations = metadata.get("annotations") or {}
    return annotations.get("meta.helm.sh/release-namespace", ""), annotations.get("meta.helm.sh/release-name", "")


def _batches(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for each in given:
        batch = _validated(policy.ARGUMENT_SPEC, each)
        before = found.get((batch["namespace"], batch["name"]))
        if before is not None:
            named = {_identity(obj) for obj in batch["objects"]}
            batch["objects"] = [obj for obj in before["objects"] if _identity(obj) not in named] + batch["objects"]
            batch["files"] = list(dict.fromkeys([*before["files"], *batch["files"]]))
            batch["prune"] = before["prune"] or batch["prune"]
        found[batch["namespace"], batch["name"]] = batch
    return list(found.values())


def _identity(obj: dict[str, Any]) -> tuple[str, ...]:
    metadata = obj["metadata"]
    return obj["apiVersion"], obj["kind"], metadata.get("namespace") or "", metadata["name"]


def _validated(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments by their specification, without those that say how a cluster is reached."""
    wanted = {name: entry for name, entry in spec.items() if name not in chart.auth_argument_spec()}
    validation = ArgumentSpecValidator(wanted).validate({key: each for key, each in given.items() if key in wanted})
    if validation.error_messages:
        raise PlatformError(
            "the plan has arguments that their module does not take",
            found="; ".join(validation.error_messages),
            expected="what site.yml's tasks give",
            fix="correct components",
            reason="argument",
        )
    return validation.validated_parameters
