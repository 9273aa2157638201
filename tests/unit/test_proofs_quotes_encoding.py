"""Attestations and policies as bytes: one encoding each, bounded, nothing trailing."""

from __future__ import annotations

import json

import pytest
from _proofs_quotes_vendor import SNP as VENDORS

from collegium.proofs._quote_certificates import load_chain
from collegium.proofs._quote_encoding import (
    ATTESTATION_BYTES_MAX,
    BODY_BYTES_MAX,
    ENDORSEMENT_BYTES_MAX,
    Attestation,
    Quote,
    QuoteKind,
    decode_attestation,
    encode_attestation,
)
from collegium.proofs._quote_errors import MalformedQuoteError, QuoteKindError, QuotePolicyError
from collegium.proofs._quote_policy import (
    GpuFirmware,
    GpuPolicy,
    IntelPolicy,
    QuotePolicy,
    SgxMeasurement,
    SnpPolicy,
    SnpTcb,
    TdxMeasurement,
    decode_policy,
    encode_policy,
)

QUOTE = Quote(QuoteKind.SNP, b"body", (b"first", b"", b"third"))
ATTESTATION = Attestation((QUOTE, Quote(QuoteKind.GPU, b"", ())))
INTEL = IntelPolicy((SgxMeasurement(b"e" * 32),), (TdxMeasurement(b"d" * 48, (b"0" * 48, None, None, b"3" * 48)),))
SNP = SnpPolicy(frozenset({b"m" * 48, b"n" * 48}), SnpTcb(1, 2, 3, 4))
GPU = GpuPolicy((GpuFirmware("1.2", "3.4", ((2, b"b" * 48), (10, b"c" * 48))),))
POLICY = QuotePolicy(INTEL, SNP, GPU)


def test_an_attestation_comes_back() -> None:
    data = encode_attestation(ATTESTATION)
    assert data[:3] == bytes([1, 2, QuoteKind.SNP])
    assert decode_attestation(data) == ATTESTATION


def test_every_shorter_or_longer_attestation_is_malformed() -> None:
    data = encode_attestation(ATTESTATION)
    for length in range(len(data)):
        with pytest.raises(MalformedQuoteError):
            decode_attestation(data[:length])
    with pytest.raises(MalformedQuoteError):
        decode_attestation(data + b"\0")


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_malformed(version: int) -> None:
    with pytest.raises(MalformedQuoteError):
        decode_attestation(bytes([version]) + encode_attestation(ATTESTATION)[1:])


@pytest.mark.parametrize("kind", [0, 5, 255])
def test_a_kind_that_does_not_exist_is_named(kind: int) -> None:
    data = encode_attestation(ATTESTATION)
    with pytest.raises(QuoteKindError) as refusal:
        decode_attestation(data[:2] + bytes([kind]) + data[3:])
    assert refusal.value.values == {"kind": kind}


def test_no_quote_is_malformed() -> None:
    with pytest.raises(MalformedQuoteError):
        decode_attestation(b"\1\0")


@pytest.mark.parametrize("quotes", [9, 10])
def test_at_most_nine_quotes(quotes: int) -> None:
    data = b"\1" + bytes([quotes]) + (bytes([QuoteKind.GPU]) + bytes(5)) * quotes
    if quotes == 9:
        assert len(decode_attestation(data).quotes) == 9
        return
    with pytest.raises(MalformedQuoteError):
        decode_attestation(data)
    with pytest.raises(MalformedQuoteError):
        encode_attestation(Attestation((QUOTE,) * quotes))


@pytest.mark.parametrize(
    "quote",
    [
        Quote(QuoteKind.SGX, bytes(BODY_BYTES_MAX), (bytes(ENDORSEMENT_BYTES_MAX),)),
        Quote(QuoteKind.SGX, b"", (b"",) * 9),
    ],
)
def test_lengths_at_the_bound_come_back_and_one_past_it_do_not(quote: Quote) -> None:
    assert decode_attestation(encode_attestation(Attestation((quote,)))).quotes == (quote,)
    for body, endorsements in (
        (quote.body + bytes(BODY_BYTES_MAX + 1 - len(quote.body)), ()),
        (b"", (bytes(ENDORSEMENT_BYTES_MAX + 1),)),
        (b"", (b"",) * 10),
        (b"", (bytes(ENDORSEMENT_BYTES_MAX),) * 4),
    ):
        longer = Quote(QuoteKind.SGX, body, endorsements)
        with pytest.raises(MalformedQuoteError):
            encode_attestation(Attestation((longer,)))
        with pytest.raises(MalformedQuoteError):
            decode_attestation(_by_hand(longer))
    with pytest.raises(MalformedQuoteError):
        decode_attestation(bytes(ATTESTATION_BYTES_MAX + 1))


