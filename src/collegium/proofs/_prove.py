"""The prover: the numbered steps of `_program`, in the same order as `_verify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count as count_from
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from collegium.algebra import (
    FieldArray,
    P,
    Randomness,
    add,
    coset_intt,
    coset_ntt,
    ext_scale,
    intt,
    inverse,
    mul,
    ntt,
    over_rows,
    root_of_unity,
    sample_field,
    sub,
    to_bytes,
    transform_trees,
)
from collegium.commitment import MerkleTree, hash_rows, leaves_of_slices
from collegium.crypto import Digest, Transcript

from . import _kernels
from ._errors import UnprovableError
from ._layout import QUOTIENT_CHUNKS, SALT_PLACES, Layout
from ._parameters import GRINDING_BITS, RATE_INVERSE, ProofCode
from ._program import (
    Assignment,
    FirstChallenges,
    Program,
    constraint_weights,
    draw_first,
    draw_second,
    full_sums,
    lagrange,
    open_transcript,
    table_inverses,
    to_ext,
)
from ._sums import ONE, Index, Sums, Term, ext_sum
from ._verify import NONCE_BYTES, combination_weights

__all__ = ["CommittedRows", "Proved", "Work", "commit_rows", "prove", "run"]

Part = Callable[[str], None]
Allocate = Callable[[tuple[int, int]], FieldArray]


def in_memory(shape: tuple[int, int]) -> FieldArray:
    """Return an array of this shape, its content not set."""
    return np.empty(shape, np.uint64)


@dataclass(frozen=True)
class CommittedRows:
    """One tree: messages (rows, k), pads (rows, t), and columns (N, rows + 2), a salt behind each."""

    messages: FieldArray
    pads: FieldArray
    columns: FieldArray
    tree: MerkleTree

    @property
    def root(self) -> Digest:
        """The commitment."""
        return self.tree.root


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof, and the point with the values that the key's report must confirm."""

    proof: bytes
    first: FirstChallenges


def commit_rows(code: ProofCode, messages: FieldArray, random: Randomness) -> CommittedRows:
    """Encode rows with fresh pads and salts, and commit to their columns."""
    rows = len(messages)
    pads = sample_field(random, rows * code.randomness_len).reshape(rows, -1)
    columns = np.empty((code.domain.size, rows + SALT_PLACES), np.uint64)
    tree = _commit(code, messages, pads, columns, 0, rows, random)
    return CommittedRows(messages, pads, columns, tree)


def prove(
    program: Program,
    assignment: Assignment,
    data: Sequence[CommittedRows],
    random: Randomness,
    on_part: Part = lambda _: None,
    allocate: Allocate = in_memory,
) -> Proved:
    """Return a proof of a program's statement.

    Args:
        program: the statement.
        assignment: the private numbers.
        data: the committed data trees, in the program's order.
        random: the operating system's randomness or a stream seeded from it; a retry needs fresh bytes.
        on_part: called with the name of each part of the work when it is done.
        allocate: makes the array of all columns, four times the witness: in memory, or mapped to a file that nobody
            else can read, for the columns tell the witness.

    Raises:
        UnprovableError: the numbers do not satisfy the statement.
    """
    return run(Work(program, data, random, on_part, allocate), assignment)


