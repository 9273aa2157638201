"""From a restricted Python to instructions of the dispute machine (docs/spec/programs.md).

A function's frame: word 0 the place to go back to, word 1 the caller's frame, then its parameters, its variables, and
what is computed on the way. A call's frame begins behind all that is in use; results take its parameters' place.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from collegium.settlement._errors import (
    OutsideLanguageError,
    ParameterError,
    ProgramError,
    ProgramSizeError,
    UnknownNameError,
)
from collegium.settlement._instructions import ARITHMETIC, IMMEDIATE, PROGRAM_INSTRUCTIONS_MAX, Op, Place, Program
from collegium.settlement._program_flow import assigned_names, check_flow
from collegium.settlement._program_source import Function, Library, Module, Parameters, Table, Word, refusal
from collegium.settlement.programs import STACK, WORDS, source_of

__all__ = ["BINARY", "VALUES", "compile_program"]

MAIN: Final = "main"
_LINK: Final = 2  # words of a frame before its parameters
_DEPTH_MAX: Final = 200  # of expressions in expressions, functions in their callers' place included

BINARY: Final[dict[type[ast.operator], Op]] = {
    ast.Add: Op.ADD,
    ast.Sub: Op.SUB,
    ast.Mult: Op.MUL,
    ast.FloorDiv: Op.DIV,
    ast.Mod: Op.REM,
    ast.BitAnd: Op.AND,
    ast.BitOr: Op.OR,
    ast.BitXor: Op.XOR,
    ast.LShift: Op.SHL,
    ast.RShift: Op.SHR,
}
_COMMUTE: Final = {Op.ADD, Op.MUL, Op.MULH, Op.AND, Op.OR, Op.XOR, Op.EQ, Op.FADD, Op.FMUL}
VALUES: Final = {  # words with two operands and a value
    "fadd": Op.FADD,
    "fsub": Op.FSUB,
    "fmul": Op.FMUL,
    "mul_high": Op.MULH,
    "signed_less": Op.SLT,
    "shift_right_signed": Op.SAR,
}
_FRAMES: Final = {"sha256_block": Op.SHA256, "preimage": Op.PREIMAGE, "keccak": Op.KECCAK}
_ENDS: Final = {"accept": Op.ACCEPT, "reject": Op.REJECT}


@dataclass(frozen=True, slots=True)
class _Slot:
    """A word of the frame."""

    index: int


@dataclass(frozen=True, slots=True)
class _Label:
    """A place in the code that is not yet known."""

    number: int


_Bound: TypeAlias = "_Slot | int"  # what a variable stands for: a word of the frame or, in place of a call, a constant
_Field: TypeAlias = "int | _Label"
_Side: TypeAlias = "ast.expr | _Slot"  # of a comparison


def compile_program(name: str, parameters: Parameters, sources: Callable[[str], str] = source_of) -> Program:
    """Return the program whose `main` is in a module, for a task's parameters.

    Args:
        parameters: the values of names that modules declare without one; a sequence becomes a table.
        sources: gives a module's source.

    Raises:
        ProgramError: a subclass says what is wrong, in which line of which module.
    """
    library = Library(parameters, sources)
    main = library.module(name).meanings.get(MAIN)
    if not isinstance(main, Function) or main.results or main.parameters:
        raise UnknownNameError(f"{name}.py has no {MAIN}() -> None", module=name, line=0)
    return _Compiler(library).compile(main)


@dataclass
class _Code:
    """Instructions with labels, and where the labels are."""

    rows: list[tuple[int, _Field, _Field, _Field]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    labels: dict[int, int] = field(default_factory=dict)
    made: int = 0

    def label(self) -> _Label:
        self.made += 1
        return _Label(self.made)

    def put(self, label: _Label) -> None:
        self.labels[label.number] = len(self.rows)

    def resolve(self) -> Program:
        """Return the program; a jump to a jump goes where that leads."""
        rows = np.zeros((len(self.rows), 4), np.uint64)
        for index, row in enumerate(self.rows):
            rows[index] = [self._landed(part) if isinstance(part, _Label) else part for part in row]
        return Program(rows, tuple(self.places))

    def _landed(self, label: _Label) -> int:
        at = self.labels[label.number]
        for _ in range(len(self.rows)):
            row = self.rows[at] if at < len(self.rows) else None
            if row is None or row[0] != Op.JUMP or not isinstance(row[1], _Label):
                break
            at = self.labels[row[1].number]
        return at


class _Compiler:
    """All functions that `main` leads to, one after the other."""

    def __init__(self, library: Library) -> None:
        self.library, self.code = library, _Code()
        self.rejecting = self.code.label()
        self._entries: dict[tuple[str, str], _Label] = {}
        self._waiting: list[Function] = []
        self._tables: dict[int, Table] = {}

    def compile(self, main: Function) -> Program:
        self.entry(main)
        while self._waiting:
            _Body(self, self._waiting.pop(0)).compile()
        place = Place(main.module.name, main.node.lineno)
        self.code.put(self.rejecting)
        self.code.rows.append((Op.REJECT, 0, 0, 0))
        self.code.places.append(place)
        self._lay_tables(place)
        if len(self.code.rows) > PROGRAM_INSTRUCTIONS_MAX:
            message = f"{len(self.code.rows)} instructions, at most {PROGRAM_INSTRUCTIONS_MAX}"
            raise refusal(ProgramSizeError, main.module.name, main.node, message)
        return self.code.resolve()

    def entry(self, function: Function) -> _Label:
        """Return where a function begins."""
        if function.key not in self._entries:
            check_flow(function)
            self._entries[function.key] = self.code.label()
            self._waiting.append(function)
        return self._entries[function.key]

    def address(self, table: Table) -> int:
        """Return where a table lies; only tables that are used do."""
        self._tables[table.address] = table
        return table.address

    def _lay_tables(self, place: Place) -> None:
        """Put in front what writes the tables: main's frame is at a known place."""
        rows: list[tuple[int, _Field, _Field, _Field]] = [
            (Op.SET, (table.address + index - STACK) % WORDS, word, 0)
            for table in self._tables.values()
            for index, word in enumerate(table.words)
            if word
        ]
        self.code.rows[:0] = rows
        self.code.places[:0] = [place] * len(rows)
        self.code.labels = {number: at + len(rows) for number, at in self.code.labels.items()}


