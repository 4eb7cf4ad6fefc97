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

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

try:
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
except ImportError as error:  # the collection is a dependency of ours, but ansible-doc must work without it
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

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Object = dict[str, Any]

CONCURRENCY = 8
"""Requests in flight at once. The API server's fairness queues take this from one user without delay."""

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

_DISCOVERY_V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def auth_argument_spec() -> dict[str, Any]:
    """The arguments of the documentation fragment ``kubernetes.core.k8s_auth_options``."""
    return {name: dict(spec) for name, spec in AUTH_ARG_SPEC.items()}


def concurrently(
    function: Callable[[_Item], _Result], items: Iterable[_Item], limit: int = CONCURRENCY
) -> list[_Result | PlatformError]:
    """Call function for each item, up to limit at once. The result has the items' order; a PlatformError is a result.

    Any other exception is a bug and is raised once all calls have ended.
    """

    def call(item: _Item) -> _Result | PlatformError:
        try:
            return function(item)
        except PlatformError as failure:
            return failure

    everything = list(items)
    if len(everything) < 2:
        return [call(item) for item in everything]
    with ThreadPoolExecutor(max_workers=min(limit, len(everything))) as pool:
        return list(pool.map(call, everything))


def ref_of(obj: Object) -> Object:
    """The reference ({apiVersion, kind, name, namespace}) of an object, or of a reference in either spelling."""
    metadata = obj.get("metadata") or {}
    return {
        "apiVersion": obj.get("apiVersion") or obj.get("api_version") or "",
        "kind": obj.get("kind") or "",
        "name": metadata.get("name") or obj.get("name") or "",
        "namespace": metadata.get("namespace") or obj.get("namespace") or "",
    }


