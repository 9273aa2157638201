"""A validator between its state machine, its peers and its gateway: what goes in, what is told, what is answered.

The node belongs to the machine's thread: whatever reads it runs there, between two steps. What the gateway asks often
is answered from `Standing`, which each step leaves behind on the event loop's side. What is asked of the present round
the present epoch's node answers; final blocks, handovers and checkpoints of epochs that are over are answered as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import groupby
from typing import Any, Final, Protocol, TypeVar, cast

from collegium.aggregation import Upload
from collegium.consensus import (
    Certified,
    Close,
    Committed,
    DueProof,
    EvidenceFound,
    HandoverProof,
    Header,
    Refused,
    Registered,
    RoundFinished,
    RoundPassed,
    RoundRecord,
    RoundState,
    Timer,
    ValidatorContext,
    Withdrawals,
    WrongRoundError,
    awaited_trainers,
    decode_payload,
    encode_withdrawal,
    follow_withdrawals,
    is_beside_rounds,
    proofs_due,
)
from collegium.crypto import Digest
from collegium.settlement import Checkpoint

from ._checkpoints import checkpoints, opening_digest
from ._desk import FinalBlocks, Passed, Readiness, Verdict, upload_lengths
from ._epoch_node import BroughtWithdrawal, EpochNode
from ._epoch_wire import EpochMessage, encode_epoch_message
from ._epochs import place_of
from ._evidence import (
    CHARGES_MAX,
    Charge,
    RoundVotes,
    charge_of,
    encode_run_evidence,
    round_evidence_name,
    votes_by_seat,
)
from ._journal import HEADER_KIND
from ._journal_disk import EpochJournals
from ._machine import Alarm, Leaves, Machine, Parcel, Sender
from ._network import Outgoing, SharedWork
from ._observer import NOWHERE, Observer
from ._proof_threads import ProofResults, ProofThreads, Verified
from ._quality import QualityRule
from ._round_archive import RoundArchive, leave_behind
from ._round_spans import step_of
from ._validator_node import ValidatorNode
from ._verify_ahead import lasts

__all__ = [
    "FinalRound",
    "NodeSteps",
    "Standing",
    "Submission",
    "ValidatorDesk",
    "Watcher",
    "round_deadline_ms",
]

T = TypeVar("T")
FOUNDING_MS: Final = 3_600_000  # for every trainer to come to round 0, before it is closed with those that are there
NEVER_MS: Final = 1 << 40
DOUBLINGS_MAX: Final = 4


def round_deadline_ms(deadline_ms: int, round_number: int, rounds: int, lost: int) -> int:
    """Return after how long a round is closed with the reports that are there.

    Without round 0 nothing is learned, so it waits long for those that are still to come; after the last round nobody
    closes one that no trainer knows of. Between, time doubles with every round that was lost for want of reports: a
    machine on which nobody is done in time learns more slowly, not nothing. All validators see the same rounds lost.

    Args:
        deadline_ms: as the settings say.
        rounds: the task's last round.
        lost: final rounds that changed no model.
    """
    if round_number == 0:
        return max(deadline_ms, FOUNDING_MS)
    if round_number > rounds:
        return NEVER_MS
    return max(deadline_ms, min(FOUNDING_MS, deadline_ms << min(lost, DOUBLINGS_MAX)))


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a validator is, as the loop's side knows it after each step.

    `back_at` is the first round, at the earliest, of the next epoch, for a candidate outside the present one's set.
    """

    epoch: int
    round: int
    view: int
    current: bool  # it knows of no final header that it has not followed
    given_up: bool  # the view before this one was given up
    certified: bool = False  # this validator has a certificate of the header that it proposed
    step: str = "admit"  # of ROUND_STEPS
    persisted: int = 0  # bytes that the journal wrote since the process began
    back_at: int | None = None


@dataclass(frozen=True, slots=True)
class FinalRound:
    """A round that is final here: its header, how many reports it adds, and the view that ordered it."""

    header: Header
    reports: int
    view: int


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """An upload or a steward's record from the gateway, and where its verdict is awaited."""

    brought: Upload | RoundRecord
    verdict: asyncio.Future[Verdict]

    def answer(self, verdict: Verdict) -> None:
        """Tell whoever still waits."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


class Watcher(Protocol):
    """Is told on the loop's side what a step brought about: logs, metrics, events, spans."""

    def stepped(self, kind: str, before: Standing, after: Standing, took_s: float) -> None:
        """Note that a message of a kind was handled, and how long that took."""
        ...

    def noted(self, sender: Sender, note: object) -> None:
        """Note something that the node noticed."""
        ...


