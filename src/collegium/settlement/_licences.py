"""Data licences and the terms of tasks, from Python: issue, revoke, post, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from collegium.crypto import Digest
from collegium.settlement._abi import contract
from collegium.settlement._chain import Account, Chain, Receipt
from collegium.settlement._deployment import NATIVE, NOBODY, Deployment, address_of, ask, created, event_of
from collegium.settlement._errors import ChainAnswerError
from collegium.settlement._transactions import transact

__all__ = [
    "LEVELS",
    "CuratorShare",
    "DataLicence",
    "MoneySite",
    "PostedTask",
    "TaskTerms",
    "admits_licence",
    "deploy_money",
    "issue_licence",
    "post_task",
    "read_licence",
    "read_shard_roots",
    "read_task",
    "revoke_licence",
    "terms_call",
]

LEVELS: Final = ("unproved", "bounded", "attested", "proved")
CHALLENGE_S: Final = 7 * 24 * 3600
CLAIM_S: Final = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class MoneySite:
    """Where the contracts are through which trainers are paid; one of each serves any number of tasks."""

    licences: bytes
    tasks: bytes
    rewards: bytes
    fees: bytes


@dataclass(frozen=True, slots=True)
class CuratorShare:
    """What a curator gets of all that a licence earns, in basis points."""

    curator: bytes
    part: int


@dataclass(frozen=True, slots=True)
class DataLicence:
    """What a holder lets others do with a dataset.

    Attributes:
        data_root: commits to the rows.
        terms: digest of the text.
        jurisdiction: two capital letters (ISO 3166-1).
        royalty: basis points; the least that a task must leave to earlier versions.
        revoked_at_s: when the consent was taken back; 0 while it stands.
    """

    holder: bytes
    data_root: Digest
    terms: Digest
    jurisdiction: str
    royalty: int
    issued_at_s: int
    revoked_at_s: int
    curators: tuple[CuratorShare, ...]


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What a task promises, before anything is learned.

    Attributes:
        model: digest of the model before the first round.
        rule: digest of the training rule.
        privacy: digest of what is promised to trainers about their data.
        round_reward: the most that may be paid for a round.
        deadline_s: the last second at which what headers say of rewards may be taken over.
        cohort_min: trainers in a sum.
        royalty: basis points of what a later version earns, to a version of this task.
        sponsor_share: basis points of what a version of this task earns, to its sponsor.
        level: one of LEVELS.
        court: which says what certified statement is false; NOBODY for none.
    """

    model: Digest
    rule: Digest
    privacy: Digest
    round_reward: int
    deadline_s: int
    cohort_min: int
    royalty: int
    sponsor_share: int
    level: str
    court: bytes = NOBODY


@dataclass(frozen=True, slots=True)
class PostedTask:
    """A task's terms, with who posted them and the round that comes first."""

    terms: TaskTerms
    sponsor: bytes
    first_round: int


def deploy_money(
    chain: Chain,
    account: Account,
    *,
    challenge_s: int = CHALLENGE_S,
    claim_s: int = CLAIM_S,
    token: bytes = NATIVE,
    on: int = 0,
) -> MoneySite:
    """Create the contracts through which trainers are paid; `account` has no power over them.

    Args:
        challenge_s: how long what a set certified can be challenged before anything is paid on it.
        claim_s: how long after a task's deadline rewards can be claimed.
        on: what lines that are paid there call the chain: its number, 0 at the task's home.
    """
    licences = created(transact(chain, account, None, contract("Licences").creation()))
    creation = contract("Rewards").creation(licences, challenge_s, claim_s, token, on)
    rewards = created(transact(chain, account, None, creation))
    tasks = address_of(ask(chain, "Rewards", rewards, "tasks")[0])
    fees = created(transact(chain, account, None, contract("Fees").creation(tasks, token)))
    return MoneySite(licences, tasks, rewards, fees)


