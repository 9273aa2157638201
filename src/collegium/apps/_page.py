"""The report of a run as one HTML file that needs nothing else: no script, no font, no request.

The summary is what `collegium run --json` prints. It comes from a file, so nothing in it is trusted: every text is
escaped, every number is read as a number or refused. Equal summaries give equal bytes.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from collegium.apps._page_drawing import FRAME, Benches, Chart, Series, draw_bars, draw_benches, draw_lines
from collegium.errors import CollegiumError

LEVELS: Final = {
    "unproved": "the proof of learning is not there yet: a lying trainer can still submit any update",
    "bounded": "every update is proved to be small; that it comes from training on real data is not proved",
    "attested": "every update carries a hardware quote: who believes it believes the maker of the hardware",
    "proved": "every update comes with a proof that it is what the agreed rule gives on the registered data",
}
"""What each level of a task promises, as the page says it."""

SEATS_MAX: Final = 4096
INTEGER_MAX: Final = 2**63 - 1
_DIGEST_SHOWN: Final = 16
"""Hexadecimal digits of a model's digest in the table of rounds."""
JOULES_PER_KWH: Final = 3_600_000
ABSENT: Final = "–"
"""Stands where the summary has no value."""


class MalformedSummaryError(CollegiumError):
    """A value of the summary has another type, or another sign, than the page can show."""


@dataclass(frozen=True, slots=True)
class _Score:
    """One bar of the comparison: whose AUC, as text and as a share of the bar from `_AUC_LOW` to 1."""

    name: str
    words: str
    auc: str
    share: float
    own: bool


@dataclass(frozen=True, slots=True)
class _SeatRow:
    number: int
    validator: str
    state: str
    evidence: int


def render_page(summary: Mapping[str, Any]) -> str:
    """Return the report of a run as a self-contained HTML document.

    Args:
        summary: the object of `collegium run --json`; the keys and what each is shown as are in docs/spec/lineage.md,
            "The report page". Absent keys leave out what they would have shown.

    Raises:
        MalformedSummaryError: a value that is there has the wrong type, or is a negative count.
    """
    rounds = _rows(summary, "rounds")
    sites = _rows(summary, "sites")
    seats = _seat_rows(summary, rounds)
    level = _text(summary, "level") or "unproved"
    fields = {
        "name": _text(summary, "name") or "Unnamed task",
        "level": level,
        "promise": LEVELS.get(level, "this page does not know the level; read it as unproved"),
        "level_known": level in LEVELS,
        "auc": _decimals(_number(summary, "auc"), 3),
        "lede": _lede(summary, rounds, sites, len(seats)),
        "figures": _figures(summary, rounds),
        "scores": _scores(summary, sites),
        "auc_low": f"{_auc_low(summary, sites):.1f}",
        "benches": _benches(seats),
        "seats": seats,
        "validators_named": any(seat.validator for seat in seats),
        "frame": FRAME,
        "learning_charts": _learning_charts(rounds),
        "time_charts": _time_charts(rounds),
        "cost_charts": _cost_charts(rounds),
        "watts": ABSENT if (watts := _number(summary, "watts")) is None else f"{watts:,.6g}",
        "energy": _energy(_total(rounds, "energy_kwh")),
        "energy_of_seats": _energy(_total(rounds, "consensus_energy_kwh")),
        "proofs_known": any(_number(row, "proof_bytes") for row in rounds),
        "outcomes_known": any(_text(row, "outcome") for row in rounds),
        "checkpoints": [_checkpoint_row(row) for row in _rows(summary, "checkpoints")],
        "epochs": [_epoch_row(row) for row in _rows(summary, "epochs")],
        "sites": [_site_row(row) for row in sites],
        "alone_known": any(_number(row, "auc_alone") is not None for row in sites),
        "site_totals": [_grouped(_total(sites, key)) for key in ("train_rows", "test_rows", "trainers")],
        "round_rows": [_round_row(row) for row in rounds],
        "identities": _identities(summary, rounds),
        "model": _model(summary),
        "warnings": _texts(summary, "warnings"),
        "notes": _texts(summary, "notes"),
        "attribution": _text(summary, "attribution"),
    }
    return _environment().get_template("page.html.j2").render(fields)


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


# The parts of the page


