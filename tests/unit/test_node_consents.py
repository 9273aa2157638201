"""Licences in an experiment, and the transactions that take their consent back: read strictly, each refusal by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rlp
from _experiment_stage import SMALLEST

from collegium.consensus import Withdrawals
from collegium.crypto import AccountKey, Stream, hash_fields, keccak256
from collegium.errors import CollegiumError
from collegium.node import (
    Experiment,
    ExperimentRefusedError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
)
from collegium.node._consents import (
    ConsentMissingError,
    ForeignRevocationError,
    TaskConsents,
    UnknownSiteError,
    check_licences,
    check_own_chains,
    consents_of,
    licence_chains,
    read_withdrawals,
)
from collegium.node._licence_settings import LicencePlace, LicenceSettings, SiteLicence
from collegium.settlement import (
    Chain,
    EmbeddedChain,
    Fees,
    Genesis,
    MalformedTransactionError,
    MoneySite,
    NotARevocationError,
    SentTransaction,
    contract,
    decode_revocation,
    decode_transaction,
    issue_licence,
    read_revocations,
    revoke_licence,
    sign_transaction,
    transact,
)

STREAM = Stream(hash_fields("test-consents"))
HOLDER, OTHER = (AccountKey.generate(STREAM) for _ in range(2))
CONTRACT, CHAIN_ID = bytes(range(20)), 31337
ROOT = hash_fields("rows")
LICENCES = f"""
[licences]
chain_id = {CHAIN_ID}
contract = "0x{CONTRACT.hex()}"
[licences.sites.bonn]
number = 3
holder = "0x{HOLDER.address.hex()}"
data_root = "{ROOT.hex()}"
"""
TEXT = SMALLEST + LICENCES


def decode(text: str) -> Experiment:
    return decode_experiment(text.encode(), Path("folder"))


# --- the experiment


def test_licences_are_part_of_an_experiments_identity() -> None:
    experiment = decode(TEXT)
    assert experiment.licences is not None
    (entry,) = experiment.licences.sites
    assert (entry.site, entry.number, entry.holder, entry.data_root) == ("bonn", 3, HOLDER.address, ROOT)
    assert experiment_from_bytes(experiment_to_bytes(experiment)).licences == experiment.licences
    assert b"licences" not in experiment_to_bytes(decode(SMALLEST))
    other = decode(TEXT.replace("number = 3", "number = 4"))
    assert experiment_to_bytes(other) != experiment_to_bytes(experiment)


SECOND = f"""[licences.sites.ulm]
number = 3
holder = "0x{OTHER.address.hex()}"
data_root = "{hash_fields("others").hex()}"
"""


@pytest.mark.parametrize(
    ("old", "new", "where", "kind"),
    [
        (f"chain_id = {CHAIN_ID}\n", "", "licences.chain_id", "missing"),
        (f"chain_id = {CHAIN_ID}", "chain_id = 0", "licences.chain_id", "range"),
        (f"0x{CONTRACT.hex()}", f"0x{CONTRACT.hex()[2:]}", "licences.contract", "range"),
        (f"0x{CONTRACT.hex()}", f"0x{CONTRACT.hex()[2:]}zz", "licences.contract", "range"),
        ("number = 3", "number = 0", "licences.sites.bonn.number", "range"),
        ("number = 3\n", "", "licences.sites.bonn.number", "missing"),
        ("number = 3", "number = 3\nexpires = 4", "licences.sites.bonn.expires", "unknown"),
        (ROOT.hex(), ROOT.hex()[2:], "licences.sites.bonn.data_root", "range"),
        ("[licences.sites.bonn]", "[licences.bonn]", "licences.sites", "missing"),
        ("[licences.sites.bonn]\n", "[licences.sites]\n", "licences.sites", "type"),
        ("[licences.sites.bonn]", SECOND + "[licences.sites.bonn]", "licences.sites", "conflict"),
        (f"chain_id = {CHAIN_ID}", f'chain_id = {CHAIN_ID}\nurl = "ftp://x"', "licences.url", "range"),
        (f"chain_id = {CHAIN_ID}", f'chain_id = {CHAIN_ID}\nurl = "http://x/key"', "licences.url", "range"),
    ],
)
def test_the_smallest_change_is_refused_with_its_own_line(old: str, new: str, where: str, kind: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(TEXT.replace(old, new))
    assert (where, kind) in [(problem.where, problem.kind) for problem in caught.value.problems]


def test_rounds_in_shards_name_no_licences() -> None:
    shards = "seats = 16\nshards = 2\npartition_rounds = 3"
    with pytest.raises(ExperimentRefusedError, match="one committee only"):
        decode(TEXT.replace("seats = 16", shards))


def test_a_site_without_trainers_is_a_slip_and_refused() -> None:
    settings = decode(TEXT).licences
    assert settings is not None
    genesis: Any = SimpleNamespace(sites={"bonn": 1}, trainers=((bytes(20), "bonn/0"),))
    assert consents_of(genesis, settings) == TaskConsents(settings, genesis.trainers)
    assert consents_of(genesis, None) is None
    misspelt: Any = SimpleNamespace(sites={"Bonn": 1}, trainers=())
    with pytest.raises(UnknownSiteError, match="'bonn'"):
        consents_of(misspelt, settings)


def test_licences_without_a_node_to_ask_are_refused() -> None:
    settings = decode(TEXT).licences
    assert settings is not None
    with pytest.raises(ConsentMissingError, match="expected a node"):
        licence_chains(settings, [None, None])


# --- what takes consent back


def revoking(
    licence: int = 3, account: AccountKey = HOLDER, to: bytes = CONTRACT, chain_id: int = CHAIN_ID, data: bytes = b""
) -> bytes:
    call = data or contract("Licences").call("revoke", licence)
    fees = Fees(10**9, 1)
    return sign_transaction(account, chain_id=chain_id, nonce=7, fees=fees, gas_max=10**5, to=to, value=0, data=call)


TRAINERS = ((b"1" * 20, "bonn/0"), (b"2" * 20, "bonn/1"), (b"3" * 20, "ulm/0"))


@pytest.fixture
def consents() -> TaskConsents:
    settings = decode(TEXT).licences
    assert settings is not None
    return TaskConsents(settings, TRAINERS)


def test_the_holders_transaction_takes_its_sites_trainers_out(consents: TaskConsents) -> None:
    assert consents.withdrawn(revoking()) == {b"1" * 20, b"2" * 20}


@pytest.mark.parametrize(
    "changed",
    [{"licence": 4}, {"account": OTHER}, {"to": bytes(20)}, {"chain_id": CHAIN_ID + 1}],
    ids=["licence", "holder", "contract", "chain"],
)
def test_a_revocation_of_something_else_takes_nobody_out(consents: TaskConsents, changed: dict[str, Any]) -> None:
    with pytest.raises(ForeignRevocationError):
        consents.withdrawn(revoking(**changed))


@pytest.mark.parametrize(
    "data",
    [
        contract("Licences").call("locked", 3),
        contract("Licences").call("revoke", 3) + b"\0",
        contract("Licences").call("revoke", 3)[:-1],
        b"\0",
    ],
)
def test_a_call_of_something_else_is_no_revocation(consents: TaskConsents, data: bytes) -> None:
    with pytest.raises(NotARevocationError):
        consents.withdrawn(revoking(data=data))
    with pytest.raises(NotARevocationError):
        decode_revocation(revoking(to=b""))  # it creates a contract


def legacy(chain_id: int | None = CHAIN_ID, account: AccountKey = HOLDER) -> bytes:
    """The same as a transaction of type 0, by EIP-155 or (None) by the rules before."""
    fields = [7, 10**9, 10**5, CONTRACT, 0, contract("Licences").call("revoke", 3)]
    signed = fields if chain_id is None else [*fields, chain_id, 0, 0]
    signature = account.sign(keccak256(rlp.encode(signed)))
    r, s, bit = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    return bytes(rlp.encode([*fields, (27 if chain_id is None else 35 + 2 * chain_id) + bit, r, s]))


def typed(kind: int, access: list[Any]) -> bytes:
    fees = [1, 10**9] if kind == 2 else [10**9]
    fields = [CHAIN_ID, 7, *fees, 10**5, CONTRACT, 0, contract("Licences").call("revoke", 3), access]
    signature = HOLDER.sign(keccak256(bytes([kind]) + rlp.encode(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return bytes([kind]) + bytes(rlp.encode([*fields, signature[64], r, s]))


@pytest.mark.parametrize("raw", [legacy(), typed(1, []), typed(2, [])], ids=["type 0", "type 1", "type 2"])
def test_wallets_of_every_age_may_sign_it(consents: TaskConsents, raw: bytes) -> None:
    assert len(consents.withdrawn(raw)) == 2
    found = decode_transaction(raw)
    assert (found.nonce, found.sender, found.to, found.value) == (7, HOLDER.address, CONTRACT, 0)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "has 0 bytes"),
        (b"\xc0", "has 1 bytes"),
        (b"\x02" + bytes(1 << 16), "expected 2 to"),
        (b"\x02\xc0", "other fields"),
        (b"\x02\x80", "other fields"),
        (b"\x04" + typed(2, [])[1:], "is malformed"),
        (typed(2, []) + b"\0", "is malformed"),
        (typed(2, [[CONTRACT, []]]), "access list"),
        (legacy(None), "for no chain"),
        (bytes(rlp.encode([b""] * 9)), "for no chain"),
    ],
)
def test_what_is_no_signed_transaction_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(MalformedTransactionError, match=why):
        decode_transaction(raw)


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def test_no_flipped_bit_is_still_the_holders_word(consents: TaskConsents) -> None:
    for raw in (revoking(), legacy()):
        for place in range(len(raw)):
            with pytest.raises(CollegiumError):
                consents.withdrawn(flipped(raw, place))


# --- on a chain


@pytest.fixture
def chain() -> EmbeddedChain:
    return EmbeddedChain(Genesis(CHAIN_ID, 1_800_000_000, ((HOLDER.address, 10**20), (OTHER.address, 10**20))))


def test_revocations_are_found_on_a_chain_and_only_what_is_new_is_brought(chain: EmbeddedChain) -> None:
    """Anybody may issue and revoke in the same contract: what is not the task's is passed over."""
    at = transact(chain, OTHER, None, contract("Licences").creation()).contract
    assert at is not None
    site = MoneySite(at, *(bytes(20),) * 3)
    licence: Callable[..., int] = lambda account, root: issue_licence(  # noqa: E731 - once, for three calls
        chain, site, account, root, hash_fields("text"), jurisdiction="DE"
    )
    first, mine = licence(OTHER, hash_fields("others")), licence(HOLDER, ROOT)
    settings = decode(TEXT).licences
    assert settings is not None
    settings = replace(settings, contract=at, sites=(replace(settings.sites[0], number=mine),))
    consents = TaskConsents(settings, TRAINERS)
    (place,) = settings.places
    assert check_licences({place: chain}, settings)[0].data_root == ROOT
    revoke_licence(chain, site, OTHER, first)
    assert read_withdrawals(chain, place, consents, Withdrawals()) == []
    revoke_licence(chain, site, HOLDER, mine)
    sent: SentTransaction = chain.sent[-1]
    assert read_withdrawals(chain, place, consents, Withdrawals()) == [sent.raw]
    assert read_revocations(chain, at) == (chain.sent[-2].raw, sent.raw)
    assert read_revocations(chain, at, len(chain.sent)) == (sent.raw,)
    for known in (Withdrawals(consents.withdrawn(sent.raw)), Withdrawals(frozenset(), consents.withdrawn(sent.raw))):
        assert read_withdrawals(chain, place, consents, known) == []
    with pytest.raises(ConsentMissingError, match="was revoked"):
        check_licences({place: chain}, settings)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"chain_id": CHAIN_ID + 1}, "the node is of"),
        ({"holder": OTHER.address}, "expected"),
        ({"data_root": hash_fields("x")}, "expected"),
    ],
)
def test_a_licence_that_is_another_one_is_refused_before_anything_is_learned(
    chain: EmbeddedChain, changed: dict[str, Any], why: str
) -> None:
    at = transact(chain, OTHER, None, contract("Licences").creation()).contract
    assert at is not None
    number = issue_licence(chain, MoneySite(at, *(bytes(20),) * 3), HOLDER, ROOT, ROOT, jurisdiction="DE")
    settings = decode(TEXT).licences
    assert settings is not None
    entry = replace(settings.sites[0], number=number)
    settings = replace(settings, contract=at, sites=(entry,))
    check_licences({settings.places[0]: chain}, settings)
    if "chain_id" in changed:
        settings = replace(settings, **changed)
    else:
        settings = replace(settings, sites=(replace(entry, **changed),))
    with pytest.raises(ConsentMissingError, match=why):
        check_licences({settings.places[0]: chain}, settings)


