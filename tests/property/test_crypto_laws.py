"""Laws of the crypto room, and its two curve libraries held equal."""

from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from collegium.algebra import P
from collegium.crypto import (
    AccountKey,
    BadProofError,
    BlsSecretKey,
    BlsVrf,
    Certificate,
    EcVrf,
    EcVrfSecretKey,
    Stream,
    ThresholdBeacon,
    Transcript,
    bisect_invalid,
    bls_verify,
    combine_commitments,
    combine_shares,
    deal,
    decode_certificate,
    encode_certificate,
    hash_fields,
    recover_address,
    verify_aggregate_many,
)
from collegium.crypto._bls import SIGNATURE_DOMAIN, aggregate_signatures
from collegium.crypto._bls_backend import GROUP_ORDER, backend
from collegium.errors import CollegiumError

few = settings(max_examples=25, deadline=None)
seeds = st.binary(min_size=32, max_size=32)
digests = seeds
fields = st.lists(st.binary(max_size=12), max_size=4)

SIZE = 9
STREAM = Stream(b"l" * 32)
SECRETS = [BlsSecretKey.generate(STREAM) for _ in range(SIZE)]
KEYS = {seat: secret.public_key() for seat, secret in enumerate(SECRETS)}
DEALING = deal(STREAM, SIZE, 6)
GROUP = combine_commitments(SIZE, [DEALING.commitments])
BEACONS = [ThresholdBeacon(bytes(32), GROUP, combine_shares([share])) for share in DEALING.shares]
PARTIALS = [beacon.partial(1, 1) for beacon in BEACONS]
PROOF = BEACONS[0].combine(1, 1, dict(enumerate(PARTIALS)))


@given(fields, fields)
def test_lists_of_fields_hash_alike_only_if_equal(first: list[bytes], second: list[bytes]) -> None:
    assert (hash_fields("t", *first) == hash_fields("t", *second)) == (first == second)


@given(seeds, st.lists(st.integers(0, 70), max_size=8))
def test_a_stream_does_not_depend_on_how_it_is_read(seed: bytes, counts: list[int]) -> None:
    stream = Stream(seed)
    assert b"".join(stream(count) for count in counts) == Stream(seed)(sum(counts))


@given(seeds, st.integers(0, 40))
def test_field_challenges_are_canonical_and_indices_distinct(seed: bytes, count: int) -> None:
    transcript = Transcript("t", seed)
    assert (transcript.challenge_field("f", count) < P).all()
    assert (transcript.challenge_ext("k", count) < P).all()
    indices = transcript.challenge_indices("i", count, 40)
    assert np.array_equal(indices, np.unique(indices))
    assert indices.size == count
    assert ((indices >= 0) & (indices < 40)).all()


@few
@given(st.integers(1, GROUP_ORDER - 1), digests)
def test_both_curve_libraries_make_the_same_keys_and_signatures(scalar: int, digest: bytes) -> None:
    secret = BlsSecretKey(scalar)
    hashed = G1Point.hash_to_curve(digest, SIGNATURE_DOMAIN)
    assert secret.public_key().data == bytes((G2Point() * Scalar(scalar)).to_compressed_bytes())
    assert secret.sign(digest) == bytes((hashed * Scalar(scalar)).to_compressed_bytes())
    bls_verify(secret.public_key(), digest, secret.sign(digest))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, SIZE - 1), st.integers(0, 8 * 96 - 1), st.booleans())
