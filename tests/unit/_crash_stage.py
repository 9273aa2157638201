"""Four validators over journals on disk, in virtual time, and one of them dies between any two effects.

What a validator writes and says is one sequence: durable effects, then messages, one for each receiver. `Village` kills
its victim before the n-th of them. A kill leaves the files as they lie: they are copied, with the write-ahead log, and
the next life begins with the copies.
"""

from __future__ import annotations

import heapq
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _round_stage import EMPTY_MODEL, RANDOM, TASK, Tally, sum_of, update_of

from collegium.aggregation import RoundTerms, SeatTerms, Upload, make_upload
from collegium.consensus import (
    Announcement,
    Ballot,
    BeaconWord,
    Block,
    Close,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    KeepSecret,
    PeerJoined,
    Release,
    RoundContext,
    RoundTiming,
    SeatReceipt,
    ShardMessage,
    Timeout,
    Validator,
    ValidatorContext,
    ValidatorIndex,
    Vote,
    assign_seats,
    decode_payload,
)
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    SealKey,
    ThresholdBeacon,
    combine_commitments,
    deal,
)
from collegium.node import SharedWork
from collegium.node._journal import BlockArchive, Journal, MemoryJournal
from collegium.node._journal_disk import DiskJournal
from collegium.node._validator_node import ValidatorNode

VALIDATORS = 4
SEATS = 16  # four each
TRAINERS = 3
LINK_MS = 10
TIMING = RoundTiming(grace_ms=20, deadline_ms=5_000, release_ms=500, turn_ms=300, verify_ms=200)


@dataclass(frozen=True)
class Keys:
    """Everybody's keys and the first terms."""

    accounts: tuple[AccountKey, ...]
    voting: tuple[BlsSecretKey, ...]
    seals: tuple[SealKey, ...]
    beacons: tuple[ThresholdBeacon, ...]
    trainers: tuple[AccountKey, ...]
    epoch_set: EpochSet
    terms: RoundTerms


@cache
def keys() -> Keys:
    random = RANDOM.split("village")
    accounts = tuple(AccountKey.generate(random.split(f"account {i}")) for i in range(VALIDATORS))
    voting = tuple(BlsSecretKey.generate(random.split(f"voting {i}")) for i in range(VALIDATORS))
    seals = tuple(SealKey.generate(random.split(f"seal {i}")) for i in range(VALIDATORS))
    trainers = tuple(AccountKey.generate(random.split(f"trainer {i}")) for i in range(TRAINERS))
    members = [
        Validator(ValidatorIndex(i), bytes(voting[i].public_key()), accounts[i].address, 1) for i in range(VALIDATORS)
    ]
    epoch_set = EpochSet(TASK, 0, tuple(members))
    dealing = deal(random.split("beacon"), VALIDATORS, epoch_set.quorum)
    group = combine_commitments(VALIDATORS, [dealing.commitments])
    beacon = sha256(b"village beacon").digest()
    seats = assign_seats(beacon, epoch_set, SEATS)
    terms = RoundTerms(
        task=TASK,
        round=0,
        previous=sha256(b"village").digest(),
        model=sha256(EMPTY_MODEL).digest(),
        beacon=beacon,
        seats=tuple(SeatTerms(accounts[v].address, seals[v].public_bytes) for v in seats),
        layout=Tally().layout(0),
    )
    beacons = tuple(ThresholdBeacon(TASK, group, share) for share in dealing.shares)
    return Keys(accounts, voting, seals, beacons, trainers, epoch_set, terms)


@cache
def verifier() -> EpochVerifier:
    return EpochVerifier(keys().epoch_set)


def context_of(index: int, work: SharedWork, label: str = "") -> ValidatorContext:
    who = keys()
    surroundings = RoundContext(
        agreed=Tally(),
        epoch_set=who.epoch_set,
        index=index,
        account=who.accounts[index],
        voting_key=who.voting[index],
        beacon=who.beacons[index],
        cohort=frozenset(key.address for key in who.trainers),
        seats=SEATS,
        work=work,
        random=RANDOM.split(f"village {index} {label}"),
        timing=TIMING,
        cohort_min=2,
        lying_max=0,
    )
    signer = EpochSigner(who.voting[index], who.accounts[index])
    return ValidatorContext(surroundings, signer, verifier(), BlockArchive(), 10 * LINK_MS)


