"""How a task weighs its trainers: whose records count, what reports must prove of their scores, what a round leaves."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from collegium import aggregation
from collegium.aggregation import RoundTerms, SeatTerms
from collegium.consensus import ROUND_RECORD_BYTES_MAX, RoundEntry, WeighedReport
from collegium.crypto import AccountKey, Stream, hash_fields
from collegium.incentives import (
    NO_SCORE,
    RECORD_BYTES_MAX,
    DirectionError,
    IncentiveError,
    ModelScore,
    Policy,
    StewardRecordError,
    decode_steward_record,
    encode_quality_state,
    encode_steward_record,
    record_digest,
    report_scale,
    sign_steward_record,
)
from collegium.learning import CategoryColumn, ModelSpec, NumericColumn, Rows, Rule, Schema, Table, TrainerRows
from collegium.node import LearningTask, ModelStateError
from collegium.node._opened_rows import OpenedRowsError, Remeasured, decode_opened_rows, encode_opened_rows
from collegium.node._proofs import DataPack, SecretDraft
from collegium.node._quality import (
    OtherTaskStateError,
    QualityRule,
    RecordRefusedError,
    ScorePrefix,
    ScorePrefixError,
    StewardsRefusedError,
    quality_points,
)
from collegium.node._quality_facts import QualityMismatchError, check_quality
from collegium.node._steward import NoQualityError, Steward, measure, records_of, rows_commitment
from collegium.proofs import ProofRejectedError

NAME = hash_fields("test-task")
KEYS = tuple(AccountKey(bytes([number + 1]) * 32) for number in range(3))
SCHEMA = Schema((NumericColumn("age", 0.0, 100.0, ()), CategoryColumn("kind", ("x", "y"), ())))
BEACON = hash_fields("test-beacon")


def rows(ages: range) -> Rows:
    table = Table(("age", "kind"), (tuple(str(age) for age in ages), tuple("xy"[age % 2] for age in ages)))
    return Rows(table, np.array([int(age > 50) for age in ages], np.int64))


TRAINERS = tuple(
    TrainerRows(site, f"{site}/0", rows(ages))
    for site, ages in (("a", range(20, 60, 2)), ("b", range(31, 91, 3)), ("c", range(25, 85, 3)))
)
ACCOUNTS = tuple(key.address for key in KEYS)
STEWARDS = tuple(
    Steward(AccountKey(bytes([100 + number]) * 32), (rows(range(20 + number, 90, 5)),), "label", bytes([number]) * 32)
    for number in range(3)
)
RULE = QualityRule(
    task=NAME,
    policy=Policy(),
    noise=Fraction(1, 10),
    weighted_min=2,
    rows_max=64,
    trainers=ACCOUNTS,
    stewards=tuple(steward.account.address for steward in STEWARDS),
    parameters=4,
    direction_norm=1 << 24,
)
TASK = LearningTask(
    task=NAME,
    seed=hash_fields("test-seed"),
    level="proved",
    rounds=4,
    schema=SCHEMA,
    spec=ModelSpec("logistic", 3, ()),
    rule=Rule(learning_rate=Fraction(1)),
    rows_max=64,
    trainers_max=3,
    cohort_min=2,
    lying_max=1,
    names=tuple((account, trainer.name) for account, trainer in zip(ACCOUNTS, TRAINERS, strict=True)),
    quality=RULE,
)


def total(number: int, model: bytes) -> np.ndarray:
    return np.sum([TASK.update(number, model, trainer, BEACON) for trainer in TRAINERS], axis=0)


def first() -> bytes:
    return TASK.step(0, b"", total(0, b""))


def stewards() -> tuple[Steward, ...]:
    return tuple(replace(steward, told={}) for steward in STEWARDS)


def end(number: int, model: bytes, records: list[bytes], reports: list[WeighedReport] | None = None) -> bytes:
    """Return the state after a round of training, as consensus makes it."""
    sums = total(number, model)
    return RULE.step(number, model, BEACON, TASK.step(number, model, sums), sums, reports or [], records)


def after_one(measuring: tuple[Steward, ...]) -> bytes:
    model = first()
    return end(1, model, [steward.record(TASK, 1, model) for steward in measuring])


def terms_of(number: int, model: bytes) -> RoundTerms:
    seats = tuple(SeatTerms(bytes([seat]) * 20, None) for seat in range(16))
    digest = sha256(model).digest()
    return RoundTerms(NAME, number, hash_fields("previous"), digest, BEACON, seats, TASK.layout(number))


# ------------------------------------------------------------------------------------------------ states


def test_a_state_of_quality_stands_behind_the_parameters_at_a_word() -> None:
    model = first()
    state = TASK.decode_state(model)

    assert len(model) % 8 == 0
    assert state.quality is not None
    assert TASK.encode_state(state) == model
    assert TASK.layout(1).budget.weight_max == 15
    everybody = RoundEntry(dict.fromkeys(ACCOUNTS, 15), frozenset(ACCOUNTS))
    assert (RULE.entry(0, b"", BEACON), RULE.entry(1, model, BEACON)) == (None, everybody)
    assert quality_points(RULE, model) == dict.fromkeys(ACCOUNTS, 0)


def test_weights_that_close_no_round_are_helped_out_and_who_is_locked_out_stays_so() -> None:
    """Whoever alone has weight could else stop reporting, and no round would ever change that."""
    model = after_one(stewards())
    state = RULE.state_of(model)
    told_apart = RULE.decode(encode_quality_state(replace(state, weights=np.array([15, 3, 0]))))
    model = model[: -RULE.state_bytes] + encode_quality_state(told_apart)
    for number in range(2, 6):  # what follows, and what follows up to three rounds without a sum
        entry = RoundEntry(dict(zip(ACCOUNTS, (15, 3, 0), strict=True)), frozenset(ACCOUNTS))
        assert RULE.entry(number, model, BEACON) == entry
    everybody = RoundEntry(dict(zip(ACCOUNTS, (15, 3, 1), strict=True)), frozenset(ACCOUNTS))
    assert RULE.entry(6, model, BEACON) == everybody
    few = replace(RULE, places=2)  # of three trainers: two are drawn, until no sum has opened for long
    assert {len(few.entry(number, model, BEACON).awaited) for number in range(2, 6)} <= {2, 3}
    assert few.entry(6, model, BEACON) == everybody
    standing = replace(state.standing, locked_until=np.array([0, 0, state.standing.round + 9]))
    locked = RULE.decode(encode_quality_state(replace(told_apart, standing=standing)))
    model = model[: -RULE.state_bytes] + encode_quality_state(locked)
    for number in range(2, 11):
        found = RULE.entry(number, model, BEACON)
        assert found is not None
        assert (found.weights[ACCOUNTS[2]], found.awaited) == (0, frozenset(ACCOUNTS[:2]))
    assert RULE.entry(11, model, BEACON) == everybody, "as many rounds are over as it had left"


def test_who_is_locked_out_may_report_and_is_not_waited_for() -> None:
    model = after_one(stewards())
    state = RULE.state_of(model)
    standing = replace(state.standing, locked_until=np.array([0, 0, 9]), vetted=np.array([1, 1, 0]))
    locked = replace(state, standing=standing, weights=np.array([15, 15, 0]))
    model = model[: -RULE.state_bytes] + encode_quality_state(locked)
    entry = RULE.entry(2, model, BEACON)
    assert entry == RoundEntry(dict(zip(ACCOUNTS, (15, 15, 0), strict=True)), frozenset(ACCOUNTS[:2]))
    assert replace(RULE, places=4).entry(2, model, BEACON) == entry, "whoever is drawn"
    told_alike = replace(locked, weights=np.array([15, 15, 15]))  # as too few would have had weight
    model = model[: -RULE.state_bytes] + encode_quality_state(told_alike)
    entry = RULE.entry(2, model, BEACON)
    assert entry == RoundEntry(dict.fromkeys(ACCOUNTS, 15), frozenset(ACCOUNTS))


def test_the_order_takes_the_longest_record_and_its_proof() -> None:
    assert RECORD_BYTES_MAX * 4 <= ROUND_RECORD_BYTES_MAX


def test_a_state_of_another_task_is_refused() -> None:
    other = replace(TASK, quality=replace(RULE, trainers=ACCOUNTS[::-1]))
    with pytest.raises(ModelStateError, match="about other trainers"):
        other.decode_state(first())
    with pytest.raises(OtherTaskStateError):
        replace(RULE, stewards=RULE.stewards[::-1]).state_of(first())
    with pytest.raises(OtherTaskStateError, match="weighs 15, expected 5 at most"):
        replace(RULE, policy=replace(Policy(), weight_max=5)).state_of(first())
    odd = replace(RULE, parameters=3)
    with pytest.raises(OtherTaskStateError, match="between parameters"):
        odd.state_of(b"\1" + bytes(3) + first()[-odd.state_bytes :])
    with pytest.raises(IncentiveError):
        odd.state_of(bytes(4) + first()[-odd.state_bytes :])
    with pytest.raises(ModelStateError, match="bytes with quality"):
        TASK.decode_state(first()[:-8])
    with pytest.raises(ModelStateError):
        replace(TASK, quality=None).decode_state(first())


def test_models_that_records_or_scores_cannot_hold_are_refused() -> None:
    assert replace(RULE, parameters=131_000).record_lengths.start < RECORD_BYTES_MAX
    with pytest.raises(StewardsRefusedError, match="a steward's record about 132000 parameters"):
        replace(RULE, parameters=132_000)


# ------------------------------------------------------------------------------------------------ records


def test_stewards_records_give_a_direction_and_the_next_ones_tell_the_models_score() -> None:
    measuring = stewards()
    one = after_one(measuring)
    state = TASK.decode_state(one).quality
    assert state is not None
    assert state.has_direction
    before = TASK.decode_state(first())
    records = [steward.record(TASK, 2, one) for steward in measuring]
    two = TASK.decode_state(end(2, one, records)).quality

    assert two is not None
    scores = sorted(measure(TASK, before, steward.shards[0]).score for steward in measuring)
    assert (two.model_round, two.model_scores, two.model_score) == (1, 3, scores[1])
    assert [entry.record for entry in two.stewards] == [record_digest(data) for data in records]


def test_records_are_checked_against_the_model_and_those_before() -> None:
    measuring, model = stewards(), first()
    records = [steward.record(TASK, 1, model) for steward in measuring]

    for place, data in enumerate(records):
        RULE.check_record(1, model, records[:place], data)
    with pytest.raises(RecordRefusedError, match="has a record of round 1 already"):
        RULE.check_record(1, model, records[:1], records[0])
    with pytest.raises(RecordRefusedError, match="for round 1 in round 2"):
        RULE.check_record(2, model, [], records[0])
    with pytest.raises(RecordRefusedError, match="expected a steward's"):
        replace(RULE, stewards=RULE.stewards[1:]).check_record(1, model, [], records[0])
    with pytest.raises(NoQualityError):
        measuring[0].record(TASK, 0, b"")


def test_a_round_waits_for_the_stewards_that_spoke_in_the_last_one() -> None:
    model = first()
    records = [steward.record(TASK, 1, model) for steward in stewards()]
    assert not RULE.awaits_record(0, b"", [])
    assert [RULE.awaits_record(1, model, records[:count]) for count in range(4)] == [True, True, True, False]

    two_spoke = after_one(stewards()[1:])
    again = [steward.record(TASK, 2, two_spoke) for steward in stewards()]
    assert RULE.awaits_record(2, two_spoke, again[:2])
    assert not RULE.awaits_record(2, two_spoke, again[1:]), "the first one stayed away"

    one_spoke = after_one(stewards()[2:])  # half or fewer give no direction: all are waited for
    again = [steward.record(TASK, 2, one_spoke) for steward in stewards()]
    assert RULE.awaits_record(2, one_spoke, again[1:])
    assert not RULE.awaits_record(2, one_spoke, again)


def test_a_record_of_another_length_norm_or_signature_is_refused() -> None:
    model, steward = first(), stewards()[0]
    found = decode_steward_record(steward.record(TASK, 1, model), NAME)

    def check(**changes: object) -> None:
        changed = sign_steward_record(replace(found, **changes), NAME, steward.account)  # type: ignore[arg-type]
        RULE.check_record(1, model, [], encode_steward_record(changed))

    check()
    with pytest.raises(RecordRefusedError, match="about 3 parameters"):
        check(direction=found.direction[:3])
    with pytest.raises(DirectionError, match="has norm"):
        check(direction=found.direction // 2)
    with pytest.raises(RecordRefusedError, match="did not commit to"):
        check(opened=ModelScore(1, b"s" * 32))
    stolen = sign_steward_record(found, NAME, STEWARDS[1].account)
    with pytest.raises(StewardRecordError, match="is signed by"):
        RULE.check_record(1, model, [], encode_steward_record(stolen))


def test_a_steward_tells_only_what_it_committed_to_in_the_round_that_counted() -> None:
    measuring = stewards()
    one = after_one(measuring[1:])  # the first one's record of round 1 came too late
    data = measuring[0].record(TASK, 2, one)
    assert decode_steward_record(data, NAME).opened is None

    honest = measuring[1].record(TASK, 2, one)
    found = decode_steward_record(honest, NAME)
    assert found.opened is not None
    RULE.check_record(2, one, [], honest)
    lying = replace(found, opened=replace(found.opened, score=found.opened.score - 1))
    with pytest.raises(RecordRefusedError, match="did not commit to in round 1"):
        RULE.check_record(2, one, [], encode_steward_record(sign_steward_record(lying, NAME, measuring[1].account)))


def test_a_steward_whose_rows_do_not_fit_says_why_and_the_others_go_on() -> None:
    measuring, model = stewards(), first()
    lame = replace(measuring[0], shards=(Rows(Table(("age",), (("1", "2"),)), np.array([0, 1], np.int64)),))

    records = records_of([lame, *measuring[1:]], TASK, 1, model)
    assert [decode_steward_record(data, NAME).account for data in records] == list(RULE.stewards[1:])
    assert "kind" in str(lame.silent)
    assert records_of(measuring, TASK, 0, b"") == []
    assert len(records_of(measuring, TASK, 1, model)) == 3
    assert measuring[0].silent is None


def test_a_commitment_binds_rows_and_their_steward() -> None:
    steward = STEWARDS[0]
    assert steward.commitment != STEWARDS[1].commitment
    assert steward.commitment == replace(steward, told={}).commitment
    assert rows_commitment(b"a" * 20, b"s" * 32, b"rows") != rows_commitment(b"a" * 20, b"s" * 32, b"rowt")


# ------------------------------------------------------------------------------------------------ scores


@pytest.fixture(scope="module")
def pack() -> DataPack:
    random = Stream(b"pack".ljust(32, b"\0"))
    return TASK.register(1, first(), ACCOUNTS[0], TRAINERS[0].rows, None, random)


def proved(number: int, model: bytes, pack: DataPack) -> tuple[RoundTerms, aggregation.Draft, bytes]:
    random = Stream(b"draft".ljust(32, b"\0"))
    terms = terms_of(number, model)
    update = TASK.update(number, model, TRAINERS[0], terms.beacon)
    draft = aggregation.begin_upload(terms, ACCOUNTS[0], update, random)
    proof, _ = TASK.prove(terms, model, SecretDraft.of(draft), TRAINERS[0].rows, pack, random)
    return terms, draft, proof


def verify(terms: RoundTerms, draft: aggregation.Draft, model: bytes, pack: DataPack, proof: bytes) -> None:
    report: Any = SimpleNamespace(trainer=draft.trainer, ciphertext=draft.ciphertext_digest, key_root=draft.key_root)
    TASK.verify_proof(terms, model, report, draft.ciphertext, proof, pack.data)


@pytest.mark.slow
def test_a_report_proves_its_score_and_no_other(pack: DataPack) -> None:
    one = after_one(stewards())
    terms, draft, data = proved(2, one, pack)
    prefix, proof = ScorePrefix.split(data)
    quality = TASK.decode_state(one).quality

    assert quality is not None
    assert prefix.rows == len(TRAINERS[0].rows)
    assert prefix.value is not None
    scale = report_scale(quality, prefix.rows, RULE.noise)
    noiseless = int(quality.direction @ draft.update[:-1]) >> scale.shift
    assert abs(prefix.value - noiseless) <= 4 * scale.sigma
    verify(terms, draft, one, pack, data)
    for other in (replace(prefix, value=prefix.value + 1), replace(prefix, value=-prefix.value)):
        with pytest.raises(ProofRejectedError):
            verify(terms, draft, one, pack, other.before(proof))
    for wrong in (replace(prefix, value=None), replace(prefix, rows=prefix.rows + 1)):
        with pytest.raises(ScorePrefixError):
            verify(terms, draft, one, pack, wrong.before(proof))
    with pytest.raises(ScorePrefixError):
        verify(terms, draft, one, pack, proof[:16])


@pytest.mark.slow
def test_who_registers_in_the_round_itself_is_not_scored() -> None:
    one = after_one(stewards())
    late = TASK.register(2, one, ACCOUNTS[0], TRAINERS[0].rows, None, Stream(b"late".ljust(32, b"\0")))
    terms, draft, data = proved(2, one, late)
    prefix, proof = ScorePrefix.split(data)

    assert prefix.value is None
    verify(terms, draft, one, late, data)
    with pytest.raises(ScorePrefixError, match="no score"):
        verify(terms, draft, one, late, replace(prefix, value=0).before(proof))


def test_scores_are_read_from_the_prefix_of_the_proofs() -> None:
    one = after_one(stewards())
    quality = TASK.decode_state(one).quality
    assert quality is not None
    scale = report_scale(quality, 20, RULE.noise)
    prefixes = (ScorePrefix(scale.unit, 20), ScorePrefix(-scale.unit, 20), ScorePrefix(None, 20))
    owners: list[Any] = [SimpleNamespace(trainer=account) for account in ACCOUNTS]
    reports = [
        WeighedReport(owner, 15, prefix.before(bytes(48))) for owner, prefix in zip(owners, prefixes, strict=True)
    ]
    two = TASK.decode_state(end(2, one, [], reports)).quality

    assert two is not None
    assert two.scores.tolist() == [1 << 16, -(1 << 16), NO_SCORE]
    assert not two.has_direction
    with pytest.raises(ScorePrefixError, match="63 bytes"):
        ScorePrefix.split(bytes(63))


@pytest.mark.parametrize(
    "proof",
    [
        b"",
        b"p",
        bytes(63),
        ScorePrefix(5, 0).before(bytes(48)),
        ScorePrefix(5, RULE.rows_max + 1).before(bytes(48)),
        ScorePrefix(5, (1 << 64) - 1).before(bytes(48)),
    ],
    ids=["none", "a byte", "less than a block", "no rows", "too many rows", "all rows there are"],
)
def test_a_prefix_that_no_proof_verifies_with_spoils_no_round_and_says_nothing(proof: bytes) -> None:
    """All of those that vouched for it may be bad; what comes of it must be one thing to everybody."""
    one = after_one(stewards())
    owner: Any = SimpleNamespace(trainer=ACCOUNTS[0])
    report = WeighedReport(owner, 15, proof)
    assert RULE.state_of(end(2, one, [], [report])).scores.tolist() == [NO_SCORE] * 3


@pytest.mark.parametrize("value", [(1 << 63) - 1, 1 - (1 << 63)])
def test_any_score_is_cut(value: int) -> None:
    one = after_one(stewards())
    owner: Any = SimpleNamespace(trainer=ACCOUNTS[0])
    report = WeighedReport(owner, 15, ScorePrefix(value, 20).before(bytes(48)))
    cut = (1 << 16) if value > 0 else -(1 << 16)
    assert RULE.state_of(end(2, one, [], [report])).scores.tolist() == [cut, NO_SCORE, NO_SCORE]


# ------------------------------------------------------------------------------------------------ wrong numbers


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("weights", r"weights\[1\] 14, redone it is 15"),
        ("scores", r"scores\[1\] -5"),
        ("direction", r"direction\[1\]"),
        ("points", r"standing\.points\[1\] 1, redone it is 0"),
        ("norm_bound", "norm_bound"),
        ("commitment", r"stewards\[0\]\.commitment 6363"),
    ],
)
def test_the_first_wrong_number_of_a_state_is_named(part: str, name: str) -> None:
    one = after_one(stewards())
    state = TASK.decode_state(one)
    quality = state.quality
    assert quality is not None
    check_quality(TASK, 1, one, one)
    column = np.array([0, -1, 0, 0])
    wrong = {
        "weights": lambda: replace(quality, weights=quality.weights + column[:3]),
        "scores": lambda: replace(quality, scores=np.where(column[:3], -5, quality.scores)),
        "direction": lambda: replace(quality, direction=quality.direction + column),
        "points": lambda: replace(quality, standing=replace(quality.standing, points=np.array([0, 1, 0]))),
        "norm_bound": lambda: replace(quality, norm_bound=quality.norm_bound + 1),
        "commitment": lambda: replace(
            quality, stewards=(replace(quality.stewards[0], commitment=b"c" * 32), *quality.stewards[1:])
        ),
    }[part]()

    with pytest.raises(QualityMismatchError, match=f"round 1 leaves {name}"):
        check_quality(TASK, 1, TASK.encode_state(replace(state, quality=wrong)), one)


def test_opened_rows_must_say_what_records_said() -> None:
    measuring = stewards()
    model, rows_of = first(), {(steward.account.address, 0): steward.shards[0] for steward in STEWARDS}
    one = after_one(measuring)
    records = [steward.record(TASK, 2, one) for steward in measuring]
    firsts = [steward.record(TASK, 1, model) for steward in stewards()]

    honest = Remeasured(rows_of)
    honest.check(TASK, 1, TASK.decode_state(model), firsts)
    honest.check(TASK, 2, TASK.decode_state(one), records)
    other = Remeasured(rows_of | {(STEWARDS[1].account.address, 0): STEWARDS[0].shards[0]})
    with pytest.raises(OpenedRowsError, match=rf"steward {STEWARDS[1].account.address.hex()} says direction\["):
        other.check(TASK, 1, TASK.decode_state(model), firsts)
    honest.told[STEWARDS[1].account.address, 1] += 1
    with pytest.raises(OpenedRowsError, match="says that the model of round 1 scores"):
        honest.check(TASK, 2, TASK.decode_state(one), records)


# ------------------------------------------------------------------------------------------------ shards that rotate


def rotating() -> Steward:
    """Return a steward with two shards of two rounds each."""
    shards = (rows(range(20, 90, 5)), rows(range(23, 90, 5)))
    return Steward(AccountKey(b"\xc8" * 32), shards, "label", b"s" * 32, 2)


def genesis_of(*measuring: Steward) -> Any:
    return SimpleNamespace(stewards=tuple(steward.seat for steward in measuring))


def test_a_shard_measures_its_rounds_and_then_the_next_one_does() -> None:
    steward, model = rotating(), first()
    state = TASK.decode_state(model)
    of_shard = [measure(TASK, state, shard).direction.tolist() for shard in steward.shards]
    said = [
        decode_steward_record(steward.record(TASK, number, model), NAME).direction.tolist() for number in range(1, 5)
    ]

    assert said == [of_shard[0], of_shard[0], of_shard[1], of_shard[1]]
    assert of_shard[0] != of_shard[1]
    assert [steward.retired(number) for number in range(1, 6)] == [0, 0, 1, 1, 2]
    assert [stewards()[0].retired(number) for number in (1, 100)] == [0, 0]


def test_a_shard_that_has_retired_is_open_and_the_next_one_stays_sealed() -> None:
    steward = rotating()
    genesis = genesis_of(steward)
    opened = encode_opened_rows([steward], 3)
    rows_of = decode_opened_rows(opened, genesis, "label", 2)

    assert list(rows_of) == [(steward.account.address, 0)]
    assert rows_of[steward.account.address, 0].labels.tolist() == steward.shards[0].labels.tolist()
    assert len(decode_opened_rows(encode_opened_rows([steward]), genesis, "label", 2)) == 2
    assert decode_opened_rows(encode_opened_rows([steward], 2), genesis, "label", 2) == {}
    with pytest.raises(OpenedRowsError, match="opens 1 shards and 1 digests, expected 3"):
        decode_opened_rows(opened, genesis, "label", 3)
    swapped = replace(steward, shards=steward.shards[::-1])
    with pytest.raises(OpenedRowsError, match="not those that it committed to"):
        decode_opened_rows(encode_opened_rows([swapped], 3), genesis, "label", 2)
    with pytest.raises(OpenedRowsError, match="rows of 1 stewards, the genesis has 2"):
        decode_opened_rows(opened, genesis_of(steward, steward), "label", 2)


def test_a_lie_is_found_when_its_shard_retires_and_not_before() -> None:
    steward, model = rotating(), first()
    state = TASK.decode_state(model)
    liar = replace(steward, shards=steward.shards[::-1], told={})  # measures on the rows of later rounds
    rows_of = decode_opened_rows(encode_opened_rows([steward], 3), genesis_of(steward), "label", 2)

    Remeasured(rows_of, 2).check(TASK, 1, state, [steward.record(TASK, 1, model)])
    Remeasured({}, 2).check(TASK, 1, state, [liar.record(TASK, 1, model)])
    Remeasured(rows_of, 2).check(TASK, 3, state, [liar.record(TASK, 3, model)])
    with pytest.raises(OpenedRowsError, match=rf"steward {steward.account.address.hex()} says direction\[") as caught:
        Remeasured(rows_of, 2).check(TASK, 2, state, [liar.record(TASK, 2, model)])
    assert (caught.value.values["account"], caught.value.values["round"]) == (steward.account.address, 2)
