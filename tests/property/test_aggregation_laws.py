"""Laws of masking and opening: sums are linear, faults up to the bound change nothing, encodings are one to one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

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
    RoundTerms,
    SeatTerms,
    SumInvalidError,
    SumLostError,
    decode_ciphertext,
    encode_ciphertext,
    mask,
    open_sum,
    sample_noise,
    seats_needed,
    unmask,
    weighted_total,
)
from collegium.crypto import Stream

SEED = bytes(32)
RANDOM = Stream(sha256(b"aggregation laws").digest())
COLUMNS_BAD_MAX = COMMITTEE_DOMAIN.size - KEY_CODE.degree_bound
SEAT_COUNTS = st.sampled_from([16, 32, 64, 128, 256])


def key(label: str) -> np.ndarray:
    return algebra.sample_field(RANDOM.split(label), RING_DIMENSION)


@st.composite
def sums(draw: st.DrawFn) -> tuple[Layout, list[np.ndarray], list[int]]:
    """Return a layout, updates that reach its bound, and weights of which one at least is not zero."""
    trainers = draw(st.integers(1, 5))
    lanes = draw(st.integers(1, 2))
    bound = draw(st.sampled_from([1, 127, 2**15 - 1]))
    weight_max = draw(st.sampled_from([1, 15]))
    entries = draw(st.integers(1, 40))
    layout = Layout(entries, Budget(bound, trainers_max=trainers, weight_max=weight_max, lanes=lanes))
    entry = st.integers(-bound, bound) | st.sampled_from([-bound, bound])
    updates = [np.array(draw(st.lists(entry, min_size=entries, max_size=entries)), np.int64) for _ in range(trainers)]
    weights = [draw(st.integers(0, weight_max)) for _ in range(trainers)]
    assume(sum(weights) > 0)
    return layout, updates, weights


@given(sums(), st.integers(0, 2**32))
def test_masking_is_linear_and_opens_exactly(case: tuple[Layout, list[np.ndarray], list[int]], draw: int) -> None:
    layout, updates, weights = case
    random = RANDOM.split(f"noise {draw}")
    keys = [key(f"{draw} {i}") for i in range(len(updates))]
    masked = [mask(layout, SEED, k, update, random) for k, update in zip(keys, updates, strict=True)]
    key_sum = weighted_total([k[None] for k in keys], weights)[0]
    opened = unmask(layout, SEED, key_sum, weighted_total(masked, weights), sum(weights))
    np.testing.assert_array_equal(opened, sum(w * u for w, u in zip(weights, updates, strict=True)))


@given(st.integers(0, 4095), st.integers(1, algebra.P - 1))
def test_a_key_that_differs_in_one_coefficient_opens_nothing(at: int, by: int) -> None:
    layout = Layout(3, Budget(100, trainers_max=2))
    c = mask(layout, SEED, key("one"), np.array([100, -100, 7]), RANDOM.split("one"))
    wrong = key("one")
    wrong[at] = (int(wrong[at]) + by) % algebra.P
    with pytest.raises(SumInvalidError):
        unmask(layout, SEED, wrong, c, 1)


@given(st.integers(1, 2**62), st.integers(1, 2**20), st.integers(1, 2**8), st.integers(1, 2))
def test_a_budget_is_accepted_exactly_when_its_largest_total_fits(
    bound: int, trainers: int, weight: int, lanes: int
) -> None:
    """The widest total: every lane and the noise at their bounds, a sign each, 63 bits in all, of noise 22 at most."""
    weights = trainers * weight
    noise_bits = (2 * NOISE_BOUND * weights).bit_length()
    lane_bits = (2 * bound * weights).bit_length()
    if noise_bits > 22 or noise_bits + lanes * lane_bits > 63:
        reason = "the self-check allows 22" if noise_bits > 22 else "the field holds 63"
        with pytest.raises(BudgetError, match=reason):
            Budget(bound, trainers, weight, lanes)
        return
    budget = Budget(bound, trainers, weight, lanes)
    assert (budget.noise_bits, budget.lane_bits) == (noise_bits, lane_bits)
    assert NOISE_BOUND * weights < 1 << (budget.noise_bits - 1)
    largest = sum((bound * weights) << (lane * lane_bits) for lane in range(lanes)) << noise_bits
    assert largest + NOISE_BOUND * weights < 1 << 62


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_ciphertexts_have_one_encoding(entries: int, draw: int) -> None:
    layout = Layout(entries, Budget(1, trainers_max=2))
    c = algebra.sample_field(RANDOM.split(f"c {draw}"), layout.blocks * RING_DIMENSION).reshape(layout.blocks, -1)
    data = encode_ciphertext(c)
    assert encode_ciphertext(decode_ciphertext(layout, data)) == data


@given(st.binary(min_size=32, max_size=32))
def test_noise_counts_coins(coins: bytes) -> None:
    """Of 256 bits the last two are not counted."""
    heads = bin(int.from_bytes(coins, "little") & ((1 << 254) - 1)).count("1")
    assert sample_noise(lambda count: coins[:count], 1).tolist() == [heads - NOISE_BOUND]


# ------------------------------------------------------------------------------------------------ opening


@cache
def shared() -> tuple[Layout, np.ndarray, np.ndarray, np.ndarray]:
    """Return a layout, one trainer's update and c, and the codeword (4, 8192) of its key: what all seats hold."""
    layout = Layout(5, Budget(100, trainers_max=2))
    update = np.array([100, -100, 0, 7, -7])
    pads = algebra.sample_field(RANDOM.split("pads"), 4 * KEY_CODE.randomness_len).reshape(4, -1)
    coefficients = KEY_CODE.coefficients(key("shared").reshape(4, -1), pads)
    c = mask(layout, terms_of(16).matrix_seed, key("shared"), update, RANDOM.split("shared"))
    return layout, update, c, KEY_CODE.encode(coefficients, COMMITTEE_DOMAIN)


