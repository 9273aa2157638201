"""Each construct of the language of programs, compiled and as plain Python; what is outside of it, by named error."""

from __future__ import annotations

from hashlib import sha256
from textwrap import dedent, indent

import pytest
from _program_stage import WORDS_FROM, two_ways

from collegium.commitment import chaining_values, pad_message
from collegium.settlement import (
    OutsideLanguageError,
    ParameterError,
    PreimageUnknownError,
    ProgramError,
    ProgramSizeError,
    UnassignedError,
    UnknownNameError,
    compile_program,
    run_plainly,
)

WORD = (1 << 64) - 1
WORDS = (
    "accept, byte_swap, fadd, fmul, fsub, keccak, memory, mul_high, preimage, reject, sha256_block, "
    "shift_right_signed, signed_less, table"
)
START = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")


def program(body: str, before: str = "", ends: str = "accept()") -> str:
    """The source of a program: a module with all the words, something before, and the body of main."""
    lines = ["from __future__ import annotations", f"{WORDS_FROM} {WORDS}", dedent(before)]
    return "\n".join([*lines, "def main() -> None:", indent(dedent(body), "    "), f"    {ends}", ""])


def results(body: str, before: str = "", parameters: dict[str, object] | None = None) -> list[int]:
    """What an accepting program leaves in words 64 to 71."""
    accepted, left = two_ways(program(body, before), parameters)
    assert accepted
    return left[:8]


