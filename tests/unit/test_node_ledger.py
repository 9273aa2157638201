"""The ledger of a run: frames of blocks, what the order of rounds must be, and the index of the objects they name.

Real blocks, from two rounds of the committee in `_round_stage.py` with one validator absent.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from _round_stage import Town, committee

from collegium.consensus import (
    Block,
    BrokenChainError,
    EpochSet,
    QuorumCertificate,
    RefusedRecordError,
    ViewEntry,
    Vote,
    WrongEpochError,
    encode_message,
    encode_round_record,
)
from collegium.errors import CollegiumError
from collegium.node._audit import check_records
from collegium.node._epoch_ledger import ordered_epochs
from collegium.node._epochs import Epochs
from collegium.node._ledger import (
    LedgerError,
    ObjectIndex,
    OrderedRound,
    Segment,
    assemble_rounds,
    decode_index,
    decode_ledger,
    decode_segments,
    encode_index,
    encode_ledger,
    encode_segments,
)

Blocks = tuple[Block, ...]
Tip = tuple[QuorumCertificate, ...]

pytestmark = pytest.mark.slow


@cache
def history() -> tuple[Blocks, Tip]:
    """Two rounds' final blocks, and what makes the last one final."""
    town = Town(4, absent=[5])
    for _ in range(2):
        town.send_reports(range(4))
        town.run_round(10_000)
    committed = town.committed[0]
    return tuple(entry.block for entry in committed), tuple(committed[-1].certificate_chain)


@cache
def ledger() -> bytes:
    return encode_ledger(*history())


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def refused(data: bytes, message: str) -> None:
    with pytest.raises(LedgerError) as caught:
        decode_ledger(data)
    assert message in str(caught.value)


# ------------------------------------------------------------------------------------------------ bytes


def test_a_ledger_survives_its_bytes() -> None:
    assert decode_ledger(ledger()) == history()
    assert encode_ledger(*decode_ledger(ledger())) == ledger()


def test_a_ledger_cut_anywhere_is_refused() -> None:
    blocks, tip = history()
    whole = {len(encode_ledger(blocks, tip[:count])) for count in range(len(tip))}
    for end in range(len(ledger()) - 600, len(ledger())):
        if end not in whole:
            with pytest.raises(LedgerError):
                decode_ledger(ledger()[:end])
    for end in (0, 1, 3, 4, 1000):
        with pytest.raises(LedgerError):
            decode_ledger(ledger()[:end])


def test_trailing_bytes_and_endless_frames_are_refused() -> None:
    refused(ledger() + b"\0", "ends inside a length")
    refused(ledger() + frame(b""), "ledger, epoch 1: it has no end of blocks")
    refused(frame(b"") * (1 << 14), "more than 4096 epochs")
    refused(b"\xff\xff\xff\xff" + ledger(), "ends inside a frame of 4294967295 bytes")
    refused(ledger() + frame(b"\xc1"), "ledger, epoch 0, block")


def test_a_ledger_holds_blocks_then_certificates_and_nothing_else() -> None:
    blocks, tip = history()
    block, entry = encode_message(blocks[0]), encode_message(ViewEntry(tip[0], None))
    vote = encode_message(Vote(tip[0].ballot, 0, bytes(48)))
    refused(frame(entry) + frame(b""), "holds a ViewEntry where a block is expected")
    refused(frame(vote) + frame(b""), "holds a Vote where a block is expected")
    refused(frame(block) + frame(b"") + frame(block), "something that is no certificate")
    refused(frame(block), "no end of blocks")
    refused(ledger() + frame(b"") + ledger(), "ledger holds 2 epochs, expected one")


