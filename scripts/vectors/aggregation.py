"""Writes tests/vectors/aggregation.json with hashlib and Python's integers alone: no transform kernel, no numpy.

The file is {"format": "collegium/vectors/aggregation/3", "cases": [...]}. Every case has `name`, `function`, its
arguments, and either `result` or `error` (the name of the error's class). Bytes are hex, elements of F and entries of
updates decimal strings, everything else plain. `what` says what was spoilt. A `label` stands for words that anyone can
derive: word i is the first 8 bytes of SHA-256("label:i"), little endian; a key is 4096 of them modulo p, and the coins
of noise are the words' bytes, one after the other. A layout is {entries, bound, trainers, weight_max, lanes}.

- `public_matrix`: the first four values of one block of A, and SHA-256 of all its bytes.
- `noise`: the samples of 32 bytes of coins each.
- `budget`, `layout`, `seats`: the numbers that follow, or the refusal.
- `mask`: SHA-256 of c, and the first coefficient of each block.
- `unmask`: the weighted sum of masked updates under the keys' weighted sum; `change` [block, coefficient, by] spoils
  the total, `change_key` [coefficient, by] the key sum.
- `terms`: digest of a round's terms and the seed of its matrix. `report`: the id that a trainer signs, of a report
  whose combination and audited columns are short. `receipt`: what a seat signs that has `verified` the proof, or not.
- `key_sum`: what the encoding of a seat's key sum at 256 seats says, and the digest that the seat signs.
"""

import json
from hashlib import sha256, shake_128
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "aggregation.json"
P = 2**64 - 2**32 + 1
N = 4096
NOISE_BOUND = 127
SEED = bytes(range(32))

# ------------------------------------------------------------------------------------------------ plain reference


def words(label: str, count: int) -> list[bytes]:
    """8 bytes each, which anyone can derive."""
    return [sha256(f"{label}:{i}".encode()).digest()[:8] for i in range(count)]


def elements(label: str, count: int) -> list[int]:
    """Words modulo p."""
    return [int.from_bytes(word, "little") % P for word in words(label, count)]


def packed(values: list[int]) -> bytes:
    """8 bytes each, little endian."""
    return b"".join(value.to_bytes(8, "little") for value in values)


def hashed(tag: str, *fields: bytes | int) -> bytes:
    """hash_fields, written out."""
    state = sha256()
    for field in (f"collegium/v1/{tag}".encode(), *fields):
        data = field.to_bytes(8, "little") if isinstance(field, int) else field
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def public_block(seed: bytes, block: int) -> list[int]:
    """The first 4096 words below p of SHAKE128(seed || block)."""
    stream = shake_128(seed + block.to_bytes(8, "little")).digest(8 * (N + 64))
    kept = [int.from_bytes(stream[at : at + 8], "little") for at in range(0, len(stream), 8)]
    return [word for word in kept if word < P][:N]


def transform(values: list[int], root: int) -> list[int]:
    """sum_i values[i] root^(i k) for each k, by halves."""
    if len(values) == 1:
        return values
    even, odd = transform(values[::2], root * root % P), transform(values[1::2], root * root % P)
    out, power = [0] * len(values), 1
    for k in range(len(even)):
        turned = power * odd[k] % P
        out[k], out[k + len(even)] = (even[k] + turned) % P, (even[k] - turned) % P
        power = power * root % P
    return out


