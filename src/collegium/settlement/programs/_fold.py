"""The end of a round (docs/spec/quality.md, section 9): the part about quality that follows from the one before.

Scores stand in front of the reports' proofs. Which records counted the part after the round says itself: it names them.
"""

from __future__ import annotations

from collegium.settlement.programs._directions import (
    REACH_MAX,
    bound_of_rows,
    inner,
    median_vector,
    normalise_score,
    score_scale,
    scoring_direction,
)
from collegium.settlement.programs._draw import WEIGHTED_MIN, draw_hits
from collegium.settlement.programs._medians import median_of
from collegium.settlement.programs._norm import next_norm
from collegium.settlement.programs._quality_state import (
    ACCOUNT_WORDS,
    COMMITMENT,
    NO_SCORE,
    Q_ACCOUNTS,
    Q_DIRECTION,
    Q_MODEL,
    Q_NORM,
    Q_ROUND,
    Q_SCORES,
    Q_STEWARDS,
    Q_WEIGHTS,
    RECORD_DIGEST,
    REGISTERED,
    STEWARD_WORDS,
    quality_word,
)
from collegium.settlement.programs._reading import digest_field, field_size, field_start, is_no_digest, little_at
from collegium.settlement.programs._room import allocate, copy, mark_room, release
from collegium.settlement.programs._round import (
    ACCOUNT_BYTES,
    R_PROOF,
    R_TRAINER,
    count_reports,
    read_report,
)
from collegium.settlement.programs._signed import smaller
from collegium.settlement.programs._steward_record import (
    SAID_COMMITMENT,
    SAID_DIRECTION,
    SAID_OPENED,
    SAID_REGISTERED,
    SAID_SCORE,
    check_record,
    read_prefix,
)
from collegium.settlement.programs._task import ENTRIES, STEWARDS, TRAINERS, WEIGHT_MAX
from collegium.settlement.programs._weigh import is_free, is_locked_out, weigh
from collegium.settlement.programs._words import memory

ROWS_MAX: int  # of a report
PARAMETERS = ENTRIES - 1


def fold(part: int, number: int, beacon: int, close: int, total: int, after: int) -> None:
    """Move a counted part to after a round.

    `beacon`: which drew who may report; `after`: what the header says it is, `total`: the opened sum's entries.
    """
    began = memory[part + Q_ROUND]
    for place in range(TRAINERS):
        memory[part + Q_SCORES + place] = NO_SCORE
    if has_direction(part) == 1:
        hits = draw_hits(part, number, beacon)
        used = _take_scores(part, close, hits)
        scored = _scored(part)
        _pay_rows(part, scored, used, hits)
        weigh(part, scored, hits)
    _settle_weights(part)
    memory[part + Q_NORM] = next_norm(memory[part + Q_NORM], total, PARAMETERS)
    memory[part + Q_ROUND] = number
    vectors, told = allocate(STEWARDS), allocate(STEWARDS + 1)
    count = _take_records(part, number, began, after, vectors, told)
    _aim(part, vectors, count)
    tellers = memory[told]
    memory[part + Q_MODEL] = began if tellers > 0 else 0
    memory[part + Q_MODEL + 1] = tellers
    memory[part + Q_MODEL + 2] = median_of(told + 1, tellers) if tellers > 0 else 0


def has_direction(part: int) -> int:
    """Return 1 if a counted part has a direction, else 0."""
    for at in range(part + Q_DIRECTION, part + Q_DIRECTION + PARAMETERS):
        if memory[at] != 0:
            return 1
    return 0


# --- 1. standing and weights


def _take_scores(part: int, close: int, hits: int) -> int:
    """Write the score of everybody who reported one and may report: of who is locked out, too, as it may appeal.

    Return the address of how many rows each used.
    """
    used = allocate(TRAINERS)
    square = inner(part + Q_DIRECTION, part + Q_DIRECTION, PARAMETERS)
    for index in range(count_reports(close)):
        mark = mark_room()
        report = read_report(close, index)
        place = _find_place(part, report)
        value, rows = read_prefix(digest_field(report, R_PROOF))
        may_report = memory[hits + place] > 0 or is_locked_out(part, place) == 1
        if value != NO_SCORE and 0 < rows <= ROWS_MAX and may_report:
            _, unit, _ = score_scale(square, bound_of_rows(memory[part + Q_NORM], rows))
            memory[part + Q_SCORES + place] = normalise_score(value, unit)
            memory[used + place] = rows
        release(mark)
    return used


