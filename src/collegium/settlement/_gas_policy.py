"""What a sender offers for gas: no more than it wants to pay, and more each time that its transaction waits."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from collegium.settlement._chain import Fees
from collegium.settlement._errors import GasCeilingError

__all__ = ["GasPolicy"]

RAISE: Final = Fraction(9, 8)  # nodes ask for a tenth more, of price and tip, before one transaction replaces another


@dataclass(frozen=True, slots=True)
class GasPolicy:
    """How much to offer.

    Args:
        price_max: the most for a unit of gas, tip included, in wei; None for no bound.
    """

    price_max: int | None = None

    def offer(self, market: Fees) -> Fees:
        """Return what to offer at first: what the chain proposes, but no more than the bound.

        Args:
            market: what `Chain.fees` proposes: twice the base fee, and a tip.

        Raises:
            GasCeilingError: the next block asks for more than the bound.
        """
        if self.price_max is None:
            return market
        asked = (market.gas_price_max - market.tip_max) // 2 + market.tip_max
        if asked > self.price_max:
            raise GasCeilingError(
                f"a unit of gas costs {asked} wei, more than the bound of {self.price_max}",
                price=asked,
                price_max=self.price_max,
            )
        return Fees(min(market.gas_price_max, self.price_max), market.tip_max)

    def replacement(self, waiting: Fees, market: Fees) -> Fees:
        """Return what to offer for a transaction that takes the place of one that waits: an eighth more at least.

        Raises:
            GasCeilingError: that is more than the bound; the one that waits may still be mined.
        """
        offer = self.offer(market)
        tip = max(_raised(waiting.tip_max), offer.tip_max)
        price = max(_raised(waiting.gas_price_max), offer.gas_price_max, tip)
        if self.price_max is not None and price > self.price_max:
            raise GasCeilingError(
                f"a transaction that offers {waiting.gas_price_max} wei waits, and to replace it would take {price}, "
                f"more than the bound of {self.price_max}",
                price=price,
                price_max=self.price_max,
            )
        return Fees(price, tip)


def _raised(amount: int) -> int:
    """Return an amount and an eighth of it, rounded up, and more than it in any case."""
    return max(-(-amount * RAISE.numerator // RAISE.denominator), amount + 1)
