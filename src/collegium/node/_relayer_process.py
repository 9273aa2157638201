"""The relayer as a process: it gathers validators' signatures of checkpoints and posts them to the base chains.

It need not be trusted: a checkpoint without a quorum's certificate is refused by the contract, and who posts it does
not matter. Its record of a chain is on disk after each checkpoint, and a transaction to a node before it is sent, so
that it goes on after a kill without posting anything twice. What is certified goes to the home chain first; every chain
that follows gets the same certificates at its own pace, and a silent one holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from collegium.consensus import EpochSet, Withdrawals
from collegium.crypto import AccountKey, Digest
from collegium.errors import CollegiumError
from collegium.settlement import Checkpoint, ContractRefusedError, GasCeilingError, GasPolicy, JsonRpcChain

from ._base_chain import CHAIN_FAILURES, BaseChain, CertifiedStep, TakenStep
from ._chain_record import ChainRecord, ChainRecordError, decode_chain_record, encode_chain_record
from ._chain_terms import HOME
from ._checkpoints import checkpoints, last_rounds, opening_digest
from ._client import NobodyAnsweredError, ValidatorClient
from ._consents import ConsentMissingError, TaskConsents, consents_of, licence_chain, read_withdrawals
from ._consortium import load_account, read_genesis
from ._due_step import NonceSpentError, RelayPolicy, StepSender, read_file, replace_file
from ._epochs import FinalRound, KnownEpoch, epochs_of
from ._evidence import (
    Charge,
    NoStakeError,
    accuse,
    decode_run_evidence,
    deed_of,
    encode_run_evidence,
    merge_evidence,
)
from ._experiment import experiment_from_bytes
from ._final_walk import FinalWalk, Pause, patiently
from ._genesis import Genesis
from ._licence_settings import LicencePlace
from ._network_settings import RelayerSettings
from ._process import first_to_end, open_log, stop_signal
from ._relay_metrics import RelayMetrics

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["CHAIN_RECORD", "RelayerProcess", "follower_folder", "run_relayer"]

T = TypeVar("T")
CHAIN_RECORD: Final = "chain.json"  # in the folder of its state
CHARGES: Final = "charges.json"  # likewise: what members are charged with, in the order in which it is brought
METRICS: Final = "metrics.prom"  # the same
PAUSE_S_FIRST: Final = 1.0
PAUSE_S_MAX: Final = 60.0
DEPTH_S: Final = 2.0  # between two questions how deep a step is
WAITS: Final = (*CHAIN_FAILURES, NonceSpentError, GasCeilingError)
GWEI: Final = 10**9


async def run_relayer(settings: RelayerSettings) -> None:
    """Post every checkpoint until the task's last one, or until a signal to stop.

    Raises:
        CollegiumError: settings, key or record cannot be used, or a chain refuses a checkpoint.
    """
    with open_log(settings.log, "relayer") as log:
        async with stop_signal() as stopping:
            process = await asyncio.to_thread(RelayerProcess.open, settings, log)
            try:
                await first_to_end(process.relay(), stopping.wait())
            finally:
                await process.client.close()


def follower_folder(state: Path, place: int) -> Path:
    """Return where a relayer keeps the record of a chain that follows, under its own state."""
    return state / f"follower-{place:02d}"


@dataclass(eq=False)
class RelayerProcess:
    """The relayer with everything around it."""

    log: FilteringBoundLogger
    genesis: Genesis
    operator: AccountKey
    rounds: int
    every: int
    record: ChainRecord
    state: Path
    client: ValidatorClient
    consents: TaskConsents | None = None
    trainers: Sequence[bytes] = ()  # that entered the home chain's registry with stakes
    charges: list[Charge] = field(default_factory=list)  # as they are written down
    policy: RelayPolicy = field(default_factory=RelayPolicy)
    metrics: RelayMetrics = field(default_factory=RelayMetrics)
    headers: list[Digest] = field(default_factory=list)  # the final ones, by round, as far as they were walked
    chain: BaseChain = field(init=False)
    sender: StepSender = field(init=False)
    followers: list[Follower] = field(init=False, default_factory=list)

    @classmethod
    def open(cls, settings: RelayerSettings, log: FilteringBoundLogger) -> RelayerProcess:
        """Read the folder, and go on where the records of the chains end."""
        genesis = read_genesis(settings.genesis)
        experiment = experiment_from_bytes(genesis.experiment)
        operator = load_account(settings.operator_key, genesis.operator)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        founded = _read_record(settings.chain)
        urls = tuple(record.url for record in (founded, *founded.followed_by))
        if urls != (settings.url, *settings.followers):
            raise ChainRecordError(
                f"the record is of {_names(urls)}, settings say {_names((settings.url, *settings.followers))}"
            )
        written = settings.state / CHAIN_RECORD
        record = _read_record(written).alone if written.exists() else founded.alone
        if record.url != settings.url:
            raise ChainRecordError(f"{written} is of {_names((record.url,))}, settings say {_names((settings.url,))}")
        price_max = None if settings.gas_price_max_gwei is None else settings.gas_price_max_gwei * GWEI
        self = cls(
            log=log,
            genesis=genesis,
            operator=operator,
            rounds=experiment.task.rounds,
            every=experiment.chain.checkpoint_every,
            record=record,
            state=settings.state,
            client=ValidatorClient.over_tls(
                epochs_of(genesis, experiment.committee), settings.validators, settings.tls.authority
            ),
            consents=consents_of(genesis, experiment.licences),
            trainers=experiment.chain.staking(account for account, _ in genesis.trainers),
            charges=_read_charges(settings.state / CHARGES),
            policy=RelayPolicy(settings.confirmations, GasPolicy(price_max), settings.replace_after_s),
        )
        for place, following in enumerate(founded.followed_by, HOME + 1):
            state = follower_folder(settings.state, place)
            state.mkdir(mode=0o700, exist_ok=True)
            own = _read_record(state / CHAIN_RECORD) if (state / CHAIN_RECORD).exists() else following
            if own.url != following.url:
                raise ChainRecordError(f"{state} is of {_names((own.url,))}, settings say {_names((following.url,))}")
            self.followers.append(Follower(self, place, own, state))
        return self

    async def relay(self) -> None:
        """Post each checkpoint when it is due, in order, each once; open each epoch once the one before is settled.

        Raises:
            CollegiumError: a chain refuses what is certified; of those that follow, after all others are served.
        """
        following = [asyncio.create_task(follower.follow()) for follower in self.followers]
        try:
            await self._serve_home()
            for follower in self.followers:
                follower.tell(last=True)
            for task in following:
                await task
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        refusal = next((follower.refusal for follower in self.followers if follower.refusal is not None), None)
        if refusal is not None:
            raise refusal
        self.log.info("finished")

    async def _serve_home(self) -> None:
        walk = FinalWalk(self.client)
        await self._learn(len(self.record.handed_over))
        self.chain = await self._resumed()
        self.sender = self.sender_of(self.chain, self.state)
        self.log.info("ready", posted=len(self.chain.facts), followers=len(self.followers))
        for follower in self.followers:
            follower.tell()
        await self._bring()

        async def next_round() -> FinalRound:
            await self._bring_withdrawals()
            return await walk.next_round()

        last = -1
        async for due in self.due_steps(next_round):
            last = due.checkpoint.last_round
            if due.opens is not None:
                await self._open(due.opens, due.checkpoint)
            elif await self._settle(due.place, due.checkpoint):
                await self._gather(due.checkpoint.first_round, last)
        await self._gather(0, last)  # what a kill has left out
        await self.until_deep(self.sender)

    async def _gather(self, first_round: int, last_round: int) -> None:
        """Ask all validators what members are charged with in these rounds, write it down, and bring it to the chain.

        What is due is brought in the order in which it is written down, and nothing is asked for between a checkpoint
        and the charges after it: so whatever transaction a kill leaves is that of the step that is due then.
        """
        if self.chain.site is None:
            return
        epoch_sets = [known.epoch_set for known in self.client.epochs.known]
        deeds, before = {deed_of(charge, epoch_sets).key for charge in self.charges}, len(self.charges)
        for number in range(first_round, last_round + 1):
            members, header = self.client.epochs.of_round(number).epoch_set, self.headers[number]
            kept = await self.client.round_evidence(header)
            _, found = merge_evidence(number, epoch_sets, members, header, kept)
            self.charges += [charge for key, charge in found.items() if key not in deeds]
            deeds |= found.keys()
        if len(self.charges) > before:
            replace_file(self.state / CHARGES, encode_run_evidence((), self.charges))
            await self._bring()

    async def _bring(self) -> None:
        """Bring what members are charged with before the contract that takes stakes, each deed once."""
        epoch_sets = [known.epoch_set for known in self.client.epochs.known]
        done = self.chain.convicted
        for charge in self.charges if self.chain.site is not None else ():
            try:
                accusation = accuse(charge, epoch_sets, self.chain.numbers)
                if accusation.deed.key in done:
                    continue
                step = CertifiedStep(accusation, b"")
                await self.waiting(HOME, partial(self.sender.carry_through, step))
            except (NoStakeError, ContractRefusedError) as error:
                self.log.warning("nothing_taken", charge=charge.kind, reason=error)
                continue
            found = self.chain.convictions[-1]
            self.log.warning("convicted", deed=step.name, burned=found.burned, rewarded=found.rewarded)

    async def due_steps(self, next_round: Callable[[], Awaitable[FinalRound | None]]) -> AsyncIterator[DueStep]:
        """Yield each step as soon as the round is final that makes it due, until there is no next round."""
        headers, known = self.headers, self.client.epochs
        headers.clear()
        for number in range(self.rounds + 1):
            final = await next_round()
            if final is None:
                return
            headers.append(final.certified.header.digest)
            later = known.known[1:]  # a round's epoch, and the one that begins after it, are known by now
            due = last_rounds(self.rounds, self.every, later)
            if number in due:
                place = due.index(number)
                checkpoint = checkpoints(self.genesis.epoch_set, headers, self.rounds, self.every, later)[place]
                yield DueStep(place, checkpoint)
                following = known.of_round(number + 1)
                if following.first_round == number + 1 <= self.rounds:
                    yield DueStep(place, checkpoint, following)

    def sender_of(self, chain: BaseChain, state: Path) -> StepSender:
        """Return what carries steps of a chain through, and writes its record into this folder."""
        if isinstance(chain.chain, JsonRpcChain):
            limits = chain.chain.limits
            chain.chain.limits = replace(limits, polls=max(1, round(self.policy.replace_after_s / limits.poll_s)))

        def write() -> None:
            replace_file(state / CHAIN_RECORD, encode_chain_record(chain.record()))

        return StepSender(chain, state, self.log, write, self.policy, self.metrics)

    async def _bring_withdrawals(self) -> None:
        """Bring licences that were revoked to the validators, each round again: whoever has it ordered ignores it.

        Nobody waits for a chain that does not answer: it is asked again in the next round.
        """
        if self.consents is None:
            return
        for place in self.consents.settings.places:
            try:
                records = await asyncio.to_thread(self._read_withdrawals, self.consents, place)
                for record in records:
                    await self.client.withdraw(record)
                    self.log.info("withdrawal", licence=self.consents.licence_of(record).number)
            except (*CHAIN_FAILURES, ContractRefusedError, ConsentMissingError, NobodyAnsweredError) as error:
                self.log.warning("withdrawals_not_brought", chain=place.chain_id, reason=error)

    def _read_withdrawals(self, consents: TaskConsents, place: LicencePlace) -> list[bytes]:
        urls = (self.record.url, *(following.url for following in self.record.followed_by))
        return read_withdrawals(licence_chain(place, urls), place, consents, Withdrawals())

    async def _learn(self, epoch: int) -> None:
        """Ask until the epochs are known that the chain knows."""
        pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
        while True:
            header = await patiently(self.client.latest)
            if header is not None:
                await patiently(partial(self.client.epoch_after, header))
            if self.client.epochs.present.epoch >= epoch:
                return
            await pause.wait()

    async def _resumed(self) -> BaseChain:
        """Go on where the record ends, as soon as the chain answers."""
        return await self.waiting(HOME, self._resume)

    def _resume(self) -> BaseChain:
        return self.resume(self.record, HOME)

    def resume(self, record: ChainRecord, place: int) -> BaseChain:
        """Go on where a chain's record ends."""
        later = [epoch.epoch_set for epoch in self.client.epochs.known[1:]]
        trainers = self.trainers if place == HOME else ()
        return BaseChain.resume(record, self.operator, self.genesis.epoch_set, later, place, trainers)

    async def _settle(self, place: int, checkpoint: Checkpoint) -> bool:
        """Post a checkpoint unless it is posted, and tell whether it was not; try again while the chain is silent."""
        if place < len(self.chain.facts):
            known = self.chain.facts[place].checkpoint
            if known != checkpoint:
                raise ChainRecordError(f"the record has another checkpoint of round {checkpoint.last_round}")
            return False
        await self._persist(lambda: self.client.checkpoint_signatures(checkpoint), checkpoint)
        return True

    async def _open(self, following: KnownEpoch, last: Checkpoint) -> None:
        """Put the next epoch's set in office, unless it or a later one is; try again while the chain is silent."""
        if following.epoch <= self.chain.epoch_set.epoch:
            return
        digest, ended = opening_digest(following.epoch_set, last.digest), following.epoch - 1
        await self._persist(lambda: self.client.handover_signatures(ended, digest), following.epoch_set)

    async def _persist(self, ask: Callable[[], Awaitable[dict[int, bytes]]], what: Checkpoint | EpochSet) -> None:
        """Gather a quorum's signatures and post with them, until the chain has taken it and it is deep enough."""
        pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
        while True:
            signatures = await self._signatures(ask)
            try:
                await asyncio.to_thread(self._post, what, signatures)
                break
            except WAITS as error:
                self.wait_noted(HOME, error)
                await pause.wait()
        self.told(self.chain, 0)
        for follower in self.followers:
            follower.tell()
        await self.until_deep(self.sender)

    async def until_deep(self, sender: StepSender) -> None:
        """Return when a chain's last step is as deep as the policy wants."""
        while not await self.waiting(sender.chain.place, sender.is_deep):
            await asyncio.sleep(DEPTH_S)

    async def waiting(self, place: int, act: Callable[[], T]) -> T:
        """Return what a chain answers; while it is silent, or too dear, wait longer and longer and try again."""
        pause = Pause(PAUSE_S_FIRST, PAUSE_S_MAX)
        while True:
            try:
                return await asyncio.to_thread(act)
            except WAITS as error:
                self.wait_noted(place, error)
                await pause.wait()

    def wait_noted(self, place: int, error: CollegiumError) -> None:
        """Tell the operator what is waited for."""
        names = {NonceSpentError: "nonce_spent", GasCeilingError: "gas_too_dear"}
        name = names.get(type(error), "chain_silent")
        self.log.warning(name, chain=place, reason=error)
        self.metrics.waits(place, name)
        self._write_metrics()

    def told(self, chain: BaseChain, behind: int) -> None:
        """Tell the operator what a chain has taken last."""
        taken, facts = chain.taken[-1], chain.facts
        what = taken.step.what
        if isinstance(what, Checkpoint):
            rounds = {"first_round": what.first_round, "last_round": what.last_round}
            more = {"calldata_bytes": taken.calldata_bytes, "digest": what.digest.hex()}
            self.log.info("checkpoint", chain=chain.place, **rounds, gas=taken.gas, **more)
        elif isinstance(what, EpochSet):
            self.log.info("epoch_opened", chain=chain.place, epoch=what.epoch, members=what.size, gas=taken.gas)
        last_round = facts[-1].checkpoint.last_round if facts else 0
        self.metrics.took(chain.place, len(chain.taken), behind, last_round, taken.gas)
        self._write_metrics()

    def _write_metrics(self) -> None:
        replace_file(self.state / METRICS, self.metrics.render())

    async def _signatures(self, ask: Callable[[], Awaitable[dict[int, bytes]]]) -> dict[int, bytes]:
        """Return signatures of a quorum of the set that is in office on the chain, each verified."""
        pause, quorum = Pause(PAUSE_S_FIRST, PAUSE_S_MAX), self.chain.epoch_set.quorum
        while True:
            found = await patiently(ask)
            if len(found) >= quorum:
                return dict(sorted(found.items())[:quorum])
            await pause.wait()

    def _post(self, what: Checkpoint | EpochSet, signatures: dict[int, bytes]) -> None:
        """Have the contract take a checkpoint or the next set, and write the record."""
        self.sender.carry_through(self.chain.certified(what, signatures))


