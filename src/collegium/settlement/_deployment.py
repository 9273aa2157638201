"""The contracts of one learning task, from Python: deploy, register, open epochs, post checkpoints, read them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeVar

from collegium.crypto import BlsPublicKey, Certificate, Digest, g1_uncompressed, g2_uncompressed
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._checkpoint import Checkpoint
from collegium.settlement._errors import ChainAnswerError, CheckpointOrderError
from collegium.settlement._transactions import transact

__all__ = [
    "FOLLOWER_STAKE_WEI",
    "FOLLOWER_UNBONDING_S",
    "CheckpointReceipt",
    "Deployment",
    "Head",
    "attach",
    "checkpoint_before",
    "checkpoint_call",
    "deploy",
    "deploy_follower",
    "includes_header",
    "open_epoch",
    "open_first_epoch",
    "opening_call",
    "post_checkpoint",
    "read_checkpoints",
    "read_head",
    "register_validator",
    "settlement_creation",
    "unbond",
    "withdraw",
]

STAKE_MIN_WEI: Final = 10**18
UNBONDING_S: Final = 14 * 24 * 3600
FOLLOWER_STAKE_WEI: Final = 0
FOLLOWER_UNBONDING_S: Final = 1 << 64  # never

NOBODY: Final = bytes(20)  # as the contract that may take stakes: none may
NATIVE: Final = bytes(20)  # as a token: the chain's own coin

_ANYONE = bytes(20)

Choice = TypeVar("Choice", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the contracts of a task are.

    Args:
        task: digest of the task.
        settlement: address of the contract Settlement.
        registry: address of the contract Registry that it made.
        block: the block that they came in.
    """

    task: Digest
    settlement: bytes
    registry: bytes
    block: int


@dataclass(frozen=True, slots=True)
class Head:
    """What the contract expects next.

    Args:
        epoch: whose set signs.
        seats: size of that set; 0 before the first epoch opens.
        next_round: first round of the next checkpoint.
        previous: digest of the last checkpoint, zero before the first.
    """

    epoch: int
    seats: int
    next_round: int
    previous: Digest


@dataclass(frozen=True, slots=True)
class CheckpointReceipt:
    """What settling a checkpoint cost."""

    transaction: Digest
    block: int
    gas: int
    calldata_bytes: int


def deploy(
    chain: Chain,
    account: Account,
    task: Digest,
    *,
    first_round: int = 0,
    stake_min_wei: int = STAKE_MIN_WEI,
    unbonding_s: int = UNBONDING_S,
    slashing: bytes = NOBODY,
    token: bytes = NATIVE,
) -> Deployment:
    """Create the contracts of a task in one transaction; `account` may open the first epoch.

    Args:
        first_round: with which the first checkpoint will start.
        unbonding_s: seconds from a validator's `unbond`, or from leaving its last epoch set if that is later, to the
            earliest `withdraw`.
        slashing: where the contract that may take stakes is or will be (`found_slashing`); NOBODY for none.
        token: the ERC-20 contract in whose units stakes are; NATIVE for the chain's coin.
    """
    creation = settlement_creation(
        task,
        first_round=first_round,
        stake_min_wei=stake_min_wei,
        unbonding_s=unbonding_s,
        slashing=slashing,
        token=token,
    )
    receipt = transact(chain, account, None, creation)
    return attach(chain, created(receipt), receipt.block)


def deploy_follower(chain: Chain, account: Account, task: Digest, *, first_round: int = 0) -> Deployment:
    """Create the contracts of a task on a chain that follows: stakes are elsewhere, certificates are verified here.

    Nobody has a stake at a follower and nobody ever leaves it, so that no member can stop a handover there which the
    home chain accepts. Coin sent to its registry as a stake would not come back.
    """
    return deploy(
        chain,
        account,
        task,
        first_round=first_round,
        stake_min_wei=FOLLOWER_STAKE_WEI,
        unbonding_s=FOLLOWER_UNBONDING_S,
    )


def settlement_creation(
    task: Digest,
    *,
    first_round: int,
    stake_min_wei: int,
    unbonding_s: int,
    slashing: bytes = NOBODY,
    token: bytes = NATIVE,
) -> bytes:
    """Return the data of the transaction that creates a task's contracts; see `deploy`."""
    return contract("Settlement").creation(task, first_round, stake_min_wei, unbonding_s, slashing, token)


def attach(chain: Chain, settlement: bytes, block: int) -> Deployment:
    """Return the deployment whose contract Settlement is at this address since this block.

    Raises:
        ChainAnswerError: what is there does not answer as that contract.
    """
    (registry,) = ask(chain, "Settlement", settlement, "registry")
    (task,) = ask(chain, "Settlement", settlement, "task")
    return Deployment(task, settlement, address_of(registry), block)