@cache
def terms_of(seats: int) -> RoundTerms:
    held = tuple(SeatTerms(bytes(20), None) for _ in range(seats))
    layout = Layout(5, Budget(100, trainers_max=2))
    return RoundTerms(SEED, 0, SEED, SEED, SEED, held, layout)


def sums_of(seats: int) -> dict[int, KeySum]:
    word, width = shared()[3], COMMITTEE_DOMAIN.size // seats
    return {
        seat: KeySum(SEED, 0, SEED, seat, np.ascontiguousarray(word[:, seat * width : (seat + 1) * width].T), bytes(65))
        for seat in range(seats)
    }


@st.composite
def faults(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """Return a number of seats, the liars among them and the absent ones, from none to well past the bound."""
    seats = draw(SEAT_COUNTS)
    most = COLUMNS_BAD_MAX * seats // COMMITTEE_DOMAIN.size
    spent = draw(st.integers(0, most + 2) | st.sampled_from([most, most + 1]))
    lying = draw(st.integers(0, spent // 2))
    drawn = draw(st.permutations(range(seats)))
    return seats, sorted(drawn[:lying]), sorted(drawn[lying : lying + spent - 2 * lying])


@given(faults(), st.integers(0, 3), st.booleans())
def test_faults_up_to_the_bound_change_nothing_and_past_it_lose_the_sum(
    case: tuple[int, list[int], list[int]], row: int, whole: bool
) -> None:
    seats, lying, absent = case
    _, update, c, _ = shared()
    key_sums = {seat: key_sum for seat, key_sum in sums_of(seats).items() if seat not in absent}
    for seat in lying:
        rows = key_sums[seat].rows.copy()
        rows[:, slice(None) if whole else row] ^= np.uint64(1)
        key_sums[seat] = replace(key_sums[seat], rows=rows)
    width = COMMITTEE_DOMAIN.size // seats
    if (2 * len(lying) + len(absent)) * width > COLUMNS_BAD_MAX:
        with pytest.raises(SumLostError):
            open_sum(terms_of(seats), key_sums, c, 1)
        return
    opened = open_sum(terms_of(seats), key_sums, c, 1)
    np.testing.assert_array_equal(opened.total, update)
    np.testing.assert_array_equal(opened.key_sum, key("shared"))
    assert list(opened.lying) == lying


@given(SEAT_COUNTS, st.integers(0, 40))
def test_as_many_seats_as_needed_bear_as_many_liars(seats: int, lying: int) -> None:
    width = COMMITTEE_DOMAIN.size // seats
    needed = seats_needed(seats, lying)
    assert 2 * lying * width + (seats - needed) * width <= COLUMNS_BAD_MAX
    assert 2 * lying * width + (seats - needed + 1) * width > COLUMNS_BAD_MAX


@given(
    st.sampled_from([16, 64, 256]), st.integers(0, 255), st.integers(0, 2**63 - 1), st.binary(min_size=65, max_size=65)
)
def test_key_sums_have_one_encoding(seats: int, seat: int, round_number: int, signature: bytes) -> None:
    width = COMMITTEE_DOMAIN.size // seats
    key_sum = replace(sums_of(seats)[seat % seats], round=round_number, signature=signature)
    data = key_sum.to_bytes()
    again = KeySum.from_bytes(data, width)
    assert (again.to_bytes(), again.digest, again.signature) == (data, key_sum.digest, signature)
