"""A run of three epochs: what its folder says of them, and every change of that found by name.

Sixteen validators of which one is absent and drops out, epochs of five rounds, eleven rounds, the embedded chain.
`COLLEGIUM_FULL=1` plays the demo's hospitals so, every report proved, in place of four clinics without proofs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from _run_stage import Copy, PlayedRun, check, play, write_experiment

from collegium.consensus import (
    Ballot,
    Block,
    BrokenChainError,
    EpochSet,
    ForgedSignatureError,
    Handover,
    HandoverRefusedError,
    NotFinalError,
    QuorumCertificate,
    WrongChangeError,
    WrongEpochError,
    decode_epoch_record,
    encode_epoch_record,
    genesis_certificate,
)
from collegium.consensus._messages import seat_bitmap
from collegium.crypto import BlsSecretKey, Digest, aggregate_signatures
from collegium.errors import CollegiumError
from collegium.node import read_public_record
from collegium.node._chain_check import Founded, check_chain
from collegium.node._chain_record import decode_chain_record
from collegium.node._epoch_ledger import OrderedEpoch, ordered_epochs
from collegium.node._epochs import Epochs, KnownEpoch
from collegium.node._ledger import LedgerError, Segment, decode_segments, encode_segments
from collegium.node._work_terms import court_rules
from collegium.settlement import KnownStretches, MachineRun, compile_program, public_works

pytestmark = pytest.mark.slow

ROUNDS = 10
FULL = os.environ.get("COLLEGIUM_FULL") == "1"
ABSENT = 2 if FULL else 1
CLINICS = (("rounds = 3", f"rounds = {ROUNDS}"), ("absent = 1", "absent = 1\nepoch_rounds = 5"))
DEMO = (
    ("rounds = 30", f"rounds = {ROUNDS}"),
    ("absent = 2", "absent = 2\nepoch_rounds = 5"),
    ("checkpoint_every = 10", "checkpoint_every = 2"),
)

FIRST: dict[bytes, KnownEpoch] = {}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """The run. Nobody may change its folder."""
    folder = tmp_path_factory.mktemp("epochs")
    return play(demo(folder) if FULL else write_experiment(folder, *CLINICS), folder / "run")


def demo(folder: Path) -> Path:
    """Write the demo's experiment, with fewer rounds and with epochs, and return its path."""
    for file in files("collegium.apps.demo").iterdir():
        if file.name.endswith((".toml", ".csv", ".md")):
            (folder / file.name).write_bytes(file.read_bytes())
    text = (folder / "demo.toml").read_text()
    for old, new in DEMO:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "demo.toml").write_text(text)
    return folder / "demo.toml"


@pytest.fixture
def damaged(long: PlayedRun, tmp_path: Path) -> Copy:
    return Copy.of(long.path, tmp_path / "copy")


def segments_of(run: PlayedRun) -> tuple[Segment, ...]:
    return decode_segments((run.path / "ledger.bin").read_bytes())


def audited(run: PlayedRun, segments: Iterable[Segment], **plan: Any) -> tuple[OrderedEpoch, ...]:
    """Check segments as `verify` does."""
    genesis, known = run.federation.genesis, run.federation.epochs.plan
    assert known is not None
    epochs = Epochs(genesis.epoch_set, replace(known, **plan) if plan else known)
    epochs._known[0] = FIRST.setdefault(genesis.task, epochs._known[0])  # which remembers good certificates
    return ordered_epochs(epochs, sha256(genesis.beacon).digest(), tuple(segments))


def finding(copy: Copy) -> str:
    """Return what `verify` finds behind a new manifest."""
    failure = copy.relist().failure
    assert failure is not None
    assert "unforeseen" not in failure
    return failure


# ------------------------------------------------------------------------------------------------ what holds


def test_a_run_of_several_epochs_verifies_and_says_who_was_in_which(long: PlayedRun) -> None:
    verdict = check(long.path, long.anchor)
    assert verdict.ok, verdict.failure
    text = "\n".join(verdict.checks)
    left = 16 - ABSENT
    assert f"epochs: 3 of 16, {left}, {left} validators; 2 handovers final under the set that they end" in text
    assert "2 epoch sets put in office by the one before" in text
    epochs: Any = long.summary["epochs"]
    assert [entry["first_round"] for entry in epochs] == [0, 5, 10]
    absent = set(range(16)) - set(long.federation.participants)
    assert [set(range(16)) - set(entry["members"]) for entry in epochs] == [set(), absent, absent]
    assert [entry["gas"] is None for entry in epochs] == [True, False, False]
    checkpoints: Any = long.summary["checkpoints"]
    assert [entry["last_round"] for entry in checkpoints] == [2, 4, 6, 8, 9, 10]
    rounds: Any = long.summary["rounds"]
    assert [entry["outcome"] for entry in rounds] == ["opened"] * (ROUNDS + 1)


