"""The verifier from its page alone (docs/spec/proofs.md), in plain integers: slow, what `_verify` must agree with.

It has a field, a transcript, trees, layouts and equations of its own and shares none of that with prover or verifier;
it reads the statements' dataclasses and raises the same errors in the same order. A sum is kept as what its
coefficients come to at the point out of the domain: coefficient of (row, slot) x L_slot(zeta), added up by row.
Scores (section 4.5) are not covered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from hashlib import sha256
from math import ceil, log2
from typing import NamedTuple, TypeAlias, cast

from collegium import learning
from collegium.learning import ModelSpec, Rule

from ._bounded import BoundedStatement
from ._data import DataShape, RegistrationStatement
from ._errors import (
    CombinationRejectedError,
    GrindingRejectedError,
    IdentityRejectedError,
    MalformedProofError,
    OpeningRejectedError,
    SumRejectedError,
)
from ._masked import MaskedUpdate
from ._training import TrainingStatement

__all__ = ["KeyValues", "check_bounded", "check_registration", "check_training"]

K: TypeAlias = tuple[int, int]
Row: TypeAlias = tuple[int, int]  # tree, row of the tree

P = 2**64 - 2**32 + 1
RING, CHECK_BLOCKS, NOISE, SALT_BYTES, SEEDS = 4096, 2, 127, 16, 4096
ZERO: K = (0, 0)
ONE: K = (1, 0)
X: K = (0, 1)


class KeyValues(NamedTuple):
    """What a report must confirm: the six rows' values at a point of K."""

    point: K
    values: list[K]


# --- K, roots of unity


def _add(a: K, b: K) -> K:
    return (a[0] + b[0]) % P, (a[1] + b[1]) % P


def _sub(a: K, b: K) -> K:
    return (a[0] - b[0]) % P, (a[1] - b[1]) % P


def _mul(a: K, b: K) -> K:
    return (a[0] * b[0] + 7 * a[1] * b[1]) % P, (a[0] * b[1] + a[1] * b[0]) % P


def _times(a: K, n: int) -> K:
    return a[0] * n % P, a[1] * n % P


def _inverse(a: K) -> K:
    return _inverses([a])[0]


def _inverses(values: Sequence[K]) -> list[K]:
    """Every 1 / a = (a0 - a1 x) / norm, with one inversion in F: norms are divided out of their product."""
    norms = [(a * a - 7 * b * b) % P for a, b in values]
    before = [1]
    for norm in norms:
        before.append(before[-1] * norm % P)
    rest, result = pow(before[-1], -1, P), [ZERO] * len(values)
    for at in range(len(values) - 1, -1, -1):
        inverse, rest = rest * before[at] % P, rest * norms[at] % P
        a, b = values[at]
        result[at] = a * inverse % P, -b * inverse % P
    return result


def _power(a: K, n: int) -> K:
    result = ONE
    while n:
        if n & 1:
            result = _mul(result, a)
        a, n = _mul(a, a), n >> 1
    return result


def _powers(a: K, count: int) -> list[K]:
    result = [ONE] * min(count, 1)
    while len(result) < count:
        result.append(_mul(result[-1], a))
    return result


def _total(values: Iterable[K]) -> K:
    first = second = 0
    for a, b in values:
        first, second = first + a, second + b
    return first % P, second % P


def _reversed_bits(n: int, count: int) -> int:
    result = 0
    for _ in range(count.bit_length() - 1):
        result, n = result << 1 | n & 1, n >> 1
    return result


