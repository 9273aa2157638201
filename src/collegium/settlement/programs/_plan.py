"""What the proofs of a task follow from beside the round's terms: one object, named by its digest, in big-endian words.

`collegium.settlement.ProofPlan` makes its bytes and says what each word is.
"""

from __future__ import annotations

from collegium.settlement.programs._proof_cells import PLAN, STEP
from collegium.settlement.programs._reading import put_digest, read_message
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._words import memory

PLAN_0: int
PLAN_1: int
PLAN_2: int
PLAN_3: int
# words of the plan
RULE = 0  # four: the digest of model and rule
NORM_BOUND = 4  # and 1, or 0
TRAINING = 5  # at which word what follows begins, 0 where no round demands a training step
LANE_COUNT = 6  # entries in a field element
FIRST_CODE = 7  # k, Q, t of the proofs of round 0
LATER_CODE = 10  # of the other rounds
# words of what a training step follows from, from its beginning on
P_FRACTION_BITS = 0
P_LOSS = 1  # 1 squared, 2 sigmoid, 3 softmax
P_LIMIT = 2  # of a feature
P_BATCH_ROWS = 3  # 0 for all rows
P_ROWS_MAX = 4  # of one trainer
P_ROUNDS = 5  # the last round
P_PACK_ROUNDS = 6  # rounds of a registration
P_STATISTICS = 7  # bytes of a model state before its parameters
P_LAYERS = 8
P_LOSS_BITS = 9  # of an offset, of sigmoid the bits of what lies beyond its table
P_TABLE = 10  # the first entry of the loss's table
P_TABLE_AT = 11  # at which word of the plan the second entries stand
P_RULE_AT = 12  # at which word the rule's text begins
P_RULE_BYTES = 13
P_NAMES_AT = 14  # five words a trainer: account, length of its name, at which word of the plan it begins
P_NAMES = 15
P_STATE_BYTES = 16  # of a model state
P_QUALITY_AT = 17  # at which of its words its part about quality begins, 0 where it has none
P_DIRECTION_AT = 18  # and the direction in it
P_QUANTILES_AT = 19  # at which word of the plan the positive quantiles stand, by which noise is drawn
P_CODES = 20  # Q and t of the codes of 2^11 ... 2^17 slots that are opened twice
P_SHAPES = 34  # of each layer: inputs, outputs, and of hidden ones the bits of U and the offset of B
SHAPE_WORDS = 4
NAME_WORDS = 5
QUANTILES = 2048
# words of what stewards' evaluations follow from, behind the quantiles
E_SHARDS = 0  # of each steward
E_SHARD_ROUNDS = 1  # how many rounds each serves, 0 for all
E_ROWS_MAX = 2  # of a shard
E_GRADIENT_MAX = 3  # of an entry, for each row
E_LINEAR_BITS = 4  # of a value's q, r, and of what else it spells in limbs: beyond, U or below
E_REST_BITS = 5
E_MORE_BITS = 6
E_GAP_BITS = 7  # between two outputs
E_TABLE = 8  # the first entry of the value's table, and its last
E_TABLE_LAST = 9
E_TABLE_AT = 10  # at which word of the plan the second entries stand
E_DOUBLINGS = 11  # how many
E_DOUBLINGS_AT = 12


def read_plan() -> None:
    """Read the plan."""
    digest = allocate(4)
    put_digest(digest, PLAN_0, PLAN_1, PLAN_2, PLAN_3)
    memory[PLAN], _ = read_message(digest)


def plan(index: int) -> int:
    """Return a word of the plan."""
    return memory[memory[PLAN] + index]


def step_plan(index: int) -> int:
    """Return a word of what a training step follows from."""
    return memory[memory[PLAN] + memory[STEP] + index]


def evaluation_plan(index: int) -> int:
    """Return a word of what stewards' evaluations follow from."""
    return memory[memory[PLAN] + step_plan(P_QUANTILES_AT) + QUANTILES + index]


def shape(layer: int, index: int) -> int:
    """Return a word of a layer's shape."""
    return memory[memory[PLAN] + memory[STEP] + P_SHAPES + SHAPE_WORDS * layer + index]


def step_table() -> int:
    """Return the address of the second entries of the loss's table."""
    return memory[PLAN] + step_plan(P_TABLE_AT)
