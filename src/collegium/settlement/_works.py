"""The kinds of public work that follow from a header, as programs of the dispute machine for one task.

A program is its source and a task's parameters: whoever relies on a court compiles it anew and compares its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import count
from typing import Final

from collegium import algebra
from collegium.aggregation import KeySum, Layout, Report, RoundTerms, seats_needed
from collegium.consensus import Close, EpochSet, Header
from collegium.crypto import Digest, frame_fields
from collegium.incentives import FoldRule, Policy
from collegium.settlement._dissection_players import PARTS
from collegium.settlement._errors import WorkTermsError
from collegium.settlement._machine import STEPS_MAX
from collegium.settlement._model_step import StepRule
from collegium.settlement._payouts import Due
from collegium.settlement._proof_plan import ProofPlan, digest_words
from collegium.settlement.programs import WORDS

__all__ = [
    "PublicWork",
    "QualityTerms",
    "RewardTerms",
    "WorkTerms",
    "proof_messages",
    "public_works",
    "round_messages",
    "signed_works",
]

_LIMIT_MAX: Final = 1 << 23  # `_model_step` divides to 24 bits: more than twice a limit
_RATE_MAX: Final = 1 << 32  # and to double words
# Bounds of instructions, each a half more than was measured: for lies in as many columns as are corrected and all that
# does not grow with the task; for a block's key stream; for a block of one report; for an entry of total and model.
_FIXED_STEPS: Final = 1 << 28
_BLOCK_STEPS: Final = 3 << 18
_REPORT_BLOCK_STEPS: Final = 11 << 13
_ENTRY_STEPS: Final = 1 << 10
_PAIR_STEPS: Final = 1 << 6  # and for a report and a registered trainer, who is looked for
# And of quality, each several times what was measured: for two trainers of which one is sorted past the other; for an
# entry of a steward's gradient and another steward; for the blocks of a report and its proof.
_SORT_STEPS: Final = 1 << 8
_STEWARD_ENTRY_STEPS: Final = 1 << 6
_PREFIX_STEPS: Final = 1 << 23
# And of rewards: for two trainers, one of whose remainders comes before the other's; for a trainer's part and lines.
_RANK_STEPS: Final = 1 << 7
_LINE_STEPS: Final = 1 << 14
_NOISE_MAX: Final = 1 << 32
_VOUCHED: Final = "proofs"  # the work that a header's signers may know from others' receipts alone


@dataclass(frozen=True)
class QualityTerms:
    """What a task with stewards fixes beside.

    Attributes:
        rule: by which a round's end follows from scores, total and records.
        stewards: their accounts, in the genesis's order.
    """

    rule: FoldRule
    stewards: tuple[bytes, ...]

    @property
    def accounts(self) -> bytes:
        """What a program reads of them."""
        return b"".join(self.stewards)

    @property
    def parameters(self) -> dict[str, int]:
        """What the program of quality is compiled with."""
        return _policy_words(self.rule.policy) | {
            "ROWS_MAX": self.rule.rows_max,
            "WEIGHTED_MIN": self.rule.weighted_min,
            **digest_words("BENCH", sha256(self.accounts).digest()),
        }


def _policy_words(policy: Policy) -> dict[str, int]:
    return {name.upper(): value % WORDS for name, value in asdict(policy).items()}


@dataclass(frozen=True)
class RewardTerms:
    """What a task that pays fixes beside.

    Attributes:
        budget: of a round, in wei.
        payees: where, to whom and on which licence each trainer is paid, in the genesis's order; no amounts are read.
    """

    budget: int
    payees: tuple[Due, ...]

    @property
    def lines(self) -> bytes:
        """What a program reads of them."""
        return b"".join(
            due.chain.to_bytes(32, "big") + due.account + due.licence.to_bytes(32, "big") for due in self.payees
        )

    @property
    def parameters(self) -> dict[str, int]:
        """What the program of rewards is compiled with."""
        budget = {"BUDGET_0": self.budget % WORDS, "BUDGET_1": self.budget // WORDS}
        return budget | digest_words("PAYEES", sha256(self.lines).digest())


@dataclass(frozen=True)
class WorkTerms:
    """What a task fixes before its first round, as far as its headers' public work depends on it.

    Attributes:
        genesis: digest that the first header follows.
        first: terms of round 0, whose layout is that of its statistics.
        layout: of the rounds after it, with the largest weight that a round may have.
        trainers: accounts of the registered ones; `trainers_min` of them at least carry a sum.
        lying_max: how many seats of a close may lie without costing the sum.
        epoch_set: the first; `epoch_rounds`: how many rounds are its own at least.
        proves: reports carry proofs, so that an invalid sum names the reports whose proofs fail.
        rule: the training rule.
        parameters: the first parameters' bytes.
        plan: of the proofs that reports carry; None where they carry none, or such that no program verifies.
        records: of the evaluations that stewards' records carry; None likewise.
        quality: of a task with stewards.
        rewards: of a task that pays.

    Raises:
        WorkTermsError: the programs do not hold for such a task.
    """

    task: Digest
    level: str
    genesis: Digest
    first: RoundTerms
    layout: Layout
    trainers: tuple[bytes, ...]
    trainers_min: int
    lying_max: int
    epoch_set: EpochSet
    epoch_rounds: int
    proves: bool
    rule: StepRule
    parameters: bytes
    plan: ProofPlan | None = None
    records: ProofPlan | None = None
    quality: QualityTerms | None = None
    rewards: RewardTerms | None = None

    def __post_init__(self) -> None:
        if self.layout.budget.lanes != 1 or self.first.layout.budget.lanes != 1:
            raise WorkTermsError(f"updates of {self.layout.budget.lanes} lanes, the programs add those of one")
        if not self.level.isascii() or not 0 < len(self.level) <= 8:
            raise WorkTermsError(f"the level is called {self.level!r}, expected 1 to 8 characters")
        if max(self.rule.hidden_limit, self.rule.output_limit) > _LIMIT_MAX:
            raise WorkTermsError(f"parameters up to {self.rule.output_limit}, the programs take {_LIMIT_MAX}")
        if self.rule.numerator >= 1 << 17 or self.rule.denominator > _RATE_MAX:
            raise WorkTermsError(f"a rate of {self.rule.numerator} / {self.rule.denominator} is too fine")
        if self.quality is not None and max(self.quality.rule.noise.as_integer_ratio()) > _NOISE_MAX:
            raise WorkTermsError(f"a noise of {self.quality.rule.noise} is too fine")
        if self.steps_max > STEPS_MAX:
            raise WorkTermsError(f"{self.steps_max} instructions, a dispute has room for {STEPS_MAX}")

    @property
    def steps_max(self) -> int:
        """How many instructions every program takes at most until it accepts a header that is right."""
        trainers, blocks = self.layout.budget.trainers_max, self.layout.blocks
        sums = blocks * (_BLOCK_STEPS + _REPORT_BLOCK_STEPS * trainers) + _ENTRY_STEPS * self.layout.entries
        proofs = 0 if self.plan is None else trainers * self.plan.steps_max(self.first.layout, self.layout)
        more = _PAIR_STEPS * trainers**2 + proofs + self._quality_steps() + self._reward_steps()
        return max(_FIXED_STEPS + sums + more, self._record_steps())

    def _record_steps(self) -> int:
        if self.records is None or self.quality is None:
            return 0
        return _FIXED_STEPS + len(self.quality.stewards) * self.records.record_steps_max

    def _reward_steps(self) -> int:
        trainers = 0 if self.rewards is None else len(self.trainers)
        return _RANK_STEPS * trainers * (trainers + self.layout.budget.trainers_max) + _LINE_STEPS * trainers

    def _quality_steps(self) -> int:
        if self.quality is None:
            return 0
        trainers, stewards = len(self.trainers), len(self.quality.stewards)
        entries = _STEWARD_ENTRY_STEPS * stewards * (stewards + 4) * self.layout.entries
        return entries + _SORT_STEPS * trainers**2 + _PREFIX_STEPS * self.layout.budget.trainers_max

    @property
    def levels(self) -> int:
        """How many divisions a dissection of these programs' runs needs: what a court of them is founded with."""
        return next(levels for levels in count(1) if PARTS**levels >= self.steps_max)

    @property
    def head(self) -> bytes:
        """The bytes with which the preimage of every header of the task begins."""
        return frame_fields("header", self.task)

    @property
    def messages(self) -> tuple[bytes, ...]:
        """What programs read beside a round's own messages."""
        plans = tuple(plan.to_bytes() for plan in (self.plan, self.records) if plan is not None)
        stewards = () if self.quality is None else (self.quality.accounts,)
        payees = () if self.rewards is None else (self.rewards.lines,)
        return b"".join(self.trainers), self.epoch_set.preimage, self.parameters, *plans, *stewards, *payees

    def _shared(self) -> dict[str, int]:
        first, later = self.first.layout.budget, self.layout.budget
        noise = Fraction(0) if self.quality is None else self.quality.rule.noise
        return {
            **digest_words("TASK", self.task),
            **digest_words("FIRST_TERMS", self.first.digest),
            **digest_words("FIRST_BEACON", self.first.beacon),
            **digest_words("GENESIS", self.genesis),
            "LEVEL": int.from_bytes(self.level.encode().ljust(8, b"\0"), "big"),
            "LEVEL_BYTES": len(self.level),
            "SEATS": len(self.first.seats),
            "TRAINERS_MAX": later.trainers_max,
            "STALENESS_MAX": later.weight_max.bit_length() - 1,
            "FIRST_ENTRIES": self.first.layout.entries,
            "FIRST_BOUND": first.entry_bound,
            "ENTRIES": self.layout.entries,
            "ENTRY_BOUND": later.entry_bound,
            "TRAINERS": len(self.trainers),
            "STEWARDS": 0 if self.quality is None else len(self.quality.stewards),
            "WEIGHT_MAX": 0 if self.quality is None else self.quality.rule.policy.weight_max,
            "PLACES": 0 if self.quality is None else self.quality.rule.places,
            "NOISE_NUMERATOR": noise.numerator,
            "NOISE_DENOMINATOR": noise.denominator,
            "DIRECTION_NORM_MAX": 0 if self.quality is None else self.quality.rule.direction_norm,
        }


