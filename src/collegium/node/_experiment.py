"""The experiment file: everything that one run depends on, in one TOML file, decoded once and strictly.

docs/guide/experiment.md lists every key. The canonical bytes of an experiment, which the task digest covers, are JSON
with sorted keys, no spaces, ASCII only, fractions as "numerator/denominator", and every default written out.
"""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit

from collegium.aggregation import COMMITTEE_DOMAIN, KEY_CODE
from collegium.consensus import CHANGE_WINDOWS, faulty_max, seat_quorum
from collegium.errors import CollegiumError
from collegium.incentives import HITS_MAX
from collegium.learning import CategoryColumn, NumericColumn, Schema, schema_from_mapping, schema_to_mapping
from collegium.proofs import QuotePolicy, decode_policy, encode_policy

from ._attack_settings import UPDATE_ATTACKS, AttackSettings, attack_settings, attack_to_mapping
from ._licence_settings import CHAIN_ID_MAX, LicenceSettings, licence_settings, licences_to_mapping
from ._network_settings import NetworkSettings, network_settings
from ._privacy import PrivacySettings, privacy_settings, privacy_to_mapping
from ._quality_settings import PROVED_ROUNDS_MAX, QualitySettings, quality_settings, quality_to_mapping
from ._reward_settings import RewardSettings, reward_settings, rewards_to_mapping
from ._sections import Problem, ProblemKind, Section, as_quotient, shown

__all__ = [
    "AttackersNetworkError",
    "AttestationSettings",
    "ChainSettings",
    "CohortSettings",
    "CommitteeSettings",
    "DataSettings",
    "Experiment",
    "ExperimentBytesError",
    "ExperimentError",
    "ExperimentRefusedError",
    "ExperimentUnreadableError",
    "ModelSettings",
    "OpenedRowsNetworkError",
    "PrivacySettings",
    "Problem",
    "QualitySettings",
    "RuleSettings",
    "ShardedNetworkError",
    "TaskSettings",
    "decode_experiment",
    "experiment_from_bytes",
    "experiment_to_bytes",
    "load_experiment",
    "require_for_cards",
    "require_for_processes",
    "seats_spoiled_max",
    "validators_problem",
]

FORMAT: Final = "collegium/v1/experiment"
FILE_BYTES_MAX: Final = 1 << 20

NAME_LENGTH_MAX = 64
CELL_LENGTH_MAX = 256  # of column names too
PATH_LENGTH_MAX = 1024
URL_LENGTH_MAX = 512
EMBEDDED = "embedded"  # what a file may write for a chain without a url
FOLLOWERS_MAX = 15
LIST_COUNT_MAX = 256
ROUNDS_MAX = 10_000
SEED_MAX = (1 << 63) - 1
ROWS_MAX = 1 << 24
HIDDEN_SHARDS_MAX = 256  # of one steward
HIDDEN_LAYERS_MAX = 7
HIDDEN_WIDTH_MAX = 4096
LOCAL_STEPS_MAX = 64
RATE_TERM_MAX = 1 << 16  # as the training rule bounds it
RANGE_LIMIT_MAX = 1 << 10  # likewise
TERM_MAX = 10**6
PER_SITE_MAX = 1024
TRAINERS_MAX = 1 << 16
STALENESS_MAX = 4  # weights up to 16
SEATS_MIN, SEATS_MAX = 16, 256
VALIDATORS_MAX = 256  # the contract's bitmap has as many bits
LINK_MS_MAX = 10_000
WATTS_MAX = 1000
POLICY_BYTES_MAX = 1 << 18
UNIX_TIME_MAX = 253_402_300_799  # the year 9999, as far as certificates go
COMMAND_WORDS_MAX = 64

COLUMNS = COMMITTEE_DOMAIN.size  # of the key codeword, shared equally among the seats
# An absent seat spoils its columns once, a lying one twice; the code bears as many as it has beyond its degree bound.
COLUMNS_SPOILED_MAX = COLUMNS - KEY_CODE.degree_bound

T = TypeVar("T")
Level: TypeAlias = Literal["unproved", "bounded", "attested", "proved"]
ModelKind: TypeAlias = Literal["logistic", "mlp"]
Loss: TypeAlias = Literal["sigmoid", "squared"]

LEVELS: Final[tuple[Level, ...]] = ("unproved", "bounded", "attested", "proved")
_SECTIONS_YOUNG = ("stewards", "attack", "rewards", "privacy")
_SECTIONS_REQUIRED = ("task", "data", "model", "rule", "committee")
_SECTIONS_OPTIONAL = ("schema", "trainers", "chain", "attestation", "licences", *_SECTIONS_YOUNG, "network")


class ExperimentError(CollegiumError):
    """An experiment was refused."""


class ExperimentUnreadableError(ExperimentError):
    """The experiment file is not there, too large, not UTF-8, or not TOML."""


class ExperimentRefusedError(ExperimentError):
    """The experiment has problems; `problems` lists all that were found: sections, then keys."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems), problems=problems)
        self.problems = problems


class ExperimentBytesError(ExperimentError):
    """Bytes that should be an experiment's canonical encoding are not."""


class ShardedNetworkError(ExperimentError):
    """An experiment with several committees a round is to be run by processes, which have one."""


class AttackersNetworkError(ExperimentError):
    """An experiment with attackers that a network of processes, or one founded from cards, cannot play."""


class OpenedRowsNetworkError(ExperimentError):
    """An experiment whose stewards open their rows is to be founded from cards: nobody gathers those rows."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What is to be learned: a name, the number of rounds, the seed of every simulated choice, the assurance level."""

    name: str
    rounds: int
    seed: int
    level: Level


