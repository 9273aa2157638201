"""A task whose update is any vector: what trains, and how, is the trainer's own affair; only its bounds are agreed.

A model is a vector of weights. Each trainer trains it as it likes and sends its change, rounded to whole multiples of a
public step and clipped to public bounds; the model moves by the mean. The state counts in units of step / trainers, so
that the mean is a plain sum: exact, in any order, on every machine, without the library that trains
(docs/decisions/vectors-move-by-exact-sums.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from math import floor

import msgspec
import numpy as np
import numpy.typing as npt

from collegium import proofs
from collegium.aggregation import Budget, Draft, KeyClaim, Layout, Report, RoundTerms
from collegium.consensus import RegistrationScope
from collegium.crypto import Digest, Randomness, hash_fields
from collegium.errors import CollegiumError
from collegium.proofs import BoundedStatement

from ._attest import Attest
from ._columns import allocate_columns
from ._proofs import PROOF_BYTES_MAX, DataPack, SecretDraft, claim_of, masked_of_report, masked_update
from ._sections import as_quotient

__all__ = [
    "Quantised",
    "Quantiser",
    "VectorLevelError",
    "VectorRows",
    "VectorStateError",
    "VectorTask",
    "VectorTaskError",
    "first_vector_state",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

BITS_MIN, BITS_MAX = 4, 16
UNIT_LIMIT = 1 << 52  # float64 holds every state entry exactly
LANES = 2
LEVELS = ("unproved", "bounded")


class VectorTaskError(CollegiumError):
    """A vector task's settings are out of bounds, or a trainer's change is no vector of finite numbers."""


class VectorStateError(CollegiumError):
    """Bytes that should be a vector task's model state are not one, or a weight left its range."""


class VectorLevelError(CollegiumError):
    """A level that a vector task cannot have, or a registration in a task that registers no data."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A change in whole steps; how many entries were cut to their bound, and whether the norm's bound cut all."""

    update: IntArray
    clipped: int
    shrunk: bool


@dataclass(frozen=True, slots=True)
class Quantiser:
    """The public rounding of a task: signed integers of `bits` bits, the largest of which stands for `clip`.

    Attributes:
        clip: the largest change of one weight that a trainer may make in one round.
        bits: 4 to 16.
        norm: the largest Euclidean norm of a trainer's whole change; None for none but what `clip` implies.

    Raises:
        VectorTaskError: a setting is out of these bounds.
    """

    clip: Fraction
    bits: int = BITS_MAX
    norm: Fraction | None = None

    def __post_init__(self) -> None:
        if not BITS_MIN <= self.bits <= BITS_MAX:
            raise VectorTaskError(f"{self.bits} bits an entry, expected {BITS_MIN} to {BITS_MAX}", bits=self.bits)
        if self.clip <= 0:
            raise VectorTaskError(f"clip is {float(self.clip)}, expected more than 0")
        if self.norm is not None and self.norm_bound == 0:
            raise VectorTaskError(f"norm is {float(self.norm)}, expected at least one step, {float(self.step)}")

    @property
    def entry_bound(self) -> int:
        """The largest magnitude of an entry, in steps."""
        return (1 << (self.bits - 1)) - 1

    @property
    def step(self) -> Fraction:
        """What one unit of an update stands for."""
        return self.clip / self.entry_bound

    @property
    def norm_bound(self) -> int | None:
        """The largest Euclidean norm of an update, in steps, rounded down."""
        return None if self.norm is None else floor(self.norm / self.step)

    def quantise(self, change: npt.NDArray[np.floating]) -> Quantised:
        """Return a change in whole steps, each entry and the norm within its bound.

        Entries are rounded to the nearest step and clipped. Where the norm is still too large all are shrunk alike and
        rounded towards zero, which cannot raise it again.

        Raises:
            VectorTaskError: an entry is not finite.
        """
        scaled = np.asarray(change, np.float64) / float(self.step)
        if not np.isfinite(scaled).all():
            index = int(np.flatnonzero(~np.isfinite(scaled))[0])
            raise VectorTaskError(
                f"entry {index} of a change is {change[index]}, expected finite numbers: training diverged", index=index
            )
        bound = self.entry_bound
        cut = np.clip(np.rint(scaled), -bound, bound)
        clipped = int((np.abs(scaled) > bound + 0.5).sum())
        update = cut.astype(np.int64)
        norm_bound, shrunk = self.norm_bound, False
        if norm_bound is not None and _square(update) > norm_bound**2:
            factor, shrunk = norm_bound / float(np.sqrt(float(_square(update)))), True
            update = np.trunc(cut * factor).astype(np.int64)
            while _square(update) > norm_bound**2:  # the factor itself was rounded
                factor *= 1 - 2.0**-40
                update = np.trunc(cut * factor).astype(np.int64)
        return Quantised(update, clipped, shrunk)


