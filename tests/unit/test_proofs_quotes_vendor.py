"""Evidence that real hardware signed holds under its vendors' roots, and stops holding after one change."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
from _proofs_quotes_vendor import (
    FEBRUARY_2026,
    FIRMWARE_TCB,
    GPU,
    GPU_POLICY,
    GPU_REPORT_DATA,
    JUNE_2025,
    LAUNCH,
    MRENCLAVE,
    MRSIGNER,
    MRTD,
    NOVEMBER_2026,
    RTMRS,
    SGX,
    SGX_POLICY,
    SGX_STATUS,
    SNP,
    SNP_POLICY,
    TDX,
    TDX_OUTDATED,
    TDX_POLICY,
    case,
    gpu_block,
    with_piece,
)

from collegium.proofs._quote_encoding import QuoteKind
from collegium.proofs._quote_errors import (
    MalformedQuoteError,
    QuoteBindingError,
    QuoteChainError,
    QuoteDebugError,
    QuoteError,
    QuoteMeasurementError,
    QuoteTcbError,
    QuoteTimeError,
)
from collegium.proofs._quote_gpu import verify_gpu
from collegium.proofs._quote_intel import intel_quote, verify_intel
from collegium.proofs._quote_policy import GpuFirmware, IntelPolicy, SgxMeasurement, SnpTcb, TdxMeasurement
from collegium.proofs._quote_snp import verify_snp
from collegium.proofs._quotes import verify_report_data

KINDS = ["SGX", "TDX", "SNP", "GPU"]


def refuses(error: type[QuoteError], call: Callable[[], object]) -> None:
    with pytest.raises(error) as refusal:
        call()
    assert type(refusal.value) is error


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_with_its_own_report_data_is_accepted(kind: str) -> None:
    verdict = verify_report_data(*case(kind))
    assert verdict.quotes[-1].kind.name == kind


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_for_another_report_is_refused(kind: str) -> None:
    data, report_data, policy, at = case(kind)
    other = report_data[:-1] + bytes([report_data[-1] ^ 1])
    refuses(QuoteBindingError, lambda: verify_report_data(data, other, policy, at))


def test_what_sgx_establishes() -> None:
    found = verify_intel(SGX, SGX_POLICY, JUNE_2025)
    assert (found.measurement, found.tcb) == (MRENCLAVE, SGX_STATUS)
    assert found.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert found.report_data == b"Hello, world!".ljust(64, b"\0")
    verify_intel(SGX, replace(SGX_POLICY, sgx=(SgxMeasurement(mrsigner=MRSIGNER),)), JUNE_2025)


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (QuoteTcbError, replace(SGX_POLICY, statuses=frozenset({"UpToDate"}))),
        (QuoteTcbError, replace(SGX_POLICY, evaluation_min=18)),
        (QuoteTimeError, replace(SGX_POLICY, age_s_max=3600)),
        (QuoteMeasurementError, replace(SGX_POLICY, sgx=(SgxMeasurement(MRENCLAVE[:-1] + b"\0"),))),
        (QuoteMeasurementError, replace(SGX_POLICY, sgx=(SgxMeasurement(mrsigner=MRSIGNER, version_min=1),))),
        (QuoteChainError, replace(SGX_POLICY, roots=frozenset({bytes(32)}))),
    ],
)
def test_sgx_under_a_stricter_policy_is_refused(error: type[QuoteError], policy: IntelPolicy) -> None:
    refuses(error, lambda: verify_intel(SGX, policy, JUNE_2025))


def test_what_tdx_establishes() -> None:
    found = verify_intel(TDX, TDX_POLICY, JUNE_2025)
    assert (found.kind, found.measurement, found.tcb, found.advisories) == (QuoteKind.TDX, MRTD, "UpToDate", ())
    for index in range(4):
        other = [*RTMRS]
        other[index] = b"\1" * 48
        policy = replace(TDX_POLICY, tdx=(TdxMeasurement(MRTD, tuple(other)),))
        refuses(QuoteMeasurementError, lambda policy=policy: verify_intel(TDX, policy, JUNE_2025))


def test_a_platform_below_every_level_is_refused() -> None:
    refuses(QuoteTcbError, lambda: verify_intel(TDX_OUTDATED, TDX_POLICY, FEBRUARY_2026))


@pytest.mark.parametrize(("quote", "policy"), [(SGX, SGX_POLICY), (TDX, TDX_POLICY)])
def test_intels_collateral_serves_for_its_month_only(quote: object, policy: IntelPolicy) -> None:
    for at in (JUNE_2025 - 2 * 86_400, JUNE_2025 + 31 * 86_400, 0, 253_402_300_799):
        refuses(QuoteTimeError, lambda at=at: verify_intel(quote, policy, at))


def test_collateral_for_sgx_does_not_serve_tdx() -> None:
    swapped = replace(TDX, endorsements=SGX.endorsements)
    refuses(QuoteChainError, lambda: verify_intel(swapped, TDX_POLICY, JUNE_2025))


def test_a_quote_or_collateral_that_is_none_is_malformed() -> None:
    refuses(MalformedQuoteError, lambda: intel_quote(b"", "{}"))
    refuses(MalformedQuoteError, lambda: intel_quote(SGX.body[:400], "{}"))


def test_what_snp_establishes() -> None:
    found = verify_snp(SNP, SNP_POLICY, NOVEMBER_2026)
    assert found.measurement == LAUNCH
    assert found.report_data == bytes([1, 2, 3, 4, 5]).ljust(64, b"\0")
    assert found.tcb == "bootloader 2, tee 0, snp 5, microcode 68"


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (QuoteDebugError, {"allow_debug": False}),
        (QuoteTcbError, {"tcb_min": replace(FIRMWARE_TCB, bootloader=3)}),
        (QuoteTcbError, {"tcb_min": replace(FIRMWARE_TCB, tee=1)}),
        (QuoteTcbError, {"tcb_min": replace(FIRMWARE_TCB, snp=6)}),
        (QuoteTcbError, {"tcb_min": SnpTcb(microcode=69)}),
        (QuoteMeasurementError, {"measurements": frozenset({LAUNCH[:-1] + b"\0"})}),
        (QuoteChainError, {"roots": frozenset({bytes(32)})}),
    ],
)
def test_snp_under_a_stricter_policy_is_refused(error: type[QuoteError], change: dict[str, object]) -> None:
    refuses(error, lambda: verify_snp(SNP, replace(SNP_POLICY, **change), NOVEMBER_2026))


def test_snp_before_its_certificate_was_issued_is_refused() -> None:
    refuses(QuoteTimeError, lambda: verify_snp(SNP, SNP_POLICY, JUNE_2025))


@pytest.mark.parametrize("at", [0x08, 0x50, 0x90, 0x180, 0x1A0, 0x2A0, 0x2E8])
def test_a_changed_byte_of_an_snp_report_breaks_its_signature(at: int) -> None:
    body = SNP.body[:at] + bytes([SNP.body[at] ^ 1]) + SNP.body[at + 1 :]
    refuses(QuoteChainError, lambda: verify_snp(replace(SNP, body=body), SNP_POLICY, NOVEMBER_2026))


def test_amds_serial_number_of_zero_neither_warns_nor_refuses() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify_snp(SNP, SNP_POLICY, NOVEMBER_2026)


def test_what_a_gpu_establishes() -> None:
    found = verify_gpu(GPU, GPU_POLICY, NOVEMBER_2026)
    assert found.report_data == GPU_REPORT_DATA
    assert found.tcb == "driver 550.90.07, VBIOS 96.00.9F.00.01"


@pytest.mark.parametrize("index", [2, 64, 65])
def test_a_gpu_with_another_block_is_refused(index: int) -> None:
    value = bytes([*gpu_block(min(index, 64))[:-1], 9])
    policy = replace(GPU_POLICY, firmware=(GpuFirmware("550.90.07", "96.00.9F.00.01", ((index, value),)),))
    refuses(QuoteMeasurementError, lambda: verify_gpu(GPU, policy, NOVEMBER_2026))


def test_a_gpu_under_another_root_or_with_a_changed_report_is_refused() -> None:
    refuses(QuoteChainError, lambda: verify_gpu(GPU, replace(GPU_POLICY, roots=frozenset({bytes(32)})), NOVEMBER_2026))
    for at in (4, 60, len(GPU.body) - 1):
        body = GPU.body[:at] + bytes([GPU.body[at] ^ 1]) + GPU.body[at + 1 :]
        refuses(QuoteChainError, lambda body=body: verify_gpu(with_piece(GPU, 0, body), GPU_POLICY, NOVEMBER_2026))
