"""How the module uses helm: the way to the cluster, logins, limits of arguments, refused values, and its end."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

from .small_chart import SmallChart, helm

ROOT = Path(__file__).resolve().parents[2]
DEAD = "http://127.0.0.1:1"
"""A proxy that nobody is behind."""


@pytest.fixture
def small(tmp_path, kubeconfig, namespace):
    return SmallChart(tmp_path, kubeconfig, namespace)


@pytest.fixture
def watched(tmp_path, small, monkeypatch):
    """Helm, with its arguments and environment written down. A call gives all that they were."""
    log, program = tmp_path / "calls", tmp_path / "watched-helm"
    script = "#!%s\nimport json, os, sys\nopen(%r, 'a').write(json.dumps([sys.argv, dict(os.environ)]) + '\\n')\n"
    program.write_text((script + "os.execv(%r, sys.argv)\n") % (sys.executable, str(log), helm()))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("HELM", str(program))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


# --- the way to the cluster -------------------------------------------------------------------------------------------


@pytest.fixture
def token(kubeconfig):
    """Host and token of the API server, as single options."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    host = content["clusters"][0]["cluster"]["server"]
    return {"host": host, "api_key": content["users"][0]["user"]["token"], "validate_certs": False}


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("way", ["token", "kubeconfig"])
def test_this_machine_is_not_reached_through_a_proxy(small, token, monkeypatch, variable, way) -> None:
    monkeypatch.setenv(variable, DEAD)
    assert small(auth=token if way == "token" else None)["action"] == "installed"


def test_a_proxy_of_the_kubeconfig_is_not_used_where_no_proxy_says_so(small, kubeconfig, tmp_path, monkeypatch) -> None:
    content = yaml.safe_load(Path(kubeconfig).read_text())
    content["clusters"][0]["cluster"]["proxy-url"] = DEAD
    authority = content["clusters"][0]["cluster"].get("certificate-authority")
    if authority:
        content["clusters"][0]["cluster"]["certificate-authority"] = str(Path(kubeconfig).parent / authority)
    (tmp_path / "proxied").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    assert small(auth={"kubeconfig": str(tmp_path / "proxied")})["action"] == "installed"