def _lede(summary: Mapping[str, Any], rounds: Sequence[object], sites: Sequence[Mapping[str, Any]], seats: int) -> str:
    """Return the sentence below the title: who took part, and what was agreed."""
    trainers = _total(sites, "trainers")
    parts = []
    if sites:
        parts.append(_count(len(sites), "site"))
    if trainers:
        parts.append(_count(int(trainers), "trainer"))
    if seats:
        parts.append(f"a committee of {_count(seats, 'seat')}")
    agreed = f"agreed on {_count(len(rounds), 'round')} of training" if rounds else "has not finished a round yet"
    checkpoints = len(_rows(summary, "checkpoints"))
    anchored = f" and left {_count(checkpoints, 'checkpoint')} on the base chain" if checkpoints else ""
    who = _joined(parts) if rounds else ""
    return f"{who or 'This run'} {agreed}{anchored}."


def _figures(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return (label, value, unit) of the run's headline numbers; those that were not recorded are left out."""
    gas = [_number(row, "gas") for row in _rows(summary, "checkpoints")] or list(_numbers(summary, "checkpoint_gas"))
    energies = _column(rounds, "energy_kwh")
    joules = [None if energy is None else energy * JOULES_PER_KWH for energy in energies]
    accuracy = _number(summary, "accuracy")
    figures = [
        ("Accuracy", "" if accuracy is None else f"{100 * accuracy:.1f}", "%"),
        ("Coordination, median", _grouped(_median(_column(rounds, "coordination_ms"))), "ms"),
        ("Finality, median", _grouped(_median(_column(rounds, "finality_ms"))), "ms"),
        ("Making a proof, median", _grouped(_median(_column(rounds, "prove_ms"))), "ms"),
        ("Verifying a proof, median", _grouped(_median(_column(rounds, "verify_ms"))), "ms"),
        ("On chain a round, average", _grouped(_mean(_column(rounds, "chain_bytes"))), "bytes"),
        ("Gas a checkpoint, median", _grouped(_median(gas)), "gas"),
        ("Energy a round, estimate", _significant(_median(joules)), "J"),
    ]
    return [figure for figure in figures if figure[1] not in {"", ABSENT}]


def _auc_low(summary: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]) -> float:
    """Return where the comparison's bars start: a coin toss, or lower where something is worse than that."""
    aucs = [_number(summary, key) for key in ("auc", "auc_pooled", "auc_float32")]
    aucs += [_number(site, "auc_alone") for site in sites]
    return math.floor(10 * min([0.5, *(auc for auc in aucs if auc is not None)])) / 10


def _scores(summary: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]) -> list[_Score]:
    """Return the AUC of the federated model beside everything it can be held against."""
    low = _auc_low(summary, sites)
    rows = [
        ("This run", "federated: every row stayed at its site", _number(summary, "auc"), True),
        ("All data pooled", "the same rule on everybody's rows in one place", _number(summary, "auc_pooled"), False),
        ("Floating point", "the same rule in float32, not in integers", _number(summary, "auc_float32"), False),
    ]
    for site in sites:
        name = _text(site, "name") or ABSENT
        rows.append((f"{name} alone", "the same rule on its own rows", _number(site, "auc_alone"), False))
    return [
        _Score(name, words, _decimals(auc, 3), round(100 * (min(auc, 1.0) - low) / (1 - low), 2), own)
        for name, words, auc, own in rows
        if auc is not None
    ]


