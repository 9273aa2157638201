"""The log takes what follows from it, and finds the first record that does not."""

import sqlite3
from pathlib import Path

import pytest
from _lineage_stage import d, write_run

from collegium.lineage import (
    FIRST_LINK,
    BrokenRecordError,
    DifferentLineageError,
    Lineage,
    MalformedDigestError,
    MalformedRecordError,
    MissingLineageError,
    NotALineageError,
    UnknownDatasetError,
    UnknownModelError,
    UnknownParentError,
    WrongTipError,
    same_database,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "lineage.db"
    with Lineage(path) as lineage:
        write_run(lineage)
    return path


# Append


def test_each_record_is_linked_to_the_one_before() -> None:
    with Lineage("sqlite://") as lineage:
        assert lineage.tip() == FIRST_LINK
        link = lineage.record("task", 0, d("task"), "heart")
        assert lineage.tip() == link
        assert lineage.record("task", 0, d("task"), "heart") != link
        assert lineage.verify() == lineage.tip()


def test_parents_and_attributes_link_alike_in_any_order() -> None:
    links = []
    for step in (1, -1):
        with Lineage("sqlite://") as lineage:
            for name in ("a", "b"):
                lineage.record("report", 0, d(name), name)
            parents = [(d("a"), "report", 1), (d("b"), "report", 2)][::step]
            attributes = dict([("x", 1), ("y", "z")][::step])
            links.append(lineage.record("sum", 0, d("sum"), "", parents, attributes))
    assert links[0] == links[1]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"kind": "gossip"}, MalformedRecordError),
        ({"round_number": -1}, MalformedRecordError),
        ({"round_number": 2**63}, MalformedRecordError),
        ({"round_number": True}, MalformedRecordError),
        ({"digest": b"short"}, MalformedDigestError),
        ({"subject": "x" * 257}, MalformedRecordError),
        ({"subject": "a\0b"}, MalformedRecordError),
        ({"subject": "\ud800"}, MalformedRecordError),
        ({"parents": [(d("task"), "task", -1)]}, MalformedRecordError),
        ({"parents": [(d("task"), "task", 1), (d("task"), "task", 2)]}, MalformedRecordError),
        ({"parents": [(d("nobody"), "task", 1)]}, UnknownParentError),
        ({"attributes": {"loss": 0.5}}, MalformedRecordError),
        ({"attributes": {"flag": True}}, MalformedRecordError),
        ({"attributes": {1: "x"}}, MalformedRecordError),
        ({"attributes": {"x": 2**63}}, MalformedRecordError),
        ({"attributes": {"x": "y" * 16_384}}, MalformedRecordError),
    ],
)
def test_a_record_out_of_bounds_is_refused_and_leaves_no_trace(change: dict, error: type[Exception]) -> None:
    good = {"kind": "model", "round_number": 0, "digest": d("model"), "subject": "heart"}
    with Lineage("sqlite://") as lineage:
        lineage.record("task", 0, d("task"), "heart")
        before = lineage.dump()
        with pytest.raises(error):
            lineage.record(**(good | change))
        assert lineage.dump() == before
        lineage.record(**good)


def test_a_parent_named_in_two_roles_is_two_parents() -> None:
    with Lineage("sqlite://") as lineage:
        lineage.record("task", 0, d("task"), "heart")
        lineage.record("model", 0, d("model"), "", [(d("task"), "task", 1), (d("task"), "seed", 1)])
        assert [parent.role for parent in lineage.models()[0].parents] == ["seed", "task"]


def write_half_a_round(lineage: Lineage) -> None:
    with lineage.atomic():
        lineage.record("report", 3, d("report 3"), "trainer bonn")
        lineage.record("sum", 3, d("sum 3"), "", [(d("report 4"), "report", 1)])


def test_a_round_is_written_whole_or_not_at_all(run: Path) -> None:
    with Lineage(run) as lineage:
        before = lineage.dump()
        with pytest.raises(UnknownParentError):
            write_half_a_round(lineage)
        assert lineage.dump() == before


