"""By whose consent a task uses data, and what takes it back: the holder's own transaction (docs/spec/consents.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from collegium.consensus import (
    Consents,
    Withdrawals,
    encode_withdrawal,
    follow_withdrawals,
    is_withdrawal,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    NOBODY,
    Chain,
    DataLicence,
    JsonRpcChain,
    MoneySite,
    decode_revocation,
    read_licence,
    read_revocations,
)

from ._genesis import Genesis
from ._journal import HEADER_KIND
from ._ledger import Segment
from ._licence_settings import LicenceSettings, SiteLicence

__all__ = [
    "ConsentMissingError",
    "ForeignRevocationError",
    "TaskConsents",
    "UnknownSiteError",
    "check_licences",
    "consents_of",
    "licence_chain",
    "read_withdrawals",
    "withdrawn_by_round",
]


class UnknownSiteError(CollegiumError):
    """An experiment names a licence for a site that has no trainers: a misspelt name would protect nobody."""


class ForeignRevocationError(CollegiumError):
    """A revocation is of another contract or chain, of a licence that the task does not use, or not its holder's."""


class ConsentMissingError(CollegiumError):
    """A licence that a task names is not there, is another one, or was revoked before the task began."""


@dataclass(frozen=True, slots=True)
class TaskConsents:
    """The licences of a task, as its genesis fixes them; `consensus.Consents`.

    Attributes:
        trainers: account and name of each, `site/number`.
    """

    settings: LicenceSettings
    trainers: tuple[tuple[bytes, str], ...]

    def withdrawn(self, record: bytes, /) -> frozenset[bytes]:
        """Return the trainers of the site whose licence this transaction revokes.

        Raises:
            ForeignRevocationError: it does not revoke a licence of this task in its holder's name.
            MalformedTransactionError, NotARevocationError: it revokes nothing.
        """
        return self.trainers_of(self.licence_of(record).site)

    def trainers_of(self, site: str) -> frozenset[bytes]:
        """Return the accounts of a site's trainers."""
        return frozenset(account for account, name in self.trainers if name.rsplit("/", 1)[0] == site)

    def licence_of(self, record: bytes) -> SiteLicence:
        """Return the licence that a transaction revokes; raises as `withdrawn`."""
        found, settings = decode_revocation(record), self.settings
        entry = next((entry for entry in settings.sites if entry.number == found.licence), None)
        expected = None if entry is None else (settings.chain_id, settings.contract, entry.holder)
        if entry is None or (found.chain_id, found.licences, found.sender) != expected:
            raise ForeignRevocationError(
                f"account {found.sender.hex()} revokes licence {found.licence} at {found.licences.hex()} of chain "
                f"{found.chain_id}, expected the holder of one of the task's {len(settings.sites)} licences at "
                f"{settings.contract.hex()} of chain {settings.chain_id}",
                sender=found.sender,
                licence=found.licence,
            )
        return entry


def consents_of(genesis: Genesis, settings: LicenceSettings | None) -> TaskConsents | None:
    """Return a task's licences, None if it names none.

    Raises:
        UnknownSiteError: one is of a site that has no trainers.
    """
    if settings is None:
        return None
    for entry in settings.sites:
        if entry.site not in genesis.sites:
            raise UnknownSiteError(
                f"[licences] names site {entry.site!a}, expected one of {len(genesis.sites)} that have trainers",
                site=entry.site,
            )
    return TaskConsents(settings, genesis.trainers)


def check_licences(chain: Chain, settings: LicenceSettings) -> tuple[DataLicence, ...]:
    """Return the licences that an experiment names as a chain holds them, if each is there and its consent stands.

    Raises:
        ConsentMissingError: naming what is otherwise.
        ContractRefusedError: there is no such licence.
    """
    if chain.chain_id != settings.chain_id:
        raise ConsentMissingError(f"the licences are on chain {settings.chain_id}, the node is of {chain.chain_id}")
    site, found = MoneySite(settings.contract, NOBODY, NOBODY, NOBODY), list[DataLicence]()
    for entry in settings.sites:
        licence = read_licence(chain, site, entry.number)
        if (licence.holder, licence.data_root) != (entry.holder, entry.data_root):
            raise ConsentMissingError(
                f"licence {entry.number} is {licence.holder.hex()}'s for data {licence.data_root.hex()}, expected "
                f"{entry.holder.hex()}'s for {entry.data_root.hex()}",
                licence=entry.number,
            )
        if licence.revoked_at_s:
            raise ConsentMissingError(
                f"licence {entry.number} of {entry.site!a} was revoked at {licence.revoked_at_s}, expected one that "
                "stands",
                licence=entry.number,
            )
        found.append(licence)
    return tuple(found)


def licence_chain(settings: LicenceSettings, url: str | None) -> Chain:
    """Return the node that has a task's licences: its own, or (`url`) that of the task's base chain.

    Raises:
        ConsentMissingError: there is neither.
        ChainUnreachableError: it does not answer.
    """
    named = settings.url or url
    if named is None:
        raise ConsentMissingError("[licences] has no url, and neither has [chain]: expected a node that has them")
    return JsonRpcChain(named)


def read_withdrawals(chain: Chain, consents: TaskConsents, known: Withdrawals) -> list[bytes]:
    """Return the records of licences that were revoked on a chain, each of which takes trainers out who are not yet.

    A licence is looked at by itself first: where none was revoked, no events are searched for.
    """
    settings = consents.settings
    site, gone = MoneySite(settings.contract, NOBODY, NOBODY, NOBODY), known.in_force | known.coming
    standing = [entry for entry in settings.sites if not consents.trainers_of(entry.site) <= gone]
    if not any(read_licence(chain, site, entry.number).revoked_at_s for entry in standing):
        return []
    records: list[bytes] = []
    for raw in read_revocations(chain, settings.contract, settings.block):
        try:
            known = known.ordered(consents, encode_withdrawal(raw))
        except CollegiumError:  # of a licence that this task does not use, or known already
            continue
        records.append(raw)
    return records


def withdrawn_by_round(consents: Consents | None, segments: Sequence[Segment]) -> list[frozenset[bytes]]:
    """Return for each round of a ledger the trainers whose data it may not use.

    Raises:
        RefusedWithdrawalError: a withdrawal in a task that names no licences, or one that says nothing new.
        CollegiumError: as `TaskConsents.withdrawn`.
    """
    state, rounds = Withdrawals(), [Withdrawals().in_force]
    for payload in _payloads(segments):
        state = follow_withdrawals(consents, state, (payload,))
        if payload[:1] == HEADER_KIND:
            rounds.append(state.in_force)
    return rounds


def _payloads(segments: Sequence[Segment]) -> Iterable[bytes]:
    for segment in segments:
        for block in segment.blocks:
            if block.payload[:1] == HEADER_KIND or is_withdrawal(block.payload):
                yield block.payload
