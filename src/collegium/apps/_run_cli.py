"""`collegium demo`, `run` and `verify`: play an experiment in this process, and check a run from its files."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from collegium import __version__
from collegium.apps._engine import Engine, Summary, engine_of
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
    from collegium.node import Event, Experiment, Verification

__all__ = ["LEVEL", "print_header", "register", "run_folder", "show_and_verify", "watch_events"]

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


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (demo, run, verify):
        app.command()(command)


def demo(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="Folder for the run, new or empty.", show_default="runs/demo-N"),
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


def _run_and_verify(engine: Engine, experiment: Experiment, folder: Path, *, json: bool) -> None:
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


def _verify(engine: Engine, folder: Path, anchor: str | None, on_event: Callable[[Event], None]) -> Verification:
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


def watch_events(*, json: bool) -> Watcher:
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


def _print_verification(verification: Verification) -> None:
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


def _verification_object(verification: Verification) -> dict[str, Any]:
    return {
        "level": verification.summary.get("level"),
        "ok": verification.ok,
        "anchored": verification.anchored,
        "checks": list(verification.checks),
        "unchecked": list(verification.unchecked),
        "failure": verification.failure,
        "summary": verification.summary,
    }
