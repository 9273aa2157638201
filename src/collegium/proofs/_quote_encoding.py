"""An attestation as bytes: one to nine quotes, each with the endorsements that its vendor gave.

    attestation = version (1 byte, = 1) || count (1) || quote ...
    quote       = kind (1) || length (4) || body || count (1) || ( length (4) || endorsement ) ...

Lengths are little endian and bounded before they are read. docs/spec/attestation.md lists each kind's endorsements.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ._quote_errors import MalformedQuoteError, QuoteKindError
from ._quote_reader import Reader

__all__ = [
    "ATTESTATION_BYTES_MAX",
    "GPUS_MAX",
    "Attestation",
    "Quote",
    "QuoteKind",
    "decode_attestation",
    "encode_attestation",
]

VERSION: Final = 1
GPUS_MAX: Final = 8
QUOTES_MAX: Final = GPUS_MAX + 1
BODY_BYTES_MAX: Final = 1 << 14
ENDORSEMENTS_MAX: Final = 9
ENDORSEMENT_BYTES_MAX: Final = 1 << 16
ATTESTATION_BYTES_MAX: Final = 1 << 18


class QuoteKind(IntEnum):
    """Whose hardware signed."""

    SGX = 1
    TDX = 2
    SNP = 3
    GPU = 4


@dataclass(frozen=True, slots=True)
class Quote:
    """A signed statement of one piece of hardware: `body` as the vendor's tools return it, and what vouches for it."""

    kind: QuoteKind
    body: bytes
    endorsements: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a trainer sends in place of a proof: a processor's quote first, then those of the GPUs it drives."""

    quotes: tuple[Quote, ...]


def encode_attestation(attestation: Attestation) -> bytes:
    """Return the canonical bytes.

    Raises:
        MalformedQuoteError: a count or a length is over its bound.
    """
    parts = [bytes([VERSION]), _count("quotes", len(attestation.quotes), QUOTES_MAX)]
    for quote in attestation.quotes:
        parts += [bytes([quote.kind]), _framed("body", quote.body, BODY_BYTES_MAX)]
        parts.append(_count("endorsements", len(quote.endorsements), ENDORSEMENTS_MAX))
        parts += [_framed("endorsement", each, ENDORSEMENT_BYTES_MAX) for each in quote.endorsements]
    return _bounded(b"".join(parts))


def decode_attestation(data: bytes) -> Attestation:
    """Return the attestation that `data` encodes.

    Raises:
        MalformedQuoteError: another version, a count or length over its bound, bytes missing or left over.
        QuoteKindError: a kind that does not exist.
    """
    reader = Reader(_bounded(data))
    if (version := reader.number("version", 1)) != VERSION:
        raise MalformedQuoteError(f"attestation has version {version}, expected {VERSION}", version=version)
    quotes = []
    for _ in range(reader.number("quotes", 1, QUOTES_MAX)):
        number = reader.number("kind", 1)
        try:
            kind = QuoteKind(number)
        except ValueError:
            raise QuoteKindError(f"quote has kind {number}, which does not exist", kind=number) from None
        body = reader.framed("body", BODY_BYTES_MAX)
        count = reader.number("endorsements", 1, ENDORSEMENTS_MAX)
        quotes.append(
            Quote(kind, body, tuple(reader.framed("endorsement", ENDORSEMENT_BYTES_MAX) for _ in range(count)))
        )
    reader.end("attestation")
    if not quotes:
        raise MalformedQuoteError("attestation holds no quote", quotes=0)
    return Attestation(tuple(quotes))


def _bounded(data: bytes) -> bytes:
    if len(data) > ATTESTATION_BYTES_MAX:
        message = f"attestation has {len(data)} bytes, at most {ATTESTATION_BYTES_MAX}"
        raise MalformedQuoteError(message, length=len(data), at_most=ATTESTATION_BYTES_MAX)
    return data


def _count(what: str, count: int, at_most: int) -> bytes:
    if count > at_most:
        raise MalformedQuoteError(f"{count} {what}, at most {at_most}", count=count, at_most=at_most)
    return bytes([count])


def _framed(what: str, data: bytes, at_most: int) -> bytes:
    if len(data) > at_most:
        raise MalformedQuoteError(f"{what} has {len(data)} bytes, at most {at_most}", length=len(data), at_most=at_most)
    return len(data).to_bytes(4, "little") + data
