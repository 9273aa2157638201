"""The curve library is not believed before it has reproduced published values."""

from collections.abc import Sequence
from typing import Any

import pytest
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from collegium.crypto import SelfTestError
from collegium.crypto._bls_backend import BlsBackend, Pyblst, backend, self_test


class Arkworks:
    """A second library, strict as the protocol asks: what it decodes it must encode to the same bytes."""

    generator: Any = G2Point()

    def decode_g1(self, data: bytes) -> Any:
        point = G1Point.from_compressed_bytes(data)
        if bytes(point.to_compressed_bytes()) != data:
            raise ValueError("not canonical")
        return point

    def decode_g2(self, data: bytes) -> Any:
        point = G2Point.from_compressed_bytes(data)
        if bytes(point.to_compressed_bytes()) != data:
            raise ValueError("not canonical")
        return point

    def encode_g1(self, point: Any) -> bytes:
        return bytes(point.to_compressed_bytes())

    def encode_g2(self, point: Any) -> bytes:
        return bytes(point.to_compressed_bytes())

    def hash_to_g1(self, message: bytes, domain: bytes) -> Any:
        return G1Point.hash_to_curve(message, domain)

    def mul_g1(self, point: Any, scalar: int) -> Any:
        return point * Scalar(scalar)

    def mul_g2(self, point: Any, scalar: int) -> Any:
        return point * Scalar(scalar)

    def pairings_cancel(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        return bool(GT.pairing_check([left for left, _ in pairs], [right for _, right in pairs]))


class WrongHash(Pyblst):
    __slots__ = ()

    def hash_to_g1(self, message: bytes, domain: bytes) -> Any:
        return super().hash_to_g1(message + b"\0", domain)


class YesPairing(Pyblst):
    __slots__ = ()

    def pairings_cancel(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        return True


class NoPairing(Pyblst):
    __slots__ = ()

    def pairings_cancel(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        return False


class ShortScalars(Pyblst):
    """Keeps 128 bits of a scalar, as a fast path for weights might."""

    __slots__ = ()

    def mul_g2(self, point: Any, scalar: int) -> Any:
        return super().mul_g2(point, scalar % (1 << 128))


class NoGroupCheck(Pyblst):
    __slots__ = ()

    def decode_g1(self, data: bytes) -> Any:
        try:
            return super().decode_g1(data)
        except ValueError as error:
            if "NOT_IN_GROUP" in str(error):
                return self.hash_to_g1(data, b"")
            raise


def test_the_library_in_use_reproduces_the_published_values() -> None:
    self_test(Pyblst())
    assert backend() is backend()


def test_a_second_library_reproduces_them_too() -> None:
    self_test(Arkworks())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WrongHash, "hash to G1"),
        (YesPairing, "round 1001"),
        (NoPairing, "round 1000"),
        (ShortScalars, "scalar multiples"),
        (NoGroupCheck, "was accepted"),
    ],
)
def test_a_broken_library_is_refused(broken: type[BlsBackend], message: str) -> None:
    with pytest.raises(SelfTestError, match=message):
        self_test(broken())
