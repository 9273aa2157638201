"""Programs as they are written: modules with constants, parameters, tables and functions, and what each name means.

The language is in docs/spec/programs.md, section 1. Whatever is outside of it raises an error with module and line.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from collegium.settlement._errors import (
    OutsideLanguageError,
    ParameterError,
    ProgramError,
    ProgramSizeError,
    UnknownNameError,
)
from collegium.settlement.programs import HEAP, TABLES, WORDS, source_of

__all__ = ["WORDS_MODULE", "Function", "Library", "Meaning", "Module", "Parameters", "Table", "Word", "refusal"]

WORDS_MODULE: Final = "_words"
_PACKAGE: Final = "collegium.settlement.programs"
_ANNOTATIONS_ONLY: Final = {"__future__", "typing", "collections.abc"}
_POWER_MAX: Final = 1 << 12  # bits of a constant on the way to a word

_CONSTANT_OPERATORS: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Pow: operator.pow,
}

Parameters: TypeAlias = Mapping[str, int | Sequence[int]]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the machine, by its name in `_words`."""

    name: str


@dataclass(frozen=True, slots=True)
class Table:
    """Words that lie in memory before the program starts."""

    address: int
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a program.

    Attributes:
        results: how many words it returns.
        ends: it never returns: it accepts or rejects.
    """

    module: Module
    node: ast.FunctionDef
    results: int
    ends: bool

    @property
    def key(self) -> tuple[str, str]:
        """What names it."""
        return self.module.name, self.node.name

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters."""
        return [argument.arg for argument in self.node.args.args]


Meaning: TypeAlias = "int | Word | Table | Function"


@dataclass(eq=False)
class Module:
    """A module and what its names mean."""

    name: str
    meanings: dict[str, Meaning] = field(default_factory=dict)


def refusal(error: type[ProgramError], module: str, node: ast.AST, message: str) -> ProgramError:
    """Return an error about a place in a program."""
    line = getattr(node, "lineno", 0)
    return error(f"{module}.py:{line}: {message}", module=module, line=line)


