"""The tracked tree keeps the house rules that a machine can judge.

Each rule is a function from one file to the lines that break it. `test_rule_catches` shows beside every rule the
smallest file that it refuses.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
SELF = "tests/test_tidy.py"
FILE_BYTES_MAX = 1_000_000
FUNCTION_LINES_MAX = 70

LARGE_DATA: frozenset[str] = frozenset()
DATA_SUFFIXES = {".csv", ".json", ".lock", ".npz", ".parquet", ".png", ".ico", ".woff2"}
APPS = {"cli", "federation", "web", "flower", "serve"}  # what apps offers; everything else there is inner
CORRIDORS = {"utils", "util", "common", "helpers", "helper", "core"}

# Written in pieces, so that a search of the tree for these words does not find this list.
UNFINISHED = re.compile(rf"\b({'|'.join(['TODO', 'FIXME', 'XXX'])})\b")
REGISTRY = re.compile(r'"resolved": *"https?://')  # a lock file pins what to install, not from where
MACHINE_PATH = re.compile(r"(?<![\w.\-*/}])/(home|root|Users)/\w")
SCRATCH_PATH = re.compile(r"""["'](/tmp|/var/tmp)\b""")
TEST_NAMED = re.compile(r"\b(?:tests/[\w/]+/)?(test_\w+\.py)(?:::(\w+))?")
TEST_FUNCTION_NAMED = re.compile(r"`(test_[a-z0-9]+_[a-z0-9]+_[a-z0-9_]+)`")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#[^)\s]*)?\)")


@dataclass(frozen=True, slots=True)
class File:
    """One tracked file. `mode` is git's: 100755 for what may be executed."""

    path: str
    mode: str
    data: bytes

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    @property
    def is_text(self) -> bool:
        return b"\0" not in self.data

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def in_package(self) -> bool:
        return self.path.startswith("src/collegium/") and self.suffix == ".py"

    @property
    def module(self) -> tuple[str, ...]:
        """The dotted name in pieces, below `collegium`: ("crypto", "_keys") or, for a package, ("crypto",)."""
        parts = PurePosixPath(self.path).with_suffix("").parts[2:]
        return parts[:-1] if parts[-1] == "__init__" else parts

    @property
    def code(self) -> Code:
        return code_of(self.data)


@dataclass(frozen=True, slots=True)
class Code:
    """What rules ask of a Python file; lines count from 1.

    Attributes:
        docstring: the module's, "" without one.
        assigned: the names that the module itself assigns.
        imports: wherever they stand.
        functions: the line, name and number of lines of each.
        prints: the lines that call `print`.
    """

    docstring: str
    assigned: frozenset[str]
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    functions: tuple[tuple[int, str, int], ...]
    prints: tuple[int, ...]


