"""What stands behind a steward's record where records are proved: its rows' registration, and an evaluation on them.

    registered = H("steward-registrations", digest of each shard's registration, in order)
    digest     = H("steward-registration", the registration without its proof, SHA-256 of the proof)

A shard is registered once, for all rounds that it serves, by a commitment for each (`_proofs.register`); a round's
record then proves the gradient, and how many rows the model classifies right, on the commitment of that round.
docs/spec/quality.md, section 11.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from collegium import learning, proofs
from collegium.crypto import DIGEST_BYTES, Digest, Stream, hash_fields
from collegium.errors import CollegiumError
from collegium.incentives import ONE, SALT_BYTES, ModelScore, StewardRecord, normalise_direction, score_commitment
from collegium.learning import ModelSpec, Rule
from collegium.proofs import Evaluated, EvaluationStatement

from ._proofs import DataPack, RegistrationRecord, register, shape_of
from ._quality_settings import shard_of

__all__ = [
    "EvidenceBytesError",
    "StewardEvidence",
    "StewardProofError",
    "StewardProving",
    "decode_steward_evidence",
    "encode_steward_evidence",
]

IntArray = npt.NDArray[np.int64]

ROWS_MAX = 1 << 16  # of a shard
SHARDS_MAX = 256
_COUNTS = struct.Struct("<IIII")  # shards, bytes of a registration without its proof, of that proof, parameters
_SAID = struct.Struct("<QQ")  # loss, rows classified right


class EvidenceBytesError(CollegiumError):
    """What stands behind a steward's record is malformed."""


class StewardProofError(CollegiumError):
    """What stands behind a steward's record does not show what the record says."""


@dataclass(frozen=True, eq=False)
class StewardEvidence:
    """What stands behind a record.

    Attributes:
        registrations: a digest for each shard of the steward.
        registration: of the shard that measures the round; its proof is empty where the last record's had it.
        registration_proof: SHA-256 of that proof.
        claim: what the rows say of the model.
        proof: that they do.
    """

    registrations: tuple[Digest, ...]
    registration: RegistrationRecord
    registration_proof: Digest
    claim: Evaluated
    proof: bytes

    @property
    def registered(self) -> Digest:
        """What a record calls all shards' registrations."""
        return hash_fields("steward-registrations", b"".join(self.registrations))


def registration_digest(registration: RegistrationRecord, proof: Digest) -> Digest:
    """Return what the registration of one shard is called."""
    return hash_fields("steward-registration", replace(registration, proof=b"").to_bytes(), proof)


def encode_steward_evidence(evidence: StewardEvidence) -> bytes:
    """Return the canonical bytes: counts, digests, registration, its proof, the claim, the proof."""
    claim, registration = evidence.claim, evidence.registration
    head = replace(registration, proof=b"").to_bytes()
    counts = (len(evidence.registrations), len(head), len(registration.proof), len(claim.gradient))
    return b"".join(
        (
            _COUNTS.pack(*counts),
            *evidence.registrations,
            head,
            evidence.registration_proof,
            registration.proof,
            _SAID.pack(claim.loss_micro, claim.correct),
            claim.gradient.astype("<i8").tobytes(),
            evidence.proof,
        )
    )


