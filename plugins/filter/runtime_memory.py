# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.runtime_memory import MIB, memory

DOCUMENTATION = r"""
name: runtime_memory
short_description: How many executions fit into a runtime's container, and the size of their files
version_added: 0.1.0
description:
  - Divides the memory limit of a runtime's container among its supervisor, the interpreters that wait, the compiler,
    the executions and their files, which lie in a tmpfs and so are memory too. As many executions fit as the sum of all
    that is allowed stays within the limit, one at least, and at most 8 for each processor.
author:
  - The lambda_microservice.platform team
positional: _input
options:
  _input:
    description:
      - The supervisor's settings (images/runtime/README.md). C(MAX_CONCURRENCY) among them is the number of executions,
        whether they fit or not.
    type: dict
    required: true
  language:
    description: The language's name.
    type: str
    required: true
  memory_limit:
    description: The container's memory limit.
    type: str
    required: true
  cpu_limit:
    description: The container's CPU limit.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: A runtime of Python, 6 executions and 384Mi for their files
  ansible.builtin.debug:
    msg: >-
      {{ {'MEMORY_LIMIT_BYTES': '256Mi', 'SCRATCH_LIMIT_BYTES': '64Mi'} | lambda_microservice.platform.runtime_memory(
           language='python', memory_limit='2Gi', cpu_limit='1') }}
"""

RETURN = r"""
_value:
  description: C(places), the executions that a pod runs at once; C(scratch), the size of its tmpfs.
  type: dict
"""


def runtime_memory(environment, *, language, memory_limit, cpu_limit):
    """Places and scratch; see DOCUMENTATION."""
    try:
        divided = memory(language, memory_limit, cpu_limit, environment)
    except PlatformError as error:
        raise AnsibleFilterError(str(error)) from error
    return {"places": divided.places, "scratch": f"{divided.scratch // MIB}Mi"}


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"runtime_memory": runtime_memory}
