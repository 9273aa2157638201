"""Secret keys in files that nobody else may read: a member's three in one, or one alone."""

import json
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from collegium.crypto._account import AccountKey
from collegium.crypto._bls import BlsSecretKey
from collegium.crypto._errors import KeyFileError, KeyFileExistsError, KeyFileModeError, MalformedSecretError
from collegium.crypto._random import Randomness
from collegium.crypto._seal import SealKey

__all__ = ["MemberKeys", "SecretKind", "load_keys", "load_secret", "save_keys", "save_secret"]

SecretKind: TypeAlias = Literal["account", "voting", "beacon", "seal", "salts"]
"""What a secret alone in its file is for: an account, votes, a share of the beacon's key, what is sealed to one, or a
steward's salts."""

FORMAT = "collegium/v1/keys"
SECRET_FORMAT = "collegium/v1/secret"  # noqa: S105 - a format's name
SECRET_BYTES = 32
FILE_BYTES_MAX = 4096
_FIELDS = ("format", "account", "bls", "seal")


@dataclass(frozen=True, slots=True, eq=False)
class MemberKeys:
    """The keys of one member: chain account, voting, and sealed columns."""

    account: AccountKey
    bls: BlsSecretKey
    seal: SealKey

    @classmethod
    def generate(cls, random: Randomness) -> "MemberKeys":
        """Return three fresh keys."""
        return cls(AccountKey.generate(random), BlsSecretKey.generate(random), SealKey.generate(random))


def save_keys(path: Path, keys: MemberKeys) -> None:
    """Write `keys` as JSON to a new file of mode 0600, whole or not at all.

    Raises:
        KeyFileExistsError: something is at `path` already.
    """
    _write_private(path, json.dumps(_to_mapping(keys), indent=2) + "\n")


def load_keys(path: Path) -> MemberKeys:
    """Read keys that `save_keys` wrote.

    Raises:
        KeyFileModeError: not a regular file of the caller with mode 0600 or stricter.
        KeyFileError: missing, too long, or not exactly what `save_keys` writes.
    """
    text = _read_private(path)
    keys = _from_text(text)
    if keys is None or json.dumps(_to_mapping(keys), indent=2) + "\n" != text:
        raise KeyFileError(f"{path} is not a key file of format {FORMAT}", path=path)
    return keys


def save_secret(path: Path, kind: SecretKind, secret: bytes) -> None:
    """Write one secret as JSON to a new file of mode 0600, whole or not at all.

    Raises:
        KeyFileExistsError: something is at `path` already.
        KeyFileError: the secret is not 32 bytes.
    """
    if len(secret) != SECRET_BYTES:
        raise KeyFileError(f"a secret of {len(secret)} bytes for {path}, expected {SECRET_BYTES}", path=path)
    _write_private(path, _secret_text(kind, secret))


def load_secret(path: Path, kind: SecretKind) -> bytes:
    """Read a secret that `save_secret` wrote for the same use.

    Raises:
        KeyFileModeError: not a regular file of the caller with mode 0600 or stricter.
        KeyFileError: missing, too long, of another use, or not exactly what `save_secret` writes.
    """
    text = _read_private(path)
    found = re.fullmatch(r'\{\n  .*\n  .*\n  "secret": "([0-9a-f]{64})"\n\}\n', text)
    secret = b"" if found is None else bytes.fromhex(found[1])
    if _secret_text(kind, secret) != text:
        raise KeyFileError(f"{path} is not a file of format {SECRET_FORMAT} for use {kind!r}", path=path)
    return secret


def _secret_text(kind: SecretKind, secret: bytes) -> str:
    return json.dumps({"format": SECRET_FORMAT, "use": kind, "secret": secret.hex()}, indent=2) + "\n"


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, fails if the name is taken: keys are never overwritten.
        os.link(draft, path)
    except FileExistsError:
        raise KeyFileExistsError(f"{path} exists, expected no file: keys are never overwritten", path=path) from None
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _to_mapping(keys: MemberKeys) -> dict[str, str]:
    values = (FORMAT, keys.account.secret.hex(), keys.bls.to_bytes().hex(), keys.seal.secret.hex())
    return dict(zip(_FIELDS, values, strict=True))


def _from_text(text: str) -> MemberKeys | None:
    """Return the keys, or None: errors of the parsers quote what they read, so none of them may get out."""
    try:
        mapping: Any = json.loads(text)
        if not isinstance(mapping, dict) or tuple(mapping) != _FIELDS or mapping["format"] != FORMAT:
            return None
        account, bls, seal = (bytes.fromhex(mapping[name]) for name in _FIELDS[1:])
        return MemberKeys(AccountKey(account), BlsSecretKey.from_bytes(bls), SealKey(seal))
    except (ValueError, TypeError, RecursionError, MalformedSecretError):
        return None


def _read_private(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be opened: {error.strerror}", path=path) from error
    try:
        _check_private(path, os.fstat(descriptor))
        data = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > FILE_BYTES_MAX or not data.isascii():
        raise KeyFileError(f"{path} is not a key file: over {FILE_BYTES_MAX} bytes, or not ASCII", path=path)
    return data.decode("ascii")


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise KeyFileModeError(f"{path} is not a regular file of this user", path=path)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o177:
        raise KeyFileModeError(f"{path} has mode {mode:04o}, expected 0600 or stricter", path=path, mode=mode)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
