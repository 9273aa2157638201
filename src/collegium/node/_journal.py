"""What a validator writes down before anything that depends on it leaves, and how it gets it back.

A journal takes the durable effects of one step at once, all or none. `MemoryJournal` is the disk of a validator that
shares a process with others: it outlives the node, not the process. `DiskJournal` (`_journal_disk`) outlives a crash.
Specified in docs/spec/round.md, section on durability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, get_args

from collegium.consensus import (
    Block,
    Certified,
    Committed,
    ForgetEpochSecrets,
    Header,
    KeepBeaconShare,
    KeepEpochSecret,
    KeepObject,
    KeepSecret,
    KeepUpload,
    Kept,
    Persist,
    QuorumCertificate,
    Registered,
    ReleaseRecord,
    RoundFinished,
    RoundPassed,
    ShardRelease,
    Store,
    VoteState,
    decode_payload,
    decode_shard_payload,
)
from collegium.crypto import Digest, SealKey, SecretShare
from collegium.errors import CollegiumError

from ._events import WorldError

__all__ = [
    "DURABLE",
    "HANDOVER_KIND",
    "HEADER_KIND",
    "BlockArchive",
    "BlockStore",
    "Durable",
    "ForeignJournalError",
    "Journal",
    "JournalCorruptError",
    "JournalInUseError",
    "JournalWriteError",
    "LostJournalError",
    "MemoryJournal",
    "ReleaseRefusedError",
    "beacon_share",
    "payloads_after",
]

Durable = (
    Persist
    | Store
    | Committed
    | ReleaseRecord
    | ShardRelease
    | KeepSecret
    | KeepUpload
    | KeepObject
    | RoundFinished
    | RoundPassed
    | KeepEpochSecret
    | KeepBeaconShare
    | ForgetEpochSecrets
)
DURABLE = get_args(Durable)
HEADER_KIND: Final = b"H"  # how a block's payload begins that is a certified header
HANDOVER_KIND: Final = b"N"  # and one that ends an epoch
MERGED_KIND: Final = b"M"  # and one that is the header over all shards


class ReleaseRefusedError(CollegiumError):
    """A validator was about to write down a second release of one round, or of a shard of one, for another close."""


class ForeignJournalError(CollegiumError):
    """A journal is another validator's, of another task or of another epoch: using it could sign things twice."""


class LostJournalError(CollegiumError):
    """An epoch's journal is gone, a later one's is there: begun anew it would let its validator sign things twice."""


class JournalInUseError(WorldError):
    """Another process has this journal open: two of one validator would sign things twice."""


class JournalWriteError(WorldError):
    """The disk is full or failed: nothing of this step was written, so nothing of it may leave."""


class JournalCorruptError(CollegiumError):
    """A journal holds something else than what was written, or cannot be read."""


class BlockStore(Protocol):
    """Committed blocks in their order, with what proves each final; also `consensus.Archive`."""

    @property
    def blocks(self) -> Sequence[Block]: ...

    @property
    def proofs(self) -> Mapping[Digest, tuple[QuorumCertificate, ...]]: ...

    def after(self, block: Digest, count: int) -> Sequence[Block]:
        """Return up to `count` committed blocks after `block` or the genesis; none if the block is unknown."""
        ...


class Journal(Protocol):
    """A validator's disk. It is also the store of models and registrations that others may ask for (`Objects`)."""

    @property
    def archive(self) -> BlockStore: ...

    def claim(self, owner: Digest) -> None:
        """Note whose journal this is, the first time; refuse anybody else's.

        Raises:
            ForeignJournalError: it is another one's.
        """
        ...

    def write(self, effects: Iterable[Durable]) -> None:
        """Write a step's effects, all or none; when this returns they survive a crash.

        Raises:
            ReleaseRefusedError: a second release of one round for another close; the state machine never asks for it.
            JournalWriteError: the disk is full or failed.
        """
        ...

    def read(self) -> Kept:
        """Return what a validator begins again with.

        Raises:
            JournalCorruptError: it is not what was written.
        """
        ...

    def headers(self) -> list[Header]:
        """Return every final header, oldest first."""
        ...

    def beacon_shares(self) -> tuple[KeepBeaconShare, ...]:
        """Return the shares of beacon keys that were written down: of the next epoch, once it is known."""
        ...

    def forget_round(self, number: int) -> None:
        """Delete a round's sealing key and reports: they are another epoch's, and in that one's journal.

        Raises:
            JournalWriteError: the disk is full or failed.
        """
        ...

    def get(self, digest: Digest, /) -> bytes | None:
        """Return a model or a registration by its SHA-256, or None if it is not kept."""
        ...


