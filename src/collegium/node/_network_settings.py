"""What one process of a network reads when it starts: a strict TOML file for each role, and how such files are written.

Every path in a file is relative to the file's folder. Reading and writing name the same sections and keys in the same
order; docs/guide/network.md lists them.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, TypeVar

from collegium.consensus import RoundTiming
from collegium.errors import CollegiumError

from ._chain_settings import EMBEDDED, FOLLOWERS_MAX
from ._sections import PATH_LENGTH_MAX, URL_LENGTH_MAX, Problem, Section, shown
from ._tls import TlsFiles

__all__ = [
    "LOG_LEVELS",
    "ROLES",
    "Address",
    "EvaluatorSettings",
    "LimitSettings",
    "LogSettings",
    "RelayerSettings",
    "Role",
    "RoleSettings",
    "SettingsError",
    "SettingsRefusedError",
    "SettingsUnreadableError",
    "StewardSettings",
    "TimingSettings",
    "TrainerSettings",
    "ValidatorSettings",
    "address_problem",
    "decode_settings",
    "encode_settings",
    "expect_role",
    "format_address",
    "load_settings",
    "network_settings",
    "parse_address",
    "role_of",
    "shard_file",
]

T = TypeVar("T")
Address: TypeAlias = tuple[str, int]
"""Host and port."""
Role: TypeAlias = Literal["validator", "trainer", "steward", "evaluator", "relayer"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

ROLES: Final[tuple[Role, ...]] = ("validator", "trainer", "steward", "evaluator", "relayer")
LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")
FILE_BYTES_MAX: Final = 1 << 20
HOST_LENGTH_MAX = 253  # of a name in the DNS
PORT_MAX = (1 << 16) - 1
VALIDATORS_MAX = 256
MILLISECONDS_MAX = 3_600_000
WORDS_MAX = 64
DIGEST_BYTES = 32
CONFIRMATIONS_MAX = 10_000
GWEI_MAX = 10**9


class SettingsError(CollegiumError):
    """A role's settings were refused."""


class SettingsUnreadableError(SettingsError):
    """The settings file is not there, too large, not UTF-8, or not TOML."""


