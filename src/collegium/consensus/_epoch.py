"""The epoch set: who orders headers, how many of them make a quorum, and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NewType

from collegium.crypto import Digest, frame_fields, hash_fields
from collegium.errors import CollegiumError

__all__ = [
    "EPOCH_SET_SIZE_MAX",
    "BadEpochSetError",
    "EpochSet",
    "UnknownValidatorError",
    "Validator",
    "ValidatorIndex",
    "faulty_max",
    "quorum_size",
]

ValidatorIndex = NewType("ValidatorIndex", int)

EPOCH_SET_SIZE_MAX: Final = 2048
BLS_KEY_BYTES: Final = 96
ACCOUNT_BYTES: Final = 20
DIGEST_BYTES: Final = 32
INTEGER_MAX: Final = 2**63 - 1


def faulty_max(count: int) -> int:
    """Return how many of `count` may be arbitrarily bad: f = floor((n - 1) / 3)."""
    return (count - 1) // 3


def quorum_size(count: int) -> int:
    """Return n - f, more than two thirds of `count`: two quorums share n - 2f > f of them, hence an honest one."""
    return count - faulty_max(count)


class BadEpochSetError(CollegiumError):
    """Validators that cannot form an epoch set: wrong order, a key or account twice, a size or stake out of range."""


class UnknownValidatorError(CollegiumError):
    """An index outside the epoch set."""


@dataclass(frozen=True, slots=True)
class Validator:
    """One seat of an epoch set.

    Args:
        index: position in the set, from 0.
        bls_key: compressed G2 point, 96 bytes, whose possession was proved when it was registered.
        account: Ethereum address, 20 bytes, of the key that signs the validator's blocks.
        stake: in base units, at least 1.
    """

    index: ValidatorIndex
    bls_key: bytes
    account: bytes
    stake: int

    def __post_init__(self) -> None:
        lengths = (len(self.bls_key), len(self.account))
        if lengths != (BLS_KEY_BYTES, ACCOUNT_BYTES):
            raise BadEpochSetError(
                f"key and account of validator {self.index} have {lengths} bytes, expected (96, 20)", lengths=lengths
            )
        if not 1 <= self.stake <= INTEGER_MAX:
            raise BadEpochSetError(f"stake of validator {self.index} is {self.stake}, expected 1..2^63-1")


@dataclass(frozen=True, slots=True)
class EpochSet:
    """The validators that order one task's headers during one epoch.

    The order of `validators` is the order of leaders. The lottery lists winners by ticket, so it is itself a
    permutation drawn by the beacon; a consortium lists its members as it likes.

    Args:
        task: digest of the task, 32 bytes.
        epoch: from 0.
        validators: at most 2048, listed by index, keys and accounts distinct.

    Raises:
        BadEpochSetError: the above does not hold.
    """

    task: Digest
    epoch: int
    validators: tuple[Validator, ...]
    _digest: Digest = field(init=False, repr=False, compare=False)
    _genesis: Digest = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.task) != DIGEST_BYTES or not 0 <= self.epoch <= INTEGER_MAX:
            raise BadEpochSetError(f"task of {len(self.task)} bytes, epoch {self.epoch}: expected 32 bytes, 0..2^63-1")
        if not 1 <= self.size <= EPOCH_SET_SIZE_MAX:
            raise BadEpochSetError(f"{self.size} validators, expected 1..{EPOCH_SET_SIZE_MAX}", size=self.size)
        if [v.index for v in self.validators] != list(range(self.size)):
            raise BadEpochSetError(f"validators are not listed by index: {[v.index for v in self.validators]}")
        for name, values in (
            ("keys", {v.bls_key for v in self.validators}),
            ("accounts", {v.account for v in self.validators}),
        ):
            if len(values) != self.size:
                raise BadEpochSetError(
                    f"{len(values)} distinct {name} for {self.size} validators", distinct=len(values)
                )
        object.__setattr__(self, "_digest", sha256(self.preimage).digest())
        object.__setattr__(self, "_genesis", hash_fields("genesis", self.task, self.epoch, self._digest))

    @property
    def size(self) -> int:
        """Number of validators, n."""
        return len(self.validators)

    @property
    def faulty_max(self) -> int:
        """Validators that may be arbitrarily bad, f."""
        return faulty_max(self.size)

    @property
    def quorum(self) -> int:
        """Validators that make a certificate, n - f."""
        return quorum_size(self.size)

    def leader(self, view: int) -> ValidatorIndex:
        """Whose turn it is in `view` (from 1): round robin over the listed order."""
        return ValidatorIndex(view % self.size)

    def validator(self, index: int) -> Validator:
        """The validator at `index`.

        Raises:
            UnknownValidatorError: there is none.
        """
        if not 0 <= index < self.size:
            raise UnknownValidatorError(f"validator {index}, expected 0..{self.size - 1}", index=index, size=self.size)
        return self.validators[index]

    @property
    def preimage(self) -> bytes:
        """The bytes that the digest is the SHA-256 of: with them a contract can read whose votes name it."""
        members = [f for v in self.validators for f in (v.bls_key, v.account, v.stake)]
        return frame_fields("epoch-set", self.task, self.epoch, *members)

    def digest(self) -> Digest:
        """Digest of task, epoch and every validator's key, account and stake."""
        return self._digest

    def genesis(self) -> Digest:
        """What the epoch's first block names as its parent."""
        return self._genesis