@dataclass(frozen=True)
class PublicWork:
    """One kind of public work that follows from a header, or from what one party signs by itself.

    Attributes:
        module: of `collegium.settlement.programs`, whose `main` accepts a digest if this part of it is right.
        parameters: what the module is compiled with.
        head: the bytes with which the preimage of each such digest begins.
        convicts: whoever signs a digest that is refuted has lied. Not so of a header and its reports' proofs, which a
            committee takes from the verifiers that the beacon chose: theirs is the lie, in their receipts.
    """

    name: str
    module: str
    parameters: Mapping[str, int]
    head: bytes
    convicts: bool = True


def public_works(terms: WorkTerms) -> tuple[PublicWork, ...]:
    """Return the kinds of public work that follow from a header of a task."""
    shared, rule = terms._shared(), terms.rule
    proves = {"PROVES": int(terms.proves)}
    cohort = digest_words("COHORT", sha256(terms.messages[0]).digest())
    told = {**_policy_words(Policy()), "WEIGHTED_MIN": 0} if terms.quality is None else terms.quality.parameters
    weights = {
        **proves,
        **told,
        "SEATS_NEEDED": seats_needed(len(terms.first.seats), terms.lying_max),
        "TRAINERS_MIN": terms.trainers_min,
        **cohort,
    }
    members = {
        "VALIDATORS": terms.epoch_set.size,
        **digest_words("EPOCH_SET", terms.epoch_set.digest()),
        "EPOCH_ROUNDS": terms.epoch_rounds,
    }
    state = {
        "HIDDEN": rule.hidden,
        "HIDDEN_LIMIT": rule.hidden_limit,
        "OUTPUT_LIMIT": rule.output_limit,
    }
    model = {
        "NUMERATOR": rule.numerator,
        "DENOMINATOR": rule.denominator,
        "DESCENDS": int(rule.descends),
        **digest_words("FIRST", sha256(terms.parameters).digest()),
    }
    modules = [
        ("weights", "_weights", members | weights),
        ("opening", "_opening", state | proves),
        ("model", "_model_step", state | model),
        ("next round", "_next_round", members | {"KEYS_MIN": terms.epoch_set.quorum}),
    ]
    if terms.quality is not None:
        modules.append(("quality", "_quality", terms.quality.parameters | cohort))
    if terms.records is not None:
        modules.append(("records", "_records", terms.records.parameters))
    if terms.rewards is not None:
        modules.append(("rewards", "_rewards", terms.rewards.parameters | cohort))
    if terms.plan is not None:
        modules.append((_VOUCHED, "_close_proofs", terms.plan.parameters))
    return tuple(
        PublicWork(name, module, shared | own, terms.head, convicts=name != _VOUCHED) for name, module, own in modules
    )


