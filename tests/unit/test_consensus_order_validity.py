"""Real keys: what a quorum, a leader or an auditor accepts, and beside it the smallest change that is refused."""

from dataclasses import dataclass, replace

import pytest

from collegium.consensus import (
    BadEpochSetError,
    BadSignersError,
    BadViewEntryError,
    Block,
    BlockEquivocation,
    BrokenChainError,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    ForgedSignatureError,
    MalformedMessageError,
    NoConflictError,
    NoQuorumError,
    NotFinalError,
    QuorumCertificate,
    Timeout,
    TimeoutCertificate,
    TimeoutGroup,
    UnknownValidatorError,
    Validator,
    ViewEntry,
    Vote,
    VoteEquivocation,
    WrongEpochError,
    WrongGenesisError,
    WrongLeaderError,
    decode_evidence,
    encode_evidence,
    genesis_certificate,
    verify_chain,
    verify_evidence,
    verify_final,
)
from collegium.consensus._messages import seat_bitmap, timeout_digest
from collegium.consensus._order_validity import (
    Electorate,
    check_block,
    check_certificate,
    check_timeout,
    check_timeout_certificate,
)
from collegium.crypto import AccountKey, BlsSecretKey, Stream

TASK = b"task".ljust(32, b".")


@dataclass(frozen=True)
class Town:
    """Four validators with real keys, and a pen for each."""

    epoch_set: EpochSet
    signers: tuple[EpochSigner, ...]
    electorate: Electorate

    @property
    def genesis(self) -> QuorumCertificate:
        return genesis_certificate(self.epoch_set.genesis())

    def block(self, view: int, certificate: QuorumCertificate, timeouts=None, payload: bytes = b"") -> Block:
        author = self.epoch_set.leader(view)
        draft = Block(TASK, 0, view, author, certificate, timeouts, payload, bytes(65))
        return draft.signed(self.signers[author].sign_block(draft.digest))

    def vote(self, block: Block, voter: int) -> Vote:
        return Vote(block.ballot, voter, self.signers[voter].sign_vote(block.ballot.digest(self.epoch_set)))

    def certificate(self, block: Block, voters=(0, 1, 3)) -> QuorumCertificate:
        signed = {v: self.vote(block, v).signature for v in voters}
        aggregate = self.electorate.verifier.aggregate(signed)
        return QuorumCertificate(block.ballot, seat_bitmap(set(voters), 4), aggregate)

    def timeout(self, view: int, author: int, certificate: QuorumCertificate) -> Timeout:
        digest = timeout_digest(self.epoch_set, view, certificate.view)
        return Timeout(view, author, ViewEntry(certificate, None), self.signers[author].sign_vote(digest))

    def timeouts(self, view: int, highs: dict[int, int]) -> TimeoutCertificate:
        """highs: seat -> the view of the highest certificate that it reports."""
        groups = []
        for high in sorted(set(highs.values())):
            digest = timeout_digest(self.epoch_set, view, high)
            signed = {s: self.signers[s].sign_vote(digest) for s, h in highs.items() if h == high}
            aggregate = self.electorate.verifier.aggregate(signed)
            groups.append(TimeoutGroup(high, seat_bitmap(set(signed), 4), aggregate))
        return TimeoutCertificate(view, tuple(groups))


def make_town(seed: int = 0) -> Town:
    stream = Stream(bytes([seed]) * 32)
    signers = tuple(EpochSigner(BlsSecretKey.generate(stream), AccountKey.generate(stream)) for _ in range(4))
    members = tuple(Validator(i, bytes(s.bls.public_key()), s.account.address, 10 + i) for i, s in enumerate(signers))
    epoch_set = EpochSet(TASK, 0, members)
    return Town(epoch_set, signers, Electorate(epoch_set, epoch_set.genesis(), EpochVerifier(epoch_set)))


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town()


@pytest.fixture(scope="module")
def chain(town) -> tuple[list[Block], QuorumCertificate]:
    """Blocks of views 1, 2, 4, 5 (view 3 was given up) and the certificate of the last one."""
    blocks, certificate = [], town.genesis
    for view in (1, 2, 4, 5):
        timeouts = town.timeouts(3, {0: 2, 1: 2, 2: 1}) if view == 4 else None
        blocks.append(town.block(view, certificate, timeouts, b"payload %d" % view))
        certificate = town.certificate(blocks[-1])
    return blocks, certificate


