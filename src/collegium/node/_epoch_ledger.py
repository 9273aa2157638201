"""A ledger's epochs, checked as a stranger would: order, records, handover, and the next epoch from its own genesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from collegium.consensus import ChangePlan, EpochChange, is_epoch_record, replay_change, verify_chain
from collegium.crypto import Digest

from ._epochs import Epochs, KnownEpoch, handover_proof
from ._journal import HANDOVER_KIND
from ._ledger import LedgerError, OrderedRound, Segment, whole_rounds

__all__ = ["OrderedEpoch", "ordered_epochs"]


@dataclass(frozen=True, slots=True)
class OrderedEpoch:
    """An epoch as a ledger orders it.

    Attributes:
        known: its set and its genesis.
        rounds: those of this ledger.
        change: where its records lead; None in a task of one epoch.
    """

    known: KnownEpoch
    rounds: tuple[OrderedRound, ...]
    change: EpochChange | None


def ordered_epochs(epochs: Epochs, value: Digest, segments: Sequence[Segment]) -> tuple[OrderedEpoch, ...]:
    """Check a whole ledger, from the genesis from handover to handover, and return its epochs.

    Args:
        epochs: of the task, knowing its first one; learns of the others.
        value: the beacon value of round 0. Those of later epochs' first rounds are taken from the headers, whose
            beacons are checked with the rounds.
        segments: one an epoch.

    Raises:
        LedgerError: naming the epoch and what is wrong with its part.
        CollegiumError: a link, leader, signature, certificate, record or handover does not hold.
    """
    found: list[OrderedEpoch] = []
    for number, segment in enumerate(segments):
        known = epochs.get(number)
        found.append(_ordered_epoch(epochs, known, value, segment))
        header = found[-1].rounds[-1].certified.header
        value = sha256(header.beacon).digest()
        following = epochs.of_round(header.round + 1)
        if number + 1 < len(segments) and following is known:
            raise LedgerError(f"epoch {number} has not ended with round {header.round}, but the ledger goes on")
    return tuple(found)


def _ordered_epoch(epochs: Epochs, known: KnownEpoch, value: Digest, segment: Segment) -> OrderedEpoch:
    """Check one epoch's part of a ledger."""
    blocks, tip = segment.blocks, segment.tip
    if not blocks:
        raise LedgerError(f"the ledger has no block of epoch {known.epoch}")
    # 1. order: parents, leaders, certificates, all final
    final = verify_chain(known.epoch_set, known.genesis, blocks, tip, known.verifier)
    rounds = whole_rounds(segment, final, known.first_round)
    # 2. change: tickets, lottery, dealings, complaints and the handover that follows from them
    change = _replayed(epochs.plan, known, value, final)
    # 3. handover: final by itself under this epoch's set
    if change is not None and change.handover is not None:
        place = next(at for at, block in enumerate(blocks) if block.payload[:1] == HANDOVER_KIND)
        epochs.hand_over(handover_proof(blocks, place, tip))
    return OrderedEpoch(known, rounds, change)


def _replayed(plan: ChangePlan | None, known: KnownEpoch, value: Digest, final: Sequence[bytes]) -> EpochChange | None:
    """Follow an epoch's records again."""
    if plan is not None:
        return replay_change(plan, known.epoch_set, known.first_round, value, final)
    if any(is_epoch_record(payload) for payload in final):
        raise LedgerError("the ledger holds records of a change of epochs, the task has one epoch")
    return None
