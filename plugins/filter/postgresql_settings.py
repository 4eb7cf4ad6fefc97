# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.postgresql_settings import settings

DOCUMENTATION = r"""
name: postgresql_settings
short_description: PostgreSQL's memory and WAL settings for a pod
version_added: 0.1.0
description:
  - Derives the parameters of PostgreSQL 17 that depend on the machine from what its pod has, as PostgreSQL's manual
    advises.
author:
  - The lambda_microservice.platform team
positional: _input
options:
  _input:
    description: Parameters that win over the derived ones. A null leaves PostgreSQL's own default.
    type: dict
    required: true
  memory:
    description: Memory of the pod, its limit, as a Kubernetes quantity. At least V(128Mi).
    type: str
    required: true
  cpu:
    description: CPU of the pod as a Kubernetes quantity.
    type: str
    required: true
  storage:
    description: The size of the volume as a Kubernetes quantity. At least V(512Mi).
    type: str
    required: true
  max_connections:
    description: Connections that PostgreSQL takes. At least 25, the least that Patroni takes.
    type: int
    required: true
seealso:
  - plugin: lambda_microservice.platform.postgresql_connections
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what a pod of the default size gets
  ansible.builtin.debug:
    msg: >-
      {{ {'work_mem': '32MB'} | lambda_microservice.platform.postgresql_settings(
           memory='16Gi', cpu='4', storage='100Gi', max_connections=200) }}
"""

RETURN = r"""
_value:
  description: Parameters by name.
  type: dict
"""


def postgresql_settings(overrides, *, memory, cpu, storage, max_connections):
    """Parameters by name; see DOCUMENTATION."""
    try:
        return settings(memory, cpu, storage, max_connections, overrides)
    except PlatformError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"postgresql_settings": postgresql_settings}
