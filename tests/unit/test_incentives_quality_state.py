"""The bytes in which quality goes from round to round: every number at its word, and each refused out of its range."""

from dataclasses import replace

import numpy as np
import pytest

from collegium.crypto import AccountKey
from collegium.incentives import (
    NO_SCORE,
    ModelScore,
    QualityBytesError,
    QualityState,
    StandingBytesError,
    StewardEntry,
    StewardRecord,
    StewardRecordError,
    decode_quality_state,
    decode_steward_record,
    encode_quality_state,
    encode_steward_record,
    new_standing,
    normalise_direction,
    quality_state_bytes,
    score_commitment,
    sign_steward_record,
    split_steward_record,
    steward_record_bytes,
)

TASK, KEY = b"t" * 32, AccountKey(b"\7" * 32)
WORDS = {  # of section 9, for two trainers, one steward and three parameters
    "round": 3,
    "trainers": 4,
    "stewards": 5,
    "parameters": 6,
    "norm_bound": 7,
    "model_round": 8,
    "model_scores": 9,
    "model_score": 10,
    "account": 14,
    "weight": 20,
    "score": 22,
    "precision": 24,
    "steward": 46,
    "record": 49,
    "direction": 61,
}


def state() -> QualityState:
    return QualityState(
        round=5,
        standing=new_standing([b"a" * 20, b"b" * 20]),
        weights=np.array([15, 3], np.int64),
        scores=np.array([-12, NO_SCORE], np.int64),
        norm_bound=77,
        direction=np.array([-(1 << 15), 2, 0], np.int64),
        stewards=(StewardEntry(b"s" * 20, b"r" * 32, b"c" * 32, b"d" * 32),),
        model_round=4,
        model_scores=1,
        model_score=1 << 15,
    )


def changed(word: int, value: int) -> bytes:
    data = bytearray(encode_quality_state(state()))
    data[8 * word : 8 * word + 8] = (value % (1 << 64)).to_bytes(8, "little")
    return bytes(data)


def test_every_number_stands_at_its_word() -> None:
    data = encode_quality_state(state())
    words = np.frombuffer(data, "<i8").tolist()
    found = state()

    assert len(data) == quality_state_bytes(2, 1, 3) == 8 * (14 + 16 * 2 + 15 + 3)
    assert words[WORDS["round"]] == 5
    assert words[WORDS["norm_bound"] : WORDS["norm_bound"] + 4] == [77, 4, 1, 1 << 15]
    assert data[8 * WORDS["account"] :][:24] == b"a" * 20 + bytes(4)
    assert words[WORDS["weight"] : WORDS["weight"] + 4] == [15, 3, -12, NO_SCORE]
    assert data[8 * WORDS["steward"] :][: 24 + 96] == b"s" * 20 + bytes(4) + b"r" * 32 + b"c" * 32 + b"d" * 32
    assert words[WORDS["direction"] :] == found.direction.tolist()


def test_what_is_decoded_is_what_was_encoded() -> None:
    again = decode_quality_state(encode_quality_state(state()))

    assert encode_quality_state(again) == encode_quality_state(state())
    assert again.has_direction
    assert again.stewards == state().stewards


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (0, 0),
        (WORDS["round"], (1 << 40) + 1),
        (WORDS["trainers"], 3),
        (WORDS["stewards"], 0),
        (WORDS["stewards"], 65),
        (WORDS["parameters"], 2),
        (WORDS["norm_bound"], 0),
        (WORDS["norm_bound"], (1 << 50) + 1),
        (WORDS["model_round"], 0),
        (WORDS["model_round"], 6),
        (WORDS["model_scores"], 2),
        (WORDS["model_scores"], 0),
        (WORDS["model_score"], (1 << 16) + 1),
        (WORDS["account"] + 2, -1),
        (WORDS["weight"], 16),
        (WORDS["weight"], -1),
        (WORDS["score"], (1 << 16) + 1),
        (WORDS["direction"], 3 << 13),
        (WORDS["direction"], 1 << 16),
        (WORDS["direction"], 1 << 2),
        (WORDS["direction"], -(1 << 63)),
    ],
)
def test_a_number_out_of_its_range_is_refused(word: int, value: int) -> None:
    with pytest.raises(QualityBytesError):
        decode_quality_state(changed(word, value))


def test_a_steward_with_a_record_and_no_commitment_is_refused() -> None:
    lame = replace(state(), stewards=(replace(state().stewards[0], commitment=bytes(32)),))

    with pytest.raises(QualityBytesError, match="expected both or neither"):
        decode_quality_state(encode_quality_state(lame))


def test_a_standing_out_of_its_range_is_refused() -> None:
    with pytest.raises(StandingBytesError):
        decode_quality_state(changed(WORDS["precision"], -1))


# --- records


def record(**changes: object) -> StewardRecord:
    opened = ModelScore(1 << 15, b"s" * 32)
    direction = normalise_direction(np.array([1, -2, 3], np.int64))
    found = StewardRecord(KEY.address, 2, direction, score_commitment(TASK, KEY.address, 2, opened), opened)
    return sign_steward_record(replace(found, **changes), TASK, KEY)  # type: ignore[arg-type]


def test_a_signed_record_is_read_as_it_was_written() -> None:
    data = encode_steward_record(record())
    found = decode_steward_record(data, TASK)

    assert len(data) == steward_record_bytes(3)
    assert (found.account, found.round, found.opened) == (KEY.address, 2, record().opened)
    assert found.direction.tolist() == record().direction.tolist()


def test_what_stands_behind_a_record_is_told_from_it() -> None:
    proved = record(registered=b"r" * 32, evidence=b"e" * 32)
    data = encode_steward_record(proved)
    found = decode_steward_record(data, TASK)

    assert (found.registered, found.evidence) == (b"r" * 32, b"e" * 32)
    assert split_steward_record(data + b"proof") == (data, b"proof")
    for other in (b"", data[:-1], b"x" + data):
        with pytest.raises(StewardRecordError, match="do not begin as"):
            split_steward_record(other)


def test_a_record_for_another_task_is_refused() -> None:
    with pytest.raises(StewardRecordError, match="is signed by"):
        decode_steward_record(encode_steward_record(record()), b"u" * 32)


@pytest.mark.parametrize("at", [0, 32, 40, 56, 75])
def test_a_changed_record_is_refused(at: int) -> None:
    data = bytearray(encode_steward_record(record()))
    data[at] ^= 1

    with pytest.raises(StewardRecordError):
        decode_steward_record(bytes(data), TASK)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 0},
        {"commitment": bytes(32)},
        {"opened": ModelScore((1 << 16) + 1, b"s" * 32)},
        {"direction": np.array([1 << 21, 0, 0], np.int64)},
        {"registered": b"r" * 32},
        {"evidence": b"e" * 32},
    ],
)
def test_a_record_that_says_what_no_record_may_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(StewardRecordError):
        decode_steward_record(encode_steward_record(record(**changes)), TASK)
