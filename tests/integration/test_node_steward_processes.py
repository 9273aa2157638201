"""Stewards as processes: trainers are scored and weighed as in a simulated network, and everybody can redo it.

One network is played for all tests here. In it a steward and a validator are killed and started again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from _network_stage import LiveNetwork, consortium_of, opened
from _run_stage import PROVED, check

from collegium.apps._page import render_page
from collegium.crypto import AccountKey, os_random
from collegium.incentives import StewardRecord, encode_steward_record, read_steward_record, record_digest
from collegium.incentives import sign_steward_record as sign
from collegium.node import EvaluatorSettings, Experiment, TrainersWeighed, collect_run, load_settings, trainers_status
from collegium.node._client_line import ClientLimits, GatewayRefusedError, open_lines
from collegium.node._client_upload import record_to
from collegium.node._ledger import decode_ledger
from collegium.node._setup import build_task

pytestmark = pytest.mark.slow

STEWARDS = (
    "[schema]",
    "[trainers]\nminimum = 3\n[stewards]\ncount = 3\nshare = 0.2\nopen = true\nproved = true\n[schema]",
)
LIAR = ("[rule]", '[[attack.trainers]]\nname = "d/0"\nkind = "label_flip"\n[rule]')
BUDGET = 1_000_000
PAYS = ("[model]", f"[rewards]\nbudget = {BUDGET}\n[model]")
LAST, KILLED = 2, "steward 1"


@dataclass
class Finished:
    """A network that has finished, and its run."""

    network: LiveNetwork
    experiment: Experiment
    run: Path
    summary: dict[str, Any]
    refusal: str
    weighed: TrainersWeighed | None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("stewards")
    consortium, experiment = consortium_of(folder, PROVED, STEWARDS, LIAR, PAYS, ("rounds = 3", f"rounds = {LAST}"))
    for network in opened(consortium, "proved"):
        yield play(network, experiment, folder / "run")


def play(network: LiveNetwork, experiment: Experiment, run: Path) -> Finished:
    validators = network.names("validator")
    network.start(*(member.name for member in network.consortium.members))
    network.wait(lambda: network.has(KILLED, "record_sent", round=1), "a steward's record")
    network.kill(KILLED)
    network.kill("validator 3")
    network.start(KILLED, "validator 3")
    refusal = asyncio.run(bring_as_a_stranger(network, experiment))
    network.wait(lambda: set(network.running) <= set(validators), "all but validators to finish")
    network.wait(lambda: all(network.has(name, "round_final", round=LAST) for name in validators), "the last round")
    weighed = trainers_status(network.consortium.folder)
    summary = collect_run(network.consortium, experiment, run, render_page)
    return Finished(network, experiment, run, summary, refusal, weighed)


async def bring_as_a_stranger(network: LiveNetwork, experiment: Experiment) -> str:
    """Bring a well-formed record of somebody who is no steward; return what validator 0 says."""
    genesis, limits = network.consortium.genesis, ClientLimits()
    settings = load_settings(network.consortium.folder / "evaluator" / "config.toml")
    assert isinstance(settings, EvaluatorSettings)
    rule, stranger = build_task(genesis, experiment).quality, AccountKey.generate(os_random)
    assert rule is not None
    behind, direction = b"no proof", np.ones(rule.parameters, np.int64)
    named = {"registered": b"r" * 32, "evidence": sha256(behind).digest()}
    record = StewardRecord(stranger.address, 1, direction, b"c" * 32, None, **named)
    data = encode_steward_record(sign(record, genesis.task, stranger)) + behind
    lines = open_lines(genesis.task, settings.validators, settings.tls.authority, limits)
    try:
        await record_to(lines[0], data, limits, Random(1))
    except GatewayRefusedError as error:
        return str(error)
    finally:
        for line in lines.values():
            await line.close()
    return "taken"


def quality(finished: Finished, number: int) -> dict[str, Any]:
    return finished.summary["rounds"][number]["quality"]


def test_trainers_are_scored_and_weighed_and_the_run_verifies(finished: Finished) -> None:
    verdict = check(finished.run, finished.network.consortium.genesis.anchor.hex())
    assert verdict.ok, verdict.failure
    assert "proofs: 12 of level proved verified, and 4 registrations of data" in verdict.checks
    assert any("records, each proved on the rows" in line for line in verdict.checks)
    assert "stewards.json: the rows of 3 stewards are those that they committed to" in verdict.checks
    assert [row["outcome"] for row in finished.summary["rounds"]] == ["opened"] * (LAST + 1)
    scored = [number for number in range(2, LAST + 1) if quality(finished, number)["scored"]]
    assert scored
    for number in scored:  # the liar's updates point away
        scores = {entry["name"]: entry["score"] for entry in quality(finished, number)["trainers"]}
        assert scores["d/0"] < min(scores[name] for name in ("a/0", "b/0", "c/0"))
    assert any(entry["points"] for entry in quality(finished, scored[0])["trainers"])


def test_trainers_are_paid_by_what_their_scores_earned(finished: Finished) -> None:
    paid = sum(any(entry["points"] for entry in quality(finished, number)["trainers"]) for number in (1, 2))
    earned = {entry["trainer"]: int(entry["wei"]) for entry in finished.summary["earnings"]}
    assert paid
    assert sum(earned.values()) == BUDGET * paid
    assert earned.get("d/0", 0) < min(earned[name] for name in ("a/0", "b/0", "c/0"))


def test_whoever_asks_is_told_what_stewards_made_of_the_trainers(finished: Finished) -> None:
    weighed = finished.weighed
    assert weighed is not None
    assert weighed.round == LAST
    told = {entry["name"]: entry["score"] for entry in quality(finished, LAST)["trainers"]}
    assert {entry.name: entry.score for entry in weighed.trainers} == told
    assert {entry.name: entry.attack for entry in weighed.trainers if entry.attack} == {"d/0": "label_flip"}
    (said,) = (line for line in finished.network.events("evaluator", "weighed") if line["round"] == LAST)
    assert [entry["weight"] for entry in said["trainers"]] == [entry.weight for entry in weighed.trainers]


def test_a_killed_steward_never_signs_two_records_for_a_round(finished: Finished) -> None:
    consortium = finished.network.consortium
    blocks, _ = decode_ledger((finished.run / "ledger.bin").read_bytes())
    records = [block.payload[1:] for block in blocks if block.payload[:1] == b"Q"]
    ordered = {}
    for data in records:
        record = read_steward_record(data, consortium.genesis.task)
        ordered[record.account, record.round] = record_digest(data)
    assert len(ordered) == len(records) > 3
    account = consortium.genesis.stewards[1].account
    with closing(sqlite3.connect(consortium.folder / "stewards" / "01" / "state" / "steward.db")) as database:
        signed = dict(database.execute("SELECT round, digest FROM records").fetchall())
    own = {number: digest for (who, number), digest in ordered.items() if who == account}
    assert own.items() <= signed.items()
    assert len(finished.network.events(KILLED, "ready")) == 2
    assert finished.network.ended[KILLED] == [-9, 0]


def test_a_validator_that_was_away_follows_the_same_states(finished: Finished) -> None:
    heads = {
        name: {line["round"]: line["model"] for line in finished.network.events(name, "round_final")}
        for name in ("validator 0", "validator 3")
    }
    assert heads["validator 3"][LAST] == heads["validator 0"][LAST]


def test_a_record_of_somebody_who_is_no_steward_is_refused_by_name(finished: Finished) -> None:
    assert "UnregisteredStewardError" in finished.refusal
