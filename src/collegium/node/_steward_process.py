"""A steward of a task's quality as a process: hidden rows in its folder, and each round a record to every validator.

What it measures is the model of a header that is proved final, whoever told it. A record is on disk before it leaves
(`_steward_disk`), so that no kill makes it sign two for one round. docs/spec/processes.md, section 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from collegium.errors import CollegiumError

from ._client import FinalHeader, ValidatorClient
from ._consortium import load_steward, read_genesis
from ._desk import Verdict
from ._epochs import epochs_of
from ._experiment import experiment_from_bytes, require_for_processes
from ._final_walk import next_header, patiently, round_after
from ._network_settings import StewardSettings
from ._process import first_to_end, open_log, stop_signal
from ._setup import build_trainers_task
from ._steward import Steward
from ._steward_disk import StewardDisk
from ._task import LearningTask

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["StewardProcess", "run_steward"]

T = TypeVar("T")
AGAIN_S: Final = 30.0  # after which a record of a round that goes on is brought again: a killed validator forgets it


async def run_steward(settings: StewardSettings) -> None:
    """Measure the model of each round until the task's last round is final, or until a signal to stop.

    Raises:
        CollegiumError: settings, keys, rows or journal cannot be used, or the rows do not fit the task.
    """
    with open_log(settings.log, "steward") as log:
        async with stop_signal() as stopping:
            process = StewardProcess.open(settings, log)
            try:
                await first_to_end(process.measure(), stopping.wait())
            finally:
                await process.close()


@dataclass(eq=False)
class StewardProcess:
    """A steward with everything around it; `thread` is where it computes and writes."""

    log: FilteringBoundLogger
    rounds: int
    task: LearningTask
    client: ValidatorClient
    disk: StewardDisk
    steward: Steward
    thread: ThreadPoolExecutor

    @classmethod
    def open(cls, settings: StewardSettings, log: FilteringBoundLogger) -> StewardProcess:
        """Read the folder and take up where the journal ends."""
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        require_for_processes(experiment)
        place, steward = load_steward(settings, genesis, experiment)
        task = build_trainers_task(genesis, experiment)
        disk = StewardDisk.open(settings.state)
        steward.told.update(disk.told())
        return cls(
            log=log.bind(name=str(place)),
            rounds=experiment.task.rounds,
            task=task,
            client=ValidatorClient.over_tls(
                epochs_of(genesis, experiment.committee), settings.validators, settings.tls.authority
            ),
            disk=disk,
            steward=steward,
            thread=ThreadPoolExecutor(1, thread_name_prefix="steward"),
        )

    async def measure(self) -> None:
        """Send a record in every round of training that is still to come."""
        header = await patiently(self.client.latest)
        self.log.info("ready", round=round_after(header))
        while round_after(header) <= self.rounds:
            header = await self._round(header)
        self.log.info("finished")

    async def close(self) -> None:
        """Hang up; a step that has begun is finished and written down."""
        await self.client.close()
        await asyncio.to_thread(self.thread.shutdown)
        self.disk.close()

    async def _round(self, header: FinalHeader | None) -> FinalHeader:
        """Send the record of the round after a final header; return the next final one."""
        number, taken = round_after(header), set[int]()
        data = None if header is None else await self._record(header)
        found = await next_header(self.client, header, self._bring(number, data, taken))
        if data is not None and not taken:
            self.log.warning("record_late", round=number)
        await self._compute(lambda: self.disk.forget(number))
        return found

    async def _record(self, header: FinalHeader) -> bytes | None:
        """Return the record of the round after a header, which is on disk by then; None where rows say nothing."""
        number = round_after(header)
        await patiently(lambda: self.client.epoch_after(header))  # whose members the record goes to
        known = await self._compute(lambda: self.disk.record(number))
        if known is not None:
            return known
        model = await patiently(lambda: self.client.object(header.certified.header.model))
        try:
            data = await self._compute(lambda: self.steward.record(self.task, number, model))
        except CollegiumError as error:
            self.log.warning("round_missed", round=number, reason=error)
            return None
        await self._compute(lambda: self.disk.keep(number, data, self.steward.told[number]))
        return data

    async def _bring(self, number: int, data: bytes | None, taken: set[int]) -> None:
        """Bring a record to every member of the epoch while its round lasts; it is sent when a quorum has taken it."""
        if data is None:
            return
        quorum = self.client.epochs.of_round(number).epoch_set.quorum

        def told(validator: int, verdict: Verdict | CollegiumError) -> None:
            if isinstance(verdict, Verdict) and verdict.outcome in ("admitted", "kept"):
                if validator not in taken and len(taken) + 1 == quorum:
                    self.log.info("record_sent", round=number, bytes=len(data))
                taken.add(validator)
            elif not isinstance(verdict, Verdict) or verdict.outcome == "refused":
                said = verdict if not isinstance(verdict, Verdict) else f"{verdict.reason}: {verdict.detail}"
                self.log.warning("record_not_taken", round=number, validator=validator, reason=said)

        while True:
            await self.client.bring_record(number, data, told)
            await asyncio.sleep(AGAIN_S)

    async def _compute(self, work: Callable[[], T]) -> T:
        """Run something in the steward's thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)
