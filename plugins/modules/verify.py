# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Verify a running platform from outside and from inside
version_added: 0.1.0
description:
  - Calls the edge as a client would, over new connections that trust nothing but the given authority, and looks at the
    objects of the cluster. All checks are made side by side; the result is a table.
  - Of the edge it checks the certificate, the versions of TLS, the redirect, who may call, an unknown path and
    language, that nothing internal can be reached, and a script in each language that computes from random input and
    fails when asked to.
  - Of the cluster it checks that the nodes' clocks agree; that the workloads have rolled out, over zones, with
    disruption budgets and working autoscalers; that each runtime pod says that nothing of its isolation is missing, and
    has a bound on its processes; who is master of Redis, and whether it has evicted sessions; that forbidden pods are
    refused (by dry runs); and that only the edge is exposed. Through the gateway it calls a function of each kind, and
    has one call queued.
  - Whether the cluster's network enforces NetworkPolicies is tried from a running pod, inside the cluster. Where it
    does not, that is a warning, as no change of the platform can mend it, or a failure where it is required.
  - A failed check says where it looked, what it found, what it expected and what to do. A check that has nothing to
    stand on, because the edge or the API server does not answer, is not made.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.redis
  - lambda_microservice.platform.served
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  edge:
    description: The edge, as callers see it.
    type: dict
    required: true
    suboptions:
      url: {description: 'Its address, C(https://HOST[:PORT]).', type: str, required: true}
      plain_url:
        description: The address that redirects to it, C(http://HOST[:PORT]). Without it the redirect is not checked.
        type: str
      ca_file:
        description: The authority's certificate (PEM). Without it, the authorities that this machine trusts.
        type: path
      api_key:
        description:
          - What to send as C(X-API-Key), where the edge asks for a key. Not beside O(edge.token).
          - Where the edge asks who calls and gets neither, the check of who calls fails and others are not made.
        type: str
      token: {description: 'What to send as C(Authorization: Bearer), where it asks for a token.', type: str}
      certificate_days: {description: Warn when the certificate ends in fewer days., type: int, default: 14}
      internal_paths:
        description: Paths that must be unknown at the edge.
        type: list
        elements: str
        default: [/metrics, /ready, /stats, /config_dump, /server_info, /clusters]
      namespace: {description: The namespace of its Service., type: str, default: ingress}
      service: {description: The name of its Service., type: str, default: envoy}
  languages:
    description: The languages to run a script in.
    type: list
    elements: str
    choices: [nodejs, python, rust]
    default: [nodejs, python, rust]
  namespaces:
    description: The platform's namespaces.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The name., type: str, required: true}
      pod_security:
        description: The Pod Security level that it must have, or a stricter one.
        type: str
        choices: [privileged, baseline, restricted]
        default: restricted
      labels: {description: 'Not checked; taken so that C(foundation_namespaces) fits.', type: dict}
  workloads:
    description: The platform's workloads.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: The kind.
        type: str
        choices: [Deployment, StatefulSet, DaemonSet]
        default: Deployment
      name: {description: The name., type: str, required: true}
      namespace: {description: The namespace., type: str, required: true}
      autoscaled: {description: Whether a HorizontalPodAutoscaler scales it., type: bool, default: false}
  controller:
    description: Whose replicas execute sessions.
    type: dict
    required: true
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      app: {description: The pods' app.kubernetes.io/name., type: str, required: true}
  runtimes:
    description: The language runtimes. Without it they are not asked.
    type: dict
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      apps:
        description: The pods' app.kubernetes.io/name, one for each language.
        type: list
        elements: str
        required: true
      metrics_port: {description: The port of their metrics., type: int, default: 9090}
      accepted:
        description:
          - Parts of the isolation (C(part) of C(lambda_runtime_isolation)) whose absence is a warning instead of a
            failure.
        type: list
        elements: str
        default: []
      user_namespaces:
        description: Those of O(runtimes.apps) whose pods must have a user namespace of their own.
        type: list
        elements: str
        default: []
  postgresql:
    description: PostgreSQL under Patroni, and its backups. Without it they are not checked.
    type: dict
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      servers: {description: The servers' app.kubernetes.io/name., type: str, default: postgresql}
      server_count: {description: How many there are., type: int, default: 3}
      service: {description: The Service that leads to the primary., type: str, default: postgresql-primary}
      synchronous: {description: Whether a standby has every commit., type: bool, default: true}
      repository:
        description: The StatefulSet of the backups' repository. Empty where there is none.
        type: str
        default: postgresql-repository
      backup_hours: {description: How old the newest backup may be., type: int, default: 26}
  monitoring:
    description: Prometheus and its alerts. Without it they are not checked.
    type: dict
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      pod: {description: The pod of Prometheus., type: str, default: prometheus-platform-0}
      receivers: {description: How many receivers of alerts there are. None is a warning., type: int, default: 0}
  grafana:
    description: Grafana, its administrator's password and its data sources. Without it, it is not looked at.
    type: dict
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      pod: {description: The pod of Grafana., type: str, default: grafana-0}
      port: {description: The port of its API., type: int, default: 3000}
      secret:
        description: The Secret whose key C(admin-password) is that of C(admin).
        type: str
        default: grafana
      sources:
        description: The uids of the data sources that must be there and answer.
        type: list
        elements: str
        required: true
  logging:
    description: The logs' store and its agents. Without it, they are not looked at.
    type: dict
    suboptions:
      backend: {description: What keeps the logs., type: str, choices: [elastic, victorialogs], default: victorialogs}
      namespace: {description: The store's namespace., type: str, default: monitoring}
      agents_namespace: {description: The agents' namespace., type: str, default: node-agents}
      sources:
        description: The namespaces of which there must be lines.
        type: list
        elements: str
        required: true
      minutes: {description: How old the lines may be., type: int, default: 10}
  functions:
    description:
      - The gateway for functions. Without it, none is called. Beside calls, a function is registered at the controller
        and a container deployed, scaled and removed; both have C(verify-) in their names.
    type: dict
    suboptions:
      namespace: {description: The gateway's namespace., type: str, required: true}
      language: {description: Whose runtime and scripts are used., type: str, required: true}
      registered: {description: Whether the controller has a database for functions., type: bool, default: true}
      gateway: {description: The pods' app.kubernetes.io/name., type: str, default: gateway}
      port: {description: The port of its API., type: int, default: 8080}
      credentials: {description: The Secret with the API's user and password., type: str, default: basic-auth}
  vpa:
    description: Vertical autoscaling. Without it, it is not looked at.
    type: dict
    suboptions:
      namespace: {description: The namespace of its pods., type: str, required: true}
      autoscalers:
        description: The VerticalPodAutoscalers that must have a recommendation.
        type: list
        elements: dict
        required: true
        suboptions:
          namespace: {description: The namespace., type: str, required: true}
          name: {description: The name., type: str, required: true}
          labels: {description: Not checked., type: dict}
  mesh:
    description: The mesh. Without it, it is not looked at.
    type: dict
    suboptions:
      namespace: {description: The namespace of istiod., type: str, required: true}
      workloads:
        description: Whose pods must have a proxy, each V(NAMESPACE/APP) by its app.kubernetes.io/name.
        type: list
        elements: str
        required: true
      caller:
        description: From whose pods something is asked; the container needs bash, as does the proxy's.
        type: dict
        required: true
        suboptions:
          namespace: {description: The namespace., type: str, required: true}
          app: {description: The pods' app.kubernetes.io/name., type: str, required: true}
          container: {description: The container of its program., type: str, required: true}
      called:
        description: Whom it may ask, and who answers with 200.
        type: dict
        required: true
        suboptions: &asked
          namespace: {description: The namespace., type: str, required: true}
          app: {description: The pods' app.kubernetes.io/name., type: str, required: true}
          host: {description: The name of its Service that callers use., type: str, required: true}
          port: {description: The port., type: int, default: 8080}
          path: {description: The path., type: str, default: /health}
      uncalled:
        description: Whom it may not ask.
        type: dict
        required: true
        suboptions: *asked
  network_probe:
    description: Connections to try from inside. Without it, whether NetworkPolicies are enforced is not checked.
    type: dict
    suboptions:
      source:
        description: Whose pod to try from; its image needs bash and timeout.
        type: dict
        required: true
        suboptions:
          namespace: {description: The namespace., type: str, required: true}
          app: {description: The pods' app.kubernetes.io/name., type: str, required: true}
      allowed:
        description: A Service that the policies let it reach.
        type: dict
        required: true
        suboptions: &service
          namespace: {description: The namespace., type: str, required: true}
          name: {description: The Service's name., type: str, required: true}
          port: {description: The port., type: int, required: true}
      forbidden:
        description: A Service that listens and that the policies do not let it reach.
        type: dict
        required: true
        suboptions: *service
      enforcement:
        description:
          - What it is when the connection to O(network_probe.forbidden) opens all the same, or none could be tried.
            With V(required) the check fails; with V(warn) it warns.
        type: str
        choices: [required, warn]
        default: warn
  session_calls:
    description: Over how many new connections one session is executed.
    type: int
    default: 12
  wait_seconds:
    description: How long to wait for what takes its time on a new cluster, such as the first metrics.
    type: int
    default: 90
attributes:
  check_mode:
    details: Functions are left out, as some are deployed. The sessions that it starts expire, as any client's do.
    support: full
  diff_mode:
    details: What it deploys it removes.
    support: none
notes:
  - Environment variables of proxies are not used for the edge.
  - It needs the right to read the objects, to create pods (they are only offered), to run commands in pods and to read
    the controller's logs and the Secrets in O(redis.credentials) and O(functions.credentials), and to reach pods
    through the API server (C(pods/portforward)). Without the right to get C(nodes/proxy), by which it
    reads the kubelets' configuration, the bound on a pod's processes is a warning.
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: Verify a platform with a certificate of a public authority
  lambda_microservice.platform.verify:
    edge:
      url: https://lambda.example.com
      plain_url: http://lambda.example.com
    namespaces:
      - {name: ingress}
      - {name: controller}
    workloads:
      - {name: envoy, namespace: ingress}
      - {name: controller, namespace: controller, autoscaled: true}
    controller: {namespace: controller, app: controller}
"""

RETURN = r"""
checks:
  description: Each check.
  returned: success
  type: list
  elements: dict
  contains:
    check: {description: The name., type: str, returned: always}
    result: {description: 'V(ok), V(warning), V(FAILED) or V(not made).', type: str, returned: always}
    detail: {description: What was seen., type: str, returned: always}
    seconds: {description: How long it took., type: float, returned: always}
table:
  description: The same as lines of text, which are also shown where the module runs in process.
  returned: success
  type: list
  elements: str
failed_checks:
  description: The names of the checks that failed; the message tells of each.
  returned: failure
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import verify

    run_as_module(verify)


if __name__ == "__main__":
    main()
