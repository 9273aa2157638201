"""A task, two headers under a checkpoint of its set, and a court; what is wrong in them is the test's choice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np
from _chain_stage import ALICE, CHAIN_ID, DEPLOYER, MALLORY, World

from collegium.consensus import TOTAL_TAG, Header
from collegium.consensus._records import Outcome
from collegium.crypto import AccountKey, BlsSecretKey, Stream, hash_fields, make_certificate
from collegium.learning import ModelSpec, Rule
from collegium.settlement import (
    Chain,
    Checkpoint,
    Court,
    Deployment,
    DisputeMoves,
    DisputeTerms,
    HeaderPlace,
    ModelStepTrace,
    deploy,
    deploy_court,
    header_opening,
    header_proof,
    header_root,
    model_step_trace,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    read_head,
    register_validator,
    step_rule,
)

BOB, CAROL = MALLORY, DEPLOYER
KEYS = [BlsSecretKey.generate(Stream(hash_fields("test-disputes", seat))) for seat in range(4)]
TASK = hash_fields("test-task")
ZERO = bytes(32)
SPEC, RULE, STATISTICS = ModelSpec("mlp", 40, (16,), 1), Rule(feature_limit=4), 4
TERMS = DisputeTerms(
    window_s=1000, join_s=200, clock_s=300, extension_s=30, asks_max=2, bond_base_wei=1000, bond_per_level_wei=10,
    ask_fee_wei=7,
)  # fmt: skip
_RANDOM = np.random.default_rng(5)
BEFORE = (
    _RANDOM.integers(0, 1000, STATISTICS).astype("<i8").tobytes()
    + _RANDOM.integers(-8_192, 8_193, SPEC.parameter_count).astype("<i4").tobytes()
)
TOTAL = TOTAL_TAG + np.append(_RANDOM.integers(-(10**9), 10**9, SPEC.parameter_count), 41).astype("<i8").tobytes()


def header(number: int, previous: bytes, total: bytes, model: bytes, outcome: Outcome = "opened") -> Header:
    return Header(TASK, number, "unproved", previous, ZERO, outcome, (), total, model, (), b"b" * 48, (0,), ())


FIRST = header(0, ZERO, ZERO, sha256(BEFORE).digest())


@cache
def right() -> ModelStepTrace:
    """What the step of round 1 gives."""
    return model_step_trace(SPEC, RULE, STATISTICS, TOTAL, BEFORE, ZERO)


def second(model: bytes | None = None, outcome: Outcome = "opened") -> Header:
    """The header of round 1, right unless another model is given."""
    return header(1, FIRST.digest, sha256(TOTAL).digest(), model or right().made, outcome)


@dataclass(frozen=True)
class Courtroom:
    """A court at the end of a task whose rounds 0 and 1 have these headers under one checkpoint."""

    world: World
    deployment: Deployment
    court: Court
    header: Header
    place: HeaderPlace

    @property
    def chain(self) -> Chain:
        return self.world.chain

    @property
    def opening(self) -> bytes:
        return header_opening(self.header, FIRST)

    @property
    def trace(self) -> ModelStepTrace:
        """What the step of round 1 gives."""
        return model_step_trace(SPEC, RULE, STATISTICS, TOTAL, BEFORE, self.header.model)

    def lie(self, after: bytes) -> ModelStepTrace:
        """A trace whose step gives another state."""
        return ModelStepTrace(step_rule(SPEC, RULE, STATISTICS), TOTAL, BEFORE, after, self.header.model)

    def moves(self, account: AccountKey) -> DisputeMoves:
        return DisputeMoves(self.chain, self.court, account)

    def dispute(self, account: AccountKey = ALICE) -> int:
        return self.moves(account).open(0, self.place, self.opening, self.trace.levels)[0]


def other_state(parameter: int) -> bytes:
    """The right state after the step, with one parameter changed."""
    state = bytearray(right().after)
    state[8 * STATISTICS + 4 * parameter] ^= 1
    return bytes(state)


def checkpointed(world: World, digests: list[bytes]) -> tuple[Deployment, Checkpoint]:
    """A new deployment that has accepted a checkpoint of these headers, from round 0 on."""
    chain = world.chain
    deployment = deploy(chain, DEPLOYER, TASK, stake_min_wei=100, unbonding_s=1000)
    ids = []
    for secret in KEYS:
        context = possession_context(CHAIN_ID, deployment.registry, DEPLOYER.address)
        proof = secret.prove_possession(context)
        ids.append(register_validator(chain, deployment, DEPLOYER, secret.public_key(), proof, 100))
    open_first_epoch(chain, deployment, DEPLOYER, ids)
    previous = read_head(chain, deployment).previous
    checkpoint = Checkpoint(TASK, 0, 0, len(digests) - 1, previous, header_root(digests))
    signatures = {seat: secret.sign(checkpoint.digest) for seat, secret in enumerate(KEYS)}
    post_checkpoint(chain, deployment, DEPLOYER, checkpoint, make_certificate(len(KEYS), signatures))
    return deployment, checkpoint


def settled(world: World, disputed: Header) -> Courtroom:
    """A new deployment that has accepted the checkpoint of both rounds, and its court."""
    digests = [FIRST.digest, disputed.digest]
    deployment, checkpoint = checkpointed(world, digests)
    court = deploy_court(world.chain, deployment, DEPLOYER, step_rule(SPEC, RULE, STATISTICS), TERMS)
    place = HeaderPlace(checkpoint, 1, disputed.digest, header_proof(digests, 1))
    return Courtroom(world, deployment, court, disputed, place)
