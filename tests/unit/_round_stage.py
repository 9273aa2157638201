"""A committee of sixteen and some trainers around a task so small that only the protocol is left to test.

`Hall` is for hand-directed scenes: round messages alone, the test says what is final. States are immutable, so a scene
is prepared once and every test starts from a copy. `Town` runs whole validators, ordering included, on virtual time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from collegium.aggregation import (
    Budget,
    KeyClaim,
    KeySum,
    Layout,
    RoundTerms,
    SeatTerms,
    Upload,
    begin_upload,
    finish_upload,
    make_upload,
    sign_key_sum,
)
from collegium.consensus import (
    Admitted,
    Block,
    Broadcast,
    Certified,
    Close,
    Committed,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    HeaderProposal,
    Refused,
    RegistrationScope,
    Release,
    RoundAlarm,
    RoundBroadcast,
    RoundContext,
    RoundFinished,
    RoundSend,
    RoundTimer,
    Send,
    SetTimer,
    Timer,
    Validator,
    ValidatorContext,
    ValidatorIndex,
    ValidatorState,
    decode_payload,
    sign_proposal,
    sign_release,
    start_validator,
    validator_step,
)
from collegium.consensus._close_rules import close_for
from collegium.consensus._round import begin, finish, release, round_step
from collegium.consensus._round_types import RoundState, RoundSubmit
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    SealKey,
    Stream,
    ThresholdBeacon,
    combine_commitments,
    deal,
)

T = TypeVar("T")

SEATS = 16
TRAINERS = 8  # keys at hand; a scene registers as many as it wants
ENTRIES = 5
LINK_MS = 10
TASK = sha256(b"a small task").digest()
RANDOM = Stream(sha256(b"round stage").digest())
EMPTY_MODEL = b""


@dataclass(frozen=True)
class Tally:
    """A task whose model is the list of all totals: whoever opened another sum holds another model."""

    task: bytes = TASK
    level: str = "unproved"

    def layout(self, round_number: int) -> Layout:
        return Layout(ENTRIES, Budget(entry_bound=1000, trainers_max=TRAINERS))

    def step(self, round_number: int, model: bytes, total: np.ndarray) -> bytes:
        return model + total.astype("<i8").tobytes()

    def may_skip(self, round_number: int) -> bool:
        return True

    def proof_bytes_max(self, round_number: int) -> int:
        return 0

    def registration_bytes_max(self, round_number: int) -> int:
        return 0

    def registration_scope(self, registration: bytes) -> RegistrationScope:
        raise AssertionError("nothing is registered for this task")

    def verify_registration(self, trainer: bytes, registration: bytes) -> None:
        raise AssertionError("nothing is registered for this task")

    def verify_proof(self, *arguments: Any) -> KeyClaim:
        raise AssertionError("nothing is proved in this task")


class EachForItself:
    """Every validator computes alone, so nothing that one knows can hide that another does not."""

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        return compute()


@dataclass(frozen=True)
class Committee:
    """Everybody's keys, and the terms of round 0. There is a seat for every validator: seat i is validator i's."""

    accounts: tuple[AccountKey, ...]
    voting: tuple[BlsSecretKey, ...]
    first_seals: tuple[SealKey, ...]
    beacons: tuple[ThresholdBeacon, ...]
    trainers: tuple[AccountKey, ...]
    epoch_set: EpochSet
    terms: RoundTerms


@cache
def committee() -> Committee:
    accounts = tuple(AccountKey.generate(RANDOM.split(f"account {i}")) for i in range(SEATS))
    voting = tuple(BlsSecretKey.generate(RANDOM.split(f"voting {i}")) for i in range(SEATS))
    seals = tuple(SealKey.generate(RANDOM.split(f"seal {i}")) for i in range(SEATS))
    trainers = tuple(AccountKey.generate(RANDOM.split(f"trainer {i}")) for i in range(TRAINERS))
    members = [
        Validator(ValidatorIndex(i), bytes(voting[i].public_key()), accounts[i].address, 1) for i in range(SEATS)
    ]
    dealing = deal(RANDOM.split("beacon"), SEATS, SEATS - (SEATS - 1) // 3)
    group = combine_commitments(SEATS, [dealing.commitments])
    return Committee(
        accounts=accounts,
        voting=voting,
        first_seals=seals,
        beacons=tuple(ThresholdBeacon(TASK, group, share) for share in dealing.shares),
        trainers=trainers,
        epoch_set=EpochSet(TASK, 0, tuple(members)),
        terms=RoundTerms(
            task=TASK,
            round=0,
            previous=sha256(b"genesis").digest(),
            model=sha256(EMPTY_MODEL).digest(),
            beacon=sha256(b"first beacon").digest(),
            seats=tuple(SeatTerms(accounts[i].address, seals[i].public_bytes) for i in range(SEATS)),
            layout=Tally().layout(0),
        ),
    )


def update_of(trainer: int) -> np.ndarray:
    """Return what a trainer contributes in every round: both signs, different for each."""
    return np.arange(ENTRIES, dtype=np.int64) * (trainer + 1) - 7


def sum_of(trainers: Iterable[int]) -> np.ndarray:
    return np.sum([update_of(trainer) for trainer in trainers], axis=0)


@cache
def upload_of(trainer: int, draw: int = 0) -> Upload:
    """Return a trainer's upload for round 0; another `draw` is another one, as honest as the first."""
    random = RANDOM.split(f"upload {trainer} {draw}")
    return make_upload(committee().terms, committee().trainers[trainer], update_of(trainer), random)