def signed_works(terms: WorkTerms) -> tuple[PublicWork, ...]:
    """Return the kinds of statement about proofs that one party signs by itself: a report, a seat's receipt."""
    if terms.plan is None:
        return ()
    parameters = terms._shared() | terms.plan.parameters
    return tuple(
        PublicWork(name, module, parameters, frame_fields(name, terms.task))
        for name, module in (("report", "_report_proof"), ("receipt", "_receipt_proofs"))
    )


def round_messages(
    header: Header,
    before: Header | None,
    close: Close,
    terms: RoundTerms,
    reports: Iterable[Report],
    ciphertexts: Iterable[bytes],
    key_sums: Sequence[KeySum],
    states: Iterable[bytes],
) -> tuple[bytes, ...]:
    """Return every message of a round that its works' programs may read, but for those of `proof_messages`.

    `states`: the model before and, where the round opened, the total, as objects; of a task with stewards the model
    after, their records and what stands behind them too; of one that pays what is hashed on the way to what the header
    before says of earnings.
    """
    headers = [header.preimage] if before is None else [header.preimage, before.preimage]
    rows = [algebra.to_bytes(key_sum.rows.reshape(-1)) for key_sum in key_sums]
    named = [key_sum.preimage for key_sum in key_sums]
    return (
        *headers,
        close.preimage,
        terms.preimage,
        *(report.preimage for report in reports),
        *ciphertexts,
        *named,
        *rows,
        *states,
    )


def proof_messages(
    reports: Iterable[Report], proofs: Iterable[bytes], registrations: Iterable[bytes]
) -> tuple[bytes, ...]:
    """Return what programs read of reports' proofs beside their round's messages."""
    combinations = [algebra.to_bytes(report.combination.reshape(-1)) for report in reports]
    return (*proofs, *registrations, *combinations)
