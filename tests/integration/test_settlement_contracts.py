"""The contracts on every chain they run on: each function accepted once, and refused by name after a small change.

The embedded chain, at Prague, always; anvil at Osaka where the Node packages are installed, and with
`COLLEGIUM_FULL=1` at Prague too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from _chain_stage import ALICE, CHAIN_ID, CHAINS, DEPLOYER, MALLORY, STREAM, World, pass_time, refused, worlds
from py_arkworks_bls12381 import G1Point, G2Point

from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    Certificate,
    g1_uncompressed,
    g2_uncompressed,
    hash_fields,
    make_certificate,
)
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    Checkpoint,
    CheckpointOrderError,
    ContractRefusedError,
    Deployment,
    Member,
    Role,
    TransactionFailedError,
    attach,
    contract,
    deploy,
    handover_digest,
    header_proof,
    header_root,
    includes_header,
    open_epoch,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    read_checkpoints,
    read_head,
    read_member,
    register_validator,
    transact,
    unbond,
    withdraw,
)

STAKE = 100
UNBONDING_S = 1000
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
P = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
KEYS = [BlsSecretKey.generate(STREAM) for _ in range(8)]
TASK = hash_fields("test-task")
HEADERS = [hash_fields("test-header", index) for index in range(5)]


@dataclass(frozen=True)
class Town:
    """A deployment with validators 0 to n - 1; those at `ids` sit in the open set."""

    world: World
    deployment: Deployment
    secrets: tuple[BlsSecretKey, ...]
    ids: tuple[int, ...]

    @property
    def chain(self) -> Chain:
        return self.world.chain

    def certify(self, digest: bytes, seats: Sequence[int] | None = None) -> Certificate:
        signers = range(len(self.ids)) if seats is None else seats
        return make_certificate(len(self.ids), {seat: self.secrets[self.ids[seat]].sign(digest) for seat in signers})

    def next_checkpoint(self, rounds: int = 5) -> Checkpoint:
        head = read_head(self.chain, self.deployment)
        last = head.next_round + rounds - 1
        return Checkpoint(TASK, head.epoch, head.next_round, last, head.previous, header_root(HEADERS[:rounds]))


@pytest.fixture(scope="module", params=CHAINS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from worlds(request.param)


def found(world: World, secrets: Sequence[BlsSecretKey], ids: Sequence[int], task: bytes = TASK) -> Town:
    """A new deployment whose first epoch is open, unless `ids` is empty."""
    deployment = deploy(world.chain, DEPLOYER, task, stake_min_wei=STAKE, unbonding_s=UNBONDING_S)
    for index, secret in enumerate(secrets):
        assert register(world, deployment, ALICE, secret) == index
    if ids:
        open_first_epoch(world.chain, deployment, DEPLOYER, ids)
    return Town(world, deployment, tuple(secrets), tuple(ids))


def register(world: World, deployment: Deployment, account: AccountKey, secret: BlsSecretKey) -> int:
    context = possession_context(CHAIN_ID, deployment.registry, account.address)
    proof = secret.prove_possession(context)
    return register_validator(world.chain, deployment, account, secret.public_key(), proof, STAKE)


@pytest.fixture(scope="module")
def town(world: World) -> Town:
    """Four validators and one without a seat; the tests that use it are refused, so it stays as it is."""
    return found(world, KEYS[:5], (2, 0, 3, 1))


# --- the whole way, accepted ---


def test_a_set_settles_checkpoints_and_names_the_next_set(world: World) -> None:
    town = found(world, KEYS[:5], (2, 0, 3, 1))
    deployment = town.deployment
    assert attach(world.chain, deployment.settlement, deployment.block) == deployment

    first = town.next_checkpoint()
    receipt = post_checkpoint(world.chain, deployment, MALLORY, first, town.certify(first.digest))
    second = town.next_checkpoint(rounds=1)
    post_checkpoint(world.chain, deployment, MALLORY, second, town.certify(second.digest, (0, 2, 3)))

    after = replace(town, ids=(4, 0, 1, 2))
    keys = [KEYS[index].public_key() for index in after.ids]
    certificate = town.certify(handover_digest(TASK, 1, second.digest, keys))
    open_epoch(world.chain, deployment, MALLORY, after.ids, certificate)
    third = after.next_checkpoint()
    post_checkpoint(world.chain, deployment, MALLORY, third, after.certify(third.digest))

    assert (first.first_round, second.first_round, third.first_round) == (0, 5, 6)
    assert third.epoch == 1
    assert read_checkpoints(world.chain, deployment) == (first, second, third)
    assert receipt.calldata_bytes == 4 + 8 * 32 + 64
    assert receipt.gas < 200_000


def test_every_header_of_a_checkpoint_is_included_and_no_other(world: World) -> None:
    town = found(world, KEYS[:1], (0,))
    post_checkpoint(world.chain, town.deployment, ALICE, cp := town.next_checkpoint(), town.certify(cp.digest))
    for index, header in enumerate(HEADERS):
        proof = header_proof(HEADERS, index)
        assert includes_header(world.chain, town.deployment, cp, index, header, proof)
        assert not includes_header(world.chain, town.deployment, cp, index, HEADERS[index - 1], proof)
        assert not includes_header(world.chain, town.deployment, cp, (index + 1) % 5, header, proof)
    proof = header_proof(HEADERS, 0)
    with refused("UnknownCheckpoint"):
        includes_header(world.chain, town.deployment, replace(cp, root=HEADERS[0]), 0, HEADERS[0], proof)
    with refused("RoundOutsideCheckpoint"):
        includes_header(world.chain, town.deployment, cp, 5, bytes(32), proof)
    with refused("WrongProofLength"):
        includes_header(world.chain, town.deployment, cp, 0, HEADERS[0], proof[:2])


def test_one_certificate_settles_on_two_deployments_of_a_task(world: World) -> None:
    here, there = found(world, KEYS[:4], (0, 1, 2, 3)), found(world, KEYS[3::-1], (3, 2, 1, 0))
    checkpoint = here.next_checkpoint()
    certificate = here.certify(checkpoint.digest)
    for deployment in (here.deployment, there.deployment):
        post_checkpoint(world.chain, deployment, MALLORY, checkpoint, certificate)


# --- leaving ---


def hand_over(town: Town, ids: Sequence[int]) -> Town:
    """The town after its set was followed by the set of these validators."""
    keys = [town.secrets[index].public_key() for index in ids]
    epoch = read_head(town.chain, town.deployment).epoch + 1
    certificate = town.certify(handover_digest(TASK, epoch, NO_CHECKPOINT, keys))
    open_epoch(town.chain, town.deployment, MALLORY, ids, certificate)
    return replace(town, ids=tuple(ids))


def test_a_stake_without_a_seat_comes_back_after_the_delay_and_once(world: World) -> None:
    town = found(world, KEYS[:5], (0, 1, 2, 3))
    chain, deployment = world.chain, town.deployment
    with refused("NotUnbonding"):
        withdraw(chain, deployment, ALICE, 4)
    end_s = unbond(chain, deployment, ALICE, 4)
    assert end_s == chain.timestamp_s() + UNBONDING_S
    with refused("AlreadyUnbonding"):
        unbond(chain, deployment, ALICE, 4)
    pass_time(world, UNBONDING_S // 2)
    with refused("StillUnbonding"):
        withdraw(chain, deployment, ALICE, 4)
    pass_time(world, UNBONDING_S)
    before = chain.balance(deployment.registry)
    assert withdraw(chain, deployment, ALICE, 4) == STAKE
    assert chain.balance(deployment.registry) == before - STAKE
    with refused("NothingToWithdraw"):
        withdraw(chain, deployment, ALICE, 4)


def test_the_delay_counts_from_leaving_the_last_set(world: World) -> None:
    """However long ago it unbonded: a set that was relieved can be called to account for the whole delay."""
    town = found(world, KEYS[:5], (0, 1, 2, 3))
    unbond(world.chain, town.deployment, ALICE, 3)
    pass_time(world, 3 * UNBONDING_S)
    with refused("InCurrentEpoch"):
        withdraw(world.chain, town.deployment, ALICE, 3)

    town = hand_over(town, (0, 1, 2))
    left_s = world.chain.timestamp_s()
    town = hand_over(town, (0, 1, 4))  # one epoch more does not end the delay, nor does it start again
    pass_time(world, UNBONDING_S // 2)
    with pytest.raises(ContractRefusedError) as refusal:
        withdraw(world.chain, town.deployment, ALICE, 3)
    assert refusal.value.values == {"error": "StillUnbonding", "arguments": (3, left_s + UNBONDING_S)}
    pass_time(world, UNBONDING_S)
    assert withdraw(world.chain, town.deployment, ALICE, 3) == STAKE


def test_the_delay_counts_from_unbonding_after_the_last_seat(world: World) -> None:
    town = hand_over(found(world, KEYS[:5], (0, 1, 2, 3)), (0, 1, 2))
    pass_time(world, 3 * UNBONDING_S)
    end_s = unbond(world.chain, town.deployment, ALICE, 3)
    with pytest.raises(ContractRefusedError) as refusal:
        withdraw(world.chain, town.deployment, ALICE, 3)
    assert refusal.value.values == {"error": "StillUnbonding", "arguments": (3, end_s)}
    pass_time(world, UNBONDING_S)
    assert withdraw(world.chain, town.deployment, ALICE, 3) == STAKE


def test_unbonding_at_the_last_moment_does_not_stop_a_handover(world: World) -> None:
    """The set was signed, then a member of it unbonds: it is seated, and stays bound until it has left."""
    town = found(world, KEYS[:5], (0, 1, 2, 3))
    unbond(world.chain, town.deployment, ALICE, 4)
    town = hand_over(town, (4, 0, 1, 2))
    pass_time(world, UNBONDING_S)
    with refused("InCurrentEpoch"):
        withdraw(world.chain, town.deployment, ALICE, 4)
    town = hand_over(town, (0, 1, 2, 3))
    with refused("StillUnbonding"):
        withdraw(world.chain, town.deployment, ALICE, 4)


def test_a_member_that_may_withdraw_cannot_be_seated_and_withdrawing_changes_nothing(world: World) -> None:
    """So the last moment at which a set can be opened is known from the moment its members unbonded."""
    town = found(world, KEYS[:5], (0, 1, 2, 3))
    unbond(world.chain, town.deployment, ALICE, 4)
    pass_time(world, UNBONDING_S)
    with refused("NotBonded"):
        hand_over(town, (4, 0, 1, 2))
    withdraw(world.chain, town.deployment, ALICE, 4)
    with refused("NotBonded"):
        hand_over(town, (4, 0, 1, 2))
    hand_over(town, (3, 0, 1, 2))  # the set in office signs another


def test_a_member_that_unbonded_long_ago_can_be_seated_again_while_it_is_bound(world: World) -> None:
    town = found(world, KEYS[:4], (0, 1, 2, 3))
    unbond(world.chain, town.deployment, ALICE, 3)
    pass_time(world, 3 * UNBONDING_S)
    town = hand_over(town, (0, 1, 2, 3))
    town = hand_over(town, (0, 1, 2))
    town = hand_over(town, (0, 1, 2, 3))  # it has left, and its delay runs
    with refused("InCurrentEpoch"):
        withdraw(world.chain, town.deployment, ALICE, 3)


def test_nobody_but_the_settlement_gives_seats(town: Town) -> None:
    for account in (DEPLOYER, ALICE):
        with refused("NotTheSettlement"):
            transact(town.chain, account, town.deployment.registry, contract("Registry").call("seat", (0, 1)))


# --- registering ---


def raw_register(town: Town, key: bytes, proof: bytes, *, account: AccountKey = ALICE, value: int = STAKE) -> None:
    data = contract("Registry").call("register", key, proof)
    transact(town.chain, account, town.deployment.registry, data, value=value)


def spare(town: Town, account: AccountKey = ALICE) -> tuple[bytes, bytes]:
    """A key that is not registered and its proof, compact."""
    context = possession_context(CHAIN_ID, town.deployment.registry, account.address)
    return g2_uncompressed(KEYS[5].public_key()), g1_uncompressed(KEYS[5].prove_possession(context))


def test_register_refuses_too_small_a_stake(town: Town) -> None:
    with refused("StakeTooSmall"):
        raw_register(town, *spare(town), value=STAKE - 1)


def test_register_refuses_a_key_twice(town: Town) -> None:
    with refused("KeyAlreadyRegistered"):
        register(town.world, town.deployment, MALLORY, KEYS[0])


@pytest.mark.parametrize(("key_bytes", "proof_bytes"), [(191, 96), (193, 96), (0, 96), (192, 95), (192, 97), (192, 0)])
def test_register_refuses_points_of_another_length(town: Town, key_bytes: int, proof_bytes: int) -> None:
    key, proof = spare(town)
    with refused("InvalidPointLength"):
        raw_register(town, (key + key)[:key_bytes], (proof + proof)[:proof_bytes])


def test_register_refuses_the_neutral_element(town: Town) -> None:
    key, proof = spare(town)
    with refused("InfinityPoint"):
        raw_register(town, bytes(192), bytes(96))
    with refused("InfinityPoint"):
        raw_register(town, bytes(192), proof)
    with refused("InfinityPoint"):
        raw_register(town, key, bytes(96))


def g1_outside_the_subgroup() -> bytes:
    """A point of the curve whose order is not the group's: almost every one with a small x."""
    for x in range(1, 100):
        square = (x**3 + 4) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            compact = x.to_bytes(48, "big") + y.to_bytes(48, "big")
            if not G1Point.from_xy_bytes_unchecked_be(compact).is_in_subgroup():
                return compact
    raise AssertionError


