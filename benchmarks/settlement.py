"""What settling costs on the base chain, in gas.  Usage: python benchmarks/settlement.py

Gas is counted, not timed, so machine and load do not matter. Every line of ours is the receipt of a transaction on the
embedded chain. Beside a checkpoint stand other ways to the same end: every signer's own ECDSA signature checked on
chain, the new model stored there, and the new model as calldata. Storage and calldata are receipts too, of 400 words
and of 32,000 random bytes, scaled up; the ECDSA line is a lower bound from the price list: the precompile and the bytes
of the signatures alone.

Last comes the only time: the pairing check of a certificate as the embedded chain does it, on arkworks, beside py-evm's
own; median, fastest and slowest of five runs after one that is not counted.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from types import SimpleNamespace

from eth.vm.forks.prague.computation import PRAGUE_PRECOMPILES
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from collegium.crypto import AccountKey, BlsSecretKey, Certificate, Stream, hash_fields, make_certificate
from collegium.settlement import (
    NO_CHECKPOINT,
    Checkpoint,
    CheckpointReceipt,
    Deployment,
    EmbeddedChain,
    Genesis,
    deploy,
    handover_digest,
    open_epoch,
    open_first_epoch,
    possession_context,
    post_checkpoint,
    read_head,
    register_validator,
    transact,
)

CHAIN_ID = 31337
TASK = hash_fields("benchmark-task")
SEATS = (4, 16, 64, 128, 256)
PARAMETERS = (10_000, 1_000_000)
ROUNDS = 10
ECDSA_GAS = 3_000 + 65 * 16  # ecrecover, and 65 bytes of calldata that are not zero

# Stores its calldata word by word: for (i = 0; i < calldatasize; i += 32) sstore(i, calldataload(i))
STORE = bytes.fromhex("5f 5b 80 35 81 55 6020 01 36 81 10 6001 57 00")

STREAM = Stream(hash_fields("benchmark-settlement"))
ACCOUNT = AccountKey.generate(STREAM)


def new_chain() -> EmbeddedChain:
    return EmbeddedChain(Genesis(CHAIN_ID, 1_800_000_000, ((ACCOUNT.address, 10**24),)))


def certify(secrets: Sequence[BlsSecretKey], digest: bytes, absent: int = 0) -> Certificate:
    """The certificate of all but the last `absent` seats."""
    signers = secrets[: len(secrets) - absent]
    return make_certificate(len(secrets), {seat: secret.sign(digest) for seat, secret in enumerate(signers)})


def post(
    chain: EmbeddedChain, deployment: Deployment, secrets: Sequence[BlsSecretKey], absent: int
) -> CheckpointReceipt:
    head = read_head(chain, deployment)
    last = head.next_round + ROUNDS - 1
    checkpoint = Checkpoint(TASK, head.epoch, head.next_round, last, head.previous, hash_fields("root", last))
    return post_checkpoint(chain, deployment, ACCOUNT, checkpoint, certify(secrets, checkpoint.digest, absent))


def bench_set(seats: int) -> None:
    """Prints one line: registering, opening, handing over, and checkpoints with none and with most seats absent."""
    chain = new_chain()
    deployment = deploy(chain, ACCOUNT, TASK, stake_min_wei=1)
    context = possession_context(CHAIN_ID, deployment.registry, ACCOUNT.address)
    secrets = [BlsSecretKey.generate(STREAM) for _ in range(seats)]
    for secret in secrets:
        register_validator(chain, deployment, ACCOUNT, secret.public_key(), secret.prove_possession(context), 1)
    registering = statistics.median(receipt.gas for receipt in chain.receipts[1:])
    opening = open_first_epoch(chain, deployment, ACCOUNT, range(seats)).gas
    certificate = certify(secrets, handover_digest(TASK, 1, NO_CHECKPOINT, [s.public_key() for s in secrets]))
    handover = open_epoch(chain, deployment, ACCOUNT, range(seats), certificate).gas
    absent = (seats - 1) // 3
    full, least = (post(chain, deployment, secrets, missing) for missing in (0, absent))
    ecdsa = (seats - absent) * ECDSA_GAS
    line = (seats, registering, opening, handover, full.gas, least.gas, full.calldata_bytes, ecdsa)
    print("".join(f"{value:>13,.0f}" for value in line))


def bench_alternatives() -> None:
    """Prints what the model itself would cost on chain."""
    chain = new_chain()
    creation = bytes.fromhex(f"60{len(STORE):02x} 80 6009 3d 39 3d f3") + STORE
    store = transact(chain, ACCOUNT, None, creation).contract
    words, size = STREAM(400 * 32), 32_000
    storing = transact(chain, ACCOUNT, store, words).gas / 400
    sending = transact(chain, ACCOUNT, ACCOUNT.address, STREAM(size)).gas / size
    print(f"\nfresh storage {storing:,.0f} gas a word of 32 bytes, calldata {sending:.1f} gas a byte")
    for parameters in PARAMETERS:
        in_storage, in_calldata = parameters / 8 * storing, parameters * 4 * sending
        print(f"{parameters:>10,} parameters of 32 bits: {in_storage:,.0f} gas stored, {in_calldata:,.0f} as calldata")


def bench_precompiles() -> None:
    """Prints how long the pairing check of a certificate takes, ours and py-evm's."""
    g1, g2 = G1Point(), G2Point()
    points = (g1 * Scalar(2), g2, -g1, g2 * Scalar(2))
    compact = b"".join(bytes(point.to_xy_bytes_be()) for point in points)
    data = b"".join(bytes(16) + compact[at : at + 48] for at in range(0, len(compact), 48))
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    address, chain = (0x0F).to_bytes(20, "big"), new_chain()

    def py_evm() -> bytes:
        computation = SimpleNamespace(msg=SimpleNamespace(data=data), consume_gas=lambda *_, **__: None)
        PRAGUE_PRECOMPILES[address](computation)
        return computation.output

    for name, work in (("arkworks", lambda: chain.call(ACCOUNT.address, address, data)), ("py-evm", py_evm)):
        times_ms = []
        for _ in range(6):
            start = time.perf_counter()
            assert work() == (1).to_bytes(32, "big")
            times_ms.append(1000 * (time.perf_counter() - start))
        _, *counted = times_ms
        median = statistics.median(counted)
        print(f"pairing check on {name:<10}{median:10.1f} ms  ({min(counted):.1f} to {max(counted):.1f})")


def main() -> None:
    """Prints all."""
    chain = new_chain()
    deploy(chain, ACCOUNT, TASK)
    print(f"deploying both contracts: {chain.receipts[0].gas:,} gas\n")
    columns = ("seats", "register", "first epoch", "next epoch", "checkpoint", "third absent", "its bytes", "ECDSA >")
    print("".join(f"{name:>13}" for name in columns))
    for seats in SEATS:
        bench_set(seats)
    bench_alternatives()
    bench_precompiles()


if __name__ == "__main__":
    main()