def _seat_rows(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> list[_SeatRow]:
    """Return one row a seat; the evidence against it is the number of rounds in which it was caught."""
    count = _number(summary, "seats")
    if count is None:
        return []
    if not 0 <= count <= SEATS_MAX or count != int(count):
        raise MalformedSummaryError(f"seats is {count}; expected an integer from 0 to {SEATS_MAX}", seats=count)
    validators = _texts(summary, "validators")
    lying, absent = set(_numbers(summary, "lying_seats")), set(_numbers(summary, "absent_seats"))
    rows = []
    for number in range(int(count)):
        evidence = sum(number in _numbers(row, "lying_seats") for row in rounds)
        state = "lying" if number in lying or evidence else "absent" if number in absent else "honest"
        rows.append(_SeatRow(number, validators[number] if number < len(validators) else "", state, evidence))
    return rows


def _benches(seats: Sequence[_SeatRow]) -> Benches | None:
    return draw_benches([seat.state for seat in seats]) if seats else None


def _learning_charts(rounds: Sequence[Mapping[str, Any]]) -> list[Chart]:
    numbers = _round_numbers(rounds)
    auc, accuracy, loss = (_column(rounds, key) for key in ("auc", "accuracy", "loss"))
    quality = draw_lines(
        "quality",
        "AUC and accuracy",
        f"By round, on the test rows. {_from_to('AUC', auc, 3)} {_from_to('Accuracy', accuracy, 3)}".strip(),
        "",
        numbers,
        (Series("AUC", auc), Series("accuracy", accuracy)),
        decimals=3,
    )
    losses = draw_lines(
        "loss",
        "Loss",
        f"By round, on the test rows; lower is better. {_from_to('Loss', loss, 3)}".strip(),
        "",
        numbers,
        (Series("loss", loss),),
        decimals=4,
    )
    return [chart for chart in (quality, losses) if chart is not None]


def _time_charts(rounds: Sequence[Mapping[str, Any]]) -> list[Chart]:
    changes = _column(rounds, "view_changes")
    numbers = _round_numbers(rounds)
    marks = [
        (index, f"round {numbers[index]}: {_count(int(change), 'view change')}")
        for index, change in enumerate(changes)
        if change
    ]
    coordination, finality = _column(rounds, "coordination_ms"), _column(rounds, "finality_ms")
    changed = _joined([words.split(":")[0] for _, words in marks])
    chart = draw_lines(
        "time",
        "Coordination and finality",
        f"Milliseconds by round. {_from_to('Coordination', coordination, 0)} {_from_to('Finality', finality, 0)} "
        + (f"View changes in {changed}." if changed else "No view changes."),
        "ms",
        numbers,
        (Series("finality", finality), Series("coordination", coordination)),
        decimals=0,
        from_zero=True,
        marks=marks,
    )
    return [] if chart is None else [chart]


def _cost_charts(rounds: Sequence[Mapping[str, Any]]) -> list[Chart]:
    numbers = _round_numbers(rounds)
    size = _column(rounds, "chain_bytes")
    joules = tuple(None if energy is None else energy * JOULES_PER_KWH for energy in _column(rounds, "energy_kwh"))
    on_chain = draw_bars(
        "bytes",
        "Bytes on the base chain",
        f"By round. {_from_to('Bytes', size, 0)}".strip(),
        "bytes",
        numbers,
        Series("bytes", size),
        decimals=0,
    )
    energy = draw_bars(
        "energy",
        "Energy, an estimate",
        f"Joules by round: measured processor seconds times an assumed power. {_from_to('Joules', joules, 2)}".strip(),
        "J",
        numbers,
        Series("energy", joules),
        decimals=2,
    )
    return [chart for chart in (on_chain, energy) if chart is not None]


def _checkpoint_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a checkpoint's cells. The contract refuses what it cannot verify, so gas that was paid says it did."""
    gas, stated = _number(row, "gas"), row.get("verified")
    first, last = _number(row, "first_round"), _number(row, "last_round")
    known, verified = stated is not None or bool(gas), stated is True or (stated is None and bool(gas))
    return {
        "rounds": _grouped(first) if first == last else f"{_grouped(first)} to {_grouped(last)}",
        "digest": _text(row, "digest") or ABSENT,
        "gas": _grouped(gas),
        "calldata_bytes": _grouped(_number(row, "calldata_bytes")),
        "verified": ("yes" if verified else "no") if known else ABSENT,
    }


def _epoch_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return an epoch's cells; runs of consecutive places are written as one."""
    members = sorted({int(place) for place in _numbers(row, "members")})
    starts = [place for place in members if place - 1 not in members]
    ends = [place for place in members if place + 1 not in members]
    spans = (str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
    return {
        "epoch": _grouped(_number(row, "epoch")),
        "first_round": _grouped(_number(row, "first_round")),
        "count": _grouped(len(members)),
        "members": ", ".join(spans) or ABSENT,
        "gas": _grouped(_number(row, "gas")),
    }


def _site_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": _text(row, "name") or ABSENT,
        "train_rows": _grouped(_number(row, "train_rows")),
        "test_rows": _grouped(_number(row, "test_rows")),
        "trainers": _grouped(_number(row, "trainers")),
        "auc_alone": _decimals(_number(row, "auc_alone"), 3),
    }


def _round_row(row: Mapping[str, Any]) -> dict[str, str]:
    energy = _number(row, "energy_kwh")
    lying = sorted(_numbers(row, "lying_seats"))
    return {
        "round": _grouped(_number(row, "round")),
        "outcome": _text(row, "outcome") or ABSENT,
        "admitted": _grouped(_number(row, "admitted")),
        "auc": _decimals(_number(row, "auc"), 3),
        "accuracy": _decimals(_number(row, "accuracy"), 3),
        "loss": _decimals(_number(row, "loss"), 4),
        "coordination": _grouped(_number(row, "coordination_ms")),
        "finality": _grouped(_number(row, "finality_ms")),
        "prove": _grouped(_number(row, "prove_ms")),
        "verify": _grouped(_number(row, "verify_ms")),
        "proof_bytes": _grouped(_number(row, "proof_bytes")),
        "view_changes": _grouped(_number(row, "view_changes")),
        "chain_bytes": _grouped(_number(row, "chain_bytes")),
        "energy": ABSENT if energy is None else _significant(energy * JOULES_PER_KWH),
        "lying": ", ".join(_grouped(seat) for seat in lying) or "none",
        "model": (_text(row, "model") or ABSENT)[:_DIGEST_SHOWN],
    }


def _model(summary: Mapping[str, Any]) -> str:
    """Return one line about the model; empty when the summary has none."""
    model = summary.get("model")
    if model is None:
        return ""
    if not isinstance(model, Mapping):
        raise MalformedSummaryError(f"model is {model!r}; expected an object", key="model")
    kinds = {"logistic": "logistic regression", "mlp": "neural network"}
    kind = _text(model, "kind") or ""
    parts = [kinds.get(kind, kind)]
    layers = _numbers(model, "hidden") if isinstance(model.get("hidden"), list) else [_number(model, "hidden") or 0]
    hidden = _joined([_grouped(units) for units in layers if units])
    inputs, parameters = _number(model, "inputs"), _number(model, "parameters")
    parts.append(_count(int(inputs), "input") if inputs else "")
    parts.append(f"{hidden} hidden units" if hidden else "")
    parts.append(_count(int(parameters), "parameter") if parameters else "")
    return ", ".join(part for part in parts if part)


def _identities(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (label, digest) of what a reader may want to compare with what they hold."""
    named = (("Task", "task"), ("Genesis block", "genesis"), ("Anchor on the base chain", "anchor"))
    found = [(label, _text(summary, key)) for label, key in named]
    found.append(("Model of the last round", _text(rounds[-1], "model") if rounds else None))
    return [(label, digest) for label, digest in found if digest]


# Reading: a value of the right type, None when it is absent, an error otherwise


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedSummaryError(f"{key} is {value!r}; expected text", key=key, value=value)
    return value


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    return [str(_text({key: value}, key)) for value in _list(row, key)]


def _number(row: Mapping[str, Any], key: str) -> float | int | None:
    """Return a number from 0 on; None for one that is absent, infinite or not a number."""
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MalformedSummaryError(f"{key} is {value!r}; expected a number", key=key, value=value)
    if value < 0 or (isinstance(value, int) and value > INTEGER_MAX):
        raise MalformedSummaryError(f"{key} is out of range; expected 0 to {INTEGER_MAX}", key=key, value=value)
    return value if math.isfinite(value) else None


def _numbers(row: Mapping[str, Any], key: str) -> list[float | int]:
    return [number for value in _list(row, key) if (number := _number({key: value}, key)) is not None]


def _rows(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = _list(row, key)
    for value in rows:
        if not isinstance(value, Mapping):
            raise MalformedSummaryError(f"{key} holds {value!r}; expected objects", key=key, value=value)
    return rows


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise MalformedSummaryError(f"{key} is {value!r}; expected a list", key=key, value=value)
    return list(value)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[float | None, ...]:
    return tuple(_number(row, key) for row in rows)


def _round_numbers(rounds: Sequence[Mapping[str, Any]]) -> list[int]:
    numbers = _column(rounds, "round")
    return [index if number is None else int(number) for index, number in enumerate(numbers, start=1)]


def _total(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    present = [number for number in _column(rows, key) if number is not None]
    return sum(present) if present else None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _median(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


# Writing: the same number gives the same characters everywhere


def _grouped(number: float | None) -> str:
    """Return a whole number with commas between thousands."""
    return ABSENT if number is None else f"{number:,.0f}"


def _decimals(number: float | None, digits: int) -> str:
    return ABSENT if number is None else f"{number:.{digits}f}"


def _significant(number: float | None) -> str:
    """Return a number with three significant digits, as a power of ten where it is very small or large."""
    if number is None:
        return ABSENT
    if number == 0:
        return "0"
    mantissa, exponent = f"{number:.2e}".split("e")
    if -3 <= int(exponent) < 6:
        return f"{number:,.{max(0, 2 - int(exponent))}f}"
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _energy(kwh: float | None) -> str:
    return "" if kwh is None else f"{_significant(kwh * JOULES_PER_KWH)} J ({_significant(kwh)} kWh)"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _from_to(name: str, values: Sequence[float | None], digits: int) -> str:
    """Return how a row of values begins and ends, in words, for who cannot see the line."""
    present = [value for value in values if value is not None]
    if not present:
        return ""
    return f"{name}: {present[0]:,.{digits}f} at first, {present[-1]:,.{digits}f} at last."
