"""The task of simulated worlds, everybody's keys in them, and the trainers with their lies.

A model is the list of all totals so far: whoever opened another sum holds another model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from collegium import aggregation, algebra
from collegium.aggregation import Budget, KeyClaim, Layout, Report, RoundTerms, SeatTerms, Upload
from collegium.consensus import (
    EpochSet,
    EpochVerifier,
    ProofRefusedError,
    RegistrationScope,
    Validator,
    ValidatorIndex,
    assign_seats,
    quorum_size,
)
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    SealKey,
    Stream,
    ThresholdBeacon,
    combine_commitments,
    deal,
)
from collegium.errors import CollegiumError

from ._world_masking import standin_upload
from ._world_plan import WorldPlan
from ._world_quality import HEAVIEST, Marks

__all__ = ["ENTRIES", "FIRST_MODEL", "Cast", "Once", "Tally", "make_cast", "marks_of", "proof_of", "train"]

T = TypeVar("T")
ENTRIES = 5
ENTRY_BOUND = 1000
TRAINERS_MAX = 8
FIRST_MODEL = b""
TASK = sha256(b"task of the simulated worlds").digest()


# ------------------------------------------------------------------------------------------------ public work


def proof_of(ciphertext: Digest) -> bytes:
    """Return the toy proof that the masked update with this digest is well formed."""
    return sha256(b"well formed" + ciphertext).digest()


@dataclass(frozen=True)
class Tally:
    """The agreed work; where reports are `proved`, a proof is a hash that anybody can check."""

    proved: bool = False
    staleness: int = 0  # how many rounds old the model may be that an update was trained from
    quality: bool = False  # whether trainers weigh by the marks that a model gives them
    task: Digest = TASK

    @property
    def level(self) -> str:
        return "bounded" if self.proved else "unproved"

    def layout(self, round_number: int) -> Layout:
        weight_max = HEAVIEST if self.quality and round_number else 1 << self.staleness_max(round_number)
        return Layout(ENTRIES, Budget(entry_bound=ENTRY_BOUND, trainers_max=TRAINERS_MAX, weight_max=weight_max))

    def staleness_max(self, round_number: int) -> int:
        """Return how many rounds stale a round's report may be: the first model is that of round 0."""
        return min(self.staleness, round_number)

    def step(self, round_number: int, model: bytes, total: npt.NDArray[np.int64]) -> bytes:
        return model + total.astype("<i8").tobytes()

    def may_skip(self, round_number: int) -> bool:
        return True

    def proof_bytes_max(self, round_number: int) -> int:
        return 32 if self.proved else 0

    def registration_bytes_max(self, round_number: int) -> int:
        return 0

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        raise ProofRefusedError("nothing is registered for this task")

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        raise ProofRefusedError("nothing is registered for this task")

    def verify_proof(
        self,
        terms: RoundTerms,
        model: bytes,
        report: Report,
        ciphertext: npt.NDArray[np.uint64],
        proof: bytes,
        registration: bytes,
    ) -> KeyClaim | None:
        if proof != proof_of(report.ciphertext):
            raise ProofRefusedError(f"the proof of report {report.id.hex()[:16]} does not verify")
        return None


