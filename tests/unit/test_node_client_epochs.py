"""A client over a handover: it believes the set that the old one's certificates open, and asks that from then on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from _gateway_stage import ACCOUNTS, RANDOM, SIZE, TASK, VOTING, House, StageDesk, epoch_set, header_of, run

from collegium.consensus import (
    Announcement,
    Block,
    Certified,
    ChangePlan,
    Close,
    Committed,
    EpochSet,
    Handover,
    HandoverProof,
    QuorumCertificate,
    Registration,
    Validator,
    ValidatorIndex,
    WrongChangeError,
    encode_epoch_record,
    encode_payload,
    genesis_certificate,
    open_handover,
)
from collegium.consensus._epoch_change_records import Seat, change_scope, first_key_digest
from collegium.crypto import BlsPublicKey, Digest, SealKey, aggregate_signatures, combine_commitments, deal
from collegium.node._client import DisagreementError, FinalHeader, NobodyAnsweredError, ValidatorClient
from collegium.node._client_line import ClientLimits
from collegium.node._desk import Passed
from collegium.node._epochs import Epochs, FinalRound, ForkedEpochError
from collegium.node._final_walk import FinalWalk
from collegium.settlement import NO_CHECKPOINT, Checkpoint, handover_digest

LIMITS = ClientLimits(retry_s=0.001, retry_s_max=0.002, hedge_s=5.0)
FIRST_ROUND = 5
MEMBERS = (3, 1, 0)  # candidates of the second epoch, by place
FORGED = (2, 3, 1)  # and of another one, by whoever has the first set's keys


class Once:
    def once(self, key, compute):  # type: ignore[no-untyped-def]
        return compute()


@dataclass(frozen=True)
class History:
    """Two epochs of a task: the blocks of each, and the handover between them."""

    first: tuple[Committed, ...]
    second: tuple[Committed, ...]
    members: EpochSet

    @property
    def proof(self) -> HandoverProof:
        found = next(c for c in self.first if c.block.payload[:1] == b"N")
        return HandoverProof(found.block, found.certificate_chain)

    @property
    def last(self) -> FinalHeader:
        """The first epoch's last header."""
        return header(self.first[-1])


def header(committed: Committed) -> FinalHeader:
    certified = Certified(header_of(number_of(committed.block)), b"certificate")
    return FinalHeader(committed.block, committed.certificate_chain, certified)


def number_of(block: Block) -> int:
    return next(n for n in range(20) if encode_payload(Certified(header_of(n), b"certificate")) == block.payload)


@cache
def history(seated: tuple[int, ...] = MEMBERS) -> History:
    rounds = [payload for number in range(FIRST_ROUND) for payload in round_of(number)]
    record = encode_epoch_record(handover_record(seated))
    first = chain_of(epoch_set(), epoch_set().genesis(), range(SIZE), [*rounds[:-2], record, *rounds[-2:]])
    opened = open_handover(epoch_set(), handover_record(seated), Once())
    return History(first, chain_of(opened.epoch_set, opened.genesis, seated, round_of(FIRST_ROUND)), opened.epoch_set)


def round_of(number: int) -> list[bytes]:
    close = Close(TASK, number, bytes(32), (), (), (), (), ())
    return [encode_payload(close), encode_payload(Certified(header_of(number), b"certificate"))]


@cache
def handover_record(seated: tuple[int, ...] = MEMBERS) -> Handover:
    validators = tuple(
        Validator(ValidatorIndex(place), bytes(VOTING[i].public_key()), ACCOUNTS[i].address, 1)
        for place, i in enumerate(seated)
    )
    members = EpochSet(TASK, 1, validators)
    dealing = deal(RANDOM.split("dealing"), members.size, members.quorum)
    group = combine_commitments(members.size, [dealing.commitments])
    scope = change_scope(epoch_set(), 1, 0)
    keys = []
    for place, candidate in enumerate(seated):
        secret = SealKey.generate(RANDOM.split(f"seal {place}"))
        key = Announcement(place, FIRST_ROUND, secret.public_bytes, b"")
        signature = ACCOUNTS[candidate].sign(first_key_digest(scope, members, key))
        keys.append(replace(key, signature=signature))
    seats = tuple(Seat(v.bls_key, v.account, v.stake) for v in validators)
    return Handover(1, 0, FIRST_ROUND, seats, (0,), group.key, group.public_shares, tuple(keys))


def chain_of(members: EpochSet, genesis: Digest, candidates: object, payloads: list[bytes]) -> tuple[Committed, ...]:
    """Return final blocks of an epoch with these payloads."""
    by_place = list(candidates)  # type: ignore[call-overload]
    blocks: list[Block] = []
    certificates = [genesis_certificate(genesis)]
    for place, payload in enumerate([*payloads, b""]):
        author = members.leader(place + 1)
        draft = Block(TASK, members.epoch, place + 1, author, certificates[-1], None, payload, bytes(65))
        blocks.append(draft.signed(ACCOUNTS[by_place[author]].sign(draft.digest)))
        digest = blocks[-1].ballot.digest(members)
        voters = by_place[: members.quorum]
        bitmap = ((1 << members.quorum) - 1).to_bytes(1, "little")
        signature = aggregate_signatures([VOTING[voter].sign(digest) for voter in voters])
        certificates.append(QuorumCertificate(blocks[-1].ballot, bitmap, signature))
    proofs = pairwise(certificates[1:])
    return tuple(Committed(block, proof) for block, proof in zip(blocks, proofs, strict=False))


