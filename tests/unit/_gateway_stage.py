"""Four validators' keys, a chain of final blocks made by hand, and a desk that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np

from collegium.aggregation import Upload
from collegium.consensus import (
    Block,
    Certified,
    Close,
    Committed,
    EpochSet,
    HandoverProof,
    Header,
    QuorumCertificate,
    Registered,
    RoundRecord,
    Validator,
    ValidatorIndex,
    encode_payload,
    genesis_certificate,
)
from collegium.crypto import AccountKey, BlsSecretKey, Digest, Stream, aggregate_signatures
from collegium.errors import CollegiumError
from collegium.incentives import StewardRecord, encode_steward_record, sign_steward_record, steward_record_bytes
from collegium.node._client_line import ClientLimits, Line
from collegium.node._desk import FinalBlocks, Passed, Readiness, Verdict
from collegium.node._event_feed import EventFeed
from collegium.node._gateway import Gateway, GatewayLimits
from collegium.node._upload_spool import SpoolLimits, UploadSpool
from collegium.node._upload_ticket import UploadTicket, encode_ticket, make_ticket

T = TypeVar("T")

SIZE = 4
TASK = sha256(b"a task behind gateways").digest()
RANDOM = Stream(sha256(b"gateway stage").digest())
ACCOUNTS = [AccountKey.generate(RANDOM.split(f"account {i}")) for i in range(SIZE)]
VOTING = [BlsSecretKey.generate(RANDOM.split(f"voting {i}")) for i in range(SIZE)]
TRAINERS = [AccountKey.generate(RANDOM.split(f"trainer {i}")) for i in range(3)]
STEWARDS = [AccountKey.generate(RANDOM.split(f"steward {i}")) for i in range(2)]
STRANGER = AccountKey.generate(RANDOM.split("stranger"))
PARAMETERS = 3
LENGTHS = range(64, 4097)
ROUND = 7


@cache
def epoch_set() -> EpochSet:
    members = zip(VOTING, ACCOUNTS, strict=True)
    validators = [
        Validator(ValidatorIndex(i), bytes(voting.public_key()), account.address, 1)
        for i, (voting, account) in enumerate(members)
    ]
    return EpochSet(TASK, 0, tuple(validators))


# ------------------------------------------------------------------------------------------------ what is final


def certify(block: Block, voters: Sequence[int] = (0, 1, 2)) -> QuorumCertificate:
    """Return the certificate that these validators make of a block."""
    digest = block.ballot.digest(epoch_set())
    bitmap = sum(1 << voter for voter in voters).to_bytes(1, "little")
    return QuorumCertificate(block.ballot, bitmap, aggregate_signatures([VOTING[v].sign(digest) for v in voters]))


def header_of(round_number: int) -> Header:
    return Header(
        task=TASK,
        round=round_number,
        level="unproved",
        previous=sha256(b"header %d" % (round_number - 1)).digest(),
        close=bytes(32),
        outcome="skipped",
        key_sums=(),
        total=bytes(32),
        model=sha256(b"model %d" % round_number).digest(),
        lying=(),
        beacon=bytes(48),
        seats=(0,) * 16,
        announcements=(),
    )


def payload_of(place: int) -> bytes:
    """Return a close at even places, and the header after it at odd ones."""
    number = place // 2
    if place % 2:
        return encode_payload(Certified(header_of(number), b"certificate"))
    return encode_payload(Close(TASK, number, bytes(32), (), (), (), (), ()))


@cache
def chain(length: int) -> tuple[Committed, ...]:
    """Return final blocks of views 1, 2, ...: close and header of round 0, close and header of round 1, ..."""
    blocks, certificates = [], [genesis_certificate(epoch_set().genesis())]
    for place in range(length + 1):
        view = place + 1
        author = epoch_set().leader(view)
        draft = Block(TASK, 0, view, author, certificates[-1], None, payload_of(place), bytes(65))
        blocks.append(draft.signed(ACCOUNTS[author].sign(draft.digest)))
        certificates.append(certify(blocks[-1]))
    proofs = pairwise(certificates[1:])
    return tuple(Committed(block, proof) for block, proof in zip(blocks, proofs, strict=False))


# ------------------------------------------------------------------------------------------------ the validator


@dataclass
class StageDesk:
    """A desk that answers from plain attributes."""

    index: int = 0
    task: Digest = TASK
    rounds: dict[int, range] = field(default_factory=lambda: {ROUND: LENGTHS, ROUND + 1: LENGTHS})
    trainers: frozenset[bytes] = frozenset(key.address for key in TRAINERS)
    later: dict[int, tuple[Committed, ...]] = field(default_factory=dict)
    handovers: dict[int, HandoverProof | Passed] = field(default_factory=dict)
    asked_handovers: list[tuple[int, int | None]] = field(default_factory=list)
    standing: Readiness = field(default_factory=lambda: Readiness(ROUND, 3, 3, True))
    verdicts: list[Verdict] = field(default_factory=list)
    submitted: list[Any] = field(default_factory=list)  # uploads, or what the stage's decoder makes of bytes
    withdrawn: list[bytes] = field(default_factory=list)
    measuring: frozenset[bytes] = frozenset(key.address for key in STEWARDS)
    record_length: int = steward_record_bytes(PARAMETERS)
    brought: list[RoundRecord] = field(default_factory=list)
    blocks: tuple[Committed, ...] = ()
    objects: dict[Digest, bytes] = field(default_factory=dict)
    names: dict[Digest, Digest] = field(default_factory=dict)
    registrations: dict[bytes, Registered] = field(default_factory=dict)
    signatures: dict[int, bytes] = field(default_factory=dict)
    deaf: bool = False
    heard: int = 0
    spoken: asyncio.Event = field(default_factory=asyncio.Event)

    def open_rounds(self) -> Mapping[int, range]:
        return self.rounds

    def cohort(self) -> frozenset[bytes]:
        return self.trainers

    def readiness(self) -> Readiness:
        return self.standing

    async def submit(self, upload: Upload) -> Verdict:
        await self._hear()
        self.submitted.append(upload)
        return self.verdicts.pop(0) if self.verdicts else Verdict("admitted")

    def stewards(self) -> frozenset[bytes]:
        return self.measuring

    def record_lengths(self) -> range:
        return range(self.record_length, self.record_length + 1) if self.record_length else range(0)

    async def bring(self, record: RoundRecord) -> Verdict:
        await self._hear()
        self.brought.append(record)
        return self.verdicts.pop(0) if self.verdicts else Verdict("admitted")

    async def withdraw(self, record: bytes) -> None:
        if record.startswith(b"?"):
            raise PlainDecodeError("nobody signed this")
        self.withdrawn.append(record)

    async def final_header(self) -> Committed | None:
        await self._hear()
        headers = [committed for committed in self.blocks if committed.block.payload[:1] == b"H"]
        return headers[-1] if headers else None

    async def blocks_after(
        self, block: Digest, count: int, bytes_max: int, epoch: int | None = None
    ) -> FinalBlocks | None:
        blocks = self.later.get(epoch or 0, self.blocks)
        known = [blocks[0].block.parent if blocks else epoch_set().genesis(), *(c.block.digest for c in blocks)]
        if block not in known:
            return None
        after = [committed.block for committed in blocks[known.index(block) :][:count]]
        proofs = {committed.block.digest: committed.certificate_chain for committed in blocks}
        return FinalBlocks.of(after, bytes_max, proofs.__getitem__)

    async def handover(self, epoch: int, number: int | None) -> HandoverProof | Passed | None:
        self.asked_handovers.append((epoch, number))
        return self.handovers.get(epoch)

    async def handover_signature(self, epoch: int) -> bytes | None:
        return self.signatures.get(epoch)

    async def object(self, digest: Digest) -> bytes | None:
        return self.objects.get(digest)

    async def object_named(self, identity: Digest) -> Digest | None:
        return self.names.get(identity)

    async def registered(self, trainer: bytes) -> Registered | None:
        return self.registrations.get(trainer)

    async def checkpoint_signature(self, last_round: int) -> bytes | None:
        return self.signatures.get(last_round)

    def speak(self) -> None:
        """Answer what was asked while this desk was deaf."""
        self.deaf = False
        self.spoken.set()

    async def _hear(self) -> None:
        self.heard += 1
        if self.deaf:
            await self.spoken.wait()


@dataclass(frozen=True)
class PlainReport:
    trainer: bytes
    round: int


@dataclass(frozen=True)
class PlainUpload:
    """What the stage's decoder makes of bytes: all that a gateway looks at, and the bytes."""

    report: PlainReport
    data: bytes


