"""What the benchmarks of the running local cluster share: its programs, a load from inside of it, and its parts."""

from __future__ import annotations

import base64
import collections
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".local"
NODE = os.environ.get("CLUSTER_NAME", "lambda") + "-control-plane"
SCRIPTS = {
    "nodejs": "return params.n + 1",
    "python": 'result = params["n"] + 1',
    "rust": """fn handle(params: Value, _: Value) -> Result<Value, String> {
        Ok((params["n"].as_i64().ok_or("no n")? + 1).into())
    }""",
}
RUNTIMES = "openfaas-fn"
WORKLOADS = {
    "envoy": ("ingress", "deployment/envoy"),
    "controller": ("controller", "deployment/controller"),
    **{language: (RUNTIMES, f"deployment/{language}-runtime") for language in SCRIPTS},
}
EDGE = "https://localhost:8443/api/v1"
"""As vegeta is told: it connects to the edge's Service instead."""


def use_local_cluster() -> None:
    """Its programs and kubeconfig, all connections that there may be, and a SIGTERM that sets back what was changed."""
    os.environ["PATH"] = f"{STATE / 'bin'}:{os.environ['PATH']}"
    os.environ["KUBECONFIG"] = str(STATE / "kubeconfig")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def run(*argv: str, stdin: bytes | None = None) -> bytes:
    """A command's output; its errors end the benchmark."""
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv[:6])} failed: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def kubectl(*argv: str, stdin: bytes | None = None) -> str:
    return run("kubectl", *argv, stdin=stdin).decode()


