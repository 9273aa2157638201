"""How much memory a message or a result holds, so that what others can make a validator keep is bounded in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Final

import numpy as np

__all__ = ["bytes_in"]

PART_BYTES: Final = 32  # of an object beside what varies in it, roughly


def bytes_in(value: object) -> int:
    """Return roughly how many bytes a value holds: what varies in length, and a little for each part."""
    match value:
        case bytes() | str():
            return PART_BYTES + len(value)
        case np.ndarray():
            return PART_BYTES + int(value.nbytes)
        case tuple() | list() | frozenset() | set():
            return PART_BYTES + sum(map(bytes_in, value))
        case Mapping():
            return PART_BYTES + sum(bytes_in(key) + bytes_in(held) for key, held in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return PART_BYTES + sum(bytes_in(getattr(value, part.name)) for part in fields(value))
    return PART_BYTES
