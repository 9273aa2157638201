"""A trainer whose training outlasts its round: when its update still counts, in which round, and for how much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from _tiny_network import tiny_experiment

from collegium.aggregation import check_report
from collegium.consensus import EpochSet, Header, decode_upload, terms_after
from collegium.crypto import os_random
from collegium.node._play import play_round
from collegium.node._setup import Federation, set_up
from collegium.node._trainer import Trainer
from collegium.node._trainer_disk import TrainerDisk
from collegium.node._trainer_process import TrainerProcess

ROUNDS = 3


@dataclass
class Telling:
    """A client of validators that know of some final headers; `newest` is the last one that they tell of."""

    headers: list[Header]
    models: dict[bytes, bytes]
    epoch_set: EpochSet
    newest: int = 0
    asked: list[bytes] = field(default_factory=list)

    async def latest(self, *_: Any) -> Any:
        return told(self.headers[self.newest])

    async def epoch_after(self, _: Any) -> Any:
        return self

    async def object(self, digest: bytes) -> bytes:
        return self.models[digest]


class Silent:
    """A log that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def told(header: Header) -> Any:
    return SimpleNamespace(certified=SimpleNamespace(header=header))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, list[Header], dict[bytes, bytes]]:
    """A task that takes updates one round late, and its first rounds, in which nobody was late."""
    plain = tiny_experiment(tmp_path_factory.mktemp("late"))
    experiment = replace(plain, task=replace(plain.task, rounds=ROUNDS), trainers=replace(plain.trainers, staleness=1))
    federation = set_up(experiment, lambda _: None)
    headers, models = [], {}
    for _ in range(ROUNDS):
        done = play_round(
            federation.network,
            federation.nodes,
            federation.genesis.epoch_set,
            federation.task,
            federation.trainers,
            os_random,
            lambda *_: None,
        )
        assert done.header is not None
        assert done.header.outcome == "opened"
        headers.append(done.header)
        models[sha256(done.model).digest()] = done.model
    return federation, headers, models


@pytest.fixture
def late(played: tuple[Federation, list[Header], dict[bytes, bytes]], tmp_path: Path) -> Iterator[TrainerProcess]:
    federation, headers, models = played
    disk, trainer = TrainerDisk.open(tmp_path / "state"), federation.trainers[0]
    process = TrainerProcess(
        log=Silent(),  # type: ignore[arg-type]
        genesis=federation.genesis,
        experiment=federation.experiment,
        task=federation.task,
        client=Telling(headers, models, federation.genesis.epoch_set),  # type: ignore[arg-type]
        disk=disk,
        trainer=Trainer(trainer.account, trainer.rows, disk.journal()),
        figures=tmp_path / "figures.jsonl",
        thread=ThreadPoolExecutor(1),
    )
    yield process
    process.thread.shutdown()
    disk.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("newest", "number", "staleness"),
    [(0, 1, 0), (1, 2, 1), (2, 3, 0)],
    ids=["in time", "a round late", "two rounds late"],
)
def test_an_update_counts_for_the_round_that_has_begun_if_it_is_not_too_stale(
    late: TrainerProcess, monkeypatch: pytest.MonkeyPatch, newest: int, number: int, staleness: int
) -> None:
    """It trains for round 1 while rounds pass: the model and the batch are round 1's, all else the newest round's."""
    client: Any = late.client
    client.newest, headers = newest, client.headers
    trained: list[tuple[int, np.ndarray]] = []
    plain = type(late.task).update

    def update(task: Any, round_number: int, *rest: Any) -> np.ndarray:
        trained.append((round_number, plain(task, round_number, *rest)))
        return trained[-1][1]

    monkeypatch.setattr(type(late.task), "update", update)
    header, data = asyncio.run(late._report(told(headers[0])))
    assert header is not None
    assert data is not None
    report = decode_upload(data).report
    assert (report.round, report.staleness) == (number, staleness)
    terms = terms_after(late.task, late.genesis.epoch_set, headers[newest])
    check_report(terms, report)
    assert header.certified.header == headers[newest]
    assert [done for done, _ in trained] == ([1, number] if newest == 2 else [1]), "one too stale is trained anew"
    assert late.disk.reported(number) == report.id


@pytest.mark.slow
def test_a_round_that_was_reported_in_gets_no_second_report(late: TrainerProcess) -> None:
    client: Any = late.client
    client.newest = 1
    late.disk.keep_upload(2, bytes(32), b"signed before")
    header, data = asyncio.run(late._report(told(client.headers[0])))
    assert header is not None
    assert data is not None
    report = decode_upload(data).report
    assert (report.round, report.staleness, header.certified.header.round) == (1, 0, 0)
