"""A relayer whose chain does not answer: it waits and asks again, and stops when it is told to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collegium.node._chain_record import ChainRecordError
from collegium.node._client import NobodyAnsweredError
from collegium.node._consents import ConsentMissingError
from collegium.node._process import first_to_end
from collegium.node._relayer_process import RelayerProcess
from collegium.node._telemetry import logger
from collegium.settlement import ChainUnreachableError


class Chain:
    """A chain that answers after so many times; a refusal of what is on disk is no silence."""

    def __init__(self, silent: int, refusal: Exception | None = None) -> None:
        self.silent, self.refusal, self.asked = silent, refusal, 0

    def resume(self) -> str:
        self.asked += 1
        if self.asked <= self.silent:
            raise ChainUnreachableError("no answer")
        if self.refusal is not None:
            raise self.refusal
        return "a chain"


def resumed(monkeypatch: pytest.MonkeyPatch, state: Path, chain: Chain, *, stop: bool = False) -> Any:
    nothing: Any = None
    process = RelayerProcess(logger("relayer"), nothing, nothing, 0, 1, nothing, state, nothing)
    monkeypatch.setattr(RelayerProcess, "_resume", chain.resume)
    monkeypatch.setattr("collegium.node._relayer_process.PAUSE_S_FIRST", 0.001)
    found: list[Any] = []

    async def resume() -> None:
        found.append(await process._resumed())

    async def run() -> None:
        stopping = asyncio.Event()
        if stop:
            asyncio.get_running_loop().call_later(0.01, stopping.set)
        await asyncio.wait_for(first_to_end(resume(), stopping.wait()), 60)

    asyncio.run(run())
    return found[0] if found else None


def test_it_asks_again_until_the_chain_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = Chain(silent=3)
    assert resumed(monkeypatch, tmp_path, chain) == "a chain"
    assert chain.asked == 4


def test_it_stops_while_the_chain_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resumed(monkeypatch, tmp_path, Chain(silent=1 << 30), stop=True) is None


def test_a_record_that_is_refused_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = Chain(silent=1, refusal=ChainRecordError("the record is of an embedded chain"))
    with pytest.raises(ChainRecordError, match="embedded"):
        resumed(monkeypatch, tmp_path, chain)
    assert chain.asked == 2


# --- consent that is taken back


class Taken:
    """Validators that take what they are brought, or do not answer."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent, self.brought = silent, list[bytes]()

    async def withdraw(self, record: bytes) -> None:
        if self.silent:
            raise NobodyAnsweredError("nobody")
        self.brought.append(record)


class Licensed:
    """The licences of a task, of which a record revokes the seventh."""

    settings: Any = SimpleNamespace(places=(SimpleNamespace(chain_id=1), SimpleNamespace(chain_id=2)))

    def licence_of(self, record: bytes) -> Any:
        return SimpleNamespace(number=7)


def bring(monkeypatch: pytest.MonkeyPatch, validators: Taken, found: Any) -> list[str]:
    """Bring what is found on a chain once, and return what was logged."""
    nothing: Any = None
    lines: list[str] = []
    log: Any = SimpleNamespace(
        info=lambda event, **_: lines.append(event), warning=lambda event, **_: lines.append(event)
    )
    around: Any = (validators, Licensed())
    process = RelayerProcess(log, nothing, nothing, 0, 1, nothing, Path(), *around)
    monkeypatch.setattr(RelayerProcess, "_read_withdrawals", found)
    asyncio.run(process._bring_withdrawals())
    return lines


def test_it_brings_every_revocation_that_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    validators = Taken()
    found = {1: [b"one", b"two"], 2: [b"three"]}
    told = bring(monkeypatch, validators, lambda _, __, place: found[place.chain_id])
    assert told == ["withdrawal"] * 3
    assert validators.brought == [b"one", b"two", b"three"]
    assert bring(monkeypatch, validators, lambda *_: []) == []


def test_a_chain_or_validators_that_do_not_answer_stop_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> list[bytes]:
        raise ChainUnreachableError("no answer")

    def without_a_node(*_: object) -> list[bytes]:
        raise ConsentMissingError("no url")

    for found in (silent, without_a_node):
        assert bring(monkeypatch, Taken(), found) == ["withdrawals_not_brought"] * 2
    assert bring(monkeypatch, Taken(silent=True), lambda *_: [b"one"]) == ["withdrawals_not_brought"] * 2


def test_a_chain_that_does_not_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_is_silent(_: object, __: object, place: Any) -> list[bytes]:
        if place.chain_id == 1:
            raise ChainUnreachableError("no answer")
        return [b"two"]

    validators = Taken()
    assert bring(monkeypatch, validators, first_is_silent) == ["withdrawals_not_brought", "withdrawal"]
    assert validators.brought == [b"two"]
