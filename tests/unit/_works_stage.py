"""Rounds of a small learning task played by hand, whose public work programs judge: the committee's keys, no network.

A round is what a header leads to. Whatever a test changes it changes in the objects; `messages` are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from _round_stage import RANDOM, SEATS, TASK, committee

from collegium.aggregation import (
    KeySum,
    Report,
    RoundTerms,
    begin_upload,
    finish_upload,
    sign_key_sum,
    weighted_total,
)
from collegium.aggregation._parameters import COMMITTEE_DOMAIN, KEY_CODE, KEY_ROWS
from collegium.consensus import Announcement, Close, Header, Held, terms_after, total_bytes
from collegium.crypto import Digest
from collegium.learning import CategoryColumn, ModelSpec, NumericColumn, Rows, Rule, Schema, Table, TrainerRows
from collegium.node import LearningTask
from collegium.node._audit import open_sum
from collegium.settlement import (
    KnownStretches,
    MachineRun,
    Program,
    WorkTerms,
    compile_program,
    public_works,
    round_messages,
    step_rule,
)
from collegium.settlement.programs import source_of

SCHEMA = Schema((NumericColumn("age", 0.0, 100.0, ()), CategoryColumn("kind", ("x", "y"), ())))
LEARNING = LearningTask(
    task=TASK,
    seed=sha256(b"first parameters").digest(),
    level="unproved",
    rounds=3,
    schema=SCHEMA,
    spec=ModelSpec("mlp", 3, (4,)),
    rule=Rule(learning_rate=Fraction(1, 2)),
    rows_max=64,
    trainers_max=4,
    cohort_min=2,
    lying_max=1,
    staleness=1,
)
GENESIS = sha256(b"genesis").digest()


@dataclass(frozen=True)
class PlayedRound:
    """What a header says, and all that it leads to."""

    header: Header
    before: Header | None
    close: Close
    terms: RoundTerms
    reports: tuple[Report, ...]
    ciphertexts: tuple[np.ndarray, ...]
    key_sums: tuple[KeySum, ...]
    model: bytes
    more: tuple[bytes, ...] = ()  # messages: the opened sum's, for one

    @property
    def held(self) -> dict[Digest, Held]:
        """The reports with their ciphertexts, by id."""
        return {r.id: Held(r, c, b"", b"") for r, c in zip(self.reports, self.ciphertexts, strict=True)}

    @cached_property
    def redone(self) -> tuple[str, Any, bytes]:
        """Outcome, opened sum and model as an audit finds them."""
        return open_sum(LEARNING, self.close, self.terms, self.held, {s.seat: s for s in self.key_sums}, self.model)

    @property
    def messages(self) -> tuple[bytes, ...]:
        ciphertexts = [c.astype("<u8").tobytes() for c in self.ciphertexts]
        data = (self.close, self.terms, self.reports, ciphertexts, self.key_sums, [self.model])
        return (*round_messages(self.header, self.before, *data), *work_terms().messages, *self.more)

    def claiming(self, **fields: Any) -> PlayedRound:
        """Return the round with other fields in its header."""
        return replace(self, header=replace(self.header, **fields))

    def closed(self, **fields: Any) -> PlayedRound:
        """Return the round with another close, named by its header and by nothing else."""
        close = replace(self.close, **fields)
        return replace(self, close=close, header=replace(self.header, close=close.digest))

    def summed(self, key_sums: Iterable[KeySum]) -> PlayedRound:
        """Return the round with other key sums, and the header that is right for them."""
        return right(replace(self, key_sums=tuple(key_sums)))


def right(played: PlayedRound) -> PlayedRound:
    """Return a round with the header that an audit finds right."""
    outcome, opened, after = played.redone
    total = b"" if opened is None else total_bytes(opened.total)
    return replace(played, more=(total,)).claiming(
        outcome=outcome,
        key_sums=tuple((key_sum.seat, key_sum.digest) for key_sum in played.key_sums),
        total=bytes(32) if opened is None else sha256(total).digest(),
        model=sha256(after).digest(),
        lying=() if opened is None else opened.lying,
    )


@cache
def work_terms() -> WorkTerms:
    who = committee()
    return WorkTerms(
        task=TASK,
        level="unproved",
        genesis=GENESIS,
        first=first_terms(),
        layout=LEARNING.layout(2),
        trainers=tuple(key.address for key in who.trainers[:4]),
        trainers_min=LEARNING.cohort_min,
        lying_max=LEARNING.lying_max,
        epoch_set=who.epoch_set,
        epoch_rounds=1 << 20,
        proves=False,
        rule=step_rule(LEARNING.spec, LEARNING.rule, LEARNING.layout(0).entries),
        parameters=LEARNING.first_parameters().astype("<i4").tobytes(),
    )


@cache
def first_terms() -> RoundTerms:
    return replace(committee().terms, layout=LEARNING.layout(0), previous=GENESIS)


def rows_of(trainer: int) -> TrainerRows:
    ages = range(20 + trainer, 70, 3 + trainer)
    table = Table(("age", "kind"), (tuple(str(age) for age in ages), tuple("xy"[age % 2] for age in ages)))
    return TrainerRows("site", f"site/{trainer}", Rows(table, np.array([int(age > 50) for age in ages], np.int64)))


@cache
def played(number: int, trainers: int = 3) -> PlayedRound:
    """Return a round to which all went well: every seat published, all reports are as stale as may be."""
    before = played(number - 1, trainers) if number else None
    terms = terms_of(before)
    model = b"" if before is None else before.redone[2]
    return play(before, [LEARNING.update(number, model, rows_of(trainer), terms.beacon) for trainer in range(trainers)])


def terms_of(before: PlayedRound | None) -> RoundTerms:
    """Return the terms of the round after one."""
    return first_terms() if before is None else terms_after(LEARNING, committee().epoch_set, before.header)


def play(
    before: PlayedRound | None,
    updates: Sequence[np.ndarray],
    tamper: Callable[[np.ndarray], np.ndarray] = lambda ciphertext: ciphertext,
    terms: RoundTerms | None = None,
) -> PlayedRound:
    """Return the round after one in which trainers send these updates; the first one's ciphertext is tampered with.

    `terms`: others than the round's, under which all is made.
    """
    who, terms, number = committee(), terms or terms_of(before), 0 if before is None else before.header.round + 1
    made = []
    for trainer, update in enumerate(updates):
        account, random = who.trainers[trainer], RANDOM.split(f"works {number} {trainer}")
        draft = begin_upload(terms, account.address, update, random)
        if trainer == 0:
            changed = tamper(draft.ciphertext)
            digest = sha256(changed.astype("<u8").tobytes()).digest()
            draft = replace(draft, ciphertext=changed, ciphertext_digest=digest)
        stale = min(trainer, terms.staleness_max)
        made.append((finish_upload(terms, draft, account, staleness=stale).report, draft))
    made.sort(key=lambda each: each[0].id)
    reports = tuple(report for report, _ in made)
    close = Close(
        task=TASK,
        round=number,
        terms=terms.digest,
        seats=tuple(range(len(terms.seats))) if made else (),
        reports=tuple(report.id for report in reports),
        weights=tuple(terms.weight(report.staleness) for report in reports),
        listed=tuple(report.id for report in reports),
        receipts=(),
        announcements=_announcements(number + 1),
    )
    header = Header(
        task=TASK,
        round=number,
        level="unproved",
        previous=GENESIS if before is None else before.header.digest,
        close=close.digest,
        outcome="opened",
        key_sums=(),
        total=bytes(32),
        model=bytes(32),
        lying=(),
        beacon=RANDOM.split(f"beacon {number}")(48),
        seats=tuple(seat % SEATS for seat in range(len(terms.seats))),
        announcements=close.announcements,
    )
    key_sums = _key_sums(terms, close, [draft.coefficients for _, draft in made]) if made else ()
    ciphertexts = tuple(draft.ciphertext for _, draft in made)
    earlier, model = (None, b"") if before is None else (before.header, before.redone[2])
    return right(PlayedRound(header, earlier, close, terms, reports, ciphertexts, key_sums, model))


def _announcements(number: int) -> tuple[Announcement, ...]:
    """All validators' but the last one's: its seat has no sealing key."""
    return tuple(
        Announcement(index, number, RANDOM.split(f"seal key {number} {index}")(32), bytes(65)) for index in range(15)
    )


def _key_sums(terms: RoundTerms, close: Close, coefficients: list[np.ndarray]) -> tuple[KeySum, ...]:
    total = weighted_total([rows[:KEY_ROWS] for rows in coefficients], close.weights)
    word = KEY_CODE.encode(np.ascontiguousarray(total), COMMITTEE_DOMAIN)
    sums = []
    for seat in range(len(terms.seats)):
        columns = terms.seat_columns(seat)
        rows = np.ascontiguousarray(word[:, columns.start : columns.stop].T)
        sums.append(sign_key_sum(terms, close.digest, seat, rows, committee().accounts[seat % SEATS]))
    return tuple(sums)


def changed_sum(key_sum: KeySum, columns: Iterable[int] = (0,)) -> KeySum:
    """Return a seat's sum that is wrong in some of its columns, signed."""
    rows = key_sum.rows.copy()
    for column in columns:
        rows[column, column % KEY_ROWS] ^= np.uint64(1)
    account = committee().accounts[key_sum.seat % SEATS]
    terms = replace(first_terms(), round=key_sum.round)
    return sign_key_sum(terms, key_sum.close, key_sum.seat, rows, account)


@cache
def program(name: str, changes: tuple[tuple[str, str, str], ...] = ()) -> Program:
    """Return a work's program, compiled from sources in which some words are others: (module, old, new)."""
    work = next(work for work in public_works(work_terms()) if work.name == name)

    def sources(module: str) -> str:
        source = source_of(module)
        for changed, old, new in changes:
            if changed == module:
                assert old in source, f"{module} has no {old!r}"
                source = source.replace(old, new)
        return source

    return compile_program(work.module, work.parameters, sources)


def run(name: str, played: PlayedRound, changes: tuple[tuple[str, str, str], ...] = ()) -> MachineRun:
    """Return the run of a work's program on the round's header."""
    return MachineRun(program(name, changes), played.header.digest, KnownStretches(played.messages))


@cache
def _verdict(name: str, header: bytes, messages: tuple[bytes, ...]) -> bool:
    made = MachineRun(program(name), header, KnownStretches(messages))
    return made.stuck is None and made.accepted


def accepts(name: str, played: PlayedRound) -> bool:
    """Tell whether a work's program accepts the round's header: not one that asks for what nobody can show."""
    return _verdict(name, played.header.digest, played.messages)
