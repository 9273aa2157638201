"""A whole consortium on one virtual clock: one seed, one history, the same on every machine.

The nodes are those that run as processes (`ValidatorNode`: ordering, learning round, journal); network, disks, clocks
and trainers are simulated, and some of the people lie. Messages are slow, repeated, reordered and lost; connections
break, and whoever makes one anew says again what it says (`PeerJoined`); the network is cut into parts that heal;
honest validators crash in any step, before or after its transaction, between any two messages that it sends, and come
back with exactly what was written down. What must hold is checked at every step (`_world_checks`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from random import Random
from typing import Any

from collegium.consensus import (
    Block,
    EpochSigner,
    EvidenceFound,
    HeaderProposal,
    PeerJoined,
    RoundContext,
    Tick,
    ValidatorContext,
)
from collegium.crypto import Digest, Stream

from ._journal import BlockArchive, MemoryJournal
from ._network import Outgoing
from ._validator_node import ValidatorNode
from ._world_checks import VERIFIERS, LivenessError, SafetyError, Truth
from ._world_liars import Liar
from ._world_plan import TIMEOUT_BASE_MS, WorldPlan
from ._world_task import FIRST_MODEL, Once, Tally, Trained, make_cast, train

__all__ = ["Chronicle", "World"]

TICK_MS = 2_000  # how often a driver makes its validator look again
POLL_MS = 700  # how often a trainer looks for a new round, and whether its upload arrived
REJOIN_MS = 200  # mean time until a broken connection is made anew
TORN = 0.4  # of crashes come before the step's transaction
INSISTS = 0.3  # how often a trainer with two reports sends one to somebody who has the other
REBOOTS = 0.3  # of restarts begin with a clock near 0
LIMIT_MS = 180_000  # of calm, until everything must have come about


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
    virtual_ms: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)


@dataclass
class Host:
    """One machine: a validator's copy (twins are two of one validator), its clock and its disk."""

    place: int
    index: int
    honest: bool
    random: Stream
    journal: MemoryJournal
    node: ValidatorNode
    liar: Liar | None = None
    up: bool = True
    lives: int = 0
    skew_ms: int = 0
    rate: float = 1.0
    blocks_seen: int = 0
    busy_ms: int = 0
    closed: frozenset[Digest] = frozenset()

    def pretend(self, proposal: HeaderProposal) -> None:
        """Have a liar's machine take a proposal for its own, and count the votes for it."""
        state = self.node.state
        self.node.state = replace(state, round=replace(state.round, own=proposal, votes={}))

    def clock(self, now: int) -> int:
        """Return what this machine's clock shows."""
        return self.skew_ms + int(now * self.rate)

    def until(self, local_ms: int) -> int:
        """Return when this machine's clock will show `local_ms`, or more."""
        return int((local_ms - self.skew_ms) / self.rate) + 1


def copy_of(journal: MemoryJournal) -> MemoryJournal:
    """Return a copy that later writes to the journal do not touch."""
    archive = BlockArchive(*(copy(getattr(journal.archive, entry.name)) for entry in fields(BlockArchive)))
    rest = {
        entry.name: copy(getattr(journal, entry.name)) for entry in fields(MemoryJournal) if entry.name != "archive"
    }
    return MemoryJournal(archive=archive, **rest)


