"""The genesis of a task: everything that is public and fixed before round 0, in one canonical JSON file.

`anchor` is the one digest to compare with somebody one trusts: it binds the task, the genesis and the first epoch set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import msgspec

from collegium.aggregation import RoundTerms, SeatTerms
from collegium.consensus import (
    Agreed,
    Announcement,
    EpochSet,
    Validator,
    ValidatorIndex,
    assign_seats,
    check_announcement,
)
from collegium.crypto import BlsPublicKey, Digest, ThresholdBeacon, hash_fields, verify_possession
from collegium.errors import CollegiumError

__all__ = [
    "Genesis",
    "GenesisError",
    "ValidatorEntry",
    "check_genesis",
    "decode_genesis",
    "encode_genesis",
    "first_terms",
]

GENESIS_BYTES_MAX = 16 << 20


class GenesisError(CollegiumError):
    """A genesis file is malformed, or something in it does not verify."""


@dataclass(frozen=True)
class ValidatorEntry:
    """A validator as registered: account, voting key with proof of possession, stake, first sealing key."""

    account: bytes
    bls_key: bytes
    possession: bytes
    stake: int
    announcement: Announcement | None  # None: registered, but absent when the task began


@dataclass(frozen=True)
class Genesis:
    """What every participant agrees on before the first round.

    Attributes:
        experiment: the experiment's canonical bytes.
        schema: the public schema's canonical bytes.
        rows_max: a public bound on one trainer's rows.
        trainers: account address and name of each registered trainer.
        operator: account that relays to the chain and signs the run's unverifiable statements (simulated steward too).
        beacon_commitments: Feldman commitments of each dealer, from which the beacon's group key and shares follow.
        beacon: the threshold signature whose hash is round 0's beacon.
    """

    experiment: bytes
    schema: bytes
    rows_max: int
    trainers: tuple[tuple[bytes, str], ...]
    operator: bytes
    epoch: int
    validators: tuple[ValidatorEntry, ...]
    beacon_commitments: tuple[tuple[bytes, ...], ...]
    beacon: bytes

    @cached_property
    def task(self) -> Digest:
        """The task's identity: experiment, schema, row bound, trainers and operator."""
        names = b"".join(account + sha256(name.encode()).digest() for account, name in self.trainers)
        return hash_fields("task", self.experiment, self.schema, self.rows_max, names, self.operator)

    @cached_property
    def digest(self) -> Digest:
        """The digest that the first header follows."""
        return hash_fields("genesis", encode_genesis(self))

    @cached_property
    def epoch_set(self) -> EpochSet:
        """The first epoch set."""
        validators = tuple(
            Validator(ValidatorIndex(index), entry.bls_key, entry.account, entry.stake)
            for index, entry in enumerate(self.validators)
        )
        return EpochSet(self.task, self.epoch, validators)

    @property
    def anchor(self) -> Digest:
        """The digest of task, genesis and first epoch set."""
        return hash_fields("anchor", self.task, self.digest, self.epoch_set.digest())


def encode_genesis(genesis: Genesis) -> bytes:
    """Return the canonical JSON of a genesis."""
    return msgspec.json.encode(genesis)


def decode_genesis(data: bytes) -> Genesis:
    """Decode a genesis file strictly.

    Raises:
        GenesisError: it is too large, malformed or not canonical.
    """
    if len(data) > GENESIS_BYTES_MAX:
        raise GenesisError(f"genesis has {len(data)} bytes, at most {GENESIS_BYTES_MAX} are read")
    try:
        genesis = msgspec.json.decode(data, type=Genesis)
    except (msgspec.MsgspecError, ValueError) as error:
        raise GenesisError(f"genesis: {error}") from error
    if encode_genesis(genesis) != data:
        raise GenesisError("genesis is not in its canonical encoding")
    return genesis


def check_genesis(genesis: Genesis, beacon: ThresholdBeacon) -> None:
    """Check every proof in a genesis.

    Raises:
        CollegiumError: a proof of possession, an announcement, or the first beacon does not verify.
    """
    for index, entry in enumerate(genesis.validators):
        verify_possession(BlsPublicKey(entry.bls_key), genesis.task + entry.account, entry.possession)
        if entry.announcement is not None:
            if (entry.announcement.validator, entry.announcement.round) != (index, 0):
                raise GenesisError(f"validator {index} announces a key for {entry.announcement.round}, expected 0")
            check_announcement(genesis.task, genesis.epoch_set, entry.announcement)
    beacon.verify(genesis.epoch, 0, genesis.beacon)


def first_terms(genesis: Genesis, agreed: Agreed, seats: int, model: bytes) -> RoundTerms:
    """Return the terms of round 0."""
    value = sha256(genesis.beacon).digest()
    keys = {i: e.announcement.seal_key for i, e in enumerate(genesis.validators) if e.announcement is not None}
    committee = assign_seats(value, genesis.epoch_set, seats)
    return RoundTerms(
        task=genesis.task,
        round=0,
        previous=genesis.digest,
        model=sha256(model).digest(),
        beacon=value,
        seats=tuple(SeatTerms(genesis.validators[v].account, keys.get(v)) for v in committee),
        layout=agreed.layout(0),
    )
