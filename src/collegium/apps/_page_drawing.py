"""Where things go in the drawings of the report page: seats on their benches, lines and bars by round.

Only numbers are made here; the templates turn them into SVG. All positions are in the drawing's own units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_SEATS_WIDTH: Final = 440
_BENCH_OUTER: Final = 196.0
_BENCHES_DEPTH: Final = 78.0
_BENCH_STEP_MAX: Final = 40.0
_SEAT_RADIUS_MAX: Final = 17.0
_SEATS_ON_BENCHES: Final = (18, 40, 72, 120)
"""The largest committees that fit on one, two, three and four benches."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Size and margins of a chart: room for the scale, the names at the ends of lines, and the rounds below."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


FRAME: Final = Frame(width=520, height=236, left=60, right=92, top=18, bottom=40)


@dataclass(frozen=True, slots=True)
class Seat:
    """One place on a bench: its number, its state, and where its mark stands."""

    number: int
    state: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Benches:
    """A committee drawn as a half circle, seat 0 at the left end.

    Attributes:
        radius: half the width of a seat's mark.
        room: radius of the half circle left free in the middle.
    """

    width: float
    height: float
    radius: float
    room: float
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A value of a scale, as text, and its position along it."""

    position: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One value by round, with the words shown when a reader points at it."""

    x: float
    y: float
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of values by round; `path` breaks where a round has none."""

    name: str
    path: str
    points: tuple[Point, ...]
    label_y: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One value by round, drawn from the zero line."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of values by round with everything a template needs; `bars` or `lines` is empty."""

    key: str
    title: str
    description: str
    unit: str
    columns: tuple[Tick, ...]
    scale: tuple[Tick, ...]
    lines: tuple[Line, ...]
    bars: tuple[Bar, ...]
    marks: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Named values, one a round, None where a round has none."""

    name: str
    values: tuple[float | None, ...]


def draw_benches(states: Sequence[str]) -> Benches:
    """Return the committee's seats on one to five concentric benches, numbered from left to right."""
    count = len(states)
    bench_count = 1 + sum(count > most for most in _SEATS_ON_BENCHES)
    step = min(_BENCH_STEP_MAX, _BENCHES_DEPTH / max(1, bench_count - 1))
    radii = [_BENCH_OUTER - bench * step for bench in range(bench_count)]
    places = []
    for radius, on_bench in zip(radii, _share(count, radii), strict=True):
        for index in range(on_bench):
            turn = math.pi * (1 - (index + 0.5) / on_bench)
            places.append((-turn, _SEATS_WIDTH / 2 + radius * math.cos(turn), 216 - radius * math.sin(turn)))
    gap = min((math.pi * r / n for r, n in zip(radii, _share(count, radii), strict=True) if n), default=99.0)
    radius = min(_SEAT_RADIUS_MAX, 0.42 * gap, 0.42 * step if bench_count > 1 else 99.0)
    seats = (Seat(number, states[number], x, y) for number, (_, x, y) in enumerate(sorted(places)))
    return Benches(_SEATS_WIDTH, 250, radius, radii[-1] - radius, tuple(seats))


def draw_lines(
    key: str,
    title: str,
    description: str,
    unit: str,
    rounds: Sequence[int],
    series: Sequence[Series],
    *,
    decimals: int,
    from_zero: bool = False,
    marks: Sequence[tuple[int, str]] = (),
) -> Chart | None:
    """Return a chart of one line a series; None when no series has a value.

    Args:
        key: part of the ids of its title and description.
        rounds: the round number of each value.
        decimals: digits after the point in what a reader sees.
        from_zero: whether the scale starts at 0, rather than near the least value.
        marks: (index of a round, words) to point out.
    """
    drawn = [one for one in series if any(value is not None for value in one.values)]
    values = [value for one in drawn for value in one.values if value is not None]
    if not values:
        return None
    low, high, step = _scale(0.0 if from_zero else min(values), max(values))
    xs = _columns(len(rounds))
    lines = []
    for one in drawn:
        points = [
            None
            if value is None
            else Point(x, _height(value, low, high), f"round {number}: {one.name} {value:,.{decimals}f} {unit}".strip())
            for x, number, value in zip(xs, rounds, one.values, strict=True)
        ]
        present = tuple(point for point in points if point is not None)
        lines.append(Line(one.name, _path(points), present, present[-1].y))
    noted = tuple(Point(xs[index], FRAME.top, words) for index, words in marks)
    return Chart(
        key,
        title,
        description,
        unit,
        _round_ticks(rounds, xs),
        _scale_ticks(low, high, step),
        _apart(lines),
        (),
        noted,
    )


