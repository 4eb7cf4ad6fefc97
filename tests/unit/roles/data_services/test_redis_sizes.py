"""What of Redis' pods goes by the size of their memory."""

from __future__ import annotations

import pytest

from .test_metrics import releases


@pytest.mark.parametrize(("memory", "mib"), [("8Gi", 512), ("1Gi", 64)])
def test_what_may_wait_for_a_replica_is_a_part_of_what_is_beside_the_data(memory: str, mib: int) -> None:
    redis = releases(data_services_redis_memory=memory)["redis"]["values"]["redis"]
    assert redis["configuration"]["client-output-buffer-limit"] == f"replica {mib << 20} 0 0"
