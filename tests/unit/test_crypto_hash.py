"""Hashing, transcripts and streams: what is bound to what."""

from collections.abc import Callable

import numpy as np
import pytest

from collegium.crypto import (
    ByteLengthError,
    ChallengeRangeError,
    FieldRangeError,
    Stream,
    Transcript,
    hash_fields,
    os_random,
)
from collegium.crypto._hash import hash_numbered

SEED = bytes(range(32))


def test_fields_are_told_apart_by_their_lengths() -> None:
    digests = {hash_fields("t", *fields) for fields in ((b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""))}
    assert len(digests) == 4


def test_a_tag_is_no_field() -> None:
    assert hash_fields("t", b"x") != hash_fields("tx")


def test_an_integer_is_its_eight_bytes() -> None:
    assert hash_fields("t", 258) == hash_fields("t", b"\x02\x01" + bytes(6))


@pytest.mark.parametrize("field", [-1, 1 << 64])
def test_an_integer_out_of_range_is_refused(field: int) -> None:
    hash_fields("t", (1 << 64) - 1)
    with pytest.raises(FieldRangeError):
        hash_fields("t", field)


@pytest.mark.parametrize("tag", ["", "é", "a\n", "a" * 129])
def test_a_tag_is_short_printable_ascii(tag: str) -> None:
    hash_fields("a" * 128)
    with pytest.raises(FieldRangeError):
        hash_fields(tag)


def drawn_after(change: Callable[[Transcript], object]) -> bytes:
    transcript = Transcript("t", b"statement")
    change(transcript)
    return transcript.challenge_bytes("c", 32)


def test_a_challenge_depends_on_everything_before_it() -> None:
    histories: list[Callable[[Transcript], object]] = [
        lambda t: None,
        lambda t: t.absorb("a", b""),
        lambda t: t.absorb("b", b""),
        lambda t: t.absorb("a", b"\0"),
        lambda t: (t.absorb("a", b""), t.absorb("a", b"")),
        lambda t: t.challenge_bytes("a", 0),
        lambda t: t.challenge_bytes("a", 1),
        lambda t: t.challenge_field("a", 1),
        lambda t: t.challenge_ext("a", 1),
        lambda t: t.challenge_indices("a", 1, 2),
        lambda t: t.challenge_indices("a", 1, 3),
    ]
    assert len({drawn_after(history) for history in histories}) == len(histories)


def test_a_challenge_depends_on_the_statement_its_label_and_its_count() -> None:
    drawn = [
        Transcript("t", b"s").challenge_bytes("c", 32),
        Transcript("t", b"r").challenge_bytes("c", 32),
        Transcript("u", b"s").challenge_bytes("c", 32),
        Transcript("t", b"s").challenge_bytes("d", 32),
        Transcript("t", b"s").challenge_bytes("c", 33)[:32],
    ]
    assert len(set(drawn)) == len(drawn)


def test_two_transcripts_fed_alike_draw_alike() -> None:
    first, second = Transcript("t", 1), Transcript("t", 1)
    for transcript in (first, second):
        transcript.absorb("a", b"data")
    assert np.array_equal(first.challenge_ext("k", 9), second.challenge_ext("k", 9))
    assert first.state == second.state


def test_challenge_shapes() -> None:
    transcript = Transcript("t")
    assert transcript.challenge_field("f", 7).shape == (7,)
    extension = transcript.challenge_ext("k", 5)
    assert extension.shape == (2, 5)
    assert extension.dtype == np.uint64
    assert extension.flags.c_contiguous
    indices = transcript.challenge_indices("i", 0, 0)
    assert (indices.size, indices.dtype) == (0, np.int64)


@pytest.mark.parametrize(("count", "bound"), [(-1, 3), (4, 3), (1, 0), (1, 1 << 63)])
def test_indices_that_cannot_be_distinct_are_refused(count: int, bound: int) -> None:
    assert Transcript("t").challenge_indices("i", 3, 3).tolist() == [0, 1, 2]
    with pytest.raises(ChallengeRangeError):
        Transcript("t").challenge_indices("i", count, bound)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ChallengeRangeError):
        Transcript("t").challenge_bytes("b", -1)


def test_a_stream_goes_on_where_it_stopped() -> None:
    stream = Stream(SEED)
    assert stream(5) + stream(0) + stream(59) == Stream(SEED)(64)


def test_a_split_does_not_depend_on_what_was_read() -> None:
    used = Stream(SEED)
    used(1000)
    assert used.split("masks")(32) == Stream(SEED).split("masks")(32)


def test_splits_differ_from_each_other_and_from_the_whole() -> None:
    stream = Stream(SEED)
    heads = {stream(32), stream.split("a")(32), stream.split("b")(32), stream.split("a").split("b")(32)}
    assert len(heads) == 4


def test_a_stream_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ByteLengthError):
        Stream(SEED + b"\0")
    with pytest.raises(ByteLengthError):
        Stream(SEED)(-1)


def test_the_operating_system_gives_as_many_bytes_as_asked() -> None:
    assert len(os_random(33)) == 33
    assert os_random(32) != os_random(32)


def test_numbered_hashes_are_those_of_the_fields_and_the_number() -> None:
    numbered = hash_numbered("tag", b"seed", 7)
    assert [next(numbered) for _ in range(3)] == [hash_fields("tag", b"seed", 7, number) for number in range(3)]
    assert next(hash_numbered("tag", b"seed", 8)) != hash_fields("tag", b"seed", 7, 0)
