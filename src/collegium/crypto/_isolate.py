"""Which of many signatures of one digest are bad: bisection over random combinations."""

from collections.abc import Mapping
from functools import reduce
from operator import add

from collegium.crypto._bls import SIGNATURE_DOMAIN, BlsPublicKey, key_point, signature_point
from collegium.crypto._bls_backend import G1, G2, backend
from collegium.crypto._errors import IdentityPointError, MalformedPointError
from collegium.crypto._hash import DIGEST_BYTES, Digest, check_length, hash_fields

__all__ = ["bisect_invalid", "isolate"]

# A set with a bad signature passes one check with probability at most 2^-128.
WEIGHT_BYTES = 16


def bisect_invalid(
    keys: Mapping[int, BlsPublicKey], digest: Digest, signatures: Mapping[int, bytes]
) -> tuple[int, ...]:
    """Return the seats whose signature is not their key's signature of `digest`, in increasing order.

    `keys` holds a key for every seat in `signatures`. With b bad ones of n it takes 2 n multiplications and about
    b log2(n / b) + 1 checks of two pairings.
    """
    return isolate(SIGNATURE_DOMAIN, digest, {seat: (keys[seat].data, data) for seat, data in signatures.items()})


def isolate(domain: bytes, digest: Digest, claims: Mapping[int, tuple[bytes, bytes]]) -> tuple[int, ...]:
    """Return the members of `claims`, member -> (key, signature), whose signature is bad.

    Sums alone would not do: two signatures, one off by D and the other by -D, are both bad but add up to a valid sum.
    So each gets a weight, drawn by hashing all keys and signatures, that no signer can know before it signs. That
    keeps the result the same on every machine (small-exponents test of Bellare, Garay and Rabin, 1998).
    """
    curve = backend()
    hashed = curve.hash_to_g1(check_length("signed digest", digest, DIGEST_BYTES), domain)
    described = [hash_fields("isolate/claim", member, *claim) for member, claim in sorted(claims.items())]
    seed = hash_fields("isolate", domain, digest, *described)
    invalid: list[int] = []
    weighted: list[tuple[int, G1, G2]] = []
    for member, (key, signature) in sorted(claims.items()):
        try:
            points = signature_point(signature), key_point(key)
        except (MalformedPointError, IdentityPointError):
            invalid.append(member)
            continue
        weight = 1 + int.from_bytes(hash_fields("isolate/weight", seed, member)[:WEIGHT_BYTES], "little")
        weighted.append((member, curve.mul_g1(points[0], weight), curve.mul_g2(points[1], weight)))
    if weighted and not _holds(hashed, weighted):
        invalid += _bisect(hashed, weighted)
    return tuple(sorted(invalid))


def _bisect(hashed: G1, failing: list[tuple[int, G1, G2]]) -> list[int]:
    """Return the bad members of a set that is known to hold at least one."""
    if len(failing) == 1:
        return [failing[0][0]]
    middle = len(failing) // 2
    left, right = failing[:middle], failing[middle:]
    if _holds(hashed, left):
        return _bisect(hashed, right)
    return _bisect(hashed, left) + ([] if _holds(hashed, right) else _bisect(hashed, right))


def _holds(hashed: G1, weighted: list[tuple[int, G1, G2]]) -> bool:
    curve = backend()
    signature = reduce(add, [point for _, point, _ in weighted])
    key = reduce(add, [point for _, _, point in weighted])
    return curve.pairings_cancel([(hashed, key), (signature, -curve.generator)])
