# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``secret``: values that are made once, kept, and never seen.

All values of one call are worked out first, from what the cluster has; then the Secrets that differ are offered to it
in a dry run, and written once it accepts them all.
Nothing here gives a value back: results and diffs name keys and say what became of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates

FIELD_MANAGER = "lambda-microservice-platform-secret"
ALPHABET = string.ascii_letters + string.digits
LEAST_BITS = 64
"""The least entropy of a random value: fewer bits could be tried out."""

OVERLAP = "lambda-microservice.platform/overlap"
"""The annotation of a Secret whose value before is still taken: since when."""
_NEXT, _NEXT_KEY, _PREVIOUS = "next.crt", "next.key", "previous.crt"
"""Keys of an authority that is being replaced."""

LABELS = {
    "app.kubernetes.io/part-of": "lambda-microservice-platform",
    "app.kubernetes.io/managed-by": "Ansible",
}

ARGUMENT_SPEC: dict[str, Any] = {
    "secrets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "namespaces": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "type": {"type": "str"},
            "labels": {"type": "dict", "default": {}},
            "random": {"type": "dict", "default": {}},
            "data": {"type": "dict", "default": {}, "no_log": True},
            "alternate": {"type": "dict", "default": {}},
            "rotate": {"type": "bool", "default": False},
            "forget": {"type": "bool", "default": False},
            "render": {"type": "dict", "default": {}},
            "certificate": {
                "type": "dict",
                "options": {
                    "common_name": {"type": "str", "required": True},
                    "dns_names": {"type": "list", "elements": "str", "default": []},
                    "ip_addresses": {"type": "list", "elements": "str", "default": []},
                    "valid_days": {"type": "int", "default": 365},
                    "is_ca": {"type": "bool", "default": False},
                    "switch": {"type": "bool", "default": False},
                    "ca": {
                        "type": "dict",
                        "options": {
                            "secret": {"type": "str", "required": True, "no_log": False},
                            "namespace": {"type": "str"},
                        },
                    },
                },
                "mutually_exclusive": [("is_ca", "ca")],
            },
        },
    },
    **auth_argument_spec(),
}

# The values of data (a user's name, say) may be parts of words that a result does hold.
RESULT_HOLDS_NONE_OF = ("secrets",)


def scram_verifier(password: bytes, salt: bytes = b"") -> bytes:
    """A password as PostgreSQL keeps it (RFC 5803, with PostgreSQL's own 4096 iterations).

    Without a salt, it comes from the password, so that the same password always gives the same text. It hides nothing
    that way, which a random password of at least LEAST_BITS does not need.
    """
    salt = salt or hashlib.sha256(b"salt of " + password).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return b"SCRAM-SHA-256$4096:%b$%b:%b" % tuple(map(base64.b64encode, (salt, stored, server)))


_PLACEHOLDER = re.compile(r"\{(?P<function>[a-z0-9]+):(?P<secret>[^/{}\s]+)/(?P<key>[^/{}\s]+)\}")
_FUNCTIONS: dict[str, Callable[[bytes], bytes]] = {
    "value": lambda value: value,
    "sha256": lambda value: hashlib.sha256(value).hexdigest().encode(),
    "base64": base64.b64encode,
    "scram": scram_verifier,
}


