"""A report with its proof, what a validator says against one, and what convicts who lied about it or signed two."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from collegium.aggregation import Receipt, Report
from collegium.crypto import AccountKey, Digest, hash_fields

__all__ = [
    "DoubleReport",
    "FailingProof",
    "FalseReceipt",
    "FalseReject",
    "Held",
    "ProofEvidence",
    "ProofReject",
    "sign_reject",
]


@dataclass(frozen=True, eq=False)
class Held:
    """A checked report with everything in it that is public; `registration` is empty where it refers to none."""

    report: Report
    ciphertext: npt.NDArray[np.uint64]
    proof: bytes = b""
    registration: bytes = b""


@dataclass(frozen=True)
class ProofReject:
    """A validator's signed word that a report's proof does not verify: everybody then verifies it."""

    round: int
    report: Digest
    validator: int
    signature: bytes = b""

    def digest(self, task: Digest) -> Digest:
        """What the validator signs."""
        return hash_fields("proof-reject", task, self.round, self.report, self.validator)


def sign_reject(reject: ProofReject, task: Digest, account: AccountKey) -> ProofReject:
    """Return the reject with its validator's signature."""
    return replace(reject, signature=account.sign(reject.digest(task)))


@dataclass(frozen=True, eq=False)
class FailingProof:
    """Against the trainer: a report that it signed, with a proof that does not verify."""

    held: Held


@dataclass(frozen=True, eq=False)
class FalseReceipt:
    """Against the seat's validator: it signed that it had verified a proof that does not verify."""

    held: Held
    receipt: Receipt


@dataclass(frozen=True, eq=False)
class FalseReject:
    """Against the validator: it signed that a proof does not verify, and the proof does."""

    held: Held
    reject: ProofReject


ProofEvidence = FailingProof | FalseReceipt | FalseReject


@dataclass(frozen=True, eq=False)
class DoubleReport:
    """Against the trainer: two reports that it signed for one round, under the same terms."""

    first: Report
    second: Report
