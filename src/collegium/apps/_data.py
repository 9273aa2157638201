"""What `collegium data` does: register an owner's rows, and check what another owner registered."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer

from collegium.apps._printable import printable
from collegium.crypto import load_keys
from collegium.errors import CollegiumError
from collegium.node import (
    NO_PREVIOUS,
    DataRegistration,
    Event,
    LicenceRequest,
    LicenceTerms,
    Message,
    Register,
    Warning_,
    check_licence,
    data_context,
    decode_data_registration,
    decode_licence,
    load_experiment,
    load_owner_rows,
    load_statistics,
    terms_digest,
    verify_continuation,
    verify_data_registration,
    verify_licence,
)

__all__ = [
    "HEADING",
    "NOT_GUARANTEED",
    "Checked",
    "DataFileError",
    "Request",
    "check_published",
    "print_checked",
    "print_registered",
    "register_rows",
]

HEADING: Final = (
    "registration (that all commitments hold the same rows, in range, is proved; that rows are real is not)"
)
NOT_GUARANTEED: Final = (
    "that the rows are real: nobody but their owner has seen them",
    "that the labels are true",
    "that no row stands twice: the owner's own register refuses repeats, and nobody sees whether it was asked",
    "that the rows are no copy of another owner's: copies across owners go undetected, because roots hide what they "
    "commit to",
)
REGISTRATION_FILE: Final = "registration.bin"
LICENCE_FILE: Final = "licence.json"
TERMS_BYTES_MAX: Final = 1 << 20
LICENCE_BYTES_MAX: Final = 1 << 16
REGISTRATION_BYTES_MAX: Final = 64 << 20
DAY_S: Final = 86_400
DAYS_MAX: Final = 36_500


class DataFileError(CollegiumError):
    """A file that a command was given is missing, empty or too large, or a number is out of bounds."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `data register` was asked for; `now_s` in seconds since 1970 (UTC)."""

    file: Path
    experiment: Path
    key: Path
    terms: Path
    register: Path
    out: Path
    now_s: int
    site: str | None = None
    scaling: Path | None = None
    commitments: int = 32
    days: int = 365
    refresh: bool = False


def register_rows(request: Request, on_event: Callable[[Event], None]) -> dict[str, Any]:
    """Register a file's rows, write what is published into `request.out`, and return the facts as plain values.

    Raises:
        CollegiumError: a file, a setting or a row is refused; nothing is published then.
    """
    if not 1 <= request.days <= DAYS_MAX:
        raise DataFileError(f"--days is {request.days}, expected 1 to {DAYS_MAX}", days=request.days)
    text = _read(request.terms, TERMS_BYTES_MAX)
    key = load_keys(request.key).account
    experiment = load_experiment(request.experiment)
    statistics = None if request.scaling is None else load_statistics(request.scaling, experiment)
    rows = load_owner_rows(request.file, experiment, site=request.site, statistics=statistics)
    for warning in rows.warnings:
        on_event(Warning_(warning))
    scaling = "the declared ranges" if statistics is None else "the statistics of round 0"
    on_event(Message(f"{rows.shape.rows} rows of {rows.shape.inputs} features, scaled by {scaling}"))
    terms = LicenceTerms(terms_digest(text), request.now_s, request.now_s + DAY_S * request.days)
    with Register(request.register, key) as register:
        act = register.refresh if request.refresh else register.register
        done = act(rows, request.commitments, terms, on_event)
        unused = register.unused(done.number)
    (request.out / REGISTRATION_FILE).write_bytes(done.registration_bytes)
    (request.out / LICENCE_FILE).write_bytes(done.licence_bytes)
    return _facts(done.registration) | {
        "number": done.number,
        "rounds": len(unused),
        "licence": _licence_facts(done.licence),
        "registration_file": str(request.out / REGISTRATION_FILE),
        "registration_bytes": len(done.registration_bytes),
        "licence_file": str(request.out / LICENCE_FILE),
        "register": str(request.register),
        "not_guaranteed": list(NOT_GUARANTEED),
    }


def print_registered(facts: Mapping[str, Any]) -> None:
    """Print what an owner wants to know of a registration."""
    licence = facts["licence"]
    for label, text in (
        ("registered", f"{facts['rows']} rows, number {facts['number']} of {facts['register']}"),
        ("owner", f"0x{facts['owner']}"),
        ("rounds", f"{facts['rounds']} of {facts['commitments']} commitments are for rounds, each for one"),
        ("continues", facts["previous"] or ""),
        ("registration", f"{facts['registration_file']}, {facts['registration_bytes']:,} bytes, public"),
        ("licence request", f"{facts['licence_file']}, {_dates(licence)}, public"),
        ("for a chain", f"data root {facts['data_root']}"),
        ("", f"terms     {licence['terms']}"),
        ("", f"request   {licence['digest']}"),
        ("keep secret", f"{facts['register']} (lost, the commitments are lost; copied back, they may be used twice)"),
    ):
        if text:
            typer.echo(f"{label + ':' if label else '':<18}{printable(text)}")
    _print_not_guaranteed(facts["not_guaranteed"])


# --- what somebody else published


@dataclass
class Checked:
    """What holds of a published registration, what was not looked at, and what broke, or None."""

    checks: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    failure: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return self.facts | {
            "ok": self.failure is None,
            "checks": self.checks,
            "unchecked": self.unchecked,
            "not_guaranteed": list(NOT_GUARANTEED),
            "failure": self.failure,
        }


