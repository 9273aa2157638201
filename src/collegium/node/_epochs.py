"""The epochs of a task as anybody can follow them: from the genesis on, each on the word of the set before it.

Nothing here asks anybody: `Epochs` knows a task's epochs as far as handovers were shown to it, `OrderWalk` follows the
final blocks from one into the next. Both take blocks from whoever has them and believe their certificates alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from collegium.aggregation import RoundTerms
from collegium.consensus import (
    Agreed,
    Announcement,
    Block,
    BrokenChainError,
    Certified,
    ChangePlan,
    Close,
    EpochSet,
    EpochVerifier,
    Handover,
    HandoverProof,
    Header,
    QuorumCertificate,
    Registration,
    WrongChangeError,
    decode_epoch_record,
    decode_payload,
    is_beside_rounds,
    is_epoch_record,
    terms_after,
    verify_final,
    verify_handover,
)
from collegium.crypto import BeaconGroup, Digest
from collegium.errors import CollegiumError

from ._committee_settings import CommitteeSettings
from ._genesis import Genesis

__all__ = [
    "Epochs",
    "FinalRound",
    "ForkedEpochError",
    "KnownEpoch",
    "OrderWalk",
    "OutOfOrderError",
    "UnknownEpochError",
    "change_plan",
    "epochs_of",
    "finality_proof",
    "first_stray",
    "handover_proof",
    "place_of",
]


class OutOfOrderError(CollegiumError):
    """Final blocks order rounds, or the end of an epoch, in a way that no quorum would."""


class UnknownEpochError(CollegiumError):
    """An epoch to which no handover was shown."""


class ForkedEpochError(CollegiumError):
    """Two final handovers of one epoch: a third of its set or more has signed two histories."""


def change_plan(genesis: Genesis, committee: CommitteeSettings) -> ChangePlan | None:
    """Return when a task's epochs change and among whom, as its genesis fixes it; None where there is one epoch.

    Raises:
        BadChangePlanError: the settings do not fit so many validators.
    """
    if committee.epoch_rounds is None:
        return None
    return ChangePlan(
        candidates=tuple(Registration(entry.bls_key, entry.account, entry.stake) for entry in genesis.validators),
        epoch_rounds=committee.epoch_rounds,
        window_rounds=committee.window_rounds,
        members_min=committee.members_min or 0,
    )


def place_of(account: bytes, epoch_set: EpochSet) -> int | None:
    """Return the place of an account's owner in an epoch set."""
    return next((int(v.index) for v in epoch_set.validators if v.account == account), None)


@dataclass(frozen=True)
class KnownEpoch:
    """An epoch whose set is known to be right, if the genesis is.

    Attributes:
        genesis: what its first block names as its parent.
        first_round: with which it begins.
        group: its beacon's key; None for epoch 0, whose key follows from the genesis (`open_beacon`).
        keys: its members' sealing keys for that round, as the handover fixes them; none for epoch 0.
        handover: digest of the block that ordered the handover to it; None for epoch 0.
    """

    epoch_set: EpochSet
    genesis: Digest
    first_round: int
    group: BeaconGroup | None = None
    keys: tuple[Announcement, ...] = ()
    handover: Digest | None = None

    @property
    def epoch(self) -> int:
        """Its number."""
        return self.epoch_set.epoch

    @cached_property
    def verifier(self) -> EpochVerifier:
        """The set's keys, and a memory of the certificates that were good."""
        return EpochVerifier(self.epoch_set)


class Epochs:
    """A task's epochs as far as handovers were shown, each accepted on the certificates of the set before it.

    Args:
        epoch_set: the task's first one, from a genesis that is known to be right.
        plan: of its changes (`change_plan`); None where there is one epoch, and no handover is believed.
    """

    def __init__(self, epoch_set: EpochSet, plan: ChangePlan | None) -> None:
        self.plan = plan
        self._known = [KnownEpoch(epoch_set, epoch_set.genesis(), 0)]

    @property
    def known(self) -> tuple[KnownEpoch, ...]:
        """All epochs so far, in order."""
        return tuple(self._known)

    @property
    def present(self) -> KnownEpoch:
        """The last one that is known."""
        return self._known[-1]

    def get(self, epoch: int) -> KnownEpoch:
        """Return an epoch by its number.

        Raises:
            UnknownEpochError: no handover to it was shown.
        """
        if not 0 <= epoch < len(self._known):
            raise UnknownEpochError(f"epoch {epoch}, known are 0 to {len(self._known) - 1}", epoch=epoch)
        return self._known[epoch]

    def of_round(self, number: int) -> KnownEpoch:
        """Return the epoch of a round, given the handovers final before it: the last that begins no later."""
        return next(epoch for epoch in reversed(self._known) if epoch.first_round <= number or epoch.epoch == 0)

    def terms_after(self, agreed: Agreed, header: Header) -> RoundTerms:
        """Return the terms that a final header fixes for the round after it, under the set of that round's epoch."""
        return terms_after(agreed, self.of_round(header.round + 1).epoch_set, header)

    def hand_over(self, proof: HandoverProof) -> KnownEpoch:
        """Return the epoch that a final handover opens, and know it from now on; again, if it is known already.

        Raises:
            WrongChangeError: the task has one epoch, or the next one would begin too early, or seat too few,
                too many or a stranger.
            UnknownEpochError: the handover ends an epoch that is not known.
            ForkedEpochError: another one has ended this epoch.
            CollegiumError: as `verify_handover`.
        """
        plan, ended = self.plan, self.get(proof.block.epoch)
        if plan is None:
            raise WrongChangeError(f"a handover ends epoch {ended.epoch} of a task that has one epoch")
        opened = verify_handover(ended.epoch_set, ended.genesis, proof, ended.verifier)
        if ended.epoch + 1 < len(self._known):
            known = self._known[ended.epoch + 1]
            if known.genesis != opened.genesis:
                raise ForkedEpochError(f"two final handovers end epoch {ended.epoch}", epoch=ended.epoch)
            return known
        earliest = ended.first_round + plan.epoch_rounds
        if opened.first_round < earliest:
            raise WrongChangeError(
                f"epoch {ended.epoch + 1} begins with round {opened.first_round}, expected {earliest} or later"
            )
        size = opened.epoch_set.size
        if not plan.members_min <= size <= plan.members_max:
            raise WrongChangeError(
                f"epoch {ended.epoch + 1} seats {size} members, expected {plan.members_min} to {plan.members_max}"
            )
        candidates = {(entry.bls_key, entry.account, entry.stake) for entry in plan.candidates}
        for member in opened.epoch_set.validators:
            if (member.bls_key, member.account, member.stake) not in candidates:
                raise WrongChangeError(
                    f"epoch {ended.epoch + 1} seats {member.account.hex()}, no candidate of the task"
                )
        self._known.append(
            KnownEpoch(
                opened.epoch_set, opened.genesis, opened.first_round, opened.group, opened.keys, proof.block.digest
            )
        )
        return self.present