# --------------------------------------------------------------------------------------------------------- epoch set


@pytest.mark.parametrize(("size", "faulty", "quorum"), [(1, 0, 1), (3, 0, 3), (4, 1, 3), (6, 1, 5), (7, 2, 5)])
def test_a_quorum_is_more_than_two_thirds(town, size, faulty, quorum):
    members = tuple(Validator(i, b"%096d" % i, b"%020d" % i, 1) for i in range(size))
    epoch_set = EpochSet(TASK, 0, members)
    assert (epoch_set.faulty_max, epoch_set.quorum) == (faulty, quorum)
    assert 3 * quorum > 2 * size
    assert 2 * quorum - size > faulty
    assert [epoch_set.leader(view) for view in range(size)] == list(range(size))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: (m[1], m[0]),
        lambda m: (m[0], replace(m[1], bls_key=m[0].bls_key)),
        lambda m: (m[0], replace(m[1], account=m[0].account)),
        lambda m: (),
        lambda m: (replace(m[0], stake=0),),
        lambda m: (replace(m[0], bls_key=b"short"),),
    ],
    ids=["order", "key twice", "account twice", "empty", "no stake", "short key"],
)
def test_an_impossible_epoch_set_is_refused(town, spoil):
    with pytest.raises(BadEpochSetError):
        EpochSet(TASK, 0, spoil(town.epoch_set.validators))


def test_the_digest_binds_task_epoch_and_every_member(town):
    members = town.epoch_set.validators
    richer = (*members[:3], replace(members[3], stake=14))
    digests = {
        EpochSet(task, epoch, validators).digest()
        for task, epoch, validators in (
            (TASK, 0, members),
            (bytes(32), 0, members),
            (TASK, 1, members),
            (TASK, 0, richer),
        )
    }
    assert len(digests) == 4


# ------------------------------------------------------------------------------------------------------ certificates


def test_certificates_need_a_quorum_of_distinct_members(town):
    block = town.block(1, town.genesis)
    check_certificate(town.electorate, town.certificate(block))
    check_certificate(town.electorate, town.certificate(block, (0, 1, 2, 3)))
    with pytest.raises(NoQuorumError):
        check_certificate(town.electorate, town.certificate(block, (0, 1)))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"signers": seat_bitmap({0, 1, 2}, 4)}, ForgedSignatureError),
        ({"signers": seat_bitmap({0, 1, 2, 3}, 4)}, ForgedSignatureError),
        ({"signers": b"\x1b"}, BadSignersError),
        ({"signers": b"\x0b\x00"}, BadSignersError),
        ({"signature": bytes(48)}, ForgedSignatureError),
    ],
    ids=["another signer", "one signer more", "a fifth seat", "long bitmap", "no point"],
)
def test_a_changed_certificate_is_refused(town, change, error):
    with pytest.raises(error):
        check_certificate(town.electorate, replace(town.certificate(town.block(1, town.genesis)), **change))


def test_a_certificate_is_of_one_ballot_and_one_epoch(town):
    certificate = town.certificate(town.block(1, town.genesis))
    with pytest.raises(ForgedSignatureError):
        check_certificate(town.electorate, replace(certificate, ballot=replace(certificate.ballot, view=2)))
    next_epoch = EpochSet(TASK, 1, town.epoch_set.validators)
    with pytest.raises(ForgedSignatureError):
        check_certificate(replace(town.electorate, epoch_set=next_epoch), certificate)


def test_only_the_genesis_needs_no_signature(town):
    check_certificate(town.electorate, town.genesis)
    with pytest.raises(WrongGenesisError):
        check_certificate(town.electorate, genesis_certificate(bytes(32)))
    with pytest.raises(MalformedMessageError):
        replace(town.genesis, signature=bytes(48))


