"""A consortium's folder: genesis, certificate authority, and for every process its settings, keys and rows.

    FOLDER/genesis.json  members.json            public
    FOLDER/authority/                            the key that can name anybody: to be kept away from every node
    FOLDER/validators/03/  trainers/03/          one folder a process, for its machine alone
    FOLDER/stewards/01/                          where trainers are measured
    FOLDER/evaluator/  relayer/

`found_consortium` makes all of it on one machine, which then knows every key. `collegium.node._membership` is for
organisations that do not trust one machine. docs/guide/network.md says which is for whom.
"""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from collegium import learning
from collegium.crypto import (
    AccountKey,
    BadShareError,
    BlsSecretKey,
    SealKey,
    SecretShare,
    ThresholdBeacon,
    load_secret,
    os_random,
    save_secret,
)
from collegium.errors import CollegiumError
from collegium.learning import TrainerRows

from ._attackers import spoil_trainers
from ._base_chain import CHAIN_FAILURES
from ._chain_record import ChainRecord, encode_chain_record
from ._chain_settings import ChainSettings
from ._chains import chains_record, found_chains
from ._consents import check_licences, check_own_chains, consents_of, licence_chains
from ._events import Event, Message, Warning_, WorldError
from ._experiment import Experiment, experiment_to_bytes, require_for_processes
from ._genesis import GENESIS_BYTES_MAX, Genesis, GenesisError, decode_genesis, encode_genesis, open_beacon
from ._json import decode_canonical
from ._network_settings import (
    PORT_MAX,
    Address,
    EvaluatorSettings,
    LogSettings,
    NetworkSettings,
    RelayerSettings,
    RoleSettings,
    StewardSettings,
    TrainerSettings,
    ValidatorSettings,
    encode_settings,
    shard_file,
)
from ._rewards import reward_plan
from ._row_files import read_rows, write_rows
from ._setup import ValidatorKeys, build_task, draw_stewards, draw_validators, found, read_data
from ._steward import Steward
from ._tls import (
    Authority,
    Identity,
    Role,
    TlsFiles,
    check_credentials,
    create_authority,
    issue,
    save_authority,
    save_credentials,
)
from ._work_terms import court_rules

__all__ = [
    "Consortium",
    "ConsortiumError",
    "FolderInUseError",
    "ForeignKeyError",
    "Member",
    "PortsTakenError",
    "ValidatorSecrets",
    "evaluator_settings",
    "found_consortium",
    "load_account",
    "load_steward",
    "load_validator_secrets",
    "open_consortium",
    "open_operated",
    "read_genesis",
    "relayer_settings",
    "save_steward",
    "steward_settings",
    "trainer_settings",
    "validator_settings",
    "write_settings",
]

GENESIS, MEMBERS, AUTHORITY = "genesis.json", "members.json", "authority"
CONFIG, ROWS, SHARDS, CHAIN, STATE = "config.toml", "rows.csv", "shards", "chain.json", "state"
ACCOUNT_KEY, VOTING_KEY, BEACON_KEY, SEAL_KEY = "account.key", "voting.key", "beacon.key", "seal.key"
OPERATOR_KEY, SALTS_KEY = "operator.key", "salts.key"
EVALUATOR, RELAYER = "evaluator", "relayer"
MEMBERS_BYTES_MAX = 1 << 20
LISTENERS = 2  # of a validator: for its peers, and its gateway
PORT_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
PORT_TRIES_MAX = 10_000
PORT_MIN = 10_000
EPHEMERAL_MIN = 32_768


class ConsortiumError(CollegiumError):
    """A consortium cannot be made, or its folder is not one."""


class FolderInUseError(ConsortiumError):
    """A consortium's folder would be written over something."""


class PortsTakenError(ConsortiumError):
    """Ports that processes should listen on are in use."""


class ForeignKeyError(ConsortiumError):
    """A key file holds another key than the one that genesis lists for its owner."""


@dataclass(frozen=True)
class Member:
    """One process: its role, what it is called (`validator 3`, `trainer Cleveland/0`), and its settings file.

    In `members.json` the path is relative to the consortium's folder.
    """

    role: str
    name: str
    config: str


