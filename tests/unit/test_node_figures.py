"""A process's figures: the last word of each round counts, and a line that is something else is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.node._figures import FIGURES, RoundFigures, append_figures, read_figures


def test_the_last_word_of_each_round_is_read(tmp_path: Path) -> None:
    path = tmp_path / FIGURES
    assert read_figures(path) == {}
    for figures in (RoundFigures(0, finality_ms=5.0), RoundFigures(1), RoundFigures(0, finality_ms=6.0)):
        append_figures(path, figures)
    assert read_figures(path) == {0: RoundFigures(0, finality_ms=6.0), 1: RoundFigures(1)}


@pytest.mark.parametrize(
    "line",
    [b"", b'{"round":', b"\xff", b'{"round":"1"}', b'{"round":1,"x":' + b"[" * 100_000, b'{"round":' + b"9" * 5000],
)
def test_a_line_that_is_something_else_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / FIGURES
    append_figures(path, RoundFigures(0))
    with path.open("ab") as file:
        file.write(line + b"\n")
    append_figures(path, RoundFigures(2))
    assert set(read_figures(path)) == {0, 2}
