"""A member's own folder while a consortium is founded, from its first key to the settings that its process starts with.

Every key is made here, on the member's own machine; what is returned is a card, which everybody may see. The steps, in
their order: `join_*`, `assemble_roster` (by whoever gathers the cards), `deal_in`, `confirm_in`, `settle_in`; trainers
that enter registries also `enter_in`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from collegium import learning
from collegium.crypto import (
    AccountKey,
    BlsSecretKey,
    Digest,
    KeyFileExistsError,
    SealKey,
    load_secret,
    os_random,
    save_secret,
)
from collegium.learning import Rows

from ._base_chain import CHAIN_FAILURES, chain_number
from ._chain_check import check_founded
from ._chain_record import decode_chain_record, encode_chain_record
from ._chain_terms import HOME
from ._consortium import (
    ACCOUNT_KEY,
    BEACON_KEY,
    CHAIN,
    EVALUATOR,
    GENESIS,
    OPERATOR_KEY,
    RELAYER,
    ROWS,
    SEAL_KEY,
    VOTING_KEY,
    FolderInUseError,
    evaluator_settings,
    relayer_settings,
    save_steward,
    steward_settings,
    trainer_settings,
    validator_settings,
    write_settings,
)
from ._events import WorldError
from ._experiment import Experiment, experiment_to_bytes, require_for_cards
from ._founding import (
    MemberSecrets,
    NotInRosterError,
    confirm_dealings,
    deal_beacon,
    enter_chains,
    found_chain,
    found_genesis,
    place_of,
)
from ._genesis import Genesis, encode_genesis
from ._member_cards import (
    CardSetError,
    ConfirmCard,
    DealCard,
    EnterCard,
    JoinCard,
    OperatorCard,
    Roster,
    StewardCard,
    TrainerCard,
    ValidatorCard,
    assemble,
    join_context,
    sign_card,
)
from ._network_settings import (
    Address,
    LogSettings,
    NetworkSettings,
    RoleSettings,
    format_address,
    parse_address,
)
from ._row_files import write_rows
from ._steward import draw_steward
from ._tls import (
    Identity,
    Role,
    TlsFiles,
    certify,
    create_authority,
    decode_public_key,
    load_credentials,
    new_key,
    save_authority,
)
from ._tls import save_private as save_tls_key

__all__ = [
    "assemble_roster",
    "confirm_in",
    "deal_in",
    "enter_in",
    "join_operator",
    "join_steward",
    "join_trainer",
    "join_validator",
    "own_rows",
    "settle_in",
]

BOX_KEY = "box.key"


# ------------------------------------------------------------------------------------------------ 1. join


def join_validator(experiment: Experiment, home: Path, listen: Address, gateway: Address) -> ValidatorCard:
    """Make a validator's keys in its own folder and return its card.

    Raises:
        ShardedNetworkError: the experiment's rounds have several committees.
        FolderInUseError: the folder is not empty.
    """
    require_for_cards(experiment)
    _claim(home)
    account, voting, box = (
        AccountKey.generate(os_random),
        BlsSecretKey.generate(os_random),
        SealKey.generate(os_random),
    )
    save_secret(home / ACCOUNT_KEY, "account", account.secret)
    save_secret(home / VOTING_KEY, "voting", voting.to_bytes())
    save_secret(home / BOX_KEY, "seal", box.secret)
    digest = _digest(experiment)
    card = ValidatorCard(
        kind="validator",
        experiment=digest,
        account=account.address,
        bls_key=bytes(voting.public_key()),
        possession=voting.prove_possession(join_context(digest, account.address)),
        box_key=box.public_bytes,
        tls_key=_new_tls_key(home),
        listen=format_address(listen),
        gateway=format_address(gateway),
    )
    return sign_card(card, account)


def join_trainer(experiment: Experiment, home: Path, name: str, rows: Rows) -> TrainerCard:
    """Make a trainer's key and file of rows in its own folder and return its card, which bounds their number alone.

    Args:
        name: `site/number`.
        rows: its own, as `own_rows` reads them.

    Raises:
        SplitError: there are fewer rows than `data.rows_min`.
        ShardedNetworkError: the experiment's rounds have several committees.
        FolderInUseError: the folder is not empty.
    """
    require_for_cards(experiment)
    if len(rows) < experiment.data.rows_min:
        raise learning.SplitError(f"{len(rows)} rows, data.rows_min asks every trainer for {experiment.data.rows_min}")
    _claim(home)
    account = AccountKey.generate(os_random)
    save_secret(home / ACCOUNT_KEY, "account", account.secret)
    write_rows(home / ROWS, rows, experiment.data.label)
    bound = 1 << (len(rows) - 1).bit_length()
    card = TrainerCard("trainer", _digest(experiment), account.address, name, bound, _new_tls_key(home))
    return sign_card(card, account)


def join_steward(experiment: Experiment, home: Path, rows: Rows) -> StewardCard:
    """Make a steward's keys and file of hidden rows in its own folder and return its card, which binds it to the rows.

    Args:
        rows: that no trainer has, as `own_rows` reads them; they are dealt into the shards that the task wants.

    Raises:
        CardSetError: the experiment asks for no stewards.
        SplitError: there are fewer rows than shards.
        ShardedNetworkError: the experiment's rounds have several committees.
        FolderInUseError: the folder is not empty.
    """
    require_for_cards(experiment)
    quality = experiment.stewards
    if quality is None:
        raise CardSetError("the experiment asks for no stewards")
    shards = learning.deal_rows(rows, quality.shards(experiment.task.rounds))
    _claim(home)
    steward = draw_steward(shards, experiment.data.label, quality.shard_rounds)
    save_steward(home, steward)
    address, tls_key = steward.account.address, _new_tls_key(home)
    return sign_card(StewardCard("steward", _digest(experiment), address, steward.commitment, tls_key), steward.account)


def join_operator(experiment: Experiment, home: Path, test_rows: Rows) -> OperatorCard:
    """Make the key of who runs evaluator and relayer, and their folders, and return the card.

    Raises:
        ShardedNetworkError: the experiment's rounds have several committees.
        FolderInUseError: the folder is not empty.
        WorldError: a node of the experiment's chains does not answer.
    """
    require_for_cards(experiment)
    try:
        chains = tuple(chain_number(url, place) for place, url in enumerate(experiment.chain.urls, HOME))
    except CHAIN_FAILURES as error:
        raise WorldError(str(error)) from error
    _claim(home)
    account = AccountKey.generate(os_random)
    for role in (EVALUATOR, RELAYER):
        (home / role).mkdir(mode=0o700)
        save_secret(home / role / OPERATOR_KEY, "account", account.secret)
    write_rows(home / EVALUATOR / ROWS, test_rows, experiment.data.label)
    keys = (_new_tls_key(home / EVALUATOR), _new_tls_key(home / RELAYER))
    return sign_card(OperatorCard("operator", _digest(experiment), account.address, *keys, chains), account)


def own_rows(experiment: Experiment, table: Path, site: str | None = None) -> Rows:
    """Return the labelled rows of a member's own table, which has the columns that the experiment's would have.

    Args:
        site: only its rows; the table need not name sites otherwise.

    Raises:
        CollegiumError: the table, a label or a column is refused.
    """
    data = experiment.data
    whole = learning.load_table(table).blank(data.missing, keep=(data.site, data.label))
    if site is not None:
        chosen = [row for row, cell in enumerate(whole.column(data.site)) if cell == site]
        whole = whole.select(chosen)
    dropped = [name for name in (data.site, *data.drop) if name in whole.columns]
    rows, _ = learning.labelled_rows(
        whole, label=data.label, positive=data.positive, negative=data.negative, drop=dropped
    )
    return rows


# ------------------------------------------------------------------------------------------------ 2. assemble


def assemble_roster(experiment: Experiment, cards: Sequence[JoinCard], authority: Path, now: datetime) -> Roster:
    """Return the roster of checked cards, with a certificate for each member from a new authority.

    Args:
        authority: folder for the authority's key, missing or empty: whoever holds it can name itself anybody.
        now: when the certificates begin to be valid.

    Raises:
        ShardedNetworkError: the experiment's rounds have several committees.
        FolderInUseError: the folder is not empty.
        BadCardError, CardSetError, RosterError: the cards do not make a consortium.
    """
    roster = assemble(experiment, cards)
    _claim(authority)
    made = create_authority(roster.draft.task, now)
    save_authority(authority, made)
    certificates = tuple(
        certify(made, identity, decode_public_key(key), now, hosts=hosts) for identity, key, hosts in _named(roster)
    )
    return replace(roster, authority=made.credentials.certificate, certificates=certificates)


def _named(roster: Roster) -> list[tuple[Identity, bytes, list[str]]]:
    """Return whom each certificate names, with its key and its hosts, in the roster's order of certificates."""
    task, operator = roster.draft.task, roster.operator
    named = [
        (Identity(task, Role.VALIDATOR, index), card.tls_key, [parse_address(card.gateway)[0]])
        for index, card in enumerate(roster.validators)
    ]
    named += [(Identity(task, Role.TRAINER, card.account), card.tls_key, []) for card in roster.trainers]
    named += [(Identity(task, Role.STEWARD, card.account), card.tls_key, []) for card in roster.stewards]
    named.append((Identity(task, Role.EVALUATOR, operator.account), operator.evaluator_tls_key, []))
    named.append((Identity(task, Role.RELAYER, operator.account), operator.relayer_tls_key, []))
    return named


