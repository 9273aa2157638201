"""A consortium as real processes through two handovers: who is away drops out, follows from outside, and comes back.

One network is played for all tests here. Of its five validators one is not there in the first epoch, so that it has no
place in the second; it is started then, buys a ticket from outside and is a member of the third. Another one is killed
while the second change goes on, and started again. While the absent one is away, somebody with its certificate speaks
in an epoch that is not. With `COLLEGIUM_FULL=1` a third one is killed as each window of the first change begins, and
again between the first epoch's end and the second one's first round.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from _network_stage import LiveNetwork, connected, consortium_of, opened
from _run_stage import check, check_damage_is_noticed

from collegium.apps._page import render_page
from collegium.apps.cli import main
from collegium.consensus import BlockRequest
from collegium.crypto import os_random
from collegium.node import Experiment, collect_run
from collegium.node._epoch_wire import EpochMessage, encode_epoch_message
from collegium.node._peer_frames import encode_hello
from collegium.node._status import ValidatorStatus, network_status
from collegium.node._tls import Identity, Role, anonymous_client_context

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
AWAY, KILLED, HARASSED = "validator 4", "validator 3", "validator 2"
EPOCH_ROUNDS, LAST = 5, 10
STRANGE_EPOCH = 9
WINDOWS = range(EPOCH_ROUNDS if FULL else 0)  # each begins when this round is final; the last is the next epoch's

pytestmark = pytest.mark.slow


@dataclass
class Finished:
    """A network that has finished, and what was seen on the way."""

    network: LiveNetwork
    experiment: Experiment
    run: Path
    summary: dict[str, Any] = field(default_factory=dict)
    outside: list[ValidatorStatus] = field(default_factory=list)
    outside_ready: tuple[int, dict[str, object]] = (0, {})
    refused: str = ""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("epochs")
    changes = (
        ("rounds = 3", f"rounds = {LAST}"),
        ("seats = 16\n", f"seats = 16\nepoch_rounds = {EPOCH_ROUNDS}\n"),
        ("checkpoint_every = 2", 'checkpoint_every = 4\nfollowers = ["embedded"]'),
    )
    consortium, experiment = consortium_of(folder, *changes, validators=5)
    for network in opened(consortium):
        yield play(Finished(network, experiment, folder / "run"))


def play(seen: Finished) -> Finished:
    """Let the network learn through two handovers, with everything that goes wrong."""
    network = seen.network
    validators, trainers = network.names("validator"), network.names("trainer")
    members = [name for name in validators if name != AWAY]
    network.start(*members, *trainers, "evaluator", "relayer")
    network.wait(lambda: network.has("validator 0", "round_final", round=0), "round 0")
    seen.refused = speak_strangely(network, "validator 0")
    for number in WINDOWS:
        network.wait(lambda number=number: network.has("validator 0", "round_final", round=number), f"round {number}")
        network.kill(HARASSED)
        network.start(HARASSED)
    # the second epoch begins without the absent one; while trainers pause, it comes, and follows from outside
    network.wait(lambda: network.has("validator 0", "epoch_began", epoch=1), "the second epoch")
    for name in trainers:
        network.signal(name, signal.SIGSTOP)
    network.start(AWAY)
    network.wait(lambda: network.has(AWAY, "outside", epoch=1), "the absent one to follow")
    seen.outside = list(network_status(network.consortium.folder))
    seen.outside_ready = ready(network, AWAY)
    for name in trainers:
        network.signal(name, signal.SIGCONT)
    # one is killed when dealings are due, and comes back
    network.wait(lambda: network.has("validator 0", "round_final", round=EPOCH_ROUNDS), "the tickets' window")
    network.kill(KILLED)
    network.start(KILLED)
    network.wait(lambda: set(network.running) <= set(validators), "trainers, evaluator and relayer to finish")
    network.wait(lambda: all(network.has(name, "round_final", round=LAST) for name in validators), "the last round")
    seen.summary = collect_run(network.consortium, seen.experiment, seen.run, render_page)
    return seen


def speak_strangely(network: LiveNetwork, name: str) -> str:
    """Speak in an epoch that is not, with the absent one's certificate; return the metrics of whom one spoke to."""
    validators = network.validators()
    own = validators[AWAY]
    frame = encode_epoch_message(EpochMessage(STRANGE_EPOCH, BlockRequest(own.index, bytes(32), bytes(32))))
    with connected(own, validators[name]) as connection:
        connection.sendall(encode_hello(os_random(16)))
        connection.sendall((1 + len(frame)).to_bytes(4, "big") + b"\x02" + frame)
        metrics = [""]

        def counted() -> bool:
            metrics[0] = asked(network, name, "/metrics").text
            return "WrongEpochError" in metrics[0]

        network.wait(counted, "the strange word to be refused")
    return metrics[0]


