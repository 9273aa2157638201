"""A model state's part about quality (docs/spec/quality.md, section 9), in words from its start.

In memory a part is either as SHA-256 takes it, each word with a number's bytes, the lowest first, or *counted*: each
word the number itself, in two's complement. Columns have a number a trainer.
"""

from __future__ import annotations

from collegium.settlement.programs._reading import read_message
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._task import ENTRIES, FIRST_ENTRIES, STEWARDS, TRAINERS
from collegium.settlement.programs._words import byte_swap, memory

Q_ROUND = 3
Q_COUNTS = 4  # of trainers, stewards, parameters
Q_NORM = 7  # C
Q_MODEL = 8  # round, scores and score of the model that was last told about
Q_STANDING_ROUND = 11
Q_SIGNAL = 12
Q_FIRST_SIGNAL = 13
Q_ACCOUNTS = 14
ACCOUNT_WORDS = 3
Q_WEIGHTS = Q_ACCOUNTS + ACCOUNT_WORDS * TRAINERS
Q_SCORES = Q_WEIGHTS + TRAINERS
Q_COLUMNS = Q_SCORES + TRAINERS
# columns of the standing
PRECISION = 0
INFORMATION = 1
BASELINE = 2
WINDOW_PRECISION = 3
WINDOW_INFORMATION = 4
SCORED = 5
REPORTS = 6
LOCKED_UNTIL = 7
LOCKS = 8
IS_VETTED = 9
POINTS = 10
COLUMNS = 11
Q_STEWARDS = Q_COLUMNS + COLUMNS * TRAINERS
STEWARD_WORDS = 15  # account, record's digest, commitment, what its rows are registered as
RECORD_DIGEST = 3
COMMITMENT = 7
REGISTERED = 11
Q_DIRECTION = Q_STEWARDS + STEWARD_WORDS * STEWARDS
Q_WORDS = Q_DIRECTION + ENTRIES - 1
NO_SCORE = 1 << 63  # -2^63
STILL_MAX = 3  # so many rounds without a sum change nothing
QUALITY_AT = (8 * FIRST_ENTRIES + 4 * (ENTRIES - 1) + 7) // 8  # at which word of a model state its part begins


def read_part(digest: int) -> int:
    """Return the part about quality of the model state behind a digest, which has its length, zeros before the part."""
    state, size = read_message(digest)
    assert size == 8 * (QUALITY_AT + Q_WORDS)
    assert (ENTRIES - 1) & 1 == 0 or memory[state + QUALITY_AT - 1] & 0xFFFFFFFF == 0
    return state + QUALITY_AT


def quality_word(part: int, index: int) -> int:
    """Return a number of a part as SHA-256 takes it."""
    return byte_swap(memory[part + index])


def counted(part: int) -> int:
    """Return a part with each word the number itself."""
    made = allocate(Q_WORDS)
    for index in range(Q_WORDS):
        memory[made + index] = quality_word(part, index)
    return made


def is_still(part: int, number: int) -> int:
    """Return 1 if so many rounds left a counted part as it is that in this one the weightless help out, else 0."""
    return 1 if number > memory[part + Q_ROUND] + 1 + STILL_MAX else 0


def column(part: int, number: int) -> int:
    """Return the address of a column of the standing."""
    return part + Q_COLUMNS + number * TRAINERS
