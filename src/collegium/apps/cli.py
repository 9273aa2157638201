"""The command line: the program, its commands by the module that has each, and how its process ends.

Exit codes: 0 good; 1 a verification failed; 2 the user's error, one line each; 3 the network, the disk or the chain
failed; 70 our bug, with its traceback; 130 interrupted. With `--json` standard output holds one JSON object and nothing
else. What the commands do is done by `collegium.node`, imported when it is needed: `--help` must not wait for it.
"""

import gc
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from collegium import __version__
from collegium.apps import (
    _bench_cli,
    _data_cli,
    _lineage,
    _member_cli,
    _network_cli,
    _offer_cli,
    _privacy_cli,
    _rewards_cli,
    _run_cli,
    _simulate,
    _status,
    _watch_cli,
)
from collegium.apps._engine import Engine
from collegium.apps._exit import ExitCode, print_lines

__all__ = ["Engine", "ExitCode", "app", "main"]

app = typer.Typer(
    name="collegium",
    help="Federated learning whose rounds are agreed by a consensus made for learning.\n\n"
    "\b\nExample:\n  collegium demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables, keys among them
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"collegium {__version__}")
        raise typer.Exit


@app.callback()
def collegium(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take the options that stand before a command; its help is the program's, above."""


for commands in (
    _run_cli,
    _network_cli,
    _status,
    _lineage,
    _simulate,
    _watch_cli,
    _offer_cli,
    _rewards_cli,
    _privacy_cli,
    _bench_cli,
    _data_cli,
    _member_cli,
):
    commands.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never a traceback for what is not our bug."""
    gc.set_threshold(10_000)  # by default every 700 new objects: a fifth of the time that imports take
    try:
        code = app(args=arguments, prog_name="collegium", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        print_lines("error", ["interrupted"])
        code = ExitCode.INTERRUPTED
    except Exception as error:
        code = _usage_or_bug(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away; Python must not try again while it shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else ExitCode.GOOD


def _usage_or_bug(error: Exception) -> int:
    describe = getattr(error, "format_message", None)  # Click's errors have it, wherever Typer keeps their class
    if describe is None:
        traceback.print_exception(error)
        return ExitCode.BUG
    message = " ".join(dict.fromkeys(re.split(r"(?<=[.?]) ", describe())))  # Click and Typer both guess what was meant
    print_lines("error", [message] if message else [])  # empty where the help was shown instead
    return ExitCode.USER


if __name__ == "__main__":
    sys.exit(main())