def epochs_of(genesis: Genesis, committee: CommitteeSettings) -> Epochs:
    """Return a task's epochs as its genesis alone tells them: the first one, and when and among whom it changes."""
    return Epochs(genesis.epoch_set, change_plan(genesis, committee))


def finality_proof(
    blocks: Sequence[Block], place: int, certificates: Sequence[QuorumCertificate]
) -> tuple[QuorumCertificate, ...]:
    """Return what proves one of several final blocks final by itself: as many certificates that follow on it as do.

    Args:
        blocks: each the parent of the next.
        place: of the block in question.
        certificates: those that make the last block final.
    """
    chain = [block.parent_certificate for block in blocks[place + 1 :]] + list(certificates)
    ends = (end for end, certificate in enumerate(chain) if end and certificate.ballot.makes_parent_final)
    return tuple(chain[: next(ends, len(chain)) + 1])


def handover_proof(blocks: Sequence[Block], place: int, certificates: Sequence[QuorumCertificate]) -> HandoverProof:
    """Return one of several final blocks, which orders a handover, with its `finality_proof`."""
    return HandoverProof(blocks[place], finality_proof(blocks, place, certificates))


def first_stray(after: Digest, blocks: Sequence[Block]) -> Block | None:
    """Return the first of these blocks that is no child of the one before it, of `after` if it is the first."""
    parents = [after, *(block.digest for block in blocks)]
    return next((block for parent, block in zip(parents, blocks, strict=False) if block.parent != parent), None)


@dataclass(frozen=True, slots=True)
class FinalRound:
    """A round as ordered: what it adds, its certified header, and the epoch that ordered it."""

    close: Close
    certified: Certified
    epoch: KnownEpoch


@dataclass(eq=False)
class OrderWalk:
    """A walk over a task's final blocks, from the genesis through every handover; believes certificates alone.

    Attributes:
        epochs: what it learns of them.
        epoch: the one whose blocks are to come.
        tip: the last block passed, or that epoch's genesis: ask for the blocks after it.
        passed: how many rounds' headers were passed.
    """

    epochs: Epochs
    epoch: KnownEpoch = field(init=False)
    tip: Digest = field(init=False)
    passed: int = 0
    _close: Close | None = None

    def __post_init__(self) -> None:
        self.epoch = self.epochs.get(0)
        self.tip = self.epoch.genesis

    def take(self, blocks: Sequence[Block], certificates: Sequence[QuorumCertificate]) -> list[FinalRound]:
        """Pass final blocks that follow on the tip; return the rounds that they end.

        What follows on an epoch's last header in the same answer is left out: the next epoch begins at its own genesis.

        Args:
            blocks: oldest first.
            certificates: those that make the last one final.

        Raises:
            BrokenChainError: a block is not the child of the one before.
            OutOfOrderError: a payload is out of its order.
            CollegiumError: the blocks are not final, a payload is malformed, or as `Epochs.hand_over`.
        """
        if not blocks:
            return []
        stray = first_stray(self.tip, blocks)
        if stray is not None:
            raise BrokenChainError(f"the block of view {stray.view} does not follow the one before")
        known = self.epoch
        verify_final(known.epoch_set, known.genesis, blocks[-1].digest, certificates, known.verifier)
        rounds: list[FinalRound] = []
        for place, block in enumerate(blocks):
            self.tip = block.digest
            if is_epoch_record(block.payload):
                if isinstance(decode_epoch_record(block.payload), Handover):
                    self.epochs.hand_over(handover_proof(blocks, place, certificates))
            elif block.payload and not is_beside_rounds(block.payload):
                rounds += self._order(block)
                following = self.epochs.of_round(self.passed)
                if following is not known:
                    self.epoch, self.tip = following, following.genesis
                    break
        return rounds

    def _order(self, block: Block) -> list[FinalRound]:
        payload, close = decode_payload(block.payload), self._close
        number = payload.round if isinstance(payload, Close) else payload.header.round
        if number == self.passed and isinstance(payload, Close) and close is None:
            self._close = payload
            return []
        if number == self.passed and isinstance(payload, Certified) and close is not None:
            self._close, self.passed = None, self.passed + 1
            return [FinalRound(close, payload, self.epoch)]
        raise OutOfOrderError(f"block of view {block.view} orders round {number}, expected {self.passed}")
