"""What a proof of learning costs, beside the same training step in PyTorch and beside EZKL's proof of it.

Our prover takes one gradient step in exact integers, masks its update and proves that this update is the step's; or
masks an update of any origin and proves that its entries are in range. What is measured and what is not:
docs/guide/benchmarks.md. Every proof that is timed is verified. Without `torch` or `ezkl` a row says how to get it.

As a module (`python -m collegium.apps._bench_proofs SIZE`) it makes one proof and prints the memory that this took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from collegium import learning, proofs
from collegium.aggregation import Budget, BudgetError, Draft, Layout, RoundTerms, SeatTerms, begin_upload, public_matrix
from collegium.apps import _ezkl_peer as ezkl_peer
from collegium.apps._bench_rows import (
    Row,
    Spread,
    cores,
    figure_row,
    is_loaded,
    load_text,
    machine,
    note_row,
    progress,
    spread_row,
    with_target,
)
from collegium.apps._ezkl_peer import EzklMeasure, Size
from collegium.apps._memory import forget_peak, resident, resident_peak
from collegium.apps._torch_peer import TorchStep, find_torch
from collegium.crypto import Stream, hash_fields, os_random
from collegium.errors import CollegiumError
from collegium.learning import ModelSpec, Rule
from collegium.node import allocate_columns
from collegium.proofs import (
    BoundedStatement,
    DataShape,
    FirstChallenges,
    Identity,
    KeySecrets,
    MaskedUpdate,
    ProofCode,
    Proved,
    TrainingStatement,
    TrainingWitness,
)

__all__ = [
    "BoundedCase",
    "Clock",
    "Made",
    "Measure",
    "Targets",
    "TrainingCase",
    "UnknownSizeError",
    "WrongProofError",
    "WrongStepError",
    "cases",
    "measure",
    "proof_rows",
]

SEATS: Final = 16
TRAINERS: Final = 16  # of one masked sum, or as many as the ring has room for
ENTRY_BOUND: Final = 2**15 - 1
REPEATS: Final = 5
PEER_STEPS: Final = 5  # timed after each of our proofs, each way, one more uncounted before them
CASE_SECONDS: Final = 240.0  # after which no repeat is begun
MEMORY_SECONDS: Final = 300.0
STEP_DIFFERENCE_MAX: Final = 0.02  # of the float gradient's norm: 12 fraction bits against float32
MISSING_TORCH: Final = "none, PyTorch is not installed: pip install 'collegium[torch]'"
MISSING_EZKL: Final = "none, EZKL is not installed: pip install ezkl==23.0.5 onnx"

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class WrongProofError(CollegiumError):
    """A proof says something else of the key than its prover did: a bug, and no figure is worth printing."""


class WrongStepError(CollegiumError):
    """The peer's step is not ours, up to rounding: the comparison would mean nothing."""


class UnknownSizeError(CollegiumError):
    """There is no case of this name."""


# The cases


@dataclass(frozen=True, slots=True)
class Targets:
    """What a case should stay within; None where nothing was aimed at. Printed, never asserted."""

    steps: float | None = None  # the prover's time in PyTorch steps
    prover_seconds: float | None = None
    proof_bytes: int | None = None
    verifier_seconds: float = 0.06


