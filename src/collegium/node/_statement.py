"""What nobody can re-derive from a run's files: measured times, and scores on test rows that only their owner has.

The run's operator, who plays the steward of the pooled test rows in a simulation, signs these figures. `verify` checks
the signature and says plainly that it checked nothing more about them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from collegium.crypto import AccountKey, Digest, hash_fields, recover_address
from collegium.errors import CollegiumError

__all__ = [
    "RoundStatement",
    "SiteStatement",
    "Statement",
    "StatementError",
    "check_statement",
    "decode_statement",
    "encode_statement",
    "sign_statement",
]

STATEMENT_BYTES_MAX = 16 << 20


class StatementError(CollegiumError):
    """The operator's statement is malformed or not signed by the operator of the genesis."""


@dataclass(frozen=True)
class RoundStatement:
    """One round's measurements and scores.

    Attributes:
        coordination_ms: last report admitted -> result certified, measured clock.
        finality_ms: last report admitted -> final at a quorum, measured clock.
        cpu_seconds: processor time of all parties together, trainers included.
        consensus_cpu_seconds: processor time of all seats together.
        auc, accuracy, loss: on the steward's pooled test rows; None in the scaling round.
    """

    round: int
    coordination_ms: float
    finality_ms: float
    cpu_seconds: float
    consensus_cpu_seconds: float
    auc: float | None
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True)
class SiteStatement:
    """One site's part, as the simulation knows it."""

    name: str
    train_rows: int
    test_rows: int
    trainers: int


@dataclass(frozen=True)
class Statement:
    """All figures of a run that rest on the operator's word."""

    task: Digest
    last_header: Digest
    rounds: tuple[RoundStatement, ...]
    auc_pooled: float
    auc_float32: float
    watts: float
    sites: tuple[SiteStatement, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    attribution: str
    signature: bytes


def encode_statement(statement: Statement) -> bytes:
    """Return the canonical JSON of a statement."""
    return msgspec.json.encode(statement)


def sign_statement(statement: Statement, operator: AccountKey) -> Statement:
    """Return the statement with the operator's signature."""
    return replace(statement, signature=operator.sign(_digest(statement)))


def decode_statement(data: bytes) -> Statement:
    """Decode a statement strictly.

    Raises:
        StatementError: too large, malformed or not canonical.
    """
    if len(data) > STATEMENT_BYTES_MAX:
        raise StatementError(f"statement has {len(data)} bytes, at most {STATEMENT_BYTES_MAX} are read")
    try:
        statement = msgspec.json.decode(data, type=Statement)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StatementError(f"statement: {error}") from error
    if encode_statement(statement) != data:
        raise StatementError("statement is not in its canonical encoding")
    return statement


def check_statement(statement: Statement, task: Digest, last_header: Digest, operator: bytes) -> None:
    """Check that the operator signed this statement about this run.

    Raises:
        StatementError: it is about another run, or not signed by the operator.
    """
    if (statement.task, statement.last_header) != (task, last_header):
        raise StatementError(
            f"statement is about header {statement.last_header.hex()}, the run ends at {last_header.hex()}"
        )
    try:
        signer = recover_address(_digest(statement), statement.signature)
    except CollegiumError as error:
        raise StatementError(f"statement: {error}") from error
    if signer != operator:
        raise StatementError(f"statement is signed by {signer.hex()}, the operator is {operator.hex()}")


def _digest(statement: Statement) -> Digest:
    body = encode_statement(replace(statement, signature=b""))
    return hash_fields("statement", statement.task, statement.last_header, body)
