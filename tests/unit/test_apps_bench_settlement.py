"""The benchmark of settling: what it measures is mined, its peers do what is said, and a node needs a payer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from collegium.apps._bench_settlement import (
    BYTES_MAX,
    ECDSA,
    ROUNDS,
    STORE,
    Bench,
    Committee,
    NoPayerError,
    create,
    ecdsa_checkpoint,
    open_chain,
    parameter_rows,
    recoverable,
    round_headers,
    seat_rows,
    settlement_rows,
    trainer_rows,
)
from collegium.apps.cli import Engine, ExitCode, app
from collegium.crypto import AccountKey, Stream, hash_fields
from collegium.settlement import transact

pytestmark = pytest.mark.slow

RANDOM = Stream(hash_fields("test-bench"))


@pytest.fixture(scope="module")
def committee() -> Committee:
    return Committee(open_chain(None), 4)


@pytest.fixture
def bench(committee: Committee) -> Bench:
    return committee.bench


def rows_of(rows: Iterator[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["name"] == name]


def test_gas_is_that_of_what_was_mined_and_a_round_takes_few_bytes(committee: Committee) -> None:
    rows = list(seat_rows(committee))
    full, least = rows_of(iter(rows), "round: gas")
    assert 150_000 < full["ours"] * ROUNDS < 200_000
    away = rows_of(iter(rows), "a seat that is away")[0]["ours"]
    assert away == least["ours"] * ROUNDS - full["ours"] * ROUNDS
    spread, single = rows_of(iter(rows), "round: bytes")
    assert (spread["met"], single["met"]) == (True, False)
    assert spread["ours"] * ROUNDS == single["ours"] > BYTES_MAX


def test_a_round_takes_the_same_whatever_trains(committee: Committee) -> None:
    for rows in (trainer_rows(committee, (1, 1000)), parameter_rows(committee, (10, 100_000))):
        *_, flat = rows
        assert flat["name"].startswith("spread over ")
        assert flat["ours"] < 1  # percent: bytes of the digests that happen to be zero


def test_alternatives_grow_with_the_model(committee: Committee) -> None:
    rows = list(parameter_rows(committee, (1_000, 1_000_000)))
    for name in ("stored", "as calldata"):
        small, large = rows_of(iter(rows), f"round: model {name}")
        assert large["peer"] == pytest.approx(1000 * small["peer"])
        assert large["ratio"] > 1000
    few, many = rows_of(iter(rows), "round: model in blobs")
    assert "1 blobs, computed" in few["unit"]
    assert "32 blobs, computed" in many["unit"]


def test_the_peers_code_recovers_the_signer_and_no_other(bench: Bench) -> None:
    checker, digest = create(bench, ECDSA), RANDOM(32)
    first, last = (AccountKey.generate(RANDOM) for _ in range(2))
    data = digest + recoverable(first, digest) + recoverable(last, digest)
    payer = bench.account.address
    assert bench.chain.call(payer, checker, data)[12:] == last.address
    assert bench.chain.call(payer, checker, data[:97])[12:] == first.address
    assert bench.chain.call(payer, checker, bytes(32) + data[32:])[12:] != last.address
    one, two = (ecdsa_checkpoint(bench, signers).gas for signers in (1, 2))
    assert 4_000 < two - one < 7_000


def test_the_peers_code_stores_every_word(bench: Bench) -> None:
    one, two = (transact(bench.chain, bench.account, create(bench, STORE), RANDOM(32 * n)).gas for n in (1, 2))
    assert 22_000 < two - one < 24_000


def test_headers_differ_by_who_trains_what() -> None:
    found = [round_headers(4, trainers, parameters) for trainers, parameters in ((1, 1), (2, 1), (1, 2))]
    assert len({digest for headers in found for digest in headers}) == 3 * ROUNDS


def test_a_node_without_a_payer_is_not_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLLEGIUM_CHAIN_KEY", raising=False)
    with pytest.raises(NoPayerError, match="set COLLEGIUM_CHAIN_KEY to its key, 32 bytes in hexadecimal"):
        list(settlement_rows(quick=True, url="http://127.0.0.1:1"))


def test_the_command_prints_rows() -> None:
    row = {"name": "round: gas", "case": "4 seats", "ours": 1.0, "peer": None, "ratio": None, "unit": "gas"}
    asked: list[tuple[bool, str | None]] = []

    def rows(*, quick: bool, url: str | None) -> list[dict[str, Any]]:
        asked.append((quick, url))
        return [row]

    engine = Engine(settlement_rows=rows)
    done = CliRunner().invoke(app, ["bench", "settlement", "--quick", "--json"], obj=engine)
    assert (done.exit_code, json.loads(done.stdout), asked) == (ExitCode.GOOD, [row], [(True, None)])
    done = CliRunner().invoke(app, ["bench", "settlement", "--url"], obj=engine)
    assert done.exit_code == ExitCode.USER
