"""The report of a run as one HTML file that needs nothing else: no script, no font, no request.

The summary is what `collegium run --json` prints. It comes from a file, so nothing in it is trusted: every text is
escaped, every number is read as a number or refused. Equal summaries give equal bytes.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from collegium.apps._page_drawing import FRAME, Benches, Chart, Series, draw_bars, draw_benches, draw_lines
from collegium.apps._page_quality import quality_fields
from collegium.apps._page_values import (
    ABSENT,
    JOULES_PER_KWH,
    MalformedSummaryError,
    count_text,
    decimals,
    energy_text,
    from_to,
    grouped,
    joined,
    mean_of,
    median_of,
    read_column,
    read_number,
    read_numbers,
    read_rows,
    read_text,
    read_texts,
    round_numbers,
    significant,
    total_of,
)

LEVELS: Final = {
    "unproved": "nothing is proved about an update: a lying trainer can submit any",
    "bounded": "every update is proved to be small; that it comes from training on real data is not proved",
    "attested": "every update carries a hardware quote: who believes it believes the maker of the hardware",
    "proved": "every update comes with a proof that it is what the agreed rule gives on the registered data",
}
"""What each level of a task promises, as the page says it."""

SEATS_MAX: Final = 4096
_DIGEST_SHOWN: Final = 16
"""Hexadecimal digits of a model's digest in the table of rounds."""


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
    rounds = read_rows(summary, "rounds")
    sites = read_rows(summary, "sites")
    seats = _seat_rows(summary, rounds)
    level = read_text(summary, "level") or "unproved"
    fields = {
        "name": read_text(summary, "name") or "Unnamed task",
        "level": level,
        "promise": LEVELS.get(level, "this page does not know the level; read it as unproved"),
        "level_known": level in LEVELS,
        "auc": decimals(read_number(summary, "auc"), 3),
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
        "watts": ABSENT if (watts := read_number(summary, "watts")) is None else f"{watts:,.6g}",
        "energy": energy_text(total_of(rounds, "energy_kwh")),
        "energy_of_seats": energy_text(total_of(rounds, "consensus_energy_kwh")),
        "proofs_known": any(read_number(row, "proof_bytes") for row in rounds),
        "outcomes_known": any(read_text(row, "outcome") for row in rounds),
        "checkpoints": [_checkpoint_row(row) for row in read_rows(summary, "checkpoints")],
        "epochs": [_epoch_row(row) for row in read_rows(summary, "epochs")],
        "sites": [_site_row(row) for row in sites],
        "alone_known": any(read_number(row, "auc_alone") is not None for row in sites),
        "site_totals": [grouped(total_of(sites, key)) for key in ("train_rows", "test_rows", "trainers")],
        "round_rows": [_round_row(row) for row in rounds],
        "identities": _identities(summary, rounds),
        "model": _model(summary),
        "warnings": read_texts(summary, "warnings"),
        "notes": read_texts(summary, "notes"),
        "attribution": read_text(summary, "attribution"),
    }
    fields |= quality_fields(summary, rounds)
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
    trainers = total_of(sites, "trainers")
    parts = []
    if sites:
        parts.append(count_text(len(sites), "site"))
    if trainers:
        parts.append(count_text(int(trainers), "trainer"))
    if seats:
        parts.append(f"a committee of {count_text(seats, 'seat')}")
    agreed = f"agreed on {count_text(len(rounds), 'round')} of training" if rounds else "has not finished a round yet"
    checkpoints = len(read_rows(summary, "checkpoints"))
    anchored = f" and left {count_text(checkpoints, 'checkpoint')} on the base chain" if checkpoints else ""
    who = joined(parts) if rounds else ""
    return f"{who or 'This run'} {agreed}{anchored}."


def _figures(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return (label, value, unit) of the run's headline numbers; those that were not recorded are left out."""
    gas = [read_number(row, "gas") for row in read_rows(summary, "checkpoints")] or list(
        read_numbers(summary, "checkpoint_gas")
    )
    energies = read_column(rounds, "energy_kwh")
    joules = [None if energy is None else energy * JOULES_PER_KWH for energy in energies]
    accuracy = read_number(summary, "accuracy")
    figures = [
        ("Accuracy", "" if accuracy is None else f"{100 * accuracy:.1f}", "%"),
        ("Coordination, median", grouped(median_of(read_column(rounds, "coordination_ms"))), "ms"),
        ("Finality, median", grouped(median_of(read_column(rounds, "finality_ms"))), "ms"),
        ("Making a proof, median", grouped(median_of(read_column(rounds, "prove_ms"))), "ms"),
        ("Verifying a proof, median", grouped(median_of(read_column(rounds, "verify_ms"))), "ms"),
        ("On chain a round, average", grouped(mean_of(read_column(rounds, "chain_bytes"))), "bytes"),
        ("Gas a checkpoint, median", grouped(median_of(gas)), "gas"),
        ("Energy a round, estimate", significant(median_of(joules)), "J"),
    ]
    return [figure for figure in figures if figure[1] not in {"", ABSENT}]


def _auc_low(summary: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]) -> float:
    """Return where the comparison's bars start: a coin toss, or lower where something is worse than that."""
    aucs = [read_number(summary, key) for key in ("auc", "auc_pooled", "auc_float32")]
    aucs += [read_number(site, "auc_alone") for site in sites]
    return math.floor(10 * min([0.5, *(auc for auc in aucs if auc is not None)])) / 10


