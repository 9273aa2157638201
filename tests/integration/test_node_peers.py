"""Validators' connections over real sockets on loopback: among honest ones, and with one that has no manners.

Validator 0 and 1 are honest and talk to each other throughout; number 2, where it appears, is an intruder with a valid
certificate. No time is asserted: time limits are short where they shall strike, and conditions are waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from _peers_stage import GARBAGE, TASK, End, Intruder, Stage, members, stage, until

from collegium.node._peer_frames import CHUNK_BYTES, encode_hello, encode_ping
from collegium.node._peers import PeerAddressError, PeerLimits, Peers
from collegium.node._tls import Identity, Role, TlsFiles, peer_tls

# The higher index leaves all dialling to the lower one, so that no connection replaces another in the middle of a test.
SMALL = PeerLimits(dial_grace_ms=3_600_000, ban_first_ms=50, ban_max_ms=100, dial_first_ms=10, dial_max_ms=50)
LARGE = 3 * CHUNK_BYTES + 5


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Play a scene in a loop of its own."""

    async def whole() -> None:
        await scene()

    asyncio.run(whole())


# ----------------------------------------------------------------------------------------------------- among the honest


def test_frames_of_every_size_arrive_whole_and_in_order() -> None:
    async def scene() -> None:
        async with stage(3, SMALL) as here:
            ends = [await here.begin(index) for index in range(3)]
            await here.connected(*ends)
            sizes = [1, 150, 8_192, 8_193, CHUNK_BYTES, CHUNK_BYTES + 1, LARGE]
            sent = [bytes((number,)) * size for number, size in enumerate(sizes * 3)]
            for end in ends:
                for other in range(3):
                    if other != end.peers.index:
                        assert all(end.peers.send(other, frame) for frame in sent)
            await until(lambda: all(len(end.received) == 2 * len(sent) for end in ends))
            small = [frame for frame in sent if len(frame) <= 8_192]
            large = [frame for frame in sent if len(frame) > 8_192]
            for end in ends:
                for other in {0, 1, 2} - {end.peers.index}:
                    came = end.frames_of(other)
                    assert [frame for frame in came if len(frame) <= 8_192] == small
                    assert [frame for frame in came if len(frame) > 8_192] == large
                    counters = end.peers.counters[other]
                    assert counters.frames_in == counters.frames_out == len(sent)
                    assert counters.bytes_in > sum(map(len, sent)) < counters.bytes_out
                    assert (counters.dropped_full, counters.dropped_absent, counters.cut_offs) == (0, 0, {})

    play(scene)


def test_everybody_dials_at_once_and_one_connection_stays() -> None:
    async def scene() -> None:
        async with stage(4, replace(SMALL, dial_grace_ms=0)) as here:
            ends = [await here.begin(index) for index in range(4)]
            await here.connected(*ends)

            def everybody_hears_everybody() -> bool:
                for end in ends:
                    for other in end.peers.connected():  # again: a connection may have given way to another meanwhile
                        end.peers.send(other, b"here")
                return all(len({sender for sender, _ in end.received}) == 3 for end in ends)

            await until(everybody_hears_everybody)
            await here.connected(*ends)
            for end in ends:
                assert all(not counters.cut_offs for counters in end.peers.counters.values())

    play(scene)


def test_a_small_frame_overtakes_a_large_one() -> None:
    async def scene() -> None:
        async with stage(2, replace(SMALL, limit_of=lambda kind: 1 << 26)) as here:
            sender, receiver = [await here.begin(index) for index in range(2)]
            await here.connected(sender, receiver)
            assert sender.peers.send(1, b"L" * (1 << 25))
            assert sender.peers.send(1, b"small")
            await until(lambda: len(receiver.received) == 2)
            assert [len(frame) for _, frame in receiver.received] == [5, 1 << 25]

    play(scene)


def test_a_frame_for_somebody_absent_is_refused_and_counted() -> None:
    async def scene() -> None:
        async with stage(2, SMALL) as here:
            end = await here.begin(0)
            assert not end.peers.send(1, b"nobody")
            assert not end.peers.send(0, b"myself")
            assert not end.peers.send(7, b"unknown")
            assert end.peers.counters[1].dropped_absent == 1
            other = await here.begin(1)
            await here.connected(end, other)
            assert not end.peers.send(1, b"")
            assert end.peers.send(1, b"somebody")
            await until(lambda: other.received == [(0, b"somebody")])

    play(scene)


