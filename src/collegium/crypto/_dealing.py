"""Joint Feldman dealing of a BLS key: every member deals a polynomial, the group's secret is the sum of all.

Member i, counted from 0, holds the value at x = i + 1. Secrets are scalars, commitments are multiples of the generator
of G2 (Feldman, FOCS 1987; Gennaro, Jarecki, Krawczyk and Rabin, J. Cryptology 2007, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from collegium.crypto._bls import BlsSecretKey, derive_scalar, key_point
from collegium.crypto._bls_backend import G2, GROUP_ORDER, backend
from collegium.crypto._errors import BadShareError, MalformedSecretError, ThresholdError
from collegium.crypto._hash import check_length
from collegium.crypto._random import Randomness

__all__ = [
    "MEMBERS_MAX",
    "BeaconGroup",
    "Dealing",
    "SecretShare",
    "combine_commitments",
    "combine_shares",
    "deal",
    "lagrange_at_zero",
    "verify_share",
]

MEMBERS_MAX = 1024
SHARE_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SecretShare:
    """Member `member`'s value of a secret polynomial, in [0, group order).

    Raises:
        MalformedSecretError: the value is outside.
    """

    member: int
    scalar: int

    def __post_init__(self) -> None:
        if not 0 <= self.scalar < GROUP_ORDER:
            raise MalformedSecretError("secret share is not in [0, group order)", member=self.member)

    @classmethod
    def from_bytes(cls, member: int, data: bytes) -> "SecretShare":
        """Return the share of 32 big-endian bytes.

        Raises:
            MalformedSecretError: another length, or not below the group order.
        """
        if len(data) != SHARE_BYTES:
            raise MalformedSecretError(f"secret share has {len(data)} bytes, expected {SHARE_BYTES}", length=len(data))
        return cls(member, int.from_bytes(data, "big"))

    def to_bytes(self) -> bytes:
        """Return the value as 32 big-endian bytes: to be sealed to its member, or kept in a key file."""
        return self.scalar.to_bytes(SHARE_BYTES, "big")

    def __repr__(self) -> str:
        return f"SecretShare(member={self.member}, <secret>)"


@dataclass(frozen=True, slots=True, eq=False)
class Dealing:
    """One dealer's part: `commitments`, for everybody, and `shares`, one sealed to each member.

    commitments[k] is coefficient k times the generator, 96 bytes; their number is the threshold.
    """

    commitments: tuple[bytes, ...]
    shares: tuple[SecretShare, ...]

    def prove_possession(self, context: bytes) -> bytes:
        """Return the proof, 48 bytes, that the dealer knows the secret of commitments[0]; see `verify_possession`.

        Without it, whoever deals last may commit to a difference of others' secrets that it does not know.
        """
        factors = lagrange_at_zero(range(len(self.commitments)))
        secret = sum(factor * self.shares[member].scalar for member, factor in factors.items()) % GROUP_ORDER
        return BlsSecretKey(secret).prove_possession(context)


@dataclass(frozen=True, slots=True)
class BeaconGroup:
    """What everybody knows of a dealt key: any `threshold` members sign for `key`; `public_shares[i]` is member i's.

    A neutral public share belongs to a member that deals itself out; no partial signature of its own verifies.
    """

    threshold: int
    key: bytes
    public_shares: tuple[bytes, ...]


def deal(random: Randomness, members: int, threshold: int) -> Dealing:
    """Return a fresh dealing of a random secret: `threshold` of `members` shares give it, fewer say nothing of it.

    Raises:
        ThresholdError: unless 1 <= threshold <= members <= MEMBERS_MAX.
    """
    if not 1 <= threshold <= members <= MEMBERS_MAX:
        raise ThresholdError(f"threshold {threshold} of {members} members, expected 1 <= t <= n <= {MEMBERS_MAX}")
    curve = backend()
    material = [check_length("randomness for a dealing", random(32), 32) for _ in range(threshold)]
    coefficients = [derive_scalar(seed) for seed in material]
    commitments = tuple(curve.encode_g2(curve.mul_g2(curve.generator, scalar)) for scalar in coefficients)
    return Dealing(commitments, tuple(SecretShare(i, _evaluate(coefficients, i + 1)) for i in range(members)))


def verify_share(commitments: Sequence[bytes], share: SecretShare) -> None:
    """Check that share * generator = sum over k of x^k * commitments[k], x = member + 1.

    A member that receives a share for which this fails publishes a complaint; who is then left out is ordered above.

    Raises:
        BadShareError: the share is not on the committed polynomial.
        MalformedPointError, IdentityPointError: a commitment is no usable point.
    """
    _check_member(share.member)
    curve = backend()
    expected = _evaluate_points([key_point(data) for data in commitments], share.member + 1)
    if curve.mul_g2(curve.generator, share.scalar) != expected:
        raise BadShareError(f"share of member {share.member} is not on the committed polynomial", member=share.member)


def combine_commitments(members: int, dealings: Sequence[Sequence[bytes]]) -> BeaconGroup:
    """Return the group of the qualified dealings, given by their commitments; anybody can compute it.

    Raises:
        ThresholdError: no dealing, dealings of different thresholds, or a threshold above `members`.
        MalformedPointError, IdentityPointError: a commitment is no usable point, or the dealt key is neutral.
    """
    thresholds = {len(commitments) for commitments in dealings}
    if len(thresholds) != 1 or not 1 <= max(thresholds) <= members <= MEMBERS_MAX:
        raise ThresholdError(
            f"{len(dealings)} dealings of thresholds {sorted(thresholds)} among {members} members, expected one "
            f"threshold 1 <= t <= n <= {MEMBERS_MAX}"
        )
    rows = [[key_point(data) for data in commitments] for commitments in dealings]
    sums = [reduce(add, column) for column in zip(*rows, strict=True)]
    # A member that knows all others' shares for it can deal such that its own sum is neutral: that is its own loss.
    public_shares = tuple(backend().encode_g2(_evaluate_points(sums, member + 1)) for member in range(members))
    return BeaconGroup(len(sums), _encode(sums[0]), public_shares)


def combine_shares(shares: Sequence[SecretShare]) -> SecretShare:
    """Return a member's share of the group's secret: the sum of those it received from the qualified dealers.

    Raises:
        ThresholdError: no share, or shares of different members.
    """
    members = {share.member for share in shares}
    if len(members) != 1:
        raise ThresholdError(f"shares of members {sorted(members)}, expected those of one member")
    return SecretShare(shares[0].member, sum(share.scalar for share in shares) % GROUP_ORDER)


def lagrange_at_zero(members: Sequence[int]) -> dict[int, int]:
    """Return, for each of some distinct members, the factor of its value in the polynomial's value at 0.

    The factor of member i is the product over the other members j of x_j / (x_j - x_i) modulo the group order.
    """
    factors: dict[int, int] = {}
    for i in members:
        numerator = denominator = 1
        for j in members:
            if j != i:
                numerator = numerator * (j + 1) % GROUP_ORDER
                denominator = denominator * (j - i) % GROUP_ORDER
        factors[i] = numerator * pow(denominator, -1, GROUP_ORDER) % GROUP_ORDER
    return factors


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % GROUP_ORDER
    return value


def _evaluate_points(coefficients: Sequence[G2], x: int) -> G2:
    """Return the sum of x^k * coefficients[k] by Horner's rule."""
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = _small_multiple(value, x) + coefficient
    return value


def _small_multiple(point: G2, factor: int) -> G2:
    """Return factor * point by doubling and adding; time depends on the factor, which is public."""
    product = point
    for bit in bin(factor)[3:]:
        product = product + product
        if bit == "1":
            product = product + point
    return product


def _encode(point: G2) -> bytes:
    data = backend().encode_g2(point)
    key_point(data)  # refuses the neutral element
    return data


def _check_member(member: int) -> None:
    if not 0 <= member < MEMBERS_MAX:
        raise ThresholdError(f"member {member} is outside [0, {MEMBERS_MAX})", member=member)
