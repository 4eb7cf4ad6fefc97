# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of the roles' variables, each in its specification's type, whatever form it was given in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (
    CLIENT_OPTIONS,
    Role,
    may_be_template,
)

CHECKED = "__platform"
"""The variable that has them all, by name. Extra variables beat every other, so none can be changed in its place."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NONE = object()


def evaluate(
    roles: list[Role], variables: dict[str, Any], template: Callable[[dict[str, Any], Any], Any]
) -> tuple[dict[str, Any], list[PlatformError]]:
    """The values by name, and what is wrong with the others.

    ``variables`` are all that a task sees, as they were given. A value may be made of others (many defaults are): those
    come first, so that it sees them in their types, and compares 30 with 40 and not with "40".
    """
    seen = dict(variables)
    checked: dict[str, Any] = {}
    seen[CHECKED] = checked
    wrong: dict[str, PlatformError] = {}
    owners = {name: role for role in roles for name in role.options if name in variables}
    for name in in_order(owners, variables):
        role, value = owners[name], variables[name]
        default = role.defaults.get(name, _NONE)
        from_default = value == default and isinstance(value, bool) == isinstance(default, bool)
        error = None
        if may_be_template(value):
            seen["role_path"] = str(role.path)
            try:
                value, error = convert(role, name, template(seen, value))
            except AnsibleError as cause:
                error = _unreadable(role, name, cause)
        elif not from_default:
            value, error = convert(role, name, value)
        if error is None:
            checked[name] = seen[name] = value
        elif not from_default or not wrong:
            # A default is wrong where it is made of a value that is, which has been told then.
            wrong[name] = error
    for role in roles:
        for name, option in role.options.items():
            if option.get("required") and variables.get(name) is None:
                wrong[name] = _missing(role, name)
    return checked, [wrong[name] for name in sorted(wrong)]


def in_order(names: Iterable[str], variables: Mapping[str, Any]) -> list[str]:
    """The names, each after those that its value is made of, by way of other variables too.

    Where values are made of each other in a circle, Ansible says so when it reads them.
    """
    ordered: dict[str, None] = {}
    met: set[str] = set()

    def visit(name: str) -> None:
        if name in met:
            return
        met.add(name)
        if may_be_template(variables[name]):
            for word in sorted(_words(variables[name]) & variables.keys()):
                visit(word)
        ordered[name] = None

    wanted = list(names)
    for name in wanted:
        visit(name)
    wanted_names = set(wanted)
    return [name for name in ordered if name in wanted_names]


def _words(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(_WORD.findall(value)) if may_be_template(value) else set()
    if isinstance(value, Mapping):
        return set().union(*(_words(part) for part in value.values()))
    return set().union(*(_words(part) for part in value)) if isinstance(value, list) else set()


def convert(role: Role, name: str, value: Any) -> tuple[Any, PlatformError | None]:
    """The value in its option's type, or what is wrong with it."""
    option = role.options[name]
    if value is None and option.get("default") is None and not option.get("required"):
        return None, None
    wanted = option.get("type", "str")
    if isinstance(value, str) and wanted == "list":
        value = list(_listed(value))
    elif isinstance(value, str) and wanted == "dict" and value.lstrip().startswith("{"):
        value = _parsed(value)
    if _is_already(wanted, option, value):
        return value, None
    outcome = ArgumentSpecValidator({name: dict(option)}).validate({name: value})
    converted, messages = outcome.validated_parameters.get(name), list(outcome.error_messages)
    if not messages and name in CLIENT_OPTIONS:
        converted, messages = _clients(CLIENT_OPTIONS[name], converted)
    if messages:
        choices = ", ".join(str(choice) for choice in option.get("choices", ()))
        elements = f" of {option['elements']}" if "elements" in option else ""
        return None, PlatformError(
            f"{name} is not what its specification says",
            found="; ".join(messages) if not option.get("no_log") else "(not shown)",
            expected=f"{wanted}{elements}" + (f": {choices}" if choices else ""),
            fix=f"correct {name}; {role.documented} describes it",
            reason="argument",
        )
    converted = _as_given(value, converted)
    if wanted == "float" and float(converted).is_integer():
        converted = int(converted)
    return converted, None


def _is_already(wanted: str, option: Mapping[str, Any], value: Any) -> bool:
    """Whether a value has its type for sure. It spares most values the validator, and the run a tenth of a second."""
    if option.keys() & {"choices", "options", "elements"}:
        return False
    if isinstance(value, bool):
        return wanted == "bool"
    return (wanted == "str" and isinstance(value, str)) or (wanted == "int" and isinstance(value, int))


def _clients(options: Mapping[str, Any], clients: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    converted, messages = {}, []
    for name, client in clients.items():
        if not isinstance(client, dict):
            messages.append(f"{name}: a dictionary is wanted, not {type(client).__name__}")
            continue
        outcome = ArgumentSpecValidator(dict(options)).validate(client)
        messages += [f"{name}: {message}" for message in outcome.error_messages]
        converted[name] = _as_given(client, outcome.validated_parameters)
    return converted, messages


def _listed(text: str) -> Iterator[Any]:
    """A text as a list: JSON or YAML with brackets, or with commas between the elements."""
    parsed = _parsed(text) if text.lstrip().startswith("[") else text
    if isinstance(parsed, list):
        yield from parsed
        return
    yield from (part.strip() for part in text.split(",") if part.strip())


def _parsed(text: str) -> Any:
    """Of JSON or YAML, or the text where it is neither."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _as_given(before: Any, after: Any) -> Any:
    """Without the options of a dictionary that nobody gave: whoever reads them knows what stands for them."""
    if isinstance(after, dict) and isinstance(before, Mapping):
        return {key: _as_given(before[key], value) for key, value in after.items() if key in before}
    if isinstance(after, dict):
        return {key: value for key, value in after.items() if value is not None}
    if isinstance(after, list) and isinstance(before, list) and len(before) == len(after):
        return [_as_given(old, new) for old, new in zip(before, after, strict=True)]
    return after


def _missing(role: Role, name: str) -> PlatformError:
    return PlatformError(
        f"{name} is missing",
        expected=f"a value of the type {role.options[name].get('type', 'str')}",
        fix=f"set {name} in the inventory; {role.documented} describes it",
        reason="argument",
    )


def _unreadable(role: Role, name: str, cause: AnsibleError) -> PlatformError:
    return PlatformError(
        f"{name} cannot be read",
        found=" ".join(str(cause).split()),
        expected="a value, or a template of variables that are there",
        fix=f"correct {name}; {role.documented} describes it",
        reason="argument",
    )
