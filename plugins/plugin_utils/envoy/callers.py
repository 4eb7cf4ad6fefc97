# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who calls: what becomes of ``X-User-ID``, and the filters that prove it with a token or a key.

Sources: Envoy's documentation of the filters "Header mutation", "JWT authentication" and "API key auth".
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import (
    check_keys,
    duration,
    flag_of,
    list_of,
    text_of,
    wrong,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.discovery import watched_file

USER_HEADER = "x-user-id"
JWKS_CLUSTER = "jwks"
API_KEYS_FOLDER = "/etc/envoy/api-keys"
API_KEYS_FILE = "api-keys.yaml"

_JWT_FILTER, _API_KEY_FILTER = "envoy.filters.http.jwt_authn", "envoy.filters.http.api_key_auth"
_API_KEY_TYPE = "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"
BEFORE = "_before."
"""Begins the name of the Secret's key with a client's key before. No client's name begins so, see _CLIENT."""
_KINDS = ("none", "jwt", "api_key")
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_CLIENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")  # as a Secret's key
_CLAIM = re.compile(r"[A-Za-z0-9_.:/-]+")


class Callers(NamedTuple):
    """How callers are known, checked."""

    trust_user_id: bool
    authentication: str
    jwt: dict[str, Any]
    clients: list[str]


def checked_callers(trust_user_id: Any, authentication: Any, jwt: Any, api_key_clients: Any) -> Callers:
    """The options as they are used."""
    trust = flag_of(trust_user_id, "ingress_trust_user_id")
    if authentication not in _KINDS:
        wrong("ingress_authentication", authentication, f"one of {', '.join(_KINDS)}")
    if trust and authentication != "none":
        wrong(
            "ingress_trust_user_id",
            trust,
            f"false, as with ingress_authentication {authentication} the user comes from the caller's proof",
        )
    clients = [
        text_of(client, f"ingress_api_key_clients[{index}]", "a name of letters, digits, . _ and -", _CLIENT)
        for index, client in enumerate(list_of(api_key_clients, "ingress_api_key_clients", "clients", empty=True))
    ]
    if authentication == "api_key" and (not clients or len(set(clients)) != len(clients)):
        wrong("ingress_api_key_clients", clients, "the clients that get a key, at least one and each once")
    if authentication != "jwt":
        return Callers(trust, str(authentication), {}, clients)
    where = "ingress_jwt"
    checked = check_keys(jwt, where, ("issuer", "audiences"), ("jwks", "jwks_uri", "user_claim"))
    if (checked.get("jwks") is None) == (checked.get("jwks_uri") is None):
        wrong(where, jwt, "exactly one of jwks (the keys) and jwks_uri (where they are)")
    result = {
        "issuer": text_of(checked["issuer"], f"{where}.issuer", "the iss of the tokens"),
        "audiences": [
            text_of(audience, f"{where}.audiences[{index}]", "an aud of the tokens")
            for index, audience in enumerate(list_of(checked["audiences"], f"{where}.audiences", "audiences"))
        ],
        "user_claim": text_of(checked.get("user_claim") or "sub", f"{where}.user_claim", "a claim's name", _CLAIM),
    }
    if checked.get("jwks_uri") is not None:
        uri = text_of(checked["jwks_uri"], f"{where}.jwks_uri", "an address that begins with https:// or http://")
        if urlsplit(uri).scheme not in ("http", "https") or not urlsplit(uri).hostname:
            wrong(f"{where}.jwks_uri", uri, "an address that begins with https:// or http://")
        result["jwks_uri"] = uri
    else:
        keys = checked["jwks"]
        if isinstance(keys, str):
            try:
                keys = json.loads(keys)
            except ValueError:
                wrong(f"{where}.jwks", keys, "a JSON Web Key Set (RFC 7517)")
        if not isinstance(keys, dict) or not isinstance(keys.get("keys"), (list, tuple)) or not keys["keys"]:
            wrong(f"{where}.jwks", keys, "a JSON Web Key Set (RFC 7517): a dictionary with a list keys, not empty")
        result["jwks"] = json.dumps(keys)
    return Callers(trust, "jwt", result, clients)


def caller_filters(callers: Callers, to_judge: bool) -> list[dict[str, Any]]:
    """The filters that come before all others. ``to_judge``: for ``--mode validate``, which reads no files."""
    filters: list[dict[str, Any]] = []
    if not callers.trust_user_id:
        remove = {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [{"remove": USER_HEADER}]},
        }
        filters.append({"name": "envoy.filters.http.header_mutation", "typed_config": remove})
    if callers.authentication == "jwt":
        filters.append({"name": _JWT_FILTER, "typed_config": _jwt(callers.jwt)})
    if callers.authentication == "api_key":
        if to_judge:
            found: dict[str, Any] = {"typed_config": api_keys([{"key": "x", "client": "x"}])}
        else:
            # The keys are a Secret's: a file of their own, which Envoy watches, and no part of the configuration.
            source = watched_file(API_KEYS_FOLDER, API_KEYS_FILE)
            found = {"config_discovery": {"config_source": source, "type_urls": [_API_KEY_TYPE]}}
        filters.append({"name": _API_KEY_FILTER, **found})
    return filters


