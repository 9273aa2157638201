"""`collegium rewards`: what a run's trainers are due, and the claims."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collegium.apps._exit import JsonOption, UsageError, chain_account, exit_codes, print_json
from collegium.apps._printable import printable

if TYPE_CHECKING:
    from collegium.node import DueList, PaidRun

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rewards)


def rewards(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that pays its trainers.")],
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask this node instead of the run's.")] = None,
    claim: Annotated[
        bool, typer.Option("--claim", help="Claim what is open, and have it sent to whom it is due; an account pays.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print what a run's trainers are due; with --claim, have it paid.

    What is printed is the run's record, and what its node holds of it: `collegium verify` says whether it is right. The
    account that pays for claims is that of the key in COLLEGIUM_CHAIN_KEY; the coin goes to those to whom it is due.

    \b
    Example:
      collegium rewards runs/hospitals
      collegium rewards runs/hospitals --claim
    """
    with exit_codes():
        from collegium import node

        if not run.is_dir():
            raise UsageError(f"{run} is no folder, expected the folder of a run", path=run)
        account = chain_account("--claim") if claim else None
        paid, now_s = node.load_dues(run, url), None
        if paid.url is not None or claim:
            try:
                chain = paid.node
                paid, now_s = node.read_dues(paid, chain), chain.timestamp_s()
                if account is not None:
                    node.claim_dues(paid, chain, account, lambda line: typer.echo(printable(line), err=json))
                    paid = node.read_dues(paid, chain)
            except node.CHAIN_FAILURES as error:
                raise node.WorldError(str(error)) from error
        if json:
            print_json({"lists": [_list_object(paid, entry, now_s) for entry in paid.lists]})
            return
        for entry in paid.lists:
            _print_list(paid, entry, now_s)


def _print_list(run: "PaidRun", entry: "DueList", now_s: int | None) -> None:
    rounds, total = entry.checkpoint, sum(due.amount for due in entry.dues)
    typer.echo(f"rounds {rounds.first_round}-{rounds.last_round}: {total} wei, {_state(entry, now_s)}")
    for line, due in enumerate(entry.dues):
        licence = f", licence {due.licence}" if due.licence else ""
        claimed = ", claimed" if line in entry.claimed else ""
        name = run.name_of(due) or "unknown"
        typer.echo(printable(f"  {due.amount} wei to 0x{due.account.hex()} ({name}{licence}){claimed}"))


def _state(entry: "DueList", now_s: int | None) -> str:
    if now_s is None:
        return "on the chain of the run's own process, which ended with it"
    if entry.held is None:
        return entry.state(now_s)
    opens, closes = (_time(at) for at in (entry.held.opens_at_s, entry.held.closes_at_s))
    return f"{entry.state(now_s)}: from {opens} until {closes}"


def _time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _list_object(run: "PaidRun", entry: "DueList", now_s: int | None) -> dict[str, Any]:
    held = entry.held
    return {
        "first_round": entry.checkpoint.first_round,
        "last_round": entry.checkpoint.last_round,
        "number": entry.number,
        "state": None if now_s is None else entry.state(now_s),
        "opens_at_s": None if held is None else held.opens_at_s,
        "closes_at_s": None if held is None else held.closes_at_s,
        "lines": [
            {
                "account": due.account.hex(),
                "name": run.name_of(due),
                "amount": due.amount,
                "licence": due.licence or None,
                "claimed": None if now_s is None else line in entry.claimed,
            }
            for line, due in enumerate(entry.dues)
        ],
    }