@dataclass(frozen=True)
class _Members:
    """What `members.json` holds."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Consortium:
    """A consortium's folder as it is on disk."""

    folder: Path
    genesis: Genesis
    members: tuple[Member, ...]

    def config(self, member: Member) -> Path:
        """Return where a member's settings are."""
        return self.folder / member.config


# ------------------------------------------------------------------------------------------------ making it


def found_consortium(
    experiment: Experiment,
    folder: Path,
    on_event: Callable[[Event], None],
    now: datetime,
    *,
    force_free_ports: bool = False,
) -> Consortium:
    """Make the folder of an experiment's consortium, with every key fresh, and return it; whole or not at all.

    Args:
        experiment: what is to be learned, and in `network` by how many processes.
        folder: missing or empty.
        on_event: is told of progress.
        now: when the certificates begin to be valid.
        force_free_ports: take any free ports where those that the experiment asks for are in use.

    Raises:
        FolderInUseError: the folder is not empty.
        PortsTakenError: see `force_free_ports`.
        WorldError: the disk or the base chain refuses.
        CollegiumError: data, schema or sizes are refused, each with its reason.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUseError(f"{folder} is in use, expected a new or empty folder: keys are never overwritten")
    draft = _Draft.of(experiment, on_event)
    listeners = _listeners(experiment, force_free_ports)
    # A sibling is renamed at the end: whoever is interrupted leaves no folder that lacks something.
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        building.mkdir(parents=True)
        try:
            members = _write_folder(building, draft, listeners, now)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise WorldError(f"{error.filename or folder}: {error.strerror or error}") from error
    on_event(Message(f"{len(members)} members in {folder}; anchor {draft.genesis.anchor.hex()}"))
    return Consortium(folder, draft.genesis, members)


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """Everything that the folder will hold, still in memory."""

    experiment: Experiment
    genesis: Genesis
    validators: Sequence[ValidatorKeys]
    shares: Sequence[SecretShare]
    trainers: Sequence[tuple[AccountKey, TrainerRows]]
    stewards: Sequence[Steward]
    operator: AccountKey
    test: learning.Rows
    chain: ChainRecord

    @classmethod
    def of(cls, experiment: Experiment, on_event: Callable[[Event], None]) -> _Draft:
        """Return what an experiment founds: rows, keys, genesis, and the base chain's beginning."""
        require_for_processes(experiment)
        committee = experiment.committee
        if committee.absent or committee.lying:
            on_event(
                Warning_(
                    f"committee.absent = {committee.absent} and committee.lying = {committee.lying} are played by "
                    "`collegium run` alone; in a network every validator takes part and does as it should"
                )
            )
        schema, split = read_data(experiment, on_event)
        held = spoil_trainers(experiment, schema, split.trainers)
        if len(split.trainers) < experiment.trainers.minimum:
            raise ConsortiumError(
                f"{len(split.trainers)} trainers, trainers.minimum asks for {experiment.trainers.minimum}: fewer do "
                "not hide each other",
                trainers=len(split.trainers),
            )
        trainers = [(AccountKey.generate(os_random), rows) for rows in held]
        stewards = draw_stewards(experiment, split.hidden)
        operator = AccountKey.generate(os_random)
        validators = draw_validators(experiment.network.validators or committee.seats)
        draft = Genesis(
            experiment=experiment_to_bytes(experiment),
            schema=learning.schema_to_bytes(schema),
            rows_max=1 << (max(len(rows.rows) for _, rows in trainers) - 1).bit_length(),
            trainers=tuple((account.address, rows.name) for account, rows in trainers),
            operator=operator.address,
            epoch=0,
            validators=(),
            beacon_commitments=(),
            beacon=b"",
            stewards=tuple(steward.seat for steward in stewards),
        )
        genesis, beacons = found(draft, validators, frozenset())
        task = build_task(genesis, experiment)  # refuses what does not fit before anything is written
        consents_of(genesis, experiment.licences)  # likewise
        check_own_chains(genesis, experiment.chain)
        keys = [(own.account, own.voting) for own in validators]
        staking = experiment.chain.staking(account for account, _ in trainers)
        terms = (court_rules(genesis, experiment, task), staking, reward_plan(experiment, genesis, task))
        own = experiment.chain.registering((account, rows.name) for account, rows in trainers)
        try:
            if experiment.licences is not None:
                check_licences(licence_chains(experiment.licences, experiment.chain.urls), experiment.licences)
            chain = chains_record(found_chains(experiment.chain, operator, genesis.epoch_set, keys, *terms, own))
        except CHAIN_FAILURES as error:
            raise WorldError(str(error)) from error
        on_event(Message("the base chain is founded: contracts, registrations, the first epoch"))
        shares = [beacon.share for beacon in beacons if beacon.share is not None]
        return cls(experiment, genesis, validators, shares, trainers, stewards, operator, split.test, chain)


