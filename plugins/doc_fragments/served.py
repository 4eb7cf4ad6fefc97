# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``certificates`` of the modules that ask servers for them (``settled.SERVERS_SPEC``)."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by ansible-doc."""

    DOCUMENTATION = r"""
options:
  certificates:
    description: Who serves which certificate. Each has to serve what its Secret holds.
    type: list
    elements: dict
    default: []
    suboptions:
      secret: {description: The Secret that holds it in C(tls.crt)., type: str, required: true}
      namespace: {description: Of the Secret and the pods., type: str, required: true}
      app: {description: The pods' C(app.kubernetes.io/name)., type: str, required: true}
      port: {description: Where they serve it., type: int, required: true}
      protocol:
        description: Whether TLS begins at once, or after PostgreSQL's request for it.
        type: str
        choices: [tls, postgresql]
        default: tls
"""
