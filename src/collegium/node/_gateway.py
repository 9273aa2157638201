"""A validator's gateway: resumable uploads, what is final with its proof, live events, health and metrics.

An ASGI application; `_gateway_server` serves it over TLS. It believes no client, and no client need believe it: uploads
are signed, and what it gives out is content-addressed or carries certificates. docs/spec/gateway.md has every address,
bound and refusal.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from collegium.aggregation import Upload
from collegium.consensus import RESPONSE_BLOCKS_MAX, WITHDRAWAL_BYTES_MAX, RoundRecord
from collegium.crypto import ADDRESS_BYTES, DIGEST_BYTES, Digest
from collegium.errors import CollegiumError
from collegium.incentives import read_steward_record, record_digest

from ._desk import Desk, Passed, Verdict
from ._event_feed import FINAL_EVENT, EventFeed, NodeEvent
from ._gateway_problems import (
    PROBLEM_TYPE,
    AppendTooLongError,
    AttemptsSpentError,
    BusyError,
    ForeignUploadError,
    MalformedRequestError,
    OtherRecordError,
    RecordLengthError,
    RoundNotBegunError,
    RoundOverError,
    SlowBodyError,
    SpoolDiskError,
    SpoolFullError,
    UnknownItemError,
    UnregisteredStewardError,
    UnregisteredTrainerError,
    UploadLengthError,
    encode_problem,
    status_of,
)
from ._ledger import encode_ledger
from ._telemetry import NodeMetrics
from ._upload_spool import SpooledUpload, UploadSpool
from ._upload_ticket import TICKET_BYTES_MAX, check_ticket, decode_ticket

__all__ = ["Gateway", "GatewayLimits"]

T = TypeVar("T")

BYTES_TYPE: Final = "application/octet-stream"
JSON_TYPE: Final = "application/json"
WRITE_BYTES: Final = 1 << 20  # what is gathered before it is written to disk
CHUNK_BYTES: Final = 64 << 10
RECORDS_REFUSED_MAX: Final = 4  # of a steward in a round
OFFSET_HEADER: Final = "upload-offset"
_PASSING: Final = (BusyError, SpoolDiskError, SpoolFullError, RoundNotBegunError)
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]*")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """How much and how long.

    Attributes:
        append_bytes_max: of one PATCH.
        append_s: for the whole of it to arrive.
        idle_s: for its next bytes to arrive.
        answer_s: for the validator to answer.
        wait_s_max: that a question for the next header may wait.
        blocks_bytes_max: of one answer with blocks; the first block comes whatever its size.
        given_bytes_max: of blocks and objects whose readers do not have them yet, an object counted once.
        fetching_max: blocks and objects that are looked for at once.
        finishing_max: uploads decoded at once.
        judging_max, judging_bytes_max: of uploads that are decoded or wait for their verdict; one may always.
        beat_s: between two signs of life to a listener.
    """

    append_bytes_max: int = 16 << 20
    append_s: float = 120.0
    idle_s: float = 20.0
    answer_s: float = 60.0
    wait_s_max: float = 20.0
    blocks_bytes_max: int = 32 << 20
    given_bytes_max: int = 256 << 20
    fetching_max: int = 4
    finishing_max: int = 2
    judging_max: int = 16
    judging_bytes_max: int = 64 << 20
    beat_s: float = 15.0


@dataclass(eq=False)
class Gateway:
    """The application of one validator.

    Args:
        decode: reads an upload's bytes strictly, or raises.
        feed: what listeners hear; the validator's process publishes into it.
        serves_metrics: whether whoever can connect may read them.
    """

    desk: Desk
    spool: UploadSpool
    feed: EventFeed
    decode: Callable[[bytes], Upload]
    metrics: NodeMetrics = field(default_factory=NodeMetrics)
    serves_metrics: bool = True
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    _finishing: asyncio.Semaphore = field(init=False)
    _judging: _Room = field(init=False)
    _fetching: asyncio.Semaphore = field(init=False)
    _loans: _Loans = field(init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)
    _records: dict[tuple[int, bytes], _Brought] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._finishing = asyncio.Semaphore(self.limits.finishing_max)
        self._judging = _Room(self.limits.judging_max, self.limits.judging_bytes_max)
        self._fetching = asyncio.Semaphore(self.limits.fetching_max)
        self._loans = _Loans(self.limits.given_bytes_max)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/v1/uploads", self._begin, methods=["POST"]),
            Route("/v1/uploads/{identity}", self._ask, methods=["GET", "HEAD"]),
            Route("/v1/uploads/{identity}", self._append, methods=["PATCH"]),
            Route("/v1/records", self._bring, methods=["POST"]),
            Route("/v1/withdrawals", self._withdraw, methods=["POST"]),
            Route("/v1/round", self._round),
            Route("/v1/blocks", self._blocks),
            Route("/v1/handovers/{epoch}", self._handover),
            Route("/v1/handovers/{epoch}/signature", self._handover_signature),
            Route("/v1/objects/{digest}", self._object),
            Route("/v1/names/{digest}", self._named),
            Route("/v1/registrations/{trainer}", self._registered),
            Route("/v1/checkpoints/{last_round}", self._checkpoint),
            Route("/v1/events", self._events),
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
        ]
        if self.serves_metrics:
            routes.append(Route("/metrics", self._measured))
        handlers: dict[Any, Any] = {
            CollegiumError: self._refuse,
            HTTPException: self._no_page,
            ClientDisconnect: self._gone,
            OSError: self._disk_failed,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    def forget_rounds_over(self) -> None:
        """Drop the uploads of rounds that are not open any more; the process calls it when a round begins."""
        rounds = self.desk.open_rounds()
        expired = self.spool.keep_only(rounds)
        self.metrics.uploads("expired", expired)
        for identity in [name for name, lock in self._locks.items() if not lock.locked()]:
            del self._locks[identity]
        for key in [key for key in self._records if key[0] not in rounds]:
            del self._records[key]

    # -------------------------------------------------------------------------------------------- uploads

    async def _begin(self, request: Request) -> Response:
        """Take a ticket and say where its upload stands."""
        ticket = decode_ticket(await self._small_body(request, TICKET_BYTES_MAX))
        if ticket.trainer not in self.desk.cohort():
            raise UnregisteredTrainerError(
                f"trainer {ticket.trainer.hex()} is not one of the task's {len(self.desk.cohort())}",
                trainer=ticket.trainer,
            )
        check_ticket(ticket, self.desk.task, self.desk.index)
        self.forget_rounds_over()
        lengths = self._lengths(ticket.round)
        if ticket.length not in lengths:
            raise UploadLengthError(
                f"an upload of {ticket.length} bytes, in round {ticket.round} one has {lengths.start}.."
                f"{lengths.stop - 1}",
                length=ticket.length,
                least=lengths.start,
                most=lengths.stop - 1,
            )
        upload = self.spool.begin(ticket)
        await self._take_turn(upload)
        headers = self._standing(upload) | {"location": f"/v1/uploads/{upload.identity}"}
        return self._verdict(upload, 201 if upload.offset == 0 else 200, headers)

    async def _ask(self, request: Request) -> Response:
        """Say where an upload stands; whoever appends to it now is displaced, so that the answer stays true."""
        upload = self.spool.get(request.path_params["identity"])
        await self._take_turn(upload)
        return self._verdict(upload, 200, self._standing(upload))

    async def _append(self, request: Request) -> Response:
        """Write bytes at an offset; with the last of them the validator speaks."""
        upload = self.spool.get(request.path_params["identity"])
        offset = _number("header Upload-Offset", request.headers.get(OFFSET_HEADER, ""))
        turn = upload.take_turn()
        if upload.verdict is None:
            await self._receive(request, upload, turn, offset)
        if not upload.complete:
            return Response(status_code=204, headers=self._standing(upload))
        await self._finish(upload)
        return self._verdict(upload, 200, self._standing(upload))

    async def _receive(self, request: Request, upload: SpooledUpload, turn: int, offset: int) -> None:
        """Write a request's body as it arrives; what has arrived stays when the rest does not."""
        limits, gathered, start = self.limits, bytearray(), offset
        room = min(limits.append_bytes_max, upload.ticket.length - offset)
        await self._write(upload, turn, offset, b"")  # the right place, before a byte is read
        try:
            async with asyncio.timeout(limits.append_s):
                async for chunk in _in_time(request.stream(), limits.idle_s):
                    if offset + len(gathered) + len(chunk) - start > room:
                        raise AppendTooLongError(
                            f"more than {room} bytes at {start}: the upload has {upload.ticket.length} bytes, and one "
                            f"request may append {limits.append_bytes_max}",
                            most=room,
                        )
                    gathered += chunk
                    if len(gathered) >= WRITE_BYTES:
                        offset = await self._write(upload, turn, offset, bytes(gathered))
                        gathered.clear()
        except TimeoutError as error:
            raise SlowBodyError(
                f"no byte in {limits.idle_s} s, or not all in {limits.append_s} s; the upload stands at "
                f"{upload.offset + len(gathered)}"
            ) from error
        finally:
            if gathered:
                await self._write(upload, turn, offset, bytes(gathered))

    async def _write(self, upload: SpooledUpload, turn: int, offset: int, data: bytes) -> int:
        """Append in a thread, one at a time for each upload; return the new offset."""
        async with self._lock(upload):
            await asyncio.to_thread(self.spool.append, upload, turn, offset, data)
        self.metrics.upload_bytes(len(data))
        return offset + len(data)

    async def _finish(self, upload: SpooledUpload) -> None:
        """Have a complete upload decoded and judged, once; an upload that is too early is judged again when asked.

        A verdict may take as long as a proof: nobody's decoding waits for another's verdict.
        """
        async with self._lock(upload), self._judging.hold(upload.ticket.length):
            if upload.verdict is not None or not upload.complete:
                return
            async with self._finishing:
                decoded = await self._decoded(upload)
            verdict = decoded if isinstance(decoded, Verdict) else await self._answer(self.desk.submit(decoded))
            self.metrics.uploads(verdict.outcome, 1)
            if verdict.outcome == "too-early":
                raise RoundNotBegunError(f"round {upload.ticket.round} has not begun here", round=upload.ticket.round)
            self.spool.settle(upload, verdict)

    async def _decoded(self, upload: SpooledUpload) -> Upload | Verdict:
        """Return what the bytes say, or the refusal of bytes that the validator need not see."""
        ticket, data = upload.ticket, await asyncio.to_thread(self.spool.read, upload)
        try:
            decoded = await asyncio.to_thread(self.decode, data)
            report = decoded.report
            if (report.trainer, report.round) != (ticket.trainer, ticket.round):
                raise ForeignUploadError(
                    f"a report of trainer {report.trainer.hex()} in round {report.round}, its ticket is of "
                    f"{ticket.trainer.hex()} in round {ticket.round}"
                )
        except CollegiumError as error:
            self.metrics.refused("upload", type(error).__name__)
            return Verdict("refused", type(error).__name__, str(error))
        return decoded

    async def _take_turn(self, upload: SpooledUpload) -> None:
        """Displace whoever appends, and let what it writes just now be written."""
        upload.take_turn()
        async with self._lock(upload):
            pass

    def _lock(self, upload: SpooledUpload) -> asyncio.Lock:
        return self._locks.setdefault(upload.identity, asyncio.Lock())

    def _lengths(self, round_number: int) -> range:
        """Return the lengths of an open round's uploads.

        Raises:
            RoundNotBegunError, RoundOverError: the round is not open.
        """
        rounds = self.desk.open_rounds()
        if round_number in rounds:
            return rounds[round_number]
        said = f"round {round_number}, this validator takes what is of rounds {sorted(rounds)}"
        standing = self.desk.readiness()
        waits = standing.back_at is not None and round_number >= standing.round  # it may have a place in that one
        if waits or (rounds and round_number > max(rounds)):
            raise RoundNotBegunError(said, round=round_number)
        raise RoundOverError(said, round=round_number)

    def _standing(self, upload: SpooledUpload) -> dict[str, str]:
        return {
            "upload-offset": str(upload.offset),
            "upload-length": str(upload.ticket.length),
            "upload-complete": "?1" if upload.verdict is not None else "?0",
            "upload-limit": f"max-append-size={self.limits.append_bytes_max}",
            "cache-control": "no-store",
        }

    def _verdict(self, upload: SpooledUpload, status: int, headers: dict[str, str]) -> Response:
        return Response(msgspec.json.encode(upload.verdict), status, headers, JSON_TYPE)

    async def _bring(self, request: Request) -> Response:
        """Take a steward's record of a round; it is signed, so it does not matter who brings it."""
        lengths = self.desk.record_lengths()
        if not lengths:
            raise UnknownItemError("no records here: this task has no stewards")
        data = await self._small_body(request, lengths[-1], RecordLengthError)
        if len(data) not in lengths:
            raise RecordLengthError(
                f"{len(data)} bytes, a record of this task has {lengths[0]}..{lengths[-1]}", length=len(data)
            )
        async with self._judging.hold(len(data)), self._finishing:
            record = await asyncio.to_thread(read_steward_record, data, self.desk.task)
        if record.account not in self.desk.stewards():
            raise UnregisteredStewardError(
                f"account {record.account.hex()} is none of the task's {len(self.desk.stewards())} stewards",
                account=record.account,
            )
        self._lengths(record.round)  # is the round open?
        brought = self._records.setdefault((record.round, record.account), _Brought())
        verdict = await brought.once(data, lambda: self._answer(self.desk.bring(RoundRecord(record.round, data))))
        self.metrics.records(verdict.outcome)
        if verdict.outcome == "too-early":
            raise RoundNotBegunError(f"round {record.round} has not begun here", round=record.round)
        return Response(msgspec.json.encode(verdict), media_type=JSON_TYPE)

    async def _withdraw(self, request: Request) -> Response:
        """Take the transaction with which a licence's holder takes its consent back; whoever brings it."""
        record = await self._small_body(request, WITHDRAWAL_BYTES_MAX)
        await self._answer(self.desk.withdraw(record))
        return Response(status_code=202)

    # -------------------------------------------------------------------------------------------- what is final

    async def _round(self, request: Request) -> Response:
        """Give the last final header's block with its proof if it is later than a known epoch and view; wait for it."""
        known = (_query_number(request, "epoch", 0), _query_number(request, "view", 0))
        wait_s = min(_query_number(request, "wait_ms", 0) / 1000, self.limits.wait_s_max)
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            news = self.feed.coming(FINAL_EVENT)
            final = await self._answer(self.desk.final_header())
            if final is not None and (final.block.epoch, final.block.view) > known:
                return Response(encode_ledger((final.block,), final.certificate_chain), media_type=BYTES_TYPE)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or self.feed.closed:
                return Response(status_code=204)
            await _until(news, request, left)

    async def _blocks(self, request: Request) -> Response:
        """Give an epoch's final blocks after a known one, with the certificates of the last."""
        after = _query_digest(request, "after")
        if after is None:
            raise MalformedRequestError("parameter after is missing, expected a block's digest, or the genesis'")
        count = min(max(1, _query_number(request, "count", RESPONSE_BLOCKS_MAX)), RESPONSE_BLOCKS_MAX)
        epoch = _query_number(request, "epoch", 0) if "epoch" in request.query_params else None
        async with self._fetching:
            found = await self._answer(self.desk.blocks_after(after, count, self.limits.blocks_bytes_max, epoch))
            if found is None:
                raise UnknownItemError(f"block {after.hex()} is not final here")
            return _Given(self._loans, object(), encode_ledger(found.blocks, found.certificates))

    async def _handover(self, request: Request) -> Response:
        """Give the block that ended an epoch, with its proof; 204 if the epoch goes on after a round that is final."""
        epoch = _number("epoch", request.path_params["epoch"])
        after = _query_number(request, "round", 0) if "round" in request.query_params else None
        found = await self._answer(self.desk.handover(epoch, after))
        if found is None:
            raise UnknownItemError(f"whether epoch {epoch} has ended is not final here")
        if isinstance(found, Passed):
            return Response(status_code=204)
        return Response(encode_ledger((found.block,), found.certificate_chain), media_type=BYTES_TYPE)

    async def _handover_signature(self, request: Request) -> Response:
        """Give this validator's signature that the base chain asks of those whom an epoch's end relieves."""
        epoch = _number("epoch", request.path_params["epoch"])
        signature = await self._answer(self.desk.handover_signature(epoch))
        if signature is None:
            raise UnknownItemError(f"epoch {epoch} is not over here, or this validator had no place in it")
        return Response(signature, media_type=BYTES_TYPE)

    async def _object(self, request: Request) -> Response:
        """Give an object, piece by piece."""
        digest = _digest("object", request.path_params["digest"])
        async with self._fetching:
            data = self._loans.find(digest) or await self._answer(self.desk.object(digest))
            if data is None:
                raise UnknownItemError(f"object {digest.hex()} is not here")
            return _Given(self._loans, digest, data, {"cache-control": "immutable, max-age=31536000"})

    async def _named(self, request: Request) -> Response:
        """Give the SHA-256 of the report or key sum of an identity."""
        identity = _digest("identity", request.path_params["digest"])
        digest = await self._answer(self.desk.object_named(identity))
        if digest is None:
            raise UnknownItemError(f"nothing of identity {identity.hex()} is here")
        return Response(digest, media_type=BYTES_TYPE)

    async def _registered(self, request: Request) -> Response:
        """Give what a trainer has registered, or null."""
        trainer = _hexadecimal("trainer", request.path_params["trainer"], ADDRESS_BYTES)
        registered = await self._answer(self.desk.registered(trainer))
        return Response(msgspec.json.encode(registered), media_type=JSON_TYPE)

    async def _checkpoint(self, request: Request) -> Response:
        """Give this validator's signature of the checkpoint that ends with a round."""
        last_round = _number("round", request.path_params["last_round"])
        signature = await self._answer(self.desk.checkpoint_signature(last_round))
        if signature is None:
            raise UnknownItemError(f"no checkpoint ends with round {last_round}, or not all its headers are final here")
        return Response(signature, media_type=BYTES_TYPE)

    # -------------------------------------------------------------------------------------------- watching

    async def _events(self, request: Request) -> Response:
        """Give events as they happen, from the one after Last-Event-ID on."""
        last = request.headers.get("last-event-id")
        after = self.feed.last if last is None else _number("header Last-Event-ID", last)
        return _EventStream(self.feed, after if after <= self.feed.last else 0, self.limits.beat_s)

    async def _alive(self, request: Request) -> Response:
        """Say that the process answers."""
        return Response(b'{"alive":true}', media_type=JSON_TYPE)

    async def _ready(self, request: Request) -> Response:
        """Say whether this validator takes part: 503 if not."""
        standing = self.desk.readiness()
        body = msgspec.json.encode({"ready": standing.ready, **msgspec.to_builtins(standing)})
        return Response(body, 200 if standing.ready else 503, media_type=JSON_TYPE)

    async def _measured(self, request: Request) -> Response:
        """Give the metrics in Prometheus' text format."""
        self.metrics.set_uploads_open(self.spool.open)
        return Response(self.metrics.render(), media_type=self.metrics.content_type)

    # -------------------------------------------------------------------------------------------- refusals

    async def _refuse(self, request: Request, error: CollegiumError) -> Response:
        self.metrics.refused("request", type(error).__name__)
        headers = {"retry-after": "1"} if isinstance(error, _PASSING) else {}
        if isinstance(error, SlowBodyError | AppendTooLongError):
            headers["connection"] = "close"  # the rest of the body is not waited for
        return Response(encode_problem(error), status_of(error), headers, PROBLEM_TYPE)

    async def _no_page(self, request: Request, error: HTTPException) -> Response:
        named = UnknownItemError(f"{request.method} {request.url.path[:128]}: no such address, or no such method there")
        return Response(encode_problem(named), error.status_code, error.headers, PROBLEM_TYPE)

    async def _disk_failed(self, request: Request, error: OSError) -> Response:
        return await self._refuse(
            request, SpoolDiskError(f"{type(error).__name__}: {error.strerror}", errno=error.errno)
        )

    async def _gone(self, request: Request, error: ClientDisconnect) -> Response:
        self.metrics.cut_off("client-gone")
        return Response(status_code=499)  # nobody is there to read it

    async def _answer(self, question: Awaitable[T]) -> T:
        """Return the validator's answer.

        Raises:
            BusyError: it took too long.
        """
        try:
            return await asyncio.wait_for(question, self.limits.answer_s)
        except TimeoutError as error:
            raise BusyError(f"the validator did not answer in {self.limits.answer_s} s") from error

    async def _small_body(
        self, request: Request, bytes_max: int, too_long: type[CollegiumError] = MalformedRequestError
    ) -> bytes:
        body, limits = bytearray(), self.limits
        try:
            async with asyncio.timeout(limits.append_s):
                async for chunk in _in_time(request.stream(), limits.idle_s):
                    body += chunk
                    if len(body) > bytes_max:
                        raise too_long(f"a body of more than {bytes_max} bytes", most=bytes_max)
        except TimeoutError as error:
            raise SlowBodyError(f"no byte in {limits.idle_s} s, or not all in {limits.append_s} s") from error
        return bytes(body)