# ------------------------------------------------------------------------------------------------ 3. deal, 4. confirm


def deal_in(home: Path, roster: Roster) -> DealCard:
    """Return a validator's dealing, after checking that the roster lists it as it is; it deals once.

    Raises:
        NotInRosterError: the roster does not list this validator with its keys.
        FolderInUseError: this folder has dealt before: two dealings could tell more than one.
    """
    account, voting, box = _own_keys(home)
    card = roster.validators[place_of(roster, account.address)]
    if (card.bls_key, card.box_key) != (bytes(voting.public_key()), box.public_bytes):
        raise NotInRosterError(f"the roster lists other keys for account 0x{account.address.hex()} than are in {home}")
    first = SealKey.generate(os_random)
    try:
        save_secret(home / SEAL_KEY, "seal", first.secret)
    except KeyFileExistsError as error:
        raise FolderInUseError(f"{home} has dealt before; to found anew, join anew in a new folder") from error
    return deal_beacon(roster, MemberSecrets(account, voting, box, first))


def confirm_in(home: Path, roster: Roster, deals: Sequence[DealCard]) -> ConfirmCard:
    """Check what was dealt to a validator, keep its share of the beacon's key, and return its confirmation.

    Raises:
        BadCardError, CardSetError: see `confirm_dealings`.
    """
    account, voting, box = _own_keys(home)
    if not (home / SEAL_KEY).exists():
        raise CardSetError(f"{home} has not dealt yet: every validator deals before any confirms")
    first = SealKey(load_secret(home / SEAL_KEY, "seal"))
    card, share = confirm_dealings(roster, deals, MemberSecrets(account, voting, box, first))
    save_secret(home / BEACON_KEY, "beacon", share.to_bytes())
    return card


