"""A consortium as real processes: it learns, survives kills and a hostile member, and leaves a run that verifies.

One network is played for all tests here. In it a validator, a trainer and the relayer are killed and started again, and
while the validator is away, somebody with its certificate talks garbage to the others.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _network_stage import LiveNetwork, connected, consortium_of, metrics_of, opened
from _run_stage import check, check_damage_is_noticed

from collegium.apps._page import render_page
from collegium.consensus import BlockRequest, Certified, Close, decode_payload
from collegium.crypto import AccountKey, load_secret, os_random
from collegium.learning import TrainerRows
from collegium.node import (
    Consortium,
    Experiment,
    LearningTask,
    TrainerSettings,
    collect_run,
    load_settings,
)
from collegium.node._epoch_wire import EpochMessage, encode_epoch_message
from collegium.node._evaluations import EvaluationError, check_evaluation, read_evaluations, sign_evaluation
from collegium.node._ledger import decode_ledger
from collegium.node._peer_frames import encode_hello
from collegium.node._row_files import read_rows
from collegium.node._setup import build_task

KILLED, HOSTILE_RECORDS = "validator 3", 300
LAST = 5
WHOLE, START = 2, 3  # kinds of records

pytestmark = pytest.mark.slow


@dataclass
class Finished:
    """A network that has finished, its run, and what was seen on the way."""

    network: LiveNetwork
    experiment: Experiment
    run: Path
    summary: dict[str, Any]
    cut_off: list[str]
    metrics: dict[str, str]

    @property
    def consortium(self) -> Consortium:
        return self.network.consortium


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("network")
    consortium, experiment = consortium_of(folder, ("rounds = 3", f"rounds = {LAST}"))
    for network in opened(consortium):
        yield play(network, experiment, folder / "run")


def play(network: LiveNetwork, experiment: Experiment, run: Path) -> Finished:
    """Let the network learn, with everything that goes wrong; return it when it has finished."""
    validators, trainers = network.names("validator"), network.names("trainer")
    others = [name for name in validators if name != KILLED]
    network.start(*(member.name for member in network.consortium.members))
    # a validator is killed while round 1 is under way
    network.wait(lambda: network.has("validator 0", "round_final", round=0), "round 0")
    network.kill(KILLED)
    # somebody with its certificate is hostile to the others
    cut_off = [name for name in others for attack in ATTACKS if is_cut_off(network, name, attack)]
    # a trainer is killed once its report of round 1 is out, the relayer once it has posted; all begin again
    network.wait(lambda: network.has(trainers[0], "upload_sent", round=1), "a report of round 1")
    network.kill(trainers[0])
    network.start(trainers[0], KILLED)
    network.wait(lambda: bool(network.events("relayer", "checkpoint")), "a checkpoint")
    if "relayer" in network.running:
        network.kill("relayer")
    network.start("relayer")
    network.wait(lambda: set(network.running) <= set(validators), "trainers, evaluator and relayer to finish")
    network.wait(lambda: all(network.has(name, "round_final", round=LAST) for name in validators), "the last round")
    summary = collect_run(network.consortium, experiment, run, render_page)
    metrics = {f"validator {index}": text for index, text in asyncio.run(metrics_of(network.consortium)).items()}
    return Finished(network, experiment, run, summary, cut_off, metrics)


# ------------------------------------------------------------------------------------------------ a hostile member


def garbage() -> bytes:
    """Return a frame that is no message."""
    return record(WHOLE, b"\xee is no kind of message")


def two_gigabytes() -> bytes:
    """Return the beginning of a frame that claims two gigabytes."""
    return record(START, struct.pack(">I", 2 << 30) + b"\x01")


def record(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


ATTACKS = (garbage, two_gigabytes)


def is_cut_off(network: LiveNetwork, name: str, attack: Any) -> bool:
    """Tell whether a validator ends the connection of a member that attacks it, after a flood of what means nothing."""
    validators = network.validators()
    own = validators[KILLED]
    question = encode_epoch_message(EpochMessage(0, BlockRequest(own.index, bytes(32), bytes(32))))
    with connected(own, validators[name]) as connection:
        try:
            connection.sendall(encode_hello(os_random(16)))
            connection.sendall(record(WHOLE, question) * HOSTILE_RECORDS)
            connection.sendall(attack())
            while connection.recv(1 << 16):
                pass
        except (ConnectionError, ssl.SSLError):
            pass  # cut off is cut off, however it shows
        except TimeoutError:
            return False
    return True


# ------------------------------------------------------------------------------------------------ what is to be seen


def test_the_run_verifies_as_any_other_does(finished: Finished) -> None:
    verdict = check(finished.run, finished.consortium.genesis.anchor.hex())
    assert verdict.ok, verdict.failure
    assert [row["outcome"] for row in finished.summary["rounds"]] == ["opened"] * (LAST + 1)
    assert any("talked over sockets" in note for note in finished.summary["notes"])
    figure = finished.summary["rounds"][1]["finality_ms"]
    assert figure is None or figure >= 0
    check_damage_is_noticed(finished.run)


def test_the_models_are_those_of_the_plain_computation_from_the_same_reports(finished: Finished) -> None:
    genesis = finished.consortium.genesis
    task = build_task(genesis, finished.experiment)
    rows = {}
    for member in finished.consortium.members:
        settings = load_settings(finished.consortium.config(member))
        if isinstance(settings, TrainerSettings):
            account = AccountKey(load_secret(settings.account_key, "account")).address
            name = dict(genesis.trainers)[account]
            rows[account] = TrainerRows(name.rsplit("/", 1)[0], name, read_rows(settings.data, "ill"))
    blocks, _ = decode_ledger((finished.run / "ledger.bin").read_bytes())
    payloads = [decode_payload(block.payload) for block in blocks if block.payload]
    model, beacon = b"", sha256(genesis.beacon).digest()
    for close, certified in zip(payloads[::2], payloads[1::2], strict=True):
        assert isinstance(close, Close)
        assert isinstance(certified, Certified)
        assert len(close.reports) == 4
        model = plain_step(task, close.round, model, beacon, list(rows.values()))
        assert sha256(model).digest() == certified.header.model
        beacon = sha256(certified.header.beacon).digest()


def plain_step(task: LearningTask, number: int, model: bytes, beacon: bytes, trainers: list[TrainerRows]) -> bytes:
    """Return the model after adding everybody's update, as one process with all rows would."""
    updates = [task.update(number, model, trainer, beacon) for trainer in trainers]
    return task.step(number, model, np.sum(updates, axis=0, dtype=np.int64))


