"""A relayer between a quorum's signatures and a base chain, which can be ended or overtaken at each of its sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from _chain_stage import DEPLOYER, World

from collegium.consensus import EpochSet, Validator, ValidatorIndex
from collegium.crypto import AccountKey, BlsSecretKey, Stream, make_certificate
from collegium.node import _base_chain as base_chain
from collegium.node._base_chain import BaseChain
from collegium.node._chain_check import check_chain
from collegium.node._chain_record import ChainRecord, decode_chain_record
from collegium.node._chain_terms import STAKE_WEI
from collegium.node._due_step import PENDING
from collegium.node._epochs import KnownEpoch
from collegium.node._relayer_process import CHAIN_RECORD, RelayerProcess
from collegium.node._telemetry import logger
from collegium.settlement import (
    NO_CHECKPOINT,
    Chain,
    Checkpoint,
    EmbeddedChain,
    JsonRpcChain,
    JsonRpcLimits,
    Receipt,
    SentTransaction,
    header_root,
    post_checkpoint,
)

URL = "http://127.0.0.1:8545"  # of the record; what is asked is the test's chain
SIZE = 4
TASK = bytes(range(32))
RANDOM = Stream(b"relay".ljust(32, b"\0"))
OPERATOR = AccountKey.generate(RANDOM)
ACCOUNTS = [AccountKey.generate(RANDOM) for _ in range(SIZE)]
VOTING = [BlsSecretKey.generate(RANDOM) for _ in range(SIZE)]
ORDER = (2, 0, 3, 1)  # of the seats after the handover


def members(epoch: int, places: tuple[int, ...]) -> EpochSet:
    pairs = [(ACCOUNTS[place], VOTING[place]) for place in places]
    return EpochSet(
        TASK,
        epoch,
        tuple(
            Validator(ValidatorIndex(seat), bytes(key.public_key()), account.address, STAKE_WEI)
            for seat, (account, key) in enumerate(pairs)
        ),
    )


FIRST_SET = members(0, (0, 1, 2, 3))
LATER = KnownEpoch(members(1, ORDER), bytes(32), 4)


def checkpoint(first_round: int, last_round: int, previous: Checkpoint | None, epoch: int = 0) -> Checkpoint:
    root = header_root([bytes([number + 1]) * 32 for number in range(first_round, last_round + 1)])
    return Checkpoint(TASK, epoch, first_round, last_round, previous.digest if previous else NO_CHECKPOINT, root)


ONE = checkpoint(0, 1, None)
TWO = checkpoint(2, 3, ONE)
THREE = checkpoint(4, 4, TWO, epoch=1)
OTHER = replace(ONE, root=bytes([9]) * 32)


class Killed(BaseException):
    """The process is gone, whatever it would have caught."""


class Line:
    """A relayer's own line to the chain: counts as sent what went over it, and lets the test come between."""

    def __init__(self, chain: Chain) -> None:
        self._chain, self._sent = chain, list[SentTransaction]()
        self.raws: list[bytes] = []
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None
        self.gas: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    @property
    def sent(self) -> tuple[SentTransaction, ...]:
        return tuple(self._sent) if isinstance(self._chain, EmbeddedChain) else self._chain.sent

    def estimate_gas(self, *call: Any) -> int:
        gas = self._chain.estimate_gas(*call)
        return gas if self.gas is None else self.gas

    def send(self, raw: bytes) -> Receipt:
        self.before()
        self.raws.append(raw)
        receipt = self._counted(raw, self._chain.send(raw))
        self.after()
        return receipt

    def mined(self, raw: bytes) -> Receipt | None:
        receipt = self._chain.mined(raw)
        if receipt is None or not receipt.succeeded:
            self._sent = [sent for sent in self._sent if sent.raw != raw]
        return None if receipt is None else self._counted(raw, receipt)

    def _counted(self, raw: bytes, receipt: Receipt) -> Receipt:
        if receipt.succeeded and all(sent.raw != raw for sent in self._sent):
            self._sent.append(SentTransaction(raw, self._chain.timestamp_s()))
        return receipt


class Signers:
    """In a client's place: what these seats sign."""

    def __init__(self, absent: int | None) -> None:
        self.absent = absent

    async def checkpoint_signatures(self, due: Checkpoint) -> dict[int, bytes]:
        places = ORDER if due.epoch else range(SIZE)
        return {seat: VOTING[place].sign(due.digest) for seat, place in enumerate(places) if seat != self.absent}

    async def handover_signatures(self, _: int, digest: bytes) -> dict[int, bytes]:
        return {seat: key.sign(digest) for seat, key in enumerate(VOTING) if seat != self.absent}


@dataclass(eq=False)
class Relayer:
    """A relayer's folder, and its process while it lives."""

    state: Path
    world: World
    founded: ChainRecord
    absent: int | None = None  # from its certificates: no two relayers need gather the same quorum

    def start(self) -> Line:
        """Begin, or begin anew after a kill; return the line of this life."""
        written = self.state / CHAIN_RECORD
        record = decode_chain_record(written.read_bytes()) if written.exists() else self.founded
        line = Line(own_chain(self.world))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base_chain, "JsonRpcChain", lambda _: line)
            chain = BaseChain.resume(record, OPERATOR, FIRST_SET, [LATER.epoch_set])
        unused: Any = None
        client: Any = Signers(self.absent)
        self.process = RelayerProcess(logger("relayer"), unused, OPERATOR, 9, 2, record, self.state, client)
        self.process.chain = chain
        self.process.sender = self.process.sender_of(chain, self.state)
        return line

    def settle(self, due: Checkpoint) -> None:
        place = (ONE, TWO, THREE).index(due)
        asyncio.run(asyncio.wait_for(self.process._settle(place, due), 60))

    def hand_over(self) -> None:
        asyncio.run(asyncio.wait_for(self.process._open(LATER, TWO), 60))

    def ended_well(self) -> ChainRecord:
        """Check that the chain and the record have the same, that an auditor takes it, and that nothing is pending."""
        assert not (self.state / PENDING).exists()
        record = decode_chain_record((self.state / CHAIN_RECORD).read_bytes())
        check_chain(record, URL, FIRST_SET, OPERATOR.address, [LATER] if record.handed_over else [])
        assert all(self.process.chain.has(due) for due in record.checkpoints)
        assert self.process.chain.has(members(len(record.handed_over), ORDER))
        return record


def own_chain(world: World) -> Chain:
    chain = world.chain
    return JsonRpcChain(chain.url, JsonRpcLimits(poll_s=0.002)) if isinstance(chain, JsonRpcChain) else chain


def found(world: World) -> ChainRecord:
    """Found the task, the first set in office."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(base_chain.FUNDER_VARIABLE, DEPLOYER.secret.hex())
        patch.setattr(base_chain, "JsonRpcChain", lambda _: own_chain(world))
        chain = BaseChain.found(URL, OPERATOR, FIRST_SET, list(zip(ACCOUNTS, VOTING, strict=True)))
        sent = chain.chain.sent
        return replace(chain.record(), transcript=None, sent=sent)


def post_as(world: World, record: ChainRecord, account: AccountKey, due: Checkpoint) -> None:
    """Post a checkpoint from somebody else's account, with a quorum's certificate of their own gathering."""
    certificate = make_certificate(SIZE, {seat: VOTING[seat].sign(due.digest) for seat in range(1, SIZE)})
    post_checkpoint(own_chain(world), record.deployment, account, due, certificate)


def ended() -> None:
    raise Killed


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Return what acts at its first call only."""
    left = [act]

    def call() -> None:
        if left:
            left.pop()()

    return call
