# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases that a helm has in hand: waiting for one that lives, going on from what a killed one left."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import sleep
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.process import is_alive
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Revision
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

LOOK_SECONDS = 1.0


def take_over(
    cluster: Cluster,
    revision: Revision,
    label: str,
    timeout_seconds: int,
    grace_seconds: int,
    field_manager: str,
    progress: Callable[[str], None],
) -> None:
    """Wait until nobody works on the revision, and make a pending one one that Helm goes on from.

    It is taken over at once if its process is known to have ended. If nothing is known of that process, then when its
    record was not written for the grace, which is never less than the timeout of a hook: by the API server's clock, or
    while we watched. A process that lives is waited for as long as a hook may take.
    """
    grace = max(grace_seconds, timeout_seconds)
    began = watched_from = time.monotonic()
    current: Revision | None = revision
    now: datetime | None = None
    said = False
    while True:
        seen = current
        current, now = helm_release.look(cluster, revision)
        if current is None or current.status in helm_release.SETTLED:
            return
        if seen is not None and (seen.status, seen.resource_version) != (current.status, current.resource_version):
            watched_from = time.monotonic()
        age = (now - current.written).total_seconds() if now and current.written else 0.0
        alive = is_alive(current.run) if current.run else None
        waited, watched = time.monotonic() - began, time.monotonic() - watched_from
        if alive is False or (alive is None and max(age, watched) >= grace):
            if _taken(cluster, current, label, field_manager, progress):
                return
        elif waited > (timeout_seconds if alive else grace + timeout_seconds):
            raise PlatformError(
                "another helm works on this release",
                where=label,
                found="revision %d is %s, its record was last written %d s ago, and %s"
                % (
                    current.number,
                    current.status,
                    max(age, watched),
                    "its process still runs" if alive else "whether its process still runs is unknown",
                ),
                expected="one helm at a time",
                fix="wait until it has ended, or end it, then run again",
                reason="busy",
            )
        if not said:
            progress(
                "%s: revision %d is %s since %d s; %s; waiting up to %d s"
                % (
                    label,
                    current.number,
                    current.status,
                    age,
                    "another helm is at work" if alive else "whether another helm is at work is unknown",
                    timeout_seconds if alive else max(0.0, grace - age),
                )
            )
            said = True
        sleep(LOOK_SECONDS)


def _taken(
    cluster: Cluster, revision: Revision, label: str, field_manager: str, progress: Callable[[str], None]
) -> bool:
    """Whether it could be taken over: not if somebody has written the record meanwhile."""
    if revision.status == helm_release.UNINSTALLING:
        return True
    release = helm_release.read(cluster, revision)
    if release is None or release.status in helm_release.SETTLED:
        return True
    if release.resource_version != revision.resource_version:
        return False
    progress(
        "%s: revision %d was left %s by a process that has ended; going on from it"
        % (label, revision.number, release.status)
    )
    try:
        helm_release.mark_failed(cluster, release, "left %s by a process that ended" % release.status, field_manager)
    except PlatformError as error:
        if error.reason != "conflict":
            raise
        return False
    return True
