"""`collegium privacy`: what the rounds of an experiment cost each row, or how much noise a budget takes."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer

from collegium.apps._exit import JsonOption, UsageError, exit_codes, print_facts, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(privacy)


def privacy(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="An experiment with [privacy].")],
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", metavar="E", min=0.001, max=1000, help="Say how much noise stays within E instead."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what all rounds of an experiment cost each row, as (epsilon, delta).

    It holds for one row replaced by any other, against whoever sees everything that is public, as long as each opened
    sum adds the noise of `privacy.honest` honest trainers. A sum may add no more than `trainers.minimum`,
    bad ones included.

    \b
    Example:
      collegium privacy experiment.toml
      collegium privacy experiment.toml --epsilon 4
    """
    with exit_codes():
        from collegium.node import epsilon_of, load_experiment, noise_for

        settings = load_experiment(config)
        if settings.privacy is None:
            raise UsageError(f"{config} has no section [privacy]: its rounds have no noise, and no epsilon holds")
        terms, rounds = settings.privacy, settings.task.rounds
        found: dict[str, Any] = {"rounds": rounds, "delta": float(terms.delta), "honest": terms.honest}
        if epsilon is None:
            noise, spent = terms.noise, epsilon_of(float(terms.noise), rounds, float(terms.delta))
        else:
            noise, spent = noise_for(epsilon, rounds, float(terms.delta)), epsilon
        found |= {"noise": float(noise), "epsilon": spent}
        if json:
            print_json(found)
            return
        print_facts(
            [
                ("rounds", str(rounds)),
                ("noise", f"{float(noise):g} x what one row can move a sum"),
                ("counted on", f"the noise of {terms.honest} honest trainers in each sum"),
                (
                    "epsilon",
                    f"{ceil(1000 * spent) / 1000:.3f} at delta {float(terms.delta):g}, for one row replaced by another",
                ),
            ]
        )
