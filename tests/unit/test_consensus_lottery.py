"""Tickets, seats, and what sizes promise."""

from fractions import Fraction
from math import log2

import pytest

from collegium.consensus import (
    SEATS_MAX,
    BadTicketError,
    EpochSet,
    Registration,
    SeatCountError,
    Ticket,
    TicketCountError,
    UnsafeSetSizeError,
    Validator,
    buy_ticket,
    check_set_size,
    draw_committee,
    draw_epoch_set,
    failure_probability,
)
from collegium.consensus._lottery import negative_log2
from collegium.crypto import BlsSecretKey, Stream

TASK = b"task".ljust(32, b".")
BEACON = b"beacon"


@pytest.fixture(scope="module")
def town() -> tuple[list[Registration], list[Ticket], list[BlsSecretKey]]:
    stream = Stream(bytes(32))
    secrets = [BlsSecretKey.generate(stream) for _ in range(8)]
    registered = [Registration(bytes(s.public_key()), b"%020d" % i, 100 + i) for i, s in enumerate(secrets)]
    return registered, [buy_ticket(s, TASK, 3, BEACON) for s in secrets], secrets


# -------------------------------------------------------------------------------------------------------------- race


def test_the_same_tickets_in_any_order_draw_the_same_set(town):
    registered, tickets, _ = town
    drawn = draw_epoch_set(TASK, 3, BEACON, registered, tickets, 4)
    assert drawn == draw_epoch_set(TASK, 3, BEACON, registered[::-1], tickets[::-1], 4)
    assert (drawn.size, drawn.task, drawn.epoch) == (4, TASK, 3)
    assert {v.bls_key for v in drawn.validators} <= {r.bls_key for r in registered}


def test_a_smaller_set_is_the_head_of_a_larger_one(town):
    registered, tickets, _ = town
    small, large = (draw_epoch_set(TASK, 3, BEACON, registered, tickets, size).validators for size in (3, 8))
    assert small == large[:3]


def test_another_beacon_draws_another_order(town):
    registered, tickets, secrets = town
    others = [buy_ticket(s, TASK, 3, b"another") for s in secrets]
    keys = [v.bls_key for v in draw_epoch_set(TASK, 3, BEACON, registered, tickets, 8).validators]
    assert keys != [v.bls_key for v in draw_epoch_set(TASK, 3, b"another", registered, others, 8).validators]


def test_overwhelming_stake_comes_first(town):
    registered, tickets, _ = town
    whale = Registration(registered[5].bls_key, registered[5].account, 2**62)
    drawn = draw_epoch_set(TASK, 3, BEACON, [*registered[:5], whale, *registered[6:]], tickets, 8)
    assert drawn.validators[0].bls_key == whale.bls_key


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda r, t: (r, [*t, t[0]]), BadTicketError),
        (lambda r, t: (r[1:], t), BadTicketError),
        (lambda r, t: ([*r, r[0]], t), BadTicketError),
        (lambda r, t: (r, [Ticket(t[0].bls_key, t[1].proof), *t[1:]]), BadTicketError),
        (lambda r, t: (r, [Ticket(t[0].bls_key, bytes(48)), *t[1:]]), BadTicketError),
        (lambda r, t: (r, t[:3]), TicketCountError),
    ],
    ids=["ticket twice", "unregistered", "registered twice", "another's proof", "no point", "too few"],
)
def test_spoiled_tickets_are_refused(town, spoil, error):
    registered, tickets = spoil(*town[:2])
    with pytest.raises(error):
        draw_epoch_set(TASK, 3, BEACON, registered, tickets, 4)


def test_tickets_of_another_epoch_are_refused(town):
    with pytest.raises(BadTicketError):
        draw_epoch_set(TASK, 4, BEACON, town[0], town[1], 4)


def test_the_logarithm_is_exact_where_it_can_be_and_close_elsewhere():
    assert negative_log2(0) == 257 << 64
    assert negative_log2(2**256 - 1) == 1
    for output in (1, 2**200 + 12345, 3**150, 2**255, 2**256 - 2**200):
        exact = 257 - log2(2 * output + 1)
        assert negative_log2(output) / 2**64 == pytest.approx(exact, abs=1e-9)
    assert negative_log2(2**255 - 2**10) >= negative_log2(2**255)


# ---------------------------------------------------------------------------------------------------------- committee


def epoch_set(size: int) -> EpochSet:
    return EpochSet(TASK, 0, tuple(Validator(i, b"%096d" % i, b"%020d" % i, 1) for i in range(size)))


def test_a_committee_is_this_committee_on_every_machine():
    assert draw_committee(bytes(32), epoch_set(7), 7) == (1, 3, 6, 0, 4, 2, 5)


@pytest.mark.parametrize(("size", "seats"), [(16, 16), (5, 16), (64, 16), (3, 256), (1, 4)])
def test_everybody_holds_about_the_same_number_of_seats(size, seats):
    drawn = draw_committee(b"b" * 32, epoch_set(size), seats)
    held = [drawn.count(v) for v in range(size)]
    assert sum(held) == len(drawn) == seats
    assert max(held) - min(held) <= 1


def test_beacon_and_epoch_set_both_decide():
    base = draw_committee(bytes(32), epoch_set(16), 16)
    assert base != draw_committee(b"\1" + bytes(31), epoch_set(16), 16)
    other = EpochSet(TASK, 1, epoch_set(16).validators)
    assert base != draw_committee(bytes(32), other, 16)


@pytest.mark.parametrize("seats", [0, SEATS_MAX + 1])
def test_an_impossible_number_of_seats_is_refused(seats):
    with pytest.raises(SeatCountError):
        draw_committee(bytes(32), epoch_set(4), seats)


# -------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(("percent", "size"), [(10, 124), (15, 238), (20, 520)])
def test_a_set_of_this_size_promises_forty_bits(percent, size):
    share = Fraction(percent, 100)
    check_set_size(size, share, 40)
    with pytest.raises(UnsafeSetSizeError) as refused:
        check_set_size(size, share + Fraction(2, 100), 40)
    assert refused.value.values["carried_bits"] < 40


def test_a_small_set_is_told_what_it_promises():
    with pytest.raises(UnsafeSetSizeError, match=r"64 validators with 25% of the stake bad promise 2\^-4, not 2\^-40"):
        check_set_size(64, Fraction(1, 4), 40)


def test_failure_probability_is_a_binomial_tail():
    assert failure_probability(4, Fraction(1, 2), 2) == Fraction(11, 16)
    assert failure_probability(4, Fraction(1, 2), 0) == 1
    assert failure_probability(4, Fraction(0), 1) == 0
