"""Frames between validators: a message and its epoch, and how long each may be."""

from __future__ import annotations

import pytest

from collegium.consensus import (
    BlockRequest,
    ChangeOffer,
    FollowRequest,
    MalformedMessageError,
    MessageTooLongError,
    UnknownMessageKindError,
    encode_peer_message,
)
from collegium.node._epoch_wire import (
    EPOCH_BYTES,
    EpochMessage,
    decode_epoch_message,
    encode_epoch_message,
    frame_limits,
)

WORDS = (BlockRequest(1, bytes(32), bytes(32)), FollowRequest(bytes(32)), ChangeOffer(b"T"))
LAST = 2**63 - 1


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("epoch", [0, 1, LAST])
def test_a_frame_is_its_message_and_then_the_epoch(epoch: int, word: object) -> None:
    said = EpochMessage(epoch, word)
    frame = encode_epoch_message(said)
    assert frame == encode_peer_message(word) + epoch.to_bytes(8, "little")  # type: ignore[arg-type]
    assert decode_epoch_message(frame) == said


def test_a_frame_without_room_for_an_epoch_or_of_one_beyond_all_is_refused() -> None:
    frame = encode_epoch_message(EpochMessage(LAST, WORDS[0]))
    with pytest.raises(MalformedMessageError, match=f"epoch is {LAST + 1}"):
        decode_epoch_message(frame[:-EPOCH_BYTES] + (LAST + 1).to_bytes(8, "little"))
    for cut in (b"", bytes(EPOCH_BYTES)):
        with pytest.raises(MalformedMessageError, match=f"a frame of {len(cut)} bytes"):
            decode_epoch_message(cut)
    with pytest.raises(UnknownMessageKindError):
        decode_epoch_message(b"\xee" + bytes(EPOCH_BYTES))
    with pytest.raises(MalformedMessageError):
        decode_epoch_message(encode_peer_message(WORDS[0]))  # the message's last bytes taken for an epoch
    with pytest.raises(MessageTooLongError):
        decode_epoch_message(b"\x08" + bytes(64) + bytes(EPOCH_BYTES))


def test_a_kind_may_be_as_long_as_the_longest_round_has_it_and_its_epoch() -> None:
    limit_of = frame_limits({1: 10, 2: 5}, {1: 7, 3: 1})
    assert [limit_of(kind) for kind in range(5)] == [0, 10 + EPOCH_BYTES, 5 + EPOCH_BYTES, 1 + EPOCH_BYTES, 0]
