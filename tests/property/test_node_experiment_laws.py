"""Laws of the experiment's encoding, and that no bytes whatever make a decoder die."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.consensus import seat_quorum
from collegium.node import (
    ExperimentError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
    seats_spoiled_max,
)

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
numbers = st.integers(-(10**40), 10**40)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=6,
)


def toml_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(
    name=texts,
    seed=st.integers(0, 2**63 - 1),
    rate=st.integers(1, 65536).map(lambda term: f'"{term}/65535"') | st.sampled_from(["0.5", "2", "1.25e-1"]),
    lists=st.tuples(st.lists(texts, unique=True, min_size=1, max_size=3), st.lists(texts, unique=True, max_size=3)),
    hidden=st.lists(st.integers(1, 4096), max_size=7),
    seats=st.sampled_from([16, 32, 64, 128, 256]),
    batch_rows=st.none() | st.integers(1, 1 << 24),
)
def test_decoding_the_canonical_bytes_gives_the_experiment_back(
    name: str,
    seed: int,
    rate: str,
    lists: tuple[list[str], list[str]],
    hidden: list[int],
    seats: int,
    batch_rows: int | None,
) -> None:
    negative, drop = ([toml_text(text) for text in part] for part in lists)
    text = f"""
    [task]
    name = {toml_text(name)}
    rounds = 1
    seed = {seed}
    level = "unproved"
    [data]
    path = "a.csv"
    site = "the site"
    label = "the label"
    negative = [{", ".join(negative)}]
    drop = [{", ".join(drop)}]
    [model]
    kind = "{"mlp" if hidden else "logistic"}"
    {f"hidden = {hidden}" if hidden else ""}
    [rule]
    learning_rate = {rate}
    {"" if batch_rows is None else f"batch_rows = {batch_rows}"}
    [committee]
    seats = {seats}
    absent = {seats_spoiled_max(seats)}
    """
    experiment = decode_experiment(text.encode(), Path())
    data = experiment_to_bytes(experiment)
    assert experiment_from_bytes(data) == experiment
    assert experiment_to_bytes(experiment_from_bytes(data)) == data


@given(st.sampled_from([16, 32, 64, 128, 256]))
def test_a_sum_that_decodes_is_one_that_a_quorum_agrees_on(seats: int) -> None:
    """With nobody lying the two bounds are the same, so neither promise is broken before the other."""
    assert seats - seats_spoiled_max(seats) == seat_quorum(seats)


@given(st.dictionaries(st.sampled_from(["task", "data", "schema", "model", "rule", "committee", "chain"]), values))
def test_no_toml_makes_the_decoder_die(sections: dict[str, object]) -> None:
    lines = [f"{name} = {json.dumps(value).replace('null', '0')}" for name, value in sections.items()]
    refused(("\n".join(lines)).encode())


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoders_die(data: bytes) -> None:
    refused(data)
    with pytest.raises(ExperimentError):
        experiment_from_bytes(data)


def refused(data: bytes) -> None:
    with pytest.raises(ExperimentError) as caught:
        decode_experiment(data, Path())
    assert "\n" not in str(caught.value)
