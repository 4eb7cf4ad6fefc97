"""The module policy against an API server in memory that knows server-side apply, dry runs and labels."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import threading

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import ref_of, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import refusal
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy as module
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    GROUP_KINDS_ANNOTATION,
    NAMESPACES_ANNOTATION,
    PART_OF_LABEL,
    ApplySet,
    key_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.policy import Batch
from hypothesis import given, settings
from hypothesis import strategies as st

from ..stand_in import stands_in_for


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Nothing changes while a test waits, or at once."""
    for name in ("ESTABLISHED_SECONDS", "SETTLED_SECONDS", "GONE_SECONDS"):
        monkeypatch.setattr(module, name, 0.3)


CLUSTER_KINDS = {("v1", "Namespace"), ("scheduling.k8s.io/v1", "PriorityClass")}
CLUSTER_KINDS |= {("apiextensions.k8s.io/v1", "CustomResourceDefinition")}
NAMESPACED_KINDS = {("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "PersistentVolumeClaim")}
NAMESPACED_KINDS |= {("networking.k8s.io/v1", "NetworkPolicy"), ("apps/v1", "Deployment"), ("v1", "Pod")}
NAMESPACED_KINDS |= {("v1", kind) for kind in ("Service", "Endpoints", "ServiceAccount")}


class Killed(BaseException):
    """The run was ended from outside, like by SIGKILL: no handler of the module may see it."""


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


@stands_in_for(Cluster, beside=["snapshot"])
class FakeApi:
    """The methods of Cluster that the module uses. Maps merge, all lists are atomic.

    Admission: a Pod's PriorityClass and ServiceAccount must exist, as in a real API server.
    """

    def __init__(self, namespaces=("home",)):
        self.objects = {}
        self.kinds = CLUSTER_KINDS | NAMESPACED_KINDS
        self.writes = []
        self.requests = []
        self.refuse = {}
        self.down = set()
        self.meanwhile = {}
        self.writes_left = None
        self._lock = threading.RLock()
        self._uids = itertools.count(1)
        for name in namespaces:
            self._store({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.writes.clear()

    # --- discovery

    def knows(self, api_version, kind):
        if api_version in self.down:
            raise refusal(503, "ServiceUnavailable", "the server is currently unable to handle the request", [], "")
        return (api_version, kind) in self.kinds

    def namespaced(self, api_version, kind):
        return (api_version, kind) not in CLUSTER_KINDS

    def path(self, ref, collection=False):
        if not self.knows(ref["apiVersion"], ref["kind"]):
            raise PlatformError(f"the cluster does not know the kind {ref['kind']}", reason="kind")
        return "/"

    def versions_of(self, group):
        versions = {version for version, _kind in self.kinds} | self.down
        return sorted(version for version in versions if version.rpartition("/")[0] == group)

    def forget_resources(self):
        for obj in list(self.objects.values()):
            if obj["kind"] == "CustomResourceDefinition":
                spec = obj["spec"]
                for version in spec["versions"]:
                    self.kinds = self.kinds | {(f"{spec['group']}/{version['name']}", spec["names"]["kind"])}

    # --- reads

    def get(self, ref):
        self.requests.append(("get", spoken(ref)))
        found = self.objects.get(key_of(ref))
        if found and found["kind"] == "CustomResourceDefinition":
            found = {**found, "status": {"conditions": [{"type": "Established", "status": "True"}]}}
        return copy.deepcopy(found)

    def get_many(self, refs):
        return [self.get(ref) if self.knows(ref["apiVersion"], ref["kind"]) else None for ref in refs]

    def list(self, api_version, kind, namespace=None, label_selector=None):
        self.requests.append(("list", f"{kind} {namespace or ''}"))
        label, _, value = (label_selector or "").partition("=")
        if api_version in self.down:
            raise refusal(503, "ServiceUnavailable", "the server is currently unable to handle the request", [], "")
        return [
            copy.deepcopy(obj)
            for obj in self.objects.values()
            if (obj["apiVersion"], obj["kind"]) == (api_version, kind)
            and namespace in (None, obj["metadata"].get("namespace"))
            and (not label or obj["metadata"].get("labels", {}).get(label) == value)
        ]

    # --- writes

    def _before_write(self, verb, obj, dry_run):
        with self._lock:
            self.requests.append((verb + " (dry run)" if dry_run else verb, spoken(obj)))
            if not dry_run:
                if self.writes_left is not None:
                    if self.writes_left == 0:
                        raise Killed
                    self.writes_left -= 1
                self.writes.append((verb, spoken(obj)))
                # Another run may get in between the reading and this write, once.
                self.meanwhile.pop(spoken(obj), lambda: None)()

    def apply(self, obj, field_manager, force=True, dry_run=False):
        assert force
        self._before_write("apply", obj, dry_run)
        self.path(obj)
        namespace = obj["metadata"].get("namespace")
        namespaces = {key[2] for key in self.objects if key[0].kind == "Namespace"}
        if namespace and namespace not in namespaces:
            raise refusal(404, "NotFound", f'namespaces "{namespace}" not found', [], spoken(obj))
        if spoken(obj) in self.refuse:
            raise self.refuse[spoken(obj)]
        if obj["kind"] == "Pod":
            self._admit(obj)
        live = self.objects.get(key_of(obj))
        version = obj["metadata"].get("resourceVersion")
        if version and (live is None or version != live["metadata"]["resourceVersion"]):
            raise refusal(409, "Conflict", "the object has been modified", [], spoken(obj))
        with self._lock:
            return self._store(obj, field_manager, dry_run)

    def create(self, obj, field_manager):
        self._before_write("create", obj, False)
        if key_of(obj) in self.objects:
            raise refusal(409, "AlreadyExists", "it exists", [], spoken(obj))
        return self._store(obj, field_manager, operation="Update")

    def _admit(self, pod):
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        why = None
        wanted = pod["spec"].get("priorityClassName")
        if wanted and not any(key[0].kind == "PriorityClass" and key[2] == wanted for key in self.objects):
            why = f"no PriorityClass with name {wanted} was found"
        wanted = pod["spec"].get("serviceAccountName")
        if wanted and not any(
            key[0].kind == "ServiceAccount" and key[1:] == (namespace, wanted) for key in self.objects
        ):
            why = f'error looking up service account {namespace}/{wanted}: serviceaccount "{wanted}" not found'
        if why:
            raise refusal(403, "Forbidden", f'pods "{name}" is forbidden: {why}', [], spoken(pod))

    def _store(self, obj, field_manager="other", dry_run=False, operation="Apply"):
        key = key_of(obj)
        live = copy.deepcopy(self.objects.get(key))
        if live is None:
            live = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": {**ref_of(obj)}}
            live["metadata"] = {"name": ref_of(obj)["name"], "uid": f"uid-{next(self._uids)}", "managedFields": []}
            if ref_of(obj)["namespace"]:
                live["metadata"]["namespace"] = ref_of(obj)["namespace"]
        identity = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
        identity.add(("metadata", "resourceVersion"))
        applied = {path: value for path, value in leaves(obj) if path not in identity}
        entry = {"manager": field_manager, "operation": operation, "apiVersion": obj["apiVersion"]}
        known = live["metadata"]["managedFields"]
        others = [other for other in known if any(other[name] != value for name, value in entry.items())]
        (mine,) = [other for other in known if other not in others] or [None]
        for path in set(mine["paths"] if mine else ()) - set(applied):
            if not any(path in entry["paths"] for entry in others):
                self._remove(live, path)
        for path, value in applied.items():
            node = live
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = copy.deepcopy(value)
        fields = {}
        for path in applied:
            node = fields
            for part in path:
                node = node.setdefault(f"f:{part}", {})
        live["metadata"]["managedFields"] = [*others, {**entry, "fieldsV1": fields, "paths": sorted(applied)}]
        if not dry_run:
            live["metadata"]["resourceVersion"] = str(next(self._uids))
            self.objects[key] = live
        return copy.deepcopy(live)

    @staticmethod
    def _remove(obj, path):
        for part in path[:-1]:
            obj = obj.get(part, {})
        obj.pop(path[-1], None)

    def patch(self, ref, body, field_manager, *, dry_run=False):
        self._before_removal("patch", ref, body["metadata"]["uid"], None, dry_run)
        if not dry_run:
            (label,) = body["metadata"]["labels"]
            self.objects[key_of(ref)]["metadata"]["labels"].pop(label)

    def delete(self, ref, propagation="Background", dry_run=False, uid=None, resource_version=None):
        if key_of(ref) not in self.objects:
            return False
        self._before_removal("delete", ref, uid, resource_version, dry_run)
        metadata = self.objects[key_of(ref)]["metadata"]
        if dry_run:
            return True
        if metadata.get("finalizers"):
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        else:
            del self.objects[key_of(ref)]
        return True

    def _before_removal(self, verb, ref, uid, resource_version, dry_run):
        self._before_write(verb, ref, dry_run)
        if f"{verb} {spoken(ref)}" in self.refuse:
            raise self.refuse[f"{verb} {spoken(ref)}"]
        metadata = self.objects[key_of(ref)]["metadata"]
        assert uid, "only the object that was seen may be removed"
        if uid != metadata["uid"] or resource_version not in (None, metadata["resourceVersion"]):
            raise refusal(409, "Conflict", "the precondition does not match", [], spoken(ref))

    def snapshot(self):
        return copy.deepcopy(self.objects)


def config_map(name, namespace="home", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data or {"a": "1"},
    }


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"level": "restricted"}}}


def policy(name, namespace="home"):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


def apply(
    api, objects, check_mode=False, prune=True, name="batch", diff=False, skip_unserved=False, leave_existing=False
):
    batch = Batch(api, name, "home", check_mode)
    batch.apply(copy.deepcopy(objects), prune, skip_unserved, leave_existing)
    return batch.result(diff)


def remove(api, objects=(), check_mode=False):
    batch = Batch(api, "batch", "home", check_mode)
    batch.remove(list(objects))
    return batch.result(diff=False)


def actions(result):
    return {(entry["kind"], entry["namespace"], entry["name"]): entry["action"] for entry in result["objects"]}


def names(api, kind="ConfigMap"):
    return {key[2] for key in api.objects if key[0].kind == kind}


def record(api):
    return next(obj for key, obj in api.objects.items() if key[2] == "policy-batch")["metadata"]["annotations"]


def test_first_run_creates_second_changes_nothing():
    api = FakeApi()
    objects = [namespace("other"), config_map("a"), policy("p", "other")]
    first = apply(api, objects)
    assert first["changed"]
    assert set(actions(first).values()) == {"created"}
    api.writes.clear()
    api.requests.clear()
    second = apply(api, objects)
    assert not second["changed"]
    assert set(actions(second).values()) == {"unchanged"}
    assert api.writes == []
    # The record and one list for each kind and namespace; no request for an object of its own.
    assert sorted(api.requests) == [
        ("get", "ConfigMap home/policy-batch"),
        ("list", "ConfigMap home"),
        ("list", "ConfigMap other"),
        ("list", "Namespace "),
        ("list", "NetworkPolicy home"),
        ("list", "NetworkPolicy other"),
    ]


def test_namespaces_come_before_the_record_and_the_record_before_the_members():
    api = FakeApi(namespaces=())
    apply(api, [config_map("a"), namespace("home")])
    assert list(dict.fromkeys(what for _verb, what in api.writes)) == [
        "Namespace home",
        "ConfigMap home/policy-batch",
        "ConfigMap home/a",
    ]


def test_an_object_without_a_namespace_goes_into_the_batchs():
    api = FakeApi()
    given_object = config_map("a")
    del given_object["metadata"]["namespace"]
    apply(api, [given_object])
    assert ("ConfigMap", "home", "a") in {(key[0].kind, key[1], key[2]) for key in api.objects}


def test_a_changed_value_is_updated_and_its_path_named():
    api = FakeApi()
    apply(api, [config_map("a", x="1"), config_map("b")])
    result = apply(api, [config_map("a", x="2"), config_map("b")], diff=True)
    (changed,) = [entry for entry in result["objects"] if entry["action"] == "updated"]
    assert (changed["name"], changed["fields"]) == ("a", ["data.x"])
    (difference,) = result["diff"]
    assert "x: '1'" in difference["before"]
    assert "x: '2'" in difference["after"]


def test_a_field_that_the_batch_no_longer_sets_is_removed():
    api = FakeApi()
    apply(api, [config_map("a", x="1", y="2")])
    assert apply(api, [config_map("a", x="1")])["changed"]
    assert api.objects[key_of(config_map("a"))]["data"] == {"x": "1"}


def test_drift_is_corrected_and_fields_of_others_stay():
    api = FakeApi()
    apply(api, [config_map("a", x="1")])
    live = api.objects[key_of(config_map("a"))]
    live["data"].update(x="drifted", other="theirs")
    assert apply(api, [config_map("a", x="1")])["changed"]
    assert api.objects[key_of(config_map("a"))]["data"] == {"x": "1", "other": "theirs"}


def test_what_the_batch_no_longer_names_is_pruned_also_of_a_kind_and_namespace_that_it_has_left():
    api = FakeApi(namespaces=("home", "far"))
    apply(api, [config_map("a"), policy("p", "far")])
    result = apply(api, [config_map("a")])
    assert actions(result)[("NetworkPolicy", "far", "p")] == "deleted"
    assert names(api, "NetworkPolicy") == set()
    assert record(api)[GROUP_KINDS_ANNOTATION] == "ConfigMap"
    assert record(api)[NAMESPACES_ANNOTATION] == ""


def test_without_prune_members_stay_and_stay_recorded():
    api = FakeApi(namespaces=("home", "far"))
    apply(api, [config_map("a"), policy("p", "far")])
    result = apply(api, [config_map("a")], prune=False)
    assert actions(result)[("NetworkPolicy", "far", "p")] == "kept"
    assert not result["changed"]
    assert "NetworkPolicy.networking.k8s.io" in record(api)[GROUP_KINDS_ANNOTATION]
    assert apply(api, [config_map("a")])["changed"]
    assert names(api, "NetworkPolicy") == set()


def test_objects_of_others_are_never_pruned():
    api = FakeApi()
    apply(api, [config_map("foreign")], name="another")
    api._store(config_map("unlabelled"))
    apply(api, [config_map("a")])
    apply(api, [])
    remove(api)
    assert {"foreign", "unlabelled"} <= names(api)


@pytest.mark.parametrize("ending", ["prune", "absent"])
def test_namespaces_and_claims_are_let_go_and_not_deleted(ending):
    api = FakeApi()
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "home"}}
    apply(api, [namespace("ours"), claim, config_map("a")])
    result = apply(api, [config_map("a")]) if ending == "prune" else remove(api)
    assert actions(result)[("Namespace", "", "ours")] == "released"
    assert actions(result)[("PersistentVolumeClaim", "home", "c")] == "released"
    assert any("Namespace ours" in note and "by hand" in note for note in result["notes"])
    for key in (key_of(namespace("ours")), key_of(claim)):
        assert PART_OF_LABEL not in api.objects[key]["metadata"]["labels"]
    assert api.objects[key_of(namespace("ours"))]["metadata"]["labels"] == {"level": "restricted"}
    again = apply(api, [config_map("a")]) if ending == "prune" else remove(api)
    assert not again["changed"]


