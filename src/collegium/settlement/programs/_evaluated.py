"""Relation `evaluation`: a public model has this loss, these hits and this gradient on registered rows.

docs/spec/proofs.md, section 4.6.
"""

from __future__ import annotations

from collegium.settlement.programs._extension import FIELD, ext_mul
from collegium.settlement.programs._hashing import put_digest_field, put_integer_field, put_little
from collegium.settlement.programs._plan import E_GRADIENT_MAX, P_LAYERS, evaluation_plan, shape, step_plan
from collegium.settlement.programs._proof import begin_checks, begin_proof, end_checks
from collegium.settlement.programs._proof_cells import (
    CHI,
    FEATURES,
    KEY_ROWS,
    LABELS,
    MU,
    NEXT_CHI,
    RELATIONS,
    ROOTS,
    ROWS,
    TREES,
)
from collegium.settlement.programs._proof_labels import EVALUATION_MORE, EVALUATION_TEXT, PROOF_TEXT
from collegium.settlement.programs._proof_layout import begin_layout, end_layout
from collegium.settlement.programs._proof_step import (
    add_gradient,
    add_step,
    choose_all,
    declare_data,
    declare_step,
    next_chi,
    parameter_count,
    set_data_code,
    step_relations,
)
from collegium.settlement.programs._proof_sums import add_constant
from collegium.settlement.programs._proof_transcript import put_label, put_words, start_transcript
from collegium.settlement.programs._proof_value import VALUE_RELATIONS, add_value, declare_value
from collegium.settlement.programs._reading import copy_digest, swapped
from collegium.settlement.programs._registered import put_account, put_rule
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import ACCOUNT_BYTES
from collegium.settlement.programs._signed import of_signed, size_of
from collegium.settlement.programs._words import fadd, fsub, memory

LOOKUPS_OF_EVALUATION = 1 << 15
MONOMIALS_OF_EVALUATION = 1 << 16
# words of a claim
CLAIM_LOSS = 0
CLAIM_RIGHT = 1
CLAIM_GRADIENT = 2


def check_evaluation(account: int, context: int, root: int, claim: int, proof: int, length: int) -> None:
    """Reject unless a proof shows an account's claim, counted words, about the model on the rows behind a root."""
    check_claim_range(claim)
    set_data_code()
    begin_layout(1, LOOKUPS_OF_EVALUATION, MONOMIALS_OF_EVALUATION)
    memory[FEATURES], memory[LABELS], _ = declare_data(0)
    outputs = shape(step_plan(P_LAYERS) - 1, 1)
    declare_step()
    declare_value(outputs)
    choose_all()
    memory[RELATIONS] = step_relations() + VALUE_RELATIONS + 1
    memory[KEY_ROWS] = 0
    end_layout()
    begin_proof(proof, length)
    memory[ROOTS] = allocate(4 * (memory[TREES] + 3))
    copy_digest(memory[ROOTS], root)
    hashing = start_transcript()
    put_label(hashing, PROOF_TEXT, 0)
    put_label(hashing, EVALUATION_TEXT, EVALUATION_MORE)
    put_account(hashing, account, ACCOUNT_BYTES)
    put_digest_field(hashing, context)
    put_rule(hashing)
    put_claim(hashing, claim)
    put_digest_field(hashing, root)
    begin_checks(hashing)
    add_step(0)
    chi = memory[CHI] + 2 * memory[NEXT_CHI]
    memory[NEXT_CHI] = memory[NEXT_CHI] + VALUE_RELATIONS
    add_value(outputs, chi, memory[claim + CLAIM_LOSS], memory[claim + CLAIM_RIGHT])
    add_claimed_gradient(claim + CLAIM_GRADIENT)
    end_checks()


def check_claim_range(claim: int) -> None:
    """Reject numbers that no rows can have."""
    assert memory[claim + CLAIM_LOSS] < FIELD and memory[claim + CLAIM_RIGHT] <= memory[ROWS]
    most = memory[ROWS] * evaluation_plan(E_GRADIENT_MAX)
    for index in range(parameter_count()):
        assert size_of(memory[claim + CLAIM_GRADIENT + index]) <= most


def put_claim(hashing: int, claim: int) -> None:
    """Add a claim's fields: the gradient, then loss and rows classified right."""
    count = parameter_count()
    put_little(hashing, 8 * count)
    put_words(hashing, swapped(claim + CLAIM_GRADIENT, count), count)
    put_integer_field(hashing, memory[claim + CLAIM_LOSS])
    put_integer_field(hashing, memory[claim + CLAIM_RIGHT])


def add_claimed_gradient(gradient: int) -> None:
    """Add that the rows' gradient is the claimed one."""
    chi, a, b, index = next_chi(), 0, 0, parameter_count()
    while index > 0:
        index -= 1
        a, b = ext_mul(a, b, memory[MU], memory[MU + 1])
        a = fadd(a, of_signed(memory[gradient + index]))
    c, d = memory[chi], memory[chi + 1]
    a, b = ext_mul(a, b, c, d)
    add_constant(fsub(0, a), fsub(0, b))
    add_gradient(c, d)
