"""A variable has the type of its specification, in whatever form it was given."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible.template import trust_as_template
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import convert
from hypothesis import given, settings
from hypothesis import strategies as st

from .evaluation import DEFAULTS, OPTIONS, ROLES, evaluated

CHECKED, _ = evaluated()
OF_TYPE = {
    wanted: sorted(
        name for name in CHECKED if OPTIONS[name].get("type", "str") == wanted and "choices" not in OPTIONS[name]
    )
    for wanted in ("str", "int", "bool", "list", "dict", "float")
}


def text_of(value: Any) -> str:
    """As a command line, a survey or an inventory in INI gives it."""
    return value if isinstance(value, str) else json.dumps(value)


def converted(name: str, value: Any) -> Any:
    (role,) = [role for role in ROLES if name in role.options]
    converted, wrong = convert(role, name, value)
    assert wrong is None
    return converted


def test_the_defaults_have_their_types():
    values, wrong = evaluated()
    assert not wrong
    assert values.keys() == DEFAULTS.keys() & OPTIONS.keys()
    python = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict, "float": int | float}
    for name, value in values.items():
        if value is not None:
            assert isinstance(value, python[OPTIONS[name].get("type", "str")]), name
            assert OPTIONS[name].get("type") == "bool" or not isinstance(value, bool), name


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_a_text_says_the_same_as_the_value(name: str):
    if CHECKED[name] is None:
        return
    value = converted(name, text_of(CHECKED[name]))
    assert value == CHECKED[name]
    assert type(value) is type(CHECKED[name])


@given(name=st.sampled_from(OF_TYPE["bool"]), word=st.sampled_from(["false", "False", "no", "off", "0", False, 0]))
def test_no_is_false(name: str, word: Any):
    assert converted(name, word) is False


@given(name=st.sampled_from(OF_TYPE["int"]), number=st.integers(0, 10**6))
def test_a_number_is_one(name: str, number: int):
    value = converted(name, str(number))
    assert value == number
    assert type(value) is int


@given(name=st.sampled_from(OF_TYPE["str"]), number=st.integers(0, 10**6))
def test_a_text_stays_one_where_an_inventory_made_it_a_number(name: str, number: int):
    assert converted(name, number) == str(number)


@settings(max_examples=10)
@given(seconds=st.integers(1, 3600))
def test_what_is_made_of_a_text_is_made_of_its_value(seconds: int):
    values, wrong = evaluated(runtimes_timeout_seconds=str(seconds))
    assert not wrong
    assert values["runtimes_default_timeout_seconds"] == min(seconds, 30)
    assert values["controller_runtime_timeout_seconds"] == seconds
    assert values["ingress_timeout_seconds"] == seconds + 5


def test_by_way_of_a_variable_of_the_users_own():
    values, wrong = evaluated(
        site_seconds="40",
        site_limit=trust_as_template("{{ site_seconds }}"),
        runtimes_timeout_seconds=trust_as_template("{{ site_limit }}"),
    )
    assert not wrong
    assert (values["runtimes_timeout_seconds"], values["ingress_timeout_seconds"]) == (40, 45)


def test_a_list_in_a_line():
    assert converted("ingress_tls_names", "a.example, b.example") == ["a.example", "b.example"]


@pytest.mark.parametrize(("given", "default"), [(0, False), (1, True)])
def test_a_number_that_equals_the_default_is_no_boolean(given: int, default: bool):
    name = next(name for name in OF_TYPE["bool"] if DEFAULTS[name] is default)
    assert evaluated(**{name: given})[0][name] is default


def test_options_that_nobody_gave_are_not_there():
    values, wrong = evaluated(data_services_postgresql_backup_s3={"bucket": "b", "port": "9000"})
    assert not wrong
    assert values["data_services_postgresql_backup_s3"] == {"bucket": "b", "port": 9000}


def test_a_client_s_numbers():
    values, wrong = evaluated(data_services_postgresql_clients={"app": {"connections": "4", "pool": "2"}})
    assert not wrong
    assert values["data_services_postgresql_clients"] == {"app": {"connections": 4, "pool": 2}}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ingress_replicas": "many"}, "ingress_replicas is not what its specification says.*many.*Expected: int"),
        ({"ingress_http3": "perhaps"}, "ingress_http3 .*Expected: bool"),
        ({"ingress_tls_source": "magic"}, "ingress_tls_source .*Expected: str: self_signed, secret, cert_manager"),
        ({"runtimes_languages": [{"nam": "go"}]}, "runtimes_languages .*nam"),
        ({"foundation_priority_classes": [{"name": "a", "value": "b"}]}, "foundation_priority_classes"),
        ({"data_services_postgresql_clients": {"app": {"pool": 1}}}, "app: missing required arguments: connections"),
        ({"data_services_redis_clients": {"app": {"rules": "+get"}}}, "app: rules"),
        ({"controller_max_replicas": None}, "controller_max_replicas"),
        (
            {"ingress_https_port": trust_as_template("{{ nobody_has_it }}")},
            "ingress_https_port cannot be read.*nobody_has_it",
        ),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any], told: str):
    (error,) = evaluated(**wrong)[1]
    assert re.search(told, str(error)), str(error)


def test_all_wrong_values_are_named_and_what_is_made_of_them_is_not():
    _, wrong = evaluated(runtimes_timeout_seconds="long", ingress_replicas="few", controller_env="x")
    assert [str(error).split()[0] for error in wrong] == [
        "controller_env",
        "ingress_replicas",
        "runtimes_timeout_seconds",
    ]
