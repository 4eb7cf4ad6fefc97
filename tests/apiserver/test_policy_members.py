"""What the module policy takes for its own on a real API server, what it waits for, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import uuid

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes import client
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    PART_OF_LABEL,
    ApplySet,
)


@pytest.fixture
def live(cluster, namespace):
    """The live object of this kind and name in the test's namespace."""

    def get(obj):
        return cluster.get({**obj, "metadata": {"name": obj["metadata"]["name"], "namespace": namespace}})

    return get


@pytest.fixture
def record(live):
    """The annotations of the batch's record, None without one."""

    def get():
        found = live(config_map("policy-batch"))
        return found and found["metadata"]["annotations"]

    return get


KINDS = "applyset.kubernetes.io/contains-group-kinds"


def core(kind, name, **fields):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def config_map(name, **data):
    return core("ConfigMap", name, data=data or {"a": "1"})


def pod(name, **spec):
    return core("Pod", name, spec={"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}], **spec})


def network_policy(name):
    spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def actions(result):
    return {f"{entry['kind']} {entry['name']}": entry["action"] for entry in result["objects"]}


def by_another(cluster, namespace, obj, **metadata):
    """Apply an object as somebody else."""
    metadata = {"name": obj["metadata"]["name"], "namespace": namespace, **metadata}
    return cluster.apply({**obj, "metadata": metadata}, "someone-else")


# --- who owns an object ----------------------------------------------------------------------------------------------


def test_a_child_of_a_member_that_carries_the_label_is_never_pruned(batch, cluster, namespace, live):
    label = batch([config_map("parent"), config_map("other")])["applyset"]["id"]
    parent = live(config_map("parent"))["metadata"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "parent", "uid": parent["uid"]}
    by_another(cluster, namespace, config_map("child"), labels={PART_OF_LABEL: label}, ownerReferences=[owner])
    result = batch([config_map("parent")])
    assert actions(result)["ConfigMap other"] == "deleted"
    assert "ConfigMap child" not in actions(result)
    assert live(config_map("child")) is not None
    assert any("child" in note and "parent" in note for note in result["notes"])
    assert not batch([config_map("parent")])["changed"]


def test_an_object_without_owner_that_carries_the_label_is_pruned(batch, cluster, namespace, live):
    label = batch([config_map("a")])["applyset"]["id"]
    by_another(cluster, namespace, config_map("b"), labels={PART_OF_LABEL: label})
    assert actions(batch([config_map("a")]))["ConfigMap b"] == "deleted"
    assert live(config_map("b")) is None


def test_two_batches_that_name_one_object(batch, live):
    shared = config_map("shared", a="1")
    batch([shared], name="first")
    with pytest.raises(PlatformError) as error:
        batch([config_map("own"), {**shared, "data": {"a": "2"}}], name="second")
    assert error.value.reason == "conflict"
    assert "batch first" in str(error.value)
    assert "batch second" in str(error.value)
    assert live(shared)["data"] == {"a": "1"}
    assert live(config_map("own")) is None
    assert not batch([shared], name="first")["changed"]
    batch([], name="first")
    assert actions(batch([shared], name="second"))["ConfigMap shared"] == "created"


@pytest.fixture
def user(cluster, namespace):
    """Make a user who has these rights in the test's namespace (resource to verbs), and give its name."""

    def make(**rights):
        groups = {"networkpolicies": "networking.k8s.io"}
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "user", "namespace": namespace},
            "rules": [
                {"apiGroups": [groups.get(resource, "")], "resources": [resource], "verbs": verbs}
                for resource, verbs in rights.items()
            ],
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "user", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "user"},
            "subjects": [{"kind": "ServiceAccount", "name": "user", "namespace": namespace}],
        }
        for obj in (role, binding):
            cluster.apply(obj, "test")
        return f"system:serviceaccount:{namespace}:user"

    return make


def test_the_other_set_is_named_as_far_as_the_user_may_see(batch, namespace, user):
    batch([config_map("shared")], name="first")
    with pytest.raises(PlatformError) as error:
        batch([config_map("shared")], name="second", impersonate_user=user(configmaps=["*"]))
    assert error.value.reason == "conflict"
    assert f"batch first in namespace {namespace}" in error.value.found


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_missing_right_is_told_before_anything_is_written(batch, live, user, check_mode):
    batch([config_map("a"), network_policy("n")])
    read = ["get", "list"]
    someone = user(configmaps=read, networkpolicies=["*"])
    with pytest.raises(PlatformError) as error:
        # The record is a ConfigMap.
        batch([network_policy("m")], check_mode, name="second", impersonate_user=someone)
    assert "configmaps" in error.value.what
    assert live(network_policy("m")) is None
    someone = user(configmaps=[*read, "create", "patch"], networkpolicies=read)
    with pytest.raises(PlatformError) as error:
        batch([config_map("a", b="2")], check_mode, impersonate_user=someone)
    assert "delete networkpolicies" in error.value.what
    assert live(config_map("a"))["data"] == {"a": "1"}