@dataclass(frozen=True)
class TrainingCase:
    """One gradient step of a network with one hidden layer, on all registered rows.

    Attributes:
        size: its name on the command line.
        message_len: k, slots of a committed row.
    """

    size: str
    rows: int
    inputs: int
    hidden: int
    outputs: int
    message_len: int
    loss: Literal["squared", "softmax"] = "squared"
    targets: Targets = field(default_factory=Targets)
    ezkl: bool = True

    @property
    def name(self) -> str:
        """Batch, inputs, hidden units, classes and loss."""
        return f"({self.rows},{self.inputs},{self.hidden},{self.outputs}) {self.loss}"

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return ModelSpec("mlp", self.inputs, (self.hidden,), self.outputs)

    @property
    def rule(self) -> Rule:
        """The training rule: every limit is what standardised features and a fresh model stay within."""
        return Rule(
            fraction_bits=12,
            feature_limit=1,
            hidden_limit=1,
            output_limit=1,
            loss=self.loss,
            activation_limit=8,
            error_limit=8,
        )

    @property
    def shape(self) -> DataShape:
        """The registered rows' shape."""
        limit = self.rule.feature_limit * self.rule.one
        return DataShape(self.rows, self.inputs, self.outputs, limit, self.message_len)

    @cached_property
    def layout(self) -> Layout:
        """The masked update's layout: unrounded gradients are wide, so a large step leaves room for few trainers."""
        bound = learning.update_bound(self.spec, self.rule, self.rows)
        return Layout(self.spec.parameter_count + 1, widest_budget(bound, 1))

    @cached_property
    def parameters(self) -> Integers:
        """A fresh model."""
        return learning.initial_parameters(self.spec, self.rule, b"bench")

    @cached_property
    def features(self) -> Integers:
        """Standard normal features, clipped to the limit; the same in every process."""
        drawn = np.random.default_rng(0).standard_normal((self.rows, self.inputs)) * self.rule.one
        clipped: Integers = np.clip(np.rint(drawn), -self.shape.limit, self.shape.limit).astype(np.int64)
        return clipped

    @cached_property
    def labels(self) -> Integers:
        """Labels of all classes."""
        return np.random.default_rng(1).integers(0, self.outputs, self.rows)


@dataclass(frozen=True)
class BoundedCase:
    """An update of any origin, quantised to 16 bits, two entries in an element; proved: every entry is in range."""

    size: str
    parameters: int
    message_len: int = 0  # 0: what the statement chooses
    targets: Targets = field(default_factory=Targets)

    @property
    def name(self) -> str:
        """Say that it is bounded, and how many parameters."""
        return f"bounded {self.size}"

    @cached_property
    def layout(self) -> Layout:
        """The masked update's layout."""
        return Layout(self.parameters, widest_budget(ENTRY_BOUND, 2))

    @cached_property
    def update(self) -> Integers:
        """Uniform entries; the same in every process."""
        return np.random.default_rng(0).integers(-ENTRY_BOUND, ENTRY_BOUND + 1, self.parameters)


Case = TrainingCase | BoundedCase

CASES: Final[tuple[Case, ...]] = (
    TrainingCase("small", 64, 30, 32, 2, 2048),
    TrainingCase("softmax", 64, 30, 32, 2, 2048, "softmax", ezkl=False),
    TrainingCase("medium", 256, 784, 256, 10, 4096, targets=Targets(steps=100, proof_bytes=1_000_000)),
    TrainingCase("large", 1024, 1024, 1024, 10, 8192, targets=Targets(steps=50, proof_bytes=4_000_000)),
    BoundedCase("10k", 10_000),
    BoundedCase("100k", 100_000),
    BoundedCase("1M", 1_000_000, targets=Targets(prover_seconds=2, proof_bytes=4_000_000)),
)
QUICK_SIZES: Final = ("small", "softmax", "10k")
WARM: Final = TrainingCase("warm", 4, 3, 4, 2, 2048)


def cases(*, quick: bool, size: str | None) -> tuple[Case, ...]:
    """Return the cases to measure.

    Raises:
        UnknownSizeError: naming the sizes there are.
    """
    if size is None:
        return tuple(case for case in CASES if not quick or case.size in QUICK_SIZES)
    chosen = tuple(case for case in CASES if case.size == size)
    if not chosen:
        known = ", ".join(case.size for case in CASES)
        raise UnknownSizeError(f"--size is {size!r}, expected one of {known}", size=size)
    return chosen


