"""What stands behind a steward's record: its rows' registration, and an evaluation on them (docs/spec/quality.md, 11).

The order of the checks is `StewardProving.check`'s, of the task's node.
"""

from __future__ import annotations

from collegium.settlement.programs._directions import NORM_BITS, bring_to_bits, inner, largest_of, root_of
from collegium.settlement.programs._evaluated import CLAIM_GRADIENT, CLAIM_RIGHT, check_evaluation
from collegium.settlement.programs._hashing import (
    finish_hash,
    put_digest_field,
    put_integer_field,
    put_little,
    put_long_tag,
    put_message,
    put_tag,
    start_hash,
)
from collegium.settlement.programs._plan import (
    E_ROWS_MAX,
    E_SHARD_ROUNDS,
    E_SHARDS,
    P_PACK_ROUNDS,
    P_ROUNDS,
    evaluation_plan,
    step_plan,
)
from collegium.settlement.programs._proof_cells import RECORD, RECORD_BYTES, ROWS
from collegium.settlement.programs._proof_step import parameter_count
from collegium.settlement.programs._proof_transcript import put_words
from collegium.settlement.programs._quality_state import ACCOUNT_WORDS, RECORD_DIGEST
from collegium.settlement.programs._reading import (
    digest_at,
    is_no_digest,
    little_at,
    read_message,
    same_digest,
    short_at,
    swapped,
    word_at,
)
from collegium.settlement.programs._registered import ROOTS_AT, check_rows, copy_bytes, has_previous
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import ACCOUNT_BYTES
from collegium.settlement.programs._signed import divide_down
from collegium.settlement.programs._steward_record import (
    RECORD_1,
    SAID_ACCOUNT,
    SAID_COMMITMENT,
    SAID_DIRECTION,
    SAID_EVIDENCE,
    SAID_REGISTERED,
    score_commitment,
)
from collegium.settlement.programs._task import task_digest
from collegium.settlement.programs._words import memory

REGISTERED_2 = 0x776172642D726567  # "ward-reg"
REGISTERED_3 = 0x697374726174696F  # "istratio"
REGISTERED_4 = 0x6E00000000000000  # "n"
REGISTERED_ALL = 0x6E73000000000000  # "ns"
EVALUATION_2 = 0x776172642D657661  # "ward-eva"
EVALUATION_3 = 0x6C756174696F6E00  # "luation"
COUNTS_BYTES = 16  # shards, registration, its proof, parameters
SAID_BYTES = 16  # loss, rows classified right
DIGEST_BYTES = 32
SHARDS_MAX = 256
ONE_SCORE = 1 << 16
# words of evidence that is read
AT_DIGESTS = 0  # byte of the shards' digests, of the registration, of its proof's digest, of its proof, of the claim
AT_HEAD = 1
AT_DIGEST = 2
AT_PROOF = 3
AT_SAID = 4
AT_END = 5
SHARDS = 6
MESSAGE = 7
LENGTH = 8


def is_known(entry: int, began: int, number: int) -> int:
    """Return 1 if the last record of a steward, whose entry in a state of round `began` this is, was of one shard."""
    return 1 if is_no_digest(entry + RECORD_DIGEST) == 0 and shard_of(began) == shard_of(number) else 0


def shard_of(number: int) -> int:
    """Return which shard measures the model that a round starts from."""
    rounds = evaluation_plan(E_SHARD_ROUNDS)
    return 0 if rounds == 0 else (number - 1) // rounds


def check_evidence(record: int, number: int, known: int) -> None:
    """Reject unless what stands behind a record proves what it says; `known`: its shard's rows have been proved."""
    evidence = read_evidence(swapped(record + SAID_EVIDENCE, 4))
    account, message = swapped(record + SAID_ACCOUNT, ACCOUNT_WORDS), memory[evidence + MESSAGE]
    assert same_digest(registered_as(evidence), swapped(record + SAID_REGISTERED, 4)) == 1
    check_shard(evidence, number)
    size = memory[evidence + AT_SAID] - memory[evidence + AT_PROOF]
    assert known == (1 if size == 0 else 0)
    if known == 0:
        check_registered(evidence, account, size)
    claim = read_claim(message, memory[evidence + AT_SAID])
    start = memory[evidence + AT_END]
    length, root = memory[evidence + LENGTH] - start, allocate(4)
    digest_at(memory[RECORD], ROOTS_AT + DIGEST_BYTES * (number - little_at(memory[RECORD], 0)), root)
    check_evaluation(account, evaluation_context(number), root, claim, copy_bytes(message, start, length), length)
    check_direction(claim + CLAIM_GRADIENT, record + SAID_DIRECTION)
    score = memory[claim + CLAIM_RIGHT] * ONE_SCORE // memory[ROWS]
    assert same_digest(score_commitment(account, number, score, allocate(4)), swapped(record + SAID_COMMITMENT, 4)) == 1