class SettingsRefusedError(SettingsError):
    """The settings have problems; `problems` lists all that were found, each with file, key, value and expectation."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems), problems=problems)
        self.problems = problems


# ------------------------------------------------------------------------------------------------ what is set


@dataclass(frozen=True, slots=True)
class TimingSettings:
    """How long a validator waits: `view_timeout_ms` for a leader, and within a round as `RoundTiming` says."""

    view_timeout_ms: int = 4_000
    round: RoundTiming = field(
        default_factory=lambda: RoundTiming(
            grace_ms=100, straggler_ms=2_000, deadline_ms=300_000, release_ms=4_000, turn_ms=3_000, verify_ms=4_000
        )
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What a validator gives others room for.

    Attributes:
        mailbox_messages: messages that wait for the state machine before reading from peers pauses.
        peer_bytes_per_s, peer_messages_per_s: of one peer, averaged; bursts of some seconds are let through.
        spool_bytes: of all unfinished uploads together.
    """

    mailbox_messages: int = 4_096
    peer_bytes_per_s: int = 64 << 20
    peer_messages_per_s: int = 2_000
    spool_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much is logged, and where to; to standard error where `file` is None."""

    level: LogLevel = "info"
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class ValidatorSettings:
    """A validator's process.

    Attributes:
        genesis: the public root.
        index: this validator's place in the epoch set.
        state: folder for its journal and spool.
        account_key, voting_key, beacon_key: its secrets; `beacon_key` is its share of the beacon.
        seal_key: the sealing key that genesis announces for round 0; deleted when that round is over.
        listen: where other validators reach it.
        gateway: where trainers, evaluator and relayer reach it.
        peers: where to reach every other validator, by index.
        metrics: whether the gateway serves /metrics.
        pins: SHA-256 of the only certificate (DER) that a validator may show, by index; of others any of its name.
    """

    genesis: Path
    index: int
    state: Path
    account_key: Path
    voting_key: Path
    beacon_key: Path
    seal_key: Path
    tls: TlsFiles
    listen: Address
    gateway: Address
    peers: Mapping[int, Address]
    timing: TimingSettings = field(default_factory=TimingSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: bool = True
    pins: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """A trainer's process.

    Attributes:
        state: folder for its journal: which encodings of its rows are used up.
        account_key: its account's key; genesis names the account.
        data: its own rows, which never leave it.
        attest: at level "attested", a program that prints an attestation; empty otherwise.
        validators: the gateway of each validator, by index.
    """

    genesis: Path
    state: Path
    account_key: Path
    data: Path
    tls: TlsFiles
    validators: Mapping[int, Address]
    attest: tuple[str, ...] = ()
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True, slots=True)
class StewardSettings:
    """A steward's process: each round it says in which direction its hidden rows would move the model.

    Attributes:
        state: folder for its journal: what it has signed for which round.
        account_key: its account's key; genesis names the account.
        salts_key: the secret that its salts follow from: of the commitment to its rows, and of those to scores.
        shards: folder of its hidden rows, a file a shard (`shard_file`); genesis binds it to them.
        validators: the gateway of each validator, by index.
    """

    genesis: Path
    state: Path
    account_key: Path
    salts_key: Path
    shards: Path
    tls: TlsFiles
    validators: Mapping[int, Address]
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True, slots=True)
class EvaluatorSettings:
    """The evaluator's process: it evaluates each model on test rows and signs what it finds as the operator.

    Attributes:
        state: folder for the signed evaluations.
        operator_key: key of the operator's account, which genesis names.
        test_rows: rows that no trainer holds.
        validators: the gateway of each validator, by index.
    """

    genesis: Path
    state: Path
    operator_key: Path
    test_rows: Path
    tls: TlsFiles
    validators: Mapping[int, Address]
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True, slots=True)
class RelayerSettings:
    """The relayer's process: it gathers signatures of checkpoints and posts them as the operator.

    Attributes:
        state: folder for the chain's record as it grows.
        operator_key: key of the operator's account, which deployed the contracts.
        chain: record of the base chain when the task was founded: contracts, registrations, the first epoch.
        url: the base chain's node; None for the embedded chain.
        checkpoint_every: rounds that one checkpoint covers.
        validators: the gateway of each validator, by index.
        followers: the nodes of the chains that follow, in the order of the record; None for an embedded chain.
        confirmations: blocks that must follow the one with a step before the relayer goes on.
        gas_price_max_gwei: the most that it offers for a unit of gas, in 10^9 wei; None for no bound.
        replace_after_s: how long a transaction may wait before one that offers more replaces it.
    """

    genesis: Path
    state: Path
    operator_key: Path
    chain: Path
    url: str | None
    checkpoint_every: int
    tls: TlsFiles
    validators: Mapping[int, Address]
    log: LogSettings = field(default_factory=LogSettings)
    followers: tuple[str | None, ...] = ()
    confirmations: int = 0
    gas_price_max_gwei: int | None = None
    replace_after_s: int = 300


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How an experiment's task is run as a network of processes; no part of the experiment's identity.

    Attributes:
        validators: how many share the committee's seats; None means one for each seat.
        host: where every process listens.
        port: of the first listener, the others follow it; None means ports that are free.
        log_level: of every process.
        metrics: whether validators serve /metrics.
    """

    validators: int | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    log_level: LogLevel = "info"
    metrics: bool = True
    timing: TimingSettings = field(default_factory=TimingSettings)


RoleSettings: TypeAlias = ValidatorSettings | TrainerSettings | StewardSettings | EvaluatorSettings | RelayerSettings


