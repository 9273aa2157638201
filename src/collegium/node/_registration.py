"""What an owner of data publishes: a registration with its proof, and a signed request for a licence.

A registration says that its roots commit to the same rows, in range, and whose they are. It does not say that the rows
are real, and nothing tells a copy of somebody else's rows: roots hide what they commit to. Specified in
docs/spec/registration.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import msgspec

from collegium import proofs
from collegium.crypto import (
    ACCOUNT_SIGNATURE_BYTES,
    ADDRESS_BYTES,
    DIGEST_BYTES,
    AccountKey,
    Digest,
    hash_fields,
    recover_address,
)
from collegium.errors import CollegiumError
from collegium.proofs import COMMITMENTS_MAX, DataShape, RegistrationStatement, StatementError

from ._json import decode_canonical

__all__ = [
    "COMMITMENTS_MIN",
    "NO_PREVIOUS",
    "DataRegistration",
    "LicenceBytesError",
    "LicenceMismatchError",
    "LicenceRequest",
    "LicenceSignatureError",
    "RegistrationBytesError",
    "RegistrationLinkError",
    "RegistrationSignatureError",
    "check_licence",
    "decode_data_registration",
    "decode_licence",
    "encode_data_registration",
    "encode_licence",
    "sign_data_registration",
    "sign_licence",
    "terms_digest",
    "verify_continuation",
    "verify_data_registration",
    "verify_licence",
]

COMMITMENTS_MIN = 2  # one for a round, and a spare by which the next registration shows that its rows are the same
NO_PREVIOUS: Digest = bytes(DIGEST_BYTES)
REGISTRATION_BYTES_MAX = 64 << 20
LICENCE_BYTES_MAX = 4096
TIME_MAX = 1 << 40
ELEMENT_BYTES = 8

_MAGIC = b"collegium/v1/registration\x00"
_HEAD = struct.Struct(f"<{len(_MAGIC)}s5I{ADDRESS_BYTES}s{DIGEST_BYTES}s{DIGEST_BYTES}sHI")
_LICENCE_FORMAT = "collegium/v1/licence-request"


class RegistrationBytesError(CollegiumError):
    """Bytes that should be a registration are none."""


class RegistrationSignatureError(CollegiumError):
    """A registration is not signed by the owner that it names."""


class RegistrationLinkError(CollegiumError):
    """A registration does not continue the one that it is said to continue."""


class LicenceBytesError(CollegiumError):
    """Bytes that should be a licence request are none."""


class LicenceSignatureError(CollegiumError):
    """A licence request is not signed by the owner that it names."""


class LicenceMismatchError(CollegiumError):
    """A licence request speaks of other data than the registration beside it."""


@dataclass(frozen=True, slots=True)
class DataRegistration:
    """Commitments to the same rows, with a proof that they are, signed by the owner.

    Attributes:
        shape: the public shape of the data.
        owner: the owner's account address.
        context: what the features mean: digest of schema, labels and scaling.
        previous: data root of the registration that this one continues, whose last root is then this one's first; or
            zeros.
        roots: the commitments; the last is the spare, which no round uses.
        proof: that all roots commit to the same rows, in range.
        signature: of `signed_digest` by the owner's account.
    """

    shape: DataShape
    owner: bytes
    context: Digest
    previous: Digest
    roots: tuple[Digest, ...]
    proof: bytes
    signature: bytes

    @property
    def data_root(self) -> Digest:
        """What stands for the data set elsewhere, on a chain too: all of the registration but proof and signature."""
        return hash_fields(
            "data-root", *self.shape.fields(), self.owner, self.context, self.previous, b"".join(self.roots)
        )

    @property
    def signed_digest(self) -> Digest:
        """The digest that the owner signs."""
        return hash_fields("registration-signed", self.data_root, self.proof)

    @property
    def statement(self) -> RegistrationStatement:
        """What the proof must show."""
        return RegistrationStatement(self.shape, self.roots, self.owner, self.context)

    @property
    def round_positions(self) -> range:
        """The positions of the commitments that a round may use: not the spare, nor the previous one's spare."""
        return range(0 if self.previous == NO_PREVIOUS else 1, len(self.roots) - 1)


# --- registration


def sign_data_registration(registration: DataRegistration, key: AccountKey) -> DataRegistration:
    """Return the registration with the owner's signature."""
    return replace(registration, signature=key.sign(registration.signed_digest))


