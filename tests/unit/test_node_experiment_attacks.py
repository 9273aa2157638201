"""The address of a node, which the files of a run repeat: nothing in it may be a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.node import (
    Experiment,
    ExperimentRefusedError,
    decode_experiment,
    experiment_from_bytes,
    experiment_to_bytes,
)

SMALLEST = """
[task]
name = "addresses"
rounds = 1
seed = 1
level = "unproved"
[data]
path = "rows.csv"
site = "clinic"
label = "ill"
negative = "0"
[model]
kind = "logistic"
[rule]
learning_rate = 1.0
[committee]
seats = 16
[chain]
"""


def decode(url: str) -> Experiment:
    return decode_experiment(f'{SMALLEST}url = "{url}"'.encode(), Path())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8545", "https://node.example", "http://[::1]:8545", "http://127.0.0.1:8545/"]
)
def test_scheme_host_and_port_are_published(url: str) -> None:
    experiment = decode(url)
    assert experiment.chain.url == url
    assert experiment_from_bytes(experiment_to_bytes(experiment)).chain.url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://node.example/v3/hunter2",
        "https://node.example/?key=hunter2",
        "https://node.example?hunter2",
        "https://node.example/#hunter2",
        "https://node.example//hunter2",
        "https://node.example:443/hunter2",
        "https://hunter2@node.example",
    ],
)
def test_what_may_be_a_key_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ExperimentRefusedError, match=r"^chain\.url: holds a ") as caught:
        decode(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host\\u001b[2J", "http://ho\\tst", "http://host\\n"])
def test_an_address_that_moves_a_cursor_is_refused(url: str) -> None:
    with pytest.raises(ExperimentRefusedError, match=r"^chain\.url: is ") as caught:
        decode(url)
    assert str(caught.value).isprintable()
