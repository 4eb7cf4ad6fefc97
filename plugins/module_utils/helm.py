# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Helm 3 or 4: with the task's own credentials, no secret on a command line, one clear error when it fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.cluster import Cluster, refusal
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]

Object = dict[str, Any]

RUN_VARIABLE = "LAMBDA_PLATFORM_RUN"


# --- who is at work ---------------------------------------------------------------------------------------------------


def _started(pid: int) -> str:
    """The start time of a process in clock ticks (proc_pid_stat(5), field 22): a reused process id has another one."""
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]


def _machine() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return hashlib.sha256((boot + os.readlink("/proc/self/ns/pid")).encode()).hexdigest()[:12]


def this_run() -> str:
    """A name for this process, fit for a label value: machine (and its boot), process id, start time."""
    try:
        return "%s.%d.%s" % (_machine(), os.getpid(), _started(os.getpid()))
    except (OSError, IndexError):
        return ""


def is_alive(run: str) -> bool | None:
    """Whether the process that :func:`this_run` named, or a helm that it started, still runs; None if unknown."""
    try:
        machine, pid, started = run.split(".")
        if machine != _machine():
            return None
        if run != this_run() and _started_or_none(int(pid)) == started:
            return True
        wanted = ("%s=%s" % (RUN_VARIABLE, run)).encode()
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid() and wanted in _environment(name):
                return True
        return False
    except (OSError, ValueError, IndexError):
        return None


def _started_or_none(pid: int) -> str | None:
    try:
        return _started(pid)
    except OSError:
        return None


