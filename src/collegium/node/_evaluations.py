"""What an evaluator finds on test rows that only it has: one signed line a round, in a file that only grows.

A line is the canonical JSON of one evaluation. A line that a crash cut short is dropped when the file is opened: the
evaluation is made again, and is the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from collegium.crypto import AccountKey, Digest, hash_fields, recover_address
from collegium.errors import CollegiumError

from ._events import WorldError
from ._json import decode_canonical

__all__ = [
    "EvaluationError",
    "EvaluationFile",
    "RoundEvaluation",
    "check_evaluation",
    "read_evaluations",
    "sign_evaluation",
]

LINE_BYTES_MAX = 4096
FILE_BYTES_MAX = 1 << 26


class EvaluationError(CollegiumError):
    """An evaluator's file is malformed, or a line is about another run or not signed by the evaluator."""


@dataclass(frozen=True)
class RoundEvaluation:
    """How good the model of a final header is on the evaluator's rows.

    Attributes:
        header, model: digests of the final header and of the model state that it names.
        rows: how many test rows there are.
    """

    task: Digest
    round: int
    header: Digest
    model: Digest
    rows: int
    loss: float
    accuracy: float
    auc: float
    signature: bytes = b""


def sign_evaluation(evaluation: RoundEvaluation, evaluator: AccountKey) -> RoundEvaluation:
    """Return the evaluation with the evaluator's signature."""
    return replace(evaluation, signature=evaluator.sign(_digest(evaluation)))


def check_evaluation(evaluation: RoundEvaluation, task: Digest, header: Digest, evaluator: bytes) -> None:
    """Check that the evaluator signed this about a header.

    Raises:
        EvaluationError: it is about another one, or not signed by the evaluator.
    """
    if (evaluation.task, evaluation.header) != (task, header):
        raise EvaluationError(
            f"round {evaluation.round}: an evaluation of header {evaluation.header.hex()}, expected {header.hex()}",
            round=evaluation.round,
        )
    try:
        signer = recover_address(_digest(evaluation), evaluation.signature)
    except CollegiumError as error:
        raise EvaluationError(f"round {evaluation.round}: {error}", round=evaluation.round) from error
    if signer != evaluator:
        raise EvaluationError(
            f"round {evaluation.round}: signed by {signer.hex()}, expected {evaluator.hex()}", round=evaluation.round
        )


def read_evaluations(path: Path) -> tuple[RoundEvaluation, ...]:
    """Return what a file holds, without a last line that was cut short; nothing if there is no file.

    Raises:
        EvaluationError: it is malformed.
        WorldError: it cannot be read.
    """
    return tuple(_decode(line) for line in _whole_lines(path))


@dataclass
class EvaluationFile:
    """An evaluator's file, open for appending."""

    path: Path
    evaluations: list[RoundEvaluation]

    @classmethod
    def open(cls, path: Path) -> EvaluationFile:
        """Open a file, dropping a last line that was cut short.

        Raises:
            EvaluationError: it is malformed.
            WorldError: the disk refuses.
        """
        lines = _whole_lines(path)
        evaluations = [_decode(line) for line in lines]
        try:
            if path.exists():
                os.truncate(path, sum(len(line) + 1 for line in lines))
        except OSError as error:
            raise WorldError(f"{path}: {error.strerror}") from error
        return cls(path, evaluations)

    def append(self, evaluation: RoundEvaluation) -> None:
        """Add a line, which is on disk when this returns."""
        line = msgspec.json.encode(evaluation) + b"\n"
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise WorldError(f"{self.path}: an evaluation cannot be written: {error.strerror}") from error
        self.evaluations.append(evaluation)


def _whole_lines(path: Path) -> Sequence[bytes]:
    try:
        if not path.exists():
            return ()
        if path.stat().st_size > FILE_BYTES_MAX:
            raise EvaluationError(f"{path} has {path.stat().st_size} bytes, at most {FILE_BYTES_MAX} are read")
        data = path.read_bytes()
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}; expected an evaluator's evaluations") from error
    return data.split(b"\n")[:-1]


def _decode(line: bytes) -> RoundEvaluation:
    return decode_canonical(line, RoundEvaluation, "evaluation", LINE_BYTES_MAX, EvaluationError)


def _digest(evaluation: RoundEvaluation) -> Digest:
    body = msgspec.json.encode(replace(evaluation, signature=b""))
    return hash_fields("evaluation", evaluation.task, evaluation.round, body)
