"""What runtimes say of their isolation, and what their nodes allow them."""

from __future__ import annotations

import copy
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import runtimes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed

from ..stand_in import stands_in_for

OPTIONS = {
    "namespace": "functions",
    "apps": ["python-runtime", "rust-runtime"],
    "metrics_port": 9090,
    "accepted": [],
    "user_namespaces": [],
}
# As on an older kernel with cgroup v1, whose users are those of the node.
WHOLE = {"seccomp": 1, "landlock": 1, "landlock_signals": 0, "user_namespace": 0, "cgroup_v2": 0}


def pod(app, number=0, node="a", ready=True, **spec):
    env = [{"name": "MAX_CONCURRENCY", "value": "6"}, {"name": "THREADS_LIMIT", "value": "64"}]
    return {
        "metadata": {"name": f"{app}-{number}", "labels": {"app.kubernetes.io/name": app}},
        "spec": {"nodeName": node, "containers": [{"name": "runtime", "env": env}], **spec},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def text(parts):
    """As the runtime's metrics are."""
    samples = "".join(
        f'lambda_runtime_isolation{{language="python",part="{part}"}} {value}\n' for part, value in parts.items()
    )
    return f"HTTP/1.0 200 OK\r\n\r\n# TYPE lambda_runtime_isolation gauge\n{samples}lambda_runtime_running 0\n# EOF\n"


@stands_in_for(Cluster)
class Functions:
    """Pods that say of themselves what ``says`` has, on nodes with these limits."""

    def __init__(self, *pods, says=None, limits=None):
        self.pods = list(pods) or [pod("python-runtime"), pod("rust-runtime", node="b")]
        self.says = says or {}
        self.limits = limits or {}

    def list(self, api_version, kind, namespace=None, label_selector=None, field_selector=None):
        assert (kind, namespace) == ("Pod", "functions")
        return copy.deepcopy(self.pods)

    def request(self, method, path):
        limit = self.limits.get(path.split("/")[4], 1024)
        if isinstance(limit, PlatformError):
            raise limit
        return {"kubeletconfig": {"podPidsLimit": limit}}


@pytest.fixture
def look(monkeypatch):
    """Makes a check of a cluster."""

    def made(check, cluster, **options):
        def run_in_pod(_cluster, namespace, name, command, *, container=None):
            assert (namespace, container) == ("functions", "runtime")
            return Ran(0, cluster.says.get(name, text(WHOLE)), "")

        monkeypatch.setattr(runtimes, "run_in_pod", run_in_pod)
        return check(cluster, {**OPTIONS, **options})

    return made


def test_a_whole_isolation_passes(look):
    assert look(runtimes.runtimes_isolation, Functions()) == Passed("2 pods have landlock, seccomp")


def test_what_is_missing_is_named_with_its_pod(look):
    cluster = Functions(says={"rust-runtime-0": text({"seccomp": 1, "landlock": 0})})
    with pytest.raises(PlatformError, match="rust-runtime-0 without landlock") as error:
        look(runtimes.runtimes_isolation, cluster)
    assert "Pod functions/rust-runtime-0" in str(error.value)
    assert "runtimes_require_landlock: false" in str(error.value)


def test_what_the_inventory_accepts_is_a_warning_and_nothing_else_is(look):
    missing = text({"seccomp": 1, "landlock": 0})
    found = look(runtimes.runtimes_isolation, Functions(says={"rust-runtime-0": missing}), accepted=["landlock"])
    assert isinstance(found, Doubtful)
    assert "without landlock" in found.detail
    worse = Functions(says={"rust-runtime-0": text({"seccomp": 0, "landlock": 0})})
    with pytest.raises(PlatformError, match="rust-runtime-0 without seccomp"):
        look(runtimes.runtimes_isolation, worse, accepted=["landlock"])


def test_a_runtime_that_does_not_say_is_a_warning_with_its_name(look):
    found = look(runtimes.runtimes_isolation, Functions(says={"python-runtime-0": text({})}))
    assert isinstance(found, Doubtful)
    assert "python-runtime-0" in found.warning


def test_a_language_without_a_ready_pod_fails(look):
    cluster = Functions(pod("python-runtime"), pod("rust-runtime", ready=False))
    with pytest.raises(PlatformError, match="no pod of rust-runtime that is ready"):
        look(runtimes.runtimes_isolation, cluster)


def test_a_user_namespace_that_was_asked_for_and_dropped(look):
    cluster = Functions(pod("python-runtime", hostUsers=False), pod("rust-runtime"))
    assert isinstance(look(runtimes.runtimes_isolation, cluster, user_namespaces=["python-runtime"]), Passed)
    with pytest.raises(PlatformError, match="Pod functions/rust-runtime-0.*the API server dropped it"):
        look(runtimes.runtimes_isolation, cluster, user_namespaces=["python-runtime", "rust-runtime"])


def test_nodes_that_bound_a_pod_s_processes(look):
    found = look(runtimes.runtimes_process_ids, Functions())
    # 6 scripts of 64 threads, and 100.
    assert found == Passed("2 nodes allow a pod 1024, and its scripts need 484 at most")


@pytest.mark.parametrize("limit", [-1, 0, None])
def test_a_node_without_a_bound_is_a_warning(look, limit):
    found = look(runtimes.runtimes_process_ids, Functions(limits={"b": limit}))
    assert isinstance(found, Doubtful)
    assert "(b)" in found.warning


def test_a_bound_that_is_too_small_fails(look):
    with pytest.raises(PlatformError, match="podPidsLimit 300 on b.*at least 484"):
        look(runtimes.runtimes_process_ids, Functions(limits={"b": 300}))


def test_a_kubelet_that_may_not_be_asked_is_a_warning(look):
    refused = PlatformError("no right", found="403 nodes/proxy", reason="forbidden")
    found = look(runtimes.runtimes_process_ids, Functions(limits={"a": refused}))
    assert isinstance(found, Doubtful)
    assert "403 nodes/proxy" in found.warning


def test_the_shell_reads_the_metrics_of_a_server():
    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text({"seccomp": 1, "landlock": 0}).split("\r\n\r\n")[1].encode())

        def log_message(self, *_args):
            pass

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = ["bash", "-c", runtimes._READ, str(server.server_port)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        server.shutdown()
    assert runtimes.parts_of(ran.stdout) == {"seccomp": True, "landlock": False}
    assert subprocess.run(["bash", "-c", runtimes._READ, "1"], capture_output=True, timeout=10).returncode == 1
