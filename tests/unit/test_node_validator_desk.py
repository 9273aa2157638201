"""How long a validator's process lets a round wait for reports, and what it hands on of what it is brought."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from collegium.consensus import RefusedWithdrawalError, encode_withdrawal
from collegium.errors import CollegiumError
from collegium.node._epoch_node import BroughtWithdrawal
from collegium.node._validator_desk import DOUBLINGS_MAX, FOUNDING_MS, NEVER_MS, ValidatorDesk, round_deadline_ms


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


class Named:
    """A task whose records are the accounts of those that leave."""

    def withdrawn(self, record: bytes, /) -> frozenset[bytes]:
        if len(record) != 20:
            raise CollegiumError("no account")
        return frozenset({record})


def brought(record: bytes, consents: Named | None) -> list[object]:
    """Bring a record to a desk, and return what it hands to its machine."""
    waiting: list[object] = []

    async def put(sender: None, message: object, size: int) -> None:
        waiting.append(message)

    machine: Any = SimpleNamespace(mailbox=SimpleNamespace(put=put))
    steps: Any = SimpleNamespace(context=SimpleNamespace(consents=consents))
    asyncio.run(ValidatorDesk(machine, steps, frozenset, 3, 1).withdraw(record))
    return waiting


def test_a_withdrawal_is_handed_on_and_one_that_is_none_refused_by_name() -> None:
    record = b"a" * 20
    assert brought(record, Named()) == [BroughtWithdrawal(encode_withdrawal(record))]
    with pytest.raises(CollegiumError, match="no account"):
        brought(b"a", Named())
    with pytest.raises(RefusedWithdrawalError, match="names no licences"):
        brought(record, None)
