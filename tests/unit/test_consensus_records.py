"""Payloads of a learning round: one encoding each, and every change of a byte is refused or changes what is signed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from _round_stage import SEATS, TASK, Hall, admitted, committee, proposed

from collegium.aggregation import Report
from collegium.consensus import (
    OUTCOMES,
    PAYLOAD_BYTES_MAX,
    Announcement,
    Certified,
    Close,
    Header,
    MalformedPayloadError,
    check_announcement,
    check_certified,
    check_close,
    decode_payload,
    encode_payload,
    seat_quorum,
)
from collegium.consensus._close_rules import check_keys
from collegium.consensus._round import payload_accepted
from collegium.crypto import encode_certificate, make_certificate
from collegium.errors import CollegiumError

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
FLIPS = 4000 if FULL else 250


@cache
def close_of_a_round() -> Close:
    return admitted(2).close()


@cache
def certified_of_a_round() -> Certified:
    _, proposal = proposed(2)
    header = replace(proposal.header, lying=(3, 5))  # certified all the same: not this decoder's business
    votes = {i: committee().voting[i].sign(header.digest) for i in range(seat_quorum(SEATS))}
    return Certified(header, encode_certificate(make_certificate(SEATS, votes)))


PAYLOADS: dict[str, Callable[[], Close | Certified]] = {"close": close_of_a_round, "certified": certified_of_a_round}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_payloads_round_trip(kind: str) -> None:
    payload = PAYLOADS[kind]()
    data = encode_payload(payload)
    assert decode_payload(data) == payload
    assert encode_payload(decode_payload(data)) == data


@pytest.mark.parametrize("kind", PAYLOADS)
def test_truncated_and_extended_payloads_are_refused(kind: str) -> None:
    data = encode_payload(PAYLOADS[kind]())
    for wrong in (b"", data[:1], data[:2], data[: len(data) // 2], data[:-1], data + b"\0", data + b"\xc0", data * 2):
        with pytest.raises(MalformedPayloadError):
            decode_payload(wrong)


def test_another_kind_or_an_endless_payload_is_refused() -> None:
    close, certified = (encode_payload(make()) for make in PAYLOADS.values())
    for wrong in (b"H" + close[1:], b"C" + certified[1:], b"X" + close[1:], b"\0" + close[1:]):
        with pytest.raises(MalformedPayloadError):
            decode_payload(wrong)
    with pytest.raises(MalformedPayloadError, match="expected 2"):
        decode_payload(b"C" + bytes(PAYLOAD_BYTES_MAX))


def test_values_nested_without_end_are_refused() -> None:
    for kind in (b"C", b"H"):
        with pytest.raises(MalformedPayloadError):
            decode_payload(kind + b"\x81\xa1x" + b"\x91" * 100_000)


def test_another_encoding_of_the_same_values_is_refused() -> None:
    """msgpack has many: keys in another order, one key twice, an unknown key, longer integers."""
    data = encode_payload(close_of_a_round())
    fields = msgspec.msgpack.decode(data[1:])
    reordered = dict(reversed(fields.items()))
    extended = {**fields, "more": 1}
    for other in (reordered, extended):
        with pytest.raises(MalformedPayloadError):
            decode_payload(b"C" + msgspec.msgpack.encode(other))
    name = b"\xa5round"
    assert data.count(name + b"\0") == 1
    for longer in (b"\xcc\0", b"\xcd\0\0", b"\xd3" + bytes(8)):
        with pytest.raises(MalformedPayloadError):
            decode_payload(data.replace(name + b"\0", name + longer))
    twice = bytes([data[1] + 1]) + name + b"\0" + data[2:]
    with pytest.raises(MalformedPayloadError):
        decode_payload(b"C" + twice)


Row = tuple[bytes, bytes, bytes]


def with_row(close: Close, change: Callable[[bytes, bytes, bytes], Row]) -> Close:
    """Return a close whose first seat's row is another one."""
    return replace(close, receipts=(change(*close.receipts[0]), *close.receipts[1:]))


