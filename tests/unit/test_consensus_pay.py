"""What headers say of earnings: everybody computes the same, and a header with anything else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from _round_stage import Hall, admitted, committee, proposed_as

from collegium.consensus import (
    Certified,
    HeaderProposal,
    HeaderVote,
    Outcome,
    PaidRefusedError,
    ProposalRefusedError,
    Release,
    check_paid,
    encode_payload,
    paid_after,
    paid_by,
    rewards_of,
)
from collegium.consensus._round import payload_accepted
from collegium.crypto import Digest


class WeiForEach:
    """A task of three trainers that pays a wei for each report, from round 0 on."""

    def first(self) -> bytes:
        return bytes(48)

    def after(self, round_number: int, paid: bytes, added: Sequence[bytes], before: bytes, after: bytes) -> bytes:
        trainers = [trainer.address for trainer in committee().trainers[:3]]
        amounts = [int.from_bytes(paid[16 * i : 16 * i + 16], "little") for i in range(3)]
        return b"".join((a + (t in added)).to_bytes(16, "little") for t, a in zip(trainers, amounts, strict=True))

    def digest(self, paid: bytes) -> Digest:
        return sha256(b"earned" + paid).digest()


PAY = WeiForEach()
ONE_EACH = (1).to_bytes(16, "little") * 3


def paying() -> Hall:
    """A hall of a task that pays, whose round is ready to be closed."""
    hall = admitted(3)
    hall.contexts = {i: replace(context, pay=PAY) for i, context in hall.contexts.items()}
    return hall


def proposal_of(hall: Hall) -> HeaderProposal:
    """Close the round and return the proposal, which nobody has heard; nobody has voted early."""
    proposals = []

    def hold_back(sender: int, to: int, message: Any) -> Any:
        if isinstance(message, HeaderProposal):
            proposals.append(message)
            return None
        return None if isinstance(message, Release) and sender == max(hall.states) and to else message

    hall.finalise(hall.close())
    hall.spread(hold_back)
    return proposals[0]


def test_a_header_says_what_all_have_earned_and_the_next_round_begins_with_it() -> None:
    hall = paying()
    hall.finalise(hall.close())
    certified = hall.spread().certified()
    assert (certified.header.paid, certified.header.rewards) == (ONE_EACH, PAY.digest(ONE_EACH))
    hall.finish(certified)
    assert {state.paid for state in hall.states.values()} == {ONE_EACH}


@pytest.mark.parametrize("field", ["rewards", "paid"])
def test_a_leader_that_pays_a_friend_is_refused_by_the_fields_name(field: str) -> None:
    hall = paying()
    proposal = proposal_of(hall)
    lie = {"paid": (2).to_bytes(16, "little") + ONE_EACH[16:]}
    lies = {"rewards": lie | {"rewards": PAY.digest(lie["paid"])}, "paid": lie}
    (refused,) = hall.give(5, proposed_as(proposal, **lies[field]))
    assert isinstance(refused.reason, ProposalRefusedError)
    assert refused.reason.values.get("field") == field
    assert not hall.outbox, "no vote"
    hall.give(5, proposal)
    assert [type(message) for _, _, message in hall.outbox] == [HeaderVote]


def test_a_certified_header_with_other_earnings_than_it_names_deserves_no_vote() -> None:
    """No certificate is over the amounts that come with a header: the leader of a block could put others there."""
    hall = paying()
    hall.finalise(hall.close())
    good = hall.spread().certified()
    wrong = Certified(replace(good.header, paid=bytes(48)), good.certificate)
    assert wrong.header.digest == good.header.digest
    for payload, deserves in ((good, True), (wrong, False)):
        context, state = hall.contexts[5], hall.states[5]
        assert payload_accepted(context, state, (), encode_payload(payload), hall.now) is deserves
    for header in (wrong.header, replace(good.header, rewards=bytes(32))):
        with pytest.raises(PaidRefusedError, match="comes with 48 bytes of earnings that it does not name"):
            check_paid(PAY, header)
    with pytest.raises(PaidRefusedError):
        check_paid(None, replace(good.header, rewards=bytes(32)))
    assert paid_by(PAY, good.header) == ONE_EACH


def test_after_a_header_that_hides_what_was_earned_nobody_proposes_or_votes() -> None:
    """Only a committee that lies certifies one: who is honest signs nothing that stands on it."""
    hall = paying()
    honest = proposal_of(paying())
    hall.states = {i: replace(state, paid=None) for i, state in hall.states.items()}
    hall.finalise(hall.close())
    hall.spread()
    assert not any(state.own or state.foreseen for state in hall.states.values())
    hall.states[5] = replace(hall.states[5], own=None)
    refused = [effect for effect in hall.give(5, honest) if hasattr(effect, "reason")]
    assert [type(effect.reason) for effect in refused] == [ProposalRefusedError]
    assert "what was earned before round 0 is not known" in str(refused[0].reason)


def test_rounds_that_do_not_open_earn_nothing_and_reports_without_weight_neither() -> None:
    first, second, _ = (trainer.address for trainer in committee().trainers[:3])
    close: Any = SimpleNamespace(round=1, reports=(b"a", b"b"), weights=(1, 0))
    held: Any = {
        name: SimpleNamespace(report=SimpleNamespace(trainer=t)) for name, t in ((b"a", first), (b"b", second))
    }
    models = (b"before", b"after")
    unopened: tuple[Outcome, ...] = ("skipped", "lost", "invalid")
    for outcome in unopened:
        assert paid_after(PAY, ONE_EACH, close, outcome, held, models) == ONE_EACH
        assert paid_after(PAY, b"", close, outcome, held, models) == bytes(48)
    assert paid_after(PAY, b"", close, "opened", held, models) == (1).to_bytes(16, "little") + bytes(32)
    assert paid_after(None, b"", close, "opened", held, models) == b""
    assert rewards_of(None, b"") == bytes(32)
