"""Half-finished uploads on disk: each a ticket and the bytes so far, in a folder that nobody else can read.

What is here survives the process: an upload goes on where it stood. It is bounded in number and in promised bytes, and
ends with its round. Nothing here knows HTTP.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._desk import Verdict
from ._gateway_problems import (
    AttemptsSpentError,
    DisplacedError,
    MalformedRequestError,
    OffsetError,
    OtherUploadError,
    SpoolFullError,
    UnknownItemError,
    UploadDamagedError,
)
from ._json import decode_canonical
from ._upload_ticket import UploadTicket, check_ticket

__all__ = ["SpoolLimits", "SpooledUpload", "UploadSpool"]

_RECORD_BYTES_MAX: Final = 8192
_DETAIL_LENGTH_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much may be under way at once.

    Attributes:
        bytes_max: lengths that the open uploads' tickets promise, in all.
        attempts_max: uploads of one trainer that a round may refuse before no more of it are looked at.
    """

    uploads_max: int = 1024
    bytes_max: int = 4 << 30
    attempts_max: int = 4


@dataclass(frozen=True)
class _Record:
    """What stands beside an upload's bytes; a settled upload has no bytes any more."""

    ticket: UploadTicket
    verdict: Verdict | None


@dataclass(slots=True, eq=False)
class SpooledUpload:
    """One upload.

    Attributes:
        identity: its name in addresses.
        offset: how many bytes are here.
        turn: grows with every request about it: only the last one may append.
        verdict: None until the validator has spoken.
    """

    identity: str
    ticket: UploadTicket
    offset: int = 0
    turn: int = 0
    verdict: Verdict | None = None

    @property
    def complete(self) -> bool:
        """Whether every byte is here."""
        return self.offset == self.ticket.length

    def take_turn(self) -> int:
        """Displace whoever appends now, and return the number to append under."""
        self.turn += 1
        return self.turn


