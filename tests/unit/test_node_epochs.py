"""Whole validators through two handovers on virtual time: real keys, real records, the order that they agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _epoch_stage import PEOPLE, RANDOM, TASK
from _epoch_world import SEATS, TRAINERS, World
from _round_stage import committee, context_of, sum_of, update_of

from collegium.aggregation import make_upload
from collegium.consensus import (
    Announcement,
    ChangeOffer,
    ChangePutOff,
    EpochOver,
    EpochRefused,
    HandedOver,
    Header,
    HeaderProposal,
    KeepSecret,
    NextEpoch,
    OrderedPayload,
    ProposalRefusedError,
    Refused,
    Relay,
    ReportRequest,
    RoundAlarm,
    RoundBroadcast,
    RoundSend,
    Tick,
    ValidatorContext,
    WrongRoundError,
    bytes_in,
    change_step,
    decode_epoch_record,
    encode_epoch_record,
)
from collegium.consensus import _epoch_change as change_module
from collegium.consensus._round import _enter_next, begin_behind, round_step
from collegium.consensus._round_rules import check_proposal
from collegium.consensus._validator import ValidatorState, _heed_change
from collegium.crypto import BlsPublicKey, SealError, SealKey, open_sealed, seal, verify_aggregate
from collegium.node._epoch_node import AHEAD_BYTES_EACH_MAX, AHEAD_BYTES_MAX, AHEAD_EACH_MAX, EpochMessage, _hand_on
from collegium.node._journal import JournalWriteError, MemoryJournal
from collegium.node._network import Delivery
from collegium.node._validator_node import CheckpointRefusedError, ValidatorNode
from collegium.settlement import NO_CHECKPOINT, Checkpoint, handover_digest, header_root


def quiet(world: World) -> None:
    """Fail if anybody could not follow its own order, or lost its share."""
    for node in world.nodes.values():
        for one in node.nodes:
            assert not [note.reason for note in one.notes if isinstance(note, EpochRefused)]
            assert one.context.round.beacon.share is not None


@pytest.mark.slow
def test_four_members_learn_through_two_handovers_and_lose_all_but_their_disks_between(tmp_path: Path) -> None:
    world = World(4, epoch_rounds=5, folder=tmp_path)
    for number in range(12):
        world.play(number)
        if number == 4:  # the last round of the first epoch is final, and the second has begun or not
            for _ in range(2):  # and again, now that the second has a journal
                for member in range(4):
                    world.kill(member)
                for member in range(4):
                    world.bring_back(member)
    assert {node.epoch for node in world.nodes.values()} == {2}
    models = {node.node.state.round.model for node in world.nodes.values()}
    assert models == {12 * sum_of(range(TRAINERS)).astype("<i8").tobytes()}
    assert len({tuple(sorted(world.headers(member).items())) for member in world.nodes}) == 1
    assert sorted(world.headers(0)) == list(range(12))
    for member in range(4):
        assert world.walk(member) == [4, 4, 4]
    quiet(world)
    _first_keys_are_gone(world, tmp_path)
    _handover_settles(world)


def _first_keys_are_gone(world: World, folder: Path) -> None:
    """No file has the sealing key of an epoch's first round when that round is over; the next round's key is there."""
    for member, node in world.nodes.items():
        handed = node.nodes[0].handed_over
        assert handed is not None
        assert handed.first_key is not None
        assert handed.opened.first_round == 10
        files = b"".join(path.read_bytes() for path in sorted(folder.glob(f"{member}-*.journal*")))
        assert handed.first_key.secret not in files
        assert node.node.state.round.secrets[12].secret in files
        for epoch in range(3):
            assert all(number >= 12 for number in world.disks[member, epoch].read().secrets)


def _handover_settles(world: World) -> None:
    """What the members of an epoch sign for the base chain is what its contract asks for."""
    ended = [node.nodes[0] for node in world.nodes.values()]
    headers = {header.round: header.digest for header in ended[0].headers}
    assert sorted(headers) == [5, 6, 7, 8, 9]
    last = Checkpoint(TASK, 1, 5, 9, NO_CHECKPOINT, header_root([headers[n] for n in range(5, 10)]))
    present = next(iter(world.nodes.values())).node.context.round.epoch_set
    keys = [BlsPublicKey(v.bls_key) for v in present.validators]
    digest = handover_digest(TASK, 2, last.digest, keys)
    before = ended[0].context.round.epoch_set
    for one in ended:
        own = BlsPublicKey(before.validators[one.index].bls_key)
        verify_aggregate([own], digest, one.sign_handover(last))
        with pytest.raises(CheckpointRefusedError):
            one.sign_handover(replace(last, last_round=8))
        with pytest.raises(CheckpointRefusedError):
            one.sign_handover(replace(last, root=bytes(32)))
        with pytest.raises(CheckpointRefusedError, match="checkpoint of epoch 0"):
            one.sign_handover(replace(last, epoch=0))
    with pytest.raises(CheckpointRefusedError):
        next(iter(world.nodes.values())).node.sign_handover(last)


@pytest.mark.slow
def test_a_dead_member_drops_out_and_the_others_go_on_though_one_of_them_lost_its_share() -> None:
    world = World(5, epoch_rounds=5, absent=frozenset({2}))
    for number in range(4):
        world.play(number)
    world.play(4, lambda _: world.disks[0, 0].shares.clear())  # type: ignore[attr-defined]
    for number in range(5, 7):
        world.play(number)
    assert {node.epoch for node in world.nodes.values()} == {1}
    assert world.walk(0) == [5, 4]
    assert [node.node.context.round.beacon.share is None for node in world.nodes.values()] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.slow
def test_a_next_set_smaller_than_the_present_quorum_ends_the_epoch_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five members, one dead, one whose verdict misses its window: three first keys, where four make a quorum now."""
    say, slow = change_module._say, bytes(PEOPLE[3].voting.public_key())

    def late(context: Any, state: Any, step: str, make: Any) -> Any:
        return (state, ()) if step == "verdict" and context.voting_bytes == slow else say(context, state, step, make)

    monkeypatch.setattr(change_module, "_say", late)
    world = World(5, epoch_rounds=5, absent=frozenset({2}))
    for number in range(6):
        world.play(number)
    assert {node.epoch for node in world.nodes.values()} == {1}


