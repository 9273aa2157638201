"""A trainer's journal on disk, killed at every point: no encoding is opened twice, no second report signed."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from collegium.crypto import hash_fields
from collegium.node import EncodingUsedError
from collegium.node._proofs import NO_PREVIOUS, DataPack, RegistrationRecord
from collegium.node._trainer_disk import SecondReportError, TrainerDisk, TrainerDiskError

ROOTS = tuple(hash_fields("root", number) for number in range(4))
SEEDS = tuple(bytes([number]) * 32 for number in range(4))
RECORD = RegistrationRecord(first_round=4, rows=57, previous=NO_PREVIOUS, roots=ROOTS, proof=b"proof")
PACK = DataPack(RECORD, RECORD.to_bytes(), SEEDS)
NEXT_RECORD = replace(RECORD, first_round=7, previous=PACK.digest, roots=(ROOTS[-1], *ROOTS[:3]))
NEXT = DataPack(NEXT_RECORD, NEXT_RECORD.to_bytes(), SEEDS)
REPORT, OTHER = hash_fields("report"), hash_fields("other report")


def again(disk: TrainerDisk, folder: Path) -> TrainerDisk:
    """Return the journal as the next process finds it."""
    disk.close()
    return TrainerDisk.open(folder)


def test_what_was_sent_stays_used_and_what_was_not_does_not(tmp_path: Path) -> None:
    disk = TrainerDisk.open(tmp_path)
    journal = disk.journal()
    journal.register(PACK)
    journal.use(4)
    disk.keep_upload(4, REPORT, b"signed upload")
    journal.use(5)  # and killed before its upload is kept: nobody has seen that proof
    disk = again(disk, tmp_path)
    journal = disk.journal()
    assert journal.pack == PACK
    assert disk.upload(4) == b"signed upload"
    with pytest.raises(EncodingUsedError, match="round 4 is used up already"):
        journal.use(4)
    assert journal.use(5) == PACK
    disk.close()


def test_a_spare_encoding_counts_as_used_with_the_registration_that_continues_it(tmp_path: Path) -> None:
    disk = TrainerDisk.open(tmp_path)
    journal = disk.journal()
    journal.register(PACK)
    journal.use_spare(PACK.digest)  # and killed before the next registration is made
    disk = again(disk, tmp_path)
    journal = disk.journal()
    journal.use_spare(PACK.digest)
    journal.register(NEXT)
    disk = again(disk, tmp_path)
    journal = disk.journal()
    assert journal.pack == NEXT
    assert PACK.digest in journal.continued
    assert journal.use_spare(NEXT.digest) == NEXT
    disk.close()


def test_a_second_report_for_a_round_is_refused_and_the_first_one_again_is_not(tmp_path: Path) -> None:
    disk = TrainerDisk.open(tmp_path)
    disk.keep_upload(2, REPORT, b"upload")
    disk.keep_upload(2, REPORT, b"upload")
    with pytest.raises(SecondReportError, match="round 2 has report"):
        disk.keep_upload(2, OTHER, b"another")
    disk.forget_upload(2)
    disk = again(disk, tmp_path)
    assert (disk.upload(2), disk.reported(2)) == (None, REPORT)
    with pytest.raises(SecondReportError):
        disk.keep_upload(2, OTHER, b"another")
    disk.close()


def test_the_file_is_its_owners_alone_and_one_processs(tmp_path: Path) -> None:
    disk = TrainerDisk.open(tmp_path / "state")
    disk.journal()
    assert stat.S_IMODE((tmp_path / "state" / "trainer.db").stat().st_mode) == 0o600
    with pytest.raises(TrainerDiskError, match="does another process use it"):
        TrainerDisk.open(tmp_path / "state")
    disk.close()


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainer.db").write_bytes(b"not a database, though long enough to be looked at" * 20)
    with pytest.raises(TrainerDiskError, match="is no journal"):
        TrainerDisk.open(tmp_path)
