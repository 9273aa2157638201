"""One record of the log: what it may hold, its canonical bytes, and the hash that links it to the one before."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from collegium.crypto import Digest, hash_fields
from collegium.lineage._errors import MalformedDigestError, MalformedRecordError

KINDS: Final = (
    "task",
    "dataset",
    "scaling",
    "model",
    "report",
    "close",
    "sum",
    "header",
    "certificate",
    "checkpoint",
)
"""What a record can be about."""

FIRST_LINK: Final[Digest] = bytes(32)
"""The link before the first record."""

DIGEST_LEN: Final = 32
INTEGER_MAX: Final = 2**63 - 1
"""The largest integer that every database keeps exactly."""
TEXT_BYTES_MAX: Final = 256
ATTRIBUTES_BYTES_MAX: Final = 16_384
PARENTS_MAX: Final = 65_536


class Parent(NamedTuple):
    """An earlier object that went into this one.

    Attributes:
        digest: the digest of an earlier record.
        role: what it was to the child (`previous`, `sum`, `report`, `dataset`, ...).
        weight: how much of it went in; the weight of a report in its sum, 1 where nothing is weighted.
    """

    digest: Digest
    role: str
    weight: int


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the log with its edges.

    Attributes:
        seq: position in the log, from 0.
        kind: one of `KINDS`.
        round_number: the training round it belongs to.
        digest: the object it is about.
        subject: who or what the object is of: a trainer, a site, a chain.
        parents: in ascending order of digest and role, without repetition.
        attributes: canonical JSON object of strings and integers.
        link: hash of this record and of the link before it.
    """

    seq: int
    kind: str
    round_number: int
    digest: Digest
    subject: str
    parents: tuple[Parent, ...]
    attributes: str
    link: Digest

    def values(self) -> dict[str, str | int]:
        """Return the attributes as a dictionary.

        Raises:
            MalformedRecordError: they are not canonical.
        """
        return decode_attributes(self.attributes)

    def line(self) -> bytes:
        """Return the record as one line of canonical JSON: sorted keys, no spaces, ASCII, digests in hex."""
        row = {
            "attributes": self.attributes,
            "digest": self.digest.hex(),
            "kind": self.kind,
            "link": self.link.hex(),
            "parents": [[parent.digest.hex(), parent.role, parent.weight] for parent in self.parents],
            "round": self.round_number,
            "seq": self.seq,
            "subject": self.subject,
        }
        return _canonical_json(row).encode("ascii") + b"\n"


def link_after(previous: Digest, record: Record) -> Digest:
    """Return the link of `record` when `previous` is the link before it; `record.link` itself is not read.

    The parents stand between a fixed number of fields and one last field, and every field carries its length, so no
    two different records have the same preimage (docs/spec/lineage.md, "The chain of links").
    """
    fields: list[bytes | int] = [previous, record.kind.encode(), record.round_number, record.digest]
    fields.append(record.subject.encode())
    for parent in record.parents:
        fields += (parent.digest, parent.role.encode(), parent.weight)
    return hash_fields("lineage", *fields, record.attributes.encode("ascii"))


def encode_attributes(attributes: Mapping[str, str | int]) -> str:
    """Return the attributes as canonical JSON.

    Raises:
        MalformedRecordError: a key is not text, a value is neither text nor a 64-bit integer, or all of them together
            are longer than `ATTRIBUTES_BYTES_MAX`.
    """
    for key, value in attributes.items():
        known = isinstance(key, str) and (isinstance(value, str) or _is_integer(value, -INTEGER_MAX))
        if not known:
            message = f"attribute {key!r} is {value!r}; expected text or an integer of 64 bits"
            raise MalformedRecordError(message, key=key, value=value)
    text = _canonical_json(dict(attributes))
    if len(text) > ATTRIBUTES_BYTES_MAX:
        message = f"attributes take {len(text)} bytes; at most {ATTRIBUTES_BYTES_MAX} are allowed"
        raise MalformedRecordError(message, length=len(text), length_max=ATTRIBUTES_BYTES_MAX)
    return text


def decode_attributes(text: str) -> dict[str, str | int]:
    """Return the attributes that `encode_attributes` gave as `text`.

    Raises:
        MalformedRecordError: `text` is anything but the canonical form of some attributes.
    """
    try:
        attributes = json.loads(text) if len(text) <= ATTRIBUTES_BYTES_MAX else None
    except (ValueError, RecursionError):
        attributes = None
    if not isinstance(attributes, dict) or encode_attributes(attributes) != text:
        message = f"attributes are not a canonical JSON object: {text[:80]!r}"
        raise MalformedRecordError(message, text=text[:80])
    return attributes


def validate(record: Record) -> None:
    """Check every bound a record alone can be checked for, and nothing about the records around it.

    Raises:
        MalformedDigestError: its digest or a parent's is not 32 bytes.
        MalformedRecordError: another field is out of bounds.
    """
    if record.kind not in KINDS:
        raise MalformedRecordError(f"kind is {record.kind!r}; expected one of {', '.join(KINDS)}", kind=record.kind)
    if not _is_integer(record.round_number, 0):
        message = f"round is {record.round_number!r}; expected 0 to {INTEGER_MAX}"
        raise MalformedRecordError(message, round_number=record.round_number)
    _check_digest(record.digest)
    _check_text("subject", record.subject)
    if len(record.parents) > PARENTS_MAX:
        message = f"{len(record.parents)} parents; at most {PARENTS_MAX} are allowed"
        raise MalformedRecordError(message, count=len(record.parents), count_max=PARENTS_MAX)
    for parent in record.parents:
        _check_digest(parent.digest)
        _check_text("role", parent.role)
        if not _is_integer(parent.weight, 0):
            message = f"parent {parent.digest.hex()} has weight {parent.weight!r}; expected 0 to {INTEGER_MAX}"
            raise MalformedRecordError(message, weight=parent.weight)
    names = [(parent.digest, parent.role) for parent in record.parents]
    if names != sorted(set(names)):
        message = "parents are not in ascending order of digest and role, each once"
        raise MalformedRecordError(message, parents=record.parents)
    decode_attributes(record.attributes)


def _check_digest(digest: object) -> None:
    if not isinstance(digest, bytes) or len(digest) != DIGEST_LEN:
        raise MalformedDigestError(f"a digest is {DIGEST_LEN} bytes, got {digest!r}", digest=digest)


def _check_text(name: str, text: object) -> None:
    try:
        length = len(text.encode("utf-8")) if isinstance(text, str) and "\0" not in text else None
    except UnicodeEncodeError:  # half of a surrogate pair: no database keeps it
        length = None
    if length is None or length > TEXT_BYTES_MAX:
        message = f"{name} is {str(text)[:80]!r}; expected at most {TEXT_BYTES_MAX} bytes of UTF-8 without a zero byte"
        raise MalformedRecordError(message, name=name)


def _is_integer(value: object, least: int) -> bool:
    """Return whether `value` is an integer, and not a Boolean, from `least` to `INTEGER_MAX`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= INTEGER_MAX


def _canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
