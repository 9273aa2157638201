"""Small statements of every relation, witnesses for them, and provers that lie.

A `Case` is a statement with the private numbers that satisfy it, made as a trainer makes them: `begin_upload` masks
the update and commits to the key. `careless` runs the real prover on an assignment or on matrices that somebody
changed, where an honest prover would stop. `plain_step` is a gradient step written once more, whose integers a test
may twist on the way, so that everything after the twist fits the lie.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np

from collegium import learning, proofs
from collegium.aggregation import (
    Budget,
    Draft,
    Layout,
    RoundTerms,
    SeatTerms,
    begin_upload,
    encode_ciphertext,
    public_matrix,
)
from collegium.algebra import P, ext_matvec
from collegium.crypto import AccountKey, Stream, Transcript
from collegium.learning import ModelSpec, Rule
from collegium.proofs import (
    BoundedStatement,
    CommittedRows,
    DataShape,
    EvaluationStatement,
    FirstChallenges,
    Identity,
    KeySecrets,
    MaskedUpdate,
    Proved,
    RegistrationStatement,
    TrainingStatement,
    TrainingWitness,
    _bounded,
    _data,
    _masked,
    _prove,
    _training,
    _verify,
    commit_data,
)
from collegium.proofs import _layout as layouts
from collegium.proofs._data import SeedShape, commit_seed, committed_seed
from collegium.proofs._expressions import Limbs, place_grid, signed
from collegium.proofs._layout import Flat, Grid
from collegium.proofs._program import Program
from collegium.proofs._score import Score, ScoreDemand

Statement = BoundedStatement | TrainingStatement | RegistrationStatement | EvaluationStatement
Array = Any  # numpy arrays of several types, on their way into a matrix

K_BOUNDED, K_DATA = 1024, 2048  # the shortest rows that one proof, and two proofs, may open
WORK_BITS = 4  # bits of work in a careless prover's proof


def random_of(*label: object) -> Stream:
    """Return a stream of its own for a label."""
    return Stream(sha256(repr(label).encode()).digest())


def digest_of(label: str) -> bytes:
    """Return 32 bytes for a word."""
    return sha256(label.encode()).digest()


# ------------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True, eq=False)
class Case:
    """A statement in the argument's terms, and who could prove it."""

    name: str
    statement: Statement
    program: Program
    tensors: Any
    assignment: Any
    data: tuple[CommittedRows, ...] = ()
    terms: RoundTerms | None = None
    draft: Draft | None = None

    def prove(self, label: object = 0) -> Proved:
        """Return an honest proof."""
        return _prove.prove(self.program, self.assignment, self.data, random_of("prove", self.name, label))

    def verify(self, proof: bytes) -> FirstChallenges | None:
        """Verify a proof of the statement, as its public function does."""
        return verify(self.statement, proof)

    @property
    def secrets(self) -> KeySecrets:
        """What masks the update."""
        assert self.draft is not None
        return KeySecrets(self.draft.noise, self.draft.coefficients, self.draft.key)


def verify(statement: Statement, proof: bytes) -> FirstChallenges | None:
    """Verify a proof of any statement; only an update's has challenges that somebody must check."""
    if isinstance(statement, BoundedStatement):
        return proofs.verify_bounded(statement, proof)
    if isinstance(statement, TrainingStatement):
        return proofs.verify_training(statement, proof)
    if isinstance(statement, EvaluationStatement):
        return proofs.verify_evaluation(statement, proof)
    return proofs.verify_registration(statement, proof)


def round_terms(layout: Layout) -> RoundTerms:
    """Return a round's terms with sixteen seats to which nothing is sealed."""
    seats = tuple(SeatTerms(bytes([seat]) * 20, None) for seat in range(16))
    return RoundTerms(digest_of("task"), 3, digest_of("header"), digest_of("model"), digest_of("beacon"), seats, layout)


def masked_of(terms: RoundTerms, draft: Draft) -> MaskedUpdate:
    """Return the public side of a draft."""
    layout, budget = terms.layout, terms.layout.budget
    identity = Identity(
        terms.task, terms.round, draft.trainer, terms.digest, terms.model, digest_of("rule"),
        draft.ciphertext_digest, draft.key_root,
    )  # fmt: skip
    return MaskedUpdate(
        identity, layout.entries, budget.entry_bound, budget.lanes, budget.lane_bits, budget.noise_bits,
        public_matrix(terms.matrix_seed, layout.blocks), draft.ciphertext,
    )  # fmt: skip


