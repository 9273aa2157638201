"""The embedded chain's precompiles against py-evm's own in pure Python: same output, same gas, same refusals."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth.exceptions import VMError
from eth.vm.forks.prague.computation import PRAGUE_PRECOMPILES
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from collegium.settlement._precompiles import PRECOMPILES

P = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
NAMES = {
    0x0B: "add g1",
    0x0C: "msm g1",
    0x0D: "add g2",
    0x0E: "msm g2",
    0x0F: "pairing",
    0x10: "map g1",
    0x11: "map g2",
}


@dataclass
class Message:
    data: bytes


@dataclass
class Computation:
    """What a precompile uses of a computation."""

    msg: Message
    gas: list[int] = field(default_factory=list)
    output: bytes = b""

    def consume_gas(self, amount: int, reason: str) -> None:
        self.gas.append(amount)


def run(precompile: Any, data: bytes) -> tuple[bytes, list[int]] | None:
    computation = Computation(Message(data))
    try:
        precompile(computation)
    except VMError:
        return None
    return bytes(computation.output), computation.gas


class Draw:
    """Inputs of every kind: points, neutral elements, points outside the group, malformed ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def point(self, group: Any) -> bytes:
        kind = self.random.random()
        if kind < 0.15:
            return bytes(128 if group is G1Point else 256)
        if kind < 0.3:
            return self.outside(group)
        compact = bytes((group() * Scalar(self.random.randrange(1, 2**250))).to_xy_bytes_be())
        return self.padded(compact)

    def outside(self, group: Any) -> bytes:
        while True:
            try:
                length = 47 if group is G1Point else 95
                compressed = bytes([0x80 | self.random.randrange(26)]) + self.random.randbytes(length)
                point = group.from_compressed_bytes_unchecked(compressed)
            except ValueError:
                continue
            return self.padded(bytes(point.to_xy_bytes_be()))

    @staticmethod
    def padded(compact: bytes) -> bytes:
        return b"".join(bytes(16) + compact[at : at + 48] for at in range(0, len(compact), 48))

    def element(self) -> bytes:
        return self.random.choice([0, 1, P - 1, P, P + 1, self.random.randrange(P)]).to_bytes(64, "big")

    def scalar(self) -> bytes:
        return self.random.choice([0, 1, 2**256 - 1, self.random.randrange(2**256)]).to_bytes(32, "big")

    def input(self, address: int) -> bytes:
        group = G1Point if address in (0x0B, 0x0C) else G2Point
        if address in (0x0B, 0x0D):
            return self.point(group) + self.point(group)
        if address in (0x0C, 0x0E):
            return b"".join(self.point(group) + self.scalar() for _ in range(self.random.randrange(1, 3)))
        if address == 0x0F:
            return self.point(G1Point) + self.point(G2Point)
        return self.element() if address == 0x10 else self.element() + self.element()

    def damaged(self, data: bytes) -> bytes:
        changed = bytearray(data)
        kind = self.random.randrange(4)
        if kind == 0:
            changed[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        elif kind == 1:
            del changed[-1]
        elif kind == 2:
            changed += b"\0"
        else:
            changed[64 * self.random.randrange(len(data) // 64)] = 1  # padding that is not zero
        return bytes(changed)


@pytest.mark.seeds(quick=3, full=200)
@pytest.mark.parametrize("address", NAMES, ids=NAMES.get)
def test_precompile_is_the_reference(address: int, seed: int) -> None:
    draw = Draw(100 * seed + address)
    data = draw.input(address)
    key = address.to_bytes(20, "big")
    for candidate in (data, draw.damaged(data)):
        ours, theirs = run(PRECOMPILES[key], candidate), run(PRAGUE_PRECOMPILES[key], candidate)
        assert (ours is None) == (theirs is None)
        assert ours == theirs


def test_empty_input_is_refused() -> None:
    for precompile in PRECOMPILES.values():
        assert run(precompile, b"") is None


def test_a_pairing_that_cancels_gives_one_and_the_smallest_change_zero() -> None:
    g1, g2 = G1Point(), G2Point()
    two, negative = g1 * Scalar(2), -g1
    pair = [Draw.padded(bytes(point.to_xy_bytes_be())) for point in (two, g2, negative, g2 * Scalar(2))]
    pairing = PRECOMPILES[(0x0F).to_bytes(20, "big")]
    assert run(pairing, b"".join(pair)) == ((1).to_bytes(32, "big"), [102_900])
    changed = [Draw.padded(bytes(g1.to_xy_bytes_be())), *pair[1:]]
    assert run(pairing, b"".join(changed)) == (bytes(32), [102_900])
