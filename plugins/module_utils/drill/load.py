# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of a drill: the generator (tools/load) on this machine against the edge, or in a pod against a store.

Both are started, looked at while they send, stopped, and give a record of every request.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from typing import NoReturn

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently, wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.failure import FIELD_MANAGER, HOSTNAME
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.measure import (
    Request,
    Tick,
    parse_results,
    parse_ticks,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import is_ready
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

APP = "drill-load"
SESSION = "session"
"""The part of a load at the edge that asks for sessions and executes nothing."""
_RESULTS = "/results/results.csv"
_CREDENTIALS = "/run/credentials"
_AUTHORITY = "/run/authority"
_ENDED = ("Failed", "Succeeded")
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_STORED_SECONDS = 200.0
"""The end of a call whose worker was lost is known after its longest time and a little."""


class Load:
    """Base of the loads; ``run`` names one run of it in the store."""

    def __init__(self, spec: Object) -> None:
        self.spec = spec
        self.rate: int = spec["rate"]
        self.run = secrets.token_hex(4)

    def start(self, avoid_nodes: list[str]) -> None:
        """Begin to send, from none of these nodes."""
        raise NotImplementedError

    def ticks(self) -> list[Tick]:
        """The last lines of progress."""
        raise NotImplementedError

    def stop(self) -> list[Request]:
        """End the load and give the record of every request."""
        raise NotImplementedError

    def stored(self, count: int) -> set[int] | None:
        """Which of the numbers below count the store holds; None where nothing is stored."""
        return None

    def remove(self) -> None:
        """Take away all that the load brought; may be called at any time and twice."""
        raise NotImplementedError


class EdgeLoad(Load):
    """HTTPS requests from this machine: executions, each user's in a session of their own. There are so many users that
    none comes near the edge's limit of requests.
    """

    def __init__(self, spec: Object, generator: str, edge: Object) -> None:
        super().__init__(spec)
        self.generator = generator
        self.edge = edge
        self.folder = ""
        self.process: int | None = None

    def start(self, avoid_nodes: list[str]) -> None:
        self.folder = tempfile.mkdtemp(prefix="drill-")
        edge = Edge(self.edge["url"], "", self.edge.get("ca_file") or "")
        users = [f"drill-{self.run}-{number}" for number in range(self.spec["users"])]
        wanted = list(zip(users, itertools.cycle(in_turn(self.spec)), strict=False))
        sessions = concurrently(lambda item: self._session(edge, *item), wanted)
        for session in sessions:
            if isinstance(session, PlatformError):
                raise session
        with open(os.path.join(self.folder, "targets"), "w", encoding="utf-8") as file:
            for (user, what), session in zip(wanted, sessions, strict=True):
                file.write(json.dumps(edge_target(edge.url, str(session), user, what)) + "\n")
        argv = [self.generator, "attack", "-rate", str(self.rate), "-timeout", f"{self.spec['timeout_seconds']}s"]
        argv += ["-output", os.path.join(self.folder, "results.csv"), "-name", self.run]
        if self.edge.get("ca_file"):
            argv += ["-root-certs", self.edge["ca_file"]]
        argv.append("@" + os.path.join(self.folder, "targets"))
        log = os.path.join(self.folder, "log")
        if not os.access(self.generator, os.X_OK):
            raise PlatformError(
                "the load generator cannot be started",
                where=self.generator,
                found="no program of that name",
                expected="the program that tools/go-programs builds",
                fix="run playbooks/drill.yml, which builds it",
                reason="generator",
            )
        self.process = os.fork()
        if self.process == 0:
            _become(argv, log)

    def _session(self, edge: Edge, user: str, what: str) -> str:
        language = min(self.spec["scripts"]) if what == SESSION else what
        answer = edge.call(
            "POST",
            "/api/v1/initialize",
            {"script_content": self.spec["scripts"][language]},
            {"Language-Title": f"{language}-drill", "X-User-ID": user},
        )
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(answer.body)["request_id"])
        raise PlatformError(
            "no session for the drill's load",
            where=f"POST {edge.url}/api/v1/initialize",
            found=f"{answer.status} {answer.body[:300].decode('utf-8', 'replace')}",
            expected="200 with a request_id",
            fix="see playbooks/verify.yml",
            reason="edge",
        )

    def ticks(self) -> list[Tick]:
        text = ""
        # The program makes it, an instant after it was started.
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self.folder, "log"), encoding="utf-8") as file:
            text = file.read()
        if self.process is not None and os.waitpid(self.process, os.WNOHANG)[0]:
            self.process = None
        if self.process is None:
            raise _ended(text, "on this machine")
        return parse_ticks(text)

    def stop(self) -> list[Request]:
        self._end(signal.SIGINT)
        with open(os.path.join(self.folder, "results.csv"), encoding="utf-8") as file:
            return parse_results(file.read())

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        os.kill(self.process, number)
        process = self.process
        if not wait_until(lambda: os.waitpid(process, os.WNOHANG)[0], _STOP_SECONDS, 0.05):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self.process = None

    def remove(self) -> None:
        self._end(signal.SIGKILL)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def _become(argv: list[str], log: str) -> NoReturn:
    """In a forked process: become the program, with its output in a file, in a session of its own. Ctrl-C thus ends
    the drill, which then ends the load.
    """
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv(argv[0], argv)  # noqa: S606
    finally:
        os._exit(127)


