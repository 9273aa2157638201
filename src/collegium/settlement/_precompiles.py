"""The EIP-2537 precompiles of the embedded chain, on arkworks.

py-evm computes them in pure Python, seconds for a certificate; arkworks takes milliseconds. Gas and the set of accepted
inputs are those of EIP-2537. `tests/property/test_settlement_precompiles.py` holds the two implementations equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import collegium.settlement._depth  # noqa: F401  isort: skip - before any of py-evm

from eth.exceptions import VMError
from eth.precompiles.bls12_381 import constants as prices
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague import constants as prague
from eth.vm.forks.prague.computation import PRAGUE_PRECOMPILES, PragueComputation
from eth.vm.forks.prague.state import PragueState
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

__all__ = ["PRECOMPILES", "EmbeddedVM"]

Precompile = Callable[[Any], None]

P = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
ELEMENT_BYTES = 64
PADDING = bytes(16)
G1_BYTES, G2_BYTES, SCALAR_BYTES = 128, 256, 32


def _address(number: bytes) -> bytes:
    return number.rjust(20, b"\x00")


def _compact(data: bytes) -> bytes:
    """Return the 48-byte elements of 64-byte ones; each must be below p."""
    out = []
    for at in range(0, len(data), ELEMENT_BYTES):
        element = data[at : at + ELEMENT_BYTES]
        if int.from_bytes(element, "big") >= P:
            raise VMError("element is not below the field's modulus")
        out.append(element[16:])
    return b"".join(out)


def _decode(group: Any, data: bytes, *, in_subgroup: bool) -> Any:
    """Return a point of `group`; all zero is the neutral element."""
    compact = _compact(data)
    if not any(compact):
        return group.identity()
    read = group.from_xy_bytes_be if in_subgroup else group.from_xy_bytes_unchecked_be
    try:
        return read(compact)
    except ValueError as error:
        raise VMError(f"not a point: {error}") from error


def _encode(point: Any) -> bytes:
    length = G1_BYTES if isinstance(point, G1Point) else G2_BYTES
    if point == type(point).identity():
        return bytes(length)
    compact = bytes(point.to_xy_bytes_be())
    return b"".join(PADDING + compact[at : at + 48] for at in range(0, len(compact), 48))


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise VMError(f"input has {len(data)} bytes, expected {length}")
    return data


def _rows(data: bytes, length: int) -> list[bytes]:
    if not data or len(data) % length:
        raise VMError(f"input has {len(data)} bytes, expected a positive multiple of {length}")
    return [data[at : at + length] for at in range(0, len(data), length)]


def _addition(group: Any, point_bytes: int, gas: int) -> Precompile:
    def add(computation: Any) -> None:
        data = _exactly(bytes(computation.msg.data), 2 * point_bytes)
        computation.consume_gas(gas, reason="BLS12-381 addition")
        left = _decode(group, data[:point_bytes], in_subgroup=False)
        computation.output = _encode(left + _decode(group, data[point_bytes:], in_subgroup=False))

    return add


def _multiplication(group: Any, point_bytes: int, gas: int, discounts: list[int], discount_max: int) -> Precompile:
    def multiply(computation: Any) -> None:
        rows = _rows(bytes(computation.msg.data), point_bytes + SCALAR_BYTES)
        discount = discounts[len(rows) - 1] if len(rows) <= len(discounts) else discount_max
        computation.consume_gas(len(rows) * gas * discount // prices.MSM_MULTIPLIER, reason="BLS12-381 multiplication")
        points = [_decode(group, row[:point_bytes], in_subgroup=True) for row in rows]
        scalars = [Scalar(int.from_bytes(row[point_bytes:], "big") % GROUP_ORDER) for row in rows]
        computation.output = _encode(group.multiexp_unchecked(points, scalars))

    return multiply


def _mapping(group: Any, element_bytes: int, gas: int) -> Precompile:
    mapping = group.map_from_fp_be if group is G1Point else group.map_from_fp2_be

    def map_to_curve(computation: Any) -> None:
        data = _exactly(bytes(computation.msg.data), element_bytes)
        computation.consume_gas(gas, reason="BLS12-381 mapping to the curve")
        computation.output = _encode(mapping(_compact(data)))

    return map_to_curve


def _pairing_check(computation: Any) -> None:
    rows = _rows(bytes(computation.msg.data), G1_BYTES + G2_BYTES)
    computation.consume_gas(32_600 * len(rows) + 37_700, reason="BLS12-381 pairing check")
    left = [_decode(G1Point, row[:G1_BYTES], in_subgroup=True) for row in rows]
    right = [_decode(G2Point, row[G1_BYTES:], in_subgroup=True) for row in rows]
    computation.output = int(GT.pairing_check(left, right)).to_bytes(32, "big")


PRECOMPILES: dict[bytes, Precompile] = {
    _address(prague.BLS12_G1ADD_PRECOMPILE_ADDRESS): _addition(G1Point, G1_BYTES, prices.BLS12_G1_ADD_GAS),
    _address(prague.BLS12_G1MSM_PRECOMPILE_ADDRESS): _multiplication(
        G1Point, G1_BYTES, prices.BLS12_G1_MSM_GAS, prices.G1_MSM_DISCOUNTS, prices.G1_MSM_MAX_DISCOUNT
    ),
    _address(prague.BLS12_G2ADD_PRECOMPILE_ADDRESS): _addition(G2Point, G2_BYTES, prices.BLS12_G2_ADD_GAS),
    _address(prague.BLS12_G2MSM_PRECOMPILE_ADDRESS): _multiplication(
        G2Point, G2_BYTES, prices.BLS12_G2_MSM_GAS, prices.G2_MSM_DISCOUNTS, prices.G2_MSM_MAX_DISCOUNT
    ),
    _address(prague.BLS12_PAIRING_CHECK_PRECOMPILE_ADDRESS): _pairing_check,
    _address(prague.BLS12_MAP_FP_TO_G1_PRECOMPILE_ADDRESS): _mapping(G1Point, 64, prices.BLS12_MAP_FP_G1_GAS),
    _address(prague.BLS12_MAP_FP2_TO_G2_PRECOMPILE_ADDRESS): _mapping(G2Point, 128, prices.BLS12_MAP_FP2_G2_GAS),
}


class _EmbeddedComputation(PragueComputation):
    _precompiles = {**PRAGUE_PRECOMPILES, **PRECOMPILES}  # noqa: RUF012  # the base class's own form


class _EmbeddedState(PragueState):
    computation_class = _EmbeddedComputation


class EmbeddedVM(PragueVM):
    """Ethereum's rules as of Prague."""

    _state_class = _EmbeddedState
