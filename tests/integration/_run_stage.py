"""A small experiment, the run that comes of it with everybody's secrets, and copies of its folder to damage.

Four clinics, each a trainer with forty made-up rows; 16 seats of which one is absent and one lies; three rounds, a
checkpoint every two.
"""

from __future__ import annotations

import json
import random
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from collegium import aggregation
from collegium.aggregation import Draft, RoundTerms
from collegium.apps._page import render_page
from collegium.crypto import Randomness
from collegium.node import (
    Attest,
    Event,
    Federation,
    Verification,
    load_experiment,
    run_experiment,
    verify_run,
    write_manifest,
)
from collegium.node import _run as run_module
from collegium.node._chain_record import ChainRecord, decode_chain_record
from collegium.settlement import Chain

Columns = dict[str, list[str]]
IntArray = npt.NDArray[np.int64]

CLINICS = "abcd"
TRAINERS, ROUNDS = 4, 3
TOP_FILES = (
    "chain.json",
    "genesis.json",
    "ledger.bin",
    "lineage.db",
    "objects.json",
    "report.html",
    "statement.json",
    "summary.json",
)
OBJECT_KINDS = ("reports", "key_sums", "ciphertexts", "models")

EXPERIMENT = """
[task]
name = "four clinics"
rounds = 3
seed = 7
level = "unproved"
[data]
path = "rows.csv"
site = "clinic"
label = "ill"
negative = "0"
[model]
kind = "logistic"
[rule]
learning_rate = 1.0
[committee]
seats = 16
absent = 1
lying = 1
[chain]
checkpoint_every = 2
[schema]
columns = [
  { name = "age", lower = 0, upper = 100 },
  { name = "dose", lower = -4, upper = 4 },
  { name = "kind", values = ["x", "y"] },
]
"""


NO_COURTS = (
    "checkpoint_every = 2",
    "checkpoint_every = 2\ncourts = false",
)  # for runs that are about nothing of theirs
ONE_ROUND = ("rounds = 3", "rounds = 1")
PROVED = ('level = "unproved"', 'level = "proved"')


def columns() -> Columns:
    """Return the table: 160 rows whose label follows from age, dose and kind, with noise."""
    draw = random.Random(1)
    table: Columns = {"clinic": [], "age": [], "dose": [], "kind": [], "ill": []}
    for clinic in CLINICS:
        for _ in range(40):
            age, dose, kind = draw.randint(20, 80), round(draw.gauss(0, 1), 2), draw.choice("xy")
            ill = (age - 50) / 15 + dose + (kind == "x") + draw.gauss(0, 1) > 0
            for name, cell in zip(table, (clinic, age, dose, kind, int(ill)), strict=True):
                table[name].append(str(cell))
    return table


