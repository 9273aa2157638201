"""The relayer as a process: it gathers validators' signatures of checkpoints and posts them to the base chain.

It need not be trusted: a checkpoint without a quorum's certificate is refused by the contract, and who posts it does
not matter. Its record of the chain is on disk after each checkpoint, and a transaction to a node before it is sent, so
that it goes on after a kill without posting anything twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collegium.consensus import EpochSet, Withdrawals
from collegium.crypto import AccountKey, Digest, encode_certificate, make_certificate
from collegium.settlement import Checkpoint, ContractRefusedError

from ._base_chain import (
    CHAIN_FAILURES,
    BaseChain,
    ChainRecord,
    ChainRecordError,
    decode_chain_record,
    encode_chain_record,
)
from ._checkpoints import checkpoints, last_rounds, opening_digest
from ._client import NobodyAnsweredError, ValidatorClient
from ._consents import ConsentMissingError, TaskConsents, consents_of, licence_chain, read_withdrawals
from ._consortium import load_account, read_genesis
from ._due_step import DueStep, NonceSpentError, StepSender, read_file, replace_file
from ._epochs import KnownEpoch, epochs_of
from ._experiment import experiment_from_bytes
from ._final_walk import FinalWalk, Pause, patiently
from ._genesis import Genesis
from ._network_settings import RelayerSettings
from ._process import first_to_end, open_log, stop_signal

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["CHAIN_RECORD", "RelayerProcess", "run_relayer"]

CHAIN_RECORD: Final = "chain.json"  # in the folder of its state
PAUSE_S_FIRST: Final = 1.0
PAUSE_S_MAX: Final = 60.0


async def run_relayer(settings: RelayerSettings) -> None:
    """Post every checkpoint until the task's last one, or until a signal to stop.

    Raises:
        CollegiumError: settings, key or record cannot be used, or the chain refuses a checkpoint.
    """
    with open_log(settings.log, "relayer") as log:
        async with stop_signal() as stopping:
            process = await asyncio.to_thread(RelayerProcess.open, settings, log)
            try:
                await first_to_end(process.relay(), stopping.wait())
            finally:
                await process.client.close()


@dataclass(eq=False)
class RelayerProcess:
    """The relayer with everything around it."""

    log: FilteringBoundLogger
    genesis: Genesis
    operator: AccountKey
    rounds: int
    every: int
    record: ChainRecord
    state: Path
    client: ValidatorClient
    consents: TaskConsents | None = None
    chain: BaseChain = field(init=False)
    sender: StepSender = field(init=False)

    @classmethod
    def open(cls, settings: RelayerSettings, log: FilteringBoundLogger) -> RelayerProcess:
        """Read the folder, and go on where the record of the chain ends."""
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        operator = load_account(settings.operator_key, genesis.operator)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = settings.state / CHAIN_RECORD
        place = written if written.exists() else settings.chain
        data = read_file(place)
        try:
            record = decode_chain_record(data)
        except ChainRecordError as error:
            raise ChainRecordError(f"{place}: {error}", **error.values) from error
        if record.url != settings.url:
            raise ChainRecordError(f"the record is of {record.url or 'an embedded chain'}, settings say {settings.url}")
        return cls(
            log=log,
            genesis=genesis,
            operator=operator,
            rounds=experiment.task.rounds,
            every=experiment.chain.checkpoint_every,
            record=record,
            state=settings.state,
            client=ValidatorClient.over_tls(
                epochs_of(genesis, experiment.committee), settings.validators, settings.tls.authority
            ),
            consents=consents_of(genesis, experiment.licences),
        )

    async def relay(self) -> None:
        """Post each checkpoint when it is due, in order, each once; open each epoch once the one before is settled."""
        walk, headers, known = FinalWalk(self.client), list[Digest](), self.client.epochs
        await self._learn(len(self.record.handed_over))
        self.chain = await self._resumed()
        self.sender = StepSender(self.chain, self.state, self.log)
        self.log.info("ready", posted=len(self.chain.facts))
        for number in range(self.rounds + 1):
            await self._bring_withdrawals()
            final = await walk.next_round()
            headers.append(final.certified.header.digest)
            later = known.known[1:]  # a round's epoch, and the one that begins after it, are known by now
            due = last_rounds(self.rounds, self.every, later)
            if number in due:
                place = due.index(number)
                checkpoint = checkpoints(self.genesis.epoch_set, headers, self.rounds, self.every, later)[place]
                await self._settle(place, checkpoint)
                following = known.of_round(number + 1)
                if following.first_round == number + 1 <= self.rounds:
                    await self._open(following, checkpoint)
        self.log.info("finished")

    async def _bring_withdrawals(self) -> None:
        """Bring licences that were revoked to the validators, each round again: whoever has it ordered ignores it.

        Nobody waits for a chain that does not answer: it is asked again in the next round.
        """
        if self.consents is None:
            return
        try:
            records = await asyncio.to_thread(self._read_withdrawals, self.consents)
            for record in records:
                await self.client.withdraw(record)
                self.log.info("withdrawal", licence=self.consents.licence_of(record).number)
        except (*CHAIN_FAILURES, ContractRefusedError, ConsentMissingError, NobodyAnsweredError) as error:
            self.log.warning("withdrawals_not_brought", reason=error)

    def _read_withdrawals(self, consents: TaskConsents) -> list[bytes]:
        chain = licence_chain(consents.settings, self.record.url)
        return read_withdrawals(chain, consents, Withdrawals())

    async def _learn(self, epoch: int) -> None:
        """Ask until the epochs are known that the chain knows."""
        pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
        while True:
            header = await patiently(self.client.latest)
            if header is not None:
                await patiently(partial(self.client.epoch_after, header))
            if self.client.epochs.present.epoch >= epoch:
                return
            await pause.wait()

    async def _resumed(self) -> BaseChain:
        """Go on where the record ends, as soon as the chain answers."""
        pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
        while True:
            try:
                return await asyncio.to_thread(self._resume)
            except CHAIN_FAILURES as error:
                self.log.warning("chain_silent", reason=error)
                await pause.wait()

    def _resume(self) -> BaseChain:
        later = [epoch.epoch_set for epoch in self.client.epochs.known[1:]]
        return BaseChain.resume(self.record, self.operator, self.genesis.epoch_set, later)

    async def _settle(self, place: int, checkpoint: Checkpoint) -> None:
        """Post a checkpoint unless it is posted; while the chain does not answer, try again."""
        if place < len(self.chain.facts):
            known = self.chain.facts[place].checkpoint
            if known != checkpoint:
                raise ChainRecordError(f"the record has another checkpoint of round {checkpoint.last_round}")
            return
        await self._persist(lambda: self.client.checkpoint_signatures(checkpoint), partial(self._post, checkpoint))
        facts = self.chain.facts[-1]
        self.log.info(
            "checkpoint",
            first_round=checkpoint.first_round,
            last_round=checkpoint.last_round,
            gas=facts.gas,
            calldata_bytes=facts.calldata_bytes,
            digest=checkpoint.digest.hex(),
        )

    async def _open(self, following: KnownEpoch, last: Checkpoint) -> None:
        """Put the next epoch's set in office, unless it or a later one is; try again while the chain is silent."""
        if following.epoch <= self.chain.epoch_set.epoch:
            return
        members = following.epoch_set
        digest = opening_digest(members, last.digest)
        ended = following.epoch - 1
        await self._persist(lambda: self.client.handover_signatures(ended, digest), partial(self._hand_over, members))
        self.log.info("epoch_opened", epoch=members.epoch, members=members.size, gas=self.chain.handovers[-1].gas)

    async def _persist(
        self, ask: Callable[[], Awaitable[dict[int, bytes]]], post: Callable[[dict[int, bytes]], None]
    ) -> None:
        """Gather a quorum's signatures and post with them, until the chain has taken it."""
        pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
        while True:
            signatures = await self._signatures(ask)
            try:
                await asyncio.to_thread(post, signatures)
                break
            except (*CHAIN_FAILURES, NonceSpentError) as error:
                silent = not isinstance(error, NonceSpentError)
                self.log.warning("chain_silent" if silent else "nonce_spent", reason=error)
                await pause.wait()

    async def _signatures(self, ask: Callable[[], Awaitable[dict[int, bytes]]]) -> dict[int, bytes]:
        """Return signatures of a quorum of the set that is in office on the chain, each verified."""
        pause, quorum = Pause(PAUSE_S_FIRST, PAUSE_S_MAX), self.chain.epoch_set.quorum
        while True:
            found = await patiently(ask)
            if len(found) >= quorum:
                return dict(sorted(found.items())[:quorum])
            await pause.wait()

    def _post(self, checkpoint: Checkpoint, signatures: dict[int, bytes]) -> None:
        """Have the contract take a checkpoint, and write the record."""
        self._carry_through(
            DueStep(
                what=f"checkpoint of rounds {checkpoint.first_round} to {checkpoint.last_round}",
                certificate=encode_certificate(make_certificate(self.chain.epoch_set.size, signatures)),
                done=partial(self.chain.has_settled, checkpoint),
                send=partial(self.chain.post, checkpoint, signatures),
                enter=partial(self.chain.enter, checkpoint),
            )
        )

    def _hand_over(self, following: EpochSet, signatures: dict[int, bytes]) -> None:
        """Have the contract open an epoch, and write the record."""
        self._carry_through(
            DueStep(
                what=f"opening of epoch {following.epoch}",
                certificate=encode_certificate(make_certificate(self.chain.epoch_set.size, signatures)),
                done=partial(self.chain.has_opened, following.epoch),
                send=partial(self.chain.hand_over, following, signatures),
                enter=partial(self.chain.enter_handover, following),
            )
        )

    def _carry_through(self, step: DueStep) -> None:
        """See a step through, write the record, and only then forget what was noted."""
        self.sender.carry_through(step)
        replace_file(self.state / CHAIN_RECORD, encode_chain_record(self.chain.record()))
        self.sender.forget()
