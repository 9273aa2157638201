"""The commands of a network: `init` makes a consortium's folder, five run one member each, `up` runs all of it here.

`collect` gathers the run of one whose members were started by themselves.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from collegium import __version__
from collegium.apps._engine import engine_of
from collegium.apps._exit import ExitCode, JsonOption, UsageError, empty_folder, exit_codes, print_facts, print_json
from collegium.apps._run_cli import print_header, run_folder, show_and_verify, watch_events

if TYPE_CHECKING:
    from collegium.node import Consortium, Experiment, RelayPlan, Role

__all__ = ["register"]

ROUNDS_MAX: Final = 10_000
WEI_PER_GWEI: Final = 10**9
WEI_PER_COIN: Final = 10**18

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The experiment, a TOML file.")]
MemberOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="The member's settings, a TOML file.")]
PortsOption = Annotated[
    bool, typer.Option("--force-free-ports", help="Take any free ports where those of network.port are in use.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(init)
    app.command()(up)
    app.command()(collect)
    for command in (validator, trainer, steward, evaluator, relayer):
        app.command()(command)


def init(
    config: ConfigArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The consortium's folder, new or empty.")],
    force_free_ports: PortsOption = False,
    json: JsonOption = False,
) -> None:
    """Make a consortium's folder on this machine: genesis, certificates, and a folder for every member.

    This machine then knows every key. For organisations that do not trust one machine see docs/guide/network.md.

    \b
    Example:
      collegium init hospitals.toml --out consortium
      collegium validator --config consortium/validators/00/config.toml
    """
    with exit_codes():
        from collegium.node import found_consortium, load_experiment

        typer.echo(f"collegium {__version__}", err=json)
        experiment = load_experiment(config)
        with watch_events(json=json) as watcher:
            consortium = found_consortium(
                experiment, out, watcher, datetime.now(UTC), force_free_ports=force_free_ports
            )
        if json:
            print_json(_founded_object(consortium))
        else:
            _print_founded(consortium)


def up(
    context: typer.Context,
    config: ConfigArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="Folder for the run, new or empty.", show_default="runs/NAME-N"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=ROUNDS_MAX, help="Instead of the experiment's own number.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="The consortium's folder: made where it is missing, gone on with where it is not.",
            show_default="a temporary one",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the temporary folder, keys and logs, at the end.")
    ] = False,
    force_free_ports: PortsOption = False,
    json: JsonOption = False,
) -> None:
    """Run an experiment as a network of processes on this machine, show it live, and verify its run.

    Whoever dies is started again; try `kill -9` with one of the pids that are shown. Ctrl-C stops all; with --folder
    the same command goes on later.

    \b
    Example:
      collegium up hospitals.toml
      collegium up hospitals.toml --rounds 5 --folder consortium --out runs/network
    """
    with exit_codes():
        from collegium.apps._up import UpOptions
        from collegium.apps._up_view import PlainNetwork, network_view
        from collegium.node import load_experiment

        engine = engine_of(context)
        experiment = load_experiment(config)
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"--folder {folder} is a file, expected a consortium's folder or none", path=folder)
        if rounds is not None:
            experiment = replace(experiment, task=replace(experiment.task, rounds=rounds))
        run = run_folder(_slug(experiment)) if out is None else empty_folder(out)
        print_header(experiment.task.level, json=json)
        options = UpOptions(folder=folder, keep=keep, force_free_ports=force_free_ports)
        try:
            with PlainNetwork(sys.stderr) if json else network_view(sys.stdout) as view:
                summary = engine.up(experiment, run, options, view)
        finally:
            _remove_if_empty(run)
        show_and_verify(engine, run, {**summary, "clock": "real"}, json=json)


def collect(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The operator's own folder, or a whole consortium's.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder for the run, new or empty.")],
    json: JsonOption = False,
) -> None:
    """Gather a finished network's run from its validators into a folder that anybody can verify, and verify it.

    Trainers, evaluator and relayer have ended, validators still serve. Needs the operator's key, the relayer's record
    and the evaluator's file: what `collegium up` does at its end, for a network whose members started by themselves.

    \b
    Example:
      collegium collect mine --out runs/hospitals
      collegium collect consortium --out runs/hospitals
    """
    with exit_codes():
        from collegium.apps._page import render_page
        from collegium.node import collect_run, experiment_from_bytes, open_operated

        consortium = open_operated(folder)
        experiment = experiment_from_bytes(consortium.genesis.experiment, folder)
        run = empty_folder(out)
        print_header(experiment.task.level, json=json)
        try:
            summary = collect_run(consortium, experiment, run, render_page)
        finally:
            _remove_if_empty(run)
        show_and_verify(engine_of(context), run, {**summary, "clock": "real"}, json=json)


def validator(config: MemberOption) -> None:
    """Run a validator: it agrees on rounds, verifies reports, and opens sums with the others.

    Ends with code 0 after SIGTERM or Ctrl-C. It may be killed at any moment: started again, it goes on.

    \b
    Example:
      collegium validator --config consortium/validators/00/config.toml
    """
    _serve(config, "validator")


def trainer(config: MemberOption) -> None:
    """Run a trainer: it learns from its own rows, which never leave it, and hands in sealed reports.

    Ends with code 0 when all rounds are over, or after SIGTERM or Ctrl-C.

    \b
    Example:
      collegium trainer --config consortium/trainers/00/config.toml
    """
    _serve(config, "trainer")


def steward(config: MemberOption) -> None:
    """Run a steward: in each round it says in which direction its hidden rows would move the model.

    Ends with code 0 when all rounds are over, or after SIGTERM or Ctrl-C. Killed and
    started again, it sends the record again that it has signed for the round.

    \b
    Example:
      collegium steward --config consortium/stewards/00/config.toml
    """
    _serve(config, "steward")


def evaluator(config: MemberOption) -> None:
    """Run the evaluator: it evaluates every model on its test rows and signs what it finds.

    Ends with code 0 when all rounds are over, or after SIGTERM or Ctrl-C.

    \b
    Example:
      collegium evaluator --config consortium/evaluator/config.toml
    """
    _serve(config, "evaluator")


def relayer(
    config: MemberOption,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be sent next to each chain and what it costs; send nothing."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON array.")] = False,
) -> None:
    """Run the relayer: it gathers the validators' signatures and posts checkpoints to the base chains.

    Ends with code 0 when the last checkpoint is posted, or after SIGTERM or Ctrl-C.

    \b
    Example:
      collegium relayer --config consortium/relayer/config.toml
      collegium relayer --config consortium/relayer/config.toml --dry-run
    """
    if dry_run:
        _plan(config, json=json)
    else:
        _serve(config, "relayer")


def _plan(config: Path, *, json: bool) -> None:
    """Print what a relayer would send."""
    with exit_codes():
        from collegium.node import RelayerSettings, expect_role, load_settings, plan_relay

        settings = load_settings(config)
        expect_role(settings, "relayer", config)
        plans = asyncio.run(plan_relay(settings)) if isinstance(settings, RelayerSettings) else []
        if json:
            print_json([{**asdict(plan), "cost_max_wei": plan.cost_max_wei} for plan in plans])
        else:
            for plan in plans:
                typer.echo(_plan_line(plan))


def _plan_line(plan: RelayPlan) -> str:
    """Return one line on one chain."""
    name = f"{'home' if plan.chain == 0 else f'chain {plan.chain}'}, {plan.url or 'embedded'}"
    if not plan.step:
        return f"{name}: nothing to send"
    more = f"; {plan.behind} more after it" if plan.behind else ""
    if plan.problem or plan.fees is None:
        return f"{name}: the {plan.step} is due and would not be sent: {plan.problem}{more}"
    price, cost = plan.fees.gas_price_max / WEI_PER_GWEI, plan.cost_max_wei / WEI_PER_COIN
    return (
        f"{name}: would send the {plan.step}: {plan.calldata_bytes} bytes, at most {plan.gas_max:,} gas at "
        f"{price:,.3g} gwei, together at most {cost:.6f} of the chain's coin{more}"
    )


def _serve(config: Path, role: Role) -> None:
    """Run a member and end with its exit code; what it says goes to its log."""
    from collegium.apps._member import serve

    code = serve(config, role)
    if code != ExitCode.GOOD:
        raise typer.Exit(code)


def _slug(experiment: Experiment) -> str:
    """Return the experiment's name as part of a folder's."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in experiment.task.name)
    return name.strip("-") or "network"


def _remove_if_empty(run: Path) -> None:
    """Remove a run's folder into which nothing was written."""
    if run.is_dir() and not any(run.iterdir()):
        run.rmdir()


def _founded_object(consortium: Consortium) -> dict[str, Any]:
    return {
        "folder": str(consortium.folder),
        "anchor": consortium.genesis.anchor.hex(),
        "members": [
            {"role": member.role, "name": member.name, "config": str(consortium.config(member))}
            for member in consortium.members
        ],
    }


def _print_founded(consortium: Consortium) -> None:
    """Print where everything is, and the command that starts each kind of member."""
    counts = Counter(member.role for member in consortium.members)
    facts = [
        ("anchor", consortium.genesis.anchor.hex()),
        ("public", str(consortium.folder / "genesis.json")),
        ("authority", f"{consortium.folder / 'authority'}: keep its key away from every member"),
    ]
    for role, count in counts.items():
        first = next(member for member in consortium.members if member.role == role)
        line = f"collegium {role} --config {consortium.config(first)}"
        facts.append((f"{count} {role}{'s' if count > 1 else ''}", line))
    print_facts(facts)
