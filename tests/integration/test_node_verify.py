"""`verify` against whoever damages a run, and against whoever damages it and makes the manifest fit again.

Every refusal must be a verdict with a reason, never an exception. The run is that of `_run_stage.py`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _run_stage import OBJECT_KINDS, TOP_FILES, Copy, PlayedRun, check

from collegium.aggregation import RING_DIMENSION
from collegium.apps._page import render_page
from collegium.apps.cli import main
from collegium.crypto import AccountKey, os_random
from collegium.node import Charge, Verification, decode_run_evidence, encode_run_evidence
from collegium.node._run_files import encode_summary
from collegium.node._statement import decode_statement, encode_statement, sign_statement

pytestmark = pytest.mark.slow

FLIPS_PER_FILE = 2 if os.environ.get("COLLEGIUM_FULL") == "1" else 1
SQLITE_VERSION = range(96, 100)  # of the header of an SQLite file: which library wrote it; zero in a sealed lineage
STAGES = {  # file -> the stages of the verification that may find a change in it
    "genesis.json": ("genesis.json", "ledger.bin"),
    "ledger.bin": ("ledger.bin",),
    "objects.json": ("objects.json", "round"),
    "chain.json": ("chain.json",),
    "statement.json": ("statement.json",),
    "summary.json": ("summary.json",),
    "report.html": ("report.html",),
    "lineage.db": ("lineage.db",),
    "store": ("round",),
}


def refused(verdict: Verification, *reasons: str) -> str:
    """Return the failure of a verdict that must be a refusal for one of these reasons."""
    assert not verdict.ok, "this change went unnoticed"
    assert not verdict.anchored
    assert verdict.summary == {}
    assert verdict.failure is not None
    assert "unforeseen" not in verdict.failure, verdict.failure
    assert not reasons or any(reason in verdict.failure for reason in reasons), verdict.failure
    return verdict.failure


def flips(copy: Copy, seed: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield a sample of (file, position, the file's bytes with one bit of that byte flipped)."""
    draw = random.Random(seed)
    objects = [copy.object(kind, draw.randrange(4)) for kind in OBJECT_KINDS]
    names = [*TOP_FILES, *(path.relative_to(copy.path).as_posix() for path in objects)]
    for name in names:
        data = (copy.path / name).read_bytes()
        for _ in range(FLIPS_PER_FILE):
            at = draw.randrange(len(data))
            yield name, at, data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


# ------------------------------------------------------------------------------------------------ what holds


def test_a_run_verifies_and_says_what_was_checked_and_what_was_not(played: PlayedRun) -> None:
    verdict = check(played.path)
    assert verdict.ok, verdict.failure
    assert verdict.failure is None
    assert not verdict.anchored
    stages = [line.partition(":")[0] for line in verdict.checks]
    derived = ["summary.json", "report.html", "lineage.db"]
    assert stages == ["files", "genesis", "order", "rounds", "chain", "evidence", "statement", *derived, "store"]
    assert [line.partition(":")[0] for line in verdict.unchecked][:3] == [
        "proof of learning",
        "scores",
        "times and energy",
    ]
    assert {**verdict.summary, "page": played.summary["page"]} == played.summary


def test_evidence_that_nobody_signed_is_refused(played: PlayedRun, tmp_path: Path) -> None:
    copy = Copy.of(played.path, tmp_path / "run")
    good = (copy.path / "evidence.json").read_bytes()
    found = decode_run_evidence(good)
    first, second, *rest = found.votes
    assert len(first.voters) >= 11
    swapped = [replace(first, signatures=second.signatures[: len(first.signatures)]), second, *rest]
    lies = {
        "has not signed the header of round 0": encode_run_evidence(swapped, ()),
        "votes are not those of the ledger's rounds": encode_run_evidence(found.votes[:-1], ()),
        "double vote of epoch 3 in 1 parts": encode_run_evidence(found.votes, [Charge("double vote", 3, (b"",))]),
    }
    for reason, data in lies.items():
        with copy.changed("evidence.json", data, listed=True):
            refused(check(copy.path), reason)
    (copy.path / "evidence.json").unlink()
    refused(copy.relist(), "evidence.json is missing, which a run has where its task has courts")


