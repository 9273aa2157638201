"""Headers that rest on another one than stands before them, shown to the contract that pays.

No program sees places under checkpoints, so no court hears of it, and it convicts nobody; nothing is paid from there.
"""

from __future__ import annotations

from functools import partial

from collegium.settlement import (
    Budget,
    Chain,
    Checkpoint,
    HeaderPlace,
    attach,
    expose_header,
    header_proof,
    read_budget,
    read_checkpoints,
    unless_overtaken,
)

from ._watch import Player, WatchedRun, digests_under, unlinked

__all__ = ["expose_unlinked"]


def expose_unlinked(run: WatchedRun, chain: Chain, player: Player) -> int | None:
    """Expose the first header under a checkpoint that does not rest on the one before it, unless somebody has.

    All headers are looked at, whatever else is wrong: what an earlier round withholds must hide no later one. Nothing
    is kept: the contract knows what was shown.

    Returns: the header's round; None if there is none, or the run pays nobody on this chain.

    Raises:
        RecordMismatchError: the chain holds other headers.
        CollegiumError: the chain is not reachable or refuses.
    """
    if run.money is None:
        return None
    checkpoints = list(read_checkpoints(chain, attach(chain, run.deployment.settlement, run.deployment.block)))
    places = {number: held for held in checkpoints for number in range(held.first_round, held.last_round + 1)}
    number = next((n for n in sorted(places) if n - 1 in places and unlinked(run, n)), None)
    if number is None:
        return None
    budget = partial(read_budget, chain, run.money, run.deployment)
    if _is_shown(budget(), number):
        player.say(f"round {number}: the contract that pays was shown before that it does not follow")
        return number
    place, before = _place(run, places[number], number), _place(run, places[number - 1], number - 1)
    with unless_overtaken(lambda: _is_shown(budget(), number)):
        opening = run.headers[number].preimage
        receipt = expose_header(chain, run.money, player.account, run.deployment, opening, place, before)
        player.say(f"round {number} exposed, nothing is paid from there on: {receipt.gas:,} gas")
    return number


def _is_shown(budget: Budget, number: int) -> bool:
    return budget.broken_round is not None and budget.broken_round <= number


def _place(run: WatchedRun, checkpoint: Checkpoint, number: int) -> HeaderPlace:
    digests, index = digests_under(run, checkpoint), number - checkpoint.first_round
    return HeaderPlace(checkpoint, number, digests[index], header_proof(digests, index))
