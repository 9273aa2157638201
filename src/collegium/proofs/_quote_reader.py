"""Reads bytes from the front, never more than there are, every length bounded before it is believed."""

from __future__ import annotations

from ._quote_errors import MalformedQuoteError

__all__ = ["Reader"]


class Reader:
    """Takes little-endian numbers and pieces; `end` checks that nothing is left over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, what: str, length: int) -> bytes:
        if length > self.left:
            message = f"{what} takes {length} bytes, {self.left} are left"
            raise MalformedQuoteError(message, length=length, left=self.left)
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, what: str, size: int, at_most: int | None = None) -> int:
        value = int.from_bytes(self.take(what, size), "little")
        if at_most is not None and value > at_most:
            raise MalformedQuoteError(f"{what}: {value}, at most {at_most}", value=value, at_most=at_most)
        return value

    def framed(self, what: str, at_most: int) -> bytes:
        """Return a piece that its length of 4 bytes precedes."""
        return self.take(what, self.number(f"length of {what}", 4, at_most))

    def end(self, what: str) -> None:
        if self.left:
            raise MalformedQuoteError(f"{self.left} bytes follow the {what}", left=self.left)
