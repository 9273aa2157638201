"""The protocol broken on purpose, one rule at a time, and for each a scenario that must catch it.

A scenario is a schedule played by hand (`_world_scenes`) or one seeded world; it returns in one line what went wrong,
or nothing. The gate holds when every mutant makes its scenario complain and the protocol as it is makes none complain.
Mutants reach into the rooms below on purpose, and put back what they replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from collegium.aggregation import RoundTerms
from collegium.consensus import (
    Ballot,
    Close,
    EpochSet,
    ForgetEpochSecrets,
    Handover,
    KeepEpochSecret,
    KeepSecret,
    KeepUpload,
    NextEpoch,
    RoundBroadcast,
    RoundEntry,
    RoundRecords,
    RoundTiming,
    Store,
    Validator,
    ValidatorIndex,
    decode_payload,
)
from collegium.crypto import BeaconGroup, hash_fields
from collegium.errors import CollegiumError

from ._journal import MemoryJournal
from ._world import World
from ._world_checks import Truth
from ._world_disk import Drive
from ._world_keys import swapped
from ._world_order import OrderHost
from ._world_plan import Weather, WorldPlan, plan_world
from ._world_run import play_plan
from ._world_scenes import (
    certificate_of_another_epoch,
    certified_across_a_gap,
    fork_after_commit,
    signer_counted_twice,
    two_certificates_of_one_view,
)
from ._world_stage import Stage

__all__ = ["MUTANTS", "Mutant", "Tried", "try_mutants"]

Broken = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Mutant:
    """One rule broken.

    Attributes:
        name, broken: of the rule, and what is left of it.
        scenario: what is played, in words.
        play: plays it; returns what went wrong, or "".
        breaking: the protocol is broken while this is entered.
    """

    name: str
    broken: str
    scenario: str
    play: Callable[[], str]
    breaking: Broken


@dataclass(frozen=True)
class Tried:
    """What came of a mutant: what its scenario said of it, and whether the scenario is silent without it."""

    name: str
    broken: str
    scenario: str
    cause: str
    sound: bool

    @property
    def caught(self) -> bool:
        """Whether the scenario complained."""
        return bool(self.cause)


def try_mutants() -> Iterator[Tried]:
    """Play every mutant's scenario without and with the break."""
    for mutant in MUTANTS:
        sound = not mutant.play()
        with mutant.breaking():
            cause = mutant.play()
        yield Tried(mutant.name, mutant.broken, mutant.scenario, cause, sound)


# ------------------------------------------------------------------------------------------------ how to break


def _rule(module: str, name: str) -> Any:
    return getattr(import_module(f"collegium.{module}"), name)


def instead(module: str, name: str, rule: Callable[[Any], Any]) -> Broken:
    """Return what replaces a function by `rule(function)`, wherever it is called from."""

    @contextmanager
    def breaking() -> Iterator[None]:
        function = _rule(module, name)
        with swapped([(function, rule(function))]):
            yield

    return breaking


def attribute(owner: type, name: str, value: object) -> Broken:
    """Return what replaces an attribute of a class."""

    @contextmanager
    def breaking() -> Iterator[None]:
        kept = owner.__dict__[name]
        setattr(owner, name, value)
        try:
            yield
        finally:
            setattr(owner, name, kept)

    return breaking


def both(*parts: Broken) -> Broken:
    """Return what breaks several rules at once."""

    @contextmanager
    def breaking() -> Iterator[None]:
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(part())
            yield

    return breaking


def nothing(*_: object, **__: object) -> None:
    """Stand in the place of a check."""


# ------------------------------------------------------------------------------------------------ how to play


def forks(stage: Callable[[], Stage]) -> Callable[[], str]:
    """Return what plays a schedule by hand and says whether it forks."""
    return lambda: "two honest validators hold different orders" if stage().forked() else ""


def leaves_view(stage: Callable[[], Stage], seat: int, view: int) -> Callable[[], str]:
    """Return what plays a schedule and says whether a validator has left a view that it must not leave."""
    return lambda: f"validator {seat} leaves view {view}" if stage().hosts[seat].state.view > view else ""


