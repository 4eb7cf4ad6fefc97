# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helm program, 3.13 or later: with the task's own credentials, and no secret on a command line."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import go_module, process
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.failure import (
    HelmFailure,
    without_login,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.kubeconfig import environment_for
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.yaml import YAMLError, yaml, yaml_error
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

OLDEST = (3, 13)
"""The first with ``upgrade --labels`` and ``template --dry-run=server``."""

HISTORY_MAX = 10
"""How many revisions of a release are kept: those that a rollback can go to."""

ARGUMENT_BYTES = 100_000
"""Less than what Linux takes as one argument (MAX_ARG_STRLEN, 128 KiB)."""


@dataclass(frozen=True)
class Source:
    """Where a chart comes from. The reference is a folder, an archive, an ``oci://`` address, a folder of a Go module
    (``go:MODULE@VERSION/FOLDER``) or, with a repository, a name. No login is in the addresses: it is ``username`` and
    ``password``.
    """

    reference: str
    repository: str | None = None
    version: str | None = None
    plain_http: bool = False
    username: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, spec: Object) -> Source:
        """The source in an entry of the module's ``releases``; a login in an address counts like the options."""
        reference, in_reference = _split_login(str(spec["chart"]))
        repository, in_repository = _split_login(spec.get("repository") or "")
        username, password = in_repository if repository else in_reference
        return cls(
            reference,
            repository or None,
            spec.get("version"),
            spec.get("plain_http", False),
            spec.get("repository_username") or username,
            spec.get("repository_password") or password,
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether it has to be downloaded."""
        return bool(self.repository) or self.reference.startswith(("oci://", go_module.PREFIX))

    def __str__(self) -> str:
        return " ".join(part for part in (self.reference, self.version) if part) + (
            " of %s" % self.repository if self.repository else ""
        )


def _split_login(address: str) -> tuple[str, tuple[str | None, str | None]]:
    if "://" not in address or without_login(address) == address:
        return address, (None, None)
    found = urlsplit(address)
    username = unquote(found.username) if found.username else None
    return without_login(address), (username, unquote(found.password) if found.password else None)


@dataclass(frozen=True)
class Chart:
    """A chart as helm is given it: a folder or an archive, and what its Chart.yaml says."""

    path: str
    name: str
    version: str
    app_version: str = ""


class Helm:
    """The helm program, for one cluster, or none. Use it as a context manager: it removes its private folder."""

    def __init__(self, binary: str, cluster: Cluster | None) -> None:
        self.binary = binary
        self._cluster = cluster
        self._folder: str | None = None
        self._environment: dict[str, str] = {}
        self._version: tuple[int, int] | None = None

    @property
    def cluster(self) -> Cluster:
        """The one that it was given."""
        if self._cluster is None:
            raise ValueError("a helm without a cluster is for charts alone")
        return self._cluster

    def __enter__(self) -> Helm:
        found = shutil.which(os.path.expanduser(self.binary))
        if found is None:
            raise PlatformError(
                "the helm program is missing",
                found="no executable %s" % self.binary,
                expected="Helm 3 (%d.%d or later) or Helm 4" % OLDEST,
                fix="install helm, or set helm_binary to its path",
                reason="program",
            )
        self.binary = found
        try:
            kubeconfig = None
            if self._cluster is not None:
                self._environment, kubeconfig = environment_for(self._cluster)
            self._environment[process.RUN_VARIABLE] = process.this_run()
            if kubeconfig is not None:
                path = _write_private(os.path.join(self._new_folder(), "kubeconfig"), json.dumps(kubeconfig))
                self._environment["KUBECONFIG"] = path
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _new_folder(self) -> str:
        """A folder that only this user can enter, removed when the context ends."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="helm-")
        return tempfile.mkdtemp(dir=self._folder)

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        timeout_seconds: float = 60,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Run helm and give its standard output. Raises HelmFailure."""
        argv = [self.binary, *arguments]
        try:
            code, output, errors = process.run(
                argv, {**self._environment, **(environment or {})}, stdin, timeout_seconds
            )
        except OSError as error:
            raise self._not_started(error, argv) from error
        if code is None:
            raise HelmFailure(arguments[0], errors, timed_out_after=timeout_seconds)
        if code != 0:
            said = errors or "it ended with %d and said nothing" % code
            raise HelmFailure(arguments[0], said, printed=output)
        return output

    def _not_started(self, error: OSError, argv: list[str]) -> PlatformError:
        if error.errno == errno.E2BIG:
            longest = max(len(text.encode()) for text in argv)
            return PlatformError(
                "helm %s cannot be started: its arguments and environment are too long" % argv[1],
                where=self.binary,
                found="%d bytes of arguments (the longest has %d), %d bytes of environment"
                % (
                    sum(len(text.encode()) + 1 for text in argv),
                    longest,
                    sum(len(name) + len(value) + 2 for name, value in os.environ.items()),
                ),
                expected="less than a quarter of the stack's limit in all (execve(2)); the kinds that the cluster "
                "serves are among the arguments",
                fix="raise the limit (ulimit -s), or make the environment of ansible-playbook smaller",
                reason="program",
            )
        return PlatformError(
            "helm cannot be started",
            where=self.binary,
            found=error.strerror or str(error),
            expected="an executable Helm 3 (%d.%d or later) or Helm 4" % OLDEST,
            fix="install helm, or set helm_binary to its path",
            reason="program",
        )

    def version(self) -> tuple[int, int]:
        """Major and minor. One that lacks what is used here is an error."""
        if self._version is None:
            try:
                said = self.run("version", "--template", "{{.Version}}").strip()
            except HelmFailure as failure:
                said = failure.text
            match = re.match(r"v?(\d+)\.(\d+)", said)
            found = (int(match[1]), int(match[2])) if match else (0, 0)
            if not OLDEST <= found < (5, 0):
                raise PlatformError(
                    "this helm is not supported",
                    where=self.binary,
                    found="version %s" % said[:200],
                    expected="Helm 3 (%d.%d or later) or Helm 4" % OLDEST,
                    fix="install a newer helm, or set helm_binary to its path",
                    reason="program",
                )
            self._version = found
        return self._version

    # --- charts ------------------------------------------------------------------------------------------------------

    def local_chart(self, source: Source) -> Chart:
        """The chart as a folder or archive on this machine; one of a repository or registry is downloaded first."""
        if not source.is_elsewhere:
            return self._described(os.path.abspath(os.path.expanduser(source.reference)), source)
        if not source.repository and source.reference.startswith(go_module.PREFIX):
            return self._described(go_module.path_of(source.reference), source)
        folder = self._new_folder()
        options = ["--destination", folder]
        if source.version:
            options += ["--version", source.version]
        if source.plain_http:
            options.append("--plain-http")
        try:
            if not source.username:
                options += ["--repo", source.repository] if source.repository else []
                self.run("pull", source.reference, *options, timeout_seconds=120)
            elif source.repository:
                self._pull_with_login(source, options)
            else:
                path = _write_private(os.path.join(self._new_folder(), "registry.json"), _registry_login(source))
                environment = {"HELM_REGISTRY_CONFIG": path}
                self.run("pull", source.reference, *options, timeout_seconds=120, environment=environment)
        except HelmFailure as failure:
            raise PlatformError(
                "the chart cannot be downloaded",
                where=str(source),
                found=failure.text,
                expected="a chart of this name and version that this machine may read",
                fix="check the chart's name, version and address, and repository_username and repository_password (or "
                "helm registry login) if it needs a login",
                reason="chart",
            ) from failure
        archives = [name for name in os.listdir(folder) if name.endswith((".tgz", ".tar.gz"))]
        return self._described(os.path.join(folder, archives[0]), source)

    def _pull_with_login(self, source: Source, options: list[str]) -> None:
        """By a list of repositories of our own, since ``--password`` would stand in the process list."""
        folder = self._new_folder()
        entry = {
            "name": "repository",
            "url": source.repository,
            "username": source.username,
            "password": source.password or "",
        }
        # JSON is YAML.
        repositories = json.dumps({"apiVersion": "v1", "repositories": [entry]})
        environment = {
            "HELM_REPOSITORY_CONFIG": _write_private(os.path.join(folder, "repositories.yaml"), repositories),
            "HELM_REPOSITORY_CACHE": os.path.join(folder, "cache"),
        }
        name = "repository/" + source.reference
        said = ""
        try:
            said = self.run("repo", "update", "repository", timeout_seconds=120, environment=environment)
            self.run("pull", name, *options, timeout_seconds=120, environment=environment)
        except HelmFailure as failure:
            # Why it could not update stands on standard output; Helm 3 ends with success all the same.
            refused = re.search(r"Unable to get an update.*?: *\n(.*)", said or failure.printed)
            raise HelmFailure("pull", refused[1].strip() if refused else failure.text) from failure

    def _described(self, path: str, source: Source) -> Chart:
        missing = PlatformError(
            "there is no chart",
            where=source.reference if "://" in source.reference else path,
            found="no Chart.yaml there",
            expected="a chart's folder or its .tgz archive (or an oci:// address, %s, or a name with repository)"
            % go_module.FORM,
            fix="correct chart",
            reason="chart",
        )
        if os.path.isdir(path):
            try:
                with open(os.path.join(path, "Chart.yaml"), encoding="utf-8") as file:
                    text = file.read()
            except OSError as error:
                raise missing from error
        elif os.path.isfile(path):
            try:
                text = self.run("show", "chart", path)
            except HelmFailure as failure:
                raise PlatformError(
                    "the chart's archive cannot be read",
                    where=path,
                    found=failure.text,
                    expected="a chart packed by helm package",
                    fix="pack or download it again",
                    reason="chart",
                ) from failure
        else:
            raise missing
        try:
            metadata = yaml.safe_load(text)
            return Chart(path, str(metadata["name"]), str(metadata["version"]), str(metadata.get("appVersion", "")))
        except (YAMLError, KeyError, TypeError, AttributeError) as error:
            raise PlatformError(
                "the chart's Chart.yaml is not valid",
                where=path,
                found=yaml_error(error) if isinstance(error, YAMLError) else "no %s" % error,
                expected="YAML with name and version",
                fix="correct Chart.yaml",
                reason="chart",
            ) from error

    # --- releases ----------------------------------------------------------------------------------------------------

    def template(self, chart: Chart, name: str, namespace: str, values: Object, is_upgrade: bool) -> str:
        """What the chart renders to on this cluster: its CRDs, objects and hooks as one manifest."""
        version = str(self.cluster.version().get("gitVersion", ""))
        arguments = ["template", name, chart.path, "--namespace", namespace, "--values", "-", "--include-crds"]
        if re.match(r"v?\d+\.\d+\.\d+", version) and not version.startswith("v0."):
            arguments += ["--kube-version", version]
        for part in in_arguments(self.cluster.api_versions()):
            arguments += ["--api-versions", part]
        if _looks_up(chart.path):
            # Only this mode lets a template's lookup() see the cluster, as it does in an upgrade. Nothing is written,
            # but Helm 4 also checks who owns what is there, and refuses CRDs of a crds folder that nobody owns.
            arguments.append("--dry-run=server")
        if is_upgrade:
            arguments.append("--is-upgrade")
        try:
            return self.run(*arguments, stdin=json.dumps(values))
        except HelmFailure as failure:
            raise failure.explained(name, namespace, chart.path) from failure

    def upgrade(
        self,
        chart: Chart,
        name: str,
        namespace: str,
        values: Object,
        timeout_seconds: int,
        labels: dict[str, str],
        create_namespace: bool,
        replaced: dict[str, str],
    ) -> None:
        """Install or upgrade the release. ``replaced`` ({identity: JSON}) are objects to take instead of those that
        helm renders, by :func:`identity_of`.
        """
        arguments = ["upgrade", name, chart.path, "--install", "--namespace", namespace, "--values", "-"]
        arguments += ["--timeout", "%ds" % timeout_seconds, "--history-max", str(HISTORY_MAX), "--skip-crds"]
        # Without it, helm takes the values of the last release where none are given.
        arguments.append("--reset-values")
        if labels:
            arguments += ["--labels", ",".join("%s=%s" % item for item in sorted(labels.items()))]
        if create_namespace:
            arguments.append("--create-namespace")
        if self.version() >= (4, 0):
            # Server-side apply: what somebody edited by hand is ours again instead of a conflict.
            arguments += ["--force-conflicts"]
        environment: dict[str, str] = {}
        if replaced:
            more, environment = self._post_renderer(replaced, namespace)
            arguments += more
        try:
            self.run(
                *arguments, stdin=json.dumps(values), timeout_seconds=timeout_seconds + 30, environment=environment
            )
        except HelmFailure as failure:
            raise failure.explained(name, namespace, chart.path) from failure

    def rollback(self, name: str, namespace: str, revision: int, timeout_seconds: int) -> None:
        """Make a new revision of what an older one was. Its hooks run; pods are not waited for."""
        arguments = ["rollback", name, str(revision), "--namespace", namespace]
        arguments += ["--timeout", "%ds" % timeout_seconds, "--history-max", str(HISTORY_MAX)]
        if self.version() >= (4, 0):
            arguments += ["--force-conflicts"]
        try:
            self.run(*arguments, timeout_seconds=timeout_seconds + 30)
        except HelmFailure as failure:
            raise failure.explained(name, namespace, "") from failure

    def uninstall(self, name: str, namespace: str, timeout_seconds: int) -> None:
        """Remove the release, its objects and its history."""
        arguments = ["uninstall", name, "--namespace", namespace, "--ignore-not-found"]
        arguments += ["--timeout", "%ds" % timeout_seconds]
        try:
            self.run(*arguments, timeout_seconds=timeout_seconds + 30)
        except HelmFailure as failure:
            raise failure.explained(name, namespace, "") from failure

    def _post_renderer(self, replaced: dict[str, str], namespace: str) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment for a post-renderer that puts the objects into the manifest."""
        folder = self._new_folder()
        objects = _write_private(os.path.join(folder, "objects.json"), json.dumps(replaced))
        text = _RENDERER % {"path": sys.path, "namespace": namespace, "objects": objects}
        script = _write_private(os.path.join(folder, "post_renderer.py"), text)
        if self.version() < (4, 0):
            return ["--post-renderer", sys.executable, "--post-renderer-args", script], {}
        # Helm 4 takes a post-renderer only as a plugin.
        os.mkdir(os.path.join(folder, "plugins"))
        plugin = os.path.join(folder, "plugins", "objects")
        os.mkdir(plugin)
        about = {
            "apiVersion": "v1",
            "type": "postrenderer/v1",
            "name": "objects",
            "version": "0.1.0",
            "runtime": "subprocess",
            "runtimeConfig": {"platformCommand": [{"command": sys.executable, "args": [script]}]},
        }
        _write_private(os.path.join(plugin, "plugin.yaml"), json.dumps(about))
        return ["--post-renderer", "objects"], {"HELM_PLUGINS": os.path.join(folder, "plugins")}


def identity_of(obj: Object, namespace: str) -> str:
    """What an object is found by in a manifest, for ``replaced`` of :meth:`Helm.upgrade`."""
    metadata = obj.get("metadata") or {}
    parts = (obj.get("kind"), metadata.get("namespace") or namespace, metadata.get("name"), obj.get("apiVersion"))
    return " ".join(str(part) for part in parts)


# It reads only who each object is, where no type matters, and passes on the rest as it is: a text such as 12e4567 would
# be a number for Go if it was written again. Helm 4 finds an object's template by an annotation that it adds before.
_RENDERER = """\
import json, re, sys
sys.path[:] = %(path)r
import yaml
loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
with open(%(objects)r, encoding="utf-8") as file:
    replaced = json.load(file)
MARK = "postrenderer.helm.sh/"
def successor(obj, about):
    meta = obj.get("metadata") or {}
    parts = (obj.get("kind"), meta.get("namespace") or %(namespace)r, meta.get("name"), obj.get("apiVersion"))
    text = replaced.get(" ".join(str(part) for part in parts))
    marks = {name: value for name, value in (about.get("annotations") or {}).items() if name.startswith(MARK)}
    if text is None or not marks:
        return text
    new = json.loads(text)
    new["metadata"]["annotations"] = {**(new["metadata"].get("annotations") or {}), **marks}
    return json.dumps(new)
for text in re.split(r"(?m)^---[ \\t]*(?:#.*)?$", sys.stdin.buffer.read().decode()):
    head = yaml.load(text, Loader=loader)
    if isinstance(head, dict):
        about = head.get("metadata") or {}
        is_list = str(head.get("kind", "")).endswith("List") and isinstance(head.get("items"), list)
        new = [successor(obj, obj.get("metadata") or {}) for obj in (head["items"] if is_list else [head])]
        if new and None not in new:
            comments = "".join(line + "\\n" for line in text.splitlines() if line.startswith("# Source:"))
            text = "\\n---\\n".join(comments + obj for obj in new)
    if text.strip():
        sys.stdout.buffer.write(("---\\n" + text.strip("\\n") + "\\n").encode())
"""


def in_arguments(items: list[str]) -> list[str]:
    """The items, joined by commas, in as many texts as are needed for each to be short enough for an argument."""
    found: list[str] = []
    for item in items:
        if found and len(found[-1]) + 1 + len(item) <= ARGUMENT_BYTES:
            found[-1] += "," + item
        else:
            found.append(item)
    return found


def _registry_login(source: Source) -> str:
    """The form of Docker's config.json, which helm reads."""
    login = "%s:%s" % (source.username, source.password or "")
    host = urlsplit(source.reference).netloc
    return json.dumps({"auths": {host: {"auth": base64.b64encode(login.encode()).decode()}}})


def _write_private(path: str, text: str) -> str:
    """A file that only this user can read, from its first moment; its path."""
    mode = stat.S_IRUSR | stat.S_IWUSR
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    return path


_LOOKUP = re.compile(rb"\{\{[^}]*\blookup\s")


def _looks_up(path: str) -> bool:
    """Whether a template of the chart, or of a chart in it, calls lookup()."""
    if os.path.isdir(path):
        for folder, _dummy, names in os.walk(path, followlinks=True):
            for name in names:
                file = os.path.join(folder, name)
                if name.endswith((".tgz", ".tar.gz")):
                    if _looks_up(file):
                        return True
                elif "templates" in folder and os.path.isfile(file):
                    with open(file, "rb") as template:
                        if _LOOKUP.search(template.read()):
                            return True
        return False
    try:
        with tarfile.open(path) as archive:
            templates = (archive.extractfile(member) for member in archive if "/templates/" in member.name)
            # What is no file, such as a folder, has no content.
            return any(_LOOKUP.search(template.read()) for template in templates if template)
    except (OSError, tarfile.TarError):
        return False