@pytest.fixture
def kubectl(kubeconfig, namespace, tmp_path):
    """``kubectl apply --prune`` with an ApplySet, in the test's namespace."""

    def apply(applyset, *objects):
        file = tmp_path / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        command = ["kubectl", "apply", f"--kubeconfig={kubeconfig}", "-n", namespace, "-f", file]
        return subprocess.run(
            [*command, f"--applyset={applyset}", "--prune"],
            env={**os.environ, "KUBECTL_APPLYSET": "true"},
            capture_output=True,
            text=True,
            check=False,
        )

    return apply


def test_kubectl_and_the_module_leave_each_others_sets_alone(batch, kubectl, live):
    theirs = kubectl("theirs", config_map("t"))
    assert theirs.returncode == 0, theirs.stderr
    with pytest.raises(PlatformError) as error:
        batch([config_map("t")])
    assert error.value.reason == "conflict"
    assert "Secret" in error.value.found
    assert "/theirs of kubectl/" in error.value.found
    batch([config_map("ours")])
    refused = kubectl("configmap/policy-batch", config_map("t"))
    assert refused.returncode != 0
    assert "lambda-microservice-platform" in refused.stderr
    assert live(config_map("ours")) is not None
    with pytest.raises(PlatformError, match="record of another set"):
        batch([config_map("policy-batch")], name="second")


def test_an_adopted_object_is_named_and_then_a_member(batch, cluster, namespace, live):
    by_another(cluster, namespace, config_map("a", theirs="1"))
    objects = [config_map("a", ours="1")]
    assert actions(batch(objects, check_mode=True)) == actions(result := batch(objects))
    assert actions(result)["ConfigMap a"] == "adopted"
    assert any("existed before" in note and "/a" in note for note in result["notes"])
    assert live(config_map("a"))["data"] == {"ours": "1", "theirs": "1"}
    assert not batch(objects)["changed"]
    assert actions(batch([]))["ConfigMap a"] == "deleted"


# --- what an earlier wave makes --------------------------------------------------------------------------------------


def priority_class(name):
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 1000,
    }


def check_and_run(batch, objects):
    """Check mode and the run tell the same, and the run is complete."""
    told, done = batch(objects, check_mode=True), batch(objects)
    assert actions(told) == actions(done)
    assert not batch(objects)["changed"]
    return done


def test_a_priority_class_an_account_and_a_pod_that_uses_them(batch, cluster, namespace, live):
    name = f"high-{namespace}"
    objects = [pod("p", priorityClassName=name, serviceAccountName="runner"), core("ServiceAccount", "runner")]
    try:
        done = check_and_run(batch, [*objects, priority_class(name)])
        assert live(pod("p"))["spec"]["priority"] == 1000
        # The API server tells one refusal at a time, here the account's.
        assert any("ServiceAccount" in note and "Pod" in note for note in done["notes"])
    finally:
        batch([], state="absent")
    assert cluster.get(priority_class(name)) is None


def test_another_priority_class_is_refused_and_nothing_is_written(batch, cluster, namespace):
    by_another(cluster, namespace, core("ServiceAccount", "runner"))
    wrong = pod("p", priorityClassName=f"higher-{namespace}", serviceAccountName="runner")
    objects = [priority_class(f"high-{namespace}"), wrong]
    for check_mode in (True, False):
        with pytest.raises(PlatformError) as error:
            batch(objects, check_mode)
        assert error.value.reason == "admission"
        assert f"no PriorityClass with name higher-{namespace}" in error.value.found
    assert cluster.get(objects[0]) is None


def test_a_namespace_and_all_that_goes_into_it(batch, cluster, namespace):
    inner = f"{namespace}-inner"
    objects = [
        {**obj, "metadata": {**obj["metadata"], "namespace": inner}}
        for obj in (config_map("c"), core("ServiceAccount", "runner"), pod("p", serviceAccountName="runner"))
    ]
    done = check_and_run(batch, [*objects, core("Namespace", inner)])
    assert set(actions(done).values()) == {"created"}