def decode_steward_evidence(data: bytes) -> StewardEvidence:
    """Return the evidence that canonical bytes encode.

    Raises:
        EvidenceBytesError: they encode none.
        MalformedRegistrationError: the registration in them is none.
    """
    if len(data) < _COUNTS.size:
        raise EvidenceBytesError(f"evidence of {len(data)} bytes has no counts", length=len(data))
    shards, head_len, proof_len, parameters = _COUNTS.unpack_from(data)
    lengths = (DIGEST_BYTES * shards, head_len, DIGEST_BYTES, proof_len, _SAID.size, 8 * parameters)
    if not 1 <= shards <= SHARDS_MAX or _COUNTS.size + sum(lengths) >= len(data):
        raise EvidenceBytesError(
            f"{len(data)} bytes of evidence for {shards} shards and {parameters} parameters, expected 1 to "
            f"{SHARDS_MAX} shards, more than {_COUNTS.size + sum(lengths)} bytes",
            length=len(data),
        )
    parts, at = [], _COUNTS.size
    for length in lengths:
        parts.append(data[at : at + length])
        at += length
    digests, head, digest, proof, said, gradient = parts
    registration = replace(RegistrationRecord.from_bytes(head + b"\0"), proof=b"")  # a byte, as none lacks a proof
    if registration.to_bytes() != head:
        raise EvidenceBytesError(f"a registration of {head_len} bytes, expected none behind its roots", length=head_len)
    loss, correct = _SAID.unpack(said)
    return StewardEvidence(
        tuple(digests[place : place + DIGEST_BYTES] for place in range(0, len(digests), DIGEST_BYTES)),
        replace(registration, proof=proof),
        digest,
        Evaluated(np.frombuffer(gradient, "<i8").astype(np.int64), loss, correct),
        data[at:],
    )