def register_validator(
    chain: Chain,
    deployment: Deployment,
    account: Account,
    key: BlsPublicKey,
    proof: bytes,
    stake_wei: int,
    *,
    gas_max: int | None = None,
) -> int:
    """Register a key of `account` with a stake and return the validator's number, from 0.

    Args:
        proof: proof of possession, 48 bytes, for `possession_context` of chain, registry and account.
        gas_max: what it may use at most; None tries it first and takes what that used.
    """
    registry = contract("Registry")
    data = registry.call("register", g2_uncompressed(key), g1_uncompressed(proof))
    receipt = transact(chain, account, deployment.registry, data, value=stake_wei, gas_max=gas_max)
    return int(event_of(receipt, "Registry", deployment.registry, "Registered")["id"])


def unbond(chain: Chain, deployment: Deployment, account: Account, validator: int) -> int:
    """Start the unbonding delay of a validator of `account`.

    Returns:
        The timestamp, in seconds, from which it may withdraw; later if it has, or is still given, a seat.
    """
    receipt = transact(chain, account, deployment.registry, contract("Registry").call("unbond", validator))
    return int(event_of(receipt, "Registry", deployment.registry, "Unbonding")["earliest"])


def withdraw(chain: Chain, deployment: Deployment, account: Account, validator: int) -> int:
    """Take a validator's stake back to `account`; return it in wei.

    Raises:
        ContractRefusedError: StillUnbonding (with the timestamp of the end), InCurrentEpoch and others, by name.
    """
    receipt = transact(chain, account, deployment.registry, contract("Registry").call("withdraw", validator))
    return int(event_of(receipt, "Registry", deployment.registry, "Withdrawn")["stake"])


def open_first_epoch(chain: Chain, deployment: Deployment, account: Account, validators: Sequence[int]) -> Receipt:
    """Open epoch 0 with these validators in the order of seats; only the deployer's account can, and once."""
    data = contract("Settlement").call("openFirstEpoch", tuple(validators))
    return transact(chain, account, deployment.settlement, data)


def open_epoch(
    chain: Chain, deployment: Deployment, account: Account, validators: Sequence[int], certificate: Certificate
) -> Receipt:
    """Open the next epoch with these validators in the order of seats; any account can.

    Args:
        certificate: the current set's, of `handover_digest`.
    """
    return transact(chain, account, deployment.settlement, opening_call(validators, certificate))


def opening_call(validators: Sequence[int], certificate: Certificate) -> bytes:
    """Return the data of the transaction that opens the next epoch; see `open_epoch`."""
    return contract("Settlement").call("openEpoch", tuple(validators), *certificate_arguments(certificate))


def post_checkpoint(
    chain: Chain, deployment: Deployment, account: Account, checkpoint: Checkpoint, certificate: Certificate
) -> CheckpointReceipt:
    """Settle a checkpoint; any account can.

    Args:
        certificate: the current set's, of the checkpoint's digest.

    Raises:
        CheckpointOrderError: it is another task's, or does not name the last accepted checkpoint as the one before.
        ContractRefusedError: the contract refuses it otherwise.
    """
    if checkpoint.task != deployment.task:
        raise CheckpointOrderError(
            f"checkpoint is of task {checkpoint.task.hex()}, contract of {deployment.task.hex()}", task=checkpoint.task
        )
    head = read_head(chain, deployment)
    if checkpoint.first_round == head.next_round and checkpoint.previous != head.previous:
        raise CheckpointOrderError(
            f"checkpoint follows {checkpoint.previous.hex()}, the last accepted is {head.previous.hex()}",
            previous=checkpoint.previous,
        )
    data = checkpoint_call(checkpoint, certificate)
    receipt = transact(chain, account, deployment.settlement, data)
    return CheckpointReceipt(receipt.transaction, receipt.block, receipt.gas, len(data))


def checkpoint_call(checkpoint: Checkpoint, certificate: Certificate) -> bytes:
    """Return the data of the transaction that settles a checkpoint; see `post_checkpoint`."""
    rounds = (checkpoint.epoch, checkpoint.first_round, checkpoint.last_round)
    return contract("Settlement").call("checkpoint", *rounds, checkpoint.root, *certificate_arguments(certificate))


def read_head(chain: Chain, deployment: Deployment) -> Head:
    """Return what the contract expects next."""
    at = deployment.settlement
    (epoch,) = ask(chain, "Settlement", at, "epoch")
    (keys,) = ask(chain, "Settlement", at, "seatKeys")
    (next_round,) = ask(chain, "Settlement", at, "nextRound")
    return Head(epoch, len(keys), next_round, checkpoint_before(chain, deployment, next_round))