def run(
    params: Object,
    check_mode: bool = False,
    diff: bool = False,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Bring the Secrets to what is asked for; see the module's RETURN for the result."""
    specs = [_Spec.of(entry, index) for index, entry in enumerate(params["secrets"])]
    _check(specs)
    cluster = (connect or Cluster)(params)
    copies = _read(cluster, specs)
    values = _work_out(cluster, specs, copies)
    changes = [change for spec in specs for change in _changes(spec, values, copies)]
    wanted = [change for change in changes if change.action != "unchanged"]
    notes = _offer(cluster, wanted, check_mode)
    errors: list[PlatformError] = []
    if not check_mode:
        errors = [
            outcome
            for outcome in concurrently(lambda change: _write(cluster, change), wanted)
            if isinstance(outcome, PlatformError)
        ]
    result: Object = {
        "changed": bool(wanted) if check_mode else len(wanted) > len(errors),
        "secrets": [change.shown() for change in changes],
        "ca_certificates": {
            spec.name: values[spec.name]["ca.crt"].value.decode()
            for spec in specs
            if spec.certificate and spec.present and not (check_mode and values[spec.name]["ca.crt"].how != "unchanged")
        },
        "alternates": {
            spec.name: {key: values[spec.name][key].value.decode() for key in spec.alternate}
            for spec in specs
            if spec.alternate and spec.present
        },
        "overlaps": {spec.name: since for spec in specs if (since := _overlap_after(spec, copies))},
        "rendered": {
            spec.name: {key: hashlib.sha256(values[spec.name][key].value).hexdigest() for key in spec.render}
            for spec in specs
            if spec.render and spec.present
        },
        "certificates_expire": {
            spec.name: certificates.expires(values[spec.name]["tls.crt"].value)
            for spec in specs
            if spec.certificate and spec.present
        },
    }
    if notes:
        result["notes"] = notes
    if diff:
        result["diff"] = [change.difference() for change in wanted]
    if errors:
        error = PlatformError.of_many("%d of %d Secrets cannot be written" % (len(errors), len(wanted)), errors)
        result.update(failed=True, **error.result())
    return result


# --- what is asked for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spec:
    name: str
    namespaces: list[str]
    present: bool
    type: str
    labels: dict[str, str]
    random: dict[str, _Random]
    data: dict[str, bytes] = field(repr=False)
    alternate: dict[str, list[bytes]]
    rotate: bool
    forget: bool
    switch: bool
    render: dict[str, str] = field(repr=False)
    certificate: certificates.Wanted | None = None
    ca_secret: str = ""
    ca_namespace: str = ""

    @classmethod
    def of(cls, entry: Object, index: int) -> _Spec:
        where = "secrets[%d] (%s)" % (index, entry["name"])
        wanted = entry["certificate"]
        certificate = None
        if wanted:
            certificate = certificates.Wanted(
                common_name=wanted["common_name"],
                dns_names=tuple(wanted["dns_names"]),
                ip_addresses=tuple(wanted["ip_addresses"]),
                valid_days=wanted["valid_days"],
                is_ca=wanted["is_ca"],
            )
            _check_certificate(certificate, where)
        ca = (wanted or {}).get("ca") or {}
        return cls(
            name=entry["name"],
            namespaces=list(dict.fromkeys(entry["namespaces"])),
            present=entry["state"] == "present",
            type=entry["type"] or ("kubernetes.io/tls" if certificate else "Opaque"),
            labels={**LABELS, **{name: str(text) for name, text in entry["labels"].items()}},
            random={key: _random_options(key, options, where) for key, options in entry["random"].items()},
            data={key: _fixed(key, value, where) for key, value in entry["data"].items()},
            alternate={key: _alternatives(key, texts, where) for key, texts in entry["alternate"].items()},
            rotate=entry["rotate"],
            forget=entry["forget"],
            switch=bool(wanted and wanted["switch"]),
            render={key: _text(key, template, where) for key, template in entry["render"].items()},
            certificate=certificate,
            ca_secret=ca.get("secret", ""),
            ca_namespace=ca.get("namespace") or "",
        )

    def key_names(self) -> list[str]:
        made = ["tls.crt", "tls.key", "ca.crt"] if self.certificate else []
        return [*self.random, *self.previous(), *self.data, *self.alternate, *self.render, *made]

    def previous(self) -> dict[str, str]:
        """By the key that keeps a value before, the key that it is of."""
        return {options.previous: key for key, options in self.random.items() if options.previous}


@dataclass(frozen=True)
class _Random:
    length: int
    alphabet: str
    previous: str = ""

    def made(self) -> bytes:
        return "".join(secrets.choice(self.alphabet) for dummy in range(self.length)).encode()


def _argument_error(where: str, what: str, found: str, expected: str) -> PlatformError:
    return PlatformError(
        what, where=where, found=found, expected=expected, fix="correct the argument", reason="argument"
    )


def _random_options(key: str, options: Any, where: str) -> _Random:
    options = {} if options is None else options
    where = "%s.random.%s" % (where, key)
    if not isinstance(options, dict) or set(options) - {"length", "alphabet", "previous"}:
        raise _argument_error(
            where, "a random value's options are wrong", repr(options), "length, alphabet and previous"
        )
    alphabet = str(options.get("alphabet") or ALPHABET)
    try:
        length = int(options.get("length", 32))
    except (TypeError, ValueError) as error:
        raise _argument_error(
            where, "a random value's length is no number", repr(options["length"]), "a whole number of characters"
        ) from error
    bits = length * math.log2(max(1, len(set(alphabet))))
    if bits < LEAST_BITS or length > 4096:
        raise _argument_error(
            where,
            "a random value would be too %s" % ("long" if length > 4096 else "easy to guess"),
            "%d characters out of %d, %d bits" % (length, len(set(alphabet)), bits),
            "at least %d bits and at most 4096 characters" % LEAST_BITS,
        )
    return _Random(length, alphabet, str(options.get("previous") or ""))


def _fixed(key: str, value: Any, where: str) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, (str, int, float)):
        return str(value).encode()
    raise _argument_error(
        "%s.data.%s" % (where, key), "a fixed value is no text", "a %s" % type(value).__name__, "a text or a number"
    )


