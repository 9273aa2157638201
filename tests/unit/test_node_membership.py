"""Founding a consortium from cards: every key is made apart, and a card that does not hold is refused by its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from _proofs_quotes_vendor import SNP_POLICY
from _tiny_network import tiny_experiment

from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    SealKey,
    SecretShare,
    load_secret,
    open_sealed,
    os_random,
    seal,
)
from collegium.learning import SplitError
from collegium.node import (
    AttestationSettings,
    EvaluatorSettings,
    Experiment,
    FolderInUseError,
    Genesis,
    LogSettings,
    RelayerSettings,
    TrainerSettings,
    ValidatorSettings,
    WorldError,
    experiment_to_bytes,
    load_experiment,
    load_settings,
)
from collegium.node._base_chain import FUNDING_WEI, REGISTRATION_GAS_MAX, BaseChain
from collegium.node._chain_check import Founded, check_chain, check_founded
from collegium.node._chain_record import ChainRecordError, decode_chain_record
from collegium.node._chain_terms import STAKE_WEI
from collegium.node._consents import UnknownSiteError
from collegium.node._consortium import load_account, load_validator_secrets
from collegium.node._entries import ENTRY_FEES, Enrolment, Registration
from collegium.node._founding import (
    FoundingError,
    NotInRosterError,
    check_confirms,
    check_deals,
    check_enters,
    check_node,
    enter_chains,
    found_genesis,
)
from collegium.node._member_cards import (
    BadCardError,
    CardSetError,
    ConfirmCard,
    DealCard,
    EnterCard,
    JoinCard,
    Roster,
    RosterError,
    TrainerCard,
    ValidatorCard,
    assemble,
    check_chains,
    decode_card,
    decode_roster,
    encode_card,
    share_info,
    sign_card,
)
from collegium.node._membership import (
    assemble_roster,
    confirm_in,
    deal_in,
    enter_in,
    join_operator,
    join_trainer,
    join_validator,
    own_rows,
    settle_in,
)
from collegium.node._row_files import read_rows
from collegium.node._setup import build_task
from collegium.node._work_terms import court_rules
from collegium.proofs import QuotePolicy
from collegium.settlement import NO_CHECKPOINT, Chain, Checkpoint, header_root, read_budget, read_member, verify_replay

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LICENCE = f"""[licences]
chain_id = 1337
contract = "{"11" * 20}"
[licences.sites.SITE]
number = 1
holder = "{"22" * 20}"
data_root = "{"33" * 32}"
"""
VALIDATORS, TRAINERS = 4, 4


@dataclass
class Founding:
    """All members of one consortium, each with its folder, after every step."""

    experiment: Experiment
    home: Path
    joins: list[JoinCard]
    roster: Roster
    deals: list[DealCard]
    confirms: list[ConfirmCard]

    def folder(self, index: int) -> Path:
        """Return the folder of the validator with this index."""
        account = self.roster.validators[index].account
        homes = [self.home / f"validator-{number}" for number in range(VALIDATORS)]
        return next(home for home in homes if self.account(home).address == account)

    def account(self, home: Path) -> AccountKey:
        return AccountKey(load_secret(home / "account.key", "account"))

    def signed(self, index: int, card: DealCard | ConfirmCard) -> list[DealCard] | list[ConfirmCard]:
        """Return all cards of the kind, one of them replaced by what its validator signed instead."""
        own = sign_card(card, self.account(self.folder(index)))
        others = self.deals if isinstance(card, DealCard) else self.confirms
        return [own if place == index else other for place, other in enumerate(others)]  # type: ignore[return-value]  # of one kind


def found(home: Path, given: Experiment | None = None) -> Founding:
    experiment = given or tiny_experiment(home)
    joins: list[JoinCard] = [
        join_validator(
            experiment, home / f"validator-{number}", ("127.0.0.1", 20_000 + number), ("127.0.0.1", 21_000 + number)
        )
        for number in range(VALIDATORS)
    ]
    rows = own_rows(experiment, home / "tiny.csv", "north")
    joins += [join_trainer(experiment, home / f"trainer-{n}", f"north/{n}", rows) for n in range(TRAINERS)]
    joins.append(join_operator(experiment, home / "operator", own_rows(experiment, home / "tiny.csv", "east")))
    roster = assemble_roster(experiment, joins, home / "authority", NOW)
    founding = Founding(experiment, home, joins, roster, [], [])
    founding.deals = [deal_in(founding.folder(index), roster) for index in range(VALIDATORS)]
    founding.confirms = [confirm_in(founding.folder(index), roster, founding.deals) for index in range(VALIDATORS)]
    return founding


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Founding:
    return found(tmp_path_factory.mktemp("founding"))


@pytest.fixture
def member(founding: Founding, tmp_path: Path) -> Iterator[Path]:
    """Validator 1's folder as it was before it confirmed, to be spoiled."""
    copy = tmp_path / "member"
    shutil.copytree(founding.folder(1), copy)
    (copy / "beacon.key").unlink()
    yield copy
    shutil.rmtree(copy)


