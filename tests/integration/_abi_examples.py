"""Examples for every function of some contracts, from the ABI: each accepted once, and refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Generic, TypeVar

from _chain_stage import ALICE, refused

from collegium.crypto import AccountKey
from collegium.settlement import Chain, contract, transact

Place = TypeVar("Place")  # where the contracts are, and what they are about

NOT_MET = {
    "FailedCall": "only an account with code refuses coin, and none plays here",
    "InsufficientBalance": "the court owes no more than it took",
    "SafeERC20FailedOperation": "a court holds the chain's own coin, no token",
    "ShortTransfer": "a court holds the chain's own coin, no token",
}


@dataclass(frozen=True)
class Call(Generic[Place]):
    """A call with arguments, from an account."""

    arguments: Callable[[Place], tuple[Any, ...]]
    sender: AccountKey = ALICE
    value: int = 0


@dataclass(frozen=True)
class Example(Generic[Place]):
    """One call that is accepted, one that is refused, and what was done before."""

    accepted: Call[Place] | None
    refused: Call[Place] | None = None
    error: str = ""
    before: Callable[[Place], object] = lambda place: None


def given(*arguments: Any, sender: AccountKey = ALICE, value: int = 0) -> Call[Any]:
    return Call(lambda place: arguments, sender, value)


def then(*steps: Callable[[Place], object]) -> Callable[[Place], None]:
    def go(place: Place) -> None:
        for step in steps:
            step(place)

    return go


def abi(*names: str) -> dict[str, list[dict[str, Any]]]:
    folder = resources.files("collegium.settlement") / "artifacts"
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["abi"] for name in names}


def functions(*names: str) -> dict[str, dict[str, Any]]:
    """Every function by contract and name; none is overloaded."""
    entries = [(name, entry) for name, entries in abi(*names).items() for entry in entries]
    entries = [(name, entry) for name, entry in entries if entry["type"] == "function"]
    found = {f"{name}.{entry['name']}": entry for name, entry in entries}
    assert len(found) == len(entries)
    return found


def errors(*names: str) -> set[str]:
    return {entry["name"] for entries in abi(*names).values() for entry in entries if entry["type"] == "error"}


def looks_only(entry: dict[str, Any]) -> bool:
    return entry["stateMutability"] in {"view", "pure"}


def check_complete(found: Mapping[str, dict[str, Any]], examples: Mapping[str, Example[Any]]) -> None:
    """Every function has an example that is accepted, unless it is a constant; those without a refusal are views."""
    constants = {name for name, entry in found.items() if not entry["inputs"] and looks_only(entry)}
    assert set(examples) == set(found) - constants
    assert all(example.accepted is not None for example in examples.values())
    changing = {name for name, entry in found.items() if not looks_only(entry)}
    assert changing <= {name for name, example in examples.items() if example.refused is not None}


@dataclass(frozen=True)
class Caller(Generic[Place]):
    """Who makes the calls of examples in a place, given the contract's address there by its name."""

    chain: Chain
    place: Place
    addresses: Mapping[str, bytes]

    def make(self, name: str, call: Call[Place]) -> None:
        """Call a function: with a transaction, unless it only looks."""
        owner, _, function = name.partition(".")
        data = contract(owner).call(function, *call.arguments(self.place))
        if looks_only(functions(owner)[name]):
            self.chain.call(call.sender.address, self.addresses[owner], data)
        else:
            transact(self.chain, call.sender, self.addresses[owner], data, value=call.value)

    def check(self, name: str, example: Example[Place]) -> None:
        """What is to be refused is refused by name, and what is to be accepted accepted."""
        example.before(self.place)
        if example.refused is not None:
            with refused(example.error):
                self.make(name, example.refused)
        if example.accepted is not None:
            self.make(name, example.accepted)
