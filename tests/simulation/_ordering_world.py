"""A whole committee that only orders, on one virtual clock: one seed, one run, the same on every machine.

The network delays (sometimes for long), repeats, reorders and drops messages and is cut into parts that heal. Honest
validators crash at any effect and come back with what was on their disk. Dishonest ones run twice with the same keys
(Twins) or lie: two blocks in a view, stale parents, votes for everything, stale timeouts.

Safety is checked at every commit of every honest validator; liveness is what a test asks for at the end. The worlds of
`collegium simulate` play whole validators; these reach the corners of ordering in a fraction of their time.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from collegium.consensus import (
    Block,
    Broadcast,
    Committed,
    EvidenceFound,
    Persist,
    Send,
    SetTimer,
    Store,
    Tick,
    Timeout,
    Timer,
    ViewEntry,
    Vote,
    step,
    verify_evidence,
    verify_final,
)
from collegium.node._world_order import (
    HashSigner,
    HashVerifier,
    OrderHost,
    hash_epoch_set,
    make_host,
    signed_block,
    signed_timeout,
    signed_vote,
)


class SafetyError(AssertionError):
    """Two honest validators hold different orders."""


# --------------------------------------------------------------------------------------------------------- the world


@dataclass(frozen=True)
class Weather:
    """How bad it gets before `calm_ms`; afterwards messages arrive within 50 ms. Liars fall silent at `hush_ms`."""

    calm_ms: int = 8_000
    hush_ms: int = 30_000
    drop: float = 0.03
    slow: float = 0.10
    repeat: float = 0.03
    crash_at_effect: float = 0.01
    partitions: bool = True
    split_by_view: bool = False


class World:
    """Runs hosts on a virtual clock and watches them.

    Args:
        seed: decides everything.
        size: validators.
        dishonest: how many of them, from seat 0 on; each lies or runs twice, as the seed says.
        quota: payloads that each honest validator wants ordered.
        weather: see there.
        forget: what a crash does to the disk's vote state; the identity, unless a test breaks it on purpose.
    """

    def __init__(
        self,
        seed: int,
        size: int = 4,
        dishonest: int = 1,
        quota: int = 3,
        weather: Weather = Weather(),
        forget: Callable[[Any], Any] = lambda vote_state: vote_state,
    ) -> None:
        self.random = random.Random(seed)
        self.epoch_set = hash_epoch_set(size)
        self.weather, self.forget = weather, forget
        self.now = 0
        self.events: list[tuple[int, int, tuple[Any, ...]]] = []
        self.serial = 0
        self.steps = self.sent = 0
        self.order: list[bytes] = []
        self.evidence: list[Any] = []
        self.trace = hashlib.sha256()
        self.hosts = [make_host(self.epoch_set, seat, 0 if seat < dishonest else quota) for seat in range(size)]
        self.liars: dict[int, Liar] = {}
        for seat in range(dishonest):
            self.hosts[seat].honest = False
            if self.random.random() < 0.6:
                self.liars[seat] = Liar(self, seat)
            else:
                twin = make_host(self.epoch_set, seat, quota, name=f"twin {seat}")
                twin.honest = False
                self.hosts.append(twin)
        self.parts = dict.fromkeys(range(len(self.hosts)), 0)
        self.view_parts: dict[int, dict[int, int]] = {}
        self._plan()

    def _plan(self) -> None:
        for h in range(len(self.hosts)):
            for t in range(0, 2 * self.weather.hush_ms, 5_000):
                self._at(t + self.random.randrange(50), ("tick", h))
        calm = self.weather.calm_ms
        if self.weather.partitions:
            t = 0
            while (t := t + 1 + int(self.random.expovariate(1 / 800))) < calm:
                self._at(t, ("split",))
        self._at(calm, ("heal",))

    def _at(self, when: int, event: tuple[Any, ...]) -> None:
        self.serial += 1
        heapq.heappush(self.events, (when, self.serial, event))

    # -------------------------------------------------------------------------------------------------- the loop

    def run(self, until_ms: int = 300_000) -> World:
        """Until nothing is left to happen (every validator at rest) or `until_ms`."""
        while self.events and self.events[0][0] <= until_ms:
            self.now, _, event = heapq.heappop(self.events)
            self._happen(*event)
        return self

    def _happen(self, kind: str, *args: Any) -> None:
        if kind == "split":
            groups = self.random.choice((1, 2, 2, 3))
            self.parts = {h: self.random.randrange(groups) for h in self.parts}
        elif kind == "heal":
            self.parts = dict.fromkeys(self.parts, 0)
        elif kind == "restart":
            self.hosts[args[0]].restart()
            self._step(args[0], Tick())
        elif kind == "tick":
            self._step(args[0], Tick())
        elif kind == "timer":
            h, view, lives = args
            host = self.hosts[h]
            if host.lives == lives and host.alarm == (view, self.now):
                self._step(h, Timer(view))
        else:
            self._step(*args)

    def _step(self, h: int, message: Any) -> None:
        host = self.hosts[h]
        if not host.up:
            return
        self.steps += 1
        self.trace.update(f"{self.now} {h} {type(message).__name__} ".encode())
        host.state, effects = step(host.context, host.state, message, self.now)
        for effect in effects:
            if self._crashes(host, effect):
                self._crash(h)
                return
            self._carry_out(h, host, effect)
        if host.honest:
            check_promises(host)

    def _crashes(self, host: OrderHost, effect: Any) -> bool:
        weather = self.weather
        at_risk = (
            host.honest and self.now < weather.calm_ms and isinstance(effect, Persist | Send | Broadcast | Committed)
        )
        return at_risk and self.random.random() < weather.crash_at_effect

    def _crash(self, h: int) -> None:
        host = self.hosts[h]
        host.up, host.state = False, None
        host.disk.vote_state = self.forget(host.disk.vote_state)
        self._at(self.now + self.random.choice((1, 30, 300, 2000)), ("restart", h))

    def _carry_out(self, h: int, host: OrderHost, effect: Any) -> None:
        liar = self.liars.get(h)
        match effect:
            case Store(block):
                host.disk.blocks[block.digest] = block
            case Persist(vote_state):
                host.disk.vote_state = vote_state
            case Committed(block, certificate_chain):
                self._commit(host, block, certificate_chain)
            case SetTimer(view, at_ms):
                host.alarm = (view, at_ms)
                self._at(at_ms, ("timer", h, view, host.lives))
            case EvidenceFound(evidence):
                culprit = verify_evidence(self.epoch_set, evidence, HashVerifier())
                if any(o.honest and o.seat == culprit for o in self.hosts):
                    raise SafetyError(f"honest validator {culprit} is accused of {evidence}")
                self.evidence.append(evidence)
            case Broadcast(message) | Send(_, message) if liar is not None:
                for seat, lie in liar.instead_of(effect, message):
                    self._post(h, seat, lie)
            case Broadcast(message):
                for seat in range(self.epoch_set.size):
                    self._post(h, seat, message)
            case Send(to, message):
                self._post(h, to, message)

    def _commit(self, host: OrderHost, block: Block, certificate_chain: Any) -> None:
        chain = host.disk.chain
        below = chain[-1].digest if chain else host.context.genesis
        if not host.honest:
            chain.append(block)
            host.context.application.committed.append(block.payload)
            return
        if block.parent != below:
            raise SafetyError(f"{host.seat} commits view {block.view} on top of something else")
        verify_final(self.epoch_set, host.context.genesis, block.digest, certificate_chain, HashVerifier())
        height = len(chain)
        self.order += [block.digest] * (height == len(self.order))
        if self.order[height] != block.digest:
            raise SafetyError(f"height {height}: {host.seat} commits another block, of view {block.view}")
        chain.append(block)
        host.tip_certificates = certificate_chain
        if block.payload:
            host.context.application.committed.append(block.payload)
        self.trace.update(block.digest)

    # ------------------------------------------------------------------------------------------------ the network

    def _post(self, h: int, seat: int, message: Any) -> None:
        rng, weather = self.random, self.weather
        for other, host in enumerate(self.hosts):
            if host.seat != seat or other == h:
                continue
            self.sent += 1
            calm = self.now >= weather.calm_ms
            if calm:
                self._at(self.now + rng.randrange(1, 50), ("message", other, message))
                continue
            if not self._linked(h, other, message) or rng.random() < weather.drop:
                continue
            delay = 1 + int(rng.expovariate(1 / 30)) + (rng.randrange(1500) if rng.random() < weather.slow else 0)
            self._at(self.now + delay, ("message", other, message))
            if rng.random() < weather.repeat:
                self._at(self.now + delay + rng.randrange(1000), ("message", other, message))

    def _linked(self, a: int, b: int, message: Any) -> bool:
        view = getattr(message, "view", 0)
        if not self.weather.split_by_view or not view:
            return self.parts[a] == self.parts[b]
        if view not in self.view_parts:
            groups = self.random.choice((1, 2, 2, 3))
            self.view_parts[view] = {h: self.random.randrange(groups) for h in self.parts}
        parts = self.view_parts[view]
        return parts[a] == parts[b]

    # ------------------------------------------------------------------------------------------------- questions

    @property
    def honest(self) -> list[OrderHost]:
        return [host for host in self.hosts if host.honest]

    def heights(self) -> list[int]:
        return [len(host.disk.chain) for host in self.honest]

    def missing_payloads(self) -> set[bytes]:
        """Wishes of honest validators that some honest validator has not seen ordered."""
        wishes = {f"pay {h.seat}/{k}".encode() for h in self.honest for k in range(h.context.application.quota)}
        return set().union(*(wishes - set(h.context.application.committed) for h in self.honest))

    def at_rest(self) -> bool:
        return all(host.up and host.state.deadline_ms is None for host in self.honest)


def check_promises(host: OrderHost) -> None:
    """What holds of an honest replica between any two steps."""
    kept, disk = host.state.vote_state, host.disk.vote_state
    if disk is not None and kept != disk:
        raise SafetyError(f"{host.seat} sent messages on a vote state that is not on its disk")
    for block in host.state.blocks.values():
        if block.parent not in host.state.blocks and block.parent != host.state.final.digest:
            raise SafetyError(f"{host.seat} keeps a block that hangs in the air")
    if len(host.state.headers) > 200 or len(host.state.votes) > 200 or len(host.state.pool) > 8 * 16:
        raise SafetyError(f"{host.seat} grows without bound")


# --------------------------------------------------------------------------------------------------------- the liars


class Liar:
    """Says what it likes within its own keys: it remembers every certificate and shows whichever it pleases."""

    def __init__(self, world: World, seat: int) -> None:
        self.world, self.seat, self.signer = world, seat, HashSigner(seat)
        self.entries: list[ViewEntry] = []
        self.proposals = 0

    def instead_of(self, effect: Any, message: Any) -> list[tuple[int, Any]]:
        rng, everybody = self.world.random, range(self.world.epoch_set.size)
        host = self.world.hosts[self.seat]
        if self.world.now >= self.world.weather.hush_ms:
            return []
        if host.state is not None:
            self.entries = [*self.entries[-20:], host.state.vote_state.entry]
        match message:
            case Block():
                lies = [message] if rng.random() < 0.7 else []
                lies += [self.block(message) for _ in range(rng.choice((0, 1, 1, 2)))]
                return [(seat, lie) for lie in lies for seat in everybody if rng.random() < 0.7]
            case Vote():
                said = [(effect.to, message)] if rng.random() < 0.8 else []
                return said + [(rng.choice(list(everybody)), v) for v in self.votes() if rng.random() < 0.8]
            case Timeout():
                lie = self.timeout(message)
                return [(seat, lie) for seat in everybody if rng.random() < 0.8]
            case _:
                targets = everybody if isinstance(effect, Broadcast) else [effect.to]
                return [(seat, message) for seat in targets if rng.random() < 0.7]

    def _entry_into(self, view: int, honest_one: ViewEntry) -> ViewEntry:
        """Any pair of certificates it has seen that leads into `view`."""
        timeouts = [e.timeout_certificate for e in self.entries if e.timeout_certificate]
        choices = [honest_one]
        for entry in self.entries:
            certificate = entry.high_certificate
            choices += [ViewEntry(certificate, None)] * (certificate.view == view - 1)
            choices += [
                ViewEntry(certificate, t)
                for t in timeouts
                if t.view == view - 1 and t.high_view <= certificate.view < t.view
            ]
        return self.world.random.choice(choices)

    def block(self, like: Block) -> Block:
        entry = self._entry_into(like.view, ViewEntry(like.parent_certificate, like.timeout_certificate))
        self.proposals += 1
        payload = f"pay lie {self.seat}/{self.proposals}".encode()
        return signed_block(self.world.epoch_set, like.view, self.seat, entry, payload)

    def timeout(self, like: Timeout) -> Timeout:
        return signed_timeout(self.world.epoch_set, like.view, self.seat, self._entry_into(like.view, like.entry))

    def votes(self) -> list[Vote]:
        """Votes for the last blocks anybody holds, whatever the rules say."""
        blocks = [b for host in self.world.hosts if host.state for b in list(host.state.blocks.values())[-2:]]
        return [signed_vote(self.world.epoch_set, block, self.seat) for block in blocks]
