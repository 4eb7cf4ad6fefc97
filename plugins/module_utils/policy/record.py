# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The batch's record, the ApplySet's parent: never narrower than what the batch has in the cluster."""

from __future__ import annotations

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    FIELD_MANAGER,
    ApplySet,
    Scope,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.compare import is_applied

_TRIES = 5


class Record:
    """The record as it was last seen. Each write holds only for what was seen: another run may work on the batch."""

    def __init__(self, cluster: Cluster, applyset: ApplySet) -> None:
        self.cluster = cluster
        self.applyset = applyset
        self.live: Object | None = None
        self.scope = Scope()
        self.read()
        self.found = self.live
        self._of_others = Scope()

    def read(self) -> None:
        """See it anew. A ConfigMap that is not this batch's record is an error."""
        self.live = self.cluster.get(self.applyset.ref)
        self.scope = self.applyset.read_parent(self.live)

    @property
    def uid(self) -> str | None:
        """The UID, if the record exists."""
        return self.live["metadata"].get("uid") if self.live else None

    def change(self, scope: Scope) -> str:
        """What becomes of the record as it was found first, if it is to name this scope."""
        if self.found is None:
            return "created"
        return "unchanged" if is_applied(self.applyset.parent(scope), self.found, FIELD_MANAGER) else "updated"

    def widen(self, scope: Scope) -> None:
        """Name this scope besides what is named already."""
        self._write(self.scope.union(scope))

    def narrow(self, scope: Scope) -> None:
        """Name this scope only, and all that another run has named if one works on the batch: the next run narrows."""
        self._write(scope)

    def _write(self, scope: Scope) -> None:
        for _try in range(_TRIES):
            wanted = scope.union(self._of_others)
            parent = self.applyset.parent(wanted)
            if self.live is not None and is_applied(parent, self.live, FIELD_MANAGER):
                return
            try:
                if self.live is None:
                    # Of two runs that find no record, one makes it, and the other learns of what is in it.
                    self.live = self.cluster.create(parent, FIELD_MANAGER)
                # Fields that are not applied would not be taken out by the next apply that leaves them out.
                parent["metadata"]["resourceVersion"] = self.live["metadata"]["resourceVersion"]
                self.live = self.cluster.apply(parent, FIELD_MANAGER)
                self.scope = wanted
                return
            except PlatformError as error:
                if error.reason not in ("conflict", "exists"):
                    raise
            self.read()
            self._of_others = self._of_others.union(self.scope)
        raise PlatformError(
            "the batch's record is written by others all the time",
            where=spoken(self.applyset.ref),
            found=f"another version of it after each of {_TRIES} tries",
            expected="at most a few runs of one batch at once",
            fix="find out who writes it (kubectl get --show-managed-fields), then run again",
            reason="conflict",
        )

    def delete(self) -> bool:
        """Delete it, unless another run has written it since it was seen: then False."""
        if self.live is None:
            return True
        metadata = self.live["metadata"]
        try:
            self.cluster.delete(self.applyset.ref, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
        except PlatformError as error:
            if error.reason != "conflict":
                raise
            return False
        return True