def asked(network: LiveNetwork, name: str, path: str) -> httpx.Response:
    """Ask a validator's gateway."""
    settings, task = network.validators()[name], network.consortium.genesis.task
    context = anonymous_client_context(settings.tls.authority, Identity(task, Role.VALIDATOR, settings.index))
    host, port = settings.gateway
    with httpx.Client(verify=context, timeout=60, trust_env=False) as client:
        return client.get(f"https://{host}:{port}{path}")


def ready(network: LiveNetwork, name: str) -> tuple[int, dict[str, object]]:
    answer = asked(network, name, "/readyz")
    return answer.status_code, answer.json()


def test_everybody_goes_through_two_handovers_to_one_chain(finished: Finished) -> None:
    network = finished.network
    heads = {
        name: {line["round"]: (line["header"], line["model"]) for line in network.events(name, "round_final")}
        for name in network.names("validator")
    }
    kills = {KILLED: 1, HARASSED: len(WINDOWS)}
    for name, known in heads.items():
        missed = set(range(LAST + 1)) - set(known)
        assert len(missed) <= kills.get(name, 0), "what it had no time to log when it was killed"
        assert known.items() <= heads["validator 0"].items()
    for name in network.names("validator"):
        began = {line["epoch"] for line in network.events(name, "epoch_began")}
        assert {1, 2} <= began
        assert not network.events(name, "change_refused")
        assert not network.events(name, "evidence")


def test_who_was_away_has_no_place_then_follows_from_outside_and_comes_back(finished: Finished) -> None:
    network = finished.network
    sizes = {line["epoch"]: line["members"] for line in network.events("validator 0", "handed_over")}
    assert sizes == {1: 4, 2: 5}
    member = {line["epoch"]: line["member"] for line in network.events(AWAY, "epoch_began")}
    assert member == {1: False, 2: True}
    assert network.has(AWAY, "ready", epoch=2)
    status, body = finished.outside_ready
    assert status == 503
    assert (body["ready"], body["epoch"], body["back_at"]) == (False, 1, 2 * EPOCH_ROUNDS)
    stands = {status.index: status for status in finished.outside}
    away = stands[4].readiness
    assert away is not None
    assert (away.epoch, away.back_at) == (1, 2 * EPOCH_ROUNDS)
    others = [stands[index].readiness for index in range(4)]
    assert all(other is not None and other.back_at is None for other in others)


def test_who_was_killed_in_the_change_is_a_member_of_the_next_epoch(finished: Finished) -> None:
    network = finished.network
    assert network.ended[KILLED][0] == -signal.SIGKILL
    assert {line["epoch"]: line["member"] for line in network.events(KILLED, "epoch_began")}[2]
    assert not any(network.events(name, "change_put_off") for name in network.names("validator"))


def test_a_word_in_an_epoch_that_is_not_is_refused_by_name(finished: Finished) -> None:
    counts = [line for line in finished.refused.splitlines() if 'reason="WrongEpochError"' in line]
    assert any(line.startswith("collegium_refused_total{") and float(line.split()[-1]) >= 1 for line in counts)


def test_trainers_report_in_every_round_of_every_epoch(finished: Finished) -> None:
    network = finished.network
    for name in network.names("trainer"):
        sent = {line["round"] for line in network.events(name, "upload_sent")}
        assert sent == set(range(LAST + 1)), name
        assert network.has(name, "finished")


@pytest.mark.parametrize("chain", [0, 1])
def test_the_relayer_settles_each_epoch_and_opens_the_next(finished: Finished, chain: int) -> None:
    network = finished.network
    told = [line for line in network.events("relayer") if line["event"] in ("checkpoint", "epoch_opened")]
    said = [line.get("last_round", f"epoch {line.get('epoch')}") for line in told if line["chain"] == chain]
    assert said == [4, "epoch 1", 8, 9, "epoch 2", 10]


def test_a_dry_run_after_the_last_step_has_nothing_to_send(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    consortium = finished.network.consortium
    (config,) = (consortium.config(member) for member in consortium.members if member.role == "relayer")
    assert main(["relayer", "--config", str(config), "--dry-run"]) == 0
    assert capsys.readouterr() == ("home, embedded: nothing to send\nchain 1, embedded: nothing to send\n", "")


def test_the_run_of_three_epochs_verifies_as_any_other_does(finished: Finished) -> None:
    verdict = check(finished.run, finished.network.consortium.genesis.anchor.hex())
    assert verdict.ok, verdict.failure
    for name in ("chain: ", "chain 1 that follows: "):
        (line,) = (line for line in verdict.checks if line.startswith(name))
        assert line.endswith("4 checkpoints verified by the contract, 2 epoch sets put in office by the one before")
    assert [row["outcome"] for row in finished.summary["rounds"]] == ["opened"] * (LAST + 1)
    check_damage_is_noticed(finished.run)


def test_a_signal_to_stop_ends_every_validator_in_good_order(finished: Finished) -> None:
    network = finished.network
    for name in list(network.running):
        network.signal(name, signal.SIGTERM)
    network.wait(lambda: not network.running, "validators to stop")
    assert all(network.ended[name][-1] == 0 for name in network.names("validator"))
