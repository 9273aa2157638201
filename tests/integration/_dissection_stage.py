"""A court whose programs are a few instructions long, runs of them, right and wrong, and who plays whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from _chain_stage import DEPLOYER, MALLORY, World
from _machine_twin import START, WORD, Twin, compress, instruction

from collegium.crypto import AccountKey, hash_fields
from collegium.settlement import (
    NOBODY,
    Chain,
    Deployment,
    DissectionClaim,
    DissectionCourt,
    DissectionGame,
    DissectionKind,
    DissectionMoves,
    DissectionPhase,
    DissectionTerms,
    MachineState,
    StepWitness,
    deploy_dissections,
    read_dissection_game,
)

BOB, CAROL = MALLORY, DEPLOYER
PARTS = 16
TASK = hash_fields("test-task")
TERMS = DissectionTerms(
    window_s=1000, join_s=200, clock_s=300, extension_s=30, levels=2, demands_max=2, bond_wei=1000, demand_fee_wei=7
)  # two levels: the programs here halt in less than 256 steps, and a game has one division beside the claim's

# --- what is stated: a record whose second number is the square of its first; what follows is anything ---

HEAD = (16).to_bytes(8, "little") + b"collegium/v1/toy"


def record(x: int, y: int, blocks: int = 1) -> bytes:
    """A record of so many blocks of SHA-256, the last one's padding included."""
    return HEAD + x.to_bytes(8, "big") + y.to_bytes(8, "big") + bytes(range(64 * (blocks - 1)))


def statement(opening: bytes) -> bytes:
    return sha256(opening).digest()


def stretches(message: bytes) -> list[tuple[bytes, bytes]]:
    """The blocks of a message, padded, each with SHA-256's chaining value before it."""
    padded = message + b"\x80" + bytes((55 - len(message)) % 64) + (8 * len(message)).to_bytes(8, "big")
    found, value = [], START
    for at in range(0, len(padded), 64):
        found.append((value, padded[at : at + 64]))
        value = compress(*found[-1])
    return found


def known(message: bytes, *, last: int = 99) -> dict[bytes, bytes]:
    """Value and block by the value after, of the `last` blocks of a message."""
    found = stretches(message)
    return {compress(value, block): value + block for value, block in found[max(0, len(found) - last) :]}


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), 8)]


def _operand(address: int) -> int:
    """The operand that names a word of memory in the first frame."""
    return (address - 1024) % WORD


FRAME, SCRATCH = 64, 200
X, Y = FRAME + 4 + 3, FRAME + 4 + 4  # behind the head, 24 bytes, in the record's first block


def _squares() -> list[bytes]:
    """Read the record from its end to its beginning, and accept it if y = x x."""
    code = [instruction("SET", 0, FRAME)]
    code += [instruction("MOVE", _operand(FRAME + 12 + i), _operand(i)) for i in range(4)]
    loop = len(code)
    code.append(instruction("PREIMAGE", 0))
    code += [instruction("MOVE", _operand(FRAME + 12 + i), _operand(FRAME + i)) for i in range(4)]
    for i, word in enumerate(words(START)):
        code.append(instruction("SET", _operand(SCRATCH), word))
        code.append(instruction("EQ", _operand(SCRATCH), _operand(SCRATCH), _operand(FRAME + i)))
        code.append(instruction("JZ", loop, _operand(SCRATCH)))
    code.append(instruction("MUL", _operand(SCRATCH), _operand(X), _operand(X)))
    code.append(instruction("EQ", _operand(SCRATCH), _operand(SCRATCH), _operand(Y)))
    code.append(instruction("JZ", len(code) + 2, _operand(SCRATCH)))
    return [*code, instruction("ACCEPT"), instruction("REJECT")]


def _even() -> list[bytes]:
    """Accept a statement whose digest is even."""
    return [
        instruction("AND", _operand(SCRATCH), _operand(3), 1, immediate=True),
        instruction("JNZ", 3, _operand(SCRATCH)),
        instruction("ACCEPT"),
        instruction("REJECT"),
    ]


SQUARES, EVEN = 0, 1  # kinds
PROGRAMS = (tuple(_squares()), tuple(_even()))


def machine(kind: int, about: bytes, preimages: dict[bytes, bytes]) -> Twin:
    twin = Twin(known=preimages)
    twin.program.leaves.update(enumerate(PROGRAMS[kind]))
    twin.put(0, *words(about))
    return twin


@cache
def program_root(kind: int) -> bytes:
    return machine(kind, bytes(32), {}).program.root


# --- runs ---


