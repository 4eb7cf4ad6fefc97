"""Which images an inventory needs is read from what it would install."""

from __future__ import annotations

from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle.bundle import used

DIGEST = "sha256:" + "a" * 64
TABLE = {
    "redis": "docker.io/library/redis:8.0",
    "redis-exporter": "docker.io/oliver006/redis_exporter:v1",
    "reloader": f"quay.io/reloader:v1@{DIGEST}",
    "unused": "docker.io/library/unused:1",
}


def pod(*images: str) -> dict[str, object]:
    return {"kind": "Pod", "spec": {"containers": [{"name": "one", "image": image} for image in images]}}


def test_what_containers_run_is_found_by_its_name_in_the_table() -> None:
    assert used(TABLE, [pod("docker.io/library/redis:8.0")]) == {"redis": TABLE["redis"]}


def test_what_an_operator_is_told_to_run_is_found_in_its_arguments_and_in_custom_resources() -> None:
    operator = {"spec": {"containers": [{"args": [f"--prometheus-config-reloader={TABLE['reloader']}"]}]}}
    resource = {"kind": "Prometheus", "spec": {"image": TABLE["redis-exporter"]}}
    assert used(TABLE, [operator, [resource]]) == {name: TABLE[name] for name in ("redis-exporter", "reloader")}


def test_a_longer_name_or_tag_is_another_image() -> None:
    argument = {"args": ["--image=docker.io/library/redis:8.0.1", "mirror.example.com/docker.io/library/redis:8.0"]}
    assert used(TABLE, [argument]) == {}


def test_what_the_table_does_not_have_gets_a_name_of_its_own() -> None:
    found = used(TABLE, [pod("ghcr.io/openfaas/gateway:0.27"), pod("example.com/other/gateway:1", TABLE["redis"])])
    assert found == {
        "gateway": "example.com/other/gateway:1",
        "openfaas-gateway": "ghcr.io/openfaas/gateway:0.27",
        "redis": TABLE["redis"],
    }