# Verify


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_an_untouched_run_verifies_and_is_not_changed_by_it(run: Path) -> None:
    before = run.read_bytes()
    with Lineage(run, read_only=True) as lineage:
        assert lineage.verify(lineage.tip()) == lineage.tip()
    assert run.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE log SET round = 9 WHERE seq = 4", 4),
        ("UPDATE log SET kind = 'close' WHERE seq = 6", 6),
        ("UPDATE log SET kind = 'gossip' WHERE seq = 6", 6),
        ("UPDATE log SET subject = 'trainer ulm' WHERE seq = 4", 4),
        ("UPDATE log SET digest = zeroblob(32) WHERE seq = 7", 7),
        ("UPDATE log SET digest = zeroblob(33) WHERE seq = 7", 7),
        ("UPDATE log SET link = zeroblob(32) WHERE seq = 2", 2),
        ("UPDATE log SET link = zeroblob(31) WHERE seq = 2", 2),
        ("UPDATE log SET attributes = '{\"x\":1}' WHERE seq = 3", 3),
        ("UPDATE log SET attributes = '{ }' WHERE seq = 3", 3),
        ("UPDATE log SET attributes = replace(printf('%09000d', 0), '0', '[') WHERE seq = 3", 3),
        ("UPDATE edge SET weight = weight + 1 WHERE child_seq = 6 AND weight = 3", 6),
        ("UPDATE edge SET weight = -1 WHERE child_seq = 6", 6),
        ("UPDATE edge SET role = 'sum' WHERE child_seq = 6", 6),
        ("UPDATE edge SET child_seq = 99 WHERE child_seq = 6", 6),
        ("DELETE FROM edge WHERE child_seq = 11", 11),
        ("INSERT INTO edge VALUES (99, zeroblob(32), 'sum', 1)", 99),
        ("DELETE FROM log WHERE seq = 5", 5),
        ("UPDATE log SET seq = -1 WHERE seq = 0", -1),
        ("UPDATE log SET seq = 50 WHERE seq = 11", 11),
    ],
)
def test_the_first_record_that_was_tampered_with_is_named(run: Path, statement: str, seq: int) -> None:
    tamper(run, statement)
    with Lineage(run, read_only=True) as lineage, pytest.raises(BrokenRecordError) as error:
        lineage.verify()
    assert error.value.values["seq"] == seq


def test_a_log_cut_off_at_its_end_is_seen_only_by_who_knows_the_tip(run: Path) -> None:
    with Lineage(run, read_only=True) as lineage:
        tip = lineage.tip()
    tamper(run, "DELETE FROM edge WHERE child_seq = 11", "DELETE FROM log WHERE seq = 11")
    with Lineage(run, read_only=True) as lineage:
        lineage.verify()
        with pytest.raises(WrongTipError):
            lineage.verify(tip)


# Files of strangers


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(MissingLineageError):
        Lineage(tmp_path / "typo.db", read_only=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "content", [b"not a database at all, only some text " * 40, b"SQLite format 3\0" + bytes(4080)]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes, read_only: bool) -> None:
    path = tmp_path / "file.db"
    path.write_bytes(content)
    with pytest.raises(NotALineageError):
        Lineage(path, read_only=read_only)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE other (x)",
        "CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM edge; END",
        "DROP TABLE edge",
        "DROP INDEX ix_log_digest",
        "ALTER TABLE log RENAME TO log2",
    ],
)
def test_other_tables_than_ours_are_refused(run: Path, statement: str) -> None:
    tamper(run, statement)
    with pytest.raises(NotALineageError):
        Lineage(run, read_only=True)


