"""A steward's process: its record is on disk before it leaves, and no kill makes it sign two for one round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_node_quality import ACCOUNTS, RULE, STEWARDS, TASK, end, first, terms_of

from collegium.errors import CollegiumError
from collegium.incentives import ModelScore, decode_steward_record, score_commitment
from collegium.node._client import FinalHeader, ValidatorClient
from collegium.node._desk import Verdict
from collegium.node._steward_disk import SecondRecordError, StewardDisk, StewardDiskError
from collegium.node._steward_process import StewardProcess
from collegium.node._trainer_process import may_report

LAST = 2


@dataclass
class Quiet:
    """A log that is kept."""

    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))

    warning = info


@dataclass
class Validators:
    """Whom a steward asks: headers of rounds 0, 1, ... whose models are given, each final when somebody says so."""

    models: list[bytes]
    final: int = -1
    brought: list[tuple[int, bytes]] = field(default_factory=list)
    answer: Verdict | CollegiumError = field(default_factory=lambda: Verdict("admitted"))
    on_record: Callable[[int], None] = lambda number: None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    epochs: Any = field(default_factory=lambda: SimpleNamespace(of_round=lambda _: _Epoch()))

    async def latest(self, after: FinalHeader | None = None, wait_s: float = 0.0) -> Any:
        known = -1 if after is None else after.certified.header.round
        while wait_s and self.final <= known:
            self.news.clear()
            await self.news.wait()
        return None if self.final <= known else header(self.final, self.models[self.final])

    async def epoch_after(self, after: FinalHeader) -> Any:
        return _Epoch()

    async def object(self, digest: bytes) -> bytes:
        return next(model for model in self.models if sha256(model).digest() == digest)

    async def bring_record(self, number: int, data: bytes, told: Callable[[int, Any], None]) -> None:
        self.brought.append((number, data))
        for validator in range(4):
            told(validator, self.answer)
        self.on_record(number)

    async def close(self) -> None: ...

    def finish(self, number: int) -> None:
        self.final = number
        self.news.set()


class _Epoch:
    epoch_set = SimpleNamespace(quorum=3)


def header(number: int, model: bytes) -> Any:
    return SimpleNamespace(
        certified=SimpleNamespace(header=SimpleNamespace(round=number, model=sha256(model).digest()))
    )


def process(folder: Path, validators: Validators) -> StewardProcess:
    """Return the process as `open` does, of a steward that the test module knows."""
    disk = StewardDisk.open(folder)
    steward = replace(STEWARDS[0], told=disk.told())
    client = cast(ValidatorClient, validators)
    return StewardProcess(cast(Any, Quiet()), LAST, TASK, client, disk, steward, ThreadPoolExecutor(1))


def said(found: StewardProcess) -> list[tuple[str, int | None]]:
    return [(event, fields.get("round")) for event, fields in cast(Quiet, found.log).said]


def models() -> list[bytes]:
    """Return the models after rounds 0 and 1, in which the steward's record counts."""
    model = first()
    record = replace(STEWARDS[0], told={}).record(TASK, 1, model)
    others = [replace(steward, told={}).record(TASK, 1, model) for steward in STEWARDS[1:]]
    return [model, end(1, model, [record, *others]), b""]


def test_a_record_of_every_round_is_brought_and_tells_what_the_last_one_committed_to(tmp_path: Path) -> None:
    async def scene() -> StewardProcess:
        validators = Validators(models())
        validators.on_record = validators.finish
        found = process(tmp_path / "state", validators)
        asyncio.get_running_loop().call_later(0.01, validators.finish, 0)
        await found.measure()
        numbers = [number for number, _ in validators.brought]
        one, two = (decode_steward_record(data, TASK.task) for _, data in validators.brought)
        assert (numbers, one.opened) == ([1, 2], None)
        assert two.opened is not None
        assert score_commitment(TASK.task, one.account, 1, two.opened) == one.commitment
        await found.close()
        return found

    found = asyncio.run(scene())
    assert said(found) == [("ready", 0), ("record_sent", 1), ("record_sent", 2), ("finished", None)]


def test_whoever_is_killed_sends_the_same_record_again_and_still_tells_its_score(tmp_path: Path) -> None:
    """It dies between disk and socket in round 1, and begins again in round 1, and once more in round 2."""
    known = models()

    async def scene() -> None:
        validators = Validators(known, final=0)
        killed = process(tmp_path / "state", validators)
        record = await killed._record(cast(Any, header(0, known[0])))
        await killed.close()

        again = process(tmp_path / "state", validators)
        again.steward.secret = bytes(32)  # what it would sign now is another record
        assert await again._record(cast(Any, header(0, known[0]))) == record
        await again.close()

        last = process(tmp_path / "state", validators)
        data = await last._record(cast(Any, header(1, known[1])))
        assert data is not None
        assert decode_steward_record(data, TASK.task).opened is not None
        await last.close()

    asyncio.run(scene())


def test_a_refusal_is_said_and_a_round_whose_model_says_nothing_is_missed(tmp_path: Path) -> None:
    async def scene() -> list[tuple[str, int | None]]:
        refused = Validators(models(), final=1, answer=Verdict("refused", "RecordRefusedError", "another score"))
        refused.on_record = refused.finish
        found = process(tmp_path / "refused", refused)
        await found.measure()
        await found.close()
        assert said(found).count(("record_not_taken", 2)) == 4

        late = Validators(models(), final=1, answer=Verdict("too-late"))
        late.on_record = late.finish
        found = process(tmp_path / "late", late)
        await found.measure()
        await found.close()
        assert ("record_late", 2) in said(found)

        silent = Validators([b"no model", b"none either", b""], final=0)
        found = process(tmp_path / "silent", silent)
        for number in (1, 2):
            asyncio.get_running_loop().call_later(0.05 * number, silent.finish, number)
        await found.measure()
        await found.close()
        assert silent.brought == []
        return said(found)

    assert ("round_missed", 1) in asyncio.run(scene())


def test_a_trainer_reports_where_it_is_drawn_and_nowhere_else() -> None:
    model = models()[1]
    drawing = replace(TASK, quality=replace(RULE, places=2))
    terms = terms_of(2, model)
    entry = drawing.quality.entry(2, model, terms.beacon) if drawing.quality else None
    assert entry is not None
    assert len(entry.weights) == 2
    assert {trainer for trainer in ACCOUNTS if may_report(drawing, terms, model, trainer)} == entry.weights.keys()
    assert all(
        may_report(task, terms, model, trainer) for task in (TASK, replace(TASK, quality=None)) for trainer in ACCOUNTS
    )


# ------------------------------------------------------------------------------------------------ the disk


def test_the_disk_keeps_one_record_a_round_and_forgets_bytes_alone(tmp_path: Path) -> None:
    disk, told = StewardDisk.open(tmp_path), ModelScore(7, b"s" * 32)
    disk.keep(1, b"record", told)
    disk.keep(1, b"record", told)
    with pytest.raises(SecondRecordError, match="round 1 has record"):
        disk.keep(1, b"another", told)
    with pytest.raises(StewardDiskError, match="does another process use it"):
        StewardDisk.open(tmp_path)
    disk.forget(1)
    disk.close()
    again = StewardDisk.open(tmp_path)
    assert (again.record(1), again.told()) == (None, {1: told})
    with pytest.raises(SecondRecordError):
        again.keep(1, b"another", told)
    again.close()
    assert (tmp_path / "steward.db").stat().st_mode & 0o777 == 0o600


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "steward.db").write_bytes(b"no journal" * 100)
    with pytest.raises(StewardDiskError, match="is no journal"):
        StewardDisk.open(tmp_path)
