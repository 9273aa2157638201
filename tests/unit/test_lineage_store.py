"""The store gives back what was put into it, whole and unchanged, or says by name what is wrong."""

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest

from collegium.lineage import CorruptObjectError, MalformedDigestError, MissingObjectError, Store, TooLargeError

DATA = b"a report"
DIGEST = hashlib.sha256(DATA).digest()
NAME = DIGEST.hex()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "objects" if request.param == "folder" else f"memory://{uuid4().hex}/objects")


def test_an_object_is_found_again_by_its_digest(store: Store) -> None:
    assert store.put(DATA) == DIGEST
    assert store.get(DIGEST, size_max=len(DATA)) == DATA
    assert store.has(DIGEST)


def test_a_missing_object_is_named(store: Store) -> None:
    store.put(DATA)
    other = bytes([DIGEST[0] ^ 1]) + DIGEST[1:]
    assert not store.has(other)
    with pytest.raises(MissingObjectError) as error:
        store.get(other, size_max=100)
    assert error.value.values["digest"] == other


def test_an_object_one_byte_over_the_limit_is_refused(store: Store) -> None:
    store.put(DATA)
    with pytest.raises(TooLargeError):
        store.get(DIGEST, size_max=len(DATA) - 1)


@pytest.mark.parametrize("digest", [DIGEST[:-1], DIGEST + b"\0", NAME, b"../../../../../etc/passwd-------"[:31]])
def test_what_is_not_32_bytes_is_no_digest(store: Store, digest: bytes) -> None:
    with pytest.raises(MalformedDigestError):
        store.get(digest, size_max=100)


def test_the_empty_object_is_an_object(store: Store) -> None:
    assert store.get(store.put(b""), size_max=0) == b""


def test_digests_are_listed_in_order(store: Store) -> None:
    digests = [store.put(bytes([i])) for i in range(20)]
    assert store.digests() == tuple(sorted(digests))


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert store.digests() == ()


def test_an_object_lies_under_its_own_sha256(tmp_path: Path) -> None:
    Store(tmp_path).put(DATA)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [f"{NAME[:2]}/{NAME}"]


@pytest.mark.parametrize("damaged", [b"b report", b"a report\0", b""])
def test_a_damaged_object_is_refused_and_healed_by_the_next_put(tmp_path: Path, damaged: bytes) -> None:
    store = Store(tmp_path)
    store.put(DATA)
    (tmp_path / NAME[:2] / NAME).write_bytes(damaged)
    with pytest.raises(CorruptObjectError):
        store.get(DIGEST, size_max=100)
    store.put(DATA)
    assert store.get(DIGEST, size_max=100) == DATA


def test_a_half_written_object_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(DATA)
    (tmp_path / NAME[:2] / NAME).rename(tmp_path / NAME[:2] / f".{NAME}.1.1.partial")
    assert not store.has(DIGEST)
    assert store.digests() == ()


def test_an_object_in_the_wrong_folder_is_not_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(DATA)
    (tmp_path / NAME[:2]).rename(tmp_path / "zz")
    assert store.digests() == ()