def shard_file(folder: Path, place: int) -> Path:
    """Return where a steward keeps the rows of one of its shards."""
    return folder / f"{place:05d}.csv"


def role_of(settings: RoleSettings) -> Role:
    """Return the role that settings are of."""
    match settings:
        case ValidatorSettings():
            return "validator"
        case TrainerSettings():
            return "trainer"
        case StewardSettings():
            return "steward"
        case EvaluatorSettings():
            return "evaluator"
        case RelayerSettings():
            return "relayer"


def expect_role(settings: RoleSettings, role: Role, path: Path) -> None:
    """Check that the settings of a file are of a role.

    Raises:
        SettingsRefusedError: they are of another one.
    """
    if role_of(settings) != role:
        text = f'is "{role_of(settings)}", expected "{role}"'
        raise SettingsRefusedError((Problem(f"{path}: node.role", "conflict", text),))


# ------------------------------------------------------------------------------------------------ reading


def load_settings(path: Path) -> RoleSettings:
    """Return the settings of a role's TOML file; every file that they name as input must be there.

    Raises:
        SettingsUnreadableError: the file cannot be read, or is not TOML.
        SettingsRefusedError: what it says are no settings; every problem is listed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsUnreadableError(f"{path}: {reason}; expected a role's settings", path=path) from error
    settings = decode_settings(data, path)
    missing = [
        Problem(f"{path}: {where}", "missing", f"is {shown(str(file))}, expected a file that is there")
        for where, file in _inputs(settings)
        if not file.is_file()
    ]
    if missing:
        raise SettingsRefusedError(tuple(missing))
    return settings


def decode_settings(data: bytes, path: Path) -> RoleSettings:
    """Return the settings written in TOML bytes; `path` is where they come from, for messages and relative paths.

    Raises:
        SettingsUnreadableError: the bytes are too many, not UTF-8, or not TOML.
        SettingsRefusedError: what they say are no settings; every problem is listed.
    """
    if len(data) > FILE_BYTES_MAX:
        raise SettingsUnreadableError(f"{path}: is larger than {FILE_BYTES_MAX} bytes", bytes_max=FILE_BYTES_MAX)
    try:
        mapping = tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise SettingsUnreadableError(f"{path}: is nested too deeply for TOML that we read") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and whole numbers of thousands of digits
        raise SettingsUnreadableError(f"{path}: is not TOML in UTF-8: {error}") from error
    problems: list[Problem] = []
    settings = _Reader(mapping, path.parent, problems).settings()
    if problems or settings is None:
        raise SettingsRefusedError(
            tuple(Problem(f"{path}: {problem.where}", problem.kind, problem.text) for problem in problems)
        )
    return settings


_SECTIONS: Final[Mapping[Role, tuple[str, ...]]] = MappingProxyType(
    {
        "validator": ("node", "keys", "tls", "listen", "peers", "pins", "timing", "limits", "log"),
        "trainer": ("node", "keys", "data", "tls", "validators", "log"),
        "steward": ("node", "keys", "data", "tls", "validators", "log"),
        "evaluator": ("node", "keys", "data", "tls", "validators", "log"),
        "relayer": ("node", "keys", "chain", "tls", "validators", "log"),
    }
)
_OPTIONAL: Final = ("pins", "timing", "limits", "log")


class _Reader:
    """Reads the sections of one file; one method a role, one a section that several roles have."""

    def __init__(self, mapping: Mapping[str, object], folder: Path, problems: list[Problem]) -> None:
        self._mapping, self._folder, self._problems = mapping, folder, problems

    def settings(self) -> RoleSettings | None:
        """Return the settings of the role that the file names, or None after noting that it names none."""
        node = self._section("node")
        if "node" not in self._mapping:
            return None
        given = node.choice("role", ROLES)
        if not node.ok:
            return None
        role: Role = next(role for role in ROLES if role == given)
        self._check_names(role)
        readers: Mapping[Role, Callable[[Section], RoleSettings]] = {
            "validator": self._validator,
            "trainer": self._trainer,
            "steward": self._steward,
            "evaluator": self._evaluator,
            "relayer": self._relayer,
        }
        return readers[role](node)

    def _validator(self, node: Section) -> ValidatorSettings:
        keys, listen = self._section("keys"), self._section("listen")
        index = node.integer("index", 0, VALIDATORS_MAX - 1)
        settings = ValidatorSettings(
            genesis=self._path(node, "genesis"),
            index=index,
            state=self._path(node, "state"),
            account_key=self._path(keys, "account"),
            voting_key=self._path(keys, "voting"),
            beacon_key=self._path(keys, "beacon"),
            seal_key=self._path(keys, "seal"),
            tls=self._tls(),
            listen=_address(listen, "peers"),
            gateway=_address(listen, "gateway"),
            metrics=listen.boolean("metrics", default=True),
            peers=self._addresses("peers"),
            timing=self._timing(),
            limits=self._limits(),
            log=self._log(),
            pins=self._pins(),
        )
        for strange in sorted(settings.pins.keys() - settings.peers.keys()):
            self._problems.append(Problem(f"pins.{strange}", "conflict", "is no validator that [peers] lists"))
        if node.ok and index in settings.peers:
            node.note("index", "conflict", f"is {index}, which [peers] lists too; a validator is no peer of its own")
        if listen.ok and settings.listen == settings.gateway:
            listen.note("gateway", "conflict", f"is {format_address(settings.gateway)}, where peers are listened to")
        for section in (node, keys, listen):
            section.close()
        return settings

    def _trainer(self, node: Section) -> TrainerSettings:
        keys, data = self._section("keys"), self._section("data")
        settings = TrainerSettings(
            genesis=self._path(node, "genesis"),
            state=self._path(node, "state"),
            account_key=self._path(keys, "account"),
            data=self._path(data, "rows"),
            attest=node.words("attest", WORDS_MAX, PATH_LENGTH_MAX),
            tls=self._tls(),
            validators=self._addresses("validators"),
            log=self._log(),
        )
        for section in (node, keys, data):
            section.close()
        return settings

    def _steward(self, node: Section) -> StewardSettings:
        keys, data = self._section("keys"), self._section("data")
        settings = StewardSettings(
            genesis=self._path(node, "genesis"),
            state=self._path(node, "state"),
            account_key=self._path(keys, "account"),
            salts_key=self._path(keys, "salts"),
            shards=self._path(data, "shards"),
            tls=self._tls(),
            validators=self._addresses("validators"),
            log=self._log(),
        )
        for section in (node, keys, data):
            section.close()
        return settings

    def _evaluator(self, node: Section) -> EvaluatorSettings:
        keys, data = self._section("keys"), self._section("data")
        settings = EvaluatorSettings(
            genesis=self._path(node, "genesis"),
            state=self._path(node, "state"),
            operator_key=self._path(keys, "operator"),
            test_rows=self._path(data, "rows"),
            tls=self._tls(),
            validators=self._addresses("validators"),
            log=self._log(),
        )
        for section in (node, keys, data):
            section.close()
        return settings

    def _relayer(self, node: Section) -> RelayerSettings:
        keys, chain = self._section("keys"), self._section("chain")
        settings = RelayerSettings(
            genesis=self._path(node, "genesis"),
            state=self._path(node, "state"),
            operator_key=self._path(keys, "operator"),
            chain=self._path(chain, "record"),
            url=chain.optional_text("url", URL_LENGTH_MAX),
            checkpoint_every=chain.integer("checkpoint_every", 1, 10_000),
            tls=self._tls(),
            validators=self._addresses("validators"),
            log=self._log(),
            followers=tuple(
                None if text == EMBEDDED else text for text in chain.words("followers", FOLLOWERS_MAX, URL_LENGTH_MAX)
            ),
            confirmations=chain.integer("confirmations", 0, CONFIRMATIONS_MAX, default=0),
            gas_price_max_gwei=chain.optional_integer("gas_price_max_gwei", 1, GWEI_MAX),
            replace_after_s=chain.integer("replace_after_s", 1, 86_400, default=300),
        )
        for section in (node, keys, chain):
            section.close()
        return settings

    def _tls(self) -> TlsFiles:
        section = self._section("tls")
        files = TlsFiles(*(self._path(section, key.name) for key in fields(TlsFiles)))
        section.close()
        return files

    def _addresses(self, name: str) -> dict[int, Address]:
        """Return the addresses of a section whose keys are validators' indices."""
        return self._by_index(name, _address, '0 = "127.0.0.1:20001"')

    def _pins(self) -> dict[int, bytes]:
        return self._by_index("pins", _pin, f'0 = "{64 * "0"}"') if "pins" in self._mapping else {}

    def _by_index(self, name: str, read: Callable[[Section, str], T], example: str) -> dict[int, T]:
        """Return what a section says of validators, whose indices are its keys."""
        section, table = self._section(name), self._mapping.get(name)
        found: dict[int, T] = {}
        for key in table if isinstance(table, dict) else ():
            if not (key.isascii() and key.isdigit() and len(key) <= 3 and str(int(key)) == key):
                section.has(key)
                section.note(shown(key), "unknown", "is no validator, expected its index: 0, 1, ...")
            elif int(key) >= VALIDATORS_MAX:
                section.has(key)
                section.note(key, "range", f"is no validator, expected an index below {VALIDATORS_MAX}")
            else:
                found[int(key)] = read(section, key)
        if isinstance(table, dict) and not table:
            section.note("", "missing", f"is empty, expected a line such as {example} for each validator")
        return dict(sorted(found.items()))

    def _timing(self) -> TimingSettings:
        section = self._section("timing")
        timing = _timing(section)
        section.close()
        return timing

    def _limits(self) -> LimitSettings:
        section, default = self._section("limits"), LimitSettings()
        limits = {
            key.name: section.integer(key.name, 1, 1 << 40, getattr(default, key.name)) for key in fields(LimitSettings)
        }
        section.close()
        return LimitSettings(**limits)

    def _log(self) -> LogSettings:
        section = self._section("log")
        level = _log_level(section, "level")
        file = self._path(section, "file") if section.has("file") else None
        section.close()
        return LogSettings(level, file)

    def _path(self, section: Section, key: str) -> Path:
        return self._folder / section.text(key, PATH_LENGTH_MAX)

    def _section(self, name: str) -> Section:
        value = self._mapping.get(name)
        if isinstance(value, dict):
            return Section(name, value, self._problems)
        if name in self._mapping:
            self._problems.append(Problem(f"[{name}]", "type", f"is {shown(value)}, expected a section"))
        elif name not in _OPTIONAL:
            whose = "every role's settings have" if name == "node" else "this role has"
            self._problems.append(Problem(f"[{name}]", "missing", f"is missing; {whose} this section"))
        return Section(name, {}, [])  # one line is enough

    def _check_names(self, role: Role) -> None:
        """Note the sections that the role does not have."""
        found: list[Problem] = []
        names = Section("sections", self._mapping, found)
        for name in _SECTIONS[role]:
            names.has(name)
        names.close()
        for problem in found:
            where = problem.where.removeprefix("sections.")
            text = problem.text.replace("setting of this section", f"section of a {role}'s settings")
            self._problems.append(Problem(f"[{where}]", problem.kind, text))


