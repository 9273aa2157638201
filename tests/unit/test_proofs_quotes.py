"""Quotes of our own hardware bind one report, under a policy, at a round's time; one change and the reason is named."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from _proofs_quotes_hardware import DAY_S, ROUND_TIME, Amd, Intel, Nvidia

from collegium.crypto import hash_fields
from collegium.proofs._quote_encoding import Attestation, Quote, QuoteKind, encode_attestation
from collegium.proofs._quote_errors import (
    MalformedQuoteError,
    QuoteBindingError,
    QuoteChainError,
    QuoteDebugError,
    QuoteError,
    QuoteGuestError,
    QuoteKindError,
    QuoteMeasurementError,
    QuoteTcbError,
    QuoteTimeError,
)
from collegium.proofs._quote_policy import (
    GpuFirmware,
    GpuPolicy,
    IntelPolicy,
    QuotePolicy,
    SgxMeasurement,
    SnpPolicy,
    SnpTcb,
    TdxMeasurement,
)
from collegium.proofs._quote_verdict import QuoteVerdict
from collegium.proofs._quotes import QuoteBinding, verify_quote

BINDING = QuoteBinding(
    task=b"t" * 32,
    round=3,
    trainer=b"a" * 20,
    terms=b"m" * 32,
    ciphertext=b"c" * 32,
    key_root=b"k" * 32,
    data_root=b"d" * 32,
    rule=b"r" * 32,
)
AMD, NVIDIA, SGX = Amd(), Nvidia(), Intel()
TDX = Intel(QuoteKind.TDX)
SNP_POLICY = SnpPolicy(frozenset({AMD.measurement}), SnpTcb(*AMD.versions), roots=frozenset({AMD.root.digest}))
INTEL_POLICY = IntelPolicy(
    sgx=(SgxMeasurement(SGX.mrenclave),),
    tdx=(TdxMeasurement(TDX.mrtd, (TDX.registers[0], TDX.registers[1], TDX.registers[2], None)),),
    roots=frozenset({SGX.root.digest}),
)
FIRMWARE = GpuFirmware("550.90.07", "96.00.9F.00.01", ((1, NVIDIA.blocks[0]), (3, NVIDIA.blocks[2])))
GPU_POLICY = GpuPolicy((FIRMWARE,), roots=frozenset({NVIDIA.root.digest}))
PROCESSORS = QuotePolicy(INTEL_POLICY, SNP_POLICY)
WITH_GPU = QuotePolicy(INTEL_POLICY, SNP_POLICY, GPU_POLICY)
Hardware = Amd | Intel | Nvidia


def verify(
    *quotes: Quote, policy: QuotePolicy = PROCESSORS, at: int = ROUND_TIME, binding: QuoteBinding = BINDING
) -> QuoteVerdict:
    return verify_quote(encode_attestation(Attestation(quotes)), binding, policy, at)


def quoted(hardware: Hardware) -> Quote:
    return hardware.quote(BINDING.report_data)


def refused(
    error: type[QuoteError], *quotes: Quote, policy: QuotePolicy = PROCESSORS, at: int = ROUND_TIME
) -> QuoteError:
    with pytest.raises(error) as refusal:
        verify(*quotes, policy=policy, at=at)
    assert type(refusal.value) is error
    return refusal.value


def test_report_data_is_a_digest_of_every_field_and_zeros() -> None:
    b = BINDING
    digest = hash_fields("quote", b.task, b.round, b.trainer, b.terms, b.ciphertext, b.key_root, b.data_root, b.rule)
    assert b.report_data == digest + bytes(32)
    assert digest.hex() == "12a15c8a58f12e1456ee30d308aeab14cb4de59afdff048acecc61d0bd76c9a7"
    others = [replace(b, **{each.name: 4 if each.name == "round" else b"x" * 32}).report_data for each in fields(b)]
    assert len({b.report_data, *others}) == 9


@pytest.mark.parametrize("hardware", [AMD, SGX, TDX, replace(TDX, service_domain=bytes(48))])
def test_a_quote_over_this_report_is_accepted(hardware: Amd | Intel) -> None:
    verdict = verify(quoted(hardware))
    (only,) = verdict.quotes
    assert only.report_data == BINDING.report_data
    if isinstance(hardware, Amd):
        assert (only.kind, only.measurement) == (QuoteKind.SNP, hardware.measurement)
        assert only.tcb == "bootloader 3, tee 0, snp 22, microcode 213"
    else:
        code = hardware.mrenclave if hardware.kind == QuoteKind.SGX else hardware.mrtd
        assert (only.kind, only.measurement, only.tcb) == (hardware.kind, code, "UpToDate")
        assert only.advisories == ("TEST-SA-1",)


@pytest.mark.parametrize("hardware", [AMD, SGX, TDX])
@pytest.mark.parametrize("name", [each.name for each in fields(BINDING)])
def test_a_quote_over_another_report_is_refused(hardware: Amd | Intel, name: str) -> None:
    old = getattr(BINDING, name)
    other = replace(BINDING, **{name: old + 1 if isinstance(old, int) else bytes([old[0] ^ 1]) + old[1:]})
    with pytest.raises(QuoteBindingError) as refusal:
        verify(quoted(hardware), binding=other)
    assert refusal.value.values == {"found": BINDING.report_data, "expected": other.report_data}


@pytest.mark.parametrize("hardware", [AMD, SGX, TDX])
def test_the_zeros_after_the_digest_are_bound_too(hardware: Amd | Intel) -> None:
    refused(QuoteBindingError, hardware.quote(BINDING.report_data[:63] + b"\1"))


def test_a_processor_and_its_gpus_are_accepted_together() -> None:
    second = replace(NVIDIA, serial="1")
    verdict = verify(quoted(AMD), quoted(NVIDIA), quoted(second), policy=WITH_GPU)
    assert [each.kind for each in verdict.quotes] == [QuoteKind.SNP, QuoteKind.GPU, QuoteKind.GPU]
    assert verdict.quotes[1].tcb == "driver 550.90.07, VBIOS 96.00.9F.00.01"
    assert len({each.device for each in verdict.quotes}) == 3


def test_a_gpu_that_signed_another_nonce_is_refused() -> None:
    other = bytes([BINDING.report_data[0] ^ 1]) + BINDING.report_data[1:]
    refused(QuoteBindingError, quoted(AMD), NVIDIA.quote(other), policy=WITH_GPU)


def test_kinds_are_what_the_policy_asks_for() -> None:
    only_sgx = QuotePolicy(replace(INTEL_POLICY, tdx=()))
    verify(quoted(SGX), policy=only_sgx)
    for quotes, policy in (
        ((quoted(TDX),), only_sgx),
        ((quoted(AMD),), only_sgx),
        ((quoted(AMD), quoted(NVIDIA)), PROCESSORS),
        ((quoted(NVIDIA),), WITH_GPU),
        ((quoted(NVIDIA), quoted(replace(NVIDIA, serial="1"))), WITH_GPU),
        ((quoted(NVIDIA), quoted(AMD)), WITH_GPU),
        ((quoted(AMD), quoted(SGX)), PROCESSORS),
        ((quoted(AMD),), WITH_GPU),
        ((quoted(AMD), quoted(NVIDIA)), replace(WITH_GPU, gpu=replace(GPU_POLICY, count_min=2))),
        ((quoted(AMD), quoted(NVIDIA), quoted(NVIDIA)), replace(WITH_GPU, gpu=replace(GPU_POLICY, count_min=2))),
    ):
        refused(QuoteKindError, *quotes, policy=policy)


@pytest.mark.parametrize("kind", [QuoteKind.SGX, QuoteKind.TDX, QuoteKind.SNP, QuoteKind.GPU])
def test_a_quote_under_another_kinds_name_is_malformed(kind: QuoteKind) -> None:
    for hardware in (AMD, SGX, TDX, NVIDIA):
        quote = quoted(hardware)
        if quote.kind != kind:
            first = [quoted(AMD)] if kind == QuoteKind.GPU else []
            gpu = WITH_GPU if kind == QuoteKind.GPU else PROCESSORS
            with pytest.raises((MalformedQuoteError, QuoteChainError)):
                verify(*first, replace(quote, kind=kind), policy=gpu)


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (QuoteDebugError, {"guest_policy": 0xB0000}),
        (QuoteGuestError, {"guest_policy": 0x70000}),
        (QuoteGuestError, {"level": 1}),
        (QuoteTcbError, {"versions": (3, 0, 22, 212)}),
        (QuoteTcbError, {"versions": (2, 255, 255, 255)}),
        (QuoteMeasurementError, {"measurement": b"\x11" * 47 + b"\x10"}),
        (QuoteChainError, {"certified": (3, 0, 22, 214)}),
        (QuoteChainError, {"certified_chip": bytes(64)}),
        (QuoteChainError, {"certified_chip": b""}),
        (QuoteChainError, {"leaf_name": "SEV-VLEK"}),
        (QuoteChainError, {"product": b"Turin-C1"}),
        (QuoteChainError, {"key_info": 0b00100}),
        (QuoteChainError, {"key_info": 0b00010}),
        (QuoteChainError, {"authority": False, "signs": True}),
        (QuoteChainError, {"signs": False}),
        (QuoteChainError, {"product_tag": 0x0C}),
        (QuoteChainError, {"reserved": b"\0\0\0\1"}),
        (MalformedQuoteError, {"report_version": 6}),
        (MalformedQuoteError, {"algorithm": 0}),
        (QuoteTimeError, {"end": datetime.fromtimestamp(ROUND_TIME - 1, UTC)}),
    ],
)
def test_amd_refuses(error: type[QuoteError], change: dict[str, object]) -> None:
    verify(quoted(AMD))
    refused(error, quoted(replace(AMD, **change)))


def test_amd_accepts_what_a_policy_allows_and_nothing_beside_it() -> None:
    for change, allowed in (
        ({"guest_policy": 0xB0000}, {"allow_debug": True}),
        ({"guest_policy": 0x70000}, {"allow_migration": True}),
        ({"level": 1}, {"vmpl_max": 1}),
        ({"versions": (3, 0, 22, 212)}, {"tcb_min": SnpTcb(3, 0, 22, 212)}),
        ({"end": datetime.fromtimestamp(ROUND_TIME, UTC)}, {}),
    ):
        verify(quoted(replace(AMD, **change)), policy=QuotePolicy(snp=replace(SNP_POLICY, **allowed)))


def test_amd_serves_only_under_a_trusted_root_and_unrevoked() -> None:
    refused(QuoteChainError, quoted(AMD), policy=QuotePolicy(snp=replace(SNP_POLICY, roots=frozenset({bytes(32)}))))
    for certificate in AMD.chain():
        policy = QuotePolicy(snp=replace(SNP_POLICY, revoked=frozenset({certificate.key_digest})))
        refused(QuoteChainError, quoted(AMD), policy=policy)


@pytest.mark.parametrize("hardware", [AMD, SGX, TDX, NVIDIA])
def test_no_default_trusts_hardware_of_our_own(hardware: Hardware) -> None:
    policy = QuotePolicy(IntelPolicy(INTEL_POLICY.sgx, INTEL_POLICY.tdx), SnpPolicy(SNP_POLICY.measurements, SnpTcb()))
    first = ()
    if isinstance(hardware, Nvidia):
        first, policy = (quoted(AMD),), QuotePolicy(snp=SNP_POLICY, gpu=GpuPolicy((FIRMWARE,)))
    refused(QuoteChainError, *first, quoted(hardware), policy=policy)


def test_an_amd_report_has_one_form() -> None:
    quote = quoted(AMD)
    refused(MalformedQuoteError, replace(quote, body=quote.body + b"\0"))
    refused(MalformedQuoteError, replace(quote, body=quote.body[:-1]))
    for at in (0x2A0 + 48, 0x2E8 + 48, 0x330, 0x49F):
        refused(MalformedQuoteError, replace(quote, body=quote.body[:at] + b"\1" + quote.body[at + 1 :]))


def test_amd_needs_three_certificates_in_order() -> None:
    quote = quoted(AMD)
    vcek, ask, ark = quote.endorsements
    for wrong in ((vcek, ask), (vcek, ask, ark, ark), ()):
        refused(MalformedQuoteError, replace(quote, endorsements=wrong))
    refused(MalformedQuoteError, replace(quote, endorsements=(vcek, ask + b"\0", ark)))
    for wrong in ((ask, vcek, ark), (vcek, ark, ark), (ark, ark, ark)):
        refused(QuoteChainError, replace(quote, endorsements=wrong))


@pytest.mark.parametrize("late", [-101 * DAY_S, 101 * DAY_S])
def test_no_quote_serves_at_another_time_than_the_rounds(late: int) -> None:
    for quotes in ((quoted(SGX),), (quoted(TDX),), (quoted(AMD),), (quoted(AMD), quoted(NVIDIA))):
        refused(QuoteTimeError, *quotes, policy=WITH_GPU if len(quotes) > 1 else PROCESSORS, at=ROUND_TIME + late)


@pytest.mark.parametrize("at", [-1, 253_402_300_800, 1 << 70])
def test_a_time_that_no_certificate_can_name_is_refused(at: int) -> None:
    refused(QuoteTimeError, quoted(AMD), at=at)


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (QuoteDebugError, {"flags": 0x07}),
        (QuoteMeasurementError, {"mrenclave": b"\x33" * 31 + b"\x32"}),
        (QuoteTcbError, {"status": "OutOfDate"}),
        (QuoteTcbError, {"status": "Revoked"}),
        (QuoteTcbError, {"level": 3}),
        (QuoteChainError, {"pck_revoked": True}),
        (QuoteTimeError, {"issued_s": ROUND_TIME + 1}),
        (QuoteTimeError, {"issued_s": ROUND_TIME - 30 * DAY_S - 1}),
    ],
)
def test_sgx_refuses(error: type[QuoteError], change: dict[str, object]) -> None:
    verify(quoted(SGX))
    refused(error, quoted(replace(SGX, **change)))


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (QuoteDebugError, {"td_attributes": 1 << 28 | 1}),
        (QuoteDebugError, {"td_attributes": 1 << 28 | 2}),
        (QuoteGuestError, {"td_attributes": 1 << 28 | 1 << 29}),
        (QuoteGuestError, {"td_attributes": 1 << 28 | 1 << 8}),
        (QuoteGuestError, {"td_attributes": 0}),
        (QuoteGuestError, {"service_domain": bytes(47) + b"\1"}),
        (QuoteMeasurementError, {"mrtd": b"\x55" * 47 + b"\x54"}),
        (QuoteMeasurementError, {"registers": (TDX.registers[0], TDX.registers[1], bytes(48), TDX.registers[3])}),
        (QuoteTcbError, {"status": "OutOfDateConfigurationNeeded"}),
        (QuoteTcbError, {"level": 3}),
    ],
)
def test_tdx_refuses(error: type[QuoteError], change: dict[str, object]) -> None:
    verify(quoted(TDX))
    refused(error, quoted(replace(TDX, **change)))


def test_intel_accepts_what_a_policy_allows() -> None:
    for hardware, allowed in (
        (replace(SGX, status="OutOfDate"), {"statuses": frozenset({"OutOfDate"})}),
        (replace(SGX, issued_s=ROUND_TIME), {"age_s_max": 0}),
        (replace(SGX, evaluation=18), {"evaluation_min": 18}),
        (replace(TDX, registers=(*TDX.registers[:3], bytes(48))), {}),
        (SGX, {"sgx": (SgxMeasurement(mrsigner=SGX.mrsigner, product=7, version_min=5),)}),
    ):
        verify(quoted(hardware), policy=QuotePolicy(replace(INTEL_POLICY, **allowed)))


@pytest.mark.parametrize(
    ("error", "demanded"),
    [
        (QuoteTcbError, {"statuses": frozenset({"SWHardeningNeeded"})}),
        (QuoteTcbError, {"evaluation_min": 18}),
        (QuoteTimeError, {"age_s_max": DAY_S - 1}),
        (QuoteChainError, {"roots": frozenset({bytes(32)})}),
        (QuoteMeasurementError, {"sgx": (SgxMeasurement(mrsigner=SGX.mrsigner, product=8, version_min=5),)}),
        (QuoteMeasurementError, {"sgx": (SgxMeasurement(mrsigner=SGX.mrsigner, product=7, version_min=6),)}),
        (QuoteMeasurementError, {"sgx": (SgxMeasurement(mrsigner=bytes(32), product=7),)}),
        (QuoteMeasurementError, {"sgx": (SgxMeasurement(bytes(32), SGX.mrsigner, 7),)}),
    ],
)
def test_intel_refuses_what_a_policy_does_not_allow(error: type[QuoteError], demanded: dict[str, object]) -> None:
    refused(error, quoted(SGX), policy=QuotePolicy(replace(INTEL_POLICY, **demanded)))


def test_an_intel_quote_needs_its_own_collateral() -> None:
    quote, other = quoted(SGX), quoted(TDX)
    refused(MalformedQuoteError, replace(quote, endorsements=quote.endorsements[:8]))
    refused(
        MalformedQuoteError, replace(quote, endorsements=(*quote.endorsements[:4], b"\xff", *quote.endorsements[5:]))
    )
    refused(MalformedQuoteError, replace(quote, endorsements=(*quote.endorsements[:3], b"", *quote.endorsements[4:])))
    refused(QuoteChainError, replace(quote, endorsements=other.endorsements))
    refused(MalformedQuoteError, replace(quote, body=quote.body[:431]))


@pytest.mark.parametrize("at", [48 + 64, 48 + 320, 436, 436 + 64, 436 + 128, 436 + 512])
def test_a_changed_byte_of_an_sgx_quote_breaks_a_signature(at: int) -> None:
    """The code, the report data, the signature, its key, the quoting enclave's report, its signature."""
    body = bytearray(quoted(SGX).body)
    body[at] ^= 1
    refused(QuoteChainError, replace(quoted(SGX), body=bytes(body)))


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (QuoteMeasurementError, {"driver": b"550.90.08\0"}),
        (QuoteMeasurementError, {"vbios": bytes.fromhex("009f009602000000")}),
        (QuoteMeasurementError, {"blocks": (*NVIDIA.blocks[:2], bytes(48), NVIDIA.blocks[3])}),
        (QuoteMeasurementError, {"blocks": NVIDIA.blocks[:2]}),
        (QuoteChainError, {"certified_firmware_id": bytes(48)}),
        (QuoteChainError, {"firmware_id": b""}),
        (QuoteChainError, {"firmware_id": b"\x22" * 47}),
        (MalformedQuoteError, {"request": bytes.fromhex("12e001ff")}),
        (MalformedQuoteError, {"request": bytes.fromhex("11e000ff")}),
        (MalformedQuoteError, {"response": bytes.fromhex("1160")[::-1]}),
        (MalformedQuoteError, {"response": bytes.fromhex("1161")}),
        (MalformedQuoteError, {"indices": (1, 2, 3, 3)}),
        (MalformedQuoteError, {"block_format": 2}),
        (MalformedQuoteError, {"extra": bytes([3, 0, 1, 0, 65])}),
        (MalformedQuoteError, {"extra": bytes([9, 0, 2, 0, 65])}),
    ],
)
def test_nvidia_refuses(error: type[QuoteError], change: dict[str, object]) -> None:
    verify(quoted(AMD), quoted(NVIDIA), policy=WITH_GPU)
    refused(error, quoted(AMD), quoted(replace(NVIDIA, **change)), policy=WITH_GPU)


