"""Public work: what a model state says of quality is what a round gives of the state before (docs/spec/quality.md, 9).

Statistics and parameters before that part are another program's. Not judged: that a record is signed, that all are
named that counted, and that a score is proved.
"""

from __future__ import annotations

from collegium.settlement.programs._fold import fold
from collegium.settlement.programs._quality_state import (
    ACCOUNT_WORDS,
    IS_VETTED,
    NO_SCORE,
    Q_ACCOUNTS,
    Q_COUNTS,
    Q_SCORES,
    Q_STEWARDS,
    Q_WEIGHTS,
    Q_WORDS,
    STEWARD_WORDS,
    column,
    counted,
    quality_word,
    read_part,
)
from collegium.settlement.programs._reading import (
    TAG_0,
    digest_field,
    integer_field,
    little_at,
    put_digest,
    read_message,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    ACCOUNT_BYTES,
    H_MODEL,
    H_ROUND,
    H_TOTAL,
    OPENED,
    beacon_after,
    outcome_of,
    read_before,
    read_close,
    read_header,
)
from collegium.settlement.programs._task import ENTRIES, STEWARDS, TRAINERS, WEIGHT_MAX
from collegium.settlement.programs._words import accept, byte_swap, memory

COHORT_0: int  # the digest of the trainers' accounts, one after the other
COHORT_1: int
COHORT_2: int
COHORT_3: int
BENCH_0: int  # of the stewards'
BENCH_1: int
BENCH_2: int
BENCH_3: int
FORMAT_1 = 0x6D2F76312F717561  # "m/v1/qua"
FORMAT_2 = 0x6C69747900000000  # "lity"
TAG_BYTES = 18  # of an opened sum


def main() -> None:
    """Accept if the part about quality of the header's model is right."""
    header = read_header(0)
    before = read_before(header)
    if outcome_of(header) != OPENED:
        accept()
    after = read_part(digest_field(header, H_MODEL))
    if before == 0:
        part = first_part()
    else:
        part = counted(read_part(digest_field(before, H_MODEL)))
        total = _read_total(digest_field(header, H_TOTAL))
        fold(part, integer_field(header, H_ROUND), beacon_after(before), read_close(header), total, after)
    for index in range(Q_WORDS):
        assert memory[part + index] == quality_word(after, index)
    accept()


def first_part() -> int:
    """Return the counted part that round 0 leaves: everybody is vetted, nobody scored."""
    part, digest = allocate(Q_WORDS), allocate(4)
    memory[part] = byte_swap(TAG_0)
    memory[part + 1] = byte_swap(FORMAT_1)
    memory[part + 2] = byte_swap(FORMAT_2)
    memory[part + Q_COUNTS] = TRAINERS
    memory[part + Q_COUNTS + 1] = STEWARDS
    memory[part + Q_COUNTS + 2] = ENTRIES - 1
    put_digest(digest, COHORT_0, COHORT_1, COHORT_2, COHORT_3)
    _put_accounts(part + Q_ACCOUNTS, digest, TRAINERS, ACCOUNT_WORDS)
    put_digest(digest, BENCH_0, BENCH_1, BENCH_2, BENCH_3)
    _put_accounts(part + Q_STEWARDS, digest, STEWARDS, STEWARD_WORDS)
    for place in range(TRAINERS):
        memory[part + Q_WEIGHTS + place] = WEIGHT_MAX
        memory[part + Q_SCORES + place] = NO_SCORE
        memory[column(part, IS_VETTED) + place] = 1
    return part


def _put_accounts(target: int, digest: int, count: int, apart: int) -> None:
    """Write the accounts behind a digest, so many words apart."""
    accounts, size = read_message(digest)
    assert size == ACCOUNT_BYTES * count
    for index in range(count):
        at = target + apart * index
        memory[at] = little_at(accounts, ACCOUNT_BYTES * index)
        memory[at + 1] = little_at(accounts, ACCOUNT_BYTES * index + 8)
        memory[at + 2] = little_at(accounts, ACCOUNT_BYTES * index + 16) & 0xFFFFFFFF


def _read_total(digest: int) -> int:
    """Return the entries of the opened sum behind a digest, signed words."""
    message, size = read_message(digest)
    assert size == TAG_BYTES + 8 * ENTRIES
    total = allocate(ENTRIES)
    for index in range(ENTRIES):
        memory[total + index] = little_at(message, TAG_BYTES + 8 * index)
    return total
