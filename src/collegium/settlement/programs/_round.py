"""What a header leads to: its own fields, the close, the reports, the terms of the round; each strictly in its form."""

from __future__ import annotations

from collegium.settlement.programs._hashing import finish_hash, put_message, start_hash
from collegium.settlement.programs._reading import (
    digest_at,
    digest_field,
    field_size,
    field_start,
    integer_field,
    read_fields,
    same_digest,
    word_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._task import (
    LEVEL,
    LEVEL_BYTES,
    SEATS,
    TRAINERS_MAX,
    bound_of,
    entries_of,
    first_beacon,
    genesis,
    task_digest,
    weight_max,
)
from collegium.settlement.programs._words import memory

HEADER = 0x6D2F76312F686561  # "m/v1/hea"
HEADER_END = 0x6465720000000000  # "der"
CLOSE = 0x6D2F76312F636C6F  # "m/v1/clo"
CLOSE_END = 0x7365000000000000  # "se"
REPORT = 0x6D2F76312F726570  # "m/v1/rep"
REPORT_END = 0x6F72740000000000  # "ort"
TERMS = 0x6D2F76312F746572  # "m/v1/ter"
TERMS_END = 0x6D73000000000000  # "ms"
# fields of a header
H_TASK = 0
H_ROUND = 1
H_LEVEL = 2
H_PREVIOUS = 3
H_CLOSE = 4
H_OUTCOME = 5
H_KEY_SUMS = 6
H_TOTAL = 7
H_MODEL = 8
H_LYING = 9
H_BEACON = 10
H_SEATS = 11
H_KEYS = 12
H_FAILED = 13
H_REWARDS = 14
H_REGISTRIES = 15
HEADER_FIELDS = 16
# fields of a close
C_TASK = 0
C_ROUND = 1
C_TERMS = 2
C_SEATS = 3
C_REPORTS = 4
C_WEIGHTS = 5
C_REGISTERED = 6
C_KEYS = 7
CLOSE_FIELDS = 8
ACCOUNT_BYTES = 20
ANNOUNCEMENT_BYTES = 107  # validator 2, round 8, key 32, signature 65
REGISTERED_BYTES = 100  # trainer 20, digest 32, first and last round 8 each, spare 32
KEY_SUM_BYTES = 34  # seat 2, digest 32
# fields of a report
R_TASK = 0
R_ROUND = 1
R_TRAINER = 2
R_TERMS = 3
R_CIPHERTEXT = 4
R_PROOF = 7
R_REGISTRATION = 8
R_BOXES = 9
R_STALENESS = 12
REPORT_FIELDS = 13
# fields of terms
T_TASK = 0
T_ROUND = 1
T_PREVIOUS = 2
T_MODEL = 3
T_BEACON = 4
T_SEATS = 5
T_ENTRIES = 6
T_BOUND = 7
T_TRAINERS = 8
T_WEIGHT = 9
T_LANES = 10
TERMS_FIELDS = 11
# outcomes
OPENED = 0
SKIPPED = 1
LOST = 2
INVALID = 3
OPENED_WORD = 0x6F70656E65640000  # "opened"
SKIPPED_WORD = 0x736B697070656400  # "skipped"
LOST_WORD = 0x6C6F737400000000  # "lost"
INVALID_WORD = 0x696E76616C696400  # "invalid"


def read_header(digest: int) -> int:
    """Return the record of a header of this task and level."""
    header = read_fields(digest, HEADER_FIELDS, 19, HEADER, HEADER_END, 0)
    assert same_digest(digest_field(header, H_TASK), task_digest()) == 1
    assert field_size(header, H_LEVEL) == LEVEL_BYTES and short_word(header, H_LEVEL) == LEVEL
    assert field_size(header, H_BEACON) == 48 and field_size(header, H_SEATS) == 2 * SEATS
    assert field_size(header, H_KEY_SUMS) % KEY_SUM_BYTES == 0 and field_size(header, H_LYING) % 2 == 0
    assert field_size(header, H_KEYS) % ANNOUNCEMENT_BYTES == 0 and field_size(header, H_FAILED) % 32 == 0
    assert field_size(header, H_REWARDS) == 32 and field_size(header, H_REGISTRIES) == 32
    return header


def read_before(header: int) -> int:
    """Return the record of the header before one, 0 where that is the genesis."""
    number = integer_field(header, H_ROUND)
    previous = digest_field(header, H_PREVIOUS)
    if number == 0:
        assert same_digest(previous, genesis()) == 1
        return 0
    before = read_header(previous)
    assert integer_field(before, H_ROUND) + 1 == number
    return before


def read_close(header: int) -> int:
    """Return the record of a header's close, of its task and round, with as many weights as reports."""
    close = read_fields(digest_field(header, H_CLOSE), CLOSE_FIELDS, 18, CLOSE, CLOSE_END, 0)
    assert same_digest(digest_field(close, C_TASK), digest_field(header, H_TASK)) == 1
    assert integer_field(close, C_ROUND) == integer_field(header, H_ROUND)
    assert field_size(close, C_REPORTS) % 32 == 0 and field_size(close, C_SEATS) % 2 == 0
    assert field_size(close, C_WEIGHTS) == field_size(close, C_REPORTS) >> 2
    assert field_size(close, C_REGISTERED) % REGISTERED_BYTES == 0
    assert field_size(close, C_KEYS) % ANNOUNCEMENT_BYTES == 0
    return close


def count_reports(close: int) -> int:
    """Return how many reports a close admits."""
    return field_size(close, C_REPORTS) >> 5


def read_report(close: int, index: int) -> int:
    """Return the record of an admitted report of the close's task, round and terms."""
    name = allocate(4)
    digest_at(memory[close], field_start(close, C_REPORTS) + 32 * index, name)
    report = read_fields(name, REPORT_FIELDS, 19, REPORT, REPORT_END, 0)
    assert same_digest(digest_field(report, R_TASK), digest_field(close, C_TASK)) == 1
    assert integer_field(report, R_ROUND) == integer_field(close, C_ROUND)
    assert same_digest(digest_field(report, R_TERMS), digest_field(close, C_TERMS)) == 1
    for field in range(R_CIPHERTEXT, R_STALENESS):
        assert field == R_BOXES or field_size(report, field) == 32
    return report


def read_terms(digest: int, number: int) -> int:
    """Return the record of a round's terms, which demand of an update what the task has fixed."""
    terms = read_fields(digest, TERMS_FIELDS, 18, TERMS, TERMS_END, 0)
    assert same_digest(digest_field(terms, T_TASK), task_digest()) == 1
    assert integer_field(terms, T_ROUND) == number
    assert integer_field(terms, T_ENTRIES) == entries_of(number)
    assert integer_field(terms, T_BOUND) == bound_of(number)
    assert integer_field(terms, T_TRAINERS) == TRAINERS_MAX
    assert integer_field(terms, T_WEIGHT) == weight_max(number)
    return terms


def short_word(record: int, index: int) -> int:
    """Return a field of at most eight bytes, the first the highest."""
    size = field_size(record, index)
    assert size <= 8
    if size == 0:
        return 0
    return word_at(memory[record], field_start(record, index)) >> (64 - 8 * size) << (64 - 8 * size)


def outcome_of(header: int) -> int:
    """Return which outcome a header names."""
    size, word = field_size(header, H_OUTCOME), short_word(header, H_OUTCOME)
    assert size > 0 and word >> (64 - 8 * size) & 255 != 0  # no zeros behind
    if word == OPENED_WORD:
        return OPENED
    if word == SKIPPED_WORD:
        return SKIPPED
    if word == LOST_WORD:
        return LOST
    assert word == INVALID_WORD
    return INVALID


def beacon_after(before: int) -> int:
    """Return the address of the beacon of the round after a header, 0 for the genesis."""
    if before == 0:
        return first_beacon()
    hashing = start_hash()
    put_message(hashing, memory[before], field_start(before, H_BEACON), field_size(before, H_BEACON))
    return finish_hash(hashing)
