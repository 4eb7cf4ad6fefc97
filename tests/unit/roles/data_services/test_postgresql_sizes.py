"""What of PostgreSQL's pods goes by the size of their memory and volumes."""

from __future__ import annotations

from .test_metrics import releases


def test_wal_that_waits_takes_two_fifths_of_the_volume() -> None:
    for storage, most in (("100Gi", 40 << 30), ("512Mi", 214748364)):
        made = releases(data_services_postgresql_storage=storage)["postgresql"]["values"]["repository"]
        assert made["archiveQueueMax"] == most


def test_a_primary_has_the_time_to_write_what_its_memory_holds() -> None:
    for memory, seconds in (("16Gi", 124), ("1Gi", 64), ("64Gi", 316)):
        made = releases(data_services_postgresql_memory=memory)["postgresql"]["values"]["postgresql"]
        assert made["terminationGracePeriodSeconds"] == seconds
