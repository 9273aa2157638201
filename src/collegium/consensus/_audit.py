"""The auditor's check of an agreed order: from the genesis to the last final block, with nothing but the epoch set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._messages import Block, QuorumCertificate
from ._order_keys import EpochVerifier, Verifier
from ._order_validity import Electorate, check_block, check_certificate

__all__ = ["BrokenChainError", "NotFinalError", "verify_chain", "verify_final"]


class BrokenChainError(CollegiumError):
    """A block or certificate that is not about the child of the one before it."""


class NotFinalError(CollegiumError):
    """No certificate of the very next view: the block may still be replaced."""


def verify_chain(
    epoch_set: EpochSet,
    genesis: Digest,
    blocks: Sequence[Block],
    tip_certificates: Sequence[QuorumCertificate],
    verifier: Verifier | None = None,
) -> tuple[bytes, ...]:
    """The non-empty payloads that `blocks` made final, in order.

    1. Every block names the one before it as its parent; the first names the genesis.
    2. Every block is its leader's, signed, on a certificate of more than two thirds, and respects every timeout.
    3. `tip_certificates` certify the last block and, in turn, its descendants.
    4. The last certified pair of contiguous views makes all below it final. Later blocks are left out.

    Args:
        epoch_set: who took part.
        genesis: what the first block must name as its parent.
        blocks: from the first one on, oldest first.
        tip_certificates: e.g. the `certificate_chain` that came with the last block's `Committed`.
        verifier: the epoch's keys, if they are loaded already.

    Raises:
        BrokenChainError: of 1 and 3.
        WrongEpochError, WrongLeaderError, BadViewEntryError, ForgedSignatureError, BadSignersError, NoQuorumError,
        WrongGenesisError: of 2 and 3.
    """
    electorate = Electorate(epoch_set, genesis, verifier or EpochVerifier(epoch_set))
    # 1. links
    parents = [genesis, *(block.digest for block in blocks)]
    for height, (parent, block) in enumerate(zip(parents, blocks, strict=False)):
        certified = block.parent_certificate.ballot
        if block.parent != parent or (height and certified != blocks[height - 1].ballot):
            raise BrokenChainError(f"block {height} of view {block.view} does not follow the one before", height=height)
    # 2. leaders, signatures, certificates
    for block in blocks:
        check_block(electorate, block)
    # 3. certificates of the tip and its descendants
    if tip_certificates and tip_certificates[0].block != parents[-1]:
        raise BrokenChainError(f"certificate of view {tip_certificates[0].view} is not about the last block")
    _check_links(electorate, tip_certificates)
    # 4. the two-chain rule
    certificates = (*(block.parent_certificate for block in blocks), *tip_certificates)
    final = {c.ballot.parent for c in certificates if c.ballot.makes_parent_final}
    heights = [height for height, block in enumerate(blocks) if block.digest in final]
    if any(certificate.ballot.makes_parent_final for certificate in tip_certificates[1:]):
        heights.append(len(blocks) - 1)  # the last block's own child, or a descendant, and with it all blocks here
    return tuple(block.payload for block in blocks[: max(heights, default=-1) + 1] if block.payload)


def verify_final(
    epoch_set: EpochSet,
    genesis: Digest,
    block: Digest,
    certificate_chain: Sequence[QuorumCertificate],
    verifier: Verifier | None = None,
) -> None:
    """Return if the certificates alone prove that `block` is final; no block is needed, so a light client can.

    Raises:
        BrokenChainError: the first is not about `block`, or one is not about a child of the one before.
        NotFinalError: the last two are not of contiguous views.
        ForgedSignatureError, BadSignersError, NoQuorumError, WrongGenesisError: of a certificate.
    """
    if not certificate_chain or certificate_chain[0].block != block:
        raise BrokenChainError(f"no certificate, or the first is not about block {block.hex()}")
    _check_links(Electorate(epoch_set, genesis, verifier or EpochVerifier(epoch_set)), certificate_chain)
    last = certificate_chain[-1]
    if len(certificate_chain) < 2 or not last.ballot.makes_parent_final:
        raise NotFinalError(f"the last certificate, of view {last.view}, makes no parent final", view=last.view)


def _check_links(electorate: Electorate, certificates: Sequence[QuorumCertificate]) -> None:
    for certificate in certificates:
        check_certificate(electorate, certificate)
    for lower, upper in pairwise(certificates):
        if (upper.ballot.parent, upper.ballot.parent_view) != (lower.block, lower.view):
            raise BrokenChainError(
                f"certificate of view {upper.view} is not about a child of view {lower.view}'s block"
            )
