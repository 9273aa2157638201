"""Intel SGX and TDX: quotes of the DCAP scheme, checked by dcap-qvl with the collateral that comes along.

The library checks signatures, chains, revocation lists, validity windows and matches the platform against Intel's TCB
levels. What it leaves to its caller is here: which root, which status, how old, which code, no debugging.
Field offsets: Intel, "SGX/TDX DCAP Quoting Library API", appendix A (versions 3, 4 and 5).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import dcap_qvl
from cryptography.hazmat.primitives.serialization import Encoding

from collegium.crypto import Digest, hash_fields

from ._quote_certificates import fingerprint, load_pem_chain
from ._quote_encoding import Quote, QuoteKind
from ._quote_errors import (
    MalformedQuoteError,
    QuoteChainError,
    QuoteDebugError,
    QuoteError,
    QuoteGuestError,
    QuoteMeasurementError,
    QuoteTcbError,
    QuoteTimeError,
)
from ._quote_policy import IntelPolicy, SgxMeasurement, TdxMeasurement
from ._quote_verdict import VerifiedQuote

__all__ = ["COLLATERAL_FIELDS", "intel_quote", "verify_intel"]

# In the order of the endorsements. Text but for the revocation lists (DER) and signatures (r || s).
COLLATERAL_FIELDS: Final = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
)
RAW_FIELDS: Final = {"root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"}

HEADER_BYTES: Final = 48
BODY_HEAD_BYTES: Final = 6  # version 5 names type and size of the body
SGX_BYTES, TDX_BYTES, TDX_15_BYTES = 384, 584, 648
TEE_SGX, TEE_TDX = 0x00, 0x81
BODY_TDX, BODY_TDX_15 = 2, 3
SGX_DEBUG: Final = 1 << 1
TDX_UNDER_DEBUG: Final = 0xFF  # bit 0 is DEBUG; whichever of this group is set, the domain is untrusted
TDX_MIGRATABLE: Final = 1 << 29

# Words of dcap-qvl 0.7 that tell why it refused. What no line names is a wrong signature, chain or root.
REASONS: Final[tuple[tuple[str, type[QuoteError]], ...]] = (
    ("in the future", QuoteTimeError),
    ("xpired", QuoteTimeError),
    ("NotValidYet", QuoteTimeError),
    ("TCB level", QuoteTcbError),
    ("TCB status", QuoteTcbError),
    ("ISVSVN", QuoteTcbError),
    ("SEPT_VE_DISABLE", QuoteGuestError),
    ("TD attributes", QuoteGuestError),
    ("service TD", QuoteGuestError),
    ("Failed to decode", MalformedQuoteError),
    ("Failed to parse", MalformedQuoteError),
)


@dataclass(frozen=True, slots=True)
class _Body:
    """The signed fields that a policy looks at. `registers` is empty for SGX."""

    report_data: bytes
    measurement: bytes
    attributes: int
    registers: tuple[bytes, ...] = ()
    mrsigner: bytes = b""
    product: int = 0
    version: int = 0


def intel_quote(body: bytes, collateral_json: str) -> Quote:
    """Return a quote with its collateral, which Intel's service or a cache of it gives as JSON.

    Raises:
        MalformedQuoteError: not a quote, or not collateral.
    """
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(collateral_json)
        kind = QuoteKind.TDX if dcap_qvl.parse_quote(body).is_tdx() else QuoteKind.SGX
    except ValueError as error:
        raise MalformedQuoteError(f"Intel: {error}") from error
    fields = [getattr(collateral, name) for name in COLLATERAL_FIELDS]
    return Quote(kind, body, tuple(each.encode() if isinstance(each, str) else bytes(each) for each in fields))


def verify_intel(quote: Quote, policy: IntelPolicy, at_unix_time: int) -> VerifiedQuote:
    """Return what a quote establishes. Endorsements: the nine pieces of collateral.

    1. guest   no debugging, no migration
    2. chain   by dcap-qvl, from a trusted root to the quote, all valid at the round's time
    3. tcb     Intel's status is accepted, and neither its number nor its age is too low
    4. measure the enclave or domain is on the list

    Raises:
        QuoteError: which of its subclasses says which step failed.
    """
    if len(quote.endorsements) != len(COLLATERAL_FIELDS):
        raise MalformedQuoteError(f"{len(quote.endorsements)} pieces of collateral, expected {len(COLLATERAL_FIELDS)}")
    body = _parse_body(quote)
    _check_guest(quote.kind, body.attributes)
    collateral = _collateral(quote.endorsements)
    root = _trusted_root(collateral, policy.roots)
    try:
        report = dcap_qvl.verify_with_root_ca(quote.body, collateral, root, at_unix_time)
    except ValueError as error:
        raise _refusal(str(error)) from error
    if report.status not in policy.statuses:
        message = f"platform is {report.status}, accepted: {sorted(policy.statuses)}"
        raise QuoteTcbError(message, status=report.status, advisories=tuple(report.advisory_ids))
    for text in (collateral.tcb_info, collateral.qe_identity):
        _check_age(json.loads(text), policy, at_unix_time)
    _check_measurement(quote.kind, body, policy)
    device = hash_fields("quote-device", QuoteKind.SGX, bytes(report.ppid))
    advisories = tuple(report.advisory_ids)
    return VerifiedQuote(quote.kind, body.report_data, body.measurement, report.status, advisories, device)


def _parse_body(quote: Quote) -> _Body:
    data = quote.body
    version, tee = int.from_bytes(data[:2], "little"), int.from_bytes(data[4:8], "little")
    at = HEADER_BYTES
    if quote.kind == QuoteKind.SGX:
        known, size = (version, tee) == (3, TEE_SGX), SGX_BYTES
    elif version == 5:
        at += BODY_HEAD_BYTES
        form = int.from_bytes(data[48:50], "little")
        known, size = (
            tee == TEE_TDX and form in {BODY_TDX, BODY_TDX_15},
            TDX_15_BYTES if form == BODY_TDX_15 else TDX_BYTES,
        )
    else:
        known, size = (version, tee) == (4, TEE_TDX), TDX_BYTES
    body = data[at : at + size]
    if not known or len(body) < size:
        message = f"{len(data)} bytes of version {version} for {tee:#x} are no {quote.kind.name} quote"
        raise MalformedQuoteError(message, length=len(data), version=version, tee=tee)
    if quote.kind == QuoteKind.SGX:
        flags, product, level = (int.from_bytes(body[a:b], "little") for a, b in ((48, 56), (256, 258), (258, 260)))
        return _Body(body[320:384], body[64:96], flags, (), body[128:160], product, level)
    registers = tuple(body[start : start + 48] for start in range(328, 520, 48))
    return _Body(body[520:584], body[136:184], int.from_bytes(body[120:128], "little"), registers)


def _check_guest(kind: QuoteKind, attributes: int) -> None:
    if attributes & (SGX_DEBUG if kind == QuoteKind.SGX else TDX_UNDER_DEBUG):
        raise QuoteDebugError(f"attributes {attributes:#x} allow debugging", attributes=attributes)
    if kind == QuoteKind.TDX and attributes & TDX_MIGRATABLE:
        raise QuoteGuestError(f"attributes {attributes:#x} allow migration", attributes=attributes)


def _collateral(endorsements: tuple[bytes, ...]) -> dcap_qvl.QuoteCollateralV3:
    pieces = zip(COLLATERAL_FIELDS, endorsements, strict=True)
    try:
        fields = {name: piece if name in RAW_FIELDS else piece.decode() for name, piece in pieces}
    except UnicodeDecodeError as error:
        raise MalformedQuoteError(f"collateral is not text: {error}") from error
    return dcap_qvl.QuoteCollateralV3(**fields)


def _trusted_root(collateral: dcap_qvl.QuoteCollateralV3, roots: frozenset[Digest]) -> bytes:
    """Return the root certificate (DER) that the collateral's own chain ends in, if the policy trusts it."""
    chain = load_pem_chain(collateral.tcb_info_issuer_chain.encode())
    root = fingerprint(chain[-1])
    if root not in roots:
        raise QuoteChainError(f"the chain ends in {root.hex()}, which is not a trusted root", root=root)
    return chain[-1].public_bytes(Encoding.DER)


