"""A member as `collegium up` starts it, with an ear at every validator: what others say to it is written as it comes.

So a test knows what each validator said by the word of those who heard it, whatever became of the speaker since. What
is written lies beside the member's settings, one file for each process: a kill may cut its last record short.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collegium.apps import _member
from collegium.node import _validator_process as process
from collegium.node._peers import Peers

HEARD: Final = "heard"
KINDS: Final = frozenset({1, 2, 3, 4, 68, 69, 70})  # docs/spec/wire.md: what a validator must not contradict
_RECORD = struct.Struct(">BI")

preload = _member.preload


def main(arguments: Sequence[str]) -> int:
    """Run the member whose settings file is the one argument; if it is a validator, with an ear."""
    folder = Path(arguments[0]).parent / HEARD
    folder.mkdir(exist_ok=True)
    ear = os.open(folder / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def listening(
        index: int, addresses: Any, tls: Any, on_frame: Callable[[int, bytes], Awaitable[None]], *more: Any
    ) -> Peers:
        async def heard(sender: int, frame: bytes) -> None:
            if frame[0] in KINDS:
                os.write(ear, _RECORD.pack(sender, len(frame)) + frame)
            await on_frame(sender, frame)

        return Peers(index, addresses, tls, heard, *more)

    process.Peers = listening  # type: ignore[misc,assignment]
    return _member.main(arguments)


@dataclass(eq=False)
class Ears:
    """What was heard by all validators of a consortium's folder, read as it grows: each word once."""

    folder: Path
    words: dict[tuple[int, bytes], int] = field(default_factory=dict)  # (speaker, frame) -> how many heard it
    _read: dict[Path, int] = field(default_factory=dict)

    def listen(self) -> list[tuple[int, bytes]]:
        """Take in what is new, and return what had not been heard by anybody before."""
        new = []
        for path in sorted(self.folder.glob(f"validators/*/{HEARD}/*")):
            for word in self._records(path):
                if word not in self.words:
                    new.append(word)
                self.words[word] = self.words.get(word, 0) + 1
        return new

    def _records(self, path: Path) -> Iterator[tuple[int, bytes]]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        at = 0
        while at + _RECORD.size <= len(data):
            speaker, length = _RECORD.unpack_from(data, at)
            end = at + _RECORD.size + length
            if end > len(data):
                break
            yield speaker, data[at + _RECORD.size : end]
            at = end
        self._read[path] = self._read.get(path, 0) + at
