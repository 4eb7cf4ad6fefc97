# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates the platform's servers serve, and until when."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from functools import partial

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret.certificate import described
from ansible_collections.lambda_microservice.platform.plugins.module_utils.settled.settled import held, unsettled
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    Doubtful,
    Found,
    Passed,
)


def certificates_served(
    cluster: Cluster, servers: list[Object], days: int, wait_seconds: float, now: datetime | None = None
) -> Found:
    """Every server serves what its Secret holds, and that lasts for so many days."""
    # What was renewed a minute ago is on its way.
    lacking = wait_until(
        partial(unsettled, cluster, servers, []), wait_seconds, pause_seconds=5, done=lambda found: not found
    )
    if lacking:
        raise PlatformError(
            "servers do not serve the certificates that their Secrets hold",
            where=", ".join(lacking),
            found="another one",
            expected="that a server reads a renewed certificate within two minutes",
            fix="see the pods' logs; restarted, a pod serves what its Secret holds",
            reason="certificate",
        )
    ends = {server["secret"]: end_of(held(cluster, server)) for server in servers}
    left = {name: (end - (now or datetime.now(UTC))).days for name, end in ends.items()}
    listed = ", ".join(f"{name} {ends[name]:%Y-%m-%d}" for name in sorted(ends))
    soon = sorted(name for name in left if left[name] < days)
    if not soon:
        return Passed(f"they end: {listed}")
    return Doubtful(
        f"{', '.join(soon)} ends within {days} days",
        f"Certificates end soon ({listed}). They are renewed when a third of their time is left: see why the CronJob "
        "certificates (or cert-manager) does not, and run site.yml.",
    )


def end_of(certificate: bytes) -> datetime:
    """When a certificate (DER) ends."""
    return described(ssl.DER_cert_to_PEM_cert(certificate).encode())[1]
