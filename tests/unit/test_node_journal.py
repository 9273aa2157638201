"""A validator's journal: what it takes it gives back, a step at a time, and what it cannot keep it says by name."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _crash_stage import LINK_MS, TRAINERS, Village, context_of, keys
from _round_stage import EMPTY_MODEL, upload_of

from collegium.consensus import (
    Close,
    ForgetEpochSecrets,
    KeepBeaconShare,
    KeepEpochSecret,
    KeepSecret,
    KeepUpload,
    Kept,
    ReleaseRecord,
    RoundPassed,
    decode_payload,
    encode_upload,
)
from collegium.crypto import SealKey
from collegium.node import SharedWork
from collegium.node._journal import (
    ForeignJournalError,
    JournalCorruptError,
    JournalInUseError,
    JournalWriteError,
    LostJournalError,
    MemoryJournal,
    ReleaseRefusedError,
)
from collegium.node._journal_disk import DiskJournal, EpochJournals
from collegium.node._validator_node import ValidatorNode

OWNER = sha256(b"owner").digest()
SECRET = SealKey(sha256(b"a sealing key").digest())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def disk(path: Path) -> Iterator[DiskJournal]:
    journal = DiskJournal(path)
    yield journal
    journal.close()


KEPT = (1, None, 0)  # rounds that three of the played journals keep


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of journals after two rounds, closed."""
    folder = tmp_path_factory.mktemp("village")

    class Differing(Village):
        def _journal(self, index: int) -> Any:
            return DiskJournal(folder / f"{index}-0.db", KEPT[index]) if index < len(KEPT) else MemoryJournal()

    village = Differing(None)
    village.run(2)
    village.close()
    return folder


def journal_of(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(played / "0-0.db", tmp_path / "copy.db"))


def same(first: Kept, second: Kept) -> bool:
    """Tell whether two journals gave the same back; secrets and uploads have no equality of their own."""

    def plain(kept: Kept) -> Any:
        uploads = [(u.round, u.copy, u.verified, encode_upload(u.upload)) for u in kept.uploads]
        secrets = {number: secret.secret for number, secret in kept.secrets.items()}
        rest = replace(kept, uploads=(), secrets={}, stored=tuple(sorted(kept.stored, key=lambda b: b.view)))
        return uploads, secrets, rest

    return bool(plain(first) == plain(second))


# ------------------------------------------------------------------------------------------------ what it gives back


def test_both_journals_give_back_the_same(tmp_path: Path) -> None:
    class Both:
        """Writes to two journals."""

        def __init__(self, disk: DiskJournal) -> None:
            self.disk, self.memory = disk, MemoryJournal()
            self.archive = self.memory.archive
            self.claim, self.read, self.headers, self.get = disk.claim, disk.read, disk.headers, disk.get

        def write(self, effects: list[Any]) -> None:
            effects = list(effects)
            self.disk.write(effects)
            self.memory.write(effects)
            assert same(self.disk.read(), self.memory.read())

    class TwoDisks(Village):
        def _journal(self, index: int) -> Any:
            return Both(DiskJournal(tmp_path / "both.db", rounds_kept=0)) if index == 0 else MemoryJournal()

    village = TwoDisks(None)
    village.run(2)
    both = village.journals[0]
    assert both.disk.headers() == both.memory.headers()
    assert list(both.disk.archive.blocks) == both.memory.archive.blocks
    assert dict(both.disk.archive.proofs) == both.memory.archive.proofs
    blocks = both.memory.archive.blocks
    for archive in (both.disk.archive, both.memory.archive):
        assert list(archive.after(blocks[2].digest, 3)) == blocks[3:6]
        assert list(archive.after(blocks[0].parent, 3)) == blocks[:3], "from the genesis on"
        assert list(archive.after(blocks[-1].digest, 3)) == []
        assert list(archive.after(bytes(32), 3)) == [], "unknown, so nothing is known to follow it"
    assert list(both.disk.archive.blocks[1:5:2]) == blocks[1:5:2]
    with pytest.raises(KeyError):
        both.disk.archive.proofs[bytes(32)]
    model = both.memory.finals[-1].model
    assert both.disk.get(model) == both.memory.get(model) is not None
    assert both.disk.get(bytes(32)) is None
    both.disk.close()


def test_an_empty_journal_gives_nothing(disk: DiskJournal) -> None:
    assert disk.read() == Kept() == MemoryJournal().read()
    assert len(disk.archive.blocks) == 0


