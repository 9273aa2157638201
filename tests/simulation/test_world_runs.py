"""Whole validators in simulated worlds: safe at every step, live once it calms; and every broken protocol is caught.

COLLEGIUM_FULL=1 plays 2,000 worlds instead of a few. `collegium simulate` prints the same with figures.
"""

import os
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from typer.testing import CliRunner

from collegium.apps.cli import app
from collegium.node._world_checks import LivenessError
from collegium.node._world_keys import stand_ins
from collegium.node._world_mutants import CALM, MUTANTS
from collegium.node._world_plan import SIZES, plan_world
from collegium.node._world_run import _play_batch, plan_of, play_plan, play_schedules, play_seed

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
WORLDS = 2_000 if FULL else 20


@pytest.mark.slow
def test_no_world_loses_safety_and_all_end() -> None:
    found = play_schedules(WORLDS, 0, processes=2 if FULL else 1)
    assert [(book.seed, book.failure) for book in found.failures] == []
    assert found.worlds == WORLDS
    assert found.totals["rounds"] >= 2 * WORLDS
    assert min(found.totals[what] for what in ("crashes", "splits", "lost", "views")) > 0, "nothing was at stake"
    assert found.outcomes["opened"] > WORLDS // 2
    assert found.evidence["BlockEquivocation"] > 0
    assert found.totals["handovers"] >= WORLDS // 20
    assert found.totals["stale reports admitted"] > 0
    assert found.totals["records ordered"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_protocol_is_caught_and_the_whole_one_passes(mutant) -> None:
    assert mutant.play() == "", "the scenario complains of the protocol as it is"
    with mutant.breaking():
        cause = mutant.play()
    assert cause, f"not caught: {mutant.broken}"
    assert "Error: " not in cause or cause.startswith(("SafetyError", "LivenessError")), cause
    # a break that is not undone makes the next scenario complain of the protocol as it is


def test_a_break_is_undone() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "sealing key not kept")
    with mutant.breaking():
        assert mutant.play()
    assert not mutant.play()


@pytest.mark.slow
def test_one_seed_is_one_history_whatever_the_hash_seed() -> None:
    """Sets of bytes come in another order in each interpreter: nothing may depend on it."""
    script = "from collegium.node._world_run import play_seed; print(play_seed(6).digest)"
    digests = {play_seed(6).digest}
    for seed in ("1", "2") if FULL else ("1",):  # beside this process's own
        command, environment = [sys.executable, "-c", script], {**os.environ, "PYTHONHASHSEED": seed}
        digests.add(subprocess.check_output(command, env=environment, text=True).strip())
    assert len(digests) == 1
    assert play_seed(7).digest not in digests


def test_every_twentieth_world_has_real_keys_and_every_hundredth_real_masking() -> None:
    plans = [plan_of(seed) for seed in range(200)]
    assert [plan.seed for plan in plans if plan.real] == list(range(19, 200, 20))
    assert [plan.seed for plan in plans if plan.masked] == [99, 199]
    assert [plan.seed for plan in plans if plan.changes] == list(range(6, 200, 12))
    assert any(plan.masked and plan.staleness for plan in plans)


@pytest.mark.slow
def test_a_world_with_real_keys_and_real_masking() -> None:
    book = play_seed(199)
    assert book.plan.masked
    assert (book.failure, book.outcomes["opened"] > 0) == ("", True)


def test_too_many_liars_are_too_many() -> None:
    """The bound is sharp: with two of four silent nothing is agreed."""
    people = ("liar", "liar", "honest", "honest")
    book = play_plan(replace(CALM, validators=people, script=("silence",)))
    assert book.failure.startswith(LivenessError.__name__)
    fewer = replace(CALM, validators=("liar", "honest", "honest", "honest"), script=("silence",))
    assert not play_plan(fewer).failure


def test_stand_ins_are_put_back() -> None:
    from collegium import crypto

    kept = crypto.seal
    with stand_ins(real=False):
        assert crypto.seal is not kept
    assert crypto.seal is kept


def test_stand_ins_are_put_back_in_a_module_that_is_loaded_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    from collegium import crypto

    kept, late = crypto.seal, ModuleType("collegium.loaded_late")
    with stand_ins(real=False):
        monkeypatch.setitem(sys.modules, late.__name__, late)
        vars(late)["seal"] = crypto.seal  # as its import does
        assert crypto.seal is not kept
    assert vars(late)["seal"] is kept


def test_a_batch_gives_what_its_seeds_give_alone() -> None:
    """Worlds of one kind share their stand-ins; seed 19 has real keys."""
    seeds = (18, 19, 20)
    assert [book.digest for book in _play_batch(seeds, SIZES)] == [play_seed(seed).digest for seed in seeds]


def test_a_plan_is_a_function_of_its_seed() -> None:
    assert plan_world(5) == plan_world(5) != plan_world(6)
    assert {plan_world(seed, (4, 4)).size for seed in range(20)} == {4}


def test_the_command_prints_a_world_and_refuses_a_size() -> None:
    done = CliRunner().invoke(app, ["simulate", "--replay", "3", "--json"])
    assert done.exit_code == 0, done.output
    assert '"failure": ""' in done.stdout
    done = CliRunner().invoke(app, ["simulate", "--size", "7-4"])
    assert done.exit_code == 2
