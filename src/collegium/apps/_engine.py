"""What the commands call to do their work, imported when it is called: `--help` must not wait for it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from collegium.apps._up import UpOptions
    from collegium.apps._up_view import NetworkView
    from collegium.node import Event, Experiment, Verification

__all__ = ["Engine", "Summary", "engine_of"]

Summary: TypeAlias = dict[str, Any]
"""What a run says about itself, as plain JSON values; the keys are those of the report page."""


def _run_experiment(experiment: Experiment, out: Path, on_event: Callable[[Event], None]) -> Summary:
    from collegium.apps._page import render_page
    from collegium.node import run_experiment

    return run_experiment(experiment, out, on_event, render_page)


def _verify_run(run: Path, anchor: str | None, on_event: Callable[[Event], None]) -> Verification:
    from collegium.apps._page import render_page
    from collegium.node import verify_run

    return verify_run(run, anchor, on_event, render_page)


def _up(experiment: Experiment, out: Path, options: UpOptions, view: NetworkView) -> Mapping[str, Any]:
    from collegium.apps._page import render_page
    from collegium.apps._up import up
    from collegium.node import collect_run

    return up(experiment, out, options, view, partial(collect_run, render_page=render_page))


def _aggregation_rows(*, quick: bool) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench import aggregation_rows

    return aggregation_rows(quick=quick)


def _proof_rows(*, quick: bool, size: str | None, ezkl_seconds: float) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_proofs import proof_rows

    return proof_rows(quick=quick, size=size, ezkl_seconds=ezkl_seconds)


def _consensus_rows(*, quick: bool, part: str | None) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_consensus import consensus_rows

    return consensus_rows(quick=quick, part=part)


def _quality_rows(*, whole: bool, part: str | None, attack: Path | None) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_quality import quality_rows
    from collegium.learning import attack_from_file

    plan = None if attack is None else attack_from_file(attack)
    return quality_rows(whole=whole, part=part, attack=plan, config=_demo_file("demo.toml"))


def _settlement_rows(*, quick: bool, url: str | None) -> Iterable[Mapping[str, Any]]:
    from collegium.apps._bench_settlement import settlement_rows

    return settlement_rows(quick=quick, url=url)


def _demo_config() -> Path:
    return _demo_file("quality.toml")


def _demo_file(name: str) -> Path:
    return Path(str(importlib.resources.files("collegium.apps"))) / "demo" / name


@dataclass(frozen=True, slots=True)
class Engine:
    """What the commands call to do their work. Tests pass fakes as the context's object."""

    run: Callable[[Experiment, Path, Callable[[Event], None]], Summary] = _run_experiment
    verify: Callable[[Path, str | None, Callable[[Event], None]], Verification] = _verify_run
    aggregation_rows: Callable[..., Iterable[Mapping[str, Any]]] = _aggregation_rows
    proof_rows: Callable[..., Iterable[Mapping[str, Any]]] = _proof_rows
    consensus_rows: Callable[..., Iterable[Mapping[str, Any]]] = _consensus_rows
    quality_rows: Callable[..., Iterable[Mapping[str, Any]]] = _quality_rows
    settlement_rows: Callable[..., Iterable[Mapping[str, Any]]] = _settlement_rows
    demo_config: Callable[[], Path] = _demo_config
    up: Callable[[Experiment, Path, UpOptions, NetworkView], Mapping[str, Any]] = _up


def engine_of(context: typer.Context) -> Engine:
    """Return what a command calls to do its work."""
    return context.obj if isinstance(context.obj, Engine) else Engine()
