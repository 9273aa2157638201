"""What must hold in a simulated world at every step, and what must have come about once it is calm.

The checks look at what honest validators say and commit, never at what they mean; the truth about reports they know
from the trainers themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from collegium.consensus import (
    Announcement,
    Block,
    BlockEquivocation,
    Certified,
    Close,
    EvidenceFound,
    Header,
    Release,
    SeatReceipt,
    Timeout,
    Vote,
    VoteEquivocation,
    decode_payload,
    total_digest,
    verify_evidence,
    verify_final,
    verify_proof_evidence,
)
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._world_plan import WorldPlan
from ._world_task import FIRST_MODEL, Cast, Once, Tally

__all__ = ["LivenessError", "SafetyError", "Truth"]

Ints = npt.NDArray[np.int64]
VIEWS_KEPT_MAX = 200
WAITING_EACH_MAX = 64


class SafetyError(CollegiumError):
    """Something that must never happen has happened."""


class LivenessError(CollegiumError):
    """The world is calm, and yet not everything that must come about has."""


class Truth:
    """What everybody agrees on so far, what each honest validator has said so far, and what each report really is."""

    def __init__(self, plan: WorldPlan, cast: Cast, work: Once) -> None:
        self.plan, self.cast, self.work = plan, cast, work
        self.honest = frozenset(plan.honest)
        self.agreed = Tally(plan.proved)
        self.order: list[Digest] = []
        self.closes: dict[int, Close] = {}
        self.headers: dict[int, Header] = {}
        self.models: dict[int, bytes] = {-1: FIRST_MODEL}
        self.terms = {0: cast.terms}
        self.updates: dict[Digest, Ints] = {}
        self.trainer_of: dict[Digest, int] = {}
        self.convicted: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.views = 0
        self._said: dict[tuple[Any, ...], Any] = {}
        self._given_up: dict[int, int] = {}
        self._judged: set[int] = set()

    # ------------------------------------------------------------------------------------------------ reports

    def submitted(self, trainer: int, report: Digest, update: Ints) -> None:
        """Note what a trainer's report hides."""
        self.updates[report], self.trainer_of[report] = update, trainer

    # ------------------------------------------------------------------------------------------------ what is said

    def says(self, index: int, message: Any, closed: frozenset[Digest]) -> None:
        """Check a message that an honest validator sends; `closed` are the closes that it knows to be final.

        Raises:
            SafetyError: it breaks a promise.
        """
        match message:
            case Vote():
                self._once((index, "vote", message.view), message.ballot)
                key = (index, "voted", message.view)
                if key not in self._said and self._given_up.get(index, 0) >= message.view:
                    raise SafetyError(f"validator {index} votes in view {message.view} after giving it up")
                self._said[key] = True
            case Timeout():
                self._once((index, "timeout", message.view), message.high_view)
                self._given_up[index] = max(self._given_up.get(index, 0), message.view)
            case Block():
                self._once((index, "block", message.view), message.digest)
            case Announcement():
                self._once((index, "sealing key", message.round), message.seal_key)
            case SeatReceipt():
                trainer = self.trainer_of.get(message.receipt.report)
                self._once((index, "receipt", message.round, trainer), message.receipt.report)
            case Release():
                self._once((index, "release", message.round), message.close)
                if message.close not in closed:
                    raise SafetyError(f"validator {index} releases in round {message.round} for no final close")
                for key_sum in message.key_sums:
                    self._once((index, "key sum", message.round, key_sum.seat), key_sum.digest)

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
            genesis = self.cast.epoch_set.genesis()
            verify_final(self.cast.epoch_set, genesis, block.digest, tuple(certificates), self.cast.verifier)
        self.order.append(block.digest)
        self.views = max(self.views, block.view)
        if block.payload:
            self._decided(decode_payload(block.payload))

    def _decided(self, payload: Close | Certified) -> None:
        number = len(self.headers)
        if isinstance(payload, Close):
            if payload.round != number or number in self.closes:
                raise SafetyError(f"a close of round {payload.round} is final in round {number}, the second one")
            self._check_close(payload)
            self.closes[number] = payload
            return
        header, close = payload.header, self.closes.get(number)
        if close is None or header.round != number or header.close != close.digest:
            raise SafetyError(f"a header of round {header.round} is final that does not follow round {number}'s close")
        self._check_header(header, close)
        self.headers[number] = header
        self.outcomes[header.outcome] += 1

    def _check_close(self, close: Close) -> None:
        trainers = [self.trainer_of[report] for report in close.reports]
        if len(set(trainers)) != len(trainers):
            raise SafetyError(f"the final close of round {close.round} admits two reports of one trainer")
        if close.reports and len(trainers) < self.plan.cohort_min:
            raise SafetyError(f"the final close of round {close.round} admits {len(trainers)} reports alone")

    def _check_header(self, header: Header, close: Close) -> None:
        model = self.models[header.round - 1]
        if header.outcome == "opened":
            total = np.sum([self.updates[report] for report in close.reports], axis=0)
            if header.total != total_digest(total):
                raise SafetyError(f"round {header.round} opened another sum than that of its admitted reports")
            model = self.agreed.step(header.round, model, total)
        if header.model != sha256(model).digest():
            raise SafetyError(f"the final header of round {header.round} names another model")
        holders = {seat: self.terms[header.round].seats[seat].validator for seat in header.lying}
        for seat, account in holders.items():
            if self._index(account) in self.honest:
                raise SafetyError(f"round {header.round} calls the honest seat {seat} a liar")
        for report in header.failed:
            if self.plan.trainers[self.trainer_of[report]] == "honest":
                raise SafetyError(f"round {header.round} says that an honest report's proof fails")
        self.models[header.round] = model

    def _index(self, account: bytes) -> int:
        return [v.account for v in self.cast.epoch_set.validators].index(account)

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
                culprit = verify_evidence(self.cast.epoch_set, evidence, self.cast.verifier)
                guilty = culprit not in self.honest
            else:
                terms = self.terms[evidence.held.report.round]
                model = self.models[terms.round - 1]
                account = verify_proof_evidence(self.work, self.agreed, self.cast.epoch_set, terms, model, evidence)
                trainers = [trainer.address for trainer in self.cast.trainers]
                if account in trainers:
                    guilty = self.plan.trainers[trainers.index(account)] != "honest"
                else:
                    guilty = self._index(account) not in self.honest
        except CollegiumError as error:
            raise SafetyError(f"validator {by} found evidence that convicts nobody: {error}") from error
        if not guilty:
            raise SafetyError(f"validator {by} found {type(evidence).__name__} against somebody honest")
        self.convicted[type(evidence).__name__] += 1

    # ------------------------------------------------------------------------------------------------ memory

    def remembers(self, index: int, state: Any) -> None:
        """Check that an honest validator's state stays within its bounds.

        Raises:
            SafetyError: something has grown beyond them, or a block hangs in the air.
        """
        replica, round_ = state.replica, state.round
        size, cohort = self.plan.size, len(self.plan.trainers)
        sizes = {
            "headers": (len(replica.headers), VIEWS_KEPT_MAX),
            "votes": (len(replica.votes), VIEWS_KEPT_MAX),
            "pool": (len(replica.pool), 8 * size),
            "early": (len(round_.early), WAITING_EACH_MAX * size),
            "ahead": (len(round_.ahead), WAITING_EACH_MAX * size + cohort),
            "reports": (len(round_.reports), cohort),
            "releases": (len(round_.releases), size),
            "secrets": (len(round_.secrets), 3),
        }
        grown = {name: pair for name, pair in sizes.items() if pair[0] > pair[1]}
        if grown:
            raise SafetyError(f"validator {index} grows without bound: {grown}")
