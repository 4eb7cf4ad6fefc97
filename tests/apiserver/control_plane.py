"""A Kubernetes control plane without nodes, on loopback: etcd, kube-apiserver and the controllers that need no node."""

from __future__ import annotations

import ctypes
import http.client
import json
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.free_ports import free_ports

BINARIES = Path(__file__).resolve().parents[2] / ".local" / "bin"

# What makes pods of workloads, counts quotas, deletes what nobody owns and empties namespaces.
CONTROLLERS = [
    "daemonset-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "serviceaccount-controller",
    "statefulset-controller",
]

_START_SECONDS = 120
_PR_SET_PDEATHSIG = 1


class Program:
    """A program that runs until :meth:`stop`, or until the tests end in whatever way."""

    def __init__(self, log: Path, *command: str | Path) -> None:
        self.log = log
        self.command = command
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches the tests, which then stop it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def stop(self) -> None:
        """End it at once: it holds nothing that anybody needs."""
        self._process.kill()
        self._process.wait()

    def wait_for(self, url: str, token: str = "", authority: Path | None = None) -> None:
        """Wait until the URL answers with success. ``authority`` is a file that comes with the server."""
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
        ends = time.monotonic() + _START_SECONDS
        why: Exception | None = None
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                trust = ssl.create_default_context(cafile=authority)
                handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)]
                urllib.request.build_opener(*handlers).open(request, timeout=5).close()
                return
            except (OSError, http.client.HTTPException) as error:
                why = error
            time.sleep(0.1)
        code = self._process.poll()
        state = f"ended with {code}" if code is not None else f"no answer at {url} within {_START_SECONDS} s: {why}"
        raise RuntimeError(f"{self.command[0]} {state}. It said:\n{self.log.read_text(errors='replace')[-4000:]}")


class ControlPlane:
    """Started when it is made, in a temporary folder of its own. ``kubeconfig`` is a user who may do everything."""

    def __init__(self, *api_server_options: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="apiserver-"))
        self._api_server_options = api_server_options
        self._running: list[Program] = []
        self.kubeconfig = self._folder / "kubeconfig"
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all that runs and remove the folder."""
        for program in reversed(self._running):
            program.stop()
        self._running.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        client, peer, secure = free_ports(3)
        etcd, server = f"http://127.0.0.1:{client}", f"https://127.0.0.1:{secure}"
        token = secrets.token_urlsafe(24)
        tokens, key = self._folder / "tokens.csv", self._folder / "service-accounts.key"
        tokens.write_text(f"{token},tester,tester,system:masters\n")
        key.write_bytes(_private_key())
        authority = self._folder / "apiserver.crt"
        self._write_kubeconfig(server, token, authority)
        self._run(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            # Nothing of it outlives the tests.
            "--unsafe-no-fsync",
        ).wait_for(f"{etcd}/health")
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={secure}",
            # Makes apiserver.crt, with its authority in it.
            f"--cert-dir={self._folder}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            *self._api_server_options,
        ).wait_for(f"{server}/readyz", token, authority)
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--secure-port=0",
            # No pod is admitted without it, so the controllers work when it is there.
        ).wait_for(f"{server}/api/v1/namespaces/default/serviceaccounts/default", token, authority)

    def _run(self, name: str, *arguments: str) -> Program:
        path = BINARIES / name
        if not path.exists():
            raise RuntimeError(f"{path} does not exist: run tools/build .local/bin")
        self._running.append(Program(self._folder / f"{name}.log", path, *arguments))
        return self._running[-1]

    def _write_kubeconfig(self, server: str, token: str, authority: Path) -> None:
        cluster = {"server": server, "certificate-authority": str(authority)}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tester"}}],
        }
        self.kubeconfig.write_text(json.dumps(configuration))  # which is YAML
        self.kubeconfig.chmod(0o600)


def _private_key() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())


def _end_with_parent() -> None:
    """prctl(2): the kernel ends this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
