"""The commands of `collegium data`: what an owner of data registers, and what others check of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from collegium import __version__
from collegium.apps import _licences
from collegium.apps._exit import ExitCode, JsonOption, UsageError, empty_folder, exit_codes, print_json
from collegium.apps._printable import printable
from collegium.apps._run_cli import watch_events

__all__ = ["register"]

data = typer.Typer(
    help="Register an owner's data, and check what others registered.\n\n"
    "\b\nExample:\n  collegium data verify public/registration.bin",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    _licences.register(data)
    app.add_typer(data, name="data")


@data.command("new-key")
def data_new_key(
    path: Annotated[Path, typer.Argument(metavar="KEYS", help="The key file to make; nothing is ever overwritten.")],
    json: JsonOption = False,
) -> None:
    """Make the key file of an owner of data, readable by its user alone.

    \b
    Example:
      collegium data new-key hospital.keys
    """
    with exit_codes():
        from collegium.crypto import MemberKeys, os_random, save_keys

        if not path.absolute().parent.is_dir():
            raise UsageError(f"{path.parent} is no folder, expected one to put the key file into", path=path)
        keys = MemberKeys.generate(os_random)
        save_keys(path, keys)
        address = keys.account.address.hex()
        if json:
            print_json({"keys": str(path), "owner": address})
        else:
            typer.echo(f"account 0x{address}, its keys are in {printable(str(path))}")


@data.command("register")
def data_register(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The owner's table.")],
    experiment: Annotated[
        Path, typer.Option("--experiment", metavar="CONFIG.toml", help="Gives schema, label and model.")
    ],
    key: Annotated[Path, typer.Option("--key", metavar="KEYS", help="The owner's key file.")],
    terms: Annotated[Path, typer.Option("--terms", metavar="TEXT", help="The text under which the data may be used.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for what is published, new or empty.")],
    register: Annotated[
        Path, typer.Option("--register", metavar="DIR", help="The owner's register, made when missing: secret.")
    ] = Path("register"),
    site: Annotated[str | None, typer.Option("--site", help="Only the rows of this site.")] = None,
    scaling: Annotated[
        Path | None, typer.Option("--scaling", metavar="STATE", help="A model state of a run: the opened scaling.")
    ] = None,
    commitments: Annotated[int, typer.Option("--commitments", metavar="N", help="One serves one round.")] = 32,
    days: Annotated[int, typer.Option("--days", help="How long the licence is asked for.")] = 365,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="More commitments to rows that are registered already.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Commit to a data set, prove its ranges, and write a signed licence request.

    Refuses a file, a commitment or a row that is in the register already. Copies across owners go undetected.

    \b
    Example:
      collegium data register hospital.csv --experiment heart.toml --key hospital.keys --terms terms.txt --out public
    """
    with exit_codes():
        from collegium.apps._data import HEADING, Request, print_registered, register_rows

        typer.echo(f"collegium {__version__}, {HEADING}", err=json)
        request = Request(
            file=file,
            experiment=experiment,
            key=key,
            terms=terms,
            register=register,
            out=empty_folder(out),
            now_s=int(time.time()),
            site=site,
            scaling=scaling,
            commitments=commitments,
            days=days,
            refresh=refresh,
        )
        with watch_events(json=json) as watcher:
            facts = register_rows(request, watcher)
        if json:
            print_json(facts)
        else:
            print_registered(facts)


@data.command("verify")
def data_verify(
    registration: Annotated[Path, typer.Argument(metavar="REGISTRATION", help="A registration.bin.")],
    licence: Annotated[Path | None, typer.Option("--licence", metavar="FILE", help="Its licence.json.")] = None,
    previous: Annotated[
        Path | None, typer.Option("--previous", metavar="FILE", help="The registration.bin that it continues.")
    ] = None,
    experiment: Annotated[
        Path | None, typer.Option("--experiment", metavar="CONFIG.toml", help="Compare schema, label and scaling.")
    ] = None,
    scaling: Annotated[
        Path | None, typer.Option("--scaling", metavar="STATE", help="A model state of a run: the opened scaling.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check what another owner registered: signature and proof, and say what no proof shows.

    \b
    Example:
      collegium data verify public/registration.bin --licence public/licence.json
    """
    with exit_codes():
        from collegium.apps._data import HEADING, check_published, print_checked

        typer.echo(f"collegium {__version__}, {HEADING}", err=json)
        checked = check_published(
            registration,
            now_s=int(time.time()),
            licence=licence,
            previous=previous,
            experiment=experiment,
            scaling=scaling,
        )
        if json:
            print_json(checked.to_mapping())
        else:
            print_checked(checked)
        if checked.failure is not None:
            raise typer.Exit(ExitCode.FAILED)
