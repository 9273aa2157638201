"""By whose consent a task uses data, and what takes it back: the holder's own transaction (docs/spec/consents.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from collegium.consensus import (
    Consents,
    Withdrawals,
    encode_withdrawal,
    follow_withdrawals,
    is_registries,
    is_withdrawal,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    NOBODY,
    Chain,
    ChainAnswerError,
    ContractRefusedError,
    DataLicence,
    JsonRpcChain,
    MoneySite,
    decode_revocation,
    read_licence,
    read_revocations,
)

from ._chain_settings import ChainSettings
from ._genesis import Genesis
from ._journal import HEADER_KIND
from ._ledger import Segment
from ._licence_settings import LicencePlace, LicenceSettings, SiteLicence

__all__ = [
    "ConsentMissingError",
    "ForeignRevocationError",
    "TaskConsents",
    "UnknownSiteError",
    "check_licences",
    "check_own_chains",
    "consents_of",
    "ledger_payloads",
    "licence_chain",
    "licence_chains",
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
        for entry in settings.sites:
            place = settings.place_of(entry)
            expected = (place.chain_id, place.contract, entry.number, entry.holder)
            if (found.chain_id, found.licences, found.licence, found.sender) == expected:
                return entry
        places = ", ".join(f"{place.contract.hex()} of chain {place.chain_id}" for place in settings.places)
        raise ForeignRevocationError(
            f"account {found.sender.hex()} revokes licence {found.licence} at {found.licences.hex()} of chain "
            f"{found.chain_id}, expected the holder of one of the task's {len(settings.sites)} licences at {places}",
            sender=found.sender,
            licence=found.licence,
        )


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


def check_own_chains(genesis: Genesis, settings: ChainSettings) -> None:
    """Check that every site that names a chain of its own has trainers.

    Raises:
        UnknownSiteError: one has none.
    """
    for site, chain_id in settings.sites:
        if site not in genesis.sites:
            raise UnknownSiteError(
                f"chain.sites names chain {chain_id} for site {site!a}, expected one of {len(genesis.sites)} that "
                "have trainers",
                site=site,
            )


def check_licences(chains: Mapping[LicencePlace, Chain], settings: LicenceSettings) -> tuple[DataLicence, ...]:
    """Return the licences that an experiment names, if each is there for good and its consent stands.

    That it is there is asked of each chain's last final block, which nothing takes back; that its consent stands, of
    the last block, however young: a holder's word needs no confirmation.

    Args:
        chains: with the licences, as `licence_chains` returns them.

    Raises:
        ConsentMissingError: naming what is otherwise.
        ContractRefusedError: there is no such licence.
    """
    found = list[DataLicence]()
    for entry in settings.sites:
        place = settings.place_of(entry)
        chain, site = chains[place], MoneySite(place.contract, NOBODY, NOBODY, NOBODY)
        if chain.chain_id != place.chain_id:
            raise ConsentMissingError(f"the licences are on chain {place.chain_id}, the node is of {chain.chain_id}")
        licence = read_licence(chain, site, entry.number)
        _require_final(chain, site, entry)
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


def _require_final(chain: Chain, site: MoneySite, entry: SiteLicence) -> None:
    """Check that a licence was there after the chain's last final block.

    Raises:
        ConsentMissingError: it was not.
    """
    block = chain.final_block()
    try:
        read_licence(chain, site, entry.number, block)
    except (ChainAnswerError, ContractRefusedError) as error:
        raise ConsentMissingError(
            f"licence {entry.number} of {entry.site!a} is not final yet: the last final block of chain "
            f"{chain.chain_id} is {block}, expected one that has it",
            licence=entry.number,
        ) from error


def licence_chain(place: LicencePlace, urls: Sequence[str | None]) -> Chain:
    """Return the node that has licences: the one that their place names, or the task's of that chain.

    Args:
        urls: of the nodes of the task's chains, the home first; None for embedded ones, which nobody can ask.

    Raises:
        ConsentMissingError: there is none.
        ChainUnreachableError: it does not answer.
    """
    if place.url is not None:
        return JsonRpcChain(place.url)
    for url in urls:
        chain = None if url is None else JsonRpcChain(url)
        if chain is not None and chain.chain_id == place.chain_id:
            return chain
    raise ConsentMissingError(
        f"[licences] has no url, and no node of [chain] is of chain {place.chain_id}: expected a node that has them"
    )


def licence_chains(
    settings: LicenceSettings, urls: Sequence[str | None], given: Sequence[Chain] = ()
) -> dict[LicencePlace, Chain]:
    """Return the chain of each place of a task's licences.

    Args:
        urls: as of `licence_chain`.
        given: chains at hand, which are asked before any node.

    Raises:
        ConsentMissingError, ChainUnreachableError: as `licence_chain`.
    """
    at_hand = {chain.chain_id: chain for chain in given}
    return {place: at_hand.get(place.chain_id) or licence_chain(place, urls) for place in settings.places}


def read_withdrawals(chain: Chain, place: LicencePlace, consents: TaskConsents, known: Withdrawals) -> list[bytes]:
    """Return the records of licences that were revoked at a place, each of which takes trainers out who are not yet.

    A licence is looked at by itself first: where none was revoked, no events are searched for. The last block is asked,
    final or not: what was signed once stays the holder's word, also where a reorganisation takes it back.
    """
    settings = consents.settings
    site, gone = MoneySite(place.contract, NOBODY, NOBODY, NOBODY), known.in_force | known.coming
    here = [entry for entry in settings.sites if settings.place_of(entry) == place]
    standing = [entry for entry in here if not consents.trainers_of(entry.site) <= gone]
    if not any(read_licence(chain, site, entry.number).revoked_at_s for entry in standing):
        return []
    records: list[bytes] = []
    for raw in read_revocations(chain, place.contract, place.block):
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
    for payload in ledger_payloads(segments):
        state = follow_withdrawals(consents, state, (payload,))
        if payload[:1] == HEADER_KIND:
            rounds.append(state.in_force)
    return rounds


def ledger_payloads(segments: Sequence[Segment]) -> Iterable[bytes]:
    """Yield the payloads of a ledger that end rounds, or that say something beside them."""
    for segment in segments:
        for block in segment.blocks:
            if block.payload[:1] == HEADER_KIND or is_withdrawal(block.payload) or is_registries(block.payload):
                yield block.payload
