"""The operator's word against what no measurement gives: each figure at its bound, and one step past it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from collegium.crypto import AccountKey
from collegium.node._statement import (
    ATTRIBUTION_LENGTH_MAX,
    WARNING_LENGTH_MAX,
    WARNINGS_MAX,
    RoundStatement,
    SiteStatement,
    Statement,
    StatementError,
    check_statement,
    decode_statement,
    encode_statement,
    sign_statement,
)

OPERATOR = AccountKey(bytes([5]) * 32)
STATEMENT = sign_statement(
    Statement(
        task=bytes(32),
        last_header=bytes([1]) * 32,
        rounds=(
            RoundStatement(0, 1.0, 2.0, 3.0, 4.0, None, None, None, None, None),
            RoundStatement(1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.75, 0.5, 0.625),
        ),
        auc_pooled=0.75,
        auc_float32=0.75,
        sites=(SiteStatement("here", 10, 3),),
        warnings=("few rows",),
        attribution="",
        signature=b"",
    ),
    OPERATOR,
)


def read(statement: Statement) -> Statement:
    """Sign a statement as its operator would, and read it as a verifier does."""
    decoded = decode_statement(encode_statement(sign_statement(statement, OPERATOR)))
    check_statement(decoded, bytes(32), bytes([1]) * 32, OPERATOR.address)
    return decoded


def scored(**changes: Any) -> Statement:
    return replace(STATEMENT, rounds=(STATEMENT.rounds[0], replace(STATEMENT.rounds[1], **changes)))


def sited(**changes: Any) -> Statement:
    return replace(STATEMENT, sites=(replace(STATEMENT.sites[0], **changes),))


def test_a_statement_reads_back() -> None:
    assert read(STATEMENT) == STATEMENT


@pytest.mark.parametrize(
    ("name", "maximum"),
    [
        ("coordination_ms", 1e10),
        ("finality_ms", 1e10),
        ("cpu_seconds", 1e10),
        ("consensus_cpu_seconds", 1e10),
        ("prove_ms", 1e10),
        ("verify_ms", 1e10),
        ("auc", 1.0),
        ("accuracy", 1.0),
        ("loss", 1e9),
    ],
)
def test_a_rounds_figure_outside_its_range_is_refused(name: str, maximum: float) -> None:
    for good in (0.0, maximum):
        assert getattr(read(scored(**{name: good})).rounds[1], name) == good
    for bad in (-1e-9, math.nextafter(maximum, math.inf), 1e308, -1e308):
        with pytest.raises(StatementError, match=f"statement, round 1, {name} is .*, expected 0 to"):
            read(scored(**{name: bad}))


@pytest.mark.parametrize("name", ["auc_pooled", "auc_float32"])
def test_a_reference_score_outside_its_range_is_refused(name: str) -> None:
    assert getattr(read(replace(STATEMENT, **{name: 1.0})), name) == 1.0
    for bad in (-0.5, 1.5, 1e308):
        with pytest.raises(StatementError, match=f"statement, {name} is .*, expected 0 to 1"):
            read(replace(STATEMENT, **{name: bad}))


@pytest.mark.parametrize("name", ["train_rows", "test_rows"])
def test_a_number_of_rows_outside_its_range_is_refused(name: str) -> None:
    assert getattr(read(sited(**{name: 1 << 40})).sites[0], name) == 1 << 40
    for bad in (-1, (1 << 40) + 1, 2**63):
        with pytest.raises(StatementError, match=f"statement, {name} is {bad}"):
            read(sited(**{name: bad}))


@pytest.mark.parametrize("name", ["auc", "accuracy", "loss"])
def test_scores_are_said_of_every_round_but_the_first(name: str) -> None:
    with pytest.raises(StatementError, match=f"round 1: {name} is None; scores begin with round 1"):
        read(scored(**{name: None}))
    with pytest.raises(StatementError, match=f"round 0: {name} is 0.5; scores begin with round 1"):
        read(replace(STATEMENT, rounds=(replace(STATEMENT.rounds[0], **{name: 0.5}),)))


def test_texts_have_a_length() -> None:
    longest = replace(
        STATEMENT, warnings=("w" * WARNING_LENGTH_MAX,) * WARNINGS_MAX, attribution="a" * ATTRIBUTION_LENGTH_MAX
    )
    assert read(longest).warnings == longest.warnings
    for longer, reason in (
        (replace(longest, warnings=(*longest.warnings, "")), "number of warnings is 4097"),
        (replace(longest, warnings=("w" * (WARNING_LENGTH_MAX + 1),)), "length of a warning is 1025"),
        (replace(longest, attribution=longest.attribution + "a"), "length of the attribution is 65537"),
    ):
        with pytest.raises(StatementError, match=reason):
            read(longer)


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"zzz":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        encode_statement(STATEMENT).replace(b'"round":1', b'"round":' + b"9" * 30),
        encode_statement(STATEMENT).replace(b'"auc":0.75', b'"auc":1e999'),
        encode_statement(STATEMENT).replace(b'"auc":0.75', b'"auc":NaN'),
        encode_statement(STATEMENT).replace(b'"auc":0.75', b'"auc":0.750'),
        encode_statement(STATEMENT).replace(b"few rows", b"\\ud800"),
        encode_statement(STATEMENT)[:-1] + b',"watts":15.0}',
        encode_statement(STATEMENT) + b" ",
        b"\xff\xfe",
        b"",
    ],
)
def test_bytes_that_are_no_statement_are_refused_by_name(hostile: bytes) -> None:
    with pytest.raises(StatementError):
        decode_statement(hostile)
