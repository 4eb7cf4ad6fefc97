"""Variables that begin like a role's and that no role knows."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.unknown import find_unknown
from hypothesis import assume, given
from hypothesis import strategies as st

from .evaluation import KNOWN, PLAYBOOKS, ROLES

NAMES = [role.name for role in ROLES + PLAYBOOKS]
PUBLIC = sorted(name for name in KNOWN if not name.startswith("_"))


def unknown(*names: str) -> list[str]:
    return [str(error) for error in find_unknown(names, NAMES, KNOWN)]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("runtime_max_replicas", "runtimes_max_replicas"),
        ("data_service_redis_memory", "data_services_redis_memory"),
        ("dataservices_redis_memory", "data_services_redis_memory"),
        ("platfrom_disposable", "platform_disposable"),
        ("controler_min_replicas", "controller_min_replicas"),
        ("ingress_replica", "ingress_replicas"),
        ("platform_disposible", "platform_disposable"),
        ("restore_tiem", "restore_time"),
        ("restore_besides_it", "restore_beside"),
        ("verify_enforcment", "verify_enforcement"),
        ("drill_tag", "drill_tags"),
        ("rotate_client", "rotate_clients"),
        ("images_repo", "images_repository"),
    ],
)
def test_the_nearest_known_one_is_named(name: str, nearest: str):
    (told,) = unknown(name)
    assert f"the variable {name}." in told
    assert f"the nearest is {nearest}." in told
    assert "platform_unknown_variables=allow" in told


def test_a_roles_own_variable_is_never_the_nearest():
    names = [*KNOWN, "__platform_receivers"]
    (error,) = find_unknown(["platform_receivers"], NAMES, names)
    assert "the nearest is __" not in str(error) and "the nearest is " in str(error)


@given(name=st.sampled_from(PUBLIC), at=st.integers(0, 60), letter=st.sampled_from("abcxyz_"))
def test_one_wrong_letter_is_seen(name: str, at: int, letter: str):
    at %= len(name)
    wrong = name[:at] + letter + name[at + 1 :]
    assume(wrong not in KNOWN)
    assume(not wrong.startswith("_"))
    assert len(unknown(wrong)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "image_tag",
        "backup_bucket",
        "verification",
        "app_replicas",
        "run_times",
        "platform",
        "controller",
    ],
)
def test_another_name_is_left_alone(name: str):
    assert unknown(name) == []


def test_every_known_one_is_known():
    assert unknown(*KNOWN) == []