def spoken(ref: Object) -> str:
    """How messages name an object: ``Deployment controller/controller`` (kind namespace/name)."""
    ref = ref_of(ref)
    return "%s %s" % (ref["kind"], "/".join(part for part in (ref["namespace"], ref["name"]) if part))


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
                reason="missing_library",
            )
        self.auth = {name: params[name] for name in AUTH_ARG_SPEC if params.get(name) is not None}
        self.timeout_seconds = timeout_seconds
        self._resources: dict[str, dict[str, Object]] = {}
        self._api_versions: list[str] | None = None
        self._lock = threading.Lock()
        self._version: Object | None = None
        self._connect()

    def _connect(self) -> None:
        try:
            # core_client.get_api_client() would do the same and then run the discovery that we avoid.
            self.effective_auth = core_client._create_auth_spec(None, **self.auth)
            # kubernetes.core starts from the process's default, where a kubeconfig that was read before has left its
            # client certificate: the credentials of one cluster must not reach the next.
            kubernetes.client.Configuration.set_default(None)
            self.configuration = core_client._create_configuration(dict(self.effective_auth))
            self.effective_headers = headers = core_client._create_headers(None, **self.auth)
            self._client = kubernetes.client.ApiClient(self.configuration)
            # validate_certs: false is the user's decision, not worth a warning at each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            for name, value in headers.items():
                core_client._set_header(self._client, name, value)
        except Exception as failure:
            # kubernetes.config raises its own error, yaml's, OSError and, for odd files, AttributeError or TypeError.
            raise PlatformError(
                "the cluster's credentials cannot be loaded",
                where=self._configured_by(),
                found="%s" % (str(failure) or type(failure).__name__),
                expected="a readable kubeconfig with the context, or host and a token or client certificate",
                fix="check kubeconfig and context (or K8S_AUTH_KUBECONFIG, K8S_AUTH_CONTEXT, KUBECONFIG)",
                reason="credentials",
            ) from None
        self.host = self.configuration.host.rstrip("/")

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
        headers = self._headers()
        headers["Accept"] = accept
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        read_timeout = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            response = self._client.rest_client.pool_manager.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(5.0, read_timeout), read=read_timeout),
                # 429 means "not executed, try later"; a create is never repeated after its answer was lost.
                retries=urllib3.Retry(
                    total=3,
                    backoff_factor=0.2,
                    status_forcelist=(429,),
                    allowed_methods=("GET", "PATCH", "PUT", "DELETE"),
                    raise_on_status=False,
                    redirect=False,
                ),
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as failure:
            raise self._unreachable(failure, method, path) from None
        if 200 <= response.status < 300:
            return response
        text = response.data.decode("utf-8", "replace")
        raise self._refused(response.status, text, method, path, about or {})

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and give the decoded JSON answer. Options are those of :meth:`open`."""
        response = self.open(method, path, **options)
        try:
            return json.loads(response.data)
        except ValueError:
            raise PlatformError(
                "the cluster's answer is not JSON",
                where="%s %s%s" % (method, self.host, path),
                found="%d bytes of %s" % (len(response.data), response.headers.get("Content-Type", "unknown type")),
                expected="a Kubernetes API server at this address",
                fix="check that host (or the kubeconfig's server) is the API server and not a proxy's login page",
                reason="not_an_api_server",
            ) from None

    def _unreachable(self, failure: Exception, method: str, path: str) -> PlatformError:
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
                found="no answer within %g s" % self.timeout_seconds,
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

    def _resources_of(self, api_version: str) -> dict[str, Object]:
        """The kinds of an API version: {kind: {name, namespaced, verbs}}. Empty if the cluster does not serve it."""
        with self._lock:
            known = self._resources.get(api_version)
        if known is not None:
            return known
        try:
            answer = self.request("GET", _root(api_version))
        except PlatformError as failure:
            if failure.details.get("status") != 404:
                raise
            answer = {"resources": []}
        kinds = {entry["kind"]: entry for entry in answer["resources"] if "/" not in entry["name"]}
        with self._lock:
            self._resources[api_version] = kinds
        return kinds

    def forget_resources(self) -> None:
        """Read the kinds anew when they are next needed: call it after CRDs were installed."""
        with self._lock:
            self._resources.clear()
            self._api_versions = None

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster serves this kind (a CRD may be missing)."""
        return kind in self._resources_of(api_version)

    def namespaced(self, api_version: str, kind: str) -> bool:
        """Whether objects of this kind live in a namespace."""
        return bool(self._resource(api_version, kind)["namespaced"])

    def _resource(self, api_version: str, kind: str) -> Object:
        kinds = self._resources_of(api_version)
        if kind in kinds:
            return kinds[kind]
        raise PlatformError(
            "the cluster does not know the kind %s of %s" % (kind, api_version or "an empty apiVersion"),
            where=self.host,
            found="API version %s has %s" % (api_version, ", ".join(sorted(kinds)[:12]))
            if kinds
            else "API version %s is not served" % api_version,
            expected="a kind of Kubernetes itself or of an installed CustomResourceDefinition",
            fix="check apiVersion and kind, or install the operator that brings its CustomResourceDefinition first",
            reason="unknown_kind",
            api_version=api_version,
            kind=kind,
        )

    def path(self, ref: Object, collection: bool = False) -> str:
        """The URL path of an object, or of the collection that it belongs to."""
        ref = ref_of(ref)
        resource = self._resource(ref["apiVersion"], ref["kind"])
        path = _root(ref["apiVersion"])
        if resource["namespaced"] and (ref["namespace"] or not collection):
            path += "/namespaces/" + quote(ref["namespace"] or "default", safe="")
        path += "/" + resource["name"]
        return path if collection else path + "/" + quote(ref["name"], safe="")

    def api_versions(self) -> list[str]:
        """All that the cluster serves, in the form of Helm's ``.Capabilities.APIVersions``: ``apps/v1``,
        ``apps/v1/Deployment``. Two requests on Kubernetes 1.27 and later, one per API version before.
        """
        if self._api_versions is not None:
            return self._api_versions
        answers = concurrently(lambda path: self.request("GET", path, accept=_DISCOVERY_V2), ["/api", "/apis"])
        found: list[str] = []
        legacy: list[str] = []
        for answer in answers:
            if isinstance(answer, PlatformError):
                raise answer
            if answer["kind"] == "APIGroupDiscoveryList":
                self._remember(answer, found)
            elif answer["kind"] == "APIVersions":
                legacy.extend(answer["versions"])
            else:
                legacy.extend(version["groupVersion"] for group in answer["groups"] for version in group["versions"])
        for version, kinds in zip(legacy, concurrently(self._resources_of, legacy), strict=True):
            # An aggregated API whose server is down must not stop a chart that does not use it.
            if not isinstance(kinds, PlatformError):
                found.append(version)
                found.extend("%s/%s" % (version, kind) for kind in kinds)
        self._api_versions = sorted(set(found))
        return self._api_versions

    def _remember(self, answer: Object, found: list[str]) -> None:
        for group in answer["items"]:
            group_name = group["metadata"].get("name", "")
            for version in group["versions"]:
                api_version = "/".join(part for part in (group_name, version["version"]) if part)
                kinds = {}
                for resource in version.get("resources", []):
                    kind = (resource.get("responseKind") or {}).get("kind")
                    if kind:
                        kinds[kind] = {
                            "name": resource["resource"],
                            "kind": kind,
                            "namespaced": resource["scope"] == "Namespaced",
                            "verbs": resource["verbs"],
                        }
                if version.get("freshness") == "Stale" and not kinds:
                    continue
                with self._lock:
                    self._resources[api_version] = kinds
                found.append(api_version)
                found.extend("%s/%s" % (api_version, kind) for kind in kinds)

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
                if failure.reason == "unknown_kind":
                    return None
                raise

        return _all_or_error("objects cannot be read", concurrently(one, list(refs)))

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
    ) -> tuple[list[Object], str]:
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
    ) -> list[Any]:
        """Apply all, concurrently, in no order. The results have the order of objects.

        With raise_errors False, a PlatformError takes the place of each result that failed.
        """
        everything = list(objects)
        results = concurrently(lambda obj: self.apply(obj, field_manager, force, dry_run), everything)
        return _all_or_error("objects cannot be applied", results) if raise_errors else results

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
        self, ref: Object, propagation: str = "Background", dry_run: bool = False, uid: str | None = None
    ) -> bool:
        """Delete the object (only the one with this uid, if given); False if it did not exist."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if dry_run:
            body["dryRun"] = ["All"]
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", self.path(ref), body=body, about=ref_of(ref))
        except PlatformError as failure:
            if failure.details.get("status") == 404:
                return False
            raise
        return True


def _root(api_version: str) -> str:
    return ("/apis/" if "/" in api_version else "/api/") + api_version


def _all_or_error(what: str, results: list[Any]) -> list[Any]:
    errors = [result for result in results if isinstance(result, PlatformError)]
    if errors:
        raise PlatformError.of_many("%d of %d %s" % (len(errors), len(results), what), errors)
    return results


def without_secrets(message: str, about: Object) -> str:
    """A message of the API server about this object, without what the object keeps secret.

    The API server quotes what it finds invalid, for a patch that it cannot read even the whole body.
    """
    if about.get("kind") != "Secret":
        return message
    values: set[str] = set()
    for field in ("data", "stringData"):
        for value in (about.get(field) or {}).values():
            if not isinstance(value, str):
                continue
            values.add(value)
            values.add(base64.b64encode(value.encode()).decode())
            with contextlib.suppress(ValueError):
                values.add(base64.b64decode(value, validate=True).decode())
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 2:
            message = message.replace(value, "(hidden)")
    return _QUOTING.sub(r"\1(hidden)", message)


_QUOTING = re.compile(r"(Invalid value: |unable to decode |cannot unmarshal |, got ).*", re.DOTALL)
_RBAC = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?P<scope> in the namespace "(?P<namespace>[^"]*)"| at the cluster scope)?'
)
_QUOTA = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.*?), used: (?P<used>.*?), limited: (?P<limited>.*)"
)
_POLICY = re.compile(
    r"ValidatingAdmissionPolicy '(?P<policy>[^']*)' with binding '(?P<binding>[^']*)' denied request: (?P<why>.*)",
    re.DOTALL,
)
_WEBHOOK_DENIED = re.compile(r'admission webhook "(?P<webhook>[^"]*)" denied the request:? ?(?P<why>.*)', re.DOTALL)
_NOT_IN_SCHEMA = re.compile(
    r"failed to (?:create typed \w+ object|convert new object) \([^)]*\)(?: to proper version)?: (?P<why>.*)",
    re.DOTALL,
)
_GO_VALUE = re.compile(r"&value\.valueUnstructured\{Value:(.*?)\}")
_WEBHOOK_FAILED = re.compile(r'failed calling webhook "(?P<webhook>[^"]*)": (?P<why>.*)', re.DOTALL)
_POD_SECURITY = re.compile(r'violates PodSecurity "(?P<level>[^"]*)": (?P<why>.*)', re.DOTALL)


def refusal(status: int, reason: str, message: str, causes: list[Object], where: str) -> PlatformError:
    """The error for an answer of the API server, or for what helm quotes of one (status 0 where it is unknown)."""
    if status == 401 or reason == "Unauthorized":
        return PlatformError(
            "the cluster does not accept the credentials",
            where=where,
            found="401 Unauthorized",
            expected="a token or client certificate that is valid and not expired",
            fix="renew the login or the kubeconfig (kind: export it again; EKS, GKE: run the provider's login)",
            reason="unauthorized",
            status=status,
        )
    match = _RBAC.search(message)
    if match:
        found = match.groupdict()
        resource = found["resource"] + ("." + found["group"] if found["group"] else "")
        scope = "in namespace %s" % found["namespace"] if found["namespace"] else "in the whole cluster"
        return PlatformError(
            "no right to %s %s %s" % (found["verb"], resource, scope),
            where=where,
            found='user "%s" lacks it' % found["user"],
            expected="a Role or ClusterRole that allows the verb %s on %s" % (found["verb"], resource),
            fix="bind such a role to the user, or use credentials that have it; "
            "check with: kubectl auth can-i %s %s%s --as=%s"
            % (found["verb"], resource, " -n " + found["namespace"] if found["namespace"] else "", found["user"]),
            reason="forbidden",
            status=status,
            user=found["user"],
            verb=found["verb"],
            resource=resource,
        )
    match = _QUOTA.search(message)
    if match:
        return PlatformError(
            "the ResourceQuota %s is full" % match["quota"],
            where=where,
            found="requested %s; used already %s" % (match["requested"], match["used"]),
            expected="at most %s in all" % match["limited"],
            fix="raise the quota, or lower the requests or replicas of what runs in the namespace",
            reason="quota",
            status=status,
        )
    match = _POLICY.search(message)
    if match:
        return PlatformError(
            "the admission policy %s refused it" % match["policy"],
            where=where,
            found=match["why"].strip(),
            expected="an object that the policy (binding %s) allows" % match["binding"],
            fix="change the object, or name it among the policy's exceptions",
            reason="admission",
            status=status,
        )
    match = _POD_SECURITY.search(message)
    if match:
        return PlatformError(
            "the namespace's Pod Security level %s refused it" % match["level"],
            where=where,
            found=match["why"].strip(),
            expected="a pod that meets the level",
            fix="set the security context that the message names",
            reason="admission",
            status=status,
        )
    match = _WEBHOOK_DENIED.search(message)
    if match:
        return PlatformError(
            "the admission webhook %s refused it" % match["webhook"],
            where=where,
            found=match["why"].strip() or "no reason given",
            expected="an object that the webhook allows",
            fix="change the object as the webhook asks",
            reason="admission",
            status=status,
        )
    match = _WEBHOOK_FAILED.search(message)
    if match:
        return PlatformError(
            "the admission webhook %s does not answer" % match["webhook"],
            where=where,
            found=match["why"].strip(),
            expected="a webhook that answers, or one whose failurePolicy is Ignore",
            fix="repair the operator that serves the webhook, or remove its webhook configuration, then run again",
            reason="webhook_unavailable",
            status=status,
        )
    if "because it is being terminated" in message:
        return PlatformError(
            "the namespace is being deleted",
            where=where,
            found=message,
            expected="a namespace that is not being deleted",
            fix="wait until it is gone, then run again",
            reason="terminating",
            status=status,
        )
    if status == 409 and reason != "AlreadyExists":
        fields = ["%s (%s)" % (cause.get("field", "?"), cause["message"]) for cause in causes]
        return PlatformError(
            "another writer changed or owns the object",
            where=where,
            found="; ".join(fields) or message,
            expected="no other manager of these fields, and an unchanged object since it was read",
            fix="run again; if it comes back, let one of the two managers own the fields",
            reason="conflict",
            status=status,
        )
    if status == 409:
        return PlatformError(
            "the object exists already", where=where, found=message, fix="run again", reason="exists", status=status
        )
    if status == 403 or reason == "Forbidden":
        return PlatformError(
            "the cluster forbids it",
            where=where,
            found=message,
            expected="a request that the cluster's limits and admission plugins allow",
            fix="change what the message names",
            reason="admission",
            status=status,
        )
    if status == 404 or reason == "NotFound":
        return PlatformError(
            "it does not exist",
            where=where,
            found=message,
            expected="an object or a namespace that exists",
            fix="create what the message names first",
            reason="not_found",
            status=status,
        )
    if status in (400, 422) or reason in ("Invalid", "BadRequest"):
        fields = ["%s: %s" % (cause["field"], cause["message"]) for cause in causes if cause.get("field")]
        return PlatformError(
            "the cluster finds the object invalid",
            where=where,
            found="; ".join(fields) or message,
            expected="fields and values that the kind's schema allows",
            fix="correct the named fields",
            reason="invalid",
            status=status,
        )
    match = _NOT_IN_SCHEMA.search(message)
    if match:
        # Server-side apply answers with 500 where any other write of the same object gets 400 or 422.
        return PlatformError(
            "the cluster finds the object invalid",
            where=where,
            found=_GO_VALUE.sub(r"\1", match["why"]),
            expected="fields and values that the kind's schema allows",
            fix="correct the named fields",
            reason="invalid",
            status=status,
        )
    if status in (429, 500, 502, 503, 504):
        return PlatformError(
            "the API server cannot serve the request now",
            where=where,
            found="HTTP %d: %s" % (status, message),
            expected="an API server that is up and not overloaded",
            fix="check the control plane (its pods and etcd), then run again",
            reason="unavailable",
            status=status,
        )
    return PlatformError(
        "the cluster refused the request",
        where=where,
        found="HTTP %d: %s" % (status, message) if status else message,
        fix="see the message",
        reason="refused",
        status=status,
    )
