"""What prover and verifier share of one statement: its layout, its text, its challenges, and how the parts are written.

The transcript begins with the statement, every public operand and identity in it; each step below absorbs what the
prover sends in it before it draws. Both sides number the steps alike:
  1. commit the trace             2. challenges for lookups, products and the key; the key's values
  3. commit inverses and products 4. challenges for the sums        5. send the remainder g
  6. challenges for the slots; commit the quotient                  7. a point out of the domain; send every row's value
  8. coefficients; send the combination of all rows                 9. work, then columns
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from collegium.algebra import (
    Ext,
    FieldArray,
    P,
    bit_reversal,
    ext_add,
    ext_inverse_array,
    ext_mul,
    ext_mul_array,
    ext_power,
    ext_powers,
    ext_scale,
    ext_sub,
    powers,
    root_of_unity,
    sub,
)
from collegium.crypto import Digest, Transcript

from ._layout import Layout, Table
from ._parameters import ProofCode
from ._sums import ONE, Sums, X, scalar

__all__ = [
    "Assignment",
    "FirstChallenges",
    "Program",
    "SecondChallenges",
    "constraint_weights",
    "draw_first",
    "draw_second",
    "full_sums",
    "lagrange",
    "open_transcript",
    "table_inverses",
    "to_ext",
]


@dataclass(frozen=True, slots=True)
class FirstChallenges:
    """Step 2. One alpha and gamma a table; mu weighs the products; the key's rows are evaluated at `point`.

    `key_values` (2, rows) are the prover's claims of the key matrix's rows at `point`; empty without a key.
    """

    alphas: FieldArray
    gammas: FieldArray
    mu: Ext
    point: Ext
    key_values: FieldArray = field(default_factory=lambda: np.zeros((2, 0), np.uint64))


@dataclass(frozen=True, slots=True)
class SecondChallenges:
    """Step 4. Powers of `rho` weigh samples, powers of `tau` weigh units; `chi` (2, relations) weighs relations."""

    rho: Ext
    tau: Ext
    chi: FieldArray

    def relation(self, number: int) -> Ext:
        """Return the weight of one relation."""
        return int(self.chi[0, number]), int(self.chi[1, number])


Text = Callable[[Sums, FirstChallenges, SecondChallenges], None]  # adds every sum, relation i weighed by chi_i


@dataclass(frozen=True)
class Program:
    """One statement in the argument's terms.

    Attributes:
        layout: frozen.
        statement: everything public: identity, operands, bounds. Absorbed before anything else.
        relations: how many relations `text` weighs.
        text: adds the sums.
        key_rows: rows of the key matrix whose values the prover claims at the key's point; 0 without a key.
        data_roots: the roots of the data trees, part of the statement.
    """

    layout: Layout
    statement: tuple[bytes | int, ...]
    relations: int
    text: Text
    key_rows: int = 0
    data_roots: tuple[Digest, ...] = ()


class Assignment(Protocol):
    """The prover's private numbers for a program."""

    def trace(self, messages: FieldArray) -> None:
        """Write the trace's tensors into the rows of `messages` (all rows, k)."""
        ...

    def products(self, messages: FieldArray, first: FirstChallenges) -> None:
        """Write the tensors of the products' tree, which depend on the first challenges."""
        ...

    def key_values(self, point: Ext) -> FieldArray:
        """Return the key matrix's rows at a point, (2, key_rows)."""
        ...


# --- the transcript, step by step


def open_transcript(program: Program) -> Transcript:
    """Return the transcript after the statement."""
    layout = program.layout
    code = layout.code
    shape = (code.message_len, code.openings, code.queries, code.randomness_len, *layout.counts)
    return Transcript("proof", *program.statement, *program.data_roots, program.key_rows, program.relations, *shape)


def draw_first(program: Program, transcript: Transcript, trace_root: Digest) -> FirstChallenges:
    """Step 2, without the key's values."""
    transcript.absorb("trace", trace_root)
    tables = len(program.layout.tables)
    alphas = transcript.challenge_ext("alpha", tables)
    gammas = transcript.challenge_ext("gamma", tables)
    mu, point = (to_ext(transcript.challenge_ext(name, 1)) for name in ("mu", "key point"))
    return FirstChallenges(alphas, gammas, mu, point)


