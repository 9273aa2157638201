"""How a command ends: what went wrong in one line each, the exit code, and one JSON object where that is asked for."""

import json as json_text
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from collegium.apps._printable import printable
from collegium.errors import CollegiumError

if TYPE_CHECKING:
    from collegium.crypto import AccountKey

__all__ = [
    "ExitCode",
    "JsonOption",
    "UsageError",
    "address_in",
    "chain_account",
    "empty_folder",
    "exit_codes",
    "expect_run",
    "print_facts",
    "print_json",
    "print_lines",
]

ADDRESS_BYTES: Final = 20
GENESIS: Final = "genesis.json"
KEY_VARIABLE: Final = "COLLEGIUM_CHAIN_KEY"
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object; messages go to standard error.")]


class ExitCode:
    """What the process says to its caller."""

    GOOD: Final = 0
    FAILED: Final = 1
    USER: Final = 2
    WORLD: Final = 3
    BUG: Final = 70
    INTERRUPTED: Final = 130


class UsageError(CollegiumError):
    """A command was asked for something it does not do."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what went wrong into one line each on standard error, and the exit code."""
    try:
        yield
    except CollegiumError as error:
        from collegium.node import WorldError

        print_lines("error", _error_lines(error))
        raise typer.Exit(ExitCode.WORLD if isinstance(error, WorldError) else ExitCode.USER) from error
    except (OSError, MemoryError) as error:
        print_lines("error", [_world_line(error)])
        raise typer.Exit(ExitCode.WORLD) from error
    except KeyboardInterrupt as error:
        print_lines("error", ["interrupted"])
        raise typer.Exit(ExitCode.INTERRUPTED) from error


def _error_lines(error: CollegiumError) -> list[str]:
    """Return an error's lines: one for each of its problems, where it lists some."""
    problems = error.values.get("problems")
    return [str(problem) for problem in problems] if isinstance(problems, tuple) else [str(error)]


def _world_line(error: OSError | MemoryError) -> str:
    """Return what failed: the file and the reason where both are known."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def print_lines(prefix: str, lines: Iterable[str]) -> None:
    """Write lines to standard error."""
    for line in lines:
        typer.echo(f"{prefix}: {printable(line)}", err=True)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Write labels and what they say to standard output, in two columns."""
    for label, text in facts:
        typer.echo(f"{label + ':':<24}{printable(text)}")


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON value to standard output."""
    typer.echo(json_text.dumps(value, sort_keys=True, indent=2, allow_nan=False))


def address_in(option: str, text: str) -> bytes:
    """Return the account that an option names.

    Raises:
        UsageError: it names none.
    """
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != ADDRESS_BYTES:
        raise UsageError(f"{option} {text!r} is no address, expected {ADDRESS_BYTES} bytes in hexadecimal")
    return address


def chain_account(options: str) -> "AccountKey":
    """Return the account that pays for what these options have sent.

    Raises:
        UsageError: its key is nowhere.
    """
    from collegium.crypto import AccountKey

    try:
        return AccountKey(bytes.fromhex(os.environ.get(KEY_VARIABLE, "").removeprefix("0x")))
    except (ValueError, CollegiumError) as error:
        raise UsageError(
            f"{options} needs an account that pays: set {KEY_VARIABLE} to its key, 32 bytes in hexadecimal"
        ) from error


def empty_folder(folder: Path) -> Path:
    """Return `folder`, made where it is missing.

    Raises:
        UsageError: something that is no empty folder is in its place, or none can be made there.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file, expected a new or empty folder", path=folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"--out {folder} is not empty, expected a new or empty folder", path=folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}, expected a new or empty folder", path=folder) from error
    return folder


def expect_run(folder: Path) -> None:
    """Check that a folder has what every run begins with.

    Raises:
        UsageError: it is no folder, or has no genesis.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder, expected the folder of a run", path=folder)
    if not (folder / GENESIS).is_file():
        raise UsageError(f"{folder} has no {GENESIS}, expected the folder of a run", path=folder)