@dataclass(eq=False)
class Follower:
    """A chain that follows: it takes what the home chain has taken, with the same certificates, at its own pace.

    Attributes:
        refusal: why it has stopped, if it has: the chain refuses what is certified.
    """

    relayer: RelayerProcess
    place: int
    record: ChainRecord
    state: Path
    refusal: CollegiumError | None = None
    sender: StepSender = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _last: bool = False

    def tell(self, *, last: bool = False) -> None:
        """Say that the home chain has taken something, or that it takes nothing more."""
        self._last = self._last or last
        self._news.set()

    async def follow(self) -> None:
        """Take every step of the home chain until its last one."""
        try:
            await self._news.wait()  # until the home chain is there
            chain = await self.relayer.waiting(self.place, lambda: self.relayer.resume(self.record, self.place))
            self.sender = self.relayer.sender_of(chain, self.state)
            while True:
                self._news.clear()
                while missing := self.missing:
                    self.relayer.metrics.lacks(self.place, len(missing))
                    step = missing[0].step
                    await self.relayer.waiting(self.place, partial(self.sender.carry_through, step))
                    self.relayer.told(chain, len(missing) - 1)
                await self.relayer.until_deep(self.sender)
                if self._last and not self.missing:
                    return
                await self._news.wait()
        except CollegiumError as error:
            self.refusal = error
            self.relayer.log.error("follower_stopped", chain=self.place, reason=error)  # noqa: TRY400 - it is named

    @property
    def missing(self) -> list[TakenStep]:
        """The steps of the home chain that this one lacks."""
        return self.relayer.chain.certified_steps[len(self.sender.chain.taken) :]


@dataclass(frozen=True, slots=True)
class DueStep:
    """A checkpoint that is due, the `place`-th; or after it the opening of the next epoch."""

    place: int
    checkpoint: Checkpoint
    opens: KnownEpoch | None = None


def _read_charges(place: Path) -> list[Charge]:
    return list(decode_run_evidence(read_file(place)).charges) if place.exists() else []


def _read_record(place: Path) -> ChainRecord:
    data = read_file(place)
    try:
        return decode_chain_record(data)
    except ChainRecordError as error:
        raise ChainRecordError(f"{place}: {error}", **error.values) from error


def _names(urls: tuple[str | None, ...]) -> str:
    return ", ".join("an embedded chain" if url is None else url for url in urls)