def network_settings(section: Section) -> NetworkSettings:
    """Return what an experiment's [network] says."""
    settings = NetworkSettings(
        validators=section.optional_integer("validators", 1, VALIDATORS_MAX),
        host=section.text("host", HOST_LENGTH_MAX, default=NetworkSettings().host),
        port=section.optional_integer("port", 1, PORT_MAX),
        log_level=_log_level(section, "log_level"),
        metrics=section.boolean("metrics", default=True),
        timing=_timing(section),
    )
    problem = None if not settings.host else address_problem(format_address((settings.host, 1)))
    if problem is not None:
        section.note("host", "range", f'is {shown(settings.host)}, expected a host such as "127.0.0.1"')
    section.close()
    return settings


def _timing(section: Section) -> TimingSettings:
    default = TimingSettings()
    view = section.integer("view_timeout_ms", 1, MILLISECONDS_MAX, default.view_timeout_ms)
    waits = {
        key.name: section.integer(key.name, 0, MILLISECONDS_MAX, getattr(default.round, key.name))
        for key in fields(RoundTiming)
    }
    return TimingSettings(view, RoundTiming(**waits))


def _log_level(section: Section, key: str) -> LogLevel:
    given = section.choice(key, LOG_LEVELS) if section.has(key) else "info"
    return next(level for level in LOG_LEVELS if level == given)


