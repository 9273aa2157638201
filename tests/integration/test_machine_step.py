"""The contract Machine executes a step as a machine of ours does that shares no line with it, and no changed one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from _chain_stage import CHAINS, DEPLOYER, refused, worlds
from _machine_twin import IMMEDIATE, MEMORY, NAMES, OPERATIONS, OPS, PRIME, START, WORD, Twin, compress, instruction

from collegium.settlement import (
    NOBODY,
    Chain,
    KnownStretches,
    MachineRun,
    MachineState,
    MemoryAccess,
    PreimageUnknownError,
    Program,
    StepWitness,
    contract,
    transact,
)

ZERO = bytes(32)
FRAMES = ("SHA256", "PREIMAGE", "KECCAK")
WITH_C = (*OPERATIONS, "LOAD", "STORE")
EDGES = (0, 1, 2, 63, 64, 65, 255, 256, 1 << 32, PRIME - 1, PRIME, PRIME + 1, 1 << 63, (1 << 63) - 1, WORD - 1)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Contract:
    """The contract on a chain."""

    chain: Chain
    address: bytes

    def ask(self, function: str, *arguments: object) -> Any:
        machine = contract("Machine")
        answer = self.chain.call(NOBODY, self.address, machine.call(function, *arguments))
        return machine.result(function, answer)[0]

    def step(self, program: bytes, state: MachineState, witness: StepWitness) -> MachineState:
        return MachineState(*self.ask("step", program, state.arguments, witness.arguments))


@pytest.fixture(scope="module", params=CHAINS)
def machine(request: pytest.FixtureRequest) -> Iterator[Contract]:
    for world in worlds(request.param):
        created = transact(world.chain, DEPLOYER, None, contract("Machine").creation()).contract
        assert created is not None
        yield Contract(world.chain, created)


# --- steps to try ---


def word(rng: random.Random) -> int:
    return rng.choice((rng.choice(EDGES), rng.getrandbits(64), rng.getrandbits(8)))


def place(rng: random.Random) -> int:
    """An address: near others, so that they meet, or anywhere."""
    return rng.choice((2048 + rng.randrange(40), rng.randrange(MEMORY), MEMORY - 1))


def frame(rng: random.Random, machine: Twin, address: int) -> None:
    """Fill a frame, and know what its last four words are the value after."""
    shown = rng.randbytes(96)
    digest = compress(shown[:32], shown[32:])
    machine.known[digest] = shown
    data = rng.randbytes(96) + digest + rng.randbytes(128)
    machine.put(address, *(int.from_bytes(data[at : at + 8], "big") for at in range(0, 256, 8)))


def ready(rng: random.Random, name: str, *, immediate: bool = False) -> Twin:
    """A machine that is about to execute this instruction, on words of every size."""
    machine = Twin(pc=rng.choice((0, 1, rng.randrange(1 << 16), (1 << 16) - 1)))
    machine.fp = rng.choice((1024, place(rng) // 2, word(rng)))
    places = [place(rng) for _ in "abc"]
    a, b, c = ((address - machine.fp) % WORD for address in places)
    for address in places:
        machine.put(address, word(rng))
    if immediate:
        c = word(rng)
    if name in {"LOAD", "STORE"}:
        target, base = place(rng), word(rng)
        machine.put(target, word(rng))
        machine.put(places[1], base)
        base = machine.word(places[1])
        if immediate:
            c = (target - base) % WORD
        elif places[1] != places[2]:
            machine.put(places[2], (target - base) % WORD)
    elif name in FRAMES:
        address = place(rng) // 32 * 32
        frame(rng, machine, address)
        machine.put(places[0], address)
        if places[0] // 32 == address // 32:
            return ready(rng, name)  # else the frame's digest is no longer what is known
    elif name == "SET":
        b = word(rng)
    elif name in {"JUMP", "JZ", "JNZ", "CALL"}:
        a = word(rng)
    elif name == "RET":
        machine.fp = places[0] - 1
        machine.put(places[0] - 1, word(rng), word(rng))
    machine.program.leaves[machine.pc] = instruction(name, a, b, c, immediate=immediate)
    machine.program.leaves[(machine.pc + 1) % (1 << 16)] = instruction("ACCEPT")
    return machine


def flipped(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def flipped_one(rng: random.Random, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
    at = rng.randrange(len(digests))
    return (*digests[:at], flipped(rng, digests[at]), *digests[at + 1 :])


def flipped_access(rng: random.Random, access: MemoryAccess, *, in_leaf: bool) -> MemoryAccess:
    if in_leaf:
        return replace(access, leaf=flipped(rng, access.leaf))
    return replace(access, siblings=flipped_one(rng, access.siblings))


def changes(rng: random.Random, state: MachineState, witness: StepWitness) -> Iterator[tuple[str, Any, Any]]:
    """Small changes of a right step, each with the error that refuses it."""
    yield "WrongInstruction", state, replace(witness, path=flipped_one(rng, witness.path))
    if witness.instruction:
        yield "WrongInstruction", state, replace(witness, instruction=flipped(rng, witness.instruction))
        yield "WrongWitness", state, replace(witness, instruction=witness.instruction[:-1])
        yield "WrongInstruction", state, replace(witness, instruction=b"")
    yield "WrongInstruction", replace(state, pc=state.pc ^ 1 << rng.randrange(16)), witness
    yield "WrongWitness", state, replace(witness, path=witness.path[:-1])
    yield "WrongWitness", replace(state, status=1), witness
    other = MemoryAccess(bytes(256), (ZERO,) * 23)
    yield "WrongWitness", state, replace(witness, accesses=(*witness.accesses, other))
    longer = witness.preimage + b"\0" if witness.preimage else bytes(96)
    yield "WrongWitness", state, replace(witness, preimage=longer)
    if witness.preimage:
        yield "WrongPreimage", state, replace(witness, preimage=flipped(rng, witness.preimage))
        yield "WrongWitness", state, replace(witness, preimage=b"")
    if witness.accesses:
        yield "WrongMemory", replace(state, root=flipped(rng, state.root)), witness
        yield "WrongWitness", state, replace(witness, accesses=witness.accesses[:-1])
        for at, access in enumerate(witness.accesses):
            for in_leaf in (True, False):
                changed = flipped_access(rng, access, in_leaf=in_leaf)
                accesses = (*witness.accesses[:at], changed, *witness.accesses[at + 1 :])
                yield "WrongMemory", state, replace(witness, accesses=accesses)


def check(machine: Contract, twin: Twin, rng: random.Random, changed: int) -> MachineState:
    """The step is accepted and gives what the twin has, and so many changes of it are refused; return what it gives."""
    before, program = twin.state, twin.program.root
    witness = twin.step()
    after = machine.step(program, before, witness)
    assert after == twin.state
    refusals = list(changes(rng, before, witness)) if witness.path else []
    for error, state, shown in rng.sample(refusals, min(changed, len(refusals))):
        with refused(error):
            machine.step(program, state, shown)
    return after


# --- every instruction ---


@pytest.mark.seeds(quick=1, full=80)
def test_every_instruction_is_executed_and_none_after_a_change(machine: Contract, seed: int) -> None:
    """An operand C is a word or stands there itself, by turns."""
    for at, name in enumerate(NAMES):
        rng = random.Random(f"{seed} {name}")
        check(machine, ready(rng, name, immediate=name in WITH_C and (seed + at) % 2 == 0), rng, 1)


@pytest.mark.parametrize("name", ["STORE", "PREIMAGE"])
def test_every_change_of_a_step_is_refused_by_name(machine: Contract, name: str) -> None:
    rng = random.Random(name)
    check(machine, ready(rng, name), rng, 100)


@pytest.mark.seeds(quick=1, full=80)
def test_operations_at_the_ends_of_words(machine: Contract, seed: int) -> None:
    rng = random.Random(f"ends {seed}")
    pairs = [(x, y) for x in EDGES for y in EDGES]
    for name in rng.sample(sorted(OPERATIONS), 5):
        x, y = rng.choice(pairs)
        twin = Twin()
        twin.put(1025, x, y)
        twin.program.leaves[0] = instruction(name, 0, 1, 2)
        assert check(machine, twin, rng, 0).status == (2 if y == 0 and name in {"DIV", "REM"} else 0)


def test_a_run_begins_with_the_statement_and_zeros(machine: Contract) -> None:
    statement = bytes(range(32))
    twin = Twin()
    twin.put(0, *(int.from_bytes(statement[at : at + 8], "big") for at in range(0, 32, 8)))
    begun = MachineState(*machine.ask("start", statement))
    assert begun == twin.state
    assert machine.ask("digest", begun.arguments) == begun.digest
    assert machine.ask("digest", replace(begun, pc=1).arguments) != begun.digest
    assert MachineState(*machine.ask("start", bytes(32))) == Twin().state


# --- what cannot be executed ---


def trap(name: str = "", *, op: int | None = None, operands: tuple[int, ...] = (1, 2, 3), fp: int = 1024) -> Twin:
    twin = Twin(fp=fp, pc=3)
    code = instruction(name or "SET", *operands)
    twin.program.leaves[3] = code if op is None else op.to_bytes(8, "big") + code[8:]
    return twin


OUTSIDE = (MEMORY - 1024, WORD - 1025, 1 << 63)  # one beyond the last word; the word before the first one; far away


def traps() -> Iterator[tuple[str, Twin]]:
    for op in (33, 63, *(IMMEDIATE + op for op in (0, 3, 22, 25, 30, 33)), 2 * IMMEDIATE + 4, 1 << 63 | 4, WORD - 1):
        yield f"unknown {op}", trap(op=op)
    for name, operand in (
        *((name, at) for name in ("ADD", "STORE", "LOAD") for at in range(3)),
        *((name, 0) for name in ("SET", "BSWAP", *FRAMES)),
        *((name, 1) for name in ("MOVE", "JZ", "JNZ", "CALL")),
    ):
        for outside in OUTSIDE if (name, operand) == ("ADD", 1) else OUTSIDE[:1]:
            yield f"{name} outside", trap(name, operands=tuple(outside if at == operand else 1 for at in range(3)))
    yield "CALL with its second word outside", trap("CALL", operands=(0, MEMORY - 1 - 1024, 0))
    yield "RET with its second word outside", trap("RET", fp=MEMORY - 1)
    yield "RET outside", trap("RET", fp=MEMORY)
    for name in ("DIV", "REM"):
        yield f"{name} by zero", trap(name)
        yield f"{name} by an immediate zero", trap(op=IMMEDIATE + OPS[name], operands=(1, 2, 0))
    for name in ("LOAD", "STORE"):
        for pointer in (MEMORY, WORD - 1):
            twin = trap(op=IMMEDIATE + OPS[name], operands=(1, 2, 0))
            twin.put(1026, pointer)
            yield f"{name} from {pointer}", twin
    for name in FRAMES:
        for address in (31, MEMORY) if name == "SHA256" else (WORD - 32,):
            twin = trap(name)
            twin.put(1025, address)
            yield f"{name} at {address}", twin
    twin = trap("ACCEPT")
    del twin.program.leaves[3]
    yield "no instruction", twin
    for pc in (1 << 16, WORD - 1):
        yield f"pc {pc}", Twin(pc=pc)


def test_what_cannot_be_executed_rejects_and_changes_nothing(machine: Contract) -> None:
    rng = random.Random(7)
    for what, twin in traps():
        before = twin.state
        assert check(machine, twin, rng, rng.random() < 0.2) == replace(before, status=2), what


@pytest.mark.parametrize("pc", [3, 1 << 16])
def test_a_machine_that_does_not_run_stays(machine: Contract, pc: int) -> None:
    for status in (1, 2, 3, WORD - 1):
        state = MachineState(status, pc, 5, ZERO)
        assert machine.step(ZERO, state, StepWitness()) == state
        with refused("WrongWitness"):
            machine.step(ZERO, state, StepWitness(preimage=bytes(96)))
    with refused("WrongWitness"):
        machine.step(ZERO, MachineState(0, pc, 5, ZERO), StepWitness(instruction=instruction("ACCEPT")))


# --- the package's machine ---


def some_code(rng: random.Random) -> list[bytes]:
    """A program that begins with words of all sizes in sixteen slots and goes on with anything."""
    code = [instruction("SET", slot, word(rng)) for slot in range(12)]
    code += [instruction("SET", 12, rng.choice((2048, 2080, MEMORY - 32))), instruction("SET", 13, rng.choice((1, 77)))]
    for name in rng.choices(NAMES[2:], k=30):
        a, b, c = (rng.randrange(16) for _ in "abc")
        immediate = name in WITH_C and rng.random() < 0.5
        if name in FRAMES:
            a = 12 if rng.random() < 0.9 else a
        elif name in {"JUMP", "JZ", "JNZ", "CALL"}:
            a = rng.randrange(12, 48)
        elif immediate:
            c = word(rng)
        elif name in {"LOAD", "STORE"}:
            b, c = 12, 13
        code.append(instruction(name, a, b, c, immediate=immediate))
    return [*code, instruction("ACCEPT")]


@pytest.mark.seeds(quick=8, full=400)
def test_the_package_runs_a_program_as_the_second_machine_does_and_shows_each_step_so(seed: int) -> None:
    rng = random.Random(seed)
    code = some_code(rng)
    twin = Twin()
    twin.program.leaves.update(enumerate(code))
    rows = [[int.from_bytes(row[at : at + 8], "big") for at in range(0, 32, 8)] for row in code]
    program = Program(np.array(rows, np.uint64))
    assert program.digest == twin.program.root
    run = MachineRun(program, bytes(32), KnownStretches([]), steps_max=60)
    states = run.states(range(61))
    for step in range(60):
        assert states[step] == twin.state
        try:
            shown = twin.step()
        except KeyError:
            assert run.stuck is not None
            with pytest.raises(PreimageUnknownError):
                run.witness(step)
            return
        assert run.witness(step) == shown


# --- what hashes is what the world calls so ---


def test_blocks_hash_as_sha_256(machine: Contract) -> None:
    message = bytes(range(100))
    padded = message + b"\x80" + bytes(128 - 100 - 9) + (800).to_bytes(8, "big")
    assert machine.ask("compress", START, padded) == hashlib.sha256(message).digest()
    with refused("WrongWitness"):
        machine.ask("compress", START, padded[:-1])
    twin = Twin()
    twin.program.leaves[0] = twin.program.leaves[1] = instruction("SHA256", 0)
    twin.put(1024, 64)
    value = START
    for block in (padded[:64], padded[64:]):
        twin.put(64, *(int.from_bytes((value + block)[at : at + 8], "big") for at in range(0, 96, 8)))
        check(machine, twin, random.Random(1), 0)
        value = twin.leaf(2)[96:128]
    assert value == hashlib.sha256(message).digest()


def test_a_permutation_hashes_as_sha_3(machine: Contract) -> None:
    message, rate = b"one block", 136
    block = bytearray(message + b"\x06" + bytes(rate - 1 - len(message)))
    block[-1] |= 0x80
    twin = Twin()
    twin.program.leaves[0] = instruction("KECCAK", 0)
    twin.put(1024, 64)
    twin.put(64, *(int.from_bytes(block[at : at + 8], "little") for at in range(0, rate, 8)))
    check(machine, twin, random.Random(1), 0)
    lanes = b"".join(twin.word(64 + index).to_bytes(8, "little") for index in range(4))
    assert lanes == hashlib.sha3_256(message).digest()
