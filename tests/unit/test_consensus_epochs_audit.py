"""From the genesis through handovers: no set but the one that the set before it made final; and the records' bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import msgspec
import pytest
from _epoch_stage import PEOPLE, TASK, Town, set_of

from collegium.consensus import (
    BadSignersError,
    Ballot,
    Block,
    BrokenChainError,
    EpochSet,
    ForgedSignatureError,
    NoQuorumError,
    NotFinalError,
    QuorumCertificate,
    WrongEpochError,
    genesis_certificate,
    verify_chain,
)
from collegium.consensus._epoch_change_audit import (
    HandoverProof,
    NotAHandoverError,
    replay_change,
    verify_handover,
    verify_handovers,
)
from collegium.consensus._epoch_change_records import (
    Answer,
    EpochRecord,
    Handover,
    MalformedEpochRecordError,
    TicketRecord,
    decode_epoch_record,
    encode_epoch_record,
    is_epoch_record,
)
from collegium.consensus._epoch_change_rules import (
    BadDealingError,
    ForgedRecordError,
    HandoverRefusedError,
    WrongChangeError,
)
from collegium.consensus._messages import seat_bitmap
from collegium.crypto import Digest, Stream, aggregate_signatures
from collegium.errors import CollegiumError


def certificate(epoch_set: EpochSet, ballot: Ballot, seats: Iterable[int]) -> QuorumCertificate:
    """Return the certificate that these seats of a set make for a ballot."""
    by_account = {person.account.address: person for person in PEOPLE}
    people = [by_account[epoch_set.validators[seat].account] for seat in seats]
    signature = aggregate_signatures([p.voting.sign(ballot.digest(epoch_set)) for p in people])
    return QuorumCertificate(ballot, seat_bitmap(set(seats), epoch_set.size), signature)


def ordered(
    epoch_set: EpochSet, genesis: Digest, payloads: Iterable[bytes], seats: Iterable[int]
) -> tuple[list[Block], tuple[QuorumCertificate, ...]]:
    """Return a chain of these payloads, one a view, and the certificates of its last two blocks; the last is empty."""
    by_account = {person.account.address: person for person in PEOPLE}
    blocks: list[Block] = []
    parent = genesis_certificate(genesis)
    for view, payload in enumerate((*payloads, b""), 1):
        author = epoch_set.leader(view)
        draft = Block(epoch_set.task, epoch_set.epoch, view, author, parent, None, payload, bytes(65))
        block = draft.signed(by_account[epoch_set.validators[author].account].account.sign(draft.digest))
        parent = certificate(epoch_set, block.ballot, tuple(seats))
        blocks.append(block)
    return blocks, (blocks[-1].parent_certificate, parent)


def proof_of(epoch_set: EpochSet, genesis: Digest, payload: bytes, seats: Iterable[int] = (0, 1, 2)) -> HandoverProof:
    """Return the proof that a set made a payload final, as its first block."""
    blocks, chain = ordered(epoch_set, genesis, [payload], seats)
    return HandoverProof(blocks[0], chain)


@cache
def history() -> tuple[EpochSet, tuple[HandoverProof, ...], tuple[Town, ...]]:
    """Return a first set, the proofs of two handovers, and the towns at the end of both epochs."""
    town, proofs, towns = Town.founded(4), [], []
    first, genesis = town.epoch_set, town.epoch_set.genesis()
    for _ in range(2):
        town.play(5)
        assert town.change.handover is not None
        proofs.append(proof_of(town.epoch_set, genesis, encode_epoch_record(town.change.handover)))
        towns.append(town.copy())
        genesis = verify_handover(town.epoch_set, genesis, proofs[-1]).genesis
        town.enter_next()
    return first, tuple(proofs), tuple(towns)


def test_a_client_walks_from_the_genesis_to_the_present_set() -> None:
    first, proofs, towns = history()
    opened = verify_handovers(first, first.genesis(), proofs)
    assert [o.epoch_set.epoch for o in opened] == [1, 2]
    assert [o.first_round for o in opened] == [5, 10]
    assert opened[0].epoch_set == towns[1].epoch_set
    assert verify_handovers(first, first.genesis(), ()) == ()


def test_the_steps_of_the_walk_come_in_their_order_and_none_is_left_out() -> None:
    first, proofs, _ = history()
    for wrong in (proofs[::-1], proofs[1:], (proofs[0], proofs[0])):
        with pytest.raises(WrongEpochError):
            verify_handovers(first, first.genesis(), wrong)


def forged(**changes: object) -> Handover:
    """Return the first handover with something else in it."""
    _, _, towns = history()
    assert towns[0].change.handover is not None
    return replace(towns[0].change.handover, **changes)  # type: ignore[arg-type]


def test_a_handover_that_the_old_set_did_not_make_final_makes_no_set() -> None:
    first, proofs, towns = history()
    genesis, payload = first.genesis(), proofs[0].block.payload
    verify_handover(first, genesis, proofs[0])
    # too few of the old set
    with pytest.raises(NoQuorumError):
        verify_handover(first, genesis, proof_of(first, genesis, payload, seats=(0, 1)))
    # certified, but not final
    with pytest.raises(NotFinalError):
        verify_handover(first, genesis, replace(proofs[0], certificate_chain=proofs[0].certificate_chain[:1]))
    with pytest.raises(BrokenChainError):
        verify_handover(first, genesis, replace(proofs[0], certificate_chain=()))
    # another handover under the certificates of the true one
    other = replace(proofs[0].block, payload=encode_epoch_record(forged(first_round=6)))
    with pytest.raises(BrokenChainError):
        verify_handover(first, genesis, replace(proofs[0], block=other))
    # the new set signs for itself, as itself or as the old one
    new = towns[1].epoch_set
    itself = proof_of(new, genesis, payload)
    with pytest.raises(WrongEpochError):
        verify_handover(first, genesis, itself)
    shuffled = set_of([PEOPLE[i] for i in (1, 2, 3, 0)])
    with pytest.raises(ForgedSignatureError):
        verify_handover(first, genesis, proof_of(shuffled, genesis, payload))


def test_an_old_certificate_or_genesis_carries_nothing_in_the_new_epoch() -> None:
    first, proofs, _ = history()
    opened = verify_handover(first, first.genesis(), proofs[0])
    verify_handover(opened.epoch_set, opened.genesis, proofs[1])
    # the new block under the old set's certificates, seat by seat the same people
    old_keys = tuple(
        next(i for i, v in enumerate(first.validators) if v.account == opened.epoch_set.validators[s].account)
        for s in (0, 1, 2)
    )
    ballots = [c.ballot for c in proofs[1].certificate_chain]
    old = tuple(certificate(first, ballot, old_keys) for ballot in ballots)
    with pytest.raises(ForgedSignatureError):
        verify_handover(opened.epoch_set, opened.genesis, replace(proofs[1], certificate_chain=old))
    # an empty history from the set's plain genesis instead of the one that binds the handover
    plain, _ = ordered(opened.epoch_set, opened.epoch_set.genesis(), [], (0, 1, 2))
    bound, chain = ordered(opened.epoch_set, opened.genesis, [], (0, 1, 2))
    verify_chain(opened.epoch_set, opened.genesis, bound, chain[1:])
    with pytest.raises(BrokenChainError):
        verify_chain(opened.epoch_set, opened.genesis, plain, chain[1:])
    with pytest.raises(CollegiumError):
        verify_chain(first, first.genesis(), bound, chain[1:])


def test_a_final_block_of_something_else_is_no_handover() -> None:
    first, _, towns = history()
    ticket = next(p for p in towns[0].order if is_epoch_record(p))
    for payload in (ticket, b"", towns[0].order[-1]):
        with pytest.raises(NotAHandoverError):
            verify_handover(first, first.genesis(), proof_of(first, first.genesis(), payload))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("epoch", WrongChangeError),
        ("fewer public shares", BadDealingError),
        ("fewer keys than a quorum", BadDealingError),
        ("a key for another round", BadDealingError),
        ("a planted key", ForgedRecordError),
        ("keys of another attempt", ForgedRecordError),
    ],
)
def test_even_a_final_handover_must_hold_together(change: str, error: type[CollegiumError]) -> None:
    """Were a third of a set bad, a client would still not follow it into nonsense."""
    first, _, towns = history()
    true = towns[0].change.handover
    assert true is not None
    keys = true.keys
    wrong = {
        "epoch": replace(true, epoch=2),
        "fewer public shares": replace(true, public_shares=true.public_shares[1:]),
        "fewer keys than a quorum": replace(true, keys=keys[:2]),
        "a key for another round": replace(true, keys=(replace(keys[0], round=4), *keys[1:])),
        "a planted key": replace(true, keys=(replace(keys[0], seal_key=keys[1].seal_key), *keys[1:])),
        "keys of another attempt": replace(true, start=1),
    }[change]
    with pytest.raises(error):
        verify_handover(first, first.genesis(), proof_of(first, first.genesis(), encode_epoch_record(wrong)))


def test_an_auditor_replays_an_epoch_and_finds_the_same_handover() -> None:
    _, _, towns = history()
    for town in towns:
        change = replay_change(town.plan, town.epoch_set, town.first_round, town.first_value, town.order)
        assert change == town.change
    town = towns[0]
    at = next(i for i, payload in enumerate(town.order) if payload[:1] == b"N")
    handover = encode_epoch_record(forged(dealers=(0, 1, 2)))
    with pytest.raises(HandoverRefusedError):
        replay_change(town.plan, town.epoch_set, 0, town.first_value, [*town.order[:at], handover])
    missing = [payload for payload in town.order if payload[:1] != b"D"]
    with pytest.raises(CollegiumError):
        replay_change(town.plan, town.epoch_set, 0, town.first_value, missing)


def test_an_auditor_lets_no_round_close_before_a_handover_that_is_due_and_no_epoch_go_on_after_it() -> None:
    """Whoever has a quorum of an epoch's keys could order so; no honest quorum votes for it."""
    _, _, towns = history()
    town = towns[0]
    at = next(i for i, payload in enumerate(town.order) if payload[:1] == b"N")
    with pytest.raises(HandoverRefusedError, match="round 4 closes before the handover that is due"):
        replay_change(town.plan, town.epoch_set, 0, town.first_value, [*town.order[:at], b"C"])
    with pytest.raises(HandoverRefusedError, match="epoch 0 goes on after its last round, 4"):
        replay_change(town.plan, town.epoch_set, 0, town.first_value, [*town.order, town.order[0]])


