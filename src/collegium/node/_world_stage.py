"""A stage for hand-directed scenarios: the test decides which message reaches whom; one seat is the villain's.

Honest validators answer each other's requests for blocks at once. The network loses every vote on its way to the
leader of the vote's own view, so that nobody but the next leader makes a certificate, unless the test carries the vote
to both. Everything else they say is handed to the test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from collegium.consensus import (
    Ballot,
    Block,
    BlockRequest,
    BlockResponse,
    Broadcast,
    Committed,
    EvidenceFound,
    Ignored,
    Persist,
    QuorumCertificate,
    Send,
    Store,
    Tick,
    Timeout,
    TimeoutCertificate,
    TimeoutGroup,
    Timer,
    ViewEntry,
    Vote,
    genesis_certificate,
    seat_bitmap,
    step,
)
from collegium.errors import CollegiumError

from ._world_order import (
    HashVerifier,
    OrderHost,
    hash_epoch_set,
    make_host,
    signed_block,
    signed_timeout,
    signed_vote,
)

__all__ = ["Stage", "only"]


class NothingToWaitForError(CollegiumError):
    """A scene lets a view expire of a validator that rests."""


class Stage:
    """Four validators, one of them the villain; `wishes` payloads are wanted by each honest one."""

    def __init__(self, villain: int, size: int = 4, wishes: int = 1, epoch: int = 0) -> None:
        self.epoch_set = hash_epoch_set(size, epoch)
        self.villain = villain
        self.now = 0
        self.hosts: dict[int, OrderHost] = {
            seat: make_host(self.epoch_set, seat, wishes) for seat in range(size) if seat != villain
        }
        self.ignored: list[Exception] = []
        self.evidence: list[Any] = []
        self.genesis_entry = ViewEntry(genesis_certificate(self.epoch_set.genesis()), None)

    # ------------------------------------------------------------------------------------------ honest validators

    def give(self, seat: int, *messages: Any) -> list[Any]:
        """What the validator says to these messages."""
        said: list[Any] = []
        for message in messages:
            host = self.hosts[seat]
            host.state, effects = step(host.context, host.state, message, self.now)
            for effect in effects:
                said += self._carry_out(host, effect)
        return said

    def _carry_out(self, host: OrderHost, effect: Any) -> list[Any]:
        match effect:
            case Store(block):
                host.disk.blocks[block.digest] = block
            case Persist(vote_state):
                host.disk.vote_state = vote_state
            case Committed(block, _):
                host.disk.chain.append(block)
                host.wishes.committed.append(block.payload)
            case EvidenceFound(evidence):
                self.evidence.append(evidence)
            case Ignored(reason):
                self.ignored.append(reason)
            case Send(_, BlockRequest() as request):
                others = [seat for seat in self.hosts if seat != host.seat]
                answers = [m for seat in others for m in self.give(seat, request) if isinstance(m, BlockResponse)]
                return self.give(host.seat, *answers)
            case Send(collector, Vote(ballot)) if collector != self.epoch_set.leader(ballot.view + 1):
                return []
            case Send(_, message) | Broadcast(message):
                return [message]
        return []

    def expire(self, *seats: int) -> list[Timeout]:
        """The timeouts of these validators' present views."""
        timeouts = []
        for seat in seats:
            deadline = self.hosts[seat].state.deadline_ms
            if deadline is None:
                raise NothingToWaitForError(f"validator {seat} has nothing to wait for")
            self.now = max(self.now, deadline)
            timeouts += only(Timeout, self.give(seat, Timer(self.hosts[seat].state.view)))
        return timeouts

    def crash(self, seat: int) -> None:
        """Crash and restart from the disk."""
        self.hosts[seat].restart()
        self.give(seat, Tick())

    # ------------------------------------------------------------------------------------------------ the villain

    def block(self, view: int, entry: ViewEntry, payload: bytes = b"") -> Block:
        return signed_block(self.epoch_set, view, self.villain, entry, payload)

    def vote(self, block: Block) -> Vote:
        return signed_vote(self.epoch_set, block, self.villain)

    def timeout(self, view: int, entry: ViewEntry) -> Timeout:
        return signed_timeout(self.epoch_set, view, self.villain, entry)

    def certificate(self, votes: Iterable[Vote]) -> QuorumCertificate:
        signatures = {v.voter: v.signature for v in votes}
        ballots: set[Ballot] = {v.ballot for v in votes}
        bitmap = seat_bitmap(set(signatures), self.epoch_set.size)
        return QuorumCertificate(ballots.pop(), bitmap, HashVerifier().aggregate(signatures))

    def timeout_certificate(self, timeouts: Iterable[Timeout]) -> TimeoutCertificate:
        groups: dict[int, dict[int, bytes]] = {}
        for timeout in timeouts:
            groups.setdefault(timeout.high_view, {})[timeout.author] = timeout.signature
        (view,) = {t.view for t in timeouts}
        return TimeoutCertificate(
            view,
            tuple(
                TimeoutGroup(high, seat_bitmap(set(s), self.epoch_set.size), HashVerifier().aggregate(s))
                for high, s in sorted(groups.items())
            ),
        )

    # -------------------------------------------------------------------------------------------------- questions

    def order(self, seat: int) -> list[bytes]:
        return [block.digest for block in self.hosts[seat].disk.chain]

    def forked(self) -> bool:
        """Whether two honest validators hold different orders."""
        orders = [self.order(seat) for seat in self.hosts]
        return any(a[: len(b)] != b[: len(a)] for a in orders for b in orders)


def only(kind: type, messages: Iterable[Any]) -> list[Any]:
    return [m for m in messages if type(m) is kind]
