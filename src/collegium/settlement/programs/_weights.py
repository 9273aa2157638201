"""Public work: a close admits reports of its round under its terms, and weighs each by how stale it says that it is.

Where a task has stewards, each weighs from round 1 on what the model before says of its trainer, whom the round's
beacon must have drawn if not all may report.

Header -> close -> reports and terms. What is not behind the header's digest is not judged: receipts and signatures.
"""

from __future__ import annotations

from collegium.settlement.programs._draw import draw_hits, weight_of
from collegium.settlement.programs._members import M_ACCOUNT, VALIDATORS, is_known_epoch, read_members
from collegium.settlement.programs._quality_state import counted, read_part
from collegium.settlement.programs._reading import (
    digest_field,
    field_size,
    field_start,
    integer_field,
    is_no_digest,
    little_at,
    put_digest,
    read_message,
    same_bytes,
    same_digest,
    short_at,
    word_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    ACCOUNT_BYTES,
    ANNOUNCEMENT_BYTES,
    C_REPORTS,
    C_SEATS,
    C_TERMS,
    C_WEIGHTS,
    H_KEYS,
    H_MODEL,
    H_PREVIOUS,
    H_ROUND,
    H_SEATS,
    R_BOXES,
    R_PROOF,
    R_REGISTRATION,
    R_STALENESS,
    R_TRAINER,
    T_BEACON,
    T_LANES,
    T_MODEL,
    T_PREVIOUS,
    T_SEATS,
    beacon_after,
    count_reports,
    read_before,
    read_close,
    read_header,
    read_report,
    read_terms,
)
from collegium.settlement.programs._task import (
    LEVEL,
    SEATS,
    STEWARDS,
    TRAINERS_MAX,
    first_terms,
    weight_max,
)
from collegium.settlement.programs._weigh import is_locked_out
from collegium.settlement.programs._words import accept, memory

PROVES: int  # 1 where reports carry proofs
SEATS_NEEDED: int
TRAINERS_MIN: int
COHORT_0: int
COHORT_1: int
COHORT_2: int
COHORT_3: int
PROVED = 0x70726F7665640000  # "proved"
SEAT_BYTES = 52  # account and sealing key


def main() -> None:
    """Accept if the close behind the statement has the terms and the weights that it must have."""
    header = read_header(0)
    close = read_close(header)
    before = read_before(header)
    number = integer_field(header, H_ROUND)
    terms = digest_field(close, C_TERMS)
    if before == 0:
        assert same_digest(terms, first_terms()) == 1
    else:
        _check_terms(terms, header, before)
    reports = count_reports(close)
    if reports == 0:
        assert number > 0 and field_size(close, C_SEATS) == 0
        accept()
    _check_seats(close)
    _check_increasing(memory[close], field_start(close, C_REPORTS), reports)
    part, hits = 0, 0
    if STEWARDS > 0 and before > 0:
        part = counted(read_part(digest_field(before, H_MODEL)))
        hits = draw_hits(part, number, beacon_after(before))
    _check_reports(close, number, reports, part, hits)
    accept()


def _check_terms(terms: int, header: int, before: int) -> None:
    """Reject unless the round's terms are those that the header before fixes."""
    number = integer_field(header, H_ROUND)
    record = read_terms(terms, number)
    assert same_digest(digest_field(record, T_PREVIOUS), digest_field(header, H_PREVIOUS)) == 1
    assert same_digest(digest_field(record, T_MODEL), digest_field(before, H_MODEL)) == 1
    assert same_digest(digest_field(record, T_BEACON), beacon_after(before)) == 1
    assert integer_field(record, T_LANES) == 1
    assert field_size(record, T_SEATS) == SEAT_BYTES * SEATS
    members = read_members() if is_known_epoch(number) == 1 else 0
    for seat in range(SEATS):
        at = field_start(record, T_SEATS) + SEAT_BYTES * seat
        validator = short_at(memory[before], field_start(before, H_SEATS) + 2 * seat)
        _check_seal_key(memory[record], at + ACCOUNT_BYTES, before, validator)
        if members > 0:
            field = M_ACCOUNT + 3 * validator
            assert validator < VALIDATORS and field_size(members, field) == ACCOUNT_BYTES
            account = field_start(members, field)
            assert same_bytes(memory[record], at, memory[members], account, ACCOUNT_BYTES) == 1