# ------------------------------------------------------------------------------------------------ bytes


@cache
def records() -> tuple[EpochRecord, ...]:
    _, _, towns = history()
    found: dict[type, EpochRecord] = {}
    for payload in towns[0].order:
        if is_epoch_record(payload):
            record = decode_epoch_record(payload)
            found.setdefault(type(record), record)
    answer = Answer(1, 0, 2, ((0, bytes(32)), (3, b"\1" * 32)), bytes(65))
    return (*found.values(), answer)


KINDS = ["TicketRecord", "DealingRecord", "Verdict", "Handover", "Answer"]


def record_of(kind: str) -> EpochRecord:
    return next(record for record in records() if type(record).__name__ == kind)


@pytest.mark.parametrize("kind", KINDS)
def test_records_round_trip_and_nothing_else_decodes(kind: str) -> None:
    record = record_of(kind)
    data = encode_epoch_record(record)
    assert is_epoch_record(data)
    assert decode_epoch_record(data) == record
    fields = msgspec.msgpack.decode(data[1:])
    reordered = data[:1] + msgspec.msgpack.encode(dict(reversed(fields.items())))
    for wrong in (data[:-1], data + b"\0", data[:1], b"", b"C" + data[1:], b"?" + data[1:], data * 2, reordered):
        with pytest.raises(MalformedEpochRecordError):
            decode_epoch_record(wrong)
    with pytest.raises(MalformedEpochRecordError, match="at most"):
        decode_epoch_record(data + bytes(1 << 20))


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_is_refused_or_changes_the_record(kind: str) -> None:
    record, data = record_of(kind), encode_epoch_record(record_of(kind))
    random = Stream(b"flips".ljust(32, b"."))
    for _ in range(200):
        place = int.from_bytes(random(4), "little") % len(data)
        bit = 1 << random(1)[0] % 8
        flipped = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
        try:
            other = decode_epoch_record(flipped)
        except MalformedEpochRecordError:
            continue
        assert other != record
        assert encode_epoch_record(other) == flipped


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("TicketRecord", {"deal_key": bytes(31)}),
        ("TicketRecord", {"epoch": -1}),
        ("TicketRecord", {"signature": b""}),
        ("DealingRecord", {"dealer": 1024}),
        ("DealingRecord", {"boxes": (bytes(79),)}),
        ("DealingRecord", {"commitments": ()}),
        ("Verdict", {"against": (2, 1)}),
        ("Verdict", {"against": (1, 1)}),
        ("Answer", {"shares": ((3, bytes(32)), (0, bytes(32)))}),
        ("Answer", {"shares": ((3, bytes(31)),)}),
        ("Handover", {"dealers": (1, 0)}),
        ("Handover", {"first_round": 1 << 63}),
    ],
)
def test_a_field_out_of_bounds_is_refused(kind: str, changes: dict[str, object]) -> None:
    record = record_of(kind)
    decode_epoch_record(encode_epoch_record(record))
    with pytest.raises(MalformedEpochRecordError):
        decode_epoch_record(encode_epoch_record(replace(record, **changes)))  # type: ignore[arg-type]


def test_a_ticket_is_of_its_task_and_set() -> None:
    """One registration may serve two tasks: what is signed for one is refused in the other."""
    town = Town.founded(4)
    ticket = town.said(1, TicketRecord)
    town.taken(ticket)
    assert town.epoch_set.task == TASK
    other = replace(town, epoch_set=EpochSet(bytes(32), 0, town.epoch_set.validators))
    with pytest.raises(ForgedRecordError):
        other.taken(ticket)


def test_a_bitmap_beyond_the_set_is_no_quorum_of_it() -> None:
    first, proofs, _ = history()
    chain = proofs[0].certificate_chain
    wide = (replace(chain[0], signers=chain[0].signers + b"\1"), *chain[1:])
    with pytest.raises(BadSignersError):
        verify_handover(first, first.genesis(), replace(proofs[0], certificate_chain=wide))
