"""An experiment's `[chain]`: the base chains that a run settles on, and who registers where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from ._licence_settings import CHAIN_ID_MAX
from ._sections import NAME_LENGTH_MAX, ROUNDS_MAX, URL_LENGTH_MAX, Section, shown

__all__ = ["EMBEDDED", "FOLLOWERS_MAX", "ChainSettings", "chain_settings", "chain_to_mapping", "url_problem"]

EMBEDDED = "embedded"  # what a file may write for a chain without a url
FOLLOWERS_MAX = 15
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The base chains: None means an embedded one; a checkpoint covers `checkpoint_every` rounds.

    Attributes:
        url: of the home chain, which holds the stakes.
        followers: the chains that verify the same certificates, each for itself.
        courts: the contracts are founded, at home, that hear disputes and take stakes.
        trainers_stake: trainers enter the registry with a stake of their own.
        sites: those whose own chain is one that follows, with its number, in the order of their names: their trainers
            register there and are paid there.
    """

    url: str | None
    checkpoint_every: int
    followers: tuple[str | None, ...] = ()
    courts: bool = False
    trainers_stake: bool = False
    sites: tuple[tuple[str, int], ...] = ()

    @property
    def urls(self) -> tuple[str | None, ...]:
        """The nodes of all of the task's chains, the home first."""
        return (self.url, *self.followers)

    def staking(self, trainers: Iterable[T]) -> list[T]:
        """Return who of a task's trainers enters with a stake: all of them, or nobody."""
        return list(trainers) if self.trainers_stake else []

    def own_chain(self, site: str) -> int | None:
        """Return the number of the chain on which a site's trainers register; None: at home."""
        return dict(self.sites).get(site)

    def registering(self, trainers: Iterable[tuple[T, str]]) -> dict[int, list[T]]:
        """Return the trainers, given with their names `site/number`, by the chain of their own that they name."""
        by_chain = dict[int, list[T]]()
        for trainer, name in trainers:
            chain_id = self.own_chain(name.rsplit("/", 1)[0])
            if chain_id is not None:
                by_chain.setdefault(chain_id, []).append(trainer)
        return by_chain


def chain_to_mapping(chain: ChainSettings) -> dict[str, object]:
    """Return the chains as plain values; what is younger than the format only where there is some of it."""
    mapping: dict[str, object] = {"url": chain.url, "checkpoint_every": chain.checkpoint_every}
    if chain.followers:
        mapping["followers"] = [url or EMBEDDED for url in chain.followers]
    if chain.sites:
        mapping["sites"] = dict(chain.sites)
    young = {"courts": chain.courts, "trainers_stake": chain.trainers_stake}
    return mapping | {key: True for key, given in young.items() if given}


def chain_settings(section: Section) -> ChainSettings:
    url = section.optional_text("url", URL_LENGTH_MAX)
    url = None if url in ("", EMBEDDED) else url
    texts = section.words("followers", FOLLOWERS_MAX, URL_LENGTH_MAX)
    followers = tuple(None if text == EMBEDDED else text for text in texts)
    for key, given in (("url", url), *(("followers", follower) for follower in followers)):
        problem = None if given is None else url_problem(given)
        if problem is not None:
            section.note(key, "range", problem)
    nodes = [given for given in (url, *followers) if given is not None]
    if len(set(nodes)) < len(nodes):
        section.note("followers", "conflict", "names a node twice, or that of url; a chain takes a task once")
    settings = ChainSettings(
        url,
        section.integer("checkpoint_every", 1, ROUNDS_MAX, default=10),
        followers,
        courts=section.boolean("courts", default=True),
        trainers_stake=section.boolean("trainers_stake", default=False),
        sites=_own_chains(section, followers),
    )
    if settings.trainers_stake and not settings.courts and section.ok:
        section.note("trainers_stake", "conflict", "is given, but courts is false: nobody could take a stake")
    section.close()
    return settings


def _own_chains(section: Section, followers: Sequence[str | None]) -> tuple[tuple[str, int], ...]:
    """Return the sites that name a chain of their own; whether a node is of that chain it tells when it is asked."""
    expected = "a table of sites, each with the number of a chain that follows"
    if not section.has("sites"):
        return ()
    own = list[tuple[str, int]]()
    for site, number in sorted(section.table("sites", expected).items()):
        if not 1 <= len(site) <= NAME_LENGTH_MAX or not site.isprintable():
            section.note("sites", "range", f"names site {shown(site)}, expected {expected}")
        elif not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= CHAIN_ID_MAX:
            section.note("sites", "type", f"has {shown(number)} for {shown(site)}, expected {expected}")
        else:
            own.append((site, number))
    if len({number for _, number in own}) > len(followers):
        chains = sorted({number for _, number in own})
        section.note("sites", "conflict", f"names chains {chains}, and [chain] has {len(followers)} that follow")
    return tuple(own)


def url_problem(url: str) -> str | None:
    """Return what is wrong with the address of a JSON-RPC node, or None. What may be a secret is never shown."""
    expected = "expected the http or https address of a JSON-RPC node"
    try:
        parts = urlsplit(url)
        fits = (parts.port is None or parts.port > 0) and url.isprintable() and " " not in url
    except ValueError:
        return f"is no address, {expected}"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password, which the files of a run would repeat; leave it out"
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        return (
            "holds a path or a query, which may be a key and which the files of a run would repeat; "
            "give scheme, host and port alone"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or not fits:
        return f"is {shown(url)}, {expected}"
    return None
