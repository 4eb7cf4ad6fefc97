"""Which containers run something else than their images' names say."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.images import (
    Templates,
    differences,
    digest_of,
)
from hypothesis import given
from hypothesis import strategies as st

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
LABELS = {"app.kubernetes.io/name": "web"}


def templates(image: str) -> Templates:
    found = Templates()
    pod = {"spec": {"containers": [{"name": "c", "image": image}]}}
    spec = {"selector": {"matchLabels": LABELS}, "template": pod}
    found.add("web", "one", {"kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    found.add("web", "one", {"kind": "Service", "metadata": {"name": "web"}, "spec": {}})
    return found


def pod(image: str, image_id: str, **metadata: Any) -> dict[str, Any]:
    statuses = [{"name": "c", "imageID": image_id}, {"name": "istio-proxy", "imageID": "proxy@sha256:0"}]
    about = {"name": "web-1", "namespace": "one", "labels": {**LABELS, "more": "x"}, **metadata}
    return {"metadata": about, "spec": {"containers": [{"name": "c", "image": image}]},
            "status": {"containerStatuses": statuses}}  # fmt: skip


def told(image: str, *pods: dict[str, Any]) -> list[str]:
    return [one.note for one in differences(pods, templates(image))]


@given(HEX, HEX, st.sampled_from(["registry.example.com/web", "localhost:5001/a/web"]))
def test_a_digest_is_compared_and_only_where_both_have_one(one: str, other: str, name: str) -> None:
    image = f"{name}@sha256:{one}"
    assert told(image, pod(image, image), pod(image, f"docker-pullable://{image}")) == []
    # Of another registry, or loaded by hand: the digest of its configuration says nothing.
    assert told(image, pod(image, f"mirror/web@sha256:{one}"), pod(image, f"sha256:{other}"), pod(image, "")) == []
    found = told(image, pod(image, f"{name}@sha256:{other}"), pod(image, f"{name}@sha256:{other}"))
    assert found == ([] if one == other else [f"runs sha256:{other}, the inventory has sha256:{one} (2 pods)"])


def test_a_pod_of_another_template_is_told() -> None:
    assert told("web:2", pod("web:1", "x@sha256:1")) == ["runs web:1, the inventory has web:2 (1 pod)"]


def test_one_name_is_one_image_on_all_nodes() -> None:
    assert told("web:2", pod("web:2", "x@sha256:1"), pod("web:2", "x@sha256:1")) == []
    assert told("web:2", pod("web:2", "x@sha256:1"), pod("web:2", "x@sha256:2")) == [
        "web:2 is 2 images: sha256:1, sha256:2"
    ]


def test_pods_of_others_and_pods_that_end_do_not_count() -> None:
    ending = pod("web:1", "x@sha256:1", deletionTimestamp="2026-11-30T00:00:00Z")
    elsewhere = pod("web:1", "x@sha256:1", namespace="two")
    assert told("web:2", ending, elsewhere, pod("web:1", "x@sha256:1", labels={})) == []


def test_what_is_no_digest_is_none() -> None:
    assert [digest_of(text) for text in ("", "web:1", "web@sha256:ab", "sha256:ab")] == [
        "",
        "",
        "sha256:ab",
        "sha256:ab",
    ]
