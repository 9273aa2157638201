"""What a sender offers for gas, at the bound and one past it."""

from __future__ import annotations

import pytest

from collegium.settlement import Fees, GasCeilingError, GasPolicy

MARKET = Fees(gas_price_max=2 * 100 + 7, tip_max=7)  # the base fee is 100


def test_without_a_bound_the_chains_own_proposal_is_offered() -> None:
    assert GasPolicy().offer(MARKET) == MARKET


@pytest.mark.parametrize(("price_max", "price"), [(1000, 207), (207, 207), (206, 206), (107, 107)])
def test_no_more_than_the_bound_is_offered(price_max: int, price: int) -> None:
    assert GasPolicy(price_max).offer(MARKET) == Fees(price, 7)


def test_where_the_next_block_asks_for_more_than_the_bound_nothing_is_offered() -> None:
    with pytest.raises(GasCeilingError, match="costs 107 wei, more than the bound of 106") as refusal:
        GasPolicy(106).offer(MARKET)
    assert refusal.value.values == {"price": 107, "price_max": 106}


@pytest.mark.parametrize("waiting", [Fees(1, 0), Fees(8, 8), Fees(9, 1), Fees(1000, 7), Fees(10**12, 10**9 + 1)])
def test_a_replacement_offers_an_eighth_more_in_price_and_tip(waiting: Fees) -> None:
    found = GasPolicy().replacement(waiting, Fees(1, 0))
    for offered, before in ((found.gas_price_max, waiting.gas_price_max), (found.tip_max, waiting.tip_max)):
        assert offered > before
        assert 8 * offered >= 9 * before
    assert found.gas_price_max >= found.tip_max


def test_a_replacement_follows_a_market_that_rose_further() -> None:
    assert GasPolicy().replacement(Fees(10, 1), MARKET) == MARKET


def test_a_replacement_stays_under_the_bound_or_is_none() -> None:
    assert GasPolicy(135).replacement(Fees(120, 7), MARKET) == Fees(135, 8)
    with pytest.raises(GasCeilingError, match="offers 120 wei waits, and to replace it would take 135"):
        GasPolicy(134).replacement(Fees(120, 7), MARKET)
