"""Proofs of learning: what only a trainer can see comes with a proof, and anybody can check it.

A report masks an update, c = A s + e + 2^nu m. A proof says of the m behind c, in zero knowledge,

- `BoundedStatement` (any model, any framework): every entry, and where wanted the norm, is within its bound;
- `TrainingStatement`: m is exactly the update that the agreed rule yields on the rows behind a registered commitment.

Either may carry a `Score`: the noisy inner product of the update with a public direction, its noise drawn from a seed
that was registered before the beacon. An `EvaluationStatement` speaks of no update: a public model has this summed
loss, these hits and this gradient on the rows behind a commitment.

Both begin with a `MaskedUpdate`, the public side of c, whose `Identity` says whose report it is. Proving returns
`Proved(proof, first)`: `first.point` and `first.key_values` are a point of K and the values that the key matrix's six
rows take there; verifying returns the same `FirstChallenges`. The report's own check must confirm them, for the key
lives in its matrix.

Registered data. `commit_data` commits to rows, each time with fresh randomness; `RegistrationStatement` says that its
roots commit to the same rows, in range. Every commitment may be opened by its registration and by one further proof:
a trainer keeps one for every round, persists that it is used before it sends, and registers anew (one spare
commitment of the old registration among the new ones, so that the rows are proved to be the same) when all are used.

How it works and why it is sound: docs/spec/proofs.md. All that a verifier raises on a proof is a `ProofRejectedError`.
"""

from ._bounded import BoundedStatement, bounded_code, prove_bounded, verify_bounded
from ._data import (
    COMMITMENTS_MAX,
    OPENINGS,
    DataShape,
    RegistrationStatement,
    SeedShape,
    commit_data,
    commit_seed,
    committed_seed,
    data_row_length,
    prove_registration,
    verify_registration,
)
from ._errors import (
    CombinationRejectedError,
    GrindingRejectedError,
    IdentityRejectedError,
    MalformedProofError,
    OpeningRejectedError,
    ProofRejectedError,
    StatementError,
    SumRejectedError,
    UnprovableError,
)
from ._evaluation import (
    Evaluated,
    EvaluationStatement,
    evaluated,
    evaluation_rows_max,
    prove_evaluation,
    verify_evaluation,
)
from ._local import local_steps
from ._masked import Identity, KeySecrets, MaskedUpdate
from ._parameters import BITS, GRINDING_BITS, TABLE_MAX, ProofCode
from ._program import FirstChallenges
from ._prove import CommittedRows, Proved
from ._quote_encoding import (
    ATTESTATION_BYTES_MAX,
    Attestation,
    Quote,
    QuoteKind,
    decode_attestation,
    encode_attestation,
)
from ._quote_errors import (
    MalformedQuoteError,
    QuoteBindingError,
    QuoteChainError,
    QuoteDebugError,
    QuoteError,
    QuoteGuestError,
    QuoteKindError,
    QuoteMeasurementError,
    QuotePolicyError,
    QuoteTcbError,
    QuoteTimeError,
)
from ._quote_intel import intel_quote
from ._quote_policy import (
    AMD_GENOA_ROOT,
    AMD_MILAN_ROOT,
    INTEL_ROOT,
    NVIDIA_ROOT,
    GpuFirmware,
    GpuPolicy,
    IntelPolicy,
    QuotePolicy,
    SgxMeasurement,
    SnpPolicy,
    SnpTcb,
    TdxMeasurement,
    decode_policy,
    encode_policy,
)
from ._quote_verdict import QuoteVerdict, VerifiedQuote
from ._quotes import QuoteBinding, verify_quote
from ._score import SEEDS, Score, ScoreDemand, quantiles
from ._training import TrainingStatement, TrainingWitness, prove_training, training_elements, verify_training

__all__ = [
    "AMD_GENOA_ROOT",
    "AMD_MILAN_ROOT",
    "ATTESTATION_BYTES_MAX",
    "BITS",
    "COMMITMENTS_MAX",
    "GRINDING_BITS",
    "INTEL_ROOT",
    "NVIDIA_ROOT",
    "OPENINGS",
    "SEEDS",
    "TABLE_MAX",
    "Attestation",
    "BoundedStatement",
    "CombinationRejectedError",
    "CommittedRows",
    "DataShape",
    "Evaluated",
    "EvaluationStatement",
    "FirstChallenges",
    "GpuFirmware",
    "GpuPolicy",
    "GrindingRejectedError",
    "Identity",
    "IdentityRejectedError",
    "IntelPolicy",
    "KeySecrets",
    "MalformedProofError",
    "MalformedQuoteError",
    "MaskedUpdate",
    "OpeningRejectedError",
    "ProofCode",
    "ProofRejectedError",
    "Proved",
    "Quote",
    "QuoteBinding",
    "QuoteBindingError",
    "QuoteChainError",
    "QuoteDebugError",
    "QuoteError",
    "QuoteGuestError",
    "QuoteKind",
    "QuoteKindError",
    "QuoteMeasurementError",
    "QuotePolicy",
    "QuotePolicyError",
    "QuoteTcbError",
    "QuoteTimeError",
    "QuoteVerdict",
    "RegistrationStatement",
    "Score",
    "ScoreDemand",
    "SeedShape",
    "SgxMeasurement",
    "SnpPolicy",
    "SnpTcb",
    "StatementError",
    "SumRejectedError",
    "TdxMeasurement",
    "TrainingStatement",
    "TrainingWitness",
    "UnprovableError",
    "VerifiedQuote",
    "bounded_code",
    "commit_data",
    "commit_seed",
    "committed_seed",
    "data_row_length",
    "decode_attestation",
    "decode_policy",
    "encode_attestation",
    "encode_policy",
    "evaluated",
    "evaluation_rows_max",
    "intel_quote",
    "local_steps",
    "prove_bounded",
    "prove_evaluation",
    "prove_registration",
    "prove_training",
    "quantiles",
    "training_elements",
    "verify_bounded",
    "verify_evaluation",
    "verify_quote",
    "verify_registration",
    "verify_training",
]
