"""What trainers are paid for rounds, from Python: lines of headers, which the chain takes over when they are final.

A header says what all trainers have earned from round 0 on, as the root of a tree over lines; a claim shows one of them
(docs/spec/money.md, section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from collegium.crypto import Digest, frame_fields, hash_fields
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._checkpoint import Checkpoint, header_proof, header_root
from collegium.settlement._deployment import NATIVE, NOBODY, Deployment, ask, checkpoint_arguments
from collegium.settlement._disputes import HeaderPlace
from collegium.settlement._founding import read_courts
from collegium.settlement._licences import MoneySite
from collegium.settlement._payouts import Due
from collegium.settlement._transactions import transact

__all__ = [
    "Budget",
    "begin_windows",
    "claim_reward",
    "expose_header",
    "fund_task",
    "funding_call",
    "is_checkpoint_final",
    "read_budget",
    "read_paid",
    "reclaim_budget",
    "rewards_root",
    "rewards_tree",
    "settle_rewards",
]

NODE_TAG: Final = b"collegium/v1/node\0"  # as in `commitment`, before two digests


@dataclass(frozen=True, slots=True)
class Budget:
    """What a task has to give, and how far its headers were taken over.

    Attributes:
        free, spent: in wei: not paid out, paid out.
        next_round: the first one whose header was not taken over; None before any was.
        broken_round: the first one whose header is shown not to follow the one before it; None if none is.
        root: what the last header that was taken over says.
    """

    free: int
    spent: int
    next_round: int | None
    broken_round: int | None
    root: Digest


def rewards_root(dues: Sequence[Due]) -> Digest:
    """Return what a header says of these lines, one a trainer."""
    return header_root(_leaves(dues))


def rewards_tree(dues: Sequence[Due]) -> tuple[bytes, ...]:
    """Return what is hashed on the way to the root of these lines: every leaf's bytes, every inner node's."""
    level, messages = _leaves(dues), [frame_fields("reward", *_fields(due)) for due in dues]
    level += [bytes(32)] * ((1 << (len(level) - 1).bit_length()) - len(level))
    while len(level) > 1:
        nodes = [NODE_TAG + left + right for left, right in zip(level[::2], level[1::2], strict=True)]
        messages += nodes
        level = [sha256(node).digest() for node in nodes]
    return tuple(messages)


def fund_task(
    chain: Chain, site: MoneySite, account: Account, deployment: Deployment, amount: int, *, token: bytes = NATIVE
) -> Receipt:
    """Add to a task's budget."""
    data = funding_call(deployment, amount)
    return transact(chain, account, site.rewards, data, value=amount if token == NATIVE else 0)


def funding_call(deployment: Deployment, amount: int) -> bytes:
    """Return the data of the transaction that adds to a task's budget; see `fund_task`."""
    return contract("Rewards").call("fund", deployment.settlement, amount)


def settle_rewards(
    chain: Chain, site: MoneySite, account: Account, deployment: Deployment, opening: bytes, place: HeaderPlace
) -> Receipt:
    """Have the chain take over what the last header under a checkpoint says of earnings; any account can.

    Args:
        opening: the header's preimage.
        place: where it is.

    Raises:
        ContractRefusedError: NotFinal, WrongFirstRound if a checkpoint before this one is due first, and others.
    """
    return transact(
        chain, account, site.rewards, contract("Rewards").call("settle", deployment.settlement, opening, _place(place))
    )


def expose_header(
    chain: Chain,
    site: MoneySite,
    account: Account,
    deployment: Deployment,
    opening: bytes,
    place: HeaderPlace,
    before: HeaderPlace,
) -> Receipt:
    """Show that a header does not follow the one that stands before it, or is of another round; any account can.

    Args:
        opening: the header's preimage.
        place, before: where the two are; `before` is not looked at if the round is another.

    Raises:
        ContractRefusedError: Follows, if it does follow, and others.
    """
    arguments = (place.round, opening, _place(place), before.header, _place(before))
    return transact(chain, account, site.rewards, contract("Rewards").call("expose", deployment.settlement, *arguments))


def begin_windows(chain: Chain, account: Account, asked: bytes, checkpoint: Checkpoint) -> int:
    """Begin the time in which a checkpoint's headers can be disputed, before each court behind the one that is asked.

    Return before how many of them it had not begun; none where no court is named.
    """
    begun = 0
    for court in () if asked == NOBODY else read_courts(chain, asked):
        started_at, _, _ = ask(chain, "Disputes", court, "windowOf", checkpoint.digest)  # all courts have this function
        if not started_at:
            call = contract("Disputes").call("start", checkpoint_arguments(checkpoint))
            transact(chain, account, court, call)
            begun += 1
    return begun


def is_checkpoint_final(chain: Chain, asked: bytes, checkpoint: Checkpoint) -> bool:
    """Ask whether nothing under a checkpoint can fall any more; where no court is named nothing can."""
    if asked == NOBODY:
        return True
    (final,) = ask(chain, "Courts", asked, "isFinal", checkpoint.digest)
    return bool(final)


def claim_reward(
    chain: Chain, site: MoneySite, account: Account, deployment: Deployment, dues: Sequence[Due], index: int
) -> Receipt:
    """Have what a line has more than was paid on it credited to its account and curators; any account can.

    Args:
        dues: all lines of the last header that was taken over.
    """
    due, proof = dues[index], tuple(header_proof(_leaves(dues), index))
    arguments = (deployment.settlement, index, due.account, due.amount, due.licence, proof)
    return transact(chain, account, site.rewards, contract("Rewards").call("claim", *arguments))


def reclaim_budget(chain: Chain, site: MoneySite, account: Account, deployment: Deployment) -> Receipt:
    """Have a task's sponsor credited what is left in its budget when the time to claim is over."""
    return transact(chain, account, site.rewards, contract("Rewards").call("reclaim", deployment.settlement))


def read_budget(chain: Chain, site: MoneySite, deployment: Deployment) -> Budget:
    """Return what a task has to give, and how far its headers were taken over."""
    ((free, spent, following, broken, root),) = ask(chain, "Rewards", site.rewards, "budget", deployment.settlement)
    return Budget(free, spent, following or None, broken - 1 if broken else None, bytes(root))


def read_paid(chain: Chain, site: MoneySite, deployment: Deployment, index: int) -> int:
    """Return what was paid on the line at a place."""
    (paid,) = ask(chain, "Rewards", site.rewards, "paidOn", deployment.settlement, index)
    return int(paid)


def _place(place: HeaderPlace) -> tuple[object, ...]:
    return checkpoint_arguments(place.checkpoint), tuple(place.siblings)


def _fields(due: Due) -> tuple[bytes, ...]:
    return _word(due.chain), due.account, _word(due.amount), _word(due.licence)


def _leaves(dues: Sequence[Due]) -> list[Digest]:
    return [hash_fields("reward", *_fields(due)) for due in dues]


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
