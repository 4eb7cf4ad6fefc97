"""The quotas of every inventory have room for what its variables make, at the most and while it is updated."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.filter.resource_quotas import resource_quotas
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions import quotas
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from .evaluation import OPTIONS, OWN, evaluated
from .rendering import ROOT

INVENTORIES = sorted(path for path in (ROOT / "inventories").iterdir() if path.is_dir())
COMPUTED = ("ingress", "controller", "runtimes", "data_services")


def values_of(inventory: Path | None = None, **changes: Any) -> Values:
    read: dict[str, Any] = {}
    for file in sorted((inventory / "group_vars" / "all").glob("*.yml")) if inventory else ():
        read |= yaml.safe_load(file.read_text(encoding="utf-8"))
    # Ports and paths of the local cluster, which quotas do not ask for, are made of variables that a run has.
    ours = {name: value for name, value in read.items() if name in OPTIONS and "cluster_" not in str(value)}
    found, wrong = evaluated(inventory_dir=str(inventory), **{**ours, **changes})
    assert not wrong
    return Values({**OWN, **found})


def needs(values: Values, resource: str, namespace: str) -> Decimal:
    """What is asked for at once: a pod counts until it is gone, and as many end as an update adds."""
    return sum(
        (workload.needs(resource) for workload in quotas.workloads(values) if workload.namespace == namespace),
        Decimal(0),
    )


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_each_inventory_has_room_at_its_maximum_and_in_an_update(inventory: Path) -> None:
    values = values_of(inventory)
    hard = resource_quotas(values)
    for role in COMPUTED:
        namespace = values[f"{role}_namespace"]
        for resource in ("requests.cpu", "requests.memory", "pods"):
            has = quantity(hard[namespace][resource])
            assert has is not None
            assert has >= needs(values, resource, namespace) > 0, (namespace, resource)


def test_the_designs_sizes_and_what_was_refused_before() -> None:
    """10 CPUs, 28 and 80 pods were full when pods of the new revision were to come beside those that ended."""
    values = values_of(ROOT / "inventories" / "production-eks", mesh_enabled=False)
    # Three Envoys of 2 CPUs, one more and one that ends; ten controllers and two; three times 20 runtimes and 10.
    assert needs(values, "requests.cpu", "ingress") == 5 * 2 + 4 * Decimal("0.25")
    assert needs(values, "requests.cpu", "controller") == 12 * 2
    assert needs(values, "pods", "openfaas-fn") == 3 * 30
    hard = resource_quotas(values)
    assert hard["ingress"]["requests.cpu"] == "14"
    assert hard["controller"]["requests.cpu"] == "31"
    # A hundred functions in containers, of 50m and 256Mi, beside the runtimes.
    assert hard["openfaas-fn"] == {"requests.cpu": "119", "requests.memory": "257Gi", "pods": "238"}
    # Room for one more Redis and one more PostgreSQL, which hold a copy while it is put back.
    spare = quantity(hard["data-services"]["requests.cpu"]) - needs(values, "requests.cpu", "data-services")
    assert spare >= 2 + 4


def test_each_pod_of_the_mesh_has_a_proxy_and_its_control_plane_a_quota() -> None:
    without = values_of(ROOT / "inventories" / "production-eks", mesh_enabled=False)
    values = values_of(ROOT / "inventories" / "production-eks")
    for namespace in ("ingress", "controller", "openfaas-fn", "openfaas"):
        more = needs(values, "requests.cpu", namespace) - needs(without, "requests.cpu", namespace)
        assert more == needs(values, "pods", namespace) * Decimal("0.1"), namespace
    for resource in ("requests.cpu", "requests.memory", "pods"):
        assert needs(values, resource, "data-services") == needs(without, resource, "data-services")
    # Five of 200m at the most, one more in an update and one that ends; and a quarter more.
    assert resource_quotas(values)["istio-system"] == {"requests.cpu": "2", "requests.memory": "5Gi", "pods": "9"}
    assert "istio-system" not in resource_quotas(without)


@settings(max_examples=25, deadline=None)
@given(
    replicas=st.integers(1, 200),
    cpu=st.integers(1, 8000),
    memory=st.integers(1, 64),
    surge=st.sampled_from([1, 3, "10%", "25%", "100%"]),
)
def test_a_quota_grows_with_what_it_is_for(replicas: int, cpu: int, memory: int, surge: int | str) -> None:
    values = Values(
        {
            **BASE,
            "controller_max_replicas": replicas,
            "controller_cpu": f"{cpu}m",
            "controller_memory": f"{memory}Gi",
            "controller_values": {"strategy": {"rollingUpdate": {"maxSurge": surge}}},
        }
    )
    hard = resource_quotas(values)["controller"]
    more = surge if isinstance(surge, int) else -(-replicas * int(surge.rstrip("%")) // 100)
    pods = replicas + 2 * more
    assert int(hard["pods"]) >= pods
    assert int(hard["requests.cpu"]) * 1000 >= pods * cpu
    assert int(hard["requests.memory"].removesuffix("Gi")) >= pods * memory


BASE = values_of()


def test_what_is_named_holds_and_empty_is_none() -> None:
    given_quotas = {"controller": {"pods": "99"}, "openfaas-fn": {}, "monitoring": {"pods": "5"}}
    hard = resource_quotas(Values({**BASE, "foundation_resource_quotas": given_quotas}))
    assert hard["controller"] == {"pods": "99"}
    assert "openfaas-fn" not in hard
    assert hard["monitoring"] == {"pods": "5"}
    assert "openfaas" not in hard
    assert hard["ingress"] == resource_quotas(BASE)["ingress"]
