"""The report as a page and as a table, and what stops a rehearsal before it begins."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import page, rehearse, table
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.site import (
    OWN_IMAGES,
    images,
    overrides,
)

from .test_nodes import FILES, POOL, TYPES

NODE = {
    "name": "general-a-1",
    "zone": "a",
    "cpu": 7.9,
    "memory_gib": 29.0,
    "pods": [{"name": "web-<1>", "namespace": "shop", "cpu": 1.0, "memory_gib": 2.0}],
}
LOSS = {
    "what": "a lost",
    "moved": [{"workload": "Deployment shop/web", "from": "general-a-1", "to": "general-b-1"}],
    "waiting": [{"workload": "StatefulSet shop/db", "pods": 1, "why": "volume node affinity conflict"}],
    "seconds": 2.5,
    "refusals": 0,
    "unfinished": [],
    "before": [NODE],
    "after": [],
}
REPORT = {
    "inventory": "production-eks",
    "pools": [],
    "promises": [
        {"check": "scheduled", "result": "holds", "sentence": "all 9 pods have a node", "seen": [], "to_do": ""},
        {"check": "drain", "result": "fails", "sentence": "a node cannot be drained", "seen": ["<b>"], "to_do": "more"},
        {"check": "maxima", "result": "accepted", "sentence": "7 wait", "seen": ["7"], "to_do": "more"},
    ],
    "losses": {"zones": [LOSS], "nodes": []},
    "states": {"rest": [NODE]},
    "not_rehearsed": ["Images are not pulled."],
    "seconds": {"all": 300.0},
}


class Closed(HTMLParser):
    """Every element that is opened is closed, in order."""

    VOID = {"meta", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_says_what_does_not_hold():
    drawn = page.drawn(REPORT, ":root {}")
    reader = Closed()
    reader.feed(drawn)
    assert reader.open == []
    assert "1 of 3 promises hold, 1 are given up by the inventory, 1 do not hold." in drawn
    assert "does not hold</b><div>a node cannot be drained" in drawn
    assert "&lt;b&gt;" in drawn and "<li><b></li>" not in drawn
    assert "web-&lt;1&gt;" in drawn
    assert "1 of StatefulSet shop/db wait: volume node affinity conflict" in drawn
    assert "Images are not pulled." in drawn
    assert "http" not in drawn.replace("http-equiv", "")


def test_the_table_names_promises_losses_and_what_is_not_rehearsed():
    text = "\n".join(table.lines(REPORT))
    assert "FAILS     drain: a node cannot be drained" in text
    assert "to do: more" in text
    assert "a lost" in text
    assert "- Images are not pulled." in text


def test_moved_pods_are_told_by_workload():
    moved = [{"workload": "web", "from": "1", "to": to} for to in ("2", "2", "")]
    assert table.moved_to({"moved": moved}) == ["web to 2 (2), nowhere yet"]


# --- before anything is started ---------------------------------------------------------------------------------------


def problems(**changes) -> str:
    params = {
        "node_pools": [POOL],
        "variables": {},
        "accept": [],
        "clouds": str(FILES / "rehearsal"),
        "components": [],
        "helm_binary": "true",
        **changes,
    }
    return "\n".join(str(one) for one in rehearse.wrong(params, changes.pop("types", TYPES)))


def component(**spec) -> list[dict]:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [{"name": "web", "resources": {"requests": spec}}]}}},
    }
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 5, "maxReplicas": 2},
    }
    return [{"name": "shop", "objects": [deployment, scaler], "releases": [], "unknown": []}]


def test_a_good_inventory_has_no_problem():
    assert problems() == ""


def test_all_that_is_wrong_is_named_at_once():
    told = problems(
        node_pools=[POOL],
        variables={
            "platform_zones": ["us-east-1a", "us-east-1z"],
            "problems": [{"what": "4gb is no quantity", "reason": "argument"}],
        },
        accept=["everything"],
        components=component(cpu="9", memory="1Gi"),
    )
    assert "4gb is no quantity" in told
    assert "us-east-1z" in told
    assert "rehearse_accept names what is no promise" in told
    assert "no node is large enough for a pod. Where: Deployment shop/web" in told
    assert "an autoscaler's minimum is above its maximum" in told


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([], "nobody knows which nodes the cluster has"),
        ([{**POOL, "type": "huge"}], "nobody knows what a node of the type has"),
        ([{**POOL, "max_count": 1, "min_count": 1}], "a zone has no node"),
        ([POOL, {**POOL, "name": "other", "type": "e2-standard-8"}], "nobody knows what the cloud brings"),
    ],
)
def test_wrong_pools(pools, expected):
    assert expected in problems(node_pools=pools)


def test_an_operator_that_asks_its_pods_is_not_rehearsed():
    assert "Elasticsearch cannot be rehearsed" in problems(
        variables={"logging_enabled": True, "logging_backend": "elastic"}
    )


def test_site_yml_speaks_to_the_rehearsal_s_cluster_with_made_up_images():
    over = overrides("kubeconfig", "kind-rehearse", "images.json", ["backups"])
    assert over["platform_context"] == "kind-rehearse"
    assert over["preflight_ignore"] == ["backups", "metrics"]
    table_of_images = images(OWN_IMAGES)
    assert table_of_images["controller"]["digest"] != table_of_images["postgresql"]["digest"]


def test_every_image_without_an_upstream_is_made_up():
    known = yaml.safe_load((FILES.parents[2] / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))
    rows = known["__platform_images"].items()
    assert set(OWN_IMAGES) == {name for name, row in rows if row["repository"].startswith("lambda-microservice/")}
