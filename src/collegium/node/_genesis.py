"""The genesis of a task: everything that is public and fixed before round 0, in one canonical JSON file.

`anchor` is the one digest to compare with somebody one trusts: it binds the task, the genesis and the first epoch set.
"""

from __future__ import annotations

import re
from collections import Counter
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
from collegium.crypto import (
    BlsPublicKey,
    Digest,
    ThresholdBeacon,
    combine_commitments,
    hash_fields,
    verify_possession,
)
from collegium.errors import CollegiumError
from collegium.incentives import STEWARDS_MAX

from ._json import decode_canonical

__all__ = [
    "Genesis",
    "GenesisError",
    "StewardSeat",
    "ValidatorEntry",
    "check_genesis",
    "decode_genesis",
    "encode_genesis",
    "first_terms",
    "open_beacon",
]

GENESIS_BYTES_MAX = 16 << 20
ACCOUNT_BYTES = 20
ROWS_MAX = 1 << 24  # of one trainer
NAME_LENGTH_MAX = 512
_TRAINER = re.compile(r".+/[0-9]+", re.DOTALL)


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
class StewardSeat:
    """A steward as registered: its account, and what binds it to its hidden rows (`shards_commitment`)."""

    account: bytes
    rows: Digest


@dataclass(frozen=True)
class Genesis:
    """What every participant agrees on before the first round.

    Attributes:
        experiment: the experiment's canonical bytes.
        schema: the public schema's canonical bytes.
        rows_max: a public bound on one trainer's rows.
        trainers: account address and name of each registered trainer.
        operator: account that relays to the chain and signs the run's unverifiable statements, as
            the evaluator.
        beacon_commitments: Feldman commitments of each dealer, from which the beacon's group key and shares follow.
        beacon: the threshold signature whose hash is round 0's beacon.
        stewards: who measures trainers on hidden rows; the encoding leaves them out where there are none.
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
    stewards: tuple[StewardSeat, ...] = ()

    @cached_property
    def task(self) -> Digest:
        """The task's identity: experiment, schema, row bound, trainers, operator, and stewards where there are any."""
        names = b"".join(account + sha256(name.encode()).digest() for account, name in self.trainers)
        seats = (b"".join(seat.account + seat.rows for seat in self.stewards),) if self.stewards else ()
        return hash_fields("task", self.experiment, self.schema, self.rows_max, names, self.operator, *seats)

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
    def first_seal_keys(self) -> dict[int, bytes]:
        """The sealing keys of round 0, by validator; absent ones have none."""
        entries = enumerate(self.validators)
        return {index: entry.announcement.seal_key for index, entry in entries if entry.announcement is not None}

    @cached_property
    def sites(self) -> dict[str, int]:
        """The number of trainers at each site, in the order of the trainers; a trainer is called `site/number`."""
        return dict(Counter(name.rsplit("/", 1)[0] for _, name in self.trainers))

    @property
    def anchor(self) -> Digest:
        """The digest of task, genesis and first epoch set."""
        return hash_fields("anchor", self.task, self.digest, self.epoch_set.digest())


def encode_genesis(genesis: Genesis) -> bytes:
    """Return the canonical JSON of a genesis; stewards, younger than the format, only where there are some."""
    if genesis.stewards:
        return msgspec.json.encode(genesis)
    fields = msgspec.to_builtins(genesis)
    fields.pop("stewards", None)  # a decoded genesis that has none lacks the field
    return msgspec.json.encode(fields)


def decode_genesis(data: bytes) -> Genesis:
    """Decode a genesis file strictly.

    Raises:
        GenesisError: it is too large, malformed, not canonical or out of bounds.
    """
    genesis = decode_canonical(data, Genesis, "genesis", GENESIS_BYTES_MAX, GenesisError, encode_genesis)
    _check_form(genesis)
    return genesis


def _check_form(genesis: Genesis) -> None:
    """Check the bounds of what no key or proof speaks about."""
    if genesis.epoch != 0 or not 1 <= genesis.rows_max <= ROWS_MAX:
        raise GenesisError(
            f"genesis of epoch {genesis.epoch} and {genesis.rows_max} rows, expected epoch 0 and 1 to {ROWS_MAX} rows"
        )
    accounts = [account for account, _ in genesis.trainers]
    names = [name for _, name in genesis.trainers]
    if not accounts or len(set(accounts)) != len(accounts) or len(set(names)) != len(names):
        raise GenesisError(f"genesis has {len(accounts)} trainers, expected one or more, no account or name twice")
    if any(len(account) != ACCOUNT_BYTES for account in (genesis.operator, *accounts)):
        raise GenesisError(f"the operator's account or a trainer's is not {ACCOUNT_BYTES} bytes")
    stewards = [seat.account for seat in genesis.stewards]
    if (
        len(stewards) > STEWARDS_MAX
        or len({*stewards, *accounts}) != len(stewards) + len(accounts)
        or any((len(seat.account), len(seat.rows)) != (ACCOUNT_BYTES, 32) for seat in genesis.stewards)
    ):
        raise GenesisError(
            f"genesis has {len(stewards)} stewards, expected at most {STEWARDS_MAX}, accounts of {ACCOUNT_BYTES} bytes "
            "that nobody else has, and digests of their rows"
        )
    for name in names:
        if len(name) > NAME_LENGTH_MAX or _TRAINER.fullmatch(name) is None:
            raise GenesisError(f"a trainer is called {name[:80]!a}, expected its site, a slash and a number")


def open_beacon(genesis: Genesis) -> ThresholdBeacon:
    """Return the beacon as anybody can verify it, its group key computed from the dealings.

    Raises:
        GenesisError: not one dealing for each validator, or another threshold than the epoch set's quorum; fewer
            members could then know values before they are public.
        CollegiumError: a commitment is no usable point.
    """
    size, quorum = len(genesis.validators), genesis.epoch_set.quorum
    thresholds = {len(commitments) for commitments in genesis.beacon_commitments}
    if len(genesis.beacon_commitments) != size or thresholds != {quorum}:
        raise GenesisError(
            f"{len(genesis.beacon_commitments)} beacon dealings of thresholds {sorted(thresholds)}, expected {size} "
            f"of threshold {quorum}"
        )
    return ThresholdBeacon(genesis.task, combine_commitments(size, genesis.beacon_commitments), None)


def check_genesis(genesis: Genesis, beacon: ThresholdBeacon, seats: int) -> None:
    """Check every proof in a genesis.

    Args:
        beacon: `open_beacon` of it.
        seats: as many as the experiment has; each validator has one of them or more.

    Raises:
        GenesisError: there are more validators than seats.
        CollegiumError: a proof of possession, an announcement, or the first beacon does not verify.
    """
    if len(genesis.validators) > seats:
        raise GenesisError(f"genesis has {len(genesis.validators)} validators, the experiment has {seats} seats")
    for index, entry in enumerate(genesis.validators):
        verify_possession(BlsPublicKey(entry.bls_key), genesis.task + entry.account, entry.possession)
        if entry.announcement is not None:
            if (entry.announcement.validator, entry.announcement.round) != (index, 0):
                raise GenesisError(f"validator {index} announces a key for {entry.announcement.round}, expected 0")
            check_announcement(genesis.task, genesis.epoch_set, entry.announcement)
    beacon.verify(genesis.epoch, 0, genesis.beacon)


def first_terms(genesis: Genesis, agreed: Agreed, seats: int, model: bytes) -> RoundTerms:
    """Return the terms of round 0."""
    value, keys = sha256(genesis.beacon).digest(), genesis.first_seal_keys
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
