# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that run, against those that the inventory names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.difference import IMAGE, Difference
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

Wanted = dict[tuple[str, str, str], str]
"""(namespace, workload, container) to the image that its template names."""

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


class Templates:
    """The pod templates of workloads: whose a pod is, by its labels, and which images it should have."""

    def __init__(self) -> None:
        self._known: list[tuple[str, str, str, dict[str, str], dict[str, str]]] = []

    def add(self, component: str, namespace: str, obj: Object) -> None:
        """A rendered object; what is no workload adds nothing."""
        if obj.get("kind") not in _WORKLOADS:
            return
        spec = obj.get("spec") or {}
        labels = (spec.get("selector") or {}).get("matchLabels") or {}
        pod = (spec.get("template") or {}).get("spec") or {}
        images = {one["name"]: one.get("image") or "" for one in _containers(pod)}
        where = (obj.get("metadata") or {}).get("namespace") or namespace
        if labels:
            self._known.append((component, where, f"{obj['kind']} {where}/{obj['metadata']['name']}", labels, images))

    def of(self, pod: Object) -> tuple[str, str, dict[str, str]] | None:
        """(component, workload, images by container) of a pod."""
        metadata = pod["metadata"]
        labels = metadata.get("labels") or {}
        for component, namespace, workload, selector, images in self._known:
            if namespace == metadata.get("namespace") and selector.items() <= labels.items():
                return component, workload, images
        return None


def differences(pods: Iterable[Object], templates: Templates) -> Iterator[Difference]:
    """Containers that run another image than their workload's template would have, another digest than their image's
    name has, or, of a name without one, not all the same.

    A container's ``imageID`` is what its runtime has pulled, ``repository@digest``, or the digest of the image's own
    configuration where it was loaded by hand: that says nothing about a digest in a name.
    """
    counted: dict[tuple[str, str, str], int] = {}
    digests: dict[tuple[str, str, str], set[str]] = {}
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        known = templates.of(pod)
        if known is None:
            continue
        component, workload, wanted = known
        specified = {one["name"]: one.get("image") or "" for one in _containers(pod.get("spec") or {})}
        for status in _statuses(pod):
            container = status["name"]
            if container not in wanted:
                continue  # Somebody's sidecar.
            place = (component, f"{workload}, container {container}")
            runs, name = digest_of(status.get("imageID") or ""), wanted[container]
            if specified.get(container, name) != name:
                told = f"runs {specified[container]}, the inventory has {name}"
            elif runs and digest_of(name) and "@" in (status.get("imageID") or "") and runs != digest_of(name):
                told = f"runs {runs}, the inventory has {digest_of(name)}"
            else:
                if runs and not digest_of(name):
                    digests.setdefault((*place, name), set()).add(runs)
                continue
            counted[(*place, told)] = counted.get((*place, told), 0) + 1
    for (component, where, told), number in counted.items():
        yield Difference(component, IMAGE, where, note=f"{told} ({number} pod{'s' if number > 1 else ''})")
    for (component, where, name), several in digests.items():
        if len(several) > 1:
            yield Difference(
                component, IMAGE, where, note=f"{name} is {len(several)} images: {', '.join(sorted(several))}"
            )


def digest_of(image: str) -> str:
    """The digest in an image's name or an imageID, ``sha256:...``; empty where it has none."""
    found = image.rpartition("@")[2] if "@" in image else image.removeprefix("docker-pullable://")
    return found if found.startswith("sha256:") else ""


def _containers(pod: Object) -> list[Object]:
    return [*(pod.get("containers") or []), *(pod.get("initContainers") or [])]


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