def _environment(pid: str) -> list[bytes]:
    try:
        with open("/proc/%s/environ" % pid, "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


# --- the program ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chart:
    """A chart as helm is given it: a folder or an archive, and what its Chart.yaml says."""

    path: str
    name: str
    version: str
    app_version: str = ""


@dataclass
class Helm:
    """The helm program, for one cluster. Use it as a context manager: it removes its private folder."""

    binary: str
    cluster: Cluster
    _folder: str | None = field(default=None, repr=False)
    _environment: dict[str, str] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Helm:
        found = shutil.which(os.path.expanduser(self.binary))
        if found is None:
            raise PlatformError(
                "the helm program is missing",
                found="no executable %s" % self.binary,
                expected="Helm 3 or 4",
                fix="install helm, or set helm_binary to its path",
                reason="missing_program",
            )
        self.binary = found
        try:
            self._environment = self._cluster_environment()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def private_folder(self) -> str:
        """A folder that only this user can enter, removed when the context ends."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="helm-")
        return self._folder

    def private_file(self, name: str, content: str, mode: int = stat.S_IRUSR | stat.S_IWUSR) -> str:
        """A file in the private folder, readable by this user alone from its first moment."""
        path = os.path.join(self.private_folder(), name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def _cluster_environment(self) -> dict[str, str]:
        """Helm's environment: the caller's, without what could lead helm to another cluster than the one we read."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HELM_KUBE") and name not in ("HELM_NAMESPACE", "HELM_DRIVER", "HELM_DEBUG")
        }
        environment["HELM_DRIVER"] = "secret"
        environment[RUN_VARIABLE] = this_run()
        auth = self.cluster.effective_auth
        given = {name for name, value in auth.items() if value not in (None, {}, "", False)} | (
            {"verify_ssl"} if auth.get("verify_ssl") is False else set()
        )
        kubeconfig = auth.get("kubeconfig")
        inside = "KUBERNETES_SERVICE_HOST" in os.environ and not given & {"kubeconfig", "context"}
        if given - {"kubeconfig", "context", "persist_config"} or inside:
            # Single options override the kubeconfig: give helm what the client has worked out of all of them.
            content = json.dumps(kubeconfig_of(self.cluster.configuration, self.cluster.effective_headers))
            environment["KUBECONFIG"] = self.private_file("kubeconfig", content)
            return environment
        if isinstance(kubeconfig, dict):
            environment["KUBECONFIG"] = self.private_file("kubeconfig", json.dumps(kubeconfig))
        elif kubeconfig:
            paths = str(kubeconfig).split(os.pathsep)
            environment["KUBECONFIG"] = os.pathsep.join(os.path.abspath(os.path.expanduser(path)) for path in paths)
        if auth.get("context"):
            environment["HELM_KUBECONTEXT"] = auth["context"]
        headers = self.cluster.effective_headers
        if headers.get("Impersonate-User"):
            environment["HELM_KUBEASUSER"] = headers["Impersonate-User"]
        if headers.get("Impersonate-Group"):
            environment["HELM_KUBEASGROUPS"] = ",".join(headers["Impersonate-Group"])
        return environment

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        timeout_seconds: float = 60,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Run helm and give its standard output. Raises HelmFailure."""
        try:
            process = subprocess.Popen(
                [self.binary, *arguments],
                env={**self._environment, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise PlatformError(
                "helm cannot be started",
                found=str(error),
                expected="an executable Helm 3 or 4 at %s" % self.binary,
                fix="install helm, or set helm_binary to its path",
                reason="missing_program",
            ) from None
        try:
            output, errors = process.communicate(stdin, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            # Asked politely, helm marks the release as failed; killed, it leaves it pending.
            process.send_signal(signal.SIGTERM)
            try:
                output, errors = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                output, errors = process.communicate()
            raise HelmFailure(arguments[0], errors, timed_out_after=timeout_seconds) from None
        except BaseException:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        if process.returncode != 0:
            raise HelmFailure(arguments[0], errors or "it ended with %d and said nothing" % process.returncode)
        return output

    def major_version(self) -> int:
        """3 or 4."""
        answer = self.run("version", "--template", "{{.Version}}")
        match = re.match(r"v?(\d+)\.", answer.strip())
        major = int(match.group(1)) if match else 0
        if major not in (3, 4):
            raise PlatformError(
                "this helm is not supported",
                where=self.binary,
                found="version %s" % answer.strip(),
                expected="Helm 3 or 4",
                fix="install Helm 3 or 4, or set helm_binary",
                reason="missing_program",
            )
        return major

    def local_chart(self, reference: str, repository: str | None, version: str | None, plain_http: bool) -> Chart:
        """The chart as a folder or archive on this machine; one of a repository or registry is downloaded first."""
        if not repository and not reference.startswith("oci://"):
            path = os.path.abspath(os.path.expanduser(reference))
            return self._described(path)
        folder = tempfile.mkdtemp(dir=self.private_folder())
        arguments = ["pull", reference, "--destination", folder]
        if repository:
            arguments += ["--repo", repository]
        if version:
            arguments += ["--version", version]
        if plain_http:
            arguments.append("--plain-http")
        try:
            self.run(*arguments, timeout_seconds=120)
        except HelmFailure as failure:
            raise PlatformError(
                "the chart cannot be downloaded",
                where=" ".join(part for part in (reference, version, "of", repository) if part)
                if repository
                else reference,
                found=failure.text,
                expected="a chart of this name and version that this machine may read",
                fix="check the chart's name, version and address, and the login (helm registry login) if it needs one",
                reason="chart_missing",
            ) from None
        archives = [name for name in os.listdir(folder) if name.endswith((".tgz", ".tar.gz"))]
        return self._described(os.path.join(folder, archives[0]))

    def _described(self, path: str) -> Chart:
        missing = PlatformError(
            "there is no chart",
            where=path,
            found="no Chart.yaml there",
            expected="a chart's folder or its .tgz archive (or an oci:// address, or a name with repository)",
            fix="correct chart",
            reason="chart_missing",
        )
        if os.path.isdir(path):
            try:
                with open(os.path.join(path, "Chart.yaml"), encoding="utf-8") as file:
                    text = file.read()
            except OSError:
                raise missing from None
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
                    reason="chart_missing",
                ) from None
        else:
            raise missing
        try:
            metadata = yaml.safe_load(text)
            return Chart(path, str(metadata["name"]), str(metadata["version"]), str(metadata.get("appVersion", "")))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise PlatformError(
                "the chart's Chart.yaml is not valid",
                where=path,
                found=" ".join(str(error).split()),
                expected="YAML with name and version",
                fix="correct Chart.yaml",
                reason="chart_missing",
            ) from None

    def template(self, chart: Chart, name: str, namespace: str, values: Object, is_upgrade: bool) -> str:
        """What the chart renders to on this cluster: its CRDs, objects and hooks as one manifest."""
        version = str(self.cluster.version().get("gitVersion", ""))
        arguments = ["template", name, chart.path, "--namespace", namespace, "--values", "-", "--include-crds"]
        if re.match(r"v?\d+\.\d+\.\d+", version) and not version.startswith("v0."):
            arguments += ["--kube-version", version]
        arguments += ["--api-versions", ",".join(self.cluster.api_versions())]
        if _looks_up(chart.path):
            # Only this mode lets a template's lookup() see the cluster, as it does in an upgrade. Nothing is written,
            # but Helm 4 also checks who owns what is there, and refuses CRDs of a crds folder that nobody owns.
            arguments.append("--dry-run=server")
        if is_upgrade:
            arguments.append("--is-upgrade")
        try:
            return self.run(*arguments, stdin=json.dumps(values))
        except HelmFailure as failure:
            raise failure.explained(name, namespace, chart.path) from None

    def upgrade(
        self,
        chart: Chart,
        name: str,
        namespace: str,
        values: Object,
        timeout_seconds: int,
        labels: dict[str, str],
        create_namespace: bool,
        replicas: dict[str, int],
    ) -> None:
        """Install or upgrade the release. ``replicas`` ({kind/namespace/name: count}) override what the chart says."""
        arguments = ["upgrade", name, chart.path, "--install", "--namespace", namespace, "--values", "-"]
        arguments += ["--timeout", "%ds" % timeout_seconds, "--history-max", "10", "--skip-crds"]
        if labels:
            arguments += ["--labels", ",".join("%s=%s" % item for item in sorted(labels.items()))]
        if create_namespace:
            arguments.append("--create-namespace")
        major = self.major_version()
        if major >= 4:
            # Server-side apply: what somebody edited by hand is ours again instead of a conflict.
            arguments += ["--force-conflicts"]
        try:
            environment: dict[str, str] = {}
            if replicas:
                more, environment = self._replica_renderer(replicas, major, namespace)
                arguments += more
            self.run(
                *arguments, stdin=json.dumps(values), timeout_seconds=timeout_seconds + 30, environment=environment
            )
        except HelmFailure as failure:
            raise failure.explained(name, namespace, chart.path) from None

    def uninstall(self, name: str, namespace: str, timeout_seconds: int) -> None:
        """Remove the release, its objects and its history."""
        arguments = ["uninstall", name, "--namespace", namespace, "--ignore-not-found"]
        arguments += ["--timeout", "%ds" % timeout_seconds]
        try:
            self.run(*arguments, timeout_seconds=timeout_seconds + 30)
        except HelmFailure as failure:
            raise failure.explained(name, namespace, "") from None

    def _replica_renderer(
        self, replicas: dict[str, int], major: int, namespace: str
    ) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment for a post-renderer that writes the replica counts into the manifest.

        Leaving the field out would not do: where the last revision named it, Helm removes it from the live object,
        and the API server's default for a removed count is 1.
        """
        folder = tempfile.mkdtemp(dir=self.private_folder())
        script = _RENDERER % {"python": sys.executable, "replicas": replicas, "namespace": namespace, "path": sys.path}
        if major < 4:
            path = os.path.join(folder, "replicas")
            _write_program(path, script)
            return ["--post-renderer", path], {}
        # Helm 4 takes a post-renderer only as a plugin.
        plugin = os.path.join(folder, "replicas")
        os.mkdir(plugin)
        _write_program(os.path.join(plugin, "replicas"), script)
        with open(os.path.join(plugin, "plugin.yaml"), "w", encoding="utf-8") as file:
            json.dump(
                {
                    "apiVersion": "v1",
                    "type": "postrenderer/v1",
                    "name": "replicas",
                    "version": "0.1.0",
                    "runtime": "subprocess",
                    "runtimeConfig": {"platformCommand": [{"command": "${HELM_PLUGIN_DIR}/replicas"}]},
                },
                file,
            )
        return ["--post-renderer", "replicas"], {"HELM_PLUGINS": folder}


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
            return any(
                _LOOKUP.search(archive.extractfile(member).read())
                for member in archive
                if member.isfile() and "/templates/" in member.name
            )
    except (OSError, tarfile.TarError):
        return False


