# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``chart``: bring Helm releases to what their charts render to, and nothing more.

The order of work for one release: render it, read Helm's record and the live objects, compare, and only then act. What
differs decides how: a changed manifest is Helm's business (a new revision); objects that somebody changed or deleted
behind Helm's back are applied again as they were rendered, without a new revision and without running hooks, so that
the history keeps the revisions that a rollback can go to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.installation import (
    Context,
    Installation,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.rendering import Rendered
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import side_by_side
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import Helm
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Revision
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

Progress = Callable[[str], None]

RELEASES_AT_ONCE = 4
LARGEST_INTEGER = 2**53
"""Helm reads values as 64-bit floating point numbers, which hold each integer up to this one."""

ARGUMENT_SPEC: dict[str, Any] = {
    "releases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "chart": {"type": "str"},
            "repository": {"type": "str"},
            "repository_username": {"type": "str"},
            "repository_password": {"type": "str", "no_log": True},
            "version": {"type": "str"},
            "values": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "timeout_seconds": {"type": "int", "default": 300},
            "create_namespace": {"type": "bool", "default": False},
            "crds": {"type": "str", "choices": ["apply", "create", "skip"], "default": "apply"},
            "after": {"type": "list", "elements": "str", "default": []},
            "plain_http": {"type": "bool", "default": False},
            "ignore": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "kind": {"type": "str", "required": True},
                    "name": {"type": "str", "default": "*"},
                    "path": {"type": "str", "required": True},
                },
            },
        },
        "required_if": [("state", "present", ("chart",))],
        "required_by": {"repository_password": ("repository_username",)},
    },
    "helm_binary": {"type": "str", "default": "helm"},
    "pending_grace_seconds": {"type": "int", "default": 60},
    **auth_argument_spec(),
}


def run(
    params: Object,
    check_mode: bool = False,
    diff: bool = False,
    progress: Progress | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Bring all releases to their states. The result has one entry for each, in the order of ``params``."""
    specs = params["releases"]
    waves = _waves(specs)
    _check_values(specs)
    cluster = (connect or Cluster)(params)
    with Helm(params["helm_binary"], cluster) as helm:
        histories = _checked_and_read(helm, cluster, specs)
        context = Context(
            cluster=cluster,
            helm=helm,
            check_mode=check_mode,
            diff=diff,
            progress=progress or (lambda line: None),
            pending_grace_seconds=params["pending_grace_seconds"],
            histories=histories,
        )
        outcomes: dict[int, Object | PlatformError] = {}
        for wave in waves:
            results = _in_threads(lambda index: _bring(specs[index], context), wave)
            outcomes.update(zip(wave, results, strict=True))
            if any(isinstance(result, PlatformError) for result in results):
                break
    return _result(specs, outcomes)


@dataclass
class Looked:
    """What a run would do to one release, or why it would fail, and what the release's chart makes."""

    outcome: Object | PlatformError
    rendered: Rendered


def look(cluster: Cluster, helm_binary: str, specs: list[Object]) -> list[Looked]:
    """The same for releases that nothing is done to, each by itself."""
    with Helm(helm_binary, cluster) as helm:
        context = Context(
            cluster=cluster,
            helm=helm,
            check_mode=True,
            diff=False,
            progress=lambda line: None,
            pending_grace_seconds=0,
            histories=_checked_and_read(helm, cluster, specs),
        )
        installations = [Installation(spec, context) for spec in specs]

        def bring(index: int) -> Object:
            one = installations[index]
            return one.absent() if one.spec["state"] == "absent" else one.present()

        outcomes = _in_threads(bring, list(range(len(specs))))
    return [Looked(outcome, one.rendered) for one, outcome in zip(installations, outcomes, strict=True)]


def _in_threads(bring: Callable[[int], Object], wave: list[int]) -> list[Object | PlatformError]:
    """Like concurrently(), but in a thread also for one: an exception that ends the task comes in the main thread, and
    must not come between the start of a helm and the note that it runs.
    """

    def call(index: int) -> Object | PlatformError:
        try:
            return bring(index)
        except PlatformError as error:
            return error

    with side_by_side(RELEASES_AT_ONCE) as begin:
        return [future.result() for future in [begin(call, index) for index in wave]]


def _result(specs: list[Object], outcomes: dict[int, Object | PlatformError]) -> Object:
    done = [outcome for _index, outcome in sorted(outcomes.items()) if not isinstance(outcome, PlatformError)]
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, PlatformError)]
    entries = [entry for outcome in done for entry in outcome.pop("diff")]
    result: Object = {"changed": any(outcome["changed"] for outcome in done), "releases": done}
    if entries:
        result["diff"] = entries
    if errors:
        left = [spec["name"] for index, spec in enumerate(specs) if index not in outcomes]
        error = PlatformError.of_many("%d of %d releases failed" % (len(errors), len(specs)), errors)
        result.update(failed=True, not_started=left, **error.result())
    return result


