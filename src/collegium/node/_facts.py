"""The facts of a run that follow from its certified ledger, and the summary made of them and the operator's statement.

`run` collects the facts while it goes, `verify` derives them again from the files; the summary and the page are
functions of them, so a page that says anything else is found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from collegium.settlement import Checkpoint

from ._epochs import Epochs
from ._experiment import Experiment
from ._genesis import Genesis
from ._ledger import OrderedRound
from ._sharded_ledger import ShardedRound
from ._statement import Statement
from ._task import LearningTask

__all__ = [
    "LEVEL_NOTES",
    "CheckpointFacts",
    "ConvictionFacts",
    "EpochFacts",
    "RoundFacts",
    "attack_notes",
    "epoch_facts",
    "notes",
    "round_facts",
    "summarise",
]

SECONDS_PER_KWH = 3.6e6
ATTACKERS_SHOWN_MAX = 20

LEVEL_NOTES = {
    "unproved": (
        "Level unproved: nothing shows that an update came from the training rule or from real data; a trainer can "
        "submit any update within the bounds, and one malformed report makes a round's sum invalid without naming "
        "anybody."
    ),
    "bounded": (
        "Level bounded: every admitted report comes with a proof that its update is well formed and in range. Nothing "
        "shows that it came from the training rule or from real data."
    ),
    "attested": (
        "Level attested: every admitted report, round 0's too, comes with a hardware quote that the task's policy "
        "accepts, over this report alone. It shows which code made the report if one believes the makers of the "
        "hardware and that no machine's key was stolen. That this code computes the agreed rule, on real rows, is the "
        "word of those who listed its measurement; no rows are registered. Quotes name machines."
    ),
    "proved": (
        "Level proved: every admitted report comes with a proof that its update is the agreed rule's, on the rows that "
        "its trainer registered and on the batch that the beacon chose. Nothing shows that those rows are real, their "
        "labels true, or that nobody else registered the same ones. Round 0, which learns the scaling of the features, "
        "is proved to be well formed and in range only."
    ),
}

EVALUATOR_NOTE = (
    "Scores are of pooled test rows held by a simulated evaluator: the run's operator signs them, and only somebody "
    "with those rows can compute them again."
)
CLOCK_NOTE = (
    "Times are of an in-process network on virtual time with measured compute; energy is processor seconds times the "
    "stated watts of a core, an estimate. The operator signs them; verify cannot measure them again."
)
NETWORK_EVALUATOR_NOTE = (
    "Scores are of pooled test rows that only the evaluator has; it signed each, and the run's operator signs them "
    "again. Only somebody with those rows can compute them again."
)
NETWORK_CLOCK_NOTE = (
    "Times are of processes that talked over sockets, each on its machine's clock and as that process says; processor "
    "time is a whole process's, what it did beside the round included; energy is that times the stated watts of a "
    "core, an estimate. The operator signs them; verify cannot measure them again."
)

EPOCH_NOTE = (
    "Epochs end in this run: validators that are away when a set is drawn are not in it. Where a set has fewer "
    "validators than there are seats, seats are drawn anew every round, so a seat's number is not one validator's."
)


def notes(level: str, clock: str = "virtual") -> tuple[str, ...]:
    """Return what a reader of a run at this level must know; `clock` is that of the statement."""
    if clock == "real":
        return (LEVEL_NOTES[level], NETWORK_EVALUATOR_NOTE, NETWORK_CLOCK_NOTE)
    return (LEVEL_NOTES[level], EVALUATOR_NOTE, CLOCK_NOTE)


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What the ledger says about one round."""

    round: int
    outcome: str
    admitted: int
    lying_seats: tuple[int, ...]
    absent_seats: tuple[int, ...]
    view_changes: int
    header: bytes
    model: bytes
    proof_bytes: int  # of all admitted reports


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint with what it cost on the chain."""

    checkpoint: Checkpoint
    gas: int
    calldata_bytes: int


@dataclass(frozen=True, slots=True)
class EpochFacts:
    """An epoch of a task whose epochs end: from which round on, of which validators by their place in the genesis.

    `gas` is what putting its set in office took on the chain; None for the first epoch.
    """

    epoch: int
    first_round: int
    members: tuple[int, ...]
    gas: int | None


@dataclass(frozen=True, slots=True)
class ConvictionFacts:
    """What evidence cost a member: the deed in words, and of its stake what was burned and rewarded, in wei."""

    deed: str
    account: str
    burned: int
    rewarded: int
    gas: int


def epoch_facts(epochs: Epochs, rounds: int, gas: Sequence[int]) -> tuple[EpochFacts, ...]:
    """Return the facts of the epochs that have a round of 0 to `rounds`; none where there is one that does not end.

    Args:
        gas: of each handover on the chain.
    """
    if epochs.plan is None:
        return ()
    places = {candidate.account: place for place, candidate in enumerate(epochs.plan.candidates)}
    spent = dict(enumerate(gas, 1))
    return tuple(
        EpochFacts(
            known.epoch,
            known.first_round,
            tuple(places[member.account] for member in known.epoch_set.validators),
            spent.get(known.epoch),
        )
        for known in epochs.known
        if known.first_round <= rounds
    )


def round_facts(ordered: OrderedRound | ShardedRound, seats: int, proof_bytes: int) -> RoundFacts:
    """Return the facts of one round; `proof_bytes` are those of the proofs that its admitted reports name.

    Seats of shards are counted through: shard k of S seats has k S to k S + S - 1.
    """
    header, (lying, published) = ordered.certified.header, _seats_that(ordered, seats)
    all_seats = seats * (len(ordered.shards) if isinstance(ordered, ShardedRound) else 1)
    return RoundFacts(
        round=header.round,
        outcome=header.outcome,
        admitted=len(ordered.admitted),
        lying_seats=lying,
        absent_seats=tuple(seat for seat in range(all_seats) if seat not in published),
        view_changes=sum(after - before - 1 for before, after in pairwise(ordered.views)),
        header=header.digest,
        model=header.model,
        proof_bytes=proof_bytes,
    )


def _seats_that(ordered: OrderedRound | ShardedRound, seats: int) -> tuple[tuple[int, ...], frozenset[int]]:
    """Return the seats that lied in a round, and those that published a sum."""
    if not isinstance(ordered, ShardedRound):
        header = ordered.certified.header
        return header.lying, frozenset(seat for seat, _ in header.key_sums)
    results = [shard.result.result for shard in ordered.shards if shard.result is not None]
    lying = tuple(result.shard * seats + seat for result in results for seat in result.lying)
    return lying, frozenset(result.shard * seats + seat for result in results for seat, _ in result.key_sums)


def summarise(
    experiment: Experiment,
    genesis: Genesis,
    task: LearningTask,
    rounds: Sequence[RoundFacts],
    checkpoints: Sequence[CheckpointFacts],
    statement: Statement,
    epochs: Sequence[EpochFacts],
    convictions: Sequence[ConvictionFacts] = (),
) -> dict[str, object]:
    """Return the run's summary: what `run --json` prints, without `verified`; epochs only where they end."""
    chain_bytes = _chain_bytes(checkpoints)
    watts = float(experiment.committee.watts)
    last = statement.rounds[-1]
    told = [*notes(experiment.task.level, statement.clock), *_quote_notes(experiment), *_shard_notes(experiment)]
    told += [*attack_notes(experiment), *_privacy_notes(experiment)]
    told += [EPOCH_NOTE] if epochs else []
    summary: dict[str, object] = {
        "name": experiment.task.name,
        "level": experiment.task.level,
        "auc": last.auc,
        "auc_pooled": statement.auc_pooled,
        "auc_float32": statement.auc_float32,
        "accuracy": last.accuracy,
        "lying_seats": sorted({seat for facts in rounds for seat in facts.lying_seats}),
        "absent_seats": sorted(set.intersection(*(set(facts.absent_seats) for facts in rounds))),
        "seats": experiment.committee.seats,
        "checkpoint_gas": [entry.gas for entry in checkpoints],
        "rounds": [
            {
                "round": facts.round,
                "outcome": facts.outcome,
                "admitted": facts.admitted,
                "auc": said.auc,
                "accuracy": said.accuracy,
                "loss": said.loss,
                "coordination_ms": said.coordination_ms,
                "finality_ms": said.finality_ms,
                "chain_bytes": chain_bytes.get(facts.round),
                "energy_kwh": _energy_kwh(said.cpu_seconds, watts),
                "consensus_energy_kwh": _energy_kwh(said.consensus_cpu_seconds, watts),
                "prove_ms": said.prove_ms,
                "verify_ms": said.verify_ms,
                "proof_bytes": facts.proof_bytes,
                "view_changes": facts.view_changes,
                "lying_seats": list(facts.lying_seats),
                "model": facts.model.hex(),
            }
            for facts, said in zip(rounds, statement.rounds, strict=True)
        ],
        "checkpoints": [_checkpoint(entry) for entry in checkpoints],
        "sites": [
            {"name": name, "train_rows": said.train_rows, "test_rows": said.test_rows, "trainers": trainers}
            for (name, trainers), said in zip(genesis.sites.items(), statement.sites, strict=True)
        ],
        "warnings": list(statement.warnings),
        "notes": told,
        "attribution": statement.attribution,
        "watts": watts,
        "task": genesis.task.hex(),
        "genesis": genesis.digest.hex(),
        "anchor": genesis.anchor.hex(),
        "model": {
            "kind": task.spec.kind,
            "inputs": task.spec.inputs,
            "hidden": list(task.spec.hidden),
            "parameters": task.spec.parameter_count,
        },
    }
    return summary | _sometimes(experiment, epochs, convictions)