def plan() -> ChangePlan:
    candidates = tuple(Registration(v.bls_key, v.account, v.stake) for v in epoch_set().validators)
    return ChangePlan(candidates, epoch_rounds=FIRST_ROUND)


def client_of(folder: Path, desks: list[StageDesk]) -> ValidatorClient:
    rows = [House.of(folder, desk) for desk in desks]
    lines = {house.desk.index: house.line(LIMITS) for house in rows}
    return ValidatorClient(Epochs(epoch_set(), plan()), lines, LIMITS, Random(0))


def desks(blocks: tuple[Committed, ...], **handovers: HandoverProof | Passed) -> list[StageDesk]:
    known = dict(zip([0], handovers.values(), strict=False))
    return [StageDesk(index, blocks=blocks, handovers=dict(known)) for index in range(SIZE)]


def test_a_header_of_the_next_epoch_is_believed_once_the_handover_to_it_is_proved(tmp_path: Path) -> None:
    told = desks(history().second, ended=history().proof)
    client = client_of(tmp_path, told)
    found = run(client.latest)
    assert found is not None
    assert (found.block.epoch, found.certified.header.round) == (1, FIRST_ROUND)
    assert client.epoch_set == history().members
    # candidate 2 has no place there: it is asked for nothing that only members know
    before = told[2].heard
    run(client.latest)
    assert told[2].heard == before


def test_a_header_of_the_next_epoch_without_its_handover_is_nobodys(tmp_path: Path) -> None:
    client = client_of(tmp_path, desks(history().second))
    with pytest.raises(NobodyAnsweredError, match="whether epoch 0 has ended is not final here"):
        run(client.latest)
    assert client.epoch_set == epoch_set()


def test_a_forged_handover_is_refused_by_name_and_the_true_one_taken_from_another(tmp_path: Path) -> None:
    proof = history().proof
    forged = encode_epoch_record(replace(handover_record(), first_round=FIRST_ROUND + 1))
    block = replace(proof.block, payload=forged)
    by_whom = certify_as_new_set(block)
    for bad, name in (
        (HandoverProof(block, proof.certificate_chain), "BrokenChainError"),
        (HandoverProof(block, by_whom), "NotFinalError|ForgedSignatureError|NoQuorumError"),
        (HandoverProof(history().first[0].block, history().first[0].certificate_chain), "NotAHandoverError"),
        (HandoverProof(proof.block, proof.certificate_chain[:1]), "NotFinalError"),
    ):
        lying = client_of(tmp_path, desks(history().second, ended=bad))
        with pytest.raises(NobodyAnsweredError, match=name):
            run(lying.latest)
        assert lying.epoch_set == epoch_set()
        told = desks(history().second, ended=bad)
        told[1].handovers[0] = proof
        client = client_of(tmp_path, told)
        found = run(client.latest)
        assert found is not None
        assert found.block.epoch == 1


def certify_as_new_set(block: Block) -> tuple[QuorumCertificate, ...]:
    """Return certificates of the wrong set, which opens itself."""
    members = history().members
    digest = block.ballot.digest(members)
    signature = aggregate_signatures([VOTING[voter].sign(digest) for voter in MEMBERS[: members.quorum]])
    certificate = QuorumCertificate(block.ballot, ((1 << members.quorum) - 1).to_bytes(1, "little"), signature)
    return certificate, certificate


def test_the_round_after_an_epochs_last_header_is_the_next_epochs(tmp_path: Path) -> None:
    client = client_of(tmp_path, desks(history().first, ended=history().proof))
    assert run(lambda: client.epoch_after(history().last)).epoch == 1
    assert client.epoch_set == history().members
    earlier = next(c for c in history().first if c.block.payload[:1] == b"H")
    assert run(lambda: client.epoch_after(header(earlier))).epoch == 0


def test_that_an_epoch_goes_on_more_members_must_say_than_can_be_bad(tmp_path: Path) -> None:
    told = desks(history().first, goes_on=Passed())
    client = client_of(tmp_path, told)
    assert run(lambda: client.epoch_after(history().last)).epoch == 0
    assert {asked for desk in told for asked in desk.asked_handovers} == {(0, FIRST_ROUND - 1)}
    alone = desks(history().first)
    alone[3].handovers[0] = Passed()
    with pytest.raises(DisagreementError, match="1 validators say that epoch 0 goes on after round 4, expected 2"):
        run(lambda: client_of(tmp_path, alone).epoch_after(history().last))
    with pytest.raises(NobodyAnsweredError):
        run(lambda: client_of(tmp_path, desks(history().first)).epoch_after(history().last))


