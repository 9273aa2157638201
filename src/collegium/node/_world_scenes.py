"""Schedules played by hand, each of which turns one broken rule of ordering into a fork; the villain never forges.

Random schedules find some of these breaks in thousands of runs and one of them never.
"""

from __future__ import annotations

from collegium.consensus import Block, Tick, TimeoutCertificate, TimeoutGroup, ViewEntry, Vote, seat_bitmap

from ._world_order import HashVerifier, signed_timeout
from ._world_stage import Stage, only

__all__ = [
    "certificate_of_another_epoch",
    "certified_across_a_gap",
    "fork_after_commit",
    "signer_counted_twice",
    "two_certificates_of_one_view",
]


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


def two_certificates_of_one_view() -> Stage:
    """The villain proposes twice in view 1; validator 3 votes, crashes, and is asked again."""
    stage = Stage(villain=1)
    one, other = stage.block(1, stage.genesis_entry, b"pay one"), stage.block(1, stage.genesis_entry, b"pay other")
    votes = only(Vote, stage.give(3, one))
    stage.give(2, one)
    (b2,) = only(Block, said := stage.give(2, *votes, stage.vote(one)))
    votes_2 = only(Vote, said)
    stage.crash(3)
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


def signer_counted_twice() -> Stage:
    """The villain shows 2 a timeout certificate of itself, of 1, and of itself again under another high view."""
    stage = Stage(villain=0)
    (b1,) = only(Block, said := stage.give(1, Tick()))
    votes = only(Vote, said) + only(Vote, stage.give(3, b1)) + [stage.vote(b1)]
    entry_1 = ViewEntry(stage.certificate(votes), None)
    stage.give(1, entry_1)
    stage.give(2, entry_1)
    (honest,) = stage.expire(1)
    old = signed_timeout(stage.epoch_set, 2, 0, stage.genesis_entry)
    new = stage.timeout(2, entry_1)

    def group(high_view: int, signatures: dict[int, bytes]) -> TimeoutGroup:
        bitmap = seat_bitmap(set(signatures), stage.epoch_set.size)
        return TimeoutGroup(high_view, bitmap, HashVerifier().aggregate(signatures))

    groups = (group(0, {0: old.signature}), group(1, {0: new.signature, 1: honest.signature}))
    stage.give(2, ViewEntry(entry_1.high_certificate, TimeoutCertificate(2, groups)))
    return stage


def certificate_of_another_epoch() -> Stage:
    """The villain shows the validators of epoch 1 a certificate that the same people made in epoch 0."""
    before, stage = Stage(villain=0), Stage(villain=0, epoch=1)
    (b1,) = only(Block, said := before.give(1, Tick()))
    votes = only(Vote, said) + only(Vote, before.give(3, b1)) + [before.vote(b1)]
    stage.give(2, ViewEntry(before.certificate(votes), None))
    return stage
