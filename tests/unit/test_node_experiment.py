"""The experiment file: what is accepted, and the smallest change that is refused with its own line."""

from fractions import Fraction
from pathlib import Path

import pytest
from _experiment_stage import SMALLEST

from collegium.consensus import seat_quorum
from collegium.node import (
    Experiment,
    ExperimentBytesError,
    ExperimentRefusedError,
    ExperimentUnreadableError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
    load_experiment,
    seats_spoiled_max,
)
from collegium.node._setup import QuorumRefusedError, quorum_of

ROOT = Path(__file__).parents[2]


def decode(text: str) -> Experiment:
    return decode_experiment(text.encode(), Path("folder"))


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(text)
    assert all("\n" not in str(problem) for problem in caught.value.problems)
    return [(problem.where, problem.kind) for problem in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert SMALLEST.count(old) == 1
    return SMALLEST.replace(old, new)


def test_smallest_experiment_gets_the_documented_defaults() -> None:
    experiment = decode(SMALLEST)
    assert experiment.data_path == Path("folder/heart.csv")
    assert experiment.data.negative == ("0",)
    assert (experiment.data.positive, experiment.data.drop, experiment.data.missing) == ((), (), ())
    assert (experiment.data.test_fraction, experiment.data.rows_min) == (Fraction(1, 4), 10)
    assert experiment.schema is None
    assert experiment.model.hidden == ()
    assert (experiment.rule.local_steps, experiment.rule.batch_rows) == (1, None)
    assert experiment.trainers.per_site == 1
    committee = experiment.committee
    assert (committee.absent, committee.lying, committee.link_ms, committee.watts) == (0, 0, 50, Fraction(15))
    assert (experiment.chain.url, experiment.chain.checkpoint_every) == (None, 10)


@pytest.mark.parametrize(("text", "rate"), [("0.05", "1/20"), ("1", "1"), ("5e-2", "1/20"), ('"1/3"', "1/3")])
def test_learning_rate_is_exact(text: str, rate: str) -> None:
    assert decode(changed("0.05", text)).rule.learning_rate == Fraction(rate)


@pytest.mark.parametrize(
    ("old", "new", "where", "kind"),
    [
        ("rounds = 3", "", "task.rounds", "missing"),
        ("rounds = 3", "rounds = 0", "task.rounds", "range"),
        ("rounds = 3", "rounds = 10001", "task.rounds", "range"),
        ("rounds = 3", "rounds = 3.0", "task.rounds", "type"),
        ("rounds = 3", "rounds = true", "task.rounds", "type"),
        ("rounds = 3", f"rounds = 0x1{'0' * 5000}", "task.rounds", "range"),
        ("rounds = 3", "rounds = 3\nround = 3", "task.round", "unknown"),
        ("seed = 1", "seed = -1", "task.seed", "range"),
        ('"hospitals"', '""', "task.name", "range"),
        ('"hospitals"', '"a\\u001b[2J"', "task.name", "range"),
        ('"hospitals"', f'"{"a" * 65}"', "task.name", "range"),
        ('"unproved"', '"attested"', "[attestation]", "missing"),
        ('"unproved"', '"sure"', "task.level", "range"),
        ('negative = "0"', "", "data.negative", "missing"),
        ('negative = "0"', "negative = 0", "data.negative", "type"),
        ('negative = "0"', 'negative = ["0", "0"]', "data.negative", "range"),
        ('negative = "0"', 'negative = "0"\npositive = ["1", "0"]', "data.positive", "conflict"),
        ('negative = "0"', 'negative = "0"\ndrop = ["disease"]', "data.drop", "conflict"),
        ('negative = "0"', 'negative = "0"\ntest_fraction = 0.51', "data.test_fraction", "range"),
        ('negative = "0"', 'negative = "0"\nrows_min = 0', "data.rows_min", "range"),
        ('"disease"', '"hospital"', "data.label", "conflict"),
        ('"logistic"', '"forest"', "model.kind", "range"),
        ('"logistic"', '"mlp"', "model.hidden", "missing"),
        ('"logistic"', '"mlp"\nhidden = [8, 0]', "model.hidden", "range"),
        ('"logistic"', '"mlp"\nhidden = [1, 1, 1, 1, 1, 1, 1, 1]', "model.hidden", "range"),
        ('"logistic"', '"mlp"\nhidden = "8"', "model.hidden", "type"),
        ('"logistic"', '"logistic"\nhidden = 8', "model.hidden", "conflict"),
        ("0.05", "0", "rule.learning_rate", "range"),
        ("0.05", "0.00001", "rule.learning_rate", "range"),
        ("0.05", "0.333333", "rule.learning_rate", "range"),
        ("0.05", "nan", "rule.learning_rate", "type"),
        ("0.05", "inf", "rule.learning_rate", "type"),
        ("0.05", "1e-999999", "rule.learning_rate", "type"),
        ("0.05", "1e9999999999999999999", "rule.learning_rate", "type"),
        ("0.05", '"1/0"', "rule.learning_rate", "type"),
        ("0.05", "0.05\nlocal_steps = 65", "rule.local_steps", "range"),
        ("0.05", "0.05\nbatch_rows = 0", "rule.batch_rows", "range"),
        ("seats = 16", "seats = 24", "committee.seats", "range"),
        ("seats = 16", "seats = 8", "committee.seats", "range"),
        ("seats = 16", "seats = 512", "committee.seats", "range"),
        ("seats = 16", "seats = 16\nverifiers = 0", "committee.verifiers", "range"),
        ("seats = 16", "seats = 16\nverifiers = 257", "committee.verifiers", "range"),
        ("seats = 16", "seats = 16\nlink_ms = -1", "committee.link_ms", "range"),
        ("seats = 16", "seats = 16\nwatts = 0", "committee.watts", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nper_site = 0", "trainers.per_site", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nquorum = 1", "trainers.quorum", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nquorum = 0.5", "trainers.quorum", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nquorum = 1.01", "trainers.quorum", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nquorum = true", "trainers.quorum", "type"),
        ("seats = 16", 'seats = 16\n[trainers]\nquorum = "most"', "trainers.quorum", "type"),
        ("seats = 16", "seats = 16\n[trainers]\nquorum = 3", "trainers.quorum", "conflict"),
        ("seats = 16", "seats = 16\n[trainers]\nquorum = 65537", "trainers.quorum", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nstaleness = 5", "trainers.staleness", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nstaleness = 0.5", "trainers.staleness", "type"),
        ("seats = 16", "seats = 16\n[trainers]\nplaces = -1", "trainers.places", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nplaces = 65537", "trainers.places", "range"),
        ("seats = 16", "seats = 16\n[trainers]\nplaces = 3", "trainers.places", "conflict"),
        ("seats = 16", "seats = 16\n[trainers]\nplaces = 6", "trainers.places", "conflict"),
        ("seats = 16", "seats = 16\n[chain]\ncheckpoint_every = 0", "chain.checkpoint_every", "range"),
        ("seats = 16", 'seats = 16\n[chain]\nurl = "ftp://host"', "chain.url", "range"),
        ("seats = 16", 'seats = 16\n[chain]\nurl = "http://host:99999"', "chain.url", "range"),
        ("seats = 16", "seats = 16\n[chain]\nfollowers = []", "chain.followers", "range"),
        ("seats = 16", 'seats = 16\n[chain]\nfollowers = "embedded"', "chain.followers", "type"),
        ("seats = 16", 'seats = 16\n[chain]\nfollowers = ["ftp://host"]', "chain.followers", "range"),
        ("seats = 16", 'seats = 16\n[chain]\nfollowers = ["http://a", "http://a"]', "chain.followers", "conflict"),
        ("seats = 16", f"seats = 16\n[chain]\nfollowers = {['embedded'] * 16}", "chain.followers", "range"),
        ("[rule]\nlearning_rate = 0.05", "", "[rule]", "missing"),
        ("[rule]", "[rules]", "[rules]", "unknown"),
        ("[committee]\nseats = 16", "", "[committee]", "missing"),
        ("seats = 16", "seats = 16\n[privacy]\nnoise = 1\nhonest = 2", "privacy.clip", "missing"),
    ],
)
def test_smallest_change_is_refused_where_it_is(old: str, new: str, where: str, kind: str) -> None:
    assert (where, kind) in problems(changed(old, new))


@pytest.mark.parametrize(
    ("text", "quorum", "of_eight"),
    [("5", 5, 5), ("0.75", Fraction(3, 4), 6), ('"2/3"', Fraction(2, 3), 6), ("1.0", Fraction(1), None)],
)
def test_a_quorum_is_a_count_or_a_share_and_part_of_the_identity(
    text: str, quorum: int | Fraction, of_eight: int | None
) -> None:
    experiment = decode(changed("seats = 16", f"seats = 16\n[trainers]\nquorum = {text}"))
    assert experiment.trainers.quorum == quorum
    assert experiment_from_bytes(experiment_to_bytes(experiment)) == experiment
    assert experiment_to_bytes(experiment) != experiment_to_bytes(decode(SMALLEST))
    assert quorum_of(experiment, 8) == of_eight


@pytest.mark.parametrize(
    ("level", "refused"), [("unproved", False), ("bounded", False), ("attested", True), ("proved", True)]
)
def test_stale_reports_are_refused_where_the_evidence_is_about_the_model(level: str, refused: bool) -> None:
    text = changed('"unproved"', f'"{level}"').replace("seats = 16", "seats = 16\n[trainers]\nstaleness = 1")
    if refused:
        assert ("trainers.staleness", "conflict") in problems(text)
        return
    experiment = decode(text)
    assert experiment.trainers.staleness == 1
    assert experiment_from_bytes(experiment_to_bytes(experiment)) == experiment
    assert b'"staleness":1' in experiment_to_bytes(experiment)
    assert b"staleness" not in experiment_to_bytes(decode(SMALLEST))


@pytest.mark.parametrize(("trainers", "refused"), [(4, True), (5, False), (9, False), (10, True)])
def test_a_quorum_is_more_than_half_and_at_most_all(trainers: int, refused: bool) -> None:
    experiment = decode(changed("seats = 16", "seats = 16\n[trainers]\nquorum = 5"))
    if not refused:
        assert quorum_of(experiment, trainers) == (None if trainers == 5 else 5)
        return
    with pytest.raises(QuorumRefusedError, match=f"of the {trainers} trainers"):
        quorum_of(experiment, trainers)


def test_every_problem_is_named_at_once() -> None:
    text = changed("rounds = 3", "rounds = 0").replace("seats = 16", "seats = 17").replace("0.05", "-1")
    assert problems(text) == [("task.rounds", "range"), ("rule.learning_rate", "range"), ("committee.seats", "range")]


def test_empty_file_is_told_every_section_and_nothing_else() -> None:
    assert problems("") == [(f"[{name}]", "missing") for name in ("task", "data", "model", "rule", "committee")]


def test_unknown_key_is_told_the_nearest_one() -> None:
    with pytest.raises(ExperimentRefusedError, match=r"^task\.round: is no setting .*; did you mean rounds\?$"):
        decode(changed("rounds = 3", "rounds = 3\nround = 3"))


def test_passwords_of_a_node_are_refused_and_not_repeated() -> None:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(SMALLEST + '[chain]\nurl = "http://me:hunter2@host"')
    assert "hunter2" not in str(caught.value)


def test_embedded_chain_may_be_named() -> None:
    assert decode(SMALLEST + '[chain]\nurl = "embedded"') == decode(SMALLEST)
    assert decode(SMALLEST + '[chain]\nurl = "http://127.0.0.1:8545"').chain.url == "http://127.0.0.1:8545"


def test_the_chains_that_follow_are_part_of_the_task_only_where_there_are_some() -> None:
    several = decode(SMALLEST + '[chain]\nfollowers = ["embedded", "http://127.0.0.1:8546"]')
    assert several.chain.followers == (None, "http://127.0.0.1:8546")
    data = experiment_to_bytes(several)
    assert b'"followers":["embedded","http://127.0.0.1:8546"]' in data
    assert experiment_from_bytes(data) == several
    assert b"followers" not in experiment_to_bytes(decode(SMALLEST))


# Liveness: the last committee that works, and one more


@pytest.mark.parametrize(
    ("seats", "absent", "lying"), [(16, 5, 0), (16, 1, 2), (32, 10, 0), (64, 21, 0), (64, 1, 10), (256, 85, 0)]
)
def test_committee_at_the_bound_is_accepted(seats: int, absent: int, lying: int) -> None:
    committee = f"seats = {seats}\nabsent = {absent}\nlying = {lying}"
    assert decode(changed("seats = 16", committee)).committee.lying == lying


@pytest.mark.parametrize(
    ("seats", "absent", "lying"), [(16, 6, 0), (16, 2, 2), (32, 11, 0), (64, 22, 0), (64, 2, 10), (256, 86, 0)]
)
def test_committee_past_the_bound_is_refused(seats: int, absent: int, lying: int) -> None:
    committee = f"seats = {seats}\nabsent = {absent}\nlying = {lying}"
    assert ("[committee]", "liveness") in problems(changed("seats = 16", committee))


def test_refusal_of_a_committee_shows_the_arithmetic() -> None:
    with pytest.raises(ExperimentRefusedError) as caught:
        decode(changed("seats = 16", "seats = 16\nabsent = 4\nlying = 3"))
    decodes, final = caught.value.problems
    assert "2 x 3 lying + 4 absent = 10 seats, expected at most floor(16 x 2724 / 8192) = 5" in decodes.text
    assert "16 seats - 4 absent - 3 lying = 9 working, expected at least 16 - floor(15 / 3) = 11" in final.text


def test_bounds_of_a_committee() -> None:
    sizes = (16, 32, 64, 128, 256)
    assert [seats_spoiled_max(seats) for seats in sizes] == [5, 10, 21, 42, 85]
    assert [seat_quorum(seats) for seats in sizes] == [11, 22, 43, 86, 171]


# Epochs


def with_epochs(settings: str, rounds: int = 20) -> str:
    return changed("seats = 16", f"seats = 16\n{settings}").replace("rounds = 3", f"rounds = {rounds}", 1)


def test_epochs_are_part_of_the_identity_where_they_end_and_of_no_older_one() -> None:
    experiment = decode(with_epochs("epoch_rounds = 9\nwindow_rounds = 2\nmembers_min = 13"))
    committee = experiment.committee
    assert (committee.epoch_rounds, committee.window_rounds, committee.members_min) == (9, 2, 13)
    assert experiment_from_bytes(experiment_to_bytes(experiment)) == experiment
    assert b'"epoch_rounds":9' in experiment_to_bytes(experiment)
    plain = decode(SMALLEST)
    assert (plain.committee.epoch_rounds, plain.committee.window_rounds, plain.committee.members_min) == (None, 1, None)
    assert not any(word in experiment_to_bytes(plain) for word in (b"epoch", b"window", b"members"))
    whole = decode(with_epochs("epoch_rounds = 5"))
    assert experiment_from_bytes(experiment_to_bytes(whole)) == whole


@pytest.mark.parametrize(
    ("settings", "rounds", "where", "kind"),
    [
        ("epoch_rounds = 4", 20, "committee.epoch_rounds", "range"),
        ("epoch_rounds = 12\nwindow_rounds = 3", 20, "committee.epoch_rounds", "range"),
        ("epoch_rounds = 6", 5, "committee.epoch_rounds", "range"),
        ("epoch_rounds = 0", 20, "committee.epoch_rounds", "range"),
        ("epoch_rounds = 5.0", 20, "committee.epoch_rounds", "type"),
        ("epoch_rounds = 5\nwindow_rounds = 0", 20, "committee.window_rounds", "range"),
        ("window_rounds = 2", 20, "committee.window_rounds", "conflict"),
        ("members_min = 11", 20, "committee.members_min", "conflict"),
        ("epoch_rounds = 5\nmembers_min = 17", 20, "committee.members_min", "liveness"),
        ("epoch_rounds = 5\nmembers_min = 16\nabsent = 1", 20, "committee.members_min", "liveness"),
    ],
)
def test_epochs_that_could_not_end_are_refused(settings: str, rounds: int, where: str, kind: str) -> None:
    assert problems(with_epochs(settings, rounds)) == [(where, kind)]


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        ("epoch_rounds = 5", 5),
        ("epoch_rounds = 13\nwindow_rounds = 3", 20),
        ("epoch_rounds = 5\nmembers_min = 15\nabsent = 1", 20),
    ],
)
def test_the_shortest_epochs_and_the_largest_minimum_are_accepted(settings: str, rounds: int) -> None:
    assert decode(with_epochs(settings, rounds)).committee.epoch_rounds is not None


def test_liars_that_hold_more_seats_once_the_absent_have_dropped_out_are_refused() -> None:
    """Two of 16 lie, one is absent: then 15 share 16 seats, and one liar may hold two."""
    assert decode(changed("seats = 16", "seats = 16\nabsent = 1\nlying = 2")).committee.lying_seats_max == 2
    assert problems(with_epochs("absent = 1\nlying = 2\nepoch_rounds = 5")) == [("[committee]", "liveness")]
    fits = {(0, 2): 2, (2, 1): 2, (1, 1): 2, (3, 1): 2, (5, 0): 0}
    for (absent, lying), seats in fits.items():
        settings = decode(with_epochs(f"absent = {absent}\nlying = {lying}\nepoch_rounds = 5")).committee
        assert settings.lying_seats_max == seats


@pytest.mark.parametrize(("validators", "refused"), [(5, True), (6, False)])
def test_a_network_has_as_many_validators_as_no_change_succeeds_without(validators: int, refused: bool) -> None:
    text = with_epochs("epoch_rounds = 5\nmembers_min = 6") + f"[network]\nvalidators = {validators}"
    if refused:
        assert problems(text) == [("network.validators", "liveness")]
        return
    assert decode(text).network.validators == 6


# Schema

SCHEMA = """
[schema]
age = { kind = "numeric", lower = 20, upper = 90.5, missing = ["-9"] }
sex = { kind = "category", values = ["Female", "Male"] }
"""


def test_schema_keeps_the_order_of_its_columns() -> None:
    schema = decode(SMALLEST + SCHEMA).schema
    assert schema is not None
    assert schema.feature_names == ("age", "sex=Female", "sex=Male")
    listed = """
    [schema]
    columns = [
      { name = "age", lower = 20, upper = 90.5, missing = ["-9"] },
      { name = "sex", values = ["Female", "Male"] },
    ]
    """
    assert decode(SMALLEST + listed).schema == schema


@pytest.mark.parametrize(
    ("old", "new", "where", "kind"),
    [
        ("lower = 20", "lower = 91", "[schema]", "range"),
        ("lower = 20", "lower = nan", "[schema]", "range"),
        ("lower = 20, ", "", "[schema]", "range"),
        ("lower = 20", "lower = 20, width = 3", "[schema]", "range"),
        ('"Female", "Male"', '"Male", "Male"', "[schema]", "range"),
        ('kind = "numeric"', 'kind = "category"', "schema.age", "conflict"),
        ('kind = "category"', 'kind = "text"', "schema.sex", "range"),
        ('{ kind = "category", values = ["Female", "Male"] }', "3", "schema.sex", "type"),
    ],
)
def test_smallest_change_of_a_schema_is_refused(old: str, new: str, where: str, kind: str) -> None:
    assert SCHEMA.count(old) == 1
    assert problems(SMALLEST + SCHEMA.replace(old, new)) == [(where, kind)]


def test_empty_schema_is_refused() -> None:
    assert problems(SMALLEST + "[schema]") == [("[schema]", "range")]


# Files and bytes


@pytest.mark.parametrize(
    "data",
    [
        b"task",
        b"\xff",
        b"x = " + b"9" * 5000,
        b"x = " + b"[" * 100_000,
        b"#" * ((1 << 20) + 1),
    ],
    ids=["syntax", "encoding", "digits", "depth", "size"],
)
def test_what_is_no_toml_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(ExperimentUnreadableError, match=r"bad\.toml: ") as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.toml", ".", "a\0b"])
def test_path_that_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentUnreadableError, match="expected an experiment file"):
        load_experiment(tmp_path / name)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(SMALLEST)
    experiment = load_experiment(path)
    assert experiment.data_path == tmp_path / "heart.csv"
    assert experiment == decode(SMALLEST), "the folder is no part of what is agreed"


