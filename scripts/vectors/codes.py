"""Writes tests/vectors/codes.json from the plain reference alone: integers as decimal strings.

Every case has `name`, `function`, its arguments, and either `result` or `error` (the name of the error's class). A
domain is {shift, size}; `erased` lists positions. Positions are plain integers.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from collegium.algebra import P
from collegium.codes import Domain, _reference

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "codes.json"
K, T = 4, 5
COMMITTEE, AUDIT = Domain(7, 16), Domain(49, 32)


def draw(label: str, count: int) -> list[int]:
    """`count` elements that anyone can derive: SHA-256(label:index) as a big-endian integer mod P."""
    return [int.from_bytes(hashlib.sha256(f"{label}:{i}".encode()).digest(), "big") % P for i in range(count)]


def texts(values: list[int]) -> list[str]:
    """Decimal strings: JSON readers elsewhere round above 2^53."""
    return [str(value) for value in values]


def domain(of: Domain) -> dict[str, Any]:
    """A domain as data."""
    return {"shift": str(of.shift), "size": of.size}


def spoilt(word: list[int], positions: list[int]) -> list[int]:
    """The word with 1 added at the positions."""
    return [(value + (j in positions)) % P for j, value in enumerate(word)]


def encoding_cases() -> list[dict[str, Any]]:
    """Messages to coefficients to codewords, and domains that are refused."""
    message, randomness = draw("message", K), draw("randomness", T)
    polynomial = _reference.coefficients(message, randomness)
    cases: list[dict[str, Any]] = [
        {
            "function": "coefficients",
            "message": texts(message),
            "randomness": texts(randomness),
            "result": texts(polynomial),
        }
    ]
    for of in (COMMITTEE, AUDIT):
        word = _reference.encode(polynomial, of)
        cases.append(
            {
                "function": "encode",
                "message_len": K,
                "coefficients": texts(polynomial),
                "domain": domain(of),
                "result": texts(word),
            }
        )
    for shift, size, error in [(7, 8, "DomainTooSmallError"), (1, 16, "DomainError"), (7, 12, "DomainError")]:
        cases.append(
            {
                "function": "encode",
                "message_len": K,
                "coefficients": texts(polynomial),
                "domain": {"shift": str(shift), "size": size},
                "error": error,
            }
        )
    return cases


def decoding_cases() -> list[dict[str, Any]]:
    """Words with erasures and errors: at the bound of each, and one past it."""
    polynomial = draw("polynomial", K + T)
    word = _reference.encode(polynomial, COMMITTEE)
    block, scattered, most = [4, 5, 6, 7], [0, 3, 8, 9, 15], [0, 1, 2, 3, 8, 11, 14]
    cases: list[dict[str, Any]] = []

    def case(function: str, of: list[int], erased: list[int], **outcome: Any) -> None:
        shared = {"degree_bound": K + T, "domain": domain(COMMITTEE), "word": texts(of), "erased": erased}
        cases.append({"function": function, **shared, **outcome})

    for erased in ([], block, scattered, most):
        mask = [j in erased for j in range(COMMITTEE.size)]
        vanishing = _reference.vanishing_polynomial(COMMITTEE, mask)
        shared = {"domain": domain(COMMITTEE), "erased": erased}
        cases.append({"function": "vanishing_polynomial", **shared, "result": texts(vanishing)})
        case("recover", spoilt(word, erased), erased, result=texts(polynomial))
        case("locate_errors", word, erased, result=[])
    case("recover", word, [*most, 15], error="TooManyErasuresError")
    case("recover", spoilt(word, [10]), scattered, error="NotACodewordError")
    case("locate_errors", spoilt(word, [2, 7, 11]), [], result=[2, 7, 11])
    case("locate_errors", spoilt(word, [2, 7, 11, 12]), [], error="TooManyErrorsError")
    case("locate_errors", spoilt(word, [10]), scattered, result=[10])
    case("locate_errors", spoilt(word, [10, 11]), scattered, error="TooManyErrorsError")
    case("locate_errors", word, [*most, 15], error="TooManyErasuresError")
    for one in (one for one in cases if one["function"] == "locate_errors" and "result" in one):
        mask = [j in one["erased"] for j in range(COMMITTEE.size)]
        received = [int(value) for value in one["word"]]
        assert _reference.locate_errors(K + T, COMMITTEE, received, mask) == one["result"]
    return cases


def main() -> None:
    """Writes the file."""
    cases: list[dict[str, Any]] = []
    for case in encoding_cases() + decoding_cases():
        number = sum(other["function"] == case["function"] for other in cases)
        cases.append({"name": f"{case['function']} {number}", **case})
    OUT.write_text(json.dumps({"format": "collegium/vectors/codes/1", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