def test_the_anchor_is_what_tells_one_run_from_another(played: PlayedRun, other: PlayedRun) -> None:
    assert check(played.path, played.anchor).anchored
    assert check(played.path, played.anchor.upper()).anchored
    assert check(other.path).ok
    assert played.anchor != other.anchor
    refused(check(other.path, played.anchor), f"this run's anchor is {other.anchor}, expected {played.anchor}")


def test_the_command_says_anchored_only_with_the_right_anchor(
    played: PlayedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(played.path)]) == 0
    assert "verified: self-consistent, not anchored" in capsys.readouterr().out
    assert main(["verify", str(played.path), "--anchor", played.anchor]) == 0
    assert "verified, and it is the run that the anchor names" in capsys.readouterr().out
    assert main(["verify", str(played.path), "--anchor", "ab" * 32]) == 1
    assert "this run's anchor is" in capsys.readouterr().err
    assert main(["verify", str(played.path), "--anchor", "ab" * 31]) == 2
    assert "expected 64 hexadecimal digits" in capsys.readouterr().err


def test_the_command_prints_one_object_for_a_program(played: PlayedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(played.path), "--anchor", played.anchor, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["ok"], verdict["anchored"], verdict["failure"], verdict["level"]) == (True, True, None, "unproved")
    assert verdict["summary"]["anchor"] == played.anchor


# ------------------------------------------------------------------------------------------------ one byte


@pytest.mark.seeds(quick=2, full=40)
def test_a_flipped_byte_in_any_file_is_found_by_the_manifest(copy: Copy, seed: int) -> None:
    for name, at, data in flips(copy, seed):
        with copy.changed(name, data, listed=False):
            failure = refused(check(copy.path), f"files: {name} hashes to")
            assert name in failure, f"byte {at} of {name} is called {failure}"


@pytest.mark.seeds(quick=1, full=20)
def test_a_flipped_byte_behind_a_new_manifest_is_found_by_what_the_file_says(copy: Copy, seed: int) -> None:
    for name, at, data in flips(copy, seed):
        with copy.changed(name, data, listed=True):
            verdict = check(copy.path)
            assert not verdict.ok, f"byte {at} of {name} went unnoticed"
            failure = refused(verdict)
            assert failure.startswith(STAGES[name.partition("/")[0]]), f"byte {at} of {name} was found by {failure}"


def test_a_flipped_byte_anywhere_in_the_manifest_is_found(copy: Copy) -> None:
    data = (copy.path / "MANIFEST").read_bytes()
    draw = random.Random(0)
    title, digest = data.index(b"\n"), data[:-1].rindex(b"\n")
    places = [0, title, title + 3, digest, digest + 5, len(data) - 1, *draw.sample(range(len(data)), 60)]
    for at in places:
        flipped = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        with copy.changed("MANIFEST", flipped, listed=False):
            refused(check(copy.path), "files: MANIFEST")


def test_the_command_names_what_is_broken_and_ends_with_one(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    for listed, reason in ((False, "files: ledger.bin hashes to"), (True, "ledger.bin: ")):
        data = (copy.path / "ledger.bin").read_bytes()
        with copy.changed("ledger.bin", data[:900] + bytes([data[900] ^ 1]) + data[901:], listed=listed):
            assert main(["verify", str(copy.path)]) == 1
            out, err = capsys.readouterr()
            assert "verified" not in out
            assert err.splitlines()[-1].startswith(f"verification failed: {reason}")
            assert "Traceback" not in err


def test_the_lineage_cannot_claim_another_sqlite_to_be_compared_less_strictly(copy: Copy) -> None:
    data = (copy.path / "lineage.db").read_bytes()
    for at in SQLITE_VERSION:
        with copy.changed("lineage.db", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], listed=True):
            refused(check(copy.path), f"lineage.db: the records are equal, but the files differ from byte {at} on")
    assert "lineage.db: made again, equal in bytes" in check(copy.path).checks


