"""A step that is due, carried through: by a transaction that a kill left, by a new one, or by somebody.

Anyone may send what a quorum has signed, from another account or with the same key, a process may be killed at any
moment, and a chain may take back its last blocks. So what the contract holds decides whether a step is done, and never
that a transaction of ours was sent.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import rlp

from collegium.errors import CollegiumError
from collegium.settlement import (
    Chain,
    ContractRefusedError,
    Fees,
    GasPolicy,
    Receipt,
    TransactionFailedError,
    TransactionNotMinedError,
    TransactionRefusedError,
    sign_transaction,
)

from ._base_chain import BaseChain, CertifiedStep, TakenStep
from ._chain_record import ChainRecordError
from ._events import WorldError
from ._relay_metrics import RelayMetrics

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["PENDING", "NonceSpentError", "RelayPolicy", "StepSender", "read_file", "replace_file"]

PENDING: Final = "pending.tx"  # in the folder of the relayer's state
REPLACEMENTS_MAX: Final = 64  # of one transaction, each an eighth dearer: the last offers two thousand times the first
REFUSALS: Final = (ContractRefusedError, TransactionFailedError, TransactionRefusedError)


class NonceSpentError(CollegiumError):
    """A transaction's nonce belongs to another transaction of the same account, which may still wait for its block."""


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """How a relayer deals with a node.

    Attributes:
        confirmations: blocks that must follow the one with a step, before the relayer goes on.
        gas: what it offers.
        replace_after_s: how long a transaction may wait before one that offers more replaces it.
    """

    confirmations: int = 0
    gas: GasPolicy = field(default_factory=GasPolicy)
    replace_after_s: int = 300


@dataclass(frozen=True, slots=True)
class _Fields:
    """What a transaction of type 2 says."""

    nonce: int
    fees: Fees
    gas_max: int
    to: bytes
    value: int
    data: bytes


