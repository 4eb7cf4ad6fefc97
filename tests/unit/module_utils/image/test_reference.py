"""An image's name has the parts that Docker sees in it."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import Reference, parse
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "a" * 64
HOSTS = ["", "localhost", "localhost:5001", "registry.example.com", "10.0.0.1:5000", "[::1]:5000"]
PART = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)?", fullmatch=True)


@given(
    host=st.sampled_from(HOSTS),
    path=st.lists(PART.filter(lambda part: part != "localhost"), min_size=1, max_size=3),
    tag=st.one_of(st.just(""), st.from_regex(r"v?[0-9]{1,3}([.-][0-9a-z]{1,4}){0,2}", fullmatch=True)),
    digest=st.sampled_from(["", DIGEST]),
)
def test_a_name_is_its_parts(host: str, path: list[str], tag: str, digest: str) -> None:
    name = Reference(host, "/".join(path), tag, digest)
    assert parse(str(name)) == name
    assert name.repository.endswith("/".join(path))


@pytest.mark.parametrize(
    ("name", "explicit"),
    [
        ("redis:8", "docker.io/library/redis:8"),
        ("grafana/grafana:12", "docker.io/grafana/grafana:12"),
        ("localhost:5001/lambda/redis", "localhost:5001/lambda/redis"),
        ("registry.example.com/a/b@" + DIGEST, "registry.example.com/a/b@" + DIGEST),
    ],
)
def test_a_name_without_a_registry_is_dockers(name: str, explicit: str) -> None:
    assert str(parse(name).explicit()) == explicit


def test_only_a_registry_of_this_machine_is_local() -> None:
    for local in ("localhost/a", "localhost:5001/a", "127.0.0.1:5000/a", "[::1]:5000/a"):
        assert parse(local).is_local, local
    for other in ("localhost.example.com:5000/a", "registry.example.com/localhost:5000/a", "a/b", "redis"):
        assert not parse(other).is_local, other
