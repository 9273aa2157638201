"""One change, one refusal: every tensor of a witness, every public number and every part of a proof, found by walking
the declarations rather than listed, and changed by seeded draws.

A plan is a list of changes; `test_there_are_a_thousand_changes` counts the plans, and every test carries out its whole
plan. `COLLEGIUM_FULL=1` draws many more. Lying provers work with less grinding, which otherwise takes half of their
time; what verifiers check of a proof's bytes is tried at full work.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from _proof_stage import (
    BOUNDED,
    CASES,
    LESSONS,
    SCORED,
    TRAINING,
    Case,
    Changed,
    Section,
    careless,
    case_of,
    entries_of,
    entry_at,
    light_work,
    proof_of,
    random_of,
    sections_of,
    taken,
    tensors_of,
    verify,
    with_ciphertext,
)

from collegium.algebra import P
from collegium.learning import LearningError
from collegium.proofs import (
    BoundedStatement,
    CombinationRejectedError,
    GrindingRejectedError,
    IdentityRejectedError,
    MalformedProofError,
    OpeningRejectedError,
    ProofRejectedError,
    RegistrationStatement,
    StatementError,
    SumRejectedError,
    _bounded,
    _data,
    _training,
)
from collegium.proofs._expressions import Limbs
from collegium.proofs._layout import Flat, Grid
from collegium.proofs._prove import commit_rows

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
Error = type[Exception]
NAMES = (*CASES, *SCORED)


@pytest.fixture
def _light_work(monkeypatch: pytest.MonkeyPatch) -> None:
    light_work(monkeypatch)


def chance(*label: object) -> random.Random:
    """Return draws of their own for a label, the same in every run."""
    return random.Random(repr(label))


# ------------------------------------------------------------------------------------------------ witness

DELTAS = ("one more", "one less", "two to the twelfth", "any element")
OWN = ("multiplicities", "inverses", "chunks")  # rows that the argument itself adds and relates to others


@dataclass(frozen=True)
class Entry:
    """One change of one entry."""

    path: str
    row: int
    slot: int
    delta: str

    def apply(self, messages: Any) -> None:
        """Change it."""
        amount = {
            "one more": 1,
            "one less": P - 1,
            "two to the twelfth": 1 << 12,
            "any element": chance(self).randrange(1, P),
        }[self.delta]
        messages[self.row, self.slot] = (int(messages[self.row, self.slot]) + amount) % P


@cache
def declared_tensors() -> dict[str, set[str]]:
    """Return the paths of every case's tensors."""
    return {name: {path for path, _ in tensors_of(case_of(name).tensors)} for name in NAMES}


