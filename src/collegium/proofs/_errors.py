"""What proofs refuse, by name. Everything a verifier raises on a proof is a `ProofRejectedError`."""

from collegium.errors import CollegiumError

__all__ = [
    "CombinationRejectedError",
    "GrindingRejectedError",
    "IdentityRejectedError",
    "MalformedProofError",
    "OpeningRejectedError",
    "ProofRejectedError",
    "StatementError",
    "SumRejectedError",
    "UnprovableError",
]


class ProofRejectedError(CollegiumError):
    """A proof does not show its statement."""


class MalformedProofError(ProofRejectedError):
    """Bytes that should be a proof have another length, or hold an element that is not below p."""


class SumRejectedError(ProofRejectedError):
    """The sums over the slots are not what the public operands demand."""


class IdentityRejectedError(ProofRejectedError):
    """The relations do not hold at the point drawn out of the domain."""


class CombinationRejectedError(ProofRejectedError):
    """The combination of all rows does not fit the claimed values or an opened column."""


class OpeningRejectedError(ProofRejectedError):
    """An opened column is not the committed one."""


class GrindingRejectedError(ProofRejectedError):
    """The nonce does not carry the work that is demanded before columns are drawn."""


class StatementError(CollegiumError):
    """A statement's public numbers are out of the bounds within which its proof is sound."""


class UnprovableError(CollegiumError):
    """The private numbers do not satisfy the statement, so that no proof exists."""
