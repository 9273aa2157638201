"""`collegium simulate`: play simulated consortia until one fails, and show that broken protocols do."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from collegium.apps._exit import ExitCode, exit_codes, print_json
from collegium.errors import CollegiumError

__all__ = ["register", "simulate"]

SIZE_LEAST, SIZE_MOST = 1, 10


class SizeRangeError(CollegiumError):
    """A range of sizes that no epoch set of a simulated world can have."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("simulate")(simulate)


def simulate(
    schedules: Annotated[int, typer.Option("--schedules", min=1, help="How many seeds to play.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first one.")] = 0,
    size: Annotated[str, typer.Option("--size", metavar="LEAST-MOST", help="Validators of a world.")] = "4-7",
    replay: Annotated[int | None, typer.Option("--replay", metavar="SEED", min=0, help="Play one seed alone.")] = None,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Break the protocol on purpose; each must be caught.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="How many at once.", show_default="as many as cores")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Play the consortium's own nodes on a simulated network, with crashes, partitions and liars, and check every step.

    One seed is one history on every machine. Ends with code 1 if anything failed; a failing seed is printed with its
    cause and the command that plays it again.

    \b
    Example:
      collegium simulate --schedules 2000 --seed 1
      collegium simulate --replay 17
      collegium simulate --mutants
    """
    with exit_codes():
        sizes = _sizes(size)
        if mutants:
            good = _mutants(json=json)
        elif replay is not None:
            good = _replay(replay, sizes, json=json)
        else:
            good = _schedules(schedules, seed, sizes, size, processes, json=json)
    if not good:
        raise typer.Exit(ExitCode.FAILED)


def _sizes(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    if not (least.isdecimal() and (most or least).isdecimal()):
        raise SizeRangeError(f"--size {text}: expected a number or two, such as 4-7", size=text)
    sizes = int(least), int(most or least)
    if not SIZE_LEAST <= sizes[0] <= sizes[1] <= SIZE_MOST:
        raise SizeRangeError(f"--size {text}: expected {SIZE_LEAST} to {SIZE_MOST}, the smaller one first", size=text)
    return sizes


def _schedules(count: int, seed: int, sizes: tuple[int, int], size: str, processes: int | None, *, json: bool) -> bool:
    from collegium.node import Workers, play_schedules

    began = time.perf_counter()
    console = Console(stderr=True)
    with console.status(f"0 of {count} schedules") as status:
        found = play_schedules(
            count,
            seed,
            sizes,
            processes or Workers().count,
            lambda done: status.update(f"{done} of {count} schedules"),
        )
    seconds = time.perf_counter() - began
    figures = {
        "schedules": found.worlds,
        "with real keys": found.real,
        "with real masking": found.masked,
        **found.totals,
    }
    figures |= {f"rounds {name}": number for name, number in sorted(found.outcomes.items())}
    figures |= {f"evidence {name}": number for name, number in sorted(found.evidence.items())}
    failures = [
        {"seed": book.seed, "cause": book.failure, "replay": f"collegium simulate --replay {book.seed} --size {size}"}
        for book in found.failures
    ]
    if json:
        print_json({"figures": figures, "seconds": round(seconds, 1), "failures": failures})
        return not failures
    table = Table("what happened", "count", title=f"seeds {seed} to {seed + count - 1}")
    for name, number in figures.items():
        table.add_row(name, f"{number:,}")
    Console().print(table)
    for failure in failures:
        typer.echo(f"seed {failure['seed']}: {failure['cause']}\n  {failure['replay']}")
    typer.echo(f"{len(failures)} of {count} schedules failed; {seconds:.0f} s")
    return not failures


def _replay(seed: int, sizes: tuple[int, int], *, json: bool) -> bool:
    from collegium.node import play_seed

    book = play_seed(seed, sizes)
    plan = book.plan
    facts = {
        "seed": seed,
        "digest": book.digest,
        "validators": list(plan.validators),
        "trainers": list(plan.trainers),
        "real keys": plan.real,
        "steps": book.steps,
        "messages": book.messages,
        "crashes": book.crashes,
        "partitions": book.splits,
        "views": book.views,
        "rounds": dict(book.outcomes),
        "handovers": book.handovers,
        "changes put off": book.put_off,
        "beyond the premise": book.beyond,
        "stale reports admitted": book.stale,
        "records ordered": book.records,
        "evidence": dict(book.evidence),
        "virtual ms": book.virtual_ms,
        "failure": book.failure,
    }
    if json:
        print_json(facts)
    else:
        for name, value in facts.items():
            typer.echo(f"{name}: {value}")
    return not book.failure


def _mutants(*, json: bool) -> bool:
    from collegium.node import try_mutants

    rows = list(try_mutants())
    good = all(row.caught and row.sound for row in rows)
    if json:
        print_json([{"mutant": row.name, "caught": row.cause, "sound": row.sound} for row in rows])
        return good
    table = Table("broken on purpose", "what is broken", "played by", "caught by", title="mutants")
    for row in rows:
        cause = row.cause if row.caught else "NOT CAUGHT"
        table.add_row(row.name, row.broken, row.scenario, cause if row.sound else f"{cause}; UNBROKEN FAILS TOO")
    Console().print(table)
    typer.echo(f"{sum(row.caught for row in rows)} of {len(rows)} mutants caught")
    return good