def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    journal = DiskJournal(path)
    journal.write([KeepSecret(1, SECRET), KeepUpload(0, 0, upload_of(0), True), ReleaseRecord(0, OWNER)])
    journal.close()
    again = DiskJournal(path)
    kept = again.read()
    assert kept.secrets[1].secret == SECRET.secret
    assert kept.released == {0: OWNER}
    (upload,) = kept.uploads
    assert (upload.round, upload.copy, upload.verified) == (0, 0, True)
    assert encode_upload(upload.upload) == encode_upload(upload_of(0))
    again.close()


@pytest.mark.parametrize("make", [DiskJournal, lambda _: MemoryJournal()])
def test_what_is_said_in_a_change_of_epochs_stays_until_it_is_to_be_forgotten(
    path: Path, make: Callable[[Path], Any]
) -> None:
    journal = make(path)
    first, second = (KeepEpochSecret(0, start, "ticket", bytes(32), b"record") for start in (4, 9))
    share = KeepBeaconShare(1, 2, bytes(32))
    journal.write([first, second, share])
    assert journal.read().epoch_secrets == (first, second)
    journal.write([ForgetEpochSecrets(0, 4)])
    assert journal.read().epoch_secrets == (second,)
    assert journal.beacon_shares() == (share,)
    if isinstance(journal, DiskJournal):
        journal.close()


def test_a_copy_of_the_same_number_supersedes_and_another_one_stays_beside_it(disk: DiskJournal) -> None:
    memory = MemoryJournal()
    for journal in (disk, memory):
        journal.write([KeepUpload(0, 0, upload_of(0), False)])
        journal.write([KeepUpload(0, 0, upload_of(0), True), KeepUpload(0, 1, upload_of(0), True)])
    assert [(u.copy, u.verified) for u in disk.read().uploads] == [(0, True), (1, True)]
    assert same(disk.read(), memory.read())


@pytest.mark.parametrize("make", [DiskJournal, lambda _: MemoryJournal()])
def test_a_second_release_for_another_close_is_refused_by_name(path: Path, make: Callable[[Path], Any]) -> None:
    journal = make(path)
    journal.write([ReleaseRecord(3, OWNER)])
    journal.write([ReleaseRecord(3, OWNER)])
    with pytest.raises(ReleaseRefusedError):
        journal.write([ReleaseRecord(3, bytes(32))])
    assert journal.read().released == {3: OWNER}
    if isinstance(journal, DiskJournal):
        journal.close()


def test_a_step_is_written_whole_or_not_at_all(disk: DiskJournal) -> None:
    disk.write([ReleaseRecord(0, OWNER)])
    with pytest.raises(ReleaseRefusedError):
        disk.write([KeepSecret(1, SECRET), ReleaseRecord(0, bytes(32))])
    assert disk.read().secrets == {}
    disk.write([KeepSecret(1, SECRET)])
    assert set(disk.read().secrets) == {1}


# ------------------------------------------------------------------------------------------------ whose, and how many


def test_a_journal_is_its_owners_alone(path: Path) -> None:
    journal = DiskJournal(path)
    journal.claim(OWNER)
    journal.claim(OWNER)
    journal.close()
    for again in (DiskJournal(path), MemoryJournal(owner=OWNER)):
        again.claim(OWNER)
        with pytest.raises(ForeignJournalError):
            again.claim(bytes(32))
        if isinstance(again, DiskJournal):
            again.close()


def test_a_journal_is_open_once(disk: DiskJournal) -> None:
    with pytest.raises(JournalInUseError):
        DiskJournal(disk.path)
    disk.write([KeepSecret(1, SECRET)])


def test_nobody_else_may_read_it(path: Path) -> None:
    path.touch(0o644)
    journal = DiskJournal(path)
    journal.write([KeepSecret(1, SECRET)])
    assert {found.stat().st_mode & 0o777 for found in path.parent.iterdir()} == {0o600}
    journal.close()


@pytest.mark.parametrize("make", [DiskJournal, lambda _: MemoryJournal()])
def test_a_sealing_key_that_is_forgotten_by_name_leaves_the_disk_and_no_other_does(
    path: Path, make: Callable[[Path], Any]
) -> None:
    journal, other = make(path), SealKey(sha256(b"another sealing key").digest())
    journal.write([KeepSecret(5, SECRET), KeepSecret(6, other)])
    for _ in range(2):
        journal.forget_round(5)
        assert {number: key.secret for number, key in journal.read().secrets.items()} == {6: other.secret}
    files = b"".join(file.read_bytes() for file in sorted(path.parent.glob("*")))
    assert SECRET.secret not in files
    if isinstance(journal, DiskJournal):
        assert other.secret in files
        journal.close()


