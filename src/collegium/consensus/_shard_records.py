"""What the epoch set orders where a round has several committees: shards' closes and results, and the header over them.

A close carries the vouchers of its shard's seats, a result their certificate; the merged header carries none of its
own, for the certificates of its block are the epoch set's. Specified in docs/spec/shards.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Final

import msgspec

from collegium.crypto import Digest, hash_fields

from ._records import (
    OUTCOMES,
    PAYLOAD_BYTES_MAX,
    Certified,
    Close,
    Header,
    MalformedPayloadError,
    Outcome,
    decode_canonical,
    decode_payload,
    encode_payload,
)

__all__ = [
    "SHARDS_MAX",
    "CertifiedResult",
    "ShardBatch",
    "ShardClose",
    "ShardResult",
    "Standing",
    "decode_shard_payload",
    "encode_shard_payload",
    "follow",
    "merged_close",
    "voucher_digest",
]

SHARDS_MAX: Final = 256
CERTIFICATE_BYTES_MAX: Final = 1024  # a BLS signature and a bitmap of 256 seats take far less
BATCH_KIND, HEADER_KIND = b"S", b"M"


@dataclass(frozen=True)
class ShardClose:
    """A shard's close with what its seats say of it.

    Attributes:
        vouchers: certificate of more than two thirds of the shard's seats over `voucher_digest`; empty for a skip that
            the time alone allows.
    """

    shard: int
    close: Close
    vouchers: bytes


def voucher_digest(shard: int, close: Close) -> Digest:
    """Return what a seat signs that has found a close to keep the rules and to leave nothing out: every byte of it."""
    data = sha256(encode_payload(close)).digest()
    return hash_fields("shard-voucher", close.task, close.round, close.terms, shard, data)


@dataclass(frozen=True)
class ShardResult:
    """What a shard's final close came to; the fields are those of `Header`, for one shard."""

    task: Digest
    round: int
    shard: int
    level: str
    close: Digest
    outcome: Outcome
    key_sums: tuple[tuple[int, Digest], ...]
    total: Digest
    lying: tuple[int, ...] = ()
    failed: tuple[Digest, ...] = ()

    @cached_property
    def digest(self) -> Digest:
        """What the shard's committee certifies."""
        sums = b"".join(seat.to_bytes(2, "little") + digest for seat, digest in self.key_sums)
        lying = b"".join(seat.to_bytes(2, "little") for seat in self.lying)
        return hash_fields(
            "shard-result",
            self.task,
            self.round,
            self.shard,
            self.level.encode(),
            self.close,
            self.outcome.encode(),
            sums,
            self.total,
            lying,
            b"".join(self.failed),
        )


@dataclass(frozen=True)
class CertifiedResult:
    """A shard's result with the certificate of its committee: one BLS signature and a bitmap of seats."""

    result: ShardResult
    certificate: bytes


@dataclass(frozen=True)
class ShardBatch:
    """What one block says of a round's shards: of each at most one thing.

    Attributes:
        closes, results: by increasing shard.
        lost: shards whose committee has closed and certified nothing since, increasing.
    """

    task: Digest
    round: int
    closes: tuple[ShardClose, ...] = ()
    results: tuple[CertifiedResult, ...] = ()
    lost: tuple[int, ...] = ()

    @property
    def shards(self) -> tuple[int, ...]:
        """Every shard that this is about, in the order of the fields."""
        closes, results = (entry.shard for entry in self.closes), (entry.result.shard for entry in self.results)
        return (*closes, *results, *self.lost)


def encode_shard_payload(payload: ShardBatch | Header) -> bytes:
    """Return a batch or a merged header as block payload."""
    kind = BATCH_KIND if isinstance(payload, ShardBatch) else HEADER_KIND
    return kind + msgspec.msgpack.encode(payload)


