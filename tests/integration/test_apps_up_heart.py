"""`collegium up` learns the demo's task while three validators are killed in turn; no round is lost, no vote broken.

By default five validators and four trainers; `COLLEGIUM_FULL=1` plays the demo's size, 16 validators and 16 trainers.
Reports carry no proofs of training, unless `COLLEGIUM_UP_LEVEL=proved` asks for them.

What is checked of votes is checked by the word of those who heard them: each validator writes down what reaches it.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _killed_stage import MOMENTS, Death, Onlooker
from _network_stage import metrics_of
from _run_stage import check, check_damage_is_noticed
from prometheus_client.parser import text_string_to_metric_families

from collegium.aggregation import Report
from collegium.apps._page import render_page
from collegium.apps._up import UpOptions, up
from collegium.consensus import (
    Block,
    Certified,
    Close,
    HeaderProposal,
    Kept,
    QuorumCertificate,
    Release,
    Timeout,
    ViewEntry,
    Vote,
    decode_payload,
)
from collegium.crypto import AccountKey, load_secret
from collegium.learning import TrainerRows
from collegium.node import (
    Consortium,
    Experiment,
    LearningTask,
    StatusError,
    TrainerSettings,
    ValidatorStatus,
    collect_run,
    load_experiment,
    load_settings,
    network_status,
    open_consortium,
)
from collegium.node._epoch_ledger import ordered_epochs
from collegium.node._epoch_wire import EpochMessage, decode_epoch_message, encode_epoch_message
from collegium.node._epochs import Epochs
from collegium.node._ledger import OrderedRound, decode_index, decode_ledger, decode_segments
from collegium.node._round_spans import ROUND_STEPS
from collegium.node._row_files import read_rows
from collegium.node._setup import build_task
from collegium.node._telemetry import NodeMetrics

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
PATHS = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
SMALL = (
    ('level = "proved"', 'level = "unproved"'),
    ("per_site = 4", "per_site = 1"),
    ("checkpoint_every = 10", "checkpoint_every = 4"),
    ("absent = 2\nlying = 1\n", ""),
    ("[chain]", "[network]\nvalidators = 5\n\n[chain]"),
)
LARGE = (
    ('level = "proved"', f'level = "{os.environ.get("COLLEGIUM_UP_LEVEL", "unproved")}"'),
    ("checkpoint_every = 10", "checkpoint_every = 4"),
    ("absent = 2\nlying = 1\n", ""),
)
LAST = int(os.environ.get("COLLEGIUM_UP_ROUNDS", "8" if FULL else "4"))

pytestmark = pytest.mark.slow


@dataclass
class Finished:
    """A network that has stopped, the run that it left, and what was seen and heard on the way."""

    consortium: Consortium
    experiment: Experiment
    run: Path
    summary: dict[str, Any]
    onlooker: Onlooker
    metrics: dict[int, str]
    status: list[ValidatorStatus]
    lines: list[str]
    ended: dict[int, Kept]  # by validator: what its disk holds

    @property
    def rounds(self) -> tuple[OrderedRound, ...]:
        genesis, segments = self.consortium.genesis, decode_segments((self.run / "ledger.bin").read_bytes())
        (epoch,) = ordered_epochs(Epochs(genesis.epoch_set, None), sha256(genesis.beacon).digest(), segments)
        return epoch.rounds

    @property
    def heard(self) -> list[tuple[int, Any]]:
        """Everything heard of anybody that could contradict itself, each word once, with who said it."""
        return [(speaker, decode_epoch_message(frame).message) for speaker, frame in self.onlooker.scene.ears.words]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    home = tmp_path_factory.mktemp("heart")
    experiment = heart(home)
    said, run, folder = io.StringIO(), home / "run", home / "consortium"
    onlooker = Onlooker(said, folder, 4 * experiment.trainers.per_site)
    metrics: dict[int, str] = {}
    status: list[ValidatorStatus] = []

    def collect(consortium: Consortium, experiment: Experiment, out: Path) -> dict[str, Any]:
        metrics.update(asyncio.run(metrics_of(consortium)))
        status.extend(network_status(consortium.folder))
        return collect_run(consortium, experiment, out, render_page)

    options = UpOptions(folder, target="_tapped_member:main", environment={"PYTHONPATH": PATHS, "COLLEGIUM_SPANS": "1"})
    try:
        with onlooker:
            summary = dict(up(experiment, run, options, onlooker, collect))
    finally:
        onlooker.stop()
        print(said.getvalue())
    consortium = open_consortium(folder)
    ended = {index: onlooker.kept(index, f"end-{index}") for index in range(consortium.genesis.epoch_set.size)}
    lines = said.getvalue().splitlines()
    return Finished(consortium, experiment, run, summary, onlooker, metrics, status, lines, ended)


def heart(home: Path) -> Experiment:
    """Return the demo's experiment, of the size that is played here."""
    for file in files("collegium.apps.demo").iterdir():
        if file.name.endswith((".toml", ".csv")):
            (home / file.name).write_bytes(file.read_bytes())
    text = (home / "demo.toml").read_text()
    for old, new in LARGE if FULL else SMALL:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (home / "demo.toml").write_text(text)
    experiment = load_experiment(home / "demo.toml")
    return replace(experiment, task=replace(experiment.task, rounds=LAST))