@pytest.mark.slow
def test_a_full_mailbox_stops_reading_and_the_sender_is_told() -> None:
    limits = replace(SMALL, again_ms=0, inbox_count_max=4, large_count_max=8)

    async def scene() -> None:
        async with stage(2, limits) as here:
            sender, receiver = [await here.begin(index) for index in range(2)]
            await here.connected(sender, receiver)
            joins = sender.joined.count(1)
            receiver.open.clear()
            taken = 0
            while sender.peers.counters[1].dropped_full < 3:  # until nothing more fits anywhere
                taken += sender.peers.send(1, taken.to_bytes(4) * 250_000)
                await asyncio.sleep(0.01)
            assert taken < 100
            assert receiver.received == []
            assert receiver.peers.counters[0].frames_in < taken
            receiver.open.set()
            await until(lambda: len(receiver.received) == taken)
            assert [int.from_bytes(frame[:4]) for _, frame in receiver.received] == list(range(taken))
            # Once there is room, whoever was refused is told, as after a reconnection.
            await until(lambda: sender.joined.count(1) > joins)
            assert receiver.peers.counters[0].closed == {}

    play(scene)


def test_somebody_who_comes_back_is_announced_before_its_frames() -> None:
    async def scene() -> None:
        async with stage(2, SMALL) as here:
            steady, leaving = [await here.begin(index) for index in range(2)]
            await here.connected(steady, leaving)
            await leaving.peers.stop()
            await until(lambda: steady.peers.connected() == frozenset())
            assert sum(steady.closed(1).values()) >= 1
            back = await here.begin(1)
            await here.connected(steady, back)
            assert back.peers.send(0, b"again")
            await until(lambda: steady.received == [(1, b"again")])
            assert len(steady.joined) >= 2

    play(scene)


def test_a_process_that_starts_again_replaces_its_former_self_at_once() -> None:
    async def scene() -> None:
        async with stage(2, SMALL) as here:
            steady = await here.begin(1)
            former = await here.intrude(1, members().validator(0))  # alive for all that anybody knows
            await until(lambda: steady.peers.connected() == {0})
            now = await here.begin(0)
            await until(lambda: now.peers.connected() == {1})
            await former.closed()
            assert steady.closed(0) == {"replaced": 1}
            assert steady.joined == [0, 0]
            assert now.peers.send(1, b"me")
            assert steady.peers.send(0, b"you")
            await until(lambda: steady.received == [(0, b"me")] and now.received == [(1, b"you")])

    play(scene)


@pytest.mark.slow
def test_silence_is_broken_by_a_ping_and_a_peer_without_one_is_taken_for_dead() -> None:
    limits = replace(SMALL, ping_ms=50, idle_ms=1_500)

    async def scene() -> None:
        async with stage(3, limits) as here:
            ends = [await here.begin(index) for index in range(2)]
            await here.connected(*ends)
            await until(lambda: all(end.peers.connected() >= {1 - end.peers.index} for end in ends))
            before = [list(end.joined) for end in ends]
            mute = await here.intrude(0, members().validator(2))
            await mute.closed()
            assert ends[0].closed(2) == {"silent": 1}
            assert ends[0].peers.counters[2].cut_offs == {}
            assert ends[0].joined == [*before[0], 2]
            assert ends[1].joined == before[1]

    play(scene)


def test_a_delayed_link_keeps_the_order_and_loses_nothing() -> None:
    async def scene() -> None:
        async with stage(3, SMALL) as here:
            sender = await here.begin(0)
            later = await here.begin(1, replace(SMALL, delay_ms=50))
            much_later = await here.begin(2, replace(SMALL, delay_ms=3_600_000))
            await until(lambda: sender.peers.connected() == {1, 2})
            sent = [number.to_bytes(4) for number in range(3_000)]
            assert all(sender.peers.send(to, frame) for frame in sent for to in (1, 2))
            await until(lambda: later.frames_of(0) == sent)
            await until(lambda: much_later.peers.counters[0].frames_in == len(sent))
            assert much_later.received == []

    play(scene)


def test_stop_leaves_nothing_behind_and_is_heard() -> None:
    async def scene() -> None:
        async with stage(3, SMALL) as here:
            first, second = [await here.begin(index) for index in range(2)]
            await here.connected(first, second)
            second.open.clear()  # somebody is in the middle of `on_frame`
            assert first.peers.send(1, b"last words")
            await until(lambda: second.peers.counters[0].frames_in == 1)
            await second.peers.stop()
            assert second.peers.connected() == frozenset()
            assert not second.peers.send(0, b"gone")
            await until(lambda: first.peers.connected() == frozenset())

    play(scene)


