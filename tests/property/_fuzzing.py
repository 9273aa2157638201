"""Bytes that no honest encoder writes, and the watch over a decoder that is given them.

A case is a number: the seeded generator makes the same bytes of it everywhere, so a failure names the case and that is
enough to see it again. Half of the cases change the bytes of a valid input; the others, where the format is known,
change the value that it encodes and write that again, so that they come past the checks of the form.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import time
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import Any, Literal

import msgspec

from collegium.errors import CollegiumError

Form = Literal["binary", "msgpack", "json", "text"]

CASE_SECONDS_MAX = 60  # a case takes microseconds; this ends one that would never
MEMORY_BEYOND_BYTES = 1 << 30  # of addresses beyond those of the process when a batch begins
TRACED_ONE_IN = 16
INTEGERS = (0, 1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
CLAIMS = (  # of MessagePack: arrays, maps, texts, bytes and extensions with more in them than there can be
    b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xc5\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xdd\x7f\xff\xff\xff", b"\xc1",
)  # fmt: skip
WORDS = (  # of JSON, TOML, CSV and paths
    b"null", b"true", b"-1", b"1e999999", b"NaN", b"Infinity", b"9" * 5000, b"0.1", b"-0", b"[]", b"{}", b'""', b"''",
    b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\0", b"\r\n", b"1979-05-27T07:32:00Z",
    b"07:32:00", b"inf", b"nan", b"0x" + b"f" * 64, b"1_000", b'"' + b"a" * 5000 + b'"', b'"""', b"#", b"..", b"/",
    b"[[a]]", b"a.b.c=1", b"\xef\xbb\xbf", b'"' + b"AAAA" * 40 + b'"', b"1" + b"0" * 400, b"\xe2\x98\x83",
)  # fmt: skip


@dataclass(frozen=True)
class Decoder:
    """One decoder of bytes from outside.

    Attributes:
        decode: raises nothing but a `CollegiumError`, or returns a value.
        seeds: valid inputs.
        form: what the bytes behind `prefix` are.
        encode: where there is one encoding, writes a decoded value again.
        repair: makes a changed input pass its outermost check, such as a digest.
        cost: how many times as long as a light one it takes: so many fewer cases.
        memory_max: most bytes that a case may take, beside 64 for each of its own.
    """

    name: str
    decode: Callable[[bytes], Any]
    seeds: Callable[[], Sequence[bytes]]
    form: Form = "binary"
    prefix: int = 0
    encode: Callable[[Any], bytes] | None = None
    repair: Callable[[bytes], bytes] | None = None
    cost: int = 1
    memory_max: int = 4 << 20


@dataclass(frozen=True)
class Outcome:
    """What came of a batch."""

    name: str
    cases: int
    accepted: int
    seconds: float
    peak_bytes: int
    resident_growth_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.name:32} {self.cases:7} cases, {self.accepted:6} accepted, {self.seconds:7.1f} s, peak of a case "
            f"{self.peak_bytes / 1e6:6.2f} MB, process grew {self.resident_growth_bytes / 1e6:6.1f} MB"
        )


class NeverEndsError(BaseException):
    """A case took longer than any can; no decoder catches this by mistake."""


# ------------------------------------------------------------------------------------------------ making cases


