"""The proof of a training step: the statement about registered rows, the model and the batch that the beacon chose."""

from __future__ import annotations

from collegium.settlement.programs._directions import DIRECTION_BITS, bound_of_rows, inner, score_scale
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
    NAME_WORDS,
    P_DIRECTION_AT,
    P_NAMES,
    P_NAMES_AT,
    P_QUALITY_AT,
    step_plan,
)
from collegium.settlement.programs._proof import begin_checks, end_checks
from collegium.settlement.programs._proof_cells import (
    BEACON,
    CHOSEN,
    CHOSEN_COUNT,
    DATA_ROOT,
    DIRECTION,
    FEATURES,
    HASH,
    LABELS,
    MATRIX_SEED,
    MODEL_BYTES,
    PLAN,
    PREFIX,
    RECORD,
    RELATIONS,
    REPORT_RECORD,
    ROOTS,
    ROUND,
    ROWS,
    SCORE,
    SHIFT,
    SIGMA,
    TERMS_RECORD,
    TRAINER,
    TURN,
)
from collegium.settlement.programs._proof_labels import TRAINING_TEXT
from collegium.settlement.programs._proof_layout import begin_layout, end_layout
from collegium.settlement.programs._proof_masked import MASK_RELATIONS, add_mask, declare_mask, update_scale
from collegium.settlement.programs._proof_score import (
    SCORE_RELATIONS,
    SEEDS,
    add_score,
    check_reach,
    declare_score,
    put_score,
)
from collegium.settlement.programs._proof_step import (
    add_gradient,
    add_step,
    choose_rows,
    declare_data,
    declare_step,
    parameter_count,
    read_model,
    set_data_code,
    step_relations,
)
from collegium.settlement.programs._proof_sums import add_constant
from collegium.settlement.programs._quality_state import NO_SCORE, Q_NORM, quality_word
from collegium.settlement.programs._reading import (
    TAG_0,
    WORD,
    copy_digest,
    digest_field,
    little_at,
    read_message,
    short_at,
)
from collegium.settlement.programs._registered import put_rule
from collegium.settlement.programs._report import read_proof, start_statement
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import R_PROOF, T_MODEL
from collegium.settlement.programs._signed import size_of
from collegium.settlement.programs._task import task_digest
from collegium.settlement.programs._words import byte_swap, fmul, keccak, memory

LOOKUPS_OF_TRAINING = 1 << 15
MONOMIALS_OF_TRAINING = 1 << 15
BATCH = 0x6D2F76312F626174  # "m/v1/bat"
BATCH_END = 0x6368000000000000  # "ch"
PREFIX_WORDS = 2  # a score, and of how many rows
BATCH_TEXT = 0x6261746368000000  # "batch"
LEARNING = 0x6D2F76312F6C6561  # "m/v1/lea"
LEARNING_END = 0x726E696E672F0000  # "rning/"
RATE_LANES = 17  # of SHAKE256


def check_training() -> None:
    """Reject unless the proof shows that the update is the rule's on the registered rows, and its score."""
    set_data_code()
    begin_layout(1, LOOKUPS_OF_TRAINING, MONOMIALS_OF_TRAINING)
    features, labels, seed = declare_data(0)
    memory[FEATURES] = features
    memory[LABELS] = labels
    declare_mask()
    declare_step()
    memory[RELATIONS] = MASK_RELATIONS + step_relations()
    read_model(digest_field(memory[TERMS_RECORD], T_MODEL))
    choose_rows(stream_of_rows(batch_seed()))
    read_demand()
    if memory[DIRECTION] > 0:
        declare_score(seed)
        memory[RELATIONS] = memory[RELATIONS] + SCORE_RELATIONS
    end_layout()
    read_proof()
    copy_digest(memory[ROOTS], memory[DATA_ROOT])
    put_statement()
    begin_checks(memory[HASH])
    add_mask(memory[MATRIX_SEED])
    add_step(MASK_RELATIONS)
    a, b = update_scale(0)
    a, b = add_gradient(a, b)
    add_constant(fmul(a, memory[CHOSEN_COUNT]), fmul(b, memory[CHOSEN_COUNT]))
    if memory[DIRECTION] > 0:
        add_score()
    end_checks()


