"""The compiled contracts: their calls, events and errors as bytes and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from collegium.crypto import keccak256
from collegium.settlement._chain import Log
from collegium.settlement._errors import ArtifactError, ChainAnswerError, ContractRefusedError

__all__ = ["Contract", "contract", "refusal"]

SELECTOR_BYTES = 4
ANSWER_BYTES_MAX: Final = 1 << 16  # the longest of ours, 256 seats' keys, has 8 KiB
CONTRACTS = (
    "Availability",
    "Courts",
    "Curation",
    "Disputes",
    "Dissections",
    "Fees",
    "Licences",
    "Machine",
    "ModelStep",
    "Registry",
    "Rewards",
    "Settlement",
    "Slashing",
    "Tasks",
)


@dataclass(frozen=True, slots=True)
class Member:
    """A function, event or error: its name, the types of what goes in and comes out, which inputs are topics."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_names: tuple[str, ...]
    indexed: tuple[bool, ...]

    @property
    def hash(self) -> bytes:
        """Keccak of the signature: an event's first topic; a call's or error's selector is its first 4 bytes."""
        return keccak256(f"{self.name}({','.join(self.inputs)})".encode())


@dataclass(frozen=True, slots=True)
class Contract:
    """One compiled contract."""

    name: str
    bytecode: bytes
    functions: dict[str, Member]
    events: dict[str, Member]
    errors: dict[bytes, Member]
    constructor: tuple[str, ...]

    def creation(self, *arguments: object) -> bytes:
        """Return the data of the transaction that creates this contract."""
        return self.bytecode + encode(self.constructor, arguments)

    def call(self, function: str, *arguments: object) -> bytes:
        """Return the data of a call."""
        member = self._member(self.functions, function)
        return member.hash[:SELECTOR_BYTES] + encode(member.inputs, arguments)

    def result(self, function: str, output: bytes) -> tuple[Any, ...]:
        """Return what a call gave back.

        Raises:
            ChainAnswerError: it is no such thing, or longer than any answer of ours: lists in a list may all name one
                place, so that what is decoded grows with the square of its bytes.
        """
        if len(output) > ANSWER_BYTES_MAX:
            message = f"{self.name}.{function} answers {len(output)} bytes, expected at most {ANSWER_BYTES_MAX}"
            raise ChainAnswerError(message, length=len(output))
        return _decode(self._member(self.functions, function).outputs, output, f"{self.name}.{function}")

    def topic(self, event: str) -> bytes:
        """Return the first topic of an event."""
        return self._member(self.events, event).hash

    def event(self, event: str, log: Log) -> dict[str, Any]:
        """Return the values of an event by name.

        Raises:
            ChainAnswerError: the log is no such event.
        """
        member = self._member(self.events, event)
        fields = list(zip(member.input_names, member.inputs, member.indexed, strict=True))
        topics = [(name, kind) for name, kind, indexed in fields if indexed]
        rest = [(name, kind) for name, kind, indexed in fields if not indexed]
        if len(log.topics) != 1 + len(topics) or log.topics[0] != member.hash:
            raise ChainAnswerError(f"log with topics {[t.hex() for t in log.topics]} is not the event {event}")
        indexed_values = _decode(tuple(kind for _, kind in topics), b"".join(log.topics[1:]), event)
        values = _decode(tuple(kind for _, kind in rest), log.data, event)
        return dict(zip([name for name, _ in (*topics, *rest)], [*indexed_values, *values], strict=True))

    def _member(self, members: dict[str, Member], name: str) -> Member:
        if name not in members:
            raise ArtifactError(f"contract {self.name} has no {name!r}, expected one of {sorted(members)}")
        return members[name]


@cache
def contract(name: str) -> Contract:
    """Return a compiled contract of the package.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    path = resources.files("collegium.settlement") / "artifacts" / f"{name}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"artifact of contract {name!r} cannot be read: {error}", name=name) from error
    return read_artifact(name, text)


def read_artifact(name: str, text: str) -> Contract:
    """Return the contract of an artifact, which is JSON with the ABI and the bytecode in hex.

    Raises:
        ArtifactError: it is damaged.
    """
    try:
        artifact = json.loads(text)
        members = [(entry["type"], _member(entry)) for entry in artifact["abi"]]
        bytecode = bytes.fromhex(artifact["bytecode"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"artifact of contract {name!r} cannot be read: {error}", name=name) from error
    return Contract(
        name=name,
        bytecode=bytecode,
        functions={member.name: member for kind, member in members if kind == "function"},
        events={member.name: member for kind, member in members if kind == "event"},
        errors={member.hash[:SELECTOR_BYTES]: member for kind, member in members if kind == "error"},
        constructor=next((member.inputs for kind, member in members if kind == "constructor"), ()),
    )


def refusal(output: bytes, reason: str) -> ContractRefusedError:
    """Return the error of a call that failed with this output; `reason` is the chain's word for it."""
    for errors in (contract(name).errors for name in CONTRACTS):
        member = errors.get(output[:SELECTOR_BYTES])
        if member is None:
            continue
        arguments = _decode(member.inputs, output[SELECTOR_BYTES:], member.name)
        pairs = zip(member.input_names, (_shown(value) for value in arguments), strict=True)
        message = f"contract refused the call: {member.name}({', '.join(f'{name}={value}' for name, value in pairs)})"
        return ContractRefusedError(message, error=member.name, arguments=arguments)
    return ContractRefusedError(f"call failed: {reason}, output {output.hex()!r}", error="", arguments=())


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _member(entry: dict[str, Any]) -> Member:
    inputs = entry.get("inputs", [])
    return Member(
        name=entry.get("name", ""),
        inputs=tuple(_type(value) for value in inputs),
        outputs=tuple(_type(value) for value in entry.get("outputs", [])),
        input_names=tuple(value["name"] for value in inputs),
        indexed=tuple(value.get("indexed", False) for value in inputs),
    )


def _type(value: dict[str, Any]) -> str:
    """Return the canonical type of a value: a struct is the tuple of its members."""
    kind: str = value["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(member) for member in value['components'])}){kind.removeprefix('tuple')}"


def _decode(types: tuple[str, ...], data: bytes, what: str) -> tuple[Any, ...]:
    try:
        return tuple(decode(types, data))
    except (DecodingError, OverflowError, ValueError) as error:
        raise ChainAnswerError(f"{what}: {len(data)} bytes are not {types}: {error}", length=len(data)) from error
