"""The peer of one decision: all-to-all voting after PBFT, written for this benchmark; everybody hears everybody.

Pre-prepare, prepare and commit (Castro and Liskov, OSDI 1999) with Ed25519 signatures, as CometBFT votes: a vote names
sequence and digest, two quorums of n - f follow each other, and a decision is proved by a quorum of signatures. It is
the plain case: one leader, no faults, no view change, no gossip, no disk; and a replica that has its quorum checks no
further votes of it, though CometBFT checks them all. So the peer is favoured where the two differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from collegium.apps._order_replica import Frame, Replica
from collegium.crypto import Stream
from collegium.errors import CollegiumError

__all__ = ["COMMIT", "PREPARE", "PRE_PREPARE", "AllToAllReplica", "PeerFrameError", "all_to_all_replicas"]

PRE_PREPARE, PREPARE, COMMIT = 1, 2, 3
SIGNATURE_BYTES = 64
TAG = b"collegium/v1/bench-all-to-all"
_HEAD = struct.Struct("<BQ32sH")  # kind, sequence, digest, sender


class PeerFrameError(CollegiumError):
    """A frame of the peer's protocol is malformed, not its sender's, or badly signed."""


@dataclass(slots=True)
class Instance:
    """What a replica knows of one decision: votes by kind, digest and sender."""

    digest: bytes = b""
    votes: dict[tuple[int, bytes], dict[int, bytes]] = field(default_factory=dict)
    prepared: bool = False
    decided: bool = False


@dataclass(slots=True)
class AllToAllReplica:
    """One replica.

    Attributes:
        index: which.
        key, keys: its own, and everybody's public ones.
    """

    index: int
    key: Ed25519PrivateKey
    keys: Sequence[Ed25519PublicKey]
    decided: int = 0
    certificate_bytes: int = 0
    _instances: dict[int, Instance] = field(default_factory=dict)
    _begun: int = 0

    @property
    def quorum(self) -> int:
        """n - f."""
        return len(self.keys) - (len(self.keys) - 1) // 3

    def propose(self, payload: bytes) -> Iterator[Frame]:
        sequence, self._begun = self._begun, self._begun + 1
        if sequence % len(self.keys) == self.index:
            digest = sha256(payload).digest()
            yield Frame(None, self._sign(PRE_PREPARE, sequence, digest) + payload)
            yield from self._accept(sequence, digest)

    def take(self, sender: int, data: bytes) -> Iterator[Frame]:
        """Take a frame.

        Raises:
            PeerFrameError: see there.
        """
        end = _HEAD.size + SIGNATURE_BYTES
        if len(data) < end:
            raise PeerFrameError(f"a frame of {len(data)} bytes, expected at least {end}", length=len(data))
        kind, sequence, digest, speaker = _HEAD.unpack_from(data)
        if speaker != sender or kind not in (PRE_PREPARE, PREPARE, COMMIT) or sender >= len(self.keys):
            raise PeerFrameError(f"kind {kind} of {speaker} came from {sender}", kind=kind, sender=sender)
        if kind == PRE_PREPARE:
            if sender != sequence % len(self.keys) or sha256(data[end:]).digest() != digest:
                raise PeerFrameError(f"proposal {sequence} is not its leader's", sequence=sequence)
            self._check(sender, data[:end])
            yield from self._accept(sequence, digest)
            return
        instance = self._instance(sequence)
        if instance.decided or (kind == PREPARE and instance.prepared):
            return
        self._check(sender, data[:end])
        instance.votes.setdefault((kind, digest), {})[sender] = data[_HEAD.size : end]
        yield from self._advance(sequence, instance)

    def _instance(self, sequence: int) -> Instance:
        return self._instances.setdefault(sequence, Instance())

    def _accept(self, sequence: int, digest: bytes) -> Iterator[Frame]:
        instance = self._instance(sequence)
        instance.digest = digest
        yield from self._vote(PREPARE, sequence, instance)

    def _vote(self, kind: int, sequence: int, instance: Instance) -> Iterator[Frame]:
        vote = self._sign(kind, sequence, instance.digest)
        instance.votes.setdefault((kind, instance.digest), {})[self.index] = vote[_HEAD.size :]
        yield Frame(None, vote)
        yield from self._advance(sequence, instance)

    def _advance(self, sequence: int, instance: Instance) -> Iterator[Frame]:
        """Commit at a quorum of prepares, decide at a quorum of commits."""
        if not instance.digest:
            return
        if not instance.prepared and len(instance.votes.get((PREPARE, instance.digest), ())) >= self.quorum:
            instance.prepared = True
            yield from self._vote(COMMIT, sequence, instance)
        commits = instance.votes.get((COMMIT, instance.digest), {})
        if instance.prepared and not instance.decided and len(commits) >= self.quorum:
            instance.decided = True
            self.certificate_bytes = len(commits) * (SIGNATURE_BYTES + 2)  # each with its signer's index
            self.decided += 1
            self._instances.pop(sequence - 2, None)

    def _sign(self, kind: int, sequence: int, digest: bytes) -> bytes:
        head = _HEAD.pack(kind, sequence, digest, self.index)
        return head + self.key.sign(TAG + head)

    def _check(self, sender: int, signed: bytes) -> None:
        try:
            self.keys[sender].verify(signed[_HEAD.size :], TAG + signed[: _HEAD.size])
        except InvalidSignature as error:
            raise PeerFrameError(f"a signature of {sender} does not hold", sender=sender) from error


def all_to_all_replicas(size: int, seed: bytes, own: Iterable[int]) -> dict[int, Replica]:
    """Return some of `size` replicas, the same in every process that knows the seed."""
    random = Stream(seed)
    secrets = [Ed25519PrivateKey.from_private_bytes(random(32)) for _ in range(size)]
    keys = [secret.public_key() for secret in secrets]
    return {index: AllToAllReplica(index, secrets[index], keys) for index in own}
