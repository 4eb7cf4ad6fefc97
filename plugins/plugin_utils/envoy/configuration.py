# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Envoy's v3 configuration out of a table of routes and a table of upstreams.

Sources: the v3 API reference and "Configuring Envoy as an edge proxy" of Envoy's documentation (limits, header
handling).

The configuration is split as Envoy's file-based xDS wants it, so that a new table reaches a running Envoy without a
restart: the bootstrap names three files (listeners, routes, clusters) and one for the certificate, and watches their
folder.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.bootstrap import bootstrap
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.callers import (
    api_keys_file,
    caller_filters,
    checked_callers,
    jwks_cluster,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import flag_of, number_of
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.discovery import (
    discovery_response,
    watched_file,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.limits import checked_limits
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import (
    checked_address,
    https_listeners,
    redirect_listener,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.rate_limits import (
    checked_rate_limits,
    rate_limit_filters,
    service_configuration,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.routes import (
    checked_domains,
    checked_removed_headers,
    checked_response_headers,
    checked_routes,
    route_configuration,
    with_filters,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.upstreams import (
    checked_upstreams,
    rate_limit_cluster,
)

# Where the chart mounts the files and the certificate.
CONFIGURATION_FOLDER = "/etc/envoy/configuration"
CERTIFICATE_FOLDER = "/etc/envoy/certificate"


class Configuration(NamedTuple):
    """``files``: name -> text, what the chart mounts. ``validation``: one document for ``--mode validate``.

    ``rate_limits``: what the rate limit service reads. ``api_keys``: the file of the Secret with the clients' keys,
    each a placeholder for the module secret.
    """

    files: dict[str, str]
    validation: str
    rate_limits: str
    api_keys: str


class _Dumper(yaml.SafeDumper):
    """Without anchors: they save lines and cost the reader more."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)


def configure(
    routes: Any,
    upstreams: Any,
    *,
    domains: Any = ("*",),
    https_port: Any = 443,
    listen_address: Any = "::",
    timeout_seconds: Any = 35,
    max_request_bytes: Any = 4194304,
    max_connections: Any = 20000,
    memory_limit: Any = "4Gi",
    trusted_proxies: Any = 0,
    proxy_protocol: Any = False,
    response_headers: Any = None,
    remove_request_headers: Any = (),
    rate_limits: Any = (),
    rate_limit_exempt_users: Any = (),
    rate_limit_service: Any = None,
    rate_limit_timeout_seconds: Any = 0.05,
    languages: Any = ("nodejs", "python", "rust"),
    replicas: Any = 1,
    trust_user_id: Any = False,
    authentication: Any = "none",
    jwt: Any = None,
    api_key_clients: Any = (),
    api_key_secret: Any = "ingress-api-keys",  # noqa: S107 - a name
    http3: Any = False,
    mesh: Any = False,
) -> Configuration:
    """The configuration of the edge; raises PlatformError where the tables or an option are wrong.

    The options are those of the filter ``envoy_configuration``, which documents them.
    """
    limits = checked_limits(
        timeout_seconds, max_request_bytes, max_connections, memory_limit, trusted_proxies, proxy_protocol
    )
    address = checked_address(listen_address)
    port = number_of(https_port, "ingress_https_port", 1, 65535, "a TCP port", whole=True)
    names = checked_domains(domains)
    added = checked_response_headers(response_headers)
    removed = checked_removed_headers(remove_request_headers)
    callers = checked_callers(trust_user_id, authentication, jwt, api_key_clients)
    if flag_of(http3, "ingress_http3"):
        added["alt-svc"] = f'h3=":{port}"; ma=86400'
    meshed = flag_of(mesh, "mesh_enabled")
    clusters = checked_upstreams(upstreams, meshed)
    table = checked_routes(routes, [cluster["name"] for cluster in clusters], limits, meshed)
    rates = checked_rate_limits(
        rate_limits,
        [route["name"] for route in table],
        rate_limit_exempt_users,
        languages,
        replicas,
        rate_limit_service is not None,
        rate_limit_timeout_seconds,
    )
    table = [with_filters(route, rates, callers) for route in table]
    if rate_limit_service is not None and rates.rows:
        clusters.append(rate_limit_cluster(rate_limit_service, meshed))
    edge_routes = route_configuration(table, names, added, removed, meshed)
    redirect = redirect_listener(address, limits, port)
    base = bootstrap(address, limits)

    counter = str(rate_limit_service["address"]) if meshed and rate_limit_service is not None else ""

    def filters(to_judge: bool) -> list[dict[str, Any]]:
        # First who calls, then how often, and only then is the body read.
        return [*caller_filters(callers, to_judge), *rate_limit_filters(rates, counter)]

    rds = {"rds": {"route_config_name": "edge", "config_source": watched_file(CONFIGURATION_FOLDER, "routes.yaml")}}
    sds = {"name": "edge", "sds_config": watched_file(CONFIGURATION_FOLDER, "certificate.yaml")}
    secret = {
        "name": "edge",
        "tls_certificate": {
            "certificate_chain": {"filename": f"{CERTIFICATE_FOLDER}/tls.crt"},
            "private_key": {"filename": f"{CERTIFICATE_FOLDER}/tls.key"},
            "watched_directory": {"path": CERTIFICATE_FOLDER},
        },
    }
    dynamic = {
        "lds_config": watched_file(CONFIGURATION_FOLDER, "listeners.yaml"),
        "cds_config": watched_file(CONFIGURATION_FOLDER, "clusters.yaml"),
    }
    files = {
        "envoy.yaml": {**base, "dynamic_resources": dynamic},
        "listeners.yaml": discovery_response(
            "envoy.config.listener.v3.Listener",
            [*https_listeners(address, limits, rds, sds, filters(to_judge=False), http3), redirect],
        ),
        "routes.yaml": discovery_response("envoy.config.route.v3.RouteConfiguration", [edge_routes]),
        "clusters.yaml": discovery_response(
            "envoy.config.cluster.v3.Cluster", [*clusters, *jwks_cluster(callers, to_judge=False)]
        ),
        "certificate.yaml": discovery_response("envoy.extensions.transport_sockets.tls.v3.Secret", [secret]),
    }

    # --mode validate does not read xDS files, so the same resources stand in one static document. Only the
    # certificate's source differs: its files exist in the pod alone.
    inline = {"route_config": edge_routes}
    elsewhere = {"name": "edge", "sds_config": {"resource_api_version": "V3", "ads": {}}}
    static = base["static_resources"]
    validation = {
        **base,
        "static_resources": {
            "listeners": [
                *static["listeners"],
                *https_listeners(address, limits, inline, elsewhere, filters(to_judge=True), http3),
                redirect,
            ],
            "clusters": [*static["clusters"], *clusters, *jwks_cluster(callers, to_judge=True)],
        },
    }
    texts = {name: _yaml(document) for name, document in files.items()}
    return Configuration(
        texts, json.dumps(validation), service_configuration(rates), api_keys_file(callers.clients, api_key_secret)
    )