def _waves(specs: list[Object]) -> list[list[int]]:
    """Indexes of the releases in groups: each group's members wait for earlier groups only (``after``)."""
    identities = Counter((spec["namespace"], spec["name"]) for spec in specs)
    twice = ["%s/%s" % identity for identity, count in identities.items() if count > 1]
    names = {spec["name"] for spec in specs}
    unknown = sorted({name for spec in specs for name in spec["after"] if name not in names})
    if twice or unknown:
        raise PlatformError(
            "the list of releases is not consistent",
            where="releases",
            found="named twice: %s" % ", ".join(twice) if twice else "after names no release: %s" % ", ".join(unknown),
            expected="each release once, and in after only names of the list",
            fix="correct releases",
            reason="argument",
        )
    waves: list[list[int]] = []
    done: set[str] = set()
    left = list(range(len(specs)))
    while left:
        wave = [index for index in left if set(specs[index]["after"]) <= done]
        if not wave:
            raise PlatformError(
                "releases wait for each other",
                where="releases",
                found=", ".join("%s after %s" % (specs[i]["name"], ", ".join(specs[i]["after"])) for i in left),
                expected="an order without a circle",
                fix="remove one of the after entries",
                reason="argument",
            )
        left = [index for index in left if index not in wave]
        # A name may be used in two namespaces: it is done when both are.
        waiting = {specs[index]["name"] for index in left}
        done |= {specs[index]["name"] for index in wave} - waiting
        waves.append(wave)
    return waves


def _check_values(specs: list[Object]) -> None:
    """Refuse what Helm would not pass on as it is, and would so change at each run."""
    found = [
        "%s/%s: values.%s is %s" % (spec["namespace"], spec["name"], path, value)
        for spec in specs
        for path, value in _numbers(spec["values"])
    ]
    if found:
        raise PlatformError(
            "a number in the values cannot be kept by Helm",
            where="releases",
            found="; ".join(found[:10]) + ("; and %d more" % (len(found) - 10) if len(found) > 10 else ""),
            expected="integers between -2^53 and 2^53 (%d), and no infinities" % LARGEST_INTEGER,
            fix="quote it, so that it is a text, and let the chart print it as it is",
            reason="values",
        )


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, what it is) of the numbers that JSON, or a floating point number, does not hold."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, "%s.%s" % (path, name) if path else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, "%s[%d]" % (path, index))
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        yield path, "an integer beyond 2^53"
    elif isinstance(value, float) and not isfinite(value):
        yield path, "no finite number"


def secrets_of(params: Object) -> Iterator[str]:
    """What is secret among the arguments without being a no_log argument: passwords in addresses."""
    for spec in params.get("releases") or []:
        for address in (spec.get("repository"), spec.get("chart")):
            if address and "://" in address:
                password = urlsplit(address).password or ""
                yield from (password, unquote(password))


def _checked_and_read(helm: Helm, cluster: Cluster, specs: list[Object]) -> dict[tuple[str, str], list[Revision]]:
    """The revisions of all releases; helm tells its version meanwhile."""
    namespaces = sorted({spec["namespace"] for spec in specs})

    def of_namespace(namespace: str) -> dict[str, list[Revision]]:
        names = [spec["name"] for spec in specs if spec["namespace"] == namespace]
        return helm_release.histories(cluster, namespace, names)

    with side_by_side() as begin:
        version = begin(helm.version)
        histories = {namespace: begin(of_namespace, namespace) for namespace in namespaces}
        version.result()
        return {
            (namespace, name): history
            for namespace, reading in histories.items()
            for name, history in reading.result().items()
        }


def _bring(spec: Object, context: Context) -> Object:
    installation = Installation(spec, context)
    return installation.absent() if spec["state"] == "absent" else installation.present()
