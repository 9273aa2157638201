"""AMD SEV-SNP: a guest's report, signed by the chip's versioned key (VCEK).

AMD, "SEV Secure Nested Paging Firmware ABI Specification", table 22 (the report), and "Versioned Chip Endorsement Key
Certificate and KDS Interface Specification" (the certificate). Milan and Genoa only: Turin orders its versions anew.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

from collegium.crypto import hash_fields

from ._quote_certificates import common_name, extension, load_chain, verify_chain, verify_p384
from ._quote_encoding import Quote, QuoteKind
from ._quote_errors import (
    MalformedQuoteError,
    QuoteChainError,
    QuoteDebugError,
    QuoteGuestError,
    QuoteMeasurementError,
    QuoteTcbError,
)
from ._quote_policy import SnpPolicy, SnpTcb
from ._quote_verdict import VerifiedQuote

__all__ = ["verify_snp"]

REPORT_BYTES: Final = 1184
SIGNED_BYTES: Final = 0x2A0
SCALAR_BYTES: Final = 72  # little endian; P-384 fills 48
VERSIONS: Final = range(2, 6)
ECDSA_P384_SHA384: Final = 1
PRODUCTS: Final = ("Milan", "Genoa")

POLICY_MIGRATION: Final = 1 << 18
POLICY_DEBUG: Final = 1 << 19
KEY_MASKED: Final = 0b10
KEY_SELECTOR: Final = 0b11100  # 0: VCEK, 1: VLEK, 7: none

EXTENSIONS: Final = "1.3.6.1.4.1.3704.1."
PRODUCT, BOOTLOADER, TEE, SNP, MICROCODE, CHIP = "2", "3.1", "3.2", "3.3", "3.8", "4"


def verify_snp(quote: Quote, policy: SnpPolicy, at_unix_time: int) -> VerifiedQuote:
    """Return what a report establishes. Endorsements: VCEK, ASK, ARK, each DER.

    1. chain   VCEK <- ASK <- ARK, the ARK a trusted root, all valid at the round's time
    2. sign    the report, by the VCEK of the very chip and firmware that the report names
    3. guest   no debugging, no migration agent, privilege level
    4. tcb     the firmware that signed is at least the policy's
    5. measure the launch measurement is on the list

    Raises:
        QuoteError: which of its subclasses says which step failed.
    """
    report = quote.body
    if len(report) != REPORT_BYTES or len(quote.endorsements) != 3:
        found = f"{len(report)} bytes and {len(quote.endorsements)} certificates"
        raise MalformedQuoteError(f"SEV-SNP quote has {found}, expected {REPORT_BYTES} and 3", length=len(report))
    chain = load_chain(quote.endorsements)
    verify_chain(chain, policy.roots, policy.revoked, at_unix_time)
    verify_p384(chain[0], report[:SIGNED_BYTES], *_signature(report))
    tcb = _check_signer(report, chain[0])
    _check_guest(report, policy)
    if not tcb.at_least(policy.tcb_min):
        raise QuoteTcbError(f"firmware {tcb} is below {policy.tcb_min}", tcb=tcb, tcb_min=policy.tcb_min)
    measurement = report[0x90:0xC0]
    if measurement not in policy.measurements:
        raise QuoteMeasurementError(
            f"launch measurement {measurement.hex()} is not on the list", measurement=measurement
        )
    device = hash_fields("quote-device", QuoteKind.SNP, report[0x1A0:0x1E0])
    words = f"bootloader {tcb.bootloader}, tee {tcb.tee}, snp {tcb.snp}, microcode {tcb.microcode}"
    return VerifiedQuote(QuoteKind.SNP, report[0x50:0x90], measurement, words, (), device)


def _signature(report: bytes) -> tuple[int, int]:
    version, algorithm = _number(report, 0x00), _number(report, 0x34)
    if version not in VERSIONS:
        raise MalformedQuoteError(f"report has version {version}, expected 2 to 5", version=version)
    if algorithm != ECDSA_P384_SHA384:
        raise MalformedQuoteError(f"report is signed by algorithm {algorithm}, expected 1", algorithm=algorithm)
    r, s, rest = report[0x2A0:0x2E8], report[0x2E8:0x330], report[0x330:]
    if any(r[48:]) or any(s[48:]) or any(rest):
        raise MalformedQuoteError("bytes after the signature's scalars are not zero")
    return int.from_bytes(r, "little"), int.from_bytes(s, "little")


def _check_signer(report: bytes, vcek: x509.Certificate) -> SnpTcb:
    """Return the firmware's versions, which report and certificate name alike, as they do the chip."""
    if _number(report, 0x48) & (KEY_MASKED | KEY_SELECTOR) or common_name(vcek) != "SEV-VCEK":
        raise QuoteChainError(f"the report is not signed by a VCEK but by {common_name(vcek)!r}")
    product = extension(vcek, EXTENSIONS + PRODUCT)
    if product[:1] != b"\x16" or not product[2:].decode("ascii", "replace").startswith(PRODUCTS):
        raise QuoteChainError(f"product {product[2:]!r} is not one of {PRODUCTS}", product=product)
    chip = extension(vcek, EXTENSIONS + CHIP)
    if chip != report[0x1A0:0x1E0]:
        raise QuoteChainError("report and VCEK name different chips", chip=chip, reported=report[0x1A0:0x1E0])
    certified = SnpTcb(*(_version(vcek, part) for part in (BOOTLOADER, TEE, SNP, MICROCODE)))
    tcb = report[0x180:0x188]
    reported = SnpTcb(tcb[0], tcb[1], tcb[6], tcb[7])
    if certified != reported or any(tcb[2:6]):
        message = f"the report names firmware {reported}, its VCEK {certified}"
        raise QuoteChainError(message, reported=reported, certified=certified)
    return reported


def _check_guest(report: bytes, policy: SnpPolicy) -> None:
    guest, level = int.from_bytes(report[0x08:0x10], "little"), _number(report, 0x30)
    if guest & POLICY_DEBUG and not policy.allow_debug:
        raise QuoteDebugError(f"guest policy {guest:#x} allows debugging", guest_policy=guest)
    if guest & POLICY_MIGRATION and not policy.allow_migration:
        raise QuoteGuestError(f"guest policy {guest:#x} allows a migration agent", guest_policy=guest)
    if level > policy.vmpl_max:
        message = f"asked for at privilege level {level}, at most {policy.vmpl_max}"
        raise QuoteGuestError(message, level=level, at_most=policy.vmpl_max)


def _number(report: bytes, at: int) -> int:
    return int.from_bytes(report[at : at + 4], "little")


def _version(vcek: x509.Certificate, name: str) -> int:
    """Return a version: a DER integer of one byte, or of two if its top bit is set."""
    data = extension(vcek, EXTENSIONS + name)
    if len(data) == 3 and data[:2] == b"\x02\x01" and data[2] < 128:
        return data[2]
    if len(data) == 4 and data[:3] == b"\x02\x02\x00" and data[3] >= 128:
        return data[3]
    raise QuoteChainError(f"VCEK extension {EXTENSIONS}{name} is {data.hex()}, not a version", extension=name)