def g2_outside_the_subgroup() -> bytes:
    """Likewise on the twist, found by decompressing: the flag bits say compressed, and which y."""
    for x in range(1, 100):
        compressed = bytes([0x80]) + bytes(94) + bytes([x])
        try:
            point = G2Point.from_compressed_bytes_unchecked(compressed)
        except ValueError:
            continue
        if not point.is_in_subgroup():
            return bytes(point.to_xy_bytes_be())
    raise AssertionError


def test_register_refuses_points_outside_the_group(town: Town) -> None:
    key, proof = spare(town)
    off_curve = key[:-1] + bytes([key[-1] ^ 1])
    not_reduced = (int.from_bytes(proof[:48], "big") + P).to_bytes(48, "big") + proof[48:]
    for bad_key, bad_proof in (
        (g2_outside_the_subgroup(), proof),
        (off_curve, proof),
        (key, g1_outside_the_subgroup()),
        (key, not_reduced),
        (b"\xff" * 192, proof),
    ):
        with refused("PrecompileFailed"):
            raw_register(town, bad_key, bad_proof)


def test_register_refuses_a_proof_for_another_account_contract_or_chain(town: Town) -> None:
    key, _ = spare(town)
    registry, settlement = town.deployment.registry, town.deployment.settlement
    for context in (
        possession_context(CHAIN_ID, registry, MALLORY.address),
        possession_context(CHAIN_ID, settlement, ALICE.address),
        possession_context(CHAIN_ID + 1, registry, ALICE.address),
    ):
        with refused("InvalidPossession"):
            raw_register(town, key, g1_uncompressed(KEYS[5].prove_possession(context)))