def test_a_ledger_of_epochs_survives_its_bytes_and_one_of_one_epoch_is_as_it_was() -> None:
    blocks, tip = history()
    first, second = Segment(blocks[:3], tip[:1]), Segment(blocks[3:], tip)
    whole = encode_segments([first, second])
    assert decode_segments(whole) == (first, second)
    assert encode_segments(decode_segments(whole)) == whole
    assert encode_segments([Segment(blocks, tip)]) == ledger()
    assert decode_segments(ledger()) == (Segment(blocks, tip),)
    with pytest.raises(LedgerError, match="ends inside a frame"):
        decode_segments(whole[:-1])
    with pytest.raises(LedgerError, match="ledger, epoch 1, block 0"):
        decode_segments(ledger() + frame(b"") + frame(b"\xc1") + frame(b""))
    with pytest.raises(LedgerError, match="epoch 2: it has no end of blocks"):
        decode_segments(whole + frame(b""))


# ------------------------------------------------------------------------------------------------ order


def rounds_of(epoch_set: EpochSet, blocks: Blocks, tip: Tip) -> tuple[OrderedRound, ...]:
    """Return the rounds of a ledger of one epoch, checked as `verify` does."""
    (epoch,) = ordered_epochs(Epochs(epoch_set, None), bytes(32), [Segment(blocks, tip)])
    return epoch.rounds


def test_the_rounds_of_a_ledger_are_its_closes_and_headers() -> None:
    rounds = rounds_of(committee().epoch_set, *history())
    assert [ordered.close.round for ordered in rounds] == [0, 1]
    assert all(ordered.certified.header.close == ordered.close.digest for ordered in rounds)
    assert rounds[1].certified.header.previous == rounds[0].certified.header.digest
    views = [ordered.views for ordered in rounds]
    assert views[0][0] == 0
    assert views[1][0] == views[0][-1]
    seen = {block.view for block in history()[0]} | {certificate.view for certificate in history()[1]}
    assert {0, *views[0], *views[1]} == {0, *seen}


def test_rounds_come_out_the_same_one_at_a_time() -> None:
    blocks, tip = history()
    whole = assemble_rounds(blocks, tip)
    headers = [place for place, block in enumerate(blocks) if block.payload][1::2]
    first = assemble_rounds(blocks[: headers[0] + 1], (blocks[headers[0] + 1].parent_certificate, *tip))
    second = assemble_rounds(blocks[headers[0] + 1 :], tip, 1, first[0].views[-1])
    assert [entry.close for entry in (*first, *second)] == [entry.close for entry in whole]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda blocks, tip: (blocks[1:], tip), BrokenChainError),
        (lambda blocks, tip: (blocks[:-1], tip), BrokenChainError),
        (lambda blocks, tip: ((*blocks[:2], *blocks[3:]), tip), BrokenChainError),
        (lambda blocks, tip: ((*blocks[:1], blocks[0], *blocks[1:]), tip), BrokenChainError),
        (lambda blocks, tip: ((*blocks[:-1], replace(blocks[-1], payload=blocks[0].payload)), tip), CollegiumError),
        (lambda blocks, tip: (blocks, tip[:1]), LedgerError),
        (lambda blocks, _: (blocks, ()), LedgerError),
        (lambda blocks, tip: (blocks, tip[::-1]), BrokenChainError),
        (lambda _blocks, _tip: ((), ()), LedgerError),
    ],
    ids=["no first", "no last", "no third", "twice", "other payload", "half a tip", "no tip", "tip reversed", "empty"],
)
def test_blocks_left_out_repeated_or_not_final_are_refused(
    change: Callable[[Blocks, Tip], tuple[Blocks, Tip]], error: type[CollegiumError]
) -> None:
    with pytest.raises(error):
        rounds_of(committee().epoch_set, *change(*history()))


def test_the_ledger_of_another_epoch_set_is_refused() -> None:
    other = replace(committee().epoch_set, epoch=1)
    with pytest.raises((WrongEpochError, BrokenChainError)):
        rounds_of(other, *history())


def test_a_ledger_that_ends_with_a_close_is_refused() -> None:
    blocks, tip = history()
    last = [place for place, block in enumerate(blocks) if block.payload][-2]
    certificates = [*(block.parent_certificate for block in blocks[last + 1 :]), *tip]
    with pytest.raises(LedgerError, match="the ledger ends inside round 1"):
        rounds_of(committee().epoch_set, blocks[: last + 1], tuple(certificates))