def test_absent_removes_members_then_the_record_and_is_idempotent():
    api = FakeApi()
    apply(api, [config_map("a"), policy("p")])
    api.writes.clear()
    assert remove(api)["changed"]
    assert api.writes[-1] == ("delete", "ConfigMap home/policy-batch")
    assert names(api) == names(api, "NetworkPolicy") == set()
    assert not remove(api)["changed"]


def test_absent_finds_members_whose_record_was_lost():
    api = FakeApi()
    apply(api, [config_map("a")])
    del api.objects[key_of({"apiVersion": "v1", "kind": "ConfigMap", "name": "policy-batch", "namespace": "home"})]
    assert not remove(api)["changed"]
    assert remove(api, [config_map("a")])["changed"]
    assert names(api) == set()


def test_one_refusal_changes_nothing_and_all_refusals_are_told():
    api = FakeApi()
    for name in ("b", "c"):
        api.refuse[f"ConfigMap home/{name}"] = PlatformError("refused " + name, reason="admission")
    before = api.snapshot()
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a"), config_map("b"), config_map("c")])
    assert api.objects == before
    assert "2 of 3 objects" in str(error.value)
    assert "refused b" in str(error.value)
    assert "refused c" in str(error.value)
    assert len(error.value.details["errors"]) == 2


