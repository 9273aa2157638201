"""The simulator of docs/spec/proofs.md, section 6: proofs without a witness, where the oracle does what it is told.

It never sees an assignment, only a program, and its proofs pass the verifier. What it has to know beside the verifier's
equations, that they hold at the conjugate point too, is true of honest proofs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from _proof_stage import Case, case_of, proof_of, random_of

from collegium.algebra import (
    P,
    ext_add,
    ext_dot,
    ext_inverse,
    ext_mul,
    ext_power,
    ext_powers,
    ext_sub,
    mul,
    sample_field,
    scale,
    sub,
)
from collegium.commitment import MerkleTree, column_leaves
from collegium.crypto import Transcript
from collegium.proofs import IdentityRejectedError, ProofCode, ProofRejectedError, SumRejectedError
from collegium.proofs import _program as programs
from collegium.proofs._layout import QUOTIENT_CHUNKS
from collegium.proofs._program import FirstChallenges, Program, SecondChallenges, full_sums, lagrange, open_transcript
from collegium.proofs._prove import _compact, _grind
from collegium.proofs._sums import ONE, Sums, X, ext_sum
from collegium.proofs._verify import _spread, combination_weights, slot_relations_at, verify

Ext = tuple[int, int]
Array = Any


class Told(Transcript):
    """A transcript over an oracle that may have been told what to answer at a state."""

    __slots__ = ()
    answers: ClassVar[dict[tuple[bytes, str], Array]] = {}

    def challenge_ext(self, label: str, count: int) -> Array:
        told = self.answers.get((self.state, label))
        drawn = super().challenge_ext(label, count)
        return drawn if told is None else told

    def challenge_indices(self, label: str, count: int, bound: int) -> Array:
        told = self.answers.get((self.state, label))
        drawn = super().challenge_indices(label, count, bound)
        return drawn if told is None else told


@pytest.fixture
def _oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "Transcript", Told)
    monkeypatch.setattr(Told, "answers", {})


def conjugate(a: Array) -> Array:
    """Return a0 - a1 x of an element, or of an array of K."""
    if isinstance(a, tuple):
        return a[0], -a[1] % P
    return np.stack([a[0], np.where(a[1] == 0, a[1], np.uint64(P) - a[1])])


def from_both(at_point: Ext, at_conjugate: Ext) -> tuple[Ext, Ext]:
    """Return what two polynomials over F are at a point, from what first + x second is there and at its conjugate."""
    other, half = conjugate(at_conjugate), pow(2, -1, P)
    first, second = ext_add(at_point, other), ext_sub(at_point, other)
    return ext_mul(first, (half, 0)), ext_mul(second, ext_inverse((0, 2)))


def left_side(program: Program, sums: Sums, challenges: Array, remainder: Array, point: Ext, values: Array) -> Ext:
    """Return the left side of equation (6) where rows have these values."""
    first, lambdas = challenges
    at_message, _ = lagrange(program.layout.code, point)
    total = slot_relations_at(program, first, lambdas, values)
    for term in sums.terms:
        summands = [(int(values[0, row]), int(values[1, row])) for row in term.first]
        if term.second is not None:
            seconds = [(int(values[0, row]), int(values[1, row])) for row in term.second]
            summands = [ext_mul(a, b) for a, b in zip(summands, seconds, strict=True)]
        slots = ext_sum(at_message) if term.slots is None else ext_dot(term.slots, at_message)
        total = ext_add(total, ext_mul(slots, ext_dot(term.weights, np.array(summands, np.uint64).T.copy())))
    return ext_sub(total, ext_dot(remainder, at_message))


def third_chunk(program: Program, left: Ext, point: Ext, values: Array) -> Ext:
    """Return c_2 at the point from the identity and the chunks before it."""
    layout, power = program.layout, ext_power(point, program.layout.code.message_len)
    rest = ext_mul(left, ext_inverse(ext_sub(power, ONE)))
    rows = layout.index(layout.chunks)
    for chunk in range(QUOTIENT_CHUNKS - 1):
        parts = [(int(values[0, row]), int(values[1, row])) for row in rows[2 * chunk : 2 * chunk + 2]]
        value = ext_add(parts[0], ext_mul(X, parts[1]))
        rest = ext_sub(rest, ext_mul(value, ext_power(power, chunk)))
    return ext_mul(rest, ext_inverse(ext_power(power, QUOTIENT_CHUNKS - 1)))


def extension(values: Array) -> Array:
    """Return elements of F as elements of K."""
    return np.stack([values, np.zeros_like(values)])


class Simulator:
    """Draws challenges first, then everything that a proof shows, as section 6 numbers it."""

    def __init__(self, program: Program, label: object) -> None:
        self.program, self.random = program, random_of("simulator", label)
        layout, code = program.layout, program.layout.code
        # 1. all challenges, and the opened columns
        tables = len(layout.tables)
        self.alphas, self.gammas = self.draw(tables), self.draw(tables)
        self.mu, self.z, self.rho, self.tau, self.zeta = (self.element() for _ in range(5))
        self.chi, self.lambdas = self.draw(program.relations + 1), self.draw(layout.constraint_count)
        self.factors = self.draw(sum(layout.counts))
        order = np.random.default_rng(int.from_bytes(self.random(8), "little"))
        self.positions = np.sort(order.choice(code.domain.size, code.queries, replace=False)).astype(np.int64)
        # 2. every row's symbols and value
        symbols = sample_field(self.random, code.queries * layout.width)
        self.columns = symbols.reshape(code.queries, layout.width)
        self.values = self.draw(layout.width)
        # 3. mask total, g, the key's values, w
        self.mask_total, self.combination = self.draw(1), self.draw(code.message_len + code.randomness_len)
        self.first = FirstChallenges(self.alphas, self.gammas, self.mu, self.z, self.draw(program.key_rows))
        second = SecondChallenges(self.rho, self.tau, self.chi)
        total = int(self.mask_total[0, 0]), int(self.mask_total[1, 0])
        self.sums = full_sums(program, self.first, second, total)
        self.remainder = self.draw(code.message_len)
        missing = ext_add(ext_sub(self.sums.target, ext_sum(self.remainder)), self._first_of(self.remainder))
        self.remainder[:, 0] = missing
        # 4. and 5.
        self._solve_quotient()
        self._solve_masks()

    def draw(self, count: int) -> Array:
        return sample_field(self.random, 2 * count).reshape(2, count)

    def element(self) -> Ext:
        return self._first_of(self.draw(1))

    @staticmethod
    def _first_of(values: Array) -> Ext:
        return int(values[0, 0]), int(values[1, 0])

    def _left(self, point: Ext, values: Array) -> Ext:
        return left_side(self.program, self.sums, (self.first, self.lambdas), self.remainder, point, values)

    def _solve_quotient(self) -> None:
        layout = self.program.layout
        last = layout.index(layout.chunks)[2 * QUOTIENT_CHUNKS - 2 :]
        chunks = [
            third_chunk(self.program, self._left(point, values), point, values)
            for point, values in ((self.zeta, self.values), (conjugate(self.zeta), conjugate(self.values)))
        ]
        self.values[:, last] = np.array(from_both(*chunks), np.uint64).T
        for column, x in zip(self.columns, self._points(), strict=True):
            values = extension(column)
            column[last] = third_chunk(self.program, self._left((x, 0), values), (x, 0), values)

    def _solve_masks(self) -> None:
        layout = self.program.layout
        masks = layout.index(layout.combination_mask)
        weights = _spread(self.program, self.factors)
        weights[:, masks] = 0
        count = self.combination.shape[1]

        def missing(point: Ext, values: Array) -> Ext:
            return ext_sub(ext_dot(self.combination, ext_powers(point, count)), ext_dot(weights, values))

        at_point, twin = missing(self.zeta, self.values), conjugate(self.zeta)
        pair = from_both(at_point, missing(twin, conjugate(self.values)))
        self.values[:, masks] = np.array(pair, np.uint64).T
        for column, x in zip(self.columns, self._points(), strict=True):
            column[masks] = missing((x, 0), extension(column))

    def _points(self) -> list[int]:
        return [int(x) for x in self.program.layout.code.domain.points()[self.positions]]

    def proof(self, oracle: dict[tuple[bytes, str], Array]) -> bytes:
        """6. hash, and tell the oracle. Data trees are made up as well: their roots go into the statement."""
        layout = self.program.layout
        openings, roots = self._trees()
        program = self.program = replace(self.program, data_roots=tuple(roots[: layout.data_trees]))
        transcript, parts = open_transcript(program), []

        def send(label: str, data: bytes) -> None:
            transcript.absorb(label, data)
            parts.append(data)

        def tell(label: str, answer: Array) -> None:
            oracle[transcript.state, label] = answer
            transcript.challenge_ext(label, answer.shape[1])

        send("trace", roots[layout.trace])
        tell("alpha", self.alphas)
        tell("gamma", self.gammas)
        tell("mu", as_array(self.mu))
        tell("key point", as_array(self.z))
        if program.key_rows:
            send("key values", self.first.key_values.tobytes())
        send("products", roots[layout.products])
        send("mask total", self.mask_total.tobytes())
        tell("rho", as_array(self.rho))
        tell("tau", as_array(self.tau))
        tell("chi", self.chi)
        send("remainder", self.remainder.tobytes())
        tell("lambda", self.lambdas)
        send("quotient", roots[layout.quotient])
        tell("point", as_array(self.zeta))
        send("values", _compact(layout, self.values).tobytes())
        tell("rows", self.factors)
        send("combination", self.combination.tobytes())
        send("nonce", _grind(transcript.state))
        oracle[transcript.state, "columns"] = self.positions
        return b"".join(parts) + b"".join(openings)

    def _trees(self) -> tuple[list[bytes], list[bytes]]:
        """Return each tree's opening and root; leaves that nobody sees are random digests."""
        layout, size = self.program.layout, self.program.layout.code.domain.size
        openings, roots = [], []
        for tree in range(len(layout.counts)):
            symbols = np.ascontiguousarray(self.columns[:, layout.tree_slice(tree)])
            salts, leaves = self.random(16 * len(symbols)), [self.random(32) for _ in range(size)]
            for position, leaf in zip(self.positions, column_leaves(symbols, salts), strict=True):
                leaves[position] = leaf
            made = MerkleTree(leaves)
            openings.append(symbols.tobytes() + salts + made.prove([int(at) for at in self.positions]))
            roots.append(made.root)
        return openings, roots


