"""A validator as a process: its secrets and journal from its folder, its peers and its gateway on sockets.

The state machine runs in one thread (`_machine`), the event loop does everything else. docs/spec/processes.md says what
is on disk when, what is bounded by what, and what a kill at any point costs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from collegium.consensus import (
    Admitted,
    ChangeContext,
    ChangePutOff,
    ChangeRules,
    EpochRefused,
    EpochVerifier,
    EvidenceFound,
    HandedOver,
    Ignored,
    PeerJoined,
    Refused,
    RoundAlarm,
    Tick,
    ValidatorContext,
    decode_upload,
    peer_bytes_max,
)
from collegium.crypto import os_random
from collegium.errors import CollegiumError

from ._consents import consents_of
from ._consortium import ValidatorSecrets, load_validator_secrets, read_genesis
from ._epoch_node import EpochNode, OldEpochUnreadable
from ._epoch_wire import EpochMessage, decode_epoch_message, frame_limits
from ._epochs import change_plan
from ._event_feed import EventFeed
from ._experiment import Experiment, experiment_from_bytes, require_for_processes
from ._figures import FIGURES, RoundFigures, append_figures
from ._gateway import Gateway
from ._gateway_server import GatewayServer
from ._genesis import Genesis, first_terms
from ._journal import BlockArchive
from ._journal_disk import JOURNAL, EpochJournals
from ._machine import Machine, MailboxLimits, Sender, monotonic_ms
from ._network import Outgoing, SharedWork
from ._network_settings import ValidatorSettings
from ._peers import PeerLimits, Peers
from ._process import first_to_end, open_log, stop_signal
from ._proof_threads import ProofThreads
from ._round_archive import RoundArchive
from ._round_spans import RoundSpans, SpanWriter
from ._setup import build_task, surround
from ._task import EMPTY_STATE, LearningTask
from ._telemetry import NodeMetrics, short
from ._tls import gateway_context, peer_tls
from ._upload_spool import SpoolLimits, UploadSpool
from ._validator_desk import FinalRound, NodeSteps, Standing, ValidatorDesk

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["FormerJournalError", "ValidatorProcess", "run_validator"]

TICK_S: Final = 2.0  # between two looks at what may have become due, each with a question to a peer for news
WATCH_S: Final = 0.25  # between two looks whether this validator takes part
ROUNDS_KEPT: Final = 2  # whose uploads and models stay in the journal; what others may ask for is in the archive
EPOCHS: Final = "epochs"  # in the folder of its state: a folder with a journal for each epoch
ARCHIVE: Final = "archive.db"
SPOOL: Final = "uploads"
SPANS: Final = "spans.jsonl"
SPANS_VARIABLE: Final = "COLLEGIUM_SPANS"  # 1: OpenTelemetry's spans of every round are written to SPANS


class FormerJournalError(CollegiumError):
    """A journal lies where an older version kept it."""


async def run_validator(settings: ValidatorSettings) -> None:
    """Run a validator until a signal to stop, or until the disk fails.

    Raises:
        CollegiumError: settings, keys, journal or addresses cannot be used, or the disk failed.
    """
    with open_log(settings.log, "validator", settings.index) as log:
        async with stop_signal() as stopping:
            process = await ValidatorProcess.open(settings, log)
            try:
                await first_to_end(process.serve(), stopping.wait())
            finally:
                await process.close()
                log.info("stopped")


@dataclass(eq=False)
class ValidatorProcess:
    """A validator with everything around it."""

    settings: ValidatorSettings
    log: FilteringBoundLogger
    machine: Machine
    steps: NodeSteps
    peers: Peers
    server: GatewayServer
    desk: ValidatorDesk
    metrics: NodeMetrics
    first: list[Outgoing]
    writer: SpanWriter | None

    @classmethod
    async def open(cls, settings: ValidatorSettings, log: FilteringBoundLogger) -> ValidatorProcess:
        """Read the folder, take up where the journal ends, and make ready to listen; nothing is sent yet."""
        # 1. what the task is, and who this is in it
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        require_for_processes(experiment)
        task = build_task(genesis, experiment)
        secrets = load_validator_secrets(settings, genesis)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        # 2. the state machine, in its thread, where its journal belongs too
        feed, metrics = EventFeed(), NodeMetrics()
        writer = SpanWriter(settings.state / SPANS) if os.environ.get(SPANS_VARIABLE) == "1" else None
        spans = RoundSpans(genesis.task, "validator", settings.index, writer and writer.provider)
        reporter = _Reporter(settings, log, feed, metrics, spans)
        machine = Machine(settings.index, MailboxLimits(settings.limits.mailbox_messages))
        context = _context(settings, genesis, experiment, task, secrets)
        proofs = ProofThreads(task, machine.mailbox.add)
        steps, first = await machine.compute(
            lambda: _restore(settings, genesis, task, context, secrets, reporter, proofs)
        )
        # 3. sockets

        async def on_frame(sender: int, frame: bytes) -> None:
            await machine.mailbox.put(sender, decode_epoch_message(frame), len(frame))

        peers = Peers(
            settings.index,
            {**settings.peers, settings.index: settings.listen},
            peer_tls(settings.tls, genesis.task, settings.pins),
            on_frame,
            reporter.joined(machine),
            _peer_limits(settings, task, experiment.committee.seats),
        )
        rounds, every = experiment.task.rounds, experiment.chain.checkpoint_every
        desk = ValidatorDesk(machine, steps, peers.connected, rounds, every, task.quality)
        spool_limits = SpoolLimits(bytes_max=settings.limits.spool_bytes)
        spool = UploadSpool(settings.state / SPOOL, genesis.task, settings.index, spool_limits)
        gateway = Gateway(desk, spool, feed, decode_upload, metrics, serves_metrics=settings.metrics)
        reporter.gateway = gateway
        tls, place = gateway_context(settings.tls), settings.gateway
        server = GatewayServer(gateway.app(), tls, *place, metrics, stopping=feed.close)
        return cls(settings, log, machine, steps, peers, server, desk, metrics, first, writer)

    async def serve(self) -> None:
        """Listen, and run the state machine, until it is cancelled; then the step that has begun is finished."""
        await self.peers.start()
        await self.server.start()
        self.machine.deliver(self.steps.leaves(self.first))
        self.first = []
        self.log.info("listening", peers=self.peers.address[1], gateway=self.settings.gateway[1])
        machine = asyncio.ensure_future(self.machine.run(self.steps.step, self.peers.send))
        try:
            await first_to_end(asyncio.shield(machine), self._tick(), self._watch())
        finally:
            self.machine.stop()
            await machine

    async def close(self) -> None:
        """Stop listening and close the journal."""
        await self.server.stop()
        await self.peers.stop()
        self.steps.close()
        if self.writer is not None:
            self.writer.close()

    async def _tick(self) -> None:
        """Have the machine look again every while, at first at once."""
        while True:
            standing = self.steps.standing
            for message in (Tick(), RoundAlarm(standing.round)):
                self.machine.tell_self(EpochMessage(standing.epoch, message))
            await asyncio.sleep(TICK_S)

    async def _watch(self) -> None:
        """Say when this validator takes part, or follows without a place, and keep the figures that nobody tells."""
        said: tuple[int, bool] | None = None
        while True:
            standing, ready = self.steps.standing, self.desk.readiness().ready
            outside = standing.back_at is not None
            if (ready or outside) and said != (standing.epoch, outside):
                said = (standing.epoch, outside)
                if outside:
                    self.log.info("outside", epoch=standing.epoch, round=standing.round, back_at=standing.back_at)
                else:
                    self.log.info("ready", epoch=standing.epoch, round=standing.round)
            peers = self.peers.counters.values()
            cut_offs = sum((Counter(peer.cut_offs) for peer in peers), Counter[str]())
            self.metrics.set_peers(len(self.peers.connected()))
            self.metrics.peers_so_far(sum(peer.bytes_out for peer in peers), cut_offs)
            self.metrics.set_queue("mailbox", len(self.machine.mailbox))
            self.metrics.set_queue("proofs", 0 if self.steps.proofs is None else self.steps.proofs.waiting)
            await asyncio.sleep(WATCH_S)


def _context(
    settings: ValidatorSettings, genesis: Genesis, experiment: Experiment, task: LearningTask, secrets: ValidatorSecrets
) -> ValidatorContext:
    """Return the surroundings of this validator's state machine in the task's first epoch."""
    work, plan = SharedWork(), change_plan(genesis, experiment.committee)
    context = surround(
        genesis,
        task,
        settings.index,
        secrets,
        secrets.beacon,
        BlockArchive(),
        seats=experiment.committee.seats,
        verifiers=experiment.committee.verifiers,
        view_timeout_ms=settings.timing.view_timeout_ms,
        timing=settings.timing.round,
        work=work,
        signatures=EpochVerifier(genesis.epoch_set),
        consents=consents_of(genesis, experiment.licences),
        registries=bool(experiment.chain.followers),
    )
    if plan is None:
        return context
    rules, first_value = ChangeRules(plan, genesis.epoch_set, work), sha256(genesis.beacon).digest()
    return replace(context, change=ChangeContext(rules, 0, first_value, secrets.account, secrets.voting, os_random))


def _peer_limits(settings: ValidatorSettings, task: LearningTask, seats: int) -> PeerLimits:
    """Return the transport's bounds: no frame is longer than one of its kind can be in this task."""
    scaling, training = (peer_bytes_max(task, number, seats) for number in (0, 1))
    limits = settings.limits
    return PeerLimits(
        limit_of=frame_limits(scaling, training),
        messages_rate_max=limits.peer_messages_per_s,
        bytes_rate_max=limits.peer_bytes_per_s,
    )


