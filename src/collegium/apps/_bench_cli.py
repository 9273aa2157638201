"""The commands of `collegium bench`: each measures one claim beside a peer, and prints its rows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from collegium import __version__
from collegium.apps._engine import engine_of
from collegium.apps._exit import JsonOption, exit_codes, print_json
from collegium.apps._run_cli import LEVEL, print_header

__all__ = ["register"]

bench = typer.Typer(
    help="Measure against a peer on this machine.\n\n\b\nExample:\n  collegium bench aggregation --quick",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(bench, name="bench")


@bench.command("aggregation")
def bench_aggregation(
    context: typer.Context,
    json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes only: seconds instead of minutes.")] = False,
) -> None:
    """Measure secure aggregation beside Flower's SecAgg+ on the same updates.

    \b
    Example:
      collegium bench aggregation --quick
      collegium bench aggregation --json > aggregation.json
    """
    with exit_codes():
        print_header(LEVEL, json=json)
        _show_rows(engine_of(context).aggregation_rows(quick=quick), json=json)


@bench.command("proofs")
def bench_proofs(
    context: typer.Context,
    json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes only.")] = False,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="NAME",
            help="One case: small, softmax, medium, large, 10k, 100k or 1M.",
            show_default="all",
        ),
    ] = None,
    ezkl_seconds: Annotated[
        float, typer.Option("--ezkl-seconds", metavar="S", min=0, help="EZKL is stopped after so long, on each size.")
    ] = 360,
) -> None:
    """Measure proofs of learning beside the same step in PyTorch and beside EZKL.

    \b
    Example:
      collegium bench proofs --quick
      collegium bench proofs --size medium --json > proofs.json
    """
    with exit_codes():
        typer.echo(f"collegium {__version__}", err=json)
        _show_rows(engine_of(context).proof_rows(quick=quick, size=size, ezkl_seconds=ezkl_seconds), json=json)


@bench.command("consensus")
def bench_consensus(
    context: typer.Context,
    json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes only: about a minute.")] = False,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="NAME", help="One part: decision, round or shards.", show_default="all"),
    ] = None,
) -> None:
    """Measure one decision beside all-to-all voting, a whole round's critical path, and a round of 10,000 trainers.

    \b
    Example:
      collegium bench consensus --quick
      collegium bench consensus --part round --json > round.json
    """
    with exit_codes():
        typer.echo(f"collegium {__version__}", err=json)
        _show_rows(engine_of(context).consensus_rows(quick=quick, part=part), json=json)


@bench.command("quality")
def bench_quality(
    context: typer.Context,
    json: JsonOption = False,
    whole: Annotated[bool, typer.Option("--whole", help="All shares, rules and seeds: hours.")] = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="NAME",
            help="One part: rounds, attacks, turning, lazy, honest, sybils, market, triggers or worth.",
            show_default="all",
        ),
    ] = None,
    attack: Annotated[
        Path | None,
        typer.Option("--attack", metavar="FILE", help="Only the attack that this TOML file describes."),
    ] = None,
) -> None:
    """Measure what attacks do to a model under our rule, beside byzfl's robust rules that see every update.

    \b
    Example:
      collegium bench quality
      collegium bench quality --part lazy --json > lazy.json
      collegium bench quality --attack attack.toml
    """
    with exit_codes():
        typer.echo(f"collegium {__version__}", err=json)
        _show_rows(engine_of(context).quality_rows(whole=whole, part=part, attack=attack), json=json)


@bench.command("cohort")
def bench_cohort(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.toml]", help="An experiment with stewards.", show_default="the demo's"),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, max=10_000, help="Runs: of the seeds from 0 on.")
    ] = 200,
    honest: Annotated[bool, typer.Option("--honest", help="Without the experiment's attackers.")] = False,
) -> None:
    """Count what stewards do to the trainers of an experiment, in many runs whose rounds fold as real ones, unproved.

    \b
    Example:
      collegium bench cohort
      collegium bench cohort trial/demo.toml --seeds 20 --honest
    """
    with exit_codes():
        from collegium.apps._bench_cohort import cohort_lines
        from collegium.node import load_experiment

        typer.echo(f"collegium {__version__}", err=True)
        experiment = load_experiment(engine_of(context).demo_config() if config is None else config)
        for line in cohort_lines(experiment, seeds, honest=honest):
            typer.echo(line)


@bench.command("settlement")
def bench_settlement(
    context: typer.Context,
    json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Small committees only: seconds instead of a minute.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="A node to measure on; the account whose key is in COLLEGIUM_CHAIN_KEY pays.",
            show_default="the embedded chain",
        ),
    ] = None,
) -> None:
    """Measure gas and bytes a round beside storage, calldata, blobs and ECDSA, and a decision's energy.

    \b
    Example:
      collegium bench settlement --quick
      collegium bench settlement --json > settlement.json
    """
    with exit_codes():
        typer.echo(f"collegium {__version__}", err=json)
        _show_rows(engine_of(context).settlement_rows(quick=quick, url=url), json=json)


_BENCH_HEADINGS: Final = ("name", "case", "ours", "peer", "ratio", "unit")


def _show_rows(found: Iterable[Mapping[str, Any]], *, json: bool) -> None:
    """Print a benchmark's rows once all of them are there: a table, or one JSON array."""
    rows = [dict(row) for row in found]
    if json:
        print_json(rows)
    else:
        _print_rows(rows)


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(*_BENCH_HEADINGS, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:5]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(_cell(row.get(heading)) for heading in _BENCH_HEADINGS))
    console = Console(file=sys.stdout, markup=False, highlight=False)
    console.print(table, soft_wrap=not console.is_terminal)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