def test_the_last_round_closes_after_the_handover_and_its_header_is_the_next_sets() -> None:
    world, seen = World(4, epoch_rounds=5), set[str]()

    def look(delivery: Delivery) -> None:
        node = world.nodes[delivery.participant].node
        state, change, context = node.state, node.state.change, node.context
        message = delivery.message.message if isinstance(delivery.message, EpochMessage) else None
        if change is None or context.round.epoch:
            return
        known = len(state.round.announcements) >= context.round.epoch_set.quorum
        if known and change.change.due is not None and change.change.handover is None and "close" not in seen:
            seen.add("close")
            late = world.network.now_ms + 60_000
            application = context.ordering(state, late).application
            handover = application.next_payload(())
            assert handover == encode_epoch_record(change.change.due)
            close = application.next_payload((handover,))
            assert close is not None
            assert close[:1] == b"C"
            assert not application.accepts((), close)
            assert application.accepts((), handover)
            assert application.accepts((handover,), close)
            assert not application.accepts((handover, close), handover)
        final = state.round.close
        if isinstance(message, HeaderProposal) and message.header.round == 4 and final and not state.round.over:
            seen.add("header")
            check_proposal(context.round, state.round, final, message)
            header, opened = message.header, state.round.opened
            assert opened is not None
            assert header.announcements == opened.keys
            olds = tuple(state.round.announcements.values())
            for field, value in (("announcements", olds), ("announcements", opened.keys[1:]), ("seats", (0,) * SEATS)):
                wrong = replace(message, header=replace(header, **{field: value}))
                with pytest.raises(ProposalRefusedError) as refusal:
                    check_proposal(context.round, state.round, final, wrong)
                assert refusal.value.values["field"] == field
            old = replace(state.round, opened=None, foreseen=None, own=None)
            with pytest.raises(ProposalRefusedError):
                check_proposal(context.round, old, final, message)

    for number in range(4):
        world.play(number, look)
    early = _reports_before_their_epoch(world)

    def both(delivery: Delivery) -> None:
        look(delivery)
        early(delivery)

    world.play(4, both)
    assert seen == {"close", "header"}
    # an epoch that is over takes nothing more into its last round, and still gives others what they lack
    ended = next(node.nodes[0] for node in world.nodes.values() if len(node.nodes) > 1)
    assert ended.state.round.over
    assert ended.state.round.close is not None
    assert ended.context.ordering(ended.state, 10**9).application.next_payload(()) is None
    other = (ended.index + 1) % 4
    report = ended.state.round.close.reports[0]
    _, given = round_step(ended.context.round, ended.state.round, ReportRequest(4, other, (report,)), 0, other)
    assert [type(effect) for effect in given] == [RoundSend]
    reply = next(effect.message for effect in given if isinstance(effect, RoundSend))
    _, refused = round_step(ended.context.round, ended.state.round, reply, 0, other)
    assert [type(effect.reason) for effect in refused if isinstance(effect, Refused)] == [WrongRoundError]


