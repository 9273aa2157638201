"""A report and what it names, read into the cells: its terms, c, the proof; and how a statement about it begins.

Everything follows from the report's id and from what the task has fixed.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import bit_length
from collegium.settlement.programs._hashing import finish_hash, put_digest_field, put_integer_field, put_tag, start_hash
from collegium.settlement.programs._masking import CHECK_BLOCKS, NOISE_BOUND, RING, matrix_seed
from collegium.settlement.programs._plan import LANE_COUNT, RULE, plan
from collegium.settlement.programs._proof import begin_proof
from collegium.settlement.programs._proof_cells import (
    BEACON,
    BLOCKS,
    CIPHERTEXT,
    KEY_ROWS,
    LANE_BITS,
    MATRIX_SEED,
    NOISE_BITS,
    PLAN,
    PREFIX,
    REPORT_RECORD,
    ROOTS,
    ROUND,
    TERMS_RECORD,
    TRAINER,
    TREES,
    UPDATE_BOUND,
    UPDATE_ENTRIES,
    UPDATE_LANES,
)
from collegium.settlement.programs._proof_labels import PROOF_TEXT
from collegium.settlement.programs._proof_masked import KEY_PADS_LEN, KEY_SLOTS
from collegium.settlement.programs._proof_transcript import put_label, start_transcript
from collegium.settlement.programs._reading import (
    digest_at,
    digest_field,
    field_size,
    field_start,
    integer_field,
    is_no_digest,
    read_fields,
    read_message,
    same_digest,
)
from collegium.settlement.programs._registered import put_account
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    ACCOUNT_BYTES,
    R_CIPHERTEXT,
    R_PROOF,
    R_ROUND,
    R_TASK,
    R_TERMS,
    R_TRAINER,
    REPORT,
    REPORT_END,
    REPORT_FIELDS,
    T_BEACON,
    T_LANES,
    T_MODEL,
    read_terms,
)
from collegium.settlement.programs._task import TRAINERS_MAX, bound_of, entries_of, task_digest, weight_max
from collegium.settlement.programs._words import memory

R_COMMITTEE_ROOT = 5
R_AUDIT_ROOT = 6
R_COMBINATION = 10
MATRIX = 0x6D2F76312F6D6174  # "m/v1/mat"
MATRIX_END = 0x7269780000000000  # "rix"
ALL_KEY_ROWS = 6  # with the two rows that mask the combination


def read_report_of(digest: int) -> None:
    """Read a report, its terms and c, and put what they say into their cells."""
    report = read_fields(digest, REPORT_FIELDS, 19, REPORT, REPORT_END, 0)
    number = integer_field(report, R_ROUND)
    terms = read_terms(digest_field(report, R_TERMS), number)
    memory[REPORT_RECORD] = report
    memory[TERMS_RECORD] = terms
    memory[ROUND] = number
    assert same_digest(digest_field(report, R_TASK), task_digest()) == 1
    assert field_size(report, R_TRAINER) == ACCOUNT_BYTES
    memory[TRAINER] = allocate(4)
    digest_at(memory[report], field_start(report, R_TRAINER), memory[TRAINER])
    memory[memory[TRAINER] + 2] = memory[memory[TRAINER] + 2] >> 32 << 32
    assert integer_field(terms, T_LANES) == plan(LANE_COUNT)
    memory[UPDATE_ENTRIES] = entries_of(number)
    memory[UPDATE_BOUND] = bound_of(number)
    memory[UPDATE_LANES] = plan(LANE_COUNT)
    most = TRAINERS_MAX * weight_max(number)
    memory[NOISE_BITS] = bit_length(NOISE_BOUND * most) + 1
    memory[LANE_BITS] = bit_length(bound_of(number) * most) + 1
    slots = (memory[UPDATE_ENTRIES] + memory[UPDATE_LANES] - 1) // memory[UPDATE_LANES]
    memory[BLOCKS] = CHECK_BLOCKS + (slots + RING - 1) // RING
    memory[BEACON] = digest_field(terms, T_BEACON)
    memory[MATRIX_SEED] = matrix_seed(number, memory[BEACON])
    memory[CIPHERTEXT], length = read_message(digest_field(report, R_CIPHERTEXT))
    assert length == 8 * RING * memory[BLOCKS]


def key_root() -> int:
    """Return the address of the one digest that commits to the report's key matrix."""
    hashing = start_hash()
    put_tag(hashing, 19, MATRIX, MATRIX_END, 0)
    put_digest_field(hashing, digest_field(memory[REPORT_RECORD], R_COMMITTEE_ROOT))
    put_digest_field(hashing, digest_field(memory[REPORT_RECORD], R_AUDIT_ROOT))
    return finish_hash(hashing)


def read_proof() -> None:
    """Read the proof that the report names, behind what stands before it."""
    digest = digest_field(memory[REPORT_RECORD], R_PROOF)
    assert is_no_digest(digest) == 0
    memory[KEY_ROWS] = ALL_KEY_ROWS
    memory[ROOTS] = allocate(4 * (memory[TREES] + 3))
    message, length = read_message(digest)
    begin_proof(message + memory[PREFIX], length - 8 * memory[PREFIX])


def start_statement(text: int) -> int:
    """Return the hash of a transcript that begins with a relation's name and what a masked update is about."""
    report, terms = memory[REPORT_RECORD], memory[TERMS_RECORD]
    root = key_root()
    hashing = start_transcript()
    put_label(hashing, PROOF_TEXT, 0)
    put_label(hashing, text, 0)
    put_digest_field(hashing, digest_field(report, R_TASK))
    put_integer_field(hashing, memory[ROUND])
    put_trainer(hashing)
    put_digest_field(hashing, digest_field(report, R_TERMS))
    put_digest_field(hashing, digest_field(terms, T_MODEL))
    put_digest_field(hashing, memory[PLAN] + RULE)
    put_digest_field(hashing, digest_field(report, R_CIPHERTEXT))
    put_digest_field(hashing, root)
    put_integer_field(hashing, memory[UPDATE_ENTRIES])
    put_integer_field(hashing, memory[UPDATE_BOUND])
    put_integer_field(hashing, memory[UPDATE_LANES])
    put_integer_field(hashing, memory[LANE_BITS])
    put_integer_field(hashing, memory[NOISE_BITS])
    put_integer_field(hashing, memory[BLOCKS])
    put_integer_field(hashing, KEY_SLOTS)
    put_integer_field(hashing, KEY_PADS_LEN)
    return hashing


def put_trainer(hashing: int) -> None:
    """Add the field with the trainer's account."""
    put_account(hashing, memory[TRAINER], ACCOUNT_BYTES)