def widest_budget(bound: int, lanes: int) -> Budget:
    """Return the budget of a sum of 16 trainers, or of as large a power of two as fits.

    Raises:
        BudgetError: not even one trainer's entries fit.
    """
    trainers = TRAINERS
    while True:
        try:
            return Budget(bound, trainers, 1, lanes)
        except BudgetError:
            if trainers == 1:
                raise
            trainers //= 2


# Our side


class Clock:
    """Seconds by part: each call gives the time since the last one to a part."""

    def __init__(self) -> None:
        """Start."""
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Made:
    """A proof with its statement.

    Attributes:
        parts: the prover's seconds, part by part in order; their sum is its whole time.
        committing_seconds: of the data commitment, which a registration makes; 0 where there is none.
        update: the masked update.
    """

    statement: TrainingStatement | BoundedStatement
    proved: Proved
    parts: dict[str, float]
    committing_seconds: float
    update: Integers

    @property
    def code(self) -> ProofCode:
        """The code of its matrices."""
        statement = self.statement
        return statement.data.code if isinstance(statement, TrainingStatement) else statement.code


def make(case: Case) -> Made:
    """Be one trainer in a fresh round, whose public matrix it expands itself."""
    return _make_training(case) if isinstance(case, TrainingCase) else _make_bounded(case)


def _make_training(case: TrainingCase) -> Made:
    spec, rule, features, labels = case.spec, case.rule, case.features, case.labels
    parameters, layout, random = case.parameters, case.layout, Stream(os_random(32))
    committing = Clock()
    data = proofs.commit_data(case.shape, features, labels, random)
    committing("commit")
    clock = Clock()
    step = learning.step_trace(spec, rule, parameters, features, labels)
    update = np.append(step.gradient, case.rows)
    clock("step trace")
    masked, draft = _mask(layout, update, random)
    clock("masking")
    chosen = np.ones(case.rows, np.bool_)
    statement = TrainingStatement(masked, spec, rule, parameters, case.shape, data.root, chosen)
    witness = TrainingWitness(features, labels, data, step, _secrets(draft))
    clock("statement")
    proved = proofs.prove_training(statement, witness, random, clock, allocate_columns)
    clock("openings")
    return Made(statement, proved, clock.seconds, committing.seconds["commit"], update)


def _make_bounded(case: BoundedCase) -> Made:
    layout, update, random = case.layout, case.update, Stream(os_random(32))
    clock = Clock()
    masked, draft = _mask(layout, update, random)
    clock("masking")
    statement = BoundedStatement(masked, None, case.message_len)
    clock("statement")
    proved = proofs.prove_bounded(statement, update, _secrets(draft), random, clock, allocate=allocate_columns)
    clock("openings")
    return Made(statement, proved, clock.seconds, 0.0, update)


def _mask(layout: Layout, update: Integers, random: Stream) -> tuple[MaskedUpdate, Draft]:
    """Mask the update and commit to its key; the beacon is new, so no public matrix is ready."""
    zero, seats = bytes(32), tuple(SeatTerms(bytes([seat]) * 20, None) for seat in range(SEATS))
    terms = RoundTerms(zero, 1, zero, zero, os_random(32), seats, layout)
    draft = begin_upload(terms, bytes(20), update, random)
    identity = Identity(
        task=terms.task,
        round=terms.round,
        trainer=draft.trainer,
        terms=terms.digest,
        model=terms.model,
        rule=hash_fields("bench-rule"),
        ciphertext=draft.ciphertext_digest,
        key_root=draft.key_root,
    )
    budget, matrix = layout.budget, public_matrix(terms.matrix_seed, layout.blocks)
    bound, bits = budget.entry_bound, (budget.lanes, budget.lane_bits, budget.noise_bits)
    return MaskedUpdate(identity, layout.entries, bound, *bits, matrix, draft.ciphertext), draft


def _secrets(draft: Draft) -> KeySecrets:
    return KeySecrets(noise=draft.noise, coefficients=draft.coefficients, key=draft.key)


