# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that contradict each other. Each module here looks at one subject; all that they find is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions import (
    edge,
    elastic,
    images,
    mesh,
    monitoring,
    namespaces,
    openfaas,
    postgresql,
    quotas,
    redis,
    replicas,
    resources,
    time_limits,
    vpa,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    NotChecked,
    Values,
)

CHECKS = (
    *namespaces.CHECKS,
    *images.CHECKS,
    *edge.CHECKS,
    *resources.CHECKS,
    *replicas.CHECKS,
    *time_limits.CHECKS,
    *redis.CHECKS,
    *postgresql.CHECKS,
    *monitoring.CHECKS,
    *quotas.CHECKS,
    *elastic.CHECKS,
    *openfaas.CHECKS,
    *vpa.CHECKS,
    *mesh.CHECKS,
)


def find(checked: Mapping[str, Any], own: Mapping[str, Any], with_images: bool = True) -> list[PlatformError]:
    """What contradicts what, among the roles' variables; ``own`` are the roles' tables (vars/main.yml). Without images,
    nobody asks whether there are any yet.
    """
    values, found = Values({**own, **checked}), []
    for check in CHECKS:
        if check in images.CHECKS and not with_images:
            continue
        try:
            # One after the other: what was found before a value that is missing counts.
            for error in check(values):
                found.append(error)
        except NotChecked:
            continue
    return found
