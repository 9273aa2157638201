"""The in-process network: one order of events whatever the machine does, and a second clock that changes nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import pytest

from collegium.errors import CollegiumError
from collegium.node import Network, SharedWork, StalledError
from collegium.node._network import Delivery, Outgoing

LINK_MS = 50


class RefusedError(CollegiumError):
    """What a computation of these tests refuses with."""


class Thing:
    """What a computation looks at."""


@dataclass
class Listener:
    """Notes what it hears and answers as told."""

    answer: Callable[[object, int], Iterable[Outgoing]] = lambda _message, _now: ()
    heard: list[tuple[int, object]] = field(default_factory=list)
    senders: list[int | None] = field(default_factory=list)

    def handle(self, message: object, now_ms: int, sender: int | None) -> Iterable[Outgoing]:
        self.heard.append((now_ms, message))
        self.senders.append(sender)
        return self.answer(message, now_ms)


def network(*listeners: Listener) -> Network:
    made = Network(SharedWork(), LINK_MS)
    for index, listener in enumerate(listeners):
        made.join(index, listener)
    return made


def drain(net: Network, limit_ms: int = 10_000) -> list[Delivery]:
    """Deliver everything and return it."""
    seen: list[Delivery] = []

    def note(delivery: Delivery) -> bool:
        seen.append(delivery)
        return False

    with pytest.raises(StalledError):
        net.run(note, limit_ms)
    return seen


def test_a_broadcast_takes_one_link_to_others_and_none_to_oneself() -> None:
    net = network(Listener(), Listener(), Listener())
    net.send(1, [Outgoing("hello")])
    assert sorted((d.modelled_ms, d.participant) for d in drain(net)) == [(0, 1), (LINK_MS, 0), (LINK_MS, 2)]
    assert net.messages == 2  # to oneself is no message


def test_a_message_to_one_reaches_that_one_and_one_to_nobody_is_lost() -> None:
    one, two = Listener(), Listener()
    net = network(one, two)
    net.send(0, [Outgoing("to 1", to=1), Outgoing("to 7", to=7)])
    drain(net)
    assert (one.heard, two.heard) == ([], [(LINK_MS, "to 1")])


def test_a_receiver_is_told_which_validator_sent_a_message_and_none_for_others() -> None:
    one, two = Listener(), Listener()
    net = network(one, two)
    net.send(0, [Outgoing("hello"), Outgoing("ring", at_ms=5)])
    net.post(1, "upload", 60, 60.0)
    drain(net)
    assert (one.senders, two.senders) == ([0, 0], [0, None])


def test_a_timer_rings_at_its_time_and_at_once_when_that_is_past() -> None:
    listener = Listener(lambda message, _: [Outgoing("late", at_ms=5)] if message == "on time" else ())
    net = network(listener)
    net.send(0, [Outgoing("on time", at_ms=300)])
    drain(net)
    assert listener.heard == [(300, "on time"), (300, "late")]


def test_events_of_one_moment_come_in_the_order_in_which_they_were_sent() -> None:
    listener = Listener()
    net = network(listener)
    for number in range(20):
        net.post(0, number, at_ms=10 if number % 2 else 5, measured_ms=float(-number))
    drain(net)
    assert [message for _, message in listener.heard] == [*range(0, 20, 2), *range(1, 20, 2)]


def test_a_run_stops_where_it_is_told_and_goes_on_from_there() -> None:
    listener = Listener()
    net = network(listener)
    for at_ms in (1, 2, 3):
        net.post(0, at_ms, at_ms, 0.0)
    net.run(lambda delivery: delivery.message == 2, 10)
    assert [message for _, message in listener.heard] == [1, 2]
    net.run(lambda delivery: delivery.message == 3, 10)
    assert net.now_ms == 3


def test_silence_and_endless_talk_both_stall() -> None:
    with pytest.raises(StalledError, match="no event left at 0 ms"):
        network(Listener()).run(lambda _: False, 10)
    chatter = network(Listener(lambda message, now: [Outgoing(message, at_ms=now + 10)]))
    chatter.send(0, [Outgoing("tick", at_ms=10)])
    with pytest.raises(StalledError, match="nothing final after 100 ms"):
        chatter.run(lambda _: False, 100)
    assert chatter.now_ms == 100


def test_what_computing_takes_moves_the_measured_clock_alone() -> None:
    """Two histories, one on a machine that is slower by a second a step: same order, other measured times."""

    def history(charge_ms: float) -> tuple[list[tuple[int, object]], float]:
        work = SharedWork()
        net = Network(work, LINK_MS)

        def answer(message: object, _: int) -> Iterable[Outgoing]:
            work.charged_ms += charge_ms
            return [Outgoing(f"re: {message}")] if message == "hello" else ()

        listeners = [Listener(answer) for _ in range(3)]
        for index, listener in enumerate(listeners):
            net.join(index, listener)
        net.send(0, [Outgoing("hello")])
        drain(net)
        return [entry for listener in listeners for entry in listener.heard], net.measured_ms

    (fast, fast_ms), (slow, slow_ms) = history(0.0), history(1000.0)
    assert fast == slow
    assert fast_ms < 1000 < slow_ms


def test_each_participant_is_charged_once_for_what_it_asks_for_twice() -> None:
    work = SharedWork()
    net = Network(work, LINK_MS)
    done, charged = list[int](), list[float]()

    def answer(_message: object, _now: int) -> Iterable[Outgoing]:
        work.once("sum", lambda: done.append(1))
        charged.append(work.charged_ms)
        return ()

    for index in range(2):
        net.join(index, Listener(answer))
    work.put("sum", None, None, 100.0)
    for to in (0, 0, 1, 1, 0):
        net.post(to, "add", 0, 0.0)
    drain(net)
    assert charged == [100.0, 0.0, 100.0, 0.0, 0.0]
    work.forget()
    net.post(1, "add", net.now_ms, 0.0)
    drain(net)
    assert done == [1], "what is forgotten is done again"


def test_a_validator_is_one_machine_and_others_are_others() -> None:
    work = SharedWork()
    net = Network(work, LINK_MS)

    def answer(_message: object, _now: int) -> Iterable[Outgoing]:
        work.charged_ms += 100.0
        return ()

    net.join(0, Listener(answer))
    net.join(1, Listener(answer))
    for to in (0, 0, 1):
        net.post(to, "work", 0, 0.0)
    ended = [(d.participant, round(d.measured_ms, -2)) for d in drain(net)]
    assert ended == [(0, 100), (0, 200), (1, 100)]
    assert round(net.compute_ms, -2) == 300


def test_shared_work_is_done_once_and_charged_to_each() -> None:
    work, calls = SharedWork(), []

    def compute() -> str:
        calls.append(1)
        return "result"

    assert work.once("key", compute) == "result"
    assert work.charged_ms == 0  # the first caller's time runs anyway
    charged = []
    for _ in range(2):
        assert work.once("key", compute) == "result"
        charged.append(work.charged_ms)
    assert calls == [1]
    assert charged[1] == 2 * charged[0] > 0


def test_another_key_is_other_work_and_forgotten_work_is_done_again() -> None:
    work, calls = SharedWork(), []
    for key in ("a", "b", "a"):
        work.once(key, lambda: calls.append(1))
    work.forget()
    work.once("a", lambda: calls.append(1))
    assert len(calls) == 3


def test_a_refusal_is_shared_and_charged_like_a_result() -> None:
    work, calls = SharedWork(), []

    def refuse() -> None:
        calls.append(1)
        raise RefusedError("no")

    for _ in range(3):
        with pytest.raises(RefusedError, match="no"):
            work.once("key", refuse)
    assert calls == [1]
    assert work.charged_ms > 0


def test_our_own_bug_is_not_kept_as_a_result() -> None:
    work = SharedWork()
    with pytest.raises(ZeroDivisionError):
        work.once("key", lambda: 1 // 0)
    assert work.once("key", lambda: 1) == 1


def test_work_inside_work_is_charged_to_the_later_caller_in_full() -> None:
    work = SharedWork()
    work.results["inner"] = ("inner", None, 7.0)
    work.once("outer", lambda: work.once("inner", lambda: "never"))
    assert work.charged_ms == 7.0
    work.once("outer", lambda: "never")
    assert work.charged_ms >= 14.0


def test_a_kept_refusal_holds_nothing_of_what_was_looked_at() -> None:
    """Neither the frames that it came from nor those of the callers that it is raised to."""
    work, kept = SharedWork(), list[weakref.ref[Thing]]()

    def refuse() -> None:
        thing = Thing()
        kept.append(weakref.ref(thing))
        try:
            raise ValueError(thing)
        except ValueError as error:
            raise RefusedError("no", number=7) from error

    for _ in range(3):
        thing = Thing()
        kept.append(weakref.ref(thing))
        with pytest.raises(RefusedError, match="no") as caught:
            work.once("key", refuse)
        assert caught.value.values == {"number": 7}
        del caught, thing
    gc.collect()
    assert len(kept) == 4
    assert [ref() for ref in kept] == [None] * 4


def test_shared_work_is_bounded_in_bytes_and_drops_the_oldest_first() -> None:
    work, calls = SharedWork(bytes_max=3_000), list[str]()

    def compute(name: str) -> bytes:
        calls.append(name)
        return bytes(1_000)

    for name in ("a", "b", "c", "a", "c"):
        work.once(name, partial(compute, name))
    assert calls == ["a", "b", "c", "a"], "b and c leave room for no third one"
    assert work.held_bytes <= work.bytes_max
    assert work.once("huge", lambda: bytes(9_000)) == bytes(9_000), "given, not kept"
    assert (work.results, work.held_bytes) == ({}, 0)


def test_forgotten_work_takes_no_room() -> None:
    work = SharedWork()
    for name in ("a", "b"):
        work.once(name, lambda: bytes(1_000))
    work.forget(lambda key: key == "b")
    assert set(work.results) == {"b"}
    assert 1_000 < work.held_bytes < 2_000
    work.forget()
    assert work.held_bytes == 0
