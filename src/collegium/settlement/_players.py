"""The two honest players of a dispute, pure: what each does is a function of its trace and of what was shown.

The challenger keeps what it has seen of the other's tree. It names the first node that is not its own, so all that
stands to the left is its own too: it can therefore show any earlier leaf under the other's root.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from collegium.crypto import Digest
from collegium.settlement._trace import CHILDREN, MOVE_LEVELS, OpenedLeaf, Trace, node_above

__all__ = ["Challenger", "Defender", "children_of"]

_NO_CHILD: Final = CHILDREN


def children_of(trace: Trace, level: int, position: int) -> tuple[Digest, ...]:
    """Return the sixteen nodes four levels below a node."""
    return tuple(trace.node(level - MOVE_LEVELS, CHILDREN * position + child) for child in range(CHILDREN))


class Defender:
    """Opens what its root commits to; any of its answers anyone else with the same trace can give."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def claim(self) -> tuple[Digest, ...]:
        """Return the nodes below the root."""
        return self.reveal(self._trace.levels, 0)

    def reveal(self, level: int, position: int) -> tuple[Digest, ...]:
        """Return the nodes below the one that was picked."""
        return children_of(self._trace, level, position)

    def show(self, position: int) -> bytes:
        """Return the leaf that was picked."""
        return self._trace.leaf(position)

    def answer(self, position: int) -> OpenedLeaf:
        """Return a leaf that was asked for, with its path."""
        path = tuple(self._trace.node(level, (position >> level) ^ 1) for level in range(self._trace.levels))
        return OpenedLeaf(position, self._trace.leaf(position), path)


class Challenger:
    """Finds the first leaf at which the other's trace is not what the leaves before it give."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._seen: dict[tuple[int, int], Digest] = {}

    def pick(self, level: int, position: int, children: Sequence[Digest]) -> int | None:
        """Return which child of a node of the other's tree is the first wrong one; None if none is."""
        self._see(level, position, children)
        mine = children_of(self._trace, level, position)
        pairs = enumerate(zip(mine, children, strict=True))
        first = next((child for child, (own, other) in pairs if own != other), _NO_CHILD)
        fault = self._trace.fault
        if fault is not None and fault >> level == position:
            first = min(first, (fault >> (level - MOVE_LEVELS)) % CHILDREN)
        return None if first == _NO_CHILD else first

    def witness(self, position: int) -> tuple[OpenedLeaf, ...]:
        """Return the leaves from which this one is computed, with paths to the other's root."""
        return tuple(self._open(wanted) for wanted in self._trace.witness(position))

    def _open(self, position: int) -> OpenedLeaf:
        places = [(level, (position >> level) ^ 1) for level in range(self._trace.levels)]
        path = tuple(self._seen.get(place) or self._trace.node(*place) for place in places)
        return OpenedLeaf(position, self._trace.leaf(position), path)

    def _see(self, level: int, position: int, children: Sequence[Digest]) -> None:
        """Remember a revealed node's sixteen children and the nodes between."""
        nodes, depth, first = list(children), level - MOVE_LEVELS, CHILDREN * position
        while depth < level:
            self._seen.update({(depth, first + index): node for index, node in enumerate(nodes)})
            nodes = [node_above(nodes[at : at + 2]) for at in range(0, len(nodes), 2)]
            depth, first = depth + 1, first // 2
