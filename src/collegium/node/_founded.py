"""What a member of a consortium finds on its task's chains before it works: that the operator founded what was agreed.

The operator's record is not believed: each of its transactions must be the one that genesis demands, and nodes must
have each in a block. A contract's address follows from its creation, so what stands there is what was created.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from collegium.settlement import JsonRpcChain, read_budget

from ._base_chain import CHAIN_FAILURES
from ._chain_check import check_founded
from ._chain_record import RECORD_BYTES_MAX, ChainRecord, ChainRecordError, decode_chain_record
from ._chain_terms import HOME
from ._consortium import EVALUATOR, GENESIS, ConsortiumError, read_genesis
from ._events import WorldError
from ._experiment import experiment_from_bytes

__all__ = ["FoundedChain", "UnfoundedError", "look_at_founding"]


class UnfoundedError(ChainRecordError):
    """A node does not have what the operator's record says that it was sent."""


@dataclass(frozen=True, slots=True)
class FoundedChain:
    """One chain of a task as a member finds it.

    Attributes:
        url: the node that was asked; None of an embedded chain, which its record holds whole.
        settlement: where the contract Settlement is.
        transactions: that founded the task there.
        budget: what it has to pay for rounds, in wei; None where it pays nothing, or there is no node to ask.
    """

    url: str | None
    settlement: bytes
    transactions: int
    budget: int | None = None


def look_at_founding(home: Path, path: Path, url: str | None = None) -> tuple[FoundedChain, ...]:
    """Return the chains of a member's task, the home first, if each has everything that founds it, budget and all.

    Args:
        home: the member's own folder, settled.
        path: the operator's record, as `settle` wrote it: of the founding and of nothing after it.
        url: a node to ask instead of the home's.

    Raises:
        ChainRecordError: the record is not of this founding.
        UnfoundedError: a node does not have a transaction.
        ConsortiumError, GenesisError: the folder is not settled, or there is no record.
        WorldError: a node does not answer.
    """
    own = home / EVALUATOR if (home / EVALUATOR).is_dir() else home
    genesis = read_genesis(own / GENESIS)
    try:
        with path.open("rb") as file:
            record = decode_chain_record(file.read(RECORD_BYTES_MAX + 1))
    except OSError as error:
        raise ConsortiumError(f"{path}: {error.strerror}; expected the operator's record of the chains") from error
    check_founded(record, genesis, experiment_from_bytes(genesis.experiment))
    records: Sequence[ChainRecord] = (record.alone, *record.followed_by)
    try:
        return tuple(
            _look(found, (url if place == HOME else None) or found.url) for place, found in enumerate(records, HOME)
        )
    except CHAIN_FAILURES as error:
        raise WorldError(str(error)) from error


def _look(record: ChainRecord, url: str | None) -> FoundedChain:
    """Return what a node has of one chain's founding; of an embedded chain what its record has."""
    at = record.deployment.settlement
    if record.url is None or url is None:
        count = 0 if record.transcript is None else len(record.transcript.transactions)
        return FoundedChain(None, at, count)
    chain, budget = JsonRpcChain(url), None
    for place, sent in enumerate(record.sent):
        receipt = chain.mined(sent.raw)
        if receipt is None or not receipt.succeeded:
            state = "has no block with" if receipt is None else "reverted"
            raise UnfoundedError(
                f"the node at {url} {state} transaction {place} of the {len(record.sent)} that found the task"
            )
    if record.paying is not None:
        budget = read_budget(chain, record.paying.site, record.deployment).free
    return FoundedChain(url, at, len(record.sent), budget)
