# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: pod_monitors
short_description: PodMonitors from the platform's table of what has metrics
version_added: 0.1.0
description:
  - Each row of the table becomes a PodMonitor in one namespace, whose pods may be in another.
  - Every series gets the labels C(job) (the row's name), C(namespace), C(pod), C(node) and C(instance).
  - What Go's runtime says of itself is dropped. It is a third of what most programs have, and nobody asks for it.
author:
  - The lambda_microservice.platform team
positional: _input, namespace
options:
  _input:
    description:
      - By job, a dictionary with C(namespace) and C(port), the number of a port that a container of the pod declares or
        a list of them.
      - C(app) is the pods' C(app.kubernetes.io/name), which is the job unless said. C(path) is V(/metrics) unless said.
        With the C(scheme) V(https) the certificate is not checked, as it is for a name and pods are asked by address.
        C(keep) are regular expressions for whole names of metrics, of which the others are dropped. C(honor_labels) is
        for what describes other pods than itself.
      - C(through), a host and a port, is an exporter that is asked for each pod, with C(target) as the parameter of
        that name, in which V(ADDRESS) is the pod's own address and port, and V(POD) its name. C(params) are further
        parameters.
    type: dict
    required: true
  namespace:
    description: Where the PodMonitors are.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: PodMonitors
  lambda_microservice.platform.policy:
    name: monitors
    namespace: monitoring
    objects: "{{ table | lambda_microservice.platform.pod_monitors('monitoring') }}"
  vars:
    table:
      controller: {namespace: controller, port: 9090}
      redis: {namespace: data, port: 6379, path: /scrape, through: 'redis-exporter.data.svc:9121', target: 'POD:6379'}
"""

RETURN = r"""
_value:
  description: PodMonitor objects, ordered by name.
  type: list
  elements: dict
"""

LABELS = {
    "app.kubernetes.io/part-of": "lambda-microservice-platform",
    "app.kubernetes.io/component": "monitoring",
}
NEVER_WANTED = "(go|promhttp)_.*"

_REQUIRED = {"namespace", "port"}
_ALLOWED = _REQUIRED | {"app", "path", "scheme", "keep", "honor_labels", "through", "target", "params"}


def pod_monitors(table: Any, namespace: str) -> list[dict[str, Any]]:
    """As RETURN says."""
    return [_monitor(job, row, namespace) for job, row in sorted(table.items())]


def _monitor(job: str, row: Any, namespace: str) -> dict[str, Any]:
    if not isinstance(row, dict) or not _REQUIRED <= set(row) <= _ALLOWED:
        raise AnsibleFilterError(
            f"pod_monitors: {job} is wrong. Found: {sorted(row) if isinstance(row, dict) else row!r}. Expected: "
            f"{', '.join(sorted(_REQUIRED))}, and of {', '.join(sorted(_ALLOWED - _REQUIRED))} what it needs."
        )
    ports = row["port"] if isinstance(row["port"], list) else [row["port"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": job, "namespace": namespace, "labels": {**LABELS, "app.kubernetes.io/name": job}},
        "spec": {
            "namespaceSelector": {"matchNames": [row["namespace"]]},
            "selector": {"matchLabels": {"app.kubernetes.io/name": row.get("app", job)}},
            "podMetricsEndpoints": [_endpoint(job, row, port) for port in ports],
        },
    }


def _endpoint(job: str, row: dict[str, Any], port: int) -> dict[str, Any]:
    endpoint: dict[str, Any] = {
        "portNumber": port,
        "path": row.get("path", "/metrics"),
        "relabelings": [*_labels(job), *(_asked_through(row) if "through" in row else [])],
        "metricRelabelings": _kept(row.get("keep")),
    }
    if row.get("scheme") == "https":
        endpoint |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    if row.get("honor_labels"):
        endpoint["honorLabels"] = True
    if row.get("params"):
        endpoint["params"] = {name: [value] for name, value in row["params"].items()}
    return endpoint


def _labels(job: str) -> list[dict[str, Any]]:
    return [
        {"action": "replace", "targetLabel": "job", "replacement": job},
        {"action": "replace", "sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"},
        # Of the operator's own: each would be another label of every series, and says nothing more than the job.
        {"action": "labeldrop", "regex": "container|endpoint"},
    ]


def _asked_through(row: dict[str, Any]) -> list[dict[str, Any]]:
    """An exporter's address in place of the pod's, which becomes the parameter and the instance."""
    return [
        {"action": "replace", "sourceLabels": ["__address__"], "targetLabel": "instance"},
        {
            "action": "replace",
            "sourceLabels": ["__meta_kubernetes_pod_name"],
            "targetLabel": "__param_target",
            "replacement": str(row["target"]).replace("POD", "$1"),
        },
        {"action": "replace", "targetLabel": "__address__", "replacement": row["through"]},
    ]


def _kept(keep: list[str] | None) -> list[dict[str, Any]]:
    if keep:
        return [{"action": "keep", "sourceLabels": ["__name__"], "regex": "|".join(keep)}]
    return [{"action": "drop", "sourceLabels": ["__name__"], "regex": NEVER_WANTED}]


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"pod_monitors": pod_monitors}