CONSTRUCTS = {
    "arithmetic": (
        "x = 7\ny = 3\nmemory[64] = x + y * 2 - 1\nmemory[65] = x // y\nmemory[66] = x % y\nmemory[67] = x << y",
        [12, 2, 1, 56],
    ),
    "words wrap": (
        "x = 5\nmemory[64] = x - 6\nmemory[65] = ~x\nmemory[66] = -x\nmemory[67] = x * 0x8000000000000001",
        [WORD, WORD - 5, WORD - 4, 0x8000000000000005],
    ),
    "shifts by a word and more": (
        "x = 64\nmemory[64] = 1 << x\nmemory[65] = x >> x\nmemory[66] = 1 << 63\nmemory[67] = x << 200",
        [0, 0, 1 << 63, 0],
    ),
    "comparisons as values": (
        "x = 5\nmemory[64] = x < 6\nmemory[65] = 6 < x\nmemory[66] = x != 5\nmemory[67] = x != 0\n"
        "memory[68] = 4 <= x <= 5\nmemory[69] = not x\nmemory[70] = x >= 5\nmemory[71] = 0 == x",
        [1, 0, 0, 1, 1, 0, 1, 0],
    ),
    "a variable compared with zero into itself": ("x = 5\nx = x != 0\nmemory[64] = x", [1]),
    "comparisons at the ends": (
        "x = 0xFFFFFFFFFFFFFFFF\nmemory[64] = x > 0xFFFFFFFFFFFFFFFF\nmemory[65] = 0xFFFFFFFFFFFFFFFF < x\n"
        "memory[66] = x <= 0xFFFFFFFFFFFFFFFF\nmemory[67] = 0xFFFFFFFFFFFFFFFE < x\nmemory[68] = 0 > x",
        [0, 0, 1, 1, 0],
    ),
    "and, or: the operand that decides": (
        "x = 0\ny = 9\nmemory[64] = x or y\nmemory[65] = x and y\nmemory[66] = y and 4\nx = y or x\nmemory[67] = x",
        [9, 0, 4, 9],
    ),
    "choice": ("x = 3\nmemory[64] = 1 if x > 2 else 2\nx = x + 1 if x == 9 else x * x\nmemory[65] = x", [1, 9]),
    "if, elif, else": (
        "for i in range(3):\n    if i == 0:\n        memory[64] = 5\n    elif i == 1:\n        memory[65] = 6\n"
        "    else:\n        memory[66] = 7",
        [5, 6, 7],
    ),
    "while, break, continue": (
        "i = 0\nt = 0\nwhile i < 10:\n    i += 1\n    if i & 1:\n        continue\n    if i == 8:\n        break\n"
        "    t += i\nmemory[64] = t\nmemory[65] = i",
        [12, 8],
    ),
    "while True": ("i = 0\nwhile True:\n    i += 3\n    if i > 10:\n        break\nmemory[64] = i", [12]),
    "ranges": (
        "t = 0\nfor i in range(5):\n    t = t * 10 + i\nmemory[64] = t\nt = 0\nfor i in range(1, 10, 4):\n"
        "    t = t * 10 + i\nmemory[65] = t\nt = 0\nfor i in range(3, -1, -1):\n    t = t * 10 + i\nmemory[66] = t\n"
        "for i in range(5, 5):\n    reject()\nfor i in range(3, 2):\n    reject()\n"
        "for i in range(0, 1, -1):\n    reject()",
        [1234, 159, 3210],
    ),
    "a range asks for its ends once": (
        "n = 3\nx = 2\nt = 0\nfor i in range(x, n + x):\n    n += 5\n    t += i\nmemory[64] = t\n"
        "for x in range(x):\n    t += 1\nmemory[65] = t",
        [9, 11],
    ),
    "memory": (
        "a = 64\ni = 2\nmemory[a] = 8\nmemory[a + 1] = memory[a] + 1\nmemory[a + i] = memory[a + i - 1] + 1\n"
        "memory[i + a + 1] = memory[memory[64] + 56]\nmemory[a] += 5\n"
        "memory[a + i] <<= i\nmemory[68 - 1 + i - i + 1] = 4",
        [13, 9, 40, 8, 4],
    ),
    "tuples": (
        "a, b = 1, 2\na, b = b, a\nmemory[64] = a\nmemory[65] = b\nc = d = a + b\nmemory[66] = c * d",
        [2, 1, 9],
    ),
    "assert": ("x = 3\nassert x == 3, 'why'\nassert x < 4 and x > 2\nmemory[64] = x", [3]),
    "fields": (
        "p = 0xFFFFFFFF00000001\nmemory[64] = fadd(p - 1, 2)\nmemory[65] = fsub(1, 2)\n"
        "memory[66] = fmul(p - 1, p - 1)\n"
        "memory[67] = fadd(p, 0xFFFFFFFFFFFFFFFF)",
        [1, 0xFFFFFFFF00000000, 1, 0xFFFFFFFE],
    ),
    "words of the machine": (
        "x = 0xFFFFFFFFFFFFFFF0\nmemory[64] = mul_high(x, 16)\nmemory[65] = signed_less(x, 3)\n"
        "memory[66] = shift_right_signed(x, 2)\nmemory[67] = byte_swap(1)\nmemory[68] = shift_right_signed(x, 64)\n"
        "if not signed_less(3, x):\n    memory[69] = 7",
        [15, 1, 0xFFFFFFFFFFFFFFFC, 1 << 56, WORD, 7],
    ),
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_construct_gives_what_python_gives(name: str) -> None:
    body, expected = CONSTRUCTS[name]
    assert results(body)[: len(expected)] == expected


def test_functions_have_parameters_results_and_frames_of_their_own() -> None:
    before = """
        SCALE = 10

        def square(x: int) -> int:
            \"\"\"One expression: it stands in place of its call.\"\"\"
            return x * x

        def swapped(a: int, b: int) -> tuple[int, int]:
            return b, a

        def three(a: int) -> tuple[int, int, int]:
            local = a + 1
            return local, a, local

        def fibonacci(n: int) -> int:
            if n < 2:
                return n
            return fibonacci(n - 1) + fibonacci(n - 2)

        def put(address: int, word: int) -> None:
            if word == 0:
                return
            memory[address] = word * SCALE
    """
    body = """
        a, b = swapped(square(3), square(square(2)))
        memory[64] = a * 100 + b
        x, y, z = three(a)
        memory[65] = x * 10000 + y * 100 + z
        memory[66] = fibonacci(12) + fibonacci(3)
        put(67, 4)
        put(68, 0)
    """
    assert results(body, before)[:5] == [1609, 171617, 146, 40, 0]


def test_order_of_evaluation_is_pythons() -> None:
    before = """
        def take(x: int) -> int:
            memory[70] += 1
            return memory[70] * 10 + x
    """
    body = """
        memory[64] = take(1) - take(2)
        memory[65] = take(1) > take(2)
        memory[66] = take(3) * 1000 <= take(4)
        memory[memory[70] + take(0) - 9] = take(1)
        memory[67] = 1 if take(0) < take(0) < take(0) else 0
        for i in range(take(0), take(9)):
            memory[68] += i
    """
    results(body, before)


def test_siblings_parameters_and_tables() -> None:
    sources = {
        "program": program(
            "memory[64] = twice(COUNT) + LIMIT\n"
            "for i in range(3):\n    memory[65 + i] = memory[TABLE + i] + memory[ROW + i]",
            "from collegium.settlement.programs._other import LIMIT, twice\n"
            "COUNT: int\nROW: int\nTABLE = table(5, 1 << 40, LIMIT)",
        ),
        "_other": "LIMIT = 2**10 - 4 * 6\n\n\ndef twice(x: int) -> int:\n    return x + x\n",
    }
    accepted, left = two_ways(sources, {"COUNT": 21, "ROW": (1, 2, 3)})
    assert accepted
    assert left[:4] == [42 + 1000, 6, (1 << 40) + 2, 1003]


def test_frames_of_sha256_preimages_and_keccak() -> None:
    message = b"what a digest leads to, in more than one block of sixty-four bytes, for it to be read in reverse"
    padded = pad_message(message)
    values = [START, *map(bytes, chaining_values(padded))]
    known = {values[i + 1]: (values[i], padded[64 * i : 64 * i + 64]) for i in range(2)}
    body = """
        f = 96
        for i in range(4):
            memory[f + 12 + i] = memory[i]
        preimage(f)
        for i in range(4):
            memory[f + 12 + i] = memory[f + i]
        preimage(f)
        memory[64] = memory[f + 4]
        memory[f + 12] = 0
        sha256_block(f)
        memory[65] = memory[f + 12]
        keccak(f)
    """
    accepted, left = two_ways(program(body), None, sha256(message).digest(), known.get)
    assert accepted
    assert [word.to_bytes(8, "big") for word in left[:2]] == [b"what a d", values[1][:8]]
    with pytest.raises(PreimageUnknownError, match="no stretch is known"):
        two_ways(program(body), None, sha256(b"another").digest(), known.get)


REJECTED = {
    "reject": "reject()",
    "assert": "x = 3\nassert x == 4",
    "division by zero": "x = 3\ny = 0\nmemory[64] = x // y",
    "remainder by a zero that is known": "x = 3\nmemory[64] = x % 0",
    "an address outside": "x = 1 << 28\nmemory[64] = memory[x]",
    "an address below zero": "x = 3\nmemory[x - 4] = 1",
    "a frame that is no leaf": "sha256_block(100)",
    "a preimage into a frame that is no leaf": "preimage(97)",
}


@pytest.mark.parametrize("name", REJECTED)
def test_program_rejects(name: str) -> None:
    accepted, _ = two_ways(program(REJECTED[name]))
    assert not accepted


def test_program_that_just_ends_rejects() -> None:
    assert not two_ways(program("x = 1", ends="memory[64] = x"))[0]


OUTSIDE: dict[str, tuple[type[ProgramError], str, str]] = {
    "a float": (OutsideLanguageError, "x = 1.5  # here", ""),
    "true division": (OutsideLanguageError, "x = 4\ny = x / 2  # here", ""),
    "a power": (OutsideLanguageError, "x = 4\ny = x**2  # here", ""),
    "a list": (OutsideLanguageError, "x = [1, 2]  # here", ""),
    "a call by keyword": (OutsideLanguageError, "x = fadd(a=1, b=2)  # here", ""),
    "too few arguments": (OutsideLanguageError, "x = fadd(1)  # here", ""),
    "a call of an attribute": (OutsideLanguageError, "memory.clear()  # here", ""),
    "a word without a value": (OutsideLanguageError, "x = keccak(32)  # here", ""),
    "a loop over a tuple": (OutsideLanguageError, "for i in (1, 2):  # here\n    pass", ""),
    "a range in steps that are no constant": (
        UnknownNameError,
        "x = 4\nfor i in range(0, 9, x):  # here\n    pass",
        "",
    ),
    "a range in steps of zero": (OutsideLanguageError, "for i in range(0, 9, 0):  # here\n    pass", ""),
    "a loop with else": (OutsideLanguageError, "while True:  # here\n    break\nelse:\n    pass", ""),
    "a counter that is assigned": (OutsideLanguageError, "for i in range(3):\n    i = 2  # here", ""),
    "a counter of two loops": (
        OutsideLanguageError,
        "for i in range(3):\n    for i in range(3):  # here\n        pass",
        "",
    ),
    "a counter after its loop": (UnassignedError, "for i in range(3):\n    pass\nmemory[64] = i  # here", ""),
    "try": (OutsideLanguageError, "try:  # here\n    x = 1\nfinally:\n    x = 2", ""),
    "a lambda": (OutsideLanguageError, "x = lambda: 1  # here", ""),
    "a function in a function": (OutsideLanguageError, "def inner() -> None:  # here\n    pass", ""),
    "a global": (OutsideLanguageError, "global x  # here", ""),
    "is": (OutsideLanguageError, "x = 1\nmemory[64] = x is x  # here", ""),
    "a slice": (OutsideLanguageError, "x = 1\nmemory[x:2] = x  # here", ""),
    "another thing indexed": (OutsideLanguageError, "x = 1\ny = x[0]  # here", ""),
    "main that returns": (OutsideLanguageError, "return  # here", ""),
    "a name that nobody knows": (UnknownNameError, "x = y  # here", ""),
    "a function that nobody knows": (UnknownNameError, "x = print(3)  # here", ""),
    "a function as a value": (UnknownNameError, "x = fadd  # here", ""),
    "memory as a value": (UnknownNameError, "x = memory  # here", ""),
    "a variable that has no value": (UnassignedError, "if memory[0]:\n    x = y  # here\ny = 2", ""),
    "a variable that may have no value": (UnassignedError, "if memory[0]:\n    x = 1\nmemory[64] = x  # here", ""),
    "a variable from a loop that may not run": (
        UnassignedError,
        "while memory[0]:\n    x = 1\nmemory[64] = x  # here",
        "",
    ),
    "a constant too large": (ParameterError, "x = 0x10000000000000000  # here", ""),
    "a named constant below zero": (ParameterError, "x = LOW  # here", "LOW = 3 - 5"),
    "tuples of unequal length": (OutsideLanguageError, "a, b = 1, 2, 3  # here", ""),
    "no parameter": (ParameterError, "x = 1", "GIVEN: int  # here"),
    "a constant by a call": (OutsideLanguageError, "x = 1", "X = len((1, 2))  # here"),
    "a constant text": (OutsideLanguageError, "x = 1", "X = 'text'  # here"),
    "a constant without bounds": (ProgramSizeError, "x = 1", "X = 2**9999999999  # here"),
    "a constant divided by zero": (ParameterError, "x = 1", "X = 3 // 0  # here"),
    "a table too large": (ParameterError, "x = 1", "X = table(1, 1 << 64)  # here"),
    "a name twice": (OutsideLanguageError, "x = 1", "X = 1\nX = 2  # here"),
    "a variable that hides a constant": (OutsideLanguageError, "f()", "X = 1\ndef f() -> None:  # here\n    X = 2"),
    "import of a module": (OutsideLanguageError, "x = 1", "import os  # here"),
    "import of a stranger": (OutsideLanguageError, "x = 1", "from os.path import join  # here"),
    "import under another name": (OutsideLanguageError, "x = 1", "from ._words import table as t  # here"),
    "import of what is not there": (UnknownNameError, "x = 1", "from ._other import nothing  # here"),
    "a class": (OutsideLanguageError, "x = 1", "class X:  # here\n    pass"),
    "a default": (OutsideLanguageError, "x = f(1)", "def f(x: int = 2) -> int:  # here\n    return x"),
    "a parameter that is no int": (OutsideLanguageError, "x = f(1)", "def f(x: str) -> int:  # here\n    return 1"),
    "a result that is no int": (OutsideLanguageError, "x = f(1)", "def f(x: int) -> str:  # here\n    return x"),
    "a result that is missing": (
        UnassignedError,
        "x = f(1)",
        "def f(x: int) -> int:  # here\n    if x:\n        return 1\n    x += 1",
    ),
    "a result too many": (OutsideLanguageError, "f(1)", "def f(x: int) -> None:\n    return x  # here"),
    "two results where one is wanted": (
        OutsideLanguageError,
        "x = f(1)  # here",
        "def f(x: int) -> tuple[int, int]:\n    return x, x",
    ),
    "a decorator": (OutsideLanguageError, "x = 1", "@property\ndef f() -> int:  # here\n    return 1"),
    "no Python": (OutsideLanguageError, "x = = 1  # here", ""),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_construct_is_refused(name: str) -> None:
    error, body, before = OUTSIDE[name]
    source = program(body, before)
    lines = [number for number, line in enumerate(source.splitlines(), start=1) if "# here" in line]
    with pytest.raises(ProgramError, match=r"^program\.py:") as caught:
        compile_program("program", {}, {"program": source, "_other": ""}.__getitem__)
    assert (type(caught.value), [caught.value.values["line"]]) == (error, lines)


def test_program_without_main_is_refused() -> None:
    for source in ("", "def main(x: int) -> None:\n    pass\n", "main = 3\n"):
        with pytest.raises(UnknownNameError, match="no main"):
            compile_program("program", {}, {"program": source}.__getitem__)


def test_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no module _nowhere"):
        compile_program("_nowhere", {})


def test_modules_that_import_each_other_are_refused() -> None:
    sources = {"program": "from ._other import x\n", "_other": "from .program import y\n"}
    with pytest.raises(OutsideLanguageError, match="imports itself"):
        compile_program("program", {}, sources.__getitem__)


def test_program_of_too_many_instructions_is_refused() -> None:
    source = program("memory[64] = memory[TABLE + 1]", "TABLE: int")
    assert two_ways(source, {"TABLE": range(1, 100)})[1][0] == 2
    with pytest.raises(ProgramSizeError, match="instructions, at most 65536"):
        compile_program("program", {"TABLE": range(1, 1 << 16)}, {"program": source}.__getitem__)


def test_digest_says_the_program_and_its_parameters() -> None:
    source = {"program": program("memory[64] = N", "N: int")}.__getitem__
    one, same = compile_program("program", {"N": 1}, source), compile_program("program", {"N": 1}, source)
    other = compile_program("program", {"N": 2}, source)
    assert one.digest == same.digest != other.digest


def test_plain_run_leaves_nothing_for_the_next() -> None:
    source = {"program": program("memory[64] += 1\nassert memory[64] == 1")}.__getitem__
    assert [run_plainly("program", {}, bytes(32), sources=source)[0] for _ in range(2)] == [True, True]