def _by_hand(quote: Quote) -> bytes:
    data = bytes([1, 1, quote.kind]) + len(quote.body).to_bytes(4, "little") + quote.body
    pieces = [len(each).to_bytes(4, "little") + each for each in quote.endorsements]
    return data + bytes([len(pieces)]) + b"".join(pieces)


@pytest.mark.parametrize("policy", [POLICY, QuotePolicy(INTEL), QuotePolicy(snp=SNP), QuotePolicy(None, SNP, GPU)])
def test_a_policy_comes_back(policy: QuotePolicy) -> None:
    data = encode_policy(policy)
    assert decode_policy(data) == policy
    assert encode_policy(decode_policy(data)) == data


def test_a_policys_digest_depends_on_every_field() -> None:
    body = json.loads(encode_policy(POLICY))
    digests = {POLICY.digest}
    for part, name, value in (
        ("intel", "age_s_max", 1),
        ("intel", "evaluation_min", 1),
        ("intel", "statuses", ["OutOfDate"]),
        ("intel", "tdx", []),
        ("snp", "allow_debug", True),
        ("snp", "vmpl_max", 1),
        ("snp", "roots", []),
        ("gpu", "count_min", 2),
    ):
        other = json.dumps(body | {part: body[part] | {name: value}}, separators=(",", ":")).encode()
        digests.add(decode_policy(other).digest)
    assert len(digests) == 9


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b" ",
        lambda data: data.replace(b'"gpu"', b'"gpus"'),
        lambda data: data.replace(b'"count_min":1', b'"count_min":1,"more":1'),
        lambda data: data.replace(b'"count_min":1', b'"count_min":"1"'),
        lambda data: data.replace(b'"count_min":1', b'"count_min":0'),
        lambda data: data.replace(b'"UpToDate"', b'"Revoked"'),
        lambda data: data.replace(b'"vmpl_max":0,', b""),
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: b"[" * 100_000,
        lambda data: data + bytes(1 << 20),
        lambda data: b'{"gpu":null,"intel":null,"snp":null}',
    ],
)
def test_a_policy_in_another_encoding_is_refused(change: object) -> None:
    with pytest.raises(QuotePolicyError):
        decode_policy(change(encode_policy(POLICY)))  # type: ignore[operator]


@pytest.mark.parametrize(
    "make",
    [
        QuotePolicy,
        lambda: QuotePolicy(gpu=GPU),
        IntelPolicy,
        lambda: IntelPolicy(INTEL.sgx, statuses=frozenset({"Revoked"})),
        lambda: IntelPolicy(INTEL.sgx, roots=frozenset({b""})),
        SgxMeasurement,
        lambda: SgxMeasurement(b"e" * 31),
        lambda: TdxMeasurement(b"d" * 32, (None, None, None, None)),
        lambda: TdxMeasurement(b"d" * 48, (None, None, None)),  # type: ignore[arg-type]
        lambda: SnpPolicy(frozenset(), SnpTcb()),
        lambda: SnpPolicy(frozenset({b"m" * 32}), SnpTcb()),
        lambda: SnpPolicy(SNP.measurements, SnpTcb(), revoked=frozenset({b"k"})),
        lambda: GpuPolicy(()),
        lambda: GpuPolicy(GPU.firmware, count_min=9),
        lambda: GpuFirmware("", "", ()),
        lambda: GpuFirmware("", "", ((3, b"b" * 48), (2, b"b" * 48))),
        lambda: GpuFirmware("", "", ((2, b"b" * 48), (2, b"b" * 48))),
        lambda: GpuFirmware("", "", ((2, b"b"),)),
    ],
)
def test_a_policy_that_contradicts_itself_cannot_be_made(make: object) -> None:
    with pytest.raises(QuotePolicyError):
        make()  # type: ignore[operator]


def test_a_certificate_of_an_unknown_version_is_malformed() -> None:
    version = b"\xa0\x03\x02\x01\x02"
    for certificate in VENDORS.endorsements:
        assert len(load_chain([certificate])) == 1
        with pytest.raises(MalformedQuoteError):
            load_chain([certificate.replace(version, version[:-1] + b"\x42", 1)])
