# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of the API server means to a user, as a table: what it says, what to call it, what to do.

The messages are Kubernetes' own (k8s.io/apiserver, k8s.io/apimachinery/pkg/api/errors), which helm quotes.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object


@dataclass(frozen=True)
class Refusal:
    """A row of the table. It fits an answer whose message has the pattern and which one of statuses and api_reasons
    names, where these are given. The texts may name (``%(name)s``) what the pattern found, ``message``, and ``fields``
    (the invalid fields if the answer lists them, else the message).
    """

    reason: str
    what: str
    expected: str
    fix: str
    pattern: re.Pattern[str] | None = None
    statuses: tuple[int, ...] = ()
    api_reasons: tuple[str, ...] = ()
    found: str = "%(message)s"
    place: str = ""
    """Where in what the caller names, if the message tells it."""
    facts: Callable[[dict[str, str]], dict[str, str]] | None = None
    """Further texts, made of those that are known."""
    details: tuple[str, ...] = ()
    """Which of the texts are for programs too."""

    def error(self, texts: dict[str, str], where: str, status: int = 0, api_reason: str = "") -> PlatformError | None:
        """The error, if this row fits. ``texts`` has ``message`` and what else the row's texts name."""
        if (self.statuses or self.api_reasons) and not (status in self.statuses or api_reason in self.api_reasons):
            return None
        match = self.pattern.search(texts["message"]) if self.pattern else None
        if self.pattern and match is None:
            return None
        if match is not None:
            texts = {**texts, **{name: (text or "").strip() for name, text in match.groupdict().items()}}
        if self.facts is not None:
            texts = {**texts, **self.facts(texts)}
        return PlatformError(
            self.what % texts,
            where=where + (", " + self.place % texts if self.place else ""),
            found=_shortened(self.found % texts),
            expected=self.expected % texts,
            fix=self.fix % texts,
            reason=self.reason,
            **({"status": status} if status else {}),
            **{name: texts[name] for name in self.details},
        )


def _shortened(text: str, limit: int = 2000) -> str:
    """One line of a short text, the beginning of a long one."""
    text = " ".join(text.split()) if len(text) < 400 else text
    return text if len(text) <= limit else text[:limit] + " (shortened)"


def _of_rbac(found: dict[str, str]) -> dict[str, str]:
    namespace = found["namespace"]
    return {
        "resource": found["resource"] + ("." + found["group"] if found["group"] else ""),
        "scope": "in namespace %s" % namespace if namespace else "in the whole cluster",
        "option": " -n %s" % namespace if namespace else "",
    }


_GO_VALUE = re.compile(r"&value\.valueUnstructured\{Value:(.*?)\}")

