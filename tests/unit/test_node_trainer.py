"""What a trainer writes down about the encodings of its rows, and the registration that names them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collegium.crypto import hash_fields
from collegium.node import EncodingUsedError, NotRegisteredError, TrainerJournal
from collegium.node._proofs import NO_PREVIOUS, PACK_ROUNDS, DataPack, MalformedRegistrationError, RegistrationRecord

ROOTS = tuple(hash_fields("root", number) for number in range(4))
SEEDS = tuple(bytes([number]) * 32 for number in range(4))
RECORD = RegistrationRecord(first_round=4, rows=57, previous=NO_PREVIOUS, roots=ROOTS, proof=b"proof")
PACK = DataPack(RECORD, RECORD.to_bytes(), SEEDS)
NEXT_ROOTS = (ROOTS[-1], *(hash_fields("next root", number) for number in range(3)))
NEXT = RegistrationRecord(first_round=7, rows=57, previous=PACK.digest, roots=NEXT_ROOTS, proof=b"proof")


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


def test_the_spare_encoding_is_used_by_one_registration_and_no_round() -> None:
    journal = TrainerJournal(PACK)
    assert journal.use_spare(None) is None, "what no close knows is not continued"
    assert journal.use_spare(PACK.digest) is PACK
    with pytest.raises(EncodingUsedError, match=r"the spare encoding of registration [0-9a-f]* is used up"):
        journal.use_spare(PACK.digest)
    with pytest.raises(NotRegisteredError):
        journal.use(7)


def test_a_pack_that_was_never_admitted_is_not_continued() -> None:
    journal = TrainerJournal(DataPack(NEXT, NEXT.to_bytes(), SEEDS))
    with pytest.raises(NotRegisteredError, match=f"what continues registration {PACK.digest.hex()} was never admitted"):
        journal.use_spare(PACK.digest)


def test_a_pack_that_continues_begins_with_the_spare_root_of_the_one_before() -> None:
    pack = DataPack(NEXT, NEXT.to_bytes(), SEEDS)
    assert NEXT.rounds == range(7, 9)
    assert [NEXT.roots[NEXT.place(number)] for number in NEXT.rounds] == list(NEXT_ROOTS[1:3])
    assert [pack.seed(number) for number in NEXT.rounds] == list(SEEDS[1:3])
    assert (RECORD.scope.previous, RECORD.scope.begins) == (None, None)
    assert (NEXT.scope.previous, NEXT.scope.begins) == (PACK.digest, RECORD.scope.spare)
    for other in (replace(NEXT, rows=56), replace(NEXT, roots=NEXT_ROOTS[::-1])):
        assert other.scope.begins != RECORD.scope.spare, "the number of rows says how a root is read"


@pytest.mark.parametrize("record", [RECORD, NEXT], ids=["a first one", "one that continues"])
def test_a_registration_survives_its_bytes(record: RegistrationRecord) -> None:
    assert RegistrationRecord.from_bytes(record.to_bytes()) == record
    assert RECORD.rounds == range(4, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        RECORD.to_bytes()[:13],
        RECORD.to_bytes()[:45],
        RECORD.to_bytes()[: 14 + 5 * 32],
        replace(RECORD, roots=()).to_bytes(),
        replace(RECORD, first_round=0).to_bytes(),
        replace(RECORD, first_round=1 << 32).to_bytes(),
        replace(RECORD, roots=ROOTS[:1]).to_bytes(),
        replace(NEXT, roots=ROOTS[:2]).to_bytes(),
        replace(RECORD, roots=ROOTS[:1] * (PACK_ROUNDS + 2)).to_bytes(),
        replace(NEXT, roots=ROOTS[:1] * (PACK_ROUNDS + 3)).to_bytes(),
    ],
    ids=[
        "nothing",
        "half a head",
        "half a predecessor",
        "no proof",
        "no roots",
        "round 0",
        "a far round",
        "a spare root alone",
        "two spare roots alone",
        "too many roots",
        "too many roots behind another's",
    ],
)
def test_bytes_that_are_no_registration_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedRegistrationError):
        RegistrationRecord.from_bytes(data)
