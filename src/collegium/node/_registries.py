"""What the chains of a task hold of it: seen by each validator at its own nodes, signed, and followed in a ledger.

The order and the header's part of it is `consensus`'; here is what a root is made of, and when a validator signs one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from collegium.consensus import EpochSet, Registries, RegistryRoot, encode_registries, follow_registries
from collegium.crypto import encode_certificate, hash_fields, make_certificate
from collegium.errors import CollegiumError
from collegium.settlement import Chain, ChainAnswerError, ChainUnreachableError

from ._consents import ledger_payloads
from ._journal import HEADER_KIND
from ._ledger import Segment
from ._licence_settings import LicenceSettings

__all__ = [
    "LAG_BLOCKS_MAX",
    "RegistriesRefusedError",
    "WatchedChain",
    "Witness",
    "certified_record",
    "check_seen",
    "licence_contracts",
    "news_of",
    "registries_by_round",
]

LAG_BLOCKS_MAX: Final = (
    64  # behind the last final block: nodes keep the state of 128 blocks, and about 64 are not final
)
REFRESH_BLOCKS: Final = 1024  # after which a root is said again though nothing has changed


class RegistriesRefusedError(CollegiumError):
    """A validator was asked to sign what it does not see at its own node: another root, or of another block."""


@dataclass(frozen=True)
class WatchedChain:
    """A chain of a task, as one validator sees it at its own node, and the contracts there that register anybody.

    Attributes:
        licences: the contracts Licences there that the task's experiment names, in the order of their addresses.
    """

    chain: Chain
    registry: bytes
    licences: tuple[bytes, ...] = ()

    def seen(self, block: int) -> RegistryRoot:
        """Return what the chain held after a block.

        Raises:
            ChainAnswerError: the node knows it no more, or not yet.
        """
        stored = (part for at in (self.registry, *self.licences) for part in (at, self.chain.storage_root(at, block)))
        return RegistryRoot(self.chain.chain_id, block, hash_fields("registry-root", *stored))


class Witness(Protocol):
    """A validator that is asked what it sees."""

    @property
    def index(self) -> int:
        """Its place in the epoch set."""

    def sign_registries(self, seen: Sequence[RegistryRoot], watched: Mapping[int, WatchedChain], /) -> bytes:
        """Return its signature.

        Raises:
            RegistriesRefusedError: it sees something else.
        """


def licence_contracts(settings: LicenceSettings | None, chain_id: int) -> tuple[bytes, ...]:
    """Return the contracts of a chain in which a task's licences are."""
    places = () if settings is None else settings.places
    return tuple(sorted({place.contract for place in places if place.chain_id == chain_id}))


def news_of(watched: WatchedChain, known: Sequence[RegistryRoot]) -> RegistryRoot | None:
    """Return what a chain holds by its last final block; None if that is known, or none of its blocks is final yet.

    Args:
        known: the last root of each chain.

    Raises:
        ChainUnreachableError, ChainAnswerError: the node does not answer; what is known stays as it is.
    """
    block = watched.chain.final_block()
    before = next((entry for entry in known if entry.chain_id == watched.chain.chain_id), None)
    if before is not None and block <= before.block:
        return None
    found = watched.seen(block)
    changed = before is None or found.root != before.root or block - before.block >= REFRESH_BLOCKS
    return found if changed else None


def certified_record(
    seen: Sequence[RegistryRoot], nodes: Iterable[Witness], watched: Mapping[int, WatchedChain], members: EpochSet
) -> bytes | None:
    """Return the record of what these validators see, as block payload; None where fewer than a quorum see it."""
    signatures = dict[int, bytes]()
    for node in nodes:
        try:
            signatures[node.index] = node.sign_registries(seen, watched)
        except (RegistriesRefusedError, ChainUnreachableError, ChainAnswerError):  # it sees something else, or nothing
            continue
    if len(signatures) < members.quorum:
        return None
    return encode_registries(seen, encode_certificate(make_certificate(members.size, signatures)))


def check_seen(seen: Sequence[RegistryRoot], watched: Mapping[int, WatchedChain]) -> None:
    """Check roots that a validator is to sign against its own nodes.

    Args:
        watched: by number, the chains of the task.

    Raises:
        RegistriesRefusedError: one is of another chain, of a block that is not final here or too long ago, or differs.
        ChainUnreachableError, ChainAnswerError: the node does not answer.
    """
    for entry in seen:
        own = watched.get(entry.chain_id)
        if own is None:
            raise RegistriesRefusedError(f"chain {entry.chain_id}, expected one of {sorted(watched)}")
        final = own.chain.final_block()
        if not final - LAG_BLOCKS_MAX <= entry.block <= final:
            raise RegistriesRefusedError(
                f"block {entry.block} of chain {entry.chain_id}, expected one of the last {LAG_BLOCKS_MAX} up to "
                f"{final}, the last that is final here",
                chain_id=entry.chain_id,
                block=entry.block,
            )
        found = own.seen(entry.block)
        if found != entry:
            raise RegistriesRefusedError(
                f"chain {entry.chain_id} is said to hold {entry.root.hex()} as of block {entry.block}, here it is "
                f"{found.root.hex()}",
                chain_id=entry.chain_id,
                block=entry.block,
            )


def registries_by_round(epoch_sets: Sequence[EpochSet], segments: Sequence[Segment]) -> list[Registries]:
    """Return for each round of a ledger what was known of the chains as it began.

    Args:
        epoch_sets: of each segment; none in a task whose headers carry no registries.

    Raises:
        RefusedRegistriesError, CollegiumError: as `follow_registries`.
    """
    state, rounds = Registries(), [Registries()]
    for number, segment in enumerate(segments):
        for payload in ledger_payloads((segment,)):
            state = follow_registries(epoch_sets[number] if epoch_sets else None, state, (payload,))
            if payload[:1] == HEADER_KIND:
                rounds.append(state)
    return rounds