def with_ciphertext(masked: MaskedUpdate, ciphertext: Array) -> MaskedUpdate:
    """Return the same with another c, which the identity names."""
    digest = sha256(encode_ciphertext(ciphertext)).digest()
    return replace(masked, ciphertext=ciphertext, identity=replace(masked.identity, ciphertext=digest))


def draft_of(layout: Layout, update: Array, label: object) -> tuple[RoundTerms, Draft]:
    """Mask an update under a round's terms."""
    terms = round_terms(layout)
    return terms, begin_upload(terms, account().address, update, random_of("draft", label))


@cache
def account() -> AccountKey:
    """Return the trainer's account."""
    return AccountKey.generate(random_of("account"))


def bounded_case(
    name: str,
    entries: int,
    bound: int,
    lanes: int = 1,
    norm: int | None = None,
    message_len: int = 0,
    update: Array | None = None,
    trainers: int = 16,
) -> Case:
    """Return an update with entries up to the bound, both ends among them; `norm` is the room beyond its own norm."""
    generator = np.random.default_rng(entries)
    if update is None:
        update = generator.integers(-bound, bound + 1, entries)
        update[-1], update[0] = -bound, bound
    terms, draft = draft_of(Layout(entries, Budget(bound, trainers, 1, lanes)), update, name)
    limit = None if norm is None else norm_of(update) + norm
    statement = BoundedStatement(masked_of(terms, draft), limit, message_len)
    program, tensors = _bounded._program(statement)
    secrets = KeySecrets(draft.noise, draft.coefficients, draft.key)
    assignment = _bounded._Witness(statement, tensors, secrets, update)
    return Case(name, statement, program, tensors, assignment, (), terms, draft)


def norm_of(update: Array) -> int:
    """Return the least integer that bounds the norm."""
    square = sum(int(x) ** 2 for x in update)
    root = int(np.sqrt(float(square)))
    while root * root < square:
        root += 1
    while (root - 1) ** 2 >= square and root:
        root -= 1
    return root


@dataclass(frozen=True)
class Lesson:
    """A model, a rule and rows: what a training case is about."""

    spec: ModelSpec
    rule: Rule
    rows: int
    message_len: int = K_DATA
    spread: float = 1.0  # of the parameters, in parts of their limits
    seed: int = 1

    @property
    def parameters(self) -> Array:
        """Parameters up to their limits, so that indices are clipped here and there."""
        generator, made = np.random.default_rng(self.seed), []
        for layer, (fan_in, fan_out) in enumerate(self.spec.layers):
            last = layer == len(self.spec.layers) - 1
            limit = (self.rule.output_limit if last else self.rule.hidden_limit) * self.rule.one * self.spread
            made.append(np.rint(generator.uniform(-limit, limit, (fan_in + 1) * fan_out)))
        return np.concatenate(made).astype(np.int64)

    @property
    def features(self) -> Array:
        """Features up to their limit."""
        limit = self.rule.feature_limit * self.rule.one
        drawn = np.random.default_rng(self.seed + 1).normal(0, self.rule.one, (self.rows, self.spec.inputs))
        drawn.reshape(-1)[0] = limit
        drawn.reshape(-1)[-1] = -limit
        return np.clip(np.rint(drawn), -limit, limit).astype(np.int64)

    @property
    def labels(self) -> Array:
        """Labels of all classes."""
        return np.random.default_rng(self.seed + 2).integers(0, max(2, self.spec.outputs), self.rows)

    @property
    def chosen(self) -> Array:
        """The rows that the beacon chose."""
        flags = np.zeros(self.rows, np.bool_)
        flags[learning.batch_indices(self.rule, self.rows, digest_of("batch"), 0)] = True
        return flags

    @property
    def shape(self) -> DataShape:
        """The shape of the registered rows."""
        limit = self.rule.feature_limit * self.rule.one
        return DataShape(self.rows, self.spec.inputs, self.spec.outputs, limit, self.message_len)

    @property
    def layout(self) -> Layout:
        """The layout of an update."""
        return Layout(self.spec.parameter_count + 1, Budget(learning.update_bound(self.spec, self.rule, self.rows), 4))


