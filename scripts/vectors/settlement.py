"""Writes tests/vectors/settlement.json: digests from hashlib, points from py_ecc; the package uses neither for them.

Every case has `name`, `function`, its arguments, and either `result` or `error`. Bytes are hex. The error of a `settle`
case is the contract's; of any other, the name of the Python class. Secrets are there so that others can sign too.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.optimized_bls12_381 import G2, add, curve_order, multiply, normalize
from py_ecc.optimized_bls12_381 import field_modulus as p

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "settlement.json"
SIGNATURE_TAG = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_TAG = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
ZERO = bytes(32)

Case = dict[str, Any]


def draw(label: str) -> bytes:
    """32 bytes that anyone can derive."""
    return sha256(label.encode()).digest()


def hash_fields(tag: str, *fields: bytes) -> bytes:
    pieces = [f"collegium/v1/{tag}".encode(), *fields]
    return sha256(b"".join(len(piece).to_bytes(8, "little") + piece for piece in pieces)).digest()


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def coordinate(value: Any) -> bytes:
    return int(value).to_bytes(48, "big")


def g1_compact(point: Any) -> bytes:
    x, y = normalize(point)
    return coordinate(x) + coordinate(y)


def g2_compact(point: Any) -> bytes:
    x, y = normalize(point)
    return b"".join(coordinate(value) for value in (*x.coeffs, *y.coeffs))


def g2_compressed(point: Any) -> bytes:
    x, y = normalize(point)
    greater = (y.coeffs[1] or y.coeffs[0]) > (p - 1) // 2
    data = bytearray(coordinate(x.coeffs[1]) + coordinate(x.coeffs[0]))
    data[0] |= 0x80 | 0x20 * greater
    return bytes(data)


def sign(secret: int, digest: bytes, tag: bytes = SIGNATURE_TAG) -> Any:
    return multiply(hash_to_G1(digest, tag, sha256), secret)


def checkpoint(label: str, epoch: int, first: int, last: int, previous: bytes) -> Case:
    fields = {"task": draw("task"), "previous": previous, "root": draw(f"root {label}")}
    return {"epoch": epoch, "first_round": first, "last_round": last, **{k: v.hex() for k, v in fields.items()}}


def checkpoint_digest(fields: Case) -> bytes:
    numbers = [word(fields[name]) for name in ("epoch", "first_round", "last_round")]
    task, previous, root = (bytes.fromhex(fields[name]) for name in ("task", "previous", "root"))
    return hash_fields("checkpoint", task, *numbers, previous, root)


def digest_cases(secrets: list[int]) -> list[Case]:
    """What is signed."""
    keys = [multiply(G2, secret) for secret in secrets]
    cases = [
        {"function": "checkpoint_digest", **fields, "result": checkpoint_digest(fields).hex()}
        for fields in (
            checkpoint("a", 0, 0, 9, ZERO),
            checkpoint("b", 1, 10, 10, draw("previous")),
            checkpoint("c", 2**40, 2**40, 2**40 + 7, draw("previous")),
        )
    ]
    for count in (1, 4):
        together = sha256(b"".join(sha256(g2_compact(key)).digest() for key in keys[:count])).digest()
        digest = hash_fields("epoch-handover", draw("task"), word(count), draw("previous"), together)
        cases.append(
            {
                "function": "handover_digest",
                "task": draw("task").hex(),
                "epoch": count,
                "previous": draw("previous").hex(),
                "keys": [g2_compressed(key).hex() for key in keys[:count]],
                "result": digest.hex(),
            }
        )
    registry, account = draw("registry")[:20], draw("account")[:20]
    for secret, key in zip(secrets[:2], keys[:2], strict=True):
        digest = hash_fields("bls-possession", g2_compressed(key), word(31337) + registry + account)
        cases.append(
            {
                "function": "prove_possession",
                "secret": word(secret).hex(),
                "chain_id": 31337,
                "registry": registry.hex(),
                "account": account.hex(),
                "key": g2_compact(key).hex(),
                "result": g1_compact(sign(secret, digest, POSSESSION_TAG)).hex(),
            }
        )
    return cases


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"collegium/v1/node\x00" + left + right).digest()


def header_cases() -> list[Case]:
    """Trees of header digests, padded with zeros to a power of two."""
    a, b, c = (draw(f"header {name}") for name in "abc")
    root = node(node(a, b), node(c, ZERO))
    cases: list[Case] = [
        {"function": "header_root", "headers": [x.hex() for x in headers], "result": expected.hex()}
        for headers, expected in (([a], a), ([a, b], node(a, b)), ([a, b, c], root))
    ]
    cases.append({"function": "header_root", "headers": [], "error": "HeaderRangeError"})
    fields = checkpoint("headers", 0, 4, 6, ZERO) | {"root": root.hex()}

    def case(round_number: int, header: bytes, siblings: list[bytes], **outcome: str) -> None:
        proof = [sibling.hex() for sibling in siblings]
        cases.append(
            {"function": "verify_header", **fields, "round": round_number, "header": header.hex(), "siblings": proof}
            | (outcome or {"result": ""})
        )

    case(4, a, [b, node(c, ZERO)])
    case(5, b, [a, node(c, ZERO)])
    case(6, c, [ZERO, node(a, b)])
    case(5, a, [b, node(c, ZERO)], error="MultiproofError")
    case(4, b, [b, node(c, ZERO)], error="MultiproofError")
    case(4, a, [node(c, ZERO), b], error="MultiproofError")
    case(4, a, [b], error="MultiproofError")
    case(4, a, [b, node(c, ZERO), ZERO], error="MultiproofError")
    case(4, node(a, b), [node(c, ZERO)], error="MultiproofError")
    case(7, ZERO, [c, node(a, b)], error="HeaderRangeError")
    case(3, a, [b, node(c, ZERO)], error="HeaderRangeError")
    return cases


def settle_cases(secrets: list[int]) -> list[Case]:
    """First checkpoints of a set of seven and of a set of one, as the contract takes them."""
    right = checkpoint("settle", 0, 0, 4, ZERO)
    digest = checkpoint_digest(right)
    cases = []

    def case(
        seats: int, bitmap: int, signers: list[int], error: str = "", signed: bytes = digest, **changed: Any
    ) -> None:
        signature = sign(secrets[signers[0]], signed)
        for seat in signers[1:]:
            signature = add(signature, sign(secrets[seat], signed))
        outcome = {"error": error} if error else {"result": digest.hex()}
        cases.append(
            {
                "function": "settle",
                "secrets": [word(secret).hex() for secret in secrets[:seats]],
                "checkpoint": right,
                "bitmap": word(bitmap).hex(),
                "signature": g1_compact(signature).hex(),
            }
            | changed
            | outcome
        )

    case(1, 0b1, [0])
    case(7, 0b1111111, list(range(7)))
    case(7, 0b1011101, [0, 2, 3, 4, 6])
    case(7, 0b1011100, [2, 3, 4, 6], "QuorumNotReached")
    case(7, 0b1011101, [0, 2, 3, 4, 5], "InvalidCertificate")
    case(7, 0b11111111, list(range(7)), "BitBeyondSet")
    other_task = checkpoint_digest(right | {"task": draw("another task").hex()})
    case(1, 0b1, [0], "InvalidCertificate", other_task)
    case(1, 0b1, [0], "WrongEpoch", checkpoint=right | {"epoch": 1})
    case(1, 0b1, [0], "WrongRounds", checkpoint=right | {"first_round": 1})
    case(1, 0b1, [0], "InfinityPoint", signature=bytes(96).hex())
    case(1, 0b1, [0], "InvalidPointLength", signature=bytes(95).hex())
    case(1, 0b1, [0], "PrecompileFailed", signature=(b"\xff" * 96).hex())
    return cases


def main() -> None:
    """Writes the file."""
    secrets = [int.from_bytes(draw(f"secret {index}"), "big") % curve_order for index in range(7)]
    cases: list[Case] = []
    for case in digest_cases(secrets) + header_cases() + settle_cases(secrets):
        number = sum(other["function"] == case["function"] for other in cases)
        cases.append({"name": f"{case['function']} {number}", **case})
    OUT.write_text(json.dumps({"format": "collegium/vectors/settlement/1", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
