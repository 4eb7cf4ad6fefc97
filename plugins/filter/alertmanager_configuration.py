# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

DOCUMENTATION = r"""
name: alertmanager_configuration
short_description: Alertmanager's configuration from the inventory's receivers
version_added: 0.1.0
description:
  - Each severity is sent to the receivers that name it. P1 after 10 s and again each hour, P2 after 30 s and each 4
    hours, P3
    after 5 minutes and once a day.
  - A P1 of a component keeps its P2 and P3 quiet, they are mostly its consequences.
  - What is secret (an address that has a token in it, a password) is a file of a mounted Secret, never a value here.
author:
  - The lambda_microservice.platform team
positional: _input
options:
  _input:
    description: The receivers, as O(monitoring_receivers) has them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Where alerts go
  ansible.builtin.debug:
    msg: "{{ (receivers | lambda_microservice.platform.alertmanager_configuration).configuration }}"
  vars:
    receivers:
      - {name: on-call, type: webhook, severities: [P1], secret: {name: on-call, key: url}}
"""

RETURN = r"""
_value:
  description: What Alertmanager needs.
  type: dict
  contains:
    configuration: {description: 'The configuration, as Alertmanager 0.28 reads it.', type: dict}
    secrets: {description: Names of the Secrets that it needs., type: list, elements: str}
    ports: {description: 'Ports outside of the cluster that it calls: 443, and those of mail servers.', type: list,
      elements: int}
"""

SEVERITIES = ("P1", "P2", "P3")
SECRETS = "/etc/alertmanager/secrets"
"""Where the operator mounts the Secrets that the Alertmanager resource names."""

# How long a group of alerts gathers, and how often what lasts is told again.
_PACE = {
    "P1": {"group_wait": "10s", "repeat_interval": "1h"},
    "P2": {"group_wait": "30s", "repeat_interval": "4h"},
    "P3": {"group_wait": "5m", "repeat_interval": "24h"},
}
_NOBODY = "nobody"


def alertmanager_configuration(receivers: list[dict[str, Any]]) -> dict[str, Any]:
    """As RETURN says."""
    return {
        "configuration": _configuration(receivers),
        "secrets": sorted({receiver["secret"]["name"] for receiver in receivers if receiver.get("secret")}),
        "ports": _ports(receivers),
    }


def _configuration(receivers: list[dict[str, Any]]) -> dict[str, Any]:
    told = [
        {
            "receiver": receiver["name"],
            "matchers": [f'severity = "{severity}"'],
            "continue": True,
            **_PACE[severity],
        }
        for severity in SEVERITIES
        for receiver in receivers
        if severity in receiver.get("severities", SEVERITIES)
    ]
    return {
        "route": {
            "receiver": _NOBODY,
            "group_by": ["alertname", "component", "namespace"],
            "group_interval": "5m",
            "routes": told,
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity = "P1"', 'component =~ ".+"'],
                "target_matchers": ['severity =~ "P2|P3"'],
                "equal": ["component"],
            }
        ],
        "receivers": [{"name": _NOBODY}, *(_receiver(receiver) for receiver in receivers)],
    }


def _receiver(receiver: dict[str, Any]) -> dict[str, Any]:
    secret = receiver.get("secret") or {}
    file = f"{SECRETS}/{secret.get('name')}/{secret.get('key')}"
    kind = receiver["type"]
    entry: dict[str, Any] = {"send_resolved": True}
    if kind == "email":
        entry |= {name: receiver.get(name) for name in ("to", "from", "smarthost")}
        if receiver.get("username"):
            entry |= {"auth_username": receiver["username"], "auth_password_file": file}
    elif kind == "slack":
        entry |= {"api_url_file": file} | ({"channel": receiver["channel"]} if receiver.get("channel") else {})
    else:
        entry |= {"url_file": file}
    return {"name": receiver["name"], f"{kind}_configs": [entry]}


def _ports(receivers: list[dict[str, Any]]) -> list[int]:
    servers = [str(receiver.get("smarthost", "")) for receiver in receivers if receiver["type"] == "email"]
    mail = {int(port) for port in (server.rpartition(":")[2] for server in servers) if port.isdigit()}
    return sorted(mail | ({443} if any(receiver["type"] != "email" for receiver in receivers) else set()))


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"alertmanager_configuration": alertmanager_configuration}
