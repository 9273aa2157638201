"""Programs run as plain Python: what the machine's instructions must do, said without them.

Sums, products and shifts are cut to a word, as the machine cuts them; all else is Python's own.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Final

from collegium.crypto import Digest
from collegium.settlement._program_source import WORDS_MODULE, Parameters
from collegium.settlement.programs import WORDS, Accepted, Memory, Rejected, begin, memory, source_of, words_module

__all__ = ["run_plainly"]

_OPERATION: Final = "operation__"
_UPDATE: Final = "update__"
_RANGE: Final = "range__"

_OPERATIONS: Final[dict[str, Callable[[int, int], int]]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mult": lambda a, b: a * b,
    "FloorDiv": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "BitAnd": lambda a, b: a & b,
    "BitOr": lambda a, b: a | b,
    "BitXor": lambda a, b: a ^ b,
    "LShift": lambda a, b: a << b if b < 64 else 0,
    "RShift": lambda a, b: a >> b if b < 64 else 0,
}


def run_plainly(
    name: str,
    parameters: Parameters,
    statement: Digest,
    find: Callable[[Digest], tuple[Digest, bytes] | None] = lambda _: None,
    sources: Callable[[str], str] = source_of,
) -> tuple[bool, Memory]:
    """Return whether a program accepts a statement, and the memory that it leaves.

    Raises:
        PreimageUnknownError: it asks for a preimage that `find` does not know.
    """
    begin(statement, find)
    try:
        _Modules(parameters, sources).load(name).__dict__["main"]()
    except Accepted:
        return True, memory
    except (Rejected, AssertionError, ZeroDivisionError):
        return False, memory
    return False, memory


class _Modules:
    """The modules of one run, each executed afresh with the parameters in place."""

    def __init__(self, parameters: Parameters, sources: Callable[[str], str]) -> None:
        self._parameters, self._sources = parameters, sources
        self._loaded: dict[str, ModuleType] = {WORDS_MODULE: words_module()}

    def load(self, name: str) -> ModuleType:
        """Return a module of programs."""
        if name not in self._loaded:
            module = self._loaded[name] = ModuleType(name)
            tree = ast.fix_missing_locations(_Cut().visit(ast.parse(self._sources(name))))
            table = self._loaded[WORDS_MODULE].__dict__["table"]
            given = {key: value if isinstance(value, int) else table(*value) for key, value in self._parameters.items()}
            module.__dict__.update(given)
            module.__dict__.update({_OPERATION: _operation, _UPDATE: _update, _RANGE: _range})
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
            exec(compile(tree, f"{name}.py", "exec"), module.__dict__)  # noqa: S102 - our own programs
        return self._loaded[name]

    def _import(
        self,
        name: str,
        names: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        wanted: tuple[str, ...] = (),
        level: int = 0,
    ) -> ModuleType:
        sibling = name.rpartition(".")[2]
        if level or name.startswith("collegium.settlement.programs."):
            return self.load(sibling)
        return builtins.__import__(name, names, local, wanted, level)


class _Cut(ast.NodeTransformer):
    """Replaces what Python computes without bounds, inside of functions."""

    def __init__(self) -> None:
        self._inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._inside = True
        node.body = [self.visit(part) for part in node.body]
        self._inside = False
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not self._inside:
            return node
        self.generic_visit(node)
        return _call(node, _OPERATION, ast.Constant(type(node.op).__name__), node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if not self._inside or isinstance(node.op, ast.Not):
            return node
        start = ast.Constant(WORDS - 1 if isinstance(node.op, ast.Invert) else 0)
        return _call(node, _OPERATION, ast.Constant("Sub"), start, node.operand)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        name = ast.Constant(type(node.op).__name__)
        if isinstance(node.target, ast.Name):
            before = ast.Name(node.target.id, ast.Load())
            value = _call(node, _OPERATION, name, before, node.value)
            return ast.copy_location(ast.Assign([node.target], value), node)
        if not isinstance(node.target, ast.Subscript):
            return node
        later = ast.Lambda(ast.arguments([], [], None, [], [], None, []), node.value)
        return ast.copy_location(ast.Expr(_call(node, _UPDATE, name, node.target.slice, later)), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            node.func.id = _RANGE
        return node


def _call(node: ast.AST, name: str, *arguments: ast.expr) -> ast.Call:
    return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), list(arguments), []), node)


def _operation(name: str, a: int, b: int) -> int:
    return _OPERATIONS[name](a, b) % WORDS


def _update(name: str, address: int, later: Callable[[], int]) -> None:
    before = memory[address]
    memory[address] = _operation(name, before, later())


def _range(*arguments: int) -> range:
    """Return a range whose step is taken in two's complement and, if it is negative, its ends too."""
    if len(arguments) < 3 or arguments[2] < WORDS >> 1:
        return range(*arguments)
    return range(*(a - WORDS if a >> 63 else a for a in arguments))