@pytest.mark.parametrize("level", ["unproved", "bounded", "proved"])
def test_levels_that_a_task_can_demand(level: str) -> None:
    assert decode(changed('"unproved"', f'"{level}"')).task.level == level


@pytest.mark.parametrize("level", ["bounded", "proved"])
def test_several_local_steps_are_proved_too(level: str) -> None:
    several = changed("0.05", "0.05\nlocal_steps = 2").replace('"unproved"', f'"{level}"')
    assert decode(several).rule.local_steps == 2


def test_canonical_bytes_are_these() -> None:
    text = changed('"hospitals"', '"h\u00f4pitaux"')
    assert experiment_to_bytes(decode(text)) == (
        b'{"chain":{"checkpoint_every":10,"courts":true,"url":null},"committee":{"absent":0,"link_ms":50,"lying":0,'
        b'"seats":16,"verifiers":4,"watts":"15/1"},"data":{"drop":[],"label":"disease","missing":[],"negative":["0"],"path":"heart.csv",'
        b'"positive":[],"rows_min":10,"site":"hospital","test_fraction":"1/4"},"format":"collegium/v1/experiment",'
        b'"model":{"hidden":null,"kind":"logistic"},"rule":{"batch_rows":null,"learning_rate":"1/20",'
        b'"local_steps":1},"schema":null,"task":{"level":"unproved","name":"h\\u00f4pitaux","rounds":3,"seed":1},'
        b'"trainers":{"minimum":4,"per_site":1}}'
    )


