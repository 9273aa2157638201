"""`collegium watch`: recompute what the checkpoints of a run say, and dispute at the base chain what does not hold."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collegium.apps._exit import ExitCode, UsageError, exit_codes
from collegium.apps._printable import printable

if TYPE_CHECKING:
    from collegium.crypto import AccountKey

__all__ = ["register"]

KEY_VARIABLE = "COLLEGIUM_CHAIN_KEY"
ADDRESS_BYTES = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that settled on a node.")],
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask this node instead of the run's.")] = None,
    dispute: Annotated[
        bool, typer.Option("--challenge", help="Dispute the first header that does not hold; an account pays.")
    ] = False,
    court: Annotated[
        str | None,
        typer.Option("--court", metavar="ADDRESS", help="Address of the task's contract Disputes; none: found one."),
    ] = None,
) -> None:
    """Recompute what every header under a checkpoint says; with --challenge, dispute what does not hold.

    Ends with code 0 when every header is right, 1 when one is wrong. The account that pays for a dispute is that of
    the key in COLLEGIUM_CHAIN_KEY. A dispute takes as long as those who stand up for the header may: days.

    \b
    Example:
      collegium watch runs/hospitals
      collegium watch runs/hospitals --challenge --court 0x5fbdb2315678afecb367f032d93f642f64180aa3
    """
    with exit_codes():
        from collegium import node

        if not run.is_dir():
            raise UsageError(f"{run} is no folder, expected the folder of a run", path=run)
        address = None if court is None else _address(court)
        account = _account() if dispute else None
        watched = node.load_watched(run, url)
        found = node.watch(watched, _say)
        if found is None:
            _say("every header is what its public work gives")
            return
        finding, place = found
        if account is not None and finding.disputable:
            at = node.court_of(watched, address, account, None, _say)
            node.challenge(watched, finding, place, at, account, _say)
        elif account is not None:
            _say("no contract can be brought to see this yet: docs/spec/disputes.md says which work can be disputed")
        raise typer.Exit(ExitCode.FAILED)


def _say(line: str) -> None:
    typer.echo(printable(line))


def _account() -> "AccountKey":
    from collegium.crypto import AccountKey
    from collegium.errors import CollegiumError

    try:
        return AccountKey(bytes.fromhex(os.environ.get(KEY_VARIABLE, "").removeprefix("0x")))
    except (ValueError, CollegiumError) as error:
        raise UsageError(f"--challenge needs an account that pays: set {KEY_VARIABLE} to its key, 32 bytes") from error


def _address(text: str) -> bytes:
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != ADDRESS_BYTES:
        raise UsageError(f"--court {text!r} is no address, expected {ADDRESS_BYTES} bytes in hexadecimal")
    return address