def test_an_exec_plugin_is_asked_by_helm_itself_beside_single_options(
    small, kubeconfig, token, tmp_path, watched
) -> None:
    asked = tmp_path / "asked"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    answer["status"] = {"token": token["api_key"]}
    plugin = tmp_path / "login"
    plugin.write_text("#!/bin/sh\nps -o comm= -p $PPID >> %s\necho '%s'\n" % (asked, json.dumps(answer)))
    plugin.chmod(0o700)
    content = yaml.safe_load(Path(kubeconfig).read_text())
    stanza = {"apiVersion": answer["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
    content["users"][0]["user"] = {"exec": stanza}
    (tmp_path / "exec").write_text(yaml.safe_dump(content))
    auth = {"kubeconfig": str(tmp_path / "exec"), "validate_certs": False, "impersonate_user": "x"}
    auth["impersonate_groups"] = ["system:masters"]
    assert small(auth=auth)["action"] == "installed"
    assert "helm" in asked.read_text().split()
    assert token["api_key"] not in json.dumps(watched())


def test_thousands_of_kinds_fit(small, monkeypatch) -> None:
    kinds = ["group-%05d.example.com/v1/SomeQuiteLongKindName%05d" % (number, number) for number in range(8000)]
    served = Cluster.api_versions
    monkeypatch.setattr(Cluster, "api_versions", lambda cluster: [*served(cluster), *kinds])
    template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: last}\n"
    condition = '{{- if .Capabilities.APIVersions.Has "%s" }}\n' % kinds[-1]
    (small.folder / "templates" / "last.yaml").write_text(condition + template + "{{- end }}\n")
    assert any("ConfigMap" in entry["before_header"] for entry in small(check=True)["diff"])


@pytest.mark.parametrize("check", [True, False])
def test_an_old_helm_is_named_before_anything_else(small, tmp_path, monkeypatch, check) -> None:
    program = tmp_path / "old-helm"
    program.write_text('#!/bin/sh\n[ "$1" = version ] && echo v3.12.3 || exit 1\n')
    program.chmod(0o700)
    monkeypatch.setenv("HELM", str(program))
    with pytest.raises(PlatformError, match="not supported") as caught:
        small(check=check)
    assert "v3.12.3" in caught.value.found and caught.value.reason == "program"


# --- values -----------------------------------------------------------------------------------------------------------

VALUES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: w}
data: {number: {{ .Values.number | toString | quote }}}
"""


@pytest.mark.parametrize("check", [True, False])
def test_an_integer_that_helm_would_round_is_refused(small, check) -> None:
    (small.folder / "templates" / "all.yaml").write_text(VALUES)
    with pytest.raises(PlatformError, match=r"values\.number") as caught:
        small({"number": 2**53 + 1}, check=check)
    assert caught.value.reason == "values"


@pytest.mark.parametrize("number", [0.1, 1e22, -(2**53), 2**53, str(2**64), None, True, [], {}, "1e3"])
def test_any_other_value_is_unchanged_the_second_time(small, number) -> None:
    (small.folder / "templates" / "all.yaml").write_text(VALUES)
    assert small({"number": number})["action"] == "installed"
    assert small({"number": number})["action"] == "unchanged"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"pattern": "^[0-9]+$"}, "pattern"),
        ({"enum": ["a", "b"]}, "a"),
        ({"format": "email"}, ""),
        ({"maxLength": 3}, "3"),
        ({"const": "a"}, "a"),
        ({"type": "integer"}, "integer"),
        ({"not": {"type": "string"}}, ""),
    ],
)
def test_a_refused_value_is_not_told(small, rule, told) -> None:
    schema = {"properties": {"db": {"properties": {"password": rule}}}}
    (small.folder / "values.schema.json").write_text(json.dumps(schema))
    values = {"db": {"password": "hunter2-secret"}}
    try:
        result = small(values, check=True)
    except PlatformError as error:
        assert "hunter2" not in str(error) and "db.password" in error.found and told in error.found
        assert error.reason == "values"
    else:
        # A helm that does not check formats.
        assert "format" in rule and "hunter2" not in json.dumps(result)


# --- logins -----------------------------------------------------------------------------------------------------------


class WithLogin(http.server.SimpleHTTPRequestHandler):
    """Files for whom the name and the password are known."""

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(b"deployer:hunter2/p@ss").decode()
        if self.headers.get("Authorization") == wanted:
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def repository(small, tmp_path):
    """``HOST:PORT`` of a repository that has the small chart for those who have the login."""
    folder = tmp_path / "packed"
    subprocess.run([helm(), "package", str(small.folder), "-d", str(folder)], check=True, capture_output=True)
    subprocess.run([helm(), "repo", "index", str(folder)], check=True, capture_output=True)
    handler = functools.partial(WithLogin, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "127.0.0.1:%d" % server.server_port
        server.shutdown()


@pytest.mark.parametrize("way", ["options", "address"])
@pytest.mark.parametrize("proxy", [None, DEAD])
def test_a_login_for_a_repository_is_in_no_argument_and_no_environment(
    repository, small, watched, monkeypatch, way, proxy
) -> None:
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    spec = {
        "repository": "http://%s" % repository,
        "repository_username": "deployer",
        "repository_password": "hunter2/p@ss",
    }
    if way == "address":
        spec = {"repository": "http://deployer:hunter2%%2Fp%%40ss@%s" % repository}
    result = small(chart="w", version="0.1.0", **spec)
    assert result["action"] == "installed"
    assert "hunter2" not in json.dumps([result, watched()])


@pytest.mark.parametrize("way", ["options", "address", "none"])
def test_a_login_that_is_refused_is_not_told(repository, small, way) -> None:
    spec = {"repository": "http://%s" % repository}
    if way == "options":
        spec.update(repository_username="deployer", repository_password="wrong-hunter2")
    elif way == "address":
        spec = {"repository": "http://deployer:wrong-hunter2@%s" % repository}
    with pytest.raises(PlatformError, match="401") as caught:
        small(chart="w", **spec)
    assert "hunter2" not in str(caught.value) and caught.value.reason == "chart" and repository in str(caught.value)


class RegistryWithLogin(http.server.BaseHTTPRequestHandler):
    """A registry's front that asks for the login, and passes on to one without."""

    behind = ""

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(b"deployer:hunter2").decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="charts"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(self.behind)
        connection.request(self.command, self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "Docker-Content-Digest", "Content-Length"):
            if answer.headers.get(name):
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


