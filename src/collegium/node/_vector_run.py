"""A federation whose update is any vector, played with the real committee: lottery, masking, proofs, votes, openings.

Left out are the base chain and the files of a run: nobody can verify it afterwards, and none of its data are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from collegium.crypto import AccountKey, Digest, os_random

from ._epoch_node import present
from ._events import Event, Message, ReportSubmitted, RoundFinished, RoundStarted
from ._facts import RoundFacts, round_facts
from ._genesis import Genesis
from ._journal import BlockStore
from ._ledger import OrderedRound, assemble_rounds
from ._network import Network
from ._play import play_round
from ._round_watch import PlayedRound
from ._setup import Roles, draw_validators, found, open_network
from ._trainer import Trainer
from ._vectors import FloatArray, Quantiser, VectorRows, VectorTask, first_vector_state
from ._workers import Workers

__all__ = ["VectorRound", "VectorScores", "VectorSettings", "play_vectors"]

FORMAT = "collegium/v1/vectors"
SECONDS_PER_KWH = 3.6e6

Learn = Callable[[FloatArray, bytes], npt.NDArray[np.floating]]


class VectorScores(Protocol):
    """What a model is worth on test rows; NaN where a number has no meaning."""

    @property
    def loss(self) -> float: ...

    @property
    def accuracy(self) -> float: ...

    @property
    def auc(self) -> float: ...


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """What a vector federation is played with.

    Attributes:
        minimum: how few trainers one sum may add.
        verifiers: validators that the beacon chooses to verify each report's proof.
        watts: assumed power of one busy core, for the energy estimate.
    """

    name: str
    rounds: int
    level: Literal["unproved", "bounded"]
    quantiser: Quantiser
    seats: int = 16
    minimum: int = 4
    verifiers: int = 4
    link_ms: int = 50
    watts: int = 15


@dataclass(frozen=True, slots=True, eq=False)
class VectorRound:
    """A round that is final, from 1 on: what the ledger says of it, what its model is worth, and what it took."""

    round: int
    facts: RoundFacts
    scores: VectorScores
    coordination_ms: float
    finality_ms: float
    prove_ms: float | None
    verify_ms: float | None
    energy_kwh: float


def play_vectors(
    settings: VectorSettings,
    initial: FloatArray,
    trainers: Mapping[str, Learn],
    evaluate: Callable[[FloatArray], VectorScores],
    on_event: Callable[[Event], None],
    on_network: Callable[[Network], None] = lambda _: None,
) -> tuple[list[VectorRound], FloatArray]:
    """Play all rounds; return them, and the weights after the last. A round that does not open leaves them as they are.

    Args:
        settings: what is public.
        initial: the weights to begin with.
        trainers: by name, what takes a round's weights and a seed and returns their change; stays in this process.
        evaluate: takes weights.
        on_event: is told of progress.
        on_network: is given the network before the first round, to look on or to change its links between rounds.

    Raises:
        VectorTaskError, VectorStateError, VectorLevelError, BudgetError: the settings are refused.
        StalledError: a round does not become final.
        CollegiumError: whatever a trainer raises.
    """
    people = [
        # `play_round` asks a trainer's rows for their name alone; the rest is between them and the task
        Trainer(AccountKey.generate(os_random), VectorRows(name, f"{name}/0", learn))  # type: ignore[arg-type]
        for name, learn in trainers.items()
    ]
    state = first_vector_state(initial, settings.quantiser, len(people))
    genesis, roles = _found(settings, state, people)
    task = _task(settings, genesis.task, state, len(people))
    nodes, network = open_network(genesis, task, roles, settings.link_ms)
    on_network(network)
    on_event(Message(f"level {settings.level}; genesis {genesis.digest.hex()[:16]}"))
    ledger, rounds = _Ledger(present(next(iter(nodes.values()))).archive), list[VectorRound]()
    weights = task.weights(state)
    with Workers() as workers:
        for number in range(settings.rounds):
            on_event(RoundStarted(number + 1, settings.rounds))

            def reported(index: int, name: str, number: int = number) -> None:
                on_event(ReportSubmitted(number + 1, name, index, len(people)))

            played = play_round(network, nodes, genesis.epoch_set, task, people, os_random, reported, workers)
            weights = task.weights(played.model)
            rounds.append(_round(settings, ledger.next(number), played, evaluate(weights)))
            on_event(_event(rounds[-1], settings.rounds))
            if rounds[-1].facts.outcome != "opened":
                on_event(Message(f"round {number + 1}: {rounds[-1].facts.outcome}; the model stays as it is"))
    return rounds, weights


@dataclass
class _Ledger:
    """One validator's archive, read a round at a time."""

    archive: BlockStore
    blocks_used: int = 0
    view_before: int = 0

    def next(self, number: int) -> OrderedRound:
        """Return the round that just became final."""
        blocks = self.archive.blocks
        end = max(place for place, block in enumerate(blocks) if block.payload) + 1
        tip = self.archive.proofs[blocks[end - 1].digest]
        (ordered,) = assemble_rounds(blocks[self.blocks_used : end], tip, number, self.view_before)
        self.blocks_used, self.view_before = end, ordered.views[-1]
        return ordered


