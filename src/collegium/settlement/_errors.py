"""Why a chain, a contract or an answer about them was refused."""

from collegium.errors import CollegiumError

__all__ = [
    "ArtifactError",
    "ChainAnswerError",
    "ChainUnreachableError",
    "CheckpointOrderError",
    "ConsentStandsError",
    "ContractRefusedError",
    "DissectionError",
    "GasCeilingError",
    "HeaderRangeError",
    "MalformedTransactionError",
    "NoCourtError",
    "NotARevocationError",
    "OutsideLanguageError",
    "ParameterError",
    "ProgramError",
    "ProgramSizeError",
    "ProofPlanError",
    "ReplayMismatchError",
    "TraceInputError",
    "TraceRangeError",
    "TransactionFailedError",
    "TransactionNotMinedError",
    "TransactionRefusedError",
    "TranscriptError",
    "UnassignedError",
    "UnknownNameError",
    "WorkTermsError",
]


class ArtifactError(CollegiumError):
    """A compiled contract in the package is missing or is not what the compiler wrote, or has no such member."""


class ChainUnreachableError(CollegiumError):
    """No answer from a node within the bounded number of attempts."""


class ChainAnswerError(CollegiumError):
    """A node answered with an error or with something that is not an answer to the question."""


class ContractRefusedError(CollegiumError):
    """A contract reverted.

    `values["error"]` is the name of the contract's error ("" if it gave none that its ABI knows) and
    `values["arguments"]` its arguments.
    """


class MalformedTransactionError(CollegiumError):
    """Bytes that should be a signed transaction are none."""


class NotARevocationError(CollegiumError):
    """A transaction does not take the consent of a licence back, or not that of this contract on this chain."""


class GasCeilingError(CollegiumError):
    """A unit of gas costs more than the sender's policy allows, in wei: `values` has `price` and `price_max`."""


class TransactionRefusedError(CollegiumError):
    """A raw transaction cannot enter a block: malformed, wrong chain or nonce, sender without funds, too much gas."""


class TransactionFailedError(CollegiumError):
    """A transaction was mined and reverted, although the same call had succeeded just before."""


class TransactionNotMinedError(CollegiumError):
    """A transaction was sent and no receipt appeared within the bounded number of polls."""


class CheckpointOrderError(CollegiumError):
    """A checkpoint does not follow the last one that the contract accepted."""


class ConsentStandsError(CollegiumError):
    """A licence whose withdrawal is asked about was not revoked."""


class HeaderRangeError(CollegiumError):
    """No headers, too many, one that is not 32 bytes, or a position outside them."""


class ReplayMismatchError(CollegiumError):
    """A second execution of recorded transactions gives another receipt or another state root."""


class TranscriptError(CollegiumError):
    """Bytes that should be a chain's transcript are not the canonical encoding of one, or exceed its bounds."""


class TraceInputError(CollegiumError):
    """What a trace is to be computed from has another length or digest than the task and the header say."""


class TraceRangeError(CollegiumError):
    """A place outside a trace's tree, or more leaves than its height has room for."""


class ProgramError(CollegiumError):
    """A program cannot be compiled: `values` have its `module` and the `line`."""


class OutsideLanguageError(ProgramError):
    """A program uses what the language of programs does not have."""


class UnknownNameError(ProgramError):
    """A program uses a name that is neither its own, nor imported from a sibling, nor a word of the machine."""


class UnassignedError(ProgramError):
    """A program may read a variable, or return, before it has a value."""


class ParameterError(ProgramError):
    """A program has a parameter that was not given, or a constant that is not a word."""


class ProgramSizeError(ProgramError):
    """A program has more instructions or tables, or larger constants or deeper expressions, than there is room for."""


class DissectionError(CollegiumError):
    """There is no run to play a dissection with: it does not accept, or a state on the way is not known."""


class WorkTermsError(CollegiumError):
    """A task whose public work the programs of the dispute machine do not hold for."""


class NoCourtError(CollegiumError):
    """The courts of a task would hear nothing."""


class ProofPlanError(CollegiumError):
    """A task whose proofs the programs of the dispute machine do not verify."""
