"""Adding and opening: the decoding bound met and exceeded by one, liars named, and that a wrong sum opens nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from _another_key import ACCOMPLICES, NAMED, mask_with_it, move_rows
from _round_stage import RANDOM, TRAINERS, committee, sum_of, update_of

from collegium import algebra
from collegium.aggregation import (
    COMMITTEE_DOMAIN,
    KEY_CODE,
    NOISE_BOUND,
    RING_DIMENSION,
    Budget,
    BudgetError,
    KeySum,
    Layout,
    MalformedKeySumError,
    ReceiptRejectedError,
    RoundTerms,
    SeatColumns,
    SeatTerms,
    SumInvalidError,
    SumLostError,
    WeightsRefusedError,
    add_columns,
    begin_upload,
    check_key_sum,
    check_report,
    decode_ciphertext,
    encode_ciphertext,
    finish_upload,
    make_upload,
    open_columns,
    open_sum,
    public_matrix,
    seats_needed,
    sign_key_sum,
    unmask,
    weighted_total,
)
from collegium.crypto import AccountKey, BadAccountSignatureError, SealKey

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
FLIPS = 4000 if FULL else 300

CLOSE = sha256(b"a close").digest()
COLUMNS_BAD_MAX = COMMITTEE_DOMAIN.size - KEY_CODE.degree_bound  # 2 x wrong + missing
GOOD_16 = [(0, 0), (0, 5), (1, 3), (2, 1)]  # (lying, absent) seats with 2 x lying + absent <= 2724 / 512 = 5.3
BAD_16 = [(0, 6), (1, 4), (2, 2), (3, 0)]
GOOD_64 = [(0, 21), (5, 11), (10, 1)]  # ... <= 2724 / 128 = 21.3
BAD_64 = [(0, 22), (5, 12), (10, 2), (11, 0)]


@dataclass(frozen=True)
class Opening:
    """Everything that a round of `seats` seats has when its close is final."""

    terms: RoundTerms
    accounts: tuple[AccountKey, ...]
    columns: dict[int, list[SeatColumns]]
    ciphertexts: list[np.ndarray]

    def key_sums(self, weights: list[int]) -> dict[int, KeySum]:
        return {seat: self.signed(seat, add_columns(self.columns[seat], weights, 1)) for seat in self.columns}

    def signed(self, seat: int, rows: np.ndarray) -> KeySum:
        return sign_key_sum(self.terms, CLOSE, seat, rows, self.accounts[seat])

    def garbage(self, seat: int) -> KeySum:
        drawn = np.frombuffer(RANDOM.split(f"lie of {seat}")(32 * self.terms.seat_width), "<u8") >> np.uint64(1)
        return self.signed(seat, drawn.reshape(-1, 4).copy())

    def total(self, weights: list[int]) -> np.ndarray:
        return weighted_total(self.ciphertexts, weights)


@cache
def opening(seats: int, trainers: int = 2, entries: int = 5) -> Opening:
    secrets = [SealKey.generate(RANDOM.split(f"sum seal {i}")) for i in range(seats)]
    accounts = tuple(AccountKey.generate(RANDOM.split(f"sum account {i}")) for i in range(seats))
    held = tuple(SeatTerms(accounts[i].address, secrets[i].public_bytes) for i in range(seats))
    layout = Layout(entries, Budget(1000, trainers_max=TRAINERS, weight_max=15))
    terms = replace(committee().terms, seats=held, layout=layout)
    uploads = [
        make_upload(terms, committee().trainers[i], update_of(i)[:entries], RANDOM.split(f"sum {seats} {i}"))
        for i in range(trainers)
    ]
    columns = {
        seat: [open_columns(terms, upload.report, seat, upload.boxes[seat], secrets[seat]) for upload in uploads]
        for seat in range(seats)
    }
    return Opening(terms, accounts, columns, [decode_ciphertext(layout, upload.ciphertext) for upload in uploads])


def with_faults(seats: int, lying: int, absent: int) -> tuple[dict[int, KeySum], tuple[int, ...]]:
    """Return the key sums with some garbage and some missing, and who lied; the seats are drawn by the counts."""
    drawn = random.Random(f"{seats} {lying} {absent}").sample(range(seats), lying + absent)
    sums = opening(seats).key_sums([1, 1])
    for seat in drawn[:lying]:
        sums[seat] = opening(seats).garbage(seat)
    return {s: v for s, v in sums.items() if s not in drawn[lying:]}, tuple(sorted(drawn[:lying]))


# ------------------------------------------------------------------------------------------------ what opens


@pytest.mark.parametrize(
    ("seats", "lying", "absent"), [(16, *faults) for faults in GOOD_16] + [(64, *faults) for faults in GOOD_64]
)
def test_at_the_bound_the_sum_opens_and_every_liar_is_named(seats: int, lying: int, absent: int) -> None:
    assert (2 * lying + absent) * COMMITTEE_DOMAIN.size // seats <= COLUMNS_BAD_MAX
    sums, liars = with_faults(seats, lying, absent)
    opened = open_sum(opening(seats).terms, sums, opening(seats).total([1, 1]), 2)
    np.testing.assert_array_equal(opened.total, sum_of(range(2)))
    assert opened.lying == liars


@pytest.mark.parametrize(
    ("seats", "lying", "absent"), [(16, *faults) for faults in BAD_16] + [(64, *faults) for faults in BAD_64]
)
def test_one_past_the_bound_the_sum_is_lost(seats: int, lying: int, absent: int) -> None:
    assert (2 * lying + absent - 1) * COMMITTEE_DOMAIN.size // seats <= COLUMNS_BAD_MAX
    assert (2 * lying + absent) * COMMITTEE_DOMAIN.size // seats > COLUMNS_BAD_MAX
    sums, _ = with_faults(seats, lying, absent)
    with pytest.raises(SumLostError, match=f"of {seats} key sums do not decode"):
        open_sum(opening(seats).terms, sums, opening(seats).total([1, 1]), 2)


def spoilt_columns(count: int) -> dict[int, KeySum]:
    """Return all sums with `count` wrong columns spread evenly: every seat is a liar, each a little."""
    sums = opening(16).key_sums([1, 1])
    for seat in sums:
        rows = sums[seat].rows.copy()
        mine = count // 16 + (seat < count % 16)
        rows[:mine, seat % 4] ^= np.uint64(1)
        sums[seat] = opening(16).signed(seat, rows)
    return sums


def test_1362_wrong_columns_decode_and_1363_do_not() -> None:
    opened = open_sum(opening(16).terms, spoilt_columns(1362), opening(16).total([1, 1]), 2)
    np.testing.assert_array_equal(opened.total, sum_of(range(2)))
    assert opened.lying == tuple(range(16))
    with pytest.raises(SumLostError):
        open_sum(opening(16).terms, spoilt_columns(1363), opening(16).total([1, 1]), 2)


def test_a_wrong_symbol_in_any_one_row_names_its_seat() -> None:
    for row in range(4):
        sums = opening(16).key_sums([1, 1])
        rows = sums[3].rows.copy()
        rows[100, row] ^= np.uint64(1)
        sums[3] = opening(16).signed(3, rows)
        assert open_sum(opening(16).terms, sums, opening(16).total([1, 1]), 2).lying == (3,)


def test_a_seat_that_adds_another_cohort_is_a_liar() -> None:
    here = opening(16)
    sums = here.key_sums([1, 1])
    sums[3] = here.signed(3, add_columns(here.columns[3][:1], [1], 1))
    assert open_sum(here.terms, sums, here.total([1, 1]), 2).lying == (3,)


def test_nobodys_sums_are_lost() -> None:
    with pytest.raises(SumLostError, match="0 of 16"):
        open_sum(opening(16).terms, {}, opening(16).total([1, 1]), 2)


def test_how_many_seats_are_needed() -> None:
    assert [seats_needed(seats) for seats in (16, 32, 64, 128, 256)] == [11, 22, 43, 86, 171]
    assert seats_needed(64, lying_max=10) == 63
    assert seats_needed(16, lying_max=2) == 15


@pytest.mark.parametrize("weights", [[1, 1, 1], [15, 1, 0], [7, 15, 15]])
def test_weighted_sums_open_exactly(weights: list[int]) -> None:
    here = opening(16, trainers=3)
    opened = open_sum(here.terms, here.key_sums(weights), here.total(weights), sum(weights))
    truth = sum(weight * update_of(i) for i, weight in enumerate(weights))
    np.testing.assert_array_equal(opened.total, truth)


# ------------------------------------------------------------------------------------------------ what does not


def honest_key_sum() -> np.ndarray:
    return open_sum(opening(16).terms, opening(16).key_sums([1, 1]), opening(16).total([1, 1]), 2).key_sum


def test_a_key_sum_that_opens_the_first_check_block_does_not_open_the_second() -> None:
    """S + A_1^-1 e, e small: A_1 d = e passes for noise in block 1, A_2 d is uniform. At size 1, the least to check."""
    here = opening(16, entries=1)
    layout, seed = here.terms.layout, here.terms.matrix_seed
    total = here.total([1, 1])
    true = open_sum(here.terms, here.key_sums([1, 1]), total, 2).key_sum
    e = np.zeros(RING_DIMENSION, np.int64)
    e[0] = 1
    first = public_matrix(seed, 2)[0]
    d = algebra.negacyclic_intt(algebra.mul(algebra.inverse(first), algebra.negacyclic_ntt(algebra.encode_signed(e))))
    wrong = algebra.add(true, d)

    stream = algebra.negacyclic_mul(algebra.negacyclic_intt(public_matrix(seed, layout.blocks)), wrong[None])
    opened = np.abs(algebra.decode_signed(algebra.sub(total, stream)))
    assert opened[0].max() <= 2 * NOISE_BOUND, "the first check block opens"
    half = np.int64(1 << (layout.budget.noise_bits - 1))
    assert (opened[1] > half).mean() > 0.99, "the second does not, nearly anywhere"
    with pytest.raises(SumInvalidError):
        unmask(layout, seed, wrong, total, 2)
    unmask(layout, seed, true, total, 2)


def test_seats_that_agree_on_a_wrong_key_sum_open_nothing() -> None:
    """All sixteen sign columns of one codeword, of S + d: it decodes, names nobody, and opens nothing."""
    here = opening(16)
    d = np.zeros((4, KEY_CODE.degree_bound), np.uint64)
    d[2, 5] = 1
    word = KEY_CODE.encode(d, COMMITTEE_DOMAIN)
    sums = here.key_sums([1, 1])
    for seat, key_sum in sums.items():
        columns = here.terms.seat_columns(seat)
        moved = algebra.add(key_sum.rows, np.ascontiguousarray(word[:, columns.start : columns.stop].T))
        sums[seat] = here.signed(seat, moved)
    with pytest.raises(SumInvalidError, match=r"sum invalid, some admitted report is not well formed"):
        open_sum(here.terms, sums, here.total([1, 1]), 2)


def test_a_malformed_ciphertext_makes_the_sum_invalid() -> None:
    here = opening(16)
    total = here.total([1, 1])
    for block in range(total.shape[0]):
        changed = total.copy()
        changed[block, 9] = (int(changed[block, 9]) + algebra.P // 3) % algebra.P
        with pytest.raises(SumInvalidError, match="not well formed"):
            open_sum(here.terms, here.key_sums([1, 1]), changed, 2)


def test_sums_and_ciphertexts_of_different_weights_do_not_fit() -> None:
    here = opening(16)
    with pytest.raises(SumInvalidError):
        open_sum(here.terms, here.key_sums([1, 2]), here.total([1, 1]), 2)
    with pytest.raises(SumInvalidError):
        open_sum(here.terms, here.key_sums([1, 0]), here.total([1, 1]), 2)


def test_another_rounds_matrix_opens_nothing() -> None:
    here = opening(16)
    for terms in (replace(here.terms, round=1), replace(here.terms, beacon=bytes(32))):
        with pytest.raises(SumInvalidError):
            open_sum(terms, here.key_sums([1, 1]), here.total([1, 1]), 2)


# ------------------------------------------------------------------------------------------------ who is named wrongly


@cache
def masked_otherwise() -> Opening:
    """Return a round with a report whose c is masked with another key than it commits to.

    All that anybody checks of a report at level `unproved` is in order, every seat's columns too.
    """
    here, trainer = opening(16), committee().trainers[0]
    draft = begin_upload(here.terms, trainer.address, update_of(0)[:5], RANDOM.split("masked otherwise"))
    data = encode_ciphertext(mask_with_it(here.terms, draft.ciphertext))
    draft = replace(draft, ciphertext_bytes=data, ciphertext_digest=sha256(data).digest())
    upload = finish_upload(here.terms, draft, trainer)
    check_report(here.terms, upload.report)
    columns = dict[int, list[SeatColumns]]()
    for seat, box in enumerate(upload.boxes):
        secret = SealKey.generate(RANDOM.split(f"sum seal {seat}"))
        columns[seat] = [open_columns(here.terms, upload.report, seat, box, secret), here.columns[seat][1]]
    ciphertexts = [decode_ciphertext(here.terms.layout, data), here.ciphertexts[1]]
    return replace(here, columns=columns, ciphertexts=ciphertexts)


def agreeing(accomplices: Iterable[int]) -> dict[int, KeySum]:
    """Return the sums if these seats sign what fits the other key."""
    here = masked_otherwise()
    sums = here.key_sums([1, 1])
    for seat in accomplices:
        sums[seat] = here.signed(seat, move_rows(here.terms, seat, sums[seat].rows, 1))
    return sums


def test_a_trainer_and_three_of_sixteen_seats_have_honest_seats_named() -> None:
    """So that a header names a seat convicts nobody: docs/decisions/named-seats-keep-their-stakes.md."""
    here = masked_otherwise()
    opened = open_sum(here.terms, agreeing(ACCOMPLICES), here.total([1, 1]), 2)
    assert opened.lying == NAMED, "these have signed the true sums of their columns"
    np.testing.assert_array_equal(opened.total, sum_of(range(2)))
    assert open_sum(here.terms, agreeing(range(11, 16)), here.total([1, 1]), 2).lying == NAMED[:1]


def test_a_trainer_and_no_more_seats_than_are_corrected_have_nobody_named() -> None:
    here = masked_otherwise()
    for accomplices in ((), ACCOMPLICES[:1], ACCOMPLICES[:2]):
        with pytest.raises(SumInvalidError):
            open_sum(here.terms, agreeing(accomplices), here.total([1, 1]), 2)


# ------------------------------------------------------------------------------------------------ what a seat gives out


def test_mask_rows_never_leave_a_seat() -> None:
    columns = opening(16).columns[3]
    assert columns[0].symbols.shape == (512, 4)
    added = add_columns(columns, [1, 1], 2)
    assert added.shape == (512, 4)
    np.testing.assert_array_equal(added, algebra.add(*(one.symbols for one in columns)))


def test_weights_that_hide_too_few_are_refused() -> None:
    columns = opening(16, trainers=3).columns[3]
    add_columns(columns, [1, 0, 1], 2)
    for weights in ([1, 0, 0], [0, 0, 0], [1, 1, -1]):
        with pytest.raises(WeightsRefusedError):
            add_columns(columns, weights, 2)
    with pytest.raises(WeightsRefusedError, match="0 reports carry weight"):
        add_columns([], [], 2)


def test_a_key_sum_is_one_seats_word_on_one_close() -> None:
    here = opening(16)
    good = here.key_sums([1, 1])[3]
    check_key_sum(here.terms, CLOSE, good)
    narrow = here.signed(3, good.rows[:-1].copy())
    wide = here.signed(3, np.ascontiguousarray(np.repeat(good.rows, 2, axis=1)))
    for wrong in (
        replace(good, seat=4),
        replace(good, seat=16),
        replace(good, round=1),
        replace(good, task=bytes(32)),
        replace(good, close=bytes(32)),
        replace(good, rows=good.rows[::-1].copy()),
        narrow,
        wide,
        sign_key_sum(here.terms, CLOSE, 3, good.rows, here.accounts[4]),
    ):
        with pytest.raises(ReceiptRejectedError):
            check_key_sum(here.terms, CLOSE, wrong)
    with pytest.raises(ReceiptRejectedError):
        check_key_sum(here.terms, bytes(32), good)
    with pytest.raises(BadAccountSignatureError):
        check_key_sum(here.terms, CLOSE, replace(good, signature=bytes(65)))


def test_key_sums_round_trip_and_no_other_bytes_are_one() -> None:
    here = opening(64)
    good = here.key_sums([1, 1])[9]
    data = good.to_bytes()
    again = KeySum.from_bytes(data, 128)
    assert (again.digest, again.to_bytes()) == (good.digest, data)
    check_key_sum(here.terms, CLOSE, again)
    for wrong in (b"", data[:74], data[:-1], data + b"\0"):
        with pytest.raises(MalformedKeySumError, match="a key sum takes 4235 bytes"):
            KeySum.from_bytes(wrong, 128)
    with pytest.raises(MalformedKeySumError, match="a key sum takes"):
        KeySum.from_bytes(data, 64)
    with pytest.raises(MalformedKeySumError, match="key sum: "):
        KeySum.from_bytes(data[:74] + algebra.P.to_bytes(8, "little") + data[82:], 128)


def test_every_sampled_flip_of_a_key_sums_bit_is_refused() -> None:
    here = opening(64)
    good = here.key_sums([1, 1])[9]
    data, rng = good.to_bytes(), random.Random(23)
    for at in [*range(74), *range(len(data) - 65, len(data)), *rng.choices(range(len(data)), k=FLIPS)]:
        flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        try:
            key_sum = KeySum.from_bytes(flipped, 128)
        except MalformedKeySumError:
            continue
        assert key_sum.to_bytes() == flipped
        assert (key_sum.digest == good.digest) == (at >= len(data) - 65)
        with pytest.raises((ReceiptRejectedError, BadAccountSignatureError)):
            check_key_sum(here.terms, CLOSE, key_sum)


def test_only_powers_of_two_share_the_columns() -> None:
    terms = opening(16).terms
    for count in (8, 15):
        with pytest.raises(BudgetError, match="power of two"):
            replace(terms, seats=terms.seats[:count]).seat_columns(0)