@dataclass(eq=False)
class UploadSpool:
    """The uploads of one validator, in `folder`.

    Args:
        task, validator: for which tickets must be signed.
    """

    folder: Path
    task: Digest
    validator: int
    limits: SpoolLimits = field(default_factory=SpoolLimits)
    _uploads: dict[str, SpooledUpload] = field(default_factory=dict, init=False)
    _attempts: Counter[tuple[bytes, int]] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for path in sorted(self.folder.glob("*.json")):
            self._find(path)
        for path in self.folder.iterdir():
            if path.stem not in self._uploads:
                path.unlink()

    # -------------------------------------------------------------------------------------------- asked

    def get(self, identity: str) -> SpooledUpload:
        """Return an upload.

        Raises:
            UnknownItemError: there is none of this name.
        """
        upload = self._uploads.get(identity)
        if upload is None:
            raise UnknownItemError(f"no upload {identity[:64]} here: it never began, or its round is over")
        return upload

    @property
    def open(self) -> int:
        """How many uploads are not settled."""
        return sum(upload.verdict is None for upload in self._uploads.values())

    @property
    def promised_bytes(self) -> int:
        """The lengths of all uploads that are not settled."""
        return sum(upload.ticket.length for upload in self._uploads.values() if upload.verdict is None)

    # -------------------------------------------------------------------------------------------- changed

    def begin(self, ticket: UploadTicket) -> SpooledUpload:
        """Return the upload of a good ticket: the one that it began before, or a new one.

        Raises:
            OtherUploadError: the trainer has begun another one in this round.
            AttemptsSpentError: too many of its uploads were refused in this round.
            SpoolFullError: too many uploads, or too many bytes, are under way.
        """
        place = (ticket.trainer, ticket.round)
        for known in self._uploads.values():
            if (known.ticket.trainer, known.ticket.round) == place:
                if known.ticket.digest(self.task, self.validator) == ticket.digest(self.task, self.validator):
                    return known
                raise OtherUploadError(
                    f"ticket for {ticket.length} bytes with SHA-256 {ticket.sha256.hex()}; this trainer has begun "
                    f"{known.ticket.length} bytes with {known.ticket.sha256.hex()} in round {ticket.round}",
                    sha256=ticket.sha256,
                    expected=known.ticket.sha256,
                )
        limits = self.limits
        if self._attempts[place] >= limits.attempts_max:
            raise AttemptsSpentError(
                f"{limits.attempts_max} uploads of this trainer were refused in round {ticket.round}",
                attempts=self._attempts[place],
            )
        if self.open >= limits.uploads_max or self.promised_bytes + ticket.length > limits.bytes_max:
            raise SpoolFullError(
                f"{self.open} uploads of {self.promised_bytes} bytes are under way; expected fewer than "
                f"{limits.uploads_max}, and with these {ticket.length} at most {limits.bytes_max} bytes",
                uploads=self.open,
                bytes=self.promised_bytes,
            )
        upload = SpooledUpload(ticket.identity(self.task, self.validator), ticket)
        self._write(self._bytes_of(upload), b"")
        self._note(upload)
        self._uploads[upload.identity] = upload
        return upload

    def append(self, upload: SpooledUpload, turn: int, offset: int, data: bytes) -> None:
        """Write the next bytes, no more than the ticket says.

        Raises:
            DisplacedError: another request has taken this turn.
            OffsetError: the upload stands elsewhere.
        """
        if turn != upload.turn or upload.identity not in self._uploads:
            raise DisplacedError(f"a later request about upload {upload.identity} takes the place of this one")
        if offset != upload.offset or upload.verdict is not None or offset + len(data) > upload.ticket.length:
            raise OffsetError(
                f"{len(data)} bytes at {offset}, this upload of {upload.ticket.length} stands at {upload.offset}",
                offset=offset,
                expected=upload.offset,
            )
        try:
            with self._bytes_of(upload).open("r+b") as file:
                file.seek(offset)
                file.write(data)
        except FileNotFoundError as error:
            raise self._forgotten(upload) from error
        upload.offset += len(data)

    def read(self, upload: SpooledUpload) -> bytes:
        """Return the bytes of a complete upload.

        Raises:
            UploadDamagedError: they do not have the ticket's SHA-256; they are gone, the upload begins again.
            DisplacedError: its round ended meanwhile.
        """
        try:
            data = self._bytes_of(upload).read_bytes()
        except FileNotFoundError as error:
            raise self._forgotten(upload) from error
        if sha256(data).digest() == upload.ticket.sha256:
            return data
        found = sha256(data).hexdigest()
        self._write(self._bytes_of(upload), b"")
        upload.offset = 0
        raise UploadDamagedError(
            f"{len(data)} bytes with SHA-256 {found}, expected {upload.ticket.sha256.hex()}: begin again at 0",
            sha256=found,
            expected=upload.ticket.sha256,
        )

    def settle(self, upload: SpooledUpload, verdict: Verdict) -> None:
        """Remember the verdict until the round is over, and forget the bytes.

        A refused upload is forgotten as a whole: its trainer may try another one, a few times.
        """
        place = (upload.ticket.trainer, upload.ticket.round)
        upload.verdict = Verdict(verdict.outcome, verdict.reason, verdict.detail[:_DETAIL_LENGTH_MAX])
        if upload.identity not in self._uploads:  # its round ended meanwhile
            return
        if verdict.outcome == "refused":
            self._attempts[place] += 1
            self._forget(upload)
            return
        self._note(upload)
        self._bytes_of(upload).unlink(missing_ok=True)

    def keep_only(self, rounds: Container[int]) -> int:
        """Forget the uploads of all other rounds; return how many of them were not settled."""
        over = [upload for upload in self._uploads.values() if upload.ticket.round not in rounds]
        for upload in over:
            upload.take_turn()
            self._forget(upload)
        for place in [place for place in self._attempts if place[1] not in rounds]:
            del self._attempts[place]
        return sum(upload.verdict is None for upload in over)

    # -------------------------------------------------------------------------------------------- files

    def _forgotten(self, upload: SpooledUpload) -> DisplacedError:
        return DisplacedError(f"upload {upload.identity} is forgotten: its round is over")

    def _bytes_of(self, upload: SpooledUpload) -> Path:
        return self.folder / f"{upload.identity}.part"

    def _note(self, upload: SpooledUpload) -> None:
        """Write an upload's record, whole or not at all."""
        path = self.folder / f"{upload.identity}.json"
        fresh = path.with_suffix(".new")
        self._write(fresh, msgspec.json.encode(_Record(upload.ticket, upload.verdict)))
        fresh.replace(path)

    def _forget(self, upload: SpooledUpload) -> None:
        self._uploads.pop(upload.identity, None)
        (self.folder / f"{upload.identity}.json").unlink(missing_ok=True)
        self._bytes_of(upload).unlink(missing_ok=True)

    def _find(self, path: Path) -> None:
        """Take up an upload that another process left; what cannot be read, or was not signed, is left out."""
        try:
            record = decode_canonical(
                path.read_bytes(), _Record, "record of an upload", _RECORD_BYTES_MAX, MalformedRequestError
            )
            check_ticket(record.ticket, self.task, self.validator)
        except (CollegiumError, OSError):
            return
        upload = SpooledUpload(record.ticket.identity(self.task, self.validator), record.ticket, 0, 0, record.verdict)
        if upload.identity != path.stem:
            return
        part = self._bytes_of(upload)
        if record.verdict is None:
            upload.offset = part.stat().st_size if part.is_file() else -1
            if not 0 <= upload.offset <= record.ticket.length:
                return
        else:
            upload.offset = record.ticket.length
        self._uploads[upload.identity] = upload

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        """Write a file that only this user can read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
