"""Consent that is taken back: a record in the order, beside a round's two, by which trainers leave the cohort for good.

The record is opaque here. What it says is for the task to read, from its bytes and the genesis alone: so every
validator, and every stranger later, reads the same. One that is final before a round's header takes its trainers out
of the cohort from the next round on. Specified in docs/spec/consents.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from collegium.errors import CollegiumError

from ._epoch_change_records import is_epoch_record
from ._records import CERTIFIED_KIND
from ._registries import is_registries
from ._round_records import is_round_record

__all__ = [
    "WITHDRAWAL_BYTES_MAX",
    "Consents",
    "RefusedWithdrawalError",
    "Withdrawals",
    "encode_withdrawal",
    "follow_withdrawals",
    "is_beside_rounds",
    "is_withdrawal",
    "withdrawal_accepted",
]

WITHDRAWAL_KIND: Final = b"W"
WITHDRAWAL_BYTES_MAX: Final = 2048  # of a record


class RefusedWithdrawalError(CollegiumError):
    """A record of consent that is taken back is too long, says nothing, or says nothing new."""


class Consents(Protocol):
    """Whose data a task uses by whose leave, as its genesis fixes it."""

    def withdrawn(self, record: bytes, /) -> frozenset[bytes]:
        """Return the accounts of the trainers whose data may not be used after this record.

        Raises:
            CollegiumError: it is not what whoever gave the consent would have signed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Withdrawals:
    """Trainers whose data may not be used: those that are out of the cohort, and those that leave with the round."""

    in_force: frozenset[bytes] = frozenset()
    coming: frozenset[bytes] = frozenset()

    def ordered(self, consents: Consents, payload: bytes) -> Withdrawals:
        """Return the state after a record that is final.

        Raises:
            RefusedWithdrawalError: it is too long, or all whom it takes out are out already.
            CollegiumError: as `Consents.withdrawn`.
        """
        record = payload[1:]
        if not 0 < len(record) <= WITHDRAWAL_BYTES_MAX:
            raise RefusedWithdrawalError(f"a withdrawal of {len(record)} bytes, expected 1 to {WITHDRAWAL_BYTES_MAX}")
        fresh = consents.withdrawn(record) - self.in_force - self.coming
        if not fresh:
            raise RefusedWithdrawalError("a withdrawal that takes nobody out of the cohort who is in it")
        return replace(self, coming=self.coming | fresh)

    def next_round(self) -> Withdrawals:
        """Return the state when a round's header is final."""
        return Withdrawals(self.in_force | self.coming) if self.coming else self


def encode_withdrawal(record: bytes) -> bytes:
    """Return a record as block payload."""
    return WITHDRAWAL_KIND + record


def is_withdrawal(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be consent that is taken back."""
    return payload[:1] == WITHDRAWAL_KIND


def is_beside_rounds(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be something else than a round's close or header."""
    return is_epoch_record(payload) or is_withdrawal(payload) or is_round_record(payload) or is_registries(payload)


def withdrawal_accepted(
    consents: Consents | None, state: Withdrawals, ancestors: Iterable[bytes], payload: bytes
) -> bool:
    """Tell whether a block may order this record after `ancestors`, payloads that are not final yet; never raises."""
    if consents is None:
        return False
    try:
        follow_withdrawals(consents, state, (*ancestors, payload))
    except CollegiumError:
        return False
    return True


def follow_withdrawals(consents: Consents | None, state: Withdrawals, payloads: Iterable[bytes]) -> Withdrawals:
    """Return the state after payloads of any kind, in their order.

    Raises:
        RefusedWithdrawalError: a record where the task knows of no consent, or as `Withdrawals.ordered`.
        CollegiumError: as `Consents.withdrawn`.
    """
    for payload in payloads:
        if is_withdrawal(payload):
            if consents is None:
                raise RefusedWithdrawalError("a withdrawal of consent in a task that names no licences")
            state = state.ordered(consents, payload)
        elif payload[:1] == CERTIFIED_KIND:
            state = state.next_round()
    return state
