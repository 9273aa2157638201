"""The part of the report page about trainers: what stewards made of them, what they earned, who was told to attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from collegium.apps._page_drawing import Chart, Series, draw_lines
from collegium.apps._page_values import (
    ABSENT,
    decimals,
    from_to,
    grouped,
    mean_of,
    read_number,
    read_object,
    read_rows,
    read_text,
    round_numbers,
)

__all__ = ["quality_fields"]

TRAINERS_SHOWN_MAX: Final = 64  # columns of the table of influence
WEI_PER_COIN: Final = 10**18

Row = Mapping[str, Any]


def quality_fields(summary: Row, rounds: Sequence[Row]) -> dict[str, Any]:
    """Return what the template's section about trainers shows; nothing of a run without stewards or attackers."""
    attacks = {read_text(row, "name"): read_text(row, "kind") or "" for row in read_rows(summary, "attackers")}
    earned = {read_text(row, "trainer"): _coins(row) for row in read_rows(summary, "earnings")}
    told = [(row, read_object(row, "quality")) for row in rounds]
    weighed = [(row, read_rows(entry, "trainers")) for row, entry in told]
    weighed = [(row, trainers) for row, trainers in weighed if trainers]
    names = [read_text(trainer, "name") or ABSENT for trainer in weighed[-1][1]] if weighed else []
    points = dict.fromkeys(names, 0.0)
    for _, trainers in weighed:
        for trainer in trainers:
            name = read_text(trainer, "name") or ABSENT
            points[name] = points.get(name, 0) + (read_number(trainer, "points") or 0)
    shown = 0 < len(names) <= TRAINERS_SHOWN_MAX
    return {
        "trainer_rows": [_trainer_row(trainer, weighed, attacks, earned, points) for trainer in weighed[-1][1]]
        if weighed
        else [],
        "attackers": [f"{name} ({kind})" for name, kind in attacks.items()],
        "rewards_known": bool(earned),
        "quality_charts": _charts(rounds, told, frozenset(attacks)) if weighed else [],
        "influence_names": names if shown else [],
        "influence_rows": [_influence_row(row, trainers) for row, trainers in weighed] if shown else [],
    }


def _coins(row: Row) -> str:
    """Return a reward in coins of 10^18 wei; the amount is text, since it may be larger than the page's numbers."""
    text = read_text(row, "wei") or ""
    return f"{int(text) / WEI_PER_COIN:.6g}" if text.isascii() and text.isdigit() and len(text) <= 40 else ABSENT


def _trainer_row(
    last: Row,
    weighed: Sequence[tuple[Row, Sequence[Row]]],
    attacks: Mapping[str | None, str],
    earned: Mapping[str | None, str],
    points: Mapping[str, float],
) -> dict[str, Any]:
    """Return a trainer's cells. A state is a word, so that no colour has to be seen."""
    name, weight = read_text(last, "name"), read_number(last, "weight")
    out = [row.get("locked") is True for _, trainers in weighed for row in trainers if read_text(row, "name") == name]
    locks = sum(now and not before for before, now in zip([False, *out], out, strict=False))
    state = "locked out" if out[-1] else "on probation" if last.get("probation") is True else "counts"
    if state == "counts" and weight == 0:
        state = "no influence"
    most = max(points.values())
    return {
        "name": name or ABSENT,
        "attack": attacks.get(name, ""),
        "weight": grouped(weight),
        "points": decimals(points[name or ABSENT], 3),
        "share": round(100 * points[name or ABSENT] / most, 2) if most else 0,
        "locks": grouped(locks),
        "state": state,
        "reward": earned.get(name, "0" if earned else ABSENT),
    }


def _charts(rounds: Sequence[Row], told: Sequence[tuple[Row, Row]], attackers: frozenset[str | None]) -> list[Chart]:
    """Return influence by round, of the honest and of attackers where the run knows who they are, and model scores."""
    numbers = round_numbers(rounds)
    groups = (("honest", False), ("attackers", True)) if attackers else (("trainers", False),)
    lines = [
        Series(words, tuple(_mean_weight(read_rows(entry, "trainers"), attackers, bad) for _, entry in told))
        for words, bad in groups
    ]
    said = " ".join(from_to(line.name.capitalize(), line.values, 1) for line in lines)
    influence = draw_lines(
        "influence",
        "Influence",
        f"By round, a report's weight in the sum, the mean. {said}".strip(),
        "",
        numbers,
        tuple(lines),
        decimals=1,
        from_zero=True,
    )
    scores = tuple(read_number(read_object(entry, "model_score"), "correct") for _, entry in told)
    model = draw_lines(
        "model-score",
        "What stewards say of the model",
        f"By round, the median share of hidden rows classified right. {from_to('Share', scores, 3)}".strip(),
        "",
        numbers,
        (Series("hidden rows", scores),),
        decimals=3,
    )
    return [chart for chart in (influence, model) if chart is not None]


def _mean_weight(trainers: Sequence[Row], attackers: frozenset[str | None], bad: bool) -> float | None:
    chosen = [row for row in trainers if (read_text(row, "name") in attackers) is bad]
    return mean_of([read_number(row, "weight") for row in chosen])


def _influence_row(row: Row, trainers: Sequence[Row]) -> dict[str, Any]:
    """Return a round's cells: each trainer's weight, the points that its report earned, and what else there is."""
    cells = [
        (
            grouped(read_number(trainer, "weight")),
            decimals(read_number(trainer, "points"), 2),
            _remarks(trainer),
        )
        for trainer in trainers
    ]
    return {"round": grouped(read_number(row, "round")), "cells": cells}


def _remarks(trainer: Row) -> str:
    """Return in words how often a trainer was drawn, unless once, and whether it is locked out from then on."""
    drawn = read_number(trainer, "drawn")
    times = "" if drawn in (None, 1) else ", drawn twice" if drawn == 2 else f", drawn {drawn:.0f} times"
    return (", not drawn" if drawn == 0 else times) + (", out" if trainer.get("locked") is True else "")
