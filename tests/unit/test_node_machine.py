"""A validator's mailbox and the thread under it: order, bounds, alarms, and an end that loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from collegium.node._machine import Alarm, Leaves, Machine, Mailbox, MailboxLimits, Parcel, Sender


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def taken(mailbox: Mailbox) -> list[tuple[Sender, object]]:
    found = []
    while (item := mailbox.take()) is not None:
        found.append(item)
    return found


def test_each_senders_order_is_kept_and_senders_take_turns() -> None:
    async def work() -> None:
        mailbox = Mailbox()
        for number in range(3):
            await mailbox.put(7, f"a{number}", 1)
        await mailbox.put(None, "upload", 100)
        await mailbox.put(8, "b0", 1)
        assert (len(mailbox), mailbox.size) == (5, 104)
        assert taken(mailbox) == [(7, "a0"), (None, "upload"), (8, "b0"), (7, "a1"), (7, "a2")]
        assert (len(mailbox), mailbox.size) == (0, 0)

    run(work())


@pytest.mark.parametrize("limits", [MailboxLimits(messages_max=2), MailboxLimits(bytes_max=20)])
def test_a_sender_beyond_its_bounds_waits_and_nobody_else_does(limits: MailboxLimits) -> None:
    async def work() -> None:
        mailbox = Mailbox(limits)
        await mailbox.put(1, "first", 10)
        await mailbox.put(1, "second", 10)
        third = asyncio.ensure_future(mailbox.put(1, "third", 10))
        await asyncio.sleep(0)
        assert not third.done()
        await mailbox.put(2, "another's", 10)
        assert mailbox.take() == (1, "first")
        await third
        assert [message for _, message in taken(mailbox)] == ["another's", "second", "third"]

    run(work())


def test_one_message_always_fits_however_large() -> None:
    async def work() -> None:
        mailbox = Mailbox(MailboxLimits(bytes_max=10))
        await mailbox.put(1, "large", 1000)
        following = asyncio.ensure_future(mailbox.put(1, "small", 1))
        await asyncio.sleep(0)
        assert not following.done()
        assert mailbox.take() == (1, "large")
        await following

    run(work())


class Steps:
    """A state machine that leaves behind what a test says."""

    def __init__(self, answer: Callable[[object], list[Leaves]]) -> None:
        self.answer = answer
        self.seen: list[tuple[object, Sender]] = []
        self.sent: list[tuple[int, bytes]] = []

    def step(self, message: object, now_ms: int, sender: Sender) -> list[Leaves]:
        self.seen.append((message, sender))
        return self.answer(message)

    def send(self, to: int, frame: bytes) -> None:
        self.sent.append((to, frame))


def test_what_a_step_leaves_is_sent_said_to_oneself_and_called_in_order() -> None:
    async def work() -> None:
        machine = Machine(3)
        steps = Steps(lambda message: leaves if message == "begin" else [machine.stop])
        leaves: list[Leaves] = [Parcel(b"frame", (0, 1), "to oneself")]
        machine.tell_self("begin")
        await machine.run(steps.step, steps.send)
        assert steps.seen == [("begin", 3), ("to oneself", 3)]
        assert steps.sent == [(0, b"frame"), (1, b"frame")]

    run(work())


def test_alarms_ring_by_time_once_each_and_a_later_one_of_the_same_key_replaces() -> None:
    async def work() -> None:
        now = [0]
        machine = Machine(0, clock=lambda: now[0])
        steps = Steps(lambda message: [machine.stop] if message == "last" else [])
        machine.deliver(
            [
                Alarm("last", 30),
                Alarm("view 1", 10, "view"),
                Alarm("view 2", 20, "view"),
                Alarm("round", 5),
                Alarm("round", 5),
            ]
        )
        now[0] = 30
        await machine.run(steps.step, steps.send)
        assert [message for message, _ in steps.seen] == ["round", "view 2", "last"]

    run(work())


def test_a_step_that_raises_ends_the_machine_and_nothing_of_it_leaves() -> None:
    def fail(message: object) -> list[Leaves]:
        raise OSError("no space left on device")

    async def work() -> None:
        machine, steps = Machine(0), Steps(fail)
        machine.tell_self("write")
        with pytest.raises(OSError, match="no space left"):
            await machine.run(steps.step, steps.send)
        assert steps.sent == []

    run(work())
