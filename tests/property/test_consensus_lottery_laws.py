"""Fairness of the two lotteries, on drawn numbers instead of tickets."""

from math import log

from hypothesis import given
from hypothesis import strategies as st

from collegium.consensus import EpochSet, Validator, draw_committee
from collegium.consensus._lottery import negative_log2
from collegium.crypto import hash_fields

outputs = st.integers(0, 2**256 - 1)


@given(outputs, outputs)
def test_a_larger_output_never_rings_later(a, b):
    assert (negative_log2(a) >= negative_log2(b)) or a > b


@given(outputs)
def test_the_logarithm_is_within_its_stated_precision(output):
    """ceil(-256 log2(u)) is the C with 2^-C <= u^256 < 2^(1 - C): checked in integers, u = power / 2^257."""
    ceiling = -(-negative_log2(output) >> 56)
    power = (2 * output + 1) ** 256
    assert 1 << (257 * 256 - ceiling) <= power < 1 << (257 * 256 - ceiling + 1)


def test_stake_wins_in_proportion():
    """Four candidates with stakes 1, 2, 3, 4: of 4000 races each wins a tenth per unit, within four sigma."""
    stakes = (1, 2, 3, 4)
    wins = [0, 0, 0, 0]
    for race in range(4000):
        rings = [
            negative_log2(int.from_bytes(hash_fields("race", race, i), "big")) / stake for i, stake in enumerate(stakes)
        ]
        wins[rings.index(min(rings))] += 1
    for stake, won in zip(stakes, wins, strict=True):
        expected, sigma = 400 * stake, (4000 * stake / 10 * (1 - stake / 10)) ** 0.5
        assert abs(won - expected) < 4 * sigma


def test_every_validator_is_as_likely_on_every_seat():
    """1000 draws of 2 of 5 seats: chi-squared over 5 validators, 4 degrees of freedom, below the 1e-6 quantile."""
    epoch_set = EpochSet(bytes(32), 0, tuple(Validator(i, b"%096d" % i, b"%020d" % i, 1) for i in range(5)))
    for seat in (0, 1):
        counts = [0] * 5
        for draw in range(1000):
            counts[draw_committee(hash_fields("draw", draw), epoch_set, 2)[seat]] += 1
        chi_squared = sum((count - 200) ** 2 / 200 for count in counts)
        assert chi_squared < -2 * log(1e-6) + 6