def test_register_refuses_another_accounts_proof_sent_first(town: Town) -> None:
    with refused("InvalidPossession"):
        raw_register(town, *spare(town, ALICE), account=MALLORY)


def test_register_refuses_a_vote_as_proof(town: Town) -> None:
    """The digest is right and the key signed it, but as a vote: the two have different tags."""
    key, _ = spare(town)
    call = contract("Registry").call("possessionDigest", ALICE.address, key)
    digest = town.chain.call(ALICE.address, town.deployment.registry, call)
    context = possession_context(CHAIN_ID, town.deployment.registry, ALICE.address)
    assert digest == hash_fields("bls-possession", KEYS[5].public_key().data, context)
    with refused("InvalidPossession"):
        raw_register(town, key, g1_uncompressed(KEYS[5].sign(digest)))


def test_register_refuses_a_rogue_key(town: Town) -> None:
    """Mallory knows m and offers m * g - (Alice's key), so that she alone could sign for both of them."""
    victim = G2Point.from_compressed_bytes(KEYS[0].public_key().data)
    mallory = G2Point.from_compressed_bytes(KEYS[6].public_key().data)
    rogue = BlsPublicKey(bytes((mallory - victim).to_compressed_bytes()))
    context = possession_context(CHAIN_ID, town.deployment.registry, MALLORY.address)
    digest = hash_fields("bls-possession", rogue.data, context)
    domain = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
    proof = G1Point.hash_to_curve(digest, domain) * scalar(KEYS[6])
    with refused("InvalidPossession"):
        raw_register(town, g2_uncompressed(rogue), bytes(proof.to_xy_bytes_be()), account=MALLORY)


