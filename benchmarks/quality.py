"""What attacks leave of a model, rule by rule: the claim of `collegium bench quality`, from a checkout.

Usage: python benchmarks/quality.py [--whole] [--part NAME] [--attack FILE]
       python benchmarks/quality.py --markdown ROWS.json...    the rows that --json printed, as the guide's tables

Prints machine, versions, load, and for each case medians and ranges, with its targets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from collegium.apps.cli import main

Row = dict[str, Any]


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of rules for every data set and every share of attackers, then one of all other rows."""
    played = [row for row in rows if "influence" in row]
    if played:
        yield from rounds_table(played)
    attacked = [row for row in rows if "rules" in row and "influence" not in row]
    groups = dict.fromkeys((row["case"], "success" in row["name"]) for row in attacked)
    for case, success in groups:
        chosen = [row for row in attacked if (row["case"], "success" in row["name"]) == (case, success)]
        names = ["ours", "mean", *(name for name in chosen[0]["rules"] if name not in ("ours", "mean"))]
        title = f"{case}: success of the trigger" if success else case
        yield f"| {title} | {' | '.join(names)} | the honest alone | lost, most | |"
        yield "|---" * (len(names) + 4) + "|"
        for row in chosen:
            cells = [f"{row['rules'][name][0]:.3f}" for name in names]
            least, most = row["rules"]["ours"][1:]
            cells[0] += f" ({least:.3f}-{most:.3f})"
            alone, lost = (f"{row[name]:.3f}" if name in row else "-" for name in ("alone", "lost"))
            name = row["name"].removesuffix(": success")
            yield f"| {name} | {' | '.join(cells)} | {alone} | {lost} | {verdict(row)} |"
        yield ""
    yield "| case | what | ours | |"
    yield "|---|---|---:|---|"
    for row in rows:
        if "rules" not in row and row["ours"] is not None and not row["name"].startswith("rounds: "):
            yield f"| {row['case']} | {row['name']} | {row['ours']:.3g} | {row['unit']} |"


def rounds_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of attackers that choose their rows: worth by rule, then what they and the honest come to."""
    names = ("as rounds do it", "attackers", "ours", "no lag", "mean", "the honest alone", "lost, most", "")
    yield f"| {' | '.join((*names, 'their weight', 'their pay', 'honest locked', 'honest without weight'))} |"
    yield "|---" * 12 + "|"
    for row in rows:
        ours, least, most = row["rules"]["ours"]
        cells = [
            f"{ours:.3f} ({least:.3f}-{most:.3f})",
            *(f"{row['rules'][name][0]:.3f}" for name in ("ours, no lag", "mean")),
        ]
        cells += [f"{row[name]:.3f}" if name in row else "-" for name in ("alone", "lost")]
        cells.append(verdict(row))
        nobody = row["name"].endswith("no attackers")
        cells += ["-" if nobody else f"{row[name]:.3f}" for name in ("influence", "pay")]
        cells += [f"{row[name]:.3f}" for name in ("locked", "unheard")]
        yield f"| {row['case']} | {row['name'].removeprefix('rounds: ')} | {' | '.join(cells)} |"
    yield ""


def verdict(row: Row) -> str:
    """Return whether the row's target is met, in a word."""
    return {True: "met", False: "missed", None: ""}[row.get("met")]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--markdown"]:
        found = [row for path in sys.argv[2:] for row in json.loads(Path(path).read_text())]
        print("\n".join(markdown(found)))
    else:
        sys.exit(main(["bench", "quality", *sys.argv[1:]]))
