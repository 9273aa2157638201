"""Checks of words, masks and bounds that come from outside, shared by both decoders."""

from typing import Any

import numpy as np
import numpy.typing as npt

from collegium.codes._domain import Domain
from collegium.codes._errors import (
    CodeSizeError,
    DomainTooSmallError,
    ErasureMaskError,
    TooManyErasuresError,
    WordShapeError,
)

__all__ = ["Mask", "check_bound", "erasure_mask", "word_rows"]

Mask = npt.NDArray[np.bool_]


def erasure_mask(domain: Domain, erased: Any) -> Mask:
    """`erased` as a boolean array with one entry a position.

    Raises:
        ErasureMaskError: it is none.
    """
    if not isinstance(erased, np.ndarray) or erased.dtype != np.bool_ or erased.shape != (domain.size,):
        found = (str(erased.dtype), erased.shape) if isinstance(erased, np.ndarray) else type(erased).__name__
        raise ErasureMaskError(f"erased is {found}, expected bool of shape ({domain.size},)", size=domain.size)
    return erased


def check_bound(degree_bound: int, domain: Domain, mask: Mask) -> None:
    """Refuses a word with fewer positions left than the degree bound.

    Raises:
        CodeSizeError: the bound is below 1.
        DomainTooSmallError: the whole domain has fewer points.
        TooManyErasuresError: what is left of it has.
    """
    if degree_bound < 1:
        raise CodeSizeError(f"degree bound {degree_bound} is below 1", degree_bound=degree_bound)
    if domain.size < degree_bound:
        raise DomainTooSmallError(
            f"{domain.size} points for polynomials of {degree_bound} coefficients",
            size=domain.size,
            degree_bound=degree_bound,
        )
    erasures = int(mask.sum())
    if erasures > domain.size - degree_bound:
        raise TooManyErasuresError(
            f"{erasures} of {domain.size} positions are erased, at most {domain.size - degree_bound} may be",
            erasures=erasures,
            erasures_max=domain.size - degree_bound,
        )


def word_rows(domain: Domain, values: Any) -> npt.NDArray[np.uint64]:
    """`values` as rows with one entry a position; the field's functions check the entries.

    Raises:
        WordShapeError: it has another shape.
    """
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.shape[1] != domain.size:
        raise WordShapeError(
            f"words of shape {np.shape(values)}, expected rows of {domain.size}",
            shape=np.shape(values),
            size=domain.size,
        )
    return values
