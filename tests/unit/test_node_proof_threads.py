"""A validator's proofs are verified beside its steps: what passes meanwhile, what is bounded, and who is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from _round_stage import EMPTY_MODEL, LINK_MS, Archive, committee, context_of
from test_consensus_proving import BAD, PROOF_BYTES_MAX, Proving, chosen, proved

from collegium.aggregation import KeyClaim, Report, RoundTerms, Upload
from collegium.consensus import DueProof, EpochSigner, EpochVerifier, RoundState, Tick, ValidatorContext, proofs_due
from collegium.node import SharedWork
from collegium.node._desk import Verdict
from collegium.node._epoch_node import EpochNode
from collegium.node._epoch_wire import EpochMessage
from collegium.node._journal_disk import EpochJournals
from collegium.node._machine import Leaves, Machine, Sender
from collegium.node._proof_threads import ProofLimits, ProofThreads, Verified
from collegium.node._round_archive import RoundArchive
from collegium.node._validator_desk import NodeSteps, Standing, Submission

WAIT_S = 60.0
GOOD, FORGED = proved(0), proved(0, letters=BAD)
INDEX = chosen(0)[0]  # a validator that must verify trainer 0's proof


@dataclass(frozen=True)
class Gated(Proving):
    """`Proving` that notes in which thread each proof is verified, and does it only while the gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    threads: list[str] = field(default_factory=list)
    bug: bool = False

    def verify_proof(
        self, terms: RoundTerms, model: bytes, report: Report, ciphertext: np.ndarray, proof: bytes, registration: bytes
    ) -> KeyClaim:
        self.threads.append(threading.current_thread().name.partition("_")[0])
        assert self.gate.wait(WAIT_S)
        if self.bug:
            raise ZeroDivisionError("a bug of ours")
        return super().verify_proof(terms, model, report, ciphertext, proof, registration)


class Deaf:
    """Is told of steps and notes nothing."""

    def stepped(self, kind: str, before: Standing, after: Standing, took_s: float) -> None:
        """Do nothing."""

    def noted(self, sender: Sender, note: object) -> None:
        """Do nothing."""


@dataclass(eq=False)
class Scene:
    """One validator of sixteen, with its machine and its threads, whose disk outlives it."""

    folder: Path
    agreed: Gated = field(default_factory=Gated)
    limits: ProofLimits = field(default_factory=ProofLimits)
    beside: bool = True
    machine: Machine = field(init=False)
    steps: NodeSteps = field(init=False)
    handled: list[str] = field(default_factory=list)

    def begin(self) -> None:
        who, work = committee(), SharedWork()
        surroundings = context_of(INDEX, 2, agreed=self.agreed, work=work)
        signer, verifier = EpochSigner(who.voting[INDEX], who.accounts[INDEX]), EpochVerifier(who.epoch_set)
        context = ValidatorContext(surroundings, signer, verifier, Archive(), 10 * LINK_MS)
        seals = {0: who.first_seals[INDEX]}
        journals = EpochJournals(self.folder / "epochs", 2)
        accounts = [validator.account for validator in who.epoch_set.validators]
        first = (context, who.terms, EMPTY_MODEL, seals, 0)
        member, _ = EpochNode.restore(INDEX, accounts, journals.open, *first, journals.close)
        self.machine = Machine(INDEX)
        proofs = ProofThreads(self.agreed, self.machine.mailbox.add, self.limits, 2) if self.beside else None
        archive = RoundArchive.open(self.folder / "archive.db")
        self.steps = NodeSteps(member, journals, archive, Deaf(), 3, proofs)

    def step(self, message: object, now_ms: int, sender: Sender) -> list[Leaves]:
        leaves = self.steps.step(message, now_ms, sender)
        self.handled.append(type(message).__name__)
        return leaves

    async def submit(self, upload: Upload) -> asyncio.Future[Verdict]:
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        await self.machine.mailbox.put(None, Submission(upload, verdict), 1000)
        return verdict

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.001)

    @property
    def round(self) -> RoundState:
        """The validator's state in the present round."""
        return self.steps.epochs.node.state.round

    @property
    def written(self) -> int:
        """How many uploads are on the disk."""
        return len(self.steps.journals.open(0).read().uploads)

    @property
    def waiting(self) -> int:
        return 0 if self.steps.proofs is None else self.steps.proofs.waiting


def played(scene: Scene, play: Callable[[], Awaitable[None]]) -> None:
    """Run a scene's machine while `play` goes on."""

    async def both() -> None:
        scene.begin()
        running = asyncio.ensure_future(scene.machine.run(scene.step, lambda to, frame: None))
        try:
            await asyncio.wait_for(play(), WAIT_S)
        finally:
            scene.agreed.gate.set()
            scene.machine.stop()
            try:
                await running
            finally:
                scene.steps.close()

    asyncio.run(both())