class Once:
    """Shared work without a clock: pure computations done once for a whole world."""

    def __init__(self) -> None:
        self.results: dict[Hashable, tuple[object, CollegiumError | None]] = {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        known = self.results.get(key)
        if known is None:
            try:
                known = (compute(), None)
            except CollegiumError as error:
                known = (None, error)
            self.results[key] = known
        if known[1] is not None:
            raise known[1]
        return cast(T, known[0])


# ------------------------------------------------------------------------------------------------ everybody's keys


@dataclass(frozen=True)
class Cast:
    """Everybody's keys and the terms of round 0; the same for every world of one size and kind of keys."""

    accounts: tuple[AccountKey, ...]
    voting: tuple[BlsSecretKey, ...]
    first_seals: tuple[SealKey, ...]
    beacons: tuple[ThresholdBeacon, ...]
    trainers: tuple[AccountKey, ...]
    epoch_set: EpochSet
    verifier: EpochVerifier
    terms: RoundTerms


@lru_cache(maxsize=16)
def make_cast(size: int, seats: int, real: bool) -> Cast:
    """Return the cast; to be called, and used, under `stand_ins(real=real)`."""
    random = Stream(sha256(b"cast of the simulated worlds").digest())
    accounts = tuple(AccountKey.generate(random.split(f"account {i}")) for i in range(size))
    voting = tuple(BlsSecretKey.generate(random.split(f"voting {i}")) for i in range(size))
    seals = tuple(SealKey.generate(random.split(f"seal {i}")) for i in range(size))
    trainers = tuple(AccountKey.generate(random.split(f"trainer {i}")) for i in range(TRAINERS_MAX))
    dealing = deal(random.split("beacon"), size, quorum_size(size))
    group = combine_commitments(size, [dealing.commitments])
    members = [Validator(ValidatorIndex(i), bytes(voting[i].public_key()), accounts[i].address, 1) for i in range(size)]
    epoch_set = EpochSet(TASK, 0, tuple(members))
    beacon = sha256(b"first beacon").digest()
    holders = assign_seats(beacon, epoch_set, seats)
    terms = RoundTerms(
        task=TASK,
        round=0,
        previous=sha256(b"genesis of the simulated worlds").digest(),
        model=sha256(FIRST_MODEL).digest(),
        beacon=beacon,
        seats=tuple(SeatTerms(accounts[v].address, seals[v].public_bytes) for v in holders),
        layout=Tally().layout(0),
    )
    beacons = tuple(ThresholdBeacon(TASK, group, share) for share in dealing.shares)
    return Cast(accounts, voting, seals, beacons, trainers, epoch_set, EpochVerifier(epoch_set), terms)


def marks_of(plan: WorldPlan, cast_: Cast) -> Marks | None:
    """Return how a world's trainers weigh; None where they weigh alike."""
    if not plan.quality:
        return None
    trainers = tuple(cast_.trainers[place].address for place in range(len(plan.trainers)))
    return Marks(trainers, plan.cohort_min, plan.draws)


# ------------------------------------------------------------------------------------------------ trainers


@dataclass(frozen=True)
class Trained:
    """A trainer's upload of a round: what it hides, and whom it is sent to (None: everybody)."""

    upload: Upload
    update: npt.NDArray[np.int64]
    to: frozenset[int] | None = None


def train(plan: WorldPlan, cast_: Cast, terms: RoundTerms, trainer: int, rng: Random) -> list[Trained]:
    """Return what a trainer sends in a round, by its role: nothing, one report, or two."""
    role = plan.trainers[trainer]
    if rng.random() < plan.absent:
        return []
    if role == "two reports":
        half = frozenset(rng.sample(range(plan.size), plan.size // 2))
        rest = frozenset(range(plan.size)) - half
        return [_trained(plan, cast_, terms, trainer, rng, to=part) for part in (half, rest)]
    if role == "some only":
        some = frozenset(rng.sample(range(plan.size), rng.randint(1, plan.size - 1)))
        return [_trained(plan, cast_, terms, trainer, rng, to=some)]
    return [_trained(plan, cast_, terms, trainer, rng)]


def _trained(
    plan: WorldPlan, cast_: Cast, terms: RoundTerms, trainer: int, rng: Random, to: frozenset[int] | None = None
) -> Trained:
    role, account = plan.trainers[trainer], cast_.trainers[trainer]
    update = np.array([rng.randint(-ENTRY_BOUND, ENTRY_BOUND) for _ in range(ENTRIES)], np.int64)
    random = Stream(rng.randbytes(32))
    wrong = frozenset(rng.sample(range(plan.seats), rng.randint(1, plan.seats // 2)))
    lie = role == "wrong columns"
    stale = _staleness(plan, terms, role, rng)
    honest_proof = role != "false proof"

    def proof(ciphertext: Digest) -> bytes:
        return (proof_of(ciphertext) if honest_proof else bytes(32)) if plan.proved else b""

    if plan.masked:
        denied = wrong if lie else frozenset[int]()
        spoil = role == "malformed"
        return Trained(_real_upload(terms, account, update, random, proof, denied, spoil, stale), update, to)

    def share(seat: int, value: int) -> int:
        return value ^ 1 if lie and seat in wrong else value

    spoil = role == "malformed"
    upload = standin_upload(terms, account, update, random, recover=share, proof=proof, spoil=spoil, staleness=stale)
    return Trained(upload, update, to)


def _staleness(plan: WorldPlan, terms: RoundTerms, role: str, rng: Random) -> int:
    """Return how many rounds old the model is that a trainer began with."""
    if not plan.staleness:
        return 0
    return terms.staleness_max + 1 if role == "too stale" else rng.randint(0, terms.staleness_max)


def _real_upload(
    terms: RoundTerms,
    account: AccountKey,
    update: npt.NDArray[np.int64],
    random: Stream,
    proof: Callable[[Digest], bytes],
    denied: frozenset[int],
    spoil: bool,
    staleness: int,
) -> Upload:
    """Return a real upload; `denied` seats get a box that does not open; a spoiled one's check blocks are not zero."""
    draft = aggregation.begin_upload(terms, account.address, update, random)
    if spoil:
        message = np.zeros(draft.ciphertext.shape, np.int64)
        message[0, 0] = 1 << terms.layout.budget.noise_bits
        masked = algebra.add(draft.ciphertext, algebra.encode_signed(message))
        data = aggregation.encode_ciphertext(masked)
        draft = replace(draft, ciphertext=masked, ciphertext_bytes=data, ciphertext_digest=sha256(data).digest())
    evidence = proof(draft.ciphertext_digest)
    upload = aggregation.finish_upload(terms, draft, account, evidence, staleness=staleness)
    if not denied:
        return upload
    boxes = tuple(bytes(64) if i in denied and box else box for i, box in enumerate(upload.boxes))
    digests = tuple(bytes(32) if box is None else sha256(box).digest() for box in boxes)
    unsigned = replace(upload.report, boxes=digests)
    return replace(upload, report=replace(unsigned, signature=account.sign(unsigned.id)), boxes=boxes)
