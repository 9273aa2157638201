"""The relayer as a process: it gathers validators' signatures of checkpoints and posts them to the base chain.

It need not be trusted: a checkpoint without a quorum's certificate is refused by the contract, and who posts it does
not matter. Its record of the chain is on disk after each checkpoint, and a transaction to a node before it is sent, so
that it goes on after a kill without posting anything twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import rlp

from collegium.crypto import Digest, decode_certificate, encode_certificate, make_certificate
from collegium.settlement import (
    Chain,
    Checkpoint,
    Receipt,
)

from ._base_chain import CHAIN_FAILURES, BaseChain, ChainRecordError, decode_chain_record, encode_chain_record
from ._checkpoints import checkpoints, last_rounds
from ._client import ValidatorClient
from ._consortium import load_account, read_genesis
from ._epochs import epochs_of
from ._events import WorldError
from ._experiment import experiment_from_bytes
from ._final_walk import FinalWalk, patiently
from ._genesis import Genesis
from ._network_settings import RelayerSettings
from ._process import first_to_end, open_log, stop_signal

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["CHAIN_RECORD", "RelayerProcess", "run_relayer"]

CHAIN_RECORD: Final = "chain.json"  # in the folder of its state
PENDING: Final = "pending.tx"
PAUSE_S_FIRST: Final = 1.0
PAUSE_S_MAX: Final = 60.0
TRANSACTION_DATA_FIELD: Final = 7  # of a transaction of type 2


async def run_relayer(settings: RelayerSettings) -> None:
    """Post every checkpoint until the task's last one, or until a signal to stop.

    Raises:
        CollegiumError: settings, key or record cannot be used, or the chain refuses a checkpoint.
    """
    with open_log(settings.log, "relayer") as log:
        async with stop_signal() as stopping:
            process = await _opened(settings, log, stopping)
            if process is None:
                return
            try:
                await first_to_end(process.relay(), stopping.wait())
            finally:
                await process.client.close()


async def _opened(
    settings: RelayerSettings, log: FilteringBoundLogger, stopping: asyncio.Event
) -> RelayerProcess | None:
    """Return the relayer, opened again and again while the chain does not answer; None when told to stop before."""
    pause_s = PAUSE_S_FIRST
    while not stopping.is_set():
        try:
            return await asyncio.to_thread(RelayerProcess.open, settings, log)
        except CHAIN_FAILURES as error:
            log.warning("chain_silent", reason=error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
    return None


@dataclass(eq=False)
class RelayerProcess:
    """The relayer with everything around it."""

    log: FilteringBoundLogger
    genesis: Genesis
    rounds: int
    every: int
    chain: BaseChain
    state: Path
    client: ValidatorClient
    certificate: bytes = b""  # of the checkpoint that is being posted

    @classmethod
    def open(cls, settings: RelayerSettings, log: FilteringBoundLogger) -> RelayerProcess:
        """Read the folder, and go on where the record of the chain ends."""
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        operator = load_account(settings.operator_key, genesis.operator)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = settings.state / CHAIN_RECORD
        data = _read(written if written.exists() else settings.chain)
        record = decode_chain_record(data)
        if record.url != settings.url:
            raise ChainRecordError(f"the record is of {record.url or 'an embedded chain'}, settings say {settings.url}")
        process = cls(
            log=log,
            genesis=genesis,
            rounds=experiment.task.rounds,
            every=experiment.chain.checkpoint_every,
            chain=BaseChain.resume(record, operator, genesis.epoch_set),
            state=settings.state,
            client=ValidatorClient.over_tls(
                epochs_of(genesis, experiment.committee), settings.validators, settings.tls.authority
            ),
        )
        if settings.url is not None:  # a node remembers what it was sent; the embedded chain dies with this process
            process.chain.chain = cast(Chain, _Noted(process.chain.chain, process._note))
        return process

    async def relay(self) -> None:
        """Post each checkpoint when it is due, in order, each once."""
        walk, headers = FinalWalk(self.client), list[Digest]()
        await patiently(self.client.latest)
        self.log.info("ready", posted=len(self.chain.facts))
        due = last_rounds(self.rounds, self.every)
        for number in range(self.rounds + 1):
            final = await walk.next_round()
            headers.append(final.certified.header.digest)
            if number in due:
                place = due.index(number)
                checkpoint = checkpoints(self.genesis.epoch_set, headers, self.rounds, self.every)[place]
                await self._settle(place, checkpoint)
        self.log.info("finished")

    async def _settle(self, place: int, checkpoint: Checkpoint) -> None:
        """Post a checkpoint unless it is posted; while the chain does not answer, try again."""
        if place < len(self.chain.facts):
            known = self.chain.facts[place].checkpoint
            if known != checkpoint:
                raise ChainRecordError(f"the record has another checkpoint of round {checkpoint.last_round}")
            return
        pause_s = PAUSE_S_FIRST
        while True:
            signatures = await self._signatures(checkpoint)
            try:
                await asyncio.to_thread(self._post, checkpoint, signatures)
                break
            except CHAIN_FAILURES as error:
                self.log.warning("chain_silent", reason=error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
        facts = self.chain.facts[-1]
        self.log.info(
            "checkpoint",
            first_round=checkpoint.first_round,
            last_round=checkpoint.last_round,
            gas=facts.gas,
            calldata_bytes=facts.calldata_bytes,
            digest=checkpoint.digest.hex(),
        )

    async def _signatures(self, checkpoint: Checkpoint) -> dict[int, bytes]:
        """Return a quorum's signatures, each verified."""
        pause_s, quorum = PAUSE_S_FIRST, self.genesis.epoch_set.quorum
        while True:
            found = await patiently(lambda: self.client.checkpoint_signatures(checkpoint))
            if len(found) >= quorum:
                return dict(sorted(found.items())[:quorum])
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _post(self, checkpoint: Checkpoint, signatures: dict[int, bytes]) -> None:
        """Post a checkpoint and write the record; what was sent before a kill is sent again as it was."""
        pending = self.state / PENDING
        if pending.exists():
            self._finish(checkpoint, _read(pending))
        else:
            self.certificate = encode_certificate(make_certificate(self.genesis.epoch_set.size, signatures))
            self.chain.post(checkpoint, signatures)
        _write(self.state / CHAIN_RECORD, encode_chain_record(self.chain.record()))
        pending.unlink(missing_ok=True)

    def _note(self, raw: bytes) -> None:
        """Write a transaction down before it is sent, behind the certificate that it carries."""
        _write(self.state / PENDING, rlp.encode([self.certificate, raw]))

    def _finish(self, checkpoint: Checkpoint, noted: bytes) -> None:
        """Send a transaction again that may have been mined, and enter what it did."""
        certificate, raw = cast(list[bytes], rlp.decode(noted))
        decode_certificate(certificate, self.genesis.epoch_set.size)
        receipt: Receipt = self.chain.chain.send(raw)
        data: bytes = cast(list[Any], rlp.decode(raw[1:]))[TRANSACTION_DATA_FIELD]
        self.chain.enter(checkpoint, certificate, receipt.gas, len(data))


class _Noted:
    """A chain that writes each transaction down before it sends it."""

    def __init__(self, chain: Chain, note: Callable[[bytes], None]) -> None:
        self._chain, self._note = chain, note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def send(self, raw: bytes) -> Receipt:
        """Write down, then send."""
        self._note(raw)
        return self._chain.send(raw)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}; expected a file of the relayer") from error


def _write(path: Path, data: bytes) -> None:
    """Replace a file, whole or not at all; it is on disk when this returns."""
    draft = path.with_name(f".{path.name}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}; the chain's record cannot be written") from error
