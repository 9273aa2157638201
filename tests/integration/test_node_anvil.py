"""A run settled on a real node: anvil on a free loopback port, the same contracts over JSON-RPC."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from _run_stage import Copy, PlayedRun, check, play, write_experiment

from collegium.apps.cli import main
from collegium.consensus import Header
from collegium.node._epoch_node import EpochNode
from collegium.settlement import JsonRpcChain, attach, header_root, read_checkpoints, read_head

pytestmark = [pytest.mark.node, pytest.mark.slow]


@pytest.fixture(scope="module")
def settled(node: str, development_key: str, tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """A run of two epochs whose checkpoints went to the node, which put each set in office."""
    folder = tmp_path_factory.mktemp("settled")
    changes = (
        ("rounds = 3", "rounds = 5"),
        ("absent = 1", "absent = 1\nepoch_rounds = 5"),
        ("checkpoint_every = 2", f'checkpoint_every = 10\nurl = "{node}"\nfollowers = ["embedded"]'),
    )
    experiment = write_experiment(folder, *changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_CHAIN_KEY", development_key)
        return play(experiment, folder / "run")


def record(run: PlayedRun) -> dict[str, Any]:
    return json.loads((run.path / "chain.json").read_bytes())


def test_the_node_holds_the_checkpoints_that_the_run_names(node: str, settled: PlayedRun) -> None:
    chain = JsonRpcChain(node)
    deployment = record(settled)["deployment"]
    attached = attach(chain, b64decode(deployment["settlement"]), deployment["block"])
    assert attached.task == settled.federation.genesis.task
    held = read_checkpoints(chain, attached)
    named: Any = settled.summary["checkpoints"]
    assert [checkpoint.digest.hex() for checkpoint in held] == [entry["digest"] for entry in named]
    assert [(c.epoch, c.first_round, c.last_round) for c in held] == [(0, 0, 4), (1, 5, 5)]
    member = next(iter(settled.federation.participants.values()))
    assert isinstance(member, EpochNode)
    headers: list[Header] = list(member.headers())
    assert held[0].root == header_root([header.digest for header in headers[:5]])
    head = read_head(chain, attached)
    assert (head.previous, head.epoch, head.seats) == (held[-1].digest, 1, 15)


def test_the_same_checkpoints_cost_the_same_bytes_as_on_the_embedded_chain(
    settled: PlayedRun, played: PlayedRun
) -> None:
    on_node: Any = settled.summary["checkpoints"]
    embedded: Any = played.summary["checkpoints"]
    assert [entry["calldata_bytes"] for entry in on_node] == [entry["calldata_bytes"] for entry in embedded]


def test_the_account_that_pays_leaves_no_key_behind(settled: PlayedRun, development_key: str) -> None:
    key = bytes.fromhex(development_key[2:])
    for path in settled.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert key not in data
            assert key.hex().encode() not in data


def test_verify_says_that_it_did_not_ask_the_node(
    node: str, settled: PlayedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = check(settled.path, settled.anchor)
    assert verdict.ok, verdict.failure
    assert any(
        line.startswith("chain: certificates of 2 checkpoints verified, 1 epoch sets put in office by the one before")
        for line in verdict.checks
    )
    follower = next(line for line in verdict.checks if line.startswith("chain 1 that follows: "))
    assert follower.endswith("2 checkpoints verified by the contract, 1 epoch sets put in office by the one before")
    assert any(line.startswith(f"what the node at {node} holds") for line in verdict.unchecked)
    assert main(["verify", str(settled.path)]) == 0
    assert f"not checked: what the node at {node} holds" in capsys.readouterr().out


def test_a_checkpoint_certificate_handover_or_transaction_changed_in_the_record_is_refused(
    settled: PlayedRun, tmp_path: Path
) -> None:
    copy = Copy.of(settled.path, tmp_path / "copy")
    data = (copy.path / "chain.json").read_bytes()
    held = record(settled)
    opening = held["sent"][-2]["raw"]
    changed = (held["certificates"][1], held["checkpoints"][0]["root"], held["sent"][5]["raw"])
    for text in (*changed, held["handovers"][0]["certificate"], opening):
        at = data.index(text.encode()) + 20
        flipped = data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]
        with copy.changed("chain.json", flipped, listed=True):
            failure = check(copy.path).failure
            assert failure is not None
            assert failure.startswith("chain.json: ")


def test_a_record_of_another_node_is_refused(settled: PlayedRun, tmp_path: Path) -> None:
    copy = Copy.of(settled.path, tmp_path / "copy")
    copy.edit("chain.json", lambda document: document.update(url="http://127.0.0.1:1"))
    failure = copy.relist().failure
    assert failure is not None
    assert failure.startswith("chain.json: the record is of http://127.0.0.1:1, expected http://127.0.0.1:")


def test_a_record_that_brings_its_own_chain_is_refused(settled: PlayedRun, played: PlayedRun, tmp_path: Path) -> None:
    copy = Copy.of(settled.path, tmp_path / "copy")
    copy.edit("chain.json", lambda document: document.update(transcript=record(played)["transcript"]))
    failure = copy.relist().failure
    assert failure is not None
    assert failure.startswith("chain.json: the record of a node holds a transcript")