# ------------------------------------------------------------------------------------------------ whole files


@pytest.mark.parametrize("name", [*TOP_FILES, *OBJECT_KINDS])
def test_a_missing_file_is_named(copy: Copy, name: str) -> None:
    file = copy.object(name) if name in OBJECT_KINDS else copy.path / name
    copy.remove(file)
    refused(check(copy.path), f"files: {file.relative_to(copy.path).as_posix()} is in the manifest but not there")
    refused(copy.relist(), f"files: {name} is missing, which every run has", "no object")


@pytest.mark.parametrize("name", ["notes.txt", "lineage.db-wal", "store/00", "store/.half.partial", "\udcff\x1b[2J"])
def test_a_file_too_many_is_named(copy: Copy, name: str) -> None:
    file = copy.path / name
    if name == "store/00":
        file = file.with_name("zz") / ("00" * 32)
        file.parent.mkdir()
    file.write_bytes(b"x")
    refused(check(copy.path), f"files: {file.relative_to(copy.path).as_posix()} is there but not in the manifest")
    if name.isascii() and name.isprintable():
        refused(copy.relist(), "is no file of a run")


def test_an_object_that_no_round_names_is_refused(copy: Copy) -> None:
    stray = copy.store(b"stray").hex()
    refused(copy.relist(), f"store/{stray[:2]}/{stray} is no object that a round names")