@dataclass(frozen=True)
class StewardProving:
    """How a task's stewards prove their records.

    Attributes:
        task: its digest.
        spec, rule: the model, and the rule whose gradient is proved.
        rounds: of training.
        shard_rounds: how many of them a shard serves; 0: all.
        parameters_at: at which byte of a model state the parameters begin.
    """

    task: Digest
    spec: ModelSpec
    rule: Rule
    rounds: int
    shard_rounds: int
    parameters_at: int

    @property
    def shards(self) -> int:
        """How many each steward has."""
        return shard_of(self.rounds, self.shard_rounds) + 1

    def rounds_of(self, shard: int) -> range:
        """Return the rounds that a shard serves."""
        if not self.shard_rounds:
            return range(1, self.rounds + 1)
        first = 1 + shard * self.shard_rounds
        return range(first, min(first + self.shard_rounds, self.rounds + 1))

    def parameters(self, model: bytes) -> IntArray:
        """Return the parameters in a model state."""
        end = self.parameters_at + 4 * self.spec.parameter_count
        return learning.parameters_from_bytes(self.spec, self.rule, model[self.parameters_at : end])

    def statement(
        self, account: bytes, round_number: int, model: bytes, record: RegistrationRecord, claim: Evaluated
    ) -> EvaluationStatement:
        """Return what a record's proof must show.

        Raises:
            StatementError: the numbers do not go together.
        """
        return EvaluationStatement(
            owner=account,
            context=hash_fields("steward-evaluation", self.task, round_number),
            spec=self.spec,
            rule=self.rule,
            parameters=self.parameters(model),
            data=shape_of(self.spec, self.rule, record.rows),
            data_root=record.roots[record.place(round_number)],
            claim=claim,
        )

    def score(self, claim: Evaluated, rows: int) -> ModelScore:
        """Return the score that a proved record commits to. It hides nothing: the claim tells it."""
        return ModelScore(claim.correct * ONE // rows, bytes(SALT_BYTES))

    # ---------------------------------------------------------------------------------------- whoever judges

    def check(self, found: StewardRecord, known: bool, model: bytes, data: bytes) -> None:
        """Check that what stands behind a record proves what it says of a model.

        Args:
            known: whether its steward's last record was about the same shard, which then has been verified.

        Raises:
            StewardProofError: naming what does not fit.
            ProofRejectedError: a proof does not show its statement.
            CollegiumError: the bytes are malformed.
        """
        evidence = decode_steward_evidence(data)
        self._check_registration(found, evidence, known, sha256(data).digest())
        claim, record = evidence.claim, evidence.registration
        proofs.verify_evaluation(self.statement(found.account, found.round, model, record, claim), evidence.proof)
        direction = normalise_direction(claim.gradient)
        if not np.array_equal(direction, found.direction):
            place = int(np.flatnonzero(direction != found.direction)[0])
            raise StewardProofError(
                f"steward {found.account.hex()} says direction[{place}] {found.direction[place]} in round "
                f"{found.round}, it proves {direction[place]}",
                account=found.account,
                round=found.round,
            )
        score = self.score(claim, record.rows)
        if found.commitment != score_commitment(self.task, found.account, found.round, score):
            raise StewardProofError(
                f"steward {found.account.hex()} commits to another score of round {found.round} than {score.score}, "
                "which it proves",
                account=found.account,
                round=found.round,
            )

    def _check_registration(self, found: StewardRecord, evidence: StewardEvidence, known: bool, digest: Digest) -> None:
        record, shard = evidence.registration, shard_of(found.round, self.shard_rounds)
        if (found.evidence, found.registered) != (digest, evidence.registered):
            raise StewardProofError(
                f"steward {found.account.hex()} names other evidence, or other registrations, than stand behind its "
                f"record of round {found.round}",
                account=found.account,
            )
        if len(evidence.registrations) != self.shards or record.rounds != self.rounds_of(shard) or record.linked:
            raise StewardProofError(
                f"{len(evidence.registrations)} shards, that of round {found.round} registered for {record.rounds}, "
                f"expected {self.shards} and {self.rounds_of(shard)}",
                account=found.account,
            )
        if evidence.registrations[shard] != registration_digest(record, evidence.registration_proof):
            raise StewardProofError(f"the registration of shard {shard} is not the one among those named", shard=shard)
        if not 1 <= record.rows <= ROWS_MAX or known != (not record.proof):
            raise StewardProofError(
                f"a registration of {record.rows} rows with a proof of {len(record.proof)} bytes, expected 1 to "
                f"{ROWS_MAX} rows, and a proof in a steward's first record of a shard, or after a round without one",
                rows=record.rows,
            )
        if known:
            return
        if sha256(record.proof).digest() != evidence.registration_proof:
            raise StewardProofError(f"the proof of shard {shard}'s registration is not the one it names", shard=shard)
        shape = shape_of(self.spec, self.rule, record.rows)
        proofs.verify_registration(record.statement(shape, self.task, found.account), record.proof)

    # ---------------------------------------------------------------------------------------- a steward

    def register(
        self, account: bytes, secret: bytes, shards: Sequence[tuple[IntArray, IntArray]]
    ) -> tuple[DataPack, ...]:
        """Return the registrations of a steward's shards, (features, labels) each; all follows from its secret.

        So they can be made again, bit for bit, and no commitment is ever opened at other columns.
        """
        model, packs = (self.spec, self.rule, self.task, account), []
        for shard, (features, labels) in enumerate(shards):
            rounds = self.rounds_of(shard)
            random = Stream(hash_fields("steward-registration-seed", secret, self.task, shard))
            packs.append(register(*model, rounds.start, len(rounds), features, labels, None, random))
        return tuple(packs)

    def prove(
        self,
        account: bytes,
        round_number: int,
        model: bytes,
        packs: Sequence[DataPack],
        held: tuple[IntArray, IntArray],
        known: bool,
        secret: bytes,
    ) -> StewardEvidence:
        """Return what stands behind a steward's record of a round.

        Args:
            packs: of all its shards; held: features and labels of the one that measures.
            known: as `check` takes it.

        Raises:
            CollegiumError: a row's values leave the rule's limits.
        """
        pack, (features, labels) = packs[shard_of(round_number, self.shard_rounds)], held
        record = pack.record
        claim = proofs.evaluated(self.spec, self.rule, self.parameters(model), features, labels)
        statement = self.statement(account, round_number, model, record, claim)
        committed = proofs.commit_data(statement.data, features, labels, Stream(pack.seed(round_number)))
        random = Stream(hash_fields("steward-evaluation-seed", secret, self.task, round_number, sha256(model).digest()))
        proof = proofs.prove_evaluation(statement, features, labels, committed, random)
        digests = [(each.record, sha256(each.record.proof).digest()) for each in packs]
        return StewardEvidence(
            tuple(registration_digest(*named) for named in digests),
            replace(record, proof=b"") if known else record,
            sha256(record.proof).digest(),
            claim,
            proof,
        )