def witness_plan(name: str) -> list[Entry]:
    """Every declared tensor, at least in the first case that has it, and the argument's own rows: an entry or more."""
    case, plan = case_of(name), []
    layout = case.program.layout
    for number, (path, tensor) in enumerate(tensors_of(case.tensors)):
        if not FULL and not taken(name, path, declared_tensors()):
            continue
        draw = chance("entry", name, path)
        for turn in range(len(DELTAS) if FULL else 1):
            row, slot = entry_at(layout, tensor, _told_entry(case, path, tensor, draw))
            plan.append(Entry(path, row, slot, DELTAS[(2 * number + turn + number // 2) % len(DELTAS)]))
    own = {
        **{f"multiplicities[{i}]": flat.rows for i, flat in enumerate(layout.multiplicities)},
        "inverses": layout.inverses,
        "chunks": layout.chunks,
    }
    for path, rows in own.items():
        draw = chance("own", name, path)
        for place in layout.index(rows)[:: 1 if FULL else 6]:
            flat = layout.multiplicities[int(path[15:-1])] if path.startswith("mult") else None
            used = layout.code.message_len
            if flat is not None:  # slots behind a table's last entry are nobody's
                used = min(used, flat.length - used * int(place - layout.index(rows)[0]))
            plan.append(Entry(path, int(place), draw.randrange(used), draw.choice(DELTAS)))
    return plan


def _told_entry(case: Case, path: str, tensor: Grid | Flat, draw: random.Random) -> int:
    """Draw an entry of a tensor; an excess says something only where the table ends."""
    if not path.startswith("loss.excess"):
        return draw.randrange(entries_of(tensor))
    output = case.assignment.witness.step.output
    beyond = output.distance > 4095 if hasattr(output, "distance") else abs(output.index + 0.5) > 4096
    return int(draw.choice([int(entry) for entry in np.flatnonzero(beyond.reshape(-1))]))


def is_free(case: Case, path: str) -> bool:
    """Tell whether a tensor may hold anything in its range: a seed from which no score is drawn."""
    return path.endswith("seed") and getattr(case.statement, "score", None) is None


def expected_of(case: Case, path: str) -> tuple[Error, ...]:
    """The relation that a changed tensor breaks first: a sum, but for what holds slot by slot alone."""
    if path == "chunks":
        return (IdentityRejectedError,)
    if is_free(case, path):  # not what the columns say, or out of its range
        return CombinationRejectedError, IdentityRejectedError
    if path.endswith("seed"):  # looked up with its noise
        return (IdentityRejectedError,)
    if path in ("loss.high", "loss.low", "loss.far"):  # beside an excess of 0 they are only not boolean
        return SumRejectedError, IdentityRejectedError
    if len(case.data) > 1 and path.startswith("[") and path != "[0].labels":  # unlike the other commitments
        return (IdentityRejectedError,)
    return (SumRejectedError,)


@pytest.mark.usefixtures("_light_work")
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_a_witness_is_bound(name: str) -> None:
    """The prover fits multiplicities and inverses to its changed number, sends what follows from it, and is refused."""
    case = case_of(name)
    layout = case.program.layout
    for entry in witness_plan(name):
        proof = _proof_with(case, entry)
        with pytest.raises(ProofRejectedError) as refused:
            case.verify(proof)
        assert refused.type in expected_of(case, entry.path), entry
    twin = Entry("combination mask", int(layout.index(layout.combination_mask)[0]), 5, "any element")
    case.verify(_proof_with(case, twin))  # what is uniform anyway may be anything


def _proof_with(case: Case, entry: Entry) -> bytes:
    layout = case.program.layout
    tree = next(i for i in range(len(layout.counts)) if entry.row in range(*layout.tree_slice(i).indices(layout.width)))
    if entry.path.startswith(OWN) or entry.path == "combination mask":
        return careless(case, entry, before={tree: entry.apply}).proof
    if tree < layout.trace:
        return careless(case, entry, at_start=entry.apply).proof
    changed = Changed(case.assignment, **{"in_trace" if tree == layout.trace else "in_products": entry.apply})
    return careless(case, entry, changed).proof


@pytest.mark.usefixtures("_light_work")
@pytest.mark.slow
def test_an_excess_that_nothing_selects_says_nothing() -> None:
    """Why `_told_entry` chooses: inside the table the excess is multiplied by 0, and any in its range is a witness."""
    case = case_of("logistic")
    tensor = case.tensors.loss.excess.grids[0]  # type: ignore[attr-defined]
    inside = int(np.flatnonzero(abs(case.assignment.witness.step.output.index) < 4000)[0])
    entry = Entry("loss.excess", *entry_at(case.program.layout, tensor, inside), "one more")
    case.verify(_proof_with(case, entry))


# ------------------------------------------------------------------------------------------------ limbs


def limb_pairs(name: str) -> list[tuple[str, Grid | Flat, Grid | Flat, int]]:
    """Return neighbours among the limbs of every number, with the bits of the lower one."""
    found: list[tuple[str, Any, Any, int]] = []

    def walk(value: object, path: str) -> None:
        if isinstance(value, Limbs):
            found.extend(
                (f"{path}[{i}]", value.grids[i], value.grids[i + 1], bits) for i, bits in enumerate(value.widths[:-1])
            )
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Flat) for item in value):
            found.extend((f"{path}[{i}]", value[i], value[i + 1], 12) for i in range(len(value) - 1))
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                walk(item, f"{path}[{number}]")
        elif is_dataclass(value) and not isinstance(value, type) and "layout" not in type(value).__module__:
            for member in fields(value):
                walk(getattr(value, member.name), f"{path}.{member.name}")

    walk(case_of(name).tensors, "")
    return found


WITH_LIMBS = ("limbs", *TRAINING, "scored step")


@pytest.mark.usefixtures("_light_work")
@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_LIMBS)
def test_a_unit_moved_between_limbs_is_refused(name: str) -> None:
    """The number that the limbs spell stays; one limb leaves its range."""
    case, layout = case_of(name), case_of(name).program.layout
    for path, low, high, bits in limb_pairs(name):
        draw = chance("limb", name, path)
        for up in (False, True) if FULL else (draw.random() < 0.5,):
            entry = draw.randrange(entries_of(low))
            (low_row, low_slot), (high_row, high_slot) = (entry_at(layout, each, entry) for each in (low, high))

            def move(messages: Any, places: Any = (low_row, low_slot, high_row, high_slot), up: bool = up) -> None:
                a, b, c, d = places
                sign = 1 if up else -1
                messages[a, b] = (int(messages[a, b]) + sign * (1 << bits)) % P  # noqa: B023
                messages[c, d] = (int(messages[c, d]) - sign) % P

            with pytest.raises(IdentityRejectedError):
                case.verify(careless(case, (path, up), Changed(case.assignment, move)).proof)


# ------------------------------------------------------------------------------------------------ data


def data_plan(name: str) -> list[tuple[int, int]]:
    """Return every row of every data tree that a relation speaks of."""
    layout = case_of(name).program.layout
    told = {
        (tensor_rows.tree, tensor_rows.first + row)
        for path, tensor in tensors_of(case_of(name).tensors)
        if not is_free(case_of(name), path)
        for tensor_rows in ([tensor.rows] if isinstance(tensor, Flat) else [piece.rows for piece in tensor.pieces])
        for row in range(tensor_rows.count)
    }
    return [(tree, row) for tree, row in sorted(told) if tree < layout.data_trees]


@pytest.mark.usefixtures("_light_work")
@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRAINING, "registration", "scored step"])
def test_other_data_behind_another_root_are_refused(name: str) -> None:
    """The changed rows are committed and their root is in the statement; the trace is that of the old ones."""
    case = case_of(name)
    for tree, row in data_plan(name):
        messages = case.data[tree].messages.copy()
        messages[row, 0] += np.uint64(1) if messages[row, 0] == 0 else np.uint64(P - 1)
        messages[row, 0] %= np.uint64(P)
        other = commit_rows(case.program.layout.code, messages, random_of("other", name, tree, row))
        data = [other if number == tree else rows for number, rows in enumerate(case.data)]
        if len(data) == 1:
            statement = replace(case.statement, data_root=other.root)  # type: ignore[type-var]
            program = _training._program(statement)[0]  # type: ignore[arg-type]
        else:
            statement = replace(case.statement, roots=tuple(rows.root for rows in data))  # type: ignore[type-var]
            program = _data._program(statement)  # type: ignore[arg-type]
        proof = careless(case, (tree, row), data=data, program=program).proof
        with pytest.raises((SumRejectedError, IdentityRejectedError)):
            verify(statement, proof)
        with pytest.raises(SumRejectedError):  # nor is it one for the old root: challenges are others
            case.verify(proof)