def test_both_curve_libraries_refuse_the_same_bytes(seat: int, bit: int, in_g2: bool) -> None:
    """One bit flipped; arkworks, laxer on flags, must also give the bytes back to have accepted them."""
    data = bytearray(KEYS[seat].data if in_g2 else SECRETS[seat].sign(bytes(32)))
    bit %= 8 * len(data)
    data[bit // 8] ^= 1 << bit % 8
    decode = backend().decode_g2 if in_g2 else backend().decode_g1
    point: Any = G2Point if in_g2 else G1Point
    try:
        second = bytes(point.from_compressed_bytes(bytes(data)).to_compressed_bytes()) == data
    except ValueError:
        second = False
    try:
        decode(bytes(data))
        first = True
    except ValueError:
        first = False
    assert first == second


@few
@given(st.integers(0, GROUP_ORDER - 1), st.integers(0, GROUP_ORDER - 1))
def test_multiplication_is_linear(a: int, b: int) -> None:
    curve = backend()
    point = curve.hash_to_g1(b"point", b"test")
    total = curve.mul_g1(point, a) + curve.mul_g1(point, b)
    assert curve.encode_g1(total) == curve.encode_g1(curve.mul_g1(point, (a + b) % GROUP_ORDER))


@few
@given(digests, st.sets(st.integers(0, SIZE - 1)), st.randoms(use_true_random=False))
def test_bisection_finds_exactly_the_bad_seats(digest: bytes, bad: set[int], random: Any) -> None:
    signatures = {seat: secret.sign(digest) for seat, secret in enumerate(SECRETS)}
    for seat in bad:
        signatures[seat] = BlsSecretKey(random.randrange(1, GROUP_ORDER)).sign(digest)
    assert bisect_invalid(KEYS, digest, signatures) == tuple(sorted(bad))


@few
@given(st.lists(st.tuples(st.sets(st.integers(0, SIZE - 1), min_size=1), digests), min_size=1, max_size=4))
def test_aggregates_over_several_digests_verify(parts: list[tuple[set[int], bytes]]) -> None:
    signatures = [SECRETS[seat].sign(digest) for seats, digest in parts for seat in seats]
    groups = [([KEYS[seat] for seat in seats], digest) for seats, digest in parts]
    verify_aggregate_many(groups, aggregate_signatures(signatures))


@given(st.integers(1, 40), st.binary(max_size=60))
def test_a_certificate_is_decoded_only_from_its_own_encoding(size: int, data: bytes) -> None:
    try:
        certificate = decode_certificate(data, size)
    except CollegiumError:
        return
    assert encode_certificate(certificate) == data
    assert all(seat < size for seat in certificate.seats)


@given(st.integers(1, 40), st.data())
def test_a_certificate_comes_back(size: int, data: st.DataObject) -> None:
    bitmap = data.draw(st.integers(0, (1 << size) - 1)).to_bytes((size + 7) // 8, "little")
    certificate = Certificate(bitmap, data.draw(st.binary(min_size=48, max_size=48)))
    assert decode_certificate(encode_certificate(certificate), size) == certificate


@few
@given(st.sets(st.integers(0, SIZE - 1), min_size=6))
def test_every_large_enough_set_of_members_makes_one_value(members: set[int]) -> None:
    assert BEACONS[0].combine(1, 1, {member: PARTIALS[member] for member in members}) == PROOF


@few
@given(seeds, st.binary(max_size=40), st.integers(0, 80 * 8 - 1))
def test_an_ecvrf_proof_holds_and_no_bit_of_it_may_change(seed: bytes, alpha: bytes, bit: int) -> None:
    secret = EcVrfSecretKey(seed)
    proof = EcVrf.prove(secret, alpha)
    assert EcVrf.verify(secret.public_key, alpha, proof) == EcVrf.output(proof)
    spoilt = bytearray(proof)
    spoilt[bit // 8] ^= 1 << bit % 8
    for other in ((alpha, bytes(spoilt)), (alpha + b"\0", proof)):
        try:
            EcVrf.verify(secret.public_key, *other)
        except BadProofError:
            continue
        raise AssertionError("accepted")


@few
@given(st.integers(0, SIZE - 1), digests, st.integers(0, 48 * 8 - 1))
def test_a_ticket_holds_and_no_bit_of_it_may_change(seat: int, digest: bytes, bit: int) -> None:
    ticket = BlsVrf.prove(SECRETS[seat], digest)
    assert BlsVrf.verify(KEYS[seat], digest, ticket) == BlsVrf.output(ticket)
    spoilt = bytearray(ticket)
    spoilt[bit // 8] ^= 1 << bit % 8
    try:
        BlsVrf.verify(KEYS[seat], digest, bytes(spoilt))
    except BadProofError:
        return
    raise AssertionError("accepted")


@given(seeds, digests, st.binary(min_size=65, max_size=65))
def test_account_signatures_are_unique_in_their_encoding(seed: bytes, digest: bytes, noise: bytes) -> None:
    account = AccountKey.generate(Stream(seed))
    signature = account.sign(digest)
    assert recover_address(digest, signature) == account.address
    with suppress(CollegiumError):
        assert recover_address(digest, noise) != account.address