def _task(settings: VectorSettings, digest: Digest, state: bytes, trainers: int) -> VectorTask:
    return VectorTask(
        task=digest,
        level=settings.level,
        entries=len(state) // 8,
        quantiser=settings.quantiser,
        trainers=trainers,
        initial=state,
        cohort_min=settings.minimum,
        lying_max=0,
    )


def _found(settings: VectorSettings, state: bytes, trainers: list[Trainer]) -> tuple[Genesis, Roles]:
    """Return a genesis that binds the task's description in the place of an experiment, and everybody's secrets."""
    described = _task(settings, bytes(32), state, len(trainers)).describe()
    public = {"format": FORMAT, "name": settings.name, "rounds": settings.rounds, "task": described}
    draft = Genesis(
        experiment=msgspec.json.encode(public, order="sorted"),
        schema=b"",
        rows_max=1,
        trainers=tuple((trainer.account.address, trainer.rows.name) for trainer in trainers),
        operator=AccountKey.generate(os_random).address,
        epoch=0,
        validators=(),
        beacon_commitments=(),
        beacon=b"",
    )
    validators = draw_validators(settings.seats)
    genesis, beacons = found(draft, validators, frozenset())
    return genesis, Roles(validators, beacons, frozenset(), frozenset(), settings.verifiers)


def _round(settings: VectorSettings, ordered: OrderedRound, played: PlayedRound, scores: VectorScores) -> VectorRound:
    proof_bytes = sum(len(played.uploads[report].proof) for report in ordered.close.reports)
    facts = round_facts(ordered, settings.seats, proof_bytes)
    return VectorRound(
        round=facts.round + 1,
        facts=facts,
        scores=scores,
        coordination_ms=played.coordination_ms,
        finality_ms=played.finality_ms,
        prove_ms=played.prove_ms,
        verify_ms=played.verify_ms,
        energy_kwh=played.cpu_seconds * settings.watts / SECONDS_PER_KWH,
    )


def _event(played: VectorRound, rounds: int) -> RoundFinished:
    facts, scores = played.facts, played.scores
    return RoundFinished(
        round=played.round,
        rounds=rounds,
        admitted=facts.admitted,
        auc=scores.auc,
        accuracy=scores.accuracy,
        loss=scores.loss,
        coordination_ms=played.coordination_ms,
        finality_ms=played.finality_ms,
        chain_bytes=None,
        prove_ms=played.prove_ms,
        verify_ms=played.verify_ms,
        energy_kwh=played.energy_kwh,
        lying_seats=facts.lying_seats,
        absent_seats=facts.absent_seats,
        view_changes=facts.view_changes,
    )