def enter_in(home: Path, roster: Roster) -> EnterCard:
    """Return what enters a trainer into registries; the encryption key that it names there stays in its folder.

    Raises:
        NotInRosterError, CardSetError: see `enter_chains`.
        FolderInUseError: this folder has made its entry before.
    """
    account, sealed_to = AccountKey(load_secret(home / ACCOUNT_KEY, "account")), SealKey.generate(os_random)
    card = enter_chains(roster, account, sealed_to.public_bytes)
    try:
        save_secret(home / BOX_KEY, "seal", sealed_to.secret)
    except KeyFileExistsError as error:
        raise FolderInUseError(f"{home} has entered before; to found anew, join anew in a new folder") from error
    return card


def _own_keys(home: Path) -> tuple[AccountKey, BlsSecretKey, SealKey]:
    return (
        AccountKey(load_secret(home / ACCOUNT_KEY, "account")),
        BlsSecretKey.from_bytes(load_secret(home / VOTING_KEY, "voting")),
        SealKey(load_secret(home / BOX_KEY, "seal")),
    )


# ------------------------------------------------------------------------------------------------ 5. settle


def settle_in(
    home: Path,
    roster: Roster,
    deals: Sequence[DealCard],
    confirms: Sequence[ConfirmCard],
    own: Experiment | None = None,
    enters: Sequence[EnterCard] = (),
) -> tuple[Genesis, tuple[Path, ...]]:
    """Check all cards, and write what this member's processes start with; return genesis and the settings' files.

    Every member computes the genesis itself: equal cards give an equal genesis, byte for byte.

    Args:
        own: the experiment as this member's file has it: how long its process waits, what it logs, whether it serves
            metrics, and what prints its attestations; the defaults if None.
        enters: of the trainers that enter registries; only the operator, who founds, needs them.

    Raises:
        NotInRosterError: the roster lists nobody with this folder's account.
        BadCardError, CardSetError: a card does not hold.
        FoundingError, ConsentMissingError: see `found_chain`.
        WorldError, CollegiumError: a file cannot be written, or a node does not answer.
    """
    genesis, network = found_genesis(roster, deals, confirms), NetworkSettings() if own is None else own.network
    log, attestation = LogSettings(network.log_level), None if own is None else own.attestation
    gateways = [parse_address(card.gateway) for card in roster.validators]
    if (home / EVALUATOR).is_dir():
        operator = AccountKey(load_secret(home / EVALUATOR / OPERATOR_KEY, "account"))
        if operator.address != roster.operator.account:
            raise NotInRosterError(f"the roster's operator is 0x{roster.operator.account.hex()}, another account")
        place = len(roster.certificates) - 2
        _found(home / RELAYER / CHAIN, roster, genesis, confirms, enters, operator)
        evaluator = evaluator_settings(home / EVALUATOR, gateways, log)
        relayer = relayer_settings(home / RELAYER, gateways, log, roster.settled.chain)
        return genesis, (
            _settle(home / EVALUATOR, roster, genesis, place, evaluator),
            _settle(home / RELAYER, roster, genesis, place + 1, relayer),
        )
    account = AccountKey(load_secret(home / ACCOUNT_KEY, "account")).address
    for number, card in enumerate(roster.trainers):
        if card.account == account:
            trainer = trainer_settings(home, gateways, log, () if attestation is None else attestation.command)
            return genesis, (_settle(home, roster, genesis, len(roster.validators) + number, trainer),)
    for number, other in enumerate(roster.stewards, len(roster.validators) + len(roster.trainers)):
        if other.account == account:
            return genesis, (_settle(home, roster, genesis, number, steward_settings(home, gateways, log)),)
    index = place_of(roster, account)
    listeners = [parse_address(card.listen) for card in roster.validators]
    validator = validator_settings(home, index, listeners, gateways, network)
    return genesis, (_settle(home, roster, genesis, index, validator),)


