"""What a task fixes before its first round, as far as its public work depends on it: what the programs that decide that
work are compiled with, and so what the task's courts hold.
"""

from __future__ import annotations

from functools import lru_cache

from collegium import learning
from collegium.consensus import ROUND_RECORD_BYTES_MAX
from collegium.settlement import (
    STEPS_MAX,
    CourtRules,
    DissectionKind,
    EvaluationPlan,
    Program,
    ProofPlan,
    ProofPlanError,
    PublicWork,
    QualityTerms,
    RewardTerms,
    StepPlan,
    WorkTerms,
    WorkTermsError,
    compile_program,
    public_works,
    step_rule,
)

from ._experiment import Experiment
from ._genesis import Genesis, first_terms
from ._proofs import PACK_ROUNDS
from ._task import EMPTY_STATE, LearningTask

__all__ = ["convicting_kinds", "convicting_programs", "convicting_works", "court_rules", "proof_plan", "work_terms"]

_EVERY_ROUND = 1 << 62
_COMPILED_MAX = 64  # programs that are kept


def court_rules(genesis: Genesis, experiment: Experiment, task: LearningTask) -> CourtRules | None:
    """Return what the court of a task holds; None where the task has none.

    It is that of the machine, in which a right header stands under one bond. Where the programs do not hold for a task,
    it is the one for model steps, which knows models of statistics and parameters alone: a task with stewards, whose
    models hold a state of quality too, is founded without.

    Raises:
        WorkTermsError: the task has stewards, and the programs do not hold for it.
    """
    if not experiment.chain.courts:
        return None
    rule = None if task.quality is not None else step_rule(task.spec, task.rule, task.layout(0).entries)
    try:
        terms = work_terms(genesis, experiment, task)
    except WorkTermsError as error:
        if rule is None:
            raise WorkTermsError(
                f"{error}; no other court knows a task with stewards: set chain.courts to false"
            ) from error
        return CourtRules(rule)
    return CourtRules(None, convicting_kinds(terms), terms.levels)


def convicting_works(terms: WorkTerms) -> tuple[PublicWork, ...]:
    """Return the kinds of a court that contracts with stakes may ask: no honest signer loses there."""
    return tuple(work for work in public_works(terms) if work.convicts)


def convicting_programs(terms: WorkTerms) -> tuple[Program, ...]:
    """Return their programs, in their order."""
    return tuple(_compiled(work.module, tuple(work.parameters.items())) for work in convicting_works(terms))


def convicting_kinds(terms: WorkTerms) -> tuple[DissectionKind, ...]:
    """Return the kinds as a court of the task holds them."""
    return tuple(DissectionKind(program.digest, terms.head, of_header=True) for program in convicting_programs(terms))


@lru_cache(_COMPILED_MAX)
def _compiled(module: str, parameters: tuple[tuple[str, int], ...]) -> Program:
    return compile_program(module, dict(parameters))


def work_terms(genesis: Genesis, experiment: Experiment, task: LearningTask) -> WorkTerms:
    """Return what a task fixes before its first round, as far as its headers' public work depends on it.

    Raises:
        WorkTermsError: the programs do not hold for such a task.
    """
    committee = experiment.committee
    if committee.shards > 1:
        raise WorkTermsError(f"rounds in {committee.shards} shards, the programs are about rounds of one committee")
    parameters = learning.parameters_to_bytes(task.spec, task.rule, task.first_parameters())
    return WorkTerms(
        task=task.task,
        level=task.level,
        genesis=genesis.digest,
        first=first_terms(genesis, task, committee.seats, EMPTY_STATE),
        layout=task.layout(1 + task.staleness),
        trainers=tuple(account for account, _ in genesis.trainers),
        trainers_min=task.cohort_min,
        lying_max=task.lying_max,
        epoch_set=genesis.epoch_set,
        epoch_rounds=_EVERY_ROUND if committee.epoch_rounds is None else committee.epoch_rounds,
        proves=bool(task.proof_bytes_max(1)),
        rule=step_rule(task.spec, task.rule, task.layout(0).entries),
        parameters=parameters,
        plan=proof_plan(task),
        records=record_plan(task),
        quality=None if task.quality is None else QualityTerms(task.quality.fold_rule, task.quality.stewards),
        rewards=None if task.pay is None else RewardTerms(task.pay.budget, tuple(task.pay.payees.values())),
    )


def proof_plan(task: LearningTask) -> ProofPlan | None:
    """Return the plan of a task's proofs, None where reports carry none, or such that no program verifies in time."""
    step = None
    if task.level not in ("bounded", "proved"):
        return None
    if task.level == "proved":
        try:
            step = _step_plan(task)
        except ProofPlanError:
            return None
    plan = _plan_of(task, step)
    steps = task.trainers_max * plan.steps_max(task.layout(0), task.layout(1 + task.staleness))
    return plan if steps < STEPS_MAX // 2 else None


def record_plan(task: LearningTask) -> ProofPlan | None:
    """Return the plan of stewards' evaluations, None where there are none, or such that no program verifies in time."""
    quality = task.quality
    if quality is None or quality.proving is None:
        return None
    proving = quality.proving
    try:
        step = _step_plan(task, EvaluationPlan(proving.shards, proving.shard_rounds, ROUND_RECORD_BYTES_MAX))
        plan = _plan_of(task, step)
        return plan if len(quality.stewards) * plan.record_steps_max < STEPS_MAX // 2 else None
    except ProofPlanError:
        return None


def _plan_of(task: LearningTask, step: StepPlan | None) -> ProofPlan:
    return ProofPlan(task.rule_digest, task.layout(0).entries, task.layout(1).entries, step=step)


def _step_plan(task: LearningTask, evaluation: EvaluationPlan | None = None) -> StepPlan:
    """Return the plan of a task's training steps.

    Raises:
        ProofPlanError: no program verifies them.
    """
    return StepPlan(
        spec=task.spec,
        rule=task.rule,
        rows_max=task.rows_max,
        rounds=task.rounds,
        pack_rounds=PACK_ROUNDS,
        statistics_len=8 * task.layout(0).entries,
        names=task.names,
        stewards=0 if task.quality is None else len(task.quality.stewards),
        evaluation=evaluation,
    )