def public_route(callers: Callers) -> dict[str, Any]:
    """``typed_per_filter_config`` of a route that asks for no proof."""
    name = {"jwt": _JWT_FILTER, "api_key": _API_KEY_FILTER}.get(callers.authentication)
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True, "config": {}}
    return {name: off} if name else {}


def _jwt(jwt: dict[str, Any]) -> dict[str, Any]:
    if "jwks" in jwt:
        keys: dict[str, Any] = {"local_jwks": {"inline_string": jwt["jwks"]}}
    else:
        keys = {
            "remote_jwks": {
                "http_uri": {"uri": jwt["jwks_uri"], "cluster": JWKS_CLUSTER, "timeout": "5s"},
                "cache_duration": "600s",
                "retry_policy": {"num_retries": 3},
            }
        }
    provider = {
        "issuer": jwt["issuer"],
        "audiences": jwt["audiences"],
        **keys,
        # In no query, which logs and caches see.
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "require_expiration": True,
        "claim_to_headers": [{"header_name": USER_HEADER, "claim_name": jwt["user_claim"]}],
    }
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"caller": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "caller"}}],
    }


def api_keys(credentials: list[dict[str, str]]) -> dict[str, Any]:
    """The filter's configuration with these ``{key, client}``; the key comes in X-API-Key and goes no further."""
    return {
        "@type": _API_KEY_TYPE,
        "credentials": credentials,
        "key_sources": [{"header": "x-api-key"}],
        "forwarding": {"header": USER_HEADER, "hide_credentials": True},
    }


def api_keys_file(clients: list[str], secret: str) -> str:
    """The discovery file with the keys of these clients, each a placeholder that the module secret fills in."""
    resource = {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": _API_KEY_FILTER,
        # A client's key before is taken too, until a rotation ends; before the first one it is a key that nobody has.
        "typed_config": api_keys(
            [
                {"key": f"{{value:{secret}/{key}}}", "client": name}
                for name in clients
                for key in (name, f"{BEFORE}{name}")
            ]
        ),
    }
    return json.dumps({"resources": [resource]}, indent=2) + "\n"


def jwks_cluster(callers: Callers, to_judge: bool) -> list[dict[str, Any]]:
    """The cluster that the keys of the tokens come from, where they are fetched."""
    if "jwks_uri" not in callers.jwt:
        return []
    address = urlsplit(callers.jwt["jwks_uri"])
    secure = address.scheme == "https"
    endpoint = {"address": address.hostname, "port_value": address.port or (443 if secure else 80)}
    cluster: dict[str, Any] = {
        "name": JWKS_CLUSTER,
        "cluster_type": {
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_lookup_family": "V4_PREFERRED",
            },
        },
        "connect_timeout": duration(5),
        "load_assignment": {
            "cluster_name": JWKS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": endpoint}}}]}],
        },
    }
    # The authorities are files of the image, which the machine that judges may lack.
    if secure and not to_judge:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": address.hostname,
                "common_tls_context": {
                    "validation_context": {
                        "trusted_ca": {"filename": _AUTHORITIES},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": address.hostname}},
                        ],
                    }
                },
            },
        }
    return [cluster]