class _Brought:
    """What a steward has brought of one round: the record that its validator has taken, and how many it refused."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._taken: tuple[Digest, Verdict] | None = None
        self._refused = 0

    async def once(self, record: bytes, ask: Callable[[], Awaitable[Verdict]]) -> Verdict:
        """Return the verdict on a record: what `ask` says, or what it said of the same one.

        Raises:
            OtherRecordError: another record is taken.
            AttemptsSpentError: too many were refused.
        """
        digest = record_digest(record)
        async with self._turn:
            if self._taken is not None:
                known, verdict = self._taken
                if known != digest:
                    raise OtherRecordError(
                        f"record {digest.hex()}, this steward's of the round is {known.hex()}", known=known
                    )
                return verdict
            if self._refused >= RECORDS_REFUSED_MAX:
                raise AttemptsSpentError(
                    f"{self._refused} records of this steward were refused in this round", refused=self._refused
                )
            verdict = await ask()
            self._refused += verdict.outcome == "refused"
            if verdict.outcome in ("admitted", "kept"):
                self._taken = digest, verdict
            return verdict


class _Room:
    """What several hold at once, in number and bytes; who would be beyond a bound waits, but one may always."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max, self._bytes_max = count_max, bytes_max
        self._held: list[int] = []
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        while self._held and (len(self._held) >= self._count_max or sum(self._held) + size > self._bytes_max):
            self._freed.clear()
            await self._freed.wait()
        self._held.append(size)
        try:
            yield
        finally:
            self._held.remove(size)
            self._freed.set()