def re_sign(upload: Upload, trainer: int, **changes: Any) -> Upload:
    """Return the upload with other report fields, under its trainer's good signature."""
    changed = replace(upload.report, **changes)
    signed = replace(changed, signature=committee().trainers[trainer].sign(changed.id))
    return replace(upload, report=signed)


def deny(upload: Upload, trainer: int, seats: Iterable[int]) -> Upload:
    """Return the upload with no box for some seats: the report says so, and is signed."""
    denied = frozenset(seats)
    digests = tuple(bytes(32) if i in denied else digest for i, digest in enumerate(upload.report.boxes))
    boxes = tuple(None if i in denied else box for i, box in enumerate(upload.boxes))
    return replace(re_sign(upload, trainer, boxes=digests), boxes=boxes)


def garble(key_sum: KeySum, label: str = "garbage") -> KeySum:
    """Return another sum under the seat's good signature."""
    drawn = np.frombuffer(RANDOM.split(label)(8 * key_sum.rows.size), "<u8") >> np.uint64(1)
    rows = drawn.reshape(key_sum.rows.shape)
    return resign_sum(key_sum, rows)


def resign_sum(key_sum: KeySum, rows: np.ndarray) -> KeySum:
    terms, account = committee().terms, committee().accounts[key_sum.seat]
    return sign_key_sum(replace(terms, round=key_sum.round), key_sum.close, key_sum.seat, rows, account)


def released_as(release: Release, **changes: Any) -> Release:
    """Return the release with other fields, under its validator's good signature."""
    return sign_release(replace(release, **changes), TASK, committee().accounts[release.validator])


def proposed_as(proposal: HeaderProposal, **changes: Any) -> HeaderProposal:
    """Return the proposal with other fields of its header, under its proposer's good signature."""
    changed = replace(proposal, header=replace(proposal.header, **changes))
    return sign_proposal(changed, committee().accounts[proposal.proposer])


def context_of(index: int, trainers: int, **changes: Any) -> RoundContext:
    who = committee()
    surroundings: dict[str, Any] = {
        "agreed": Tally(),
        "epoch_set": who.epoch_set,
        "index": index,
        "account": who.accounts[index],
        "voting_key": who.voting[index],
        "beacon": who.beacons[index],
        "cohort": frozenset(key.address for key in who.trainers[:trainers]),
        "seats": SEATS,
        "work": EachForItself(),
        "random": RANDOM.split(f"validator {index}"),
        "cohort_min": 2,
    }
    return RoundContext(**(surroundings | changes))


Tamper = Callable[[int, int, Any], Any]
"""What becomes of a message on its way: (sender, receiver, message) -> message, or None if it is lost."""


def faithful(sender: int, to: int, message: Any) -> Any:
    return message


# ------------------------------------------------------------------------------------------------ scenes by hand