def _restore(
    settings: ValidatorSettings,
    genesis: Genesis,
    task: LearningTask,
    context: ValidatorContext,
    secrets: ValidatorSecrets,
    reporter: _Reporter,
    proofs: ProofThreads,
) -> tuple[NodeSteps, list[Outgoing]]:
    """Return the member as its journals say, new if there are none, and what it has to say first."""
    former = settings.state / JOURNAL
    if former.exists():  # begun anew beside it, this validator could sign things twice
        raise FormerJournalError(
            f"{former} is the journal of an older version; move it, and what lies beside it under its name, into "
            f"{settings.state / EPOCHS / '00000'}",
            path=str(former),
        )
    journals = EpochJournals(settings.state / EPOCHS, ROUNDS_KEPT)
    archive = RoundArchive.open(settings.state / ARCHIVE)
    terms = first_terms(genesis, task, context.round.seats, EMPTY_STATE)
    seal = {} if secrets.seal is None else {0: secrets.seal}
    accounts = [entry.account for entry in genesis.validators]
    member, first = EpochNode.restore(
        settings.index,
        accounts,
        journals.open,
        context,
        terms,
        EMPTY_STATE,
        seal,
        monotonic_ms(),
        journals.close,
    )
    return NodeSteps(member, journals, archive, reporter, task.rounds, proofs), first


