"""Dealing, threshold signatures, and the two beacons."""

from dataclasses import replace

import pytest

from collegium.crypto import (
    BadBeaconError,
    BadPossessionError,
    BadShareError,
    BadSignatureError,
    Beacon,
    BlsPublicKey,
    BlsSecretKey,
    ChainedBeacon,
    Dealing,
    IdentityPointError,
    NotEnoughPartialsError,
    SecretShare,
    Stream,
    ThresholdBeacon,
    ThresholdError,
    combine_commitments,
    combine_shares,
    deal,
    hash_fields,
    verify_possession,
    verify_share,
)
from collegium.crypto._bls_backend import GROUP_ORDER
from collegium.crypto._dealing import lagrange_at_zero

TASK = hash_fields("test", b"task")
MEMBERS, THRESHOLD = 7, 5
STREAM = Stream(b"b" * 32)
DEALINGS = [deal(STREAM, MEMBERS, THRESHOLD) for _ in range(MEMBERS)]
GROUP = combine_commitments(MEMBERS, [dealing.commitments for dealing in DEALINGS])
BEACONS = [
    ThresholdBeacon(TASK, GROUP, combine_shares([dealing.shares[member] for dealing in DEALINGS]))
    for member in range(MEMBERS)
]
OBSERVER = ThresholdBeacon(TASK, GROUP)
PARTIALS = {member: beacon.partial(4, 17) for member, beacon in enumerate(BEACONS)}
PROOF = OBSERVER.combine(4, 17, PARTIALS)

VOTERS = [BlsSecretKey.generate(STREAM) for _ in range(4)]
CHAINED = [ChainedBeacon(TASK, bytes(32), tuple(key.public_key() for key in VOTERS), 3, own) for own in VOTERS]


@pytest.mark.parametrize(
    "bad",
    [
        bytes([0x80, *bytes(46), 4]),  # on the curve, outside the group
        bytes([0xC0, *bytes(47)]),  # the neutral point
        bytes(48),
        b"short",
        PARTIALS[1],
    ],
)
def test_a_bad_partial_is_left_out_and_the_value_is_the_same(bad: bytes) -> None:
    assert OBSERVER.combine(4, 17, {**PARTIALS, 0: bad}) == PROOF
    assert OBSERVER.invalid_partials(4, 17, {**PARTIALS, 0: bad}) == (0,)
    few = {member: PARTIALS[member] for member in range(1, THRESHOLD)} | {0: bad}
    with pytest.raises(NotEnoughPartialsError):
        OBSERVER.combine(4, 17, few)


def test_every_share_is_on_its_dealers_polynomial() -> None:
    for share in DEALINGS[0].shares:
        verify_share(DEALINGS[0].commitments, share)


def test_a_share_off_by_one_of_another_member_or_of_another_dealer_is_refused() -> None:
    share = DEALINGS[0].shares[2]
    wrong = [replace(share, scalar=(share.scalar + 1) % GROUP_ORDER), replace(share, member=3), DEALINGS[1].shares[2]]
    for other in wrong:
        with pytest.raises(BadShareError):
            verify_share(DEALINGS[0].commitments, other)


def test_fewer_shares_than_the_threshold_fit_every_secret() -> None:
    """With t - 1 shares, each secret s has one polynomial: s at 0 and the known values elsewhere."""
    known = DEALINGS[0].shares[: THRESHOLD - 1]
    factors = lagrange_at_zero([*range(THRESHOLD - 1), MEMBERS])
    for secret in (0, 1, 12345):
        missing = secret - sum(factors[share.member] * share.scalar for share in known)
        completed = missing * pow(factors[MEMBERS], -1, GROUP_ORDER) % GROUP_ORDER
        values = {**{share.member: share.scalar for share in known}, MEMBERS: completed}
        assert sum(factors[i] * value for i, value in values.items()) % GROUP_ORDER == secret


@pytest.mark.parametrize(("members", "threshold"), [(3, 0), (3, 4), (1025, 2)])
def test_a_threshold_outside_the_members_is_refused(members: int, threshold: int) -> None:
    deal(STREAM, 3, 3)
    with pytest.raises(ThresholdError):
        deal(STREAM, members, threshold)


