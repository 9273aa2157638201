"""A lineage's file in the hands of somebody who changes it: refused by name, whatever SQLite makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from collegium.crypto import hash_fields
from collegium.lineage import DifferentLineageError, Lineage, NotALineageError, Store, same_database
from collegium.lineage import _compare as compare
from collegium.lineage._layout import blanked

PAGE = 4096


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sealed file of forty records, some with parents."""
    path = tmp_path_factory.mktemp("sealed") / "run.db"
    digests = [hash_fields("attacked", number) for number in range(40)]
    with Lineage(path) as lineage, lineage.atomic():
        for number, digest in enumerate(digests):
            parents = [(parent, "report", 1) for parent in digests[max(0, number - 3) : number]]
            lineage.record("report", number, digest, "trainer of a clinic", parents, {"weight": number})
    return path.read_bytes()


@pytest.fixture
def run(tmp_path: Path, sealed: bytes) -> Path:
    """A test's own copy of that file."""
    path = tmp_path / "run.db"
    path.write_bytes(sealed)
    return path


def changed(run: Path, *changes: tuple[int, int]) -> Path:
    """Return a copy with bytes at some positions replaced."""
    data = bytearray(run.read_bytes())
    for at, byte in changes:
        data[at] = byte
    other = run.with_name("other.db")
    other.write_bytes(data)
    return other


def unused(run: Path) -> int:
    """Return the position of a byte that no record, key or pointer takes."""
    gap = bytes(64)
    return run.read_bytes().index(gap, PAGE) + 32


@pytest.mark.seeds(quick=60, full=5000)
def test_a_flipped_byte_is_refused_by_name_wherever_it_is(run: Path, seed: int) -> None:
    draw, data = random.Random(seed), run.read_bytes()
    at = draw.randrange(len(data)) if seed % 3 else draw.randrange(100)
    other = changed(run, (at, data[at] ^ draw.choice([0xFF, 1 << draw.randrange(8)])))
    with pytest.raises((DifferentLineageError, NotALineageError)):
        same_database(run, other)
    assert same_database(run, changed(run)) == "bytes"


def test_text_that_is_no_utf8_is_no_lineage(run: Path) -> None:
    at = run.read_bytes().index(b"trainer of a clinic")
    other = changed(run, (at, 0xFF))
    with pytest.raises(NotALineageError):
        same_database(run, other)
    with Lineage(other, read_only=True) as lineage:
        for read in (lineage.records, lineage.models, lineage.dump, lineage.verify):
            with pytest.raises(NotALineageError):
                read()


def test_a_schema_that_is_no_utf8_is_no_lineage(run: Path) -> None:
    other = changed(run, (run.read_bytes().index(b"CREATE TABLE") + 20, 0xFF))
    with pytest.raises(NotALineageError, match="is not a lineage"):
        Lineage(other, read_only=True)
    with pytest.raises(NotALineageError):
        same_database(run, other)


@pytest.mark.parametrize("changes", [((18, 2), (19, 2)), ((19, 9),), ((0, 0),), ((16, 0), (17, 1)), ((47, 9),)])
def test_headers_that_sqlite_does_not_take_are_refused_by_name(run: Path, changes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises((NotALineageError, DifferentLineageError)):
        same_database(run, changed(run, *changes))
    assert sorted(path.name for path in run.parent.iterdir()) == ["other.db", "run.db"]


@pytest.fixture
def another_layout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine's SQLite be one that does not write what is expected."""
    monkeypatch.setattr(compare, "STANDARD_LAYOUT", "00" * 32)
    compare.lays_out_as_standard.cache_clear()
    yield
    compare.lays_out_as_standard.cache_clear()


def test_this_machine_lays_out_files_as_expected() -> None:
    assert compare.lays_out_as_standard(), "this SQLite lays out pages in another way: runs are compared by records"


@pytest.mark.usefixtures("another_layout")
def test_only_a_machine_that_lays_out_files_in_another_way_compares_records(run: Path) -> None:
    assert same_database(run, changed(run, (unused(run), 1))) == "records"
    other = changed(run, (run.read_bytes().index(b"trainer of a clinic"), ord("b")))
    with pytest.raises(DifferentLineageError, match=r"record \d+ differs"):
        same_database(run, other)


def test_elsewhere_a_byte_that_no_record_takes_is_refused_too(run: Path) -> None:
    at = unused(run)
    with pytest.raises(DifferentLineageError) as error:
        same_database(run, changed(run, (at, 1)))
    assert error.value.values["offset"] == at


def test_sealing_blanks_what_nobody_reads(run: Path) -> None:
    data = run.read_bytes()
    dirty = changed(run, (unused(run), 1), (97, 5))
    assert blanked(data, PAGE) == data
    assert blanked(dirty.read_bytes(), PAGE) == data
    kept = changed(run, (data.index(b"trainer of a clinic"), ord("b"))).read_bytes()
    assert blanked(kept, PAGE) == kept


@pytest.mark.parametrize("name", ["a::b", "memory::x", "file:x", "~", "http::x", "* [y]", "q?#%41"])
def test_a_store_lies_in_the_folder_that_it_is_given(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = Store(tmp_path / name).put(b"a report")
    assert (tmp_path / name / digest.hex()[:2] / digest.hex()).read_bytes() == b"a report"
    for path in (tmp_path / name, name, f"{name}/"):
        assert Store(path).get(digest, 100) == b"a report"
        assert Store(path).digests() == (digest,)
        assert Store(path).has(digest)


def test_a_url_is_still_a_url(tmp_path: Path) -> None:
    digest = Store(tmp_path / "here").put(b"a report")
    assert Store(f"file://{tmp_path}/here").get(digest, 100) == b"a report"
    assert not Store("memory://elsewhere/here").has(digest)