class _Loans:
    """What is being given to readers, each thing once however many read it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lent: dict[object, bytes] = {}
        self._readers: Counter[object] = Counter()

    def find(self, key: object) -> bytes | None:
        return self._lent.get(key)

    @contextmanager
    def lend(self, key: object, data: bytes) -> Iterator[None]:
        """Count `data` while somebody reads it.

        Raises:
            BusyError: too much is being given already.
        """
        given = sum(map(len, self._lent.values()))
        if key not in self._lent and self._lent and given + len(data) > self._bytes_max:
            raise BusyError(
                f"{len(data)} bytes, {given} are being given already; expected {self._bytes_max} at most", bytes=given
            )
        self._lent[key] = data
        self._readers[key] += 1
        try:
            yield
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._lent[key], self._readers[key]


class _Given(StreamingResponse):
    """Bytes that a reader takes at its own speed."""

    def __init__(self, loans: _Loans, key: object, data: bytes, headers: dict[str, str] | None = None) -> None:
        super().__init__(
            _pieces(data), headers={"content-length": str(len(data)), **(headers or {})}, media_type=BYTES_TYPE
        )
        self._loan = loans.lend(key, data)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._loan:
            await super().__call__(scope, receive, send)


class _EventStream(StreamingResponse):
    """Server-sent events of a feed, with a comment as sign of life where nothing happens."""

    def __init__(self, feed: EventFeed, after: int, beat_s: float) -> None:
        lines = self._lines(feed, after, beat_s)
        super().__init__(lines, headers={"cache-control": "no-store"}, media_type="text/event-stream")
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.seat():
            await super().__call__(scope, receive, send)

    @staticmethod
    async def _lines(feed: EventFeed, after: int, beat_s: float) -> AsyncIterator[bytes]:
        yield b": events of this node\n\n"
        while True:
            try:
                event = await asyncio.wait_for(feed.next(after), beat_s)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if event is None:
                return
            after = event.number
            yield _event_lines(event)


# ---------------------------------------------------------------------------------------------------- leaves


def _event_lines(event: NodeEvent) -> bytes:
    data = msgspec.json.encode(dict(event.fields))
    return f"id: {event.number}\nevent: {event.name}\ndata: ".encode() + data + b"\n\n"


async def _until(news: asyncio.Event, request: Request, seconds: float) -> None:
    """Return when `news` is set or time is up.

    Raises:
        ClientDisconnect: nobody waits for the answer any more.
    """
    waiting = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(_hung_up(request))]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if waiting[1].done():
            raise ClientDisconnect
    finally:
        for task in waiting:
            task.cancel()


async def _hung_up(request: Request) -> bool:
    """Return when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return True


async def _in_time(chunks: AsyncIterator[bytes], idle_s: float) -> AsyncIterator[bytes]:
    """Yield what arrives; TimeoutError when nothing does for `idle_s`."""
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        yield chunk


async def _pieces(data: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(data)
    for at in range(0, len(view), CHUNK_BYTES):
        yield view[at : at + CHUNK_BYTES]


def _number(what: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise MalformedRequestError(f"{what} is {text[:64]!r}, expected a whole number below 10^16")
    return int(text)


def _query_number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    return default if text is None else _number(f"parameter {name}", text)


def _query_digest(request: Request, name: str) -> Digest | None:
    text = request.query_params.get(name)
    return None if text is None else _digest(f"parameter {name}", text)


def _digest(what: str, text: str) -> Digest:
    return _hexadecimal(what, text, DIGEST_BYTES)


def _hexadecimal(what: str, text: str, length: int) -> bytes:
    if len(text) != 2 * length or not _HEXADECIMAL.fullmatch(text):
        raise MalformedRequestError(f"{what} is {text[:64]!r}, expected {2 * length} lower-case hexadecimal digits")
    return bytes.fromhex(text)
