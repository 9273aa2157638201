"""Secrets: where they come from, what they refuse, and that nothing prints them."""

import pytest

from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    ByteLengthError,
    EcVrfSecretKey,
    MalformedSecretError,
    MemberKeys,
    SealKey,
    SecretShare,
    Stream,
    deal,
)
from collegium.crypto._account import CURVE_ORDER
from collegium.crypto._bls_backend import GROUP_ORDER
from collegium.errors import CollegiumError

MARK = bytes.fromhex("5ec2e7") * 10 + bytes.fromhex("5ec2")  # 32 bytes that are easy to find in a text
NUMBER = int.from_bytes(MARK, "big")
SECRETS = [
    BlsSecretKey(NUMBER),
    AccountKey(MARK),
    SealKey(MARK),
    EcVrfSecretKey(MARK),
    SecretShare(3, NUMBER),
    Stream(MARK),
    MemberKeys(AccountKey(MARK), BlsSecretKey(NUMBER), SealKey(MARK)),
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_a_secret_is_not_printed(secret: object) -> None:
    for text in (repr(secret), str(secret), f"{secret}", repr([secret])):
        assert "<secret>" in text
        assert not any(mark in text.lower() for mark in ("5ec2e7", str(NUMBER), repr(MARK)[2:-1].lower()))


def test_a_dealing_prints_its_commitments_alone() -> None:
    dealing = deal(Stream(MARK), 3, 2)
    text = repr(dealing)
    assert dealing.commitments[0] in dealing.commitments
    assert str(dealing.shares[0].scalar) not in text
    assert text.count("<secret>") == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlsSecretKey.from_bytes(MARK + b"\1"),
        lambda: BlsSecretKey.from_bytes((GROUP_ORDER + NUMBER % 1000).to_bytes(32, "big")),
        lambda: AccountKey(MARK[:-1]),
        lambda: SealKey(MARK[:-1]),
        lambda: EcVrfSecretKey(MARK[:-1]),
        lambda: SecretShare.from_bytes(0, MARK[:-1]),
        lambda: SecretShare(0, GROUP_ORDER + NUMBER),
    ],
)
def test_a_refused_secret_is_not_in_the_error(make: object) -> None:
    with pytest.raises(MalformedSecretError) as refusal:
        make()  # type: ignore[operator]
    error: CollegiumError = refusal.value
    assert "5ec2" not in f"{error} {error.values}".lower()
    assert str(NUMBER) not in f"{error} {error.values}"


def test_a_bls_scalar_lies_between_one_and_the_group_order() -> None:
    for scalar in (1, GROUP_ORDER - 1):
        assert BlsSecretKey.from_bytes(BlsSecretKey(scalar).to_bytes()).scalar == scalar
    for scalar in (0, GROUP_ORDER, -1):
        with pytest.raises(MalformedSecretError):
            BlsSecretKey(scalar)


def test_an_account_secret_lies_between_one_and_the_curve_order() -> None:
    for number in (1, CURVE_ORDER - 1):
        assert len(AccountKey(number.to_bytes(32, "big")).address) == 20
    for number in (0, CURVE_ORDER):
        with pytest.raises(MalformedSecretError):
            AccountKey(number.to_bytes(32, "big"))


def test_an_account_key_out_of_range_is_drawn_again() -> None:
    draws = iter([bytes(32), b"\xff" * 32, MARK])
    assert AccountKey.generate(lambda count: next(draws)).secret == MARK


@pytest.mark.parametrize("kind", [BlsSecretKey, AccountKey, SealKey, EcVrfSecretKey])
def test_one_seed_makes_one_key_and_short_randomness_none(kind: type) -> None:
    first, second = (kind.generate(Stream(MARK)) for _ in range(2))
    public = [key.public_key() if kind is BlsSecretKey else getattr(key, NAMES[kind]) for key in (first, second)]
    assert public[0] == public[1]
    with pytest.raises(ByteLengthError):
        kind.generate(lambda count: bytes(count - 1))


NAMES = {AccountKey: "address", SealKey: "public_bytes", EcVrfSecretKey: "public_key"}