def _found(
    path: Path,
    roster: Roster,
    genesis: Genesis,
    confirms: Sequence[ConfirmCard],
    enters: Sequence[EnterCard],
    operator: AccountKey,
) -> None:
    """Found the task on its chains and write the record; on nodes once: what was founded there before stays."""
    if path.exists() and any(roster.settled.chain.urls):
        check_founded(decode_chain_record(path.read_bytes()), genesis, roster.settled)
        return
    path.write_bytes(encode_chain_record(found_chain(roster, genesis, confirms, enters, operator)))


def _settle(home: Path, roster: Roster, genesis: Genesis, place: int, settings: RoleSettings) -> Path:
    """Write genesis, certificates and settings into a process's folder."""
    files = TlsFiles.inside(home)
    files.certificate.write_bytes(roster.certificates[place])
    files.authority.write_bytes(roster.authority)
    load_credentials(files)  # the certificate must be of the key that is here
    (home / GENESIS).write_bytes(encode_genesis(genesis))
    return write_settings(home, settings)


def _claim(home: Path) -> None:
    """Make a member's folder, which nobody else may enter.

    Raises:
        FolderInUseError: something is in it, or it cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        used = any(home.iterdir())
    except OSError as error:
        raise FolderInUseError(f"{home}: {error.strerror}; expected a new or empty folder") from error
    if used:
        raise FolderInUseError(f"{home} is in use, expected a new or empty folder: keys are never overwritten")


def _new_tls_key(home: Path) -> bytes:
    """Make a key for connections in a folder and return its public half."""
    private, public = new_key()
    save_tls_key(TlsFiles.inside(home).key, private)
    return public


def _digest(experiment: Experiment) -> Digest:
    return sha256(experiment_to_bytes(experiment)).digest()