@cache
def code_of(data: bytes) -> Code:
    """Walk a file once, whatever number of rules asks; its tree is not kept, which is many times as large."""
    tree = ast.parse(data)
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    imports, functions, prints = [], [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append((node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno + 1))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            prints.append(node.lineno)
    return Code(
        ast.get_docstring(tree) or "",
        frozenset(target.id for target in targets if isinstance(target, ast.Name)),
        tuple(imports),
        tuple(functions),
        tuple(prints),
    )


Rule = Callable[[File], Iterator[str]]


@cache
def tracked() -> tuple[File, ...]:
    listing = subprocess.run(["git", "ls-files", "--stage", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = []
    for entry in listing.stdout.split("\0")[:-1]:
        (mode, _, _), path = entry.split("\t")[0].split(), entry.split("\t")[1]
        if (ROOT / path).is_file():  # not a file that is being moved
            files.append(File(path, mode, (ROOT / path).read_bytes()))
    return tuple(files)


@cache
def functions_that_test() -> frozenset[str]:
    """The names of all test functions."""
    files = (file for file in tracked() if file.path.startswith("tests/") and file.suffix == ".py")
    return frozenset(name for file in files for name in re.findall(r"^ *def (test_\w+)\(", file.text, re.MULTILINE))


def matches(file: File, pattern: re.Pattern[str]) -> Iterator[str]:
    if file.is_text and file.path != SELF:
        for number, line in enumerate(file.text.splitlines(), start=1):
            if found := pattern.search(line):
                yield f"{file.path}:{number}: {found[0]}"


def is_small(file: File) -> Iterator[str]:
    if len(file.data) > FILE_BYTES_MAX and file.path not in LARGE_DATA:
        yield f"{file.path}: {len(file.data)} bytes, at most {FILE_BYTES_MAX}"


def ends_with_one_newline(file: File) -> Iterator[str]:
    if file.is_text and file.data and not file.data.endswith(b"\n"):
        yield f"{file.path}: no newline at the end"


def runs_if_and_only_if_it_says_how(file: File) -> Iterator[str]:
    if (file.mode == "100755") != file.data.startswith(b"#!"):
        yield f"{file.path}: mode {file.mode}, first line {file.data[:20]!r}"


def is_finished(file: File) -> Iterator[str]:
    if file.suffix not in DATA_SUFFIXES:
        yield from matches(file, UNFINISHED)


def names_no_registry(file: File) -> Iterator[str]:
    yield from matches(file, REGISTRY)


def names_no_machine(file: File) -> Iterator[str]:
    yield from matches(file, MACHINE_PATH)
    if file.in_package:
        yield from matches(file, SCRATCH_PATH)


def has_a_docstring(file: File) -> Iterator[str]:
    if file.in_package and not file.code.docstring:
        yield f"{file.path}: no docstring"


def package_says_what_is_public(file: File) -> Iterator[str]:
    if file.in_package and file.path.endswith("/__init__.py") and "__all__" not in file.code.assigned:
        yield f"{file.path}: no __all__"


def inner_module_says_so(file: File) -> Iterator[str]:
    if not file.in_package or file.path.endswith("/__init__.py") or len(file.module) < 2:
        return
    room, name = file.module[0], file.module[-1]
    if not name.startswith("_") and not (room == "apps" and name in APPS):
        yield f"{file.path}: an inner module's name starts with _"


def is_no_corridor(file: File) -> Iterator[str]:
    if file.in_package and any(part.strip("_") in CORRIDORS for part in file.module):
        yield f"{file.path}: a function lives with the idea it serves"


def modules_imported(file: File) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each imported name below `collegium`, absolute, with its line."""
    is_package = file.path.endswith("/__init__.py")
    for node in file.code.imports:
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            base = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                here = ("collegium", *file.module)
                base = here[: len(here) - node.level + is_package] + base
            names = [(*base, alias.name) for alias in node.names]
        yield from ((node.lineno, name[1:]) for name in names if name[0] == "collegium")


def enters_by_the_door(file: File) -> Iterator[str]:
    """No import reaches behind another package's `__init__`."""
    outside = file.path.startswith(("benchmarks/", "examples/")) and file.suffix == ".py"
    if not file.in_package and not outside:
        return
    for line, name in modules_imported(file):
        for depth, part in enumerate(name):
            inner = part.startswith("_") and not part.startswith("__")
            if inner and (outside or file.module[:depth] != name[:depth]):
                yield f"{file.path}:{line}: {'.'.join(name)} is inside another package"


def functions_fit_on_a_screen(file: File) -> Iterator[str]:
    if file.in_package:
        for line, name, lines in file.code.functions:
            if lines > FUNCTION_LINES_MAX:
                yield f"{file.path}:{line}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def prints_only_in_apps(file: File) -> Iterator[str]:
    if file.in_package and file.module[:1] != ("apps",):
        yield from (f"{file.path}:{line}: print" for line in file.code.prints)


def names_only_tests_that_exist(file: File) -> Iterator[str]:
    if file.suffix != ".md":
        return
    for named in TEST_NAMED.finditer(file.text):
        name, function = named.groups()
        folder = named[0].partition(name)[0]
        found = [ROOT / folder / name] if folder else list(ROOT.glob(f"tests/**/{name}"))
        if not any(path.is_file() and (not function or f"def {function}(" in path.read_text()) for path in found):
            yield f"{file.path}: {named[0]} does not exist"


def names_only_test_functions_that_exist(file: File) -> Iterator[str]:
    if file.suffix == ".md":
        for named in TEST_FUNCTION_NAMED.finditer(file.text):
            if named[1] not in functions_that_test():
                yield f"{file.path}: {named[1]} is no test"


def links_lead_somewhere(file: File) -> Iterator[str]:
    if file.suffix == ".md":
        for target in LINK.findall(file.text):
            if not (ROOT / file.path).parent.joinpath(target).exists():
                yield f"{file.path}: {target} does not exist"


# Beside each rule the smallest file that breaks it.
REFUSED: dict[Rule, File] = {
    is_small: File("docs/figure.png", "100644", b"\0" * (FILE_BYTES_MAX + 1)),
    ends_with_one_newline: File("README.md", "100644", b"no end"),
    runs_if_and_only_if_it_says_how: File("scripts/demo", "100644", b"#!/usr/bin/env bash\n"),
    is_finished: File("src/collegium/a.py", "100644", b"# TODO: later\n"),
    names_no_registry: File(
        "contracts/package-lock.json", "100644", b'"resolved": "https://registry.example.org/solc"\n'
    ),
    names_no_machine: File("README.md", "100644", b"see /home/alice/collegium\n"),
    has_a_docstring: File("src/collegium/codes/_rows.py", "100644", b"x = 1\n"),
    package_says_what_is_public: File("src/collegium/codes/__init__.py", "100644", b'"""Codes."""\n'),
    inner_module_says_so: File("src/collegium/codes/rows.py", "100644", b""),
    is_no_corridor: File("src/collegium/codes/_utils.py", "100644", b""),
    enters_by_the_door: File("src/collegium/codes/_rows.py", "100644", b"from ..algebra._field import P\n"),
    functions_fit_on_a_screen: File(
        "src/collegium/a.py", "100644", b"def f():\n" + b"    x = 1\n" * FUNCTION_LINES_MAX
    ),
    prints_only_in_apps: File("src/collegium/node/_run.py", "100644", b"print(1)\n"),
    names_only_tests_that_exist: File("docs/a.md", "100644", b"tests/unit/test_nothing.py\n"),
    names_only_test_functions_that_exist: File("docs/a.md", "100644", b"`test_nothing_at_all`\n"),
    links_lead_somewhere: File("docs/a.md", "100644", b"[the rule](rule.md#bounds)\n"),
}


@pytest.mark.parametrize("rule", REFUSED, ids=lambda rule: rule.__name__)
def test_tree_keeps(rule: Rule) -> None:
    broken = [line for file in tracked() for line in rule(file)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("rule", REFUSED, ids=lambda rule: rule.__name__)
def test_rule_catches(rule: Rule) -> None:
    assert len(list(rule(REFUSED[rule]))) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/collegium/codes/_a.py", "from ._rows import f"),
        ("src/collegium/codes/_a.py", "from collegium.codes._rows import f"),
        ("src/collegium/codes/__init__.py", "from ._rows import f"),
        ("src/collegium/apps/web/_a.py", "from .._page import f"),
        ("src/collegium/codes/_a.py", "from collegium.algebra import P"),
        ("src/collegium/codes/_a.py", "from collegium import __version__"),
    ],
)
def test_own_rooms_and_open_doors_pass(path: str, line: str) -> None:
    assert list(enters_by_the_door(File(path, "100644", line.encode()))) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/collegium/codes/_a.py", "from collegium.algebra import _field"),
        ("src/collegium/codes/__init__.py", "from ..algebra import _field"),
        ("src/collegium/codes/_a.py", "import collegium.algebra._field"),
        ("src/collegium/apps/_a.py", "from .web._a import f"),
        ("benchmarks/proofs.py", "from collegium.proofs._prove import prove"),
    ],
)
def test_back_doors_are_caught(path: str, line: str) -> None:
    assert len(list(enters_by_the_door(File(path, "100644", line.encode())))) == 1


def test_no_two_test_files_share_a_name() -> None:
    names = [PurePosixPath(file.path).name for file in tracked() if file.path.startswith("tests/")]
    tests = [name for name in names if name.startswith("test_")]
    assert sorted(tests) == sorted(set(tests))