def test_dealings_of_different_thresholds_are_refused() -> None:
    rows = [DEALINGS[0].commitments, DEALINGS[1].commitments[:-1]]
    for dealings in (rows, [], [()]):
        with pytest.raises(ThresholdError):
            combine_commitments(MEMBERS, dealings)
    with pytest.raises(ThresholdError):
        combine_commitments(THRESHOLD - 1, [DEALINGS[0].commitments])


def test_dealings_that_cancel_are_refused() -> None:
    row = DEALINGS[0].commitments
    negative = tuple(bytes([data[0] ^ 0x20]) + data[1:] for data in row)
    with pytest.raises(IdentityPointError):
        combine_commitments(MEMBERS, [row, negative])


def test_a_dealer_proves_that_it_knows_what_it_deals() -> None:
    dealing = DEALINGS[0]
    dealt = BlsPublicKey(dealing.commitments[0])
    proof = dealing.prove_possession(b"here")
    verify_possession(dealt, b"here", proof)
    other = BlsPublicKey(DEALINGS[1].commitments[0])
    for key, context in ((dealt, b"there"), (other, b"here")):
        with pytest.raises(BadPossessionError):
            verify_possession(key, context, proof)


def test_who_deals_itself_a_neutral_share_hurts_only_itself() -> None:
    """The last dealer knows what all others dealt to it, and makes its own sum zero."""
    others = sum(dealing.shares[6].scalar for dealing in DEALINGS[:6])
    own = DEALINGS[6]
    shift = (others + own.shares[6].scalar) % GROUP_ORDER  # taken off its polynomial everywhere
    first = BlsSecretKey(GROUP_ORDER - shift).public_key()
    constant = combine_commitments(1, [[own.commitments[0]], [bytes(first)]]).key
    shares = tuple(replace(share, scalar=(share.scalar - shift) % GROUP_ORDER) for share in own.shares)
    dealings = [*DEALINGS[:6], Dealing((constant, *own.commitments[1:]), shares)]
    for share in shares:
        verify_share(dealings[6].commitments, share)
    group = combine_commitments(MEMBERS, [dealing.commitments for dealing in dealings])
    sums = [combine_shares([dealing.shares[member] for dealing in dealings]) for member in range(MEMBERS)]
    assert [share.scalar == 0 for share in sums] == [False] * 6 + [True]
    partials = {share.member: ThresholdBeacon(TASK, group, share).partial(4, 17) for share in sums}
    assert ThresholdBeacon(TASK, group).invalid_partials(4, 17, partials) == (6,)
    proof = ThresholdBeacon(TASK, group).combine(4, 17, {i: partials[i] for i in (6, 0, 1, 2, 3, 4)})
    assert proof == ThresholdBeacon(TASK, group).combine(4, 17, {i: partials[i] for i in (1, 2, 3, 4, 5)})
    with pytest.raises(NotEnoughPartialsError):
        ThresholdBeacon(TASK, group).combine(4, 17, {i: partials[i] for i in (6, 0, 1, 2, 3)})


def test_shares_of_two_members_are_not_added() -> None:
    for shares in ([], [DEALINGS[0].shares[0], DEALINGS[1].shares[1]]):
        with pytest.raises(ThresholdError):
            combine_shares(shares)


def test_another_members_share_makes_no_beacon() -> None:
    share = BEACONS[0].share
    assert share is not None
    with pytest.raises(BadShareError):
        ThresholdBeacon(TASK, GROUP, replace(share, member=1))
    with pytest.raises(ThresholdError):
        ThresholdBeacon(TASK, GROUP, replace(share, member=MEMBERS))


def test_any_threshold_of_members_makes_the_same_proof() -> None:
    for members in ((0, 1, 2, 3, 4), (2, 3, 4, 5, 6), (6, 0, 5, 1, 4)):
        assert OBSERVER.combine(4, 17, {member: PARTIALS[member] for member in members}) == PROOF


def test_one_partial_too_few_makes_none() -> None:
    with pytest.raises(NotEnoughPartialsError) as refusal:
        OBSERVER.combine(4, 17, {member: PARTIALS[member] for member in range(THRESHOLD - 1)})
    assert refusal.value.values["good"] == THRESHOLD - 1


def test_bad_partials_are_found_and_left_out() -> None:
    spoilt = {**PARTIALS, 0: PARTIALS[1], 2: b"no point"}
    assert OBSERVER.invalid_partials(4, 17, spoilt) == (0, 2)
    assert OBSERVER.combine(4, 17, spoilt) == PROOF
    with pytest.raises(NotEnoughPartialsError) as refusal:
        OBSERVER.combine(4, 17, {**spoilt, 5: PARTIALS[6]})
    assert refusal.value.values == {"good": 4, "bad": (0, 2, 5)}