def test_a_login_for_a_registry_is_in_no_argument(small, registry, watched, tmp_path) -> None:
    folder = tmp_path / "packed"
    subprocess.run([helm(), "package", str(small.folder), "-d", str(folder)], check=True, capture_output=True)
    push = [helm(), "push", str(folder / "w-0.1.0.tgz"), f"oci://{registry}/login-charts", "--plain-http"]
    subprocess.run(push, check=True, capture_output=True)
    handler = type("Handler", (RegistryWithLogin,), {"behind": registry})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spec = {
            "chart": "oci://127.0.0.1:%d/login-charts/w" % server.server_port,
            "version": "0.1.0",
            "plain_http": True,
        }
        result = small(repository_username="deployer", repository_password="hunter2", **spec)
        assert result["action"] == "installed"
        with pytest.raises(PlatformError) as caught:
            small(repository_username="deployer", repository_password="wrong-hunter", **spec)
        server.shutdown()
    assert "wrong-hunter" not in str(caught.value) and "hunter2" not in json.dumps([result, watched()])


# --- the end ----------------------------------------------------------------------------------------------------------

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Two releases whose hooks never end
      lambda_microservice.platform.chart:
        host: "{{ token.host }}"
        api_key: "{{ token.api_key }}"
        validate_certs: false
        helm_binary: "{{ helm }}"
        releases: "{{ releases }}"
      timeout: %d
"""


@pytest.fixture
def play(small, token, tmp_path, namespace):
    """Start ansible-playbook on releases of which each waits for a hook that no node runs."""
    # Not below tmp_path: Ansible's socket lies in it, and the path of a socket has at most 107 characters (unix(7)).
    temporary = Path(tempfile.mkdtemp())

    def start(timeout, number):
        values = {"hook": "sleep 300", "image": "none"}
        releases = [
            {"name": name, "namespace": namespace, "chart": str(small.folder), "values": values}
            for name in "wx"[:number]
        ]
        (tmp_path / "play.yml").write_text(PLAY % timeout)
        variables = json.dumps({"releases": releases, "token": token, "helm": helm()})
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "PYTHONFAULTHANDLER": "1",  # see ended()
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        argv = [program, "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml"), "-e", variables]
        return subprocess.Popen(
            argv, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    start.temporary = temporary
    yield start
    shutil.rmtree(temporary)


def helms_in(temporary):
    """The helm processes that were started with this folder for temporary files."""
    mark, found = b"TMPDIR=" + str(temporary).encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes() and b"upgrade" in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


def wait_for_helms(play, number, run):
    until = time.monotonic() + 60
    while len(helms_in(play.temporary)) < number:
        assert time.monotonic() < until and run.poll() is None, run.communicate()[0]
        time.sleep(0.1)


def ended(run, seconds):
    """The output of a run that has to end within that time; where it does not, what each of its threads waits for."""
    try:
        return run.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        tree = subprocess.run(["ps", "-eo", "pid,ppid,stat,wchan:20,args"], capture_output=True, text=True, check=True)
        run.send_signal(signal.SIGABRT)
        try:
            output = run.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired as still:
            output = "another process holds its output: %r" % still.output
        pytest.fail("it goes on: %s\n%s" % (output, tree.stdout))


def kubeconfigs_in(play):
    return list(play.temporary.rglob("kubeconfig"))


@pytest.mark.parametrize("number", [1, 2])
def test_a_tasks_timeout_ends_helm_and_removes_its_folder(play, number) -> None:
    run = play(10, number)
    wait_for_helms(play, number, run)
    assert kubeconfigs_in(play)
    began = time.monotonic()
    output = ended(run, 60)
    assert "Timed out after 10 second(s)" in output
    # What is left of the 10 s, and helm's own end.
    assert time.monotonic() - began < 10 + 8, output
    assert not helms_in(play.temporary) and not kubeconfigs_in(play)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_helm_and_removes_its_folder(play, number) -> None:
    run = play(120, 2)
    wait_for_helms(play, 2, run)
    assert kubeconfigs_in(play)
    run.send_signal(number)
    ended(run, 30)
    until = time.monotonic() + 15
    while helms_in(play.temporary) or kubeconfigs_in(play):
        assert time.monotonic() < until
        time.sleep(0.1)
