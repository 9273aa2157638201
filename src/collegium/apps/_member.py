"""One member of a consortium as a process: from its settings file to its exit code."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from collegium.apps._exit import ExitCode, exit_codes

if TYPE_CHECKING:
    from collegium.node import Role

__all__ = ["LEVEL_VARIABLE", "main", "preload", "serve"]

LEVEL_VARIABLE: Final = "COLLEGIUM_PRELOAD_LEVEL"


def preload() -> None:
    """Import what every role needs, and compile it if LEVEL_VARIABLE names a level; before a zygote's first fork."""
    from collegium.node import preload_roles

    preload_roles(os.environ.get(LEVEL_VARIABLE))


def main(arguments: Sequence[str]) -> int:
    """Run the member whose settings file is the one argument, and return its exit code."""
    return serve(Path(arguments[0]))


def serve(config: Path, role: Role | None = None) -> int:
    """Run the member whose settings these are until it has nothing left to do or is told to stop.

    Args:
        config: its settings file.
        role: the role that it must be of; None means any.

    Returns:
        The exit code; what went wrong is said on standard error, one line each.
    """
    from collegium.node import expect_role, load_settings, run_role

    try:
        with exit_codes():
            settings = load_settings(config)
            if role is not None:
                expect_role(settings, role, config)
            asyncio.run(run_role(settings))
    except typer.Exit as ended:
        return ended.exit_code
    except Exception:
        traceback.print_exc()
        return ExitCode.BUG
    return ExitCode.GOOD