@dataclass(eq=False)
class StepSender:
    """Carries the steps of one chain through, each transaction to a node on disk before it is sent.

    The embedded chain dies with this process and is executed again from its record, so nothing is noted for it.

    Attributes:
        write: puts the chain's record on disk.
        lost: steps that a reorganisation took back, until the chain has them again.
    """

    chain: BaseChain
    state: Path
    log: FilteringBoundLogger
    write: Callable[[], None] = lambda: None
    policy: RelayPolicy = field(default_factory=RelayPolicy)
    metrics: RelayMetrics = field(default_factory=RelayMetrics)
    certificate: bytes = b""  # of what is being sent
    lost: deque[TakenStep] = field(default_factory=deque)
    seen: tuple[int, int] = (0, 0)  # steps taken, and the block at which so many were first seen
    waited: set[bytes] = field(default_factory=set)  # transactions that no block took in time, in this life

    def __post_init__(self) -> None:
        if self.chain.url is not None:
            self.chain.chain = cast(Chain, _Noted(self.chain.chain, self))

    def carry_through(self, step: CertifiedStep) -> None:
        """Return once the contract has the step and the record too, which is then on disk.

        Raises:
            NonceSpentError: look again later.
            GasCeilingError: gas costs too much now.
            ContractRefusedError, TransactionFailedError, TransactionRefusedError: the contract or the chain refuses the
                step, and nobody else's has come before.
            ChainRecordError: the contract has something else, or the note is malformed.
        """
        self.bring_back()
        taken = self.chain.taken
        if taken and taken[-1].step.what == step.what:
            return  # among those brought back
        self._carry(step)
        self._finish()

    def bring_back(self) -> None:
        """Carry what a reorganisation took back through again, with the transactions that had brought it if they serve.

        Raises:
            CollegiumError: as `carry_through`; what is left is carried through the next time.
        """
        if self.chain.url is None:
            return
        lost = self.chain.take_back()
        if lost:
            self.lost.extendleft(reversed(lost))
            self.metrics.lost(self.chain.place, len(lost))
            self.log.warning("reorganised", chain=self.chain.place, steps=len(lost), first=lost[0].step.name)
        while self.lost:
            step, sent = self.lost[0].step, self.lost[0].sent
            if sent is not None:
                self._write_note(step.certificate, [sent.raw])
            self._carry(step)
            self.lost.popleft()
            self.log.info("brought_back", chain=self.chain.place, step=step.name)
            if not self.lost:  # before, the record on disk is the only place that has the certificates of the others
                self._finish()

    def is_deep(self) -> bool:
        """Ask whether the last step is as many blocks deep as the policy wants; first bring back what was lost."""
        self.bring_back()
        taken = len(self.chain.taken)
        if self.chain.url is None or not taken or not self.policy.confirmations:
            return True
        last = self.chain.chain.block_number()
        if self.seen[0] != taken:
            self.seen = (taken, last)
        block, sent = self.seen[1], self.chain.taken[-1].sent
        if sent is not None:  # its receipt says in which block it is now
            receipt = self.chain.chain.mined(sent.raw)
            block = last if receipt is None else receipt.block
        return last - block >= self.policy.confirmations

    def _carry(self, step: CertifiedStep) -> None:
        """Have the contract take a step, and enter it."""
        if self._carried_before(step):
            return
        if self.chain.has(step.what):
            self._enter_others(step)
            return
        self.certificate = step.certificate
        try:
            self.chain.take(step)
        except REFUSALS as error:
            spent = isinstance(error, TransactionRefusedError) and self._nonce_is_spent()
            if self.chain.has(step.what):
                self._enter_others(step)
            elif spent:
                self._forget()
                raise NonceSpentError(f"{step.name}: {error}") from error
            else:
                self._forget()
                raise

    def _carried_before(self, step: CertifiedStep) -> bool:
        """See the transaction through that a kill or a silent node left behind, if there is one and it serves.

        What is due next is what was due then. It is sent again only where no block is known to hold it and the contract
        does not have the step; the contract is asked first, lest it takes the step between the two questions.
        """
        noted = self._noted()
        if noted is None:
            return False
        certificate, raws = noted
        if any(sent.raw in raws for sent in self.chain.sent):  # of the step before: the record came to disk
            self._forget()
            return False
        done, reason = self.chain.has(step.what), "nobody knows it, and the contract needs it no more"
        receipt = self._mined(raws)
        if receipt is None and not done:
            self.certificate = certificate
            try:
                receipt = self._send_again(step, raws)
            except TransactionRefusedError as error:
                receipt, reason = self._mined(raws), str(error)
        if receipt is not None and receipt.succeeded:
            self.chain.enter(CertifiedStep(step.what, certificate), receipt.gas, receipt.transaction)
            return True
        if receipt is not None:
            reason = f"it reverted in block {receipt.block}"
        self.log.warning("transaction_dropped", chain=self.chain.place, step=step.name, reason=reason)
        self._forget()
        return False

    def _mined(self, raws: list[bytes]) -> Receipt | None:
        """Ask for the receipt of the one of these transactions, all of one nonce, that a block holds."""
        found = (self.chain.chain.mined(raw) for raw in reversed(raws))
        return next((receipt for receipt in found if receipt is not None), None)

    def _send_again(self, step: CertifiedStep, raws: list[bytes]) -> Receipt:
        """Send a transaction again that no block holds; one that offers more, if it has had its time.

        Raises:
            TransactionRefusedError: it cannot be mined any more, nor ever while a nonce below its own is missing.
        """
        chain, account, newest = self.chain.chain, self.chain.operator, raws[-1]
        fields = _decode(newest)
        if chain.nonce(account.address) < fields.nonce:
            raise TransactionRefusedError(
                f"nonce gap: the account's next transaction is number {chain.nonce(account.address)}, this is "
                f"{fields.nonce}",
                nonce=fields.nonce,
            )
        if newest not in self.waited or len(raws) > REPLACEMENTS_MAX:
            return chain.send(newest)
        if chain.nonce(account.address, mined=True) < fields.nonce:
            self.log.warning("waits_behind_another", chain=self.chain.place, step=step.name, nonce=fields.nonce)
            return chain.send(newest)
        fees = self.policy.gas.replacement(fields.fees, cast(_Noted, chain).market())
        raw = sign_transaction(
            account,
            chain_id=chain.chain_id,
            nonce=fields.nonce,
            fees=fees,
            gas_max=fields.gas_max,
            to=fields.to,
            value=fields.value,
            data=fields.data,
        )
        self.log.info("replaced", chain=self.chain.place, step=step.name, gas_price_max=fees.gas_price_max)
        self.metrics.replaced(self.chain.place)
        self._write_note(self.certificate, [*raws, raw])
        try:
            return cast(_Noted, chain).send_noted(raw)
        except TransactionRefusedError as error:
            if chain.nonce(account.address, mined=True) > fields.nonce:
                raise
            self._write_note(self.certificate, raws)  # what it was to replace may still be mined
            raise NonceSpentError(f"{step.name}: its replacement was refused: {error}") from error

    def _enter_others(self, step: CertifiedStep) -> None:
        """Enter a step that the contract has by somebody else's transaction: our certificate proves it as well."""
        self._forget()
        self.chain.enter(step, 0)
        self.log.info("settled_by_another", chain=self.chain.place, step=step.name)

    def _nonce_is_spent(self) -> bool:
        """Ask whether the account has gone beyond the nonce of the transaction that was refused."""
        noted = self._noted()
        return noted is not None and self.chain.chain.nonce(self.chain.operator.address) > _decode(noted[1][-1]).nonce

    def _noted(self) -> tuple[bytes, list[bytes]] | None:
        """Return the transactions that were noted, one nonce's, behind the certificate that they carry."""
        pending = self.state / PENDING
        if not pending.exists():
            return None
        try:
            certificate, *raws = cast(list[bytes], rlp.decode(read_file(pending)))
            if not isinstance(certificate, bytes):
                raise TypeError(f"the certificate is a {type(certificate).__name__}, expected bytes")
            if not 1 <= len(raws) <= REPLACEMENTS_MAX + 1:
                raise ValueError(f"{len(raws)} transactions, expected 1 to {REPLACEMENTS_MAX + 1}")
            for raw in raws:
                _decode(raw)
        except (rlp.RLPException, RecursionError, ValueError, TypeError, IndexError) as error:
            raise ChainRecordError(
                f"{pending}: {type(error).__name__}; expected a certificate and the transactions that carry it"
            ) from error
        return certificate, raws

    def note(self, raw: bytes) -> None:
        """Write a new transaction down before it is sent."""
        noted = self._noted()
        if noted is None or raw not in noted[1]:  # one that is sent again stays among those that it replaced
            self._write_note(self.certificate, [raw])

    def _write_note(self, certificate: bytes, raws: list[bytes]) -> None:
        replace_file(self.state / PENDING, rlp.encode([certificate, *raws]))

    def _finish(self) -> None:
        """Write the record, and only then forget what was noted."""
        self.write()
        self._forget()

    def _forget(self) -> None:
        """Drop the note."""
        (self.state / PENDING).unlink(missing_ok=True)


