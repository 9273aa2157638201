"""A validator between its state machine, its peers and its gateway: what goes in, what is told, what is answered.

The node belongs to the machine's thread: whatever reads it runs there, between two steps. What the gateway asks often
is answered from `Standing`, which each step leaves behind on the event loop's side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar, cast

from collegium.aggregation import Upload
from collegium.consensus import (
    Certified,
    Close,
    Committed,
    DueProof,
    Header,
    Message,
    Refused,
    Registered,
    RoundFinished,
    RoundMessage,
    RoundPassed,
    RoundState,
    Timer,
    decode_payload,
    encode_peer_message,
    proofs_due,
)
from collegium.crypto import Digest

from ._checkpoints import checkpoints
from ._desk import Readiness, Verdict, upload_lengths
from ._journal import HEADER_KIND
from ._journal_disk import DiskJournal
from ._machine import Alarm, Leaves, Machine, Parcel, Sender
from ._network import Outgoing, SharedWork
from ._play import lasts
from ._proof_threads import ProofResults, ProofThreads, Verified
from ._round_archive import RoundArchive, leave_behind
from ._round_spans import step_of
from ._validator_node import ValidatorNode

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
    """Where a validator is, as the loop's side knows it after each step."""

    round: int
    view: int
    current: bool  # it knows of no final header that it has not followed
    given_up: bool  # the view before this one was given up
    certified: bool = False  # this validator has a certificate of the header that it proposed
    step: str = "admit"  # of ROUND_STEPS
    persisted: int = 0  # bytes that the journal wrote since the process began


@dataclass(frozen=True, slots=True)
class FinalRound:
    """A round that is final here: its header, how many reports it adds, and the view that ordered it."""

    header: Header
    reports: int
    view: int


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """An upload from the gateway and where its verdict is awaited."""

    upload: Upload
    verdict: asyncio.Future[Verdict]

    def answer(self, verdict: Verdict) -> None:
        """Tell whoever still waits."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


class Watcher(Protocol):
    """Is told on the loop's side what a step brought about: logs, metrics, events, spans."""

    def stepped(self, kind: str, before: Standing, after: Standing) -> None:
        """Note that a message of a kind was handled."""
        ...

    def noted(self, sender: Sender, note: object) -> None:
        """Note something that the node noticed."""
        ...