@dataclass(frozen=True, slots=True)
class DataSettings:
    """The table and how its columns are used.

    Attributes:
        path: as written; `Experiment.data_path` resolves it.
        site: column that names the site a row belongs to.
        label: column that holds the label.
        negative: values of the label that mean "no"; where none are given, all that are not positive.
        positive: values of the label that mean "yes"; where none are given, all that are not negative.
        drop: columns that are not used.
        test_fraction: share of each site's rows that is kept for the test.
        missing: cells of any column that mean "not known", beside the empty cell.
        rows_min: rows that each trainer needs at least.
    """

    path: str
    site: str
    label: str
    negative: tuple[str, ...]
    positive: tuple[str, ...]
    drop: tuple[str, ...]
    test_fraction: Fraction
    missing: tuple[str, ...]
    rows_min: int


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The model's kind and the widths of its hidden layers; no widths where the kind is logistic."""

    kind: ModelKind
    hidden: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """The training rule; `batch_rows` None means all rows, a limit of None none."""

    learning_rate: Fraction
    local_steps: int
    batch_rows: int | None
    loss: Loss = "sigmoid"
    activation_limit: int | None = None
    error_limit: int | None = None


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """Who trains.

    Attributes:
        per_site: among how many trainers each site's rows are divided.
        minimum: how few of all of them one sum may add.
        staleness: how many rounds old the model may be that an update was trained from.
        quorum: of how many, or of what share of all, the reports suffice to close a round; None: of all.
        places: of each round of training, which the beacon draws by reputation; 0: all report.
    """

    per_site: int
    minimum: int
    quorum: int | Fraction | None = None
    staleness: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class CommitteeSettings:
    """The committee and its virtual network.

    Attributes:
        seats: a power of two.
        absent: seats that publish no sum.
        lying: seats that publish a wrong sum.
        verifiers: validators that the beacon chooses to verify each report's proof.
        link_ms: one-way delay of each message in the virtual network.
        watts: assumed power of one busy core, for the energy estimate.
        epoch_rounds: rounds of an epoch whose change succeeds at the first attempt; None: one epoch that does not end.
        window_rounds: rounds of each of the four windows of a change (docs/spec/epochs.md).
        members_min: validators without which no epoch changes; None: all but a third.
        shards: into how many parts the trainers of a round are dealt, each with a committee of `seats`.
        partition_rounds: for how many rounds trainers stay together; None where there is one shard.
    """

    seats: int
    absent: int
    lying: int
    verifiers: int
    link_ms: int
    watts: Fraction
    epoch_rounds: int | None = None
    window_rounds: int = 1
    members_min: int | None = None
    shards: int = 1
    partition_rounds: int | None = None

    @property
    def validators(self) -> int:
        """Validators of a run: one for each seat of all shards."""
        return self.shards * self.seats

    @property
    def lying_seats_max(self) -> int:
        """Seats that may lie in one round: once absent validators have dropped out, a liar may hold more than one."""
        if self.epoch_rounds is None:
            return self.lying
        each, more = divmod(self.seats, self.seats - self.absent)
        return self.lying * each + min(self.lying, more)


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


@dataclass(frozen=True, slots=True)
class AttestationSettings:
    """What hardware quotes must show, at level "attested".

    Attributes:
        policy: the policy itself: a file names it by its path, the canonical bytes hold it.
        time: Unix seconds at which certificates and collateral must be valid, in every round.
        command: a program of whoever runs this that prints an attestation; no part of the experiment's identity.
    """

    policy: QuotePolicy
    time: int
    command: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One whole experiment.

    `folder`, where relative paths start, and `network` are no part of the experiment's identity.
    """

    task: TaskSettings
    data: DataSettings
    schema: Schema | None
    model: ModelSettings
    rule: RuleSettings
    trainers: CohortSettings
    committee: CommitteeSettings
    chain: ChainSettings
    attestation: AttestationSettings | None = None
    licences: LicenceSettings | None = None
    attack: AttackSettings | None = None
    rewards: RewardSettings | None = None
    stewards: QualitySettings | None = None
    privacy: PrivacySettings | None = None
    folder: Path = field(default=Path(), compare=False)
    network: NetworkSettings = field(default_factory=NetworkSettings, compare=False)

    @property
    def data_path(self) -> Path:
        """Path of the data file."""
        return self.folder / self.data.path


def seats_spoiled_max(seats: int) -> int:
    """Return how large 2 x lying + absent may be so that the sum of keys still decodes (docs/spec: sharing)."""
    return seats * COLUMNS_SPOILED_MAX // COLUMNS


def require_for_processes(experiment: Experiment) -> None:
    """Refuse an experiment that no network of processes can run.

    Raises:
        ShardedNetworkError: its rounds have several committees.
        AttackersNetworkError: some of its trainers are told to forge updates.
    """
    if experiment.committee.shards > 1:
        raise ShardedNetworkError(
            f"committee.shards is {experiment.committee.shards}: networks of processes have one committee a round; "
            "`collegium run` plays rounds with several",
            shards=experiment.committee.shards,
        )
    forgers = () if experiment.attack is None else [entry for entry in experiment.attack.trainers if entry.plan]
    if forgers:
        raise AttackersNetworkError(
            f"[attack] names {len(forgers)} trainers that forge updates: that is for a simulation, `collegium run`; a "
            "network's processes do as they should, whatever their rows are",
            trainers=len(forgers),
        )


def require_for_cards(experiment: Experiment) -> None:
    """Refuse an experiment that no network can run whose members bring their own rows.

    Raises:
        AttackersNetworkError: some of its trainers are told to attack.
        OpenedRowsNetworkError: its stewards open their rows.
        ExperimentError: as `require_for_processes`.
    """
    require_for_processes(experiment)
    if experiment.attack is not None:
        raise AttackersNetworkError(
            f"[attack] names {len(experiment.attack.trainers)} trainers that attack: nobody spoils the rows that a "
            "member brings, and nobody joins as an attacker; leave [attack] out, or play it with `collegium run`, `up` "
            "or `init`, where one machine has all rows",
            trainers=len(experiment.attack.trainers),
        )
    if experiment.stewards is not None and experiment.stewards.open:
        raise OpenedRowsNetworkError(
            "stewards.open is true: a run's folder holds opened rows, and no machine has those of all members that "
            "join by cards; set it to false, with stewards.proved = true where scores should be checked, or use "
            "`collegium run`, `up` or `init`"
        )


def load_experiment(path: Path) -> Experiment:
    """Return the experiment of a TOML file; relative paths in it start at the file's folder.

    Raises:
        ExperimentUnreadableError: the file cannot be read, or is not TOML.
        ExperimentRefusedError: what it says is not an experiment; every problem is listed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ExperimentUnreadableError(f"{path}: {reason}; expected an experiment file", path=path) from error
    try:
        return decode_experiment(data, path.parent)
    except ExperimentUnreadableError as error:
        raise ExperimentUnreadableError(f"{path}: {error}", path=path) from error