def in_turn(spec: Object) -> list[str]:
    """The languages of the load, and SESSION if it has a share, each as often as its share says (a language once
    where it has none), spread evenly.
    """
    shares = {language: spec["shares"].get(language, 1) for language in spec["scripts"]}
    if spec["shares"].get(SESSION):
        shares[SESSION] = spec["shares"][SESSION]
    # The k-th of n equal parts of a turn ends at k/n of it.
    turns = [(part / share, what) for what, share in shares.items() for part in range(1, share + 1)]
    return [what for _end, what in sorted(turns)]


def edge_target(url: str, session: str, user: str, what: str) -> Object:
    """A question for the user's session, or an execution of it, as a target in vegeta's form."""
    headers = {"X-User-ID": [user]}
    if what == SESSION:
        return {"method": "GET", "url": f"{url}/api/v1/sessions/{session}", "header": headers}
    return {
        "method": "POST",
        "url": f"{url}/api/v1/execute/{session}",
        "header": {"Content-Type": ["application/json"], **headers},
        "body": base64.b64encode(b'{"params": {}}').decode(),
    }


class StoreLoad(Load):
    """Writes to a store, from a pod in its namespace."""

    def __init__(self, spec: Object, cluster: Cluster, image: str) -> None:
        super().__init__(spec)
        self.cluster = cluster
        self.image = image
        self.namespace: str = spec["namespace"]
        self.clock_ahead = 0.0
        self.objects: list[Object] = []

    @property
    def _pod(self) -> Object:
        return {"apiVersion": "v1", "kind": "Pod", "name": APP, "namespace": self.namespace}

    def _live_pod(self) -> Object:
        return self.cluster.get(self._pod) or {}

    def start(self, avoid_nodes: list[str]) -> None:
        if not self.image:
            raise PlatformError(
                "the load generator has no image",
                where="generator_image",
                found="nothing",
                expected="the image that playbooks/drill.yml builds",
                fix="run playbooks/drill.yml",
                reason="generator",
            )
        # One that a killed drill left.
        self._delete([self._pod])
        self.objects = store_objects(self.spec, self.image, self.run, avoid_nodes)
        self.cluster.apply_many(self.objects, FIELD_MANAGER)
        pod = wait_until(self._live_pod, _START_SECONDS, done=lambda pod: is_ready(pod) or _phase(pod) in _ENDED)
        if not is_ready(pod):
            raise self._not_started(pod)
        self.clock_ahead = self._clock_ahead()

    def _not_started(self, pod: Object) -> PlatformError:
        states = [status.get("state") for status in (pod.get("status") or {}).get("containerStatuses") or []]
        said = ""
        with contextlib.suppress(PlatformError):
            said = self.cluster.logs(self.namespace, APP).strip()
        return PlatformError(
            "the load's pod did not start",
            where=f"Pod {self.namespace}/{APP}",
            found=said[-500:] or json.dumps(states) or "nothing",
            expected="a running pod",
            fix=f"see kubectl -n {self.namespace} describe pod {APP}",
            reason="load",
        )

    def _clock_ahead(self) -> float:
        began = time.time()
        ran = self._run(["date", "+%s.%N"])
        return float(ran) - (began + time.time()) / 2

    def _run(self, command: list[str], timeout_seconds: float = 60) -> str:
        ran = run_in_pod(self.cluster, self.namespace, APP, command, timeout_seconds=timeout_seconds)
        if ran.code:
            raise PlatformError(
                "a command in the load's pod failed",
                where=f"Pod {self.namespace}/{APP}: {' '.join(command[:3])}",
                found=ran.stderr.strip()[-500:] or f"exit code {ran.code}",
                expected="exit code 0",
                fix="run the drill again",
                reason="load",
            )
        return ran.stdout

    def ticks(self) -> list[Tick]:
        text = self.cluster.logs(self.namespace, APP, tail_lines=60)
        if _phase(self._live_pod()) != "Running":
            raise _ended(text, f"in Pod {self.namespace}/{APP}")
        return [replace(tick, at=tick.at - self.clock_ahead) for tick in parse_ticks(text)]

    def stop(self) -> list[Request]:
        self._run(["sh", "-c", "kill -INT 1"])
        if not wait_until(lambda: any(tick.done for tick in self.ticks()), _STOP_SECONDS):
            raise _ended(self.cluster.logs(self.namespace, APP), f"in Pod {self.namespace}/{APP}")
        return parse_results(self._run(["cat", _RESULTS]), self.clock_ahead)

    def stored(self, count: int) -> set[int]:
        arguments = [*self._arguments(), "-count", str(count), store_target(self.spec)]
        numbers = {int(line) for line in self._run(["/load", "stored", *arguments], _STORED_SECONDS).split()}
        self._run(["/load", "forget", *arguments])
        return numbers

    def _arguments(self) -> list[str]:
        return ["-name", self.run, *_credentials(self.spec), "-output", _RESULTS]

    def remove(self) -> None:
        self._delete(self.objects)

    def _delete(self, refs: list[Object]) -> None:
        for ref in refs:
            self.cluster.delete(ref)
        wait_until(lambda: not self._live_pod(), _STOP_SECONDS)