# what holds


def settle(founding: Founding, home: Path) -> tuple[Genesis, list[object]]:
    genesis, configs = settle_in(home, founding.roster, founding.deals, founding.confirms)
    return genesis, [load_settings(config) for config in configs]


def test_every_member_makes_the_same_genesis_and_its_own_settings(founding: Founding, tmp_path: Path) -> None:
    names = [
        *(f"validator-{number}" for number in range(VALIDATORS)),
        *(f"trainer-{number}" for number in range(TRAINERS)),
        "operator",
    ]
    geneses, settings = [], []
    for name in names:
        home = Path(shutil.copytree(founding.home / name, tmp_path / name))
        genesis, found = settle(founding, home)
        geneses.append(genesis)
        settings += found
    genesis = geneses[0]
    assert all(other == genesis for other in geneses)
    kinds = [type(found) for found in settings]
    assert kinds == [ValidatorSettings] * 4 + [TrainerSettings] * 4 + [EvaluatorSettings, RelayerSettings]
    for found in settings:
        match found:
            case ValidatorSettings():
                secrets = load_validator_secrets(found, genesis)
                assert secrets.seal is not None
                assert len(found.peers) == VALIDATORS - 1
            case TrainerSettings():
                assert load_secret(found.account_key, "account")
                assert len(read_rows(found.data, "ill")) == 60
            case EvaluatorSettings():
                load_account(found.operator_key, genesis.operator)
            case RelayerSettings():
                record = decode_chain_record(found.chain.read_bytes())
                assert record.transcript is not None
                assert len(record.transcript.transactions) == 5 + VALIDATORS + 1


def test_every_process_logs_and_attests_as_its_members_own_file_says(founding: Founding, tmp_path: Path) -> None:
    attestation = AttestationSettings(QuotePolicy(snp=SNP_POLICY), 1_700_000_000, ("./quote", "--fresh"))
    network = replace(founding.experiment.network, log_level="debug", metrics=False)
    own = replace(founding.experiment, network=network, attestation=attestation)
    plain: list[LogSettings] = []
    for name, kind in (("validator-2", ValidatorSettings), ("trainer-1", TrainerSettings), ("operator", None)):
        homes = [Path(shutil.copytree(founding.home / name, tmp_path / f"{name} {what}")) for what in ("own", "plain")]
        folders = (founding.roster, founding.deals, founding.confirms)
        told, untold = (settle_in(home, *folders, said)[1] for home, said in zip(homes, (own, None), strict=True))
        for config in told:
            found = load_settings(config)
            assert kind is None or isinstance(found, kind)
            assert found.log == LogSettings("debug")
            assert not isinstance(found, ValidatorSettings) or not found.metrics
            assert not isinstance(found, TrainerSettings) or found.attest == ("./quote", "--fresh")
        plain += [load_settings(config).log for config in untold]
    assert plain == [LogSettings("info")] * 4


def test_no_card_holds_a_secret(founding: Founding) -> None:
    public = [encode_card(card) for card in (*founding.joins, *founding.deals, *founding.confirms)]
    public.append(founding.roster.encode())
    uses = {"account.key": "account", "voting.key": "voting", "beacon.key": "beacon", "box.key": "seal"}
    for path in founding.home.rglob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
        if path.name in uses:
            secret = load_secret(path, uses[path.name])
            assert not any(secret in data or secret.hex().encode() in data for data in public)
            # msgspec writes bytes in base64, which shifts with what stands before: decode what a card says
            assert not any(secret in _plain(card) for card in (*founding.joins, *founding.deals, *founding.confirms))


def _plain(card: object) -> bytes:
    """Return every byte string that a card holds, one after the other."""
    match card:
        case bytes():
            return card + b"|"
        case tuple():
            return b"".join(map(_plain, card))
        case _ if hasattr(card, "__dataclass_fields__"):
            return b"".join(_plain(getattr(card, name)) for name in card.__dataclass_fields__)
        case _:
            return b""


