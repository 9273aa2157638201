"""What a run or a verification tells whoever watches it, and the error that says the world failed.

Events are data: the node emits them, a terminal, a log or a page shows them. None of them is needed for the protocol.
"""

from dataclasses import dataclass
from typing import TypeAlias

from collegium.errors import CollegiumError

__all__ = [
    "CheckpointPosted",
    "Event",
    "Message",
    "ReportSubmitted",
    "RoundFinished",
    "RoundStarted",
    "TrainerStanding",
    "TrainersWeighed",
    "VerifyProgress",
    "Warning_",
    "WorldError",
]


class WorldError(CollegiumError):
    """The network, the disk or the chain failed after bounded retries; the input was not at fault."""


@dataclass(frozen=True, slots=True)
class Message:
    """One line that a person may want to read."""

    text: str


@dataclass(frozen=True, slots=True)
class Warning_:  # noqa: N801 - `Warning` is Python's own
    """One line that a person should read: the run goes on, but not as it was perhaps meant."""

    text: str


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """Round `round` of `rounds` begins; both count from 1."""

    round: int
    rounds: int


@dataclass(frozen=True, slots=True)
class ReportSubmitted:
    """Trainer `trainer` handed in its report; `index` counts from 0, `count` reports are expected."""

    round: int
    trainer: str
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """A round's model is certified and final.

    Attributes:
        round: number of the round, from 1, of `rounds`.
        admitted: reports in the sum.
        auc: of the new model on the test rows of all sites, 0 to 1; likewise `accuracy`.
        loss: mean logarithmic loss on the same rows, in nats.
        coordination_ms: last report admitted -> result certified, in the virtual network's time.
        finality_ms: first report -> result final, in the virtual network's time.
        chain_bytes: the round's share of its checkpoint on the base chain; None until a checkpoint covers the round.
        prove_ms, verify_ms: of one report's proof, the median of the round's; None at a level without proofs.
        energy_kwh: estimate for trainers and seats together: processor seconds times the stated watts of a core.
        lying_seats: seats, from 0, whose sums were shown to be wrong.
        absent_seats: seats, from 0, that published no sum.
        view_changes: leaders that had to be replaced.
    """

    round: int
    rounds: int
    admitted: int
    auc: float
    accuracy: float
    loss: float
    coordination_ms: float
    finality_ms: float
    chain_bytes: float | None
    prove_ms: float | None
    verify_ms: float | None
    energy_kwh: float
    lying_seats: tuple[int, ...]
    absent_seats: tuple[int, ...]
    view_changes: int


@dataclass(frozen=True, slots=True)
class TrainerStanding:
    """What stewards made of a trainer so far.

    Attributes:
        weight: what its next report weighs in the sum.
        points: earned since the first round; pay is split by them.
        locked: whether it is locked out.
        attack: what a simulation told it to do; empty where it was told nothing.
        score: of its report of the round; None where it has none.
    """

    name: str
    weight: int
    points: float
    locked: bool
    attack: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class TrainersWeighed:
    """What a round made of the trainers, and what stewards told of a model: the share of hidden rows it gets right."""

    round: int
    weight_max: int
    trainers: tuple[TrainerStanding, ...]
    model_score: float | None


@dataclass(frozen=True, slots=True)
class CheckpointPosted:
    """One transaction settled rounds `first_round` to `last_round`; `digest` is hexadecimal."""

    first_round: int
    last_round: int
    gas: int
    calldata_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """`done` of `count` items of the check named `check` hold."""

    check: str
    done: int
    count: int


Event: TypeAlias = (
    Message
    | Warning_
    | RoundStarted
    | ReportSubmitted
    | RoundFinished
    | TrainersWeighed
    | CheckpointPosted
    | VerifyProgress
)
"""Everything that `run_experiment` and `verify_run` may emit."""