def _address(section: Section, key: str) -> Address:
    text = section.text(key, HOST_LENGTH_MAX + 8)
    problem = None if not text else address_problem(text)
    if problem is not None:
        section.note(key, "range", problem)
    return ("", 0) if not text or problem is not None else parse_address(text)


def _pin(section: Section, key: str) -> bytes:
    text = section.text(key, 2 * DIGEST_BYTES)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        if text:
            section.note(key, "range", f"is {shown(text)}, expected a certificate's SHA-256: 64 hexadecimal digits")
        return b""
    return bytes.fromhex(text)


def address_problem(text: str) -> str | None:
    """Return what is wrong with `host:port`, or None."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    named = bool(bare) and len(bare) <= HOST_LENGTH_MAX and all(c.isalnum() or c in ".-:_%" for c in bare)
    if not colon or not named or not bare.isascii() or (":" in bare) != (bare != host):
        return f'is {shown(text)}, expected host:port such as "127.0.0.1:20001" or "[::1]:20001"'
    if not 1 <= number <= PORT_MAX or str(number) != port:
        return f"is {shown(text)}, expected a port from 1 to {PORT_MAX}"
    return None


def parse_address(text: str) -> Address:
    """Return host and port of text with which `address_problem` finds nothing wrong."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def format_address(address: Address) -> str:
    """Return host:port, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _inputs(settings: RoleSettings) -> list[tuple[str, Path]]:
    """Return the files that must be there before a role can start, by the key that names each."""
    tls = [(f"tls.{key.name}", getattr(settings.tls, key.name)) for key in fields(TlsFiles)]
    files = [("node.genesis", settings.genesis), *tls]
    match settings:
        case ValidatorSettings():  # the sealing key of round 0 is deleted when that round is over
            keys = [("account", settings.account_key), ("voting", settings.voting_key), ("beacon", settings.beacon_key)]
            files += [(f"keys.{name}", file) for name, file in keys]
        case TrainerSettings():
            files += [("keys.account", settings.account_key), ("data.rows", settings.data)]
        case StewardSettings():
            secrets = [("keys.account", settings.account_key), ("keys.salts", settings.salts_key)]
            files += [*secrets, ("data.shards", shard_file(settings.shards, 0))]
        case EvaluatorSettings():
            files += [("keys.operator", settings.operator_key), ("data.rows", settings.test_rows)]
        case RelayerSettings():
            files += [("keys.operator", settings.operator_key), ("chain.record", settings.chain)]
    return files


# ------------------------------------------------------------------------------------------------ writing


def encode_settings(settings: RoleSettings, folder: Path) -> bytes:
    """Return the TOML file of a role's settings, to be put into `folder`: paths are written relative to it."""
    sections: dict[str, Mapping[str, object]]
    match settings:
        case ValidatorSettings():
            sections = _validator_sections(settings, folder)
        case TrainerSettings():
            node = {"role": "trainer", **_common(settings, folder)}
            sections = {
                "node": node | ({"attest": list(settings.attest)} if settings.attest else {}),
                "keys": {"account": _relative(settings.account_key, folder)},
                "data": {"rows": _relative(settings.data, folder)},
            }
        case StewardSettings():
            keys = {"account": settings.account_key, "salts": settings.salts_key}
            sections = {
                "node": {"role": "steward", **_common(settings, folder)},
                "keys": {name: _relative(path, folder) for name, path in keys.items()},
                "data": {"shards": _relative(settings.shards, folder)},
            }
        case EvaluatorSettings():
            sections = {
                "node": {"role": "evaluator", **_common(settings, folder)},
                "keys": {"operator": _relative(settings.operator_key, folder)},
                "data": {"rows": _relative(settings.test_rows, folder)},
            }
        case RelayerSettings():
            chain: dict[str, object] = {"record": _relative(settings.chain, folder)}
            chain |= {} if settings.url is None else {"url": settings.url}
            chain |= {"followers": [url or EMBEDDED for url in settings.followers]} if settings.followers else {}
            chain |= {"checkpoint_every": settings.checkpoint_every, "confirmations": settings.confirmations}
            price_max = settings.gas_price_max_gwei
            chain |= {} if price_max is None else {"gas_price_max_gwei": price_max}
            sections = {
                "node": {"role": "relayer", **_common(settings, folder)},
                "keys": {"operator": _relative(settings.operator_key, folder)},
                "chain": chain | {"replace_after_s": settings.replace_after_s},
            }
    log: dict[str, object] = {"level": settings.log.level}
    log |= {} if settings.log.file is None else {"file": _relative(settings.log.file, folder)}
    tls = {key.name: _relative(getattr(settings.tls, key.name), folder) for key in fields(TlsFiles)}
    addresses = settings.peers if isinstance(settings, ValidatorSettings) else settings.validators
    name = "peers" if isinstance(settings, ValidatorSettings) else "validators"
    pins = settings.pins if isinstance(settings, ValidatorSettings) else {}
    listed: Mapping[str, object] = {str(index): digest.hex() for index, digest in sorted(pins.items())}
    pinned = {"pins": listed} if listed else {}
    return _toml({**sections, "tls": tls, name: _listed(addresses), **pinned, "log": log})