def test_a_killed_validator_comes_back_and_follows_every_round(finished: Finished) -> None:
    heads = {
        name: {line["round"]: (line["header"], line["model"]) for line in finished.network.events(name, "round_final")}
        for name in finished.network.names("validator")
    }
    assert heads[KILLED][LAST] == heads["validator 0"][LAST]
    for known in heads.values():  # nobody ever says another thing of a round
        assert known.items() <= heads["validator 0"].items() | known.items()
        assert all(heads["validator 0"].get(number, head) == head for number, head in known.items())


def test_a_hostile_member_is_cut_off_each_time_by_everybody(finished: Finished) -> None:
    others = [name for name in finished.network.names("validator") if name != KILLED]
    assert sorted(finished.cut_off) == sorted(others * len(ATTACKS))


def test_whoever_cuts_somebody_off_says_so_to_its_monitor(finished: Finished) -> None:
    for name in finished.cut_off:
        text = finished.metrics[name]
        assert 'collegium_cut_offs_total{reason="' in text
        (sent,) = [line for line in text.splitlines() if line.startswith("collegium_sent_bytes_total ")]
        assert float(sent.split()[1]) > 0


def test_a_killed_trainer_signs_one_report_a_round(finished: Finished) -> None:
    blocks, _ = decode_ledger((finished.run / "ledger.bin").read_bytes())
    closes = [decode_payload(block.payload) for block in blocks if block.payload[:1] == b"C"]
    assert [len(close.reports) for close in closes if isinstance(close, Close)] == [4] * (LAST + 1)
    assert not any(finished.network.events(name, "evidence") for name in finished.network.names("validator"))


def test_the_relayer_posts_each_checkpoint_once_across_a_kill(finished: Finished) -> None:
    ends = [line["last_round"] for line in finished.network.events("relayer", "checkpoint")]
    assert ends == [2, 4, 5]
    assert [entry["last_round"] for entry in finished.summary["checkpoints"]] == [2, 4, 5]


def test_the_stewards_lines_are_signed_and_about_the_final_models(finished: Finished) -> None:
    genesis = finished.consortium.genesis
    found = read_evaluations(finished.consortium.folder / "evaluator" / "state" / "evaluations.jsonl")
    assert [evaluation.round for evaluation in found] == list(range(1, LAST + 1))
    last = found[-1]
    check_evaluation(last, genesis.task, last.header, genesis.operator)
    assert finished.summary["auc"] == last.auc
    stranger = sign_evaluation(last, AccountKey.generate(os_random))
    with pytest.raises(EvaluationError, match=f"round {LAST}: signed by"):
        check_evaluation(stranger, genesis.task, last.header, genesis.operator)


def test_who_has_nothing_left_to_do_ends_at_once_when_started_again(finished: Finished) -> None:
    network, before = finished.network, {name: len(codes) for name, codes in finished.network.ended.items()}
    again = ("evaluator", network.names("trainer")[1])
    network.start(*again)
    network.wait(lambda: not set(again) & set(network.running), "them to end again")
    assert all(network.ended[name][before[name] :] == [0] for name in again)


def test_a_signal_to_stop_ends_every_validator_in_good_order(finished: Finished) -> None:
    network = finished.network
    for name in list(network.running):
        network.signal(name, signal.SIGTERM)
    network.wait(lambda: not network.running, "validators to stop")
    assert all(network.ended[name][-1] == 0 for name in network.names("validator"))
    assert network.ended[KILLED] == [-signal.SIGKILL, 0]