def _square(update: IntArray) -> int:
    """Return the exact sum of squares: at most 2^23 entries of at most 2^15, so below 2^53."""
    return int(np.dot(update, update))


@dataclass(frozen=True, slots=True, eq=False)
class VectorRows:
    """A trainer's name and how it learns; what it learns from stays behind `learn`.

    Attributes:
        site: who it is.
        name: `site/0`.
        learn: takes the weights that a round starts from, a seed, and returns their change.
        rows: nothing: no proof of this task is about registered rows.
    """

    site: str
    name: str
    learn: Callable[[FloatArray, bytes], npt.NDArray[np.floating]]
    rows: None = None


@dataclass(frozen=True)
class VectorTask:
    """The agreed bounds of a task whose update is any vector, as `consensus.Agreed` and `play_round` want them.

    Attributes:
        level: "unproved", or "bounded": every admitted update is proved to be within the quantiser's bounds.
        entries: weights of the model.
        quantiser: clip, bits and norm.
        trainers: how many are registered; a report that is missing counts as no change.
        initial: the state before the first round, canonical.
        cohort_min: how few trainers one sum may add; lying_max: how many seats of a close may lie without costing it.

    Raises:
        VectorLevelError: a vector task cannot have this level.
        VectorStateError: `initial` is no state of this task.
        BudgetError: the bounds do not fit the masking ring for so many trainers.
    """

    task: Digest
    level: str
    entries: int
    quantiser: Quantiser
    trainers: int
    initial: bytes
    cohort_min: int
    lying_max: int
    quality: None = None
    pay: None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise VectorLevelError(
                f"level {self.level!r} of a task whose update is any vector, expected one of {', '.join(LEVELS)}: "
                "there is no agreed rule that a proof could be about",
                level=self.level,
            )
        self.decode_state(self.initial)
        self.layout(0)

    # what everybody computes

    def layout(self, round_number: int) -> Layout:
        """Return the layout and bit budget, the same in every round."""
        return self._layout

    def step(self, round_number: int, model: bytes, total: IntArray) -> bytes:
        """Return the state after a round: the state before it plus the total, entry by entry.

        Raises:
            VectorStateError: the total has another length, or a weight leaves its range.
        """
        if total.shape != (self.entries,):
            raise VectorStateError(f"a total of shape {total.shape}, expected ({self.entries},)")
        return self.encode_state(self.decode_state(model) + total)

    def encode_state(self, units: IntArray) -> bytes:
        """Return the canonical bytes of a state: 8 bytes an entry, little endian, two's complement.

        Raises:
            VectorStateError: an entry is out of range.
        """
        outside = np.flatnonzero((units > UNIT_LIMIT) | (units < -UNIT_LIMIT))
        if outside.size:
            index = int(outside[0])
            raise VectorStateError(f"weight {index} is {units[index]} units, expected at most 2^52", index=index)
        return units.astype("<i8").tobytes()

    def decode_state(self, data: bytes) -> IntArray:
        """Return the state's entries; no bytes at all are the initial state.

        Raises:
            VectorStateError: the length is wrong, or an entry out of range.
        """
        data = data or self.initial
        if len(data) != 8 * self.entries:
            raise VectorStateError(
                f"a model state has {len(data)} bytes, expected {8 * self.entries}", length=len(data)
            )
        units = np.frombuffer(data, "<i8").astype(np.int64)
        self.encode_state(units)
        return units

    def weights(self, model: bytes) -> FloatArray:
        """Return the weights that a state stands for, in float64."""
        return np.asarray(self.decode_state(model) * float(self.unit), np.float64)

    @property
    def unit(self) -> Fraction:
        """What one unit of the state stands for: a step divided among the trainers."""
        return self.quantiser.step / self.trainers

    @property
    def norm_bound(self) -> int | None:
        """The norm's bound that is proved, in steps; None where the entries' bounds imply it."""
        bound = self.quantiser.norm_bound
        implied = self.entries * self.quantiser.entry_bound**2
        return None if bound is None or bound**2 >= implied else bound

    def describe(self) -> dict[str, object]:
        """Return everything that the task fixes, as plain data."""
        quantiser = self.quantiser
        return {
            "version": 1,
            "level": self.level,
            "entries": self.entries,
            "clip": as_quotient(quantiser.clip),
            "bits": quantiser.bits,
            "norm": self.norm_bound,
            "trainers": self.trainers,
            "cohort_min": self.cohort_min,
            "initial": sha256(self.initial).hexdigest(),
        }

    # what a trainer computes

    def update(self, round_number: int, model: bytes, trainer: VectorRows, beacon: Digest) -> IntArray:
        """Return the change that a trainer makes to the weights, in whole steps within the bounds.

        Raises:
            VectorTaskError: what it learned is no change of these weights.
        """
        seed = hash_fields("learn", self.task, round_number, beacon, trainer.name.encode())
        change = trainer.learn(self.weights(model), seed)
        if change.shape != (self.entries,):
            raise VectorTaskError(
                f"trainer {trainer.name} changes weights of shape {change.shape}, expected ({self.entries},)"
            )
        return self.quantiser.quantise(change).update

    def prove(
        self,
        terms: RoundTerms,
        model: bytes,
        draft: SecretDraft,
        rows: None,
        pack: DataPack | None,
        random: Randomness,
    ) -> tuple[bytes, KeyClaim]:
        """Return the proof that a draft masks an update within the bounds, and its claim about the key matrix."""
        digests = (draft.ciphertext_digest, draft.key_root)
        masked = masked_update(terms, self.rule_digest, draft.trainer, *digests, draft.ciphertext)
        statement = BoundedStatement(masked, self.norm_bound)
        proved = proofs.prove_bounded(statement, draft.update, draft.secrets, random, allocate=allocate_columns)
        return proved.proof, claim_of(proved.first)

    def attest(self, terms: RoundTerms, draft: Draft, source: Attest | None) -> tuple[bytes, None]:
        """Refuse: there is no agreed rule whose code could be measured.

        Raises:
            VectorLevelError: always.
        """
        raise VectorLevelError(f"an attestation in a task of level {self.level}", level=self.level)

    # what a verifier computes

    @property
    def quorum(self) -> int | None:
        """None: a round waits for all until its deadline."""
        return None

    def may_skip(self, round_number: int) -> bool:
        """Return True: a round without reports leaves the vector as it was."""
        return True

    def proof_bytes_max(self, round_number: int) -> int:
        """Return the largest proof that a report may carry; 0 where it must carry none."""
        return 0 if self.level == "unproved" else PROOF_BYTES_MAX

    def verify_proof(
        self,
        terms: RoundTerms,
        model: bytes,
        report: Report,
        ciphertext: npt.NDArray[np.uint64],
        proof: bytes,
        registration: bytes,
    ) -> KeyClaim:
        """Verify that a report masks an update within the bounds, and return what the proof says about the key matrix.

        Raises:
            ProofRejectedError: it does not show it.
        """
        masked = masked_of_report(terms, self.rule_digest, report, ciphertext)
        return claim_of(proofs.verify_bounded(BoundedStatement(masked, self.norm_bound), proof))

    def registration_bytes_max(self, round_number: int) -> int:
        """Return 0: proofs are about no registered data."""
        return 0

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        """Refuse: nothing is registered.

        Raises:
            VectorLevelError: always.
        """
        raise VectorLevelError(f"a registration of {len(registration)} bytes in a task that registers no data")

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        """Refuse: nothing is registered.

        Raises:
            VectorLevelError: always.
        """
        self.registration_scope(registration)

    def register(
        self, first_round: int, model: bytes, trainer: bytes, rows: None, earlier: DataPack | None, random: Randomness
    ) -> DataPack:
        """Refuse: nothing is registered.

        Raises:
            VectorLevelError: always.
        """
        raise VectorLevelError("rows to register in a task that registers no data")

    @cached_property
    def rule_digest(self) -> Digest:
        """The digest of the bounds, which every proof names."""
        return hash_fields("vector-rule", msgspec.json.encode(self.describe(), order="sorted"))

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.entries, Budget(self.quantiser.entry_bound, self.trainers, lanes=LANES))


def first_vector_state(weights: FloatArray, quantiser: Quantiser, trainers: int) -> bytes:
    """Return the state that stands for initial weights, each to the nearest unit.

    Raises:
        VectorStateError: a weight is not finite, or beyond what the units can count.
    """
    units = np.rint(weights / float(quantiser.step / trainers))
    refused = np.flatnonzero(~(np.abs(units) <= UNIT_LIMIT))  # refuses NaN too
    if refused.size:
        index = int(refused[0])
        raise VectorStateError(f"initial weight {index} is {weights[index]}, expected a finite number", index=index)
    return units.astype("<i8").tobytes()
