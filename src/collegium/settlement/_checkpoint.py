"""What an epoch set signs for the base chain, and where a header stands under a checkpoint.

The digests name the task and no chain, so that one certificate settles on every chain. Numbers in them are 32 bytes big
endian, the form that a contract has at hand (docs/spec/settlement.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from collegium.commitment import MerkleTree, MultiproofError, verify_multiproof
from collegium.crypto import BlsPublicKey, Digest, g2_uncompressed, hash_fields
from collegium.settlement._errors import HeaderRangeError

__all__ = [
    "CHECKPOINT_ROUNDS_MAX",
    "NO_CHECKPOINT",
    "Checkpoint",
    "checkpoint_digest",
    "handover_digest",
    "header_proof",
    "header_root",
    "possession_context",
    "verify_header",
]

CHECKPOINT_ROUNDS_MAX: Final = 1 << 16
DIGEST_BYTES: Final = 32
NO_CHECKPOINT: Final[Digest] = bytes(DIGEST_BYTES)  # what the first checkpoint names as the one before it


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Consecutive final headers under one root.

    Args:
        task: digest of the task.
        epoch: whose set signs it, from 0.
        first_round: one after the last round of the checkpoint before.
        last_round: at most CHECKPOINT_ROUNDS_MAX rounds, this one included.
        previous: digest of the checkpoint before; NO_CHECKPOINT for the first.
        root: `header_root` of the rounds' header digests.
    """

    task: Digest
    epoch: int
    first_round: int
    last_round: int
    previous: Digest
    root: Digest

    @property
    def digest(self) -> Digest:
        """What the epoch set signs."""
        return checkpoint_digest(self.task, self.epoch, self.first_round, self.last_round, self.previous, self.root)


def checkpoint_digest(
    task: Digest, epoch: int, first_round: int, last_round: int, previous: Digest, root: Digest
) -> Digest:
    """Return what an epoch set signs to settle these rounds."""
    return hash_fields("checkpoint", task, _word(epoch), _word(first_round), _word(last_round), previous, root)


def handover_digest(task: Digest, epoch: int, previous: Digest, keys: Sequence[BlsPublicKey]) -> Digest:
    """Return what the set of epoch `epoch` - 1 signs to be followed by the set of these keys, in the order of seats.

    Args:
        previous: digest of the last checkpoint, after which the new set takes over.
    """
    key_digests = [sha256(g2_uncompressed(key)).digest() for key in keys]
    return hash_fields("epoch-handover", task, _word(epoch), previous, sha256(b"".join(key_digests)).digest())


def possession_context(chain_id: int, registry: bytes, account: bytes) -> bytes:
    """Return the context of a proof of possession: it serves this account at this registry on this chain alone."""
    return _word(chain_id) + registry + account


def header_root(headers: Sequence[Digest]) -> Digest:
    """Return the Merkle root of header digests, padded with zero digests to a power of two.

    Raises:
        HeaderRangeError: none, more than CHECKPOINT_ROUNDS_MAX, or one that is not 32 bytes.
    """
    return _tree(headers).root


def header_proof(headers: Sequence[Digest], index: int) -> tuple[Digest, ...]:
    """Return the siblings on the way from header `index` (from 0) to the root, from the leaf's up.

    Raises:
        HeaderRangeError: as `header_root`, or no such header.
    """
    tree = _tree(headers)
    if not 0 <= index < len(headers):
        raise HeaderRangeError(f"header {index}, expected 0..{len(headers) - 1}", index=index)
    proof = tree.prove([index])
    return tuple(proof[at : at + DIGEST_BYTES] for at in range(0, len(proof), DIGEST_BYTES))


def verify_header(checkpoint: Checkpoint, round_number: int, header: Digest, siblings: Sequence[Digest]) -> None:
    """Check that `header` is the header digest of a round under a checkpoint.

    Raises:
        HeaderRangeError: the round is not one of the checkpoint's.
        MultiproofError: the siblings do not lead to its root, or are too few or too many.
    """
    count = checkpoint.last_round - checkpoint.first_round + 1
    index = round_number - checkpoint.first_round
    if not 0 <= index < count:
        raise HeaderRangeError(
            f"round {round_number}, expected {checkpoint.first_round}..{checkpoint.last_round}", index=index
        )
    if any(len(sibling) != DIGEST_BYTES for sibling in siblings):
        raise MultiproofError("a sibling is not 32 bytes", lengths=[len(sibling) for sibling in siblings])
    verify_multiproof(checkpoint.root, _padded(count), [index], [header], b"".join(siblings))


def _tree(headers: Sequence[Digest]) -> MerkleTree:
    if not 1 <= len(headers) <= CHECKPOINT_ROUNDS_MAX:
        raise HeaderRangeError(f"{len(headers)} headers, expected 1..{CHECKPOINT_ROUNDS_MAX}", count=len(headers))
    for index, header in enumerate(headers):
        if len(header) != DIGEST_BYTES:
            raise HeaderRangeError(f"header {index} has {len(header)} bytes, expected {DIGEST_BYTES}", index=index)
    return MerkleTree([*headers, *[bytes(DIGEST_BYTES)] * (_padded(len(headers)) - len(headers))])


def _padded(count: int) -> int:
    """Return the least power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
