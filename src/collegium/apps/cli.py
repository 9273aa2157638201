"""The command line: `collegium demo`, `run`, `verify`, `data`, `bench`; those of a network are in `_network_cli`.

Exit codes: 0 good; 1 a verification failed; 2 the user's error, one line each; 3 the network, the disk or the chain
failed; 70 our bug, with its traceback; 130 interrupted. With `--json` standard output holds one JSON object and nothing
else. What the commands do is done by `collegium.node`, imported when it is needed: `--help` must not wait for it.
"""

import gc
import importlib.resources
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from collegium import __version__
from collegium.apps import (
    _licences,
    _lineage,
    _member_cli,
    _network_cli,
    _offer_cli,
    _privacy_cli,
    _rewards_cli,
    _simulate,
    _status,
    _watch_cli,
)
from collegium.apps._exit import (
    ExitCode,
    JsonOption,
    UsageError,
    empty_folder,
    exit_codes,
    print_facts,
    print_json,
    print_lines,
)
from collegium.apps._printable import printable
from collegium.errors import CollegiumError

if TYPE_CHECKING:
    from collegium.apps._live import Watcher
    from collegium.apps._up import UpOptions
    from collegium.apps._up_view import NetworkView
    from collegium.node import Event, Experiment, Verification

__all__ = [
    "Engine",
    "ExitCode",
    "Summary",
    "app",
    "engine_of",
    "exit_codes",
    "main",
    "print_header",
    "run_folder",
    "show_and_verify",
    "watch_events",
]

Summary: TypeAlias = dict[str, Any]
"""What a run says about itself, as plain JSON values; the keys are those of the report page."""

LEVEL: Final = "unproved"
PROMISES: Final = {
    "unproved": "sums, votes and checkpoints can be checked; what a trainer computed is not proved",
    "bounded": "sums, votes and checkpoints can be checked; every update is proved to be in range, not to be training",
    "attested": "sums, votes and checkpoints can be checked; a hardware quote vouches for each update, no proof does",
    "proved": "sums, votes, checkpoints and each step of training can be checked; that the rows are real is not proved",
}
"""What each level promises, in one line."""
JOULES_PER_KWH: Final = 3_600_000
RUNS: Final = Path("runs")
RUNS_MAX: Final = 10_000


# What the commands call


def _run_experiment(experiment: "Experiment", out: Path, on_event: "Callable[[Event], None]") -> Summary:
    from collegium.apps._page import render_page
    from collegium.node import run_experiment

    return run_experiment(experiment, out, on_event, render_page)


def _verify_run(run: Path, anchor: str | None, on_event: "Callable[[Event], None]") -> "Verification":
    from collegium.apps._page import render_page
    from collegium.node import verify_run

    return verify_run(run, anchor, on_event, render_page)


def _up(experiment: "Experiment", out: Path, options: "UpOptions", view: "NetworkView") -> Mapping[str, Any]:
    from collegium.apps._page import render_page
    from collegium.apps._up import up
    from collegium.node import collect_run

    return up(experiment, out, options, view, partial(collect_run, render_page=render_page))


def _aggregation_rows(*, quick: bool) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench import aggregation_rows

    return aggregation_rows(quick=quick)


def _proof_rows(*, quick: bool, size: str | None, ezkl_seconds: float) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_proofs import proof_rows

    return proof_rows(quick=quick, size=size, ezkl_seconds=ezkl_seconds)


def _consensus_rows(*, quick: bool, part: str | None) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_consensus import consensus_rows

    return consensus_rows(quick=quick, part=part)


def _quality_rows(*, whole: bool, part: str | None, attack: Path | None) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_quality import quality_rows
    from collegium.learning import attack_from_file

    plan = None if attack is None else attack_from_file(attack)
    return quality_rows(whole=whole, part=part, attack=plan, config=_demo_file("demo.toml"))


def _settlement_rows(*, quick: bool, url: str | None) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_settlement import settlement_rows

    return settlement_rows(quick=quick, url=url)


def _demo_config() -> Path:
    return _demo_file("quality.toml")


def _demo_file(name: str) -> Path:
    return Path(str(importlib.resources.files("collegium.apps"))) / "demo" / name


@dataclass(frozen=True, slots=True)
class Engine:
    """What the commands call to do their work. Tests pass fakes as the context's object."""

    run: "Callable[[Experiment, Path, Callable[[Event], None]], Summary]" = _run_experiment
    verify: "Callable[[Path, str | None, Callable[[Event], None]], Verification]" = _verify_run
    aggregation_rows: Callable[..., Iterable[Mapping[str, Any]]] = _aggregation_rows
    proof_rows: Callable[..., Iterable[Mapping[str, Any]]] = _proof_rows
    consensus_rows: Callable[..., Iterable[Mapping[str, Any]]] = _consensus_rows
    quality_rows: Callable[..., Iterable[Mapping[str, Any]]] = _quality_rows
    settlement_rows: Callable[..., Iterable[Mapping[str, Any]]] = _settlement_rows
    demo_config: Callable[[], Path] = _demo_config
    up: "Callable[[Experiment, Path, UpOptions, NetworkView], Mapping[str, Any]]" = _up