def scalar(secret: BlsSecretKey) -> object:
    from py_arkworks_bls12381 import Scalar

    return Scalar(secret.scalar)


def test_only_the_account_unbonds_and_withdraws(town: Town) -> None:
    for act in (unbond, withdraw):
        with refused("NotTheAccount"):
            act(town.chain, town.deployment, MALLORY, 4)
        with refused("UnknownMember"):
            act(town.chain, town.deployment, ALICE, 5)


def test_a_validator_can_be_looked_up_and_nobody_else(town: Town) -> None:
    found = read_member(town.chain, town.deployment, 4)
    assert found == Member(ALICE.address, STAKE, 0, 0, Role.VALIDATOR, bytes(32))
    assert read_member(town.chain, town.deployment, 3).seated_before == 1
    with refused("UnknownMember"):
        read_member(town.chain, town.deployment, 5)


# --- opening epochs ---


def test_only_the_deployer_opens_the_first_epoch_and_once(world: World, town: Town) -> None:
    with refused("FirstEpochAlreadyOpen"):
        open_first_epoch(world.chain, town.deployment, DEPLOYER, (0, 1))
    closed = found(world, KEYS[:2], ())
    with refused("NotTheDeployer"):
        open_first_epoch(world.chain, closed.deployment, ALICE, (0, 1))
    for ids, error in (
        ((), "InvalidSetSize"),
        (tuple(range(257)), "InvalidSetSize"),
        ((0, 1, 0), "RepeatedValidator"),
        ((0, 2), "UnknownMember"),
    ):
        with refused(error):
            open_first_epoch(world.chain, closed.deployment, DEPLOYER, ids)
    with refused("NoEpochOpen"):
        open_epoch(world.chain, closed.deployment, DEPLOYER, (0,), town.certify(TASK))
    checkpoint = closed.next_checkpoint()
    with refused("NoEpochOpen"):
        post_checkpoint(world.chain, closed.deployment, DEPLOYER, checkpoint, town.certify(checkpoint.digest))
    open_first_epoch(world.chain, closed.deployment, DEPLOYER, (1, 0))


