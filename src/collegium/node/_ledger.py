"""The ordered blocks of a run as bytes, and the objects that its certified headers name.

`ledger.bin` holds every final block of an epoch, then the certificates that make the last one final, epoch by epoch.
Reports, ciphertexts, proofs, registrations, key sums and model states lie in the content-addressed store;
`objects.json` says which object is which.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from collegium.consensus import (
    Block,
    Certified,
    Close,
    QuorumCertificate,
    RoundRecords,
    ViewEntry,
    decode_message,
    decode_payload,
    encode_message,
    is_beside_rounds,
)
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._journal import HEADER_KIND
from ._json import decode_canonical

__all__ = [
    "LedgerError",
    "ObjectIndex",
    "OrderedRound",
    "Segment",
    "assemble_rounds",
    "decode_index",
    "decode_ledger",
    "decode_segments",
    "encode_index",
    "encode_ledger",
    "encode_segments",
    "views_until_final",
    "whole_rounds",
]

LEDGER_BYTES_MAX = 1 << 30
INDEX_BYTES_MAX = 64 << 20
EPOCHS_MAX = 1 << 12  # more than the longest task has rounds for
_FRAME = struct.Struct("<I")


class LedgerError(CollegiumError):
    """A ledger, or the index of its objects, is malformed or out of order."""


@dataclass(frozen=True)
class ObjectIndex:
    """Which stored object is which: pairs of (identity, digest of the bytes), sorted."""

    reports: tuple[tuple[Digest, Digest], ...]
    key_sums: tuple[tuple[Digest, Digest], ...]
    ciphertexts: tuple[Digest, ...]
    models: tuple[Digest, ...]
    proofs: tuple[Digest, ...]
    registrations: tuple[Digest, ...]

    @classmethod
    def of(
        cls,
        reports: Mapping[Digest, Digest],
        key_sums: Mapping[Digest, Digest],
        ciphertexts: Iterable[Digest],
        models: Iterable[Digest],
        proofs: Iterable[Digest] = (),
        registrations: Iterable[Digest] = (),
    ) -> ObjectIndex:
        """Return the one index that says this."""
        return cls(
            tuple(sorted(reports.items())),
            tuple(sorted(key_sums.items())),
            tuple(sorted(set(ciphertexts))),
            tuple(sorted(set(models))),
            tuple(sorted(set(proofs))),
            tuple(sorted(set(registrations))),
        )

    @property
    def objects(self) -> frozenset[Digest]:
        """Digests of all objects that the store must hold, and no others."""
        pairs = (*self.reports, *self.key_sums)
        singles = (*self.ciphertexts, *self.models, *self.proofs, *self.registrations)
        return frozenset((*(digest for _, digest in pairs), *singles))


@dataclass(frozen=True)
class OrderedRound:
    """One round as ordered: its close, its certified header, and the views it took until the header was final.

    `views` begins with the last view of the round before; a gap in it is a leader that was replaced.
    `records` are those that count for the round, in their order.
    """

    close: Close
    certified: Certified
    views: tuple[int, ...]
    records: tuple[bytes, ...] = ()

    @property
    def admitted(self) -> tuple[Digest, ...]:
        """The reports that the close admits."""
        return self.close.reports


@dataclass(frozen=True, slots=True)
class Segment:
    """One epoch's part of a ledger: its final blocks, and the certificates that make the last one final."""

    blocks: tuple[Block, ...]
    tip: tuple[QuorumCertificate, ...]


def encode_segments(segments: Iterable[Segment]) -> bytes:
    """Return a ledger: each epoch's as `encode_ledger` writes it, with an empty frame between two."""
    return _FRAME.pack(0).join(encode_ledger(segment.blocks, segment.tip) for segment in segments)


def decode_segments(data: bytes) -> tuple[Segment, ...]:
    """Decode a ledger strictly; what it says is checked by `ordered_epochs`.

    Raises:
        LedgerError: malformed.
    """
    parts: list[list[bytes]] = [[]]
    for frame in _frames(data):
        if frame:
            parts[-1].append(frame)
        elif len(parts) == 2 * EPOCHS_MAX:
            raise LedgerError(f"ledger has more than {EPOCHS_MAX} epochs")
        else:
            parts.append([])
    if len(parts) % 2:
        raise LedgerError(f"ledger, epoch {len(parts) // 2}: it has no end of blocks")
    return tuple(
        _segment(epoch, blocks, tip) for epoch, (blocks, tip) in enumerate(zip(parts[::2], parts[1::2], strict=True))
    )


def encode_ledger(blocks: Sequence[Block], tip: Sequence[QuorumCertificate]) -> bytes:
    """Return the blocks, an empty frame, and the tip's certificates, each behind its length."""
    frames = [encode_message(block) for block in blocks]
    ends = [encode_message(ViewEntry(certificate, None)) for certificate in tip]
    return b"".join(_FRAME.pack(len(frame)) + frame for frame in (*frames, b"", *ends))


