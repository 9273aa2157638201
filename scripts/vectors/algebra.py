"""Writes tests/vectors/algebra.json from the plain reference alone: integers as decimal strings, bytes as hex.

Every case has `name`, `function`, its arguments, and either `result` or `error` (the name of the error's class).
Elements of K are pairs [a0, a1]. Values on a coset are in bit-reversed order.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from collegium.algebra import P, _reference

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "algebra.json"


def draw(label: str, count: int) -> list[int]:
    """`count` elements that anyone can derive: SHA-256(label:index) as a big-endian integer mod P."""
    return [int.from_bytes(hashlib.sha256(f"{label}:{i}".encode()).digest(), "big") % P for i in range(count)]


def draw_ext(label: str, count: int) -> list[tuple[int, int]]:
    """`count` elements of K."""
    flat = draw(label, 2 * count)
    return list(zip(flat[::2], flat[1::2], strict=True))


def text(value: Any) -> Any:
    """Integers as decimal strings: JSON readers elsewhere round above 2^53."""
    if isinstance(value, int):
        return str(value)
    return [text(item) for item in value] if isinstance(value, (list, tuple)) else value


def good_cases() -> list[dict[str, Any]]:
    """Cases with a result."""
    edges = [0, 1, 2**32 - 1, 2**32, P - 2**32, P - 1]
    a = [x for x in edges for _ in edges] + draw("a", 8)
    b = [y for _ in edges for y in edges] + draw("b", 8)
    polynomial, ring_a, ring_b = draw("polynomial", 11), draw("ring a", 16), draw("ring b", 16)
    k_a, k_b, point = draw_ext("k a", 4), draw_ext("k b", 4), draw_ext("point", 4)
    values, signed = draw("values", 16), [0, 1, -1, (P - 1) // 2, -(P - 1) // 2]
    bytes_out = b"".join(x.to_bytes(8, "little") for x in edges).hex()
    return [
        {"function": "add", "a": a, "b": b, "result": [(x + y) % P for x, y in zip(a, b, strict=True)]},
        {"function": "sub", "a": a, "b": b, "result": [(x - y) % P for x, y in zip(a, b, strict=True)]},
        {"function": "mul", "a": a, "b": b, "result": [x * y % P for x, y in zip(a, b, strict=True)]},
        {"function": "inverse", "a": edges[1:], "result": [pow(x, -1, P) for x in edges[1:]]},
        {"function": "encode_signed", "a": signed, "result": [x % P for x in signed]},
        {"function": "from_bytes", "data": "0x" + bytes_out, "result": edges},
        {
            "function": "coset_ntt",
            "coefficients": polynomial,
            "shift": 49,
            "size": 16,
            "result": _reference.coset_ntt(polynomial, 49, 16),
        },
        {"function": "negacyclic_ntt", "a": ring_a, "result": _reference.negacyclic_ntt(ring_a)},
        {"function": "negacyclic_mul", "a": ring_a, "b": ring_b, "result": _reference.negacyclic_mul(ring_a, ring_b)},
        {
            "function": "ext_mul",
            "a": k_a,
            "b": k_b,
            "result": [_reference.ext_mul(x, y) for x, y in zip(k_a, k_b, strict=True)],
        },
        {"function": "eq_table", "point": point, "result": [_reference.eq(i, point) for i in range(16)]},
        {
            "function": "multilinear",
            "values": values,
            "point": point,
            "result": _reference.multilinear(values, point),
        },
    ]


def bad_cases() -> list[dict[str, Any]]:
    """Cases that must be refused, each one step from a good one."""
    canonical, modulus = (P - 1).to_bytes(8, "little"), P.to_bytes(8, "little")
    return [
        {"function": "from_bytes", "data": "0x" + (canonical + modulus).hex(), "error": "NotCanonicalError"},
        {"function": "from_bytes", "data": "0x" + canonical.hex() + "00", "error": "NotCanonicalError"},
        {"function": "add", "a": [P - 1, P], "b": [1, 1], "error": "NotCanonicalError"},
        {"function": "add", "a": [1, 2], "b": [1, 2, 3], "error": "FieldArrayError"},
        {"function": "inverse", "a": [1, 0], "error": "NoInverseError"},
        {"function": "encode_signed", "a": [(P - 1) // 2 + 1], "error": "SignedRangeError"},
        {"function": "coset_ntt", "coefficients": [1, 2, 3], "shift": 49, "size": 2, "error": "TransformSizeError"},
        {"function": "coset_ntt", "coefficients": [1, 2, 3], "shift": 49, "size": 12, "error": "TransformSizeError"},
        {"function": "coset_ntt", "coefficients": [1, 2, 3], "shift": 0, "size": 4, "error": "NoInverseError"},
        {"function": "ext_mul", "a": [[P, 0]], "b": [[1, 0]], "error": "NotCanonicalError"},
        {"function": "multilinear", "values": [1, 2, 3], "point": [[1, 0], [1, 0]], "error": "FieldArrayError"},
    ]


def main() -> None:
    """Writes the file."""
    cases = []
    for case in good_cases() + bad_cases():
        number = sum(other["function"] == case["function"] for other in cases)
        cases.append({"name": f"{case['function']} {number}", **{key: text(value) for key, value in case.items()}})
    document = {"format": "collegium/vectors/algebra/1", "cases": cases}
    OUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
