"""A statement that a validator makes by itself: a seat's receipt. It holds if what it calls verified does verify."""

from __future__ import annotations

from collegium.settlement.programs._plan import read_plan
from collegium.settlement.programs._reading import (
    digest_at,
    digest_field,
    field_size,
    field_start,
    integer_field,
    read_fields,
    same_digest,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._task import task_digest
from collegium.settlement.programs._vouched import check_report_of
from collegium.settlement.programs._words import accept, memory

RECEIPT = 0x6D2F76312F726563  # "m/v1/rec"
RECEIPT_END = 0x6569707400000000  # "eipt"
RECEIPT_TASK = 0
RECEIPT_ROUND = 1
RECEIPT_TERMS = 2
RECEIPT_VERIFIED = 5
RECEIPT_FIELDS = 6


def main() -> None:
    """Accept if the proof of every report that the receipt behind the statement calls verified verifies."""
    receipt = read_fields(0, RECEIPT_FIELDS, 20, RECEIPT, RECEIPT_END, 0)
    assert same_digest(digest_field(receipt, RECEIPT_TASK), task_digest()) == 1
    number, terms = integer_field(receipt, RECEIPT_ROUND), digest_field(receipt, RECEIPT_TERMS)
    size = field_size(receipt, RECEIPT_VERIFIED)
    assert size % 32 == 0
    read_plan()
    digest = allocate(4)
    for index in range(size // 32):
        digest_at(memory[receipt], field_start(receipt, RECEIPT_VERIFIED) + 32 * index, digest)
        check_report_of(digest, number, terms)
    accept()
