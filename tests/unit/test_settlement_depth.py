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
AFTERWARDS = """
import sys
before = sys.getrecursionlimit()
import collegium.settlement as settlement
imported = "eth" in sys.modules
settlement.EmbeddedChain(settlement.Genesis(1337, 1_700_000_000, ()))
print(imported, "eth" in sys.modules, sys.getrecursionlimit() - before)
"""


def test_the_virtual_machine_is_imported_with_the_first_chain_and_leaves_the_limit_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", AFTERWARDS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "0"]


@pytest.mark.parametrize(
    "imported",
    [
        NOBODYS_NODE,
        "import collegium.settlement._precompiles",
    ],
    ids=["web3 for a node", "the precompiles by themselves"],
)
def test_no_import_leaves_the_limit_higher(imported: str) -> None:
    text = f"import sys\nbefore = sys.getrecursionlimit()\n{imported}\n"
    text += "print('py_ecc' in sys.modules, sys.getrecursionlimit() - before)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0"]


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
