"""Reads aggregation.json (format: its maker, scripts/vectors/aggregation.py)."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.aggregation import (
    Budget,
    KeySum,
    Layout,
    Report,
    RoundTerms,
    SeatTerms,
    encode_ciphertext,
    mask,
    public_matrix,
    sample_noise,
    seat_width,
    seats_needed,
    unmask,
    weighted_total,
)
from collegium.aggregation._sum import receipt_digest
from collegium.algebra import P
from collegium.commitment import ColumnRange
from collegium.errors import CollegiumError

DOCUMENT = json.loads((Path(__file__).parent / "aggregation.json").read_text())


def texts(values: Any) -> list[str]:
    return [str(value) for value in values.tolist()]


def matrix(rows: list[list[str]]) -> np.ndarray:
    return np.array([[int(value) for value in row] for row in rows], np.uint64)


def words(label: str, count: int) -> bytes:
    return b"".join(sha256(f"{label}:{i}".encode()).digest()[:8] for i in range(count))


def key_of(label: str) -> np.ndarray:
    return np.frombuffer(words(label, 4096), "<u8") % np.uint64(P)


def layout_of(case: dict[str, Any]) -> Layout:
    of = case["layout"]
    return Layout(of["entries"], Budget(of["bound"], of["trainers"], of["weight_max"], of["lanes"]))


def masked(seed: bytes, part: dict[str, Any]) -> np.ndarray:
    update = np.array([int(entry) for entry in part["update"]], np.int64)
    return mask(layout_of(part), seed, key_of(part["key"]), update, lambda count: words(part["coins"], count // 8))


def terms_of(case: dict[str, Any]) -> RoundTerms:
    digests = {name: bytes.fromhex(case[name]) for name in ("task", "previous", "model", "beacon")}
    seats = tuple(SeatTerms(bytes.fromhex(seat), key and bytes.fromhex(key)) for seat, key in case["seats"])
    return RoundTerms(**digests, round=case["round"], seats=seats, layout=layout_of(case))


def report_of(case: dict[str, Any]) -> Report:
    terms, audit = terms_of(case["terms"]), case["audit"]
    names = ("ciphertext", "committee_root", "audit_root", "proof", "registration", "trainer")
    digests = {name: bytes.fromhex(case[name]) for name in names}
    return Report(
        task=terms.task,
        round=terms.round,
        terms=terms.digest,
        boxes=tuple(bytes.fromhex(box) for box in case["boxes"]),
        combination=matrix(case["combination"]),
        audit=ColumnRange(matrix(audit["symbols"]), bytes.fromhex(audit["salts"]), bytes.fromhex(audit["proof"])),
        signature=bytes(65),
        staleness=case["staleness"],
        **digests,
    )


def opened(case: dict[str, Any]) -> list[str]:
    seed, parts, weights = bytes.fromhex(case["seed"]), case["parts"], case["weights"]
    total = weighted_total([masked(seed, part) for part in parts], weights)
    key_sum = weighted_total([key_of(part["key"])[None] for part in parts], weights)[0]
    if "change" in case:
        block, at, by = case["change"]
        total[block, at] = (int(total[block, at]) + int(by)) % P
    if "change_key" in case:
        at, by = case["change_key"]
        key_sum[at] = (int(key_sum[at]) + int(by)) % P
    return texts(unmask(layout_of(parts[0]), seed, key_sum, total, sum(weights)))


def decoded_key_sum(case: dict[str, Any]) -> dict[str, Any]:
    data = bytes.fromhex(case["data"])
    key_sum = KeySum.from_bytes(data, 32)
    assert key_sum.to_bytes() == data
    digests = {name: getattr(key_sum, name).hex() for name in ("task", "close", "signature", "digest")}
    return {**digests, "round": str(key_sum.round), "seat": key_sum.seat, "first_row": texts(key_sum.rows[0])}


def sizes(case: dict[str, Any]) -> dict[str, int]:
    if case["function"] == "seats":
        seats = case["seats"]
        width, needed = seat_width(seats), seats_needed(seats)
        return {"width": width, "needed": needed, "needed_with_3_liars": seats_needed(seats, 3)}
    layout = layout_of(case)
    if case["function"] == "layout":
        return {"slots": layout.slots, "blocks": layout.blocks}
    budget = layout.budget
    return {"noise_bits": budget.noise_bits, "lane_bits": budget.lane_bits, "bits": budget.bits}


def run(case: dict[str, Any]) -> Any:
    match case["function"]:
        case "public_matrix":
            block = public_matrix(bytes.fromhex(case["seed"]), case["block"] + 1)[case["block"]]
            return {"first": texts(block[:4]), "sha256": sha256(block.astype("<u8").tobytes()).hexdigest()}
        case "noise":
            coins = bytes.fromhex(case["coins"])
            return sample_noise(lambda count: coins, len(coins) // 32).tolist()
        case "mask":
            c = masked(bytes.fromhex(case["seed"]), case)
            return {"sha256": sha256(encode_ciphertext(c)).hexdigest(), "first": texts(c[:, 0])}
        case "unmask":
            return opened(case)
        case "terms":
            terms = terms_of(case)
            return {"digest": terms.digest.hex(), "matrix_seed": terms.matrix_seed.hex()}
        case "report":
            report = report_of(case)
            return {"id": report.id.hex(), "key_root": report.key_root.hex()}
        case "receipt":
            terms, report = terms_of(case["report"]["terms"]), report_of(case["report"])
            reports = [report.id]
            return receipt_digest(terms, case["seat"], reports, reports if case["verified"] else []).hex()
        case "key_sum":
            return decoded_key_sum(case)
        case _:
            return sizes(case)


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/aggregation/3"


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(CollegiumError) as refusal:
            run(case)
        assert type(refusal.value).__name__ == case["error"]
    else:
        assert run(case) == case["result"]