@dataclass
class Hall:
    """Sixteen validators' round states; the test carries messages, orders payloads and moves the clock."""

    contexts: dict[int, RoundContext]
    states: dict[int, RoundState] = field(default_factory=dict)
    now: int = 0
    outbox: list[tuple[int, int | None, Any]] = field(default_factory=list)  # sender, receiver (None: all), message
    effects: list[tuple[int, Any]] = field(default_factory=list)  # everything else, with its validator

    @classmethod
    def opened(cls, trainers: int, absent: Iterable[int] = (), **changes: Any) -> Hall:
        """Return a hall in which round 0 has just begun and the announcements are still on their way."""
        here = [i for i in range(SEATS) if i not in frozenset(absent)]
        hall = cls({i: context_of(i, trainers, **changes) for i in here})
        for i in here:
            secrets = {0: committee().first_seals[i]}
            hall.states[i], effects = begin(hall.contexts[i], committee().terms, EMPTY_MODEL, secrets, 0)
            hall._note(i, effects)
        return hall

    def copy(self) -> Hall:
        return Hall(self.contexts, dict(self.states), self.now, list(self.outbox), list(self.effects))

    def give(self, to: int, message: Any, sender: int | None = None) -> list[Any]:
        """Let one validator handle a message, of another or (None) from outside; return this step's effects alone."""
        self.states[to], effects = round_step(self.contexts[to], self.states[to], message, self.now, sender)
        self._note(to, effects)
        return list(effects)

    def upload(self, upload: Upload, to: Iterable[int] | None = None) -> None:
        for i in self.states if to is None else to:
            self.give(i, upload)

    def spread(self, tamper: Tamper = faithful) -> Hall:
        """Let seats sign; deliver what was said, and what is said because of it, until all are quiet."""
        self.sign()
        while self.outbox:
            sender, receiver, message = self.outbox.pop(0)
            for to in self.states if receiver is None else (receiver,):
                heard = tamper(sender, to, message)
                if heard is not None and to in self.states:
                    self.give(to, heard, sender)
        return self

    def sign(self) -> None:
        """Let the time pass that seats wait for more reports before they sign for those that they hold."""
        for i, state in self.states.items():
            if state.say_ms is not None:
                later = max(self.now, state.say_ms)
                self.states[i], effects = round_step(self.contexts[i], state, RoundAlarm(state.terms.round), later)
                self._note(i, effects)

    def close(self, proposer: int = 0) -> Close:
        close = close_for(self.contexts[proposer], self.states[proposer], self.now)
        assert close is not None, "not worth closing yet"
        return close

    def finalise(self, close: Close, proposer: int = 0, records: tuple[bytes, ...] = ()) -> None:
        """The close is final, after these records of the round: everybody releases."""
        for i in self.states:
            self.states[i], effects = release(
                self.contexts[i], self.states[i], close, proposer, self.now, records=records
            )
            self._note(i, effects)

    def finish(self, certified: Certified) -> None:
        """The certified header is final: everybody begins the next round."""
        for i in self.states:
            self.states[i], effects = finish(self.contexts[i], self.states[i], certified, self.now)
            self._note(i, effects)

    def seen(self, kind: type[T]) -> list[T]:
        return [effect for _, effect in self.effects if isinstance(effect, kind)]

    def refusals(self, kind: type[Exception]) -> list[int]:
        """Return the validators that refused something for this reason."""
        return [i for i, e in self.effects if isinstance(e, Refused) and isinstance(e.reason, kind)]

    def certified(self) -> Certified:
        """Return the header that was certified and submitted."""
        (submitted,) = self.seen(RoundSubmit)
        payload = decode_payload(submitted.payload)
        assert isinstance(payload, Certified)
        return payload

    def _note(self, index: int, effects: Iterable[Any]) -> None:
        for effect in effects:
            match effect:
                case RoundBroadcast():
                    self.outbox.append((index, None, effect.message))
                case RoundSend():
                    self.outbox.append((index, effect.to, effect.message))
                case _:
                    self.effects.append((index, effect))


def wait(hall: Hall, milliseconds: int) -> Hall:
    hall.now += milliseconds
    return hall


@cache
def _admitted(trainers: int) -> Hall:
    hall = Hall.opened(trainers).spread()
    for trainer in range(trainers):
        hall.upload(upload_of(trainer))
    return wait(hall.spread(), 100)


def admitted(trainers: int = 3) -> Hall:
    """A hall in which every report has every seat's receipt, and the grace is over."""
    return _admitted(trainers).copy()


@cache
def _proposed(trainers: int) -> tuple[Hall, HeaderProposal]:
    hall, proposals = admitted(trainers), []

    def hold_back(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, HeaderProposal):
            proposals.append(message)
            return None
        return None if isinstance(message, Release) and sender == SEATS - 1 and to else message

    hall.finalise(hall.close())
    hall.spread(hold_back)
    return hall, proposals[0]


def proposed(trainers: int = 3) -> tuple[Hall, HeaderProposal]:
    """A hall in which all released, and validator 0's header proposal that nobody has heard yet.

    Nobody else has the last seat's release, so nobody has voted early.
    """
    hall, proposal = _proposed(trainers)
    return hall.copy(), proposal


# ------------------------------------------------------------------------------------------------ whole validators


@dataclass
class Archive:
    """Committed blocks in their order."""

    blocks: list[Block] = field(default_factory=list)

    def after(self, block: bytes, count: int) -> list[Block]:
        digests = [known.digest for known in self.blocks]
        if block not in digests:
            return self.blocks[:count] if self.blocks and self.blocks[0].parent == block else []
        start = digests.index(block) + 1
        return self.blocks[start : start + count]