def _alternatives(key: str, texts: Any, where: str) -> list[bytes]:
    if not isinstance(texts, list) or len({str(text) for text in texts}) != len(texts) or len(texts) < 2:
        raise _argument_error(
            "%s.alternate.%s" % (where, key), "the alternatives are wrong", repr(texts), "a list of two or more texts"
        )
    return [str(text).encode() for text in texts]


def _text(key: str, template: Any, where: str) -> str:
    where = "%s.render.%s" % (where, key)
    if not isinstance(template, str):
        raise _argument_error(where, "a template is no text", "a %s" % type(template).__name__, "a text")
    for match in _PLACEHOLDER.finditer(template):
        if match["function"] not in _FUNCTIONS:
            raise _argument_error(
                where, "a placeholder's function is unknown", match[0], "{%s:SECRET/KEY}" % "|".join(_FUNCTIONS)
            )
    return template


def _check_certificate(wanted: certificates.Wanted, where: str) -> None:
    certificates.require()
    where += ".certificate"
    try:
        wanted.names()
    except ValueError as error:
        raise _argument_error(where + ".ip_addresses", "an IP address is wrong", str(error), "IPv4 or IPv6") from error
    for name in wanted.dns_names:
        if not name.isascii() or not name or len(name) > 253:
            raise _argument_error(
                where + ".dns_names", "a DNS name is wrong", repr(name), "ASCII (punycode), at most 253 characters"
            )
    if not 1 <= len(wanted.common_name) <= 64:
        raise _argument_error(
            where + ".common_name",
            "a common name is too %s" % ("long" if wanted.common_name else "short"),
            "%d characters" % len(wanted.common_name),
            "1 to 64 (RFC 5280); longer names belong into dns_names",
        )
    if not 1 <= wanted.valid_days <= 36500:
        raise _argument_error(where + ".valid_days", "a life is wrong", str(wanted.valid_days), "1 to 36500 days")


def _check(specs: list[_Spec]) -> None:
    seen: set[str] = set()
    rendered = {(spec.name, key) for spec in specs for key in spec.render}
    known = {(spec.name, key) for spec in specs if spec.present for key in spec.key_names()}
    for index, spec in enumerate(specs):
        where = "secrets[%d] (%s)" % (index, spec.name)
        if spec.name in seen:
            raise _argument_error(where, "a Secret is listed twice", spec.name, "each name once, with all namespaces")
        seen.add(spec.name)
        if not spec.namespaces:
            raise _argument_error(where + ".namespaces", "a Secret has no namespace", "an empty list", "one or more")
        keys = spec.key_names()
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise _argument_error(
                where,
                "a key has two sources",
                ", ".join(twice),
                "each key in one of random, data, alternate, render, certificate",
            )
        wrong = [key for key in keys if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key)]
        if wrong:
            raise _argument_error(where, "a key's name is wrong", ", ".join(wrong), "letters, digits, - _ and .")
        for key, template in spec.render.items():
            for match in _PLACEHOLDER.finditer(template):
                target = (match["secret"], match["key"])
                if target not in known or target in rendered:
                    raise _argument_error(
                        "%s.render.%s" % (where, key),
                        "a placeholder refers to nothing that can be filled in",
                        match[0],
                        "a key of this call that is random, fixed, an alternate or a certificate's",
                    )