@dataclass
class _Watch:
    """When things happened in the present round, and the processor time at its beginning, in seconds."""

    admitted_s: float | None = None
    certified_s: float | None = None
    cpu_s: float = field(default_factory=time.process_time)

    def end(self, number: int) -> RoundFigures:
        """Return the figures of the round that has just become final, and begin the next."""
        admitted, certified, cpu_s = self.admitted_s, self.certified_s, time.process_time()
        figures = RoundFigures(
            round=number,
            coordination_ms=_ms(admitted, certified),
            finality_ms=_ms(admitted, time.monotonic()),
            cpu_seconds=round(cpu_s - self.cpu_s, 6),
        )
        self.admitted_s, self.certified_s, self.cpu_s = None, None, cpu_s
        return figures


def _ms(began_s: float | None, ended_s: float | None) -> float | None:
    return None if began_s is None or ended_s is None else round(max(0.0, 1e3 * (ended_s - began_s)), 3)


@dataclass(eq=False)
class _Reporter:
    """Tells the log, the metrics and the listeners what happened; on the event loop's side."""

    settings: ValidatorSettings
    log: FilteringBoundLogger
    feed: EventFeed
    metrics: NodeMetrics
    spans: RoundSpans
    gateway: Gateway | None = None
    watch: _Watch = field(default_factory=_Watch)

    def joined(self, machine: Machine) -> Callable[[int], None]:
        """Return what the transport calls when a peer may have missed something."""

        def on_joined(index: int) -> None:
            machine.tell_self(PeerJoined(index))
            self.feed.publish("peer_joined", peer=index)

        return on_joined

    def stepped(self, kind: str, before: Standing, after: Standing, took_s: float) -> None:
        """Note where the validator is after a step."""
        self.metrics.stepped(kind, took_s)
        self.metrics.persisted(after.persisted - before.persisted)
        if after.round == before.round:
            self.spans.at(after.round, after.step)
        if after.certified and not before.certified:
            self.watch.certified_s = time.monotonic()
        if after.view != before.view:
            self.metrics.in_view(after.view)
            if after.given_up:
                self.metrics.view_changed()
                self.log.info("view_changed", view=after.view)
                self.feed.publish("view_changed", view=after.view)
        if (after.epoch, after.back_at is None) != (before.epoch, before.back_at is None):
            self.metrics.in_epoch(after.epoch, member=after.back_at is None)
            self.log.info("epoch_began", epoch=after.epoch, round=after.round, member=after.back_at is None)
            self.feed.publish("epoch_began", epoch=after.epoch, member=after.back_at is None)
        if after.round != before.round:
            self.metrics.entered(after.round)
            self.feed.publish("round_began", round=after.round)
            if self.gateway is not None:
                self.gateway.forget_rounds_over()
            if self.settings.seal_key.exists():
                self.settings.seal_key.unlink()  # of round 0, which is over: what was sealed to it stays sealed

    def noted(self, sender: Sender, note: object) -> None:
        """Note what the node noticed."""
        match note:
            case Admitted():
                self.watch.admitted_s = time.monotonic()
            case FinalRound():
                header = note.header
                append_figures(self.settings.state / FIGURES, self.watch.end(header.round))
                self.metrics.finished(header.outcome)
                self.spans.finish(header.outcome, reports=note.reports, view=note.view)
                fields = {"round": header.round, "outcome": header.outcome, "reports": note.reports, "view": note.view}
                self.log.info("round_final", **fields, header=short(header.digest), model=short(header.model))
                self.feed.publish("round_final", **fields)
            case HandedOver():
                opened = note.opened
                members = opened.epoch_set.size
                self.log.info(
                    "handed_over", epoch=opened.epoch_set.epoch, first_round=opened.first_round, members=members
                )
            case ChangePutOff():
                self.log.warning("change_put_off", epoch=note.epoch, start=note.start, reason=note.reason)
            case EpochRefused():
                self.log.warning("change_refused", reason=note.reason)
            case OldEpochUnreadable():
                self.log.warning("old_epoch_unreadable", epoch=note.epoch, reason=note.reason)
            case EvidenceFound():
                self.log.warning("evidence", kind=type(note.evidence).__name__)
                self.metrics.refused("evidence", type(note.evidence).__name__)
            case Refused():
                self.metrics.refused(note.sender, type(note.reason).__name__)
                self.log.debug("refused", what=note.sender, sender=sender, reason=note.reason)
            case Ignored():
                self.metrics.refused("order", type(note.reason).__name__)
                self.log.debug("ignored", sender=sender, reason=note.reason)
