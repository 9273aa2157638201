"""What a contract answers that is not ours, at an address that a stranger names: an error by name, and no more work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from eth_abi.abi import encode

from collegium.settlement import (
    ChainAnswerError,
    Conviction,
    Deployment,
    MoneySite,
    Receipt,
    Role,
    SlashingSite,
    attach_dissections,
    contract,
    read_licence,
    read_member,
    read_task,
)
from collegium.settlement._chain import Log
from collegium.settlement._slashing import conviction_in

AT, ZERO = bytes([7]) * 20, bytes(32)
DEPLOYMENT = Deployment(ZERO, AT, AT, 0)
SITE = MoneySite(AT, AT, AT, AT)


class Answering:
    """A chain on which every contract answers what it is told to, by the name of the function."""

    def __init__(self, **answers: bytes) -> None:
        names = ("Registry", "Licences", "Tasks", "Dissections", "Slashing")
        functions = [member for name in names for member in contract(name).functions.values()]
        self._answers = {member.hash[:4]: answers[member.name] for member in functions if member.name in answers}

    def call(self, sender: bytes, to: bytes, data: bytes, value: int = 0, block: int | None = None) -> bytes:
        return self._answers[data[:4]]


def chain(**answers: bytes) -> Any:
    return Answering(**answers)


def member(role: int) -> bytes:
    return encode(["(address,uint96,address,uint48,uint48,uint8,bytes32)"], [(AT, 1, AT, 0, 0, role, ZERO)])


def licence(country: bytes) -> dict[str, bytes]:
    return {
        "licence": encode(["(bytes32,bytes32,bytes2,uint16,uint48,uint48)"], [(ZERO, ZERO, country, 0, 0, 0)]),
        "shares": encode(["(address,uint16)[]"], [[]]),
        "ownerOf": encode(["address"], [AT]),
    }


def task(level: int) -> bytes:
    terms = (ZERO, ZERO, ZERO, AT, 1, 2, 3, 4, 5, level)
    words = "(bytes32,bytes32,bytes32,address,uint96,uint48,uint32,uint16,uint16,uint8)"
    return encode([f"({words},address,uint48)"], [(terms, AT, 0)])


def test_numbers_that_ours_can_answer_are_read() -> None:
    assert read_member(chain(member=member(2)), DEPLOYMENT, 0).role is Role.STEWARD
    assert read_licence(chain(**licence(b"DE")), SITE, 1).jurisdiction == "DE"
    assert read_task(chain(task=task(3)), SITE, DEPLOYMENT).terms.level == "proved"


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: read_member(chain(member=member(3)), DEPLOYMENT, 0), "3 is no Role"),
        (lambda: read_licence(chain(**licence(b"\xff\xfe")), SITE, 1), "expected two capital letters"),
        (lambda: read_licence(chain(**licence(b"de")), SITE, 1), "expected two capital letters"),
        (lambda: read_task(chain(task=task(4)), SITE, DEPLOYMENT), "level 4, expected 0 to 3"),
        (lambda: conviction(6), "offence 6, expected 0 to 5"),
    ],
    ids=["role", "no letters", "small letters", "level", "offence"],
)
def test_numbers_that_ours_cannot_answer_are_refused_by_name(read: Callable[[], object], message: str) -> None:
    with pytest.raises(ChainAnswerError, match=message):
        read()


def conviction(offence: int) -> Conviction:
    words = [contract("Slashing").topic("Convicted"), ZERO, offence.to_bytes(32, "big"), ZERO]
    slashed = [contract("Registry").topic("Slashed"), ZERO, ZERO]
    logs = (Log(AT, tuple(words), encode(["address"], [AT])), Log(AT, tuple(slashed), encode(["uint256"] * 2, [1, 2])))
    receipt = Receipt(ZERO, 1, True, 1, None, logs)
    return conviction_in(chain(registry=encode(["address"], [AT])), SlashingSite(AT, AT, AT, AT), receipt)


def test_a_conviction_is_read() -> None:
    assert conviction(5).offence == "withheld data"


def test_an_answer_in_which_a_thousand_kinds_name_one_place_is_not_decoded() -> None:
    """Each of them would become a copy: of a few megabytes of output, many gigabytes."""
    count, size = 1000, 1 << 16
    head = b"".join(number.to_bytes(32, "big") for number in (32, count, *[32 * count] * count))
    kind = b"".join(number.to_bytes(32, "big") for number in (0, 96, 1, size)) + bytes(size)
    answers = {"machine": encode(["address"], [AT]), "kinds": head + kind}
    with pytest.raises(ChainAnswerError, match=r"Dissections\.kinds answers \d+ bytes, expected at most 65536"):
        attach_dissections(chain(**answers), AT, 0)
