"""Zero-knowledge Reed-Solomon codes over Goldilocks: encoding, erasures, errors.

A `Code` turns messages and randomness into polynomials and polynomials into codewords on a `Domain`; `recover` and
`locate_errors` are the way back. The page docs/spec/codes.md has the formulas and the arguments.
"""

from collegium.codes._code import Code
from collegium.codes._domain import Domain
from collegium.codes._erasures import recover, vanishing_polynomial
from collegium.codes._errors import (
    CodeError,
    CodeSizeError,
    DomainError,
    DomainTooSmallError,
    ErasureMaskError,
    NotACodewordError,
    TooManyErasuresError,
    TooManyErrorsError,
    WordShapeError,
)
from collegium.codes._location import locate_errors

__all__ = [
    "Code",
    "CodeError",
    "CodeSizeError",
    "Domain",
    "DomainError",
    "DomainTooSmallError",
    "ErasureMaskError",
    "NotACodewordError",
    "TooManyErasuresError",
    "TooManyErrorsError",
    "WordShapeError",
    "locate_errors",
    "recover",
    "vanishing_polynomial",
]