def service_address(namespace: str, name: str) -> str:
    return kubectl("-n", namespace, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")


def pod_addresses(namespace: str, service: str) -> list[str]:
    """Of the pods that are ready: a runtime's Service has no address of its own."""
    selector = f"kubernetes.io/service-name={service}"
    slices = json.loads(kubectl("-n", namespace, "get", "endpointslices", "-l", selector, "-o", "json"))["items"]
    endpoints = [endpoint for one in slices for endpoint in one.get("endpoints") or []]
    ready = [endpoint["addresses"] for endpoint in endpoints if endpoint["conditions"].get("ready", True)]
    if not ready:
        sys.exit(f"no pod behind the Service {namespace}/{service} is ready")
    return sorted(address for addresses in ready for address in addresses)


class Reachable:
    """The NetworkPolicies let the control-plane node ask each part for as long as this lasts."""

    NAME = "benchmark"

    def __enter__(self) -> None:
        address = run("docker", "inspect", "-f", "{{.NetworkSettings.Networks.kind.IPAddress}}", NODE).decode().strip()
        spec = {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": f"{address}/32"}}]}],
        }
        for namespace in self._namespaces():
            policy = {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": self.NAME, "namespace": namespace},
                "spec": spec,
            }
            kubectl("apply", "-f", "-", stdin=json.dumps(policy).encode())

    def __exit__(self, *_exception: object) -> None:
        for namespace in self._namespaces():
            kubectl("-n", namespace, "delete", "networkpolicy", self.NAME, "--ignore-not-found")

    @staticmethod
    def _namespaces() -> set[str]:
        return {namespace for namespace, _workload in WORKLOADS.values()}


class Replicas:
    """Sets the number of pods of workloads (namespace, deployment/NAME), and sets it back."""

    def __init__(self, workloads: Iterable[tuple[str, str]]) -> None:
        self.workloads = list(workloads)

    def __enter__(self) -> Replicas:
        self.before: list[tuple[str, str, dict]] = []
        for namespace, workload in self.workloads:
            name = workload.partition("/")[2]
            scaler = kubectl("-n", namespace, "get", "hpa", name, "--ignore-not-found", "-o", "json")
            if scaler:
                spec = json.loads(scaler)["spec"]
                limits = {"spec": {"minReplicas": spec["minReplicas"], "maxReplicas": spec["maxReplicas"]}}
                self.before.append((namespace, f"hpa/{name}", limits))
            else:
                count = int(kubectl("-n", namespace, "get", workload, "-o", "jsonpath={.spec.replicas}"))
                self.before.append((namespace, workload, {"spec": {"replicas": count}}))
        return self

    def set(self, count: int) -> None:
        for namespace, kind_and_name, body in self.before:
            keys = body["spec"]
            self._patch(namespace, kind_and_name, {"spec": dict.fromkeys(keys, count)})
            kubectl("-n", namespace, "scale", "deployment/" + kind_and_name.partition("/")[2], f"--replicas={count}")
        for namespace, workload in self.workloads:
            kubectl("-n", namespace, "rollout", "status", workload, "--timeout=180s")
        time.sleep(10)  # Envoy's health checks and the pods' first warm processes

    @staticmethod
    def _patch(namespace: str, kind_and_name: str, body: dict) -> None:
        kubectl("-n", namespace, "patch", kind_and_name, "--type=merge", "-p", json.dumps(body))

    def __exit__(self, *_exception: object) -> None:
        for namespace, kind_and_name, body in self.before:
            self._patch(namespace, kind_and_name, body)


class Load:
    """vegeta (tools/load) on the control-plane node, so that no port forwarding is in what it measures."""

    def __init__(self) -> None:
        run(str(ROOT / "tools" / "go-programs"), "load", str(STATE / "load"))
        self.vegeta = str(STATE / "load" / "vegeta")
        run("docker", "cp", self.vegeta, f"{NODE}:/usr/local/bin/vegeta")
        run("docker", "cp", str(STATE / "ca.crt"), f"{NODE}:/usr/local/share/edge-ca.crt")
        self.edge = service_address("ingress", "envoy")
        self.controller = f"http://{service_address('controller', 'controller')}:8080/api/v1"

    def attack(self, targets: list[dict], rate: float, seconds: float, workers: int | None = None) -> list[dict]:
        """One entry a request: code, latency in ns, body. Rate 0 is a closed loop of so many workers."""
        lines = b"".join(json.dumps(target).encode() + b"\n" for target in targets)
        argv = ["docker", "exec", "-i", NODE, "vegeta", "attack", "-format=json", f"-duration={seconds}s"]
        argv += ["-timeout=40s", "-http2=false", "-root-certs=/usr/local/share/edge-ca.crt"]
        argv += [f"-connect-to=localhost:8443:{self.edge}:443"]
        argv += [f"-rate={round(rate * 60)}/1m"] if rate else ["-rate=0", f"-max-workers={workers}"]
        results = run(self.vegeta, "encode", "-to=json", stdin=run(*argv, stdin=lines))
        return [json.loads(line) for line in results.splitlines()]

    def sessions(self, language: str, script: str, users: Iterable[str]) -> dict[str, str]:
        """A session of this script for each user, by the user."""
        begin = {
            user: target(
                f"{self.controller}/initialize?user={user}",
                {"script_content": script},
                Language_Title=f"{language}-benchmark",
                X_User_ID=user,
            )
            for user in users
        }
        made: dict[str, str] = {}
        # vegeta ends with its duration, whether it has come to send everything or not.
        while missing := [one for user, one in begin.items() if user not in made]:
            for entry in self.attack(missing, 100, len(missing) / 100):
                body = json.loads(base64.b64decode(entry["body"] or "") or "{}")
                if entry["code"] != 200:
                    sys.exit(f"initialize answered {entry['code']}: {body or entry['error']}")
                made[entry["url"].rpartition("=")[2]] = body["request_id"]
        return {user: made[user] for user in begin}


def target(url: str, body: dict, **headers: str) -> dict:
    return {
        "method": "POST",
        "url": url,
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "header": {
            "Content-Type": ["application/json"],
            **{name.replace("_", "-"): [v] for name, v in headers.items()},
        },
    }


def asked_of_pods(addresses: list[str], script: str, params: dict, users: Iterable[str]) -> list[dict]:
    """Executions as the controller asks them of a runtime, of each user always the same pod."""
    body = {"request_id": str(uuid.uuid4()), "params": params, "context": None, "script_content": script}
    return [
        target(
            f"http://{addresses[number % len(addresses)]}:8080/execute",
            body,
            X_Caller=f"user {user}",
            X_Account=f"user {user}",
        )
        for number, user in enumerate(users)
    ]


def asked_of_api(url: str, sessions: dict[str, str], params: dict) -> list[dict]:
    """Executions of sessions, as callers ask them of the controller or the edge."""
    return [target(f"{url}/execute/{id}", {"params": params}, X_User_ID=user) for user, id in sessions.items()]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def failures(results: list[dict]) -> dict[str, int]:
    """How many were not answered with 200, by status and what the API, or else vegeta, says."""
    found: collections.Counter[str] = collections.Counter()
    for entry in results:
        if entry["code"] != 200:
            try:
                said = json.loads(base64.b64decode(entry["body"]))["error"]["code"]
            except (ValueError, LookupError, TypeError):
                said = entry["error"]
            found[f"{entry['code']} {said}"] += 1
    return dict(found)


def good(results: list[dict]) -> list[dict]:
    """Those that were answered with 200; that there is none ends the benchmark."""
    found = [entry for entry in results if entry["code"] == 200]
    if not found:
        sys.exit(f"no request of {len(results)} succeeded: {failures(results)}")
    return found


def summary(results: list[dict]) -> dict:
    latencies = [entry["latency"] / 1e6 for entry in good(results)]
    return {
        "requests": len(results),
        "failed": failures(results),
        "p50_ms": percentile(latencies, 0.50),
        "p95_ms": percentile(latencies, 0.95),
        "p99_ms": percentile(latencies, 0.99),
    }
