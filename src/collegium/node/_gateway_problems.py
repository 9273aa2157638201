"""Why a gateway refuses a request, each reason with its HTTP status, and its JSON after RFC 9457 in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from collegium.errors import CollegiumError

__all__ = [
    "PROBLEM_BYTES_MAX",
    "PROBLEM_TYPE",
    "AppendTooLongError",
    "AttemptsSpentError",
    "BusyError",
    "DisplacedError",
    "ForeignUploadError",
    "ForgedTicketError",
    "MalformedRequestError",
    "OffsetError",
    "OtherRecordError",
    "OtherUploadError",
    "ProblemDetails",
    "RecordLengthError",
    "RoundNotBegunError",
    "RoundOverError",
    "SlowBodyError",
    "SpoolDiskError",
    "SpoolFullError",
    "UnknownItemError",
    "UnregisteredStewardError",
    "UnregisteredTrainerError",
    "UploadDamagedError",
    "UploadLengthError",
    "decode_problem",
    "encode_problem",
    "problem_name",
    "status_of",
]

PROBLEM_TYPE: Final = "application/problem+json"
PROBLEM_BYTES_MAX: Final = 16 << 10
URN: Final = "urn:collegium:problem:"
TEXT_LENGTH_MAX: Final = 1024


class MalformedRequestError(CollegiumError):
    """A header, parameter or body that is not of its form."""


class ForgedTicketError(CollegiumError):
    """A ticket that its trainer did not sign for this task and this validator."""


class UnregisteredTrainerError(CollegiumError):
    """A trainer that is not registered for the task."""


class UnregisteredStewardError(CollegiumError):
    """A record whose author is none of the task's stewards."""


class UnknownItemError(CollegiumError):
    """No such upload, object, block, identity, checkpoint or page here."""


class OffsetError(CollegiumError):
    """Bytes for another place than where the upload stands."""


class OtherUploadError(CollegiumError):
    """The trainer has begun another upload in this round."""


class OtherRecordError(CollegiumError):
    """The steward has brought another record of this round."""


class DisplacedError(CollegiumError):
    """A later request about the same upload has taken this one's place."""


class RoundNotBegunError(CollegiumError):
    """The round has not begun here: come again."""


class SlowBodyError(CollegiumError):
    """The body did not arrive in time; what did is kept."""


class RoundOverError(CollegiumError):
    """The round is over here."""


class AppendTooLongError(CollegiumError):
    """More bytes than one request may append, or than the upload has left."""


class UploadLengthError(CollegiumError):
    """A length that no upload of this round can have."""


class RecordLengthError(CollegiumError):
    """A body that is longer or shorter than a steward's record of this task."""


class UploadDamagedError(CollegiumError):
    """What arrived does not have the SHA-256 of its ticket: it was thrown away, begin again."""


class ForeignUploadError(CollegiumError):
    """What arrived is of another trainer or round than its ticket."""


class AttemptsSpentError(CollegiumError):
    """The trainer has had too many uploads of this round refused, or the steward too many records."""


class SpoolFullError(CollegiumError):
    """Too many uploads, or too many bytes, are under way here: come again."""


class SpoolDiskError(CollegiumError):
    """The disk refused what an upload needs; what was told of the upload stands."""


class BusyError(CollegiumError):
    """Too many connections or listeners, or the validator did not answer in time: come again."""


_STATUS: Final[Mapping[type[CollegiumError], int]] = {
    MalformedRequestError: 400,
    ForgedTicketError: 403,
    UnregisteredTrainerError: 403,
    UnregisteredStewardError: 403,
    UnknownItemError: 404,
    SlowBodyError: 408,
    OffsetError: 409,
    OtherUploadError: 409,
    OtherRecordError: 409,
    DisplacedError: 409,
    RoundNotBegunError: 409,
    RoundOverError: 410,
    AppendTooLongError: 413,
    UploadLengthError: 422,
    RecordLengthError: 422,
    UploadDamagedError: 422,
    ForeignUploadError: 422,
    AttemptsSpentError: 429,
    SpoolFullError: 503,
    SpoolDiskError: 503,
    BusyError: 503,
}


class ProblemDetails(msgspec.Struct, frozen=True):
    """A problem as RFC 9457 writes it; `values` are what was found and what was expected, bytes as hexadecimal."""

    type: str
    title: str
    status: int
    detail: str
    values: dict[str, str | int | float | bool | None]


def status_of(error: CollegiumError) -> int:
    """Return the HTTP status of a refusal; 422 of an error that is not one of the gateway's own."""
    return _STATUS.get(type(error), 422)


def problem_name(kind: type[CollegiumError]) -> str:
    """Return a refusal's name: `OtherUploadError` is `other-upload`."""
    words = kind.__name__.removesuffix("Error")
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in words).lstrip("-")


def encode_problem(error: CollegiumError) -> bytes:
    """Return the JSON of a refusal, at most PROBLEM_BYTES_MAX long."""
    kind, text = type(error), str(error)[:TEXT_LENGTH_MAX]
    values = {name: _plain(value) for name, value in list(error.values.items())[:16]}
    return msgspec.json.encode(ProblemDetails(URN + problem_name(kind), kind.__name__, status_of(error), text, values))


def decode_problem(data: bytes, status: int) -> ProblemDetails:
    """Return the problem that a gateway answered, or one that says that the answer is none."""
    try:
        if len(data) <= PROBLEM_BYTES_MAX:
            problem = msgspec.json.decode(data, type=ProblemDetails)
            if problem.status == status and problem.type.startswith(URN):
                return problem
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return ProblemDetails("about:blank", "", status, f"status {status} without a problem that can be read", {})


def _plain(value: object) -> str | int | float | bool | None:
    """Return a value as JSON can hold it."""
    if isinstance(value, bytes):
        return value.hex()[:128]
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)[:80]
    return str(value)[:128]