def test_programs_of_public_work_accept_headers_across_epochs(long: PlayedRun) -> None:
    """The last and the first of an epoch among them: their seats and sealing keys come from a handover."""
    record = read_public_record(long.path)
    programs = {work.name: compile_program(work.module, work.parameters) for work in public_works(record.terms)}
    for number in range(ROUNDS + 1) if FULL else (4, 5, 6, ROUNDS):
        header = record.rounds[number].certified.header
        known = KnownStretches(record.messages(number))
        for name in ("weights", "model", "next round"):
            assert MachineRun(programs[name], header.digest, known).accepted, (number, name)


def test_the_folder_holds_every_epochs_blocks_and_what_makes_each_set(long: PlayedRun) -> None:
    segments = segments_of(long)
    found = audited(long, segments)
    assert [len(epoch.rounds) for epoch in found] == [5, 5, 1]
    for epoch, segment in zip(found, segments, strict=True):
        assert {block.epoch for block in segment.blocks} == {epoch.known.epoch}
        kinds = [block.payload[:1] for block in segment.blocks]
        assert (kinds.count(b"N"), kinds.count(b"T")) == (int(epoch.known.epoch < 2), 16 - ABSENT)
    ended = found[0].change
    assert ended is not None
    assert ended.handover is not None
    assert ended.handover.first_round == found[1].known.first_round == 5
    assert found[1].known.group != found[2].known.group
    sets = [epoch.known.epoch_set for epoch in found]
    assert [sorted(v.account for v in s.validators) for s in sets[1:]] == [
        sorted(node.context.round.account.address for node in long.federation.nodes.values())
    ] * 2


def test_no_secret_of_a_later_epoch_is_in_the_folder(long: PlayedRun) -> None:
    shares = {
        one.context.round.beacon.share
        for node in long.federation.participants.values()
        for one in getattr(node, "nodes", ())
    }
    secrets = [share.scalar.to_bytes(32, "big") for share in shares if share is not None]
    assert len(secrets) == 2 * (16 - ABSENT)
    secrets += [value for name, value in long.secrets.items() if name.startswith(("sealing key", "voting", "account"))]
    written = [path.read_bytes() for path in long.path.rglob("*") if path.is_file()]
    for secret in secrets:
        assert not any(secret in data or secret.hex().encode() in data for data in written)


def test_a_run_of_one_epoch_says_nothing_of_epochs(played: PlayedRun) -> None:
    assert "epochs" not in played.summary
    assert "handovers" not in json.loads((played.path / "chain.json").read_bytes())
    assert len(segments_of(played)) == 1


# ------------------------------------------------------------------------------------------------ the ledger, damaged


