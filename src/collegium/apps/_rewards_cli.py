"""`collegium rewards`: what a run's trainers are due, and the claims."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collegium.apps._exit import JsonOption, chain_account, exit_codes, expect_run, print_json
from collegium.apps._printable import printable

if TYPE_CHECKING:
    from collegium.node import PaidRun

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rewards)


def rewards(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that pays its trainers.")],
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask this node instead of the run's.")] = None,
    chain: Annotated[
        int,
        typer.Option("--chain", metavar="NUMBER", min=0, help="What is paid on this chain that follows; 0: at home."),
    ] = 0,
    claim: Annotated[
        bool, typer.Option("--claim", help="Do what is due until it is paid, and have it sent; an account pays.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print what a run's trainers have earned; with --claim, have it paid.

    --claim begins the time in which each checkpoint's rounds can be disputed, has the contract take over what their
    headers say when it is over, and claims every line. Say it again later: what is done stays done.

    What is printed is the run's record, and what its node holds of it: `collegium verify` says whether it is right. The
    account that pays for it is that of the key in COLLEGIUM_CHAIN_KEY; the coin goes to those to whom it is due.

    \b
    Example:
      collegium rewards runs/hospitals
      collegium rewards runs/hospitals --claim
      collegium rewards runs/hospitals --claim --chain 10143
    """
    with exit_codes():
        from collegium import node

        expect_run(run)
        account = chain_account("--claim") if claim else None
        paid, now_s = node.load_dues(run, url, chain), None
        if paid.url is not None or claim:
            try:
                asked = paid.node
                paid, now_s = node.read_dues(paid, asked), asked.timestamp_s()
                if account is not None:
                    node.claim_dues(paid, asked, account, lambda line: typer.echo(printable(line), err=json))
                    paid = node.read_dues(paid, asked)
            except node.CHAIN_FAILURES as error:
                raise node.WorldError(str(error)) from error
        if json:
            print_json(_object(paid, now_s))
            return
        _print(paid, now_s)


def _print(run: "PaidRun", now_s: int | None) -> None:
    last = len(run.headers) - 1
    typer.echo(f"rounds 0-{last}: {sum(line.due.amount for line in run.lines)} wei, {_state(run, now_s)}")
    for line in run.lines:
        if line.due.chain != run.chain:
            typer.echo(printable(f"  {line.due.amount} wei to {line.name}: on {_chain_name(line.due.chain)}"))
            continue
        licence = f", licence {line.due.licence}" if line.due.licence else ""
        claimed = f", {line.paid} claimed of {line.open} that are open" if now_s is not None else ""
        said = f"  {line.due.amount} wei to 0x{line.due.account.hex()} ({line.name}{licence}){claimed}"
        typer.echo(printable(said))


def _chain_name(number: int) -> str:
    return f"chain {number}, see --chain {number}" if number else "the home chain"


def _state(run: "PaidRun", now_s: int | None) -> str:
    if now_s is None or run.held is None:
        return "on the chain of the run's own process, which ended with it"
    if run.held.next_round is None:
        return "of which the chain has taken over none"
    return f"of which the chain has taken over rounds 0-{run.held.next_round - 1}"


def _object(run: "PaidRun", now_s: int | None) -> dict[str, Any]:
    held = run.held
    return {
        "last_round": len(run.headers) - 1,
        "taken_over": None if held is None or held.next_round is None else held.next_round - 1,
        "free": None if held is None else held.free,
        "spent": None if held is None else held.spent,
        "lines": [
            {
                "account": line.due.account.hex(),
                "name": line.name,
                "amount": line.due.amount,
                "licence": line.due.licence or None,
                "chain": line.due.chain or None,
                "open": line.open,
                "claimed": line.paid,
            }
            for line in run.lines
        ],
    }