def test_an_open_epoch_refuses_what_its_set_did_not_sign(town: Town) -> None:
    deployment = town.deployment
    keys = [KEYS[index].public_key() for index in (4, 0, 1)]
    right = handover_digest(TASK, 1, NO_CHECKPOINT, keys)
    assert (
        town.chain.call(ALICE.address, deployment.settlement, contract("Settlement").call("handoverDigest", (4, 0, 1)))
        == right
    )
    for digest, ids in (
        (right, (0, 4, 1)),  # other seats
        (right, (4, 0, 1, 2)),  # one more
        (handover_digest(TASK, 2, NO_CHECKPOINT, keys), (4, 0, 1)),  # another epoch
        (handover_digest(TASK, 1, HEADERS[0], keys), (4, 0, 1)),  # after another checkpoint
        (handover_digest(HEADERS[0], 1, NO_CHECKPOINT, keys), (4, 0, 1)),  # another task
    ):
        with refused("InvalidCertificate"):
            open_epoch(town.chain, deployment, MALLORY, ids, town.certify(digest))
    with refused("QuorumNotReached"):
        open_epoch(town.chain, deployment, MALLORY, (4, 0, 1), town.certify(right, (0, 1)))


def test_keys_that_cancel_make_no_set(world: World) -> None:
    secret, other = KEYS[0], KEYS[1]
    negative = BlsSecretKey(GROUP_ORDER - secret.scalar)
    town = found(world, [secret, negative, other], ())
    with refused("InfinityPoint"):
        open_first_epoch(world.chain, town.deployment, DEPLOYER, (0, 1))
    open_first_epoch(world.chain, town.deployment, DEPLOYER, (0, 1, 2))


