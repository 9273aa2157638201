"""What trainers earn, as headers say it: one digest of all that they have earned by now, and what is behind it.

Consensus knows no prices. A task that pays gives it a `Pay`: every answer of it is a function of what the round before
left, of the close and of the models, so that every validator, and every stranger later, finds the same. Specified in
docs/spec/money.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._proof_evidence import Held
from ._records import NO_DIGEST, Close, Header, Outcome

__all__ = ["PaidRefusedError", "Pay", "check_paid", "paid_after", "paid_by", "rewards_of", "trainers_added"]


class PaidRefusedError(CollegiumError):
    """What comes with a header is not what the header says of earnings."""


class Pay(Protocol):
    """How a task pays its trainers: the same on every machine, so anyone can redo it."""

    def first(self) -> bytes:
        """Return what all have earned before round 0."""
        ...

    def after(self, round_number: int, paid: bytes, added: Sequence[bytes], before: bytes, after: bytes) -> bytes:
        """Return what all have earned after a round that opened.

        Args:
            round_number: the round.
            paid: what all have earned before it.
            added: the trainers whose reports it adds with weight.
            before, after: the model states.
        """
        ...

    def digest(self, paid: bytes) -> Digest:
        """Return what a header says of it.

        Raises:
            CollegiumError: it is not what so many trainers can have earned.
        """
        ...


def trainers_added(close: Close, held: Mapping[Digest, Held]) -> list[bytes]:
    """Return the trainers whose reports a close adds with weight, in its order; all of them are here."""
    weighed = zip(close.reports, close.weights, strict=True)
    return [held[report].report.trainer for report, weight in weighed if weight]


def paid_after(
    pay: Pay | None,
    paid: bytes,
    close: Close,
    outcome: Outcome,
    held: Mapping[Digest, Held],
    models: tuple[bytes, bytes],
) -> bytes:
    """Return what all trainers have earned after a round; nothing in a task that pays nothing.

    Args:
        pay: how the task pays.
        paid: what the header before says; nothing before round 0.
        close, outcome, held: the round's close, what came of it, and the reports that it admits.
        models: the states before and after it.
    """
    if pay is None:
        return b""
    before = paid or pay.first()
    return before if outcome != "opened" else pay.after(close.round, before, trainers_added(close, held), *models)


def rewards_of(pay: Pay | None, paid: bytes) -> Digest:
    """Return what a header says of what all trainers have earned."""
    return NO_DIGEST if pay is None else pay.digest(paid)


def check_paid(pay: Pay | None, header: Header) -> None:
    """Check that what comes with a header is what it says of earnings: no certificate is over the bytes themselves.

    Raises:
        PaidRefusedError: it is not.
        CollegiumError: as `Pay.digest`.
    """
    if (header.paid and pay is None) or rewards_of(pay, header.paid) != header.rewards:
        raise PaidRefusedError(
            f"header {header.round} comes with {len(header.paid)} bytes of earnings that it does not name",
            round=header.round,
        )


def paid_by(pay: Pay | None, header: Header) -> bytes | None:
    """Return what all trainers have earned by a final header; None if it came with something else.

    Only a committee that lies certifies such a header: nothing can be paid on it, or on any after it.
    """
    try:
        check_paid(pay, header)
    except CollegiumError:
        return None
    return header.paid
