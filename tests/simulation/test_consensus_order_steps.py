"""One behaviour of a replica each, on a stage where the test carries every message."""

from dataclasses import replace

import pytest

from collegium.consensus import (
    Block,
    BlockEquivocation,
    BlockRequest,
    BlockResponse,
    Broadcast,
    Committed,
    ConflictingMessageError,
    FinalBlock,
    ForgedSignatureError,
    MalformedMessageError,
    NotAddressedError,
    OutOfWindowError,
    Persist,
    Relay,
    Send,
    SetTimer,
    Store,
    Submit,
    Tick,
    Timeout,
    Timer,
    UnknownValidatorError,
    ViewEntry,
    Vote,
    VoteEquivocation,
    WrongLeaderError,
    initial_state,
    restore,
    step,
    verify_evidence,
)
from collegium.consensus._order_state import RELAYED_PER_MEMBER_MAX, VIEWS_AHEAD_MAX
from collegium.node._world_order import (
    TIMEOUT_BASE_MS,
    HashSigner,
    Wishes,
    signed_block,
    signed_timeout,
    signed_vote,
)
from collegium.node._world_stage import Stage, only


def effects_of(stage: Stage, seat: int, message: object) -> tuple:
    """The bare effects of one step; the stage's own state moves on too."""
    host = stage.hosts[seat]
    host.state, effects = step(host.context, host.state, message, stage.now)
    return effects


def first_block(stage: Stage) -> tuple[Block, list[Vote]]:
    (block,) = only(Block, said := stage.give(1, Tick()))
    return block, only(Vote, said)


# ------------------------------------------------------------------------------------------------ order of effects


def test_blocks_and_vote_state_are_durable_before_anything_is_sent():
    stage = Stage(villain=0)
    effects = effects_of(stage, 1, Tick())
    kinds = [type(effect) for effect in effects]
    assert kinds[:2] == [Store, Persist]
    assert kinds.count(Persist) == 1
    kept = effects[1].vote_state
    assert (kept.voted_view, kept.proposed_view, kept.timeout_view) == (1, 1, 0)


def test_a_step_changes_no_value_it_was_given():
    stage = Stage(villain=0)
    host = stage.hosts[1]
    before = initial_state(host.context)
    assert step(host.context, before, Tick(), 0) == step(host.context, before, Tick(), 0)
    assert before == initial_state(host.context)


# ------------------------------------------------------------------------------------------------------------ rest


def test_a_committee_with_nothing_to_order_is_silent():
    stage = Stage(villain=0, wishes=0)
    for seat in stage.hosts:
        assert not only(Block, stage.give(seat, Tick()))
        assert stage.hosts[seat].state.deadline_ms is None
        assert stage.give(seat, Timer(1)) == []


def test_a_submitted_payload_reaches_the_leader_and_starts_every_clock():
    stage = Stage(villain=0, wishes=0)
    (relay,) = stage.give(3, Submit(b"pay for it"))
    assert relay == Relay(3, b"pay for it")
    assert stage.hosts[3].state.deadline_ms == TIMEOUT_BASE_MS
    (block,) = only(Block, stage.give(1, relay))
    assert block.payload == b"pay for it"
    assert only(Block, stage.give(2, relay)) == []


def test_a_payload_nobody_accepts_starts_no_clock():
    stage = Stage(villain=0, wishes=0)
    stage.give(3, Submit(b"not acceptable"))
    assert stage.hosts[3].state.deadline_ms is None
    stage.give(3, Tick())
    assert stage.hosts[3].state.pool == ()


# ------------------------------------------------------------------------------------------------------------ votes


def test_bad_votes_are_isolated_and_good_ones_still_certify():
    stage = Stage(villain=0)
    block, votes = first_block(stage)
    votes += only(Vote, stage.give(3, block))
    stage.give(2, block)
    bad = replace(stage.vote(block), signature=bytes(48))
    assert only(Block, stage.give(2, bad, votes[0])) == []
    assert 0 not in stage.hosts[2].state.votes[1]
    (second,) = only(Block, stage.give(2, votes[1]))
    assert second.parent == block.digest