def test_a_quorum_whose_keys_cancel_signs_nothing(world: World) -> None:
    """Three of four keys add up to nothing: for their sum the neutral element would be a signature of anything."""
    third = BlsSecretKey((-KEYS[0].scalar - KEYS[1].scalar) % GROUP_ORDER)
    town = found(world, [KEYS[0], KEYS[1], third, KEYS[2]], (0, 1, 2, 3))
    checkpoint = town.next_checkpoint()
    with refused("InfinityPoint"):
        raw_checkpoint(town, checkpoint, 0b0111, bytes(96))
    with refused("InfinityPoint"):
        raw_checkpoint(town, checkpoint, 0b0111, g1_uncompressed(KEYS[2].sign(checkpoint.digest)))


def test_bits_of_a_cancelling_pair_are_no_evidence_that_it_signed(world: World) -> None:
    """Why nobody may be paid or punished for a bit: k and -k add nothing, so their bits can be set without them.

    The two are as many as may be faulty among seven, and a quorum still needs the three others.
    """
    secrets = [*KEYS[:5], KEYS[5], BlsSecretKey(GROUP_ORDER - KEYS[5].scalar)]
    town = found(world, secrets, range(7))
    checkpoint = town.next_checkpoint()
    by_three = town.certify(checkpoint.digest, (0, 1, 2))
    with refused("QuorumNotReached"):
        post_checkpoint(world.chain, town.deployment, MALLORY, checkpoint, by_three)
    claimed = replace(by_three, bitmap=bytes([0b1100111]))
    post_checkpoint(world.chain, town.deployment, MALLORY, checkpoint, claimed)


# --- checkpoints ---


def raw_checkpoint(town: Town, cp: Checkpoint, bitmap: int, signature: bytes, gas_max: int | None = None) -> None:
    arguments = (cp.epoch, cp.first_round, cp.last_round, cp.root, bitmap, signature)
    data = contract("Settlement").call("checkpoint", *arguments)
    transact(town.chain, MALLORY, town.deployment.settlement, data, gas_max=gas_max)


def signature_of(town: Town, digest: bytes, seats: Sequence[int]) -> bytes:
    return g1_uncompressed(town.certify(digest, seats).signature)


