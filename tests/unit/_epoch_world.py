"""Whole validators through epochs on virtual time: real keys, real records, and disks that outlive everybody."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from _epoch_stage import PEOPLE, RANDOM, TASK, founded, set_of
from _round_stage import EMPTY_MODEL, Tally, committee, update_of

from collegium.aggregation import RoundTerms, SeatTerms, make_upload
from collegium.consensus import (
    ChangeContext,
    ChangePlan,
    ChangeRules,
    EpochSigner,
    EpochVerifier,
    HandoverProof,
    PeerJoined,
    Quality,
    RoundContext,
    RoundTiming,
    ValidatorContext,
    assign_seats,
    verify_chain,
    verify_handovers,
)
from collegium.crypto import Digest, SealKey
from collegium.node._epoch_node import EpochNode
from collegium.node._journal import BlockArchive, Journal, MemoryJournal
from collegium.node._journal_disk import DiskJournal
from collegium.node._network import Delivery, Network, Outgoing, SharedWork

SEATS, TRAINERS, LINK_MS = 16, 2, 10
FIRST_VALUE = sha256(b"first value").digest()
SEALS = tuple(SealKey.generate(RANDOM.split(f"first seal {i}")) for i in range(7))


@dataclass(frozen=True)
class LongTally(Tally):
    """The small task, under the name by which these people know it."""

    task: bytes = TASK


@dataclass
class World:
    """Members on a network; the disk of each outlives it."""

    count: int
    epoch_rounds: int
    folder: Path | None = None
    absent: frozenset[int] = frozenset()
    quality: Quality | None = None
    work: SharedWork = field(default_factory=SharedWork)
    disks: dict[tuple[int, int], Journal] = field(default_factory=dict)
    nodes: dict[int, EpochNode] = field(default_factory=dict)
    past: dict[tuple[int, int], object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = Network(self.work, LINK_MS)
        people = PEOPLE[: self.count]
        self.epoch_set = set_of(people)
        self.beacons = founded(people)
        self.accounts = [person.account.address for person in people]
        plan = ChangePlan(tuple(p.registration for p in people), epoch_rounds=self.epoch_rounds)
        self.rules = ChangeRules(plan, self.epoch_set, self.work)
        self.verifier = EpochVerifier(self.epoch_set)
        seats = assign_seats(FIRST_VALUE, self.epoch_set, SEATS)
        self.terms = RoundTerms(
            task=TASK,
            round=0,
            previous=sha256(b"genesis").digest(),
            model=sha256(EMPTY_MODEL).digest(),
            beacon=FIRST_VALUE,
            seats=tuple(SeatTerms(self.accounts[v], SEALS[v].public_bytes) for v in seats),
            layout=LongTally().layout(0),
        )
        said = [(member, self.boot(member)) for member in range(self.count) if member not in self.absent]
        for member, outgoing in said:
            self.network.send(member, outgoing)

    def context(self, member: int) -> ValidatorContext:
        person = PEOPLE[member]
        random = RANDOM.split(f"member {member} at {self.network.now_ms}")
        surroundings = RoundContext(
            agreed=LongTally(),
            epoch_set=self.epoch_set,
            index=member,
            account=person.account,
            voting_key=person.voting,
            beacon=self.beacons[member],
            cohort=frozenset(key.address for key in committee().trainers[:TRAINERS]),
            seats=SEATS,
            work=self.work,
            random=random,
            timing=RoundTiming(deadline_ms=20_000),
            cohort_min=2,
            quality=self.quality,
        )
        change = ChangeContext(self.rules, 0, FIRST_VALUE, person.account, person.voting, random)
        signer = EpochSigner(person.voting, person.account)
        return ValidatorContext(surroundings, signer, self.verifier, BlockArchive(), 10 * LINK_MS, None, change)

    def disk(self, member: int) -> Callable[[int], Journal]:
        def open_journal(epoch: int) -> Journal:
            if (member, epoch) not in self.disks:
                path = None if self.folder is None else self.folder / f"{member}-{epoch}.journal"
                self.disks[member, epoch] = MemoryJournal() if path is None else DiskJournal(path)
            return self.disks[member, epoch]

        return open_journal

    def boot(self, member: int) -> list[Outgoing]:
        first = (self.terms, EMPTY_MODEL, {0: SEALS[member]})
        node, outgoing = EpochNode.restore(
            member, self.accounts, self.disk(member), self.context(member), *first, self.network.now_ms
        )
        self.nodes[member] = node
        self.network.join(member, node)
        return outgoing

    def kill(self, member: int) -> None:
        """Lose everything of a member but its disk."""
        del self.nodes[member], self.network.participants[member]
        self.network._queue = [event for event in self.network._queue if event[2] != member]
        heapq.heapify(self.network._queue)
        for key, journal in list(self.disks.items()):
            if key[0] == member and isinstance(journal, DiskJournal):
                journal.close()
                del self.disks[key]

    def bring_back(self, member: int) -> None:
        self.network.send(member, self.boot(member))
        for other in self.nodes:
            self.network.post(other, PeerJoined(member), self.network.now_ms, self.network.measured_ms)

    # -------------------------------------------------------------------------------------------- rounds

    def headers(self, member: int) -> dict[int, Digest]:
        """Return the final headers that a member's disks have, by round."""
        found: dict[int, Digest] = {}
        for (who, _), journal in self.disks.items():
            if who == member:
                found |= {header.round: header.digest for header in journal.headers()}
        return found

    def play(self, number: int, watch: Callable[[Delivery], None] = lambda _: None) -> None:
        """Let trainers report and run until everybody here has the header of a round."""
        terms = next(n.node.state.round.terms for n in self.nodes.values() if self.round_of(n) == number)
        for trainer in range(TRAINERS):
            random = RANDOM.split(f"upload {number} {trainer}")
            upload = make_upload(terms, committee().trainers[trainer], update_of(trainer), random)
            for member in self.nodes:
                self.network.post(member, upload, self.network.now_ms + LINK_MS, self.network.measured_ms)

        def done(delivery: Delivery) -> bool:
            watch(delivery)
            return all(number in self.final(node) for node in self.nodes.values())

        self.network.run(done, self.network.now_ms + 600_000)

    @staticmethod
    def final(node: EpochNode) -> set[int]:
        return {header.round for one in node.nodes for header in one.headers}

    @staticmethod
    def round_of(node: EpochNode) -> int:
        return node.node.state.round.terms.round

    def walk(self, member: int) -> list[int]:
        """Check a member's disks as a stranger would, from the genesis; return the sizes of the sets on the way."""
        epoch_set, genesis, proofs, sizes = self.epoch_set, self.epoch_set.genesis(), [], [self.epoch_set.size]
        last = max(epoch for who, epoch in self.disks if who == member)
        for epoch in range(last + 1):
            archive = self.disks[member, epoch].archive
            blocks = list(archive.blocks)
            payloads = verify_chain(epoch_set, genesis, blocks, archive.proofs[blocks[-1].digest] if blocks else ())
            assert list(payloads) == [block.payload for block in blocks if block.payload]
            handovers = (block for block in blocks if block.payload[:1] == b"N")
            proofs += [HandoverProof(block, archive.proofs[block.digest]) for block in handovers]
            if epoch < last:
                opened = verify_handovers(self.epoch_set, self.epoch_set.genesis(), proofs)[-1]
                epoch_set, genesis = opened.epoch_set, opened.genesis
                sizes.append(epoch_set.size)
        return sizes
