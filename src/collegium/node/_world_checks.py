"""What must hold in a simulated world at every step, and what must have come about once it is calm.

The checks look at what honest validators say and commit, never at what they mean; the truth about reports they know
from the trainers themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from collegium.aggregation import Receipt, Report, RoundTerms
from collegium.consensus import (
    Announcement,
    Block,
    BlockEquivocation,
    Certified,
    Close,
    DoubleReport,
    EpochVerifier,
    EvidenceFound,
    Header,
    HeaderProposal,
    HeaderVote,
    Release,
    RoundState,
    SeatReceipt,
    Timeout,
    Vote,
    VoteEquivocation,
    assign_seats,
    decode_payload,
    is_beside_rounds,
    is_epoch_record,
    is_round_record,
    total_digest,
    verify_double_report,
    verify_evidence,
    verify_final,
    verify_proof_evidence,
)
from collegium.crypto import Digest, ThresholdBeacon, decode_certificate
from collegium.errors import CollegiumError

from ._journal import MemoryJournal
from ._world_change import ChangeTruth, EpochStage, SafetyError
from ._world_plan import WorldPlan
from ._world_quality import AUTHORS, Marks
from ._world_task import FIRST_MODEL, Cast, Once, Tally, marks_of

__all__ = ["SIGNED", "VERIFIERS", "LivenessError", "Rounds", "SafetyError", "Truth"]

Ints = npt.NDArray[np.int64]
VIEWS_KEPT_MAX = 200
WAITING_EACH_MAX = 64
SIGNED = (Vote, Timeout, Block, SeatReceipt, Release, Announcement, HeaderProposal, HeaderVote)
VERIFIERS = 2  # that the beacon chooses for each report


class LivenessError(CollegiumError):
    """The world is calm, and yet not everything that must come about has."""


@dataclass
class Rounds:
    """What is final of each round, whichever epoch it belongs to, and what each report really is."""

    terms: dict[int, RoundTerms]
    closes: dict[int, Close] = field(default_factory=dict)
    headers: dict[int, Header] = field(default_factory=dict)
    models: dict[int, bytes] = field(default_factory=lambda: {-1: FIRST_MODEL})
    updates: dict[Digest, Ints] = field(default_factory=dict)
    trainer_of: dict[Digest, int] = field(default_factory=dict)
    staleness: dict[Digest, int] = field(default_factory=dict)
    records: dict[int, list[bytes]] = field(default_factory=dict)  # that are final before a round's close
    convicted: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def submitted(self, trainer: int, report: Report, update: Ints) -> None:
        """Note what a trainer's report hides, and how many rounds old the model is that it was trained from."""
        self.updates[report.id], self.trainer_of[report.id] = update, trainer
        self.staleness[report.id] = report.staleness


