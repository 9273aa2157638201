"""A step of the contract that is due, carried through: by a transaction that a kill left, by a new one, or by somebody.

Anyone may send what a quorum has signed, from another account or with the same key, and a process may be killed at any
moment. So what the contract holds decides whether a step is done, and never that a transaction of ours was sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import rlp

from collegium.errors import CollegiumError
from collegium.settlement import (
    Chain,
    ContractRefusedError,
    Receipt,
    TransactionFailedError,
    TransactionRefusedError,
)

from ._base_chain import BaseChain, ChainRecordError
from ._events import WorldError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["PENDING", "DueStep", "NonceSpentError", "StepSender", "read_file", "replace_file"]

PENDING: Final = "pending.tx"  # in the folder of the relayer's state
NONCE_FIELD: Final = 1  # of a transaction of type 2
REFUSALS: Final = (ContractRefusedError, TransactionFailedError, TransactionRefusedError)


class NonceSpentError(CollegiumError):
    """A transaction's nonce belongs to another transaction of the same account, which may still wait for its block."""


@dataclass(frozen=True, slots=True)
class DueStep:
    """A checkpoint or an epoch's opening that the chain's record does not have yet.

    Attributes:
        what: names it in the log.
        certificate: of the set in office, with which `send` sends it.
        done: asks the contract whether it has it, whoever sent it.
        send: sends it and enters it into the record.
        enter: enters into the record what the contract has: with which certificate, and for how much gas of ours.
    """

    what: str
    certificate: bytes
    done: Callable[[], bool]
    send: Callable[[], object]
    enter: Callable[[bytes, int], object]


@dataclass(eq=False)
class StepSender:
    """Carries steps through, each transaction to a node on disk before it is sent.

    The embedded chain dies with this process and is executed again from its record, so nothing is noted for it.
    """

    chain: BaseChain
    state: Path
    log: FilteringBoundLogger
    certificate: bytes = b""  # of what is being sent

    def __post_init__(self) -> None:
        if self.chain.url is not None:
            self.chain.chain = cast(Chain, _Noted(self.chain.chain, self._note))

    def carry_through(self, step: DueStep) -> None:
        """Return once the contract has the step and the record too; `forget` when the record is on disk.

        Raises:
            NonceSpentError: look again later.
            ContractRefusedError, TransactionFailedError, TransactionRefusedError: the contract or the chain refuses the
                step, and nobody else's has come before.
            ChainRecordError: the contract has something else, or the note is malformed.
        """
        if self._carried_before(step):
            return
        if step.done():
            self._enter_others(step)
            return
        self.certificate = step.certificate
        try:
            step.send()
        except REFUSALS as error:
            spent = isinstance(error, TransactionRefusedError) and self._nonce_is_spent()
            if step.done():
                self._enter_others(step)
            elif spent:
                self.forget()
                raise NonceSpentError(f"{step.what}: {error}") from error
            else:
                self.forget()
                raise

    def forget(self) -> None:
        """Drop the note."""
        (self.state / PENDING).unlink(missing_ok=True)

    def _carried_before(self, step: DueStep) -> bool:
        """See the transaction through that a kill or a silent node left behind, if there is one and it serves.

        What is due next is what was due then. It is sent again only where no block is known to hold it and the contract
        does not have the step; the contract is asked first, lest it takes the step between the two questions.
        """
        noted = self._noted()
        if noted is None:
            return False
        certificate, raw = noted
        if any(sent.raw == raw for sent in self.chain.record().sent):  # of the step before: the record came to disk
            self.forget()
            return False
        done, chain, reason = step.done(), self.chain.chain, "nobody knows it, and the contract needs it no more"
        receipt: Receipt | None = chain.mined(raw)
        if receipt is None and not done:
            self.certificate = certificate
            try:
                receipt = chain.send(raw)
            except TransactionRefusedError as error:
                reason = str(error)
        if receipt is not None and receipt.succeeded:
            step.enter(certificate, receipt.gas)
            return True
        if receipt is not None:
            reason = f"it reverted in block {receipt.block}"
        self.log.warning("transaction_dropped", step=step.what, reason=reason)
        self.forget()
        return False

    def _enter_others(self, step: DueStep) -> None:
        """Enter a step that the contract has by somebody else's transaction: our certificate proves it as well."""
        self.forget()
        step.enter(step.certificate, 0)
        self.log.info("settled_by_another", step=step.what)

    def _nonce_is_spent(self) -> bool:
        """Ask whether the account has gone beyond the nonce of the transaction that was refused."""
        noted = self._noted()
        if noted is None:
            return False
        nonce = int.from_bytes(_fields(noted[1])[NONCE_FIELD], "big")
        return self.chain.chain.nonce(self.chain.operator.address) > nonce

    def _noted(self) -> tuple[bytes, bytes] | None:
        """Return the transaction that was noted, behind the certificate that it carries."""
        pending = self.state / PENDING
        if not pending.exists():
            return None
        try:
            certificate, raw = cast(list[bytes], rlp.decode(read_file(pending)))
            if not isinstance(certificate, bytes):
                raise TypeError(f"the certificate is a {type(certificate).__name__}, expected bytes")
            _fields(raw)
        except (rlp.RLPException, RecursionError, ValueError, TypeError, IndexError) as error:
            raise ChainRecordError(
                f"{pending}: {type(error).__name__}; expected a certificate and the transaction that carries it"
            ) from error
        return certificate, raw

    def _note(self, raw: bytes) -> None:
        """Write a transaction down before it is sent."""
        replace_file(self.state / PENDING, rlp.encode([self.certificate, raw]))


class _Noted:
    """A chain that writes each transaction down before it sends it."""

    def __init__(self, chain: Chain, note: Callable[[bytes], None]) -> None:
        self._chain, self._note = chain, note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def send(self, raw: bytes) -> Receipt:
        """Write down, then send."""
        self._note(raw)
        return self._chain.send(raw)


def read_file(path: Path) -> bytes:
    """Return a file of the relayer.

    Raises:
        WorldError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}; expected a file of the relayer") from error


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file, whole or not at all; it is on disk when this returns.

    Raises:
        WorldError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}; the chain's record cannot be written") from error


def _fields(raw: bytes) -> list[bytes]:
    """Return the fields of a transaction of type 2."""
    fields = cast(list[bytes], rlp.decode(raw[1:]))
    if not isinstance(fields[NONCE_FIELD], bytes):
        raise TypeError(f"a nonce is a list of {len(fields[NONCE_FIELD])}, expected bytes")
    return fields
