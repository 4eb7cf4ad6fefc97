#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Draw the running platform on one page
version_added: 0.2.0
description:
  - Writes one HTML page, which needs nothing else, for a phone and a screen, in light and dark - versions, replicas by
    zone, endpoints, certificates and their end, backups and their age, the last drills, the alerts that fire, what
    M(lambda_microservice.platform.drift) finds, what is left of the nodes, and what VerticalPodAutoscalers recommend
    where the cluster has them, beside what is asked for and used. The last is a table in the task's output too.
  - It reads only. What cannot be read is named on the page.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.installed
requirements:
  - kubernetes >= 24.2
  - helm 3.13 or later, or helm 4, on the machine that runs the module
options:
  edge_url: {description: The address of the edge as callers know it., type: str, default: ''}
  drills:
    description: The file that M(lambda_microservice.platform.drill) has written. One that is not there is told.
    type: path
  prometheus_namespace:
    description: The namespace of Prometheus, which knows the alerts. Without it, they are unknown.
    type: str
    default: ''
  styles: {description: The style sheets of the page., type: list, elements: path, required: true}
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
  output: {description: The HTML page to write., type: path}
  json_output: {description: The JSON file to write., type: path}
attributes:
  check_mode: {description: It writes no file., support: full}
  diff_mode: {description: It changes nothing but the files that it is told to write., support: none}
notes:
  - Alerts need the right to reach Prometheus' pod (get and create on C(pods/portforward)).
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: The running platform
  lambda_microservice.platform.report:
    prometheus_namespace: monitoring
    styles:
      - "{{ root }}/roles/monitoring/files/page/page.css"
      - "{{ root }}/roles/platform/files/capacity/page.css"
      - "{{ root }}/roles/platform/files/report/page.css"
    output: report.html
"""

RETURN = r"""
report:
  description: What the page shows.
  returned: success
  type: dict
written:
  description: The files that were written.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.report import report

    run_as_module(report)


if __name__ == "__main__":
    main()