def training_case(name: str, lesson: Lesson) -> Case:
    """Return a step on the lesson's chosen rows."""
    spec, rule, features, labels = lesson.spec, lesson.rule, lesson.features, lesson.labels
    step = learning.step_trace(spec, rule, lesson.parameters, features, labels)
    chosen = lesson.chosen
    gradient = learning.step_trace(spec, rule, lesson.parameters, features[chosen], labels[chosen]).gradient
    terms, draft = draft_of(lesson.layout, np.append(gradient, chosen.sum()), name)
    data = commit_data(lesson.shape, features, labels, random_of("data", name))
    statement = training_statement(lesson, masked_of(terms, draft), data.root)
    program, tensors = _training._program(statement)
    secrets = KeySecrets(draft.noise, draft.coefficients, draft.key)
    witness = TrainingWitness(features, labels, data, step, secrets)
    assignment = _training._Assignment(statement, tensors, witness)
    return Case(name, statement, program, tensors, assignment, (data,), terms, draft)


def training_statement(lesson: Lesson, masked: MaskedUpdate, root: bytes) -> TrainingStatement:
    """Return the statement of a lesson."""
    return TrainingStatement(masked, lesson.spec, lesson.rule, lesson.parameters, lesson.shape, root, lesson.chosen)


def registration_case(
    name: str, rows: int, inputs: int, outputs: int, commitments: int, message_len: int = K_DATA
) -> Case:
    """Return the same rows committed to several times."""
    shape = DataShape(rows, inputs, outputs, 4096, message_len)
    generator = np.random.default_rng(rows)
    features = generator.integers(-shape.limit, shape.limit + 1, (rows, inputs))
    features[0, 0], features[-1, -1] = shape.limit, -shape.limit
    labels = generator.integers(0, max(2, outputs), rows)
    committed = tuple(commit_data(shape, features, labels, random_of("data", name, i)) for i in range(commitments))
    roots = tuple(rows.root for rows in committed)
    statement = RegistrationStatement(shape, roots, account().address, digest_of("context"))
    layout = layouts.Layout(shape.code, commitments)
    tensors = [_data.declare_data(layout, tree, shape) for tree in range(commitments)]
    return Case(name, statement, _data._program(statement), tensors, _data._NoTrace(), committed)


SMALL = Rule(fraction_bits=8, output_limit=2, hidden_limit=1, feature_limit=2)
LIMITED = replace(SMALL, batch_rows=12, output_limit=32, feature_limit=4, error_limit=64, activation_limit=16)
LESSONS = {
    "logistic": Lesson(ModelSpec("logistic", 25), Rule(), 20),
    "hidden": Lesson(ModelSpec("mlp", 7, (8,)), Rule(), 13),
    "squared": Lesson(ModelSpec("mlp", 6, (5,), 2), replace(SMALL, loss="squared"), 11),
    "softmax": Lesson(ModelSpec("mlp", 5, (6, 4), 3), replace(SMALL, loss="softmax", output_limit=8), 9),
    "batch": Lesson(ModelSpec("mlp", 6, (4,)), LIMITED, 30),
}

MAKERS: dict[str, Callable[[str], Case]] = {
    "one lane": lambda name: bounded_case(name, 130, 1000),
    "two lanes": lambda name: bounded_case(name, 131, 32767, 2),
    "norm": lambda name: bounded_case(name, 77, 500, 2, norm=3),
    "limbs": lambda name: bounded_case(name, 41, (1 << 22) + 5),
    **{name: lambda name: training_case(name, LESSONS[name]) for name in LESSONS},
    "registration": lambda name: registration_case(name, 21, 6, 3, 3),
}
CASES = tuple(MAKERS)
BOUNDED, TRAINING = CASES[:4], tuple(LESSONS)


def demanded(update: Array, shift: int, sigma: int, seed: CommittedRows) -> Score:
    """Return the score of an update in some direction; sigma is so large that no two seeds have one noise."""
    direction = np.random.default_rng(len(update)).integers(-30000, 30001, len(update) - 1)
    return ScoreDemand(direction, shift, sigma, 777).score(update, committed_seed(seed))