class Run:
    """All that a machine does until it halts or lacks a preimage: its states, and what shows each step."""

    def __init__(self, twin: Twin) -> None:
        self.states, self.witnesses, self.stuck = [twin.state], list[StepWitness](), False
        while not twin.status and not self.stuck:
            try:
                witness = twin.step()
            except KeyError:
                self.stuck = True
                break
            self.witnesses.append(witness)
            self.states.append(twin.state)

    def __len__(self) -> int:
        return len(self.witnesses)

    def state(self, position: int) -> MachineState:
        """The state after so many steps; a stuck machine's is not known."""
        if self.stuck and position >= len(self.states):
            return MachineState(9, 9, 9, bytes(32))  # nobody's
        return self.states[min(position, len(self.states) - 1)]

    def digest(self, position: int) -> bytes:
        return self.state(position).digest

    def between(self, position: int, level: int) -> tuple[bytes, ...]:
        """The fifteen states that divide a part."""
        return tuple(self.digest(position + k * PARTS ** (level - 1)) for k in range(1, PARTS))

    def claim(self, levels: int = TERMS.levels) -> DissectionClaim:
        return DissectionClaim(self.state(PARTS**levels), self.between(0, levels))

    def shown(self, position: int) -> tuple[MachineState, StepWitness]:
        """The state before a step, and what shows it."""
        return self.state(position), self.witnesses[position] if position < len(self) else StepWitness()

    def part(self, position: int, level: int, states: Iterable[bytes]) -> int:
        """The first part whose end is not this run's; the last one if all else is."""
        mine = self.between(position, level)
        return next((k for k, (own, other) in enumerate(zip(mine, states, strict=True)) if own != other), PARTS - 1)


class Lie(Run):
    """A run that goes as another one for so many steps, then somewhere else, and ends in accepting."""

    def __init__(self, truth: Run, truthful: int) -> None:
        at = truth.states[min(truthful, len(truth) - 1)]
        self.states = truth.states[: truthful + 1]
        self.witnesses, self.stuck = truth.witnesses[: truthful + 1], False
        self.states += [MachineState(0, at.pc + 7, at.fp, sha256(at.root).digest()), MachineState(1, 3, 5, at.root)]
        self.witnesses += truth.witnesses[:1] * 2

    def __len__(self) -> int:
        return len(self.states) - 1


# --- a court, and who plays in it ---


@dataclass(frozen=True)
class Hall:
    """A court of both kinds; headers are under the checkpoint of its deployment, if it has one."""

    world: World
    court: DissectionCourt

    @property
    def chain(self) -> Chain:
        return self.world.chain

    def moves(self, account: AccountKey) -> DissectionMoves:
        return DissectionMoves(self.chain, self.court, account)

    def view(self, game: int) -> DissectionGame:
        return read_dissection_game(self.chain, self.court, game)

    def take_back(self, account: AccountKey, game: int) -> None:
        """Take back the bond of a game's claim, which has no other; the game may have been decided by another one."""
        view, moves = self.view(game), self.moves(account)
        if view.phase is not DissectionPhase.OVER:
            moves.close(game)
        moves.reclaim(view.defence)


def kinds(head: bytes = HEAD) -> tuple[DissectionKind, ...]:
    """Of squares, and of even headers, which begin with this."""
    return (
        DissectionKind(program_root(SQUARES), HEAD, of_header=False),
        DissectionKind(program_root(EVEN), head, of_header=True),
    )


def hall(
    world: World, deployment: Deployment | None = None, terms: DissectionTerms = TERMS, head: bytes = HEAD
) -> Hall:
    """A court; without a deployment no header can be disputed in it."""
    about = deployment or Deployment(TASK, NOBODY, NOBODY, 0)
    return Hall(world, deploy_dissections(world.chain, about, DEPLOYER, kinds(head), terms))


@dataclass
class Table:
    """A game between two runs: what each side shows and denies follows from its own."""

    hall: Hall
    game: int
    challenger: tuple[AccountKey, Run]
    defender: tuple[AccountKey, Run]

    def states(self, view: DissectionGame) -> tuple[bytes, ...]:
        return self.defender[1].between(view.position, view.level)

    def step(self) -> DissectionPhase:
        """Make the move that is due; return whose turn it was. Only a proof that fails raises."""
        view, moves = self.hall.view(self.game), self.hall.moves
        if view.phase is DissectionPhase.CHOOSE:
            account, run = self.challenger
            states = self.states(view)
            moves(account).choose(self.game, states, run.part(view.position, view.level, states))
        elif view.phase is DissectionPhase.DIVIDE:
            moves(self.defender[0]).divide(self.game, self.states(view))
        elif view.phase is DissectionPhase.PROVE:
            moves(self.defender[0]).prove(self.game, *self.defender[1].shown(view.position))
        return view.phase

    def to(self, phase: DissectionPhase) -> DissectionGame:
        """Play until it is this turn."""
        while (view := self.hall.view(self.game)).phase is not phase:
            self.step()
        return view


def seated(place: Hall, dispute: int, challenger: tuple[AccountKey, Run], defender: tuple[AccountKey, Run]) -> Table:
    """Stand up in a dispute with a run's claim."""
    claim = defender[1].claim(place.court.terms.levels)
    return Table(place, place.moves(defender[0]).defend(dispute, claim)[0], challenger, defender)


RIGHT, WRONG = record(12, 144), record(12, 145)


def run(opening: bytes, *, last: int = 99) -> Run:
    """What the machine does about a record of which so many blocks are known."""
    return Run(machine(SQUARES, statement(opening), known(opening, last=last)))