def test_an_object_that_is_being_deleted_is_an_error():
    api = FakeApi()
    apply(api, [config_map("a")])
    api.objects[key_of(config_map("a"))]["metadata"].update(
        deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["x/y"]
    )
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a")])
    assert error.value.reason == "terminating"
    assert "x/y" in error.value.found


def test_a_webhook_without_dry_run_does_not_stop_the_batch():
    api = FakeApi()
    real_apply = api.apply

    def apply_with_webhook(obj, field_manager, force=True, dry_run=False):
        if dry_run:
            raise PlatformError('admission webhook "x" does not support dry run', reason="invalid")
        return real_apply(obj, field_manager, force, dry_run)

    api.apply = apply_with_webhook
    result = apply(api, [config_map("a")])
    assert names(api) == {"a", "policy-batch"}
    assert any("no dry run" in note for note in result["notes"])


CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget"},
        "versions": [{"name": "v1"}],
    },
}
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}


def test_a_batch_may_bring_a_kind_and_objects_of_it():
    api = FakeApi()
    result = apply(api, [WIDGET, CRD])
    assert actions(result)[("Widget", "home", "w")] == "created"
    assert not apply(api, [WIDGET, CRD])["changed"]


NOTE = {
    **CRD,
    "metadata": {"name": "notes.example.com"},
    "spec": {**CRD["spec"], "names": {"kind": "Note"}},
}


