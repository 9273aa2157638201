"""A trainer's registration: which commitment a round uses, and that all commit to the same rows, in range.

docs/spec/run.md has its bytes, docs/spec/proofs.md, section 4.4, the relation.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import ext_mul, power_sum
from collegium.settlement.programs._hashing import (
    finish_hash,
    put_digest_field,
    put_integer_field,
    put_little,
    put_message,
    put_tag,
    start_hash,
)
from collegium.settlement.programs._plan import (
    P_LAYERS,
    P_LIMIT,
    P_PACK_ROUNDS,
    P_ROUNDS,
    P_ROWS_MAX,
    P_RULE_AT,
    P_RULE_BYTES,
    P_STATISTICS,
    shape,
    step_plan,
)
from collegium.settlement.programs._proof import begin_checks, begin_proof, end_checks
from collegium.settlement.programs._proof_cells import (
    CHI,
    DATA_ROOT,
    FEATURES,
    KEY_ROWS,
    LABELS,
    MODEL_BYTES,
    PLAN,
    RECORD,
    RECORD_BYTES,
    RELATIONS,
    RHO,
    ROOTS,
    ROUND,
    ROWS,
    SLOTS,
)
from collegium.settlement.programs._proof_labels import PROOF_TEXT, REGISTRATION_MORE, REGISTRATION_TEXT
from collegium.settlement.programs._proof_layout import (
    PIECE_WORDS,
    begin_layout,
    constrain,
    end_layout,
    look_up_flat,
    look_up_grid,
)
from collegium.settlement.programs._proof_loss import MINUS_ONE, alike, boolean
from collegium.settlement.programs._proof_step import declare_data, parameter_count, set_data_code
from collegium.settlement.programs._proof_sums import add_constant, add_samples, of_grid
from collegium.settlement.programs._proof_transcript import put_label, start_transcript
from collegium.settlement.programs._reading import digest_at, is_no_digest, little_at, same_digest, short_at, word_at
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._task import task_digest
from collegium.settlement.programs._words import byte_swap, fsub, memory

REGISTRATION_1 = 0x6D2F76312F726567  # "m/v1/reg"
REGISTRATION_2 = 0x697374726174696F  # "istratio"
REGISTRATION_3 = 0x6E00000000000000  # "n"
HEAD_BYTES = 14  # first round 8, rows 4, roots 2
ROOTS_AT = HEAD_BYTES + 32
SEEDS = 4096
FIRST_ROUND_MAX = 1 << 32


def read_registration(message: int, length: int) -> None:
    """Read a registration and put the root that this round uses into its cell; another one's form rejects."""
    memory[RECORD] = message
    memory[RECORD_BYTES] = length
    assert length > ROOTS_AT
    first, count = little_at(message, 0), short_at(message, 12)
    memory[ROWS] = byte_swap(word_at(message, 8) >> 32 << 32)
    others = 1 + has_previous()
    assert count > others and count - others <= step_plan(P_PACK_ROUNDS)
    assert 0 < first < FIRST_ROUND_MAX
    assert ROOTS_AT + 32 * count < length
    left = step_plan(P_ROUNDS) + 1 - first
    assert first <= step_plan(P_ROUNDS)
    assert count - others == (left if left < step_plan(P_PACK_ROUNDS) else step_plan(P_PACK_ROUNDS))
    assert 0 < memory[ROWS] <= step_plan(P_ROWS_MAX)
    assert first <= memory[ROUND] < first + count - others
    memory[DATA_ROOT] = allocate(4)
    digest_at(message, ROOTS_AT + 32 * (has_previous() + memory[ROUND] - first), memory[DATA_ROOT])


def has_previous() -> int:
    """Return 1 if the registration continues another one, else 0."""
    previous = allocate(4)
    digest_at(memory[RECORD], HEAD_BYTES, previous)
    return 1 - is_no_digest(previous)


def check_registration(trainer: int, trainer_bytes: int) -> None:
    """Reject unless the proof behind the registration verifies, for the account at `trainer`."""
    start = ROOTS_AT + 32 * short_at(memory[RECORD], 12)
    length = memory[RECORD_BYTES] - start
    check_rows(trainer, trainer_bytes, copy_bytes(memory[RECORD], start, length), length)


