"""The record of a task's base chains, from which a verifier does again all that was done there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from collegium.errors import CollegiumError
from collegium.settlement import (
    Checkpoint,
    Deployment,
    MoneySite,
    SentTransaction,
    SlashingSite,
    Transcript,
    decode_transaction,
)

from ._chain_terms import HOME, ChainTerms
from ._evidence import Charge
from ._facts import CheckpointFacts
from ._json import decode_canonical

__all__ = [
    "ChainRecord",
    "ChainRecordError",
    "ConvictionRecord",
    "HandoverRecord",
    "RewardsRecord",
    "checkpoint_facts",
    "decode_chain_record",
    "encode_chain_record",
    "enumerate_chains",
    "record_on",
]

RECORD_BYTES_MAX = 64 << 20


class ChainRecordError(CollegiumError):
    """The record of a run's base chain is malformed, or does not agree with what the chain makes of it."""


@dataclass(frozen=True)
class HandoverRecord:
    """A handover on the chain: the certificate of the set that it relieved (bitmap and signature), and its gas.

    Its gas is 0 if somebody else sent it to a node: the record's `sent` does not have it.
    """

    certificate: bytes
    gas: int


@dataclass(frozen=True)
class ConvictionRecord:
    """Evidence that cost a member its stake, or a part of it.

    Attributes:
        after: how many checkpoints and handovers are before it in the record.
        member: its number in the registry.
        burned, rewarded: of its stake, in wei; `reporter` is owed what is rewarded.
        gas: what bringing it took; 0 if somebody else brought it to a node.
    """

    charge: Charge
    after: int
    member: int
    reporter: bytes
    burned: int
    rewarded: int
    gas: int


@dataclass(frozen=True)
class RewardsRecord:
    """Where a task pays for rounds, and until when what headers say of it may be taken over there."""

    site: MoneySite
    deadline_s: int


@dataclass(frozen=True)
class ChainRecord:
    """Everything that was sent to the base chain.

    Attributes:
        url: of the node; None for the embedded chain, which `transcript` then holds whole.
        sent: the operator's and validators' transactions to a node, in order; empty for the embedded chain.
        certificates: one a checkpoint: bitmap and signature of the epoch set.
        gas: what each checkpoint took; 0 of one that somebody else sent to a node: `sent` does not have it.
        handovers: one an epoch that was opened after the first; not there in a task of one epoch.
        followers: the records of the chains that follow this one; not there if none does, and never in theirs.
        site: where the contracts are that may take stakes, and the court that they believe; not there in a task that
            was founded without.
        convictions: what members were convicted of without a court, in order; not there where nobody was.
        rewards: what was paid for rounds; not there in a task that pays nothing.
    """

    url: str | None
    transcript: Transcript | None
    sent: tuple[SentTransaction, ...]
    deployment: Deployment
    checkpoints: tuple[Checkpoint, ...]
    certificates: tuple[bytes, ...]
    gas: tuple[int, ...]
    calldata_bytes: tuple[int, ...]
    handovers: tuple[HandoverRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    followers: tuple[ChainRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    site: SlashingSite | msgspec.UnsetType = msgspec.UNSET
    convictions: tuple[ConvictionRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    rewards: RewardsRecord | msgspec.UnsetType = msgspec.UNSET

    @property
    def paying(self) -> RewardsRecord | None:
        """What was paid for rounds, None in a task that pays nothing."""
        return None if isinstance(self.rewards, msgspec.UnsetType) else self.rewards

    @property
    def stakes_site(self) -> SlashingSite | None:
        """Where stakes can be taken, None where nobody may."""
        return None if isinstance(self.site, msgspec.UnsetType) else self.site

    @property
    def convicted(self) -> tuple[ConvictionRecord, ...]:
        """The convictions, mostly none."""
        return () if isinstance(self.convictions, msgspec.UnsetType) else self.convictions

    @property
    def followed_by(self) -> tuple[ChainRecord, ...]:
        """The records of the chains that follow this one."""
        return () if isinstance(self.followers, msgspec.UnsetType) else self.followers

    @property
    def alone(self) -> ChainRecord:
        """The record without those of the chains that follow."""
        return replace(self, followers=msgspec.UNSET)

    def with_followers(self, followers: Sequence[ChainRecord]) -> ChainRecord:
        """Return the record with those of the chains that follow, if there are any."""
        return replace(self, followers=tuple(followers) or msgspec.UNSET)

    @property
    def handed_over(self) -> tuple[HandoverRecord, ...]:
        """The handovers, none in a task of one epoch."""
        return () if isinstance(self.handovers, msgspec.UnsetType) else self.handovers


def encode_chain_record(record: ChainRecord) -> bytes:
    """Return the canonical JSON of a chain record."""
    return msgspec.json.encode(record)


def decode_chain_record(data: bytes) -> ChainRecord:
    """Decode a chain record strictly.

    Raises:
        ChainRecordError: too large, malformed or not canonical.
    """
    record = decode_canonical(data, ChainRecord, "chain record", RECORD_BYTES_MAX, ChainRecordError)
    counts = {len(record.checkpoints), len(record.certificates), len(record.gas), len(record.calldata_bytes)}
    if len(counts) != 1:
        raise ChainRecordError(f"chain record has {sorted(counts)} of each, expected one count of checkpoints")
    for name in ("handovers", "followers", "convictions"):
        if getattr(record, name) == ():
            raise ChainRecordError(f"chain record has an empty list of {name}, expected none or a list that holds some")
    if any(follower.followed_by for follower in record.followed_by):
        raise ChainRecordError("a chain that follows is followed in the chain record, expected one home of all")
    return record


def checkpoint_facts(record: ChainRecord) -> list[CheckpointFacts]:
    """Return what a record says that each checkpoint took."""
    return [
        CheckpointFacts(checkpoint, gas, size)
        for checkpoint, gas, size in zip(record.checkpoints, record.gas, record.calldata_bytes, strict=True)
    ]


def record_on(record: ChainRecord, chain: int) -> ChainRecord:
    """Return what a record says of one chain of its task: one that follows, by its number; 0: the home.

    Raises:
        ChainRecordError: no chain that follows has this number.
    """
    if chain == 0:
        return record
    chains = dict(enumerate_chains(record))
    if chain not in chains:
        raise ChainRecordError(f"no chain of number {chain} follows, expected one of {sorted(chains)}", chain=chain)
    return chains[chain]


def enumerate_chains(record: ChainRecord) -> list[tuple[int, ChainRecord]]:
    """Return the records of the chains that follow with the chains' numbers.

    Raises:
        ChainRecordError, MalformedTransactionError: a node's record has no transaction that says it.
    """
    found = list[tuple[int, ChainRecord]]()
    for place, following in enumerate(record.followed_by, HOME + 1):
        if following.url is not None and not following.sent:
            raise ChainRecordError(f"the record of chain {place} that follows holds no transaction")
        embedded = ChainTerms.at(place).embedded_id
        number = embedded if following.url is None else decode_transaction(following.sent[0].raw).chain_id
        found.append((number, following))
    return found
