"""The game of disputes in pure Python: many thousand plays of everybody against everybody, on traces of a toy machine.

The rules here are the contract's (contracts/src/Disputes.sol), written a second time: who may move, what a move must
open, clocks, bonds. The laws: who is right wins, whatever the other side does; no coin appears; and time ends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.crypto import Digest
from collegium.settlement import Challenger, Defender, OpenedLeaf, Section, TraceRangeError, TraceTree, leaf_digest
from collegium.settlement import node_above as above

CLOCK, EXTENSION, JOIN, BOND = 100, 10, 50, 40
SEED = b"input"


class Machine:
    """A toy trace: each leaf is the hash of the one before; the header says what the last one is."""

    def __init__(self, leaves: list[bytes], levels: int, header: bytes) -> None:
        digests = b"".join(map(leaf_digest, leaves))
        section = Section(np.frombuffer(digests, np.uint8).reshape(-1, 32), lambda index: leaves[index])
        self.tree, self.levels, self.facts, self.count = TraceTree([section], 0, levels), levels, header, len(leaves)
        self.fault: int | None = None if leaves[-1] == header else len(leaves) - 1

    def node(self, level: int, index: int) -> Digest:
        return self.tree.node(level, index)

    def leaf(self, position: int) -> bytes:
        return self.tree.leaf(position)

    def witness(self, position: int) -> tuple[int, ...]:
        return (position - 1,) if 0 < position < self.count else ()


def run(steps: int) -> list[bytes]:
    leaves = [sha256(SEED).digest()]
    while len(leaves) < steps:
        leaves.append(sha256(leaves[-1]).digest())
    return leaves


class NotInTreeError(Exception):
    """A witness does not lead to the root, or is not the one that a step needs: the contract refuses it."""


def refutes(
    count: int, header: bytes, root: Digest, position: int, leaf: bytes, witness: tuple[OpenedLeaf, ...]
) -> bool:
    """The step verifier of the toy machine; a witness that is not in the tree is refused."""
    if position >= count:
        return leaf != b""
    before = SEED
    if position:
        if len(witness) != 1:
            raise NotInTreeError
        (opened,) = witness
        node = leaf_digest(opened.data)
        for level, sibling in enumerate(opened.path):
            node = above([sibling, node] if (position - 1) >> level & 1 else [node, sibling])
        if node != root:
            raise NotInTreeError
        before = opened.data
    expected = sha256(before).digest()
    return leaf != expected or (position == count - 1 and leaf != header)


@dataclass
class Play:
    """One game, as the contract keeps it."""

    root: Digest
    node: Digest
    level: int
    position: int = 0
    phase: str = "pick"
    clocks: dict[str, int] = field(default_factory=lambda: {"challenger": CLOCK, "defence": CLOCK})
    moves: int = 0
    time: int = 0

    @property
    def side(self) -> str:
        return "challenger" if self.phase in ("pick", "refute") else "defence"

    def spend(self, seconds: int) -> bool:
        """Let the side to move take its time; tell whether it still may move."""
        self.time += seconds
        side = self.side
        if seconds > self.clocks[side]:
            return False
        self.clocks[side] = max(self.clocks[side] - seconds, EXTENSION)
        self.moves += 1
        return True


def game(
    challenger: object, defender: object, truth: Machine, header: bytes, rng: random.Random, slow: str
) -> tuple[str, Play]:
    """Play to the end; return who won. `slow` takes as long as it can, the other answers at once."""
    claim = defender.claim()
    play = Play(above(claim), above(claim), truth.levels)
    children = claim
    while True:
        limit = play.clocks[play.side]
        if not play.spend(rng.choice([limit, limit + 1, limit // 2]) if play.side == slow else 0):
            return ("defence" if play.side == "challenger" else "challenger"), play
        if play.phase == "pick":
            child = challenger.pick(play.level, play.position, children)
            if child is None:
                return "defence", play  # it has nothing to say, and its clock runs out
            play.node, play.position = children[child], 16 * play.position + child
            play.level -= 4
            play.phase = "reveal" if play.level else "show" if play.node != bytes(32) else "refute"
        elif play.phase == "reveal":
            children = defender.reveal(play.level, play.position)
            if above(children) != play.node:
                return "challenger", play  # refused until its clock runs out
            play.phase = "pick"
        elif play.phase == "show":
            if leaf_digest(defender.show(play.position)) != play.node:
                return "challenger", play
            play.phase = "refute"
        else:
            leaf = defender.show(play.position)
            witness = challenger.witness(play.position)
            proved = refutes(truth.count, header, play.root, play.position, leaf, witness)
            return ("challenger" if proved else "defence"), play


class Stubborn(Challenger):
    """Disputes what is right: it names any node, and shows true leaves for it, as nobody can show others."""

    def __init__(self, trace: Machine, rng: random.Random) -> None:
        super().__init__(trace)
        self.rng = rng

    def pick(self, level: int, position: int, children: Sequence[Digest]) -> int | None:
        super().pick(level, position, children)
        return self.rng.randrange(16)


class Garbled(Defender):
    """Claims a root and then shows something else under it at one move, or goes on truly."""

    def __init__(self, trace: Machine, rng: random.Random) -> None:
        super().__init__(trace)
        self.rng = rng

    def reveal(self, level: int, position: int) -> tuple[Digest, ...]:
        nodes = super().reveal(level, position)
        return nodes if self.rng.random() < 0.7 else (bytes(31) + b"x", *nodes[1:])


def corrupted(leaves: list[bytes], rng: random.Random) -> list[bytes]:
    """Another trace: wrong from some leaf on and consistent after it, or wrong here and there, or of another length."""
    wrong, kind = list(leaves), rng.randrange(4)
    at = rng.randrange(len(leaves))
    if kind == 0:
        wrong[at] = b"wrong"
        for index in range(at + 1, len(leaves)):
            wrong[index] = sha256(wrong[index - 1]).digest()
    elif kind == 1:
        for index in rng.sample(range(len(leaves)), min(3, len(leaves))):
            wrong[index] = rng.randbytes(rng.choice([1, 32, 40]))
    elif kind == 2:
        wrong.append(sha256(wrong[-1]).digest())
    elif len(wrong) > 1:
        wrong.pop()
    else:
        wrong[0] = b"short"
    return wrong


@pytest.mark.seeds(quick=60, full=20_000)
def test_a_wrong_header_falls_against_every_claim(seed: int) -> None:
    rng = random.Random(seed)
    levels = rng.choice([4, 8])
    leaves = run(rng.randrange(1, (1 << levels) - 1))
    header = b"a lie"
    truth = Machine(leaves, levels, header)
    others = [leaves, corrupted(leaves, rng), [*leaves[:-1], header]]
    for claimed in others:
        trace = Machine(claimed, levels, header)
        for defender in (Defender(trace), Garbled(trace, rng)):
            winner, play = game(Challenger(truth), defender, truth, header, rng, rng.choice(["defence", "nobody"]))
            assert winner == "challenger"
            assert play.time <= 2 * CLOCK + play.moves * EXTENSION + 1


@pytest.mark.seeds(quick=60, full=20_000)
def test_a_right_header_stands_against_every_challenger(seed: int) -> None:
    rng = random.Random(seed)
    levels = rng.choice([4, 8])
    leaves = run(rng.randrange(1, (1 << levels) - 1))
    truth = Machine(leaves, levels, leaves[-1])
    wrong = Challenger(Machine(corrupted(leaves, rng), levels, leaves[-1]))
    for challenger in (Challenger(truth), Stubborn(truth, rng), wrong):
        try:
            winner, play = game(
                challenger, Defender(truth), truth, leaves[-1], rng, rng.choice(["challenger", "nobody"])
            )
        except (AssertionError, ValueError):
            assert challenger is wrong  # it shows leaves that are not in the tree: the contract refuses them
            continue
        assert winner == "defence"
        assert play.time <= 2 * CLOCK + play.moves * EXTENSION + 1


@pytest.mark.seeds(quick=40, full=5_000)
def test_a_dispute_ends_as_it_must_whoever_else_joins(seed: int) -> None:
    """A header falls if and only if it is wrong, where one honest party plays, beside any others on both sides."""
    rng = random.Random(seed)
    leaves = run(rng.randrange(2, 15))
    right = rng.random() < 0.5
    header = leaves[-1] if right else b"a lie"
    truth = Machine(leaves, 4, header)
    paid = dict.fromkeys(("honest", "mallory", "burned"), 0)
    fell = False
    for honest in rng.sample([True, False], 2):  # the honest challenger's dispute comes first or second
        if honest and right:
            continue  # nobody honest disputes what is right
        challenger = Challenger(truth) if honest else Stubborn(truth, rng)
        who = "honest" if honest else "mallory"
        claims = [("mallory", Machine(corrupted(leaves, rng), 4, header)) for _ in range(rng.randrange(3))]
        if right:
            claims.insert(rng.randrange(len(claims) + 1), ("honest", truth))
        outcomes = []
        for owner, trace in claims:
            beaten = True
            if not (who == owner == "mallory"):  # a game of one party against itself ends as it likes
                beaten = game(challenger, Defender(trace), truth, header, rng, "nobody")[0] == "challenger"
            else:
                beaten = rng.random() < 0.5
            outcomes.append(beaten)
            winner, loser = (who, owner) if beaten else (owner, who)
            paid[winner] += BOND - BOND // 2
            paid[loser] -= BOND
            paid["burned"] += BOND // 2
            if not beaten:
                break
        fell = fell or all(outcomes)
    assert fell != right
    assert sum(paid.values()) == 0
    assert paid["honest"] >= 0


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=30), st.sampled_from([4, 8, 12]))
def test_every_leaf_of_a_tree_opens_to_its_root(leaves: list[bytes], levels: int) -> None:
    if len(leaves) > 1 << levels:
        with pytest.raises(TraceRangeError):
            Machine(leaves, levels, b"")
        return
    machine = Machine(leaves, levels, b"")
    defender = Defender(machine)
    for position in (0, len(leaves) - 1, len(leaves) % (1 << levels), (1 << levels) - 1):
        opened = defender.answer(position)
        node = leaf_digest(opened.data)
        for level, sibling in enumerate(opened.path):
            node = above([sibling, node] if position >> level & 1 else [node, sibling])
        assert node == machine.tree.root


def test_a_tree_knows_its_bounds() -> None:
    machine = Machine(run(3), 4, b"")
    for level, index in ((-1, 0), (5, 0), (0, 16), (4, 1)):
        with pytest.raises(TraceRangeError):
            machine.node(level, index)