class NodeSteps:
    """The machine's thread around a node: each step's messages are written as bytes there, once for all receivers."""

    def __init__(
        self,
        epochs: EpochNode,
        journals: EpochJournals,
        archive: RoundArchive,
        watcher: Watcher,
        rounds: int,
        proofs: ProofThreads | None = None,
    ) -> None:
        self.epochs, self.journals, self.archive, self._watcher = epochs, journals, archive, watcher
        self._rounds, self.proofs = rounds, proofs
        self._timing = epochs.present.context.round.timing
        self.standing = self._stand()
        self.final = self._last_header()
        self._charges: dict[object, Charge] = {}  # found since the last final round, by deed
        self._pace()

    @property
    def context(self) -> ValidatorContext:
        """The surroundings in the present epoch."""
        return self.epochs.present.context

    def step(self, message: object, now_ms: int, sender: Sender) -> list[Leaves]:
        """Handle one message, or have it wait for proofs; what it brought about is on disk before this returns."""
        if not isinstance(message, Verified):
            due = self._due(message, now_ms, sender)
        else:
            self._enter(message.results)
            due = () if message.whole else self._due(message.message, now_ms, sender)
            message = message.message
        if due and self.proofs is not None:
            return [partial(self.proofs.begin, sender, message, due)]
        return self._handle(message, now_ms, sender)

    def _due(self, message: object, now_ms: int, sender: Sender) -> tuple[DueProof, ...]:
        """Return the proofs that handling a message is about to verify, if threads can do it before."""
        node = self.epochs.present
        if self.proofs is None or isinstance(node, Observer):
            return ()
        handled: Any = message.brought if isinstance(message, Submission) else message
        place = sender
        if isinstance(handled, EpochMessage):
            if handled.epoch != self.epochs.epoch or sender is None:
                return ()
            place = place_of(self.epochs.accounts[sender], self.epochs.epoch_set)
            if place is None:
                return ()
            handled = handled.message
        return proofs_due(node.context.round, node.state.round, handled, now_ms, place)

    def _enter(self, results: ProofResults) -> None:
        work = self.context.round.work
        if isinstance(work, SharedWork):
            for key, result in results.items():
                work.put(key, *result)

    def _handle(self, message: object, now_ms: int, sender: Sender) -> list[Leaves]:
        began_s = time.perf_counter()
        submission = message if isinstance(message, Submission) else None
        handled = message if submission is None else submission.brought
        states = {id(node): node.state.round for node in self.epochs.nodes if isinstance(node, ValidatorNode)}
        before = self.standing
        outgoing = list(self.epochs.handle(handled, now_ms, sender))
        leaves = self.leaves(outgoing)
        said = handled.message if isinstance(handled, EpochMessage) else handled
        notes = [
            self._read(note, node, states.get(id(node)), said) for node in self.epochs.nodes for note in node.notes
        ]
        notes += self.epochs.notes
        self.epochs.notes.clear()
        for node in self.epochs.nodes:
            node.notes.clear()
        self.standing = self._stand()
        if self.standing.round != before.round:
            self._pace()
            if isinstance(self.context.round.work, SharedWork):
                self.context.round.work.forget(lasts)
        if submission is not None:
            verdict = self._verdict(submission.brought, before.round, notes)
            leaves.append(partial(submission.answer, verdict))
        leaves.append(self._told(type(said).__name__, sender, notes, before, began_s))
        return leaves

    def _pace(self) -> None:
        """Set the deadline of the present round."""
        node = self.epochs.present
        if isinstance(node, Observer):
            return
        lost = sum(header.outcome != "opened" for header in self.epochs.headers())
        deadline_ms = round_deadline_ms(self._timing.deadline_ms, self.standing.round, self._rounds, lost)
        timing = replace(self._timing, deadline_ms=deadline_ms)
        node.context = replace(node.context, round=replace(node.context.round, timing=timing))

    def close(self) -> None:
        """Let go of files and threads, when no step is to come."""
        if self.proofs is not None:
            self.proofs.close()
        self.archive.close()
        self.journals.close_all()

    def leaves(self, outgoing: Sequence[Outgoing]) -> list[Leaves]:
        """Return what the node sends, written as bytes: what several are told in succession is written once."""
        found: list[Leaves] = []
        for _, group in groupby(outgoing, _word):
            found.append(self._leaf(list(group)))
        return found

    def _leaf(self, items: list[Outgoing]) -> Leaves:
        """Return one message to those that it is for."""
        item, said = items[0], cast(EpochMessage, items[0].message)
        if item.at_ms is not None:
            return Alarm(said, item.at_ms, ("view", said.epoch) if isinstance(said.message, Timer) else None)
        member = self.epochs.member
        to = tuple(item.to for item in items if item.to is not None and item.to != member)
        own = any(item.to == member for item in items)
        return Parcel(encode_epoch_message(said) if to else b"", to, said if own else None)

    def _stand(self) -> Standing:
        node, persisted = self.epochs.present, self.journals.bytes_written
        if isinstance(node, Observer):
            return Standing(
                self.epochs.epoch,
                node.round,
                node.view,
                current=False,
                given_up=False,
                persisted=persisted,
                back_at=node.back_at,
            )
        state = node.state
        return Standing(
            epoch=self.epochs.epoch,
            round=state.round.terms.round,
            view=state.replica.view,
            current=state.round.final is None and not state.round.lacks_model,
            given_up=state.replica.vote_state.entry.timeout_certificate is not None,
            certified=state.round.certified is not None,
            step=step_of(state.round, len(awaited_trainers(node.context.round, state.round))),
            persisted=persisted,
        )

    def _read(self, note: object, node: ValidatorNode | Observer, state: RoundState | None, message: object) -> object:
        """Return a note with what the loop's side cannot look up; keep what a final round leaves behind.

        Args:
            node: who noted it.
            state: the round's before the step; None where this validator holds none.
        """
        if isinstance(note, EvidenceFound):
            self._charge(note)
        if not isinstance(note, RoundFinished | RoundPassed):
            return note
        number, close, view, archive = note.header.round, None, 0, node.journal.archive
        for block in reversed(archive.blocks):
            if not block.payload or is_beside_rounds(block.payload):
                continue
            payload = decode_payload(block.payload)
            if isinstance(payload, Certified) and payload.header.digest == note.header.digest:
                view = block.view
                self.final = Committed(block, archive.proofs[block.digest])
            elif isinstance(payload, Close) and payload.round == number:
                close = payload
                break
        if close is not None and state is not None and state.terms.round == number:
            model = note.model if isinstance(note, RoundFinished) else b""
            leave_behind(self.archive, state, message, close, note.header, model)
        self._keep_evidence(note.header, node, state)
        return FinalRound(note.header, 0 if close is None else len(close.reports), view)

    def _charge(self, note: EvidenceFound) -> None:
        """Keep what convicts somebody until the round is over."""
        epoch_sets = [node.context.round.epoch_set for node in self.epochs.nodes]
        charge = charge_of(note, epoch_sets)
        if charge is not None and len(self._charges) < CHARGES_MAX:
            self._charges.setdefault((charge.kind, charge.parts), charge)

    def _keep_evidence(self, header: Header, node: ValidatorNode | Observer, state: RoundState | None) -> None:
        """Keep, for whoever asks, the votes that this validator gathered for a final header, and what it has found."""
        votes, members = RoundVotes(header.round, (), b""), node.context.round.epoch_set
        if state is not None and state.own is not None and state.own.header.digest == header.digest:
            seats = [seat.validator for seat in state.terms.seats]
            votes = votes_by_seat(header.round, members, header.digest, seats, state.votes)
        if not votes.voters and not self._charges:
            return
        data = encode_run_evidence([votes], tuple(self._charges.values()))
        digest = sha256(data).digest()
        self.archive.put({digest: data}, {round_evidence_name(header.digest): digest})
        self._charges.clear()

    def _last_header(self) -> Committed | None:
        """Return the block of the last final header with its proof."""
        for node in reversed(self.epochs.nodes):
            archive = node.journal.archive
            for block in reversed(archive.blocks):
                if block.payload[:1] == HEADER_KIND:
                    return Committed(block, archive.proofs[block.digest])
        return None

    def _told(
        self, kind: str, sender: Sender, notes: list[object], before: Standing, began_s: float
    ) -> Callable[[], None]:
        after, took_s = self.standing, time.perf_counter() - began_s

        def tell() -> None:
            self._watcher.stepped(kind, before, after, took_s)
            for note in notes:
                self._watcher.noted(sender, note)

        return tell

    def _verdict(self, brought: Upload | RoundRecord, round_before: int, notes: Sequence[object]) -> Verdict:
        """Return what became of an upload, or of a steward's record, in the step that it came in."""
        if isinstance(brought, RoundRecord):
            return self._record_verdict(brought, round_before, notes)
        return self._upload_verdict(brought, round_before, notes)

    def _upload_verdict(self, upload: Upload, round_before: int, notes: Sequence[object]) -> Verdict:
        report, node = upload.report, self.epochs.present
        if report.round < round_before:
            return Verdict("too-late")
        if isinstance(node, Observer):
            return Verdict("too-early")  # and when it is asked again, no round is open here
        state = node.state.round
        if report.round > round_before:
            waiting = [message.report.id for _, message in state.ahead if isinstance(message, Upload)]
            waiting += [kept.report.id for kept in self.epochs.early.values()]
            if report.round > round_before + 1:
                return Verdict("too-early")
            other = _refusal(notes, "NotKeptError", "another report of this trainer waits for the round")
            return Verdict("kept") if report.id in waiting else other
        held = state.reports.get(report.trainer)
        here = state.terms.round > report.round or (held is not None and held.report.id == report.id)
        if here and report.id not in state.rejected:
            return Verdict("admitted")
        return _refusal(notes, "ReportRejectedError", "its proof does not verify")

    def _record_verdict(self, record: RoundRecord, round_before: int, notes: Sequence[object]) -> Verdict:
        node = self.epochs.present
        if record.round < round_before:
            return Verdict("too-late")
        if isinstance(node, Observer) or record.round > round_before + 1:
            return Verdict("too-early")
        records, state = node.state.records, node.state.round
        if record.record in records.final or any(entry.record == record.record for entry in records.held):
            return Verdict("kept" if record.round > round_before or state.lacks_model else "admitted")
        refusal = _refusal(notes, WrongRoundError.__name__, "the close of its round is final")
        return Verdict("too-late") if refusal.reason == WrongRoundError.__name__ else refusal


