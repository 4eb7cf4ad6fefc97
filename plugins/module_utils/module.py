# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module's logic. Its action plugin, in process, and the ordinary module give the same result by it.

Logic is a module of module_utils with ``ARGUMENT_SPEC`` (and, as needed, ``REQUIRED_IF`` and the like) and
``run(params, check_mode, diff, progress) -> dict``. Where it speaks to a cluster, ``run`` also takes ``connect``, which
makes the Cluster of the arguments that it is given. ``RESULT_HOLDS_NONE_OF`` names arguments whose no_log values no
result holds; only parts of words could be taken for them. ``secrets_of(params)`` gives what else is secret.

This file is read by any Python that Ansible supports on a remote host; the logic needs OLDEST_PYTHON.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.interruption import (
    Interrupted,
    interruptible,
)

OLDEST_PYTHON = (3, 11)
SHOW_CAUSES = 3
"""The verbosity from which a failure tells what it was caused by: ``-vvv``."""

_RULES = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


def rules_of(logic: ModuleType) -> dict[str, Any]:
    """What the logic demands of its arguments together, as the argument validator takes it."""
    # ansible-test wants a dictionary where no rule is given.
    return {name: getattr(logic, name.upper(), {} if name == "required_by" else None) for name in _RULES}


def result_of(
    logic: ModuleType,
    params: dict[str, Any],
    no_log_values: Iterable[str],
    *,
    check_mode: bool,
    diff: bool,
    verbosity: int,
    progress: Callable[[str], None],
    connected: Callable[[Any], None] = lambda cluster: None,
) -> dict[str, Any]:
    """The task's result for validated params. ``connected`` is told of each Cluster."""
    clusters: list[Any] = []

    def connect(auth: dict[str, Any]) -> Any:
        clusters.append(logic.Cluster(auth))
        connected(clusters[-1])
        return clusters[-1]

    options = {"connect": connect} if hasattr(logic, "Cluster") else {}
    try:
        with interruptible():
            result = logic.run(params, check_mode=check_mode, diff=diff, progress=progress, **options)
    except PlatformError as error:
        result = {"failed": True, **error.result()}
        if verbosity >= SHOW_CAUSES and error.causes():
            result["causes"] = error.causes()
    except Interrupted as interrupted:
        # All is cleaned up: what would have happened without us happens now.
        signal.raise_signal(interrupted.number)
        raise
    said = [*result.pop("warnings", []), *(text for cluster in clusters for text in cluster.warnings)]
    if said:
        result["warnings"] = list(dict.fromkeys(said))
    return masked(result, hidden_values(logic, params, no_log_values))


def masked(result: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """The result without these values, as ``exit_json`` makes it: truth values and None at its top stay."""
    kept = {name: value for name, value in result.items() if value is None or isinstance(value, bool)}
    return {**remove_values(result, hidden), **kept}


def hidden_values(logic: ModuleType, params: dict[str, Any], no_log_values: Iterable[str]) -> set[str]:
    """The values that must not stand in a result: of no_log arguments, and what else among the arguments is secret."""
    apart = getattr(logic, "RESULT_HOLDS_NONE_OF", ())
    if apart:
        spec = {name: entry for name, entry in logic.ARGUMENT_SPEC.items() if name not in apart}
        no_log_values = _no_log_values(spec, params)
    further = getattr(logic, "secrets_of", lambda params: ())(params)
    return {value for value in (*no_log_values, *_secrets_of_access(params), *further) if value}


def _no_log_values(spec: dict[str, Any], params: dict[str, Any]) -> Iterator[str]:
    for name, entry in spec.items():
        value = params.get(name)
        if isinstance(value, dict) and entry.get("options"):
            yield from _no_log_values(entry["options"], value)
        elif entry.get("no_log") and value is not None:
            yield str(value)


def _secrets_of_access(params: dict[str, Any]) -> Iterator[str]:
    """What a kubeconfig that is given as data, and a proxy's address, keep secret."""
    kubeconfig = params.get("kubeconfig")
    for entry in (kubeconfig.get("users") or []) if isinstance(kubeconfig, dict) else []:
        user = (entry or {}).get("user") or {}
        for name in ("token", "password", "client-key-data"):
            yield str(user.get(name) or "")
        yield from map(str, ((user.get("auth-provider") or {}).get("config") or {}).values())
        for variable in (user.get("exec") or {}).get("env") or []:
            yield str(variable.get("value") or "")
    yield urlsplit(str(params.get("proxy") or "")).password or ""


def require_python() -> None:
    """Ends the module with an error that Ansible understands where this Python is too old for the logic."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    wanted = ".".join(map(str, OLDEST_PYTHON))
    error = PlatformError(
        "the Python that runs the module is too old",
        where=sys.executable,
        found="Python %d.%d" % sys.version_info[:2],
        expected="Python %s or later" % wanted,
        fix="set ansible_python_interpreter to a newer one, or run the task on the control node "
        "(delegate_to: localhost)",
        reason="python",
    )
    # Not by AnsibleModule, which would first refuse arguments that only the logic can name.
    sys.stdout.write(json.dumps({"failed": True, **error.result()}) + "\n")
    raise SystemExit(1)


def run_as_module(logic: ModuleType) -> None:
    """Exits with the result of the logic."""
    # no_log is for the system's log alone: the arguments may hold a kubeconfig, of which Ansible does not know what
    # is secret.
    module = AnsibleModule(argument_spec=logic.ARGUMENT_SPEC, supports_check_mode=True, no_log=True, **rules_of(logic))
    module.no_log_values |= hidden_values(logic, module.params, module.no_log_values)
    invocation = {"module_args": remove_values(module.params, module.no_log_values)}
    result = result_of(
        logic,
        module.params,
        module.no_log_values,
        check_mode=module.check_mode,
        diff=module._diff,
        verbosity=module._verbosity,
        # A module's output reaches the user only when it ends, so progress has nowhere to go.
        progress=lambda line: None,
    )
    # What has to be hidden is hidden by now, and no more shall be.
    module.no_log_values = set()
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.get("failed"):
        module.fail_json(**result, invocation=invocation)
    module.exit_json(**result, invocation=invocation)
