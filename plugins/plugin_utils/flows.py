# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of flows: who opens a connection to whom. NetworkPolicies and the mesh's policies are made of it."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Any, NamedTuple, NoReturn

from ansible.errors import AnsibleFilterError

WORLD = "world"
KUBERNETES_API = "kubernetes-api"
SHORT = {"monitoring": "monitoring/*"}

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_APP = re.compile(rf"\*|([a-z]+=)?{DNS_LABEL.pattern}")
APP_LABEL = "app.kubernetes.io/name"
_KEYS = ("from", "to", "ports")
_OPTIONAL = "service_selector"
_ENDPOINT_FORM = (
    "NAMESPACE/APP, NAMESPACE/LABEL=VALUE, NAMESPACE/*, 'monitoring', or one or a list of a block of addresses such as "
    "10.0.0.0/8, 'kubernetes-api' and 'world'"
)


class Endpoint(NamedTuple):
    """One end of a flow. ``app`` is ``*`` for the whole namespace; without a namespace, it is a block of addresses,
    :data:`KUBERNETES_API`, or empty for the world."""

    namespace: str
    app: str


def labels_of(app: str) -> dict[str, str]:
    """By which the pods of an app are known."""
    label, equals, value = app.partition("=")
    return {label: value} if equals else {APP_LABEL: app}


class Flow(NamedTuple):
    """A checked row of the table."""

    sender: Endpoint
    receiver: Endpoint
    ports: tuple[int, ...]
    service_selector: bool = True

    def to(self) -> Endpoint:
        """Where the sender may go."""
        return self.receiver if self.service_selector else self.receiver._replace(app="*")


def fail(where: str, found: Any, expected: str) -> NoReturn:
    """Raise the error that names the row, what was found there and what was expected."""
    raise AnsibleFilterError(f"the table of flows: {where} is wrong. Found: {found!r}. Expected: {expected}.")


def _endpoint(value: Any, where: str) -> Endpoint:
    if not isinstance(value, str):
        fail(where, value, _ENDPOINT_FORM)
    if value in (WORLD, KUBERNETES_API):
        return Endpoint("", "" if value == WORLD else KUBERNETES_API)
    with contextlib.suppress(ValueError):
        return Endpoint("", str(ipaddress.ip_network(value)))
    namespace, slash, app = SHORT.get(value, value).partition("/")
    if not slash or not DNS_LABEL.fullmatch(namespace) or not _APP.fullmatch(app):
        fail(where, value, _ENDPOINT_FORM + ", in lower-case letters, digits and hyphens")
    return Endpoint(str(namespace), str(app))


def _endpoints(value: Any, where: str) -> list[Endpoint]:
    if not isinstance(value, (list, tuple)):
        return [_endpoint(value, where)]
    found = [_endpoint(one, where) for one in value]
    if not found or any(one.namespace for one in found):
        fail(where, value, _ENDPOINT_FORM)
    return found


def parse_flows(flows: Any) -> list[Flow]:
    """Check the table and return its rows, one for each end of a list; the error names the row, what was found and what
    was expected."""
    if not isinstance(flows, (list, tuple)):
        fail("the input", flows, "a list of flows")
    parsed = []
    for index, flow in enumerate(flows):
        where = f"flow {index}"
        if not isinstance(flow, dict):
            fail(where, flow, "a dictionary with the keys from, to and ports")
        if set(flow) - {_OPTIONAL} != set(_KEYS):
            fail(
                f"{where} (its keys)",
                sorted(str(key) for key in flow),
                f"exactly the keys from, to and ports, and {_OPTIONAL} where it is needed",
            )
        senders = _endpoints(flow["from"], f"{where}, from,")
        receivers = _endpoints(flow["to"], f"{where}, to,")
        outside = not receivers[0].namespace
        if not senders[0].namespace and outside:
            fail(where, dict(flow), "at least one end in the cluster, not 'world'")
        ports = flow["ports"]
        if not isinstance(ports, (list, tuple)) or not ports:
            fail(f"{where}, ports,", ports, "a list of at least one TCP port number")
        for port in ports:
            if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
                fail(f"{where}, ports,", port, "TCP port numbers, integers from 1 to 65535")
        selector = flow.get(_OPTIONAL, True)
        if not isinstance(selector, bool) or (outside and not selector):
            fail(f"{where}, {_OPTIONAL},", selector, "true, or false where to is in the cluster")
        numbers = tuple(sorted({int(port) for port in ports}))
        parsed += [Flow(sender, receiver, numbers, selector) for sender in senders for receiver in receivers]
    return parsed