# ------------------------------------------------------------------------------------------------ no round is lost


def test_three_validators_die_in_turn_each_at_its_moment_and_come_back(finished: Finished) -> None:
    deaths = finished.onlooker.deaths
    for death in deaths:
        print(f"validator {death.victim}, round {death.round}: {death.moment}, {death.uploads} uploads taken")
    assert [death.moment for death in deaths] == list(MOMENTS)
    assert len({death.victim for death in deaths}) == 3
    names = [f"validator {death.victim}" for death in deaths]
    assert finished.onlooker.died == [(name, -signal.SIGKILL) for name in names]
    for name in names:
        assert any(
            line.startswith(f"{name} runs again, pid ") and line.endswith("restart 1") for line in finished.lines
        )


def test_no_round_is_lost_and_every_validator_has_the_same(finished: Finished) -> None:
    rounds = finished.rounds
    assert [ordered.certified.header.round for ordered in rounds] == list(range(LAST + 1))
    assert [row["outcome"] for row in finished.summary["rounds"]] == ["opened"] * (LAST + 1)
    assert all(ordered.close.reports for ordered in rounds)
    for kept in finished.ended.values():
        assert kept.header is not None
        assert kept.header == rounds[kept.header.round].certified.header
    reached = [kept.header.round for kept in finished.ended.values() if kept.header is not None]
    assert sum(number == LAST for number in reached) >= finished.consortium.genesis.epoch_set.quorum


def test_the_run_verifies_and_a_damaged_one_does_not(finished: Finished) -> None:
    verdict = check(finished.run, finished.consortium.genesis.anchor.hex())
    assert verdict.ok, verdict.failure
    check_damage_is_noticed(finished.run)


# ------------------------------------------------------------------------------------------- no vote is contradicted


Word = tuple[str, int, int]  # kind, who, view or round