def gone(api, **options):
    given = {"name": "batch", "namespace": "home", "objects": [], "state": "absent", **options}
    return module.run(given, False, False, connect=lambda _params: api)


def test_definitions_go_once_nobody_has_an_object_that_needs_them():
    """What a controller has noted down beside such an object goes with its definition."""
    api = FakeApi()
    apply(api, [WIDGET, CRD, NOTE])
    api._store({"apiVersion": "example.com/v1", "kind": "Note", "metadata": {"name": "of-w", "namespace": "home"}})
    api._store({**WIDGET, "metadata": {"name": "foreign", "namespace": "elsewhere"}})
    result = gone(api, definitions_unless_used=["Widget"])
    assert actions(result)[("Widget", "home", "w")] == "deleted"
    for name in ("widgets.example.com", "notes.example.com"):
        assert actions(result)[("CustomResourceDefinition", "", name)] == "released"
        assert any(
            f"{name} is not part" in note and "1 Widget: Widget elsewhere/foreign" in note for note in result["notes"]
        )

    api = FakeApi()
    apply(api, [WIDGET, CRD, NOTE])
    api._store({"apiVersion": "example.com/v1", "kind": "Note", "metadata": {"name": "of-w", "namespace": "home"}})
    result = gone(api, definitions_unless_used=["Widget"])
    assert {action for (kind, *_rest), action in actions(result).items()} == {"deleted"}
    assert names(api, "CustomResourceDefinition") == names(api, "Widget") == set()


def test_a_definition_that_was_there_before_is_nobody_s_to_delete():
    api = FakeApi()
    api._store(CRD)
    module.run(
        {"name": "batch", "namespace": "home", "objects": [CRD, NOTE], "state": "present", "prune": True,
         "unserved": "fail", "existing": "leave"}, False, False, connect=lambda _params: api,
    )  # fmt: skip
    gone(api, definitions_unless_used=["Widget"])
    assert names(api, "CustomResourceDefinition") == {"widgets.example.com"}


def test_an_unknown_kind_is_an_error_and_in_check_mode_a_note():
    api = FakeApi()
    with pytest.raises(PlatformError) as error:
        apply(api, [WIDGET])
    assert error.value.reason == "kind"
    result = apply(api, [WIDGET], check_mode=True)
    assert actions(result)[("Widget", "home", "w")] == "created"
    assert any("Widget" in note for note in result["notes"])


def test_an_unknown_kind_of_kubernetes_itself_is_an_error_in_check_mode_too():
    with pytest.raises(PlatformError, match="Deploymint"):
        apply(FakeApi(), [{"apiVersion": "apps/v1", "kind": "Deploymint", "metadata": {"name": "x"}}], check_mode=True)


def test_what_is_not_served_can_be_left_out_and_the_first_served_version_is_taken():
    api = FakeApi()
    old = {**WIDGET, "apiVersion": "example.com/v1beta1"}
    result = apply(api, [WIDGET, old, config_map("a")], skip_unserved=True)
    assert ("Widget", "home", "w") not in actions(result)
    assert any("example.com/v1 or example.com/v1beta1" in note for note in result["notes"])
    api.kinds = api.kinds | {("example.com/v1beta1", "Widget")}
    assert actions(apply(api, [WIDGET, old, config_map("a")], skip_unserved=True))[("Widget", "home", "w")] == "created"


def test_check_mode_on_an_empty_cluster_needs_no_namespace():
    api = FakeApi(namespaces=())
    result = apply(api, [config_map("a")], check_mode=True)
    assert actions(result)[("ConfigMap", "home", "a")] == "created"
    assert any("namespace home does not exist yet" in note for note in result["notes"])
    assert api.writes == []
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a")])
    assert error.value.reason == "missing"


def test_a_secrets_text_is_compared_as_it_is_stored():
    api = FakeApi()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}
    apply(api, [secret])
    result = apply(api, [secret])
    assert not result["changed"]


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ([config_map("a"), {"kind": "ConfigMap", "metadata": {"name": "a"}}], ["objects[1]", "apiVersion: None"]),
        ([{"apiVersion": "v1", "kind": "ConfigMap"}], ["objects[0]", "metadata.name: None"]),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}}], ["metadata.name: None"]),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": 3}}], ["metadata.name: 3"]),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": "a"}], ["objects[0]", "metadata.name: None"]),
        ([config_map("a"), config_map("a")], ["objects[1], ConfigMap home/a", "twice"]),
        (
            [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}}],
            ["objects[0]", "metadata.namespace: b"],
        ),
        (
            [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {PART_OF_LABEL: "x"}}}],
            [PART_OF_LABEL],
        ),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": ["x"]}}], ["metadata.labels"]),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_wrong_object_is_named_before_anything_is_written(objects, says, check_mode):
    api = FakeApi()
    with pytest.raises(PlatformError) as error:
        apply(api, objects, check_mode)
    for part in says:
        assert part in str(error.value)
    assert api.writes == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("name", "A b"), ("name", ""), ("name", "x" * 54), ("namespace", "a/b"), ("namespace", "x" * 64), ("name", "a-")],
)
def test_an_unusable_name_is_refused(option, value):
    with pytest.raises(PlatformError, match=option):
        Batch(FakeApi(), **{"name": "batch", "namespace": "home", option: value})


def test_a_namespace_has_up_to_63_characters_and_a_batch_53():
    where = "n" * 63
    api = FakeApi(namespaces=(where,))
    batch = Batch(api, "b" * 53, where)
    batch.apply([config_map("a", where)])
    assert names(api) == {"a", "policy-" + "b" * 53}