# ------------------------------------------------------------------------------------------------ public numbers


@dataclass(frozen=True, eq=False)
class Public:
    """One change of one public number; `build` may refuse it."""

    path: str
    build: Callable[[], Any]


def public_plan(name: str) -> list[Public]:
    """Every field of the statement and of what it holds, by the smallest amounts."""
    statement = case_of(name).statement
    plan = [Public(path, build) for path, build in _changed(statement, name, chance("public", name))]
    unused = f"{name}.message_len:" if getattr(statement, "seed_shape", None) else "none"  # the seed's rows say it
    return [change for change in plan if not change.path.startswith(unused)]


def _changed(value: Any, path: str, draw: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield ways to build a value that differs in one place."""
    if is_dataclass(value):
        for member in fields(value):
            inner, where = getattr(value, member.name), f"{path}.{member.name}"
            for deeper, build in _changed(inner, where, draw):
                yield deeper, lambda name=member.name, build=build: replace(value, **{name: build()})
                if member.name == "ciphertext" and isinstance(inner, np.ndarray):
                    yield f"{deeper} with its digest", lambda build=build: with_ciphertext(value, build())
        return
    for number, build in enumerate(_changed_leaf(value, path, draw)):
        yield f"{path}:{number}", build


def _changed_leaf(value: Any, path: str, draw: random.Random) -> Iterator[Callable[[], Any]]:
    if isinstance(value, bytes):
        places = range(len(value)) if FULL else [0, len(value) - 1, draw.randrange(1, len(value) - 1)]
        for place in places:
            flipped = value[:place] + bytes([value[place] ^ 1 << draw.randrange(8)]) + value[place + 1 :]
            yield lambda flipped=flipped: flipped
        yield lambda: value[:-1]
    elif isinstance(value, np.ndarray):
        yield from _changed_array(value, draw)
    elif isinstance(value, Fraction):
        yield lambda: value + Fraction(1, 1 << 10)
    elif isinstance(value, str):
        yield from (lambda other=other: other for other in ("sigmoid", "softmax", "squared") if other != value)
    elif isinstance(value, int):
        if not path.endswith("key_message_len"):  # four rows of it are the ring: no number of a statement
            yield from (lambda by=by: value + by for by in (1, -1))
        if path.endswith(".message_len"):
            yield from (lambda to=to: to for to in (2048, 4096) if to != value)
    elif value is None and not path.endswith((".score", ".patches")):  # other statements, not other numbers
        yield from (lambda to=to: to for to in (1, 64))
    elif isinstance(value, tuple) and value and isinstance(value[0], bytes):
        yield from (lambda: value[::-1], lambda: value[:-1], lambda: (*value, bytes(32)))
        for number, root in enumerate(value):
            flipped = bytes([root[0] ^ 1]) + root[1:]
            yield lambda at=number, root=flipped: (*value[:at], root, *value[at + 1 :])
    elif isinstance(value, tuple):
        for number in range(len(value)):
            yield from (lambda at=number, by=by: (*value[:at], value[at] + by, *value[at + 1 :]) for by in (1, -1))


def _changed_array(value: Any, draw: random.Random) -> Iterator[Callable[[], Any]]:
    if value.dtype == np.bool_:  # as many rows, but others
        pairs = [(on, off) for on in np.flatnonzero(value) for off in np.flatnonzero(~value)]
        for on, off in draw.sample(pairs, min(len(pairs), 40 if FULL else 16)):
            yield lambda on=on, off=off: np.where(np.isin(np.arange(value.size), (on, off)), ~value, value)
    count = value.size if value.size <= 32 or (FULL and value.size <= 4096) else 10
    places = sorted({0, value.size - 1, *draw.sample(range(value.size), count)})
    for place in places:

        def build(place: int = place) -> Any:
            changed = value.copy()
            flat = changed.reshape(-1)
            if value.dtype == np.bool_:
                flat[place] = not flat[place]
            elif value.dtype == np.uint64:
                flat[place] = (int(flat[place]) + 1) % P
            else:
                flat[place] += -1 if flat[place] > 0 else 1
            return changed

        yield build


STATEMENT_REFUSED = (StatementError, LearningError)  # before any proof is looked at


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_public_number_is_bound(name: str) -> None:
    case, refused, seen = case_of(name), 0, 0
    case.verify(proof_of(name))
    for change in public_plan(name):
        try:
            statement = change.build()
            sized = case.program.layout.counts == _counts(statement)
        except STATEMENT_REFUSED:
            refused += 1
            continue
        with pytest.raises(ProofRejectedError) as error:
            verify(statement, proof_of(name))
        # Other sizes are read otherwise; at the same sizes the challenges differ, and with them the sums. A enters no
        # target, only what the slots are multiplied with.
        same = SumRejectedError if ".matrix:" not in change.path else IdentityRejectedError
        assert error.type in ((same,) if sized else (SumRejectedError, MalformedProofError)), change.path
        seen += 1
    assert seen > refused


def _counts(statement: Any) -> list[int]:
    if isinstance(statement, RegistrationStatement):
        program = _data._program(statement)
    else:
        room = _bounded if isinstance(statement, BoundedStatement) else _training
        program = room._program(statement)[0]  # type: ignore[arg-type]
    assert program.statement  # its fields say themselves what they refuse
    return program.layout.counts


# ------------------------------------------------------------------------------------------------ proof bytes


def sections(name: str) -> list[Section]:
    """Return the parts of a case's proof."""
    return sections_of(case_of(name).program, proof_of(name))


BY_SECTION: dict[str, Error] = {
    "trace root": SumRejectedError,
    "key values": SumRejectedError,
    "products root": SumRejectedError,
    "mask total": SumRejectedError,
    "remainder": SumRejectedError,
    "quotient root": IdentityRejectedError,
    "combination": CombinationRejectedError,
    "nonce": GrindingRejectedError,
}


def flip_plan(name: str) -> list[tuple[Section, int, int]]:
    """Return bits to flip: some in every section, its first and last byte among them."""
    plan = []
    for section in sections(name):
        draw = chance("flip", name, section.name)
        places = [section.start, section.stop - 1] + [
            draw.randrange(section.start, section.stop) for _ in range(60 if FULL else 2)
        ]
        plan += [(section, place, draw.randrange(8)) for place in places]
    return plan


def expected_at(case: Case, section: Section, place: int) -> Error:
    """The step that first sees a change: where in the transcript the part stands decides."""
    if section.name == "values":
        layout = case.program.layout
        count, row = sum(layout.counts), (place - section.start) // 8 % sum(layout.counts)
        mask = sum(layout.counts[: layout.trace]) + layout.combination_mask.first
        assert count
        return CombinationRejectedError if mask <= row < mask + 2 else IdentityRejectedError
    return BY_SECTION.get(section.name, OpeningRejectedError)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_bit_of_a_proof_is_bound(name: str) -> None:
    case, proof = case_of(name), proof_of(name)
    case.verify(proof)
    for section, place, bit in flip_plan(name):
        changed = bytearray(proof)
        changed[place] ^= 1 << bit
        with pytest.raises(ProofRejectedError) as error:
            case.verify(bytes(changed))
        assert error.type is expected_at(case, section, place), (section, place, bit)


def canonical_plan(name: str) -> list[tuple[Section, int, int]]:
    """Return elements to replace by words that are not below p."""
    plan = []
    for section in (section for section in sections(name) if section.elements):
        draw = chance("canonical", name, section.name)
        count = (section.stop - section.start) // 8
        for at in sorted({0, count - 1, draw.randrange(count)}):
            word = draw.choice([P, P + 1, 2**64 - 1, draw.randrange(P, 2**64)])
            plan.append((section, section.start + 8 * at, word))
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_words_that_are_no_elements_are_refused(name: str) -> None:
    proof = proof_of(name)
    for _, place, word in canonical_plan(name):
        changed = proof[:place] + word.to_bytes(8, "little") + proof[place + 8 :]
        with pytest.raises(MalformedProofError):
            case_of(name).verify(changed)


def length_plan(name: str) -> list[int]:
    """Return lengths to cut a proof to: ends of sections, one byte off, and anywhere; beyond its own to append."""
    proof, draw = proof_of(name), chance("length", name)
    ends = [section.start for section in sections(name)]
    anywhere = [draw.randrange(len(proof)) for _ in range(60 if FULL else 4)]
    return [*ends, *(end + 1 for end in ends[:9]), *anywhere, len(proof) - 1, len(proof) + 1, len(proof) + 32]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_proof_has_one_length(name: str) -> None:
    proof = proof_of(name)
    for length in length_plan(name):
        with pytest.raises(MalformedProofError):
            case_of(name).verify(proof[:length] + bytes(max(0, length - len(proof))))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_parts_of_another_proof_do_not_fit(name: str) -> None:
    """Two honest proofs of one statement, cut together at any section, are none."""
    proof, other = proof_of(name), case_of(name).prove("another").proof
    assert proof != other
    ends = [section.start for section in sections(name) if section.start]
    for end in ends[:12]:
        with pytest.raises(ProofRejectedError):
            case_of(name).verify(proof[:end] + other[end:])


def test_there_are_a_thousand_changes() -> None:
    plans = (witness_plan, limb_pairs, data_plan, public_plan, flip_plan, canonical_plan, length_plan)
    counted = {plan.__name__: sum(len(plan(name)) for name in NAMES) for plan in plans}
    assert sum(counted.values()) >= 1000, counted
    assert all(counted.values()), counted
    assert sum(map(len, declared_tensors().values())) > 100
    assert {entry.path for name in NAMES for entry in witness_plan(name)} > set.union(*declared_tensors().values())
    assert {*BOUNDED, *LESSONS, "registration", *SCORED} == set(NAMES)
