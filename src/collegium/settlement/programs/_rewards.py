"""Public work: what a header says of earnings is what its round adds to what the header before says.

A round of training that opened pays the budget, split by points: those that the state of quality has more after it than
before, or where the task has no stewards one for each trainer whose report it adds with weight. Amounts are two words,
the lower first, as are budgets. Not judged: registrations of another chain.
"""

from __future__ import annotations

from collegium.settlement.programs._hashing import (
    finish_hash,
    put_bytes,
    put_little,
    put_message,
    put_tag,
    put_word,
    restart_hash,
    start_hash,
)
from collegium.settlement.programs._quality_state import POINTS, column, read_part
from collegium.settlement.programs._reading import (
    TAG_0,
    copy_digest,
    digest_at,
    digest_field,
    field_size,
    field_start,
    little_at,
    put_digest,
    read_fields,
    read_message,
    same_bytes,
    same_digest,
    word_at,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    ACCOUNT_BYTES,
    C_WEIGHTS,
    H_MODEL,
    H_REWARDS,
    OPENED,
    R_TRAINER,
    count_reports,
    outcome_of,
    read_before,
    read_close,
    read_header,
    read_report,
)
from collegium.settlement.programs._task import STEWARDS, TRAINERS
from collegium.settlement.programs._words import accept, byte_swap, memory, mul_high, signed_less

BUDGET_0: int  # of a round
BUDGET_1: int
COHORT_0: int  # the digest of the trainers' accounts, one after the other
COHORT_1: int
COHORT_2: int
COHORT_3: int
PAYEES_0: int  # of where and to whom each is paid, one after the other
PAYEES_1: int
PAYEES_2: int
PAYEES_3: int
REWARD = 0x6D2F76312F726577  # "m/v1/rew"
REWARD_END = 0x6172640000000000  # "ard"
NODE_1 = 0x6D2F76312F6E6F64  # "m/v1/nod"
NODE_BYTES = 82  # tag of 18, two digests
NODE_TAG_BYTES = 18
L_AMOUNT = 2
LINE_FIELDS = 4
PAYEE_BYTES = 84  # chain 32, account 20, licence 32
WORD_BYTES = 32
POINTS_MAX = (1 << 62) - 1
PRODUCT_BITS = 160


def main() -> None:
    """Accept if what the header says of earnings is right."""
    header = read_header(0)
    before = read_before(header)
    said = digest_field(header, H_REWARDS)
    if before == 0:
        assert same_digest(root_of(allocate(2 * TRAINERS)), said) == 1
        accept()
    known = digest_field(before, H_REWARDS)
    if outcome_of(header) != OPENED:
        assert same_digest(known, said) == 1
        accept()
    amounts = _read_amounts(known)
    assert same_digest(root_of(amounts), known) == 1
    points = allocate(TRAINERS)
    if STEWARDS > 0:
        _count_scores(points, digest_field(before, H_MODEL), digest_field(header, H_MODEL))
    else:
        _count_reports(points, read_close(header))
    pay(amounts, points)
    assert same_digest(root_of(amounts), said) == 1
    accept()


def _leaves() -> int:
    """Return how many leaves the tree has: a power of two."""
    leaves = 1
    while leaves < TRAINERS:
        leaves += leaves
    return leaves


