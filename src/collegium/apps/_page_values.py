"""What the report page reads of a summary, and how it writes numbers: equal numbers give equal characters.

A value is of the right type, None when it is absent, and refused otherwise: the summary comes from a file.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from collegium.errors import CollegiumError

__all__ = [
    "ABSENT",
    "JOULES_PER_KWH",
    "MalformedSummaryError",
    "count_text",
    "decimals",
    "energy_text",
    "from_to",
    "grouped",
    "joined",
    "mean_of",
    "median_of",
    "read_column",
    "read_list",
    "read_number",
    "read_numbers",
    "read_object",
    "read_rows",
    "read_text",
    "read_texts",
    "round_numbers",
    "significant",
    "total_of",
]

INTEGER_MAX: Final = 2**63 - 1
JOULES_PER_KWH: Final = 3_600_000
ABSENT: Final = "–"
"""Stands where the summary has no value."""


class MalformedSummaryError(CollegiumError):
    """A value of the summary has another type, or another sign, than the page can show."""


# Reading: a value of the right type, None when it is absent, an error otherwise


def read_text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedSummaryError(f"{key} is {value!r}; expected text", key=key, value=value)
    return value


def read_texts(row: Mapping[str, Any], key: str) -> list[str]:
    return [str(read_text({key: value}, key)) for value in read_list(row, key)]


def read_number(row: Mapping[str, Any], key: str) -> float | int | None:
    """Return a number from 0 on; None for one that is absent, infinite or not a number."""
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MalformedSummaryError(f"{key} is {value!r}; expected a number", key=key, value=value)
    if value < 0 or (isinstance(value, int) and value > INTEGER_MAX):
        raise MalformedSummaryError(f"{key} is out of range; expected 0 to {INTEGER_MAX}", key=key, value=value)
    return value if math.isfinite(value) else None


def read_numbers(row: Mapping[str, Any], key: str) -> list[float | int]:
    return [number for value in read_list(row, key) if (number := read_number({key: value}, key)) is not None]


def read_rows(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = read_list(row, key)
    for value in rows:
        if not isinstance(value, Mapping):
            raise MalformedSummaryError(f"{key} holds {value!r}; expected objects", key=key, value=value)
    return rows


def read_object(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object, empty for one that is absent."""
    value = row.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise MalformedSummaryError(f"{key} is {value!r}; expected an object", key=key, value=value)
    return {} if value is None else value


def read_list(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise MalformedSummaryError(f"{key} is {value!r}; expected a list", key=key, value=value)
    return list(value)


def read_column(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[float | None, ...]:
    return tuple(read_number(row, key) for row in rows)


def round_numbers(rounds: Sequence[Mapping[str, Any]]) -> list[int]:
    numbers = read_column(rounds, "round")
    return [index if number is None else int(number) for index, number in enumerate(numbers, start=1)]


def total_of(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    present = [number for number in read_column(rows, key) if number is not None]
    return sum(present) if present else None


def mean_of(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def median_of(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


# Writing: the same number gives the same characters everywhere


def grouped(number: float | None) -> str:
    """Return a whole number with commas between thousands."""
    return ABSENT if number is None else f"{number:,.0f}"


def decimals(number: float | None, digits: int) -> str:
    return ABSENT if number is None else f"{number:.{digits}f}"


def significant(number: float | None) -> str:
    """Return a number with three significant digits, as a power of ten where it is very small or large."""
    if number is None:
        return ABSENT
    if number == 0:
        return "0"
    mantissa, exponent = f"{number:.2e}".split("e")
    if -3 <= int(exponent) < 6:
        return f"{number:,.{max(0, 2 - int(exponent))}f}"
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def energy_text(kwh: float | None) -> str:
    return "" if kwh is None else f"{significant(kwh * JOULES_PER_KWH)} J ({significant(kwh)} kWh)"


def count_text(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def from_to(name: str, values: Sequence[float | None], digits: int) -> str:
    """Return how a row of values begins and ends, in words, for who cannot see the line."""
    present = [value for value in values if value is not None]
    if not present:
        return ""
    return f"{name}: {present[0]:,.{digits}f} at first, {present[-1]:,.{digits}f} at last."
