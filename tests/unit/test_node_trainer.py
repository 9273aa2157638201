"""What a trainer writes down about the encodings of its rows, and the registration that names them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collegium.crypto import hash_fields
from collegium.node import EncodingUsedError, NotRegisteredError, TrainerJournal
from collegium.node._proofs import PACK_ROUNDS, DataPack, MalformedRegistrationError, RegistrationRecord

ROOTS = tuple(hash_fields("root", number) for number in range(3))
RECORD = RegistrationRecord(first_round=4, rows=57, roots=ROOTS, proof=b"proof")
PACK = DataPack(RECORD, RECORD.to_bytes(), tuple(bytes([number]) * 32 for number in range(3)))


def test_an_encoding_is_used_once() -> None:
    journal = TrainerJournal(PACK)
    assert journal.use(5) is PACK
    assert PACK.seed(5) == bytes([1]) * 32
    with pytest.raises(EncodingUsedError, match="the encoding of round 5 is used up already"):
        journal.use(5)
    assert journal.use(6) is PACK


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_round_without_an_encoding_needs_another_registration(number: int) -> None:
    journal = TrainerJournal(PACK)
    assert not journal.covers(number)
    with pytest.raises(NotRegisteredError, match="register anew"):
        journal.use(number)


def test_who_never_registered_proves_nothing() -> None:
    with pytest.raises(NotRegisteredError):
        TrainerJournal().use(1)


def test_another_registration_has_encodings_of_its_own() -> None:
    journal = TrainerJournal(PACK)
    journal.use(4)
    again = replace(RECORD, proof=b"another proof")
    journal.pack = DataPack(again, again.to_bytes(), PACK.seeds)
    assert journal.use(4) is journal.pack


def test_a_registration_survives_its_bytes() -> None:
    assert RegistrationRecord.from_bytes(RECORD.to_bytes()) == RECORD
    assert RECORD.rounds == range(4, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        RECORD.to_bytes()[:13],
        RECORD.to_bytes()[: 14 + 3 * 32],
        replace(RECORD, roots=()).to_bytes(),
        replace(RECORD, first_round=0).to_bytes(),
        replace(RECORD, first_round=1 << 32).to_bytes(),
        replace(RECORD, roots=ROOTS[:1] * (PACK_ROUNDS + 1)).to_bytes(),
    ],
    ids=["nothing", "half a head", "no proof", "no roots", "round 0", "a far round", "too many roots"],
)
def test_bytes_that_are_no_registration_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedRegistrationError):
        RegistrationRecord.from_bytes(data)