def draw_second(program: Program, transcript: Transcript) -> SecondChallenges:
    """Step 4."""
    rho, tau = (to_ext(transcript.challenge_ext(name, 1)) for name in ("rho", "tau"))
    return SecondChallenges(rho, tau, transcript.challenge_ext("chi", program.relations + 1))


# --- the text that every statement shares


def full_sums(program: Program, first: FirstChallenges, second: SecondChallenges, mask_total: Ext) -> Sums:
    """Return all sums of a statement: its own, then LogUp's equation, then the mask."""
    layout = program.layout
    sums = Sums(layout, second.rho)
    program.text(sums, first, second)
    chi = second.relation(program.relations)
    # LogUp (eprint 2022/1530): sum over lookups of 1 / (alpha - v) = sum over entries of multiplicity / (alpha - entry)
    if layout.inverses.count:
        pairs = layout.inverses.count // 2
        parts = [np.repeat(scalar(weight), pairs, axis=1) for weight in (chi, ext_mul(chi, X))]
        sums.ones(layout.inverses, np.concatenate(parts, axis=1))
    for number, (table, flat) in enumerate(zip(layout.tables, layout.multiplicities, strict=True)):
        inverses = table_inverses(table, to_ext(first.alphas, number), to_ext(first.gammas, number))
        sums.vector(flat, ext_scale(inverses, ext_sub((0, 0), chi)))
    sums.ones(layout.sum_mask, np.concatenate([scalar(ONE), scalar(X)], axis=1))
    sums.target = ext_add(sums.target, mask_total)
    return sums


def table_inverses(table: Table, alpha: Ext, gamma: Ext) -> FieldArray:
    """Return 1 / (alpha - v - gamma second_v) for every entry, (2, size)."""
    entries = np.arange(table.size, dtype=np.uint64)
    first = np.where(
        entries <= np.uint64(alpha[0]), np.uint64(alpha[0]) - entries, np.uint64(alpha[0]) - entries + np.uint64(P)
    )
    rest = np.stack([first, np.full(table.size, alpha[1], np.uint64)])
    if table.second is not None:
        second = np.array(table.second, np.uint64)
        weighted = ext_scale(np.stack([second, np.zeros_like(second)]), gamma)
        rest = sub(rest, weighted)
    return ext_inverse_array(rest)


def constraint_weights(layout: Layout, lambdas: FieldArray) -> tuple[FieldArray, FieldArray]:
    """Return the weights of pairs of lookups and of monomials, from one lambda a slot-wise relation."""
    pairs = len(layout.pair_rows)
    chosen = np.ascontiguousarray(lambdas[:, pairs:][:, layout.monomial_constraints])
    coefficients = np.stack([layout.monomial_coefficients, np.zeros_like(layout.monomial_coefficients)])
    return np.ascontiguousarray(lambdas[:, :pairs]), ext_mul_array(chosen, coefficients)


# --- small things


def to_ext(values: FieldArray, at: int = 0) -> Ext:
    """Return one element of an array of K."""
    return int(values[0, at]), int(values[1, at])


def lagrange(code: ProofCode, point: Ext) -> tuple[FieldArray, FieldArray]:
    """Return the weights of a row's value at a point of K: L_h(point) for messages, (point^k - 1) point^j for pads."""
    return lagrange_weights(code.message_len, code.randomness_len, point)


def lagrange_weights(k: int, t: int, point: Ext) -> tuple[FieldArray, FieldArray]:
    """`lagrange` for any code (k, t): L_h(x) = (x^k - 1) / k x h / (x - h) at h = w_k^bitrev(slot)."""
    vanishing = ext_sub(ext_power(point, k), ONE)
    at = powers(root_of_unity(k), k)[bit_reversal(k)]
    differences = sub(np.repeat(scalar(point), k, axis=1), np.stack([at, np.zeros_like(at)]))
    inverses = ext_inverse_array(differences)
    scaled = np.stack([at, np.zeros_like(at)])
    messages = ext_scale(ext_mul_array(inverses, scaled), ext_mul(vanishing, (pow(k, -1, P), 0)))
    return messages, ext_scale(ext_powers(point, t), vanishing)