def scored_update(name: str) -> Case:
    """Return a bounded update that comes with a score."""
    case, seed = bounded_case(name, 90, 700, 2, trainers=4), commit_seed(SeedShape(), random_of("seed", name))
    score = demanded(case.assignment.update, 9, 100_000, seed)
    statement = replace(case.statement, score=score, seed_shape=SeedShape(), seed_root=seed.root)  # type: ignore[type-var]
    program, tensors = _bounded._program(statement)  # type: ignore[arg-type]
    drawn = committed_seed(seed)
    assignment = replace(case.assignment, statement=statement, tensors=tensors, seed=drawn)
    return replace(case, statement=statement, program=program, tensors=tensors, assignment=assignment, data=(seed,))


def scored_step(name: str) -> Case:
    """Return a training step that comes with a score."""
    case = training_case(name, LESSONS["batch"])
    assert case.draft is not None
    score = demanded(case.draft.update, 17, 100_000, case.data[0])
    statement = replace(case.statement, score=score)  # type: ignore[type-var]
    program, tensors = _training._program(statement)  # type: ignore[arg-type]
    assignment = replace(case.assignment, statement=statement, tensors=tensors)
    return replace(case, statement=statement, program=program, tensors=tensors, assignment=assignment)


MAKERS |= {"scored update": scored_update, "scored step": scored_step}
SCORED = ("scored update", "scored step")


@cache
def case_of(name: str) -> Case:
    """Return a case, made once."""
    return MAKERS[name](name)


@cache
def proof_of(name: str) -> bytes:
    """Return an honest proof of a case, made once."""
    return case_of(name).prove().proof


# ------------------------------------------------------------------------------------------------ tensors