@pytest.mark.parametrize(
    ("bitmap", "error"),
    [
        (0b1011, "InvalidCertificate"),  # 0b0111 signed
        (0b1111, "InvalidCertificate"),
        (0b0011, "QuorumNotReached"),
        (0, "QuorumNotReached"),
        (0b10111, "BitBeyondSet"),
        (0b111 | 1 << 255, "BitBeyondSet"),
        (2**256 - 1, "BitBeyondSet"),
    ],
)
def test_a_checkpoint_refuses_another_bitmap(town: Town, bitmap: int, error: str) -> None:
    checkpoint = town.next_checkpoint()
    with refused(error):
        raw_checkpoint(town, checkpoint, bitmap, signature_of(town, checkpoint.digest, (0, 1, 2)))


def test_a_checkpoint_refuses_a_signature_of_anything_else(town: Town) -> None:
    checkpoint = town.next_checkpoint()
    for change in (
        {"task": HEADERS[0]},
        {"epoch": 1},
        {"first_round": 1},
        {"last_round": 5},
        {"previous": HEADERS[0]},
        {"root": HEADERS[0]},
    ):
        signature = signature_of(town, replace(checkpoint, **change).digest, range(4))
        with refused("InvalidCertificate"):
            raw_checkpoint(town, checkpoint, 0b1111, signature)


def test_a_checkpoint_refuses_signatures_that_are_no_points_of_the_group(town: Town) -> None:
    checkpoint = town.next_checkpoint()
    right = signature_of(town, checkpoint.digest, range(4))
    for signature, error in (
        (bytes(96), "InfinityPoint"),
        (g1_outside_the_subgroup(), "PrecompileFailed"),
        (right[:-1] + bytes([right[-1] ^ 1]), "PrecompileFailed"),
        (b"\xff" * 96, "PrecompileFailed"),
        (right[:-1], "InvalidPointLength"),
        (right + b"\0", "InvalidPointLength"),
        (b"", "InvalidPointLength"),
    ):
        with refused(error):
            raw_checkpoint(town, checkpoint, 0b1111, signature)


def test_checkpoints_come_in_order_and_once(world: World) -> None:
    town = found(world, KEYS[:4], (0, 1, 2, 3))
    first = town.next_checkpoint()
    certificate = town.certify(first.digest)
    post_checkpoint(world.chain, town.deployment, ALICE, first, certificate)
    with refused("WrongRounds"):
        post_checkpoint(world.chain, town.deployment, ALICE, first, certificate)

    second = town.next_checkpoint()
    for change, error in (
        ({"first_round": 6}, "WrongRounds"),  # a gap
        ({"first_round": 4}, "WrongRounds"),  # an overlap
        ({"last_round": 4}, "WrongRounds"),  # backwards
        ({"last_round": 5 + (1 << 16)}, "WrongRounds"),  # too many
        ({"epoch": 1}, "WrongEpoch"),
    ):
        changed = replace(second, **change)
        with refused(error):
            post_checkpoint(world.chain, town.deployment, ALICE, changed, town.certify(changed.digest))
    for change in ({"previous": NO_CHECKPOINT}, {"task": HEADERS[0]}):
        changed = replace(second, **change)
        with pytest.raises(CheckpointOrderError):
            post_checkpoint(world.chain, town.deployment, ALICE, changed, town.certify(changed.digest))
    post_checkpoint(world.chain, town.deployment, ALICE, second, town.certify(second.digest))


def test_a_set_that_was_replaced_signs_nothing_more(world: World) -> None:
    town = found(world, KEYS[:5], (0, 1, 2, 3))
    handover = handover_digest(TASK, 1, NO_CHECKPOINT, [KEYS[4].public_key()])
    open_epoch(world.chain, town.deployment, ALICE, (4,), town.certify(handover))
    stale = replace(town.next_checkpoint(), epoch=0)
    with refused("WrongEpoch"):
        post_checkpoint(world.chain, town.deployment, ALICE, stale, town.certify(stale.digest))
    with refused("BitBeyondSet"):
        open_epoch(world.chain, town.deployment, ALICE, (4,), town.certify(handover))


