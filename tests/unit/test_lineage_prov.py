"""The export of a lineage is W3C PROV: another library reads it, and finds in it what the log says."""

import json
from pathlib import Path

import pytest
from _lineage_stage import d, write_run
from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvDerivation,
    ProvDocument,
    ProvElementIdentifierRequired,
    ProvEntity,
    ProvUsage,
)

from collegium.lineage import Lineage, UnknownModelError


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    with Lineage(tmp_path / "lineage.db") as found:
        write_run(found)
        return found


def read(text: str) -> ProvDocument:
    return ProvDocument.deserialize(content=text, format="json")


def test_another_library_reads_every_ancestor_with_its_weight(lineage: Lineage) -> None:
    document = read(lineage.prov(d("model 2")))
    entities = {str(entity.identifier) for entity in document.get_records(ProvEntity)}
    assert len(entities) == len(lineage.records())
    assert {str(agent.label) for agent in document.get_records(ProvAgent)} == {
        "",
        "bonn",
        "ulm",
        "trainer bonn",
        "trainer ulm",
    }
    records = lineage.records()
    derivations = {
        tuple(str(dict(found.attributes)[key]) for key in dict(found.attributes) if "Entity" in str(key)): found
        for found in document.get_records(ProvDerivation)
    }
    edges = sum(len(record.parents) for record in records)
    assert len(derivations) == len(list(document.get_records(ProvUsage))) == edges
    report = next(r for r in records if r.digest == d("report 1 ulm"))
    sum_ = next(r for r in records if r.digest == d("sum 1"))
    edge = derivations[f"collegium:sum.{sum_.seq}", f"collegium:report.{report.seq}"]
    assert [int(value.value) for key, value in edge.attributes if str(key) == "collegium:weight"] == [2]


def test_what_came_later_is_left_out(lineage: Lineage) -> None:
    document = read(lineage.prov(d("model 1")))
    digests = {
        str(value)
        for entity in document.get_records(ProvEntity)
        for key, value in entity.attributes
        if str(key) == "collegium:digest"
    }
    assert d("model 1").hex() in digests
    assert not {d("model 2").hex(), d("report 2 bonn").hex()} & digests


def test_every_making_has_what_it_used(lineage: Lineage) -> None:
    document = read(lineage.prov(d("model 2")))
    activities = {str(activity.identifier) for activity in document.get_records(ProvActivity)}
    assert activities == {f"collegium:making.{r.seq}" for r in lineage.records() if r.parents}


def test_a_document_without_its_prefix_is_not_read(lineage: Lineage) -> None:
    """The other library does look: a name of no declared namespace is refused."""
    broken = json.loads(lineage.prov(d("model 1")))
    del broken["prefix"]
    with pytest.raises(ProvElementIdentifierRequired):
        read(json.dumps(broken))


def test_equal_logs_give_equal_text_and_an_unknown_model_none(lineage: Lineage) -> None:
    assert lineage.prov(d("model 2")) == lineage.prov(d("model 2"))
    with pytest.raises(UnknownModelError):
        lineage.prov(d("report 1 ulm"))