@pytest.mark.parametrize("liar", range(SIZE))
def test_the_handover_of_an_earlier_epoch_is_no_word_on_whether_this_one_goes_on(tmp_path: Path, liar: int) -> None:
    """However true, it ends nothing else: one member alone neither ends an epoch so nor has it go on."""
    told = desks(history().second, ended=history().proof)
    client = client_of(tmp_path, told)
    run(client.latest)
    told[liar].handovers[1] = history().proof
    late = Certified(replace(header_of(FIRST_ROUND), round=2 * FIRST_ROUND - 1), b"certificate")
    last = FinalHeader(history().second[-1].block, history().second[-1].certificate_chain, late)
    reason = "the handover that ends epoch 0, expected epoch 1's" if liar in MEMBERS else "not final here"
    with pytest.raises(NobodyAnsweredError, match=reason):
        run(lambda: client.epoch_after(last))
    for honest in set(MEMBERS) - {liar}:
        told[honest].handovers[1] = Passed()
    assert run(lambda: client.epoch_after(last)).epoch == 1


def test_who_answers_with_an_earlier_handover_leads_nobody_in_circles(tmp_path: Path) -> None:
    """A header of an epoch to come, and for its handover one that is known: refused, and another one is asked."""
    ahead = history().second[-1]
    block = replace(ahead.block, epoch=3)
    told = desks((replace(ahead, block=block),), ended=history().proof)
    for desk in told:
        desk.handovers[1] = history().proof
    client = client_of(tmp_path, told)
    with pytest.raises(NobodyAnsweredError, match="the handover that ends epoch 0, expected epoch 1's"):
        run(lambda: asyncio.wait_for(client.latest(), 60))
    assert client.epochs.present.epoch == 1


def test_a_client_in_a_forged_epoch_says_by_name_that_there_are_two_histories(tmp_path: Path) -> None:
    """Whoever has an old set's keys signs a second history; the first honest word about the first is a fork, no lie."""
    told = desks(history().second, ended=history().proof)
    client = client_of(tmp_path, told)
    client.epochs.hand_over(history(FORGED).proof)
    with pytest.raises(ForkedEpochError, match="two final handovers end epoch 0"):
        run(client.latest)
    # somebody whose header does not hold and who proves no other history is a liar as before
    proved = client_of(tmp_path, desks(history(FORGED).second, ended=history().proof))
    with pytest.raises(NobodyAnsweredError, match="final header: "):
        run(proved.latest)


def test_a_set_of_fewer_or_more_than_the_plan_seats_is_not_believed() -> None:
    for least, most in ((4, 4), (1, 2)):
        epochs = Epochs(epoch_set(), replace(plan(), members_min=least, members_max=most))
        with pytest.raises(WrongChangeError, match=f"epoch 1 seats 3 members, expected {least} to {most}"):
            epochs.hand_over(history().proof)
        assert epochs.present.epoch == 0
    assert Epochs(epoch_set(), replace(plan(), members_max=3)).hand_over(history().proof).epoch == 1


def test_a_word_of_fewer_than_one_more_than_can_be_bad_is_not_the_last_header(tmp_path: Path) -> None:
    told = desks(history().first)
    for desk in told[1:]:
        desk.blocks = history().second  # without the handover that leads there
    with pytest.raises(DisagreementError, match="1 validators tell of a last header, expected 2"):
        run(client_of(tmp_path, told).latest)


def test_a_walk_goes_on_in_the_next_epoch(tmp_path: Path) -> None:
    told = desks(history().first)
    for desk in told:
        desk.later = {1: history().second}
        desk.handovers = {0: history().proof}
    client = client_of(tmp_path, told)

    async def walk() -> list[FinalRound]:
        steps = FinalWalk(client)
        return [await steps.next_round() for _ in range(FIRST_ROUND + 1)]

    rounds = run(walk)
    assert [final.close.round for final in rounds] == list(range(FIRST_ROUND + 1))
    assert [final.epoch.epoch for final in rounds] == [0] * FIRST_ROUND + [1]


def test_signatures_are_gathered_of_the_epoch_that_a_checkpoint_or_a_handover_is_of(tmp_path: Path) -> None:
    members = history().members
    checkpoint = Checkpoint(TASK, 1, FIRST_ROUND, FIRST_ROUND, bytes(32), bytes(32))
    told = desks(history().second, ended=history().proof)
    for desk in told:
        desk.signatures = {FIRST_ROUND: VOTING[desk.index].sign(checkpoint.digest)}
    client = client_of(tmp_path, told)
    run(client.latest)
    found = run(lambda: client.checkpoint_signatures(checkpoint))
    assert found == {place: VOTING[MEMBERS[place]].sign(checkpoint.digest) for place in found}
    assert len(found) == members.quorum
    last = Checkpoint(TASK, 0, 0, FIRST_ROUND - 1, NO_CHECKPOINT, bytes(32))
    digest = handover_digest(TASK, 1, last.digest, [BlsPublicKey(v.bls_key) for v in members.validators])
    for desk in told:
        desk.signatures = {0: VOTING[desk.index].sign(digest if desk.index else checkpoint.digest)}
    signed = run(lambda: client.handover_signatures(0, digest))
    assert set(signed) == {1, 2, 3}, "validator 0 signed something else"
