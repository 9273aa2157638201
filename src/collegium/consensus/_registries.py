"""What the chains of a task hold of it, as of blocks that are final there: records in the order, and a header's digest.

No validator asks a chain while it votes, or two of them could answer differently about one block. So a record brings a
certificate: a quorum of the epoch's set has looked, each at its own nodes, before it is ordered. Records that are final
before a round's header count in the headers from the next round on. Specified in docs/spec/settlement.md, section 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from collegium.crypto import BlsPublicKey, Certificate, Digest, decode_certificate, hash_fields, verify_certificate
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._records import CERTIFIED_KIND

__all__ = [
    "CHAINS_MAX",
    "RefusedRegistriesError",
    "Registries",
    "RegistryRoot",
    "encode_registries",
    "follow_registries",
    "is_registries",
    "registries_accepted",
    "registries_digest",
    "seen_digest",
]

REGISTRIES_KIND: Final = b"R"
CHAINS_MAX: Final = 16  # a home and fifteen that follow
NUMBER_BYTES, ROOT_BYTES = 8, 32
ENTRY_BYTES: Final = 2 * NUMBER_BYTES + ROOT_BYTES
NO_REGISTRIES: Final[Digest] = bytes(ROOT_BYTES)


class RefusedRegistriesError(CollegiumError):
    """A record of chains' registries is malformed, says nothing new, goes back, or no quorum has signed it."""


@dataclass(frozen=True, slots=True)
class RegistryRoot:
    """What a chain held for a task after one of its final blocks: a root over its registry and its licences."""

    chain_id: int
    block: int
    root: Digest

    @property
    def encoded(self) -> bytes:
        """Chain and block in 8 little-endian bytes each, and the root."""
        return b"".join((*(number.to_bytes(8, "little") for number in (self.chain_id, self.block)), self.root))


@dataclass(frozen=True, slots=True)
class Registries:
    """The last root of each chain that a quorum has seen, in the order of the chains' numbers.

    Attributes:
        in_force: as headers of this round say it.
        coming: as those of the next round will.
    """

    in_force: tuple[RegistryRoot, ...] = ()
    coming: tuple[RegistryRoot, ...] = ()

    @classmethod
    def begun(cls, roots: Sequence[RegistryRoot]) -> Registries:
        """Return the state in which an epoch begins whose last one ended with these."""
        return cls(tuple(roots), tuple(roots))

    @property
    def digest(self) -> Digest:
        """What the headers of this round carry; zeros while nothing is known."""
        return registries_digest(self.in_force)

    def ordered(self, epoch_set: EpochSet, payload: bytes) -> Registries:
        """Return the state after a record that is final.

        Raises:
            RefusedRegistriesError: it is malformed, an entry's block is not after the one that is known of its chain,
                or there would be too many chains.
            CollegiumError: as `verify_certificate`.
        """
        seen, certificate = _decoded(payload[1:], epoch_set.size)
        known = {entry.chain_id: entry for entry in self.coming}
        for entry in seen:
            before = known.get(entry.chain_id)
            if before is not None and entry.block <= before.block:
                raise RefusedRegistriesError(
                    f"chain {entry.chain_id} as of block {entry.block}, expected one after {before.block}",
                    chain_id=entry.chain_id,
                    block=entry.block,
                )
            known[entry.chain_id] = entry
        if len(known) > CHAINS_MAX:
            raise RefusedRegistriesError(f"{len(known)} chains, expected at most {CHAINS_MAX}")
        keys = [BlsPublicKey(validator.bls_key) for validator in epoch_set.validators]
        verify_certificate(keys, epoch_set.quorum, seen_digest(epoch_set, seen), certificate)
        return replace(self, coming=tuple(known[chain_id] for chain_id in sorted(known)))

    def next_round(self) -> Registries:
        """Return the state when a round's header is final."""
        return Registries.begun(self.coming)


def registries_digest(roots: Sequence[RegistryRoot]) -> Digest:
    """Return one digest of what all chains held; zeros for none."""
    return hash_fields("registries", b"".join(entry.encoded for entry in roots)) if roots else NO_REGISTRIES


def seen_digest(epoch_set: EpochSet, seen: Sequence[RegistryRoot]) -> Digest:
    """Return what a validator of this set signs that has seen these roots at its own nodes."""
    entries = b"".join(entry.encoded for entry in seen)
    return hash_fields("registries-seen", epoch_set.task, epoch_set.epoch, entries)


def encode_registries(seen: Sequence[RegistryRoot], certificate: bytes) -> bytes:
    """Return a record as block payload.

    Args:
        seen: at least one, in the order of the chains' numbers.
        certificate: bitmap and signature of the epoch's set.
    """
    return b"".join((REGISTRIES_KIND, bytes([len(seen)]), *(entry.encoded for entry in seen), certificate))


def is_registries(payload: bytes) -> bool:
    """Tell whether a block's payload claims to be a record of registries."""
    return payload[:1] == REGISTRIES_KIND


def registries_accepted(
    epoch_set: EpochSet | None, state: Registries, ancestors: Iterable[bytes], payload: bytes
) -> bool:
    """Tell whether a block may order this record after `ancestors`, payloads that are not final yet; never raises."""
    if epoch_set is None:
        return False
    try:
        follow_registries(epoch_set, state, (*ancestors, payload))
    except CollegiumError:
        return False
    return True


def follow_registries(epoch_set: EpochSet | None, state: Registries, payloads: Iterable[bytes]) -> Registries:
    """Return the state after payloads of any kind, in their order.

    Args:
        epoch_set: whose the payloads are; None in a task whose headers carry no registries.

    Raises:
        RefusedRegistriesError: a record in such a task, or as `Registries.ordered`.
        CollegiumError: as `Registries.ordered`.
    """
    for payload in payloads:
        if is_registries(payload):
            if epoch_set is None:
                raise RefusedRegistriesError("a record of registries in a task of one chain")
            state = state.ordered(epoch_set, payload)
        elif payload[:1] == CERTIFIED_KIND:
            state = state.next_round()
    return state


def _decoded(record: bytes, size: int) -> tuple[tuple[RegistryRoot, ...], Certificate]:
    """Return what a record says and the certificate of a set of this size.

    Raises:
        RefusedRegistriesError: it is malformed.
        CollegiumError: as `decode_certificate`.
    """
    count = record[0] if record else 0
    end = 1 + count * ENTRY_BYTES
    if not 1 <= count <= CHAINS_MAX or len(record) <= end:
        raise RefusedRegistriesError(f"a record of {count} chains in {len(record)} bytes, expected 1 to {CHAINS_MAX}")
    seen = tuple(_entry(record[at : at + ENTRY_BYTES]) for at in range(1, end, ENTRY_BYTES))
    numbers = [entry.chain_id for entry in seen]
    if numbers != sorted(set(numbers)):
        raise RefusedRegistriesError(f"chains {numbers}, expected each once and in order")
    return seen, decode_certificate(record[end:], size)


def _entry(data: bytes) -> RegistryRoot:
    chain_id, block = (int.from_bytes(data[at : at + NUMBER_BYTES], "little") for at in (0, NUMBER_BYTES))
    return RegistryRoot(chain_id, block, data[2 * NUMBER_BYTES :])
