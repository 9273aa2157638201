"""Programs read messages and their fields strictly, and make the digests and challenges of `collegium.crypto`."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from hashlib import sha256

import pytest

from collegium import algebra
from collegium.commitment import chaining_values, compress, pad_message
from collegium.consensus import OUTCOMES
from collegium.crypto import Transcript, frame_fields, hash_fields
from collegium.settlement.programs import PreimageUnknownError, Rejected, begin, memory, source_of
from collegium.settlement.programs import _extension as extension
from collegium.settlement.programs import _hashing as hashing
from collegium.settlement.programs import _proof_transcript as transcripts
from collegium.settlement.programs import _reading as reading
from collegium.settlement.programs import _transforms as transforms

START = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
LENGTHS = (0, 1, 7, 8, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 300)
AT = 100  # where a test puts what it wants


def known(padded: bytes, start: bytes = START) -> bytes:
    """Begin a program about a message, padded as it is; return the digest."""
    stretches, value = {}, start
    for at in range(0, len(padded), 64):
        after = compress(value, padded[at : at + 64])
        stretches[after] = value, padded[at : at + 64]
        value = after
    begin(value, stretches.get)
    return value


def put(address: int, data: bytes) -> None:
    for index in range(-(-len(data) // 8)):
        memory[address + index] = int.from_bytes(data[8 * index : 8 * index + 8].ljust(8, b"\0"), "big")


def get(address: int, size: int) -> bytes:
    return b"".join(memory[address + index].to_bytes(8, "big") for index in range(-(-size // 8)))[:size]


def word(text: str) -> int:
    return int.from_bytes(text.encode().ljust(8, b"\0"), "big")


def tag(name: str) -> tuple[int, int, int, int]:
    data = ("collegium/v1/" + name).encode()
    second, third, fourth = (int.from_bytes(data[at : at + 8].ljust(8, b"\0"), "big") for at in (8, 16, 24))
    return len(data), second, third, fourth


def rejected(action: Callable[[], object]) -> bool:
    """Tell whether a program goes no further: it rejects, or asks for what nobody can show."""
    try:
        action()
    except (AssertionError, Rejected, PreimageUnknownError):
        return True
    return False


@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_is_read_from_its_digest(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert known(pad_message(data)) == sha256(data).digest()
    message, size = reading.read_message(0)
    assert (size, get(message, length)) == (length, data)
    assert chaining_values(pad_message(data))[-1].tobytes() == sha256(data).digest()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_with_other_padding_is_rejected(length: int) -> None:
    padded = pad_message(bytes(length))
    bits = (8 * length).to_bytes(8, "big")
    wrong = [
        padded[:length] + b"\x81" + padded[length + 1 :],
        padded[:length] + b"\x00" + padded[length + 1 :],
        padded[:-8] + (8 * length + 1).to_bytes(8, "big"),
        padded[:-8] + (8 * (length + 1)).to_bytes(8, "big"),
        padded[:-8] + (1 << 63).to_bytes(8, "big"),
    ]
    if padded[length + 1 : -8]:
        wrong.append(padded[:-9] + b"\x01" + bits)
    for data in wrong:
        known(data)
        assert rejected(lambda: reading.read_message(0)), data.hex()
    known(padded, bytes(32))
    assert rejected(lambda: reading.read_message(0)), "it begins elsewhere"


def test_a_message_with_blocks_more_or_fewer_than_its_length_is_rejected() -> None:
    data = pad_message(bytes(130))
    for padded in (data[64:], bytes(64) + data):
        known(padded)
        assert rejected(lambda: reading.read_message(0))


FIELDS: tuple[bytes | int, ...] = (b"abc", 5, b"", bytes(range(32)), b"x" * 77)


@pytest.mark.parametrize("name", ["x", "clo", "close", "key-sum", "transcript", "transcript/absorb", "0123456789a"])
def test_fields_are_found_and_framed(name: str) -> None:
    known(pad_message(frame_fields(name, *FIELDS)))
    record = reading.read_fields(0, len(FIELDS), *tag(name))
    assert reading.integer_field(record, 1) == 5
    assert get(reading.digest_field(record, 3), 32) == FIELDS[3]
    assert [reading.field_size(record, index) for index in range(5)] == [3, 8, 0, 32, 77]
    assert rejected(lambda: reading.integer_field(record, 0))
    assert rejected(lambda: reading.digest_field(record, 4))
    made = hashing.start_hash()
    hashing.put_tag(made, *tag(name))
    hashing.put_little(made, 3)
    hashing.put_bytes(made, word("abc"), 3)
    hashing.put_integer_field(made, 5)
    hashing.put_little(made, 0)
    hashing.put_digest_field(made, reading.digest_field(record, 3))
    hashing.put_little(made, 77)
    hashing.put_message(made, memory[record], reading.field_start(record, 4), 77)
    assert get(hashing.finish_hash(made), 32) == hash_fields(name, *FIELDS)


def test_other_framings_are_rejected() -> None:
    right = frame_fields("close", *FIELDS)
    huge = right[: -77 - 8] + (1 << 63).to_bytes(8, "little") + right[-77:]
    short = right[: -77 - 8] + (76).to_bytes(8, "little") + right[-77:]
    others = [frame_fields(name, *FIELDS) for name in ("clote", "closes", "clos")]
    for data in (right + b"\0", right[:-1], huge, short, *others):
        known(pad_message(data))
        assert rejected(lambda: reading.read_fields(0, len(FIELDS), *tag("close"))), data.hex()
    for count in (4, 6):
        known(pad_message(right))
        assert rejected(lambda: reading.read_fields(0, count, *tag("close")))  # noqa: B023 - called at once


@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_is_hashed_in_any_pieces(length: int) -> None:
    draw = random.Random(length)
    data, at = draw.randbytes(length), 0
    begin(bytes(32), lambda _: None)
    made = hashing.start_hash()
    while at < length:
        count = min(length - at, draw.randint(1, 8))
        hashing.put_bytes(made, int.from_bytes(data[at : at + count].ljust(8, b"\0"), "big"), count)
        at += count
    assert get(hashing.finish_hash(made), 32) == sha256(data).digest()


def test_challenges_are_the_transcripts() -> None:
    expected = Transcript("locate", b"d" * 32)
    expected.absorb("seat 3", b"x" * 32)
    expected.absorb("seat 255", b"y" * 32)
    begin(bytes(32), lambda _: None)
    started = transcripts.start_transcript()
    transcripts.put_label(started, word("locate"), 0)
    put(AT, b"d" * 32)
    hashing.put_digest_field(started, AT)
    transcripts.end_fields()
    for label, data in (("seat 3", b"x"), ("seat 255", b"y")):
        put(AT, data * 32)
        transcripts.absorb(word(label), 0, AT, 4)
    transcripts.begin_challenge(word("rows"), 0, word("field"), 7, 0)
    elements = [transcripts.next_element() for _ in range(7)]
    assert elements == expected.challenge_field("rows", 7).tolist()


def constants(module: str) -> dict[str, int]:
    """The integers that a module names: it cannot be imported without a task's parameters."""
    named: dict[str, int] = {}
    for each in ast.parse(source_of(module)).body:
        match each:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(int(value))):
                named[name] = value
    return named


def test_tags_and_roots_are_what_they_are_called() -> None:
    named: dict[str, int] = {}
    for module in ("_round", "_members", "_key_sums", "_masking", "_opening", "_next_round"):
        named |= constants(module)
    tags = ("header", "close", "report", "terms", "epoch-set", "key-sum", "committee")
    for name in tags:
        key = name.upper().replace("-", "_")
        assert tag(name)[1:3] == (named[key], named[f"{key}_END"]), name
    assert tag("mask-matrix")[1:3] == (named["MATRIX"], named["MATRIX_END"])
    assert tag("total")[1:3] == (named["TOTAL"], named["TOTAL_END"])
    for outcome in OUTCOMES:
        assert named[f"{outcome.upper()}_WORD"] == word(outcome)
    assert algebra.root_of_unity(8192) == transforms.ROOT_8192
    assert transforms.ROOT_8192 * transforms.ROOT_8192_INVERSE % algebra.P == 1
    assert extension.inverse(3) * 3 % algebra.P == 1