def test_a_damaged_page_is_refused(run: Path) -> None:
    content = bytearray(run.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    run.write_bytes(content)
    with pytest.raises(NotALineageError), Lineage(run, read_only=True) as lineage:
        lineage.verify()


# Trace


def test_ancestors_say_who_fed_which_version_with_which_weight(run: Path) -> None:
    with Lineage(run, read_only=True) as lineage:
        found = lineage.ancestors(d("model 2"))
        assert [(c.round_number, c.trainer, c.datasets, c.weight) for c in sorted(found, key=lambda c: c.trainer)] == [
            (1, "trainer bonn", ("bonn",), 3),
            (2, "trainer bonn", ("bonn",), 3),
            (1, "trainer ulm", ("ulm",), 2),
            (2, "trainer ulm", ("ulm",), 0),
        ]
        assert {c.target for c in found} == {d("model 1"), d("model 2")}
        assert len(lineage.ancestors(d("model 1"))) == 2
        assert lineage.ancestors(d("model 0")) == ()


def test_influence_counts_rounds_with_weight(run: Path) -> None:
    with Lineage(run, read_only=True) as lineage:
        assert [(i.trainer, i.datasets, i.rounds, i.weight) for i in lineage.influence(d("model 2"))] == [
            ("trainer bonn", ("bonn",), 2, 6),
            ("trainer ulm", ("ulm",), 1, 2),
        ]


def test_the_round_of_statistics_is_an_ancestor_but_no_influence() -> None:
    with Lineage("sqlite://") as lineage:
        lineage.record("report", 0, d("statistics"), "trainer bonn")
        lineage.record("sum", 0, d("sum"), "", [(d("statistics"), "report", 1)])
        lineage.record("scaling", 0, d("scaling"), "", [(d("sum"), "sum", 1)])
        lineage.record("model", 0, d("model"), "", [(d("scaling"), "scaling", 1)])
        assert [c.target_kind for c in lineage.ancestors(d("model"))] == ["scaling"]
        assert lineage.influence(d("model")) == ()


def test_the_same_model_twice_is_two_versions_and_no_circle() -> None:
    with Lineage("sqlite://") as lineage:
        lineage.record("model", 0, d("model"), "")
        lineage.record("report", 1, d("report"), "trainer bonn")
        lineage.record("sum", 1, d("sum"), "", [(d("report"), "report", 1)])
        lineage.record("model", 1, d("model"), "", [(d("model"), "previous", 1), (d("sum"), "sum", 1)])
        assert [version.round_number for version in lineage.models()] == [0, 1]
        assert len(lineage.ancestors(d("model"))) == 1


def test_erasure_names_the_versions_that_carry_a_dataset(run: Path) -> None:
    with Lineage(run, read_only=True) as lineage:
        assert [record.digest for record in lineage.erasure(d("ulm"))] == [d("model 1"), d("model 2")]


def test_a_dataset_of_weight_zero_touches_no_version() -> None:
    with Lineage("sqlite://") as lineage:
        lineage.record("dataset", 0, d("ulm"), "ulm")
        lineage.record("report", 1, d("report"), "trainer ulm", [(d("ulm"), "dataset", 1)])
        lineage.record("sum", 1, d("sum"), "", [(d("report"), "report", 0)])
        lineage.record("model", 1, d("model"), "", [(d("sum"), "sum", 1)])
        assert lineage.erasure(d("ulm")) == ()


def test_what_is_not_there_has_no_trace(run: Path) -> None:
    with Lineage(run, read_only=True) as lineage:
        with pytest.raises(UnknownModelError):
            lineage.influence(d("sum 1"))
        with pytest.raises(UnknownDatasetError):
            lineage.erasure(d("model 1"))


# Byte for byte


def test_the_same_records_give_the_same_file_whatever_came_between(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with Lineage(run, read_only=True) as source:
        records = source.records()
    for start in range(0, len(records), 5):  # opened, written and closed three times, a transaction for each record
        with Lineage(other) as lineage:
            for r in records[start : start + 5]:
                lineage.record(r.kind, r.round_number, r.digest, r.subject, r.parents, r.values())
    assert same_database(run, other) == "bytes"
    assert other.read_bytes() == run.read_bytes()


def test_a_file_left_open_by_a_crash_is_sealed_by_the_next_close(run: Path, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed.db"
    lineage = Lineage(crashed)
    write_run(lineage)
    lineage._engine.dispose()  # the process dies here
    with pytest.raises(DifferentLineageError) as error:
        same_database(run, crashed)
    assert "offset" in error.value.values
    Lineage(crashed).close()
    assert same_database(run, crashed) == "bytes"


def test_one_other_weight_is_another_lineage(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(run.read_bytes())
    assert same_database(run, other) == "bytes"
    tamper(other, "UPDATE edge SET weight = 4 WHERE child_seq = 6 AND weight = 3")
    with pytest.raises(DifferentLineageError) as error:
        same_database(run, other)
    assert error.value.values["seq"] == 6


def test_a_longer_log_is_another_lineage(run: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.db"
    with Lineage(longer) as lineage:
        write_run(lineage, rounds=3)
    with pytest.raises(DifferentLineageError) as error:
        same_database(run, longer)
    assert error.value.values["seq"] == 12


def test_a_sealed_file_does_not_say_which_version_of_sqlite_wrote_it(run: Path, tmp_path: Path) -> None:
    content = bytearray(run.read_bytes())
    assert content[96:100] == bytes(4)
    content[99] ^= 1
    other = tmp_path / "other.db"
    other.write_bytes(content)
    with pytest.raises(DifferentLineageError) as error:
        same_database(run, other)
    assert error.value.values["offset"] == 99


def test_a_missing_file_is_not_compared(run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingLineageError):
        same_database(run, tmp_path / "typo.db")


def test_a_dump_is_one_line_of_json_a_record(run: Path) -> None:
    with Lineage(run, read_only=True) as lineage:
        lines = lineage.dump().splitlines()
        assert len(lines) == len(lineage.records()) == 12
    assert lines[0].startswith(b'{"attributes":"{\\"level\\":\\"unproved\\",\\"seats\\":16}","digest":"')