def _scores(summary: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]) -> list[_Score]:
    """Return the AUC of the federated model beside everything it can be held against."""
    low = _auc_low(summary, sites)
    rows = [
        ("This run", "federated: every row stayed at its site", read_number(summary, "auc"), True),
        (
            "All data pooled",
            "the same rule on everybody's rows in one place",
            read_number(summary, "auc_pooled"),
            False,
        ),
        ("Floating point", "the same rule in float32, not in integers", read_number(summary, "auc_float32"), False),
    ]
    for site in sites:
        name = read_text(site, "name") or ABSENT
        rows.append((f"{name} alone", "the same rule on its own rows", read_number(site, "auc_alone"), False))
    return [
        _Score(name, words, decimals(auc, 3), round(100 * (min(auc, 1.0) - low) / (1 - low), 2), own)
        for name, words, auc, own in rows
        if auc is not None
    ]


def _seat_rows(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> list[_SeatRow]:
    """Return one row a seat; the evidence against it is the number of rounds in which it was caught."""
    count = read_number(summary, "seats")
    if count is None:
        return []
    if not 0 <= count <= SEATS_MAX or count != int(count):
        raise MalformedSummaryError(f"seats is {count}; expected an integer from 0 to {SEATS_MAX}", seats=count)
    validators = read_texts(summary, "validators")
    lying, absent = set(read_numbers(summary, "lying_seats")), set(read_numbers(summary, "absent_seats"))
    rows = []
    for number in range(int(count)):
        evidence = sum(number in read_numbers(row, "lying_seats") for row in rounds)
        state = "lying" if number in lying or evidence else "absent" if number in absent else "honest"
        rows.append(_SeatRow(number, validators[number] if number < len(validators) else "", state, evidence))
    return rows


def _benches(seats: Sequence[_SeatRow]) -> Benches | None:
    return draw_benches([seat.state for seat in seats]) if seats else None


def _learning_charts(rounds: Sequence[Mapping[str, Any]]) -> list[Chart]:
    numbers = round_numbers(rounds)
    auc, accuracy, loss = (read_column(rounds, key) for key in ("auc", "accuracy", "loss"))
    quality = draw_lines(
        "quality",
        "AUC and accuracy",
        f"By round, on the test rows. {from_to('AUC', auc, 3)} {from_to('Accuracy', accuracy, 3)}".strip(),
        "",
        numbers,
        (Series("AUC", auc), Series("accuracy", accuracy)),
        decimals=3,
    )
    losses = draw_lines(
        "loss",
        "Loss",
        f"By round, on the test rows; lower is better. {from_to('Loss', loss, 3)}".strip(),
        "",
        numbers,
        (Series("loss", loss),),
        decimals=4,
    )
    return [chart for chart in (quality, losses) if chart is not None]


def _time_charts(rounds: Sequence[Mapping[str, Any]]) -> list[Chart]:
    changes = read_column(rounds, "view_changes")
    numbers = round_numbers(rounds)
    marks = [
        (index, f"round {numbers[index]}: {count_text(int(change), 'view change')}")
        for index, change in enumerate(changes)
        if change
    ]
    coordination, finality = read_column(rounds, "coordination_ms"), read_column(rounds, "finality_ms")
    changed = joined([words.split(":")[0] for _, words in marks])
    chart = draw_lines(
        "time",
        "Coordination and finality",
        f"Milliseconds by round. {from_to('Coordination', coordination, 0)} {from_to('Finality', finality, 0)} "
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
    numbers = round_numbers(rounds)
    size = read_column(rounds, "chain_bytes")
    joules = tuple(None if energy is None else energy * JOULES_PER_KWH for energy in read_column(rounds, "energy_kwh"))
    on_chain = draw_bars(
        "bytes",
        "Bytes on the base chain",
        f"By round. {from_to('Bytes', size, 0)}".strip(),
        "bytes",
        numbers,
        Series("bytes", size),
        decimals=0,
    )
    energy = draw_bars(
        "energy",
        "Energy, an estimate",
        f"Joules by round: measured processor seconds times an assumed power. {from_to('Joules', joules, 2)}".strip(),
        "J",
        numbers,
        Series("energy", joules),
        decimals=2,
    )
    return [chart for chart in (on_chain, energy) if chart is not None]


def _checkpoint_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a checkpoint's cells. The contract refuses what it cannot verify, so gas that was paid says it did."""
    gas, stated = read_number(row, "gas"), row.get("verified")
    first, last = read_number(row, "first_round"), read_number(row, "last_round")
    known, verified = stated is not None or bool(gas), stated is True or (stated is None and bool(gas))
    return {
        "rounds": grouped(first) if first == last else f"{grouped(first)} to {grouped(last)}",
        "digest": read_text(row, "digest") or ABSENT,
        "gas": grouped(gas),
        "calldata_bytes": grouped(read_number(row, "calldata_bytes")),
        "verified": ("yes" if verified else "no") if known else ABSENT,
    }


def _epoch_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return an epoch's cells; runs of consecutive places are written as one."""
    members = sorted({int(place) for place in read_numbers(row, "members")})
    starts = [place for place in members if place - 1 not in members]
    ends = [place for place in members if place + 1 not in members]
    spans = (str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
    return {
        "epoch": grouped(read_number(row, "epoch")),
        "first_round": grouped(read_number(row, "first_round")),
        "count": grouped(len(members)),
        "members": ", ".join(spans) or ABSENT,
        "gas": grouped(read_number(row, "gas")),
    }


def _site_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": read_text(row, "name") or ABSENT,
        "train_rows": grouped(read_number(row, "train_rows")),
        "test_rows": grouped(read_number(row, "test_rows")),
        "trainers": grouped(read_number(row, "trainers")),
        "auc_alone": decimals(read_number(row, "auc_alone"), 3),
    }


def _round_row(row: Mapping[str, Any]) -> dict[str, str]:
    energy = read_number(row, "energy_kwh")
    lying = sorted(read_numbers(row, "lying_seats"))
    return {
        "round": grouped(read_number(row, "round")),
        "outcome": read_text(row, "outcome") or ABSENT,
        "admitted": grouped(read_number(row, "admitted")),
        "auc": decimals(read_number(row, "auc"), 3),
        "accuracy": decimals(read_number(row, "accuracy"), 3),
        "loss": decimals(read_number(row, "loss"), 4),
        "coordination": grouped(read_number(row, "coordination_ms")),
        "finality": grouped(read_number(row, "finality_ms")),
        "prove": grouped(read_number(row, "prove_ms")),
        "verify": grouped(read_number(row, "verify_ms")),
        "proof_bytes": grouped(read_number(row, "proof_bytes")),
        "view_changes": grouped(read_number(row, "view_changes")),
        "chain_bytes": grouped(read_number(row, "chain_bytes")),
        "energy": ABSENT if energy is None else significant(energy * JOULES_PER_KWH),
        "lying": ", ".join(grouped(seat) for seat in lying) or "none",
        "model": (read_text(row, "model") or ABSENT)[:_DIGEST_SHOWN],
    }


def _model(summary: Mapping[str, Any]) -> str:
    """Return one line about the model; empty when the summary has none."""
    model = summary.get("model")
    if model is None:
        return ""
    if not isinstance(model, Mapping):
        raise MalformedSummaryError(f"model is {model!r}; expected an object", key="model")
    kinds = {"logistic": "logistic regression", "mlp": "neural network"}
    kind = read_text(model, "kind") or ""
    parts = [kinds.get(kind, kind)]
    layers = (
        read_numbers(model, "hidden") if isinstance(model.get("hidden"), list) else [read_number(model, "hidden") or 0]
    )
    hidden = joined([grouped(units) for units in layers if units])
    inputs, parameters = read_number(model, "inputs"), read_number(model, "parameters")
    parts.append(count_text(int(inputs), "input") if inputs else "")
    parts.append(f"{hidden} hidden units" if hidden else "")
    parts.append(count_text(int(parameters), "parameter") if parameters else "")
    return ", ".join(part for part in parts if part)


def _identities(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (label, digest) of what a reader may want to compare with what they hold."""
    named = (("Task", "task"), ("Genesis block", "genesis"), ("Anchor on the base chain", "anchor"))
    found = [(label, read_text(summary, key)) for label, key in named]
    found.append(("Model of the last round", read_text(rounds[-1], "model") if rounds else None))
    return [(label, digest) for label, digest in found if digest]
