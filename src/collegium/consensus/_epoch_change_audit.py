"""From the genesis to any epoch: each handover is final under the set before it, and nothing else makes a set."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._audit import verify_final
from ._epoch import EpochSet
from ._epoch_change_records import Handover, NextEpoch, decode_epoch_record, is_epoch_record
from ._epoch_change_rules import (
    ChangePlan,
    ChangeRules,
    EpochChange,
    HandoverRefusedError,
    WrongChangeError,
    begin_change,
    follow_payload,
    handover_due,
    open_handover,
)
from ._messages import Block, QuorumCertificate
from ._order_keys import Verifier
from ._order_validity import WrongEpochError
from ._records import is_close

__all__ = ["HandoverProof", "NotAHandoverError", "replay_change", "verify_handover", "verify_handovers"]

T = TypeVar("T")


class NotAHandoverError(CollegiumError):
    """A block that orders something else than the end of its epoch."""


@dataclass(frozen=True)
class HandoverProof:
    """The block that orders a handover, and the certificates that make it final."""

    block: Block
    certificate_chain: tuple[QuorumCertificate, ...]


class _EachTime:
    """Computes whenever it is asked."""

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        return compute()


def verify_handover(
    epoch_set: EpochSet, genesis: Digest, proof: HandoverProof, verifier: Verifier | None = None
) -> NextEpoch:
    """Return the epoch that follows on `epoch_set`, by that set's own certificates.

    That the records before it give this handover is what the set's quorum vouches for; who has them can look: see
    `replay_change`.

    Args:
        epoch_set, genesis: a set that is known already, and what its first block named as its parent.
        proof: from anybody.
        verifier: the set's keys, if they are loaded already.

    Raises:
        WrongEpochError: a block of another task or epoch.
        BrokenChainError, NotFinalError, ForgedSignatureError, BadSignersError, NoQuorumError: it is not final.
        NotAHandoverError, MalformedEpochRecordError: its payload is something else.
        CollegiumError: as `open_handover`.
    """
    block = proof.block
    if (block.task, block.epoch) != (epoch_set.task, epoch_set.epoch):
        raise WrongEpochError(f"block of epoch {block.epoch}, expected {epoch_set.epoch} of this task")
    verify_final(epoch_set, genesis, block.digest, proof.certificate_chain, verifier)
    record = decode_epoch_record(block.payload) if is_epoch_record(block.payload) else None
    if not isinstance(record, Handover):
        raise NotAHandoverError(f"the block of view {block.view} orders no handover", view=block.view)
    return open_handover(epoch_set, record, _EachTime())


def verify_handovers(epoch_set: EpochSet, genesis: Digest, proofs: Sequence[HandoverProof]) -> tuple[NextEpoch, ...]:
    """Return the epochs after the first one, each accepted only on the word of the one before.

    Args:
        epoch_set: the first one, from a genesis that is known to be right.
        genesis: what its first block named as its parent: `epoch_set.genesis()` for a task's first epoch.
        proofs: one a handover, in order.

    Raises:
        WrongChangeError: an epoch that begins no later than the one before it.
        CollegiumError: as `verify_handover`, of the first that fails.
    """
    epochs: list[NextEpoch] = []
    for proof in proofs:
        opened = verify_handover(epoch_set, genesis, proof)
        if epochs and opened.first_round <= epochs[-1].first_round:
            raise WrongChangeError(f"epoch {opened.epoch_set.epoch} begins with round {opened.first_round}: too early")
        epochs.append(opened)
        epoch_set, genesis = opened.epoch_set, opened.genesis
    return tuple(epochs)


def replay_change(
    plan: ChangePlan, epoch_set: EpochSet, first_round: int, value: Digest, payloads: Iterable[bytes]
) -> EpochChange:
    """Return where an epoch's final payloads lead, every record checked again.

    The handover in it, if there is one, is what those records give and nothing else.

    Args:
        plan: from the genesis.
        epoch_set, first_round, value: the epoch, its first round and that round's beacon value.
        payloads: what `verify_chain` returned.

    Raises:
        HandoverRefusedError: a round closes before the handover without which it may not, or the epoch goes on after
            it.
        CollegiumError: as `follow_payload`, of the first payload that does not follow.
    """
    rules = ChangeRules(plan, epoch_set, _EachTime())
    change = begin_change(plan, first_round, value)
    for payload in payloads:
        if change.handover is not None and change.round >= change.handover.first_round:
            raise HandoverRefusedError(f"epoch {epoch_set.epoch} goes on after its last round, {change.round - 1}")
        if is_close(payload) and handover_due(change) is not None:
            raise HandoverRefusedError(
                f"round {change.round} closes before the handover that is due", round=change.round
            )
        change = follow_payload(rules, change, payload)
    return change