def _write_program(path: str, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRWXU), "w", encoding="utf-8") as file:
        file.write(text)


_RENDERER = """#!%(python)s
import sys
sys.path[:] = %(path)r
import yaml
replicas = %(replicas)r
loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
for text in sys.stdin.read().split("\\n---"):
    text = text.removeprefix("---").strip("\\n")
    head = yaml.load(text, Loader=loader)
    if isinstance(head, dict):
        meta = head.get("metadata") or {}
        key = "/".join((head.get("kind", ""), meta.get("namespace") or %(namespace)r, meta.get("name", "")))
        if key in replicas:
            obj = yaml.safe_load(text)
            obj["spec"]["replicas"] = replicas[key]
            text = yaml.safe_dump(obj, sort_keys=False)
    sys.stdout.write("---\\n" + text.rstrip("\\n") + "\\n")
"""


def kubeconfig_of(configuration: Any, headers: dict[str, Any]) -> Object:
    """A kubeconfig that says what a configuration of the Kubernetes client says."""
    cluster: Object = {"server": configuration.host}
    if configuration.verify_ssl is False:
        cluster["insecure-skip-tls-verify"] = True
    elif configuration.ssl_ca_cert:
        cluster["certificate-authority"] = os.path.abspath(configuration.ssl_ca_cert)
    if getattr(configuration, "tls_server_name", None):
        cluster["tls-server-name"] = configuration.tls_server_name
    if configuration.proxy:
        cluster["proxy-url"] = configuration.proxy
    user: Object = {}
    key = configuration.get_api_key_with_prefix
    token = key("authorization") or key("BearerToken")
    if token and token.lower().startswith("bearer "):
        user["token"] = token[len("bearer ") :]
    elif configuration.username and configuration.password:
        user["username"], user["password"] = configuration.username, configuration.password
    if configuration.cert_file:
        user["client-certificate"] = os.path.abspath(configuration.cert_file)
    if configuration.key_file:
        user["client-key"] = os.path.abspath(configuration.key_file)
    if headers.get("Impersonate-User"):
        user["as"] = headers["Impersonate-User"]
    if headers.get("Impersonate-Group"):
        user["as-groups"] = list(headers["Impersonate-Group"])
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "context",
    }