def check_published(
    path: Path,
    *,
    now_s: int,
    licence: Path | None = None,
    previous: Path | None = None,
    experiment: Path | None = None,
    scaling: Path | None = None,
) -> Checked:
    """Check a registration and what was given beside it; what cannot be decoded has failed.

    Raises:
        CollegiumError: a path or the experiment is the caller's mistake.
    """
    data = _read(path, REGISTRATION_BYTES_MAX)
    beside = [None if other is None else _read(other, limit) for other, limit in _limits(licence, previous)]
    context = None
    if experiment is not None:
        settings = load_experiment(experiment)
        context = data_context(settings, None if scaling is None else load_statistics(scaling, settings))
    elif scaling is not None:
        raise DataFileError("--scaling belongs to an experiment, expected --experiment beside it")
    checked = Checked()
    with _verdict(checked):
        registration = _check_registration(checked, data)
        _check_previous(checked, registration, beside[1])
        _check_licence(checked, registration, beside[0], now_s)
        if context is None:
            checked.unchecked.append("what the features mean; give --experiment to compare schema, labels and scaling")
        elif context != registration.context:
            checked.failure = "context: the registration was made by another schema, other labels or another scaling"
        else:
            checked.checks.append("features and labels are those of the experiment, under this scaling")
    return checked


def print_checked(checked: Checked) -> None:
    """Print what holds, what was not checked, what nothing can show, and the verdict; failures go to standard error."""
    for check in checked.checks:
        typer.echo(f"holds: {printable(check)}")
    for unchecked in checked.unchecked:
        typer.echo(f"not checked: {printable(unchecked)}")
    _print_not_guaranteed(NOT_GUARANTEED)
    if checked.failure is None:
        typer.echo("verified")
    else:
        typer.echo(f"verification failed: {printable(checked.failure)}", err=True)


@contextmanager
def _verdict(checked: Checked) -> Iterator[None]:
    try:
        yield
    except CollegiumError as error:
        checked.failure = str(error)


def _check_registration(checked: Checked, data: bytes) -> DataRegistration:
    registration = decode_data_registration(data)
    checked.facts |= _facts(registration)
    verify_data_registration(registration)
    shape, count = registration.shape, len(registration.roots)
    checked.checks += [
        f"account 0x{registration.owner.hex()} signed it; the data root is {registration.data_root.hex()}",
        f"all {count} commitments hold the same {shape.rows} rows of {shape.inputs} features, in the same order",
        f"every feature is within +-{shape.limit} and every label is one that the rule knows",
    ]
    return registration


def _check_previous(checked: Checked, registration: DataRegistration, data: bytes | None) -> None:
    if data is not None:
        previous = decode_data_registration(data)
        verify_data_registration(previous)
        verify_continuation(registration, previous)
        checked.checks.append(f"the rows are those of the registration with data root {previous.data_root.hex()}")
    elif registration.previous != NO_PREVIOUS:
        checked.unchecked.append(
            f"that the rows are those of {registration.previous.hex()}; give --previous with that registration"
        )


def _check_licence(checked: Checked, registration: DataRegistration, data: bytes | None, now_s: int) -> None:
    if data is None:
        checked.unchecked.append("a licence request; give --licence")
        return
    request = decode_licence(data)
    verify_licence(request)
    check_licence(request, registration)
    checked.facts["licence"] = _licence_facts(request)
    checked.checks.append(f"the owner signed the licence request, {_dates(checked.facts['licence'])}")
    checked.unchecked.append("whether a chain granted the licence, and the text behind its digest")
    if not request.valid_from <= now_s < request.valid_until:
        checked.unchecked.append("why the licence request is not in force today")


def _limits(licence: Path | None, previous: Path | None) -> tuple[tuple[Path | None, int], ...]:
    return (licence, LICENCE_BYTES_MAX), (previous, REGISTRATION_BYTES_MAX)


# --- as plain values


def _facts(registration: DataRegistration) -> dict[str, Any]:
    shape = registration.shape
    return {
        "owner": registration.owner.hex(),
        "rows": shape.rows,
        "features": shape.inputs,
        "commitments": len(registration.roots),
        "data_root": registration.data_root.hex(),
        "context": registration.context.hex(),
        "previous": None if registration.previous == NO_PREVIOUS else registration.previous.hex(),
    }


def _licence_facts(request: LicenceRequest) -> dict[str, Any]:
    return {
        "digest": request.digest.hex(),
        "terms": request.terms.hex(),
        "valid_from": request.valid_from,
        "valid_until": request.valid_until,
    }


def _dates(licence: Mapping[str, Any]) -> str:
    return f"valid from {_date(licence['valid_from'])} to {_date(licence['valid_until'])} UTC"


def _date(time_s: int) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).date().isoformat()
    except (OverflowError, ValueError):  # beyond the year 9999
        return f"second {time_s}"


def _print_not_guaranteed(lines: tuple[str, ...] | list[str]) -> None:
    for line in lines:
        typer.echo(f"not guaranteed: {line}")


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise DataFileError(f"{path}: {reason}, expected a file", path=path) from error
    if not data:
        raise DataFileError(f"{path} is empty, expected 1 to {bytes_max} bytes", path=path)
    if len(data) > bytes_max:
        raise DataFileError(f"{path} has more than {bytes_max} bytes, expected 1 to {bytes_max}", path=path)
    return data
