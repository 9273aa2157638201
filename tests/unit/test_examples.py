"""The examples are what the guide says they are: experiments that load."""

from pathlib import Path

import pytest

from collegium.node import load_experiment

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_loads_and_finds_its_data(path: Path) -> None:
    assert load_experiment(path).data_path.is_file()
