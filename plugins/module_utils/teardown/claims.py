# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: which there are, which were asked for by name, and who would take one along that nobody has named."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import documents
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import Claims, Component
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken

KEEPS = ("helm.sh/resource-policy", "keep")


def name_of(claim: Object) -> str:
    """As a person names it: ``NAMESPACE/NAME``."""
    return "%s/%s" % (claim["metadata"]["namespace"], claim["metadata"]["name"])


def of_components(
    cluster: Cluster, claims: Claims, components: list[Component], namespaces: Iterable[str]
) -> dict[str, tuple[str, Object]]:
    """{NAMESPACE/NAME: (component, claim)} of the volumes that these components have made, without those that end."""
    names = {one["name"] for one in components}
    found = {}
    for namespace in sorted(namespaces):
        listed = cluster.list("v1", "PersistentVolumeClaim", namespace)
        of_sets = _of_sets(cluster, claims, namespace) if listed else {}
        for claim in listed:
            if claim["metadata"].get("deletionTimestamp"):
                continue
            component = claims.component_of("PersistentVolumeClaim", claim["metadata"])
            component = component or next(
                (one for part, one in of_sets.items() if claim["metadata"]["name"].startswith(part)), ""
            )
            if component in names:
                found[name_of(claim)] = (component, claim)
    return found


def _of_sets(cluster: Cluster, claims: Claims, namespace: str) -> dict[str, str]:
    """{beginning of a claim's name: component} of StatefulSets that operators make of what is ours."""
    found = {}
    for obj in cluster.list("apps/v1", "StatefulSet", namespace):
        metadata = obj["metadata"]
        component = claims.component_of("StatefulSet", metadata)
        for owner in [] if component else metadata.get("ownerReferences") or []:
            live = cluster.get(
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": owner["name"],
                    "namespace": namespace,
                }
            )
            component = component or (claims.component_of(owner["kind"], live["metadata"]) if live else "")
        for template in (obj.get("spec") or {}).get("volumeClaimTemplates") or []:
            if component:
                found["%s-%s-" % (template["metadata"]["name"], metadata["name"])] = component
    return found


def known(asked: list[str], there: Iterable[str], running: set[str]) -> list[str]:
    """The names of volumes that have gone already, with an earlier run. Raises where a name is no volume's: nobody
    deletes what they have misspelt. In a namespace where a release still runs, nothing has gone yet.
    """
    names = set(there)
    absent = [name for name in asked if name not in names]
    strange = [name for name in absent if name.count("/") != 1 or name.partition("/")[0] in running]
    if strange:
        raise PlatformError(
            "teardown_volumes names what is no volume of these components",
            found=", ".join(strange),
            expected="NAMESPACE/NAME of a claim: %s" % (", ".join(sorted(names)) or "there is none"),
            fix="correct teardown_volumes; nothing was changed",
            reason="argument",
        )
    return absent


def taken_along(cluster: Cluster, spec: Object, asked: list[str]) -> list[PlatformError]:
    """The volumes that would go with the release though nobody has named them: claims that the chart makes itself, and
    those of StatefulSets that delete theirs.
    """
    namespace, name = spec["namespace"], spec["name"]
    history = helm_release.histories(cluster, namespace, [name])[name]
    record = helm_release.read(cluster, history[0]) if history else None
    if record is None:
        return []
    objects = [obj for document in documents(record.manifest) for obj in document.objects]
    errors = []
    for obj in objects:
        metadata = obj.get("metadata") or {}
        where = {**obj, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace}}
        keeps = (metadata.get("annotations") or {}).get(KEEPS[0]) == KEEPS[1]
        if obj.get("kind") == "PersistentVolumeClaim" and not keeps and name_of(where) not in asked:
            errors.append(_error(spec, spoken(where), "name it in teardown_volumes if it may go"))
        policy = (obj.get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
        if obj.get("kind") == "StatefulSet" and policy.get("whenDeleted") == "Delete":
            errors.append(
                _error(
                    spec, spoken(where), "let it retain them (persistentVolumeClaimRetentionPolicy), and run site.yml"
                )
            )
    return errors


def _error(spec: Object, what: str, fix: str) -> PlatformError:
    return PlatformError(
        "a volume would go with its release, and nobody has named it",
        where="release %s/%s" % (spec["namespace"], spec["name"]),
        found=what,
        expected="volumes that stay until they are asked for by name",
        fix=fix,
        reason="volume",
    )