def _reports_before_their_epoch(world: World) -> Callable[[Delivery], None]:
    """Return a watcher that sends reports for a round of an epoch that has not begun: one a trainer waits."""
    done = [False]

    def send(delivery: Delivery) -> None:
        node = world.nodes[delivery.participant]
        if done[0] or node.node.state.round.opened is None or node.epoch:
            return
        done[0] = True
        terms = replace(node.node.state.round.terms, round=5)
        own, other = committee().trainers[:2]
        first, second = (make_upload(terms, own, update_of(0), RANDOM.split(f"early {i}")) for i in range(2))
        stranger = make_upload(terms, committee().trainers[TRAINERS], update_of(0), RANDOM.split("stranger"))
        forged = replace(first, report=replace(first.report, trainer=other.address))
        unsigned = replace(first, report=replace(first.report, signature=b"\xff" * 65))
        stripped = replace(first, boxes=(None,) * SEATS)
        spoilt = replace(first, boxes=tuple(b"spoilt" for _ in first.boxes))
        for upload in (stranger, forged, unsigned, spoilt, stripped, first, stripped, second):
            assert not node.handle(upload, world.network.now_ms)
        (kept,) = node.early.values()
        assert (kept.report, kept.boxes) == (first.report, first.boxes)
        (written,) = (item for item in node.node.journal.read().uploads if item.round == 5)
        assert (written.upload.report, written.upload.boxes) == (first.report, first.boxes)
        message = EpochMessage(1, Tick())
        for _ in range(AHEAD_EACH_MAX + 1):
            node.handle(message, world.network.now_ms, 3)
        assert sum(sender == 3 for sender, _ in node.ahead) == AHEAD_EACH_MAX
        assert not node.handle(EpochMessage(2, Tick()), world.network.now_ms, 3)
        large = EpochMessage(1, Relay(2, bytes(AHEAD_BYTES_EACH_MAX // 3)))
        for _ in range(3):
            node.handle(large, world.network.now_ms, 2)
        assert sum(sender == 2 for sender, _ in node.ahead) == 2, "bounded in bytes, too"
        node.ahead.clear()
        node.early.clear()
        node.node.journal.forget_round(5)

    return send


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=5)
def test_a_member_killed_in_any_window_comes_back_and_hands_over(seed: int, tmp_path: Path) -> None:
    """Four members, one of which loses everything but its disk in the middle of a window, and misses what is said."""
    world, seen, killed_in = World(4, epoch_rounds=5, folder=tmp_path), [0], (seed + 1) % 5

    def strike(delivery: Delivery) -> None:
        seen[0] += 1
        if seen[0] == 60:
            world.kill(1)
        if seen[0] == 120:
            world.bring_back(1)

    for number in range(killed_in):
        world.play(number)
    world.play(killed_in, strike)
    if 1 not in world.nodes:
        world.bring_back(1)
    for number in range(killed_in + 1, 7):
        world.play(number)
    noted = [note for node in world.nodes.values() for one in node.nodes for note in one.notes]
    assert not any(isinstance(note, ChangePutOff) for note in noted)
    assert {node.epoch for node in world.nodes.values()} == {1}
    assert world.walk(1) == [4, 4]
    quiet(world)


def test_messages_of_the_next_epoch_are_bounded_for_all_members_together_and_each_has_its_part() -> None:
    world = World(7, epoch_rounds=5, absent=frozenset(range(1, 7)))
    node, large = world.nodes[0], EpochMessage(1, Relay(1, bytes(6 << 20)))
    for member in range(1, 7):
        for _ in range(5):
            assert not node.handle(large, world.network.now_ms, member)
    assert Counter(member for member, _ in node.ahead) == dict.fromkeys(range(1, 7), 3)
    assert sum(bytes_in(message) for _, message in node.ahead) <= AHEAD_BYTES_MAX


def test_one_candidates_offers_take_no_place_from_anothers() -> None:
    """One record of a candidate waits at a time, which it brings itself; what nobody may order now takes no place."""
    world = World(7, epoch_rounds=5, absent=frozenset(range(1, 7)))
    node, now = world.nodes[0].node, world.network.now_ms
    state = node.state.change
    assert state is not None
    assert state.change.seed is not None

    def ticket(who: int, deal_key: int = 0) -> bytes:
        change = world.context(who).change
        assert change is not None
        return encode_epoch_record(
            change_module._ticket(change, state.change, state.change.seed, bytes([deal_key]) * 32)
        )

    def waiting() -> set[bytes]:
        return {relay.payload for relay in node.state.replica.pool if relay.member == 0}

    def offer(who: int, payload: bytes) -> bool:
        assert not node.offer(payload, world.accounts[who], now)
        return payload in waiting()

    own = waiting()
    (said,) = own
    stale = Relay(0, encode_epoch_record(replace(decode_epoch_record(ticket(6)), start=1)))
    node.handle(stale, now, 0)
    assert offer(1, ticket(1, 1))
    assert [offer(1, ticket(1, i)) for i in range(2, 5)] == [False] * 3, "a second one of the same candidate"
    assert not offer(1, ticket(2)), "another's"
    assert not offer(1, b"T" + bytes(200))
    assert [offer(who, ticket(who)) for who in range(2, 6)] == [True, True, True, False], "of four candidates at once"
    assert own | {stale.payload, ticket(1, 1), ticket(2), ticket(3), ticket(4)} == waiting()
    # once one of them is ordered there is room again, before a tick has looked at what waits
    ordered, _ = change_step(node.context.change, state, OrderedPayload(ticket(2)))  # type: ignore[arg-type]
    node.state = replace(node.state, change=ordered)
    assert not offer(2, ticket(2, 9)), "ordered already"
    assert offer(5, ticket(5))
    assert said in waiting()


def test_who_has_a_place_orders_itself_what_it_says_in_the_change() -> None:
    world = World(4, epoch_rounds=5, absent=frozenset({1, 2, 3}))
    node = world.nodes[0]
    person, state, before = world.context(3).change, node.node.state.change, node.node.state.replica.pool
    assert person is not None
    assert state is not None
    assert state.change.seed is not None
    payload = encode_epoch_record(change_module._ticket(person, state.change, state.change.seed, bytes(32)))
    assert not node.handle(EpochMessage(0, ChangeOffer(payload)), world.network.now_ms, 3)
    assert node.node.state.replica.pool == before
    node.node.offer(payload, world.accounts[3], world.network.now_ms)
    assert [relay.payload for relay in node.node.state.replica.pool] == [*(r.payload for r in before), payload]


@pytest.mark.parametrize("handed", [True, False])
def test_a_round_that_is_behind_keeps_the_handovers_key_for_the_next_and_makes_one_of_its_own_without(
    handed: bool,
) -> None:
    """Its model comes after the handover is final: what it would announce then, nobody seals to."""
    who, context, journal = committee(), context_of(0, TRAINERS), MemoryJournal()
    first = SealKey.generate(RANDOM.split("the handover's key"))
    opened = NextEpoch(replace(who.epoch_set, epoch=1), bytes(32), who.beacons[0].group, 1, ())
    state, _ = begin_behind(context, who.terms, {0: who.first_seals[0]}, 0)
    told = [HandedOver(opened, 0, None, first)] if handed else []
    validator, effects = _heed_change(ValidatorState(None, state), told)  # type: ignore[arg-type]
    state, more = round_step(context, validator.round, RoundAlarm(0), 10_000)
    journal.write([effect for effect in (*effects, *more) if isinstance(effect, KeepSecret)])
    announced = [e.message for e in more if isinstance(e, RoundBroadcast) and isinstance(e.message, Announcement)]
    assert len(announced) == (not handed)
    kept = journal.read().secrets[1]
    assert state.secrets[1].secret == kept.secret
    box = seal(first.public_bytes, b"columns", b"of the first round")
    if handed:
        assert open_sealed(kept, b"columns", box) == b"of the first round"
    else:
        with pytest.raises(SealError):
            open_sealed(kept, b"columns", box)


@pytest.mark.parametrize("first_round", [1, 2])
@pytest.mark.parametrize("model", [b"the model", None])
def test_only_the_round_before_the_next_epochs_first_one_ends_the_epoch(first_round: int, model: bytes | None) -> None:
    """The handover is ordered in the last round, and is final here while the header of the round before still waits."""
    who, context = committee(), context_of(0, TRAINERS)
    state, _ = begin_behind(context, who.terms, {0: who.first_seals[0]}, 0)
    opened = NextEpoch(replace(who.epoch_set, epoch=1), bytes(32), who.beacons[0].group, first_round, ())
    header = replace(a_header(0), seats=(0,) * SEATS)
    after, effects = _enter_next(context, replace(state, opened=opened), header, model, 0)
    assert [effect for effect in effects if isinstance(effect, RoundBroadcast)] == [], (
        "no key for the next epoch's round"
    )
    ended = [effect for effect in effects if isinstance(effect, EpochOver)]
    if first_round == 1:
        assert (after.over, [over.model for over in ended]) == (True, [model])
    else:
        assert (after.over, ended, after.terms.round, after.opened) == (False, [], 1, opened)


def test_a_first_key_leaves_the_journal_of_the_epoch_before_once_the_next_ones_has_it() -> None:
    class Full(MemoryJournal):
        def write(self, effects: object) -> None:
            raise JournalWriteError("the disk is full")

    def node_in(number: int, journal: MemoryJournal) -> ValidatorNode:
        state, _ = begin_behind(context, replace(committee().terms, round=number), {}, 0)
        return ValidatorNode(validator, ValidatorState(None, state), journal)  # type: ignore[arg-type]

    context, ended, key = context_of(0, TRAINERS), MemoryJournal(), SealKey.generate(RANDOM.split("handed on"))
    validator = ValidatorContext(context, *[None] * 4)  # type: ignore[arg-type]
    ended.write([KeepSecret(5, key), KeepSecret(6, key)])
    with pytest.raises(JournalWriteError):
        _hand_on(5, ended, node_in(5, Full()))
    assert set(ended.read().secrets) == {5, 6}
    entered = MemoryJournal()
    for _ in range(2):
        _hand_on(5, ended, node_in(5, entered))
        assert (set(ended.read().secrets), entered.read().secrets) == ({6}, {5: key})
    later = MemoryJournal()
    _hand_on(6, ended, node_in(7, later))  # that round is over
    assert (ended.read().secrets, later.read().secrets) == ({}, {})


def test_a_validator_signs_checkpoints_of_its_own_task_and_epoch_only() -> None:
    context, state = context_of(0, TRAINERS), begin_behind(context_of(0, TRAINERS), committee().terms, {}, 0)[0]
    validator = ValidatorContext(context, *[None] * 4)  # type: ignore[arg-type]
    node = ValidatorNode(validator, ValidatorState(None, state), MemoryJournal())  # type: ignore[arg-type]
    node.headers = [a_header(number) for number in range(3)]
    root = header_root([header.digest for header in node.headers])
    good = Checkpoint(context.epoch_set.task, 0, 0, 2, NO_CHECKPOINT, root)
    key = BlsPublicKey(context.epoch_set.validators[0].bls_key)
    verify_aggregate([key], good.digest, node.sign_checkpoint(good))
    later = replace(good, first_round=1, previous=bytes([1] * 32))
    later = replace(later, root=header_root([header.digest for header in node.headers[1:]]))
    verify_aggregate([key], later.digest, node.sign_checkpoint(later))
    for changes, said in (
        ({"task": bytes(32)}, "of task 0000"),
        ({"epoch": 1}, "of epoch 1"),
        ({"previous": bytes([1] * 32)}, "names one before it"),
        ({"root": bytes(32)}, "differs"),
        ({"last_round": 3}, "differs"),
    ):
        with pytest.raises(CheckpointRefusedError, match=said):
            node.sign_checkpoint(replace(good, **changes))
    with pytest.raises(CheckpointRefusedError, match="does not end a finished epoch"):
        node.sign_handover(good)


def a_header(number: int) -> Header:
    return Header(
        task=TASK,
        round=number,
        level="unproved",
        previous=bytes(32),
        close=bytes(32),
        outcome="skipped",
        key_sums=(),
        total=bytes(32),
        model=bytes(32),
        lying=(),
        beacon=bytes(32),
        seats=(),
        announcements=(),
    )
