"""What validators say to each other to agree on one order, and what exactly each signature covers.

Signatures cover fixed, domain-separated fields, never a codec's output. Constructors bound every field, so a value
that exists is well formed; whether it is *true* (signers, quorum, leader) is `_order_validity`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from collegium.crypto import Digest, hash_fields
from collegium.errors import CollegiumError

from ._epoch import DIGEST_BYTES, EPOCH_SET_SIZE_MAX, INTEGER_MAX, EpochSet

__all__ = [
    "BLOCK_PAYLOAD_BYTES_MAX",
    "RESPONSE_BLOCKS_MAX",
    "Ballot",
    "Block",
    "BlockRequest",
    "BlockResponse",
    "ChangeOffer",
    "FollowMessage",
    "FollowReply",
    "FollowRequest",
    "MalformedMessageError",
    "Message",
    "QuorumCertificate",
    "Relay",
    "SignedHeader",
    "Timeout",
    "TimeoutCertificate",
    "TimeoutGroup",
    "ViewEntry",
    "Vote",
    "genesis_certificate",
    "seat_bitmap",
    "seats_of",
    "timeout_digest",
]

BLS_SIGNATURE_BYTES: Final = 48
ACCOUNT_SIGNATURE_BYTES: Final = 65
BLOCK_PAYLOAD_BYTES_MAX: Final = 16 << 20
RESPONSE_BLOCKS_MAX: Final = 16
PROOF_CERTIFICATES_MAX: Final = 256  # that prove a block final: one more for each view that was given up in between
RECORD_BYTES_MAX: Final = 1 << 18  # of an epoch change; a handover is longer, and nobody has to offer one
BITMAP_BYTES_MAX: Final = EPOCH_SET_SIZE_MAX // 8


class MalformedMessageError(CollegiumError):
    """Bytes or fields that cannot be a message: a length, number or count out of its bounds."""


def _check_bytes(what: str, value: bytes, low: int, high: int) -> None:
    if not low <= len(value) <= high:
        raise MalformedMessageError(f"{what} has {len(value)} bytes, expected {low}..{high}", length=len(value))


def _check_number(what: str, value: int, low: int = 0, high: int = INTEGER_MAX) -> None:
    if not low <= value <= high:
        raise MalformedMessageError(f"{what} is {value}, expected {low}..{high}", number=value)


# ---------------------------------------------------------------------------------------------------- certificates


def seat_bitmap(seats: frozenset[int] | set[int], size: int) -> bytes:
    """ceil(size / 8) bytes; seat i is bit i % 8 of byte i // 8."""
    return sum(1 << seat for seat in seats).to_bytes((size + 7) // 8, "little")


def seats_of(bitmap: bytes) -> tuple[int, ...]:
    """The seats whose bits are set, ascending."""
    bits = int.from_bytes(bitmap, "little")
    return tuple(i for i in range(8 * len(bitmap)) if bits >> i & 1)


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a vote says: this block, of this view, on top of that parent.

    Naming the parent makes a certificate self-contained: a single certificate whose views are contiguous proves the
    parent final to someone who holds no block at all.
    """

    view: int
    block: Digest
    parent_view: int
    parent: Digest

    def __post_init__(self) -> None:
        _check_number("view", self.view)
        _check_number("parent's view", self.parent_view, 0, max(self.view - 1, 0))
        _check_bytes("block digest", self.block, DIGEST_BYTES, DIGEST_BYTES)
        _check_bytes("parent digest", self.parent, DIGEST_BYTES, DIGEST_BYTES)

    def digest(self, epoch_set: EpochSet) -> Digest:
        """What a voter signs."""
        return hash_fields("vote", epoch_set.digest(), self.view, self.block, self.parent_view, self.parent)

    @property
    def makes_parent_final(self) -> bool:
        """The two-chain rule: block and parent are of contiguous views (and the parent is not the genesis)."""
        return self.view == self.parent_view + 1 and self.parent_view > 0


@dataclass(frozen=True, slots=True)
class QuorumCertificate:
    """A quorum's votes for one ballot, as one aggregate signature (48 bytes) and a seat bitmap.

    The certificate of the genesis has view 0 and neither signers nor signature.
    """

    ballot: Ballot
    signers: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_bytes("bitmap of signers", self.signers, 0, BITMAP_BYTES_MAX)
        length = BLS_SIGNATURE_BYTES if self.ballot.view else 0
        _check_bytes("aggregate signature", self.signature, length, length)

    @property
    def view(self) -> int:
        """The certified block's view."""
        return self.ballot.view

    @property
    def block(self) -> Digest:
        """The certified block."""
        return self.ballot.block

    @property
    def digest(self) -> Digest:
        """Digest of ballot, signers and signature, for use inside a block's digest."""
        b = self.ballot
        return hash_fields("quorum-certificate", b.view, b.block, b.parent_view, b.parent, self.signers, self.signature)


def genesis_certificate(genesis: Digest) -> QuorumCertificate:
    """The certificate that needs no signature: view 0, the genesis."""
    return QuorumCertificate(Ballot(0, genesis, 0, bytes(DIGEST_BYTES)), b"", b"")


@dataclass(frozen=True, slots=True)
class TimeoutGroup:
    """Those who gave up a view while their highest certificate was of view `high_view`."""

    high_view: int
    signers: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_number("high view", self.high_view)
        _check_bytes("bitmap of signers", self.signers, 1, BITMAP_BYTES_MAX)
        _check_bytes("aggregate signature", self.signature, BLS_SIGNATURE_BYTES, BLS_SIGNATURE_BYTES)


@dataclass(frozen=True, slots=True)
class TimeoutCertificate:
    """A quorum gave up `view`; one aggregate signature for each distinct high view, ascending."""

    view: int
    groups: tuple[TimeoutGroup, ...]

    def __post_init__(self) -> None:
        _check_number("view", self.view, 1)
        _check_number("count of groups", len(self.groups), 1, EPOCH_SET_SIZE_MAX)
        highs = [group.high_view for group in self.groups]
        if highs != sorted(set(highs)) or highs[-1] >= self.view:
            raise MalformedMessageError(
                f"high views {highs[:8]} of a timeout certificate of view {self.view}: expected ascending and below it"
            )

    @property
    def high_view(self) -> int:
        """The highest view of a certificate that a signer of this knew."""
        return self.groups[-1].high_view

    @property
    def digest(self) -> Digest:
        """Digest of everything in it, for use inside a block's digest."""
        fields = [f for g in self.groups for f in (g.high_view, g.signers, g.signature)]
        return hash_fields("timeout-certificate", self.view, *fields)


def timeout_digest(epoch_set: EpochSet, view: int, high_view: int) -> Digest:
    """What a validator signs when it gives up `view` knowing a certificate of `high_view`."""
    return hash_fields("timeout", epoch_set.digest(), view, high_view)


# -------------------------------------------------------------------------------------------------------- blocks


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """The part of a block that its author's account key signs: enough to prove an equivocation with one ecrecover."""

    task: Digest
    epoch: int
    view: int
    author: int
    body: Digest
    signature: bytes

    def __post_init__(self) -> None:
        _check_bytes("task", self.task, DIGEST_BYTES, DIGEST_BYTES)
        _check_number("epoch", self.epoch)
        _check_number("view", self.view, 1)
        _check_number("author", self.author, 0, EPOCH_SET_SIZE_MAX - 1)
        _check_bytes("digest of the body", self.body, DIGEST_BYTES, DIGEST_BYTES)
        _check_bytes("author's signature", self.signature, ACCOUNT_SIGNATURE_BYTES, ACCOUNT_SIGNATURE_BYTES)

    @property
    def digest(self) -> Digest:
        """What the author signs; the block's digest."""
        return hash_fields("block", self.task, self.epoch, self.view, self.author, self.body)


@dataclass(frozen=True, slots=True)
class Block:
    """A leader's proposal: a payload on top of a certified parent.

    `timeout_certificate` is present exactly when the parent is not of the preceding view; it then proves that the
    preceding view was given up. An empty payload is legal and orders nothing.

    Attributes:
        body: digest of certificates and payload.
        digest: digest of task, epoch, view, author and body; what the author signs.
    """

    task: Digest
    epoch: int
    view: int
    author: int
    parent_certificate: QuorumCertificate
    timeout_certificate: TimeoutCertificate | None
    payload: bytes
    signature: bytes
    body: Digest = field(init=False, repr=False, compare=False)
    digest: Digest = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_bytes("payload", self.payload, 0, BLOCK_PAYLOAD_BYTES_MAX)
        timeout = b"" if self.timeout_certificate is None else self.timeout_certificate.digest
        body = hash_fields("block-body", self.parent_certificate.digest, timeout, self.payload)
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "digest", self.header.digest)

    @property
    def parent(self) -> Digest:
        """The block below this one."""
        return self.parent_certificate.block

    @property
    def header(self) -> SignedHeader:
        """Who signed what, without payload and certificates."""
        return SignedHeader(self.task, self.epoch, self.view, self.author, self.body, self.signature)

    @property
    def ballot(self) -> Ballot:
        """What a vote for this block says."""
        return Ballot(self.view, self.digest, self.parent_certificate.view, self.parent)

    def signed(self, signature: bytes) -> Block:
        """The same block with its author's signature."""
        return replace(self, signature=signature)


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True, slots=True)
class Vote:
    """One validator's BLS signature on a ballot, sent to the leaders of its view and of the next."""

    ballot: Ballot
    voter: int
    signature: bytes

    def __post_init__(self) -> None:
        _check_number("view", self.ballot.view, 1)
        _check_number("voter", self.voter, 0, EPOCH_SET_SIZE_MAX - 1)
        _check_bytes("vote's signature", self.signature, BLS_SIGNATURE_BYTES, BLS_SIGNATURE_BYTES)

    @property
    def view(self) -> int:
        """The view voted in."""
        return self.ballot.view


