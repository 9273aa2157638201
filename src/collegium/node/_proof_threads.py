"""Verifies proofs in threads beside the machine's, so that a step finds their results instead of computing them.

A message whose handling is about to verify a proof waits for it on the event loop's side and then comes back to the
mailbox; other messages pass it meanwhile, as they may on any network. Kernels leave the interpreter to others while
they compute, so threads suffice. Nothing here decides anything: results are a memory of pure functions, and without
one the step computes it itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from collegium.consensus import Agreed, DueProof, bytes_in
from collegium.errors import CollegiumError

from ._machine import Sender
from ._network import SharedWork
from ._workers import worker_count

__all__ = ["ProofLimits", "ProofResults", "ProofThreads", "Verified"]

ProofResults: TypeAlias = Mapping[Hashable, tuple[object, CollegiumError | None, float]]
"""What `SharedWork.results` holds: by key the value, the refusal, and the milliseconds that it took."""


@dataclass(frozen=True, slots=True)
class ProofLimits:
    """How much may wait for proofs at once: messages, and bytes of the reports with their proofs.

    A message beyond that is handled at once: its step verifies the proof, which holds up everything else.
    """

    messages_max: int = 256
    bytes_max: int = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """A message that has waited.

    Attributes:
        results: to be entered before it is handled.
        whole: whether it need not wait again: not so if another report of the same trainer had to be verified first.
    """

    message: object
    results: ProofResults
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """The verification of one report's proof, whether it has ended or not."""

    key: Hashable
    done: asyncio.Future[ProofResults]


@dataclass(eq=False)
class ProofThreads:
    """Verifies one proof of each trainer at a time, and in all as many as there are threads.

    All methods belong to the event loop's thread.

    Args:
        agreed: the task.
        come_back: takes (sender, message, bytes) when the message need not wait any more.
        count: of threads; as many as COLLEGIUM_WORKERS says, else as there are cores.
    """

    agreed: Agreed
    come_back: Callable[[Sender, object, int], object]
    limits: ProofLimits = field(default_factory=ProofLimits)
    count: int = field(default_factory=worker_count)
    waiting: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _jobs: dict[bytes, _Job] = field(default_factory=dict, init=False)  # by trainer: the last one
    _waits: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="proofs")

    def begin(self, sender: Sender, message: object, due: Sequence[DueProof]) -> None:
        """Have a message come back when these proofs are verified; at once if too much waits already."""
        size = sum(map(bytes_in, (proof.held for proof in due)))
        if self.waiting >= self.limits.messages_max or self._bytes + size > self.limits.bytes_max:
            self.come_back(sender, Verified(message, {}, whole=True), size)
            return
        self.waiting += 1
        self._bytes += size
        task = asyncio.get_running_loop().create_task(self._wait(sender, message, due, size))
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)

    def close(self) -> None:
        """Finish the proofs that have begun; whoever waits does not come back."""
        for task in self._waits:
            task.cancel()
        self._pool.shutdown(cancel_futures=True)

    async def _wait(self, sender: Sender, message: object, due: Sequence[DueProof], size: int) -> None:
        results: dict[Hashable, tuple[object, CollegiumError | None, float]] = {}
        jobs = [self._job(proof) for proof in due]
        try:
            await asyncio.wait([job.done for job in jobs])
        finally:
            self.waiting -= 1
            self._bytes -= size
        for job in jobs:
            if job.done.exception() is None:  # else it is our bug: the step runs into it again, and ends the process
                results.update(job.done.result())
        whole = all(job.key == proof.key for job, proof in zip(jobs, due, strict=True))
        self.come_back(sender, Verified(message, results, whole), size)

    def _job(self, proof: DueProof) -> _Job:
        """Return this proof's verification, or that of another report of its trainer that has begun before."""
        trainer = proof.held.report.trainer
        job = self._jobs.get(trainer)
        if job is None or (job.done.done() and job.key != proof.key):
            loop = asyncio.get_running_loop()
            job = _Job(proof.key, loop.run_in_executor(self._pool, _verify, self.agreed, proof))
            self._jobs[trainer] = job
        return job


def _verify(agreed: Agreed, proof: DueProof) -> ProofResults:
    """Return what verifying a proof, and its registration before it, gave."""
    work = SharedWork()
    with suppress(CollegiumError):  # it is in the results, under what it is a refusal of
        proof.verify(work, agreed)
    return work.results