def tensors_of(value: object, path: str = "") -> Iterator[tuple[str, Grid | Flat]]:
    """Yield every tensor that a dataclass of tensors declares, with the way to it."""
    if isinstance(value, Grid | Flat):
        yield path, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from tensors_of(item, f"{path}[{number}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, layouts.Layout | type):
        for member in dataclasses.fields(value):
            yield from tensors_of(getattr(value, member.name), f"{path}.{member.name}".lstrip("."))


def taken(name: str, path: str, declared: Mapping[str, Collection[str]]) -> bool:
    """Tell whether a run that is not full changes a tensor in this case.

    Cases declare many tensors alike, by the same relations: each is changed in the first case that has it, and a third
    of them, drawn by name, in the others too.
    """
    first = next(each for each, paths in declared.items() if path in paths)
    return first == name or random.Random(f"taken {name} {path}").random() < 1 / 3


def entries_of(tensor: Grid | Flat) -> int:
    """Return how many entries a tensor has."""
    return tensor.length if isinstance(tensor, Flat) else tensor.samples * tensor.width


def entry_at(layout: layouts.Layout, tensor: Grid | Flat, entry: int) -> tuple[int, int]:
    """Return the row, its place among all rows, and the slot where an entry stands."""
    k = layout.code.message_len
    if isinstance(tensor, Flat):
        return int(layout.index(tensor.rows)[entry // k]), entry % k
    sample, column = divmod(entry, tensor.width)
    piece = next(piece for piece in tensor.pieces if piece.start <= column < piece.start + piece.used)
    row, place = divmod(sample, piece.per_row)
    return int(layout.index(piece.rows)[row]), place * piece.width + column - piece.start


# ------------------------------------------------------------------------------------------------ a proof's parts


@dataclass(frozen=True)
class Section:
    """A part of a proof: where, and whether it is made of elements of F."""

    name: str
    start: int
    stop: int
    elements: bool

    def words(self, proof: bytes) -> Array:
        """Return the part as 64-bit words."""
        return np.frombuffer(proof[self.start : self.stop], "<u8")


def sections_of(program: Program, proof: bytes) -> list[Section]:
    """Return the parts of a proof in their order; together they are all of it."""
    layout, code = program.layout, program.layout.code
    sizes: list[tuple[str, int, bool]] = [("trace root", 32, False)]
    if program.key_rows:
        sizes.append(("key values", 16 * program.key_rows, True))
    sizes += [("products root", 32, False), ("mask total", 16, True), ("remainder", 16 * code.message_len, True)]
    sizes += [("quotient root", 32, False), ("values", 16 * sum(layout.counts), True)]
    sizes += [("combination", 16 * (code.message_len + code.randomness_len), True), ("nonce", 8, False)]
    salts = 8 * layouts.SALT_PLACES * code.queries
    opened = sum(code.queries * 8 * rows + salts for rows in layout.counts)
    siblings = (len(proof) - sum(size for _, size, _ in sizes) - opened) // len(layout.counts)  # alike in every tree
    for tree, rows in enumerate(layout.counts):
        sizes += [(f"symbols of {tree}", 8 * code.queries * rows, True)]
        sizes += [(f"salts of {tree}", salts, False), (f"siblings of {tree}", siblings, False)]
    found, start = [], 0
    for label, size, elements in sizes:
        found.append(Section(label, start, start + size, elements))
        start += size
    assert start == len(proof)
    return found


# ------------------------------------------------------------------------------------------------ provers that lie


Change = Callable[[Array], None]
"""Changes the messages of all rows, (places, k)."""


@dataclass(frozen=True, eq=False)
class Changed:
    """An assignment whose trace or products somebody changes before they are committed; the rest follows."""

    inner: Any
    in_trace: Change = lambda _: None
    in_products: Change = lambda _: None

    def trace(self, messages: Array) -> None:
        self.inner.trace(messages)
        self.in_trace(messages)

    def products(self, messages: Array, first: FirstChallenges) -> None:
        self.inner.products(messages, first)
        self.in_products(messages)

    def key_values(self, point: tuple[int, int]) -> Array:
        values: Array = self.inner.key_values(point)
        return values


class ChangedWork(_prove.Work):
    """Matrices that somebody changes before a tree is committed, when all its rows are filled."""

    changes: dict[int, Change]

    def commit(self, tree: int, transcript: Transcript | None = None, label: str = "") -> bytes:
        """Change, then commit."""
        self.changes.get(tree, lambda _: None)(self.messages)
        return super().commit(tree, transcript, label)


def careless(
    case: Case,
    label: object = 0,
    assignment: Any = None,
    data: Sequence[CommittedRows] | None = None,
    program: Program | None = None,
    before: dict[int, Change] | None = None,
    at_start: Change = lambda _: None,
) -> Proved:
    """Return the proof of a prover that goes on whatever its numbers are.

    `before` changes the matrices when a tree is committed, `at_start` when the data's rows stand there.
    """
    random = random_of("careless", case.name, label)
    work = ChangedWork(program or case.program, case.data if data is None else data, random, lambda _: None)
    work.careless, work.changes = True, before or {}
    at_start(work.messages)
    return _prove.run(work, assignment or case.assignment)


def wrong_proof(case: Case, path: str, generator: random.Random) -> bytes:
    """Return the proof of a prover that adds to one number of a tensor, commits to it and goes on."""
    layout, tensor = case.program.layout, dict(tensors_of(case.tensors))[path]
    row, slot = entry_at(layout, tensor, generator.randrange(entries_of(tensor)))
    difference = generator.randrange(1, P)

    def change(messages: Array) -> None:
        messages[row, slot] = (int(messages[row, slot]) + difference) % P

    if row < layout.tree_slice(layout.trace).start:
        return careless(case, path, at_start=change).proof
    where = "in_trace" if row < layout.tree_slice(layout.products).start else "in_products"
    return careless(case, path, Changed(case.assignment, **{where: change})).proof


def light_work(monkeypatch: Any) -> None:
    """Ask for less work before columns are drawn, on both sides: for tests where a lying prover's time goes there."""
    for side in (_prove, _verify):
        monkeypatch.setattr(side, "GRINDING_BITS", WORK_BITS)


# ------------------------------------------------------------------------------------------------ a twisted step


@dataclass(eq=False)
class Numbers:
    """Every integer of a step, layer by layer; what a twist changes, everything after it is computed from.

    A = S U and Q = 2 S U - U + S - 1; D = S B. Integers may be negative or too large: they are placed modulo p.
    """

    activations: list[Array] = field(default_factory=list)
    selector: list[Array] = field(default_factory=list)
    unsigned: list[Array] = field(default_factory=list)
    remainder: list[Array] = field(default_factory=list)
    loss: dict[str, Array] = field(default_factory=dict)
    back: dict[int, Array] = field(default_factory=dict)
    back_remainder: dict[int, Array] = field(default_factory=dict)
    errors: dict[int, Array] = field(default_factory=dict)
    gradient: Array = None


Twist = Callable[[str, int, Numbers], None]
"""Called after ("forward", layer), ("loss", 0), ("backward", layer) and ("error", layer); changes the numbers."""


def plain_step(
    lesson: Lesson, twist: Twist = lambda *_: None, features: Array | None = None, labels: Array | None = None
) -> Numbers:
    """Return the integers of a step on all rows and the gradient of the chosen ones."""
    spec, rule, one, f = lesson.spec, lesson.rule, lesson.rule.one, lesson.rule.fraction_bits
    numbers, layers, start = Numbers(), [], 0
    for fan_in, fan_out in spec.layers:
        flat = lesson.parameters[start : start + (fan_in + 1) * fan_out]
        layers.append((flat[: fan_in * fan_out].reshape(fan_in, fan_out), flat[fan_in * fan_out :]))
        start += (fan_in + 1) * fan_out
    numbers.activations.append(lesson.features if features is None else features)
    for layer, (weights, bias) in enumerate(layers[:-1]):
        total = numbers.activations[-1] @ weights + bias * one
        quotient = total >> f
        numbers.selector.append((quotient >= 0).astype(np.int64))
        numbers.unsigned.append(np.where(quotient >= 0, quotient, -quotient - 1))
        numbers.remainder.append(total - quotient * one)
        twist("forward", layer, numbers)
        numbers.activations.append(numbers.selector[layer] * numbers.unsigned[layer])
    weights, bias = layers[-1]
    labels = lesson.labels if labels is None else labels
    hits = labels[:, None] if spec.outputs == 1 else (labels[:, None] == np.arange(spec.outputs)).astype(np.int64)
    _plain_loss(rule, numbers, numbers.activations[-1] @ weights + bias * one)
    twist("loss", 0, numbers)
    error = _loss_error(rule, numbers) - one * hits
    for layer in reversed(range(len(layers))):
        numbers.errors[layer] = error
        twist("error", layer, numbers)
        if layer:
            total = numbers.errors[layer] @ layers[layer][0].T
            numbers.back[layer - 1] = total >> f
            numbers.back_remainder[layer - 1] = total - (total >> f) * one
            twist("backward", layer - 1, numbers)
            error = numbers.selector[layer - 1] * numbers.back[layer - 1]
    chosen, parts = lesson.chosen, []
    for layer in range(len(layers)):
        values, errors = numbers.activations[layer][chosen], numbers.errors[layer][chosen]
        parts += [(values.T @ errors).reshape(-1), one * errors.sum(axis=0)]
    numbers.gradient = np.concatenate(parts)
    return numbers


def _plain_loss(rule: Rule, numbers: Numbers, total: Array) -> None:
    """Write what the loss's tensors hold, by their names."""
    f, one, shift = rule.fraction_bits, rule.one, 2 * rule.fraction_bits - 8
    loss = numbers.loss
    if rule.loss == "squared":
        loss["quotient"], loss["remainder"] = total >> f, total & (one - 1)
        return
    index = total >> shift
    loss["remainder"] = total - (index << shift)
    if rule.loss == "sigmoid":
        inside = np.clip(index, -4096, 4095)
        loss["place"] = inside + 4096
        loss["value"] = learning.sigmoid_table(f)[inside + 4096] - int(learning.sigmoid_table(f)[0])
        loss["high"], loss["low"] = (index > 4095).astype(np.int64), (index < -4096).astype(np.int64)
        loss["excess"] = abs(index - inside)
        return
    maximum = index.max(axis=1, keepdims=True)
    finish_softmax(rule, numbers, index, maximum, index.argmax(axis=1))


def finish_softmax(rule: Rule, numbers: Numbers, index: Array, maximum: Array, top: Array) -> None:
    """Write softmax's tensors for these claimed maxima, distances whatever follows."""
    loss, one, distance = numbers.loss, rule.one, maximum - index
    loss["maximum"], loss["near"] = maximum, np.clip(distance, 0, 4095)
    loss["far"], loss["excess"] = (distance > 4095).astype(np.int64), distance - np.clip(distance, None, 4095)
    loss["near"] = np.where(distance < 0, distance, loss["near"])
    powers = learning.exponential_table(rule.fraction_bits)[np.clip(distance, 0, 4095)]
    loss["power"] = one - powers
    loss["top"] = (top[:, None] == np.arange(index.shape[1])).astype(np.int64)
    loss["normaliser"] = np.repeat(powers.sum(axis=1, keepdims=True), index.shape[1], axis=1)
    loss["probability"], loss["rest"] = np.divmod(powers * one, np.maximum(1, loss["normaliser"]))
    loss["room"] = loss["normaliser"] - 1 - loss["rest"]


def _loss_error(rule: Rule, numbers: Numbers) -> Array:
    if rule.loss == "squared":
        return numbers.loss["quotient"]
    if rule.loss == "sigmoid":
        return numbers.loss["value"] + int(learning.sigmoid_table(rule.fraction_bits)[0])
    return numbers.loss["probability"]


@dataclass(frozen=True, eq=False)
class PlainAssignment:
    """Writes `Numbers` into the matrices, whatever they are."""

    statement: TrainingStatement
    tensors: Any
    numbers: Numbers
    secrets: KeySecrets

    def trace(self, messages: Array) -> None:
        layout, numbers = self.tensors.layout, self.numbers
        self.tensors.mask.fill(layout, messages, self.secrets)
        for layer, hidden in enumerate(self.tensors.hidden):
            place(layout, messages, hidden.selector, numbers.selector[layer])
            place(layout, messages, hidden.unsigned, numbers.unsigned[layer])
            place(layout, messages, hidden.remainder, numbers.remainder[layer])
            place(layout, messages, hidden.back, numbers.back[layer] + hidden.back_offset)
            place(layout, messages, hidden.back_remainder, numbers.back_remainder[layer])
        for name, values in numbers.loss.items():
            offset = self.tensors.loss.offset if name in ("quotient", "maximum") else 0
            place(layout, messages, getattr(self.tensors.loss, name), values + offset)

    def products(self, messages: Array, first: FirstChallenges) -> None:
        layout, numbers = self.tensors.layout, self.numbers
        for layer, pairs in enumerate(self.tensors.inner):
            vectors = _training.inner_vectors(self.statement.spec, layer, first.mu)
            for pair, matrix, vector in zip(
                pairs, (numbers.activations[layer], numbers.errors[layer]), vectors, strict=True
            ):
                products = ext_matvec(signed(matrix), vector)
                place_grid(layout, messages, pair.first, products[0][:, None])
                place_grid(layout, messages, pair.second, products[1][:, None])

    def key_values(self, point: tuple[int, int]) -> Array:
        return _masked.key_values(self.secrets, point)


def place(layout: layouts.Layout, messages: Array, tensor: Grid | Limbs, values: Array) -> None:
    """Write integers modulo p; of limbs, the last one takes what the others leave, whatever it is."""
    if isinstance(tensor, Grid):
        place_grid(layout, messages, tensor, modulo(values))
        return
    rest = values
    for grid, bits in zip(tensor.grids, tensor.widths, strict=True):
        last = grid is tensor.grids[-1]
        place_grid(layout, messages, grid, modulo(rest if last else rest & ((1 << bits) - 1)))
        rest = rest >> bits


def modulo(values: Array) -> Array:
    """Return integers modulo p."""
    return np.array([int(value) % P for value in np.asarray(values).reshape(-1)], np.uint64).reshape(np.shape(values))


def lying_case(name: str, lesson: Lesson, numbers: Numbers, update: Array | None = None, data: Any = None) -> Case:
    """Return a training case whose c masks the twisted gradient, or another update; the trace is the twisted one."""
    if update is None:
        update = np.append(numbers.gradient, lesson.chosen.sum())
    terms, draft = draft_of(lesson.layout, update, name)
    data = data or commit_data(lesson.shape, lesson.features, lesson.labels, random_of("data", name))
    statement = training_statement(lesson, masked_of(terms, draft), data.root)
    program, tensors = _training._program(statement)
    secrets = KeySecrets(draft.noise, draft.coefficients, draft.key)
    return Case(
        name, statement, program, tensors, PlainAssignment(statement, tensors, numbers, secrets), (data,), terms, draft
    )
