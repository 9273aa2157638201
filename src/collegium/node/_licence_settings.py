"""Which licence of which chain lets a task use which site's data: the section `[licences]` of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ._sections import URL_LENGTH_MAX, Problem, Section, shown

__all__ = ["CHAIN_ID_MAX", "LicencePlace", "LicenceSettings", "SiteLicence", "licence_settings", "licences_to_mapping"]

ACCOUNT_DIGITS: Final = 40
DIGEST_DIGITS: Final = 64
NUMBER_MAX: Final = (1 << 63) - 1
CHAIN_ID_MAX: Final = (1 << 53) - 1
SITE_LENGTH_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class LicencePlace:
    """A contract that holds licences.

    Attributes:
        url: of a node of that chain; None means the one that the task has of it.
        block: from which on to search that chain for what was revoked.
    """

    chain_id: int
    contract: bytes
    url: str | None
    block: int


@dataclass(frozen=True, slots=True)
class SiteLicence:
    """By which licence a site's data is used.

    Attributes:
        number: in the contract, from 1.
        holder: the account that issued it, and that alone can revoke it.
        data_root: what it names the data by.
        own: where it is, if that is not where the section says: on the site's own chain.
    """

    site: str
    number: int
    holder: bytes
    data_root: bytes
    own: LicencePlace | None = None


@dataclass(frozen=True, slots=True)
class LicenceSettings:
    """Where the licences are, one a site: at one contract, but for those that name another.

    Attributes:
        url, block: as of a place.
    """

    chain_id: int
    contract: bytes
    url: str | None
    block: int
    sites: tuple[SiteLicence, ...]

    def place_of(self, entry: SiteLicence) -> LicencePlace:
        """Return where a site's licence is."""
        return entry.own or LicencePlace(self.chain_id, self.contract, self.url, self.block)

    @property
    def placed(self) -> tuple[tuple[SiteLicence, LicencePlace], ...]:
        """Each licence with where it is."""
        return tuple((entry, self.place_of(entry)) for entry in self.sites)

    @property
    def places(self) -> tuple[LicencePlace, ...]:
        """Where licences are, each once, in the order of the sites."""
        return tuple(dict.fromkeys(self.place_of(entry) for entry in self.sites))


def licence_settings(section: Section, url_problem: Callable[[str], str | None]) -> LicenceSettings:
    """Return what the section says; its table `sites` has one table for each site.

    Args:
        url_problem: what is wrong with the address of a node, or None.
    """
    place = _place(section, url_problem)
    sites = _sites(section, place, url_problem)
    section.close()
    return LicenceSettings(place.chain_id, place.contract, place.url, place.block, sites)


def licences_to_mapping(settings: LicenceSettings) -> dict[str, object]:
    """Return the settings as plain values, sites by name."""
    return {
        "chain_id": settings.chain_id,
        "contract": settings.contract.hex(),
        "url": settings.url,
        "block": settings.block,
        "sites": {entry.site: _licence_mapping(entry) for entry in settings.sites},
    }


def _licence_mapping(entry: SiteLicence) -> dict[str, object]:
    """Return a site's licence as plain values; its place only where that is its own."""
    mapping: dict[str, object] = {
        "number": entry.number,
        "holder": entry.holder.hex(),
        "data_root": entry.data_root.hex(),
    }
    if entry.own is not None:
        own = entry.own
        mapping |= {"chain_id": own.chain_id, "contract": own.contract.hex(), "url": own.url, "block": own.block}
    return mapping


def _place(section: Section, url_problem: Callable[[str], str | None]) -> LicencePlace:
    url = section.optional_text("url", URL_LENGTH_MAX)
    problem = None if url is None else url_problem(url)
    if problem is not None:
        section.note("url", "range", problem)
    return LicencePlace(
        chain_id=section.integer("chain_id", 1, CHAIN_ID_MAX),
        contract=_hexadecimal(section, "contract", ACCOUNT_DIGITS),
        url=url,
        block=section.integer("block", 0, NUMBER_MAX, default=0),
    )


def _sites(section: Section, place: LicencePlace, url_problem: Callable[[str], str | None]) -> tuple[SiteLicence, ...]:
    """Return the licences in the order of the sites' names; one licence serves one site."""
    expected = "a table for each site, with number, holder and data_root"
    found: list[SiteLicence] = []
    table = section.table("sites", expected)
    for site, values in sorted(table.items()):
        problems: list[Problem] = []
        where = f"{section.name}.sites.{site if site.isidentifier() and site.isascii() else shown(site)}"
        if not isinstance(values, Mapping) or not 1 <= len(site) <= SITE_LENGTH_MAX or not site.isprintable():
            section.note("sites", "type", f"has {shown(site)}: {shown(values)}, expected {expected}")
            continue
        inner = Section(where, values, problems)
        found.append(
            SiteLicence(
                site,
                inner.integer("number", 1, NUMBER_MAX),
                _hexadecimal(inner, "holder", ACCOUNT_DIGITS),
                _hexadecimal(inner, "data_root", DIGEST_DIGITS),
                _place(inner, url_problem) if inner.has("chain_id") or inner.has("contract") else None,
            )
        )
        inner.close()
        section.pass_on(problems)
    if not found and section.ok:
        section.note("sites", "range", f"is empty, expected {expected}")
    places = [entry.own or place for entry in found]
    numbered = {(at.chain_id, at.contract, entry.number) for at, entry in zip(places, found, strict=True)}
    distinct = min(len(numbered), len({entry.data_root for entry in found}))
    if section.ok and distinct < len(found):
        numbers = [entry.number for entry in found]
        section.note("sites", "conflict", f"names licences {numbers}, expected a licence and data of its own for each")
    return tuple(found)


def _hexadecimal(section: Section, key: str, digits: int) -> bytes:
    """Return bytes written as so many hexadecimal digits, with or without 0x; lower case is the canonical form."""
    text = section.text(key, digits + 2)
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != digits // 2:
        if text:
            section.note(key, "range", f"is {shown(text)}, expected {digits} hexadecimal digits")
        return bytes(digits // 2)
    return data
