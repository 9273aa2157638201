"""A trainer as a process: its rows and its journal from its folder, one upload a round to every validator.

A round here is `play_round`'s steps 1 to 5 for one trainer. What it believes of a round follows from a header that is
proved final, whoever told it. docs/spec/processes.md says what is on disk when.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from collegium.aggregation import RoundTerms
from collegium.consensus import EpochSet, Registered, encode_upload, terms_after
from collegium.crypto import AccountKey, load_secret, os_random
from collegium.errors import CollegiumError

from ._attest import ask_command
from ._client import FinalHeader, ValidatorClient
from ._consortium import read_genesis
from ._desk import Verdict
from ._epochs import epochs_of
from ._experiment import Experiment, experiment_from_bytes, require_for_processes
from ._figures import FIGURES, RoundFigures, append_figures
from ._final_walk import next_header, patiently, round_after
from ._genesis import Genesis, first_terms
from ._network_settings import TrainerSettings
from ._play import TrainersBench
from ._process import first_to_end, open_log, stop_signal
from ._row_files import read_trainer_rows
from ._setup import build_trainers_task
from ._task import EMPTY_STATE, LearningTask, ModelStateError
from ._trainer import EncodingUsedError, NotRegisteredError, Trainer
from ._trainer_disk import TrainerDisk
from ._workers import Workers

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["TrainerProcess", "UnknownTrainerError", "run_trainer"]

T = TypeVar("T")


class UnknownTrainerError(CollegiumError):
    """Genesis lists no trainer with this account."""


async def run_trainer(settings: TrainerSettings) -> None:
    """Train until the task's last round is final, or until a signal to stop.

    Raises:
        CollegiumError: settings, keys, rows or journal cannot be used, or the rows do not fit the task.
    """
    with open_log(settings.log, "trainer") as log:
        async with stop_signal() as stopping:
            process = TrainerProcess.open(settings, log)
            try:
                await first_to_end(process.train(), stopping.wait())
            finally:
                await process.close()


@dataclass(eq=False)
class TrainerProcess:
    """A trainer with everything around it; `thread` is where it computes and writes."""

    log: FilteringBoundLogger
    genesis: Genesis
    experiment: Experiment
    task: LearningTask
    client: ValidatorClient
    disk: TrainerDisk
    trainer: Trainer
    figures: Path
    thread: ThreadPoolExecutor

    @classmethod
    def open(cls, settings: TrainerSettings, log: FilteringBoundLogger) -> TrainerProcess:
        """Read the folder and take up where the journal ends."""
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        require_for_processes(experiment)
        account = AccountKey(load_secret(settings.account_key, "account"))
        name = _name_of(account.address, genesis)
        rows = read_trainer_rows(settings.data, name, experiment.data.label)
        attest = ask_command(settings.attest, settings.state.parent) if settings.attest else None
        disk = TrainerDisk.open(settings.state)
        return cls(
            log=log.bind(name=name),
            genesis=genesis,
            experiment=experiment,
            task=build_trainers_task(genesis, experiment),
            client=ValidatorClient.over_tls(
                epochs_of(genesis, experiment.committee), settings.validators, settings.tls.authority
            ),
            disk=disk,
            trainer=Trainer(account, rows, disk.journal(), attest),
            figures=settings.state / FIGURES,
            thread=ThreadPoolExecutor(1, thread_name_prefix="trainer"),
        )

    async def train(self) -> None:
        """Take part in every round that is still to come."""
        header = await patiently(self.client.latest)
        self.log.info("ready", round=round_after(header))
        while round_after(header) <= self.experiment.task.rounds:
            header = await self._round(header)
        self.log.info("finished")

    async def close(self) -> None:
        """Hang up; a step that has begun is finished and written down."""
        await self.client.close()
        await asyncio.to_thread(self.thread.shutdown)
        self.disk.close()

    async def _round(self, header: FinalHeader | None) -> FinalHeader:
        """Take part in the round after a final header, or in a later one that has begun; return the next final one."""
        number = round_after(header)
        data, signed = await self._compute(lambda: (self.disk.upload(number), self.disk.reported(number)))
        if signed is None:
            header, data = await self._report(header)
            number = round_after(header)
        else:
            await self._epoch_set(header)  # whose members the upload goes to; to make one asks for it as well
        found = await next_header(self.client, header, self._hand_in(number, data or b""))
        await self._compute(lambda: self.disk.forget_upload(number))
        return found

    async def _report(self, header: FinalHeader | None) -> tuple[FinalHeader | None, bytes | None]:
        """Make the upload of the round after a header, or of one that began while this trained, and keep it.

        No bytes where there is no encoding left for this round, no model yet, or where others were drawn to report.
        """
        # 1. task: the final header before this round fixed the terms
        terms, model = await self._terms(header)
        if not await self._compute(lambda: may_report(self.task, terms, model, self.trainer.account.address)):
            self.log.info("not_drawn", round=terms.round)
            return header, None
        registered: Registered | None = None
        if self.task.registration_bytes_max(terms.round):
            registered = await patiently(lambda: self.client.registered(self.trainer.account.address))
        # 2.-5. learn, mask and commit, prove, seal and sign; then write down, before a byte leaves
        try:
            trained, learned_s = None, 0.0
            if self.task.staleness and terms.round:
                update, learned_s = await self._compute(lambda: self._learn(terms, model))
                header, late = await self._newest(header)
                if late:
                    terms, model = await self._terms(header)
                # one that is too stale is dropped, and the newest round's trained anew
                trained = (update, late) if late <= self.task.staleness_max(terms.round) else None
            return header, await self._compute(lambda: self._make(terms, model, registered, trained, learned_s))
        except (NotRegisteredError, EncodingUsedError, ModelStateError) as error:
            self.log.warning("round_missed", round=terms.round, reason=error)
            return header, None

    async def _terms(self, header: FinalHeader | None) -> tuple[RoundTerms, bytes]:
        """Return the terms of the round after a header, and the model that they name."""
        if header is None:
            model = EMPTY_STATE
            terms = first_terms(self.genesis, self.task, self.experiment.committee.seats, model)
        else:
            final = header.certified.header
            model = await patiently(lambda: self.client.object(final.model))
            terms = terms_after(self.task, await self._epoch_set(header), final)
        return terms, model

    async def _epoch_set(self, header: FinalHeader | None) -> EpochSet:
        """Return the epoch set of the round after a final header."""
        if header is None:
            return self.genesis.epoch_set
        return (await patiently(lambda: self.client.epoch_after(header))).epoch_set

    async def _newest(self, header: FinalHeader | None) -> tuple[FinalHeader | None, int]:
        """Return the newest final header if its round is one to report in, and by how many rounds it is newer."""
        newest = await patiently(self.client.latest)
        late = round_after(newest) - round_after(header)
        if late <= 0 or round_after(newest) > self.experiment.task.rounds:
            return header, 0
        signed = await self._compute(lambda: self.disk.reported(round_after(newest)))
        return (newest, late) if signed is None else (header, 0)

    def _learn(self, terms: RoundTerms, model: bytes) -> tuple[npt.NDArray[np.int64], float]:
        """Return the update of a round, and the processor seconds that it took."""
        cpu_s = time.process_time()
        update = self.task.update(terms.round, model, self.trainer.rows, terms.beacon)
        return update, time.process_time() - cpu_s

    def _make(
        self,
        terms: RoundTerms,
        model: bytes,
        registered: Registered | None,
        trained: tuple[npt.NDArray[np.int64], int] | None,
        learned_s: float,
    ) -> bytes:
        """Return the bytes of this round's upload, which are on disk by then.

        `trained`: the update, and how stale it is, where it was trained already; `learned_s`: what that took.
        """
        account = self.trainer.account.address
        known = {} if registered is None else {registered.trainer: registered}
        done = {} if trained is None else {account: trained}
        bench = TrainersBench(self.task, terms, model, known, Workers(1), os_random, trained=done)
        cpu_s = time.process_time()
        (upload,) = bench.uploads([self.trainer])
        data = encode_upload(upload)
        self.disk.keep_upload(terms.round, upload.report.id, data)
        prove_ms = round(bench.prove_ms[0], 3) if bench.prove_ms else None
        cpu_seconds = round(learned_s + time.process_time() - cpu_s, 6)
        append_figures(self.figures, RoundFigures(terms.round, cpu_seconds=cpu_seconds, prove_ms=prove_ms))
        return data

    async def _hand_in(self, number: int, data: bytes) -> None:
        """Upload to every member of the epoch until each has spoken; it counts as sent when a quorum has taken it."""
        if not data:
            return
        taken, quorum = 0, self.client.epochs.of_round(number).epoch_set.quorum

        def told(validator: int, verdict: Verdict | CollegiumError) -> None:
            nonlocal taken
            if isinstance(verdict, Verdict) and verdict.outcome in ("admitted", "kept"):
                taken += 1
                if taken == quorum:
                    self.log.info("upload_sent", round=number, bytes=len(data))
            elif not isinstance(verdict, Verdict) or verdict.outcome == "refused":
                said = verdict if not isinstance(verdict, Verdict) else f"{verdict.reason}: {verdict.detail}"
                self.log.warning("upload_not_taken", round=number, validator=validator, reason=said)

        await self.client.upload(number, data, self.trainer.account, told)

    async def _compute(self, work: Callable[[], T]) -> T:
        """Run something in the trainer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def may_report(task: LearningTask, terms: RoundTerms, model: bytes, trainer: bytes) -> bool:
    """Tell whether a trainer may report in a round: where stewards' scores draw some, it is one of them."""
    entry = None if task.quality is None else task.quality.entry(terms.round, model, terms.beacon)
    return entry is None or trainer in entry.weights


def _name_of(address: bytes, genesis: Genesis) -> str:
    """Return the name of the trainer with this account."""
    for account, name in genesis.trainers:
        if account == address:
            return name
    raise UnknownTrainerError(f"genesis lists no trainer with account 0x{address.hex()}", account=address)