def test_sealing_keys_leave_the_disk_when_their_round_is_over(played: Path, tmp_path: Path) -> None:
    journal = DiskJournal(journal_of(played, tmp_path))
    header = replace(journal.headers()[-1], round=7)

    def on_disk() -> bool:
        return any(SECRET.secret in found.read_bytes() for found in tmp_path.iterdir())

    journal.write([KeepSecret(7, SECRET)])
    assert on_disk()
    journal.write([RoundPassed(replace(header, round=6))])
    assert on_disk(), "its round is not over"
    journal.write([RoundPassed(header)])
    assert not on_disk()
    journal.close()


@pytest.mark.parametrize(("index", "uploads", "models"), [(0, 3, 2), (1, 6, 2), (2, 0, 1)])
def test_what_a_round_needed_is_dropped_after_as_many_rounds_as_are_kept(
    played: Path, index: int, uploads: int, models: int
) -> None:
    with sqlite3.connect(played / f"{index}-0.db") as connection:
        query = "SELECT (SELECT count(*) FROM uploads), (SELECT count(*) FROM objects)"
        counts = connection.execute(query).fetchone()
        secrets = connection.execute("SELECT round FROM secrets ORDER BY round").fetchall()
    connection.close()
    assert counts == (uploads, models)
    assert secrets == [(2,), (3,)], "of the present round and the next, whatever else is kept"


# ------------------------------------------------------------------------------------------------ a bad disk


def fill(journal: DiskJournal) -> None:
    """Let the disk be as full as it is now."""
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def test_a_full_disk_is_named_and_nothing_of_the_step_is_kept(disk: DiskJournal) -> None:
    disk.write([ReleaseRecord(0, OWNER)])
    fill(disk)
    with pytest.raises(JournalWriteError, match="full"):
        disk.write([KeepSecret(1, SECRET), KeepUpload(0, 0, upload_of(0), False)])
    kept = disk.read()
    assert (kept.secrets, kept.uploads, kept.released) == ({}, (), {0: OWNER})


def test_a_node_whose_disk_is_full_says_nothing_any_more(path: Path) -> None:
    journal = DiskJournal(path)
    first = (keys().terms, EMPTY_MODEL, {0: keys().seals[0]})
    node, outgoing = ValidatorNode.restore(context_of(0, SharedWork()), journal, *first, 0)
    assert outgoing
    upload = Village(None)
    upload._report(1)
    (sent, other, *_) = upload.uploads[0]
    assert list(node.handle(sent, LINK_MS)), "while there is room it issues receipts"
    fill(journal)
    for message in (other, other, sent):
        with pytest.raises(JournalWriteError):
            node.handle(message, LINK_MS)
    journal.close()
    assert isinstance(node.stopped, JournalWriteError)


def test_a_disk_that_fails_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalWriteError):
        DiskJournal(tmp_path / "no such folder" / "journal.db")
    journal = DiskJournal(path)
    journal.close()
    with pytest.raises(JournalWriteError):
        journal.write([KeepSecret(1, SECRET)])


def test_a_file_that_is_no_journal_is_refused_by_name(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(JournalCorruptError):
        DiskJournal(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB)")
        other.execute("INSERT INTO meta VALUES ('format', 'another')")
    other.close()
    with pytest.raises(JournalCorruptError, match="format"):
        DiskJournal(path)


def flip(data: bytes, place: int = -1) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[place % len(data)] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("table", "column", "key"),
    [
        ("vote", "state", "one"),
        ("blocks", "data", "digest"),
        ("uploads", "data", "place"),
        ("objects", "data", "digest"),
        ("blocks", "chain", "digest"),
        ("headers", "registered", "round"),
        ("headers", "header", "round"),
        ("secrets", "secret", "round"),
        ("releases", "close", "round"),
    ],
)
@pytest.mark.parametrize("place", [-1, 3])
def test_a_bit_that_flipped_on_the_disk_is_noticed(
    played: Path, tmp_path: Path, table: str, column: str, key: str, place: int
) -> None:
    path = journal_of(played, tmp_path)
    journal = DiskJournal(path)
    journal.write([KeepUpload(2, 0, upload_of(0), False), ReleaseRecord(2, OWNER)])
    journal.read()
    journal.close()
    connection = sqlite3.connect(path)
    query = f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 - our own words
    rows = connection.execute(query).fetchall()
    assert rows
    for row_key, data in rows:
        change = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"  # noqa: S608 - our own words
        connection.execute(change, (flip(data, place), row_key))
    connection.commit()
    connection.close()
    spoilt = DiskJournal(path)
    with pytest.raises(JournalCorruptError):
        spoilt.read()
    spoilt.close()