def test_bytes_from_before_there_were_courts_are_those_of_a_task_without() -> None:
    data = experiment_to_bytes(decode(SMALLEST))
    before = data.replace(b'"courts":true,', b"")
    assert before != data
    assert experiment_from_bytes(before).chain.courts is False
    assert experiment_to_bytes(experiment_from_bytes(before)) == before
    assert experiment_to_bytes(decode(f"{SMALLEST}\n[chain]\ncourts = false\n")) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"courts":true', b'"courts":false'),
        (b'"courts":true', b'"courts":true,"trainers_stake":false'),
        (b'"rounds":3', b'"rounds": 3'),
        (b'"rounds":3', b'"rounds":3,"rounds":3'),
        (b'"learning_rate":"1/20"', b'"learning_rate":"2/40"'),
        (b'"learning_rate":"1/20"', b'"learning_rate":0.05'),
        (b'"link_ms":50,', b""),
        (b'"negative":["0"]', b'"negative":"0"'),
        (b"}}", b"}}\n"),
        (b"}}", b'},"unknown":null}'),
        (b'"url":null', b'"url":"embedded"'),
        (b"v1", b"v2"),
        (b'"rounds":3', b'"rounds":NaN'),
        (b'"hospitals"', b'"h\xc3\xb4pitaux"'),
        (b'{"chain"', b'[{"chain"'),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(old: bytes, new: bytes) -> None:
    data = experiment_to_bytes(decode(SMALLEST))
    assert experiment_from_bytes(data) == decode(SMALLEST)
    assert data.count(old) == 1
    with pytest.raises(ExperimentBytesError):
        experiment_from_bytes(data.replace(old, new))


