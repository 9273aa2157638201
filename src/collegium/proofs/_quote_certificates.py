"""Chains of X.509 certificates, leaf first and root last, as AMD and NVIDIA give them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from collegium.crypto import Digest

from ._quote_errors import MalformedQuoteError, QuoteChainError, QuoteTimeError

__all__ = [
    "common_name",
    "extension",
    "fingerprint",
    "key_digest",
    "load_chain",
    "load_pem_chain",
    "verify_chain",
    "verify_p384",
]

P384_SCALAR_BYTES = 48


def load_chain(certificates: Sequence[bytes]) -> list[x509.Certificate]:
    """Return DER certificates, one a piece, as objects.

    Raises:
        MalformedQuoteError: a piece is not one DER certificate.
    """
    with _accepting_any_serial():
        return [x509.load_der_x509_certificate(each) for each in certificates]


def load_pem_chain(certificates: bytes) -> list[x509.Certificate]:
    """Return PEM certificates, at least one, as objects.

    Raises:
        MalformedQuoteError: not PEM certificates.
    """
    with _accepting_any_serial():
        return x509.load_pem_x509_certificates(certificates)


@contextmanager
def _accepting_any_serial() -> Iterator[None]:
    """Silence a warning, lest a program that makes errors of warnings refuse what others accept.

    AMD gives each chip's certificate the serial number 0, which RFC 5280 forbids and the library warns of.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            yield
    except (ValueError, x509.InvalidVersion) as error:
        raise MalformedQuoteError(f"not a certificate: {error}") from error


def verify_chain(
    chain: Sequence[x509.Certificate], roots: frozenset[Digest], revoked: frozenset[Digest], at_unix_time: int
) -> None:
    """Check that each certificate is signed by the next, the last by itself, and that the last is a trusted root.

    Raises:
        QuoteChainError: another root, a revoked certificate, a wrong signature, or an issuer that is no authority.
        QuoteTimeError: a certificate is not valid at `at_unix_time`.
    """
    root = fingerprint(chain[-1])
    if root not in roots:
        raise QuoteChainError(f"the chain ends in {root.hex()}, which is not a trusted root", root=root)
    moment = datetime.fromtimestamp(at_unix_time, UTC)
    for certificate, issuer in zip(chain, [*chain[1:], chain[-1]], strict=True):
        name = common_name(certificate)
        if (key := key_digest(certificate)) in revoked:
            raise QuoteChainError(f"the key of certificate {name!r} is revoked", key=key)
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            message = f"certificate {name!r} is not signed by {common_name(issuer)!r}: {error}"
            raise QuoteChainError(message, subject=name) from error
        if not _is_authority(issuer):
            raise QuoteChainError(f"{common_name(issuer)!r} may not sign certificates", subject=common_name(issuer))
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= moment <= last:
            raise QuoteTimeError(
                f"certificate {name!r} is valid {first} to {last}, not at {moment}", first=first, last=last
            )


def verify_p384(certificate: x509.Certificate, message: bytes, r: int, s: int) -> None:
    """Check an ECDSA signature with SHA-384 under a certificate's key on P-384.

    Raises:
        QuoteChainError: another kind of key, or a wrong signature.
    """
    key = certificate.public_key()
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)):
        raise QuoteChainError(f"certificate {common_name(certificate)!r} has no key on P-384")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA384()))
    except InvalidSignature as error:
        raise QuoteChainError(f"not signed by {common_name(certificate)!r}") from error


def fingerprint(certificate: x509.Certificate) -> Digest:
    """Return SHA-256 of the DER certificate."""
    return certificate.fingerprint(SHA256())


def key_digest(certificate: x509.Certificate) -> Digest:
    """Return SHA-256 of the subject's public key (SubjectPublicKeyInfo, DER).

    It names a holder better than `fingerprint`: from one ECDSA signature anybody makes a second that verifies, and with
    it a certificate of other bytes that says the same.
    """
    return sha256(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's first common name, or an empty text."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def extension(certificate: x509.Certificate, name: str) -> bytes:
    """Return the bytes of the extension with a dotted name.

    Raises:
        QuoteChainError: there is none.
    """
    try:
        return certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(name)).value.public_bytes()
    except x509.ExtensionNotFound:
        message = f"certificate {common_name(certificate)!r} lacks the extension {name}"
        raise QuoteChainError(message, extension=name) from None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign
