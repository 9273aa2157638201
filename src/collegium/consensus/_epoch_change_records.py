"""What the order holds of the change from one epoch to the next: five kinds of record, beside a round's two.

Each names the epoch to come and the round in which this attempt began; together with the present epoch set's digest
they are the *scope* of every signature here, so a record of another epoch, attempt or history verifies nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec

from collegium.crypto import SEAL_KEY_BYTES, SEAL_OVERHEAD_BYTES, BeaconGroup, Digest, hash_fields
from collegium.errors import CollegiumError

from ._epoch import ACCOUNT_BYTES, BLS_KEY_BYTES, INTEGER_MAX, EpochSet
from ._messages import ACCOUNT_SIGNATURE_BYTES, BLS_SIGNATURE_BYTES
from ._records import Announcement, decode_canonical

__all__ = [
    "MEMBERS_MAX",
    "Answer",
    "DealingRecord",
    "EpochRecord",
    "Handover",
    "MalformedEpochRecordError",
    "NextEpoch",
    "Seat",
    "TicketRecord",
    "Verdict",
    "change_scope",
    "decode_epoch_record",
    "encode_epoch_record",
    "first_key_digest",
    "is_epoch_record",
    "is_handover",
    "share_purpose",
]

MEMBERS_MAX: Final = 1024  # of a dealt key: the limit of `crypto.deal`
SHARE_BYTES: Final = 32
BOX_BYTES: Final = SHARE_BYTES + SEAL_OVERHEAD_BYTES  # a sealed share


class MalformedEpochRecordError(CollegiumError):
    """Bytes that should be a record of an epoch change are not the canonical encoding of one, or out of bounds."""


# ------------------------------------------------------------------------------------------------ what is signed


def change_scope(epoch_set: EpochSet, epoch: int, start: int) -> Digest:
    """Return what every signature of one attempt covers: who decides, which epoch is to come, and since which round."""
    return hash_fields("epoch-change", epoch_set.digest(), epoch, start)


def first_key_digest(scope: Digest, members: EpochSet, key: Announcement) -> Digest:
    """Return what a member of the next set signs to be sealed to in that set's first round.

    No other round's announcement has this form: a key for an epoch that does not come is good for nothing else.
    """
    return hash_fields("epoch-first-key", scope, members.digest(), key.validator, key.round, key.seal_key)


def share_purpose(scope: Digest, members: EpochSet, dealer: int, member: int) -> Digest:
    """Return the HPKE `info` of a dealer's share for a member."""
    return hash_fields("epoch-share", scope, members.digest(), dealer, member)


# ------------------------------------------------------------------------------------------------ the records


@dataclass(frozen=True)
class TicketRecord:
    """A candidate's ticket in the race for the next epoch, and the key to which dealers seal its shares."""

    epoch: int
    start: int
    bls_key: bytes
    proof: bytes
    deal_key: bytes
    signature: bytes = b""

    def digest(self, scope: Digest) -> Digest:
        """What the candidate's account signs."""
        return hash_fields("epoch-ticket", scope, self.bls_key, self.proof, self.deal_key)


@dataclass(frozen=True)
class DealingRecord:
    """One member's dealing: Feldman's commitments, the proof that it knows what it deals, a sealed share a member."""

    epoch: int
    start: int
    dealer: int
    commitments: tuple[bytes, ...]
    possession: bytes
    boxes: tuple[bytes, ...]
    signature: bytes = b""

    def digest(self, scope: Digest, members: EpochSet) -> Digest:
        """What the dealer's account signs; commitments and boxes have one length each, so that joining them is safe."""
        commitments, boxes = b"".join(self.commitments), b"".join(self.boxes)
        return hash_fields("epoch-dealing", scope, members.digest(), self.dealer, commitments, self.possession, boxes)

    @staticmethod
    def possession_context(scope: Digest, members: EpochSet, dealer: int) -> Digest:
        """Return what the proof of possession is bound to."""
        return hash_fields("epoch-possession", scope, members.digest(), dealer)


@dataclass(frozen=True)
class Verdict:
    """A member has tried its shares: those of the dealers in `against` do not fit, all others do.

    `key` is its sealing key for the first round of the epoch to come.
    """

    epoch: int
    start: int
    member: int
    against: tuple[int, ...]
    key: Announcement
    signature: bytes = b""

    def digest(self, scope: Digest, members: EpochSet) -> Digest:
        """What the member's account signs."""
        against = b"".join(dealer.to_bytes(2, "little") for dealer in self.against)
        key = first_key_digest(scope, members, self.key)
        return hash_fields("epoch-verdict", scope, members.digest(), self.member, against, key)


@dataclass(frozen=True)
class Answer:
    """A dealer publishes the share of every member that complained of it: (member, 32 bytes), by member."""

    epoch: int
    start: int
    dealer: int
    shares: tuple[tuple[int, bytes], ...]
    signature: bytes = b""

    def digest(self, scope: Digest, members: EpochSet) -> Digest:
        """What the dealer's account signs."""
        shares = b"".join(member.to_bytes(2, "little") + share for member, share in self.shares)
        return hash_fields("epoch-answer", scope, members.digest(), self.dealer, shares)


@dataclass(frozen=True)
class Seat:
    """A validator of the epoch to come."""

    bls_key: bytes
    account: bytes
    stake: int