# --- what helm says when it fails -------------------------------------------------------------------------------------


class HelmFailure(Exception):
    """Helm ended with an error. ``text`` is its message without the lines that only help Helm's developers."""

    def __init__(self, command: str, errors: str, timed_out_after: float | None = None) -> None:
        lines = [
            line
            for line in errors.splitlines()
            if not re.match(
                r"(walk\.go|WARNING: Kubernetes configuration|coalesce\.go|\S+ \S+ warnings\.go|[IWE]\d{4} |"
                r"(level|time)=|Use --debug flag|helm\.go)",
                re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line.strip()),
            )
        ]
        text = "\n".join(lines).strip()
        self.command = command
        self.text = re.sub(r"^(Error: )?((UPGRADE|INSTALLATION|UNINSTALL) FAILED: )?", "", text)
        self.timed_out_after = timed_out_after
        super().__init__(self.text)

    def explained(self, name: str, namespace: str, chart_path: str) -> PlatformError:
        """The error that a user can act on."""
        where = "release %s in namespace %s" % (name, namespace)
        text = self.text
        if self.timed_out_after is not None:
            return PlatformError(
                "helm %s did not end in time" % self.command,
                where=where,
                found="ended after %g s%s" % (self.timed_out_after, ": " + text if text else ""),
                expected="hooks and requests that end within timeout_seconds",
                fix="look at the release's hook jobs, or raise timeout_seconds; a rerun goes on from here",
                reason="timeout",
            )
        return (
            _values_error(text, where)
            or _template_error(text, where, chart_path)
            or _hook_error(text, where)
            or _object_error(text, where)
            or PlatformError(
                "helm %s failed" % self.command,
                where=where,
                found=_shortened(text),
                fix="see the message; a rerun goes on from here",
                reason="helm",
            )
        )