def test_cards_and_roster_come_back_from_their_files(founding: Founding) -> None:
    for card in (*founding.joins, *founding.deals, *founding.confirms):
        assert decode_card(encode_card(card), "card.json") == card
    assert decode_roster(founding.roster.encode()) == founding.roster


def test_two_foundings_of_the_same_experiment_share_nothing(founding: Founding, tmp_path: Path) -> None:
    other = found(tmp_path)
    assert other.roster.digest != founding.roster.digest
    mine = found_genesis(founding.roster, founding.deals, founding.confirms)
    assert found_genesis(other.roster, other.deals, other.confirms).anchor != mine.anchor


# join cards that do not hold


def validator_card(founding: Founding, index: int) -> tuple[ValidatorCard, AccountKey]:
    return founding.roster.validators[index], founding.account(founding.folder(index))


def joined(founding: Founding, index: int, **changes: Any) -> list[JoinCard]:
    """Return all join cards, that of a validator changed and signed again."""
    card, account = validator_card(founding, index)
    spoiled = sign_card(replace(card, **changes), account)
    return [spoiled if other == card else other for other in founding.joins]


def test_a_key_without_possession_is_refused_by_its_member_s_name(founding: Founding) -> None:
    card, _ = validator_card(founding, 2)
    key = BlsSecretKey.generate(os_random)
    with pytest.raises(BadCardError, match=f"validator 0x{card.account.hex()}: ") as caught:
        assemble(founding.experiment, joined(founding, 2, bls_key=bytes(key.public_key())))
    assert "possession" in str(caught.value)


def test_another_s_possession_proves_nothing(founding: Founding) -> None:
    """The proof is bound to the account: whoever copies key and proof of another does not know the key."""
    other, _ = validator_card(founding, 1)
    card, _ = validator_card(founding, 2)
    spoiled = joined(founding, 2, bls_key=other.bls_key, possession=other.possession)
    with pytest.raises(BadCardError, match=f"validator 0x{card.account.hex()}"):
        assemble(founding.experiment, spoiled)


@pytest.mark.parametrize(
    ("field", "what"), [("box_key", "box key"), ("listen", "address"), ("gateway", "address"), ("tls_key", "TLS key")]
)
def test_what_is_one_s_own_may_occur_once(founding: Founding, field: str, what: str) -> None:
    other, _ = validator_card(founding, 1)
    card, _ = validator_card(founding, 2)
    with pytest.raises(CardSetError, match=f"one {what} occurs twice: ") as caught:
        assemble(founding.experiment, joined(founding, 2, **{field: getattr(other, field)}))
    assert card.account.hex() in str(caught.value)
    assert other.account.hex() in str(caught.value)


def test_one_account_joins_once(founding: Founding) -> None:
    with pytest.raises(CardSetError, match="one account occurs twice: validator"):
        assemble(founding.experiment, [*founding.joins, founding.joins[0]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"experiment": bytes(32)}, "it is for experiment 0000"),
        ({"tls_key": b"key"}, "no public key on P-256"),
        ({"box_key": bytes(31)}, "box key has 31 bytes"),
        ({"listen": "127.0.0.1"}, "expected host:port"),
        ({"gateway": "127.0.0.1:0"}, "expected a port"),
    ],
)
def test_a_claim_that_does_not_hold_is_named(founding: Founding, changes: dict[str, object], reason: str) -> None:
    card, _ = validator_card(founding, 0)
    with pytest.raises(BadCardError, match=reason) as caught:
        assemble(founding.experiment, joined(founding, 0, **changes))
    assert card.account.hex() in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "north"}, "expected its site, a slash and a number"),
        ({"name": "north/x"}, "expected its site, a slash and a number"),
        ({"name": "\x1b/1"}, "expected its site, a slash and a number"),
        ({"rows_bound": 3}, "expected a power of two"),
        ({"rows_bound": 0}, "expected a power of two"),
        ({"rows_bound": 1 << 25}, "expected a power of two"),
    ],
)
def test_a_trainer_s_claim_that_does_not_hold_is_named(
    founding: Founding, changes: dict[str, Any], reason: str
) -> None:
    card = founding.roster.trainers[0]
    account = founding.account(founding.home / "trainer-0")
    spoiled = sign_card(replace(card, **changes), account)
    with pytest.raises(BadCardError, match=reason):
        assemble(founding.experiment, [spoiled if other == card else other for other in founding.joins])


