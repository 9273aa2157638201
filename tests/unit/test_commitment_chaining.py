"""SHA-256 between its blocks: the chaining values of a padded message."""

from hashlib import sha256

import pytest

from collegium.commitment import chaining_values, pad_message
from collegium.commitment._hashes import chaining_values_plain


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_the_last_value_is_the_digest_and_the_kernel_computes_the_standards(length: int) -> None:
    data = bytes(range(256)) * 4
    padded = pad_message(data[:length])
    values = chaining_values(padded)
    assert len(padded) % 64 == 0
    assert values[-1].tobytes() == sha256(data[:length]).digest()
    assert (values == chaining_values_plain(padded)).all()


def test_values_of_a_changed_message_differ_from_the_changed_block_on() -> None:
    first, second = pad_message(bytes(300)), pad_message(bytes(128) + b"\1" + bytes(171))
    left, right = chaining_values(first), chaining_values(second)
    assert (left[:2] == right[:2]).all()
    assert all((left[block] != right[block]).any() for block in range(2, len(left)))
