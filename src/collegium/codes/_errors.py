"""What the functions of this room refuse, by name."""

from collegium.errors import CollegiumError

__all__ = [
    "CodeError",
    "CodeSizeError",
    "DomainError",
    "DomainTooSmallError",
    "ErasureMaskError",
    "NotACodewordError",
    "TooManyErasuresError",
    "TooManyErrorsError",
    "WordShapeError",
]


class CodeError(CollegiumError):
    """What this room refuses; each refusal is one of the classes below."""


class CodeSizeError(CodeError):
    """A message or randomness length that no code has."""


class DomainError(CodeError):
    """A domain is not a coset of power-of-two size, or meets the points that carry messages."""


class DomainTooSmallError(CodeError):
    """A domain has fewer points than the degree bound, so its words do not determine a polynomial."""


class WordShapeError(CodeError):
    """Messages, randomness, coefficients or words of another shape than the code or domain has."""


class ErasureMaskError(CodeError):
    """A set of erased positions is not a boolean array with one entry a position."""


class TooManyErasuresError(CodeError):
    """Fewer positions are left than the degree bound."""


class NotACodewordError(CodeError):
    """No polynomial below the degree bound has the values that are left."""


class TooManyErrorsError(CodeError):
    """No codeword lies within the distance that allows only one: 2 errors + erasures <= size - degree bound."""
