# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tables of the edge may hold: each check gives back a plain value, or raises an error for a person.

``where`` is the place in the user's words, for instance ``ingress_routes[0] (api).timeout_seconds``.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, NoReturn

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity

UINT32 = 2**32 - 1
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Found(str):
    """Words about what was found, not the value itself, so shown without quotes."""

    __slots__ = ()


def wrong(where: str, found: object, expected: str, fix: str = "") -> NoReturn:
    """Raise the error that names the place, what was found there, what was expected and what to do."""
    shown = found if isinstance(found, Found) else json.dumps(found, default=str)
    raise PlatformError(
        "The edge's configuration is wrong", where=where, found=shown, expected=expected, fix=fix, reason="argument"
    )


def check_keys(value: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    """The dictionary, which has all the required keys and no others than the optional ones."""
    allowed = ", ".join(required + optional)
    if not isinstance(value, dict):
        wrong(where, value, f"a dictionary with the keys {allowed}")
    unknown = sorted(str(key) for key in value if key not in required + optional)
    if unknown:
        wrong(where, Found(f"the key {unknown[0]}"), f"only the keys {allowed}")
    for key in required:
        if value.get(key) is None:
            wrong(f"{where}.{key}", Found("nothing"), f"a value; {where} needs the keys {', '.join(required)}")
    return value


def text_of(value: Any, where: str, expected: str, pattern: re.Pattern[str] | None = None) -> str:
    """A text that is not empty, has no control characters and is the pattern from end to end."""
    if not isinstance(value, str) or not value or _CONTROL.search(value) or (pattern and not pattern.fullmatch(value)):
        wrong(where, value, expected)
    # A plain str: values out of Ansible's templating are tagged subclasses that YAML does not know.
    return str(value)


def name_of(value: Any, where: str) -> str:
    """The name of a row of a table."""
    return text_of(value, where, "a name in lower-case letters, digits, . _ and -", NAME)


def path_of(value: Any, where: str) -> str:
    """The beginning of an URL's path."""
    expected = "a path that begins with /"
    path = text_of(value, where, expected)
    if not path.startswith("/"):
        wrong(where, path, expected)
    return path


def number_of(value: Any, where: str, low: float, high: float, unit: str, whole: bool = False) -> Any:
    """A number of ``unit`` from ``low`` to ``high``."""
    kinds = (int,) if whole else (int, float)
    # NaN fails both comparisons, so the test asks for what is right and not for what is wrong.
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        wrong(where, value, f"{'a whole number' if whole else 'a number'} of {unit} from {low:g} to {high:g}")
    return int(value) if whole or value == int(value) else float(value)


def flag_of(value: Any, where: str) -> bool:
    """True or false, and no word for them."""
    if not isinstance(value, bool):
        wrong(where, value, "true or false")
    return bool(value)


def list_of(value: Any, where: str, of: str, empty: bool = False) -> list[Any]:
    """The list; one without entries only where ``empty`` allows it."""
    if not isinstance(value, (list, tuple)) or (not value and not empty):
        wrong(where, value, f"a list of {of}" + ("" if empty else ", at least one"))
    return list(value)


def is_ip_address(text: str) -> bool:
    """Whether it is an address of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def quantity_bytes(value: Any, where: str) -> int:
    """Bytes of a Kubernetes quantity such as ``4Gi``."""
    number = quantity(value)
    if number is None or number < 0:
        wrong(where, value, "a Kubernetes quantity of memory, for instance 4Gi or 512Mi")
    return int(number)


def duration(seconds: float) -> str:
    """Seconds in the form of protobuf's Duration, for instance 1.5s."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