def _write_folder(folder: Path, draft: _Draft, listeners: Sequence[Address], now: datetime) -> tuple[Member, ...]:
    """Write every file; return the members in the order in which they are best started."""
    (folder / GENESIS).write_bytes(encode_genesis(draft.genesis))
    authority = create_authority(draft.genesis.task, now)
    (folder / AUTHORITY).mkdir(mode=0o700)
    save_authority(folder / AUTHORITY, authority)
    desk = _Desk(folder, draft, authority, now, listeners)
    members = [desk.validator(index) for index in range(len(draft.validators))]
    members += [desk.trainer(number) for number in range(len(draft.trainers))]
    members += [desk.steward(place) for place in range(len(draft.stewards))]
    members += [desk.evaluator(), desk.relayer()]
    (folder / MEMBERS).write_bytes(msgspec.json.encode(_Members(tuple(members))))
    return tuple(members)


@dataclass(frozen=True, slots=True, eq=False)
class _Desk:
    """Writes one member's folder after the other."""

    folder: Path
    draft: _Draft
    authority: Authority
    now: datetime
    listeners: Sequence[Address]

    def validator(self, index: int) -> Member:
        home = self._home(f"validators/{index:02d}")
        keys, share = self.draft.validators[index], self.draft.shares[index]
        save_secret(home / ACCOUNT_KEY, "account", keys.account.secret)
        save_secret(home / VOTING_KEY, "voting", keys.voting.to_bytes())
        save_secret(home / BEACON_KEY, "beacon", share.to_bytes())
        save_secret(home / SEAL_KEY, "seal", keys.first_seal.secret)
        self._certify(home, Role.VALIDATOR, index)
        settings = validator_settings(
            home, index, self.listeners[::LISTENERS], self._gateways(), self.draft.experiment.network
        )
        return self._member("validator", f"validator {index}", home, settings)

    def trainer(self, number: int) -> Member:
        home = self._home(f"trainers/{number:02d}")
        account, rows = self.draft.trainers[number]
        save_secret(home / ACCOUNT_KEY, "account", account.secret)
        write_rows(home / ROWS, rows.rows, self.draft.experiment.data.label)
        attestation = self.draft.experiment.attestation
        self._certify(home, Role.TRAINER, account.address)
        attest = () if attestation is None else attestation.command
        settings = trainer_settings(home, self._gateways(), self._log(), attest)
        return self._member("trainer", f"trainer {rows.name}", home, settings)

    def steward(self, place: int) -> Member:
        home, steward = self._home(f"stewards/{place:02d}"), self.draft.stewards[place]
        save_steward(home, steward)
        self._certify(home, Role.STEWARD, steward.account.address)
        return self._member("steward", f"steward {place}", home, steward_settings(home, self._gateways(), self._log()))

    def evaluator(self) -> Member:
        home = self._home(EVALUATOR)
        save_secret(home / OPERATOR_KEY, "account", self.draft.operator.secret)
        write_rows(home / ROWS, self.draft.test, self.draft.experiment.data.label)
        self._certify(home, Role.EVALUATOR, self.draft.operator.address)
        settings = evaluator_settings(home, self._gateways(), self._log())
        return self._member("evaluator", "evaluator", home, settings)

    def relayer(self) -> Member:
        home = self._home(RELAYER)
        save_secret(home / OPERATOR_KEY, "account", self.draft.operator.secret)
        (home / CHAIN).write_bytes(encode_chain_record(self.draft.chain))
        self._certify(home, Role.RELAYER, self.draft.operator.address)
        settings = relayer_settings(home, self._gateways(), self._log(), self.draft.experiment.chain)
        return self._member("relayer", "relayer", home, settings)

    def _home(self, name: str) -> Path:
        home = self.folder / name
        home.parent.mkdir(exist_ok=True)
        home.mkdir(mode=0o700)
        (home / GENESIS).write_bytes(encode_genesis(self.draft.genesis))  # a folder is all that its machine needs
        return home

    def _certify(self, home: Path, role: Role, member: int | bytes) -> None:
        identity = Identity(self.draft.genesis.task, role, member)
        hosts = [self.draft.experiment.network.host]
        credentials = issue(self.authority, identity, self.now, hosts=hosts)
        save_credentials(TlsFiles.inside(home), credentials, self.authority)

    def _gateways(self) -> Sequence[Address]:
        return self.listeners[1::LISTENERS]

    def _log(self) -> LogSettings:
        return LogSettings(self.draft.experiment.network.log_level)

    def _member(self, role: str, name: str, home: Path, settings: RoleSettings) -> Member:
        return Member(role, name, write_settings(home, settings).relative_to(self.folder).as_posix())


