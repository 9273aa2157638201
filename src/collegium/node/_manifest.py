"""The list of a run's files: path, size and SHA-256 of every other file, and a digest of the list itself.

A run is read only after every raw file has been hashed: whatever opens it next has seen its exact bytes. The manifest
finds damage; against somebody who rewrites it too stand the certificates, sums and the chain (docs/spec/run.md).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from collegium.errors import CollegiumError

__all__ = ["MANIFEST", "ManifestError", "check_manifest", "write_manifest"]

MANIFEST = "MANIFEST"
_TITLE = "collegium run manifest 1"
_BYTES_MAX = 64 << 20
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,15}) ([A-Za-z0-9_.][A-Za-z0-9_./-]{0,199})")


class ManifestError(CollegiumError):
    """The files of a run are not the ones its manifest lists."""


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: str
    size: int
    path: str


def write_manifest(run: Path) -> str:
    """List every file below `run` in MANIFEST and return the list's own digest in hexadecimal."""
    entries = [_entry(run, path) for path in _files(run)]
    body = "".join(f"{line}\n" for line in (_TITLE, *(f"{e.digest} {e.size} {e.path}" for e in entries)))
    digest = sha256(body.encode()).hexdigest()
    (run / MANIFEST).write_text(f"{body}{digest}\n", encoding="ascii")
    return digest


def check_manifest(run: Path) -> tuple[str, ...]:
    """Hash every raw file and compare; return the files' relative paths, sorted.

    Raises:
        ManifestError: naming the first file that is missing, extra or changed, or what is wrong with the list.
    """
    listed = _read(run)
    present = set(_files(run))
    for path in sorted(present | set(listed)):
        if path not in listed:
            raise ManifestError(f"{path} is there but not in the manifest", path=path)
        if path not in present:
            raise ManifestError(f"{path} is in the manifest but not there", path=path)
        size = (run / path).stat().st_size
        if size != listed[path].size:
            raise ManifestError(f"{path} has {size} bytes, the manifest says {listed[path].size}", path=path)
    for path, expected in sorted(listed.items()):  # all sizes fit: only now are bytes read
        found = _entry(run, path)
        if found.digest != expected.digest:
            raise ManifestError(f"{path} hashes to {found.digest}, the manifest says {expected.digest}", path=path)
    return tuple(sorted(listed))


def _read(run: Path) -> dict[str, _Entry]:
    path = run / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise ManifestError(f"{MANIFEST} is missing: this is no finished run", path=MANIFEST)
    if path.stat().st_size > _BYTES_MAX:
        raise ManifestError(f"{MANIFEST} has {path.stat().st_size} bytes, at most {_BYTES_MAX} are read")
    try:
        text = path.read_bytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{MANIFEST} is not plain text: byte {error.start}") from error
    *lines, digest, end = text.split("\n") if text.count("\n") >= 2 else ["", "", "x"]
    if end or not lines or lines[0] != _TITLE:
        raise ManifestError(f"{MANIFEST} does not have the form of a manifest")
    if sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest() != digest:
        raise ManifestError(f"{MANIFEST} does not have the digest on its last line")
    entries: dict[str, _Entry] = {}
    for line in lines[1:]:
        match = _LINE.fullmatch(line)
        if match is None or match[3] in entries:
            raise ManifestError(f"{MANIFEST} has a malformed or repeated line: {line[:80]!a}")
        entries[match[3]] = _Entry(match[1], int(match[2]), match[3])
    return entries


def _files(run: Path) -> list[str]:
    """Return the relative paths of all files but the manifest; links, special files and empty folders are refused."""
    found = []
    for folder, folders, names in os.walk(run, onerror=_refuse_unreadable, followlinks=False):
        if not folders and not names:
            raise ManifestError(f"{_relative(run, folder)} is an empty folder, which no run has")
        for name in folders:
            if Path(folder, name).is_symlink():
                relative = _relative(run, folder, name)
                raise ManifestError(f"{relative} is a link, expected a folder", path=relative)
        for name in names:
            path, relative = Path(folder, name), _relative(run, folder, name)
            if path.is_symlink() or not path.is_file():
                raise ManifestError(f"{relative} is not a plain file", path=relative)
            if relative != MANIFEST:
                found.append(relative)
    return sorted(found)


def _relative(run: Path, *parts: str) -> str:
    return Path(*parts).relative_to(run).as_posix()


def _refuse_unreadable(error: OSError) -> None:
    raise error  # os.walk would pass over a folder that it cannot list


def _entry(run: Path, relative: str) -> _Entry:
    hasher, size = sha256(), 0
    with (run / relative).open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
            size += len(chunk)
    return _Entry(hasher.hexdigest(), size, relative)
