"""No bytes from outside make any decoder do anything but return a value or raise a named error, in bounded memory.

Of every decoder in `_decoders.py` a few hundred cases; in a full check 10^5, fewer of those that verify something. What
each entry took is printed: `pytest -s` shows it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _decoders import DECODERS, INSIDE, REACHED
from _fuzzing import Decoder, Fuzzer, run

HEAVY = 10
FULL = os.environ.get("COLLEGIUM_FULL") == "1"


def cases(decoder: Decoder) -> int:
    """Return how many: in a full check 10^5, of those that verify or read whole files 10^4."""
    if FULL:
        return 100_000 if decoder.cost < HEAVY else 10_000
    return max(16, 240 // decoder.cost)


def parameter(decoder: Decoder) -> Any:
    """Return a decoder under its name; those that make proofs or read whole files first are slow."""
    marks = [pytest.mark.slow] if decoder.cost >= HEAVY else []
    return pytest.param(decoder, id=decoder.name, marks=marks)


@pytest.mark.parametrize("decoder", [parameter(decoder) for decoder in DECODERS])
def test_hostile_bytes(decoder: Decoder) -> None:
    print(run(decoder, cases(decoder)))


NAMED_DECODER = re.compile(r"(decode|load)_\w+|(\w+_)?from_bytes")
DEFINED = re.compile(rf"def ({NAMED_DECODER.pattern})\(")
SOURCE = Path(__file__).parents[2] / "src" / "collegium"
SIMULATOR = "_world"  # its stand-ins for keys and ciphertexts never see a stranger's bytes


def named_decoders() -> Iterator[str]:
    """Yield every function of the package that is named as a decoder of bytes."""
    listing = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=SOURCE, check=True, capture_output=True, text=True)
    for path in (SOURCE / name for name in listing.stdout.split("\0")[:-1]):
        if path.name.startswith(SIMULATOR) or not path.exists():
            continue
        source, where = path.read_text(encoding="utf-8"), path.relative_to(SOURCE).as_posix()
        for node in ast.parse(source).body if DEFINED.search(source) else ():
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            for function in inner:
                if isinstance(function, ast.FunctionDef) and NAMED_DECODER.fullmatch(function.name):
                    yield f"{where} {node.name}.{function.name}" if node is not function else f"{where} {node.name}"


def test_no_decoder_is_forgotten() -> None:
    found = set(named_decoders())
    assert found - REACHED.keys() - INSIDE.keys() == set(), "fuzz these: an entry in _decoders.py"
    assert REACHED.keys() - found == set(), "these are gone"
    assert INSIDE.keys() - found == set(), "these are gone"
    assert set(REACHED.values()) <= {decoder.name for decoder in DECODERS}


# ------------------------------------------------------------------------------------------------ the watch itself


def test_what_no_decoder_may_do_is_seen() -> None:
    def listed(data: bytes) -> bytes:
        return data

    def careless(data: bytes) -> int:
        return data[3]  # an IndexError

    def greedy(data: bytes) -> bytes:
        return bytes(100_000_000) if len(data) != 8 else data

    def reserving(data: bytes) -> bytes:
        return bytes(1 << 40) if len(data) != 8 else data

    def seeds() -> list[bytes]:
        return [bytes(8)]

    for decode, message in ((careless, "IndexError"), (greedy, "bytes of memory"), (reserving, "MemoryError")):
        with pytest.raises(AssertionError, match=message):
            run(Decoder("bad", decode, seeds), 1000)
    with pytest.raises(AssertionError, match="written otherwise"):
        run(Decoder("two encodings", listed, seeds, encode=lambda value: bytes(8)), 1000)
    assert run(Decoder("good", listed, seeds, encode=lambda value: value), 100).accepted == 100


def test_a_case_is_the_same_every_time() -> None:
    decoder = next(decoder for decoder in DECODERS if decoder.name == "block payload")
    first, second = Fuzzer(decoder), Fuzzer(decoder)
    cases_made = [first.case(number) for number in range(50)]
    assert cases_made == [second.case(number) for number in range(50)]
    assert len(set(cases_made)) > 45