def as_array(value: Ext) -> Array:
    """Return an element of K as an array of one."""
    return np.array([[value[0]], [value[1]]], np.uint64)


NAMES = ("norm", "limbs", "hidden", "softmax", "registration")


@pytest.mark.usefixtures("_oracle")
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_proof_without_a_witness_passes_where_the_oracle_is_told_and_nowhere_else(name: str) -> None:
    simulator = Simulator(case_of(name).program, name)
    proof = simulator.proof(Told.answers)
    program = simulator.program
    first = verify(program, proof)
    assert first.point == simulator.z
    assert (first.key_values == simulator.first.key_values).all()
    changed = bytearray(proof)
    changed[-1] ^= 1
    with pytest.raises(ProofRejectedError):
        verify(program, bytes(changed))
    Told.answers.clear()
    with pytest.raises(SumRejectedError):
        verify(program, proof)


@pytest.mark.usefixtures("_oracle")
@pytest.mark.slow
def test_a_simulator_that_forgets_the_identity_is_refused() -> None:
    simulator = Simulator(case_of("norm").program, "careless")
    layout = simulator.program.layout
    row = int(layout.index(layout.chunks)[-1])
    simulator.values[0, row] = (int(simulator.values[0, row]) + 1) % P
    proof = simulator.proof(Told.answers)
    with pytest.raises(IdentityRejectedError):
        verify(simulator.program, proof)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one lane"])