class World:
    """Plays one plan; to be used under `stand_ins(real=plan.real)`."""

    def __init__(self, plan: WorldPlan) -> None:
        self.plan, self.weather = plan, plan.weather
        self.random = Random(f"world {plan.seed}")  # noqa: S311 - a simulated choice, no secret
        self.cast = make_cast(plan.size, plan.seats, plan.real)
        self.work = Once()
        self.truth = Truth(plan, self.cast, self.work)
        self.now = 0
        self.events: list[tuple[int, int, tuple[Any, ...]]] = []
        self.serial = 0
        self.trace = sha256()
        self.chronicle = Chronicle(plan.seed, plan)
        self.made: dict[tuple[int, int], list[Trained]] = {}
        self.hosts: list[Host] = []
        self.broken: set[tuple[int, int]] = set()
        self.view_parts: dict[int, dict[int, int]] = {}
        first = [self._settle(index, role) for index, role in enumerate(plan.validators)]
        first += [self._settle(i, role) for i, role in enumerate(plan.validators) if role == "twins"]
        self.copies = {i: [h for h in self.hosts if h.index == i] for i in range(plan.size)}
        self.parts = [0] * len(self.hosts)
        for host, outgoing in zip(self.hosts, first, strict=True):
            self._send(host, outgoing)
        self._schedule()

    # ------------------------------------------------------------------------------------------------ beginning

    def _settle(self, index: int, role: str) -> list[Outgoing]:
        """Set up one machine; return what it says first."""
        place, plan = len(self.hosts), self.plan
        random = Stream(sha256(f"randomness {plan.seed} {place}".encode()).digest())
        skew_ms = self.random.randint(0, self.weather.skew_ms)
        rate = 1 + self.random.uniform(-self.weather.drift, self.weather.drift)
        journal = MemoryJournal()
        node, outgoing = self._begin(index, random, journal, skew_ms)
        host = Host(place, index, role == "honest", random, journal, node, skew_ms=skew_ms, rate=rate)
        if role == "liar":
            host.liar = Liar(
                index, self.cast, self.random, lambda: host.node.state, self._loose_blocks, host.pretend, plan.script
            )
        self.hosts.append(host)
        return outgoing

    def _begin(
        self, index: int, random: Stream, journal: MemoryJournal, now: int
    ) -> tuple[ValidatorNode, list[Outgoing]]:
        """Return a validator that begins, or begins again, with what is in its journal, and what it says first."""
        cast = self.cast
        context = ValidatorContext(
            self._surroundings(index, random, journal),
            EpochSigner(cast.voting[index], cast.accounts[index]),
            cast.verifier,
            journal.archive,
            TIMEOUT_BASE_MS,
        )
        secrets = {0: cast.first_seals[index]}
        node, outgoing = ValidatorNode.restore(context, journal, cast.terms, FIRST_MODEL, secrets, now)
        return node, list(outgoing)

    def _surroundings(self, index: int, random: Stream, journal: MemoryJournal) -> RoundContext:
        plan, cast = self.plan, self.cast
        return RoundContext(
            agreed=Tally(plan.proved),
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
            objects=journal,
        )

    def _schedule(self) -> None:
        weather = self.weather
        for host in self.hosts:
            self._at(TICK_MS + self.random.randrange(500), ("tick", host))
        for trainer in range(len(self.plan.trainers)):
            self._at(self.random.randrange(300), ("poll", trainer))
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
        while True:
            self.now, _, event = heapq.heappop(self.events)
            if self.now > limit:
                raise LivenessError(f"after {limit} ms: {self._stand()}")
            self._happen(*event)
            if self.now >= self.weather.calm_ms and self._done():
                return self.close_book()

    def close_book(self) -> Chronicle:
        """Return what has happened so far."""
        book, truth = self.chronicle, self.truth
        book.digest = self.trace.hexdigest()
        book.virtual_ms, book.views, book.blocks = self.now, truth.views, len(truth.order)
        book.rounds, book.outcomes, book.evidence = len(truth.headers), truth.outcomes, truth.convicted
        return book

    def _done(self) -> bool:
        return all(
            host.up
            and host.node.state.round.terms.round >= self.plan.rounds
            and not host.node.state.round.lacks_model
            and host.node.state.replica.deadline_ms is None
            for host in self.hosts
            if host.honest
        )

    def _stand(self) -> str:
        stands = []
        for host in self.hosts:
            state = host.node.state
            where = f"round {state.round.terms.round} view {state.replica.view}" if host.up else "down"
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
                    self._step(host, Tick(), host.index)
            case "poll":
                self._poll(*args)
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

    def _deliver(self, host: Host, message: Any, sender: int | None) -> None:
        if host.up:
            self._step(host, message, sender)

    def _step(self, host: Host, message: Any, sender: int | None) -> None:
        """Have a machine take a message; it may crash before its transaction, or before any message that it sends."""
        now, node = self.now, host.node
        if now < host.busy_ms:  # the disk is still at work
            self._at(host.busy_ms, ("message", host, message, sender))
            return
        self.chronicle.steps += 1
        self.trace.update(f"{now} {host.place} {type(message).__name__};".encode())
        at_risk = host.honest and now < self.weather.calm_ms
        kept = copy_of(host.journal) if at_risk and self.random.random() < self.weather.crash else None
        outgoing = list(node.handle(message, host.clock(now), sender))
        if kept is not None:
            self._crash(host, kept, outgoing)
            return
        disk = self.plan.disks[host.index]
        if disk.least_ms and outgoing and now < self.weather.calm_ms:
            host.busy_ms = now + self.random.randint(disk.least_ms, disk.most_ms)
        if host.honest:
            self._observe(host)
        self._send(host, outgoing)

    def _observe(self, host: Host) -> None:
        """Check an honest validator's new commits, state and evidence."""
        node, truth = host.node, self.truth
        blocks, proofs = host.journal.archive.blocks, host.journal.archive.proofs
        while host.blocks_seen < len(blocks):
            height, block = host.blocks_seen, blocks[host.blocks_seen]
            below = blocks[height - 1].digest if height else self.cast.epoch_set.genesis()
            truth.commits(host.index, height, block, below, proofs[block.digest])
            self.trace.update(block.digest)
            host.blocks_seen += 1
            host.closed = frozenset(close.digest for close in truth.closes.values())
        truth.wrote(host.index, node.state, host.journal)
        truth.enters(host.index, node.state.round)
        truth.remembers(host.index, node.state)
        for note in node.notes:
            if isinstance(note, EvidenceFound):
                truth.found(host.index, note)
        node.notes.clear()

    # ------------------------------------------------------------------------------------------------ the network

    def _send(self, host: Host, outgoing: Iterable[Outgoing]) -> None:
        for item in outgoing:
            self._say(host, item)

    def _say(self, host: Host, item: Outgoing) -> None:
        if item.at_ms is not None:
            when = max(self.now, host.until(item.at_ms))
            self._at(when, ("timer", host, host.lives, item.message))
            return
        if host.honest:
            self.truth.says(host.index, item.message, host.closed, host.node.state, host.journal)
        if host.liar is not None:
            if self.now < self.weather.hush_ms:
                for to, lie in host.liar.instead_of(item.message, item.to):
                    self._post(host, to, lie)
            if item.to is None:
                self._at(self.now, ("message", host, item.message, host.index))
            return
        for to in range(self.plan.size) if item.to is None else (item.to,):
            self._post(host, to, item.message)

    def _post(self, host: Host, to: int, message: Any) -> None:
        if to == host.index:
            self._at(self.now, ("message", host, message, host.index))
            return
        for other in self.copies[to]:
            self._carry(host, other, message)

    def _carry(self, host: Host, other: Host, message: Any) -> None:
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

    def _same_view_part(self, host: Host, other: Host, message: Any) -> bool:
        """Tell whether ordering's messages of this view pass between two machines."""
        view = getattr(message, "view", 0)
        if not self.weather.split_by_view or not view:
            return True
        if view not in self.view_parts:
            groups = self.random.choice((1, 2, 2, 3))
            self.view_parts[view] = {h.place: self.random.randrange(groups) for h in self.hosts}
        parts = self.view_parts[view]
        return parts[host.place] == parts[other.place]

    # ------------------------------------------------------------------------------------------------ crashes

    def _crash(self, host: Host, kept: MemoryJournal, outgoing: list[Outgoing]) -> None:
        """Crash in a step: before its transaction (`kept` is on the disk), or before some message that it sends."""
        rng, torn = self.random, self.random.random() < TORN
        said = rng.randint(0, len(outgoing))
        if torn:
            host.journal = kept
        else:
            self._observe(host)
            self._send(host, outgoing[:said])
        self.chronicle.crashes += 1
        self.trace.update(b"crash;")
        host.up, host.lives = False, host.lives + 1
        for other in self.hosts:
            if other is not host:
                self._break(host, other)
        self._at(self.now + rng.choice((1, 30, 300, 2_000)), ("restart", host))

    def _restart(self, host: Host) -> None:
        """Have a machine come up again with exactly what is on its disk; its clock may begin anew."""
        if self.random.random() < REBOOTS:
            host.skew_ms = -int(self.now * host.rate)
        blocks = host.journal.archive.blocks
        if [block.digest for block in blocks] != self.truth.order[: len(blocks)]:
            raise SafetyError(f"validator {host.index} comes back with another order")
        host.node, outgoing = self._begin(host.index, host.random, host.journal, host.clock(self.now))
        host.up, host.busy_ms = True, 0
        self._observe(host)
        self._send(host, outgoing)
        self._step(host, Tick(), host.index)

    # ------------------------------------------------------------------------------------------------ trainers

    def _poll(self, trainer: int) -> None:
        """Have a trainer look for the newest round, make its upload once, and send it to whoever has not got it."""
        self._at(self.now + POLL_MS, ("poll", trainer))
        number = max(self.truth.terms)
        if number >= self.plan.rounds:
            return
        key = (trainer, number)
        if key not in self.made:
            self.made[key] = train(self.plan, self.cast, self.truth.terms[number], trainer, self.random)
            for made in self.made[key]:
                self.truth.submitted(trainer, made.upload.report.id, made.update)
        account = self.cast.trainers[trainer].address
        liar = self.plan.trainers[trainer] == "two reports"
        for made in self.made[key]:
            for host in self.hosts:
                state = host.node.state.round
                if not host.up or state.terms.round != number:
                    continue
                wanted = (made.to is None or host.index in made.to) and account not in state.reports
                if wanted or (liar and self.random.random() < INSISTS):
                    self._upload(host, made)

    def _upload(self, host: Host, made: Trained) -> None:
        calm = self.now >= self.weather.calm_ms
        if calm or self.random.random() >= 5 * self.weather.lose:
            self._at(self.now + self.random.randrange(1, 100), ("message", host, made.upload, None))

    def _loose_blocks(self) -> list[Block]:
        """Return the last blocks that anybody holds above the final one: what a liar may vote for."""
        return [block for h in self.hosts if h.up for block in list(h.node.state.replica.blocks.values())[-2:]]
