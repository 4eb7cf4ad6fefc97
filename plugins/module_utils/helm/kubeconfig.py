# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the cluster for helm: the same server, proxy and user as those of the Python client.

Where the kubeconfig of the user says it all, helm reads that. Where single options (a host, a token, an impersonated
user, a proxy) change it, helm gets a kubeconfig of its own, with the credentials in the form that renews itself: an
exec plugin stays one, since a token of 15 minutes ends before a long wave of hooks does.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

try:
    import yaml
except ImportError:  # the module itself reports what is missing, see Cluster
    yaml = None  # type: ignore[assignment]

POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105

_CREDENTIALS = ("api_key", "username", "password", "cert_file", "key_file")
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def environment_for(cluster: Cluster) -> tuple[dict[str, str], Object | None]:
    """Environment variables for helm, and a kubeconfig that it needs a private file for."""
    environment = {
        name: value
        for name, value in os.environ.items()
        # What could lead helm to another cluster than the one that we read, or make it chatter.
        if not name.startswith("HELM_KUBE") and name not in ("HELM_NAMESPACE", "HELM_DRIVER", "HELM_DEBUG")
    }
    environment["HELM_DRIVER"] = "secret"
    if not cluster.proxy:
        # Go has rules of its own for NO_PROXY; a host by its name is left out by all of them.
        host = urlsplit(cluster.host).hostname or ""
        left_out = environment.get("NO_PROXY") or environment.get("no_proxy")
        environment["NO_PROXY"] = environment["no_proxy"] = ",".join(part for part in (left_out, host) if part)
    auth = _given(cluster)
    kubeconfig = auth.get("kubeconfig")
    own = set(auth) - {"kubeconfig", "context", "persist_config", "no_proxy"}
    if own or isinstance(kubeconfig, dict) or cluster.configuration.proxy or _is_pods_account(auth):
        return environment, kubeconfig_of(cluster)
    if kubeconfig:
        paths = str(kubeconfig).split(os.pathsep)
        environment["KUBECONFIG"] = os.pathsep.join(os.path.abspath(os.path.expanduser(path)) for path in paths)
    if auth.get("context"):
        environment["HELM_KUBECONTEXT"] = auth["context"]
    return environment, None


def kubeconfig_of(cluster: Cluster) -> Object:
    """A kubeconfig with one context: what the options name, over what the kubeconfig that they name says."""
    auth, configuration = _given(cluster), cluster.configuration
    server: Object = {}
    user: Object = {}
    if _is_pods_account(auth):
        user["tokenFile"] = POD_TOKEN
    elif not _is_complete(auth):
        server, user = _stanzas(auth.get("kubeconfig"), auth.get("context"))
    server["server"] = configuration.host
    _set_trust(server, auth, configuration)
    server.pop("proxy-url", None)
    if cluster.proxy:
        server["proxy-url"] = _with_login(cluster.proxy, auth)
    if any(name in auth for name in _CREDENTIALS):
        user = _credentials(auth)
    headers = cluster.effective_headers
    if headers.get("Impersonate-User"):
        user["as"] = headers["Impersonate-User"]
    if headers.get("Impersonate-Group"):
        user["as-groups"] = list(headers["Impersonate-Group"])
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": server}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "context",
    }


def _given(cluster: Cluster) -> Object:
    """The options that say something, by the names of the client's configuration."""
    given = {name: value for name, value in cluster.effective_auth.items() if value not in (None, {}, "")}
    # Impersonation is a header for the client.
    return {**given, **{name: value for name, value in cluster.effective_headers.items() if name != "Accept"}}


def _is_complete(auth: Object) -> bool:
    """Whether host and credentials are given, so that no kubeconfig is read (kubernetes.core's rule)."""
    enough = ({"api_key"}, {"username", "password"}, {"cert_file", "key_file"})
    return "host" in auth and any(names <= {*auth} for names in enough)


def _is_pods_account(auth: Object) -> bool:
    """Whether it is the account of the pod that we run in (kubernetes.core's rule)."""
    named = "kubeconfig" in auth or "context" in auth or _is_complete(auth)
    return not named and "KUBERNETES_SERVICE_HOST" in os.environ and os.path.exists(POD_TOKEN)


def _set_trust(server: Object, auth: Object, configuration: Any) -> None:
    if (
        "verify_ssl" in auth
        or "ssl_ca_cert" in auth
        or not server.keys()
        & {
            "certificate-authority",
            "certificate-authority-data",
            "insecure-skip-tls-verify",
        }
    ):
        for name in ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"):
            server.pop(name, None)
        if configuration.verify_ssl is False:
            server["insecure-skip-tls-verify"] = True
        elif configuration.ssl_ca_cert:
            server["certificate-authority"] = os.path.abspath(configuration.ssl_ca_cert)
    if getattr(configuration, "tls_server_name", None):
        server["tls-server-name"] = configuration.tls_server_name


def _with_login(proxy: str, auth: Object) -> str:
    login = (auth.get("proxy_headers") or {}).get("proxy_basic_auth")
    scheme, found, rest = proxy.partition("://")
    if not login or not found or "@" in rest:
        return proxy
    name, _colon, password = login.partition(":")
    return "%s://%s:%s@%s" % (scheme, quote(name, safe=""), quote(password, safe=""), rest)


def _credentials(auth: Object) -> Object:
    user: Object = {}
    if auth.get("api_key"):
        user["token"] = auth["api_key"]
    elif auth.get("username") and auth.get("password"):
        user["username"], user["password"] = auth["username"], auth["password"]
    if auth.get("cert_file"):
        user["client-certificate"] = os.path.abspath(os.path.expanduser(auth["cert_file"]))
    if auth.get("key_file"):
        user["client-key"] = os.path.abspath(os.path.expanduser(auth["key_file"]))
    return user


def _stanzas(kubeconfig: Object | str | None, context: str | None) -> tuple[Object, Object]:
    """Cluster and user of a context, as the kubeconfig has them, with absolute paths. The first file to name a thing
    wins, as for kubectl.
    """
    files: list[tuple[str, Object]] = []
    if isinstance(kubeconfig, dict):
        files.append((os.getcwd(), kubeconfig))
    else:
        for path in str(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep):
            path = os.path.abspath(os.path.expanduser(path))
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    files.append((os.path.dirname(path), yaml.safe_load(file) or {}))

    def entry(part: str, kind: str, name: str | None) -> tuple[str, Object]:
        for folder, content in files:
            for candidate in content.get(part) or []:
                if candidate.get("name") == name:
                    return folder, dict(candidate.get(kind) or {})
        return "", {}

    current = [content["current-context"] for dummy, content in files if content.get("current-context")]
    name = context or next(iter(current), None)
    _folder, chosen = entry("contexts", "context", name)
    found = [entry("clusters", "cluster", chosen.get("cluster")), entry("users", "user", chosen.get("user"))]
    for folder, stanza in found:
        for path in _PATHS:
            if stanza.get(path):
                stanza[path] = os.path.join(folder, stanza[path])
        command = (stanza.get("exec") or {}).get("command", "")
        if "/" in command:
            stanza["exec"] = {**stanza["exec"], "command": os.path.join(folder, command)}
    return found[0][1], found[1][1]
