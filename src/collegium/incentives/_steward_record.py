"""A steward's record of one round: its gradient of the model on rows that nobody else has, and what it says of models.

docs/spec/quality.md, section 9. Words of 64 bits, little endian, then a signature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import numpy as np

from collegium.crypto import (
    ACCOUNT_SIGNATURE_BYTES,
    ADDRESS_BYTES,
    DIGEST_BYTES,
    AccountKey,
    Digest,
    hash_fields,
    recover_address,
)

from ._direction import ENTRIES_MAX, STEWARD_NORM_BITS
from ._errors import StewardRecordError
from ._fixed import ONE, Int64Array
from ._standing import COUNT_MAX

__all__ = [
    "RECORD_BYTES_MAX",
    "SALT_BYTES",
    "ModelScore",
    "StewardRecord",
    "decode_steward_record",
    "encode_steward_record",
    "read_steward_record",
    "record_digest",
    "score_commitment",
    "sign_steward_record",
    "split_steward_record",
    "steward_record_bytes",
]

FORMAT: Final = b"collegium/v1/steward-record\0\0\0\0\0"
RECORD_BYTES_MAX: Final = 1 << 20
SALT_BYTES: Final = 32
ENTRY_MAX: Final = (1 << STEWARD_NORM_BITS) + 1  # rounding down may leave one more below
_ACCOUNT_BYTES: Final = 24  # an address and four zeros
_OPENED_AT: Final = len(FORMAT) + 2 * 8 + _ACCOUNT_BYTES + DIGEST_BYTES
_REGISTERED_AT: Final = _OPENED_AT + 2 * 8 + SALT_BYTES
_HEAD_BYTES: Final = _REGISTERED_AT + 2 * DIGEST_BYTES
NO_DIGEST: Final[Digest] = bytes(DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class ModelScore:
    """What a commitment opens to: 2^-16 of a steward's rows that a model classifies right, and the salt."""

    score: int
    salt: bytes


@dataclass(frozen=True, slots=True, eq=False)
class StewardRecord:
    """What a steward says in a round.

    Attributes:
        account: the steward's.
        round: the round; its gradient is of the model that this round starts from.
        direction: the gradient at norm 2^20 (`normalise_direction`), shape (parameters,).
        commitment: to the score of that model (`score_commitment`).
        opened: what its last record committed to, if it tells.
        signature: the account's, of `digest`.
        registered: what its rows are registered as, where records are proved; else zeros.
        evidence: SHA-256 of the proof that stands behind the record in the order; zeros likewise.
    """

    account: bytes
    round: int
    direction: Int64Array
    commitment: Digest
    opened: ModelScore | None
    signature: bytes = b""
    registered: Digest = NO_DIGEST
    evidence: Digest = NO_DIGEST

    def digest(self, task: Digest) -> Digest:
        """Return what the account signs."""
        return hash_fields("steward-record", task, _body(self))


def score_commitment(task: Digest, account: bytes, round_number: int, opened: ModelScore) -> Digest:
    """Return what binds a steward to its score of the model that a round starts from; the salt hides it until then."""
    return hash_fields("steward-score", task, account, round_number, opened.score, opened.salt)


def sign_steward_record(record: StewardRecord, task: Digest, key: AccountKey) -> StewardRecord:
    """Return the record with the account's signature."""
    return replace(record, signature=key.sign(record.digest(task)))


def steward_record_bytes(parameters: int) -> int:
    """Return how long a record about so many parameters is."""
    return _HEAD_BYTES + 8 * parameters + ACCOUNT_SIGNATURE_BYTES


def encode_steward_record(record: StewardRecord) -> bytes:
    """Return the canonical bytes: format, round, count, account, commitment, opening, registered, evidence, direction,
    signature."""
    return _body(record) + record.signature


def split_steward_record(data: bytes) -> tuple[bytes, bytes]:
    """Return a record as it stands in the order, and the proof behind it.

    Raises:
        StewardRecordError: no record begins there, or it is cut short.
    """
    at = len(FORMAT) + 8
    count = int.from_bytes(data[at : at + 8], "little")
    length = steward_record_bytes(count)
    if not data.startswith(FORMAT) or not 1 <= count <= ENTRIES_MAX or len(data) < length:
        raise StewardRecordError(f"{len(data)} bytes do not begin as a steward's record does", length=len(data))
    return data[:length], data[length:]


def read_steward_record(data: bytes, task: Digest) -> StewardRecord:
    """Return the record that stands in the order, whose evidence is what stands behind it.

    So nobody can put other bytes behind a record that its steward has signed, and have them held against it.

    Raises:
        StewardRecordError: as `decode_steward_record`, or it names other evidence.
        BadAccountSignatureError: the signature is none.
    """
    body, behind = split_steward_record(data)
    record = decode_steward_record(body, task)
    if record.evidence != (sha256(behind).digest() if behind else NO_DIGEST):
        raise StewardRecordError(
            f"a record of steward {record.account.hex()} names other evidence than the {len(behind)} bytes behind it",
            account=record.account,
        )
    return record


def decode_steward_record(data: bytes, task: Digest) -> StewardRecord:
    """Return the record that canonical bytes encode, signed by the account in it for this task.

    Raises:
        StewardRecordError: format, length, a number out of its bounds, or another account's signature.
        BadAccountSignatureError: the signature is none.
    """
    if not len(FORMAT) + 16 <= len(data) <= RECORD_BYTES_MAX or not data.startswith(FORMAT):
        raise StewardRecordError(f"{len(data)} bytes do not begin as a steward's record does", length=len(data))
    at = len(FORMAT)
    round_number, count = (int.from_bytes(data[at + 8 * place : at + 8 * place + 8], "little") for place in range(2))
    if not (1 <= round_number <= COUNT_MAX and 1 <= count <= ENTRIES_MAX and len(data) == steward_record_bytes(count)):
        raise StewardRecordError(
            f"{len(data)} bytes for round {round_number} and {count} parameters, expected {steward_record_bytes(count)}"
            f" and a round from 1 to {COUNT_MAX}",
            length=len(data),
        )
    at += 16
    account, padding = data[at : at + ADDRESS_BYTES], data[at + ADDRESS_BYTES : at + _ACCOUNT_BYTES]
    at += _ACCOUNT_BYTES
    commitment = data[at : at + DIGEST_BYTES]
    if any(padding) or not any(commitment):
        raise StewardRecordError("an account is not padded with zeros, or a record commits to nothing")
    opened = _opened(data[_OPENED_AT:_REGISTERED_AT])
    middle = _REGISTERED_AT + DIGEST_BYTES
    registered, evidence = data[_REGISTERED_AT:middle], data[middle:_HEAD_BYTES]
    if (registered == NO_DIGEST) != (evidence == NO_DIGEST):
        raise StewardRecordError("a record names registered rows or evidence, expected both or neither")
    direction = np.frombuffer(data, "<i8", count, _HEAD_BYTES).astype(np.int64)
    if int(direction.min()) < -ENTRY_MAX or int(direction.max()) > ENTRY_MAX:
        raise StewardRecordError(
            f"a direction goes from {direction.min()} to {direction.max()}, expected magnitudes up to {ENTRY_MAX}"
        )
    signature = data[-ACCOUNT_SIGNATURE_BYTES:]
    record = StewardRecord(account, round_number, direction, commitment, opened, signature, registered, evidence)
    signer = recover_address(record.digest(task), signature)
    if signer != account:
        raise StewardRecordError(
            f"a record of steward {account.hex()} is signed by {signer.hex()}", account=account, signer=signer
        )
    return record


def record_digest(data: bytes) -> Digest:
    """Return what a state calls a record: SHA-256 of all its bytes."""
    return sha256(data).digest()


def _opened(data: bytes) -> ModelScore | None:
    told, score = (int.from_bytes(data[place : place + 8], "little") for place in (0, 8))
    salt = data[16:]
    if told > 1 or score > ONE or (not told and (score or any(salt))):
        raise StewardRecordError(
            f"an opening of kind {told} says {score}, expected 0 and zeros, or 1 and at most {ONE}", score=score
        )
    return ModelScore(score, salt) if told else None


def _body(record: StewardRecord) -> bytes:
    opened = record.opened
    score, salt = (0, bytes(SALT_BYTES)) if opened is None else (opened.score, opened.salt)
    return b"".join(
        (
            FORMAT,
            record.round.to_bytes(8, "little"),
            len(record.direction).to_bytes(8, "little"),
            record.account.ljust(_ACCOUNT_BYTES, b"\0"),
            record.commitment,
            int(opened is not None).to_bytes(8, "little"),
            score.to_bytes(8, "little"),
            salt,
            record.registered,
            record.evidence,
            record.direction.astype("<i8").tobytes(),
        )
    )
