"""Stewards' records that prove what they say, headers whose model counts them, and what programs may read of both.

A `Counted` is a round with one steward's record; `holds` asks the verifier of records, `accepted` the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256

import numpy as np
from _evaluation_stage import SHARDS, case_about
from _proof_stage import Case, account, digest_of

from collegium import incentives, learning, proofs
from collegium.consensus import ROUND_RECORD_BYTES_MAX
from collegium.crypto import Stream, frame_fields, hash_fields
from collegium.errors import CollegiumError
from collegium.incentives import (
    QualityState,
    StewardEntry,
    StewardRecord,
    encode_steward_record,
    normalise_direction,
    record_digest,
    score_commitment,
)
from collegium.node._proofs import DataPack
from collegium.node._steward_proofs import (
    StewardEvidence,
    StewardProving,
    decode_steward_evidence,
    encode_steward_evidence,
    registration_digest,
)
from collegium.settlement import (
    EvaluationPlan,
    KnownStretches,
    MachineRun,
    Program,
    ProofPlan,
    StepPlan,
    compile_program,
)

TASK = digest_of("task")
STATISTICS = 5  # words before a model's parameters
STEWARDS = 2
ROUNDS, SHARD_ROUNDS = 3, 2
NOBODY = bytes([9]) * 20


def proving(name: str) -> StewardProving:
    """Return how records about a shard's model are proved: two shards, of rounds 1 and 2 and of round 3."""
    shard = SHARDS[name]
    return StewardProving(TASK, shard.spec, shard.rule, ROUNDS, SHARD_ROUNDS, 8 * STATISTICS)


def record_step(name: str) -> StepPlan:
    """Return the plan of a shard's step as stewards evaluate it."""
    shard, names = SHARDS[name], ((bytes([7]) * 20, "a trainer"),)
    evaluation = EvaluationPlan(2, SHARD_ROUNDS, ROUND_RECORD_BYTES_MAX)
    return StepPlan(shard.spec, shard.rule, 99, ROUNDS, 64, 8 * STATISTICS, names, STEWARDS, evaluation)


@cache
def plan(name: str) -> ProofPlan:
    """Return the plan of a shard's evaluations."""
    return ProofPlan(digest_of("rule"), 1, 1, step=record_step(name))


@cache
def packs(name: str) -> tuple[DataPack, ...]:
    """Return the registrations of the steward's two shards, which are of the same rows here."""
    shard = SHARDS[name]
    return proving(name).register(account().address, b"s" * 32, [(shard.features, shard.labels)] * 2)


@cache
def program(name: str) -> Program:
    """Return the program about records of a shard's model."""
    nothing, step = bytes(32), record_step(name)
    digests = {"TASK": TASK, **dict.fromkeys(("FIRST_TERMS", "FIRST_BEACON", "GENESIS"), nothing)}
    words: Mapping[str, int] = {
        f"{key}_{index}": int.from_bytes(digest[8 * index : 8 * index + 8], "big")
        for key, digest in digests.items()
        for index in range(4)
    }
    level = int.from_bytes(b"proved\0\0", "big")
    sizes = {"LEVEL": level, "LEVEL_BYTES": 6, "SEATS": 16, "TRAINERS": 1, "STEWARDS": STEWARDS, "TRAINERS_MAX": 2}
    sizes |= {"FIRST_ENTRIES": STATISTICS, "ENTRIES": step.spec.parameter_count + 1, "PLACES": 0, "WEIGHT_MAX": 15}
    others = ("STALENESS_MAX", "FIRST_BOUND", "ENTRY_BOUND", "NOISE_NUMERATOR", "NOISE_DENOMINATOR")
    unused = dict.fromkeys((*others, "DIRECTION_NORM_MAX"), 1)
    return compile_program("_records", {**words, **sizes, **unused, **plan(name).parameters})


def state(name: str, round_number: int, entry: StewardEntry) -> QualityState:
    """Return a state of quality in which the second steward's entry is this one."""
    entries = SHARDS[name].spec.parameter_count
    standing = incentives.new_standing((bytes([7]) * 20,))
    columns = (np.full(1, 15, np.int64), np.full(1, incentives.NO_SCORE, np.int64))
    stewards = (StewardEntry(NOBODY), entry)
    return QualityState(round_number, standing, *columns, 1 << 24, np.zeros(entries, np.int64), stewards)


def model(name: str, part: QualityState) -> bytes:
    """Return a model state with a shard's parameters and a state of quality."""
    shard = SHARDS[name]
    bare = bytes(range(8 * STATISTICS)) + learning.parameters_to_bytes(shard.spec, shard.rule, shard.parameters)
    return bare + bytes(-len(bare) % 8) + incentives.encode_quality_state(part)


