"""The level `attested`: what a task demands of a hardware quote, and where a trainer gets one.

A quote stands where a proof could: same field, same digest in the report's transcript, same evidence. Specified in
docs/spec/attestation.md, section 8.
"""

from __future__ import annotations

import binascii
import os
import selectors
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from collegium import proofs
from collegium.aggregation import RoundTerms
from collegium.crypto import Digest
from collegium.errors import CollegiumError
from collegium.proofs import QuoteBinding, QuotePolicy

__all__ = [
    "Attest",
    "NoQuoteSourceError",
    "QuoteCommandError",
    "QuoteDemand",
    "ask_command",
    "binding_of",
]

NO_DATA_ROOT = bytes(32)  # an attested task registers no rows: which ones were used is the measured code's word
COMMAND_S_MAX = 60.0
OUTPUT_BYTES_MAX = 2 * proofs.ATTESTATION_BYTES_MAX  # base64 takes four thirds, and may be broken into lines
ERRORS_BYTES_MAX = 1 << 16
ERRORS_SHOWN_MAX = 200

Attest: TypeAlias = Callable[[QuoteBinding], bytes]
"""Returns the encoded attestation over `binding.report_data`."""


class NoQuoteSourceError(CollegiumError):
    """Reports must be attested, and nobody said where quotes come from."""


class QuoteCommandError(CollegiumError):
    """The program that should print an attestation cannot be started, fails, hangs, or prints something else."""


@dataclass(frozen=True, slots=True)
class QuoteDemand:
    """What a task accepts, and the time in Unix seconds at which certificates and collateral must be valid."""

    policy: QuotePolicy
    time: int

    def check(self, attestation: bytes, binding: QuoteBinding) -> None:
        """Verify an attestation over a report.

        Raises:
            QuoteError: which of its subclasses says why it is refused.
        """
        proofs.verify_quote(attestation, binding, self.policy, self.time)


def binding_of(terms: RoundTerms, rule: Digest, trainer: bytes, ciphertext: Digest, key_root: Digest) -> QuoteBinding:
    """Return what a report of this round says and its quote must repeat; all of it is fixed before the quote."""
    return QuoteBinding(
        task=terms.task,
        round=terms.round,
        trainer=trainer,
        terms=terms.digest,
        ciphertext=ciphertext,
        key_root=key_root,
        data_root=NO_DATA_ROOT,
        rule=rule,
    )


def ask_command(command: Sequence[str], folder: Path) -> Attest:
    """Return a source of attestations that runs a program in `folder` for each report.

    The program reads the report data from standard input, 128 hexadecimal digits and a newline, and prints the encoded
    attestation in base64; white space does not count.
    """

    def attest(binding: QuoteBinding) -> bytes:
        printed = _run(command, folder, binding.report_data.hex().encode() + b"\n")
        try:
            return b64decode(b"".join(printed.split()), validate=True)
        except binascii.Error as error:
            text = f"{command[0]} printed {len(printed)} bytes that are not base64 ({error}), expected an attestation"
            raise QuoteCommandError(text, command=tuple(command)) from error

    return attest


def _run(command: Sequence[str], folder: Path, given: bytes) -> bytes:
    """Return what a program prints within the bounds of time and size; it and its children end here where it does not.

    Raises:
        QuoteCommandError: it cannot be started, ends with an error, prints too much, or takes too long.
    """
    # what is secret to this process is none of the program's business
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("COLLEGIUM_")}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, env=surroundings, start_new_session=True
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise QuoteCommandError(f"{command[0]} cannot be started: {reason}", command=tuple(command)) from error
    deadline = time.monotonic() + COMMAND_S_MAX
    with process:
        try:
            printed, errors = _exchange(process, command, given, deadline)
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise _too_slow(command) from error
            raise
    if code != 0:
        said = ascii(errors.decode(errors="replace").strip()[:ERRORS_SHOWN_MAX])
        text = f"{command[0]} ended with code {code}, expected 0; it said {said}"
        raise QuoteCommandError(text, command=tuple(command), code=code)
    return printed


def _exchange(
    process: subprocess.Popen[bytes], command: Sequence[str], given: bytes, deadline: float
) -> tuple[bytes, bytes]:
    """Write to a program's standard input, and return what it prints and complains until it closes both."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise QuoteCommandError(f"{command[0]} has no pipes", command=tuple(command))
    with suppress(BrokenPipeError):  # it need not read, and what it prints is checked
        os.write(stdin.fileno(), given)  # fits any pipe's buffer
    stdin.close()
    printed, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ, printed)
        selector.register(stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise _too_slow(command)
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
                del errors[ERRORS_BYTES_MAX:]
            if len(printed) > OUTPUT_BYTES_MAX:
                text = f"{command[0]} printed more than {OUTPUT_BYTES_MAX} bytes, expected an attestation"
                raise QuoteCommandError(text, command=tuple(command))
    return bytes(printed), bytes(errors)


def _too_slow(command: Sequence[str]) -> QuoteCommandError:
    text = f"{command[0]} did not end within {COMMAND_S_MAX:g} s"
    return QuoteCommandError(text, command=tuple(command))
