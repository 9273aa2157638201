"""The compiled machine does what plain steps do; its roots, states on the way and witnesses are the right ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from _machine_stage import HEIGHT, WitnessRefusedError, above, checked, climbed, leaf_of
from hypothesis import given
from hypothesis import strategies as st

from collegium.crypto import Digest
from collegium.settlement import (
    IMMEDIATE,
    KnownStretches,
    MachineMemory,
    MachineRun,
    MachineState,
    MemoryAccess,
    Op,
    PreimageUnknownError,
    Program,
    StepWitness,
    machine_step,
)

WORD = (1 << 64) - 1
MEMORY = 1 << 28
FRAME = 1024
COMPUTING = range(Op.ADD, Op.FMUL + 1)
EDGES = (0, 1, 2, 31, 32, 63, 64, 65, 1 << 32, (1 << 63) - 1, 1 << 63, 0xFFFFFFFF00000000, 0xFFFFFFFF00000001, WORD)
MESSAGE = b"a message of some blocks " * 8
KNOWN = KnownStretches([MESSAGE, b"another"])


def naive_root(words: dict[int, int]) -> Digest:
    """The root over memory, each leaf that is not zero by itself."""
    nothing = leaf_of(bytes(256))
    level = {}
    for leaf in {address // 32 for address in words}:
        level[leaf] = leaf_of(b"".join(words.get(32 * leaf + i, 0).to_bytes(8, "big") for i in range(32)))
    for _ in range(HEIGHT):
        pairs = {place // 2 for place in level}
        level = {at: above(level.get(2 * at, nothing), level.get(2 * at + 1, nothing)) for at in pairs}
        nothing = above(nothing, nothing)
    return level.get(0, nothing)


class Words(dict[int, int]):
    """Memory as a dictionary, for single steps."""

    def read(self, address: int) -> int:
        return self.get(address, 0)

    def write(self, address: int, word: int) -> None:
        self[address] = word

    def frame(self, address: int) -> list[int]:
        return [self.get(address + index, 0) for index in range(32)]

    def set_frame(self, address: int, words: Sequence[int]) -> None:
        self.update({address + index: word for index, word in enumerate(words)})


def some_word(rng: random.Random) -> int:
    return rng.choice((rng.choice(EDGES), rng.randrange(40), rng.randrange(1 << 64), rng.randrange(960, 1400)))


def some_program(rng: random.Random) -> Program:
    """Instructions over a few slots, of all kinds, sometimes outrageous; they begin with words of all sorts."""
    rows = [[Op.SET, slot, some_word(rng), 0] for slot in range(8)]
    size = rng.randrange(10, 60)
    for _ in range(size):
        op = rng.choice((*COMPUTING, *list(Op)[2:]))
        a, b, c = (rng.randrange(12) for _ in range(3))
        flagged = op in COMPUTING or op in {Op.LOAD, Op.STORE}
        if flagged and rng.random() < 0.5:
            op, c = op | IMMEDIATE, some_word(rng)
        elif op in {Op.JUMP, Op.JZ, Op.JNZ, Op.CALL}:
            a = rng.randrange(8, 8 + size)
        elif op in {Op.SHA256, Op.PREIMAGE, Op.KECCAK}:
            rows.append([Op.SET, a, rng.choice((1056, 1088, 1 << 22, 1057, MEMORY - 32, MEMORY)), 0])
        elif op is Op.RET and rng.random() < 0.7:
            continue
        if rng.random() < 0.01:
            op, a = rng.choice(((33, a), (op | 128, a), (Op.MOVE | IMMEDIATE, a), (op, MEMORY), (op, WORD - 1024)))
        rows.append([int(op), a, b, c])
    rows.append([Op.ACCEPT, 0, 0, 0])
    return Program(np.array(rows, np.uint64))


def stepped(program: Program, statement: Digest, steps: int) -> list[tuple[tuple[int, int, int], Words]]:
    """The registers and the memory after each number of steps, in plain Python."""
    words = Words({index: int.from_bytes(statement[8 * index : 8 * index + 8], "big") for index in range(4)})
    registers, states = (0, 0, FRAME), []
    for _ in range(steps + 1):
        states.append((registers, Words(words)))
        here = registers[1] < len(program.instructions)
        row = [int(part) for part in program.instructions[registers[1]]] if here else None
        try:
            registers = machine_step(row, registers, words, KNOWN)
        except PreimageUnknownError:
            break
    return states


@pytest.mark.seeds(quick=10, full=300)
def test_run_and_witness_of_a_random_program_are_those_of_single_steps(seed: int) -> None:
    rng = random.Random(seed)
    program, statement = some_program(rng), sha256(MESSAGE).digest()
    states = stepped(program, statement, 80)
    run = MachineRun(program, statement, KNOWN, steps_max=80)
    found = run.states(range(len(states)))
    at = [0, len(states) - 1, *rng.sample(range(len(states)), min(5, len(states)))]
    for index, ((registers, words), state) in enumerate(zip(states, found, strict=True)):
        assert state is not None
        assert (state.status, state.pc, state.fp) == registers
        if index in at:
            assert state.root == naive_root(words)
    for index in range(len(states) - 1):
        before, after = found[index : index + 2]
        assert before is not None
        assert checked(program.digest, before, run.witness(index)) == after
    assert (run.stuck is None) == (len(states) == 81)


def test_each_operation_computes_what_plain_steps_compute() -> None:
    rng = random.Random(5)
    words = [*EDGES, *(rng.randrange(1 << 64) for _ in range(6))]
    rows = [[Op.SET, slot, word, 0] for slot, word in enumerate(words)]
    pairs = [(a, b) for a in range(len(words)) for b in range(len(words))]
    where = 1 << 20
    for op in (*COMPUTING, Op.BSWAP):
        for a, b in pairs:
            if op in {Op.DIV, Op.REM} and words[b] == 0:
                continue
            immediate = (a + b) % 2 and op is not Op.BSWAP
            rows.append([op | IMMEDIATE, where, a, words[b]] if immediate else [op, where, a, b])
            where += 1
    rows.append([Op.ACCEPT, 0, 0, 0])
    program = Program(np.array(rows, np.uint64))
    registers, memory = (0, 0, FRAME), Words()
    while registers[0] == 0:
        registers = machine_step([int(part) for part in program.instructions[registers[1]]], registers, memory, KNOWN)
    run = MachineRun(program, bytes(32), KNOWN)
    assert run.accepted
    assert run.steps == len(rows)
    assert run.final == MachineState(1, registers[1], FRAME, naive_root(memory))


@given(st.lists(st.tuples(st.integers(0, MEMORY - 1), st.integers(0, WORD)), max_size=12), st.integers(0, MEMORY - 1))
def test_memory_grows_and_its_root_and_siblings_are_a_trees(writes: list[tuple[int, int]], other: int) -> None:
    memory, words = MachineMemory(), dict[int, int]()
    for number, (address, word) in enumerate(writes):
        place = address % (1 << 23)  # small enough to be laid out
        memory.reach(place)
        memory.words[place], memory.marks[place // 32] = word, 3
        words[place] = word
        if number % 4 == 3:
            assert memory.root() == naive_root(words)
    for address in (other, other % (1 << 23), *list(words)[:2]):
        assert climbed(leaf_of(memory.leaf(address)), address // 32, memory.siblings(address)) == naive_root(words)


COUNTING = [  # word 1 counts to word 0, and each number is written somewhere
    [Op.SET, 0, 3_000_000, 0],
    [Op.SET, 2, 1 << 20, 0],
    [Op.ADD | IMMEDIATE, 1, 1, 1],
    [Op.AND | IMMEDIATE, 3, 1, (1 << 16) - 1],
    [Op.ADD, 3, 3, 2],
    [Op.STORE | IMMEDIATE, 1, 3, 0],
    [Op.LT, 4, 1, 0],
    [Op.JNZ, 2, 4, 0],
    [Op.ACCEPT, 0, 0, 0],
]


def test_states_of_a_long_run_are_the_same_from_whatever_side_they_are_asked_for() -> None:
    program = Program(np.array(COUNTING, np.uint64))
    run = MachineRun(program, bytes(32), KNOWN)
    assert run.accepted
    assert run.steps == 3 + 6 * 3_000_000
    asked = [0, 1, 1_000_000, 1_048_576, 1_048_577, 9_999_999, 18_000_000, run.steps, run.steps + 1, 1 << 36]
    forward = run.states(asked)
    backward = [run.states([step])[0] for step in reversed(asked)]
    assert forward == backward[::-1]
    assert run.states([17_500_000]) == MachineRun(program, bytes(32), KNOWN, steps_max=17_500_000).states([17_500_000])
    assert forward[-1] == forward[-2] == forward[-3] == run.final
    assert len({state.digest for state in forward if state is not None}) == len(asked) - 2
    root = MachineRun(program, bytes(32), KNOWN, steps_max=9_999_999).final
    assert forward[5] == root


def test_run_is_stuck_where_a_preimage_is_unknown_and_goes_on_when_it_is_shown() -> None:
    reading = [[Op.SET, 0, 1088, 0]]
    for index in range(4):
        reading += [[Op.SET, 1, 0, 0], [Op.LOAD | IMMEDIATE, 2, 1, index], [Op.STORE | IMMEDIATE, 2, 0, 12 + index]]
    program = Program(np.array([*reading, [Op.PREIMAGE, 0, 0, 0], [Op.ACCEPT, 0, 0, 0]], np.uint64))
    statement = sha256(b"shown to nobody").digest()
    run = MachineRun(program, statement, KNOWN)
    assert (run.stuck, run.steps) == (statement, 13)
    assert run.states([13, 14])[1] is None
    assert run.states([13])[0] is not None
    for ask in (lambda: run.final, lambda: run.accepted, lambda: run.witness(13)):
        with pytest.raises(PreimageUnknownError, match=statement.hex()):
            ask()
    padded = b"shown to nobody\x80".ljust(56, b"\0") + (8 * 15).to_bytes(8, "big")
    start = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
    told = MachineRun(program, statement, KnownStretches([MESSAGE], [(start, padded)]))
    assert told.accepted
    assert told.witness(13).preimage == start + padded


def test_run_ends_at_its_bound_without_having_accepted() -> None:
    run = MachineRun(Program(np.array([[Op.JUMP, 0, 0, 0]], np.uint64)), bytes(32), KNOWN, steps_max=1000)
    assert not run.accepted
    assert (run.steps, run.final.status) == (1000, 0)


@pytest.mark.seeds(quick=30, full=300)
def test_no_other_step_can_be_shown_by_a_witness_that_was_tampered_with(seed: int) -> None:
    rng = random.Random(seed)
    program, statement = some_program(rng), sha256(MESSAGE).digest()
    run = MachineRun(program, statement, KNOWN, steps_max=60)
    step = rng.randrange(run.steps) if run.steps else 0
    before, after = run.states([step, step + 1])
    if before is None or after is None:
        return
    witness = run.witness(step)
    for part in range(4):
        other = tampered(witness, part, rng)
        if other != witness:
            with pytest.raises(WitnessRefusedError):
                checked(program.digest, before, other)


def tampered(witness: StepWitness, part: int, rng: random.Random) -> StepWitness:
    """A witness with one bit turned, or something left out or added."""
    if part == 0:
        return replace(witness, instruction=turned(witness.instruction, rng))
    if part == 1:
        path = list(witness.path)
        if path:
            path[rng.randrange(len(path))] = rng.randbytes(32)
        return replace(witness, path=tuple(path))
    if part == 2:
        return replace(witness, preimage=turned(witness.preimage, rng) or bytes(96))
    if not witness.accesses:
        return replace(witness, accesses=(MemoryAccess(bytes(256), (bytes(32),) * HEIGHT),))
    accesses = list(witness.accesses)
    at = rng.randrange(len(accesses))
    if rng.random() < 0.3:
        del accesses[at]
    elif rng.random() < 0.3:
        accesses.append(accesses[at])
    else:
        accesses[at] = replace(accesses[at], leaf=turned(accesses[at].leaf, rng))
    return replace(witness, accesses=tuple(accesses))


def turned(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    bit = rng.randrange(8 * len(data))
    return (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")


@pytest.mark.parametrize("target", [2, 1000, (1 << 16) - 1, 1 << 16, (1 << 64) - 1])
def test_run_beyond_its_program_traps(target: int) -> None:
    program = Program(np.array([[Op.JUMP, 1, 0, 0], [Op.JUMP, target, 0, 0]], np.uint64))
    run = MachineRun(program, bytes(32), KNOWN)
    before, after = run.states([2, 3])
    assert before is not None
    assert (run.steps, before.pc, before.status) == (3, target, 0)
    assert after == MachineState(2, target, FRAME, before.root)
    assert checked(program.digest, before, run.witness(2)) == after
    assert checked(program.digest, after, run.witness(3)) == after
    assert run.witness(3) == StepWitness()
