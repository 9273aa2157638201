"""Shards in an experiment: what is accepted, what is refused by name as nobody has argued it, and who plays none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _experiment_stage import SMALLEST
from typer.testing import CliRunner

from collegium.apps.cli import app
from collegium.consensus import TooManyShardsError
from collegium.node import (
    Experiment,
    ExperimentRefusedError,
    ShardedNetworkError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
    set_up,
)
from collegium.node._experiment import require_for_processes
from collegium.node._membership import join_validator

TEXT = (
    SMALLEST
    + """shards = 2
partition_rounds = 3
[trainers]
minimum = 3
[schema]
columns = [{ name = "dose", lower = 0, upper = 100 }]
"""
)


def decode(*changes: tuple[str, str]) -> Experiment:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return decode_experiment(text.encode(), Path("folder"))


def test_shards_are_part_of_an_experiments_identity() -> None:
    experiment, single = decode(), decode(("shards = 2\npartition_rounds = 3\n", ""))
    assert (experiment.committee.shards, experiment.committee.partition_rounds) == (2, 3)
    assert (experiment.committee.validators, single.committee.validators) == (32, 16)
    assert experiment_from_bytes(experiment_to_bytes(experiment)).committee == experiment.committee
    assert b"shards" not in experiment_to_bytes(single)
    assert experiment_to_bytes(decode(("partition_rounds = 3", "partition_rounds = 2"))) != experiment_to_bytes(
        experiment
    )


REFUSED: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, str]]] = {
    "nobody said for how long": ((("partition_rounds = 3\n", ""),), ("committee.partition_rounds", "missing")),
    "a partition of one shard": ((("shards = 2\n", ""),), ("committee.partition_rounds", "conflict")),
    "no shard": ((("shards = 2", "shards = 0"),), ("committee.shards", "range")),
    "too many validators": (
        (("seats = 16", "seats = 64"), ("shards = 2", "shards = 5")),
        ("committee.shards", "range"),
    ),
    "epochs": (
        (("shards = 2", "shards = 2\nepoch_rounds = 5"), ("rounds = 3\nseed", "rounds = 9\nseed")),
        ("committee.shards", "conflict"),
    ),
    "stale updates": ((("minimum = 3", "minimum = 3\nstaleness = 1"),), ("trainers.staleness", "conflict")),
    "registered data": ((('"unproved"', '"proved"'),), ("task.level", "conflict")),
    "a network": (
        (("[trainers]", "[network]\nvalidators = 4\n[trainers]"),),
        ("network.validators", "conflict"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_argued_is_refused_by_name(case: str) -> None:
    changes, problem = REFUSED[case]
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(*changes)
    assert problem in [(found.where, found.kind) for found in caught.value.problems]


def test_bounded_reports_and_a_quorum_go_with_shards() -> None:
    decode(('"unproved"', '"bounded"'), ("minimum = 3", "minimum = 3\nquorum = 0.75"))


def test_a_shard_of_too_few_trainers_is_refused_before_anything_is_founded(tmp_path: Path) -> None:
    rows = [f"{site},{dose},{dose % 2}" for site in "abcd" for dose in range(40)]
    (tmp_path / "heart.csv").write_text("\n".join(["hospital,dose,disease", *rows]) + "\n")
    experiment = decode_experiment(TEXT.encode(), tmp_path)
    with pytest.raises(TooManyShardsError, match="at most 1 shards"):
        set_up(experiment, lambda _: None)


def test_networks_of_processes_have_one_committee_a_round(tmp_path: Path) -> None:
    require_for_processes(decode(("shards = 2\npartition_rounds = 3\n", "")))
    with pytest.raises(ShardedNetworkError, match=r"committee\.shards is 2"):
        require_for_processes(decode())
    with pytest.raises(ShardedNetworkError):
        join_validator(decode(), tmp_path / "member", ("127.0.0.1", 1), ("127.0.0.1", 2))
    assert not (tmp_path / "member").exists()
    config = tmp_path / "sharded.toml"
    config.write_text(TEXT)
    result: Any = CliRunner().invoke(app, ["init", str(config), "--out", str(tmp_path / "consortium")])
    assert result.exit_code != 0
    assert "networks of processes have one committee a round" in result.stderr
    assert not (tmp_path / "consortium").exists() or not any((tmp_path / "consortium").iterdir())
