"""Digests that an epoch set signs, and header trees."""

from dataclasses import replace
from hashlib import sha256

import pytest

from collegium.commitment import MultiproofError
from collegium.crypto import hash_fields
from collegium.settlement import (
    CHECKPOINT_ROUNDS_MAX,
    NO_CHECKPOINT,
    Checkpoint,
    HeaderRangeError,
    header_proof,
    header_root,
    verify_header,
)

HEADERS = [hash_fields("test-header", index) for index in range(11)]
CHECKPOINT = Checkpoint(hash_fields("test-task"), 3, 40, 50, NO_CHECKPOINT, header_root(HEADERS))


def test_the_digest_is_sha256_of_length_prefixed_fields() -> None:
    layout = (23).to_bytes(8, "little") + b"collegium/v1/checkpoint"
    numbers = [number.to_bytes(32, "big") for number in (3, 40, 50)]
    for field in (CHECKPOINT.task, *numbers, CHECKPOINT.previous, CHECKPOINT.root):
        layout += (32).to_bytes(8, "little") + field
    assert CHECKPOINT.digest == sha256(layout).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"task": HEADERS[0]},
        {"epoch": 4},
        {"first_round": 41},
        {"last_round": 51},
        {"previous": HEADERS[0]},
        {"root": HEADERS[0]},
    ],
)
def test_the_digest_binds_every_field(change: dict[str, object]) -> None:
    assert replace(CHECKPOINT, **change).digest != CHECKPOINT.digest


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_every_header_is_proved_under_its_round_and_no_other(count: int) -> None:
    headers = HEADERS[:count]
    checkpoint = replace(CHECKPOINT, last_round=39 + count, root=header_root(headers))
    for index, header in enumerate(headers):
        proof = header_proof(headers, index)
        verify_header(checkpoint, 40 + index, header, proof)
        with pytest.raises(MultiproofError):
            verify_header(checkpoint, 40 + index, hash_fields("test-header", 99), proof)
        if count > 1:
            with pytest.raises(MultiproofError):
                verify_header(checkpoint, 40 + (index + 1) % count, header, proof)
            with pytest.raises(MultiproofError):
                verify_header(checkpoint, 40 + index, header, proof[:-1])
        if count > 2:
            with pytest.raises(MultiproofError):  # as many bytes, split elsewhere
                verify_header(checkpoint, 40 + index, header, [b"".join(proof)])


def test_padding_is_under_no_round() -> None:
    padding = header_proof([*HEADERS, bytes(32)], 11)
    assert header_root([*HEADERS, bytes(32)]) == CHECKPOINT.root
    with pytest.raises(HeaderRangeError):
        verify_header(CHECKPOINT, 51, bytes(32), padding)
    with pytest.raises(HeaderRangeError):
        verify_header(CHECKPOINT, 39, HEADERS[0], padding)


def test_a_tree_takes_one_or_more_digests() -> None:
    with pytest.raises(HeaderRangeError):
        header_root([])
    with pytest.raises(HeaderRangeError):
        header_root([*HEADERS, b"short"])
    with pytest.raises(HeaderRangeError):
        header_root(HEADERS[:1] * (CHECKPOINT_ROUNDS_MAX + 1))
    for index in (-1, 11):
        with pytest.raises(HeaderRangeError):
            header_proof(HEADERS, index)