def test_the_stand_in_has_the_methods_of_the_real_client():
    for name, method in inspect.getmembers(FakeApi, inspect.isfunction):
        if name.startswith("_") or name == "snapshot":
            continue
        ours = inspect.signature(method).parameters
        real = inspect.signature(getattr(Cluster, name)).parameters
        assert list(ours) == [parameter for parameter in real if parameter in ours], name


# --- documents, and what they may be ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([None, config_map("a"), config_map("b"), policy("p")]), max_size=6))
@settings(deadline=None, max_examples=30)
def test_empty_documents_are_skipped(documents):
    objects = []
    for obj in documents:
        if obj not in objects or obj is None:
            objects.append(obj)
    with_empty, without = FakeApi(), FakeApi()
    result = apply(with_empty, objects)
    apply(without, [obj for obj in objects if obj is not None])
    assert with_empty.objects.keys() == without.objects.keys()
    assert len(result["objects"]) == 1 + len([obj for obj in objects if obj is not None])
    assert remove(with_empty, [None])["changed"]


def test_no_objects_at_all_is_an_empty_batch():
    assert set(actions(apply(FakeApi(), None))) == {("ConfigMap", "home", "policy-batch")}


@pytest.mark.parametrize("wrong", ["text", 3, ["a"], True])
def test_what_is_no_object_is_named(wrong):
    with pytest.raises(PlatformError) as error:
        apply(FakeApi(), [None, wrong])
    assert "objects[1]" in error.value.where
    assert type(wrong).__name__ in error.value.found


def test_the_batchs_own_record_is_no_object_of_it():
    with pytest.raises(PlatformError, match="own record"):
        apply(FakeApi(), [config_map("policy-batch")])


# --- who owns an object ----------------------------------------------------------------------------------------------


def labelled(obj, owners=(), name="batch", **metadata):
    obj = ApplySet(f"policy-{name}", "home").labelled(obj)
    if owners:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Thing", "name": uid, "uid": uid} for uid in owners]
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


@pytest.mark.parametrize("ending", ["prune", "absent", "keep"])
def test_what_a_controller_has_made_is_no_member(ending):
    api = FakeApi()
    apply(api, [config_map("a"), policy("p")])
    api._store(labelled(config_map("child"), owners=["someone"]))
    before = api.objects[key_of(config_map("child"))]
    result = remove(api) if ending == "absent" else apply(api, [policy("p")], prune=ending == "prune")
    assert api.objects[key_of(config_map("child"))] == before
    assert ("ConfigMap", "home", "child") not in actions(result)
    assert any("child" in note and "Thing someone" in note for note in result["notes"])


def test_the_records_own_reference_makes_no_owner():
    """KEP-3659 lets a tool put the record itself into a member's owner references."""
    api = FakeApi()
    apply(api, [config_map("a")])
    uid = api.objects[key_of(config_map("policy-batch"))]["metadata"]["uid"]
    api._store(labelled(config_map("b"), owners=[uid]))
    assert actions(apply(api, [config_map("a")]))[("ConfigMap", "home", "b")] == "deleted"


def test_the_endpoints_that_a_service_has_are_no_members():
    def core(kind, name, **fields):
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "home"}, **fields}

    service = core("Service", "web", spec={"selector": {"app": "web"}})
    by_hand = [core("Service", "outside", spec={"port": 1}), core("Endpoints", "outside", subsets=[])]
    api = FakeApi()
    apply(api, [service, *by_hand])
    # The endpoints controller copies the labels of the Service, and sets no owner reference.
    api._store(labelled(core("Endpoints", "web", subsets=[])))
    assert not apply(api, [service, *by_hand])["changed"]
    assert names(api, "Endpoints") == {"web", "outside"}
    assert actions(apply(api, [service]))[("Endpoints", "home", "outside")] == "deleted"


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_object_of_another_batch_is_a_conflict_that_names_both(check_mode):
    api = FakeApi()
    apply(api, [config_map("shared"), config_map("x")], name="first")
    before = api.snapshot()
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a"), config_map("shared")], check_mode, name="second")
    assert error.value.reason == "conflict"
    assert "ConfigMap home/shared" in error.value.where
    assert "batch first in namespace home" in str(error.value)
    assert "batch second in namespace home" in str(error.value)
    assert api.objects == before
    # And the other batch still holds it.
    assert not apply(api, [config_map("shared"), config_map("x")], name="first")["changed"]


def test_a_label_whose_record_is_gone_is_a_conflict_too():
    api = FakeApi()
    api._store(labelled(config_map("a"), name="lost"))
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a")])
    assert ApplySet("policy-lost", "home").id in error.value.found
    assert f"kubectl label configmap a {PART_OF_LABEL}- -n home" in error.value.fix


def test_the_set_of_another_tool_is_named():
    api = FakeApi()
    parent = ApplySet("theirs", "home").parent(ApplySet("theirs", "home").scope_of([]))
    parent["metadata"]["annotations"]["applyset.kubernetes.io/tooling"] = "kubectl/v1.30"
    api._store(parent)
    api._store(ApplySet("theirs", "home").labelled(config_map("a")))
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a")])
    assert "ConfigMap home/theirs of kubectl/v1.30" in error.value.found


def test_the_record_of_another_batch_is_not_taken_for_an_object():
    api = FakeApi()
    apply(api, [policy("p")], name="first")
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("policy-first")], name="second")
    assert error.value.reason == "conflict"
    assert not apply(api, [policy("p")], name="first")["changed"]


def test_adopting_an_object_is_said():
    api = FakeApi()
    api._store(config_map("a", theirs="1"))
    api._store(config_map("b"))
    told = apply(api, [config_map("a", ours="1"), config_map("c")], check_mode=True)
    done = apply(api, [config_map("a", ours="1"), config_map("c")])
    assert actions(told) == actions(done)
    assert actions(done)[("ConfigMap", "home", "a")] == "adopted"
    assert actions(done)[("ConfigMap", "home", "c")] == "created"
    for result in (told, done):
        (note,) = [note for note in result["notes"] if "existed before" in note]
        assert "ConfigMap home/a" in note
        assert "home/c" not in note
    again = apply(api, [config_map("a", ours="1"), config_map("c")])
    assert not again["changed"]
    assert again["notes"] == []


