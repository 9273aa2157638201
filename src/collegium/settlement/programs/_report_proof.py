"""A statement that a trainer makes by itself: the id of a report. It holds if the report's proof verifies."""

from __future__ import annotations

from collegium.settlement.programs._plan import read_plan
from collegium.settlement.programs._vouched import check_report
from collegium.settlement.programs._words import accept


def main() -> None:
    """Accept if the proof of the report behind the statement verifies."""
    read_plan()
    check_report(0)
    accept()
