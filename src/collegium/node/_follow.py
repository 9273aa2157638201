"""A watcher's whole work on one run: look at its checkpoints, dispute the first wrong header, have who signed it pay.

With `follow` it looks again until the record's last round is settled; with `defend` it also stands up for right headers
that others dispute, until every checkpoint is final or has fallen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from collegium.crypto import Digest
from collegium.settlement import (
    DisputeState,
    HeaderPlace,
    JsonRpcChain,
    attach,
    read_courts,
    read_head,
    read_refuter,
)

from ._courtroom import FOUNDED_FOR, Courtroom, found_courtroom
from ._exposing import expose_unlinked
from ._machine_court import MachineCourtroom
from ._offers import OfferChecker
from ._penalties import bring_charges, convict_signers, tell_standing
from ._watch import POLL_S, Finding, Player, Say, WatchedRun, watch

__all__ = ["WatchPlan", "challenge", "watch_run"]


@dataclass(frozen=True)
class WatchPlan:
    """What a watcher does beside looking.

    Attributes:
        challenge: dispute the first wrong header, show the contract that pays one that does not follow, bring what
            convicts anybody, accept offered claims that are wrong.
        demand: take what the record does not show for withheld, and dispute that too.
        follow: look again until all rounds of the record are settled.
        defend: stand up for right headers until every checkpoint is final or has fallen, whatever else is wrong.
    """

    challenge: bool = False
    demand: bool = False
    follow: bool = False
    defend: bool = False


def watch_run(
    run: WatchedRun,
    rooms: Sequence[Courtroom],
    plan: WatchPlan,
    player: Player | None,
    say: Say,
    wait: Callable[[], None] = lambda: time.sleep(POLL_S),
) -> Finding | None:
    """Watch a run as planned; return what is wrong in it, None if nothing is.

    Args:
        player: pays for what is sent; None where nothing is to be sent.
        wait: lets time pass between two looks.

    Raises:
        CollegiumError: the record is not what the chain holds, or the chain is not reachable or refuses.
    """
    chain, known, finding = JsonRpcChain(run.url), set[Digest](), None
    courts, exposed = _Courts(run, rooms, plan), None
    deployment = attach(chain, run.deployment.settlement, run.deployment.block)
    while True:
        over = read_head(chain, deployment).next_round >= len(run.rounds)  # asked before: all that is settled is seen
        if player is not None and plan.challenge and exposed is None:
            exposed = expose_unlinked(run, chain, player)
        found = None if finding is not None else watch(run, say, known, demand=plan.demand)
        if found is not None:
            finding, place = found
            if player is not None and plan.challenge:
                challenge(run, finding, place, rooms, courts.meanwhile(player))
                bring_charges(run, player, say)
        busy = player is not None and courts.play(player)
        if (over or finding is not None) and not busy:
            break
        if not (busy or plan.defend or (plan.follow and finding is None)):
            break
        wait()
    if finding is None:
        bring_charges(run, player if plan.challenge else None, say)
    return finding


class _Courts:
    """What a watcher does before a run's courts beside disputing what is wrong."""

    def __init__(self, run: WatchedRun, rooms: Sequence[Courtroom], plan: WatchPlan) -> None:
        self._run, self._rooms = run, rooms if plan.defend else ()
        machines = [room for room in rooms if isinstance(room, MachineCourtroom)]
        self._checkers = [OfferChecker(room) for room in machines if plan.challenge]

    def play(self, player: Player) -> bool:
        """Stand up for right headers and accept wrong claims, as planned; tell whether something goes on."""
        going = [not room.defend(self._run, player) for room in self._rooms]
        return any([*going, *(checker.check(self._run, player) for checker in self._checkers)])

    def meanwhile(self, player: Player) -> Player:
        """Return a player that does this too while it waits for others to move: a dispute takes days."""

        def wait() -> None:
            self.play(player)
            player.wait()

        return replace(player, wait=wait)


def challenge(
    run: WatchedRun, finding: Finding, place: HeaderPlace, rooms: Sequence[Courtroom], player: Player
) -> DisputeState | None:
    """Dispute a wrong header before the court that hears it, and have who signed it pay; None where no court does.

    Raises:
        CollegiumError: the chain is not reachable or refuses.
    """
    if finding.work == "previous":
        player.say("no court hears on which header another rests: whoever signed it may be honest")
        return None
    founded = finding.work in FOUNDED_FOR and run.task.quality is None  # whose step that court does not know
    heard = rooms or ([found_courtroom(run, player)] if founded else [])
    room = next((room for room in heard if room.hears(finding)), None)
    if room is None:
        player.say("no contract can be brought to see this yet: docs/spec/disputes.md says which work can be disputed")
        return None
    refuter = read_refuter(JsonRpcChain(run.url), room.address, place.header)
    state = DisputeState.REFUTED
    if refuter is not None:
        player.say(f"the header of round {finding.round} fell before: 0x{refuter.hex()} refuted it")
    elsewhere = refuter is not None and not room.is_over(run, place.checkpoint.digest)  # it stands here again
    if refuter is None or elsewhere or room.plays(run, place, player):  # its own dispute still holds its bond
        state = room.dispute(run, finding, place, player)
    if state is DisputeState.REFUTED or refuter is not None:
        if run.site is None or room.address in read_courts(JsonRpcChain(run.url), run.site.disputes):
            convict_signers(run, place, player)
        else:
            player.say("the contract that takes stakes asks another court: nobody is slashed on this one's word")
        tell_standing(run, place, player.say)
    return state