def verify(made: Made) -> float:
    """Return how long it takes to verify a proof, with nothing ready but A.

    Raises:
        ProofRejectedError: the proof does not show the statement.
        WrongProofError: it shows other values of the key than the prover stated.
    """
    statement, proof = replace(made.statement), made.proved.proof  # without what the prover has cached in it
    started = time.perf_counter()
    if isinstance(statement, TrainingStatement):
        first = proofs.verify_training(statement, proof)
    else:
        first = proofs.verify_bounded(statement, proof)
    seconds = time.perf_counter() - started
    _check_first(first, made.proved.first)
    return seconds


def _check_first(verified: FirstChallenges, proved: FirstChallenges) -> None:
    if verified.point != proved.point or not np.array_equal(verified.key_values, proved.key_values):
        raise WrongProofError(f"the proof speaks of the key at {verified.point}, its prover of {proved.point}")


# Both sides


@dataclass(frozen=True, slots=True)
class Measure:
    """What a case costs on our side, and PyTorch's steps in between.

    Attributes:
        prover: step, masking and proof.
        parts: the prover's parts; medians of them need not add up to the median of the whole.
        committing: making the data commitment; None where there is none.
        steps: by way, the peer's times; empty without PyTorch, and where no step is taken.
    """

    code: ProofCode
    prover: Spread
    parts: dict[str, Spread]
    committing: Spread | None
    verifier: Spread
    proof_bytes: int
    steps: dict[str, Spread]

    @property
    def step(self) -> Spread | None:
        """The faster way's times."""
        return min(self.steps.values(), key=lambda spread: spread.median, default=None)


def measure(case: Case, *, repeats: int = REPEATS) -> Measure:
    """Prove, take the peer's steps, verify, and again; a first round is not counted, and checks both sides' step.

    Raises:
        WrongStepError: PyTorch's gradient is not ours.
        WrongProofError: as `verify`.
    """
    made = make(case)
    verify(made)
    peer = None
    if isinstance(case, TrainingCase) and (peer := torch_step(case)) is not None:
        check_step(case, made.update, peer)
    parts: list[dict[str, float]] = []
    committing: list[float] = []
    verifying: list[float] = []
    steps: dict[str, list[float]] = {}
    started = time.perf_counter()
    while len(parts) < repeats and (not parts or time.perf_counter() - started < CASE_SECONDS):
        made = make(case)
        parts.append(made.parts)
        committing.append(made.committing_seconds)
        for way, step in {} if peer is None else peer.ways.items():
            steps.setdefault(way, []).extend(_times(step))
        verifying.append(verify(made))
    return Measure(
        code=made.code,
        prover=Spread.of([sum(run.values()) for run in parts]),
        parts={part: Spread.of([run[part] for run in parts]) for part in parts[0]},
        committing=Spread.of(committing) if isinstance(case, TrainingCase) else None,
        verifier=Spread.of(verifying),
        proof_bytes=len(made.proved.proof),
        steps={way: Spread.of(seconds) for way, seconds in steps.items()},
    )


def torch_step(case: TrainingCase) -> TorchStep | None:
    """Return the peer on the same rows, model and cores; None where PyTorch is not installed."""
    torch = find_torch()
    if torch is None:
        return None
    weights = [_real(case, array) for array in _weights(case)]
    return TorchStep.of(torch, cores(), case.loss == "softmax", _real(case, case.features), _targets(case), weights)


def check_step(case: TrainingCase, update: Integers, peer: TorchStep) -> None:
    """Compare our integer gradient, which has twice the fraction bits, with both ways of the peer.

    Raises:
        WrongStepError: they differ by more than rounding explains.
    """
    ours = update[:-1] / case.rule.one**2
    for way in peer.ways:
        theirs = peer.gradient(way)
        difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
        if difference > STEP_DIFFERENCE_MAX:
            raise WrongStepError(
                f"{case.name}: PyTorch's gradient by {way} differs from ours by {difference:.3g} of its norm, "
                f"expected at most {STEP_DIFFERENCE_MAX}",
                difference=difference,
            )