def test_another_tasks_certificate_is_refused(world: World) -> None:
    other = found(world, KEYS[:4], (0, 1, 2, 3), task=HEADERS[0])
    checkpoint = replace(other.next_checkpoint(), task=TASK)
    with refused("InvalidCertificate"):
        raw_checkpoint(other, checkpoint, 0b1111, signature_of(other, checkpoint.digest, range(4)))


# --- money and gas ---


def test_malformed_points_cannot_burn_the_gas_of_a_transaction(town: Town) -> None:
    """An EIP-2537 precompile takes all gas that it is offered when its input is malformed: so it is offered little."""
    checkpoint = town.next_checkpoint()
    for signature in (b"\xff" * 96, g1_outside_the_subgroup()):
        with pytest.raises(TransactionFailedError) as failure:
            raw_checkpoint(town, checkpoint, 0b1111, signature, gas_max=16_000_000)
        assert failure.value.values["gas"] < 400_000


def test_coin_without_a_call_is_refused(town: Town) -> None:
    for address in (town.deployment.registry, town.deployment.settlement):
        with refused(""):
            transact(town.chain, ALICE, address, b"", value=1)


# Code of a contract account. Called with target || data it passes the data on, and fails as the target does.
FORWARD = (
    "5b 6020 36 03 6020 5f 37"  # copy the data to memory
    " 5f 5f 6020 36 03 5f 34 5f 35 5a f1"  # call the target with it, and with the coin that came
    " 3d 5f 5f 3e 60{done:02x} 57 3d 5f fd 5b 00"  # bring back what it answered if it failed
)
# Sent coin without data it calls the sender's withdraw(0), whatever comes of that; or it refuses the coin.
WITHDRAW_AGAIN = "63{selector} 60e0 1b 5f 52 5f 5f 6024 5f 5f 33 5a f1 00"
REFUSE = "5f 5f fd"


def puppet(world: World, on_coin: str) -> bytes:
    """Deploy a contract account and return its address."""
    selector = contract("Registry").call("withdraw", 0)[:4].hex()
    answer = bytes.fromhex(on_coin.format(selector=selector))
    start = 4 + len(answer)  # CALLDATASIZE PUSH1 start JUMPI || answer || JUMPDEST ...
    forward = bytes.fromhex(FORWARD.format(done=0))
    forward = bytes.fromhex(FORWARD.format(done=start + len(forward) - 2))
    code = bytes([0x36, 0x60, start, 0x57]) + answer + forward
    creation = bytes.fromhex(f"60{len(code):02x} 80 6009 3d 39 3d f3") + code
    address = transact(world.chain, DEPLOYER, None, creation).contract
    assert address is not None
    return address


def through(world: World, account: bytes, deployment: Deployment, *call: object, value: int = 0) -> None:
    data = contract("Registry").call(*call)  # type: ignore[arg-type]
    transact(world.chain, DEPLOYER, account, deployment.registry.rjust(32, b"\0") + data, value=value)


@pytest.mark.parametrize("on_coin", [WITHDRAW_AGAIN, REFUSE], ids=["withdraw again", "refuse"])
def test_a_contract_account_gets_its_stake_once_or_not_at_all(world: World, on_coin: str) -> None:
    deployment = found(world, (), ()).deployment
    account = puppet(world, on_coin)
    context = possession_context(CHAIN_ID, deployment.registry, account)
    points = g2_uncompressed(KEYS[0].public_key()), g1_uncompressed(KEYS[0].prove_possession(context))
    through(world, account, deployment, "register", *points, value=STAKE)
    assert register(world, deployment, ALICE, KEYS[1]) == 1  # another stake that a second withdrawal would take
    through(world, account, deployment, "unbond", 0)
    pass_time(world, UNBONDING_S)
    if on_coin == REFUSE:
        with refused("FailedCall"):
            through(world, account, deployment, "withdraw", 0)
        assert world.chain.balance(deployment.registry) == 2 * STAKE
    else:
        through(world, account, deployment, "withdraw", 0)
        assert world.chain.balance(account) == world.chain.balance(deployment.registry) == STAKE