def _find_place(part: int, report: int) -> int:
    """Return the place of a report's trainer; a stranger's rejects."""
    assert field_size(report, R_TRAINER) == ACCOUNT_BYTES
    message, at = memory[report], field_start(report, R_TRAINER)
    first, second, third = little_at(message, at), little_at(message, at + 8), little_at(message, at + 16) & 0xFFFFFFFF
    place, account = 0, part + Q_ACCOUNTS
    while memory[account] != first or memory[account + 1] != second or memory[account + 2] != third:
        place += 1
        account += ACCOUNT_WORDS
        assert place < TRAINERS
    return place


def _scored(part: int) -> int:
    """Return the list of who has a score."""
    scored = allocate(1 + TRAINERS)
    for place in range(TRAINERS):
        if memory[part + Q_SCORES + place] != NO_SCORE:
            memory[scored] = memory[scored] + 1
            memory[scored + memory[scored]] = place
    return scored


def _pay_rows(part: int, scored: int, used: int, hits: int) -> None:
    """Pay hits for each row that a report used, but for no more rows than the median report has."""
    rows, count = allocate(memory[scored]), 0
    for index in range(1, memory[scored] + 1):
        place = memory[scored + index]
        if is_locked_out(part, place) == 0:
            memory[rows + count] = memory[used + place]
            count += 1
    most = median_of(rows, count) if count > 0 else 0
    for index in range(1, memory[scored] + 1):
        place = memory[scored + index]
        memory[hits + place] = memory[hits + place] * smaller(memory[used + place], most)


def _settle_weights(part: int) -> None:
    """Take the weight of who is locked out or on probation; where too few are left, nobody is told apart."""
    count = 0
    for place in range(TRAINERS):
        at = part + Q_WEIGHTS + place
        if is_free(part, place) == 0:
            memory[at] = 0
        if memory[at] > 0:
            count += 1
    if count < WEIGHTED_MIN:
        for place in range(TRAINERS):
            memory[part + Q_WEIGHTS + place] = WEIGHT_MAX


# --- 3. the direction


def _take_records(part: int, number: int, began: int, after: int, vectors: int, told: int) -> int:
    """Write what the named records commit to; return how many, their vectors and the scores that they tell."""
    count = 0
    for steward in range(STEWARDS):
        entry, named = part + Q_STEWARDS + STEWARD_WORDS * steward, after + Q_STEWARDS + STEWARD_WORDS * steward
        if is_no_digest(named + RECORD_DIGEST) == 1:
            for index in range(RECORD_DIGEST, REGISTERED):
                memory[entry + index] = 0
        else:
            record = check_record(named + RECORD_DIGEST, number, PARAMETERS, entry, began)
            if memory[record + SAID_OPENED] == 1:
                memory[told] = memory[told] + 1
                memory[told + memory[told]] = memory[record + SAID_SCORE]
            for index in range(4):
                memory[entry + RECORD_DIGEST + index] = quality_word(named, RECORD_DIGEST + index)
            copy(entry + COMMITMENT, record + SAID_COMMITMENT, 4)
            copy(entry + REGISTERED, record + SAID_REGISTERED, 4)
            memory[vectors + count] = record + SAID_DIRECTION
            count += 1
    return count


def _aim(part: int, vectors: int, count: int) -> None:
    """Write the next direction; zeros where too few sent a record, or nothing can be scored."""
    direction = 0
    if 2 * count > STEWARDS:
        direction = scoring_direction(median_vector(vectors, count, PARAMETERS), PARAMETERS)
    if direction > 0:
        bound = bound_of_rows(memory[part + Q_NORM], ROWS_MAX)
        shift, unit, _ = score_scale(inner(direction, direction, PARAMETERS), bound)
        if unit == 0 or unit << shift >= REACH_MAX:
            direction = 0
    for index in range(PARAMETERS):
        memory[part + Q_DIRECTION + index] = 0 if direction == 0 else memory[direction + index]
