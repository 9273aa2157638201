"""What others say in a round: a steward's record, and the score in front of a report's proof.

A record that is read is counted, its signature left out: that it is its account's no program judges.
"""

from __future__ import annotations

from collegium.settlement.programs._directions import has_norm
from collegium.settlement.programs._hashing import (
    finish_hash,
    put_digest_field,
    put_integer_field,
    put_little,
    put_message,
    put_tag,
    start_hash,
)
from collegium.settlement.programs._quality_state import ACCOUNT_WORDS, COMMITMENT, NO_SCORE, REGISTERED
from collegium.settlement.programs._reading import (
    START_0,
    START_1,
    START_2,
    START_3,
    TAG_0,
    copy_digest,
    is_no_digest,
    read_message,
    swapped,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import ACCOUNT_BYTES
from collegium.settlement.programs._task import task_digest
from collegium.settlement.programs._words import byte_swap, memory, preimage

RECORD_1 = 0x6D2F76312F737465  # "m/v1/ste"
RECORD_2 = 0x776172642D726563  # "ward-rec"
RECORD_3 = 0x6F72640000000000  # "ord"
SCORE_2 = 0x776172642D73636F  # "ward-sco"
SCORE_3 = 0x7265000000000000  # "re"
# words of a record
SAID_ROUND = 4
SAID_ENTRIES = 5
SAID_ACCOUNT = 6
SAID_COMMITMENT = 9
SAID_OPENED = 13
SAID_SCORE = 14
SAID_SALT = 15
SAID_REGISTERED = 19
SAID_EVIDENCE = 23
SAID_DIRECTION = 27
SIGNATURE_BYTES = 65
SCORE_MAX = 1 << 16
PROOF_BYTES_MAX = 64 << 20


def check_record(digest: int, number: int, entries: int, entry: int, began: int) -> int:
    """Return the record behind a digest; reject unless it counts as the steward's whose entry in a state this is.

    `began`: the round of that state, from which a commitment may be opened.
    """
    message, length = read_message(digest)
    words = SAID_DIRECTION + entries
    assert length == 8 * words + SIGNATURE_BYTES
    assert memory[message] == TAG_0 and memory[message + 1] == RECORD_1
    assert memory[message + 2] == RECORD_2 and memory[message + 3] == RECORD_3
    record = swapped(message, words)
    assert memory[record + SAID_ROUND] == number and memory[record + SAID_ENTRIES] == entries
    for index in range(ACCOUNT_WORDS):
        assert memory[record + SAID_ACCOUNT + index] == memory[entry + index]
    assert is_no_digest(record + SAID_COMMITMENT) == 0
    if memory[record + SAID_OPENED] == 0:
        assert memory[record + SAID_SCORE] == 0 and is_no_digest(record + SAID_SALT) == 1
    else:
        assert memory[record + SAID_OPENED] == 1 and memory[record + SAID_SCORE] <= SCORE_MAX
        _check_opened(message, record, entry, began)
    _check_registered(record, entry)
    assert has_norm(record + SAID_DIRECTION, entries) == 1
    return record


def _check_registered(record: int, entry: int) -> None:
    """Reject unless a record names rows and evidence or neither, and no other rows than those of its entry.

    That the evidence proves what the record says `_evidence` judges.
    """
    assert is_no_digest(record + SAID_REGISTERED) == is_no_digest(record + SAID_EVIDENCE)
    if is_no_digest(entry + REGISTERED) == 0:
        for index in range(4):
            assert memory[record + SAID_REGISTERED + index] == memory[entry + REGISTERED + index]


def _check_opened(message: int, record: int, entry: int, began: int) -> None:
    """Reject unless the score and the salt are what the steward committed to."""
    digest = score_commitment(message + SAID_ACCOUNT, began, memory[record + SAID_SCORE], message + SAID_SALT)
    for index in range(4):
        assert memory[digest + index] == byte_swap(memory[entry + COMMITMENT + index])


def score_commitment(account: int, number: int, score: int, salt: int) -> int:
    """Return the address of the commitment of an account to a score of the model that a round starts from."""
    hashing = start_hash()
    put_tag(hashing, 26, RECORD_1, SCORE_2, SCORE_3)
    put_digest_field(hashing, task_digest())
    put_little(hashing, ACCOUNT_BYTES)
    put_message(hashing, account, 0, ACCOUNT_BYTES)
    put_integer_field(hashing, number)
    put_integer_field(hashing, score)
    put_digest_field(hashing, salt)
    return finish_hash(hashing)


def read_prefix(digest: int) -> tuple[int, int]:
    """Return score and rows with which the proof behind a digest begins; of one below 64 bytes no score, and none.

    No more than a block of it is kept.
    """
    frame = allocate(16)
    copy_digest(frame + 12, digest)
    preimage(frame)
    length = memory[frame + 11] >> 3
    if length < 64:
        return NO_SCORE, 0
    assert length <= PROOF_BYTES_MAX
    for _ in range((length + 72) // 64 - 1):
        copy_digest(frame + 12, frame)
        preimage(frame)
    assert memory[frame] == START_0 and memory[frame + 1] == START_1
    assert memory[frame + 2] == START_2 and memory[frame + 3] == START_3
    return byte_swap(memory[frame + 4]), byte_swap(memory[frame + 5])
