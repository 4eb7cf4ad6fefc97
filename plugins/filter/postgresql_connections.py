# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.postgresql_settings import connections

DOCUMENTATION = r"""
name: postgresql_connections
short_description: The budget of PostgreSQL's connections
version_added: 0.1.0
description:
  - Checks that every client finds a connection when each opens all that it may, at PgBouncer and at PostgreSQL, and
    yields the limit of each client's role. Where they do not fit, the error says the numbers.
author:
  - The lambda_microservice.platform team
positional: _input
options:
  _input:
    description:
      - Clients by name. Each has C(connections), the most that all its pods together open at PgBouncer, and C(pool),
        the sessions that each PgBouncer makes of them.
    type: dict
    required: true
  poolers:
    description: PgBouncer pods.
    type: int
    required: true
  max_client_connections:
    description: Client connections that one PgBouncer takes.
    type: int
    required: true
  max_connections:
    description: Connections that PostgreSQL takes.
    type: int
    required: true
  reserve:
    description: Those of them that are kept for superusers, PgBouncer's own queries, members and backups.
    type: int
    required: true
  rotated:
    description: Clients whose password is being rotated, so that both of their logins have sessions.
    type: list
    elements: str
    default: []
seealso:
  - plugin: lambda_microservice.platform.postgresql_settings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ten controllers with ten connections each
  ansible.builtin.debug:
    msg: >-
      {{ {'controller': {'connections': 100, 'pool': 20}} | lambda_microservice.platform.postgresql_connections(
           poolers=2, max_client_connections=1000, max_connections=200, reserve=20) }}
"""

RETURN = r"""
_value:
  description: The connection limit of each client's role.
  type: dict
"""


def postgresql_connections(clients, *, poolers, max_client_connections, max_connections, reserve, rotated=()):
    """Limits by client; see DOCUMENTATION."""
    try:
        return connections(clients, poolers, max_client_connections, max_connections, reserve, rotated)
    except PlatformError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"postgresql_connections": postgresql_connections}
