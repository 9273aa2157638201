"""Reads a settings file section by section and notes every problem instead of stopping at the first.

Each reader method returns the key's value or, after noting a problem, some value of the right type, so that the rest
can still be read. Who uses it must look at `problems` before believing any value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from re import compile as regular_expression
from typing import Literal, TypeAlias

__all__ = [
    "NAME_LENGTH_MAX",
    "PATH_LENGTH_MAX",
    "ROUNDS_MAX",
    "TERM_MAX",
    "URL_LENGTH_MAX",
    "Problem",
    "ProblemKind",
    "Section",
    "as_quotient",
    "shown",
]

ProblemKind: TypeAlias = Literal["missing", "unknown", "type", "range", "conflict", "liveness"]

NAME_LENGTH_MAX = 64  # of a task or a site
PATH_LENGTH_MAX = 1024
URL_LENGTH_MAX = 512
ROUNDS_MAX = 10_000  # of a task
TERM_MAX = 10**6  # of a fraction
_SHOWN_MAX = 48
_DECIMAL_PLACES_MAX = 12  # beyond it an exponent such as 1e-999999 would make an integer of a million digits
_QUOTIENT = regular_expression(r"(-?[0-9]{1,12})/([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a settings file: `where` is the section or section.key, `text` says found and expected."""

    where: str
    kind: ProblemKind
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def as_quotient(number: Fraction) -> str:
    """Return an exact number as canonical bytes hold it, "numerator/denominator"; `Section.fraction` reads it."""
    return f"{number.numerator}/{number.denominator}"