def malformed_closes() -> dict[str, Callable[[Close], Close]]:
    return {
        "short task": lambda c: replace(c, task=c.task[:-1]),
        "long terms": lambda c: replace(c, terms=c.terms + b"\0"),
        "short report": lambda c: replace(c, reports=(c.reports[0][:-1], *c.reports[1:])),
        "short signature": lambda c: with_row(c, lambda named, verified, signature: (named, verified, signature[:-1])),
        "negative round": lambda c: replace(c, round=-1),
        "round of 2^63": lambda c: replace(c, round=1 << 63),
        "negative seat": lambda c: replace(c, seats=(-1, *c.seats[1:])),
        "seat of 2^16": lambda c: replace(c, seats=(1 << 16, *c.seats[1:])),
        "negative weight": lambda c: replace(c, weights=(-1, *c.weights[1:])),
        "a weight too many": lambda c: replace(c, weights=(*c.weights, 1)),
        "a report too few": lambda c: replace(c, reports=c.reports[1:]),
        "a receipt too few": lambda c: replace(c, receipts=c.receipts[1:]),
        "a bitmap too short": lambda c: with_row(c, lambda named, verified, signature: (b"", verified, signature)),
        "a bitmap too long": lambda c: with_row(c, lambda named, verified, signature: (named, b"\0\0", signature)),
        "a bit behind the last": lambda c: with_row(c, lambda named, verified, signature: (b"\7", verified, signature)),
        "verified but not named": lambda c: with_row(c, lambda named, verified, signature: (b"\1", b"\2", signature)),
        "listed in another order": lambda c: replace(c, listed=c.listed[::-1]),
        "listed twice": lambda c: replace(c, listed=(c.listed[0], c.listed[0])),
        "listed, but named by nobody": lambda c: replace(c, listed=(*c.listed, b"\xff" * 32)),
        "short listed report": lambda c: replace(c, listed=(c.listed[0], c.listed[1][:-1])),
    }


@pytest.mark.parametrize("name", malformed_closes())
def test_closes_of_a_wrong_shape_are_refused(name: str) -> None:
    bad = malformed_closes()[name](close_of_a_round())
    with pytest.raises(MalformedPayloadError, match=r"wrong length, \d+ numbers out of range"):
        decode_payload(encode_payload(bad))


def malformed_headers() -> dict[str, Callable[[Header], Header]]:
    def with_key(header: Header, **changes: Any) -> Header:
        return replace(header, announcements=(replace(header.announcements[0], **changes), *header.announcements[1:]))

    return {
        **{name: lambda h, name=name: replace(h, **{name: bytes(31)}) for name in ("task", "previous", "close")},
        **{
            name: lambda h, name=name: replace(h, **{name: bytes(33)})
            for name in ("total", "model", "rewards", "registries")
        },
        "beacon": lambda h: replace(h, beacon=h.beacon[:-1]),
        "key sum": lambda h: replace(h, key_sums=((0, bytes(31)),)),
        "key sum's seat": lambda h: replace(h, key_sums=((1 << 16, bytes(32)),)),
        "negative seat": lambda h: replace(h, seats=(-1, *h.seats[1:])),
        "liar": lambda h: replace(h, lying=(1 << 16,)),
        "round": lambda h: replace(h, round=1 << 63),
        "seal key": lambda h: with_key(h, seal_key=bytes(31)),
        "seal key's signature": lambda h: with_key(h, signature=bytes(64)),
        "seal key's validator": lambda h: with_key(h, validator=-1),
        "seal key's round": lambda h: with_key(h, round=-1),
        "outcome": lambda h: replace(h, outcome="won"),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("name", malformed_headers())
def test_headers_of_a_wrong_shape_are_refused(name: str) -> None:
    good = certified_of_a_round()
    bad = replace(good, header=malformed_headers()[name](good.header))
    with pytest.raises(MalformedPayloadError):
        decode_payload(encode_payload(bad))


def test_every_outcome_has_its_own_digest() -> None:
    header = certified_of_a_round().header
    assert len({replace(header, outcome=outcome).digest for outcome in OUTCOMES}) == len(OUTCOMES) == 4


# ------------------------------------------------------------------------------------------------ what a digest binds


def changed_headers() -> dict[str, Callable[[Header], Header]]:
    def with_key(header: Header, **changes: Any) -> Header:
        return replace(header, announcements=(replace(header.announcements[0], **changes), *header.announcements[1:]))

    return {
        **{n: lambda h, n=n: replace(h, **{n: bytes(32)}) for n in ("task", "previous", "close", "total", "model")},
        **{n: lambda h, n=n: replace(h, **{n: sha256(n.encode()).digest()}) for n in ("rewards", "registries")},
        "round": lambda h: replace(h, round=h.round + 1),
        "level": lambda h: replace(h, level="proved"),
        "outcome": lambda h: replace(h, outcome="lost"),
        "key_sums": lambda h: replace(h, key_sums=h.key_sums[1:]),
        "a key sum's seat": lambda h: replace(h, key_sums=((9, h.key_sums[0][1]), *h.key_sums[1:])),
        "lying": lambda h: replace(h, lying=(3,)),
        "lying and seats": lambda h: replace(h, lying=(3,), seats=(5, *h.seats)),  # a number moved across the border
        "beacon": lambda h: replace(h, beacon=bytes(48)),
        "seats": lambda h: replace(h, seats=h.seats[::-1]),
        "announcements": lambda h: replace(h, announcements=h.announcements[1:]),
        "an announcement's validator": lambda h: with_key(h, validator=9),
        "an announcement's round": lambda h: with_key(h, round=7),
        "an announcement's key": lambda h: with_key(h, seal_key=bytes(32)),
        "an announcement's signature": lambda h: with_key(h, signature=bytes(65)),
    }


@pytest.mark.parametrize("field", changed_headers())
def test_the_headers_digest_binds_every_field(field: str) -> None:
    header = certified_of_a_round().header
    assert changed_headers()[field](header).digest != header.digest


def changed_closes() -> dict[str, Callable[[Close], Close]]:
    return {
        "task": lambda c: replace(c, task=bytes(32)),
        "round": lambda c: replace(c, round=1),
        "terms": lambda c: replace(c, terms=bytes(32)),
        "seats": lambda c: replace(c, seats=c.seats[1:]),
        "reports": lambda c: replace(c, reports=c.reports[::-1]),
        "weights": lambda c: replace(c, weights=(1, 2)),
        "announcements": lambda c: replace(c, announcements=c.announcements[1:]),
    }


@pytest.mark.parametrize("field", changed_closes())
def test_the_closes_digest_binds_all_but_the_receipts(field: str) -> None:
    close = close_of_a_round()
    assert changed_closes()[field](close).digest != close.digest
    assert replace(close, receipts=()).digest == close.digest


def test_an_announcement_is_its_validators_for_one_round_of_one_task() -> None:
    account, epoch_set = committee().accounts[3], committee().epoch_set
    unsigned = Announcement(3, 1, bytes(range(32)), b"")
    good = replace(unsigned, signature=account.sign(unsigned.digest(TASK)))
    check_announcement(TASK, epoch_set, good)
    for wrong in (
        replace(good, validator=4),
        replace(good, validator=SEATS),
        replace(good, validator=-1),
        replace(good, round=2),
        replace(good, seal_key=bytes(32)),
        replace(good, signature=good.signature[:-1] + bytes([1 - good.signature[-1]])),
        replace(good, signature=b""),
    ):
        with pytest.raises(CollegiumError):
            check_announcement(TASK, epoch_set, wrong)
    with pytest.raises(CollegiumError):
        check_announcement(bytes(32), epoch_set, good)


# ------------------------------------------------------------------------------------------------ flips


def flips(data: bytes, seed: int) -> list[bytes]:
    """Return `data` with one bit flipped, at places drawn by the seed."""
    rng = random.Random(seed)
    places = rng.choices(range(len(data)), k=FLIPS)
    return [data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] for at in places]


