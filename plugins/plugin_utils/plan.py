# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``site.yml`` would ask its modules for, read from the roles' tasks and evaluated without running them.

There is no second table of components, replicas or requests: a role that ``playbooks/site.yml`` imports is part of the
plan, with whatever its tasks give the modules ``chart``, ``policy`` and ``secret``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.template import trust_as_template
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import InProcessAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (
    PLAYBOOKS,
    ROLES,
    Role,
    read_file,
    read_roles,
    trusted,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED

COLLECTION = "lambda_microservice.platform."
ASKED = ("chart", "policy", "secret")
"""The modules whose arguments make the plan."""
INSTALLED = ("secret", "policy", "chart", "rollout")
"""The same of the plan by which what runs is looked at and changed."""
_OF_INSTALLED = ("batches", "absent", "rollouts")

_IMPORTS_ROLE = ("ansible.builtin.import_role", "ansible.builtin.include_role")
_IMPORTS_TASKS = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks")
_BLOCKS = ("block", "always")
_NOT_YET = {"changed": False, "certificates_expire": {}, "ca_certificates": {}, "secrets": [], "workloads": []}
"""What a task has registered that did not run: the names that the roles read, of a cluster that has nothing yet."""

Template = Callable[[dict[str, Any], Any], Any]
Holds = Callable[[dict[str, Any], Any], bool]
Registered = Callable[[str, dict[str, Any]], dict[str, Any]]
"""What a task would register now, by its module and the module's arguments. Nothing is changed for it."""


def components(folder: Path = PLAYBOOKS) -> list[str]:
    """The roles that site.yml imports, in its order. What it imports of one beside its main tasks is an end."""
    (play,) = read_file(folder / "site.yml")
    return [
        str(task[name]["name"]).removeprefix(COLLECTION)
        for task in play["tasks"]
        for name in _IMPORTS_ROLE
        if name in task and "tasks_from" not in task[name]
    ]


def plan(
    roles: list[Role],
    variables: Mapping[str, Any],
    checked: Mapping[str, Any],
    template: Template,
    holds: Holds,
    asked: tuple[str, ...] = ASKED,
    registered: Registered | None = None,
) -> list[dict[str, Any]]:
    """For each component ``name``, ``releases``, ``objects``, ``files`` and ``secrets`` as its tasks give them, and
    ``unknown``: what could not be evaluated, and why. Besides, ``batches``: the arguments of ``policy``, one batch
    each; ``absent``: the releases that are to be gone; ``rollouts``: the arguments of ``rollout``.

    ``variables`` are those that a task sees, ``checked`` the result of the module ``variables``; ``asked`` are the
    modules whose arguments are wanted. Without ``registered``, tasks have registered what a cluster without anything
    gives.
    """
    own = {name: value for role in roles for name, value in role.own.items()}
    defaults = {name: value for role in roles for name, value in role.defaults.items()}
    seen = {**defaults, **own, **variables, CHECKED: checked}
    paths = {role.name: role.path for role in roles}
    # What all roles share (images, flows) is evaluated once and not at each of its uses.
    for name in (name for name in own if not name.startswith("__")):
        try:
            seen[name] = template(seen, seen[name])
        except AnsibleError:
            if name != "platform_image":
                raise
            # Nobody has built images yet: the plan's figures do not depend on their names.
            seen[name] = {image: f"example.com/{image}:unknown" for image in own["__platform_images"]}
    return [
        _component(name, paths.get(name, ROLES / name), seen, template, holds, asked, registered)
        for name in components()
    ]


def _component(
    name: str,
    path: Path,
    variables: dict[str, Any],
    template: Template,
    holds: Holds,
    asked: tuple[str, ...],
    registered: Registered | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "releases": [],
        "objects": [],
        "files": [],
        "secrets": [],
        "unknown": [],
        **{key: [] for key in _OF_INSTALLED},
    }
    seen = {**variables, "role_path": str(path), "role_name": name, "ansible_search_path": [str(path)]}
    tasks = list(_tasks(path / "tasks" / "main.yml", []))
    for task, _conditions in tasks:
        if "register" in task and task["register"] != CHECKED:
            seen[task["register"]] = _NOT_YET
    for task, conditions in tasks:
        for module in asked:
            arguments = task.get(COLLECTION + module)
            if not isinstance(arguments, dict):
                continue
            try:
                # A release may need what a task registers that only waits.
                if all(holds(seen, condition) for condition in conditions):
                    told = _ask(found, module, arguments, seen, template)
                    if registered is not None and "register" in task:
                        seen[task["register"]] = {**_NOT_YET, **registered(module, told)}
            except AnsibleError as cause:
                why = " ".join(str(cause).split())
                found["unknown"].append({"task": str(task.get("name", module)), "why": why[:600]})
    return found


def _ask(
    found: dict[str, Any], module: str, arguments: dict[str, Any], seen: dict[str, Any], template: Template
) -> dict[str, Any]:
    """Note what a task gives its module, and give it."""

    def given(name: str) -> list[Any]:
        return list(template(seen, arguments[name]) or []) if name in arguments else []

    lists = [name for name in ("releases", "secrets", "workloads", "objects", "files") if name in arguments]
    told = template(seen, {name: value for name, value in arguments.items() if name not in lists})
    if module == "policy" and told.get("state", "present") != "present":
        lists = []
    told.update({name: given(name) for name in lists})
    if module == "chart":
        for release in told["releases"]:
            found["releases" if (release.get("state") or "present") == "present" else "absent"].append(release)
    elif module == "secret":
        found["secrets"] += told["secrets"]
    elif module == "rollout":
        found["rollouts"].append(told)
    else:
        found["objects"] += told.get("objects", [])
        found["files"] += told.get("files", [])
        found["batches"].append(told)
    return told


def _tasks(path: Path, conditions: list[Any]) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Every task of a file and of those that it imports, with all the conditions under which it runs."""
    for task in trusted(read_file(path)):
        yield from _flat(task, path, conditions)


def _flat(task: dict[str, Any], path: Path, outer: list[Any]) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    when = task.get("when", [])
    # A condition has no braces by which trusted() would know it.
    conditions = outer + [trust_as_template(str(one)) for one in (when if isinstance(when, list) else [when])]
    for key in _BLOCKS:
        for inner in task.get(key, []):
            yield from _flat(inner, path, conditions)
    for key in _IMPORTS_TASKS:
        if key in task:
            given = task[key]
            yield from _tasks(path.parent / str(given["file"] if isinstance(given, dict) else given), conditions)
    yield task, conditions


class PlannedAction(InProcessAction):
    """Base of the action plugins of modules that look at what site.yml would do."""

    def planned(self, task_vars: dict[str, Any], asked: tuple[str, ...] = ASKED) -> list[dict[str, Any]]:
        """The plan by the play's variables, of which a task before has registered ``__platform``."""
        made = self._planned(task_vars, asked, None)
        return [{key: value for key, value in one.items() if key not in _OF_INSTALLED} for one in made]

    def planned_or_why(self, task_vars: dict[str, Any], asked: tuple[str, ...] = ASKED) -> list[dict[str, Any]]:
        """The same where variables are wrong, which the module tells beside what it can still see."""
        try:
            return self.planned(task_vars, asked)
        except AnsibleError as cause:
            return [{"name": "platform", "unknown": [{"task": "its tables", "why": " ".join(str(cause).split())}]}]

    def installed(self, task_vars: dict[str, Any], registered: Registered) -> list[dict[str, Any]]:
        """The whole plan, on a cluster that has something."""
        return self._planned(task_vars, INSTALLED, registered)

    def _planned(
        self, task_vars: dict[str, Any], asked: tuple[str, ...], registered: Registered | None
    ) -> list[dict[str, Any]]:
        checked = task_vars.get(CHECKED) or {}
        return plan(read_roles(), task_vars, checked, self.template, self._holds, asked, registered)

    def template(self, variables: dict[str, Any], value: Any) -> Any:
        """The value, templated with these variables."""
        return self._templar.copy_with_new_env(available_variables=variables).template(value)

    def _holds(self, variables: dict[str, Any], condition: Any) -> bool:
        return bool(self._templar.copy_with_new_env(available_variables=variables).evaluate_conditional(condition))