def _check_seal_key(message: int, at: int, before: int, validator: int) -> None:
    """Reject unless a seat's sealing key is the last that its validator announced, zeros where it announced none."""
    keys = memory[before]
    size = field_size(before, H_KEYS)
    assert size % ANNOUNCEMENT_BYTES == 0
    for index in range(size // ANNOUNCEMENT_BYTES):
        announced = field_start(before, H_KEYS) + size - ANNOUNCEMENT_BYTES * (index + 1)
        if short_at(keys, announced) == validator:
            assert same_bytes(message, at, keys, announced + 10, 32) == 1
            return
    for index in range(4):
        assert word_at(message, at + 8 * index) == 0


def _check_seats(close: int) -> None:
    """Reject unless the close's seats are increasing and enough."""
    count = field_size(close, C_SEATS) >> 1
    assert count >= SEATS_NEEDED
    for index in range(count):
        seat = short_at(memory[close], field_start(close, C_SEATS) + 2 * index)
        assert seat < SEATS
        assert index == 0 or short_at(memory[close], field_start(close, C_SEATS) + 2 * index - 2) < seat


def _check_increasing(message: int, at: int, digests: int) -> None:
    """Reject unless digests stand in strictly increasing order."""
    for index in range(1, digests):
        place = at + 32 * index
        word = 0
        while word < 3 and word_at(message, place - 32 + 8 * word) == word_at(message, place + 8 * word):
            word += 1
        assert word_at(message, place - 32 + 8 * word) < word_at(message, place + 8 * word)


def _check_reports(close: int, number: int, reports: int, part: int, hits: int) -> None:
    """Reject unless each report is a trainer's that may report, of no more than one a trainer, and weighs what it must.

    `part`: what the model before says of quality, counted; 0 where staleness alone says what a report weighs. `hits`:
    how often each trainer is drawn then.
    """
    carrying = 0
    assert TRAINERS_MIN <= reports <= TRAINERS_MAX
    digest = allocate(4)
    put_digest(digest, COHORT_0, COHORT_1, COHORT_2, COHORT_3)
    cohort, length = read_message(digest)
    seen = allocate(length // ACCOUNT_BYTES)
    for index in range(reports):
        report = read_report(close, index)
        assert field_size(report, R_BOXES) == 32 * SEATS and field_size(report, R_TRAINER) == ACCOUNT_BYTES
        _check_proof_named(report, number)
        trainer = _find_trainer(cohort, length // ACCOUNT_BYTES, memory[report], field_start(report, R_TRAINER))
        assert memory[seen + trainer] == 0
        memory[seen + trainer] = 1
        staleness = integer_field(report, R_STALENESS)
        weight = weight_max(number) >> staleness
        if part > 0:
            assert staleness == 0
            assert memory[hits + trainer] > 0 or is_locked_out(part, trainer) == 1
            weight = weight_of(part, number, hits, trainer)
        else:
            assert weight > 0
        assert weight == little_at(memory[close], field_start(close, C_WEIGHTS) + 8 * index)
        if weight > 0:
            carrying += 1
    assert carrying >= TRAINERS_MIN


def _check_proof_named(report: int, number: int) -> None:
    """Reject unless a report names a proof, and a registration, if and only if the task wants one."""
    registers = 1 if LEVEL == PROVED and number > 0 else 0
    assert is_no_digest(digest_field(report, R_PROOF)) == 1 - PROVES
    assert is_no_digest(digest_field(report, R_REGISTRATION)) == 1 - registers


def _find_trainer(cohort: int, trainers: int, message: int, at: int) -> int:
    """Return which of the cohort's accounts stands in a message."""
    index = 0
    while same_bytes(cohort, ACCOUNT_BYTES * index, message, at, ACCOUNT_BYTES) == 0:
        index += 1
        assert index < trainers
    return index
