"""A trainer: its account, its rows, and what it wrote down about their encodings.

An encoding of registered rows may be opened by one proof beside its registration's: a second one would tell more
columns than its randomness covers. That one is a round's, or, of the spare encoding, the next registration's. So a
trainer writes down that it uses an encoding before it makes the proof, and never uses it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from collegium.crypto import AccountKey, Digest, hash_fields
from collegium.errors import CollegiumError
from collegium.learning import TrainerRows

from ._attest import Attest
from ._proofs import DataPack

__all__ = ["EncodingUsedError", "NotRegisteredError", "Trainer", "TrainerJournal"]


class EncodingUsedError(CollegiumError):
    """A trainer was about to open an encoding of its rows in a second proof."""


class NotRegisteredError(CollegiumError):
    """A trainer has no registered encoding for a round: never registered, or its pack is used up."""


@dataclass
class TrainerJournal:
    """What a trainer wrote down: its registration, and which encodings are used up.

    Attributes:
        used: encodings that rounds use: of which pack, which round.
        continued: the packs whose spare encoding another registration uses.
        write: writes the journal to disk after a change, before anything is done that rests on it; where all runs in
            one process, nothing survives it and nothing is written.
    """

    pack: DataPack | None = None
    used: set[tuple[Digest, int]] = field(default_factory=set)
    continued: set[Digest] = field(default_factory=set)
    write: Callable[[TrainerJournal], None] = field(default=lambda _: None, repr=False, compare=False)

    def covers(self, round_number: int) -> bool:
        """Tell whether the present registration has an encoding for a round."""
        return self.pack is not None and round_number in self.pack.record.rounds

    def register(self, pack: DataPack) -> None:
        """Write down a new registration, which is the present one from now on."""
        self.pack = pack
        self.write(self)

    def use(self, round_number: int) -> DataPack:
        """Write down that a round's encoding is used up, and return the pack that it belongs to.

        Raises:
            NotRegisteredError: there is none for this round: register anew.
            EncodingUsedError: it was used before.
        """
        if self.pack is None or round_number not in self.pack.record.rounds:
            raise NotRegisteredError(f"no registered encoding for round {round_number}: register anew")
        place = (hash_fields("encoding", self.pack.data), round_number)
        if place in self.used:
            raise EncodingUsedError(f"the encoding of round {round_number} is used up already", round=round_number)
        self.used.add(place)
        self.write(self)
        return self.pack

    def use_spare(self, registered: Digest | None) -> DataPack | None:
        """Write down that the present pack's spare encoding is used up, and return the pack, for the next to continue.

        None if closes have `registered` nothing of this trainer's: what it registers next is the first.

        Raises:
            NotRegisteredError: what closes know is not the present pack: no report of all its rounds was admitted, and
                the spare encoding that another one would begin with is used up.
            EncodingUsedError: the spare encoding was used before.
        """
        if registered is None:
            return None
        if self.pack is None or self.pack.digest != registered:
            raise NotRegisteredError(
                f"what continues registration {registered.hex()} was never admitted, nothing else can"
            )
        if self.pack.digest in self.continued:
            raise EncodingUsedError(f"the spare encoding of registration {registered.hex()} is used up already")
        self.continued.add(self.pack.digest)
        self.write(self)
        return self.pack


@dataclass(frozen=True, slots=True, eq=False)
class Trainer:
    """A trainer: its account, the rows that never leave it, its journal, and where its hardware's quotes come from."""

    account: AccountKey
    rows: TrainerRows
    journal: TrainerJournal = field(default_factory=TrainerJournal)
    attest: Attest | None = None
