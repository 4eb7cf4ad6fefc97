# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin, thread-safe view of the Kubernetes API: plain dicts in, plain dicts out, one clear error.

Authentication (options, K8S_AUTH_* variables, kubeconfig, exec plugins, proxies, impersonation) is kubernetes.core's
and the connection pool is the kubernetes client's. What is left out is that client's discovery, which costs several
requests for each task and keeps its cache in a file with a predictable name in the shared temporary folder: here the
resource list of an API version is read when an object of that version is first met.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
    sleep,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.discovery import Discovery
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import (
    Object,
    ref_of,
    spoken,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import (
    refusal,
    without_secrets,
)

try:
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_MAP, AUTH_ARG_SPEC
except ImportError as error:  # the collection is a dependency of ours, but ansible-doc must work without it
    AUTH_ARG_MAP: dict[str, str] = {}  # type: ignore[no-redef]
    AUTH_ARG_SPEC: dict[str, Any] = {}  # type: ignore[no-redef]
    _MISSING: ImportError | None = error
else:
    _MISSING = None

try:
    import kubernetes.client
    import kubernetes.config
    import urllib3
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client as core_client
except ImportError as error:
    _MISSING = _MISSING or error

Objects = list[Object]
"""By this name where the method ``list`` hides the type."""

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

TRIES = 7
"""How often a request is sent that may be sent again: with the pauses between them, for about 9 s. An etcd that
elects a leader is away for 1 to 2 s, a rolling control plane behind a load balancer for a few more."""

_FIRST_TRIES = 3
"""The same while the server has never answered: a wrong address is told soon."""

_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


def auth_argument_spec() -> dict[str, Any]:
    """The arguments of the documentation fragment ``kubernetes.core.k8s_auth_options``."""
    return {name: dict(spec) for name, spec in AUTH_ARG_SPEC.items()}


class Cluster:
    """One cluster, as the authentication options in ``params`` reach it. Safe to use from several threads."""

    def __init__(self, params: Object, timeout_seconds: float = 30) -> None:
        if _MISSING is not None:
            raise PlatformError(
                "a Python library or collection that this module needs is missing",
                found=str(_MISSING),
                expected="the collection kubernetes.core and the Python packages kubernetes and urllib3",
                fix="install them for the Python that runs the module (pip install kubernetes; "
                "ansible-galaxy collection install kubernetes.core)",
                reason="library",
            )
        self.auth = {name: params[name] for name in AUTH_ARG_SPEC if params.get(name) is not None}
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._version: Object | None = None
        self._answered = False
        self.warnings: list[str] = []
        """What the API server warned of (its ``Warning`` headers, RFC 7234), each once."""
        self._connect()
        self._discovery = Discovery(self.request, self.host)

    def _connect(self) -> None:
        try:
            # core_client.get_api_client() would do the same and then run the discovery that we avoid.
            self.effective_auth = core_client._create_auth_spec(None, **self.auth)
            self._prefer_given_kubeconfig()
            self._check_files()
            # kubernetes.core starts from the process's default, where a kubeconfig that was read before has left its
            # client certificate: the credentials of one cluster must not reach the next.
            kubernetes.client.Configuration.set_default(None)
            self.configuration = core_client._create_configuration(dict(self.effective_auth))
            self._without_proxy_to_this_machine()
            self.effective_headers = headers = core_client._create_headers(None, **self.auth)
            self._client = kubernetes.client.ApiClient(self.configuration)
            # validate_certs: false is the user's decision, not worth a warning at each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            for name, value in headers.items():
                core_client._set_header(self._client, name, value)
        except PlatformError:
            raise
        except Exception as failure:
            # kubernetes.config raises its own error, yaml's, OSError and, for odd files, AttributeError or TypeError.
            raise PlatformError(
                "the cluster's credentials cannot be loaded",
                where=self._configured_by(),
                found="%s" % (str(failure) or type(failure).__name__),
                expected="a readable kubeconfig with the context, or host and a token or client certificate",
                fix="check kubeconfig and context (or K8S_AUTH_KUBECONFIG, K8S_AUTH_CONTEXT, KUBECONFIG)",
                reason="credentials",
            ) from failure
        self.host = self.configuration.host.rstrip("/")

    def _prefer_given_kubeconfig(self) -> None:
        """In a pod kubernetes.core takes the pod's own account before a KUBECONFIG that somebody has set for it."""
        auth = self.effective_auth
        given = os.environ.get("KUBECONFIG")
        if given and not any(auth.get(name) for name in ("kubeconfig", "context", "host")):
            auth["kubeconfig"] = given

    def _check_files(self) -> None:
        """The libraries say of a file that is not there that the configuration is invalid or the cluster away."""
        for name, argument in AUTH_ARG_MAP.items():
            path = self.effective_auth.get(name)
            if argument not in ("kubeconfig", "ca_cert", "client_cert", "client_key") or not isinstance(path, str):
                continue
            # A kubeconfig may be several, of which some may be missing.
            paths = path.split(os.pathsep) if argument == "kubeconfig" else [path]
            if not any(os.path.isfile(os.path.expanduser(one)) for one in paths):
                raise PlatformError(
                    "a file that the cluster's credentials name is not there",
                    where="%s %s" % (argument, path),
                    found="no such file on %s" % socket.gethostname(),
                    expected="a file on the machine that runs the module",
                    fix="correct %s (or K8S_AUTH_%s); where the task runs on another machine than the control node, "
                    "copy the file there, or run the task on the control node (delegate_to: localhost)"
                    % (argument, argument.upper()),
                    reason="credentials",
                )

    def _without_proxy_to_this_machine(self) -> None:
        """A proxy of the environment is for other machines; one that the options or the kubeconfig name is meant."""
        proxy = self.configuration.proxy
        named = self.effective_auth.get("proxy")
        if proxy and not named and proxy in getproxies().values() and is_this_machine(self.configuration.host):
            self.configuration.proxy = None

    @property
    def proxy(self) -> str | None:
        """The proxy that requests go through, after NO_PROXY and what is said of this machine."""
        manager = self._client.rest_client.pool_manager
        return self.configuration.proxy if manager.__class__ is not urllib3.PoolManager else None

    def described(self) -> str:
        """The cluster as a person knows it: its server, and the context that names it."""
        context = self._context()
        return "%s (context %s)" % (self.host, context) if context else self.host

    def name(self) -> str:
        """What tells this cluster from another: the context of the kubeconfig, or the server without one."""
        return self._context() or self.host

    def _context(self) -> str:
        auth = self.effective_auth
        context = auth.get("context")
        if not context and isinstance(auth.get("kubeconfig"), dict):
            context = auth["kubeconfig"].get("current-context")
        elif not context and not auth.get("host"):
            try:
                context = kubernetes.config.list_kube_config_contexts(auth.get("kubeconfig"))[1]["name"]
            except (kubernetes.config.ConfigException, OSError):
                context = None  # a pod's own account
        return str(context or "")

    def _configured_by(self) -> str:
        shown = []
        for name in ("host", "kubeconfig", "context"):
            value = self.auth.get(name)
            if value:
                shown.append("%s %s" % (name, "given as data" if isinstance(value, dict) else value))
        return ", ".join(shown) or "the default kubeconfig"

    # --- transport ---------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        headers = dict(self._client.default_headers)
        # The getter runs the configuration's refresh hook: tokens of exec plugins expire during long waits.
        key = self.configuration.get_api_key_with_prefix
        token = key("authorization") or key("BearerToken")
        if token:
            headers["Authorization"] = token
        elif self.configuration.username and self.configuration.password:
            headers["Authorization"] = self.configuration.get_basic_auth_token()
        return headers

    def open(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_seconds: float | None = None,
        stream: bool = False,
        about: Object | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and give the response (2xx only). With stream, the caller reads it and calls release_conn().

        ``about`` is the object or reference that error messages name.
        """
        url = self.host + path
        if query:
            url += "?" + urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
        data = None
        if body is not None:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        read_timeout = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        repeatable = (
            method in ("GET", "DELETE")
            or content_type in (APPLY_PATCH, MERGE_PATCH)
            or (query or {}).get("dryRun") is not None
        )
        began = time.monotonic()
        tries = 0
        while True:
            sleep(0)  # for whoever waited and is gone, nothing more is sent
            tries += 1
            headers = {**self._headers(), "Accept": accept}
            if data is not None:
                headers["Content-Type"] = content_type
            cause: Exception | None = None
            pause = min(3.0, 0.1 * 2**tries)
            try:
                response = self._client.rest_client.pool_manager.request(
                    method,
                    url,
                    body=data,
                    headers=headers,
                    timeout=urllib3.Timeout(connect=min(5.0, read_timeout), read=read_timeout),
                    retries=False,
                    preload_content=not stream,
                )
            except urllib3.exceptions.HTTPError as failure:
                cause = failure
                error = self._unreachable(failure, method, path, read_timeout)
                not_sent = isinstance(
                    failure, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
                )
                again = error.reason != "tls" and (repeatable or not_sent)
            else:
                self._answered = True
                self._keep_warnings(response, about or {})
                if 200 <= response.status < 300:
                    return response
                text = response.data.decode("utf-8", "replace")
                error = self._refused(response.status, text, method, path, about or {})
                # 429 means "not executed, try later"; a create is never repeated after its answer was lost.
                again = response.status == 429 or (repeatable and error.reason in ("unavailable", "webhook"))
                asked = str(response.headers.get("Retry-After", ""))
                if asked.isdigit():
                    pause = max(pause, min(10.0, float(asked)))
            took = time.monotonic() - began
            most = TRIES if self._answered else _FIRST_TRIES
            if not again or tries >= most or took + pause > self.timeout_seconds:
                if tries > 1:
                    error.found += " (%d tries in %.1f s)" % (tries, took)
                raise error from cause
            sleep(pause)

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and give the decoded JSON answer. Options are those of :meth:`open`."""
        response = self.open(method, path, **options)
        try:
            return json.loads(response.data)
        except ValueError as failure:
            raise PlatformError(
                "the cluster's answer is not JSON",
                where="%s %s%s" % (method, self.host, path),
                found="%d bytes of %s" % (len(response.data), response.headers.get("Content-Type", "unknown type")),
                expected="a Kubernetes API server at this address",
                fix="check that host (or the kubeconfig's server) is the API server and not a proxy's login page",
                reason="server",
            ) from failure

    def _keep_warnings(self, response: urllib3.BaseHTTPResponse, about: Object) -> None:
        for text in _WARNING.findall(response.headers.get("Warning") or ""):
            said = without_secrets(re.sub(r"\\(.)", r"\1", text), about)
            if about.get("kind"):
                said = "%s: %s" % (spoken(about), said)
            with self._lock:
                if said not in self.warnings:
                    self.warnings.append(said)

    def _unreachable(self, failure: Exception, method: str, path: str, read_timeout: float) -> PlatformError:
        cause = getattr(failure, "reason", None) or failure
        text = re.sub(r"<[^>]*>: ?|^[A-Za-z]+\([^)]*\): ?", "", str(cause)).strip()
        where = "%s (%s)" % (self.host, self._configured_by())
        if isinstance(cause, urllib3.exceptions.SSLError):
            return PlatformError(
                "the connection to the cluster is not trusted",
                where=where,
                found=text,
                expected="a server certificate that the kubeconfig's or ca_cert's authority has signed",
                fix="use the kubeconfig of this cluster (one made anew has a new authority), or set ca_cert",
                reason="tls",
            )
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            return PlatformError(
                "the cluster did not answer in time",
                where="%s %s%s" % (method, self.host, path),
                found="no answer within %g s" % read_timeout,
                expected="an answer",
                fix="check the load of the API server and of its admission webhooks, then run again",
                reason="timeout",
            )
        return PlatformError(
            "the cluster cannot be reached",
            where=where,
            found=text,
            expected="an API server that accepts connections",
            fix="check that the cluster runs and that this machine may reach it (address, VPN, proxy, firewall)",
            reason="unreachable",
        )

    # --- what the API server said -------------------------------------------------------------------------------------

    def _refused(self, status: int, text: str, method: str, path: str, about: Object) -> PlatformError:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        message = str(answer.get("message") or text.strip()[:500] or "HTTP %d without a message" % status)
        details = answer.get("details") or {}
        causes = [cause for cause in details.get("causes") or [] if isinstance(cause, dict)]
        message = without_secrets(message, about)
        causes = [{**cause, "message": without_secrets(str(cause.get("message", "")), about)} for cause in causes]
        where = "%s at %s" % (spoken(about), self.host) if about.get("kind") else "%s %s%s" % (method, self.host, path)
        return refusal(status, str(answer.get("reason") or ""), message, causes, where)

    # --- discovery ---------------------------------------------------------------------------------------------------

    def forget_resources(self, api_version: str | None = None) -> None:
        """Read the kinds (of this API version) anew when they are next needed: call it when CRDs may have come."""
        self._discovery.forget(api_version)

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster serves this kind (a CRD may be missing)."""
        return kind in self._discovery.resources_of(api_version)

    def namespaced(self, api_version: str, kind: str) -> bool:
        """Whether objects of this kind live in a namespace."""
        return bool(self._discovery.resource(api_version, kind)["namespaced"])

    def path(self, ref: Object, collection: bool = False) -> str:
        """The URL path of an object, or of the collection that it belongs to."""
        return self._discovery.path(ref, collection)

    def api_versions(self) -> list[str]:
        """All that the cluster serves: see :meth:`Discovery.api_versions`."""
        return self._discovery.api_versions()

    def resources_of(self, api_version: str) -> dict[str, Object]:
        """The kinds of an API version: see :meth:`Discovery.resources_of`."""
        return self._discovery.resources_of(api_version)

    def versions_of(self, group: str) -> list[str]:
        """The API versions of a group: see :meth:`Discovery.versions_of`."""
        return self._discovery.versions_of(group)

    def version(self) -> Object:
        """The answer of ``/version``: major, minor, gitVersion and more, all strings."""
        if self._version is None:
            self._version = self.request("GET", "/version")
        return self._version

    # --- objects -----------------------------------------------------------------------------------------------------

    def get(self, ref: Object) -> Object | None:
        """The object, or None if it does not exist. An unknown kind is an error (see :meth:`knows`)."""
        try:
            return self.request("GET", self.path(ref), about=ref_of(ref))
        except PlatformError as failure:
            if failure.details.get("status") == 404:
                return None
            raise

    def get_many(self, refs: Iterable[Object]) -> list[Object | None]:
        """The objects in the order of refs, None for each that does not exist or whose kind is unknown."""

        def one(ref: Object) -> Object | None:
            try:
                return self.get(ref)
            except PlatformError as failure:
                if failure.reason == "kind":
                    return None
                raise

        return all_or_error("objects cannot be read", concurrently(one, list(refs)))

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[Object]:
        """The objects of a kind, in one namespace or in all; apiVersion and kind are set in each."""
        return self.list_at(api_version, kind, namespace, label_selector, field_selector)[0]

    def list_at(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[Objects, str]:
        """Like :meth:`list`, with the resourceVersion from which a watch misses nothing."""
        about = {"apiVersion": api_version, "kind": kind, "namespace": namespace or ""}
        path = self.path(about, collection=True)
        query: dict[str, Any] = {"labelSelector": label_selector, "fieldSelector": field_selector, "limit": 500}
        items: list[Object] = []
        while True:
            answer = self.request("GET", path, query=query, about=about)
            # Items of a list come without apiVersion and kind.
            items.extend({"apiVersion": api_version, "kind": kind, **item} for item in answer.get("items") or [])
            query["continue"] = answer["metadata"].get("continue")
            if not query["continue"]:
                return items, answer["metadata"].get("resourceVersion", "")

    def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        timeout_seconds: int = 30,
    ) -> Iterator[Object]:
        """Events ({type, object}) until timeout_seconds are over; the server ends the stream then.

        An event of type ERROR with code 410 means that resource_version is too old: list again.
        """
        about = {"apiVersion": api_version, "kind": kind, "namespace": namespace or ""}
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "timeoutSeconds": max(1, int(timeout_seconds)),
        }
        response = self.open(
            "GET",
            self.path(about, collection=True),
            query=query,
            timeout_seconds=timeout_seconds + 5,
            stream=True,
            about=about,
        )
        pending = b""
        try:
            for chunk in response.stream(amt=None):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except urllib3.exceptions.HTTPError:
            # A cut connection ends the stream like its time does: the caller lists and watches again.
            return
        finally:
            # Closed and not released: what the server still sends must not reach the next request.
            response.close()

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int = 20,
    ) -> str:
        """The last lines of a container's log, as text."""
        about = {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": namespace}
        query = {
            "container": container,
            "tailLines": tail_lines,
            "previous": "true" if previous else None,
            "limitBytes": 65536,
        }
        response = self.open("GET", self.path(about) + "/log", query=query, accept="*/*", about=about)
        return response.data.decode("utf-8", "replace")

    def apply(self, obj: Object, field_manager: str, force: bool = True, dry_run: bool = False) -> Object:
        """Server-side apply (KEP-555); the object as it is stored, or as it would be."""
        query = {
            "fieldManager": field_manager,
            "force": "true" if force else "false",
            "fieldValidation": "Strict",
            "dryRun": "All" if dry_run else None,
        }
        return self.request("PATCH", self.path(obj), query=query, body=obj, content_type=APPLY_PATCH, about=obj)

    def apply_many(
        self,
        objects: Iterable[Object],
        field_manager: str,
        force: bool = True,
        dry_run: bool = False,
        raise_errors: bool = True,
    ) -> Sequence[Any]:
        """Apply all, concurrently, in no order. The results have the order of objects.

        With raise_errors False, a PlatformError takes the place of each result that failed.
        """
        everything = list(objects)
        results = concurrently(lambda obj: self.apply(obj, field_manager, force, dry_run), everything)
        return all_or_error("objects cannot be applied", results) if raise_errors else results

    def create(self, obj: Object, field_manager: str, dry_run: bool = False) -> Object:
        """Create the object; one that exists is an error with the reason ``exists``."""
        query = {"fieldManager": field_manager, "dryRun": "All" if dry_run else None}
        return self.request("POST", self.path(obj, collection=True), query=query, body=obj, about=obj)

    def patch(
        self,
        ref: Object,
        body: Object,
        field_manager: str,
        content_type: str = MERGE_PATCH,
        dry_run: bool = False,
    ) -> Object:
        """Patch the object (a JSON merge patch, RFC 7386, unless content_type says otherwise)."""
        query = {"fieldManager": field_manager, "dryRun": "All" if dry_run else None}
        # What the error must not quote is in the body, what it names is in ref.
        about = {**ref_of(ref), "data": body.get("data"), "stringData": body.get("stringData")}
        return self.request("PATCH", self.path(ref), query=query, body=body, content_type=content_type, about=about)

    def delete(
        self,
        ref: Object,
        propagation: str = "Background",
        dry_run: bool = False,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> bool:
        """Delete the object (only the one with this uid, only at this version, if given); False if it did not exist."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if dry_run:
            body["dryRun"] = ["All"]
        if uid or resource_version:
            preconditions = {"uid": uid, "resourceVersion": resource_version}
            body["preconditions"] = {name: value for name, value in preconditions.items() if value}
        try:
            self.request("DELETE", self.path(ref), body=body, about=ref_of(ref))
        except PlatformError as failure:
            if failure.details.get("status") == 404:
                return False
            raise
        return True


def is_this_machine(url: str) -> bool:
    """Whether a URL leads to a loopback address or to ``localhost`` (RFC 6761)."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