# --- what the cluster has ---------------------------------------------------------------------------------------------

_Copies = dict[tuple[str, str], Object]


def _ref(name: str, namespace: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": namespace}


def _read(cluster: Cluster, specs: list[_Spec]) -> _Copies:
    places = [(spec.name, namespace) for spec in specs for namespace in spec.namespaces]
    places += [
        (spec.ca_secret, spec.ca_namespace or spec.namespaces[0])
        for spec in specs
        if spec.present and spec.ca_secret and spec.ca_secret not in {other.name for other in specs}
    ]
    places = list(dict.fromkeys(places))
    found = cluster.get_many([_ref(*place) for place in places])
    return {place: secret for place, secret in zip(places, found, strict=True) if secret is not None}


def _decoded(secret: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(value or "") for key, value in (secret.get("data") or {}).items()}


# --- what the values are ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    value: bytes = field(repr=False)
    how: str
    """unchanged, generated, rotated, forgotten, set, rendered, issued, or ``renewed (why)``, as seen from the first
    copy that exists."""


_Values = dict[str, dict[str, _Value]]


def _first(spec: _Spec, key: str, copies: _Copies) -> bytes | None:
    """The value in the first namespace that has one. That namespace owns the value, the others hold copies."""
    for namespace in spec.namespaces:
        secret = copies.get((spec.name, namespace))
        if secret is not None and key in (secret.get("data") or {}):
            return _decoded(secret)[key]
    return None


def _rotates(spec: _Spec, copies: _Copies) -> bool:
    """Whether a rotation begins. One that has begun shows by a first namespace that is ahead of another, or by a value
    before that is still taken.
    """
    found = [_decoded(copies[spec.name, name]) for name in spec.namespaces if (spec.name, name) in copies]
    keys = [*spec.random, *spec.alternate]
    same = all(copy.get(key) == found[0].get(key) for copy in found for key in keys)
    return spec.rotate and same and (spec.name, spec.namespaces[0]) in copies and not _overlap(spec, copies)


def _overlap(spec: _Spec, copies: _Copies) -> str:
    """Since when the value before is still taken beside the present one; empty where it is not."""
    metadata = (copies.get((spec.name, spec.namespaces[0])) or {}).get("metadata") or {}
    return (metadata.get("annotations") or {}).get(OVERLAP) or ""


def _overlap_after(spec: _Spec, copies: _Copies) -> str:
    """The same, once this call has written what it has to write."""
    if not spec.present or not spec.previous() or (spec.forget and not spec.rotate):
        return ""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return _overlap(spec, copies) or (now if _rotates(spec, copies) else "")


def _work_out(cluster: Cluster, specs: list[_Spec], copies: _Copies) -> _Values:
    values: _Values = {spec.name: {} for spec in specs}
    present = [spec for spec in specs if spec.present]
    for spec in present:
        mine, rotates = values[spec.name], _rotates(spec, copies)
        for key, options in spec.random.items():
            found = _first(spec, key, copies)
            if found is None or rotates:
                mine[key] = _Value(options.made(), "generated" if found is None else "rotated")
            else:
                mine[key] = _Value(found, "unchanged")
        forgets = spec.forget and not spec.rotate and bool(_overlap(spec, copies))
        for key, of in spec.previous().items():
            found, before = _first(spec, key, copies), _first(spec, of, copies)
            if rotates and before is not None:
                mine[key] = _Value(before, "rotated")
            elif found is None or forgets:
                # Of no use to anybody, as nobody is ever given it.
                mine[key] = _Value(spec.random[of].made(), "generated" if found is None else "forgotten")
            else:
                mine[key] = _Value(found, "unchanged")
        for key, texts in spec.alternate.items():
            found = _first(spec, key, copies)
            if found not in texts:
                mine[key] = _Value(texts[0], "set")
            elif rotates:
                mine[key] = _Value(texts[(texts.index(found) + 1) % len(texts)], "rotated")
            else:
                mine[key] = _Value(found, "unchanged")
        for key, value in spec.data.items():
            mine[key] = _Value(value, "unchanged" if _first(spec, key, copies) == value else "set")
    # Authorities before what they sign.
    for spec in sorted(present, key=lambda spec: bool(spec.ca_secret)):
        if spec.certificate:
            values[spec.name].update(_certificate(spec, spec.certificate, specs, values, copies))
    for spec in present:
        for key, template in spec.render.items():
            value = _rendered(template, values)
            values[spec.name][key] = _Value(value, "unchanged" if _first(spec, key, copies) == value else "rendered")
    return values


def _rendered(template: str, values: _Values) -> bytes:
    done, position = b"", 0
    for match in _PLACEHOLDER.finditer(template):
        value = values[match["secret"]][match["key"]].value
        done += template[position : match.start()].encode() + _FUNCTIONS[match["function"]](value)
        position = match.end()
    return done + template[position:].encode()


def _certificate(
    spec: _Spec, wanted: certificates.Wanted, specs: list[_Spec], values: _Values, copies: _Copies
) -> dict[str, _Value]:
    issuer = _issuer(spec, specs, values, copies) if spec.ca_secret else None
    current = None
    for namespace in spec.namespaces:
        data = _decoded(copies.get((spec.name, namespace)) or {})
        # Both from one copy: a certificate goes with its key.
        if "tls.crt" in data and "tls.key" in data:
            current = certificates.Pair(data["tls.crt"], data["tls.key"])
            break
    why = certificates.why_renew(current, wanted, issuer) if current else ""
    if current is not None and not why and spec.rotate and not wanted.is_ca:
        why = "a new one is asked for"
    if current is None or why:
        pair = _issued(spec, wanted, issuer, current)
        how = "renewed (%s)" % why if why else "issued"
    else:
        pair, how = current, "unchanged"
    replaced: dict[str, _Value] = {}
    if wanted.is_ca:
        pair, how, replaced = _replaced(spec, wanted, pair, how, copies)
    bundle = _bundle(issuer, values, spec, copies) if issuer else pair.certificate
    bundle += replaced[_NEXT].value + replaced[_PREVIOUS].value if replaced else b""
    return {
        "tls.crt": _Value(pair.certificate, how),
        "tls.key": _Value(pair.key, how),
        "ca.crt": _Value(bundle, "unchanged" if _first(spec, "ca.crt", copies) == bundle else "set"),
        **replaced,
    }


def _issued(
    spec: _Spec, wanted: certificates.Wanted, issuer: certificates.Pair | None, current: certificates.Pair | None
) -> certificates.Pair:
    try:
        return certificates.issue(wanted, issuer, current)
    except ValueError as error:
        raise PlatformError(
            "a certificate cannot be made",
            where="Secret %s" % spec.name,
            found=str(error),
            expected="names and a life that X.509 allows, and an authority that can be read",
            fix="correct certificate, or repair the authority's Secret",
            reason="certificate",
        ) from error


def _replaced(
    spec: _Spec, wanted: certificates.Wanted, pair: certificates.Pair, how: str, copies: _Copies
) -> tuple[certificates.Pair, str, dict[str, _Value]]:
    """An authority on its way to another key: the next one is made, then it signs, then the one before is forgotten.

    Between the steps everybody has to learn what C(ca.crt) holds. What is there says which step was the last; an empty
    key is none.
    """
    has = {key: _first(spec, key, copies) or b"" for key in (_NEXT, _NEXT_KEY, _PREVIOUS)}
    wants, how_made = dict(has), "set"
    if spec.rotate and how == "unchanged" and not has[_NEXT] and not has[_PREVIOUS]:
        made = certificates.issue(wanted, None)
        wants.update({_NEXT: made.certificate, _NEXT_KEY: made.key})
        how_made = "issued"
    elif spec.switch and has[_NEXT]:
        wants.update({_NEXT: b"", _NEXT_KEY: b"", _PREVIOUS: pair.certificate})
        pair, how = certificates.Pair(has[_NEXT], has[_NEXT_KEY]), "rotated"
    elif spec.forget and has[_PREVIOUS]:
        wants[_PREVIOUS], how_made = b"", "forgotten"
    if not any(wants.values()) and not any(has.values()):
        return pair, how, {}
    return pair, how, {key: _Value(wants[key], "unchanged" if wants[key] == has[key] else how_made) for key in wants}


def _bundle(issuer: certificates.Pair, values: _Values, spec: _Spec, copies: _Copies) -> bytes:
    """All that an authority's certificates may be signed by at this time."""
    if spec.ca_secret in values:
        return values[spec.ca_secret]["ca.crt"].value
    place = (spec.ca_secret, spec.ca_namespace or spec.namespaces[0])
    return _decoded(copies.get(place) or {}).get("ca.crt") or issuer.certificate


def _issuer(spec: _Spec, specs: list[_Spec], values: _Values, copies: _Copies) -> certificates.Pair:
    name = spec.ca_secret
    here = [other for other in specs if other.name == name and other.present]
    if here:
        made = values[name]
        if here[0].certificate and here[0].certificate.is_ca and "tls.crt" in made:
            return certificates.Pair(made["tls.crt"].value, made["tls.key"].value)
        found = "no certificate with is_ca in this call"
    else:
        place = (name, spec.ca_namespace or spec.namespaces[0])
        data = _decoded(copies.get(place) or {})
        if "tls.crt" in data and "tls.key" in data:
            return certificates.Pair(data["tls.crt"], data["tls.key"])
        found = "no Secret %s/%s with tls.crt and tls.key" % (place[1], place[0])
    raise PlatformError(
        "a certificate's authority is missing",
        where="Secret %s, certificate.ca.secret %s" % (spec.name, name),
        found=found,
        expected="a Secret of this call whose certificate has is_ca, or one in the cluster",
        fix="add the authority to the list, or give certificate.ca.namespace",
        reason="certificate",
    )


# --- what changes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    spec: _Spec
    namespace: str
    action: str
    keys: dict[str, str]
    body: dict[str, bytes] = field(repr=False)
    current: Object | None = field(repr=False, default=None)
    overlap: str | None = None
    """What the annotation becomes, empty for none; None where it stays."""

    def place(self) -> str:
        return "Secret %s/%s" % (self.namespace, self.spec.name)

    def shown(self) -> Object:
        return {"name": self.spec.name, "namespace": self.namespace, "action": self.action, "key_actions": self.keys}

    def difference(self) -> dict[str, str]:
        """A diff that shows which keys change and how, and no value; and the labels."""
        exists = set((self.current or {}).get("data") or {})
        labels = _labels(self.current)
        before = ["%s: present\n" % key for key in sorted(exists)]
        before += ["label %s: %s\n" % (name, labels[name]) for name in sorted(self.spec.labels) if name in labels]
        after = [
            "%s: %s\n" % (key, "present" if self.keys.get(key, "unchanged") == "unchanged" else self.keys[key])
            for key in sorted(exists | set(self.keys))
        ]
        after += ["label %s: %s\n" % item for item in sorted(self.spec.labels.items())]
        if self.action == "deleted":
            after = []
        return {
            "before_header": self.place(),
            "after_header": self.place(),
            "before": "".join(before),
            "after": "".join(after),
        }


def _changes(spec: _Spec, values: _Values, copies: _Copies) -> list[_Change]:
    # What is rotated reaches the others by a call that does not rotate.
    namespaces = spec.namespaces[:1] if spec.rotate else spec.namespaces
    mine = values[spec.name]
    # A value before is the server's matter alone.
    copied = {key: value for key, value in mine.items() if key not in spec.previous()}
    changes = [
        _change(spec, namespace, copied if number else mine, copies.get((spec.name, namespace)))
        for number, namespace in enumerate(namespaces)
    ]
    after = _overlap_after(spec, copies)
    if bool(after) == bool(_overlap(spec, copies)):
        return changes
    return [replace(changes[0], overlap=after), *changes[1:]]


def _change(spec: _Spec, namespace: str, values: dict[str, _Value], current: Object | None) -> _Change:
    if not spec.present:
        return _Change(spec, namespace, "deleted" if current else "unchanged", {}, {}, current)
    has = _decoded(current or {})
    if current is not None and (current.get("type") or "Opaque") != spec.type:
        raise PlatformError(
            "a Secret has another type, which cannot be changed",
            where="Secret %s/%s" % (namespace, spec.name),
            found=current.get("type") or "Opaque",
            expected=spec.type,
            fix="give its type, or delete the Secret and run again (its random values are then made anew, unless "
            "another listed namespace has a copy)",
            reason="invalid",
        )
    keys: dict[str, str] = {}
    for key, wanted in values.items():
        if has.get(key) == wanted.value:
            keys[key] = "unchanged"
        elif wanted.how == "unchanged":
            keys[key] = "copied" if key not in has else "copied over another value"
        else:
            keys[key] = wanted.how
    body = {key: values[key].value for key, how in keys.items() if how != "unchanged"}
    labels = _labels(current)
    labelled = all(labels.get(name) == text for name, text in spec.labels.items())
    action = "created" if current is None else "unchanged" if labelled and not body else "updated"
    return _Change(spec, namespace, action, keys, body, current)


def _labels(secret: Object | None) -> dict[str, str]:
    return ((secret or {}).get("metadata") or {}).get("labels") or {}


def _offer(cluster: Cluster, changes: list[_Change], check_mode: bool) -> list[str]:
    """A dry run of all changes, before the first is written. Raises what the cluster refuses; notes what it cannot say.

    In check mode a namespace may be missing that an earlier task would have made.
    """
    notes, errors = [], []
    outcomes = concurrently(lambda change: _write(cluster, change, dry_run=True), changes)
    for change, outcome in zip(changes, outcomes, strict=True):
        if not isinstance(outcome, PlatformError):
            continue
        if "does not support dry run" in str(outcome):
            notes.append("%s: could not be checked beforehand, an admission webhook has no dry run" % change.place())
        elif check_mode and change.action == "created" and outcome.details.get("status") == 404:
            notes.append("%s: could not be checked, its namespace does not exist yet" % change.place())
        else:
            errors.append(outcome)
    if errors:
        what = "%d of %d Secrets cannot be written, so none was" % (len(errors), len(changes))
        raise PlatformError.of_many(what, errors)
    return notes


def _write(cluster: Cluster, change: _Change, dry_run: bool = False) -> None:
    spec = change.spec
    if change.action == "deleted":
        uid = change.current["metadata"].get("uid") if change.current else None
        cluster.delete(_ref(spec.name, change.namespace), uid=uid, dry_run=dry_run)
        return
    data = {key: base64.b64encode(value).decode() for key, value in change.body.items()}
    metadata: Object = {"labels": spec.labels}
    if change.overlap is not None:
        metadata["annotations"] = {OVERLAP: change.overlap or None}
    if change.current is None:
        metadata.update(name=spec.name, namespace=change.namespace)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": spec.type, "data": data}
        cluster.create(secret, FIELD_MANAGER, dry_run=dry_run)
        return
    # A merge patch leaves keys of others alone; the resourceVersion makes a run that decided on an old state fail.
    metadata["resourceVersion"] = change.current["metadata"].get("resourceVersion")
    body = {"metadata": metadata, "data": data}
    cluster.patch(_ref(spec.name, change.namespace), body, FIELD_MANAGER, dry_run=dry_run)
