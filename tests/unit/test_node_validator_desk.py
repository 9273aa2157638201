"""How long a validator's process lets a round wait for reports."""

from __future__ import annotations

from collegium.node._validator_desk import DOUBLINGS_MAX, FOUNDING_MS, NEVER_MS, round_deadline_ms


def test_a_round_has_the_time_that_the_settings_say_until_one_was_lost() -> None:
    assert round_deadline_ms(60_000, 1, 8, lost=0) == 60_000
    assert round_deadline_ms(60_000, 8, 8, lost=0) == 60_000
    assert round_deadline_ms(60_000, 1, 8, lost=1) == 120_000


def test_lost_rounds_double_it_within_bounds() -> None:
    assert round_deadline_ms(60_000, 40, 80, lost=39) == 60_000 << DOUBLINGS_MAX
    assert round_deadline_ms(300_000, 40, 80, lost=39) == FOUNDING_MS
    assert round_deadline_ms(2 * FOUNDING_MS, 40, 80, lost=39) == 2 * FOUNDING_MS  # what was set is never shortened


def test_the_first_round_waits_long_and_the_one_after_the_last_is_never_closed() -> None:
    assert round_deadline_ms(60_000, 0, 8, lost=0) == FOUNDING_MS
    assert round_deadline_ms(60_000, 9, 8, lost=0) == NEVER_MS