_drawn: dict[tuple[bytes, int], Upload] = {}


def _upload(terms: RoundTerms, trainer: int) -> Upload:
    """Return what a trainer sends under these terms: the same in every village that has them."""
    key = (terms.digest, trainer)
    if key not in _drawn:
        random = RANDOM.split(f"village upload {terms.digest.hex()} {trainer}")
        _drawn[key] = make_upload(terms, keys().trainers[trainer], update_of(trainer), random)
    return _drawn[key]


class Killed(BaseException):
    """The victim's process is gone; no handler of errors may stop that."""


@dataclass
class Fate:
    """When a validator dies: before its `dies_at`-th effect; None: never. It counts on through all of its lives."""

    dies_at: int | None = None
    dies_again: list[int] = field(default_factory=list)  # after how many more effects, each time
    effects: int = 0

    def step(self) -> None:
        if self.effects == self.dies_at:
            self.dies_at = self.effects + self.dies_again.pop(0) if self.dies_again else None
            raise Killed
        self.effects += 1


@dataclass
class MortalJournal:
    """A journal whose validator may die between two effects, inside a transaction too."""

    inner: Journal
    fate: Fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, effects: Iterable[Any]) -> None:
        self.inner.write(self._one_by_one(effects))

    def _one_by_one(self, effects: Iterable[Any]) -> Iterator[Any]:
        for effect in effects:
            self.fate.step()
            yield effect
        self.fate.step()  # all is written, the transaction is not committed


def forget_sealing_keys(patch: pytest.MonkeyPatch) -> None:
    """Let every disk lose them."""
    write = MortalJournal.write

    def lose(journal: MortalJournal, effects: Iterable[Any]) -> None:
        write(journal, [effect for effect in effects if not isinstance(effect, KeepSecret)])

    patch.setattr(MortalJournal, "write", lose)


@dataclass
class Words:
    """What a validator has said in all of its lives, to be compared with what it says later."""

    said: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    given_up: int = 0

    def hear(self, message: Any) -> None:
        match message:
            case Vote():
                assert message.view > self.given_up, "voted in a view after giving it up"
                self._note(("vote", message.view), message)
            case Timeout():
                self.given_up = max(self.given_up, message.view)
                self._note(("timeout", message.view), message)
            case Block():
                self._note(("block", message.view), message.digest)
            case Release():
                sums = tuple(key_sum.digest for key_sum in message.key_sums)
                self._note(("release", message.round), (message.close, sums, message.signature))
            case SeatReceipt():
                receipt = message.receipt
                self._note(("receipt", message.round, receipt.seat, receipt.reports), receipt)
            case Announcement():
                self._note(("announcement", message.round), message)
            case ShardMessage(number, shard, Release() as said):
                sums = tuple(key_sum.digest for key_sum in said.key_sums)
                self._note(("release", number, shard), (said.close, sums, said.signature))
            case ShardMessage(number, shard, SeatReceipt() as said):
                self._note(("receipt", number, shard, said.receipt.seat, said.receipt.reports), said.receipt)
            case BeaconWord():
                self._note(("word", message.round), message)

    def _note(self, key: tuple[Any, ...], value: Any) -> None:
        assert self.said.setdefault(key, value) == value, f"another {key[0]} of {key[1:]} than before"


def a_vote(view: int, block: bytes) -> Vote:
    """Return a validator's vote, unsigned, for one of the blocks that these names stand for."""
    return Vote(Ballot(view, sha256(block).digest(), view - 1, bytes(32)), 1, bytes(48))


