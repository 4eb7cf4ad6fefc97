#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: logs
short_description: Find the lines of one request in the logs of all components
version_added: 0.1.0
description:
  - Asks the logs' store, through the API server, for every line that has the id of a request or of its trace, and
    shows them in the order of their times. Edge, controller and runtime have the same id.
  - It changes nothing, and opens no port; the user needs C(pods/portforward) in the store's namespace, and with
    V(elastic) in its place C(pods/exec) and to read the Secret C(elasticsearch-logs-reader).
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  request:
    description:
      - The id of the request, which the edge's answer has in its header C(X-Request-ID), or the 32 hexadecimal digits
        of a trace.
    type: str
    required: true
  namespace: {description: The namespace of the store., type: str, default: monitoring}
  backend:
    description: What keeps the logs.
    type: str
    choices: [elastic, victorialogs]
    default: victorialogs
  enabled:
    description: Whether logs are collected. V(false) is an error that says how to turn them on.
    type: bool
    default: true
  retention_days:
    description: How long lines are kept, for the message where there is none.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: What became of a request
  lambda_microservice.platform.logs:
    request: 5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f
"""

RETURN = r"""
lines:
  description: The lines, by time.
  returned: success
  type: list
  elements: dict
  contains:
    time: {description: "In UTC (RFC 3339). The edge's is when the request began.", type: str, returned: always}
    namespace: {description: The pod's namespace., type: str, returned: always}
    pod: {description: Who wrote it., type: str, returned: always}
    container: {description: Its container., type: str, returned: always}
    message: {description: The text of a line that has one., type: str, returned: always}
    fields: {description: What else its JSON has., type: dict, returned: always}
table:
  description: The same as aligned text, which is also shown where the module runs in process.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs import logs

    run_as_module(logs)


if __name__ == "__main__":
    main()
