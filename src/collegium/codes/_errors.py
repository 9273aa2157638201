"""What the functions of this room refuse, by name."""

from collegium.errors import CollegiumError

__all__ = [
    "CodeSizeError",
    "DomainError",
    "DomainTooSmallError",
    "ErasureMaskError",
    "NotACodewordError",
    "TooManyErasuresError",
    "TooManyErrorsError",
    "WordShapeError",
]


class CodeSizeError(CollegiumError):
    """A message or randomness length that no code has."""


class DomainError(CollegiumError):
    """A domain is not a coset of power-of-two size, or meets the points that carry messages."""


class DomainTooSmallError(CollegiumError):
    """A domain has fewer points than the degree bound, so its words do not determine a polynomial."""


class WordShapeError(CollegiumError):
    """Messages, randomness, coefficients or words of another shape than the code or domain has."""


class ErasureMaskError(CollegiumError):
    """A set of erased positions is not a boolean array with one entry a position."""


class TooManyErasuresError(CollegiumError):
    """Fewer positions are left than the degree bound."""


class NotACodewordError(CollegiumError):
    """No polynomial below the degree bound has the values that are left."""


class TooManyErrorsError(CollegiumError):
    """No codeword lies within the distance that allows only one: 2 errors + erasures <= size - degree bound."""