def test_a_gpus_chain_has_three_to_seven_certificates() -> None:
    quote = quoted(NVIDIA)
    for certificates in (quote.endorsements[2:], quote.endorsements * 2):
        refused(MalformedQuoteError, quoted(AMD), replace(quote, endorsements=certificates), policy=WITH_GPU)


def test_a_block_that_the_policy_does_not_name_is_not_compared() -> None:
    other = replace(NVIDIA, blocks=(NVIDIA.blocks[0], bytes(48), NVIDIA.blocks[2], bytes(48)))
    verify(quoted(AMD), quoted(other), policy=WITH_GPU)


def test_nvidia_serves_only_under_a_trusted_root_and_unrevoked() -> None:
    policies = [replace(GPU_POLICY, revoked=frozenset({each.key_digest})) for each in NVIDIA.chain()]
    for policy in (replace(GPU_POLICY, roots=frozenset({bytes(32)})), *policies):
        refused(QuoteChainError, quoted(AMD), quoted(NVIDIA), policy=replace(WITH_GPU, gpu=policy))


def test_a_certificate_signed_in_the_other_way_is_the_same_gpu() -> None:
    quote, chip = quoted(NVIDIA), NVIDIA.chain()[1]
    twin = replace(quote, endorsements=(quote.endorsements[0], chip.resigned(), *quote.endorsements[2:]))
    assert twin != quote
    verify(quoted(AMD), twin, policy=WITH_GPU)
    refused(QuoteKindError, quoted(AMD), quote, twin, policy=WITH_GPU)
    without = replace(GPU_POLICY, revoked=frozenset({chip.key_digest}))
    refused(QuoteChainError, quoted(AMD), twin, policy=replace(WITH_GPU, gpu=without))


def test_a_changed_gpu_report_breaks_its_signature() -> None:
    body = quoted(NVIDIA).body
    for at in (4, 50, len(body) - 97, len(body) - 96, len(body) - 1):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        refused(QuoteChainError, quoted(AMD), replace(quoted(NVIDIA), body=changed), policy=WITH_GPU)
    refused(QuoteChainError, quoted(AMD), replace(quoted(NVIDIA), body=b""), policy=WITH_GPU)
