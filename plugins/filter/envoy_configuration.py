# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy_configuration import configure

DOCUMENTATION = r"""
name: envoy_configuration
short_description: Envoy's configuration out of a table of routes
version_added: 0.1.0
description:
  - Turns a table of routes and a table of upstreams into the configuration of an Envoy at the edge (API v3, Envoy 1.40)
    that ends TLS, redirects plain HTTP, limits what it accepts and answers its own errors as JSON.
  - The result is split into the files of Envoy's file-based discovery, which a running Envoy reads again when they
    change.
  - The first route that matches wins. A request that no route matches gets 404.
  - A mistake in a table is one error that names the table, the row, the field, what was found and what was expected.
author:
  - The lambda_microservice.platform team
positional: _input, upstreams
options:
  _input:
    description: The routes, in the order in which they are tried.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the route in logs and errors.
        type: str
        required: true
      match:
        description: All that a request must have. Exactly one of C(path), C(prefix) and C(regex) is required.
        type: dict
        required: true
        suboptions:
          path:
            description: The whole path.
            type: str
          prefix:
            description:
              - How the path begins, in whole segments. V(/api) matches C(/api) and C(/api/x) but not C(/apix); V(/api/)
                matches only what is below it.
            type: str
          regex:
            description: A regular expression (RE2) of the whole path.
            type: str
          methods:
            description: HTTP methods in capitals; every method where absent. Another method goes on to the next route.
            type: list
            elements: str
          language_title:
            description:
              - Match of the header C(Language-Title), in any case. V(nodejs) is the language with every title,
                V(nodejs-invoice) this title alone.
            type: str
          headers:
            description:
              - Each has C(name) and exactly one of C(exact), C(prefix), C(suffix), C(contains), C(regex) and C(present)
                (true or false), and optionally C(ignore_case) and C(invert).
            type: list
            elements: dict
      upstream:
        description: Name of an upstream, or a list of dictionaries with C(name) and C(weight) that share the requests.
        type: raw
        required: true
      timeout_seconds:
        description: How long the answer may take once the request is complete. O(timeout_seconds) where absent.
        type: float
      rewrite_prefix:
        description: What the upstream gets instead of the prefix that matched.
        type: str
  upstreams:
    description: The services behind the edge.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What routes call it.
        type: str
        required: true
      address:
        description:
          - Host name or IP address. Every address that the name has is a target of its own, so the name of a headless
            Service balances requests over its pods, that of another Service only connections.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      http2:
        description: Speak HTTP/2 in clear text.
        type: bool
        default: false
      connect_timeout_seconds:
        description: How long a connection may take to open.
        type: float
        default: 1
      idle_timeout_seconds:
        description: After how long an unused connection is closed.
        type: float
        default: 60
      max_connections:
        description: Connections of one Envoy to this upstream.
        type: int
        default: 1024
      max_pending_requests:
        description: Requests that may wait for a connection; more get 503.
        type: int
        default: 1024
      max_requests:
        description: Requests in flight (HTTP/2); more get 503.
        type: int
        default: 1024
      health_check:
        description:
          - Dictionary with C(path) and optionally C(interval_seconds) (2) and C(timeout_seconds) (1).
          - No checks where absent.
        type: dict
  domains:
    description: Host names that are answered, C(*.SUFFIX) and V(*) among them; others get 404.
    type: list
    elements: str
    default: ["*"]
  https_port:
    description: Port of the redirect's target, as callers see it.
    type: int
    default: 443
  listen_address:
    description: Address that the listeners bind to.
    type: str
    default: 0.0.0.0
  timeout_seconds:
    description: Limit of a request's arrival, and of its answer where the route has none of its own.
    type: float
    default: 35
  max_request_bytes:
    description: Largest body; a larger one gets 413.
    type: int
    default: 4194304
  max_connections:
    description: Client connections of one Envoy.
    type: int
    default: 20000
  memory_limit:
    description:
      - Memory of the container as a Kubernetes quantity. Envoy's heap may take 80 % of it, and Envoy sheds load from
        nine tenths of that on.
    type: str
    default: 4Gi
  trusted_proxies:
    description: How many proxies in front of the edge add to C(X-Forwarded-For) and are believed.
    type: int
    default: 0
  response_headers:
    description: Headers that every answer gets.
    type: dict
    default: {}
  remove_request_headers:
    description: Request headers that never reach an upstream.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the routes as Envoy reads them
  ansible.builtin.debug:
    msg: "{{ (routes | lambda_microservice.platform.envoy_configuration(upstreams)).files['routes.yaml'] }}"
  vars:
    upstreams:
      - name: controller
        address: controller-headless.controller.svc.cluster.local
        port: 8080
        health_check: {path: /ready}
    routes:
      - name: reports
        match: {path: /api/v1/initialize, methods: [POST], language_title: python-report}
        upstream: controller
        timeout_seconds: 120
      - name: api
        match: {prefix: /api/v1/}
        upstream: controller
"""

RETURN = r"""
_value:
  description: The configuration.
  type: dict
  contains:
    files:
      description: Text of each file by its name; C(envoy.yaml) is the one that Envoy is started with.
      type: dict
    validation:
      description: The same as one JSON document without files, for C(envoy --mode validate).
      type: str
"""


def envoy_configuration(routes, upstreams=None, **options):
    """``files`` and ``validation``; see DOCUMENTATION."""
    try:
        return configure(routes, upstreams, **options)._asdict()
    except PlatformError as error:
        raise AnsibleFilterError(str(error)) from error
    except TypeError as error:
        raise AnsibleFilterError(f"envoy_configuration: {error}") from error


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"envoy_configuration": envoy_configuration}
