"""One masked sum measured beside Flower's SecAgg+, on the same updates and in the same process.

Both sides turn float32 updates into the float mean of all: ours by quantising to 16 bits, masking, sharing the key with
16 seats, adding and opening; SecAgg+ as Flower ships it (`_secagg_peer`). What is measured and what is not:
docs/guide/benchmarks.md. Without the extra `flower` the peer's column stays empty and a row says so.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from collegium.aggregation import (
    Budget,
    Layout,
    RoundTerms,
    SeatColumns,
    SeatTerms,
    add_columns,
    check_columns,
    check_key_sum,
    check_report,
    decode_ciphertext,
    make_upload,
    open_columns,
    open_sum,
    public_matrix,
    sign_key_sum,
    weighted_total,
)
from collegium.apps._bench_rows import Row, Spread, figure_row, load_text, machine, note_row, progress
from collegium.crypto import AccountKey, Digest, SealKey, Stream, hash_fields, os_random
from collegium.errors import CollegiumError

if TYPE_CHECKING:
    from collegium.aggregation import Upload
    from collegium.apps._secagg_peer import SecAggMeasure

__all__ = [
    "Case",
    "Measure",
    "WrongSumError",
    "aggregation_rows",
    "case_rows",
    "columns_of",
    "measure_ours",
    "new_round",
    "run_once",
    "size_of",
    "updates",
]

SEATS: Final = 16
WEIGHTED_MIN: Final = 2
ENTRY_BOUND: Final = 2**15 - 1
CLIP: Final = 8.0  # Flower's default clipping range, so both sides round entries of the same range
UPDATE_DEVIATION: Final = 0.05
REPEATS: Final = 5
PEER_REPEATS_LARGE: Final = 3  # for the one case in which a run of the peer takes more than 20 seconds
LARGE: Final = 20_000_000  # parameters of all trainers together
MISSING_PEER: Final = "none, Flower is not installed: pip install 'collegium[flower]'"

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class WrongSumError(CollegiumError):
    """The opened sum is not the sum of the quantised updates: a bug, and no figure is worth printing."""


@dataclass(frozen=True, slots=True)
class Case:
    """How many trainers sum updates of how many parameters."""

    trainers: int
    parameters: int

    @property
    def name(self) -> str:
        """Trainers x parameters, for example "16 x 10k"."""
        for unit, letter in ((1_000_000, "M"), (1_000, "k")):
            if self.parameters % unit == 0:
                return f"{self.trainers} x {self.parameters // unit}{letter}"
        return f"{self.trainers} x {self.parameters}"


QUICK_CASES: Final = (Case(16, 10_000), Case(16, 100_000))
CASES: Final = tuple(Case(trainers, parameters) for trainers in (16, 64) for parameters in (10_000, 100_000, 1_000_000))


@dataclass(frozen=True, slots=True)
class Measure:
    """What our side of a case costs.

    Attributes:
        bytes_up: mean over trainers of report, masked update and sealed boxes.
        trainer_seconds: the median trainer's time to quantise and make its upload.
        opening_seconds: all that leads from admitted uploads to the mean: decode and add the masked updates, all seats'
            key sums, made, signed and checked, and opening.
        seat_seconds: the median seat's time to check the reports and its own columns of all trainers.
        seats_seconds: the same for all seats together.
        peak_memory_bytes: most memory held at once by trainers, seats and opener, in one more run that is not timed.
        max_error: largest difference of an entry of the result from the exact mean.
    """

    bytes_up: int
    trainer_seconds: Spread
    opening_seconds: Spread
    seat_seconds: Spread
    seats_seconds: Spread
    peak_memory_bytes: int
    max_error: float


def aggregation_rows(*, quick: bool) -> Iterator[Row]:
    """Yield the machine and its load, then for each case one row a figure, then the load at the end.

    A row has `name`, `case`, `ours`, `peer`, `ratio` (peer / ours) and `unit`; a time also `ours_min`, `ours_max`,
    `ours_runs` and the peer's. Loads are averages over one minute. Progress goes to standard error.

    Raises:
        WrongSumError: an opened sum is not the true one.
    """
    for name, text in machine().items():
        yield note_row(name, text)
    yield note_row("load before", load_text())
    if _find_peer() is None:
        yield note_row("peer", MISSING_PEER)
    measure_ours(Case(3, 100), updates(Case(3, 100)), repeats=1)  # kernels load or compile here, uncounted
    for case in QUICK_CASES if quick else CASES:
        progress(f"measuring {case.name}")
        vectors = updates(case)
        yield from case_rows(case, measure_ours(case, vectors), _measure_peer(case, vectors))
    yield note_row("load after", load_text())


def updates(case: Case) -> list[Floats]:
    """Return one update for each trainer: normal entries of standard deviation 0.05, the same in every process."""
    generator = np.random.default_rng(0)
    deviation = np.float32(UPDATE_DEVIATION)
    return [deviation * generator.standard_normal(case.parameters, np.float32) for _ in range(case.trainers)]


# Our side


@dataclass(frozen=True, slots=True)
class Committee:
    """The round's terms and the keys behind them, made before the clock starts."""

    terms: RoundTerms
    trainers: tuple[AccountKey, ...]
    validators: tuple[AccountKey, ...]
    seal_keys: tuple[SealKey, ...]


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent inside `running`, less those inside `paused`."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds -= time.perf_counter() - started


