"""Who made an object, and which names are volumes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import FIELD_MANAGER
from ansible_collections.lambda_microservice.platform.plugins.module_utils.teardown.claims import known
from ansible_collections.lambda_microservice.platform.plugins.module_utils.teardown.teardown import made_by_us
from hypothesis import given
from hypothesis import strategies as st

TIMES = st.sampled_from(["2026-11-30T10:00:00Z", "2026-11-30T10:00:01Z", "2026-11-30T11:00:00Z"])
ENTRIES = st.lists(st.tuples(st.sampled_from([FIELD_MANAGER, "kubectl-create", "helm"]), TIMES))


@given(ENTRIES)
def test_only_what_nobody_wrote_before_is_ours(writers: list[tuple[str, str]]) -> None:
    created = "2026-11-30T10:00:00Z"
    entries: list[dict[str, Any]] = [{"manager": who, "time": when} for who, when in writers]
    entries.append({"manager": "kube-controller-manager", "time": created, "subresource": "status"})
    found = made_by_us({"metadata": {"creationTimestamp": created, "managedFields": entries}})
    ours = any(who == FIELD_MANAGER for who, _when in writers)
    assert found == (ours and not any(who != FIELD_MANAGER and when == created for who, when in writers))


def test_a_name_that_is_no_volume_is_told_with_those_that_are() -> None:
    there = ["data/data-postgresql-0", "data/data-postgresql-1"]
    assert known(there[:1], there, {"data"}) == []
    for wrong in ("data/data-postgres-0", "data-postgresql-0", "data/a/b"):
        with pytest.raises(PlatformError, match="no volume of these components") as raised:
            known([*there, wrong], there, {"data"})
        assert raised.value.found == wrong and there[1] in raised.value.expected


def test_what_an_earlier_run_has_deleted_may_be_named_again() -> None:
    assert known(["data/gone", "queue/there"], ["queue/there"], {"queue"}) == ["data/gone"]