# --- on the site's own chain


ELSEWHERE = CHAIN_ID + 1
TWO_CHAINS = (
    TEXT
    + SECOND
    + f"""chain_id = {ELSEWHERE}
contract = "0x{CONTRACT.hex()}"
block = 5
"""
)


def test_a_site_may_have_its_licence_on_a_chain_of_its_own() -> None:
    """The same number at the same address: the chain alone tells them apart."""
    settings = decode(TWO_CHAINS).licences
    assert settings is not None
    assert [(place.chain_id, place.block) for place in settings.places] == [(CHAIN_ID, 0), (ELSEWHERE, 5)]
    assert experiment_from_bytes(experiment_to_bytes(decode(TWO_CHAINS))).licences == settings
    consents = TaskConsents(settings, TRAINERS)
    assert consents.withdrawn(revoking(chain_id=ELSEWHERE, account=OTHER)) == {b"3" * 20}
    assert consents.withdrawn(revoking()) == {b"1" * 20, b"2" * 20}
    for chain_id, account in ((CHAIN_ID, OTHER), (ELSEWHERE, HOLDER)):
        with pytest.raises(ForeignRevocationError, match=f"of chain {ELSEWHERE}$"):
            consents.withdrawn(revoking(chain_id=chain_id, account=account))


@pytest.mark.parametrize(
    ("old", "new", "where", "kind"),
    [
        (f"chain_id = {ELSEWHERE}\n", "", "licences.sites.ulm.chain_id", "missing"),
        (f"chain_id = {ELSEWHERE}", f"chain_id = {CHAIN_ID}", "licences.sites", "conflict"),
        ("block = 5", "block = -1", "licences.sites.ulm.block", "range"),
        ("block = 5", 'url = "ftp://x"', "licences.sites.ulm.url", "range"),
    ],
)
def test_a_place_of_its_own_is_read_as_strictly(old: str, new: str, where: str, kind: str) -> None:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(TWO_CHAINS.replace(old, new))
    assert (where, kind) in [(problem.where, problem.kind) for problem in caught.value.problems]


