"""A frame between validators: a message, then the epoch that it was said in.

The epoch stands last, so that a frame's first byte is its message's kind, by which the transport bounds its length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from collegium.consensus import (
    FollowMessage,
    MalformedMessageError,
    Message,
    RoundMessage,
    decode_peer_message,
    encode_peer_message,
)

__all__ = ["EPOCH_BYTES", "EpochMessage", "decode_epoch_message", "encode_epoch_message", "frame_limits"]

EPOCH_MAX: Final = 2**63 - 1
_EPOCH: Final = struct.Struct("<Q")
EPOCH_BYTES: Final = _EPOCH.size


@dataclass(frozen=True)
class EpochMessage:
    """What a validator says in an epoch."""

    epoch: int
    message: object


def encode_epoch_message(said: EpochMessage) -> bytes:
    """The frame of a message; raises as `encode_peer_message` does."""
    message = cast(Message | FollowMessage | RoundMessage, said.message)
    return encode_peer_message(message) + _EPOCH.pack(said.epoch)


def decode_epoch_message(frame: bytes) -> EpochMessage:
    """What one validator says to another, and in which epoch.

    Raises:
        MalformedMessageError: there is no room for an epoch, or it is beyond all epochs.
        CollegiumError: as `decode_peer_message`.
    """
    if len(frame) <= EPOCH_BYTES:
        raise MalformedMessageError(f"a frame of {len(frame)} bytes, expected more than an epoch's {EPOCH_BYTES}")
    (epoch,) = _EPOCH.unpack_from(frame, len(frame) - EPOCH_BYTES)
    if epoch > EPOCH_MAX:
        raise MalformedMessageError(f"epoch is {epoch}, expected 0..{EPOCH_MAX}", number=epoch)
    return EpochMessage(epoch, decode_peer_message(frame[:-EPOCH_BYTES]))


def frame_limits(*bytes_max: Mapping[int, int]) -> Callable[[int], int]:
    """Return how long a frame of each kind may be, given how long its message may be; 0 where nobody speaks the kind.

    Args:
        bytes_max: by kind, as different rounds have them: the largest counts.
    """
    limits = {kind: EPOCH_BYTES + max(most.get(kind, 0) for most in bytes_max) for most in bytes_max for kind in most}
    return lambda kind: limits.get(kind, 0)
