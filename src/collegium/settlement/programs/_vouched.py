"""What is said of a report's proof: that it verifies.

Not judged here are the report's audit, its boxes, its signature, and whether its terms are those of the round.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD, ext_mul
from collegium.settlement.programs._hashing import put_digest_field, put_integer_field
from collegium.settlement.programs._plan import FIRST_CODE, LATER_CODE, NORM_BOUND, TRAINING, plan
from collegium.settlement.programs._proof import begin_checks, end_checks
from collegium.settlement.programs._proof_bounded import BOUNDED_RELATIONS, add_bounded, declare_bounded
from collegium.settlement.programs._proof_cells import (
    HASH,
    KEY_POINT,
    KEY_VALUES,
    MATRIX_SEED,
    NORM,
    OPENINGS,
    PADS,
    PREFIX,
    QUERIES,
    RELATIONS,
    REPORT_RECORD,
    ROUND,
    SLOTS,
    STEP,
    TRAINER,
)
from collegium.settlement.programs._proof_labels import BOUNDED_TEXT, KEY_TAG_TEXT, ROWS_LABEL
from collegium.settlement.programs._proof_layout import begin_layout, end_layout
from collegium.settlement.programs._proof_masked import KEY_PADS_LEN, KEY_SLOTS, add_mask, declare_mask
from collegium.settlement.programs._proof_transcript import draw_array, end_fields, put_label, start_transcript
from collegium.settlement.programs._reading import digest_field, is_no_digest, read_message, same_digest
from collegium.settlement.programs._registered import check_registration, read_registration
from collegium.settlement.programs._report import (
    R_AUDIT_ROOT,
    R_COMBINATION,
    R_COMMITTEE_ROOT,
    put_trainer,
    read_proof,
    read_report_of,
    start_statement,
)
from collegium.settlement.programs._room import mark_room, release
from collegium.settlement.programs._round import ACCOUNT_BYTES, R_CIPHERTEXT, R_PROOF, R_REGISTRATION, R_TERMS
from collegium.settlement.programs._trained import check_training
from collegium.settlement.programs._words import byte_swap, fadd, memory

DRAWN_KEY_ROWS = 4
KEY_DEGREE = KEY_SLOTS + KEY_PADS_LEN
LOOKUPS_OF_BOUNDED = 1 << 13  # k is near the root of 5 k lookups, and k lookups are below 2^26


def check_report(digest: int) -> None:
    """Reject unless the report behind a digest carries a proof, of what its task demands, that verifies."""
    read_report_of(digest)
    registration = digest_field(memory[REPORT_RECORD], R_REGISTRATION)
    if plan(TRAINING) == 0 or memory[ROUND] == 0:
        assert is_no_digest(registration) == 1
        check_bounded()
    else:
        assert is_no_digest(registration) == 0
        memory[STEP] = plan(TRAINING)
        message, length = read_message(registration)
        read_registration(message, length)
        check_registration(memory[TRAINER], ACCOUNT_BYTES)
        check_training()
    check_claim()


def check_bounded() -> None:
    """Reject unless the proof shows that every entry is in range."""
    memory[PREFIX] = 0
    set_code(FIRST_CODE if memory[ROUND] == 0 else LATER_CODE)
    memory[NORM] = plan(NORM_BOUND)
    begin_layout(0, LOOKUPS_OF_BOUNDED, 0)
    declare_mask()
    tensors = declare_bounded()
    end_layout()
    memory[RELATIONS] = BOUNDED_RELATIONS
    read_proof()
    hashing = start_statement(BOUNDED_TEXT)
    put_integer_field(hashing, memory[NORM])
    begin_checks(hashing)
    add_mask(memory[MATRIX_SEED])
    add_bounded(tensors)
    end_checks()


def set_code(at: int) -> None:
    """Take the code of a proof without data trees from the plan."""
    memory[SLOTS] = plan(at)
    memory[QUERIES] = plan(at + 1)
    memory[PADS] = plan(at + 2)
    memory[OPENINGS] = 1


def check_claim() -> None:
    """Reject unless the published combination of the key rows takes at the key point what the proof said of them."""
    report = memory[REPORT_RECORD]
    hashing = start_transcript()
    put_label(hashing, KEY_TAG_TEXT, 0)
    put_digest_field(hashing, digest_field(report, R_TERMS))
    put_trainer(hashing)
    put_digest_field(hashing, digest_field(report, R_CIPHERTEXT))
    put_digest_field(hashing, digest_field(report, R_COMMITTEE_ROOT))
    put_digest_field(hashing, digest_field(report, R_AUDIT_ROOT))
    put_digest_field(hashing, digest_field(report, R_PROOF))
    end_fields()
    factors = draw_array(ROWS_LABEL, 0, DRAWN_KEY_ROWS)
    message, length = read_message(digest_field(report, R_COMBINATION))
    assert length == 16 * KEY_DEGREE
    z_0, z_1 = memory[KEY_POINT], memory[KEY_POINT + 1]
    published_0, published_1, index = 0, 0, KEY_DEGREE
    while index > 0:
        index -= 1
        a, b = byte_swap(memory[message + index]), byte_swap(memory[message + KEY_DEGREE + index])
        assert a < FIELD and b < FIELD
        published_0, published_1 = ext_mul(published_0, published_1, z_0, z_1)
        published_0, published_1 = fadd(published_0, a), fadd(published_1, b)
    claimed_0, claimed_1 = key_values_combined(factors)
    assert published_0 == claimed_0 and published_1 == claimed_1


def key_values_combined(factors: int) -> tuple[int, int]:
    """Return the sum of factor times key value, 1 and x for the two mask rows."""
    values = memory[KEY_VALUES]
    a, b = memory[values + 2 * DRAWN_KEY_ROWS], memory[values + 2 * DRAWN_KEY_ROWS + 1]
    c, d = ext_mul(memory[values + 2 * DRAWN_KEY_ROWS + 2], memory[values + 2 * DRAWN_KEY_ROWS + 3], 0, 1)
    a, b = fadd(a, c), fadd(b, d)
    for row in range(DRAWN_KEY_ROWS):
        c, d = ext_mul(
            memory[factors + 2 * row],
            memory[factors + 2 * row + 1],
            memory[values + 2 * row],
            memory[values + 2 * row + 1],
        )
        a, b = fadd(a, c), fadd(b, d)
    return a, b


def check_report_of(digest: int, number: int, terms: int) -> None:
    """Do what `check_report` does with one of several reports of a round, under its terms; keep nothing of it."""
    mark = mark_room()
    check_report(digest)
    assert memory[ROUND] == number
    assert same_digest(digest_field(memory[REPORT_RECORD], R_TERMS), terms) == 1
    memory[HASH] = 0
    release(mark)