class Truth:
    """What an epoch's validators agree on so far, and what each honest one of them has said so far.

    Validators are known by their place in the epoch set; `members` are their places among all people, by place.
    """

    quiet: frozenset[str] = frozenset()  # promises that are not looked at: a mutant may break one by way of another

    def __init__(self, plan: WorldPlan, cast: Cast, work: Once, rounds: Rounds, stage: EpochStage) -> None:
        self.plan, self.cast, self.work, self.rounds = plan, cast, work, rounds
        self.epoch_set, self.genesis, self.first_round = stage.epoch_set, stage.genesis, stage.first_round
        self.beacon = ThresholdBeacon(cast.epoch_set.task, stage.group)
        self.verifier = EpochVerifier(self.epoch_set)
        accounts = [account.address for account in cast.accounts]
        self.members = tuple(accounts.index(validator.account) for validator in self.epoch_set.validators)
        self.place_of = {member: place for place, member in enumerate(self.members)}
        self.honest = frozenset(place for place, member in enumerate(self.members) if member in plan.honest)
        self.size = len(self.members)
        self.quorum = self.size - (self.size - 1) // 3
        self.agreed = Tally(plan.proved, plan.staleness, plan.quality)
        self.marks = marks_of(plan, cast)
        self.change: ChangeTruth | None = None
        if plan.changes:
            self.change = ChangeTruth(plan, cast, stage)
        self.opened: EpochStage | None = None  # what begins after this epoch, once that is over
        self.order: list[Digest] = []
        self.proposed: set[Digest] = {self.genesis}
        self.views = 0
        self._said: dict[tuple[Any, ...], Any] = {}
        self._given_up: dict[int, int] = {}
        self._voted: dict[int, int] = {}
        self._judged: set[int] = set()
        self._receipts: set[Receipt] = set()

    # ------------------------------------------------------------------------------------------------ what is said

    def says(
        self, index: int, message: Any, closed: frozenset[Digest], state: Any, journal: MemoryJournal, clock_ms: int
    ) -> None:
        """Check a message that an honest validator in this state sends; `closed` are the closes that are final to it.

        `clock_ms` is what its clock shows.

        Raises:
            SafetyError: it breaks a promise.
        """
        match message:
            case Vote():
                self._once((index, "vote", message.view), message.ballot)
                key = (index, "voted", message.view)
                if key not in self._said:
                    if self._given_up.get(index, 0) >= message.view:
                        raise SafetyError(f"validator {index} votes in view {message.view} after giving it up")
                    self._votes_for(index, state, message, clock_ms)
                    self._voted[index] = max(self._voted.get(index, 0), message.view)
                self._said[key] = True
            case Timeout():
                self._once((index, "timeout", message.view), message.high_view)
                self._given_up[index] = max(self._given_up.get(index, 0), message.view)
            case Block():
                self._once((index, "block", message.view), message.digest)
            case Announcement():
                self._once((index, "sealing key", message.round), message.seal_key)
            case SeatReceipt():
                for report in message.receipt.reports:
                    self._once((index, "receipt", message.round, self.rounds.trainer_of.get(report)), report)
                self._receipts.add(message.receipt)
            case Release():
                self._once((index, "release", message.round), message.close)
                if "final" not in self.quiet and message.close not in closed:
                    raise SafetyError(f"validator {index} releases in round {message.round} for no final close")
                over = bool(journal.finals) and journal.finals[-1].round >= message.round
                if not over and "disk" not in self.quiet and journal.releases.get(message.round) != message.close:
                    raise SafetyError(f"validator {index} releases in round {message.round}: that is not on its disk")
                for key_sum in message.key_sums:
                    self._once((index, "key sum", message.round, key_sum.seat), key_sum.digest)

    def _votes_for(self, index: int, state: Any, vote: Vote, clock_ms: int) -> None:
        """Check that a close that is voted for admits more than half of the trainers that the voter knows, or none.

        Of those that carry weight, where reports weigh by quality; and that it leaves out no record known for long.
        """
        block = None if state is None else state.replica.blocks.get(vote.ballot.block)
        if block is None or not block.payload or is_beside_rounds(block.payload):
            return
        payload = decode_payload(block.payload)
        if not isinstance(payload, Close) or payload.round != state.round.terms.round:
            return
        if payload.reports and "half" not in self.quiet:
            model, beacon = state.round.model, state.round.terms.beacon
            entry = None if self.marks is None else self.marks.entry(payload.round, model, beacon)
            known = {held.report.trainer for held in state.round.admissible().values()}
            held = len([trainer for trainer in known if entry is None or entry.weights.get(trainer)])
            admitted = sum(weight > 0 for weight in payload.weights)
            if 2 * admitted <= held:
                raise SafetyError(f"validator {index} votes for a close of {admitted} of {held} trainers")
        if self.marks is not None and state.round.close is None:
            self._leaves_no_record_out(self.marks, index, state, block, clock_ms)

    def _leaves_no_record_out(self, marks: Marks, index: int, state: Any, block: Block, clock_ms: int) -> None:
        """Check that a close follows every record that its voter has known for long, and still could, in time."""
        timing, round_ = self.plan.timing, state.round
        if clock_ms >= round_.began_ms + timing.deadline_ms:
            return
        path = [held.payload[1:] for held in state.replica.path(block.digest) if is_round_record(held.payload)]
        before = (*state.records.final, *path)
        authors = {record[:1] for record in before}
        for entry in state.records.of_round(round_.terms.round):
            if entry.came_ms + timing.keys_ms <= clock_ms and entry.record[:1] not in authors:
                raise SafetyError(f"validator {index} votes for a close that leaves out a record it knows")

    def _once(self, key: tuple[Any, ...], value: Any) -> None:
        if self._said.setdefault(key, value) != value:
            raise SafetyError(f"validator {key[0]} says two things: {' '.join(str(part) for part in key[1:])}")

    # ------------------------------------------------------------------------------------------------ what is final

    def commits(self, index: int, height: int, block: Block, below: Digest, certificates: Iterable[Any] | None) -> None:
        """Check the next block of an honest validator's order.

        Raises:
            SafetyError: it is not contiguous, not the others', not proved, or final without deserving it.
        """
        if block.parent != below:
            raise SafetyError(f"validator {index} commits view {block.view} on top of something else")
        if height < len(self.order):
            if self.order[height] != block.digest:
                raise SafetyError(f"height {height}: validator {index} commits another block, of view {block.view}")
            return
        if certificates is not None:
            chain = tuple(certificates)
            signers = min(sum(byte.bit_count() for byte in certificate.signers) for certificate in chain)
            if signers < self.quorum:
                raise SafetyError(f"height {height}: a block is final by certificates of {signers} signers")
            verify_final(self.epoch_set, self.genesis, block.digest, chain, self.verifier)
        self.order.append(block.digest)
        self.views = max(self.views, block.view)
        if block.payload:
            self._orders(block.payload)

    def _orders(self, payload: bytes) -> None:
        if self.opened is not None:
            raise SafetyError(f"epoch {self.epoch_set.epoch} goes on after its last header")
        if self.change is not None and is_epoch_record(payload):
            self.change.ordered(payload, len(self.rounds.headers))
        elif is_round_record(payload):
            self._records(payload[1:])
        else:
            self._decided(decode_payload(payload))

    def _records(self, record: bytes) -> None:
        """Check a record that became final, and note that it counts."""
        number = len(self.rounds.headers)
        before = self.rounds.records.setdefault(number, [])
        if self.marks is None or number in self.rounds.closes:
            raise SafetyError(f"a record is final in round {number} after its close, or where there are none")
        try:
            self.marks.check_record(number, self.rounds.models[number - 1], before, record)
        except CollegiumError as error:
            raise SafetyError(f"a record is final in round {number} that may not follow: {error}") from error
        before.append(record)

    def _decided(self, payload: Close | Certified) -> None:
        number = len(self.rounds.headers)
        if isinstance(payload, Close):
            if payload.round != number or number in self.rounds.closes:
                raise SafetyError(f"a close of round {payload.round} is final in round {number}, the second one")
            if self.change is not None:
                self.change.closes(number)
            self._check_close(payload)
            self.rounds.closes[number] = payload
            return
        header, close = payload.header, self.rounds.closes.get(number)
        if close is None or header.round != number or header.close != close.digest:
            raise SafetyError(f"a header of round {header.round} is final that does not follow round {number}'s close")
        certificate = decode_certificate(payload.certificate, self.plan.seats)
        if len(certificate.seats) < self.plan.seats - (self.plan.seats - 1) // 3:
            raise SafetyError(f"the header of round {number} is certified by {len(certificate.seats)} seats")
        if self.change is not None:
            self.opened = self.change.passes(number, sha256(header.beacon).digest())
        self._check_header(header, close)
        self.rounds.headers[number] = header
        self.rounds.outcomes[header.outcome] += 1

    def _check_close(self, close: Close) -> None:
        trainers = [self.rounds.trainer_of[report] for report in close.reports]
        if len(set(trainers)) != len(trainers):
            raise SafetyError(f"the final close of round {close.round} admits two reports of one trainer")
        if close.reports and len(trainers) < self.plan.cohort_min:
            raise SafetyError(f"the final close of round {close.round} admits {len(trainers)} reports alone")
        self._check_weights(close)
        failing = [trainer for trainer in trainers if self.plan.trainers[trainer] == "false proof"]
        if failing and self.size - len(self.honest) < VERIFIERS:
            raise SafetyError(f"the final close of round {close.round} admits a report whose proof does not verify")
        seats = self.rounds.terms[close.round].seats
        for receipt in close.signed:
            if receipt not in self._receipts and self._index(seats[receipt.seat].validator) in self.honest:
                raise SafetyError(f"round {close.round} counts a receipt that seat {receipt.seat} never gave")

    def _check_weights(self, close: Close) -> None:
        """Check that reports weigh what the model says of their trainers, or by their age, and enough of them do."""
        most, model = self.agreed.staleness_max(close.round), self.rounds.models[close.round - 1]
        beacon = self.rounds.terms[close.round].beacon
        entry = None if self.marks is None else self.marks.entry(close.round, model, beacon)
        if entry is None:
            expected = [2 ** (most - self.rounds.staleness[report]) for report in close.reports]
        else:
            accounts = [self.cast.trainers[self.rounds.trainer_of[report]].address for report in close.reports]
            if not set(accounts) <= entry.weights.keys():
                raise SafetyError(f"the final close of round {close.round} admits a report of who is not drawn")
            expected = [entry.weights[account] for account in accounts]
        if list(close.weights) != expected:
            raise SafetyError(f"the final close of round {close.round} weighs by {close.weights}, not by {expected}")
        if close.reports and sum(weight > 0 for weight in expected) < self.plan.cohort_min:
            raise SafetyError(f"too few reports of the final close of round {close.round} carry weight: {expected}")

    def _check_header(self, header: Header, close: Close) -> None:
        model = self.rounds.models[header.round - 1]
        if header.outcome == "opened":
            total = np.sum(
                [self.rounds.updates[report] * w for report, w in zip(close.reports, close.weights, strict=True)],
                axis=0,
            )
            if header.total != total_digest(total):
                raise SafetyError(f"round {header.round} opened another sum than that of its admitted reports")
            model = self.agreed.step(header.round, model, total)
            if self.marks is not None:
                weighed = list(zip(close.reports, close.weights, strict=True))
                model += self.marks.told(weighed, self.rounds.records.get(header.round, []))
        if header.model != sha256(model).digest():
            raise SafetyError(f"the final header of round {header.round} names another model")
        self._check_next(header)
        holders = {seat: self.rounds.terms[header.round].seats[seat].validator for seat in header.lying}
        for seat, account in holders.items():
            if self._index(account) in self.honest:
                raise SafetyError(f"round {header.round} calls the honest seat {seat} a liar")
        for report in header.failed:
            if self.plan.trainers[self.rounds.trainer_of[report]] == "honest":
                raise SafetyError(f"round {header.round} says that an honest report's proof fails")
        self.rounds.models[header.round] = model

    def _check_next(self, header: Header) -> None:
        """Check what a final header fixes of the next round: the one beacon, its seats, no planted sealing key."""
        number, epoch = header.round + 1, self.epoch_set.epoch
        try:
            value = self.beacon.verify(epoch, number, header.beacon)
        except CollegiumError as error:
            raise SafetyError(
                f"the header of round {header.round} names another beacon than round {number}'s"
            ) from error
        following = self.epoch_set if self.opened is None else self.opened.epoch_set
        if header.seats != assign_seats(value, following, self.plan.seats):
            raise SafetyError(f"the header of round {header.round} seats others than the beacon does")
        if self.opened is not None:
            handover = None if self.change is None else self.change.handover
            if handover is None or header.announcements != handover.keys:
                raise SafetyError(f"the header of round {header.round} has other first keys than the handover")
            return
        for said in header.announcements:
            key = (said.validator, "sealing key", number)
            if said.validator in self.honest and self._said.get(key) != said.seal_key:
                raise SafetyError(f"the header of round {header.round} plants a sealing key of {said.validator}")

    def _index(self, account: bytes) -> int:
        return [v.account for v in self.epoch_set.validators].index(account)

    def wrote(self, index: int, state: Any, journal: MemoryJournal) -> None:
        """Check that what an honest validator must never forget was on its disk when its step ended.

        Raises:
            SafetyError: it was not, so that what it says now could be contradicted after a crash.
        """
        votes, kept = state.replica.vote_state, journal.vote_state
        seen = (votes.voted_view, votes.timeout_view, votes.proposed_view)
        if votes != kept and (kept is not None or any(seen)):
            raise SafetyError(f"validator {index} says what is not on its disk: {seen} (voted, given up, proposed)")
        if votes.voted_view < self._voted.get(index, 0) or votes.timeout_view < self._given_up.get(index, 0):
            raise SafetyError(f"validator {index} has forgotten in which views it has spoken: {seen}")

    def follows(self, index: int, state: Any) -> None:
        """Check that an honest validator's highest certificate is about a block that somebody proposed in this epoch.

        Raises:
            SafetyError: it is another epoch's.
        """
        high = state.replica.high
        if high.block not in self.proposed:
            raise SafetyError(f"validator {index} follows a certificate of view {high.view} from outside its epoch")

    def enters(self, index: int, state: RoundState) -> None:
        """Check the round that an honest validator is in.

        Raises:
            SafetyError: it does not follow from what is final, or its model is not everybody's.
        """
        number = state.terms.round
        known = self.rounds.terms.setdefault(number, state.terms)
        if known.digest != state.terms.digest or number > len(self.rounds.headers):
            raise SafetyError(f"validator {index} enters round {number} under other terms")
        if not state.lacks_model and state.model != self.rounds.models[number - 1]:
            raise SafetyError(f"validator {index} holds another model in round {number}")

    # ------------------------------------------------------------------------------------------------ evidence

    def found(self, by: int, note: EvidenceFound) -> None:
        """Check evidence that an honest validator found.

        Raises:
            SafetyError: it names somebody honest, or convicts nobody.
        """
        evidence = note.evidence
        if id(evidence) in self._judged:
            return
        try:
            if isinstance(evidence, BlockEquivocation | VoteEquivocation):
                culprit = verify_evidence(self.epoch_set, evidence, self.verifier)
                guilty = culprit not in self.honest
            elif isinstance(evidence, DoubleReport):
                trainers = [trainer.address for trainer in self.cast.trainers]
                guilty = self.plan.trainers[trainers.index(verify_double_report(evidence))] != "honest"
            else:
                terms = self.rounds.terms[evidence.held.report.round]
                model = self.rounds.models[terms.round - 1]
                account = verify_proof_evidence(self.work, self.agreed, self.epoch_set, terms, model, evidence)
                trainers = [trainer.address for trainer in self.cast.trainers]
                if account in trainers:
                    guilty = self.plan.trainers[trainers.index(account)] != "honest"
                else:
                    guilty = self._index(account) not in self.honest
        except CollegiumError as error:
            raise SafetyError(f"validator {by} found evidence that convicts nobody: {error}") from error
        if not guilty:
            raise SafetyError(f"validator {by} found {type(evidence).__name__} against somebody honest")
        self.rounds.convicted[type(evidence).__name__] += 1

    # ------------------------------------------------------------------------------------------------ memory

    def remembers(self, index: int, state: Any) -> None:
        """Check that an honest validator's state stays within its bounds.

        Raises:
            SafetyError: something has grown beyond them, or a block hangs in the air.
        """
        replica, round_ = state.replica, state.round
        size, cohort = self.size, len(self.plan.trainers)
        sizes = (
            ("headers", len(replica.headers), VIEWS_KEPT_MAX),
            ("votes", len(replica.votes), VIEWS_KEPT_MAX),
            ("pool", len(replica.pool), 8 * size),
            ("receipts", len(round_.receipts), len(round_.terms.seats)),
            ("ahead", len(round_.ahead), WAITING_EACH_MAX * size + cohort),
            ("reports", len(round_.reports), cohort),
            ("releases", len(round_.releases), size),
            ("secrets", len(round_.secrets), 3),
            ("records held", len(state.records.held), 2 * AUTHORS + 32),
            ("said", len(state.said), 2 * cohort * self.plan.seats + 4 * size),
        )
        for name, grown, most in sizes:
            if grown > most:
                raise SafetyError(f"validator {index} grows without bound: {grown} {name}, at most {most}")
