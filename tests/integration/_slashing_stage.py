"""A task whose stakes can be taken: an honest and a lying member of each kind, and what they sign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from _chain_stage import ALICE, CHAIN_ID, DEPLOYER, MALLORY, STREAM, World

from collegium import algebra
from collegium.aggregation import KEY_CODE, KeySum, Report
from collegium.commitment import ColumnRange
from collegium.consensus import Ballot, BlockEquivocation, EpochSet, SignedHeader, Validator, Vote, VoteEquivocation
from collegium.consensus import ValidatorIndex as Index
from collegium.crypto import AccountKey, BlsSecretKey, Certificate, SealKey, hash_fields, make_certificate
from collegium.settlement import (
    Contract,
    Deployment,
    Role,
    SlashingSite,
    enrol,
    found_slashing,
    open_first_epoch,
    possession_context,
    register_validator,
    transact,
)
from collegium.settlement._abi import read_artifact

TASK = hash_fields("test-task")
STAKE = 10**6
UNBONDING_S = 10**6
BOND = 1000
ANSWER_S = 24 * 3600
DATA = Path(__file__).parents[1] / "data" / "contracts"
HONEST_BLS, LYING_BLS = (BlsSecretKey.generate(STREAM) for _ in range(2))

# Members of the registry: number and account.
HONEST, LYING = 0, 1
HONEST_TRAINER, LYING_TRAINER = 2, 3


def artifact(name: str) -> Contract:
    """A contract that only tests deploy."""
    return read_artifact(name, (DATA / f"{name}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Court:
    """The contracts, on a chain."""

    world: World
    deployment: Deployment
    site: SlashingSite

    def rule(self, statement: bytes, winner: bytes) -> None:
        """Have the disputes' stand-in say that `winner` showed a statement false."""
        transact(self.world.chain, DEPLOYER, self.site.disputes, artifact("TestCourt").call("rule", statement, winner))


def found_court(
    world: World, task: bytes = TASK, before_opening: Callable[[Deployment, bytes], None] = lambda *_: None
) -> Court:
    """Found a task, with its first epoch open; before that `before_opening` gets the deployment and the court."""
    chain = world.chain

    def disputes(_: Deployment) -> bytes:
        address = transact(chain, DEPLOYER, None, artifact("TestCourt").creation()).contract
        assert address is not None
        return address

    deployment, site = found_slashing(
        chain,
        DEPLOYER,
        task,
        stake_min_wei=STAKE,
        unbonding_s=UNBONDING_S,
        bond_wei=BOND,
        answer_s=ANSWER_S,
        found_disputes=disputes,
    )
    for account, secret in ((ALICE, HONEST_BLS), (MALLORY, LYING_BLS)):
        proof = secret.prove_possession(possession_context(CHAIN_ID, deployment.registry, account.address))
        register_validator(chain, deployment, account, secret.public_key(), proof, STAKE)
    for account in (ALICE, MALLORY):
        enrol(chain, deployment, account, Role.TRAINER, SealKey.generate(STREAM).public_bytes, STAKE)
    before_opening(deployment, site.disputes)
    open_first_epoch(chain, deployment, DEPLOYER, (HONEST, LYING))
    return Court(world, deployment, site)


def certify(digest: bytes) -> Certificate:
    """Both members of the set in office sign."""
    return make_certificate(2, {HONEST: HONEST_BLS.sign(digest), LYING: LYING_BLS.sign(digest)})


def epoch_set(task: bytes = TASK, epoch: int = 0, stake: int = STAKE) -> EpochSet:
    validators = tuple(
        Validator(Index(index), secret.public_key().data, account.address, stake)
        for index, (account, secret) in enumerate(((ALICE, HONEST_BLS), (MALLORY, LYING_BLS)))
    )
    return EpochSet(task, epoch, validators)


def ballot(view: int, name: int) -> Ballot:
    return Ballot(view, hash_fields("test-block", name), view - 1, hash_fields("test-parent", view))


def vote(said: Ballot, secret: BlsSecretKey = LYING_BLS, of: EpochSet | None = None) -> Vote:
    return Vote(said, 0, secret.sign(said.digest(of or epoch_set())))


def double_vote(secret: BlsSecretKey = LYING_BLS, view: int = 5, of: EpochSet | None = None) -> VoteEquivocation:
    return VoteEquivocation(vote(ballot(view, 1), secret, of), vote(ballot(view, 2), secret, of))


def signed_header(
    name: int, account: AccountKey = MALLORY, *, task: bytes = TASK, epoch: int = 0, view: int = 5, author: int = 1
) -> SignedHeader:
    unsigned = SignedHeader(task, epoch, view, author, hash_fields("test-body", name), bytes(65))
    return replace(unsigned, signature=account.sign(unsigned.digest))


def double_proposal(account: AccountKey = MALLORY) -> BlockEquivocation:
    return BlockEquivocation(signed_header(1, account), signed_header(2, account))


def report(name: int, account: AccountKey = MALLORY, **changes: Any) -> Report:
    """A report in every field but what only its contents would tell."""
    words = [hash_fields("test-field", name, place) for place in range(6)]
    unsigned = Report(
        task=TASK,
        round=7,
        trainer=account.address,
        terms=hash_fields("test-terms"),
        ciphertext=words[0],
        committee_root=words[1],
        audit_root=words[2],
        proof=words[3],
        registration=words[4],
        boxes=(words[5],) * 16,
        combination=np.zeros((2, KEY_CODE.degree_bound), dtype=np.uint64),
        audit=ColumnRange(np.zeros((1, 6), dtype=np.uint64), bytes(16), b""),
        signature=b"",
        staleness=1,
    )
    made = replace(unsigned, **changes)
    return replace(made, signature=account.sign(made.id))


def key_sum(name: int, account: AccountKey = MALLORY, rows: Sequence[Sequence[int]] = ((1, 2, 3, 4),)) -> KeySum:
    numbers = np.array(rows, dtype=np.uint64)
    unsigned = KeySum(TASK, 7, hash_fields("test-close", name), 3, numbers, b"")
    return replace(unsigned, signature=account.sign(unsigned.digest))


def rows_digest(of: KeySum) -> bytes:
    return sha256(algebra.to_bytes(of.rows.reshape(-1))).digest()


def framed(*fields: bytes | int) -> bytes:
    """Fields as the protocol's hash takes them."""
    whole = (field.to_bytes(8, "little") if isinstance(field, int) else field for field in fields)
    return b"".join(len(field).to_bytes(8, "little") + field for field in whole)


def members_of(epoch_set: EpochSet) -> bytes:
    """What the digest of an epoch set hashes after task and epoch."""
    return framed(*(f for v in epoch_set.validators for f in (v.bls_key, v.account, v.stake)))
