"""Records between validators: what is read back, what is refused and how early, and what may wait to be sent."""

from __future__ import annotations

import contextlib
import random

import pytest

from collegium.node._peer_frames import (
    BOOT_BYTES,
    CHUNK_BYTES,
    Frames,
    Hello,
    Lanes,
    MalformedRecordError,
    Ping,
    RecordTooLongError,
    encode_hello,
    encode_ping,
)
from collegium.node._peer_link import Bucket
from collegium.node._peers import Backoff

BOOT = bytes(range(BOOT_BYTES))
FRAME_MAX = 5 * CHUNK_BYTES
REFUSED_KIND = 0x99


def frames() -> Frames:
    """A reader that has heard the hello."""
    reader = Frames(lambda kind: 0 if kind == REFUSED_KIND else FRAME_MAX)
    assert reader.feed(encode_hello(BOOT)) == [Hello(BOOT)]
    return reader


def lanes(small: tuple[int, int] = (100, 1 << 20), large: tuple[int, int] = (100, 1 << 24)) -> Lanes:
    return Lanes(1_000, small, large)


def wire(*sent: bytes) -> bytes:
    """What a sender writes for these frames."""
    queue, written = lanes(), b""
    for frame in sent:
        assert queue.put(frame)
    while queue:
        written += queue.take()[0]
    return written


def head(length: int, kind: int, body: bytes = b"") -> bytes:
    return length.to_bytes(4) + bytes((kind,)) + body


# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.seeds(quick=10, full=500)
def test_frames_are_read_back_however_the_bytes_are_cut(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [1, 999, 1_000, 1_001, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, FRAME_MAX]
    sent = [bytes((draw.randrange(0x99),)) * draw.choice(sizes) for _ in range(6)]
    written = wire(*sent) + encode_ping()
    reader, read, position = frames(), [], 0
    while position < len(written):
        step = draw.choice([1, 3, 4, 5, 6, 100, CHUNK_BYTES, 1 << 18])
        read += reader.feed(written[position : position + step])
        position += step
    assert sorted(read[:-1], key=str) == sorted(sent, key=str)
    assert [frame for frame in read if isinstance(frame, bytes) and len(frame) > 1_000] == [
        frame for frame in sent if len(frame) > 1_000
    ]
    assert read[-1] == Ping()
    assert not reader.unfinished


def test_a_begun_frame_is_unfinished() -> None:
    reader = frames()
    assert not reader.unfinished
    whole = wire(bytes(CHUNK_BYTES + 1))
    reader.feed(whole[:3])
    assert reader.unfinished
    reader.feed(whole[3 : 9 + CHUNK_BYTES])  # the first chunk ends here
    assert reader.unfinished
    assert reader.feed(whole[9 + CHUNK_BYTES :]) == [bytes(CHUNK_BYTES + 1)]
    assert not reader.unfinished


@pytest.mark.parametrize("length", [0, 6 + CHUNK_BYTES, 1 << 31, (1 << 32) - 1])
def test_a_record_of_no_honest_length_is_refused_after_four_bytes(length: int) -> None:
    with pytest.raises(RecordTooLongError) as refusal:
        frames().feed(length.to_bytes(4))
    assert refusal.value.values["length"] == length


def test_a_frame_over_its_kinds_limit_is_refused_before_its_first_chunk() -> None:
    begin = head(5 + CHUNK_BYTES, 3, FRAME_MAX.to_bytes(4) + b"\x01")
    assert frames().feed(begin) == []
    with pytest.raises(RecordTooLongError) as refusal:
        frames().feed(head(5 + CHUNK_BYTES, 3, (FRAME_MAX + 1).to_bytes(4) + b"\x01"))
    assert refusal.value.values == {"kind": 1, "length": FRAME_MAX + 1, "length_max": FRAME_MAX}


def test_a_kind_that_nobody_speaks_is_refused_after_six_bytes() -> None:
    assert frames().feed(head(100, 2, b"\x98")) == []
    with pytest.raises(RecordTooLongError):
        frames().feed(head(100, 2, bytes((REFUSED_KIND,))))


STARTED = head(5 + CHUNK_BYTES, 3, (CHUNK_BYTES + 7).to_bytes(4) + bytes(CHUNK_BYTES))


def test_a_large_frame_goes_on_with_the_chunk_that_is_due() -> None:
    reader = frames()
    assert reader.feed(STARTED + encode_ping() + head(2, 2, b"\x05")) == [Ping(), b"\x05"]
    assert reader.feed(head(8, 4, bytes(7))) == [bytes(CHUNK_BYTES + 7)]


@pytest.mark.parametrize(
    "data",
    [
        encode_hello(BOOT),
        head(1, 2),
        head(2, 1),
        head(2, 5, b"\0"),
        head(2 + CHUNK_BYTES, 2),
        head(2, 4, b"\0"),
        head(4 + CHUNK_BYTES, 3),
        head(5 + CHUNK_BYTES, 3, CHUNK_BYTES.to_bytes(4)),
        STARTED + head(5 + CHUNK_BYTES, 3),
        STARTED + head(7, 4),
        STARTED + head(9, 4),
        STARTED + head(1, 4),
    ],
    ids=[
        "second hello",
        "empty frame",
        "ping with a word",
        "no such kind",
        "whole frame over a chunk",
        "chunk of nothing",
        "short first chunk",
        "large frame that is small",
        "large frame within a large one",
        "chunk too short",
        "chunk too long",
        "empty chunk",
    ],
)
def test_a_record_that_no_honest_peer_sends_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        frames().feed(data)


@pytest.mark.parametrize("first", [encode_ping(), head(2, 2, b"\0"), STARTED])
def test_nothing_comes_before_the_hello(first: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        Frames(lambda kind: FRAME_MAX).feed(first)


def test_another_version_is_not_spoken() -> None:
    hello = bytearray(encode_hello(BOOT))
    hello[5] += 1
    with pytest.raises(MalformedRecordError) as refusal:
        Frames(lambda kind: FRAME_MAX).feed(bytes(hello))
    assert refusal.value.values == {"version": 2}


@pytest.mark.seeds(quick=20, full=10_000)
def test_random_bytes_are_read_or_refused_by_name(seed: int) -> None:
    draw = random.Random(seed)
    reader = frames()
    with contextlib.suppress(RecordTooLongError, MalformedRecordError):
        for _ in range(50):
            kind, length = draw.randrange(6), draw.choice([1, 2, 5, 17, 5 + CHUNK_BYTES])
            reader.feed(head(length, kind) + draw.randbytes(draw.choice([0, length - 1, 40])))


# -------------------------------------------------------------------------------------------------------------- sending


def test_small_frames_go_first_and_wait_for_one_chunk_at_most() -> None:
    queue = lanes()
    large = bytes(3 * CHUNK_BYTES)
    assert queue.put(large)
    first, ended = queue.take()
    assert (len(first), ended) == (9 + CHUNK_BYTES, 0)
    assert queue.put(b"small")
    second, ended = queue.take()
    assert second.startswith(head(6, 2, b"small"))
    assert (len(second), ended) == (10 + 5 + CHUNK_BYTES, 1)
    assert queue.size_bytes == len(large)  # it counts whole until its last chunk has left
    assert queue.take()[1] == 1
    assert not queue


def test_a_flood_of_small_frames_leaves_a_large_one_its_chunk() -> None:
    queue = lanes(small=(1_000, 1 << 20))
    assert queue.put(bytes(2 * CHUNK_BYTES))
    for _ in range(200):
        assert queue.put(bytes(1_000))
    data, ended = queue.take()
    assert ended == 17  # a chunk's worth
    assert head(5 + CHUNK_BYTES, 3) in data


@pytest.mark.parametrize(("size", "limits"), [(10, {"small": (3, 30)}), (2_000, {"large": (3, 6_000)})])
def test_a_full_lane_refuses(size: int, limits: dict[str, tuple[int, int]]) -> None:
    queue = lanes(**limits)
    assert [queue.put(bytes(size)) for _ in range(4)] == [True, True, True, False]
    assert (queue.count, queue.size_bytes) == (3, 3 * size)
    ((count, size_bytes),) = limits.values()
    narrow = lanes(**dict.fromkeys(limits, (count + 1, size_bytes - 1)))
    assert [narrow.put(bytes(size)) for _ in range(3)] == [True, True, False]
    other = 2_010 - size
    assert queue.put(bytes(other))  # the other lane has room
    assert queue.clear() == 4
    assert (queue.count, queue.size_bytes, bool(queue)) == (0, 0, False)


# ------------------------------------------------------------------------------------------------------- how fast


def test_a_bucket_makes_wait_what_is_over_the_rate() -> None:
    bucket = Bucket(10, 20, now=0.0)
    assert bucket.take(20, 0.0) == 0.0
    assert bucket.take(5, 0.0) == 0.5
    assert bucket.over_since == 0.0
    assert bucket.take(0, 0.4) == pytest.approx(0.1)
    assert bucket.take(0, 100.0) == 0.0


def test_a_bucket_remembers_since_when_it_is_over_until_it_is_half_full() -> None:
    bucket = Bucket(10, 20, now=0.0)
    bucket.take(21, 1.0)
    for second in range(2, 9):
        bucket.take(10, float(second))
    assert bucket.over_since == 1.0
    bucket.take(0, 9.0)
    assert bucket.over_since == 1.0
    bucket.take(0, 9.2)
    assert bucket.over_since is None


def test_waits_double_up_to_a_bound_and_are_drawn_from_their_upper_half() -> None:
    backoff = Backoff(100, 1_000)
    for failures, whole in [(1, 0.1), (2, 0.2), (4, 0.8), (5, 1.0), (500, 1.0)]:
        waits = [backoff.seconds(failures) for _ in range(50)]
        assert all(whole / 2 <= wait <= whole for wait in waits)
        assert len(set(waits)) > 1