def test_honest_values_fit_at_the_conjugate_point_too(name: str) -> None:
    """Why the simulator solves for both rows of the last chunk, and for both rows of the mask."""
    case = case_of(name)
    sums, challenges, remainder, zeta, values, factors, combination = taken_apart(case, proof_of(name))
    program, layout, count = case.program, case.program.layout, combination.shape[1]
    twin, twins = conjugate(zeta), conjugate(values)
    left = left_side(program, sums, challenges, remainder, twin, twins)
    rows = layout.index(layout.chunks)
    told = ext_add(
        (int(twins[0, rows[-2]]), int(twins[1, rows[-2]])),
        ext_mul(X, (int(twins[0, rows[-1]]), int(twins[1, rows[-1]]))),
    )
    assert third_chunk(program, left, twin, twins) == told
    assert ext_dot(combination, ext_powers(twin, count)) == ext_dot(factors, twins)
    assert ext_dot(combination, ext_powers(twin, count)) != ext_dot(factors, values)


def taken_apart(case: Case, proof: bytes) -> Array:
    """Return a proof's sums, challenges and clear parts, by reading it as the verifier does."""
    program, layout, code = case.program, case.program.layout, case.program.layout.code
    at, transcript = 0, open_transcript(program)

    def take(label: str, count: int) -> Array:
        nonlocal at
        data = proof[at : at + 16 * count]
        at += 16 * count
        transcript.absorb(label, data)
        return np.frombuffer(data, np.uint64).reshape(2, count)

    first = programs.draw_first(program, transcript, proof[:32])
    at = 32
    first = replace(first, key_values=take("key values", program.key_rows))
    take("products", 2)
    total = take("mask total", 1)
    second = programs.draw_second(program, transcript)
    sums = full_sums(program, first, second, (int(total[0, 0]), int(total[1, 0])))
    remainder = take("remainder", code.message_len).copy()
    lambdas = transcript.challenge_ext("lambda", layout.constraint_count)
    take("quotient", 2)
    zeta = programs.to_ext(transcript.challenge_ext("point", 1))
    values = _spread(program, take("values", sum(layout.counts)))
    factors = combination_weights(program, transcript)
    combination = take("combination", code.message_len + code.randomness_len).copy()
    return sums, (first, lambdas), remainder, zeta, values, factors, combination