def test_timeout_certificates_count_each_signer_once(town):
    good = town.timeouts(5, {0: 2, 1: 4, 2: 4})
    check_timeout_certificate(town.electorate, good)
    low, high = good.groups
    with pytest.raises(NoQuorumError):
        check_timeout_certificate(town.electorate, replace(good, groups=(high,)))
    twice = TimeoutCertificate(5, (low, town.timeouts(5, {0: 4, 1: 4}).groups[0]))
    with pytest.raises(BadSignersError):
        check_timeout_certificate(town.electorate, twice)
    with pytest.raises(ForgedSignatureError):
        check_timeout_certificate(town.electorate, replace(good, groups=(replace(low, high_view=3), high)))
    with pytest.raises(MalformedMessageError):
        TimeoutCertificate(5, (high, low))
    with pytest.raises(MalformedMessageError):
        TimeoutCertificate(4, (high,))


# ------------------------------------------------------------------------------------------------ blocks and timeouts


def test_a_block_needs_its_leader_its_signature_and_a_way_into_its_view(town, chain):
    blocks, _ = chain
    for block in blocks:
        check_block(town.electorate, block)
    second, fourth = blocks[1], blocks[2]
    for changed, error in (
        (replace(second, author=1), WrongLeaderError),
        (replace(second, signature=blocks[0].signature), ForgedSignatureError),
        (replace(second, payload=b"payload 3"), ForgedSignatureError),
        (replace(second, epoch=1), WrongEpochError),
        (replace(fourth, timeout_certificate=None), BadViewEntryError),
        (town.block(2, second.parent_certificate, town.timeouts(1, {0: 0, 1: 0, 2: 0})), BadViewEntryError),
        (town.block(4, second.parent_certificate, fourth.timeout_certificate), BadViewEntryError),
    ):
        with pytest.raises(error):
            check_block(town.electorate, changed)


def test_a_timeout_shows_why_its_author_was_there(town, chain):
    certificate = chain[0][1].parent_certificate
    good = town.timeout(2, 3, certificate)
    check_timeout(town.electorate, good)
    for changed, error in (
        (replace(good, view=3), BadViewEntryError),
        (replace(good, author=2), ForgedSignatureError),
        (replace(good, author=4), UnknownValidatorError),
        (replace(good, entry=ViewEntry(town.genesis, None)), BadViewEntryError),
    ):
        with pytest.raises(error):
            check_timeout(town.electorate, changed)


# ---------------------------------------------------------------------------------------------------------- evidence


def test_two_blocks_of_one_view_convict_their_author(town):
    one, other = town.block(1, town.genesis), town.block(1, town.genesis, payload=b"other")
    evidence = BlockEquivocation(one.header, other.header)
    assert verify_evidence(town.epoch_set, decode_evidence(encode_evidence(evidence))) == 1
    later = town.block(2, town.certificate(one))
    for bad, error in (
        (BlockEquivocation(one.header, one.header), NoConflictError),
        (BlockEquivocation(one.header, later.header), NoConflictError),
        (BlockEquivocation(one.header, replace(other.header, body=bytes(32))), ForgedSignatureError),
        (BlockEquivocation(one.header, replace(other.header, epoch=1)), WrongEpochError),
    ):
        with pytest.raises(error):
            verify_evidence(town.epoch_set, bad)


def test_two_votes_of_one_view_convict_their_voter(town):
    one, other = town.block(1, town.genesis), town.block(1, town.genesis, payload=b"other")
    evidence = VoteEquivocation(town.vote(one, 3), town.vote(other, 3))
    assert verify_evidence(town.epoch_set, decode_evidence(encode_evidence(evidence))) == 3
    for bad, error in (
        (VoteEquivocation(town.vote(one, 3), town.vote(one, 3)), NoConflictError),
        (VoteEquivocation(town.vote(one, 3), town.vote(other, 2)), NoConflictError),
        (VoteEquivocation(town.vote(one, 3), replace(town.vote(other, 2), voter=3)), ForgedSignatureError),
        (
            VoteEquivocation(replace(town.vote(one, 3), voter=9), replace(town.vote(other, 3), voter=9)),
            UnknownValidatorError,
        ),
    ):
        with pytest.raises(error):
            verify_evidence(town.epoch_set, bad)


