"""What the role mesh asks for, with the real Ansible and without a cluster, and what upstream's charts make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import go_module

from tests.unit.charts.conftest import Objects, Render
from tests.unit.charts.conftest import helm as helm
from tests.unit.charts.conftest import render as render
from tests.unit.variables.rendering import ROOT, Run, collection_without_cluster, run

LOCAL = yaml.safe_load((ROOT / "inventories/local/group_vars/all/mesh.yml").read_text(encoding="utf-8"))
# Below these, names are not the chart's.
FREE = {"env", "meshConfig", "resources", "seccompProfile"}
SIZES = {"requests": {"cpu", "memory"}, "limits": {"memory"}}
# Read by its templates, and in its values.yaml as a comment.
COMMENTED = "base.validationFailurePolicy"


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


def site(collections: Path, folder: Path, tags: str, given: dict[str, Any]) -> Run:
    table = f"platform_images_file={ROOT}/tests/images.json"
    return run(collections, "site", "--tags", tags, "-e", table, "-e", json.dumps(given), folder=folder)


@pytest.fixture(scope="module")
def on(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    given = {
        "mesh_enabled": True,
        "monitoring_validate": False,
        "mesh_istiod_min_replicas": 2,
        "mesh_istiod_max_replicas": 5,
    }
    tags = "foundation,mesh,monitoring,controller_policy,mesh_identities"
    done = site(collections, tmp_path_factory.mktemp("run"), tags, given)
    assert done.rc == 0, done.output
    return done


def batch(done: Run, name: str) -> dict[str, Any]:
    (found,) = [asked for asked in done.asked("policy") if asked["name"] == name]
    return found


def policies(done: Run, name: str, namespace: str) -> dict[str, dict[str, Any]]:
    return {
        obj["metadata"]["name"]: obj["spec"]
        for obj in batch(done, name)["objects"]
        if obj["kind"] == "NetworkPolicy" and obj["metadata"]["namespace"] == namespace
    }


def ports(rules: list[dict[str, Any]]) -> set[int]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def chart(done: Run, name: str) -> Path:
    return Path(go_module.path_of(done.release(name)["chart"]))


@pytest.fixture(scope="module")
def istiod(on: Run, render: Render) -> Objects:
    return render(chart(on, "istiod"), on.release("istiod")["values"])


@pytest.fixture(scope="module")
def cni(on: Run, render: Render) -> Objects:
    return render(chart(on, "istio-cni"), on.release("istio-cni")["values"])


def test_its_namespace_is_one_of_the_platforms(on: Run) -> None:
    made = {
        (obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj
        for obj in batch(on, "foundation")["objects"]
    }
    labels = made["Namespace", None, "istio-system"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert ("NetworkPolicy", "istio-system", "default-deny") in made
    # Five and one more, which an update adds and which ends, of 50m locally; and a quarter more.
    assert made["ResourceQuota", "istio-system", "platform"]["spec"]["hard"]["pods"] == "9"


def test_its_definitions_come_from_a_file_and_are_left_to_who_brought_them(on: Run) -> None:
    asked = batch(on, "mesh-definitions")
    kinds = {obj["spec"]["names"]["kind"] for path in asked["files"] for obj in json.loads(Path(path).read_text())}
    own = yaml.safe_load((ROOT / "roles/mesh/vars/main.yml").read_text(encoding="utf-8"))
    assert kinds == set(own["__mesh_kinds"])
    assert asked["existing"] == "leave"


def test_what_is_made_before_what_needs_it(on: Run) -> None:
    def name(call: dict[str, Any]) -> str:
        parts = [part for key in ("secrets", "releases", "workloads") for part in call["args"].get(key) or ()]
        return call["args"].get("name") or ",".join(one["name"] for one in parts)

    asked = [name(call) for call in on.calls]
    mine = [one for one in asked if one.startswith(("cacerts", "mesh", "istiod"))]
    before = ["cacerts", "mesh-definitions", "mesh", "mesh-leaving", "istiod,istio-cni,kiali", "istiod,istio-cni-node"]
    # Nobody has to prove who they are before every pod has a proxy.
    assert mine == [*before, "mesh-identities"] and asked[-1] == "mesh-identities"
    asks = {(obj["kind"], obj["metadata"]["namespace"]) for obj in batch(on, "mesh-identities")["objects"]}
    for namespace in ("ingress", "controller", "openfaas", "openfaas-fn"):
        assert {("PeerAuthentication", namespace), ("AuthorizationPolicy", namespace)} <= asks
    told = {obj["kind"] for obj in batch(on, "controller")["objects"]}
    assert told == {"NetworkPolicy", "Sidecar", "EnvoyFilter"}


def test_the_authority_is_kept_where_istiod_looks_for_it(on: Run, istiod: Objects) -> None:
    (wanted,) = [one for asked in on.asked("secret") for one in asked["secrets"] if one["name"] == "cacerts"]
    assert wanted["namespaces"] == ["istio-system"] and wanted["certificate"]["is_ca"]
    # The type of a certificate's Secret, whose names istiod knows (kubernetes.io/tls).
    assert "type" not in wanted
    pod = istiod.one("Deployment", "istiod")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "cacerts"]
    assert volume["secret"]["secretName"] == "cacerts"


def test_every_value_is_one_of_upstreams_chart(on: Run) -> None:
    def unknown(given: dict[str, Any], known: Any, path: str) -> Iterator[str]:
        for key, value in given.items():
            if not isinstance(known, dict) or key not in known:
                yield f"{path}{key}"
            elif isinstance(value, dict) and key not in FREE:
                yield from unknown(value, known[key], f"{path}{key}.")

    for name in ("istiod", "istio-cni"):
        known = yaml.safe_load((chart(on, name) / "values.yaml").read_text(encoding="utf-8"))
        known = known["_internal_defaults_do_not_set"]
        assert set(unknown(on.release(name)["values"], known, "")) <= {COMMENTED}, name


def test_the_control_plane_fits_a_restricted_namespace_and_stays_when_a_node_goes(istiod: Objects) -> None:
    deployment = istiod.one("Deployment", "istiod")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"} and security["capabilities"] == {"drop": ["ALL"]}
    assert container["image"].startswith("registry.example.com/lambda/istio-pilot:")
    assert set(container["resources"]["limits"]) == {"memory"} and set(container["resources"]["requests"]) == {
        "cpu",
        "memory",
    }
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert {one["topologyKey"] for one in pod["topologySpreadConstraints"]} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    budget = istiod.one("PodDisruptionBudget", "istiod")["spec"]
    assert budget["minAvailable"] == 1 and budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    scaler = istiod.one("HorizontalPodAutoscaler", "istiod")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert pod["priorityClassName"] == "platform-service"


def test_proxies_are_whole_and_need_no_right(istiod: Objects) -> None:
    values = json.loads(istiod.one("ConfigMap", "istio-sidecar-injector")["data"]["values"])
    proxy = values["global"]["proxy"]
    assert all(set(proxy["resources"][kind]) == {"cpu", "memory"} for kind in ("requests", "limits"))
    assert proxy["seccompProfile"] == {"type": "RuntimeDefault"}
    assert values["pilot"]["cni"]["enabled"] is True
    for image in (proxy["image"], values["global"]["proxy_init"]["image"]):
        assert image.startswith("registry.example.com/lambda/istio-proxyv2:")


def test_nothing_goes_where_no_service_is_and_no_filter_is_asked_for_that_the_proxy_lacks(istiod: Objects) -> None:
    mesh = yaml.safe_load(istiod.one("ConfigMap", "istio")["data"]["mesh"])
    assert mesh["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    assert mesh["defaultConfig"]["holdApplicationUntilProxyStarts"] is True
    assert "defaultProviders" not in mesh and "tracing" not in mesh["defaultConfig"]
    (container,) = istiod.one("Deployment", "istiod")["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value") for one in container["env"]}
    assert given["PILOT_ENABLE_METADATA_EXCHANGE"] == given["PILOT_ENABLE_ALPN_FILTER"] == "false"


def test_objects_are_judged_from_the_first_on(on: Run, istiod: Objects) -> None:
    (own,) = [one for one in batch(on, "mesh")["objects"] if one["kind"] == "ValidatingWebhookConfiguration"]
    charts = istiod.of("ValidatingWebhookConfiguration")
    assert len(charts) == 1
    for configuration in (own, *charts):
        (webhook,) = configuration["webhooks"]
        assert webhook["failurePolicy"] == "Fail"
        assert (webhook["clientConfig"]["service"]["name"], webhook["clientConfig"]["service"]["path"]) == (
            "istiod",
            "/validate",
        )
        # By which istiod finds where its authority belongs.
        assert configuration["metadata"]["labels"]["istio.io/rev"] == "default"
    (webhook,) = own["webhooks"]
    assert webhook["rules"] == charts[0]["webhooks"][0]["rules"] and "caBundle" not in webhook["clientConfig"]
    assert webhook["clientConfig"]["service"]["namespace"] == "istio-system"


def test_the_plugin_has_limits_and_is_on_every_node(cni: Objects) -> None:
    pod = cni.one("DaemonSet", "istio-cni-node")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"].startswith("registry.example.com/lambda/istio-cni:")
    assert container["securityContext"]["privileged"] is False
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert set(container["resources"]["limits"]) == {"memory"} and set(container["resources"]["requests"]) == {
        "cpu",
        "memory",
    }
    assert {"effect": "NoSchedule", "operator": "Exists"} in pod["tolerations"]
    assert cni.one("ConfigMap", "istio-cni-config")["data"]["CHAINED_CNI_PLUGIN"] == "true"


def test_who_may_call_whom(on: Run, cni: Objects, istiod: Objects) -> None:
    control = policies(on, "mesh", "istio-system")
    assert set(control) == {"istiod"}
    assert ports(control["istiod"]["ingress"]) == {15012, 15014, 15017}
    assert ports(control["istiod"]["egress"]) == {443, 6443}
    takes = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], tuple(ports([rule])))
        for rule in control["istiod"]["ingress"]
        for peer in rule["from"]
        if "namespaceSelector" in peer
    }
    meshed = ("ingress", "controller", "openfaas-fn", "openfaas")
    assert takes == {*((name, (15012,)) for name in meshed), ("monitoring", (15014,))}
    plugin = policies(on, "mesh", "kube-system")
    assert set(plugin) == {"istio-cni"}
    assert (ports(plugin["istio-cni"]["ingress"]), ports(plugin["istio-cni"]["egress"])) == ({15014}, {443, 6443})
    # The labels by which the policies know them are the charts'.
    for objects, kind, name, app in (
        (istiod, "Deployment", "istiod", "istiod"),
        (cni, "DaemonSet", "istio-cni-node", "istio-cni"),
    ):
        assert objects.one(kind, name)["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == app
    whole = policies(on, "controller", "controller")["all.pods"]
    assert ports(whole["egress"]) == {15012} and whole["podSelector"] == {}
    monitors = {
        obj["metadata"]["name"]: obj["spec"]["podMetricsEndpoints"][0]["portNumber"]
        for obj in batch(on, "monitoring")["objects"]
        if obj["kind"] == "PodMonitor" and obj["metadata"]["name"].startswith("istio")
    }
    assert monitors == {"istiod": 15014, "istio-cni": 15014}


def test_turned_off_all_of_it_goes_and_its_definitions_after_their_objects(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "foundation,mesh,controller_policy", {"mesh_enabled": False})
    assert done.rc == 0, done.output
    asked = [
        (call["module"], call["args"].get("name"))
        for call in done.calls
        if call["module"] in ("policy", "chart", "secret")
    ]
    # At the very end, when no pod has a proxy any more.
    gone = [("policy", name) for name in ("mesh-leaving", "mesh", "mesh-definitions")]
    assert asked[-5:] == [("chart", None), *gone, ("secret", None)]
    # Who has no proxy is let in before the first pod loses its own.
    names = [one["name"] for one in done.asked("policy")]
    assert names == ["foundation", "mesh-identities", "controller", "mesh-leaving", "mesh", "mesh-definitions"]
    assert batch(done, "mesh-identities")["state"] == "absent"
    assert {release["state"] for args in done.asked("chart") for release in args["releases"]} == {"absent"}
    assert {one["state"] for args in done.asked("secret") for one in args["secrets"]} == {"absent"}
    assert set(batch(done, "mesh-definitions")["definitions_unless_used"]) >= {"VirtualService", "PeerAuthentication"}
    assert "istio-system" not in json.dumps(batch(done, "foundation"))
    assert "all.pods" not in policies(done, "controller", "controller")


def test_while_proxies_go_the_others_speak_plain_text_and_go_everywhere(
    collections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDED_AS_CHANGED", "mesh-identities")
    done = site(collections, tmp_path, "mesh,controller_policy", {"mesh_enabled": False})
    assert done.rc == 0, done.output
    states = [(one["name"], one.get("state", "present")) for one in done.asked("policy")]
    # After nobody is asked any more, and until the last pod has lost its proxy.
    order = [("mesh-identities", "absent"), ("mesh-leaving", "present"), ("controller", "present")]
    assert states[:3] == order and ("mesh-leaving", "absent") in states[3:]
    leaving = next(one for one in done.asked("policy") if one["name"] == "mesh-leaving")
    found = {(obj["kind"], obj["metadata"]["namespace"]): obj["spec"] for obj in leaving["objects"]}
    for namespace in ("ingress", "controller", "openfaas", "openfaas-fn"):
        rule = found["DestinationRule", namespace]
        assert rule == {"host": f"*.{namespace}.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
        assert found["Sidecar", namespace]["outboundTrafficPolicy"] == {"mode": "ALLOW_ANY"}
    assert len(found) == 8


def test_what_is_wrong_is_told_before_anything_is_asked(collections: Path, tmp_path: Path) -> None:
    given = {
        "mesh_enabled": True,
        "mesh_istiod_min_replicas": 3,
        "mesh_istiod_max_replicas": 2,
        "mesh_proxy_memory": "1Gi",
    }
    done = site(collections, tmp_path, "mesh", {**given, "mesh_namespace": "controller"})
    assert done.rc != 0 and not done.calls
    for told in (
        "the autoscaler's minimum is above its maximum",
        "a pod asks for more than it may have: mesh_proxy_memory",
        "controller_namespace and mesh_namespace are controller",
    ):
        assert told in " ".join(done.output.split()), told


@pytest.mark.parametrize(
    ("given", "turns"), [({}, ["rotate", "switch"]), ({"rotate_cut_off": True}, ["forget"])], ids=["begins", "ends"]
)
def test_its_authority_is_known_before_it_signs_and_the_one_before_ends_in_a_run_of_its_own(
    collections: Path, tmp_path: Path, given: dict[str, Any], turns: list[str]
) -> None:
    wanted = {"mesh_enabled": True, "rotate_mounted_seconds": 0, **given}
    table = f"platform_images_file={ROOT}/tests/images.json"
    options = ("--tags", "mesh_authority", "-e", table, "-e", json.dumps(wanted))
    done = run(collections, "rotate", *options, folder=tmp_path)
    assert done.rc == 0, done.output
    secrets = [one for asked in done.asked("secret") for one in asked["secrets"]]
    assert {one["name"] for one in secrets} == {"cacerts"}
    made = [
        [name for name in ("rotate", "forget") if one.get(name)] + ["switch"] * bool(one["certificate"].get("switch"))
        for one in secrets
    ]
    assert made == [[turn] for turn in turns]


# --- Kiali ------------------------------------------------------------------------------------------------------------

DIGEST = "0123456789abcdef" * 4
KIALI = {
    line
    for line in (Path(__file__).parent / "kiali_values.txt").read_text(encoding="utf-8").splitlines()
    if line[0] != "#"
}


@pytest.fixture(scope="module")
def kiali(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    given = {"mesh_enabled": True, "mesh_kiali_enabled": True, "platform_upstream_images": True}
    digest = {"platform_images": {"kiali": {"repository": "registry.example.com/kiali", "digest": f"sha256:{DIGEST}"}}}
    done = site(collections, tmp_path_factory.mktemp("run"), "mesh", {**given, **digest})
    assert done.rc == 0, done.output
    return done


def leaves(given: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if isinstance(value, dict) and key != "resources":
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_kiali_changes_nothing_and_knows_who_asks(kiali: Run) -> None:
    values = dict(leaves(kiali.release("kiali")["values"]))
    assert values.keys() <= KIALI
    assert values["deployment.view_only_mode"] is True and values["auth.strategy"] == "token"
    assert values["deployment.ingress.enabled"] is False
    assert values["external_services.prometheus.url"] == "http://prometheus.monitoring.svc:9090"
    # As its chart puts the name of an image together: NAME@sha256:VERSION.
    image = [values[f"deployment.image_{part}"] for part in ("name", "digest", "version")]
    assert image == ["registry.example.com/kiali", "sha256", DIGEST]
    # The key by which it signs sessions is made in the cluster, and its values name it alone.
    (secret,) = [
        one for asked in kiali.asked("secret") for one in asked["secrets"] if one["name"] == "kiali-signing-key"
    ]
    assert set(secret["random"]) == {"signing-key"}
    assert values["login_token.signing_key"] == "secret:kiali-signing-key:signing-key"


def test_kiali_is_reached_by_nobody_and_asks_three(kiali: Run) -> None:
    policy = policies(kiali, "mesh", "istio-system")["kiali"]
    assert "ingress" not in policy and ports(policy["egress"]) == {443, 6443, 9090, 15014}


def test_without_kiali_nothing_of_it_is_made(on: Run) -> None:
    assert on.release("kiali")["state"] == "absent"
    assert "kiali" not in json.dumps([on.asked("secret"), on.asked("rollout"), batch(on, "mesh")])


def test_where_its_image_cannot_be_had_it_is_said(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "mesh", {"mesh_enabled": True, "mesh_kiali_enabled": True})
    assert done.rc != 0 and not done.calls
    assert "this cluster cannot have the images of kiali" in " ".join(done.output.split())