def test_a_flipped_byte_anywhere_in_the_ledger_is_found(long: PlayedRun, damaged: Copy) -> None:
    data = (long.path / "ledger.bin").read_bytes()
    (handover,) = (block for block in segments_of(long)[0].blocks if block.payload[:1] == b"N")
    inside = data.index(handover.payload)
    assert data.index(encode_segments(segments_of(long)[1:])) > inside
    places = [5, inside + 1, inside + 200, inside + len(handover.payload) - 40, len(data) * 2 // 3, len(data) - 30]
    for number, place in enumerate(places):
        flipped = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        with pytest.raises(CollegiumError):
            audited(long, decode_segments(flipped))
        if number in (1, 4):
            with damaged.changed("ledger.bin", flipped, listed=True):
                failure = check(damaged.path).failure
            assert failure is not None
            assert failure.startswith("ledger.bin: ")
            assert "unforeseen" not in failure


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda s: (s[0], s[2]), BrokenChainError, "does not follow"),
        (lambda s: (s[0], s[2], s[1]), BrokenChainError, "does not follow"),
        (lambda s: (s[1], s[0], s[2]), BrokenChainError, "does not follow"),
        (lambda s: s[1:], BrokenChainError, "does not follow"),
        (lambda s: (s[0], s[0], s[1], s[2]), BrokenChainError, "does not follow"),
        (lambda s: (*s, s[2]), LedgerError, "epoch 2 has not ended with round 10"),
        (lambda s: (s[0], Segment((), ()), s[2]), LedgerError, "no block of epoch 1"),
        (lambda s: (s[0], replace(s[1], tip=s[1].tip[:1]), s[2]), LedgerError, "payloads are final"),
        (lambda s: (s[0], replace(s[1], tip=s[0].tip), s[2]), BrokenChainError, "not about the last block"),
        (lambda s: (s[0], replace(s[1], blocks=s[1].blocks[1:]), s[2]), BrokenChainError, "does not follow"),
        (lambda s: (s[0], replace(s[1], blocks=s[0].blocks), s[2]), BrokenChainError, "does not follow"),
    ],
    ids=[
        "middle left out",
        "later two swapped",
        "first two swapped",
        "first left out",
        "first twice",
        "last twice",
        "middle empty",
        "middle not final",
        "tip of another",
        "first block left out",
        "blocks of another",
    ],
)
def test_segments_left_out_swapped_or_repeated_are_refused(
    long: PlayedRun,
    change: Callable[[tuple[Segment, ...]], tuple[Segment, ...]],
    error: type[CollegiumError],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        audited(long, change(segments_of(long)))


def test_a_last_epoch_left_out_is_missed(long: PlayedRun, damaged: Copy) -> None:
    shorter = encode_segments(segments_of(long)[:2])
    with damaged.changed("ledger.bin", shorter, listed=True):
        failure = check(damaged.path).failure
    assert failure == "ledger.bin: the ledger holds 10 rounds, the experiment has 11"


def test_the_segments_of_a_run_are_no_other_plans(long: PlayedRun, played: PlayedRun) -> None:
    segments = segments_of(long)
    with pytest.raises(WrongChangeError):  # its first ticket comes too early
        audited(long, segments, epoch_rounds=6)
    genesis = long.federation.genesis
    with pytest.raises(LedgerError, match="the task has one epoch"):
        ordered_epochs(Epochs(genesis.epoch_set, None), sha256(genesis.beacon).digest(), segments)
    with pytest.raises((WrongEpochError, BrokenChainError)):
        audited(played_with_plan(played, long), segments_of(long))


def played_with_plan(played: PlayedRun, long: PlayedRun) -> PlayedRun:
    """Return a run of one epoch as if its plan were the other one's: nothing else of it is asked for."""
    epochs = Epochs(played.federation.genesis.epoch_set, long.federation.epochs.plan)
    return replace(played, federation=replace(played.federation, epochs=epochs))


# ------------------------------------------------------------------------------------------------ a quorum that lies


def forge(run: PlayedRun, epoch_set: EpochSet, genesis: Digest, payloads: Iterable[bytes]) -> Segment:
    """Return the segment that a whole epoch set, of one mind, could make of any payloads: one block a view."""
    keys = {entry.account.address: entry for entry in run.federation.validators}
    members = [keys[validator.account] for validator in epoch_set.validators]
    blocks: list[Block] = []
    parent = genesis_certificate(genesis)
    for view, payload in enumerate((*payloads, b""), 1):
        author = epoch_set.leader(view)
        draft = Block(epoch_set.task, epoch_set.epoch, view, author, parent, None, payload, bytes(65))
        blocks.append(draft.signed(members[author].account.sign(draft.digest)))
        parent = _certificate(epoch_set, [member.voting for member in members], blocks[-1].ballot)
    return Segment(tuple(blocks[:-1]), (blocks[-1].parent_certificate, parent))


def _certificate(epoch_set: EpochSet, keys: list[BlsSecretKey], ballot: Ballot) -> QuorumCertificate:
    seats = set(range(epoch_set.quorum))
    signature = aggregate_signatures([keys[seat].sign(ballot.digest(epoch_set)) for seat in sorted(seats)])
    return QuorumCertificate(ballot, seat_bitmap(seats, epoch_set.size), signature)


def payloads_of(segment: Segment) -> list[bytes]:
    return [block.payload for block in segment.blocks if block.payload]


def test_what_a_quorum_orders_again_without_lies_holds(long: PlayedRun) -> None:
    """The forger's tools are good: only what it says is refused below."""
    segments, first = segments_of(long), long.federation.genesis.epoch_set
    again = forge(long, first, first.genesis(), payloads_of(segments[0]))
    assert len(audited(long, [again])[0].rounds) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda handover: replace(handover, seats=handover.seats[::-1]),
        lambda handover: replace(handover, group_key=handover.public_shares[0]),
        lambda handover: replace(handover, dealers=handover.dealers[1:]),
        lambda handover: replace(handover, keys=handover.keys[1:]),
    ],
    ids=["another order", "another key", "fewer dealers", "fewer first keys"],
)
def test_even_a_quorum_hands_over_to_nobody_but_whom_the_records_give(
    long: PlayedRun, change: Callable[[Handover], Handover]
) -> None:
    first = long.federation.genesis.epoch_set
    payloads = payloads_of(segments_of(long)[0])
    at = next(place for place, payload in enumerate(payloads) if payload[:1] == b"N")
    handover = decode_epoch_record(payloads[at])
    assert isinstance(handover, Handover)
    payloads[at] = encode_epoch_record(change(handover))
    with pytest.raises(HandoverRefusedError):
        audited(long, [forge(long, first, first.genesis(), payloads)])