def run(work: Work, assignment: Assignment) -> Proved:
    """Return the proof that these matrices lead to: the nine steps."""
    program, on_part = work.program, work.on_part
    layout, code = program.layout, program.layout.code
    transcript = open_transcript(program)
    # 1. commit the trace
    assignment.trace(work.messages)
    _fill_masks(work)
    _count_multiplicities(work)
    on_part("witness")
    trace_root = work.commit(layout.trace)
    # 2. challenges for lookups, products and the key; the key's values
    first = draw_first(program, transcript, trace_root)
    if program.key_rows:
        first = replace(first, key_values=assignment.key_values(first.point))
        work.send(transcript, "key values", first.key_values)
    # 3. commit inverses and products
    assignment.products(work.messages, first)
    _fill_inverses(work, first)
    on_part("products")
    work.commit(layout.products, transcript, "products")
    masks = work.messages[layout.index(layout.sum_mask)]
    mask_total = ext_sum(np.ascontiguousarray(masks))
    work.send(transcript, "mask total", np.array([[mask_total[0]], [mask_total[1]]], np.uint64))
    # 4. challenges for the sums
    second = draw_second(program, transcript)
    sums = full_sums(program, first, second, mask_total)
    on_part("sums")
    # 5. the remainder g
    folded = _fold_terms(work, sums)
    remainder = _remainder(work, folded)
    on_part("fold")
    if ext_sum(remainder) != sums.target and not work.careless:
        raise UnprovableError("the private numbers do not satisfy the statement's sums")
    work.send(transcript, "remainder", remainder)
    # 6. challenges for the slots; commit the quotient
    lambdas = transcript.challenge_ext("lambda", layout.constraint_count)
    _fill_quotient(work, first, lambdas, folded, remainder)
    on_part("quotient")
    work.commit(layout.quotient, transcript, "quotient")
    # 7. a point out of the domain; every row's value
    point = to_ext(transcript.challenge_ext("point", 1))
    values = np.empty((2, layout.width), np.uint64)
    at_message, at_pad = lagrange(code, point)
    arguments = (work.messages, work.pads, at_message, at_pad, values)
    over_rows(_kernels.evaluate_rows, layout.width, work.messages.size, *arguments)
    work.send(transcript, "values", _compact(layout, values))
    on_part("values")
    # 8. coefficients; the combination of all rows
    weights = combination_weights(program, transcript)
    work.send(transcript, "combination", _combine(work, weights))
    on_part("combination")
    # 9. work, then columns
    nonce = _grind(transcript.state)
    work.parts.append(nonce)
    transcript.absorb("nonce", nonce)
    on_part("grinding")
    positions = transcript.challenge_indices("columns", code.queries, code.domain.size)
    for number, tree in enumerate(work.trees):
        work.parts.append(_opened(work.columns_of(number), tree, positions))
    on_part("openings")
    return Proved(b"".join(work.parts), first)


class Work:
    """The prover's matrices: all rows' messages and pads, all columns, the trees made so far, the parts sent.

    Memory: 8 (1 + N / k) bytes a slot, that is five times the witness. A `careless` prover goes on where an honest
    one sees that its numbers do not satisfy the statement; only tests of soundness want one.
    """

    def __init__(
        self,
        program: Program,
        data: Sequence[CommittedRows],
        random: Randomness,
        on_part: Part,
        allocate: Allocate = in_memory,
    ) -> None:
        layout, code = program.layout, program.layout.code
        self.program, self.layout, self.random, self.on_part = program, layout, random, on_part
        self.careless = False
        self.messages = np.zeros((layout.width, code.message_len), np.uint64)
        self.pads = np.zeros((layout.width, code.randomness_len), np.uint64)
        self.columns = allocate((code.domain.size, layout.width))
        self.trees: list[MerkleTree] = []
        self.parts: list[bytes] = []
        for number, committed in enumerate(data):
            place = layout.tree_slice(number)
            self.messages[place], self.pads[place] = committed.messages, committed.pads
            self.trees.append(committed.tree)
        self._apart = dict(enumerate(data))

    def need(self, places: Index) -> None:
        """Have these places in `columns`: a data tree's stay with it until a relation reads them at every point."""
        for number in list(self._apart):
            place = self.layout.tree_slice(number)
            if ((places >= place.start) & (places < place.stop)).any():
                self.columns[:, place.start : place.stop + SALT_PLACES] = self._apart.pop(number).columns

    def columns_of(self, tree: int) -> FieldArray:
        """Return the columns of one tree with their salts, (N, rows + 2)."""
        place = self.layout.tree_slice(tree)
        apart = self._apart.get(tree)
        return self.columns[:, place.start : place.stop + SALT_PLACES] if apart is None else apart.columns

    def commit(self, tree: int, transcript: Transcript | None = None, label: str = "") -> Digest:
        """Pad, encode and commit the rows of one tree; send the root."""
        place, code = self.layout.tree_slice(tree), self.layout.code
        rows = place.stop - place.start
        if tree != self.layout.quotient:
            self.pads[place] = sample_field(self.random, rows * code.randomness_len).reshape(rows, -1)
        messages, pads = self.messages[place], self.pads[place]
        committed = _commit(code, messages, pads, self.columns, place.start, rows, self.random, self.on_part)
        self.trees.append(committed)
        self.parts.append(committed.root)
        if transcript is not None:
            transcript.absorb(label, committed.root)
        return committed.root

    def send(self, transcript: Transcript, label: str, values: FieldArray) -> None:
        """Send elements of K."""
        data = to_bytes(np.ascontiguousarray(values))
        transcript.absorb(label, data)
        self.parts.append(data)