def test_a_second_vote_of_a_view_is_evidence_that_verifies():
    stage = Stage(villain=0)
    block, _ = first_block(stage)
    other = signed_block(stage.epoch_set, 1, 1, stage.genesis_entry, b"pay other")
    stage.give(2, stage.vote(block), stage.vote(other), stage.vote(other))
    (evidence,) = stage.evidence
    assert isinstance(evidence, VoteEquivocation)
    assert verify_evidence(stage.epoch_set, evidence, stage.hosts[2].context.verifier) == 0
    assert isinstance(stage.ignored[-1], ConflictingMessageError)


def test_a_forged_first_vote_does_not_shut_out_the_real_one():
    stage = Stage(villain=0)
    block, _ = first_block(stage)
    forged = replace(signed_vote(stage.epoch_set, block, 3), signature=bytes(48))
    (real,) = only(Vote, stage.give(3, block))
    stage.give(2, forged, real)
    assert stage.hosts[2].state.votes[1][3] == real
    assert stage.evidence == []


def test_votes_out_of_place_are_refused_by_name():
    stage = Stage(villain=0)
    block, votes = first_block(stage)
    far = signed_block(stage.epoch_set, 4 * VIEWS_AHEAD_MAX + 1, 1, ViewEntry(block.parent_certificate, None))
    outsider = replace(stage.vote(block), voter=4)
    for seat, vote, error in (
        (3, votes[0], NotAddressedError),
        (2, signed_vote(stage.epoch_set, far, 3), OutOfWindowError),
        (2, outsider, UnknownValidatorError),
    ):
        stage.give(seat, vote)
        assert isinstance(stage.ignored[-1], error)
    assert stage.hosts[2].state.votes == {}


# --------------------------------------------------------------------------------------------------- certificates


def test_a_vote_goes_to_the_leaders_of_its_view_and_of_the_next():
    stage = Stage(villain=0)
    block = next(e.message for e in effects_of(stage, 1, Tick()) if isinstance(e, Broadcast))
    for seat, addressed in ((2, [1]), (3, [2, 1])):
        sent = [e for e in effects_of(stage, seat, block) if isinstance(e, Send)]
        assert sent == [Send(to, signed_vote(stage.epoch_set, block, seat)) for to in addressed]
    assert {seat: len(stage.hosts[seat].state.votes) for seat in (1, 2, 3)} == {1: 1, 2: 1, 3: 0}


def test_a_leader_tells_once_that_its_block_is_certified():
    stage = Stage(villain=0)
    block, _ = first_block(stage)
    *votes, late = (signed_vote(stage.epoch_set, block, seat) for seat in (2, 3, 0))
    assert stage.give(1, votes[0]) == []
    (told,) = stage.give(1, votes[1])
    assert told == ViewEntry(told.high_certificate, None)
    assert told.high_certificate.block == block.digest
    assert stage.give(1, late) == []


def test_a_leader_that_heard_of_a_certificate_makes_no_other():
    stage = Stage(villain=0)
    block, votes = first_block(stage)
    votes += [*only(Vote, stage.give(3, block)), signed_vote(stage.epoch_set, block, 2)]
    stage.give(2, block)
    said = stage.give(2, *votes)
    (second,) = only(Block, said)
    assert only(ViewEntry, said) == [], "the block carries the certificate"
    stage.give(1, second)
    assert only(ViewEntry, stage.give(1, *votes)) == []