def beacon_share(journal: Journal, epoch: int) -> SecretShare | None:
    """Return a validator's share of an epoch's beacon, the last that its journal has."""
    found = [kept for kept in journal.beacon_shares() if kept.epoch == epoch]
    return SecretShare.from_bytes(found[-1].member, found[-1].scalar) if found else None


def payloads_after(blocks: Sequence[Block], header: Header | None) -> tuple[Block, ...]:
    """Return the non-empty committed blocks that follow the one with a final header, or all of them if it is None.

    Raises:
        JournalCorruptError: no block has that header.
    """
    found: list[Block] = []
    for place in range(len(blocks) - 1, -1, -1):
        block = blocks[place]
        if not block.payload:
            continue
        ended = None if header is None else _header_in(block.payload)
        if header is not None and ended is not None and ended.digest == header.digest:
            return tuple(reversed(found))
        found.append(block)
    if header is not None:
        raise JournalCorruptError(f"no committed block has the header of round {header.round}", round=header.round)
    return tuple(reversed(found))


def _header_in(payload: bytes) -> Header | None:
    """Return the header with which a block ends its round; None if it ends none."""
    if payload[:1] == HEADER_KIND:
        decoded = decode_payload(payload)
        return decoded.header if isinstance(decoded, Certified) else None
    if payload[:1] == MERGED_KIND:
        merged = decode_shard_payload(payload)
        return merged if isinstance(merged, Header) else None
    return None


# ------------------------------------------------------------------------------------------------ in memory


@dataclass
class BlockArchive:
    """Committed blocks in memory."""

    blocks: list[Block] = field(default_factory=list)
    proofs: dict[Digest, tuple[QuorumCertificate, ...]] = field(default_factory=dict)
    places: dict[Digest, int] = field(default_factory=dict)

    def append(self, committed: Committed) -> None:
        """Add the next committed block with the certificates that prove it final."""
        self.places[committed.block.digest] = len(self.blocks)
        self.blocks.append(committed.block)
        self.proofs[committed.block.digest] = committed.certificate_chain

    def after(self, block: Digest, count: int) -> Sequence[Block]:
        """Return up to `count` committed blocks after `block` or the genesis; none if the block is unknown."""
        place = self.places.get(block)
        if place is None:
            return self.blocks[:count] if self.blocks and self.blocks[0].parent == block else []
        return self.blocks[place + 1 : place + 1 + count]


