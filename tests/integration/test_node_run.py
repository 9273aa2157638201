"""Whole runs: what the protocol learns is what adding up in the open learns, and what `run` tells its caller.

The experiment is that of `_run_stage.py`.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _run_stage import NO_COURTS, ONE_ROUND, ROUNDS, TRAINERS, PlayedRun, check, columns, ignore, play, write_experiment

from collegium import aggregation, algebra
from collegium.aggregation import CHECK_BLOCKS, RING_DIMENSION, Layout, Upload, decode_ciphertext, unmask
from collegium.aggregation import _report as report_module
from collegium.apps.cli import main
from collegium.consensus import Release
from collegium.crypto import AccountKey, os_random
from collegium.lineage import Lineage
from collegium.node import Federation, RunRefusedError, load_experiment, play_round, set_up
from collegium.node import PlayedRound as Round

pytestmark = pytest.mark.slow

TARGET_KEYS = {"level", "auc", "auc_pooled", "accuracy", "verified", "lying_seats", "checkpoint_gas", "rounds"}
ROUND_KEYS = {"round", "admitted", "coordination_ms", "finality_ms", "chain_bytes", "energy_kwh"}


def play_next(federation: Federation) -> Round:
    return play_round(
        federation.network,
        federation.nodes,
        federation.genesis.epoch_set,
        federation.task,
        federation.trainers,
        os_random,
        lambda *_: None,
    )


def column(run: PlayedRun, key: str) -> list[Any]:
    """Return what the summary says of each round of training; round 0 only learns the scaling of the features."""
    rounds: Any = run.summary["rounds"]
    assert (rounds[0]["round"], rounds[0]["outcome"], rounds[0]["auc"]) == (0, "opened", None)
    return [entry[key] for entry in rounds[1:]]


def outcomes(run: PlayedRun) -> list[str]:
    return column(run, "outcome")


# ------------------------------------------------------------------------------------------------ as in the open


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param((), id="logistic, all rows"),
        pytest.param((("learning_rate = 1.0", "learning_rate = 0.5\nlocal_steps = 3\nbatch_rows = 8"),), id="batches"),
        pytest.param((('kind = "logistic"', 'kind = "mlp"\nhidden = [5]'),), id="mlp"),
    ],
)
def test_every_model_is_bit_for_bit_that_of_plain_sums(tmp_path: Path, changes: tuple[tuple[str, str], ...]) -> None:
    federation = set_up(load_experiment(write_experiment(tmp_path, *changes)), ignore)
    task, model = federation.task, b""
    for number in range(4):
        beacon = next(iter(federation.nodes.values())).state.round.terms.beacon
        updates = [task.update(number, model, trainer.rows, beacon) for trainer in federation.trainers]
        model = task.step(number, model, np.sum(updates, axis=0, dtype=np.int64))
        played = play_next(federation)
        assert played.header is not None
        assert (played.header.round, played.header.outcome, len(played.uploads)) == (number, "opened", TRAINERS)
        assert played.model == model
        assert played.header.model == sha256(model).digest()


def test_batches_are_the_beacons_choice(tmp_path: Path) -> None:
    """Twin of the above: with another beacon the batches, and so the update, are others; on all rows they are not."""
    for changes, same in (((), True), ((("learning_rate = 1.0", "learning_rate = 1.0\nbatch_rows = 8"),), False)):
        federation = set_up(load_experiment(write_experiment(tmp_path, *changes)), ignore)
        task, trainer = federation.task, federation.trainers[0]
        model = play_next(federation).model
        one, two = (task.update(1, model, trainer.rows, bytes([value]) * 32) for value in (1, 2))
        assert np.array_equal(one, two) == same


def test_simulated_faults_are_named_in_every_round(played: PlayedRun) -> None:
    (liar,), (absent,) = played.summary["lying_seats"], played.summary["absent_seats"]  # type: ignore[misc]
    assert liar != absent
    assert outcomes(played) == ["opened"] * ROUNDS
    assert all(column(played, "lying_seats"))
    assert column(played, "admitted") == [TRAINERS] * ROUNDS


# ------------------------------------------------------------------------------------------------ formats


def write_parquet(path: Path) -> None:
    table = columns()
    numbers = {"age": [int(c) for c in table["age"]], "dose": [float(c) for c in table["dose"]]}
    pq.write_table(pa.table(table | numbers), path)


def write_npz(path: Path) -> None:
    table = columns()
    numbers = {"age": np.array(table["age"], np.int32), "dose": np.array(table["dose"], np.float64)}
    np.savez(path, **({name: np.array(cells) for name, cells in table.items()} | numbers))


@pytest.mark.parametrize(("name", "write"), [("rows.parquet", write_parquet), ("rows.npz", write_npz)])
def test_the_same_rows_in_another_format_give_the_same_models(
    played: PlayedRun, tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    experiment = write_experiment(tmp_path, ("rows.csv", name), NO_COURTS, ONE_ROUND)
    (tmp_path / "rows.csv").unlink()
    write(tmp_path / name)
    again = play(experiment, tmp_path / "run")
    assert column(again, "model") == column(played, "model")[:1]
    assert column(again, "auc") == column(played, "auc")[:1]
    assert check(again.path, again.anchor).ok


def test_one_other_cell_gives_other_models(played: PlayedRun, tmp_path: Path) -> None:
    table = columns()
    table["dose"] = [str(-float(cell)) for cell in table["dose"]]
    again = play(write_experiment(tmp_path, NO_COURTS, ONE_ROUND, table=table), tmp_path / "run")
    assert column(again, "model")[0] != column(played, "model")[0]


# ------------------------------------------------------------------------------------------------ secrets


def spellings(secret: bytes) -> Iterator[bytes]:
    """Yield how bytes could stand in a file: raw, hexadecimal, decimal, and base64 at any offset in a longer string."""
    yield secret
    yield secret[::-1]
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield str(int.from_bytes(secret, "big")).encode()
    for offset in range(3):
        whole = b64encode(bytes(offset) + secret)
        yield whole[4 if offset else 0 : -4]  # without the ends, which depend on what stands beside them


def found_in(folder: Path, secrets: dict[str, bytes]) -> set[str]:
    """Return the names of the secrets that some file of a folder holds."""
    spelt = {name: tuple(spellings(secret[:32])) for name, secret in secrets.items()}
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {name for name, ways in spelt.items() if any(way in data for way in ways for data in files)}


def test_no_secret_is_in_the_run_folder(played: PlayedRun) -> None:
    kinds = {name.partition(" of ")[0] for name in played.secrets}
    assert kinds == {
        "operator's account",
        "account",
        "voting key",
        "first sealing key",
        "sealing key",
        "beacon share",
        "masking key",
    }
    assert sum(name.startswith("sealing key of round 3") for name in played.secrets) == 15
    assert sum(name.startswith("masking key") for name in played.secrets) == TRAINERS * (ROUNDS + 1)
    assert found_in(played.path, played.secrets) == set()


def test_the_search_for_secrets_finds_what_is_there(played: PlayedRun, tmp_path: Path) -> None:
    secret = os_random(32)
    for number, way in enumerate(spellings(secret)):
        (tmp_path / "file").write_bytes(b"some text " + way + b" more")
        assert found_in(tmp_path, {"a": secret, "b": os_random(32)}) == {"a"}, number
    (tmp_path / "file").write_bytes(json.dumps({"key": b64encode(b"x" + secret + b"yz").decode()}).encode())
    assert found_in(tmp_path, {"a": secret}) == {"a"}
    keys = {str(index): entry.bls_key for index, entry in enumerate(played.federation.genesis.validators)}
    assert found_in(played.path, keys) == set(keys)


def test_what_is_searched_for_as_a_masking_key_is_one(played: PlayedRun, tmp_path: Path) -> None:
    """The first bytes that `make_upload` draws open its own c, so they are the secret that must not be written."""
    federation = set_up(load_experiment(write_experiment(tmp_path)), ignore)
    terms = next(iter(federation.nodes.values())).state.round.terms
    update = np.arange(terms.layout.entries, dtype=np.int64)
    drawn: list[bytes] = []

    def draw(count: int) -> bytes:
        drawn.append(os_random(count))
        return drawn[-1]

    upload = aggregation.make_upload(terms, federation.trainers[0].account, update, draw)
    key = np.frombuffer(drawn[0], "<u8")
    key = key[key < np.uint64(algebra.P)][: aggregation.RING_DIMENSION].astype(np.uint64)
    ciphertext = decode_ciphertext(terms.layout, upload.ciphertext)
    assert np.array_equal(unmask(terms.layout, terms.matrix_seed, key, ciphertext, 1), update)


# ------------------------------------------------------------------------------------------------ bad rounds

Mask = Callable[..., npt.NDArray[np.uint64]]


def noise_for_c(mask: Mask, layout: Layout, *arguments: Any) -> npt.NDArray[np.uint64]:
    """Return uniform noise where c should be: no public check of a report can tell."""
    honest = mask(layout, *arguments)
    return algebra.sample_field(os_random, honest.size).reshape(honest.shape)


def update_beyond_the_bound(mask: Mask, layout: Layout, *arguments: Any) -> npt.NDArray[np.uint64]:
    """Return a well-masked update with an entry so large that even the sum shows it."""
    honest = mask(layout, *arguments)
    message = np.zeros(honest.size, np.int64)
    message[CHECK_BLOCKS * RING_DIMENSION] = 1 << (
        layout.budget.noise_bits + layout.budget.lanes * layout.budget.lane_bits - 1
    )
    return algebra.add(honest, algebra.encode_signed(message).reshape(honest.shape))


@pytest.mark.parametrize("malformed", [noise_for_c, update_beyond_the_bound])
def test_a_malformed_report_makes_its_round_invalid_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, malformed: Callable[..., npt.NDArray[np.uint64]]
) -> None:
    calls = iter(range(100))
    mask = report_module.mask_under

    def masked(layout: Layout, *arguments: Any) -> npt.NDArray[np.uint64]:
        return malformed(mask, layout, *arguments) if next(calls) == 2 * TRAINERS else mask(layout, *arguments)

    monkeypatch.setattr(report_module, "mask_under", masked)  # the first trainer of round 2
    run = play(write_experiment(tmp_path, NO_COURTS), tmp_path / "run")
    assert outcomes(run) == ["opened", "invalid", "opened"]
    first, second, third = column(run, "model")
    assert (first == second, second == third) == (True, False)
    assert column(run, "admitted") == [TRAINERS] * ROUNDS
    verdict = check(run.path, run.anchor)
    assert verdict.ok, verdict.failure


def test_a_run_whose_scaling_does_not_open_ends_there_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report_module, "mask_under", partial(noise_for_c, report_module.mask_under))
    experiment = write_experiment(tmp_path)
    assert main(["run", str(experiment), "--out", str(tmp_path / "run")]) == 2
    assert "round 0 is invalid: without the scaling of the features nothing can be trained" in only_error(capsys)
    assert not check(tmp_path / "run").ok


def test_a_round_with_too_many_liars_is_lost_and_no_other(tmp_path: Path) -> None:
    def corrupt(federation: Federation) -> None:
        honest = [node for node in federation.nodes.values() if node.disguise is None]
        for node in honest[:3]:
            node.disguise = partial(lie_in_round_2, node.context.round.account)

    run = play(write_experiment(tmp_path, NO_COURTS), tmp_path / "run", corrupt)
    assert outcomes(run) == ["opened", "lost", "opened"]
    first, second, third = column(run, "model")
    assert (first == second, second == third) == (True, False)
    assert column(run, "lying_seats")[1] == []  # a sum that does not open names nobody
    verdict = check(run.path, run.anchor)
    assert verdict.ok, verdict.failure


def lie_in_round_2(account: AccountKey, message: object) -> object:
    if not isinstance(message, Release) or message.round != 2:
        return message
    sums = [replace(entry, rows=entry.rows[::-1].copy()) for entry in message.key_sums]
    return replace(message, key_sums=tuple(replace(s, signature=account.sign(s.digest)) for s in sums))


def test_a_round_without_enough_reports_is_skipped_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = aggregation.finish_upload
    calls = iter(range(100))

    def unsigned(*arguments: Any) -> Upload:
        upload = finish(*arguments)
        if next(calls) not in (2 * TRAINERS, 2 * TRAINERS + 1):  # the first two trainers of round 2
            return upload
        return replace(upload, report=replace(upload.report, signature=bytes(65)))

    monkeypatch.setattr(aggregation, "finish_upload", unsigned)
    run = play(write_experiment(tmp_path, NO_COURTS), tmp_path / "run")
    assert outcomes(run) == ["opened", "skipped", "opened"]
    assert column(run, "admitted") == [TRAINERS, 0, TRAINERS]
    first, second, third = column(run, "model")
    assert (first == second, second == third) == (True, False)
    verdict = check(run.path, run.anchor)
    assert verdict.ok, verdict.failure


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_prints_one_object_with_the_documented_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(write_experiment(tmp_path)), "--out", str(tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert set(summary) >= TARGET_KEYS
    assert summary["level"] == "unproved"
    assert summary["verified"] is True
    assert 0 <= summary["auc"] <= 1
    assert 0 <= summary["auc_pooled"] <= 1
    assert 0 <= summary["accuracy"] <= 1
    assert len(summary["checkpoint_gas"]) == 2
    assert all(isinstance(gas, int) and gas > 21_000 for gas in summary["checkpoint_gas"])
    assert [entry["round"] for entry in summary["rounds"]] == [0, 1, 2, 3]
    for entry in summary["rounds"]:
        assert set(entry) >= ROUND_KEYS
        assert all(entry[key] > 0 for key in ROUND_KEYS - {"round"})
    stored = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert all(summary[key] == value for key, value in stored.items())
    assert "level: unproved" in err.splitlines()[0]
    assert main(["verify", str(tmp_path / "run"), "--anchor", summary["anchor"]]) == 0


def one_label(table: dict[str, list[str]]) -> None:
    table["ill"] = ["1"] * len(table["ill"])


def no_dose(table: dict[str, list[str]]) -> None:
    del table["dose"]


def nameless_site(table: dict[str, list[str]]) -> None:
    table["clinic"][5] = ""


def tiny_site(table: dict[str, list[str]]) -> None:
    table["clinic"] = [f"clinic {row}" for row in range(len(table["clinic"]))]


def unknown_kind(table: dict[str, list[str]]) -> None:
    table["kind"][3] = "z"


def word_for_age(table: dict[str, list[str]]) -> None:
    table["age"][3] = "old"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (one_label, "label"),
        (no_dose, "no column 'dose'"),
        (nameless_site, "site"),
        (tiny_site, "rows"),
        (unknown_kind, "'z'"),
        (word_for_age, "'old'"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_one_line_and_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, list[str]]], None],
    reason: str,
) -> None:
    table = columns()
    change(table)
    assert main(["run", str(write_experiment(tmp_path, table=table)), "--out", str(tmp_path / "run")]) == 2
    assert reason in only_error(capsys)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("rounds = 3", "rounds = 3\nround = 3", "task.round: is no setting of this section; did you mean rounds?"),
        ("rounds = 3", 'rounds = "3"', "task.rounds: is '3', expected a whole number from 1 to 10000"),
        ('"rows.csv"', '"nowhere.csv"', "no file at"),
        ('site = "clinic"', 'site = "hospital"', "no column 'hospital'"),
        ('label = "ill"', 'label = "sick"', "no column 'sick'"),
        ('"rows.csv"', '"experiment.toml"', "cannot read this as a table"),
    ],
)
def test_an_experiment_that_cannot_be_run_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, reason: str
) -> None:
    assert main(["run", str(write_experiment(tmp_path, (old, new))), "--out", str(tmp_path / "run")]) == 2
    assert reason in only_error(capsys)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.npz", "rows.csv"])
def test_a_damaged_table_is_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    experiment = write_experiment(tmp_path, ("rows.csv", name), NO_COURTS, ONE_ROUND)
    (tmp_path / name).write_bytes(b"PAR1\xff\xfe damaged")
    assert main(["run", str(experiment), "--out", str(tmp_path / "run")]) == 2
    assert name in only_error(capsys)


def test_a_folder_in_use_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = write_experiment(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("precious")
    assert main(["run", str(experiment), "--out", str(tmp_path / "run")]) == 2
    assert "is not empty, expected a new or empty folder" in only_error(capsys)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]
    with pytest.raises(RunRefusedError, match="is not empty"):
        play(experiment, tmp_path / "run")
    with pytest.raises(RunRefusedError, match="expected a folder to write to"):
        play(experiment, tmp_path / "experiment.toml")


@pytest.fixture
def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def with_node(port: int) -> tuple[str, str]:
    return ("checkpoint_every = 2", f'checkpoint_every = 2\nurl = "http://127.0.0.1:{port}"')


def test_a_chain_that_does_not_answer_is_one_line_and_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", "11" * 32)
    experiment = write_experiment(tmp_path, with_node(closed_port))
    assert main(["run", str(experiment), "--out", str(tmp_path / "run")]) == 3
    assert "no answer to eth_chainId from the node" in only_error(capsys)


@pytest.mark.parametrize("key", ["", "0x", "11" * 31, "00" * 32, "no key"])
def test_a_node_without_a_key_that_pays_is_one_line_and_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    closed_port: int,
    key: str,
) -> None:
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", key)
    experiment = write_experiment(tmp_path, with_node(closed_port))
    assert main(["run", str(experiment), "--out", str(tmp_path / "run")]) == 2
    error = only_error(capsys)
    assert "set COLLEGIUM_CHAIN_KEY to its key" in error
    assert len(key) < 60 or key not in error


def only_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of a refusal."""
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, errors
    return errors[0]