def _validator_sections(settings: ValidatorSettings, folder: Path) -> dict[str, Mapping[str, object]]:
    waits = {key.name: getattr(settings.timing.round, key.name) for key in fields(RoundTiming)}
    keys = {
        "account": settings.account_key,
        "voting": settings.voting_key,
        "beacon": settings.beacon_key,
        "seal": settings.seal_key,
    }
    return {
        "node": {"role": "validator", "index": settings.index, **_common(settings, folder)},
        "keys": {name: _relative(path, folder) for name, path in keys.items()},
        "listen": {
            "peers": format_address(settings.listen),
            "gateway": format_address(settings.gateway),
            "metrics": settings.metrics,
        },
        "timing": {"view_timeout_ms": settings.timing.view_timeout_ms, **waits},
        "limits": {key.name: getattr(settings.limits, key.name) for key in fields(LimitSettings)},
    }


def _common(settings: RoleSettings, folder: Path) -> dict[str, str]:
    return {"genesis": _relative(settings.genesis, folder), "state": _relative(settings.state, folder)}


def _listed(addresses: Mapping[int, Address]) -> dict[str, str]:
    return {str(index): format_address(address) for index, address in sorted(addresses.items())}


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _toml(sections: Mapping[str, Mapping[str, object]]) -> bytes:
    """Return sections of text, whole numbers, truth values and lists of text as TOML."""
    lines = []
    for name, section in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items()]
        lines.append("")
    return "\n".join(lines).encode()
