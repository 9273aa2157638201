"""What the functions of this room refuse, by name."""

from collegium.errors import CollegiumError

__all__ = [
    "FieldArrayError",
    "NoInverseError",
    "NotCanonicalError",
    "RandomnessLengthError",
    "SignedRangeError",
    "TransformSizeError",
]


class NotCanonicalError(CollegiumError):
    """A value is not in [0, P), or bytes are not a list of such values, 8 bytes each."""


class FieldArrayError(CollegiumError):
    """An array has another dtype or shape than the function takes."""


class NoInverseError(CollegiumError):
    """Zero has no inverse."""


class SignedRangeError(CollegiumError):
    """A signed integer lies outside [-(P-1)/2, (P-1)/2], where the centred lift is exact."""


class TransformSizeError(CollegiumError):
    """A transform size is not a power of two up to 2^32, or is smaller than its input."""


class RandomnessLengthError(CollegiumError):
    """A source of randomness returned another number of bytes than it was asked for."""
