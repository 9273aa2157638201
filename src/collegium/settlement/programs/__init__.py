"""Public work as programs of the dispute machine, in a restricted Python (docs/spec/programs.md).

Each module is compiled from its source by `collegium.settlement.compile_program`; `_words` are the words that a program
is written with, and says what each does.
"""

from importlib import resources
from types import ModuleType

from collegium.settlement.programs import _words
from collegium.settlement.programs._keccak import ROTATIONS, ROUND_CONSTANTS, keccak_permute
from collegium.settlement.programs._words import (
    HEAP,
    MEMORY_WORDS,
    STACK,
    TABLES,
    WORDS,
    Accepted,
    Memory,
    PreimageUnknownError,
    Rejected,
    begin,
    memory,
)

__all__ = [
    "HEAP",
    "MEMORY_WORDS",
    "ROTATIONS",
    "ROUND_CONSTANTS",
    "STACK",
    "TABLES",
    "WORDS",
    "Accepted",
    "Memory",
    "PreimageUnknownError",
    "Rejected",
    "begin",
    "keccak_permute",
    "memory",
    "source_of",
    "words_module",
]


def source_of(module: str) -> str:
    """Return the source of a module of this package, as the compiler reads it.

    Raises:
        FileNotFoundError: there is no such module.
    """
    return resources.files(__name__).joinpath(f"{module}.py").read_text("utf-8")


def words_module() -> ModuleType:
    """Return the module with the words, each as a function of plain Python."""
    return _words
