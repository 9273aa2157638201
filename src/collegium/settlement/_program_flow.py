"""Which variables of a function have a value where: none is read, and no function left, before it has one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Final

from collegium.settlement._errors import OutsideLanguageError, UnassignedError
from collegium.settlement._program_source import Function, Word, refusal

__all__ = ["assigned_names", "check_flow"]

_ENDINGS: Final = {"accept", "reject"}

Known = set[str]


def assigned_names(statements: Sequence[ast.stmt]) -> list[str]:
    """Return the variables that statements assign, in order of their first appearance."""
    names: dict[str, None] = {}
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names[node.id] = None
    return list(names)


def check_flow(function: Function) -> None:
    """Check that every variable has a value where it is read, and that every way through the function ends as it says.

    Raises:
        UnassignedError: not so.
        OutsideLanguageError: a loop's variable is assigned in its loop.
    """
    _Flow(function).check()


class _Flow:
    """One pass over a function; what is known is None where no way leads."""

    def __init__(self, function: Function) -> None:
        self._function, self._module = function, function.module
        self._variables = {*function.parameters, *assigned_names(function.node.body)}
        self._breaks: list[list[Known]] = []
        self._counters: list[str] = []

    def check(self) -> None:
        end = self._block(self._function.node.body, set(self._function.parameters))
        if end is not None and (self._function.results or self._function.ends):
            raise refusal(
                UnassignedError, self._module.name, self._function.node, f"{self._function.node.name} may just end"
            )

    def _block(self, statements: Sequence[ast.stmt], known: Known | None) -> Known | None:
        for statement in statements:
            if known is not None:
                known = self._statement(statement, known)
        return known

    def _statement(self, node: ast.stmt, known: Known) -> Known | None:
        match node:
            case ast.While():
                return self._while(node, known)
            case ast.For(target=ast.Name(id=name)):
                return self._for(node, name, known)
            case ast.If():
                self._read(node.test, known)
                return _join([self._block(node.body, {*known}), self._block(node.orelse, {*known})])
            case ast.Break() if self._breaks:
                self._breaks[-1].append(known)
        self._read(node, known)
        for name in assigned_names([node]):
            if name in self._counters:
                raise refusal(
                    OutsideLanguageError, self._module.name, node, f"{name} counts a loop and is assigned in it"
                )
            known = known | {name}
        return None if self._leaves(node) else known

    def _while(self, node: ast.While, known: Known) -> Known | None:
        self._read(node.test, known)
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        return _join([None if endless else known, *self._loop(node.body, {*known})])

    def _for(self, node: ast.For, name: str, known: Known) -> Known | None:
        self._read(node.iter, known)
        if name in self._counters:
            raise refusal(OutsideLanguageError, self._module.name, node, f"{name} counts two loops at once")
        self._counters.append(name)
        ways = self._loop(node.body, {*known, name})
        self._counters.pop()
        end = _join([known, *ways])
        return end and end - {name}  # after the loop Python and the machine differ in what it is

    def _loop(self, body: Sequence[ast.stmt], known: Known) -> list[Known | None]:
        self._breaks.append([])
        self._block(body, known)
        return [*self._breaks.pop()]

    def _leaves(self, node: ast.stmt) -> bool:
        """Say whether nothing after a statement is reached."""
        match node:
            case ast.Return() | ast.Break() | ast.Continue():
                return True
            case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
                meaning = self._module.meanings.get(name)
                if isinstance(meaning, Word):
                    return meaning.name in _ENDINGS
                return isinstance(meaning, Function) and meaning.ends
        return False

    def _read(self, node: ast.AST, known: Known) -> None:
        for name in _names_read(node):
            if name.id in self._variables and name.id not in known:
                raise refusal(UnassignedError, self._module.name, name, f"{name.id} may have no value yet")


def _names_read(node: ast.AST) -> Iterator[ast.Name]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield part
        elif isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
            yield part.target


def _join(ways: Sequence[Known | None]) -> Known | None:
    """Return what is known wherever one comes from."""
    there = [way for way in ways if way is not None]
    return set.intersection(*there) if there else None
