"""NVIDIA GPUs: an SPDM 1.1 exchange GET_MEASUREMENTS, signed by the GPU's firmware key.

DMTF DSP0274 1.1, section 10.11. The report is the request (37 bytes) and the response, whose last 96 bytes sign all
before them. The nonce that binds it is the request's; the response's own is the GPU's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from collegium.crypto import hash_fields

from ._quote_certificates import extension, key_digest, load_chain, verify_chain, verify_p384
from ._quote_encoding import Quote, QuoteKind
from ._quote_errors import MalformedQuoteError, QuoteChainError, QuoteMeasurementError
from ._quote_policy import GpuFirmware, GpuPolicy
from ._quote_reader import Reader
from ._quote_verdict import VerifiedQuote

__all__ = ["verify_gpu"]

CERTIFICATES: Final = range(3, 8)
SPDM_1_1: Final = 0x11
GET_MEASUREMENTS: Final = 0xE0
MEASUREMENTS: Final = 0x60
SIGNATURE_WANTED: Final = 1
ALL_BLOCKS: Final = 0xFF
NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 96
DMTF: Final = 1

OPAQUE_DRIVER, OPAQUE_VBIOS, OPAQUE_FIRMWARE_ID = 3, 6, 20
DICE_TCB_INFO: Final = "2.23.133.5.4.1"


@dataclass(frozen=True, slots=True)
class _Report:
    nonce: bytes
    blocks: dict[int, bytes]
    opaque: dict[int, bytes]


def verify_gpu(quote: Quote, policy: GpuPolicy, at_unix_time: int) -> VerifiedQuote:
    """Return what a GPU's report establishes. Endorsements: its certificates, each DER, leaf first, root last.

    1. chain   to a trusted root, all valid at the round's time
    2. sign    the report, by the leaf, which names the same firmware as the report
    3. measure versions and the named blocks equal an accepted firmware's

    Raises:
        QuoteError: which of its subclasses says which step failed.
    """
    if len(quote.endorsements) not in CERTIFICATES:
        raise MalformedQuoteError(f"{len(quote.endorsements)} certificates, expected 3 to 7")
    chain = load_chain(quote.endorsements)
    verify_chain(chain, policy.roots, policy.revoked, at_unix_time)
    signed, signature = quote.body[:-SIGNATURE_BYTES], quote.body[-SIGNATURE_BYTES:]
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    verify_p384(chain[0], signed, r, s)
    report = _parse(signed)
    _check_firmware_id(report, chain[0])
    driver, vbios = _driver(report), _vbios(report)
    if not any(_is_accepted(report, driver, vbios, each) for each in policy.firmware):
        message = f"GPU with driver {driver} and VBIOS {vbios} measures as none of the accepted"
        raise QuoteMeasurementError(message, driver=driver, vbios=vbios, blocks=report.blocks)
    measured = [part for index, block in sorted(report.blocks.items()) for part in (index, block)]
    measurement = hash_fields("quote-gpu", *measured)
    device = hash_fields("quote-device", QuoteKind.GPU, key_digest(chain[1]))
    words = f"driver {driver}, VBIOS {vbios}"
    return VerifiedQuote(QuoteKind.GPU, report.nonce + bytes(32), measurement, words, (), device)


def _is_accepted(report: _Report, driver: str, vbios: str, firmware: GpuFirmware) -> bool:
    same = (report.blocks.get(index) == value for index, value in firmware.measurements)
    return driver == firmware.driver and vbios == firmware.vbios and all(same)


def _check_firmware_id(report: _Report, leaf: x509.Certificate) -> None:
    """The leaf's key is derived from the firmware that runs; its certificate ends in that firmware's digest."""
    name = report.opaque.get(OPAQUE_FIRMWARE_ID)
    certified = extension(leaf, DICE_TCB_INFO)
    if name is None or len(name) != 48 or not certified.endswith(b"\x04\x30" + name):
        raise QuoteChainError("report and certificate name different firmware", reported=name)


def _parse(signed: bytes) -> _Report:
    reader = Reader(signed)
    head = reader.take("request", 4)
    if head != bytes([SPDM_1_1, GET_MEASUREMENTS, SIGNATURE_WANTED, ALL_BLOCKS]):
        raise MalformedQuoteError(f"request starts with {head.hex()}, expected 11e001ff", head=head)
    nonce = reader.take("nonce", NONCE_BYTES)
    reader.take("slot of the certificate chain", 1)
    answer = reader.take("response", 4)
    if answer[:2] != bytes([SPDM_1_1, MEASUREMENTS]):
        raise MalformedQuoteError(f"response starts with {answer.hex()}, expected 1160", head=answer)
    count, length = reader.number("blocks", 1), reader.number("length of blocks", 3)
    blocks = _blocks(Reader(reader.take("blocks", length)), count)
    reader.take("nonce of the GPU", NONCE_BYTES)
    opaque = _opaque(Reader(reader.take("opaque data", reader.number("length of opaque data", 2))))
    reader.end("report")
    return _Report(nonce, blocks, opaque)


def _blocks(reader: Reader, count: int) -> dict[int, bytes]:
    blocks: dict[int, bytes] = {}
    for _ in range(count):
        index, specification = reader.number("index", 1), reader.number("format", 1)
        block = Reader(reader.take("block", reader.number("length of block", 2)))
        block.take("type of value", 1)
        value = block.take("value", block.number("length of value", 2))
        block.end("block")
        if index in blocks or specification != DMTF:
            raise MalformedQuoteError(f"block {index} comes twice or has format {specification}", index=index)
        blocks[index] = value
    reader.end("blocks")
    return blocks


def _opaque(reader: Reader) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    while reader.left:
        name = reader.number("opaque field", 2)
        if name in fields:
            raise MalformedQuoteError(f"opaque field {name} comes twice", field=name)
        fields[name] = reader.take("opaque field", reader.number("length of opaque field", 2))
    return fields


def _driver(report: _Report) -> str:
    return report.opaque.get(OPAQUE_DRIVER, b"").rstrip(b"\0").decode("ascii", "backslashreplace")


def _vbios(report: _Report) -> str:
    """Return the VBIOS version as NVIDIA's tools print it: the first four bytes reversed, then the fifth."""
    raw = report.opaque.get(OPAQUE_VBIOS, b"")
    return ".".join(f"{byte:02X}" for byte in raw[3::-1] + raw[4:5])
