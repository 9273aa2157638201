"""What travels on a connection between two validators: records that carry whole frames or chunks of one large frame.

A record is a 4-byte big-endian length, then that many bytes, of which the first says what it is. No record is longer
than a chunk, so no length is ever believed beyond 16 KiB; a large frame tells its size and kind at its start and is
judged by these before a second chunk is read. Pure: bytes in, values out; no clock, no socket.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from collegium.errors import CollegiumError

__all__ = [
    "BOOT_BYTES",
    "CHUNK_BYTES",
    "Frames",
    "Hello",
    "Lanes",
    "MalformedRecordError",
    "Ping",
    "RecordTooLongError",
    "encode_hello",
    "encode_ping",
]

VERSION: Final = 1
BOOT_BYTES: Final = 16
CHUNK_BYTES: Final = 1 << 14
RECORD_BYTES_MAX: Final = 1 + 4 + CHUNK_BYTES
_HEAD: Final = struct.Struct(">IB")
_LENGTH: Final = struct.Struct(">I")


class RecordTooLongError(CollegiumError):
    """A record or a frame claims more bytes than its kind may have."""


class MalformedRecordError(CollegiumError):
    """A record of no known kind, out of turn, or of the wrong length for its kind."""


class RecordKind(IntEnum):
    """The first byte of a record."""

    HELLO = 0  # version and the boot's number: the first record of either side, once
    PING = 1  # nothing: I am here
    WHOLE = 2  # a frame of at most CHUNK_BYTES
    START = 3  # 4-byte size of a large frame, then its first chunk
    MORE = 4  # the next chunk of the large frame under way


@dataclass(frozen=True, slots=True)
class Hello:
    """The other end speaks this version; `boot` is new each time that its process starts."""

    boot: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """The other end is there."""


def encode_hello(boot: bytes) -> bytes:
    """Return the record that opens a connection."""
    return _HEAD.pack(2 + BOOT_BYTES, RecordKind.HELLO) + bytes((VERSION,)) + boot


def encode_ping() -> bytes:
    """Return the record that says nothing."""
    return _HEAD.pack(1, RecordKind.PING)


class Frames:
    """Takes a connection's bytes as they come and gives back what they say.

    Holds at most one record, what came behind it, and the received part of one large frame.

    Args:
        limit_of: the most bytes of a frame whose first byte is this; 0 refuses the kind.
    """

    __slots__ = ("_greeted", "_large", "_limit_of", "_rest", "_total")

    def __init__(self, limit_of: Callable[[int], int]) -> None:
        self._limit_of = limit_of
        self._rest = bytearray()
        self._large = bytearray()
        self._total = 0  # of the large frame under way; 0: there is none
        self._greeted = False

    @property
    def unfinished(self) -> bool:
        """Whether a record or a large frame has begun and not ended."""
        return bool(self._rest or self._total)

    def feed(self, data: bytes) -> list[Hello | Ping | bytes]:
        """Return what these bytes complete, in order; a frame is returned as bytes.

        Raises:
            RecordTooLongError: a length over what the record or the frame's kind may have, as soon as that is seen.
            MalformedRecordError: anything else that an honest peer does not send.
        """
        source: bytes | bytearray = data
        if self._rest:
            self._rest += data
            source = self._rest
        found: list[Hello | Ping | bytes] = []
        position, end = 0, len(source)
        while end - position >= _HEAD.size:
            length, kind = _HEAD.unpack_from(source, position)
            body, after = position + _HEAD.size, position + _LENGTH.size + length
            self._judge(length, kind, source, body)
            if end < after:
                break
            said = self._take(kind, bytes(source[body:after]))
            if said is not None:
                found.append(said)
            position = after
        if _LENGTH.size == end - position:
            _judge_length(*_LENGTH.unpack_from(source, position))
        if source is self._rest:
            del self._rest[:position]
        else:
            self._rest += data[position:]
        return found

    def _judge(self, length: int, kind: int, source: bytes | bytearray, body: int) -> None:
        """Refuse a record by its head and by what has come of its body."""
        _judge_length(length)
        if (kind == RecordKind.HELLO) is self._greeted:
            raise MalformedRecordError(f"record of kind {kind}: the hello comes first, and once", kind=kind)
        fits = False
        if kind == RecordKind.WHOLE:
            fits = 2 <= length <= 1 + CHUNK_BYTES
            self._judge_frame(length - 1, source, body)
        elif kind == RecordKind.MORE:
            fits = length - 1 == min(self._total - len(self._large), CHUNK_BYTES) > 0
        elif kind == RecordKind.START:
            fits = length == RECORD_BYTES_MAX and not self._total
            if fits and len(source) >= body + _LENGTH.size:
                (total,) = _LENGTH.unpack_from(source, body)
                fits = total > CHUNK_BYTES
                self._judge_frame(total, source, body + _LENGTH.size)
        elif kind == RecordKind.PING:
            fits = length == 1
        elif kind == RecordKind.HELLO:
            fits = length == 2 + BOOT_BYTES
        if not fits:
            raise MalformedRecordError(f"record of kind {kind} with {length} bytes", kind=kind, length=length)

    def _judge_frame(self, length: int, source: bytes | bytearray, begin: int) -> None:
        if begin < len(source):
            kind = source[begin]
            length_max = self._limit_of(kind)
            if length > length_max:
                raise RecordTooLongError(
                    f"frame of kind {kind} with {length} bytes, at most {length_max}",
                    kind=kind,
                    length=length,
                    length_max=length_max,
                )

    def _take(self, kind: int, body: bytes) -> Hello | Ping | bytes | None:
        if kind == RecordKind.WHOLE:
            return body
        if kind == RecordKind.PING:
            return Ping()
        if kind == RecordKind.HELLO:
            if body[0] != VERSION:
                raise MalformedRecordError(f"version {body[0]}, expected {VERSION}", version=body[0])
            self._greeted = True
            return Hello(body[1:])
        if kind == RecordKind.START:
            (self._total,) = _LENGTH.unpack_from(body)
            self._large += body[_LENGTH.size :]
            return None
        self._large += body
        if len(self._large) < self._total:
            return None
        frame, self._large, self._total = bytes(self._large), bytearray(), 0
        return frame


def _judge_length(length: int) -> None:
    if not 1 <= length <= RECORD_BYTES_MAX:
        raise RecordTooLongError(
            f"record of {length} bytes, expected 1 to {RECORD_BYTES_MAX}", length=length, length_max=RECORD_BYTES_MAX
        )


class Lanes:
    """What waits to be sent to one peer: small frames, which go first, and large ones, which go chunk by chunk between.

    Either lane is bounded in frames and bytes. Within a lane the order is kept; between lanes it is not.

    Args:
        small_bytes_max: frames up to this many bytes are small.
        small_limits: the most waiting frames and bytes of the small lane.
        large_limits: the same of the large lane.
    """

    __slots__ = ("_large", "_large_bytes", "_large_limits", "_sent", "_small", "_small_bytes", "_small_limits", "_turn")

    def __init__(self, small_bytes_max: int, small_limits: tuple[int, int], large_limits: tuple[int, int]) -> None:
        self._turn = min(small_bytes_max, CHUNK_BYTES)
        self._small_limits = small_limits
        self._large_limits = large_limits
        self._small: deque[bytes] = deque()
        self._large: deque[bytes] = deque()
        self._small_bytes = 0
        self._large_bytes = 0
        self._sent = 0  # bytes of the first large frame that have left

    def __bool__(self) -> bool:
        return bool(self._small or self._large)

    @property
    def count(self) -> int:
        """Frames that wait."""
        return len(self._small) + len(self._large)

    @property
    def size_bytes(self) -> int:
        """Bytes that wait; a large frame counts whole until its last chunk has left."""
        return self._small_bytes + self._large_bytes

    def put(self, frame: bytes) -> bool:
        """Queue a frame; False if its lane is full."""
        size = len(frame)
        if size <= self._turn:
            if len(self._small) >= self._small_limits[0] or self._small_bytes + size > self._small_limits[1]:
                return False
            self._small.append(frame)
            self._small_bytes += size
            return True
        if len(self._large) >= self._large_limits[0] or self._large_bytes + size > self._large_limits[1]:
            return False
        self._large.append(frame)
        self._large_bytes += size
        return True

    def take(self) -> tuple[bytes, int]:
        """Return the next bytes for the wire and how many frames they end: small frames up to a chunk, one chunk."""
        parts: list[bytes] = []
        frames = taken = 0
        while self._small and taken < CHUNK_BYTES:
            frame = self._small.popleft()
            parts += (_HEAD.pack(1 + len(frame), RecordKind.WHOLE), frame)
            taken += len(frame)
            frames += 1
        self._small_bytes -= taken
        if self._large:
            frames += self._take_chunk(parts)
        return b"".join(parts), frames

    def _take_chunk(self, parts: list[bytes]) -> int:
        """Append the next chunk of the first large frame; returns 1 if that ends it."""
        frame = self._large[0]
        begin, end = self._sent, min(self._sent + CHUNK_BYTES, len(frame))
        chunk = frame[begin:end]
        if begin:
            parts += (_HEAD.pack(1 + len(chunk), RecordKind.MORE), chunk)
        elif end == len(frame):
            parts += (_HEAD.pack(1 + len(chunk), RecordKind.WHOLE), chunk)
        else:
            parts += (_HEAD.pack(5 + len(chunk), RecordKind.START), _LENGTH.pack(len(frame)), chunk)
        self._sent = end
        if end < len(frame):
            return 0
        self._large.popleft()
        self._large_bytes -= len(frame)
        self._sent = 0
        return 1

    def clear(self) -> int:
        """Drop everything, as when the connection is gone; returns how many frames that were."""
        count = self.count
        self._small.clear()
        self._large.clear()
        self._small_bytes = self._large_bytes = self._sent = 0
        return count
