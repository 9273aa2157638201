"""Where the columns of a proof lie while it is made."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.node import _columns
from collegium.node._columns import allocate_columns
from collegium.node._events import WorldError

SHAPE = (64, 3)


def is_in_memory(array: np.ndarray) -> bool:
    while array.base is not None:
        if not isinstance(array.base, np.ndarray):
            return False
        array = array.base
    return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("limit", "kept"), [(8 * 64 * 3, True), (8 * 64 * 3 - 1, False)], ids=["at", "above"])
def test_columns_above_a_limit_lie_in_a_file_without_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: int, kept: bool
) -> None:
    monkeypatch.setattr(_columns, "COLUMNS_IN_MEMORY_MAX", limit)
    columns = allocate_columns(SHAPE)
    assert (columns.shape, columns.dtype) == (SHAPE, np.uint64)
    assert type(columns) is np.ndarray
    assert columns.flags.c_contiguous
    assert is_in_memory(columns) == kept
    columns[:] = np.arange(columns.size, dtype=np.uint64).reshape(SHAPE)
    assert int(columns[-1, -1]) == columns.size - 1
    assert not list(folder.iterdir())


def test_the_file_is_nobody_elses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    reserve = _columns._reserve

    def watched(file: int, size: int) -> None:
        modes.append(os.fstat(file).st_mode & 0o777)
        assert not list(folder.iterdir())
        reserve(file, size)
        assert os.fstat(file).st_size == size

    monkeypatch.setattr(_columns, "COLUMNS_IN_MEMORY_MAX", 0)
    monkeypatch.setattr(_columns, "_reserve", watched)
    allocate_columns(SHAPE)
    assert modes == [0o600]


def test_a_disk_without_room_is_named_before_anything_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_columns, "COLUMNS_IN_MEMORY_MAX", 0)
    monkeypatch.setattr(_columns, "_reserve", full)
    with pytest.raises(WorldError, match=f"no room for columns of 1536 bytes in {folder}"):
        allocate_columns(SHAPE)


def test_a_thread_keeps_its_columns_and_no_other_sees_them() -> None:
    first, again, smaller = (allocate_columns(shape) for shape in (SHAPE, SHAPE, (32, 3)))
    assert np.shares_memory(first, again)
    assert np.shares_memory(first, smaller)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(allocate_columns, SHAPE).result()
    assert not np.shares_memory(first, other)


def test_large_columns_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_columns, "COLUMNS_KEPT_MAX", 8 * 64 * 3 - 1)
    assert not np.shares_memory(allocate_columns(SHAPE), allocate_columns(SHAPE))
