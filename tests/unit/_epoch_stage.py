"""A town whose epochs change hands: candidates with real keys, an order that a test directs, rounds that just pass.

`Town` gives every present member the same final payloads in the same order, as consensus would; what members submit
is ordered when the test says so. States are immutable, so a scene is prepared once and every test starts from a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeVar

from collegium.consensus import (
    Certified,
    EpochSet,
    Header,
    Registration,
    Validator,
    ValidatorIndex,
    encode_payload,
)
from collegium.consensus._epoch_change import (
    ChangeContext,
    ChangePutOff,
    ChangeState,
    ChangeTick,
    EpochRefused,
    EpochSubmit,
    ForgetEpochSecrets,
    HandedOver,
    KeepBeaconShare,
    KeepEpochSecret,
    OrderedPayload,
    change_step,
    record_accepted,
    record_wanted,
    restore_change,
    start_change,
)
from collegium.consensus._epoch_change_records import (
    Answer,
    DealingRecord,
    EpochRecord,
    TicketRecord,
    Verdict,
    change_scope,
    decode_epoch_record,
    encode_epoch_record,
)
from collegium.consensus._epoch_change_rules import ChangePlan, ChangeRules, EpochChange, take_record
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    Stream,
    ThresholdBeacon,
    combine_commitments,
    deal,
)

T = TypeVar("T")

TASK = sha256(b"a task of several epochs").digest()
RANDOM = Stream(sha256(b"epoch stage").digest())
FIRST_VALUE = sha256(b"first value").digest()


@dataclass
class Notebook:
    """Shared work: what one has computed the others look up."""

    results: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key not in self.results:
            try:
                self.results[key] = (compute(), None)
            except Exception as error:
                self.results[key] = (None, error)
        value, error = self.results[key]
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


WORK = Notebook()


@dataclass(frozen=True)
class Person:
    """A candidate: its keys, and its name, which is its place among the candidates."""

    name: int
    account: AccountKey
    voting: BlsSecretKey

    @property
    def registration(self) -> Registration:
        return Registration(bytes(self.voting.public_key()), self.account.address, 1)


PEOPLE = tuple(
    Person(i, AccountKey.generate(RANDOM.split(f"account {i}")), BlsSecretKey.generate(RANDOM.split(f"voting {i}")))
    for i in range(7)
)


def set_of(people: Iterable[Person], epoch: int = 0) -> EpochSet:
    entries = [person.registration for person in people]
    return EpochSet(
        TASK,
        epoch,
        tuple(Validator(ValidatorIndex(i), e.bls_key, e.account, e.stake) for i, e in enumerate(entries)),
    )


def founded(people: tuple[Person, ...]) -> list[ThresholdBeacon]:
    """Return the beacons of a first epoch, dealt by its founder."""
    size = len(people)
    dealing = deal(RANDOM.split(f"founder {size}"), size, size - (size - 1) // 3)
    group = combine_commitments(size, [dealing.commitments])
    return [ThresholdBeacon(TASK, group, share) for share in dealing.shares]


@dataclass
class Town:
    """One epoch at a time. `present` are those who hear what is ordered and say what they have to."""

    plan: ChangePlan
    epoch_set: EpochSet
    beacons: list[ThresholdBeacon]  # of the present epoch's members
    people: tuple[Person, ...]
    round: int = 0
    value: Digest = FIRST_VALUE  # of the present round
    first_round: int = 0
    first_value: Digest = FIRST_VALUE  # of the epoch's first round
    states: dict[int, ChangeState] = field(default_factory=dict)
    present: frozenset[int] = frozenset()
    waiting: list[tuple[int, bytes]] = field(default_factory=list)  # who submitted what
    order: list[bytes] = field(default_factory=list)  # final, of this epoch
    effects: dict[int, list[object]] = field(default_factory=dict)
    opened: HandedOver | None = None

    @classmethod
    def founded(cls, count: int, present: Iterable[int] | None = None, members: int | None = None, **plan: Any) -> Town:
        """Return a town of so many candidates, of whom the first `members` are epoch 0's set."""
        people = PEOPLE[:count]
        first = people[: members or count]
        rules = ChangePlan(tuple(p.registration for p in people), **{"epoch_rounds": 5, **plan})
        town = cls(rules, set_of(first), founded(first), people)
        town.present = frozenset(range(count)) if present is None else frozenset(present)
        for name in sorted(town.present):
            town.start(name)
        return town

    def copy(self) -> Town:
        """Return a town that goes on alone from here."""
        effects = {name: list(found) for name, found in self.effects.items()}
        return replace(
            self, states=dict(self.states), waiting=list(self.waiting), order=list(self.order), effects=effects
        )

    @property
    def rules(self) -> ChangeRules:
        return ChangeRules(self.plan, self.epoch_set, WORK)

    @property
    def change(self) -> EpochChange:
        return self.states[min(self.present)].change

    @property
    def scope(self) -> Digest:
        return change_scope(self.epoch_set, self.epoch_set.epoch + 1, self.change.start)

    def context(self, name: int) -> ChangeContext:
        person = self.people[name]
        random = RANDOM.split(f"{name} in epoch {self.epoch_set.epoch} round {self.round}")
        begun = (self.first_round, self.first_value)
        return ChangeContext(self.rules, *begun, person.account, person.voting, random)

    def place(self, name: int) -> int | None:
        """Return a candidate's place in the drawn set."""
        key = bytes(self.people[name].voting.public_key())
        return next((int(v.index) for v in self.change.drawn().validators if v.bls_key == key), None)

    def name_of(self, place: int) -> int:
        return next(name for name in range(len(self.people)) if self.place(name) == place)

    # -------------------------------------------------------------------------------------------- what happens

    def start(self, name: int) -> None:
        self.states[name], effects = start_change(self.context(name))
        self.take(name, effects)

    def take(self, name: int, effects: Iterable[object]) -> None:
        self.effects.setdefault(name, []).extend(effects)
        self.waiting += [(name, effect.payload) for effect in effects if isinstance(effect, EpochSubmit)]

    def give(self, payload: bytes) -> None:
        """A block with this payload is final."""
        self.order.append(payload)
        for name in sorted(self.present):
            self.states[name], effects = change_step(self.context(name), self.states[name], OrderedPayload(payload))
            self.take(name, effects)

    def accepts(self, payload: bytes) -> bool:
        return record_accepted(self.rules, self.change, (), payload)

    def settle(self) -> None:
        """Order whatever was submitted and is acceptable."""
        while self.waiting:
            _, payload = self.waiting.pop(0)
            if self.accepts(payload):
                self.give(payload)
        wanted = record_wanted(self.rules, self.change, ())
        if wanted is not None:
            self.give(wanted)

    def header(self) -> bytes:
        """Return the payload that ends the present round, with the beacon's true value for the next."""
        proof = self.combine(range(self.epoch_set.quorum), self.round + 1)
        header = Header(
            task=TASK,
            round=self.round,
            level="unproved",
            previous=bytes(32),
            close=bytes(32),
            outcome="skipped",
            key_sums=(),
            total=bytes(32),
            model=bytes(32),
            lying=(),
            beacon=proof,
            seats=(),
            announcements=(),
        )
        return encode_payload(Certified(header, b""))

    def combine(self, members: Iterable[int], number: int) -> bytes:
        epoch, beacons = self.epoch_set.epoch, self.beacons
        return beacons[0].combine(epoch, number, {i: beacons[i].partial(epoch, number) for i in members})

    def pass_round(self) -> None:
        payload = self.header()
        self.give(payload)
        self.round += 1
        self.value = sha256(self.combine(range(self.epoch_set.quorum), self.round)).digest()

    def play(self, rounds: int) -> Town:
        """Let rounds pass, everything that is said being ordered in time."""
        for _ in range(rounds):
            self.settle()
            self.pass_round()
        return self

    def enter_next(self) -> None:
        """Let the next epoch begin, with those present of its members and candidates."""
        handed = {name: self.found(name, HandedOver)[-1] for name in sorted(self.present)}
        opened = next(iter(handed.values())).opened
        shares = {h.member: h.share for h in handed.values() if h.member is not None}
        self.beacons = [ThresholdBeacon(TASK, opened.group, shares.get(i)) for i in range(opened.epoch_set.size)]
        self.epoch_set, self.first_round = opened.epoch_set, opened.first_round
        self.effects, self.waiting, self.order, self.first_value = {}, [], [], self.value
        for name in sorted(self.present):
            self.start(name)

    def found(self, name: int, kind: type[T]) -> list[T]:
        return [effect for effect in self.effects.get(name, []) if isinstance(effect, kind)]

    def restart(self, name: int) -> None:
        """Kill a member and bring it back from what it had written down and what is final."""
        kept = {(k.epoch, k.start, k.step): k for k in self.found(name, KeepEpochSecret)}
        for gone in self.found(name, ForgetEpochSecrets):
            kept = {key: k for key, k in kept.items() if key[:2] != (gone.epoch, gone.start)}
        state = restore_change(self.context(name), self.order, kept.values())
        self.states[name], effects = change_step(self.context(name), state, ChangeTick())
        self.take(name, effects)

    # -------------------------------------------------------------------------------------------- what is said wrongly

    def said(self, name: int, kind: type[T]) -> T:
        """Return the record of a kind that a member is about to have ordered."""
        records = [decode_epoch_record(payload) for who, payload in self.waiting if who == name]
        return next(record for record in records if isinstance(record, kind))

    def unsay(self, name: int) -> None:
        """Drop what a member has submitted."""
        self.waiting = [(who, payload) for who, payload in self.waiting if who != name]

    def signed(self, record: EpochRecord, by: int) -> EpochRecord:
        """Return the record under somebody's good signature."""
        account = self.people[by].account
        match record:
            case TicketRecord():
                return replace(record, signature=account.sign(record.digest(self.scope)))
            case DealingRecord() | Verdict() | Answer():
                return replace(record, signature=account.sign(record.digest(self.scope, self.change.drawn())))
        raise AssertionError("a handover is signed by nobody")

    def instead(self, name: int, record: EpochRecord) -> None:
        """A member has this ordered in place of what it would say."""
        self.unsay(name)
        self.waiting.insert(0, (name, encode_epoch_record(record)))

    def taken(self, record: EpochRecord) -> EpochChange:
        """Return the state after a record, or raise why it is refused."""
        return take_record(self.rules, self.change, decode_epoch_record(encode_epoch_record(record)))


__all__ = [
    "PEOPLE",
    "RANDOM",
    "TASK",
    "WORK",
    "ChangePutOff",
    "EpochRefused",
    "HandedOver",
    "KeepBeaconShare",
    "Person",
    "Town",
    "founded",
    "set_of",
]