def engine_of(context: typer.Context) -> Engine:
    """Return what a command calls to do its work."""
    return context.obj if isinstance(context.obj, Engine) else Engine()


# The commands

app = typer.Typer(
    name="collegium",
    help="Federated learning whose rounds are agreed by a consensus made for learning.\n\n"
    "\b\nExample:\n  collegium demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables, keys among them
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(
    help="Measure against a peer on this machine.\n\n\b\nExample:\n  collegium bench aggregation --quick",
    no_args_is_help=True,
)
app.add_typer(bench, name="bench")
data = typer.Typer(
    help="Register an owner's data, and check what others registered.\n\n"
    "\b\nExample:\n  collegium data verify public/registration.bin",
    no_args_is_help=True,
)
app.add_typer(data, name="data")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"collegium {__version__}")
        raise typer.Exit


@app.callback()
def collegium(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take the options that stand before a command; its help is the program's, above."""


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the run, new or empty.", show_default="runs/demo-N"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run the packaged experiment, write its report page, and verify the run.

    \b
    Example:
      collegium demo
      collegium demo --out runs/first --json
    """
    engine = engine_of(context)
    with exit_codes():
        from collegium.node import load_experiment

        experiment = load_experiment(engine.demo_config())
        folder = run_folder("demo") if out is None else empty_folder(out)
        _run_and_verify(engine, experiment, folder, json=json)


@app.command()
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The experiment, a TOML file.")],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder for the run, new or empty.")],
    json: JsonOption = False,
) -> None:
    """Run an experiment, write everything that verifying it needs, and verify it.

    \b
    Example:
      collegium run hospitals.toml --out runs/hospitals
    """
    engine = engine_of(context)
    with exit_codes():
        from collegium.node import load_experiment

        experiment = load_experiment(config)
        folder = empty_folder(out)
        _run_and_verify(engine, experiment, folder, json=json)


def _run_and_verify(engine: Engine, experiment: "Experiment", folder: Path, *, json: bool) -> None:
    """Run an experiment into `folder`, show its summary, verify what was written, and exit with 1 if that fails."""
    print_header(experiment.task.level, json=json)
    with watch_events(json=json) as watcher:
        summary = engine.run(experiment, folder, watcher)
    show_and_verify(engine, folder, summary, json=json)


def show_and_verify(engine: Engine, folder: Path, summary: Summary, *, json: bool) -> None:
    """Show a run's summary, verify what was written, and exit with 1 if that fails."""
    if not json:
        _print_summary(summary)
        typer.echo()
    anchor = summary.get("anchor")
    with watch_events(json=json) as watcher:
        verification = _verify(engine, folder, anchor, watcher)
    command = shlex.join(["collegium", "verify", str(folder), *(["--anchor", anchor] if anchor else [])])
    if json:
        print_json(summary | {"verified": verification.ok, "failure": verification.failure, "verify": command})
    else:
        _print_verification(verification)
        typer.echo(f"verify again: {command}")
    _exit_unless(verification.ok)


@app.command()
def verify(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="DIGEST", help="Digest of the task's start, from somebody you trust."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check a run from its files alone: certificates, sums, steps, scores and checkpoints.

    Ends with code 0 when everything holds, 1 when something does not, and names it.

    \b
    Example:
      collegium verify runs/demo-1
      collegium verify runs/demo-1 --anchor 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    engine = engine_of(context)
    with exit_codes():
        digest = None if anchor is None else _digest(anchor)
        if not run.is_dir():
            raise UsageError(f"{run} is no folder, expected the folder of a run", path=run)
        typer.echo(f"collegium {__version__}", err=json)
        with watch_events(json=json) as watcher:
            verification = _verify(engine, run, digest, watcher)
        if json:
            print_json(_verification_object(verification))
        else:
            _print_verification(verification)
        _exit_unless(verification.ok)


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
        _exit_unless(checked.failure is None)


_network_cli.register(app)
_status.register(app)
_lineage.register(app)
_licences.register(data)
_simulate.register(app)
_member_cli.register(app)
_watch_cli.register(app)
_offer_cli.register(app)
_rewards_cli.register(app)
_privacy_cli.register(app)


# Refusals


def _verify(engine: Engine, folder: Path, anchor: str | None, on_event: "Callable[[Event], None]") -> "Verification":
    """Return the verdict; what a verification refuses to read counts as failed, never as the user's error."""
    from collegium.node import Verification, WorldError

    try:
        return engine.verify(folder, anchor, on_event)
    except WorldError:
        raise
    except CollegiumError as error:
        return Verification(ok=False, anchored=False, checks=(), unchecked=(), failure=str(error), summary={})


def _exit_unless(ok: bool) -> None:
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def run_folder(name: str) -> Path:
    """Return a new folder for a run that was given none: the first of `runs/name-1`, `runs/name-2`, ..."""
    for number in range(1, RUNS_MAX):
        folder = RUNS / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{RUNS} holds {RUNS_MAX - 1} runs called {name}, expected room for one more; give --out")


def _digest(text: str) -> str:
    """Return a digest as 64 lower-case hexadecimal digits."""
    found = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{64})", text)
    if found is None:
        raise UsageError(f"--anchor is {text!r}, expected 64 hexadecimal digits", anchor=text)
    return found[1].lower()


# Printing


def watch_events(*, json: bool) -> "Watcher":
    """Return what shows events: on standard error where standard output holds one JSON object."""
    from collegium.apps._live import PlainLines, watch

    return PlainLines(sys.stderr) if json else watch(sys.stdout)


def print_header(level: str, *, json: bool) -> None:
    """Print version and level, and what the level promises."""
    typer.echo(f"collegium {__version__}, level: {level} ({PROMISES.get(level, PROMISES[LEVEL])})", err=json)


def _print_summary(summary: Mapping[str, Any]) -> None:
    """Print what a person wants to know of a run; what the summary lacks is left out."""
    print_facts((label, text) for label, text in _summary_facts(summary) if text)


def _summary_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    rounds: list[Mapping[str, Any]] = summary.get("rounds") or []
    checkpoints: list[Mapping[str, Any]] = summary.get("checkpoints") or []
    aucs = (("federated", "auc"), ("pooled", "auc_pooled"), ("float32", "auc_float32"))
    energy = _present(rounds, "energy_kwh")
    watts = summary.get("watts")
    clock = "on these machines" if summary.get("clock") == "real" else "in the virtual network"
    trained = sum(row.get("round") != 0 for row in rounds)
    return [
        ("task", f"{summary.get('name', 'unnamed')}, {trained} rounds, level {summary.get('level', LEVEL)}"),
        ("AUC", ", ".join(f"{name} {summary[key]:.4f}" for name, key in aucs if summary.get(key) is not None)),
        ("lying seats", _seats(summary.get("lying_seats"))),
        ("absent seats", _seats(summary.get("absent_seats"))),
        ("finality, median", _median(rounds, "finality_ms", f"ms {clock}")),
        ("coordination, median", _median(rounds, "coordination_ms", f"ms {clock}")),
        ("proof made, median", _median(rounds, "prove_ms", "ms a report")),
        ("proof verified, median", _median(rounds, "verify_ms", "ms a report")),
        ("base chain, median", _median(rounds, "chain_bytes", "bytes a round")),
        ("gas, median", _median(checkpoints, "gas", "a checkpoint")),
        ("energy, estimate", _energy(energy) + (f" at {watts} W a core" if energy and watts else "")),
        ("page", str(summary.get("page") or "")),
        ("anchor", str(summary.get("anchor") or "")),
    ]


def _present(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def _median(rows: Iterable[Mapping[str, Any]], key: str, unit: str) -> str:
    values = _present(rows, key)
    return f"{median(values):,.0f} {unit}" if values else ""


def _energy(kwh: Sequence[float]) -> str:
    if not kwh:
        return ""
    a_round = median(kwh)
    return f"{a_round * JOULES_PER_KWH:.3g} J = {a_round:.2e} kWh a round, trainers and seats together"


def _seats(seats: Sequence[int] | None) -> str:
    if seats is None:
        return ""
    return ", ".join(f"seat {seat}" for seat in seats) or "none"


def _print_verification(verification: "Verification") -> None:
    for check in verification.checks:
        typer.echo(f"holds: {printable(check)}")
    for check in verification.unchecked:
        typer.echo(f"not checked: {printable(check)}")
    level = str(verification.summary.get("level", ""))
    if level in PROMISES:
        typer.echo(f"level: {level} ({PROMISES[level]})")
    if not verification.ok:
        print_lines("verification failed", [verification.failure or "no reason given"])
    elif verification.anchored:
        typer.echo("verified, and it is the run that the anchor names")
    else:
        typer.echo("verified: self-consistent, not anchored; give --anchor DIGEST to know that it is the run you mean")


def _verification_object(verification: "Verification") -> dict[str, Any]:
    return {
        "level": verification.summary.get("level"),
        "ok": verification.ok,
        "anchored": verification.anchored,
        "checks": list(verification.checks),
        "unchecked": list(verification.unchecked),
        "failure": verification.failure,
        "summary": verification.summary,
    }


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


# The process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never a traceback for what is not our bug."""
    gc.set_threshold(10_000)  # by default every 700 new objects: a fifth of the time that imports take
    try:
        code = app(args=arguments, prog_name="collegium", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        print_lines("error", ["interrupted"])
        code = ExitCode.INTERRUPTED
    except Exception as error:
        code = _usage_or_bug(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away; Python must not try again while it shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else ExitCode.GOOD


def _usage_or_bug(error: Exception) -> int:
    describe = getattr(error, "format_message", None)  # Click's errors have it, wherever Typer keeps their class
    if describe is None:
        traceback.print_exception(error)
        return ExitCode.BUG
    message = describe()
    print_lines("error", [message] if message else [])  # empty where the help was shown instead
    return ExitCode.USER


if __name__ == "__main__":
    sys.exit(main())