def decode_shard_payload(data: bytes) -> ShardBatch | Header:
    """Decode a block payload strictly: bounded, canonical, every digest and signature of its length.

    Raises:
        MalformedPayloadError: otherwise.
    """
    if not 1 < len(data) <= PAYLOAD_BYTES_MAX:
        raise MalformedPayloadError(f"payload of {len(data)} bytes, expected 2..{PAYLOAD_BYTES_MAX}")
    kind: type[ShardBatch | Header] | None = {BATCH_KIND: ShardBatch, HEADER_KIND: Header}.get(data[:1])
    if kind is None:
        raise MalformedPayloadError(f"payload of kind {data[:1].hex()}, expected a batch of shards or a merged header")
    payload = decode_canonical(data, kind, encode_shard_payload, MalformedPayloadError)
    if isinstance(payload, Header):
        decode_payload(encode_payload(Certified(payload, b"")))
    else:
        _check_batch(payload)
    return payload


def _check_batch(batch: ShardBatch) -> None:
    """Raise unless shards are increasing and named once, numbers are in range, and lengths are right."""
    for entry in batch.closes:
        decode_payload(encode_payload(entry.close))
    closed, certified = [entry.shard for entry in batch.closes], [entry.result.shard for entry in batch.results]
    for shards in (closed, certified, list(batch.lost)):
        if any(left >= right for left, right in pairwise(shards)):
            raise MalformedPayloadError(f"shards {shards} are not strictly increasing")
    if not batch.shards or len(set(batch.shards)) != len(batch.shards):
        raise MalformedPayloadError(f"shards {batch.shards}: expected one or more, each once")
    results = [entry.result for entry in batch.results]
    certificates = [entry.vouchers for entry in batch.closes] + [entry.certificate for entry in batch.results]
    lengths = [(batch.task, 32)]
    for result in results:
        lengths += [(result.task, 32), (result.close, 32), (result.total, 32)]
        lengths += [(digest, 32) for _, digest in result.key_sums] + [(report, 32) for report in result.failed]
    seats = [seat for result in results for seat in (*result.lying, *(seat for seat, _ in result.key_sums))]
    rounds = [batch.round, *(result.round for result in results)]
    bad = [value for value, length in lengths if len(value) != length]
    bad += [certificate for certificate in certificates if len(certificate) > CERTIFICATE_BYTES_MAX]
    outside = [shard for shard in batch.shards if not 0 <= shard < SHARDS_MAX]
    outside += [n for n in seats if not 0 <= n < 1 << 16] + [n for n in rounds if not 0 <= n < 1 << 63]
    if bad or outside or any(result.outcome not in OUTCOMES for result in results):
        raise MalformedPayloadError(f"{len(bad)} fields of wrong length, {len(outside)} numbers out of range")


# ------------------------------------------------------------------------------------------------ where a round stands


@dataclass(frozen=True)
class Standing:
    """What is in the order about one shard of a round: the same for everybody who has the same blocks."""

    close: Close | None = None
    result: ShardResult | None = None
    lost: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more can follow: a result, a skip, or the word that there will be no result."""
        return self.lost or self.result is not None or (self.close is not None and not self.close.reports)

    @property
    def total(self) -> Digest | None:
        """The digest of the shard's opened sum; None if it opened none."""
        return self.result.total if self.result is not None and self.result.outcome == "opened" else None


def follow(standings: Sequence[Standing], batch: ShardBatch) -> tuple[Standing, ...]:
    """Return where the shards stand after a batch that was accepted."""
    after = list(standings)
    for entry in batch.closes:
        after[entry.shard] = Standing(entry.close)
    for certified in batch.results:
        shard = certified.result.shard
        after[shard] = Standing(after[shard].close, certified.result)
    for shard in batch.lost:
        after[shard] = Standing(after[shard].close, None, lost=True)
    return tuple(after)


def merged_close(task: Digest, round_number: int, standings: Sequence[Standing]) -> Digest:
    """Return what a merged header names as its close: what became of every shard."""
    fields: list[bytes] = []
    for standing in standings:
        fields.append(bytes(32) if standing.close is None else standing.close.digest)
        fields.append(bytes(32) if standing.result is None else standing.result.digest)
    return hash_fields("merged-shards", task, round_number, len(standings), *fields)