class Village:
    """Four validators and their trainers; `kill` says who dies when, and for how long."""

    def __init__(
        self,
        folder: Path | None,
        victim: int = 0,
        dies_at: int | None = None,
        down_ms: int = 50,
        work: SharedWork | None = None,
    ) -> None:
        self.folder, self.victim, self.down_ms = folder, victim, down_ms
        self.work = work or SharedWork()
        self.now, self.sequence, self.lives = 0, 0, 0
        self.queue: list[tuple[int, int, int, Any, int | None]] = []
        self.fates = {i: Fate(dies_at if i == victim else None) for i in range(VALIDATORS)}
        self.words = {i: Words() for i in range(VALIDATORS)}
        self.nodes: dict[int, Any] = {}
        self.journals: dict[int, Any] = {}
        self.sent = -1  # the last round that trainers have reported in
        self.uploads: dict[int, list[Upload]] = {}
        self.notes: dict[int, list[Any]] = {i: [] for i in range(VALIDATORS)}
        self.heard: dict[int, Counter[type]] = {i: Counter() for i in range(VALIDATORS)}
        self.kill_all_ms: int | None = None  # everybody dies then
        self.cut: tuple[int, int, int] | None = None  # nothing reaches or leaves a validator from then till then
        self.joins = True  # its peers hear of it when the connection is back
        for i in range(VALIDATORS):
            self._begin(i, self._journal(i))

    # ------------------------------------------------------------------------------------------------ lives

    def _journal(self, index: int) -> Any:
        if self.folder is None:
            return MemoryJournal()
        return DiskJournal(self.folder / f"{index}-0.db", rounds_kept=1)

    def _restore(self, index: int, journal: Any) -> tuple[Any, list[Any]]:
        who, context = keys(), context_of(index, self.work, str(self.lives))
        first = (who.terms, EMPTY_MODEL, {0: who.seals[index]})
        return ValidatorNode.restore(context, journal, *first, self.now)

    def _round(self, index: int) -> Any:
        """Return what a validator knows of its present round."""
        return self.nodes[index].state.round

    def _begin(self, index: int, journal: Any) -> None:
        self.journals[index] = journal
        mortal = MortalJournal(journal, self.fates[index])
        try:
            node, outgoing = self._restore(index, mortal)
            self.nodes[index] = node
            self._send(index, outgoing)
        except Killed:
            self._die(index)
            return
        for other in self.nodes:
            if other != index:
                self._post(other, self.now + LINK_MS, PeerJoined(index))
                self._post(index, self.now + LINK_MS, PeerJoined(other))

    def _die(self, index: int) -> None:
        """Take the validator away with all that was on its way to it; its files stay as they lie."""
        self.nodes.pop(index, None)
        self.queue = [item for item in self.queue if item[2] != index]
        heapq.heapify(self.queue)
        self.lives += 1
        journal = self.journals[index]
        if isinstance(journal, DiskJournal):
            fresh = journal.path.with_name(f"{index}-{self.lives}.db")
            for end in ("", "-wal"):
                source = Path(f"{journal.path}{end}")
                if source.exists():
                    shutil.copy(source, f"{fresh}{end}")
            journal.close()
            self.sequence += 1
            heapq.heappush(self.queue, (self.now + self.down_ms, self.sequence, index, fresh, None))
        else:
            self.sequence += 1
            heapq.heappush(self.queue, (self.now + self.down_ms, self.sequence, index, journal, None))

    # ------------------------------------------------------------------------------------------------ events

    def run(self, rounds: int, limit_ms: int = 120_000) -> None:
        """Run until every validator has ended this many rounds."""
        while (
            len(self.nodes) < VALIDATORS
            or any(self._round(i).terms.round < rounds for i in self.nodes)
            or any(self._round(i).lacks_model for i in self.nodes)
        ):
            self._report(rounds)
            assert self.queue, "nothing is left to happen"
            self.now, _, to, message, sender = heapq.heappop(self.queue)
            assert self.now <= limit_ms, f"not over after {limit_ms} ms"
            if isinstance(message, Path):
                self._begin(to, DiskJournal(message, rounds_kept=1))
            elif isinstance(message, MemoryJournal):
                self._begin(to, message)
            elif to in self.nodes:
                self._handle(to, message, sender)
            if self.kill_all_ms is not None and self.now >= self.kill_all_ms:
                self.kill_all_ms = None
                for index in list(self.nodes):
                    self._die(index)
            self._mend()

    def _handle(self, to: int, message: Any, sender: int | None) -> None:
        try:
            self.heard[to][type(message)] += 1
            self._send(to, self.nodes[to].handle(message, self.now, sender))
            self.notes[to] += self.nodes[to].notes
            self.nodes[to].notes.clear()
        except Killed:
            self._die(to)

    def _mend(self) -> None:
        """When the connection is back, both ends hear of it."""
        if self.cut is None or self.now < self.cut[2]:
            return
        (index, _, _), self.cut = self.cut, None
        for other in self.nodes if self.joins else ():
            if other != index:
                self._post(other, self.now, PeerJoined(index))
                self._post(index, self.now, PeerJoined(other))

    def _is_cut(self, sender: int, to: int) -> bool:
        return self.cut is not None and sender != to and self.cut[0] in (sender, to) and self.now >= self.cut[1]

    def _report(self, rounds: int) -> None:
        """Trainers report when a round begins anywhere, once; who is down then never gets it from them."""
        states = [self._round(i) for i in self.nodes if not self._round(i).lacks_model]
        state = max(states, key=lambda s: s.terms.round, default=None)
        if state is None or state.terms.round <= self.sent or state.terms.round >= rounds:
            return
        self.sent = state.terms.round
        self.uploads[self.sent] = self._uploads(state.terms)
        for trainer, upload in enumerate(self.uploads[self.sent]):
            for to in range(VALIDATORS):
                self._post(to, self.now + LINK_MS + 5 * trainer, upload)

    def _uploads(self, terms: Any) -> list[Upload]:
        return [_upload(terms, trainer) for trainer in range(TRAINERS)]

    def _send(self, sender: int, outgoing: Iterable[Any]) -> None:
        for item in outgoing:
            if item.at_ms is not None:
                self._post(sender, item.at_ms, item.message, sender)
                continue
            for to in range(VALIDATORS) if item.to is None else (item.to,):
                self.fates[sender].step()
                self.words[sender].hear(item.message)
                if self._is_cut(sender, to):
                    continue
                self._post(to, self.now + (LINK_MS if to != sender else 0), item.message, sender)

    def _post(self, to: int, at_ms: int, message: Any, sender: int | None = None) -> None:
        if to not in self.nodes:
            return
        self.sequence += 1
        heapq.heappush(self.queue, (max(at_ms, self.now), self.sequence, to, message, sender))

    # ------------------------------------------------------------------------------------------------ afterwards

    def check(self) -> None:
        """Everybody has the model that closes give, all the same one, in the same round."""
        assert {self.model(i) for i in range(VALIDATORS)} == {self.due(0)}
        assert len({self._round(i).terms for i in self.nodes}) == 1
        assert [len(node.headers) for node in self.nodes.values()] == [self._round(0).terms.round] * VALIDATORS

    def close(self) -> None:
        for journal in self.journals.values():
            if isinstance(journal, DiskJournal):
                journal.close()

    def model(self, index: int) -> bytes:
        model: bytes = self._round(index).model
        return model

    def due(self, index: int) -> bytes:
        """Return the model that the closes in a validator's archive give."""
        by_id = {key.address: i for i, key in enumerate(keys().trainers)}
        model, admitted = b"", dict[bytes, int]()
        for payload in (decode_payload(block.payload) for block in self.nodes[index].archive.blocks if block.payload):
            if isinstance(payload, Close):
                reports = {u.report.id: by_id[u.report.trainer] for u in self.uploads.get(payload.round, ())}
                admitted = {report: reports[report] for report in payload.reports}
            elif payload.header.outcome == "opened":
                model += sum_of(sorted(admitted.values())).astype("<i8").tobytes()
        return model