def _refusal(message: str) -> QuoteError:
    reason = next((error for words, error in REASONS if words in message), QuoteChainError)
    return reason(f"Intel: {' '.join(message.split())[:300]}")


def _check_age(signed: dict[str, object], policy: IntelPolicy, at_unix_time: int) -> None:
    """Check one signed piece of collateral, which the library has read and verified."""
    number, issued = int(str(signed["tcbEvaluationDataNumber"])), datetime.fromisoformat(str(signed["issueDate"]))
    if number < policy.evaluation_min:
        message = f"collateral of evaluation {number}, at least {policy.evaluation_min}"
        raise QuoteTcbError(message, number=number, at_least=policy.evaluation_min)
    if (age_s := at_unix_time - int(issued.timestamp())) > policy.age_s_max:
        message = f"collateral is {age_s} s old, at most {policy.age_s_max}"
        raise QuoteTimeError(message, age_s=age_s, at_most=policy.age_s_max)


def _check_measurement(kind: QuoteKind, body: _Body, policy: IntelPolicy) -> None:
    if kind == QuoteKind.SGX:
        accepted = any(_is_enclave(body, each) for each in policy.sgx)
    else:
        accepted = any(_is_domain(body, each) for each in policy.tdx)
    if not accepted:
        message = f"{kind.name} measurement {body.measurement.hex()} is not on the list"
        raise QuoteMeasurementError(message, measurement=body.measurement, mrsigner=body.mrsigner, rtmrs=body.registers)


def _is_enclave(body: _Body, accepted: SgxMeasurement) -> bool:
    if accepted.mrenclave is not None and accepted.mrenclave != body.measurement:
        return False
    if accepted.mrsigner is None:
        return True
    same = (accepted.mrsigner, accepted.product) == (body.mrsigner, body.product)
    return same and body.version >= accepted.version_min


def _is_domain(body: _Body, accepted: TdxMeasurement) -> bool:
    registers = zip(body.registers, accepted.rtmrs, strict=True)
    return body.measurement == accepted.mrtd and all(wanted in {None, found} for found, wanted in registers)
