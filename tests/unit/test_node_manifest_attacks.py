"""A manifest over files that would take long to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.node import ManifestError, check_manifest, write_manifest
from collegium.node import _manifest as manifest


def test_every_size_is_compared_before_any_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    write_manifest(tmp_path)
    assert check_manifest(tmp_path) == ("a", "b", "c")
    with (tmp_path / "c").open("r+b") as file:
        file.truncate(1 << 40)  # a tebibyte that takes no place on the disk
    monkeypatch.delattr(manifest, "_entry")
    with pytest.raises(ManifestError, match="c has 1099511627776 bytes, the manifest says 1"):
        check_manifest(tmp_path)


def test_a_run_of_many_files_is_listed_once(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number:04}").touch()
    write_manifest(tmp_path)
    assert len(check_manifest(tmp_path)) == 2000
    (tmp_path / "1999").unlink()
    with pytest.raises(ManifestError, match="1999 is in the manifest but not there"):
        check_manifest(tmp_path)