def checkpoint_before(chain: Chain, deployment: Deployment, round_number: int) -> Digest:
    """Return the digest of the accepted checkpoint that ends just before a round, zero if none does."""
    (digest,) = ask(chain, "Settlement", deployment.settlement, "checkpointBefore", round_number)
    return bytes(digest)


def read_checkpoints(chain: Chain, deployment: Deployment) -> tuple[Checkpoint, ...]:
    """Return every accepted checkpoint, oldest first.

    Raises:
        ChainAnswerError: the events do not form a chain of digests that ends in what the contract has stored.
    """
    checkpoints: list[Checkpoint] = []
    previous = bytes(32)
    for event in events(chain, "Settlement", deployment.settlement, "Checkpointed", deployment.block):
        rounds = (event["epoch"], event["firstRound"], event["lastRound"])
        checkpoint = Checkpoint(deployment.task, *rounds, previous, event["headerRoot"])
        if checkpoint.digest != event["digest"]:
            raise ChainAnswerError(
                f"event of rounds {rounds[1]} to {rounds[2]} has digest {event['digest'].hex()}, "
                f"its fields give {checkpoint.digest.hex()}",
                rounds=rounds,
            )
        checkpoints.append(checkpoint)
        previous = checkpoint.digest
    head = read_head(chain, deployment)
    if head.previous != previous:
        raise ChainAnswerError(
            f"last event has digest {previous.hex()}, the contract stored {head.previous.hex()}", previous=previous
        )
    return tuple(checkpoints)


def includes_header(
    chain: Chain,
    deployment: Deployment,
    checkpoint: Checkpoint,
    round_number: int,
    header: Digest,
    siblings: Sequence[Digest],
) -> bool:
    """Ask the contract whether `header` is that of a round under an accepted checkpoint (`header_proof` proves it)."""
    arguments = (checkpoint_arguments(checkpoint), round_number, header, tuple(siblings))
    (included,) = ask(chain, "Settlement", deployment.settlement, "includesHeader", *arguments)
    return bool(included)


def ask(
    chain: Chain, name: str, address: bytes, function: str, *arguments: object, block: int | None = None
) -> tuple[Any, ...]:
    """Return what a contract answers to a call that changes nothing, after this block; None: after the last.

    Raises:
        ChainAnswerError: what is at this address does not answer as that contract.
    """
    asked = contract(name)
    return asked.result(function, chain.call(_ANYONE, address, asked.call(function, *arguments), block=block))


def certificate_arguments(certificate: Certificate) -> tuple[int, bytes]:
    """Return bitmap and signature as a contract takes them: bit i of the number is seat i."""
    return int.from_bytes(certificate.bitmap, "little"), g1_uncompressed(certificate.signature)


def checkpoint_arguments(checkpoint: Checkpoint) -> tuple[object, ...]:
    """Return a checkpoint as a contract takes it."""
    rounds = (checkpoint.epoch, checkpoint.first_round, checkpoint.last_round)
    return (*rounds, checkpoint.previous, checkpoint.root)


def events(chain: Chain, name: str, address: bytes, event: str, from_block: int) -> list[dict[str, Any]]:
    """Return all events of a kind that a contract has emitted since a block, oldest first."""
    told = contract(name)
    return [told.event(event, log) for log in chain.logs(address, told.topic(event), from_block)]


def event_of(receipt: Receipt, name: str, address: bytes, event: str) -> dict[str, Any]:
    """Return the first event of this kind that a contract emitted in a transaction.

    Raises:
        ChainAnswerError: there is none.
    """
    topic = contract(name).topic(event)
    for log in receipt.logs:
        if log.address == address and log.topics[:1] == (topic,):
            return contract(name).event(event, log)
    raise ChainAnswerError(f"transaction {receipt.transaction.hex()} succeeded without the event {event}")


def choice_of(kind: type[Choice], number: int) -> Choice:
    """Return what a number stands for that a contract gave.

    Raises:
        ChainAnswerError: nothing.
    """
    try:
        return kind(number)
    except ValueError as error:
        raise ChainAnswerError(f"{number} is no {kind.__name__}", number=number) from error


def address_of(text: str) -> bytes:
    """Return an address as bytes from the hex in which the ABI's decoder gives it."""
    return bytes.fromhex(text.removeprefix("0x"))


def created(receipt: Receipt) -> bytes:
    """Return the address of the contract that a transaction created.

    Raises:
        ChainAnswerError: the receipt names none.
    """
    if receipt.contract is None:
        raise ChainAnswerError(f"receipt of creation {receipt.transaction.hex()} names no contract")
    return receipt.contract
