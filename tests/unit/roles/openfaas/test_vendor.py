"""The editions community and pro: what their chart is asked for, by names that it knows, and what stands around it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.unit.variables.evaluation import evaluated, found
from tests.unit.variables.rendering import Run, collection_without_cluster, run

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[3]
TABLE = "platform_images_file=" + str(ROOT / "tests" / "images.json")
NAMES = {line for line in (FOLDER / "vendor_values.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"}


def namespaces(**levels: str) -> list[dict[str, str]]:
    """Those of the defaults with other levels, and one for the vendor's functions."""
    made = [dict(entry) for entry in evaluated()[0]["foundation_namespaces"]]
    made.append({"name": "openfaas-functions", "pod_security": "baseline"})
    for entry in made:
        level = levels.get(entry["name"].replace("-", "_"))
        if level:
            entry["pod_security"] = level
    return made


def accepted(edition: str, **given: Any) -> dict[str, Any]:
    return {
        "openfaas_edition": edition,
        "openfaas_accept_license": edition,
        "foundation_namespaces": namespaces(),
        **given,
    }


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


@pytest.fixture(scope="module")
def runs(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """One run of site.yml an edition; community's with the edge and the namespaces."""

    @cache
    def site(edition: str) -> Run:
        given = accepted(edition, ingress_accept_anonymous=True, openfaas_vendor_registry="registry.example.com/copies")
        tags = "openfaas,foundation,ingress_chart" if edition == "community" else "openfaas"
        arguments = ("--tags", tags, "-e", TABLE, "-e", json.dumps(given))
        folder = tmp_path_factory.mktemp(edition)
        done = run(collections, "site", *arguments, folder=folder, inventory="staging")
        assert done.rc == 0, done.output
        return done

    return site


def of_role(done: Run, module: str) -> dict[str, Any]:
    """What the role openfaas asked a module for."""
    (found,) = [args for args in done.asked(module) if args.get("name", "openfaas") == "openfaas" and asks(args)]
    return found


def asks(args: dict[str, Any]) -> bool:
    releases = [release["name"] for release in args.get("releases", ())]
    secrets = [secret["name"] for secret in args.get("secrets", ())]
    return not (releases or secrets) or "openfaas" in releases or "basic-auth" in secrets


def leaves(values: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in values.items():
        path = f"{at}.{name}" if at else name
        if isinstance(value, dict) and value and path not in NAMES:
            yield from leaves(value, path)
        else:
            yield path


@pytest.mark.parametrize("edition", ["community", "pro"])
def test_the_vendor_s_chart_reads_every_value_that_it_is_given(runs: Callable[[str], Run], edition: str) -> None:
    release = runs(edition).release("openfaas-vendor")
    assert release["version"] == "15.0.6" and release["repository"].startswith("https://")
    assert set(leaves(release["values"])) <= NAMES


def test_a_name_that_the_chart_does_not_read_is_found() -> None:
    assert set(leaves({"gateway": {"replicaCount": 3}})) - NAMES == {"gateway.replicaCount"}
    # What is below a value that is taken whole is the chart's pods' own.
    assert set(leaves({"gateway": {"resources": {"limits": {"memory": "4Gi"}}}})) <= NAMES


@pytest.mark.skipif(
    "OPENFAAS_CHART" not in os.environ, reason="the vendor's chart is not shipped: OPENFAAS_CHART names its folder"
)
def test_the_names_are_those_of_the_chart_at_hand() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(os.environ["OPENFAAS_CHART"], "templates").iterdir()]
    read = {name.rstrip(".") for text in texts for name in re.findall(r"\.Values\.([A-Za-z][A-Za-z0-9_.]*)", text)}
    assert read - {"someImage"} == NAMES


def test_the_design_s_numbers_and_limits_that_nest(runs: Callable[[str], Run]) -> None:
    done = runs("pro")
    values = done.release("openfaas-vendor")["values"]
    gateway = values["gateway"]
    assert (gateway["replicas"], values["queueWorker"]["replicas"]) == (3, 2)
    assert gateway["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
    seconds = [int(gateway[name].rstrip("s")) for name in ("upstreamTimeout", "readTimeout", "writeTimeout")]
    assert seconds == [33, 34, 34] and values["faasnetes"]["writeTimeout"] == "33s"
    # Two that scale one workload would undo each other.
    assert values["alertmanager"] == {"create": False} and gateway["scaleFromZero"] is False
    batch = of_role(done, "policy")
    objects = {(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in batch["objects"]}
    scaler = objects["HorizontalPodAutoscaler", "openfaas", "gateway"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 6)
    assert scaler["metrics"][0]["containerResource"]["container"] == "gateway"
    assert {name for kind, _namespace, name in objects if kind == "PodDisruptionBudget"} == {"gateway", "queue-worker"}
    waited = of_role(done, "rollout")
    names = {one["name"] for one in waited["workloads"]}
    assert names == {"gateway", "prometheus", "nats", "queue-worker", "autoscaler"}


def test_its_pods_are_known_by_their_own_label(runs: Callable[[str], Run]) -> None:
    done = runs("community")
    batch = of_role(done, "policy")
    policies = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["spec"]
        for obj in batch["objects"]
        if obj["kind"] == "NetworkPolicy"
    }
    assert set(policies) == {
        ("openfaas", "gateway"),
        ("openfaas", "prometheus"),
        ("openfaas-functions", "all.pods"),
    }
    assert policies["openfaas", "gateway"]["podSelector"] == {"matchLabels": {"app": "gateway"}}
    ((peer,),) = [rule["from"] for rule in policies["openfaas-functions", "all.pods"]["ingress"]]
    assert peer["podSelector"] == {"matchLabels": {"app": "gateway"}}
    # Nothing of ours is left for it: no rights in the runtimes' namespace, no passwords of NATS.
    assert not [obj for obj in batch["objects"] if obj["kind"] == "Role"]
    asked = of_role(done, "secret")
    assert [secret["name"] for secret in asked["secrets"]] == ["basic-auth"]


def test_the_other_edition_goes_first(runs: Callable[[str], Run]) -> None:
    asked = of_role(runs("community"), "chart")
    after = {release["name"]: (release["state"], set(release.get("after", ()))) for release in asked["releases"]}
    assert after["openfaas"] == after["nats"] == ("absent", set())
    assert after["openfaas-vendor"] == ("present", {"openfaas", "nats"})


def test_the_edge_leads_to_the_vendor_s_service(runs: Callable[[str], Run]) -> None:
    done = runs("community")
    assert "gateway.openfaas.svc.cluster.local" in json.dumps(done.release("envoy")["values"]["configuration"])


def test_a_function_that_names_no_memory_gets_256_mi(runs: Callable[[str], Run]) -> None:
    done = runs("community")
    limits = [
        obj["spec"]["limits"]
        for batch in done.asked("policy")
        for obj in batch["objects"]
        if (obj["kind"], obj["metadata"].get("namespace")) == ("LimitRange", "openfaas-functions")
    ]
    assert [limit["default"] for (limit,) in limits] == [{"memory": "256Mi"}]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"openfaas_edition": "community"}, "the licence of OpenFaaS community is not accepted"),
        (
            {**accepted("community"), "openfaas_accept_license": "pro"},
            "commercial use for 60 days.*15 functions of at most 5",
        ),
        ({**accepted("pro"), "openfaas_accept_license": ""}, "Secret openfaas-license"),
        ({**accepted("pro"), "openfaas_vendor_functions_in": "openfaas-fn"}, "which is the runtimes'"),
        (accepted("pro", foundation_namespaces=namespaces(openfaas_functions="restricted")), "makes restricted"),
        ({**accepted("pro"), "openfaas_vendor_functions_in": "shop"}, "foundation_namespaces does not make"),
        (accepted("community", openfaas_vendor_async=True), "openfaas_vendor_async true"),
    ],
)
def test_what_must_be_accepted_by_name_is(given: dict[str, Any], names: str) -> None:
    text = "\n".join(str(error) for error in found(**given))
    assert re.search(names, text, re.DOTALL), text


@pytest.mark.parametrize(
    "given",
    [
        accepted("pro"),
        accepted("community"),
        accepted("community", openfaas_vendor_async=True, foundation_namespaces=namespaces(openfaas="baseline")),
    ],
)
def test_what_is_accepted_may_be_installed(given: dict[str, Any]) -> None:
    assert not [str(error) for error in found(**given)]
