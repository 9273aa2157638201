"""Hostile bytes never end a verifier: every change of real evidence is refused by name or establishes the same."""

from __future__ import annotations

from functools import cache

import pytest
from _proofs_quotes_vendor import GPU, SGX, SNP, TDX, case, with_piece
from hypothesis import given
from hypothesis import strategies as st

from collegium.proofs import _quotes
from collegium.proofs._quote_encoding import Attestation, Quote, QuoteKind, decode_attestation, encode_attestation
from collegium.proofs._quote_errors import MalformedQuoteError, QuoteError
from collegium.proofs._quote_policy import QuotePolicy
from collegium.proofs._quote_verdict import QuoteVerdict
from collegium.proofs._quotes import verify_report_data

EVIDENCE = {"SGX": SGX, "TDX": TDX, "SNP": SNP, "GPU": GPU}
KINDS = st.sampled_from(sorted(EVIDENCE))


@cache
def accepted(kind: str) -> tuple[bytes, bytes, QuotePolicy, int, QuoteVerdict]:
    arguments = case(kind)
    return *arguments, verify_report_data(*arguments)


def refused_or_unchanged(kind: str, data: bytes) -> None:
    _, report_data, policy, at, verdict = accepted(kind)
    try:
        found = verify_report_data(data, report_data, policy, at)
    except QuoteError:
        return
    assert found == verdict


def pieces(quote: Quote) -> list[bytes]:
    return [quote.body, *quote.endorsements]


def with_last(kind: str, quote: Quote) -> bytes:
    return encode_attestation(Attestation((*decode_attestation(accepted(kind)[0]).quotes[:-1], quote)))


@given(KINDS, st.data())
def test_any_changed_byte(kind: str, draw: st.DataObject) -> None:
    data = bytearray(accepted(kind)[0])
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    refused_or_unchanged(kind, bytes(data))


@given(KINDS, st.data())
def test_any_changed_byte_inside_a_piece(kind: str, draw: st.DataObject) -> None:
    quote = EVIDENCE[kind]
    piece = draw.draw(st.integers(0, len(quote.endorsements)))
    changed = bytearray(pieces(quote)[piece])
    for _ in range(draw.draw(st.integers(1, 3))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] ^= draw.draw(st.integers(1, 255))
    refused_or_unchanged(kind, with_last(kind, with_piece(quote, piece, bytes(changed))))


@pytest.mark.slow
@pytest.mark.seeds(quick=1, full=32)
@pytest.mark.parametrize("kind", ["SGX", "TDX", "SNP", "GPU"])
def test_each_byte_counts_or_is_not_read(kind: str, seed: int) -> None:
    """Every thirty-second byte, from `seed` on: all of them in a full check."""
    _, report_data, policy, at, verdict = accepted(kind)
    quote, bodies_unread = EVIDENCE[kind], 0
    for piece, whole in enumerate(pieces(quote)):
        for place in range(seed, len(whole), 32):
            changed = whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :]
            data = with_last(kind, with_piece(quote, piece, changed))
            try:
                assert verify_report_data(data, report_data, policy, at) == verdict
                bodies_unread += piece == 0
            except QuoteError:
                pass
    assert (bodies_unread > 0) == (kind in {"SGX", "TDX"})


@given(KINDS, st.data())
def test_any_truncation(kind: str, draw: st.DataObject) -> None:
    data = accepted(kind)[0]
    _, report_data, policy, at, _ = accepted(kind)
    with pytest.raises(MalformedQuoteError):
        verify_report_data(data[: draw.draw(st.integers(0, len(data) - 1))], report_data, policy, at)
    quote = EVIDENCE[kind]
    piece = draw.draw(st.integers(0, len(quote.endorsements)))
    whole = pieces(quote)[piece]
    shorter = with_piece(quote, piece, whole[: draw.draw(st.integers(0, len(whole) - 1))])
    refused_or_unchanged(kind, with_last(kind, shorter))


@given(KINDS, st.data())
def test_any_piece_in_the_place_of_another(kind: str, draw: st.DataObject) -> None:
    quote = EVIDENCE[kind]
    other = draw.draw(st.sampled_from([piece for each in EVIDENCE.values() for piece in pieces(each)]))
    piece = draw.draw(st.integers(0, len(quote.endorsements)))
    if len(other) <= 1 << 14:
        refused_or_unchanged(kind, with_last(kind, with_piece(quote, piece, other)))


@given(KINDS, st.data(), st.binary(max_size=2000))
def test_random_bytes_for_a_piece(kind: str, draw: st.DataObject, noise: bytes) -> None:
    quote = EVIDENCE[kind]
    piece = draw.draw(st.integers(0, len(quote.endorsements)))
    head = pieces(quote)[piece][: draw.draw(st.sampled_from([0, 4, 8, 48, 64, 450]))]
    refused_or_unchanged(kind, with_last(kind, with_piece(quote, piece, head + noise)))


@given(KINDS, st.binary(max_size=300))
def test_random_bytes(kind: str, noise: bytes) -> None:
    _, report_data, policy, at, _ = accepted(kind)
    with pytest.raises(QuoteError):
        verify_report_data(noise, report_data, policy, at)


@given(st.sampled_from(QuoteKind), st.binary(max_size=3000), st.lists(st.binary(max_size=400), max_size=9))
def test_random_quotes(kind: QuoteKind, body: bytes, endorsements: list[bytes]) -> None:
    _, report_data, policy, at, _ = accepted("GPU" if kind == QuoteKind.GPU else kind.name)
    quote = Quote(kind, body, tuple(endorsements))
    with pytest.raises(QuoteError):
        verify_report_data(with_last(kind.name, quote), report_data, policy, at)


class PanicException(BaseException):
    """As native code raises it: not an Exception."""


@pytest.mark.parametrize(
    "error", [PanicException("index out of range"), ValueError(), AssertionError(), OverflowError()]
)
def test_whatever_a_library_raises_is_malformed(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    data, report_data, policy, at, _ = accepted("SNP")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(_quotes, "verify_snp", fail)
    with pytest.raises(MalformedQuoteError) as refusal:
        verify_report_data(data, report_data, policy, at)
    assert refusal.value.values == {"cause": type(error).__name__}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), SystemExit()])
def test_what_is_not_the_evidences_fault_passes(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    data, report_data, policy, at, _ = accepted("SNP")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(_quotes, "verify_snp", fail)
    with pytest.raises(type(error)):
        verify_report_data(data, report_data, policy, at)