def test_even_a_quorum_cannot_end_the_last_round_without_the_handover_or_leave_tickets_out(long: PlayedRun) -> None:
    first = long.federation.genesis.epoch_set
    payloads = payloads_of(segments_of(long)[0])
    without = [payload for payload in payloads if payload[:1] != b"N"]
    with pytest.raises(HandoverRefusedError, match="round 4 closes before the handover that is due"):
        audited(long, [forge(long, first, first.genesis(), without)])
    ticket = next(place for place, payload in enumerate(payloads) if payload[:1] == b"T")
    with pytest.raises(CollegiumError):  # the set that its dealings are for was drawn from all tickets
        audited(long, [forge(long, first, first.genesis(), [*payloads[:ticket], *payloads[ticket + 1 :]])])


def test_an_epoch_that_is_cut_short_does_not_hand_over(long: PlayedRun) -> None:
    segments, first = segments_of(long), long.federation.genesis.epoch_set
    payloads = payloads_of(segments[0])
    headers = [place for place, payload in enumerate(payloads) if payload[:1] == b"H"]
    short = forge(long, first, first.genesis(), payloads[: headers[3] + 1])
    with pytest.raises(LedgerError, match="epoch 0 has not ended with round 3"):
        audited(long, [short, *segments[1:]])


def test_a_block_or_certificate_signed_by_another_epochs_set_is_refused(long: PlayedRun) -> None:
    segments = segments_of(long)
    second = audited(long, segments)[1].known
    wrong = forge(long, replace(second.epoch_set, epoch=0), second.genesis, payloads_of(segments[1]))
    with pytest.raises((WrongEpochError, ForgedSignatureError)):
        audited(long, [segments[0], wrong])
    blocks = segments[1].blocks
    tip = segments[1].tip
    mixed = replace(segments[1], tip=(replace(tip[0], signature=segments[0].tip[0].signature), *tip[1:]))
    with pytest.raises(ForgedSignatureError):
        audited(long, [segments[0], mixed, segments[2]])
    with pytest.raises((NotFinalError, BrokenChainError, LedgerError)):
        audited(long, [segments[0], Segment(blocks, segments[2].tip), segments[2]])


# ------------------------------------------------------------------------------------------------ chain and summary


def _changed(entry: dict[str, Any], **changes: Any) -> None:
    entry.update(changes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.pop("handovers"), "0 handovers, the ledger 2 epochs after 0"),
        (lambda record: record["handovers"].pop(), "1 handovers, the ledger 2 epochs after 0"),
        (lambda record: record["handovers"].append(record["handovers"][0]), "3 handovers, the ledger 2"),
        (lambda record: record["handovers"].reverse(), "certificate"),
        (lambda record: _changed(record["handovers"][0], gas=1), "handovers cost"),
        (lambda record: _changed(record["handovers"][1], certificate=record["certificates"][5]), "certificate"),
        (lambda record: _changed(record["checkpoints"][2], epoch=0), "does not follow the one before"),
        (lambda record: record.update(handovers=[]), "empty list of handovers"),
        (lambda record: record["transcript"]["transactions"].pop(20), "transactions were sent, this run sends"),
    ],
    ids=["none", "one too few", "one too many", "swapped", "gas", "another's", "epoch", "empty", "transaction"],
)
def test_a_chain_record_that_tells_another_story_of_who_was_in_office_is_refused(
    long: PlayedRun, damaged: Copy, change: Callable[[Any], object], reason: str
) -> None:
    damaged.edit("chain.json", change)
    genesis, later = long.federation.genesis, long.federation.epochs.known[1:]
    founded = Founded(court_rules(genesis, long.federation.experiment, long.federation.task))

    def look() -> None:
        record = decode_chain_record((damaged.path / "chain.json").read_bytes())
        check_chain(record, None, genesis.epoch_set, genesis.operator, later, founded=founded)

    with pytest.raises(CollegiumError, match=reason):
        look()


def test_verify_names_the_chain_where_it_tells_another_story(damaged: Copy) -> None:
    damaged.edit("chain.json", lambda record: record["handovers"].pop())
    assert finding(damaged) == "chain.json: the record has 1 handovers, the ledger 2 epochs after 0"


def test_a_summary_that_seats_somebody_else_is_refused(damaged: Copy) -> None:
    document = json.loads((damaged.path / "summary.json").read_bytes())
    document["epochs"][1]["members"][0] += 1
    (damaged.path / "summary.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    assert finding(damaged).startswith("summary.json: summary.json differs from what the run gives")
