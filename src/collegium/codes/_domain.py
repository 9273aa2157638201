"""Where a polynomial is evaluated: a coset of a group of roots of unity, in bit-reversed order."""

from dataclasses import dataclass

import numpy as np

from collegium.algebra import TWO_ADICITY, FieldArray, P, bit_reversal, powers, root_of_unity, scale
from collegium.codes._errors import DomainError

__all__ = ["Domain"]


@dataclass(frozen=True, slots=True)
class Domain:
    """The coset shift <w_size>; position j is the point shift w_size^bitrev(j).

    An aligned range of a power-of-two number of positions is itself a coset. The subgroup itself is refused: it would
    meet the points that carry messages, and a symbol there would be a piece of a message.

    Args:
        shift: in [1, P), with shift^size != 1.
        size: the number of points, a power of two up to 2^32.

    Raises:
        DomainError: the shift or size is none of these.
    """

    shift: int
    size: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.size & (self.size - 1) or self.size > 1 << TWO_ADICITY:
            raise DomainError(f"domain size {self.size} is not a power of two up to 2^{TWO_ADICITY}", size=self.size)
        if not 0 < self.shift < P:
            raise DomainError(f"domain shift {self.shift} is not in [1, {P})", shift=self.shift)
        if self.vanishing_constant == 1:
            raise DomainError(
                f"shift {self.shift} lies in the subgroup of order {self.size}, which carries messages",
                shift=self.shift,
                size=self.size,
            )

    @property
    def vanishing_constant(self) -> int:
        """c such that X^size - c vanishes exactly on the domain: shift^size."""
        return pow(self.shift, self.size, P)

    def points(self) -> FieldArray:
        """The points in the order of positions, shape (size,)."""
        ordered = powers(root_of_unity(self.size), self.size)
        return scale(np.ascontiguousarray(ordered[bit_reversal(self.size)]), self.shift)

    def is_disjoint_from_subgroup(self, order: int) -> bool:
        """Whether no point is a root of unity of the order, a power of two: shift^max(size, order) != 1."""
        return pow(self.shift, max(self.size, order), P) != 1
