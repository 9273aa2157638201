"""The roles as they run: experiments, the in-process network, runs on disk and their verification.

Read `play_round` first: one round of the protocol from top to bottom.
"""

from ._events import (
    CheckpointPosted,
    Event,
    Message,
    ReportSubmitted,
    RoundFinished,
    RoundStarted,
    VerifyProgress,
    Warning_,
    WorldError,
)
from ._experiment import (
    ChainSettings,
    CommitteeSettings,
    DataSettings,
    Experiment,
    ExperimentBytesError,
    ExperimentError,
    ExperimentRefusedError,
    ExperimentUnreadableError,
    ModelSettings,
    Problem,
    RuleSettings,
    TaskSettings,
    TrainerSettings,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
    load_experiment,
    seats_spoiled_max,
)
from ._genesis import Genesis, GenesisError, decode_genesis
from ._manifest import ManifestError, check_manifest, write_manifest
from ._network import Network, SharedWork, StalledError
from ._play import PlayedRound, Trainer, play_round
from ._run import RunRefusedError, run_experiment
from ._setup import Federation, TaskTooLargeError, set_up
from ._task import LearningTask, ModelState, ModelStateError
from ._verify import AnchorError, DerivedFileError, Verification, verify_run

__all__ = [
    "AnchorError",
    "ChainSettings",
    "CheckpointPosted",
    "CommitteeSettings",
    "DataSettings",
    "DerivedFileError",
    "Event",
    "Experiment",
    "ExperimentBytesError",
    "ExperimentError",
    "ExperimentRefusedError",
    "ExperimentUnreadableError",
    "Federation",
    "Genesis",
    "GenesisError",
    "LearningTask",
    "ManifestError",
    "Message",
    "ModelSettings",
    "ModelState",
    "ModelStateError",
    "Network",
    "PlayedRound",
    "Problem",
    "ReportSubmitted",
    "RoundFinished",
    "RoundStarted",
    "RuleSettings",
    "RunRefusedError",
    "SharedWork",
    "StalledError",
    "TaskSettings",
    "TaskTooLargeError",
    "Trainer",
    "TrainerSettings",
    "Verification",
    "VerifyProgress",
    "Warning_",
    "WorldError",
    "check_manifest",
    "decode_experiment",
    "decode_genesis",
    "experiment_from_bytes",
    "experiment_to_bytes",
    "load_experiment",
    "play_round",
    "run_experiment",
    "seats_spoiled_max",
    "set_up",
    "verify_run",
    "write_manifest",
]
