# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for the module ``secret``: ECDSA P-256, X.509 v3 as RFC 5280 asks for it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    _MISSING: ImportError | None = error
else:
    _MISSING = None

RENEW_BELOW = 1 / 3
"""The part of its life below which a certificate is renewed, as cert-manager does by default."""

_CLOCK_SKEW = timedelta(hours=1)
"""A certificate begins this long ago: who reads it may have a clock that is behind ours."""


@dataclass(frozen=True)
class Wanted:
    """What a certificate shall say."""

    common_name: str
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    valid_days: int = 365
    is_ca: bool = False

    def names(self) -> set[str]:
        """All alternative names, addresses in their one canonical spelling."""
        return {name.lower() for name in self.dns_names} | {str(ipaddress.ip_address(ip)) for ip in self.ip_addresses}


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def require() -> None:
    """Raise the error for a missing library."""
    if _MISSING is not None:
        raise PlatformError(
            "the Python library that makes certificates is missing",
            found=str(_MISSING),
            expected="the Python package cryptography",
            fix="pip install cryptography, for the Python that runs the module",
            reason="library",
        )


def why_renew(pair: Pair, wanted: Wanted, issuer: Pair | None, now: datetime | None = None) -> str:
    """Why this certificate must be made anew; empty if it may stay."""
    now = now or datetime.now(UTC)
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError):
        return "it cannot be read"
    if certificate.public_key() != key.public_key():
        return "its key does not belong to it"
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end - (end - start) * RENEW_BELOW:
        return "it expires on %s" % end.date().isoformat()
    if _common_name(certificate) != wanted.common_name or _names(certificate) != wanted.names():
        return "its names change"
    if _is_ca(certificate) != wanted.is_ca:
        return "it becomes an authority" if wanted.is_ca else "it is an authority no longer"
    authority = x509.load_pem_x509_certificate(issuer.certificate) if issuer else certificate
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return "its authority changes"
    return ""


def expires(certificate: bytes) -> str:
    """When a certificate ends, as ISO 8601."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.isoformat().replace("+00:00", "Z")


def said(certificate: bytes) -> Wanted:
    """What a certificate says, to be said again. ValueError for what is none."""
    found = x509.load_pem_x509_certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    return Wanted(
        common_name=_common_name(found),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        ip_addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))),
        # It began a little before it was made.
        valid_days=max(1, (found.not_valid_after_utc - found.not_valid_before_utc - _CLOCK_SKEW).days),
        is_ca=_is_ca(found),
    )


def described(certificate: bytes) -> tuple[str, datetime]:
    """Whose a certificate is (its common name, or its first name), and when it ends. ValueError for what is none."""
    found = x509.load_pem_x509_certificate(certificate)
    return _common_name(found) or min(_names(found), default=""), found.not_valid_after_utc


def issue(wanted: Wanted, issuer: Pair | None, previous: Pair | None = None, now: datetime | None = None) -> Pair:
    """A new certificate, signed by issuer or by itself.

    An authority keeps its key when it is renewed: what it signed before stays valid under the new certificate, and what
    it signs next is valid for those who only have the old one. Anything else gets a new key.
    """
    now = now or datetime.now(UTC)
    key = (_usable_key(previous.key) if wanted.is_ca and previous else None) or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name)])
    if issuer:
        authority = x509.load_pem_x509_certificate(issuer.certificate)
        signer, issuer_name = _signing_key(issuer.key), authority.subject
    else:
        signer, issuer_name = key, subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=wanted.valid_days))
        .add_extension(x509.BasicConstraints(ca=wanted.is_ca, path_length=0 if wanted.is_ca else None), critical=True)
        .add_extension(_usage(wanted.is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not wanted.is_ca:
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in wanted.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in wanted.ip_addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(
        builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _usable_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1) else None


def _signing_key(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """The key of an authority, which may be one that others have made. ValueError for one that cannot sign here."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise ValueError("the authority's key is an %s, and not one of ECDSA or RSA" % type(key).__name__)
    return key


def _common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return dns | {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
