"""The manifest of a run: what it lists, and each way in which files or the list itself can be wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from collegium.node import ManifestError, check_manifest, write_manifest

PATHS = ("a.json", "store/ab/cd", "store/ef/01")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of three files with their manifest."""
    for number, name in enumerate(PATHS):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(10 * number))
    write_manifest(tmp_path)
    return tmp_path


def refused(run: Path, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        check_manifest(run)
    assert message in str(caught.value)


def relist(run: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the manifest's lines and give it the digest that fits."""
    *lines, _digest, _end = (run / "MANIFEST").read_text().split("\n")
    body = "".join(f"{line}\n" for line in change(lines))
    (run / "MANIFEST").write_text(f"{body}{sha256(body.encode()).hexdigest()}\n")


def test_every_file_but_the_manifest_is_listed_with_size_and_digest(run: Path) -> None:
    assert check_manifest(run) == PATHS
    lines = (run / "MANIFEST").read_text().splitlines()
    assert lines[0] == "collegium run manifest 1"
    assert lines[2] == f"{sha256(bytes(10)).hexdigest()} 10 store/ab/cd"
    assert len(lines) == 5


def test_the_manifest_depends_on_the_files_alone(run: Path) -> None:
    before = (run / "MANIFEST").read_bytes()
    assert write_manifest(run) == before.decode().splitlines()[-1]
    assert (run / "MANIFEST").read_bytes() == before


def test_an_empty_file_is_a_file(run: Path) -> None:
    assert (run / "a.json").stat().st_size == 0
    (run / "a.json").write_bytes(b"x")
    refused(run, "a.json has 1 bytes, the manifest says 0")


def test_a_changed_byte_is_named(run: Path) -> None:
    (run / "store/ab/cd").write_bytes(bytes(9) + b"\1")
    refused(run, "store/ab/cd hashes to")


def test_a_missing_and_an_extra_file_are_named(run: Path) -> None:
    (run / "extra").write_bytes(b"")
    refused(run, "extra is there but not in the manifest")
    (run / "extra").unlink()
    (run / "a.json").unlink()
    refused(run, "a.json is in the manifest but not there")


def test_a_folder_in_place_of_a_file_is_refused(run: Path) -> None:
    (run / "a.json").unlink()
    (run / "a.json").mkdir()
    refused(run, "a.json is an empty folder")
    (run / "a.json" / "inner").write_bytes(b"")
    refused(run, "a.json is in the manifest but not there")


def test_links_and_pipes_are_refused_even_when_their_bytes_would_fit(
    run: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a").write_bytes(b"")
    (run / "a.json").unlink()
    (run / "a.json").symlink_to(elsewhere / "a")
    refused(run, "a.json is not a plain file")
    (run / "a.json").unlink()
    os.mkfifo(run / "a.json")
    refused(run, "a.json is not a plain file")
    (run / "a.json").unlink()
    (run / "a.json").write_bytes(b"")
    (run / "store").rename(elsewhere / "store")
    (run / "store").symlink_to(elsewhere / "store")
    refused(run, "store is a link, expected a folder")
    with pytest.raises(ManifestError, match="store is a link"):
        write_manifest(run)


def test_a_manifest_that_is_no_plain_file_counts_as_missing(run: Path) -> None:
    (run / "MANIFEST").rename(run / "kept")
    refused(run, "MANIFEST is missing: this is no finished run")
    (run / "MANIFEST").symlink_to(run / "kept")
    refused(run, "MANIFEST is missing")
    (run / "MANIFEST").unlink()
    (run / "MANIFEST").mkdir()
    refused(run, "MANIFEST is missing")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not have the form of a manifest"),
        (b"\n", "does not have the form of a manifest"),
        (b"collegium run manifest 2\n" + b"0" * 64 + b"\n", "does not have the form of a manifest"),
        (b"collegium run manifest 1\n" + b"0" * 64 + b"\n", "does not have the digest on its last line"),
        (b"collegium run manifest 1\n" + b"0" * 64, "does not have the form of a manifest"),
        ("collegium run manifest é\n\n".encode(), "is not plain text: byte 23"),
    ],
)
def test_what_is_no_manifest_is_refused(run: Path, data: bytes, message: str) -> None:
    (run / "MANIFEST").write_bytes(data)
    refused(run, f"MANIFEST {message}")


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"{'0' * 64} 10",
        f"{'0' * 63} 10 a",
        f"{'A' * 64} 10 a",
        f"{'0' * 64} -1 a",
        f"{'0' * 64} 1_0 a",
        f"{'0' * 64} {'1' * 16} a",
        f"{'0' * 64} 10 /etc/passwd",
        f"{'0' * 64} 10 a b",
        f"{'0' * 64} 10 {'a' * 201}",
        f"{'0' * 64}  10 a",
        f"{'0' * 64} 10 a\r",
    ],
)
def test_a_malformed_line_is_shown(run: Path, line: str) -> None:
    relist(run, lambda lines: [*lines, line])
    refused(run, "malformed or repeated line: ")


def test_a_repeated_line_is_refused(run: Path) -> None:
    relist(run, lambda lines: [*lines, lines[-1]])
    refused(run, "malformed or repeated line: ")


def test_a_path_that_leaves_the_folder_is_never_opened(run: Path) -> None:
    (run.parent / "outside").write_bytes(b"")
    relist(run, lambda lines: [*lines, f"{sha256(b'').hexdigest()} 0 ../outside"])
    refused(run, "../outside is in the manifest but not there")


def test_a_manifest_too_large_is_not_read(run: Path) -> None:
    with (run / "MANIFEST").open("r+b") as file:
        file.truncate((64 << 20) + 1)
    refused(run, "MANIFEST has 67108865 bytes, at most 67108864 are read")
