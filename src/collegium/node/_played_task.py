"""What a task must offer to be played: the public work that validators agree on, and a trainer's part of a round."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from collegium.aggregation import Draft, KeyClaim, RoundTerms
from collegium.consensus import Agreed, Pay, Quality
from collegium.crypto import Digest, Randomness

from ._attest import Attest
from ._proofs import DataPack, SecretDraft

__all__ = ["PlayedTask"]


class PlayedTask(Agreed, Protocol):
    """A task as `play_round` plays it; `rows` are whatever the task's own trainers hold."""

    @property
    def cohort_min(self) -> int: ...

    @property
    def quorum(self) -> int | None: ...

    @property
    def lying_max(self) -> int: ...

    @property
    def quality(self) -> Quality | None:
        """How reports weigh by what they are worth; None where all weigh alike, but for their staleness."""
        ...

    @property
    def pay(self) -> Pay | None:
        """How trainers earn what headers say; None where nothing is paid."""
        ...

    def update(self, round_number: int, model: bytes, trainer: Any, beacon: Digest) -> npt.NDArray[np.int64]:
        """Return what a trainer contributes."""
        ...

    def register(
        self, first_round: int, model: bytes, trainer: bytes, rows: Any, earlier: DataPack | None, random: Randomness
    ) -> DataPack:
        """Return a trainer's registration of its rows, where proofs are about registered data; it continues another."""
        ...

    def prove(
        self,
        terms: RoundTerms,
        model: bytes,
        draft: SecretDraft,
        rows: Any,
        pack: DataPack | None,
        random: Randomness,
    ) -> tuple[bytes, KeyClaim | None]:
        """Return the proof of a draft that the task's level demands, and its claim about the key matrix."""
        ...

    def attest(self, terms: RoundTerms, draft: Draft, source: Attest | None) -> tuple[bytes, KeyClaim | None]:
        """Return the attestation of a draft, at level "attested": it comes without a claim about the key matrix."""
        ...
