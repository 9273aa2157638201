"""What chains hold, in the order: which records a quorum's certificate carries, and what headers say after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from collegium.consensus import (
    CHAINS_MAX,
    EpochSet,
    RefusedRegistriesError,
    Registries,
    RegistryRoot,
    Validator,
    ValidatorIndex,
    encode_registries,
    follow_registries,
    is_beside_rounds,
    is_registries,
    registries_accepted,
    registries_digest,
    seen_digest,
)
from collegium.crypto import (
    AccountKey,
    BadCertificateError,
    BlsSecretKey,
    QuorumNotReachedError,
    Stream,
    encode_certificate,
    hash_fields,
    make_certificate,
)
from collegium.errors import CollegiumError

STREAM = Stream(hash_fields("test-registries"))
SIZE = 4
VOTING = [BlsSecretKey.generate(STREAM) for _ in range(SIZE)]
ACCOUNTS = [AccountKey.generate(STREAM).address for _ in range(SIZE)]
MEMBERS = EpochSet(
    hash_fields("task"),
    0,
    tuple(
        Validator(ValidatorIndex(index), key.public_key().data, account, 1)
        for index, (account, key) in enumerate(zip(ACCOUNTS, VOTING, strict=True))
    ),
)
HEADER = b"H..."  # how a certified header's payload begins


def root(chain_id: int, block: int, name: str = "root") -> RegistryRoot:
    return RegistryRoot(chain_id, block, hash_fields(name, chain_id))


def record(seen: Sequence[RegistryRoot], signers: Sequence[int] = (0, 1, 3), members: EpochSet = MEMBERS) -> bytes:
    digest = seen_digest(members, seen)
    certificate = make_certificate(SIZE, {signer: VOTING[signer].sign(digest) for signer in signers})
    return encode_registries(seen, encode_certificate(certificate))


HOME, FOLLOWER = root(1, 10), root(7, 20)


def test_headers_say_from_the_next_round_on_what_a_quorum_has_seen() -> None:
    state = follow_registries(MEMBERS, Registries(), (record([HOME, FOLLOWER]),))
    assert (state.in_force, state.coming) == ((), (HOME, FOLLOWER))
    assert state.digest == bytes(32)
    state = follow_registries(MEMBERS, state, (HEADER,))
    assert state == Registries.begun((HOME, FOLLOWER))
    assert state.digest == registries_digest((HOME, FOLLOWER)) != bytes(32)
    later = root(7, 21, "changed")
    state = follow_registries(MEMBERS, state, (record([later]), b"C a close", HEADER))
    assert state.in_force == (HOME, later)  # of a chain that nobody has seen since, the last root stays
    assert follow_registries(MEMBERS, state, (HEADER, HEADER)) == state


@pytest.mark.parametrize(
    ("payload", "why", "said"),
    [
        (record([HOME]), RefusedRegistriesError, "as of block 10, expected one after 10"),  # says nothing new
        (record([root(1, 9), FOLLOWER]), RefusedRegistriesError, "as of block 9"),  # goes back
        (record([FOLLOWER], (0, 1)), QuorumNotReachedError, "quorum is 3"),
        (record([FOLLOWER], members=replace(MEMBERS, epoch=1)), BadCertificateError, "refused"),
        (record([FOLLOWER], members=replace(MEMBERS, task=hash_fields("other"))), BadCertificateError, "refused"),
        (record([FOLLOWER])[:-1], CollegiumError, "certificate|bitmap|bytes|signature"),
        (record([FOLLOWER]) + b"\0", CollegiumError, "certificate|bitmap|bytes|signature"),
        (record([FOLLOWER, root(1, 11)]), RefusedRegistriesError, "expected each once and in order"),
        (record([FOLLOWER, FOLLOWER]), RefusedRegistriesError, "expected each once and in order"),
        (encode_registries([], record([FOLLOWER])[-49:]), RefusedRegistriesError, "a record of 0 chains"),
        (b"R", RefusedRegistriesError, "in 0 bytes"),
        (record([root(number, 1) for number in range(2, CHAINS_MAX + 2)]), RefusedRegistriesError, "17 chains"),
        (b"R" + bytes([CHAINS_MAX + 1]) + bytes(2000), RefusedRegistriesError, "expected 1 to 16"),
    ],
)
def test_a_record_that_is_old_unsigned_or_malformed_is_none(payload: bytes, why: type[Exception], said: str) -> None:
    state = Registries((), (HOME,))
    assert not registries_accepted(MEMBERS, state, (), payload)
    with pytest.raises(why, match=said):
        follow_registries(MEMBERS, state, (payload,))
    assert registries_accepted(MEMBERS, state, (), record([root(1, 11), FOLLOWER]))


def test_no_flipped_bit_is_still_what_the_quorum_saw() -> None:
    good = record([HOME, FOLLOWER])
    for place in range(1, len(good)):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        with pytest.raises(CollegiumError):
            follow_registries(MEMBERS, Registries(), (changed,))


def test_what_waits_above_the_last_final_block_counts() -> None:
    state = Registries()
    first = record([HOME])
    assert registries_accepted(MEMBERS, state, (first, HEADER), record([FOLLOWER]))
    assert not registries_accepted(MEMBERS, state, (first,), first)
    assert not registries_accepted(MEMBERS, state, (b"R",), first)


def test_a_task_of_one_chain_orders_none() -> None:
    assert not registries_accepted(None, Registries(), (), record([HOME]))
    with pytest.raises(RefusedRegistriesError, match="in a task of one chain"):
        follow_registries(None, Registries(), (record([HOME]),))
    assert follow_registries(None, Registries(), (b"C a close", HEADER)) == Registries()


def test_a_record_is_neither_close_nor_header() -> None:
    assert is_registries(record([HOME]))
    assert is_beside_rounds(record([HOME]))
    assert not any(is_registries(payload) for payload in (HEADER, b"C a close", b"W"))
