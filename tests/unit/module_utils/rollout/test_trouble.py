"""Why a workload does not come, read from pods and events as the kubelet and the controllers write them."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.trouble import (
    CONFIG,
    CRASH,
    CREATE,
    GRACE_SECONDS,
    IMAGE,
    MOUNT,
    STARTING,
    UNREADY,
    UNSCHEDULABLE,
    event_lines,
    events_of,
    last_state,
    newest_replica_set,
    pod_troubles,
    selected,
    workload_troubles,
)


def pod(name="web-1", containers=(), init=(), phase="Running", conditions=(), owner="rs-1", **spec):
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": f"uid-{name}", "ownerReferences": [{"uid": owner}]},
        "spec": {"nodeName": "node-a", **spec},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": list(containers),
            "initContainerStatuses": list(init),
        },
    }


def container(name="main", ready=False, restarts=0, last=None, image="example.com/web:1", started=None, **state):
    status = {"name": name, "ready": ready, "restartCount": restarts, "image": image, "state": state}
    if last:
        status["lastState"] = {"terminated": last}
    if started is not None:
        status["started"] = started
    return status


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def event(obj, reason, message="", kind="Warning", at="2026-01-01T00:00:00Z", count=1, path=""):
    return {
        "metadata": {"creationTimestamp": at},
        "involvedObject": {"uid": obj["metadata"]["uid"], "fieldPath": path},
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "count": count,
    }


def only(troubles):
    (trouble,) = troubles
    return trouble


def test_a_ready_pod_has_no_trouble():
    assert pod_troubles(pod(containers=[container(ready=True, started=True, running={})]), [], 3) == []


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_pulled(reason):
    trouble = only(pod_troubles(pod(containers=[container(**waiting(reason, "back-off"))]), [], 3))
    assert (trouble.kind, trouble.reason, trouble.container, trouble.message) == (IMAGE, reason, "main", "back-off")


def test_the_registrys_answer_is_told_instead_of_the_back_off():
    web = pod(containers=[container(**waiting("ImagePullBackOff", 'Back-off pulling image "example.com/web:1"'))])
    events = [
        event(web, "Failed", 'Failed to pull image "example.com/web:1": not found', at="2026-01-01T00:00:01Z"),
        event(web, "Failed", "Error: ErrImagePull", at="2026-01-01T00:00:02Z"),
    ]
    assert only(pod_troubles(web, events, 3)).message.endswith("not found")


def test_both_states_of_one_image_trouble_are_the_same_trouble():
    one = only(pod_troubles(pod(containers=[container(**waiting("ErrImagePull"))]), [], 3))
    other = only(pod_troubles(pod(containers=[container(**waiting("ImagePullBackOff"))]), [], 3))
    assert one.identity == other.identity


def test_an_image_is_named_within_30_seconds_and_a_malformed_name_at_once():
    pulling = only(pod_troubles(pod(containers=[container(**waiting("ImagePullBackOff"))]), [], 3))
    assert 0 < pulling.hopeless_after < 30
    invalid = only(pod_troubles(pod(containers=[container(**waiting("InvalidImageName"))]), [], 3))
    assert invalid.hopeless_after == 0


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"])
def test_a_container_that_cannot_be_made(reason):
    trouble = only(pod_troubles(pod(containers=[container(**waiting(reason, 'secret "x" not found'))]), [], 3))
    assert (trouble.kind, trouble.message) == (CONFIG, 'secret "x" not found')


@pytest.mark.parametrize(("restarts", "kind"), [(0, UNREADY), (2, UNREADY), (3, CRASH), (9, CRASH)])
def test_a_crash_loop_is_hopeless_after_the_given_restarts(restarts, kind):
    crashed = container(
        restarts=restarts, last={"reason": "Error", "exitCode": 3}, **waiting("CrashLoopBackOff", "back-off 10s")
    )
    trouble = only(pod_troubles(pod(containers=[crashed]), [], 3))
    assert (trouble.kind, trouble.log, trouble.last_state) == (kind, "previous", "Error, exit code 3")
    assert (trouble.hopeless_after is not None) == (kind == CRASH)


@pytest.mark.parametrize(
    ("policy", "code", "restarts", "kind"),
    [
        ("Always", 3, 3, CRASH),
        ("Always", 3, 2, UNREADY),
        # A server that ends without an error is restarted like one that fails.
        ("Always", 0, 3, CRASH),
        ("Always", 0, 0, UNREADY),
        ("OnFailure", 3, 3, CRASH),
        ("OnFailure", 0, 3, None),
        ("Never", 3, 0, UNREADY),
        ("Never", 0, 0, None),
    ],
)
def test_a_container_shown_as_ended_while_it_waits_for_its_restart(policy, code, restarts, kind):
    # As Kubernetes 1.37 shows it; the versions before say waiting, CrashLoopBackOff.
    ended = container(restarts=restarts, terminated={"exitCode": code, "reason": "Error" if code else "Completed"})
    troubles = pod_troubles(pod(containers=[ended], restartPolicy=policy), [], 3)
    assert [trouble.kind for trouble in troubles] == ([kind] if kind else [])
    assert all(trouble.log == "current" and f"exit code {code}" in trouble.message for trouble in troubles)


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        ({"reason": "Error", "exitCode": 1}, "Error, exit code 1"),
        ({"reason": "OOMKilled", "exitCode": 137}, "OOMKilled, exit code 137, signal 9"),
        ({"reason": "Error", "exitCode": 143}, "Error, exit code 143, signal 15"),
        ({"exitCode": 255}, "ended, exit code 255"),
        ({"reason": "Error", "exitCode": 0, "signal": 11}, "Error, exit code 0, signal 11"),
        (
            {"reason": "StartError", "exitCode": 128, "message": "no such file\n"},
            "StartError, exit code 128, no such file",
        ),
    ],
)
def test_how_a_container_ended(terminated, expected):
    assert last_state({"state": {"terminated": terminated}}) == expected
    assert last_state({"state": {"running": {}}, "lastState": {"terminated": terminated}}) == expected
    assert last_state({"state": {"running": {}}}) == ""


def test_a_failed_probe_is_told_with_its_last_message_and_the_current_log():
    web = pod(
        containers=[container(started=True, running={}), container("proxy", ready=True, started=True, running={})]
    )
    events = [
        event(web, "Unhealthy", "Readiness probe failed: 500", at="2026-01-01T00:00:02Z", path="spec.containers{main}"),
        event(web, "Unhealthy", "Readiness probe failed: 404", at="2026-01-01T00:00:01Z", path="spec.containers{main}"),
        event(web, "Unhealthy", "Liveness probe failed", at="2026-01-01T00:00:03Z", path="spec.containers{proxy}"),
    ]
    trouble = only(pod_troubles(web, events, 3))
    assert (trouble.kind, trouble.message, trouble.log) == (UNREADY, "Readiness probe failed: 500", "current")
    assert trouble.hopeless_after is None


def test_a_container_before_its_startup_probe():
    trouble = only(pod_troubles(pod(containers=[container(started=False, running={})]), [], 3))
    assert trouble.reason == "not started"


def test_a_pod_that_no_node_takes():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}
    lost = pod(phase="Pending", conditions=[condition])
    trouble = only(pod_troubles(lost, [], 3))
    assert (trouble.kind, trouble.message, trouble.hopeless_after) == (UNSCHEDULABLE, "0/3 nodes: cpu", 90)
    coming = only(pod_troubles(lost, [event(lost, "TriggeredScaleUp", kind="Normal")], 3))
    assert coming.hopeless_after is None


def test_a_pending_claim_is_named_with_its_warning():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "unbound claims"}
    lost = pod(
        phase="Pending",
        conditions=[condition],
        volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data-0"}}],
    )

    def claim(name, phase):
        return {"metadata": {"name": name, "uid": f"uid-{name}"}, "status": {"phase": phase}}

    claims = [claim("data-0", "Pending"), claim("other", "Pending")]
    events = [event(claims[0], "ProvisioningFailed", 'storageclass "x" not found')]
    message = only(pod_troubles(lost, events, 3, claims)).message
    assert 'PersistentVolumeClaim data-0 is pending: storageclass "x" not found' in message
    assert "other" not in message
    assert "pending" not in only(pod_troubles(lost, events, 3, [claim("data-0", "Bound")])).message


@pytest.mark.parametrize(
    ("reason", "message", "kind", "says"),
    [
        ("Pulling", 'Pulling image "x"', STARTING, 'pulling image "x"'),
        ("FailedMount", 'configmap "x" not found', MOUNT, 'configmap "x" not found'),
        ("FailedCreatePodSandBox", "no network", MOUNT, "no network"),
        ("Pulled", "Successfully pulled", STARTING, ""),
    ],
)
def test_a_container_that_is_being_made(reason, message, kind, says):
    web = pod(phase="Pending", containers=[container(**waiting("ContainerCreating"))])
    trouble = only(pod_troubles(web, [event(web, reason, message)], 3))
    assert (trouble.kind, trouble.message) == (kind, says)


def test_init_containers_are_told_first_and_running_is_no_failure():
    web = pod(
        phase="Pending",
        init=[container("init", started=True, running={})],
        containers=[container(**waiting("PodInitializing"))],
    )
    troubles = pod_troubles(web, [], 3)
    assert [(trouble.container, trouble.kind) for trouble in troubles] == [("init", STARTING), ("main", STARTING)]
    assert "init container" in troubles[0].reason


def test_a_finished_init_container_is_no_trouble():
    web = pod(
        init=[container("init", ready=True, terminated={"exitCode": 0, "reason": "Completed"})],
        containers=[container(ready=True, started=True, running={})],
    )
    assert pod_troubles(web, [], 3) == []


def test_a_failed_jobs_container_shows_its_own_log():
    failed = pod(phase="Failed", containers=[container(terminated={"exitCode": 7, "reason": "Error"})])
    trouble = only(pod_troubles(failed, [], 3))
    assert (trouble.message, trouble.log) == ("Error, exit code 7", "current")


def test_an_evicted_pod_is_told_and_not_hopeless():
    evicted = pod(phase="Failed")
    evicted["status"].update(reason="Evicted", message="The node was low on resource: memory")
    trouble = only(pod_troubles(evicted, [], 3))
    assert (trouble.reason, trouble.hopeless_after) == ("Evicted", None)


def replica_set(uid, revision, owner="d", replicas=1, created=0):
    return {
        "kind": "ReplicaSet",
        "metadata": {
            "name": uid,
            "uid": uid,
            "ownerReferences": [{"uid": owner}],
            "annotations": {"deployment.kubernetes.io/revision": revision},
        },
        "spec": {"replicas": replicas},
        "status": {"replicas": created},
    }


DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "d", "uid": "d", "annotations": {"deployment.kubernetes.io/revision": "2"}},
    "spec": {"replicas": 1},
    "status": {},
}


def test_of_a_deployment_only_the_newest_revision_matters():
    sets = [replica_set("old", "1"), replica_set("new", "2"), replica_set("foreign", "2", owner="other")]
    pods = [pod("a", owner="old"), pod("b", owner="new"), pod("c", owner="foreign")]
    gone = pod("g", owner="new")
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert [found["metadata"]["name"] for found in selected(DEPLOYMENT, [*pods, gone], sets)] == ["b"]
    assert newest_replica_set(DEPLOYMENT, sets[:1]) is None
    assert selected(DEPLOYMENT, pods, []) == []


def test_of_others_all_pods_matter():
    workload = {"kind": "StatefulSet", "metadata": {"name": "s", "uid": "s"}}
    assert len(selected(workload, [pod("a", owner="s"), pod("b", owner="s"), pod("c", owner="x")], [])) == 2


def test_refused_creation_is_read_from_the_deployments_condition():
    failing = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
    trouble = only(workload_troubles({**DEPLOYMENT, "status": {"conditions": [failing]}}, []))
    assert (trouble.kind, trouble.message) == (CREATE, "exceeded quota: q")


@pytest.mark.parametrize(
    ("last", "created", "refused"),
    [("FailedCreate", 0, True), ("SuccessfulCreate", 0, False), ("FailedCreate", 1, False)],
)
def test_of_creation_events_only_the_newest_counts_and_only_while_pods_lack(last, created, refused):
    owner = {
        "kind": "StatefulSet",
        "metadata": {"name": "s", "uid": "s"},
        "spec": {"replicas": 1},
        "status": {"replicas": created},
    }
    events = [
        event(owner, last, "forbidden", at="2026-01-01T00:00:09Z"),
        event(owner, "FailedCreate", "older", at="2026-01-01T00:00:01Z"),
        event(owner, "Other", at="2026-01-01T00:00:10Z"),
    ]
    assert [trouble.message for trouble in workload_troubles(owner, events)] == (["forbidden"] if refused else [])


def test_a_replica_sets_refusal_is_its_deployments():
    newest = replica_set("new", "2")
    events = [event(newest, "FailedCreate", 'pods "x" is forbidden: violates PodSecurity')]
    assert "PodSecurity" in only(workload_troubles(DEPLOYMENT, events, newest)).message


def test_every_hopeless_kind_leaves_room_for_what_heals_by_itself_but_a_failed_job():
    assert all(seconds >= 5 for kind, seconds in GRACE_SECONDS.items() if kind != "job")


def test_events_are_told_once_newest_last_and_warnings_only():
    web = pod()
    events = [
        event(web, "BackOff", "b", at="2026-01-01T00:00:03Z", count=4),
        event(web, "Failed", "a", at="2026-01-01T00:00:01Z"),
        event(web, "BackOff", "b", at="2026-01-01T00:00:02Z"),
        event(web, "Pulled", "x", kind="Normal"),
        event(web, "Failed", "Error: ImagePullBackOff", at="2026-01-01T00:00:09Z"),
    ]
    assert event_lines(events, 5) == ["Failed: a", "BackOff (5 times): b"]
    assert event_lines(events, 1) == ["BackOff (5 times): b"]


def test_events_with_every_kind_of_time_are_ordered():
    web = pod()
    plain = event(web, "A", at="2026-01-01T00:00:01Z")
    series = {
        **event(web, "B", at="2026-01-01T00:00:00Z"),
        "series": {"lastObservedTime": "2026-01-01T00:00:03.000001Z"},
    }
    micro = {**event(web, "C"), "lastTimestamp": None, "eventTime": "2026-01-01T00:00:02.123456Z"}
    created = {**event(web, "D", at="2026-01-01T00:00:04Z"), "lastTimestamp": None}
    foreign = event(pod("other"), "E")
    ordered = events_of(web, [created, series, micro, foreign, plain])
    assert [found["reason"] for found in ordered] == ["A", "C", "B", "D"]


IMAGE_NAME = "registry.example.com/denied/web-500:404"


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("pull QPS exceeded", True),
        ("toomanyrequests: You have reached your pull rate limit", True),
        (
            "rpc error: code = Unknown desc = failed to resolve reference: unexpected status from HEAD request to "
            "https://r/v2/denied/404: 429 Too Many Requests",
            True,
        ),
        (
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://r/v2/a: 503 Service "
            "Unavailable",
            True,
        ),
        ('failed to do request: Head "https://r/v2/a": dial tcp 192.0.2.1:443: i/o timeout', True),
        ('failed to do request: Head "https://r/v2/a": net/http: TLS handshake timeout', True),
        ('failed to do request: Head "https://r/v2/a": dial tcp 192.0.2.1:443: connect: connection refused', True),
        ("rpc error: code = DeadlineExceeded desc = context deadline exceeded", True),
        ("received unexpected HTTP status: 502 Bad Gateway", True),
        ("failed to resolve reference: not found", False),
        ("manifest unknown: manifest unknown", False),
        ("unexpected status from HEAD request to https://r/v2/a: 401 Unauthorized", False),
        ("pull access denied, repository does not exist or may require authorization", False),
        ("failed to authorize: failed to fetch anonymous token: 403 Forbidden", False),
        ("no match for platform in manifest", False),
        ("mirror: dial tcp 192.0.2.1:443: i/o timeout; then: manifest unknown", False),
        ("something that nobody has seen yet", False),
    ],
)
@pytest.mark.parametrize("how", ["state", "event", "back-off"])
def test_what_a_registry_says_passes_or_lasts(said, passes, how):
    """In the container's state, in its event, and in the newer kubelets' Back-off."""
    backing_off = f'Back-off pulling image "{IMAGE_NAME}": ErrImagePull: {said}'
    message = {"state": said, "event": "", "back-off": backing_off}[how]
    reason = "ImagePullBackOff" if how == "back-off" else "ErrImagePull"
    web = pod(containers=[container(image=IMAGE_NAME, **waiting(reason, message))])
    events = [event(web, "Failed", f'Failed to pull image "{IMAGE_NAME}": {said}')] if how == "event" else []
    assert only(pod_troubles(web, events, 3)).passes is passes


def test_a_bare_back_off_names_no_cause():
    web = pod(
        containers=[
            container(image=IMAGE_NAME, **waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE_NAME}"'))
        ]
    )
    assert only(pod_troubles(web, [], 3)).passes is None


def test_a_webhook_that_starts_passes_and_a_refusal_does_not():
    refused = {
        "kind": "Deployment",
        "metadata": {},
        "status": {"conditions": [{"type": "ReplicaFailure", "status": "True"}]},
    }
    condition = refused["status"]["conditions"][0]
    for message, passes in (
        ('failed calling webhook "w": no endpoints available for service "w"', True),
        ('failed calling webhook "w": context deadline exceeded', True),
        ("exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5", False),
        ('violates PodSecurity "restricted:latest"', False),
    ):
        condition["message"] = message
        assert only(workload_troubles(refused, [])).passes is passes