def copy_bytes(message: int, start: int, length: int) -> int:
    """Return the address of the whole words among so many bytes of a message."""
    made = allocate(length // 8 + 1)
    for index in range(length // 8):
        memory[made + index] = word_at(message, start + 8 * index)
    return made


def check_rows(account: int, account_bytes: int, proof: int, length: int) -> None:
    """Reject unless a proof shows that the registration's roots commit to the same rows, in range, of an account."""
    count = short_at(memory[RECORD], 12)
    read_roots(memory[RECORD], count)
    set_data_code()
    declare_rows(count)
    memory[RELATIONS] = 1
    memory[KEY_ROWS] = 0
    begin_proof(proof, length)
    context = registration_context()
    hashing = start_transcript()
    put_label(hashing, PROOF_TEXT, 0)
    put_label(hashing, REGISTRATION_TEXT, REGISTRATION_MORE)
    put_data_shape(hashing)
    put_account(hashing, account, account_bytes)
    put_digest_field(hashing, context)
    for tree in range(count):
        put_digest_field(hashing, memory[ROOTS] + 4 * tree)
    begin_checks(hashing)
    outputs = shape(step_plan(P_LAYERS) - 1, 1)
    if outputs > 1:
        a, b = memory[memory[CHI]], memory[memory[CHI] + 1]
        add_samples(of_grid(memory[LABELS], 1, 0), alike(outputs, a, b), memory[ROWS])
        c, d = power_sum(memory[RHO], memory[RHO + 1], memory[ROWS])
        a, b = ext_mul(a, b, c, d)
        add_constant(fsub(0, a), fsub(0, b))
    end_checks()


def read_roots(message: int, count: int) -> None:
    """Write the data trees' roots to where a proof's roots stand; two that are alike reject."""
    memory[ROOTS] = allocate(4 * (count + 3))
    for tree in range(count):
        root = memory[ROOTS] + 4 * tree
        digest_at(message, ROOTS_AT + 32 * tree, root)
        for other in range(memory[ROOTS], root, 4):
            assert same_digest(other, root) == 0


def declare_rows(count: int) -> None:
    """Declare the trees, and that all hold the same rows, the first one's in range."""
    seeds = allocate(count)
    rows_max = rows_of_tree()
    begin_layout(count, 2 * rows_max + count, 2 * rows_max * (count + 1))
    features, labels, seed = declare_data(0)
    memory[FEATURES] = features
    memory[LABELS] = labels
    memory[seeds] = seed
    look_up_grid(features, 2 * step_plan(P_LIMIT) + 1)
    boolean(labels)
    for tree in range(1, count):
        other_features, other_labels, seed = declare_data(tree)
        memory[seeds + tree] = seed
        constrain(1, features, 0, MINUS_ONE, other_features)
        constrain(1, labels, 0, MINUS_ONE, other_labels)
    for tree in range(count):
        look_up_flat(memory[seeds + tree], SEEDS)
    end_layout()


def rows_of_tree() -> int:
    """Return no fewer than the rows of a data tree: pieces are at most twice as wide as what they hold."""
    width = shape(0, 0) + shape(step_plan(P_LAYERS) - 1, 1)
    return 4 * (memory[ROWS] * width // memory[SLOTS] + width // memory[SLOTS] + 4 * PIECE_WORDS)


def registration_context() -> int:
    """Return the address of what binds a registration to its task and to the one that it continues."""
    previous = allocate(4)
    digest_at(memory[RECORD], HEAD_BYTES, previous)
    hashing = start_hash()
    put_tag(hashing, 25, REGISTRATION_1, REGISTRATION_2, REGISTRATION_3)
    put_digest_field(hashing, task_digest())
    put_integer_field(hashing, little_at(memory[RECORD], 0))
    put_digest_field(hashing, previous)
    return finish_hash(hashing)


def put_rule(hashing: int) -> None:
    """Add the rule's text, the parameters and the shape of the registered rows."""
    put_little(hashing, step_plan(P_RULE_BYTES))
    put_message(hashing, memory[PLAN] + step_plan(P_RULE_AT), 0, step_plan(P_RULE_BYTES))
    put_little(hashing, 4 * parameter_count())
    put_message(hashing, memory[MODEL_BYTES], step_plan(P_STATISTICS), 4 * parameter_count())
    put_data_shape(hashing)


def put_data_shape(hashing: int) -> None:
    """Add the shape of the registered rows."""
    put_integer_field(hashing, memory[ROWS])
    put_integer_field(hashing, shape(0, 0))
    put_integer_field(hashing, shape(step_plan(P_LAYERS) - 1, 1))
    put_integer_field(hashing, step_plan(P_LIMIT))
    put_integer_field(hashing, memory[SLOTS])


def put_account(hashing: int, account: int, size: int) -> None:
    """Add the field with an account, words in memory."""
    put_little(hashing, size)
    put_message(hashing, account, 0, size)