def test_a_verifier_asks_the_memory_that_it_is_given(town):
    block = town.block(1, town.genesis)
    digest = block.ballot.digest(town.epoch_set)
    signed = {seat: town.vote(block, seat).signature for seat in range(4)}
    asked = []

    def once(key, compute):
        asked.append(key)
        return compute()

    verifier = EpochVerifier(town.epoch_set, once)
    assert verifier.bad_seats(digest, signed) == frozenset()
    assert len(asked) == 2  # the sum, and whether it holds
    whole = verifier.aggregate(signed)
    assert asked[2] == asked[0]
    assert verifier.aggregate_holds((0, 1, 2, 3), digest, whole)
    assert asked[3] == asked[1]
    assert not verifier.aggregate_holds((0, 1, 2), digest, whole)
    assert verifier.bad_seats(digest, {**signed, 1: signed[2]}) == {1}


def test_bad_votes_are_named_and_good_ones_remembered(town):
    block = town.block(1, town.genesis)
    digest = block.ballot.digest(town.epoch_set)
    signed = {seat: town.vote(block, seat).signature for seat in range(4)}
    verifier = EpochVerifier(town.epoch_set)
    assert verifier.bad_seats(digest, signed) == frozenset()
    assert verifier.bad_seats(digest, {**signed, 1: signed[2], 3: bytes(48)}) == {1, 3}
    assert verifier.vote_holds(2, digest, signed[2])
    assert not verifier.vote_holds(2, digest, signed[1])
    assert not verifier.block_holds(1, block.digest, bytes(65))


# ------------------------------------------------------------------------------------------------------------- audit


def test_an_auditor_needs_the_epoch_set_and_the_blocks(town, chain):
    blocks, tip = chain
    genesis = town.epoch_set.genesis()
    everything = (b"payload 1", b"payload 2", b"payload 4")
    assert verify_chain(town.epoch_set, genesis, blocks, [tip]) == everything
    assert verify_chain(town.epoch_set, genesis, blocks, []) == everything[:1]
    assert verify_chain(town.epoch_set, genesis, blocks[:3], [blocks[3].parent_certificate, tip]) == everything
    assert verify_chain(town.epoch_set, genesis, (), ()) == ()
    # a view was given up right after the last block: what makes it final is about its descendants alone
    after = [blocks[2].parent_certificate, blocks[3].parent_certificate, tip]
    assert verify_chain(town.epoch_set, genesis, blocks[:2], after) == everything[:2]
    assert verify_chain(town.epoch_set, genesis, blocks[:2], after[:2]) == everything[:1]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda b, t: (b[1:], [t]), BrokenChainError),
        (lambda b, t: ([b[0], b[2]], [t]), BrokenChainError),
        (lambda b, t: (b, [b[3].parent_certificate]), BrokenChainError),
        (lambda b, t: (b[:2], [b[2].parent_certificate, t]), BrokenChainError),
        (lambda b, t: ([replace(b[0], payload=b"payload 9"), *b[1:]], [t]), BrokenChainError),
        (lambda b, t: ([*b[:3], replace(b[3], payload=b"")], []), ForgedSignatureError),
        (lambda b, t: (b, [replace(t, signers=b"\x03")]), NoQuorumError),
    ],
    ids=["no first block", "a block left out", "old certificate", "certificates apart", "payload", "tip", "quorum"],
)
def test_an_auditor_refuses_a_changed_chain(town, chain, spoil, error):
    blocks, certificates = spoil(*chain)
    with pytest.raises(error):
        verify_chain(town.epoch_set, town.epoch_set.genesis(), blocks, certificates)


def test_a_light_client_needs_certificates_only(town, chain):
    blocks, tip = chain
    certificates = [*(b.parent_certificate for b in blocks[1:]), tip]
    check = lambda block, shown: verify_final(town.epoch_set, town.epoch_set.genesis(), block, shown)  # noqa: E731
    check(blocks[0].digest, certificates[:2])
    check(blocks[1].digest, certificates[1:])
    check(blocks[2].digest, certificates[2:])
    for block, shown, error in (
        (blocks[1].digest, certificates[1:3], NotFinalError),
        (blocks[0].digest, certificates[:1], NotFinalError),
        (blocks[0].digest, [], BrokenChainError),
        (blocks[1].digest, certificates[:2], BrokenChainError),
        (blocks[1].digest, [certificates[1], certificates[3]], BrokenChainError),
        (blocks[0].digest, [certificates[0], replace(certificates[1], signers=b"\x03")], NoQuorumError),
    ):
        with pytest.raises(error):
            check(block, shown)
