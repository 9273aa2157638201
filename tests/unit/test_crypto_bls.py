"""BLS beyond the vectors: attacks on aggregates, and the curve equations behind the encodings."""

import pytest

from collegium.crypto import (
    BlsPublicKey,
    BlsSecretKey,
    ByteLengthError,
    IdentityPointError,
    MalformedPointError,
    NothingToAggregateError,
    Stream,
    aggregate_signatures,
    aggregate_unchecked,
    bisect_invalid,
    bls_verify,
    g1_uncompressed,
    g2_uncompressed,
    hash_fields,
    verify_aggregate,
)
from collegium.crypto._bls import KEYS_CACHED_MAX, key_point
from collegium.crypto._bls_backend import GROUP_ORDER, backend

SEATS = 8
STREAM = Stream(b"s" * 32)
SECRETS = [BlsSecretKey.generate(STREAM) for _ in range(SEATS)]
KEYS = {seat: secret.public_key() for seat, secret in enumerate(SECRETS)}
DIGEST = hash_fields("test", b"block")
SIGNATURES = {seat: secret.sign(DIGEST) for seat, secret in enumerate(SECRETS)}
PRIME = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB


def shifted(signature: bytes, by: int) -> bytes:
    """The signature plus `by` times some point."""
    curve = backend()
    offset = curve.mul_g1(curve.hash_to_g1(b"offset", b"test"), by % GROUP_ORDER)
    return curve.encode_g1(curve.decode_g1(signature) + offset)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_digests_are_signed(length: int) -> None:
    assert len(SECRETS[0].sign(bytes(32))) == 48
    with pytest.raises(ByteLengthError):
        SECRETS[0].sign(bytes(length))
    with pytest.raises(ByteLengthError):
        bls_verify(KEYS[0], bytes(length), SIGNATURES[0])


def test_nothing_is_no_aggregate() -> None:
    with pytest.raises(NothingToAggregateError):
        aggregate_signatures([])


def test_signatures_that_cancel_are_refused() -> None:
    negative = BlsSecretKey(GROUP_ORDER - SECRETS[0].scalar).sign(DIGEST)
    with pytest.raises(IdentityPointError):
        aggregate_signatures([SIGNATURES[0], negative])


OUTSIDE_GROUP = bytes([0x80, *bytes(46), 4])  # on the curve, of composite order


def test_an_unchecked_sum_is_the_sum_and_one_outside_the_group_does_not_verify() -> None:
    signatures = list(SIGNATURES.values())
    assert aggregate_unchecked(signatures) == aggregate_signatures(signatures)
    assert aggregate_unchecked(signatures[:2], [1, 2]) == aggregate_signatures([*signatures[:2], signatures[1]])
    with pytest.raises(MalformedPointError):
        aggregate_signatures([*signatures[1:], OUTSIDE_GROUP])
    outside = aggregate_unchecked([*signatures[1:], OUTSIDE_GROUP])
    with pytest.raises(MalformedPointError):
        verify_aggregate(list(KEYS.values()), DIGEST, outside)
    for bad in (bytes(48), b"short"):
        with pytest.raises(MalformedPointError):
            aggregate_unchecked([bad])
    negative = BlsSecretKey(GROUP_ORDER - SECRETS[0].scalar).sign(DIGEST)
    for neutral in ([SIGNATURES[0], negative], [SIGNATURES[0], bytes([0xC0, *bytes(47)])]):
        with pytest.raises(IdentityPointError):
            aggregate_unchecked(neutral)
    with pytest.raises(NothingToAggregateError):
        aggregate_unchecked([])


def test_a_rogue_key_signs_for_both_unless_its_possession_is_asked_for() -> None:
    """Why `verify_possession` exists: the attacker names the key x G - victim and signs with x alone."""
    curve, x = backend(), SECRETS[1]
    rogue = curve.decode_g2(x.public_key().data) + -curve.decode_g2(KEYS[0].data)
    verify_aggregate([KEYS[0], BlsPublicKey(curve.encode_g2(rogue))], DIGEST, x.sign(DIGEST))


def test_no_bad_signature_is_found_among_good_ones() -> None:
    assert bisect_invalid(KEYS, DIGEST, SIGNATURES) == ()
    assert bisect_invalid(KEYS, DIGEST, {}) == ()


def test_malformed_and_wrong_signatures_are_found() -> None:
    spoilt = {**SIGNATURES, 1: SIGNATURES[2], 4: b"", 5: bytes([0xC0, *bytes(47)]), 7: shifted(SIGNATURES[7], 1)}
    assert bisect_invalid(KEYS, DIGEST, spoilt) == (1, 4, 5, 7)


def test_two_errors_that_cancel_in_the_sum_are_both_found() -> None:
    spoilt = {**SIGNATURES, 2: shifted(SIGNATURES[2], 1), 3: shifted(SIGNATURES[3], -1)}
    verify_aggregate([KEYS[2], KEYS[3]], DIGEST, aggregate_signatures([spoilt[2], spoilt[3]]))
    assert bisect_invalid(KEYS, DIGEST, spoilt) == (2, 3)


def test_swapped_signatures_are_both_found() -> None:
    spoilt = {**SIGNATURES, 0: SIGNATURES[6], 6: SIGNATURES[0]}
    assert bisect_invalid(KEYS, DIGEST, spoilt) == (0, 6)


def test_the_cache_of_keys_is_bounded() -> None:
    assert key_point.cache_parameters() == {"maxsize": KEYS_CACHED_MAX, "typed": False}
    before = key_point.cache_info().hits
    verify_aggregate(list(KEYS.values()), DIGEST, aggregate_signatures(list(SIGNATURES.values())))
    assert key_point.cache_info().hits == before + SEATS


def test_an_uncompressed_signature_is_on_the_curve() -> None:
    data = g1_uncompressed(SIGNATURES[0])
    x, y = (int.from_bytes(data[at : at + 48], "big") for at in (0, 48))
    assert (y * y - x**3 - 4) % PRIME == 0
    assert (x.to_bytes(48, "big")[0], (y > PRIME // 2)) == (SIGNATURES[0][0] & 0x1F, bool(SIGNATURES[0][0] & 0x20))
    with pytest.raises(MalformedPointError):
        g1_uncompressed(bytes([0x80, *bytes(46), 4]))


def test_an_uncompressed_key_is_on_the_twisted_curve_real_part_first() -> None:
    data = g2_uncompressed(KEYS[0])
    x0, x1, y0, y1 = (int.from_bytes(data[at : at + 48], "big") for at in (0, 48, 96, 144))
    # y^2 = x^3 + 4 (1 + u) with u^2 = -1, both parts
    square = (y0 * y0 - y1 * y1, 2 * y0 * y1)
    cube = (x0**3 - 3 * x0 * x1 * x1, 3 * x0 * x0 * x1 - x1**3)
    assert [(s - c - 4) % PRIME for s, c in zip(square, cube, strict=True)] == [0, 0]
    assert KEYS[0].data[1:48] == data[49:96]
    assert KEYS[0].data[48:] == data[:48]


def test_a_key_compares_by_value_and_prints_briefly() -> None:
    again = BlsPublicKey(KEYS[0].data)
    assert (again, hash(again), bytes(again)) == (KEYS[0], hash(KEYS[0]), KEYS[0].data)
    assert again != KEYS[1]
    assert repr(again) == f"BlsPublicKey({KEYS[0].data.hex()[:16]}...)"
