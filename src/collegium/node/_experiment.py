"""The experiment file: everything that one run depends on, in one TOML file, decoded once and strictly.

docs/guide/experiment.md lists every key. The canonical bytes of an experiment, which the task digest covers, are JSON
with sorted keys, no spaces, ASCII only, fractions as "numerator/denominator", and every default written out.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias

from collegium.consensus import faulty_max
from collegium.errors import CollegiumError
from collegium.incentives import HITS_MAX
from collegium.learning import Schema, schema_to_mapping
from collegium.proofs import QuotePolicy, decode_policy, encode_policy

from ._attack_settings import UPDATE_ATTACKS, AttackSettings, attack_settings, attack_to_mapping
from ._chain_settings import ChainSettings, chain_settings, chain_to_mapping, url_problem
from ._committee_settings import (
    SEATS_MAX,
    SEATS_MIN,
    CommitteeSettings,
    committee_settings,
    committee_to_mapping,
    seats_spoiled_max,
)
from ._data_settings import ROWS_MAX, DataSettings, data_settings, schema_settings
from ._licence_settings import LicenceSettings, licence_settings, licences_to_mapping
from ._network_settings import NetworkSettings, network_settings
from ._privacy import PrivacySettings, privacy_settings, privacy_to_mapping
from ._quality_settings import PROVED_ROUNDS_MAX, QualitySettings, quality_settings, quality_to_mapping
from ._reward_settings import RewardSettings, reward_settings, rewards_to_mapping
from ._sections import (
    NAME_LENGTH_MAX,
    PATH_LENGTH_MAX,
    ROUNDS_MAX,
    TERM_MAX,
    Problem,
    ProblemKind,
    Section,
    as_quotient,
    shown,
)

__all__ = [
    "AttackersNetworkError",
    "AttestationSettings",
    "CohortSettings",
    "Experiment",
    "ExperimentBytesError",
    "ExperimentError",
    "ExperimentRefusedError",
    "ExperimentUnreadableError",
    "ModelSettings",
    "OpenedRowsNetworkError",
    "RuleSettings",
    "ShardedNetworkError",
    "TaskSettings",
    "decode_experiment",
    "experiment_from_bytes",
    "experiment_to_bytes",
    "load_experiment",
    "require_for_cards",
    "require_for_processes",
    "validators_problem",
]

FORMAT: Final = "collegium/v1/experiment"
FILE_BYTES_MAX: Final = 1 << 20
SEED_MAX = (1 << 63) - 1
HIDDEN_SHARDS_MAX = 256  # of one steward
HIDDEN_LAYERS_MAX = 7
HIDDEN_WIDTH_MAX = 4096
LOCAL_STEPS_MAX = 64
RATE_TERM_MAX = 1 << 16  # as the training rule bounds it
RANGE_LIMIT_MAX = 1 << 10  # likewise
PER_SITE_MAX = 1024
TRAINERS_MAX = 1 << 16
STALENESS_MAX = 4  # weights up to 16
POLICY_BYTES_MAX = 1 << 18
UNIX_TIME_MAX = 253_402_300_799  # the year 9999, as far as certificates go
COMMAND_WORDS_MAX = 64

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
        "committee": committee_to_mapping(committee),
        "chain": chain_to_mapping(experiment.chain),
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
        data=data_settings(sections["data"]),
        schema=schema_settings(mapping.get("schema"), problems),
        model=_model(sections["model"]),
        rule=_rule(sections["rule"]),
        trainers=_trainers(sections["trainers"]),
        committee=committee_settings(sections["committee"]),
        chain=chain_settings(sections["chain"]),
        attestation=_attestation(sections["attestation"], read_policy) if "attestation" in sections else None,
        licences=licence_settings(sections["licences"], url_problem) if "licences" in sections else None,
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