def _read_amounts(root: int) -> int:
    """Return the address of what every line of a tree says, two words each."""
    nodes, leaves, width = allocate(4 * _leaves()), _leaves(), 1
    copy_digest(nodes, root)
    while width < leaves:
        for index in range(width - 1, -1, -1):
            if index * (leaves // width) < TRAINERS:
                message, size = read_message(nodes + 4 * index)
                assert size == NODE_BYTES
                digest_at(message, NODE_TAG_BYTES, nodes + 8 * index)
                digest_at(message, NODE_TAG_BYTES + 32, nodes + 8 * index + 4)
        width += width
    amounts = allocate(2 * TRAINERS)
    for index in range(TRAINERS):
        line = read_fields(nodes + 4 * index, LINE_FIELDS, 19, REWARD, REWARD_END, 0)
        assert field_size(line, L_AMOUNT) == WORD_BYTES
        memory[amounts + 2 * index] = word_at(memory[line], field_start(line, L_AMOUNT) + 24)
        memory[amounts + 2 * index + 1] = word_at(memory[line], field_start(line, L_AMOUNT) + 16)
    return amounts


def root_of(amounts: int) -> int:
    """Return the address of the root over all trainers' lines, with these amounts."""
    digest, hashing, leaves = allocate(4), start_hash(), _leaves()
    nodes = allocate(4 * leaves)
    put_digest(digest, PAYEES_0, PAYEES_1, PAYEES_2, PAYEES_3)
    payees, size = read_message(digest)
    assert size == PAYEE_BYTES * TRAINERS
    for index in range(TRAINERS):
        at = PAYEE_BYTES * index
        restart_hash(hashing)
        put_tag(hashing, 19, REWARD, REWARD_END, 0)
        put_little(hashing, WORD_BYTES)
        put_message(hashing, payees, at, WORD_BYTES)
        put_little(hashing, ACCOUNT_BYTES)
        put_message(hashing, payees, at + WORD_BYTES, ACCOUNT_BYTES)
        put_little(hashing, WORD_BYTES)
        put_word(hashing, 0)
        put_word(hashing, 0)
        put_word(hashing, memory[amounts + 2 * index + 1])
        put_word(hashing, memory[amounts + 2 * index])
        put_little(hashing, WORD_BYTES)
        put_message(hashing, payees, at + WORD_BYTES + ACCOUNT_BYTES, WORD_BYTES)
        copy_digest(nodes + 4 * index, finish_hash(hashing))
    while leaves > 1:
        leaves = leaves >> 1
        for index in range(leaves):
            restart_hash(hashing)
            put_word(hashing, TAG_0)
            put_word(hashing, NODE_1)
            put_bytes(hashing, 0x6500000000000000, 2)
            for word in range(8):
                put_word(hashing, memory[nodes + 8 * index + word])
            copy_digest(nodes + 4 * index, finish_hash(hashing))
    return nodes


def _count_reports(points: int, close: int) -> None:
    """Give a point to each trainer of whom a close adds a report with weight."""
    digest = allocate(4)
    put_digest(digest, COHORT_0, COHORT_1, COHORT_2, COHORT_3)
    accounts, size = read_message(digest)
    assert size == ACCOUNT_BYTES * TRAINERS
    for index in range(count_reports(close)):
        if little_at(memory[close], field_start(close, C_WEIGHTS) + 8 * index) > 0:
            report = read_report(close, index)
            if field_size(report, R_TRAINER) == ACCOUNT_BYTES:
                _mark(points, memory[report], field_start(report, R_TRAINER), accounts)


def _mark(points: int, report: int, account: int, accounts: int) -> None:
    for place in range(TRAINERS):
        if same_bytes(report, account, accounts, ACCOUNT_BYTES * place, ACCOUNT_BYTES) == 1:
            memory[points + place] = 1
            return


def _count_scores(points: int, model: int, after: int) -> None:
    """Give each trainer the points that the state of quality has more after the round than before it."""
    had, has = column(read_part(model), POINTS), column(read_part(after), POINTS)
    for place in range(TRAINERS):
        left, right = byte_swap(memory[had + place]), byte_swap(memory[has + place])
        if signed_less(left, right):
            memory[points + place] = right - left


def pay(amounts: int, points: int) -> None:
    """Add to each amount its part of the budget; nothing where nobody has points, or all more than can be divided by.

    Units that rounding leaves go to the largest remainders, the first of equal ones.
    """
    total = 0
    for place in range(TRAINERS):
        if memory[points + place] > POINTS_MAX or total + memory[points + place] > POINTS_MAX:
            return
        total += memory[points + place]
    if total == 0:
        return
    left, remainders = BUDGET_0, allocate(TRAINERS)
    for place in range(TRAINERS):
        if memory[points + place] > 0:
            low, high, remainder = _part(memory[points + place], total)
            _add(amounts + 2 * place, low, high)
            memory[remainders + place] = remainder
            left -= low
    for place in range(TRAINERS):
        if _rank(remainders, place) < left:
            _add(amounts + 2 * place, 1, 0)


def _rank(remainders: int, place: int) -> int:
    """Return how many remainders come before one."""
    own, rank = memory[remainders + place], 0
    for other in range(TRAINERS):
        if memory[remainders + other] > own or (memory[remainders + other] == own and other < place):
            rank += 1
    return rank


def _part(count: int, total: int) -> tuple[int, int, int]:
    """Return the budget times count over total, rounded down, two words, and the remainder; total is below 2^62."""
    first, second = BUDGET_0 * count, mul_high(BUDGET_0, count)
    upper = BUDGET_1 * count
    second = second + upper
    third = mul_high(BUDGET_1, count) + (1 if second < upper else 0)
    low, high, remainder = 0, 0, 0
    for _ in range(PRODUCT_BITS):
        remainder = remainder << 1 | third >> 31 & 1
        third = third << 1 | second >> 63
        second = second << 1 | first >> 63
        first = first << 1
        high = high << 1 | low >> 63
        low = low << 1
        if remainder >= total:
            remainder -= total
            low = low | 1
    return low, high, remainder


def _add(amount: int, low: int, high: int) -> None:
    """Add two words to an amount, modulo 2^128."""
    added = memory[amount] + low
    memory[amount + 1] = memory[amount + 1] + high + (1 if added < low else 0)
    memory[amount] = added
