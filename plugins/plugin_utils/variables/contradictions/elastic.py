# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs' backend elastic: its licence, how long logs are kept, and the bucket of its snapshots."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    NotChecked,
    Values,
    contradiction,
)

_AGES = ("rollover", "warm", "cold", "delete")
_BUCKET = "logging_elasticsearch_snapshot_s3"
_BUCKET_NEEDS = ("bucket", "endpoint", "region", "secret")


def _wanted(values: Values) -> None:
    if not values["logging_enabled"] or values["logging_backend"] != "elastic":
        raise NotChecked("logging_backend")


def _licence(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    if not values["logging_accept_elastic_license"]:
        yield contradiction(
            "the Elastic License 2.0 is not accepted",
            "logging_backend elastic, logging_accept_elastic_license false",
            "that you accept the licence of Elasticsearch, Kibana, Logstash, Filebeat and their operator "
            "(https://www.elastic.co/licensing/elastic-license)",
            "read it, and set logging_accept_elastic_license to true; or take logging_backend victorialogs, which is "
            "under the Apache License 2.0",
        )


def _ages(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    days = [values[f"logging_elasticsearch_{age}_days"] for age in _AGES]
    # Warm, cold and deletion count from the end of an index.
    if days[0] < 1 or not 0 < days[1] < days[2] < days[3]:
        yield contradiction(
            "logs cannot age in this order",
            ", ".join(f"logging_elasticsearch_{age}_days {number}" for age, number in zip(_AGES, days, strict=True)),
            "rollover_days 1 or more, and warm_days before cold_days before delete_days",
            "correct them",
        )


def _bucket(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    bucket = values[_BUCKET]
    missing = [name for name in _BUCKET_NEEDS if not bucket.get(name)]
    if bucket and missing:
        yield contradiction(
            "Elasticsearch cannot reach the bucket of its snapshots",
            f"{_BUCKET} without {', '.join(missing)}",
            ", ".join(_BUCKET_NEEDS) + " in it; path, port, uri_style and addresses as needed",
            f"complete {_BUCKET}, or leave it empty for no snapshots",
        )


def _image_version(values: Values) -> Iterator[PlatformError]:
    """The operator goes by a version that it cannot read out of an image."""
    _wanted(values)
    change = values["platform_images"].get("elasticsearch", {})
    if change.get("digest") and not change.get("tag"):
        yield contradiction(
            "the version of Elasticsearch is not known", "platform_images.elasticsearch has a digest and no tag",
            "the tag of that digest beside it", "add tag to platform_images.elasticsearch",
        )  # fmt: skip


CHECKS = (_licence, _ages, _bucket, _image_version)