def _phase(pod: Object) -> str:
    return (pod.get("status") or {}).get("phase") or ""


def _ended(log: str, where: str) -> PlatformError:
    return PlatformError(
        "the load ended by itself",
        where=where,
        found=log.strip()[-500:] or "nothing was said",
        expected="a load that sends until it is stopped",
        fix="see the message; an address or a password may be wrong",
        reason="load",
    )


def store_target(spec: Object) -> str:
    """The one target of a store's load, in vegeta's form."""
    return json.dumps({"method": "PUT", "url": spec["url"]})


def _credentials(spec: Object) -> list[str]:
    return ["-credentials", _CREDENTIALS] if spec["credentials"] else []


def store_objects(spec: Object, image: str, run: str, avoid_nodes: list[str]) -> list[Object]:
    """The load's pod and the two NetworkPolicies that let it reach the store."""
    namespace, (app, port) = spec["namespace"], (spec["app"], spec["port"])
    labels = {"app.kubernetes.io/name": APP, "app.kubernetes.io/part-of": "lambda-microservice-platform"}
    command = ["/load", "attack", "-rate", str(spec["rate"]), "-timeout", f"{spec['timeout_seconds']}s"]
    command += ["-name", run, *_credentials(spec), "-output", _RESULTS, "-hold", store_target(spec)]
    volumes: list[Object] = [{"name": "results", "emptyDir": {"sizeLimit": "256Mi"}}]
    mounts: list[Object] = [{"name": "results", "mountPath": "/results"}]
    if spec["credentials"]:
        volumes.append({"name": "credentials", "secret": {"secretName": spec["credentials"], "defaultMode": 0o440}})
        mounts.append({"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True})
    if spec.get("authority"):
        # Only the certificate: what else the Secret holds is not the load's business.
        items = [{"key": "ca.crt", "path": "ca.crt"}]
        volumes.append({"name": "authority", "secret": {"secretName": spec["authority"], "items": items}})
        mounts.append({"name": "authority", "mountPath": _AUTHORITY, "readOnly": True})
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": APP, "namespace": namespace, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 2,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "load",
                    "image": image,
                    "command": command,
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }
    if avoid_nodes:
        elsewhere = {"key": HOSTNAME, "operator": "NotIn", "values": sorted(avoid_nodes)}
        pod["spec"]["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [elsewhere]}]
                }
            }
        }
    ports = [{"protocol": "TCP", "port": port}]

    def policy(name: str, selected: str, rules: Object) -> Object:
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"podSelector": {"matchLabels": {"app.kubernetes.io/name": selected}}, **rules},
        }

    peer = {"matchLabels": {"app.kubernetes.io/name": app}}
    own = {"matchLabels": {"app.kubernetes.io/name": APP}}
    outward = {
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [{"to": [{"podSelector": peer}], "ports": ports}],
    }
    inward = {"policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": own}], "ports": ports}]}
    return [policy(APP, APP, outward), policy(f"{APP}.{app}", app, inward), pod]