def shown(value: object) -> str:
    """Return a value as one short printable piece of text, whatever it holds."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value):
        return "a list of lists or tables"  # printing them could recurse without bound
    if isinstance(value, int) and value.bit_length() > _SHOWN_MAX:
        return f"a number of {value.bit_length()} bits"
    text = str(value) if isinstance(value, Decimal | Fraction) else ascii(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."


class Section:
    """One section of a settings file. A value of None counts as absent."""

    __slots__ = ("_known", "_problems", "_table", "name", "ok")

    def __init__(self, name: str, table: Mapping[str, object], problems: list[Problem]) -> None:
        self.name = name
        self.ok = True
        self._table = table
        self._problems = problems
        self._known: set[str] = set()

    def note(self, key: str, kind: ProblemKind, text: str) -> None:
        """Note a problem with `key`; an empty key means the section as a whole."""
        self.ok = False
        self._problems.append(Problem(f"{self.name}.{key}" if key else f"[{self.name}]", kind, text))

    def has(self, key: str) -> bool:
        """Return whether the key is there; asking makes it a known one."""
        self._known.add(key)
        return self._table.get(key) is not None

    def integer(self, key: str, lower: int, upper: int, default: int | None = None) -> int:
        """Return a whole number from `lower` to `upper`; required where no default is given."""
        expected = f"a whole number from {lower} to {upper}"
        value = self._take(key, expected, required=default is None)
        if value is None:
            return lower if default is None else default
        if not isinstance(value, int) or isinstance(value, bool):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
            return lower
        if not lower <= value <= upper:
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
            return lower
        return value

    def optional_integer(self, key: str, lower: int, upper: int) -> int | None:
        """Return a whole number from `lower` to `upper`, or None when the key is absent."""
        return self.integer(key, lower, upper) if self.has(key) else None

    def boolean(self, key: str, *, default: bool) -> bool:
        """Return a truth value."""
        value = self._take(key, "true or false", required=False)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.note(key, "type", f"is {shown(value)}, expected true or false")
            return default
        return value

    def fraction(
        self, key: str, lower: Fraction, upper: Fraction, term_max: int, default: Fraction | None = None
    ) -> Fraction:
        """Return an exact number from `lower` to `upper` whose lowest terms do not exceed `term_max`.

        Accepted are whole numbers, decimals (never passed through binary floating point) and text such as "1/3".
        """
        expected = f'a number from {_decimal_text(lower)} to {_decimal_text(upper)}, such as 0.5 or "1/3"'
        value = self._take(key, expected, required=default is None)
        if value is None:
            return lower if default is None else default
        number = _as_fraction(value)
        if number is None:
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
            return lower
        if not lower <= number <= upper:
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
            return lower
        if max(number.numerator, number.denominator) > term_max:
            self.note(
                key, "range", f"is {shown(value)}, in lowest terms {number}; expected terms of at most {term_max}"
            )
            return lower
        return number

    def count_or_share(self, key: str, lower: int, upper: int, term_max: int) -> int | Fraction | None:
        """Return a count from `lower` to `upper`, or an exact share above 1/2 and at most 1; None if the key is absent.

        A whole number is a count; 0.75 or "3/4" is a share, as 1.0 and "1/1" are.
        """
        expected = f'a whole number from {lower} to {upper}, or a share above 1/2 and at most 1, such as 0.75 or "3/4"'
        value = self._take(key, expected, required=False)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            if not lower <= value <= upper:
                self.note(key, "range", f"is {shown(value)}, expected {expected}")
            return value
        share = _as_fraction(value)
        if share is None:
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
        elif not Fraction(1, 2) < share <= 1 or share.denominator > term_max:
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
        return share

    def text(self, key: str, length_max: int, default: str | None = None) -> str:
        """Return printable text of 1 to `length_max` characters without outer spaces."""
        expected = f"text of 1 to {length_max} printable characters without spaces around it"
        value = self._take(key, expected, required=default is None)
        if value is None:
            return "" if default is None else default
        if not isinstance(value, str):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
            return ""
        if not 1 <= len(value) <= length_max or not value.isprintable() or value != value.strip():
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
            return ""
        return value

    def optional_text(self, key: str, length_max: int) -> str | None:
        """Return text as `text` does, or None when the key is absent."""
        return self.text(key, length_max) if self.has(key) else None

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of `choices`; the key is required."""
        expected = "one of " + ", ".join(f'"{choice}"' for choice in choices)
        value = self._take(key, expected, required=True)
        if value is not None and value not in choices:
            kind: ProblemKind = "range" if isinstance(value, str) else "type"
            self.note(key, kind, f"is {shown(value)}, expected {expected}")
        return value if isinstance(value, str) and value in choices else choices[0]

    def texts(self, key: str, count_max: int, length_max: int) -> tuple[str, ...]:
        """Return at most `count_max` different texts of 1 to `length_max` characters; none where the key is absent.

        One alone may stand without its list.
        """
        expected = f"a list of at most {count_max} different texts of 1 to {length_max} printable characters"
        value = self._take(key, expected, required=False)
        if value is None:
            return ()
        items: list[object] = list(value) if isinstance(value, list) else [value]
        texts = tuple(item for item in items if isinstance(item, str))
        fit = all(1 <= len(text) <= length_max and text.isprintable() for text in texts)
        if len(texts) < len(items):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
        elif len(texts) > count_max or len(set(texts)) < len(texts) or not fit:
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
        return texts

    def words(self, key: str, count_max: int, length_max: int) -> tuple[str, ...]:
        """Return at most `count_max` texts of 1 to `length_max` characters in their order; none where it is absent."""
        expected = f"a list of 1 to {count_max} texts of 1 to {length_max} printable characters"
        value = self._take(key, expected, required=False)
        if value is None:
            return ()
        items = value if isinstance(value, list) else []
        texts = tuple(item for item in items if isinstance(item, str))
        if not isinstance(value, list) or len(texts) < len(items):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
            return ()
        if not 1 <= len(texts) <= count_max or not all(
            1 <= len(text) <= length_max and text.isprintable() for text in texts
        ):
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
        return texts

    def widths(self, key: str, count_max: int, upper: int) -> tuple[int, ...]:
        """Return 1 to `count_max` whole numbers from 1 to `upper`; one alone may stand without its list."""
        expected = f"a whole number from 1 to {upper}, or a list of 1 to {count_max} of them"
        value = self._take(key, expected, required=True)
        if value is None:
            return ()
        items: list[object] = list(value) if isinstance(value, list) else [value]
        widths = tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool))
        if len(widths) < len(items):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
        elif not 1 <= len(widths) <= count_max or not all(1 <= width <= upper for width in widths):
            self.note(key, "range", f"is {shown(value)}, expected {expected}")
        return widths

    def table(self, key: str, expected: str) -> Mapping[str, object]:
        """Return a table of texts to values; empty after noting that it is none."""
        value = self._take(key, expected, required=True)
        if value is not None and not isinstance(value, Mapping):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
        return value if isinstance(value, Mapping) else {}

    def tables(self, key: str, count_max: int, expected: str) -> tuple[Mapping[str, object], ...]:
        """Return a list of 1 to `count_max` tables; none after noting that it is no such list."""
        value = self._take(key, expected, required=True)
        items = value if isinstance(value, list) else []
        tables = tuple(item for item in items if isinstance(item, Mapping))
        if value is None:
            return ()
        if not isinstance(value, list) or len(tables) < len(items):
            self.note(key, "type", f"is {shown(value)}, expected {expected}")
            return ()
        if not 1 <= len(tables) <= count_max:
            self.note(key, "range", f"holds {len(tables)} tables, expected 1 to {count_max}: {expected}")
            return ()
        return tables

    def pass_on(self, problems: Sequence[Problem]) -> None:
        """Note what a section inside this one has noted."""
        self.ok = self.ok and not problems
        self._problems += problems

    def close(self) -> None:
        """Note every key that no reader asked for, with the nearest known one."""
        for key in self._table:
            if key not in self._known:
                near = get_close_matches(key, self._known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(self._known))}"
                name = key if key.isidentifier() and key.isascii() else shown(key)
                self.note(name, "unknown", f"is no setting of this section; {hint}")

    def _take(self, key: str, expected: str, *, required: bool) -> object:
        if self.has(key):
            return self._table[key]
        if required:
            self.note(key, "missing", f"is missing, expected {expected}")
        return None


def _as_fraction(value: object) -> Fraction | None:
    """Return the exact value of a number of a settings file, or None when it is no number we take."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int) or max(-exponent, exponent + len(digits)) > _DECIMAL_PLACES_MAX:
            return None
        return Fraction(value)
    quotient = _QUOTIENT.fullmatch(value) if isinstance(value, str) else None
    if quotient is None or int(quotient[2]) == 0:
        return None
    return Fraction(int(quotient[1]), int(quotient[2]))


def _decimal_text(number: Fraction) -> str:
    return f"{float(number):g}"
