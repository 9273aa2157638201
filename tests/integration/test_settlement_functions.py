"""Every function of the contracts that hold or take coin, by the ABI: accepted once, and refused by name.

Those of the contracts in ELSEWHERE have their own tests. What has no refusal is a view, and what is never accepted
would move a token that never moves, or is for another contract to call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import pytest
from _chain_stage import ALICE, CHAIN_ID, DEPLOYER, MALLORY, STREAM, pass_time, refused, worlds
from _money_stage import CHALLENGE_S, DEADLINE_S, ROUNDS, TERMS, Money, header_of, settled_money
from _slashing_stage import (
    ANSWER_S,
    HONEST,
    HONEST_BLS,
    LYING,
    LYING_BLS,
    LYING_TRAINER,
    STAKE,
    UNBONDING_S,
    certify,
    double_proposal,
    double_vote,
    epoch_set,
    key_sum,
    report,
    rows_digest,
)
from eth_abi.abi import encode

from collegium.crypto import AccountKey, BlsSecretKey, g1_uncompressed, g2_uncompressed, hash_fields, keccak256
from collegium.settlement import (
    Due,
    claim_fees,
    claim_reward,
    contract,
    delegate_stake,
    deploy,
    handover_digest,
    header_proof,
    pay_for_version,
    possession_context,
    read_checkpoints,
    report_double_proposal,
    report_double_report,
    report_double_vote,
    report_false_header,
    report_false_statement,
    report_withheld_data,
    transact,
    unbond,
    undelegate_stake,
)
from collegium.settlement._abi import CONTRACTS
from collegium.settlement._deployment import checkpoint_arguments
from collegium.settlement._earnings import _leaves as _lines
from collegium.settlement._payouts import _leaves, _root

ELSEWHERE = {
    "Courts": "test_courts_contract.py",
    "Disputes": "test_disputes_functions.py",
    "Dissections": "test_dissections_functions.py",
    "Machine": "test_dissections_functions.py",
    "ModelStep": "test_disputes_functions.py",
}
DUES = [Due(ALICE.address, 600, 1), Due(MALLORY.address, 400)]
KEY = BlsSecretKey.generate(STREAM)
FALSE = key_sum(1)
ROWS = rows_digest(FALSE)


def abi() -> dict[str, list[dict[str, Any]]]:
    folder = resources.files("collegium.settlement") / "artifacts"
    names = [name for name in CONTRACTS if name not in ELSEWHERE]
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["abi"] for name in names}


def typed(value: dict[str, Any]) -> str:
    inner = value.get("components")
    return value["type"] if inner is None else f"({','.join(map(typed, inner))}){value['type'].removeprefix('tuple')}"


def functions() -> dict[str, dict[str, Any]]:
    """Every function by contract and signature."""
    return {
        f"{name}.{entry['name']}({','.join(map(typed, entry['inputs']))})": entry
        for name, entries in abi().items()
        for entry in entries
        if entry["type"] == "function"
    }


@dataclass(frozen=True)
class Call:
    """A function with arguments, from an account."""

    arguments: Callable[[Money], tuple[Any, ...]]
    sender: AccountKey = DEPLOYER
    value: int = 0


@dataclass(frozen=True)
class Example:
    """One call that is accepted, one that is refused, and what was done before."""

    accepted: Call | None
    refused: Call | None
    error: str = ""
    before: Callable[[Money], object] = lambda money: None


def fixed(*arguments: Any) -> Callable[[Money], tuple[Any, ...]]:
    return lambda money: arguments


def place(money: Money, name: str) -> bytes:
    at = {
        "Registry": money.deployment.registry,
        "Settlement": money.deployment.settlement,
        "Slashing": money.court.site.slashing,
        "Availability": money.court.site.availability,
        "Curation": money.court.site.curation,
        "Licences": money.site.licences,
        "Tasks": money.site.tasks,
        "Rewards": money.site.rewards,
        "Fees": money.site.fees,
    }
    return at[name]


def wait(seconds: int) -> Callable[[Money], None]:
    return lambda money: pass_time(money.world, seconds)


def then(*steps: Callable[[Money], object]) -> Callable[[Money], None]:
    def run(money: Money) -> None:
        for step in steps:
            step(money)

    return run


def certified(digest: bytes) -> tuple[int, bytes]:
    certificate = certify(digest)
    return int.from_bytes(certificate.bitmap, "little"), g1_uncompressed(certificate.signature)


def data_of(act: Callable[..., object], *arguments: object) -> Callable[[Money], tuple[Any, ...]]:
    """The arguments that a client of Python sends, as they are in its call: caught instead of sent."""

    def caught(money: Money) -> tuple[Any, ...]:
        sent: list[bytes] = []

        class Catch:
            def __getattr__(self, name: str) -> Any:
                return getattr(money.world.chain, name)

            def estimate_gas(self, sender: bytes, to: bytes, data: bytes, value: int = 0) -> int:
                sent.append(data)
                raise LookupError

        with pytest.raises(LookupError):
            act(Catch(), money.court.site, ALICE, *arguments)
        return (sent[0],)

    return caught


def registration(money: Money) -> tuple[bytes, bytes]:
    context = possession_context(CHAIN_ID, money.deployment.registry, ALICE.address)
    return g2_uncompressed(KEY.public_key()), g1_uncompressed(KEY.prove_possession(context))


def handover(money: Money, epoch: int) -> tuple[tuple[int, ...], int, bytes]:
    previous = money.world.chain.call(
        bytes(20), money.deployment.settlement, contract("Settlement").call("checkpointBefore", ROUNDS)
    )
    return (HONEST,), *certified(handover_digest(money.deployment.task, epoch, previous, [HONEST_BLS.public_key()]))


def checkpoint(money: Money, epoch: int) -> tuple[Any, ...]:
    settlement = contract("Settlement")
    before = money.world.chain.call(bytes(20), money.deployment.settlement, settlement.call("checkpointBefore", ROUNDS))
    call = settlement.call("checkpointDigest", (epoch, ROUNDS, ROUNDS, before, HEADER))
    digest = money.world.chain.call(bytes(20), money.deployment.settlement, call)
    return epoch, ROUNDS, ROUNDS, HEADER, *certified(digest)


def settled(money: Money, root: bytes) -> tuple[Any, ...]:
    (cp,) = read_checkpoints(money.world.chain, money.deployment)
    digests = [header.digest for header in money.headers[:ROUNDS]]
    return (cp.epoch, cp.first_round, cp.last_round, cp.previous, root), 0, digests[0], tuple(header_proof(digests, 0))


def settled_root(money: Money) -> bytes:
    return read_checkpoints(money.world.chain, money.deployment)[0].root


def fresh(money: Money) -> bytes:
    """The Settlement of another task, whose first epoch is not open."""
    return deploy(money.world.chain, DEPLOYER, hash_fields("fresh"), unbonding_s=UNBONDING_S).settlement


def terms(royalty: int) -> tuple[Any, ...]:
    return TERMS.model, TERMS.rule, TERMS.privacy, bytes(20), 1, DEADLINE_S, 4, royalty, 0, 3


def taken(money: Money) -> None:
    money.take_over(read_checkpoints(money.world.chain, money.deployment)[0])


def claimed(money: Money) -> None:
    taken(money)
    claim_reward(money.world.chain, money.site, MALLORY, money.deployment, DUES, 0)


def last_header(money: Money, rewards: bytes | None = None) -> tuple[Any, ...]:
    """What takes over the header of the last settled round, or one that says something else."""
    header = money.headers[ROUNDS - 1]
    opening = (header if rewards is None else replace(header, rewards=rewards)).preimage
    return money.deployment.settlement, opening, in_place(money, ROUNDS - 1)


def in_place(money: Money, number: int) -> tuple[Any, ...]:
    settled = read_checkpoints(money.world.chain, money.deployment)[number // ROUNDS]
    return checkpoint_arguments(settled), money.place(settled, number).siblings


def moved(money: Money) -> None:
    """Settle a header of another round than its place says."""
    money.headers[:] = [*money.headers[:ROUNDS], header_of(ROUNDS + 7, money.headers[ROUNDS - 1].digest, bytes(32))]
    money.post(ROUNDS)


def exposed(number: int) -> Callable[[Money], tuple[Any, ...]]:
    def arguments(money: Money) -> tuple[Any, ...]:
        before = (money.headers[number - 1].digest, in_place(money, number - 1))
        shown = (money.headers[number].preimage, in_place(money, number))
        return money.deployment.settlement, number, *shown, *before

    return arguments


def version(money: Money) -> bytes:
    return money.version_digest(hash_fields("version", 1), DUES)


def sold(money: Money) -> None:
    money.register(1, DUES)
    pass_time(money.world, CHALLENGE_S)
    pay_for_version(money.world.chain, money.site, DEPLOYER, version(money), 1000)


def earned(money: Money) -> None:
    sold(money)
    claim_fees(money.world.chain, money.site, DEPLOYER, version(money), DUES, 1)


def answered(money: Money) -> tuple[Any, ...]:
    return FALSE.round, FALSE.close, FALSE.seat, FALSE.rows.astype("<u8").tobytes()


def demanded(money: Money) -> None:
    call = contract("Availability").call("demand", FALSE.round, FALSE.close, FALSE.seat, ROWS)
    transact(money.world.chain, ALICE, money.court.site.availability, call, value=1000)


def repaid(money: Money) -> None:
    demanded(money)
    pass_time(money.world, ANSWER_S + 1)
    transact(
        money.world.chain, ALICE, money.court.site.availability, contract("Availability").call("repay", FALSE.digest)
    )


def left(money: Money) -> None:
    unbond(money.world.chain, money.deployment, MALLORY, LYING_TRAINER)


def slashed(money: Money) -> None:
    report_double_vote(money.world.chain, money.court.site, ALICE, LYING, epoch_set(), double_vote())


def backed(money: Money) -> None:
    delegate_stake(money.world.chain, money.court.site, DEPLOYER, LYING_TRAINER, 1000)


def backing_left(money: Money) -> None:
    backed(money)
    undelegate_stake(money.world.chain, money.court.site, DEPLOYER, LYING_TRAINER)
    pass_time(money.world, UNBONDING_S)


def backing_slashed(money: Money) -> None:
    backed(money)
    report_double_report(money.world.chain, money.court.site, ALICE, LYING_TRAINER, report(1), report(2))


def reward_claim(index: int) -> Callable[[Money], tuple[Any, ...]]:
    """The line at 0, said to stand at `index`."""
    proof = tuple(header_proof(_lines(DUES), 0))
    return lambda money: (money.deployment.settlement, index, DUES[0].account, 600, 1, proof)


def fee_claim(weight: int) -> Callable[[Money], tuple[Any, ...]]:
    proof = tuple(header_proof(_leaves(DUES), 0))
    return lambda money: (version(money), 0, DUES[0].account, weight, 1, proof)


def fee_register(weight: int) -> Callable[[Money], tuple[Any, ...]]:
    def arguments(money: Money) -> tuple[Any, ...]:
        fields = (hash_fields("version", 1), bytes(32), _root(DUES), 2, weight)
        return money.deployment.settlement, *fields, *certified(version(money))

    return arguments


def at(name: str, *rest: Any) -> Callable[[Money], tuple[Any, ...]]:
    return lambda money: (place(money, name), *rest)


HEADER = hash_fields("header")
NO_TASK = fixed(ALICE.address)
GOOD_SUM = fixed(LYING, FALSE.digest, FALSE.signature)
COLLECT_REFUSED = Call(fixed(bytes(20)))
LICENCE = (hash_fields("rows"), hash_fields("text"))

EXAMPLES: dict[str, Example] = {
    # Registry
    "Registry.register": Example(
        Call(registration, ALICE, STAKE), Call(registration, ALICE, STAKE - 1), "StakeTooSmall"
    ),
    "Registry.enrol": Example(
        Call(fixed(1, KEY32 := bytes([7]) * 32), ALICE, STAKE), Call(fixed(0, KEY32), ALICE, STAKE), "ValidatorNeedsKey"
    ),
    "Registry.setEncryptionKey": Example(
        Call(fixed(HONEST, KEY32), ALICE), Call(fixed(HONEST, bytes(32)), ALICE), "EmptyEncryptionKey"
    ),
    "Registry.raiseStake": Example(Call(fixed(HONEST, 5), ALICE, 5), Call(fixed(HONEST, 5), ALICE, 4), "WrongValue"),
    "Registry.unbond": Example(Call(fixed(LYING_TRAINER), MALLORY), Call(fixed(LYING_TRAINER), ALICE), "NotTheAccount"),
    "Registry.withdraw": Example(
        Call(fixed(LYING_TRAINER), MALLORY), Call(fixed(HONEST), ALICE), "NotUnbonding", then(left, wait(UNBONDING_S))
    ),
    "Registry.collect": Example(Call(fixed(ALICE.address)), COLLECT_REFUSED, "NothingOwed", slashed),
    "Registry.seat": Example(None, Call(fixed((0, 1))), "NotTheSettlement"),
    "Registry.slash": Example(None, Call(fixed(0, 1, 1, bytes(20))), "NotTheSlashing"),
    "Registry.bondedKey": Example(Call(fixed(HONEST)), Call(fixed(LYING_TRAINER)), "NotAValidator"),
    "Registry.member": Example(Call(fixed(3)), Call(fixed(4)), "UnknownMember"),
    "Registry.possessionDigest": Example(
        Call(fixed(bytes(20), g2_uncompressed(KEY.public_key()))),
        Call(fixed(bytes(20), bytes(191))),
        "InvalidPointLength",
    ),
    "Registry.owed": Example(Call(NO_TASK), None),
    # Settlement
    "Settlement.openFirstEpoch": Example(None, Call(fixed((0,))), "FirstEpochAlreadyOpen"),
    "Settlement.openEpoch": Example(
        Call(lambda m: handover(m, 1)), Call(lambda m: handover(m, 2)), "InvalidCertificate"
    ),
    "Settlement.checkpoint": Example(Call(lambda m: checkpoint(m, 0)), Call(lambda m: checkpoint(m, 1)), "WrongEpoch"),
    "Settlement.checkpointBefore": Example(Call(fixed(ROUNDS)), None),
    "Settlement.checkpointDigest": Example(Call(fixed((0, 0, 0, bytes(32), bytes(32)))), None),
    "Settlement.handoverDigest": Example(Call(fixed((0, 1))), Call(fixed((0, 0))), "RepeatedValidator"),
    "Settlement.includesHeader": Example(
        Call(lambda m: settled(m, settled_root(m))), Call(lambda m: settled(m, HEADER)), "UnknownCheckpoint"
    ),
    "Settlement.requireCertificate": Example(
        Call(fixed(HEADER, *certified(HEADER))), Call(fixed(FALSE.digest, *certified(HEADER))), "InvalidCertificate"
    ),
    # Slashing
    "Slashing.doubleVote": Example(
        Call(data_of(report_double_vote, LYING, epoch_set(), double_vote())),
        Call(data_of(report_double_vote, HONEST, epoch_set(), double_vote())),
        "NotSigned",
    ),
    "Slashing.doubleProposal": Example(
        Call(data_of(report_double_proposal, LYING, double_proposal())),
        Call(data_of(report_double_proposal, HONEST, double_proposal())),
        "NotSigned",
    ),
    "Slashing.doubleReport": Example(
        Call(data_of(report_double_report, LYING_TRAINER, report(1), report(2))),
        Call(data_of(report_double_report, LYING_TRAINER, report(1), report(1))),
        "NoConflict",
    ),
    "Slashing.falseStatement": Example(
        Call(data_of(report_false_statement, LYING, FALSE.digest, FALSE.signature)),
        Call(data_of(report_false_statement, LYING, HEADER, MALLORY.sign(HEADER))),
        "NotRefuted",
        lambda m: m.court.rule(FALSE.digest, ALICE.address),
    ),
    "Slashing.falseHeader": Example(
        Call(data_of(report_false_header, LYING, HEADER, LYING_BLS.sign(HEADER))),
        Call(data_of(report_false_header, HONEST, HEADER, LYING_BLS.sign(HEADER))),
        "NotSigned",
        lambda m: m.court.rule(HEADER, ALICE.address),
    ),
    "Slashing.withheldData": Example(
        Call(data_of(report_withheld_data, LYING, FALSE)),
        Call(data_of(report_withheld_data, LYING, key_sum(2))),
        "NotRefuted",
        then(demanded, wait(ANSWER_S + 1)),
    ),
    "Slashing.penalty": Example(Call(fixed(0)), None),
    # Availability
    "Availability.demand": Example(
        Call(fixed(7, HEADER, 3, ROWS), value=1000), Call(fixed(7, HEADER, 3, ROWS), value=999), "WrongValue"
    ),
    "Availability.answer": Example(Call(answered), Call(fixed(7, HEADER, 3, b"other rows")), "NotDemanded", demanded),
    "Availability.repay": Example(
        Call(fixed(FALSE.digest)), Call(fixed(HEADER)), "NotDemanded", then(demanded, wait(ANSWER_S + 1))
    ),
    "Availability.collect": Example(Call(fixed(ALICE.address)), COLLECT_REFUSED, "NothingOwed", repaid),
    "Availability.refuter": Example(Call(fixed(HEADER)), None),
    "Availability.keySumDigest": Example(Call(fixed(7, HEADER, 3, ROWS)), None),
    "Availability.owed": Example(Call(NO_TASK), None),
    # Curation
    "Curation.delegate": Example(Call(fixed(LYING_TRAINER, 9), value=9), Call(fixed(LYING, 9), value=9), "NotATrainer"),
    "Curation.undelegate": Example(
        Call(fixed(LYING_TRAINER)), Call(fixed(LYING_TRAINER), ALICE), "NothingDelegated", backed
    ),
    "Curation.withdraw": Example(
        Call(fixed(LYING_TRAINER)), Call(fixed(LYING_TRAINER), ALICE), "NotLeaving", backing_left
    ),
    "Curation.slash": Example(None, Call(fixed(LYING_TRAINER, 1, 1, bytes(20))), "NotTheSlashing"),
    "Curation.collect": Example(Call(fixed(ALICE.address)), COLLECT_REFUSED, "NothingOwed", backing_slashed),
    "Curation.pool": Example(Call(fixed(LYING_TRAINER)), None),
    "Curation.delegation": Example(Call(fixed(LYING_TRAINER, bytes(20))), None),
    "Curation.owed": Example(Call(NO_TASK), None),
    # Licences
    "Licences.issue": Example(
        Call(fixed(*LICENCE, b"FR", 0, ((ALICE.address, 10_000),))),
        Call(fixed(*LICENCE, b"FR", 0, ((ALICE.address, 10_001),))),
        "SharesTooLarge",
    ),
    "Licences.revoke": Example(Call(fixed(1), ALICE), Call(fixed(1), MALLORY), "NotTheHolder"),
    "Licences.licence": Example(Call(fixed(1)), Call(fixed(2)), "ERC721NonexistentToken"),
    "Licences.shares": Example(Call(fixed(1)), Call(fixed(0)), "ERC721NonexistentToken"),
    "Licences.locked": Example(Call(fixed(1)), Call(fixed(2)), "ERC721NonexistentToken"),
    "Licences.ownerOf": Example(Call(fixed(1)), Call(fixed(2)), "ERC721NonexistentToken"),
    "Licences.getApproved": Example(Call(fixed(1)), Call(fixed(2)), "ERC721NonexistentToken"),
    "Licences.tokenURI": Example(Call(fixed(1)), Call(fixed(2)), "ERC721NonexistentToken"),
    "Licences.balanceOf": Example(Call(NO_TASK), Call(fixed(bytes(20))), "ERC721InvalidOwner"),
    "Licences.isApprovedForAll": Example(Call(fixed(bytes(20), bytes(20))), None),
    "Licences.supportsInterface": Example(Call(fixed(bytes.fromhex("b45a3c0e"))), None),
    "Licences.approve": Example(None, Call(fixed(MALLORY.address, 1), ALICE), "Soulbound"),
    "Licences.setApprovalForAll": Example(None, Call(fixed(MALLORY.address, True), ALICE), "Soulbound"),
    "Licences.transferFrom": Example(None, Call(fixed(ALICE.address, MALLORY.address, 1), ALICE), "Soulbound"),
    "Licences.safeTransferFrom(address,address,uint256)": Example(
        None, Call(fixed(ALICE.address, MALLORY.address, 1), ALICE), "Soulbound"
    ),
    "Licences.safeTransferFrom(address,address,uint256,bytes)": Example(
        None, Call(fixed(ALICE.address, MALLORY.address, 1, b""), ALICE), "Soulbound"
    ),
    # Tasks
    "Tasks.post": Example(
        Call(lambda m: (fresh(m), terms(5000), (HEADER,))),
        Call(lambda m: (fresh(m), terms(5001), (HEADER,))),
        "ShareTooLarge",
    ),
    "Tasks.task": Example(Call(at("Settlement")), Call(NO_TASK), "UnknownTask"),
    "Tasks.shardRoots": Example(Call(at("Settlement")), Call(NO_TASK), "UnknownTask"),
    "Tasks.admits": Example(Call(at("Settlement", 1)), Call(at("Settlement", 2)), "ERC721NonexistentToken"),
    # Rewards
    "Rewards.fund": Example(Call(at("Settlement", 7), value=7), Call(at("Settlement", 7), value=8), "WrongValue"),
    "Rewards.settle": Example(Call(last_header), Call(lambda m: last_header(m, HEADER)), "HeaderNotIncluded"),
    "Rewards.expose": Example(Call(exposed(ROUNDS)), Call(exposed(ROUNDS - 1)), "Follows", moved),
    "Rewards.claim": Example(Call(reward_claim(0)), Call(reward_claim(1)), "NotEarned", taken),
    "Rewards.reclaim": Example(Call(at("Settlement")), Call(NO_TASK), "UnknownTask", wait(2 * 100_000)),
    "Rewards.collect": Example(Call(fixed(ALICE.address)), COLLECT_REFUSED, "NothingOwed", claimed),
    "Rewards.budget": Example(Call(NO_TASK), None),
    "Rewards.paidOn": Example(Call(at("Settlement", 0)), None),
    "Rewards.owed": Example(Call(NO_TASK), None),
    # Fees
    "Fees.register": Example(Call(fee_register(1000)), Call(fee_register(1001)), "InvalidCertificate"),
    "Fees.pay": Example(
        Call(lambda m: (version(m), 9, HEADER), value=9),
        Call(lambda m: (HEADER, 9, HEADER), value=9),
        "UnknownVersion",
        sold,
    ),
    "Fees.claim": Example(Call(fee_claim(600)), Call(fee_claim(601)), "NotInList", sold),
    "Fees.collect": Example(Call(fixed(MALLORY.address)), COLLECT_REFUSED, "NothingOwed", earned),
    "Fees.version": Example(Call(lambda m: (version(m),)), Call(fixed(HEADER)), "UnknownVersion", sold),
    "Fees.versionDigest": Example(Call(at("Settlement", HEADER, HEADER, HEADER, 1, 1)), None),
    "Fees.owed": Example(Call(NO_TASK), None),
}

# What nobody but another contract, or nobody at all, can have accepted once a task is founded.
NEVER_ACCEPTED = {
    "Registry.seat": "test_a_set_settles_checkpoints_and_names_the_next_set does it through Settlement",
    "Registry.slash": "test_two_votes_in_one_view_cost_the_whole_stake_and_once does it through Slashing",
    "Curation.slash": "test_curators_lose_with_their_trainer_in_proportion does it through Slashing",
    "Settlement.openFirstEpoch": "the stage has done it",
    **{
        f"Licences.{name}": "a licence never moves"
        for name in (
            "approve",
            "setApprovalForAll",
            "transferFrom",
            "safeTransferFrom(address,address,uint256)",
            "safeTransferFrom(address,address,uint256,bytes)",
        )
    },
}


def example_of(name: str) -> Example | None:
    return EXAMPLES.get(name) or EXAMPLES.get(name.partition("(")[0])


@pytest.fixture(scope="module", params=["embedded", pytest.param("osaka", marks=[pytest.mark.node, pytest.mark.slow])])
def founded(request: pytest.FixtureRequest) -> Iterator[Money]:
    for world in worlds(request.param):
        yield settled_money(world, DUES)


@pytest.fixture
def money(founded: Money) -> Iterator[Money]:
    with founded.undone():
        yield founded


def test_every_function_has_an_example_and_those_without_a_refusal_are_views() -> None:
    found = functions()
    constants = {name for name, entry in found.items() if not entry["inputs"] and entry["stateMutability"] == "view"}
    missing = [name for name in found if name not in constants and example_of(name) is None]
    assert missing == []
    assert set(EXAMPLES) <= {*found, *(name.partition("(")[0] for name in found)}
    for name in set(found) - constants:
        example = example_of(name)
        assert example is not None
        if example.refused is None:
            assert found[name]["stateMutability"] in {"view", "pure"}, name
        if example.accepted is None:
            assert name in NEVER_ACCEPTED or name.partition("(")[0] in NEVER_ACCEPTED, name


def test_every_error_of_an_example_is_one_that_a_contract_declares() -> None:
    declared = {entry["name"] for entries in abi().values() for entry in entries if entry["type"] == "error"}
    assert {example.error for example in EXAMPLES.values() if example.refused is not None} <= declared


def make(money: Money, name: str, entry: dict[str, Any], call: Call) -> None:
    """Call a function: with a transaction, unless it only looks."""
    arguments = call.arguments(money)
    signature = name.partition(".")[2]
    selector = keccak256(signature.encode())[:4]
    if len(arguments) == 1 and isinstance(arguments[0], bytes) and arguments[0][:4] == selector:
        data = arguments[0]
    else:
        data = selector + encode([typed(value) for value in entry["inputs"]], arguments)
    address = place(money, name.partition(".")[0])
    if entry["stateMutability"] in {"view", "pure"}:
        money.world.chain.call(call.sender.address, address, data)
    else:
        transact(money.world.chain, call.sender, address, data, value=call.value)


@pytest.mark.parametrize("name", sorted(functions()))
def test_a_function_is_accepted_once_and_refused_by_name(money: Money, name: str) -> None:
    entry = functions()[name]
    example = example_of(name) or Example(Call(fixed()), None)
    example.before(money)
    if example.refused is not None:
        with refused(example.error):
            make(money, name, entry, example.refused)
    if example.accepted is not None:
        make(money, name, entry, example.accepted)
