"""What verified quotes establish."""

from __future__ import annotations

from dataclasses import dataclass

from collegium.crypto import Digest

from ._quote_encoding import QuoteKind

__all__ = ["QuoteVerdict", "VerifiedQuote"]


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """One quote that its vendor's root vouches for and the task's policy accepts.

    `report_data` is 64 bytes (a GPU's nonce and 32 zeros). `measurement` is mrenclave, mrtd, the launch measurement, or
    a digest of all blocks of a GPU. `tcb` is Intel's status, or the versions that AMD's or NVIDIA's report names.
    `device` is one digest a machine: equal digests, same hardware.
    """

    kind: QuoteKind
    report_data: bytes
    measurement: bytes
    tcb: str
    advisories: tuple[str, ...]
    device: Digest


@dataclass(frozen=True, slots=True)
class QuoteVerdict:
    """An attestation that holds: the processor's quote, then the GPUs', all over one report data."""

    quotes: tuple[VerifiedQuote, ...]
