"""A whole consortium on one virtual clock: one seed, one history, the same on every machine.

The nodes are those that run as processes (`EpochNode`: ordering, learning round, change of epochs, a journal for each
epoch); network, disks, clocks and trainers are simulated, and some of the people lie. Messages are slow, repeated,
reordered and lost; connections break, and whoever makes one anew says again what it says (`PeerJoined`); the network is
cut into parts that heal; honest validators crash in any step, before or after a transaction, between any two messages
that it sends, and come back with exactly what was written down. What must hold is checked at every step
(`_world_checks`, `_world_change`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from random import Random
from typing import Any

from collegium.consensus import (
    Block,
    ChangeContext,
    ChangeRules,
    EpochSigner,
    EvidenceFound,
    PeerJoined,
    RoundContext,
    RoundRecord,
    Tick,
    ValidatorContext,
)
from collegium.crypto import Digest, Stream
from collegium.errors import CollegiumError

from ._epoch_node import AHEAD_EACH_MAX, EpochMessage, EpochNode
from ._journal import MemoryJournal
from ._network import Outgoing
from ._observer import Observer
from ._validator_node import ValidatorNode
from ._world_change import EpochStage, change_plan
from ._world_checks import SIGNED, VERIFIERS, LivenessError, Rounds, SafetyError, Truth
from ._world_disk import Drive
from ._world_liars import Liar
from ._world_plan import TIMEOUT_BASE_MS, WorldPlan
from ._world_quality import AUTHORS, make_record
from ._world_task import FIRST_MODEL, Once, Tally, Trained, make_cast, marks_of, train

__all__ = ["BeyondPremiseError", "Chronicle", "World"]

TICK_MS = 2_000  # how often a driver makes its validator look again
POLL_MS = 700  # how often a trainer looks for a new round, and whether its upload arrived
REJOIN_MS = 200  # mean time until a broken connection is made anew
TORN = 0.4  # of crashes come before the step's transaction
INSISTS = 0.3  # how often a trainer with two reports sends one to somebody who has the other
REBOOTS = 0.3  # of restarts begin with a clock near 0
MEASURED = 0.7  # how often a record reaches a validator that it is brought to, before it is calm
LIMIT_MS = 180_000  # of calm, until everything must have come about


class BeyondPremiseError(CollegiumError):
    """More are bad, away or cheated than a change of epochs promises to bear: what follows is nobody's promise."""


@dataclass
class Chronicle:
    """What happened in a world."""

    seed: int
    plan: WorldPlan
    digest: str = ""
    failure: str = ""
    steps: int = 0
    messages: int = 0
    lost: int = 0
    crashes: int = 0
    splits: int = 0
    views: int = 0
    blocks: int = 0
    rounds: int = 0
    handovers: int = 0
    put_off: int = 0
    dropped: int = 0
    stale: int = 0
    records: int = 0
    virtual_ms: int = 0
    beyond: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)


@dataclass
class Host:
    """One machine: a validator's copy (twins are two of one validator), its clock and its disk.

    `index` is the validator's place among all people: its address.
    """

    place: int
    index: int
    honest: bool
    random: Stream
    drive: Drive
    validator: EpochNode
    liar: Liar | None = None
    up: bool = True
    away_ms: int = 0  # until when nobody switches it on
    lives: int = 0
    skew_ms: int = 0
    rate: float = 1.0
    blocks_seen: dict[int, int] = field(default_factory=dict)  # by epoch
    busy_ms: int = 0
    closed: frozenset[Digest] = frozenset()

    @property
    def node(self) -> ValidatorNode | None:
        """Its node of the last epoch that it has entered; None where it has no place there."""
        present = self.validator.present
        return present if isinstance(present, ValidatorNode) else None

    def clock(self, now: int) -> int:
        """Return what this machine's clock shows."""
        return self.skew_ms + int(now * self.rate)

    def until(self, local_ms: int) -> int:
        """Return when this machine's clock will show `local_ms`, or more."""
        return int((local_ms - self.skew_ms) / self.rate) + 1


