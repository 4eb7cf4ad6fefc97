#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: settled
short_description: Wait until servers that run have what their Secrets hold
version_added: 0.2.0
description:
  - A changed Secret reaches a pod within two minutes, and its server some seconds later. This waits until every ready
    pod serves the certificate of its Secret, and until commands succeed in pods.
  - Certificates are asked of the servers in a TLS handshake, through the API server. No NetworkPolicy has to allow it.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.served
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
requirements:
  - kubernetes >= 24.2.0 (Python)
options:
  commands:
    description: Commands that succeed in a pod once it has what it should.
    type: list
    elements: dict
    default: []
    suboptions:
      namespace: {description: The pods' namespace., type: str, required: true}
      app: {description: The pods' C(app.kubernetes.io/name)., type: str, required: true}
      container: {description: The container; the pod's first without it., type: str}
      command: {description: The command., type: list, elements: str, required: true}
  timeout_seconds:
    description: How long to wait.
    type: int
    default: 240
attributes:
  check_mode:
    details: Waits for nothing.
    support: full
  diff_mode:
    details: Nothing is changed.
    support: none
"""

EXAMPLES = r"""
- name: Every Redis serves its new certificate
  lambda_microservice.platform.settled:
    certificates:
      - {secret: redis-tls, namespace: data-services, app: redis, port: 6379}
"""

RETURN = r"""
waited_for:
  description: Whose pods have it, as C(NAMESPACE/APP).
  returned: success
  type: list
  elements: str
reason:
  description: The kind of failure, such as V(timeout), V(certificate), V(forbidden).
  returned: on failure
  type: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.settled import settled

    run_as_module(settled)


if __name__ == "__main__":
    main()
