"""An upload to one validator, from the ticket to its verdict: resumed where it broke, retried with back-off.

A steward's record, which is one request, is retried likewise.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec

from collegium.errors import CollegiumError

from ._client_line import Answer, ClientLimits, GatewayAnswerError, GatewayRefusedError, GatewayUnreachableError, Line
from ._desk import Verdict
from ._gateway_problems import (
    BusyError,
    DisplacedError,
    OffsetError,
    RoundNotBegunError,
    RoundOverError,
    SlowBodyError,
    SpoolDiskError,
    SpoolFullError,
    UnknownItemError,
    UploadDamagedError,
)
from ._upload_ticket import UploadTicket, encode_ticket

__all__ = ["UploadDeadlineError", "record_to", "upload_to"]

ANSWER_BYTES_MAX: Final = 16 << 10
_LOCATION: Final = re.compile(r"/v1/uploads/[0-9a-f]{64}")
_PASSING: Final = frozenset(
    kind.__name__
    for kind in (
        BusyError,
        DisplacedError,
        OffsetError,
        RoundNotBegunError,
        SlowBodyError,
        SpoolDiskError,
        SpoolFullError,
        UnknownItemError,  # forgotten by a restart: the ticket begins it again
        UploadDamagedError,
    )
)


class UploadDeadlineError(CollegiumError):
    """An upload, or a steward's record, got no verdict in time; its last failure is the cause."""


@dataclass(slots=True)
class _Progress:
    """Where an upload stood when it was taken up, and stands now."""

    start: int = 0
    offset: int = 0


async def upload_to(line: Line, ticket: UploadTicket, data: bytes, limits: ClientLimits, random: Random) -> Verdict:
    """Return one validator's verdict on an upload; `too-late` when its round is over there.

    Raises:
        GatewayRefusedError: it will never take this upload.
        UploadDeadlineError: no verdict in time.
    """

    async def attempt(progress: _Progress) -> Verdict:
        return await _go_on(line, ticket, data, limits, progress)

    return await _persist(line, len(data), attempt, limits, random)


async def record_to(line: Line, data: bytes, limits: ClientLimits, random: Random) -> Verdict:
    """Return one validator's verdict on a steward's record; raises as `upload_to`."""

    async def attempt(_: _Progress) -> Verdict:
        answer = await line.ask("/v1/records", ANSWER_BYTES_MAX, method="POST", body=data, wait_s=limits.answer_s)
        return _read_verdict(line, answer)

    return await _persist(line, len(data), attempt, limits, random)


async def _persist(
    line: Line, length: int, attempt: Callable[[_Progress], Awaitable[Verdict]], limits: ClientLimits, random: Random
) -> Verdict:
    """Return what an attempt returns; one that failed for what may pass is followed by another, with back-off."""
    failure: CollegiumError | None = None
    failures = 0
    try:
        async with asyncio.timeout(limits.upload_s):
            while True:
                progress = _Progress()
                try:
                    return await attempt(progress)
                except (GatewayUnreachableError, GatewayAnswerError, GatewayRefusedError) as error:
                    if isinstance(error, GatewayRefusedError) and not _passes(error):
                        if error.values["name"] == RoundOverError.__name__:
                            return Verdict("too-late", RoundOverError.__name__, str(error))
                        raise
                    failure = error
                failures = 1 if progress.offset > progress.start else failures + 1
                await asyncio.sleep(random.uniform(0, min(limits.retry_s_max, limits.retry_s * 2 ** min(failures, 16))))
    except TimeoutError as error:
        raise UploadDeadlineError(
            f"validator {line.validator} has no verdict on {length} bytes in {limits.upload_s} s; last: {failure}",
            validator=line.validator,
        ) from (failure or error)


async def _go_on(line: Line, ticket: UploadTicket, data: bytes, limits: ClientLimits, progress: _Progress) -> Verdict:
    """Begin or resume, and append until the validator speaks."""
    answer = await line.ask("/v1/uploads", ANSWER_BYTES_MAX, method="POST", body=encode_ticket(ticket))
    path = answer.fields.get("location", "")
    if not _LOCATION.fullmatch(path):
        raise GatewayAnswerError(f"validator {line.validator} says that the upload is at {path[:128]!r}")
    verdict, progress.start = _standing(line, answer, len(data))
    progress.offset = progress.start
    while verdict is None:
        offset = progress.offset
        answer = await line.ask(
            path,
            ANSWER_BYTES_MAX,
            method="PATCH",
            fields={"upload-offset": str(offset), "content-type": "application/octet-stream"},
            body=memoryview(data)[offset : offset + limits.append_bytes],
            wait_s=limits.answer_s,  # with the last bytes the validator thinks
        )
        verdict, progress.offset = _standing(line, answer, len(data))
        if verdict is None and progress.offset <= offset:
            raise GatewayAnswerError(f"validator {line.validator} took bytes at {offset}, stands at {progress.offset}")
    return verdict


def _standing(line: Line, answer: Answer, length: int) -> tuple[Verdict | None, int]:
    """Return the verdict, if there is one, and the offset that an answer tells."""
    offset = answer.fields.get("upload-offset", "")
    if not re.fullmatch(r"[0-9]{1,16}", offset) or int(offset) > length:
        raise GatewayAnswerError(f"validator {line.validator} says that {length} bytes stand at {offset[:32]!r}")
    return _read_verdict(line, answer) if answer.body not in (b"", b"null") else None, int(offset)


def _read_verdict(line: Line, answer: Answer) -> Verdict:
    try:
        return msgspec.json.decode(answer.body, type=Verdict)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise line.malformed("verdict", error) from error


def _passes(error: GatewayRefusedError) -> bool:
    """Tell whether trying again may help."""
    status = error.values["status"]
    return error.values["name"] in _PASSING or (isinstance(status, int) and status >= 500)