def two_places() -> tuple[dict[LicencePlace, Chain], LicenceSettings, list[int]]:
    """Two chains, each with the licence of one site, which names it."""
    settings, numbers, chains = decode(TWO_CHAINS).licences, list[int](), dict[LicencePlace, Chain]()
    assert settings is not None
    sites = list[SiteLicence]()
    for place, entry, account in zip(settings.places, settings.sites, (HOLDER, OTHER), strict=True):
        balances = ((HOLDER.address, 10**20), (OTHER.address, 10**20))
        chain = EmbeddedChain(Genesis(place.chain_id, 1_800_000_000, balances))
        at = transact(chain, account, None, contract("Licences").creation()).contract
        assert at is not None
        own = replace(place, contract=at, block=0)
        site = MoneySite(at, *(bytes(20),) * 3)
        numbers.append(issue_licence(chain, site, account, entry.data_root, ROOT, jurisdiction="DE"))
        sites.append(replace(entry, number=numbers[-1], own=own))
        chains[own] = chain
    return chains, replace(settings, sites=tuple(sites)), numbers


def test_each_chain_is_asked_for_its_own_licences_alone() -> None:
    chains, settings, numbers = two_places()
    assert licence_chains(settings, [None], list(chains.values())) == chains
    check_licences(chains, settings)
    consents, (here, there) = TaskConsents(settings, TRAINERS), settings.places
    revoke_licence(chains[there], MoneySite(there.contract, *(bytes(20),) * 3), OTHER, numbers[1])
    assert read_withdrawals(chains[here], here, consents, Withdrawals()) == []
    (record,) = read_withdrawals(chains[there], there, consents, Withdrawals())
    assert consents.withdrawn(record) == {b"3" * 20}
    with pytest.raises(ConsentMissingError, match="of 'ulm' was revoked"):
        check_licences(chains, settings)
    with pytest.raises(ConsentMissingError, match=f"no node of .chain. is of chain {ELSEWHERE}"):
        licence_chains(settings, [None], [chains[here]])


