"""`collegium status`: asks every validator of a network how it stands, and shows it as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collegium.apps._exit import ExitCode, exit_codes, print_json
from collegium.apps._printable import printable

if TYPE_CHECKING:
    from collegium.node import ValidatorStatus

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(status)


def status(
    network: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE", help="A consortium's folder, or the settings file of a trainer, steward or relayer."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Ask every validator of a network how it stands.

    Ends with code 0 when so many are ready that rounds become final, with 3 when not. What a validator says of itself
    proves nothing; what is final does, and is checked by everybody who uses it.

    \b
    Example:
      collegium status consortium
      collegium status consortium/trainers/03/config.toml
    """
    with exit_codes():
        from collegium.consensus import quorum_size
        from collegium.node import network_status

        found = network_status(network)
        ready, quorum = sum(each.ready for each in found), quorum_size(len(found))
        if json:
            print_json([_status_object(each) for each in found])
        else:
            _print_table(found)
            typer.echo(f"{ready} of {len(found)} validators are ready, {quorum} are needed")
        if ready < quorum:
            raise typer.Exit(ExitCode.WORLD)


def _print_table(found: Sequence[ValidatorStatus]) -> None:
    typer.echo(f"{'validator':>9}  {'gateway':<21}  {'round':>5}  {'connected':>9}  state")
    for each in found:
        host, port = each.place
        round_number, connected, state = "-", "-", printable(each.problem)
        if each.readiness is not None:
            round_number, connected = str(each.readiness.round), str(each.readiness.connected)
            state = "ready" if each.ready else "catching up" if not each.readiness.current else "too few connections"
        typer.echo(f"{each.index:>9}  {printable(f'{host}:{port}'):<21}  {round_number:>5}  {connected:>9}  {state}")


def _status_object(each: ValidatorStatus) -> dict[str, Any]:
    said = each.readiness
    return {
        "validator": each.index,
        "gateway": f"{each.place[0]}:{each.place[1]}",
        "ready": each.ready,
        "round": None if said is None else said.round,
        "connected": None if said is None else said.connected,
        "current": None if said is None else said.current,
        "problem": each.problem or None,
    }