def world(**changes: Any) -> Callable[[], str]:
    """Return what plays a world of four in good weather, changed so, and says how it failed."""
    return lambda: play_plan(replace(CALM, **changes)).failure


CALM: WorldPlan = replace(
    plan_world(0, (4, 4)),
    validators=("honest",) * 4,
    trainers=("honest",) * 3,
    proved=False,
    absent=0.0,
    lying_max=0,
    weather=Weather(calm_ms=0, hush_ms=20_000, lose=0, slow=0, repeat=0, crash=0, split_ms=0),
)
STORM = Weather(calm_ms=6_000, hush_ms=20_000, lose=0.01, slow=0.1, repeat=0.03, crash=0.05, split_ms=900)
CRASHES = replace(STORM, crash=0.1)
LOSSY = replace(STORM, crash=0.0)
AWAY = (1_100, 5_000)  # in milliseconds: while verdicts are given, in good weather
LIAR = ("honest", "liar", "honest", "honest")  # validator 1 leads view 1, in which the first close is proposed


def changing(**changes: Any) -> Callable[[], str]:
    """Return what plays a world of four in good weather through one change of epochs, and says how it failed."""
    handover = {"epochs": 2, "rounds": 1, "members_min": 3, "trainers": ("honest",) * 2}
    return world(**(handover | changes))


def of_five(**changes: Any) -> Callable[[], str]:
    """Return the same with five validators, of which one is away while verdicts are given."""
    people = {"size": 5, "seats": 7, "members_min": 4, "disks": CALM.disks[:1] * 5}
    return changing(**(people | changes))


# ------------------------------------------------------------------------------------------------ broken rules


_ordered = RoundRecords.ordered


def _forgetting_records(records: RoundRecords, payload: bytes) -> RoundRecords:
    return replace(_ordered(records, payload), final=())


def _taking_everybody(entry_of: Any) -> Any:
    def entry(context: Any, state: Any) -> RoundEntry | None:
        found = entry_of(context, state)
        return found and RoundEntry({**dict.fromkeys(context.cohort, 0), **found.weights}, found.awaited)

    return entry


def _drop_lock(_: Any) -> Any:
    return lambda known, shown: shown if shown.view > known.view else known


def _without_lock(check: Any) -> Any:
    """Check a block, but not that its parent respects what the timed-out quorum was locked on."""
    validity: Any = import_module("collegium.consensus._order_validity")

    def checked(electorate: Any, block: Any) -> None:
        kept = validity.respects_timeouts
        validity.respects_timeouts = lambda entry: True
        try:
            check(electorate, block)
        finally:
            validity.respects_timeouts = kept

    return checked


def _signers_with_repetition(check: Any) -> Any:
    validity: Any = import_module("collegium.consensus._order_validity")

    def checked(electorate: Any, certificate: Any) -> None:
        groups = [validity._signers(electorate, group.signers) for group in certificate.groups]
        validity._check_quorum(electorate, "timeout certificate", sum(len(seats) for seats in groups))

    return checked


def _release_early(order: Any) -> Any:
    """Release for a close as soon as its block is stored, that is, voted for."""

    def ordering(context: Any, state: Any, message: Any, now: int, sender: int | None = None) -> Any:
        state, effects = order(context, state, message, now, sender)
        early: list[Any] = []
        for effect in effects:
            if isinstance(effect, Store) and effect.block.payload and state.round.close is None:
                close = _close_of(effect.block.payload)
                if close is not None:
                    out = _rule("consensus._round", "release")(
                        context.round, state.round, close, effect.block.author, now
                    )
                    early += [e for e in out[1] if isinstance(e, RoundBroadcast)]
        return state, (*effects, *early)

    return ordering


def _close_of(payload: bytes) -> Close | None:
    try:
        decoded = decode_payload(payload)
    except CollegiumError:
        return None
    return decoded if isinstance(decoded, Close) else None


def _restart_without_votes(host: OrderHost) -> None:
    kept = host.disk.vote_state
    host.disk.vote_state = kept and replace(kept, voted_view=0)
    RESTART(host)