@dataclass(slots=True)
class Run:
    """One sum on its way from float updates to their float mean."""

    trainer_seconds: list[float] = field(default_factory=list)
    opening: Stopwatch = field(default_factory=Stopwatch)
    checking: list[Stopwatch] = field(default_factory=lambda: [Stopwatch() for _ in range(SEATS)])
    bytes_up: int = 0
    max_error: float = 0.0


def measure_ours(case: Case, vectors: Sequence[Floats], *, repeats: int = REPEATS) -> Measure:
    """Sum the vectors `repeats` times and once more for the memory.

    Raises:
        WrongSumError: an opened sum is not the true one.
    """
    runs = [run_once(case, vectors) for _ in range(repeats)]
    tracemalloc.start()
    try:
        run_once(case, vectors)
        _, peak_memory_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    seats = [[watch.seconds for watch in run.checking] for run in runs]
    return Measure(
        bytes_up=runs[0].bytes_up // case.trainers,
        trainer_seconds=Spread.of([median(run.trainer_seconds) for run in runs]),
        opening_seconds=Spread.of([run.opening.seconds for run in runs]),
        seat_seconds=Spread.of([median(seconds) for seconds in seats]),
        seats_seconds=Spread.of([sum(seconds) for seconds in seats]),
        peak_memory_bytes=peak_memory_bytes,
        max_error=max(run.max_error for run in runs),
    )


def run_once(case: Case, vectors: Sequence[Floats]) -> Run:
    """Upload, check, add and open one sum; uploads are added as they come and dropped, seats keep their columns.

    Raises:
        WrongSumError: the opened sum is not the true one.
    """
    run, committee = Run(), _new_committee(case)
    terms, weights = committee.terms, [1] * case.trainers
    columns: list[list[SeatColumns]] = [[] for _ in range(SEATS)]
    truth = np.zeros(case.parameters, np.int64)

    def arriving() -> Iterator[NDArray[np.uint64]]:
        for account, vector in zip(committee.trainers, vectors, strict=True):
            with run.opening.paused():
                upload = _upload(run, terms, account, vector)
                _admit(run, committee, upload, columns)
                np.add(truth, _quantise(vector), out=truth)
            yield decode_ciphertext(terms.layout, upload.ciphertext)

    with run.opening.running():
        total = weighted_total(arriving(), weights)
        close = hash_fields("bench-close", terms.digest)
        key_sums = {
            seat: sign_key_sum(terms, close, seat, add_columns(columns[seat], weights, WEIGHTED_MIN), validator)
            for seat, validator in enumerate(committee.validators)
        }
        for key_sum in key_sums.values():
            check_key_sum(terms, close, key_sum)
        public_matrix.cache_clear()
        opened = open_sum(terms, key_sums, total, case.trainers).total
        mean = opened * (CLIP / (ENTRY_BOUND * case.trainers))
    if opened.tobytes() != truth.tobytes():
        wrong = int(np.flatnonzero(opened != truth)[0])
        raise WrongSumError(
            f"{case.name}: entry {wrong} opens as {opened[wrong]}, the sum is {truth[wrong]}", entry=wrong
        )
    run.max_error = _max_error(mean, vectors)
    return run


def _new_committee(case: Case) -> Committee:
    terms, validators, seal_keys = new_round(SEATS, case.parameters, case.trainers)
    return Committee(terms, tuple(AccountKey.generate(os_random) for _ in range(case.trainers)), validators, seal_keys)


def new_round(
    count: int, parameters: int, trainers_max: int
) -> tuple[RoundTerms, tuple[AccountKey, ...], tuple[SealKey, ...]]:
    """Return a fresh round of so many seats: a new beacon, so that no public matrix is ready, and new keys."""
    validators = tuple(AccountKey.generate(os_random) for _ in range(count))
    seal_keys = tuple(SealKey.generate(os_random) for _ in range(count))
    seats = tuple(
        SeatTerms(account.address, key.public_bytes) for account, key in zip(validators, seal_keys, strict=True)
    )
    layout = Layout(parameters, Budget(ENTRY_BOUND, trainers_max=trainers_max, lanes=2))
    zero: Digest = bytes(32)
    return RoundTerms(zero, 1, zero, zero, os_random(32), seats, layout), validators, seal_keys


def _upload(run: Run, terms: RoundTerms, account: AccountKey, vector: Floats) -> Upload:
    """Be one trainer on a machine of its own: it expands the public matrix itself."""
    public_matrix.cache_clear()
    started = time.perf_counter()
    upload = make_upload(terms, account, _quantise(vector), Stream(os_random(32)))
    run.trainer_seconds.append(time.perf_counter() - started)
    run.bytes_up += size_of(upload)
    return upload