@dataclass
class MemoryJournal:
    """A disk that loses nothing and outlives the node, for validators in one process.

    Of uploads it keeps the present round's and later ones, of models the last one, of registrations those in use.
    """

    archive: BlockArchive = field(default_factory=BlockArchive)
    owner: Digest | None = None
    vote_state: VoteState | None = None
    blocks: dict[Digest, Block] = field(default_factory=dict)
    releases: dict[int, Digest] = field(default_factory=dict)
    shard_releases: dict[tuple[int, int], Digest] = field(default_factory=dict)
    secrets: dict[int, SealKey] = field(default_factory=dict)
    uploads: dict[tuple[int, Digest, int], KeepUpload] = field(default_factory=dict)
    objects: dict[Digest, bytes] = field(default_factory=dict)
    epoch_secrets: dict[tuple[int, int, str], KeepEpochSecret] = field(default_factory=dict)
    shares: dict[tuple[int, int], KeepBeaconShare] = field(default_factory=dict)
    finals: list[Header] = field(default_factory=list)
    registered: tuple[Registered, ...] = ()

    def claim(self, owner: Digest) -> None:
        """See `Journal`."""
        if self.owner not in (None, owner):
            raise ForeignJournalError("this journal is another validator's, or of another epoch")
        self.owner = owner

    def write(self, effects: Iterable[Durable]) -> None:
        """See `Journal`; memory is never full."""
        for effect in effects:
            self._put(effect)

    def _put(self, effect: Durable) -> None:
        match effect:
            case Persist():
                self.vote_state = effect.vote_state
            case Store():
                self.blocks[effect.block.digest] = effect.block
            case Committed():
                self.archive.append(effect)
                view = effect.block.view
                self.blocks = {digest: block for digest, block in self.blocks.items() if block.view > view}
            case ReleaseRecord() | ShardRelease():
                self._put_release(effect)
            case KeepSecret():
                self.secrets[effect.round] = effect.secret
            case KeepUpload():
                self.uploads[effect.round, effect.upload.report.id, effect.copy] = effect
            case KeepObject():
                self.objects[effect.digest] = effect.data
            case RoundFinished() | RoundPassed():
                self._end(effect)
            case KeepEpochSecret():
                self.epoch_secrets[effect.epoch, effect.start, effect.step] = effect
            case KeepBeaconShare():
                self.shares[effect.epoch, effect.member] = effect
            case ForgetEpochSecrets():
                gone = (effect.epoch, effect.start)
                self.epoch_secrets = {key: kept for key, kept in self.epoch_secrets.items() if key[:2] != gone}

    def _put_release(self, record: ReleaseRecord | ShardRelease) -> None:
        if isinstance(record, ShardRelease):
            known = self.shard_releases.setdefault((record.round, record.shard), record.close)
        else:
            known = self.releases.setdefault(record.round, record.close)
        if known != record.close:
            raise ReleaseRefusedError(f"round {record.round} was released for another close", round=record.round)

    def _end(self, ended: RoundFinished | RoundPassed) -> None:
        """Enter a final header, and drop what only its round needed."""
        number = ended.header.round
        self.finals.append(ended.header)
        self.registered = ended.registered
        if isinstance(ended, RoundFinished):
            self.objects[ended.header.model] = ended.model
        used = {entry.digest for entry in ended.registered} | {ended.header.model}
        self.objects = {digest: data for digest, data in self.objects.items() if digest in used}
        self.secrets = {of: secret for of, secret in self.secrets.items() if of > number}
        self.uploads = {key: upload for key, upload in self.uploads.items() if key[0] > number}
        self.releases = {of: close for of, close in self.releases.items() if of > number}
        self.shard_releases = {of: close for of, close in self.shard_releases.items() if of[0] > number}

    def read(self) -> Kept:
        """See `Journal`."""
        header = self.finals[-1] if self.finals else None
        return Kept(
            vote_state=self.vote_state,
            final=self.archive.blocks[-1] if self.archive.blocks else None,
            stored=tuple(self.blocks.values()),
            header=header,
            model=None if header is None else self.objects.get(header.model),
            registered=self.registered,
            registrations={
                entry.digest: self.objects[entry.digest] for entry in self.registered if entry.digest in self.objects
            },
            payloads=payloads_after(self.archive.blocks, header),
            secrets=dict(self.secrets),
            released=dict(self.releases),
            uploads=tuple(self.uploads.values()),
            epoch_secrets=tuple(self.epoch_secrets.values()),
            shard_released=dict(self.shard_releases),
        )

    def headers(self) -> list[Header]:
        """See `Journal`."""
        return list(self.finals)

    def beacon_shares(self) -> tuple[KeepBeaconShare, ...]:
        """See `Journal`."""
        return tuple(self.shares.values())

    def forget_round(self, number: int) -> None:
        """See `Journal`."""
        self.secrets.pop(number, None)
        self.uploads = {key: upload for key, upload in self.uploads.items() if key[0] != number}

    def get(self, digest: Digest, /) -> bytes | None:
        """See `Journal`."""
        return self.objects.get(digest)