def _shortened(text: str, limit: int = 2000) -> str:
    text = " ".join(text.split()) if len(text) < 400 else text
    return text if len(text) <= limit else text[:limit] + " (shortened)"


def _values_error(text: str, where: str) -> PlatformError | None:
    match = re.search(
        r"values don't meet the specifications of the schema\(s\) in the following chart\(s\):\n(.*)", text, re.DOTALL
    )
    if match:
        findings = [line.strip() for line in match.group(1).splitlines() if line.strip()]
        # Helm 3.18 and later: "- at '/a/b': got string, want integer"; before: "- a.b: Invalid type. ..."
        named = [
            re.sub(
                r"^- (?:at '/?([^']*)'|([\w.\[\]-]+)): ", lambda m: (m[1] or m[2] or "").replace("/", ".") + ": ", line
            )
            for line in findings
            if line.startswith("- ")
        ]
        return PlatformError(
            "a value of the chart has a wrong type or is not allowed",
            where=where + (" (chart %s)" % findings[0].rstrip(":") if findings else ""),
            found="; ".join(named) or _shortened(match.group(1)),
            expected="values that the chart's values.schema.json allows",
            fix="correct the named values",
            reason="values",
        )
    return None


_AT = re.compile(r"(?P<file>[\w./-]+/(?:templates|crds|charts)/[\w./-]+):(?P<line>\d+)(?::\d+)?")


def _template_error(text: str, where: str, chart_path: str) -> PlatformError | None:
    required = re.search(
        r"execution error at \((?P<file>[^:()]+):(?P<line>\d+)(?::\d+)?\): (?P<why>.*)", text, re.DOTALL
    )
    parse = re.search(r"parse error at \((?P<file>[^:()]+):(?P<line>\d+)\): (?P<why>.*)", text, re.DOTALL)
    if required or parse:
        match = required or parse
        return PlatformError(
            "the chart does not render",
            where="%s, %s line %s" % (where, match["file"], match["line"]),
            found=_shortened(match["why"].strip()),
            expected="values with which every template renders" if required else "a template that helm can parse",
            fix="set what the message asks for" if required else "correct the template at this line",
            reason="render",
        )
    match = re.search(r"YAML parse error on (?P<file>\S+): (?P<why>.*)", text, re.DOTALL)
    if match:
        return PlatformError(
            "the chart does not render",
            where="%s, %s" % (where, match["file"]),
            found=_shortened(match["why"].strip()),
            expected="YAML",
            fix="correct the template's indentation or quoting, or the value that it prints there",
            reason="render",
        )
    # Helm 4 leaves the word "template:" out.
    if "template: " in text or 'executing "' in text:
        places = list(_AT.finditer(text))
        # A failing helper is wrapped in the templates that include it: the last place is where it happened.
        place = "%s line %s" % (places[-1]["file"], places[-1]["line"]) if places else chart_path
        named = re.findall(r"at <([^>]*)>", text)
        values = sorted({value for part in named for value in re.findall(r"\.Values((?:\.\w+)+)", part)})
        why = text.rsplit("at <%s>: " % named[-1], 1)[-1] if named else text
        return PlatformError(
            "the chart does not render",
            where="%s, %s" % (where, place),
            found=("at <%s>: " % named[-1] if named else "") + _shortened(why),
            expected="values with which every template renders",
            fix="check the value%s %s" % ("s" if len(values) > 1 else "", ", ".join(v[1:] for v in values))
            if values
            else "check the values that this template uses",
            reason="render",
        )
    if "missing in charts/ directory" in text:
        return PlatformError(
            "a chart that this chart depends on is missing",
            where="%s, %s" % (where, chart_path),
            found=_shortened(text),
            expected="every dependency of Chart.yaml in the folder charts/",
            fix="run helm dependency build in the chart's folder",
            reason="render",
        )
    return None


