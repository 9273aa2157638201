"""What trainers of a run have earned, as its record says, and what became of it on the node that it settled on.

The record is not believed where coin is moved: a line that is not under the header which the contract took over is
refused there. Whether headers are right is for `verify` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from collegium.consensus import Header
from collegium.errors import CollegiumError
from collegium.settlement import (
    Account,
    Budget,
    Chain,
    Checkpoint,
    ContractRefusedError,
    Deployment,
    Due,
    HeaderPlace,
    JsonRpcChain,
    MoneySite,
    begin_windows,
    claim_reward,
    collect,
    header_proof,
    is_checkpoint_final,
    read_budget,
    read_licence,
    read_owed,
    read_paid,
    read_task,
    settle_rewards,
)

from ._chain_record import decode_chain_record, enumerate_chains, record_on
from ._epoch_ledger import ordered_epochs
from ._epochs import epochs_of
from ._experiment import experiment_from_bytes
from ._genesis import decode_genesis
from ._ledger import decode_segments
from ._pay import PayRule
from ._public_work import earnings_after
from ._rewards import payee_names
from ._run_files import CHAIN, GENESIS, LEDGER
from ._setup import build_task
from ._watch import NotOnANodeError

__all__ = ["NoRewardsError", "PaidLine", "PaidRun", "claim_dues", "load_dues", "read_dues"]


class NoRewardsError(CollegiumError):
    """A run pays its trainers nothing."""


@dataclass(frozen=True, slots=True)
class PaidLine:
    """What a trainer has earned.

    Attributes:
        due: by the last round of the record.
        name: the trainer, or the site where its data have a licence and it has several trainers.
        open: of it, what the chain has taken over; None where no chain was asked.
        paid: of that, what was claimed.
    """

    due: Due
    name: str
    open: int | None = None
    paid: int | None = None


@dataclass(frozen=True)
class PaidRun:
    """What a run's record says of its rewards, and where they are.

    Attributes:
        url: of the node; None where it settled on the chain of its own process, which ended with it.
        chain: what lines call the chain: its number, 0 for the home.
        checkpoints, headers: of all rounds, in order.
        earned: from a round to what all have earned by then.
        lines: one a trainer.
        held: what the contract has; None where no chain was asked.
    """

    url: str | None
    chain: int
    deployment: Deployment
    site: MoneySite
    rule: PayRule
    checkpoints: tuple[Checkpoint, ...]
    headers: tuple[Header, ...]
    earned: Callable[[int], bytes]
    lines: tuple[PaidLine, ...]
    held: Budget | None = None

    @property
    def node(self) -> JsonRpcChain:
        """The node.

        Raises:
            NotOnANodeError: there is none.
        """
        if self.url is None:
            raise NotOnANodeError(
                "the run settled on the chain in its own process, which ended with it: nothing can be claimed there"
            )
        return JsonRpcChain(self.url)

    def taken_over(self) -> tuple[Due, ...]:
        """Return the lines of the last header that the chain has taken over."""
        last = None if self.held is None or self.held.next_round is None else self.held.next_round - 1
        known = last is not None and 0 <= last < len(self.headers)
        return self.rule.lines(self.earned(last) if known and last is not None else self.rule.first())


def load_dues(path: Path, url: str | None = None, chain: int = 0) -> PaidRun:
    """Read what a run's folder says that its trainers have earned; `url` is a node to ask instead of the run's.

    Args:
        chain: the number of a chain that follows, to ask of what is paid there; 0: of the home.

    Raises:
        NoRewardsError: it pays nothing, or nothing there.
        CollegiumError: a file is malformed.
    """
    genesis = decode_genesis((path / GENESIS).read_bytes())
    experiment = experiment_from_bytes(genesis.experiment)
    whole, rule = decode_chain_record((path / CHAIN).read_bytes()), build_task(genesis, experiment).pay
    if whole.paying is None or rule is None:
        raise NoRewardsError(f"{path} pays its trainers nothing: its experiment has no section [rewards]", path=path)
    record = record_on(whole, chain)
    if record.paying is None:
        others = [number for number, other in enumerate_chains(whole) if other.paying is not None]
        raise NoRewardsError(f"{path} pays nobody on chain {chain}, expected one of {others}, or the home", chain=chain)
    epochs, names = epochs_of(genesis, experiment.committee), payee_names(experiment, genesis)
    segments = decode_segments((path / LEDGER).read_bytes())
    ordered = ordered_epochs(epochs, sha256(genesis.beacon).digest(), segments)
    rounds = tuple(entry for epoch in ordered for entry in epoch.rounds)
    headers = tuple(entry.certified.header for entry in rounds)
    earned = partial(earnings_after, path, rule, rounds, experiment.committee.seats)
    dues = rule.lines(earned(len(rounds) - 1))
    lines = tuple(PaidLine(due, names[replace(due, amount=0)]) for due in dues)
    place = (url or record.url, chain, record.deployment, record.paying.site)
    return PaidRun(*place, rule, record.checkpoints, headers, earned, lines)


def read_dues(run: PaidRun, chain: Chain) -> PaidRun:
    """Return the same with what the chain holds of it."""
    run = replace(run, held=read_budget(chain, run.site, run.deployment))
    lines = [
        replace(line, open=due.amount, paid=read_paid(chain, run.site, run.deployment, index))
        for index, (line, due) in enumerate(zip(run.lines, run.taken_over(), strict=True))
    ]
    return replace(run, lines=tuple(lines))


def claim_dues(run: PaidRun, chain: Chain, payer: Account, say: Callable[[str], None]) -> int:
    """Do what is due until trainers are paid, as far as it can be done now; return what was sent, in wei.

    Begin the windows of checkpoints in which headers can be disputed; take over the headers of those that are final;
    claim every line; have all that is owed sent. Anybody may: the coin goes to the accounts of the lines, and to the
    curators of their licences.

    Args:
        run: as `read_dues` gives it.
        payer: pays for the transactions.
        say: is told of each step, and of each that the contract refuses.
    """
    _settle(run, chain, payer, say)
    run = read_dues(run, chain)
    dues = run.taken_over()
    for index, (line, due) in enumerate(zip(run.lines, dues, strict=True)):
        if due.amount <= (line.paid or 0) or due.chain != run.chain:
            continue
        try:
            receipt = claim_reward(chain, run.site, payer, run.deployment, dues, index)
        except ContractRefusedError as error:  # somebody else was quicker, or the budget is spent
            say(f"{line.name}: nothing is claimed: {error}")
            continue
        say(f"{due.amount - (line.paid or 0)} wei claimed for 0x{due.account.hex()}, {receipt.gas} gas")
    sent = 0
    for account in _payees(run, chain):
        if not read_owed(chain, run.site.rewards, account):
            continue
        try:
            amount = collect(chain, run.site.rewards, payer, account)
        except ContractRefusedError as error:  # it refuses the coin
            say(f"0x{account.hex()} is sent nothing: {error}")
            continue
        say(f"{amount} wei sent to 0x{account.hex()}")
        sent += amount
    return sent


def _settle(run: PaidRun, chain: Chain, payer: Account, say: Callable[[str], None]) -> None:
    """Have the chain take over what the headers of final checkpoints say; begin the windows of the others."""
    court = read_task(chain, run.site, run.deployment).terms.court
    following = 0 if run.held is None else run.held.next_round or 0
    behind = False
    for checkpoint in run.checkpoints:
        rounds = f"rounds {checkpoint.first_round}-{checkpoint.last_round}"
        if checkpoint.last_round < following:
            continue
        begun = begin_windows(chain, payer, court, checkpoint)
        if begun:
            say(f"{rounds}: the time to dispute them has begun before {begun} courts")
        if behind or not is_checkpoint_final(chain, court, checkpoint):
            behind = True
            continue
        number = checkpoint.last_round
        digests = [header.digest for header in run.headers[checkpoint.first_round : number + 1]]
        place = HeaderPlace(checkpoint, number, digests[-1], header_proof(digests, len(digests) - 1))
        try:
            taken = settle_rewards(chain, run.site, payer, run.deployment, run.headers[number].preimage, place)
        except ContractRefusedError as error:
            say(f"{rounds}: not taken over: {error}")
            return
        say(f"{rounds}: final, and taken over, {taken.gas} gas")


def _payees(run: PaidRun, chain: Chain) -> Sequence[bytes]:
    """Return everybody to whom anything of these lines may be owed, each once."""
    dues = [line.due for line in run.lines if line.due.chain == run.chain]
    accounts = dict.fromkeys(due.account for due in dues)
    for licence in sorted({due.licence for due in dues} - {0}):
        accounts |= dict.fromkeys(share.curator for share in read_licence(chain, run.site, licence).curators)
    return tuple(accounts)