def put_statement() -> None:
    """Begin the transcript with the statement's fields."""
    packed = packed_rows()
    hashing = start_statement(TRAINING_TEXT)
    put_rule(hashing)
    put_little(hashing, (memory[ROWS] + 7) // 8)
    put_message(hashing, packed, 0, (memory[ROWS] + 7) // 8)
    if memory[DIRECTION] > 0:
        check_reach()
        put_score(hashing)
    put_digest_field(hashing, memory[DATA_ROOT])


def read_demand() -> None:
    """Read what score is demanded: none unless the model state has a direction; then what stands before a proof.

    There is none either of rows that were registered in this very round: their owner would choose the noise.
    """
    memory[DIRECTION] = 0
    memory[PREFIX] = 0
    direction = read_direction()
    if direction == 0:
        return
    memory[PREFIX] = PREFIX_WORDS
    prefix, length = read_message(digest_field(memory[REPORT_RECORD], R_PROOF))
    assert length > 8 * PREFIX_WORDS
    memory[SCORE] = byte_swap(memory[prefix])
    assert byte_swap(memory[prefix + 1]) == memory[CHOSEN_COUNT]
    if little_at(memory[RECORD], 0) == memory[ROUND]:
        assert memory[SCORE] == NO_SCORE
        return
    assert memory[SCORE] != NO_SCORE
    norm = quality_word(memory[MODEL_BYTES] + step_plan(P_QUALITY_AT), Q_NORM)
    shift, unit, sigma = score_scale(
        inner(direction, direction, parameter_count()), bound_of_rows(norm, memory[CHOSEN_COUNT])
    )
    assert unit > 0
    memory[SHIFT] = shift
    memory[SIGMA] = sigma
    memory[TURN] = short_at(memory[BEACON], 0) % SEEDS
    memory[DIRECTION] = direction


def read_direction() -> int:
    """Return the address of the model state's direction, a signed word an entry, 0 where it has none."""
    entries, any_entry = parameter_count(), 0
    if step_plan(P_QUALITY_AT) == 0:
        return 0
    direction = allocate(entries)
    for index in range(entries):
        entry = quality_word(memory[MODEL_BYTES] + step_plan(P_DIRECTION_AT), index)
        assert size_of(entry) <= 1 << DIRECTION_BITS
        memory[direction + index] = entry
        any_entry |= entry
    return 0 if any_entry == 0 else direction


def batch_seed() -> int:
    """Return the address of the beacon's word for this trainer's batch of this round."""
    found = memory[PLAN] + step_plan(P_NAMES_AT)
    end = found + NAME_WORDS * step_plan(P_NAMES)
    while found < end and not is_trainer(found):
        found += NAME_WORDS
    assert found < end
    hashing = start_hash()
    put_tag(hashing, 18, BATCH, BATCH_END, 0)
    put_digest_field(hashing, task_digest())
    put_integer_field(hashing, memory[ROUND])
    put_digest_field(hashing, memory[BEACON])
    put_little(hashing, memory[found + 3])
    put_message(hashing, memory[PLAN] + memory[found + 4], 0, memory[found + 3])
    return finish_hash(hashing)


def is_trainer(account: int) -> int:
    """Say whether three words are the trainer's account."""
    trainer = memory[TRAINER]
    return (
        memory[account] == memory[trainer]
        and memory[account + 1] == memory[trainer + 1]
        and memory[account + 2] == memory[trainer + 2]
    )


def stream_of_rows(seed: int) -> int:
    """Return the address of a word for each row: SHAKE256 of "batch", a seed and the step's number, 0, all framed."""
    text, sponge, words = allocate(RATE_LANES), allocate(32), allocate(memory[ROWS])
    at = put_text(text, 0, TAG_0, 8)
    at = put_text(text, at, LEARNING, 8)
    at = put_text(text, at, LEARNING_END, 6)
    at = put_text(text, at, byte_swap(5), 8)
    at = put_text(text, at, BATCH_TEXT, 5)
    at = put_text(text, at, byte_swap(32), 8)
    for index in range(4):
        at = put_text(text, at, memory[seed + index], 8)
    at = put_text(text, at, byte_swap(8), 8)
    at = put_text(text, at, 0, 8)
    put_text(text, at, 0x1F << 56, 1)
    for lane in range(RATE_LANES):
        memory[sponge + lane] = byte_swap(memory[text + lane])
    memory[sponge + RATE_LANES - 1] = memory[sponge + RATE_LANES - 1] | 0x8000000000000000
    lane = RATE_LANES
    for index in range(memory[ROWS]):
        if lane == RATE_LANES:
            keccak(sponge)
            lane = 0
        memory[words + index] = memory[sponge + lane]
        lane += 1
    return words


def put_text(text: int, at: int, word: int, count: int) -> int:
    """Write the `count` highest bytes of a word, zeros behind them, at a byte of memory; return where they end."""
    place, shift = text + (at >> 3), (at & 7) << 3
    memory[place] = memory[place] | word >> shift
    if shift > 0:
        memory[place + 1] = (word << (64 - shift)) & WORD
    return at + count


def packed_rows() -> int:
    """Return the address of the chosen rows as bits, the first the highest."""
    packed = allocate((memory[ROWS] + 63) // 64)
    for row in range(memory[ROWS]):
        place = packed + (row >> 6)
        memory[place] = memory[place] | memory[memory[CHOSEN] + row] << (63 - (row & 63))
    return packed
