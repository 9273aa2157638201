"""Objects named by their own SHA-256, kept wherever fsspec can write: a folder, memory, a bucket.

The name is the plain SHA-256 of the bytes, without a domain tag, so that `sha256sum` alone checks a folder
(docs/spec/lineage.md, "The store").
"""

import hashlib
import os
import re
import threading
from typing import Any, Final

import fsspec

from collegium.crypto import Digest
from collegium.lineage._errors import CorruptObjectError, MalformedDigestError, MissingObjectError, TooLargeError

_DIGEST_LEN: Final = 32
_NAME: Final = re.compile(r"[0-9a-f]{64}")


class Store:
    """A set of byte strings, each found again by its digest, and checked against it whenever it is read.

    Args:
        url_or_path: a folder of this machine, or any URL that fsspec knows (`memory://runs/a`, `s3://bucket/runs`).

    The object with digest `ab12...` lies at `ab/ab12...`: two hex digits as folder, then all 64 as file name.
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        text = os.fspath(url_or_path)
        # A plain path is taken as it is: fsspec would read "::" and a leading "~" as more than a name.
        local = (fsspec.filesystem("file"), os.path.abspath(text)) if "://" not in text else None
        filesystem, root = local or fsspec.core.url_to_fs(text)
        self._filesystem: Any = filesystem
        self._root: str = str(root).rstrip("/")

    def put(self, data: bytes) -> Digest:
        """Store `data` and return its digest.

        The bytes first go to a neighbouring name that no reader looks at and are then renamed, so a reader sees the
        whole object or none. An object that is already there is left alone, unless it has been damaged: then it is
        written again.
        """
        digest = hashlib.sha256(data).digest()
        try:
            self.get(digest, size_max=len(data))
        except (MissingObjectError, CorruptObjectError, TooLargeError):
            self._write(self._path(digest), data)
        return digest

    def get(self, digest: Digest, size_max: int) -> bytes:
        """Return the object with this digest, after hashing it again.

        Args:
            digest: 32 bytes.
            size_max: the largest object, in bytes, that the caller is ready to hold.

        Raises:
            MalformedDigestError: `digest` is not 32 bytes.
            MissingObjectError: there is no such object.
            TooLargeError: it is longer than `size_max`; no more than `size_max` + 1 bytes are read to see that.
            CorruptObjectError: its bytes hash to something else.
        """
        try:
            with self._filesystem.open(self._path(digest), "rb") as file:
                data = bytes(file.read(size_max + 1))
        except FileNotFoundError as error:
            raise MissingObjectError(f"no object {digest.hex()} in the store", digest=digest) from error
        if len(data) > size_max:
            message = f"object {digest.hex()} is longer than the {size_max} bytes allowed"
            raise TooLargeError(message, digest=digest, size_max=size_max)
        found = hashlib.sha256(data).digest()
        if found != digest:
            message = f"object {digest.hex()} holds bytes that hash to {found.hex()}"
            raise CorruptObjectError(message, digest=digest, found=found)
        return data

    def has(self, digest: Digest) -> bool:
        """Return whether an object lies under this digest, without reading it.

        Raises:
            MalformedDigestError: `digest` is not 32 bytes.
        """
        return bool(self._filesystem.exists(self._path(digest)))

    def digests(self) -> tuple[Digest, ...]:
        """Return the digests of all objects, in ascending order; half-written and foreign files are passed over."""
        names = (str(path).rsplit("/", 2)[-2:] for path in self._filesystem.find(self._root))
        found = {name for folder, name in names if _NAME.fullmatch(name) and name.startswith(folder)}
        return tuple(bytes.fromhex(name) for name in sorted(found))

    def _path(self, digest: Digest) -> str:
        if not isinstance(digest, bytes) or len(digest) != _DIGEST_LEN:
            raise MalformedDigestError(f"a digest is 32 bytes, got {digest!r}", digest=digest)
        name = digest.hex()
        return f"{self._root}/{name[:2]}/{name}"

    def _write(self, path: str, data: bytes) -> None:
        folder, name = path.rsplit("/", 1)
        partial = f"{folder}/.{name}.{os.getpid()}.{threading.get_ident()}.partial"
        self._filesystem.makedirs(folder, exist_ok=True)
        with self._filesystem.open(partial, "wb") as file:
            file.write(data)
            file.flush()
            if isinstance(descriptor := _descriptor(file), int):
                os.fsync(descriptor)  # a rename must not reach the disk before the bytes it names
        self._filesystem.mv(partial, path)


def _descriptor(file: Any) -> int | None:
    """Return the file descriptor below `file` when there is one: memory and buckets have none."""
    try:
        return int(file.fileno())
    except (AttributeError, OSError):
        return None
