"""`collegium watch`: recompute what the checkpoints of a run say, and dispute at the base chain what does not hold."""

from pathlib import Path
from typing import Annotated

import typer

from collegium.apps._exit import ExitCode, UsageError, address_in, chain_account, exit_codes, expect_run
from collegium.apps._printable import printable

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that settled on a node.")],
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask this node instead of the run's.")] = None,
    chain: Annotated[
        int,
        typer.Option("--chain", metavar="NUMBER", min=0, help="Watch this chain that follows; 0: the home."),
    ] = 0,
    dispute: Annotated[
        bool, typer.Option("--challenge", help="Dispute the first header that does not hold; an account pays.")
    ] = False,
    demand: Annotated[
        bool,
        typer.Option(
            "--demand", help="With --challenge: what the folder lacks is withheld; dispute it, and demand it."
        ),
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again until every round of the folder is settled.")
    ] = False,
    defend: Annotated[
        bool,
        typer.Option("--defend", help="Stand up for headers that hold, until every checkpoint is final; it pays."),
    ] = False,
    court: Annotated[
        str | None,
        typer.Option(
            "--court",
            metavar="ADDRESS",
            help="Address of a contract Disputes, or Dissections, other than the run's own.",
        ),
    ] = None,
) -> None:
    """Recompute what every header under a checkpoint says; with --challenge, dispute what does not hold.

    Ends with code 0 when every header is right, 1 when one is wrong. The account that pays is that of the key in
    COLLEGIUM_CHAIN_KEY. A dispute takes as long as those who stand up for the header may: days. When a header has
    fallen, the stakes of all whose own vote for it is known are taken, and a tenth of that is the challenger's.
    Whoever was killed in the middle starts the same command again.

    \b
    Example:
      collegium watch runs/hospitals
      collegium watch runs/hospitals --challenge --follow
      collegium watch runs/hospitals --challenge --demand
      collegium watch runs/hospitals --defend
      collegium watch runs/hospitals --challenge --chain 10143
    """
    with exit_codes():
        from collegium import node

        expect_run(run)
        if demand and not dispute:
            raise UsageError("--demand says what to dispute: it needs --challenge")
        address = None if court is None else address_in("--court", court)
        account = chain_account("--challenge or --defend") if dispute or defend else None
        watched = node.load_watched(run, url, chain)
        player = None if account is None else node.Player(account, _say)
        rooms = [] if player is None else node.courtrooms(watched, address)
        plan = node.WatchPlan(challenge=dispute, demand=demand, follow=follow, defend=defend)
        if node.watch_run(watched, rooms, plan, player, _say) is not None:
            raise typer.Exit(ExitCode.FAILED)
        _say("every header is what its public work gives")


def _say(line: str) -> None:
    typer.echo(printable(line))