def words_of(heard: Iterable[tuple[int, Any]]) -> Iterator[tuple[Word, object]]:
    """Yield what nobody may say in two ways: a kind of word of somebody about a view or a round, and what it was.

    A certificate is a word of each of its signers, so that votes count which reached nobody but their collectors.
    """
    for _, message in heard:
        match message:
            case Vote():
                yield ("vote", message.voter, message.view), message.ballot
            case Timeout():
                yield ("timeout", message.author, message.view), message.entry
            case Block():
                yield ("block", message.author, message.view), message.digest
            case Release():
                yield ("release", message.validator, message.round), (message.close, message.key_sums)
            case _:
                pass
        for certificate in certificates_of(message):
            for seat in range(8 * len(certificate.signers)):
                if certificate.signers[seat // 8] >> seat % 8 & 1:
                    yield ("vote", seat, certificate.view), certificate.ballot


def certificates_of(message: object) -> list[QuorumCertificate]:
    match message:
        case Block():
            return [message.parent_certificate]
        case ViewEntry():
            return [message.high_certificate]
        case Timeout():
            return [message.entry.high_certificate]
        case _:
            return []


def contradictions(heard: Iterable[tuple[int, Any]]) -> list[Word]:
    """Return where somebody said two different things."""
    said: dict[Word, set[object]] = defaultdict(set)
    for word, what in words_of(heard):
        said[word].add(what)
    return sorted(word for word, versions in said.items() if len(versions) > 1)


def test_nobody_ever_said_two_things_of_a_view_or_a_round(finished: Finished) -> None:
    heard = finished.heard
    kinds = {kind: {word for word, _ in words_of(heard) if word[0] == kind} for kind in ("vote", "block", "release")}
    print({kind: len(words) for kind, words in kinds.items()}, len(heard), "different words heard")
    validators = set(range(finished.consortium.genesis.epoch_set.size))
    assert {who for _, who, _ in kinds["vote"]} == validators
    assert {who for _, who, _ in kinds["release"]} == validators
    assert len(kinds["block"]) >= 2 * (LAST + 1)
    assert contradictions(heard) == []
    # the smallest change: one more vote, of a validator that was killed, for another block of the same view
    victim = finished.onlooker.deaths[0].victim
    vote = next(message for _, message in heard if isinstance(message, Vote) and message.voter == victim)
    other = replace(vote, ballot=replace(vote.ballot, block=bytes(32)))
    assert contradictions([*heard, (victim, other)]) == [("vote", victim, vote.view)]


def test_everybody_speaks_for_itself(finished: Finished) -> None:
    for speaker, message in finished.heard:
        match message:
            case Vote():
                assert message.voter == speaker
            case Timeout() | Block():
                assert message.author == speaker
            case Release():
                assert message.validator == speaker
            case HeaderProposal():
                assert message.proposer == speaker
            case _:
                pass


def unwritten(death: Death) -> list[str]:
    """Return what a validator had said before its death that its disk did not know."""
    kept, lost = death.kept, []
    state, first = kept.vote_state, 0 if kept.header is None else kept.header.round + 1
    assert state is not None
    for message in (decode_epoch_message(frame).message for frame in sorted(death.said)):
        match message:
            case Vote() if message.view > state.voted_view:
                lost.append(f"vote of view {message.view}")
            case Timeout() if message.view > state.timeout_view:
                lost.append(f"timeout of view {message.view}")
            case Block() if message.view > state.proposed_view:
                lost.append(f"block of view {message.view}")
            case Release() if message.round >= first and kept.released.get(message.round) != message.close:
                lost.append(f"release of round {message.round}")
            case _:
                pass
    return lost


def test_what_a_killed_validator_had_said_was_on_its_disk(finished: Finished) -> None:
    for death in finished.onlooker.deaths:
        assert unwritten(death) == []
        said = (decode_epoch_message(frame).message for frame in death.said)
        votes = [message for message in said if isinstance(message, Vote)]
        later = replace(votes[0], ballot=replace(votes[0].ballot, view=1 << 20))
        assert unwritten(replace(death, said=death.said | {encode_epoch_message(EpochMessage(0, later))})) == [
            f"vote of view {1 << 20}"
        ]


def test_what_was_on_its_disk_when_it_was_killed_is_never_taken_back(finished: Finished) -> None:
    for death in finished.onlooker.deaths:
        before, after = death.kept, finished.ended[death.victim]
        assert before.vote_state is not None
        assert after.vote_state is not None
        for name in ("voted_view", "timeout_view", "proposed_view"):
            assert getattr(after.vote_state, name) >= getattr(before.vote_state, name)
        assert after.vote_state.entry.high_certificate.view >= before.vote_state.entry.high_certificate.view
        assert before.header is not None
        assert before.header == finished.rounds[before.header.round].certified.header


def test_nobody_is_accused(finished: Finished) -> None:
    assert finished.onlooker.scene.said("evidence") == []
    assert len(finished.metrics) == finished.consortium.genesis.epoch_set.size
    for text in finished.metrics.values():
        assert "collegium_refused_total" in text
        assert 'what="evidence"' not in text
        (line,) = [line for line in text.splitlines() if line.startswith("collegium_persisted_bytes_total ")]
        assert float(line.split()[1]) > 0


QUIET = {  # what need not move in this network, and where it does
    "collegium_queue_length": "while something waits",
    "collegium_uploads_open": "while one is under way",
    "collegium_view_changes": "where a leader is away for longer than its view",
    "collegium_cut_offs": "where somebody misbehaves: test_node_processes",
    "collegium_epoch": "after the first epoch",
    "collegium_records": "where there are stewards: test_node_gateway_records",
}


def test_everything_that_is_measured_moves(finished: Finished) -> None:
    moved: set[str] = set()
    for text in finished.metrics.values():
        for family in text_string_to_metric_families(text):
            moved.update(family.name for sample in family.samples if sample.value and "_created" not in sample.name)
    measured = {family.name for family in NodeMetrics().registry.collect()}
    assert measured - moved - QUIET.keys() == set()
    assert measured > QUIET.keys()


def test_validators_say_how_they_stand_those_that_were_killed_too(finished: Finished) -> None:
    assert [each.index for each in finished.status] == sorted(finished.ended)
    assert all(each.readiness is not None for each in finished.status)
    assert sum(each.ready for each in finished.status) >= finished.consortium.genesis.epoch_set.quorum
    folder = finished.consortium.folder
    assert not any(each.ready or not each.problem for each in network_status(folder))  # they have stopped by now
    with pytest.raises(StatusError, match="is a validator's"):
        network_status(folder / "validators" / "00" / "config.toml")


def test_every_round_of_a_validator_that_lived_is_one_trace_of_its_steps(finished: Finished) -> None:
    dead = {death.victim for death in finished.onlooker.deaths}
    alive = next(index for index in finished.ended if index not in dead)
    path = finished.consortium.folder / "validators" / f"{alive:02d}" / "state" / "spans.jsonl"
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    whole = [span for span in spans if span["name"] == "round" and span["attributes"]["collegium.round"] <= LAST]
    assert [span["attributes"]["collegium.round"] for span in whole] == list(range(LAST + 1))
    assert {span["attributes"]["collegium.outcome"] for span in whole} == {"opened"}
    for span in whole:
        steps = [step["name"] for step in spans if step["parent_id"] == span["context"]["span_id"]]
        assert steps == sorted(steps, key=ROUND_STEPS.index)
        assert "admit" in steps


# --------------------------------------------------------------------------------------------------- the same model


def test_every_model_is_bit_for_bit_that_of_the_plain_computation(finished: Finished) -> None:
    genesis = finished.consortium.genesis
    task, rows = build_task(genesis, finished.experiment), rows_of(finished)
    owners = owners_of(finished.run, finished.experiment.committee.seats)
    model, beacon = b"", sha256(genesis.beacon).digest()
    for ordered in finished.rounds:
        close, header = ordered.close, ordered.certified.header
        admitted = [(rows[owners[report]], weight) for report, weight in zip(close.reports, close.weights, strict=True)]
        learned = plain_step(task, close.round, model, beacon, admitted)
        assert sha256(learned).digest() == header.model
        if len(admitted) > 1:  # the smallest change: one report less
            assert sha256(plain_step(task, close.round, model, beacon, admitted[1:])).digest() != header.model
        model, beacon = learned, sha256(header.beacon).digest()


def rows_of(finished: Finished) -> dict[bytes, TrainerRows]:
    """Return every trainer's rows from its own folder, by account."""
    rows = {}
    for member in finished.consortium.members:
        settings = load_settings(finished.consortium.config(member))
        if isinstance(settings, TrainerSettings):
            account = AccountKey(load_secret(settings.account_key, "account")).address
            name = dict(finished.consortium.genesis.trainers)[account]
            data = read_rows(settings.data, finished.experiment.data.label)
            rows[account] = TrainerRows(name.rsplit("/", 1)[0], name, data)
    return rows


def owners_of(run: Path, seats: int) -> dict[bytes, bytes]:
    """Return the trainer of every report that the run names."""
    index = decode_index((run / "objects.json").read_bytes())
    found = {}
    for identity, digest in index.reports:
        data = (run / "store" / digest.hex()[:2] / digest.hex()).read_bytes()
        report = Report.from_bytes(data, seats)
        assert report.id == identity
        found[identity] = report.trainer
    return found


def plain_step(
    task: LearningTask, number: int, model: bytes, beacon: bytes, admitted: list[tuple[TrainerRows, int]]
) -> bytes:
    """Return the model after adding these trainers' updates, as one process with their rows would."""
    updates = [weight * task.update(number, model, trainer, beacon) for trainer, weight in admitted]
    return task.step(number, model, np.sum(updates, axis=0, dtype=np.int64))


def test_closes_and_headers_alternate_in_the_ledger(finished: Finished) -> None:
    blocks, _ = decode_ledger((finished.run / "ledger.bin").read_bytes())
    payloads = [decode_payload(block.payload) for block in blocks if block.payload]
    assert all(isinstance(close, Close) for close in payloads[::2])
    assert all(isinstance(header, Certified) for header in payloads[1::2])