def test_every_sampled_flip_of_a_closes_bit_is_refused() -> None:
    hall = admitted(2)
    context, state = hall.contexts[3], hall.states[3]
    reports = {held.report.id: held.report for held in state.reports.values()}
    good = encode_payload(close_of_a_round())
    assert payload_accepted(context, state, (), good, hall.now)
    for data in flips(good, seed=29):
        assert not payload_accepted(context, state, (), data, hall.now)
        try:
            close = decode_payload(data)
        except MalformedPayloadError:
            continue
        assert isinstance(close, Close)
        with pytest.raises(CollegiumError):
            _check_all(hall, close, reports)


def _check_all(hall: Hall, close: Close, reports: Mapping[bytes, Report]) -> None:
    context, state = hall.contexts[3], hall.states[3]
    check_close(context.work, state.terms, close, reports, context.cohort_min, context.lying_max)
    check_keys(context, state, close, hall.now)


def certified_is_refused(hall: Hall, data: bytes) -> bool:
    try:
        certified = decode_payload(data)
        assert isinstance(certified, Certified)
        check_certified(hall.contexts[3].work, committee().epoch_set, committee().terms, certified)
    except CollegiumError:
        return True
    return False


@pytest.mark.slow
def test_every_sampled_flip_of_a_certified_headers_bit_is_refused() -> None:
    hall = admitted(2)
    good = encode_payload(certified_of_a_round())
    assert not certified_is_refused(hall, good)
    for data in flips(good, seed=31):
        assert certified_is_refused(hall, data)


def test_a_certified_headers_sealing_keys_cannot_be_dated_otherwise() -> None:
    """A leader may order what others certified; what it carries must be what they certified, to the last number."""
    hall, good = admitted(2), certified_of_a_round()
    for at in range(SEATS):
        keys = list(good.header.announcements)
        keys[at] = replace(keys[at], round=keys[at].round + 1)
        moved = Certified(replace(good.header, announcements=tuple(keys)), good.certificate)
        assert certified_is_refused(hall, encode_payload(moved))