def test_the_account_that_a_controller_makes_in_a_new_namespace_is_waited_for(batch, cluster, namespace):
    inner = f"{namespace}-inner"
    account = {**core("ServiceAccount", "default"), "metadata": {"name": "default", "namespace": inner}}
    timer = threading.Timer(1, cluster.apply, (account, "test"))
    timer.start()
    objects = [core("Namespace", inner), {**pod("p"), "metadata": {"name": "p", "namespace": inner}}]
    assert actions(batch(objects))["Pod p"] == "created"
    timer.join()


def test_a_namespace_that_becomes_privileged_with_a_pod_that_needs_it(batch, make_namespace, kubeconfig):
    home = make_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    privileged = core("Namespace", home)
    privileged["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"}
    objects = [core("ServiceAccount", "p"), pod("p", hostNetwork=True, serviceAccountName="p")]
    with pytest.raises(PlatformError) as error:
        batch(objects, namespace=home)
    assert "Pod Security" in str(error.value)
    done = batch([privileged, *objects], namespace=home)
    assert actions(done)["Pod p"] == "created"


def test_a_quota_that_is_raised_for_what_comes_with_it(batch, live, tell_status):
    def quota(most):
        return core("ResourceQuota", "q", spec={"hard": {"count/secrets": str(most)}})

    def counted(most):
        """What the quota controller does a moment after a quota is written."""
        tell_status(live(quota(most)), {"hard": {"count/secrets": str(most)}, "used": {"count/secrets": "0"}})

    batch([quota(0)])
    counted(0)
    secret = core("Secret", "s", stringData={"a": "1"})
    with pytest.raises(PlatformError) as error:
        batch([quota(0), secret])
    assert error.value.reason == "quota"
    timer = threading.Timer(1, counted, (1,))
    timer.start()
    done = batch([quota(1), secret])
    timer.join()
    assert actions(done)["Secret s"] == "created"
    assert actions(done)["ResourceQuota q"] == "updated"
    assert live(secret) is not None


def crd(group, *versions, **fields):
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    served = [
        {
            "name": version,
            "served": True,
            "storage": version == versions[0],
            "schema": {"openAPIV3Schema": schema},
        }
        for version in versions
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": served,
        },
    }


def test_a_kind_grows_together_with_an_object_that_needs_it(batch, cluster):
    group = f"t{uuid.uuid4().hex[:8]}.example.com"
    number, text = {"type": "integer"}, {"type": "string"}

    def widget(version="v1", **spec):
        return {"apiVersion": f"{group}/{version}", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}

    try:
        check_and_run(batch, [widget(size=1), crd(group, "v1", size=number)])
        with pytest.raises(PlatformError) as error:
            batch([widget(size=1, color="red"), crd(group, "v1", size=number)])
        assert "color" in error.value.found
        grown = [widget(size=1, color="red"), crd(group, "v1", size=number, color=text)]
        assert actions(batch(grown))["Widget w"] == "updated"
        assert not batch(grown)["changed"]
        newer = [widget("v2", size=2, color="red"), crd(group, "v1", "v2", size=number, color=text)]
        assert actions(batch(newer))["Widget w"] == "updated"
        assert not batch(newer)["changed"]
        assert actions(batch(newer[1:]))["Widget w"] == "deleted"
    finally:
        cluster.delete(crd(group, "v1"))


# --- deletion that takes its time ------------------------------------------------------------------------------------


HOLD = "example.com/hold"


@pytest.fixture
def hold(cluster, namespace):
    """Give an object a finalizer, or take it away."""
    held = []

    def change(obj, finalizers):
        ref = {**obj, "metadata": {"name": obj["metadata"]["name"], "namespace": namespace}}
        cluster.patch(ref, {"metadata": {"finalizers": finalizers or None}}, "test")
        held.append(ref)

    yield change
    for ref in held:
        if cluster.get(ref) is not None:
            cluster.patch(ref, {"metadata": {"finalizers": None}}, "test")


@pytest.mark.parametrize("ending", ["prune", "absent"])
def test_the_record_stays_while_a_finalizer_holds_a_member(batch, hold, live, record, monkeypatch, ending):
    monkeypatch.setattr(policy, "GONE_SECONDS", 1)
    left = [] if ending == "absent" else [config_map("a")]
    state = "absent" if ending == "absent" else "present"
    batch([config_map("a"), network_policy("n")])
    hold(network_policy("n"), [HOLD])
    for _run in range(2):
        result = batch(left, state=state)
        assert actions(result)["NetworkPolicy n"] == "deleting"
        assert any("NetworkPolicy" in note and HOLD in note for note in result["notes"])
        assert "NetworkPolicy.networking.k8s.io" in record()[KINDS]
        assert result.get("failed", False) == (ending == "absent")
    hold(network_policy("n"), [])
    assert "failed" not in batch(left, state=state)
    assert live(network_policy("n")) is None
    assert record() is None if ending == "absent" else record()[KINDS] == "ConfigMap"


