# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kinds a cluster serves, and where. The kinds of an API version are read when one of them is first met."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, ref_of

_DISCOVERY_V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class Discovery:
    """The kinds of one cluster. Safe to use from several threads.

    ``request`` is the cluster's: method, path and options to decoded JSON. ``where`` names the cluster in errors.
    """

    def __init__(self, request: Callable[..., Any], where: str) -> None:
        self._request = request
        self._where = where
        self._resources: dict[str, dict[str, Object]] = {}
        self._api_versions: list[str] | None = None
        self._lock = threading.Lock()

    def resources_of(self, api_version: str) -> dict[str, Object]:
        """The kinds of an API version: {kind: {name, namespaced, verbs}}. Empty if the cluster does not serve it."""
        with self._lock:
            known = self._resources.get(api_version)
        if known is not None:
            return known
        try:
            answer = self._request("GET", root(api_version))
        except PlatformError as failure:
            if failure.details.get("status") != 404:
                raise
            answer = {"resources": []}
        kinds = {entry["kind"]: entry for entry in answer["resources"] if "/" not in entry["name"]}
        with self._lock:
            self._resources[api_version] = kinds
        return kinds

    def forget(self, api_version: str | None = None) -> None:
        """Read the kinds (of this API version) anew when they are next needed."""
        with self._lock:
            if api_version is None:
                self._resources.clear()
            else:
                self._resources.pop(api_version, None)
            self._api_versions = None

    def resource(self, api_version: str, kind: str) -> Object:
        """Where a kind is served ({name, namespaced, verbs}); an error with the reason ``kind`` if it is not."""
        kinds = self.resources_of(api_version)
        if kind in kinds:
            return kinds[kind]
        raise PlatformError(
            "the cluster does not know the kind %s of %s" % (kind, api_version or "an empty apiVersion"),
            where=self._where,
            found="API version %s has %s" % (api_version, ", ".join(sorted(kinds)[:12]))
            if kinds
            else "API version %s is not served" % api_version,
            expected="a kind of Kubernetes itself or of an installed CustomResourceDefinition",
            fix="check apiVersion and kind, or install the operator that brings its CustomResourceDefinition first",
            reason="kind",
            api_version=api_version,
            kind=kind,
        )

    def path(self, ref: Object, collection: bool = False) -> str:
        """The URL path of an object, or of the collection that it belongs to."""
        ref = ref_of(ref)
        resource = self.resource(ref["apiVersion"], ref["kind"])
        path = root(ref["apiVersion"])
        if resource["namespaced"] and (ref["namespace"] or not collection):
            path += "/namespaces/" + quote(ref["namespace"] or "default", safe="")
        path += "/" + resource["name"]
        return path if collection else path + "/" + quote(ref["name"], safe="")

    def api_versions(self) -> list[str]:
        """All that the cluster serves, in the form of Helm's ``.Capabilities.APIVersions``: ``apps/v1``,
        ``apps/v1/Deployment``. Two requests on Kubernetes 1.27 and later, one per API version before.
        """
        if self._api_versions is not None:
            return self._api_versions
        answers = concurrently(lambda path: self._request("GET", path, accept=_DISCOVERY_V2), ["/api", "/apis"])
        found: list[str] = []
        legacy: list[str] = []
        for answer in answers:
            if isinstance(answer, PlatformError):
                raise answer
            if answer["kind"] == "APIGroupDiscoveryList":
                self._remember(answer, found)
            elif answer["kind"] == "APIVersions":
                legacy.extend(answer["versions"])
            else:
                legacy.extend(version["groupVersion"] for group in answer["groups"] for version in group["versions"])
        for version, kinds in zip(legacy, concurrently(self.resources_of, legacy), strict=True):
            # An aggregated API whose server is down must not stop a chart that does not use it.
            if not isinstance(kinds, PlatformError):
                found.append(version)
                found.extend("%s/%s" % (version, kind) for kind in kinds)
        self._api_versions = sorted(set(found))
        return self._api_versions

    def versions_of(self, group: str) -> list[str]:
        """The API versions of a group, the preferred one first, also while the server of an aggregated one is down.
        Empty if the cluster does not have the group.
        """
        if not group:
            return ["v1"]
        try:
            answer = self._request("GET", "/apis/" + quote(group, safe=""))
        except PlatformError as failure:
            if failure.details.get("status") != 404:
                raise
            return []
        preferred = (answer.get("preferredVersion") or {}).get("groupVersion")
        versions = [entry["groupVersion"] for entry in answer["versions"]]
        return sorted(versions, key=lambda version: version != preferred)

    def _remember(self, answer: Object, found: list[str]) -> None:
        for group in answer["items"]:
            group_name = group["metadata"].get("name", "")
            for version in group["versions"]:
                api_version = "/".join(part for part in (group_name, version["version"]) if part)
                kinds = {}
                for resource in version.get("resources", []):
                    kind = (resource.get("responseKind") or {}).get("kind")
                    if kind:
                        kinds[kind] = {
                            "name": resource["resource"],
                            "kind": kind,
                            "namespaced": resource["scope"] == "Namespaced",
                            "verbs": resource["verbs"],
                        }
                if version.get("freshness") == "Stale" and not kinds:
                    continue
                with self._lock:
                    self._resources[api_version] = kinds
                found.append(api_version)
                found.extend("%s/%s" % (api_version, kind) for kind in kinds)


def root(api_version: str) -> str:
    """The URL path of an API version."""
    return ("/apis/" if "/" in api_version else "/api/") + api_version
