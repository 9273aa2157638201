"""`collegium lineage`: who fed a model version, as a table or as W3C PROV, and which versions carry a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from collegium.apps._exit import JsonOption, UsageError, exit_codes, print_json
from collegium.apps._printable import printable

if TYPE_CHECKING:
    from collegium.lineage import Lineage, Record

__all__ = ["register"]

LINEAGE: Final = "lineage.db"
PREFIX_LEN_MIN: Final = 8
LICENCE_BYTES_MAX: Final = 1 << 16


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(lineage)


def lineage(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Digest of a model version, or its first 8 digits or more; else the last."
        ),
    ] = None,
    prov: Annotated[
        bool, typer.Option("--prov", help="Print W3C PROV-JSON of all that the version came from.")
    ] = False,
    erasure: Annotated[
        str | None,
        typer.Option(
            "--erasure",
            metavar="DATA",
            help="A site, a licence's number or file, or a data root: list what carries it.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say who fed a model version of a run, with how much weight.

    It checks that the log's links hold, and no more: `collegium verify` says whether the log is the run's. With
    --erasure it lists the versions that a withdrawal of consent touches.

    \b
    Example:
      collegium lineage runs/demo --prov > model.prov.json
      collegium lineage runs/demo --erasure cleveland
      collegium lineage runs/hospitals --erasure public/licence.json
    """
    with exit_codes():
        from collegium.lineage import Lineage

        if prov and (erasure is not None or json):
            raise UsageError("--prov prints a document of its own; leave out --erasure and --json")
        if erasure is not None and model is not None:
            raise UsageError("--erasure looks at all versions; leave the model out")
        with Lineage(run / LINEAGE, read_only=True) as log:
            log.verify()
            if erasure is not None:
                _print_erasure(log, erasure, json=json)
            elif prov:
                typer.echo(log.prov(_model(log, model)))
            else:
                _print_influence(log, _model(log, model), json=json)


def _model(log: Lineage, wanted: str | None) -> bytes:
    models = log.models()
    if wanted is None:
        if not models:
            raise UsageError("the lineage has no model version")
        return models[-1].digest
    return _unique("model version", wanted, models)


def _unique(what: str, wanted: str, records: tuple[Record, ...]) -> bytes:
    """Return the digest of the records whose hex digits start like this; there must be exactly one."""
    found = {record.digest for record in records if record.digest.hex().startswith(wanted.lower())}
    if len(wanted) < PREFIX_LEN_MIN or len(found) != 1:
        raise UsageError(
            f"{wanted!r} names {len(found) if len(wanted) >= PREFIX_LEN_MIN else 'no'} {what}; "
            f"expected {PREFIX_LEN_MIN} hex digits or more of one of the run's {len(records)}",
            wanted=wanted,
        )
    return found.pop()


def _datasets(log: Lineage, wanted: str) -> tuple[bytes, ...]:
    """Return the datasets of a site, of a licence by its number or its file, or the one with this digest."""
    records = tuple(record for record in log.records() if record.kind == "dataset")
    of_site = dict.fromkeys(record.digest for record in records if record.subject == wanted)
    if of_site:
        return tuple(of_site)
    if wanted.isascii() and wanted.isdecimal() and len(wanted) < PREFIX_LEN_MIN:
        of_licence = tuple(record.digest for record in records if record.values().get("licence") == int(wanted))
        if not of_licence:
            raise UsageError(f"no data of licence {wanted} in this run, expected a licence that its experiment names")
        if len(of_licence) > 1:
            sites = sorted({record.subject for record in records if record.digest in of_licence})
            raise UsageError(
                f"licence {wanted} is one of each of several contracts here, expected one of the sites {sites}"
            )
        return of_licence
    return (_unique("dataset", _data_root_in(Path(wanted)) or wanted, records),)


def _data_root_in(path: Path) -> str | None:
    """Return the data root that a licence request names, None if there is no such file.

    Raises:
        LicenceBytesError: the file is no licence request.
    """
    from collegium.node import decode_licence

    try:
        with path.open("rb") as file:
            data = file.read(LICENCE_BYTES_MAX)
    except (OSError, ValueError):
        return None
    return decode_licence(data).data_root.hex()


def _print_erasure(log: Lineage, wanted: str, *, json: bool) -> None:
    datasets = _datasets(log, wanted)
    versions = log.carried(datasets)
    if json:
        rows = [
            {
                "round": each.version.round_number,
                "model": each.version.digest.hex(),
                "weight": each.weight,
                "of": each.whole,
            }
            for each in versions
        ]
        print_json({"datasets": [dataset.hex() for dataset in datasets], "versions": rows})
        return
    typer.echo(f"{len(versions)} of {len(log.models())} versions carry weight from {printable(wanted)}")
    for each in versions:
        record = each.version
        typer.echo(f"  round {record.round_number:>5}  {record.digest.hex()}  weight {each.weight} of {each.whole}")


def _print_influence(log: Lineage, model: bytes, *, json: bool) -> None:
    found = log.influence(model)
    if json:
        rows: list[dict[str, Any]] = [
            {"trainer": each.trainer, "datasets": list(each.datasets), "rounds": each.rounds, "weight": each.weight}
            for each in found
        ]
        print_json({"model": model.hex(), "influence": rows})
        return
    typer.echo(f"model {model.hex()}")
    for each in found:
        sites = ", ".join(printable(name) for name in each.datasets)
        typer.echo(f"  {printable(each.trainer):<32} rounds {each.rounds:>5}  weight {each.weight:>10}  {sites}")
