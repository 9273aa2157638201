"""A hardware quote in place of a proof: evidence that the code which a task names made this very report.

This verifies evidence. That training really runs inside the hardware, and that the measured code is what the task's
authors meant, is the business of whoever operates and of whoever lists measurements: docs/spec/attestation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from collegium.crypto import DIGEST_BYTES, Digest, hash_fields

from ._quote_encoding import Quote, QuoteKind, decode_attestation
from ._quote_errors import MalformedQuoteError, QuoteBindingError, QuoteError, QuoteKindError, QuoteTimeError
from ._quote_gpu import verify_gpu
from ._quote_intel import verify_intel
from ._quote_policy import QuotePolicy
from ._quote_snp import verify_snp
from ._quote_verdict import QuoteVerdict, VerifiedQuote

__all__ = ["REPORT_DATA_BYTES", "QuoteBinding", "verify_quote", "verify_report_data"]

REPORT_DATA_BYTES: Final = 64
UNIX_TIME_MAX: Final = 253_402_300_799  # the year 9999: what certificates can say


@dataclass(frozen=True, slots=True)
class QuoteBinding:
    """What a report says and its quote must repeat. `ciphertext` is the digest of c, `rule` that of the rule."""

    task: Digest
    round: int
    trainer: bytes
    terms: Digest
    ciphertext: Digest
    key_root: Digest
    data_root: Digest
    rule: Digest

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the hardware is asked to sign: a digest of all fields, then zeros. A GPU signs the digest.

        Raises:
            FieldRangeError: the round lies outside [0, 2^64).
        """
        roots = (self.key_root, self.data_root)
        digest = hash_fields(
            "quote", self.task, self.round, self.trainer, self.terms, self.ciphertext, *roots, self.rule
        )
        return digest + bytes(REPORT_DATA_BYTES - DIGEST_BYTES)


def verify_quote(attestation: bytes, binding: QuoteBinding, policy: QuotePolicy, at_unix_time: int) -> QuoteVerdict:
    """Return what an attestation establishes about the report that `binding` describes.

    `at_unix_time` is the round's time, the same for every verifier, in seconds: no clock is read.

    Raises:
        QuoteError: which of its subclasses says why the attestation is refused.
    """
    return verify_report_data(attestation, binding.report_data, policy, at_unix_time)


def verify_report_data(data: bytes, report_data: bytes, policy: QuotePolicy, at_unix_time: int) -> QuoteVerdict:
    """As `verify_quote`, with the expected report data as 64 bytes.

    1. decode  one processor's quote, then GPUs', each of an accepted kind
    2. verify  each under its vendor's root and the policy
    3. bind    each says the expected report data
    4. count   as many distinct GPUs as the policy asks for
    """
    if not 0 <= at_unix_time <= UNIX_TIME_MAX:
        raise QuoteTimeError(f"time {at_unix_time} is outside [0, {UNIX_TIME_MAX}]", at_unix_time=at_unix_time)
    quotes = decode_attestation(data).quotes
    _check_kinds([quote.kind for quote in quotes], policy)
    verified = tuple(_verify_one(quote, policy, at_unix_time) for quote in quotes)
    for each in verified:
        if each.report_data != report_data:
            message = f"{each.kind.name} quote binds {each.report_data.hex()}, this report needs {report_data.hex()}"
            raise QuoteBindingError(message, found=each.report_data, expected=report_data)
    devices = [each.device for each in verified]
    if len(set(devices)) != len(devices):
        raise QuoteKindError("one GPU is quoted twice", devices=devices)
    return QuoteVerdict(verified)


def _check_kinds(kinds: list[QuoteKind], policy: QuotePolicy) -> None:
    for kind in kinds:
        if kind not in policy.kinds:
            accepted = sorted(each.name for each in policy.kinds)
            raise QuoteKindError(f"quote of kind {kind.name}, accepted: {accepted}", kind=kind, accepted=policy.kinds)
    if kinds[0] == QuoteKind.GPU or any(kind != QuoteKind.GPU for kind in kinds[1:]):
        names = [kind.name for kind in kinds]
        raise QuoteKindError(f"quotes are {names}, expected one of a processor, then GPUs", kinds=kinds)
    gpus, wanted = len(kinds) - 1, policy.gpu.count_min if policy.gpu is not None else 0
    if gpus < wanted:
        raise QuoteKindError(f"{gpus} GPUs are quoted, at least {wanted}", gpus=gpus, wanted=wanted)


def _verify_one(quote: Quote, policy: QuotePolicy, at_unix_time: int) -> VerifiedQuote:
    """Verify one quote; whatever a library raises on hostile bytes, a panic of native code included, is a refusal."""
    try:
        if quote.kind == QuoteKind.GPU and policy.gpu is not None:
            return verify_gpu(quote, policy.gpu, at_unix_time)
        if quote.kind == QuoteKind.SNP and policy.snp is not None:
            return verify_snp(quote, policy.snp, at_unix_time)
        if policy.intel is not None:
            return verify_intel(quote, policy.intel, at_unix_time)
        raise QuoteKindError(f"no policy for a quote of kind {quote.kind.name}", kind=quote.kind)
    except (QuoteError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic is no Exception
        kind = type(error).__name__
        raise MalformedQuoteError(f"{quote.kind.name} quote: {kind}: {str(error)[:200]}", cause=kind) from error