def gathered(outgoing: Iterable[Outgoing]) -> list[tuple[EpochMessage, tuple[int, ...], int | None]]:
    """Return each word once, with everybody whom it is for, or with the time at which it is for oneself."""
    words = []
    for _, group in groupby(outgoing, key=lambda item: id(item.message)):
        items = list(group)
        to = tuple(item.to for item in items if item.to is not None)
        message = items[0].message
        if isinstance(message, EpochMessage):
            words.append((message, to, items[0].at_ms))
    return words


class World:
    """Plays one plan; to be used under `stand_ins(real=plan.real)`."""

    def __init__(self, plan: WorldPlan) -> None:
        self.plan, self.weather = plan, plan.weather
        self.random = Random(f"world {plan.seed}")  # noqa: S311 - a simulated choice, no secret
        self.cast = make_cast(plan.size, plan.seats, plan.real)
        self.work = Once()
        self.rounds = Rounds({0: self.cast.terms})
        group = self.cast.beacons[0].group
        stage = EpochStage(self.cast.epoch_set, self.cast.epoch_set.genesis(), group, 0, self.cast.terms.beacon)
        self.truths = [Truth(plan, self.cast, self.work, self.rounds, stage)]
        self.now = 0
        self.events: list[tuple[int, int, tuple[Any, ...]]] = []
        self.serial = 0
        self.trace = sha256()
        self.chronicle = Chronicle(plan.seed, plan)
        self.made: dict[tuple[int, int], list[Trained]] = {}
        self.measured: dict[tuple[int, int], list[bytes]] = {}
        self.hosts: list[Host] = []
        self.broken: set[tuple[int, int]] = set()
        self.view_parts: dict[tuple[int, int], dict[int, int]] = {}
        first = [self._settle(index, role) for index, role in enumerate(plan.validators)]
        first += [self._settle(i, role) for i, role in enumerate(plan.validators) if role == "twins"]
        self.copies = {i: [h for h in self.hosts if h.index == i] for i in range(plan.size)}
        self.parts = [0] * len(self.hosts)
        self.first_words = list(zip(self.hosts, first, strict=True))

    # ------------------------------------------------------------------------------------------------ beginning

    def _settle(self, index: int, role: str) -> list[Outgoing]:
        """Set up one machine; return what it says first."""
        place, plan = len(self.hosts), self.plan
        random = Stream(sha256(f"randomness {plan.seed} {place}".encode()).digest())
        skew_ms = self.random.randint(0, self.weather.skew_ms)
        rate = 1 + self.random.uniform(-self.weather.drift, self.weather.drift)
        drive = Drive()
        validator, outgoing = self._begin(index, random, drive, skew_ms)
        host = Host(place, index, role == "honest", random, drive, validator, skew_ms=skew_ms, rate=rate)
        if role == "liar":
            host.liar = Liar(index, self.cast, self.random, self._loose_blocks, plan.script)
        self.hosts.append(host)
        return outgoing

    def _begin(self, index: int, random: Stream, drive: Drive, now: int) -> tuple[EpochNode, list[Outgoing]]:
        """Return a validator that begins, or begins again, with what is on its disk, and what it says first."""
        cast, plan = self.cast, self.plan
        account, voting = cast.accounts[index], cast.voting[index]
        change = None
        if plan.changes:
            rules = ChangeRules(change_plan(plan, cast), cast.epoch_set, self.work)
            change = ChangeContext(rules, 0, cast.terms.beacon, account, voting, random)
        context = ValidatorContext(
            self._surroundings(index, random),
            EpochSigner(voting, account),
            cast.verifier,
            drive.open(0).archive,
            TIMEOUT_BASE_MS,
            change=change,
        )
        accounts, first = [account.address for account in cast.accounts], {0: cast.first_seals[index]}
        return EpochNode.restore(index, accounts, drive.open, context, cast.terms, FIRST_MODEL, first, now)

    def _surroundings(self, index: int, random: Stream) -> RoundContext:
        plan, cast = self.plan, self.cast
        return RoundContext(
            agreed=Tally(plan.proved, plan.staleness, plan.quality),
            epoch_set=cast.epoch_set,
            index=index,
            account=cast.accounts[index],
            voting_key=cast.voting[index],
            beacon=cast.beacons[index],
            cohort=frozenset(cast.trainers[t].address for t in range(len(plan.trainers))),
            seats=plan.seats,
            work=self.work,
            random=random,
            timing=plan.timing,
            cohort_min=plan.cohort_min,
            lying_max=plan.lying_max,
            verifiers=VERIFIERS,
            quality=marks_of(plan, cast),
        )

    def _start(self) -> None:
        """Have everybody say its first words, and let time and weather begin."""
        weather = self.weather
        for member, (since, until) in enumerate(self.plan.away):
            if until > since == 0:
                self._leave(self.copies[member][0], until)
            elif until > since:
                self._at(since, ("leave", self.copies[member][0], until))
        for host, outgoing in self.first_words:
            self._send(host, outgoing if host.up else [])
        for host in self.hosts:
            self._at(TICK_MS + self.random.randrange(500), ("tick", host))
        for trainer in range(len(self.plan.trainers)):
            self._at(self.random.randrange(300), ("poll", trainer))
        for author in range(AUTHORS if self.plan.quality else 0):
            if author not in self.plan.mute:
                self._at(self.random.randrange(300), ("measure", author))
        if weather.split_ms:
            t = 0
            while (t := t + 1 + int(self.random.expovariate(1 / weather.split_ms))) < weather.calm_ms:
                self._at(t, ("split",))
        self._at(weather.calm_ms, ("heal",))

    def _at(self, when: int, event: tuple[Any, ...]) -> None:
        self.serial += 1
        heapq.heappush(self.events, (when, self.serial, event))

    # ------------------------------------------------------------------------------------------------ the loop

    def run(self) -> Chronicle:
        """Play until every honest validator has finished the plan's rounds and rests.

        Raises:
            SafetyError: something happened that must not.
            LivenessError: time is up.
        """
        limit = self.weather.calm_ms + LIMIT_MS
        self._start()
        try:
            while True:
                self.now, _, event = heapq.heappop(self.events)
                if self.now > limit:
                    self._within_premise()
                    raise LivenessError(f"after {limit} ms: {self._stand()}")
                self._happen(*event)
                if self.now >= self.weather.calm_ms and self._done():
                    return self.close_book()
        except BeyondPremiseError as reason:
            self.chronicle.beyond = str(reason)
            return self.close_book()

    def close_book(self) -> Chronicle:
        """Return what has happened so far."""
        book, rounds = self.chronicle, self.rounds
        book.digest = self.trace.hexdigest()
        book.virtual_ms = self.now
        book.views, book.blocks = sum(t.views for t in self.truths), sum(len(t.order) for t in self.truths)
        book.rounds, book.outcomes, book.evidence = len(rounds.headers), rounds.outcomes, rounds.convicted
        book.handovers = len(self.truths) - 1
        book.put_off = sum(truth.change.put_off for truth in self.truths if truth.change is not None)
        book.dropped = sum(self.plan.size - truth.size for truth in self.truths)
        book.records = sum(map(len, rounds.records.values()))
        book.stale = sum(rounds.staleness[r] > 0 for close in rounds.closes.values() for r in close.reports)
        return book

    def _goal(self) -> int | None:
        """Return up to which round everything is to be played, once that is known."""
        last = len(self.truths) == self.plan.epochs
        return self.truths[-1].first_round + self.plan.rounds if last else None

    def _done(self) -> bool:
        goal = self._goal()
        return goal is not None and all(self._rests(host, goal) for host in self.hosts if host.honest)

    def _rests(self, host: Host, goal: int) -> bool:
        """Tell whether a machine has followed up to a round, and waits for nothing."""
        present = host.validator.present
        if not host.up:
            return False
        if isinstance(present, Observer):
            return present.round >= goal
        state = present.state
        return state.round.terms.round >= goal and not state.round.lacks_model and state.replica.deadline_ms is None

    def _within_premise(self) -> None:
        """Check that the present set bears its bad members, and those without a share, as far as is promised.

        Raises:
            BeyondPremiseError: it does not.
        """
        before = self.truths[-2].change if len(self.truths) > 1 else None
        if before is None:
            return
        truth, cheated = self.truths[-1], len(before.cheated)
        bad, most = truth.size - len(truth.honest), (truth.size - 1) // 3
        if bad + cheated > most:
            raise BeyondPremiseError(f"{bad} of {truth.size} are bad and {cheated} have no share: at most {most}")

    def _stand(self) -> str:
        stands = []
        for host in self.hosts:
            present, where = host.validator.present, "down"
            if host.up:
                where = f"epoch {host.validator.epoch} "
                if isinstance(present, Observer):
                    where += f"round {present.round}, without a place"
                else:
                    where += f"round {present.state.round.terms.round} view {present.state.replica.view}"
            stands.append(f"{host.index}{'' if host.honest else '*'}: {where}")
        return "; ".join(stands)

    def _happen(self, kind: str, *args: Any) -> None:
        match kind:
            case "message":
                self._deliver(*args)
            case "timer":
                host, lives, message = args
                if host.up and host.lives == lives:
                    self._step(host, message, host.index)
            case "tick":
                (host,) = args
                self._at(self.now + TICK_MS, ("tick", host))
                if host.up:
                    self._step(host, EpochMessage(host.validator.epoch, Tick()), host.index)
            case "poll":
                self._poll(*args)
            case "measure":
                self._measure(*args)
            case "rejoin":
                self._rejoin(*args)
            case "split":
                self.chronicle.splits += 1
                groups = self.random.choice((1, 2, 2, 3))
                self.parts = [self.random.randrange(groups) for _ in self.parts]
            case "heal":
                self.parts = [0] * len(self.parts)
            case "restart":
                self._restart(*args)
            case "leave":
                self._leave(*args)

    def _deliver(self, host: Host, message: Any, sender: int | None) -> None:
        if host.up:
            self._step(host, message, sender)

    def _step(self, host: Host, message: Any, sender: int | None) -> None:
        """Have a machine take a message; it may crash before its transaction, or before any message that it sends."""
        now = self.now
        if now < host.busy_ms:  # the disk is still at work
            self._at(host.busy_ms, ("message", host, message, sender))
            return
        self.chronicle.steps += 1
        said = message.message if isinstance(message, EpochMessage) else message
        self.trace.update(f"{now} {host.place} {type(said).__name__};".encode())
        at_risk = host.honest and now < self.weather.calm_ms
        crashes = at_risk and self.random.random() < self.weather.crash
        if crashes:
            host.drive.watched = []
        outgoing = list(host.validator.handle(message, host.clock(now), sender))
        if crashes:
            self._crash(host, outgoing)
            return
        disk = self.plan.disks[host.index]
        if disk.least_ms and outgoing and now < self.weather.calm_ms:
            host.busy_ms = now + self.random.randint(disk.least_ms, disk.most_ms)
        if host.honest:
            self._observe(host)
        elif host.validator.epoch >= len(self.truths):  # it is the first to learn how an epoch has ended
            for node in host.validator.nodes:
                self._commits(host, self._truth_of(host, node), node)
        self._send(host, outgoing)

    def _observe(self, host: Host) -> None:
        """Check an honest validator's new commits, state and evidence."""
        waiting = len(host.validator.ahead)
        if waiting > AHEAD_EACH_MAX * self.plan.size:
            raise SafetyError(f"{host.index} keeps {waiting} messages of the epoch to come")
        for node in host.validator.nodes:
            truth, journal = self._truth_of(host, node), host.drive.journals[node.context.round.epoch]
            self._commits(host, truth, node)
            if isinstance(node, ValidatorNode):
                self._observe_member(truth, node, journal)
            change = node.change if isinstance(node, Observer) else node.state.change
            if truth.change is not None and change is not None:
                truth.change.keeps(host.index, change.change, journal)
                if node.handed_over is not None:
                    truth.change.hands_over(host.index, host.lives, node.handed_over, node.next_share())
            node.notes.clear()

    def _truth_of(self, host: Host, node: ValidatorNode | Observer) -> Truth:
        """Return what is known of a node's epoch."""
        epoch = node.context.round.epoch
        if epoch >= len(self.truths):
            raise SafetyError(f"{host.index} enters epoch {epoch} before the last header of the one before is final")
        return self.truths[epoch]

    def _observe_member(self, truth: Truth, node: ValidatorNode, journal: MemoryJournal) -> None:
        truth.wrote(node.index, node.state, journal)
        truth.follows(node.index, node.state)
        if not node.state.round.over:
            truth.enters(node.index, node.state.round)
            truth.remembers(node.index, node.state)
        for note in node.notes:
            if isinstance(note, EvidenceFound):
                truth.found(node.index, note)

    def _commits(self, host: Host, truth: Truth, node: ValidatorNode | Observer) -> None:
        """Check the blocks that a validator has committed since somebody looked."""
        epoch = truth.epoch_set.epoch
        archive = host.drive.journals[epoch].archive
        height = host.blocks_seen.get(epoch, 0)
        while height < len(archive.blocks):
            block = archive.blocks[height]
            below = archive.blocks[height - 1].digest if height else truth.genesis
            truth.commits(host.index, height, block, below, archive.proofs[block.digest])
            self.trace.update(block.digest)
            height += 1
            host.blocks_seen[epoch] = height
            host.closed = frozenset(close.digest for close in self.rounds.closes.values())
            if truth.opened is not None and truth is self.truths[-1]:
                self._begin_epoch(truth.opened)

    def _begin_epoch(self, stage: EpochStage) -> None:
        """An epoch is over: what its validators said no longer counts."""
        self.truths.append(Truth(self.plan, self.cast, self.work, self.rounds, stage))
        truth = self.truths[-1]
        bad, most = truth.size - len(truth.honest), (truth.size - 1) // 3
        if bad > most:
            raise BeyondPremiseError(f"{bad} of the {truth.size} next members are bad: at most {most}")

    # ------------------------------------------------------------------------------------------------ the network

    def _send(self, host: Host, outgoing: Iterable[Outgoing]) -> None:
        for word in gathered(outgoing):
            self._say(host, *word)

    def _say(self, host: Host, word: EpochMessage, to: tuple[int, ...], at_ms: int | None) -> None:
        if at_ms is not None:
            self._at(max(self.now, host.until(at_ms)), ("timer", host, host.lives, word))
            return
        truth, message = self.truths[word.epoch], word.message
        if host.honest:
            self._check_word(host, truth, message)
        if host.liar is not None:
            if self.now < self.weather.hush_ms:
                for member, lie in self._lies(host, host.liar, truth, message, to):
                    self._post(host, member, lie)
            if len(to) > 1:
                self._at(self.now, ("message", host, word, host.index))
            return
        if isinstance(message, Block):
            truth.proposed.add(message.digest)
        for member in to:
            self._post(host, member, word)

    def _check_word(self, host: Host, truth: Truth, message: Any) -> None:
        """Check what an honest validator says."""
        epoch = truth.epoch_set.epoch
        place, node = truth.place_of.get(host.index), host.validator.of_epoch(epoch)
        if place is None and isinstance(message, SIGNED):
            raise SafetyError(f"{host.index} signs in epoch {epoch}, where it has no place")
        journal = host.drive.journals[epoch]
        if place is not None:
            truth.says(place, message, host.closed, node and node.state, journal, host.clock(self.now))
        if truth.change is not None:
            truth.change.says(host.index, message, journal)

    def _lies(
        self, host: Host, liar: Liar, truth: Truth, message: Any, to: tuple[int, ...]
    ) -> Iterator[tuple[int, EpochMessage]]:
        """Yield what a liar says instead, and to whom."""
        epoch = truth.epoch_set.epoch
        node = host.validator.of_epoch(epoch)
        if node is None or to[0] not in truth.place_of:  # it has no place there, or speaks to somebody who has none
            yield from ((member, EpochMessage(epoch, message)) for member in to)
            return
        for place, lie in liar.instead_of(node, message, None if len(to) > 1 else truth.place_of[to[0]]):
            if isinstance(lie, Block):
                truth.proposed.add(lie.digest)
            yield truth.members[place], EpochMessage(epoch, lie)
        if self.plan.changes:
            for abroad, lie in liar.change.abroad(node, message):
                yield self.random.randrange(self.plan.size), EpochMessage(abroad, lie)

    def _post(self, host: Host, to: int, message: EpochMessage) -> None:
        if to == host.index:
            self._at(self.now, ("message", host, message, host.index))
            return
        for other in self.copies[to]:
            self._carry(host, other, message)

    def _carry(self, host: Host, other: Host, message: EpochMessage) -> None:
        rng, weather, book = self.random, self.weather, self.chronicle
        book.messages += 1
        arrival = ("message", other, message, host.index)
        if self.now >= weather.calm_ms:
            self._at(self.now + rng.randrange(1, 50), arrival)
            return
        if not self._same_view_part(host, other, message):
            book.lost += 1
            return
        if not self._linked(host, other) or rng.random() < weather.lose:
            book.lost += 1
            self._break(host, other)
            return
        delay = 1 + int(rng.expovariate(1 / 30)) + (rng.randrange(1500) if rng.random() < weather.slow else 0)
        self._at(self.now + delay, arrival)
        if rng.random() < weather.repeat:
            self._at(self.now + delay + rng.randrange(1000), arrival)

    def _linked(self, host: Host, other: Host) -> bool:
        pair = (min(host.place, other.place), max(host.place, other.place))
        return pair not in self.broken and self.parts[host.place] == self.parts[other.place]

    def _break(self, host: Host, other: Host) -> None:
        """Lose the connection between two machines, and have it made anew later."""
        pair = (min(host.place, other.place), max(host.place, other.place))
        if pair not in self.broken:
            self.broken.add(pair)
            self._at(self.now + 1 + int(self.random.expovariate(1 / REJOIN_MS)), ("rejoin", *pair))

    def _rejoin(self, a: int, b: int) -> None:
        one, other = self.hosts[a], self.hosts[b]
        if self.parts[a] != self.parts[b] or not (one.up and other.up):
            self._at(self.now + 1 + int(self.random.expovariate(1 / REJOIN_MS)), ("rejoin", a, b))
            return
        self.broken.discard((a, b))
        for host, peer in ((one, other), (other, one)):
            self._step(host, PeerJoined(peer.index), host.index)

    def _same_view_part(self, host: Host, other: Host, message: EpochMessage) -> bool:
        """Tell whether ordering's messages of this view pass between two machines."""
        view = message.epoch, getattr(message.message, "view", 0)
        if not self.weather.split_by_view or not view[1]:
            return True
        if view not in self.view_parts:
            groups = self.random.choice((1, 2, 2, 3))
            self.view_parts[view] = {h.place: self.random.randrange(groups) for h in self.hosts}
        parts = self.view_parts[view]
        return parts[host.place] == parts[other.place]

    # ------------------------------------------------------------------------------------------------ crashes

    def _crash(self, host: Host, outgoing: list[Outgoing]) -> None:
        """Crash in a step: before one of its transactions, or before some message that it sends."""
        rng, torn = self.random, self.random.random() < TORN
        before, host.drive.watched = host.drive.watched or [], None
        words = gathered(outgoing)
        said = rng.randint(0, len(words))
        if not torn:
            self._observe(host)
            for word in words[:said]:
                self._say(host, *word)
        elif before:
            host.drive.journals = before[rng.randrange(len(before)) if len(before) > 1 else 0]
        self.chronicle.crashes += 1
        self.trace.update(b"crash;")
        self._go_down(host)
        self._at(self.now + rng.choice((1, 30, 300, 2_000)), ("restart", host))

    def _go_down(self, host: Host) -> None:
        host.up, host.lives = False, host.lives + 1
        for other in self.hosts:
            if other is not host:
                self._break(host, other)

    def _leave(self, host: Host, until: int) -> None:
        """Be away for a while: switched off, with the disk as it is."""
        host.away_ms = until
        self._go_down(host)
        self._at(until, ("restart", host))

    def _restart(self, host: Host) -> None:
        """Have a machine come up again with exactly what is on its disk; its clock may begin anew."""
        if host.up or self.now < host.away_ms:
            return
        if self.random.random() < REBOOTS:
            host.skew_ms = -int(self.now * host.rate)
        for epoch, journal in host.drive.journals.items():
            blocks = journal.archive.blocks
            if [block.digest for block in blocks] != self.truths[epoch].order[: len(blocks)]:
                raise SafetyError(f"validator {host.index} comes back with another order")
        host.validator, outgoing = self._begin(host.index, host.random, host.drive, host.clock(self.now))
        host.up, host.busy_ms = True, 0
        self._observe(host)
        self._send(host, outgoing)
        self._step(host, EpochMessage(host.validator.epoch, Tick()), host.index)

    # ------------------------------------------------------------------------------------------------ trainers

    def _poll(self, trainer: int) -> None:
        """Have a trainer look for the newest round, make its upload once, and send it to whoever has not got it."""
        self._at(self.now + POLL_MS, ("poll", trainer))
        number, goal = max(self.rounds.terms), self._goal()
        if goal is not None and number >= goal:
            return
        key = (trainer, number)
        if key not in self.made:
            self.made[key] = train(self.plan, self.cast, self.rounds.terms[number], trainer, self.random)
            for made in self.made[key]:
                self.rounds.submitted(trainer, made.upload.report, made.update)
        account = self.cast.trainers[trainer].address
        liar = self.plan.trainers[trainer] == "two reports"
        for made in self.made[key]:
            for host in self.hosts:
                node = host.node
                if node is None:
                    continue
                state = node.state.round
                soon = state.opened is not None and state.opened.first_round == number
                if not host.up or (state.terms.round != number and not soon):
                    continue
                wanted = (made.to is None or host.index in made.to) and (soon or account not in state.reports)
                if wanted or (liar and self.random.random() < INSISTS):
                    self._upload(host, made)

    def _upload(self, host: Host, made: Trained) -> None:
        calm = self.now >= self.weather.calm_ms
        if calm or self.random.random() >= 5 * self.weather.lose:
            self._at(self.now + self.random.randrange(1, 100), ("message", host, made.upload, None))

    def _measure(self, author: int) -> None:
        """Have an author bring the newest round's record, made once, to whoever lacks it; the last one has two."""
        self._at(self.now + POLL_MS, ("measure", author))
        number, goal = max(self.rounds.terms), self._goal()
        if goal is not None and number >= goal:
            return
        if (author, number) not in self.measured:
            draws = [self.random.randbytes(8) for _ in range(2 if author == AUTHORS - 1 else 1)]
            self.measured[author, number] = [make_record(author, number, draw) for draw in draws]
        made = self.measured[author, number]
        for host in self.hosts:
            node = host.node
            if node is None or not host.up or node.state.round.terms.round not in (number - 1, number):
                continue
            known = (*node.state.records.final, *(entry.record for entry in node.state.records.held))
            record = made[self.random.randrange(len(made))]
            if record not in known and (self.now >= self.weather.calm_ms or self.random.random() < MEASURED):
                brought = RoundRecord(number, record)
                self._at(self.now + self.random.randrange(1, 100), ("message", host, brought, None))

    def _loose_blocks(self, epoch: int) -> list[Block]:
        """Return the last blocks that anybody holds above the final one of an epoch: what a liar may vote for."""
        nodes = [host.validator.of_epoch(epoch) for host in self.hosts if host.up]
        held = [node.state.replica.blocks for node in nodes if node is not None]
        return [block for blocks in held for block in list(blocks.values())[-2:]]