def test_what_is_somebody_elses_can_be_left_as_it_is():
    api = FakeApi()
    api._store(config_map("theirs", x="1"))
    apply(api, [config_map("another_batchs", x="1")], name="other")
    before = [copy.deepcopy(api.objects[key_of(config_map(name))]) for name in ("theirs", "another_batchs")]
    wanted = [config_map(name, x="2") for name in ("theirs", "another_batchs", "missing")]
    assert actions(apply(api, wanted, check_mode=True, leave_existing=True)) == actions(
        done := apply(api, wanted, leave_existing=True)
    )
    assert done["changed"]
    assert actions(done)[("ConfigMap", "home", "theirs")] == "left"
    assert actions(done)[("ConfigMap", "home", "another_batchs")] == "left"
    assert actions(done)[("ConfigMap", "home", "missing")] == "created"
    assert [api.objects[key_of(obj)] for obj in before] == before
    # What it has made itself, it keeps as the batch says.
    assert not apply(api, wanted, leave_existing=True)["changed"]
    changed = [*wanted[:2], config_map("missing", x="3")]
    assert actions(apply(api, changed, leave_existing=True))[("ConfigMap", "home", "missing")] == "updated"
    # And what was left is none of what it prunes.
    apply(api, [], leave_existing=True)
    assert key_of(config_map("theirs")) in api.objects
    assert key_of(config_map("missing")) not in api.objects


# --- what an earlier wave makes --------------------------------------------------------------------------------------


def pod(name="p", **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "home"}, "spec": spec}


HIGH = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 5}
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner", "namespace": "home"}}


@pytest.mark.parametrize(
    "objects",
    [[HIGH, pod(priorityClassName="high")], [ACCOUNT, pod("runner", serviceAccountName="runner")]],
    ids=["PriorityClass", "ServiceAccount"],
)
def test_what_an_earlier_wave_makes_is_excused(objects):
    api = FakeApi()
    told = apply(api, objects, check_mode=True)
    done = apply(api, objects)
    assert actions(told) == actions(done)
    assert set(actions(done).values()) == {"created"}
    assert any(spoken(objects[0]) in note for note in told["notes"])
    assert not apply(api, objects)["changed"]


@pytest.mark.parametrize(
    "objects",
    [
        [HIGH, pod(priorityClassName="higher")],
        [HIGH, ACCOUNT, pod("runner", priorityClassName="high", serviceAccountName="another")],
        [{**ACCOUNT, "metadata": {"name": "runner", "namespace": "far"}}, pod(serviceAccountName="runner")],
    ],
)
def test_what_no_wave_makes_is_refused_before_anything_is_written(objects):
    api = FakeApi(namespaces=("home", "far"))
    api._store(HIGH)
    before = api.snapshot()
    with pytest.raises(PlatformError) as error:
        apply(api, objects)
    assert error.value.reason == "admission"
    assert api.objects == before


def test_an_admission_plugin_that_sees_the_earlier_wave_late_is_waited_for():
    api = FakeApi()
    admit, refusals = api._admit, itertools.count(1)

    def late(obj):
        if next(refusals) < 4:
            raise refusal(403, "Forbidden", 'pods "p" is forbidden: no PriorityClass with name high was found', [], "")
        admit(obj)

    api._admit = late
    apply(api, [HIGH, pod(priorityClassName="high")])
    assert names(api, "Pod") == {"p"}


def test_a_run_that_was_killed_between_a_kind_and_its_objects_is_finished():
    api = FakeApi()
    api._store(ApplySet("policy-batch", "home").labelled(CRD), "lambda-microservice-platform")
    assert actions(apply(api, [WIDGET, CRD]))[("Widget", "home", "w")] == "created"


def test_a_kind_that_is_never_served_is_told():
    api = FakeApi()
    api.forget_resources = lambda: None
    with pytest.raises(PlatformError) as error:
        apply(api, [WIDGET, CRD])
    assert error.value.reason == "timeout"
    assert "CustomResourceDefinition widgets.example.com" in error.value.where


# --- what is refused, before anything is changed ---------------------------------------------------------------------


FORBIDDEN = 'User "ci" cannot %s resource "configmaps" in API group "" in the namespace "home"'


def refused(verb):
    return refusal(403, "Forbidden", FORBIDDEN % verb, [], "")


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("ending", ["prune", "absent"])
def test_a_removal_that_is_refused_changes_nothing(ending, check_mode):
    api = FakeApi()
    apply(api, [config_map("a"), config_map("b"), policy("p")])
    api.refuse["delete ConfigMap home/b"] = refused("delete")
    before = api.snapshot()
    with pytest.raises(PlatformError) as error:
        if ending == "prune":
            apply(api, [config_map("a", x="2")], check_mode)
        else:
            remove(api, check_mode=check_mode)
    assert error.value.reason == "forbidden"
    assert "nothing was changed" in str(error.value) or "delete configmaps" in error.value.what
    assert api.objects == before


def test_a_removal_whose_refusal_goes_with_the_batch_is_tried():
    api = FakeApi()
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r", "namespace": "home"},
    }
    api.kinds = api.kinds | {("rbac.authorization.k8s.io/v1", "Role")}
    apply(api, [config_map("a"), config_map("b")])
    api.refuse["delete ConfigMap home/b"] = refused("delete")
    with pytest.raises(PlatformError):
        apply(api, [config_map("a"), role])
    assert names(api, "Role") == {"r"}


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_record_that_is_refused_changes_nothing(check_mode):
    api = FakeApi()
    api.refuse["ConfigMap home/policy-batch"] = refused("patch")
    before = api.snapshot()
    with pytest.raises(PlatformError) as error:
        apply(api, [namespace("new"), policy("p")], check_mode)
    assert error.value.reason == "forbidden"
    assert api.objects == before


