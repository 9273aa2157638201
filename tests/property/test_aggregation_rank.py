"""The rank of everything released about the key: exact linear algebra at reduced parameters.

The view of an adversary is a set of linear forms in the unknowns (messages and pads of every honest trainer's rows). It
learns the forms of the messages that lie in the span: rank(view) - rank(view restricted to the pads). The argument at
full size is in docs/spec/aggregation.md, section 5; here the same structure is small enough to compute.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

PRIME = 2**31 - 1
MESSAGE_LEN = 4  # k
KEY_ROWS = 2
SEATS = 8
WIDTH = 2  # columns a seat owns


@dataclass(frozen=True)
class View:
    """What is given out. Counts of colluding seats, audited columns, honest trainers, and released row sums.

    `outside` counts the symbols that a proof tells of every row: two for its value at one point of the extension. Here
    they are values at two further points, which are as many linear forms in as general a position.
    """

    colluding: int
    audits: int
    honest: int
    pads: int  # t
    sums: bool = True
    mask_rows_summed: bool = False
    outside: int = 2


def _rank(rows: list[list[int]]) -> int:
    rows = [row[:] for row in rows]
    rank = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        inverse = pow(rows[rank][column], -1, PRIME)
        rows[rank] = [value * inverse % PRIME for value in rows[rank]]
        for i in range(rank + 1, len(rows)):
            if factor := rows[i][column]:
                rows[i] = [(a - factor * b) % PRIME for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def _evaluation_form(point: int, pads: int) -> list[int]:
    """Return the coefficients of p(point) = sum_i L_i(point) m_i + Z(point) sum_j point^j r_j."""
    nodes = range(1, MESSAGE_LEN + 1)
    form, vanishing = [], 1
    for i in nodes:
        value = 1
        for j in nodes:
            if j != i:
                value = value * (point - j) * pow(i - j, -1, PRIME) % PRIME
        form.append(value)
        vanishing = vanishing * (point - i) % PRIME
    return form + [vanishing * pow(point, j, PRIME) % PRIME for j in range(pads)]


def _learned(view: View, seed: int) -> int:
    """Return how many independent linear forms of the honest trainers' key messages the view determines."""
    rng = random.Random(seed)
    row_len = MESSAGE_LEN + view.pads
    rows_each = KEY_ROWS + 1  # and one mask row
    unknowns = view.honest * rows_each * row_len
    forms: list[list[int]] = []

    def form(parts: list[tuple[int, int, list[int]]]) -> None:
        out = [0] * unknowns
        for trainer, row, values in parts:
            start = (trainer * rows_each + row) * row_len
            for offset, value in enumerate(values):
                out[start + offset] = (out[start + offset] + value) % PRIME
        forms.append(out)

    seat_points = [1000 + i for i in range(view.colluding * WIDTH)]
    for trainer in range(view.honest):
        for point in seat_points + rng.sample(range(5000, 9000), view.audits + view.outside):
            for row in range(rows_each):
                form([(trainer, row, _evaluation_form(point, view.pads))])
        factors = [rng.randrange(PRIME) for _ in range(KEY_ROWS)]
        for at in range(row_len):  # the published combination, coefficient by coefficient
            unit = [int(i == at) for i in range(row_len)]
            scaled = [(trainer, row, [factors[row] * v % PRIME for v in unit]) for row in range(KEY_ROWS)]
            form([*scaled, (trainer, KEY_ROWS, unit)])
    if view.sums:
        for row in range(KEY_ROWS + int(view.mask_rows_summed)):
            for at in range(row_len):
                unit = [int(i == at) for i in range(row_len)]
                form([(trainer, row, unit) for trainer in range(view.honest)])

    def is_message(index: int) -> bool:
        row, offset = divmod(index, row_len)
        return row % rows_each < KEY_ROWS and offset < MESSAGE_LEN

    messages = [i for i in range(unknowns) if is_message(i)]
    rest = [i for i in range(unknowns) if not is_message(i)]
    return _rank([[f[i] for i in messages + rest] for f in forms]) - _rank([[f[i] for i in rest] for f in forms])


HALF = SEATS // 2
OUTSIDE = 2
SUM_ONLY = KEY_ROWS * MESSAGE_LEN  # the opened key sum itself


@pytest.mark.parametrize("colluding", range(HALF + 1))
def test_half_of_the_seats_and_an_audit_carry_nothing_about_a_key(colluding: int) -> None:
    audits = 2
    view = View(colluding, audits, honest=1, pads=HALF * WIDTH + 2 * (audits + OUTSIDE), sums=False)
    assert _learned(view, seed=colluding) == 0


@pytest.mark.parametrize("honest", [2, 3])
def test_with_the_opened_sum_they_learn_the_sum_and_nothing_else(honest: int) -> None:
    audits = 2
    view = View(HALF, audits, honest, pads=HALF * WIDTH + 2 * (audits + OUTSIDE))
    assert _learned(view, seed=honest) == SUM_ONLY


def test_one_seat_more_than_half_learns_more() -> None:
    audits = 2
    view = View(HALF + 2, audits, honest=1, pads=HALF * WIDTH + audits + OUTSIDE, sums=False)
    assert _learned(view, seed=1) > 0


def test_pads_for_one_audit_only_leak_through_the_opened_sum() -> None:
    """t = half + q + 2 is not enough: with the sum open, two honest trainers' audits combine. Hence twice q + 2."""
    audits = 2
    view = View(HALF, audits, honest=2, pads=HALF * WIDTH + audits + OUTSIDE)
    assert _learned(view, seed=2) > SUM_ONLY


@pytest.mark.parametrize("honest", [1, 2])
def test_pads_that_forget_what_proofs_tell_leak(honest: int) -> None:
    """The point of the proof counts as two symbols for each trainer: with t = half + 2q something shows."""
    audits = 2
    enough = HALF * WIDTH + honest * (audits + OUTSIDE)
    expected = SUM_ONLY if honest > 1 else 0
    assert _learned(View(HALF, audits, honest, enough, sums=honest > 1), seed=4) == expected
    assert _learned(View(HALF, audits, honest, enough - 1, sums=honest > 1), seed=4) > expected


def test_releasing_the_sum_of_mask_rows_would_leak() -> None:
    """Why seats add key rows only."""
    audits = 2
    view = View(HALF, audits, honest=2, pads=HALF * WIDTH + 2 * (audits + OUTSIDE), mask_rows_summed=True)
    assert _learned(view, seed=3) > SUM_ONLY