def test_partials_are_verified_one_by_one() -> None:
    OBSERVER.verify_partial(4, 17, 3, PARTIALS[3])
    for arguments in ((4, 17, 2, PARTIALS[3]), (4, 18, 3, PARTIALS[3]), (5, 17, 3, PARTIALS[3])):
        with pytest.raises(BadSignatureError):
            OBSERVER.verify_partial(*arguments)
    with pytest.raises(ThresholdError):
        OBSERVER.verify_partial(4, 17, MEMBERS, PARTIALS[3])


@pytest.mark.parametrize("member", [-1, MEMBERS])
def test_a_stranger_is_no_member(member: int) -> None:
    with pytest.raises(ThresholdError):
        OBSERVER.combine(4, 17, {**PARTIALS, member: PARTIALS[0]})


def test_a_proof_holds_for_one_task_epoch_round_and_purpose() -> None:
    assert len(OBSERVER.verify(4, 17, PROOF)) == 32
    others = [(OBSERVER, 5, 17, "round"), (OBSERVER, 4, 18, "round"), (OBSERVER, 4, 17, "cohorts")]
    others.append((replace(OBSERVER, task=bytes(32)), 4, 17, "round"))
    for beacon, epoch, round_number, purpose in others:
        with pytest.raises(BadBeaconError):
            beacon.verify(epoch, round_number, PROOF, purpose)
    with pytest.raises(BadBeaconError):
        OBSERVER.verify(4, 17, b"")


def test_the_beacon_is_no_vote() -> None:
    share = BEACONS[0].share
    assert share is not None
    vote = BlsSecretKey(share.scalar).sign(OBSERVER.message(4, 17))
    with pytest.raises(BadSignatureError):
        OBSERVER.verify_partial(4, 17, 0, vote)


@pytest.mark.parametrize("beacon", [OBSERVER, replace(CHAINED[0], voting_key=None)], ids=["threshold", "chained"])
def test_an_observer_contributes_nothing(beacon: Beacon) -> None:
    with pytest.raises(BadShareError):
        beacon.partial(4, 17)


def test_a_single_member_may_be_the_whole_group() -> None:
    dealing = deal(STREAM, 1, 1)
    alone = ThresholdBeacon(TASK, combine_commitments(1, [dealing.commitments]), dealing.shares[0])
    alone.verify(0, 0, alone.combine(0, 0, {0: alone.partial(0, 0)}))


def test_a_share_survives_its_encoding() -> None:
    share = DEALINGS[0].shares[1]
    assert SecretShare.from_bytes(1, share.to_bytes()).scalar == share.scalar


def test_the_chained_beacon_continues_from_its_value() -> None:
    votes = {member: beacon.partial(1, 2) for member, beacon in enumerate(CHAINED)}
    proof = CHAINED[0].combine(1, 2, votes)
    value = CHAINED[1].verify(1, 2, proof)
    following = CHAINED[1].after(value)
    with pytest.raises(BadBeaconError):
        following.verify(1, 2, proof)
    with pytest.raises(BadBeaconError):
        CHAINED[1].verify(1, 3, proof)


def test_the_chained_beacon_leaves_bad_votes_out_and_needs_its_quorum() -> None:
    votes = {member: beacon.partial(1, 2) for member, beacon in enumerate(CHAINED)}
    CHAINED[0].verify(1, 2, CHAINED[0].combine(1, 2, {**votes, 3: votes[0]}))
    with pytest.raises(NotEnoughPartialsError):
        CHAINED[0].combine(1, 2, {**votes, 3: votes[0], 2: b""})
    with pytest.raises(ThresholdError):
        CHAINED[0].combine(1, 2, {**votes, 4: votes[0]})


def test_the_chained_beacon_can_be_biased() -> None:
    """What its documentation admits: one assembler, five certificates that verify, five values to choose from."""
    votes = {member: beacon.partial(1, 2) for member, beacon in enumerate(CHAINED)}
    subsets = [votes] + [{m: vote for m, vote in votes.items() if m != left_out} for left_out in votes]
    values = {CHAINED[0].verify(1, 2, CHAINED[0].combine(1, 2, subset)) for subset in subsets}
    assert len(values) == 5
