"""`collegium status`: asks every validator of a network how it stands, and shows it as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collegium.apps._exit import ExitCode, exit_codes, print_json
from collegium.apps._printable import printable

if TYPE_CHECKING:
    from collegium.node import Readiness, TrainersWeighed, ValidatorStatus

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(status)


def status(
    network: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE",
            help="A consortium's folder, or the settings file of a trainer, steward, evaluator or relayer.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    trainers: Annotated[
        bool, typer.Option("--trainers", help="What stewards have made of the trainers, by the last final round.")
    ] = False,
) -> None:
    """Ask every validator of a network how it stands.

    Ends with code 0 when so many are ready that rounds become final, with 3 when not. What a validator says of itself
    proves nothing; what is final does, and is checked by everybody who uses it: here with --trainers.

    \b
    Example:
      collegium status consortium
      collegium status consortium --trainers
      collegium status consortium/trainers/03/config.toml
    """
    with exit_codes():
        from collegium.node import network_status, trainers_status

        if trainers:
            _print_trainers(trainers_status(network), json=json)
            return
        found = network_status(network)
        ready, quorum = sum(each.ready for each in found), _quorum(found)
        if json:
            print_json([_status_object(each) for each in found])
        else:
            _print_table(found)
            typer.echo(f"{ready} of {len(found)} validators are ready, {quorum} are needed")
        if ready < quorum:
            raise typer.Exit(ExitCode.WORLD)


def _quorum(found: Sequence[ValidatorStatus]) -> int:
    """Return how many validators a decision takes, as those say that are ready and in the latest epoch.

    Where nobody is: all but a third of the network's, rounded down.
    """
    from collegium.consensus import quorum_size

    ready = [each.readiness for each in found if each.readiness is not None and each.ready]
    latest = max((said.epoch for said in ready), default=0)
    return max((said.quorum for said in ready if said.epoch == latest), default=quorum_size(len(found)))


def _print_table(found: Sequence[ValidatorStatus]) -> None:
    typer.echo(f"{'validator':>9}  {'gateway':<21}  {'epoch':>5}  {'round':>5}  {'connected':>9}  state")
    for each in found:
        host, port = each.place
        epoch, round_number, connected, state = "-", "-", "-", printable(each.problem)
        if (said := each.readiness) is not None:
            epoch, round_number, connected = str(said.epoch), str(said.round), str(said.connected)
            state = _state(said)
        place = printable(f"{host}:{port}")
        typer.echo(f"{each.index:>9}  {place:<21}  {epoch:>5}  {round_number:>5}  {connected:>9}  {state}")


def _print_trainers(weighed: TrainersWeighed | None, *, json: bool) -> None:
    """Print who scored, counts and has earned how much."""
    from collegium.apps._live import standing_state, weighed_line

    if json:
        print_json({} if weighed is None else asdict(weighed))
        return
    if weighed is None:
        typer.echo("no trainers are measured: the task has no stewards, or has not trained yet")
        return
    typer.echo(f"{'trainer':<28}  {'score':>6}  {'influence':>9}  {'points':>8}  state")
    for entry in weighed.trainers:
        score = "-" if entry.score is None else f"{entry.score:.2f}"
        name, state = printable(entry.name), standing_state(entry)
        typer.echo(f"{name:<28}  {score:>6}  {entry.weight:>9}  {entry.points:>8.2f}  {state}")
    typer.echo(weighed_line(weighed))


def _state(said: Readiness) -> str:
    if said.back_at is not None:
        return f"outside this epoch's set, back in round {said.back_at} at the earliest"
    return "ready" if said.ready else "catching up" if not said.current else "too few connections"


def _status_object(each: ValidatorStatus) -> dict[str, Any]:
    said = each.readiness
    return {
        "validator": each.index,
        "gateway": f"{each.place[0]}:{each.place[1]}",
        "ready": each.ready,
        "epoch": None if said is None else said.epoch,
        "round": None if said is None else said.round,
        "connected": None if said is None else said.connected,
        "current": None if said is None else said.current,
        "back_at": None if said is None else said.back_at,
        "problem": each.problem or None,
    }
