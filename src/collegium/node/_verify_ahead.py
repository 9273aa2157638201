"""Work that many validators of one process need, done once: what is proved is verified before they ask for it."""

from __future__ import annotations

from collections.abc import Hashable

from collegium.aggregation import RoundTerms
from collegium.consensus import Held, check_proof, proof_key, registration_key

from ._network import SharedWork
from ._played_task import PlayedTask
from ._workers import Workers

__all__ = ["lasts", "verify_ahead"]


def verify_ahead(
    work: SharedWork, task: PlayedTask, terms: RoundTerms, model: bytes, reports: list[Held], workers: Workers
) -> list[float]:
    """Verify registrations and proofs in worker processes; enter into `work` what the validators will ask for.

    Return the milliseconds of each proof. Nothing is decided here: a proof that fails fails where it is asked for.
    """
    if not task.proof_bytes_max(terms.round):
        return []
    fresh = {registration_key(held.report): held for held in reports if held.registration}
    fresh = {key: held for key, held in fresh.items() if key not in work.results}
    arguments = ((held.report.trainer, held.registration) for held in fresh.values())
    for key, done in zip(fresh, workers.map(task.verify_registration, arguments), strict=True):
        work.put(key, None, done.refusal, done.took_ms)
    took = []
    checks = ((task, terms, model, held) for held in reports)
    for held, done in zip(reports, workers.map(_verify_proof, checks), strict=True):
        work.put(proof_key(terms, held.report), None, done.refusal, done.took_ms)
        took.append(done.took_ms)
    return took


def _verify_proof(task: PlayedTask, terms: RoundTerms, model: bytes, held: Held) -> None:
    check_proof(SharedWork(), task, terms, model, held, vetted=True)


def lasts(key: Hashable) -> bool:
    """Tell whether shared work is kept for the rounds to come: registrations, which many rounds refer to."""
    return isinstance(key, tuple) and key[0] == "registration"
