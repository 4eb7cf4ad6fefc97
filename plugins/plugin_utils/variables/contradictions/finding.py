# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks of contradictions share: the values that they read, and the form of what they find."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""RFC 1123, without its limit of 63."""


class NotChecked(Exception):
    """A value that a check reads is not there: it is wrong by itself, or of a role that is left out."""


class Values(dict[str, Any]):
    """The roles' variables by name, as far as they are right."""

    def __missing__(self, name: str) -> Any:
        raise NotChecked(name)

    def quantity(self, name: str) -> Decimal:
        """A variable's Kubernetes quantity."""
        return as_quantity(self[name])


def as_quantity(value: object) -> Decimal:
    """A Kubernetes quantity that another check has looked at."""
    number = quantity(value)
    if number is None:
        raise NotChecked(value)
    return number


def contradiction(what: str, found: str, expected: str, fix: str) -> PlatformError:
    """One finding."""
    return PlatformError(what, found=found, expected=expected, fix=fix, reason="contradiction")


def deep(values: Any, *path: str) -> Any:
    """What a dictionary of dictionaries has at a path, or None."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values