def draw_bars(
    key: str, title: str, description: str, unit: str, rounds: Sequence[int], series: Series, *, decimals: int
) -> Chart | None:
    """Return a chart of one bar a round, always from 0; None when no round has a value. Arguments as `draw_lines`."""
    values = [value for value in series.values if value is not None]
    if not values:
        return None
    low, high, step = _scale(0.0, max(values))
    xs = _columns(len(rounds))
    width = min(26.0, 0.7 * (FRAME.width - FRAME.left - FRAME.right) / len(rounds))
    bars = []
    for x, number, value in zip(xs, rounds, series.values, strict=True):
        if value is not None:
            y = _height(value, low, high)
            words = f"round {number}: {value:,.{decimals}f} {unit}"
            bars.append(Bar(x - width / 2, y, width, FRAME.height - FRAME.bottom - y, words))
    return Chart(
        key,
        title,
        description,
        unit,
        _round_ticks(rounds, xs),
        _scale_ticks(low, high, step),
        (),
        tuple(bars),
        (),
    )


def _share(count: int, radii: Sequence[float]) -> list[int]:
    """Return how many of `count` seats each bench gets, in proportion to its length."""
    total, shares, given = sum(radii), [], 0
    reach = 0.0
    for radius in radii:
        reach += radius
        shares.append(round(count * reach / total) - given)
        given += shares[-1]
    return shares


def _columns(count: int) -> list[float]:
    """Return the x position of each round, half a column away from the edges."""
    span = FRAME.width - FRAME.left - FRAME.right
    return [FRAME.left + span * (index + 0.5) / count for index in range(count)]


def _height(value: float, low: float, high: float) -> float:
    return FRAME.height - FRAME.bottom - (FRAME.height - FRAME.top - FRAME.bottom) * (value - low) / (high - low)


def _scale(least: float, most: float) -> tuple[float, float, float]:
    """Return bounds and step of a scale in steps of 1, 2 or 5 times a power of ten."""
    spread = most - least or abs(most) or 1.0
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= spread / 4 * 0.999)
    low = math.floor(least / step + 1e-9) * step
    high = math.ceil(most / step - 1e-9) * step
    return low, max(high, low + step), step


def _scale_ticks(low: float, high: float, step: float) -> tuple[Tick, ...]:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [low + index * step for index in range(round((high - low) / step) + 1)]
    return tuple(Tick(_height(value, low, high), f"{value + 0.0:,.{decimals}f}") for value in values)


def _round_ticks(rounds: Sequence[int], xs: Sequence[float]) -> tuple[Tick, ...]:
    """Return at most about ten of the rounds, evenly spaced, the first among them."""
    stride = -(-len(rounds) // 10)
    return tuple(Tick(x, str(number)) for x, number in list(zip(xs, rounds, strict=True))[::stride])


def _path(points: Sequence[Point | None]) -> str:
    """Return an SVG path through the points that starts anew after each gap."""
    parts, command = [], "M"
    for point in points:
        if point is None:
            command = "M"
        else:
            parts.append(f"{command}{point.x:.1f} {point.y:.1f}")
            command = "L"
    return " ".join(parts)


def _apart(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Return the lines with their names moved apart where they would overlap."""
    placed: list[Line] = []
    for line in sorted(lines, key=lambda one: one.label_y):
        y = max(line.label_y, placed[-1].label_y + 16) if placed else line.label_y
        placed.append(Line(line.name, line.path, line.points, y))
    by_name = {line.name: line for line in placed}
    return tuple(by_name[line.name] for line in lines)
