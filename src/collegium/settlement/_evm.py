"""What the embedded chain takes from py-evm, in one place: it takes a second to import, which only such a chain costs.

Nothing of py-evm may be imported by another way: `_depth` comes first, for the recursion limit's sake.
"""

from collegium.settlement._depth import deep_calls  # isort: skip - before any of py-evm

from typing import Any, Final

import rlp
from eth.chains.base import MiningChain
from eth.consensus.applier import ConsensusApplier
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.exceptions import PyEVMError
from eth.vm.spoof import SpoofTransaction
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from trie.constants import BLANK_NODE_HASH
from trie.hexary import HexaryTrie

from collegium.crypto import Digest, keccak256
from collegium.settlement._precompiles import EmbeddedVM

__all__ = ["CALL_REFUSALS", "REFUSALS", "deep_calls", "first_block", "storage_root", "unsigned_call"]

CALL_REFUSALS: Final = (PyEVMError, ValidationError)
# What py-evm raises over bytes that are no transaction, and over transactions that may not enter a block.
REFUSALS: Final = (*CALL_REFUSALS, BadSignature, rlp.RLPException, ValueError, TypeError, IndexError)


def first_block(number: int, header: dict[str, Any], accounts: dict[Any, Any]) -> Any:
    """Return a chain of this number (EIP-155) that has a genesis block and nothing else."""

    class Chain(MiningChain):
        chain_id = number
        vm_configuration = ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, EmbeddedVM),))

    return Chain.from_genesis(AtomicDB(), header, accounts)


def storage_root(database: Any, state_root: Digest, address: bytes) -> Digest:
    """Return the storage root of an account under a state root: the third of its four fields there."""
    account = HexaryTrie(database, state_root)[keccak256(address)]
    return bytes(rlp.decode(account)[2]) if account else bytes(BLANK_NODE_HASH)


def unsigned_call(transaction: Any, sender: bytes) -> Any:
    """Return a transaction that counts as signed by `sender`."""
    return SpoofTransaction(transaction, from_=sender)