def size_of(upload: Upload) -> int:
    """Return the bytes of report, masked update and sealed boxes."""
    boxes = sum(len(box) for box in upload.boxes if box is not None)
    return len(upload.report.to_bytes()) + len(upload.ciphertext) + boxes


def _admit(run: Run, committee: Committee, upload: Upload, columns: list[list[SeatColumns]]) -> None:
    """Let every seat check the report and its own columns, each for itself."""
    for seat, (watch, key) in enumerate(zip(run.checking, committee.seal_keys, strict=True)):
        with watch.running():
            own = columns_of(committee.terms, upload, seat, key)
        columns[seat].append(own)


def columns_of(terms: RoundTerms, upload: Upload, seat: int, key: SealKey) -> SeatColumns:
    """Return one seat's columns of an upload, its report and they checked."""
    check_report(terms, upload.report)
    own = open_columns(terms, upload.report, seat, upload.boxes[seat], key)
    check_columns(terms, upload.report, seat, own)
    return own


def _quantise(vector: Floats) -> Integers:
    """Return the update as signed 16-bit steps of its public range [-8, 8], rounded to the nearest."""
    scaled = np.clip(vector, -CLIP, CLIP) * np.float32(ENTRY_BOUND / CLIP)
    steps: Integers = np.rint(scaled, out=scaled).astype(np.int64)
    return steps


def _max_error(mean: NDArray[np.floating], vectors: Sequence[Floats]) -> float:
    exact = np.zeros(mean.shape, np.float64)
    for vector in vectors:
        exact += vector
    return float(np.abs(mean - exact / len(vectors)).max())


# The peer's side


def _find_peer() -> ModuleType | None:
    """Return the peer's module, or None where Flower is missing."""
    try:
        return import_module("collegium.apps._secagg_peer")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "flwr":
            raise
        return None


def _measure_peer(case: Case, vectors: Sequence[Floats]) -> SecAggMeasure | None:
    peer = _find_peer()
    if peer is None:
        return None
    measure: SecAggMeasure = peer.measure_secagg(vectors, repeats=_peer_repeats(case))
    return measure


def _peer_repeats(case: Case) -> int:
    return PEER_REPEATS_LARGE if case.trainers * case.parameters > LARGE else REPEATS


# Rows


def case_rows(case: Case, ours: Measure, peer: SecAggMeasure | None) -> Iterator[Row]:
    """Yield a case's figures; where SecAgg+ has no counterpart, or is missing, the peer stays empty."""
    sent, memory, error = ours.bytes_up, ours.peak_memory_bytes / 1e6, ours.max_error * 1e6
    if peer is None:
        yield _figure("messages up", case, 1, None, "a trainer")
        yield _figure("bytes up", case, sent / 1e3, None, "kB a trainer")
        yield _figure("bytes up", case, sent / case.parameters, None, "B a parameter")
        yield _time("trainer", case, ours.trainer_seconds, None)
        yield _time("server: open", case, ours.opening_seconds, None)
    else:
        sent_peer, repeats = peer.bytes_up_per_client, _peer_repeats(case)
        client = Spread(peer.client_seconds, *peer.client_seconds_range, repeats)
        server = Spread(peer.server_seconds, *peer.server_seconds_range, repeats)
        yield _figure("messages up", case, 1, peer.exchanges, "a trainer")
        yield _figure("bytes up", case, sent / 1e3, sent_peer / 1e3, "kB a trainer")
        yield _figure("bytes up", case, sent / case.parameters, sent_peer / case.parameters, "B a parameter")
        yield _time("trainer", case, ours.trainer_seconds, client)
        yield _time("server: open", case, ours.opening_seconds, server)
    yield _time("check: one seat", case, ours.seat_seconds, None)
    yield _time("check: all seats", case, ours.seats_seconds, None)
    yield _figure("peak memory", case, memory, None if peer is None else peer.peak_memory_bytes / 1e6, "MB")
    yield _figure("error of mean", case, error, None if peer is None else peer.max_error * 1e6, "millionths, most")


def _figure(name: str, case: Case, ours: float, peer: float | None, unit: str) -> Row:
    return figure_row(name, case.name, ours, peer, unit)


def _time(name: str, case: Case, ours: Spread, peer: Spread | None) -> Row:
    """Return a row of medians in milliseconds; its unit holds the ranges, ours then the peer's."""
    ranges: list[str] = []
    bounds: Row = {}
    for side, spread in (("ours", ours), ("peer", peer)):
        if spread is not None:
            least, greatest = spread.least * 1e3, spread.greatest * 1e3
            bounds |= {f"{side}_min": least, f"{side}_max": greatest, f"{side}_runs": spread.runs}
            ranges.append(f"{least:,.3g}-{greatest:,.3g}" if greatest < 1000 else f"{least:,.0f}-{greatest:,.0f}")
    unit = f"ms {' | '.join(ranges)}"
    return _figure(name, case, ours.median * 1e3, None if peer is None else peer.median * 1e3, unit) | bounds
