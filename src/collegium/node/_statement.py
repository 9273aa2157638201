"""What nobody can re-derive from a run's files: measured times, and scores on test rows that only their owner has.

The run's operator, who in a simulation plays the evaluator with its pooled test rows too, signs these figures. `verify`
checks the signature and says plainly that it checked nothing more about them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from collegium.crypto import AccountKey, Digest, hash_fields, recover_address
from collegium.errors import CollegiumError

from ._json import decode_canonical

__all__ = [
    "ATTRIBUTION_LENGTH_MAX",
    "WARNINGS_MAX",
    "WARNING_LENGTH_MAX",
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
MS_MAX = 1e10
CPU_SECONDS_MAX = 1e10
LOSS_MAX = 1e9  # nats
ROUNDS_MAX = 10_000
ROWS_MAX = 1 << 40
SITES_MAX = 1 << 16
WARNINGS_MAX = 4096
WARNING_LENGTH_MAX = 1024
ATTRIBUTION_LENGTH_MAX = 1 << 16


class StatementError(CollegiumError):
    """The operator's statement is malformed or not signed by the operator of the genesis."""


@dataclass(frozen=True)
class RoundStatement:
    """One round's measurements and scores.

    Attributes:
        coordination_ms: last report admitted -> result certified, measured clock; None if nobody says.
        finality_ms: last report admitted -> final at a quorum, measured clock; None if nobody says.
        cpu_seconds: processor time of all parties together, trainers included; None if nobody says.
        consensus_cpu_seconds: processor time of all seats together; None if nobody says.
        prove_ms, verify_ms: of one report's proof, the median of the round's; None at a level without proofs.
        auc, accuracy, loss: on the evaluator's pooled test rows; None in the scaling round.
    """

    round: int
    coordination_ms: float | None
    finality_ms: float | None
    cpu_seconds: float | None
    consensus_cpu_seconds: float | None
    prove_ms: float | None
    verify_ms: float | None
    auc: float | None
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True)
class SiteStatement:
    """How many rows a site has; that it exists, and who trains there, is in the genesis."""

    name: str
    train_rows: int
    test_rows: int


@dataclass(frozen=True)
class Statement:
    """All figures of a run that rest on the operator's word; nothing that follows from genesis or ledger is here.

    Attributes:
        auc_pooled, auc_float32: None where nobody holds everybody's rows, and where updates have noise, which these
            would not.
        clock: "virtual" for processes simulated in one, "real" for those of a network, each on its machine's clock.
    """

    task: Digest
    last_header: Digest
    rounds: tuple[RoundStatement, ...]
    auc_pooled: float | None
    auc_float32: float | None
    sites: tuple[SiteStatement, ...]
    warnings: tuple[str, ...]
    attribution: str
    signature: bytes
    clock: Literal["virtual", "real"] = "virtual"


def encode_statement(statement: Statement) -> bytes:
    """Return the canonical JSON of a statement."""
    return msgspec.json.encode(statement)


def sign_statement(statement: Statement, operator: AccountKey) -> Statement:
    """Return the statement with the operator's signature."""
    return replace(statement, signature=operator.sign(_digest(statement)))


def decode_statement(data: bytes) -> Statement:
    """Decode a statement strictly.

    Raises:
        StatementError: too large, malformed, not canonical, or with a figure that nothing measured can have.
    """
    statement = decode_canonical(data, Statement, "statement", STATEMENT_BYTES_MAX, StatementError)
    _check_figures(statement)
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


def _check_figures(statement: Statement) -> None:
    """Check that every figure is one that a measurement can give: what is computed from them stays finite."""
    for said in statement.rounds:
        where = f"round {said.round}"
        _check_range("number of a round", said.round, ROUNDS_MAX)
        for name in ("coordination_ms", "finality_ms", "prove_ms", "verify_ms"):
            _check_measured(f"{where}, {name}", getattr(said, name), MS_MAX)
        for name in ("cpu_seconds", "consensus_cpu_seconds"):
            _check_measured(f"{where}, {name}", getattr(said, name), CPU_SECONDS_MAX)
        for name, score, maximum in (
            ("auc", said.auc, 1),
            ("accuracy", said.accuracy, 1),
            ("loss", said.loss, LOSS_MAX),
        ):
            if said.round == 0 and score is None:
                continue
            if said.round == 0 or score is None:
                raise StatementError(f"statement, {where}: {name} is {score}; scores begin with round 1")
            _check_range(f"{where}, {name}", score, maximum)
    _check_measured("auc_pooled", statement.auc_pooled, 1)
    _check_measured("auc_float32", statement.auc_float32, 1)
    for site in statement.sites:
        _check_range("train_rows", site.train_rows, ROWS_MAX)
        _check_range("test_rows", site.test_rows, ROWS_MAX)
    _check_range("number of sites", len(statement.sites), SITES_MAX)
    _check_range("number of warnings", len(statement.warnings), WARNINGS_MAX)
    _check_range("length of a warning", max(map(len, statement.warnings), default=0), WARNING_LENGTH_MAX)
    _check_range("length of the attribution", len(statement.attribution), ATTRIBUTION_LENGTH_MAX)


def _check_measured(what: str, value: float | None, maximum: float) -> None:
    if value is not None:
        _check_range(what, value, maximum)


def _check_range(what: str, value: float, maximum: float) -> None:
    if not 0 <= value <= maximum:  # nothing lies between for not-a-number
        raise StatementError(f"statement, {what} is {value}, expected 0 to {maximum:g}")


def _digest(statement: Statement) -> Digest:
    body = encode_statement(replace(statement, signature=b""))
    return hash_fields("statement", statement.task, statement.last_header, body)
