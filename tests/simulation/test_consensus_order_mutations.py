"""The hand-directed schedules of the mutation gate: what they put at stake, and that the bound of villains is sharp.

That each broken rule is caught is tested with all other mutants in `test_world_runs.py`.
"""

import pytest

from collegium.consensus import BadViewEntryError, Block, ViewEntry, Vote
from collegium.consensus import _ordering as ordering
from collegium.node._world_order import signed_block, signed_timeout, signed_vote
from collegium.node._world_scenes import certified_across_a_gap, fork_after_commit, two_certificates_of_one_view
from collegium.node._world_stage import Stage, only


def test_the_protocol_survives_every_schedule():
    before, after = fork_after_commit(block_before_timeout=True), fork_after_commit(block_before_timeout=False)
    twice, gap = two_certificates_of_one_view(), certified_across_a_gap()
    assert [stage.forked() for stage in (before, after, twice, gap)] == [False] * 4
    assert len(before.order(3)) == 2, "validator 3 committed, so the schedule put something at stake"
    assert any(isinstance(reason, BadViewEntryError) for reason in before.ignored)
    assert len(after.order(2)) == 2, "the villain's branch is the only one that was certified"


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