# ------------------------------------------------------------------------------------------------ attackers


def test_a_run_with_attackers_says_who_they_are_wherever_it_is_told_and_verifies(tmp_path: Path) -> None:
    attack = '[[attack.trainers]]\nname = "{}/0"\nkind = "{}"\n'
    told = attack.format("b", "made_up_rows") + attack.format("c", "sign_flip")
    changes = (("[schema]", told + "[schema]"), ("rounds = 3", "rounds = 1"))
    run = play(write_experiment(tmp_path, *changes), tmp_path / "run")
    expected = [{"name": "b/0", "kind": "made_up_rows"}, {"name": "c/0", "kind": "sign_flip"}]
    assert run.summary["attackers"] == expected
    assert any("simulation with attackers, 2 of its trainers" in note for note in cast(list[str], run.summary["notes"]))
    verification = check(run.path, run.anchor)
    assert verification.ok, verification.failure
    assert verification.summary["attackers"] == expected
    with Lineage(run.path / "lineage.db") as lineage:
        found = {r.subject: r.attributes for r in lineage.records() if r.kind == "dataset"}
    assert found == {"a": "{}", "b": '{"attack":"made_up_rows"}', "c": '{"attack":"sign_flip"}', "d": "{}"}
    # The model is what the sum of three updates and of their mean turned round leads to.
    task, rows = run.federation.task, [trainer.rows for trainer in run.federation.trainers]
    state = task.step(0, b"", sum(task.update(0, b"", held, bytes(32)) for held in rows))
    updates = [task.update(1, state, held, bytes(32)) for held in rows]
    turned = np.rint(-np.mean([updates[place][:-1] for place in (0, 1, 3)], axis=0)).astype(np.int64)
    updates[2] = np.append(turned, updates[2][-1])
    assert sha256(task.step(1, state, np.sum(updates, axis=0))).hexdigest() == column(run, "model")[0]
