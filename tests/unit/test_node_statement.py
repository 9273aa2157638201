"""The operator's statement: signed over every figure in it, bound to one run, decoded strictly."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from collegium.crypto import AccountKey, Stream, hash_fields
from collegium.node._statement import (
    RoundStatement,
    SiteStatement,
    Statement,
    StatementError,
    check_statement,
    decode_statement,
    encode_statement,
    sign_statement,
)

RANDOM = Stream(hash_fields("test-statement"))
OPERATOR, STRANGER = AccountKey.generate(RANDOM), AccountKey.generate(RANDOM)
TASK, LAST = hash_fields("test-task"), hash_fields("test-header")
UNSIGNED = Statement(
    task=TASK,
    last_header=LAST,
    rounds=(
        RoundStatement(0, 1.5, 2.5, 0.1, 0.2, None, None, None, None, None),
        RoundStatement(1, 1.25, 2.25, 0.1, 0.2, 80.5, 12.5, 0.75, 0.5, 0.625),
    ),
    auc_pooled=0.8,
    auc_float32=0.8,
    sites=(SiteStatement("north ☃", 30, 10),),
    warnings=("few rows",),
    attribution="",
    signature=b"",
)
SIGNED = sign_statement(UNSIGNED, OPERATOR)


def test_a_signed_statement_survives_its_file_and_checks() -> None:
    decoded = decode_statement(encode_statement(SIGNED))
    assert decoded == SIGNED
    check_statement(decoded, TASK, LAST, OPERATOR.address)


CHANGES: dict[str, Any] = {
    "rounds": (UNSIGNED.rounds[0], replace(UNSIGNED.rounds[1], auc=0.7500000000000001)),
    "auc_pooled": 0.8000000000000002,
    "auc_float32": 0.7,
    "sites": (replace(UNSIGNED.sites[0], test_rows=11),),
    "warnings": (),
    "attribution": " ",
    "clock": "real",
}


def test_every_figure_is_under_the_signature() -> None:
    assert set(CHANGES) == {field.name for field in fields(Statement)} - {"task", "last_header", "signature"}
    for name, value in CHANGES.items():
        with pytest.raises(StatementError, match=r"statement is signed by|no public key"):
            check_statement(replace(SIGNED, **{name: value}), TASK, LAST, OPERATOR.address)


def test_what_nobody_measured_is_none_and_what_nobody_knows_is_no_clock() -> None:
    silent = replace(UNSIGNED.rounds[1], finality_ms=None, coordination_ms=None, cpu_seconds=None)
    said = sign_statement(replace(UNSIGNED, rounds=(silent,), auc_pooled=None, clock="real"), OPERATOR)
    assert decode_statement(encode_statement(said)) == said
    with pytest.raises(StatementError, match="clock"):
        decode_statement(encode_statement(said).replace(b'"clock":"real"', b'"clock":"rear"'))


def test_a_statement_about_another_run_or_by_another_account_is_refused() -> None:
    other = hash_fields("test-other")
    for task, last in ((other, LAST), (TASK, other)):
        with pytest.raises(StatementError, match="statement is about header"):
            check_statement(SIGNED, task, last, OPERATOR.address)
        moved = replace(SIGNED, task=task, last_header=last)
        with pytest.raises(StatementError, match=r"statement is signed by|no public key"):
            check_statement(moved, task, last, OPERATOR.address)
    with pytest.raises(StatementError, match=f"signed by {STRANGER.address.hex()}, the operator is"):
        check_statement(sign_statement(UNSIGNED, STRANGER), TASK, LAST, OPERATOR.address)


@pytest.mark.parametrize("signature", [b"", bytes(65), SIGNED.signature[:-1], SIGNED.signature[:-1] + b"\2"])
def test_a_malformed_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(StatementError, match="statement: "):
        check_statement(replace(SIGNED, signature=signature), TASK, LAST, OPERATOR.address)


DATA = encode_statement(SIGNED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"[" * 100_000,
        DATA[:-1],
        DATA + b" ",
        b" " + DATA,
        DATA.replace(b'"auc_pooled":0.8', b'"auc_pooled":1'),
        DATA.replace(b'"auc_pooled":0.8', b'"auc_pooled":NaN'),
        DATA.replace(b'"auc_pooled":0.8', b'"auc_pooled":"0.8"'),
        DATA.replace(b'"auc_pooled":0.8', b'"auc_pooled":15.0,"watts":0.8'),
        DATA.replace(b'"auc_pooled":0.8', b'"auc_pooled":0.8,"volts":1'),
        DATA.replace(b'"round":1', b'"round":1.0'),
        DATA.replace(b'"train_rows":30', b'"train_rows":1e1'),
        DATA.replace("☃".encode(), b"\xff"),
        DATA.replace("☃".encode(), b"\\u2603"),
    ],
)
def test_bytes_that_are_not_the_canonical_encoding_are_refused(data: bytes) -> None:
    assert data != DATA
    with pytest.raises(StatementError):
        decode_statement(data)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(UNSIGNED, auc_pooled=1.0000000000000002), "auc_pooled is 1.0000000000000002, expected 0 to 1"),
        (replace(UNSIGNED, auc_float32=-0.1), "auc_float32 is -0.1"),
        (replace(UNSIGNED, rounds=(replace(UNSIGNED.rounds[0], auc=0.5),)), "scores begin with round 1"),
        (replace(UNSIGNED, rounds=(replace(UNSIGNED.rounds[1], auc=None),)), "scores begin with round 1"),
        (replace(UNSIGNED, rounds=(replace(UNSIGNED.rounds[1], finality_ms=1e300),)), "finality_ms is 1e+300"),
        (replace(UNSIGNED, rounds=(replace(UNSIGNED.rounds[1], round=-1),)), "number of a round is -1"),
        (replace(UNSIGNED, rounds=(replace(UNSIGNED.rounds[1], cpu_seconds=-1.0),)), "cpu_seconds is -1.0"),
        (replace(UNSIGNED, sites=(replace(UNSIGNED.sites[0], train_rows=-1),)), "train_rows is -1"),
        (replace(UNSIGNED, warnings=("w" * 1025,)), "length of a warning is 1025"),
    ],
)
def test_a_figure_that_nothing_measured_can_have_is_refused(changed: Statement, message: str) -> None:
    with pytest.raises(StatementError) as caught:
        decode_statement(encode_statement(sign_statement(changed, OPERATOR)))
    assert message in str(caught.value)


def test_a_statement_too_large_is_not_parsed() -> None:
    with pytest.raises(StatementError, match="at most 16777216 are read"):
        decode_statement(b" " * ((16 << 20) + 1))
