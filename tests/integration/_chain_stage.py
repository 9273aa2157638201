"""The chains that the contracts are tried on, and how to ask them for a refusal."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collegium.crypto import AccountKey, Stream, hash_fields
from collegium.settlement import (
    Chain,
    ContractRefusedError,
    EmbeddedChain,
    Genesis,
    JsonRpcChain,
    JsonRpcLimits,
    transact,
)

CHAIN_ID = 31337
START_S = 1_800_000_000
COIN = 10**18
ANVIL = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"

DEVELOPMENT_KEYS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
)  # of the first accounts that anvil gives coins to, published

# The embedded chain has Prague's rules; anvil's Prague beside it shows the same once more.
FORKS = ("prague", "osaka") if os.environ.get("COLLEGIUM_FULL") == "1" else ("osaka",)
CHAINS = ("embedded", *(pytest.param(fork, marks=[pytest.mark.node, pytest.mark.slow]) for fork in FORKS))

STREAM = Stream(hash_fields("test-settlement"))
DEPLOYER, ALICE, MALLORY = (AccountKey.generate(STREAM) for _ in range(3))


@dataclass(frozen=True)
class World:
    """A chain, how to let its time pass, and how to go back to what was saved (each saved state once)."""

    chain: Chain
    advance: Callable[[int], None]
    save: Callable[[], Any]
    restore: Callable[[Any], None]

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Leave the chain as it was before."""
        saved = self.save()
        try:
            yield
        finally:
            self.restore(saved)


def worlds(name: str) -> Iterator[World]:
    """Yield the chain of one of these names: the embedded one, or anvil at a hard fork."""
    return embedded() if name == "embedded" else anvil(name)


def embedded(chain_id: int = CHAIN_ID) -> Iterator[World]:
    balances = tuple((account.address, 1000 * COIN) for account in (DEPLOYER, ALICE, MALLORY))
    chain = EmbeddedChain(Genesis(chain_id, START_S, balances))
    store = chain._chain.chaindb.db.wrapped_db.kv_store

    def save() -> tuple[Any, ...]:
        return dict(store), chain._chain.header, list(chain._receipts), list(chain._sent), chain._next_timestamp_s

    def restore(saved: tuple[Any, ...]) -> None:
        kept, chain._chain.header, chain._receipts, chain._sent, chain._next_timestamp_s = saved
        store.clear()
        store.update(kept)

    yield World(chain, lambda seconds: chain.advance_to(chain.timestamp_s() + seconds), save, restore)


@contextmanager
def running_anvil(*options: str, chain_id: int = CHAIN_ID) -> Iterator[str]:
    """Start a fresh anvil, and yield its address."""
    command = [ANVIL, "--host", "127.0.0.1", "--port", "0", "--chain-id", str(chain_id), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = next(line.split()[-1] for line in process.stdout if line.startswith("Listening on"))
            threading.Thread(target=process.stdout.read).start()  # or its log fills the pipe and it stops
            yield f"http://{address}"
        finally:
            process.terminate()


def anvil(hardfork: str, chain_id: int = CHAIN_ID) -> Iterator[World]:
    options = ("--hardfork", hardfork, "--timestamp", str(START_S), "--accounts", "1")
    with running_anvil(*options, chain_id=chain_id) as url:
        for account in (DEPLOYER, ALICE, MALLORY):
            ask(url, "anvil_setBalance", "0x" + account.address.hex(), hex(1000 * COIN))
        chain = JsonRpcChain(url, JsonRpcLimits(poll_s=0.002))
        yield World(
            chain,
            lambda seconds: ask(url, "evm_increaseTime", seconds),
            lambda: ask(url, "evm_snapshot"),
            lambda saved: ask(url, "evm_revert", saved),
        )


def ask(url: str, method: str, *parameters: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own anvil
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
        found = json.load(answer)
    assert "error" not in found
    return found["result"]


@contextmanager
def refused(error: str) -> Iterator[None]:
    with pytest.raises(ContractRefusedError) as refusal:
        yield
    assert refusal.value.values["error"] == error


def pass_time(world: World, seconds: int) -> None:
    """Let time pass and a block come, so that calls see it."""
    world.advance(seconds)
    transact(world.chain, DEPLOYER, ALICE.address, b"", value=1)