def encode_data_registration(registration: DataRegistration) -> bytes:
    """Return the canonical bytes: magic, shape, owner, context, previous, counts, roots, proof, signature."""
    shape = registration.shape
    head = _HEAD.pack(
        _MAGIC,
        *(shape.rows, shape.inputs, shape.outputs, shape.limit, shape.message_len),
        registration.owner,
        registration.context,
        registration.previous,
        len(registration.roots),
        len(registration.proof),
    )
    return head + b"".join(registration.roots) + registration.proof + registration.signature


def decode_data_registration(data: bytes) -> DataRegistration:
    """Decode a registration strictly; whether it is true shows when it is verified.

    Raises:
        RegistrationBytesError: too long, another length than its head says, out of bounds, a root twice, or a proof too
            short for so much data, which would cost a verifier time and memory.
    """
    if not _HEAD.size <= len(data) <= REGISTRATION_BYTES_MAX:
        raise RegistrationBytesError(
            f"a registration of {len(data)} bytes, expected {_HEAD.size} to {REGISTRATION_BYTES_MAX}", length=len(data)
        )
    magic, *numbers, owner, context, previous, count, proof_length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise RegistrationBytesError(f"a registration begins with {magic[:32]!a}, expected {_MAGIC!a}")
    proof_at = _HEAD.size + DIGEST_BYTES * count
    signature_at = proof_at + proof_length
    if not COMMITMENTS_MIN <= count <= COMMITMENTS_MAX or len(data) != signature_at + ACCOUNT_SIGNATURE_BYTES:
        raise RegistrationBytesError(
            f"a registration of {count} commitments and {proof_length} bytes of proof in {len(data)} bytes, expected "
            f"{COMMITMENTS_MIN} to {COMMITMENTS_MAX} commitments and {signature_at + ACCOUNT_SIGNATURE_BYTES} bytes",
            count=count,
            length=len(data),
        )
    roots = tuple(data[at : at + DIGEST_BYTES] for at in range(_HEAD.size, proof_at, DIGEST_BYTES))
    try:
        shape = DataShape(*numbers)
        registration = DataRegistration(
            shape, owner, context, previous, roots, data[proof_at:signature_at], data[signature_at:]
        )
        _ = registration.statement
    except StatementError as error:
        raise RegistrationBytesError(f"a registration: {error}") from error
    _check_proof_length(registration)
    return registration


def verify_data_registration(registration: DataRegistration) -> None:
    """Check a registration that somebody else made.

    Raises:
        RegistrationSignatureError: the owner did not sign it.
        CollegiumError: the signature is malformed.
        ProofRejectedError: its proof does not show that all roots commit to the same rows, in range.
    """
    signer = recover_address(registration.signed_digest, registration.signature)
    if signer != registration.owner:
        raise RegistrationSignatureError(
            f"a registration of owner 0x{registration.owner.hex()} is signed by 0x{signer.hex()}",
            owner=registration.owner,
            signer=signer,
        )
    proofs.verify_registration(registration.statement, registration.proof)


def verify_continuation(registration: DataRegistration, previous: DataRegistration) -> None:
    """Check that a registration is about the rows of `previous`; both must have been verified.

    Raises:
        RegistrationLinkError: another owner, shape, context or data root, or the spare is not the first root, or more
            than it is used again.
    """
    if registration.previous != previous.data_root:
        raise RegistrationLinkError(
            f"a registration continues {registration.previous.hex()}, the previous one is {previous.data_root.hex()}"
        )
    same = (registration.owner, registration.shape, registration.context)
    if same != (previous.owner, previous.shape, previous.context):
        raise RegistrationLinkError("a registration has another owner, shape or context than the one it continues")
    if registration.roots[0] != previous.roots[-1] or len({*registration.roots} & {*previous.roots}) != 1:
        raise RegistrationLinkError("a registration and the one it continues share another root than the spare one")