@pytest.mark.parametrize("collected", [True, False], ids=["votes reach their own leader", "votes are lost"])
def test_a_dead_successor_costs_one_view_and_not_two(collected):
    stage = Stage(villain=2)
    block, _ = first_block(stage)
    votes = [vote for seat in (3, 0) for vote in only(Vote, stage.give(seat, block))]
    for told in only(ViewEntry, stage.give(1, *votes)) if collected else []:
        stage.give(3, told)
        stage.give(0, told)
    proposed: list[Block] = []
    while not proposed:
        timeouts = stage.expire(0, 1, 3)
        proposed = only(Block, [said for seat in (0, 1, 3) for said in stage.give(seat, *timeouts)])
    (third,) = proposed
    assert third.view == 3
    assert (third.parent == block.digest) == collected
    assert stage.now == (1 if collected else 1 + 2) * TIMEOUT_BASE_MS


@pytest.mark.parametrize("collected", [True, False], ids=["votes reach their own leader", "votes are lost"])
def test_two_good_leaders_in_a_row_make_a_block_final(collected):
    stage = Stage(villain=3)
    first, votes = first_block(stage)
    votes += only(Vote, stage.give(0, first))
    stage.give(2, first)
    (second,) = only(Block, stage.give(2, *votes))
    votes = [vote for seat in (0, 1) for vote in only(Vote, stage.give(seat, second))]
    for told in only(ViewEntry, stage.give(2, *votes)) if collected else []:
        stage.give(0, told)
        stage.give(1, told)
    assert [stage.order(seat) for seat in (0, 1, 2)] == [[first.digest] if collected else []] * 3


# ----------------------------------------------------------------------------------------------------------- blocks


def test_a_second_block_of_a_view_is_evidence_and_gets_no_vote():
    stage = Stage(villain=1)
    one, other = stage.block(1, stage.genesis_entry, b"pay one"), stage.block(1, stage.genesis_entry, b"pay other")
    assert len(only(Vote, stage.give(3, one))) == 1
    assert stage.give(3, other) == []
    (evidence,) = stage.evidence
    assert isinstance(evidence, BlockEquivocation)
    assert verify_evidence(stage.epoch_set, evidence, stage.hosts[3].context.verifier) == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"author": 2}, WrongLeaderError),
        ({"signature": bytes(65)}, ForgedSignatureError),
    ],
)
def test_a_block_that_is_not_its_leaders_gets_no_vote(change, error):
    stage = Stage(villain=1)
    block = stage.block(1, stage.genesis_entry, b"pay one")
    assert stage.give(3, replace(block, **change)) == []
    assert isinstance(stage.ignored[-1], error)
    assert len(only(Vote, stage.give(3, block))) == 1


def test_a_payload_the_application_refuses_gets_no_vote():
    stage = Stage(villain=1)
    assert only(Vote, stage.give(3, stage.block(1, stage.genesis_entry, b"junk"))) == []


def test_nobody_votes_twice_for_the_same_block():
    stage = Stage(villain=1)
    block = stage.block(1, stage.genesis_entry, b"pay one")
    assert len(only(Vote, stage.give(3, block, block))) == 1


# ------------------------------------------------------------------------------------------------------------ views


def test_a_silent_leader_is_left_behind_and_the_clock_doubles():
    stage = Stage(villain=1, wishes=1)
    for seat in stage.hosts:
        stage.give(seat, Tick())
    timeouts = stage.expire(0, 2, 3)
    assert stage.now == TIMEOUT_BASE_MS
    for seat in stage.hosts:
        said = stage.give(seat, *timeouts)
        assert stage.hosts[seat].state.view == 2
        assert stage.hosts[seat].state.deadline_ms == stage.now + 2 * TIMEOUT_BASE_MS
        assert len(only(Block, said)) == (seat == 2)


def test_one_honest_timeout_beyond_the_faulty_brings_everybody_along():
    stage = Stage(villain=0, wishes=0)
    t0 = stage.timeout(1, stage.genesis_entry)
    t3 = signed_timeout(stage.epoch_set, 1, 3, stage.genesis_entry)
    assert stage.give(2, t0) == []
    (mine,) = only(Timeout, stage.give(2, t3))
    assert mine.author == 2


