"""A quick copy of a state is what the plain one is, and refuses what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as plain
from functools import cached_property
from typing import ClassVar

import pytest

from collegium.consensus._replace import replace


@dataclass(frozen=True)
class State:
    """As a round's state: frozen, with a value derived from its fields."""

    DERIVED: ClassVar[Mapping[str, frozenset[str]]] = {"many": frozenset({"names"})}

    number: int
    names: tuple[str, ...] = ()

    @cached_property
    def doubled(self) -> int:
        return 2 * self.number

    @cached_property
    def many(self) -> list[str]:
        return [*self.names]


@dataclass(frozen=True, slots=True)
class Slotted:
    """A class without a dictionary."""

    number: int


@dataclass(frozen=True)
class Checked:
    """A class that looks at what it is given."""

    number: int
    seen: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen.append(self.number)


def test_a_copy_is_the_plain_copy_and_leaves_the_first_one_alone() -> None:
    state = State(3, ("a",))
    assert state.doubled == 6
    changed = replace(state, number=4)
    assert changed == plain(state, number=4) == State(4, ("a",))
    assert (changed.doubled, state.doubled, state.number) == (8, 6, 3)
    assert replace(state) == state
    with pytest.raises(AttributeError):
        changed.number = 5  # type: ignore[misc]


def test_what_is_said_to_be_derived_is_kept_until_its_source_changes() -> None:
    state = State(3, ("a",))
    many = state.many
    assert replace(state, number=4).many is many
    assert replace(state, names=("b",)).many == ["b"]
    assert plain(state, number=4).many is not many


@pytest.mark.parametrize("copy", [replace, plain])
def test_an_unknown_field_is_refused(copy: object) -> None:
    with pytest.raises(TypeError, match="colour"):
        copy(State(3), colour="red")  # type: ignore[operator]


def test_a_class_that_must_be_called_is_called() -> None:
    assert replace(Slotted(1), number=2) == Slotted(2)
    seen: list[int] = []
    replace(Checked(1, seen), number=2)
    assert seen == [1, 2]