def decode_experiment(data: bytes, folder: Path) -> Experiment:
    """Return the experiment written in TOML bytes; relative paths in it start at `folder`.

    Raises:
        ExperimentUnreadableError: the bytes are too many, not UTF-8, or not TOML.
        ExperimentRefusedError: what they say is not an experiment; every problem is listed.
    """
    if len(data) > FILE_BYTES_MAX:
        raise ExperimentUnreadableError(f"is larger than {FILE_BYTES_MAX} bytes", bytes_max=FILE_BYTES_MAX)
    try:
        mapping = tomllib.loads(data.decode("utf-8"), parse_float=_decimal)
    except RecursionError as error:
        raise ExperimentUnreadableError("is nested too deeply for TOML that we read") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and whole numbers of thousands of digits
        raise ExperimentUnreadableError(f"is not TOML in UTF-8: {error}") from error
    return _experiment_from_mapping(mapping, folder, lambda path: _read_policy(folder / path))


def experiment_to_bytes(experiment: Experiment) -> bytes:
    """Return the canonical encoding of an experiment: what its task digest covers."""
    data, rule, committee = experiment.data, experiment.rule, experiment.committee
    attestation = experiment.attestation
    mapping: dict[str, object] = {
        "format": FORMAT,
        "task": asdict(experiment.task),
        "data": asdict(data) | {"test_fraction": as_quotient(data.test_fraction)},
        "schema": None if experiment.schema is None else schema_to_mapping(experiment.schema),
        "model": asdict(experiment.model) | {"hidden": experiment.model.hidden or None},
        "rule": _rule_mapping(rule),
        "trainers": _trainers_mapping(experiment.trainers),
        "committee": _committee_mapping(committee),
        "chain": _chain_mapping(experiment.chain),
    }
    if attestation is not None:  # younger than the format
        policy = encode_policy(attestation.policy).decode()
        mapping["attestation"] = {"policy": policy, "time": attestation.time}
    if experiment.licences is not None:  # likewise
        mapping["licences"] = licences_to_mapping(experiment.licences)
    if experiment.attack is not None:  # likewise
        mapping["attack"] = attack_to_mapping(experiment.attack)
    if experiment.rewards is not None:  # likewise
        mapping["rewards"] = rewards_to_mapping(experiment.rewards)
    if experiment.stewards is not None:  # likewise
        mapping["stewards"] = quality_to_mapping(experiment.stewards)
    if experiment.privacy is not None:  # likewise
        mapping["privacy"] = privacy_to_mapping(experiment.privacy)
    return json.dumps(mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def experiment_from_bytes(data: bytes, folder: Path = Path()) -> Experiment:
    """Return the experiment whose canonical encoding `data` is: `experiment_to_bytes` gives the same bytes again.

    Raises:
        ExperimentBytesError: the bytes are too many, not JSON, of another format, or not canonical.
        ExperimentRefusedError: they are JSON of this format, but what they say is not an experiment.
    """
    if len(data) > FILE_BYTES_MAX:
        raise ExperimentBytesError(f"an experiment takes at most {FILE_BYTES_MAX} bytes, got {len(data)}")
    try:
        mapping = json.loads(data.decode("ascii"), parse_float=_decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ExperimentBytesError(f"an experiment's bytes are not ASCII JSON: {error}") from error
    found = mapping.pop("format", None) if isinstance(mapping, dict) else None
    if found != FORMAT:
        raise ExperimentBytesError(f"an experiment's format is {shown(found)}, expected {FORMAT!r}", format=found)
    given = {name: section for name, section in mapping.items() if section is not None}
    chain = given.get("chain")
    if isinstance(chain, dict):  # what is left out of the canonical bytes is what there was before there were courts
        given["chain"] = {"courts": False} | chain
    experiment = _experiment_from_mapping(given, folder, str.encode)
    if experiment_to_bytes(experiment) != data:
        raise ExperimentBytesError("an experiment's bytes are not its canonical encoding")
    return experiment


def _rule_mapping(rule: RuleSettings) -> dict[str, object]:
    """Return the rule as plain values, without settings younger than the format while they have their default."""
    later: dict[str, object] = {"loss": "sigmoid", "activation_limit": None, "error_limit": None}
    mapping = asdict(rule) | {"learning_rate": as_quotient(rule.learning_rate)}
    return {key: value for key, value in mapping.items() if key not in later or value != later[key]}


def _trainers_mapping(trainers: CohortSettings) -> dict[str, object]:
    """Return who trains as plain values; what is younger than the format, only where there is any."""
    mapping, quorum = asdict(trainers), trainers.quorum
    del mapping["quorum"]
    for key in ("staleness", "places"):
        if not mapping[key]:
            del mapping[key]
    if quorum is not None:
        mapping["quorum"] = as_quotient(quorum) if isinstance(quorum, Fraction) else quorum
    return mapping


def _committee_mapping(committee: CommitteeSettings) -> dict[str, object]:
    """Return the committee as plain values; epochs and shards, younger than the format, only where there are some."""
    mapping = asdict(committee) | {"watts": as_quotient(committee.watts)}
    if committee.epoch_rounds is None:
        for key in ("epoch_rounds", "window_rounds", "members_min"):
            del mapping[key]
    if committee.shards == 1:
        del mapping["shards"], mapping["partition_rounds"]
    return mapping


def _chain_mapping(chain: ChainSettings) -> dict[str, object]:
    """Return the chains as plain values; what is younger than the format only where there is some of it."""
    mapping: dict[str, object] = {"url": chain.url, "checkpoint_every": chain.checkpoint_every}
    if chain.followers:
        mapping["followers"] = [url or EMBEDDED for url in chain.followers]
    if chain.sites:
        mapping["sites"] = dict(chain.sites)
    young = {"courts": chain.courts, "trainers_stake": chain.trainers_stake}
    return mapping | {key: True for key, given in young.items() if given}


def _decimal(text: str) -> Decimal:
    """Return the exact number; not-a-number, which every reader refuses, where the exponent is beyond all reason."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


# From sections to settings: one function a section, in the order of the guide


def _experiment_from_mapping(
    mapping: Mapping[str, object], folder: Path, read_policy: Callable[[str], bytes]
) -> Experiment:
    problems: list[Problem] = []
    sections = _sections(mapping, problems)
    experiment = Experiment(
        task=_task(sections["task"]),
        data=_data(sections["data"]),
        schema=_schema(mapping.get("schema"), problems),
        model=_model(sections["model"]),
        rule=_rule(sections["rule"]),
        trainers=_trainers(sections["trainers"]),
        committee=_committee(sections["committee"]),
        chain=_chain(sections["chain"]),
        attestation=_attestation(sections["attestation"], read_policy) if "attestation" in sections else None,
        licences=licence_settings(sections["licences"], _url_problem) if "licences" in sections else None,
        attack=attack_settings(sections["attack"]) if "attack" in sections else None,
        rewards=reward_settings(sections["rewards"]) if "rewards" in sections else None,
        stewards=quality_settings(sections["stewards"]) if "stewards" in sections else None,
        privacy=privacy_settings(sections["privacy"]) if "privacy" in sections else None,
        folder=folder,
        network=_network(sections["network"], sections["committee"]),
    )
    if experiment.task.level == "attested" and "attestation" not in mapping:
        text = 'is missing: task.level is "attested", and it says whose quotes are accepted'
        problems.append(Problem("[attestation]", "missing", text))
    elif experiment.task.level != "attested" and "attestation" in sections and sections["task"].ok:
        text = f'is given, but task.level is "{experiment.task.level}", which asks for no quotes; leave it out'
        sections["attestation"].note("", "conflict", text)
    if experiment.trainers.staleness and experiment.task.level in ("proved", "attested") and sections["task"].ok:
        text = f'is given, but at level "{experiment.task.level}" the evidence is about the model a round starts from'
        sections["trainers"].note("staleness", "conflict", text)
    _check_stewards(experiment, sections)
    _check_sharded(experiment, sections)
    _check_rewards(experiment, sections)
    _check_attack(experiment, sections)
    _check_private(experiment, sections)
    epoch_rounds = experiment.committee.epoch_rounds
    if epoch_rounds is not None and epoch_rounds > experiment.task.rounds and sections["task"].ok:
        text = f"is {epoch_rounds}, expected at most task.rounds, {experiment.task.rounds}: no epoch would follow"
        sections["committee"].note("epoch_rounds", "range", text)
    if problems:
        raise ExperimentRefusedError(tuple(problems))
    return experiment


def _sections(mapping: Mapping[str, object], problems: list[Problem]) -> dict[str, Section]:
    """Return the sections that have a fixed set of keys; note those that are missing, unknown, or no sections."""
    for name, value in mapping.items():
        where = f"[{name if name.isidentifier() and name.isascii() else shown(name)}]"
        if name not in (*_SECTIONS_REQUIRED, *_SECTIONS_OPTIONAL):
            known = ", ".join(f"[{known}]" for known in (*_SECTIONS_REQUIRED, *_SECTIONS_OPTIONAL))
            problems.append(Problem(where, "unknown", f"is no section of an experiment; known are {known}"))
        elif not isinstance(value, dict):
            problems.append(Problem(where, "type", f"is {shown(value)}, expected a section"))
    sections = {}
    for name in (*_SECTIONS_REQUIRED, "trainers", "chain", "network"):
        value = mapping.get(name)
        if isinstance(value, dict):
            sections[name] = Section(name, value, problems)
            continue
        if name not in mapping and name in _SECTIONS_REQUIRED:
            problems.append(Problem(f"[{name}]", "missing", "is missing; every experiment has this section"))
        sections[name] = Section(name, {}, [] if name in _SECTIONS_REQUIRED else problems)  # one line is enough
    for name in ("attestation", "licences", *_SECTIONS_YOUNG):
        value = mapping.get(name)
        if isinstance(value, dict):
            sections[name] = Section(name, value, problems)
    return sections


def _task(section: Section) -> TaskSettings:
    name = section.text("name", NAME_LENGTH_MAX)
    rounds = section.integer("rounds", 1, ROUNDS_MAX)
    seed = section.integer("seed", 0, SEED_MAX)
    given = section.choice("level", LEVELS)
    level: Level = next((level for level in LEVELS if level == given), "unproved")
    section.close()
    return TaskSettings(name, rounds, seed, level)


def _data(section: Section) -> DataSettings:
    settings = DataSettings(
        path=section.text("path", PATH_LENGTH_MAX),
        site=section.text("site", CELL_LENGTH_MAX),
        label=section.text("label", CELL_LENGTH_MAX),
        negative=section.texts("negative", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        positive=section.texts("positive", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        drop=section.texts("drop", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        test_fraction=section.fraction(
            "test_fraction", Fraction(1, 100), Fraction(1, 2), TERM_MAX, default=Fraction(1, 4)
        ),
        missing=section.texts("missing", LIST_COUNT_MAX, CELL_LENGTH_MAX),
        rows_min=section.integer("rows_min", 1, ROWS_MAX, default=10),
    )
    if section.ok and not settings.negative and not settings.positive:
        section.note("negative", "missing", "and positive are missing, expected the label's values of one of them")
    for value in settings.negative:
        if value in settings.positive:
            section.note("positive", "conflict", f"holds {shown(value)}, which negative holds too")
    if settings.site and settings.site == settings.label:
        section.note("label", "conflict", f"is {shown(settings.label)}, the column that [data] names as site")
    for use, column in (("site", settings.site), ("label", settings.label)):
        if column and column in settings.drop:
            section.note("drop", "conflict", f"drops {shown(column)}, the column that [data] names as {use}")
    section.close()
    return settings


def _schema(value: object, problems: list[Problem]) -> Schema | None:
    """Return the schema, or None where there is no section.

    A person writes one table a column; the canonical encoding holds the list that `schema_to_mapping` gives, because
    the order of the columns is the order of the features.
    """
    if not isinstance(value, dict):
        return None
    listed = value.get("columns")
    entries = listed if set(value) == {"columns"} and isinstance(listed, list) else _schema_entries(value, problems)
    columns: list[NumericColumn | CategoryColumn] = []
    noted = len(problems)
    for entry in entries:
        try:
            columns += schema_from_mapping({"columns": [_without_decimals(entry)]}).columns
        except CollegiumError as error:
            problems.append(Problem("[schema]", "range", str(error)))
    try:
        return Schema(tuple(columns))
    except CollegiumError as error:
        if len(problems) == noted:
            problems.append(Problem("[schema]", "range", str(error)))
        return None


def _schema_entries(table: Mapping[str, object], problems: list[Problem]) -> list[object]:
    """Return the columns of a schema that has one table a column, in the list form of `schema_to_mapping`."""
    entries: list[object] = []
    for name, column in table.items():
        where = f"schema.{name if name.isidentifier() and name.isascii() else shown(name)}"
        if not isinstance(column, dict):
            text = f'is {shown(column)}, expected a table such as {{ kind = "numeric", lower = 0, upper = 1 }}'
            problems.append(Problem(where, "type", text))
            continue
        kind = column.get("kind")
        if kind not in ("numeric", "category"):
            problems.append(Problem(where, "range", f'has kind {shown(kind)}, expected "numeric" or "category"'))
        elif ("values" in column) != (kind == "category"):
            wanted = "values" if kind == "category" else "lower and upper, not values"
            problems.append(Problem(where, "conflict", f"is of kind {kind}, expected {wanted}"))
        else:
            entries.append({"name": name} | {key: item for key, item in column.items() if key != "kind"})
    return entries


def _without_decimals(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return {key: float(item) if isinstance(item, Decimal) else item for key, item in entry.items()}


def _model(section: Section) -> ModelSettings:
    kind: ModelKind = "mlp" if section.choice("kind", ("logistic", "mlp")) == "mlp" else "logistic"
    hidden = section.widths("hidden", HIDDEN_LAYERS_MAX, HIDDEN_WIDTH_MAX) if kind == "mlp" else ()
    if section.has("hidden") and kind == "logistic" and section.ok:
        section.note("hidden", "conflict", "is given, but a logistic model has no hidden layer; leave it out")
    section.close()
    return ModelSettings(kind, hidden)


def _rule(section: Section) -> RuleSettings:
    smallest = Fraction(1, RATE_TERM_MAX)
    given = section.choice("loss", ("sigmoid", "squared")) if section.has("loss") else "sigmoid"
    loss: Loss = "squared" if given == "squared" else "sigmoid"
    settings = RuleSettings(
        learning_rate=section.fraction("learning_rate", smallest, Fraction(RATE_TERM_MAX), RATE_TERM_MAX),
        local_steps=section.integer("local_steps", 1, LOCAL_STEPS_MAX, default=1),
        batch_rows=section.optional_integer("batch_rows", 1, ROWS_MAX),
        loss=loss,
        activation_limit=section.optional_integer("activation_limit", 1, RANGE_LIMIT_MAX),
        error_limit=section.optional_integer("error_limit", 1, RANGE_LIMIT_MAX),
    )
    for key in ("activation_limit", "error_limit"):
        limit = getattr(settings, key)
        if limit is not None and limit & (limit - 1):
            section.note(key, "range", f"is {limit}, expected a power of two from 1 to {RANGE_LIMIT_MAX}")
    section.close()
    return settings


def _trainers(section: Section) -> CohortSettings:
    settings = CohortSettings(
        per_site=section.integer("per_site", 1, PER_SITE_MAX, default=1),
        minimum=section.integer("minimum", 2, PER_SITE_MAX, default=4),
        quorum=section.count_or_share("quorum", 2, TRAINERS_MAX, TERM_MAX),
        staleness=section.integer("staleness", 0, STALENESS_MAX, default=0),
        places=section.integer("places", 0, HITS_MAX, default=0),
    )
    if section.ok and 0 < settings.places < settings.minimum:
        section.note("places", "conflict", f"is {settings.places}, below trainers.minimum, {settings.minimum}")
    if section.ok and settings.places and settings.quorum is not None:
        section.note("places", "conflict", "is given, and trainers.quorum, too: a round waits for all that it draws")
    if section.ok and isinstance(settings.quorum, int) and settings.quorum < settings.minimum:
        section.note("quorum", "conflict", f"is {settings.quorum}, below trainers.minimum, {settings.minimum}")
    section.close()
    return settings


def _committee(section: Section) -> CommitteeSettings:
    settings = CommitteeSettings(
        seats=section.integer("seats", SEATS_MIN, SEATS_MAX),
        absent=section.integer("absent", 0, SEATS_MAX, default=0),
        lying=section.integer("lying", 0, SEATS_MAX, default=0),
        verifiers=section.integer("verifiers", 1, SEATS_MAX, default=4),
        link_ms=section.integer("link_ms", 0, LINK_MS_MAX, default=50),
        watts=section.fraction("watts", Fraction(1, TERM_MAX), Fraction(WATTS_MAX), TERM_MAX, default=Fraction(15)),
        epoch_rounds=section.optional_integer("epoch_rounds", 1, ROUNDS_MAX),
        window_rounds=section.integer("window_rounds", 1, ROUNDS_MAX, default=1),
        members_min=section.optional_integer("members_min", 1, SEATS_MAX),
        shards=section.integer("shards", 1, VALIDATORS_MAX // SEATS_MIN, default=1),
        partition_rounds=section.optional_integer("partition_rounds", 1, ROUNDS_MAX),
    )
    if section.ok and settings.seats & (settings.seats - 1):
        section.note("seats", "range", f"is {settings.seats}, expected a power of two: 16, 32, 64, 128 or 256")
    if section.ok:
        _check_liveness(section, settings)
    if section.ok:
        _check_epochs(section, settings)
    if section.ok:
        _check_shards(section, settings)
    section.close()
    return settings


def _check_liveness(section: Section, settings: CommitteeSettings) -> None:
    """Note a committee that could not open a sum, or not agree on one, and the arithmetic that says so."""
    seats, absent, lying = settings.seats, settings.absent, settings.lying
    spoiled, spoiled_max = 2 * lying + absent, seats_spoiled_max(seats)
    if spoiled > spoiled_max:
        section.note(
            "",
            "liveness",
            f"the sum of keys would not decode: 2 x {lying} lying + {absent} absent = {spoiled} seats, expected at "
            f"most floor({seats} x {COLUMNS_SPOILED_MAX} / {COLUMNS}) = {spoiled_max}",
        )
    working, quorum = seats - absent - lying, seat_quorum(seats)
    if working < quorum:
        section.note(
            "",
            "liveness",
            f"no round would become final: {seats} seats - {absent} absent - {lying} lying = {working} working, "
            f"expected at least {seats} - floor({seats - 1} / 3) = {quorum}",
        )


def _check_epochs(section: Section, settings: CommitteeSettings) -> None:
    """Note epochs that could not end, or a committee that could not open a sum once the absent have dropped out."""
    seats, present, length = settings.seats, settings.seats - settings.absent, settings.epoch_rounds
    if length is None:
        for key in ("window_rounds", "members_min"):
            if section.has(key):
                section.note(key, "conflict", "is given, but epoch_rounds is not: there is one epoch; leave it out")
        return
    attempt = CHANGE_WINDOWS * settings.window_rounds + 1
    if length < attempt:
        text = (
            f"is {length}, expected at least {CHANGE_WINDOWS} x window_rounds + 1 = {attempt}: a change takes as long"
        )
        section.note("epoch_rounds", "range", text)
    if settings.members_min is not None and settings.members_min > present:
        text = f"is {settings.members_min}, expected at most {present}: {seats} seats - {settings.absent} absent"
        section.note("members_min", "liveness", text)
    lying, spoiled_max = settings.lying_seats_max, seats_spoiled_max(seats)
    if 2 * lying > spoiled_max or seats - lying < seat_quorum(seats):
        section.note(
            "",
            "liveness",
            f"once the absent have dropped out, {present} validators share {seats} seats and the {settings.lying} that "
            f"lie hold up to {lying}: expected at most {min(spoiled_max // 2, seats - seat_quorum(seats))}",
        )


def _check_shards(section: Section, settings: CommitteeSettings) -> None:
    """Note shards of which nobody has said how long they stay, that are too many, or that nobody has argued."""
    shards, seats = settings.shards, settings.seats
    if shards == 1:
        if settings.partition_rounds is not None:
            section.note("partition_rounds", "conflict", "is given, but there is one shard; leave it out")
        return
    if settings.partition_rounds is None:
        text = "is missing: every shard's sum is public, and this says for how many rounds trainers stay together"
        section.note("partition_rounds", "missing", text)
    if settings.validators > VALIDATORS_MAX:
        text = f"is {shards}: {shards} x {seats} validators, expected at most {VALIDATORS_MAX}, as the contract counts"
        section.note("shards", "range", text)
    if settings.epoch_rounds is not None:
        section.note("shards", "conflict", f"is {shards}, but epoch_rounds is given: epochs of shards do not end yet")


def _check_stewards(experiment: Experiment, sections: Mapping[str, Section]) -> None:
    """Note stewards where scores cannot be proved, or would be of no use."""
    level, drawn = experiment.task.level, experiment.trainers.places
    if experiment.stewards is None and drawn and sections["trainers"].ok:
        text = f"is {drawn}, and [stewards] is not given: who is drawn more often nobody measures"
        sections["trainers"].note("places", "conflict", text)
    if experiment.stewards is None or not sections["stewards"].ok:
        return
    if level != "proved" and sections["task"].ok:
        text = (
            f'is given, but task.level is "{level}": below "proved" a trainer could send the direction that it is '
            "scored along, so that would have to be shown after the reports, which no round does yet"
        )
        sections["stewards"].note("", "conflict", text)
    shards, rounds = experiment.stewards.shards(experiment.task.rounds), experiment.task.rounds
    if shards > HIDDEN_SHARDS_MAX and sections["task"].ok:
        given = experiment.stewards.shard_rounds
        text = f"is {given}, which makes {shards} shards in {rounds} rounds, expected at most {HIDDEN_SHARDS_MAX}"
        sections["stewards"].note("shard_rounds", "range", text)
    if experiment.stewards.proved:
        _check_proved_records(experiment, sections)
    if experiment.committee.shards > 1 and sections["committee"].ok:
        text = f"is given, but committee.shards is {experiment.committee.shards}: scores need one committee a round"
        sections["stewards"].note("", "conflict", text)


def _check_proved_records(experiment: Experiment, sections: Mapping[str, Section]) -> None:
    """Note what no record of a steward can be proved of."""
    settings, steps, served = experiment.stewards, experiment.rule.local_steps, experiment.task.rounds
    if settings is not None and settings.shard_rounds:
        served = min(settings.shard_rounds, served)
    if steps > 1 and sections["rule"].ok:
        text = f"is true, but rule.local_steps is {steps}: a record proves a gradient, not what several steps move"
        sections["stewards"].note("proved", "conflict", text)
    if served > PROVED_ROUNDS_MAX and sections["task"].ok:
        text = (
            f"is true, but a shard serves {served} rounds, and is registered for {PROVED_ROUNDS_MAX}: give shard_rounds"
        )
        sections["stewards"].note("proved", "conflict", text)


def _check_sharded(experiment: Experiment, sections: Mapping[str, Section]) -> None:
    """Note what rounds in shards do not hold yet: stale updates, registered data, attestations, licences."""
    shards, level = experiment.committee.shards, experiment.task.level
    if shards == 1:
        return
    if experiment.trainers.staleness and sections["trainers"].ok:
        text = f"is given, but committee.shards is {shards}: in shards every update is trained from the present model"
        sections["trainers"].note("staleness", "conflict", text)
    if level in ("proved", "attested") and sections["task"].ok:
        text = f'is "{level}", but committee.shards is {shards}: shards take "unproved" and "bounded" reports'
        sections["task"].note("level", "conflict", text)
    if experiment.licences is not None and sections["licences"].ok:
        text = f"is given, but committee.shards is {shards}: consent is taken back in rounds with one committee only"
        sections["licences"].note("", "conflict", text)
    if experiment.network.validators is not None and sections["network"].ok:
        text = f"is given, but committee.shards is {shards}: networks of processes have one committee a round"
        sections["network"].note("validators", "conflict", text)


def _check_attack(experiment: Experiment, sections: Mapping[str, Section]) -> None:
    """Note attacks on updates where a report shows what its update is, and where nobody has argued them."""
    if experiment.attack is None or not sections["task"].ok or not sections["committee"].ok:
        return
    level, shards = experiment.task.level, experiment.committee.shards
    for entry in experiment.attack.trainers:
        if entry.kind not in UPDATE_ATTACKS:
            continue
        what = f"has {entry.kind} of {shown(entry.trainer)}, an attack on updates, but"
        if level in ("proved", "attested"):
            shows = "proves" if level == "proved" else "attests"
            text = f'{what} at level "{level}" a report {shows} what its update is: spoil the rows instead'
            sections["attack"].note("trainers", "conflict", text)
        elif shards > 1:
            text = f"{what} committee.shards is {shards}: such attacks are played in rounds with one committee only"
            sections["attack"].note("trainers", "conflict", text)


def _check_private(experiment: Experiment, sections: Mapping[str, Section]) -> None:
    """Note what does not go with noise: exact evidence, what a row can stop, no sums over rows, unequal weights."""
    privacy, rule, level = experiment.privacy, experiment.rule, experiment.task.level
    if privacy is None or not sections["privacy"].ok:
        return
    section = sections["privacy"]
    if level in ("proved", "attested") and sections["task"].ok:
        text = f'is given, but at level "{level}" the evidence is about an update without noise; expected another level'
        section.note("", "conflict", text)
    if rule.local_steps > 1 and sections["rule"].ok:
        text = f"is given, but rule.local_steps is {rule.local_steps}, expected 1: an update must be a sum over rows"
        section.note("", "conflict", text)
    limits = [key for key in ("activation_limit", "error_limit") if getattr(rule, key) is not None]
    if limits and sections["rule"].ok:
        text = f"is given, but rule.{limits[0]} is, too: one row beyond it would keep its trainer away, which is public"
        section.note("", "conflict", text)
    if experiment.trainers.staleness and sections["trainers"].ok:
        text = "is given, but trainers.staleness is, too: noise is sized for updates that all weigh the same"
        section.note("", "conflict", text)
    if experiment.committee.shards > 1 and sections["committee"].ok:
        text = f"is given, but committee.shards is {experiment.committee.shards}: each shard's sum is opened by itself"
        section.note("", "conflict", text)
    if experiment.schema is None:
        text = "is given, but [schema] is not: ranges and categories that are read off the rows are not private"
        section.note("", "conflict", text)
    if privacy.honest > experiment.trainers.minimum and sections["trainers"].ok:
        text = f"is {privacy.honest}, expected at most trainers.minimum, {experiment.trainers.minimum}"
        section.note("honest", "conflict", text)


def _network(section: Section, committee: Section) -> NetworkSettings:
    """Return how processes share the committee; note too many of them, or that a third away would stop the rounds."""
    settings = network_settings(section)
    if not section.ok or not committee.ok or settings.validators is None:
        return settings
    seats = committee.integer("seats", SEATS_MIN, SEATS_MAX)
    members_min = committee.optional_integer("members_min", 1, SEATS_MAX)
    problem = validators_problem(settings.validators, seats, members_min)
    if problem is not None:
        section.note("validators", *problem)
    return settings


def validators_problem(size: int, seats: int, members_min: int | None) -> tuple[ProblemKind, str] | None:
    """Return why so many validators do not share a committee's seats, its kind and the reason; None if they do."""
    away, each, spoiled_max = faulty_max(size), -(-seats // size), seats_spoiled_max(seats)
    if size > seats:
        return "range", f"is {size}, expected at most {seats}, as many as committee.seats"
    if members_min is not None and members_min > size:
        text = f"is {size}, expected at least committee.members_min, {members_min}: no epoch would ever end"
        return "liveness", text
    if away * each > spoiled_max:
        return (
            "liveness",
            f"is {size}: {away} of them may be away, with up to {each} of {seats} seats each, expected "
            f"at most {spoiled_max} seats away",
        )
    return None


def _chain(section: Section) -> ChainSettings:
    url = section.optional_text("url", URL_LENGTH_MAX)
    url = None if url in ("", EMBEDDED) else url
    texts = section.words("followers", FOLLOWERS_MAX, URL_LENGTH_MAX)
    followers = tuple(None if text == EMBEDDED else text for text in texts)
    for key, given in (("url", url), *(("followers", follower) for follower in followers)):
        problem = None if given is None else _url_problem(given)
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


def _url_problem(url: str) -> str | None:
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


def _attestation(section: Section, read_policy: Callable[[str], bytes]) -> AttestationSettings | None:
    """Return the section's settings, or None after noting that its policy is none."""
    given = section.text("policy", POLICY_BYTES_MAX)
    time = section.integer("time", 0, UNIX_TIME_MAX)
    command = section.words("command", COMMAND_WORDS_MAX, PATH_LENGTH_MAX)
    policy = None
    if given:
        try:
            data = read_policy(given)
            if len(data) > POLICY_BYTES_MAX or not data.decode().isprintable():
                raise ExperimentUnreadableError(f"expected at most {POLICY_BYTES_MAX} bytes of printable text")
            policy = decode_policy(data)
        except (CollegiumError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            section.note("policy", "range", f"names no policy that can be read: {reason[:200]}")
    section.close()
    return None if policy is None else AttestationSettings(policy, time, command)


def _read_policy(path: Path) -> bytes:
    if not path.is_file():
        raise ExperimentUnreadableError(f"{path.name!a} is no file", path=path)
    with path.open("rb") as file:
        return file.read(POLICY_BYTES_MAX + 1)


def _check_rewards(experiment: Experiment, sections: Mapping[str, Section]) -> None:
    """Note where a task cannot pay: in shards, where nobody could contest a list, or on licences of another chain."""
    if experiment.rewards is None:
        return
    section, chain, licences = sections["rewards"], experiment.chain, experiment.licences
    if experiment.committee.shards > 1:
        text = f"is given, but committee.shards is {experiment.committee.shards}: rounds in shards are not paid yet"
        section.note("", "conflict", text)
    if not chain.courts and sections["chain"].ok:
        section.note("", "conflict", "is given, but chain.courts is false: nobody could lose a stake for lies")
    contracts = dict[int | None, bytes]()
    for entry, place in () if licences is None else licences.placed:
        own = chain.own_chain(entry.site)
        at_home = entry.own is None and chain.url is not None and place.url in (None, chain.url)
        if not (at_home if own is None else place.chain_id == own):
            there = "[chain]" if own is None else f"chain {own}, which chain.sites names"
            text = f"is given, and the licence of {shown(entry.site)} is on another chain than {there}: it could not be"
            section.note("", "conflict", f"{text} paid")
        elif contracts.setdefault(own, place.contract) != place.contract:
            section.note("", "conflict", "is given, and licences of one chain are at several contracts: one can pay")
