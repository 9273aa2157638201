"""A relayer whose chain does not answer: it waits and asks again, and stops when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from collegium.node._base_chain import ChainRecordError
from collegium.node._network_settings import LogSettings, RelayerSettings
from collegium.node._relayer_process import RelayerProcess, _opened
from collegium.node._telemetry import logger
from collegium.settlement import ChainUnreachableError


class Chain:
    """A chain that answers after so many times; a refusal of what is on disk is no silence."""

    def __init__(self, silent: int, refusal: Exception | None = None) -> None:
        self.silent, self.refusal, self.asked = silent, refusal, 0

    def open(self, settings: RelayerSettings, log: Any) -> str:
        self.asked += 1
        if self.asked <= self.silent:
            raise ChainUnreachableError("no answer")
        if self.refusal is not None:
            raise self.refusal
        return "a relayer"


def opened(monkeypatch: pytest.MonkeyPatch, chain: Chain, *, stop: bool = False) -> Any:
    monkeypatch.setattr(RelayerProcess, "open", chain.open)
    monkeypatch.setattr("collegium.node._relayer_process.PAUSE_S_FIRST", 0.001)
    settings: Any = LogSettings()

    async def run() -> Any:
        stopping = asyncio.Event()
        if stop:
            asyncio.get_running_loop().call_later(0.01, stopping.set)
        return await asyncio.wait_for(_opened(settings, logger("relayer"), stopping), 60)

    return asyncio.run(run())


def test_it_asks_again_until_the_chain_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(silent=3)
    assert opened(monkeypatch, chain) == "a relayer"
    assert chain.asked == 4


def test_it_stops_while_the_chain_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(monkeypatch, Chain(silent=1 << 30), stop=True) is None


def test_a_record_that_is_refused_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(silent=1, refusal=ChainRecordError("the record is of an embedded chain"))
    with pytest.raises(ChainRecordError, match="embedded"):
        opened(monkeypatch, chain)
    assert chain.asked == 2