def write_csv(path: Path, table: Columns) -> None:
    """Write a table as CSV."""
    lines = [",".join(table), *(",".join(row) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def write_experiment(folder: Path, *changes: tuple[str, str], table: Columns | None = None) -> Path:
    """Write the table and the experiment, with pieces of its text replaced, and return the experiment's path."""
    text = EXPERIMENT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "rows.csv", columns() if table is None else table)
    (folder / "experiment.toml").write_text(text)
    return folder / "experiment.toml"


def ignore(_: Event) -> None:
    """Take an event and do nothing."""


@dataclass
class PlayedRun:
    """A run's folder, what it said of itself, and what its folder must not hold."""

    path: Path
    summary: dict[str, object]
    federation: Federation
    secrets: dict[str, bytes] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        return str(self.summary["anchor"])


def chain_record(run: Path) -> ChainRecord:
    """Return what a run's folder says of its base chain."""
    return decode_chain_record((run / "chain.json").read_bytes())


def play(
    experiment: Path,
    out: Path,
    meddle: Callable[[Federation], None] = lambda _: None,
    attest: Attest | None = None,
    licences: Sequence[Chain] = (),
    on_event: Callable[[Event], None] = ignore,
) -> PlayedRun:
    """Run an experiment as the command line does, noting every secret; `meddle` may change the federation first."""
    federations: list[Federation] = []
    secrets: dict[str, bytes] = {}
    set_up, begin_upload = run_module.set_up, aggregation.begin_upload

    def founded(*arguments: object) -> Federation:
        federation = set_up(*arguments)  # type: ignore[arg-type]
        meddle(federation)
        federations.append(federation)
        return federation

    def begun(terms: RoundTerms, trainer: bytes, update: IntArray, draw: Randomness) -> Draft:
        drawn: list[bytes] = []

        def remembered(count: int) -> bytes:
            drawn.append(draw(count))
            return drawn[-1]

        draft = begin_upload(terms, trainer, update, remembered)
        secrets[f"masking key of round {terms.round}, {trainer.hex()}"] = drawn[0]
        for node in federations[0].nodes.values():
            for number, key in node.state.round.secrets.items():
                secrets[f"sealing key of round {number}, seat {node.index}"] = key.secret
        return draft

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "set_up", founded)
        patch.setattr(aggregation, "begin_upload", begun)
        summary = run_experiment(load_experiment(experiment), out, on_event, render_page, attest, licences)
    (federation,) = federations
    secrets["operator's account"] = federation.operator.secret
    for trainer in federation.trainers:
        secrets[f"account of {trainer.rows.name}"] = trainer.account.secret
    for index, keys in enumerate(federation.validators):
        secrets[f"account of validator {index}"] = keys.account.secret
        secrets[f"voting key of validator {index}"] = keys.voting.to_bytes()
        secrets[f"first sealing key of validator {index}"] = keys.first_seal.secret
    for node in federation.nodes.values():
        share = node.context.round.beacon.share
        assert share is not None
        secrets[f"beacon share of validator {node.index}"] = share.scalar.to_bytes(32, "big")
    return PlayedRun(out, summary, federation, secrets)


def check(run: Path, anchor: str | None = None) -> Verification:
    """Verify a run as the command line does."""
    return verify_run(run, anchor, ignore, render_page)


@dataclass(frozen=True)
class Copy:
    """A run's folder that a test may damage."""

    path: Path

    @classmethod
    def of(cls, run: Path, to: Path) -> Copy:
        shutil.copytree(run, to)
        return cls(to)

    def object(self, kind: str, place: int = 0) -> Path:
        """Return the file of one stored object."""
        entry = json.loads((self.path / "objects.json").read_bytes())[kind][place]
        name = b64decode(entry if isinstance(entry, str) else entry[1]).hex()
        return self.path / "store" / name[:2] / name

    @contextmanager
    def changed(self, name: str, data: bytes, *, listed: bool) -> Iterator[None]:
        """Let a file hold other bytes for a while; `listed`: the manifest is made anew to match."""
        file, manifest = self.path / name, self.path / "MANIFEST"
        before, listing = file.read_bytes(), manifest.read_bytes()
        file.write_bytes(data)
        if listed:
            write_manifest(self.path)
        try:
            yield
        finally:
            file.write_bytes(before)
            manifest.write_bytes(listing)

    def edit(self, name: str, change: Callable[[Any], object]) -> None:
        """Change a JSON file as its canonical encoding allows."""
        document = json.loads((self.path / name).read_bytes())
        change(document)
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        (self.path / name).write_text(text, encoding="utf-8")

    def store(self, data: bytes) -> bytes:
        """Put an object under its right name and return its digest."""
        digest = sha256(data).digest()
        folder = self.path / "store" / digest.hex()[:2]
        folder.mkdir(exist_ok=True)
        (folder / digest.hex()).write_bytes(data)
        return digest

    def remove(self, file: Path) -> None:
        """Remove a file, and its folder when that leaves it empty."""
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()

    def relist(self) -> Verification:
        """Make the manifest anew and verify."""
        write_manifest(self.path)
        return check(self.path)


def check_damage_is_noticed(run: Path) -> None:
    """Check that a run does not verify while its ledger ends with another byte."""
    ledger = (run / "ledger.bin").read_bytes()
    with Copy(run).changed("ledger.bin", ledger[:-1] + bytes([ledger[-1] ^ 1]), listed=False):
        assert "ledger.bin" in (check(run).failure or "")
