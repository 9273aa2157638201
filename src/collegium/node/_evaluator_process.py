"""The evaluator as a process: it holds test rows that nobody else has, and says how good each final model is there.

It decides nothing in the protocol. Its evaluations are signed lines in a file (`_evaluations`) and in its log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from collegium.crypto import AccountKey
from collegium.learning import Rows

from ._attackers import attack_kinds
from ._client import ValidatorClient
from ._consortium import load_account, read_genesis
from ._epochs import FinalRound, epochs_of
from ._evaluations import EvaluationError, EvaluationFile, RoundEvaluation, check_evaluation, sign_evaluation
from ._experiment import experiment_from_bytes
from ._final_walk import FinalWalk, patiently
from ._genesis import Genesis
from ._network_settings import EvaluatorSettings
from ._process import first_to_end, open_log, stop_signal
from ._quality_facts import weighed_event
from ._row_files import read_rows
from ._setup import build_task
from ._task import LearningTask

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["EVALUATIONS", "EvaluatorProcess", "run_evaluator"]

EVALUATIONS: Final = "evaluations.jsonl"  # in the folder of its state
TRAINERS_TOLD_MAX: Final = 256  # in a line of the log


async def run_evaluator(settings: EvaluatorSettings) -> None:
    """Evaluate every final model until the task's last round, or until a signal to stop.

    Raises:
        CollegiumError: settings, key, rows or file cannot be used.
    """
    with open_log(settings.log, "evaluator") as log:
        async with stop_signal() as stopping:
            process = EvaluatorProcess.open(settings, log)
            try:
                await first_to_end(process.evaluate(), stopping.wait())
            finally:
                await process.client.close()


@dataclass(eq=False)
class EvaluatorProcess:
    """The evaluator with everything around it."""

    log: FilteringBoundLogger
    genesis: Genesis
    rounds: int
    task: LearningTask
    attacks: Mapping[str, str]
    account: AccountKey
    rows: Rows
    file: EvaluationFile
    client: ValidatorClient

    @classmethod
    def open(cls, settings: EvaluatorSettings, log: FilteringBoundLogger) -> EvaluatorProcess:
        """Read the folder, and what was evaluated before."""
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(
            log=log,
            genesis=genesis,
            rounds=experiment.task.rounds,
            task=build_task(genesis, experiment),
            attacks=attack_kinds(experiment.attack),
            account=load_account(settings.operator_key, genesis.operator),
            rows=read_rows(settings.test_rows, experiment.data.label),
            file=EvaluationFile.open(settings.state / EVALUATIONS),
            client=ValidatorClient.over_tls(
                epochs_of(genesis, experiment.committee), settings.validators, settings.tls.authority
            ),
        )

    async def evaluate(self) -> None:
        """Evaluate the model of every round but the scaling round, each once."""
        walk = FinalWalk(self.client)
        await patiently(self.client.latest)
        self.log.info("ready", evaluated=len(self.file.evaluations))
        for number in range(self.rounds + 1):
            final = await walk.next_round()
            if number == 0:
                continue
            if number <= len(self.file.evaluations):
                self._check(self.file.evaluations[number - 1], number, final)
                continue
            self.file.append(await self._evaluate(final))
        self.log.info("finished")

    def _tell_weights(self, number: int, model: bytes) -> None:
        """Say what stewards made of the trainers, where there are some."""
        weighed = weighed_event(self.task, number, model, self.attacks)
        if weighed is not None:
            told = [asdict(entry) for entry in weighed.trainers[:TRAINERS_TOLD_MAX]]
            fields = {"weight_max": weighed.weight_max, "model_score": weighed.model_score}
            self.log.info("weighed", round=number, trainers=told, **fields)

    async def _evaluate(self, final: FinalRound) -> RoundEvaluation:
        header = final.certified.header
        model = await patiently(lambda: self.client.object(header.model))
        found = await asyncio.to_thread(self.task.evaluate, model, self.rows)
        unsigned = RoundEvaluation(
            task=self.genesis.task,
            round=header.round,
            header=header.digest,
            model=header.model,
            rows=len(self.rows),
            loss=found.loss,
            accuracy=found.accuracy,
            auc=found.auc,
        )
        scores = {"auc": found.auc, "accuracy": found.accuracy, "loss": found.loss}
        self.log.info("evaluation", round=header.round, **scores)
        self._tell_weights(header.round, model)
        return sign_evaluation(unsigned, self.account)

    def _check(self, known: RoundEvaluation, number: int, final: FinalRound) -> None:
        """Refuse a file that is another run's."""
        if known.round != number:
            raise EvaluationError(f"line {number} is about round {known.round}", round=known.round)
        check_evaluation(known, self.genesis.task, final.certified.header.digest, self.genesis.operator)