class NodeSteps:
    """The machine's thread around a node: each step's messages are written as bytes there, once for all receivers."""

    def __init__(
        self,
        node: ValidatorNode,
        archive: RoundArchive,
        watcher: Watcher,
        rounds: int,
        proofs: ProofThreads | None = None,
    ) -> None:
        self.node, self.archive, self._watcher, self._rounds, self.proofs = node, archive, watcher, rounds, proofs
        self._timing = node.context.round.timing
        self._others = tuple(i for i in range(node.context.round.epoch_set.size) if i != node.index)
        self.standing = self._stand()
        self.final = self._last_header()
        self._pace()

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
        if self.proofs is None:
            return ()
        handled: Any = message.upload if isinstance(message, Submission) else message
        return proofs_due(self.node.context.round, self.node.state.round, handled, now_ms, sender)

    def _enter(self, results: ProofResults) -> None:
        work = self.node.context.round.work
        if isinstance(work, SharedWork):
            for key, result in results.items():
                work.put(key, *result)

    def _handle(self, message: object, now_ms: int, sender: Sender) -> list[Leaves]:
        submission = message if isinstance(message, Submission) else None
        handled = message if submission is None else submission.upload
        state, before = self.node.state.round, self.standing
        outgoing = list(self.node.handle(handled, now_ms, sender))
        leaves = self.leaves(outgoing)
        notes = [self._read(note, state, handled) for note in self.node.notes]
        self.node.notes.clear()
        self.standing = self._stand()
        if self.standing.round != before.round:
            self._pace()
            if isinstance(self.node.context.round.work, SharedWork):
                self.node.context.round.work.forget(lasts)
        if submission is not None:
            verdict = self._verdict(submission.upload, before.round, notes)
            leaves.append(partial(submission.answer, verdict))
        leaves.append(self._told(type(handled).__name__, sender, notes, before, self.standing))
        return leaves

    def _pace(self) -> None:
        """Set the deadline of the present round."""
        lost = sum(header.outcome != "opened" for header in self.node.headers)
        deadline_ms = round_deadline_ms(self._timing.deadline_ms, self.standing.round, self._rounds, lost)
        timing = replace(self._timing, deadline_ms=deadline_ms)
        self.node.context = replace(self.node.context, round=replace(self.node.context.round, timing=timing))

    def close(self) -> None:
        """Let go of files and threads, when no step is to come."""
        if self.proofs is not None:
            self.proofs.close()
        self.archive.close()
        if isinstance(self.node.journal, DiskJournal):
            self.node.journal.close()

    def leaves(self, outgoing: Sequence[Outgoing]) -> list[Leaves]:
        """Return what the node sends, written as bytes."""
        return [self._leaf(item) for item in outgoing]

    def _leaf(self, item: Outgoing) -> Leaves:
        message = item.message
        if item.at_ms is not None:
            return Alarm(message, item.at_ms, "view" if isinstance(message, Timer) else None)
        own = item.to is None or item.to == self.node.index
        to = self._others if item.to is None else tuple({item.to} - {self.node.index})
        frame = encode_peer_message(cast(Message | RoundMessage, message)) if to else b""
        return Parcel(frame, to, message if own else None)

    def _stand(self) -> Standing:
        state = self.node.state
        given_up = state.replica.vote_state.entry.timeout_certificate is not None
        current = state.round.final is None and not state.round.lacks_model
        certified = state.round.certified is not None
        step = step_of(state.round, len(self.node.context.round.cohort))
        persisted = self.node.journal.bytes_written if isinstance(self.node.journal, DiskJournal) else 0
        return Standing(state.round.terms.round, state.replica.view, current, given_up, certified, step, persisted)

    def _read(self, note: object, state: RoundState, message: object) -> object:
        """Return a note with what the loop's side cannot look up; keep what a final round leaves behind.

        Args:
            state: the round's before the step.
        """
        if not isinstance(note, RoundFinished | RoundPassed):
            return note
        number, close, view = note.header.round, None, 0
        for block in reversed(self.node.archive.blocks):
            if not block.payload:
                continue
            payload = decode_payload(block.payload)
            if isinstance(payload, Certified) and payload.header.digest == note.header.digest:
                view = block.view
                self.final = Committed(block, self.node.archive.proofs[block.digest])
            elif isinstance(payload, Close) and payload.round == number:
                close = payload
                break
        if close is not None and state.terms.round == number:
            model = note.model if isinstance(note, RoundFinished) else b""
            leave_behind(self.archive, state, message, close, note.header, model)
        return FinalRound(note.header, 0 if close is None else len(close.reports), view)

    def _last_header(self) -> Committed | None:
        """Return the block of the last final header with its proof."""
        archive = self.node.archive
        for block in reversed(archive.blocks):
            if block.payload[:1] == HEADER_KIND:
                return Committed(block, archive.proofs[block.digest])
        return None

    def _told(
        self, kind: str, sender: Sender, notes: list[object], before: Standing, after: Standing
    ) -> Callable[[], None]:
        def tell() -> None:
            self._watcher.stepped(kind, before, after)
            for note in notes:
                self._watcher.noted(sender, note)

        return tell

    def _verdict(self, upload: Upload, round_before: int, notes: Sequence[object]) -> Verdict:
        """Return what became of an upload in the step that it came in."""
        report, state = upload.report, self.node.state.round
        if report.round < round_before:
            return Verdict("too-late")
        if report.round > round_before:
            waiting = [message.report.id for _, message in state.ahead if isinstance(message, Upload)]
            if report.round > round_before + 1:
                return Verdict("too-early")
            other = _refusal(notes, "NotKeptError", "another report of this trainer waits for the round")
            return Verdict("kept") if report.id in waiting else other
        held = state.reports.get(report.trainer)
        here = state.terms.round > report.round or (held is not None and held.report.id == report.id)
        if here and report.id not in state.rejected:
            return Verdict("admitted")
        return _refusal(notes, "ReportRejectedError", "its proof does not verify")


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
        connected: how many other validators the transport is connected to.
        rounds, checkpoint_every: how many rounds the task has after round 0, and how often a checkpoint is due.
    """

    machine: Machine
    steps: NodeSteps
    connected: Callable[[], int]
    rounds: int
    checkpoint_every: int

    @property
    def task(self) -> Digest:
        """The task's identity."""
        return self.steps.node.context.round.epoch_set.task

    @property
    def index(self) -> int:
        """This validator's place in the epoch set."""
        return self.machine.index

    def open_rounds(self) -> Mapping[int, range]:
        """Return the rounds that uploads may be for now, with the lengths that one can have."""
        context, number = self.steps.node.context.round, self.steps.standing.round
        return {
            open_round: upload_lengths(context.agreed, open_round, context.seats)
            for open_round in (number, number + 1)
            if open_round <= self.rounds
        }

    def cohort(self) -> frozenset[bytes]:
        """Return the account addresses of the task's registered trainers."""
        return self.steps.node.context.round.cohort

    def readiness(self) -> Readiness:
        """Return how this validator stands."""
        standing, quorum = self.steps.standing, self.steps.node.context.round.epoch_set.quorum
        return Readiness(standing.round, self.connected() + 1, quorum, standing.current)

    async def submit(self, upload: Upload) -> Verdict:
        """Hand an upload to the round; awaits while too much waits already, then until it was handled."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        size = len(upload.ciphertext) + len(upload.proof) + len(upload.registration)
        await self.machine.mailbox.put(None, Submission(upload, verdict), size)
        return await verdict

    async def final_header(self) -> Committed | None:
        """Return the block of the last final header with its proof."""
        return self.steps.final

    async def blocks_after(self, block: Digest, count: int) -> Sequence[Committed] | None:
        """Return up to `count` final blocks after `block`, with the certificates of the last."""
        return await self._ask(lambda: self._blocks_after(block, count))

    async def object(self, digest: Digest) -> bytes | None:
        """Return what has this SHA-256."""
        return await self._ask(lambda: self.steps.archive.object(digest) or self.steps.node.journal.get(digest))

    async def object_named(self, identity: Digest) -> Digest | None:
        """Return the SHA-256 of the report or key sum of this identity."""
        return await self._ask(lambda: self.steps.archive.named(identity))

    async def registered(self, trainer: bytes) -> Registered | None:
        """Return what final closes say that this trainer has registered last."""
        return await self._ask(lambda: self.steps.node.state.round.registered.get(trainer))

    async def checkpoint_signature(self, last_round: int) -> bytes | None:
        """Return this validator's signature of the checkpoint that ends with a round."""
        return await self._ask(lambda: self._checkpoint_signature(last_round))

    async def _ask(self, question: Callable[[], T]) -> T:
        return await self.machine.compute(question)

    def _blocks_after(self, block: Digest, count: int) -> Sequence[Committed] | None:
        archive, genesis = self.steps.node.archive, self.steps.node.context.round.epoch_set.genesis()
        if block != genesis and archive.proofs.get(block) is None:
            return None
        return [Committed(found, archive.proofs[found.digest]) for found in archive.after(block, count)]

    def _checkpoint_signature(self, last_round: int) -> bytes | None:
        node = self.steps.node
        headers = [header.digest for header in node.headers]
        due = checkpoints(node.context.round.epoch_set, headers, self.rounds, self.checkpoint_every)
        wanted = [checkpoint for checkpoint in due if checkpoint.last_round == last_round]
        return node.sign_checkpoint(wanted[0]) if wanted else None
