"""A round of ten thousand trainers: many sums, each with a committee of its own, and two decisions for all of them.

One masked sum of 16-bit entries has room for 129 trainers, so the trainers are split into shards. Each shard has a
committee drawn from the one epoch set by a beacon of its own. A shard's seats sign what they hold, the epoch set orders
all shards' closes at once, the seats release their key sums, each shard opens and is certified, and one header orders
all certificates.

What is real: one shard's uploads, every seat's columns of them, the opening and both certificates, whose parts are
timed; the draw of all committees; both ordering decisions, with real keys. What is charged: every other shard's work,
at the sampled shard's medians, on virtual time. Nobody fails, and every seat holds all of its shard's reports.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from collegium.aggregation import (
    RoundTerms,
    SeatColumns,
    add_columns,
    check_key_sum,
    decode_ciphertext,
    make_upload,
    open_sum,
    sign_key_sum,
    weighted_total,
)
from collegium.apps._bench import ENTRY_BOUND, WEIGHTED_MIN, WrongSumError, columns_of, new_round, size_of
from collegium.apps._bench_rows import Spread
from collegium.apps._order_replica import Frame, Keys, OrderReplica, Wish, epoch_set_of, order_keys, replica_of
from collegium.consensus import EpochSet, EpochVerifier, draw_committee, seat_quorum
from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    Digest,
    SealKey,
    Stream,
    decode_certificate,
    encode_certificate,
    hash_fields,
    make_certificate,
    os_random,
    verify_certificate,
)
from collegium.node import Delivery, Network, Outgoing, SharedWork

__all__ = ["Costs", "ShardCase", "ShardedRound", "play_sharded", "sample_shard"]

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_MS: Final = 10**7


@dataclass(frozen=True, slots=True)
class ShardCase:
    """How large the round is.

    Attributes:
        sample: trainers of the shard that is really played, at most `shard_trainers`.
    """

    trainers: int = 10_000
    shard_trainers: int = 128
    seats: int = 64
    validators: int = 256
    parameters: int = 100_000
    link_ms: int = 50
    sample: int = 128

    @property
    def shards(self) -> int:
        """How many sums."""
        return -(-self.trainers // self.shard_trainers)


@dataclass(frozen=True, slots=True)
class Costs:
    """Medians of one sampled shard, in milliseconds, and bytes.

    Attributes:
        upload: a trainer's masking, sharing, sealing and signing.
        admit: one seat checking one report and its own columns of it.
        add_ciphertext: adding one masked update.
        vote: one BLS signature; gather: aggregating a quorum of them; check_certificate: checking the aggregate.
        add_columns: adding one report's columns of one seat; sign: one signed key sum; check_key_sum: checking it.
        open: decoding the key from all sums and unmasking.
        add_total: adding one shard's opened total to the model.
        upload_bytes, key_sum_bytes, certificate_bytes, total_bytes: of one each.
        spread: of `upload` and `admit`.
    """

    upload: float
    admit: float
    add_ciphertext: float
    vote: float
    gather: float
    check_certificate: float
    add_columns: float
    sign: float
    check_key_sum: float
    open: float
    add_total: float
    upload_bytes: int
    key_sum_bytes: int
    certificate_bytes: int
    total_bytes: int
    spread: dict[str, Spread]


# The sampled shard, for real


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds of processor time of each part, call by call."""

    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def time(self, part: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.process_time()
        value = work(*args, **kwargs)
        self.parts[part].append(1e3 * (time.process_time() - began))
        return value

    def spread(self, part: str) -> Spread:
        return Spread.of(self.parts[part])

    def median(self, part: str) -> float:
        return self.spread(part).median


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard's terms and the keys behind them."""

    terms: RoundTerms
    accounts: tuple[AccountKey, ...]
    seal_keys: tuple[SealKey, ...]
    voting: tuple[BlsSecretKey, ...]


def new_shard(case: ShardCase) -> Shard:
    """Return a fresh shard with a full committee."""
    terms, accounts, seal_keys = new_round(case.seats, case.parameters, case.shard_trainers)
    return Shard(terms, accounts, seal_keys, tuple(BlsSecretKey.generate(os_random) for _ in range(case.seats)))


def sample_shard(case: ShardCase) -> Costs:
    """Play one shard from uploads to its certificate, and return what its parts took.

    Raises:
        WrongSumError: the opened sum is not the true one.
    """
    watch, shard = Stopwatch(), new_shard(case)
    terms, weights = shard.terms, [1] * case.sample
    columns: list[list[SeatColumns]] = [[] for _ in range(case.seats)]
    truth, upload_bytes = np.zeros(case.parameters, np.int64), 0
    generator = np.random.default_rng(0)
    make_upload(terms, AccountKey.generate(os_random), truth, Stream(os_random(32)))  # expands A, uncounted
    ciphertexts = []
    for _ in range(case.sample):
        update = generator.integers(-ENTRY_BOUND, ENTRY_BOUND + 1, case.parameters)
        account, random = AccountKey.generate(os_random), Stream(os_random(32))
        upload = watch.time("upload", make_upload, terms, account, update, random)
        for seat, key in enumerate(shard.seal_keys):  # each for itself
            columns[seat].append(watch.time("admit", columns_of, terms, upload, seat, key))
        ciphertexts.append(upload.ciphertext)
        upload_bytes = size_of(upload)
        truth += update
    decoded = [decode_ciphertext(terms.layout, data) for data in ciphertexts]
    total = watch.time("total", weighted_total, iter(decoded), weights)
    opened, key_sum_bytes = _open(watch, shard, columns, total, weights)
    if opened.tobytes() != truth.tobytes():
        raise WrongSumError("the sampled shard's opened sum is not the sum of its updates", case=case)
    model = np.zeros(case.parameters, np.int64)
    watch.time("add_total", lambda: sha256(np.add(model, opened, out=model).tobytes()).digest())
    certificate = _certify(watch, shard, sha256(opened.tobytes()).digest())
    names = ("upload", "admit", "vote", "gather", "check_certificate", "sign", "check_key_sum", "open", "add_total")
    return Costs(
        **{name: watch.median(name) for name in names},
        add_ciphertext=watch.median("total") / case.sample,
        add_columns=watch.median("add_columns") / case.sample,
        upload_bytes=upload_bytes,
        key_sum_bytes=key_sum_bytes,
        certificate_bytes=len(certificate),
        total_bytes=8 * case.parameters,
        spread={name: watch.spread(name) for name in ("upload", "admit")},
    )


def _open(
    watch: Stopwatch, shard: Shard, columns: list[list[SeatColumns]], total: NDArray[np.uint64], weights: list[int]
) -> tuple[NDArray[np.int64], int]:
    """Add, sign, check and open; return the sum, and the bytes of one seat's key sum."""
    terms, sums = shard.terms, {}
    close = hash_fields("bench-close", terms.digest)
    for seat, account in enumerate(shard.accounts):
        rows = watch.time("add_columns", add_columns, columns[seat], weights, WEIGHTED_MIN)
        sums[seat] = watch.time("sign", sign_key_sum, terms, close, seat, rows, account)
    for key_sum in sums.values():
        watch.time("check_key_sum", check_key_sum, terms, close, key_sum)
    opened = watch.time("open", open_sum, terms, sums, total, len(weights))
    return opened.total, len(sums[0].to_bytes())


def _certify(watch: Stopwatch, shard: Shard, digest: Digest) -> bytes:
    """Vote, gather and check one certificate of the committee."""
    quorum, size = seat_quorum(len(shard.voting)), len(shard.voting)
    keys = [BlsPublicKey(bytes(key.public_key())) for key in shard.voting]
    votes = {seat: watch.time("vote", key.sign, digest) for seat, key in enumerate(shard.voting[:quorum])}
    data = watch.time("gather", lambda: encode_certificate(make_certificate(size, votes)))
    verified = decode_certificate(data, size)
    for _ in range(5):
        watch.time("check_certificate", verify_certificate, keys, quorum, digest, verified)
    return data


# The whole round, on virtual time


@dataclass(frozen=True, slots=True)
class Told:
    """What a seat, or a shard's collector, tells: its phase, for which shard, and how many bytes it stands for."""

    phase: str
    shard: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class ShardedRound:
    """What the round took.

    Attributes:
        closes_ms, certified_ms, final_ms: after the last report was admitted: all closes are final at a quorum, all
            shards are certified, the header is final at a quorum.
        seats_most: seats of the validator that has most.
        cpu_seconds: of all validators, from the last report on; `admission_cpu_seconds` is what admitting took before.
    """

    closes_ms: float
    certified_ms: float
    final_ms: float
    seats_most: int
    messages: int
    sent_bytes: int
    cpu_seconds: float
    admission_cpu_seconds: float


@dataclass(slots=True)
class _ChargedWish(Wish):
    """What the epoch set orders; whoever judges a proposal pays for checking all shards' certificates in it."""

    charge: Callable[[], None] = lambda: None

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        self.charge()
        self.payload = payload
        return payload not in ancestors


@dataclass(slots=True)
class _Validator:
    """A validator with its seats in several shards, some of which it may collect for."""

    index: int
    world: _World
    replica: OrderReplica
    seats: dict[int, int]  # shard -> seats of it
    heard: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    done: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def handle(self, message: object, now_ms: int, sender: int | None = None) -> list[Outgoing]:
        if message == "begin":
            return list(self._vote("held"))
        if isinstance(message, bytes):
            before = self.replica.decided
            out = list(self._frames(self.replica.take(sender or 0, message)))
            if self.replica.decided > before == 0:
                out += self._release()
            return out
        if not isinstance(message, Told):
            raise TypeError(f"{type(message).__name__} is nothing that a validator is told")
        return list(self._told(message))

    def _told(self, message: Told) -> Iterator[Outgoing]:
        world, costs, case = self.world, self.world.costs, self.world.case
        self.heard[message.phase, message.shard] += 1
        match message.phase:
            case "held" | "opened vote":
                if self.heard[message.phase, message.shard] == seat_quorum(case.seats):
                    world.charge(costs.gather + costs.check_certificate)
                    phase, size = ("close", 32) if message.phase == "held" else ("result", 32)
                    yield from self._send(None, Told(phase, message.shard, size + costs.certificate_bytes))
            case "close" | "result":
                self.done[message.phase] += 1
                if self.done[message.phase] == case.shards:
                    size = case.shards * (32 + costs.certificate_bytes)
                    yield from self._frames(self.replica.propose(message.phase.encode().ljust(size, b"\0")))
            case "key sum":
                world.charge(costs.check_key_sum)
                if self.heard[message.phase, message.shard] == case.seats:
                    world.charge(costs.open)
                    size = case.seats * costs.key_sum_bytes
                    for member in sorted({*world.committees[message.shard]}):
                        yield from self._send(member, Told("key sums", message.shard, size))
            case "key sums":  # it trusts no collector: it opens for itself, once for all its seats of the shard
                world.charge(0 if world.collector(message.shard) == self.index else self._opening())
                for _ in range(self.seats[message.shard]):
                    world.charge(costs.vote)
                    vote = Told("opened vote", message.shard, 50)
                    yield from self._send(world.collector(message.shard), vote)

    def _opening(self) -> float:
        costs = self.world.costs
        return self.world.case.seats * costs.check_key_sum + costs.open

    def _vote(self, phase: str) -> Iterator[Outgoing]:
        for shard, seats in self.seats.items():
            for _ in range(seats):
                self.world.charge(self.world.costs.vote)
                yield from self._send(self.world.collector(shard), Told(phase, shard, 50))

    def _release(self) -> Iterator[Outgoing]:
        """Add and sign for every seat, once the closes are final."""
        costs, case = self.world.costs, self.world.case
        for shard, seats in self.seats.items():
            for _ in range(seats):
                self.world.charge(case.shard_trainers * costs.add_columns + costs.sign)
                yield from self._send(self.world.collector(shard), Told("key sum", shard, costs.key_sum_bytes))

    def _send(self, to: int | None, told: Told) -> Iterator[Outgoing]:
        others = self.world.case.validators - 1 if to is None else int(to != self.index)
        self.world.sent_bytes += others * told.sent_bytes
        yield Outgoing(told, to)

    def _frames(self, frames: Iterable[Frame]) -> Iterator[Outgoing]:
        for frame in frames:
            everybody = (other for other in range(self.world.case.validators) if other != self.index)
            for to in everybody if frame.to is None else (frame.to,):
                self.world.sent_bytes += len(frame.data)
                yield Outgoing(frame.data, to)


@dataclass(slots=True)
class _World:
    """Who sits where, and what is charged."""

    case: ShardCase
    costs: Costs
    committees: list[tuple[int, ...]]
    work: SharedWork
    sent_bytes: int = 0

    def charge(self, milliseconds: float) -> None:
        self.work.charged_ms += milliseconds

    def collector(self, shard: int) -> int:
        """Who collects for a shard: its first seat."""
        return self.committees[shard][0]


def play_sharded(case: ShardCase, costs: Costs) -> ShardedRound:
    """Play the round from the last report admitted to a final header.

    Raises:
        StalledError: it does not become final.
    """
    keys = order_keys(case.validators, os_random(32))
    epoch_set, beacon = epoch_set_of(keys), os_random(32)
    committees = [
        tuple(int(v) for v in draw_committee(hash_fields("bench-shard", beacon, shard), epoch_set, case.seats))
        for shard in range(case.shards)
    ]
    network = Network(SharedWork(), case.link_ms)
    world = _World(case, costs, committees, network.work)
    validators = _validators(world, epoch_set, keys)
    for validator in validators:
        network.join(validator.index, validator)
        network.post(validator.index, "begin", 0, 0.0)
    times: dict[str, list[float]] = defaultdict(list)
    quorum, counted = epoch_set.quorum, [0] * case.validators

    def saw(delivery: Delivery) -> bool:
        validator = validators[delivery.participant]
        if validator.replica.decided > counted[validator.index]:
            counted[validator.index] = validator.replica.decided
            times["closes" if validator.replica.decided == 1 else "final"].append(delivery.measured_ms)
        if isinstance(delivery.message, Told) and validator.done["result"] == case.shards and "certified" not in times:
            times["certified"].append(delivery.measured_ms - (delivery.sender != delivery.participant) * case.link_ms)
        return len(times["final"]) == case.validators

    network.run(saw, LIMIT_MS)
    return ShardedRound(
        closes_ms=sorted(times["closes"])[quorum - 1],
        certified_ms=times["certified"][0],
        final_ms=sorted(times["final"])[quorum - 1],
        seats_most=max(sum(validator.seats.values()) for validator in validators),
        messages=network.messages,
        sent_bytes=world.sent_bytes,
        cpu_seconds=network.compute_ms / 1e3,
        admission_cpu_seconds=case.trainers * (case.seats * costs.admit + case.seats * costs.add_ciphertext) / 1e3,
    )


def _validators(world: _World, epoch_set: EpochSet, keys: Keys) -> list[_Validator]:
    verifier, found = EpochVerifier(epoch_set, world.work.once), []
    for index in range(epoch_set.size):
        seats = {shard: seats.count(index) for shard, seats in enumerate(world.committees) if index in seats}
        wish = _ChargedWish()
        replica = replica_of(epoch_set, keys, index, verifier, wish)
        wish.charge = partial(_charge_proposal, world, replica)
        found.append(_Validator(index, world, replica, seats))
    return found


def _charge_proposal(world: _World, replica: OrderReplica) -> None:
    """Charge for judging a proposal: all shards' certificates and, once the closes are final, adding their totals."""
    costs = world.costs
    world.charge(world.case.shards * (costs.check_certificate + (costs.add_total if replica.decided else 0)))
