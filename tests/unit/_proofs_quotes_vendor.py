"""Evidence of real hardware (tests/data/attestation), policies that accept exactly it, times when it was valid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from _proofs_quotes_hardware import Amd
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from collegium.proofs._quote_encoding import Attestation, Quote, QuoteKind, encode_attestation
from collegium.proofs._quote_intel import intel_quote
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

FOLDER = Path(__file__).parent.parent / "data" / "attestation"
JUNE_2025 = 1_750_400_000
FEBRUARY_2026 = 1_771_500_000
NOVEMBER_2026 = 1_795_000_000


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def _intel(name: str) -> Quote:
    return intel_quote(read(f"{name}.bin"), (FOLDER / f"{name}_collateral.json").read_text())


SGX, TDX, TDX_OUTDATED = _intel("sgx_quote"), _intel("tdx_quote"), _intel("tdx_quote_outdated")
SNP = Quote(QuoteKind.SNP, read("snp_report.bin"), (read("snp_vcek.der"), read("snp_ask.der"), read("snp_ark.der")))
GPU = Quote(
    QuoteKind.GPU,
    read("gpu_report.bin"),
    tuple(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(read("gpu_certificates.pem"))),
)

SGX_STATUS = "ConfigurationAndSWHardeningNeeded"
MRENCLAVE = bytes.fromhex("33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb")
MRSIGNER = bytes.fromhex("815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6")
MRTD = bytes.fromhex("91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7")
RTMRS = (
    bytes.fromhex("44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0"),
    bytes.fromhex("0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7aea8c323c173019b3093d54e579e9378"),
    bytes.fromhex("d833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132"),
    bytes(48),
)
LAUNCH = bytes.fromhex(
    "b07af9620f3b839b47996422ddec6058338951d984e312115131ea82705eaf5b6bdf8a9ece31a5a608eb0cf2e4872b01"
)
FIRMWARE_TCB = SnpTcb(bootloader=2, tee=0, snp=5, microcode=68)

SGX_POLICY = IntelPolicy(sgx=(SgxMeasurement(MRENCLAVE),), statuses=frozenset({SGX_STATUS}))
TDX_POLICY = IntelPolicy(tdx=(TdxMeasurement(MRTD, RTMRS),))
SNP_POLICY = SnpPolicy(frozenset({LAUNCH}), FIRMWARE_TCB, allow_debug=True)


def gpu_block(index: int) -> bytes:
    """A block's value. The request has 37 bytes, the response's head 8, each block 55: 7 of a head, 48 of the value."""
    at = 37 + 8 + 55 * (index - 1)
    assert GPU.body[at] == index
    return GPU.body[at + 7 : at + 55]


GPU_POLICY = GpuPolicy((GpuFirmware("550.90.07", "96.00.9F.00.01", tuple((i, gpu_block(i)) for i in (2, 3, 5, 12))),))
GPU_REPORT_DATA = GPU.body[4:36] + bytes(32)

# The GPU's nonce was somebody else's; a processor of our own signs the same, so that both stand together.
HOST = Amd()
HOST_POLICY = SnpPolicy(frozenset({HOST.measurement}), SnpTcb(), roots=frozenset({HOST.root.digest}))

SGX_REPORT_DATA = SGX.body[48 + 320 : 48 + 384]
TDX_REPORT_DATA = TDX.body[48 + 520 : 48 + 584]
SNP_REPORT_DATA = SNP.body[0x50:0x90]


def case(name: str) -> tuple[bytes, bytes, QuotePolicy, int]:
    """What `verify_report_data` takes: attestation, report data, policy, time. `name` is a kind's."""
    cases: dict[str, tuple[tuple[Quote, ...], bytes, QuotePolicy, int]] = {
        "SGX": ((SGX,), SGX_REPORT_DATA, QuotePolicy(SGX_POLICY), JUNE_2025),
        "TDX": ((TDX,), TDX_REPORT_DATA, QuotePolicy(TDX_POLICY), JUNE_2025),
        "SNP": ((SNP,), SNP_REPORT_DATA, QuotePolicy(snp=SNP_POLICY), NOVEMBER_2026),
        "GPU": ((), GPU_REPORT_DATA, QuotePolicy(snp=HOST_POLICY, gpu=GPU_POLICY), NOVEMBER_2026),
    }
    quotes, data, policy, at = cases[name]
    if name == "GPU":
        quotes = (HOST.quote(GPU_REPORT_DATA), GPU)
    return encode_attestation(Attestation(quotes)), data, policy, at


def with_piece(quote: Quote, piece: int, change: bytes) -> Quote:
    """`quote` with other bytes: piece 0 is its body, the others its endorsements."""
    if piece == 0:
        return replace(quote, body=change)
    before, after = quote.endorsements[: piece - 1], quote.endorsements[piece:]
    return replace(quote, endorsements=(*before, change, *after))
