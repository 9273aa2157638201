"""Whatever is recorded is read back, replays to the same bytes, and verifies."""

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.lineage import KINDS, Lineage, same_database

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
INTEGER = st.integers(0, 2**63 - 1)
ATTRIBUTES = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-(2**63) + 1, 2**63 - 1)), max_size=3)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple]:
    """Records whose parents are chosen among the earlier ones."""
    history: list[tuple] = []
    for number in range(draw(st.integers(0, 8))):
        digest = hashlib.sha256(bytes([number])).digest()
        earlier = [record[2] for record in history]
        edges = st.tuples(st.sampled_from(earlier or [digest]), TEXT, INTEGER)
        parents = draw(st.lists(edges, max_size=4 if earlier else 0, unique_by=lambda edge: edge[:2]))
        history.append((draw(st.sampled_from(KINDS)), draw(INTEGER), digest, draw(TEXT), parents, draw(ATTRIBUTES)))
    return history


@settings(max_examples=25, deadline=None)
@given(histories())
def test_a_history_is_read_back_and_replays_to_the_same_file(history: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.db"), Path(folder, "second.db")
        with Lineage(first) as lineage:
            for record in history:
                lineage.record(*record)
            read = [
                (r.kind, r.round_number, r.digest, r.subject, list(r.parents), r.values()) for r in lineage.records()
            ]
        assert read == [(*record[:4], sorted(record[4]), record[5]) for record in history]
        with Lineage(second) as lineage, lineage.atomic():
            for record in read:
                lineage.record(*record)
        assert same_database(first, second) == "bytes"
        with Lineage(second, read_only=True) as lineage:
            lineage.verify(lineage.tip())