@lru_cache(maxsize=4)
def _group(order: int) -> tuple[int, ...]:
    """<w_order> in the order of slots and positions: w^bitrev(j) at j."""
    root = pow(7, (P - 1) // order, P)
    return tuple(pow(root, _reversed_bits(j, order), P) for j in range(order))


def _lagrange(k: int, point: K) -> list[K]:
    """L_h(point) for every slot h."""
    scale = _times(_sub(_power(point, k), ONE), pow(k, -1, P))
    inverses = _inverses([_sub(point, (eta, 0)) for eta in _group(k)])
    return [_times(_mul(scale, inverse), eta) for eta, inverse in zip(_group(k), inverses, strict=True)]


# --- hashes


def _hash(tag: str, *fields: bytes | int) -> bytes:
    state = sha256()
    for part in (b"collegium/v1/" + tag.encode(), *fields):
        data = part.to_bytes(8, "little") if isinstance(part, int) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


class _Transcript:
    def __init__(self, tag: str, *fields: bytes | int) -> None:
        self.state = _hash("transcript", tag.encode(), *fields)

    def absorb(self, label: str, data: bytes) -> None:
        self.state = _hash("transcript/absorb", self.state, label.encode(), data)

    def _words(self, label: str, kind: str, count: int, bound: int = 0) -> Iterator[int]:
        self.state = _hash("transcript/challenge", self.state, label.encode(), kind.encode(), count, bound)
        seed, number = self.state, 0
        while True:
            block = _hash("transcript/block", seed, number)
            yield from (int.from_bytes(block[at : at + 8], "little") for at in range(0, 32, 8))
            number += 1

    def draw(self, label: str, count: int) -> list[K]:
        words = (word for word in self._words(label, "ext", count) if word < P)
        return [(next(words), next(words)) for _ in range(count)]

    def positions(self, label: str, count: int, bound: int) -> list[int]:
        found: set[int] = set()
        for word in self._words(label, "indices", count, bound):
            if word < 2**64 - 2**64 % bound:
                found.add(word % bound)
            if len(found) == count:
                break
        return sorted(found)


def _root(leaves: dict[int, bytes], size: int, siblings: Iterator[bytes]) -> bytes:
    """The root that these leaves and the siblings of a multiproof lead to."""
    while size > 1:
        above: dict[int, bytes] = {}
        for position in sorted(leaves):
            if position >> 1 in above:
                continue
            pair = [leaves[at] if at in leaves else next(siblings) for at in (position & ~1, position | 1)]
            above[position >> 1] = sha256(b"collegium/v1/node\x00" + pair[0] + pair[1]).digest()
        leaves, size = above, size >> 1
    return leaves[0]


def _sibling_count(positions: Sequence[int], size: int) -> int:
    known, count = set(positions), 0
    while size > 1:
        count += sum(at ^ 1 not in known for at in known)
        known, size = {at >> 1 for at in known}, size >> 1
    return count


# --- section 2: layout


class _Piece(NamedTuple):
    start: int
    width: int
    used: int
    rows: list[Row]


@dataclass(frozen=True)
class _Grid:
    samples: int
    width: int
    pieces: list[_Piece]

    @property
    def rows(self) -> list[Row]:
        return [row for piece in self.pieces for row in piece.rows]


@dataclass(frozen=True)
class _Flat:
    length: int
    rows: list[Row]


Tensor: TypeAlias = _Flat | _Grid
Table: TypeAlias = tuple[int, ...]  # second entries; all 0 for a plain range
Monomial: TypeAlias = tuple[int, tuple[Row, ...]]


@dataclass
class _Layout:
    k: int
    openings: int
    data_trees: int
    counts: list[int] = field(default_factory=list)
    tables: list[tuple[int, Table | None]] = field(default_factory=list)
    lookups: list[tuple[Row, int, Row | None]] = field(default_factory=list)
    constraints: list[list[Monomial]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (self.data_trees + 3)
        queries, pads, needed = 0, 0, -1
        while needed != queries:
            queries = needed if needed >= 0 else 0
            pads = self.openings * (queries + 2) if needed >= 0 else 0
            needed = ceil(100 / -log2((1 + (self.k + pads) / (4 * self.k)) / 2))
        self.queries, self.pads = queries, pads

    @property
    def trace(self) -> int:
        return self.data_trees

    def rows(self, tree: int, count: int) -> list[Row]:
        first = self.counts[tree]
        self.counts[tree] += count
        return [(tree, first + i) for i in range(count)]

    def flat(self, tree: int, length: int) -> _Flat:
        return _Flat(length, self.rows(tree, ceil(length / self.k)))

    def grid(self, tree: int, samples: int, width: int) -> _Grid:
        k, pieces, start, cut = self.k, [], 0, 0
        while start < width:
            rest = width - start
            if rest >= k:
                size = k
            else:
                up, down = 1 << (rest - 1).bit_length(), 1 << (rest.bit_length() - 1)
                whole = split = -(-samples * up // k)
                if rest > down:
                    split = -(-samples * down // k) - (-samples * (1 << (rest - down - 1).bit_length()) // k)
                size = up if whole <= split or cut == 3 else down
                cut += 1
            pieces.append(_Piece(start, size, min(size, rest), self.rows(tree, -(-samples * size // k))))
            start += size
        return _Grid(samples, width, pieces)

    def look_up(self, tensor: Tensor, size: int, second: Tensor | None = None, entries: Table | None = None) -> None:
        if (size, entries) not in self.tables:
            self.tables.append((size, entries))
        table = self.tables.index((size, entries))
        seconds: Sequence[Row | None] = [None] * len(tensor.rows) if second is None else second.rows
        self.lookups += [(row, table, other) for row, other in zip(tensor.rows, seconds, strict=True)]

    def limbs(self, samples: int, width: int, bits: int, most: int) -> _Expression:
        count = max(1, -(-bits // most))
        cuts = [bits * limb // count for limb in range(count + 1)]
        grids = [self.grid(self.trace, samples, width) for _ in range(count)]
        for limb, grid in enumerate(grids):
            self.look_up(grid, 1 << (cuts[limb + 1] - cuts[limb]))
        return _Expression([(1 << cuts[limb], (grid,)) for limb, grid in enumerate(grids)])

    def constrain(self, *monomials: tuple[int, tuple[_Grid, ...]]) -> None:
        for at in range(len(monomials[0][1][0].rows)):
            self.constraints.append([(c % P, tuple(grid.rows[at] for grid in grids)) for c, grids in monomials])

    def boolean(self, grid: _Grid) -> None:
        self.constrain((1, (grid, grid)), (-1, (grid,)))

    def finish(self) -> None:
        """The argument's own rows."""
        self.multiplicities = [self.flat(self.trace, size) for size, _ in self.tables]
        self.sum_mask, self.combination_mask = self.rows(self.trace, 2), self.rows(self.trace, 2)
        both = []
        for table in range(len(self.tables)):
            mine = [lookup for lookup in self.lookups if lookup[1] == table]
            pairs = -(-len(mine) // 2)
            both += list(zip(mine[:pairs], mine[len(mine) - pairs :], strict=True))
        inverses = self.rows(self.trace + 1, 2 * len(both))
        self.pairs = [(*pair, inverses[i], inverses[len(both) + i]) for i, pair in enumerate(both)]
        self.chunks = self.rows(self.trace + 2, 6)


@dataclass
class _Expression:
    """constant + sum of coefficient x product of one or two grids, entry by entry; the constant for genuine samples."""

    summands: list[tuple[int, tuple[_Grid, ...]]]
    constant: int = 0

    def __add__(self, other: _Expression) -> _Expression:
        return _Expression(self.summands + other.summands, self.constant + other.constant)

    def __mul__(self, factor: int) -> _Expression:
        return _Expression([(factor * c, grids) for c, grids in self.summands], factor * self.constant)

    def by(self, selector: _Grid) -> _Expression:
        made = [(c, (selector, *grids)) for c, grids in self.summands]
        return _Expression(made + ([(self.constant, (selector,))] if self.constant else []))


def _of(grid: _Grid, constant: int = 0) -> _Expression:
    return _Expression([(1, (grid,))], constant)


# --- section 3: sums


@dataclass
class _Challenges:
    alphas: list[K]
    gammas: list[K]
    mu: K
    point: K
    key_values: list[K] = field(default_factory=list)
    rho: K = ZERO
    tau: K = ZERO
    chi: list[K] = field(default_factory=list)


class _Sums:
    """The left side of (1) at zeta, by row and by pair of rows, and the constants."""

    def __init__(self, k: int, weights: list[K], rho: K) -> None:
        self.k, self.weights, self.rho = k, weights, rho
        self.linear: defaultdict[Row, K] = defaultdict(lambda: ZERO)
        self.products: defaultdict[tuple[Row, Row], K] = defaultdict(lambda: ZERO)
        self.constant = ZERO
        self._rho_powers = [ONE]

    def add_constant(self, value: K) -> None:
        self.constant = _add(self.constant, value)

    def add_entries(self, flat: _Flat, coefficients: Iterable[K]) -> None:
        """sum_i coefficient_i entry_i."""
        for i, coefficient in zip(range(flat.length), coefficients, strict=True):
            row = flat.rows[i // self.k]
            self.linear[row] = _add(self.linear[row], _mul(coefficient, self.weights[i % self.k]))

    def add_squares(self, flat: _Flat, coefficient: K) -> None:
        """coefficient x sum_i entry_i^2."""
        for i in range(flat.length):
            row = flat.rows[i // self.k]
            self.products[row, row] = _add(self.products[row, row], _mul(coefficient, self.weights[i % self.k]))

    def add_row(self, row: Row, coefficient: K) -> None:
        """coefficient x the sum over all slots."""
        self.linear[row] = _add(self.linear[row], _mul(coefficient, _total(self.weights)))

    def add_samples(self, expression: _Expression, vector: Sequence[K], samples: int) -> None:
        """sum_ij rho^i vector_j entry_ij, over all samples that rows have room for."""
        shape = expression.summands[0][1][0]
        for number, piece in enumerate(shape.pieces):
            per_row = self.k // piece.width
            for at in range(len(piece.rows)):
                weight = self._row_weight(at * per_row, per_row, piece, vector)
                for coefficient, grids in expression.summands:
                    rows = [grid.pieces[number].rows[at] for grid in grids]
                    self._add_product(rows, _times(weight, coefficient))
        total = _mul(_total(self.rho_powers(samples)), _total(vector))
        self.add_constant(_times(total, expression.constant))

    def add_chosen(self, grids: tuple[_Grid, ...], coefficient: K, chosen: Sequence[bool]) -> None:
        """coefficient x sum over chosen samples of a product of grids of width 1."""
        for i, wanted in enumerate(chosen):
            if wanted:
                rows = [grid.pieces[0].rows[i // self.k] for grid in grids]
                self._add_product(rows, _mul(coefficient, self.weights[i % self.k]))

    def rho_powers(self, count: int) -> list[K]:
        while len(self._rho_powers) < count:
            self._rho_powers.append(_mul(self._rho_powers[-1], self.rho))
        return self._rho_powers[:count]

    def _row_weight(self, first: int, per_row: int, piece: _Piece, vector: Sequence[K]) -> K:
        self.rho_powers(first + per_row)
        result = ZERO
        for i in range(per_row):
            slots = range(i * piece.width, i * piece.width + piece.used)
            inner = _total(_mul(vector[piece.start + j], self.weights[slot]) for j, slot in enumerate(slots))
            result = _add(result, _mul(self._rho_powers[first + i], inner))
        return result

    def _add_product(self, rows: Sequence[Row], weight: K) -> None:
        if len(rows) == 1:
            self.linear[rows[0]] = _add(self.linear[rows[0]], weight)
        else:
            key = rows[0], rows[1]
            self.products[key] = _add(self.products[key], weight)


Text: TypeAlias = Callable[[_Sums, _Challenges], None]


@dataclass(frozen=True)
class _Statement:
    layout: _Layout
    fields: tuple[bytes | int, ...]
    roots: tuple[bytes, ...]
    key_rows: int
    relations: int
    text: Text


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise MalformedProofError(f"a proof ends after {len(self.data)} bytes")
        self.at += count
        return part

    def symbols(self, count: int) -> list[int]:
        data = self.take(8 * count)
        values = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 8 * count, 8)]
        if any(value >= P for value in values):
            raise MalformedProofError("an element is not below p")
        return values

    def elements(self, count: int, transcript: _Transcript, label: str) -> list[K]:
        start = self.at
        values = self.symbols(2 * count)
        transcript.absorb(label, self.data[start : self.at])
        return list(zip(values[:count], values[count:], strict=True))

    def root(self, transcript: _Transcript, label: str) -> bytes:
        root = self.take(32)
        transcript.absorb(label, root)
        return root


def _check(statement: _Statement, proof: bytes) -> KeyValues:
    """The nine steps; the point is drawn before (3) is looked at, as sums are kept at the point."""
    layout, reader = statement.layout, _Reader(proof)
    k, queries, pads = layout.k, layout.queries, layout.pads
    shape = (statement.key_rows, statement.relations, k, layout.openings, queries, pads, *layout.counts)
    transcript = _Transcript("proof", *statement.fields, *statement.roots, *shape)
    roots = [*statement.roots, reader.root(transcript, "trace")]
    challenges = _draw_first(layout, transcript)
    if statement.key_rows:
        challenges.key_values = reader.elements(statement.key_rows, transcript, "key values")
    roots.append(reader.root(transcript, "products"))
    mask_total = reader.elements(1, transcript, "mask total")[0]
    challenges.rho, challenges.tau = transcript.draw("rho", 1)[0], transcript.draw("tau", 1)[0]
    challenges.chi = transcript.draw("chi", statement.relations + 1)
    remainder = reader.elements(k, transcript, "remainder")
    lambdas = transcript.draw("lambda", len(layout.pairs) + len(layout.constraints))
    roots.append(reader.root(transcript, "quotient"))
    zeta = transcript.draw("point", 1)[0]
    weights = _lagrange(k, zeta)
    sums = _Sums(k, weights, challenges.rho)
    statement.text(sums, challenges)
    _add_lookups(sums, layout, challenges, challenges.chi[statement.relations])
    for row, part in zip(layout.sum_mask, (ONE, X), strict=True):
        sums.add_row(row, part)
    if _total(remainder) != _sub(mask_total, sums.constant):
        raise SumRejectedError("equation (3)")
    rows = [(tree, row) for tree, count in enumerate(layout.counts) for row in range(count)]
    values = dict(zip(rows, reader.elements(len(rows), transcript, "values"), strict=True))
    left = _sub(_sums_at(sums, values), _total(map(_mul, remainder, weights)))
    _check_identity(layout, challenges, lambdas, zeta, values, left)
    factors = dict(zip(rows, transcript.draw("rows", len(rows)), strict=True))
    factors.update(zip(layout.combination_mask, (ONE, X), strict=True))
    combination = reader.elements(k + pads, transcript, "combination")
    at_zeta = _total(map(_mul, combination, _powers(zeta, k + pads)))
    if at_zeta != _total(_mul(factors[row], values[row]) for row in rows):
        raise CombinationRejectedError("equation (8) at zeta")
    nonce = reader.take(8)
    if sha256(transcript.state + nonce).digest()[:2] != bytes(2):
        raise GrindingRejectedError("no work")
    transcript.absorb("nonce", nonce)
    positions = transcript.positions("columns", queries, 4 * k)
    columns = [_open(reader, root, count, positions, 4 * k) for root, count in zip(roots, layout.counts, strict=True)]
    if reader.at != len(proof):
        raise MalformedProofError("bytes follow")
    whole = [[symbol for part in parts for symbol in part] for parts in zip(*columns, strict=True)]
    _check_columns(positions, whole, list(factors.values()), combination, 4 * k)
    return KeyValues(challenges.point, challenges.key_values)


def _draw_first(layout: _Layout, transcript: _Transcript) -> _Challenges:
    alphas, gammas = (transcript.draw(label, len(layout.tables)) for label in ("alpha", "gamma"))
    return _Challenges(alphas, gammas, transcript.draw("mu", 1)[0], transcript.draw("key point", 1)[0])


def _add_lookups(sums: _Sums, layout: _Layout, challenges: _Challenges, chi: K) -> None:
    """Equation (4)."""
    for _, _, first, second in layout.pairs:
        sums.add_row(first, chi)
        sums.add_row(second, _mul(chi, X))
    minus = _sub(ZERO, chi)
    for number, ((size, entries), flat) in enumerate(zip(layout.tables, layout.multiplicities, strict=True)):
        alpha, gamma = challenges.alphas[number], challenges.gammas[number]
        seconds = entries or (0,) * size
        denominators = [_sub(_sub(alpha, (e, 0)), _times(gamma, seconds[e])) for e in range(size)]
        sums.add_entries(flat, [_mul(minus, inverse) for inverse in _inverses(denominators)])


def _sums_at(sums: _Sums, values: dict[Row, K]) -> K:
    linear = (_mul(weight, values[row]) for row, weight in sums.linear.items())
    products = (_mul(weight, _mul(values[a], values[b])) for (a, b), weight in sums.products.items())
    return _add(_total(linear), _total(products))


def _check_identity(
    layout: _Layout, challenges: _Challenges, lambdas: list[K], zeta: K, values: dict[Row, K], left: K
) -> None:
    """Equation (6)."""
    for weight, (first, second, h0, h1) in zip(lambdas, layout.pairs, strict=False):
        sides = []
        for row, table, other in (first, second):
            side = _sub(challenges.alphas[table], values[row])
            sides.append(side if other is None else _sub(side, _mul(challenges.gammas[table], values[other])))
        h = _add(values[h0], _mul(X, values[h1]))
        relation = _sub(_mul(h, _mul(*sides)), _add(*sides))
        left = _add(left, _mul(weight, relation))
    for weight, monomials in zip(lambdas[len(layout.pairs) :], layout.constraints, strict=True):
        for coefficient, rows in monomials:
            product = _times(weight, coefficient)
            for row in rows:
                product = _mul(product, values[row])
            left = _add(left, product)
    power, quotient = _power(zeta, layout.k), ZERO
    for chunk in (2, 1, 0):
        first_part, second_part = (values[row] for row in layout.chunks[2 * chunk : 2 * chunk + 2])
        quotient = _add(_mul(quotient, power), _add(first_part, _mul(X, second_part)))
    if left != _mul(quotient, _sub(power, ONE)):
        raise IdentityRejectedError("equation (6)")


def _open(reader: _Reader, root: bytes, rows: int, positions: list[int], size: int) -> list[list[int]]:
    start = reader.at
    symbols = reader.symbols(rows * len(positions))
    data = reader.data[start : reader.at]
    salts = reader.take(SALT_BYTES * len(positions))
    siblings = reader.take(32 * _sibling_count(positions, size))
    leaves = {}
    for number, position in enumerate(positions):
        column = data[8 * rows * number : 8 * rows * (number + 1)]
        salt = salts[SALT_BYTES * number : SALT_BYTES * (number + 1)]
        leaves[position] = sha256(b"collegium/v1/leaf\x00" + column + salt).digest()
    missing = iter([siblings[at : at + 32] for at in range(0, len(siblings), 32)])
    if _root(leaves, size, missing) != root:
        raise OpeningRejectedError("a column is not the committed one")
    return [symbols[rows * number : rows * (number + 1)] for number in range(len(positions))]


def _check_columns(
    positions: list[int], columns: list[list[int]], factors: list[K], combination: list[K], size: int
) -> None:
    """Equation (8) at the opened columns."""
    root = pow(7, (P - 1) // size, P)
    for position, column in zip(positions, columns, strict=True):
        x = 7 * pow(root, _reversed_bits(position, size), P) % P
        first = second = 0
        for a, b in reversed(combination):
            first, second = (first * x + a) % P, (second * x + b) % P
        if (first, second) != _total(map(_times, factors, column)):
            raise CombinationRejectedError("equation (8) at a column")


# --- section 4.1: masked


@dataclass(frozen=True)
class _MaskTensors:
    noise: _Flat
    key: _Flat
    pads: _Flat

    @classmethod
    def declare(cls, layout: _Layout, masked: MaskedUpdate) -> _MaskTensors:
        made = cls(
            layout.flat(layout.trace, RING * len(masked.ciphertext)),
            layout.flat(layout.trace, 4 * masked.key_message_len),
            layout.flat(layout.trace, 4 * masked.key_randomness_len),
        )
        layout.look_up(made.noise, 2 * NOISE + 1)
        return made

    def add(self, sums: _Sums, masked: MaskedUpdate, challenges: _Challenges) -> None:
        """Sums 0, but for the update's part, to 4."""
        mu, chi, z = challenges.mu, challenges.chi, challenges.point
        ciphertext = [c for block in masked.ciphertext.tolist() for c in block]
        mus = _powers(mu, len(ciphertext))
        sums.add_entries(self.noise, [_mul(chi[0], power) for power in mus])
        noise_and_c = _add(_times(_total(mus), NOISE), _total(map(_times, mus, ciphertext)))
        sums.add_constant(_mul(chi[0], _sub(ZERO, noise_and_c)))
        k, t = masked.key_message_len, masked.key_randomness_len
        at_slots, vanishing = _lagrange(k, z), _sub(_power(z, k), ONE)
        at_pads = [_mul(vanishing, power) for power in _powers(z, t)]
        through_matrix = [_mul(chi[0], weight) for weight in _transposed(masked, mu)]
        copies = [_mul(chi[1 + row], weight) for row in range(4) for weight in at_slots]
        sums.add_entries(self.key, list(map(_add, through_matrix, copies)))
        sums.add_entries(self.pads, [_mul(chi[1 + row], weight) for row in range(4) for weight in at_pads])
        for row in range(4):
            sums.add_constant(_sub(ZERO, _mul(chi[1 + row], challenges.key_values[row])))


def _transposed(masked: MaskedUpdate, mu: K) -> list[K]:
    """The coefficients of s in sum_i mu^i (A s)_i, by prefix sums over a, the coefficients of sum_b mu^(4096 b) A_b.

    The one of s_j is mu^j (sum of a_l mu^l for l < 4096 - j, less mu^-4096 times the rest of that sum, which wraps).
    """
    blocks = _ring_elements(masked.matrix.astype("<u8").tobytes())
    steps = _powers(_power(mu, RING), max(2, len(blocks)))
    coefficients = [_total(map(_times, steps, column)) for column in zip(*blocks, strict=True)]
    mus = _powers(mu, RING)
    terms = list(map(_mul, coefficients, mus))
    wrapped, result, low, high = _inverse(steps[1]), [], _total(terms), ZERO
    for j in range(RING):
        result.append(_mul(mus[j], _sub(low, _mul(wrapped, high))))
        last = terms[RING - 1 - j]
        low, high = _sub(low, last), _add(high, last)
    return result


@lru_cache(maxsize=4)
def _ring_elements(matrix: bytes) -> list[list[int]]:
    """The coefficients of each block of A."""
    values = [int.from_bytes(matrix[at : at + 8], "little") for at in range(0, len(matrix), 8)]
    return [_negacyclic_coefficients(values[at : at + RING]) for at in range(0, len(values), RING)]


def _negacyclic_coefficients(values: list[int]) -> list[int]:
    """Undo the transform of F[X] / (X^n + 1), from the leaves to the root: docs/spec/algebra.md, section 2."""
    n, half, halving = len(values), 1, pow(2, -1, P)
    root = pow(7, (P - 1) // (2 * n), P)
    while half < n:
        nodes = n // (2 * half)
        turn, made = pow(7, (P - 1) // (2 * nodes), P), list[int]()
        for node in range(nodes):
            c = pow(root, half, P) * pow(turn, _reversed_bits(node, nodes), P) % P
            left, right = (values[at * half : (at + 1) * half] for at in (2 * node, 2 * node + 1))
            undo = pow(2 * c, -1, P)
            made += [(a + b) * halving % P for a, b in zip(left, right, strict=True)]
            made += [(a - b) * undo % P for a, b in zip(left, right, strict=True)]
        values, half = made, 2 * half
    return values


def _mask_fields(masked: MaskedUpdate) -> tuple[bytes | int, ...]:
    who = masked.identity
    names = (who.task, who.round, who.trainer, who.terms, who.model, who.rule, who.ciphertext, who.key_root)
    numbers = (masked.entries, masked.entry_bound, masked.lanes, masked.lane_bits, masked.noise_bits)
    return (*names, *numbers, len(masked.ciphertext), masked.key_message_len, masked.key_randomness_len)


def _update_scale(masked: MaskedUpdate, challenges: _Challenges, lane: int = 0) -> K:
    """chi_0 2^nu 2^(lane x lane bits) mu^offset."""
    start = _mul(challenges.chi[0], _power(challenges.mu, CHECK_BLOCKS * RING))
    return _times(start, 1 << (masked.noise_bits + lane * masked.lane_bits))


# --- section 4.2: bounded


def check_bounded(statement: BoundedStatement, proof: bytes) -> KeyValues:
    """Do what `verify_bounded` does: the same errors, the same point and values."""
    masked = statement.masked
    layout = _Layout(statement.code.message_len, 1, 0)
    mask = _MaskTensors.declare(layout, masked)
    bound, slots = masked.entry_bound, -(-masked.entries // masked.lanes)
    sides: list[list[list[_Flat]]] = []
    for lane in range(masked.lanes):
        length = min(slots, masked.entries - lane * slots)
        if 2 * bound + 1 <= 1 << 18:
            sides.append([_looked_up(layout, length, 1, 2 * bound + 1)])
        else:
            count = -(-(2 * bound).bit_length() // 12)
            sides.append([_looked_up(layout, length, count, 1 << 12) for _ in range(2)])
    norm = statement.norm_bound
    slack = None if norm is None else _looked_up(layout, -(-(norm**2).bit_length() // 12), 1, 1 << 12)[0]
    layout.finish()

    def text(sums: _Sums, challenges: _Challenges) -> None:
        chi = challenges.chi
        mask.add(sums, masked, challenges)
        for lane, side in enumerate(sides):
            _add_limbs(sums, side[0], _update_scale(masked, challenges, lane), challenges.mu, -bound)
            if len(side) == 2:
                _add_limbs(sums, side[0], chi[5 + lane], challenges.tau, -2 * bound)
                _add_limbs(sums, side[1], chi[5 + lane], challenges.tau, 0)
        if norm is not None and slack is not None:
            for ((flat,),) in sides:
                sums.add_squares(flat, chi[7])
                sums.add_entries(flat, [_times(chi[7], -2 * bound)] * flat.length)
                sums.add_constant(_times(chi[7], flat.length * bound**2))
            sums.add_entries(slack, [_times(chi[7], 1 << (12 * limb)) for limb in range(slack.length)])
            sums.add_constant(_times(chi[7], -(norm**2)))

    fields = (b"bounded", *_mask_fields(masked), 0 if norm is None else norm + 1)
    return _check(_Statement(layout, fields, (), 6, 8, text), proof)


def _looked_up(layout: _Layout, length: int, count: int, size: int) -> list[_Flat]:
    flats = [layout.flat(layout.trace, length) for _ in range(count)]
    for flat in flats:
        layout.look_up(flat, size)
    return flats


def _add_limbs(sums: _Sums, limbs: list[_Flat], scale: K, base: K, constant: int) -> None:
    """Add scale x sum_i base^i (what 12-bit limbs spell + constant)."""
    powers = [_mul(scale, power) for power in _powers(base, limbs[0].length)]
    for number, limb in enumerate(limbs):
        sums.add_entries(limb, [_times(power, 1 << (12 * number)) for power in powers])
    sums.add_constant(_times(_total(powers), constant))


# --- section 4.4: registration


def _data(layout: _Layout, tree: int, shape: DataShape) -> tuple[_Grid, _Grid, _Flat]:
    samples = shape.rows
    return layout.grid(tree, samples, shape.inputs), layout.grid(tree, samples, shape.outputs), layout.flat(tree, 1)


def _shape_fields(shape: DataShape) -> tuple[int, ...]:
    return shape.rows, shape.inputs, shape.outputs, shape.limit, shape.message_len


def check_registration(statement: RegistrationStatement, proof: bytes) -> None:
    """Do what `verify_registration` does, for registered rows."""
    shape, roots = cast(DataShape, statement.shape), statement.roots
    layout = _Layout(shape.message_len, 2, len(roots))
    trees = [_data(layout, tree, shape) for tree in range(len(roots))]
    features, labels, _ = trees[0]
    layout.look_up(features, 2 * shape.limit + 1)
    layout.boolean(labels)
    for other_features, other_labels, _ in trees[1:]:
        layout.constrain((1, (features,)), (-1, (other_features,)))
        layout.constrain((1, (labels,)), (-1, (other_labels,)))
    for _, _, seed in trees:
        layout.look_up(seed, SEEDS)
    layout.finish()

    def text(sums: _Sums, challenges: _Challenges) -> None:
        if shape.outputs > 1:
            chi = challenges.chi[0]
            sums.add_samples(_of(labels), [chi] * shape.outputs, shape.rows)
            sums.add_constant(_mul(_sub(ZERO, chi), _total(sums.rho_powers(shape.rows))))

    fields: tuple[bytes | int, ...] = (b"registration", *_shape_fields(shape), statement.owner, statement.context)
    _check(_Statement(layout, fields, roots, 0, 1, text), proof)


# --- section 4.3: training


class _Bounds(NamedTuple):
    """docs/spec/learning.md, section 5: of each layer's input, sum and error, index 0 the first layer."""

    inputs: list[int]
    sums: list[int]
    errors: list[int]


def _bounds(spec: ModelSpec, rule: Rule) -> _Bounds:
    one, layers = 1 << rule.fraction_bits, spec.layers
    weights = [rule.hidden_limit * one] * (len(layers) - 1) + [rule.output_limit * one]
    inputs, sums = [rule.feature_limit * one], list[int]()
    for (fan_in, _), weight in zip(layers, weights, strict=True):
        sums.append(weight * (fan_in * inputs[-1] + one))
        largest = sums[-1] // one
        if rule.activation_limit is not None:
            largest = min(largest, rule.activation_limit * one - 1)
        inputs.append(max(one, largest))
    errors = [one + (-(-sums[-1] // one) if rule.loss == "squared" else 0)]
    for layer in range(len(layers) - 1, 0, -1):
        error = -(-layers[layer][1] * errors[0] * weights[layer] // one)
        errors.insert(0, error if rule.error_limit is None else min(error, rule.error_limit * one))
    return _Bounds(inputs, sums, errors)


@lru_cache(maxsize=8)
def _sigmoid_table(fraction_bits: int) -> tuple[int, ...]:
    exact, one = Context(prec=60), Decimal(1 << fraction_bits)
    powers = (exact.exp(-Decimal(2 * index + 1) / 512) for index in range(4096))
    upper = [_nearest(exact.divide(one, exact.add(1, power))) for power in powers]
    return (*((1 << fraction_bits) - value for value in reversed(upper)), *upper)


@lru_cache(maxsize=8)
def _exponential_table(fraction_bits: int) -> tuple[int, ...]:
    exact, one = Context(prec=60), Decimal(1 << fraction_bits)
    return tuple(_nearest(exact.multiply(one, exact.exp(-Decimal(d) / 256))) for d in range(4096))


def _nearest(value: Decimal) -> int:
    return int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


@dataclass(frozen=True)
class _Hidden:
    quotient: _Expression
    remainder: _Expression
    activation: _Expression
    back: _Expression
    back_remainder: _Expression
    error: _Expression


def _hidden(layout: _Layout, rule: Rule, rows: int, width: int, largest: int, error: int) -> _Hidden:
    most, f = max(8, min(16, (rows * width).bit_length() - 2)), rule.fraction_bits
    selector = layout.grid(layout.trace, rows, width)
    layout.boolean(selector)
    limited = rule.error_limit is not None and error == rule.error_limit << f
    offset = error if limited else 1 << error.bit_length()
    if rule.activation_limit is not None:
        largest = min(largest, (rule.activation_limit << f) - 1)
    remainder = layout.limbs(rows, width, f, most)
    unsigned = layout.limbs(rows, width, largest.bit_length(), most)
    back_remainder = layout.limbs(rows, width, f, most)
    back = layout.limbs(rows, width, offset.bit_length(), most) + _Expression([], -offset)
    activation = unsigned.by(selector)
    quotient = activation * 2 + unsigned * -1 + _of(selector, -1)
    return _Hidden(quotient, remainder, activation, back, back_remainder, back.by(selector))


AddZ: TypeAlias = Callable[[Sequence[K]], None]
Loss: TypeAlias = tuple[_Expression, Callable[[_Sums, Sequence[K], Sequence[K], AddZ], None]]


def _squared(layout: _Layout, rule: Rule, rows: int, outputs: int, largest: int) -> Loss:
    one = 1 << rule.fraction_bits
    offset = 1 << (largest // one).bit_length()
    remainder = layout.limbs(rows, outputs, rule.fraction_bits, 12)
    quotient = layout.limbs(rows, outputs, offset.bit_length(), 12) + _Expression([], -offset)

    def add(sums: _Sums, taus: Sequence[K], chi: Sequence[K], add_z: AddZ) -> None:
        vector = [_mul(tau, chi[0]) for tau in taus]
        add_z(vector)
        sums.add_samples(quotient * -one + remainder * -1, vector, rows)

    return quotient, add


def _sigmoid(layout: _Layout, rule: Rule, rows: int, outputs: int, largest: int) -> Loss:
    shift, table = 2 * rule.fraction_bits - 8, _sigmoid_table(rule.fraction_bits)
    remainder = layout.limbs(rows, outputs, shift, 12)
    excess = layout.limbs(rows, outputs, ((largest >> shift) + 1).bit_length(), 12)
    place, value, high, low = (layout.grid(layout.trace, rows, 1) for _ in range(4))
    layout.look_up(place, 8192, value, tuple(entry - table[0] for entry in table))
    layout.boolean(high)
    layout.boolean(low)
    layout.constrain((1, (high, place)), (-8191, (high,)))
    layout.constrain((1, (low, place)))
    index = _of(place, -4096) + excess.by(high) + excess.by(low) * -1

    def add(sums: _Sums, taus: Sequence[K], chi: Sequence[K], add_z: AddZ) -> None:
        add_z([chi[0]])
        sums.add_samples(index * -(1 << shift) + remainder * -1, [chi[0]], rows)

    return _of(value, table[0]), add


def _softmax(layout: _Layout, rule: Rule, rows: int, outputs: int, largest: int) -> Loss:
    f, one, shift = rule.fraction_bits, 1 << rule.fraction_bits, 2 * rule.fraction_bits - 8
    offset = 1 << ((largest >> shift) + 1).bit_length()
    near, power, far, top, normaliser, probability = (layout.grid(layout.trace, rows, outputs) for _ in range(6))
    remainder = layout.limbs(rows, outputs, shift, 12)
    maximum = layout.limbs(rows, 1, offset.bit_length(), 12) + _Expression([], -offset)
    excess = layout.limbs(rows, outputs, offset.bit_length(), 12)
    rest, room = (layout.limbs(rows, outputs, (outputs * one).bit_length(), 12) for _ in range(2))
    layout.look_up(near, 4096, power, tuple(one - entry for entry in _exponential_table(f)))
    layout.look_up(probability, one + 1)
    layout.boolean(far)
    layout.boolean(top)
    layout.constrain((1, (far, near)), (-4095, (far,)))
    layout.constrain((1, (top, near)))
    layout.constrain((1, (top, far)))
    exponential = _of(power) * -1 + _Expression([], one)

    def add(sums: _Sums, taus: Sequence[K], chi: Sequence[K], add_z: AddZ) -> None:
        weighed = [[_mul(tau, c) for tau in taus] for c in chi]
        add_z(weighed[0])
        sums.add_samples((_of(near) + excess.by(far)) * (1 << shift) + remainder * -1, weighed[0], rows)
        sums.add_samples(maximum * -(1 << shift), [_total(weighed[0])], rows)
        sums.add_samples(_of(top), [chi[1]] * outputs, rows)
        sums.add_constant(_mul(_sub(ZERO, chi[1]), _total(sums.rho_powers(rows))))
        sums.add_samples(_of(normaliser), weighed[2], rows)
        sums.add_samples(exponential * -1, [_total(weighed[2])] * outputs, rows)
        quotient = _Expression([(-1, (probability, normaliser))])
        sums.add_samples(exponential * one + rest * -1 + quotient, weighed[3], rows)
        sums.add_samples(_of(normaliser, -1) + rest * -1 + room * -1, weighed[4], rows)

    return _of(probability), add


_LOSSES = {"squared": _squared, "sigmoid": _sigmoid, "softmax": _softmax}


@dataclass(frozen=True)
class _Network:
    """A and D of each layer as expressions, W and b as integers."""

    rows: int
    one: int
    inputs: list[_Expression]
    errors: list[_Expression]
    weights: list[list[list[int]]]
    biases: list[list[int]]

    def add_forward(self, sums: _Sums, layer: int, vector: Sequence[K]) -> None:
        """Add sum_ij rho^i vector_j (A W + 2^f b)_ij."""
        folded = [_total(map(_times, vector, row)) for row in self.weights[layer]]
        sums.add_samples(self.inputs[layer], folded, self.rows)
        bias = _times(_total(map(_times, vector, self.biases[layer])), self.one)
        sums.add_constant(_mul(bias, _total(sums.rho_powers(self.rows))))

    def add_backward(self, sums: _Sums, layer: int, vector: Sequence[K]) -> None:
        """Add sum_ij rho^i vector_j (D W^T)_ij of a layer."""
        columns = zip(*self.weights[layer], strict=True)
        sums.add_samples(self.errors[layer], [_total(map(_times, vector, column)) for column in columns], self.rows)


def check_training(statement: TrainingStatement, proof: bytes) -> KeyValues:
    """Do what `verify_training` does: the same errors, the same point and values."""
    spec, rule, masked, rows = statement.spec, statement.rule, statement.masked, statement.data.rows
    layers, bounds = spec.layers, _bounds(spec, rule)
    layout = _Layout(statement.data.message_len, 2, 1)
    features, labels, _ = _data(layout, 0, statement.data)
    mask = _MaskTensors.declare(layout, masked)
    hidden = [
        _hidden(layout, rule, rows, width, bounds.inputs[layer + 1], bounds.errors[layer])
        for layer, width in enumerate(spec.hidden)
    ]
    predicted, add_loss = _LOSSES[rule.loss](layout, rule, rows, spec.outputs, bounds.sums[-1])
    inner = [[layout.grid(layout.trace + 1, rows, 1) for _ in range(4)] for _ in layers]
    layout.finish()
    network = _Network(
        rows,
        1 << rule.fraction_bits,
        [_of(features, -statement.data.limit), *(unit.activation for unit in hidden)],
        [*(unit.error for unit in hidden), predicted + _of(labels) * -(1 << rule.fraction_bits)],
        *_matrices(spec, statement.parameters.tolist()),
    )

    def text(sums: _Sums, challenges: _Challenges) -> None:
        mask.add(sums, masked, challenges)
        chi = iter(challenges.chi[5:])
        taus = _powers(challenges.tau, max(fan_out for _, fan_out in layers))
        for layer, unit in enumerate(hidden):
            weight = next(chi)
            vector = [_mul(tau, weight) for tau in taus[: spec.hidden[layer]]]
            network.add_forward(sums, layer, vector)
            sums.add_samples(unit.quotient * -network.one + unit.remainder * -1, vector, rows)
        weights = [next(chi) for _ in range(5)]
        add_loss(sums, taus[: spec.outputs], weights, lambda v: network.add_forward(sums, len(hidden), v))
        for layer, unit in enumerate(hidden):
            weight = next(chi)
            vector = [_mul(tau, weight) for tau in taus[: spec.hidden[layer]]]
            network.add_backward(sums, layer + 1, vector)
            sums.add_samples(unit.back * -network.one + unit.back_remainder * -1, vector, rows)
        for layer, grids in enumerate(inner):
            _add_inner(sums, network, layer, grids, challenges.mu, (next(chi), next(chi)))
        _add_gradient(sums, statement, inner, challenges)

    fields = (b"training", *_mask_fields(masked), *_training_fields(statement))
    return _check(_Statement(layout, fields, (statement.data_root,), 6, 8 + 4 * len(layers), text), proof)


def _add_inner(sums: _Sums, network: _Network, layer: int, grids: list[_Grid], mu: K, chis: tuple[K, K]) -> None:
    fan_in, fan_out = len(network.weights[layer]), len(network.biases[layer])
    left, right = _powers(_power(mu, fan_out), fan_in), _powers(mu, fan_out)
    for side, (expression, vector) in enumerate(((network.inputs[layer], left), (network.errors[layer], right))):
        sums.add_samples(expression, [_mul(chis[side], power) for power in vector], network.rows)
        for part, unit in enumerate((ONE, X)):
            minus = _sub(ZERO, _mul(chis[side], unit))
            sums.add_samples(_of(grids[2 * side + part]), [minus], network.rows)


def _add_gradient(sums: _Sums, statement: TrainingStatement, inner: list[list[_Grid]], challenges: _Challenges) -> None:
    """Add the update's part of sum 0."""
    scale, chosen, start = _update_scale(statement.masked, challenges), statement.chosen.tolist(), 0
    for (fan_in, fan_out), grids in zip(statement.spec.layers, inner, strict=True):
        weight = _mul(scale, _power(challenges.mu, start))
        bias = _times(_mul(weight, _power(challenges.mu, fan_in * fan_out)), 1 << statement.rule.fraction_bits)
        for part, unit in enumerate((ONE, X)):
            for other_part, other_unit in enumerate((ONE, X)):
                both = _mul(weight, _mul(unit, other_unit))
                sums.add_chosen((grids[part], grids[2 + other_part]), both, chosen)
            sums.add_chosen((grids[2 + part],), _mul(bias, unit), chosen)
        start += (fan_in + 1) * fan_out
    sums.add_constant(_times(_mul(scale, _power(challenges.mu, start)), sum(chosen)))


def _matrices(spec: ModelSpec, parameters: list[int]) -> tuple[list[list[list[int]]], list[list[int]]]:
    rest, weights, biases = iter(parameters), [], []
    for fan_in, fan_out in spec.layers:
        weights.append([[next(rest) for _ in range(fan_out)] for _ in range(fan_in)])
        biases.append([next(rest) for _ in range(fan_out)])
    return weights, biases


def _training_fields(statement: TrainingStatement) -> tuple[bytes | int, ...]:
    rule = repr(sorted(learning.describe_rule(statement.spec, statement.rule).items())).encode()
    model = b"".join(value.to_bytes(4, "little", signed=True) for value in statement.parameters.tolist())
    bits = "".join("1" if wanted else "0" for wanted in statement.chosen.tolist())
    padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
    chosen = bytes(int(padded[at : at + 8], 2) for at in range(0, len(padded), 8))
    return (rule, model, *_shape_fields(statement.data), chosen)
