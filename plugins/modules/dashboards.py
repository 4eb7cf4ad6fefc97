# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dashboards
short_description: Draw Grafana's dashboards from a running Prometheus into one HTML file
version_added: 0.1.0
description:
  - Reads dashboards as files of Grafana have them, asks Prometheus for what their panels show, several at once, and
    writes a page that any browser opens. The page holds data, style and program; it loads nothing.
  - It draws panels of the types C(timeseries) and C(stat), with their units, legends and thresholds. A panel of another
    data source than Prometheus is named and not drawn.
  - Prometheus is asked through the API server, as C(kubectl port-forward) does, so that nothing has to be exposed, and
    no NetworkPolicy has to let anybody in.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  folder:
    description: The dashboards, one file C(NAME.json) each.
    type: path
    required: true
  page:
    description: The folder with the page's frame, C(page.html), C(page.css) and C(page.js).
    type: path
    required: true
  library:
    description: The folder with C(uPlot.iife.min.js) and C(uPlot.min.css), which draw.
    type: path
    required: true
  output:
    description: The file to write.
    type: path
    required: true
  prometheus:
    description: Whom to ask.
    type: dict
    required: true
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      pod: {description: Its pod., type: str, default: prometheus-platform-0}
      port: {description: The port that it listens on., type: int, default: 9090}
  minutes:
    description: How long before now the panels begin.
    type: int
    default: 60
  scrape_seconds:
    description: How often Prometheus scrapes. Rates are made over four times as long, or more.
    type: int
    default: 15
attributes:
  check_mode:
    details: It asks Prometheus and writes no file.
    support: full
  diff_mode:
    details: A page of other numbers tells nothing as a diff.
    support: none
notes:
  - It needs the right to reach Prometheus' pod (get and create on C(pods/portforward)).
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: Draw the last three hours
  lambda_microservice.platform.dashboards:
    folder: roles/monitoring/files/dashboards
    page: roles/monitoring/files/page
    library: .local/dashboards/node_modules/uplot/dist
    output: .local/dashboards.html
    prometheus: {namespace: monitoring}
    minutes: 180
"""

RETURN = r"""
output:
  description: The file.
  returned: success
  type: str
dashboards:
  description: How many dashboards it has.
  returned: success
  type: int
panels:
  description: How many panels Prometheus was asked for.
  returned: success
  type: int
panels_without_data:
  description: Those of which Prometheus had nothing in this time, as C(DASHBOARD{:} PANEL).
  returned: success
  type: list
  elements: str
panels_elsewhere:
  description: Those of other data sources.
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards import dashboards

    run_as_module(dashboards)


if __name__ == "__main__":
    main()