def test_too_few_cards_make_no_consortium(founding: Founding) -> None:
    validators = [card for card in founding.joins if isinstance(card, ValidatorCard)]
    trainers = [card for card in founding.joins if isinstance(card, TrainerCard)]
    operator = founding.joins[-1]
    for cards, reason in (
        ([*validators[1:], *trainers, operator], "3 validators' cards, expected 4 to 16"),
        ([*validators, *trainers[1:], operator], "3 trainers' cards, expected 4 to"),
        ([*validators, *trainers], "0 operators' cards, expected one"),
        ([*validators, *trainers, operator, operator], "2 operators' cards, expected one"),
    ):
        with pytest.raises(CardSetError, match=reason):
            assemble(founding.experiment, cards)


def test_so_many_validators_that_a_third_away_stops_the_rounds_make_no_consortium(
    founding: Founding, tmp_path: Path
) -> None:
    more: list[JoinCard] = []
    for number in (4, 5, 6):
        at = (("127.0.0.1", 20_000 + number), ("127.0.0.1", 21_000 + number))
        more.append(join_validator(founding.experiment, tmp_path / str(number), *at))
    assert len(assemble(founding.experiment, [*founding.joins, *more[:2]]).validators) == 6
    with pytest.raises(CardSetError, match="number of validators' cards is 7: 2 of them may be away, with up to 3 of"):
        assemble(founding.experiment, [*founding.joins, *more])


# files


def test_a_card_that_was_changed_is_refused(founding: Founding) -> None:
    card, _ = validator_card(founding, 0)
    with pytest.raises(BadCardError, match=f"validator 0x{card.account.hex()}: it is signed by 0x"):
        decode_card(encode_card(replace(card, gateway="127.0.0.1:9")), "card.json")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-2],
        lambda data: data.replace(b'"kind":"validator"', b'"kind":"king"'),
        lambda data: data.replace(b'"kind":', b'"kind": '),
        lambda data: b"[1]",
        lambda data: b"[" * 100_000,
        lambda data: data + b" " * (1 << 20),
    ],
    ids=["cut", "kind", "spaced", "list", "deep", "long"],
)
def test_any_other_bytes_are_no_card(founding: Founding, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BadCardError, match=r"card\.json"):
        decode_card(spoil(encode_card(founding.joins[0])), "card.json")


def test_a_roster_is_checked_card_by_card_by_whoever_reads_it(founding: Founding) -> None:
    """Whoever assembles could put in what it likes; nobody has to believe it."""
    roster = founding.roster
    forged = replace(roster.validators[0], listen="127.0.0.1:9")
    with pytest.raises(BadCardError, match="it is signed by 0x"):
        decode_roster(replace(roster, validators=(forged, *roster.validators[1:])).encode())
    with pytest.raises(CardSetError, match="not in their order"):
        decode_roster(replace(roster, validators=roster.validators[::-1]).encode())
    with pytest.raises(RosterError):
        decode_roster(roster.encode() + b" ")


def test_a_roster_binds_certificates_too(founding: Founding) -> None:
    certificates = founding.roster.certificates
    swapped = replace(founding.roster, certificates=(certificates[1], certificates[0], *certificates[2:]))
    assert swapped.digest != founding.roster.digest


# dealings that do not hold


def test_whoever_is_not_in_the_roster_does_not_deal(founding: Founding, tmp_path: Path) -> None:
    join_validator(founding.experiment, tmp_path / "late", ("127.0.0.1", 1), ("127.0.0.1", 2))
    with pytest.raises(NotInRosterError, match="lists no validator"):
        deal_in(tmp_path / "late", founding.roster)


def test_nobody_deals_twice(founding: Founding, member: Path) -> None:
    with pytest.raises(FolderInUseError, match="has dealt before"):
        deal_in(member, founding.roster)


def test_nobody_joins_in_a_used_folder(founding: Founding, member: Path) -> None:
    with pytest.raises(FolderInUseError, match="keys are never overwritten"):
        join_validator(founding.experiment, member, ("127.0.0.1", 1), ("127.0.0.1", 2))


def wrong_share(founding: Founding, dealer: int, victim: int) -> bytes:
    """Return a share for the victim that is off by one from the dealt one."""
    roster, info = founding.roster, share_info(founding.roster.digest, dealer, victim)
    box_key = SealKey(load_secret(founding.folder(victim) / "box.key", "seal"))
    share = SecretShare.from_bytes(victim, open_sealed(box_key, info, founding.deals[dealer].boxes[victim]))
    other = SecretShare(victim, share.scalar ^ 1)
    return seal(roster.validators[victim].box_key, info, other.to_bytes())


