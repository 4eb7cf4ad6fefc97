"""The module policy against an API server in memory that knows server-side apply, dry runs and labels."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.applyset import (
    GROUP_KINDS_ANNOTATION,
    NAMESPACES_ANNOTATION,
    PART_OF_LABEL,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.cluster import ref_of, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import Batch, key_of, wave_of
from hypothesis import given, settings
from hypothesis import strategies as st

CLUSTER_KINDS = {("v1", "Namespace"), ("scheduling.k8s.io/v1", "PriorityClass")}
CLUSTER_KINDS |= {("apiextensions.k8s.io/v1", "CustomResourceDefinition")}
NAMESPACED_KINDS = {("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "PersistentVolumeClaim")}
NAMESPACED_KINDS |= {("networking.k8s.io/v1", "NetworkPolicy"), ("apps/v1", "Deployment")}


class Killed(BaseException):
    """The run was ended from outside, like by SIGKILL: no handler of the module may see it."""


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


class FakeApi:
    """The methods of Cluster that the module uses. Maps merge, all lists are atomic."""

    def __init__(self, namespaces=("home",)):
        self.objects = {}
        self.kinds = CLUSTER_KINDS | NAMESPACED_KINDS
        self.writes = []
        self.requests = []
        self.refuse = {}
        self.writes_left = None
        self._lock = threading.RLock()
        self._uids = itertools.count(1)
        for name in namespaces:
            self._store({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.writes.clear()

    # --- discovery

    def knows(self, api_version, kind):
        return (api_version, kind) in self.kinds

    def namespaced(self, api_version, kind):
        return (api_version, kind) not in CLUSTER_KINDS

    def path(self, ref, collection=False):
        if not self.knows(ref["apiVersion"], ref["kind"]):
            raise PlatformError(f"the cluster does not know the kind {ref['kind']}", reason="unknown_kind")
        return "/"

    def api_versions(self):
        return sorted(f"{api_version}/{kind}" for api_version, kind in self.kinds)

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
        label, _, value = label_selector.partition("=")
        return [
            copy.deepcopy(obj)
            for obj in self.objects.values()
            if (obj["apiVersion"], obj["kind"]) == (api_version, kind)
            and obj["metadata"].get("namespace") == namespace
            and obj["metadata"].get("labels", {}).get(label) == value
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

    def apply(self, obj, field_manager, force=True, dry_run=False):
        assert force
        self._before_write("apply", obj, dry_run)
        self.path(obj)
        namespace = obj["metadata"].get("namespace")
        namespaces = {key[2] for key in self.objects if key[0].kind == "Namespace"}
        if namespace and namespace not in namespaces:
            raise PlatformError(f'namespaces "{namespace}" not found', reason="not_found", status=404)
        if spoken(obj) in self.refuse:
            raise self.refuse[spoken(obj)]
        with self._lock:
            return self._store(obj, field_manager, dry_run)

    def _store(self, obj, field_manager="other", dry_run=False):
        key = key_of(obj)
        live = copy.deepcopy(self.objects.get(key))
        if live is None:
            live = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": {**ref_of(obj)}}
            live["metadata"] = {"name": ref_of(obj)["name"], "uid": f"uid-{next(self._uids)}", "managedFields": []}
            if ref_of(obj)["namespace"]:
                live["metadata"]["namespace"] = ref_of(obj)["namespace"]
        identity = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
        applied = {path: value for path, value in leaves(obj) if path not in identity}
        others = [entry for entry in live["metadata"]["managedFields"] if entry["manager"] != field_manager]
        (mine,) = [e for e in live["metadata"]["managedFields"] if e["manager"] == field_manager] or [None]
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
        entry = {"manager": field_manager, "operation": "Apply", "apiVersion": obj["apiVersion"]}
        live["metadata"]["managedFields"] = [*others, {**entry, "fieldsV1": fields, "paths": sorted(applied)}]
        if not dry_run:
            self.objects[key] = live
        return copy.deepcopy(live)

    @staticmethod
    def _remove(obj, path):
        for part in path[:-1]:
            obj = obj.get(part, {})
        obj.pop(path[-1], None)

    def patch(self, ref, body, field_manager):
        self._before_write("patch", ref, False)
        live = self.objects[key_of(ref)]
        assert body["metadata"]["uid"] == live["metadata"]["uid"]
        (label,) = body["metadata"]["labels"]
        live["metadata"]["labels"].pop(label)

    def delete(self, ref, propagation="Background", uid=None):
        self._before_write("delete", ref, False)
        live = self.objects.get(key_of(ref))
        if live is None:
            return False
        assert uid == live["metadata"]["uid"], "only the object that was seen may be deleted"
        del self.objects[key_of(ref)]
        return True

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


def apply(api, objects, check_mode=False, prune=True, name="batch", diff=False, skip_unserved=False):
    batch = Batch(api, name, "home", check_mode)
    batch.apply(copy.deepcopy(objects), prune, skip_unserved)
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
    assert [what for _verb, what in api.writes] == [
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


def test_an_unknown_kind_is_an_error_and_in_check_mode_a_note():
    api = FakeApi()
    with pytest.raises(PlatformError) as error:
        apply(api, [WIDGET])
    assert error.value.reason == "unknown_kind"
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
    assert error.value.reason == "not_found"


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


@pytest.mark.parametrize(("option", "value"), [("name", "A b"), ("name", ""), ("name", "x" * 54), ("namespace", "a/b")])
def test_an_unusable_name_is_refused(option, value):
    with pytest.raises(PlatformError, match=option):
        Batch(FakeApi(), **{"name": "batch", "namespace": "home", option: value})


def test_bindings_of_admission_policies_come_last():
    def wave(api_version, kind):
        return wave_of(key_of({"apiVersion": api_version, "kind": kind, "name": "x"})[0])

    ordered = [
        wave("v1", "Namespace"),
        wave("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        wave("v1", "ConfigMap"),
        wave("apps/v1", "Deployment"),
        wave("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ]
    assert ordered == sorted(set(ordered))
    assert wave("example.com/v1", "Widget") == wave("apps/v1", "Deployment")


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
