"""What a task asks of its validators on each of its chains: at home a stake, where a chain follows nothing."""

from __future__ import annotations

from dataclasses import dataclass

from collegium.consensus import Validator
from collegium.settlement import FOLLOWER_STAKE_WEI, FOLLOWER_UNBONDING_S

__all__ = ["HOME", "STAKE_WEI", "ChainTerms"]

STAKE_WEI = 10**18
STAKE_MIN_WEI = STAKE_WEI
UNBONDING_S = 14 * 24 * 3600
EMBEDDED_CHAIN_ID = 1337
HOME = 0  # the place of the chain that holds the stakes; those that follow it have places from 1


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """What a task asks of its validators on a chain: at home a stake, where a chain follows nothing.

    Attributes:
        embedded_id: the chain's number, where it is embedded.
        stake_wei: which each validator registers with.
        stake_min_wei, unbonding_s: which the registry is made with.
    """

    embedded_id: int
    stake_wei: int
    stake_min_wei: int
    unbonding_s: int

    @classmethod
    def at(cls, place: int) -> ChainTerms:
        """Return those of the chain at this place among a task's chains."""
        if place == HOME:
            return cls(EMBEDDED_CHAIN_ID, STAKE_WEI, STAKE_MIN_WEI, UNBONDING_S)
        return cls(EMBEDDED_CHAIN_ID + place, FOLLOWER_STAKE_WEI, FOLLOWER_STAKE_WEI, FOLLOWER_UNBONDING_S)

    @property
    def outlasting_s(self) -> int | None:
        """The unbonding delay where there are courts: None at home, where a stake outlasts the longest dispute."""
        return None if self.stake_wei else self.unbonding_s

    def stake_of(self, validator: Validator) -> int:
        """Return what a validator must have registered with: at home what genesis says."""
        return validator.stake if self.stake_wei else 0
