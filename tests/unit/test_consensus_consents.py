"""Consent that is taken back, in the order: what a record does to the cohort, and which records are none."""

from __future__ import annotations

import pytest

from collegium.consensus import (
    WITHDRAWAL_BYTES_MAX,
    RefusedWithdrawalError,
    Withdrawals,
    encode_withdrawal,
    follow_withdrawals,
    is_beside_rounds,
    is_withdrawal,
    withdrawal_accepted,
)
from collegium.errors import CollegiumError

ANNA, BERND, CARLA = (bytes([letter]) * 20 for letter in b"abc")
HEADER = b"H..."  # how a certified header's payload begins


class ForgedError(CollegiumError):
    """What this test's task answers to a record of nobody's."""


class Letters:
    """A task that reads a record as the first letters of those whose consent it takes back."""

    def withdrawn(self, record: bytes, /) -> frozenset[bytes]:
        if record.startswith(b"?"):
            raise ForgedError("nobody signed this")
        return frozenset(bytes([letter]) * 20 for letter in record)


LETTERS = Letters()


def record(letters: bytes) -> bytes:
    return encode_withdrawal(letters)


def test_a_record_holds_from_the_round_after_the_one_that_orders_it() -> None:
    state = follow_withdrawals(LETTERS, Withdrawals(), (record(b"ab"),))
    assert state == Withdrawals(frozenset(), frozenset({ANNA, BERND}))
    state = follow_withdrawals(LETTERS, state, (HEADER,))
    assert state == Withdrawals(frozenset({ANNA, BERND}))
    assert follow_withdrawals(LETTERS, state, (HEADER, b"C a close", HEADER)) == state  # for good
    assert follow_withdrawals(LETTERS, state, (record(b"bc"), HEADER)) == Withdrawals(frozenset({ANNA, BERND, CARLA}))


@pytest.mark.parametrize(
    ("letters", "why"),
    [
        (b"a", RefusedWithdrawalError),  # is out already
        (b"b", RefusedWithdrawalError),  # leaves with this round
        (b"", RefusedWithdrawalError),
        (b"c" * (WITHDRAWAL_BYTES_MAX + 1), RefusedWithdrawalError),
        (b"?", ForgedError),
    ],
)
def test_a_record_that_is_forged_or_takes_nobody_out_is_none(letters: bytes, why: type[CollegiumError]) -> None:
    state = Withdrawals(frozenset({ANNA}), frozenset({BERND}))
    assert not withdrawal_accepted(LETTERS, state, (), record(letters))
    with pytest.raises(why):
        follow_withdrawals(LETTERS, state, (record(letters),))
    assert withdrawal_accepted(LETTERS, state, (), record(b"ac"))  # beside somebody who is out, one who is not
    assert withdrawal_accepted(LETTERS, state, (), record(b"c" * WITHDRAWAL_BYTES_MAX))


def test_what_waits_above_the_last_final_block_counts() -> None:
    state = Withdrawals()
    assert withdrawal_accepted(LETTERS, state, (b"C a close", record(b"a"), HEADER), record(b"b"))
    assert not withdrawal_accepted(LETTERS, state, (record(b"a"),), record(b"a"))
    assert not withdrawal_accepted(LETTERS, state, (record(b"?"),), record(b"a"))


def test_a_task_that_names_no_licences_orders_none() -> None:
    assert not withdrawal_accepted(None, Withdrawals(), (), record(b"a"))
    with pytest.raises(RefusedWithdrawalError, match="names no licences"):
        follow_withdrawals(None, Withdrawals(), (record(b"a"),))
    assert follow_withdrawals(None, Withdrawals(), (b"C a close", HEADER)) == Withdrawals()


def test_a_record_is_neither_close_nor_header() -> None:
    assert is_withdrawal(record(b"a"))
    assert is_beside_rounds(record(b"a"))
    assert not any(is_beside_rounds(payload) for payload in (HEADER, b"C a close"))