def from_values(values: list[int]) -> list[int]:
    """The ring element with value j at psi^(2 bitrev(j) + 1), psi = 7^((p - 1) / 8192)."""
    psi = pow(7, (P - 1) // (2 * N), P)
    bits = N.bit_length() - 1
    natural = [values[int(f"{k:0{bits}b}"[::-1], 2)] for k in range(N)]
    turned = transform(natural, pow(psi, -2, P))
    scale, step, out = pow(N, -1, P), pow(psi, -1, P), []
    for value in turned:
        out.append(value * scale % P)
        scale = scale * step % P
    return out


def product(a: list[int], b: list[int]) -> list[int]:
    """a b modulo X^4096 + 1: one product of integers whose digits in base 2^144 are the coefficients."""
    width = 18
    left, right = (int.from_bytes(b"".join(v.to_bytes(width, "little") for v in x), "little") for x in (a, b))
    digits = (left * right).to_bytes(2 * N * width, "little")
    long = [int.from_bytes(digits[at : at + width], "little") for at in range(0, len(digits), width)]
    return [(low - high) % P for low, high in zip(long[:N], long[N:], strict=True)]


def samples(coins: bytes) -> list[int]:
    """Heads among the first 254 of 256 coins, less 127."""
    chunks = [int.from_bytes(coins[at : at + 32], "little") & ((1 << 254) - 1) for at in range(0, len(coins), 32)]
    return [chunk.bit_count() - NOISE_BOUND for chunk in chunks]


def numbers(of: dict[str, int]) -> dict[str, int]:
    """What follows from a layout: bits, slots and blocks."""
    weights = of["trainers"] * of["weight_max"]
    noise_bits = (NOISE_BOUND * weights).bit_length() + 1
    lane_bits = (of["bound"] * weights).bit_length() + 1
    slots = -(-of["entries"] // of["lanes"])
    blocks = 2 + -(-slots // N)
    return {"noise_bits": noise_bits, "lane_bits": lane_bits, "slots": slots, "blocks": blocks}


def masked(of: dict[str, int], seed: bytes, key: list[int], update: list[int], coins: bytes) -> list[int]:
    """c = A s + e + 2^nu m, all blocks in one list."""
    sizes = numbers(of)
    slots, blocks = sizes["slots"], sizes["blocks"]
    message = [0] * (blocks * N)
    for i, entry in enumerate(update):
        message[2 * N + i % slots] += entry << (i // slots * sizes["lane_bits"])
    noise = samples(coins)
    stream = [value for block in range(blocks) for value in product(from_values(public_block(seed, block)), key)]
    return [(a + e + (m << sizes["noise_bits"])) % P for a, e, m in zip(stream, noise, message, strict=True)]


# ------------------------------------------------------------------------------------------------ cases


def texts(values: list[int]) -> list[str]:
    """Decimal strings: JSON readers elsewhere round above 2^53."""
    return [str(value) for value in values]


def layout(entries: int, bound: int, trainers: int, weight_max: int = 1, lanes: int = 1) -> dict[str, int]:
    """A layout as data."""
    return {"entries": entries, "bound": bound, "trainers": trainers, "weight_max": weight_max, "lanes": lanes}


def size_cases() -> list[dict[str, Any]]:
    """Budgets and layouts exactly at their bounds and one past them; seats."""
    cases: list[dict[str, Any]] = []
    fits = [(2**15 - 1, 64, 1, 2), (2**50 - 1, 4, 1, 1), (127, 512, 15, 2), (1, 1, 1, 1), (2**53 - 1, 1, 1, 1)]
    fits += [(1, 16513, 1, 1), (1, 1651, 10, 2)]  # 22 bits of noise
    for bound, trainers, weight, lanes in fits:
        of = layout(1, bound, trainers, weight, lanes)
        sizes = numbers(of)
        bits = sizes["noise_bits"] + lanes * sizes["lane_bits"]
        assert bits <= 63
        result = {"noise_bits": sizes["noise_bits"], "lane_bits": sizes["lane_bits"], "bits": bits}
        cases.append({"function": "budget", "layout": of, "result": result})
    unfit = [(2**51 - 1, 4, 1, 1), (2**50, 4, 1, 1), (2**54, 1, 1, 1), (1, 1, 1, 3), (0, 1, 1, 1), (1, 0, 1, 1)]
    unfit += [(1, 16514, 1, 1), (1, 1652, 10, 2)]  # 23
    for bound, trainers, weight, lanes in unfit:
        cases.append(
            {"function": "budget", "layout": layout(1, bound, trainers, weight, lanes), "error": "BudgetError"}
        )
    most = (1 << 10) - 2
    for entries, lanes in [(1, 1), (4096, 1), (4097, 1), (8192, 2), (8193, 2), (10**6, 2), (most * N, 1)]:
        of = layout(entries, 100, 64, 1, lanes)
        sizes = numbers(of)
        result = {"slots": sizes["slots"], "blocks": sizes["blocks"]}
        cases.append({"function": "layout", "layout": of, "result": result})
    sizes_refused = (0, most * N + 1)
    cases += [
        {"function": "layout", "layout": layout(entries, 100, 64), "error": "BudgetError"} for entries in sizes_refused
    ]
    for seats in (16, 32, 64, 128, 256):
        width = 8192 // seats
        result = {"width": width, "needed": -(-5468 // width), "needed_with_3_liars": -(-5468 // width) + 6}
        cases.append({"function": "seats", "seats": seats, "result": result})
    cases += [{"function": "seats", "seats": seats, "error": "BudgetError"} for seats in (0, 8, 15, 48, 512)]
    return cases


def masking_cases() -> list[dict[str, Any]]:
    """The public matrix, noise, one masked update, and sums with each part spoilt."""
    cases: list[dict[str, Any]] = []
    for seed, block in ((SEED, 0), (SEED, 1), (SEED, 1023), (bytes(32), 0)):
        values = public_block(seed, block)
        result = {"first": texts(values[:4]), "sha256": sha256(packed(values)).hexdigest()}
        cases.append({"function": "public_matrix", "seed": seed.hex(), "block": block, "result": result})
    coins = bytes(32) + b"\xff" * 32 + b"\x01" + bytes(31) + bytes(31) + b"\xc0" + sha256(b"coins").digest()
    cases.append({"function": "noise", "coins": coins.hex(), "result": samples(coins)})

    def argument(of: dict[str, int], label: str, update: list[int]) -> dict[str, Any]:
        return {"layout": of, "key": f"key {label}", "update": texts(update), "coins": f"coins {label}"}

    def ciphertext(of: dict[str, int], label: str, update: list[int]) -> list[int]:
        coins = b"".join(words(f"coins {label}", 4 * N * numbers(of)["blocks"]))
        return masked(of, SEED, elements(f"key {label}", N), update, coins)

    one, two = layout(5, 100, 3, 15, 1), layout(7, 100, 3, 15, 2)
    first = {"one lane": (one, [100, -100, 0, 1, -1]), "two lanes": (two, [100, -100, 0, 1, -1, 100, -100])}
    for label, (of, update) in first.items():
        c = ciphertext(of, label, update)
        result = {"sha256": sha256(packed(c)).hexdigest(), "first": texts(c[::N])}
        cases.append({"function": "mask", "seed": SEED.hex(), **argument(of, label, update), "result": result})
        for what, bad in (("an entry past the bound", [*update[:-1], 101]), ("an entry missing", update[:-1])):
            spoilt = argument(of, label, bad)
            cases.append(
                {"function": "mask", "seed": SEED.hex(), "what": what, **spoilt, "error": "EntryOutOfRangeError"}
            )
    for label, (of, update) in first.items():
        second = [-entry for entry in update]
        parts = [argument(of, label, update), argument(of, f"{label}, again", second)]
        unit, sizes = 1 << numbers(of)["noise_bits"], numbers(of)
        shared = {"function": "unmask", "seed": SEED.hex(), "parts": parts, "weights": [15, 2]}
        cases.append({**shared, "result": texts([15 * a + 2 * b for a, b in zip(update, second, strict=True)])})
        bound = of["bound"] * 17
        spoilt = {
            "the first check block": [0, 0, unit],
            "the second check block": [1, N - 1, -unit],
            "the padding": [2, sizes["slots"], unit],
            "the noise": [2, 0, 2 * 17 * NOISE_BOUND + 1],
            "the last lane": [2, 0, unit * (2 * bound + 1) << ((of["lanes"] - 1) * sizes["lane_bits"])],
        }
        if of["lanes"] == 2:
            spoilt["the unused end of the last lane"] = [2, sizes["slots"] - 1, unit << sizes["lane_bits"]]
        for what, (block, at, by) in spoilt.items():
            cases.append({**shared, "what": what, "change": [block, at, str(by)], "error": "SumInvalidError"})
        cases.append({**shared, "what": "the key sum", "change_key": [17, "1"], "error": "SumInvalidError"})
    return cases


def binding_cases() -> list[dict[str, Any]]:
    """What terms, reports, receipts and key sums are bound to."""
    names = ("task", "previous", "model", "beacon")
    names += ("ciphertext", "committee_root", "audit_root", "proof", "registration")
    digest = {name: sha256(name.encode()).digest() for name in names}
    seats = [(sha256(f"seat {i}".encode()).digest()[:20], sha256(f"seal {i}".encode()).digest()) for i in range(16)]
    of, round_number, trainer = layout(5, 100, 3, 15, 2), 7, sha256(b"trainer").digest()[:20]
    keys = [None if i == 3 else key for i, (_, key) in enumerate(seats)]
    held = b"".join(seat + (key or bytes(32)) for (seat, _), key in zip(seats, keys, strict=True))
    shape = (of["entries"], of["bound"], of["trainers"], of["weight_max"], of["lanes"])
    before = (digest["task"], round_number, digest["previous"], digest["model"], digest["beacon"])
    terms = hashed("terms", *before, held, *shape)
    matrix = hashed("mask-matrix", digest["task"], round_number, digest["beacon"])
    stated = {
        **{name: digest[name].hex() for name in names[:4]},
        "round": round_number,
        "seats": [[seat.hex(), key and key.hex()] for (seat, _), key in zip(seats, keys, strict=True)],
        "layout": of,
    }
    result = {"digest": terms.hex(), "matrix_seed": matrix.hex()}
    cases: list[dict[str, Any]] = [{"function": "terms", **stated, "result": result}]

    combination, symbols = elements("combination", 6), elements("symbols", 12)
    salts, proof = b"".join(words("salts", 4)), b"".join(words("proof", 4))
    boxes = [sha256(f"box {i}".encode()).digest() for i in range(16)]
    report = hashed(
        "report",
        digest["task"],
        round_number,
        trainer,
        terms,
        *(digest[name] for name in names[4:]),
        b"".join(boxes),
        sha256(packed(combination)).digest(),
        sha256(packed(symbols) + salts + proof).digest(),
        2,
    )
    key_root = hashed("matrix", digest["committee_root"], digest["audit_root"])
    public = {
        "terms": stated,
        "trainer": trainer.hex(),
        **{name: digest[name].hex() for name in names[4:]},
        "staleness": 2,
        "boxes": [box.hex() for box in boxes],
        "combination": [texts(combination[:3]), texts(combination[3:])],
        "audit": {"symbols": [texts(symbols[:6]), texts(symbols[6:])], "salts": salts.hex(), "proof": proof.hex()},
    }
    result = {"id": report.hex(), "key_root": key_root.hex()}
    cases.append({"function": "report", **public, "result": result})
    for verified in (False, True):
        signed = hashed("receipt", digest["task"], round_number, terms, 4, report, report if verified else b"").hex()
        cases.append({"function": "receipt", "report": public, "seat": 4, "verified": verified, "result": signed})
    return cases


def key_sum_cases() -> list[dict[str, Any]]:
    """The encoding of a key sum of 32 columns, beside bytes that are none."""
    task, close, seat, round_number = sha256(b"task").digest(), sha256(b"close").digest(), 200, 2**40 + 1
    rows = [0, P - 1, *elements("rows", 126)]
    signature = b"".join(words("signature", 9))[:65]
    head = task + round_number.to_bytes(8, "little") + close + seat.to_bytes(2, "little")
    data = head + packed(rows) + signature
    signed = hashed("key-sum", task, round_number, close, seat, sha256(packed(rows)).digest())
    result = {
        "task": task.hex(),
        "round": str(round_number),
        "close": close.hex(),
        "seat": seat,
        "first_row": texts(rows[:4]),
        "signature": signature.hex(),
        "digest": signed.hex(),
    }
    cases: list[dict[str, Any]] = [{"function": "key_sum", "data": data.hex(), "result": result}]
    for what, bad in (
        ("nothing", b""),
        ("one byte too few", data[:-1]),
        ("one byte too many", data + b"\0"),
        ("one column too few", head + packed(rows[:-4]) + signature),
        ("an element that is p", head + P.to_bytes(8, "little") + packed(rows[1:]) + signature),
        ("an element of all ones", head + packed(rows[:-1]) + b"\xff" * 8 + signature),
    ):
        cases.append({"function": "key_sum", "what": what, "data": bad.hex(), "error": "MalformedKeySumError"})
    return cases


def main() -> None:
    """Writes the file."""
    cases: list[dict[str, Any]] = []
    for case in size_cases() + masking_cases() + binding_cases() + key_sum_cases():
        number = sum(other["function"] == case["function"] for other in cases)
        cases.append({"name": f"{case['function']} {number}", **case})
    OUT.write_text(json.dumps({"format": "collegium/vectors/aggregation/3", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
