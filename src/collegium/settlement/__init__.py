"""The base chain: stakes, epoch sets and checkpoints in two contracts, on an embedded chain or a real node.

`deploy` creates the contracts of a task on any `Chain`; validators register, an epoch set opens, and its certificates
settle checkpoints. docs/spec/settlement.md has layouts, checks and gas.
"""

from collegium.settlement._depth import deep_calls as _deep_calls  # noqa: F401 # isort: skip - before any of py-evm
from collegium.settlement._abi import Contract, contract
from collegium.settlement._chain import Account, Chain, Fees, Log, Receipt, SentTransaction
from collegium.settlement._checkpoint import (
    CHECKPOINT_ROUNDS_MAX,
    NO_CHECKPOINT,
    Checkpoint,
    checkpoint_digest,
    handover_digest,
    header_proof,
    header_root,
    possession_context,
    verify_header,
)
from collegium.settlement._deployment import (
    CheckpointReceipt,
    Deployment,
    Head,
    attach,
    deploy,
    includes_header,
    open_epoch,
    open_first_epoch,
    post_checkpoint,
    read_checkpoints,
    read_head,
    register_validator,
    unbond,
    withdraw,
)
from collegium.settlement._embedded import EmbeddedChain, Genesis
from collegium.settlement._errors import (
    ArtifactError,
    ChainAnswerError,
    ChainUnreachableError,
    CheckpointOrderError,
    ContractRefusedError,
    HeaderRangeError,
    ReplayMismatchError,
    TransactionFailedError,
    TransactionNotMinedError,
    TransactionRefusedError,
    TranscriptError,
)
from collegium.settlement._jsonrpc import JsonRpcChain, JsonRpcLimits
from collegium.settlement._transactions import contract_address, sign_transaction, transact
from collegium.settlement._transcript import (
    Transcript,
    decode_transcript,
    encode_transcript,
    replay,
    transcribe,
    verify_replay,
)

__all__ = [
    "CHECKPOINT_ROUNDS_MAX",
    "NO_CHECKPOINT",
    "Account",
    "ArtifactError",
    "Chain",
    "ChainAnswerError",
    "ChainUnreachableError",
    "Checkpoint",
    "CheckpointOrderError",
    "CheckpointReceipt",
    "Contract",
    "ContractRefusedError",
    "Deployment",
    "EmbeddedChain",
    "Fees",
    "Genesis",
    "Head",
    "HeaderRangeError",
    "JsonRpcChain",
    "JsonRpcLimits",
    "Log",
    "Receipt",
    "ReplayMismatchError",
    "SentTransaction",
    "TransactionFailedError",
    "TransactionNotMinedError",
    "TransactionRefusedError",
    "Transcript",
    "TranscriptError",
    "attach",
    "checkpoint_digest",
    "contract",
    "contract_address",
    "decode_transcript",
    "deploy",
    "encode_transcript",
    "handover_digest",
    "header_proof",
    "header_root",
    "includes_header",
    "open_epoch",
    "open_first_epoch",
    "possession_context",
    "post_checkpoint",
    "read_checkpoints",
    "read_head",
    "register_validator",
    "replay",
    "sign_transaction",
    "transact",
    "transcribe",
    "unbond",
    "verify_header",
    "verify_replay",
    "withdraw",
]