def test_a_share_that_does_not_fit_its_commitments_names_the_dealer(founding: Founding, member: Path) -> None:
    boxes = list(founding.deals[3].boxes)
    boxes[1] = wrong_share(founding, 3, 1)
    deals = founding.signed(3, replace(founding.deals[3], boxes=tuple(boxes)))
    dealer = founding.roster.validators[3].account.hex()
    with pytest.raises(BadCardError, match=f"deal card of 0x{dealer}: its share for validator 1 does not fit"):
        confirm_in(member, founding.roster, deals)
    assert not (member / "beacon.key").exists()
    check_deals(founding.roster, deals)  # nobody else can see it


def test_a_box_for_somebody_else_names_the_dealer(founding: Founding, member: Path) -> None:
    boxes = founding.deals[3].boxes
    deals = founding.signed(3, replace(founding.deals[3], boxes=(boxes[1], boxes[0], *boxes[2:])))
    with pytest.raises(BadCardError, match="its share for validator 1 does not fit"):
        confirm_in(member, founding.roster, deals)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda card, other: {"commitments": card.commitments[:-1]}, "2 commitments and 4 boxes, expected 3 and 4"),
        (lambda card, other: {"boxes": card.boxes[:-1]}, "3 commitments and 3 boxes, expected 3 and 4"),
        (lambda card, other: {"commitments": other.commitments}, "its dealing: "),
        (lambda card, other: {"commitments": other.commitments, "dealt": other.dealt}, "its dealing: "),
        (lambda card, other: {"commitments": (b"\x00" * 96, *card.commitments[1:])}, "its dealing: "),
        (lambda card, other: {"possession": other.possession}, "possession"),
        (lambda card, other: {"announcement": other.announcement}, "its announcement is of validator 0"),
        (
            lambda card, other: {"announcement": replace(card.announcement, seal_key=bytes(32))},
            "sealing key of validator 2",
        ),
        (lambda card, other: {"roster": bytes(32)}, "it is for roster 0000"),
        (lambda card, other: {"dealer": 0}, "it claims to be of validator 0, which is another account"),
        (lambda card, other: {"dealer": 1 << 40}, "it claims to be of validator"),
    ],
    ids=[
        "few",
        "boxes",
        "copied",
        "copied proof",
        "neutral",
        "possession",
        "announcement",
        "seal",
        "roster",
        "place",
        "far",
    ],
)
def test_a_dealing_that_does_not_hold_names_its_dealer(
    founding: Founding, spoil: Callable[[DealCard, DealCard], dict[str, Any]], reason: str
) -> None:
    spoiled = replace(founding.deals[2], **spoil(founding.deals[2], founding.deals[0]))
    with pytest.raises(BadCardError, match=reason) as caught:
        check_deals(founding.roster, founding.signed(2, spoiled))
    assert founding.roster.validators[2].account.hex() in str(caught.value)


def test_a_dealing_of_each_and_no_more(founding: Founding) -> None:
    with pytest.raises(CardSetError, match="no dealing of validator 2"):
        check_deals(founding.roster, [*founding.deals[:2], founding.deals[3]])
    with pytest.raises(CardSetError, match="two dealings of validator 0"):
        check_deals(founding.roster, [*founding.deals, founding.deals[0]])


# confirmations that do not hold


def test_whoever_was_shown_other_dealings_is_noticed(founding: Founding) -> None:
    spoiled = replace(founding.confirms[2], dealings=bytes(32))
    with pytest.raises(BadCardError, match="it confirms other dealings than these") as caught:
        check_confirms(founding.roster, founding.deals, founding.signed(2, spoiled))
    assert founding.roster.validators[2].account.hex() in str(caught.value)


def test_a_bad_share_of_the_first_beacon_is_noticed(founding: Founding) -> None:
    spoiled = replace(founding.confirms[2], partial=founding.confirms[1].partial)
    with pytest.raises(BadCardError, match="its share of the first beacon"):
        check_confirms(founding.roster, founding.deals, founding.signed(2, spoiled))


def test_a_genesis_needs_everybody_s_confirmation(founding: Founding) -> None:
    with pytest.raises(CardSetError, match="no confirmation of validator 3"):
        found_genesis(founding.roster, founding.deals, founding.confirms[:3])


