"""An honest party is never slashed by anything another party does.

Honest: it signs one vote a view, one block a view in which it leads, one report for a round and its terms, and no
statement that a court finds false; it publishes, in time, the rows of its key sums when they are demanded. Everything
that it signs is known to everybody. The liar has all that, its own keys, any bytes, and the first word in every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from _chain_stage import ALICE, MALLORY, embedded, pass_time, refused
from _slashing_stage import (
    ANSWER_S,
    HONEST,
    HONEST_BLS,
    HONEST_TRAINER,
    LYING_BLS,
    STAKE,
    TASK,
    Court,
    ballot,
    epoch_set,
    found_court,
    framed,
    key_sum,
    members_of,
    report,
    rows_digest,
    signed_header,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collegium import algebra
from collegium.consensus import ShardResult
from collegium.crypto import BlsSecretKey, g1_uncompressed, hash_fields
from collegium.settlement import (
    ContractRefusedError,
    answer_demand,
    contract,
    demand_rows,
    read_member,
    repay_demand,
    report_withheld_data,
)

GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
OTHER = hash_fields("other-task")
SETS = {
    (task, epoch): epoch_set(task, epoch, stake) for task in (TASK, OTHER) for epoch in (0, 1) for stake in (STAKE,)
}
REFUSALS = {"NoConflict", "NotSigned", "NotRefuted", "WrongRole", "UnknownMember"} | {
    "InfinityPoint",
    "PrecompileFailed",
    "InvalidPointLength",
}


MEMBERS = members_of(SETS[TASK, 0])
REPORTS = [report(name, ALICE, round=round_, task=task) for name, round_ in ((1, 7), (2, 8)) for task in (TASK, OTHER)]
HEADERS = [
    signed_header(view, ALICE, task=task, epoch=epoch, view=view, author=0)
    for view in (5, 6)
    for epoch in (0, 1)
    for task in (TASK, OTHER)
]
SUMS = [key_sum(name, ALICE) for name in (1, 2)]

# Of one round in two shards: what a validator with a seat in each signs there, once in each.
IN_SHARDS = [key_sum(10 + shard, ALICE) for shard in (0, 1)]
RESULTS = [
    ShardResult(TASK, 7, shard, "bounded", sum_.close, "opened", ((3, sum_.digest),), hash_fields("total", shard))
    for shard, sum_ in enumerate(IN_SHARDS)
]
VOUCHERS = [
    hash_fields("shard-voucher", TASK, 7, REPORTS[0].terms, shard, sum_.close) for shard, sum_ in enumerate(IN_SHARDS)
]

# What the honest party signed with its voting key, and what with its account key: digests and signatures.
BALLOTS = {(view, key): ballot(view, view) for view in (5, 6) for key in SETS}
VOTED = {said.digest(SETS[key]): HONEST_BLS.sign(said.digest(SETS[key])) for (_, key), said in BALLOTS.items()} | {
    digest: HONEST_BLS.sign(digest)
    for digest in (
        *(hash_fields("timeout", SETS[TASK, 0].digest(), 5, 4), hash_fields("checkpoint", TASK)),
        *(hash_fields("header", TASK, number) for number in (1, 2)),
        *(result.digest for result in RESULTS),
    )
}
SIGNED = {report_.id: report_.signature for report_ in REPORTS}
SIGNED |= {header.digest: header.signature for header in HEADERS}
SIGNED |= {sum_.digest: sum_.signature for sum_ in (*SUMS, *IN_SHARDS)}
SIGNED |= {digest: ALICE.sign(digest) for digest in VOUCHERS}


@dataclass(frozen=True)
class Attempt:
    """A call of the contract that slashes."""

    function: str
    arguments: tuple[Any, ...]


def votes() -> st.SearchStrategy[Attempt]:
    honest = [g1_uncompressed(signature) for signature in VOTED.values()]
    forged = [
        g1_uncompressed(secret.sign(said.digest(SETS[key])))
        for (_, key), said in BALLOTS.items()
        for secret in (LYING_BLS, BlsSecretKey(GROUP_ORDER - HONEST_BLS.scalar))
    ]
    ballots = st.one_of(
        st.sampled_from([(said.block, said.parent_view, said.parent) for said in BALLOTS.values()]),
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 9), st.binary(min_size=32, max_size=32)),
    )
    signatures = st.one_of(st.sampled_from(honest), st.sampled_from(forged), st.binary(min_size=96, max_size=96))
    return st.builds(
        lambda member, epoch, members, view, said, signed: Attempt(
            "doubleVote", (member, epoch, members, view, said, signed)
        ),
        st.sampled_from([HONEST, HONEST, HONEST, HONEST_TRAINER, 77]),
        st.integers(0, 2),
        st.sampled_from([MEMBERS, MEMBERS, MEMBERS[:-8], b""]),
        st.sampled_from([5, 6]),
        st.tuples(ballots, ballots),
        st.tuples(signatures, signatures),
    )


def account_signatures() -> st.SearchStrategy[bytes]:
    honest = st.sampled_from(list(SIGNED.values()))
    other_form = honest.map(
        lambda s: s[:32] + (CURVE_ORDER - int.from_bytes(s[32:64], "big")).to_bytes(32, "big") + bytes([1 - s[64]])
    )
    forged = st.sampled_from([MALLORY.sign(digest) for digest in SIGNED])
    return st.one_of(honest, honest, other_form, forged, st.binary(max_size=70))


def proposals() -> st.SearchStrategy[Attempt]:
    bodies = st.sampled_from([header.body for header in HEADERS] + [hash_fields("body")])
    return st.builds(
        lambda *arguments: Attempt("doubleProposal", arguments),
        st.sampled_from([HONEST, HONEST, HONEST_TRAINER]),
        st.integers(0, 1),
        st.sampled_from([5, 6]),
        st.integers(0, 1),
        st.tuples(bodies, bodies),
        st.tuples(account_signatures(), account_signatures()),
    )


def reports() -> st.SearchStrategy[Attempt]:
    own = [
        framed(r.ciphertext, r.committee_root, r.audit_root, r.proof, r.registration, b"".join(r.boxes))
        + framed(sha256(algebra.to_bytes(r.combination.reshape(-1))).digest(), sha256(r.audit.to_bytes()).digest())
        + framed(r.staleness)
        for r in REPORTS
    ]
    rests = st.one_of(st.sampled_from(own), st.binary(max_size=40), st.sampled_from(own).map(lambda rest: rest[:-1]))
    return st.builds(
        lambda *arguments: Attempt("doubleReport", arguments),
        st.sampled_from([HONEST_TRAINER, HONEST_TRAINER, HONEST]),
        st.sampled_from([7, 8]),
        st.sampled_from([REPORTS[0].terms, hash_fields("other-terms")]),
        st.tuples(rests, rests),
        st.tuples(account_signatures(), account_signatures()),
    )


def headers() -> st.SearchStrategy[Attempt]:
    """The court has found false a header that the liar alone voted for."""
    forged = [secret.sign(FALSE_HEADER) for secret in (LYING_BLS, BlsSecretKey(GROUP_ORDER - HONEST_BLS.scalar))]
    signatures = [g1_uncompressed(signature) for signature in (*VOTED.values(), *forged)]
    return st.builds(
        lambda *arguments: Attempt("falseHeader", arguments),
        st.sampled_from([HONEST, HONEST, HONEST_TRAINER, 77]),
        st.one_of(st.sampled_from([*VOTED, *SIGNED, FALSE.digest, FALSE_HEADER]), st.binary(min_size=32, max_size=32)),
        st.one_of(st.sampled_from(signatures), st.binary(min_size=96, max_size=96), st.binary(max_size=97)),
    )


def statements() -> st.SearchStrategy[Attempt]:
    """The court has found false what the liar signed, and nothing that the honest party signed."""
    said = st.one_of(
        st.sampled_from([*SIGNED, *VOTED, FALSE.digest, FALSE_HEADER]), st.binary(min_size=32, max_size=32)
    )
    return st.builds(
        lambda function, *arguments: Attempt(function, arguments),
        st.sampled_from(["falseStatement", "withheldData"]),
        st.sampled_from([HONEST, HONEST_TRAINER]),
        said,
        st.one_of(account_signatures(), st.just(FALSE.signature)),
    )


FALSE = key_sum(3)
FALSE_HEADER = hash_fields("header", TASK, 0)


@pytest.fixture(scope="module")
def court() -> Iterator[Court]:
    for world in embedded():
        founded = found_court(world)
        founded.rule(FALSE.digest, MALLORY.address)
        founded.rule(FALSE_HEADER, MALLORY.address)
        yield founded


def first_votes() -> Attempt:
    """Both votes are good, and of two views."""
    first, second = BALLOTS[5, (TASK, 0)], BALLOTS[6, (TASK, 0)]
    said = tuple((b.block, b.parent_view, b.parent) for b in (first, second))
    signed = tuple(g1_uncompressed(VOTED[b.digest(SETS[TASK, 0])]) for b in (first, second))
    return Attempt("doubleVote", (HONEST, 0, MEMBERS, 5, said, signed))


ATTEMPTS = {"votes": votes(), "proposals": proposals(), "reports": reports(), "statements": statements()}
ATTEMPTS["headers"] = headers()


@given(attempt=st.one_of(*ATTEMPTS.values()))
@example(attempt=first_votes())
def test_nothing_that_another_party_sends_takes_an_honest_stake(court: Court, attempt: Attempt) -> None:
    data = contract("Slashing").call(attempt.function, *attempt.arguments)
    with pytest.raises(ContractRefusedError) as refusal:
        court.world.chain.call(MALLORY.address, court.site.slashing, data)
    assert refusal.value.values["error"] in REFUSALS


def test_the_same_calls_take_a_stake_where_two_things_were_signed(court: Court) -> None:
    """What the test above sends is no nonsense: with one more signature each of the kinds convicts."""
    chain, slashing = court.world.chain, contract("Slashing")
    attempt = first_votes()
    member, epoch, members, view, said, signed = attempt.arguments
    other = ballot(5, 9)
    said = (said[0], (other.block, other.parent_view, other.parent))
    signed = (signed[0], g1_uncompressed(HONEST_BLS.sign(other.digest(SETS[TASK, 0]))))
    chain.call(
        MALLORY.address, court.site.slashing, slashing.call("doubleVote", member, epoch, members, view, said, signed)
    )


def test_what_was_signed_in_two_shards_of_a_round_convicts_nobody(court: Court) -> None:
    """Two sums, vouchers and results of one seat number in one round: of two shards, so no two of one thing."""
    chain, slashing, members = court.world.chain, contract("Slashing"), (HONEST, HONEST_TRAINER)
    results = [(result.digest, g1_uncompressed(HONEST_BLS.sign(result.digest))) for result in RESULTS]
    said = [(sum_.digest, sum_.signature) for sum_ in IN_SHARDS] + [(d, SIGNED[d]) for d in VOUCHERS]
    attempts = [
        Attempt(name, (member, *one))
        for name in ("falseStatement", "withheldData")
        for one in said
        for member in members
    ]
    attempts += [Attempt("falseHeader", (member, *one)) for one in results for member in members]
    digests, signed = zip(*results, strict=True)
    ballots = tuple((digest, 4, digest) for digest in digests)
    attempts.append(Attempt("doubleVote", (HONEST, 0, MEMBERS, 5, ballots, signed)))
    statements_, written = zip(*said[:2], strict=True)
    attempts.append(Attempt("doubleProposal", (HONEST, 0, 7, 3, statements_, written)))
    attempts.append(Attempt("doubleReport", (HONEST_TRAINER, 7, REPORTS[0].terms, statements_, written)))
    refusals = set()
    for attempt in attempts:
        with pytest.raises(ContractRefusedError) as refusal:
            chain.call(MALLORY.address, court.site.slashing, slashing.call(attempt.function, *attempt.arguments))
        refusals.add(refusal.value.values["error"])
    assert refusals == {"NotRefuted", "NotSigned", "WrongRole"}


def test_every_kind_of_evidence_is_tried() -> None:
    """A function that convicts and is not drawn here would be a gap in the statement above."""
    views = {"penalty", "settlement", "registry", "task", "disputes", "availability", "curation", "REWARD"}
    tried = {"doubleVote", "doubleProposal", "doubleReport", "falseHeader", "falseStatement", "withheldData"}
    assert set(contract("Slashing").functions) - views == tried
    drawn: set[str] = set()

    @settings(max_examples=60, database=None)
    @given(attempt=st.one_of(*ATTEMPTS.values()))
    def draw(attempt: Attempt) -> None:
        drawn.add(attempt.function)

    draw()
    assert drawn == tried


@pytest.mark.seeds(quick=2, full=60)
def test_who_answers_in_time_loses_nothing(court: Court, seed: int) -> None:
    """Whatever is demanded of it, at whatever time of its stay."""
    chain, site, random = court.world.chain, court.site, Random(seed)
    with court.world.undone():
        for asked in random.sample(SUMS, len(SUMS)):
            demand_rows(chain, site, MALLORY, asked, rows_digest(asked))
            with refused("AlreadyDemanded"):
                demand_rows(chain, site, MALLORY, asked, rows_digest(asked))
            court.world.advance(random.randrange(ANSWER_S - 10))
            answer_demand(chain, site, ALICE, asked)
        pass_time(court.world, random.randrange(2 * ANSWER_S))
        for asked in SUMS:
            with refused("NotRefuted"):
                report_withheld_data(chain, site, MALLORY, HONEST, asked)
            with refused("AlreadyAnswered"):
                repay_demand(chain, site, MALLORY, asked.digest)
        assert read_member(chain, court.deployment, HONEST).stake == STAKE


def test_a_demand_is_for_the_rows_of_a_key_sum_and_nothing_else(court: Court) -> None:
    """Else a report, a receipt or a block could be asked for, whose preimage nobody could give in that form."""
    chain, site = court.world.chain, court.site
    availability = contract("Availability")
    for asked in SUMS:
        round_, close, seat, digest = asked.round, asked.close, asked.seat, rows_digest(asked)
        call = availability.call("keySumDigest", round_, close, seat, digest)
        assert chain.call(bytes(20), site.availability, call) in {sum_.digest for sum_ in SUMS}
        for changed in ((round_ + 1, close, seat), (round_, hash_fields("x"), seat), (round_, close, seat + 1)):
            call = availability.call("keySumDigest", *changed, digest)
            assert chain.call(bytes(20), site.availability, call) not in SIGNED
    assert replace(SUMS[0], task=OTHER).digest not in SIGNED
