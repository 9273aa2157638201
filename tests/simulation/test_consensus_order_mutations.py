"""Five classic ways to break the protocol, and for each a directed schedule that turns the break into a fork.

Random schedules find some of these in thousands of runs and one of them never, so every scenario is played by hand:
once with the protocol as it is (no fork), once with one rule broken (fork). The villain signs only with its own key.
"""

from dataclasses import replace

import pytest

from collegium.consensus import BadViewEntryError, Ballot, Block, Tick, ViewEntry, Vote
from collegium.consensus import _order_validity as validity
from collegium.consensus import _ordering as ordering
from collegium.node._world_order import signed_block, signed_timeout, signed_vote
from collegium.node._world_stage import Stage, only

# ----------------------------------------------------------------------------------------------------- the schedules


def fork_after_commit(block_before_timeout: bool) -> Stage:
    """Validator 3 learns that view 2's block is final; the villain then leads 1 and 2 past it from view 1's block.

    In view 3, validators 1 and 2 get the block that carries the certificate of view 2 either before or after they
    give the view up.
    """
    stage = Stage(villain=0)
    (b1,) = only(Block, said := stage.give(1, Tick()))
    votes = only(Vote, said) + only(Vote, stage.give(3, b1))
    stage.give(2, b1)
    (b2,) = only(Block, said := stage.give(2, *votes))
    votes = only(Vote, said) + only(Vote, stage.give(1, b2)) + only(Vote, stage.give(3, b2))
    entry_1 = ViewEntry(b2.parent_certificate, None)
    # View 2 times out for 1 and 2 before its certificate exists.
    t1, t2 = stage.expire(1, 2)
    villains = stage.timeout(2, entry_1)
    stage.give(1, t2, villains)
    stage.give(2, t1, villains)
    timeouts_2 = stage.timeout_certificate([t1, t2, villains])
    # 3 certifies view 2's block and leads view 3.
    (b3,) = only(Block, said := stage.give(3, *votes))
    votes = only(Vote, said)
    if block_before_timeout:
        votes += only(Vote, stage.give(1, b3)) + only(Vote, stage.give(2, b3))
        timeouts = stage.expire(1, 2)
    else:
        timeouts = stage.expire(1, 2)
        votes += only(Vote, stage.give(1, b3)) + only(Vote, stage.give(2, b3))
    if len(votes) == 3:  # view 3's certificate, shown to 3 alone: it commits view 2's block
        stage.give(3, ViewEntry(stage.certificate(votes), None))
    # The villain leads view 4 from view 1's certificate.
    timeouts.append(stage.timeout(3, ViewEntry(entry_1.high_certificate, timeouts_2)))
    b4 = stage.block(4, ViewEntry(entry_1.high_certificate, stage.timeout_certificate(timeouts)), b"pay fork")
    stage.give(1, b4)
    said = stage.give(1, *only(Vote, stage.give(2, b4)), stage.vote(b4))
    for b5 in only(Block, said):
        votes = [m for m in only(Vote, said) if m.view == 5]
        stage.give(2, b5)
        stage.give(2, *votes, stage.vote(b5))
    return stage


def two_certificates_of_one_view(forget) -> Stage:
    """The villain proposes twice in view 1; validator 3 votes, crashes, and is asked again."""
    stage = Stage(villain=1)
    one, other = stage.block(1, stage.genesis_entry, b"pay one"), stage.block(1, stage.genesis_entry, b"pay other")
    votes = only(Vote, stage.give(3, one))
    stage.give(2, one)
    (b2,) = only(Block, said := stage.give(2, *votes, stage.vote(one)))
    votes_2 = only(Vote, said)
    stage.crash(3, forget)
    votes = only(Vote, stage.give(0, other)) + only(Vote, stage.give(3, other)) + [stage.vote(other)]
    if len(votes) < 3:
        return stage
    certificate = stage.certificate(votes)
    stage.give(0, ViewEntry(certificate, None))
    # 3 makes the first block of view 1 final.
    stage.give(3, b2)
    stage.give(3, *votes_2, stage.vote(b2))
    # 0, 2 and the villain leave views 2, 3 and 4; nobody among them knows the certificate of view 2.
    entry = ViewEntry(certificate, None)
    for view in (2, 3, 4):
        t0, t2 = stage.expire(0, 2)
        villains = stage.timeout(view, entry)
        stage.give(0, t2, villains)
        stage.give(2, t0, villains)
        entry = ViewEntry(certificate, stage.timeout_certificate([t0, t2, villains]))
    b5 = stage.block(5, entry)
    votes = only(Vote, stage.give(0, b5))
    stage.give(2, b5)
    (b6,) = only(Block, said := stage.give(2, *votes, stage.vote(b5)))
    votes = only(Vote, said) + only(Vote, stage.give(0, b6)) + [stage.vote(b6)]
    stage.give(0, ViewEntry(stage.certificate(votes), None))
    return stage


