"""Who is at the other end: a task's certificate authority, its members' certificates, and TLS 1.3 with nothing else.

A member is named by one URI in its certificate, `collegium:TASK/validator/3` or `collegium:TASK/trainer/ACCOUNT`, and
by nothing else: host names say where somebody is, not who it is. docs/spec/transport.md has what this promises.
"""

from __future__ import annotations

import os
import re
import secrets
import ssl
import stat
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from collegium.crypto import ADDRESS_BYTES, DIGEST_BYTES
from collegium.errors import CollegiumError

__all__ = [
    "Authority",
    "Credentials",
    "CredentialsExistError",
    "CredentialsFileError",
    "CredentialsModeError",
    "ForeignCertificateError",
    "Identity",
    "IdentityError",
    "PeerTls",
    "PinnedCertificateError",
    "Role",
    "TlsFiles",
    "UnexpectedPeerError",
    "anonymous_client_context",
    "certificate_digest",
    "certificate_expires",
    "certify",
    "check_authority",
    "check_credentials",
    "check_peer",
    "client_context",
    "create_authority",
    "decode_public_key",
    "gateway_context",
    "issue",
    "load_authority",
    "load_credentials",
    "new_key",
    "peer_identity",
    "peer_tls",
    "save_authority",
    "save_credentials",
    "save_private",
    "server_context",
]

AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 397
CLOCK_SKEW: Final = timedelta(hours=1)
FILE_BYTES_MAX: Final = 16384
INDEX_MAX: Final = (1 << 16) - 1
_REFUSALS: Final = (  # what the library raises over bytes that are no certificate
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_AUTHORITY_URI: Final = "collegium:{}/authority"
_URI = re.compile(r"collegium:([0-9a-f]{64})/([a-z]{1,16})/(0|[1-9][0-9]{0,4}|0x[0-9a-f]{40})")


class CredentialsFileError(CollegiumError):
    """A certificate or key file is missing, too long or not PEM, or certificate and key do not belong together."""


class CredentialsModeError(CredentialsFileError):
    """A key file is not a regular file of the caller, or others may read or write it."""


class CredentialsExistError(CredentialsFileError):
    """A file is in the way: keys and certificates are never overwritten."""


class ForeignCertificateError(CredentialsFileError):
    """A certificate is another member's or another task's than the one whose files these are."""


class IdentityError(CollegiumError):
    """A name is none of ours: a certificate without exactly one member's URI, or a member that cannot be named."""


class UnexpectedPeerError(CollegiumError):
    """The certificate is in order, but it is somebody else's: another task, role, index or account."""


class PinnedCertificateError(CollegiumError):
    """The certificate names the right member, but is not the one that the settings pin."""


class Role(StrEnum):
    """What a member is; the gateway's and the peers' rules differ by it."""

    VALIDATOR = "validator"
    TRAINER = "trainer"
    STEWARD = "steward"
    EVALUATOR = "evaluator"
    RELAYER = "relayer"


@dataclass(frozen=True, slots=True)
class Identity:
    """A member of a task: a validator by its place in the genesis's list, everybody else by its account's address.

    Raises:
        IdentityError: a task of other than 32 bytes, an index outside [0, 65535], an account of other than 20 bytes, or
            the wrong one of the two for the role.
    """

    task: bytes
    role: Role
    member: int | bytes

    def __post_init__(self) -> None:
        if isinstance(self.member, int):
            fits = self.role is Role.VALIDATOR and 0 <= self.member <= INDEX_MAX
        else:
            fits = self.role is not Role.VALIDATOR and len(self.member) == ADDRESS_BYTES
        if len(self.task) != DIGEST_BYTES or not fits:
            raise IdentityError(
                f"no identity: task of {len(self.task)} bytes, {self.role} {self.member!r}; "
                f"expected {DIGEST_BYTES} bytes and an index for a validator, an account for others",
                role=self.role,
                member=self.member,
            )

    @property
    def uri(self) -> str:
        """The one name in the certificate."""
        member = str(self.member) if isinstance(self.member, int) else "0x" + self.member.hex()
        return f"collegium:{self.task.hex()}/{self.role}/{member}"

    def __str__(self) -> str:
        return f"{self.role} {self.member if isinstance(self.member, int) else '0x' + self.member.hex()}"


def identity_from_uri(uri: str) -> Identity:
    """Return the member that `uri` names; one member has one URI.

    Raises:
        IdentityError: it is no such URI.
    """
    found = _URI.fullmatch(uri)
    if found is None or found[2] not in tuple(Role):
        raise IdentityError(f"{uri[:160]!r} names no member", uri=uri[:160])
    member: int | bytes = bytes.fromhex(found[3][2:]) if found[3].startswith("0x") else int(found[3])
    return Identity(bytes.fromhex(found[1]), Role(found[2]), member)


# --------------------------------------------------------------------------------------------------------- certificates


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the certificate's DER bytes: what a pin compares."""
        return certificate_digest(self.certificate)


@dataclass(frozen=True, slots=True, eq=False)
class Authority:
    """A task's certificate authority. Whoever holds its key can name itself anybody: keep it away from every node."""

    task: bytes
    credentials: Credentials


def create_authority(task: bytes, now: datetime, days: int = AUTHORITY_DAYS) -> Authority:
    """Return a new authority of `task`, valid from an hour before `now`: a self-signed P-256 certificate."""
    if len(task) != DIGEST_BYTES:
        raise IdentityError(f"task has {len(task)} bytes, expected {DIGEST_BYTES}", length=len(task))
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"collegium {task.hex()[:16]}")
    builder = _builder(name, name, key.public_key(), now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    names = [x509.UniformResourceIdentifier(_AUTHORITY_URI.format(task.hex()))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(subject, critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False
    )
    return Authority(task, _signed(builder, key, key))


def issue(
    authority: Authority, identity: Identity, now: datetime, days: int = LEAF_DAYS, hosts: Iterable[str] = ()
) -> Credentials:
    """Return a fresh key with a certificate that names `identity`, for both ends of a connection.

    `hosts` are host names and addresses to name besides, for clients that look at those (browsers, curl). They prove
    nothing to a member of the consortium.

    Raises:
        UnexpectedPeerError: the identity is of another task than the authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certify(authority, identity, key.public_key(), now, days, hosts)
    return Credentials(certificate, _key_bytes(key))


def certify(
    authority: Authority,
    identity: Identity,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int = LEAF_DAYS,
    hosts: Iterable[str] = (),
) -> bytes:
    """Return a certificate that names `identity` as the owner of a key that was made elsewhere; see `issue`.

    Raises:
        UnexpectedPeerError: the identity is of another task than the authority.
    """
    if identity.task != authority.task:
        raise UnexpectedPeerError(f"{identity} is of another task than the authority", identity=identity)
    issuer, issuer_key = _parse(authority.credentials, "the authority")
    days = min(days, (issuer.not_valid_after_utc - now).days)
    builder = _builder(_name(str(identity)), issuer.subject, key, now, days)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri), *map(_host_name, hosts)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    both_ends = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
    subject = x509.SubjectKeyIdentifier.from_public_key(key)
    builder = builder.add_extension(subject, critical=False)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(signer, critical=False)
    return builder.sign(issuer_key, SHA256()).public_bytes(Encoding.PEM)


def new_key() -> tuple[bytes, bytes]:
    """Return a fresh private key in PEM, for its owner's file, and its public key in DER, for who certifies it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _key_bytes(key), key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def decode_public_key(data: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key that `new_key` gave these bytes of.

    Raises:
        CredentialsFileError: they are no key of this kind, or not its one encoding.
    """
    try:
        key = load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CredentialsFileError(f"{len(data)} bytes are no public key on P-256", length=len(data))
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != data:
        raise CredentialsFileError("a public key is not in its one encoding", length=len(data))
    return key


def certificate_digest(certificate: bytes) -> bytes:
    """Return SHA-256 of a PEM certificate's DER bytes."""
    return sha256(_certificate(certificate, "a certificate").public_bytes(Encoding.DER)).digest()


def certificate_expires(certificate: bytes) -> datetime:
    """Return the moment after which nobody accepts a PEM certificate any more."""
    return _certificate(certificate, "a certificate").not_valid_after_utc


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    begin = now.astimezone(UTC) - CLOCK_SKEW
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(begin + CLOCK_SKEW + timedelta(days=days))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> Credentials:
    certificate = builder.sign(issuer_key, SHA256()).public_bytes(Encoding.PEM)
    return Credentials(certificate, _key_bytes(key))


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(data: bytes, what: object) -> x509.Certificate:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CryptographyDeprecationWarning)  # what a later library refuses: so do we
            found = x509.load_pem_x509_certificates(data)
        for each in found:
            each.public_key(), each.extensions  # parsed when they are asked for
    except _REFUSALS:
        found = []
    if len(found) != 1:
        raise CredentialsFileError(f"{what} is not one PEM certificate", what=str(what))
    return found[0]


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _authority_task(certificate: x509.Certificate, what: object) -> bytes:
    uris = _uris(certificate)
    found = re.fullmatch(_AUTHORITY_URI.format("([0-9a-f]{64})"), uris[0]) if len(uris) == 1 else None
    if found is None:
        raise CredentialsFileError(f"{what} is no task's authority", what=str(what))
    return bytes.fromhex(found[1])


def _parse(credentials: Credentials, what: object) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(credentials.certificate, what)
    try:
        key = load_pem_private_key(credentials.key, None)
    except (ValueError, TypeError):  # their messages may quote what they read
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CredentialsFileError(f"{what}: the key is not a PEM key of the certificate beside it", what=str(what))
    return certificate, key


# ---------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a member keeps the authority's certificate, its own, and its key."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def inside(cls, folder: Path) -> TlsFiles:
        """The usual names in a member's folder."""
        return cls(folder / "tls.authority.pem", folder / "tls.certificate.pem", folder / "tls.key")


def save_authority(folder: Path, authority: Authority) -> None:
    """Write the authority to `authority.pem` and `authority.key` (mode 0600) in `folder`, never over a file.

    Raises:
        CredentialsExistError: a file is in the way.
    """
    _write_new(folder / "authority.key", authority.credentials.key, 0o600)
    _write_new(folder / "authority.pem", authority.credentials.certificate, 0o644)


def load_authority(folder: Path) -> Authority:
    """Read what `save_authority` wrote.

    Raises:
        CredentialsModeError: the key is not a regular file of the caller with mode 0600 or stricter.
        CredentialsFileError: missing, malformed, or key and certificate do not belong together.
    """
    credentials = Credentials(_read(folder / "authority.pem"), _read(folder / "authority.key", private=True))
    certificate, _ = _parse(credentials, folder / "authority.key")
    return Authority(_authority_task(certificate, folder / "authority.pem"), credentials)


def save_credentials(files: TlsFiles, credentials: Credentials, authority: Authority) -> None:
    """Write a member's three files, the key with mode 0600, each whole or not at all, never over a file.

    Raises:
        CredentialsExistError: a file is in the way.
    """
    _write_new(files.key, credentials.key, 0o600)
    _write_new(files.certificate, credentials.certificate, 0o644)
    _write_new(files.authority, authority.credentials.certificate, 0o644)


def load_credentials(files: TlsFiles) -> Credentials:
    """Read and check a member's certificate and key.

    Raises:
        CredentialsModeError: the key is not a regular file of the caller with mode 0600 or stricter.
        CredentialsFileError: missing, malformed, or key and certificate do not belong together.
    """
    credentials = Credentials(_read(files.certificate), _read(files.key, private=True))
    _certificate(credentials.certificate, files.certificate)
    _parse(credentials, files.key)
    return credentials


def check_credentials(files: TlsFiles, own: Identity) -> None:
    """Check that a member's certificate names it: nobody would talk to it otherwise, and nothing would say why.

    Raises:
        ForeignCertificateError: it names somebody else, or the authority is another task's.
        CredentialsFileError: see `load_credentials`.
    """
    check_authority(files.authority, own.task)
    uris = _uris(_certificate(load_credentials(files).certificate, files.certificate))
    if uris != [own.uri]:
        raise ForeignCertificateError(f"{files.certificate} names {uris}, expected {own.uri}", expected=own.uri)


def check_authority(path: Path, task: bytes) -> None:
    """Check that an authority's certificate is the one of a task.

    Raises:
        ForeignCertificateError: it is another task's.
        CredentialsFileError: it is missing or malformed.
    """
    found = _authority_task(_certificate(_read(path), path), path)
    if found != task:
        raise ForeignCertificateError(
            f"{path} is the authority of task {found.hex()[:16]}, expected that of {task.hex()[:16]}", task=found
        )


def save_private(path: Path, data: bytes) -> None:
    """Write a key to a new file of mode 0600, whole or not at all.

    Raises:
        CredentialsExistError: a file is in the way.
    """
    _write_new(path, data, 0o600)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, it fails if the name is taken
    except FileExistsError:
        raise CredentialsExistError(f"{path} exists, expected no file", path=path) from None
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path, private: bool = False) -> bytes:
    flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if private else 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise CredentialsFileError(f"{path} cannot be opened: {error.strerror}", path=path) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if private and (not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid()):
            raise CredentialsModeError(f"{path} is not a regular file of this user", path=path)
        mode = stat.S_IMODE(status.st_mode)
        if private and mode & 0o177:
            raise CredentialsModeError(f"{path} has mode {mode:04o}, expected 0600 or stricter", path=path, mode=mode)
        data = b"" if stat.S_ISDIR(status.st_mode) else file.read(FILE_BYTES_MAX + 1)
    if not 0 < len(data) <= FILE_BYTES_MAX:
        raise CredentialsFileError(f"{path} is empty or over {FILE_BYTES_MAX} bytes", path=path)
    return data


