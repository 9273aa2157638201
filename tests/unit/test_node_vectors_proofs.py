"""What a proof of a vector task shows: the masked change is within the entries' bound and the norm's, and no other."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

import numpy as np
import pytest

from collegium import aggregation
from collegium.aggregation import RoundTerms, SeatTerms, Upload
from collegium.crypto import AccountKey, hash_fields, os_random
from collegium.errors import CollegiumError
from collegium.node import Quantiser, VectorTask, first_vector_state
from collegium.node._proofs import SecretDraft
from collegium.proofs import ProofRejectedError, UnprovableError

pytestmark = pytest.mark.slow

QUANTISER = Quantiser(clip=Fraction(1), bits=8, norm=Fraction(3, 2))
TASK = VectorTask(
    task=hash_fields("vectors"),
    level="bounded",
    entries=5,
    quantiser=QUANTISER,
    trainers=4,
    initial=first_vector_state(np.zeros(5), QUANTISER, 4),
    cohort_min=2,
    lying_max=1,
)
TERMS = RoundTerms(
    task=TASK.task,
    round=1,
    previous=bytes(32),
    model=sha256(TASK.initial).digest(),
    beacon=bytes(32),
    seats=tuple(SeatTerms(bytes([seat]) * 20, None) for seat in range(16)),
    layout=TASK.layout(1),
)
ACCOUNT = AccountKey.generate(os_random)


def upload(update: list[int]) -> Upload:
    """Return a report on an update with its proof, as a trainer makes it."""
    draft = aggregation.begin_upload(TERMS, ACCOUNT.address, np.array(update, np.int64), os_random)
    proof, claim = TASK.prove(TERMS, TASK.initial, SecretDraft.of(draft), None, None, os_random)
    return aggregation.finish_upload(TERMS, draft, ACCOUNT, proof, claim)


def verify(task: VectorTask, sent: Upload) -> None:
    """Verify it as a validator does."""
    ciphertext = aggregation.decode_ciphertext(TERMS.layout, sent.ciphertext)
    claim = task.verify_proof(TERMS, task.initial, sent.report, ciphertext, sent.proof, b"")
    aggregation.check_claim(sent.report, claim)


def test_an_update_within_both_bounds_is_proved_and_no_other_task_takes_the_proof() -> None:
    sent = upload([127, 127, -60, 0, 3])
    verify(TASK, sent)
    for other in (
        replace(TASK, quantiser=replace(QUANTISER, norm=Fraction(1))),
        replace(TASK, quantiser=replace(QUANTISER, norm=None)),
        replace(TASK, cohort_min=3),
    ):
        with pytest.raises(ProofRejectedError):
            verify(other, sent)
    with pytest.raises(CollegiumError):
        verify(TASK, replace(sent, proof=sent.proof[:-1]))


def test_an_update_beyond_the_norm_cannot_be_proved() -> None:
    assert TASK.norm_bound == 190
    upload([127, 127, 60, 0, 0])
    with pytest.raises(UnprovableError, match="the update's norm exceeds 190"):
        upload([127, 127, 63, 0, 0])
