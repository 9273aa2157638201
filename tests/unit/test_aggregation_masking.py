"""Masking and exact unmasking: sizes around every boundary, and each range that a sum checks."""

import numpy as np
import pytest

from collegium import algebra
from collegium.aggregation import (
    BLOCKS_MAX,
    CHECK_BLOCKS,
    NOISE_BOUND,
    RING_DIMENSION,
    Budget,
    BudgetError,
    EntryOutOfRangeError,
    Layout,
    MalformedCiphertextError,
    SumInvalidError,
    decode_ciphertext,
    encode_ciphertext,
    mask,
    public_matrix,
    sample_noise,
    seat_width,
    unmask,
    weighted_total,
)
from collegium.crypto import Stream

SEED = bytes(32)
B16 = 2**15 - 1


def _stream(label: str) -> Stream:
    return Stream(bytes(32)).split(label)


def _sum(layout: Layout, trainers: int, weights: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (true weighted sum, total ciphertext, key sum) of random updates that reach both ends of the range."""
    random, rng = _stream("sum"), np.random.default_rng(5)
    bound = layout.budget.entry_bound
    updates = [rng.integers(-bound, bound + 1, layout.entries) for _ in range(trainers)]
    updates[0][:] = bound
    keys = [algebra.sample_field(random, RING_DIMENSION) for _ in range(trainers)]
    masked = [mask(layout, SEED, key, update, random) for key, update in zip(keys, updates, strict=True)]
    key_sum = weighted_total([key.reshape(1, -1) for key in keys], weights).reshape(-1)
    truth = sum(weight * update for weight, update in zip(weights, updates, strict=True))
    return truth, weighted_total(masked, weights), key_sum


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("entries", [1, 2, 4095, 4096, 4097, 8191, 8192, 8193])
def test_sums_are_exact_at_every_boundary_of_size(entries: int, lanes: int) -> None:
    layout = Layout(entries, Budget(B16, trainers_max=3, weight_max=15, lanes=lanes))
    truth, total, key_sum = _sum(layout, 3, [1, 15, 0])
    np.testing.assert_array_equal(unmask(layout, SEED, key_sum, total, 16), truth)


@pytest.mark.slow
def test_a_million_entries_sum_exactly() -> None:
    layout = Layout(10**6, Budget(B16, trainers_max=64, lanes=2))
    truth, total, key_sum = _sum(layout, 2, [1, 1])
    np.testing.assert_array_equal(unmask(layout, SEED, key_sum, total, 2), truth)
    assert total.size * 8 / 10**6 < 4.1


def test_unrounded_gradients_use_one_wide_lane() -> None:
    layout = Layout(5, Budget(2**40, trainers_max=16))
    truth, total, key_sum = _sum(layout, 4, [1] * 4)
    assert int(truth[0]) > 2**40
    np.testing.assert_array_equal(unmask(layout, SEED, key_sum, total, 4), truth)


def test_another_key_sum_opens_nothing() -> None:
    layout = Layout(7, Budget(B16, trainers_max=2))
    _, total, key_sum = _sum(layout, 2, [1, 1])
    wrong = key_sum.copy()
    wrong[17] = (int(wrong[17]) + 1) % algebra.P
    with pytest.raises(SumInvalidError):
        unmask(layout, SEED, wrong, total, 2)


def _change(total: np.ndarray, block: int, coefficient: int, by: int) -> np.ndarray:
    changed = total.copy()
    changed[block, coefficient] = (int(changed[block, coefficient]) + by) % algebra.P
    return changed


def test_each_part_of_the_sum_is_checked() -> None:
    layout = Layout(7, Budget(100, trainers_max=64))
    _, total, key_sum = _sum(layout, 2, [1, 1])
    unit = 1 << layout.budget.noise_bits
    for block in range(CHECK_BLOCKS):
        with pytest.raises(SumInvalidError, match="check block"):
            unmask(layout, SEED, key_sum, _change(total, block, 0, unit), 2)
    with pytest.raises(SumInvalidError, match="padding"):
        unmask(layout, SEED, key_sum, _change(total, 2, 7, unit), 2)
    with pytest.raises(SumInvalidError, match="lane 0"):
        unmask(layout, SEED, key_sum, _change(total, 2, 0, 401 * unit), 2)
    with pytest.raises(SumInvalidError, match="noise"):
        unmask(layout, SEED, key_sum, _change(total, 2, 0, 2 * 2 * NOISE_BOUND + 1), 2)


def test_the_unused_end_of_the_last_lane_is_checked() -> None:
    layout = Layout(7, Budget(100, trainers_max=2, lanes=2))  # 4 slots, 8 places
    _, total, key_sum = _sum(layout, 2, [1, 1])
    place = 1 << (layout.budget.noise_bits + layout.budget.lane_bits)
    with pytest.raises(SumInvalidError, match="unused end"):
        unmask(layout, SEED, key_sum, _change(total, 2, 3, place), 2)


def test_entries_at_the_bound_pass_and_one_past_it_do_not() -> None:
    layout = Layout(3, Budget(100, trainers_max=2))
    key, random = algebra.sample_field(_stream("key"), RING_DIMENSION), _stream("noise")
    mask(layout, SEED, key, np.array([100, -100, 0]), random)
    for value in (101, -101, np.iinfo(np.int64).min):
        with pytest.raises(EntryOutOfRangeError, match="entry 1 is"):
            mask(layout, SEED, key, np.array([0, value, 0]), random)
    for wrong in (np.zeros(2, np.int64), np.array([np.nan, np.inf, 0.0])):
        with pytest.raises(EntryOutOfRangeError, match="an update is 3 int64 entries"):
            mask(layout, SEED, key, wrong, random)


def test_budget_accepts_63_bits_and_refuses_64() -> None:
    assert Budget(B16, trainers_max=64, lanes=2).bits == 58
    wide = Budget(2**50 - 1, trainers_max=4)
    assert wide.bits == 63
    with pytest.raises(BudgetError, match="= 64, the field holds 63"):
        Budget(2**51 - 1, trainers_max=4)
    for broken in ({"lanes": 3}, {"entry_bound": 0}, {"trainers_max": 0}, {"weight_max": 0}):
        with pytest.raises(BudgetError):
            Budget(**({"entry_bound": 1, "trainers_max": 2} | broken))


def test_layout_accepts_the_last_block_of_a_key_and_refuses_the_next() -> None:
    budget = Budget(1, trainers_max=2)
    entries = (BLOCKS_MAX - CHECK_BLOCKS) * RING_DIMENSION
    assert Layout(entries, budget).blocks == BLOCKS_MAX
    with pytest.raises(BudgetError, match="one key masks at most 1024"):
        Layout(entries + 1, budget)
    with pytest.raises(BudgetError, match="at least 1 entry"):
        Layout(0, budget)


def test_seats_are_powers_of_two_from_16_to_256() -> None:
    assert [seat_width(seats) for seats in (16, 64, 256)] == [512, 128, 32]
    for seats in (8, 17, 48, 512):
        with pytest.raises(BudgetError, match="power of two from 16 to 256"):
            seat_width(seats)


def test_noise_is_centred_bounded_and_of_the_stated_variance() -> None:
    noise = sample_noise(_stream("noise"), 1 << 16)
    assert np.abs(noise).max() <= NOISE_BOUND
    # standard error of the mean 0.031, of the variance 0.35: five of them
    assert abs(noise.mean()) < 0.16
    assert abs(noise.var() - 63.5) < 1.8
    all_heads = sample_noise(lambda count: b"\xff" * count, 1)
    assert all_heads.tolist() == [NOISE_BOUND]
    assert sample_noise(bytes, 1).tolist() == [-NOISE_BOUND]


def test_public_matrix_depends_on_seed_and_block_alone() -> None:
    one = public_matrix(SEED, 2)
    np.testing.assert_array_equal(one, public_matrix(SEED, 3)[:2])
    assert (one[0] != one[1]).any()
    assert (one != public_matrix(b"\1" * 32, 2)).any()
    assert int(one.max()) < algebra.P


def test_ciphertext_round_trips_and_malformed_bytes_are_refused() -> None:
    layout = Layout(1, Budget(1, trainers_max=2))
    ciphertext = mask(layout, SEED, algebra.sample_field(_stream("k"), RING_DIMENSION), np.array([1]), _stream("n"))
    data = encode_ciphertext(ciphertext)
    np.testing.assert_array_equal(decode_ciphertext(layout, data), ciphertext)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(MalformedCiphertextError, match="takes 98304 bytes"):
            decode_ciphertext(layout, wrong)
    with pytest.raises(MalformedCiphertextError, match="masked update"):
        decode_ciphertext(layout, b"\xff" * 8 + data[8:])