def test_the_chain_that_cards_found_is_the_one_that_a_verifier_demands(founding: Founding, tmp_path: Path) -> None:
    home = Path(shutil.copytree(founding.home / "operator", tmp_path / "operator"))
    genesis, (_, relayer) = settle(founding, home)
    assert isinstance(relayer, RelayerSettings)
    operator = load_account(relayer.operator_key, genesis.operator)
    record = decode_chain_record(relayer.chain.read_bytes())
    chain = BaseChain.resume(record, operator, genesis.epoch_set)
    checkpoint = Checkpoint(genesis.task, 0, 0, 0, NO_CHECKPOINT, header_root([genesis.digest]))
    voting = [load_secret(founding.folder(index) / "voting.key", "voting") for index in range(VALIDATORS)]
    signed = {index: BlsSecretKey.from_bytes(key).sign(checkpoint.digest) for index, key in enumerate(voting)}
    chain.take(chain.certified(checkpoint, signed))
    founded = Founded(court_rules(genesis, founding.experiment, build_task(genesis, founding.experiment)))
    check_chain(chain.record(), None, genesis.epoch_set, genesis.operator, founded=founded)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda own, other: (other,), "its registration on chain 1337: proof of possession"),
        (lambda own, other: (replace(own, possession=own.possession[:-1]),), "its registration on chain 1337: "),
        (lambda own, other: (replace(own, signature=other.signature),), "its entry on chain 1337 is signed by 0x"),
        (
            lambda own, other: (replace(own, signature=own.signature[:-1]),),
            "its entry on chain 1337: account signature",
        ),
        (lambda own, other: (), "it enters 0 chains, expected 1"),
        (lambda own, other: (own, own), "it enters 2 chains, expected 1"),
    ],
    ids=["another's", "short proof", "another's signature", "short signature", "none", "two"],
)
def test_a_registration_that_would_not_enter_its_validator_names_it_before_anything_is_founded(
    founding: Founding, spoil: Callable[[Registration, Registration], tuple[Registration, ...]], reason: str
) -> None:
    own, other = (founding.confirms[index].registrations[0] for index in (2, 1))
    spoiled = founding.signed(2, replace(founding.confirms[2], registrations=spoil(own, other)))
    with pytest.raises(BadCardError, match=reason) as caught:
        check_confirms(founding.roster, founding.deals, spoiled)
    assert founding.roster.validators[2].account.hex() in str(caught.value)


# chains


def written(home: Path, chain: str, more: str = "") -> Experiment:
    """Write the small experiment with other words under [chain], and more sections."""
    tiny_experiment(home)
    text = (home / "tiny.toml").read_text().replace("checkpoint_every = 2", f"checkpoint_every = 2\n{chain}")
    (home / "tiny.toml").write_text(text.replace("[schema]", f"{more}\n[schema]"))
    return load_experiment(home / "tiny.toml")


ON_TWO = 'trainers_stake = true\nfollowers = ["embedded"]\nsites = { north = 1338 }'
PAYS = "[rewards]\nbudget = 101"


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> Founding:
    """A task that pays on two chains: trainers have stakes at home, and are paid on their own chain."""
    home = tmp_path_factory.mktemp("paying")
    return found(home, written(home, ON_TWO, PAYS))


def entries(founding: Founding) -> list[EnterCard]:
    return [
        enter_chains(founding.roster, founding.account(founding.home / f"trainer-{n}"), b"k" * 32) for n in range(4)
    ]