def test_a_finalizer_that_ends_in_time_is_waited_for(batch, hold, record):
    batch([config_map("a"), network_policy("n")])
    hold(network_policy("n"), [HOLD])
    timer = threading.Timer(1, hold, (network_policy("n"), []))
    timer.start()
    assert actions(batch([config_map("a")]))["NetworkPolicy n"] == "deleted"
    timer.join()
    assert record()[KINDS] == "ConfigMap"


# --- what cannot be read, and what is written at the same time -------------------------------------------------------


def test_an_aggregated_api_that_is_down_is_not_gone(batch, cluster, namespace, record, monkeypatch):
    monkeypatch.setattr(client, "TRIES", 1)
    group = f"t{uuid.uuid4().hex[:8]}.example.com"
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "nobody", "namespace": namespace},
        },
    }
    cluster.apply(service, "test")
    try:
        ends = time.monotonic() + 30
        while f"{group}/v1" not in cluster.versions_of(group):
            assert time.monotonic() < ends, "the API server has not seen the APIService"
            time.sleep(0.1)
        batch([config_map("a")])
        # What an earlier run of the batch had made before the API went down.
        ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "policy-batch", "namespace": namespace}
        known = {KINDS: f"ConfigMap,Thing.{group}"}
        cluster.patch(ref, {"metadata": {"annotations": known}}, policy.FIELD_MANAGER)
        result = batch([config_map("a"), config_map("b")])
        assert actions(result)["ConfigMap b"] == "created"
        assert record()[KINDS] == f"ConfigMap,Thing.{group}"
        assert any(f"Thing.{group}" in note for note in result["notes"])
        removal = batch([], state="absent")
        assert removal["failed"]
        assert record()[KINDS] == f"ConfigMap,Thing.{group}"
    finally:
        cluster.delete(service)
    ends = time.monotonic() + 30
    while cluster.versions_of(group):
        assert time.monotonic() < ends, "the API server has not seen that the APIService is gone"
        time.sleep(0.1)
    assert "failed" not in batch([], state="absent")
    assert record() is None


def test_runs_at_once_leave_a_record_that_names_everything(batch, cluster, namespace, live, record):
    objects = {
        "ConfigMap": config_map("c"),
        "NetworkPolicy.networking.k8s.io": network_policy("n"),
        "ServiceAccount": core("ServiceAccount", "s"),
        "Secret": core("Secret", "s", stringData={"a": "1"}),
    }
    errors = []

    def run(obj):
        try:
            batch([obj], prune=False)
        except PlatformError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(obj,)) for obj in objects.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(record()[KINDS].split(",")) >= objects.keys()
    batch([config_map("c")])
    assert record()[KINDS] == "ConfigMap"
    assert all(live(obj) is None for name, obj in objects.items() if name != "ConfigMap")


def test_a_record_that_was_written_meanwhile_is_narrowed_only_to_what_is_known(batch, cluster, namespace, record):
    """The record is widened by another run between this one's first look and its last write."""
    batch([config_map("a"), network_policy("n")])
    applyset = ApplySet("policy-batch", namespace)
    deleted = policy.Batch._delete

    def meanwhile(self, stale):
        left = deleted(self, stale)
        wider = applyset.scope_of([config_map("a"), network_policy("n"), core("Secret", "s")])
        cluster.apply(applyset.parent(wider), policy.FIELD_MANAGER)
        return left

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.Batch, "_delete", meanwhile)
        batch([config_map("a")])
    assert "Secret" in record()[KINDS].split(",")
    batch([config_map("a")])
    assert record()[KINDS] == "ConfigMap"


# --- names and documents ---------------------------------------------------------------------------------------------


def test_a_namespace_of_63_characters_and_an_empty_document(batch, cluster):
    home = ("n" + uuid.uuid4().hex * 2)[:63]
    result = batch([None, core("Namespace", home), None, config_map("a")], namespace=home, name="b" * 53)
    assert actions(result)["ConfigMap a"] == "created"
    assert cluster.get({**config_map("a"), "metadata": {"name": "a", "namespace": home}}) is not None
