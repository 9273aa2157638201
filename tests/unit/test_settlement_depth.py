"""The EVM's recursion limit does not leak into the rest of the process."""

import json
import subprocess
import sys

import pytest

from collegium.crypto import AccountKey
from collegium.settlement import EmbeddedChain, Genesis, transact
from collegium.settlement._depth import deep_calls

NOBODYS_NODE = """
from collegium.settlement import ChainUnreachableError, JsonRpcChain, JsonRpcLimits
try:
    JsonRpcChain("http://127.0.0.1:1", JsonRpcLimits(attempts=1))
except ChainUnreachableError:
    pass
"""
EMBEDDED = """
import collegium.settlement as settlement
settlement.EmbeddedChain(settlement.Genesis(1337, 1_700_000_000, ()))
"""
PRECOMPILES = "import collegium.settlement._precompiles"
IN_FRESH_PROCESSES = """
import os
import sys
before = sys.getrecursionlimit()
import collegium.settlement
print("eth" in sys.modules, sys.getrecursionlimit() - before, flush=True)
for text in sys.argv[1:]:
    if os.fork() == 0:
        exec(text)
        print("py_ecc" in sys.modules, "eth" in sys.modules, sys.getrecursionlimit() - before, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, text
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What a process says that imports our package and nothing else, then copies of it that each do one thing more."""
    command = [sys.executable, "-c", IN_FRESH_PROCESSES, EMBEDDED, NOBODYS_NODE, PRECOMPILES]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_virtual_machine_is_imported_with_the_first_chain_and_leaves_the_limit_as_it_was(said: list[str]) -> None:
    assert said[:2] == ["False 0", "True True 0"]


@pytest.mark.parametrize("at", [2, 3], ids=["web3 for a node", "the precompiles by themselves"])
def test_no_import_leaves_the_limit_higher(at: int, said: list[str]) -> None:
    py_ecc, _, higher = said[at].split()
    assert (py_ecc, higher) == ("True", "0")


def test_a_hundred_thousand_brackets_are_refused_and_kill_nobody() -> None:
    EmbeddedChain(Genesis(1337, 1_700_000_000, ()))
    limit = sys.getrecursionlimit()
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)
    assert sys.getrecursionlimit() == limit


def test_the_chain_can_call_hundreds_deep_and_gives_the_limit_back() -> None:
    """A contract that calls itself until its gas ends, some 600 calls deep; Python's own limit would end it first."""
    account = AccountKey(b"\1" * 32)
    chain = EmbeddedChain(Genesis(1337, 1_700_000_000, ((account.address, 10**20),)))
    call_itself = bytes.fromhex("600080808080305af100")  # CALL(all gas, this contract, nothing)
    made = transact(chain, account, None, bytes.fromhex("69") + call_itself + bytes.fromhex("600052600a6016f3"))
    assert made.contract is not None
    limit = sys.getrecursionlimit()
    assert chain.call(account.address, made.contract, b"") == b""
    assert sys.getrecursionlimit() == limit


def test_the_limit_stays_raised_while_any_thread_executes() -> None:
    """As calls of two threads overlap: the one that began first ends first."""
    limit = sys.getrecursionlimit()
    first, second = deep_calls(), deep_calls()
    first.__enter__()
    raised = sys.getrecursionlimit()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getrecursionlimit() == raised > limit
    second.__exit__(None, None, None)
    assert sys.getrecursionlimit() == limit