@pytest.mark.slow
def test_cards_found_what_pays_and_every_member_enters_by_its_own_signature(paying: Founding, tmp_path: Path) -> None:
    assert [len(card.registrations) for card in paying.confirms] == [2] * VALIDATORS
    enters = [
        enter_in(Path(shutil.copytree(paying.home / f"trainer-{n}", tmp_path / f"t{n}")), paying.roster)
        for n in range(4)
    ]
    assert [len(card.enrolments) for card in enters] == [2] * TRAINERS
    home = Path(shutil.copytree(paying.home / "operator", tmp_path / "operator"))
    genesis, (_, config) = settle_in(home, paying.roster, paying.deals, paying.confirms, None, enters)
    relayer = load_settings(config)
    assert isinstance(relayer, RelayerSettings)
    record = decode_chain_record(relayer.chain.read_bytes())
    check_founded(record, genesis, paying.experiment)
    (following,) = record.followed_by
    assert record.paying is not None
    assert following.paying is not None
    assert following.transcript is not None
    chain = verify_replay(following.transcript)  # the home was executed again above
    assert read_budget(chain, following.paying.site, following.deployment).free == 2 * 101
    entered = [read_member(chain, following.deployment, number).account for number in range(VALIDATORS + TRAINERS)]
    assert entered == [card.account for card in (*paying.roster.validators, *paying.roster.trainers)]
    with pytest.raises(ChainRecordError, match="expected no contract that pays"):
        check_founded(record, genesis, replace(paying.experiment, rewards=None))
    with pytest.raises(FolderInUseError, match="has entered before"):
        enter_in(tmp_path / "t0", paying.roster)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda own, other: {"enrolments": other.enrolments}, "its entry on chain 1337 is signed by 0x"),
        (lambda own, other: {"enrolments": own.enrolments[::-1]}, "its entry on chain 1337 is signed by 0x"),
        (lambda own, other: {"enrolments": own.enrolments[:1]}, "it enters 1 chains, expected 2"),
        (
            lambda own, other: {"enrolments": (Enrolment(bytes(32), bytes(65)), own.enrolments[1])},
            "32 bytes that are not all zero",
        ),
        (
            lambda own, other: {"enrolments": (Enrolment(b"k" * 31, bytes(65)), own.enrolments[1])},
            "32 bytes that are not all zero",
        ),
        (
            lambda own, other: {"enrolments": (replace(own.enrolments[0], signature=bytes(65)), own.enrolments[1])},
            "its entry on chain 1337: r is not in",
        ),
        (lambda own, other: {"roster": bytes(32)}, "it is for roster 0000"),
    ],
    ids=["another's", "swapped", "one", "no key", "short key", "no signature", "roster"],
)
def test_an_entry_that_would_not_enter_its_trainer_names_it(
    paying: Founding, spoil: Callable[[EnterCard, EnterCard], dict[str, Any]], reason: str
) -> None:
    cards = entries(paying)
    assert len(check_enters(paying.roster, cards)) == TRAINERS
    spoiled = sign_card(replace(cards[2], **spoil(cards[2], cards[0])), paying.account(paying.home / "trainer-2"))
    with pytest.raises(BadCardError, match=reason) as caught:
        check_enters(paying.roster, [*cards[:2], spoiled, cards[3]])
    assert cards[2].account.hex() in str(caught.value)


def test_an_entry_of_each_that_enters_and_of_nobody_else(paying: Founding, founding: Founding) -> None:
    cards = entries(paying)
    with pytest.raises(CardSetError, match=r"no entry of trainer 0x\w+ \(north/3\), expected one of 4"):
        check_enters(paying.roster, cards[:3])
    with pytest.raises(CardSetError, match="two entries of trainer 0x"):
        check_enters(paying.roster, [*cards, cards[0]])
    assert check_enters(founding.roster, []) == {}
    trainer = founding.account(founding.home / "trainer-0")
    with pytest.raises(CardSetError, match=r"enters no registry: the experiment has neither chain\.trainers"):
        enter_chains(founding.roster, trainer, b"k" * 32)
    with pytest.raises(NotInRosterError, match="lists no trainer"):
        enter_chains(paying.roster, trainer, b"k" * 32)
    stray = sign_card(replace(cards[0], roster=founding.roster.digest, account=trainer.address), trainer)
    with pytest.raises(BadCardError, match="it is of nobody who enters a registry"):
        check_enters(founding.roster, [stray])


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ((1337,), "it numbers 1 chains, the experiment has 2"),
        ((1337, 1338, 5), "it numbers 3 chains, the experiment has 2"),
        ((5, 1338), "it says 5 of chain 0, which is embedded, expected 1337"),
        ((1337, 5), "it says 5 of chain 1, which is embedded, expected 1338"),
    ],
)
def test_an_operator_numbers_the_chains_of_the_experiment(
    paying: Founding, chains: tuple[int, ...], reason: str
) -> None:
    account = AccountKey(load_secret(paying.home / "operator" / "relayer" / "operator.key", "account"))
    card = sign_card(replace(paying.roster.operator, chains=chains), account)
    with pytest.raises(BadCardError, match=reason):
        assemble(paying.experiment, [*paying.joins[:-1], card])


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ((1,), "it says 1 of chain 0, expected 2 or more: no coin with a price"),
        ((-5,), "it says -5 of chain 0, expected 2 or more"),
        ((1 << 53,), "it says 9007199254740992 of chain 0, expected 2 or more"),
    ],
)
def test_no_node_is_of_the_main_network(founding: Founding, tmp_path: Path, chains: tuple[int], reason: str) -> None:
    on_node = written(tmp_path, 'url = "http://127.0.0.1:1"')
    account = AccountKey(load_secret(founding.home / "operator" / "relayer" / "operator.key", "account"))
    roster = replace(founding.roster, experiment=experiment_to_bytes(on_node))
    card = sign_card(replace(roster.operator, chains=chains), account)
    with pytest.raises(BadCardError, match=reason):
        check_chains(replace(roster, operator=card))
    check_chains(replace(roster, operator=sign_card(replace(card, chains=(2,)), account)))