@dataclass(frozen=True, eq=False)
class Counted:
    """A round whose header counts one record, with what stands behind it; `before`: its steward's entry before."""

    name: str
    record: StewardRecord
    evidence: bytes
    before: StewardEntry
    began: int

    @property
    def model(self) -> bytes:
        """The model state that the round starts from."""
        return model(self.name, state(self.name, self.began, self.before))

    @property
    def said(self) -> StewardEvidence:
        """The evidence, decoded."""
        return decode_steward_evidence(self.evidence)

    @property
    def known(self) -> bool:
        """Whether the shard's registration was verified with the steward's last record."""
        number, last = self.record.round - 1, self.began - 1
        return self.before.record != bytes(32) and number // SHARD_ROUNDS == last // SHARD_ROUNDS

    def holds(self) -> bool:
        """Tell what the verifier of records says, as every validator asks it."""
        if self.before.registered not in (bytes(32), self.record.registered):
            return False
        try:
            proving(self.name).check(self.record, self.known, self.model, self.evidence)
        except CollegiumError:
            return False
        return True

    def run(self, outcome: bytes = b"opened", counts: bool = True) -> MachineRun:
        """Run the program on the round's header."""
        body, nothing = encode_steward_record(replace(self.record, signature=b"g" * 65)), bytes(32)
        entry = replace(self.before, record=record_digest(body), registered=self.record.registered)
        after = model(self.name, state(self.name, self.record.round, entry if counts else StewardEntry(NOBODY)))
        beacon, seats, number = bytes(48), bytes(32), self.record.round
        before = frame_fields(
            "header", TASK, number - 1, b"proved", nothing, nothing, b"opened", b"", nothing,
            sha256(self.model).digest(), b"", beacon, seats, b"", b"", nothing, nothing,
        )  # fmt: skip
        header = frame_fields(
            "header", TASK, number, b"proved", sha256(before).digest(), nothing, outcome, b"", nothing,
            sha256(after).digest(), b"", beacon, seats, b"", b"", nothing, nothing,
        )  # fmt: skip
        known = [header, before, after, self.model, body, self.evidence, plan(self.name).to_bytes()]
        return MachineRun(program(self.name), sha256(header).digest(), KnownStretches(known))

    def accepted(self) -> bool:
        """Tell what the program says; the verifier must say the same."""
        run = self.run()
        assert run.stuck is None
        assert run.accepted == self.holds()
        return run.accepted

    def showing(self, evidence: StewardEvidence | bytes) -> Counted:
        """Return the round with other evidence, which its record names."""
        behind = evidence if isinstance(evidence, bytes) else encode_steward_evidence(evidence)
        record = replace(self.record, evidence=sha256(behind).digest())
        if not isinstance(evidence, bytes):
            record = replace(record, registered=evidence.registered)
        return replace(self, record=record, evidence=behind)


@cache
def counted(name: str, number: int = 1, known: bool = False) -> Counted:
    """Return a round with an honest record; `known`: its steward's last one was of the same shard."""
    shard, address, said = SHARDS[name], account().address, proving(name)
    registered = said_registered(name)
    last = StewardEntry(address, b"r" * 32, b"c" * 32, registered) if known or number > 1 else StewardEntry(address)
    before = model(name, state(name, number - 1, last))
    held = (shard.features, shard.labels)
    evidence = said.prove(address, number, before, packs(name), held, known, b"secret, of 32 bytes, of a steward")
    score = said.score(evidence.claim, evidence.registration.rows)
    record = StewardRecord(
        address,
        number,
        normalise_direction(evidence.claim.gradient),
        score_commitment(TASK, address, number, score),
        None,
        registered=evidence.registered,
    )
    return Counted(name, record, b"", last, number - 1).showing(evidence)


def said_registered(name: str) -> bytes:
    """Return what the steward's shards are registered as."""
    digests = [registration_digest(pack.record, sha256(pack.record.proof).digest()) for pack in packs(name)]
    return hash_fields("steward-registrations", b"".join(digests))


def case_of(round_: Counted) -> Case:
    """Return the statement of a round's evidence, and who can prove it."""
    shard, said = SHARDS[round_.name], round_.said
    statement = proving(round_.name).statement(
        account().address, round_.record.round, round_.model, said.registration, said.claim
    )
    pack = packs(round_.name)[(round_.record.round - 1) // SHARD_ROUNDS]
    data = proofs.commit_data(statement.data, shard.features, shard.labels, Stream(pack.seed(round_.record.round)))
    return case_about(round_.name, statement, shard.features, shard.labels, data)
