"""Which licence of which chain lets a task use which site's data: the section `[licences]` of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ._sections import Problem, Section, shown

__all__ = ["LicenceSettings", "SiteLicence", "licence_settings", "licences_to_mapping"]

ACCOUNT_DIGITS: Final = 40
DIGEST_DIGITS: Final = 64
NUMBER_MAX: Final = (1 << 63) - 1
CHAIN_ID_MAX: Final = (1 << 53) - 1
SITE_LENGTH_MAX: Final = 256
URL_LENGTH_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class SiteLicence:
    """By which licence a site's data is used.

    Attributes:
        number: in the contract, from 1.
        holder: the account that issued it, and that alone can revoke it.
        data_root: what it names the data by.
    """

    site: str
    number: int
    holder: bytes
    data_root: bytes


@dataclass(frozen=True, slots=True)
class LicenceSettings:
    """Where the licences are, one a site.

    Attributes:
        url: of a node of that chain; None means that of the task's base chain.
        block: from which on to search that chain for what was revoked.
    """

    chain_id: int
    contract: bytes
    url: str | None
    block: int
    sites: tuple[SiteLicence, ...]


def licence_settings(section: Section, url_problem: Callable[[str], str | None]) -> LicenceSettings:
    """Return what the section says; its table `sites` has one table for each site.

    Args:
        url_problem: what is wrong with the address of a node, or None.
    """
    url = section.optional_text("url", URL_LENGTH_MAX)
    problem = None if url is None else url_problem(url)
    if problem is not None:
        section.note("url", "range", problem)
    settings = LicenceSettings(
        chain_id=section.integer("chain_id", 1, CHAIN_ID_MAX),
        contract=_hexadecimal(section, "contract", ACCOUNT_DIGITS),
        url=url,
        block=section.integer("block", 0, NUMBER_MAX, default=0),
        sites=_sites(section),
    )
    section.close()
    return settings


def licences_to_mapping(settings: LicenceSettings) -> dict[str, object]:
    """Return the settings as plain values, sites by name."""
    return {
        "chain_id": settings.chain_id,
        "contract": settings.contract.hex(),
        "url": settings.url,
        "block": settings.block,
        "sites": {
            entry.site: {"number": entry.number, "holder": entry.holder.hex(), "data_root": entry.data_root.hex()}
            for entry in settings.sites
        },
    }


def _sites(section: Section) -> tuple[SiteLicence, ...]:
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
            )
        )
        inner.close()
        section.pass_on(problems)
    if not found and section.ok:
        section.note("sites", "range", f"is empty, expected {expected}")
    distinct = min(len({entry.number for entry in found}), len({entry.data_root for entry in found}))
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