def test_an_operator_joins_when_its_node_answers(tmp_path: Path) -> None:
    on_node = written(tmp_path, 'url = "http://127.0.0.1:1"')
    with pytest.raises(WorldError, match="no answer to eth_chainId"):
        join_operator(on_node, tmp_path / "operator", own_rows(on_node, tmp_path / "tiny.csv", "east"))
    assert not (tmp_path / "operator").exists()


@pytest.mark.parametrize(
    ("chain", "more", "error", "reason"),
    [
        ('followers = ["embedded"]\nsites = { nowhere = 1338 }', "", UnknownSiteError, "for site 'nowhere'"),
        (
            'followers = ["embedded"]\nsites = { north = 7 }',
            "",
            CardSetError,
            "names chain 7 for 'north', expected one",
        ),
        ("", LICENCE.replace("SITE", "nowhere"), UnknownSiteError, "names site 'nowhere'"),
    ],
    ids=["site", "chain", "licence"],
)
def test_what_an_experiment_says_of_sites_must_be_of_those_that_join(
    founding: Founding, tmp_path: Path, chain: str, more: str, error: type[Exception], reason: str
) -> None:
    experiment = written(tmp_path, chain, more)
    numbers = tuple(1337 + place for place, _ in enumerate(experiment.chain.urls))
    roster = replace(founding.roster, experiment=experiment_to_bytes(experiment))
    with pytest.raises(error, match=reason):
        check_chains(replace(roster, operator=replace(roster.operator, chains=numbers)))


@dataclass
class Node:
    """As much of a node as is asked before anything is founded."""

    chain_id: int = 31337
    sent: int = 0
    coins: int = 10**30

    def nonce(self, address: bytes) -> int:
        return self.sent

    def balance(self, address: bytes) -> int:
        return self.coins


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (Node(chain_id=5), "the node is of chain 5, the operator's card says 31337"),
        (Node(sent=2), "has sent 2 transactions on chain 31337, expected none: what a founding left half done"),
        (Node(coins=4 * 10**18 + 100), r"which pays, has 4\d+ wei on chain 31337, expected 4000000000000000101"),
    ],
    ids=["chain", "nonce", "coins"],
)
def test_nothing_is_sent_to_a_node_on_which_a_task_cannot_be_founded(
    monkeypatch: pytest.MonkeyPatch, node: Node, reason: str
) -> None:
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", "11" * 32)
    accounts = [bytes(20), b"\1" * 20]
    check_node(cast(Chain, Node(coins=4 * 10**18 + 101)), 31337, accounts, 101)
    with pytest.raises(FoundingError, match=reason):
        check_node(cast(Chain, node), 31337, accounts, 101)


def test_what_a_member_is_given_pays_its_stake_and_its_entry() -> None:
    assert STAKE_WEI + REGISTRATION_GAS_MAX * ENTRY_FEES.gas_price_max <= FUNDING_WEI


def test_a_trainer_with_too_few_rows_does_not_join(founding: Founding, tmp_path: Path) -> None:
    asking = replace(founding.experiment, data=replace(founding.experiment.data, rows_min=61))
    with pytest.raises(SplitError, match=r"60 rows, data\.rows_min asks every trainer for 61"):
        join_trainer(asking, tmp_path / "t", "north/9", own_rows(asking, founding.home / "tiny.csv", "north"))
    assert not (tmp_path / "t").exists()


def test_a_roster_of_another_operator_is_refused(founding: Founding, tmp_path: Path) -> None:
    rows = own_rows(founding.experiment, founding.home / "tiny.csv", "east")
    join_operator(founding.experiment, tmp_path / "operator", rows)
    with pytest.raises(NotInRosterError, match="another account"):
        settle_in(tmp_path / "operator", founding.roster, founding.deals, founding.confirms)


def test_a_card_is_one_line_of_json(founding: Founding) -> None:
    for card in founding.joins:
        line = encode_card(card)
        assert line.count(b"\n") == 1
        assert msgspec.json.decode(line)["kind"] == card.kind