def test_other_messages_pass_one_that_waits_for_its_proof(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def play() -> None:
        verdict = await scene.submit(GOOD)
        await scene.until(lambda: scene.waiting == 1)
        for _ in range(3):
            scene.machine.tell_self(EpochMessage(0, Tick()))
        await scene.until(lambda: scene.handled.count("EpochMessage") == 3)
        assert not verdict.done()
        assert not scene.round.reports
        scene.agreed.gate.set()
        assert await verdict == Verdict("admitted")
        assert GOOD.report.id in scene.round.verified
        assert scene.waiting == 0

    played(scene, play)
    assert scene.agreed.threads == ["proofs"]


@pytest.mark.parametrize("beside", [True, False])
def test_a_forged_proof_is_refused_in_the_same_way_and_costs_one_verification(tmp_path: Path, beside: bool) -> None:
    scene = Scene(tmp_path, beside=beside)
    scene.agreed.gate.set()

    async def play() -> None:
        verdict = await (await scene.submit(FORGED))
        assert (verdict.outcome, verdict.reason) == ("refused", "BadProofError")
        assert FORGED.report.id in scene.round.rejected
        again = await (await scene.submit(FORGED))
        other = await (await scene.submit(GOOD))
        assert (again.outcome, again.reason) == ("refused", "ReportRejectedError")
        assert (other.outcome, other.reason) == ("refused", "RepeatedReportError")

    played(scene, play)
    assert scene.agreed.threads == ["proofs" if beside else "validator"]


def test_of_one_trainer_one_proof_is_verified_at_a_time(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def play() -> None:
        verdicts = [await scene.submit(upload) for upload in (FORGED, GOOD, FORGED)]
        await scene.until(lambda: scene.waiting == 3)
        assert len(scene.agreed.threads) == 1
        scene.agreed.gate.set()
        reasons = [(await verdict).reason for verdict in verdicts]
        assert reasons == ["BadProofError", "RepeatedReportError", "ReportRejectedError"]

    played(scene, play)
    assert scene.agreed.threads == ["proofs"]


def test_proofs_of_two_trainers_are_verified_at_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def play() -> None:
        dues = due_of(scene, 0), due_of(scene, 1)
        back: list[object] = []
        threads = ProofThreads(scene.agreed, lambda sender, message, size: back.append(message), count=2)
        for number, due in enumerate(dues):
            threads.begin(None, number, [due])
        await scene.until(lambda: len(scene.agreed.threads) == 2)
        scene.agreed.gate.set()
        await scene.until(lambda: len(back) == 2)
        assert all(isinstance(each, Verified) and each.whole and len(each.results) == 1 for each in back)
        threads.close()

    played(scene, play)


def due_of(scene: Scene, trainer: int) -> DueProof:
    """Return what verifying a trainer's proof takes, whoever is chosen to do it."""
    context, upload = scene.steps.context.round, proved(trainer)
    context = replace(context, verifiers=99)
    (due,) = proofs_due(context, scene.round, upload, 0)
    return due


@pytest.mark.parametrize("limits", [ProofLimits(messages_max=0), ProofLimits(bytes_max=PROOF_BYTES_MAX // 64)])
def test_what_does_not_fit_the_bounds_is_verified_by_its_step(tmp_path: Path, limits: ProofLimits) -> None:
    scene = Scene(tmp_path, limits=limits)
    scene.agreed.gate.set()

    async def play() -> None:
        assert await (await scene.submit(GOOD)) == Verdict("admitted")

    played(scene, play)
    assert scene.agreed.threads == ["validator"]


def test_a_bug_in_verifying_ends_the_machine_as_it_would_in_a_step(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Gated(bug=True))
    scene.agreed.gate.set()

    async def play() -> None:
        await scene.submit(GOOD)
        await scene.until(lambda: len(scene.agreed.threads) == 2)

    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        played(scene, play)
    assert scene.agreed.threads == ["proofs", "validator"]


def test_a_validator_that_dies_while_a_report_waits_takes_it_when_it_comes_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def dies() -> None:
        await scene.submit(GOOD)
        await scene.until(lambda: scene.waiting == 1)

    async def lives() -> None:
        assert not scene.round.reports
        assert scene.written == 0
        assert await (await scene.submit(GOOD)) == Verdict("admitted")
        assert scene.written == 1

    played(scene, dies)
    played(scene, lives)
    verified = len(scene.agreed.threads)

    async def remembers() -> None:
        assert GOOD.report.id in scene.round.verified
        assert await (await scene.submit(GOOD)) == Verdict("admitted")

    played(scene, remembers)
    assert len(scene.agreed.threads) == verified  # written down with the report


def test_bytes_that_wait_are_counted_and_given_free(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def play() -> None:
        sizes: list[int] = []

        def come_back(sender: Sender, message: object, size: int) -> None:
            sizes.append(size)

        due = due_of(scene, 0)
        threads = ProofThreads(scene.agreed, come_back, ProofLimits(messages_max=1), 1)
        threads.begin(None, "first", [due])
        threads.begin(None, "second", [due])  # no room: comes back at once
        assert len(sizes) == 1
        assert threads.waiting == 1
        scene.agreed.gate.set()
        await scene.until(lambda: len(sizes) == 2)
        assert threads.waiting == 0
        assert min(sizes) > due.held.ciphertext.nbytes
        threads.begin(None, "third", [due])
        await scene.until(lambda: len(sizes) == 3)
        threads.close()

    played(scene, play)
    assert len(scene.agreed.threads) == 1
