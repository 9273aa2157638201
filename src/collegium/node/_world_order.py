"""Ordering alone, under keys that cost nothing: what hand-directed scenes (`_world_stage`) are played with.

A host is one replica with its disk; its application wants a few payloads ordered, each once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from collegium.consensus import (
    Block,
    Context,
    EpochSet,
    Timeout,
    Validator,
    ValidatorIndex,
    ViewEntry,
    Vote,
    initial_state,
    restore,
    timeout_digest,
)

__all__ = [
    "TIMEOUT_BASE_MS",
    "HashSigner",
    "HashVerifier",
    "OrderDisk",
    "OrderHost",
    "Wishes",
    "hash_epoch_set",
    "make_host",
    "signed_block",
    "signed_timeout",
    "signed_vote",
]

TASK = hashlib.sha256(b"task of the simulations").digest()
TIMEOUT_BASE_MS = 400


# ------------------------------------------------------------------------------------------ keys that cost nothing


@dataclass(frozen=True)
class HashSigner:
    """Signatures that are hashes anybody could make: the adversary of these worlds never forges, it only lies."""

    seat: int

    def sign_vote(self, digest: bytes) -> bytes:
        return hashlib.sha384(b"vote" + bytes([self.seat]) + digest).digest()

    def sign_block(self, digest: bytes) -> bytes:
        return hashlib.sha512(b"block" + bytes([self.seat]) + digest).digest() + b"\0"


class HashVerifier:
    """Everybody's keys, in the same spirit."""

    def vote_holds(self, seat: int, digest: bytes, signature: bytes) -> bool:
        return HashSigner(seat).sign_vote(digest) == signature

    def aggregate_holds(self, seats: tuple[int, ...], digest: bytes, signature: bytes) -> bool:
        return self.aggregate({s: HashSigner(s).sign_vote(digest) for s in seats}) == signature

    def block_holds(self, seat: int, digest: bytes, signature: bytes) -> bool:
        return HashSigner(seat).sign_block(digest) == signature

    def bad_seats(self, digest: bytes, signatures: Mapping[int, bytes]) -> frozenset[int]:
        return frozenset(s for s, sig in signatures.items() if not self.vote_holds(s, digest, sig))

    def aggregate(self, signatures: Mapping[int, bytes]) -> bytes:
        total = 0
        for signature in signatures.values():
            total ^= int.from_bytes(signature, "big")
        return total.to_bytes(48, "big")


def hash_epoch_set(size: int, epoch: int = 0) -> EpochSet:
    """Return an epoch set of this size."""

    def key(i: int) -> bytes:
        return hashlib.sha512(b"key%d" % i).digest() + bytes(32)

    return EpochSet(TASK, epoch, tuple(Validator(ValidatorIndex(i), key(i), b"%020d" % i, 1) for i in range(size)))


# ----------------------------------------------------------------------------------------------- one validator's host


@dataclass
class Wishes:
    """An application that wants each validator's `quota` payloads ordered, each once."""

    name: str
    quota: int
    committed: list[bytes] = field(default_factory=list)

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        return payload.startswith(b"pay ") and payload not in ancestors and payload not in self.committed

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        done = {*ancestors, *self.committed}
        wishes = (f"pay {self.name}/{k}".encode() for k in range(self.quota))
        return next((wish for wish in wishes if wish not in done), None)


@dataclass
class OrderDisk:
    """What a replica wrote down."""

    vote_state: Any = None
    blocks: dict[bytes, Block] = field(default_factory=dict)
    chain: list[Block] = field(default_factory=list)

    def after(self, block: bytes, count: int) -> list[Block]:
        heights = {b.digest: i + 1 for i, b in enumerate(self.chain)}
        start = heights.get(block, 0 if self.chain and self.chain[0].parent == block else len(self.chain))
        return self.chain[start : start + count]


@dataclass
class OrderHost:
    """A validator with its disk; `honest` ones are held to the agreed order."""

    seat: int
    context: Context
    disk: OrderDisk
    honest: bool = True
    state: Any = None
    up: bool = True
    lives: int = 0
    alarm: tuple[int, int] | None = None
    tip_certificates: tuple[Any, ...] = ()

    @property
    def wishes(self) -> Wishes:
        """What this validator wants ordered, and has seen ordered."""
        return cast(Wishes, self.context.application)

    def restart(self) -> None:
        """Come back with what is on the disk."""
        disk = self.disk
        self.up = True
        self.lives += 1
        self.alarm = None
        final = disk.chain[-1] if disk.chain else None
        self.wishes.committed[:] = [b.payload for b in disk.chain if b.payload]
        self.state = restore(self.context, disk.vote_state, final, disk.blocks.values())


def make_host(epoch_set: EpochSet, seat: int, quota: int = 0, *, name: str = "", verifier: Any = None) -> OrderHost:
    """Return a replica that has seen nothing, with an empty disk."""
    disk = OrderDisk()
    context = Context(
        epoch_set=epoch_set,
        genesis=epoch_set.genesis(),
        index=seat,
        signer=HashSigner(seat),
        verifier=verifier or HashVerifier(),
        application=Wishes(name or str(seat), quota),
        archive=disk,
        timeout_base_ms=TIMEOUT_BASE_MS,
    )
    return OrderHost(seat, context, disk, state=initial_state(context))


# ------------------------------------------------------------------------------------------------ signing by hand


def signed_block(epoch_set: EpochSet, view: int, author: int, entry: ViewEntry, payload: bytes = b"") -> Block:
    certificates = (entry.high_certificate, entry.timeout_certificate)
    draft = Block(epoch_set.task, epoch_set.epoch, view, author, *certificates, payload, bytes(65))
    return draft.signed(HashSigner(author).sign_block(draft.digest))


def signed_vote(epoch_set: EpochSet, block: Block, voter: int) -> Vote:
    return Vote(block.ballot, voter, HashSigner(voter).sign_vote(block.ballot.digest(epoch_set)))


def signed_timeout(epoch_set: EpochSet, view: int, author: int, entry: ViewEntry) -> Timeout:
    digest = timeout_digest(epoch_set, view, entry.high_certificate.view)
    return Timeout(view, author, entry, HashSigner(author).sign_vote(digest))
