#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Tell everything that would stop the platform before anything is changed
version_added: 0.1.0
description:
  - Looks at the inventory, at what its roles would render, at the cluster and its nodes, and at what the current user
    may do. All findings stand in one table, with what was found, what is needed and what to do.
  - Of the inventory it checks variables and their combinations, pools of nodes, charts that can be rendered, pods that
    none of these nodes would hold, licences, authentication at a public edge, backups that leave the cluster, digests
    of images, disruption budgets that let no pod go, zones without a pool of nodes, and ports of the nodes that two
    ask for.
  - Of the cluster it checks that its certificate is verified, that its nodes are those that the inventory names, its
    version against the table of versions, room for the requests at rest, at the autoscalers' most and when a node or
    a zone is lost, nodes in the zones that are named, StorageClasses that are there or will be made and the CSI drivers
    behind them, snapshots, the load balancer's controller, metrics, admission, who enforces NetworkPolicies, kernels,
    DNS, clocks, the edge's certificate and other Secrets that are the user's to make, rights, and workloads of others
    in the platform's namespaces.
  - A metrics API that is there and does not answer yet is waited for, for a minute.
  - It reads only. Rights are asked for by SelfSubjectAccessReviews, one where the user may do everything.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.components
requirements:
  - kubernetes >= 24.2
  - helm 3.13 or later, or helm 4, on the machine that runs the module
options:
  variables:
    description:
      - The values of the roles' variables by name. Without it, those that the play registered as C(__platform).
    type: dict
    default: {}
  versions:
    description:
      - Rows with C(name), and C(floor), C(ceiling) and C(tested) of Kubernetes. Without it, the platform's table.
    type: list
    elements: dict
    default: []
  node_types:
    description: The file with types of nodes. Without it, the platform's.
    type: path
    required: true
  ignore:
    description: Checks whose findings are accepted, by the table's first column. Without it, C(preflight_ignore).
    type: list
    elements: str
    default: []
  show:
    description: V(problems) shows one line of what is as it should be, and the table of what is not.
    type: str
    choices: [all, problems]
    default: all
attributes:
  check_mode:
    details: It changes nothing. In check mode, what would stop is a warning, so that the rest is shown too.
    support: full
  diff_mode:
    details: It changes nothing.
    support: none
notes:
  - In a play, its action plugin gives O(components), O(variables), O(versions), O(node_types) and O(ignore) where the
    task does not.
  - What this user may not read (nodes, pods, the kubelets) is a warning and no failure.
"""

EXAMPLES = r"""
- name: The variables are read
  lambda_microservice.platform.variables:
    playbook: [preflight]
    stop: false
  register: __platform

- name: The inventory and the cluster are fit for it
  lambda_microservice.platform.preflight:
    kubeconfig: /etc/lambda/kubeconfig
"""

RETURN = r"""
findings:
  description: Each finding.
  returned: always
  type: list
  elements: dict
  contains:
    check: {description: 'The name, for O(ignore).', type: str, returned: always}
    result: {description: 'V(pass), V(warn), V(FAIL) or V(ignored).', type: str, returned: always}
    found: {description: What was found., type: str, returned: always}
    needed: {description: What is needed., type: str, returned: always}
    to_do: {description: What to do., type: str, returned: always}
table:
  description: The same as lines of text, which are also shown where the module runs in process.
  returned: always
  type: list
  elements: str
failed_checks:
  description: The names of the checks that failed.
  returned: always
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import preflight

    run_as_module(preflight)


if __name__ == "__main__":
    main()
