"""What the roles apply where there is a mesh, on a real API server with Istio's definitions: twice, and away again."""

from __future__ import annotations

import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

ON = {
    "mesh_enabled": True,
    # No endpoints of the API are found where there are no nodes.
    "platform_api_server_addresses": ["10.0.0.1/32"],
}
TAGS = "mesh_policy,mesh_identities,runtimes_policy,controller_policy,openfaas_policy,ingress_policy"
OF_ROLES = ("runtimes", "controller", "openfaas", "ingress")


@pytest.fixture(scope="module")
def batches(tmp_path_factory, cluster):
    """The arguments of the roles' module by name; of Istio's objects alone."""
    collections = collection_without_cluster(tmp_path_factory.mktemp("collections"))
    given = ("--tags", TAGS, "-e", f"platform_images_file={ROOT}/tests/images.json", "-e", json.dumps(ON))
    done = run(collections, "site", *given, folder=tmp_path_factory.mktemp("run"))
    assert done.rc == 0, done.output
    found = {}
    for asked in done.asked("policy"):
        objects = [obj for obj in asked.get("objects") or [] if "istio.io/" in obj["apiVersion"]]
        if asked["name"] == "mesh-definitions" or objects:
            found[asked["name"]] = {**asked, "objects": objects}
    places = {obj["metadata"]["namespace"] for batch in found.values() for obj in batch["objects"]}
    for name in places | {batch["namespace"] for batch in found.values()}:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "test")
    return found


def test_a_look_before_the_first_run_tells_what_would_be_made(apply, batches):
    for batch in batches.values():
        assert apply(batch, check_mode=True)["changed"]


def test_every_object_of_the_mesh_is_accepted_changes_nothing_again_and_goes(apply, batches, cluster):
    assert set(batches) == {"mesh-definitions", "mesh-identities", *OF_ROLES}
    for batch in batches.values():
        assert apply(batch)["changed"]
    for batch in batches.values():
        second = apply(batch)
        assert not second["changed"], [entry for entry in second["objects"] if entry["action"] != "unchanged"]
    kept = {
        (obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["spec"]
        for batch in batches.values()
        for obj in batch["objects"]
    }
    kinds = {kind for kind, _namespace, _name in kept}
    assert kinds == {"AuthorizationPolicy", "DestinationRule", "EnvoyFilter", "PeerAuthentication", "Sidecar"}
    for batch in batches.values():
        for obj in batch["objects"]:
            live = cluster.get({key: obj[key] for key in ("apiVersion", "kind", "metadata")})
            # A field that a definition does not know would be gone.
            assert live["spec"] == obj["spec"], obj["metadata"]["name"]
    wrong = {**batches["controller"]["objects"][0]}
    wrong["spec"] = {"configPatches": [{"applyTo": "NOTHING"}]}
    with pytest.raises(PlatformError, match="applyTo"):
        cluster.apply(wrong, "test", dry_run=True)
    for name in ("mesh-identities", *OF_ROLES):
        apply(batches[name], state="absent", objects=[])
    assert cluster.list("security.istio.io/v1", "PeerAuthentication", "controller") == []
    apply(batches["mesh-definitions"], state="absent", files=[], definitions_unless_used=sorted(kinds))