@dataclass(frozen=True, slots=True)
class ViewEntry:
    """Why its sender is in view `view`: a certificate of the preceding view, or a timeout certificate of it.

    Sent by a leader who has nothing to propose, so that everybody learns its certificate, and to those left behind.
    """

    high_certificate: QuorumCertificate
    timeout_certificate: TimeoutCertificate | None

    @property
    def view(self) -> int:
        """The view entered."""
        return 1 + max(self.high_certificate.view, self.timeout_certificate.view if self.timeout_certificate else 0)


@dataclass(frozen=True, slots=True)
class Timeout:
    """Its author gives up `view`, will not vote in it any more, and shows why it was there and what it knew."""

    view: int
    author: int
    entry: ViewEntry
    signature: bytes

    def __post_init__(self) -> None:
        _check_number("view", self.view, 1)
        _check_number("author", self.author, 0, EPOCH_SET_SIZE_MAX - 1)
        _check_bytes("timeout's signature", self.signature, BLS_SIGNATURE_BYTES, BLS_SIGNATURE_BYTES)

    @property
    def high_view(self) -> int:
        """View of the highest certificate its author knew."""
        return self.entry.high_certificate.view


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """`requester` has `known`, its last final block or a later one, and asks for the chain from there to `wanted`."""

    requester: int
    known: Digest
    wanted: Digest

    def __post_init__(self) -> None:
        _check_number("requester", self.requester, 0, EPOCH_SET_SIZE_MAX - 1)
        _check_bytes("known digest", self.known, DIGEST_BYTES, DIGEST_BYTES)
        _check_bytes("wanted digest", self.wanted, DIGEST_BYTES, DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class BlockResponse:
    """Blocks of one chain, oldest first, at most 16."""

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        _check_number("count of blocks", len(self.blocks), 1, RESPONSE_BLOCKS_MAX)


@dataclass(frozen=True, slots=True)
class Relay:
    """`member` passes on a payload that it wants ordered, so that every leader can propose it.

    The transport must have authenticated `member`; the pool is bounded for each of them.
    """

    member: int
    payload: bytes

    def __post_init__(self) -> None:
        _check_number("member", self.member, 0, EPOCH_SET_SIZE_MAX - 1)
        _check_bytes("payload", self.payload, 1, BLOCK_PAYLOAD_BYTES_MAX)


Message = Block | Vote | Timeout | ViewEntry | BlockRequest | BlockResponse | Relay

# ------------------------------------------------------------------------------------------------------ following


@dataclass(frozen=True, slots=True)
class FollowRequest:
    """A candidate asks for the final blocks after `known`, its last one or the epoch's genesis."""

    known: Digest

    def __post_init__(self) -> None:
        _check_bytes("known digest", self.known, DIGEST_BYTES, DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class FollowReply:
    """Final blocks, each the parent of the next, at most 16, and the certificates that prove the last one final."""

    blocks: tuple[Block, ...]
    certificates: tuple[QuorumCertificate, ...]

    def __post_init__(self) -> None:
        _check_number("count of blocks", len(self.blocks), 1, RESPONSE_BLOCKS_MAX)
        _check_number("count of certificates", len(self.certificates), 2, PROOF_CERTIFICATES_MAX)


@dataclass(frozen=True, slots=True)
class ChangeOffer:
    """A candidate without a place in the present epoch has something to say in its change: a record to be ordered."""

    payload: bytes

    def __post_init__(self) -> None:
        _check_bytes("record", self.payload, 1, RECORD_BYTES_MAX)


FollowMessage = FollowRequest | FollowReply | ChangeOffer
"""What is said outside ordering and rounds: to, and by, candidates that have no place in an epoch."""