def rank(rows: list[list[int]]) -> int:
    """Return the rank of a matrix over F."""
    matrix, found = np.array(rows, np.uint64), 0
    for column in range(matrix.shape[1]):
        candidates = found + np.flatnonzero(matrix[found:, column])
        if candidates.size == 0:
            continue
        matrix[[found, candidates[0]]] = matrix[[candidates[0], found]]
        below = matrix[found + 1 :, column:]
        factors = scale(below[:, 0].copy(), pow(int(matrix[found, column]), -1, P))
        below[:] = sub(below, mul(factors[:, None], matrix[found, column:]))
        found += 1
        if found == len(matrix):
            break
    return found


def told_of_pads(code: ProofCode, positions: list[int], point: Ext, pads: int) -> list[list[int]]:
    """Return what one proof tells of a row as linear forms in its first pads: the columns, both parts of the value."""
    points = code.domain.points()
    _, at_point = lagrange(code, point)
    columns = [lagrange(code, (int(points[at]), 0))[1][0, :pads].tolist() for at in positions]
    return [*columns, at_point[0, :pads].tolist(), at_point[1, :pads].tolist()]


@pytest.mark.slow
def test_what_is_told_of_a_row_is_as_many_free_numbers_as_it_has_pads_and_no_more() -> None:
    """Whatever the message, pads make the told numbers uniform; with one pad fewer something is told of the message."""
    code, random = ProofCode(1024), np.random.default_rng(1)
    positions = sorted(int(at) for at in random.choice(code.domain.size, code.queries, replace=False))
    point = int(random.integers(2**63)), int(random.integers(1, 2**63))
    told = code.queries + 2
    assert told == code.randomness_len
    assert rank(told_of_pads(code, positions, point, told)) == told
    assert rank(told_of_pads(code, positions, point, told - 1)) == told - 1


@pytest.mark.slow
def test_two_proofs_of_data_tell_no_more_than_pads_cover() -> None:
    code, random = ProofCode(2048, 2), np.random.default_rng(2)
    told: set[tuple[int, ...]] = set()  # a column that both open is told once
    for _ in range(2):
        positions = sorted(int(at) for at in random.choice(code.domain.size, code.queries, replace=False))
        point = int(random.integers(2**63)), int(random.integers(1, 2**63))
        told |= {tuple(row) for row in told_of_pads(code, positions, point, code.randomness_len)}
    assert code.queries + 2 < len(told) <= code.randomness_len == 2 * (code.queries + 2)
    assert rank([list(row) for row in told]) == len(told)
