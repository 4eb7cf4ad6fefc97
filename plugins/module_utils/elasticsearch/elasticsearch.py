# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``elasticsearch``: what Elasticsearch keeps at paths of its API, written where it differs.

Stack Config Policies of Elastic's operator would do the same with an Enterprise licence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.elasticsearch.requests import (
    Answer,
    Elasticsearch,
    Request,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "namespace": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "user_secret": {"type": "str", "required": True, "no_log": False},
    "documents": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"path": {"type": "str", "required": True}, "body": {"type": "dict"}},
    },
}

_READY_SECONDS = 120
"""How long Elasticsearch may refuse: a kubelet takes up to a minute to show it a new user, and it elects a master."""

_PAUSE_SECONDS = 2


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Write what differs of the documents in ``params`` (the validated :data:`ARGUMENT_SPEC`), in their order."""
    server = Elasticsearch((connect or Cluster)(params), params["namespace"], params["name"], params["user_secret"])
    documents: list[Object] = params["documents"]
    answers = _read(server, documents, check_mode)
    differing = [
        (document, answer) for document, answer in zip(documents, answers, strict=True) if not holds(document, answer)
    ]
    for document, _answer in [] if check_mode else differing:
        (written,) = server.ask([Request("PUT", document["path"], document["body"])])
        if not written.ok:
            raise _refused(server, document["path"], written)
    actions = {
        id(document): "created" if answer is None or answer.status == 404 else "updated"
        for document, answer in differing
    }
    result: Object = {
        "changed": bool(differing),
        "documents": [
            {"path": document["path"], "action": actions.get(id(document), "unchanged")} for document in documents
        ],
    }
    if diff:
        result["diff"] = [
            {
                "before_header": document["path"],
                "after_header": document["path"],
                "before": stored(answer, document) or {} if answer else {},
                "after": document["body"] or {},
            }
            for document, answer in differing
        ]
    return result


def _read(server: Elasticsearch, documents: list[Object], check_mode: bool) -> list[Answer] | list[None]:
    """What is at each path; in check mode None for all where there is no Elasticsearch yet."""
    if check_mode and not server.is_there():
        return [None] * len(documents)
    requests = [Request("GET", document["path"]) for document in documents]

    def look() -> list[Answer]:
        return server.ask(requests)

    def settled(answers: list[Answer]) -> bool:
        return all(answer.ok or answer.status == 404 for answer in answers)

    answers = wait_until(look, 0 if check_mode else _READY_SECONDS, _PAUSE_SECONDS, done=settled)
    for request, answer in zip(requests, answers, strict=True):
        if not answer.ok and answer.status != 404:
            raise _refused(server, request.path, answer)
    return answers


def stored(answer: Answer, document: Object) -> Any:
    """The document within the answer to a GET, which wraps it in its name, or in a list, by the kind of document."""
    name = document["path"].rpartition("/")[2]
    found = answer.body
    for key in ("index_templates", "component_templates"):
        if key in found:
            return next((entry[key.removesuffix("s")] for entry in found[key] if entry["name"] == name), None)
    found = found.get(name)
    if isinstance(found, dict) and "policy" in found and "policy" not in (document["body"] or {}):
        return found["policy"]
    return found


def holds(document: Object, answer: Answer | None) -> bool:
    """Whether it is there with all that the document says. What Elasticsearch adds by itself does not count."""
    if answer is None or not answer.ok:
        return False
    return document["body"] is None or _within(document["body"], stored(answer, document))


def _within(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and _within(value, found[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(map(_within, wanted, found))
    return _text(wanted) == _text(found)


def _text(value: Any) -> str:
    """Elasticsearch gives settings back as strings, whatever they were given as."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refused(server: Elasticsearch, path: str, answer: Answer) -> PlatformError:
    return PlatformError(
        "Elasticsearch refuses a request",
        where=f"{server.described()}, {path}",
        found=f"{answer.status}: {answer.reason()}",
        expected="an answer with success",
        fix=f"kubectl -n {server.namespace} get elasticsearch {server.name} shows its health; 401 and 403 are the "
        f"rights of the user in the Secret {server.user_secret}",
        reason="answer",
    )