@pytest.mark.parametrize("spoilt", ["log", "file", "nothing"])
def test_a_bit_that_flipped_in_the_log_sets_a_journal_back_without_a_word(tmp_path: Path, spoilt: str) -> None:
    """What the log holds and the file does not is lost silently: a limit, named in docs/spec/round.md."""
    journal, copy = DiskJournal(tmp_path / "journal.db"), tmp_path / "copy.db"
    journal.write([ReleaseRecord(0, OWNER)])
    journal._cut_log()
    journal.write([ReleaseRecord(1, OWNER)])
    for ending in ("", "-wal"):  # as a crash leaves them: closing would empty the log
        data = (tmp_path / f"journal.db{ending}").read_bytes()
        if (spoilt, ending) == ("log", "-wal"):
            data = flip(data, len(data) // 2)
        Path(f"{copy}{ending}").write_bytes(data)
    journal.close()
    if spoilt == "file":
        connection = sqlite3.connect(copy)
        connection.execute("UPDATE releases SET close = ? WHERE round = 1", (flip(OWNER),))
        connection.commit()
        connection.close()
    again = DiskJournal(copy)
    if spoilt == "file":
        with pytest.raises(JournalCorruptError):
            again.read()
    else:
        assert sorted(again.read().released) == ([0] if spoilt == "log" else [0, 1])
    again.close()


def test_a_vote_state_that_is_gone_is_noticed(played: Path, tmp_path: Path) -> None:
    path = journal_of(played, tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM vote")
    connection.close()
    journal = DiskJournal(path)
    with pytest.raises(JournalCorruptError, match="no vote state"):
        journal.read()
    journal.close()


def test_a_header_without_its_block_is_noticed(played: Path, tmp_path: Path) -> None:
    journal = DiskJournal(journal_of(played, tmp_path))
    header = replace(journal.headers()[-1], round=9)
    journal.write([RoundPassed(header)])
    with pytest.raises(JournalCorruptError, match="round 9"):
        journal.read()
    journal.close()


def test_a_journal_says_where_the_last_round_ended(played: Path, tmp_path: Path) -> None:
    journal = DiskJournal(journal_of(played, tmp_path))
    kept = journal.read()
    assert kept.header == journal.headers()[-1]
    assert kept.header is not None
    assert kept.header.round == 1
    assert kept.model is not None
    assert sha256(kept.model).digest() == kept.header.model
    assert kept.payloads == ()
    closes = [decode_payload(block.payload) for block in journal.archive.blocks if block.payload]
    assert sum(isinstance(payload, Close) for payload in closes) == 2
    assert len(closes[0].reports) == TRAINERS  # type: ignore[union-attr]
    journal.close()


# ------------------------------------------------------------------------------------------------ a real death

DEATH = """
import os, signal, sys
from pathlib import Path
from hashlib import sha256
from collegium.consensus import KeepObject, KeepSecret, ReleaseRecord
from collegium.crypto import SealKey
from collegium.node._journal_disk import DiskJournal, EpochJournals

journal = DiskJournal(Path(sys.argv[1]))
journal.write([ReleaseRecord(0, bytes(32)), KeepSecret(1, SealKey(bytes(range(32))))])

def step():
    yield ReleaseRecord(1, bytes(32))
    yield KeepObject(sha256(bytes(1 << 22)).digest(), bytes(1 << 22))
    os.kill(os.getpid(), signal.SIGKILL)

journal.write(step())
"""


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_transaction_leaves_the_steps_before_it(path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", DEATH, str(path)], check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    journal = DiskJournal(path)
    kept = journal.read()
    assert kept.released == {0: bytes(32)}
    assert kept.secrets[1].secret == bytes(range(32))
    assert journal.get(sha256(bytes(1 << 22)).digest()) is None
    journal.write([ReleaseRecord(1, bytes(32))])
    journal.close()


def test_the_lost_journal_of_an_epoch_is_not_begun_anew_beside_a_later_one(tmp_path: Path) -> None:
    journals = EpochJournals(tmp_path / "epochs")
    for epoch in range(3):
        journals.open(epoch)
    journals.close_all()
    shutil.rmtree(journals.path(1).parent)
    again = EpochJournals(tmp_path / "epochs")
    with pytest.raises(
        LostJournalError, match=r"00001/journal\.db is missing, but 00002 beside it is there"
    ) as refused:
        again.open(1)
    assert refused.value.values["epoch"] == 1
    assert not again.path(1).exists()
    # what is there is opened, and what is to come is made
    assert again.open(0).read() == again.open(3).read() == Kept(None, None)
    again.close_all()
    # an epoch of which only the folder was made has signed nothing, and a folder that was begun is gone on with
    fresh = EpochJournals(tmp_path / "fresh")
    fresh.path(0).parent.mkdir(parents=True)
    fresh.open(0)
    fresh.close_all()