def issue_licence(
    chain: Chain,
    site: MoneySite,
    holder: Account,
    data_root: Digest,
    terms: Digest,
    *,
    jurisdiction: str,
    royalty: int = 0,
    curators: Sequence[CuratorShare] = (),
) -> int:
    """Issue a licence to `holder`, whom it never leaves, and return its number, from 1."""
    shares = tuple((share.curator, share.part) for share in curators)
    data = contract("Licences").call("issue", data_root, terms, jurisdiction.encode("ascii"), royalty, shares)
    return int(event_of(transact(chain, holder, site.licences, data), "Licences", site.licences, "Issued")["id"])


def revoke_licence(chain: Chain, site: MoneySite, holder: Account, licence: int) -> Receipt:
    """Take the consent of a licence back, for good."""
    return transact(chain, holder, site.licences, contract("Licences").call("revoke", licence))


def read_licence(chain: Chain, site: MoneySite, licence: int, block: int | None = None) -> DataLicence:
    """Return a licence, as of a block; None: the last.

    Raises:
        ContractRefusedError: ERC721NonexistentToken.
        ChainAnswerError: there was no contract that answers as Licences.
    """
    (fields,) = ask(chain, "Licences", site.licences, "licence", licence, block=block)
    (shares,) = ask(chain, "Licences", site.licences, "shares", licence, block=block)
    (holder,) = ask(chain, "Licences", site.licences, "ownerOf", licence, block=block)
    data_root, terms, jurisdiction, royalty, issued_at, revoked_at = fields
    curators = tuple(CuratorShare(address_of(curator), part) for curator, part in shares)
    if not (jurisdiction.isalpha() and jurisdiction.isupper()):
        raise ChainAnswerError(f"licence {licence} names the country {jurisdiction!r}, expected two capital letters")
    country = jurisdiction.decode("ascii")
    return DataLicence(address_of(holder), data_root, terms, country, royalty, issued_at, revoked_at, curators)


def post_task(
    chain: Chain,
    site: MoneySite,
    account: Account,
    deployment: Deployment,
    terms: TaskTerms,
    shard_roots: Sequence[Digest] = (),
) -> Receipt:
    """Post a task's terms, once, before its first epoch opens; `account` deployed its contracts.

    Args:
        shard_roots: of the hidden rows on which models will be tried.
    """
    return transact(chain, account, site.tasks, terms_call(deployment, terms, shard_roots))


def terms_call(deployment: Deployment, terms: TaskTerms, shard_roots: Sequence[Digest] = ()) -> bytes:
    """Return the data of the transaction that posts a task's terms; see `post_task`."""
    fields = (
        terms.model,
        terms.rule,
        terms.privacy,
        terms.court,
        terms.round_reward,
        terms.deadline_s,
        terms.cohort_min,
        terms.royalty,
        terms.sponsor_share,
        LEVELS.index(terms.level),
    )
    return contract("Tasks").call("post", deployment.settlement, fields, tuple(shard_roots))


def read_task(chain: Chain, site: MoneySite, deployment: Deployment) -> PostedTask:
    """Return what was posted for a task.

    Raises:
        ContractRefusedError: UnknownTask.
        ChainAnswerError: what is there does not answer as that contract.
    """
    ((fields, sponsor, first_round),) = ask(chain, "Tasks", site.tasks, "task", deployment.settlement)
    model, rule, privacy, court, reward, deadline, cohort, royalty, share, level = fields
    if level >= len(LEVELS):
        raise ChainAnswerError(f"a task of level {level}, expected 0 to {len(LEVELS) - 1}", level=level)
    terms = TaskTerms(model, rule, privacy, reward, deadline, cohort, royalty, share, LEVELS[level], address_of(court))
    return PostedTask(terms, address_of(sponsor), first_round)


def read_shard_roots(chain: Chain, site: MoneySite, deployment: Deployment) -> tuple[Digest, ...]:
    """Return the roots of a task's hidden rows."""
    (roots,) = ask(chain, "Tasks", site.tasks, "shardRoots", deployment.settlement)
    return tuple(roots)


def admits_licence(chain: Chain, site: MoneySite, deployment: Deployment, licence: int) -> bool:
    """Return whether a licence lets its data be used in a task: consent stands, and its royalty is granted."""
    (admitted,) = ask(chain, "Tasks", site.tasks, "admits", deployment.settlement, licence)
    return bool(admitted)
