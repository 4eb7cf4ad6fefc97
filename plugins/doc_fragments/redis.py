# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``redis`` of the modules that look at it (``verify_redis.REDIS_SPEC``)."""

from __future__ import annotations


class ModuleDocFragment:
    """For ``extends_documentation_fragment``."""

    DOCUMENTATION = r"""
options:
  redis:
    description: Redis and its Sentinels, who have to agree on a master. Without it they are not checked.
    type: dict
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      credentials:
        description: A Secret there with username and password of a client of Redis and Sentinel.
        type: str
        default: redis-controller
      servers: {description: The servers' app.kubernetes.io/name., type: str, default: redis}
      server_count: {description: How many there are., type: int, default: 3}
      port: {description: Their port., type: int, default: 6379}
      sentinels: {description: The Sentinels' app.kubernetes.io/name., type: str, default: redis-sentinel}
      sentinel_count: {description: How many there are., type: int, default: 3}
      sentinel_port: {description: Their port., type: int, default: 26379}
      quorum: {description: 'How many must agree, for the report.', type: int, default: 2}
"""