def read_evidence(digest: int) -> int:
    """Return where the parts of the evidence behind a digest begin."""
    evidence = allocate(9)
    message, length = read_message(digest)
    memory[evidence + MESSAGE] = message
    memory[evidence + LENGTH] = length
    assert length >= COUNTS_BYTES
    shards, head = little_at(message, 0) & 0xFFFFFFFF, little_at(message, 0) >> 32
    proof, entries = little_at(message, 8) & 0xFFFFFFFF, little_at(message, 8) >> 32
    assert 0 < shards <= SHARDS_MAX and entries == parameter_count()
    memory[evidence + SHARDS] = shards
    memory[evidence + AT_DIGESTS] = COUNTS_BYTES
    memory[evidence + AT_HEAD] = COUNTS_BYTES + DIGEST_BYTES * shards
    memory[evidence + AT_DIGEST] = memory[evidence + AT_HEAD] + head
    memory[evidence + AT_PROOF] = memory[evidence + AT_DIGEST] + DIGEST_BYTES
    memory[evidence + AT_SAID] = memory[evidence + AT_PROOF] + proof
    memory[evidence + AT_END] = memory[evidence + AT_SAID] + SAID_BYTES + 8 * entries
    assert memory[evidence + AT_END] < length
    return evidence


def registered_as(evidence: int) -> int:
    """Return the address of the digest of all shards' registrations."""
    hashing, size = start_hash(), DIGEST_BYTES * memory[evidence + SHARDS]
    put_long_tag(hashing, 34, RECORD_1, REGISTERED_2, REGISTERED_3, REGISTERED_ALL)
    put_little(hashing, size)
    put_message(hashing, memory[evidence + MESSAGE], memory[evidence + AT_DIGESTS], size)
    return finish_hash(hashing)


def check_shard(evidence: int, number: int) -> None:
    """Reject unless the registration is that of the round's shard, for its rounds; read it into its cells."""
    message, start, each = memory[evidence + MESSAGE], memory[evidence + AT_HEAD], evaluation_plan(E_SHARD_ROUNDS)
    size, shard, last = memory[evidence + AT_DIGEST] - start, shard_of(number), step_plan(P_ROUNDS)
    assert memory[evidence + SHARDS] == evaluation_plan(E_SHARDS) and size >= ROOTS_AT
    memory[RECORD] = allocate(size // 8 + 2)
    for index in range((size + 7) // 8):
        memory[memory[RECORD] + index] = word_at(message, start + 8 * index)
    memory[RECORD_BYTES] = size
    first = shard * each + 1
    rounds = last + 1 - first
    if 0 < each < rounds:
        rounds = each
    assert number <= last and rounds <= step_plan(P_PACK_ROUNDS) and has_previous() == 0
    assert little_at(memory[RECORD], 0) == first and short_at(memory[RECORD], 12) == rounds + 1
    assert size == ROOTS_AT + DIGEST_BYTES * (rounds + 1)
    memory[ROWS] = little_at(memory[RECORD], 8) & 0xFFFFFFFF
    assert 0 < memory[ROWS] <= evaluation_plan(E_ROWS_MAX)
    expected, hashing = allocate(4), start_hash()
    digest_at(message, memory[evidence + AT_DIGESTS] + DIGEST_BYTES * shard, expected)
    put_long_tag(hashing, 33, RECORD_1, REGISTERED_2, REGISTERED_3, REGISTERED_4)
    put_little(hashing, size)
    put_message(hashing, message, start, size)
    put_little(hashing, DIGEST_BYTES)
    put_message(hashing, message, memory[evidence + AT_DIGEST], DIGEST_BYTES)
    assert same_digest(finish_hash(hashing), expected) == 1


def check_registered(evidence: int, account: int, size: int) -> None:
    """Reject unless the registration's proof is the one that is named, and verifies."""
    expected, hashing, message = allocate(4), start_hash(), memory[evidence + MESSAGE]
    assert size & 7 == 0
    proof = copy_bytes(message, memory[evidence + AT_PROOF], size)
    digest_at(message, memory[evidence + AT_DIGEST], expected)
    put_words(hashing, proof, size >> 3)
    assert same_digest(finish_hash(hashing), expected) == 1
    check_rows(account, ACCOUNT_BYTES, proof, size)


def read_claim(message: int, start: int) -> int:
    """Return a claim: loss, rows classified right, and the gradient, counted words."""
    words = CLAIM_GRADIENT + parameter_count()
    claim = allocate(words)
    for index in range(words):
        memory[claim + index] = little_at(message, start + 8 * index)
    return claim


def evaluation_context(number: int) -> int:
    """Return the address of what binds an evaluation to its task and round."""
    hashing = start_hash()
    put_tag(hashing, 31, RECORD_1, EVALUATION_2, EVALUATION_3)
    put_digest_field(hashing, task_digest())
    put_integer_field(hashing, number)
    return finish_hash(hashing)


def check_direction(gradient: int, direction: int) -> None:
    """Reject unless a gradient, which is changed, is at norm 2^20 what a record says."""
    entries = parameter_count()
    assert largest_of(gradient, entries) > 0
    bring_to_bits(gradient, entries, NORM_BITS)
    norm = root_of(0, inner(gradient, gradient, entries))
    for index in range(entries):
        assert divide_down(memory[gradient + index] << NORM_BITS, norm) == memory[direction + index]