# ------------------------------------------------------------------------------------------------ settings of a folder


def validator_settings(
    home: Path, index: int, listeners: Sequence[Address], gateways: Sequence[Address], network: NetworkSettings
) -> ValidatorSettings:
    """Return the settings of the validator whose folder this is, given where all of them listen."""
    return ValidatorSettings(
        genesis=home / GENESIS,
        index=index,
        state=home / STATE,
        account_key=home / ACCOUNT_KEY,
        voting_key=home / VOTING_KEY,
        beacon_key=home / BEACON_KEY,
        seal_key=home / SEAL_KEY,
        tls=TlsFiles.inside(home),
        listen=listeners[index],
        gateway=gateways[index],
        peers={other: address for other, address in enumerate(listeners) if other != index},
        timing=network.timing,
        log=LogSettings(network.log_level),
        metrics=network.metrics,
    )


def trainer_settings(
    home: Path, gateways: Sequence[Address], log: LogSettings, attest: tuple[str, ...] = ()
) -> TrainerSettings:
    """Return the settings of the trainer whose folder this is."""
    return TrainerSettings(
        genesis=home / GENESIS,
        state=home / STATE,
        account_key=home / ACCOUNT_KEY,
        data=home / ROWS,
        attest=attest,
        tls=TlsFiles.inside(home),
        validators=dict(enumerate(gateways)),
        log=log,
    )


def steward_settings(home: Path, gateways: Sequence[Address], log: LogSettings) -> StewardSettings:
    """Return the settings of the steward whose folder this is."""
    return StewardSettings(
        genesis=home / GENESIS,
        state=home / STATE,
        account_key=home / ACCOUNT_KEY,
        salts_key=home / SALTS_KEY,
        shards=home / SHARDS,
        tls=TlsFiles.inside(home),
        validators=dict(enumerate(gateways)),
        log=log,
    )


def evaluator_settings(home: Path, gateways: Sequence[Address], log: LogSettings) -> EvaluatorSettings:
    """Return the settings of the evaluator whose folder this is."""
    return EvaluatorSettings(
        genesis=home / GENESIS,
        state=home / STATE,
        operator_key=home / OPERATOR_KEY,
        test_rows=home / ROWS,
        tls=TlsFiles.inside(home),
        validators=dict(enumerate(gateways)),
        log=log,
    )


def relayer_settings(
    home: Path, gateways: Sequence[Address], log: LogSettings, chain: ChainSettings
) -> RelayerSettings:
    """Return the settings of the relayer whose folder this is."""
    return RelayerSettings(
        genesis=home / GENESIS,
        state=home / STATE,
        operator_key=home / OPERATOR_KEY,
        chain=home / CHAIN,
        url=chain.url,
        followers=chain.followers,
        checkpoint_every=chain.checkpoint_every,
        tls=TlsFiles.inside(home),
        validators=dict(enumerate(gateways)),
        log=log,
    )


def write_settings(home: Path, settings: RoleSettings) -> Path:
    """Write a process's settings into its folder, and return the file."""
    (home / CONFIG).write_bytes(encode_settings(settings, home))
    return home / CONFIG