def test_a_timeout_is_said_again_in_the_same_words_even_after_a_crash():
    stage = Stage(villain=1)
    stage.give(3, Tick())
    (first,) = stage.expire(3)
    (again,) = stage.expire(3)
    stage.crash(3)
    (after_crash,) = stage.expire(3)
    assert first == again == after_crash


def test_no_vote_in_a_view_that_was_given_up():
    stage = Stage(villain=1)
    stage.give(3, Tick())
    stage.expire(3)
    assert only(Vote, stage.give(3, stage.block(1, stage.genesis_entry, b"pay late"))) == []


def test_who_times_out_in_an_old_view_is_told_of_the_new_one():
    stage = Stage(villain=0)
    block, votes = first_block(stage)
    stage.give(2, block, *votes, *only(Vote, stage.give(3, block)), stage.vote(block))
    (told,) = only(ViewEntry, stage.give(2, signed_timeout(stage.epoch_set, 1, 3, stage.genesis_entry)))
    assert told.view == 2
    stage.give(3, told)
    assert stage.hosts[3].state.view == 2


def test_alarms_that_are_early_late_or_of_another_view_do_nothing():
    stage = Stage(villain=1)
    effects = effects_of(stage, 3, Tick())
    (alarm,) = [e for e in effects if isinstance(e, SetTimer)]
    assert effects_of(stage, 3, Timer(1)) == (alarm,)
    stage.now = alarm.at_ms
    assert only(Timeout, stage.give(3, Timer(2))) == []
    assert len(only(Timeout, stage.give(3, Timer(1)))) == 1


# ------------------------------------------------------------------------------------------------- catching up


def chain_by_hand(stage: Stage, views: int, gap: int = 1) -> list[Block]:
    """Blocks of views 1, 1 + gap, ..., each certified by all; where there is a gap, given up by all."""
    everybody = range(stage.epoch_set.size)
    blocks: list[Block] = []
    certificate = stage.genesis_entry.high_certificate
    for view in range(1, 1 + views * gap, gap):
        timeouts = None
        if view != certificate.view + 1:
            entry = ViewEntry(certificate, None)
            shown = [signed_timeout(stage.epoch_set, view - 1, seat, entry) for seat in everybody]
            timeouts = stage.timeout_certificate(shown)
        author = stage.epoch_set.leader(view)
        block = signed_block(stage.epoch_set, view, author, ViewEntry(certificate, timeouts), b"pay %d" % view)
        certificate = stage.certificate([signed_vote(stage.epoch_set, block, seat) for seat in everybody])
        blocks.append(block)
    stage.tip = ViewEntry(certificate, None)
    return blocks


@pytest.mark.parametrize("gap", [1, 2], ids=["committed blocks", "certified blocks that wait for a commit"])
def test_a_straggler_fetches_a_chain_longer_than_one_response(gap):
    stage = Stage(villain=0, wishes=0)
    blocks = chain_by_hand(stage, 50, gap)
    stage.give(1, *blocks, stage.tip)
    assert stage.hosts[1].state.high_block_known
    assert len(stage.order(1)) == (49 if gap == 1 else 0)
    stage.give(2, stage.tip)
    assert stage.hosts[2].state.high_block_known
    assert stage.order(2) == stage.order(1)


def test_responses_carry_certified_blocks_or_nothing():
    stage = Stage(villain=0, wishes=0)
    blocks = chain_by_hand(stage, 3)
    stage.give(1, BlockResponse(tuple(blocks)))
    assert set(stage.hosts[1].state.blocks) | set(stage.order(1)) == {blocks[0].digest, blocks[1].digest}
    loose = Stage(villain=0, wishes=0)
    loose.give(1, BlockResponse(tuple(blocks[1:])))
    assert isinstance(loose.ignored[-1], OutOfWindowError)
    assert loose.hosts[1].state.blocks == {}


