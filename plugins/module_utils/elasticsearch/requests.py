# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to Elasticsearch, sent by curl from inside one of its pods: nobody outside needs a way to it.

The API server's proxy would take the request's login for one to itself. curl is in Elasticsearch's image, where the
operator's own hook uses it, and reads all of a request from its input, so that no login is in a list of processes.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready

URL = "https://localhost:9200"
"""A name in the certificate that the role asks the operator for."""

AUTHORITY = "/usr/share/elasticsearch/config/http-certs/ca.crt"
"""Where the operator mounts the authority of that certificate."""

_CLUSTER_LABEL = "elasticsearch.k8s.elastic.co/cluster-name"
_REQUEST_SECONDS = 30

# curl gets as much as there is: the end of an input is not passed on by every version of the protocol.
_COMMAND = 'head -c "$1" | curl --silent --show-error --config -'


@dataclass(frozen=True)
class Request:
    """One request, of Elasticsearch's REST API. The body is sent as JSON."""

    method: str
    path: str
    body: Object | None = None


@dataclass(frozen=True)
class Answer:
    """Its answer; a body that is no JSON is a text."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return 200 <= self.status < 300

    def reason(self) -> str:
        """Why it is none, in Elasticsearch's words."""
        error = self.body.get("error") if isinstance(self.body, dict) else self.body
        return str(error.get("reason") if isinstance(error, dict) else error)[:500]


class Elasticsearch:
    """One Elasticsearch of Elastic's operator, as the user in a Secret (``username``, ``password``) may use it."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, user_secret: str) -> None:
        self.cluster, self.namespace, self.name, self.user_secret = cluster, namespace, name, user_secret

    def described(self) -> str:
        """How messages name it."""
        return f"Elasticsearch {self.namespace}/{self.name}"

    def is_there(self) -> bool:
        """Whether a pod of it could answer."""
        return self._pod() is not None

    def ask(self, requests: list[Request]) -> list[Answer]:
        """Send the requests one after the other, in one session; the answers in their order."""
        pod = self._pod()
        if pod is None:
            raise PlatformError(
                "there is no Elasticsearch that could answer",
                where=self.described(),
                found="no pod of it that is ready",
                expected="one pod or more",
                fix=f"kubectl -n {self.namespace} get elasticsearch,pods shows what it waits for",
                reason="missing",
            )
        mark = secrets.token_hex(8)
        text = configuration(requests, *self._login(), mark)
        command = ["sh", "-c", _COMMAND, "sh", str(len(text.encode()))]
        ran = run_in_pod(
            self.cluster, self.namespace, pod, command, container="elasticsearch", stdin=text,
            timeout_seconds=_REQUEST_SECONDS * len(requests) + 10,
        )  # fmt: skip
        answers = answers_of(ran.stdout, mark)
        if len(answers) != len(requests):
            raise PlatformError(
                "Elasticsearch does not answer",
                where=f"{self.described()}, pod {pod}",
                found=ran.stderr.strip()[:300] or f"{len(answers)} answers to {len(requests)} requests",
                expected=f"an answer at {URL} in the pod",
                fix=f"look at kubectl -n {self.namespace} logs {pod}",
                reason="answer",
            )
        return answers

    def _pod(self) -> str | None:
        pods = self.cluster.list("v1", "Pod", self.namespace, f"{_CLUSTER_LABEL}={self.name}")
        for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"]):
            if is_ready(pod):
                return str(pod["metadata"]["name"])
        return None

    def _login(self) -> tuple[str, str]:
        ref = {"apiVersion": "v1", "kind": "Secret", "name": self.user_secret, "namespace": self.namespace}
        data = (self.cluster.get(ref) or {}).get("data") or {}
        if not data.get("username") or not data.get("password"):
            raise PlatformError(
                "there is no login for Elasticsearch",
                where=f"Secret {self.namespace}/{self.user_secret}",
                found=f"the keys {', '.join(sorted(data))}" if data else "no such Secret",
                expected="username and password",
                fix="run site.yml with the tag logging, which makes it",
                reason="missing",
            )
        return base64.b64decode(data["username"]).decode(), base64.b64decode(data["password"]).decode()


def configuration(requests: list[Request], username: str, password: str, mark: str) -> str:
    """What curl reads (https://curl.se/docs/manpage.html#-K), in ASCII. ``mark`` and the status follow each answer."""
    parts = []
    for request in requests:
        options = {
            "url": URL + request.path,
            "request": request.method,
            "cacert": AUTHORITY,
            "user": f"{username}:{password}",
            "max-time": str(_REQUEST_SECONDS),
            "write-out": f"{mark}%{{http_code}}{mark}",
        }
        if request.body is not None:
            options |= {"header": "Content-Type: application/json", "data-raw": json.dumps(request.body)}
        parts.append("".join(f"{name} = {_quoted(value)}\n" for name, value in options.items()))
    return "next\n".join(parts)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def answers_of(output: str, mark: str) -> list[Answer]:
    """The answers, out of what curl wrote. Status 000 is none: the connection failed."""
    parts = output.split(mark)[:-1]
    answers = []
    for text, status in zip(parts[::2], parts[1::2], strict=True):
        if int(status) == 0:
            break
        try:
            answers.append(Answer(int(status), json.loads(text)))
        except ValueError:
            answers.append(Answer(int(status), text.strip()))
    return answers