RESTART = OrderHost.restart
PUT = MemoryJournal._put


def _forgetting(kind: type) -> Callable[[MemoryJournal, Any], None]:
    """Return a disk's way to write everything but effects of one kind."""

    def put(journal: MemoryJournal, effect: Any) -> None:
        if not isinstance(effect, kind):
            PUT(journal, effect)

    return put


BEGIN = World._begin
WRITE = MemoryJournal.write


def _begin_without_votes(played: World, index: int, random: Any, drive: Drive, now: int) -> Any:
    for journal in drive.journals.values():
        kept = journal.vote_state
        if kept is not None:
            journal.vote_state = replace(kept, voted_view=0, timeout_view=0, proposed_view=0, timeout=None)
    return BEGIN(played, index, random, drive, now)


def _write_late(journal: MemoryJournal, effects: Iterable[Any]) -> None:
    late = vars(journal).setdefault("late", [])
    WRITE(journal, late)
    late[:] = effects


def _open_anyway(open_handover: Any) -> Any:
    """Open a handover however few sealing keys there are in it."""

    def opened(epoch_set: EpochSet, handover: Handover, work: Any) -> NextEpoch:
        seats = enumerate(handover.seats)
        members = tuple(Validator(ValidatorIndex(i), seat.bls_key, seat.account, seat.stake) for i, seat in seats)
        following = EpochSet(epoch_set.task, handover.epoch, members)
        genesis = hash_fields("epoch-genesis", following.genesis(), handover.digest)
        group = BeaconGroup(following.quorum, handover.group_key, handover.public_shares)
        return NextEpoch(following, genesis, group, handover.first_round, handover.keys)

    return opened


def _digest_without_epoch(ballot: Ballot, epoch_set: EpochSet) -> bytes:
    return hash_fields("vote", epoch_set.task, ballot.view, ballot.block, ballot.parent, ballot.parent_view)


