"""A runtime's own container on this machine, by the program docker."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from lambda_microservice_client import LambdaError, Retries
from lambda_microservice_client.transport import Transport

from lambdactl.failure import UNAVAILABLE, Failure

START_SECONDS = 60.0
# Of a pod by default (roles/runtimes). A script's own limits are the supervisor's defaults, which are the role's.
LIMITS = ("--cpus", "1", "--memory", "2g", "--memory-swap", "2g", "--tmpfs", "/tmp:exec,mode=1777,size=384m")  # noqa: S108
CONFINED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def newest_image(language: str) -> str:
    """Of those on this machine that are called runtime-LANGUAGE; docker lists the newest first."""
    for line in _docker("image", "ls", "--format", "{{.Repository}} {{.Tag}}").splitlines():
        repository, _space, tag = line.partition(" ")
        if repository.rpartition("/")[2] == f"runtime-{language}" and tag != "<none>":
            return f"{repository}:{tag}"
    raise Failure(
        f"there is no image runtime-{language} on this machine; build it (make demo in a checkout, or"
        " playbooks/images.yml), pull your platform's, or name one with --image",
        UNAVAILABLE,
    )


@contextmanager
def running(image: str) -> Iterator[Transport]:
    """A client of its supervisor, once that is ready, whose port this machine alone reaches. At the end it is gone."""
    # Called by us, so that it can be taken away however early Ctrl-C comes.
    name = f"lambdactl-{uuid.uuid4()}"
    try:
        port = ("--publish", "127.0.0.1::8080")
        _docker("run", "--detach", "--name", name, "--pull", "never", *port, *LIMITS, *CONFINED, image)
        address = _docker("port", name, "8080/tcp").split()[0]
        # Nothing is sent again: it is one machine, and what is wrong is told at once.
        transport = Transport(f"http://{address}", retries=Retries(times=0))
        _wait(name, transport)
        yield transport
        transport.close()
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def _wait(name: str, transport: Transport) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            transport.request("GET", "/health", timeout_seconds=5)
            return
        except LambdaError as error:
            if _docker("inspect", "--format", "{{.State.Running}}", name).strip() != "true":
                said = _docker("logs", "--tail", "1", name).strip() or "it said nothing"
                raise Failure(f"the runtime has ended before it was ready: {said}", UNAVAILABLE) from None
            if time.monotonic() > ends:
                raise Failure(f"the runtime is not ready after {START_SECONDS:g} s: {error}", UNAVAILABLE) from None
        time.sleep(0.1)


def _docker(*words: str) -> str:
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    except OSError:
        raise Failure(
            "there is no program docker, in whose container a script runs as on the platform; install Docker, or deploy"
            " the function and use lambdactl invoke",
            UNAVAILABLE,
        ) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise Failure(f"docker {words[0]} failed: {said[0]}", UNAVAILABLE)
    return done.stdout