class Town:
    """Whole validators on virtual time: a link takes `LINK_MS`, computing takes none."""

    def __init__(self, trainers: int, absent: Iterable[int] = (), tamper: Tamper = faithful, **changes: Any) -> None:
        who = committee()
        self.trainers, self.tamper, self.now = trainers, tamper, 0
        self.queue: list[tuple[int, int, int, Any, int | None]] = []
        self.sequence = 0
        self.contexts: dict[int, ValidatorContext] = {}
        self.states: dict[int, ValidatorState] = {}
        self.finished: dict[int, list[RoundFinished]] = {}
        self.committed: dict[int, list[Committed]] = {}
        self.refused: list[tuple[int, Exception]] = []
        verifier = EpochVerifier(who.epoch_set)
        started = []
        for i in sorted(set(range(SEATS)) - set(absent)):
            signer = EpochSigner(who.voting[i], who.accounts[i])
            round_context = context_of(i, trainers, **changes)
            self.contexts[i] = ValidatorContext(round_context, signer, verifier, Archive(), 10 * LINK_MS)
            self.finished[i], self.committed[i] = [], []
            secrets = {0: who.first_seals[i]}
            self.states[i], effects = start_validator(self.contexts[i], who.terms, EMPTY_MODEL, secrets, 0)
            started.append((i, effects))
        for i, effects in started:
            self._carry_out(i, effects)

    def send_reports(
        self, trainers: Iterable[int], stale: Mapping[int, int] = MappingProxyType({})
    ) -> dict[int, Upload]:
        """Let trainers do their part of the present round, under the terms that the validators hold; return it.

        `stale`: how many rounds stale some of them say that they are.
        """
        sent: dict[int, Upload] = {}
        terms = next(iter(self.states.values())).round.terms
        for trainer in trainers:
            random = RANDOM.split(f"town {terms.round} {trainer}")
            account = committee().trainers[trainer]
            draft = begin_upload(terms, account.address, update_of(trainer), random)
            sent[trainer] = finish_upload(terms, draft, account, staleness=stale.get(trainer, 0))
            for to in self.states:
                self._post(to, self.now + LINK_MS, sent[trainer])
        return sent

    def run_round(self, limit_ms: int) -> list[RoundFinished]:
        """Run until every validator here has finished one more round; return what each finished with."""
        wanted = 1 + min(len(rounds) for rounds in self.finished.values())
        limit_ms += self.now
        while any(len(rounds) < wanted for rounds in self.finished.values()):
            assert self.queue, "nothing is left to happen"
            self._happen()
            assert self.now <= limit_ms, f"no header after {limit_ms} ms"
        return [rounds[wanted - 1] for rounds in self.finished.values()]

    def run_until(self, at_ms: int) -> None:
        """Run until nothing more happens before a moment."""
        while self.queue and self.queue[0][0] < at_ms:
            self._happen()
        self.now = at_ms

    def _happen(self) -> None:
        self.now, _, to, message, sender = heapq.heappop(self.queue)
        self.states[to], effects = validator_step(self.contexts[to], self.states[to], message, self.now, sender)
        self._carry_out(to, effects)

    def _carry_out(self, index: int, effects: Iterable[Any]) -> None:
        for to, at_ms, message in self._sent(index, effects):
            self._post(to, at_ms, message, index)

    def _sent(self, index: int, effects: Iterable[Any]) -> Iterator[tuple[int, int, Any]]:
        """Yield (receiver, time, message) of each effect that is one, and keep notes of the others."""
        for effect in effects:
            match effect:
                case SetTimer():
                    yield index, effect.at_ms, Timer(effect.view)
                case RoundTimer():
                    yield index, effect.at_ms, effect.alarm
                case Send() | RoundSend():
                    yield effect.to, self.now + LINK_MS, self._travel(index, effect.to, effect.message)
                case Broadcast() | RoundBroadcast():
                    for to in self.states:
                        if to != index or isinstance(effect, RoundBroadcast):
                            yield to, self.now + LINK_MS * (to != index), self._travel(index, to, effect.message)
                case Committed():
                    self.contexts[index].archive.blocks.append(effect.block)  # type: ignore[attr-defined]
                    self.committed[index].append(effect)
                case RoundFinished():
                    self.finished[index].append(effect)
                case Refused():
                    self.refused.append((index, effect.reason))
                case Admitted():
                    pass

    def _travel(self, sender: int, to: int, message: Any) -> Any:
        return message if sender == to else self.tamper(sender, to, message)

    def _post(self, to: int, at_ms: int, message: Any, sender: int | None = None) -> None:
        if message is None or to not in self.states:
            return
        self.sequence += 1
        heapq.heappush(self.queue, (max(at_ms, self.now), self.sequence, to, message, sender))
