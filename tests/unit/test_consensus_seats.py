"""A committee's certificate: made of what came together, and of the good votes alone where some are bad."""

from __future__ import annotations

import pytest

from collegium.aggregation import Budget, Layout, RoundTerms, SeatTerms
from collegium.consensus import EpochSet, Validator, ValidatorIndex
from collegium.consensus import _seats as seats_module
from collegium.consensus._seats import add_votes, certify_seats, check_seat_certificate
from collegium.crypto import BadCertificateError, BadSignatureError, BlsSecretKey, aggregate_signatures, hash_fields

TASK = hash_fields("test-task", 1)
DIGEST = hash_fields("test-header", 1)
KEYS = [BlsSecretKey(100 + index) for index in range(16)]
ACCOUNTS = [bytes([index]) * 20 for index in range(16)]
EPOCH_SET = EpochSet(
    TASK,
    0,
    tuple(
        Validator(ValidatorIndex(index), bytes(key.public_key()), ACCOUNTS[index], 1) for index, key in enumerate(KEYS)
    ),
)
TERMS = RoundTerms(
    task=TASK,
    round=1,
    previous=bytes(32),
    model=bytes(32),
    beacon=bytes(32),
    seats=tuple(SeatTerms(account, None) for account in ACCOUNTS),
    layout=Layout(8, Budget(entry_bound=1, trainers_max=4)),
)
VOTES = {seat: key.sign(DIGEST) for seat, key in enumerate(KEYS)}


def test_a_quorum_of_votes_is_a_certificate() -> None:
    votes = {seat: VOTES[seat] for seat in range(11)}
    good, certificate = certify_seats(EPOCH_SET, TERMS, DIGEST, votes)
    assert (good, certificate is not None) == (votes, True)
    check_seat_certificate(EPOCH_SET, TERMS, DIGEST, certificate or b"")
    with pytest.raises(BadCertificateError):
        check_seat_certificate(EPOCH_SET, TERMS, hash_fields("test-header", 2), certificate or b"")


def test_less_than_a_quorum_is_none() -> None:
    votes = {seat: VOTES[seat] for seat in range(10)}
    assert certify_seats(EPOCH_SET, TERMS, DIGEST, votes) == (votes, None)


@pytest.mark.parametrize("bad", [VOTES[0], KEYS[3].sign(hash_fields("test-header", 2)), bytes(48), b"short"])
def test_a_bad_vote_is_thrown_out_and_the_others_certify(bad: bytes) -> None:
    good, certificate = certify_seats(EPOCH_SET, TERMS, DIGEST, {**VOTES, 3: bad})
    assert good == {seat: vote for seat, vote in VOTES.items() if seat != 3}
    check_seat_certificate(EPOCH_SET, TERMS, DIGEST, certificate or b"")
    few = {seat: VOTES[seat] for seat in range(11)} | {3: bad}
    assert certify_seats(EPOCH_SET, TERMS, DIGEST, few) == ({s: v for s, v in few.items() if s != 3}, None)


def test_two_votes_that_add_up_to_the_right_sum_make_the_right_certificate() -> None:
    """Neither holds alone, but both voters have signed all the same: the sum is that of their signatures."""
    off = KEYS[0].sign(hash_fields("test-header", 2))
    minus = bytes([off[0] ^ 0x20]) + off[1:]  # the sign of y: the opposite point
    shifted = {**VOTES, 1: aggregate_signatures([VOTES[1], off]), 2: aggregate_signatures([VOTES[2], minus])}
    good, certificate = certify_seats(EPOCH_SET, TERMS, DIGEST, shifted)
    assert certificate == certify_seats(EPOCH_SET, TERMS, DIGEST, VOTES)[1]
    check_seat_certificate(EPOCH_SET, TERMS, DIGEST, certificate or b"")
    assert good == shifted


def test_whoever_sent_a_bad_vote_has_its_next_ones_checked_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """All votes together take ten times as long to check: nobody has that done again for each bad vote of its own."""
    votes = {seat: VOTES[seat] for seat in range(10)}
    bad = [KEYS[10].sign(hash_fields("test-header", number)) for number in (2, 3)]
    votes, certificate = add_votes(EPOCH_SET, TERMS, votes, [10], DIGEST, bad[0])
    assert certificate is None
    with monkeypatch.context() as patch:
        patch.setattr(seats_module, "certify_seats", None)
        for again in bad:
            with pytest.raises(BadSignatureError):
                add_votes(EPOCH_SET, TERMS, votes, [10], DIGEST, again)
    for seat in (10, 11):
        good, certificate = add_votes(EPOCH_SET, TERMS, votes, [seat], DIGEST, VOTES[seat])
        assert {seat for seat, vote in good.items() if vote} == {*range(10), seat}
        check_seat_certificate(EPOCH_SET, TERMS, DIGEST, certificate or b"")
