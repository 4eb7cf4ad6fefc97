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
      public:
        description: Asks for no proof of who calls, whatever O(authentication) is.
        type: bool
        default: false
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
  rate_limits:
    description:
      - How many requests are answered; more get 429 with C(Retry-After). A request that several rows limit needs room
        in each.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the limit.
        type: str
        required: true
      routes:
        description: Names of the routes that it limits together.
        type: list
        elements: str
        required: true
      per:
        description:
          - What is counted apart. V(user) is X-User-ID, and the client's address where there is none; V(address) is the
            client's address; V(language) is that of the header C(Language-Title), one of O(languages) or another.
          - Empty counts all requests together.
        type: list
        elements: str
        required: true
      requests:
        description: How many in each unit.
        type: int
        required: true
      anonymous_requests:
        description: How many for an address without a user, with V(user) in C(per). C(requests) where absent.
        type: int
      unit:
        description: The time in which they are counted.
        type: str
        choices: [second, minute, hour, day]
        required: true
  rate_limit_exempt_users:
    description: Users whom no limit per user counts.
    type: list
    elements: str
    default: []
  rate_limit_service:
    description:
      - Dictionary with C(address) and C(port) of the service (envoyproxy/ratelimit, with its RESPONSE_DYNAMIC_METADATA)
        that counts for all Envoys.
      - While it is away, and where there is none, each Envoy counts for itself, up to the limit divided by O(replicas).
    type: dict
  rate_limit_timeout_seconds:
    description: How long an answer of the service may take.
    type: float
    default: 0.05
  languages:
    description: The languages that limits tell apart.
    type: list
    elements: str
    default: [nodejs, python, rust]
  replicas:
    description: How many Envoys there are.
    type: int
    default: 1
  trust_user_id:
    description: Whether an X-User-ID from outside is believed. It is removed otherwise.
    type: bool
    default: false
  authentication:
    description:
      - The proof that callers give on every route that is not C(public); the others get 401.
      - With V(jwt) and V(api_key), the upstream gets the caller's name as X-User-ID.
    type: str
    choices: [none, jwt, api_key]
    default: none
  jwt:
    description:
      - With O(authentication=jwt), a dictionary with C(issuer), C(audiences) (a list), C(user_claim) (C(sub) where
        absent), and C(jwks) (the keys, a dictionary or JSON) or C(jwks_uri) (where they are fetched).
    type: dict
  api_key_clients:
    description: With O(authentication=api_key), the names of the clients.
    type: list
    elements: str
    default: []
  api_key_secret:
    description: Name of the Secret whose keys RV(_value.api_keys) refers to.
    type: str
    default: ingress-api-keys
  http3:
    description: Listen on UDP too, and tell clients with C(alt-svc).
    type: bool
    default: false
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

- name: A new version for those who ask for it, and for one request in twenty of the others
  ansible.builtin.debug:
    msg: "{{ (routes | lambda_microservice.platform.envoy_configuration(upstreams)).files['routes.yaml'] }}"
  vars:
    upstreams:
      - {name: controller, address: controller-headless.controller.svc.cluster.local, port: 8080}
      - {name: next, address: controller-next-headless.controller.svc.cluster.local, port: 8080}
    routes:
      - {name: canary, match: {prefix: /api/v1/, headers: [{name: x-canary, exact: "true"}]}, upstream: next}
      - name: api
        match: {prefix: /api/v1/}
        upstream: [{name: controller, weight: 95}, {name: next, weight: 5}]
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
    rate_limits:
      description: The configuration of the rate limit service.
      type: str
    api_keys:
      description: The file with the clients' keys, as a text that M(lambda_microservice.platform.secret) fills in.
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
