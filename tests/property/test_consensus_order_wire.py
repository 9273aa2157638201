"""One value, one encoding: what is written reads back; what is changed, cut or stretched is refused by name."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.consensus import (
    Ballot,
    Block,
    BlockEquivocation,
    BlockRequest,
    BlockResponse,
    Broadcast,
    Context,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    Ignored,
    MalformedMessageError,
    MessageTooLongError,
    NotCanonicalMessageError,
    QuorumCertificate,
    Relay,
    Send,
    SetTimer,
    Timeout,
    TimeoutCertificate,
    TimeoutGroup,
    UnknownMessageKindError,
    Validator,
    ViewEntry,
    Vote,
    VoteEquivocation,
    VoteState,
    decode_evidence,
    decode_message,
    decode_vote_state,
    encode_evidence,
    encode_message,
    encode_vote_state,
    genesis_certificate,
    initial_state,
    step,
)
from collegium.crypto import AccountKey, BlsSecretKey, Stream
from collegium.errors import CollegiumError

digests = st.binary(min_size=32, max_size=32)
bls = st.binary(min_size=48, max_size=48)
account = st.binary(min_size=65, max_size=65)
seats = st.integers(0, 2047)
bitmaps = st.binary(min_size=1, max_size=32)
views = st.integers(1, 2**63 - 1)


@st.composite
def ballots(draw):
    view = draw(views)
    return Ballot(view, draw(digests), draw(st.integers(0, view - 1)), draw(digests))


@st.composite
def timeout_certificates(draw):
    view = draw(st.integers(8, 2**63 - 1))
    highs = sorted(draw(st.sets(st.integers(0, view - 1), min_size=1, max_size=4)))
    return TimeoutCertificate(view, tuple(TimeoutGroup(h, draw(bitmaps), draw(bls)) for h in highs))


certificates = st.builds(QuorumCertificate, ballots(), bitmaps, bls)
entries = st.builds(ViewEntry, certificates, st.none() | timeout_certificates())
payloads = st.binary(max_size=300)
blocks = st.builds(
    Block, digests, st.integers(0, 9), views, seats, certificates, st.none() | timeout_certificates(), payloads, account
)
votes = st.builds(Vote, ballots(), seats, bls)
timeouts = st.builds(Timeout, views, seats, entries, bls)
messages = st.one_of(
    blocks,
    votes,
    timeouts,
    entries,
    st.builds(BlockRequest, seats, digests, digests),
    st.builds(BlockResponse, st.lists(blocks, min_size=1, max_size=3).map(tuple)),
    st.builds(Relay, seats, st.binary(min_size=1, max_size=300)),
)
evidence = st.builds(VoteEquivocation, votes, votes) | st.builds(
    BlockEquivocation, blocks.map(lambda b: b.header), blocks.map(lambda b: b.header)
)
numbers = st.integers(0, 2**63 - 1)
vote_states = st.builds(VoteState, numbers, numbers, numbers, entries, st.none() | timeouts)


@given(messages)
def test_messages_read_back(message):
    assert decode_message(encode_message(message)) == message


@given(evidence)
def test_evidence_reads_back(proof):
    assert decode_evidence(encode_evidence(proof)) == proof


@given(vote_states)
def test_vote_state_reads_back(kept):
    assert decode_vote_state(encode_vote_state(kept)) == kept


@given(messages, st.data())
def test_a_changed_byte_is_another_message_or_none(message, data):
    encoded = bytearray(encode_message(message))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_message(bytes(encoded))
    except CollegiumError:
        return
    assert other != message
    assert encode_message(other) == encoded


@given(messages, st.data())
def test_cut_or_stretched_messages_are_refused(message, data):
    encoded = encode_message(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises((MalformedMessageError, UnknownMessageKindError)):
        decode_message(encoded[:cut])
    with pytest.raises((MalformedMessageError, MessageTooLongError)):
        decode_message(encoded + b"\0")


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_garbage_raises_nothing_but_named_errors(garbage, kind):
    for decode in (decode_message, decode_evidence, decode_vote_state):
        with pytest.raises(CollegiumError):
            decode(bytes([kind]) + garbage)


def test_each_kind_of_refusal_has_its_name():
    vote = Vote(Ballot(2, bytes(32), 1, bytes(32)), 3, bytes(48))
    encoded = encode_message(vote)
    fields = msgspec.msgpack.decode(encoded[1:])
    wide = encoded[:1] + msgspec.msgpack.encode(fields).replace(b"\x94\x02", b"\x94\xcc\x02", 1)
    for data, error in (
        (b"", UnknownMessageKindError),
        (b"\xff" + encoded[1:], UnknownMessageKindError),
        (encode_evidence(VoteEquivocation(vote, vote)), UnknownMessageKindError),
        (encoded[:1] + bytes(1000), MessageTooLongError),
        (encoded[:1] + msgspec.msgpack.encode([[2, bytes(32), 1, bytes(32)], -1, bytes(48)]), MalformedMessageError),
        (encoded[:1] + msgspec.msgpack.encode([[2, bytes(32), 2, bytes(32)], 3, bytes(48)]), MalformedMessageError),
        (encoded[:1] + msgspec.msgpack.encode([[2, bytes(31), 1, bytes(32)], 3, bytes(48)]), MalformedMessageError),
        (wide, NotCanonicalMessageError),
        (b"\x02" + b"\x93" * 400, MalformedMessageError),
    ):
        with pytest.raises(error):
            decode_message(data)


def test_deep_nesting_and_huge_counts_are_refused_without_effort():
    for data in (b"\x06" + b"\x91" * 100_000, b"\x06\xdd\xff\xff\xff\xff", b"\x07\x92\x00\xc6\xff\xff\xff\xff"):
        with pytest.raises(CollegiumError):
            decode_message(data)


# -------------------------------------------------------------------------------------------------- hostile messages


class Nothing:
    """An application and archive that hold nothing and accept everything."""

    def accepts(self, ancestors, payload):
        return True

    def next_payload(self, ancestors):
        return None

    def after(self, block, count):
        return ()


@pytest.fixture(scope="module")
def context() -> Context:
    stream = Stream(bytes(32))
    signers = [EpochSigner(BlsSecretKey.generate(stream), AccountKey.generate(stream)) for _ in range(4)]
    members = [Validator(i, bytes(s.bls.public_key()), s.account.address, 1) for i, s in enumerate(signers)]
    epoch_set = EpochSet(bytes(32), 0, tuple(members))
    return Context(epoch_set, epoch_set.genesis(), 2, signers[2], EpochVerifier(epoch_set), Nothing(), Nothing(), 100)


def near_misses(genesis: bytes):
    """Messages of this epoch that are right in everything but their signatures."""
    first = genesis_certificate(genesis)
    small, members = st.integers(1, 6), st.integers(0, 4)
    ballot = st.builds(Ballot, small, digests, st.just(0), st.just(genesis))
    certificate = st.just(first) | st.builds(
        QuorumCertificate, ballot, st.sampled_from([b"\x0f", b"\x07", b"\x1f"]), bls
    )
    group = st.builds(TimeoutGroup, st.just(0), st.sampled_from([b"\x0f", b"\x07", b"\x01"]), bls)
    given_up = st.builds(TimeoutCertificate, small, st.tuples(group))
    entry = st.builds(ViewEntry, certificate, st.none() | given_up)
    block = st.builds(
        Block, st.just(bytes(32)), st.just(0), small, members, certificate, st.none() | given_up, payloads, account
    )
    return st.one_of(
        block,
        st.builds(Vote, ballot, members, bls),
        st.builds(Timeout, small, members, entry, bls),
        entry,
        st.builds(BlockRequest, members, digests | st.just(genesis), digests),
        st.builds(BlockResponse, st.lists(block, min_size=1, max_size=3).map(tuple)),
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_unsigned_messages_move_no_replica_and_make_it_sign_nothing(context, data):
    hostile = data.draw(st.lists(messages | near_misses(context.genesis), max_size=12))
    start = state = initial_state(context)
    for now, message in enumerate(hostile):
        state, effects = step(context, state, message, now)
        assert {type(e) for e in effects} <= {Ignored, Send, Broadcast, SetTimer}
        said = [e.message for e in effects if isinstance(e, Send | Broadcast)]
        assert all(isinstance(m, ViewEntry | Relay) for m in said)
    assert (state.vote_state, state.blocks, state.final) == (start.vote_state, start.blocks, start.final)