def test_an_object_that_was_made_anew_meanwhile_is_let_be():
    api = FakeApi()
    apply(api, [config_map("a"), config_map("b")])

    def made_anew():
        api.objects.pop(key_of(config_map("b")))
        api._store(config_map("b", theirs="1"))

    api.meanwhile["ConfigMap home/b"] = made_anew
    apply(api, [config_map("a")])
    assert api.objects[key_of(config_map("b"))]["data"] == {"theirs": "1"}


def test_what_belongs_to_a_helm_release_is_let_go_and_not_deleted():
    api = FakeApi()
    apply(api, [config_map("a"), config_map("b")])
    metadata = api.objects[key_of(config_map("b"))]["metadata"]
    metadata["annotations"] = {"meta.helm.sh/release-name": "web"}
    result = apply(api, [config_map("a")])
    assert actions(result)[("ConfigMap", "home", "b")] == "released"
    assert any("Helm release web" in note for note in result["notes"])
    assert PART_OF_LABEL not in api.objects[key_of(config_map("b"))]["metadata"]["labels"]


@pytest.mark.parametrize("spec", [None, "text", {"versions": "v1"}, {"versions": ["v1"], "names": []}, {"names": {}}])
def test_a_definition_that_is_wrong_is_left_to_the_api_server(spec):
    api = FakeApi()
    api.refuse["CustomResourceDefinition widgets.example.com"] = PlatformError("invalid", reason="invalid")
    with pytest.raises(PlatformError) as error:
        apply(api, [{**CRD, "spec": spec}])
    assert error.value.reason == "invalid"


# --- deletion that takes its time ------------------------------------------------------------------------------------


def held(api, obj, *finalizers):
    api.objects[key_of(obj)]["metadata"]["finalizers"] = list(finalizers)


def let_go(api, obj):
    metadata = api.objects[key_of(obj)]["metadata"]
    metadata["finalizers"] = []
    if metadata.get("deletionTimestamp"):
        del api.objects[key_of(obj)]


def test_the_record_stays_until_a_pruned_object_is_gone():
    api = FakeApi(namespaces=("home", "far"))
    apply(api, [config_map("a"), policy("p", "far")])
    held(api, policy("p", "far"), "example.com/hold")
    result = apply(api, [config_map("a")])
    assert result["changed"]
    assert actions(result)[("NetworkPolicy", "far", "p")] == "deleting"
    assert any("NetworkPolicy far/p" in note and "example.com/hold" in note for note in result["notes"])
    assert "NetworkPolicy.networking.k8s.io" in record(api)[GROUP_KINDS_ANNOTATION]
    assert record(api)[NAMESPACES_ANNOTATION] == "far"
    # A run that finds it so has nothing to do with it, and says so in check mode too.
    told = apply(api, [config_map("a")], check_mode=True)
    again = apply(api, [config_map("a")])
    assert {**told, "notes": None} == {**again, "notes": None}
    assert not again["changed"]
    assert again["notes"]
    let_go(api, policy("p", "far"))
    apply(api, [config_map("a")])
    assert record(api)[GROUP_KINDS_ANNOTATION] == "ConfigMap"
    assert record(api)[NAMESPACES_ANNOTATION] == ""


def test_a_finalizer_that_ends_soon_is_waited_for():
    api = FakeApi()
    apply(api, [config_map("a"), policy("p")])
    held(api, policy("p"), "example.com/hold")
    timer = threading.Timer(0.1, let_go, (api, policy("p")))
    timer.start()
    assert actions(apply(api, [config_map("a")]))[("NetworkPolicy", "home", "p")] == "deleted"
    timer.join()
    assert record(api)[GROUP_KINDS_ANNOTATION] == "ConfigMap"


def test_a_removed_batch_keeps_its_record_until_all_is_gone():
    api = FakeApi()
    apply(api, [config_map("a"), policy("p")])
    held(api, config_map("a"), "example.com/hold")
    for _run in range(2):
        result = remove(api)
        assert result["failed"]
        assert result["reason"] == "terminating"
        assert "ConfigMap home/a" in result["where"]
        assert "example.com/hold" in result["found"]
        assert "policy-batch" in names(api)
    let_go(api, config_map("a"))
    assert "failed" not in remove(api)
    assert names(api) == names(api, "NetworkPolicy") == set()


def test_what_an_ending_object_may_need_stays_until_it_is_gone():
    api = FakeApi()
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "home"}}
    apply(api, [config_map("a"), policy("p"), deployment])
    held(api, deployment, "example.com/hold")
    for _run in range(2):
        result = remove(api)
        assert actions(result)[("ConfigMap", "home", "a")] == "kept"
        assert actions(result)[("NetworkPolicy", "home", "p")] == "kept"
        assert names(api, "NetworkPolicy") == {"p"}
    let_go(api, deployment)
    remove(api)
    assert names(api) == names(api, "NetworkPolicy") == set()


# --- what cannot be read ---------------------------------------------------------------------------------------------