REFUSALS = (
    Refusal(
        reason="unauthorized",
        what="the cluster does not accept the credentials",
        found="401 Unauthorized",
        expected="a token or client certificate that is valid and not expired",
        fix="renew the login or the kubeconfig (kind: export it again; EKS, GKE: run the provider's login)",
        statuses=(401,),
        api_reasons=("Unauthorized",),
    ),
    Refusal(
        reason="forbidden",
        what="no right to %(verb)s %(resource)s %(scope)s",
        found='user "%(user)s" lacks it',
        expected="a Role or ClusterRole that allows the verb %(verb)s on %(resource)s",
        fix="bind such a role to the user, or use credentials that have it; "
        "check with: kubectl auth can-i %(verb)s %(resource)s%(option)s --as=%(user)s",
        pattern=re.compile(
            r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group '
            r'"(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)"| at the cluster scope)?'
        ),
        facts=_of_rbac,
        details=("user", "verb", "resource"),
    ),
    Refusal(
        reason="quota",
        what="the ResourceQuota %(quota)s is full",
        found="requested %(requested)s; used already %(used)s",
        expected="at most %(limited)s in all",
        fix="raise the quota, or lower the requests or replicas of what runs in the namespace",
        pattern=re.compile(
            r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.*?), used: (?P<used>.*?), "
            r"limited: (?P<limited>.*)"
        ),
    ),
    Refusal(
        reason="admission",
        what="the admission policy %(policy)s refused it",
        found="%(why)s",
        expected="an object that the policy (binding %(binding)s) allows",
        fix="change the object, or name it among the policy's exceptions",
        pattern=re.compile(
            r"ValidatingAdmissionPolicy '(?P<policy>[^']*)' with binding '(?P<binding>[^']*)' denied request: "
            r"(?P<why>.*)",
            re.DOTALL,
        ),
    ),
    Refusal(
        reason="admission",
        what="the namespace's Pod Security level %(level)s refused it",
        found="%(why)s",
        expected="a pod that meets the level",
        fix="set the security context that the message names",
        pattern=re.compile(r'violates PodSecurity "(?P<level>[^"]*)": (?P<why>.*)', re.DOTALL),
    ),
    Refusal(
        reason="admission",
        what="the admission webhook %(webhook)s refused it",
        found="%(why)s",
        expected="an object that the webhook allows",
        fix="change the object as the webhook asks",
        pattern=re.compile(r'admission webhook "(?P<webhook>[^"]*)" denied the request:? ?(?P<why>.*)', re.DOTALL),
        facts=lambda found: {"why": found["why"].strip() or "no reason given"},
    ),
    Refusal(
        reason="webhook",
        what="the admission webhook %(webhook)s does not answer",
        found="%(why)s",
        expected="a webhook that answers, or one whose failurePolicy is Ignore",
        fix="repair the operator that serves the webhook, or remove its webhook configuration, then run again",
        pattern=re.compile(r'failed calling webhook "(?P<webhook>[^"]*)": (?P<why>.*)', re.DOTALL),
    ),
    Refusal(
        reason="terminating",
        what="the namespace is being deleted",
        expected="a namespace that is not being deleted",
        fix="wait until it is gone, then run again",
        pattern=re.compile("because it is being terminated"),
    ),
    Refusal(
        reason="exists",
        what="the object exists already",
        expected="no such object",
        fix="run again",
        api_reasons=("AlreadyExists",),
    ),
    Refusal(
        reason="conflict",
        what="another writer changed or owns the object",
        found="%(fields)s",
        expected="no other manager of these fields, and an unchanged object since it was read",
        fix="run again; if it comes back, let one of the two managers own the fields",
        statuses=(409,),
    ),
    Refusal(
        reason="admission",
        what="the cluster forbids it",
        expected="a request that the cluster's limits and admission plugins allow",
        fix="change what the message names",
        statuses=(403,),
        api_reasons=("Forbidden",),
    ),
    Refusal(
        reason="missing",
        what="it does not exist",
        expected="an object or a namespace that exists",
        fix="create what the message names first",
        statuses=(404,),
        api_reasons=("NotFound",),
    ),
    Refusal(
        reason="invalid",
        what="the cluster finds the object invalid",
        found="%(fields)s",
        expected="fields and values that the kind's schema allows",
        fix="correct the named fields",
        statuses=(400, 422),
        api_reasons=("Invalid", "BadRequest"),
    ),
    Refusal(
        # Server-side apply answers with 500 where any other write of the same object gets 400 or 422.
        reason="invalid",
        what="the cluster finds the object invalid",
        found="%(why)s",
        expected="fields and values that the kind's schema allows",
        fix="correct the named fields",
        pattern=re.compile(
            r"failed to (?:create typed \w+ object|convert new object) \([^)]*\)(?: to proper version)?: (?P<why>.*)",
            re.DOTALL,
        ),
        facts=lambda found: {"why": _GO_VALUE.sub(r"\1", found["why"])},
    ),
    Refusal(
        reason="unavailable",
        what="the API server cannot serve the request now",
        found="HTTP %(status)s: %(message)s",
        expected="an API server that is up and not overloaded",
        fix="check the control plane (its pods and etcd), then run again",
        statuses=(429, 500, 502, 503, 504),
    ),
)


def refusal(status: int, api_reason: str, message: str, causes: list[Object], where: str) -> PlatformError:
    """The error for an answer of the API server. ``causes`` are those of the Status object's details.

    What no row fits has the reason ``refused``.
    """
    named = ["%s: %s" % (cause["field"], cause.get("message", "")) for cause in causes if cause.get("field")]
    texts = {"status": str(status), "message": message, "fields": "; ".join(named) or message}
    for row in REFUSALS:
        error = row.error(texts, where, status, api_reason)
        if error is not None:
            return error
    return PlatformError(
        "the cluster refused the request",
        where=where,
        found="HTTP %d: %s" % (status, message),
        fix="see the message",
        reason="refused",
        status=status,
    )


def without_secrets(message: str, about: Object) -> str:
    """A message of the API server about this object, without what the object keeps secret.

    The API server quotes what it finds invalid, for a patch that it cannot read even the whole body.
    """
    if about.get("kind") != "Secret":
        return message
    return _QUOTING.sub(r"\1(hidden)", without_values(message, about))


def without_values(message: str, about: Object) -> str:
    """Any message without the values of this Secret, in either spelling."""
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
    return message


_QUOTING = re.compile(r"(Invalid value: |unable to decode |cannot unmarshal |, got ).*", re.DOTALL)