def certified_across_a_gap() -> Stage:
    """Two branches, each with two certificates in a row of views that are not contiguous."""
    stage = Stage(villain=0)
    genesis = stage.genesis_entry
    (b1,) = only(Block, said := stage.give(1, Tick()))
    votes = only(Vote, said) + only(Vote, stage.give(3, b1))
    stage.give(2, b1)
    stage.give(2, *votes)  # 2 alone knows the certificate of view 1
    certificate_1 = stage.hosts[2].state.high
    entry = genesis
    for view in (1, 2):
        t1, t3 = stage.expire(1, 3)
        villains = stage.timeout(view, entry)
        said = stage.give(3, t1, villains)
        stage.give(1, t3, villains)
        entry = ViewEntry(genesis.high_certificate, stage.timeout_certificate([t1, t3, villains]))
    (b3,) = [b for b in only(Block, said) if b.view == 3]
    votes = [v for v in only(Vote, said) if v.view == 3] + only(Vote, stage.give(1, b3)) + [stage.vote(b3)]
    certificate_3 = stage.certificate(votes)
    # The branch of view 1: certified again in view 4.
    stage.give(2, entry)
    t1, t2 = stage.expire(1, 2)
    villains = stage.timeout(3, entry)
    b4 = stage.block(4, ViewEntry(certificate_1, stage.timeout_certificate([t1, t2, villains])))
    stage.give(1, b4)
    stage.give(1, *only(Vote, stage.give(2, b4)), stage.vote(b4))
    # The branch of view 3: certified again in view 6.
    stage.give(3, ViewEntry(certificate_3, None))
    entry = ViewEntry(certificate_3, None)
    said = []
    for view in (4, 5):
        t2, t3 = stage.expire(2, 3)
        villains = stage.timeout(view, entry)
        stage.give(3, t2, villains)
        said = stage.give(2, t3, villains)
        entry = ViewEntry(certificate_3, stage.timeout_certificate([t2, t3, villains]))
    (b6,) = [b for b in only(Block, said) if b.view == 6]
    votes = [v for v in only(Vote, said) if v.view == 6]
    stage.give(3, b6)
    stage.give(3, *votes, stage.vote(b6))
    return stage


# ---------------------------------------------------------------------------------------------------------- the gate


def test_the_protocol_survives_every_schedule():
    before, after = fork_after_commit(block_before_timeout=True), fork_after_commit(block_before_timeout=False)
    twice, gap = two_certificates_of_one_view(lambda kept: kept), certified_across_a_gap()
    assert [stage.forked() for stage in (before, after, twice, gap)] == [False] * 4
    assert len(before.order(3)) == 2, "validator 3 committed, so the schedule put something at stake"
    assert any(isinstance(reason, BadViewEntryError) for reason in before.ignored)
    assert len(after.order(2)) == 2, "the villain's branch is the only one that was certified"


def test_dropped_lock_forks(monkeypatch):
    def drop_lock(known: ViewEntry, shown: ViewEntry) -> ViewEntry:
        return shown if shown.view > known.view else known

    monkeypatch.setattr(ordering, "merge_entries", drop_lock)
    assert fork_after_commit(block_before_timeout=True).forked()


def test_ignored_high_certificate_in_a_timeout_forks(monkeypatch):
    monkeypatch.setattr(validity, "respects_timeouts", lambda _: True)
    assert fork_after_commit(block_before_timeout=True).forked()


def test_vote_after_timeout_forks(monkeypatch):
    monkeypatch.setattr(
        ordering, "may_vote", lambda kept, block: block.view == kept.entry.view and block.view > kept.voted_view
    )
    assert fork_after_commit(block_before_timeout=False).forked()


def test_vote_lost_in_a_crash_forks():
    assert two_certificates_of_one_view(lambda kept: replace(kept, voted_view=0)).forked()


def test_commit_of_views_that_are_not_contiguous_forks(monkeypatch):
    monkeypatch.setattr(Ballot, "makes_parent_final", property(lambda ballot: ballot.parent_view > 0))
    assert certified_across_a_gap().forked()


def test_two_villains_of_four_fork():
    """The bound is sharp: with f + 1 villains two quorums need not share an honest validator."""
    stage = Stage(villain=1)
    del stage.hosts[0]

    def both(block: Block) -> list[Vote]:
        return [signed_vote(stage.epoch_set, block, villain) for villain in (0, 1)]

    one, other = stage.block(1, stage.genesis_entry, b"pay one"), stage.block(1, stage.genesis_entry, b"pay other")
    (vote,) = only(Vote, stage.give(3, other))
    stage.give(2, one)
    (b2,) = only(Block, said := stage.give(2, *both(one)))
    votes = only(Vote, said) + both(b2)
    stage.give(2, ViewEntry(stage.certificate(votes), None))
    # 3 leaves view 2 with the villains, and proposes on the other block of view 1.
    entry = ViewEntry(stage.certificate([vote, *both(other)]), None)
    villains = [signed_timeout(stage.epoch_set, 2, villain, entry) for villain in (0, 1)]
    (b3,) = only(Block, stage.give(3, *villains))
    (vote,) = [signed_vote(stage.epoch_set, b3, 3)]
    b4 = signed_block(stage.epoch_set, 4, 0, ViewEntry(stage.certificate([vote, *both(b3)]), None))
    (vote,) = only(Vote, stage.give(3, b4))
    stage.give(3, ViewEntry(stage.certificate([vote, *both(b4)]), None))
    assert stage.forked()


@pytest.mark.parametrize("rule", ["merge_entries", "may_vote"])
def test_the_rules_that_mutations_break_are_the_rules_that_run(monkeypatch, rule):
    def broken(*_: object) -> None:
        raise ZeroDivisionError(rule)

    monkeypatch.setattr(ordering, rule, broken)
    with pytest.raises(ZeroDivisionError, match=rule):
        fork_after_commit(block_before_timeout=True)