def _times(step: Callable[[], object]) -> list[float]:
    step()
    seconds = []
    for _ in range(PEER_STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return seconds


def _weights(case: TrainingCase) -> list[Integers]:
    made, start = [], 0
    for fan_in, fan_out in case.spec.layers:
        middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
        made += [case.parameters[start:middle].reshape(fan_in, fan_out), case.parameters[middle:end]]
        start = end
    return made


def _real(case: TrainingCase, numbers: Integers) -> Floats:
    real: Floats = (numbers / case.rule.one).astype(np.float32)
    return real


def _targets(case: TrainingCase) -> Floats:
    targets: Floats = (case.labels[:, None] == np.arange(case.outputs)).astype(np.float32)
    return targets


# Memory and EZKL, each in a process of its own


def peak_memory(size: str) -> tuple[int, int] | str:
    """Return the peak of a fresh process that makes one proof, and what it held before; or why there is none."""
    command = [sys.executable, "-m", "collegium.apps._bench_proofs", size]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=MEMORY_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return f"not measured: more than {MEMORY_SECONDS:.0f} s"
    except subprocess.CalledProcessError as error:
        return f"not measured: the process ended with {error.returncode}"
    facts = json.loads(ended.stdout)
    return facts["peak_bytes"], facts["before_bytes"]


def _prove_once(size: str) -> None:
    (case,) = cases(quick=False, size=size)
    make(WARM)
    forget_peak()
    before = resident()
    make(case)
    print(json.dumps({"before_bytes": before, "peak_bytes": resident_peak()}))


def measure_ezkl(case: TrainingCase, tried: Sequence[EzklMeasure], limit_seconds: float) -> EzklMeasure:
    """Return EZKL's proof of the same step; not tried where a smaller one took too long."""
    stopped = next((before for before in tried if before.failure), None)
    if stopped is not None:
        return EzklMeasure(failure="not tried: a smaller step failed already")
    size = Size(case.rows, case.inputs, case.hidden, case.outputs)
    arrays = {"x": _real(case, case.features), "y": _targets(case)}
    weights = zip(ezkl_peer.WEIGHTS, _weights(case), strict=True)
    return ezkl_peer.measure_ezkl(size, arrays | {name: _real(case, array) for name, array in weights}, limit_seconds)


# Rows


def proof_rows(*, quick: bool, size: str | None = None, ezkl_seconds: float = ezkl_peer.LIMIT_SECONDS) -> Iterator[Row]:
    """Yield the machine and its load, then for each case one row a figure, then the load at the end.

    A row has `name`, `case`, `ours`, `peer`, `ratio` (peer / ours) and `unit`; a time also `ours_min`, `ours_max`,
    `ours_runs` and the peer's; one with a target also `target` and `met`, None for a time under load.
    Loads are averages over one minute. Progress goes to standard error. `ezkl_seconds` bounds EZKL's work on each size.

    Raises:
        UnknownSizeError: there is no case named `size`.
        WrongStepError: PyTorch's step is not ours.
        WrongProofError: a proof says something else than its prover.
    """
    chosen = cases(quick=quick, size=size)
    for name, text in _facts().items():
        yield note_row(name, text)
    yield note_row("load before", load_text())
    if find_torch() is None:
        yield note_row("PyTorch", MISSING_TORCH)
    if not ezkl_peer.is_installed():
        yield note_row("EZKL", MISSING_EZKL)
    verify(make(WARM))  # kernels load or compile here, uncounted
    tried: list[EzklMeasure] = []
    for case in chosen:
        progress(f"measuring {case.name}")
        ours = measure(case, repeats=REPEATS)
        yield from case_rows(case, ours, loaded=is_loaded())
        yield from memory_rows(case, peak_memory(case.size))
        if isinstance(case, TrainingCase) and case.ezkl and ezkl_peer.is_installed():
            progress(f"EZKL on {case.name}: at most {ezkl_seconds:g} s")
            tried.append(measure_ezkl(case, tried, ezkl_seconds))
            yield from ezkl_rows(case, ours, tried[-1])
    yield note_row("load after", load_text())


def case_rows(case: Case, ours: Measure, *, loaded: bool = False) -> Iterator[Row]:
    """Yield a case's figures but memory and EZKL's; no time is judged that was taken on a loaded machine."""
    targets, code, trainers = case.targets, ours.code, case.layout.budget.trainers_max
    yield _row(
        "shape",
        case,
        unit=f"{case.layout.entries:,} masked entries, k = {code.message_len} slots a row, {code.queries} columns "
        f"opened, sums of at most {trainers} trainers",
    )
    step = ours.step
    prover = _time("prover", case, ours.prover, step)
    if targets.prover_seconds is not None:
        prover = with_target(prover, ours.prover.median * 1e3, targets.prover_seconds * 1e3, judged=not loaded)
    yield prover
    if step is not None:
        times = ours.prover.median / step.median
        row = _row("prover, in steps", case, ours=times, unit="PyTorch steps")
        yield row if targets.steps is None else with_target(row, times, targets.steps, judged=not loaded)
    for way, spread in ours.steps.items():
        yield _time(f"step by {way}", case, None, spread)
    for part, spread in ours.parts.items():
        yield _time(f"prover: {part}", case, spread)
    if ours.committing is not None:
        yield _time("data commitment", case, ours.committing)
    verifier = _time("verifier", case, ours.verifier)
    yield with_target(verifier, ours.verifier.median * 1e3, targets.verifier_seconds * 1e3, judged=not loaded)
    size = _row("proof", case, ours=ours.proof_bytes / 1e3, unit="kB")
    yield size if targets.proof_bytes is None else with_target(size, ours.proof_bytes / 1e3, targets.proof_bytes / 1e3)


def memory_rows(case: Case, memory: tuple[int, int] | str) -> Iterator[Row]:
    """Yield the prover's peak memory, or why there is none."""
    if isinstance(memory, str):
        yield _row("peak memory", case, unit=memory)
    else:
        peak, before = memory
        yield _row("peak memory", case, ours=peak / 1e6, unit=f"MB, {before / 1e6:,.0f} of them before the proof")


def ezkl_rows(case: TrainingCase, ours: Measure, peer: EzklMeasure) -> Iterator[Row]:
    """Yield EZKL's figures, one run, beside ours; or why there are none, with the parts that it did."""
    beside = {"prove": ours.prover, "verify": ours.verifier}
    for part, seconds in peer.seconds.items():
        yield _time(f"EZKL: {part}", case, beside.get(part), Spread.of([seconds]))
    if peer.failure is not None:
        yield _row("EZKL", case, unit=peer.failure)
        return
    yield _row("EZKL: proof", case, ours=ours.proof_bytes / 1e3, peer=peer.proof_bytes / 1e3, unit="kB")
    yield _row("EZKL: peak memory", case, peer=peer.peak_bytes / 1e6, unit="MB")
    yield _row(
        "EZKL: circuit",
        case,
        unit=f"{peer.circuit_rows:,} rows, {ezkl_peer.FRACTION_BITS} fraction bits, gradient off by "
        f"{peer.difference:.2g} of its norm",
    )


def _row(name: str, case: Case, *, ours: float | None = None, peer: float | None = None, unit: str = "") -> Row:
    return figure_row(name, case.name, ours, peer, unit)


def _time(name: str, case: Case, ours: Spread | None, peer: Spread | None = None) -> Row:
    """Return a row of medians in milliseconds."""
    return spread_row(name, case.name, ours, peer, 1e3, "ms")


def _facts() -> dict[str, str]:
    """Return what the figures must be read beside."""
    facts = {name: text for name, text in machine().items() if name != "flwr"}
    return facts | {name: _version(name) for name in ("numba", "torch", "ezkl")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    _prove_once(sys.argv[1])