def _word(item: Outgoing) -> tuple[int, int | None]:
    """Return what tells messages of one step apart."""
    said = item.message
    return id(said.message if isinstance(said, EpochMessage) else said), item.at_ms


def _refusal(notes: Sequence[object], name: str, detail: str) -> Verdict:
    """Return the refusal that a step noted, else this one."""
    for note in notes:
        if isinstance(note, Refused):
            return Verdict("refused", type(note.reason).__name__, str(note.reason))
    return Verdict("refused", name, detail)


@dataclass(eq=False)
class ValidatorDesk:
    """The validator as its gateway sees it (`Desk`).

    Args:
        connected: which other validators the transport is connected to.
        rounds, checkpoint_every: how many rounds the task has after round 0, and how often a checkpoint is due.
        quality: how trainers are weighed; None where they are not.
    """

    machine: Machine
    steps: NodeSteps
    connected: Callable[[], frozenset[int]]
    rounds: int
    checkpoint_every: int
    quality: QualityRule | None = None

    @property
    def task(self) -> Digest:
        """The task's identity."""
        return self.steps.epochs.epoch_set.task

    @property
    def index(self) -> int:
        """This validator's place among the candidates."""
        return self.machine.index

    def open_rounds(self) -> Mapping[int, range]:
        """Return the rounds that uploads may be for now, with the lengths that one can have; none outside the set."""
        context, standing = self.steps.context.round, self.steps.standing
        if standing.back_at is not None:
            return {}
        return {
            open_round: upload_lengths(context.agreed, open_round, context.seats)
            for open_round in (standing.round, standing.round + 1)
            if open_round <= self.rounds
        }

    def cohort(self) -> frozenset[bytes]:
        """Return the account addresses of the task's registered trainers."""
        return self.steps.context.round.cohort

    def stewards(self) -> frozenset[bytes]:
        """Return the account addresses of the task's stewards; none where trainers are not measured."""
        return frozenset() if self.quality is None else frozenset(self.quality.stewards)

    def record_lengths(self) -> range:
        """Return the lengths that a steward's record of this task can have, in bytes; none without stewards."""
        return range(0) if self.quality is None else self.quality.record_lengths

    def readiness(self) -> Readiness:
        """Return how this validator stands."""
        standing, epoch_set = self.steps.standing, self.steps.epochs.epoch_set
        members = {self.steps.epochs.accounts.index(validator.account) for validator in epoch_set.validators}
        connected = len(members & {*self.connected(), self.index})
        return Readiness(
            standing.round, connected, epoch_set.quorum, standing.current, standing.epoch, standing.back_at
        )

    async def submit(self, upload: Upload) -> Verdict:
        """Hand an upload to the round; awaits while too much waits already, then until it was handled."""
        return await self._hand_in(upload, len(upload.ciphertext) + len(upload.proof) + len(upload.registration))

    async def bring(self, record: RoundRecord) -> Verdict:
        """Hand a steward's record to the order, as `submit` an upload to the round."""
        return await self._hand_in(record, len(record.record))

    async def _hand_in(self, brought: Upload | RoundRecord, size: int) -> Verdict:
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        await self.machine.mailbox.put(None, Submission(brought, verdict), size)
        return await verdict

    async def withdraw(self, record: bytes) -> None:
        """Hand a withdrawal of consent to the order, if it is one of this task."""
        payload = encode_withdrawal(record)
        follow_withdrawals(self.steps.context.consents, Withdrawals(), (payload,))
        await self.machine.mailbox.put(None, BroughtWithdrawal(payload), len(payload))

    async def final_header(self) -> Committed | None:
        """Return the block of the last final header with its proof."""
        return self.steps.final

    async def blocks_after(
        self, block: Digest, count: int, bytes_max: int, epoch: int | None = None
    ) -> FinalBlocks | None:
        """Return up to `count` final blocks of an epoch after `block`, with the certificates of the last."""
        return await self._ask(lambda: self._blocks_after(block, count, bytes_max, epoch))

    async def handover(self, epoch: int, number: int | None) -> HandoverProof | Passed | None:
        """Return what ended an epoch; `Passed` if it goes on after a round, None if that is not known here."""
        return await self._ask(lambda: self._handover(epoch, number))

    async def object(self, digest: Digest) -> bytes | None:
        """Return what has this SHA-256."""
        return await self._ask(lambda: self.steps.archive.object(digest) or self._kept(digest))

    async def object_named(self, identity: Digest) -> Digest | None:
        """Return the SHA-256 of the report or key sum of this identity."""
        return await self._ask(lambda: self.steps.archive.named(identity))

    async def registered(self, trainer: bytes) -> Registered | None:
        """Return what final closes say that this trainer has registered last."""
        return await self._ask(lambda: self._registered(trainer))

    async def checkpoint_signature(self, last_round: int) -> bytes | None:
        """Return this validator's signature of the checkpoint that ends with a round."""
        return await self._ask(lambda: self._checkpoint_signature(last_round))

    async def handover_signature(self, epoch: int) -> bytes | None:
        """Return this validator's signature, for the base chain, of what follows on an epoch."""
        return await self._ask(lambda: self._handover_signature(epoch))

    async def _ask(self, question: Callable[[], T]) -> T:
        return await self.machine.compute(question)

    def _kept(self, digest: Digest) -> bytes | None:
        found = (node.journal.get(digest) for node in reversed(self.steps.epochs.nodes))
        return next((data for data in found if data is not None), None)

    def _registered(self, trainer: bytes) -> Registered | None:
        node = self.steps.epochs.present
        return (node.registered if isinstance(node, Observer) else node.state.round.registered).get(trainer)

    def _blocks_after(self, block: Digest, count: int, bytes_max: int, epoch: int | None) -> FinalBlocks | None:
        epochs = self.steps.epochs
        number = epochs.epoch if epoch is None else epoch
        context, archive = epochs.context_of(number), epochs.archive(number)
        if context is None or archive is None:
            return None
        if block != context.ordering(None, 0).genesis and archive.proofs.get(block) is None:
            return None
        return FinalBlocks.of(archive.after(block, count), bytes_max, archive.proofs.__getitem__)

    def _handover(self, epoch: int, number: int | None) -> HandoverProof | Passed | None:
        epochs = self.steps.epochs
        past = epochs.past_of(epoch)
        if past is not None:
            return past.proof
        return Passed() if epoch == epochs.epoch and number is not None and self.steps.standing.round > number else None

    def _checkpoint_signature(self, last_round: int) -> bytes | None:
        wanted = [checkpoint for checkpoint in self._due() if checkpoint.last_round == last_round]
        return self._sign(wanted[0].epoch, wanted[0].digest) if wanted else None

    def _handover_signature(self, epoch: int) -> bytes | None:
        past = self.steps.epochs.past_of(epoch)
        if past is None:
            return None
        last = next((due for due in self._due() if due.last_round == past.headers[-1].round), None)
        if last is None:
            return None
        return self._sign(epoch, opening_digest(past.opened.epoch_set, last.digest))

    def _due(self) -> tuple[Checkpoint, ...]:
        """Return all checkpoints that the final headers here make."""
        epochs = self.steps.epochs
        headers = [header.digest for header in epochs.headers()]
        first = epochs.past[0].context if epochs.past else epochs.present.context
        later = [past.following for past in epochs.past]
        return checkpoints(first.round.epoch_set, headers, self.rounds, self.checkpoint_every, later)

    def _sign(self, epoch: int, digest: Digest) -> bytes | None:
        """Sign as a member of an epoch; nothing where this validator had no place in it."""
        context = self.steps.epochs.context_of(epoch)
        if context is None or context.round.index == NOWHERE:
            return None
        return context.round.voting_key.sign(digest)