def test_a_licence_that_a_reorganisation_may_take_back_is_none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the last block; the last final one is the block before it, or one before there was a contract."""
    chains, settings, _ = two_places()
    for block in (1, 0):
        monkeypatch.setattr(EmbeddedChain, "final_block", lambda _, block=block: block)
        with pytest.raises(ConsentMissingError, match=f"is not final yet: the last final block .* is {block},"):
            check_licences(chains, settings)
    monkeypatch.setattr(EmbeddedChain, "final_block", lambda _: 2)
    check_licences(chains, settings)


OWN = "checkpoint_every = 2\nfollowers = ['embedded', 'embedded']\n[chain.sites]\nulm = 1339\nbonn = 1338\n"


def test_sites_name_the_chain_on_which_their_trainers_register() -> None:
    experiment = decode(SMALLEST + "[chain]\n" + OWN)
    assert experiment.chain.sites == (("bonn", 1338), ("ulm", 1339))
    assert experiment_from_bytes(experiment_to_bytes(experiment)) == replace(experiment, folder=Path())
    names = [("one", "bonn/0"), ("two", "bonn/1"), ("three", "rome/0"), ("four", "ulm/0")]
    assert experiment.chain.registering(names) == {1338: ["one", "two"], 1339: ["four"]}
    genesis: Any = SimpleNamespace(sites={"bonn": 2, "ulm": 1})
    check_own_chains(genesis, experiment.chain)
    genesis.sites.pop("ulm")
    with pytest.raises(UnknownSiteError, match="for site 'ulm'"):
        check_own_chains(genesis, experiment.chain)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("ulm = 1339", "ulm = 0", "type"),
        ("ulm = 1339", "ulm = true", "type"),
        ("ulm = 1339", "ulm = '1339'", "type"),
        ("ulm = 1339", '"" = 1339', "range"),
        (", 'embedded']", "]", "conflict"),
        ("[chain.sites]\nulm = 1339\nbonn = 1338\n", "sites = 1338\n", "type"),
    ],
)
def test_a_chain_of_its_own_is_read_strictly(old: str, new: str, kind: str) -> None:
    assert OWN.count(old) == 1
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(SMALLEST + "[chain]\n" + OWN.replace(old, new))
    assert ("chain.sites", kind) in [(problem.where, problem.kind) for problem in caught.value.problems]