def _sometimes(
    experiment: Experiment, epochs: Sequence[EpochFacts], convictions: Sequence[ConvictionFacts]
) -> dict[str, object]:
    """Return what is said of some runs only: epochs that end, rounds in shards, attackers, stakes that were taken."""
    told: dict[str, object] = {}
    if epochs:
        told["epochs"] = [_epoch(entry) for entry in epochs]
    if convictions:
        told["convictions"] = [asdict(entry) for entry in convictions]
    if experiment.attack is not None:
        told["attackers"] = [{"name": entry.trainer, "kind": entry.kind} for entry in experiment.attack.trainers]
    committee = experiment.committee
    if committee.shards > 1:
        told |= {"shards": committee.shards, "partition_rounds": committee.partition_rounds}
    return told


def _epoch(entry: EpochFacts) -> dict[str, object]:
    return {
        "epoch": entry.epoch,
        "first_round": entry.first_round,
        "members": sorted(entry.members),
        "gas": entry.gas,
    }


def _energy_kwh(cpu_seconds: float | None, watts: float) -> float | None:
    return None if cpu_seconds is None else cpu_seconds * watts / SECONDS_PER_KWH


def _quote_notes(experiment: Experiment) -> tuple[str, ...]:
    """Return under which policy and at what time quotes were judged, where there are any."""
    settings = experiment.attestation
    if settings is None:
        return ()
    return (
        f"Quotes are judged under policy {settings.policy.digest.hex()} at Unix time {settings.time}, in every round; "
        "the experiment names both.",
    )