def decode_ledger(data: bytes) -> tuple[tuple[Block, ...], tuple[QuorumCertificate, ...]]:
    """Decode a ledger of one epoch strictly; what it says is checked by `ordered_epochs`.

    Raises:
        LedgerError: malformed, or of more than one epoch.
    """
    segments = decode_segments(data)
    if len(segments) != 1:
        raise LedgerError(f"ledger holds {len(segments)} epochs, expected one")
    return segments[0].blocks, segments[0].tip


def _segment(epoch: int, block_frames: Sequence[bytes], tip_frames: Sequence[bytes]) -> Segment:
    blocks, tip = [], []
    try:
        for frame in block_frames:
            message = decode_message(frame)
            if not isinstance(message, Block):
                raise LedgerError(f"ledger holds a {type(message).__name__} where a block is expected")
            blocks.append(message)
        for frame in tip_frames:
            message = decode_message(frame)
            if not isinstance(message, ViewEntry) or message.timeout_certificate is not None:
                raise LedgerError("ledger ends with something that is no certificate")
            tip.append(message.high_certificate)
    except CollegiumError as error:
        raise LedgerError(f"ledger, epoch {epoch}, block {len(blocks)}: {error}") from error
    return Segment(tuple(blocks), tuple(tip))


def whole_rounds(segment: Segment, final: Sequence[bytes], first_round: int = 0) -> tuple[OrderedRound, ...]:
    """Return the rounds of an epoch's ledger, of which these payloads were found to be final.

    Raises:
        LedgerError: some payloads are not final, or it ends inside a round.
        CollegiumError: as `assemble_rounds`.
    """
    blocks = segment.blocks
    if tuple(final) != tuple(block.payload for block in blocks if block.payload):
        raise LedgerError(f"only {len(final)} of the ledger's payloads are final")
    rounds = assemble_rounds(blocks, segment.tip, first_round)
    if not blocks or blocks[-1].payload[:1] != HEADER_KIND:
        raise LedgerError(f"the ledger ends inside round {first_round + len(rounds)}")
    return rounds


def assemble_rounds(
    blocks: Sequence[Block], tip: Sequence[QuorumCertificate], first_round: int = 0, view_before: int = 0
) -> tuple[OrderedRound, ...]:
    """Return the rounds that blocks order, each a close and then its header, with the records before the close.

    What else is beside rounds is passed over.

    Args:
        blocks: final blocks in their order.
        tip: the certificates that make the last one final.
        first_round, view_before: where the blocks before these ended.

    Raises:
        CollegiumError: a payload is malformed or out of order.
    """
    rounds: list[OrderedRound] = []
    seen = [view_before]
    close: Close | None = None
    records = RoundRecords()
    for place, block in enumerate(blocks):
        seen.append(block.view)
        records, before = records.ordered(block.payload), records.final
        if not block.payload or is_beside_rounds(block.payload):
            continue
        payload = decode_payload(block.payload)
        number = payload.round if isinstance(payload, Close) else payload.header.round
        expected = first_round + len(rounds)
        if number != expected or isinstance(payload, Close) != (close is None):
            raise LedgerError(f"block of view {block.view}: round {number} out of order, {expected} expected")
        if isinstance(payload, Close):
            close = payload
        elif close is not None:
            views = sorted({view for view in (*seen, *views_until_final(blocks[place:], tip)) if view >= view_before})
            rounds.append(OrderedRound(close, payload, tuple(views), before))
            close, view_before = None, views[-1]
            seen = [view_before]
    return tuple(rounds)


def views_until_final(blocks: Sequence[Block], tip: Sequence[QuorumCertificate]) -> list[int]:
    """Return the views from the first block on to the first contiguous pair, which makes that block final."""
    views = [block.view for block in blocks]
    views += [certificate.view for certificate in tip if certificate.view > views[-1]]
    for place in range(1, len(views)):
        if views[place] == views[place - 1] + 1:
            return views[: place + 1]
    return views


def encode_index(index: ObjectIndex) -> bytes:
    """Return the canonical JSON of an index."""
    return msgspec.json.encode(index)


def decode_index(data: bytes) -> ObjectIndex:
    """Decode an index strictly.

    Raises:
        LedgerError: malformed, unsorted or not canonical.
    """
    index = decode_canonical(data, ObjectIndex, "index", INDEX_BYTES_MAX, LedgerError)
    pairs = (index.reports, index.key_sums)
    singles = (index.ciphertexts, index.models, index.proofs, index.registrations)
    in_order = all(list(entries) == sorted(set(entries)) for entries in pairs)
    in_order = in_order and all(list(entries) == sorted(set(entries)) for entries in singles)
    if not in_order:
        raise LedgerError("index is not in its canonical encoding: its entries are not sorted, each once")
    return index


def _frames(data: bytes) -> Iterable[bytes]:
    if len(data) > LEDGER_BYTES_MAX:
        raise LedgerError(f"ledger has {len(data)} bytes, at most {LEDGER_BYTES_MAX} are read")
    at = 0
    while at < len(data):
        if len(data) - at < _FRAME.size:
            raise LedgerError(f"ledger ends inside a length at byte {at}")
        (length,) = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        if length > len(data) - at:
            raise LedgerError(f"ledger ends inside a frame of {length} bytes at byte {at}")
        yield data[at : at + length]
        at += length