@dataclass
class _Loop:
    """Where `continue` and `break` go."""

    again: _Label
    end: _Label


class _Body:
    """One function's code."""

    def __init__(self, compiler: _Compiler, function: Function) -> None:
        self._compiler, self._code, self._function = compiler, compiler.code, function
        self._module: Module = function.module
        self._line = function.node.lineno
        names = function.parameters
        names += [name for name in assigned_names(function.node.body) if name not in names]
        shift = max(0, function.results - len(function.parameters))  # results must not lie where variables do
        self._scope: dict[str, _Bound] = {}
        for index, name in enumerate(names):
            _check_hides_nothing(function, name)
            self._scope[name] = _Slot(_LINK + index + (shift if index >= len(function.parameters) else 0))
        self._top = _LINK + len(names) + shift
        self._loops: list[_Loop] = []
        self._inside: list[tuple[str, str]] = []
        self._depth = 0

    def compile(self) -> None:
        self._code.put(self._compiler.entry(self._function))
        self._block(self._function.node.body)
        if not self._function.results and not self._function.ends:
            self._emit(Op.REJECT if self._is_main else Op.RET)

    @property
    def _is_main(self) -> bool:
        return self._function.node.name == MAIN

    # --- statements

    def _block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self._line = statement.lineno
            with self._room():
                self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value)
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                self._assign([target], value)
            case ast.AugAssign(target=target, op=op, value=value) if type(op) in BINARY:
                self._update(target, BINARY[type(op)], value)
            case ast.Expr(value=ast.Call() as call):
                self._call_for_effect(call)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Assert(test=test):
                self._jump_if(test, self._compiler.rejecting, when=False)
            case ast.If():
                self._if(node)
            case ast.While(orelse=[]):
                self._while(node)
            case ast.For(target=ast.Name(id=name), orelse=[]):
                self._for(node, name)
            case ast.Return(value=value):
                self._return(node, value)
            case ast.Break() | ast.Continue() if self._loops:
                loop = self._loops[-1]
                self._emit(Op.JUMP, loop.end if isinstance(node, ast.Break) else loop.again)
            case _:
                raise self._refusal(node, f"statement {type(node).__name__} {ast.unparse(node).splitlines()[0]!r}")

    def _assign(self, targets: Sequence[ast.expr], value: ast.expr) -> None:
        match targets:
            case [ast.Name(id=name)]:
                self._value(value, self._variable(targets[0], name))
            case [ast.Tuple(elts=parts)]:
                for part, slot in zip(parts, self._values(value, len(parts)), strict=True):
                    self._put(part, slot)
            case _:
                slot = self._operand(value)
                for target in targets:
                    self._put(target, slot)

    def _put(self, target: ast.expr, slot: int) -> None:
        """Assign a word that was computed."""
        match target:
            case ast.Name(id=name):
                self._move(self._variable(target, name), slot)
            case ast.Subscript(value=ast.Name(id=name), slice=address) if self._is_memory(name):
                with self._room():
                    base, c, flag = self._address(address)
                    self._emit(Op.STORE | flag, slot, base, c)
            case _:
                raise self._refusal(target, f"assignment to {ast.unparse(target)}")

    def _update(self, target: ast.expr, op: Op, value: ast.expr) -> None:
        match target:
            case ast.Name(id=name):
                slot = self._variable(target, name)
                c, flag = self._second(value)
                self._emit(op | flag, slot, slot, c)
            case ast.Subscript(value=ast.Name(id=name), slice=address) if self._is_memory(name):
                base, offset, address_flag = self._address(address)
                slot = self._fresh()
                self._emit(Op.LOAD | address_flag, slot, base, offset)
                c, flag = self._second(value)
                self._emit(op | flag, slot, slot, c)
                self._emit(Op.STORE | address_flag, slot, base, offset)
            case _:
                raise self._refusal(target, f"assignment to {ast.unparse(target)}")

    def _if(self, node: ast.If) -> None:
        match node.body:
            case [ast.Break() | ast.Continue() as leaving] if self._loops and not node.orelse:
                loop = self._loops[-1]
                self._jump_if(node.test, loop.end if isinstance(leaving, ast.Break) else loop.again, when=True)
                return
        other, end = self._code.label(), self._code.label()
        with self._room():
            self._jump_if(node.test, other, when=False)
        self._block(node.body)
        if node.orelse:
            self._emit(Op.JUMP, end)
        self._code.put(other)
        self._block(node.orelse)
        self._code.put(end)

    def _while(self, node: ast.While) -> None:
        body, loop = self._code.label(), _Loop(self._code.label(), self._code.label())
        if not self._constant(node.test):
            self._emit(Op.JUMP, loop.again)
        self._code.put(body)
        self._loops.append(loop)
        self._block(node.body)
        self._loops.pop()
        self._code.put(loop.again)
        self._line = node.lineno
        with self._room():
            self._jump_if(node.test, body, when=True)
        self._code.put(loop.end)

    def _for(self, node: ast.For, name: str) -> None:
        start, stop, step = self._range(node.iter)
        slot = self._variable(node.target, name)
        first, last = self._constant(start), self._constant(stop)
        plain = first is not None or isinstance(start, ast.Name)  # else asked for before the end, as Python does
        begin = slot if plain else self._value(start, self._fresh())
        limit, flag = self._steady(stop, [name, *assigned_names(node.body)])  # which may be the variable's old value
        if plain:
            self._value(start, slot)
        else:
            self._move(slot, begin)
        body, test, loop = self._code.label(), self._code.label(), _Loop(self._code.label(), self._code.label())
        if first is None or last is None or step < 0 or first >= last:
            self._emit(Op.JUMP, test)
        self._code.put(body)
        self._loops.append(loop)
        self._block(node.body)
        self._loops.pop()
        self._line = node.lineno
        self._code.put(loop.again)
        self._emit(Op.ADD | IMMEDIATE, slot, slot, step % WORDS)
        self._code.put(test)
        over = self._fresh()
        if step > 0:
            self._emit(Op.LT | flag, over, slot, limit)
        else:
            self._emit(Op.SLT, over, self._in_slot(limit, flag), slot)
        self._emit(Op.JNZ, body, over)
        self._code.put(loop.end)

    def _range(self, node: ast.expr) -> tuple[ast.expr, ast.expr, int]:
        match node:
            case ast.Call(func=ast.Name(id="range"), args=args, keywords=[]) if 0 < len(args) <= 3:
                start = ast.copy_location(ast.Constant(0), node) if len(args) == 1 else args[0]
                step = 1
                if len(args) == 3:
                    step = self._compiler.library.constant(self._module, args[2])
                if not 0 < abs(step) < WORDS >> 1:
                    raise self._refusal(node, f"a range in steps of {step}")
                return start, args[0] if len(args) == 1 else args[1], step
        raise self._refusal(node, f"a loop over {ast.unparse(node)}, which is no range")

    def _steady(self, node: ast.expr, assigned: Sequence[str]) -> tuple[int, int]:
        """Return an operand c that a loop does not change, which assigns these: a range asks for its end once."""
        value = self._constant(node)
        if value is not None:
            return value, IMMEDIATE
        if isinstance(node, ast.Name) and node.id not in assigned:
            return self._operand(node), 0
        return self._value(node, self._fresh()), 0

    def _return(self, node: ast.Return, value: ast.expr | None) -> None:
        if self._is_main:
            raise self._refusal(node, f"{MAIN} returns: it ends in accept() or reject()")
        parts = [] if value is None or _is_none(value) else [value]
        if isinstance(value, ast.Tuple):
            parts = value.elts
        elif self._function.results > 1 and value is not None:
            for index, slot in enumerate(self._values(value, self._function.results)):
                self._move(_LINK + index, slot)
            self._emit(Op.RET)
            return
        if len(parts) != self._function.results:
            raise self._refusal(
                node, f"{self._function.node.name} returns {self._function.results} words, here {len(parts)}"
            )
        later: list[tuple[int, int]] = []
        for index, part in enumerate(parts):
            if any(_LINK + index in self._slots_read(other) for other in parts[index + 1 :]):
                later.append((_LINK + index, self._value(part, self._fresh())))
            else:
                self._value(part, _LINK + index)
        for target, slot in later:
            self._move(target, slot)
        self._emit(Op.RET)

    def _slots_read(self, node: ast.expr) -> set[int]:
        bound = [self._scope.get(part.id) for part in ast.walk(node) if isinstance(part, ast.Name)]
        return {slot.index for slot in bound if isinstance(slot, _Slot)}

    # --- expressions

    def _value(self, node: ast.expr, target: int) -> int:
        """Compute an expression into a word, which only the last instruction on each way writes."""
        constant = self._constant(node)
        if constant is not None:
            self._emit(Op.SET, target, constant)
            return target
        with self._room(), self._deeper(node):
            match node:
                case ast.Name():
                    self._move(target, self._operand(node))
                case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                    self._binary(BINARY[type(op)], left, right, target)
                case ast.UnaryOp(op=ast.Invert(), operand=operand):
                    self._emit(Op.XOR | IMMEDIATE, target, self._operand(operand), WORDS - 1)
                case ast.UnaryOp(op=ast.USub(), operand=operand):
                    zero = ast.copy_location(ast.Constant(0), node)
                    self._binary(Op.SUB, zero, operand, target)
                case ast.UnaryOp(op=ast.Not(), operand=operand):
                    self._emit(Op.EQ | IMMEDIATE, target, self._operand(operand), 0)
                case ast.Compare():
                    self._compare_value(node, target)
                case ast.BoolOp():
                    self._bool(node, target)
                case ast.IfExp():
                    self._choice(node, target)
                case ast.Subscript(value=ast.Name(id=name), slice=address) if self._is_memory(name):
                    base, c, flag = self._address(address)
                    self._emit(Op.LOAD | flag, target, base, c)
                case ast.Call():
                    self._call_value(node, target)
                case _:
                    raise self._refusal(node, f"expression {type(node).__name__} {ast.unparse(node)!r}")
        return target

    def _operand(self, node: ast.expr) -> int:
        """Return a word that has the value: a variable's own, or a fresh one."""
        if isinstance(node, ast.Name):
            bound = self._scope.get(node.id)
            if isinstance(bound, _Slot):
                return bound.index
        if isinstance(node, ast.Call):
            meaning = self._called(node)
            if isinstance(meaning, Function) and meaning.results == 1 and self._inlined(meaning.node.name) is None:
                return self._call(meaning, node)
        return self._value(node, self._fresh())

    def _second(self, node: ast.expr) -> tuple[int, int]:
        """Return operand c, and the flag that says if it is the value itself."""
        value = self._constant(node)
        return (self._operand(node), 0) if value is None else (value, IMMEDIATE)

    def _in_slot(self, value: int, flag: int) -> int:
        """Return the word behind an operand c."""
        if not flag:
            return value
        slot = self._fresh()
        self._emit(Op.SET, slot, value)
        return slot

    def _constant(self, node: ast.expr) -> int | None:
        """Return the value of an expression that is known now, as a word."""
        match node:
            case ast.Constant(value=int(value)):
                return self._word(node, int(value))
            case ast.Name(id=name):
                return self._constant_name(node, name)
            case ast.UnaryOp(op=ast.Invert() | ast.USub(), operand=operand):
                known = self._constant(operand)
                return None if known is None else (-known - isinstance(node.op, ast.Invert)) % WORDS
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                a, b = self._constant(left), self._constant(right)
                if a is None or b is None or (b == 0 and isinstance(op, ast.FloorDiv | ast.Mod)):
                    return None
                return ARITHMETIC[BINARY[type(op)]](a, b)
        return None

    def _constant_name(self, node: ast.expr, name: str) -> int | None:
        if name in self._scope:
            bound = self._scope[name]
            return bound if isinstance(bound, int) else None
        meaning = self._module.meanings.get(name)
        if isinstance(meaning, Table):
            return self._compiler.address(meaning)
        if isinstance(meaning, int):
            return self._word(node, meaning)
        raise self._unknown(node, name)

    def _word(self, node: ast.expr, value: int) -> int:
        if not 0 <= value < WORDS:
            raise refusal(ParameterError, self._module.name, node, f"{ast.unparse(node)} is {value}, which is no word")
        return int(value)

    def _binary(self, op: Op, left: ast.expr, right: ast.expr, target: int) -> None:
        if op in _COMMUTE and self._constant(left) is not None:
            left, right = right, left
        first = self._operand(left)
        c, flag = self._second(right)
        self._emit(op | flag, target, first, c)

    def _address(self, node: ast.expr) -> tuple[int, int, int]:
        """Return operands b and c, with c's flag, whose sum is an address."""
        terms, offset = self._terms(node)
        if not terms:
            return self._in_slot(offset, IMMEDIATE), 0, IMMEDIATE
        last = None if offset or len(terms) == 1 else terms.pop()
        base = self._operand(terms[0])
        for term in terms[1:]:
            slot = self._fresh()
            self._emit(Op.ADD, slot, base, self._operand(term))
            base = slot
        return (base, offset, IMMEDIATE) if last is None else (base, self._operand(last), 0)

    def _terms(self, node: ast.expr) -> tuple[list[ast.expr], int]:
        """Return what an address is the sum of: terms in their order, and a constant."""
        value = self._constant(node)
        if value is not None:
            return [], value
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                (first, a), (second, b) = self._terms(left), self._terms(right)
                return first + second, (a + b) % WORDS
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                value = self._constant(right)
                if value is not None:
                    first, a = self._terms(left)
                    return first, (a - value) % WORDS
        return [node], 0

    def _choice(self, node: ast.IfExp, target: int) -> None:
        other, end = self._code.label(), self._code.label()
        self._jump_if(node.test, other, when=False)
        self._value(node.body, target)
        self._emit(Op.JUMP, end)
        self._code.put(other)
        self._value(node.orelse, target)
        self._code.put(end)

    def _bool(self, node: ast.BoolOp, target: int) -> None:
        """Compute the first operand that decides, as Python does."""
        end, result = self._code.label(), self._fresh()
        jump = Op.JNZ if isinstance(node.op, ast.Or) else Op.JZ
        for part in node.values[:-1]:
            self._value(part, result)
            self._emit(jump, end, result)
        self._value(node.values[-1], result)
        self._code.put(end)
        self._move(target, result)

    # --- conditions

    def _jump_if(self, node: ast.expr, label: _Label, *, when: bool) -> None:
        """Go to a label if a condition is so, else on."""
        constant = self._constant(node)
        if constant is not None:
            if bool(constant) == when:
                self._emit(Op.JUMP, label)
            return
        with self._room(), self._deeper(node):
            match node:
                case ast.UnaryOp(op=ast.Not(), operand=operand):
                    self._jump_if(operand, label, when=not when)
                case ast.BoolOp(op=op, values=parts):
                    self._jump_if_all(parts, label, when=when, decides=isinstance(op, ast.Or))
                case ast.Compare():
                    self._jump_if_compared(node, label, when=when)
                case ast.Call(func=ast.Name(id=name)) if (inlined := self._inlined(name)) is not None:
                    with self._in_place(inlined[0], node):
                        self._jump_if(inlined[1], label, when=when)
                case _:
                    self._emit(Op.JNZ if when else Op.JZ, label, self._operand(node))

    def _jump_if_all(self, parts: Sequence[ast.expr], label: _Label, *, when: bool, decides: bool) -> None:
        """Short circuit: one part that is `decides` makes the whole so."""
        if when == decides:
            for part in parts:
                self._jump_if(part, label, when=when)
            return
        past = self._code.label()
        for part in parts[:-1]:
            self._jump_if(part, past, when=decides)
        self._jump_if(parts[-1], label, when=when)
        self._code.put(past)

    def _jump_if_compared(self, node: ast.Compare, label: _Label, *, when: bool) -> None:
        past, sides = self._code.label(), [node.left, *node.comparators]
        left: _Side = sides[0]
        for index, op in enumerate(node.ops):
            right: _Side = sides[index + 1]
            last = index == len(node.ops) - 1
            if not last and self._constant(sides[index + 1]) is None:
                first = self._slot_of(left)
                right, left = _Slot(self._operand(sides[index + 1])), _Slot(first)
            slot, sense = self._compared(op, left, right)
            if last:
                self._emit(Op.JNZ if sense == when else Op.JZ, label, slot)
            else:
                self._emit(Op.JZ if sense else Op.JNZ, past if when else label, slot)
            left = right
        self._code.put(past)

    def _compare_value(self, node: ast.Compare, target: int) -> None:
        if len(node.ops) == 1:
            op, left, right = node.ops[0], node.left, node.comparators[0]
            slot, sense = self._compared(op, left, right, target)
            bit = not (isinstance(op, ast.Eq | ast.NotEq) and 0 in {self._constant(left), self._constant(right)})
            if not sense or not bit:
                self._emit(Op.EQ | IMMEDIATE, target, slot, 0)
            if sense and not bit:
                self._emit(Op.EQ | IMMEDIATE, target, target, 0)
            return
        no, end = self._code.label(), self._code.label()
        self._jump_if_compared(node, no, when=False)
        self._emit(Op.SET, target, 1)
        self._emit(Op.JUMP, end)
        self._code.put(no)
        self._emit(Op.SET, target, 0)
        self._code.put(end)

    def _compared(self, op: ast.cmpop, left: _Side, right: _Side, target: int | None = None) -> tuple[int, bool]:
        """Return a word, and whether it is not zero if the comparison holds, or if it does not."""
        match op:
            case ast.Eq() | ast.NotEq():
                equal = isinstance(op, ast.Eq)
                if self._known(left) is not None:
                    left, right = right, left
                if self._known(right) == 0:
                    return self._slot_of(left), not equal
                return self._tested(Op.EQ, left, right, target), equal
            case ast.Lt():
                return self._less(left, right, target)
            case ast.Gt() | ast.LtE():
                if self._known(left) is None and self._known(right) is None:  # from left to right, as Python does
                    left = _Slot(self._slot_of(left))
                slot, sense = self._less(right, left, target)
                return slot, sense == isinstance(op, ast.Gt)
            case ast.GtE():
                slot, sense = self._less(left, right, target)
                return slot, not sense
        raise self._refusal(
            left if isinstance(left, ast.AST) else self._function.node, f"comparison {type(op).__name__}"
        )

    def _less(self, left: _Side, right: _Side, target: int | None) -> tuple[int, bool]:
        """Compare left < right; a constant on the left becomes not (right < left + 1)."""
        value = self._known(left)
        if value is None or self._known(right) is not None or value == WORDS - 1:
            return self._tested(Op.LT, left, right, target), True
        after = ast.Constant(value + 1)
        return self._tested(Op.LT, right, after, target), False

    def _tested(self, op: Op, left: _Side, right: _Side, target: int | None) -> int:
        first = self._slot_of(left)
        c, flag = (right.index, 0) if isinstance(right, _Slot) else self._second(right)
        slot = self._fresh() if target is None else target
        self._emit(op | flag, slot, first, c)
        return slot

    def _slot_of(self, side: _Side) -> int:
        return side.index if isinstance(side, _Slot) else self._operand(side)

    def _known(self, side: _Side) -> int | None:
        return None if isinstance(side, _Slot) else self._constant(side)

    # --- calls

    def _call_for_effect(self, node: ast.Call) -> None:
        meaning = self._called(node)
        if isinstance(meaning, Function):
            self._call(meaning, node)
        elif meaning.name in _ENDS:
            self._arguments(node, 0)
            self._emit(_ENDS[meaning.name])
        elif meaning.name in _FRAMES:
            (frame,) = self._arguments(node, 1)
            self._emit(_FRAMES[meaning.name], self._operand(frame))
        else:
            self._value(node, self._fresh())

    def _call_value(self, node: ast.Call, target: int) -> None:
        meaning = self._called(node)
        if isinstance(meaning, Function):
            inlined = self._inlined(meaning.node.name)
            if inlined is not None:
                with self._in_place(inlined[0], node):
                    self._value(inlined[1], target)
                return
            if meaning.results != 1:
                raise self._refusal(node, f"{meaning.node.name} returns {meaning.results} words, here is one wanted")
            self._move(target, self._call(meaning, node))
        elif meaning.name in VALUES:
            left, right = self._arguments(node, 2)
            self._binary(VALUES[meaning.name], left, right, target)
        elif meaning.name == "byte_swap":
            (word,) = self._arguments(node, 1)
            self._emit(Op.BSWAP, target, self._operand(word))
        else:
            raise self._refusal(node, f"{meaning.name} has no value")

    def _values(self, node: ast.expr, count: int) -> list[int]:
        """Return words that have the values of a tuple, or of a call that returns one; nobody else writes them."""
        if isinstance(node, ast.Tuple) and len(node.elts) == count:
            return [self._value(part, self._fresh()) for part in node.elts]
        if isinstance(node, ast.Call):
            meaning = self._called(node)
            if isinstance(meaning, Function) and meaning.results == count:
                first = self._call(meaning, node)
                return list(range(first, first + count))
        raise self._refusal(node, f"{ast.unparse(node)} is not {count} words")

    def _called(self, node: ast.Call) -> Function | Word:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._refusal(node, f"call {ast.unparse(node)}")
        name = node.func.id
        meaning = None if name in self._scope else self._module.meanings.get(name)
        if isinstance(meaning, Function) or (isinstance(meaning, Word) and meaning.name != "memory"):
            return meaning
        raise self._unknown(node, name)

    def _call(self, function: Function, node: ast.Call) -> int:
        """Call a function; return the first of the words with its results."""
        arguments = self._arguments(node, len(function.parameters))
        base = self._top
        self._top = base + _LINK
        for argument in arguments:
            self._value(argument, self._fresh())
        self._emit(Op.CALL, self._compiler.entry(function), base)
        self._top = base + _LINK + function.results
        return base + _LINK

    def _arguments(self, node: ast.Call, count: int) -> list[ast.expr]:
        if len(node.args) != count or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._refusal(node, f"{ast.unparse(node.func)} takes {count} arguments, not {len(node.args)}")
        return node.args

    def _inlined(self, name: str) -> tuple[Function, ast.expr] | None:
        """Return a function that is but one expression, and that expression, if it may stand in place of its call."""
        meaning = None if name in self._scope else self._module.meanings.get(name)
        if not isinstance(meaning, Function) or meaning.results != 1 or meaning.key in self._inside:
            return None
        body = [part for part in meaning.node.body if not _is_text(part)]
        match body:
            case [ast.Return(value=ast.expr() as value)] if not isinstance(value, ast.Tuple):
                return meaning, value
        return None

    @contextmanager
    def _in_place(self, function: Function, node: ast.Call) -> Iterator[None]:
        """Compile in a function's module, its parameters bound to a call's arguments."""
        check_flow(function)
        scope: dict[str, _Bound] = {}
        arguments = self._arguments(node, len(function.parameters))
        for name, argument in zip(function.parameters, arguments, strict=True):
            _check_hides_nothing(function, name)
            value = self._constant(argument)
            scope[name] = _Slot(self._operand(argument)) if value is None else value
        outer = self._scope, self._module
        self._scope, self._module = scope, function.module
        self._inside.append(function.key)
        yield
        self._inside.pop()
        self._scope, self._module = outer

    # --- the code

    def _emit(self, op: int, a: _Field = 0, b: _Field = 0, c: _Field = 0) -> None:
        self._code.rows.append((int(op), a, b, c))
        self._code.places.append(Place(self._module.name, self._line))

    def _move(self, target: int, slot: int) -> None:
        if target != slot:
            self._emit(Op.MOVE, target, slot)

    def _fresh(self) -> int:
        self._top += 1
        return self._top - 1

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Give back afterwards what words of the frame were taken."""
        top = self._top
        yield
        self._top = top

    @contextmanager
    def _deeper(self, node: ast.AST) -> Iterator[None]:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise refusal(ProgramSizeError, self._module.name, node, f"expressions {_DEPTH_MAX} deep")
        yield
        self._depth -= 1

    def _variable(self, node: ast.AST, name: str) -> int:
        bound = self._scope[name]
        if not isinstance(bound, _Slot):
            raise self._refusal(node, f"assignment to {name}")
        return bound.index

    def _is_memory(self, name: str) -> bool:
        return name not in self._scope and self._module.meanings.get(name) == Word("memory")

    def _refusal(self, node: ast.AST, message: str) -> ProgramError:
        return refusal(OutsideLanguageError, self._module.name, node, message)

    def _unknown(self, node: ast.AST, name: str) -> ProgramError:
        return refusal(UnknownNameError, self._module.name, node, f"{name} is not a name that can stand here")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _check_hides_nothing(function: Function, name: str) -> None:
    if name in function.module.meanings:
        raise refusal(OutsideLanguageError, function.module.name, function.node, f"{name} hides a name of the module")