def _hook_error(text: str, where: str) -> PlatformError | None:
    match = re.search(
        r"(?:failed )?(pre|post)-(install|upgrade|delete|rollback)(?: hooks failed)?: (?P<why>.*)", text, re.DOTALL
    )
    if match and not _known_refusal(match["why"], where):
        return PlatformError(
            "a %s-%s hook failed" % (match[1], match[2]),
            where=where,
            found=_shortened(match["why"]),
            expected="a hook that ends with success within timeout_seconds",
            fix="look at the hook's job and its pods in the namespace; a rerun runs it again",
            reason="hook",
        )
    return None


def _known_refusal(text: str, where: str) -> PlatformError | None:
    error = refusal(0, "", text, [], where)
    return None if error.reason == "refused" else error


def _object_error(text: str, where: str) -> PlatformError | None:
    objects = re.findall(
        r'(?:failed to create resource|cannot patch|server-side apply failed for object) ?"?([\w./-]*)"?', text
    )
    kinds = re.findall(r"with kind (\w+)", text)
    names = ["%s %s" % pair for pair in zip(kinds, objects, strict=False) if pair[1]]
    if names:
        where = "%s, %s" % (where, ", ".join(names))
    known = _known_refusal(text, where)
    if known:
        return known
    match = re.search(r'namespaces "([^"]*)" not found', text)
    if match:
        return PlatformError(
            "the namespace %s does not exist" % match[1],
            where=where,
            found=_shortened(text),
            expected="a namespace that exists before the release is installed",
            fix="create it first, or set create_namespace",
            reason="not_found",
        )
    match = re.search(r'no matches for kind "([^"]*)" in version "([^"]*)"', text)
    if match:
        return PlatformError(
            "the cluster does not know the kind %s of %s" % match.groups(),
            where=where,
            found=_shortened(text),
            expected="an installed CustomResourceDefinition for every kind in the chart",
            fix="install the operator that brings it first",
            reason="unknown_kind",
        )
    match = re.search(r"(\w+ \"[^\"]*\") in namespace \"([^\"]*)\" exists and cannot be imported", text)
    if match:
        return PlatformError(
            "%s exists already and belongs to nobody or to another release" % match[1],
            where=where,
            found=_shortened(text),
            expected="no such object, or one with this release's Helm labels and annotations",
            fix="delete it, or add the labels and annotations that the message names",
            reason="conflict",
        )
    if "another operation" in text and "in progress" in text:
        return PlatformError(
            "another helm works on this release",
            where=where,
            found=_shortened(text),
            expected="one at a time",
            fix="wait until it has ended, then run again",
            reason="busy",
        )
    if "cluster unreachable" in text.lower() or "connection refused" in text:
        return PlatformError(
            "the cluster cannot be reached",
            where=where,
            found=_shortened(text),
            expected="an API server that accepts connections",
            fix="check that the cluster runs and that this machine may reach it, then run again",
            reason="unreachable",
        )
    match = re.search(r"is invalid: (?P<field>[\w.\[\]()/-]+): (?P<why>.*)", text, re.DOTALL)
    if match or "field is immutable" in text or "updates to statefulset spec" in text:
        return PlatformError(
            "the cluster refuses the changed object",
            where=where,
            found=_shortened(text),
            expected="valid values, and no change to a field that cannot be changed",
            fix="correct the value; to change an immutable field delete the object first (a StatefulSet with "
            "--cascade=orphan keeps its pods and volumes)",
            reason="invalid",
        )
    match = re.search(r"error validating data: (?P<why>.*)", text, re.DOTALL)
    if match:
        return PlatformError(
            "a rendered object has fields that its kind does not have",
            where=where,
            found=_shortened(match["why"]),
            expected="fields of the kind's schema with values of their types",
            fix="correct the template, or the value that it prints there",
            reason="invalid",
        )
    return None