@dataclass(frozen=True)
class Handover:
    """The end of an epoch: who comes next, with which beacon key, from which round on, sealed to with which keys.

    It follows from the records before it and is signed by nobody in particular: what makes it valid is that a block
    with it is final, on certificates of the set that it ends.

    Attributes:
        seats: the next epoch set, in its order.
        dealers: whose dealings add up to the beacon's key.
        group_key, public_shares: that key, and what verifies each member's share of a value.
        keys: the members' sealing keys for `first_round`, each signed; see `first_key_digest`.
    """

    epoch: int
    start: int
    first_round: int
    seats: tuple[Seat, ...]
    dealers: tuple[int, ...]
    group_key: bytes
    public_shares: tuple[bytes, ...]
    keys: tuple[Announcement, ...]

    @cached_property
    def digest(self) -> Digest:
        """Digest of the canonical bytes; the next epoch's genesis binds it."""
        return hash_fields("epoch-handover-record", encode_epoch_record(self))


@dataclass(frozen=True)
class NextEpoch:
    """What a handover opens.

    Attributes:
        genesis: what the next epoch's first block names as its parent; binds the handover, hence all before it.
        group: the next beacon's key.
        first_round: the next epoch's.
        keys: the members' sealing keys for it.
    """

    epoch_set: EpochSet
    genesis: Digest
    group: BeaconGroup
    first_round: int
    keys: tuple[Announcement, ...]


EpochRecord = TicketRecord | DealingRecord | Verdict | Answer | Handover

# ------------------------------------------------------------------------------------------------ bytes

_KINDS: Final[dict[int, tuple[type[EpochRecord], int]]] = {
    ord("T"): (TicketRecord, 1 << 10),
    ord("D"): (DealingRecord, 1 << 18),
    ord("V"): (Verdict, 1 << 13),
    ord("A"): (Answer, 1 << 16),
    ord("N"): (Handover, 1 << 19),
}
_BYTES: Final = {kind: bytes([byte]) for byte, (kind, _) in _KINDS.items()}


def is_epoch_record(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be a record of an epoch change: no kind of a round's begins so."""
    return payload[:1] in _BYTES.values()


def is_handover(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be a handover."""
    return payload[:1] == _BYTES[Handover]


def encode_epoch_record(record: EpochRecord) -> bytes:
    """Return a record as block payload."""
    return _BYTES[type(record)] + msgspec.msgpack.encode(record)


def decode_epoch_record(data: bytes) -> EpochRecord:
    """Decode a block payload strictly: bounded for its kind, canonical, every field of its length and in its range.

    Raises:
        MalformedEpochRecordError: otherwise.
    """
    if not data or data[0] not in _KINDS:
        raise MalformedEpochRecordError(f"kind {data[:1]!r}, expected one of {[chr(byte) for byte in _KINDS]}")
    kind, bytes_max = _KINDS[data[0]]
    if len(data) > bytes_max:
        raise MalformedEpochRecordError(f"{kind.__name__} of {len(data)} bytes, at most {bytes_max}", length=len(data))
    record: EpochRecord = decode_canonical(data, kind, encode_epoch_record, MalformedEpochRecordError)
    _check_shape(record)
    return record


def _check_shape(record: EpochRecord) -> None:
    """Raise unless numbers are in range, lists increase where they must, and every field has its length."""
    signed = [(record.signature, ACCOUNT_SIGNATURE_BYTES)] if not isinstance(record, Handover) else []
    big, indices, increasing = [record.epoch, record.start], list[int](), [list[int]()]
    match record:
        case TicketRecord():
            lengths = [(record.bls_key, BLS_KEY_BYTES), (record.proof, BLS_SIGNATURE_BYTES)]
            lengths += [(record.deal_key, SEAL_KEY_BYTES)]
        case DealingRecord():
            lengths = [(point, BLS_KEY_BYTES) for point in record.commitments]
            lengths += [(box, BOX_BYTES) for box in record.boxes]
            lengths += [(record.possession, BLS_SIGNATURE_BYTES)]
            indices = [record.dealer, len(record.commitments) - 1, len(record.boxes) - 1]
        case Verdict():
            lengths = _key_lengths(record.key)
            indices, big = [record.member, record.key.validator, *record.against], [*big, record.key.round]
            increasing = [list(record.against)]
        case Answer():
            lengths = [(share, SHARE_BYTES) for _, share in record.shares]
            increasing = [[member for member, _ in record.shares]]
            indices = [record.dealer, *increasing[0]]
        case Handover():
            lengths = [(seat.bls_key, BLS_KEY_BYTES) for seat in record.seats]
            lengths += [(seat.account, ACCOUNT_BYTES) for seat in record.seats]
            lengths += [(point, BLS_KEY_BYTES) for point in (record.group_key, *record.public_shares)]
            lengths += [pair for key in record.keys for pair in _key_lengths(key)]
            increasing = [list(record.dealers), [key.validator for key in record.keys]]
            indices = [len(record.seats) - 1, *increasing[0], *increasing[1]]
            big += [record.first_round, *(seat.stake for seat in record.seats), *(key.round for key in record.keys)]
    bad = [value for value, length in (*signed, *lengths) if len(value) != length]
    outside = [n for n in big if not 0 <= n <= INTEGER_MAX] + [n for n in indices if not 0 <= n < MEMBERS_MAX]
    unordered = [numbers for numbers in increasing if numbers != sorted(set(numbers))]
    if bad or outside or unordered:
        raise MalformedEpochRecordError(
            f"{type(record).__name__}: {len(bad)} fields of wrong length, {len(outside)} numbers out of range, "
            f"{len(unordered)} lists that do not increase"
        )


def _key_lengths(key: Announcement) -> list[tuple[bytes, int]]:
    return [(key.seal_key, SEAL_KEY_BYTES), (key.signature, ACCOUNT_SIGNATURE_BYTES)]