# ------------------------------------------------------------------------------------------------ ports


def _listeners(experiment: Experiment, force_free: bool) -> list[Address]:
    """Return the addresses on which validators listen: of each, for its peers and for everybody else."""
    network = experiment.network
    count = LISTENERS * (network.validators or experiment.committee.seats)
    if network.port is not None:
        wanted = [network.port + place for place in range(count)]
        taken = [port for port in wanted if port > PORT_MAX or not _is_free(network.host, port)]
        if not taken:
            return [(network.host, port) for port in wanted]
        if not force_free:
            raise PortsTakenError(
                f"network.port is {network.port}, of whose {count} ports {', '.join(map(str, taken[:8]))} "
                "cannot be listened on; choose another, leave it out, or give --force-free-ports",
                ports=tuple(taken),
            )
    return [(network.host, port) for port in free_ports(network.host, count)]


def free_ports(host: str, count: int) -> list[int]:
    """Return ports that nobody listens on now, below those that the system gives to outgoing connections.

    A port from among the latter could be gone when a process that was stopped comes back.

    Raises:
        PortsTakenError: too few were found.
    """
    try:
        upper = int(PORT_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        upper = EPHEMERAL_MIN
    upper = upper if upper > 2 * PORT_MIN else EPHEMERAL_MIN
    ports: list[int] = []
    with ExitStack() as held:
        for _ in range(PORT_TRIES_MAX):
            if len(ports) == count:
                return ports
            port = PORT_MIN + secrets.randbelow(upper - PORT_MIN)
            listener = _listen(host, port)
            if listener is not None:
                held.enter_context(listener)  # until all are found: no port twice
                ports.append(port)
    raise PortsTakenError(f"{len(ports)} of {count} ports were free on {host}", ports=tuple(ports))


def _is_free(host: str, port: int) -> bool:
    listener = _listen(host, port)
    if listener is None:
        return False
    listener.close()
    return True


def _listen(host: str, port: int) -> socket.socket | None:
    """Return a socket that listens there, or None where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)
    except (OSError, UnicodeError):
        listener.close()
        return None
    return listener


# ------------------------------------------------------------------------------------------------ reading it


def open_consortium(folder: Path) -> Consortium:
    """Return the consortium whose folder this is.

    Raises:
        ConsortiumError: it is no consortium's folder.
        GenesisError: its genesis is malformed.
    """
    try:
        data = (folder / MEMBERS).read_bytes()
    except OSError as error:
        raise ConsortiumError(f"{folder / MEMBERS}: {error.strerror}; expected a consortium's folder") from error
    listed = decode_canonical(data, _Members, MEMBERS, MEMBERS_BYTES_MAX, ConsortiumError)
    for member in listed.members:
        path = Path(member.config)
        if path.is_absolute() or ".." in path.parts:
            raise ConsortiumError(f"{MEMBERS} lists {member.config!a}, expected a path inside the folder")
    return Consortium(folder, read_genesis(folder / GENESIS), listed.members)


def open_operated(folder: Path) -> Consortium:
    """Return the consortium whose folder this is; of an operator's own folder, with evaluator and relayer alone.

    Raises:
        ConsortiumError: it is neither.
        GenesisError: its genesis is malformed.
    """
    if (folder / MEMBERS).exists() or not (folder / EVALUATOR).is_dir():
        return open_consortium(folder)
    roles = (EVALUATOR, RELAYER)
    members = tuple(Member(role, role, f"{role}/{CONFIG}") for role in roles)
    return Consortium(folder, read_genesis(folder / EVALUATOR / GENESIS), members)


def read_genesis(path: Path) -> Genesis:
    """Return the genesis in a file.

    Raises:
        ConsortiumError: the file cannot be read.
        GenesisError: it is malformed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(GENESIS_BYTES_MAX + 1)
    except OSError as error:
        raise ConsortiumError(f"{path}: {error.strerror}; expected a genesis file") from error
    try:
        return decode_genesis(data)
    except GenesisError as error:
        raise GenesisError(f"{path}: {error}", **error.values) from error


@dataclass(frozen=True, slots=True, eq=False)
class ValidatorSecrets:
    """What a validator signs and opens with; `seal` None where round 0, whose sealing key it is, is over."""

    account: AccountKey
    voting: BlsSecretKey
    beacon: ThresholdBeacon
    seal: SealKey | None


def load_validator_secrets(settings: ValidatorSettings, genesis: Genesis) -> ValidatorSecrets:
    """Return a validator's secrets, each of which must be the one that genesis lists for it.

    Raises:
        ForeignKeyError: a key is another one, or genesis has no such validator.
        KeyFileError: a file is missing, readable by others, or of another use.
        CredentialsFileError: the certificate is none, or does not name this validator of this task.
        GenesisError: the beacon's dealings are not those of this epoch set.
    """
    if settings.index >= len(genesis.validators):
        raise ForeignKeyError(
            f"there is no validator {settings.index}, genesis lists {len(genesis.validators)}", index=settings.index
        )
    entry = genesis.validators[settings.index]
    check_credentials(settings.tls, Identity(genesis.task, Role.VALIDATOR, settings.index))
    account = load_account(settings.account_key, entry.account)
    voting = BlsSecretKey.from_bytes(load_secret(settings.voting_key, "voting"))
    if bytes(voting.public_key()) != entry.bls_key:
        raise _foreign(settings.voting_key, f"the voting key of validator {settings.index}")
    share = SecretShare.from_bytes(settings.index, load_secret(settings.beacon_key, "beacon"))
    try:
        beacon = replace(open_beacon(genesis), share=share)
    except BadShareError as error:
        raise _foreign(settings.beacon_key, f"the share of validator {settings.index}") from error
    seal = SealKey(load_secret(settings.seal_key, "seal")) if settings.seal_key.exists() else None
    announced = None if entry.announcement is None else entry.announcement.seal_key
    if seal is not None and seal.public_bytes != announced:
        raise _foreign(settings.seal_key, f"the sealing key that validator {settings.index} announced")
    return ValidatorSecrets(account, voting, beacon, seal)


def save_steward(home: Path, steward: Steward) -> None:
    """Write a steward's keys and rows into its folder."""
    save_secret(home / ACCOUNT_KEY, "account", steward.account.secret)
    save_secret(home / SALTS_KEY, "salts", steward.secret)
    (home / SHARDS).mkdir(mode=0o700)
    for place, rows in enumerate(steward.shards):
        write_rows(shard_file(home / SHARDS, place), rows, steward.label)


def load_steward(settings: StewardSettings, genesis: Genesis, experiment: Experiment) -> tuple[int, Steward]:
    """Return a steward with its secrets and rows, and its place in the genesis, which binds it to both.

    Raises:
        ForeignKeyError: genesis lists no steward with this account, or binds it to other rows or another secret.
        KeyFileError: a file is missing, readable by others, or of another use.
        CollegiumError: the rows cannot be read.
    """
    account = AccountKey(load_secret(settings.account_key, "account"))
    accounts, quality = [seat.account for seat in genesis.stewards], experiment.stewards
    if quality is None or account.address not in accounts:
        raise ForeignKeyError(
            f"genesis lists no steward with account 0x{account.address.hex()}", path=settings.account_key
        )
    label, count = experiment.data.label, quality.shards(experiment.task.rounds)
    shards = tuple(read_rows(shard_file(settings.shards, shard), label) for shard in range(count))
    steward = Steward(account, shards, label, load_secret(settings.salts_key, "salts"), quality.shard_rounds)
    place = accounts.index(account.address)
    if genesis.stewards[place].rows != steward.commitment:
        raise _foreign(settings.shards, f"the rows of steward {place}, or {settings.salts_key} not its secret,")
    return place, steward


def load_account(path: Path, address: bytes) -> AccountKey:
    """Return the key in a file of an account that genesis names.

    Raises:
        ForeignKeyError: it is another account's.
        KeyFileError: the file is missing, readable by others, or of another use.
    """
    account = AccountKey(load_secret(path, "account"))
    if account.address != address:
        raise ForeignKeyError(
            f"{path} is the key of account 0x{account.address.hex()}, expected that of 0x{address.hex()}", path=path
        )
    return account


def _foreign(path: Path, expected: str) -> ForeignKeyError:
    return ForeignKeyError(f"{path} is not {expected} in genesis", path=path)