class _Noted:
    """A node's chain as the relayer uses it: each transaction on disk before it is sent, at the price of the policy."""

    def __init__(self, chain: Chain, sender: StepSender) -> None:
        self._chain, self._sender = chain, sender

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def market(self) -> Fees:
        """Return what the chain proposes."""
        return self._chain.fees()

    def fees(self) -> Fees:
        """Return what the policy offers."""
        return self._sender.policy.gas.offer(self.market())

    def send(self, raw: bytes) -> Receipt:
        """Write down, then send."""
        self._sender.note(raw)
        return self.send_noted(raw)

    def send_noted(self, raw: bytes) -> Receipt:
        """Send what is written down."""
        try:
            return self._chain.send(raw)
        except TransactionNotMinedError:
            self._sender.waited.add(raw)
            raise


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


def _decode(raw: bytes) -> _Fields:
    """Return what a transaction of type 2 says.

    Raises:
        RLPException, ValueError, TypeError, IndexError: it is none.
    """
    found = cast(list[Any], rlp.decode(raw[1:]))
    texts = [found[at] for at in range(1, 8)]
    if not all(isinstance(text, bytes) for text in texts):
        raise TypeError("a field is a list, expected bytes")
    nonce, tip, price, gas_max, to, value, data = texts
    number = int.from_bytes
    return _Fields(
        number(nonce, "big"),
        Fees(number(price, "big"), number(tip, "big")),
        number(gas_max, "big"),
        to,
        number(value, "big"),
        data,
    )