class Fuzzer:
    """Makes the cases of one decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.seeds = tuple(decoder.seeds())
        self._name = zlib.crc32(decoder.name.encode())

    @cached_property
    def trees(self) -> tuple[tuple[bytes, Any], ...]:
        """The seeds that are MessagePack or JSON, as prefix and plain value."""
        found = []
        for seed in self.seeds:
            prefix, body = seed[: self.decoder.prefix], seed[self.decoder.prefix :]
            if self.decoder.form == "msgpack":
                found.append((prefix, msgspec.msgpack.decode(body)))
            elif self.decoder.form == "json":
                found.append((prefix, json.loads(body)))
        return tuple(found)

    def case(self, number: int) -> bytes:
        """Return the bytes of a case."""
        rng = random.Random(self._name * 2**32 + number)
        make = self._value_case if self.trees and rng.random() < 0.5 else self._bytes_case
        data = make(rng)
        if self.decoder.repair is not None and rng.random() < 0.7:
            data = self.decoder.repair(data)
        return data

    def _value_case(self, rng: random.Random) -> bytes:
        prefix, tree = rng.choice(self.trees)
        for _ in range(_few(rng)):
            tree = change_value(rng, tree, self.decoder.form == "json")
        if self.decoder.form == "json":
            return prefix + _json_bytes(tree)
        try:
            return prefix + msgspec.msgpack.encode(tree)
        except (OverflowError, ValueError, TypeError):
            return prefix

    def _bytes_case(self, rng: random.Random) -> bytes:
        data = bytearray(rng.choice(self.seeds))
        changes = CHANGES[self.decoder.form]
        for _ in range(_few(rng)):
            rng.choice(changes)(rng, data, self.seeds)
        return bytes(data)


def _few(rng: random.Random) -> int:
    return rng.choice((1, 1, 1, 2, 3, 5))


def _place(rng: random.Random, data: bytearray) -> int:
    """Return a position: every other time near an end, where heads and tails are."""
    size = len(data)
    where = rng.randrange(4)
    if where == 0:
        return rng.randrange(min(size, 64) + 1)
    if where == 1:
        return size - rng.randrange(min(size, 128) + 1)
    return rng.randrange(size + 1)


def _flip(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, data)
    if at < len(data):
        data[at] ^= rng.choice((1, 2, 4, 8, 16, 32, 64, 128, 255, rng.randrange(256)))


def _cut(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _remove(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 2, 4, 8, 32, 33, 100))]


def _insert(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = rng.choice((rng.randbytes(rng.randrange(1, 40)), bytes(rng.randrange(1, 70)), b"\xff" * 8))


def _overwrite(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at, size = _place(rng, data), rng.choice((1, 2, 4, 8, 32))
    data[at : at + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))[: max(0, len(data) - at)]


def _number(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Write an integer over a field that may be a length: of any width, either way round, now and then one off."""
    at, width = _place(rng, data), rng.choice((1, 2, 4, 8))
    order: Literal["little", "big"] = rng.choice(("little", "big"))
    old = int.from_bytes(data[at : at + width], order)
    new = rng.choice((*INTEGERS, old + 1, old - 1, 2 * old, len(data), len(data) + 1))
    data[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, order)


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Let another valid input go on from here."""
    other = rng.choice(seeds)
    at, start = _place(rng, data), rng.randrange(len(other) + 1)
    data[at:] = other[start:]


def _repeat(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, data)
    piece = data[at : at + rng.choice((1, 8, 32, 66, 300))]
    data[at:at] = piece * rng.choice((1, 2, 30))


def _swap(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at, size = _place(rng, data), rng.choice((1, 4, 32))
    first, second = data[at : at + size], data[at + size : at + 2 * size]
    data[at : at + 2 * size] = second + first


def _noise(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    keep = rng.choice((0, 1, 2, 4, 16, 64))
    data[keep:] = rng.randbytes(rng.choice((0, 1, 3, 20, 200, 2000)))


def _claim(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, data)
    claim = rng.choice((*CLAIMS, b"\x91" * rng.choice((10, 300, 20_000)), b"\x81\xa1a" * 5000))
    data[at : at + rng.choice((0, 1, 5))] = claim


def _word(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Write something awkward where a word stood."""
    at, end = _place(rng, data), 0
    nest = rng.choice((b"[", b'{"a":', b"{a=", b"("))
    word = rng.choice((*WORDS, nest * rng.choice((3, 1000, 100_000))))
    while at + end < len(data) and data[at + end] not in b' \n,:="]}':
        end += 1
    data[at : at + rng.choice((0, end))] = word