def test_an_answer_is_bounded_and_starts_after_what_is_known():
    stage = Stage(villain=0, wishes=0)
    blocks = chain_by_hand(stage, 40)
    stage.give(1, *blocks, stage.tip)
    (response,) = only(BlockResponse, stage.give(1, BlockRequest(2, blocks[4].digest, blocks[-1].digest)))
    assert list(response.blocks) == blocks[5:21]
    assert only(BlockResponse, stage.give(1, BlockRequest(2, bytes(32), bytes(32)))) == []
    assert stage.give(1, BlockRequest(1, blocks[4].digest, blocks[-1].digest)) == []
    stage.give(1, BlockRequest(9, blocks[4].digest, blocks[-1].digest))
    assert isinstance(stage.ignored[-1], UnknownValidatorError)


def test_who_was_cut_off_while_all_came_to_rest_hears_of_it_at_the_next_tick():
    stage = Stage(villain=0, wishes=0)
    blocks = chain_by_hand(stage, 5)
    for seat in (1, 2):
        stage.give(seat, *blocks, stage.tip)
    request = next(e.message for e in effects_of(stage, 3, Tick()) if isinstance(e, Send))
    stage.give(3, *stage.give(2, request))
    assert stage.order(3) == stage.order(1) != []


# ------------------------------------------------------------------------------------------------ memory and crashes


def test_a_member_has_a_few_places_in_the_pool_and_uses_only_its_own():
    stage = Stage(villain=0, wishes=0)
    stage.give(2, Relay(3, b"pay by 3"), *(Relay(0, b"pay %d" % i) for i in range(50)))
    pool = stage.hosts[2].state.pool
    assert [relay.member for relay in pool].count(0) == RELAYED_PER_MEMBER_MAX
    assert pool[0] == Relay(3, b"pay by 3")
    stage.give(2, Relay(7, b"pay by nobody"))
    assert isinstance(stage.ignored[-1], UnknownValidatorError)


def test_an_empty_submission_is_refused():
    stage = Stage(villain=0, wishes=0)
    assert stage.give(2, Submit(b"")) == []
    assert isinstance(stage.ignored[-1], MalformedMessageError)


def test_restore_takes_up_the_blocks_and_repeats_a_commit_that_was_lost():
    stage = Stage(villain=0, wishes=0)
    host = stage.hosts[3]
    blocks = chain_by_hand(stage, 4)
    stage.give(3, *blocks, stage.tip)
    again = restore(host.context, host.disk.vote_state, None, host.disk.blocks.values())
    assert (again.final, len(again.blocks)) == (FinalBlock(host.context.genesis, 0), 4)
    _, effects = step(host.context, again, Tick(), 0)
    assert [e.block for e in effects if isinstance(e, Committed)] == blocks[:3]
    assert restore(host.context, None, None, ()) == initial_state(host.context)


def test_memory_does_not_grow_with_the_length_of_the_order():
    stage = Stage(villain=0, wishes=0)
    blocks = chain_by_hand(stage, 300)
    stage.give(2, *blocks, stage.tip)
    state = stage.hosts[2].state
    assert len(stage.order(2)) == 299
    assert len(state.blocks) == 1
    assert len(state.headers) <= 70


def test_a_wish_whose_view_ran_out_is_handed_to_the_next_leader():
    """Without this it would wait until its author leads again."""
    stage = Stage(villain=2, wishes=0)
    stage.hosts[1].context = replace(stage.hosts[1].context, application=Wishes("1", 1))
    (block,) = only(Block, stage.give(1, Tick()))
    handed = []
    for view in (1, 2):
        stage.now = stage.hosts[1].state.deadline_ms
        handed += [e for e in effects_of(stage, 1, Timer(view)) if isinstance(e, Send)]
        stage.give(
            1, *(signed_timeout(stage.epoch_set, view, seat, stage.hosts[1].state.vote_state.entry) for seat in (3, 0))
        )
    assert handed == [Send(2, Relay(1, block.payload)), Send(3, Relay(1, block.payload))]


def test_hash_keys_are_told_apart():
    assert HashSigner(0).sign_vote(bytes(32)) != HashSigner(1).sign_vote(bytes(32))