def attack_notes(experiment: Experiment) -> tuple[str, ...]:
    """Return who attacks, where the run is a simulation with attackers."""
    if experiment.attack is None:
        return ()
    who = [f"{entry.trainer} ({entry.kind})" for entry in experiment.attack.trainers]
    some = ", ".join(who[:ATTACKERS_SHOWN_MAX]) + (", ..." if len(who) > ATTACKERS_SHOWN_MAX else "")
    whole = "" if experiment.privacy is not None else " Pooled data and floating point are those of the honest ones."
    return (f"This is a simulation with attackers, {len(who)} of its trainers: {some}.{whole}",)


def _privacy_notes(experiment: Experiment) -> tuple[str, ...]:
    """Return on whom the noise rests, where updates have some, and what is not told because it would have none."""
    settings = experiment.privacy
    if settings is None:
        return ()
    return (
        f"Every opened sum has noise of {float(settings.noise):g} times what one row can move it, if {settings.honest} "
        "trainers in it or more are honest; `collegium privacy` says which epsilon that is. Scores of pooled data and "
        "of floating point would have none, so they are not told.",
    )


def _shard_notes(experiment: Experiment) -> tuple[str, ...]:
    """Return what several sums a round mean for privacy, where there are several."""
    committee = experiment.committee
    if committee.shards == 1:
        return ()
    return (
        f"{committee.shards} sums a round are public, not one: trainers are dealt into {committee.shards} shards, anew "
        f"every {committee.partition_rounds} rounds. Seats are counted through all shards.",
    )


def _checkpoint(entry: CheckpointFacts) -> dict[str, object]:
    return {
        "first_round": entry.checkpoint.first_round,
        "last_round": entry.checkpoint.last_round,
        "digest": entry.checkpoint.digest.hex(),
        "gas": entry.gas,
        "calldata_bytes": entry.calldata_bytes,
    }


def _chain_bytes(checkpoints: Sequence[CheckpointFacts]) -> Mapping[int, float]:
    """Return each settled round's share of its checkpoint's calldata, in bytes."""
    shares = {}
    for entry in checkpoints:
        settled = range(entry.checkpoint.first_round, entry.checkpoint.last_round + 1)
        shares.update(dict.fromkeys(settled, entry.calldata_bytes / len(settled)))
    return shares