# ------------------------------------------------------------------------------------------------------------- contexts


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what a validator listens to validators with: TLS 1.3, a certificate of this authority demanded."""
    return _context(files.authority, files, ssl.PROTOCOL_TLS_SERVER, ssl.CERT_REQUIRED)


def client_context(files: TlsFiles, expected: Identity | None = None, pin: bytes | None = None) -> ssl.SSLContext:
    """Return what a member calls with: TLS 1.3, own certificate shown, the other's of this authority demanded.

    With `expected` the handshake itself fails (`ssl.CertificateError`) unless the other end is that member, so that a
    library that offers no hook after the handshake can be trusted with it.
    """
    return _expecting(_context(files.authority, files, ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED), expected, pin)


def anonymous_client_context(
    authority: Path, expected: Identity | None = None, pin: bytes | None = None
) -> ssl.SSLContext:
    """Return what somebody without a certificate calls a gateway with; see `client_context`."""
    return _expecting(_context(authority, None, ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED), expected, pin)


def gateway_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what the HTTPS gateway listens with: TLS 1.3; a certificate of the other end may be absent, not wrong."""
    return _context(files.authority, files, ssl.PROTOCOL_TLS_SERVER, ssl.CERT_OPTIONAL)


def _context(authority: Path, own: TlsFiles | None, protocol: Any, verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the URI names who it is; `peer_identity` reads it
    context.verify_mode = verify
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    root = _certificate(_read(authority), authority)
    context.load_verify_locations(cadata=root.public_bytes(Encoding.DER))
    if own is not None:
        load_credentials(own)
        context.load_cert_chain(own.certificate, own.key)
    if protocol is ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nobody resumes: every connection proves its certificate anew
    return context


def _expecting(context: ssl.SSLContext, expected: Identity | None, pin: bytes | None) -> ssl.SSLContext:
    if expected is None:
        return context

    def check(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
        try:
            check_peer(connection, expected, pin)
        except (IdentityError, UnexpectedPeerError, PinnedCertificateError) as error:
            raise ssl.CertificateError(str(error)) from error

    class CheckedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            check(self)

    class CheckedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            check(self)

    context.sslobject_class = CheckedObject
    context.sslsocket_class = CheckedSocket
    return context


# -------------------------------------------------------------------------------------------------- after the handshake


def peer_identity(connection: ssl.SSLObject | ssl.SSLSocket) -> Identity:
    """Return whom the other end's verified certificate names.

    Raises:
        IdentityError: no certificate was shown, or it has not exactly one URI that names a member.
    """
    names: Any = (connection.getpeercert() or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1:
        raise IdentityError(f"certificate with {len(uris)} URIs, expected 1", uris=len(uris))
    return identity_from_uri(uris[0])


def check_peer(connection: ssl.SSLObject | ssl.SSLSocket, expected: Identity, pin: bytes | None = None) -> None:
    """Check that the other end is `expected`, with the certificate of SHA-256 digest `pin` if one is given.

    Raises:
        IdentityError: the certificate names nobody.
        UnexpectedPeerError: it names somebody else.
        PinnedCertificateError: it is another certificate of the right member.
    """
    found = peer_identity(connection)
    if found != expected:
        raise UnexpectedPeerError(f"found {found}, expected {expected}", found=found, expected=expected)
    check_pin(connection, expected, pin)


def check_pin(connection: ssl.SSLObject | ssl.SSLSocket, member: Identity, pin: bytes | None) -> None:
    """Check that a certificate is the pinned one, if one is pinned."""
    if pin is None:
        return
    digest = sha256(connection.getpeercert(binary_form=True) or b"").digest()
    if digest != pin:
        raise PinnedCertificateError(
            f"{member} shows certificate {digest.hex()}, pinned is {pin.hex()}", digest=digest, pin=pin
        )


@dataclass(frozen=True, slots=True)
class PeerTls:
    """What `Peers` needs of TLS: both contexts, the task, and the certificates pinned by validator index, if any."""

    task: bytes
    server: ssl.SSLContext
    client: ssl.SSLContext
    pins: Mapping[int, bytes] = field(default_factory=dict)

    def validator(self, connection: ssl.SSLObject, expected: int | None = None) -> int:
        """Return the index of the validator at the other end.

        Raises:
            IdentityError: the certificate names nobody.
            UnexpectedPeerError: it is no validator of this task, or not the expected one.
            PinnedCertificateError: it is another certificate than the pinned one.
        """
        found = peer_identity(connection)
        if found.task != self.task or found.role is not Role.VALIDATOR or not isinstance(found.member, int):
            raise UnexpectedPeerError(f"found {found}, expected a validator of this task", found=found)
        if expected is not None and found.member != expected:
            raise UnexpectedPeerError(f"found {found}, expected validator {expected}", found=found, expected=expected)
        check_pin(connection, found, self.pins.get(found.member))
        return found.member


def peer_tls(files: TlsFiles, task: bytes, pins: Mapping[int, bytes] | None = None) -> PeerTls:
    """Return both contexts of a validator whose files these are."""
    return PeerTls(task, server_context(files), client_context(files), dict(pins or {}))
