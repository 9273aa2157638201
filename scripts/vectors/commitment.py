"""Writes tests/vectors/commitment.json with hashlib alone, by recursion over the tree.

The file is {"format": "collegium/vectors/commitment/1", "cases": [...]}. Every case has `name`, `function`, its
arguments, and either `result` or `error` (the name of the error's class). Bytes are hex, elements of F decimal strings,
positions and counts plain integers. `what` says what was spoilt. Symbols are columns, each a list of its rows'.

- `root`: the root over `leaves`.
- `multiproof`: the siblings that `positions` need.
- `verify_multiproof`: true, or the refusal, of `leaves` at `positions` under `root`.
- `column_leaves`: the leaf of each column with its 16 bytes of `salts`.
- `combine_roots`: the digest that binds the trees of all domains.
- `decode_columns`: symbols, salts and proof of the bytes of opened columns.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "commitment.json"
P = 2**64 - 2**32 + 1
COUNT = 16


def node(left: bytes, right: bytes) -> bytes:
    """An inner node."""
    return sha256(b"collegium/v1/node\0" + left + right).digest()


def root(leaves: list[bytes]) -> bytes:
    """The root over a power of two of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    half = len(leaves) // 2
    return node(root(leaves[:half]), root(leaves[half:]))


def siblings(leaves: list[bytes], positions: list[int], start: int = 0) -> list[tuple[int, int, bytes]]:
    """Each (level, index, digest) that `positions` cannot compute, of the subtree whose first leaf is `start`."""
    inside = [at for at in positions if start <= at < start + len(leaves)]
    if not inside:
        return [((len(leaves) - 1).bit_length(), start // len(leaves), root(leaves))]
    if len(leaves) == 1:
        return []
    half = len(leaves) // 2
    return siblings(leaves[:half], inside, start) + siblings(leaves[half:], inside, start + half)


def multiproof(leaves: list[bytes], positions: list[int]) -> bytes:
    """Siblings level by level from the leaves, from left to right."""
    return b"".join(digest for _, _, digest in sorted(siblings(leaves, positions)))


def leaf(symbols: list[int], salt: bytes) -> bytes:
    """The leaf of a column."""
    return sha256(b"collegium/v1/leaf\0" + b"".join(s.to_bytes(8, "little") for s in symbols) + salt).digest()


def combined(roots: list[bytes]) -> bytes:
    """hash_fields("matrix", roots), written out."""
    pieces = [b"collegium/v1/matrix", *roots]
    return sha256(b"".join(len(piece).to_bytes(8, "little") + piece for piece in pieces)).digest()


def draw(label: str) -> bytes:
    """32 bytes that anyone can derive."""
    return sha256(label.encode()).digest()


def hexes(values: list[bytes]) -> list[str]:
    """Hex strings."""
    return [value.hex() for value in values]


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with one bit of byte `at` flipped."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def tree_cases() -> list[dict[str, Any]]:
    """Roots and multiproofs, each beside its smallest changes."""
    leaves = [draw(f"leaf:{i}") for i in range(COUNT)]
    top = root(leaves)
    cases: list[dict[str, Any]] = [
        {"function": "root", "leaves": hexes(leaves[:count]), "result": root(leaves[:count]).hex()}
        for count in (1, 2, 8, 16)
    ]
    cases += [{"function": "root", "leaves": hexes(leaves[:n]), "error": "MultiproofError"} for n in (0, 3, 12)]
    sets = [[0], [15], [4, 5, 6, 7], [6, 7, 8, 9], [0, 3, 9, 10], list(range(COUNT))]

    def verify(positions: list[int], opened: list[bytes], proof: bytes, under: bytes, **outcome: Any) -> None:
        arguments = {"leaf_count": COUNT, "positions": positions, "leaves": hexes(opened)}
        cases.append(
            {"function": "verify_multiproof", **arguments, "proof": proof.hex(), "root": under.hex(), **outcome}
        )

    for positions in sets:
        proof, opened = multiproof(leaves, positions), [leaves[at] for at in positions]
        shared = {"leaves": hexes(leaves), "positions": positions}
        cases.append({"function": "multiproof", **shared, "result": proof.hex()})
        verify(positions, opened, proof, top, result=True)
        refused = {"error": "MultiproofError"}
        verify(positions, [flipped(opened[0], 0), *opened[1:]], proof, top, what="a leaf", **refused)
        verify(positions, opened, proof, flipped(top, 31), what="the root", **refused)
        verify(positions, opened, proof + bytes(32), top, what="one digest too many", **refused)
        verify(positions, opened[:-1], proof, top, what="a leaf missing", **refused)
        if proof:
            verify(positions, opened, flipped(proof, len(proof) - 1), top, what="a sibling", **refused)
            verify(positions, opened, proof[:-32], top, what="a sibling missing", **refused)
    verify([5], [leaves[4]], multiproof(leaves, [4]), top, what="the leaf of another position", error="MultiproofError")
    verify([0], [node(leaves[0], leaves[1])], multiproof(leaves, [0])[32:], top, what="a node", error="MultiproofError")
    for bad in ([], [3, 3], [4, 2], [-1], [COUNT]):
        cases.append({"function": "multiproof", "leaves": hexes(leaves), "positions": bad, "error": "MultiproofError"})
    return cases


def column_cases() -> list[dict[str, Any]]:
    """Leaves of columns, and the bytes of opened ones."""
    columns = [[int.from_bytes(draw(f"symbol:{c}:{r}"), "big") % P for r in range(3)] for c in range(COUNT)]
    columns[1] = [0, 1, P - 1]
    salts = b"".join(draw(f"salt:{c}")[:16] for c in range(COUNT))
    leaves = [leaf(column, salts[16 * c : 16 * c + 16]) for c, column in enumerate(columns)]
    texts = [[str(symbol) for symbol in column] for column in columns]
    cases: list[dict[str, Any]] = [
        {"function": "column_leaves", "symbols": texts, "salts": salts.hex(), "result": hexes(leaves)},
        {"function": "column_leaves", "symbols": texts, "salts": salts[:-1].hex(), "error": "MalformedColumnsError"},
    ]
    for count in (1, 2, 3):
        roots = [draw(f"root:{i}") for i in range(count)]
        cases.append({"function": "combine_roots", "roots": hexes(roots), "result": combined(roots).hex()})
    positions = [1, 8, 9]
    symbols = b"".join(symbol.to_bytes(8, "little") for at in positions for symbol in columns[at])
    picked = b"".join(salts[16 * at : 16 * at + 16] for at in positions)
    proof = multiproof(leaves, positions)
    data = symbols + picked + proof
    shared = {"function": "decode_columns", "rows": 3, "leaf_count": COUNT, "positions": positions}
    result = {"symbols": [texts[at] for at in positions], "salts": picked.hex(), "proof": proof.hex()}
    cases.append({**shared, "data": data.hex(), "result": result})
    for what, bad in (
        ("one byte too few", data[:-1]),
        ("one byte too many", data + b"\0"),
        ("nothing", b""),
        ("a symbol that is p", P.to_bytes(8, "little") + data[8:]),
        ("a symbol of all ones", data[:64] + b"\xff" * 8 + data[72:]),
    ):
        cases.append({**shared, "what": what, "data": bad.hex(), "error": "MalformedColumnsError"})
    return cases


def main() -> None:
    """Writes the file."""
    cases: list[dict[str, Any]] = []
    for case in tree_cases() + column_cases():
        number = sum(other["function"] == case["function"] for other in cases)
        cases.append({"name": f"{case['function']} {number}", **case})
    OUT.write_text(json.dumps({"format": "collegium/vectors/commitment/1", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