class PlainDecodeError(CollegiumError):
    """The stage's decoder refuses."""


def upload_bytes(trainer: int = 0, round_number: int = ROUND, length: int = 1000, filling: bytes = b"x") -> bytes:
    head = TRAINERS[trainer].address + round_number.to_bytes(8, "little")
    return head + filling * (length - len(head))


def record_bytes(
    steward: AccountKey = STEWARDS[0],
    round_number: int = ROUND,
    value: int = 5,
    signer: AccountKey | None = None,
    evidence: bytes = bytes(32),
) -> bytes:
    """Return a steward's signed record."""
    direction = np.full(PARAMETERS, value, np.int64)
    record = StewardRecord(
        account=steward.address,
        round=round_number,
        direction=direction,
        commitment=sha256(b"score").digest(),
        opened=None,
        registered=evidence,
        evidence=evidence,
    )
    return encode_steward_record(sign_steward_record(record, TASK, signer or steward))


def plain_decode(data: bytes) -> Any:
    if data[28:29] == b"!":
        raise PlainDecodeError("a byte that no upload has", byte=data[28])
    return PlainUpload(PlainReport(data[:20], int.from_bytes(data[20:28], "little")), data)


# ------------------------------------------------------------------------------------------------ the gateway


@dataclass
class House:
    """A gateway before its desk, and a client that calls the application without any socket."""

    desk: StageDesk
    gateway: Gateway
    http: httpx.AsyncClient

    @classmethod
    def of(
        cls,
        folder: Path,
        desk: StageDesk | None = None,
        spool: SpoolLimits | None = None,
        limits: GatewayLimits | None = None,
        serves_metrics: bool = True,
    ) -> House:
        desk = desk or StageDesk()
        gateway = Gateway(
            desk,
            UploadSpool(folder / f"spool {desk.index}", TASK, desk.index, spool or SpoolLimits()),
            EventFeed(),
            plain_decode,
            serves_metrics=serves_metrics,
            limits=limits or GatewayLimits(),
        )
        transport = httpx.ASGITransport(app=gateway.app(), raise_app_exceptions=True)
        return cls(desk, gateway, httpx.AsyncClient(transport=transport, base_url=f"https://validator-{desk.index}"))

    def line(self, limits: ClientLimits | None = None) -> Line:
        return Line(self.desk.index, self.http, limits or ClientLimits())

    def ticket(self, data: bytes, trainer: int = 0, round_number: int = ROUND) -> UploadTicket:
        return make_ticket(TRAINERS[trainer], TASK, self.desk.index, round_number, data)

    async def begin(self, ticket: UploadTicket) -> httpx.Response:
        return await self.http.post("/v1/uploads", content=encode_ticket(ticket))

    async def place(self, ticket: UploadTicket) -> str:
        """Begin an upload and return its address."""
        answer = await self.begin(ticket)
        assert answer.status_code in (200, 201), answer.text
        return answer.headers["location"]

    async def append(self, place: str, offset: int | str, data: Any) -> httpx.Response:
        return await self.http.patch(place, content=data, headers={"upload-offset": str(offset)})

    def files(self) -> list[str]:
        return sorted(path.suffix for path in self.gateway.spool.folder.iterdir())


@dataclass
class Reading:
    """A reader that takes nothing of an answer until it is told to go on."""

    began: asyncio.Event
    goes_on: asyncio.Event
    task: asyncio.Task[None]

    @classmethod
    def of(cls, house: House, path: str) -> Reading:
        began, goes_on = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            began.set()
            await goes_on.wait()

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "app": None}
        return cls(began, goes_on, asyncio.ensure_future(house.gateway.app()(scope, receive, send)))


def named(answer: httpx.Response) -> str:
    """Return the name of the problem that a gateway answered."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.json()["status"] == answer.status_code
    return answer.json()["title"]


def forged(committed: Committed) -> Committed:
    """Return the block with another payload: the certificates are not about it."""
    block = replace(committed.block, payload=payload_of(1))
    return Committed(block, committed.certificate_chain)


def run(scene: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Play a scene to its end."""
    return asyncio.run(scene())
