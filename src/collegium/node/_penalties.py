"""What a lie costs: whoever signed a header that fell, and whoever signed two things that exclude each other.

Every function here may be called again after a kill, and by several watchers at once: a deed costs its stake once, and
who comes second is told so.
"""

from __future__ import annotations

from collegium.consensus import EpochSet
from collegium.crypto import BlsPublicKey, bls_verify
from collegium.errors import CollegiumError
from collegium.settlement import (
    ContractRefusedError,
    HeaderPlace,
    JsonRpcChain,
    SlashingSite,
    attach,
    convict,
    false_header_call,
    is_convicted,
    read_member,
    read_refuter,
)

from ._evidence import BadChargeError, NoStakeError, accuse
from ._watch import Player, Say, WatchedRun

__all__ = ["bring_charges", "convict_signers", "tell_standing"]

# What the contract says where there is nothing more to take, and whoever asks has lost nothing.
TAKEN = ("AlreadyConvicted", "NothingToSlash")


def convict_signers(run: WatchedRun, place: HeaderPlace, player: Player) -> int:
    """Have the stakes taken of all whose own vote for a refuted header is known; return how many were convicted.

    Raises:
        CollegiumError: the chain is not reachable or refuses.
    """
    if run.site is None or run.evidence is None:
        player.say("the task was founded without a contract that takes stakes: nobody is slashed")
        return 0
    votes = next((votes for votes in run.evidence.votes if votes.round == place.round), None)
    members = run.epochs.of_round(place.round).epoch_set
    cast = {} if votes is None else votes.by_voter()
    if not cast:
        player.say("nobody kept the votes for this header one by one: a certificate is a sum and convicts nobody")
    refuter = read_refuter(JsonRpcChain(run.url), run.site.disputes, place.header)
    if refuter is not None:
        player.say(f"refuter of the header: 0x{refuter.hex()}")
    convicted = 0
    for index, signature in cast.items():
        convicted += _convict(run, run.site, members, index, place, signature, player)
    return convicted


def _convict(
    run: WatchedRun,
    site: SlashingSite,
    members: EpochSet,
    index: int,
    place: HeaderPlace,
    signature: bytes,
    player: Player,
) -> bool:
    """Have a validator's stake taken for its vote; tell whether it was."""
    who = f"validator {index}"
    try:
        validator = members.validator(index)
        bls_verify(BlsPublicKey(validator.bls_key), place.header, signature)
    except CollegiumError as error:
        player.say(f"{who}: its vote is not its own: {error}")
        return False
    member = run.numbers[validator.account]
    call = false_header_call(member, place.header, signature)
    return _take(run, site, player, f"false header of round {place.round}, {who}", member, call)


def bring_charges(run: WatchedRun, player: Player | None, say: Say) -> int:
    """Say which charges the record holds and which were brought; with a player, bring the others and count them."""
    if run.evidence is None or run.site is None:
        return 0
    epoch_sets = [known.epoch_set for known in run.epochs.known]
    brought, chain = 0, JsonRpcChain(run.url)
    for charge in run.evidence.charges:
        try:
            accusation = accuse(charge, epoch_sets, run.numbers)
        except (BadChargeError, NoStakeError) as error:
            say(f"charge: {error}")
            continue
        what = accusation.deed.what
        if player is not None:
            brought += _take(run, run.site, player, what, accusation.member, accusation.call)
            continue
        try:
            done = is_convicted(chain, run.site, accusation.call)
        except ContractRefusedError as error:
            say(f"{what}: {error}")
            continue
        say(f"{what}: {'its stake was taken' if done else 'not brought before the contract yet'}")
    return brought


def tell_standing(run: WatchedRun, place: HeaderPlace, say: Say) -> None:
    """Say what stands after a header fell: the last one before it, and its model."""
    if place.round == 0:
        say("no round stands: the first header fell")
        return
    before = run.headers[place.round - 1]
    names = f"model {before.model.hex()[:16]} of header {before.digest.hex()[:16]}"
    say(f"what stands: rounds 0 to {before.round}, {names}; the checkpoint of round {place.round} never becomes final")


def _take(run: WatchedRun, site: SlashingSite, player: Player, what: str, member: int, call: bytes) -> bool:
    """Bring evidence before the contract, and say what it cost; False where it cost nothing more."""
    chain = JsonRpcChain(run.url)
    deployment = attach(chain, run.deployment.settlement, run.deployment.block)
    before = read_member(chain, deployment, member).stake
    try:
        found = convict(chain, site, player.account, call)
    except ContractRefusedError as error:
        if error.values["error"] not in TAKEN:
            raise
        player.say(f"  {what}: {error.values['error']}, its stake is {before} wei")
        return False
    after = read_member(chain, deployment, member).stake
    player.say(
        f"  {what}: {found.gas:,} gas, stake {before} -> {after} wei, {found.burned} burned, {found.rewarded} to "
        f"0x{found.reporter.hex()}"
    )
    return True
