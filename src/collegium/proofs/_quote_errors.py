"""Why a hardware quote was refused: one name a reason. A quote stands where a proof could, and is refused as one is."""

from collegium.errors import CollegiumError

from ._errors import ProofRejectedError

__all__ = [
    "MalformedQuoteError",
    "QuoteBindingError",
    "QuoteChainError",
    "QuoteDebugError",
    "QuoteError",
    "QuoteGuestError",
    "QuoteKindError",
    "QuoteMeasurementError",
    "QuotePolicyError",
    "QuoteTcbError",
    "QuoteTimeError",
]


class QuoteError(ProofRejectedError):
    """A hardware quote was refused; its subclasses say why."""


class MalformedQuoteError(QuoteError):
    """Bytes are not an attestation, or what they carry is not a quote, a certificate or collateral of its kind."""


class QuoteKindError(QuoteError):
    """The kind of a quote is unknown, is not accepted by the task, is missing, or comes too often."""


class QuoteChainError(QuoteError):
    """A signature is wrong, or the keys behind it do not lead to a trusted root."""


class QuoteTimeError(QuoteError):
    """A certificate or collateral is not yet valid, no longer valid, or older than the task allows."""


class QuoteTcbError(QuoteError):
    """The platform's firmware or microcode is below what the task accepts."""


class QuoteDebugError(QuoteError):
    """The enclave or guest may be debugged: its host reads and changes its memory."""


class QuoteGuestError(QuoteError):
    """The guest lets somebody else in: a migration agent, or a caller of too low a privilege level."""


class QuoteMeasurementError(QuoteError):
    """What was measured is not on the task's list."""


class QuoteBindingError(QuoteError):
    """The quote is sound and says something else than this report."""


class QuotePolicyError(CollegiumError):
    """A task's policy contradicts itself, has a field of the wrong length, or is not in its one encoding."""