def with_aggregated_kind():
    api = FakeApi(namespaces=("home", "far"))
    api.kinds = api.kinds | {("far.example.com/v1", "Thing")}
    thing = {"apiVersion": "far.example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "far"}}
    apply(api, [config_map("a"), thing])
    return api, thing


def test_a_recorded_kind_whose_api_is_down_is_not_gone():
    api, thing = with_aggregated_kind()
    recorded = record(api)
    served = api.kinds
    api.down = {"far.example.com/v1"}
    api.kinds = served - {("far.example.com/v1", "Thing")}
    result = apply(api, [config_map("a")])
    assert any("Thing.far.example.com" in note and "503" in note for note in result["notes"])
    assert record(api) == recorded
    removal = remove(api)
    assert removal["failed"]
    assert removal["reason"] == "unavailable"
    assert "policy-batch" in names(api)
    api.down, api.kinds = set(), served
    assert actions(apply(api, [config_map("a")]))[("Thing", "far", "t")] == "deleted"
    assert record(api)[GROUP_KINDS_ANNOTATION] == "ConfigMap"


def test_a_recorded_kind_whose_definition_is_gone_is_gone():
    api, thing = with_aggregated_kind()
    api.kinds = api.kinds - {("far.example.com/v1", "Thing")}
    apply(api, [config_map("a")])
    assert record(api)[GROUP_KINDS_ANNOTATION] == "ConfigMap"


def test_a_wanted_kind_whose_api_is_down_is_an_error():
    api, thing = with_aggregated_kind()
    api.down = {"far.example.com/v1"}
    with pytest.raises(PlatformError) as error:
        apply(api, [config_map("a"), thing], skip_unserved=True)
    assert error.value.reason == "unavailable"


# --- two runs at once ------------------------------------------------------------------------------------------------


def test_what_another_run_adds_to_the_record_is_not_taken_out():
    api = FakeApi(namespaces=("home", "far"))
    apply(api, [config_map("a"), policy("p")])

    def other_run():
        other = FakeApi.__new__(FakeApi)
        other.__dict__.update(api.__dict__, meanwhile={})
        apply(other, [config_map("a"), policy("p"), {**pod(), "metadata": {"name": "p", "namespace": "far"}}])

    # Between the first reading of the record and the last writing: at the deletion of what is stale.
    api.meanwhile["NetworkPolicy home/p"] = other_run
    apply(api, [config_map("a")])
    assert "Pod" in record(api)[GROUP_KINDS_ANNOTATION].split(",")
    assert record(api)[NAMESPACES_ANNOTATION] == "far"


def test_what_another_run_adds_before_the_record_is_widened_stays_too():
    api = FakeApi(namespaces=("home", "far"))
    apply(api, [config_map("a")])

    def other_run():
        other = FakeApi.__new__(FakeApi)
        other.__dict__.update(api.__dict__, meanwhile={})
        apply(other, [config_map("a"), policy("p", "far")])

    api.meanwhile["ConfigMap home/policy-batch"] = other_run
    apply(api, [config_map("a"), pod()])
    kinds = record(api)[GROUP_KINDS_ANNOTATION].split(",")
    assert {"ConfigMap", "Pod", "NetworkPolicy.networking.k8s.io"} == set(kinds)


def test_two_runs_that_find_no_record_make_one_that_names_what_both_have():
    api = FakeApi(namespaces=("home", "far"))

    def other_run():
        other = FakeApi.__new__(FakeApi)
        other.__dict__.update(api.__dict__, meanwhile={})
        apply(other, [policy("p", "far")])

    api.meanwhile["ConfigMap home/policy-batch"] = other_run
    apply(api, [config_map("a")])
    assert record(api)[GROUP_KINDS_ANNOTATION] == "ConfigMap,NetworkPolicy.networking.k8s.io"
    assert record(api)[NAMESPACES_ANNOTATION] == "far"


def test_a_record_that_another_run_writes_is_not_deleted():
    api = FakeApi()
    apply(api, [config_map("a")])

    def other_run():
        other = FakeApi.__new__(FakeApi)
        other.__dict__.update(api.__dict__, meanwhile={})
        apply(other, [config_map("a"), policy("p")])

    api.meanwhile["ConfigMap home/a"] = other_run
    with pytest.raises(PlatformError) as error:
        remove(api)
    assert error.value.reason == "conflict"
    assert "NetworkPolicy.networking.k8s.io" in record(api)[GROUP_KINDS_ANNOTATION]


# --- properties over arbitrary batches, one after the other ---------------------------------------------------------

pool = [
    *(config_map(name, where, x=value) for name in "ab" for where in ("home", "far") for value in "12"),
    *(policy(name, where) for name in "pq" for where in ("home", "far")),
    namespace("extra"),
    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 5},
]
batches = st.lists(st.sampled_from(pool), max_size=8, unique_by=key_of)


def members(api):
    return {key: obj for key, obj in api.objects.items() if PART_OF_LABEL in obj["metadata"].get("labels", {})}


def holds(api, batch):
    """Whether the members are the batch's objects, with its values."""
    live = members(api)
    return live.keys() == {key_of(obj) for obj in batch} and all(
        live[key_of(obj)].get(field) == obj[field]
        for obj in batch
        for field in ("data", "spec", "value")
        if field in obj
    )


@given(st.lists(batches, min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_check_mode_tells_exactly_what_the_run_then_does(sequence):
    api = FakeApi(namespaces=("home", "far"))
    for batch in sequence:
        before = api.snapshot()
        told = apply(api, batch, check_mode=True)
        assert api.objects == before
        done = apply(api, batch)
        assert {**told, "notes": None} == {**done, "notes": None}
        assert holds(api, batch)
        assert done["changed"] == (api.objects != before)


@given(st.lists(st.tuples(batches, st.integers(0, 12)), min_size=1, max_size=3), batches)
@settings(deadline=None, max_examples=60)
def test_a_run_after_killed_runs_finishes_everything(killed, final):
    api = FakeApi(namespaces=("home", "far"))
    for batch, writes in killed:
        api.writes_left = writes
        with contextlib.suppress(Killed):
            apply(api, batch)
    api.writes_left = None
    apply(api, final)
    assert holds(api, final)
    expected = FakeApi(namespaces=("home", "far"))
    apply(expected, final)
    assert record(api) == record(expected)
    assert not apply(api, final)["changed"]


@given(batches, st.integers(0, 12))
@settings(deadline=None, max_examples=60)
def test_a_removal_after_a_killed_removal_finishes_it(batch, writes):
    api = FakeApi(namespaces=("home", "far"))
    apply(api, batch)
    api.writes_left = writes
    with contextlib.suppress(Killed):
        remove(api)
    api.writes_left = None
    remove(api)
    assert members(api) == {}
    assert "policy-batch" not in names(api)