# ------------------------------------------------------------------------------------------------ index

ONE, TWO, THREE = (bytes([value]) * 32 for value in (1, 2, 3))
INDEX = ObjectIndex.of({TWO: ONE, ONE: TWO}, {THREE: THREE}, [THREE, ONE, ONE], [TWO], [ONE], [THREE, TWO])


def test_an_index_is_sorted_and_survives_its_bytes() -> None:
    assert INDEX.reports == ((ONE, TWO), (TWO, ONE))
    assert INDEX.ciphertexts == (ONE, THREE)
    assert INDEX.objects == {ONE, TWO, THREE}
    assert decode_index(encode_index(INDEX)) == INDEX


@pytest.mark.parametrize(
    "wrong",
    [
        replace(INDEX, reports=INDEX.reports[::-1]),
        replace(INDEX, reports=(*INDEX.reports, INDEX.reports[-1])),
        replace(INDEX, ciphertexts=(ONE, ONE)),
        replace(INDEX, models=(TWO, ONE)),
        replace(INDEX, proofs=(TWO, ONE)),
        replace(INDEX, registrations=(ONE, ONE)),
    ],
)
def test_an_index_out_of_order_or_with_repetitions_is_refused(wrong: ObjectIndex) -> None:
    with pytest.raises(LedgerError, match="canonical"):
        decode_index(encode_index(wrong))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        encode_index(INDEX) + b"\n",
        encode_index(INDEX).replace(b",", b", ", 1),
        encode_index(INDEX).replace(b64encode(ONE), b64encode(ONE)[:-2] + b"F=", 1),
        msgspec.json.encode({"reports": [], "key_sums": [], "ciphertexts": [], "models": [], "more": []}),
    ],
)
def test_bytes_that_are_no_index_are_refused(data: bytes) -> None:
    with pytest.raises(LedgerError):
        decode_index(data)


# ------------------------------------------------------------------------------------------------ records of rounds


def with_record(before: str, record: bytes) -> Blocks:
    """Return the blocks with one more, which orders a record, before the last that has this kind of payload."""
    blocks = list(history()[0])
    place = max(at for at, block in enumerate(blocks) if block.payload[:1] == before.encode())
    return (*blocks[:place], replace(blocks[place], payload=encode_round_record(record)), *blocks[place:])


def test_records_stand_with_the_round_before_whose_close_they_are() -> None:
    rounds = assemble_rounds(with_record("C", b"a record"), history()[1])
    assert [entry.records for entry in rounds] == [(), (b"a record",)]
    assert [entry.records for entry in assemble_rounds(*history())] == [(), ()]
    with pytest.raises(RefusedRecordError, match="between a close and its header"):
        assemble_rounds(with_record("H", b"a record"), history()[1])


class Letters:
    """A task's quality that takes each record of the letters up to `c` once."""

    def check_record(self, round_number: int, model: bytes, before: Sequence[bytes], record: bytes) -> None:
        if record > b"c" or record in before:
            raise LettersError(f"record {record!r} after {list(before)}")


class LettersError(CollegiumError):
    """A letter that may not follow."""


@pytest.mark.parametrize(("records", "holds"), [((b"b", b"a"), True), ((b"b", b"b"), False), ((b"d",), False)])
def test_whoever_redoes_a_round_checks_its_records(records: tuple[bytes, ...], holds: bool) -> None:
    ordered = replace(assemble_rounds(*history())[1], records=records)
    task: Any = SimpleNamespace(quality=Letters())
    plain: Any = SimpleNamespace(quality=None)
    if holds:
        check_records(task, ordered, b"model")
    else:
        with pytest.raises(LettersError):
            check_records(task, ordered, b"model")
    with pytest.raises(LedgerError, match="this task takes none"):
        check_records(plain, ordered, b"model")
    check_records(plain, replace(ordered, records=()), b"model")