# ------------------------------------------------------------------------------------------------ the list

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "dropped lock",
        "a validator forgets its highest certificate when it enters a later view",
        "by hand: the villain leads two past a final block",
        forks(lambda: fork_after_commit(block_before_timeout=True)),
        instead("consensus._ordering", "merge_entries", _drop_lock),
    ),
    Mutant(
        "ignored high certificate in a timeout",
        "a view may be entered below what the timed-out quorum was locked on",
        "by hand: the same",
        forks(lambda: fork_after_commit(block_before_timeout=True)),
        instead("consensus._order_validity", "respects_timeouts", lambda _: lambda entry: True),
    ),
    Mutant(
        "unlocked vote after a view change",
        "a block may build below what the timed-out quorum was locked on; timeouts and entries may not",
        "by hand: the same",
        forks(lambda: fork_after_commit(block_before_timeout=True)),
        instead("consensus._order_validity", "check_block", _without_lock),
    ),
    Mutant(
        "vote after timeout",
        "a validator votes in a view that it has given up",
        "by hand: the block arrives after the timeouts",
        forks(lambda: fork_after_commit(block_before_timeout=False)),
        instead(
            "consensus._ordering",
            "may_vote",
            lambda _: lambda kept, block: block.view == kept.entry.view and block.view > kept.voted_view,
        ),
    ),
    Mutant(
        "commit of views that are not contiguous",
        "two certificates in a row suffice, whatever their views",
        "by hand: two branches, each certified across a gap",
        forks(certified_across_a_gap),
        attribute(Ballot, "makes_parent_final", property(lambda ballot: ballot.parent_view > 0)),
    ),
    Mutant(
        "certificate with a signer twice",
        "a timeout certificate counts one signer in two groups",
        "by hand: the villain and one other are three signers",
        leaves_view(signer_counted_twice, 2, 2),
        instead("consensus._order_validity", "check_timeout_certificate", _signers_with_repetition),
    ),
    Mutant(
        "wrong epoch's certificates accepted",
        "what a vote signs does not name the epoch",
        "by hand: epoch 0's certificate is shown in epoch 1",
        leaves_view(certificate_of_another_epoch, 2, 1),
        attribute(Ballot, "digest", _digest_without_epoch),
    ),
    Mutant(
        "quorum of half",
        "n/2 signers make a certificate",
        "a world of four in good weather",
        world(),
        attribute(EpochSet, "quorum", property(lambda epoch_set: epoch_set.size // 2)),
    ),
    Mutant(
        "certificate of too few seats",
        "half of the seats certify a header",
        "a world of four in good weather",
        world(),
        instead("consensus._seats", "seat_quorum", lambda _: lambda seats: seats // 2),
    ),
    Mutant(
        "release before the close is final",
        "a validator gives its sums out for a close that it votes for",
        "a world of four in good weather",
        world(),
        instead("consensus._validator", "_order", _release_early),
    ),
    Mutant(
        "receipt not checked",
        "anybody's signature passes for a seat's receipt",
        "a world in which validator 1 forges receipts of other seats",
        world(validators=LIAR, script=("forged receipt",)),
        instead("aggregation", "check_receipt", lambda _: nothing),
    ),
    Mutant(
        "close that leaves out half",
        "a validator votes for a close whatever it leaves out",
        "a world in which validator 1 proposes a close of half of the reports",
        world(validators=LIAR, trainers=("honest",) * 4, script=("half close",)),
        instead("consensus._close_rules", "leaves_out", lambda _: nothing),
    ),
    Mutant(
        "header vote without redoing the sum",
        "a validator votes for any header in its proposer's turn",
        "a world in which validator 1 proposes a header with another model",
        world(validators=LIAR, script=("wrong model",)),
        instead("consensus._round_rules", "check_proposal", lambda _: nothing),
    ),
    Mutant(
        "stale beacon accepted",
        "a header's beacon and sealing keys are not checked",
        "a world in which validator 1 proposes a header with an earlier value",
        world(validators=LIAR, script=("stale beacon",)),
        instead("consensus._round_rules", "check_next", lambda _: nothing),
    ),
    Mutant(
        "vote lost in a crash",
        "a validator comes back without its vote state",
        "by hand: the villain asks again after a crash",
        forks(two_certificates_of_one_view),
        attribute(OrderHost, "restart", _restart_without_votes),
    ),
    Mutant(
        "vote state lost in a crash",
        "a validator comes back with its certificates, and has forgotten in which views it has spoken",
        "a world of four in bad weather, with many crashes",
        world(weather=STORM),
        attribute(World, "_begin", _begin_without_votes),
    ),
    Mutant(
        "persist after send",
        "a step's transaction is written when the next step begins",
        "a world of four in good weather",
        world(),
        attribute(MemoryJournal, "write", _write_late),
    ),
    Mutant(
        "sealing key not kept",
        "a validator comes back with another sealing key for the round",
        "the same world",
        world(weather=STORM),
        attribute(MemoryJournal, "_put", _forgetting(KeepSecret)),
    ),
    Mutant(
        "reports not kept",
        "a validator forgets in a crash for which of two reports it has signed receipts",
        "world 0, with as many crashes and a trainer that signs two reports",
        world(weather=CRASHES, trainers=("two reports", "honest", "honest")),
        attribute(MemoryJournal, "_put", _forgetting(KeepUpload)),
    ),
    Mutant(
        "nothing said again",
        "who has come back is not told what it missed",
        "a world of four in bad weather, with many crashes",
        world(weather=STORM),
        instead("consensus._validator", "_say_again", lambda _: lambda context, state, joined, now: (state, ())),
    ),
    Mutant(
        "sums released for two closes",
        "the record of a release is not looked at, and a vote for a close suffices to release for it",
        "a world in which validator 1 proposes one close to some and another to others",
        world(validators=LIAR, trainers=("honest",) * 5, script=("two blocks", "votes for all"), weather=LOSSY),
        both(
            instead("consensus._validator", "_order", _release_early),
            attribute(Truth, "quiet", frozenset({"final", "half", "disk"})),
            instead("consensus._close_rules", "leaves_out", lambda _: nothing),
        ),
    ),
    Mutant(
        "handover by too few verdicts",
        "a change goes on however few tickets, dealings or verdicts there are",
        "a world of five in which one is away and validator 1 gives no verdict",
        of_five(
            validators=("honest", "liar", "honest", "honest", "honest"),
            script=("no verdict",),
            away=((0, 0), (0, 0), (0, 0), (0, 0), AWAY),
        ),
        both(
            instead("consensus._epoch_change_rules", "_require", lambda _: nothing),
            instead("consensus", "open_handover", _open_anyway),
        ),
    ),
    Mutant(
        "dealt key not proved",
        "a dealing counts though its dealer does not show that it knows what it deals",
        "a world in which validator 1 deals without such a proof",
        changing(validators=LIAR, script=("unproved dealing",)),
        instead("crypto", "verify_possession", lambda _: nothing),
    ),
    Mutant(
        "close before the handover",
        "an epoch's last round may close before its handover is ordered",
        "a world of four in good weather, with one change of epochs",
        changing(),
        instead("consensus._epoch_change", "record_wanted", lambda _: nothing),
    ),
    Mutant(
        "old epoch's certificates accepted by a node",
        "what a vote signs does not name the epoch",
        "a world in which validator 1 shows epoch 0's last certificate in epoch 1",
        changing(validators=LIAR, script=("certificates of the old epoch",)),
        attribute(Ballot, "digest", _digest_without_epoch),
    ),
    Mutant(
        "dealing not kept",
        "what a member says in the change is not on its disk when it leaves",
        "a world of four in good weather, with one change of epochs",
        changing(),
        attribute(MemoryJournal, "_put", _forgetting(KeepEpochSecret)),
    ),
    Mutant(
        "secrets of the change not forgotten",
        "what shares were sealed to is still on the disk when the next epoch has begun",
        "the same world",
        changing(),
        attribute(MemoryJournal, "_put", _forgetting(ForgetEpochSecrets)),
    ),
    Mutant(
        "stale report in full",
        "a report weighs what its trainer likes, however old the model is",
        "a world of four in good weather, in which models may be two rounds old",
        world(rounds=3, staleness=2),
        attribute(RoundTerms, "weight", lambda terms, staleness: terms.layout.budget.weight_max),
    ),
    Mutant(
        "weights of the model forgotten",
        "reports weigh by their age though the model says what their trainers weigh",
        "a world of four in good weather, in which trainers weigh by quality",
        world(rounds=3, quality=True),
        instead("consensus._round_rules", "entry_of", lambda _: nothing),
    ),
    Mutant(
        "a report of somebody who is not drawn",
        "validators take reports of everybody, and closes with them",
        "a world of four in good weather, in which the beacon says who may report",
        world(rounds=4, quality=True, draws=True),
        instead("consensus._round_rules", "entry_of", _taking_everybody),
    ),
    Mutant(
        "record forgotten",
        "what is final before a close is not in the round's step",
        "the same world",
        world(rounds=3, quality=True),
        attribute(RoundRecords, "ordered", _forgetting_records),
    ),
    Mutant(
        "close that leaves out a record",
        "leaders propose no record, and a close is voted for whatever records it leaves out",
        "the same world, where a record is known for long after 20 ms",
        world(rounds=3, quality=True, timing=replace(CALM.timing, keys_ms=20)),
        both(
            instead("consensus._round_records", "forgets_record", lambda _: nothing),
            instead("consensus._round_records", "next_record", lambda _: nothing),
        ),
    ),
    Mutant(
        "a record waited for without end",
        "leaders propose no close while a record is awaited, however long",
        "a world of four in good weather, in which no records ever come",
        world(rounds=3, quality=True, mute=(0, 1, 2)),
        attribute(RoundTiming, "records_ms", 1 << 40),
    ),
    Mutant(
        "proof not verified",
        "a chosen verifier signs that it has verified, and has not",
        "a world in which a trainer's proof does not verify",
        world(trainers=("false proof", "honest", "honest"), proved=True),
        instead("consensus._proving", "check_proof", lambda _: nothing),
    ),
)
