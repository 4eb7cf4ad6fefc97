"""The wait itself: its requests, its lines, when it ends and what it then says. Time is simulated."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.rollout import Rollout

from ..stand_in import stands_in_for


def deployment(name="web", ready=0, desired=2):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "generation": 1,
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {"replicas": desired},
        "status": {
            "observedGeneration": 1,
            "replicas": desired,
            "updatedReplicas": desired,
            "readyReplicas": ready,
            "availableReplicas": ready,
        },
    }


def replica_set(name="web"):
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-rs",
            "uid": f"uid-{name}-rs",
            "ownerReferences": [{"uid": f"uid-{name}"}],
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {"replicas": 2},
        "status": {"replicas": 2},
    }


def pod(state, name="web", number=1, restarts=0, last=None):
    container = {"name": "main", "image": "example.com/web:1", "restartCount": restarts, "ready": False, "state": state}
    if last:
        container["lastState"] = {"terminated": last}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{number}",
            "uid": f"uid-{name}-{number}",
            "ownerReferences": [{"uid": f"uid-{name}-rs"}],
        },
        "spec": {"nodeName": "node-a"},
        "status": {"phase": "Pending", "containerStatuses": [container]},
    }


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def event(obj, reason, message):
    return {
        "metadata": {},
        "involvedObject": {"uid": obj["metadata"]["uid"]},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }


@stands_in_for(Cluster, beside=["clock", "sleep"])
class World:
    """A cluster whose content is a function of the simulated time, and the clock."""

    def __init__(self, content, forbidden=(), log="first\nsecond\n"):
        self.now = 1000.0
        self.content = content
        self.forbidden = set(forbidden)
        self.log = log
        self.requests = []
        self.lines = []
        self.log_requests = []
        self.outages = {}
        self.kinds = {}
        self.comes = {"Widget": float("inf")}

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds

    def _objects(self, kind):
        elapsed = self.now - 1000.0
        for (begin, end), error in self.outages.items():
            if begin <= elapsed < end:
                raise error
        if kind in self.forbidden:
            raise PlatformError(f"no right to list {kind}", reason="forbidden", status=403)
        return [obj for obj in self.content(elapsed) if obj.get("kind", "Event") == kind]

    def knows(self, api_version, kind):
        if api_version not in self.kinds:
            self.kinds[api_version] = self.now >= 1000.0 + self.comes.get(kind, 0)
        return self.kinds[api_version]

    def forget_resources(self, api_version):
        self.kinds.pop(api_version, None)

    def path(self, ref, collection=False):
        raise PlatformError("the cluster does not know it", reason="kind")

    def get(self, ref):
        self.requests.append(("get", ref["kind"]))
        return next((obj for obj in self._objects(ref["kind"]) if obj["metadata"]["name"] == ref["name"]), None)

    def list(self, api_version, kind, namespace=None):
        self.requests.append(("list", kind))
        return self._objects(kind)

    def logs(self, namespace, pod, container, previous, tail_lines):
        self.log_requests.append((pod, container, previous, tail_lines))
        if isinstance(self.log, PlatformError):
            raise self.log
        return self.log


def rollout(world, workloads=None, wait=True, **params):
    workloads = workloads or [{"kind": "Deployment", "name": "web", "namespace": "ns"}]
    params = {"workloads": workloads, "timeout_seconds": 600, "max_restarts": 3, "log_lines": 20, **params}
    return Rollout(world, params, world.lines.append, world.clock, world.sleep).run(wait)


def failure(world, **params):
    with pytest.raises(PlatformError) as error:
        rollout(world, **params)
    return error.value


def test_ready_workloads_cost_one_request_and_no_line():
    world = World(lambda elapsed: [deployment(ready=2)])
    result = rollout(world)
    assert not result["changed"]
    assert result["workloads"][0]["state"] == "ready"
    assert world.requests == [("get", "Deployment")]
    assert world.lines == []


def test_many_workloads_of_a_kind_and_namespace_are_one_list():
    names = ["a", "b", "c"]
    world = World(lambda elapsed: [deployment(name, ready=2) for name in names])
    result = rollout(world, [{"kind": "Deployment", "name": name, "namespace": "ns"} for name in reversed(names)])
    assert world.requests == [("list", "Deployment")]
    assert [workload["name"] for workload in result["workloads"]] == ["c", "b", "a"]


def test_it_waits_until_all_are_ready_and_tells_what_changed():
    def content(elapsed):
        ready = 0 if elapsed < 5 else 1 if elapsed < 27 else 2
        return [deployment(ready=ready), replica_set(), pod(waiting("ContainerCreating"))]

    world = World(content)
    rollout(world)
    assert 27 <= world.now - 1000 <= 28.5
    assert "0/1 ready, waiting for ns/web 0/2 available (Pod web-1: ContainerCreating)" in world.lines[0]
    assert any("1/2 available" in line for line in world.lines)
    # One line for each change and one for each 10 seconds without one.
    assert len(world.lines) == 4
    assert len(world.requests) < 30 * 3.5


def test_an_image_that_does_not_exist_ends_the_wait_within_30_seconds_of_its_first_back_off():
    def content(elapsed):
        # As the kubelet does: an error, then a pause, in turn.
        state = "ContainerCreating" if elapsed < 5 else "ErrImagePull" if int(elapsed) % 12 < 2 else "ImagePullBackOff"
        broken = pod(waiting(state, "x"))
        return [
            deployment(),
            replica_set(),
            broken,
            event(broken, "Failed", 'Failed to pull image "example.com/web:1": not found'),
        ]

    world = World(content)
    error = failure(world)
    assert 25 <= world.now - 1000 <= 30
    assert error.reason == "rollout"
    text = str(error)
    assert "Deployment ns/web: 0/2 available" in text
    assert "Pod web-1 on node-a: container main: " in text
    assert 'Failed to pull image "example.com/web:1": not found' in text
    assert "imagePullSecrets" in error.fix
    assert world.log_requests == []


def test_a_registry_that_recovers_in_time_is_no_failure():
    def content(elapsed):
        if elapsed > 15:
            return [deployment(ready=2)]
        return [deployment(), replica_set(), pod(waiting("ErrImagePull"))]

    assert rollout(World(content))["workloads"][0]["state"] == "ready"


def test_a_trouble_that_pauses_starts_anew():
    def content(elapsed):
        state = waiting("CreateContainerConfigError") if int(elapsed) % 15 < 12 else waiting("ContainerCreating")
        return [deployment(ready=2 if elapsed > 100 else 0), replica_set(), pod(state)]

    assert rollout(World(content))["workloads"][0]["state"] == "ready"


def test_a_crash_loop_shows_the_log_before_the_restart():
    def content(elapsed):
        ended = {"reason": "Error", "exitCode": 139}
        return [
            deployment(),
            replica_set(),
            pod(waiting("CrashLoopBackOff"), restarts=int(elapsed / 10), last=ended),
        ]

    world = World(content, log="\x1b[31mred\x1b[0m\n    indented\n")
    error = failure(world, log_lines=7)
    assert 30 <= world.now - 1000 <= 40
    text = str(error)
    assert "last ended: Error, exit code 139, signal 11; restarts: 3" in text
    assert "    | red\n    |     indented\n" in text
    assert world.log_requests == [("web-1", "main", True, 7)]
    (told,) = error.details["workloads"]
    assert told["state"] == "failed"
    assert told["pods"][0]["log"] == ["red", "    indented"]
    assert told["pods"][0]["restarts"] == 3


@pytest.mark.parametrize("log", ["x\n", PlatformError("no right to get pods/log", reason="forbidden")])
def test_logs_can_be_left_out_or_unreadable(log):
    ended = {"reason": "Error", "exitCode": 1}
    world = World(
        lambda elapsed: [deployment(), replica_set(), pod(waiting("CrashLoopBackOff"), restarts=9, last=ended)], log=log
    )
    error = failure(world, log_lines=0 if log == "x\n" else 20)
    assert "CrashLoopBackOff" in str(error)
    assert "last log lines" not in str(error)


def test_pods_with_the_same_cause_are_told_once():
    pods = [pod(waiting("InvalidImageName", "bad"), number=number) for number in range(1, 6)]
    error = failure(World(lambda elapsed: [deployment(desired=5), replica_set(), *pods]))
    assert str(error).count("InvalidImageName") == 1
    assert "and 4 more pods" in str(error)


def test_everything_that_is_not_ready_is_in_one_message_the_cause_first():
    def content(elapsed):
        return [
            deployment("slow"),
            replica_set("slow"),
            pod(waiting("ContainerCreating"), "slow"),
            deployment("good", ready=2),
            deployment("bad"),
            replica_set("bad"),
            pod(waiting("InvalidImageName", "bad name"), "bad"),
        ]

    names = ["slow", "good", "bad"]
    error = failure(World(content), workloads=[{"kind": "Deployment", "name": n, "namespace": "ns"} for n in names])
    text = str(error)
    assert "2 of 3 workloads are not ready" in text
    assert text.index("ns/bad") < text.index("ns/slow")
    assert "Deployment ns/good" not in text
    assert [workload["state"] for workload in error.details["workloads"]] == ["waiting", "ready", "failed"]
    # What to do is about the cause, not about what was still starting.
    assert error.fix == "check the image's name, tag and registry, and that the nodes may pull it (imagePullSecrets)"


def test_the_timeout_names_what_it_waited_for():
    def content(elapsed):
        unready = pod({"running": {"startedAt": "x"}})
        unready["status"]["containerStatuses"][0]["started"] = True
        return [deployment(), replica_set(), unready, event(unready, "Unhealthy", "Readiness probe failed: 503\n")]

    world = World(content)
    error = failure(world, timeout_seconds=42)
    assert world.now - 1000 == pytest.approx(42, abs=1.1)
    assert error.reason == "timeout"
    assert "did not finish within 42 s" in str(error)
    assert "container main: not ready: Readiness probe failed: 503\n" in str(error)
    assert "    | first\n    | second\n" in str(error)


def test_refused_pods_end_the_wait():
    refused = deployment(desired=2)
    refused["status"].update(replicas=0, updatedReplicas=0)
    refused["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}
    ]
    world = World(lambda elapsed: [refused])
    error = failure(world)
    assert 20 <= world.now - 1000 <= 22
    assert "exceeded quota: small" in str(error)
    assert "quota" in error.fix


def test_a_workload_that_does_not_exist():
    world = World(lambda elapsed: [])
    error = failure(world)
    assert 30 <= world.now - 1000 <= 32
    assert "Deployment ns/web: does not exist" in str(error)


def test_a_workload_that_is_made_late_is_waited_for():
    assert rollout(World(lambda elapsed: [deployment(ready=2)] if elapsed > 25 else []))["changed"] is False


def test_a_failed_job_ends_the_wait_at_once():
    job = {
        "kind": "Job",
        "metadata": {"name": "j", "uid": "j", "namespace": "ns"},
        "spec": {},
        "status": {
            "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]
        },
    }
    failed = pod({"terminated": {"exitCode": 7, "reason": "Error"}}, "j")
    failed["metadata"]["ownerReferences"] = [{"uid": "j"}]
    world = World(lambda elapsed: [job, failed])
    error = failure(world, workloads=[{"kind": "Job", "name": "j", "namespace": "ns"}])
    assert world.now == 1000
    assert "Job ns/j: failed, BackoffLimitExceeded: m" in str(error)
    assert "exit code 7" in str(error)
    assert world.log_requests == [("j-1", "main", False, 20)]


def test_a_job_may_restart_its_container_as_often_as_its_backoff_limit_says():
    def content(elapsed):
        complete = [{"type": "Complete", "status": "True"}] if elapsed > 60 else []
        job = {
            "kind": "Job",
            "metadata": {"name": "j", "uid": "j", "namespace": "ns"},
            "spec": {"backoffLimit": 9},
            "status": {"conditions": complete},
        }
        failing = pod(waiting("CrashLoopBackOff"), "j", restarts=5)
        failing["metadata"]["ownerReferences"] = [{"uid": "j"}]
        return [job, failing]

    result = rollout(World(content), [{"kind": "Job", "name": "j", "namespace": "ns"}])
    assert result["workloads"][0]["state"] == "ready"


def test_check_mode_looks_once_and_never_fails():
    workloads = [{"kind": "Deployment", "name": name, "namespace": "ns"} for name in ("web", "later")]
    workloads.append(
        {"kind": "Widget", "name": "w", "namespace": "ns", "api_version": "example.com/v1", "condition": "Ready"}
    )
    world = World(lambda elapsed: [deployment(ready=1)])
    result = rollout(world, workloads, wait=False)
    assert [workload["state"] for workload in result["workloads"]] == ["waiting", "missing", "missing"]
    assert world.now == 1000
    assert world.lines == []


@pytest.mark.parametrize("seconds", [30, 90])
def test_an_api_server_that_is_away_for_a_while_does_not_end_the_wait(seconds):
    world = World(lambda elapsed: [deployment(ready=2 if elapsed > 100 else 0)])
    world.outages[(10, 10 + seconds)] = PlatformError("the cluster cannot be reached", reason="unreachable")
    if seconds == 30:
        rollout(world)
        assert any("trying again" in line for line in world.lines)
    else:
        assert failure(world).reason == "unreachable"


def test_the_first_look_must_succeed():
    world = World(lambda elapsed: [])
    world.outages[(0, 1)] = PlatformError("the cluster cannot be reached", reason="unreachable")
    assert failure(world).reason == "unreachable"


def test_lost_rights_end_the_wait():
    world = World(lambda elapsed: [deployment()])
    world.outages[(5, 6)] = PlatformError("the cluster does not accept the credentials", reason="unauthorized")
    assert failure(world).reason == "unauthorized"


def test_without_the_right_to_see_causes_it_waits_all_the_same():
    world = World(
        lambda elapsed: [deployment(ready=2 if elapsed > 20 else 0)], forbidden=["Pod", "Event", "ReplicaSet"]
    )
    result = rollout(world)
    assert result["workloads"][0]["state"] == "ready"
    assert sorted(note.split()[4] for note in result["notes"]) == ["Events", "Pods", "ReplicaSets"]
    assert world.requests.count(("list", "Pod")) == 1


@pytest.mark.parametrize(
    ("workload", "says"),
    [
        ({"kind": "Widget", "name": "w", "namespace": "ns"}, "no api_version"),
        ({"kind": "Widget", "name": "w", "namespace": "ns", "api_version": "example.com/v1"}, "no condition"),
        ({"kind": "Deployment", "name": "w", "namespace": "ns", "api_version": "example.com/v1"}, "no condition"),
        ({"kind": "Deployment", "name": "w"}, "no namespace"),
    ],
)
def test_an_incomplete_workload_is_named(workload, says):
    with pytest.raises(PlatformError) as error:
        rollout(World(lambda elapsed: []), [workload])
    assert says in str(error.value)
    assert "workloads[0]" in error.value.where


def test_the_status_of_a_custom_resource_is_in_the_result():
    status = {"conditions": [{"type": "Ready", "status": "True"}], "notAfter": "2027-11-24T10:00:00Z"}
    resource = {"kind": "Certificate", "metadata": {"name": "c", "uid": "c", "generation": 1}, "status": status}
    entry = {"kind": "Certificate", "namespace": "ns", "api_version": "cert-manager.io/v1", "condition": "Ready"}
    workloads = [{**entry, "name": "c"}, {**entry, "name": "later"}, {"kind": "Job", "name": "j", "namespace": "ns"}]
    result = rollout(World(lambda elapsed: [resource]), workloads, wait=False)
    assert [workload.get("status") for workload in result["workloads"]] == [status, {}, None]


def test_a_custom_resources_conditions_are_told():
    resource = {
        "kind": "Prometheus",
        "metadata": {"name": "p", "uid": "p", "generation": 1},
        "status": {"conditions": [{"type": "Available", "status": "False", "reason": "NoPods", "message": "0 of 2"}]},
    }
    entry = {"kind": "Prometheus", "name": "p", "namespace": "ns", "api_version": "m/v1", "condition": "Available"}
    error = failure(World(lambda elapsed: [resource]), workloads=[entry], timeout_seconds=5)
    assert "condition Available=False (NoPods: 0 of 2)" in str(error)


def test_a_kind_that_comes_later_is_seen():
    widget = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "namespace": "ns"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    world = World(lambda elapsed: [widget] if elapsed >= 4 else [])
    world.comes = {"Widget": 3}
    asked = {"kind": "Widget", "api_version": "example.com/v1", "name": "w", "namespace": "ns", "condition": "Ready"}
    assert rollout(world, [asked])["msg"] == "1 of 1 workloads are ready"
    assert world.now < 1008


def pulling(*causes):
    """A deployment whose image cannot be pulled; causes are (since when, message or None for a bare Back-off)."""

    def content(elapsed):
        message = next(text for begin, text in reversed(causes) if elapsed >= begin)
        reason = "ErrImagePull" if message else "ImagePullBackOff"
        return [deployment(), replica_set(), pod(waiting(reason, message or "Back-off pulling image"))]

    return World(content)


def test_a_registry_that_is_busy_gets_the_whole_time():
    # Between two tries the kubelet only says that it waits.
    world = pulling((0, "429 Too Many Requests"), (2, None), (60, "pull QPS exceeded"), (62, None))
    assert failure(world, timeout_seconds=300).reason == "timeout"
    assert world.now >= 1300


@pytest.mark.parametrize(
    ("causes", "ends"),
    [
        ([(0, "manifest unknown")], 20),
        ([(0, "401 Unauthorized"), (2, None)], 20),
        ([(0, None)], 20),
        ([(0, "503 Service Unavailable"), (100, "manifest unknown"), (102, None)], 120),
    ],
)
def test_what_is_not_there_ends_the_wait_soon(causes, ends):
    world = pulling(*causes)
    assert failure(world, timeout_seconds=300).reason == "rollout"
    assert ends <= world.now - 1000 < ends + 5


def balanced(kind="Service", *entries):
    return {
        "apiVersion": "v1" if kind == "Service" else "networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "envoy", "namespace": "ns", "uid": "uid-envoy"},
        "status": {"loadBalancer": {"ingress": list(entries)} if entries else {}},
    }


@pytest.mark.parametrize("kind", ["Service", "Ingress"])
def test_a_load_balancer_is_waited_for_and_named(kind):
    name = {"hostname": "k8s-ingress.elb.us-east-1.amazonaws.com"}
    world = World(lambda elapsed: [balanced(kind, *([name] if elapsed > 100 else []))])
    result = rollout(world, [{"kind": kind, "name": "envoy", "namespace": "ns"}])
    assert 100 <= world.now - 1000 <= 102
    assert "ns/envoy has no load balancer yet" in world.lines[0]
    assert result["workloads"][0]["message"] == name["hostname"]
    assert result["workloads"][0]["status"] == {"loadBalancer": {"ingress": [name]}}


def test_addresses_of_both_families_are_named():
    world = World(lambda elapsed: [balanced("Service", {"ip": "203.0.113.9"}, {"ip": "2001:db8::9"})])
    result = rollout(world, [{"kind": "Service", "name": "envoy", "namespace": "ns"}])
    assert result["workloads"][0]["message"] == "203.0.113.9, 2001:db8::9"


def test_a_load_balancer_that_its_controller_cannot_make_ends_the_wait_before_its_time():
    refused = event(balanced(), "FailedDeployModel", "AccessDenied: elasticloadbalancing:CreateLoadBalancer")
    world = World(lambda elapsed: [balanced(), refused])
    error = failure(world, workloads=[{"kind": "Service", "name": "envoy", "namespace": "ns"}], timeout_seconds=1800)
    assert 180 <= world.now - 1000 <= 190
    assert "AccessDenied" in error.what
    assert "rights" in error.fix
    # It is told from the beginning on.
    assert "AccessDenied" in world.lines[0]


def test_a_controller_that_goes_on_after_a_failure_is_waited_for():
    refused = event(balanced(), "FailedDeployModel", "throttled")
    goes_on = {**event(balanced(), "SuccessfullyReconciled", "ok"), "type": "Normal"}
    goes_on["lastTimestamp"] = "2026-01-01T00:01:00Z"
    content = [balanced(), refused, goes_on]
    world = World(lambda elapsed: [balanced("Service", {"ip": "203.0.113.9"})] if elapsed > 300 else content)
    rollout(world, [{"kind": "Service", "name": "envoy", "namespace": "ns"}])
    assert world.now - 1000 >= 300