def _line(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Remove, repeat or move a line, or take one of another input."""
    lines, others = bytes(data).split(b"\n"), rng.choice(seeds).split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for piece in rng.choice(([], [line, line], [line], [rng.choice(others)])):
        lines.insert(rng.randrange(len(lines) + 1), piece)
    data[:] = b"\n".join(lines)


_BINARY = (_flip, _flip, _cut, _remove, _insert, _overwrite, _number, _number, _splice, _repeat, _swap, _noise)
CHANGES: dict[Form, tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...]] = {
    "binary": _BINARY,
    "msgpack": (*_BINARY, _claim, _claim, _claim),
    "json": (_flip, _cut, _remove, _insert, _splice, _repeat, _noise, _word, _word, _word),
    "text": (_flip, _cut, _remove, _insert, _splice, _repeat, _noise, _word, _word, _word, _line, _line, _line),
}


def change_value(rng: random.Random, tree: Any, of_json: bool) -> Any:
    """Return a plain value with one place in it changed; what is on the way there is copied."""
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        at = rng.randrange(len(tree))
        return [*tree[:at], change_value(rng, tree[at], of_json), *tree[at + 1 :]]
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        return {**tree, key: change_value(rng, tree[key], of_json)}
    return _other(rng, tree, of_json)


def _other(rng: random.Random, value: Any, of_json: bool) -> Any:
    if rng.random() < 0.2:
        return rng.choice((None, True, 0, -1, 1.5, float("inf"), "", "x", [], {}, [[]], {"a": 1}, [value], 2**63))
    match value:
        case bool() | None:
            return rng.choice((None, True, False, 0, 1))
        case int():
            return rng.choice((*INTEGERS, value + 1, value - 1, -(2**63), float(value), str(value), 10**30))
        case float():
            return rng.choice((0.0, -0.0, -1.0, 1e308, 5e-324, float("nan"), float("inf"), 3, value * 2, str(value)))
        case bytes():
            return rng.choice((b"", value[:-1], value + b"\0", bytes(len(value)), rng.randbytes(len(value)), value * 3))
        case str():
            digits = b64encode(rng.randbytes(rng.choice((0, 1, 19, 20, 31, 32, 33, 48, 65, 96)))).decode()
            other = ("", value[:-1], value + "0", value * 2, "é", "\0", "a" * 5000, "\u2028", value.upper(), digits)
            return rng.choice(other)
        case list():
            return rng.choice(([], value[1:], value + value[:1], value[::-1], value * 40, [value]))
        case dict():
            items = list(value.items())
            return rng.choice(({}, dict(items[1:]), dict(items[::-1]), {**value, "zz": 1}, items, {**value, "": None}))
    return None


def _json_bytes(tree: Any) -> bytes:
    """Return JSON as msgspec writes it, where it can."""
    try:
        return msgspec.json.encode(tree)
    except (OverflowError, ValueError, TypeError):
        return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


# ------------------------------------------------------------------------------------------------ watching


def run(decoder: Decoder, cases: int) -> Outcome:
    """Give a decoder so many cases; the first that does what no case may is an AssertionError with its number."""
    fuzzer = Fuzzer(decoder)
    for seed in fuzzer.seeds:  # also warms what is made once
        value = decoder.decode(seed)
        assert decoder.encode is None or decoder.encode(value) == seed, f"{decoder.name}: a seed has another encoding"
    accepted = peak = 0
    began, resident = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _bounded_memory(), _alarm():
        for number in range(cases):
            data = fuzzer.case(number)
            signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS_MAX)
            taken_in, took = _one(decoder, data, number, traced=number % TRACED_ONE_IN == 0)
            accepted += taken_in
            peak = max(peak, took)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    return Outcome(decoder.name, cases, accepted, time.process_time() - began, peak, 1024 * grown)


def _one(decoder: Decoder, data: bytes, number: int, traced: bool) -> tuple[bool, int]:
    """Decode one case; returns whether it was accepted, and the bytes that it took if it was traced."""
    where = f"{decoder.name}, case {number}, {len(data)} bytes {data[:200].hex()}"
    value, accepted, peak = None, False, 0
    if traced:
        tracemalloc.start()
    try:
        value = decoder.decode(data)
        accepted = True
    except CollegiumError:
        pass
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # panics of native code are no Exceptions
        raise AssertionError(f"{type(error).__name__}: {str(error)[:300]}; {where}") from error
    finally:
        if traced:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak <= decoder.memory_max + 64 * len(data), f"{peak} bytes of memory; {where}"
    if accepted and decoder.encode is not None:
        assert decoder.encode(value) == data, f"accepted, but written otherwise; {where}"
    return accepted, peak


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let allocations fail that would take the process far beyond what it has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BEYOND_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise NeverEndsError(f"no answer in {CASE_SECONDS_MAX} s")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