def test_stop_in_the_middle_of_handshakes_loses_no_socket() -> None:
    async def scene(turns: int) -> None:
        async with stage(2, SMALL) as here:
            ends = [await here.begin(index) for index in range(2)]
            callers = [asyncio.open_connection(*here.addresses[index % 2]) for index in range(6)]
            calling = asyncio.gather(*callers, return_exceptions=True)
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.gather(*(end.peers.stop() for end in ends))
            here.others += [found[1] for found in await calling if isinstance(found, tuple)]

    for turns in range(0, 24, 3):
        play(partial(scene, turns))


def test_an_address_that_cannot_be_listened_on_is_named() -> None:
    async def scene() -> None:
        tls = peer_tls(members().validator(0), TASK)

        async def ignore(sender: int, frame: bytes) -> None:
            pass

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            peers = Peers(0, {0: taken.getsockname()}, tls, ignore, lambda _: None)
            with pytest.raises(PeerAddressError):
                await peers.start()
            await peers.stop()
        with pytest.raises(PeerAddressError):
            Peers(1, {0: ("127.0.0.1", 0)}, tls, ignore, lambda _: None)

    play(scene)


# ------------------------------------------------------------------------------------------------ one without manners


@contextlib.asynccontextmanager
async def conversation(limits: PeerLimits) -> AsyncIterator[tuple[Stage, End, End]]:
    """Two honest validators that answer each other's frames all the while."""
    async with stage(3, limits) as here:
        ends = [await here.begin(index) for index in range(2)]
        await here.connected(*ends)
        talking = asyncio.ensure_future(talk(*ends))
        try:
            yield here, ends[0], ends[1]
            said = [len(end.frames_of(1 - end.peers.index)) for end in ends]
            await until(
                lambda: all(len(end.frames_of(1 - end.peers.index)) > n + 5 for end, n in zip(ends, said, strict=True))
            )
            assert all(end.closed(1 - end.peers.index).keys() <= {"duplicate", "replaced"} for end in ends)
            assert not any(end.peers.counters[1 - end.peers.index].cut_offs for end in ends)
        finally:
            talking.cancel()
            await asyncio.wait([talking])


async def talk(first: End, second: End) -> None:
    """Exchange a small and a large frame again and again."""
    turn = 0
    while True:
        turn += 1
        for end in (first, second):
            end.peers.send(1 - end.peers.index, turn.to_bytes(4))
            end.peers.send(1 - end.peers.index, turn.to_bytes(4) * 20_000)
        await asyncio.sleep(0.02)


async def garbage(intruder: Intruder) -> None:
    intruder.write(b"\x00\x00\x00\x05\x07what")


async def http(intruder: Intruder) -> None:
    intruder.write(b"GET / HTTP/1.1\r\n\r\n")


async def two_gigabytes(intruder: Intruder) -> None:
    intruder.write((2_000_000_000).to_bytes(4) + b"\x02")


async def two_gigabytes_in_chunks(intruder: Intruder) -> None:
    intruder.write((5 + CHUNK_BYTES).to_bytes(4) + b"\x03" + (2_000_000_000).to_bytes(4) + b"\x01")


async def unknown_kind(intruder: Intruder) -> None:
    intruder.write((3).to_bytes(4) + b"\x02" + b"\x99?")


async def refused_by_the_decoder(intruder: Intruder) -> None:
    intruder.write((3).to_bytes(4) + b"\x02" + GARBAGE + b"?")


async def stall(intruder: Intruder) -> None:
    intruder.write((1_000).to_bytes(4) + b"\x02" + b"and then")


async def drip(intruder: Intruder) -> None:
    intruder.write((5 + CHUNK_BYTES).to_bytes(4) + b"\x03" + (1_000_000).to_bytes(4))
    with contextlib.suppress(OSError):
        while not intruder.reader.at_eof():
            intruder.write(b"\x01")
            await intruder.writer.drain()
            await asyncio.sleep(0.01)


async def flood(intruder: Intruder) -> None:
    with contextlib.suppress(OSError):
        while not intruder.reader.at_eof():
            intruder.write(encode_ping() * 2_000)
            await intruder.writer.drain()