@pytest.mark.parametrize("data", [b"", b"null", b"[" * 100_000, b" " * ((1 << 20) + 1)])
def test_bytes_that_are_no_experiment_are_refused(data: bytes) -> None:
    with pytest.raises(ExperimentBytesError):
        experiment_from_bytes(data)


def test_canonical_bytes_that_say_nonsense_are_refused() -> None:
    data = experiment_to_bytes(decode(SMALLEST)).replace(b'"rounds":3', b'"rounds":0')
    with pytest.raises(ExperimentRefusedError, match=r"^task\.rounds: is 0, expected"):
        experiment_from_bytes(data)


def test_the_guides_example_is_an_experiment() -> None:
    guide = (ROOT / "docs/guide/experiment.md").read_text()
    example = guide.split("```toml\n")[1].split("```")[0]
    experiment = decode(example)
    assert experiment.schema is not None
    assert experiment.task.name == "four hospitals"


@pytest.mark.parametrize("name", ["demo.toml", "quality.toml"])
def test_the_packaged_demo_is_an_experiment(name: str) -> None:
    experiment = load_experiment(ROOT / "src/collegium/apps/demo" / name)
    assert experiment.data_path.is_file()
    assert (experiment.stewards is not None) is (experiment.attack is not None) is (name == "quality.toml")