@pytest.mark.parametrize("keep", ["nothing", "half", "all but one byte"])
@pytest.mark.parametrize("name", [*TOP_FILES, *OBJECT_KINDS])
def test_a_file_cut_short_is_refused(copy: Copy, name: str, keep: str) -> None:
    file = copy.object(name) if name in OBJECT_KINDS else copy.path / name
    relative, data = file.relative_to(copy.path).as_posix(), file.read_bytes()
    short = data[: {"nothing": 0, "half": len(data) // 2, "all but one byte": -1}[keep]]
    with copy.changed(relative, short, listed=False):
        refused(check(copy.path), f"files: {relative} has {len(short)} bytes")
    with copy.changed(relative, short, listed=True):
        refused(check(copy.path), *STAGES[relative.partition("/")[0]])


def test_a_manifest_cut_short_is_refused(copy: Copy) -> None:
    data = (copy.path / "MANIFEST").read_bytes()
    for end in (0, 1, len(data) // 2, len(data) - 1):
        with copy.changed("MANIFEST", data[:end], listed=False):
            refused(check(copy.path), "files: MANIFEST does not have")
    (copy.path / "MANIFEST").unlink()
    refused(check(copy.path), "files: MANIFEST is missing: this is no finished run")


@pytest.mark.parametrize("name", ["summary.json", "MANIFEST", "reports"])
def test_a_link_in_place_of_a_file_is_refused_whatever_it_leads_to(copy: Copy, tmp_path: Path, name: str) -> None:
    file = copy.object(name) if name in OBJECT_KINDS else copy.path / name
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    refused(check(copy.path), "is not a plain file", "files: MANIFEST is missing")


@pytest.mark.parametrize("name", ["store", "store/ab", "extra"])
def test_a_link_in_place_of_a_folder_is_refused_whatever_it_leads_to(copy: Copy, tmp_path: Path, name: str) -> None:
    folder = copy.object("reports").parent if name == "store/ab" else copy.path / name
    if folder.exists():
        folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere" if name != "extra" else copy.path.parent, target_is_directory=True)
    refused(check(copy.path), "is a link, expected a folder")


def test_pipes_and_empty_folders_are_refused(copy: Copy) -> None:
    (copy.path / "empty").mkdir()
    refused(check(copy.path), "files: empty is an empty folder")
    (copy.path / "empty").rmdir()
    os.mkfifo(copy.path / "pipe")
    refused(check(copy.path), "files: pipe is not a plain file")


def test_what_is_no_run_is_refused(played: PlayedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(check(tmp_path), "MANIFEST is missing")
    assert main(["verify", str(tmp_path)]) == 1
    for path in (played.path / "MANIFEST", tmp_path / "nowhere"):
        refused(check(path), "MANIFEST is missing")
        assert main(["verify", str(path)]) == 2  # nothing to verify: the user's slip, no verdict on a run
        assert "expected the folder of a run" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ objects


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_a_renamed_object_is_refused(copy: Copy, kind: str) -> None:
    file = copy.object(kind)
    wrong = file.with_name(file.name[:-1] + ("0" if file.name[-1] != "0" else "1"))
    file.rename(wrong)
    refused(check(copy.path), "is in the manifest but not there", "is there but not in the manifest")
    refused(copy.relist(), "no object")


@pytest.mark.parametrize("kind", ["reports", "key_sums", "ciphertexts"])
def test_objects_that_swapped_their_bytes_are_refused(copy: Copy, kind: str) -> None:
    one, two = copy.object(kind, 0), copy.object(kind, 1)
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    refused(check(copy.path), "files: store/")
    refused(copy.relist(), "holds bytes that hash to")


@pytest.mark.parametrize(("kind", "reason"), [("reports", "is report"), ("key_sums", "is not the key sum of")])
def test_objects_that_swapped_their_places_in_the_index_are_refused(copy: Copy, kind: str, reason: str) -> None:
    def swap(document: dict[str, Any]) -> None:
        one, two = document[kind][:2]
        one[1], two[1] = two[1], one[1]

    copy.edit("objects.json", swap)
    refused(copy.relist(), reason)


def readdress(copy: Copy, kind: str, at: int) -> None:
    """Flip a byte of the first object of a kind, and store and list the result under its own right name."""
    file = copy.object(kind)
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    copy.remove(file)
    digest = b64encode(copy.store(bytes(data))).decode()

    def point(document: dict[str, Any]) -> None:
        if isinstance(document[kind][0], list):
            document[kind][0][1] = digest
        else:
            document[kind][0] = digest
            document[kind].sort(key=b64decode)

    copy.edit("objects.json", point)


@pytest.mark.parametrize(
    ("kind", "at", "reason"),
    [
        ("reports", 40, "round"),  # the trainer's account
        ("reports", -70, "is report"),  # an opening of an audited column
        ("reports", -1, "round"),  # the signature's recovery byte
        ("key_sums", 100, "is not the key sum"),
        ("key_sums", -2, "round"),
        ("ciphertexts", 8 * RING_DIMENSION, "no object"),  # the report names it, and is signed
        ("models", 0, "no object"),  # the certified header names it
    ],
)
def test_an_object_changed_under_a_right_name_is_refused(copy: Copy, kind: str, at: int, reason: str) -> None:
    readdress(copy, kind, at)
    failure = refused(copy.relist(), reason)
    assert failure.startswith("round"), failure


def test_an_index_that_says_more_or_something_else_is_refused(copy: Copy) -> None:
    def misfile(document: dict[str, Any]) -> None:
        document["ciphertexts"].append(document["models"].pop())
        document["ciphertexts"].sort(key=b64decode)

    def twice(document: dict[str, Any]) -> None:
        document["reports"].insert(0, [b64encode(bytes(32)).decode(), document["reports"][0][1]])

    index = (copy.path / "objects.json").read_bytes()
    for change in (misfile, twice):
        copy.edit("objects.json", change)
        refused(copy.relist(), "objects.json is not the list of the")
        (copy.path / "objects.json").write_bytes(index)
    assert copy.relist().ok


# ------------------------------------------------------------------------------------------------ chain


def drop_last_checkpoint(document: dict[str, Any]) -> None:
    for name in ("checkpoints", "certificates", "gas", "calldata_bytes"):
        del document[name][-1]


def drop_last_transaction(document: dict[str, Any]) -> None:
    del document["transcript"]["transactions"][-1]
    del document["transcript"]["receipts"][-1]


def spend_less(document: dict[str, Any]) -> None:
    document["gas"][0] -= 1


def swap_certificates(document: dict[str, Any]) -> None:
    document["certificates"].reverse()


def name_a_node(document: dict[str, Any]) -> None:
    document.update(url="http://127.0.0.1:8545", transcript=None)


def enrich_the_operator(document: dict[str, Any]) -> None:
    document["transcript"]["genesis"]["balances"][0][1] += 1


def sign_anew(document: dict[str, Any]) -> None:
    """Change the last byte of a signature: another account, or none, would have sent this."""
    sent = document["transcript"]["transactions"][3]
    raw = b64decode(sent["raw"])
    sent["raw"] = b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode()


def tick_twice(document: dict[str, Any]) -> None:
    document["transcript"]["transactions"][-1]["timestamp_s"] += 1


def another_state(document: dict[str, Any]) -> None:
    document["transcript"]["state_root"] = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_last_checkpoint, "checkpoints settle 3 rounds of 4"),
        (drop_last_transaction, "transactions were sent, this run sends 24"),
        (spend_less, "checkpoints cost"),
        (swap_certificates, "signature does not verify for digest"),
        (name_a_node, "the record is of http://127.0.0.1:8545, expected embedded"),
        (enrich_the_operator, "genesis is not that of"),
        (sign_anew, "sender is"),
        (tick_twice, "which no run gives it"),
        (another_state, "state root comes out as"),
    ],
)
def test_a_chain_record_that_says_something_else_is_refused(
    copy: Copy, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    copy.edit("chain.json", change)
    failure = refused(copy.relist(), reason)
    assert failure.startswith("chain.json: "), failure


# ------------------------------------------------------------------------------------------------ the operator's word


def restate(copy: Copy, key: AccountKey) -> Verification:
    """Sign a better time and score for round 1, make summary and page of them, and verify."""
    statement = decode_statement((copy.path / "statement.json").read_bytes())
    better = replace(statement.rounds[1], finality_ms=1.0, auc=1.0)
    forged = replace(statement, rounds=(statement.rounds[0], better, *statement.rounds[2:]))
    (copy.path / "statement.json").write_bytes(encode_statement(sign_statement(forged, key)))
    summary = json.loads((copy.path / "summary.json").read_bytes())
    summary["rounds"][1] |= {"finality_ms": 1.0, "auc": 1.0}
    (copy.path / "summary.json").write_bytes(encode_summary(summary))
    (copy.path / "report.html").write_text(render_page(summary), encoding="utf-8")
    return copy.relist()


def test_times_and_scores_rest_on_the_operators_signature_alone(played: PlayedRun, copy: Copy) -> None:
    refused(restate(copy, AccountKey.generate(os_random)), "statement.json: statement is signed by")
    verdict = restate(copy, played.federation.operator)
    assert verdict.ok, verdict.failure
    assert {line.partition(":")[0] for line in verdict.unchecked} >= {"scores", "times and energy"}


def test_a_statement_that_leaves_out_a_round_is_refused(played: PlayedRun, copy: Copy) -> None:
    statement = decode_statement((copy.path / "statement.json").read_bytes())
    forged = sign_statement(replace(statement, rounds=statement.rounds[:-1]), played.federation.operator)
    (copy.path / "statement.json").write_bytes(encode_statement(forged))
    refused(copy.relist(), "the statement is not about the ledger's rounds")


# ------------------------------------------------------------------------------------------------ pieces of another run


@pytest.mark.parametrize("name", TOP_FILES)
def test_a_file_of_another_run_of_the_same_experiment_is_refused(copy: Copy, other: PlayedRun, name: str) -> None:
    shutil.copyfile(other.path / name, copy.path / name)
    refused(check(copy.path), f"files: {name}")
    refused(copy.relist(), *STAGES[name])


def test_summary_page_and_lineage_of_another_run_together_are_refused(copy: Copy, other: PlayedRun) -> None:
    for name in ("statement.json", "summary.json", "report.html", "lineage.db"):
        shutil.copyfile(other.path / name, copy.path / name)
    refused(copy.relist(), "statement.json: statement is about header")


# ------------------------------------------------------------------------------------------------ the world


def test_a_file_that_cannot_be_read_is_a_verdict_too(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == "ledger.bin":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    refused(check(copy.path), "ledger.bin: cannot be read: [Errno 13]")