async def second_hello(intruder: Intruder) -> None:
    intruder.write(encode_hello(bytes(16)))


ATTACKS: dict[str, tuple[Callable[[Intruder], Awaitable[None]], str]] = {
    "garbage": (garbage, "garbage"),
    "HTTP": (http, "too long"),
    "2 GB": (two_gigabytes, "too long"),
    "2 GB in chunks": (two_gigabytes_in_chunks, "too long"),
    "unknown kind": (unknown_kind, "too long"),
    "refused": (refused_by_the_decoder, "refused"),
    "stall": (stall, "stalled"),
    "drip": (drip, "slow"),
    "flood": (flood, "flood"),
    "second hello": (second_hello, "garbage"),
}
IMPATIENT = replace(
    SMALL,
    limit_of=lambda kind: 0 if kind == 0x99 else 1 << 20,
    gap_ms=1_000,
    flood_ms=500,
    messages_rate_max=5_000,
    messages_burst=20_000,
    frame_rate_min=20_000,
)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_peer_without_manners_is_cut_off_by_name(attack: str, caplog: pytest.LogCaptureFixture) -> None:
    act, reason = ATTACKS[attack]

    async def scene() -> None:
        async with conversation(IMPATIENT) as (here, victim, _):
            intruder = await here.intrude(0, members().validator(2))
            acting = asyncio.ensure_future(act(intruder))
            await until(lambda: victim.peers.counters[2].cut_offs != {})
            await intruder.closed()
            acting.cancel()
            await asyncio.wait([acting])
            assert victim.peers.counters[2].cut_offs == {reason: 1}
            assert 2 not in victim.peers.connected()

    with caplog.at_level(logging.WARNING, "collegium.node.peers"):
        play(scene)
    said = [record for record in caplog.records if "validator 2 cut off" in record.getMessage()]
    assert len(said) == 1
    assert f"cut off: {reason}" in said[0].getMessage()
    assert all(record.exc_info is None for record in caplog.records)


def test_a_peer_that_was_cut_off_is_turned_away_at_first_and_let_in_later() -> None:
    limits = replace(SMALL, ban_first_ms=3_600_000, ban_max_ms=3_600_000)

    async def scene(limits: PeerLimits, later: bool) -> None:
        async with stage(3, limits) as here:
            victim = await here.begin(0)
            intruder = await here.intrude(0, members().validator(2))
            await garbage(intruder)
            await intruder.closed()
            if later:
                while 2 not in victim.peers.connected():  # comes again and again, until its time is over
                    again = await here.intrude(0, members().validator(2))
                    await asyncio.sleep(0.02)
                again.write((3).to_bytes(4) + b"\x02hi")
                await until(lambda: victim.frames_of(2) == [b"hi"])
            else:
                again = await here.intrude(0, members().validator(2))
                await again.closed()
                assert victim.peers.counters[2].turned_away == 1
                assert victim.peers.connected() == frozenset()

    play(lambda: scene(limits, later=False))
    play(lambda: scene(replace(SMALL, connections_burst=1_000), later=True))


@pytest.mark.slow
def test_a_hundred_connections_of_one_member_are_too_many() -> None:
    async def scene() -> None:
        async with conversation(replace(SMALL, connections_burst=10, ban_first_ms=60_000, ban_max_ms=60_000)) as (
            here,
            victim,
            _,
        ):
            intruders = await asyncio.gather(
                *(here.intrude(0, members().validator(2)) for _ in range(100)), return_exceptions=True
            )
            for intruder in intruders:
                if isinstance(intruder, Intruder):
                    await intruder.closed()
            counters = victim.peers.counters[2]
            assert counters.cut_offs == {"connections": 1}
            assert counters.turned_away >= 80
            assert 2 not in victim.peers.connected()

    play(scene)


@pytest.mark.slow
def test_somebody_who_never_says_hello_is_cut_off_and_somebody_who_never_shakes_hands_is_dropped() -> None:
    async def scene() -> None:
        async with conversation(replace(SMALL, handshake_ms=4_000)) as (here, victim, _):
            mute = await here.intrude(0, members().validator(2), hello=False)
            reader, writer = await asyncio.open_connection(*here.addresses[0])  # no TLS, no name
            here.others.append(writer)
            await mute.closed()
            await Intruder(reader, writer).closed()
            assert victim.peers.counters[2].cut_offs == {"no hello": 1}
            assert victim.peers.refused["no handshake"] == 1

    play(scene)


