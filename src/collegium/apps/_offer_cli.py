"""`collegium offer`: a claim about a run's header to whoever checks it, wrong on purpose so that checking pays."""

from pathlib import Path
from typing import Annotated

import typer

from collegium.apps._exit import address_in, chain_account, exit_codes, expect_run
from collegium.apps._printable import printable

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(offer)


def offer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that settled on a node.")],
    wrong: Annotated[bool, typer.Option("--wrong", help="Claim what is not so: who finds that out is paid.")] = False,
    number: Annotated[
        int | None,
        typer.Option("--round", metavar="NUMBER", min=0, help="Of this round's header; else one is drawn."),
    ] = None,
    work: Annotated[
        str | None, typer.Option("--work", metavar="NAME", help="About this kind of work; else one is drawn.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask this node instead of the run's.")] = None,
    court: Annotated[
        str | None,
        typer.Option("--court", metavar="ADDRESS", help="Address of a contract Dissections other than the run's own."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say about what a claim would be offered, and its bond; send nothing.")
    ] = False,
) -> None:
    """Offer a claim about what one program does on one header, under a bond, to whoever checks it.

    Watchers with --challenge run the program themselves: a right claim they leave alone, and its bond comes back when
    the time of the offer is over. With --wrong the claim is wrong, and half of the bond goes to whoever shows that, the
    rest burns. No verdict about the header follows. The account that pays is that of the key in COLLEGIUM_CHAIN_KEY.
    Whoever was killed in the middle starts the same command again.

    \b
    Example:
      collegium offer runs/hospitals --wrong
      collegium offer runs/hospitals --wrong --round 2 --work opening
      collegium offer runs/hospitals --dry-run
    """
    with exit_codes():
        from collegium import node

        expect_run(run)
        address = None if court is None else address_in("--court", court)
        account = None if dry_run else chain_account("offer")
        watched = node.load_watched(run, url)
        rooms, plan = node.courtrooms(watched, address), node.OfferPlan(wrong, number, work)
        if account is None:
            room, chosen = node.choose_offer(watched, rooms, plan)
            bond = room.court.terms.bond_wei
            _say(f"a claim about round {chosen.place.round}, {chosen.name}, would be offered: {bond} wei")
            return
        node.offer_claim(watched, rooms, plan, node.Player(account, _say))


def _say(line: str) -> None:
    typer.echo(printable(line))
