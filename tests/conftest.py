"""What holds for every test: how long it searches, what this machine can run, and that nothing passes in silence.

- `COLLEGIUM_FULL=1` runs many more random examples and seeds; without it every run draws the same ones.
- A test whose marker needs something that is missing here is left out and listed at the end with the reason;
  `COLLEGIUM_NOTHING_LEFT_OUT=1` makes that an error, unless the kernel forbids what no package can bring.
- A skipped test fails the run: a skip hides what was not tried.
- `@pytest.mark.seeds(quick=5, full=500)` gives a test the argument `seed`, from 0.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from collegium.settlement._limit import limit_kept

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
# Some tests import these packages themselves, which raise the recursion limit of the whole process (`_limit` says what
# hostile JSON does then): here they come first, and leave it as it was.
with limit_kept():
    import eth  # noqa: F401
    import eth_account  # noqa: F401

NOTHING_LEFT_OUT = os.environ.get("COLLEGIUM_NOTHING_LEFT_OUT") == "1"
NODE_PACKAGES = Path(__file__).parent.parent / "contracts" / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What is imported and collected lives to the end: no garbage is in it, however often one looks.
gc.set_threshold(10_000)

# Tests share the cores already: starting processes for their small proofs costs seconds and wins nothing.
os.environ.setdefault("COLLEGIUM_WORKERS", "1")
# And PyTorch's threads for small layers wait for each other, which takes a core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LEFT_OUT = pytest.StashKey[Counter[str]]()

# No deadline: a time measured on a shared machine says nothing about a law.
settings.register_profile(
    "quick", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "full", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("full" if FULL else "quick")


def missing_requirements() -> dict[str, str]:
    """The markers that this machine cannot serve, each with what would serve it."""
    missing = {}
    if shutil.which("node") is None:
        missing["node"] = "Node is not installed"
    elif not NODE_PACKAGES.is_dir():
        missing["node"] = "no contracts/node_modules: run npm install --prefix contracts --no-save"
    if not any(shutil.which(name) for name in BROWSERS):
        missing["browser"] = "no Chromium is installed"
    if importlib.util.find_spec("flwr") is None:
        missing["flower"] = "the extra is not installed: run .venv/bin/pip install --editable '.[flower]'"
    if not all(map(importlib.util.find_spec, ("byzfl", "torch", "sklearn"))):
        missing["byzfl"] = (
            "not installed: run .venv/bin/pip install --editable '.[quality,torch]'; "
            ".venv/bin/pip install --no-deps byzfl==0.0.11"
        )
    if importlib.util.find_spec("torch") is None:
        missing["torch"] = "the extra is not installed: run .venv/bin/pip install --editable '.[torch]'"
    if not all(map(importlib.util.find_spec, ("opendp", "dp_accounting"))):
        missing["privacy"] = "the extra is not installed: run .venv/bin/pip install --editable '.[privacy]'"
    refusal = namespace_refusal()
    if shutil.which("ip") is None:
        missing["netns"] = "ip is not installed: it is in your system's package iproute2"
    elif refusal is not None:
        missing["netns"] = f"network namespaces are refused here: {refusal}"
    return missing


@cache
def namespace_refusal() -> str | None:
    """Why no network namespace with a bridge and cables can be made and entered, in the system's words: tried, once."""
    name = f"collegium-probe-{os.getpid()}"
    steps = (
        ("netns", "add", name),
        ("-n", name, "link", "add", "island", "type", "bridge"),
        ("-n", name, "link", "add", "port", "type", "veth", "peer", "name", "cable"),
        ("netns", "exec", name, "true"),
    )
    try:
        for step in steps:
            subprocess.run(["ip", *step], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"{' '.join(['ip', *step])}: {error.stderr.strip()}"
    except OSError as error:
        return str(error)
    finally:
        with suppress(OSError):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    return None


def failing(left_out: Counter[str]) -> set[str]:
    """The markers whose tests may not be left out of a run that leaves nothing out."""
    excused = {"netns"} if shutil.which("ip") else set()
    return set(left_out) - excused if NOTHING_LEFT_OUT else set()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is not None:
        metafunc.parametrize("seed", range(marker.kwargs["full" if FULL else "quick"]))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = missing_requirements()
    kept, left_out = [], []
    for item in items:
        lacking = [marker for marker in missing if item.get_closest_marker(marker)]
        (left_out if lacking else kept).append(item)
        config.stash[LEFT_OUT].update(lacking[:1])
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture(autouse=True)
def logs_of_libraries() -> Iterator[None]:
    """A node that runs in this process takes over what libraries log, to a stream that is closed with its test."""
    yield
    for name in ("uvicorn", "asyncio", "collegium"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):  # a process of xdist: every one collects the same tests
        config.workeroutput["left_out"] = dict(config.stash[LEFT_OUT])
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    passed_over = bool(reporter and reporter.stats.get("skipped")) or bool(failing(config.stash[LEFT_OUT]))
    if passed_over and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes over what a process of xdist left out."""
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = missing_requirements()
    left_out = config.stash[LEFT_OUT]
    if left_out:
        terminalreporter.section("left out, which fails this run" if failing(left_out) else "left out")
        for marker, count in sorted(left_out.items()):
            terminalreporter.write_line(f"tests marked {marker}, {count} in number: {missing[marker]}")
    if terminalreporter.stats.get("skipped"):
        terminalreporter.section("skipped tests fail the run")
        for report in terminalreporter.stats["skipped"]:
            terminalreporter.write_line(f"{report.nodeid}: say what is missing with a marker instead")
