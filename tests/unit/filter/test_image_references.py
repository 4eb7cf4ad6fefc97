"""The filter image_references."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.image_references import image_references
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER_DIGEST = "sha256:" + "f" * 64
IMAGES = {
    "redis": {"repository": "docker.io/library/redis", "tag": "8.0.2", "digest": DIGEST},
    "controller": {"repository": "ghcr.io/example/controller", "tag": "1.0"},
}


def test_tag_and_digest():
    assert image_references(IMAGES) == {
        "controller": "ghcr.io/example/controller:1.0",
        "redis": f"docker.io/library/redis:8.0.2@{DIGEST}",
    }


def test_digest_alone():
    assert image_references({"a": {"repository": "r.io/a", "digest": DIGEST}}) == {"a": f"r.io/a@{DIGEST}"}


def test_built_takes_the_place_of_the_table():
    built = {
        "redis": {"repository": "localhost:5000/redis", "tag": "abc"},
        "debian": {"repository": "debian", "tag": "t"},
    }
    references = image_references(IMAGES, built)
    assert references["redis"] == "localhost:5000/redis:abc"
    assert references["debian"] == "debian:t"
    assert references["controller"] == "ghcr.io/example/controller:1.0"


def test_an_override_wins_over_built():
    built = {"controller": {"repository": "localhost:5000/controller", "tag": "abc"}}
    assert (
        image_references(IMAGES, built, {"controller": {"tag": "2.0"}})["controller"] == "localhost:5000/controller:2.0"
    )


@pytest.mark.parametrize("change", [{"tag": "8.2"}, {"repository": "quay.io/redis"}])
def test_another_tag_or_repository_drops_the_old_digest(change):
    assert "@" not in image_references(IMAGES, {}, {"redis": change})["redis"]


def test_the_same_tag_keeps_the_digest():
    assert image_references(IMAGES, {}, {"redis": {"tag": "8.0.2"}})["redis"].endswith(f"8.0.2@{DIGEST}")


def test_another_digest_drops_the_old_tag():
    assert image_references(IMAGES, {}, {"redis": {"digest": OTHER_DIGEST}})["redis"] == (
        f"docker.io/library/redis@{OTHER_DIGEST}"
    )


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("docker.io/library/redis", "m.example/x/library/redis"),
        ("library/redis", "m.example/x/library/redis"),
        ("redis", "m.example/x/redis"),
        ("localhost/redis", "m.example/x/redis"),
        ("registry:5000/a/b", "m.example/x/a/b"),
    ],
)
def test_the_registry_takes_the_place_of_the_host(repository, expected):
    images = {"i": {"repository": repository, "tag": "t"}}
    assert image_references(images, registry="m.example/x/") == {"i": f"{expected}:t"}


def test_an_override_with_a_host_stays_and_one_without_follows_the_registry():
    def reference(repository):
        return image_references(IMAGES, {}, {"controller": {"repository": repository}}, "m.example")["controller"]

    assert reference("quay.io/me/controller") == "quay.io/me/controller:1.0"
    assert reference("me/controller") == "m.example/me/controller:1.0"


def test_an_unknown_override_names_the_known_images():
    with pytest.raises(AnsibleFilterError, match="Found: 'contoller'. Expected: only the names controller, redis"):
        image_references(IMAGES, {}, {"contoller": {"tag": "1"}})


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({"repository": "a", "tag": 1.4}, ["images.i.tag", "1.4", "quote"]),
        ({"repository": "a", "tag": "a b"}, ["images.i.tag", "'a b'"]),
        ({"repository": "a:1", "tag": "b"}, ["images.i.repository", "without a tag"]),
        ({"repository": "https://a/b", "tag": "b"}, ["images.i.repository"]),
        ({"repository": "A/b", "tag": "b"}, ["images.i.repository", "'A/b'"]),
        ({"tag": "b"}, ["images.i.repository", "None"]),
        ({"repository": "a"}, ["images.i", "a digest or both"]),
        ({"repository": "a", "digest": "sha256:12"}, ["images.i.digest", "64"]),
        ({"repository": "a", "tag": "b", "name": "c"}, ["images.i", "name", "only repository"]),
        ("a:b", ["images.i", "'a:b'", "dictionary"]),
    ],
)
def test_a_malformed_image_is_named(image, says):
    with pytest.raises(AnsibleFilterError) as error:
        image_references({"i": image})
    for part in says:
        assert part in str(error.value)


def test_a_registry_with_a_scheme_is_refused():
    with pytest.raises(AnsibleFilterError, match="registry is wrong"):
        image_references(IMAGES, registry="https://m.example")


names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
hosts = st.sampled_from(["docker.io", "localhost", "localhost:5000", "r.example.com:443"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(hosts, hosts, paths, names)
def test_changing_the_registry_changes_only_the_host(old, new, path, tag):
    images = {"i": {"repository": f"{old}/{path}", "tag": tag}}
    assert image_references(images, registry=new)["i"] == f"{new}/{path}:{tag}"
    # Applying it twice, as for an image that was already pushed to that registry, changes nothing more.
    assert (
        image_references({"i": {"repository": f"{new}/{path}", "tag": tag}}, registry=new)["i"] == f"{new}/{path}:{tag}"
    )
