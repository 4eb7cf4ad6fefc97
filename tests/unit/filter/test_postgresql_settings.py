"""PostgreSQL's settings and the budget of its connections, as the filters of those names derive them."""

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.postgresql_connections import (
    postgresql_connections,
)
from ansible_collections.lambda_microservice.platform.plugins.filter.postgresql_settings import postgresql_settings
from hypothesis import given
from hypothesis import strategies as st

UNITS = {"kB": 1024, "MB": 1024**2, "GB": 1024**3}


def size(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]*)(kB|MB|GB)", text)
    assert match, f"{text!r} is no size as postgresql.conf reads it"
    return int(match[1]) * UNITS[match[2]]


def test_the_default_pod():
    assert postgresql_settings({}, memory="16Gi", cpu="4", storage="100Gi", max_connections=200) == {
        "max_connections": 200,
        "shared_buffers": "4GB",
        "effective_cache_size": "12GB",
        "work_mem": "15728kB",
        "maintenance_work_mem": "512MB",
        "max_worker_processes": 8,
        "max_parallel_workers": 4,
        "max_parallel_workers_per_gather": 2,
        "max_parallel_maintenance_workers": 2,
        "max_wal_size": "10GB",
        "min_wal_size": "2560MB",
        "max_slot_wal_keep_size": "20GB",
    }


@given(
    memory=st.integers(128, 1024 * 1024),
    cpu=st.integers(1, 128_000),
    storage=st.integers(512, 16 * 1024 * 1024),
    max_connections=st.integers(25, 5000),
)
def test_what_is_derived_fits_into_the_pod(memory, cpu, storage, max_connections):
    derived = postgresql_settings(
        {}, memory=f"{memory}Mi", cpu=f"{cpu}m", storage=f"{storage}Mi", max_connections=max_connections
    )
    has, disk = memory * 1024**2, storage * 1024**2
    assert has / 5 <= size(derived["shared_buffers"]) <= has / 4
    assert size(derived["shared_buffers"]) < size(derived["effective_cache_size"]) < has
    sorts = max_connections * size(derived["work_mem"])
    # 64 kB is the least that PostgreSQL takes.
    assert sorts + size(derived["shared_buffers"]) < has or derived["work_mem"] == "64kB"
    assert 3 * size(derived["maintenance_work_mem"]) < has / 4
    assert size(derived["min_wal_size"]) <= size(derived["max_wal_size"])
    assert size(derived["min_wal_size"]) >= 2 * 16 * 1024**2
    assert size(derived["max_wal_size"]) + size(derived["max_slot_wal_keep_size"]) <= disk * 0.4
    assert derived["max_parallel_workers_per_gather"] <= derived["max_parallel_workers"]
    assert derived["max_parallel_workers"] < derived["max_worker_processes"]


def test_a_parameter_of_the_user_wins_and_a_null_leaves_the_default():
    overrides = {"work_mem": "1MB", "max_wal_size": None, "jit": "off"}
    made = postgresql_settings(overrides, memory="1Gi", cpu="1", storage="10Gi", max_connections=50)
    assert (made["work_mem"], made["jit"]) == ("1MB", "off")
    assert "max_wal_size" not in made


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"memory": "64Mi"}, "data_services_postgresql_memory"),
        ({"memory": "16 GB"}, "memory is no quantity"),
        ({"storage": "100Mi"}, "data_services_postgresql_storage"),
        ({"max_connections": 24}, "25 or more.*data_services_postgresql_max_connections"),
    ],
)
def test_a_wrong_value_is_named(wrong, told):
    given_values = {"memory": "1Gi", "cpu": "1", "storage": "10Gi", "max_connections": 50}
    with pytest.raises(AnsibleFilterError, match=told):
        postgresql_settings({}, **{**given_values, **wrong})


def budget(clients, **options):
    return postgresql_connections(
        clients, **{"poolers": 2, "max_client_connections": 1000, "max_connections": 200, "reserve": 20, **options}
    )


def test_a_budget_that_fits_gives_each_role_its_limit():
    clients = {"controller": {"connections": 100, "pool": 20}, "migrator": {"connections": 4, "pool": 2}}
    assert budget(clients) == {"controller": 60, "migrator": 6}


def test_what_does_not_fit_into_postgresql_is_told_in_numbers():
    clients = {"controller": {"connections": 400, "pool": 70}}
    with pytest.raises(AnsibleFilterError) as told:
        budget(clients)
    for number in ("controller 210", "400 at PgBouncer", "reserve 20 = 230", "max_connections 200"):
        assert number in str(told.value)


def test_one_pgbouncer_must_take_all_clients():
    clients = {"controller": {"connections": 900, "pool": 10}, "other": {"connections": 200, "pool": 1}}
    with pytest.raises(AnsibleFilterError, match=r"controller 900 \+ other 200 = 1100 .* max_client_conn 1000"):
        budget(clients)


@given(
    clients=st.dictionaries(
        st.sampled_from("abcde"),
        st.fixed_dictionaries({"connections": st.integers(1, 500), "pool": st.integers(1, 100)}),
        min_size=1,
    ),
    poolers=st.integers(1, 5),
)
def test_an_accepted_budget_can_be_opened_at_once(clients, poolers):
    try:
        limits = budget(clients, poolers=poolers)
    except AnsibleFilterError:
        return
    opened = sum(min(client["connections"], poolers * client["pool"]) for client in clients.values())
    assert opened <= 180
    assert sum(client["connections"] for client in clients.values()) <= 1000
    assert all(limits[name] >= poolers * client["pool"] for name, client in clients.items())


def test_a_client_whose_password_is_rotated_needs_room_for_both_of_its_logins():
    clients = {"controller": {"connections": 100, "pool": 20}, "migrator": {"connections": 4, "pool": 2}}
    assert budget(clients, max_connections=84)
    assert budget(clients, max_connections=124, rotated=["controller"])
    with pytest.raises(AnsibleFilterError, match=r"pools of 20, for both logins.*= 124, max_connections 123"):
        budget(clients, max_connections=123, rotated=["controller"])
