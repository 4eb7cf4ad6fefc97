# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch
short_description: Keep policies, templates and data streams of an Elasticsearch that Elastic's operator runs
version_added: 0.1.0
description:
  - Reads what Elasticsearch has at each path of its REST API, and writes with C(PUT) what is not there or differs.
  - What Elasticsearch adds to a document by itself does not count, nor whether it gives a number back as a string.
  - The requests are sent from inside one of Elasticsearch's pods, by a command that needs the right to C(create) on
    C(pods/exec). Nothing outside needs a way to it.
  - A login that Elasticsearch does not know yet, and an Elasticsearch that has no master yet, are waited for, for two
    minutes at the most.
  - Nothing is ever deleted.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  namespace:
    description: Where the Elasticsearch is.
    type: str
    required: true
  name:
    description: The name of the Elasticsearch (its custom resource).
    type: str
    required: true
  user_secret:
    description: A Secret in O(namespace) with C(username) and C(password) of the user whose rights are used.
    type: str
    required: true
  documents:
    description: What Elasticsearch shall have, in the order in which it is written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where, such as C(/_ilm/policy/logs). It ends with the document's name.
        type: str
        required: true
      body:
        description: The document. Without one, it is only made where it is not there (a data stream).
        type: dict
attributes:
  check_mode:
    details: Reads and tells what would be written. Where there is no Elasticsearch yet, that is all of it.
    support: full
  diff_mode:
    details: Shows each document before and after.
    support: full
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: Logs are deleted after 90 days
  lambda_microservice.platform.elasticsearch:
    namespace: monitoring
    name: logs
    user_secret: elasticsearch-platform
    documents:
      - path: /_ilm/policy/logs-platform
        body: {policy: {phases: {delete: {min_age: 90d, actions: {delete: {}}}}}}
"""

RETURN = r"""
documents:
  description: What happened to each document.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: Its path., type: str, returned: always}
    action: {description: 'V(created), V(updated) or V(unchanged).', type: str, returned: always}
  sample:
    - {path: /_ilm/policy/logs-platform, action: unchanged}
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.elasticsearch import elasticsearch

    run_as_module(elasticsearch)


if __name__ == "__main__":
    main()