class Library:
    """All modules of a program, read when they are imported."""

    def __init__(self, parameters: Parameters, sources: Callable[[str], str] = source_of) -> None:
        self._parameters, self._sources = parameters, sources
        self._modules: dict[str, Module | None] = {}
        self._table_end = TABLES

    def module(self, name: str) -> Module:
        """Return a module of the package."""
        if name not in self._modules:
            self._modules[name] = None
            self._modules[name] = self._load(name)
        found = self._modules[name]
        if found is None:
            raise OutsideLanguageError(f"{name}.py imports itself", module=name, line=0)
        return found

    def _load(self, name: str) -> Module:
        module = Module(name)
        try:
            body = ast.parse(self._sources(name)).body
        except FileNotFoundError:
            raise UnknownNameError(f"there is no module {name}", module=name, line=0) from None
        except SyntaxError as error:
            raise OutsideLanguageError(
                f"{name}.py:{error.lineno}: {error.msg}", module=name, line=error.lineno
            ) from None
        for node in body:
            if isinstance(node, ast.ImportFrom):
                self._import(module, node)
            elif isinstance(node, ast.FunctionDef):
                _name_once(module, node, node.name, _function(module, node))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                self._constant(module, node)
            elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                raise refusal(OutsideLanguageError, name, node, f"{type(node).__name__} at the top of a module")
        return module

    def _import(self, module: Module, node: ast.ImportFrom) -> None:
        origin = node.module or ""
        if origin in _ANNOTATIONS_ONLY and node.level == 0:
            return
        package, _, sibling = origin.rpartition(".")
        if not (sibling and (package == _PACKAGE if node.level == 0 else node.level == 1 and not package)):
            raise refusal(OutsideLanguageError, module.name, node, f"import from {origin or '.'}, which is no sibling")
        for alias in node.names:
            if alias.asname is not None:
                raise refusal(OutsideLanguageError, module.name, node, f"{alias.name} imported under another name")
            if sibling == WORDS_MODULE:
                meaning: Meaning = Word(alias.name)
            elif alias.name in (known := self.module(sibling).meanings):
                meaning = known[alias.name]
            else:
                raise refusal(UnknownNameError, module.name, node, f"{sibling} has no {alias.name}")
            _name_once(module, node, alias.name, meaning)

    def _constant(self, module: Module, node: ast.Assign | ast.AnnAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        target = targets[0]
        if len(targets) != 1 or not isinstance(target, ast.Name):
            raise refusal(OutsideLanguageError, module.name, node, "a constant is one name")
        if target.id == "__all__":
            return
        meaning = self._parameter(module, node, target.id) if node.value is None else self._value(module, node.value)
        _name_once(module, node, target.id, meaning)

    def _parameter(self, module: Module, node: ast.AST, name: str) -> Meaning:
        if name not in self._parameters:
            raise refusal(ParameterError, module.name, node, f"parameter {name} was not given")
        given = self._parameters[name]
        return given if isinstance(given, int) else self._table(module, node, tuple(given))

    def _value(self, module: Module, node: ast.expr) -> Meaning:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if module.meanings.get(node.func.id) != Word("table") or node.keywords:
                raise refusal(OutsideLanguageError, module.name, node, f"{node.func.id} is called for a constant")
            words = tuple(self.constant(module, argument) for argument in node.args)
            return self._table(module, node, words)
        return self.constant(module, node)

    def constant(self, module: Module, node: ast.expr) -> int:
        """Return the value of a constant expression, an integer of Python."""
        match node:
            case ast.Constant(value=int(value)):
                return int(value)
            case ast.Name(id=name):
                meaning = module.meanings.get(name)
                if isinstance(meaning, Table):
                    return meaning.address
                if not isinstance(meaning, int):
                    raise refusal(UnknownNameError, module.name, node, f"{name} is no constant")
                return meaning
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.constant(module, operand)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return ~self.constant(module, operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _CONSTANT_OPERATORS:
                a, b = self.constant(module, left), self.constant(module, right)
                if isinstance(op, ast.LShift | ast.Pow) and not (b >= 0 and b * max(a.bit_length(), 1) <= _POWER_MAX):
                    raise refusal(ProgramSizeError, module.name, node, f"a constant {a} by {b}")
                if b == 0 and isinstance(op, ast.FloorDiv | ast.Mod):
                    raise refusal(ParameterError, module.name, node, "a constant is divided by zero")
                return _CONSTANT_OPERATORS[type(op)](a, b)
        raise refusal(OutsideLanguageError, module.name, node, f"{type(node).__name__} in a constant")

    def _table(self, module: Module, node: ast.AST, words: tuple[int, ...]) -> Table:
        address, self._table_end = self._table_end, self._table_end + len(words)
        if self._table_end > HEAP:
            raise refusal(ProgramSizeError, module.name, node, f"tables of {self._table_end - TABLES} words")
        if bad := [word for word in words if not 0 <= word < WORDS]:
            raise refusal(ParameterError, module.name, node, f"a table has {bad[0]}, which is no word")
        return Table(address, words)


def _name_once(module: Module, node: ast.AST, name: str, meaning: Meaning) -> None:
    if name in module.meanings:
        raise refusal(OutsideLanguageError, module.name, node, f"{name} is named twice")
    module.meanings[name] = meaning


def _function(module: Module, node: ast.FunctionDef) -> Function:
    a = node.args
    if node.decorator_list or a.posonlyargs or a.kwonlyargs or a.vararg or a.kwarg or a.defaults:
        raise refusal(OutsideLanguageError, module.name, node, f"{node.name} has more than plain parameters")
    for argument in a.args:
        if not (isinstance(argument.annotation, ast.Name) and argument.annotation.id in {"int", "bool"}):
            raise refusal(
                OutsideLanguageError, module.name, node, f"{node.name}: parameter {argument.arg} is not an int"
            )
    results, ends = _results(module, node)
    return Function(module, node, results, ends)


def _results(module: Module, node: ast.FunctionDef) -> tuple[int, bool]:
    """Return how many words an annotation says are returned, and whether it says that none ever is."""
    match node.returns:
        case ast.Constant(value=None):
            return 0, False
        case ast.Name(id="NoReturn"):
            return 0, True
        case ast.Name(id="int" | "bool"):
            return 1, False
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts)) if all(
            isinstance(part, ast.Name) and part.id in {"int", "bool"} for part in parts
        ):
            return len(parts), False
    raise refusal(
        OutsideLanguageError, module.name, node, f"{node.name} returns neither int, nor a tuple of them, nor None"
    )