# --- encoding and hashing


def _commit(
    code: ProofCode,
    messages: FieldArray,
    pads: FieldArray,
    columns: FieldArray,
    first: int,
    rows: int,
    random: Randomness,
    on_part: Part = lambda _: None,
) -> MerkleTree:
    _encode(code, messages, pads, columns, first)
    salts = np.frombuffer(random(8 * SALT_PLACES * len(columns)), np.uint64).reshape(-1, SALT_PLACES)
    columns[:, first + rows : first + rows + SALT_PLACES] = salts
    on_part("encode")
    tree = MerkleTree(leaves_of_slices(columns, first, first + rows + SALT_PLACES))
    on_part("hash")
    return tree


def _encode(code: ProofCode, messages: FieldArray, pads: FieldArray, columns: FieldArray, first: int) -> None:
    """Write the codewords of rows to the places of `columns` (N, ...) from `first` on."""
    blocks = -(-len(messages) // _kernels.LANES)
    arguments = (messages, pads, *_tables(code), columns, first)
    over_rows(_kernels.encode_columns, blocks, messages.size * RATE_INVERSE, *arguments)


@lru_cache(maxsize=8)
def _tables(code: ProofCode) -> tuple[FieldArray, FieldArray, np.uint64, FieldArray]:
    """Tables of the transforms on H and on the four cosets, and X^k on each coset."""
    k, shift = code.message_len, code.domain.shift
    root = root_of_unity(code.domain.size)
    bits = RATE_INVERSE.bit_length() - 1
    shifts = [shift * pow(root, int(format(coset, f"0{bits}b")[::-1], 2), P) % P for coset in range(RATE_INVERSE)]
    trees = np.stack([transform_trees(k, coset)[0] for coset in shifts])
    _, inverse_tree, size_inverse = transform_trees(k, 1)
    plain = inverse_tree.copy()
    if k > 1:
        plain[1] = int(plain[1]) * k % P  # the algebra room folds 1 / k into entry 1; here it is applied at the end
    return trees, plain, size_inverse, np.array([pow(coset, k, P) for coset in shifts], np.uint64)


# --- what the argument adds to the trace


def _fill_masks(work: Work) -> None:
    """Rows that are uniform, message and (when committed) pad: they hide g and the combination."""
    layout = work.layout
    for rows in (layout.sum_mask, layout.combination_mask):
        place = layout.index(rows)
        uniform = sample_field(work.random, rows.count * layout.code.message_len)
        work.messages[place] = uniform.reshape(rows.count, -1)


def _count_multiplicities(work: Work) -> None:
    """How often each entry of each table is looked up.

    Raises:
        UnprovableError: a value is not in its table.
    """
    layout = work.layout
    for number, (table, flat) in enumerate(zip(layout.tables, layout.multiplicities, strict=True)):
        counts = np.zeros(table.size, np.int64)
        chosen = layout.pair_tables == number
        for row, second in zip(layout.pair_rows[chosen].flat, layout.pair_seconds[chosen].flat, strict=True):
            values = work.messages[row]
            if int(values.max()) >= table.size:
                if not work.careless:
                    raise UnprovableError(f"a value is {int(values.max())}, its range ends at {table.size - 1}")
                values = np.minimum(values, np.uint64(table.size - 1))
            if table.second is not None and second >= 0 and not work.careless:
                expected = np.array(table.second, np.uint64)[values.view(np.int64)]
                if (expected != work.messages[second]).any():
                    raise UnprovableError("a pair of values is not in its table")
            counts += np.bincount(values.view(np.int64), minlength=table.size)
        padded = np.zeros(flat.rows.count * layout.code.message_len, np.uint64)
        padded[: table.size] = counts
        work.messages[layout.index(flat.rows)] = padded.reshape(flat.rows.count, -1)


def _fill_inverses(work: Work, first: FirstChallenges) -> None:
    layout = work.layout
    if not len(layout.pair_rows):
        return
    tables = [
        table_inverses(table, to_ext(first.alphas, number), to_ext(first.gammas, number))
        for number, table in enumerate(layout.tables)
    ]
    bases = np.cumsum([0, *(table.size for table in layout.tables)])[:-1].astype(np.uint64)
    arguments = (layout.pair_rows, layout.pair_tables, layout.pair_inverses, bases)
    kept = _clipped_for_careless(work)
    joined = np.ascontiguousarray(np.concatenate(tables, axis=1))
    pairs, slots = len(layout.pair_rows), layout.code.message_len
    over_rows(_kernels.gather_inverses, pairs, pairs * slots, work.messages, *arguments, joined)
    for row, values in kept.items():
        work.messages[row] = values


def _clipped_for_careless(work: Work) -> dict[int, FieldArray]:
    """A careless prover's values outside their tables, put inside while inverses are gathered; return the true ones."""
    kept: dict[int, FieldArray] = {}
    if work.careless:
        for row, table in zip(work.layout.pair_rows.flat, work.layout.pair_tables.repeat(2), strict=True):
            limit = np.uint64(work.layout.tables[table].size - 1)
            if int(work.messages[row].max()) > limit:
                kept[int(row)] = work.messages[row].copy()
                work.messages[row] = np.minimum(work.messages[row], limit)
    return kept


# --- sums and quotient


@dataclass(frozen=True, slots=True)
class _Folded:
    """A term ready for use: its rows as one polynomial over K, message (2, k) and pad (2, t).

    A term of one row of weight 1 has no fold, nor has a term of products.
    """

    term: Term
    message: FieldArray | None = None
    pad: FieldArray | None = None


def _fold_terms(work: Work, sums: Sums) -> list[_Folded]:
    folded = []
    for term in sums.terms:
        single = len(term.first) == 1 and term.slots is not None and to_ext(term.weights) == ONE
        if term.second is not None or single:
            folded.append(_Folded(term))
            continue
        folded.append(
            _Folded(term, *(fold_of(matrix, term.first, term.weights) for matrix in (work.messages, work.pads)))
        )
    return folded


def fold_of(matrix: FieldArray, chosen: Index, weights: FieldArray) -> FieldArray:
    """Return sum_i weights_i matrix[chosen_i], (2, width)."""
    width = matrix.shape[1]
    out = np.zeros((2, width), np.uint64)
    over_rows(_kernels.fold_rows, width, len(chosen) * width, matrix, chosen, weights, out)
    return out


def _remainder(work: Work, folded: Sequence[_Folded]) -> FieldArray:
    """Return the terms' values on H, summed, (2, k)."""
    k = work.layout.code.message_len
    out = np.zeros((2, k), np.uint64)
    for item in folded:
        term, value = item.term, item.message
        if term.second is not None:
            value = np.zeros((2, k), np.uint64)
            arguments = (work.messages, term.first, term.second, term.weights, value)
            over_rows(_kernels.fold_products, k, k * len(term.first), *arguments)
        if value is None:
            row = work.messages[int(term.first[0])]
            over_rows(_kernels.scale_row_onto, k, k, term.slots, row, out)
        elif term.slots is None:
            out = add(out, value)
        else:
            over_rows(_kernels.multiply_onto, k, k, term.slots, value, out)
    return out


def _fill_quotient(
    work: Work, first: FirstChallenges, lambdas: FieldArray, folded: Sequence[_Folded], remainder: FieldArray
) -> None:
    """Write the masked chunks of q = (sums - g + slot relations) / (X^k - 1)."""
    layout, code = work.layout, work.layout.code
    total = _sums_on_domain(work, folded, remainder)
    work.on_part("quotient: sums")
    pair_weights, monomial_weights = constraint_weights(layout, lambdas)
    _lookups_on_domain(work, first, pair_weights, total)
    places = layout.monomial_factors
    for degree in range(1, places.shape[1] + 1):
        chosen = (places >= 0).sum(axis=1) == degree
        _products_on_domain(work, places[chosen][:, :degree], monomial_weights[:, chosen], total)
    work.on_part("quotient: slots")
    vanishing = np.array([(int(kappa) - 1) % P for kappa in _tables(code)[3]], np.uint64)
    divided = mul(total.reshape(2, RATE_INVERSE, -1), inverse(vanishing)[None, :, None]).reshape(2, -1)
    coefficients = coset_intt(np.ascontiguousarray(divided), code.domain.shift)
    _split_quotient(work, coefficients)


def _sums_on_domain(work: Work, folded: Sequence[_Folded], remainder: FieldArray) -> FieldArray:
    """Return sums - g at every point of the domain, (2, N): slots and values of all terms are encoded together.

    A row of `columns` has the two parts of the slots of every term, then the two parts of the values.
    """
    code = work.layout.code
    size, k, t = code.domain.size, code.message_len, code.randomness_len
    ordered = sorted(folded, key=lambda item: item.message is None)
    values = [item for item in ordered if item.message is not None]
    count = len(ordered)
    slots = np.stack([_ones(k) if item.term.slots is None else item.term.slots for item in ordered], axis=1)
    columns = np.zeros((size, 4 * count), np.uint64)
    _encode(code, slots.reshape(-1, k), np.zeros((2 * count, t), np.uint64), columns, 0)
    messages, pads = (np.stack(parts, axis=1) for parts in zip(*((v.message, v.pad) for v in values), strict=True))
    for part in range(2):
        arguments = (np.ascontiguousarray(messages[part]), np.ascontiguousarray(pads[part]), columns)
        _encode(code, *arguments, (2 + part) * count)
    for number, item in enumerate(ordered[len(values) :], start=len(values)):
        term, place = item.term, 2 * count + number
        if term.second is None:
            work.need(term.first)
            columns[:, place] = work.columns[:, int(term.first[0])]
            continue
        value = np.zeros((2, size), np.uint64)
        _products_on_domain(work, np.stack([term.first, term.second], axis=1), term.weights, value)
        columns[:, place], columns[:, place + count] = value
    total = coset_ntt(ext_scale(intt(remainder), (P - 1, 0)), code.domain.shift, size)
    over_rows(_kernels.terms_at, size, size * count * 4, columns, count, total)
    return total


def _ones(k: int) -> FieldArray:
    ones = np.zeros((2, k), np.uint64)
    ones[0] = 1
    return ones


def _lookups_on_domain(work: Work, first: FirstChallenges, weights: FieldArray, total: FieldArray) -> None:
    """Add the pairs of lookups: in runs of rows that follow one another, the pairs with second columns one by one."""
    layout, size = work.layout, work.layout.code.domain.size
    rows, inverses, tables = layout.pair_rows, layout.pair_inverses, layout.pair_tables
    work.need(rows)
    work.need(layout.pair_seconds)
    keys = np.concatenate([rows, inverses], axis=1)
    for start, stop in _runs(keys, tables[:, None]):
        amount, part, table = (
            size * (stop - start) * 8,
            np.ascontiguousarray(weights[:, start:stop]),
            int(tables[start]),
        )
        if layout.tables[table].second is None:
            alpha = np.ascontiguousarray(first.alphas[:, table])
            over_rows(_kernels.lookup_run_at, size, amount, work.columns, keys[start], stop - start, alpha, part, total)
            continue
        picked = (array[start:stop] for array in (rows, layout.pair_seconds, inverses))
        challenges = (first.alphas, first.gammas, part, total)
        over_rows(_kernels.lookups_at, size, amount, work.columns, *picked, table, *challenges)


def _products_on_domain(work: Work, places: Index, weights: FieldArray, total: FieldArray) -> None:
    """Add sum_i weights_i prod_f columns[:, places_if], in runs of rows that follow one another."""
    size, degree = work.layout.code.domain.size, places.shape[1]
    work.need(places)
    for start, stop in _runs(places, np.zeros((len(places), 1), np.int64)):
        firsts = np.concatenate([places[start], np.repeat(places[start][:1], 3 - degree)])
        part = np.ascontiguousarray(weights[:, start:stop])
        arguments = (work.columns, firsts, degree, stop - start, part, total)
        over_rows(_kernels.products_run_at, size, size * (stop - start) * 4, *arguments)


def _runs(following: Index, equal: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the longest ranges in which every entry of `following` grows by one and `equal` stays."""
    if not len(following):
        return []
    moved, changed = np.diff(following, axis=0) != 1, np.diff(equal, axis=0) != 0
    breaks = np.asarray(moved).any(axis=1) | np.asarray(changed).any(axis=1)
    bounds = [0, *(int(at) + 1 for at in np.flatnonzero(breaks)), len(following)]
    return list(pairwise(bounds))


def _split_quotient(work: Work, coefficients: FieldArray) -> None:
    """Cut q into chunks of k, chunk l less a mask s_(l-1) plus X^k s_l, so that no chunk alone says anything."""
    layout, code = work.layout, work.layout.code
    k, t = code.message_len, code.randomness_len
    last = (QUOTIENT_CHUNKS - 1) * k
    excess = coefficients[:, min(last + k + t, 2 * k + 3 * t) :]
    if excess.any() and not work.careless:
        raise UnprovableError("the private numbers do not satisfy a relation in some slot")
    messages, pads = [], []
    before = np.zeros((2, t), np.uint64)
    for chunk in range(QUOTIENT_CHUNKS):
        low = np.ascontiguousarray(coefficients[:, chunk * k : (chunk + 1) * k])
        low[:, :t] = sub(np.ascontiguousarray(low[:, :t]), before)
        if chunk < QUOTIENT_CHUNKS - 1:
            high = sample_field(work.random, 2 * t).reshape(2, t)
        else:
            high = np.zeros((2, t), np.uint64)
            rest = np.ascontiguousarray(coefficients[:, last + k : last + k + t])
            high[:, : rest.shape[1]] = rest
        before = high
        # interpolate(message) = low + pad mod X^k - 1
        low[:, :t] = add(np.ascontiguousarray(low[:, :t]), high)
        messages.append(ntt(low))
        pads.append(high)
    place = layout.index(layout.chunks)
    work.messages[place], work.pads[place] = np.concatenate(messages), np.concatenate(pads)


# --- the end


def _combine(work: Work, weights: FieldArray) -> FieldArray:
    """Return the coefficients (2, k + t) of the weighted sum of all rows."""
    rows = np.arange(work.layout.width, dtype=np.int64)
    return work.layout.code.code.coefficients(
        *(fold_of(matrix, rows, weights) for matrix in (work.messages, work.pads))
    )


def _compact(layout: Layout, values: FieldArray) -> FieldArray:
    """Return the values of rows without the places of salts."""
    return np.concatenate([values[:, layout.tree_slice(tree)] for tree in range(len(layout.counts))], axis=1)


def _grind(state: Digest) -> bytes:
    """Return the first nonce that carries the work; 2^GRINDING_BITS tries on average."""
    tries = 1 << 14
    prefix = np.empty((tries, 0), np.uint8)
    for first in count_from(0, tries):
        nonces = np.arange(first, first + tries, dtype="<u8").view(np.uint8).reshape(tries, NONCE_BYTES)
        digests = hash_rows(state, nonces, prefix)
        heads = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0]
        done = np.flatnonzero(heads >> np.uint64(64 - GRINDING_BITS) == 0)
        if done.size:
            return int(first + done[0]).to_bytes(NONCE_BYTES, "little")
    raise UnprovableError("no nonce carries the work")  # not reached: the counter has no end


def _opened(columns: FieldArray, tree: MerkleTree, positions: npt.NDArray[np.int64]) -> bytes:
    """Return the opened columns of one tree as `ColumnRange` has them: symbols, salts, multiproof."""
    chosen = columns[positions]
    symbols, salts = chosen[:, :-SALT_PLACES], chosen[:, -SALT_PLACES:]
    return b"".join([symbols.tobytes(), salts.tobytes(), tree.prove([int(at) for at in positions])])