def test_strangers_who_shake_no_hands_crowd_out_only_each_other() -> None:
    async def scene() -> None:
        async with stage(2, replace(SMALL, handshakes_max=8, handshake_ms=60_000)) as here:
            victim = await here.begin(0)
            crowd = [await asyncio.open_connection(*here.addresses[0]) for _ in range(50)]
            here.others += [writer for _, writer in crowd]
            await until(lambda: victim.peers.refused["crowded out"] >= 42)
            late = await here.begin(1)
            await here.connected(victim, late)

    play(scene)


def test_a_connection_that_is_half_closed_is_closed() -> None:
    async def scene() -> None:
        async with conversation(SMALL) as (here, victim, _):
            intruder = await here.intrude(0, members().validator(2))
            await until(lambda: 2 in victim.peers.connected())
            raw = intruder.writer.get_extra_info("socket")
            raw.shutdown(socket.SHUT_WR)
            await intruder.closed()
            await until(lambda: 2 not in victim.peers.connected())
            assert sum(victim.closed(2).values()) == 1

    play(scene)


@pytest.mark.slow
def test_somebody_who_reads_nothing_is_given_up() -> None:
    limits = replace(SMALL, unread_ms=1_000, limit_of=lambda kind: 1 << 26)

    async def scene() -> None:
        async with conversation(limits) as (here, victim, _):
            intruder = await here.intrude(0, members().validator(2))
            intruder.writer.transport.pause_reading()
            await until(lambda: 2 in victim.peers.connected())
            assert victim.peers.send(2, bytes(1 << 25))
            await until(lambda: victim.closed(2) == {"unread": 1})
            assert victim.peers.queued(2) == (0, 0)

    play(scene)


def test_a_peer_that_is_cut_off_by_hand_is_kept_away() -> None:
    async def scene() -> None:
        async with conversation(SMALL) as (here, victim, _):
            intruder = await here.intrude(0, members().validator(2))
            await until(lambda: 2 in victim.peers.connected())
            victim.peers.cut_off(2, "its vote contradicts itself")
            await intruder.closed()
            assert victim.peers.counters[2].cut_offs == {"refused": 1}
            victim.peers.cut_off(2, "is gone already")
            victim.peers.cut_off(9, "never was")

    play(scene)


# ----------------------------------------------------------------------------------------------------- not a member


def _trainer() -> TlsFiles:
    return members().files("trainer", Identity(TASK, Role.TRAINER, bytes(20)))


def _unknown() -> TlsFiles:
    return members().validator(77)


def _stranger() -> TlsFiles:
    return members().files("stranger", Identity(TASK, Role.VALIDATOR, 2), members().stranger)


@pytest.mark.parametrize(
    ("files", "reason"), [(_trainer, "identity"), (_unknown, "identity"), (_stranger, "certificate")]
)
def test_nobody_else_is_let_in(files: Callable[[], TlsFiles], reason: str) -> None:
    async def scene() -> None:
        async with conversation(SMALL) as (here, victim, _):
            intruder = await here.intrude(0, files())
            await intruder.closed()
            await until(lambda: victim.peers.refused[reason] == 1)
            assert victim.peers.connected() <= {1}
            assert victim.peers.counters[2].joins == 0

    play(scene)


@pytest.mark.parametrize(("version", "reason"), [("TLSv1_2", "version"), ("TLSv1_3", "no certificate")])
def test_neither_an_old_version_nor_a_missing_certificate_is_let_in(version: str, reason: str) -> None:
    async def scene() -> None:
        async with conversation(SMALL) as (here, victim, _):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.maximum_version = ssl.TLSVersion[version]
            context.load_verify_locations(members().validator(0).authority)
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*here.addresses[0], ssl=context)
                here.others.append(writer)
                await Intruder(reader, writer).closed()
            await until(lambda: victim.peers.refused[reason] == 1)

    play(scene)


def test_an_address_where_somebody_else_answers_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with stage(3, SMALL) as here:
            here.addresses[2] = here.addresses[1]  # somebody has led number 2's address to number 1
            caller = await here.begin(0)
            await here.begin(1)
            await until(lambda: 1 in caller.peers.connected())
            await until(lambda: caller.peers.refused["identity"] >= 1)
            assert 2 not in caller.peers.connected()

    with caplog.at_level(logging.WARNING, "collegium.node.peers"):
        play(scene)
    assert any("found validator 1, expected validator 2" in record.getMessage() for record in caplog.records)