def _check_proof_length(registration: DataRegistration) -> None:
    """Refuse more committed rows than the proof can hold opened columns of."""
    shape = registration.shape
    committed = -(-shape.rows * (shape.inputs + shape.outputs) // shape.message_len) * len(registration.roots)
    least = committed * shape.code.queries * ELEMENT_BYTES
    if len(registration.proof) < least:
        raise RegistrationBytesError(
            f"a proof of {len(registration.proof)} bytes about {shape.rows} rows in {len(registration.roots)} "
            f"commitments, expected at least {least}"
        )


# --- licence


@dataclass(frozen=True, slots=True)
class LicenceRequest:
    """An owner's request for a licence of one registered data set, good on any chain.

    Attributes:
        owner: the owner's account address.
        data_root: of the registration.
        terms: `terms_digest` of the text under which the data may be used.
        rows: number of rows registered.
        valid_from, valid_until: seconds since 1970 (UTC); the end is excluded.
        nonce: 32 random bytes, so that one request is granted once.
        signature: of `digest` by the owner's account.

    Raises:
        LicenceBytesError: a number or a length is out of bounds.
    """

    owner: bytes
    data_root: Digest
    terms: Digest
    rows: int
    valid_from: int
    valid_until: int
    nonce: bytes
    signature: bytes

    def __post_init__(self) -> None:
        lengths = [len(self.owner), len(self.data_root), len(self.terms), len(self.nonce), len(self.signature)]
        expected = [ADDRESS_BYTES, DIGEST_BYTES, DIGEST_BYTES, DIGEST_BYTES, ACCOUNT_SIGNATURE_BYTES]
        if lengths != expected:
            raise LicenceBytesError(f"a licence request has fields of {lengths} bytes, expected {expected}")
        if not (1 <= self.rows <= 1 << 28 and 0 <= self.valid_from < self.valid_until <= TIME_MAX):
            raise LicenceBytesError(
                f"a licence request for {self.rows} rows from {self.valid_from} to {self.valid_until}, expected at "
                f"least one row and a time that ends after it begins and by {TIME_MAX}"
            )

    @property
    def digest(self) -> Digest:
        """The digest that the owner signs, and that stands for the request on a chain."""
        times = (self.valid_from, self.valid_until)
        return hash_fields("licence-request", self.owner, self.data_root, self.terms, self.rows, *times, self.nonce)


@dataclass(frozen=True, slots=True)
class _LicenceFile:
    """The request as JSON; bytes are lower-case hexadecimal."""

    format: str
    owner: str
    data_root: str
    terms: str
    rows: int
    valid_from: int
    valid_until: int
    nonce: str
    signature: str


def terms_digest(text: bytes) -> Digest:
    """Return what stands for the text of a licence."""
    return hash_fields("licence-terms", text)


def sign_licence(request: LicenceRequest, key: AccountKey) -> LicenceRequest:
    """Return the request with the owner's signature."""
    return replace(request, signature=key.sign(request.digest))


def encode_licence(request: LicenceRequest) -> bytes:
    """Return the canonical JSON of a licence request."""
    return msgspec.json.encode(
        _LicenceFile(
            format=_LICENCE_FORMAT,
            owner=request.owner.hex(),
            data_root=request.data_root.hex(),
            terms=request.terms.hex(),
            rows=request.rows,
            valid_from=request.valid_from,
            valid_until=request.valid_until,
            nonce=request.nonce.hex(),
            signature=request.signature.hex(),
        )
    )


def decode_licence(data: bytes) -> LicenceRequest:
    """Decode a licence request strictly.

    Raises:
        LicenceBytesError: too long, malformed, of another format, not canonical or out of bounds.
    """
    file = decode_canonical(data, _LicenceFile, "licence request", LICENCE_BYTES_MAX, LicenceBytesError)
    if file.format != _LICENCE_FORMAT:
        raise LicenceBytesError(f"a licence request of format {file.format[:64]!a}, expected {_LICENCE_FORMAT!a}")
    try:
        owner, data_root, terms, nonce, signature = (
            bytes.fromhex(text) for text in (file.owner, file.data_root, file.terms, file.nonce, file.signature)
        )
    except ValueError as error:
        raise LicenceBytesError(f"a licence request: {error}") from error
    request = LicenceRequest(owner, data_root, terms, file.rows, file.valid_from, file.valid_until, nonce, signature)
    if encode_licence(request) != data:  # capitals or blanks among the digits
        raise LicenceBytesError("a licence request is not in its canonical encoding")
    return request


def verify_licence(request: LicenceRequest) -> None:
    """Check the signature of a licence request.

    Raises:
        LicenceSignatureError: the owner did not sign it.
        CollegiumError: the signature is malformed.
    """
    signer = recover_address(request.digest, request.signature)
    if signer != request.owner:
        raise LicenceSignatureError(
            f"a licence request of owner 0x{request.owner.hex()} is signed by 0x{signer.hex()}",
            owner=request.owner,
            signer=signer,
        )


def check_licence(request: LicenceRequest, registration: DataRegistration) -> None:
    """Check that a licence request is for the data of a registration; both must have been verified.

    Raises:
        LicenceMismatchError: another owner, data root or number of rows.
    """
    compared = {
        "owner": (request.owner.hex(), registration.owner.hex()),
        "data root": (request.data_root.hex(), registration.data_root.hex()),
        "number of rows": (str(request.rows), str(registration.shape.rows)),
    }
    for what, (found, expected) in compared.items():
        if found != expected:
            raise LicenceMismatchError(f"a licence request has {what} {found}, the registration {expected}", what=what)
